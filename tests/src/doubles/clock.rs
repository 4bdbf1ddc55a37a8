//! The wall clock of a double: the real one, plus what the test has added.
//!
//! A double that is moved a day ahead forgets updates and closes reply windows, without anybody
//! waiting a day. Timers (long polls, retries) still run in real time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch, on the clock of a double.
pub type Ms = i64;

/// Where a double reads the time.
#[derive(Debug, Default)]
pub struct Clock {
    ahead_ms: AtomicI64,
}

impl Clock {
    /// Now.
    pub fn now(&self) -> Ms {
        Self::real() + self.ahead_ms.load(Ordering::Relaxed)
    }

    /// Now on everybody's clock: for signatures, which the client checks against its own.
    #[expect(
        clippy::disallowed_methods,
        reason = "a double is the outside world: its time is its own"
    )]
    pub fn real() -> Ms {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |d| d.as_millis() as i64)
    }

    /// Moves the clock ahead for good.
    pub fn advance(&self, by: Duration) {
        self.ahead_ms
            .fetch_add(by.as_millis() as i64, Ordering::Relaxed);
    }
}
