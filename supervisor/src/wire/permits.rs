//! Approvers' standing words.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use shared::id::{AskId, PermitId, TaskId};
use shared::permit::{Covered, Permit, PermitState, PermitUse};
use shared::run::Timestamp;

use crate::permits;

/// A permit to be given: made from an approval, or from nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PermitOrder {
    /// The approval that it is made from, which it answers as its first use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub ask: Option<AskId>,
    /// Whose calls; where it is made from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Of which tool; where it is made from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// How arguments must look, by name, as in `[approvals]`; `{}` for any. Where it is absent, those of the
    /// approval and no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<BTreeMap<String, String>>,
    /// How often it may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub times: Option<u32>,
    /// For how many seconds it is good; a year at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 31_536_000)]
    pub for_s: Option<u32>,
    /// Also where the run has read something untrusted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tainted: bool,
}

impl From<PermitOrder> for permits::Wanted {
    fn from(order: PermitOrder) -> Self {
        Self {
            ask: order.ask,
            agent: order.agent.map(Into::into),
            tool: order.tool.map(Into::into),
            covered: order.args.map(Covered::Like),
            tainted: order.tainted,
            times: order.times,
            lasts: order.for_s.map(u64::from).map(Duration::from_secs),
        }
    }
}

/// Permits, newest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PermitPage {
    /// The permits.
    pub permits: Vec<PermitView>,
}

/// An approver's standing word on calls of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Permit)]
pub struct PermitView {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: PermitId,
    /// good, used_up, ended (its time is over) or revoked.
    #[schema(value_type = String)]
    pub state: PermitState,
    /// Whose calls it lets pass.
    pub agent: String,
    /// Of which tool.
    pub tool: String,
    /// How arguments must look, by name; of those that are not named it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<BTreeMap<String, String>>,
    /// The arguments, where it is for these and no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub exactly: Option<Value>,
    /// Whether it counts also where the run has read something untrusted.
    pub tainted: bool,
    /// How often it may be used; absent for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// How often it was used.
    pub used: u32,
    /// Until when it is good, in milliseconds since 1970; absent where it ends by its uses alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    /// Who gave it.
    pub given_by: String,
    /// When.
    pub given_at_ms: i64,
    /// The approval that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub ask: Option<AskId>,
    /// Who took it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_by: Option<String>,
    /// When they did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at_ms: Option<i64>,
    /// What it was used for, the last one first, 100 at most; as long as the journals are kept. Absent in
    /// lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<PermitUseView>,
}

/// One use of a permit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PermitUse)]
pub struct PermitUseView {
    /// The approval that it answered.
    #[schema(value_type = String, format = "uuid")]
    pub ask: AskId,
    /// In which task.
    #[schema(value_type = String, format = "uuid")]
    pub task: TaskId,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

impl PermitView {
    /// A permit as it stands at this time, without its uses.
    pub fn of(permit: Permit, now: Timestamp) -> Self {
        let state = permit.state(now);
        let (args, exactly) = match permit.terms.covered {
            Covered::Like(patterns) => (Some(patterns), None),
            Covered::Exactly(args) => (None, Some(args)),
        };
        let (revoked_by, revoked_at) = permit.revoked.unzip();
        Self {
            id: permit.id,
            state,
            agent: permit.terms.agent.to_string(),
            tool: permit.terms.tool.to_string(),
            args,
            exactly,
            tainted: permit.terms.tainted,
            times: permit.terms.times,
            used: permit.used,
            until_ms: permit.until.map(|until| until.0),
            given_by: permit.by.to_string(),
            given_at_ms: permit.at.0,
            ask: permit.asked,
            revoked_by: revoked_by.map(|by| by.to_string()),
            revoked_at_ms: revoked_at.map(|at| at.0),
            uses: Vec::new(),
        }
    }

    /// The same with its uses.
    pub fn with(self, uses: Vec<PermitUse>) -> Self {
        let view = |one: PermitUse| PermitUseView {
            ask: one.ask,
            task: one.task,
            at_ms: one.at.0,
        };
        Self {
            uses: uses.into_iter().map(view).collect(),
            ..self
        }
    }
}
