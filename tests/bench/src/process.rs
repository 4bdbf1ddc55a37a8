//! The processes that are measured: starting and ending them, and what the kernel says they use.
//! Linux only, it reads `/proc`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde::Deserialize;
use tokio::process::{Child, Command};

use crate::client::Client;

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
/// Small against the start time that is measured, and still no load.
const ASK_EVERY: Duration = Duration::from_millis(1);

/// A running `majordomo serve`. Dropping it kills the process.
pub struct Server {
    child: Child,
    pub pid: u32,
    /// `address:port`.
    pub host: String,
    pub token: String,
    /// From spawning the process to the first 200 of `/readyz`.
    pub ready: Duration,
}

/// What `serve` writes into its data folder.
#[derive(Deserialize)]
struct Instance {
    url: String,
    token: String,
}

impl Server {
    /// Starts `serve` on a data folder and returns once it is ready for tasks.
    pub async fn start(binary: &Path, config: &Path, data: &Path) -> Result<Self> {
        let log = data.with_extension("log");
        let mut command = Command::new(binary);
        command
            .arg("serve")
            .arg("--config")
            .arg(config)
            .arg("--data")
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .kill_on_drop(true);
        let started = Instant::now();
        let mut child = command
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        let pid = child.id().context("the server ended at once")?;
        loop {
            if let Some(status) = child.try_wait()? {
                bail!("majordomo serve ended ({status}):\n{}", tail(&log));
            }
            if let Some(instance) = ready_instance(data).await {
                return Ok(Self {
                    ready: started.elapsed(),
                    host: host_of(&instance.url),
                    token: instance.token,
                    child,
                    pid,
                });
            }
            if started.elapsed() > READY_WITHIN {
                bail!(
                    "majordomo serve is not ready after {READY_WITHIN:?}:\n{}",
                    tail(&log)
                );
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Asks it to stop and waits until it has.
    pub async fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.pid.cast_signed()), Signal::SIGTERM)?;
        let status = tokio::time::timeout(STOPPED_WITHIN, self.child.wait())
            .await
            .with_context(|| {
                format!("majordomo serve still runs {STOPPED_WITHIN:?} after SIGTERM")
            })??;
        if !status.success() {
            bail!("majordomo serve ended with {status} on SIGTERM");
        }
        Ok(())
    }
}

async fn ready_instance(data: &Path) -> Option<Instance> {
    let path = data.join("instance.json");
    let read = || serde_json::from_slice::<Instance>(&fs::read(&path).ok()?).ok();
    let (status, _) = Client::new(&host_of(&read()?.url), None)
        .get("/readyz")
        .await
        .ok()?;
    // Read again: a file that an earlier process left names the same address with another token.
    if status == 200 { read() } else { None }
}

fn host_of(url: &str) -> String {
    url.trim_start_matches("http://")
        .trim_end_matches('/')
        .to_owned()
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// The scripted model server. Dropping it kills the process.
pub struct FakeLlm {
    child: Child,
    pub host: String,
}

impl FakeLlm {
    /// Starts the program that was built beside this one.
    pub async fn start(port: u16) -> Result<Self> {
        let binary = std::env::current_exe()?.with_file_name("fakellm");
        let mut child = Command::new(&binary)
            .args(["--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        let host = format!("127.0.0.1:{port}");
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                bail!("fakellm ended ({status}): is port {port} taken?");
            }
            if let Ok((200, _)) = Client::new(&host, None).get("/ping").await {
                return Ok(Self { child, host });
            }
            if started.elapsed() > READY_WITHIN {
                bail!("fakellm does not answer on port {port}");
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Sets latency and the step at which requests are held, and forgets what was counted.
    pub async fn reset(&self, latency_ms: u64, hold: &str) -> Result<()> {
        let mut client = Client::new(&self.host, None);
        let null = serde_json::Value::Null;
        client
            .post(
                &format!("/config?latency_ms={latency_ms}&hold={hold}"),
                &null,
            )
            .await?;
        client.post("/reset", &null).await?;
        Ok(())
    }

    /// Lets go of what is held.
    pub async fn release(&self) -> Result<()> {
        Client::new(&self.host, None)
            .post("/config?hold=none", &serde_json::Value::Null)
            .await?;
        Ok(())
    }

    /// Ends it.
    pub async fn stop(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// A figure of `/stats`.
    pub async fn count(&self, figure: &str) -> Result<u64> {
        let (_, stats) = Client::new(&self.host, None).get("/stats").await?;
        stats[figure]
            .as_u64()
            .with_context(|| format!("fakellm counts no {figure}"))
    }
}

/// What a process and its descendants use.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    pub rss_kib: u64,
    /// Processor time since their start.
    pub cpu_s: f64,
}

/// Reads the usage of a process tree; zero for one that is gone.
pub fn usage(pid: u32) -> Usage {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut own: HashMap<u32, Usage> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        if let Some((parent, usage)) = stat(id) {
            children.entry(parent).or_default().push(id);
            own.insert(id, usage);
        }
    }
    let mut sum = Usage::default();
    let mut todo = vec![pid];
    while let Some(id) = todo.pop() {
        let usage = own.get(&id).copied().unwrap_or_default();
        sum.rss_kib += usage.rss_kib;
        sum.cpu_s += usage.cpu_s;
        todo.extend(children.get(&id).into_iter().flatten());
    }
    sum
}

/// Parent and usage of one process, from `/proc/PID/stat`.
fn stat(pid: u32) -> Option<(u32, Usage)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold spaces; the fields that follow it are numbered from 3.
    let fields: Vec<&str> = text[text.rfind(')')? + 2..].split(' ').collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let (ticks, page) = (system(SysconfVar::CLK_TCK)?, system(SysconfVar::PAGE_SIZE)?);
    let usage = Usage {
        rss_kib: field(24)? * page / 1024,
        cpu_s: (field(14)? + field(15)?) as f64 / ticks as f64,
    };
    Some((u32::try_from(field(4)?).ok()?, usage))
}

fn system(variable: SysconfVar) -> Option<u64> {
    u64::try_from(sysconf(variable).ok()??).ok()
}

/// Bytes that a process has sent to storage.
pub fn written(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok())
        .unwrap_or(0)
}

/// Busy processor seconds of the whole machine since its start.
pub fn machine_busy_s() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = text.lines().next().unwrap_or_default();
    let fields: Vec<f64> = first
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|field| field.parse().ok())
        .collect();
    let ticks = system(SysconfVar::CLK_TCK).unwrap_or(100) as f64;
    // Fields 3 and 4 are idle and waiting for storage.
    let idle: f64 = fields.iter().skip(3).take(2).sum();
    (fields.iter().sum::<f64>() - idle) / ticks
}
