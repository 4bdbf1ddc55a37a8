//! Parsers in a process of their own. A hostile document may crash, loop or fill the memory of whoever
//! parses it; here that is a child which the kernel holds to its limits, and its end is an answer like
//! any other. The child is this program again with a hidden subcommand:
//!
//! ```text
//! Readers::read --- turn ---- spawn --- bytes -> stdin --- limits, parse --- JSON -> stdout --- Text
//!                                |                                                     |
//!                                +-- time is up, or nobody waits: killed and reaped ---+
//!                                +-- this program is gone, even by a kill: killed -----+
//! ```
//!
//! The child sets its limits itself before it reads a byte, because setting them between fork and exec
//! is unsafe code; until then it runs nothing but this program's own start. Left out: a sandbox. The
//! child can open no file and no socket and start no process, but it may read what it inherited, which
//! is its input and an empty environment.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::turns::{Owner, Turns};
use super::{Kind, Limits, Paper, Refused, Text, extract, judge, kind};

/// The hidden subcommand. Its one argument is a [`Job`] as JSON.
pub const SUBCOMMAND: &str = "read-paper";

/// What the child may say besides four bytes for each character.
const REST_OF_ANSWER: usize = 64 << 10;
/// How much of its complaints is kept: enough for the standard library's last words.
const COMPLAINTS: usize = 4 << 10;
/// The standard library's last words where memory cannot be had.
const OUT_OF_MEMORY: &str = "memory allocation of";

/// The job that this process was started for, where it is such a child.
pub fn job_of(args: impl Iterator<Item = String>) -> Option<String> {
    let args: Vec<String> = args.skip(1).collect();
    match args.as_slice() {
        [name, job] if name == SUBCOMMAND => Some(job.clone()),
        _ => None,
    }
}

/// What the kernel allows a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Of address space, the program itself included.
    pub memory_mib: u64,
    /// Of computing.
    pub cpu_s: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            memory_mib: 1024,
            cpu_s: 20,
        }
    }
}

/// What a child is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What its input is.
    pub kind: Kind,
    /// How much of it is read.
    pub limits: Limits,
    /// What it may use up.
    pub bounds: Bounds,
    /// The process that started it, and whose end is its own.
    pub parent: u32,
}

/// Reads documents, so many of them at once; people take turns.
pub struct Readers {
    program: PathBuf,
    turns: Turns,
    limits: Limits,
    bounds: Bounds,
    time: Duration,
}

impl Readers {
    /// Readers that run this program, which must hand [`SUBCOMMAND`] to [`child_main`].
    pub fn new(program: PathBuf, at_once: usize, limits: Limits) -> Self {
        Self {
            program,
            turns: Turns::new(at_once.max(1)),
            limits,
            bounds: Bounds::default(),
            // More than the computing, because others compute too.
            time: Duration::from_secs(30),
        }
    }

    /// The same, with these bounds, and this much time for one document once it has its place.
    #[must_use]
    pub fn within(mut self, bounds: Bounds, time: Duration) -> Self {
        self.bounds = bounds;
        self.time = time;
        self
    }

    /// Reads a document for somebody; waits for their turn first where it needs a process. Safe to drop
    /// at any time.
    pub async fn read(
        &self,
        owner: &Owner,
        name: &str,
        mime: Option<&str>,
        bytes: &[u8],
    ) -> Result<Paper, Refused> {
        let kind = match judge(name, mime, bytes, self.limits)? {
            kind::Judged::Image(mime) => return Ok(Paper::Image { mime }),
            kind::Judged::Document(kind) => kind,
        };
        if !kind.is_parsed() {
            return extract(kind, bytes, self.limits).map(Paper::Text);
        }
        let job = Job {
            kind,
            limits: self.limits,
            bounds: self.bounds,
            parent: std::process::id(),
        };
        let seat = self.turns.seat(owner).await;
        let _seat = seat.ok_or(Refused::Unavailable)?;
        read_limited(&self.program, job, self.time, bytes)
            .await
            .map(Paper::Text)
    }
}

