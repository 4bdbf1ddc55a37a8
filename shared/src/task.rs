//! A task: what a person asked for, and what has become of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::id::{AgentName, PrincipalId, StepKey, TaskId, TenantId};
use crate::money::{Usage, Usd};
use crate::run::Timestamp;

/// Where a task stands. `done`, `failed` and `cancelled` are final.
///
/// ```text
/// queued → running ⇄ awaiting_human | paused → done | failed | cancelled
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Accepted and durable; nobody works on it yet.
    Queued,
    /// Being worked on.
    Running,
    /// Cannot go on without a person's word.
    AwaitingHuman,
    /// Stopped by a limit or a person; can go on.
    Paused,
    /// Answered.
    Done,
    /// Ended without an answer; `error` says why and `partial` what was reached.
    Failed,
    /// Ended by a person.
    Cancelled,
}

impl TaskState {
    /// All states, in the order of a task's life.
    pub const ALL: [TaskState; 7] = [
        TaskState::Queued,
        TaskState::Running,
        TaskState::AwaitingHuman,
        TaskState::Paused,
        TaskState::Done,
        TaskState::Failed,
        TaskState::Cancelled,
    ];

    /// Whether nothing can follow.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            TaskState::Done | TaskState::Failed | TaskState::Cancelled
        )
    }

    /// The state's name in the store and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            TaskState::Queued => "queued",
            TaskState::Running => "running",
            TaskState::AwaitingHuman => "awaiting_human",
            TaskState::Paused => "paused",
            TaskState::Done => "done",
            TaskState::Failed => "failed",
            TaskState::Cancelled => "cancelled",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<TaskState> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// What a running task is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Finding out who should do it.
    Routing,
    /// Laying out the steps.
    Planning,
    /// Agents at work.
    Executing,
    /// Holding the result against what was asked.
    Validating,
}

impl Phase {
    /// The phase's name in the store and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Routing => "routing",
            Phase::Planning => "planning",
            Phase::Executing => "executing",
            Phase::Validating => "validating",
        }
    }

    /// The phase of this name.
    pub fn parse(name: &str) -> Option<Phase> {
        [
            Phase::Routing,
            Phase::Planning,
            Phase::Executing,
            Phase::Validating,
        ]
        .into_iter()
        .find(|phase| phase.as_str() == name)
    }
}

/// What is asked: the root run's input, fixed at intake.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The words.
    pub text: String,
    /// The agent that must do it, where the asker chose one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The channel that it came in by: `cli`, `http`.
    pub channel: String,
    /// The conversation that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// The asker's own labels, kept and filtered by, never read by a model.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The asker's own limits; never above the configured ones.
    #[serde(default)]
    pub budget: Budget,
    /// What was said before in the conversation.
    #[serde(flatten)]
    pub said: Said,
    /// Which of its principal's waiting tasks goes first: the highest.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i16,
    /// The pictures that came with it; their bytes are kept under their hashes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageRef>,
}

/// A picture, by its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRef {
    /// The SHA-256 of its bytes.
    pub hash: Hash,
    /// What it is: `image/png`, `image/jpeg`, `image/webp` or `image/gif`.
    pub mime: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// Its name, as its sender gave it.
    pub name: String,
}

fn is_zero(priority: &i16) -> bool {
    *priority == 0
}

/// What was said in a conversation before a task of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// A summary of what was said before the turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<String>,
    /// The last turns, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<Turn>,
    /// So many of the oldest turns the task folds into a new summary, before anything else.
    #[serde(default, skip_serializing_if = "is_none")]
    pub fold: u32,
}

fn is_none(fold: &u32) -> bool {
    *fold == 0
}

/// A turn of a conversation: what somebody asked, and what was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who asked.
    pub who: PrincipalId,
    /// What.
    pub asked: String,
    /// The answer.
    pub answered: String,
}

/// Limits that an asker sets for one task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    /// Dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd: Option<Usd>,
    /// Tokens sent and received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
}

/// The task that another one was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its id.
    pub task: TaskId,
    /// The step of its root run from which on everything is done anew; none for a retry, which begins
    /// at the beginning.
    pub step: Option<StepKey>,
}

/// A task as the store holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Whose data it is.
    pub tenant: TenantId,
    /// The person or token that the work is for.
    pub principal: PrincipalId,
    /// Who handed it in; differs from `principal` where a service acts for a user.
    pub submitted_by: PrincipalId,
    /// What was asked.
    pub request: Request,
    /// Where it stands.
    pub state: TaskState,
    /// What it is busy with, while it runs.
    pub phase: Option<Phase>,
    /// The answer, once done.
    pub answer: Option<String>,
    /// What was reached, where it failed, paused or was cancelled.
    pub partial: Option<String>,
    /// Why it failed, in words for the asker.
    pub error: Option<String>,
    /// What the steps that have ended used; once cancelled, also what begun ones may have used.
    pub usage: Usage,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The task that it is a retry or a fork of.
    pub origin: Option<Origin>,
    /// When its journal was pruned: its steps and events are gone, its answer is not.
    pub pruned_at: Option<Timestamp>,
}
