//! What an operator stops and lets go on.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use shared::id::TaskId;
use shared::store::{Halt, Halted};

use crate::halt::{self, Target};

/// What is to be stopped: one of `all`, `agent` and `task`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopOrder {
    /// Everything: no task is taken in, none goes on.
    #[serde(default)]
    pub all: bool,
    /// This agent: its parts wait, all else goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// This task: it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub task: Option<TaskId>,
    /// Why; whoever is refused reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256)]
    pub reason: Option<String>,
}

/// What is to go on: one of `all`, `agent` and `task`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeOrder {
    /// Everything. Agents that were stopped by name, and tasks, stay so.
    #[serde(default)]
    pub all: bool,
    /// This agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// This task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub task: Option<TaskId>,
}

impl StopOrder {
    /// To stop this.
    pub fn of(target: &Target, reason: String) -> Self {
        let ResumeOrder { all, agent, task } = ResumeOrder::of(target);
        let reason = Some(reason).filter(|reason| !reason.is_empty());
        Self {
            all,
            agent,
            task,
            reason,
        }
    }
}

impl ResumeOrder {
    /// To let this go on.
    pub fn of(target: &Target) -> Self {
        let order = Self::default();
        match target {
            Target::Work(Halted::All) => Self { all: true, ..order },
            Target::Work(Halted::Agent(name)) => Self {
                agent: Some(name.to_string()),
                ..order
            },
            Target::Task(task) => Self {
                task: Some(*task),
                ..order
            },
        }
    }
}

/// What stands still.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StopPage {
    /// One for each word that stands.
    pub halted: Vec<HaltView>,
}

/// Something that an operator has stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HaltView {
    /// `all` or `agent`.
    pub what: String,
    /// Which agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Why; may be empty.
    pub reason: String,
    /// Who stopped it.
    pub by: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// `store`, or `file` where the file STOP of this process does.
    pub source: String,
    /// All of it in words, with what lets it go on.
    pub says: String,
}

impl From<Halt> for HaltView {
    fn from(halt: Halt) -> Self {
        let says = halt::in_words(&halt);
        let (what, agent) = match halt.what {
            Halted::All => ("all", None),
            Halted::Agent(name) => ("agent", Some(name.to_string())),
        };
        let source = match halt.tenant {
            Some(_) => "store",
            None => "file",
        };
        Self {
            what: what.into(),
            agent,
            reason: halt.reason,
            by: halt.by.to_string(),
            at_ms: halt.at.0,
            source: source.into(),
            says,
        }
    }
}
