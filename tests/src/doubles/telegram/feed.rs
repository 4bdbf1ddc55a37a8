//! How updates reach the bot: long polls that end each other, and webhooks that come again.
//!
//! From the real server's source. A poll that has to wait ends the one that waits already, with a
//! 409; one that finds updates does not. Of two 409s within 3 s the second is held back 3 s. A
//! webhook keeps order only within a queue: messages of one chat, presses of one person. So a
//! press may overtake the message before it. A failed delivery is tried again at once, then after
//! 2, 4, 8 s and so on to a minute or two, until the update expires.

use std::collections::BTreeMap;

use axum::body::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::args::Args;
use super::world::{Refusal, World};
use crate::doubles::clock::Ms;
use crate::doubles::post::Outgoing;

/// The longest poll.
const LONGEST_POLL_S: i64 = 50;
/// What one answer may weigh.
const ANSWER_BYTES: usize = 1 << 22;

const OTHER_POLL: &str = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
const WEBHOOK_SET: &str = "Conflict: terminated by setWebhook request";
const WEBHOOK_IS_SET: &str = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first";

/// Who polls.
#[derive(Debug, Default)]
pub struct Polls {
    waiting: Option<u64>,
    count: u64,
    last_offset: Option<i64>,
    last_at: Ms,
    conflict_free_at: Ms,
    ended_by_webhook: bool,
}

/// A poll that waits.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    number: u64,
    offset: i64,
    limit: usize,
    /// When it has waited long enough.
    pub until: Ms,
}

/// What a poll comes to.
#[derive(Debug)]
pub enum Polled {
    /// Updates, or none.
    Now(Vec<Value>),
    /// It waits: ask again with the ticket.
    Wait(Ticket),
}

/// A webhook.
#[derive(Debug)]
pub struct Webhook {
    pub(super) url: String,
    pub(super) secret: String,
    pub(super) max_connections: usize,
    pub(super) last_error: Option<(Ms, String)>,
    generation: u64,
    in_flight: usize,
    lanes: BTreeMap<i64, Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    update: i64,
    fails: u32,
    delay_s: i64,
    wake_at: Ms,
    in_flight: bool,
}

/// One delivery by webhook, for the oracle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Which update.
    pub update_id: i64,
    /// Counts from 1, anew for a redelivery.
    pub attempt: u32,
    /// When it was sent.
    pub at_ms: Ms,
    /// When it was answered, or given up.
    pub done_ms: Option<Ms>,
    /// With what.
    pub status: Option<u16>,
    /// Or why not.
    pub error: Option<String>,
}

/// A delivery to make.
#[derive(Debug)]
pub struct ToSend {
    generation: u64,
    lane: i64,
    update: i64,
    expires_at: Ms,
    delivery: usize,
    /// What to post.
    pub outgoing: Outgoing,
}

/// What a delivery came to.
#[derive(Debug)]
pub enum Took {
    /// 2xx.
    Yes(u16),
    /// Anything else, with the answer's `Retry-After`.
    No {
        /// Its status, if there was an answer.
        status: Option<u16>,
        /// What to tell in `last_error_message`.
        error: String,
        /// `Retry-After`, in seconds.
        retry_after_s: i64,
    },
}

impl World {
    /// `getUpdates`.
    pub fn poll(&mut self, args: &Args, now: Ms) -> Result<Polled, Refusal> {
        if self.webhook.is_some() {
            return Err(self.conflict(WEBHOOK_IS_SET, now));
        }
        let offset = args.int("offset", 0);
        let mut limit = args.int("limit", 100).clamp(1, 100) as usize;
        let mut timeout = args.int("timeout", 0).clamp(0, LONGEST_POLL_S);
        self.set_allowed(args);
        let polls = &mut self.polls;
        if self.settings.poll_haste && polls.last_offset == Some(offset) {
            if timeout < 3 && now < polls.last_at + 3_000 {
                timeout = 3;
            }
            if now < polls.last_at + 500 {
                limit = 1;
            }
        }
        polls.last_offset = Some(offset);
        polls.last_at = now;
        let updates = self.take_updates(offset, limit, now);
        if !updates.is_empty() || timeout == 0 {
            return Ok(Polled::Now(updates));
        }
        self.polls.count += 1;
        self.polls.waiting = Some(self.polls.count);
        self.polls.ended_by_webhook = false;
        Ok(Polled::Wait(Ticket {
            number: self.polls.count,
            offset,
            limit,
            until: now + timeout * 1000,
        }))
    }

