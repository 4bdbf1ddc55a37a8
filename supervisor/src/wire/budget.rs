//! Limits, and what was used.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use shared::budget::Unit;
use shared::money::Usd;

use crate::budget::{By, Forecast, Line, Used};

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
    /// Who set it; absent where the configuration does, or nobody.
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
    /// What is thought of its work; of agents alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<RegardView>,
}

/// What is thought of an agent's work: in how many tasks that it took part in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Regard)]
pub struct RegardView {
    /// Somebody was content.
    pub good: u64,
    /// Somebody was not.
    pub bad: u64,
    /// Something was known without words: arguments changed before approval, nobody answered, stopped by
    /// whom it was for, or asked for again shortly after.
    pub signs: u64,
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
            feedback: used.regard.map(|regard| RegardView {
                good: regard.good,
                bad: regard.bad,
                signs: regard.signs,
            }),
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
