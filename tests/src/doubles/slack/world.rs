//! Everything the fake Slack knows, and what people (not the app) do in it.
//!
//! Pure: no IO, no clock; every entry is handed the time. What the app does is in `methods`, what
//! reaches it in `feed`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::feed::{Feed, Kind, Parcel, Targets};
use super::sign::Signing;
use crate::doubles::clock::Ms;
use crate::doubles::fault::{FailHow, Faults};

/// How long a `response_url` works.
const RESPONSE_URL_MS: Ms = 30 * 60 * 1000;
/// How often.
const RESPONSE_URL_USES: u32 = 5;
/// How long a `trigger_id` works.
const TRIGGER_MS: Ms = 3_000;
/// What is kept of the log of calls.
const CALLS_KEPT: usize = 200_000;

/// What becomes of a posted text of more than 40,000 characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LongText {
    /// `msg_too_long`.
    Refused,
    /// `ok` with the warning `message_truncated`, and the end is gone.
    Truncated,
}

/// Rate limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RateLimits {
    /// Posts in one channel within a second.
    pub posts_per_channel_per_s: usize,
    /// Calls of any other one method within a minute.
    pub calls_per_method_per_min: usize,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            posts_per_channel_per_s: 1,
            calls_per_method_per_min: 50,
        }
    }
}

/// What a test may set before start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The bot's token.
    pub bot_token: String,
    /// The app's token, for Socket Mode.
    pub app_token: String,
    /// The signing secret.
    pub signing_secret: String,
    /// What the bot's token may do.
    pub scopes: Vec<String>,
    /// Whether Socket Mode is on: then nothing goes over HTTP.
    pub socket_mode: bool,
    /// Where the app listens, without Socket Mode.
    pub targets: Targets,
    /// Which events the app has subscribed to: `app_mention`, `message.channels`, `message.im`.
    pub events: Vec<String>,
    /// Whether the app hears its own messages, as it does on the real one.
    pub echoes: bool,
    /// How long the app has to acknowledge.
    pub ack_ms: Ms,
    /// How much faster than the real one the later retries come.
    pub retry_speed: f64,
    /// How often a connection is pinged.
    pub ping_ms: u64,
    /// How long after a `disconnect` a connection is closed.
    pub close_after_ms: u64,
    /// How long Slack takes a silently dead connection for a living one.
    pub dead_ms: u64,
    /// What becomes of texts of more than 40,000 characters.
    pub long_text: LongText,
    /// The text of `chat.update`, in characters: smaller than that of `chat.postMessage`.
    pub update_chars: usize,
    /// How long an address for an upload works.
    pub upload_ms: Ms,
    /// How long after its completion a file is told of as shared.
    pub share_ms: Ms,
    /// Rate limits; none by default.
    pub limits: Option<RateLimits>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bot_token: "xoxb-fake-bot-token".to_owned(),
            app_token: "xapp-fake-app-token".to_owned(),
            signing_secret: "fake0signing0secret0fake0signing".to_owned(),
            scopes: SCOPES.map(str::to_owned).to_vec(),
            socket_mode: false,
            targets: Targets::default(),
            events: ["app_mention", "message.channels", "message.im"]
                .map(str::to_owned)
                .to_vec(),
            echoes: true,
            ack_ms: 3_000,
            retry_speed: 1.0,
            ping_ms: 10_000,
            close_after_ms: 10_000,
            dead_ms: 60_000,
            long_text: LongText::Refused,
            update_chars: 4_000,
            upload_ms: 3_600_000,
            share_ms: 0,
            limits: None,
        }
    }
}

/// The scopes that an app is made with.
const SCOPES: [&str; 12] = [
    "app_mentions:read",
    "channels:history",
    "channels:read",
    "chat:write",
    "commands",
    "files:read",
    "files:write",
    "groups:history",
    "groups:read",
    "im:history",
    "usergroups:read",
    "users:read",
];

/// The workspace.
pub const TEAM: &str = "T0FAKETEAM";
/// The app.
pub const APP: &str = "A0FAKEAPP0";
/// The app's user.
pub const BOT_USER: &str = "U0FAKEBOT0";
/// The app as an author.
pub const BOT: &str = "B0FAKEBOT0";

