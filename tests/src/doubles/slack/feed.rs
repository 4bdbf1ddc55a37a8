//! How events, commands and presses reach the app: attempts, acknowledgements, retries.
//!
//! An event that is not acknowledged within 3 s comes again at once, then a minute and then five
//! minutes later, under its event id; then it is lost. Commands and interactions are not retried:
//! the person sees an error. The same schedule holds for HTTP and for Socket Mode, where an event
//! finds no connection as easily as it finds no server; a retry there is a new envelope.
//!
//! ```text
//! Due ──> Flying ──ack──> Acked
//!  ^         │ fails: timeout, status, connection
//!  └─────────┴──> (after the last attempt) Lost
//! ```

use std::collections::BTreeMap;

use axum::body::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::sign;
use super::world::World;
use crate::doubles::clock::Ms;
use crate::doubles::post::Outgoing;

/// What comes before each retry, after the failure of the attempt before.
const RETRY_AFTER_MS: [Ms; 3] = [0, 60_000, 300_000];
/// Connections that one app may hold.
pub const SOCKETS: usize = 10;

/// What is sent to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An event, wrapped as `event_callback`.
    Event,
    /// The check of the URL.
    UrlVerification,
    /// A slash command.
    Command,
    /// A press, a shortcut, a submitted modal.
    Interaction,
}

impl Kind {
    fn envelope(self) -> &'static str {
        match self {
            Self::Event | Self::UrlVerification => "events_api",
            Self::Command => "slash_commands",
            Self::Interaction => "interactive",
        }
    }
}

/// How far one of them has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Waits for its time.
    Due {
        /// When.
        at_ms: Ms,
    },
    /// Sent and not answered yet.
    Flying {
        /// Its place in the log of deliveries.
        delivery: usize,
        /// When it counts as failed.
        until_ms: Ms,
    },
    /// Acknowledged.
    Acked,
    /// Given up. Of an event nobody hears again; of all else the person saw an error.
    Lost,
}

/// Something for the app, over all its attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parcel {
    /// Counts from 1.
    pub id: u64,
    /// What it is.
    pub kind: Kind,
    /// The event's id; absent for commands and interactions.
    pub event_id: Option<String>,
    /// What is inside.
    pub payload: Value,
    /// Attempts made.
    pub attempts: u32,
    /// Why the last one failed.
    pub reason: Option<String>,
    /// How far it has come.
    #[serde(flatten)]
    pub state: State,
    /// Where the answer of a command is shown.
    pub channel: Option<String>,
    /// What came with the acknowledgement.
    pub answer: Option<String>,
}

/// One attempt, for the oracle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Of which parcel.
    pub parcel: u64,
    /// What it is.
    pub kind: Kind,
    /// The event's id.
    pub event_id: Option<String>,
    /// 0 is the first attempt.
    pub retry: u32,
    /// The envelope, in Socket Mode.
    pub envelope_id: Option<String>,
    /// When it was sent.
    pub at_ms: Ms,
    /// When it was acknowledged; the difference is the latency.
    pub acked_ms: Option<Ms>,
    /// The status of the answer over HTTP.
    pub status: Option<u16>,
    /// Why it failed, in the words of `X-Slack-Retry-Reason`.
    pub failed: Option<String>,
}

/// Where a delivery goes.
#[derive(Debug)]
pub enum Route {
    /// To the app's server.
    Http(Outgoing),
    /// Over this connection.
    Socket(u64, String),
}

/// A delivery to make.
#[derive(Debug)]
pub struct ToSend {
    /// Which parcel.
    pub parcel: u64,
    /// Its place in the log.
    pub delivery: usize,
    /// How.
    pub route: Route,
}

/// Where the app listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// Events.
    pub events: Option<String>,
    /// Slash commands.
    pub commands: Option<String>,
    /// Interactions.
    pub interactions: Option<String>,
}

/// What waits and what has been tried.
#[derive(Debug, Default)]
pub struct Feed {
    /// Everything for the app, by its number.
    pub parcels: BTreeMap<u64, Parcel>,
    /// Numbers of those under way.
    active: Vec<u64>,
    /// Every attempt, oldest first.
    pub deliveries: Vec<Delivery>,
    /// The open connections.
    pub sockets: Vec<u64>,
    envelopes: BTreeMap<String, (u64, usize, u64)>,
    next_socket: u64,
    turn: usize,
    /// How many first attempts are to be lost on the way.
    pub lose_first: usize,
}

impl World {
    /// Hands something over for delivery; answers its number.
    pub fn post(
        &mut self,
        kind: Kind,
        event_id: Option<String>,
        payload: Value,
        channel: Option<&str>,
        now: Ms,
    ) -> u64 {
        let id = self.feed.parcels.len() as u64 + 1;
        let parcel = Parcel {
            id,
            kind,
            event_id,
            payload,
            attempts: 0,
            reason: None,
            state: State::Due { at_ms: now },
            channel: channel.map(str::to_owned),
            answer: None,
        };
        self.feed.parcels.insert(id, parcel);
        self.feed.active.push(id);
        id
    }

