//! Killed at every point, and again during recovery: no task is lost, no effect is repeated, and what
//! nobody can know is put before a person with its evidence. Effects are counted by a process that
//! outlives the instance.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use majordomo_tests::world::World;
use supervisor::view::TaskView;

const SETTINGS: &str = r#"
[models.default]
provider = "scripted"
file = "script.toml"

[files]
write = "WRITE"

[retry]
base_s = 0.01

[[routes]]
channel = "cli"
agents = ["executor"]
"#;

const AGENT: &str = r#"
name = "executor"
description = "Does what the crash test asks for: writes a file and tells the world."
prompt = "You are the executor."
tools = ["write_file", "post_once", "post_keyed"]
"#;

const SCRIPT: &str = r#"
[[agent]]
name = "executor"
system = "You are the executor."

[[agent.reply]]
calls = [{ tool = "write_file", args = { path = "report.txt", text = "all is well" } }]

[[agent.reply]]
calls = [{ tool = "post_keyed", args = { what = "report" } }, { tool = "post_once", args = { what = "mail" } }]

[[agent.reply]]
text = "The report is written and the mail is sent."
"#;

/// One life of a task, over as many processes as it takes.
struct Life {
    folder: tempfile::TempDir,
    world: World,
    mutant: bool,
    person: &'static str,
}

impl Life {
    fn new(mutant: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = folder.path().join("written");
        let config = folder.path().join("config");
        std::fs::create_dir_all(config.join("agents")).unwrap();
        let settings = SETTINGS.replace("WRITE", &write.display().to_string());
        std::fs::write(config.join("majordomo.toml"), settings).unwrap();
        std::fs::write(config.join("agents/executor.toml"), AGENT).unwrap();
        std::fs::write(config.join("script.toml"), SCRIPT).unwrap();
        let ledger = folder.path().join("ledger");
        Self {
            world: World::start(env!("CARGO_BIN_EXE_world"), ledger, &write),
            folder,
            mutant,
            person: "nothing",
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// One process, killed at the `at`-th point where there is one.
    fn process(&self, at: Option<u64>, log: Option<&Path>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_instance"));
        command
            .arg(self.path("config"))
            .arg(self.path("data"))
            .arg(self.world.address.to_string())
            .arg(self.person)
            .env_remove("MAJORDOMO_CRASH");
        if let Some(at) = at {
            command.env("MAJORDOMO_CRASH", format!("*:{at}"));
        }
        if let Some(log) = log {
            command.env("MAJORDOMO_CRASH_LOG", log);
        }
        if self.mutant {
            command.env("MAJORDOMO_MUTANT", "ignore-effects");
        }
        command.output().unwrap()
    }

    /// Lives through these crashes, then on to the end. `None` where a process outlived its crash
    /// point: it came to the end before.
    fn live(&self, crashes: &[u64]) -> Option<TaskView> {
        for at in crashes {
            if self.process(Some(*at), None).status.success() {
                return None;
            }
        }
        let last = self.process(None, None);
        let error = String::from_utf8_lossy(&last.stderr);
        assert!(
            last.status.success(),
            "after crashes at {crashes:?}: {error}"
        );
        Some(serde_json::from_slice(&last.stdout).unwrap())
    }
}

/// What came of one life.
#[derive(Default, Debug, PartialEq)]
struct Tally {
    lives: u32,
    done: u32,
    asked: u32,
    repeated: u32,
    lost: u32,
}

impl Tally {
    fn take(&mut self, view: &TaskView, effects: &BTreeMap<String, u32>) {
        let times = |name: &str| effects.get(name).copied().unwrap_or(0);
        let (file, keyed, once) = (
            times("file report.txt"),
            times("post post_keyed"),
            times("post post_once"),
        );
        self.lives += 1;
        self.repeated += u32::from(file > 1 || keyed > 1 || once > 1);
        match view.state.as_str() {
            "done" => {
                self.done += 1;
                let answer = view.answer.as_deref();
                assert_eq!(answer, Some("The report is written and the mail is sent."));
                self.lost += u32::from(file == 0 || keyed == 0 || once == 0);
            }
            "awaiting_human" => {
                self.asked += 1;
                let steps = view.steps.as_deref().unwrap_or_default();
                let doubt = steps.iter().find(|step| step.state == "in_doubt");
                assert_eq!(
                    doubt.unwrap().what,
                    "post_once",
                    "only Once is ever in doubt"
                );
            }
            other => panic!("the task is {other}: {:?}", view.error),
        }
    }
}

/// How many points an undisturbed life passes.
fn points() -> u64 {
    let life = Life::new(false);
    passed(&life, &["accept", "append", "effect"])
}

/// How many points the life's next process passes, both sides of all of these among them.
fn passed(life: &Life, names: &[&str]) -> u64 {
    let log = life.path("points");
    let output = life.process(None, Some(&log));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let log = std::fs::read_to_string(log).unwrap();
    for name in names {
        for side in ["before", "after"] {
            let point = format!("{name}.{side}");
            assert!(log.lines().any(|line| line == point), "{point} is passed");
        }
    }
    log.lines().count() as u64
}

#[test]
fn killed_at_every_point() {
    let mut tally = Tally::default();
    let points = points();
    for at in 1..=points {
        let life = Life::new(false);
        match life.live(&[at]) {
            Some(view) => tally.take(&view, &life.world.effects()),
            None => assert!(at > points - 4, "point {at} of {points} was not reached"),
        }
    }
    println!("killed once at each of {points} points: {tally:?}");
    assert_eq!((tally.repeated, tally.lost), (0, 0), "{tally:?}");
    assert!(
        tally.asked >= 1 && tally.asked <= 4,
        "asked only inside the effect's window: {tally:?}"
    );
}

#[test]
fn killed_again_during_recovery() {
    let mut tally = Tally::default();
    let points = points();
    let life = Life::new(false);
    assert_eq!(life.process(Some(3), None).status.code(), None, "killed");
    passed(&life, &["claim", "append", "effect"]);
    for at in 1..=points {
        // Recovery is shorter the later the first crash came: three places spread over it.
        for again in [1, 1 + (points - at) / 2, 2 + at % 5] {
            let life = Life::new(false);
            if let Some(view) = life.live(&[at, again]) {
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
#[test]
fn killed_while_a_person_decides() {
    let leaves_doubt = in_doubt_at();
    for (person, end, most) in [("again", "done", 3), ("cancel", "cancelled", 1)] {
        let mut lives = 0;
        for at in 1.. {
            let mut life = Life::new(false);
            assert!(!life.process(Some(leaves_doubt), None).status.success());
            life.person = person;
            let Some(view) = life.live(&[at]) else { break };
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
fn in_doubt_at() -> u64 {
    let leaves_doubt = |at: &u64| {
        let life = Life::new(false);
        let asked = life
            .live(&[*at])
            .is_some_and(|view| view.state == "awaiting_human");
        asked && life.world.effects().contains_key("post post_once")
    };
    let points = points();
    let found = (1..=points).rev().find(leaves_doubt);
    found.expect("some kill leaves doubt")
}

/// The negative control: with the effect class ignored, the same test sees effects repeated.
#[test]
fn a_mutant_that_ignores_effect_classes_is_caught() {
    let mut tally = Tally::default();
    for at in 1..=points() {
        let life = Life::new(true);
        if let Some(view) = life.live(&[at]) {
            tally.take(&view, &life.world.effects());
        }
    }
    println!("the mutant: {tally:?}");
    assert!(tally.repeated > 0 && tally.asked == 0, "{tally:?}");
}
