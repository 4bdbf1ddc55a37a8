//! The one event enum. Everything that watches reads it: progress on the command line, server-sent
//! events, logs, metrics, traces. Events are committed together with the journal rows that they tell
//! of, numbered from 1 within their task, so a replay adds none and a reader can go on where it
//! stopped. Live text goes beside them and may be lost.

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::ask::AskKind;
use crate::id::{AgentName, AskId, RunId, StepKey, TaskId};
use crate::money::Usage;
use crate::run::{Evidence, Timestamp};
use crate::task::{Phase, TaskState};

/// An event as it stands in the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its number within the task, from 1, without gaps.
    pub seq: i64,
    /// The task.
    pub task: TaskId,
    /// The run that it happened in.
    pub run: RunId,
    /// When it was committed.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The task, or an agent's part of it, changed its state.
    State {
        /// The new state.
        state: TaskState,
        /// Why.
        reason: String,
        /// The agent whose run it is; none for the task itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<AgentName>,
    },
    /// The task entered a phase.
    Phase {
        /// The phase.
        phase: Phase,
    },
    /// A step was begun.
    Begun {
        /// The step.
        key: StepKey,
        /// Who does it.
        agent: AgentName,
        /// What: `think`, or a tool's name.
        what: String,
        /// A short word about the input, for people.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
        /// Which attempt it is.
        attempt: u32,
    },
    /// An attempt failed and another follows.
    Retrying {
        /// The step.
        key: StepKey,
        /// Who does it.
        agent: AgentName,
        /// What it was.
        what: String,
        /// Why it failed.
        error: String,
        /// The pause before the next attempt.
        pause_ms: u64,
    },
    /// A step has its outcome.
    Ended {
        /// The step.
        key: StepKey,
        /// Who did it.
        agent: AgentName,
        /// What: `think`, or a tool's name.
        what: String,
        /// A short word about the input or the result, for people.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
        /// Why it failed, where it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// What it used, all attempts together.
        usage: Usage,
        /// How long its last attempt took.
        ms: u64,
    },
    /// A step was begun, has no outcome, and nobody can tell whether its effect happened.
    InDoubt {
        /// The step.
        key: StepKey,
        /// Who did it.
        agent: AgentName,
        /// The tool.
        what: String,
        /// What is known.
        evidence: Vec<Evidence>,
    },
    /// People are asked something, and the run waits for what they say.
    Asked {
        /// By what it is answered.
        ask: AskId,
        /// Why they are asked.
        kind: AskKind,
        /// What it is about.
        title: String,
    },
    /// Something that the run's own code decided, with its reason.
    Decided {
        /// What was decided.
        what: String,
        /// Why.
        reason: String,
    },
    /// What its spending led to: admins are told of it, too. Once for each key.
    Alert {
        /// What it is about: `unusual/…` a run that uses far more than usual, `budget/…` a limit.
        key: String,
        /// In words.
        text: String,
    },
}

impl Event {
    /// Whether nothing follows it in its task.
    pub fn ends_task(&self) -> bool {
        matches!(self, Event::State { state, agent: None, .. } if state.is_final())
    }
}

/// What a run's code can tell watchers through [`crate::run::RunCtx::note`].
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// The task entered a phase.
    Phase(Phase),
    /// The task waits for a person, or no longer does.
    State {
        /// The new state.
        state: TaskState,
        /// Why.
        reason: String,
    },
    /// A decision with its reason.
    Decided {
        /// What was decided.
        what: String,
        /// Why.
        reason: String,
    },
}

/// What a watcher of a live process receives.
#[derive(Clone, Debug)]
pub enum Live {
    /// A committed event.
    Event(Recorded),
    /// A piece of a model's text as it comes in. A new attempt starts the text anew.
    Delta {
        /// The task.
        task: TaskId,
        /// The run.
        run: RunId,
        /// The step.
        key: StepKey,
        /// The attempt.
        attempt: u32,
        /// The text.
        text: String,
    },
}

/// Where one attempt's live text goes. Lossy: nobody waits for a slow watcher.
#[derive(Clone)]
pub struct Sink {
    channel: Option<broadcast::Sender<Live>>,
    task: TaskId,
    run: RunId,
    key: StepKey,
    attempt: u32,
}

impl Sink {
    /// The sink of one attempt.
    pub fn new(
        channel: broadcast::Sender<Live>,
        (task, run): (TaskId, RunId),
        key: StepKey,
        attempt: u32,
    ) -> Self {
        Self {
            channel: Some(channel),
            task,
            run,
            key,
            attempt,
        }
    }

    /// A sink that nobody reads.
    pub fn closed() -> Self {
        Self {
            channel: None,
            task: TaskId(uuid::Uuid::nil()),
            run: RunId(uuid::Uuid::nil()),
            key: "".into(),
            attempt: 0,
        }
    }

    /// Whether anybody reads it; a model need not stream for nobody.
    pub fn is_watched(&self) -> bool {
        self.channel
            .as_ref()
            .is_some_and(|c| c.receiver_count() > 0)
    }

    /// Passes on a piece of text.
    pub fn text(&self, text: &str) {
        if let Some(channel) = &self.channel {
            // Nobody listening is the usual case.
            let _ = channel.send(Live::Delta {
                task: self.task,
                run: self.run,
                key: self.key.clone(),
                attempt: self.attempt,
                text: text.to_owned(),
            });
        }
    }
}
