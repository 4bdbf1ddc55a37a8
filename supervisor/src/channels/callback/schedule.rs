//! What an answer to a callback means, and when it is made again. Pure.
//!
//! ```text
//!   2xx ─► done      410, other 4xx ─► dead      408 425 429 3xx 5xx, no answer ─► again, ten times in all
//! ```

use std::time::Duration;

use shared::egress::Posted;
use shared::run::{Failure, FailureKind};

/// The pauses between attempts as multiples of the first: 5 s, 5 min, 30 min, and 2, 5, 10, 14, 20 and
/// 24 h where that is 5 s. So the specification of Standard Webhooks has it.
const PAUSES: [u32; 9] = [1, 60, 360, 1440, 3600, 7200, 10_080, 14_400, 17_280];
/// The longest pause that a receiver may ask for, as a multiple of the first: a day.
const LONGEST: u32 = 17_280;
/// A pause is longer by up to this part of it, so that those who failed together do not come back
/// together.
const JITTER: f64 = 0.2;

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It was taken.
    Taken,
    /// It never will be; why.
    Never(String),
    /// It may be later; why not now, and the pause that was asked for.
    Later {
        /// Why not now.
        why: String,
        /// The pause that was asked for, in seconds.
        asked_s: Option<f64>,
    },
}

/// What happens next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// All is done.
    Done,
    /// Another attempt, after this pause.
    Again(Duration),
    /// None; why.
    Dead(String),
}

/// What an answer, or none, says.
pub fn judge(answer: Result<Posted, Failure>) -> Verdict {
    let posted = match answer {
        Ok(posted) => posted,
        Err(failure) if failure.kind == FailureKind::Refused => {
            return Verdict::Never(failure.message);
        }
        Err(failure) => {
            return Verdict::Later {
                why: failure.message,
                asked_s: None,
            };
        }
    };
    let why = format!("answered {}", posted.status);
    match posted.status {
        200..=299 => Verdict::Taken,
        408 | 425 => Verdict::Later { why, asked_s: None },
        429 | 503 => Verdict::Later {
            why,
            asked_s: posted.retry_after_s,
        },
        400..=499 => Verdict::Never(why),
        _ => Verdict::Later { why, asked_s: None },
    }
}

/// What follows an attempt after which so many have failed, this one included. `chance` is from 0 to 1.
pub fn next(verdict: Verdict, failed: u32, first_pause: Duration, chance: f64) -> Next {
    let (why, asked_s) = match verdict {
        Verdict::Taken => return Next::Done,
        Verdict::Never(why) => return Next::Dead(why),
        Verdict::Later { why, asked_s } => (why, asked_s),
    };
    let Some(pause) = PAUSES.get(failed.saturating_sub(1) as usize) else {
        return Next::Dead(format!("{failed} attempts failed, the last one: {why}"));
    };
    let longest = first_pause * LONGEST;
    let pause = match asked_s {
        // What was asked for is obeyed, but nobody may have us hammer, or wait for ever.
        Some(asked_s) => Duration::try_from_secs_f64(asked_s)
            .unwrap_or(longest)
            .clamp(first_pause, longest.max(first_pause)),
        None => first_pause * *pause,
    };
    Next::Again(pause.mul_f64(1.0 + JITTER * chance.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(5);

    fn answered(status: u16, retry_after_s: Option<f64>) -> Verdict {
        judge(Ok(Posted {
            status,
            retry_after_s,
        }))
    }

    #[test]
    fn an_answer_means_what_it_says() {
        for status in [200, 202, 204] {
            assert_eq!(answered(status, None), Verdict::Taken, "{status}");
        }
        for status in [400, 401, 403, 404, 410, 413, 422] {
            assert!(
                matches!(answered(status, None), Verdict::Never(_)),
                "{status}"
            );
        }
        for status in [301, 302, 307, 308, 408, 425, 429, 500, 501, 502, 503, 504] {
            let verdict = answered(status, None);
            assert!(
                matches!(verdict, Verdict::Later { asked_s: None, .. }),
                "{status}"
            );
        }
        for (status, asked) in [(429, Some(7.0)), (503, Some(7.0)), (500, None)] {
            let verdict = answered(status, Some(7.0));
            assert!(matches!(verdict, Verdict::Later { asked_s, .. } if asked_s == asked));
        }
        let lost = Failure::new(FailureKind::Transient, "nobody answers");
        assert!(matches!(judge(Err(lost)), Verdict::Later { .. }));
        let refused = Failure::new(FailureKind::Refused, "a private address");
        assert!(matches!(judge(Err(refused)), Verdict::Never(_)));
    }

    #[test]
    fn pauses_grow_until_it_is_given_up() {
        let pauses: Vec<u64> = (1..=9)
            .map(
                |failed| match next(answered(500, None), failed, FIRST, 0.0) {
                    Next::Again(pause) => pause.as_secs(),
                    other => panic!("{other:?}"),
                },
            )
            .collect();
        let hours = |hours: u64| hours * 3600;
        let expected = [
            5,
            300,
            1800,
            hours(2),
            hours(5),
            hours(10),
            hours(14),
            hours(20),
            hours(24),
        ];
        assert_eq!(pauses, expected);
        let last = next(answered(500, None), 10, FIRST, 0.0);
        assert!(matches!(last, Next::Dead(_)), "{last:?}");
        assert_eq!(next(answered(204, None), 10, FIRST, 0.0), Next::Done);
        assert!(matches!(
            next(answered(410, None), 1, FIRST, 0.0),
            Next::Dead(_)
        ));
        let later = next(answered(500, None), 1, FIRST, 1.0);
        assert_eq!(later, Next::Again(Duration::from_secs(6)));
    }

    #[test]
    fn a_receiver_is_left_alone_as_long_as_it_asks_within_reason() {
        for (asked, seconds) in [
            (60.0, 60),
            (0.0, 5),
            (1e9, 24 * 3600),
            (f64::INFINITY, 24 * 3600),
            (f64::MAX, 24 * 3600),
        ] {
            let next = next(answered(429, Some(asked)), 3, FIRST, 0.0);
            assert_eq!(next, Next::Again(Duration::from_secs(seconds)), "{asked}");
        }
    }
}
