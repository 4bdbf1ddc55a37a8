//! [`RunCtx`] over the store: serves what is recorded, does what is not, and records it.
//!
//! Writes per operation: one for `Pure` (its outcome), two for all others (begun, done), one more for
//! each further attempt. The outcome of an operation that may be repeated rides along with the next
//! write, so that the end of one step and the begin of the next share a commit; so do notes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio_util::sync::CancellationToken;

use shared::crash_point;
use shared::event::{Event, Note, Sink};
use shared::hash::Hash;
use shared::id::{AgentName, SignalName, StepKey};
use shared::label::Taint;
use shared::money::{Usage, Usd};
use shared::retry::Disposition;
use shared::run::{
    Attempt, Child, Effect, EffectKey, Evidence, Exec, Failure, FailureKind, Interrupted,
    Interruption, Made, NotDone, Op, OpKind, Outcome, Probe, Recorded, Report, RunCtx, Timestamp,
};
use shared::store::{
    Appended, Change, Entry, Fence, Finish, NewRun, Run, RunState, Seat, Step, StepKind, kind,
};

use super::recover::{self, Recovery};
use super::{Ended, Engine};

/// How long an agent's actor may be away (restarting, mailbox full) before it is asked again.
const AWAY: Duration = Duration::from_millis(50);

/// One run in memory.
pub struct Journal {
    engine: Arc<Engine>,
    run: Run,
    fence: Fence,
    authority: Arc<shared::label::Authority>,
    steps: Mutex<HashMap<StepKey, Step>>,
    notes: Mutex<Vec<Event>>,
    /// A step that has ended and waits for the next write to take it along.
    tail: Mutex<Option<Tail>>,
    seq: AtomicI64,
    heard: AtomicI64,
    used: Mutex<Usage>,
    taint: Mutex<Taint>,
    /// Held while the run works; given back while all that it does is wait.
    slot: tokio::sync::Mutex<Option<OwnedSemaphorePermit>>,
    waits: AtomicU32,
    wake: Arc<Notify>,
    cancel: CancellationToken,
    span: tracing::Span,
}

impl Journal {
    /// The journal of `run`, with the steps that it has so far.
    pub(super) fn new(
        engine: Arc<Engine>,
        run: Run,
        steps: Vec<Step>,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        let fence = Fence {
            worker: engine.worker,
            run: run.id,
            epoch: run.epoch,
        };
        let Seat { wake, ended } = engine.store.bell().join(run.id);
        Self {
            fence,
            authority: Arc::new(run.authority.clone()),
            seq: AtomicI64::new(steps.iter().map(|step| step.seq).max().unwrap_or(0)),
            heard: AtomicI64::new(run.wakes),
            steps: Mutex::new(steps.into_iter().map(|s| (s.key.clone(), s)).collect()),
            notes: Mutex::default(),
            tail: Mutex::default(),
            used: Mutex::default(),
            taint: Mutex::default(),
            slot: tokio::sync::Mutex::new(Some(slot)),
            waits: AtomicU32::new(0),
            wake,
            cancel: ended,
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
        let event = self.ending(&ended);
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
            task: ended.task,
        };
        match self
            .append(Change::Finish(Box::new(finish)), vec![event])
            .await?
        {
            Appended::Written => Ok(()),
            Appended::Refused => Err(Interrupted(Interruption::Lost)),
        }
    }

