//! The ladder: who is told of work that cannot go on, one rung after the other, and when the next one is.
//! How far an escalation has come is the store's to know. Pure.
//!
//! ```text
//!   rung 1 ─ wait ─► rung 2 ─ wait ─► … ─ wait, again_h ─► rung 1 …     until somebody decides, or it lapses
//!      └── nothing reaches it: no wait
//! ```

use std::time::Duration;

use shared::ask::AskKind;
use shared::config::{Contact, EscalationSettings};
use shared::id::AskId;
use shared::run::Timestamp;
use shared::store::Rungs;

/// Who is told, and how long each rung has.
#[derive(Clone, Debug, Default)]
pub struct Ladder {
    rungs: Vec<(Vec<Contact>, Duration)>,
    again: Duration,
}

impl Ladder {
    /// The ladder of the configuration.
    pub fn new(settings: &EscalationSettings) -> Self {
        let rungs = settings.rungs.iter();
        Self {
            rungs: rungs
                .map(|rung| (rung.contacts().collect(), rung.wait()))
                .collect(),
            // The configuration has checked that it is a time.
            again: Duration::try_from_secs_f64(settings.again_h * 3600.0).unwrap_or(Duration::MAX),
        }
    }

    /// Whether asks of this kind climb it.
    pub fn takes(kind: AskKind) -> bool {
        matches!(kind, AskKind::Doubt | AskKind::Trouble)
    }

    /// How many rungs it has.
    pub fn len(&self) -> usize {
        self.rungs.len()
    }

    /// Whether it has none: then all who may decide are told at once.
    pub fn is_empty(&self) -> bool {
        self.rungs.is_empty()
    }

    /// Who is told after so many rungs.
    pub fn next(&self, told: u32) -> Option<&[Contact]> {
        let index = (told as usize).checked_rem(self.len())?;
        self.rungs
            .get(index)
            .map(|(contacts, _)| contacts.as_slice())
    }

    /// When the next rung is due, where the last one was told then. Nothing is due without rungs.
    pub fn due(&self, rungs: Rungs, at: Timestamp) -> Option<Timestamp> {
        let last = (rungs.told.max(1) as usize - 1).checked_rem(self.len())?;
        let wait = match rungs.missed == rungs.told {
            true => Duration::ZERO,
            false => self.rungs.get(last)?.1,
        };
        let pause = match last + 1 == self.len() {
            true => self.again,
            false => Duration::ZERO,
        };
        Some(at.after(wait.saturating_add(pause)))
    }

    /// Whether an escalation is in a bad way: nothing reached one of its rungs, or everybody was told and
    /// nobody decided in time.
    pub fn is_red(&self, rungs: Rungs, at: Timestamp, now: Timestamp) -> bool {
        let Some((_, wait)) = self.rungs.last() else {
            return false;
        };
        let all = self.len() as u32;
        let climbed = rungs.told > all || (rungs.told == all && at.after(*wait) <= now);
        rungs.missed > 0 || climbed
    }
}

/// How the keys of the cards begin that this rung of an escalation is owed.
pub fn keys(ask: AskId, rung: u32) -> String {
    format!("ask/{ask}@{rung}/")
}

/// How the keys begin of the rung that the card of this key is for; none where it is for no rung.
pub fn keys_like(key: &str) -> Option<&str> {
    let end = key.match_indices('/').nth(1)?.0 + 1;
    let keys = &key[..end];
    keys.contains('@').then_some(keys)
}

#[cfg(test)]
mod tests {
    use shared::config::Rung;
    use shared::id::{RunId, SignalName};

    use super::*;

    fn ladder(waits: &[f64]) -> Ladder {
        let rung = |wait_min: &f64| Rung {
            to: vec!["anna".into()],
            wait_min: *wait_min,
        };
        Ladder::new(&EscalationSettings {
            rungs: waits.iter().map(rung).collect(),
            again_h: 1.0,
            ..EscalationSettings::default()
        })
    }

    #[test]
    fn rungs_have_their_time_and_the_ladder_is_climbed_anew() {
        let ladder = ladder(&[1.0, 2.0]);
        let due = |told, missed| ladder.due(Rungs { told, missed }, Timestamp(0)).unwrap().0;
        let minutes = |minutes: i64| minutes * 60_000;
        let table = [
            ((1, 0), minutes(1)),
            ((1, 1), 0),
            ((2, 1), minutes(62)),
            ((2, 2), minutes(60)),
            ((3, 1), minutes(1)),
            ((4, 0), minutes(62)),
        ];
        for ((told, missed), at) in table {
            assert_eq!(due(told, missed), at, "{told} told, {missed} missed");
        }
        assert_eq!(Ladder::default().due(Rungs::default(), Timestamp(0)), None);
    }

    #[test]
    fn an_escalation_is_red_when_it_reaches_nobody_or_nobody_decides() {
        let ladder = ladder(&[1.0, 2.0]);
        let red = |told, missed, minutes: i64| {
            let rungs = Rungs { told, missed };
            ladder.is_red(rungs, Timestamp(0), Timestamp(minutes * 60_000))
        };
        assert!(!red(1, 0, 5) && !red(2, 0, 1));
        assert!(red(1, 1, 0) && red(2, 0, 2) && red(3, 0, 0));
    }

    #[test]
    fn a_card_says_by_its_key_for_which_rung_it_is() {
        let ask = AskId::of(RunId::fresh(), &SignalName::from("help/1"));
        let key = format!("{}telegram/7", keys(ask, 2));
        assert_eq!(keys_like(&key), Some(keys(ask, 2).as_str()));
        assert_eq!(keys_like(&format!("ask/{ask}/7@8")), None);
        assert_eq!(keys_like("dead/telegram/7"), None);
    }
}
