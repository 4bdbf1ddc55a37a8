//! All that a run's decisions depend on, in one value named by its hash: agents, their tools as the
//! model sees them, models' prices, limits, routes. A run works by the catalog that it was accepted
//! under, so its code stays a pure function of the catalog and of what the journal recorded,
//! whatever becomes of the files meanwhile.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use shared::config::{AgentSpec, ApprovalSettings, Limits, RouteRule, SupervisorSettings};
use shared::hash::Hash;
use shared::id::{AgentName, ModelName, ToolName};
use shared::model::ToolDef;
use shared::money::Price;
use shared::retry::RetryPolicy;

use crate::tools::ToolInfo;

/// The agents and everything that they are judged by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// The agents, by name.
    pub agents: BTreeMap<AgentName, AgentSpec>,
    /// The tools that any of them has, by the tool's own name.
    pub tools: BTreeMap<ToolName, ToolInfo>,
    /// What is known of the models.
    pub models: BTreeMap<ModelName, ModelInfo>,
    /// Who routes and closes.
    pub supervisor: SupervisorSettings,
    /// Rules that route without a model.
    pub routes: Vec<RouteRule>,
    /// What one task may use.
    pub limits: Limits,
    /// Which calls people are asked about; none in a catalog of the time before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<ApprovalSettings>,
    /// Seconds for which work that cannot go on waits for a person's help; with none it ends at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help_within_s: Option<u64>,
    /// How failed calls are repeated.
    pub retry: RetryPolicy,
}

/// What decisions need to know of a model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// What its tokens cost.
    pub price: Price,
    /// Tokens that a request and its reply may have together.
    pub context_tokens: u32,
    /// Seconds before a call counts as failed.
    pub timeout_s: u32,
    /// Whether it can be shown pictures.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub vision: bool,
}

impl Catalog {
    /// The catalog as kept in the store, and its name there.
    #[expect(clippy::expect_used, reason = "a catalog has text keys only")]
    pub fn to_content(&self) -> (Hash, String) {
        let body = serde_json::to_string(self).expect("a catalog has text keys only");
        (Hash::of_bytes(body.as_bytes()), body)
    }

    /// Reads a catalog back.
    pub fn from_content(body: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(body)
    }

    /// What is known of a model. One that is missing costs nothing and has little room: its calls
    /// fail at the actor, which says so.
    pub fn model(&self, name: &ModelName) -> ModelInfo {
        self.models.get(name).copied().unwrap_or(ModelInfo {
            price: Price::FREE,
            context_tokens: 8_192,
            timeout_s: 60,
            vision: false,
        })
    }

    /// Whether there is an agent of this name who can be shown pictures.
    pub fn sees(&self, agent: &AgentName) -> bool {
        let spec = self.agents.get(agent);
        spec.is_some_and(|spec| self.model(&spec.model).vision)
    }

    /// The tools of an agent, in its file's order, as it knows them.
    pub fn tools_of<'a>(&'a self, spec: &'a AgentSpec) -> impl Iterator<Item = AgentTool<'a>> {
        spec.tools.iter().filter_map(|name| {
            let info = self.tools.get(name)?;
            Some(AgentTool {
                info,
                settings: spec.tool.get(name),
                fallback: self.retry,
            })
        })
    }
}

/// A tool as one agent has it.
#[derive(Clone, Copy)]
pub struct AgentTool<'a> {
    /// The tool.
    pub info: &'a ToolInfo,
    settings: Option<&'a shared::config::ToolSettings>,
    fallback: RetryPolicy,
}

impl AgentTool<'_> {
    /// The name under which the agent's model sees it.
    pub fn shown_name(&self) -> &ToolName {
        let renamed = self.settings.and_then(|settings| settings.name.as_ref());
        renamed.unwrap_or(&self.info.name)
    }

    /// What the agent's model is told of it.
    pub fn def(&self) -> ToolDef {
        let described = self
            .settings
            .and_then(|settings| settings.description.as_deref());
        ToolDef {
            name: self.shown_name().clone(),
            description: described.map_or_else(|| self.info.description.clone(), Into::into),
            parameters: self.info.parameters.clone(),
        }
    }

    /// Seconds that one attempt may take.
    pub fn timeout_s(&self) -> u32 {
        let set = self.settings.and_then(|settings| settings.timeout_s);
        set.unwrap_or(self.info.timeout_s)
    }

    /// How failed calls are repeated.
    pub fn retry(&self) -> RetryPolicy {
        let set = self.settings.and_then(|settings| settings.retry);
        set.unwrap_or(self.fallback)
    }
}
