//! The power goes at a point, and with it everything that was not synced: the process is killed, and
//! its database files are put back to what they were when each was last synced. The control syncs at
//! checkpoints only (`synchronous = NORMAL`), as is right for data that may be lost.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Finding, Plan};
use crate::life::{Fate, Life, Manner, Tally, view};
use crate::place::Kind;

/// What keeps the synced copies, as a C library to be preloaded.
const SHIM: &str = include_str!("unsynced.c");

pub(super) async fn run(plan: &Plan) -> Vec<Finding> {
    let folder = tempfile::tempdir().expect("a folder");
    let shim = match build(folder.path()) {
        Ok(shim) => shim,
        Err(why) => {
            let line = format!("not run: {why}");
            return vec![Finding { line, holds: false }];
        }
    };
    let calm = Life::new(&plan.programs, Kind::Folder, Manner::default()).await;
    let points = calm.passed(&["accept", "append", "effect"]).await;
    drop(calm);
    let lives = u64::from(plan.times(points as u32, 200));
    let first = plan.chance().u64(0..points);
    let at = |n: u64| 1 + (first + n) % points;
    let (mut tally, mut outlived) = (Tally::default(), 0);
    for n in 0..lives {
        match cut(plan, &shim, "", at(n)).await {
            Some((life, view)) => tally.take(&view, &life.world.effects()),
            None => outlived += 1,
        }
    }
    let mut control = Tally::default();
    for n in 1..=points {
        if let Some((life, view)) = cut(plan, &shim, "sync-normal", n).await {
            control.take(&view, &life.world.effects());
        }
    }
    vec![Finding {
        line: format!(
            "the power cut at {points} points, {} lives, {outlived} ended before: lost {}, repeated {}, asked {}, \
             done {}; control synchronous=NORMAL: lost or repeated {} of {}",
            tally.lives,
            tally.lost,
            tally.repeated,
            tally.asked,
            tally.done,
            control.lost + control.repeated,
            control.lives
        ),
        holds: (tally.lost, tally.repeated) == (0, 0)
            && tally.lives > 0
            && control.lost + control.repeated > 0,
    }]
}

fn build(folder: &Path) -> Result<PathBuf, String> {
    let (source, shim) = (folder.join("unsynced.c"), folder.join("unsynced.so"));
    std::fs::write(&source, SHIM).map_err(|error| error.to_string())?;
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&shim, &source])
        .arg("-ldl")
        .status();
    match built {
        Ok(status) if status.success() => Ok(shim),
        other => Err(format!("cc does not build the shim: {other:?}")),
    }
}

/// A life whose power goes once, at this point. `None` where it had ended before.
async fn cut(
    plan: &Plan,
    shim: &Path,
    mutant: &'static str,
    at: u64,
) -> Option<(Life, supervisor::view::TaskView)> {
    let manner = Manner {
        mutant,
        ..Manner::default()
    };
    let mut life = Life::new(&plan.programs, Kind::Folder, manner).await;
    let durable = life.path("durable");
    std::fs::create_dir(&durable).expect("a folder");
    life.environment = vec![
        ("LD_PRELOAD", shim.to_owned()),
        ("MAJORDOMO_DURABLE", durable.clone()),
    ];
    if life.process(Fate::Killed(at), None).await.status.success() {
        return None;
    }
    restore(&durable, &life.path("data"));
    let last = life.process(Fate::Unharmed, None).await;
    let view = view(&last, &format!("after a power cut at {at}"));
    Some((life, view))
}

/// Puts what was synced in place of what is there.
fn restore(durable: &Path, data: &Path) {
    for name in ["majordomo.db", "majordomo.db-wal", "majordomo.db-shm"] {
        let file = data.join(name);
        // A file that was never synced need not be there after a power cut.
        let _ = std::fs::remove_file(&file);
        if durable.join(name).exists() {
            std::fs::copy(durable.join(name), &file).expect("a copy");
        }
    }
}
