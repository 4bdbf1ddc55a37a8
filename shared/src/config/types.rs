//! The shape of `majordomo.toml` and of an agent's file. Defaults stand here and nowhere else; the
//! JSON Schemas for editors are generated from these types.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::approvals::ApprovalSettings;
use super::budget::BudgetSettings;
use super::builtin;
use super::email::EmailSettings;
use super::escalation::EscalationSettings;
use super::secret::SecretRef;
use super::webhook::{CallbackSettings, HookSettings};
use crate::id::{AgentName, ModelName, PrincipalId, TenantId, ToolName};
use crate::money::Price;
use crate::retry::RetryPolicy;

/// What a text must match that may not be blank.
pub(super) const NOT_BLANK: &str = r"\S";

/// What agents' names, and the names that tools are shown under, must match. Every provider takes
/// such names for functions.
pub(super) const NAME_PATTERN: &str = "^[a-z][a-z0-9_-]{0,63}$";

/// The lowest number of a Telegram chat: the Bot API promises 52 significant bits at most.
const LOWEST_CHAT: i64 = -(1 << 52);

/// `majordomo.toml`: everything but the agents.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Models by the name that agents use for them. `default` is the one used where none is named,
    /// and is there after loading even where the file has none: then its provider is `auto`.
    pub models: BTreeMap<ModelName, ModelSettings>,
    /// Prices by the provider's model name, in dollars per million tokens. They go before the ones
    /// that the program brings along.
    pub prices: BTreeMap<String, Price>,
    /// Routing and closing of tasks.
    pub supervisor: SupervisorSettings,
    /// Rules that route without asking a model; the first that matches decides.
    pub routes: Vec<RouteRule>,
    /// What one task may use.
    pub limits: Limits,
    /// Which calls of tools people are asked about before they are made.
    pub approvals: ApprovalSettings,
    /// Who is told of work that cannot go on, and how long it waits for them.
    pub escalation: EscalationSettings,
    /// What may be spent in a day, a month and in all, by whom.
    pub budget: BudgetSettings,
    /// How failed model and tool calls are repeated.
    pub retry: RetryPolicy,
    /// The HTTP door.
    pub server: ServerSettings,
    /// How those are called back who handed in a task with a `callback_url`; nobody is where this is
    /// absent.
    pub callbacks: Option<CallbackSettings>,
    /// Other services' requests that become tasks, by the name in the path `/v1/hooks/NAME`.
    pub hooks: BTreeMap<String, HookSettings>,
    /// Folders for file tools.
    pub files: FileSettings,
    /// Where outbound traffic may go.
    pub egress: EgressSettings,
    /// The provider behind `web_search`.
    pub search: Option<SearchSettings>,
    /// The server that e-mail goes out by, and to whom; none is sent where this is absent.
    pub email: Option<EmailSettings>,
    /// What calls of tools cost, by the tools' names.
    pub tools: BTreeMap<ToolName, ToolPrice>,
    /// The engine's sizes.
    pub engine: EngineSettings,
    /// How long journals are kept.
    pub retention: RetentionSettings,
    /// The Postgres that holds all state, for installations of several processes:
    /// `"${DATABASE_URL}"`, or `"postgres://majordomo:${DB_PASSWORD}@db/majordomo"`. Without it
    /// everything is in the data folder.
    #[schemars(with = "Option<String>", extend("format" = "database-url"))]
    pub database_url: Option<SecretRef>,
    /// The tenant that this installation's data belongs to.
    pub tenant: Tenant,
    /// Who may hand in work in chats, and what else they may do. Everybody else is turned away.
    pub people: Vec<Person>,
    /// Groups whose members may hand in work, too, without being named one by one.
    pub grants: Vec<Grant>,
    /// How conversations in chats go.
    pub conversations: ConversationSettings,
    /// The Telegram door; closed where this is absent.
    pub telegram: Option<TelegramSettings>,
    /// The Slack door; closed where this is absent.
    pub slack: Option<SlackSettings>,
}

