//! What is said over HTTP, as it is said: the bodies that the door reads and writes and that the
//! command line writes and reads. Both sides, and the description at `/openapi.json`, have them from
//! here; a task as it is shown stands in [`crate::view`] and [`crate::transcript`]. Here are tasks as they are
//! ordered, what people are asked, and what is said of the process; what is for operators has files of its
//! own.

mod budget;
mod channels;
mod people;
mod stop;
mod tokens;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::ask::{self, AskKind, AskState, Asked};
use utoipa::ToSchema;

use shared::id::{AskId, RunId, TaskId};
use shared::store::DeadRun;
use shared::task::Task;

use crate::channels::papers::child::Readers;
use crate::channels::papers::enclose::{Enclosed, Enclosure};
use crate::channels::papers::turns::Owner;
use crate::doctor::Finding;
use crate::view::{CostView, TaskView};

pub use budget::{BudgetPage, BudgetView, ForecastView, LimitOrder, UsagePage, UsageView};
pub use channels::{ChannelPage, ChannelState, ChannelUp, ChannelView, Revived};
pub use people::{PairingCode, PairingOrder, PeoplePage, PersonView, RemovedView};
pub use stop::{HaltView, ResumeOrder, StopOrder, StopPage};
pub use tokens::{TokenOrder, TokenPage, TokenSecret, TokenView};

/// A task to be done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskOrder {
    /// What is to be done, in words.
    pub text: String,
    /// The agent that must do it; without one the supervisor chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The conversation that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// The user that it is done for; needs the scope `on_behalf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Your own labels, to find it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Seconds to wait for its end, at most 300; longer is taken as 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_s: Option<f64>,
    /// Limits of your own, below the configured ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetOrder>,
    /// Which of your own waiting tasks goes first: from -100 to 100, the highest first. Between people turns
    /// are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -100, maximum = 100)]
    pub priority: Option<i16>,
    /// The folder on the server that it reads; needs the scope `admin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// Files that come with it, at most 10. The text of documents (text, Markdown, CSV, JSON, HTML, PDF,
    /// DOCX) becomes part of the task; pictures (PNG, JPEG, WebP, GIF) are shown to agents whose model sees.
    /// All of it has to fit the largest body, `[server] body_limit_kib`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 10)]
    pub files: Vec<FileOrder>,
    /// Where its end is told, by a signed request with the task as `GET /v1/tasks/{id}` shows it: https, at
    /// most 2,048 bytes, without user and password. Needs `[callbacks]` in the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2048)]
    pub callback_url: Option<String>,
}

/// A file that comes with a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileOrder {
    /// Its name; with its content it says what the file is.
    pub name: String,
    /// Its media type, for what neither content nor name tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime: Option<String>,
    /// Its bytes, in base64.
    #[schema(format = "byte")]
    pub data: String,
}

/// The most files that come with a task.
pub const MAX_FILES: usize = 10;

impl FileOrder {
    /// A file as it is handed in.
    pub fn new(name: &str, bytes: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            mime: None,
            data: STANDARD.encode(bytes),
        }
    }
}

/// Makes files a part of what a task says, in order; or says why one cannot be taken.
pub async fn enclose(
    (readers, owner): (&Readers, &Owner),
    text: String,
    files: Vec<FileOrder>,
) -> Result<Enclosed, String> {
    if files.len() > MAX_FILES {
        return Err(format!(
            "there are {}, at most {MAX_FILES} are taken",
            files.len()
        ));
    }
    let mut enclosed = Enclosed::new(text);
    for file in files {
        let bytes = STANDARD.decode(&file.data);
        let bytes = bytes.map_err(|_| format!("the data of {:?} is not base64", file.name))?;
        let enclosure = Enclosure {
            name: file.name,
            mime: file.mime,
            bytes,
        };
        let added = enclosed.add((readers, owner), enclosure).await;
        added.map_err(|unread| unread.to_string())?;
    }
    Ok(enclosed)
}

/// Limits of one task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetOrder {
    /// Dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd: Option<f64>,
    /// Tokens sent and received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
}

/// A task that was handed in, or changed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TaskRef {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: TaskId,
    /// Where it stands.
    pub state: String,
}

/// What a hook does not ask for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Ignored {
    /// Always true.
    pub ignored: bool,
}

/// A page of tasks, newest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TaskPage {
    /// The tasks, without their steps.
    pub tasks: Vec<TaskView>,
    /// What `before` must be for the next page; null on the last.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub next: Option<TaskId>,
}

/// Where a fork begins to do things anew.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkOrder {
    /// The key of a step of the task's root run; what stands before it is taken over.
    pub from: String,
}

/// Runs that cannot be run any more, the last one first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeadPage {
    /// The runs.
    pub runs: Vec<DeadView>,
}