    /// Whether a poll that waits has come to something.
    pub fn poll_on(&mut self, ticket: &Ticket, now: Ms) -> Option<Result<Vec<Value>, Refusal>> {
        if self.polls.waiting != Some(ticket.number) {
            let why = match self.polls.ended_by_webhook {
                true => WEBHOOK_SET,
                false => OTHER_POLL,
            };
            return Some(Err(self.conflict(why, now)));
        }
        if !self.queue.has_for(ticket.offset, now) && now < ticket.until {
            return None;
        }
        self.polls.waiting = None;
        Some(Ok(self.take_updates(ticket.offset, ticket.limit, now)))
    }

    fn take_updates(&mut self, offset: i64, limit: usize, now: Ms) -> Vec<Value> {
        let mut left = ANSWER_BYTES;
        let mut events = self.queue.take(offset, limit, now);
        if self.shuffled {
            fastrand::shuffle(&mut events);
        }
        let bodies = events.into_iter().map(|e| e.body);
        bodies
            .take_while(|body| {
                let weight = 50 + body.to_string().len();
                let fits = weight < left;
                left = left.saturating_sub(weight);
                fits
            })
            .collect()
    }

    fn conflict(&mut self, why: &str, now: Ms) -> Refusal {
        let pause = self.settings.conflict_pause_ms;
        let mut refusal = Refusal::new(409, why);
        if now < self.polls.conflict_free_at {
            refusal.held_ms = pause;
        } else {
            self.polls.conflict_free_at = now + pause;
        }
        refusal
    }

    fn set_allowed(&mut self, args: &Args) {
        if !args.has("allowed_updates") {
            return;
        }
        let kinds: Option<Vec<String>> = serde_json::from_str(args.get("allowed_updates")).ok();
        // An empty list is the default one; garbage changes nothing.
        match kinds {
            Some(kinds) if kinds.is_empty() => self.allowed = None,
            Some(kinds) => self.allowed = Some(kinds),
            None => {}
        }
    }

    /// `setWebhook` and `deleteWebhook`.
    pub fn set_webhook(&mut self, args: &Args, delete: bool, now: Ms) -> Result<Value, Refusal> {
        let url = if delete { "" } else { args.get("url") };
        if !url.is_empty() {
            if now < self.webhook_free_at {
                return Err(Refusal::too_many(1));
            }
            self.webhook_free_at = now + 1000;
        }
        let secret = args.get("secret_token");
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if secret.len() > 256 {
            return Err(Refusal::bad("secret token is too long"));
        }
        if !secret.chars().all(allowed) {
            return Err(Refusal::bad("secret token contains unallowed characters"));
        }
        if !(url.is_empty() || url.starts_with("http://") || url.starts_with("https://")) {
            return Err(Refusal::bad("invalid webhook URL specified"));
        }
        if args.flag("drop_pending_updates") {
            self.queue.clear();
        }
        if url.is_empty() {
            self.webhook = None;
            return Ok(true.into());
        }
        self.set_allowed(args);
        self.polls.waiting = None;
        self.polls.ended_by_webhook = true;
        self.polls.count += 1;
        self.webhook = Some(Webhook {
            url: url.to_owned(),
            secret: secret.to_owned(),
            max_connections: args.int("max_connections", 40).clamp(1, 100) as usize,
            last_error: None,
            generation: self.polls.count,
            in_flight: 0,
            lanes: BTreeMap::new(),
        });
        Ok(true.into())
    }

    /// `getWebhookInfo`.
    pub fn webhook_info(&self) -> Value {
        let mut info = json!({
            "url": "", "has_custom_certificate": false,
            "pending_update_count": self.queue.len(),
        });
        if let Some(webhook) = &self.webhook {
            info["url"] = webhook.url.as_str().into();
            info["max_connections"] = webhook.max_connections.into();
            info["ip_address"] = "127.0.0.1".into();
            if let Some((at, error)) = &webhook.last_error {
                info["last_error_date"] = (at / 1000).into();
                info["last_error_message"] = error.as_str().into();
            }
        }
        if let Some(kinds) = &self.allowed {
            info["allowed_updates"] = json!(kinds);
        }
        info
    }

