//! Killed before and after every point, and again during recovery, on both stores. The control ignores
//! effect classes at recovery.

use super::{Finding, Plan};
use crate::life::{Life, Manner, Tally};
use crate::place::Kind;

pub(super) async fn run(plan: &Plan) -> Vec<Finding> {
    let mut findings = Vec::new();
    for kind in [Kind::Folder, Kind::Database] {
        findings.push(on(plan, kind).await);
    }
    findings
}

async fn on(plan: &Plan, kind: Kind) -> Finding {
    let mut chance = plan.chance();
    let calm = Life::new(&plan.programs, kind, Manner::default()).await;
    let points = calm.passed(&["accept", "append", "effect"]).await;
    drop(calm);
    let lives = plan.times(20, 200);
    let (mut tally, mut twice) = (Tally::default(), 0);
    let mut turn = chance.u64(0..points);
    while tally.lives < lives {
        // All points in turn, so that none is left to chance; some lives are cut twice.
        let at = 1 + turn % points;
        let again = chance.bool().then(|| chance.u64(1..=points - at + 2));
        turn += 1 + u64::from(!plan.full) * 3;
        let crashes: Vec<u64> = std::iter::once(at).chain(again).collect();
        let life = Life::new(&plan.programs, kind, Manner::default()).await;
        if let Some(view) = life.live(&crashes).await {
            tally.take(&view, &life.world.effects());
            twice += u32::from(again.is_some());
        }
    }
    let caught = control(plan, kind, points).await;
    Finding {
        line: format!(
            "{kind:?}: {} lives killed at {points} points, {twice} of them twice: lost {}, repeated {}, \
             asked {}, done {}; control ignore-effects: {caught}",
            tally.lives, tally.lost, tally.repeated, tally.asked, tally.done
        ),
        holds: (tally.lost, tally.repeated) == (0, 0) && caught.starts_with("repeated"),
    }
}

/// The mutant is killed at one point after the other until it is caught.
async fn control(plan: &Plan, kind: Kind, points: u64) -> String {
    let manner = Manner {
        mutant: "ignore-effects",
        ..Manner::default()
    };
    let mut tally = Tally::default();
    for at in (1..=points).rev() {
        let life = Life::new(&plan.programs, kind, manner).await;
        if let Some(view) = life.live(&[at]).await {
            tally.take(&view, &life.world.effects());
        }
        if tally.repeated > 0 {
            return format!("repeated 1 of {}", tally.lives);
        }
    }
    format!("not caught in {} lives", tally.lives)
}
