//! A replica is stopped at a point, longer than its lease lasts; another one takes its task over and
//! ends it; then the first goes on. Postgres only: an embedded store belongs to one process, and a
//! stopped one keeps its lock. The control is a worker that knows neither lease nor fence.

use std::time::Duration;

use futures::StreamExt;
use nix::sys::signal::Signal;

use super::{Finding, Plan};
use crate::life::{Fate, Life, Manner, Tally, view};
use crate::place::Kind;

/// A lease of a second and a half.
const SETTINGS: &str = "[engine]\nlease_s = 1.5\nbeat_s = 0.3\n";
/// How many lives go on at once: most of one is waiting for a lease to end.
const AT_ONCE: usize = 6;
const LONG: Duration = Duration::from_secs(60);

/// What came of one life.
enum Came {
    /// It had ended before its point.
    Outlived,
    /// It was stopped, taken over, and went on.
    Back(Box<Ended>),
}

struct Ended {
    view: supervisor::view::TaskView,
    effects: std::collections::BTreeMap<String, u32>,
    /// What the one that came back says, where it says something else.
    differs: Option<String>,
}

pub(super) async fn run(plan: &Plan) -> Vec<Finding> {
    let manner = Manner {
        mutant: "",
        settings: SETTINGS,
    };
    let points = {
        let life = Life::new(&plan.programs, Kind::Database, manner).await;
        life.passed(&["append", "effect", "world"]).await
    };
    let mut chance = plan.chance();
    let lives = plan.times(10, 200);
    // All points in turn from a random one on; in the short form with gaps.
    let first = chance.u64(0..points);
    let stride = if plan.full { 1 } else { points / 10 + 1 };
    let at = (0..u64::from(lives)).map(|n| 1 + (first + n * stride) % points);
    let (tally, outlived, differ) = lives_of(plan, manner, at).await;
    let mutant = Manner {
        mutant: "ignore-fence",
        ..manner
    };
    let (control, _, _) = lives_of(plan, mutant, 1..=points).await;
    let line = format!(
        "{} of {lives} replicas stopped past their lease at one of {points} points, {outlived} ended before: \
         lost {}, repeated {}, asked {}, done {}, {} saw another end; \
         control ignore-fence: repeated {} of {}",
        tally.lives,
        tally.lost,
        tally.repeated,
        tally.asked,
        tally.done,
        differ.len(),
        control.repeated,
        control.lives
    );
    for differs in &differ {
        eprintln!("zombie: {differs}");
    }
    let right = (tally.lost, tally.repeated) == (0, 0) && differ.is_empty();
    vec![Finding {
        line,
        holds: right && tally.lives > 0 && control.repeated > 0,
    }]
}

async fn lives_of(
    plan: &Plan,
    manner: Manner,
    at: impl Iterator<Item = u64>,
) -> (Tally, u32, Vec<String>) {
    let lives = at.map(|at| one(plan, manner, at));
    let mut lives = futures::stream::iter(lives).buffer_unordered(AT_ONCE);
    let (mut tally, mut outlived, mut differ) = (Tally::default(), 0, Vec::new());
    while let Some(came) = lives.next().await {
        match came {
            Came::Outlived => outlived += 1,
            Came::Back(ended) => {
                tally.take(&ended.view, &ended.effects);
                differ.extend(ended.differs);
            }
        }
    }
    (tally, outlived, differ)
}

async fn one(plan: &Plan, manner: Manner, at: u64) -> Came {
    let life = Life::new(&plan.programs, Kind::Database, manner).await;
    let mut zombie = life.spawn(Fate::Stopped(at));
    if !zombie.stopped().await {
        return Came::Outlived;
    }
    // A stopped one that has not taken the task in holds up nobody; the task is then new here.
    let other = life.spawn(Fate::Unharmed).output(LONG).await;
    let other = view(&other.expect("taken over within a minute"), "taken over");
    zombie.send(Signal::SIGCONT);
    let back = zombie.output(LONG).await;
    let back = back.unwrap_or_else(|| panic!("stopped at {at}: it does not come back"));
    let differs = match back.status.success() {
        true => {
            let said = view(&back, "back").state;
            (said != other.state).then(|| format!("stopped at {at}: {said}, not {}", other.state))
        }
        false => Some(format!(
            "stopped at {at}: {}",
            String::from_utf8_lossy(&back.stderr)
        )),
    };
    Came::Back(Box::new(Ended {
        effects: life.world.effects(),
        view: other,
        differs,
    }))
}