/// A message as it stands in a channel now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Its channel.
    pub channel: String,
    /// Its number and time.
    pub ts: String,
    /// The root of its thread.
    pub thread_ts: Option<String>,
    /// Whether a reply is shown in the channel too.
    pub broadcast: bool,
    /// Whose it is.
    pub user: String,
    /// Whether the app wrote it.
    pub by_bot: bool,
    /// Its text as Slack keeps it, escaped.
    pub text: String,
    /// Its blocks.
    pub blocks: Option<Vec<Value>>,
    /// Its files.
    pub files: Vec<String>,
    /// Reactions, by name.
    pub reactions: BTreeMap<String, Vec<String>>,
    /// When it was posted.
    pub at_ms: Ms,
    /// The texts it had before, oldest first.
    pub history: Vec<String>,
    /// When it was deleted.
    pub deleted_at_ms: Option<Ms>,
    /// Answered to a message that is not there: nobody sees it.
    pub adrift: bool,
}

/// A message only one person sees, until they reload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ephemeral {
    /// Where.
    pub channel: String,
    /// Who sees it; absent when a command or press was answered and it is whoever gave it.
    pub user: Option<String>,
    /// In which thread.
    pub thread_ts: Option<String>,
    /// Its text.
    pub text: String,
    /// Its blocks.
    pub blocks: Option<Vec<Value>>,
    /// When.
    pub at_ms: Ms,
}

/// A channel, group or direct message.
#[derive(Clone, Debug, Default)]
pub struct Channel {
    pub(super) name: String,
    pub(super) is_im: bool,
    pub(super) members: BTreeSet<String>,
    pub(super) archived: bool,
    pub(super) messages: BTreeMap<String, Message>,
}

/// Somebody.
#[derive(Clone, Debug)]
pub struct User {
    pub(super) name: String,
    pub(super) is_bot: bool,
    pub(super) deleted: bool,
    /// A guest.
    pub(super) restricted: bool,
    /// The workspace that they come from, where it is another.
    pub(super) team: Option<String>,
}

/// A file.
#[derive(Clone, Debug)]
pub struct Stored {
    pub(super) name: String,
    pub(super) mime: String,
    pub(super) length: usize,
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) by: String,
    pub(super) kind: FileKind,
    /// When its upload was asked for.
    pub(super) asked_at: Ms,
    /// Where it was shared, and when; a person's file is where its message is.
    pub(super) shared: Option<(String, Ms)>,
}

/// What is odd about a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// Nothing.
    #[default]
    Hosted,
    /// It lies with somebody else, and Slack has a link.
    External,
    /// It is deleted.
    Deleted,
    /// Of another workspace: events do not say what it is.
    Unlisted,
    /// Its address is this one.
    At(String),
    /// Its address leads to this one.
    Moved(String),
}

/// A modal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Its id.
    pub id: String,
    /// What is in it.
    pub view: Value,
    /// What a submission was answered with, if it was not just closed.
    pub answer: Option<Value>,
}

#[derive(Clone, Debug)]
pub(super) struct Trigger {
    pub at_ms: Ms,
    pub used: bool,
}

#[derive(Clone, Debug)]
pub(super) struct ResponseUrl {
    channel: String,
    ts: Option<String>,
    at_ms: Ms,
    uses: u32,
}

/// One call as the server saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Counts from 1.
    pub seq: u64,
    /// When it came.
    pub at_ms: Ms,
    /// When the answer was ready; absent while it is under way or when nothing was done.
    pub done_ms: Option<Ms>,
    /// The method.
    pub method: String,
    /// Its parameters.
    pub args: Map<String, Value>,
    /// `ok` of the answer.
    pub ok: Option<bool>,
    /// `error` of the answer.
    pub error: Option<String>,
    /// What was done to it.
    pub fault: Option<FailHow>,
}

/// What came of something a person did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posted {
    /// The message.
    pub ts: String,
    /// The events that tell of it, `app_mention` first.
    pub events: Vec<String>,
}

/// Something a person writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Say {
    /// Where.
    pub channel: String,
    /// Who.
    pub user: String,
    /// What, as they typed it.
    pub text: String,
    /// In which thread.
    #[serde(default)]
    pub thread_ts: Option<String>,
    /// With a file: name, type and bytes.
    #[serde(default)]
    pub file: Option<(String, String, Vec<u8>)>,
}

