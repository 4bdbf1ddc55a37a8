//! `majordomo people`: who is known in chats, and unlinking them.

use clap::{Args, Subcommand};

use super::access::Access;
use super::context::Context;
use super::exit::{Exit, Fault};
use super::words;
use crate::people::directory::{Directory, NotRemoved};
use crate::people::whose;
use crate::wire::{PersonView, RemovedView};

/// Lists who is known in chats, and how; unlinks people.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct People {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Unlink a person, or one identity: a stranger from their next message on.
    #[command(after_help = "Examples:
  majordomo people remove ada              all that was linked to ada
  majordomo people remove telegram:7       that number in Telegram
  majordomo people remove slack:T1/U1")]
    Remove {
        /// A name, or CHANNEL:ID.
        #[arg(value_name = "NAME|CHANNEL:ID")]
        who: String,
    },
}

/// Runs the command.
pub async fn run(context: &Context, people: People) -> anyhow::Result<Exit> {
    let access = Access::to_look(context).await?;
    let done = match &people.command {
        None => list(context, &access, people.json).await,
        Some(Command::Remove { who }) => remove(context, &access, who).await,
    };
    access.close().await;
    done
}

async fn list(context: &Context, access: &Access, json: bool) -> anyhow::Result<Exit> {
    let people: Vec<PersonView> = match access.desk() {
        Err(client) => client.people().await?,
        Ok(desk) => {
            let settings = context.equip()?.config.settings;
            let directory = Directory::new(&settings, desk.store);
            let everybody = directory.everybody().await?.into_iter();
            everybody.map(Into::into).collect()
        }
    };
    let nobody = "nobody is known yet; `majordomo pair NAME` makes a code";
    words::list(&people, json, nobody, table)?;
    Ok(Exit::Done)
}

fn table(people: &[PersonView], now_ms: i64) -> String {
    let row = |person: &PersonView| {
        let since = person.linked_at_ms;
        vec![
            person.name.clone().unwrap_or_else(|| "(members)".into()),
            person.channel.clone(),
            person.id.clone(),
            person.roles.join(","),
            person.source.clone(),
            since.map_or(String::new(), |at| words::age(now_ms - at)),
            words::line(person.label.as_deref().unwrap_or_default()),
        ]
    };
    let rows: Vec<Vec<String>> = people.iter().map(row).collect();
    let head = ["name", "channel", "id", "roles", "source", "age", "label"];
    words::table(&head, &rows, &[5])
}

async fn remove(context: &Context, access: &Access, who: &str) -> anyhow::Result<Exit> {
    if whose(who).is_none() {
        return Err(Fault::usage(NotRemoved::Who(who.into()).to_string()).into());
    }
    let removed: RemovedView = match access.desk() {
        Err(client) => client.remove_person(who).await?,
        Ok(desk) => {
            let settings = context.equip()?.config.settings;
            let directory = Directory::new(&settings, desk.store);
            let removed = directory.remove(who).await;
            let removed = removed.map_err(|error| match error {
                NotRemoved::Store(error) => anyhow::Error::from(error),
                nobody => Fault::usage(nobody.to_string()).into(),
            });
            removed?.into()
        }
    };
    for identity in &removed.removed {
        eprintln!("{identity} is unlinked");
    }
    match (removed.removed.is_empty(), removed.still_known) {
        (true, Some(why)) => Err(Fault::failed(why).into()),
        (true, None) => {
            let fault = Fault::failed(format!("nobody is linked as {who}"));
            let help = "`majordomo people` lists who is; members of a group under [[grants]] are let in \
                        by it, and removed there";
            Err(fault.help(help).into())
        }
        (false, why) => {
            if let Some(why) = why {
                eprintln!("still known: {why}");
            }
            Ok(Exit::Done)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_well() {
        let ada = PersonView {
            name: Some("ada".into()),
            channel: "telegram".into(),
            id: "7".into(),
            roles: vec!["admin".into()],
            source: "config".into(),
            label: None,
            made_by: None,
            linked_at_ms: None,
        };
        let linked = PersonView {
            channel: "slack".into(),
            id: "T1/U1".into(),
            roles: vec!["member".into(), "approver".into()],
            source: "paired".into(),
            label: Some("Ada's phone".into()),
            linked_at_ms: Some(0),
            ..ada.clone()
        };
        let members = PersonView {
            name: None,
            channel: "slack".into(),
            id: "channel T1/C1".into(),
            roles: vec!["member".into()],
            source: "granted".into(),
            ..ada.clone()
        };
        insta::assert_snapshot!(table(&[ada, linked, members], 7_200_000));
    }
}
