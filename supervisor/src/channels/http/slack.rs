//! `POST /v1/slack/events`: events, commands and presses from Slack. No token opens it; Slack's
//! signature over the raw body does. Answered when what came is durable: one insert.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::problem::{Kind, Problem};
use super::{Door, input};
use crate::channels::slack::events;

/// Takes what Slack sends. It is there where Slack's events come over HTTP.
pub async fn receive(State(door): State<Arc<Door>>, request: Request) -> Result<Response, Problem> {
    let Some(seal) = &door.slack else {
        return Err(Problem::new(
            Kind::NotFound,
            "no events of Slack come in here",
        ));
    };
    let (parts, body) = request.into_parts();
    let body = input::bytes(Request::from_parts(parts.clone(), body)).await?;
    if !seal.holds(&parts.headers, &body, shared::clock::now()) {
        tracing::info!("a request that Slack did not sign, or not lately, was refused");
        return Err(Problem::new(
            Kind::Unauthorised,
            "the request is not signed by Slack, or was signed more than five minutes ago",
        ));
    }
    let payload = events::payload(&body)
        .ok_or_else(|| Problem::new(Kind::Malformed, "the body is no payload"))?;
    if payload["type"] == "url_verification" {
        return Ok(Json(json!({ "challenge": payload["challenge"] })).into_response());
    }
    let desk = door.desk();
    match events::keep(desk.store.mail(), &desk.tenant, &payload).await {
        // Mostly nothing: what a command is answered with is shown to whoever gave it.
        Ok(answer) => {
            Ok(answer.map_or_else(|| ().into_response(), |answer| Json(answer).into_response()))
        }
        Err(error) => {
            tracing::warn!(%error, "a message from Slack waits for the store: it comes again");
            Err(Problem::new(Kind::Unavailable, "send it again"))
        }
    }
}
