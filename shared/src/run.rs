//! The contract of a durable run: the only way in which agents and the supervisor touch the world.
//!
//! ```text
//!   run function ──act / all / child / ask / sleep──► RunCtx ──► journal ──► Executor (actors)
//!        ▲                                                 │
//!        └───────────── Recorded: served again at replay ──┘
//! ```
//! A run function is ordinary async code over `&dyn RunCtx`. **Between steps it is pure**: no clock,
//! randomness, configuration or IO; given the same recorded outcomes it takes the same way. A step
//! that has an outcome never runs again. Steps are asked for in an order that depends on outcomes
//! alone; parallel branches of several steps are children.
//!
//! This module holds words and ports only. The engine that stands behind them is the supervisor's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::ask::{Approval, Ask};
use crate::blob::Blob;
use crate::event::{Note, Sink};
use crate::hash::Hash;
use crate::id::{AgentName, ModelName, RunId, SignalName, StepKey, TaskId, ToolName};
use crate::label::{Authority, Taint};
use crate::model::ModelRequest;
use crate::money::Usage;
use crate::retry::RetryPolicy;

/// Milliseconds since 1970, by the store's clock.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The moment `duration` later.
    pub fn after(self, duration: Duration) -> Timestamp {
        Timestamp(
            self.0
                .saturating_add(duration.as_millis().min(i64::MAX as u128) as i64),
        )
    }

    /// The moment `duration` earlier.
    pub fn before(self, duration: Duration) -> Timestamp {
        Timestamp(
            self.0
                .saturating_sub(duration.as_millis().min(i64::MAX as u128) as i64),
        )
    }

    /// The time that passed since `earlier`, or zero.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0) as u64)
    }
}

/// What repeating an operation would do to the world. Part of every tool's declaration; it alone
/// decides what happens to a step that was begun and has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It only reads: run it again.
    Pure,
    /// The far side recognises a repetition by its key: run it again with the same key.
    Idempotent,
    /// The far side can be asked whether it happened: ask, then decide.
    Verifiable,
    /// Anything else: in doubt, a person is asked.
    Once,
}

impl Effect {
    /// Whether the operation may simply be done again although it may have happened.
    pub fn repeatable(self) -> bool {
        matches!(self, Effect::Pure | Effect::Idempotent)
    }

    /// The class's name in the store and in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Effect::Pure => "pure",
            Effect::Idempotent => "idempotent",
            Effect::Verifiable => "verifiable",
            Effect::Once => "once",
        }
    }
}

/// Names one effect for ever: the same over retries, recovery and takeover. Passed to the far side
/// as `Idempotency-Key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EffectKey(pub Hash);

impl EffectKey {
    /// The key of the effect that `run` asks for at `key` by an operation with this hash.
    pub fn new(run: RunId, key: &StepKey, op_hash: Hash) -> Self {
        let place = Hash::of_bytes(format!("{run}\n{key}").as_bytes());
        Self(Hash::chain(&[place, op_hash]))
    }
}

impl std::fmt::Display for EffectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// One operation on the world, as data.
#[derive(Clone, Debug)]
pub struct Op {
    /// The agent that does it: its actor holds the model and the tools.
    pub agent: AgentName,
    /// What is to be done.
    pub kind: OpKind,
    /// What repeating it would do.
    pub effect: Effect,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How failed attempts are repeated.
    pub retry: RetryPolicy,
    /// The most that one attempt can cost; charged where the far side does not say what was used.
    pub worst_case: Usage,
    /// The ask of this run by whose answer it may be done; none where nobody need be asked.
    pub approval: Option<SignalName>,
    /// By what it was found that nobody need be asked, or who must be; none where nothing asks. No part of
    /// its identity.
    pub ruled: Option<Ruled>,
    /// It sums up what there is before the work ends: it may draw on what budgets keep back for that.
    pub last: bool,
}

/// What a policy was held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruled {
    /// The policy, by its version.
    pub policy: Hash,
    /// Whether the run had read anything untrusted by then.
    pub tainted: bool,
}

/// What an operation does.
#[derive(Clone, Debug)]
pub enum OpKind {
    /// Ask the agent's model.
    Think(Box<Think>),
    /// Call one of the agent's tools.
    Tool {
        /// The tool.
        tool: ToolName,
        /// Its version: raised when the same arguments begin to mean something else.
        version: u32,
        /// The arguments, already checked against the tool's schema.
        args: Value,
    },
    /// Say what a call would do, without doing it: its value is an [`Action`](crate::ask::Action).
    Preview {
        /// The tool.
        tool: ToolName,
        /// Its version.
        version: u32,
        /// The arguments.
        args: Value,
        /// The policy by which it is looked at.
        policy: Hash,
    },
}

