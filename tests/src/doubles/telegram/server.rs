//! The HTTP side: reads a request, applies what the test ordered for it, asks the state, answers.
//!
//! ```text
//! /bot<TOKEN>/<method> ──> token ──> fault? ──> World::call / World::poll ──> fault? ──> JSON
//! /file/bot<TOKEN>/<path>                         └── waits for changes
//! ```

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use serde_json::{Value, json};

use super::args::Args;
use super::feed::{Polled, Ticket, ToSend, Took};
use super::world::{Refusal, World};
use crate::doubles::fault::FailHow;
use crate::doubles::post::{self, Answer};
use crate::doubles::spoil;

/// What a request body can weigh.
const BODY_LIMIT: usize = 64 << 20;
/// How long a webhook has to answer.
const WEBHOOK_PATIENCE: Duration = Duration::from_secs(60);

/// The server's state.
pub type Core = crate::doubles::core::Core<World>;

/// The server's paths.
pub fn router(core: Arc<Core>) -> Router {
    Router::new()
        .fallback(serve)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(core)
}

async fn serve(
    State(core): State<Arc<Core>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let path = uri.path();
    let (is_file, rest) = match path.strip_prefix("/file/bot") {
        Some(rest) => (true, rest),
        None => (false, path.strip_prefix("/bot").unwrap_or_default()),
    };
    let Some((token, rest)) = rest.split_once('/') else {
        return refused(&Refusal::new(404, "Not Found"));
    };
    if let Err(refusal) = check_token(&core, token) {
        return refused(&refusal);
    }
    if is_file {
        return file(&core, rest).await;
    }
    let args = Args::read(uri.query().unwrap_or_default(), &headers, body).await;
    let method = rest.trim_end_matches('/').to_ascii_lowercase();
    match args {
        Ok(args) => {
            let method = match method.as_str() {
                "" => args.get("method").to_ascii_lowercase(),
                _ => method,
            };
            call(&core, &method, args).await
        }
        Err(why) => refused(&Refusal::bad(why)),
    }
}

/// The public server answers 404 to what cannot be a token and 401 to what is none.
fn check_token(core: &Core, token: &str) -> Result<(), Refusal> {
    let formed = token.split_once(':').is_some_and(|(number, secret)| {
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        digits && !number.starts_with('0') && !secret.is_empty() && token.len() <= 80
    });
    match formed {
        false => Err(Refusal::new(404, "Not Found")),
        true if core.look(|w| w.settings.token != token) => Err(Refusal::new(401, "Unauthorized")),
        true => Ok(()),
    }
}

async fn file(core: &Core, path: &str) -> Response<Body> {
    let fault = core.act(|w, _| w.faults.take("file"));
    if let Some(response) = spoil::before_work(fault, &error500()).await {
        return response;
    }
    let found = core.look(|w| w.download(path).map(|(b, m)| (b.to_vec(), m.to_owned())));
    let Some((mut bytes, mime)) = found else {
        return refused(&Refusal::new(404, "Not Found"));
    };
    if fault == Some(FailHow::Malformed) {
        bytes.truncate(bytes.len() / 2);
    }
    let mut response = Response::new(Body::from(bytes));
    if let Ok(mime) = HeaderValue::from_str(&mime) {
        response.headers_mut().insert(header::CONTENT_TYPE, mime);
    }
    spoil::after_work(fault, response).await
}

/// One call, with what was ordered for it.
async fn call(core: &Core, method: &str, args: Args) -> Response<Body> {
    let fields = args.fields.clone();
    let (seq, fault) = core.act(|w, now| w.begin_call(method, fields, now));
    if let Some(response) = spoil::before_work(fault, &error500()).await {
        return response;
    }
    let result = run(core, method, &args).await;
    core.act(|w, now| w.end_call(seq, result.as_ref().map(|_| ()), now));
    let response = match result {
        Ok(value) => spoil::json(StatusCode::OK, &json!({"ok": true, "result": value})),
        Err(refusal) => {
            let held = u64::try_from(refusal.held_ms).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(held)).await;
            refused(&refusal)
        }
    };
    spoil::after_work(fault, response).await
}