/// Has a child do this job. When this returns, the child is gone; when it is dropped, the child is
/// killed at once and reaped soon.
pub async fn read_limited(
    program: &Path,
    job: Job,
    time: Duration,
    bytes: &[u8],
) -> Result<Text, Refused> {
    let mut child = start(program, job).map_err(|error| unavailable(&error))?;
    let ended = tokio::time::timeout(time, talk(&mut child, job, bytes)).await;
    match ended {
        Ok(Ok(ended)) => ended.judge(job),
        Ok(Err(error)) => {
            end(&mut child).await;
            Err(unavailable(&error))
        }
        Err(_) => {
            end(&mut child).await;
            Err(Refused::Time {
                seconds: time.as_secs(),
            })
        }
    }
}

fn unavailable(error: &dyn std::fmt::Display) -> Refused {
    tracing::error!(%error, "a process that reads documents did not run");
    Refused::Unavailable
}

fn start(program: &Path, job: Job) -> std::io::Result<Child> {
    Command::new(program)
        .arg(SUBCOMMAND)
        .arg(serde_json::to_string(&job)?)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

async fn end(child: &mut Child) {
    if let Err(error) = child.kill().await {
        tracing::warn!(%error, "a process that reads documents could not be ended");
    }
}

/// How a child ended and what it said.
struct Ended {
    status: ExitStatus,
    answer: Vec<u8>,
    complaint: Vec<u8>,
}

/// Gives a child its input, and takes what it says while it reads.
async fn talk(child: &mut Child, job: Job, bytes: &[u8]) -> std::io::Result<Ended> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(std::io::Error::other("the process has no pipes"));
    };
    let give = async move {
        // A child that dies while it reads breaks the pipe; how it died says more.
        let _broken = stdin.write_all(bytes).await;
    };
    let most = job
        .limits
        .characters
        .saturating_mul(4)
        .saturating_add(REST_OF_ANSWER);
    let ((), answer, complaint) =
        tokio::join!(give, heard(stdout, most), heard(stderr, COMPLAINTS));
    Ok(Ended {
        status: child.wait().await?,
        answer: answer?,
        complaint: complaint?,
    })
}

/// The first so many bytes; the rest is read and forgotten, so that the child does not hang on it.
async fn heard(mut from: impl AsyncRead + Unpin, most: usize) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    (&mut from).take(most).read_to_end(&mut kept).await?;
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(kept)
}

impl Ended {
    fn judge(&self, job: Job) -> Result<Text, Refused> {
        if self.status.success() {
            let answer = serde_json::from_slice::<Result<Text, Refused>>(&self.answer);
            return answer.unwrap_or_else(|error| Err(unavailable(&error)));
        }
        let complaint = String::from_utf8_lossy(&self.complaint);
        tracing::warn!(status = %self.status, %complaint, "a process that reads documents died");
        if self.status.code() == Some(NOT_LIMITED.into()) {
            return Err(Refused::Unavailable);
        }
        Err(match self.signal() {
            Some(SIGXCPU) => Refused::Time {
                seconds: job.bounds.cpu_s,
            },
            signal if signal == Some(SIGKILL) || complaint.contains(OUT_OF_MEMORY) => {
                Refused::Memory {
                    mib: job.bounds.memory_mib,
                }
            }
            _ => Refused::Died,
        })
    }

    #[cfg(unix)]
    fn signal(&self) -> Option<i32> {
        std::os::unix::process::ExitStatusExt::signal(&self.status)
    }

    #[cfg(not(unix))]
    fn signal(&self) -> Option<i32> {
        None
    }
}

/// Sent at the soft limit of computing.
const SIGXCPU: i32 = 24;
/// Sent by a kernel that is out of memory for all.
const SIGKILL: i32 = 9;

/// The exit code of a child that could not be limited, and therefore read nothing.
const NOT_LIMITED: u8 = 3;
/// The exit code of a child that was called wrongly, or whose pipes broke.
const NOT_TALKED: u8 = 4;

/// What the hidden subcommand does: limits itself, reads stdin, writes `Result<Text, Refused>` as JSON
/// to stdout. To be called before anything else is set up: threads, logs and files would not survive it.
pub fn child_main(job: &str) -> ExitCode {
    // The parent learns of a panic by the exit code; what it says may quote the document.
    std::panic::set_hook(Box::new(|_| {}));
    let Ok(job) = serde_json::from_str::<Job>(job) else {
        return ExitCode::from(NOT_TALKED);
    };
    let answer_to = match confine(job) {
        Ok(answer_to) => answer_to,
        Err(error) => {
            eprintln!("the process cannot be limited: {error}");
            return ExitCode::from(NOT_LIMITED);
        }
    };
    match answer(job, answer_to) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(NOT_TALKED),
    }
}