/// The state of the fake Slack.
#[derive(Debug)]
pub struct World {
    pub(super) settings: Settings,
    pub(super) base: String,
    pub(super) users: BTreeMap<String, User>,
    pub(super) groups: BTreeMap<String, BTreeSet<String>>,
    pub(super) channels: BTreeMap<String, Channel>,
    pub(super) ephemerals: Vec<Ephemeral>,
    pub(super) files: BTreeMap<String, Stored>,
    /// What is odd about the next file that a person sends.
    pub(super) next_file: FileKind,
    pub(super) views: BTreeMap<String, View>,
    pub(super) statuses: Vec<Value>,
    pub(super) triggers: BTreeMap<String, Trigger>,
    response_urls: BTreeMap<String, ResponseUrl>,
    pub(super) calls: VecDeque<Call>,
    call_count: u64,
    /// The faults that wait.
    pub faults: Faults,
    pub(super) storms: BTreeMap<String, VecDeque<(i64, usize)>>,
    pub(super) lately: BTreeMap<String, VecDeque<Ms>>,
    /// What reaches the app.
    pub feed: Feed,
    /// How the next deliveries are signed.
    pub signing: VecDeque<Signing>,
    /// Parcels whose failure a person was shown.
    pub shown_errors: Vec<u64>,
    pub(super) tickets: BTreeSet<String>,
    /// The real time, for signatures.
    pub real_now_s: i64,
    last_ts: i64,
    numbers: u64,
}

impl World {
    /// A workspace with the app and nobody else; `base` is where it will be served.
    pub fn new(settings: Settings) -> Self {
        let bot = User {
            name: "majordomo".to_owned(),
            is_bot: true,
            deleted: false,
            restricted: false,
            team: None,
        };
        Self {
            settings,
            base: String::new(),
            users: BTreeMap::from([(BOT_USER.to_owned(), bot)]),
            groups: BTreeMap::new(),
            channels: BTreeMap::new(),
            ephemerals: Vec::new(),
            files: BTreeMap::new(),
            next_file: FileKind::default(),
            views: BTreeMap::new(),
            statuses: Vec::new(),
            triggers: BTreeMap::new(),
            response_urls: BTreeMap::new(),
            calls: VecDeque::new(),
            call_count: 0,
            faults: Faults::default(),
            storms: BTreeMap::new(),
            lately: BTreeMap::new(),
            feed: Feed::default(),
            signing: VecDeque::new(),
            shown_errors: Vec::new(),
            tickets: BTreeSet::new(),
            real_now_s: 0,
            last_ts: 0,
            numbers: 0,
        }
    }

    /// Opens a call in the log and says what is to be done to it.
    pub fn begin_call(
        &mut self,
        method: &str,
        args: Map<String, Value>,
        now: Ms,
    ) -> (u64, Option<FailHow>) {
        self.call_count += 1;
        let fault = self.faults.take(method);
        if self.calls.len() >= CALLS_KEPT {
            self.calls.pop_front();
        }
        self.calls.push_back(Call {
            seq: self.call_count,
            at_ms: now,
            done_ms: None,
            method: method.to_owned(),
            args,
            ok: None,
            error: None,
            fault,
        });
        (self.call_count, fault)
    }

    /// Closes it.
    pub fn end_call(&mut self, seq: u64, error: Option<&str>, now: Ms) {
        let call = self.calls.iter_mut().rev().find(|c| c.seq == seq);
        if let Some(call) = call {
            call.done_ms = Some(now);
            call.ok = Some(error.is_none());
            call.error = error.map(str::to_owned);
        }
    }

    // People.

    /// The person, made when new.
    pub fn add_user(&mut self, id: &str) -> &mut User {
        self.users.entry(id.to_owned()).or_insert_with(|| User {
            name: id.to_lowercase(),
            is_bot: false,
            deleted: false,
            restricted: false,
            team: None,
        })
    }

