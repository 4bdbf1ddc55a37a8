//! Health and numbers, for whoever runs the instance.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::Mutex;

use shared::clock::{Stopwatch, stopwatch};
use shared::store::{Census, Error, Halted, Store};

use super::problem::Problem;
use super::{Door, guard};
use crate::asks::herald;
use crate::auth::{Act, Caller};
use crate::channels::board::{self, Board};
use crate::doctor;
use crate::halt;
use crate::wire::{Alive, ChannelUp, DoctorPage, ProblemBody, Readiness};

/// How long the store may take to answer before the instance counts as not ready.
const STORE_TIME: Duration = Duration::from_secs(2);

/// How long what was found out about the store is good, in milliseconds.
const FRESH_MS: u64 = 1_000;

/// What the door knows of the store's health.
#[derive(Default)]
pub(super) struct Health {
    store: Recent<Option<String>>,
    census: Recent<Result<String, Problem>>,
    red: Recent<Option<u32>>,
}

/// Answers as long as the process lives. Needs no token.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, description = "It lives", body = Alive)))]
pub(super) async fn healthz() -> Json<Alive> {
    Json(Alive {
        status: "alive".into(),
    })
}

/// What was found out last, for [`FRESH_MS`]: however often somebody asks, the store is asked once.
pub(super) struct Recent<T>(Mutex<Option<(Stopwatch, T)>>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Recent<T> {
    async fn get(&self, find_out: impl Future<Output = T>) -> T {
        let mut known = self.0.lock().await;
        match &*known {
            Some((since, found)) if since.ms() < FRESH_MS => found.clone(),
            _ => {
                let found = find_out.await;
                *known = Some((stopwatch(), found.clone()));
                found
            }
        }
    }
}

/// Whether the store takes writes and every agent's actor runs. Needs no token.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses(
        (status = 200, description = "It can work", body = Readiness),
        (status = 503, description = "It cannot, for these reasons", body = Readiness)))]
pub(super) async fn readyz(State(door): State<Arc<Door>>) -> (StatusCode, Json<Readiness>) {
    let store = &*door.desk().store;
    let mut reasons = Vec::from_iter(door.health.store.get(fault_of(store)).await);
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
    let board = door.inside.board();
    let channels = board.map(Board::up).unwrap_or_default().into_iter();
    let channels = channels.map(|(name, up)| ChannelUp {
        name: name.into(),
        up,
    });
    let channels = channels.collect();
    let escalations_red = match board {
        Some(board) => door.health.red.get(async { board.red().await.ok() }).await,
        None => None,
    };
    let halting = store.bell().halting().borrow().clone();
    let tenant = &door.desk().tenant;
    let halted = halting.all().filter(|halt| halt.is_for(tenant));
    let halted = halted.map(|halt| halt.what.to_string()).collect();
    (
        status,
        Json(Readiness {
            ready,
            reasons,
            channels,
            escalations_red,
            halted,
        }),
    )
}

/// Why the store cannot be worked with now, found out by a write.
async fn fault_of(store: &dyn Store) -> Option<String> {
    let error = match tokio::time::timeout(STORE_TIME, store.probe()).await {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => error,
        Err(_) => {
            let seconds = STORE_TIME.as_secs();
            return Some(format!("the store did not answer in {seconds} s"));
        }
    };
    tracing::error!(%error, "the store takes no writes");
    Some(match error {
        Error::Database(why) => format!("the store takes no writes: {why}"),
        // The others name places of this machine.
        _ => "the store takes no writes; the log says why".into(),
    })
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
    let census = async { Ok(census_text(&door.desk().store.census().await?)) };
    let text = door.health.census.get(census).await? + &halted_text(&door) + &door.inside.metrics();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// Examines the store, the leases, the runs and the channels. Reads all there is: not for every minute. Needs the
/// scope `admin`.
#[utoipa::path(get, path = "/v1/doctor", tag = "health", operation_id = "examine",
    responses(
        (status = 200, description = "What was found", body = DoctorPage),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn examine(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<DoctorPage>, Problem> {
    caller.may(Act::Examine)?;
    let mut findings = doctor::examine(&*door.desk().store, false).await;
    findings.push(halt::finding(&door.desk().halts().await?));
    if let Some(board) = door.inside.board() {
        findings.extend(board::findings(&board.list().await?));
        findings.extend(board.examine_email().await);
        findings.push(herald::finding(board.red().await?));
    }
    Ok(Json(DoctorPage { findings }))
}

/// What stands still here.
fn halted_text(door: &Door) -> String {
    let (bell, tenant) = (door.desk().store.bell(), &door.desk().tenant);
    let halting = bell.halting().borrow().clone();
    let (mut all, mut agents) = (0, 0);
    for halt in halting.all().filter(|halt| halt.is_for(tenant)) {
        match halt.what {
            Halted::All => all = 1,
            Halted::Agent(_) => agents += 1,
        }
    }
    format!(
        "# HELP majordomo_halted Whether an operator has stopped everything, and how many agents.\n\
         # TYPE majordomo_halted gauge\n\
         majordomo_halted{{what=\"all\"}} {all}\n\
         majordomo_halted{{what=\"agent\"}} {agents}\n"
    )
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
    let gauges = [
        (
            "queue_age_seconds",
            "Age of the oldest queued run.",
            census.queue_age_ms as f64 / 1000.0,
        ),
        (
            "workers",
            "Workers whose lease lasts.",
            census.workers as f64,
        ),
        (
            "dead_runs",
            "Runs that cannot be run any more.",
            census.dead as f64,
        ),
        (
            "steps_in_doubt",
            "Steps of which a person must say whether they happened.",
            census.in_doubt as f64,
        ),
    ];
    for (name, help, value) in gauges {
        text += &format!("# HELP majordomo_{name} {help}\n");
        text += &format!("# TYPE majordomo_{name} gauge\nmajordomo_{name} {value}\n");
    }
    text
}