/// A model call. Its identity is what was asked for, not the rendered prompt, so that a better
/// prompt builder strands no live run.
#[derive(Clone, Debug)]
pub struct Think {
    /// The model, for the books; no part of the identity.
    pub model: ModelName,
    /// The hash of the spec that the agent works by.
    pub spec: Hash,
    /// Which call of this run it is.
    pub turn: u32,
    /// The hashes of all outcomes before it.
    pub after: Hash,
    /// What the model is sent. Derived again at replay, never journaled, not part of the identity
    /// but for the names of the tools and the hashes of the pictures in it.
    pub request: ModelRequest,
}

impl Op {
    /// The hash by which a replay recognises the operation: agent, kind, tool and version,
    /// arguments, principal.
    pub fn hash(&self, authority: &Authority) -> Hash {
        Hash::of(&json!({
            "agent": self.agent,
            "kind": self.kind.identity(),
            "tenant": authority.tenant,
            "principal": authority.principal,
        }))
    }

    /// The hash of what is called, whoever calls it.
    pub fn hash_of_call(&self) -> Hash {
        Hash::of(&self.kind.identity())
    }
}

impl Think {
    /// Pictures are part of it where there are any: calls of the time before stay what they were.
    fn identity(&self) -> Value {
        let offered = self.request.tools.iter().map(|tool| &tool.name);
        let mut identity = json!({
            "think": self.turn,
            "spec": self.spec,
            "after": self.after,
            "offered": offered.collect::<Vec<_>>(),
        });
        let images: Vec<Hash> = self.request.images().map(|image| image.hash).collect();
        if !images.is_empty() {
            identity["images"] = json!(images);
        }
        identity
    }
}

impl OpKind {
    fn identity(&self) -> Value {
        match self {
            OpKind::Think(think) => think.identity(),
            OpKind::Tool {
                tool,
                version,
                args,
            } => {
                json!({"tool": tool, "version": version, "args": args})
            }
            OpKind::Preview {
                tool,
                version,
                args,
                policy,
            } => {
                json!({"preview": tool, "version": version, "args": args, "policy": policy})
            }
        }
    }

    /// A word for it in events and output: `think`, the tool's name, or `preview`.
    pub fn name(&self) -> &str {
        match self {
            OpKind::Think(_) => "think",
            OpKind::Tool { tool, .. } => tool.as_str(),
            OpKind::Preview { .. } => "preview",
        }
    }
}

/// A run to be started by another one: another agent's part of the task.
#[derive(Clone, Debug)]
pub struct Child {
    /// The agent that does it.
    pub agent: AgentName,
    /// What the agent's run is given; part of the step's identity.
    pub input: Value,
}

/// What the journal holds of a finished step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// How it ended.
    pub outcome: Outcome,
    /// What all its attempts used.
    pub usage: Usage,
    /// Every attempt, in order; the last one led to the outcome.
    pub attempts: Vec<Attempt>,
    /// Where untrusted text in the outcome came from.
    pub taint: Taint,
    /// What proves it: the file's hash, the message's id, the HTTP status.
    pub evidence: Vec<Evidence>,
    /// When it ended.
    pub at: Timestamp,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done, and this is its result.
    Done(Value),
    /// It was not done, or not to the end, and will not be tried again.
    Failed(Failure),
    /// It was begun and nobody can tell whether it happened.
    InDoubt {
        /// The effect in question.
        effect: EffectKey,
    },
}

impl Recorded {
    /// The hash of the outcome, for the identity of what is asked next.
    pub fn digest(&self) -> Hash {
        match &self.outcome {
            Outcome::Done(value) => Hash::of(value),
            Outcome::Failed(failure) => Hash::of_bytes(failure.message.as_bytes()),
            Outcome::InDoubt { effect } => effect.0,
        }
    }
}

/// One attempt at an operation: journaled and paid, whatever came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub ms: u64,
    /// What it used.
    pub usage: Usage,
    /// Why it failed, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// Something in the world that proves an effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What it is: `sha256`, `http_status`, `path`, `message_id`.
    pub kind: String,
    /// Its value.
    pub value: String,
}

