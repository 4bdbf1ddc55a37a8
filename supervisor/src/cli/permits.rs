//! `majordomo permits`, and what `approve` says of them: approvers' standing words on calls of one kind,
//! through a live instance or in the store.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use clap::{Args, Subcommand};

use shared::clock;
use shared::id::{AskId, PermitId, PrincipalId};
use shared::permit::PermitState;
use shared::run::Timestamp;

use super::access::{Access, myself};
use super::context::Context;
use super::exit::{Exit, Fault};
use super::words;
use crate::auth::LOCAL;
use crate::people::directory::Directory;
use crate::permits::{Clerk, NotGiven};
use crate::wire::{PermitOrder, PermitView};

/// Permits that are looked through for one, the newest.
const MANY: u32 = 1_000;
/// Fewer characters of an id are a slip.
const FEWEST: usize = 4;
/// How much of what a permit is for a list shows.
const FOR: usize = 60;

/// Lists permits: approvers' standing words on calls of one kind; gives them and takes them back.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  majordomo permits
  majordomo permits add executor send_email --matching 'to=*@example.org' --times 20
  majordomo permits revoke 1a2b3c4d
  majordomo approve 1a2b3c4d --for 8h      one made from what is asked")]
pub struct Permits {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them, newest first.
    List(List),
    /// Show one with what it was used for.
    Show {
        /// Its id, or at least 4 characters of its beginning or end.
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let an agent's calls of a tool pass without asking for each.
    Add {
        /// Whose calls.
        agent: String,
        /// Of which tool.
        tool: String,
        #[command(flatten)]
        extent: Extent,
    },
    /// Take one back: nothing is decided by it from then on.
    Revoke {
        /// Its id, or at least 4 characters of its beginning or end.
        id: String,
    },
}

/// Which are listed, and how.
#[derive(Debug, Args)]
struct List {
    /// Also those that are used up, over or taken back.
    #[arg(long)]
    all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How far a permit goes.
#[derive(Debug, Default, Args)]
pub struct Extent {
    /// So many calls.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(crate::permits::MOST_TIMES)))]
    times: Option<u32>,
    /// For so long: 30m, 8h, 7d.
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    for_s: Option<u32>,
    /// Calls with an argument that looks so, as rules in majordomo.toml say it; for each argument once.
    #[arg(long, value_name = "NAME=PATTERN", value_parser = pair)]
    matching: Vec<(String, String)>,
    /// Calls with any arguments.
    #[arg(long, conflicts_with = "matching")]
    any: bool,
    /// Also where the run has read something untrusted.
    #[arg(long)]
    tainted: bool,
}

impl Extent {
    /// Whether anything was said of it.
    pub fn is_said(&self) -> bool {
        self.times.is_some()
            || self.for_s.is_some()
            || !self.matching.is_empty()
            || self.any
            || self.tainted
    }

    fn order(self) -> anyhow::Result<PermitOrder> {
        let named = self.any || !self.matching.is_empty();
        let mut args = BTreeMap::new();
        for (name, pattern) in self.matching {
            if args.insert(name.clone(), pattern).is_some() {
                return Err(Fault::usage(format!("--matching {name}=… is there twice")).into());
            }
        }
        Ok(PermitOrder {
            args: named.then_some(args),
            times: self.times,
            for_s: self.for_s,
            tainted: self.tainted,
            ..PermitOrder::default()
        })
    }
}

/// A time as people write it, in seconds.
fn seconds(text: &str) -> Result<u32, String> {
    let unit = |unit| match unit {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3_600),
        'd' => Some(86_400),
        _ => None,
    };
    let read = || {
        let (at, last) = text.char_indices().next_back()?;
        let number: u32 = text[..at].parse().ok()?;
        number.checked_mul(unit(last)?).filter(|time| *time > 0)
    };
    read().ok_or_else(|| "write it as 90s, 30m, 8h or 7d".into())
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, pattern)) if !name.is_empty() && !pattern.is_empty() => {
            Ok((name.to_owned(), pattern.to_owned()))
        }
        _ => Err("write it as NAME=PATTERN".into()),
    }
}

impl Permits {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let access = Access::to_look(context).await?;
        let done = match self.command.unwrap_or(Command::List(self.list)) {
            Command::List(list) => show_all(&access, &list).await,
            Command::Show { id, json } => show(&access, &id, json).await,
            Command::Add {
                agent,
                tool,
                extent,
            } => add(context, &access, (agent, tool), extent).await,
            Command::Revoke { id } => revoke(&access, &id).await,
        };
        access.close().await;
        done
    }
}

async fn show_all(access: &Access, list: &List) -> anyhow::Result<Exit> {
    let permits = all(access, !list.all).await?;
    words::list(&permits, list.json, "no permits", table)?;
    Ok(Exit::Done)
}

