//! `majordomo schema`: the JSON Schemas of the configuration's files, for editors.

use clap::{Args, ValueEnum};

use shared::config::schema;

use super::exit::Exit;
use super::words;

/// Prints the JSON Schema of a configuration file.
#[derive(Debug, Args)]
pub struct Schema {
    /// Which file: majordomo.toml, or an agent's.
    #[arg(value_enum, default_value = "settings")]
    of: Of,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Of {
    /// majordomo.toml
    Settings,
    /// agents/NAME.toml
    Agent,
}

/// Runs the command.
pub fn run(wanted: Schema) -> anyhow::Result<Exit> {
    let schema = match wanted.of {
        Of::Settings => schema::settings(),
        Of::Agent => schema::agent(),
    };
    words::say(format_args!("{schema:#}"));
    Ok(Exit::Done)
}