    /// What is to be delivered now, and when to look again if nothing happens before.
    pub fn deliver(&mut self, now: Ms) -> (Vec<ToSend>, Option<Ms>) {
        let Some(webhook) = &mut self.webhook else {
            return (Vec::new(), None);
        };
        self.queue.expire(now);
        let mut heads: BTreeMap<i64, Vec<&super::queue::Event>> = BTreeMap::new();
        let mut order = Vec::new();
        for event in self.queue.waiting() {
            let lane = heads.entry(event.lane).or_default();
            if lane.is_empty() {
                order.push(event.lane);
            }
            lane.push(event);
        }
        let mut sends = Vec::new();
        let mut wake: Option<Ms> = None;
        for lane_id in order {
            let lane = webhook.lanes.entry(lane_id).or_default();
            if lane.in_flight || webhook.in_flight >= webhook.max_connections {
                continue;
            }
            let waiting = &heads[&lane_id];
            let at = match self.shuffled && lane.fails == 0 {
                true => fastrand::usize(..waiting.len()),
                false => waiting
                    .iter()
                    .position(|e| e.id == lane.update)
                    .unwrap_or(0),
            };
            let event = waiting[at];
            if lane.update != event.id {
                *lane = Lane {
                    update: event.id,
                    delay_s: 1,
                    ..Lane::default()
                };
            }
            if lane.wake_at > now {
                wake = Some(wake.map_or(lane.wake_at, |w| w.min(lane.wake_at)));
                continue;
            }
            lane.in_flight = true;
            webhook.in_flight += 1;
            self.deliveries.push(Delivery {
                update_id: event.id,
                attempt: lane.fails + 1,
                at_ms: now,
                done_ms: None,
                status: None,
                error: None,
            });
            sends.push(ToSend {
                generation: webhook.generation,
                lane: lane_id,
                update: event.id,
                expires_at: event.expires_at,
                delivery: self.deliveries.len() - 1,
                outgoing: webhook.outgoing(&event.body),
            });
        }
        (sends, wake)
    }

    /// What came of a delivery.
    pub fn delivered(&mut self, sent: &ToSend, took: Took, now: Ms) {
        let entry = &mut self.deliveries[sent.delivery];
        entry.done_ms = Some(now);
        match &took {
            Took::Yes(status) => entry.status = Some(*status),
            Took::No { status, error, .. } => {
                entry.status = *status;
                entry.error = Some(error.clone());
            }
        }
        let same = |w: &&mut Webhook| w.generation == sent.generation;
        let Some(webhook) = self.webhook.as_mut().filter(same) else {
            return;
        };
        webhook.in_flight -= 1;
        let Some(lane) = webhook.lanes.get_mut(&sent.lane) else {
            return;
        };
        lane.in_flight = false;
        let Took::No {
            error,
            retry_after_s,
            ..
        } = took
        else {
            webhook.lanes.remove(&sent.lane);
            self.queue.forget(sent.update);
            return;
        };
        webhook.last_error = Some((now, error));
        let mut delay_s = retry_after_s.clamp(0, 3600);
        if delay_s == 0 && lane.fails > 0 {
            lane.delay_s = (lane.delay_s * 2).min(fastrand::i64(60..120));
            delay_s = lane.delay_s;
        }
        lane.fails += 1;
        let delay_ms = (delay_s as f64 * 1000.0 / self.settings.webhook_speed.max(0.001)) as i64;
        lane.wake_at = now + delay_ms;
        if lane.wake_at > sent.expires_at {
            webhook.lanes.remove(&sent.lane);
            self.queue.forget(sent.update);
        }
    }
}

impl Webhook {
    fn outgoing(&self, body: &Value) -> Outgoing {
        let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        if !self.secret.is_empty() {
            let name = "X-Telegram-Bot-Api-Secret-Token";
            headers.push((name.to_owned(), self.secret.clone()));
        }
        Outgoing {
            url: self.url.clone(),
            headers,
            body: Bytes::from(body.to_string()),
        }
    }
}
