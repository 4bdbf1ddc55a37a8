//! Several replicas under load: many small tasks, each of which tells the world two things, one that may
//! be repeated under its key and one that may not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Notify;
use uuid::Uuid;

use shared::clock::stopwatch;
use shared::run::{EffectKey, Outcome};
use shared::store::{StepKind, Store, TaskFilter};
use shared::task::TaskState;

use super::Plan;
use crate::place::Place;
use crate::world::World;

const SETTINGS: &str = r#"
[models.default]
provider = "scripted"
file = "script.toml"

[retry]
base_s = 0.01

[[routes]]
channel = "cli"
agents = ["executor"]
"#;

const AGENT: &str = r#"
name = "executor"
description = "Does what the chaos program asks for: tells the world two things."
prompt = "You are the executor."
tools = ["post_once", "post_keyed"]
"#;

const SCRIPT: &str = r#"
[[agent]]
name = "executor"
system = "You are the executor."

[[agent.reply]]
calls = [{ tool = "post_keyed", args = { what = "report" } }]

[[agent.reply]]
calls = [{ tool = "post_once", args = { what = "mail" } }]

[[agent.reply]]
text = "The world knows."
"#;

/// How replicas work.
#[derive(Clone, Debug)]
pub(super) struct Work {
    /// More settings.
    pub settings: &'static str,
    /// More of the agent's file.
    pub agent: &'static str,
    /// The mutant that each is.
    pub mutant: &'static str,
    pub model_ms: u32,
    pub tool_ms: u32,
}

/// How long a replica may take to answer a question.
const ANSWERS: Duration = Duration::from_secs(2);

/// Replicas, what they share, and what they said.
pub(super) struct Fleet {
    pub place: Place,
    pub world: World,
    program: PathBuf,
    work: Work,
    /// Tasks that were taken in, by their keys.
    taken: Arc<Mutex<BTreeMap<String, String>>>,
}

/// A replica.
pub(super) struct Replica {
    child: Child,
    stdin: ChildStdin,
    said: Arc<Said>,
}

#[derive(Default)]
struct Said {
    ready: Mutex<bool>,
    census: Mutex<Option<BTreeMap<String, i64>>>,
    peak: Mutex<Option<(u32, u32)>>,
    worker: Mutex<Option<Uuid>>,
    news: Notify,
}

impl Said {
    /// What it says of something, as soon as it does.
    async fn hears<T>(&self, of: impl Fn(&Self) -> &Mutex<Option<T>>) -> T {
        loop {
            // A word that is said between the look and the wait is kept for the next who waits.
            if let Some(heard) = lock(of(self)).take() {
                return heard;
            }
            self.news.notified().await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    pub(super) fn new(plan: &Plan, place: Place, work: Work) -> Self {
        let folder = place.path();
        let world = plan.programs.world.display().to_string();
        let world = World::start(&world, folder.join("ledger"), &folder.join("written"));
        let fleet = Self {
            world,
            program: plan.programs.world.with_file_name("replica"),
            taken: Arc::default(),
            work,
            place,
        };
        fleet.configure();
        fleet
    }

    /// Writes the configuration; replicas that start from now on work by it.
    fn configure(&self) {
        let config = self.place.path().join("config");
        std::fs::create_dir_all(config.join("agents")).expect("a folder");
        let file = |name: &str, text: &str| {
            std::fs::write(config.join(name), text).expect("a file");
        };
        file(
            "majordomo.toml",
            &crate::unasked(&format!("{SETTINGS}\n{}", self.work.settings)),
        );
        file(
            "agents/executor.toml",
            &format!("{AGENT}\n{}", self.work.agent),
        );
        file("script.toml", SCRIPT);
        self.place.configure(&config);
    }

    /// From now on replicas work like this.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Work)) {
        change(&mut self.work);
        self.configure();
    }

    /// Writes a file of the configuration; replicas that start from now on find it.
    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.place.path().join("config").join(name), text).expect("a file");
    }

    /// What starts a replica.
    pub(super) fn command(&self) -> Command {
        let folder = self.place.path();
        let mut command = Command::new(&self.program);
        command
            .arg(folder.join("config"))
            .arg(folder.join("data"))
            .arg(self.world.address.to_string())
            .arg(folder.join("config/script.toml"))
            .arg(self.work.model_ms.to_string())
            .arg(self.work.tool_ms.to_string())
            .env("MAJORDOMO_MUTANT", self.work.mutant)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        command
    }

    /// Starts a replica; on return it is ready.
    pub(super) async fn start(&self) -> Replica {
        self.start_with(|_| {}).await
    }

    /// Starts one that something is different about; on return it is ready.
    pub(super) async fn start_with(&self, change: impl FnOnce(&mut Command)) -> Replica {
        let replica = self.spawn(change);
        while !*lock(&replica.said.ready) {
            let news = tokio::time::timeout(Duration::from_secs(30), replica.said.news.notified());
            news.await
                .expect("a replica gets ready within half a minute");
        }
        replica
    }

    /// Starts a replica that something is different about. What it is told waits until it is ready.
    pub(super) fn spawn(&self, change: impl FnOnce(&mut Command)) -> Replica {
        let mut command = self.command();
        change(&mut command);
        let mut child = command.spawn().expect("a replica starts");
        let stdin = child.stdin.take().expect("its input is piped");
        let stdout = child.stdout.take().expect("its output is piped");
        let said = Arc::<Said>::default();
        tokio::spawn(listen(
            BufReader::new(stdout),
            said.clone(),
            self.taken.clone(),
        ));
        Replica { child, stdin, said }
    }

    /// How many tasks were taken in.
    pub(super) fn taken(&self) -> usize {
        lock(&self.taken).len()
    }

    /// Whether a task was taken in under this key.
    pub(super) fn has_taken(&self, key: &str) -> bool {
        lock(&self.taken).contains_key(key)
    }

    /// The task that was taken in under this key.
    pub(super) fn task_of(&self, key: &str) -> Option<String> {
        lock(&self.taken).get(key).cloned()
    }

    /// What is left when no replica runs any more.
    pub(super) async fn audit(&self) -> Audit {
        let store = self.place.open().await;
        let audit = audit(&*store, &self.world.effects(), self.taken()).await;
        store.close().await;
        audit
    }
}

