//! Who is told when the store has changed: watchers of events, the dispatcher, runs that wait in
//! memory. The store rings after its commit; a ring that nobody hears loses nothing, because what it
//! tells of is in the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, broadcast};

use crate::event::Live;
use crate::id::RunId;

/// How many events a slow watcher may fall behind before it must read the store instead.
const FEED: usize = 4096;

/// The bell of one process.
#[derive(Clone)]
pub struct Bell {
    feed: broadcast::Sender<Live>,
    queue: Arc<Notify>,
    runs: Arc<Mutex<HashMap<RunId, Arc<Notify>>>>,
}

impl Default for Bell {
    fn default() -> Self {
        Self {
            feed: broadcast::channel(FEED).0,
            queue: Arc::default(),
            runs: Arc::default(),
        }
    }
}

impl Bell {
    /// Where committed events and live text are published.
    pub fn feed(&self) -> &broadcast::Sender<Live> {
        &self.feed
    }

    /// There may be runs to claim.
    pub fn ring_queue(&self) {
        self.queue.notify_one();
    }

    /// Waits until there may be runs to claim. A ring that came before is not lost.
    pub async fn queue(&self) {
        self.queue.notified().await;
    }

    /// What this run waits for may have come.
    pub fn ring_run(&self, run: RunId) {
        if let Some(notify) = self.lock().get(&run) {
            notify.notify_waiters();
            notify.notify_one();
        }
    }

    /// Registers a run that is in memory here. Rings for it are heard until [`Bell::leave`].
    pub fn join(&self, run: RunId) -> Arc<Notify> {
        self.lock().entry(run).or_default().clone()
    }

    /// The run left memory.
    pub fn leave(&self, run: RunId) {
        self.lock().remove(&run);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Arc<Notify>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
