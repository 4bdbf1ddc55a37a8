//! Waiting: for an answer, a child's end, a time. A run that waits holds no slot, and when it takes
//! long it leaves memory.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use shared::ask::Ask;
use shared::hash::Hash;
use shared::id::{SignalName, StepKey};
use shared::label::Taint;
use shared::money::Usage;
use shared::run::{Interrupted, Interruption, Outcome, Recorded, Timestamp};
use shared::store::{Appended, Change, Step, StepKind};

use super::{Journal, tell};

impl Journal {
    /// Waits until `look` finds something, or until the deadline (`None`). Holds no slot meanwhile;
    /// when it takes long the run leaves memory.
    pub(super) async fn wait<T, F: Future<Output = Result<Option<T>, Interrupted>>>(
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
                () = self.to_leave() => return Err(Interrupted(Interruption::Frozen)),
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
        let run = self.engine.store.run(self.tenant(), self.run.id).await?;
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
                () = self.to_leave() => return Err(Interrupted(Interruption::Frozen)),
            }
        }
        Ok(())
    }

    /// Records a step that waited and has its value.
    pub(super) async fn settle(
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
            ask: None,
        };
        match self.append(change, Vec::new()).await? {
            Appended::Written => Ok(Some(recorded)),
            Appended::Refused if conditional => Ok(None),
            Appended::Refused | Appended::Over => Err(Interrupted(Interruption::Lost)),
        }
    }

    /// The step that a wait stands on: the one journaled before, or a new one with its deadline, and with
    /// what people are asked.
    pub(super) async fn waiting_step(
        &self,
        (key, kind, what): (StepKey, StepKind, &str),
        within: Option<Duration>,
        ask: Option<(SignalName, Ask)>,
    ) -> Result<Step, Interrupted> {
        let op_hash = Hash::of(&json!({"wait": kind, "what": what}));
        if let Some(step) = self.known(&key, op_hash)? {
            return Ok(step);
        }
        self.still_running()?;
        let mut step = self.fresh(key, kind, what, op_hash);
        step.deadline = within.map(|within| step.begun_at.after(within));
        let asked = |(name, ask): &(_, _)| tell::asked(self.run.id, (name, ask));
        let events = ask.as_ref().map(asked).into_iter().collect();
        let change = Change::Step {
            step: Box::new(step.clone()),
            spawn: None,
            unless_signal: None,
            ask: ask.map(Box::new),
        };
        self.write_change(change, events).await?;
        Ok(step)
    }
}

/// The answer that a waiting step recorded; none where its time ran out.
pub(super) fn answer_of(recorded: Recorded) -> Option<Value> {
    match recorded.outcome {
        Outcome::Done(mut value) => Some(value["answer"].take()).filter(|answer| !answer.is_null()),
        Outcome::Failed(_) | Outcome::InDoubt { .. } => None,
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
