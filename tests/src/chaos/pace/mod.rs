//! How fast the doors are: how soon Slack's events are acknowledged while much is going on, whether chats
//! that Telegram holds back make others wait, and how soon somebody sees that they were heard. Nothing is
//! killed here. What must be true is judged each time, how long it takes only in the full form: what else
//! the machine does is not ours, so its load stands beside the figures.

mod burst;
mod first;
mod storm;

use std::fmt;
use std::time::Duration;

use super::answering::{AGENT, ANSWER, SCRIPT};
use super::house::write;
use super::{Finding, Plan};
use crate::place::Place;

/// What all configurations begin with: each message is a task of its own, and goes straight to the agent.
const SETTINGS: &str = "[models.default]\nprovider = \"scripted\"\nfile = \"script.toml\"\n\
    [conversations]\nfollow_up = \"beside\"\nturns = 0\n\
    [[routes]]\nmatches = \"\"\nagents = [\"executor\"]\n";
/// How often the far side is looked at.
const LOOK: Duration = Duration::from_millis(200);

pub(super) async fn run(plan: &Plan) -> Vec<Finding> {
    // One after the other: beside each other they would measure each other.
    vec![
        burst::run(plan, false).await,
        burst::run(plan, true).await,
        storm::run(plan).await,
        first::telegram(plan).await,
        first::slack(plan).await,
        first::http(plan).await,
    ]
}

/// Writes the configuration: what all have, and `more`.
fn configure(place: &Place, more: &str) {
    write(place, "majordomo.toml", &format!("{SETTINGS}{more}"));
    write(place, "agents/executor.toml", AGENT);
    write(place, "script.toml", SCRIPT);
    place.configure(&place.path().join("config"));
}

/// What was built, and what the machine does just now.
pub(super) fn conditions() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?");
    let build = match cfg!(debug_assertions) {
        true => "debug",
        false => "release",
    };
    format!("{build} build, load {load}")
}

/// Times in milliseconds, sorted.
pub(super) struct Times(Vec<i64>);

impl FromIterator<i64> for Times {
    fn from_iter<I: IntoIterator<Item = i64>>(times: I) -> Self {
        let mut times: Vec<i64> = times.into_iter().collect();
        times.sort_unstable();
        Self(times)
    }
}

impl Times {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What this share, in percent, is not above: the nearest rank.
    pub(super) fn percentile(&self, percent: usize) -> i64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or(0)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p95, p99, max] = [50, 95, 99, 100].map(|percent| self.percentile(percent));
        write!(
            f,
            "p50 {p50}, p95 {p95}, p99 {p99}, max {max} ms of {}",
            self.0.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_the_nearest_rank() {
        let times: Times = (1..=200).rev().collect();
        let of = [0, 50, 95, 99, 100].map(|percent| times.percentile(percent));
        assert_eq!(of, [1, 100, 190, 198, 200]);
        assert_eq!(Times::from_iter([7]).percentile(99), 7);
        assert_eq!(Times::from_iter([]).percentile(99), 0);
    }
}