async fn listen(
    stdout: BufReader<tokio::process::ChildStdout>,
    said: Arc<Said>,
    taken: Arc<Mutex<BTreeMap<String, String>>>,
) {
    let mut lines = stdout.lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        match words.as_slice() {
            ["ready", ..] => *lock(&said.ready) = true,
            ["taken", key, task] => {
                lock(&taken).insert((*key).to_owned(), (*task).to_owned());
            }
            ["census", census] => *lock(&said.census) = serde_json::from_str(census).ok(),
            ["worker", worker] => *lock(&said.worker) = worker.parse().ok(),
            ["peak", peak, calls] => {
                *lock(&said.peak) = peak.parse().ok().zip(calls.parse().ok());
            }
            _ => {}
        }
        said.news.notify_waiters();
        said.news.notify_one();
    }
}

impl Replica {
    /// Tells it something. One that is gone hears nothing.
    pub(super) async fn tell(&mut self, line: &str) {
        let _ = self.stdin.write_all(format!("{line}\n").as_bytes()).await;
    }

    /// Does something with its input until it dies, or to the end; then it is killed. Whether it died.
    pub(super) async fn outlives(mut self, work: impl AsyncFnOnce(&mut ChildStdin)) -> bool {
        tokio::select! {
            ended = self.child.wait() => !ended.is_ok_and(|status| status.success()),
            () = work(&mut self.stdin) => {
                // On an error it has ended already.
                let _ = self.child.kill().await;
                false
            }
        }
    }

    /// Sends it a signal. One that is gone hears nothing.
    pub(super) fn send(&self, signal: Signal) {
        if let Some(pid) = self.child.id() {
            let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
        }
    }

    /// How long processors have worked for it so far, in milliseconds.
    pub(super) fn worked_ms(&self) -> u64 {
        let pid = self.child.id().unwrap_or_default();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind its name, which may hold spaces: times are counted in hundredths of a second.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let times = fields.split_whitespace().skip(11).take(2);
        times
            .filter_map(|time| time.parse::<u64>().ok())
            .sum::<u64>()
            * 10
    }

    /// SIGKILL.
    pub(super) async fn kill(mut self) {
        // On an error it has ended already.
        let _ = self.child.kill().await;
    }

    /// Ends it in order. False where it does not.
    pub(super) async fn stop(self) -> bool {
        let Self {
            mut child, stdin, ..
        } = self;
        drop(stdin);
        let ended = tokio::time::timeout(Duration::from_secs(30), child.wait()).await;
        matches!(ended, Ok(Ok(status)) if status.success())
    }