    /// Delivers an event once more under its id, as if for the first time. False when unknown.
    pub fn redeliver(&mut self, event_id: &str, now: Ms) -> bool {
        let mut parcels = self.feed.parcels.values();
        let parcel = parcels.find(|p| p.event_id.as_deref() == Some(event_id));
        let Some(payload) = parcel.map(|p| p.payload.clone()) else {
            return false;
        };
        self.post(Kind::Event, Some(event_id.to_owned()), payload, None, now);
        true
    }

    /// What is to be sent now, and when to look again if nothing happens before.
    pub fn due(&mut self, now: Ms) -> (Vec<ToSend>, Option<Ms>) {
        let mut sends = Vec::new();
        let mut wake: Option<Ms> = None;
        for id in self.feed.active.clone() {
            let Some(state) = self.feed.parcels.get(&id).map(|p| p.state.clone()) else {
                continue;
            };
            match state {
                State::Due { at_ms } if at_ms <= now => sends.extend(self.launch(id, now)),
                State::Flying { delivery, until_ms } if until_ms <= now => {
                    self.failed(id, delivery, None, "http_timeout", false, now);
                }
                _ => {}
            }
            let next = match self.feed.parcels[&id].state {
                State::Due { at_ms } => Some(at_ms),
                State::Flying { until_ms, .. } => Some(until_ms),
                State::Acked | State::Lost => None,
            };
            wake = wake.into_iter().chain(next).min();
        }
        let parcels = &self.feed.parcels;
        let going = |id: &u64| !matches!(parcels[id].state, State::Acked | State::Lost);
        self.feed.active.retain(going);
        (sends, wake)
    }

    /// Makes one attempt; nothing is sent when it is lost on the way or finds nobody.
    fn launch(&mut self, id: u64, now: Ms) -> Option<ToSend> {
        let parcel = self.feed.parcels.get(&id)?.clone();
        let delivery = self.feed.deliveries.len();
        self.feed.deliveries.push(Delivery {
            parcel: id,
            kind: parcel.kind,
            event_id: parcel.event_id.clone(),
            retry: parcel.attempts,
            envelope_id: None,
            at_ms: now,
            acked_ms: None,
            status: None,
            failed: None,
        });
        let until_ms = now + self.settings.ack_ms;
        let parcel_now = self.feed.parcels.get_mut(&id)?;
        parcel_now.attempts += 1;
        parcel_now.state = State::Flying { delivery, until_ms };
        if parcel.attempts == 0 && self.feed.lose_first > 0 {
            self.feed.lose_first -= 1;
            return None;
        }
        let route = match self.settings.socket_mode {
            true => self.by_socket(&parcel, delivery),
            false => self.by_http(&parcel),
        };
        let Some(route) = route else {
            self.failed(id, delivery, None, "connection_failed", false, now);
            return None;
        };
        Some(ToSend {
            parcel: id,
            delivery,
            route,
        })
    }

    fn by_http(&mut self, parcel: &Parcel) -> Option<Route> {
        let targets = &self.settings.targets;
        let url = match parcel.kind {
            Kind::Event | Kind::UrlVerification => targets.events.clone(),
            Kind::Command => targets.commands.clone(),
            Kind::Interaction => targets.interactions.clone(),
        }?;
        let form = |pairs: &[(String, String)]| serde_urlencoded::to_string(pairs);
        let (kind, body) = match parcel.kind {
            Kind::Event | Kind::UrlVerification => ("application/json", parcel.payload.to_string()),
            Kind::Command => {
                let pairs = parcel.payload.as_object().into_iter().flatten();
                let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
                let pairs: Vec<_> = pairs.map(|(k, v)| (k.clone(), text(v))).collect();
                ("application/x-www-form-urlencoded", form(&pairs).ok()?)
            }
            Kind::Interaction => {
                let pairs = [("payload".to_owned(), parcel.payload.to_string())];
                ("application/x-www-form-urlencoded", form(&pairs).ok()?)
            }
        };
        let secret = &self.settings.signing_secret;
        let signing = self.signing.pop_front().unwrap_or_default();
        let mut headers = sign::headers(signing, secret, self.real_now_s, body.as_bytes());
        let mut add = |name: &str, value: &str| headers.push((name.to_owned(), value.to_owned()));
        add("Content-Type", kind);
        add("User-Agent", "Slackbot 1.0 (+https://api.slack.com/robots)");
        if parcel.attempts > 0 {
            add("X-Slack-Retry-Num", &parcel.attempts.to_string());
            add(
                "X-Slack-Retry-Reason",
                parcel.reason.as_deref().unwrap_or("unknown_error"),
            );
        }
        Some(Route::Http(Outgoing {
            url,
            headers,
            body: Bytes::from(body),
        }))
    }

