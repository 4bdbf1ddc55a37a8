//! [`RunCtx`] over the store: serves what is recorded, does what is not, and records it.
//!
//! Writes per operation: one for `Pure` (its outcome), two for all others (begun, done), one more for
//! each further attempt. The outcome of an operation that may be repeated rides along with the next
//! write, so that the end of one step and the begin of the next share a commit; so do notes.
//!
//! Here: what is written and served. [`attempt`] does one operation, [`wait`] waits for what takes
//! longer, [`tell`] says what watchers hear of it all.

mod attempt;
mod tell;
mod wait;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio_util::sync::CancellationToken;

use shared::ask::Ask;
use shared::event::{Event, Note};
use shared::hash::Hash;
use shared::id::{AskId, SignalName, StepKey, TenantId};
use shared::label::Taint;
use shared::money::Usage;
use shared::run::{
    Child, Effect, Interrupted, Interruption, Op, Outcome, Recorded, RunCtx, Timestamp,
};
use shared::store::{
    Appended, Change, Entry, Fence, Finish, NewRun, Run, RunState, Seat, Step, StepKind, kind,
};

use super::lease::Term;
use super::{Ended, Engine};
use wait::answer_of;

/// One run in memory.
pub struct Journal {
    engine: Arc<Engine>,
    run: Run,
    fence: Fence,
    authority: Arc<shared::label::Authority>,
    steps: Mutex<HashMap<StepKey, Step>>,
    notes: Mutex<Vec<Event>>,
    /// What has ended and waits for the next write to take it along.
    tail: Mutex<Tail>,
    seq: AtomicI64,
    heard: AtomicI64,
    /// Whether the deaths that the run came with are forgotten.
    survived: AtomicBool,
    used: Mutex<Usage>,
    taint: Mutex<Taint>,
    /// Held while the run works; given back while all that it does is wait.
    slot: tokio::sync::Mutex<Option<OwnedSemaphorePermit>>,
    waits: AtomicU32,
    wake: Arc<Notify>,
    cancel: CancellationToken,
    /// The task is paused: out of memory at the next step.
    held: CancellationToken,
    /// An operator has stopped it: out of memory at once.
    halted: CancellationToken,
    term: Arc<Term>,
    span: tracing::Span,
}

impl Journal {
    /// The journal of `run`, with the steps that it has so far.
    pub(super) fn new(
        engine: Arc<Engine>,
        run: Run,
        steps: Vec<Step>,
        (term, slot): (Arc<Term>, OwnedSemaphorePermit),
    ) -> Self {
        let fence = Fence {
            worker: term.worker,
            run: run.id,
            epoch: run.epoch,
        };
        let Seat {
            wake,
            ended,
            held,
            halted,
            ..
        } = engine.store.bell().join(fence, &run, &term.over);
        Self {
            fence,
            authority: Arc::new(run.authority.clone()),
            seq: AtomicI64::new(steps.iter().map(|step| step.seq).max().unwrap_or(0)),
            heard: AtomicI64::new(run.wakes),
            survived: AtomicBool::new(false),
            steps: Mutex::new(steps.into_iter().map(|s| (s.key.clone(), s)).collect()),
            notes: Mutex::default(),
            tail: Mutex::default(),
            used: Mutex::default(),
            taint: Mutex::default(),
            slot: tokio::sync::Mutex::new(Some(slot)),
            waits: AtomicU32::new(0),
            wake,
            cancel: ended,
            held,
            halted,
            term,
            span: tracing::Span::current(),
            engine,
            run,
        }
    }

    /// Ends the run. The commit also records its result in its parent and wakes it.
    pub(super) async fn finish(&self, ended: Ended) -> Result<(), Interrupted> {
        let state = match &ended.result {
            Ok(_) => RunState::Done,
            Err(_) => RunState::Failed,
        };
        self.end(state, ended).await
    }

    /// Ends a run that cannot be run any more.
    pub(super) async fn bury(&self, ended: Ended) -> Result<(), Interrupted> {
        self.end(RunState::Dead, ended).await
    }

    async fn end(&self, state: RunState, ended: Ended) -> Result<(), Interrupted> {
        let event = tell::ending(&self.run, &ended);
        let outcome = match ended.result {
            Ok(value) => Outcome::Done(value),
            Err(failure) => Outcome::Failed(failure),
        };
        let recorded = Recorded {
            outcome,
            usage: *lock(&self.used),
            attempts: Vec::new(),
            taint: *lock(&self.taint),
            evidence: Vec::new(),
            at: self.engine.store.now(),
        };
        let finish = Finish {
            state,
            parent: self
                .run
                .parent
                .clone()
                .map(|(run, key)| (run, key, recorded)),
            // A part that cannot go on ends its own run; what that means for the task, its root decides.
            task: ended.task.filter(|_| self.run.parent.is_none()),
        };
        match self
            .append(Change::Finish(Box::new(finish)), vec![event])
            .await?
        {
            Appended::Written => Ok(()),
            Appended::Refused | Appended::Over => Err(Interrupted(Interruption::Lost)),
        }
    }

