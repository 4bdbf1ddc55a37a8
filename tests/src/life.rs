//! One life of a task, over as many processes as it takes: the `instance` binary again and again on the
//! same place, killed or stopped at chosen points, beside a `world` that outlives them all and counts.
//! Used by the crash tests and by the chaos program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use supervisor::view::TaskView;

use crate::place::{Kind, Place};
use crate::world::World;

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

/// What the script's task answers.
const ANSWER: &str = "The report is written and the mail is sent.";

/// The programs that a life is lived by.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The path of `world`.
    pub world: PathBuf,
    /// The path of `instance`.
    pub instance: PathBuf,
}

impl Programs {
    /// Those in this folder.
    pub fn beside(folder: &Path) -> Self {
        Self {
            world: folder.join("world"),
            instance: folder.join("instance"),
        }
    }
}

/// What is different about a life.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// The mutant that every process is; none where empty.
    pub mutant: &'static str,
    /// More settings.
    pub settings: &'static str,
}

/// What befalls a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Unharmed,
    /// SIGKILL at the so-manieth point.
    Killed(u64),
    /// SIGSTOP there.
    Stopped(u64),
}

/// One life of a task.
pub struct Life {
    /// Where its store is.
    pub place: Place,
    /// What it changes.
    pub world: World,
    /// What a person does about it when it waits.
    pub person: &'static str,
    /// What every process's environment holds besides.
    pub environment: Vec<(&'static str, PathBuf)>,
    manner: Manner,
    programs: Programs,
}

impl Life {
    /// A life that has not begun.
    pub async fn new(programs: &Programs, kind: Kind, manner: Manner) -> Self {
        let place = kind.place().await;
        let folder = place.path();
        let write = folder.join("written");
        let config = folder.join("config");
        std::fs::create_dir_all(config.join("agents")).expect("a folder");
        let settings = SETTINGS.replace("WRITE", &write.display().to_string());
        let settings = crate::unasked(&format!("{settings}\n{}", manner.settings));
        let file = |name: &str, text: &str| {
            std::fs::write(config.join(name), text).expect("a file");
        };
        file("majordomo.toml", &settings);
        file("agents/executor.toml", AGENT);
        file("script.toml", SCRIPT);
        place.configure(&config);
        let world = programs.world.display().to_string();
        Self {
            world: World::start(&world, folder.join("ledger"), &write),
            place,
            person: "nothing",
            environment: Vec::new(),
            manner,
            programs: programs.clone(),
        }
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn command(&self, fate: Fate, log: Option<&Path>) -> Command {
        let mut command = Command::new(&self.programs.instance);
        command
            .arg(self.path("config"))
            .arg(self.path("data"))
            .arg(self.world.address.to_string())
            .arg(self.person)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        for unset in ["MAJORDOMO_CRASH", "MAJORDOMO_PAUSE", "MAJORDOMO_CRASH_LOG"] {
            command.env_remove(unset);
        }
        match fate {
            Fate::Unharmed => &mut command,
            Fate::Killed(at) => command.env("MAJORDOMO_CRASH", format!("*:{at}")),
            Fate::Stopped(at) => command.env("MAJORDOMO_PAUSE", format!("*:{at}")),
        };
        if let Some(log) = log {
            command.env("MAJORDOMO_CRASH_LOG", log);
        }
        command
            .env("MAJORDOMO_MUTANT", self.manner.mutant)
            .envs(self.environment.iter().cloned());
        command
    }

    /// One process to its end. The leases of those before it have ended.
    pub async fn process(&self, fate: Fate, log: Option<&Path>) -> Output {
        self.place.lapse().await;
        let output = self.command(fate, log).output().await;
        output.expect("the instance starts")
    }

    /// One process that goes on beside others; no lease is ended for it.
    pub fn spawn(&self, fate: Fate) -> Running {
        let mut command = self.command(fate, None);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(command.spawn().expect("the instance starts"))
    }

    /// Lives through these crashes, then on to the end. `None` where a process outlived its crash
    /// point: it came to the end before.
    pub async fn live(&self, crashes: &[u64]) -> Option<TaskView> {
        for at in crashes {
            let process = self.process(Fate::Killed(*at), None).await;
            if process.status.success() {
                return None;
            }
        }
        let last = self.process(Fate::Unharmed, None).await;
        Some(view(&last, &format!("after crashes at {crashes:?}")))
    }

    /// How many points the life's next process passes, both sides of all of these among them.
    pub async fn passed(&self, names: &[&str]) -> u64 {
        let log = self.path("points");
        let output = self.process(Fate::Unharmed, Some(&log)).await;
        view(&output, "undisturbed");
        let log = std::fs::read_to_string(log).expect("the log of points");
        for name in names {
            for side in ["before", "after"] {
                let point = format!("{name}.{side}");
                assert!(log.lines().any(|line| line == point), "{point} is passed");
            }
        }
        log.lines().count() as u64
    }
}

/// The task that an instance printed at its end.
pub fn view(output: &Output, when: &str) -> TaskView {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{when}: {error}");
    serde_json::from_slice(&output.stdout).expect("an instance prints its task")
}

/// A process that goes on.
pub struct Running(Child);

impl Running {
    /// Waits until it has been stopped by SIGSTOP. False where it ended before.
    pub async fn stopped(&mut self) -> bool {
        loop {
            if self.0.try_wait().expect("it is our child").is_some() {
                return false;
            }
            let stat = self.0.id().map(|id| format!("/proc/{id}/stat"));
            let stat = stat.and_then(|path| std::fs::read_to_string(path).ok());
            // The state is the word after the name, which stands in brackets.
            let state = stat
                .as_deref()
                .and_then(|stat| stat.rsplit_once(") "))
                .map(|(_, rest)| rest.starts_with('T'));
            if state == Some(true) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends it a signal.
    pub fn send(&self, signal: Signal) {
        if let Some(id) = self.0.id() {
            // One that has ended meanwhile needs none.
            let _ = kill(Pid::from_raw(id as i32), signal);
        }
    }

    /// Waits for its end; `None` where that takes longer.
    pub async fn output(self, within: Duration) -> Option<Output> {
        let output = tokio::time::timeout(within, self.0.wait_with_output()).await;
        output.ok().map(|output| output.expect("it is our child"))
    }
}

/// What came of lives.
#[derive(Clone, Default, Debug, PartialEq)]
pub struct Tally {
    /// All.
    pub lives: u32,
    /// The task was done.
    pub done: u32,
    /// A person was asked.
    pub asked: u32,
    /// Some effect happened more than once.
    pub repeated: u32,
    /// The task was done and an effect had not happened.
    pub lost: u32,
}

impl Tally {
    /// Takes the end of a life in.
    pub fn take(&mut self, view: &TaskView, effects: &BTreeMap<String, u32>) {
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
                assert_eq!(view.answer.as_deref(), Some(ANSWER));
                self.lost += u32::from(file == 0 || keyed == 0 || once == 0);
            }
            "awaiting_human" => {
                self.asked += 1;
                let steps = view.steps.as_deref().unwrap_or_default();
                let doubt = steps.iter().find(|step| step.state == "in_doubt");
                let doubt = doubt.map(|step| step.what.as_str());
                assert_eq!(doubt, Some("post_once"), "only Once is ever in doubt");
            }
            other => panic!("the task is {other}: {:?}", view.error),
        }
    }
}
