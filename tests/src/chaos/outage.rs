//! The store is away: a Postgres that is stopped and started again under load, and a disk that is full
//! for a while. Nothing that was taken in is lost, nothing is repeated, and work goes on by itself. The
//! control ignores effect classes at recovery.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use shared::clock::stopwatch;

use super::fleet::{Audit, Fleet, Replica, Work};
use super::{Finding, Plan};
use crate::place::Place;

/// The command that starts a Postgres of ours; set by `scripts/chaos`.
const SERVER: &str = "MAJORDOMO_CHAOS_POSTGRES";

const WORK: Work = Work {
    settings: "[engine]\nlease_s = 1.5\nbeat_s = 0.3\n",
    agent: "",
    mutant: "",
    model_ms: 20,
    tool_ms: 100,
};

/// A Postgres that stops and starts when it is told to.
struct Server {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    url: String,
}

impl Server {
    fn start(command: &str, folder: &Path) -> Self {
        let mut words = command.split_whitespace();
        let mut process = Command::new(words.next().expect("a command"))
            .args(words)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a Postgres starts");
        let mut server = Self {
            stdin: process.stdin.take().expect("its input is piped"),
            stdout: BufReader::new(process.stdout.take().expect("its output is piped")),
            process,
            url: String::new(),
        };
        server.url = server.answer();
        server
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it answers");
        line.trim().to_owned()
    }

    fn tell(&mut self, what: &str) {
        writeln!(self.stdin, "{what}").expect("it listens");
        assert_eq!(self.answer(), what, "the server's keeper did as told");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It stops the server and ends when its input does.
        let _ = writeln!(self.stdin, "end");
        let _ = self.process.wait();
    }
}

/// How often the control of a full disk may miss before that counts.
const TRIES: u32 = 4;

pub(super) async fn run(plan: &Plan) -> Vec<Finding> {
    let Ok(command) = std::env::var(SERVER) else {
        let line = format!("not run: {SERVER} names no command that starts a Postgres");
        return vec![Finding { line, holds: false }];
    };
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(&command, &folder.path().join("data"));
    let long = Duration::from_secs(u64::from(plan.times(20, 600)));
    let (audit, outages, away_ms) = storm(plan, &mut server, WORK, (long, plan.full)).await;
    let mutant = Work {
        mutant: "ignore-effects",
        ..WORK
    };
    let brief = (Duration::from_secs(20), false);
    let (control, _, _) = storm(plan, &mut server, mutant, brief).await;
    vec![Finding {
        line: format!(
            "Postgres stopped {outages} times for {away_ms} ms in all, 2 replicas: {audit}; \
             control ignore-effects: repeated {} of {}",
            control.repeated, control.effects
        ),
        holds: audit.is_right() && outages > 2 && control.repeated > 0,
    }]
}

async fn storm(
    plan: &Plan,
    server: &mut Server,
    work: Work,
    (long, seldom): (Duration, bool),
) -> (Audit, u32, u64) {
    let place = Place::database_on(&server.url).await;
    let fleet = Fleet::new(plan, place, work);
    let mut replicas = [fleet.start().await, fleet.start().await];
    let mut chance = plan.chance();
    let gap = |chance: &mut fastrand::Rng| match seldom {
        true => chance.u64(5000..40_000),
        false => chance.u64(1000..3000),
    };
    let (mut next, mut outages, mut away_ms) = (0_u32, 0, 0);
    let mut stop_at = gap(&mut chance);
    let watch = stopwatch();
    while watch.ms() < long.as_millis() as u64 || fleet.taken() < next as usize {
        let fresh = watch.ms() < long.as_millis() as u64;
        hand_in(&fleet, &mut replicas, &mut chance, &mut next, fresh).await;
        if fresh && watch.ms() >= stop_at {
            let away = chance.u64(0..2000);
            server.tell(["stop fast", "stop immediate"][chance.usize(0..2)]);
            let gone = stopwatch();
            while gone.ms() < away {
                hand_in(&fleet, &mut replicas, &mut chance, &mut next, true).await;
            }
            server.tell("start");
            outages += 1;
            away_ms += gone.ms();
            stop_at = watch.ms() + gap(&mut chance);
        }
        assert!(
            watch.ms() < long.as_millis() as u64 + 120_000,
            "tasks are not taken in"
        );
    }
    let [mut first, second] = replicas;
    let settled = first.settles(next as usize, Duration::from_secs(60)).await;
    let stopped = first.stop().await & second.stop().await;
    let mut audit = fleet.audit().await;
    if !settled || !stopped {
        audit
            .others
            .push(format!("at rest {settled}, stopped {stopped}"));
    }
    (audit, outages, away_ms)
}