    /// Takes the run out of memory until something comes.
    pub(super) async fn park(&self, wake_at: Option<Timestamp>) -> Result<Appended, Interrupted> {
        let wakes = self.heard.load(Ordering::SeqCst);
        self.append(Change::Park { wakes, wake_at }, Vec::new())
            .await
    }

    /// Hands the run back to the queue.
    pub(super) async fn release(&self) -> Result<Appended, Interrupted> {
        self.append(Change::Release, Vec::new()).await
    }

    /// Writes a change, and with it the step that ended before and what was noted since. A run that
    /// only leaves memory notes nothing: its code will come to the same place again.
    async fn append(&self, change: Change, events: Vec<Event>) -> Result<Appended, Interrupted> {
        let entry = self.entry(change, events);
        Ok(self.engine.store.append(self.fence, entry).await?)
    }

    fn entry(&self, change: Change, events: Vec<Event>) -> Entry {
        let noted = std::mem::take(&mut *lock(&self.notes));
        let Tail {
            steps: ended,
            events: mut all,
        } = std::mem::take(&mut *lock(&self.tail));
        if !matches!(change, Change::Park { .. } | Change::Release) {
            all.extend(noted);
        }
        all.extend(events);
        let survived = self.run.deaths > 0
            && gets_on(&ended, &change)
            && !self.survived.swap(true, Ordering::SeqCst);
        Entry {
            task: self.run.task,
            tenant: self.run.authority.tenant.clone(),
            principal: self.run.authority.principal.clone(),
            last: false,
            ended,
            change,
            events: all,
            blobs: Vec::new(),
            survived,
        }
    }

    fn tenant(&self) -> &TenantId {
        &self.run.authority.tenant
    }

    /// Writes a step; refused means that the run is no longer ours.
    async fn write(&self, step: &Step, events: Vec<Event>) -> Result<(), Interrupted> {
        let change = Change::step(step.clone());
        self.write_change(change, events).await
    }

    /// Writes a change; refused means that the run is no longer ours.
    async fn write_change(&self, change: Change, events: Vec<Event>) -> Result<(), Interrupted> {
        match self.append(change, events).await? {
            Appended::Written => Ok(()),
            // What begins nothing is never over a limit.
            Appended::Refused | Appended::Over => Err(Interrupted(Interruption::Lost)),
        }
    }

    /// Writes that an attempt begins. Where it does not fit under a limit, the step has ended instead, and
    /// this is how.
    async fn begin(
        &self,
        step: &Step,
        event: Event,
        last: bool,
    ) -> Result<Option<Recorded>, Interrupted> {
        let change = Change::step(step.clone());
        let entry = Entry {
            last,
            ..self.entry(change, vec![event])
        };
        match self.engine.store.append(self.fence, entry).await? {
            Appended::Written => Ok(None),
            Appended::Refused => Err(Interrupted(Interruption::Lost)),
            Appended::Over => {
                let ended = self
                    .engine
                    .store
                    .step(self.tenant(), self.run.id, &step.key)
                    .await?
                    .and_then(|step| step.recorded);
                ended.map_or(Err(Interrupted(Interruption::Lost)), |ended| {
                    Ok(Some(ended))
                })
            }
        }
    }

    /// Writes what has ended and waits, if there is anything.
    async fn settle_tail(&self) -> Result<(), Interrupted> {
        let last = lock(&self.tail).steps.pop();
        match last {
            Some(step) => self.write(&step, Vec::new()).await,
            None => Ok(()),
        }
    }

    /// Leaves an outcome to the next write. What lies between is the run's own code and what only reads,
    /// a few milliseconds at most; should the process die in them, an operation that may be repeated
    /// is repeated.
    fn defer(&self, step: Step, told: Event) {
        let mut tail = lock(&self.tail);
        tail.events.append(&mut lock(&self.notes));
        tail.events.push(told);
        tail.steps.push(step);
    }

