//! Where the work cannot go on by itself: what people are asked then, and how it goes on. What they are
//! asked follows from how the work would end; with nobody's help in time it ends so.

use std::time::Duration;

use shared::ask::{Ask, AskKind, Decision, Offer, Verdict};
use shared::budget::{Over, Which};
use shared::event::Note;
use shared::id::{PrincipalId, SignalName, StepKey};
use shared::model::Message;
use shared::money::Usd;
use shared::run::{Failure, FailureKind, Recorded};

use super::people::Waits;
use super::{AgentRun, Allowance, Ending, Pending};
use crate::context;
use crate::loop_guard::LoopGuard;

/// Characters of what there is so far that people are shown.
const SO_FAR: usize = 3_000;

impl Allowance {
    /// Nothing.
    pub const NONE: Allowance = Allowance {
        steps: 0,
        active_ms: 0,
        tokens: 0,
        usd: Usd::ZERO,
    };

    /// Both together.
    pub fn plus(self, more: Allowance) -> Allowance {
        Allowance {
            steps: self.steps.saturating_add(more.steps),
            active_ms: self.active_ms.saturating_add(more.active_ms),
            tokens: self.tokens.saturating_add(more.tokens),
            usd: self.usd + more.usd,
        }
    }

    /// Whether there is nothing in it.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

/// What holds up everybody who asks this model, where it is not this one request.
pub fn cause_in(model: &str, failure: &Failure) -> Option<String> {
    match failure.kind {
        FailureKind::Transient => Some(format!("model/{model}/down")),
        FailureKind::Permanent => Some(format!("model/{model}/refuses")),
        _ => None,
    }
}

/// An account's limit was raised, for whoever watches a task that waited for it.
pub fn raised(over: &Over, usd: Option<Usd>, by: Option<PrincipalId>) -> Note {
    let Which {
        account,
        period,
        unit,
    } = &over.which;
    let more = unit.show(usd.map_or(over.more(), Usd::nano));
    let by = by.map_or_else(|| "a person".to_owned(), |by| by.to_string());
    Note::Decided {
        what: format!(
            "the limit of {} {} of {account} is raised",
            unit.show(over.limit),
            period.in_words()
        ),
        reason: format!("{by} added {more}, {}", period.now_in_words()),
    }
}

impl AgentRun<'_> {
    /// Whether an account's limit alone keeps a call from being made, and people may raise it.
    pub(super) fn held_up(&mut self, recorded: &Recorded) -> bool {
        let asks = self.catalog.help_within_s.is_some() && !self.left && self.closing.is_none();
        match Over::in_evidence(&recorded.evidence).filter(|_| asks) {
            None => false,
            over => {
                self.count(recorded);
                self.over = over;
                true
            }
        }
    }

    /// Asks for more before these calls are made, under new keys: none of them was begun.
    pub(super) fn call_again(&mut self, held_up: Vec<Pending>) {
        let Some(over) = self.over.as_ref().filter(|_| !held_up.is_empty()) else {
            return;
        };
        let limit = over.to_string();
        for mut pending in held_up.into_iter().rev() {
            pending.key = StepKey::from(format!("{}+", pending.key));
            self.pending.push_front(pending);
        }
        self.helps += 1;
        self.waits = Some(Waits::Help(Ending::Limit { limit }));
    }

    /// Asks for help before the work ends so, where anybody can help and the catalog gives them time.
    pub(super) fn asks_for_help(&mut self, ending: &Ending) -> bool {
        let asks = self.catalog.help_within_s.is_some() && !self.left;
        let asks = match ending {
            Ending::Done => false,
            // Nothing was done yet that would be lost: whoever set the limit hears of it at once.
            Ending::Limit { .. } => asks && self.turn > 0,
            _ => asks,
        };
        if asks {
            self.helps += 1;
            self.waits = Some(Waits::Help(ending.clone()));
        }
        asks
    }