/// Why an operation failed, in words for the model and for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure it was; retry and reprompt are decided from this alone.
    pub kind: FailureKind,
    /// What failed, with the name and the value. Never holds a secret.
    pub message: String,
    /// The far side asked for this pause in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<f64>,
    /// The far side may have done it all the same: the request went out and no answer came.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_have_happened: bool,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// It may work the next time: overload, a cut connection, a time-out.
    Transient,
    /// The call itself is wrong; the message says how to mend it.
    Refused,
    /// It will not work the next time either.
    Permanent,
    /// The model's answer could not be understood.
    Malformed,
    /// A limit forbids it: the task's own, or one of somebody who pays.
    Limit,
    /// The worker died over it; what came of it nobody recorded.
    Lost,
    /// It was cancelled.
    Cancelled,
}

impl Failure {
    /// A failure that certainly had no effect.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after_s: None,
            may_have_happened: false,
        }
    }

    /// The same failure, of a request that may have reached its target.
    pub fn may_have_happened(mut self) -> Self {
        self.may_have_happened = true;
        self
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// The engine takes the run out of memory: it is parked, frozen, cancelled, or no longer ours.
/// Always handed on with `?`, never caught: the run will be replayed to this point, or is over.
#[derive(Debug, thiserror::Error)]
#[error("run interrupted: {0}")]
pub struct Interrupted(pub Interruption);

/// Why a run left memory. Read by the engine's driver alone.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Interruption {
    /// It waits for a signal, a child or a time, and costs nothing meanwhile.
    #[error("parked")]
    Parked {
        /// When it wakes by itself at the latest.
        until: Option<Timestamp>,
    },
    /// Another worker owns it now, or it was ended from outside.
    #[error("no longer ours")]
    Lost,
    /// The process is going down; the run goes on at the next start.
    #[error("frozen")]
    Frozen,
    /// The store could not be reached or written.
    #[error("store: {0}")]
    Store(String),
    /// The code asked for something else than the journal holds at this key.
    #[error("journal mismatch at step {key}: journaled {journaled:?}, asked {asked:?}")]
    Mismatch {
        /// The step.
        key: StepKey,
        /// The hash in the journal.
        journaled: Hash,
        /// The hash of what was asked for.
        asked: Hash,
    },
}

/// The world as a run sees it. Object safe; implemented by the journal engine, and by readers that
/// walk a finished journal again.
#[async_trait]
pub trait RunCtx: Send + Sync {
    /// Does `op`, or serves its recorded outcome. Memoized by `key`, which is unique in the run.
    async fn act(&self, key: StepKey, op: Op) -> Result<Recorded, Interrupted>;

    /// Does independent operations in parallel; outcomes come in the order of the calls.
    async fn all(&self, ops: Vec<(StepKey, Op)>) -> Result<Vec<Recorded>, Interrupted>;

    /// Starts another agent's run with its own journal and waits for its end. The outcome's value
    /// is what that run returned; it is journaled here too.
    async fn child(&self, key: StepKey, child: Child) -> Result<Recorded, Interrupted>;

    /// Asks people, and waits for what they say, for weeks if need be; the ask is known to them from the
    /// commit on that begins the wait. `None` when nobody said anything in time; an answer after that
    /// changes nothing. What is asked is no part of the step's identity, its name is.
    async fn ask(
        &self,
        name: SignalName,
        within: Duration,
        ask: Ask,
    ) -> Result<Option<Value>, Interrupted>;

    /// Waits; durable and out of memory when long.
    async fn sleep(&self, key: StepKey, duration: Duration) -> Result<(), Interrupted>;

    /// The time, by the store's clock, as it was when this was first asked.
    async fn now(&self, key: StepKey) -> Result<Timestamp, Interrupted>;

    /// Tells watchers something that the run's code decided. Committed with the next new step, so a
    /// replay tells nothing twice. Costs no commit of its own.
    fn note(&self, note: Note);
}