    /// The step of this key, where it was asked for before. What was noted up to here was told then.
    fn known(&self, key: &StepKey, op_hash: Hash) -> Result<Option<Step>, Interrupted> {
        let Some(step) = lock(&self.steps).get(key).cloned() else {
            return Ok(None);
        };
        if step.op_hash != op_hash {
            return Err(Interrupted(Interruption::Mismatch {
                key: key.clone(),
                journaled: step.op_hash,
                asked: op_hash,
            }));
        }
        lock(&self.notes).clear();
        Ok(Some(step))
    }

    fn fresh(&self, key: StepKey, kind: StepKind, what: &str, op_hash: Hash) -> Step {
        Step {
            key,
            seq: self.seq.fetch_add(1, Ordering::SeqCst) + 1,
            kind,
            agent: None,
            what: what.to_owned(),
            model: None,
            effect: Effect::Pure,
            op_hash,
            attempt: 1,
            attempts: Vec::new(),
            reserved: None,
            deadline: None,
            recorded: None,
            taint: Taint::NONE,
            begun_at: self.engine.store.now(),
        }
    }

    /// Hands out a recorded outcome and adds it to what the run has used and touched.
    fn serve(&self, recorded: Recorded) -> Recorded {
        *lock(&self.used) += recorded.usage;
        let mut taint = lock(&self.taint);
        *taint = taint.union(recorded.taint);
        recorded
    }

    /// Has the run leave memory at its next step: its task was paused before it came here.
    pub(super) fn hold(&self) {
        self.held.cancel();
    }

    /// Ends when the run is to leave memory: the process goes down, the task is paused, or an operator has
    /// stopped it.
    async fn to_leave(&self) {
        tokio::select! {
            () = self.engine.frozen.cancelled() => {}
            () = self.held.cancelled() => {}
            () = self.halted.cancelled() => {}
        }
    }

    /// Whether the run is still this worker's to act for.
    fn still_wanted(&self) -> Result<(), Interrupted> {
        match self.cancel.is_cancelled() || !self.term.is_live() {
            true => Err(Interrupted(Interruption::Lost)),
            false => Ok(()),
        }
    }

    /// Whether no operator has stopped the run. Asked before everything that is begun.
    fn still_let(&self) -> Result<(), Interrupted> {
        self.engine.mind_file();
        match self.halted.is_cancelled() {
            true => Err(Interrupted(Interruption::Frozen)),
            false => Ok(()),
        }
    }

    fn still_running(&self) -> Result<(), Interrupted> {
        self.still_wanted()?;
        self.still_let()?;
        if self.engine.frozen.is_cancelled() || self.held.is_cancelled() {
            return Err(Interrupted(Interruption::Frozen));
        }
        Ok(())
    }
}

/// Steps that have ended and what watchers are told of them.
#[derive(Default)]
struct Tail {
    steps: Vec<Step>,
    events: Vec<Event>,
}

#[async_trait]
impl RunCtx for Journal {
    async fn act(&self, key: StepKey, op: Op) -> Result<Recorded, Interrupted> {
        self.operate(key, op, true).await
    }

    async fn all(&self, ops: Vec<(StepKey, Op)>) -> Result<Vec<Recorded>, Interrupted> {
        let alone = ops.len() == 1;
        try_join_all(
            ops.into_iter()
                .map(|(key, op)| self.operate(key, op, alone)),
        )
        .await
    }

    async fn child(&self, key: StepKey, child: Child) -> Result<Recorded, Interrupted> {
        let op_hash = Hash::of(&json!({"child": child.agent, "input": child.input}));
        match self.known(&key, op_hash)? {
            Some(Step {
                recorded: Some(recorded),
                ..
            }) => return Ok(self.serve(recorded)),
            Some(_) => {}
            None => self.spawn(key.clone(), child, op_hash).await?,
        }
        let look = || async {
            let step = self
                .engine
                .store
                .step(self.tenant(), self.run.id, &key)
                .await;
            Ok(step?.and_then(|step| step.recorded))
        };
        match self.wait(None, look).await? {
            Some(recorded) => Ok(self.serve(recorded)),
            None => Err(Interrupted(Interruption::Parked { until: None })),
        }
    }

