//! `majordomo health`: whether the data folder's instance answers. For container health checks.

use clap::Args;

use super::access;
use super::context::Context;
use super::exit::Exit;
use super::words;
use crate::instance::Instance;

/// Asks the data folder's instance whether it is alive: exit code 0 or 1.
#[derive(Debug, Args)]
pub struct Health {}

/// Runs the command.
pub async fn run(context: &Context, _: Health) -> anyhow::Result<Exit> {
    if let Some(client) = access::live(context).await {
        words::say(format_args!("{} is alive", client.instance.url));
        return Ok(Exit::Done);
    }
    match Instance::read(&context.data) {
        Some(instance) => eprintln!(
            "{} (process {}) does not answer",
            instance.url, instance.pid
        ),
        None => eprintln!("no instance runs on {}", context.data.display()),
    }
    Ok(Exit::Failed)
}
