//! The HTTP side: the Web API, uploads and downloads, `response_url`s, the socket's address; and
//! the deliverer that posts to the app.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequestParts as _, Path, State, WebSocketUpgrade};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use axum::routing::any;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::feed::{Route, ToSend};
use super::methods::{Args, Refusal, takes_json};
use super::socket::{self, Order, Sockets};
use super::world::World;
use crate::doubles::clock::Clock;
use crate::doubles::front::{fall_of, hangup};
use crate::doubles::post;
use crate::doubles::spoil;

/// What a request body can weigh.
const BODY_LIMIT: usize = 64 << 20;
/// What a browser without a session gets instead of a file.
const LOGIN_PAGE: &str = "<!DOCTYPE html><html><head><title>Sign in | Slack</title></head>\
<body><h1>Sign in to your workspace</h1></body></html>";

/// Methods that do not read JSON.
const FORM_ONLY: [&str; 2] = ["files.info", "files.getUploadURLExternal"];

/// The server's state.
pub type Core = crate::doubles::core::Core<World>;

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// State, clock and bell.
    pub core: Arc<Core>,
    /// The open connections.
    pub sockets: Arc<Sockets>,
    /// The count of falls of the front, once there is one.
    pub falls: Arc<watch::Sender<Option<Arc<watch::Sender<u64>>>>>,
}

/// The server's paths.
pub fn router(shared: Shared) -> Router {
    Router::new()
        .route("/api/{method}", any(api))
        .route("/upload/v1/{file}", any(upload))
        .route("/files-pri/{file}/{name}", any(download))
        .route("/response/{id}", any(respond))
        .route("/link/", any(link))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(shared)
}

async fn api(
    State(shared): State<Shared>,
    Path(method): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let core = &shared.core;
    let Ok(mut args) = arguments(&uri, &headers, &body, takes_json(&method)) else {
        return answer(&Err(Refusal::Error("invalid_json")));
    };
    if is_json(&headers) && FORM_ONLY.contains(&method.as_str()) {
        args.clear();
    }
    let in_args = args
        .remove("token")
        .and_then(|t| t.as_str().map(str::to_owned));
    let token = bearer(&headers).or(in_args).unwrap_or_default();
    let (seq, fault) = core.act(|w, now| w.begin_call(&method, args.clone(), now));
    let error500 = json!({"ok": false, "error": "internal_error"});
    if let Some(response) = spoil::before_work(fault, &error500).await {
        return response;
    }
    let result = core.act(|w, now| {
        let result = w.call(&method, &token, &Args(args), now);
        w.end_call(seq, result.as_ref().err().map(Refusal::word), now);
        result
    });
    let mut response = answer(&result);
    let scopes = core.look(|w| w.settings.scopes.join(","));
    if let Ok(scopes) = HeaderValue::from_str(&scopes) {
        response.headers_mut().insert("x-oauth-scopes", scopes);
    }
    spoil::after_work(fault, response).await
}

fn answer(result: &Result<Value, Refusal>) -> Response<Body> {
    match result {
        Ok(value) => {
            let mut body = value.clone();
            body["ok"] = true.into();
            spoil::json(StatusCode::OK, &body)
        }
        Err(Refusal::TooMany(seconds)) => {
            let body = json!({"ok": false, "error": "ratelimited"});
            let mut response = spoil::json(StatusCode::TOO_MANY_REQUESTS, &body);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, (*seconds).into());
            response
        }
        Err(Refusal::Scope(needed, provided)) => {
            let body = json!({"ok": false, "error": "missing_scope", "needed": needed,
                "provided": provided});
            spoil::json(StatusCode::OK, &body)
        }
        Err(Refusal::Error(error)) => {
            spoil::json(StatusCode::OK, &json!({"ok": false, "error": error}))
        }
        Err(Refusal::Explained(error, messages)) => {
            let metadata = json!({"messages": messages});
            let body = json!({"ok": false, "error": error, "response_metadata": metadata});
            spoil::json(StatusCode::OK, &body)
        }
    }
}

/// Query string and body, JSON or form.
fn arguments(
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
    json: bool,
) -> Result<Map<String, Value>, ()> {
    let form = |text: &str| -> Vec<(String, String)> {
        serde_urlencoded::from_str(text).unwrap_or_default()
    };
    let mut args = Map::new();
    let mut add = |pairs: Vec<(String, String)>| {
        args.extend(pairs.into_iter().map(|(k, v)| (k, Value::String(v))));
    };
    add(form(uri.query().unwrap_or_default()));
    if !is_json(headers) {
        add(form(&String::from_utf8_lossy(body)));
        return Ok(args);
    }
    if body.is_empty() || !json {
        return Ok(args);
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => {
            args.extend(object);
            Ok(args)
        }
        _ => Err(()),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|k| k.as_bytes().starts_with(b"application/json"))
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    Some(value.strip_prefix("Bearer ")?.to_owned())
}

async fn upload(
    State(shared): State<Shared>,
    Path(file): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let fault = shared.core.act(|w, _| w.faults.take("upload"));
    if let Some(response) = spoil::before_work(fault, &json!({"ok": false})).await {
        return response;
    }
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|k| k.to_str().ok()).unwrap_or_default();
    let bytes = match multer::parse_boundary(kind) {
        Ok(boundary) => first_part(body, boundary).await,
        Err(_) => body.to_vec(),
    };
    let length = bytes.len();
    let response = match shared.core.act(|w, now| w.upload(&file, bytes, now)) {
        true => Response::new(Body::from(format!("OK - {length}"))),
        false => spoil::html(StatusCode::BAD_REQUEST, "no such upload, or another length"),
    };
    spoil::after_work(fault, response).await
}