    /// Tasks by state; `None` where it does not say.
    pub(super) async fn census(&mut self) -> Option<BTreeMap<String, i64>> {
        lock(&self.said.census).take();
        self.tell("census").await;
        let said = self.said.clone();
        let heard = said.hears(|said| &said.census);
        tokio::time::timeout(ANSWERS, heard).await.ok()
    }

    /// The worker that it is now; `None` where it does not say.
    pub(super) async fn worker(&mut self) -> Option<Uuid> {
        lock(&self.said.worker).take();
        self.tell("who").await;
        let said = self.said.clone();
        let heard = said.hears(|said| &said.worker);
        tokio::time::timeout(ANSWERS, heard).await.ok()
    }

    /// The most model calls at once, and how many there were.
    pub(super) async fn peak(&mut self) -> (u32, u32) {
        self.tell("peak").await;
        self.said.hears(|said| &said.peak).await
    }

    /// Waits until so many tasks have ended or wait for a person. False where that takes longer.
    pub(super) async fn settles(&mut self, tasks: usize, within: Duration) -> bool {
        let over = &["done", "failed", "cancelled", "awaiting_human"];
        self.reaches(tasks, over, within).await
    }

    /// Waits until so many tasks have ended. False where that takes longer.
    pub(super) async fn answered(&mut self, tasks: usize, within: Duration) -> bool {
        let over = &["done", "failed", "cancelled"];
        self.reaches(tasks, over, within).await
    }

    async fn reaches(&mut self, tasks: usize, over: &[&str], within: Duration) -> bool {
        let watch = stopwatch();
        while watch.ms() < within.as_millis() as u64 {
            let census = self.census().await.unwrap_or_default();
            let count = |states: &[&str]| -> i64 {
                let of = |state: &&str| census.get(*state).copied().unwrap_or(0);
                states.iter().map(of).sum()
            };
            if count(over) >= tasks as i64 && count(&["queued", "running"]) == 0 {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }
}

/// What is left, compared with the ledger.
#[derive(Clone, Debug, Default)]
pub(super) struct Audit {
    pub tasks: u32,
    pub done: u32,
    pub asked: u32,
    /// In any other state, in words.
    pub others: Vec<String>,
    /// Tasks that were taken in and are not there, and effects that the journal holds and the world
    /// does not.
    pub lost: u32,
    /// Effects that happened more than once.
    pub repeated: u32,
    /// Effects that happened.
    pub effects: u32,
}

impl Audit {
    pub(super) fn is_right(&self) -> bool {
        (self.lost, self.repeated) == (0, 0) && self.others.is_empty()
    }
}

impl std::fmt::Display for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} tasks, {} effects: lost {}, repeated {}, asked {}, done {}",
            self.tasks, self.effects, self.lost, self.repeated, self.asked, self.done
        )?;
        match self.others.is_empty() {
            true => Ok(()),
            false => write!(f, ", others {:?}", self.others),
        }
    }
}

async fn audit(store: &dyn Store, effects: &BTreeMap<String, u32>, taken: usize) -> Audit {
    let tenant = "default".into();
    let filter = TaskFilter {
        limit: 100_000,
        ..TaskFilter::default()
    };
    let tasks = store
        .tasks(&tenant, &filter)
        .await
        .expect("the store reads");
    let mut audit = Audit {
        tasks: tasks.len() as u32,
        lost: taken.saturating_sub(tasks.len()) as u32,
        repeated: effects.values().filter(|times| **times > 1).count() as u32,
        effects: effects.len() as u32,
        ..Audit::default()
    };
    for task in tasks {
        match task.state {
            TaskState::Done => audit.done += 1,
            TaskState::AwaitingHuman => audit.asked += 1,
            state => audit.others.push(format!("{state:?} {:?}", task.error)),
        }
        let mut told = 0;
        for run in store.runs(&tenant, task.id).await.expect("it reads") {
            for step in store.steps(&tenant, run.id).await.expect("it reads") {
                let outcome = step.recorded.as_ref().map(|recorded| &recorded.outcome);
                // What was in doubt, and a person settled, was not forgotten.
                let known = match outcome {
                    Some(Outcome::Done(_)) => true,
                    Some(Outcome::InDoubt { .. }) => false,
                    _ => continue,
                };
                if step.kind != StepKind::Tool {
                    continue;
                }
                let key = EffectKey::new(run.id, &step.key, step.op_hash);
                let name = format!("post {}/{key}", step.what);
                told += 1;
                audit.lost += u32::from(known && !effects.contains_key(&name));
            }
        }
        audit.lost += u32::from(task.state == TaskState::Done && told != 2);
    }
    audit
}
