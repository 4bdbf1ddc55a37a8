//! A process that looks after a door dies at every point between hearing of something and recording that
//! it is answered, and starts again, while the far side goes on: it sends again what was not confirmed, and
//! what was. In the end each message has one answer, and what dead processes left behind is counted. Each
//! door's control is a mutant that must be caught. What is alike stands here; [`relay`] kills the one of
//! three processes that polls.

mod callbacks;
mod relay;
mod slack;
mod telegram;

use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use tokio::process::{ChildStdin, Command};

use shared::clock::stopwatch;

use super::answering::{AGENT, ANSWER, SCRIPT};
use super::fleet::{Fleet, Work};
use super::{Finding, Plan};
use crate::place::Kind;

/// What all configurations begin with.
const SETTINGS: &str = "[models.default]\nprovider = \"scripted\"\nfile = \"script.toml\"\n\
    [engine]\nlease_s = 1.5\nbeat_s = 0.3\n\
    [conversations]\nfollow_up = \"beside\"\nturns = 0\n";
/// What is said of a task over which the process died three times in a row.
const DIED: &str = "the process died";
/// Trials that go on beside each other: most of their time they wait.
const AT_ONCE: usize = 7;
/// Kills of a control.
const CONTROL_KILLS: u32 = 6;
/// How long a process may take to die, or to answer.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long the last process may take, also on a machine that does other things.
const LAST_PATIENCE: Duration = Duration::from_secs(60);
/// And besides for each thing that was asked, once nobody dies any more: at the pace that a chat allows.
const EACH: Duration = Duration::from_secs(2);
/// After so many kills somebody who waits hears of it.
const SHOWN: u32 = 100;
/// How often the far side is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// What is sent is recorded in a moment: deaths are wanted there, too.
const AFTERWARDS: Duration = Duration::from_millis(200);

pub(super) async fn run(plan: &Plan) -> Vec<Finding> {
    let mut trials: Vec<BoxFuture<'_, Finding>> = vec![Box::pin(relay::run(plan))];
    if plan.full {
        // It needs chance to be caught: too much of it for a short form.
        trials.push(Box::pin(relay::late(plan)));
    }
    for (kind, short) in [(Kind::Database, 3), (Kind::Folder, 10)] {
        let kills = plan.times(short, 500);
        trials.push(Box::pin(door::<telegram::Telegram>(plan, kind, kills)));
        trials.push(Box::pin(door::<slack::Slack>(plan, kind, kills)));
        trials.push(Box::pin(door::<callbacks::Callbacks>(plan, kind, kills)));
    }
    futures::stream::iter(trials)
        .map(|trial| trial.inspect(|finding| eprintln!("     doors     {}", finding.line)))
        .buffered(AT_ONCE)
        .collect()
        .await
}

/// A door, and its far side, which outlives all processes.
#[async_trait]
trait Door: Sized + Send + Sync {
    /// What it is called.
    const NAME: &str;
    /// A life that came through so many points has done all that it was to do.
    const POINTS: u64;
    /// A mutant, and the point at which it is caught when it dies there.
    const CONTROL: (&str, &str);
    /// What it is called when something was answered twice, and when something is left behind.
    const WORDS: (&str, &str);
    /// How many things can be under way at once, of which a death leaves one behind each.
    const LANES: u32;

    /// A far side where nothing was said yet, and a configuration by which processes speak to it.
    async fn open(fleet: &Fleet) -> Self;

    /// The next process begins.
    fn begin(&mut self, fleet: &Fleet, process: &mut Command);

    /// Asks something as soon as it can be heard; by chance something comes again that came before.
    async fn ask(&mut self, fleet: &Fleet, input: &mut ChildStdin, chance: &mut Rng);

    /// Asks nothing new, and sees to it that what was asked before is heard.
    async fn insist(&mut self, fleet: &Fleet, input: &mut ChildStdin);

    /// What the far side has seen.
    fn tally(&self, fleet: &Fleet) -> Tally;
}

/// What the far side has seen in the end.
#[derive(Debug, Default)]
struct Tally {
    /// Things that were asked.
    asked: u32,
    /// Those without an answer.
    lost: u32,
    /// Those with more than one.
    repeated: u32,
    /// Those whose answer is that the process died over them three times in a row.
    dead: u32,
    /// What dead processes left behind: placeholders, calls that are made again.
    left: u32,
    /// What else was said, and must not be.
    others: Vec<String>,
}

