//! Tokens of a running instance: for the commands of the machine that it runs on, and for nobody
//! else. Whoever can read the instance's own token can read its store too; no stored token, whatever
//! its scopes, makes another.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, Request, State};
use axum::http::StatusCode;

use shared::id::PrincipalId;

use super::Door;
use super::input;
use super::problem::{Kind, Problem};
use crate::auth::{self, Act, Caller, NotMinted, Scope};
use crate::wire::{ProblemBody, TokenOrder, TokenPage, TokenSecret, TokenView};

/// Makes a token. Only with the instance's own token.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", operation_id = "make_token",
    request_body = TokenOrder,
    responses(
        (status = 200, description = "The secret, this once", body = TokenSecret),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn make(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    http: Request,
) -> Result<Json<TokenSecret>, Problem> {
    caller.may(Act::KeepTokens)?;
    let (order, _) = input::json::<TokenOrder>(http).await?;
    let scope = |name: &String| {
        let unknown = || Problem::field("scopes", format!("there is no scope {name:?}"));
        Scope::parse(name).ok_or_else(unknown)
    };
    let scopes = order
        .scopes
        .iter()
        .map(scope)
        .collect::<Result<Vec<_>, _>>()?;
    let (store, tenant) = (&*door.desk().store, &door.desk().tenant);
    let principal = order.principal.map(PrincipalId::from);
    let minted = auth::mint(store, tenant, &order.name, principal, &scopes).await;
    let (_, secret) = minted.map_err(not_minted)?;
    let token = secret.expose().to_owned();
    Ok(Json(TokenSecret { token }))
}

fn not_minted(error: NotMinted) -> Problem {
    let detail = error.to_string();
    match error {
        NotMinted::Name(_) => Problem::field("name", detail),
        NotMinted::Taken(_) => Problem::new(Kind::Conflict, detail).at("name"),
        NotMinted::NoScope => Problem::field("scopes", detail),
        NotMinted::Random(error) => Problem::internal(&error),
        NotMinted::Store(error) => error.into(),
    }
}

/// Lists tokens. Only with the instance's own token.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", operation_id = "list_tokens",
    responses(
        (status = 200, description = "All tokens", body = TokenPage),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<TokenPage>, Problem> {
    caller.may(Act::KeepTokens)?;
    let tokens = door.desk().store.tokens(&door.desk().tenant).await?;
    let tokens = tokens.into_iter().map(TokenView::from).collect();
    Ok(Json(TokenPage { tokens }))
}

/// Revokes a token: from the next request on it opens nothing. Only with the instance's own token.
#[utoipa::path(delete, path = "/v1/tokens/{name}", tag = "tokens", operation_id = "revoke_token",
    params(("name" = String, Path)),
    responses(
        (status = 204, description = "It is revoked"),
        (status = 404, description = "No live token has this name", body = ProblemBody, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn revoke(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.may(Act::KeepTokens)?;
    let store = &door.desk().store;
    match store.revoke_token(&door.desk().tenant, &name).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::new(Kind::NotFound, "no live token has this name").at("name")),
    }
}
