//! The binary as people start it: what only a process of its own can show.
#![expect(clippy::unwrap_used, reason = "all of this is test code")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use shared::config::Source;
use shared::store::Store;
use shared::store::sqlite::SqliteStore;
use shared::task::{Budget, Request, Said};
use supervisor::channels::papers::{self, child::Bounds, child::Job};
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

/// Whether this holds before long.
#[cfg(target_os = "linux")]
fn soon(holds: impl Fn() -> bool) -> bool {
    let since = shared::clock::stopwatch();
    while !holds() {
        if since.ms() > PATIENCE.as_millis() as u64 {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
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

/// One line of `doctor --json`.
fn finding(output: &Output, check: &str) -> (String, String) {
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = told["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no {check} in {told:#}"));
    let word = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (word("level"), word("found"))
}

#[test]
fn doctor_works_without_an_instance_beside_one_and_with_a_broken_store() {
    let home = Home::new();
    let doctor = || home.run("$MAJORDOMO doctor --json");
    let empty = doctor();
    assert_eq!(empty.status.code(), Some(0), "{}", stderr(&empty));
    assert!(!home.path("data/majordomo.db").exists(), "it makes nothing");
    assert_eq!(finding(&empty, "instance").0, "ok");

    {
        let _serving = home.serve("exec $MAJORDOMO serve --listen 127.0.0.1:0 --dir .");
        let beside = doctor();
        assert_eq!(beside.status.code(), Some(0), "{}", stderr(&beside));
        assert!(finding(&beside, "instance").1.contains("answers"));
        let leases = finding(&beside, "leases");
        assert_eq!(
            (leases.0.as_str(), leases.1.as_str()),
            ("ok", "1 live, 0 lapsed")
        );
        assert!(
            finding(&beside, "size").1.contains("task"),
            "{:?}",
            finding(&beside, "size")
        );
    }
    let after = doctor();
    assert_eq!(finding(&after, "instance").0, "warning", "it was killed");
    assert_eq!(finding(&after, "store").0, "ok");

    let garbage = vec![7_u8; 64 * 1024];
    for file in ["majordomo.db-wal", "majordomo.db-shm"] {
        let _ = std::fs::remove_file(home.path("data").join(file));
    }
    std::fs::write(home.path("data/majordomo.db"), garbage).unwrap();
    let broken = doctor();
    assert_eq!(broken.status.code(), Some(6), "{}", stderr(&broken));
    assert_eq!(finding(&broken, "store").0, "problem");
    assert!(finding(&broken, "disk").1.contains("free"));
    let plain = home.run("$MAJORDOMO doctor");
    let plain = String::from_utf8_lossy(&plain.stdout).into_owned();
    assert!(
        plain.contains("-> ") && plain.contains("problem  store"),
        "{plain}"
    );
}

#[test]
fn a_document_that_is_sent_along_is_answered_from_without_any_model() {
    let home = Home::new();
    std::fs::write(
        home.path("rota.md"),
        "# Rota\n\nAda waters the plants on Mondays.\n",
    )
    .unwrap();
    let asked = home.run("$MAJORDOMO ask 'Who waters the plants?' --file ../rota.md --dir .");
    assert_eq!(asked.status.code(), Some(0), "{}", stderr(&asked));
    let answer = String::from_utf8_lossy(&asked.stdout);
    assert!(
        answer.starts_with("Ada waters the plants on Mondays. [rota.md:3]"),
        "{answer}"
    );
}

#[test]
fn doctor_begins_with_what_is_wrong_in_the_configuration() {
    let home = Home::new();
    let written = home.run("$MAJORDOMO init ../data/config");
    assert_eq!(written.status.code(), Some(0), "{}", stderr(&written));
    let first = |output: &Output| {
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = &told["findings"][0];
        assert_eq!(found["check"], "config", "{told:#}");
        let word = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        (word("level"), word("found"))
    };
    let good = first(&home.run("$MAJORDOMO doctor --json"));
    assert!(good.0 == "ok" && good.1.ends_with("is good"), "{good:?}");
    let settings = home.path("data/config/majordomo.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    let people = "\n[[people]]\nname = \"ada\"\n[[people]]\nname = \"bob\"\n";
    std::fs::write(&settings, text.clone() + people).unwrap();
    let bad = home.run("$MAJORDOMO doctor --json");
    assert_eq!(bad.status.code(), Some(6), "{}", stderr(&bad));
    let (level, found) = first(&bad);
    let line = text.lines().count() + 2;
    assert_eq!(level, "problem");
    assert!(
        found.contains(&format!("majordomo.toml:{line}:1: this person has no id")),
        "{found}"
    );
    assert!(found.ends_with("(and 1 more)"), "{found}");
    let unset = "\n[telegram]\ntoken = \"${NO_SUCH_VARIABLE}\"\n";
    std::fs::write(&settings, text + unset).unwrap();
    // Whoever asks need not have the service's secrets.
    let (level, found) = first(&home.run("$MAJORDOMO doctor --json"));
    assert!(
        level == "warning" && found.contains("NO_SUCH_VARIABLE is not set"),
        "{found}"
    );
}

#[test]
fn a_backup_beside_an_instance_is_restored_elsewhere() {
    let home = Home::new();
    let id;
    {
        let _serving = home.serve("exec $MAJORDOMO serve --listen 127.0.0.1:0 --dir .");
        let asked = home.run("$MAJORDOMO ask --json When do backups run?");
        let asked: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
        id = asked["id"].as_str().unwrap().to_owned();
        let made = home.run("$MAJORDOMO backup ../copy.db");
        assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    }
    let again = home.run("$MAJORDOMO backup ../copy.db");
    assert_eq!(again.status.code(), Some(2), "{}", stderr(&again));
    assert!(stderr(&again).contains("left alone"), "{}", stderr(&again));
    std::fs::create_dir(home.path("restored")).unwrap();
    std::fs::copy(home.path("copy.db"), home.path("restored/majordomo.db")).unwrap();
    let shown = home.run(&format!("$MAJORDOMO tasks show {id} --data ../restored"));
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
}

#[test]
fn tasks_are_forked_and_the_dead_listed_beside_an_instance_and_without() {
    let home = Home::new();
    let serving = home.serve("exec $MAJORDOMO serve --listen 127.0.0.1:0 --dir .");
    let asked = home.run("$MAJORDOMO ask --json When do backups run?");
    let asked: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    let id = asked["id"].as_str().unwrap().to_owned();
    for alone in [false, true] {
        let done = home.run(&format!("$MAJORDOMO tasks retry {id}"));
        assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
        assert!(
            stderr(&done).contains("the task is done"),
            "{}",
            stderr(&done)
        );
        let none = home.run(&format!("$MAJORDOMO tasks fork {id} --from nowhere"));
        assert_eq!(none.status.code(), Some(2), "{}", stderr(&none));
        let steps = stderr(&none);
        let steps = steps.rsplit("it has ").next().unwrap();
        let first = steps.split([',', '\n']).next().unwrap();
        let forked = home.run(&format!("$MAJORDOMO tasks fork {id} --from '{first}'"));
        assert_eq!(forked.status.code(), Some(0), "{}", stderr(&forked));
        let new = String::from_utf8(forked.stdout).unwrap();
        let shown = home.run(&format!("$MAJORDOMO tasks show --json {new}"));
        let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert_eq!(
            (&shown["fork_of"], &shown["fork_from"]),
            (&id.clone().into(), &first.into())
        );
        let dead = home.run("$MAJORDOMO tasks dead");
        assert_eq!(String::from_utf8_lossy(&dead.stdout), "no dead runs\n");
        if !alone {
            // The next round finds nobody there.
            let _ = Command::new("kill")
                .arg(serving.0.id().to_string())
                .status();
            while Instance::read(&home.path("data")).is_some() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

#[test]
fn limits_are_set_and_shown_beside_an_instance_and_without_one() {
    let home = Home::new();
    let set = |limit: &str| {
        let output = home.run(&format!("$MAJORDOMO budget set user:ada {limit}"));
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let line = |shown: &str| {
        let line = shown.lines().find(|line| line.starts_with("user:ada"));
        line.unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        line(&set("5/day"))[..4],
        ["user:ada", "day", "$5.00", "$0.00"]
    );
    let serving = home.serve("exec $MAJORDOMO serve --listen 127.0.0.1:0");
    let shown = home.run("$MAJORDOMO budget");
    assert_eq!(
        line(&stdout(&shown))[2],
        "$5.00",
        "by whom it was set before"
    );
    assert_eq!(line(&set("7.5/day"))[2], "$7.50");
    let refused = home.run("$MAJORDOMO budget set user:ada lots");
    assert!(!refused.status.success());
    assert!(
        stderr(&refused).contains("is no limit"),
        "{}",
        stderr(&refused)
    );
    let json = home.run("$MAJORDOMO budget --json");
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let ada = json.as_array().unwrap().iter();
    let mut ada = ada.filter(|budget| budget["account"] == "user:ada");
    assert_eq!(ada.next().unwrap()["limit"], 7.5);
    drop(serving);
}

#[test]
fn codes_are_made_beside_an_instance_and_without_one() {
    let home = Home::new();
    let pair = || {
        let made = home.run("$MAJORDOMO pair ada --roles member,approver --label phone");
        let told = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(made.status.success(), "{told}");
        let code = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        assert_eq!(code.len(), 14, "nothing but the code stands on stdout");
        assert!(told.contains(&format!("/pair {code}")), "{told}");
    };
    let nobody = || {
        let removed = home.run("$MAJORDOMO people remove slack:T1/U1");
        let told = String::from_utf8_lossy(&removed.stderr).into_owned();
        assert_eq!(removed.status.code(), Some(1), "{told}");
        let people = home.run("$MAJORDOMO people --json");
        assert_eq!(String::from_utf8_lossy(&people.stdout).trim(), "[]");
        for wrong in [
            "people remove ''",
            "people remove ..",
            "channels test telegram",
            "channels test fax",
            "channels test ''",
            "channels retry fax",
            "pair ''",
        ] {
            let refused = home.run(&format!("$MAJORDOMO {wrong}"));
            let told = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!(refused.status.code(), Some(2), "{wrong}: {told}");
        }
    };
    pair();
    nobody();
    let _serving = home.serve("exec $MAJORDOMO serve --listen 127.0.0.1:0 --dir .");
    pair();
    nobody();
}

#[cfg(target_os = "linux")]
#[test]
fn who_reads_documents_dies_with_whoever_started_it() {
    let job = Job {
        kind: papers::Kind::Pdf,
        limits: papers::Limits::DEFAULT,
        bounds: Bounds::default(),
        parent: 0,
    };
    let home = Home::new();
    let start = |line: &str| {
        let mut command = home.shell(line);
        command
            .env("JOB", serde_json::to_string(&job).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    // It waits for a document that never ends: its stdin is held open here, and not by its parent alone.
    let mut parent = start("exec 3<&0; $MAJORDOMO read-paper \"${JOB%0?}$$}\" <&3 & echo $!; wait");
    let mut pid = String::new();
    let mut told = std::io::BufReader::new(parent.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut told, &mut pid).unwrap();
    let of_process = |file: &str| {
        let told = std::fs::read_to_string(format!("/proc/{}/{file}", pid.trim()));
        told.unwrap_or_default()
    };
    let is_confined = || {
        let limits = of_process("limits");
        let files = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        files.is_some_and(|line| line.split_whitespace().nth(3) == Some("0"))
    };
    assert!(soon(is_confined), "it is not at work");
    let held_open = parent.stdin.take();
    parent.kill().unwrap();
    parent.wait().unwrap();
    // What nobody has waited for is a zombie, and as good as gone.
    let is_gone = || matches!(of_process("stat"), stat if stat.is_empty() || stat.contains(") Z "));
    assert!(soon(is_gone), "it outlives its parent");
    drop(held_open);
    // One whose parent is gone before it could ask the kernel for that reads nothing.
    let orphan = start("exec $MAJORDOMO read-paper \"$JOB\"")
        .wait_with_output()
        .unwrap();
    assert_eq!((orphan.status.code(), orphan.stdout.len()), (Some(3), 0));
}

const ASKING: &str = "
[models.default]
provider = \"scripted\"
file = \"script.toml\"

[[routes]]
matches = '^write'
agents = [\"scribe\"]

[[routes]]
matches = ''
agents = [\"asker\"]

[[approvals.rules]]
tool = \"write_file\"
then = \"ask\"
";

const SCRIPT: &str = "
[[agent]]
name = \"scribe\"
system = \"You are the scribe\"
[[agent.reply]]
calls = [{ tool = \"write_file\", args = { path = \"a.md\", text = \"five\" } }]
[[agent.reply]]
text = \"It is written.\"

[[agent]]
name = \"asker\"
system = \"You are the asker\"
[[agent.reply]]
calls = [{ tool = \"ask_human\", args = { question = \"Which one?\", choices = [\"this\", \"that\"] } }]
[[agent.reply]]
text = \"So be it.\"
";

/// A home whose agents ask people: the scribe before it writes, the asker always.
fn asking(approvals: &str) -> Home {
    let home = Home::new();
    std::fs::create_dir_all(home.path("data/config/agents")).unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(home.path("data/config").join(name), text).unwrap();
    };
    file("majordomo.toml", &format!("{ASKING}\n{approvals}"));
    file("script.toml", SCRIPT);
    for (name, tool) in [("scribe", "write_file"), ("asker", "ask_human")] {
        file(
            &format!("agents/{name}.toml"),
            &format!(
                "name = \"{name}\"\ndescription = \"Does what the test says, whenever it says so.\"\n\
                 prompt = \"You are the {name}.\"\ntools = [\"{tool}\"]\n"
            ),
        );
    }
    home
}

/// The id in the first command of this name that stands in a text.
fn named(text: &str, command: &str) -> String {
    let at = text.find(command).unwrap_or_else(|| panic!("{text}"));
    let rest = text[at + command.len()..].trim_start();
    rest.split_whitespace().next().unwrap().to_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until a task is done.
fn done(home: &Home, task: &str) -> serde_json::Value {
    let since = shared::clock::stopwatch();
    loop {
        let shown = home.run(&format!("$MAJORDOMO tasks show --json {task}"));
        let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
        if shown["state"] == "done" {
            return shown;
        }
        let waited = since.ms() < PATIENCE.as_millis() as u64;
        assert!(waited, "{shown:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_waits_for_a_word_says_which_command_gives_it() {
    let home = asking("[approvals]\nown = true\n");
    let asked = home.run("$MAJORDOMO ask --json write it < /dev/null");
    assert_eq!(asked.status.code(), Some(3), "{}", stderr(&asked));
    let view: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert_eq!(view["asks"][0]["kind"], "approval", "{view:#}");
    let id = named(&stderr(&asked), "majordomo approve");
    let full = view["asks"][0]["id"].as_str().unwrap();
    assert!(full.starts_with(&id), "{full} {id}");

    let listed = stdout(&home.run("$MAJORDOMO approvals"));
    assert!(listed.contains(&id) && listed.contains("scribe wants to call write_file"));
    let shown = stdout(&home.run(&format!("$MAJORDOMO approvals show {id}")));
    for word in ["\"text\": \"five\"", "SHA-256", "write it", full] {
        assert!(shown.contains(word), "{shown}");
    }
    let odd = home.run(&format!("$MAJORDOMO approve {id} --args '{{\"path\": 5}}'"));
    assert_eq!(odd.status.code(), Some(2), "{}", stderr(&odd));
    let taken = home.run(&format!("$MAJORDOMO approve {id}"));
    assert_eq!(taken.status.code(), Some(0), "{}", stderr(&taken));
    assert!(
        stderr(&taken).contains("approved by local"),
        "{}",
        stderr(&taken)
    );
    let late = home.run(&format!("$MAJORDOMO reject {id} --reason no"));
    assert_eq!(late.status.code(), Some(1));
    assert!(stderr(&late).contains("decided before: approved by local"));
    assert_eq!(stdout(&home.run("$MAJORDOMO approvals")), "no approvals\n");

    let _serving = home.serve("exec $MAJORDOMO serve --listen 127.0.0.1:0 --dir .");
    let task = view["id"].as_str().unwrap();
    assert_eq!(done(&home, task)["files"][0]["name"], "a.md");
    let all = home.run("$MAJORDOMO approvals --all --json");
    let all: serde_json::Value = serde_json::from_slice(&all.stdout).unwrap();
    assert_eq!(all["asks"][0]["decided_by"], "local");

    // The same beside an instance, for a question.
    let asked = home.run("$MAJORDOMO ask --json which < /dev/null");
    assert_eq!(asked.status.code(), Some(3), "{}", stderr(&asked));
    let view: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    let id = named(&stderr(&asked), "majordomo answer");
    let none = home.run(&format!("$MAJORDOMO approve {id}"));
    assert_eq!(none.status.code(), Some(1), "a question takes no approval");
    assert!(stdout(&home.run("$MAJORDOMO questions")).contains("Which one?"));
    let taken = home.run(&format!("$MAJORDOMO answer {id} neither of them"));
    assert_eq!(taken.status.code(), Some(0), "{}", stderr(&taken));
    assert_eq!(
        done(&home, view["id"].as_str().unwrap())["answer"],
        "So be it."
    );
}

#[test]
fn nobody_approves_for_themselves_where_the_configuration_does_not_say_so() {
    let home = asking("");
    let asked = home.run("$MAJORDOMO ask write it < /dev/null");
    let id = named(&stderr(&asked), "majordomo approve");
    let refused = home.run(&format!("$MAJORDOMO approve {id}"));
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("own = true"),
        "{}",
        stderr(&refused)
    );
}

/// A terminal with a command at it.
#[cfg(unix)]
struct Terminal {
    screen: Arc<std::sync::Mutex<String>>,
    keys: std::fs::File,
    child: Child,
}

#[cfg(unix)]
impl Terminal {
    fn open(home: &Home, line: &str) -> Self {
        use rustix::fs::{Mode, OFlags};
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        use std::io::Read;
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap();
        let user = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let child = home
            .shell(line)
            .stdin(user.try_clone().unwrap())
            .stderr(user)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let keys = std::fs::File::from(controller);
        let mut reader = keys.try_clone().unwrap();
        let screen = Arc::new(std::sync::Mutex::new(String::new()));
        let shown = screen.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It ends with the last one who holds the terminal.
            while let Ok(1..) = reader.read(&mut bytes).inspect(|read| {
                let text = String::from_utf8_lossy(&bytes[..*read]);
                shown.lock().unwrap().push_str(&text);
            }) {}
        });
        Self {
            screen,
            keys,
            child,
        }
    }

    /// What is on the screen, once this is.
    fn shows(&self, wanted: &str) -> String {
        let since = shared::clock::stopwatch();
        loop {
            let screen = self.screen.lock().unwrap().clone();
            if screen.contains(wanted) {
                return screen;
            }
            let waited = since.ms() < PATIENCE.as_millis() as u64;
            assert!(waited, "no {wanted:?} in {screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn types(&self, line: &str) {
        use std::io::Write;
        (&self.keys).write_all(line.as_bytes()).unwrap();
    }

    fn ends(self) -> (Option<i32>, String) {
        let output = self.child.wait_with_output().unwrap();
        (output.status.code(), stdout(&output))
    }
}

#[cfg(unix)]
#[test]
fn at_a_terminal_the_word_is_given_where_the_task_is_watched() {
    let home = asking("[approvals]\nown = true\n");
    let terminal = Terminal::open(&home, "exec $MAJORDOMO ask write it");
    // Typed before anything was shown: it approves nothing.
    terminal.types("a\n");
    let screen = terminal.shows("[a]pprove");
    assert!(screen.contains("\"text\": \"five\""), "{screen}");
    // Nothing tells that nothing comes of it.
    std::thread::sleep(Duration::from_millis(300));
    let screen = terminal.shows("[a]pprove");
    assert!(!screen.contains("approved by local"), "{screen}");
    terminal.types("{\"path\": 5}\n");
    terminal.shows("do not fit");
    terminal.types("a\n");
    terminal.shows("approved by local");
    assert_eq!(terminal.ends(), (Some(0), "It is written.\n".into()));

    let terminal = Terminal::open(&home, "exec $MAJORDOMO ask which");
    terminal.shows("a number, or your own answer");
    terminal.types("2\n");
    terminal.shows("answered by local");
    assert_eq!(terminal.ends(), (Some(0), "So be it.\n".into()));

    let terminal = Terminal::open(&home, "exec $MAJORDOMO ask which");
    terminal.shows("a number, or your own answer");
    terminal.types("\u{4}");
    terminal.shows("majordomo answer");
    assert_eq!(terminal.ends().0, Some(3), "later");

    // Somebody else is faster.
    let _serving = home.serve("exec $MAJORDOMO serve --listen 127.0.0.1:0 --dir .");
    let terminal = Terminal::open(&home, "exec $MAJORDOMO ask write it");
    terminal.shows("[a]pprove");
    let page = home.run("$MAJORDOMO approvals --json");
    let page: serde_json::Value = serde_json::from_slice(&page.stdout).unwrap();
    let id = page["asks"][0]["id"].as_str().unwrap();
    let taken = home.run(&format!("$MAJORDOMO reject {id} --reason later"));
    assert_eq!(taken.status.code(), Some(0), "{}", stderr(&taken));
    terminal.shows("rejected by local");
    assert_eq!(terminal.ends(), (Some(0), "It is written.\n".into()));
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
            said: Said::default(),
            priority: 0,
            images: Vec::new(),
        },
        principal: "local".into(),
        submitted_by: "local".into(),
        dedupe: None,
        read: None,
        card: None,
        since: None,
        blobs: Vec::new(),
    };
    intake.await.unwrap().submit(submission).await.unwrap();
    store.close().await;
}
