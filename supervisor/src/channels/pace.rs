//! How fast a conversation is spoken to: one call at a time, none while the far side wants to be left
//! alone, and no faster than people can read. One conversation waits for no other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use shared::clock::{Stopwatch, stopwatch};

/// Between two messages in one conversation.
const APART: Duration = Duration::from_millis(300);

/// The conversations that are spoken to.
#[derive(Default)]
pub struct Pace {
    lanes: Mutex<HashMap<String, Arc<Turn<Lane>>>>,
}

/// A conversation's turn, as long as this lives.
pub struct Lane {
    /// Since then nothing was said.
    since: Stopwatch,
    /// So long nothing is to be said.
    rest: Duration,
}

impl Pace {
    /// Waits for a turn to speak in this conversation.
    pub async fn turn(&self, conversation: &str) -> OwnedMutexGuard<Lane> {
        let lane = {
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            if lanes.len() == lanes.capacity() {
                // Before it would grow: those that nobody speaks in make room.
                lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
            }
            let new = || Arc::new(Turn::new(Lane::free()));
            lanes
                .entry(conversation.to_owned())
                .or_insert_with(new)
                .clone()
        };
        let lane = lane.lock_owned().await;
        lane.wait().await;
        lane
    }
}

impl Lane {
    fn free() -> Self {
        Self {
            since: stopwatch(),
            rest: Duration::ZERO,
        }
    }

    async fn wait(&self) {
        let passed = Duration::from_millis(self.since.ms());
        tokio::time::sleep(self.rest.saturating_sub(passed)).await;
    }

    /// Something was said.
    pub fn spoke(&mut self) {
        (self.since, self.rest) = (stopwatch(), APART);
    }

    /// The far side wants to be left alone: it is, and the turn is kept meanwhile.
    pub async fn rest(&mut self, time: Duration) {
        (self.since, self.rest) = (stopwatch(), time);
        self.wait().await;
    }
}
