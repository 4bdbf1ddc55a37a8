//! What people think of answers, over HTTP.

use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;

use super::Door;
use super::input::{self, Id};
use super::problem::{Kind, Problem};
use crate::auth::{Act, Caller};
use crate::feedback::NotTaken;
use crate::wire::{FeedbackOrder, ProblemBody};

/// Takes what the caller thinks of a task's answer, in the place of what they thought before.
#[utoipa::path(post, path = "/v1/tasks/{id}/feedback", tag = "tasks", operation_id = "give_feedback",
    params(("id" = String, Path, format = "uuid")),
    request_body = FeedbackOrder,
    responses(
        (status = 204, description = "It is kept"),
        (status = 409, description = "The task has not ended", body = ProblemBody, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn rate(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    http: Request,
) -> Result<StatusCode, Problem> {
    let task = door.task(id).await?;
    caller.may(Act::See(&task))?;
    let (order, _) = input::json::<FeedbackOrder>(http).await?;
    let said = (order.sign.is_good(), order.text.as_str());
    match door.desk().rate(&task, &caller.principal, said).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(early @ NotTaken::Early) => Err(Problem::new(Kind::Conflict, early.to_string())),
        Err(long @ NotTaken::Long) => Err(Problem::field("text", long.to_string())),
        Err(NotTaken::Store(error)) => Err(error.into()),
    }
}
