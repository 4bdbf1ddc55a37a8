//! Permits: an approver's standing word on calls of one kind, so that nobody is asked about each. The words
//! only. A permit never lets a call pass that its giver could not approve themselves at that moment; each
//! use of one is an approval like any other, for one action to the last byte.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{AgentName, AskId, PermitId, PrincipalId, TaskId, ToolName};
use crate::run::Timestamp;

/// Which arguments a permit is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Covered {
    /// These and no others.
    Exactly(Value),
    /// Those that look so, by name, as in `[approvals]`; of arguments that are not named it says nothing.
    Like(BTreeMap<String, String>),
}

/// What a permit is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Whose calls.
    pub agent: AgentName,
    /// Of which tool.
    pub tool: ToolName,
    /// With which arguments.
    pub covered: Covered,
    /// Also where the run has read something untrusted.
    pub tainted: bool,
    /// How often; none for any number until it ends.
    pub times: Option<u32>,
}

/// A permit, as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Permit {
    /// Its id.
    pub id: PermitId,
    /// What it is for.
    pub terms: Terms,
    /// How often it was used.
    pub used: u32,
    /// Until when it is good; none where it ends by its uses alone.
    pub until: Option<Timestamp>,
    /// Who gave it.
    pub by: PrincipalId,
    /// When.
    pub at: Timestamp,
    /// What was asked when it was given.
    pub asked: Option<AskId>,
    /// Who took it back, and when.
    pub revoked: Option<(PrincipalId, Timestamp)>,
}

impl Permit {
    /// How often it may still be used; none for any number.
    pub fn left(&self) -> Option<u32> {
        let times = self.terms.times?;
        Some(times.saturating_sub(self.used))
    }

    /// Where it stands at this time.
    pub fn state(&self, now: Timestamp) -> PermitState {
        if self.revoked.is_some() {
            return PermitState::Revoked;
        }
        if self.left() == Some(0) {
            return PermitState::UsedUp;
        }
        match self.until {
            Some(until) if until <= now => PermitState::Ended,
            _ => PermitState::Good,
        }
    }
}

/// Where a permit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PermitState {
    /// It lets calls pass.
    Good,
    /// It was used as often as it may be.
    UsedUp,
    /// Its time is over.
    Ended,
    /// It was taken back.
    Revoked,
}

impl PermitState {
    /// The state's name in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::UsedUp => "used up",
            Self::Ended => "ended",
            Self::Revoked => "revoked",
        }
    }
}

/// One use of a permit.
#[derive(Clone, Debug, PartialEq)]
pub struct PermitUse {
    /// The ask that it answered.
    pub ask: AskId,
    /// In which task.
    pub task: TaskId,
    /// When.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_good_until_it_is_used_up_over_or_taken_back() {
        let permit = Permit {
            id: PermitId::fresh(),
            terms: Terms {
                agent: "executor".into(),
                tool: "send_email".into(),
                covered: Covered::Like(BTreeMap::new()),
                tainted: false,
                times: Some(2),
            },
            used: 1,
            until: Some(Timestamp(10)),
            by: "anna".into(),
            at: Timestamp(0),
            asked: None,
            revoked: None,
        };
        let now = Timestamp(9);
        assert_eq!(permit.state(now), PermitState::Good);
        assert_eq!(permit.state(Timestamp(10)), PermitState::Ended);
        let mut used = permit.clone();
        used.used = 2;
        assert_eq!(used.state(now), PermitState::UsedUp);
        used.terms.times = None;
        assert_eq!(used.state(now), PermitState::Good);
        used.revoked = Some(("bert".into(), now));
        assert_eq!(used.state(now), PermitState::Revoked);
    }
}
