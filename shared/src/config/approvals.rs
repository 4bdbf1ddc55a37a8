//! The shape of `[approvals]`: which calls of tools people are asked about before they are made.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::id::{AgentName, PrincipalId, ToolName};
use crate::run::Effect;

/// `[approvals]`: which calls of tools people are asked about before they are made. Rules are tried in
/// order, and the first that fits decides. Where none fits, people are asked before an effect that cannot
/// be repeated (`once`), and before something leaves that untrusted text had a hand in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApprovalSettings {
    /// Hours in which somebody must decide; after that it is not done.
    #[schemars(range(min = 0.0001, max = 8760))]
    pub within_h: f64,
    /// Whether approvers may decide about what is done for themselves. Set it where one person is alone.
    pub own: bool,
    /// The rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<ApprovalRule>,
}

/// `[[approvals.rules]]`: fits a call of which all that it names is true.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApprovalRule {
    /// The tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<ToolName>,
    /// The agent that calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// What repeating the call would do to the world.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// Whether the run has read anything untrusted: a page, a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tainted: Option<bool>,
    /// Arguments by their names. A text with `*` and `?` in it stands for any that looks so; `">100"`,
    /// `">=100"`, `"<100"`, `"<=100"` for a number. Capitals make no difference. Of a list each element
    /// must fit where the rule allows; any, where it asks or refuses.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// What is done about it.
    pub then: Policy,
    /// Who alone may decide, by principal; empty: every approver.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<PrincipalId>,
}

/// What is done about a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// People are asked.
    #[default]
    Ask,
    /// It is made.
    Allow,
    /// It is not made; the agent is told so.
    Refuse,
}

impl Default for ApprovalSettings {
    fn default() -> Self {
        Self {
            within_h: 72.0,
            own: false,
            rules: Vec::new(),
        }
    }
}

impl ApprovalSettings {
    /// By what an approval knows the policy that asked for it.
    pub fn version(&self) -> Hash {
        Hash::of(&serde_json::to_value(self).unwrap_or_default())
    }
}
