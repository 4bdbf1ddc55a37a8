//! Walks a journal again without doing anything: every operation that the run's code asks for is
//! told to a reader together with its recorded outcome, and the walk ends at the first step that has
//! none. This is how a trace shows what a model was sent, which no journal holds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::try_join_all;
use serde_json::Value;

use shared::ask::Ask;
use shared::event::Note;
use shared::id::{SignalName, StepKey};
use shared::run::{
    Child, Interrupted, Interruption, Op, OpKind, Outcome, Recorded, RunCtx, Timestamp,
};
use shared::store::{Run, Step};

/// What the run's code did, in order.
#[derive(Clone, Debug)]
pub enum Seen {
    /// An operation with its outcome; none where it is still going on.
    Op {
        /// Its step.
        key: StepKey,
        /// What was asked for.
        op: Box<Op>,
        /// What came of it.
        recorded: Option<Box<Recorded>>,
    },
    /// A child's run.
    Child {
        /// Its step.
        key: StepKey,
        /// Who, with what.
        child: Child,
        /// What came of it.
        recorded: Option<Box<Recorded>>,
    },
    /// Something that the code decided.
    Note(Note),
    /// The journal holds something else than the code asks for now.
    Mismatch(StepKey),
}

/// A [`RunCtx`] that only reads.
pub struct Replay {
    authority: shared::label::Authority,
    steps: HashMap<StepKey, Step>,
    seen: Mutex<Vec<Seen>>,
}

impl Replay {
    /// A walk over these steps of this run.
    pub fn new(run: &Run, steps: Vec<Step>) -> Self {
        Self {
            authority: run.authority.clone(),
            steps: steps
                .into_iter()
                .map(|step| (step.key.clone(), step))
                .collect(),
            seen: Mutex::default(),
        }
    }

    /// What was seen.
    pub fn into_seen(self) -> Vec<Seen> {
        self.seen
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, seen: Seen) {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(seen);
    }

    fn recorded(&self, key: &StepKey) -> Option<Recorded> {
        self.steps.get(key).and_then(|step| step.recorded.clone())
    }
}

fn end_of_journal() -> Interrupted {
    Interrupted(Interruption::Parked { until: None })
}

#[async_trait]
impl RunCtx for Replay {
    async fn act(&self, key: StepKey, op: Op) -> Result<Recorded, Interrupted> {
        let asked = op.hash(&self.authority);
        if let Some(step) = self.steps.get(&key).filter(|step| step.op_hash != asked) {
            let journaled = step.op_hash;
            self.tell(Seen::Mismatch(key.clone()));
            return Err(Interrupted(Interruption::Mismatch {
                key,
                journaled,
                asked,
            }));
        }
        let recorded = self.recorded(&key);
        self.tell(Seen::Op {
            key,
            op: Box::new(op),
            recorded: recorded.clone().map(Box::new),
        });
        recorded.ok_or_else(end_of_journal)
    }

    async fn all(&self, ops: Vec<(StepKey, Op)>) -> Result<Vec<Recorded>, Interrupted> {
        try_join_all(ops.into_iter().map(|(key, op)| self.act(key, op))).await
    }

    async fn child(&self, key: StepKey, child: Child) -> Result<Recorded, Interrupted> {
        let recorded = self.recorded(&key);
        self.tell(Seen::Child {
            key,
            child,
            recorded: recorded.clone().map(Box::new),
        });
        recorded.ok_or_else(end_of_journal)
    }

    async fn ask(
        &self,
        name: SignalName,
        _: Duration,
        _: Ask,
    ) -> Result<Option<Value>, Interrupted> {
        let recorded = self.recorded(&StepKey::from(format!("signal/{name}")));
        match recorded.ok_or_else(end_of_journal)?.outcome {
            Outcome::Done(mut value) => {
                Ok(Some(value["answer"].take()).filter(|answer| !answer.is_null()))
            }
            Outcome::Failed(_) | Outcome::InDoubt { .. } => Ok(None),
        }
    }

    async fn sleep(&self, key: StepKey, _: Duration) -> Result<(), Interrupted> {
        self.recorded(&key).map(drop).ok_or_else(end_of_journal)
    }

    async fn now(&self, key: StepKey) -> Result<Timestamp, Interrupted> {
        let recorded = self.recorded(&key).ok_or_else(end_of_journal)?;
        Ok(recorded.at)
    }

    fn note(&self, note: Note) {
        self.tell(Seen::Note(note));
    }
}

/// A word for what an operation was asked to do: the messages of a model call, or a tool's arguments.
pub fn input_of(op: &Op) -> Value {
    match &op.kind {
        OpKind::Think(think) => serde_json::to_value(&think.request).unwrap_or_default(),
        OpKind::Tool { args, .. } | OpKind::Preview { args, .. } => args.clone(),
    }
}