    fn ending(&self, ended: &Ended) -> Event {
        use shared::task::TaskState::{Done, Failed};
        let (state, reason) = match (&ended.task, &ended.result) {
            (Some(end), _) => (end.state, end.error.clone().unwrap_or_default()),
            (None, Ok(_)) => (Done, String::new()),
            (None, Err(failure)) => (Failed, failure.message.clone()),
        };
        Event::State {
            state,
            reason,
            agent: self.run.agent.clone(),
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
        let appended = self.engine.store.append(self.fence, entry).await;
        appended.map_err(store_failed)
    }

    fn entry(&self, change: Change, events: Vec<Event>) -> Entry {
        let noted = std::mem::take(&mut *lock(&self.notes));
        let (ended, mut all) = match lock(&self.tail).take() {
            Some(tail) => (Some(tail.step), tail.events),
            None => (None, Vec::new()),
        };
        if !matches!(change, Change::Park { .. } | Change::Release) {
            all.extend(noted);
        }
        all.extend(events);
        Entry {
            task: self.run.task,
            tenant: self.run.authority.tenant.clone(),
            ended,
            change,
            events: all,
        }
    }

    /// Writes a step; refused means that the run is no longer ours.
    async fn write(&self, step: &Step, events: Vec<Event>) -> Result<(), Interrupted> {
        let change = Change::Step {
            step: Box::new(step.clone()),
            spawn: None,
            unless_signal: None,
        };
        match self.append(change, events).await? {
            Appended::Written => Ok(()),
            Appended::Refused => Err(Interrupted(Interruption::Lost)),
        }
    }

    /// Writes the step that has ended and waits, if there is one: before anything that may take long.
    async fn settle_tail(&self) -> Result<(), Interrupted> {
        let Some(Tail { step, mut events }) = lock(&self.tail).take() else {
            return Ok(());
        };
        events.append(&mut lock(&self.notes));
        *lock(&self.notes) = events;
        self.write(&step, Vec::new()).await
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

    fn still_running(&self) -> Result<(), Interrupted> {
        if self.cancel.is_cancelled() {
            return Err(Interrupted(Interruption::Lost));
        }
        if self.engine.frozen.is_cancelled() {
            return Err(Interrupted(Interruption::Frozen));
        }
        Ok(())
    }

    /// Does an operation that has no outcome yet, to its end.
    /// `alone`: no other operation of this run goes on at the same time.
    async fn perform(
        &self,
        mut step: Step,
        op: Arc<Op>,
        alone: bool,
    ) -> Result<Recorded, Interrupted> {
        let mut next = match step.attempt as usize > step.attempts.len() {
            false => Next::Try,
            true => self.lose(
                &mut step,
                "the worker was lost before the outcome was recorded",
            ),
        };
        loop {
            next = match next {
                Next::Try => self.begin_and_try(&mut step, &op).await?,
                Next::Clarify(why) => self.clarify(&step, &op, why).await?,
                Next::Conclude(outcome, report) => {
                    return self.conclude(step, &op, (outcome, report), alone).await;
                }
            }
        }
    }

    /// Makes one attempt, journaled before unless it only reads and is the first.
    async fn begin_and_try(&self, step: &mut Step, op: &Arc<Op>) -> Result<Next, Interrupted> {
        self.still_running()?;
        step.attempt = step.attempts.len() as u32 + 1;
        step.reserved = Some(op.worst_case);
        step.begun_at = self.engine.store.now();
        step.deadline = Some(step.begun_at.after(op.timeout));
        match journaled_before(op, step.attempt) {
            true => self.write(step, vec![begun(step, op)]).await?,
            false => self.settle_tail().await?,
        }
        let Made { report, ms } = match self.attempt(step, op).await? {
            Ok(made) => made,
            Err(why) => return Ok(self.lose(step, &why)),
        };
        step.attempts.push(Attempt {
            at: step.begun_at,
            ms,
            usage: report.usage.unwrap_or(op.worst_case),
            failure: report.result.as_ref().err().cloned(),
        });
        self.judge(step, op, report).await
    }

    /// Decides what follows an attempt that came back.
    async fn judge(
        &self,
        step: &mut Step,
        op: &Op,
        mut report: Report,
    ) -> Result<Next, Interrupted> {
        let failure = match std::mem::replace(&mut report.result, Ok(Value::Null)) {
            Ok(value) => return Ok(Next::Conclude(Outcome::Done(value), report)),
            Err(failure) => failure,
        };
        let failed = recover::failures(&step.attempts);
        match op.retry.after(failed, op.effect, &failure, fastrand::f64()) {
            Disposition::GiveUp => Ok(Next::Conclude(Outcome::Failed(failure), report)),
            Disposition::Clarify => Ok(Next::Clarify(failure.message)),
            Disposition::Retry(pause) => {
                let retrying = Event::Retrying {
                    key: step.key.clone(),
                    agent: op.agent.clone(),
                    what: op.kind.name().to_owned(),
                    error: failure.message,
                    pause_ms: pause.as_millis() as u64,
                };
                self.write(step, vec![retrying]).await?;
                self.pause(pause).await?;
                Ok(Next::Try)
            }
        }
    }

    /// Settles an attempt whose outcome nobody recorded: it is charged in full.
    fn lose(&self, step: &mut Step, why: &str) -> Next {
        let orphan = recover::orphan(step, why, self.engine.store.now());
        step.attempts.push(orphan);
        Next::Clarify(why.to_owned())
    }

    /// Applies the recovery rule to an attempt that may have happened.
    async fn clarify(&self, step: &Step, op: &Arc<Op>, why: String) -> Result<Next, Interrupted> {
        let found = match recover::rule(op.effect) {
            Recovery::Again if recover::hopeless(&step.attempts) => {
                let why = format!("every attempt was lost; the last one: {why}");
                let failure = Failure::new(FailureKind::Lost, why);
                let report = Report::failed(failure.clone());
                return Ok(Next::Conclude(Outcome::Failed(failure), report));
            }
            Recovery::Again => return Ok(Next::Try),
            Recovery::Doubt => Probe::Unknown(why),
            Recovery::Probe => self.probe(step, op).await?,
        };
        Ok(match found {
            Probe::DidNot => Next::Try,
            Probe::Happened(report) => match report.result.clone() {
                Ok(value) => Next::Conclude(Outcome::Done(value), report),
                Err(failure) => Next::Conclude(Outcome::Failed(failure), report),
            },
            Probe::Unknown(why) => {
                let effect = self.effect_key(step);
                Next::Conclude(Outcome::InDoubt { effect }, doubtful(step, why))
            }
        })
    }

    /// Records the outcome.
    async fn conclude(
        &self,
        mut step: Step,
        op: &Op,
        (outcome, report): (Outcome, Report),
        alone: bool,
    ) -> Result<Recorded, Interrupted> {
        let recorded = Recorded {
            usage: step.attempts.iter().map(|attempt| attempt.usage).sum(),
            attempts: std::mem::take(&mut step.attempts),
            outcome,
            taint: report.taint,
            evidence: report.evidence,
            at: self.engine.store.now(),
        };
        step.attempt = recorded.attempts.len() as u32;
        step.reserved = None;
        step.taint = recorded.taint;
        step.recorded = Some(recorded.clone());
        let told = ended(&step, op, &recorded);
        match alone && op.effect.repeatable() {
            true => self.defer(step, told),
            false => self.write(&step, vec![told]).await?,
        }
        Ok(self.serve(recorded))
    }

    /// Leaves an outcome to the next write. What lies between is the run's own code, which takes
    /// microseconds; should the process die in them, an operation that may be repeated is repeated.
    fn defer(&self, step: Step, told: Event) {
        let mut events = std::mem::take(&mut *lock(&self.notes));
        events.push(told);
        let step = Box::new(step);
        *lock(&self.tail) = Some(Tail { step, events });
    }

    fn effect_key(&self, step: &Step) -> EffectKey {
        EffectKey::new(self.run.id, &step.key, step.op_hash)
    }

    fn exec(&self, step: &Step, op: &Arc<Op>, cancel: CancellationToken) -> Exec {
        let feed = self.engine.store.bell().feed().clone();
        Exec {
            task: self.run.task,
            run: self.run.id,
            key: step.key.clone(),
            attempt: step.attempt,
            op: op.clone(),
            effect_key: self.effect_key(step),
            authority: self.authority.clone(),
            cancel,
            sink: Sink::new(
                feed,
                (self.run.task, self.run.id),
                step.key.clone(),
                step.attempt,
            ),
            span: self.span.clone(),
        }
    }

    /// One attempt; its time is kept by those who make it. `Err` in the inner result: somebody took it and died over it.
    async fn attempt(
        &self,
        step: &Step,
        op: &Arc<Op>,
    ) -> Result<Result<Made, String>, Interrupted> {
        let cancel = self.cancel.child_token();
        let _cancelled_when_dropped = cancel.clone().drop_guard();
        loop {
            crash_point!("effect.before");
            let work = self
                .engine
                .executor
                .execute(self.exec(step, op, cancel.clone()));
            let done = self.while_wanted(work).await?;
            crash_point!("effect.after");
            match done {
                Ok(made) => return Ok(Ok(made)),
                Err(NotDone::NoReply(why)) => return Ok(Err(why)),
                Err(NotDone::NotDelivered(why)) => {
                    tracing::debug!(agent.name = %op.agent, why, "agent away, asking again");
                    self.pause(AWAY).await?;
                }
            }
        }
    }

    async fn probe(&self, step: &Step, op: &Arc<Op>) -> Result<Probe, Interrupted> {
        let cancel = self.cancel.child_token();
        loop {
            self.still_running()?;
            let asked = self
                .engine
                .executor
                .probe(self.exec(step, op, cancel.clone()));
            match self
                .while_wanted(tokio::time::timeout(op.timeout, asked))
                .await?
            {
                Err(_) => return Ok(Probe::Unknown("the far side did not answer in time".into())),
                Ok(Ok(probe)) => return Ok(probe),
                Ok(Err(_)) => self.pause(AWAY).await?,
            }
        }
    }

    /// Awaits work. Ends early when the run is no longer wanted, or the process cannot wait for it any
    /// more.
    async fn while_wanted<T>(&self, work: impl Future<Output = T>) -> Result<T, Interrupted> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.cancel.cancelled() => Err(Interrupted(Interruption::Lost)),
            () = self.engine.dropped.cancelled() => Err(Interrupted(Interruption::Frozen)),
        }
    }