/// Kills a door's process so often, and the control's.
async fn door<D: Door>(plan: &Plan, kind: Kind, kills: u32) -> Finding {
    let (killed, under_way, tally) = lives::<D>(plan, kind, kills, None).await;
    let (_, _, control) = lives::<D>(plan, kind, CONTROL_KILLS, Some(D::CONTROL)).await;
    let (twice, left) = D::WORDS;
    let mut line = format!(
        "{kind:?}: {}, {killed} kills, {} asked: lost {}, {twice} {}, told that they killed {}, \
         {left} {} of {under_way} that could be; control {}: {} {twice}",
        D::NAME,
        tally.asked,
        tally.lost,
        tally.repeated,
        tally.dead,
        tally.left,
        D::CONTROL.0,
        control.repeated
    );
    if !tally.others.is_empty() {
        line = format!("{line}; others {:?}", tally.others);
    }
    let right = (tally.lost, tally.repeated) == (0, 0) && tally.others.is_empty();
    Finding {
        line,
        holds: right && killed >= kills && tally.left <= under_way && control.repeated > 0,
    }
}

/// Lives one after the other, each cut at the next point. How many were, how many things were under way
/// then, and what came of it all.
async fn lives<D: Door>(
    plan: &Plan,
    kind: Kind,
    kills: u32,
    control: Option<(&'static str, &str)>,
) -> (u32, u32, Tally) {
    let work = Work {
        settings: "",
        agent: "",
        mutant: control.map_or("", |(mutant, _)| mutant),
        model_ms: 0,
        tool_ms: 0,
    };
    let fleet = Fleet::new(plan, kind.place().await, work);
    fleet.write("agents/executor.toml", AGENT);
    fleet.write("script.toml", SCRIPT);
    let mut door = D::open(&fleet).await;
    let mut chance = plan.chance();
    let (mut killed, mut under_way) = (0, 0);
    let mut turn = chance.u64(0..D::POINTS);
    for _ in 0..5 * kills {
        if killed >= kills {
            break;
        }
        // All points in turn; in the short form with gaps.
        let at = match control {
            Some((_, at)) => at.to_owned(),
            None => format!("*:{}", 1 + turn % D::POINTS),
        };
        turn += 1 + u64::from(!plan.full) * 2;
        let open = door.tally(&fleet).lost + 1;
        if life(&fleet, &mut door, &mut chance, Some(at)).await {
            killed += 1;
            under_way += open.min(D::LANES);
            if killed % SHOWN == 0 {
                eprintln!(
                    "     doors     {kind:?}: {}, {killed} of {kills} kills",
                    D::NAME
                );
            }
        }
    }
    life(&fleet, &mut door, &mut chance, None).await;
    (killed, under_way, door.tally(&fleet))
}

/// One process: to its death at this point, or until everything is answered. Whether it died.
async fn life<D: Door>(fleet: &Fleet, door: &mut D, chance: &mut Rng, at: Option<String>) -> bool {
    fleet.place.lapse().await;
    let process = fleet.spawn(|process| {
        process.stderr(Stdio::null());
        if let Some(at) = &at {
            process.env("MAJORDOMO_CRASH", at);
        }
        door.begin(fleet, process);
    });
    let to_the_end = async |input: &mut ChildStdin| {
        let patience = match at {
            Some(_) => {
                door.ask(fleet, input, chance).await;
                PATIENCE
            }
            None => {
                door.insist(fleet, input).await;
                LAST_PATIENCE + EACH * door.tally(fleet).asked
            }
        };
        // To look costs as much as was said so far: not at each change.
        let watch = stopwatch();
        while door.tally(fleet).lost > 0 && watch.ms() < patience.as_millis() as u64 {
            tokio::time::sleep(LOOK).await;
        }
        tokio::time::sleep(AFTERWARDS).await;
    };
    process.outlives(to_the_end).await
}

/// Writes `majordomo.toml`: what all have, and `more`.
fn configure(fleet: &Fleet, more: &str) {
    fleet.write("majordomo.toml", &format!("{SETTINGS}{more}"));
    fleet.place.configure(&fleet.place.path().join("config"));
}

/// A secret in a file, as a configuration names it.
fn secret(fleet: &Fleet, name: &str, value: &str) -> String {
    let path = fleet.place.path().join(name);
    std::fs::write(&path, value).expect("a file");
    format!("${{file:{}}}", path.display())
}

/// What is left of a chat's messages when those are taken out that are right. `answers` counts by what
/// was asked.
fn sort<K: Ord>(
    tally: &mut Tally,
    answers: &mut std::collections::BTreeMap<K, u32>,
    said: impl Iterator<Item = (Option<K>, String)>,
) {
    for (to, text) in said {
        let to = to.and_then(|to| answers.get_mut(&to));
        let died = text.contains(DIED);
        tally.dead += u32::from(died);
        match (died || text == ANSWER, to) {
            (true, Some(answers)) => *answers += 1,
            _ if text.starts_with('⏳') => tally.left += 1,
            _ => tally.others.push(text),
        }
    }
    tally.asked = answers.len() as u32;
    tally.lost = answers.values().filter(|answers| **answers == 0).count() as u32;
    tally.repeated = answers.values().filter(|answers| **answers > 1).count() as u32;
}
