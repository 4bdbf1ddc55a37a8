//! People: codes by which they become known in chats, who is known, and unlinking them. For admins.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Path, Request, State};

use shared::config::Role;

use super::Door;
use super::input;
use super::problem::{Kind, Problem};
use crate::auth::{Act, Caller};
use crate::people::directory::{CODE_LASTS, NoCode, NotRemoved, Offer};
use crate::wire::{PairingCode, PairingOrder, PeoplePage, ProblemBody, RemovedView};

/// Makes a code by which somebody becomes known in a chat. Needs the scope `admin`.
#[utoipa::path(post, path = "/v1/pairings", tag = "people", operation_id = "pair",
    request_body = PairingOrder,
    responses(
        (status = 200, description = "The code, this once", body = PairingCode),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn pair(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    http: Request,
) -> Result<Json<PairingCode>, Problem> {
    caller.may(Act::KeepPeople)?;
    let (order, _) = input::json::<PairingOrder>(http).await?;
    let offer = offer(order, &caller)?;
    let (code, until) = door.inside.people().offer(offer).await.map_err(refused)?;
    Ok(Json(PairingCode {
        code: code.expose(),
        expires_at_ms: until.0,
    }))
}

fn offer(order: PairingOrder, caller: &Caller) -> Result<Offer, Problem> {
    let role = |name: &String| {
        let unknown = || Problem::field("roles", format!("there is no role {name:?}"));
        Role::parse(name).ok_or_else(unknown)
    };
    let roles = match &order.roles {
        Some(roles) => roles.iter().map(role).collect::<Result<_, _>>()?,
        None => vec![Role::Member],
    };
    let minutes = |minutes: u32| Duration::from_secs(u64::from(minutes) * 60);
    Ok(Offer {
        name: order.name,
        roles,
        label: order.label.unwrap_or_default(),
        lasts: order.ttl_min.map_or(CODE_LASTS, minutes),
        made_by: caller.principal.clone(),
    })
}

fn refused(error: NoCode) -> Problem {
    let detail = error.to_string();
    match error {
        NoCode::Name(_) => Problem::field("name", detail),
        NoCode::Label => Problem::field("label", detail),
        NoCode::NoRole => Problem::field("roles", detail),
        NoCode::Time => Problem::field("ttl_min", detail),
        NoCode::Random(error) => Problem::internal(&error),
        NoCode::Store(error) => error.into(),
    }
}

/// Lists who is known in chats. Needs the scope `admin`.
#[utoipa::path(get, path = "/v1/people", tag = "people", operation_id = "list_people",
    responses(
        (status = 200, description = "Everybody", body = PeoplePage),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<PeoplePage>, Problem> {
    caller.may(Act::KeepPeople)?;
    let people = door.inside.people().everybody().await?;
    let people = people.into_iter().map(Into::into).collect();
    Ok(Json(PeoplePage { people }))
}

/// Unlinks a person, or one identity as `CHANNEL:ID`: strangers from their next message on. Needs the
/// scope `admin`.
#[utoipa::path(delete, path = "/v1/people/{who}", tag = "people", operation_id = "remove_person",
    params(("who" = String, Path, description = "A name, or CHANNEL:ID")),
    responses(
        (status = 200, description = "What was unlinked", body = RemovedView),
        (status = 409, description = "The configuration or a group lets them in; nothing was linked", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "Nothing is linked to it", body = ProblemBody, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn remove(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Path(who): Path<String>,
) -> Result<Json<RemovedView>, Problem> {
    caller.may(Act::KeepPeople)?;
    let removed = door.inside.people().remove(&who).await;
    let removed = removed.map_err(|error| match error {
        NotRemoved::Who(_) => Problem::field("who", error.to_string()),
        NotRemoved::Store(error) => error.into(),
    })?;
    match (removed.links.is_empty(), removed.still_known()) {
        (false, _) => Ok(Json(removed.into())),
        (true, Some(why)) => Err(Problem::new(Kind::Conflict, why).at("who")),
        (true, None) => {
            Err(Problem::new(Kind::NotFound, "nobody is linked by that name").at("who"))
        }
    }
}