    async fn pause(&self, pause: Duration) -> Result<(), Interrupted> {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.cancel.cancelled() => Err(Interrupted(Interruption::Lost)),
            () = self.engine.frozen.cancelled() => Err(Interrupted(Interruption::Frozen)),
        }
    }

    /// Waits until `look` finds something, or until the deadline (`None`). Holds no slot meanwhile;
    /// when it takes long the run leaves memory.
    async fn wait<T, F: Future<Output = Result<Option<T>, Interrupted>>>(
        &self,
        deadline: Option<Timestamp>,
        look: impl Fn() -> F,
    ) -> Result<Option<T>, Interrupted> {
        let waiting = Waiting::begin(&self.waits);
        drop(self.slot.lock().await.take());
        let patience = tokio::time::sleep(self.engine.park_after);
        tokio::pin!(patience);
        let found = loop {
            let rung = self.wake.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            if let Some(found) = look().await? {
                break Some(found);
            }
            let left = deadline.map(|at| at.since(self.engine.store.now()));
            if left.is_some_and(|left| left.is_zero()) {
                break None;
            }
            tokio::select! {
                () = &mut rung => {}
                () = tokio::time::sleep(left.unwrap_or(Duration::MAX)), if left.is_some() => {}
                () = &mut patience => match self.last_look(&look).await? {
                    Some(found) => break Some(found),
                    None => return Err(Interrupted(Interruption::Parked { until: deadline })),
                },
                () = self.cancel.cancelled() => return Err(Interrupted(Interruption::Lost)),
                () = self.engine.frozen.cancelled() => return Err(Interrupted(Interruption::Frozen)),
            }
        };
        if waiting.end() {
            self.take_slot().await?;
        }
        Ok(found)
    }

    /// Looks once more, having counted the rings so far: one that comes after this keeps the run
    /// from being parked.
    async fn last_look<T, F: Future<Output = Result<Option<T>, Interrupted>>>(
        &self,
        look: &impl Fn() -> F,
    ) -> Result<Option<T>, Interrupted> {
        let run = self
            .engine
            .store
            .run(&self.authority.tenant, self.run.id)
            .await
            .map_err(store_failed)?;
        let rung = run.map_or(0, |run| run.wakes);
        self.heard.store(rung, Ordering::SeqCst);
        look().await
    }

    async fn take_slot(&self) -> Result<(), Interrupted> {
        let mut slot = self.slot.lock().await;
        if slot.is_none() {
            tokio::select! {
                permit = self.engine.slots.clone().acquire_owned() => *slot = permit.ok(),
                () = self.cancel.cancelled() => return Err(Interrupted(Interruption::Lost)),
                () = self.engine.frozen.cancelled() => return Err(Interrupted(Interruption::Frozen)),
            }
        }
        Ok(())
    }

    /// Records a step that waited and has its value.
    async fn settle(
        &self,
        mut step: Step,
        value: Value,
        unless_signal: Option<SignalName>,
    ) -> Result<Option<Recorded>, Interrupted> {
        let recorded = Recorded {
            outcome: Outcome::Done(value),
            usage: Usage::default(),
            attempts: Vec::new(),
            taint: Taint::NONE,
            evidence: Vec::new(),
            at: self.engine.store.now(),
        };
        step.recorded = Some(recorded.clone());
        let conditional = unless_signal.is_some();
        let change = Change::Step {
            step: Box::new(step),
            spawn: None,
            unless_signal,
        };
        match self.append(change, Vec::new()).await? {
            Appended::Written => Ok(Some(recorded)),
            Appended::Refused if conditional => Ok(None),
            Appended::Refused => Err(Interrupted(Interruption::Lost)),
        }
    }

    /// The step that a wait stands on: the one journaled before, or a new one with its deadline.
    async fn waiting_step(
        &self,
        key: StepKey,
        kind: StepKind,
        what: &str,
        within: Option<Duration>,
    ) -> Result<Step, Interrupted> {
        let op_hash = Hash::of(&json!({"wait": kind, "what": what}));
        if let Some(step) = self.known(&key, op_hash)? {
            return Ok(step);
        }
        self.still_running()?;
        let mut step = self.fresh(key, kind, what, op_hash);
        step.deadline = within.map(|within| step.begun_at.after(within));
        self.write(&step, Vec::new()).await?;
        Ok(step)
    }
}

