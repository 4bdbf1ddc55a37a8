//! What is said over HTTP, as it is said: the bodies that the door reads and writes and that the
//! command line writes and reads. Both sides, and the description at `/openapi.json`, have them from
//! here; a task as it is shown stands in [`crate::view`] and [`crate::transcript`].

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::ask::{self, AskKind, AskState, Asked};
use utoipa::ToSchema;

use shared::budget::Unit;
use shared::config::Role;
use shared::id::{AskId, RunId, TaskId};
use shared::money::Usd;
use shared::store::{DeadRun, Halt, Halted, Purpose, Token};
use shared::task::Task;

use crate::budget::{By, Forecast, Line, Used};
use crate::channels::papers::child::Readers;
use crate::channels::papers::enclose::{Enclosed, Enclosure};
use crate::channels::papers::turns::Owner;
use crate::doctor::Finding;
use crate::halt::{self, Target};
use crate::people::directory::{Entry, Removed, Source};
use crate::view::{CostView, TaskView};

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
/// happened, again and give_up; trouble again, guide, reply and give_up; limits more, reply and give_up.
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
    /// An answer; to an approval, instead of doing it; to trouble or a limit, it becomes the result.
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
    /// Go on with more: as much again as there was.
    More {
        /// So many dollars instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usd: Option<f64>,
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
            AskDecision::More { usd } => Self::More {
                usd: usd.map(Usd::from_dollars),
            },
            AskDecision::GiveUp {} => Self::GiveUp,
        }
    }
}

/// A token to be made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenOrder {
    /// A name for people, unique among live tokens.
    pub name: String,
    /// Who acts when it is used; `token:NAME` where absent.
    #[serde(default)]
    pub principal: Option<String>,
    /// What it may do: tasks, on_behalf, approve, admin.
    pub scopes: Vec<String>,
}

/// A new token's secret: shown this once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenSecret {
    /// The secret.
    pub token: String,
}

/// A token; its secret is nowhere.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its name.
    pub name: String,
    /// Who acts when it is used.
    pub principal: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// When it was revoked.
    pub revoked_at_ms: Option<i64>,
}

/// All tokens.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenPage {
    /// Oldest first, revoked ones too.
    pub tokens: Vec<TokenView>,
}

impl From<Token> for TokenView {
    fn from(token: Token) -> Self {
        Self {
            name: token.name,
            principal: token.principal.to_string(),
            scopes: token.scopes,
            created_at_ms: token.created_at.0,
            revoked_at_ms: token.revoked_at.map(|at| at.0),
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

/// A limit to be set.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitOrder {
    /// Who pays: `all`, `user:NAME`, `agent:NAME` or `task:ID`.
    #[schema(max_length = 256)]
    pub account: String,
    /// How much in which time: `5.00/day`, `100k tokens/month`, `2.00` for all time; `none/day` for no
    /// limit, `configured/day` for that of the configuration.
    #[schema(max_length = 256)]
    pub limit: String,
}

/// All limits.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BudgetPage {
    /// One for each account, period and unit that has one; dollars of all are always there.
    pub budgets: Vec<BudgetView>,
}

/// A limit, and how its account stands under it. Amounts are dollars or tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BudgetView {
    /// Who pays: `all`, `user:NAME` or `agent:NAME`.
    pub account: String,
    /// `day`, `month` or `total`; days and months of UTC.
    pub period: String,
    /// `usd` or `tokens`.
    pub unit: String,
    /// How much may be spent; absent for any amount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// What is spent.
    pub spent: f64,
    /// What is held for calls under way.
    pub held: f64,
    /// How much of the limit is spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<i64>,
    /// Who set it; absent where the configuration does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_by: Option<String>,
    /// When, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_at_ms: Option<i64>,
    /// What people added to it for this day or month where work waited for it; it is part of `limit`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub raised: Vec<RaiseView>,
}

/// What somebody added to a limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RaiseView {
    /// How much.
    pub amount: f64,
    /// Who said so.
    pub by: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// The escalation that they decided.
    pub escalation: String,
}

impl From<Line> for BudgetView {
    fn from(line: Line) -> Self {
        let percent = line.percent();
        let amount = |amount: i64| match line.which.unit {
            Unit::Usd => Usd::from_nano(amount).dollars(),
            Unit::Tokens => amount as f64,
        };
        Self {
            account: line.which.account.to_string(),
            period: line.which.period.as_str().into(),
            unit: line.which.unit.as_str().into(),
            limit: line.limit.map(amount),
            spent: amount(line.spent),
            held: amount(line.held),
            percent,
            set_by: line.set.as_ref().map(|(by, _)| by.to_string()),
            set_at_ms: line.set.as_ref().map(|(_, at)| at.0),
            raised: line
                .raises
                .iter()
                .map(|raise| RaiseView {
                    amount: amount(raise.amount),
                    by: raise.by.to_string(),
                    at_ms: raise.at.0,
                    escalation: raise.ask.to_string(),
                })
                .collect(),
        }
    }
}

/// What was used.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UsagePage {
    /// `thread`, `user`, `agent`, `tool`, `model` or `day`.
    pub by: String,
    /// Days in their order, all else the dearest first.
    pub usage: Vec<UsageView>,
    /// What this month may come to.
    pub forecast: ForecastView,
}