/// `[[people]]`: a person and their numbers in chats.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The name that their tasks bear.
    #[schemars(with = "String", extend("pattern" = NAME_PATTERN))]
    pub name: PrincipalId,
    /// Their number in Telegram, which the bot tells everybody whom it does not know.
    #[serde(default)]
    pub telegram: Option<i64>,
    /// Their id in Slack, as `TEAM/USER`.
    #[serde(default)]
    pub slack: Option<String>,
    /// What they may do.
    #[serde(default = "member")]
    pub roles: Vec<Role>,
}

/// `[[grants]]`: who belongs to a group elsewhere has these roles here. Exactly one group is named. Asked
/// of the far side and remembered for some minutes at most.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The number of a Telegram group, below zero. The bot must be one of its admins.
    #[serde(default)]
    #[schemars(range(min = LOWEST_CHAT, max = -1))]
    pub telegram_group: Option<i64>,
    /// A Slack workspace, `TEAM`: its full members, no guests and nobody from elsewhere.
    #[serde(default)]
    pub slack_workspace: Option<String>,
    /// A Slack user group, `TEAM/GROUP`.
    #[serde(default)]
    pub slack_user_group: Option<String>,
    /// A Slack channel, `TEAM/CHANNEL`, that the app was invited to.
    #[serde(default)]
    pub slack_channel: Option<String>,
    /// What its members may do; admins are named one by one.
    #[serde(default = "member")]
    pub roles: Vec<Role>,
}

/// What a person may do in chats.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Hand in tasks; see those of their conversations, and stop their own.
    Member,
    /// Decide what tasks wait for.
    Approver,
    /// All of it; stop everybody's tasks; be told when something is wrong with a channel.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 3] = [Role::Member, Role::Approver, Role::Admin];

    /// The role's name in the configuration and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Approver => "approver",
            Role::Admin => "admin",
        }
    }

    /// The role of this name.
    pub fn parse(name: &str) -> Option<Role> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

fn member() -> Vec<Role> {
    vec![Role::Member]
}

/// `[conversations]`: what belongs to a task besides its own message.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConversationSettings {
    /// What becomes of a message that comes while an earlier one is worked on.
    pub follow_up: FollowUp,
    /// So many of the last turns of a conversation are part of a task.
    #[schemars(range(max = 50))]
    pub turns: u32,
    /// A message that is older than so many minutes when it is read is not worked on before somebody
    /// has said that it still should be.
    #[schemars(range(min = 1))]
    pub stale_after_min: u32,
    /// Whether two buttons below an answer take what people think of it.
    pub feedback: bool,
}

impl Default for ConversationSettings {
    fn default() -> Self {
        Self {
            follow_up: FollowUp::Queue,
            turns: 10,
            stale_after_min: 30,
            feedback: true,
        }
    }
}

/// What becomes of a message that comes while an earlier one of its conversation is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FollowUp {
    /// It waits until the earlier one has its answer.
    Queue,
    /// It is worked on beside it.
    Beside,
    /// The earlier one is stopped, and both are worked on as one.
    Amend,
}

/// `[telegram]`: a bot.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TelegramSettings {
    /// The bot's token, as BotFather gave it: `"${TELEGRAM_BOT_TOKEN}"`.
    #[schemars(with = "String", extend("format" = "secret"))]
    pub token: SecretRef,
    /// The Bot API server. `TELEGRAM_API_URL` in the environment goes before it.
    #[serde(default = "telegram_api_url")]
    pub api_url: url::Url,
    /// The public address of this installation: Telegram sends updates to `/v1/telegram/webhook` there. Where
    /// it is absent they are fetched, which needs no public address.
    #[serde(default)]
    pub webhook_url: Option<url::Url>,
}

#[expect(clippy::expect_used, reason = "a literal URL parses")]
fn telegram_api_url() -> url::Url {
    url::Url::parse("https://api.telegram.org").expect("a literal URL parses")
}

/// `[slack]`: an app in a workspace.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlackSettings {
    /// The bot's token, `xoxb-…`: `"${SLACK_BOT_TOKEN}"`.
    #[schemars(with = "String", extend("format" = "secret"))]
    pub bot_token: SecretRef,
    /// What events over HTTP are signed with.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "secret"))]
    pub signing_secret: Option<SecretRef>,
    /// The app-level token, `xapp-…`, for Socket Mode.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "secret"))]
    pub app_token: Option<SecretRef>,
    /// The Web API. `SLACK_API_URL` in the environment goes before it.
    #[serde(default = "slack_api_url")]
    pub api_url: url::Url,
    /// How events come in; by a socket where there is an `app_token`, else over HTTP.
    #[serde(default)]
    pub mode: Option<SlackMode>,
}

