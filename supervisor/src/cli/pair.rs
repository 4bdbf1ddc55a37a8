//! `majordomo pair`: a code by which somebody becomes known in a chat.

use std::time::Duration;

use clap::Args;

use shared::config::Role;

use super::access::Access;
use super::context::Context;
use super::exit::{Exit, Fault};
use super::words;
use crate::auth::LOCAL;
use crate::people::directory::{Directory, NoCode, Offer};
use crate::wire::{PairingCode, PairingOrder};

/// The roles that a code can give.
const ROLES: [&str; 3] = ["member", "approver", "admin"];

/// Makes a code by which somebody becomes known in a chat, and prints it, once.
///
/// Whoever writes it to the bot, in private, is NAME there from then on, by an id that never changes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  majordomo pair ada
  majordomo pair ada --roles member,approver --label \"Ada's phone\"
  majordomo people                         who is known, and how")]
pub struct Pair {
    /// Who they will be: lower-case letters, digits, `-` and `_`.
    name: String,
    /// What they may do.
    #[arg(long, value_name = "ROLE,…", value_delimiter = ',', value_parser = ROLES, default_value = "member")]
    roles: Vec<String>,
    /// What the code is called: shown when it is used, and in `majordomo people`.
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// Minutes that it is good.
    #[arg(long, value_name = "MINUTES", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1440))]
    ttl_min: u32,
}

/// Runs the command.
pub async fn run(context: &Context, pair: Pair) -> anyhow::Result<Exit> {
    let access = Access::to_look(context).await?;
    let made = make(context, &access, &pair).await;
    access.close().await;
    let made = made?;
    let (name, code) = (&pair.name, &made.code);
    eprintln!(
        "Whoever writes this to the bot in private within {} is {name} to it. It works once and is \
         shown only this once.\n  Telegram:  /pair {code}\n  Slack:     pair {code}   (or /majordomo pair {code})",
        words::count(u64::from(pair.ttl_min), "minute"),
    );
    words::say(code);
    Ok(Exit::Done)
}

async fn make(context: &Context, access: &Access, pair: &Pair) -> anyhow::Result<PairingCode> {
    let desk = match access.desk() {
        Ok(desk) => desk,
        Err(client) => {
            let order = PairingOrder {
                name: pair.name.clone(),
                roles: Some(pair.roles.clone()),
                label: pair.label.clone(),
                ttl_min: Some(pair.ttl_min),
            };
            return client.pair(&order).await;
        }
    };
    let settings = context.equip()?.config.settings;
    let roles = pair.roles.iter().filter_map(|name| Role::parse(name));
    let offer = Offer {
        name: pair.name.clone(),
        roles: roles.collect(),
        label: pair.label.clone().unwrap_or_default(),
        lasts: Duration::from_secs(u64::from(pair.ttl_min) * 60),
        made_by: LOCAL.into(),
    };
    let offered = Directory::new(&settings, desk.store).offer(offer).await;
    let (code, until) = offered.map_err(|error| match error {
        NoCode::Store(error) => error.into(),
        NoCode::Random(error) => error.into(),
        refused => anyhow::Error::from(Fault::usage(refused.to_string())),
    })?;
    Ok(PairingCode {
        code: code.expose(),
        expires_at_ms: until.0,
    })
}