async fn first_part(body: Bytes, boundary: String) -> Vec<u8> {
    let stream = futures::stream::once(async move { Ok::<_, std::io::Error>(body) });
    let mut parts = multer::Multipart::new(stream, boundary);
    match parts.next_field().await {
        Ok(Some(part)) => part.bytes().await.map(|b| b.to_vec()).unwrap_or_default(),
        _ => Vec::new(),
    }
}

async fn download(
    State(shared): State<Shared>,
    Path((file, _)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response<Body> {
    let core = &shared.core;
    let fault = core.act(|w, _| w.faults.take("file"));
    if let Some(response) = spoil::before_work(fault, &json!({"ok": false})).await {
        return response;
    }
    let allowed = bearer(&headers).is_some_and(|t| core.look(|w| w.settings.bot_token == t));
    let response = match core.look(|w| w.download(&file)).filter(|_| allowed) {
        // Not an error: a page to sign in, with status 200.
        None => spoil::html(StatusCode::OK, LOGIN_PAGE),
        Some(Err(to)) => {
            let mut response = spoil::html(StatusCode::FOUND, "");
            if let Ok(to) = HeaderValue::from_str(&to) {
                response.headers_mut().insert(header::LOCATION, to);
            }
            response
        }
        Some(Ok((bytes, mime))) => {
            let mut response = Response::new(Body::from(bytes));
            if let Ok(mime) = HeaderValue::from_str(&mime) {
                response.headers_mut().insert(header::CONTENT_TYPE, mime);
            }
            response
        }
    };
    spoil::after_work(fault, response).await
}

async fn respond(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response<Body> {
    let core = &shared.core;
    let args = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let fields = args.as_object().cloned().unwrap_or_default();
    let (seq, fault) = core.act(|w, now| w.begin_call("response_url", fields, now));
    if let Some(response) = spoil::before_work(fault, &json!({"ok": false})).await {
        return response;
    }
    let result = core.act(|w, now| {
        let result = w.respond(&id, &args, now);
        w.end_call(seq, result.as_ref().err().map(|(_, e)| *e), now);
        result
    });
    let response = match result {
        Ok(()) => Response::new(Body::from("ok")),
        Err((status, error)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND);
            spoil::json(status, &json!({"ok": false, "error": error}))
        }
    };
    spoil::after_work(fault, response).await
}

/// The socket's address: a ticket is good once.
async fn link(State(shared): State<Shared>, request: Request<Body>) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query).unwrap_or_default();
    let ticket = pairs.into_iter().find(|(name, _)| name == "ticket");
    let ticket = ticket.map(|(_, ticket)| ticket).unwrap_or_default();
    let core = Arc::clone(&shared.core);
    if request.method() != Method::GET || !core.act(|w, _| w.tickets.remove(&ticket)) {
        return spoil::html(StatusCode::REQUEST_TIMEOUT, "");
    }
    let fault = core.act(|w, _| w.faults.take("link"));
    if let Some(response) = spoil::before_work(fault, &json!({"ok": false})).await {
        return response;
    }
    let Some(falls) = shared.falls.borrow().clone() else {
        return hangup();
    };
    let (mut parts, _) = request.into_parts();
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade.on_upgrade(move |ws| async move {
            socket::serve(core, shared.sockets, ws, fall_of(&falls)).await;
        }),
        Err(_) => spoil::html(StatusCode::BAD_REQUEST, ""),
    }
}

/// Delivers what is due, as long as it lives.
pub async fn deliver(core: Arc<Core>, sockets: Arc<Sockets>) {
    let mut changes = core.changes();
    loop {
        changes.borrow_and_update();
        let (sends, wake) = core.act_quietly(|w, now| {
            w.real_now_s = Clock::real() / 1000;
            w.due(now)
        });
        for send in sends {
            match &send.route {
                Route::Socket(socket, text) => sockets.order(*socket, Order::Send(text.clone())),
                Route::Http(_) => drop(tokio::spawn(deliver_one(Arc::clone(&core), send))),
            }
        }
        let now = core.clock.now();
        let left = wake.map_or(60_000, |wake| (wake - now).clamp(1, 60_000));
        let left = Duration::from_millis(left as u64);
        let _ = tokio::time::timeout(left, changes.changed()).await;
    }
}

async fn deliver_one(core: Arc<Core>, send: ToSend) {
    let Route::Http(outgoing) = send.route else {
        return;
    };
    let patience = core.look(|w| w.settings.ack_ms).max(1) as u64;
    let answer = post::post(outgoing, Duration::from_millis(patience)).await;
    core.act(|w, now| match answer {
        Ok(answer) if answer.status.is_success() => {
            let status = Some(answer.status.as_u16());
            w.acked(send.parcel, send.delivery, status, &answer.body, now);
        }
        Ok(answer) => {
            let no_retry = answer.headers.get("X-Slack-No-Retry");
            let no_retry = no_retry.is_some_and(|v| v == "1");
            let status = Some(answer.status.as_u16());
            w.failed(
                send.parcel,
                send.delivery,
                status,
                "http_error",
                no_retry,
                now,
            );
        }
        Err(error) => {
            let why = match error.as_str() {
                "timeout" => "http_timeout",
                _ => "connection_failed",
            };
            w.failed(send.parcel, send.delivery, None, why, false, now);
        }
    });
}