/// How events come in from Slack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlackMode {
    /// Over a WebSocket that we open. Needs no public address.
    Socket,
    /// By requests to `/v1/slack/events`.
    Http,
}

impl SlackSettings {
    /// How events come in.
    pub fn mode(&self) -> SlackMode {
        let usual = match self.app_token {
            Some(_) => SlackMode::Socket,
            None => SlackMode::Http,
        };
        self.mode.unwrap_or(usual)
    }
}

#[expect(clippy::expect_used, reason = "a literal URL parses")]
fn slack_api_url() -> url::Url {
    url::Url::parse("https://slack.com/api").expect("a literal URL parses")
}

/// The tenant's name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Tenant(pub TenantId);

impl Default for Tenant {
    fn default() -> Self {
        Self("default".into())
    }
}

/// `[models.NAME]`: where a model is and what it can take.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "provider", rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelSettings {
    /// An OpenAI-compatible endpoint where the environment holds `OPENAI_API_KEY` (with
    /// `OPENAI_BASE_URL` and `OPENAI_MODEL`), else the built-in offline model.
    Auto {},
    /// The rule-based model inside the binary. Needs no key and costs nothing.
    Offline {},
    /// Any OpenAI-compatible endpoint.
    Openai(OpenaiSettings),
    /// Answers from a file, for tests and demonstrations.
    Scripted {
        /// The script.
        file: PathBuf,
    },
}

/// An OpenAI-compatible endpoint.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenaiSettings {
    /// The model's name at the provider.
    #[schemars(extend("pattern" = NOT_BLANK))]
    pub model: String,
    /// The endpoint up to and including the version, for example `https://api.openai.com/v1`.
    #[serde(default = "openai_base_url")]
    pub base_url: url::Url,
    /// The key: `"${OPENAI_API_KEY}"` or `"${file:/run/secrets/openai}"`. None for servers without.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "secret"))]
    pub api_key: Option<SecretRef>,
    /// Further headers, for proxies and organisations. Values may be plain text or hold secrets as
    /// `api_key` does; those of headers that are secrets by their name must.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretRef>,
    /// Whether to ask for the answer in pieces while somebody watches.
    #[serde(default = "yes")]
    pub stream: bool,
    /// A server of the team's own: it costs nothing and may stand at a private address.
    #[serde(default)]
    pub local: bool,
    /// Tokens that a request and its reply may have together.
    #[serde(default = "context_tokens")]
    #[schemars(range(min = 1024))]
    pub context_tokens: u32,
    /// Whether it can be shown pictures. Tasks that come with pictures are done by agents whose model
    /// can, and refused where there are none. A picture counts as 4,096 tokens where a call is reserved.
    #[serde(default)]
    pub vision: bool,
    /// Seconds before a call counts as failed.
    #[serde(default = "model_timeout_s")]
    #[schemars(range(min = 1))]
    pub timeout_s: u32,
}

/// `[supervisor]`: who routes and who closes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SupervisorSettings {
    /// The model that routes and closes.
    pub model: ModelName,
    /// Its system prompt. The agents' names and descriptions are put below it.
    #[schemars(extend("pattern" = NOT_BLANK))]
    pub prompt: String,
    /// When a last model call turns the agents' results into the answer.
    pub close: Close,
    /// The most tokens of one reply.
    #[schemars(range(min = 16))]
    pub max_tokens: u32,
}

/// When the supervisor closes a task by a model call of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Close {
    /// After every task that agents worked on.
    Always,
    /// Only where more than one agent's result has to become one answer.
    WhenNeeded,
}

/// `[[routes]]`: a rule that needs no model.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteRule {
    /// A regular expression that the task's text must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "regex"))]
    pub matches: Option<String>,
    /// The channel that the task must have come in by: `cli`, `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The agents that do it, one after the other; each is given the results before it.
    pub agents: Vec<AgentName>,
}

