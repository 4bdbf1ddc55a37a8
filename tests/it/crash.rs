//! Killed at every point, and again during recovery: no task is lost, no effect is repeated, and what
//! nobody can know is put before a person with its evidence. Effects are counted by a process that
//! outlives the instance.

use std::path::Path;

use majordomo_tests::life::{Fate, Life, Manner, Programs, Tally};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;

on_both_stores!(
    killed_at_every_point,
    killed_again_during_recovery,
    killed_while_a_person_decides,
    a_mutant_that_ignores_effect_classes_is_caught,
);

async fn born(kind: Kind, mutant: &'static str) -> Life {
    let folder = Path::new(env!("CARGO_BIN_EXE_world"));
    let programs = Programs::beside(folder.parent().unwrap());
    let manner = Manner {
        mutant,
        ..Manner::default()
    };
    Life::new(&programs, kind, manner).await
}

/// How many points an undisturbed life passes.
async fn points(kind: Kind) -> u64 {
    let life = born(kind, "").await;
    life.passed(&["accept", "append", "effect"]).await
}

async fn killed_at_every_point(kind: Kind) {
    let mut tally = Tally::default();
    let points = points(kind).await;
    for at in 1..=points {
        let life = born(kind, "").await;
        match life.live(&[at]).await {
            Some(view) => tally.take(&view, &life.world.effects()),
            None => assert!(at > points - 4, "point {at} of {points} was not reached"),
        }
    }
    println!("killed once at each of {points} points: {tally:?}");
    assert_eq!((tally.repeated, tally.lost), (0, 0), "{tally:?}");
    assert!(
        tally.asked >= 1 && tally.asked <= 6,
        "asked only inside the effect's window: {tally:?}"
    );
}

async fn killed_again_during_recovery(kind: Kind) {
    let mut tally = Tally::default();
    let points = points(kind).await;
    let life = born(kind, "").await;
    assert_eq!(
        life.process(Fate::Killed(3), None).await.status.code(),
        None,
        "killed"
    );
    life.passed(&["claim", "append", "effect"]).await;
    for at in 1..=points {
        // Recovery is shorter the later the first crash came: three places spread over it.
        for again in [1, 1 + (points - at) / 2, 2 + at % 5] {
            let life = born(kind, "").await;
            if let Some(view) = life.live(&[at, again]).await {
                tally.take(&view, &life.world.effects());
            }
        }
    }
    println!("killed twice: {tally:?}");
    assert!(
        tally.lives >= points as u32,
        "too few lives were cut twice: {tally:?}"
    );
    assert_eq!((tally.repeated, tally.lost), (0, 0), "{tally:?}");
}

/// A person's word is as safe as everything else: killed at every point of settling or cancelling,
/// the task ends as they said. "Again" does the effect once more for each time that it was in doubt;
/// after "cancel" it is never done again.
async fn killed_while_a_person_decides(kind: Kind) {
    let leaves_doubt = in_doubt_at(kind).await;
    for (person, end, most) in [("again", "done", 3), ("cancel", "cancelled", 1)] {
        let mut lives = 0;
        for at in 1.. {
            let mut life = born(kind, "").await;
            assert!(
                !life
                    .process(Fate::Killed(leaves_doubt), None)
                    .await
                    .status
                    .success()
            );
            life.person = person;
            let Some(view) = life.live(&[at]).await else {
                break;
            };
            assert_eq!(view.state, end, "{person}, killed at {at}");
            let effects = life.world.effects();
            assert_eq!(effects["file report.txt"], 1, "{person}, killed at {at}");
            let once = effects["post post_once"];
            assert!(once <= most, "{person}, killed at {at}: done {once} times");
            lives += 1;
        }
        println!("{person}: killed at each of {lives} points");
        assert!(lives > 8, "{person} passes {lives} points only");
    }
}

/// The point at which a kill leaves the effect of class `Once` done and not recorded.
async fn in_doubt_at(kind: Kind) -> u64 {
    for at in (1..=points(kind).await).rev() {
        let life = born(kind, "").await;
        let view = life.live(&[at]).await;
        let asked = view.is_some_and(|view| view.state == "awaiting_human");
        if asked && life.world.effects().contains_key("post post_once") {
            return at;
        }
    }
    panic!("no kill leaves doubt")
}

/// The negative control: with the effect class ignored, the same test sees effects repeated.
async fn a_mutant_that_ignores_effect_classes_is_caught(kind: Kind) {
    let mut tally = Tally::default();
    for at in 1..=points(kind).await {
        let life = born(kind, "ignore-effects").await;
        if let Some(view) = life.live(&[at]).await {
            tally.take(&view, &life.world.effects());
        }
    }
    println!("the mutant: {tally:?}");
    assert!(tally.repeated > 0 && tally.asked == 0, "{tally:?}");
}
