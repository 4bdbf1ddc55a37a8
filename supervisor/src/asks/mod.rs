//! What people are asked, and who may say what to it: approvals, questions, effects in doubt, work that
//! cannot go on by itself.
//!
//! ```text
//!   run waits ─► ask (a row) ─┬─► herald ─► cards in chats ────────────────┐
//!                             └─► lists over HTTP and on the command line ─┤
//!   run goes on ◄─ signal ◄─ decide ◄─ may_decide ◄────────────────────────┘
//! ```
//! Whatever door a word comes in by, [`Desk::decide`](crate::desk::Desk::decide) takes it, and
//! [`may_decide`] alone says whether it counts. The first word wins.

pub mod card;
pub mod dead;
mod decide;
pub mod herald;
pub mod ladder;
mod outcome;
pub mod pager;

use shared::ask::{AskKind, AskState, Asked, Offer};
use shared::config::Role;
use shared::id::PrincipalId;
use shared::task::Task;

pub use decide::{Decided, PREFIX};
pub use outcome::Outcome;

use crate::auth::{Act, Caller, Scope};
use crate::people::Known;

/// Asks that are listed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collection {
    /// What may not be done without a word.
    Approvals,
    /// What agents want to know.
    Questions,
    /// What cannot go on by itself: effects in doubt, trouble, and what has used all that it may.
    Escalations,
}

impl Collection {
    /// All of them.
    pub const ALL: [Collection; 3] = [Self::Approvals, Self::Questions, Self::Escalations];

    /// Its name in paths and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approvals => "approvals",
            Self::Questions => "questions",
            Self::Escalations => "escalations",
        }
    }

    /// One of what it holds, in a word.
    pub fn one(self) -> &'static str {
        match self {
            Self::Approvals => "approval",
            Self::Questions => "question",
            Self::Escalations => "escalation",
        }
    }

    /// The kinds of asks that it holds.
    pub fn kinds(self) -> &'static [AskKind] {
        match self {
            Self::Approvals => &[AskKind::Approval],
            Self::Questions => &[AskKind::Question],
            Self::Escalations => &[AskKind::Doubt, AskKind::Trouble, AskKind::Limit],
        }
    }

    /// The collection that asks of this kind are in.
    pub fn of(kind: AskKind) -> Self {
        match kind {
            AskKind::Approval => Self::Approvals,
            AskKind::Question => Self::Questions,
            AskKind::Doubt | AskKind::Trouble | AskKind::Limit => Self::Escalations,
        }
    }
}

/// Somebody who has a word to say.
#[derive(Clone, Debug)]
pub struct Who {
    /// Who it is.
    pub principal: PrincipalId,
    /// Whether they may decide what tasks of others wait for.
    pub approves: bool,
    /// Whether they may set limits.
    pub keeps_budgets: bool,
}

impl From<&Caller> for Who {
    fn from(caller: &Caller) -> Self {
        Self {
            principal: caller.principal.clone(),
            approves: caller.has(Scope::Approve) || caller.has(Scope::Admin),
            keeps_budgets: caller.may(Act::KeepBudgets).is_ok(),
        }
    }
}

impl From<&Known> for Who {
    fn from(known: &Known) -> Self {
        Self {
            principal: known.principal.clone(),
            approves: known.may(Role::Approver),
            keeps_budgets: known.may(Role::Admin),
        }
    }
}

impl Who {
    /// Whether a task is theirs: done for them, or handed in by them.
    fn owns(&self, task: &Task) -> bool {
        [&task.principal, &task.submitted_by].contains(&&self.principal)
    }

    /// Whether they may see what is asked in a task.
    pub fn may_see(&self, task: &Task) -> bool {
        self.approves || self.owns(task)
    }
}

