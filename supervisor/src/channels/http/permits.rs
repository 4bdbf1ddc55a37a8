//! Permits over HTTP: approvers' standing words on calls of one kind. For approvers.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};

use super::Door;
use super::input::{self, PermitKey, Query, check_short};
use super::problem::{Kind, Problem};
use crate::asks::Who;
use crate::auth::{Act, Caller};
use crate::permits::NotGiven;
use crate::wire::{PermitOrder, PermitPage, PermitView, ProblemBody};

/// Permits in a list where nobody says how many.
const PAGE: u32 = 50;
/// The most permits in a list.
const MAX_PAGE: u32 = 1_000;

/// Gives a permit: from now on calls of this kind need no further word, as long as it is good and the caller
/// could approve each of them. What waits already is decided by it, too. Needs the scope `approve`.
#[utoipa::path(post, path = "/v1/permits", tag = "people", operation_id = "give_permit",
    request_body = PermitOrder,
    responses(
        (status = 200, description = "It is durable: this is how it stands", body = PermitView),
        (status = 403, description = "It is for somebody else to decide", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such approval", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The approval was decided before", body = ProblemBody, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn give(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    http: Request,
) -> Result<Json<PermitView>, Problem> {
    caller.may(Act::KeepPermits)?;
    let (order, _) = input::json::<PermitOrder>(http).await?;
    for (name, pattern) in order.args.iter().flatten() {
        check_short("args", name)?;
        check_short("args", pattern)?;
    }
    let clerk = door.inside.clerk();
    match clerk.give(order.into(), &Who::from(&caller)).await {
        Ok(permit) => door.permit(PermitKey(permit.id)).await,
        Err(NotGiven::Store(error)) => Err(error.into()),
        Err(NotGiven::Denied(why)) => Err(Problem::new(Kind::Others, why)),
        Err(NotGiven::Unfit(field, why)) => Err(Problem::field(field, why)),
        Err(NotGiven::Before(why)) => Err(Problem::new(Kind::Conflict, why)),
        Err(error @ NotGiven::Missing) => Err(Problem::new(Kind::NotFound, error.to_string())),
    }
}

/// Lists permits, newest first. Needs the scope `approve`.
#[utoipa::path(get, path = "/v1/permits", tag = "people", operation_id = "list_permits",
    params(
        ("state" = Option<String>, Query, description = "`good` (where absent), or `all`"),
        ("limit" = Option<u32>, Query, description = "At most so many, 50 where absent", minimum = 1, maximum = 1000)),
    responses(
        (status = 200, description = "The permits", body = PermitPage),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    mut query: Query,
) -> Result<Json<PermitPage>, Problem> {
    caller.may(Act::KeepPermits)?;
    let good = match query.take("state").as_deref() {
        None | Some("good") => true,
        Some("all") => false,
        Some(_) => return Err(Problem::field("state", "must be `good` or `all`")),
    };
    let limit = query.read("limit", "a number")?.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        let detail = format!("must be from 1 to {MAX_PAGE}");
        return Err(Problem::field("limit", detail));
    }
    query.finish("state and limit")?;
    let permits = door.desk().permits(good, limit).await?;
    Ok(Json(PermitPage { permits }))
}

/// One permit with what it was used for. Needs the scope `approve`.
#[utoipa::path(get, path = "/v1/permits/{id}", tag = "people", operation_id = "get_permit",
    params(("id" = String, Path, format = "uuid")),
    responses(
        (status = 200, description = "As it stands", body = PermitView),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn show(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    key: PermitKey,
) -> Result<Json<PermitView>, Problem> {
    caller.may(Act::KeepPermits)?;
    door.permit(key).await
}

/// Takes a permit back: nothing is decided by it any more. Safe to repeat. Needs the scope `approve`.
#[utoipa::path(delete, path = "/v1/permits/{id}", tag = "people", operation_id = "revoke_permit",
    params(("id" = String, Path, format = "uuid")),
    responses(
        (status = 200, description = "As it stands", body = PermitView),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn revoke(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    PermitKey(id): PermitKey,
) -> Result<Json<PermitView>, Problem> {
    caller.may(Act::KeepPermits)?;
    door.desk().revoke_permit(id, &caller.principal).await?;
    door.permit(PermitKey(id)).await
}

impl Door {
    async fn permit(&self, PermitKey(id): PermitKey) -> Result<Json<PermitView>, Problem> {
        let found = self.desk().permit(id).await?;
        let missing = || Problem::new(Kind::NotFound, "there is no such permit");
        found.map(Json).ok_or_else(missing)
    }
}