/// A run that cannot be run any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeadView {
    /// Its task.
    #[schema(value_type = String, format = "uuid")]
    pub task: TaskId,
    /// The run.
    #[schema(value_type = String, format = "uuid")]
    pub run: RunId,
    /// The program and its version.
    pub kind: String,
    /// The agent, where it is an agent's run.
    pub agent: Option<String>,
    /// Why it died.
    pub why: String,
    /// The step at which it stood.
    pub step: Option<String>,
    /// When it was given up, in milliseconds since 1970.
    pub at_ms: i64,
}

impl From<DeadRun> for DeadView {
    fn from(dead: DeadRun) -> Self {
        Self {
            task: dead.task,
            run: dead.run,
            kind: dead.kind,
            agent: dead.agent.map(|agent| agent.to_string()),
            why: dead.why,
            step: dead.step.map(|key| key.to_string()),
            at_ms: dead.at.0,
        }
    }
}

/// What a person says about a step in doubt.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Settlement {
    /// The step's key, as the task's steps show it.
    pub step: String,
    /// Its run; needed where several runs of the task have such a step in doubt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub run: Option<RunId>,
    /// What became of the effect.
    pub decision: Decision,
    /// What the tool would have answered; only with `happened`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    pub result: Option<Value>,
}

/// What became of an effect in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It happened.
    Happened,
    /// It did not: do it again.
    Again,
    /// Leave it, whatever it was.
    GiveUp,
}

impl Settlement {
    /// What is sent for this decision on a step.
    pub fn of(step: String, run: Option<RunId>, resolution: ask::Decision) -> Self {
        let (decision, result) = match resolution {
            ask::Decision::Happened { result } => (Decision::Happened, Some(result)),
            ask::Decision::Again => (Decision::Again, None),
            // A step in doubt takes nothing else.
            _ => (Decision::GiveUp, None),
        };
        Self {
            step,
            run,
            decision,
            result,
        }
    }
}

/// What people are asked, newest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AskPage {
    /// The asks, without what is known of their tasks.
    pub asks: Vec<AskView>,
    /// What `before` must be for the next page; null on the last.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub next: Option<AskId>,
}

/// Something that people are asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Ask)]
pub struct AskView {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: AskId,
    /// approval, question, doubt or trouble.
    #[schema(value_type = String)]
    pub kind: AskKind,
    /// open, answered, lapsed (nobody decided in time) or void (its task has ended).
    #[schema(value_type = String)]
    pub state: AskState,
    /// The task.
    #[schema(value_type = String, format = "uuid")]
    pub task: TaskId,
    /// The run that waits.
    #[schema(value_type = String, format = "uuid")]
    pub run: RunId,
    /// The agent that asks.
    pub agent: Option<String>,
    /// What it is about, in one line.
    pub title: String,
    /// The rest of it: why people are asked, what was tried, what is known.
    pub text: String,
    /// Answers to choose from; any other text will do, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// What would be done; of an approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<ActionView>,
    /// Who alone may decide; absent where every approver may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
    /// The person or token that the task is for. Absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What they asked for. Absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// What the task used so far. Absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostView>,
    /// Since when it is asked, in milliseconds since 1970.
    pub asked_at_ms: i64,
    /// Until when somebody may decide.
    pub until_ms: Option<i64>,
    /// What was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<AskDecision>)]
    pub decision: Option<ask::Decision>,
    /// Who decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// When they did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at_ms: Option<i64>,
}

impl AskView {
    /// An ask without what is known of its task.
    pub fn of(asked: Asked) -> Self {
        let (verdict, decided_at) = asked.verdict.unzip();
        let (decision, decided_by) = match verdict {
            Some(verdict) => (Some(verdict.decision), verdict.by),
            None => (None, None),
        };
        Self {
            id: asked.id,
            kind: asked.ask.kind,
            state: asked.state,
            task: asked.task,
            run: asked.run,
            agent: asked.ask.agent.map(|agent| agent.to_string()),
            title: asked.ask.title,
            text: asked.ask.text,
            choices: asked.ask.choices,
            action: asked.ask.action.map(Into::into),
            approvers: asked
                .ask
                .approvers
                .iter()
                .map(ToString::to_string)
                .collect(),
            user: None,
            request: None,
            cost: None,
            asked_at_ms: asked.at.0,
            until_ms: asked.until.map(|at| at.0),
            decision,
            decided_by: decided_by.map(|by| by.to_string()),
            decided_at_ms: decided_at.map(|at| at.0),
        }
    }

    /// The same with what whoever decides should know of the task.
    pub fn within(self, task: Task) -> Self {
        Self {
            user: Some(task.principal.to_string()),
            request: Some(task.request.text),
            cost: Some(task.usage.into()),
            ..self
        }
    }
}

