//! The Markdown that goes into BENCHMARKS.md.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::limits::Limit;
use crate::load::{Held, Load, MODEL_CALLS};

/// Other work on the machine above this share makes its figures worthless.
const QUIET: f64 = 0.1;

/// Times from spawning the server to the first 200 of `/readyz`, and its memory while idle.
pub struct Start {
    pub first: Duration,
    /// Of the same data folder, after the first.
    pub again: Vec<Duration>,
    pub idle_mib: f64,
}

/// Prints what machine this is.
pub fn machine() {
    println!("### Machine\n\n| | |\n|---|---|");
    let cores = std::thread::available_parallelism().map_or(0, |n| n.get());
    row(
        "processor",
        &format!("{cores} cores, {}", info("/proc/cpuinfo", "model name")),
    );
    row("memory", &memory());
    row("kernel", first_line("/proc/sys/kernel/osrelease").as_str());
    row("compiler", &output("rustc", &["--version"]));
    row(
        "commit",
        &output("git", &["describe", "--always", "--dirty"]),
    );
    row("date", &output("date", &["-u", "+%F"]));
    println!();
}

pub fn limits(limits: &[Limit]) {
    println!("### Limits of the machine, measured in the same run\n\n| | per second |\n|---|---:|");
    for limit in limits {
        row(&limit.what, &format!("{:.0}", limit.per_s));
    }
    println!();
}

pub fn start(start: &Start) {
    let mut again = start.again.clone();
    again.sort();
    let median = again.get(again.len() / 2).copied().unwrap_or_default();
    println!("### Start\n\n| | |\n|---|---:|");
    row("first start to ready, new data folder", &ms(start.first));
    row(
        &format!("later starts to ready, median of {}", again.len()),
        &ms(median),
    );
    row(
        "memory while idle (RSS)",
        &format!("{:.1} MiB", start.idle_mib),
    );
    println!();
}

pub fn loads(loads: &[Load]) {
    println!("### Tasks\n");
    println!(
        "{MODEL_CALLS} model calls and 3 tool calls a task. Server, fake model and driver share the \
         machine. The bound is what the models' latency alone would allow.\n"
    );
    println!(
        "| concurrency | model latency | tasks/s | bound | p50 ms | p99 ms | CPU ms/task \
         | RSS MiB | KiB written/task | tasks | errors |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for load in loads {
        println!(
            "| {} | {} ms | {:.1} | {} | {:.1} | {:.1} | {:.2} | {:.0} | {:.0} | {} | {} |",
            load.plan.concurrency,
            load.plan.latency_ms,
            load.tasks_per_s,
            load.bound()
                .map_or("-".into(), |bound| format!("{bound:.0}")),
            load.p50_ms,
            load.p99_ms,
            load.cpu_ms_per_task,
            load.rss_mib,
            load.written_kib_per_task,
            load.done,
            load.errors.len(),
        );
    }
    println!();
    for load in loads.iter().filter(|load| load.other_load > QUIET) {
        println!(
            "**Not a quiet machine**: {:.0} % of it did other work at concurrency {}.\n",
            load.other_load * 100.0,
            load.plan.concurrency,
        );
    }
}

pub fn held(held: &Held) {
    println!("### Tasks held at a model call\n");
    println!("| held | reached after s | idle MiB | held MiB | KiB per task | finished | errors |");
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    println!(
        "| {} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {} |\n",
        held.tasks,
        held.ramp_s,
        held.idle_mib,
        held.held_mib,
        held.kib_per_task(),
        held.done,
        held.errors.len(),
    );
}

fn row(what: &str, value: &str) {
    println!("| {what} | {value} |");
}

fn ms(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

fn memory() -> String {
    let total = info("/proc/meminfo", "MemTotal");
    let kib: f64 = total.trim_end_matches(" kB").parse().unwrap_or(0.0);
    format!("{:.1} GiB", kib / 1024.0 / 1024.0)
}

/// The value of the first `key: value` line of a file.
fn info(path: &str, key: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key));
    let value = line.and_then(|line| line.split_once(':'));
    value.map_or("unknown".into(), |(_, value)| value.trim().to_owned())
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok()
        .filter(|text| !text.is_empty())
        .unwrap_or("unknown".into())
}