/// Hands in a task and, once more under their keys, those that were refused.
async fn hand_in(
    fleet: &Fleet,
    replicas: &mut [Replica],
    chance: &mut fastrand::Rng,
    next: &mut u32,
    fresh: bool,
) {
    *next += u32::from(fresh);
    let keys = (0..*next).map(|n| format!("task-{n}"));
    let missing: Vec<String> = keys.filter(|key| !fleet.has_taken(key)).collect();
    for key in missing.iter().rev().take(20) {
        let to = chance.usize(0..replicas.len());
        replicas[to].tell(&format!("submit {key}")).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
}

pub(super) async fn full_disk(plan: &Plan) -> Vec<Finding> {
    let (audit, refused, note) = fill(plan, WORK).await;
    let mutant = Work {
        mutant: "ignore-effects",
        ..WORK
    };
    let mut control = Audit::default();
    // Chance may spare the mutant once.
    for _ in 0..TRIES {
        control = fill(plan, mutant.clone()).await.0;
        if control.repeated > 0 {
            break;
        }
    }
    vec![Finding {
        line: format!(
            "SQLite on a full disk{note}, {refused} tasks refused meanwhile and taken in later: {audit}; \
             control ignore-effects: repeated {} of {}",
            control.repeated, control.effects
        ),
        holds: audit.is_right() && refused > 0 && control.repeated > 0,
    }]
}

async fn fill(plan: &Plan, work: Work) -> (Audit, u32, &'static str) {
    let place = Place::folder();
    let data = place.path().join("data");
    std::fs::create_dir_all(&data).expect("a folder");
    let disk = Disk::mount(&data);
    let fleet = Fleet::new(plan, place, work);
    let mut replica = fleet.start().await;
    let (mut next, mut refused) = (0, 0);
    let watch = stopwatch();
    let mut chance = plan.chance();
    let mut full_for = 0;
    // Tasks come in until none has been taken for two seconds.
    while full_for < 20 && watch.ms() < 60_000 {
        let before = fleet.taken();
        hand_in(
            &fleet,
            std::slice::from_mut(&mut replica),
            &mut chance,
            &mut next,
            true,
        )
        .await;
        if watch.ms() > 1000 {
            disk.fill();
        }
        full_for = if fleet.taken() == before {
            full_for + 1
        } else {
            0
        };
        refused = next - fleet.taken() as u32;
    }
    disk.free();
    let watch = stopwatch();
    while fleet.taken() < next as usize && watch.ms() < 30_000 {
        hand_in(
            &fleet,
            std::slice::from_mut(&mut replica),
            &mut chance,
            &mut next,
            false,
        )
        .await;
    }
    let settled = replica
        .settles(next as usize, Duration::from_secs(60))
        .await;
    let stopped = replica.stop().await;
    let mut audit = fleet.audit().await;
    if !settled || !stopped {
        audit
            .others
            .push(format!("at rest {settled}, stopped {stopped}"));
    }
    drop(disk);
    drop(fleet);
    (audit, refused, " (tmpfs of 16 MiB)")
}

/// A small disk of its own, mounted at a folder.
struct Disk<'a> {
    at: &'a Path,
}

impl<'a> Disk<'a> {
    fn mount(at: &'a Path) -> Self {
        mount(&["-t", "tmpfs", "-o", "size=16m", "majordomo-chaos"], at);
        Self { at }
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.at.join("filler"));
        if let Ok(mut file) = file {
            while file.write_all(&[1; 4096]).is_ok() {}
        }
    }

    /// There is room again.
    fn free(&self) {
        std::fs::remove_file(self.at.join("filler")).expect("the filler is there");
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.at).status();
    }
}

fn mount(args: &[&str], at: &Path) {
    let mounted = Command::new("mount").args(args).arg(at).status();
    assert!(
        mounted.is_ok_and(|status| status.success()),
        "a tmpfs cannot be mounted here"
    );
}