    /// A channel with the app and these people in it.
    pub fn add_channel(&mut self, id: &str, name: &str, members: &[&str]) {
        for member in members {
            self.add_user(member);
        }
        let members = members.iter().chain(&[BOT_USER]);
        let members: BTreeSet<String> = members.map(|m| (*m).to_owned()).collect();
        let channel = self.channels.entry(id.to_owned()).or_default();
        channel.name = name.to_owned();
        channel.members.extend(members);
    }

    /// The direct message of somebody with the app, made when new.
    pub fn im(&mut self, user: &str) -> String {
        self.add_user(user);
        let id = format!("D{}", user.trim_start_matches(['U', 'W']));
        let channel = self.channels.entry(id.clone()).or_default();
        channel.is_im = true;
        channel.members = [user, BOT_USER].map(str::to_owned).into();
        id
    }

    /// Somebody writes; `mention` puts the app's name before it.
    pub fn says(&mut self, say: Say, now: Ms) -> Posted {
        self.add_user(&say.user);
        let channel = self.channels.entry(say.channel.clone()).or_default();
        channel.members.insert(say.user.clone());
        let file = say.file.map(|(name, mime, bytes)| {
            let stored = Stored {
                name,
                mime,
                length: bytes.len(),
                bytes: Some(bytes),
                by: say.user.clone(),
                kind: std::mem::take(&mut self.next_file),
                asked_at: now,
                shared: Some((say.channel.clone(), now)),
            };
            self.store(stored)
        });
        let message = Message {
            channel: say.channel.clone(),
            ts: self.next_ts(now),
            thread_ts: say.thread_ts,
            broadcast: false,
            user: say.user,
            by_bot: false,
            text: as_kept(&say.text),
            blocks: None,
            files: file.into_iter().collect(),
            reactions: BTreeMap::new(),
            at_ms: now,
            history: Vec::new(),
            deleted_at_ms: None,
            adrift: false,
        };
        self.put(message, now)
    }

    /// Puts a message in its channel and tells the app.
    pub(super) fn put(&mut self, message: Message, now: Ms) -> Posted {
        let ts = message.ts.clone();
        let mentions = message.text.contains(&format!("<@{BOT_USER}>")) && !message.by_bot;
        let event = self.message_event(&message);
        let channel = self.channels.entry(message.channel.clone()).or_default();
        let hears = channel.members.contains(BOT_USER);
        let is_im = channel.is_im;
        channel.messages.insert(ts.clone(), message.clone());
        let mut events = Vec::new();
        if !hears || (message.by_bot && !self.settings.echoes) || message.adrift {
            return Posted { ts, events };
        }
        if mentions && !is_im && self.subscribed("app_mention") {
            let mut mention = event.clone();
            mention["type"] = "app_mention".into();
            if let Some(mention) = mention.as_object_mut() {
                mention.remove("channel_type");
            }
            events.push(self.tell(mention, now));
        }
        let kind = if is_im {
            "message.im"
        } else {
            "message.channels"
        };
        if self.subscribed(kind) {
            events.push(self.tell(event, now));
        }
        Posted { ts, events }
    }

    /// Somebody edits what they wrote. The event's id, if the app is told.
    pub fn edits(&mut self, channel: &str, ts: &str, text: &str, now: Ms) -> Option<String> {
        let stands = self.message_mut(channel, ts)?;
        let before = stands.clone();
        stands.history.push(before.text.clone());
        stands.text = as_kept(text);
        let stands = stands.clone();
        self.tell_of_change(&stands, &before, now)
    }

    /// `message_changed`.
    pub(super) fn tell_of_change(
        &mut self,
        stands: &Message,
        before: &Message,
        now: Ms,
    ) -> Option<String> {
        let is_im = self.channels.get(&stands.channel)?.is_im;
        let kind = if is_im {
            "message.im"
        } else {
            "message.channels"
        };
        if !self.subscribed(kind) || (stands.by_bot && !self.settings.echoes) {
            return None;
        }
        let mut message = self.message_json(stands);
        let event_ts = self.next_ts(now);
        message["edited"] = json!({"user": stands.user, "ts": event_ts});
        let event = json!({
            "type": "message", "subtype": "message_changed", "hidden": true,
            "channel": stands.channel, "channel_type": if is_im { "im" } else { "channel" },
            "message": message, "previous_message": self.message_json(before),
            "ts": event_ts, "event_ts": event_ts,
        });
        Some(self.tell(event, now))
    }