/// One attempt at an operation, as it is given to those who do it.
#[derive(Clone)]
pub struct Exec {
    /// The task it belongs to.
    pub task: TaskId,
    /// The run that asks.
    pub run: RunId,
    /// The step.
    pub key: StepKey,
    /// Which attempt it is, from 1; recovery counts on.
    pub attempt: u32,
    /// What is to be done.
    pub op: Arc<Op>,
    /// The effect's name, to be passed on as `Idempotency-Key`.
    pub effect_key: EffectKey,
    /// For whom, and on what.
    pub authority: Arc<Authority>,
    /// By what it may be done, where people were asked.
    pub approval: Option<Arc<Approval>>,
    /// Cancelled when the task is, or when the attempt's time is up.
    pub cancel: CancellationToken,
    /// The bytes of the pictures that a model call shows.
    pub blobs: Arc<[Blob]>,
    /// Where live text goes.
    pub sink: Sink,
    /// The trace that this work belongs to; actors' own message spans have no parent.
    pub span: tracing::Span,
}

/// What came of one attempt.
#[derive(Clone, Debug)]
pub struct Report {
    /// The result or the failure.
    pub result: Result<Value, Failure>,
    /// What the attempt used; `None` where the far side did not say.
    pub usage: Option<Usage>,
    /// Where untrusted text in the result came from.
    pub taint: Taint,
    /// What proves it.
    pub evidence: Vec<Evidence>,
    /// What it made, to be kept with the outcome; the evidence names each by its hash.
    pub blobs: Vec<Blob>,
}

impl Report {
    /// A failure that cost nothing.
    pub fn failed(failure: Failure) -> Self {
        Self {
            result: Err(failure),
            usage: Some(Usage::default()),
            taint: Taint::NONE,
            evidence: Vec::new(),
            blobs: Vec::new(),
        }
    }
}

/// An attempt that was made: what came of it, and how long it took once it had begun.
#[derive(Clone, Debug)]
pub struct Made {
    /// What came of it.
    pub report: Report,
    /// Milliseconds of work; waiting for a place to work in is not part of it.
    pub ms: u64,
}

/// What the far side says about an effect that was begun.
#[derive(Clone, Debug)]
pub enum Probe {
    /// It happened, and this is its report.
    Happened(Report),
    /// It did not happen.
    DidNot,
    /// Nobody can tell.
    Unknown(String),
}

/// Why an operation brought no report. Never an outcome: the engine decides by the effect class.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// Nobody took it: certainly not begun.
    #[error("not delivered: {0}")]
    NotDelivered(String),
    /// Somebody took it and died over it: it may have happened.
    #[error("no reply: {0}")]
    NoReply(String),
}

/// Those who do the work: the agents' actors, behind one port.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Makes one attempt, of at most `op.timeout` once it has begun. Returns when the work is over,
    /// failed, out of time, or known to be lost.
    async fn execute(&self, exec: Exec) -> Result<Made, NotDone>;

    /// Asks the far side whether an earlier attempt at this operation happened.
    async fn probe(&self, exec: Exec) -> Result<Probe, NotDone>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> Authority {
        Authority {
            tenant: "default".into(),
            principal: "cli".into(),
            material: None,
            output: None,
        }
    }

    fn call(args: Value, version: u32) -> Op {
        Op {
            agent: "executor".into(),
            kind: OpKind::Tool {
                tool: "write_file".into(),
                version,
                args,
            },
            effect: Effect::Verifiable,
            timeout: Duration::from_secs(1),
            retry: RetryPolicy::default(),
            worst_case: Usage::default(),
            approval: None,
            ruled: None,
            last: false,
        }
    }

    #[test]
    fn an_operation_is_known_by_what_it_does_and_for_whom() {
        let base = call(json!({"path": "a", "text": "b"}), 1).hash(&authority());
        assert_eq!(
            base,
            call(json!({"text": "b", "path": "a"}), 1).hash(&authority())
        );
        assert_ne!(
            base,
            call(json!({"path": "a", "text": "c"}), 1).hash(&authority())
        );
        assert_ne!(
            base,
            call(json!({"path": "a", "text": "b"}), 2).hash(&authority())
        );
        let other = Authority {
            principal: "someone".into(),
            ..authority()
        };
        assert_ne!(
            base,
            call(json!({"path": "a", "text": "b"}), 1).hash(&other)
        );
    }

    #[test]
    fn an_effect_key_is_stable_and_differs_by_place() {
        let (run, hash) = (RunId::fresh(), Hash::of_bytes(b"op"));
        let key = |step: &str| EffectKey::new(run, &step.into(), hash);
        assert_eq!(key("a"), key("a"));
        assert_ne!(key("a"), key("b"));
        assert_ne!(key("a"), EffectKey::new(RunId::fresh(), &"a".into(), hash));
    }
}
