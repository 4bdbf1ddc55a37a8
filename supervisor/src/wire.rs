//! What is said over HTTP, as it is said: the bodies that the door reads and writes and that the
//! command line writes and reads. Both sides, and the description at `/openapi.json`, have them from
//! here; a task as it is shown stands in [`crate::view`] and [`crate::transcript`]. Here are tasks as they are
//! ordered, and what is said of the process; all else has files of its own.

mod asks;
mod budget;
mod channels;
mod people;
mod permits;
mod stop;
mod tokens;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::ask;
use utoipa::ToSchema;

use shared::id::{RunId, TaskId};
use shared::store::DeadRun;

use crate::channels::papers::child::Readers;
use crate::channels::papers::enclose::{Enclosed, Enclosure};
use crate::channels::papers::turns::Owner;
use crate::doctor::Finding;
use crate::view::TaskView;

pub use asks::{ActionView, AskDecision, AskPage, AskView, FileDigestView};
pub use budget::{
    BudgetPage, BudgetView, ForecastView, LimitOrder, RaiseView, RegardView, UsagePage, UsageView,
};
pub use channels::{ChannelPage, ChannelState, ChannelUp, ChannelView, Revived};
pub use people::{PairingCode, PairingOrder, PeoplePage, PersonView, RemovedView};
pub use permits::{PermitOrder, PermitPage, PermitUseView, PermitView};
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

/// What somebody thinks of an answer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FeedbackOrder {
    /// Whether they are content.
    pub sign: Sign,
    /// Why; at most 2,000 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 2000)]
    pub text: String,
}

/// Whether somebody is content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// They are.
    Good,
    /// They are not.
    Bad,
}

impl Sign {
    /// The one for this.
    pub fn of(good: bool) -> Self {
        if good { Self::Good } else { Self::Bad }
    }

    /// Whether it is the good one.
    pub fn is_good(self) -> bool {
        self == Self::Good
    }
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
    /// Escalations that reached nobody on a rung, or that nobody decided in time; absent where that is
    /// not known. They make nothing unready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalations_red: Option<u32>,
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
