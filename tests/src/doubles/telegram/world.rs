//! Everything the fake server knows, and what people (not the bot) do in it.
//!
//! Pure: no IO, no clock; every entry is handed the time. What the bot does is in `methods`,
//! polling and webhooks in `feed`.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::chat::{
    Access, Chat, Document, Kind, Message, Person, Standing, Topic, entities_json, member_json,
};
use super::entities::{Kind as EntityKind, found_in};
use super::feed::{Delivery, Polls, Webhook};
use super::limits::{Lately, RateLimits};
use super::queue::Queue;
use crate::doubles::clock::Ms;
use crate::doubles::fault::{FailHow, Faults};

/// How long updates are kept.
const UPDATE_TTL_MS: Ms = 24 * 3600 * 1000;
/// How long a press waits in the queue; the real server keeps them 150 s.
const PRESS_TTL_MS: Ms = 150 * 1000;
/// What is kept of the log of calls.
const CALLS_KEPT: usize = 200_000;

/// What a test may set before start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The bot's token: its number, a colon and 35 characters.
    pub token: String,
    /// The bot's username.
    pub bot_username: String,
    /// Privacy mode: in groups the bot gets only what is meant for it. Off here, so that a client
    /// has to choose for itself.
    pub privacy: bool,
    /// How long a press can be answered.
    pub callback_answer_ms: i64,
    /// How long the second of two 409s in a row is held back; 3 s on the real server.
    pub conflict_pause_ms: i64,
    /// Whether a poll that repeats its offset within 3 s is held for 3 s, and within 0.5 s gets
    /// one update only, as on the real server.
    pub poll_haste: bool,
    /// How much faster than the real one the webhook retries.
    pub webhook_speed: f64,
    /// Rate limits; none by default.
    pub limits: Option<RateLimits>,
    /// The id of the first update; chosen at random when absent, as the real server does.
    pub first_update_id: Option<i64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            token: "7000000001:AAFakeFakeFakeFakeFakeFakeFakeFake1".to_owned(),
            bot_username: "fake_majordomo_bot".to_owned(),
            privacy: false,
            callback_answer_ms: 15_000,
            conflict_pause_ms: 3_000,
            poll_haste: true,
            webhook_speed: 1.0,
            limits: None,
            first_update_id: None,
        }
    }
}

/// Why the server says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `error_code` and HTTP status.
    pub code: u16,
    /// `description`.
    pub description: String,
    /// `parameters.retry_after`.
    pub retry_after: Option<i64>,
    /// `parameters.migrate_to_chat_id`.
    pub migrate_to: Option<i64>,
    /// How long the server waits before it says so.
    pub held_ms: i64,
}

impl Refusal {
    /// A refusal with its full description.
    pub fn new(code: u16, description: impl Into<String>) -> Self {
        Self {
            code,
            description: description.into(),
            retry_after: None,
            migrate_to: None,
            held_ms: 0,
        }
    }

    /// 400.
    pub fn bad(what: impl std::fmt::Display) -> Self {
        Self::new(400, format!("Bad Request: {what}"))
    }

    /// 429.
    pub fn too_many(retry_after: i64) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(429, format!("Too Many Requests: retry after {retry_after}"))
        }
    }
}

/// One call as the server saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Counts from 1.
    pub seq: u64,
    /// When it came.
    pub at_ms: Ms,
    /// When the answer was ready; absent while it is under way or when it hung.
    pub done_ms: Option<Ms>,
    /// The method, lower case.
    pub method: String,
    /// Its parameters, as strings.
    pub args: BTreeMap<String, String>,
    /// `None` while under way or when nothing was done, otherwise 200 or the error code.
    pub code: Option<u16>,
    /// The error's description.
    pub description: Option<String>,
    /// What was done to it.
    pub fault: Option<FailHow>,
}

/// A `sendChatAction`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Where.
    pub chat: i64,
    /// In which topic.
    pub thread: Option<i64>,
    /// `typing` and the like.
    pub action: String,
    /// When.
    pub at_ms: Ms,
}

