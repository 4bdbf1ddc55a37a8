//! Settling a step in doubt: a person says whether its effect happened, and the run that waits for
//! that word goes on.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use shared::ask;

use super::Door;
use super::input::{self, Id, check_short};
use super::problem::{Kind, Problem};
use crate::auth::{Act, Caller};
use crate::desk::Resolved;
use crate::wire::{Decision, ProblemBody, Settlement, TaskRef};

/// Settles a step in doubt. Its run goes on.
#[utoipa::path(post, path = "/v1/tasks/{id}/resolve", tag = "tasks", operation_id = "resolve_step",
    params(("id" = String, Path, format = "uuid")),
    request_body = Settlement,
    responses(
        (status = 200, description = "It is settled", body = TaskRef),
        (status = 404, description = "Nothing waits for this", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It was settled before", body = ProblemBody, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn settle(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    http: Request,
) -> Result<Json<TaskRef>, Problem> {
    let task = door.task(id).await?;
    caller.may(Act::Settle(&task))?;
    let (said, _) = input::json::<Settlement>(http).await?;
    check_short("step", &said.step)?;
    let name = match said.run {
        Some(run) => format!("{run}/{}", said.step),
        None => said.step.clone(),
    };
    let resolution = resolution(said)?;
    let desk = door.desk();
    match desk
        .resolve(id, &name, &resolution, caller.principal)
        .await?
    {
        Resolved::Taken => {}
        Resolved::Answered => {
            let detail = format!("step {name} was settled before");
            return Err(Problem::new(Kind::Conflict, detail).at("step"));
        }
        Resolved::NotWaiting => {
            let detail = format!("no step {name} of this task waits for a person's word");
            return Err(Problem::new(Kind::NotFound, detail).at("step"));
        }
        Resolved::Several(names) => {
            let detail = format!("the step is in doubt in several runs: {}", names.join(", "));
            return Err(Problem::field("run", detail));
        }
    }
    let state = door.task(id).await?.state.as_str().into();
    Ok(Json(TaskRef { id, state }))
}

fn resolution(said: Settlement) -> Result<ask::Decision, Problem> {
    if said.result.is_some() && said.decision != Decision::Happened {
        return Err(Problem::field(
            "result",
            "belongs to the decision `happened` only",
        ));
    }
    Ok(match said.decision {
        Decision::Happened => ask::Decision::Happened {
            result: said.result.unwrap_or_default(),
        },
        Decision::Again => ask::Decision::Again,
        Decision::GiveUp => ask::Decision::GiveUp,
    })
}
