//! Who is told when the store has changed: watchers of events, the dispatcher, runs that wait in
//! memory. The store rings after its commit; a ring that nobody hears loses nothing, because what it
//! tells of is in the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::event::{Live, Recorded};
use crate::id::{RunId, TaskId};
use crate::store::Fence;

/// How many events a slow watcher may fall behind before it must read the store instead.
const FEED: usize = 4096;

/// The same for a watcher of one task.
const OF_TASK: usize = 128;

/// The bell of one process.
#[derive(Clone)]
pub struct Bell {
    feed: broadcast::Sender<Live>,
    events: broadcast::Sender<Recorded>,
    watched: Watched,
    awaited: Watched,
    queue: Arc<Notify>,
    mail: watch::Sender<()>,
    runs: Arc<Mutex<HashMap<RunId, Seat>>>,
}

/// Watchers by their task.
type Watched = Arc<Mutex<HashMap<TaskId, broadcast::Sender<Recorded>>>>;

/// What a run in memory listens to.
#[derive(Clone)]
pub struct Seat {
    /// Rung when something came that it may wait for.
    pub wake: Arc<Notify>,
    /// Cancelled when the run was ended from outside.
    pub ended: CancellationToken,
    /// Cancelled when the run is to leave memory at its next step.
    pub held: CancellationToken,
    task: TaskId,
    epoch: i64,
}

impl Default for Bell {
    fn default() -> Self {
        Self {
            feed: broadcast::channel(FEED).0,
            events: broadcast::channel(FEED).0,
            watched: Arc::default(),
            awaited: Arc::default(),
            queue: Arc::default(),
            mail: watch::Sender::default(),
            runs: Arc::default(),
        }
    }
}

impl Bell {
    /// Where committed events and live text are published. Whoever listens makes models stream.
    pub fn feed(&self) -> &broadcast::Sender<Live> {
        &self.feed
    }

    /// Where the events that this process commits are published, and nothing else: for those who count
    /// them.
    pub fn events(&self) -> &broadcast::Sender<Recorded> {
        &self.events
    }

    /// The committed events of one task from now on: a hundred who wait for a task each hear of
    /// their own, not of everybody's.
    pub fn events_of(&self, task: TaskId) -> broadcast::Receiver<Recorded> {
        subscribe(&self.watched, task, OF_TASK)
    }

    /// The event that ends a task, and no other: whoever only waits is not woken at every step.
    pub fn end_of(&self, task: TaskId) -> broadcast::Receiver<Recorded> {
        subscribe(&self.awaited, task, 1)
    }

    /// Tells everybody who listens of events that were committed. Nobody listening is the usual case.
    pub fn publish(&self, events: Vec<Recorded>) {
        for event in &events {
            let _ = self.events.send(event.clone());
        }
        self.publish_from_elsewhere(events);
    }

    /// Tells watchers of events that another process committed and tells of itself: what counts
    /// events ([`Bell::events`]) counts each once, in the process that committed it.
    pub(super) fn publish_from_elsewhere(&self, events: Vec<Recorded>) {
        for event in events {
            tell(&self.watched, &event);
            if event.event.ends_task() {
                tell(&self.awaited, &event);
            }
            let _ = self.feed.send(Live::Event(event));
        }
    }

    /// Whether anybody here would hear of this task's events.
    pub(super) fn is_watched(&self, task: TaskId) -> bool {
        let by = |watched: &Watched| {
            let watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
            let watchers = watched.get(&task);
            watchers.is_some_and(|watchers| watchers.receiver_count() > 0)
        };
        self.feed.receiver_count() > 0 || by(&self.watched) || by(&self.awaited)
    }

    /// There may be runs to claim.
    pub fn ring_queue(&self) {
        self.queue.notify_one();
    }

    /// Waits until there may be runs to claim. A ring that came before is not lost.
    pub async fn queue(&self) {
        self.queue.notified().await;
    }

