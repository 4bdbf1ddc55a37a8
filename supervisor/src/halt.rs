//! What an operator stops and lets go on, and the words for it: the same at every door. What it does to
//! runs is the engine's and the store's.

use shared::id::TaskId;
use shared::store::{Halt, Halted};

use crate::doctor::Finding;

/// What an operator points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Everything, or an agent: it stands still until somebody lets it go on.
    Work(Halted),
    /// One task: it is paused.
    Task(TaskId),
}

impl Target {
    /// Exactly one of them.
    pub fn one(all: bool, agent: Option<&str>, task: Option<TaskId>) -> Option<Self> {
        match (all, agent, task) {
            (true, None, None) => Some(Self::Work(Halted::All)),
            (false, Some(agent), None) => Some(Self::Work(Halted::Agent(agent.into()))),
            (false, None, Some(task)) => Some(Self::Task(task)),
            _ => None,
        }
    }
}

/// What lets it go on.
pub fn way_on(halt: &Halt) -> String {
    match (&halt.tenant, &halt.what) {
        (None, _) => "remove the file STOP from the data folder".into(),
        (_, Halted::All) => "`majordomo resume --all` lets it go on".into(),
        (_, Halted::Agent(name)) => format!("`majordomo resume --agent {name}` lets it go on"),
    }
}

/// Who stopped it, when, why, and what lets it go on.
pub fn in_words(halt: &Halt) -> String {
    format!("{halt}; {}", way_on(halt))
}

/// What an examination says of it.
pub fn finding(halts: &[Halt]) -> Finding {
    if halts.is_empty() {
        return Finding::ok("stopped", "nothing");
    }
    let found: Vec<String> = halts.iter().map(ToString::to_string).collect();
    let todo: Vec<String> = halts.iter().map(way_on).collect();
    Finding::warning("stopped", found.join("; "), todo.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;
    use shared::run::Timestamp;

    #[test]
    fn a_halt_says_who_when_why_and_what_to_do() {
        let mut halt = Halt {
            tenant: Some("home".into()),
            what: Halted::Agent("writer".into()),
            reason: "it posts nonsense".into(),
            by: "ada".into(),
            at: Timestamp(1_700_000_000_000),
        };
        assert_eq!(
            in_words(&halt),
            "agent writer was stopped by ada at 2023-11-14 22:13:20 UTC: it posts nonsense; \
             `majordomo resume --agent writer` lets it go on"
        );
        (halt.tenant, halt.what, halt.reason) = (None, Halted::All, String::new());
        assert_eq!(
            in_words(&halt),
            "everything was stopped by ada at 2023-11-14 22:13:20 UTC; remove the file STOP from the data folder"
        );
        assert_eq!(finding(&[halt]).level, Level::Warning);
        assert_eq!(finding(&[]).level, Level::Ok);
    }

    #[test]
    fn exactly_one_thing_is_pointed_at() {
        assert_eq!(Target::one(false, None, None), None);
        assert_eq!(Target::one(true, Some("x"), None), None);
        assert_eq!(Target::one(true, None, Some(TaskId::fresh())), None);
        assert!(Target::one(true, None, None).is_some());
    }
}
