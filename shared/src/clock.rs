//! The only place that reads the machine's clock. Code that decides never does: it is handed times
//! that a store or a driver read here.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::run::Timestamp;

/// The wall clock. Before 1970 counts as 1970.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(since.as_millis().min(i64::MAX as u128) as i64)
}

/// Starts measuring how long something takes.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn stopwatch() -> Stopwatch {
    Stopwatch(Instant::now())
}

/// A time as people read it, to the second.
pub fn utc(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    at.strftime("%F %T UTC").to_string()
}

/// The day of a time by UTC, as people write it: `2026-11-30`.
pub fn date(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    at.strftime("%F").to_string()
}

/// Time that passed, by a clock that never goes back.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Whole milliseconds since the start.
    pub fn ms(&self) -> u64 {
        self.0.elapsed().as_millis().min(u128::from(u64::MAX)) as u64
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}
