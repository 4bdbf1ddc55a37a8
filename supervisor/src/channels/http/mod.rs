//! The HTTP door: tasks in, answers and events out, health for whoever runs it.
//!
//! ```text
//!  request ─► host, origin ─► size ─► token ─► rate ─► handler ─► intake | store
//!             (guard)                          tasks, events, settle, health
//!                                     └─► signature ─► rate ─► hooks ─► intake
//! ```
//! Errors are problem documents ([`problem`]); [`openapi`] describes all of it, [`docs`] shows that. The
//! door holds no state of its own but counts of requests ([`rate`]): two of them over one store answer
//! alike. What it leaves out: TLS (a proxy's
//! work), answers to pages of other origins, and any change of the configuration.

pub mod hooks;
pub mod problem;
pub mod rate;
pub mod tasks;

mod again;
mod asks;
mod budgets;
mod channels;
mod connections;
mod docs;
mod events;
mod feedback;
mod files;
mod guard;
mod health;
mod input;
mod openapi;
mod people;
mod permits;
mod settle;
mod slack;
mod stop;
mod telegram;
#[cfg(test)]
mod tests;
mod tokens;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower_http::trace::TraceLayer;

use shared::config::Settings;
use shared::egress::Gateway;
use shared::id::AgentName;

use crate::app::App;
use crate::auth::LocalToken;
use crate::channels::board::Board;
use crate::channels::callback;
use crate::channels::papers::child::Readers;
use crate::channels::slack::{self as slack_door, events::Seal};
use crate::channels::telegram::webhook::{self, Webhook};
use crate::desk::Desk;
use crate::intake::Intake;
use crate::people::directory::Directory;
use crate::permits::Clerk;
use crate::telemetry;
use connections::Bounds;
use guard::BodyLimit;
use health::Health;
use hooks::Hooks;
use problem::{Kind, Problem};
use rate::Rates;

/// How long answers in flight get to end when the door closes.
const DRAIN: Duration = Duration::from_secs(5);
/// How often an open stream asks whether its token is still good.
const RECHECK: Duration = Duration::from_secs(2);

/// What the door needs of the house behind it.
pub trait Inside: Send + Sync {
    /// Where tasks are looked at, cancelled and answered.
    fn desk(&self) -> &Desk;
    /// The way in for tasks.
    fn intake(&self) -> &Intake;
    /// Who reads the documents that come with tasks.
    fn readers(&self) -> &Readers;
    /// Agents whose actor is not running.
    fn away(&self) -> Vec<AgentName>;
    /// Who is who in chats.
    fn people(&self) -> &Directory;
    /// Who gives permits.
    fn clerk(&self) -> &Clerk;
    /// The channels; none where none was opened.
    fn board(&self) -> Option<&Board>;
    /// What this process counts, in Prometheus' text format; follows the store's own numbers.
    fn metrics(&self) -> String;
}

impl Inside for App {
    fn desk(&self) -> &Desk {
        &self.desk
    }

    fn intake(&self) -> &Intake {
        &self.intake
    }

    fn readers(&self) -> &Readers {
        &self.readers
    }

    fn away(&self) -> Vec<AgentName> {
        self.agents.away()
    }

    fn people(&self) -> &Directory {
        &self.people
    }

    fn clerk(&self) -> &Clerk {
        &self.clerk
    }

    fn board(&self) -> Option<&Board> {
        self.board()
    }

    fn metrics(&self) -> String {
        telemetry::metrics_text()
    }
}

/// What handlers share.
pub(crate) struct Door {
    inside: Arc<dyn Inside>,
    local: LocalToken,
    /// Whether it listens to this machine alone.
    loopback: bool,
    closing: CancellationToken,
    recheck: Duration,
    body_limit: BodyLimit,
    /// Places for answers that take their time: streams of events, and waits for a task's end.
    lasting: Arc<Semaphore>,
    health: Health,
    rates: Rates,
    hooks: Hooks,
    /// What decides who can be called back; none where nobody is.
    callbacks: Option<Gateway>,
    /// How Slack's requests are known, where its events come over HTTP.
    slack: Option<Seal>,
    /// How Telegram's requests are known, where its updates are sent here.
    telegram: Option<Webhook>,
}

impl Door {
    fn desk(&self) -> &Desk {
        self.inside.desk()
    }

    /// A place for an answer that takes its time, where one is free. Kept as long as the answer.
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.lasting.clone().try_acquire_owned().ok()
    }
}

/// An address that would open the instance to others while nobody has a token.
#[derive(Debug, thiserror::Error)]
#[error(
    "listening on {0} would open this instance to the network, and there is no token: make one with \
     `majordomo token new NAME`, or listen on 127.0.0.1"
)]
pub struct OpenDoor(SocketAddr);

