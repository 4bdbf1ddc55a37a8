//! Gives the server tasks and measures what they take. One task is a supervisor's routing call, a
//! researcher's four model calls and three tool calls, a writer's call and the supervisor's closing
//! call.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::process::{FakeLlm, Server, machine_busy_s, usage, written};

const TOOL_CALLS: u64 = 3;
/// Route, one call before each tool call and one after the last, write, close.
pub const MODEL_CALLS: u64 = TOOL_CALLS + 4;
/// How long one task may take before it counts as failed.
const TASK_WITHIN: Duration = Duration::from_secs(120);
/// The researcher's call after its last tool call: the context is at its largest.
const HOLD_AT: &str = "researcher:3";

/// How hard to push, and for how long.
#[derive(Clone, Copy)]
pub struct Plan {
    pub concurrency: usize,
    pub latency_ms: u64,
    /// No task starts after this; those under way are finished and count.
    pub seconds: f64,
}

/// What a plan came to.
pub struct Load {
    pub plan: Plan,
    pub done: usize,
    pub errors: Vec<String>,
    pub tasks_per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub cpu_ms_per_task: f64,
    pub rss_mib: f64,
    pub written_kib_per_task: f64,
    pub model_calls_per_task: f64,
    /// Share of the machine that neither server, model nor driver used.
    pub other_load: f64,
}

impl Load {
    /// Tasks per second that the models' latency alone would allow.
    pub fn bound(&self) -> Option<f64> {
        let task_s = (MODEL_CALLS * self.plan.latency_ms) as f64 / 1e3;
        (task_s > 0.0).then(|| self.plan.concurrency as f64 / task_s)
    }
}

/// What tasks cost that wait for a model.
pub struct Held {
    pub tasks: u64,
    pub ramp_s: f64,
    pub idle_mib: f64,
    pub held_mib: f64,
    pub done: usize,
    pub errors: Vec<String>,
}

impl Held {
    pub fn kib_per_task(&self) -> f64 {
        (self.held_mib - self.idle_mib) * 1024.0 / self.tasks.max(1) as f64
    }
}

#[derive(Default)]
struct Tally {
    latencies_ms: RefCell<Vec<f64>>,
    errors: RefCell<Vec<String>>,
    next: Cell<u64>,
}

impl Tally {
    async fn one(&self, client: &mut Client) {
        let number = self.next.replace(self.next.get() + 1);
        let started = Instant::now();
        match task(client, number).await {
            Ok(()) => {
                let took = started.elapsed().as_secs_f64() * 1e3;
                self.latencies_ms.borrow_mut().push(took);
            }
            Err(error) => self
                .errors
                .borrow_mut()
                .push(format!("task {number}: {error:#}")),
        }
    }
}

/// Keeps `concurrency` tasks going for a while. Call inside a `LocalSet`.
pub async fn run(server: &Server, llm: &FakeLlm, plan: Plan) -> Result<Load> {
    llm.reset(plan.latency_ms, "none").await?;
    let before = Reading::take(server);
    let tally = Rc::new(Tally::default());
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(plan.seconds);
    let mut workers = JoinSet::new();
    for _ in 0..plan.concurrency {
        let tally = Rc::clone(&tally);
        let mut client = Client::new(&server.host, Some(&server.token));
        workers.spawn_local(async move {
            while Instant::now() < until {
                tally.one(&mut client).await;
            }
        });
    }
    finish(workers).await?;
    let wall_s = started.elapsed().as_secs_f64();
    let after = Reading::take(server);

    let mut latencies = tally.latencies_ms.take();
    latencies.sort_by(f64::total_cmp);
    let done = latencies.len();
    let per_task = |total: f64| total / done.max(1) as f64;
    let cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
    let ours = (after.server_cpu_s - before.server_cpu_s) + (after.rest_cpu_s - before.rest_cpu_s);
    Ok(Load {
        plan,
        done,
        errors: tally.errors.take(),
        tasks_per_s: done as f64 / wall_s,
        p50_ms: quantile(&latencies, 0.5),
        p99_ms: quantile(&latencies, 0.99),
        cpu_ms_per_task: per_task((after.server_cpu_s - before.server_cpu_s) * 1e3),
        rss_mib: after.rss_mib,
        written_kib_per_task: per_task((after.written - before.written) as f64 / 1024.0),
        model_calls_per_task: per_task(llm.count("requests").await? as f64),
        other_load: ((after.busy_s - before.busy_s - ours) / wall_s / cores).max(0.0),
    })
}

