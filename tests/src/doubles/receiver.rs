//! A receiver of webhooks: it verifies each call by an implementation of its own, and is slow, in trouble,
//! gone or dies as it is told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;
use shared::clock::{Stopwatch, stopwatch};
use tokio::sync::watch;

/// What calls are signed with, without the prefix that the configuration has it with.
pub const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const PATIENCE: Duration = Duration::from_secs(30);

/// What the receiver does with a call.
#[derive(Clone, Copy)]
pub enum Answer {
    /// Answers with this status.
    Status(u16),
    /// Asks for a second of patience.
    Later(u16),
    /// Sends elsewhere, to itself.
    Redirect,
    /// Says nothing.
    Hang,
    /// Breaks the connection.
    Die,
}

/// A call as it arrived.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its `webhook-id`.
    pub id: String,
    /// Whether it was answered as taken.
    pub taken: bool,
    /// Milliseconds after the receiver's start.
    pub at_ms: u64,
    /// What it says.
    pub body: Value,
}

/// A receiver: answers as it is told, and then with 204.
pub struct Receiver {
    /// Where it is, with a secret in its query.
    pub url: String,
    answers: Mutex<VecDeque<Answer>>,
    calls: watch::Sender<Vec<Call>>,
    clock: Stopwatch,
    down: AtomicBool,
}

impl Receiver {
    /// A receiver that answers like this at first.
    pub async fn start(answers: &[Answer]) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Arc::new(Self {
            url: format!("http://{}/done?key=canary", listener.local_addr().unwrap()),
            answers: Mutex::new(answers.iter().copied().collect()),
            calls: watch::Sender::new(Vec::new()),
            clock: stopwatch(),
            down: AtomicBool::new(false),
        });
        let router = Router::new()
            .route("/done", post(received))
            .with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    /// The calls once there are so many.
    pub async fn until(&self, count: usize) -> Vec<Call> {
        let mut calls = self.calls.subscribe();
        let there = calls.wait_for(|calls| calls.len() >= count);
        let there = tokio::time::timeout(PATIENCE, there).await;
        there.expect("called in time").unwrap().clone()
    }

    /// Answers everything with 502 from now on, or no more.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.calls.borrow().len()
    }
}

async fn received(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if receiver.down.load(Ordering::SeqCst) {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let id = verified(&headers, &body).expect("a good signature");
    let answer = receiver.answers.lock().unwrap().pop_front();
    let call = Call {
        id,
        taken: answer.is_none(),
        at_ms: receiver.clock.ms(),
        body: serde_json::from_slice(&body).expect("JSON"),
    };
    receiver.calls.send_modify(|calls| calls.push(call));
    match answer {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(Answer::Status(status)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some(Answer::Later(status)) => {
            let status = StatusCode::from_u16(status).unwrap();
            (status, [(header::RETRY_AFTER, "1")]).into_response()
        }
        Some(Answer::Redirect) => {
            let there = [(header::LOCATION, receiver.url.clone())];
            (StatusCode::TEMPORARY_REDIRECT, there).into_response()
        }
        Some(Answer::Hang) => std::future::pending().await,
        Some(Answer::Die) => std::panic::resume_unwind(Box::new("the receiver dies")),
    }
}

/// The id of a message, by <https://www.standardwebhooks.com>, where its signature is good and fresh.
fn verified(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let header = |name: &str| headers.get(name)?.to_str().ok();
    let (id, timestamp) = (header("webhook-id")?, header("webhook-timestamp")?);
    let age = shared::clock::now().0 / 1000 - timestamp.parse::<i64>().ok()?;
    let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
    let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(SECRET).ok()?).ok()?;
    mac.update(&signed);
    let expected = STANDARD.encode(mac.finalize().into_bytes());
    let shown = header("webhook-signature")?.strip_prefix("v1,")?;
    (shown == expected && age.abs() <= 300).then(|| id.to_owned())
}
