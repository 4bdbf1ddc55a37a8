//! The one retry policy, for model and tool calls alike. Pure: the engine asks what comes next and
//! does it. No client below it retries by itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::run::{Effect, Failure, FailureKind};

/// How often and how patiently a failed call is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// Attempts in all, the first included.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: u32,
    /// Seconds before the second attempt; doubled before each further one.
    pub base_s: f64,
    /// The longest pause in seconds, whatever the far side asks for.
    pub cap_s: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 3,
            base_s: 1.0,
            cap_s: 30.0,
        }
    }
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Disposition {
    /// Try again after this pause.
    Retry(Duration),
    /// The call has failed; the model is told.
    GiveUp,
    /// The effect may have happened: ask the far side, and if it cannot tell, a person.
    Clarify,
}

impl RetryPolicy {
    /// Decides what follows `failure` of attempt number `attempt` (from 1). `jitter` in 0..1 is
    /// drawn by the caller; the pause lies between half and the whole of its doubled base.
    pub fn after(
        &self,
        attempt: u32,
        effect: Effect,
        failure: &Failure,
        jitter: f64,
    ) -> Disposition {
        if failure.may_have_happened && !effect.repeatable() {
            return Disposition::Clarify;
        }
        if failure.kind != FailureKind::Transient || attempt >= self.attempts {
            return Disposition::GiveUp;
        }
        let doubled = self.base_s * 2f64.powi(attempt.saturating_sub(1).min(30) as i32);
        let jittered = doubled * (0.5 + 0.5 * jitter.clamp(0.0, 1.0));
        let asked = failure.retry_after_s.unwrap_or(0.0);
        let pause = jittered.max(asked).clamp(0.0, self.cap_s.max(0.0));
        Disposition::Retry(Duration::try_from_secs_f64(pause).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transient() -> Failure {
        Failure::new(FailureKind::Transient, "503")
    }

    #[test]
    fn pauses_double_up_to_the_cap_and_obey_retry_after_within_it() {
        let policy = RetryPolicy {
            attempts: 9,
            ..RetryPolicy::default()
        };
        let pause = |attempt, failure: &Failure| policy.after(attempt, Effect::Pure, failure, 1.0);
        let secs = |s| Disposition::Retry(Duration::from_secs(s));
        assert_eq!(
            [1, 2, 3, 8].map(|n| pause(n, &transient())),
            [1, 2, 4, 30].map(secs)
        );
        let mut asked = transient();
        asked.retry_after_s = Some(7.0);
        assert_eq!(pause(1, &asked), secs(7));
        asked.retry_after_s = Some(86_400.0);
        assert_eq!(pause(1, &asked), secs(30));
        asked.retry_after_s = Some(-5.0);
        assert_eq!(pause(1, &asked), secs(1));
        asked.retry_after_s = Some(f64::NAN);
        assert_eq!(pause(1, &asked), secs(1));
    }

    #[test]
    fn only_transient_failures_of_repeatable_effects_are_tried_again() {
        let policy = RetryPolicy::default();
        let after =
            |attempt, effect, failure: &Failure| policy.after(attempt, effect, failure, 0.0);
        assert_eq!(after(3, Effect::Pure, &transient()), Disposition::GiveUp);
        let permanent = Failure::new(FailureKind::Permanent, "404");
        assert_eq!(after(1, Effect::Pure, &permanent), Disposition::GiveUp);
        let mut unsure = transient();
        unsure.may_have_happened = true;
        assert_eq!(after(1, Effect::Once, &unsure), Disposition::Clarify);
        assert_eq!(after(1, Effect::Verifiable, &unsure), Disposition::Clarify);
        assert!(matches!(
            after(1, Effect::Idempotent, &unsure),
            Disposition::Retry(_)
        ));
        assert!(matches!(
            after(1, Effect::Once, &transient()),
            Disposition::Retry(_)
        ));
    }
}