/// `[limits]`: what one task may use, its agents together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Steps: each model call and each tool call is one.
    #[schemars(range(min = 1))]
    pub steps: u32,
    /// Seconds from the start, waiting for people not counted.
    #[schemars(range(min = 1))]
    pub wall_s: u32,
    /// Tokens sent and received.
    #[schemars(range(min = 1))]
    pub tokens: u64,
    /// Dollars.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub usd: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps: 20,
            wall_s: 900,
            tokens: 200_000,
            usd: 1.0,
        }
    }
}

/// `[server]`: the HTTP door.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Address and port. An address other than loopback needs at least one token.
    #[schemars(extend("format" = "socket-address"))]
    pub listen: std::net::SocketAddr,
    /// The largest request body in KiB. By default the longest text, escaped, with room for labels.
    #[schemars(range(min = 1))]
    pub body_limit_kib: u32,
    /// Connections that are open at once; others wait until one ends.
    #[schemars(range(min = 2))]
    pub max_connections: u32,
    /// Requests that each token, each hook, and each address without a token may make in a minute, all at
    /// once or one after the other; 0 for any number.
    pub requests_per_minute: u32,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 7717).into(),
            body_limit_kib: 512,
            max_connections: 512,
            requests_per_minute: 600,
        }
    }
}

/// `[files]`: what file tools may touch.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FileSettings {
    /// The folder that agents may read. `ask` reads the current folder where this is absent;
    /// `serve` reads none.
    pub read: Option<PathBuf>,
    /// The folder below which each task gets one of its own to write to; `files` in the data
    /// folder where this is absent.
    pub write: Option<PathBuf>,
}

/// `[egress]`: where outbound traffic may go beyond public addresses.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EgressSettings {
    /// Hosts, with a port where only that port is meant, that tools may reach although their
    /// address is private or loopback: `"wiki.internal"`, `"127.0.0.1:8080"`.
    pub allow_private: Vec<String>,
}

/// `[search]`: the provider behind `web_search`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "provider", rename_all = "snake_case", deny_unknown_fields)]
pub enum SearchSettings {
    /// Tavily's API, or a server that speaks it.
    Tavily {
        /// The key, as `"${TAVILY_API_KEY}"`.
        #[schemars(with = "String", extend("format" = "secret"))]
        api_key: SecretRef,
        /// The endpoint.
        #[serde(default = "tavily_base_url")]
        base_url: url::Url,
        /// The most results of one search.
        #[serde(default = "tavily_max_results")]
        #[schemars(range(min = 1, max = 20))]
        max_results: u8,
        /// How thoroughly it searches.
        #[serde(default)]
        depth: SearchDepth,
        /// Whether it also writes a short answer.
        #[serde(default)]
        answer: bool,
        /// What one search costs, in dollars.
        #[serde(default)]
        usd_per_search: f64,
    },
}

/// `[tools.NAME]`: what a call of a tool costs.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolPrice {
    /// Dollars for each call, in the place of what the tool itself says.
    #[schemars(range(min = 0.0))]
    pub usd_per_call: f64,
}

/// How thoroughly a search looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SearchDepth {
    /// One credit.
    #[default]
    Basic,
    /// Two credits, better snippets.
    Advanced,
}

/// `[retention]`: how long the journals of ended tasks are kept. Nothing is deleted unless this says
/// so.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionSettings {
    /// Days after its end that a task's journal is kept; for ever where this is absent. The task with
    /// its answer and its cost stays.
    #[schemars(range(min = 1))]
    pub journal_days: Option<u32>,
    /// A folder in which each task's story is kept as one line of JSON before its journal is deleted.
    pub archive: Option<PathBuf>,
}

/// `[engine]`: sizes that a large installation may want to change.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// Runs that are worked on in memory at once; waiting ones do not count.
    #[schemars(range(min = 1))]
    pub live_runs: u32,
    /// Seconds that a waiting run stays in memory.
    pub park_after_s: f64,
    /// Seconds that a process that works on Postgres counts as alive after it was last heard of. Then
    /// its runs go on elsewhere.
    #[schemars(range(min = 1.0))]
    pub lease_s: f64,
    /// Seconds between two signs of life; at most a third of `lease_s`.
    #[schemars(range(min = 0.1))]
    pub beat_s: f64,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            live_runs: 1024,
            park_after_s: 3.0,
            lease_s: 15.0,
            beat_s: 3.0,
        }
    }
}

