//! One operation, from its first attempt to its outcome: begun in the journal, made by an actor, judged
//! by the retry policy, and where nobody knows whether it happened, by the recovery rule.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use shared::ask::Approval;
use shared::blob::{Blob, MAX_BLOB};
use shared::crash_point;
use shared::event::{Event, Sink};
use shared::id::{AskId, ModelName, StepKey};
use shared::money::Usd;
use shared::retry::Disposition;
use shared::run::{
    Attempt, Effect, EffectKey, Evidence, Exec, Failure, FailureKind, Interrupted, Interruption,
    Made, NotDone, Op, OpKind, Outcome, Probe, Recorded, Report,
};
use shared::store::{Appended, Change, Entry, Step, StepKind};

use super::{Journal, tell};
use crate::engine::recover::{self, Recovery};

/// How long an agent's actor may be away (restarting, mailbox full) before it is asked again; twice
/// as long each time, so that one that stays away costs nothing.
const AWAY: Duration = Duration::from_millis(50);
/// How long an outcome may wait for the next write to take it along. A process that dies in this time
/// does again what may be repeated.
const QUICK: Duration = Duration::from_millis(10);
/// The longest such pause.
const AWAY_AT_MOST: Duration = Duration::from_secs(5);

/// What comes next for an operation.
enum Next {
    /// Make an attempt.
    Try,
    /// An attempt may have happened: find out.
    Clarify(String),
    /// Record this.
    Conclude(Outcome, Report),
    /// It has ended: the attempt did not fit under a limit, and was not begun.
    Ended(Recorded),
}

/// What those who make an attempt are given besides the operation.
#[derive(Clone, Default)]
struct Given {
    /// The bytes of pictures.
    blobs: Arc<[Blob]>,
    /// By what it may be done.
    approval: Option<Arc<Approval>>,
}