/// Refuses a public address while there is no live token.
pub fn check_bind(address: SocketAddr, has_token: bool) -> Result<(), OpenDoor> {
    match has_token || is_loopback(address) {
        true => Ok(()),
        false => Err(OpenDoor(address)),
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Answers requests until `shutdown`, then lets those in flight end, streams at once and the others
/// within a few seconds. The caller has checked the address with [`check_bind`].
pub async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    local_token: LocalToken,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let settings = &app.config.settings.server;
    let bounds = Bounds::new(settings.max_connections);
    let body_limit = BodyLimit(settings.body_limit_kib as usize * 1024);
    let loopback = is_loopback(listener.local_addr()?);
    let (rates, hooks) = (Rates::new(settings.requests_per_minute), hooks(&app)?);
    let callbacks = callbacks(&app.config.settings)?;
    let updates = updates(&app.config.settings)?;
    let slack = slack(&app.config.settings).map_err(std::io::Error::other)?;
    let door = Door {
        inside: app,
        local: local_token,
        loopback,
        closing: shutdown,
        recheck: RECHECK,
        body_limit,
        lasting: Arc::new(Semaphore::new(bounds.lasting())),
        health: Health::default(),
        rates,
        hooks,
        callbacks,
        slack,
        telegram: updates,
    };
    answer(Arc::new(door), listener, bounds).await;
    Ok(())
}

/// What Telegram sends is taken where it was told to send it.
fn updates(settings: &Settings) -> std::io::Result<Option<Webhook>> {
    let Some(telegram) = &settings.telegram else {
        return Ok(None);
    };
    let gateway = Gateway::new(&settings.egress).map_err(std::io::Error::other)?;
    Webhook::new(telegram, &gateway).map_err(std::io::Error::other)
}

fn hooks(app: &App) -> std::io::Result<Hooks> {
    Hooks::new(&app.config.settings.hooks).map_err(std::io::Error::other)
}

/// Slack's events come over HTTP, or they do not.
fn slack(settings: &Settings) -> anyhow::Result<Option<Seal>> {
    match &settings.slack {
        Some(settings) => slack_door::seal(settings),
        None => Ok(None),
    }
}

/// Nobody is called back where there is nothing to sign with.
fn callbacks(settings: &Settings) -> std::io::Result<Option<Gateway>> {
    let Some(configured) = &settings.callbacks else {
        return Ok(None);
    };
    callback::key(configured).map_err(std::io::Error::other)?;
    let gateway = Gateway::new(&settings.egress).map_err(std::io::Error::other)?;
    Ok(Some(gateway))
}

async fn answer(door: Arc<Door>, listener: TcpListener, bounds: Bounds) {
    let closing = door.closing.clone();
    let open = connections::accept(listener, router(door), bounds, &closing).await;
    if tokio::time::timeout(DRAIN, open.end()).await.is_err() {
        tracing::warn!("some requests did not end in time and were cut off");
    }
}

/// All routes over one door.
pub(crate) fn router(door: Arc<Door>) -> Router {
    let (tasks, api) = openapi::routes().split_for_parts();
    let tasks = tasks.route_layer(middleware::from_fn_with_state(
        door.clone(),
        guard::recognised,
    ));
    let (open, open_api) = openapi::open_routes().split_for_parts();
    let described = Arc::new(openapi::describe(api, open_api));
    let docs = get(openapi::docs(&described));
    let described = get(move || openapi::answer(described.clone()));
    tasks
        .merge(open)
        .route("/v1/slack/events", post(slack::receive))
        .route(webhook::PATH, post(telegram::receive))
        .route("/openapi.json", described)
        .route("/docs", docs)
        .route("/", get(hint))
        .fallback(nothing)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(door.clone(), guard::small))
        .layer(middleware::from_fn_with_state(door.clone(), guard::at_home))
        .layer(TraceLayer::new_for_http().make_span_with(span))
        .with_state(door)
}

/// The span of a request names its route, never its URL: what people put there is not ours to log.
fn span<B>(request: &axum::http::Request<B>) -> tracing::Span {
    let route = request.extensions().get::<axum::extract::MatchedPath>();
    let route = route.map_or("none", |route| route.as_str());
    tracing::debug_span!("http", http.method = %request.method(), http.route = route)
}

async fn hint() -> &'static str {
    "majordomo: POST /v1/tasks hands in a task; /docs and /openapi.json describe the rest\n"
}

async fn nothing() -> Problem {
    Problem::new(
        Kind::NotFound,
        "there is no such path; /openapi.json lists them",
    )
}

async fn no_method() -> Problem {
    Problem::new(
        Kind::Method,
        "the path knows other methods; the header Allow lists them",
    )
}
