//! What people and programs see of a task: the one shape that HTTP answers, the command line prints
//! as JSON, and `ask` reads, whether it speaks to a server or to its own engine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use shared::ask::{AskKind, Asked};
use shared::feedback::{Feedback, Source};
use shared::id::{AskId, RunId, TaskId};
use shared::run::Outcome;
use shared::store::{AskFilter, Run, Step, Store};
use shared::task::{Origin, Task, TaskState};

use crate::files::{self, TaskFile};

/// Asks that are shown with their task, at most.
const ASKS: u32 = 50;

/// A task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: TaskId,
    /// queued, running, awaiting_human, paused, done, failed or cancelled.
    pub state: String,
    /// It is queued or running, and no process is there to work on it: it goes on at the next
    /// `majordomo serve` or `majordomo ask`. Absent otherwise, and in what an instance answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub halted: bool,
    /// routing, planning, executing or validating, while it runs.
    pub phase: Option<String>,
    /// What was asked.
    pub text: String,
    /// The agent that the asker chose.
    pub agent: Option<String>,
    /// The conversation that it belongs to.
    pub thread: Option<String>,
    /// The person or token that it is for.
    pub user: String,
    /// The asker's own labels.
    pub metadata: BTreeMap<String, String>,
    /// The answer, once done.
    pub answer: Option<String>,
    /// What was reached, where it failed, paused or was cancelled.
    pub partial: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// What it used so far.
    pub cost: CostView,
    /// When it was accepted, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// When it last changed.
    pub updated_at_ms: i64,
    /// The task that this one is a retry of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub retry_of: Option<TaskId>,
    /// The task that this one is a fork of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub fork_of: Option<TaskId>,
    /// The step from which on the fork does everything anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork_from: Option<String>,
    /// When its journal was pruned, in milliseconds since 1970: no steps and events are kept of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned_at_ms: Option<i64>,
    /// The files that it wrote. Absent in lists, and where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<TaskFile>,
    /// What people are asked in it and have not decided yet, the newest first, at most 50. Absent in lists,
    /// and where there is nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<AskRef>,
    /// What people think of it. Absent in lists, and where nobody thinks anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub feedback: Vec<FeedbackView>,
    /// What was done, in order. Absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<StepView>>,
}

/// What somebody thinks of a task's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Feedback)]
pub struct FeedbackView {
    /// Who.
    pub who: String,
    /// said; or noticed without words: edited (arguments changed before approval), lapsed (nobody answered
    /// what was asked), cancelled (by whom it was for), rephrased (asked for again shortly after).
    #[schema(value_type = String)]
    pub source: Source,
    /// Whether they are content; never where it was noticed.
    pub good: bool,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

impl From<Feedback> for FeedbackView {
    fn from(feedback: Feedback) -> Self {
        Self {
            who: feedback.who.to_string(),
            source: feedback.source,
            good: feedback.good,
            text: feedback.text,
            at_ms: feedback.at.0,
        }
    }
}

/// Something that a task waits for people to decide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AskRef {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: AskId,
    /// approval, question, doubt or trouble.
    #[schema(value_type = String)]
    pub kind: AskKind,
    /// What it is about, in one line.
    pub title: String,
}

impl From<Asked> for AskRef {
    fn from(asked: Asked) -> Self {
        Self {
            id: asked.id,
            kind: asked.ask.kind,
            title: asked.ask.title,
        }
    }
}

/// What work used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CostView {
    /// Dollars.
    pub usd: f64,
    /// Tokens sent.
    pub tokens_in: u64,
    /// Tokens received.
    pub tokens_out: u64,
}

impl From<shared::money::Usage> for CostView {
    fn from(usage: shared::money::Usage) -> Self {
        Self {
            usd: usage.usd.dollars(),
            tokens_in: usage.tokens_in,
            tokens_out: usage.tokens_out,
        }
    }
}