/// What would be done, to the last byte. An approval is for this and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Action)]
pub struct ActionView {
    /// SHA-256 of all the rest, by which the approval knows it.
    pub sha256: String,
    /// The tool.
    pub tool: String,
    /// Its version.
    pub version: u32,
    /// The arguments.
    #[schema(value_type = Object)]
    pub args: Value,
    /// Whom or what it reaches: addresses, URLs, paths.
    pub targets: Vec<String>,
    /// The files that go out with it.
    pub files: Vec<FileDigestView>,
    /// Whose data it is about.
    pub tenant: String,
    /// For whom it is done.
    pub principal: String,
    /// By which run.
    #[schema(value_type = String, format = "uuid")]
    pub run: RunId,
    /// SHA-256 of the policy that asks for the approval.
    pub policy: String,
}

/// A file by its bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = FileDigest)]
pub struct FileDigestView {
    /// Its name.
    pub name: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// How many there are.
    pub bytes: u64,
}

impl From<ask::Action> for ActionView {
    fn from(action: ask::Action) -> Self {
        let file = |file: ask::FileDigest| FileDigestView {
            name: file.name,
            sha256: file.sha256.to_string(),
            bytes: file.bytes,
        };
        Self {
            sha256: action.hash().to_string(),
            tool: action.tool.to_string(),
            version: action.version,
            args: action.args,
            targets: action.preview.targets,
            files: action.preview.files.into_iter().map(file).collect(),
            tenant: action.tenant.to_string(),
            principal: action.principal.to_string(),
            run: action.run,
            policy: action.policy.to_string(),
        }
    }
}

/// What somebody says to an ask. Approvals take approve, edit, reject and reply; questions reply; doubts
/// happened, again and give_up; trouble again, guide, reply and give_up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "decision", rename_all = "snake_case", deny_unknown_fields)]
pub enum AskDecision {
    /// Do it, as it stands.
    Approve {
        /// The same action again, in the same run, needs no further word.
        #[serde(default)]
        for_task: bool,
    },
    /// Do it with these arguments instead.
    Edit {
        /// All arguments.
        #[schema(value_type = Object)]
        args: Value,
    },
    /// Do not do it.
    Reject {
        /// Why; the agent reads it.
        #[serde(default)]
        reason: String,
    },
    /// An answer; to an approval, instead of doing it; to trouble, it becomes the result.
    Reply {
        /// The answer.
        text: String,
    },
    /// The effect happened, with this result.
    Happened {
        /// What the tool would have answered.
        #[serde(default)]
        #[schema(value_type = Object)]
        result: Value,
    },
    /// Do it again.
    Again {},
    /// Go on, minding this.
    Guide {
        /// What to mind.
        text: String,
    },
    /// Leave it.
    GiveUp {},
}

impl From<AskDecision> for ask::Decision {
    fn from(said: AskDecision) -> Self {
        match said {
            AskDecision::Approve { for_task } => Self::Approve { for_task },
            AskDecision::Edit { args } => Self::Edit { args },
            AskDecision::Reject { reason } => Self::Reject { reason },
            AskDecision::Reply { text } => Self::Reply { text },
            AskDecision::Happened { result } => Self::Happened { result },
            AskDecision::Again {} => Self::Again,
            AskDecision::Guide { text } => Self::Guide { text },
            AskDecision::GiveUp {} => Self::GiveUp,
        }
    }
}

/// What an examination found.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DoctorPage {
    /// One for each thing that was looked at.
    pub findings: Vec<Finding>,
}

/// Whether the process lives.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Alive {
    /// Always `alive`.
    pub status: String,
}

/// Whether the instance can work.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// Whether it can.
    pub ready: bool,
    /// Why not, one reason each.
    pub reasons: Vec<String>,
    /// The channels that this process has heard of. One that does not work makes nothing else unready.
    #[serde(default)]
    pub channels: Vec<ChannelUp>,
    /// What an operator has stopped: `everything`, `agent NAME`. It makes nothing unready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub halted: Vec<String>,
}

/// A refusal as it is sent, `application/problem+json`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// A URI that names the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "urn:majordomo:problem:field")]
    pub kind: String,
    /// The kind in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time, and how to mend it.
    pub detail: String,
    /// The field, query parameter or header at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::ask::Decision;

    use super::*;

    /// What one side writes the other reads, whichever of the two shapes it has.
    #[test]
    fn a_decision_is_said_as_it_is_kept() {
        let text = || "x".to_owned();
        let all = [
            Decision::Approve { for_task: false },
            Decision::Approve { for_task: true },
            Decision::Edit {
                args: json!({"a": 1}),
            },
            Decision::Reject { reason: text() },
            Decision::Reply { text: text() },
            Decision::Happened { result: json!(7) },
            Decision::Again,
            Decision::Guide { text: text() },
            Decision::GiveUp,
        ];
        for decision in all {
            let said = serde_json::to_value(&decision).unwrap();
            let read: AskDecision = serde_json::from_value(said).unwrap();
            let sent = serde_json::to_value(&read).unwrap();
            let kept: Decision = serde_json::from_value(sent).unwrap();
            assert_eq!((Decision::from(read), kept), (decision.clone(), decision));
        }
    }
}
