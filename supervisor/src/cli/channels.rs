//! `majordomo channels`: how the chats are, trying them out, and having them deliver what they could
//! not.

use std::sync::Arc;

use clap::{Args, Subcommand};

use shared::egress::Gateway;

use super::access::Access;
use super::context::Context;
use super::exit::{Exit, Fault};
use super::{doctor, words};
use crate::asks::ladder::Ladder;
use crate::channels::board::{Board, TestError};
use crate::channels::callback::CHANNEL as CALLBACK;
use crate::channels::configured;
use crate::channels::email;
use crate::desk::Desk;
use crate::doctor::{Finding, Level};
use crate::people::directory::Directory;
use crate::wire::{ChannelState, ChannelView};

/// Lists channels with how they are; tries them out; has them deliver what they could not.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Channels {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask each channel, or one, who we are there, and write to its admins.
    #[command(after_help = "Exit codes:
  0  all is well, or there are warnings
  6  there is a problem")]
    Test {
        /// The channel; all of them where absent.
        name: Option<String>,
        /// Print JSON: {\"findings\": [...]}.
        #[arg(long)]
        json: bool,
    },
    /// Try again what a channel could not deliver.
    Retry {
        /// The channel.
        name: String,
    },
}

const NONE: &str =
    "no channel is configured; docs/telegram.md, docs/slack.md and docs/email.md say how";

/// Runs the command.
pub async fn run(context: &Context, channels: Channels) -> anyhow::Result<Exit> {
    let access = Access::to_look(context).await?;
    let done = match channels.command {
        None => list(context, &access, channels.json).await,
        Some(Command::Test { name, json }) => test(context, &access, name, json).await,
        Some(Command::Retry { name }) => retry(context, &access, &name).await,
    };
    access.close().await;
    done
}

/// The board of an installation that nothing runs here of.
async fn board(context: &Context, desk: Desk) -> anyhow::Result<Board> {
    let equipped = context.equip()?;
    let settings = equipped.config.settings;
    let gateway = Gateway::new(&settings.egress)?;
    let channels = configured(&settings, &gateway, Vec::new())
        .map_err(|error| Fault::usage(format!("{error:#}")))?;
    Ok(Board {
        channels: channels.into(),
        health: None,
        // Who holds the data folder is alone; on Postgres another machine's instance may be at it.
        idle: context.database_url().is_none() || desk.store.census().await?.workers == 0,
        mailer: equipped.mailer,
        people: Arc::new(Directory::new(&settings, desk.store.clone())),
        ladder: Arc::new(Ladder::new(&settings.escalation)),
        desk,
    })
}

async fn list(context: &Context, access: &Access, json: bool) -> anyhow::Result<Exit> {
    let channels = match access.desk() {
        Err(client) => client.channels().await?,
        Ok(desk) => board(context, desk).await?.list().await?,
    };
    words::list(&channels, json, NONE, table)?;
    Ok(Exit::Done)
}

fn table(channels: &[ChannelView], now_ms: i64) -> String {
    let row = |channel: &ChannelView| {
        let oldest = channel.oldest_owed_at_ms;
        let trouble = channel.fault.as_deref().or(channel.why.as_deref());
        vec![
            channel.name.clone(),
            channel.state.as_str().to_owned(),
            channel.owed.to_string(),
            oldest.map_or(String::new(), |at| words::age(now_ms - at)),
            channel.dead.to_string(),
            words::line(trouble.unwrap_or_default()),
        ]
    };
    let rows: Vec<Vec<String>> = channels.iter().map(row).collect();
    let head = [
        "channel",
        "state",
        "owed",
        "oldest",
        "undelivered",
        "trouble",
    ];
    words::table(&head, &rows, &[2, 3, 4])
}

async fn test(
    context: &Context,
    access: &Access,
    name: Option<String>,
    json: bool,
) -> anyhow::Result<Exit> {
    let mut findings = Vec::new();
    match access.desk() {
        Err(client) => {
            let all = client.channels().await?.into_iter();
            let all = all.filter(|channel| channel.state != ChannelState::Closed);
            let all = all
                .map(|channel| channel.name)
                .filter(|name| name != CALLBACK);
            for name in wanted(name, all) {
                findings.extend(client.test_channel(&name).await?);
            }
        }
        Ok(desk) => {
            let board = board(context, desk).await?;
            let all = board
                .channels
                .iter()
                .map(|channel| channel.name().to_owned())
                .chain(board.mailer.iter().map(|_| email::NAME.to_owned()));
            for name in wanted(name, all) {
                findings.extend(board.test(&name).await.map_err(refused)?);
            }
        }
    }
    if findings.is_empty() {
        eprintln!("{NONE}");
    }
    match json {
        true => words::say(format_args!(
            "{:#}",
            serde_json::json!({ "findings": findings })
        )),
        false => findings
            .iter()
            .for_each(|finding| words::say(doctor::line(finding))),
    }
    let is_ill = |finding: &Finding| finding.level == Level::Problem;
    Ok(match findings.iter().any(is_ill) {
        true => Exit::Unwell,
        false => Exit::Done,
    })
}

/// The one that is named, or all.
fn wanted(name: Option<String>, all: impl Iterator<Item = String>) -> Vec<String> {
    match name {
        Some(name) => vec![name],
        None => all.collect(),
    }
}

async fn retry(context: &Context, access: &Access, name: &str) -> anyhow::Result<Exit> {
    let revived = match access.desk() {
        Err(client) => client.retry_channel(name).await?,
        Ok(desk) => board(context, desk)
            .await?
            .retry(name)
            .await
            .map_err(refused)?,
    };
    match revived {
        0 => eprintln!("{name} has nothing that it could not deliver"),
        _ => eprintln!("{} tried again", words::count(revived, "message")),
    }
    Ok(Exit::Done)
}

fn refused(error: TestError) -> anyhow::Error {
    match error {
        TestError::Closed(closed) => Fault::usage(closed.to_string()).into(),
        TestError::Store(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_read_well() {
        let telegram = ChannelView {
            name: "telegram".into(),
            state: ChannelState::Up,
            fault: None,
            owed: 2,
            oldest_owed_at_ms: Some(0),
            dead: 0,
            why: None,
        };
        let slack = ChannelView {
            name: "slack".into(),
            state: ChannelState::Down,
            fault: Some("the token is refused (invalid_auth)".into()),
            owed: 0,
            oldest_owed_at_ms: None,
            dead: 3,
            why: Some("is_archived".into()),
        };
        insta::assert_snapshot!(table(&[telegram, slack], 90_000));
    }
}