/// An agent's file, `config/agents/NAME.toml`, as written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentFile {
    /// The agent's name: lower-case letters, digits, `-` and `_`; the same as the file's.
    #[schemars(with = "String", extend("pattern" = NAME_PATTERN))]
    pub name: AgentName,
    /// What it is for and when to choose it: the router reads this.
    #[schemars(extend("pattern" = NOT_BLANK))]
    pub description: String,
    /// The model it thinks with.
    #[serde(default = "default_model")]
    pub model: ModelName,
    /// The tools it has. What is not listed here it cannot call.
    #[serde(default)]
    pub tools: Vec<ToolName>,
    /// Changes to single tools, by their name.
    #[serde(default)]
    pub tool: BTreeMap<ToolName, ToolSettings>,
    /// The agent that goes on with this one's result when the router chose only this one.
    #[serde(default)]
    pub then: Option<AgentName>,
    /// Limits narrower than the task's.
    #[serde(default)]
    pub limits: AgentLimits,
    /// What the model is told first.
    #[schemars(extend("pattern" = NOT_BLANK))]
    pub prompt: String,
}

/// `[tool.NAME]` in an agent's file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ToolSettings {
    /// The name under which this agent's model sees the tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("pattern" = NAME_PATTERN))]
    pub name: Option<ToolName>,
    /// The description that this agent's model reads instead of the tool's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = NOT_BLANK))]
    pub description: Option<String>,
    /// Seconds before a call counts as failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub timeout_s: Option<u32>,
    /// How failed calls are repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
}

/// `[limits]` in an agent's file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AgentLimits {
    /// Steps of one piece of work; the task's own limit holds besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub steps: Option<u32>,
    /// The most tokens of one reply.
    #[schemars(range(min = 16))]
    pub max_tokens: u32,
    /// Calls of this agent's model and tools that go on at once, over all tasks.
    #[schemars(range(min = 1))]
    pub concurrency: u32,
}

impl Default for AgentLimits {
    fn default() -> Self {
        Self {
            steps: None,
            max_tokens: 2048,
            concurrency: 1024,
        }
    }
}

/// An agent as a run works by it: content-addressed, so that a run in flight goes on by the spec it
/// was started with whatever becomes of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentSpec {
    /// The agent's name.
    pub name: AgentName,
    /// What it is for.
    pub description: String,
    /// The model it thinks with.
    pub model: ModelName,
    /// Its tools, in the file's order.
    pub tools: Vec<ToolName>,
    /// Changes to single tools.
    pub tool: BTreeMap<ToolName, ToolSettings>,
    /// Who goes on with its result.
    pub then: Option<AgentName>,
    /// Its limits.
    pub limits: AgentLimits,
    /// What the model is told first.
    pub prompt: String,
}

impl From<AgentFile> for AgentSpec {
    fn from(file: AgentFile) -> Self {
        Self {
            name: file.name,
            description: file.description,
            model: file.model,
            tools: file.tools,
            tool: file.tool,
            then: file.then,
            limits: file.limits,
            prompt: file.prompt,
        }
    }
}

impl Default for SupervisorSettings {
    fn default() -> Self {
        Self {
            model: default_model(),
            prompt: builtin::supervisor_prompt().to_owned(),
            close: Close::WhenNeeded,
            max_tokens: 2048,
        }
    }
}

fn default_model() -> ModelName {
    "default".into()
}

#[expect(clippy::expect_used, reason = "a literal URL parses")]
fn openai_base_url() -> url::Url {
    url::Url::parse("https://api.openai.com/v1").expect("a literal URL parses")
}

#[expect(clippy::expect_used, reason = "a literal URL parses")]
fn tavily_base_url() -> url::Url {
    url::Url::parse("https://api.tavily.com").expect("a literal URL parses")
}

fn tavily_max_results() -> u8 {
    5
}

fn context_tokens() -> u32 {
    128_000
}

fn model_timeout_s() -> u32 {
    120
}

fn yes() -> bool {
    true
}