/// Submits `tasks` at once, waits until all of them stand at one model call, and reads the memory.
pub async fn hold(server: &Server, llm: &FakeLlm, tasks: u64, within: Duration) -> Result<Held> {
    llm.reset(0, HOLD_AT).await?;
    let idle = usage(server.pid);
    let tally = Rc::new(Tally::default());
    let started = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..tasks {
        let tally = Rc::clone(&tally);
        let mut client = Client::new(&server.host, Some(&server.token));
        workers.spawn_local(async move { tally.one(&mut client).await });
    }
    let mut held = 0;
    while held + (tally.errors.borrow().len() as u64) < tasks && started.elapsed() < within {
        tokio::time::sleep(Duration::from_millis(100)).await;
        held = llm.count("held").await?;
    }
    let ramp_s = started.elapsed().as_secs_f64();
    // What was needed only to get here may be given back first.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let waiting = usage(server.pid);
    llm.release().await?;
    finish(workers).await?;
    Ok(Held {
        tasks: held,
        ramp_s,
        idle_mib: idle.rss_kib as f64 / 1024.0,
        held_mib: waiting.rss_kib as f64 / 1024.0,
        done: tally.latencies_ms.borrow().len(),
        errors: tally.errors.take(),
    })
}

async fn finish(mut workers: JoinSet<()>) -> Result<()> {
    while let Some(worker) = workers.join_next().await {
        worker.context("a driver task failed")?;
    }
    Ok(())
}

/// One task, from its text to an answer that the supervisor closed.
async fn task(client: &mut Client, number: u64) -> Result<()> {
    let id = std::process::id();
    let text =
        format!("TASK-{id}-{number} STEPS={TOOL_CALLS} Write a short brief on topic {number}.");
    let work = async {
        let (status, mut reply) = client
            .post("/v1/tasks", &json!({"text": text, "wait_s": 60}))
            .await?;
        if !(200..300).contains(&status) {
            bail!("status {status}: {reply}");
        }
        while !ended(&reply) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let id = reply["id"]
                .as_str()
                .context("a reply without id")?
                .to_owned();
            (_, reply) = client.get(&format!("/v1/tasks/{id}")).await?;
        }
        check(&reply)
    };
    tokio::time::timeout(TASK_WITHIN, work)
        .await
        .with_context(|| format!("no answer within {TASK_WITHIN:?}"))?
}

fn ended(task: &Value) -> bool {
    !matches!(task["state"].as_str(), Some("queued" | "running"))
}

fn check(task: &Value) -> Result<()> {
    let answer = task["answer"].as_str().unwrap_or_default();
    if task["state"] != "done" || !answer.contains("FINAL:") {
        bail!("unexpected end: {task}");
    }
    Ok(())
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let index = (sorted.len() as f64 * share) as usize;
    let last = sorted.len().saturating_sub(1);
    sorted.get(index.min(last)).copied().unwrap_or(f64::NAN)
}

struct Reading {
    server_cpu_s: f64,
    rss_mib: f64,
    written: u64,
    /// Model server and driver.
    rest_cpu_s: f64,
    busy_s: f64,
}

impl Reading {
    fn take(server: &Server) -> Self {
        let own = usage(server.pid);
        // This process is the parent of both others, so its tree holds all three.
        let all = usage(std::process::id());
        Self {
            server_cpu_s: own.cpu_s,
            rss_mib: own.rss_kib as f64 / 1024.0,
            written: written(server.pid),
            rest_cpu_s: all.cpu_s - own.cpu_s,
            busy_s: machine_busy_s(),
        }
    }
}