    async fn ask(
        &self,
        name: SignalName,
        within: Duration,
        ask: Ask,
    ) -> Result<Option<Value>, Interrupted> {
        let key = StepKey::from(format!("signal/{name}"));
        let asked = Some((name.clone(), ask.clone()));
        let step = self
            .waiting_step((key, StepKind::Signal, name.as_str()), Some(within), asked)
            .await?;
        if let Some(recorded) = step.recorded {
            return Ok(answer_of(self.serve(recorded)));
        }
        if let Some(answers) = &self.engine.answers {
            answers
                .consider(AskId::of(self.run.id, &name), &ask)
                .await?;
        }
        let look = || async {
            Ok(self
                .engine
                .store
                .signal(self.tenant(), self.run.id, &name)
                .await?)
        };
        loop {
            let answer = self.wait(step.deadline, look).await?;
            let unless = answer.is_none().then(|| name.clone());
            if self
                .settle(step.clone(), json!({ "answer": answer }), unless)
                .await?
                .is_some()
            {
                return Ok(answer);
            }
            // The answer came in the moment of the time-out: it counts. If none is there, the run
            // itself was refused.
            if answer.is_none() && look().await?.is_none() {
                return Err(Interrupted(Interruption::Lost));
            }
        }
    }

    async fn sleep(&self, key: StepKey, duration: Duration) -> Result<(), Interrupted> {
        let step = self
            .waiting_step((key, StepKind::Sleep, "sleep"), Some(duration), None)
            .await?;
        if step.recorded.is_some() {
            return Ok(());
        }
        self.wait(step.deadline, || async { Ok(None::<()>) })
            .await?;
        self.settle(step, Value::Null, None).await?;
        Ok(())
    }

    async fn now(&self, key: StepKey) -> Result<Timestamp, Interrupted> {
        let op_hash = Hash::of(&json!("now"));
        if let Some(Step {
            recorded: Some(recorded),
            ..
        }) = self.known(&key, op_hash)?
        {
            return Ok(recorded.at);
        }
        self.still_running()?;
        let step = self.fresh(key, StepKind::Now, "now", op_hash);
        let recorded = self.settle(step, Value::Null, None).await?;
        Ok(recorded.map_or(Timestamp(0), |recorded| recorded.at))
    }

    fn note(&self, note: Note) {
        let event = match note {
            Note::Phase(phase) => Event::Phase { phase },
            Note::State { state, reason } => Event::State {
                state,
                reason,
                agent: None,
            },
            Note::Decided { what, reason } => Event::Decided { what, reason },
        };
        lock(&self.notes).push(event);
    }
}

impl Journal {
    /// Starts a child: its row, this run's step and what watchers are told, in one commit. It runs
    /// in this process at once.
    async fn spawn(&self, key: StepKey, child: Child, op_hash: Hash) -> Result<(), Interrupted> {
        self.still_running()?;
        let mut step = self.fresh(key.clone(), StepKind::Child, child.agent.as_str(), op_hash);
        step.agent = Some(child.agent.clone());
        let started = Event::State {
            state: shared::task::TaskState::Running,
            reason: format!("step {key}"),
            agent: Some(child.agent.clone()),
        };
        let new = NewRun {
            id: self.run.id.child(&key),
            kind: kind::AGENT,
            agent: child.agent,
            input: child.input,
        };
        let run = Run {
            id: new.id,
            task: self.run.task,
            parent: Some((self.run.id, key)),
            kind: new.kind.to_owned(),
            agent: Some(new.agent.clone()),
            input: new.input.clone(),
            catalog: self.run.catalog,
            authority: self.run.authority.clone(),
            state: RunState::Running,
            epoch: 1,
            wakes: 0,
            deaths: 0,
            created_at: step.begun_at,
        };
        let change = Change::Step {
            step: Box::new(step),
            spawn: Some(Box::new(new)),
            unless_signal: None,
            ask: None,
        };
        // In a task of its own: this future may be dropped while the commit is under way, and a child
        // that was committed must run all the same.
        let (engine, term, fence) = (self.engine.clone(), self.term.clone(), self.fence);
        let held = self.held.clone();
        let entry = self.entry(change, vec![started]);
        let spawned = self.engine.drivers.spawn(async move {
            let appended = engine.store.append(fence, entry).await;
            if matches!(appended, Ok(Appended::Written)) {
                engine.adopt(run, term, None, Some(held));
            }
            appended
        });
        match spawned.await {
            Ok(Ok(Appended::Written)) => Ok(()),
            Ok(Ok(Appended::Refused | Appended::Over)) => Err(Interrupted(Interruption::Lost)),
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(Interrupted(Interruption::Store(error.to_string()))),
        }
    }
}

/// Whether a run gets past where it was: a step has its outcome, or a wait begins.
fn gets_on(ended: &[Step], change: &Change) -> bool {
    let past = |step: &Step| step.recorded.is_some() || step.kind.waits();
    !ended.is_empty() || matches!(change, Change::Step { step, .. } if past(step))
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.engine.store.bell().leave(self.run.id, &self.wake);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
