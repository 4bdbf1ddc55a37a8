//! Dollars and tokens: what work cost, what it may cost, and what a price says it will cost.
//!
//! Money is counted in whole billionths of a dollar, so that a single token of a cheap model is
//! not rounded away and sums are exact.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};

use serde::{Deserialize, Serialize};

/// An amount of US dollars, in billionths. Adding saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Usd(i64);

impl Usd {
    /// Nothing.
    pub const ZERO: Usd = Usd(0);
    /// More than any limit.
    pub const MAX: Usd = Usd(i64::MAX);

    /// Billionths of a dollar.
    pub const fn from_nano(nano: i64) -> Self {
        Self(nano)
    }

    /// Billionths of a dollar.
    pub const fn nano(self) -> i64 {
        self.0
    }

    /// From dollars, rounded up to the next billionth. Negative amounts and NaN become zero.
    pub fn from_dollars(dollars: f64) -> Self {
        Self((dollars.max(0.0) * 1e9).ceil() as i64)
    }

    /// As dollars, for JSON and charts.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// `self - other`, but not below zero.
    pub fn saturating_sub(self, other: Usd) -> Usd {
        Usd(self.0.saturating_sub(other.0).max(0))
    }
}

impl fmt::Display for Usd {
    /// Dollars with as many decimals as the amount needs: `$1.50`, `$0.0123`, `$0.000004`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = match self.0.abs() {
            0 => 2,
            1_000_000_000.. => 2,
            1_000_000.. => 4,
            1_000.. => 6,
            _ => 9,
        };
        write!(f, "${:.decimals$}", self.dollars())
    }
}

impl Add for Usd {
    type Output = Usd;
    fn add(self, other: Usd) -> Usd {
        Usd(self.0.saturating_add(other.0))
    }
}
impl AddAssign for Usd {
    fn add_assign(&mut self, other: Usd) {
        *self = *self + other;
    }
}
impl Sub for Usd {
    type Output = Usd;
    fn sub(self, other: Usd) -> Usd {
        Usd(self.0.saturating_sub(other.0))
    }
}
impl Sum for Usd {
    fn sum<I: Iterator<Item = Usd>>(amounts: I) -> Usd {
        amounts.fold(Usd::ZERO, Add::add)
    }
}

/// What one or more attempts used. Cached tokens are part of `tokens_in`, reasoning tokens part of
/// `tokens_out`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens sent.
    pub tokens_in: u64,
    /// Those of them that the provider served from its cache.
    pub tokens_cached: u64,
    /// Tokens received.
    pub tokens_out: u64,
    /// What it cost.
    pub usd: Usd,
    /// The provider did not say what was used, so the reservation was charged.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub assumed: bool,
}

impl Usage {
    /// Tokens sent and received.
    pub fn tokens(&self) -> u64 {
        self.tokens_in.saturating_add(self.tokens_out)
    }
}

impl Add for Usage {
    type Output = Usage;
    fn add(self, other: Usage) -> Usage {
        Usage {
            tokens_in: self.tokens_in.saturating_add(other.tokens_in),
            tokens_cached: self.tokens_cached.saturating_add(other.tokens_cached),
            tokens_out: self.tokens_out.saturating_add(other.tokens_out),
            usd: self.usd + other.usd,
            assumed: self.assumed || other.assumed,
        }
    }
}
impl AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        *self = *self + other;
    }
}
impl Sum for Usage {
    fn sum<I: Iterator<Item = Usage>>(all: I) -> Usage {
        all.fold(Usage::default(), Add::add)
    }
}

/// What a model's tokens cost: dollars per million.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Dollars per million tokens sent.
    pub input: f64,
    /// Dollars per million tokens served from the provider's cache; `input` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<f64>,
    /// Dollars per million tokens received, reasoning included.
    pub output: f64,
}

impl Price {
    /// A model that costs nothing, such as one on the team's own machine.
    pub const FREE: Price = Price {
        input: 0.0,
        cached_input: None,
        output: 0.0,
    };

    /// What these tokens cost, rounded up to the next billionth of a dollar.
    pub fn cost(&self, tokens_in: u64, tokens_cached: u64, tokens_out: u64) -> Usd {
        let cached = tokens_cached.min(tokens_in);
        let dollars = (tokens_in - cached) as f64 * self.input
            + cached as f64 * self.cached_input.unwrap_or(self.input)
            + tokens_out as f64 * self.output;
        Usd::from_dollars(dollars / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cheap_token_is_not_rounded_away() {
        let price = Price {
            input: 0.15,
            cached_input: Some(0.075),
            output: 0.6,
        };
        assert_eq!(price.cost(1, 0, 0), Usd::from_nano(150));
        assert_eq!(price.cost(1_000_000, 500_000, 1_000_000).dollars(), 0.7125);
        assert_eq!(Price::FREE.cost(9, 9, 9), Usd::ZERO);
    }

    #[test]
    fn amounts_read_well() {
        let shown = [1_500_000_000, 12_300_000, 4_000, 7, 0].map(|n| Usd::from_nano(n).to_string());
        assert_eq!(
            shown,
            ["$1.50", "$0.0123", "$0.000004", "$0.000000007", "$0.00"]
        );
    }
}
