//! `majordomo init`: a starter configuration to edit.

use std::path::PathBuf;

use clap::Args;

use shared::config::starter;

use super::context::Context;
use super::exit::Exit;
use super::words;

/// Writes a starter configuration into a folder. Overwrites nothing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  majordomo init              into the data folder, where it is found by itself
  majordomo init ./config     for use with --config ./config")]
pub struct Init {
    /// The folder; `config` in the data folder where absent.
    folder: Option<PathBuf>,
}

/// Runs the command.
pub fn run(context: &Context, init: Init) -> anyhow::Result<Exit> {
    let own = context.data.join("config");
    let folder = init.folder.unwrap_or_else(|| own.clone());
    for path in starter::write(&folder)? {
        words::say(format_args!("{}", path.display()));
    }
    let found = std::path::absolute(&folder).is_ok_and(|folder| folder == own);
    match found {
        true => eprintln!("edit them, then: majordomo check"),
        false => eprintln!(
            "edit them, then: majordomo check --config {}",
            folder.display()
        ),
    }
    Ok(Exit::Done)
}
