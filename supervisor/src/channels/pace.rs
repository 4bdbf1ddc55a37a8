//! How fast a room is spoken to: one call at a time, none while the far side wants to be left alone, and
//! no faster than people can read. One room waits for no other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Queue, OwnedMutexGuard};

use shared::clock::{Stopwatch, stopwatch};

/// Between two messages in one room.
const APART: Duration = Duration::from_millis(300);

/// The rooms that are spoken to.
#[derive(Default)]
pub struct Pace {
    rooms: Mutex<HashMap<String, Arc<Queue<Lane>>>>,
}

/// A turn to speak in a room, as long as this lives.
pub type Turn = OwnedMutexGuard<Lane>;

/// When a room may be spoken to.
pub struct Lane {
    /// Since then nothing was said.
    since: Stopwatch,
    /// So long nothing is to be said.
    rest: Duration,
}

impl Pace {
    /// Waits for a turn to speak in this room.
    pub async fn turn(&self, room: &str) -> Turn {
        let turn = self.queue(room).lock_owned().await;
        tokio::time::sleep(turn.left()).await;
        turn
    }

    /// A turn to speak in this room, where nobody waits for one and it needs no rest.
    pub fn free(&self, room: &str) -> Option<Turn> {
        let turn = self.queue(room).try_lock_owned().ok()?;
        turn.left().is_zero().then_some(turn)
    }

    fn queue(&self, room: &str) -> Arc<Queue<Lane>> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if rooms.len() == rooms.capacity() {
            // Before it would grow: those that nobody speaks in, and that need no rest, make room.
            rooms.retain(|_, queue| match queue.try_lock() {
                Ok(lane) => Arc::strong_count(queue) > 1 || !lane.left().is_zero(),
                Err(_) => true,
            });
        }
        let free = || Arc::new(Queue::new(Lane::free()));
        rooms.entry(room.to_owned()).or_insert_with(free).clone()
    }
}

impl Lane {
    fn free() -> Self {
        Self {
            since: stopwatch(),
            rest: Duration::ZERO,
        }
    }

    /// How long it is still to be left alone.
    fn left(&self) -> Duration {
        let passed = Duration::from_millis(self.since.ms());
        self.rest.saturating_sub(passed)
    }

    /// Something was said.
    pub fn spoke(&mut self) {
        self.rest(APART);
    }

    /// The far side wants to be left alone for so long.
    pub fn rest(&mut self, time: Duration) {
        (self.since, self.rest) = (stopwatch(), time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_need_not_be_said_is_said_only_where_nobody_waits() {
        let pace = Pace::default();
        let mut turn = pace.turn("7").await;
        assert!(pace.free("7").is_none() && pace.free("8").is_some());
        turn.rest(Duration::from_secs(3_600));
        drop(turn);
        assert!(pace.free("7").is_none(), "it rests");
        for other in 100..164 {
            pace.turn(&other.to_string()).await;
        }
        assert!(
            pace.free("7").is_none(),
            "a rest outlives other rooms' turns"
        );
    }
}
