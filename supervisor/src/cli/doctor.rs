//! `majordomo doctor`: what is well with an installation and what is not. It works without an instance,
//! beside one, and with a store that is broken.

use std::path::Path;

use clap::Args;

use shared::config::{Problem, Report};
use shared::store::{Error, Standing};

use super::access::{self, LOOK};
use super::context::Context;
use super::exit::Exit;
use super::words;
use crate::asks::herald;
use crate::asks::ladder::Ladder;
use crate::channels::{self, email};
use crate::desk::Desk;
use crate::doctor::{self, Finding, Level, mib};
use crate::engine::brake;
use crate::halt;
use crate::instance::Instance;
use crate::storage;

/// Below this much free space the disk is told of.
const ROOM: u64 = 1 << 30;
/// And below this part of it, in percent.
const ROOM_PERCENT: u64 = 5;

/// Examines the installation: configuration, store, leases, runs, queue, clock, disk, instance.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes:
  0  all is well, or there are warnings
  6  there is a problem")]
pub struct Doctor {
    /// Print JSON: {"findings": [...]}.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(context: &Context, doctor: Doctor) -> anyhow::Result<Exit> {
    let mut findings = vec![configuration(context)];
    findings.extend(examine(context).await);
    findings.push(disk(&context.data));
    match doctor.json {
        true => words::say(format_args!(
            "{:#}",
            serde_json::json!({ "findings": findings })
        )),
        false => findings
            .iter()
            .for_each(|finding| words::say(line(finding))),
    }
    let worst = findings.iter().map(|finding| finding.level).max();
    Ok(match worst {
        Some(Level::Problem) => Exit::Unwell,
        _ => Exit::Done,
    })
}

/// A finding for people.
pub fn line(finding: &Finding) -> String {
    let (level, check) = (finding.level.as_str(), &finding.check);
    let found = words::plain(&finding.found).into_owned();
    let todo = finding.todo.as_ref();
    let todo = todo
        .map(|todo| format!("\n{:22}-> {todo}", ""))
        .unwrap_or_default();
    format!("{level:<8} {check:<12} {found}{todo}")
}

/// What the configuration is like, as the next start would find it.
fn configuration(context: &Context) -> Finding {
    const CHECK: &str = "config";
    const SEE: &str = "majordomo check shows where, and how to mend it";
    // The service may have secrets that whoever asks has not.
    let missing = |error: &anyhow::Error| {
        let todo =
            "see that it is there where `majordomo serve` is started; here it may be missing";
        Finding::warning(CHECK, format!("{error:#}"), todo)
    };
    let config = match context.equip().map(|equipped| equipped.config) {
        Ok(config) => config,
        Err(error) => {
            let report = error.downcast_ref::<Report>();
            let found = report.and_then(|report| first_of(report.problems.iter()));
            return match found {
                Some(found) => Finding::problem(CHECK, found, SEE),
                None => missing(&error),
            };
        }
    };
    if let Err(error) = channels::check(&config.settings) {
        return missing(&error);
    }
    let warnings = config.warnings.iter();
    match first_of(warnings.filter(|problem| problem.is_warning())) {
        Some(found) => Finding::warning(CHECK, found, SEE),
        None => Finding::ok(CHECK, format!("{} is good", config.origin)),
    }
}

/// The first of some problems with its place, and how many there are besides.
fn first_of<'a>(mut problems: impl Iterator<Item = &'a Problem>) -> Option<String> {
    let first = problems.next()?.in_one_line();
    Some(match problems.count() {
        0 => first,
        more => format!("{first} (and {more} more)"),
    })
}

/// What the instance says of itself, or what this process finds in the store.
async fn examine(context: &Context) -> Vec<Finding> {
    if let Some(client) = access::live(context).await {
        let found = format!(
            "{} answers (process {})",
            client.instance.url, client.instance.pid
        );
        let mut findings = vec![Finding::ok("instance", found)];
        match client.doctor().await {
            Ok(theirs) => findings.extend(theirs),
            Err(error) => findings.push(Finding::problem(
                "store",
                format!("the instance cannot examine it: {error:#}"),
                "look at the instance's log",
            )),
        }
        return findings;
    }
    let mut findings = vec![instance(&context.data)];
    findings.extend(store(context).await);
    // What is wrong with the configuration is `check`'s matter.
    if let Some(mailer) = context.equip().ok().and_then(|equipped| equipped.mailer) {
        findings.push(email::examine(&*mailer).await);
    }
    findings
}

