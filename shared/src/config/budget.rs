//! `[budget]`: what may be spent in a day, a month and in all, by whom. Limits of a single task are in
//! `[limits]`. Those that an admin sets while instances run go before all of these.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::types::Limits;
use crate::budget::{Cap, Caps, Plan};
use crate::id::{AgentName, PrincipalId};
use crate::money::Usd;

/// `[budget]`: what everybody together may spend, and each one. Days and months are those of UTC. Nothing
/// is limited that is not named here.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetSettings {
    /// What everybody together may spend in a day.
    pub day: Amounts,
    /// What everybody together may spend in a calendar month.
    pub month: Amounts,
    /// What everybody together may spend in all.
    pub total: Amounts,
    /// What each person may spend, and each token's user.
    pub each_user: Periods,
    /// What each agent may spend, whoever it works for.
    pub each_agent: Periods,
    /// What single people may spend instead, by their name.
    pub users: BTreeMap<PrincipalId, Periods>,
    /// What single agents may spend instead, by their name.
    pub agents: BTreeMap<AgentName, Periods>,
    /// Admins are told of a run that uses more than so many times the dollars or the steps of its agent's
    /// usual ones: 5 where nothing is said, 0 for never.
    #[schemars(range(min = 0.0))]
    pub unusual: Option<f64>,
}

/// Limits in each period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Periods {
    /// In a day.
    pub day: Amounts,
    /// In a calendar month.
    pub month: Amounts,
    /// In all.
    pub total: Amounts,
}

/// Limits of both kinds; none where absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Amounts {
    /// Dollars.
    #[schemars(range(min = 0.0))]
    pub usd: Option<f64>,
    /// Tokens sent and received.
    pub tokens: Option<u64>,
}

/// So many times the usual is unusual.
const UNUSUAL: f64 = 5.0;

impl BudgetSettings {
    /// How many times the usual is told of; none where nothing is.
    pub fn unusual(&self) -> Option<f64> {
        Some(self.unusual.unwrap_or(UNUSUAL)).filter(|times| *times > 0.0)
    }

    /// The limits as the store goes by them; a task's are those of `[limits]`.
    pub fn plan(&self, limits: &Limits) -> Plan {
        let one = |periods: &Periods| Caps::from(*periods);
        Plan {
            task: Cap {
                usd: Some(Usd::from_dollars(limits.usd)),
                tokens: Some(limits.tokens),
            },
            all: Caps {
                day: self.day.into(),
                month: self.month.into(),
                total: self.total.into(),
            },
            each_user: self.each_user.into(),
            each_agent: self.each_agent.into(),
            users: self
                .users
                .iter()
                .map(|(name, all)| (name.clone(), one(all)))
                .collect(),
            agents: self
                .agents
                .iter()
                .map(|(name, all)| (name.clone(), one(all)))
                .collect(),
        }
    }
}

impl From<Periods> for Caps {
    fn from(periods: Periods) -> Self {
        Self {
            day: periods.day.into(),
            month: periods.month.into(),
            total: periods.total.into(),
        }
    }
}

impl From<Amounts> for Cap {
    fn from(amounts: Amounts) -> Self {
        Self {
            usd: amounts.usd.map(Usd::from_dollars),
            tokens: amounts.tokens,
        }
    }
}
