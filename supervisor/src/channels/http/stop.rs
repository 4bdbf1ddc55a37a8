//! The operator's brake: stopping everything, an agent or a task, and letting it go on. For admins.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};

use shared::id::{AgentName, TaskId};
use shared::store::Halted;

use super::Door;
use super::input::{self, check_short};
use super::problem::Problem;
use crate::auth::{Act, Caller};
use crate::halt::Target;
use crate::wire::{ProblemBody, ResumeOrder, StopOrder, StopPage};

/// Stops everything, an agent or a task: nothing of it is begun any more, and what is in hand is cut off
/// (of a task, it is ended). What stands still stays so over restarts. Safe to repeat. Needs the scope
/// `admin`.
#[utoipa::path(post, path = "/v1/stop", tag = "stop", operation_id = "stop",
    request_body = StopOrder,
    responses(
        (status = 200, description = "What stands still now", body = StopPage),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn stop(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    http: Request,
) -> Result<Json<StopPage>, Problem> {
    caller.may(Act::Stop)?;
    let (order, _) = input::json::<StopOrder>(http).await?;
    let target = target(order.all, order.agent.as_deref(), order.task)?;
    let reason = order.reason.as_deref().unwrap_or_default().trim();
    if !reason.is_empty() {
        check_short("reason", reason)?;
    }
    door.knows(&target).await?;
    let desk = door.desk();
    desk.stop(&target, reason, &caller.principal).await?;
    door.standing().await
}

/// Lets go on what was stopped, where it stood. Safe to repeat. What a file stops goes on when the file is
/// gone. Needs the scope `admin`.
#[utoipa::path(post, path = "/v1/resume", tag = "stop", operation_id = "resume",
    request_body = ResumeOrder,
    responses(
        (status = 200, description = "What stands still all the same", body = StopPage),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn resume(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    http: Request,
) -> Result<Json<StopPage>, Problem> {
    caller.may(Act::Stop)?;
    let (order, _) = input::json::<ResumeOrder>(http).await?;
    let target = target(order.all, order.agent.as_deref(), order.task)?;
    if let Target::Task(_) = target {
        door.knows(&target).await?;
    }
    door.desk().go_on(&target, &caller.principal).await?;
    door.standing().await
}

/// What stands still. Tasks that were stopped are paused, and listed as such. Needs the scope `admin`.
#[utoipa::path(get, path = "/v1/stop", tag = "stop", operation_id = "list_stopped",
    responses(
        (status = 200, description = "What stands still", body = StopPage),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<StopPage>, Problem> {
    caller.may(Act::Stop)?;
    door.standing().await
}

fn target(all: bool, agent: Option<&str>, task: Option<TaskId>) -> Result<Target, Problem> {
    let one = || Problem::field("all", "name one of `all`, `agent` and `task`");
    Target::one(all, agent, task).ok_or_else(one)
}

impl Door {
    /// Refuses what there is not: a slip must not be taken for a stop.
    async fn knows(&self, target: &Target) -> Result<(), Problem> {
        match target {
            Target::Work(Halted::All) => Ok(()),
            Target::Work(Halted::Agent(name)) => {
                let agents = self.inside.intake().agents();
                let known: Vec<&str> = agents.iter().map(AgentName::as_str).collect();
                let why = || format!("there is no agent {name}; there are {}", known.join(", "));
                let is_known = agents.contains(name);
                is_known
                    .then_some(())
                    .ok_or_else(|| Problem::field("agent", why()))
            }
            Target::Task(id) => self.task(*id).await.map(drop),
        }
    }

    async fn standing(&self) -> Result<Json<StopPage>, Problem> {
        let halted = self.desk().halts().await?.into_iter();
        let halted = halted.map(Into::into).collect();
        Ok(Json(StopPage { halted }))
    }
}
