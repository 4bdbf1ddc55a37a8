//! Callbacks: tasks whose ends are told to a receiver, which is in trouble now and then. Each end must arrive, under one id, and each time with the same body: a call that was made and not recorded is
//! made again. The control gives each call an id of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use fastrand::Rng;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{ChildStdin, Command};

use super::{ANSWER, DIED, Door, Fleet, Tally, configure, secret};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A call as it arrived.
struct Call {
    id: String,
    taken: bool,
    body: Value,
}

/// A receiver, which counts.
#[derive(Default)]
struct Receiver {
    calls: Mutex<Vec<Call>>,
}

/// The receiver, and the tasks' keys.
pub(super) struct Callbacks {
    receiver: Arc<Receiver>,
    url: String,
    keys: Vec<String>,
}

async fn received(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok());
    let mut calls = receiver
        .calls
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let id = id.unwrap_or_default().to_owned();
    let taken = calls.len() % 4 != 3 || calls.iter().any(|call| call.id == id);
    calls.push(Call {
        id,
        taken,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    });
    match taken {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[async_trait]
impl Door for Callbacks {
    const NAME: &str = "callbacks";
    const POINTS: u64 = 25;
    const CONTROL: (&str, &str) = ("rename-calls", "record.before:1");
    const WORDS: (&str, &str) = ("under two ids", "called again");
    // Calls at once to one origin.
    const LANES: u32 = 4;

    async fn open(fleet: &Fleet) -> Self {
        let receiver = Arc::<Receiver>::default();
        let router = Router::new()
            .route("/done", post(received))
            .with_state(receiver.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        let settings = format!(
            "[egress]\nallow_private = [\"127.0.0.1\"]\n\
             [callbacks]\nsecret = \"{}\"\nfirst_pause_s = 0.01\n\
             [[routes]]\nmatches = \"\"\nagents = [\"executor\"]\n",
            secret(fleet, "callbacks", SECRET)
        );
        configure(fleet, &settings);
        Self {
            receiver,
            url: format!("http://{address}/done"),
            keys: Vec::new(),
        }
    }

    fn begin(&mut self, _: &Fleet, _: &mut Command) {}

    async fn ask(&mut self, fleet: &Fleet, input: &mut ChildStdin, chance: &mut Rng) {
        self.keys.push(format!("task-{}", self.keys.len()));
        self.insist(fleet, input).await;
        if let Some(key) = chance.choice(&self.keys) {
            self.order(input, key).await;
        }
    }

    /// Who was not told that a task was taken in hands it in again, under its key.
    async fn insist(&mut self, fleet: &Fleet, input: &mut ChildStdin) {
        for key in self.keys.iter().filter(|key| !fleet.has_taken(key)) {
            self.order(input, key).await;
        }
    }

    fn tally(&self, fleet: &Fleet) -> Tally {
        let calls = self
            .receiver
            .calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut by_task: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
        for call in calls.iter() {
            let task = call.body["id"].as_str().unwrap_or_default();
            by_task.entry(task).or_default().push(call);
        }
        let mut tally = Tally {
            asked: self.keys.len() as u32,
            ..Tally::default()
        };
        for key in &self.keys {
            let task = fleet.task_of(key).unwrap_or_default();
            let calls = by_task.remove(&*task).unwrap_or_default();
            let taken = calls.iter().filter(|call| call.taken).count() as u32;
            let ids: BTreeSet<&str> = calls.iter().map(|call| &*call.id).collect();
            tally.lost += u32::from(taken == 0);
            tally.left += taken.saturating_sub(1);
            tally.repeated += u32::from(ids.len() > 1);
            let Some(first) = calls.first() else { continue };
            let error = first.body["error"].as_str().unwrap_or_default();
            match first.body["answer"].as_str() {
                Some(ANSWER) => {}
                _ if error.contains(DIED) => tally.dead += 1,
                _ => tally.others.push(first.body.to_string()),
            }
            let differs = calls.iter().find(|call| call.body != first.body);
            if let Some(differs) = differs {
                let both = format!("first {}, then {}", first.body, differs.body);
                tally.others.push(both);
            }
        }
        let strange = by_task
            .keys()
            .map(|task| format!("a call for task {task:?}"));
        tally.others.extend(strange);
        tally
    }
}

impl Callbacks {
    async fn order(&self, input: &mut ChildStdin, key: &str) {
        // One that is gone hears nothing.
        let order = format!("call {key} {}\n", self.url);
        let _ = input.write_all(order.as_bytes()).await;
    }
}