/// Runs a method; a poll waits here.
pub async fn run(core: &Core, method: &str, args: &Args) -> Result<Value, Refusal> {
    if method != "getupdates" {
        return core.act(|w, now| w.call(method, args, now));
    }
    match core.act(|w, now| w.poll(args, now))? {
        Polled::Now(updates) => Ok(Value::Array(updates)),
        Polled::Wait(ticket) => wait(core, &ticket).await.map(Value::Array),
    }
}

async fn wait(core: &Core, ticket: &Ticket) -> Result<Vec<Value>, Refusal> {
    let mut changes = core.changes();
    loop {
        changes.borrow_and_update();
        let now = core.clock.now();
        // Not through `act`: looking must not wake the others.
        let come = core.act_quietly(|w, now| w.poll_on(ticket, now));
        if let Some(result) = come {
            return result;
        }
        let left = Duration::from_millis((ticket.until - now).max(1) as u64);
        let _ = tokio::time::timeout(left, changes.changed()).await;
    }
}

/// How the server says 500.
fn error500() -> Value {
    json!({"ok": false, "error_code": 500, "description": "Internal Server Error"})
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let mut body = json!({
        "ok": false, "error_code": refusal.code, "description": refusal.description,
    });
    if let Some(seconds) = refusal.retry_after {
        body["parameters"]["retry_after"] = seconds.into();
    }
    if let Some(chat) = refusal.migrate_to {
        body["parameters"]["migrate_to_chat_id"] = chat.into();
    }
    let status = StatusCode::from_u16(refusal.code).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = spoil::json(status, &body);
    if let Some(seconds) = refusal.retry_after.filter(|s| *s > 0) {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Delivers updates to the webhook, as long as it lives.
pub async fn deliver(core: Arc<Core>) {
    let mut changes = core.changes();
    loop {
        changes.borrow_and_update();
        let now = core.clock.now();
        // Not through `act`: it would wake itself for ever.
        let (sends, wake) = core.act_quietly(World::deliver);
        for send in sends {
            tokio::spawn(deliver_one(Arc::clone(&core), send));
        }
        let left = wake.map_or(60_000, |wake| (wake - now).clamp(1, 60_000));
        let left = Duration::from_millis(left as u64);
        let _ = tokio::time::timeout(left, changes.changed()).await;
    }
}

async fn deliver_one(core: Arc<Core>, send: ToSend) {
    let took = match post::post(send.outgoing.clone(), WEBHOOK_PATIENCE).await {
        Ok(answer) if answer.status.is_success() => {
            answer_call(&core, &answer).await;
            Took::Yes(answer.status.as_u16())
        }
        Ok(answer) => {
            let retry_after = answer.headers.get(header::RETRY_AFTER);
            let retry_after = retry_after.and_then(|v| v.to_str().ok()?.parse().ok());
            Took::No {
                status: Some(answer.status.as_u16()),
                error: format!("Wrong response from the webhook: {}", answer.status),
                retry_after_s: retry_after.unwrap_or(0),
            }
        }
        Err(error) => Took::No {
            status: None,
            error,
            retry_after_s: 0,
        },
    };
    core.act(|w, now| w.delivered(&send, took, now));
}

/// A webhook may answer with a call.
async fn answer_call(core: &Core, answer: &Answer) {
    let Ok(args) = Args::from_json(&answer.body) else {
        return;
    };
    let method = args.get("method").to_ascii_lowercase();
    let allowed = !method.is_empty()
        && !method.starts_with("get")
        && !matches!(
            method.as_str(),
            "setwebhook" | "deletewebhook" | "close" | "logout"
        );
    if allowed {
        let _ = call(core, &method, args).await;
    }
}
