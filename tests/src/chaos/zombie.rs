//! A replica is stopped at a point, longer than its lease lasts; another one takes its task over and
//! ends it; then the first goes on. Postgres only: an embedded store belongs to one process, and a
//! stopped one keeps its lock. The control is a worker that knows neither lease nor fence.

use std::time::Duration;

use futures::StreamExt;
use nix::sys::signal::Signal;

use shared::clock::stopwatch;

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
    /// How long the other one took from its start to the task's end, in milliseconds.
    took_ms: u64,
    /// What the one that came back says, where it says something else.
    differs: Option<String>,
}

/// What came of all.
#[derive(Default)]
struct Sum {
    tally: Tally,
    outlived: u32,
    differ: Vec<String>,
    took_ms: Vec<u64>,
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
    let mut sum = lives_of(plan, manner, at).await;
    sum.took_ms.sort_unstable();
    let took = |part: usize| {
        sum.took_ms
            .get((sum.took_ms.len().max(1) - 1) * part / 100)
            .copied()
            .unwrap_or(0)
    };
    let mutant = Manner {
        mutant: "ignore-fence",
        ..manner
    };
    let control = lives_of(plan, mutant, 1..=points).await.tally;
    let tally = &sum.tally;
    let line = format!(
        "{} of {lives} replicas stopped past their lease at one of {points} points, {} ended before: \
         lost {}, repeated {}, asked {}, done {}, {} saw another end, the other replica was done after \
         p50 {} ms, max {} ms; control ignore-fence: repeated {} of {}",
        tally.lives,
        sum.outlived,
        tally.lost,
        tally.repeated,
        tally.asked,
        tally.done,
        sum.differ.len(),
        took(50),
        took(100),
        control.repeated,
        control.lives
    );
    for differs in &sum.differ {
        eprintln!("zombie: {differs}");
    }
    // A lease, once more for the locks of one that was stopped in a transaction, and room for a busy
    // machine.
    let soon = took(100) < 10_000;
    let right = soon && (tally.lost, tally.repeated) == (0, 0) && sum.differ.is_empty();
    vec![Finding {
        line,
        holds: right && tally.lives > 0 && control.repeated > 0,
    }]
}

async fn lives_of(plan: &Plan, manner: Manner, at: impl Iterator<Item = u64>) -> Sum {
    let lives = at.map(|at| one(plan, manner, at));
    let mut lives = futures::stream::iter(lives).buffer_unordered(AT_ONCE);
    let mut sum = Sum::default();
    while let Some(came) = lives.next().await {
        match came {
            Came::Outlived => sum.outlived += 1,
            Came::Back(ended) => {
                sum.tally.take(&ended.view, &ended.effects);
                sum.took_ms.push(ended.took_ms);
                sum.differ.extend(ended.differs);
            }
        }
    }
    sum
}

async fn one(plan: &Plan, manner: Manner, at: u64) -> Came {
    let life = Life::new(&plan.programs, Kind::Database, manner).await;
    let mut zombie = life.spawn(Fate::Stopped(at));
    if !zombie.stopped().await {
        return Came::Outlived;
    }
    // A stopped one that has not taken the task in holds up nobody; the task is then new here.
    let watch = stopwatch();
    let other = life.spawn(Fate::Unharmed).output(LONG).await;
    let other = view(&other.expect("taken over within a minute"), "taken over");
    let took_ms = watch.ms();
    zombie.send(Signal::SIGCONT);
    let back = zombie.output(LONG).await;
    let back = back.unwrap_or_else(|| panic!("stopped at {at}: it does not come back"));
    let error = String::from_utf8_lossy(&back.stderr);
    let differs = match back.status.success() {
        true => {
            let said = view(&back, "back").state;
            (said != other.state).then(|| format!("stopped at {at}: {said}, not {}", other.state))
        }
        // The server ended its connection meanwhile, so that its locks held up nobody: it was handing
        // the task in, and whoever does that is told to try again.
        false if error.contains("cannot be reached") => None,
        false => Some(format!("stopped at {at}: {error}")),
    };
    Came::Back(Box::new(Ended {
        effects: life.world.effects(),
        view: other,
        took_ms,
        differs,
    }))
}
