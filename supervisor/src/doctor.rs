//! What is well with an installation and what is not, as pure code over what the store found about
//! itself. Asked by `majordomo doctor`, in its own process or over HTTP in the instance's.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use shared::run::Timestamp;
use shared::store::{Checkup, Store, kind};

/// A queued run that waits longer than this is told of, where somebody works.
const QUEUE_MS: i64 = 60_000;
/// Clocks that differ by less than this are taken to agree.
const SKEW_MS: i64 = 2_000;
/// How many runs, or tables, are named.
const SOME: usize = 5;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warning,
    /// It does not work.
    Problem,
}

impl Level {
    /// The level's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// What was looked at: `store`, `leases`, `runs`, …
    pub check: String,
    /// How it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do, where there is something to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub todo: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &str, found: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            level: Level::Ok,
            found: found.into(),
            todo: None,
        }
    }

    /// Somebody should look at it.
    pub fn warning(check: &str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            todo: Some(todo.into()),
            ..Self::ok(check, found)
        }
    }

    /// It does not work.
    pub fn problem(check: &str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self {
            level: Level::Problem,
            todo: Some(todo.into()),
            ..Self::ok(check, found)
        }
    }
}

/// Examines a store by a write and by what it says of itself. `exclusive` where this process holds the
/// data folder and does not work, so that nobody does.
pub async fn examine(store: &dyn Store, exclusive: bool) -> Vec<Finding> {
    if let Err(error) = store.probe().await {
        let todo =
            "see that the disk has room and the database runs; nothing that was accepted is lost";
        return vec![Finding::problem(
            "store",
            format!("it takes no writes: {error}"),
            todo,
        )];
    }
    let before = shared::clock::now();
    match store.checkup().await {
        Ok(checkup) => findings(&checkup, exclusive, before),
        Err(error) => vec![Finding::problem(
            "store",
            format!("it cannot be read: {error}"),
            "restore a backup if the file is damaged: docs/operations.md",
        )],
    }
}

/// What a checkup means.
fn findings(checkup: &Checkup, exclusive: bool, machine: Timestamp) -> Vec<Finding> {
    vec![
        Finding::ok("store", format!("{} is read and written", checkup.server)),
        migrations(checkup),
        leases(checkup, exclusive),
        runs(checkup, exclusive),
        queue(checkup, exclusive),
        dead(checkup),
        kinds(checkup),
        clock(checkup, machine),
        size(checkup),
    ]
}

fn migrations(checkup: &Checkup) -> Finding {
    let (have, known) = checkup.migration;
    let found = format!("step {have} of {known}");
    match have == known {
        true => Finding::ok("migrations", found),
        false => Finding::problem(
            "migrations",
            found,
            "start the version that made the database",
        ),
    }
}

fn leases(checkup: &Checkup, exclusive: bool) -> Finding {
    if exclusive {
        return Finding::ok("leases", "no instance runs");
    }
    let found = format!("{} live, {} lapsed", checkup.live, checkup.lapsed);
    match checkup.lapsed {
        0 => Finding::ok("leases", found),
        _ => Finding::warning(
            "leases",
            found,
            "a live instance takes their runs over within seconds: ask again; if none is live, start one",
        ),
    }
}

fn runs(checkup: &Checkup, exclusive: bool) -> Finding {
    let unfinished: i64 = checkup.kinds.values().sum();
    if exclusive || checkup.live == 0 {
        let found = match unfinished {
            0 => "none is unfinished".into(),
            runs => format!("{runs} unfinished; they go on at the next `majordomo serve` or `ask`"),
        };
        return Finding::ok("runs", found);
    }
    if checkup.orphans.is_empty() {
        let found = format!("{unfinished} unfinished, 0 running without a live lease");
        return Finding::ok("runs", found);
    }
    let named: Vec<String> = checkup
        .orphans
        .iter()
        .take(SOME)
        .map(ToString::to_string)
        .collect();
    Finding::problem(
        "runs",
        format!("running without a live lease: {}", named.join(", ")),
        "ask again in some seconds, a live instance takes them over; if they stay, restart it and tell us",
    )
}

fn queue(checkup: &Checkup, exclusive: bool) -> Finding {
    let seconds = checkup.queue_age_ms / 1_000;
    let found = match checkup.queued {
        0 => "empty".to_owned(),
        queued => format!("{queued} queued, the oldest for {seconds} s"),
    };
    let idle = exclusive || checkup.live == 0;
    match checkup.queue_age_ms > QUEUE_MS && !idle {
        false => Finding::ok("queue", found),
        true => Finding::warning(
            "queue",
            found,
            "all places are taken: raise [engine] live_runs, or start another process on Postgres",
        ),
    }
}