impl Journal {
    /// Serves an operation's outcome, or does it.
    pub(super) async fn operate(
        &self,
        key: StepKey,
        op: Op,
        alone: bool,
    ) -> Result<Recorded, Interrupted> {
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
                    OpKind::Tool { .. } | OpKind::Preview { .. } => StepKind::Tool,
                };
                let mut step = self.fresh(key, kind, op.kind.name(), op_hash);
                step.agent = Some(op.agent.clone());
                step.model = model_of(&op);
                step.effect = op.effect;
                step.attempt = 0;
                step
            }
        };
        self.perform(step, Arc::new(op), alone).await
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
                Next::Ended(recorded) => return Ok(self.serve(recorded)),
                Next::Conclude(outcome, report) => {
                    return self.conclude(step, &op, (outcome, report), alone).await;
                }
            }
        }
    }

    /// Makes one attempt, journaled before unless it only reads and is the first.
    async fn begin_and_try(&self, step: &mut Step, op: &Arc<Op>) -> Result<Next, Interrupted> {
        self.still_running()?;
        // Before anything is begun: what nobody let go is not in doubt.
        let given = match (self.pictures(op).await?, self.approval(op).await?) {
            (Ok(blobs), Ok(approval)) => Given { blobs, approval },
            (Err(failure), _) | (_, Err(failure)) => {
                let report = Report::failed(failure.clone());
                return Ok(Next::Conclude(Outcome::Failed(failure), report));
            }
        };
        step.attempt = step.attempts.len() as u32 + 1;
        step.reserved = Some(op.worst_case);
        step.begun_at = self.engine.store.now();
        step.deadline = Some(step.begun_at.after(op.timeout));
        let attempt = match journaled_before(op, step.attempt) {
            true => {
                if let Some(ended) = self.begin(step, tell::begun(step, op), op.last).await? {
                    return Ok(Next::Ended(ended));
                }
                self.attempt(step, op, given).await?
            }
            false => self.read(step, op, given).await?,
        };
        let Made { report, ms } = match attempt {
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

    /// An attempt at what only reads. What ended before it need not wait for a commit of its own where
    /// this is quick: both then ride along with the next write.
    async fn read(
        &self,
        step: &Step,
        op: &Arc<Op>,
        given: Given,
    ) -> Result<Result<Made, String>, Interrupted> {
        let attempt = self.attempt(step, op, given);
        tokio::pin!(attempt);
        tokio::select! {
            biased;
            made = &mut attempt => made,
            () = tokio::time::sleep(QUICK) => {
                self.settle_tail().await?;
                attempt.await
            }
        }
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
            Probe::DidNot => return self.did_not(step, op).await,
            Probe::Happened(report) => match report.result.clone() {
                Ok(value) => Next::Conclude(Outcome::Done(value), report),
                Err(failure) => Next::Conclude(Outcome::Failed(failure), report),
            },
            Probe::Unknown(why) => {
                let effect = self.effect_key(step);
                let report = doubtful(step, effect, why);
                Next::Conclude(Outcome::InDoubt { effect }, report)
            }
        })
    }

    /// The far side says that it did not happen: an ordinary failed attempt, and the retry policy
    /// decides as about any other.
    async fn did_not(&self, step: &Step, op: &Op) -> Result<Next, Interrupted> {
        let last = step.attempts.last().and_then(|made| made.failure.clone());
        let give_up = |failure: Failure| {
            let report = Report::failed(failure.clone());
            Ok(Next::Conclude(Outcome::Failed(failure), report))
        };
        match last {
            Some(failure) if recover::hopeless(&step.attempts) => give_up(failure),
            Some(failure) if failure.kind != FailureKind::Lost => {
                let known = Failure {
                    may_have_happened: false,
                    ..failure
                };
                let failed = recover::failures(&step.attempts);
                match op.retry.after(failed, op.effect, &known, fastrand::f64()) {
                    Disposition::Retry(pause) => {
                        self.pause(pause).await?;
                        Ok(Next::Try)
                    }
                    Disposition::GiveUp | Disposition::Clarify => give_up(known),
                }
            }
            _ => Ok(Next::Try),
        }
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
        let told = tell::ended(&step, op, &recorded);
        match alone && op.effect.repeatable() && report.blobs.is_empty() {
            true => self.defer(step, told),
            false => self.record(&step, told, report.blobs).await?,
        }
        Ok(self.serve(recorded))
    }

    /// Writes an outcome that cannot be had again. A store that fails is asked until it answers, as long
    /// as the run is ours: to forget what was done would be to ask a person about it.
    async fn record(
        &self,
        step: &Step,
        told: Event,
        mut blobs: Vec<Blob>,
    ) -> Result<(), Interrupted> {
        // The store takes no larger ones, whatever a tool hands in.
        blobs.retain(|blob| blob.bytes.len() <= MAX_BLOB);
        let change = Change::step(step.clone());
        let entry = Entry {
            blobs,
            ..self.entry(change, vec![told])
        };
        let mut away = AWAY;
        let mut failed = None;
        loop {
            match (
                self.engine.store.append(self.fence, entry.clone()).await,
                failed.take(),
            ) {
                (Ok(Appended::Written), _) => return Ok(()),
                (Ok(Appended::Over), _) => return Err(Interrupted(Interruption::Lost)),
                // Not ours any more; or written after all, and only the answer was lost: the journal
                // says which.
                (Ok(Appended::Refused), Some(error)) => return Err(error),
                (Ok(Appended::Refused), None) => return Err(Interrupted(Interruption::Lost)),
                // What rides along would be counted twice if it had been written.
                (Err(error), _) if !entry.ended.is_empty() => return Err(error.into()),
                // The mutant forgets, so that its recovery has something to do wrong.
                (Err(error), _) if shared::crash::ignores_effects() => return Err(error.into()),
                (Err(error), _) => failed = Some(error.into()),
            }
            self.while_wanted(tokio::time::sleep(away)).await?;
            self.still_wanted()?;
            away = (away * 2).min(AWAY_AT_MOST);
        }
    }

    fn effect_key(&self, step: &Step) -> EffectKey {
        EffectKey::new(self.run.id, &step.key, step.op_hash)
    }

    /// The bytes of the pictures that an operation shows a model. They are in no journal, and an
    /// operation whose pictures are gone cannot be done.
    async fn pictures(&self, op: &Op) -> Result<Result<Arc<[Blob]>, Failure>, Interrupted> {
        let mut shown: Vec<Blob> = Vec::new();
        let OpKind::Think(think) = &op.kind else {
            return Ok(Ok(shown.into()));
        };
        for image in think.request.images() {
            if shown.iter().any(|blob| blob.hash == image.hash) {
                continue;
            }
            let kept = self.engine.store.blob(self.tenant(), image.hash).await?;
            let Some(blob) = kept else {
                let why = format!("the picture {:?} is not kept any more", image.name);
                return Ok(Err(Failure::new(FailureKind::Permanent, why)));
            };
            shown.push(blob);
        }
        Ok(Ok(shown.into()))
    }

    /// By what an operation may be done, where people were asked about it: what they were shown, and what
    /// they said.
    async fn approval(
        &self,
        op: &Op,
    ) -> Result<Result<Option<Arc<Approval>>, Failure>, Interrupted> {
        let Some(name) = &op.approval else {
            return Ok(Ok(None));
        };
        let id = AskId::of(self.run.id, name);
        let asked = self.engine.store.asks().get(self.tenant(), id).await?;
        let found = asked.and_then(|asked| Some((asked.ask.action?, asked.verdict?.0)));
        Ok(match found {
            Some((asked, verdict)) => Ok(Some(Arc::new(Approval { asked, verdict }))),
            None => Err(Failure::new(
                FailureKind::Permanent,
                format!("not done: there is no answer to {name}"),
            )),
        })
    }

    fn exec(&self, step: &Step, op: &Arc<Op>, (cancel, given): (CancellationToken, Given)) -> Exec {
        let feed = self.engine.store.bell().feed().clone();
        Exec {
            task: self.run.task,
            run: self.run.id,
            key: step.key.clone(),
            attempt: step.attempt,
            op: op.clone(),
            effect_key: self.effect_key(step),
            authority: self.authority.clone(),
            approval: given.approval,
            cancel,
            blobs: given.blobs,
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
        given: Given,
    ) -> Result<Result<Made, String>, Interrupted> {
        let cancel = self.cancel.child_token();
        let _cancelled_when_dropped = cancel.clone().drop_guard();
        let mut away = AWAY;
        loop {
            // What was begun a moment ago may be a long time ago: a paused process does not know.
            self.still_wanted()?;
            self.still_let()?;
            crash_point!("effect.before");
            let work =
                self.engine
                    .executor
                    .execute(self.exec(step, op, (cancel.clone(), given.clone())));
            let done = self.while_let(work).await?;
            crash_point!("effect.after");
            match done {
                Ok(made) => return Ok(Ok(made)),
                Err(NotDone::NoReply(why)) => return Ok(Err(why)),
                Err(NotDone::NotDelivered(why)) => {
                    tracing::debug!(agent.name = %op.agent, why, "agent away, asking again");
                    self.pause(away).await?;
                    away = (away * 2).min(AWAY_AT_MOST);
                }
            }
        }
    }

    async fn probe(&self, step: &Step, op: &Arc<Op>) -> Result<Probe, Interrupted> {
        let cancel = self.cancel.child_token();
        let _cancelled_when_dropped = cancel.clone().drop_guard();
        let mut away = AWAY;
        loop {
            self.still_running()?;
            let asked =
                self.engine
                    .executor
                    .probe(self.exec(step, op, (cancel.clone(), Given::default())));
            match self
                .while_let(tokio::time::timeout(op.timeout, asked))
                .await?
            {
                Err(_) => return Ok(Probe::Unknown("the far side did not answer in time".into())),
                Ok(Ok(probe)) => return Ok(probe),
                Ok(Err(_)) => self.pause(away).await?,
            }
            away = (away * 2).min(AWAY_AT_MOST);
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

    /// The same for a call that is in hand: an operator's stop cuts it off. What it may have done the
    /// recovery rule decides when the run goes on, as after a crash.
    async fn while_let<T>(&self, work: impl Future<Output = T>) -> Result<T, Interrupted> {
        tokio::select! {
            biased;
            done = self.while_wanted(work) => done,
            () = self.halted.cancelled() => Err(Interrupted(Interruption::Frozen)),
        }
    }

    async fn pause(&self, pause: Duration) -> Result<(), Interrupted> {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.cancel.cancelled() => Err(Interrupted(Interruption::Lost)),
            () = self.to_leave() => Err(Interrupted(Interruption::Frozen)),
        }
    }
}

/// The model that an operation asks.
fn model_of(op: &Op) -> Option<ModelName> {
    match &op.kind {
        OpKind::Think(think) => Some(think.model.clone()),
        OpKind::Tool { .. } | OpKind::Preview { .. } => None,
    }
}

/// Whether an attempt must be durable before it is made: it may change the world, it costs money, or
/// it follows a failed one. What only reads and costs nothing may be forgotten.
fn journaled_before(op: &Op, attempt: u32) -> bool {
    op.effect != Effect::Pure || op.worst_case.usd > Usd::ZERO || attempt > 1
}

/// The report of an effect that nobody can vouch for, with what is known about it.
fn doubtful(step: &Step, effect: EffectKey, why: String) -> Report {
    let known = |kind: &str, value: String| Evidence {
        kind: kind.into(),
        value,
    };
    Report {
        evidence: vec![
            known("why", why),
            known("begun_at_ms", step.begun_at.0.to_string()),
            known("attempt", step.attempt.to_string()),
            known("effect", effect.to_string()),
        ],
        ..Report::failed(Failure::new(FailureKind::Transient, "in doubt"))
    }
}
