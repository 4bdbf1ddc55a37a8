//! `majordomo backup`: a copy of the data folder's database as of one moment, beside a running instance
//! or without one.

use std::path::PathBuf;

use clap::Args;

use shared::store::{Error, sqlite};

use super::context::Context;
use super::exit::{Exit, Fault};
use super::words;
use crate::doctor::mib;

/// Copies the journal into one file, as of one moment; a running instance goes on.
#[derive(Debug, Args)]
#[command(
    after_help = "To restore, stop the instance and put the copy into an empty data folder:
  mkdir DIR && cp FILE DIR/majordomo.db && majordomo serve --data DIR

On Postgres use pg_dump; docs/operations.md has the commands."
)]
pub struct Backup {
    /// The file to make. One that exists is left alone.
    file: PathBuf,
}

/// Runs the command.
pub async fn run(context: &Context, backup: Backup) -> anyhow::Result<Exit> {
    if context.database_url().is_some() {
        let fault = Fault::usage("the journal is in Postgres, which makes its own backups");
        let help = "pg_dump --format=custom --schema=majordomo --file=FILE \"$DATABASE_URL\"\n\
                    docs/operations.md says how to restore it";
        return Err(fault.help(help).into());
    }
    let (data, file) = (context.data.clone(), backup.file.clone());
    let copied = tokio::task::spawn_blocking(move || sqlite::backup(&data, &file)).await?;
    let bytes = copied.map_err(|error| fault(context, &backup, &error))?;
    words::say(format_args!(
        "{} ({})",
        backup.file.display(),
        mib(bytes as i64)
    ));
    eprintln!("what agents wrote to files is not in it: copy that folder, too");
    Ok(Exit::Done)
}

fn fault(context: &Context, backup: &Backup, error: &Error) -> Fault {
    use std::io::ErrorKind::{AlreadyExists, NotFound};
    match error {
        Error::Io { error: why, path } if why.kind() == AlreadyExists => {
            Fault::usage(format!("{path} exists, and is left alone")).help("name another file")
        }
        Error::Io { error: why, .. } if why.kind() == NotFound && !has_database(context) => {
            Fault::failed(format!("{} holds no journal", context.data.display()))
                .help("name the data folder with --data DIR")
        }
        other => Fault::failed(format!(
            "nothing was copied to {}: {other}",
            backup.file.display()
        )),
    }
}

fn has_database(context: &Context) -> bool {
    context.data.join("majordomo.db").exists()
}
