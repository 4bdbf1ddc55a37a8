//! Who is told when the store has changed: watchers of events, the dispatcher, runs that wait in
//! memory. The store rings after its commit; a ring that nobody hears loses nothing, because what it
//! tells of is in the store.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::event::{Live, Recorded};
use crate::id::{AgentName, RunId, TaskId, TenantId};
use crate::store::{Fence, Halt, Halting, Run};

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
    halting: watch::Sender<Halting>,
    looks: Arc<AtomicU64>,
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
    /// Cancelled when the run is to leave memory at once, with what it has in hand cut off.
    pub halted: CancellationToken,
    task: TaskId,
    tenant: TenantId,
    agent: Option<AgentName>,
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
            halting: watch::Sender::default(),
            looks: Arc::default(),
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
    pub fn join(&self, fence: Fence, run: &Run, over: &CancellationToken) -> Seat {
        let seat = Seat {
            wake: Arc::default(),
            ended: over.child_token(),
            held: CancellationToken::new(),
            halted: CancellationToken::new(),
            task: run.task,
            tenant: run.authority.tenant.clone(),
            agent: run.agent.clone(),
            epoch: fence.epoch,
        };
        let mut seats = self.lock();
        // Whoever changes what stands still looks through the seats afterwards: a run that comes in
        // between is told here or there.
        seat.mind(&self.halting.borrow());
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

    /// What stands still, as far as this process knows. Changes are heard by whoever keeps it.
    pub fn halting(&self) -> watch::Receiver<Halting> {
        self.halting.subscribe()
    }

    /// What keeps this work from going on here, done by this agent where one does it.
    pub fn halted(&self, tenant: &TenantId, agent: Option<&AgentName>) -> Option<Halt> {
        self.halting.borrow().covering(tenant, agent).cloned()
    }

    /// A file stops this process, or none does any more.
    pub fn halt_here(&self, here: Option<Halt>) {
        // Asked for all the time; hardly ever anything new.
        if self.halting.borrow().here == here {
            return;
        }
        self.change_halting(true, |known| known.here = here);
    }

    /// The number of a look at the store's halts: taken before it, handed in with what it found.
    pub(super) fn begin_look(&self) -> u64 {
        self.looks.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// What a look at the store's halts found. One that began before another that was handed in already
    /// may have seen less, and changes nothing.
    pub(super) fn halt(&self, look: u64, stored: Vec<Halt>) {
        // What the first look finds was so before.
        self.change_halting(look > 1, |known| {
            if known.look < look {
                known.look = look;
                known.stored = stored;
            }
        });
    }

    /// Takes over what stands still, tells the log where it is to be told, and has the runs that are covered leave.
    fn change_halting(&self, told: bool, change: impl FnOnce(&mut Halting)) {
        let (mut set, mut lifted) = (Vec::new(), Vec::new());
        self.halting.send_if_modified(|known| {
            let before = known.clone();
            change(known);
            set.extend(known.all().filter(|halt| !before.has(halt)).cloned());
            lifted.extend(before.all().filter(|halt| !known.has(halt)).cloned());
            !set.is_empty() || !lifted.is_empty()
        });
        for halt in set.iter().filter(|_| told) {
            tracing::warn!(by = %halt.by, reason = halt.reason, "{} stands still here", halt.what);
        }
        for halt in &lifted {
            tracing::warn!("{} may go on here", halt.what);
        }
        if !set.is_empty() {
            let known = self.halting.borrow().clone();
            self.lock().values().for_each(|seat| seat.mind(&known));
        }
        if !lifted.is_empty() {
            self.ring_queue();
        }
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

impl Seat {
    /// Has the run leave where it is among what stands still.
    fn mind(&self, known: &Halting) {
        if known.covering(&self.tenant, self.agent.as_ref()).is_some() {
            self.halted.cancel();
        }
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
    use crate::hash::Hash;
    use crate::id::WorkerId;
    use crate::label::Authority;
    use crate::run::Timestamp;
    use crate::store::{Halted, RunState, kind};

    fn run(tenant: &str, agent: Option<&str>) -> Run {
        let task = TaskId::fresh();
        Run {
            id: task.into(),
            task,
            parent: None,
            kind: kind::TASK.into(),
            agent: agent.map(Into::into),
            input: serde_json::Value::Null,
            catalog: Hash::of_bytes(b"none"),
            authority: Authority {
                tenant: tenant.into(),
                principal: "ada".into(),
                material: None,
                output: None,
            },
            state: RunState::Running,
            epoch: 1,
            wakes: 0,
            deaths: 0,
            created_at: Timestamp(0),
        }
    }

    fn join(bell: &Bell, run: &Run, epoch: i64) -> Seat {
        let fence = Fence {
            worker: WorkerId::fresh(),
            run: run.id,
            epoch,
        };
        bell.join(fence, run, &CancellationToken::new())
    }

    fn halt(what: Halted) -> Halt {
        Halt {
            tenant: Some("home".into()),
            what,
            reason: "x".into(),
            by: "ada".into(),
            at: Timestamp(0),
        }
    }

    /// Those that are covered leave, whether they were here before or come after; nobody else does.
    #[tokio::test]
    async fn a_halt_reaches_what_it_covers_and_nothing_else() {
        let bell = Bell::default();
        let writer = Halted::Agent("writer".into());
        for (what, halts) in [
            (writer, [false, true, false]),
            (Halted::All, [true, true, false]),
        ] {
            let runs = [
                run("home", None),
                run("home", Some("writer")),
                run("away", None),
            ];
            let before = runs.each_ref().map(|run| join(&bell, run, 1));
            bell.halt(bell.begin_look(), vec![halt(what)]);
            let after = runs.each_ref().map(|run| join(&bell, run, 2));
            for seats in [before, after] {
                assert_eq!(seats.map(|seat| seat.halted.is_cancelled()), halts);
            }
            bell.halt(bell.begin_look(), Vec::new());
            assert!(!join(&bell, &runs[1], 3).halted.is_cancelled());
        }
    }

    /// A look that began early and ends late brings nothing back.
    #[tokio::test]
    async fn the_latest_look_at_halts_counts() {
        let bell = Bell::default();
        let (early, late) = (bell.begin_look(), bell.begin_look());
        bell.halt(late, Vec::new());
        bell.halt(early, vec![halt(Halted::All)]);
        assert_eq!(bell.halted(&"home".into(), None), None);
    }

    /// Whoever comes late, with an epoch that is over, takes nobody's seat.
    #[tokio::test]
    async fn a_run_is_heard_in_its_latest_epoch() {
        let (bell, run) = (Bell::default(), run("home", None));
        let (task, join) = (run.task, |epoch| join(&bell, &run, epoch));
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