    /// A slash command. Answers the parcel's number.
    pub fn slash(&mut self, channel: &str, user: &str, command: &str, text: &str, now: Ms) -> u64 {
        self.add_user(user);
        let trigger = self.trigger(now);
        let response = self.response_url(channel, None, now);
        let name = self
            .channels
            .get(channel)
            .map_or("directmessage", |c| &c.name);
        let payload = json!({
            "token": "deprecated", "team_id": TEAM, "team_domain": "fake", "channel_id": channel,
            "channel_name": name, "user_id": user, "user_name": self.users[user].name,
            "command": command, "text": text, "api_app_id": APP,
            "is_enterprise_install": "false", "response_url": response, "trigger_id": trigger,
        });
        self.post(Kind::Command, None, payload, Some(channel), now)
    }

    /// Somebody presses a button. Answers the parcel's number; none when there is no such button.
    pub fn press(
        &mut self,
        channel: &str,
        ts: &str,
        user: &str,
        action_id: &str,
        now: Ms,
    ) -> Option<u64> {
        self.add_user(user);
        let message = self.message_mut(channel, ts)?.clone();
        let blocks = message.blocks.as_deref().unwrap_or_default();
        let (block, button) = blocks.iter().find_map(|block| {
            let elements = block["elements"].as_array().into_iter().flatten();
            let mut elements = elements.chain(Some(&block["accessory"]));
            let button = elements.find(|e| e["action_id"] == action_id)?;
            Some((block, button.clone()))
        })?;
        let mut action = button;
        action["block_id"] = block
            .get("block_id")
            .cloned()
            .unwrap_or_else(|| "b0".into());
        action["action_ts"] = self.next_ts(now).into();
        let trigger = self.trigger(now);
        let response = self.response_url(channel, Some(ts), now);
        let mut container = json!({
            "type": "message", "message_ts": ts, "channel_id": channel, "is_ephemeral": false,
        });
        if let Some(thread) = &message.thread_ts {
            container["thread_ts"] = thread.as_str().into();
        }
        let payload = json!({
            "type": "block_actions", "user": self.user_brief(user), "api_app_id": APP,
            "token": "deprecated", "container": container, "trigger_id": trigger,
            "team": {"id": TEAM, "domain": "fake"}, "enterprise": null,
            "is_enterprise_install": false,
            "channel": {"id": channel, "name": self.channels[channel].name},
            "message": self.message_json(&message), "state": {"values": {}},
            "response_url": response, "actions": [action],
        });
        Some(self.post(Kind::Interaction, None, payload, Some(channel), now))
    }

    /// Somebody submits a modal with these values: block, action, value. None when it is not open.
    pub fn submit(
        &mut self,
        view: &str,
        user: &str,
        values: &[(&str, &str, &str)],
        now: Ms,
    ) -> Option<u64> {
        let mut submitted = self.views.get(view)?.view.clone();
        let mut state = json!({});
        for block in submitted["blocks"].as_array().into_iter().flatten() {
            let (name, element) = (block["block_id"].as_str(), &block["element"]);
            let (Some(name), Some(action)) = (name, element["action_id"].as_str()) else {
                continue;
            };
            let mut given = values.iter().filter(|(b, a, _)| (*b, *a) == (name, action));
            let given = given.next().map(|(_, _, value)| *value);
            state[name][action] = filled_in(element, given);
        }
        submitted["state"] = json!({"values": state});
        let trigger = self.trigger(now);
        let payload = json!({
            "type": "view_submission", "team": {"id": TEAM, "domain": "fake"},
            "user": self.user_brief(user), "api_app_id": APP, "token": "deprecated",
            "trigger_id": trigger, "view": submitted, "response_urls": [],
            "is_enterprise_install": false, "enterprise": null,
        });
        Some(self.post(Kind::Interaction, None, payload, None, now))
    }

    /// Slack checks the URL for events.
    pub fn verify_url(&mut self, now: Ms) -> (u64, String) {
        let challenge = self.uuid();
        let payload =
            json!({"token": "deprecated", "challenge": challenge, "type": "url_verification"});
        let id = self.post(Kind::UrlVerification, None, payload, None, now);
        (id, challenge)
    }

