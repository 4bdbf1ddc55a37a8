//! Measures a built `majordomo` and prints Markdown. `scripts/bench` builds everything and calls it.
//!
//! It starts the fake model and `majordomo serve` as its own children on loopback, gives them
//! tasks, and ends them: also when it fails or is interrupted. It touches no data folder but its
//! own, below `--scratch`.

mod client;
mod limits;
mod load;
mod process;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use load::{Held, Load, MODEL_CALLS, Plan};
use process::{FakeLlm, Server, usage};
use report::Start;

/// The port that `config/majordomo.toml` points its model at.
const LLM_PORT: u16 = 28471;
/// A first start prepares the store; these follow it on the same folder.
const RESTARTS: usize = 5;
const HOLD_WITHIN: Duration = Duration::from_secs(50);

/// Measures a built majordomo against a scripted model server.
#[derive(Parser)]
struct Args {
    /// The program to measure.
    #[arg(long)]
    majordomo: PathBuf,
    /// The folder with this benchmark's `config` and `material`.
    #[arg(long)]
    bench: PathBuf,
    /// A folder for data, on the disk to be measured.
    #[arg(long)]
    scratch: PathBuf,
    /// Seconds for each load.
    #[arg(long, default_value_t = 15.0)]
    seconds: f64,
    /// Tasks that are held at once.
    #[arg(long, default_value_t = 1000)]
    held: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let work = LocalSet::new();
    let ended = tokio::select! {
        ended = work.run_until(measure(&args)) => ended,
        ended = interrupted() => ended,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => bail!("terminated"),
        _ = interrupt.recv() => bail!("interrupted"),
    }
}

async fn measure(args: &Args) -> Result<()> {
    allow_connections(args.held)?;
    fs::create_dir_all(&args.scratch)?;
    let scratch = tempfile::tempdir_in(&args.scratch)?;
    let config = own_config(&args.bench, scratch.path())?;
    let data = scratch.path().join("data");
    fs::create_dir(&data)?;
    let llm = FakeLlm::start(LLM_PORT).await?;

    report::machine();
    say("limits of the machine");
    let each = Duration::from_secs_f64(args.seconds.min(3.0));
    report::limits(&limits::measure(scratch.path(), &llm.host, each).await?);

    say("start");
    let (start, server) = starts(&args.majordomo, &config, &data).await?;
    report::start(&start);

    // Before the loads, on a fresh process: memory that those left behind would hide what a held
    // task needs.
    say(&format!("{} tasks held at a model call", args.held));
    let held = load::hold(&server, &llm, args.held, HOLD_WITHIN).await?;
    server.stop().await?;

    let server = Server::start(&args.majordomo, &config, &data).await?;
    let loads = loads(&server, &llm, args.seconds).await?;
    server.stop().await?;
    llm.stop().await?;
    report::loads(&loads);
    report::held(&held);
    verdict(&loads, &held, args.held)
}

/// Starts the server again and again; the last one stays.
async fn starts(binary: &Path, config: &Path, data: &Path) -> Result<(Start, Server)> {
    let mut server = Server::start(binary, config, data).await?;
    let first = server.ready;
    let mut again = Vec::new();
    for _ in 0..RESTARTS {
        server.stop().await?;
        server = Server::start(binary, config, data).await?;
        again.push(server.ready);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let idle_mib = usage(server.pid).rss_kib as f64 / 1024.0;
    let start = Start {
        first,
        again,
        idle_mib,
    };
    Ok((start, server))
}

async fn loads(server: &Server, llm: &FakeLlm, seconds: f64) -> Result<Vec<Load>> {
    let plan = |concurrency, latency_ms| Plan {
        concurrency,
        latency_ms,
        seconds,
    };
    say("warm-up");
    let warm = Plan {
        seconds: seconds.min(2.0),
        ..plan(16, 0)
    };
    load::run(server, llm, warm).await?;
    let mut loads = Vec::new();
    for plan in [plan(1, 0), plan(16, 0), plan(128, 0), plan(128, 200)] {
        say(&format!(
            "{} at once, {} ms",
            plan.concurrency, plan.latency_ms
        ));
        loads.push(load::run(server, llm, plan).await?);
    }
    Ok(loads)
}

/// Figures of a run that did other work than was asked for are no figures.
fn verdict(loads: &[Load], held: &Held, wanted: u64) -> Result<()> {
    let errors = loads.iter().flat_map(|load| &load.errors);
    let mut problems: Vec<String> = errors.chain(&held.errors).take(5).cloned().collect();
    for load in loads {
        if load.done == 0 || load.model_calls_per_task != MODEL_CALLS as f64 {
            problems.push(format!(
                "concurrency {}: {} tasks with {:.2} model calls each instead of {MODEL_CALLS}",
                load.plan.concurrency, load.done, load.model_calls_per_task,
            ));
        }
    }
    if held.tasks < wanted {
        problems.push(format!("only {} of {wanted} tasks were held", held.tasks));
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("the figures do not count:\n{}", problems.join("\n"));
}

/// A copy of the configuration in which the material's folder is an absolute path.
fn own_config(bench: &Path, scratch: &Path) -> Result<PathBuf> {
    let (from, to) = (bench.join("config"), scratch.join("config"));
    fs::create_dir_all(to.join("agents"))?;
    let material = bench.join("material").canonicalize()?;
    let settings = fs::read_to_string(from.join("majordomo.toml"))?;
    let relative = r#"read = "../material""#;
    if !settings.contains(relative) {
        bail!("tests/bench/config/majordomo.toml has no line `{relative}`");
    }
    let settings = settings.replace(relative, &format!("read = {material:?}"));
    fs::write(to.join("majordomo.toml"), settings)?;
    for agent in fs::read_dir(from.join("agents"))? {
        let agent = agent?;
        fs::copy(agent.path(), to.join("agents").join(agent.file_name()))?;
    }
    Ok(to)
}

/// Each held task is one connection here and two in the server, which inherits the limit.
fn allow_connections(tasks: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = (tasks * 3 + 512).min(hard);
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)
            .context("raise the limit of open files")?;
    }
    Ok(())
}

fn say(what: &str) {
    eprintln!("bench: {what}");
}
