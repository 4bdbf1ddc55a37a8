//! What became of an ask, in words: the same at every door. Pure.

use shared::ask::{AskKind, AskState, Asked, Decision};
use shared::clock;
use shared::run::Timestamp;

/// Where an ask stands, and what was said to it.
pub struct Outcome<'a> {
    /// What was asked.
    pub kind: AskKind,
    /// Where it stands.
    pub state: AskState,
    /// What was decided, where that is known.
    pub decision: Option<&'a Decision>,
    /// Who decided it.
    pub by: Option<String>,
    /// When.
    pub at: Option<Timestamp>,
}

impl<'a> Outcome<'a> {
    /// That of an ask.
    pub fn of(asked: &'a Asked) -> Self {
        let verdict = asked.verdict.as_ref();
        Self {
            kind: asked.ask.kind,
            state: asked.state,
            decision: verdict.map(|(verdict, _)| &verdict.decision),
            by: verdict.map(|(verdict, _)| verdict.whose()),
            at: verdict.map(|(_, at)| *at),
        }
    }

    /// A line that begins small and ends without a stop. `quote` puts what a person said into it.
    pub fn tell(&self, quote: impl Fn(&str) -> String) -> String {
        let Some(decision) = self.decision else {
            return self.without_a_word().into();
        };
        let by = self.by.as_deref().unwrap_or("somebody");
        let at = self.at.map(|at| format!(", {}", clock::utc(at)));
        let said = decision.text().map(|text| format!(": {}", quote(text)));
        let (at, said) = (at.unwrap_or_default(), said.unwrap_or_default());
        format!("{} by {by}{at}{said}", decision.word())
    }

    fn without_a_word(&self) -> &'static str {
        match (self.state, self.kind) {
            (AskState::Open, _) => "it waits for a decision",
            (AskState::Answered, _) => "it was answered",
            (AskState::Lapsed, AskKind::Question) => "nobody answered in time",
            (AskState::Lapsed, AskKind::Approval) => "nobody decided in time, so it was not done",
            (AskState::Lapsed, _) => "nobody decided in time",
            (AskState::Void, _) => "its task has ended; nothing is asked any more",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_it_is_told_as_far_as_it_is_known() {
        let reject = Decision::Reject {
            reason: "not\nyet".into(),
        };
        let decided = Outcome {
            kind: AskKind::Approval,
            state: AskState::Answered,
            decision: Some(&reject),
            by: Some("ann".into()),
            at: Some(Timestamp(0)),
        };
        let line = |text: &str| text.replace('\n', " ");
        assert_eq!(
            decided.tell(line),
            "rejected by ann, 1970-01-01 00:00:00 UTC: not yet"
        );
        let nameless = Outcome {
            decision: Some(&Decision::Again),
            by: None,
            at: None,
            ..decided
        };
        assert_eq!(nameless.tell(line), "do it again by somebody");
        let silent = |kind, state| {
            let outcome = Outcome {
                kind,
                state,
                decision: None,
                by: None,
                at: None,
            };
            outcome.tell(line)
        };
        let table = [
            (AskKind::Question, AskState::Lapsed, "nobody answered"),
            (AskKind::Approval, AskState::Lapsed, "it was not done"),
            (AskKind::Approval, AskState::Void, "its task has ended"),
            (AskKind::Doubt, AskState::Answered, "it was answered"),
        ];
        for (kind, state, said) in table {
            assert!(silent(kind, state).contains(said), "{kind:?} {state:?}");
        }
    }
}
