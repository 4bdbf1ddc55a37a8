//! A process dies with many runs in flight and starts again: they all go on, and the far side sees no
//! more calls at once than the configuration allows. The control has a limit that is none.

use std::time::Duration;

use super::fleet::{Fleet, Work};
use super::{Finding, Plan};
use crate::place::Kind;
use crate::wait;

/// How long the first process may take to have all in hand.
const PATIENCE: Duration = Duration::from_secs(120);
/// Calls of one agent at once.
const LIMIT: u32 = 8;
const LIMITED: &str = "[limits]\nconcurrency = 8\n";
const UNLIMITED: &str = "[limits]\nconcurrency = 4096\n";
/// Longer than anything here takes.
const NEVER_MS: u32 = 600_000;

pub(super) async fn run(plan: &Plan) -> Vec<Finding> {
    let tasks = plan.times(200, 2000);
    let mut findings = Vec::new();
    for kind in [Kind::Folder, Kind::Database] {
        let (line, right) = restart(plan, kind, tasks, LIMITED).await;
        let (control, _) = restart(plan, kind, 200, UNLIMITED).await;
        findings.push(Finding {
            line: format!(
                "{kind:?}: {tasks} runs go on after a kill: at most {} model calls at once, limit {LIMIT}; {}; \
                 control without a limit: {} at once",
                line.0, line.1, control.0
            ),
            holds: right && line.0 <= LIMIT && line.0 > 1 && control.0 > LIMIT,
        });
    }
    findings
}

async fn restart(
    plan: &Plan,
    kind: Kind,
    tasks: u32,
    agent: &'static str,
) -> ((u32, String), bool) {
    let work = Work {
        settings: "[engine]\nlive_runs = 4096\nlease_s = 1.5\nbeat_s = 0.3\n",
        agent,
        mutant: "",
        model_ms: NEVER_MS,
        tool_ms: 0,
    };
    let mut fleet = Fleet::new(plan, kind.place().await, work);
    let mut first = fleet.start().await;
    for n in 0..tasks {
        first.tell(&format!("submit task-{n}")).await;
    }
    let all = async || fleet.taken() >= tasks as usize;
    wait::until("all are taken in", PATIENCE, all).await;
    // All that can be asked is being asked.
    let wanted = if agent == LIMITED { LIMIT } else { LIMIT + 1 };
    let asked = async || (first.peak().await.0 >= wanted).then_some(());
    let asked = wait::within(PATIENCE, asked).await;
    asked.expect("all that may be is asked at once");
    first.kill().await;
    fleet.change(|work| work.model_ms = 5);
    let mut second = fleet.start().await;
    let settled = second
        .settles(tasks as usize, Duration::from_secs(300))
        .await;
    let (peak, _) = second.peak().await;
    let stopped = second.stop().await;
    let audit = fleet.audit().await;
    let right = settled && stopped && audit.is_right() && audit.done == tasks;
    ((peak, audit.to_string()), right)
}
