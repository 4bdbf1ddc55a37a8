//! The binary as people start it: what only a process of its own can show.
#![expect(clippy::unwrap_used, reason = "all of this is test code")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use shared::config::Source;
use shared::store::Store;
use shared::store::sqlite::SqliteStore;
use shared::task::{Budget, Request};
use supervisor::equip;
use supervisor::instance::Instance;
use supervisor::intake::{Folders, Intake, Submission};

/// A test that would wait longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A home for an instance, with material to read.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        for folder in ["data", "material"] {
            std::fs::create_dir(home.path(folder)).unwrap();
        }
        std::fs::write(home.path("material/a.md"), "Backups run at noon.").unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A shell line in which `$MAJORDOMO` is the binary.
    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .current_dir(self.path("material"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("MAJORDOMO", env!("CARGO_BIN_EXE_majordomo"))
            .env("MAJORDOMO_DATA", self.path("data"));
        command
    }

    fn run(&self, line: &str) -> Output {
        self.shell(line).output().unwrap()
    }

    /// Starts an instance and waits until it can be found.
    fn serve(&self, line: &str) -> Serving {
        let mut command = self.shell(line);
        let serving = Serving(command.stderr(Stdio::null()).spawn().unwrap());
        let since = shared::clock::stopwatch();
        while Instance::read(&self.path("data")).is_none() {
            assert!(
                since.ms() < PATIENCE.as_millis() as u64,
                "it does not start"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        serving
    }
}

struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        // One that is gone already is as wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_running_instance_goes_by_its_own_configuration() {
    let home = Home::new();
    let _serving = home.serve("exec $MAJORDOMO serve --listen 127.0.0.1:0 --dir .");
    let refused = home.run("$MAJORDOMO ask --config /no/such/folder When do backups run?");
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("/no/such/folder"),
        "{}",
        stderr(&refused)
    );
    let taken = home.run("$MAJORDOMO ask When do backups run?");
    assert_eq!(taken.status.code(), Some(0), "{}", stderr(&taken));
}

#[cfg(target_os = "linux")]
#[test]
fn serve_raises_its_limit_of_open_files() {
    let home = Home::new();
    let serving = home.serve("ulimit -Sn 64; exec $MAJORDOMO serve --listen 127.0.0.1:0 --dir .");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", serving.0.id())).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let numbers: Vec<&str> = files.unwrap().split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "soft and hard: {limits}");
    assert_ne!(numbers[0], "64");
}

#[tokio::test]
async fn work_that_is_taken_up_is_told_even_quietly() {
    let home = Home::new();
    unfinished(&home.path("data"), &home.path("material")).await;
    let listed = home.run("$MAJORDOMO tasks list");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("queued, halted"), "{listed}");
    let json = home.run("$MAJORDOMO tasks list --json");
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["tasks"][0]["halted"], true);
    assert_eq!(json["tasks"][0]["state"], "queued");
    let asked = home.run("$MAJORDOMO ask -q When do backups run?");
    assert_eq!(asked.status.code(), Some(0), "{}", stderr(&asked));
    assert_eq!(stderr(&asked), "resuming 1 unfinished run\n");
    let fresh = Home::new().run("$MAJORDOMO ask -q When do backups run?");
    assert_eq!(stderr(&fresh), "", "nothing was there to take up");
}

/// Leaves a task in the store that nobody works on.
async fn unfinished(data: &Path, material: &Path) {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(data).await.unwrap());
    let equipped = equip::load(&Source::BuiltIn, &[], &Default::default()).unwrap();
    let folders = Folders {
        read: Some(material.into()),
        write: data.join("files"),
        private: data.into(),
    };
    let intake = Intake::open(store.clone(), "default".into(), &equipped.catalog, folders);
    let submission = Submission {
        request: Request {
            text: "When do backups run?".into(),
            agent: None,
            channel: "cli".into(),
            thread: None,
            metadata: Default::default(),
            budget: Budget::default(),
        },
        principal: "local".into(),
        submitted_by: "local".into(),
        dedupe: None,
        read: None,
    };
    intake.await.unwrap().submit(submission).await.unwrap();
    store.close().await;
}
