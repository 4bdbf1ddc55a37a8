//! Health and numbers, for whoever runs the instance.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use shared::store::Census;

use super::problem::{Problem, ProblemBody};
use super::{Door, guard};
use crate::auth::Act;

/// How long the store may take to answer before the instance counts as not ready.
const STORE_TIME: Duration = Duration::from_secs(2);

/// Whether the process lives.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Alive {
    /// Always `alive`.
    pub status: String,
}

/// Whether the instance can work.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// Whether it can.
    pub ready: bool,
    /// Why not, one reason each.
    pub reasons: Vec<String>,
}

/// Answers as long as the process lives. Needs no token.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, description = "It lives", body = Alive)))]
pub(super) async fn healthz() -> Json<Alive> {
    Json(Alive {
        status: "alive".into(),
    })
}

/// Whether the store answers and every agent's actor runs. Needs no token.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses(
        (status = 200, description = "It can work", body = Readiness),
        (status = 503, description = "It cannot, for these reasons", body = Readiness)))]
pub(super) async fn readyz(State(door): State<Arc<Door>>) -> (StatusCode, Json<Readiness>) {
    let mut reasons = Vec::new();
    match tokio::time::timeout(STORE_TIME, door.desk().store.census()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::error!(%error, "the store does not answer");
            reasons.push("the store answers with an error; the log says which".into());
        }
        Err(_) => reasons.push(format!(
            "the store did not answer in {} s",
            STORE_TIME.as_secs()
        )),
    }
    let away = door.inside.away();
    reasons.extend(
        away.iter()
            .map(|agent| format!("the actor of agent {agent} is not running")),
    );
    if door.closing.is_cancelled() {
        reasons.push("the instance is going down".into());
    }
    let status = match reasons.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let ready = reasons.is_empty();
    (status, Json(Readiness { ready, reasons }))
}

/// Numbers for Prometheus. Open at a loopback address; elsewhere it needs a token with the scope
/// `admin`.
#[utoipa::path(get, path = "/metrics", tag = "health", security((), ("token" = ["admin"])),
    responses(
        (status = 200, description = "Prometheus' text format", body = String, content_type = "text/plain"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn metrics(
    State(door): State<Arc<Door>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if !door.loopback {
        guard::recognise(&door, &headers).await?.may(Act::Measure)?;
    }
    let text = census_text(&door.desk().store.census().await?) + &door.inside.metrics();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

fn census_text(census: &Census) -> String {
    let mut text =
        String::from("# HELP majordomo_tasks Tasks by state.\n# TYPE majordomo_tasks gauge\n");
    for (state, count) in &census.tasks {
        text += &format!("majordomo_tasks{{state=\"{state}\"}} {count}\n");
    }
    text +=
        "# HELP majordomo_runs Runs that have not ended, by state.\n# TYPE majordomo_runs gauge\n";
    for (state, count) in &census.runs {
        text += &format!("majordomo_runs{{state=\"{state}\"}} {count}\n");
    }
    let age = census.queue_age_ms as f64 / 1000.0;
    text += "# HELP majordomo_queue_age_seconds Age of the oldest queued run.\n";
    text +=
        &format!("# TYPE majordomo_queue_age_seconds gauge\nmajordomo_queue_age_seconds {age}\n");
    text
}