    /// The same event under another id, as happens on the real one.
    pub fn again_under_new_id(&mut self, event_id: &str, now: Ms) -> Option<String> {
        let mut parcels = self.feed.parcels.values();
        let parcel = parcels.find(|p| p.event_id.as_deref() == Some(event_id))?;
        let event = parcel.payload["event"].clone();
        Some(self.tell(event, now))
    }

    /// Any event at all; answers its id.
    pub fn tell(&mut self, event: Value, now: Ms) -> String {
        let id = format!("Ev{:08}{:04}", self.next_number(), fastrand::u16(..10_000));
        let payload = json!({
            "token": "deprecated", "team_id": TEAM, "context_team_id": TEAM, "api_app_id": APP,
            "event": event, "type": "event_callback", "event_id": id, "event_time": now / 1000,
            "authorizations": [{"enterprise_id": null, "team_id": TEAM, "user_id": BOT_USER,
                "is_bot": true, "is_enterprise_install": false}],
            "is_ext_shared_channel": false, "event_context": format!("4-{id}"),
        });
        self.post(Kind::Event, Some(id.clone()), payload, None, now);
        id
    }

    // Answers of the app.

    /// What came with an acknowledgement.
    pub(super) fn take_answer(&mut self, parcel: &Parcel, answer: &[u8], now: Ms) {
        let text = String::from_utf8_lossy(answer).trim().to_owned();
        let json: Option<Value> = serde_json::from_str(&text).ok();
        match parcel.kind {
            Kind::Command if !text.is_empty() => {
                let channel = parcel.channel.clone().unwrap_or_default();
                let json = json.filter(Value::is_object);
                let json = json.unwrap_or_else(|| json!({"text": text}));
                self.answer_in(&channel, None, &json, now);
            }
            Kind::Interaction => {
                let view = parcel.payload["view"]["id"].as_str().unwrap_or_default();
                if let Some(view) = self.views.get_mut(view) {
                    view.answer = json;
                }
            }
            _ => {}
        }
    }

    /// A use of a `response_url`: the HTTP status and the error, if it did not work.
    pub fn respond(&mut self, id: &str, body: &Value, now: Ms) -> Result<(), (u16, &'static str)> {
        let Some(url) = self.response_urls.get_mut(id) else {
            return Err((404, "no_active_hooks"));
        };
        if now > url.at_ms + RESPONSE_URL_MS {
            return Err((404, "expired_url"));
        }
        if url.uses >= RESPONSE_URL_USES {
            return Err((404, "used_url"));
        }
        url.uses += 1;
        let url = url.clone();
        if body["delete_original"] == true || body["replace_original"] == true {
            let ts = url.ts.clone().unwrap_or_default();
            if let Some(message) = self.message_mut(&url.channel, &ts) {
                if body["delete_original"] == true {
                    message.deleted_at_ms = Some(now);
                    return Ok(());
                }
                let text = body["text"].as_str().unwrap_or_default().to_owned();
                let before = std::mem::replace(&mut message.text, text);
                message.history.push(before);
                message.blocks = body["blocks"].as_array().cloned();
                return Ok(());
            }
        }
        let ts = url.ts.as_deref();
        let thread = ts.and_then(|ts| self.message_mut(&url.channel, ts)?.thread_ts.clone());
        self.answer_in(&url.channel, thread, body, now);
        Ok(())
    }

    fn answer_in(&mut self, channel: &str, thread_ts: Option<String>, body: &Value, now: Ms) {
        let text = body["text"].as_str().unwrap_or_default().to_owned();
        let blocks = body["blocks"].as_array().cloned();
        let thread_ts = body["thread_ts"].as_str().map(str::to_owned).or(thread_ts);
        if body["response_type"] == "in_channel" {
            let message = self.bot_message(channel, text, blocks, thread_ts, now);
            self.put(message, now);
            return;
        }
        self.ephemerals.push(Ephemeral {
            channel: channel.to_owned(),
            user: None,
            thread_ts,
            text,
            blocks,
            at_ms: now,
        });
    }

    // What both sides use.