async fn all(access: &Access, good: bool) -> anyhow::Result<Vec<PermitView>> {
    Ok(match access.desk() {
        Err(client) => client.permits(good, MANY).await?,
        Ok(desk) => desk.permits(good, MANY).await?,
    })
}

async fn show(access: &Access, typed: &str, json: bool) -> anyhow::Result<Exit> {
    let id = pick(access, typed).await?;
    let found = match access.desk() {
        Err(client) => client.permit(id).await?,
        Ok(desk) => desk.permit(id).await?,
    };
    let found = found.ok_or_else(|| missing(typed))?;
    match json {
        true => words::say(serde_json::to_string_pretty(&found)?),
        false => words::say(full(&found).trim_end()),
    }
    Ok(Exit::Done)
}

async fn add(
    context: &Context,
    access: &Access,
    (agent, tool): (String, String),
    extent: Extent,
) -> anyhow::Result<Exit> {
    let order = PermitOrder {
        agent: Some(agent),
        tool: Some(tool),
        ..extent.order()?
    };
    if order.args.is_none() {
        let what = "say for which arguments it is: --matching NAME=PATTERN, or --any";
        return Err(Fault::usage(what).into());
    }
    let permit = give(context, access, &order).await?;
    words::say(full(&permit).trim_end());
    Ok(Exit::Done)
}

/// Gives a permit made from an approval, which is its first use.
pub async fn give_from(
    context: &Context,
    access: &Access,
    (ask, extent): (AskId, Extent),
) -> anyhow::Result<PermitView> {
    let order = PermitOrder {
        ask: Some(ask),
        ..extent.order()?
    };
    give(context, access, &order).await
}

async fn give(
    context: &Context,
    access: &Access,
    order: &PermitOrder,
) -> anyhow::Result<PermitView> {
    let desk = match access.desk() {
        Err(client) => return client.give_permit(order).await,
        Ok(desk) => desk,
    };
    let equipped = context.equip()?;
    let people = Directory::new(&equipped.config.settings, desk.store.clone());
    let clerk = Clerk {
        store: desk.store.clone(),
        tenant: desk.tenant.clone(),
        people: Arc::new(people),
        catalog: Arc::new(equipped.catalog),
    };
    let given = clerk.give(order.clone().into(), &myself()).await;
    let permit = given.map_err(|error| match error {
        NotGiven::Store(error) => anyhow::Error::from(error),
        NotGiven::Unfit(_, why) => Fault::usage(why).into(),
        error => Fault::failed(error.to_string()).into(),
    })?;
    let found = desk.permit(permit.id).await?;
    Ok(found.ok_or_else(|| missing(&permit.id.to_string()))?)
}

async fn revoke(access: &Access, typed: &str) -> anyhow::Result<Exit> {
    let id = pick(access, typed).await?;
    match access.desk() {
        Err(client) => drop(client.revoke_permit(id).await?),
        Ok(desk) => drop(desk.revoke_permit(id, &PrincipalId::from(LOCAL)).await?),
    }
    eprintln!("nothing is decided by permit {} any more", id.short());
    Ok(Exit::Done)
}

/// The permit that is meant.
async fn pick(access: &Access, typed: &str) -> anyhow::Result<PermitId> {
    if let Ok(id) = typed.parse() {
        return Ok(id);
    }
    let part = typed.replace('-', "").to_ascii_lowercase();
    if part.len() < FEWEST || !part.chars().all(|digit| digit.is_ascii_hexdigit()) {
        let what = format!("{typed:?} is no id: it takes at least {FEWEST} of its characters");
        return Err(Fault::usage(what).help(LISTS).into());
    }
    let is_meant = |permit: &PermitView| {
        let id = permit.id.0.simple().to_string();
        id.starts_with(&part) || id.ends_with(&part)
    };
    let mut found = all(access, false).await?;
    found.retain(is_meant);
    match found.as_slice() {
        [only] => Ok(only.id),
        [] => Err(missing(typed).into()),
        several => {
            let what = format!("{} permits are meant by {typed}", several.len());
            let ids = several.iter().take(5).map(|permit| permit.id.to_string());
            let help = format!("one of {}", ids.collect::<Vec<_>>().join(", "));
            Err(Fault::usage(what).help(help).into())
        }
    }
}

const LISTS: &str = "`majordomo permits --all` shows the ids";

fn missing(typed: &str) -> Fault {
    Fault::failed(format!("there is no permit {typed}")).help(LISTS)
}

/// Which calls a permit is for, in a line.
fn covered(permit: &PermitView) -> String {
    let text = match (&permit.exactly, &permit.args) {
        (Some(args), _) => format!("exactly {args}"),
        (None, Some(args)) if !args.is_empty() => {
            let pairs = args
                .iter()
                .map(|(name, pattern)| format!("{name}={pattern}"));
            pairs.collect::<Vec<_>>().join(" ")
        }
        _ => "any arguments".into(),
    };
    match permit.tainted {
        true => format!("{text}, tainted runs too"),
        false => text,
    }
}