fn dead(checkup: &Checkup) -> Finding {
    match checkup.dead {
        0 => Finding::ok("dead runs", "none"),
        dead => Finding::warning(
            "dead runs",
            dead.to_string(),
            "majordomo tasks dead says why, and what to do about each",
        ),
    }
}

fn kinds(checkup: &Checkup) -> Finding {
    let known = [kind::TASK, kind::AGENT];
    let foreign = checkup
        .kinds
        .iter()
        .filter(|(name, _)| !known.contains(&name.as_str()));
    let foreign: Vec<String> = foreign
        .map(|(name, runs)| format!("{runs} of {name}"))
        .collect();
    match foreign.is_empty() {
        true => Finding::ok(
            "programs",
            format!("this version runs {}", known.join(", ")),
        ),
        false => Finding::problem(
            "programs",
            format!(
                "unfinished runs that this version cannot run: {}",
                foreign.join(", ")
            ),
            "start the version that made them, and let them end",
        ),
    }
}

fn clock(checkup: &Checkup, machine: Timestamp) -> Finding {
    let skew = checkup.now.0 - machine.0;
    let found = format!("the database is {skew} ms ahead of this machine");
    match skew.abs() < SKEW_MS {
        true => Finding::ok("clock", found),
        false => Finding::warning(
            "clock",
            found,
            "set both clocks (NTP); leases and deadlines go by the database's alone, logs by this one",
        ),
    }
}

fn size(checkup: &Checkup) -> Finding {
    let tables = checkup.tables.iter().take(SOME);
    let tables: Vec<String> = tables
        .map(|(name, bytes)| format!("{name} {}", mib(*bytes)))
        .collect();
    Finding::ok(
        "size",
        format!("{} in all: {}", mib(checkup.bytes), tables.join(", ")),
    )
}

/// Bytes for people.
pub fn mib(bytes: i64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::id::RunId;

    fn level(findings: &[Finding], check: &str) -> Level {
        let found = findings.iter().find(|finding| finding.check == check);
        found.map_or(Level::Ok, |finding| finding.level)
    }

    #[test]
    fn each_ill_is_told_by_its_own_line_with_what_to_do() {
        let well = Checkup {
            live: 1,
            migration: (2, 2),
            kinds: [(kind::TASK.to_owned(), 3)].into(),
            ..Checkup::default()
        };
        let of = |checkup: &Checkup| findings(checkup, false, Timestamp(0));
        assert!(of(&well).iter().all(|finding| finding.level == Level::Ok));
        type Ill = (&'static str, Level, fn(&mut Checkup));
        let ill: [Ill; 7] = [
            ("migrations", Level::Problem, |c| c.migration = (3, 2)),
            ("leases", Level::Warning, |c| c.lapsed = 1),
            ("runs", Level::Problem, |c| c.orphans = vec![RunId::fresh()]),
            ("queue", Level::Warning, |c| c.queue_age_ms = QUEUE_MS + 1),
            ("dead runs", Level::Warning, |c| c.dead = 1),
            ("programs", Level::Problem, |c| {
                c.kinds.insert("task@9".into(), 1);
            }),
            ("clock", Level::Warning, |c| c.now = Timestamp(-SKEW_MS)),
        ];
        for (check, bad, make) in ill {
            let mut checkup = well.clone();
            make(&mut checkup);
            let found = of(&checkup);
            assert_eq!(level(&found, check), bad, "{check}");
            let others = found.iter().filter(|finding| finding.check != check);
            assert!(
                others.clone().all(|finding| finding.level == Level::Ok),
                "{check}: {found:?}"
            );
            let told = found.iter().filter(|finding| finding.level != Level::Ok);
            assert!(
                told.clone().all(|finding| finding.todo.is_some()),
                "{check}"
            );
        }
    }

    #[test]
    fn where_nobody_works_nothing_is_stuck() {
        let halted = Checkup {
            live: 1,
            migration: (2, 2),
            orphans: vec![RunId::fresh()],
            queue_age_ms: 10 * QUEUE_MS,
            queued: 1,
            ..Checkup::default()
        };
        let found = findings(&halted, true, Timestamp(0));
        assert!(
            found.iter().all(|finding| finding.level == Level::Ok),
            "{found:?}"
        );
    }
}