    pub(super) fn bot_message(
        &mut self,
        channel: &str,
        text: String,
        blocks: Option<Vec<Value>>,
        thread_ts: Option<String>,
        now: Ms,
    ) -> Message {
        let root = thread_ts
            .as_deref()
            .map(|ts| self.message_mut(channel, ts).cloned());
        Message {
            channel: channel.to_owned(),
            ts: self.next_ts(now),
            // Answering a reply is not answering its thread: it stands in the channel too.
            broadcast: matches!(&root, Some(Some(root)) if root.thread_ts.is_some()),
            adrift: matches!(root, Some(None)),
            thread_ts,
            user: BOT_USER.to_owned(),
            by_bot: true,
            text,
            blocks,
            files: Vec::new(),
            reactions: BTreeMap::new(),
            at_ms: now,
            history: Vec::new(),
            deleted_at_ms: None,
        }
    }

    /// A message that is there.
    pub(super) fn message_mut(&mut self, channel: &str, ts: &str) -> Option<&mut Message> {
        let message = self.channels.get_mut(channel)?.messages.get_mut(ts)?;
        (message.deleted_at_ms.is_none()).then_some(message)
    }

    pub(super) fn store(&mut self, file: Stored) -> String {
        let id = format!("F{:010}", self.next_number());
        self.files.insert(id.clone(), file);
        id
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn uuid(&mut self) -> String {
        let (a, b) = (fastrand::u64(..), fastrand::u64(..));
        format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            b >> 52,
            b & 0xffff_ffff_ffff
        )
    }

    /// A time that no other message has.
    pub(super) fn next_ts(&mut self, now: Ms) -> String {
        self.last_ts = (now * 1000).max(self.last_ts + 1);
        format!(
            "{}.{:06}",
            self.last_ts / 1_000_000,
            self.last_ts % 1_000_000
        )
    }

    fn trigger(&mut self, now: Ms) -> String {
        let id = format!(
            "{}.{}.{:x}",
            self.next_number(),
            1_234_567_890,
            fastrand::u64(..)
        );
        let trigger = Trigger {
            at_ms: now,
            used: false,
        };
        self.triggers.insert(id.clone(), trigger);
        id
    }