/// The one decision on who may say what becomes of an ask. The error says why not, for them.
pub fn may_decide(asked: &Asked, task: &Task, who: &Who) -> Result<(), &'static str> {
    let own = who.owns(task);
    match asked.ask.kind {
        AskKind::Limit if raises_account(asked) && !who.keeps_budgets => {
            Err("This raises a limit that others pay from, too: an admin decides it.")
        }
        AskKind::Question | AskKind::Trouble if own => Ok(()),
        _ if !who.approves => Err("This is for an approver to decide."),
        AskKind::Question | AskKind::Trouble | AskKind::Doubt | AskKind::Limit => Ok(()),
        AskKind::Approval => {
            let named = &asked.ask.approvers;
            if !named.is_empty() && !named.contains(&who.principal) {
                return Err("This is for others to decide: the policy names who.");
            }
            if own && !asked.ask.by_oneself {
                return Err(
                    "This is done for you, so somebody else decides it. Where nobody else is there, \
                     `own = true` in [approvals] of majordomo.toml lets you decide it in tasks that \
                     are handed in from then on.",
                );
            }
            Ok(())
        }
    }
}

/// Whether more is asked for of an account, not of what one piece of work may use.
pub fn raises_account(asked: &Asked) -> bool {
    matches!(asked.ask.offer, Some(Offer::Account(_)))
}

/// What became of an ask, in a line of plain text.
pub fn outcome(asked: &Asked) -> String {
    let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    Outcome::of(asked).tell(line)
}

/// Why a word on an ask comes too late, in a line of plain text.
pub fn too_late(asked: &Asked) -> String {
    match asked.state {
        AskState::Answered => format!("it was decided before: {}", outcome(asked)),
        AskState::Lapsed | AskState::Void => outcome(asked),
        // Its run was about to go on by itself.
        AskState::Open => "nobody waits for it any more".into(),
    }
}

#[cfg(test)]
mod tests {
    use shared::ask::Ask;
    use shared::id::{AskId, TaskId};
    use shared::run::Timestamp;
    use shared::task::{Request, TaskState};

    use super::*;

    fn asked(kind: AskKind) -> Asked {
        let task = TaskId::fresh();
        let name = "approve/tool/1.0".into();
        Asked {
            id: AskId::of(task.into(), &name),
            task,
            run: task.into(),
            name,
            ask: Ask::new(kind, "x"),
            at: Timestamp(1),
            until: None,
            state: AskState::Open,
            verdict: None,
        }
    }

    fn task_of(principal: &str) -> Task {
        Task {
            id: TaskId::fresh(),
            tenant: "home".into(),
            principal: principal.into(),
            submitted_by: principal.into(),
            request: Request {
                text: "x".into(),
                agent: None,
                channel: "cli".into(),
                thread: None,
                metadata: Default::default(),
                budget: Default::default(),
                said: Default::default(),
                priority: 0,
                images: Vec::new(),
            },
            state: TaskState::AwaitingHuman,
            phase: None,
            answer: None,
            partial: None,
            error: None,
            usage: Default::default(),
            created_at: Timestamp(1),
            updated_at: Timestamp(1),
            origin: None,
            pruned_at: None,
        }
    }

    #[test]
    fn who_may_say_what() {
        use AskKind::{Approval, Doubt, Question, Trouble};
        let task = task_of("anna");
        let who = |name: &str, approves| Who {
            principal: name.into(),
            approves,
            keeps_budgets: false,
        };
        let (anna, boss, eve) = (who("anna", false), who("boss", true), who("eve", false));
        let table = [
            (Question, true, true, false),
            (Trouble, true, true, false),
            (Doubt, false, true, false),
            (Approval, false, true, false),
        ];
        for (kind, by_anna, by_boss, by_eve) in table {
            let asked = asked(kind);
            let may = |who| may_decide(&asked, &task, who).is_ok();
            assert_eq!(
                (may(&anna), may(&boss), may(&eve)),
                (by_anna, by_boss, by_eve),
                "{kind:?}"
            );
        }
        let (mut own, anna) = (asked(Approval), who("anna", true));
        assert!(may_decide(&own, &task, &anna).is_err(), "self-approval");
        own.ask.by_oneself = true;
        assert!(may_decide(&own, &task, &anna).is_ok());
        own.ask.approvers = vec!["chief".into()];
        assert!(may_decide(&own, &task, &boss).is_err(), "others are named");
        assert!(may_decide(&own, &task, &who("chief", true)).is_ok());
    }
}
