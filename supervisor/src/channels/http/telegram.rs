//! `POST /v1/telegram/webhook`: updates that Telegram sends. No token opens it; the secret does that
//! Telegram was told. Answered when what came is durable: one insert.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;

use super::problem::{Kind, Problem};
use super::{Door, input};
use crate::channels::telegram::webhook::{HEADER, NotKept};

/// Takes what Telegram sends. It is there where `[telegram] webhook_url` is set.
pub async fn receive(
    State(door): State<Arc<Door>>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let Some(webhook) = &door.telegram else {
        let detail = "no updates of Telegram come in here";
        return Err(Problem::new(Kind::NotFound, detail));
    };
    // Before the body is read: who does not know the secret sends us nothing.
    let mut shown = request.headers().get_all(HEADER).iter();
    let known = match (shown.next(), shown.next()) {
        (Some(only), None) => webhook.knows(only.as_bytes()),
        _ => false,
    };
    if !known {
        tracing::info!("a request without Telegram's secret was refused");
        let detail = format!("the header {HEADER} does not hold the secret");
        return Err(Problem::new(Kind::Unauthorised, detail));
    }
    let body = input::bytes(request).await?;
    let update = serde_json::from_slice(&body)
        .map_err(|_| Problem::new(Kind::Malformed, "the body is no JSON"))?;
    let desk = door.desk();
    let kept = webhook.keep(desk.store.mail(), &desk.tenant, &update).await;
    kept.map(|()| StatusCode::OK).map_err(|error: NotKept| {
        tracing::warn!(%error, "an update from Telegram waits: it comes again");
        Problem::new(Kind::Unavailable, "send it again")
    })
}