    fn by_socket(&mut self, parcel: &Parcel, delivery: usize) -> Option<Route> {
        if self.feed.sockets.is_empty() {
            return None;
        }
        // Slack sends each payload over any one of the connections.
        self.feed.turn += 1;
        let socket = self.feed.sockets[self.feed.turn % self.feed.sockets.len()];
        let envelope_id = self.uuid();
        let mut envelope = json!({
            "envelope_id": envelope_id, "payload": parcel.payload,
            "type": parcel.kind.envelope(),
            "accepts_response_payload": matches!(parcel.kind, Kind::Command | Kind::Interaction),
        });
        if parcel.kind == Kind::Event {
            let reason = parcel.reason.as_deref().map_or("", socket_reason);
            envelope["retry_attempt"] = parcel.attempts.into();
            envelope["retry_reason"] = reason.into();
        }
        let entry = &mut self.feed.deliveries[delivery];
        entry.envelope_id = Some(envelope_id.clone());
        let waiting = (parcel.id, delivery, socket);
        self.feed.envelopes.insert(envelope_id, waiting);
        Some(Route::Socket(socket, envelope.to_string()))
    }

    /// An attempt failed; plans the next one.
    pub fn failed(
        &mut self,
        id: u64,
        delivery: usize,
        status: Option<u16>,
        why: &str,
        no_retry: bool,
        now: Ms,
    ) {
        let speed = self.settings.retry_speed.max(0.001);
        let Some(parcel) = self.feed.parcels.get_mut(&id) else {
            return;
        };
        // A late answer to an attempt that was given up already changes nothing.
        if !matches!(parcel.state, State::Flying { delivery: d, .. } if d == delivery) {
            return;
        }
        let entry = &mut self.feed.deliveries[delivery];
        entry.status = status;
        entry.failed = Some(why.to_owned());
        parcel.reason = Some(why.to_owned());
        let wait = RETRY_AFTER_MS.get(parcel.attempts as usize - 1);
        parcel.state = match wait.filter(|_| parcel.kind == Kind::Event && !no_retry) {
            Some(wait) => State::Due {
                at_ms: now + (*wait as f64 / speed) as Ms,
            },
            None => State::Lost,
        };
        if parcel.state == State::Lost && parcel.kind != Kind::Event {
            self.shown_errors.push(id);
        }
        self.feed.envelopes.retain(|_, (_, d, _)| *d != delivery);
    }

    /// An attempt was acknowledged, with this in the answer.
    pub fn acked(&mut self, id: u64, delivery: usize, status: Option<u16>, answer: &[u8], now: Ms) {
        let entry = &mut self.feed.deliveries[delivery];
        entry.acked_ms = Some(now);
        entry.status = status;
        let Some(parcel) = self.feed.parcels.get_mut(&id) else {
            return;
        };
        if parcel.state == State::Acked {
            return;
        }
        parcel.state = State::Acked;
        parcel.answer = Some(String::from_utf8_lossy(answer).into_owned());
        let parcel = parcel.clone();
        self.take_answer(&parcel, answer, now);
    }

    /// A connection opened; answers its number, or none when there are too many.
    pub fn socket_opened(&mut self) -> Option<u64> {
        if self.feed.sockets.len() >= SOCKETS {
            return None;
        }
        self.feed.next_socket += 1;
        self.feed.sockets.push(self.feed.next_socket);
        Some(self.feed.next_socket)
    }

    /// A connection closed: what was not acknowledged on it has failed.
    pub fn socket_closed(&mut self, socket: u64, now: Ms) {
        self.feed.sockets.retain(|s| *s != socket);
        let left = self.feed.envelopes.values().copied();
        let left: Vec<_> = left.filter(|(_, _, s)| *s == socket).collect();
        for (parcel, delivery, _) in left {
            self.failed(parcel, delivery, None, "connection_failed", false, now);
        }
    }

    /// Text came over a connection.
    pub fn socket_says(&mut self, text: &str, now: Ms) {
        let Ok(ack) = serde_json::from_str::<Value>(text) else {
            return;
        };
        let envelope = ack["envelope_id"].as_str().unwrap_or_default();
        let Some((parcel, delivery, _)) = self.feed.envelopes.remove(envelope) else {
            return;
        };
        let answer = match &ack["payload"] {
            Value::Null => String::new(),
            payload => payload.to_string(),
        };
        self.acked(parcel, delivery, None, answer.as_bytes(), now);
    }
}

/// Socket Mode has its own words.
fn socket_reason(reason: &str) -> &'static str {
    match reason {
        "http_timeout" => "timeout",
        "connection_failed" => "connection_failed",
        _ => "unknown_error",
    }
}
