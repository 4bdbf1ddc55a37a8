//! Many tasks wait for a person's word while the process is killed and started, again and again: each
//! can still be answered afterwards, once. The control knows no effect classes: it asks nobody and does
//! everything again.

use std::time::Duration;

use super::fleet::{Fleet, Work};
use super::{Finding, Plan};
use crate::place::Kind;
use crate::wait;

/// Tasks that wait.
const WAITING: u32 = 100;
const LEASE: &str = "[engine]\nlease_s = 1.5\nbeat_s = 0.3\npark_after_s = 0.0\n";
/// How long a tool takes before and after its effect: long enough to be killed in.
const LONG_MS: u32 = 4000;
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) async fn run(plan: &Plan) -> Vec<Finding> {
    let mut findings = Vec::new();
    for kind in [Kind::Folder, Kind::Database] {
        let restarts = plan.times(5, 300);
        let (kept, audit) = lives(plan, kind, restarts, "").await;
        let (asked, control) = lives(plan, kind, 0, "ignore-effects").await;
        findings.push(Finding {
            line: format!(
                "{kind:?}: {kept} of {WAITING} waiting for a person after {restarts} kills, all answered then: {audit}; \
                 control ignore-effects: {asked} waiting, {} repeated",
                control.repeated
            ),
            holds: kept == WAITING
                && audit.is_right()
                && audit.done == WAITING
                && control.repeated > 0,
        });
    }
    findings
}

/// How many wait after all restarts, and what is left when they were answered.
async fn lives(
    plan: &Plan,
    kind: Kind,
    restarts: u32,
    mutant: &'static str,
) -> (u32, super::fleet::Audit) {
    let work = Work {
        settings: LEASE,
        agent: "[limits]\nconcurrency = 200\n",
        mutant,
        model_ms: 0,
        tool_ms: LONG_MS,
    };
    let mut fleet = Fleet::new(plan, kind.place().await, work);
    let mut first = fleet.start().await;
    for n in 0..WAITING {
        first.tell(&format!("submit task-{n}")).await;
    }
    // Each has made both of its effects, and has heard of the first alone.
    let made = async || fleet.world.effects().len() >= 2 * WAITING as usize;
    wait::until("the effects are made", PATIENCE, made).await;
    first.kill().await;
    fleet.change(|work| work.tool_ms = 0);
    let mut next = fleet.start().await;
    next.settles(WAITING as usize, PATIENCE).await;
    for _ in 0..restarts {
        next.kill().await;
        next = fleet.start().await;
    }
    let waiting = next.census().await.unwrap_or_default();
    next.tell("settle").await;
    next.answered(WAITING as usize, PATIENCE).await;
    next.stop().await;
    let kept = waiting.get("awaiting_human").copied().unwrap_or(0);
    (kept as u32, fleet.audit().await)
}