/// What is left of an instance that does not answer.
fn instance(data: &Path) -> Finding {
    match Instance::read(data) {
        None => Finding::ok("instance", "none runs on this data folder"),
        Some(gone) => Finding::warning(
            "instance",
            format!("{} (process {}) does not answer", gone.url, gone.pid),
            "if it should run, look at its log and start it again; what it was doing goes on then",
        ),
    }
}

async fn store(context: &Context) -> Vec<Finding> {
    let url = context.database_url();
    if url.is_none() && !context.data.join("majordomo.db").exists() {
        let found = format!("there is none in {} yet", context.data.display());
        return vec![Finding::ok("store", found)];
    }
    let store = match storage::open(&context.data, url.as_ref(), LOOK).await {
        Ok(store) => store,
        Err(error) => return vec![closed(&error)],
    };
    let mut findings = doctor::examine(&*store, url.is_none()).await;
    match store.mail().standing(&context.tenant()).await {
        Ok(standing) => findings.extend(undelivered(standing)),
        Err(error) => findings.push(closed(&error.into())),
    }
    let halts = Desk::alone(store.clone(), context.tenant()).halts().await;
    match halts {
        Ok(stored) => {
            let file = brake::in_folder(&context.data).into_iter();
            findings.push(halt::finding(&file.chain(stored).collect::<Vec<_>>()));
        }
        Err(error) => findings.push(closed(&error.into())),
    }
    // A configuration that cannot be read was found before.
    if let Ok(equipped) = context.equip() {
        let ladder = Ladder::new(&equipped.config.settings.escalation);
        findings.push(
            match herald::red(&*store, &context.tenant(), &ladder).await {
                Ok(red) => herald::finding(red),
                Err(error) => closed(&error.into()),
            },
        );
    }
    store.close().await;
    findings
}

/// What channels could not deliver.
fn undelivered(standing: Vec<Standing>) -> Vec<Finding> {
    let dead = standing.into_iter().filter(|one| one.dead > 0);
    let finding = |one: Standing| {
        let why = one.why.unwrap_or_default();
        Finding::warning(
            &one.channel,
            format!("{} undelivered: {why}", one.dead),
            format!("majordomo channels retry {} tries them again", one.channel),
        )
    };
    dead.map(finding).collect()
}

/// Why the store could not be opened.
fn closed(error: &anyhow::Error) -> Finding {
    let found = format!("{error:#}");
    match error.downcast_ref() {
        Some(Error::Locked { .. }) => Finding::warning(
            "store",
            found,
            "an `ask` holds it until its task ends, or an instance that does not answer: ask again later",
        ),
        Some(Error::Unreachable(_) | Error::Url(_) | Error::Rights { .. }) => Finding::problem(
            "store",
            found,
            "docs/postgres.md says what the database must be like",
        ),
        _ => Finding::problem(
            "store",
            found,
            "see that the disk works and the folder is yours; restore a backup if the file is damaged: \
             docs/operations.md",
        ),
    }
}

/// The room on the disk that holds the data folder, or that will hold it.
fn disk(data: &Path) -> Finding {
    let there = data
        .ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(data);
    let Some((free, all)) = room(there) else {
        return Finding::warning(
            "disk",
            format!("the free space at {} is unknown", there.display()),
            "see for yourself that there is at least 1 GiB",
        );
    };
    let found = format!(
        "{} of {} free at {}",
        mib(free as i64),
        mib(all as i64),
        there.display()
    );
    match free < ROOM || free < all / 100 * ROOM_PERCENT {
        false => Finding::ok("disk", found),
        true => Finding::warning(
            "disk",
            found,
            "make room: when the disk is full nothing is accepted; [retention] prunes old journals",
        ),
    }
}

/// Free and all bytes.
#[cfg(unix)]
fn room(folder: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
}

#[cfg(not(unix))]
fn room(_: &Path) -> Option<(u64, u64)> {
    None
}