/// What somebody or something used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageView {
    /// Who or what; empty for tasks that belong to no thread.
    pub name: String,
    /// Attempts at calls of models and tools that cost something; of threads, tasks.
    pub count: u64,
    /// Dollars.
    pub usd: f64,
    /// Tokens sent.
    pub tokens_in: u64,
    /// Those of them that the provider had in its cache.
    pub tokens_cached: u64,
    /// Tokens received.
    pub tokens_out: u64,
}

/// What this month comes to if it goes on as in the last week; days and months of UTC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ForecastView {
    /// Dollars of this month so far.
    pub so_far_usd: f64,
    /// Dollars of a day, on the average of the last seven.
    pub a_day_usd: f64,
    /// Dollars of the whole month.
    pub month_usd: f64,
}

impl UsagePage {
    /// The sums as they are shown.
    pub fn of(by: By, used: Vec<Used>, forecast: Forecast) -> Self {
        let view = |used: Used| UsageView {
            name: used.name,
            count: used.count,
            usd: used.usage.usd.dollars(),
            tokens_in: used.usage.tokens_in,
            tokens_cached: used.usage.tokens_cached,
            tokens_out: used.usage.tokens_out,
        };
        Self {
            by: by.as_str().into(),
            usage: used.into_iter().map(view).collect(),
            forecast: ForecastView {
                so_far_usd: forecast.so_far,
                a_day_usd: forecast.a_day,
                month_usd: forecast.month,
            },
        }
    }

    /// All rows together.
    pub fn sum(&self) -> UsageView {
        let mut sum = UsageView::default();
        for row in &self.usage {
            sum.count += row.count;
            sum.usd += row.usd;
            sum.tokens_in += row.tokens_in;
            sum.tokens_cached += row.tokens_cached;
            sum.tokens_out += row.tokens_out;
        }
        sum
    }
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

/// A code to be made, by which somebody becomes known in a chat.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PairingOrder {
    /// Who they will be: lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// What they may do: member, approver, admin; `member` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// What the code is called, for people; at most 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Minutes that it is good, 10 where absent, 1,440 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1440)]
    pub ttl_min: Option<u32>,
}

/// A code: shown this once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PairingCode {
    /// The code.
    pub code: String,
    /// Until when it is good, in milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// Everybody who is known in chats.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PeoplePage {
    /// One entry for each identity, and one for each group that is granted something.
    pub people: Vec<PersonView>,
}

/// An identity that is known, or a group whose members are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PersonView {
    /// Who it is; null for a group.
    pub name: Option<String>,
    /// The channel.
    pub channel: String,
    /// The id there, or the group.
    pub id: String,
    /// What they may do now.
    pub roles: Vec<String>,
    /// How they are known: `config`, `paired`, `claimed` or `granted`.
    pub source: String,
    /// What their code was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Who made their code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
    /// When they used it, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linked_at_ms: Option<i64>,
}

impl From<Entry> for PersonView {
    fn from(entry: Entry) -> Self {
        let link = match entry.source {
            Source::Linked(link) => Ok(link),
            Source::Configured => Err("config"),
            Source::Granted => Err("granted"),
        };
        let source = match &link {
            Ok(link) if link.origin == Purpose::Claim => "claimed",
            Ok(_) => "paired",
            Err(source) => source,
        };
        let link = link.as_ref().ok();
        Self {
            name: entry.principal.map(|name| name.to_string()),
            channel: entry.channel,
            id: entry.id,
            roles: names(&entry.roles),
            source: source.into(),
            label: link.map(|link| link.label.clone()),
            made_by: link.map(|link| link.made_by.to_string()),
            linked_at_ms: link.map(|link| link.at.0),
        }
    }
}

/// Roles by their names.
fn names(roles: &[Role]) -> Vec<String> {
    roles.iter().map(|role| role.as_str().to_owned()).collect()
}

/// What was unlinked.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RemovedView {
    /// The identities, as `CHANNEL:ID`.
    pub removed: Vec<String>,
    /// Whether the configuration names them all the same.
    pub configured: bool,
    /// Why they are known all the same, and what ends that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub still_known: Option<String>,
}

impl From<Removed> for RemovedView {
    fn from(removed: Removed) -> Self {
        let links = removed.links.iter();
        Self {
            removed: links.map(|link| link.identity.to_string()).collect(),
            configured: removed.configured,
            still_known: removed.still_known(),
        }
    }
}

/// The channels of the instance.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ChannelPage {
    /// One entry for each.
    pub channels: Vec<ChannelView>,
}

/// How a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChannelState {
    /// It works.
    Up,
    /// It does not.
    Down,
    /// No instance runs that looks after it.
    Idle,
    /// Another process looks after it, or nothing was heard of it yet.
    Unknown,
    /// The configuration does not open it.
    Closed,
}

impl ChannelState {
    /// The state in a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Idle => "idle",
            Self::Unknown => "unknown",
            Self::Closed => "closed",
        }
    }
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChannelView {
    /// Its name.
    pub name: String,
    /// How it is, as far as this process knows.
    pub state: ChannelState,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Messages that it is to deliver, cards of unfinished tasks among them.
    pub owed: u64,
    /// Since when the oldest of them is owed, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_owed_at_ms: Option<i64>,
    /// Messages that could not be delivered and are kept.
    pub dead: u64,
    /// Why the last of them could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What became of a channel's undelivered messages.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Revived {
    /// So many are tried again.
    pub revived: u64,
}

/// A channel, for whoever asks whether the instance is ready.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ChannelUp {
    /// Its name.
    pub name: String,
    /// Whether it works.
    pub up: bool,
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