/// A press of a button, and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Press {
    /// The callback query's id.
    pub id: String,
    /// The update that carries it, if it was delivered at all.
    pub update_id: Option<i64>,
    /// Who pressed.
    pub user: i64,
    /// The button's data.
    pub data: String,
    /// When.
    pub at_ms: Ms,
    /// When the bot answered.
    pub answered_at_ms: Option<Ms>,
    /// What the answer said.
    pub answer: Option<String>,
}

/// A file the server holds.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The size the server tells.
    pub size: u64,
    /// Its name.
    pub name: String,
    /// Its type.
    pub mime: String,
    /// Where it is downloaded from.
    pub path: String,
    /// Whether the link is still good.
    pub linked: bool,
}

/// A file somebody sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Its name.
    pub name: String,
    /// Its type.
    pub mime: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The size the server tells, when it is to be another than that of the bytes.
    #[serde(default)]
    pub claimed_size: Option<u64>,
    /// Whether it is sent as a photo: then it has sizes, and no name.
    #[serde(default)]
    pub photo: bool,
}

/// Something a person writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Say {
    /// Where; made when it is new.
    pub chat: i64,
    /// Who; made when they are new.
    pub user: i64,
    /// What, or the caption.
    pub text: String,
    /// In answer to.
    #[serde(default)]
    pub reply_to: Option<i64>,
    /// In which topic.
    #[serde(default)]
    pub topic: Option<i64>,
    /// Sent when, in seconds since the epoch: an old date is what an outage leaves.
    #[serde(default)]
    pub date: Option<i64>,
    /// With a file.
    #[serde(default)]
    pub document: Option<Upload>,
}

impl Say {
    /// A plain message.
    pub fn new(chat: i64, user: i64, text: impl Into<String>) -> Self {
        Self {
            chat,
            user,
            text: text.into(),
            reply_to: None,
            topic: None,
            date: None,
            document: None,
        }
    }

    /// As a reply.
    pub fn replying_to(self, message: i64) -> Self {
        Self {
            reply_to: Some(message),
            ..self
        }
    }

    /// In a topic.
    pub fn in_topic(self, topic: i64) -> Self {
        Self {
            topic: Some(topic),
            ..self
        }
    }

    /// With this date, in seconds since the epoch.
    pub fn dated(self, date: i64) -> Self {
        Self {
            date: Some(date),
            ..self
        }
    }

    /// With a file; the text is its caption.
    pub fn with_document(self, name: &str, mime: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let document = Some(Upload {
            name: name.to_owned(),
            mime: mime.to_owned(),
            bytes: bytes.into(),
            claimed_size: None,
            photo: false,
        });
        Self { document, ..self }
    }

    /// With a photo; the text is its caption.
    pub fn with_photo(self, bytes: impl Into<Vec<u8>>) -> Self {
        let document = Some(Upload {
            name: "photo.jpg".to_owned(),
            mime: "image/jpeg".to_owned(),
            bytes: bytes.into(),
            claimed_size: None,
            photo: true,
        });
        Self { document, ..self }
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Its number in the chat.
    pub message_id: i64,
    /// The update that tells the bot, if the bot is told.
    pub update_id: Option<i64>,
}

/// 429s that a chat still has to give.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    pub(super) retry_after: i64,
    pub(super) left: usize,
}

/// The state of the fake server.
#[derive(Debug)]
pub struct World {
    pub(super) settings: Settings,
    pub(super) me: Person,
    pub(super) people: BTreeMap<i64, Person>,
    pub(super) chats: BTreeMap<i64, Chat>,
    pub(super) queue: Queue,
    pub(super) allowed: Option<Vec<String>>,
    pub(super) polls: Polls,
    pub(super) webhook: Option<Webhook>,
    pub(super) webhook_free_at: Ms,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) shuffled: bool,
    pub(super) files: BTreeMap<String, Stored>,
    pub(super) presses: BTreeMap<String, Press>,
    pub(super) commands: BTreeMap<String, Value>,
    pub(super) actions: Vec<Action>,
    pub(super) calls: VecDeque<Call>,
    pub(super) call_count: u64,
    /// The faults that wait.
    pub faults: Faults,
    pub(super) storms: BTreeMap<i64, VecDeque<Storm>>,
    pub(super) lately: Lately,
    next_shared_id: i64,
    next_file: u64,
    next_press: u64,
}