/// One step of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    /// The run that it belongs to.
    #[schema(value_type = String, format = "uuid")]
    pub run: RunId,
    /// Its key in the run.
    pub key: String,
    /// think, tool, child, signal, sleep or now.
    pub kind: String,
    /// Who does it.
    pub agent: Option<String>,
    /// What: `think`, or a tool's or an agent's name.
    pub what: String,
    /// begun, done, failed or in_doubt.
    pub state: String,
    /// Why it failed.
    pub error: Option<String>,
    /// Attempts made.
    pub attempts: u32,
    /// What it used. A child's sum is its own steps' sum over again.
    pub cost: CostView,
    /// When it was begun, in milliseconds since 1970.
    pub begun_at_ms: i64,
    /// How long its attempts took.
    pub ms: u64,
}

impl TaskView {
    /// A task without its steps.
    pub fn of(task: Task) -> Self {
        let (retry_of, fork_of, fork_from) = match task.origin {
            None => (None, None, None),
            Some(Origin { task, step: None }) => (Some(task), None, None),
            Some(Origin { task, step }) => (None, Some(task), step.map(|key| key.to_string())),
        };
        Self {
            id: task.id,
            state: task.state.as_str().into(),
            halted: false,
            phase: task.phase.map(|phase| phase.as_str().into()),
            text: task.request.text,
            agent: task.request.agent.map(|agent| agent.to_string()),
            thread: task.request.thread,
            user: task.principal.to_string(),
            metadata: task.request.metadata,
            answer: task.answer,
            partial: task.partial,
            error: task.error,
            cost: task.usage.into(),
            created_at_ms: task.created_at.0,
            updated_at_ms: task.updated_at.0,
            retry_of,
            fork_of,
            fork_from,
            pruned_at_ms: task.pruned_at.map(|at| at.0),
            files: Vec::new(),
            asks: Vec::new(),
            feedback: Vec::new(),
            steps: None,
        }
    }

    /// The same, seen where no process works on tasks.
    pub fn at_rest(mut self) -> Self {
        use TaskState::{Queued, Running};
        self.halted = matches!(TaskState::parse(&self.state), Some(Queued | Running));
        self
    }

    /// A task with the steps of all its runs, in the order in which they were begun, and with what it waits
    /// for people to decide.
    pub async fn with_steps(store: &dyn Store, task: Task) -> Result<Self, shared::store::Error> {
        let mut steps = Vec::new();
        let journal = store.journal(&task.tenant, task.id).await?;
        for (run, of_run) in &journal {
            steps.extend(of_run.iter().map(|step| StepView::of(run, step)));
        }
        steps.sort_by_key(|step| step.begun_at_ms);
        let open = AskFilter {
            task: Some(task.id),
            open: true,
            limit: ASKS,
            ..AskFilter::default()
        };
        let asks = match task.state.is_final() {
            true => Vec::new(),
            false => store.asks().list(&task.tenant, &open).await?,
        };
        let feedback = store.feedback().of(&task.tenant, task.id).await?;
        let mut view = Self::of(task);
        view.feedback = feedback.into_iter().map(Into::into).collect();
        view.files = files::of(&journal);
        view.asks = asks.into_iter().map(Into::into).collect();
        view.steps = Some(steps);
        Ok(view)
    }
}

impl StepView {
    fn of(run: &Run, step: &Step) -> Self {
        let recorded = step.recorded.as_ref();
        let (state, error) = match recorded.map(|recorded| &recorded.outcome) {
            None => ("begun", None),
            Some(Outcome::Done(_)) => ("done", None),
            Some(Outcome::Failed(failure)) => ("failed", Some(failure.message.clone())),
            Some(Outcome::InDoubt { .. }) => ("in_doubt", None),
        };
        Self {
            run: run.id,
            key: step.key.to_string(),
            kind: step.kind.as_str().into(),
            agent: step.agent.as_ref().map(ToString::to_string),
            what: step.what.clone(),
            state: state.into(),
            error,
            attempts: step.attempt,
            cost: recorded.map(|r| r.usage.into()).unwrap_or_default(),
            begun_at_ms: step.begun_at.0,
            ms: recorded.map_or(0, |r| r.attempts.iter().map(|attempt| attempt.ms).sum()),
        }
    }
}