/// One of the waits that a run is in. The last one to end brings the run back to work.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn begin(waits: &'a AtomicU32) -> Self {
        waits.fetch_add(1, Ordering::SeqCst);
        Self(waits)
    }

    /// Whether no other wait goes on.
    fn end(self) -> bool {
        let others = self.0.load(Ordering::SeqCst) - 1;
        others == 0
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A step that has ended and what watchers are told of it.
struct Tail {
    step: Box<Step>,
    events: Vec<Event>,
}

/// What comes next for an operation.
enum Next {
    /// Make an attempt.
    Try,
    /// An attempt may have happened: find out.
    Clarify(String),
    /// Record this.
    Conclude(Outcome, Report),
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
            let (store, tenant) = (&self.engine.store, &self.authority.tenant);
            let step = store.step(tenant, self.run.id, &key).await;
            Ok(step.map_err(store_failed)?.and_then(|step| step.recorded))
        };
        match self.wait(None, look).await? {
            Some(recorded) => Ok(self.serve(recorded)),
            None => Err(Interrupted(Interruption::Parked { until: None })),
        }
    }

    async fn signal(
        &self,
        name: SignalName,
        within: Duration,
    ) -> Result<Option<Value>, Interrupted> {
        let key = StepKey::from(format!("signal/{name}"));
        let step = self
            .waiting_step(key, StepKind::Signal, name.as_str(), Some(within))
            .await?;
        if let Some(recorded) = step.recorded {
            return Ok(answer_of(self.serve(recorded)));
        }
        let look = || async {
            let (store, tenant) = (&self.engine.store, &self.authority.tenant);
            let answer = store.signal(tenant, self.run.id, &name).await;
            answer.map_err(store_failed)
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
            // The answer came in the moment of the time-out: it counts.
        }
    }

    async fn sleep(&self, key: StepKey, duration: Duration) -> Result<(), Interrupted> {
        let step = self
            .waiting_step(key, StepKind::Sleep, "sleep", Some(duration))
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
    /// Serves an operation's outcome, or does it.
    async fn operate(&self, key: StepKey, op: Op, alone: bool) -> Result<Recorded, Interrupted> {
        let op_hash = op.hash(&self.authority);
        let step = match self.known(&key, op_hash)? {
            Some(Step {
                recorded: Some(recorded),
                ..
            }) => return Ok(self.serve(recorded)),
            Some(step) => step,
            None => {
                let kind = match op.kind {
                    OpKind::Think(_) => StepKind::Think,
                    OpKind::Tool { .. } => StepKind::Tool,
                };
                let mut step = self.fresh(key, kind, op.kind.name(), op_hash);
                step.agent = Some(op.agent.clone());
                step.effect = op.effect;
                step.attempt = 0;
                step
            }
        };
        self.perform(step, Arc::new(op), alone).await
    }

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
            created_at: step.begun_at,
        };
        let change = Change::Step {
            step: Box::new(step),
            spawn: Some(Box::new(new)),
            unless_signal: None,
        };
        // In a task of its own: this future may be dropped while the commit is under way, and a child
        // that was committed must run all the same.
        let (engine, fence) = (self.engine.clone(), self.fence);
        let entry = self.entry(change, vec![started]);
        let spawned = self.engine.drivers.spawn(async move {
            let appended = engine.store.append(fence, entry).await;
            if matches!(appended, Ok(Appended::Written)) {
                engine.adopt(run);
            }
            appended
        });
        match spawned.await {
            Ok(Ok(Appended::Written)) => Ok(()),
            Ok(Ok(Appended::Refused)) => Err(Interrupted(Interruption::Lost)),
            Ok(Err(error)) => Err(store_failed(error)),
            Err(error) => Err(Interrupted(Interruption::Store(error.to_string()))),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.engine.store.bell().leave(self.run.id, &self.wake);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn store_failed(error: shared::store::Error) -> Interrupted {
    Interrupted(Interruption::Store(error.to_string()))
}

fn answer_of(recorded: Recorded) -> Option<Value> {
    match recorded.outcome {
        Outcome::Done(mut value) => Some(value["answer"].take()).filter(|answer| !answer.is_null()),
        Outcome::Failed(_) | Outcome::InDoubt { .. } => None,
    }
}

/// Whether an attempt must be durable before it is made: it may change the world, it costs money, or
/// it follows a failed one. What only reads and costs nothing may be forgotten.
fn journaled_before(op: &Op, attempt: u32) -> bool {
    op.effect != Effect::Pure || op.worst_case.usd > Usd::ZERO || attempt > 1
}

/// The report of an effect that nobody can vouch for, with what is known about it.
fn doubtful(step: &Step, why: String) -> Report {
    let known = |kind: &str, value: String| Evidence {
        kind: kind.into(),
        value,
    };
    Report {
        evidence: vec![
            known("why", why),
            known("begun_at_ms", step.begun_at.0.to_string()),
            known("attempt", step.attempt.to_string()),
        ],
        ..Report::failed(Failure::new(FailureKind::Transient, "in doubt"))
    }
}

fn begun(step: &Step, op: &Op) -> Event {
    Event::Begun {
        key: step.key.clone(),
        agent: op.agent.clone(),
        what: step.what.clone(),
        detail: detail(op),
        attempt: step.attempt,
    }
}

fn ended(step: &Step, op: &Op, recorded: &Recorded) -> Event {
    let agent: AgentName = op.agent.clone();
    let error = match &recorded.outcome {
        Outcome::InDoubt { .. } => {
            return Event::InDoubt {
                key: step.key.clone(),
                agent,
                what: step.what.clone(),
                evidence: recorded.evidence.clone(),
            };
        }
        Outcome::Failed(failure) => Some(failure.message.clone()),
        Outcome::Done(_) => None,
    };
    Event::Ended {
        key: step.key.clone(),
        agent,
        what: step.what.clone(),
        detail: detail(op),
        error,
        usage: recorded.usage,
        ms: recorded.attempts.last().map_or(0, |attempt| attempt.ms),
    }
}

/// How many characters of an argument a person is shown.
const DETAIL_CHARS: usize = 80;

/// A short word about what an operation works on: the first text among a tool's arguments.
fn detail(op: &Op) -> String {
    match &op.kind {
        OpKind::Think(_) => String::new(),
        OpKind::Tool { args, .. } => args
            .as_object()
            .and_then(|args| args.values().find_map(Value::as_str))
            .map(|text| text.chars().take(DETAIL_CHARS).collect())
            .unwrap_or_default(),
    }
}
