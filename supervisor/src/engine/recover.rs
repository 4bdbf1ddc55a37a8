//! What becomes of an attempt that has no outcome: the recovery rule, as pure code. The live run and
//! recovery after a crash go by the same rule.

use shared::run::{Attempt, Effect, Failure, FailureKind, Timestamp};
use shared::store::Step;

/// What to do about an operation that may have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Do it again, with the same effect key.
    Again,
    /// Ask the far side whether it happened.
    Probe,
    /// Ask a person.
    Doubt,
}

/// The rule: by effect class, and by nothing else.
pub fn rule(effect: Effect) -> Recovery {
    if shared::crash::ignores_effects() {
        return Recovery::Again;
    }
    match effect {
        Effect::Pure | Effect::Idempotent => Recovery::Again,
        Effect::Verifiable => Recovery::Probe,
        Effect::Once => Recovery::Doubt,
    }
}

/// The attempt that was in flight when its worker was lost: charged in full, because nobody knows
/// what it used.
pub fn orphan(step: &Step, why: &str, now: Timestamp) -> Attempt {
    let lost = Failure::new(FailureKind::Lost, why);
    Attempt {
        at: step.begun_at,
        ms: now.since(step.begun_at).as_millis() as u64,
        usage: step.reserved.unwrap_or_default(),
        failure: Some(lost.may_have_happened()),
    }
}

/// So many lost attempts of one step say that the attempt itself is what kills.
const LOST: usize = 5;

/// So many deaths in a row without progress say that the run is what kills.
const POISON: i64 = 3;

/// Why a run is not tried any more: it is ended, and people are told, before it takes the processes of
/// other runs down any further. The steps are those that its journal holds.
pub fn poison(deaths: i64, steps: &[Step]) -> Option<String> {
    if deaths < POISON {
        return None;
    }
    let begun = steps.iter().rev().find(|step| step.recorded.is_none());
    let place = match begun {
        Some(step) => format!("in step {} ({})", step.key, step.what),
        None => format!("after {} steps", steps.len()),
    };
    Some(format!(
        "the process died {deaths} times in a row while this ran, {place}: it is not tried any more"
    ))
}

/// Whether doing it again makes no sense any more.
pub fn hopeless(attempts: &[Attempt]) -> bool {
    let lost = |attempt: &&Attempt| {
        let failure = attempt.failure.as_ref();
        failure.is_some_and(|failure| failure.kind == FailureKind::Lost)
    };
    attempts.iter().filter(lost).count() >= LOST
}

/// How many of these attempts count against the retry policy: those that failed by themselves, not
/// those that a crash took away.
pub fn failures(attempts: &[Attempt]) -> u32 {
    let own = |attempt: &&Attempt| {
        let failure = attempt.failure.as_ref();
        failure.is_some_and(|failure| failure.kind != FailureKind::Lost)
    };
    attempts.iter().filter(own).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_effect_class_decides() {
        let rules = [
            Effect::Pure,
            Effect::Idempotent,
            Effect::Verifiable,
            Effect::Once,
        ]
        .map(rule);
        use Recovery::{Again, Doubt, Probe};
        assert_eq!(rules, [Again, Again, Probe, Doubt]);
    }

    fn attempt(kind: FailureKind) -> Attempt {
        Attempt {
            at: Timestamp(0),
            ms: 0,
            usage: shared::money::Usage::default(),
            failure: Some(Failure::new(kind, "x")),
        }
    }

    #[test]
    fn what_kills_five_times_is_not_tried_again() {
        let lost = |count: usize| vec![attempt(FailureKind::Lost); count];
        assert!(!hopeless(&lost(4)) && hopeless(&lost(5)));
        assert!(!hopeless(&vec![attempt(FailureKind::Transient); 9]));
    }

    #[test]
    fn a_crash_is_not_a_failed_attempt() {
        let attempts = [FailureKind::Lost, FailureKind::Transient, FailureKind::Lost].map(attempt);
        assert_eq!(failures(&attempts), 1);
    }
}