fn times(permit: &PermitView) -> String {
    match permit.times {
        Some(times) => format!("{} of {times}", permit.used),
        None => permit.used.to_string(),
    }
}

fn table(permits: &[PermitView], now_ms: i64) -> String {
    let row = |permit: &PermitView| {
        let left = permit
            .until_ms
            .filter(|_| permit.state == PermitState::Good);
        vec![
            permit.id.short(),
            permit.state.as_str().to_owned(),
            times(permit),
            left.map_or(String::new(), |until| words::age(until - now_ms)),
            words::line(&permit.given_by),
            permit.agent.clone(),
            permit.tool.clone(),
            words::cut(&words::line(&covered(permit)), FOR),
        ]
    };
    let rows: Vec<Vec<String>> = permits.iter().map(row).collect();
    let head = [
        "id", "state", "used", "left", "by", "agent", "tool", "covers",
    ];
    words::table(&head, &rows, &[2, 3])
}

/// A permit in full.
fn full(permit: &PermitView) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<9} {}", words::plain(&value));
    };
    let at = |ms: i64| clock::utc(Timestamp(ms));
    field("permit", permit.id.to_string());
    field("state", permit.state.as_str().into());
    field("lets", format!("{} call {}", permit.agent, permit.tool));
    field("covers", covered(permit));
    field("used", times(permit));
    if let Some(until) = permit.until_ms {
        field("until", at(until));
    }
    let given = format!("{}, {}", permit.given_by, at(permit.given_at_ms));
    field("given by", given);
    if let (Some(by), Some(when)) = (&permit.revoked_by, permit.revoked_at_ms) {
        field("revoked", format!("by {by}, {}", at(when)));
    }
    for one in &permit.uses {
        let (ask, task) = (words::short_ask(one.ask), words::short(one.task));
        field(
            "use",
            format!("{}  approval {ask}  task {task}", at(one.at_ms)),
        );
    }
    text
}

/// What is said once an approval became a permit's first use.
pub fn given(permit: &PermitView) -> String {
    let until = permit
        .until_ms
        .map(|until| clock::utc(Timestamp(until)))
        .map_or(String::new(), |until| format!(", until {until}"));
    format!(
        "permit {} lets {} call {} ({}){until}; used: {}",
        permit.id.short(),
        permit.agent,
        permit.tool,
        words::cut(&words::line(&covered(permit)), FOR),
        times(permit)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::id::TaskId;
    use uuid::Uuid;

    use super::*;
    use crate::wire::PermitUseView;

    #[test]
    fn times_are_read_as_people_write_them() {
        let table = [
            ("90s", Some(90)),
            ("30m", Some(1_800)),
            ("8h", Some(28_800)),
            ("7d", Some(604_800)),
            ("8", None),
            ("h", None),
            ("0h", None),
            ("-1h", None),
            ("8 h", None),
            ("99999999d", None),
            ("", None),
        ];
        for (text, wanted) in table {
            assert_eq!(seconds(text).ok(), wanted, "{text}");
        }
    }

    #[test]
    fn permits_read_well() {
        let permit = PermitView {
            id: PermitId(Uuid::from_u128(0x01980000_0000_7000_8000_00001a2b3c4d)),
            state: PermitState::Good,
            agent: "executor".into(),
            tool: "send_email".into(),
            args: Some([("to".to_owned(), "*@example.org".to_owned())].into()),
            exactly: None,
            tainted: false,
            times: Some(20),
            used: 3,
            until_ms: Some(3_600_000 * 8),
            given_by: "ann".into(),
            given_at_ms: 0,
            ask: None,
            revoked_by: None,
            revoked_at_ms: None,
            uses: vec![PermitUseView {
                ask: AskId(Uuid::from_u128(0x5a2b3c4d_0000_5000_8000_000000000001)),
                task: TaskId(Uuid::from_u128(0x01980000_0000_7000_8000_00000000abcd)),
                at_ms: 1_000,
            }],
        };
        let revoked = PermitView {
            state: PermitState::Revoked,
            args: None,
            exactly: Some(json!({"to": "a@b.test\u{202e}"})),
            tainted: true,
            times: None,
            revoked_by: Some("bert".into()),
            revoked_at_ms: Some(2_000),
            uses: Vec::new(),
            ..permit.clone()
        };
        let told = [
            table(&[permit.clone(), revoked.clone()], 3_600_000),
            full(&permit),
            full(&revoked),
            given(&permit),
        ];
        insta::assert_snapshot!(told.join("\n"));
    }
}
