//! The full story of a task: every model call with what was sent and what came back, every tool
//! call, every attempt, cost and decision. What the journal does not hold (prompts) is derived again
//! by walking it with the same code that made it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use shared::event::Note;
use shared::id::{RunId, StepKey};
use shared::run::{Op, OpKind, Outcome, Recorded};
use shared::store::{Run, Store};
use shared::task::Task;

use crate::engine::Program;
use crate::engine::replay::{Replay, Seen, input_of};
use crate::view::{CostView, TaskView};

/// The story.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Transcript {
    /// The task with its steps.
    pub task: TaskView,
    /// What happened, run by run: the supervisor's first, then each agent's.
    pub entries: Vec<Entry>,
}

/// One thing that happened.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Entry {
    /// The run.
    #[schema(value_type = String, format = "uuid")]
    pub run: RunId,
    /// Whose run it is.
    pub agent: String,
    /// think, tool, child, note or mismatch.
    pub kind: String,
    /// The step's key; empty for notes.
    pub key: String,
    /// What it is, in a few words.
    pub title: String,
    /// What was asked: the messages and tools of a model call, a tool's arguments, a child's
    /// assignment.
    #[schema(value_type = Object)]
    pub input: Value,
    /// What came of it; null while it goes on.
    #[schema(value_type = Object)]
    pub output: Value,
    /// Every attempt.
    #[schema(value_type = Vec<Object>)]
    pub attempts: Vec<shared::run::Attempt>,
    /// What all attempts used.
    pub cost: CostView,
}

/// Tells the story of a task.
pub async fn of(
    store: &dyn Store,
    programs: &dyn Program,
    task: Task,
) -> Result<Transcript, shared::store::Error> {
    let mut entries = Vec::new();
    for (run, steps) in store.journal(&task.tenant, task.id).await? {
        let replay = Replay::new(&run, steps);
        // However the walk ends, what it saw on the way is the story.
        let _ = programs.run(&replay, &run).await;
        entries.extend(replay.into_seen().into_iter().map(|seen| entry(&run, seen)));
    }
    let task = TaskView::with_steps(store, task).await?;
    Ok(Transcript { task, entries })
}

fn entry(run: &Run, seen: Seen) -> Entry {
    let agent = run
        .agent
        .as_ref()
        .map_or("supervisor", |agent| agent.as_str());
    let mut entry = Entry {
        run: run.id,
        agent: agent.to_owned(),
        kind: String::new(),
        key: String::new(),
        title: String::new(),
        input: Value::Null,
        output: Value::Null,
        attempts: Vec::new(),
        cost: CostView::default(),
    };
    match seen {
        Seen::Op { key, op, recorded } => entry.operation(&key, &op, recorded.as_deref()),
        Seen::Child {
            key,
            child,
            recorded,
        } => {
            entry.kind = "child".into();
            entry.key = key.to_string();
            entry.title = format!("hands over to {}", child.agent);
            entry.input = child.input;
            entry.outcome(recorded.as_deref());
        }
        Seen::Note(note) => entry.note(note),
        Seen::Mismatch(key) => {
            entry.kind = "mismatch".into();
            entry.key = key.to_string();
            entry.title = "the journal holds something else than this version would ask for".into();
        }
    }
    entry
}

impl Entry {
    fn operation(&mut self, key: &StepKey, op: &Op, recorded: Option<&Recorded>) {
        let (kind, title) = match &op.kind {
            OpKind::Think(think) => ("think", format!("asks its model (call {})", think.turn)),
            OpKind::Tool { tool, .. } => ("tool", format!("calls {tool} ({})", op.effect.as_str())),
            OpKind::Preview { tool, .. } => ("preview", format!("looks at what {tool} would do")),
        };
        self.kind = kind.into();
        self.key = key.to_string();
        self.title = title;
        self.input = input_of(op);
        self.outcome(recorded);
    }

    fn outcome(&mut self, recorded: Option<&Recorded>) {
        let Some(recorded) = recorded else { return };
        self.output = match &recorded.outcome {
            Outcome::Done(value) => value.clone(),
            Outcome::Failed(failure) => json!({ "failed": failure }),
            Outcome::InDoubt { effect } => {
                json!({"in_doubt": effect, "evidence": recorded.evidence})
            }
        };
        self.attempts = recorded.attempts.clone();
        self.cost = recorded.usage.into();
    }

    fn note(&mut self, note: Note) {
        self.kind = "note".into();
        self.title = match note {
            Note::Phase(phase) => format!("phase: {}", phase.as_str()),
            Note::State { state, reason } => format!("{}: {reason}", state.as_str()),
            Note::Decided { what, reason } => format!("{what} ({reason})"),
        };
    }
}