fn answer(job: Job, mut to: impl Write) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let most = u64::try_from(job.limits.bytes).unwrap_or(u64::MAX);
    std::io::stdin()
        .lock()
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)?;
    let read = match bytes.len() > job.limits.bytes {
        true => Err(Refused::TooLarge {
            bytes: bytes.len(),
            limit: job.limits.bytes,
        }),
        false => extract(job.kind, &bytes, job.limits),
    };
    to.write_all(&serde_json::to_vec(&read)?)?;
    to.flush()
}

/// Limits this process for good, and gives back its stdout. What parsers print goes to stderr from now
/// on: it must not mix with the answer.
#[cfg(unix)]
fn confine(job: Job) -> std::io::Result<std::fs::File> {
    use rustix::process::Resource;
    let Job { bounds, parent, .. } = job;
    end_with(parent)?;
    // Where memory runs out for all, this process goes first and not its parent.
    let _not_linux = std::fs::write("/proc/self/oom_score_adj", "1000");
    let stdout = rustix::io::dup(rustix::stdio::stdout())?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    // A core would hold the document, and RLIMIT_CORE does not stop one that goes to a program.
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Fsize, 0, 0)?;
    // No further file or socket; those that are open stay.
    limit(Resource::Nofile, 0, 0)?;
    // No further process or thread, but for root, whom this limit does not bind.
    limit(Resource::Nproc, 0, 0)?;
    // SIGXCPU tells of the limit; SIGKILL a second later needs no consent.
    limit(Resource::Cpu, bounds.cpu_s, bounds.cpu_s.saturating_add(1))?;
    let memory = bounds.memory_mib.saturating_mul(1 << 20);
    // Other kernels know the limit and do not keep it: there, time is what ends a greedy parser.
    let limited = limit(Resource::As, memory, memory);
    if cfg!(target_os = "linux") {
        limited?;
    }
    Ok(stdout.into())
}

/// Has the kernel end this process with the one that started it, by whatever it ends: a parser in a loop
/// would notice nothing. Linux means the thread that started it; those of a runtime live as long as the
/// process. Elsewhere the limits end it.
#[cfg(unix)]
fn end_with(parent: u32) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // Of a parent that was gone before, no signal comes.
    let now = rustix::process::getppid().map(rustix::process::Pid::as_raw_pid);
    match now.and_then(|pid| u32::try_from(pid).ok()) == Some(parent) {
        true => Ok(()),
        false => Err(std::io::Error::other("its parent is gone")),
    }
}

#[cfg(unix)]
fn limit(resource: rustix::process::Resource, soft: u64, hard: u64) -> std::io::Result<()> {
    let limit = rustix::process::Rlimit {
        current: Some(soft),
        maximum: Some(hard),
    };
    Ok(rustix::process::setrlimit(resource, limit)?)
}

#[cfg(not(unix))]
fn confine(_: Job) -> std::io::Result<std::io::Stdout> {
    Err(std::io::Error::from(std::io::ErrorKind::Unsupported))
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use futures::StreamExt as _;
    use futures::stream::FuturesUnordered;

    use super::*;

    #[tokio::test]
    async fn a_document_of_somebody_else_is_read_next_however_many_one_has_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("reader");
        std::fs::write(&program, "#!/bin/sh\nsleep 0.2\nexit 1\n").unwrap();
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        let readers = Readers::new(program, 2, Limits::DEFAULT);
        let read = async |name: &'static str| {
            let owner = Owner {
                tenant: "home".into(),
                principal: name.into(),
            };
            let read = readers.read(&owner, "a.pdf", None, b"%PDF-1.4\n");
            assert_eq!(read.await, Err(Refused::Died));
            name
        };
        let names = [["ada"; 8].as_slice(), &["bob"]].concat();
        let mut done: FuturesUnordered<_> = names.into_iter().map(read).collect();
        let mut before = 0;
        while done.next().await == Some("ada") {
            before += 1;
        }
        assert!(before <= 4, "bob was read after {before} of ada's");
    }
}
