//! State, clock and the bell that rings on every change: what the fronts of both doubles share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::doubles::clock::{Clock, Ms};

/// A state machine `W` behind a lock, with its clock.
#[derive(Debug)]
pub struct Core<W> {
    world: Mutex<W>,
    /// The double's clock.
    pub clock: Clock,
    changes: watch::Sender<u64>,
}

impl<W> Core<W> {
    /// A server before its first request.
    pub fn new(world: W) -> Self {
        Self {
            world: Mutex::new(world),
            clock: Clock::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// Works on the state and wakes whoever waits for a change.
    pub fn act<T>(&self, work: impl FnOnce(&mut W, Ms) -> T) -> T {
        let result = self.act_quietly(work);
        self.ring();
        result
    }

    /// Works on the state and wakes nobody: for those who would wake themselves for ever.
    pub fn act_quietly<T>(&self, work: impl FnOnce(&mut W, Ms) -> T) -> T {
        let now = self.clock.now();
        work(&mut self.lock(), now)
    }

    /// Reads the state.
    pub fn look<T>(&self, read: impl FnOnce(&W) -> T) -> T {
        read(&self.lock())
    }

    /// Wakes whoever waits for a change.
    pub fn ring(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// Rings when something changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, W> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