    /// Whether a trigger may be exchanged now; it is used up.
    pub(super) fn use_trigger(&mut self, id: &str, now: Ms) -> Result<(), &'static str> {
        let trigger = self.triggers.get_mut(id).ok_or("invalid_trigger_id")?;
        if trigger.used {
            return Err("exchanged_trigger_id");
        }
        if now > trigger.at_ms + TRIGGER_MS {
            return Err("expired_trigger_id");
        }
        trigger.used = true;
        Ok(())
    }

    fn response_url(&mut self, channel: &str, ts: Option<&str>, now: Ms) -> String {
        let id = format!("{:x}{:x}", fastrand::u64(..), fastrand::u64(..));
        let url = ResponseUrl {
            channel: channel.to_owned(),
            ts: ts.map(str::to_owned),
            at_ms: now,
            uses: 0,
        };
        self.response_urls.insert(id.clone(), url);
        format!("{}/response/{id}", self.base)
    }

    fn subscribed(&self, kind: &str) -> bool {
        self.settings.events.iter().any(|e| e == kind)
    }

    fn user_brief(&self, user: &str) -> Value {
        let name = self.users.get(user).map_or(user, |u| &u.name);
        json!({"id": user, "username": name, "name": name, "team_id": TEAM})
    }

    /// The `message` object.
    pub(super) fn message_json(&self, message: &Message) -> Value {
        let mut json = json!({
            "type": "message", "user": message.user, "text": message.text, "ts": message.ts,
            "team": TEAM,
        });
        if message.by_bot {
            json["bot_id"] = BOT.into();
            json["app_id"] = APP.into();
        } else {
            json["client_msg_id"] = format!("msg-{}", message.ts).into();
        }
        if let Some(thread) = &message.thread_ts {
            json["thread_ts"] = thread.as_str().into();
            let root = self.channels.get(&message.channel);
            let root = root.and_then(|c| c.messages.get(thread));
            if let Some(root) = root.filter(|r| r.ts != message.ts) {
                json["parent_user_id"] = root.user.as_str().into();
            }
        }
        if let Some(blocks) = &message.blocks {
            json["blocks"] = json!(blocks);
        }
        if !message.files.is_empty() {
            let files = message.files.iter();
            json["files"] = files.map(|id| self.file_brief(id)).collect();
        }
        json
    }

    /// A file as events tell of it.
    fn file_brief(&self, id: &str) -> Value {
        match self.files.get(id).map(|file| &file.kind) {
            Some(FileKind::Unlisted) => json!({"id": id, "file_access": "check_file_info"}),
            _ => self.file_json(id, Ms::MAX),
        }
    }

    /// A file as it stands.
    pub(super) fn file_json(&self, id: &str, now: Ms) -> Value {
        let file = self.files.get(id);
        let Some(file) = file.filter(|file| file.kind != FileKind::Deleted) else {
            return json!({"id": id, "mode": "tombstone"});
        };
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '_'
            }
        };
        let name: String = file.name.chars().map(plain).collect();
        let own = format!("{}/files-pri/{id}/{name}", self.base);
        let (mode, url) = match &file.kind {
            FileKind::External => ("external", "https://docs.example.com/d/1"),
            FileKind::At(url) => ("hosted", url.as_str()),
            _ => ("hosted", own.as_str()),
        };
        let mut json = json!({
            "id": id, "name": file.name, "title": file.name, "mimetype": file.mime,
            "filetype": file.name.rsplit('.').next(), "size": file.length, "user": file.by,
            "mode": mode, "is_external": mode == "external", "url_private": url,
            "channels": [], "groups": [], "ims": [], "shares": {},
        });
        if mode == "hosted" {
            json["url_private_download"] = url.into();
        }
        let told = |at: Ms| now.saturating_sub(self.settings.share_ms) >= at;
        if let Some((channel, _)) = file.shared.as_ref().filter(|(_, at)| told(*at)) {
            let is_im = self.channels.get(channel).is_some_and(|c| c.is_im);
            json[if is_im { "ims" } else { "channels" }] = json!([channel]);
        }
        json
    }

    fn message_event(&self, message: &Message) -> Value {
        let is_im = self.channels.get(&message.channel).is_some_and(|c| c.is_im);
        let mut event = self.message_json(message);
        event["channel"] = message.channel.as_str().into();
        event["event_ts"] = message.ts.as_str().into();
        event["channel_type"] = if is_im { "im" } else { "channel" }.into();
        if !message.files.is_empty() {
            event["subtype"] = "file_share".into();
        }
        event
    }

    // The oracle.

    /// The messages of a channel that are to be seen, threads included, oldest first.
    pub fn seen(&self, channel: &str) -> Vec<Message> {
        let messages = self.channels.get(channel).into_iter();
        let messages = messages.flat_map(|c| c.messages.values());
        let seen = messages.filter(|m| m.deleted_at_ms.is_none() && !m.adrift);
        seen.cloned().collect()
    }

    /// Every message the app ever posted in a channel, deleted and unseen ones too.
    pub fn ever(&self, channel: &str) -> Vec<Message> {
        let messages = self.channels.get(channel).into_iter();
        let messages = messages.flat_map(|c| c.messages.values());
        messages.filter(|m| m.by_bot).cloned().collect()
    }
}

/// What a place in a window holds once somebody filled it in, or left it.
fn filled_in(element: &Value, given: Option<&str>) -> Value {
    if element["type"] != "static_select" {
        return json!({"type": element["type"], "value": given});
    }
    let mut options = element["options"].as_array().into_iter().flatten();
    let chosen = match given {
        Some(value) => options.find(|option| option["value"] == value),
        None => element.get("initial_option"),
    };
    json!({"type": "static_select", "selected_option": chosen})
}

/// What Slack makes of what a person types: escaped, and bare addresses in angle brackets.
fn as_kept(text: &str) -> String {
    let mention = format!("<@{BOT_USER}>");
    let pieces: Vec<String> = text.split(&mention).map(escaped).collect();
    pieces.join(&mention)
}

fn escaped(text: &str) -> String {
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let mut kept = String::with_capacity(text.len());
    for word in text.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end();
        if bare.starts_with("http://") || bare.starts_with("https://") {
            kept.push_str(&format!("<{bare}>{}", &word[bare.len()..]));
        } else {
            kept.push_str(word);
        }
    }
    kept
}
