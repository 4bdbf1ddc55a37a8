//! What people think of answers: what they say, and what their doings say without words. The words only.

use serde::{Deserialize, Serialize};

use crate::id::{AgentName, PrincipalId, TaskId};
use crate::run::Timestamp;

/// By what somebody's opinion is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// They said it.
    Said,
    /// Before they approved a call they changed its arguments.
    Edited,
    /// Nobody answered what was asked, in time.
    Lapsed,
    /// They stopped the task that was done for them.
    Cancelled,
    /// Shortly after the answer they asked for nearly the same again.
    Rephrased,
}

impl Source {
    /// All of them.
    pub const ALL: [Source; 5] = [
        Self::Said,
        Self::Edited,
        Self::Lapsed,
        Self::Cancelled,
        Self::Rephrased,
    ];

    /// Its name in the store and in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Said => "said",
            Self::Edited => "edited",
            Self::Lapsed => "lapsed",
            Self::Cancelled => "cancelled",
            Self::Rephrased => "rephrased",
        }
    }

    /// The one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == name)
    }
}

/// An opinion on a task's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Feedback {
    /// The task.
    pub task: TaskId,
    /// Whose it is.
    pub who: PrincipalId,
    /// By what it is known.
    pub source: Source,
    /// Whether they are content; never where it is known without words.
    pub good: bool,
    /// What they said besides.
    pub text: String,
    /// When.
    pub at: Timestamp,
}

/// What is thought of an agent's work: in how many tasks that it took part in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regard {
    /// The agent.
    pub agent: AgentName,
    /// Somebody was content.
    pub good: u64,
    /// Somebody was not.
    pub bad: u64,
    /// Something was known without words.
    pub signs: u64,
}

/// Whether one request asks for nearly the same as another: of the words of both together, each counted
/// once, with three letters or more, at least half are in both.
pub fn is_alike(one: &str, other: &str) -> bool {
    let (one, other) = (words(one), words(other));
    let both = one.intersection(&other).count();
    let all = one.union(&other).count();
    both > 0 && both * 2 >= all
}

fn words(text: &str) -> std::collections::BTreeSet<String> {
    let words = text.split(|c: char| !c.is_alphanumeric());
    let long = words.filter(|word| word.chars().count() > 2);
    long.map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_alike_by_their_words() {
        let table = [
            (
                "What is our backup policy?",
                "what IS our backup policy",
                true,
            ),
            (
                "Summarise the backup policy",
                "Please summarise the policy for the backup",
                true,
            ),
            ("Summarise the backup policy", "And who wrote it?", false),
            ("Send it to Ann", "Book a table for two in Rome", false),
            ("", "", false),
            ("ok", "ok", false),
        ];
        for (one, other, alike) in table {
            assert_eq!(is_alike(one, other), alike, "{one} / {other}");
        }
    }
}