impl World {
    /// A server with one bot and nobody else.
    pub fn new(settings: Settings) -> Self {
        let bot = settings.token.split(':').next().unwrap_or_default();
        let me = Person {
            id: bot.parse().unwrap_or(1),
            first_name: "Majordomo".to_owned(),
            username: Some(settings.bot_username.clone()),
            is_bot: true,
        };
        let first = settings.first_update_id;
        let first = first.unwrap_or_else(|| fastrand::i64(2_000_001..1_000_000_000));
        Self {
            me,
            people: BTreeMap::new(),
            chats: BTreeMap::new(),
            queue: Queue::new(first),
            allowed: None,
            polls: Polls::default(),
            webhook: None,
            webhook_free_at: 0,
            deliveries: Vec::new(),
            shuffled: false,
            files: BTreeMap::new(),
            presses: BTreeMap::new(),
            commands: BTreeMap::new(),
            actions: Vec::new(),
            calls: VecDeque::new(),
            call_count: 0,
            faults: Faults::default(),
            storms: BTreeMap::new(),
            lately: Lately::default(),
            next_shared_id: 1,
            next_file: 1,
            next_press: 1,
            settings,
        }
    }

    /// Opens a call in the log and says what is to be done to it.
    pub fn begin_call(
        &mut self,
        method: &str,
        args: BTreeMap<String, String>,
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
            code: None,
            description: None,
            fault,
        });
        (self.call_count, fault)
    }

    /// Closes it.
    pub fn end_call(&mut self, seq: u64, result: Result<(), &Refusal>, now: Ms) {
        let call = self.calls.iter_mut().rev().find(|c| c.seq == seq);
        if let Some(call) = call {
            call.done_ms = Some(now);
            call.code = Some(result.map_or_else(|r| r.code, |()| 200));
            call.description = result.err().map(|r| r.description.clone());
        }
    }

    // What people do.

    /// The person, made when new.
    pub fn person(&mut self, id: i64) -> &mut Person {
        self.people.entry(id).or_insert_with(|| Person::unknown(id))
    }

    /// The chat, made when new.
    pub fn open_chat(&mut self, id: i64) -> &mut Chat {
        self.chats.entry(id).or_insert_with(|| Chat::by_number(id))
    }

    /// Somebody writes.
    pub fn says(&mut self, say: Say, now: Ms) -> Said {
        self.person(say.user);
        let document = say.document.map(|upload| self.store(upload));
        let chat = self.open_chat(say.chat);
        if chat.is_group() {
            chat.members.entry(say.user).or_insert(Standing::Member);
        }
        let thread = say.topic.filter(|t| *t != 1).or_else(|| {
            // In a supergroup a reply carries the thread of what it answers, topic or not.
            let target = chat.message(say.reply_to?)?;
            chat.is_supergroup()
                .then_some(target.thread.unwrap_or(target.id))
        });
        let message_id = self.number(say.chat);
        let at_ms = say.date.map_or(now, |date| date * 1000);
        let chat = self.open_chat(say.chat);
        let message = Message {
            chat: say.chat,
            id: message_id,
            thread,
            in_topic: thread.is_some_and(|t| chat.topics.contains_key(&t)),
            from: say.user,
            by_bot: false,
            entities: found_in(&say.text),
            text: say.text,
            keyboard: None,
            reply_to: say.reply_to,
            document,
            at_ms,
            edited_at_ms: None,
            history: Vec::new(),
            deleted_at_ms: None,
            service: None,
        };
        let heard = self.hears(&message);
        let chat = self.open_chat(say.chat);
        chat.last_speaker = Some(say.user);
        chat.messages.insert(message_id, message);
        let update_id = heard
            .then(|| self.tell_of(say.chat, message_id, "message", at_ms, now))
            .flatten();
        Said {
            message_id,
            update_id,
        }
    }

    /// Somebody edits what they wrote.
    pub fn edits(&mut self, chat: i64, message: i64, text: &str, now: Ms) -> Option<i64> {
        let entities = found_in(text);
        let stands = self.chats.get_mut(&chat)?.message_mut(message)?;
        stands.edit(text.to_owned(), entities, None, now);
        let stands = stands.clone();
        self.hears(&stands)
            .then(|| self.tell_of(chat, message, "edited_message", now, now))
            .flatten()
    }

    /// Somebody deletes a message. The bot is never told.
    pub fn deletes(&mut self, chat: i64, message: i64, now: Ms) -> bool {
        let chat = self.chats.get_mut(&chat);
        let message = chat.and_then(|c| c.message_mut(message));
        if let Some(message) = message {
            message.deleted_at_ms = Some(now);
            return true;
        }
        false
    }

    /// Somebody presses a button, which may be there no more.
    pub fn press(&mut self, chat: i64, message: i64, user: i64, data: &str, now: Ms) -> Press {
        self.person(user);
        let id = format!("{}{:09}", self.me.id, self.next_press);
        self.next_press += 1;
        let carrier = match self.chats.get(&chat).and_then(|c| c.message(message)) {
            Some(message) => self.message_json(message),
            // What the bot gets of a message that is gone.
            None => json!({"chat": self.chat_json(chat), "message_id": message, "date": 0}),
        };
        let payload = json!({
            "id": id, "from": self.person(user).json(), "message": carrier,
            "chat_instance": format!("{}", chat.wrapping_mul(7919)), "data": data,
        });
        let lane = user + (3 << 33);
        let update_id = self.tell("callback_query", payload, lane, now + PRESS_TTL_MS);
        let press = Press {
            id: id.clone(),
            update_id,
            user,
            data: data.to_owned(),
            at_ms: now,
            answered_at_ms: None,
            answer: None,
        };
        self.presses.insert(id, press.clone());
        press
    }

    /// A forum with these topics; answers their numbers.
    pub fn add_forum(&mut self, id: i64, topics: &[&str], founder: i64, now: Ms) -> Vec<i64> {
        self.person(founder);
        let chat = self.open_chat(id);
        chat.kind = Kind::Forum;
        chat.members.insert(founder, Standing::Creator);
        let add = |name: &&str| self.add_topic(id, name, founder, now);
        topics.iter().map(add).collect()
    }

    /// One more topic: its number is that of the service message that opens it.
    fn add_topic(&mut self, chat_id: i64, name: &str, founder: i64, now: Ms) -> i64 {
        let id = self.number(chat_id);
        let topic = Topic {
            name: name.to_owned(),
            closed: false,
        };
        let chat = self.open_chat(chat_id);
        chat.topics.insert(id, topic);
        let created = json!({"name": name, "icon_color": 7_322_096});
        let message = service(chat_id, id, founder, ("forum_topic_created", created), now);
        let message = Message {
            thread: Some(id),
            in_topic: true,
            ..message
        };
        chat.messages.insert(id, message);
        id
    }

    /// A group becomes a supergroup. Answers its new number.
    pub fn migrate(&mut self, old: i64, now: Ms) -> i64 {
        let new = -1_000_000_000_000 - old.abs();
        let group = self.open_chat(old);
        group.migrated_to = Some(new);
        let (title, members) = (group.title.clone(), group.members.clone());
        let founder = members.keys().next().copied().unwrap_or(1);
        self.person(founder);
        let id = self.number(old);
        let message = service(old, id, founder, ("migrate_to_chat_id", new.into()), now);
        self.open_chat(old).messages.insert(id, message);
        self.tell_of(old, id, "message", now, now);
        let chat = self.open_chat(new);
        chat.title = title;
        chat.members = members;
        let id = self.number(new);
        let message = service(new, id, founder, ("migrate_from_chat_id", old.into()), now);
        self.open_chat(new).messages.insert(id, message);
        self.tell_of(new, id, "message", now, now);
        new
    }

    /// What the bot may do in a chat changes; it is told by `my_chat_member`, except of a
    /// deactivated account.
    pub fn set_access(&mut self, chat: i64, access: Access, now: Ms) {
        let standing = |access| match access {
            Access::Open => Some(Standing::Member),
            Access::Blocked | Access::Kicked => Some(Standing::Kicked),
            Access::Left => Some(Standing::Left),
            Access::Deactivated => None,
        };
        let stands = self.open_chat(chat);
        let before = std::mem::replace(&mut stands.access, access);
        let (Some(old), Some(new)) = (standing(before), standing(access)) else {
            return;
        };
        if before == access {
            return;
        }
        let by = match stands.is_group() {
            true => stands.members.keys().next().copied().unwrap_or(1),
            false => chat,
        };
        let by = self.person(by).json();
        let payload = json!({
            "chat": self.chat_json(chat), "from": by, "date": now / 1000,
            "old_chat_member": member_json(&self.me, old),
            "new_chat_member": member_json(&self.me, new),
        });
        self.tell(
            "my_chat_member",
            payload,
            chat + (5 << 33),
            now + UPDATE_TTL_MS,
        );
    }

    /// Somebody's standing in a group changes. Bots hear of it only when they ask for
    /// `chat_member`.
    pub fn set_standing(&mut self, chat: i64, user: i64, standing: Standing, now: Ms) {
        let person = self.person(user).clone();
        let members = &mut self.open_chat(chat).members;
        let old = members.insert(user, standing).unwrap_or(Standing::Left);
        let payload = json!({
            "chat": self.chat_json(chat), "from": person.json(), "date": now / 1000,
            "old_chat_member": member_json(&person, old),
            "new_chat_member": member_json(&person, standing),
        });
        self.tell(
            "chat_member",
            payload,
            user + (6 << 33),
            now + UPDATE_TTL_MS,
        );
    }

    /// Any update at all, of a kind nobody knows or in a form nobody expects.
    pub fn raw(&mut self, kind: &str, payload: Value, now: Ms) -> i64 {
        let lane = (11 << 33) + self.queue.next_id();
        self.queue.push(kind, payload, lane, now + UPDATE_TTL_MS)
    }

    // What both sides use.

    /// The number of the next message in a chat: supergroups count for themselves, all other
    /// chats of an account count together.
    pub(super) fn number(&mut self, chat: i64) -> i64 {
        if self.open_chat(chat).is_supergroup() {
            return self.open_chat(chat).number();
        }
        self.next_shared_id += 1;
        self.next_shared_id - 1
    }

    /// Keeps a file.
    pub(super) fn store(&mut self, upload: Upload) -> Document {
        let number = self.next_file;
        self.next_file += 1;
        let file_id = format!("BQACAgIAAxkBAAFake{number:08}");
        let size = upload.claimed_size.unwrap_or(upload.bytes.len() as u64);
        let extension = upload.name.rsplit_once('.').map_or("bin", |(_, e)| e);
        let stored = Stored {
            path: format!("documents/file_{number}.{extension}"),
            size,
            bytes: upload.bytes,
            name: upload.name.clone(),
            mime: upload.mime.clone(),
            linked: false,
        };
        self.files.insert(file_id.clone(), stored);
        Document {
            file_id,
            name: upload.name,
            mime: upload.mime,
            size,
            photo: upload.photo,
        }
    }

    /// Whether the bot is told of this message.
    fn hears(&self, message: &Message) -> bool {
        let Some(chat) = self.chats.get(&message.chat) else {
            return false;
        };
        if chat.access != Access::Open || chat.migrated_to.is_some() {
            return false;
        }
        if !chat.is_group() || !self.settings.privacy {
            return true;
        }
        let standing = chat.members.get(&self.me.id);
        if matches!(standing, Some(Standing::Creator | Standing::Administrator)) {
            return true;
        }
        let target = message.reply_to.and_then(|id| chat.messages.get(&id));
        let text = message.text.to_lowercase();
        let name = format!("@{}", self.settings.bot_username.to_lowercase());
        let commands = message
            .entities
            .iter()
            .any(|e| e.kind == EntityKind::BotCommand);
        target.is_some_and(|m| m.by_bot)
            || text.contains(&name)
            || (commands && chat.sent > 0 && !text.contains('@'))
    }

    /// Tells of a message, unless it is so old that its update has expired already.
    fn tell_of(&mut self, chat: i64, message: i64, kind: &str, dated: Ms, now: Ms) -> Option<i64> {
        let expires_at = dated.max(0) + UPDATE_TTL_MS;
        if expires_at <= now {
            return None;
        }
        let message = self.chats.get(&chat)?.messages.get(&message)?;
        let payload = self.message_json(message);
        self.tell(kind, payload, chat, expires_at)
    }

    /// Queues an update if the bot wants its kind.
    fn tell(&mut self, kind: &str, payload: Value, lane: i64, expires_at: Ms) -> Option<i64> {
        let wanted = match &self.allowed {
            Some(kinds) => kinds.iter().any(|k| k == kind),
            None => kind != "chat_member",
        };
        wanted.then(|| self.queue.push(kind, payload, lane, expires_at))
    }

    pub(super) fn chat_json(&self, chat: i64) -> Value {
        match self.chats.get(&chat) {
            Some(chat) => chat.json(self.people.get(&chat.id)),
            None => json!({"id": chat, "type": "private", "first_name": ""}),
        }
    }

    /// The `Message` object, with what it answers.
    pub fn message_json(&self, message: &Message) -> Value {
        let mut json = self.flat_json(message);
        let chat = self.chats.get(&message.chat);
        // A message in a topic that answers nothing answers the message that opened the topic.
        let target = message
            .reply_to
            .or(message.thread.filter(|_| message.in_topic));
        let target = target
            .filter(|id| *id != message.id)
            .and_then(|id| chat?.message(id));
        if let Some(target) = target {
            json["reply_to_message"] = self.flat_json(target);
        }
        json
    }

    fn flat_json(&self, message: &Message) -> Value {
        let from = match message.by_bot {
            true => self.me.json(),
            false => match self.people.get(&message.from) {
                Some(person) => person.json(),
                None => Person::unknown(message.from).json(),
            },
        };
        let mut json = json!({
            "message_id": message.id, "from": from, "chat": self.chat_json(message.chat),
            "date": message.at_ms.div_euclid(1000),
        });
        if let Some(at) = message.edited_at_ms {
            json["edit_date"] = at.div_euclid(1000).into();
        }
        if let Some(thread) = message.thread {
            json["message_thread_id"] = thread.into();
            if message.in_topic {
                json["is_topic_message"] = true.into();
            }
        }
        if let Some((field, value)) = &message.service {
            json[field] = value.clone();
            return json;
        }
        let (text, entities) = match &message.document {
            Some(photo) if photo.photo => {
                let size = |id: String, width: u32, height: u32, bytes: u64| {
                    json!({"file_id": id, "file_unique_id": format!("AQAD{id}"), "width": width,
                        "height": height, "file_size": bytes})
                };
                // A thumbnail comes first, and is none of the files that this server gives out.
                json["photo"] = json!([
                    size(format!("{}s", photo.file_id), 90, 60, 1_200),
                    size(photo.file_id.clone(), 1280, 853, photo.size),
                ]);
                ("caption", "caption_entities")
            }
            Some(document) => {
                json["document"] = json!({
                    "file_id": document.file_id, "file_unique_id": format!("AgAD{}", document.file_id),
                    "file_name": document.name, "mime_type": document.mime,
                    "file_size": document.size,
                });
                ("caption", "caption_entities")
            }
            None => ("text", "entities"),
        };
        if !message.text.is_empty() || message.document.is_none() {
            json[text] = message.text.as_str().into();
        }
        if !message.entities.is_empty() {
            json[entities] = entities_json(&message.entities);
        }
        if let Some(keyboard) = &message.keyboard {
            json["reply_markup"] = json!({"inline_keyboard": keyboard});
        }
        json
    }

    // The oracle.

    /// The chat as everybody sees it now: nothing deleted, oldest first.
    pub fn seen(&self, chat: i64) -> Vec<Message> {
        let messages = self
            .chats
            .get(&chat)
            .into_iter()
            .flat_map(|c| c.messages.values());
        messages
            .filter(|m| m.deleted_at_ms.is_none())
            .cloned()
            .collect()
    }

    /// Every message of a chat, deleted ones too.
    pub fn ever(&self, chat: i64) -> Vec<Message> {
        let messages = self
            .chats
            .get(&chat)
            .into_iter()
            .flat_map(|c| c.messages.values());
        messages.cloned().collect()
    }
}

fn service(chat: i64, id: i64, from: i64, what: (&str, Value), now: Ms) -> Message {
    Message {
        chat,
        id,
        thread: None,
        in_topic: false,
        from,
        by_bot: false,
        text: String::new(),
        entities: Vec::new(),
        keyboard: None,
        reply_to: None,
        document: None,
        at_ms: now,
        edited_at_ms: None,
        history: Vec::new(),
        deleted_at_ms: None,
        service: Some((what.0.to_owned(), what.1)),
    }
}
