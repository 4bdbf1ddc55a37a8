//! `majordomo stop` and `majordomo resume`: the operator's brake, through a live instance or in the store.

use clap::Args;

use shared::id::PrincipalId;
use shared::store::Halted;

use super::access::Access;
use super::context::Context;
use super::exit::{Exit, Fault};
use super::pick::pick;
use super::words;
use crate::auth::LOCAL;
use crate::engine::brake;
use crate::halt::Target;
use crate::wire::{HaltView, ResumeOrder, StopOrder};

/// Stops everything, an agent or a task, at once.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  majordomo stop --all --reason \"it posts nonsense\"
  majordomo stop --agent writer
  majordomo stop --task 9f3a02c1
  echo it posts nonsense > DATA/STOP       where nothing answers: stops the process of that folder")]
pub struct Stop {
    #[command(flatten)]
    which: Which,
    /// Why; whoever is refused reads it.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Lets go on what `stop` stopped, where it stood.
#[derive(Debug, Args)]
pub struct Resume {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Everything: no task is taken in, none goes on.
    #[arg(long)]
    all: bool,
    /// One agent: its parts wait, all else goes on.
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// One task, by its id or at least 4 characters of its beginning or end.
    #[arg(long, value_name = "ID")]
    task: Option<String>,
}

impl Which {
    async fn target(&self, access: &Access) -> anyhow::Result<Target> {
        let task = match &self.task {
            Some(typed) => Some(pick(access, typed).await?),
            None => None,
        };
        let target = Target::one(self.all, self.agent.as_deref(), task);
        Ok(target.ok_or_else(|| Fault::usage("name one of --all, --agent and --task"))?)
    }
}

/// Runs `majordomo stop`.
pub async fn stop(context: &Context, stop: Stop) -> anyhow::Result<Exit> {
    let access = Access::to_look(context).await;
    let access = access.map_err(|error| by_file(context, &stop.which, error))?;
    let done = stop_by(context, &access, &stop).await;
    access.close().await;
    done.map_err(|error| by_file(context, &stop.which, error))
}

/// What is left where nobody could be told.
fn by_file(context: &Context, which: &Which, error: anyhow::Error) -> anyhow::Error {
    let is_untold = matches!(Exit::of_error(&error), Exit::Unreachable | Exit::Failed);
    match which.all && is_untold {
        false => error,
        true => error.context(format!(
            "nobody could be told; a file {} stops the process of this folder",
            context.data.join(brake::STOP).display()
        )),
    }
}

async fn stop_by(context: &Context, access: &Access, stop: &Stop) -> anyhow::Result<Exit> {
    let target = stop.which.target(access).await?;
    let reason = stop.reason.clone().unwrap_or_default();
    match access.desk() {
        Err(client) => drop(client.stop(&StopOrder::of(&target, reason)).await?),
        Ok(desk) => {
            if let Target::Work(Halted::Agent(name)) = &target
                && let Ok(equipped) = context.equip()
                && !equipped.catalog.agents.contains_key(name)
            {
                return Err(Fault::usage(format!("there is no agent {name}")).into());
            }
            let by = PrincipalId::from(LOCAL);
            desk.stop(&target, reason.trim(), &by).await?;
        }
    }
    let (what, option) = named(&target);
    eprintln!("{what} stands still; `majordomo resume {option}` lets it go on");
    Ok(Exit::Done)
}

fn named(target: &Target) -> (String, String) {
    match target {
        Target::Work(Halted::All) => ("everything".into(), "--all".into()),
        Target::Work(Halted::Agent(name)) => (format!("agent {name}"), format!("--agent {name}")),
        Target::Task(id) => {
            let id = words::short(*id);
            (format!("task {id}"), format!("--task {id}"))
        }
    }
}

/// Runs `majordomo resume`.
pub async fn resume(context: &Context, resume: Resume) -> anyhow::Result<Exit> {
    let access = Access::to_look(context).await?;
    let done = resume_by(context, &access, &resume.which).await;
    access.close().await;
    done
}

async fn resume_by(context: &Context, access: &Access, which: &Which) -> anyhow::Result<Exit> {
    let target = which.target(access).await?;
    let left: Vec<HaltView> = match access.desk() {
        Err(client) => client.go_on(&ResumeOrder::of(&target)).await?,
        Ok(desk) => {
            desk.go_on(&target, &PrincipalId::from(LOCAL)).await?;
            let file = brake::in_folder(&context.data);
            let left = file.into_iter().chain(desk.halts().await?);
            left.map(Into::into).collect()
        }
    };
    let covered = |halt: &&HaltView| halt.what == "all" || which.agent == halt.agent;
    match left.iter().find(covered) {
        None => eprintln!("{} may go on", named(&target).0),
        Some(halt) => eprintln!("still stopped: {}", words::plain(&halt.says)),
    }
    Ok(Exit::Done)
}