    /// What people are asked when the work would end so.
    pub(super) fn cry(&self, ending: &Ending) -> (SignalName, Duration, Ask) {
        let agent = &self.spec.name;
        let (kind, title, tried) = match ending {
            Ending::Limit { limit } => {
                let title = match &self.over {
                    Some(over) => over.question(),
                    None => self.question_of_limit(limit),
                };
                (AskKind::Limit, title, &[][..])
            }
            Ending::Circles { what } => {
                let title = format!("{agent} goes round in circles: it {what}");
                (AskKind::Trouble, title, self.tried.as_slice())
            }
            Ending::Escalated { why, tried } => {
                let title = format!("{agent} cannot go on: {why}");
                (AskKind::Trouble, title, tried.as_slice())
            }
            Ending::Failed { failure } => {
                let title = format!("{agent} cannot go on: {failure}");
                (AskKind::Trouble, title, self.tried.as_slice())
            }
            Ending::Done => (AskKind::Trouble, format!("{agent} is done"), &[][..]),
        };
        let mut parts = Vec::new();
        if !tried.is_empty() {
            parts.push(format!("It tried:\n- {}", tried.join("\n- ")));
        }
        let so_far = context::head_and_tail(self.said.trim(), SO_FAR);
        if !so_far.is_empty() {
            parts.push(format!("Here is what I have:\n{so_far}"));
        }
        parts.push(format!(
            "{agent} has used {} steps and {}.",
            self.steps, self.used.usd
        ));
        let cause = match ending {
            Ending::Failed { failure } => cause_in(self.spec.model.as_str(), failure),
            Ending::Escalated { .. } => self.unreachable.clone(),
            Ending::Limit { .. } => self.over.as_ref().map(Over::cause),
            _ => None,
        };
        let offer = (kind == AskKind::Limit).then(|| match &self.over {
            Some(over) => Offer::Account(over.clone()),
            None => Offer::Work {
                usd: self.first_allowance.usd,
                tokens: self.first_allowance.tokens,
            },
        });
        let ask = Ask {
            text: parts.join("\n\n").replace('\0', " "),
            agent: Some(agent.clone()),
            cause,
            offer,
            ..Ask::new(kind, context::head_and_tail(&title, 400).replace('\0', " "))
        };
        let within = Duration::from_secs(self.catalog.help_within_s.unwrap_or(0));
        (
            SignalName::from(format!("help/{}", self.helps)),
            within,
            ask,
        )
    }

    /// What people are asked where the work has used what it was given.
    fn question_of_limit(&self, limit: &str) -> String {
        let (agent, may, more) = (&self.spec.name, self.allowance, self.first_allowance);
        format!(
            "{agent} has reached the limit of {limit}: spent {} of {} in {} of {} steps; add {} and {} \
             steps?",
            self.used.usd, may.usd, self.steps, may.steps, more.usd, more.steps
        )
    }

    /// What follows from a person's word on work that cannot go on, or from their silence.
    pub(super) fn help_came(&mut self, ending: Ending, verdict: Option<Verdict>) {
        let by = verdict.as_ref().and_then(|verdict| verdict.by.clone());
        match verdict.map(|verdict| verdict.decision) {
            Some(Decision::Again) => self.go_on(""),
            Some(Decision::Guide { text }) => self.go_on(text.trim()),
            Some(Decision::More { usd }) if self.over.is_some() => {
                self.notes
                    .extend(self.over.take().map(|over| raised(&over, usd, by)));
                self.go_on("");
            }
            Some(Decision::More { usd }) => {
                let more = Allowance {
                    usd: usd.unwrap_or(self.first_allowance.usd),
                    ..self.first_allowance
                };
                self.allowance = self.allowance.plus(more);
                self.more = self.more.plus(more);
                self.go_on("");
            }
            Some(Decision::Reply { text }) => {
                text.trim().clone_into(&mut self.said);
                self.ended = Some(Ending::Done);
            }
            // What there is was not summed up yet.
            _ if !self.pending.is_empty() => {
                self.left = true;
                self.closing = Some(ending);
            }
            _ => {
                self.left = true;
                self.ended = Some(ending);
            }
        }
    }

    /// Goes on where the work stood, with a fresh eye: what was counted against it is forgotten.
    fn go_on(&mut self, guidance: &str) {
        self.guard = LoopGuard::default();
        self.failed_turns.clear();
        self.malformed = 0;
        self.closing = None;
        let summed_up = std::mem::take(&mut self.told_to_close);
        if summed_up && !self.said.is_empty() {
            let (text, calls) = (Some(self.said.clone()), Vec::new());
            self.messages.push(Message::Assistant { text, calls });
        }
        let text = match (guidance, summed_up) {
            ("", false) => return,
            ("", true) => "A person decided that you go on. You may call tools again.".to_owned(),
            (guidance, _) => format!("A person decided that you go on, and says: {guidance}"),
        };
        self.messages.push(Message::user(text));
    }
}
