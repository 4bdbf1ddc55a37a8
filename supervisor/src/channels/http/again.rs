//! Tasks made from others, over HTTP: retries, forks, and the dead runs that they are made for.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use shared::id::StepKey;
use shared::store::Renewed;
use shared::task::TaskState;

use super::Door;
use super::input::{self, Id, Query, check_short};
use super::problem::{Kind, Problem};
use super::tasks::location;
use crate::auth::{Act, Caller};
use crate::desk::refusal;
use crate::wire::{DeadPage, ForkOrder, ProblemBody, TaskRef};

/// Dead runs on a page where nobody says how many.
const PAGE: u32 = 50;
/// The most dead runs on a page.
const MAX_PAGE: u32 = 200;

/// Makes a task anew that failed or was cancelled: the same request, authority and catalog. The old
/// one stays as it was.
#[utoipa::path(post, path = "/v1/tasks/{id}/retry", tag = "tasks", operation_id = "retry_task",
    params(("id" = String, Path, format = "uuid")),
    responses(
        (status = 202, description = "The new task is taken in", body = TaskRef),
        (status = 409, description = "It did not fail and was not cancelled", body = ProblemBody, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn retry(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<Response, Problem> {
    let task = door.task(id).await?;
    caller.may(Act::Renew(&task))?;
    answer(door.desk().retry(id, caller.principal).await?)
}

/// Makes a task whose journal begins as a copy of an ended one's, up to a step of its root run. What
/// stands before the step is served from the copy and never done again.
#[utoipa::path(post, path = "/v1/tasks/{id}/fork", tag = "tasks", operation_id = "fork_task",
    params(("id" = String, Path, format = "uuid")),
    request_body = ForkOrder,
    responses(
        (status = 202, description = "The new task is taken in", body = TaskRef),
        (status = 409, description = "It goes on, or what would be taken over has no outcome or was pruned", body = ProblemBody, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn fork(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    http: Request,
) -> Result<Response, Problem> {
    let task = door.task(id).await?;
    caller.may(Act::Renew(&task))?;
    let (order, _) = input::json::<ForkOrder>(http).await?;
    check_short("from", &order.from)?;
    let from = StepKey::from(order.from);
    answer(door.desk().fork(id, &from, caller.principal).await?)
}

fn answer(made: Renewed) -> Result<Response, Problem> {
    let id = match made {
        Renewed::New(id) => id,
        Renewed::Missing => return Err(crate::auth::Denied::Hidden.into()),
        refused @ Renewed::NoStep(_) => return Err(Problem::field("from", refusal(&refused))),
        refused => return Err(Problem::new(Kind::Conflict, refusal(&refused))),
    };
    let taken = TaskRef {
        id,
        state: TaskState::Queued.as_str().into(),
    };
    Ok((StatusCode::ACCEPTED, location(id), Json(taken)).into_response())
}

/// Runs that cannot be run any more, of tasks that the caller may see, the last one first.
#[utoipa::path(get, path = "/v1/runs/dead", tag = "tasks", operation_id = "list_dead_runs",
    params(("limit" = Option<u32>, Query, description = "Runs on a page, 1 to 200", minimum = 1, maximum = 200)),
    responses(
        (status = 200, description = "The runs", body = DeadPage),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn dead(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    mut query: Query,
) -> Result<Json<DeadPage>, Problem> {
    caller.may(Act::List)?;
    let limit = query.read("limit", "a number")?.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        let why = format!("must be from 1 to {MAX_PAGE}");
        return Err(Problem::field("limit", why));
    }
    query.finish("limit")?;
    let only = caller.sees_only();
    let dead = door.desk().dead(only.as_ref(), limit).await?;
    let runs = dead.into_iter().map(Into::into).collect();
    Ok(Json(DeadPage { runs }))
}
