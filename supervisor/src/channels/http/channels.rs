//! Channels: how they are, trying one out, and having it deliver what it could not. For admins.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};

use super::Door;
use super::problem::{Kind, Problem};
use crate::auth::{Act, Caller};
use crate::channels::board::{Board, TestError};
use crate::wire::{ChannelPage, DoctorPage, ProblemBody, Revived};

/// Lists the channels with how they are. Needs the scope `admin`.
#[utoipa::path(get, path = "/v1/channels", tag = "channels", operation_id = "list_channels",
    responses(
        (status = 200, description = "The channels", body = ChannelPage),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<ChannelPage>, Problem> {
    caller.may(Act::KeepChannels)?;
    let channels = match door.inside.board() {
        Some(board) => board.list().await?,
        None => Vec::new(),
    };
    Ok(Json(ChannelPage { channels }))
}

/// Tries a channel out: asks the far side who we are there, and writes to the admins. Needs the scope
/// `admin`.
#[utoipa::path(post, path = "/v1/channels/{name}/test", tag = "channels", operation_id = "test_channel",
    params(("name" = String, Path)),
    responses(
        (status = 200, description = "What was found", body = DoctorPage),
        (status = 404, description = "There is no such channel", body = ProblemBody, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn test(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<DoctorPage>, Problem> {
    caller.may(Act::KeepChannels)?;
    let findings = board(&door)?.test(&name).await.map_err(refused)?;
    Ok(Json(DoctorPage { findings }))
}

/// Has a channel try again what it could not deliver. Needs the scope `admin`.
#[utoipa::path(post, path = "/v1/channels/{name}/retry", tag = "channels", operation_id = "retry_channel",
    params(("name" = String, Path)),
    responses(
        (status = 200, description = "How much is tried again", body = Revived),
        (status = 404, description = "There is no such channel", body = ProblemBody, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn retry(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Revived>, Problem> {
    caller.may(Act::KeepChannels)?;
    let revived = board(&door)?.retry(&name).await.map_err(refused)?;
    Ok(Json(Revived { revived }))
}

fn board(door: &Door) -> Result<&Board, Problem> {
    let none = || Problem::new(Kind::NotFound, "no channel is open");
    door.inside.board().ok_or_else(none)
}

fn refused(error: TestError) -> Problem {
    match error {
        TestError::Closed(closed) => Problem::new(Kind::NotFound, closed.to_string()).at("name"),
        TestError::Store(error) => error.into(),
    }
}
