//! `majordomo feedback`: what somebody at the machine thinks of an answer.

use clap::{Args, ValueEnum};

use super::access::Access;
use super::context::Context;
use super::exit::Exit;
use super::pick::pick;

/// Says what you think of a task's answer; the last word counts.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  majordomo feedback 9f3a02c1 good
  majordomo feedback 9f3a02c1 bad the numbers are those of March")]
pub struct Feedback {
    /// The task, by its id or at least 4 characters of its beginning or end.
    task: String,
    /// What you think.
    sign: Sign,
    /// Why.
    text: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sign {
    Good,
    Bad,
}

impl Feedback {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let access = Access::to_look(context).await?;
        let rated = async {
            let task = pick(&access, &self.task).await?;
            let good = matches!(self.sign, Sign::Good);
            access.rate(task, (good, &self.text.join(" "))).await
        };
        let rated = rated.await;
        access.close().await;
        rated?;
        eprintln!("noted; `majordomo usage --by agent` sums it up");
        Ok(Exit::Done)
    }
}