    /// Something may have come in from a channel, or be owed to one.
    pub fn ring_mail(&self) {
        self.mail.send_replace(());
    }

    /// Changes whenever something may have come in or be owed. None that came before is lost.
    pub fn mail(&self) -> watch::Receiver<()> {
        self.mail.subscribe()
    }

    /// What this run waits for may have come.
    pub fn ring_run(&self, run: RunId) {
        if let Some(seat) = self.lock().get(&run) {
            seat.wake.notify_waiters();
        }
    }

    /// What any run here waits for may have come.
    pub(super) fn ring_runs(&self) {
        self.lock()
            .values()
            .for_each(|seat| seat.wake.notify_waiters());
    }

    /// The runs that are in memory here.
    pub(super) fn runs(&self) -> Vec<RunId> {
        self.lock().keys().copied().collect()
    }

    /// This run was ended from outside: whatever it does is no longer wanted.
    pub fn end_run(&self, run: RunId) {
        if let Some(seat) = self.lock().get(&run) {
            seat.ended.cancel();
        }
    }

    /// Registers a run that is in memory here. Rings for it are heard until [`Bell::leave`]; when
    /// `over` is cancelled it is ended like all others there. Where the run is here in a later epoch,
    /// whoever comes with an earlier one is told that it has ended.
    pub fn join(&self, fence: Fence, task: TaskId, over: &CancellationToken) -> Seat {
        let seat = Seat {
            wake: Arc::default(),
            ended: over.child_token(),
            held: CancellationToken::new(),
            task,
            epoch: fence.epoch,
        };
        let mut seats = self.lock();
        match seats.get(&fence.run) {
            Some(other) if other.epoch > seat.epoch => seat.ended.cancel(),
            _ => drop(seats.insert(fence.run, seat.clone())),
        }
        seat
    }

    /// This task was paused: its runs leave memory. Nothing remembers it here; one that hears of it too
    /// late is claimed again, if it may be.
    pub fn hold(&self, task: TaskId) {
        let seats = self.lock();
        let of_task = seats.values().filter(|seat| seat.task == task);
        of_task.for_each(|seat| seat.held.cancel());
    }

    /// The run left memory. Where it has joined again meanwhile, its new seat stays.
    pub fn leave(&self, run: RunId, wake: &Arc<Notify>) {
        let mut seats = self.lock();
        if seats
            .get(&run)
            .is_some_and(|seat| Arc::ptr_eq(&seat.wake, wake))
        {
            seats.remove(&run);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Seat>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn subscribe(watched: &Watched, task: TaskId, capacity: usize) -> broadcast::Receiver<Recorded> {
    let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
    if watched.len() == watched.capacity() {
        // Before it would grow: those whose watchers have gone make room.
        watched.retain(|_, events| events.receiver_count() > 0);
    }
    let events = watched
        .entry(task)
        .or_insert_with(|| broadcast::channel(capacity).0);
    events.subscribe()
}

fn tell(watched: &Watched, event: &Recorded) {
    let watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(watchers) = watched.get(&event.task) {
        let _ = watchers.send(event.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::WorkerId;

    /// Whoever comes late, with an epoch that is over, takes nobody's seat.
    #[tokio::test]
    async fn a_run_is_heard_in_its_latest_epoch() {
        let (bell, task) = (Bell::default(), TaskId::fresh());
        let over = CancellationToken::new();
        let join = |epoch| {
            let fence = Fence {
                worker: WorkerId::fresh(),
                run: task.into(),
                epoch,
            };
            bell.join(fence, task, &over)
        };
        let first = join(1);
        let second = join(2);
        let stale = join(1);
        assert!(stale.ended.is_cancelled());
        bell.leave(task.into(), &stale.wake);
        bell.leave(task.into(), &first.wake);
        bell.end_run(task.into());
        assert!(second.ended.is_cancelled() && !first.ended.is_cancelled());
    }
}
