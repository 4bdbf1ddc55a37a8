//! What the app does: the methods of the Web API over the state, with the errors of the reference.
//!
//! An error is a word in a 200; only too many requests are a 429. Nothing here is idempotent: the
//! same post twice is two messages.

use serde_json::{Map, Value, json};

use super::blocks;
use super::world::{APP, BOT, BOT_USER, Ephemeral, FileKind, LongText, Stored, TEAM, View, World};
use crate::doubles::clock::Ms;

/// What a post can hold, in characters.
const POST_CHARS: usize = 40_000;
/// A view as JSON.
const VIEW_BYTES: usize = 250_000;

/// What a call comes to when it is not granted.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// `ok: false` with this `error`.
    Error(&'static str),
    /// The same, with `response_metadata.messages`.
    Explained(&'static str, Vec<String>),
    /// 429 with `Retry-After`.
    TooMany(i64),
    /// `missing_scope`: what was needed, and what there is.
    Scope(&'static str, String),
}

impl Refusal {
    /// The word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Error(error) | Self::Explained(error, _) => error,
            Self::TooMany(_) => "ratelimited",
            Self::Scope(..) => "missing_scope",
        }
    }
}

impl From<&'static str> for Refusal {
    fn from(error: &'static str) -> Self {
        Self::Error(error)
    }
}

impl From<blocks::Wrong> for Refusal {
    fn from(wrong: blocks::Wrong) -> Self {
        Self::Explained(wrong.error, wrong.messages)
    }
}

/// The parameters of a call; forms carry JSON as text.
#[derive(Clone, Debug, Default)]
pub struct Args(pub Map<String, Value>);

impl Args {
    fn str(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn need(&self, name: &str) -> Result<&str, Refusal> {
        match self.str(name) {
            "" => Err(Refusal::Explained(
                "invalid_arguments",
                vec![format!("[ERROR] missing required field: {name}")],
            )),
            value => Ok(value),
        }
    }

    fn text_of(&self, name: &str) -> String {
        match self.0.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        }
    }

    fn json(&self, name: &str) -> Option<Value> {
        match self.0.get(name)? {
            Value::Null => None,
            Value::String(text) if text.is_empty() => None,
            Value::String(text) => serde_json::from_str(text).ok().or(Some(Value::Null)),
            value => Some(value.clone()),
        }
    }

    fn number(&self, name: &str, absent: usize) -> usize {
        self.text_of(name).parse().unwrap_or(absent)
    }
}

type Done = Result<Value, Refusal>;

impl World {
    /// Any method, for the bearer of `token`.
    pub fn call(&mut self, method: &str, token: &str, args: &Args, now: Ms) -> Done {
        if token.is_empty() {
            return Err("not_authed".into());
        }
        let is_app = token == self.settings.app_token;
        if !is_app && token != self.settings.bot_token {
            return Err("invalid_auth".into());
        }
        if is_app != (method == "apps.connections.open") {
            return Err("not_allowed_token_type".into());
        }
        self.check_scope(method)?;
        self.admit(method, args.str("channel"), now)?;
        let scopes = &self.settings.scopes;
        if let Some(needed) = scope_of(method).filter(|needed| !scopes.iter().any(|s| s == needed))
        {
            return Err(Refusal::Scope(needed, scopes.join(",")));
        }
        match method {
            "auth.test" => Ok(self.auth_test()),
            "apps.connections.open" => Ok(self.open_connection()),
            "chat.postMessage" => self.post_message(args, now),
            "chat.update" => self.update(args, now),
            "chat.delete" => self.delete(args, now),
            "chat.postEphemeral" => self.post_ephemeral(args, now),
            "views.open" => self.open_view(args, now),
            "views.update" => self.update_view(args),
            "reactions.add" => self.react(args),
            "users.info" => self.user_info(args),
            "users.list" => self.list_users(args),
            "usergroups.users.list" => self.group_users(args),
            "conversations.info" => self.channel_info(args),
            "conversations.members" => self.members(args),
            "conversations.open" => self.open_im(args),
            "conversations.history" => self.history(args),
            "conversations.replies" => self.replies(args),
            "files.getUploadURLExternal" => self.upload_url(args, now),
            "files.completeUploadExternal" => self.complete_upload(args, now),
            "files.info" => self.file_info(args, now),
            "assistant.threads.setStatus" => self.set_status(args, now),
            _ => Err("unknown_method".into()),
        }
    }

    fn auth_test(&self) -> Value {
        json!({
            "url": "https://fake.slack.com/", "team": "Fake", "user": "majordomo",
            "team_id": TEAM, "user_id": BOT_USER, "bot_id": BOT, "is_enterprise_install": false,
        })
    }

    fn open_connection(&mut self) -> Value {
        let ticket = self.uuid();
        let base = self.base.replacen("http://", "ws://", 1);
        let url = format!("{base}/link/?ticket={ticket}&app_id={APP}");
        self.tickets.insert(ticket);
        json!({"url": url})
    }

    // Messages.

    fn post_message(&mut self, args: &Args, now: Ms) -> Done {
        let channel = self.writable(args)?;
        let (mut text, blocks) = self.content(args)?;
        let mut warning = None;
        if text.chars().count() > POST_CHARS {
            if self.settings.long_text == LongText::Refused {
                return Err("msg_too_long".into());
            }
            text = text.chars().take(POST_CHARS).collect();
            warning = Some("message_truncated");
        }
        let thread = thread_of(args)?;
        let mut message = self.bot_message(&channel, text, blocks, thread, now);
        message.broadcast |= args.text_of("reply_broadcast") == "true"
            || args.json("reply_broadcast") == Some(true.into());
        let json = self.message_json(&message);
        let ts = self.put(message, now).ts;
        let mut answer = json!({"channel": channel, "ts": ts, "message": json});
        if let Some(warning) = warning {
            answer["warning"] = warning.into();
            answer["response_metadata"] = json!({"warnings": [warning]});
        }
        Ok(answer)
    }

    fn update(&mut self, args: &Args, now: Ms) -> Done {
        let channel = args.need("channel")?.to_owned();
        let ts = args.need("ts")?.to_owned();
        if !self.channels.contains_key(&channel) {
            return Err("channel_not_found".into());
        }
        let Some(before) = self.message_mut(&channel, &ts).cloned() else {
            return Err("message_not_found".into());
        };
        if !before.by_bot {
            return Err("cant_update_message".into());
        }
        let (text, blocks) = self.content(args)?;
        if blocks.is_none() && text.chars().count() > self.settings.update_chars {
            return Err("msg_too_long".into());
        }
        let Some(stands) = self.message_mut(&channel, &ts) else {
            return Err("message_not_found".into());
        };
        stands.history.push(before.text.clone());
        stands.text = text.clone();
        // Blocks that are not given stay; an empty list removes them.
        if let Some(blocks) = blocks {
            stands.blocks = (!blocks.is_empty()).then_some(blocks);
        }
        let stands = stands.clone();
        let json = self.message_json(&stands);
        self.tell_of_change(&stands, &before, now);
        Ok(json!({"channel": channel, "ts": ts, "text": text, "message": json}))
    }

    fn delete(&mut self, args: &Args, now: Ms) -> Done {
        let channel = args.need("channel")?.to_owned();
        let ts = args.need("ts")?.to_owned();
        match self.message_mut(&channel, &ts) {
            None => Err("message_not_found".into()),
            Some(message) if !message.by_bot => Err("cant_delete_message".into()),
            Some(message) => {
                message.deleted_at_ms = Some(now);
                Ok(json!({"channel": channel, "ts": ts}))
            }
        }
    }

    fn post_ephemeral(&mut self, args: &Args, now: Ms) -> Done {
        let channel = self.writable(args)?;
        let user = args.need("user")?.to_owned();
        if !self.channels[&channel].members.contains(&user) {
            return Err("user_not_in_channel".into());
        }
        let (text, blocks) = self.content(args)?;
        let thread_ts = thread_of(args)?;
        self.ephemerals.push(Ephemeral {
            channel,
            user: Some(user),
            thread_ts,
            text,
            blocks,
            at_ms: now,
        });
        Ok(json!({"message_ts": self.next_ts(now)}))
    }

    /// The channel to write to. A user's id is taken for their direct message.
    fn writable(&mut self, args: &Args) -> Result<String, Refusal> {
        let given = args.need("channel")?.to_owned();
        if given.starts_with(['U', 'W']) && self.users.contains_key(&given) {
            return Ok(self.im(&given));
        }
        match self.channels.get(&given) {
            None => Err("channel_not_found".into()),
            Some(channel) if channel.archived => Err("is_archived".into()),
            Some(channel) if !channel.members.contains(BOT_USER) => Err("not_in_channel".into()),
            Some(_) => Ok(given),
        }
    }

    /// Text and blocks of a message.
    fn content(&self, args: &Args) -> Result<(String, Option<Vec<Value>>), Refusal> {
        let text = args.text_of("text");
        let markdown = args.text_of("markdown_text");
        let given = args.json("blocks");
        if !markdown.is_empty() && (!text.is_empty() || given.is_some()) {
            return Err("markdown_text_conflict".into());
        }
        if markdown.chars().count() > 12_000 {
            return Err("msg_too_long".into());
        }
        let text = if text.is_empty() { markdown } else { text };
        let blocks = given.map(|given| blocks::check(&given)).transpose()?;
        let no_blocks = blocks.as_ref().is_none_or(Vec::is_empty);
        if text.trim().is_empty() && no_blocks && args.json("attachments").is_none() {
            return Err("no_text".into());
        }
        Ok((text, blocks))
    }

    // Modals, reactions, status.

    fn open_view(&mut self, args: &Args, now: Ms) -> Done {
        let trigger = args.need("trigger_id")?.to_owned();
        let view = self.view_of(args)?;
        self.use_trigger(&trigger, now)?;
        let id = format!("V{:010}", self.next_number());
        Ok(self.keep_view(id, view))
    }

    fn update_view(&mut self, args: &Args) -> Done {
        let id = args.need("view_id")?.to_owned();
        let view = self.view_of(args)?;
        let Some(old) = self.views.get(&id) else {
            return Err("not_found".into());
        };
        let hash = args.str("hash");
        if !hash.is_empty() && old.view["hash"] != hash {
            return Err("hash_conflict".into());
        }
        Ok(self.keep_view(id, view))
    }

    fn view_of(&self, args: &Args) -> Done {
        let view = args.json("view").filter(Value::is_object);
        let Some(view) = view else {
            return Err("invalid_arguments".into());
        };
        if view.to_string().len() > VIEW_BYTES {
            return Err("view_too_large".into());
        }
        let title = view["title"]["text"].as_str().unwrap_or_default();
        if view["type"] != "modal" || title.is_empty() || title.chars().count() > 24 {
            return Err("invalid_arguments".into());
        }
        if view["private_metadata"].as_str().unwrap_or_default().len() > 3_000 {
            return Err("invalid_arguments".into());
        }
        let blocks = view["blocks"].as_array();
        let sound = |block: &Value| {
            let element = &block["element"];
            let options = element["options"].as_array().map(Vec::len);
            element["max_length"]
                .as_u64()
                .is_none_or(|most| most <= 3_000)
                && options.is_none_or(|options| (1..=100).contains(&options))
        };
        if !blocks.is_some_and(|blocks| blocks.iter().all(sound)) {
            return Err("invalid_arguments".into());
        }
        let blocks = blocks.map_or(0, Vec::len);
        match blocks {
            1..=100 => Ok(view),
            _ => Err("invalid_arguments".into()),
        }
    }

    fn keep_view(&mut self, id: String, mut view: Value) -> Value {
        view["id"] = id.as_str().into();
        view["team_id"] = TEAM.into();
        view["app_id"] = APP.into();
        view["bot_id"] = BOT.into();
        view["root_view_id"] = id.as_str().into();
        view["hash"] = format!("{}.{:x}", self.next_number(), fastrand::u32(..)).into();
        view["state"] = json!({"values": {}});
        let kept = View {
            id: id.clone(),
            view: view.clone(),
            answer: None,
        };
        self.views.insert(id, kept);
        json!({"view": view})
    }

    fn react(&mut self, args: &Args) -> Done {
        let (channel, ts) = (args.need("channel")?, args.need("timestamp")?);
        let name = args.need("name")?.trim_matches(':').to_owned();
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-+':".contains(c);
        if !name.chars().all(legal) {
            return Err("invalid_name".into());
        }
        let Some(message) = self.message_mut(channel, ts) else {
            return Err("message_not_found".into());
        };
        let users = message.reactions.entry(name).or_default();
        if users.iter().any(|u| u == BOT_USER) {
            return Err("already_reacted".into());
        }
        users.push(BOT_USER.to_owned());
        Ok(json!({}))
    }

    fn set_status(&mut self, args: &Args, now: Ms) -> Done {
        let channel = args.need("channel_id")?;
        let thread = args.need("thread_ts")?;
        if !self.channels.contains_key(channel) {
            return Err("channel_not_found".into());
        }
        let status = json!({"channel": channel, "thread_ts": thread,
            "status": args.str("status"), "at_ms": now});
        self.statuses.push(status);
        Ok(json!({}))
    }

    // People and channels.

    fn user_json(&self, id: &str) -> Value {
        let user = &self.users[id];
        json!({
            "id": id, "team_id": user.team.as_deref().unwrap_or(TEAM), "name": user.name,
            "deleted": user.deleted, "is_stranger": user.team.is_some(),
            "is_restricted": user.restricted, "is_ultra_restricted": false,
            "real_name": user.name, "is_bot": user.is_bot, "is_admin": false, "is_owner": false,
            "is_app_user": false, "tz": "Europe/Berlin", "updated": 1_700_000_000,
            "profile": {"real_name": user.name, "display_name": user.name},
        })
    }

    fn user_info(&self, args: &Args) -> Done {
        let id = args.need("user")?;
        if !self.users.contains_key(id) {
            return Err("user_not_found".into());
        }
        Ok(json!({"user": self.user_json(id)}))
    }

    fn list_users(&self, args: &Args) -> Done {
        let ids: Vec<&String> = self.users.keys().collect();
        let (ids, cursor) = page(&ids, args)?;
        let members: Vec<Value> = ids.iter().map(|id| self.user_json(id)).collect();
        Ok(json!({"members": members, "response_metadata": {"next_cursor": cursor}}))
    }

    fn group_users(&self, args: &Args) -> Done {
        match self.groups.get(args.need("usergroup")?) {
            Some(users) => Ok(json!({"users": users})),
            None => Err("no_such_subteam".into()),
        }
    }

    fn channel_info(&self, args: &Args) -> Done {
        let id = args.need("channel")?;
        let Some(channel) = self.channels.get(id) else {
            return Err("channel_not_found".into());
        };
        let is_member = channel.members.contains(BOT_USER);
        let mut json = json!({
            "id": id, "is_im": channel.is_im, "is_channel": !channel.is_im, "is_group": false,
            "is_mpim": false, "is_private": false, "is_archived": channel.archived,
            "is_member": is_member, "is_general": false, "created": 1_700_000_000,
        });
        match channel.is_im {
            true => {
                let other = channel.members.iter().find(|m| *m != BOT_USER);
                json["user"] = json!(other);
            }
            false => {
                json["name"] = channel.name.as_str().into();
                json["name_normalized"] = channel.name.as_str().into();
            }
        }
        Ok(json!({"channel": json}))
    }

    fn members(&self, args: &Args) -> Done {
        let Some(channel) = self.channels.get(args.need("channel")?) else {
            return Err("channel_not_found".into());
        };
        let members: Vec<&String> = channel.members.iter().collect();
        let (members, cursor) = page(&members, args)?;
        Ok(json!({"members": members, "response_metadata": {"next_cursor": cursor}}))
    }

    fn open_im(&mut self, args: &Args) -> Done {
        let users = args.need("users")?.to_owned();
        if users.contains(',') {
            return Err("method_not_supported_for_channel_type".into());
        }
        match self.users.get(&users) {
            None => Err("user_not_found".into()),
            Some(user) if user.deleted => Err("user_disabled".into()),
            Some(_) => Ok(json!({"channel": {"id": self.im(&users)}})),
        }
    }

    fn history(&self, args: &Args) -> Done {
        let id = args.need("channel")?;
        let Some(channel) = self.channels.get(id) else {
            return Err("channel_not_found".into());
        };
        if !channel.members.contains(BOT_USER) {
            return Err("not_in_channel".into());
        }
        let top = |m: &&super::world::Message| {
            m.thread_ts.as_ref().is_none_or(|t| *t == m.ts) || m.broadcast
        };
        let mut messages: Vec<_> = self.seen(id);
        messages.retain(|m| top(&m) && within(&m.ts, args));
        messages.reverse();
        self.messages_page(&messages, args)
    }

    fn replies(&self, args: &Args) -> Done {
        let (id, ts) = (args.need("channel")?, args.need("ts")?);
        if !self.channels.contains_key(id) {
            return Err("channel_not_found".into());
        }
        let mut messages = self.seen(id);
        messages.retain(|m| m.ts == ts || m.thread_ts.as_deref() == Some(ts));
        if messages.is_empty() {
            return Err("thread_not_found".into());
        }
        messages.retain(|m| m.ts == ts || within(&m.ts, args));
        self.messages_page(&messages, args)
    }

    fn messages_page(&self, messages: &[super::world::Message], args: &Args) -> Done {
        let (messages, cursor) = page(messages, args)?;
        let messages: Vec<Value> = messages.iter().map(|m| self.message_json(m)).collect();
        Ok(json!({
            "messages": messages, "has_more": !cursor.is_empty(),
            "response_metadata": {"next_cursor": cursor},
        }))
    }

    // Files.

    fn check_scope(&self, method: &str) -> Result<(), Refusal> {
        let needed = match method {
            "files.info" => "files:read",
            "files.getUploadURLExternal" | "files.completeUploadExternal" => "files:write",
            _ => return Ok(()),
        };
        match self.has_scope(needed) {
            true => Ok(()),
            false => Err("missing_scope".into()),
        }
    }

    fn has_scope(&self, needed: &str) -> bool {
        self.settings.scopes.iter().any(|scope| scope == needed)
    }

    fn upload_url(&mut self, args: &Args, now: Ms) -> Done {
        let name = args.need("filename")?.to_owned();
        let length = args.number("length", 0);
        if length == 0 {
            return Err("invalid_arguments".into());
        }
        let stored = Stored {
            name,
            mime: "application/octet-stream".to_owned(),
            length,
            bytes: None,
            by: BOT_USER.to_owned(),
            kind: FileKind::Hosted,
            asked_at: now,
            shared: None,
        };
        let id = self.store(stored);
        Ok(json!({"upload_url": format!("{}/upload/v1/{id}", self.base), "file_id": id}))
    }

    /// Bytes for an upload; false when they do not fit it, or come too late.
    pub fn upload(&mut self, id: &str, bytes: Vec<u8>, now: Ms) -> bool {
        let last = now - self.settings.upload_ms;
        let file = self.files.get_mut(id);
        let file =
            file.filter(|f| f.bytes.is_none() && f.length == bytes.len() && f.asked_at >= last);
        match file {
            Some(file) => {
                file.bytes = Some(bytes);
                true
            }
            None => false,
        }
    }

    fn complete_upload(&mut self, args: &Args, now: Ms) -> Done {
        let given = args.json("files").unwrap_or_default();
        let ids = given.as_array().into_iter().flatten();
        let ids: Vec<String> = ids
            .filter_map(|f| f["id"].as_str().map(str::to_owned))
            .collect();
        if ids.is_empty() {
            return Err("invalid_arguments".into());
        }
        let uploaded = |id: &String| {
            let file = self.files.get(id);
            file.is_some_and(|f| f.bytes.is_some() && f.shared.is_none())
        };
        if !ids.iter().all(uploaded) {
            return Err("file_not_found".into());
        }
        let mut channel = args.str("channel_id").to_owned();
        if !channel.is_empty() {
            let mut target = args.clone();
            target.0.insert("channel".to_owned(), channel.into());
            channel = self.writable(&target)?;
            let comment = args.text_of("initial_comment");
            let thread = thread_of(args)?;
            let mut message = self.bot_message(&channel, comment, None, thread, now);
            message.files = ids.clone();
            self.put(message, now);
        }
        for id in &ids {
            if let Some(file) = self.files.get_mut(id) {
                file.shared = Some((channel.clone(), now));
            }
        }
        let files: Vec<Value> = ids.iter().map(|id| self.file_json(id, now)).collect();
        Ok(json!({"files": files}))
    }

    /// An upload is known from its completion on.
    fn file_info(&self, args: &Args, now: Ms) -> Done {
        let id = args.need("file")?;
        match self.files.get(id).map(|file| (&file.kind, &file.shared)) {
            None | Some((_, None)) => Err("file_not_found".into()),
            Some((FileKind::Deleted, _)) => Err("file_deleted".into()),
            Some(_) => Ok(json!({"file": self.file_json(id, now)})),
        }
    }

    /// The bytes behind `url_private`, for the bearer of the bot's token; or where it leads to.
    pub fn download(&self, id: &str) -> Option<Result<(Vec<u8>, String), String>> {
        let file = self
            .files
            .get(id)
            .filter(|_| self.has_scope("files:read"))?;
        if let FileKind::Moved(to) = &file.kind {
            return Some(Err(to.clone()));
        }
        Some(Ok((file.bytes.clone()?, file.mime.clone())))
    }

    /// Storms and rate limits.
    fn admit(&mut self, method: &str, channel: &str, now: Ms) -> Result<(), Refusal> {
        for key in [channel, method] {
            let storms = self.storms.get_mut(key);
            let Some(storm) = storms.and_then(|s| s.front_mut().map(|s| &mut *s)) else {
                continue;
            };
            let retry_after = storm.0;
            storm.1 -= 1;
            if storm.1 == 0 {
                self.storms.get_mut(key).map(|s| s.pop_front());
            }
            return Err(Refusal::TooMany(retry_after));
        }
        let Some(limits) = self.settings.limits else {
            return Ok(());
        };
        let (key, allowed, ms) = match method {
            "chat.postMessage" => (channel, limits.posts_per_channel_per_s, 1_000),
            _ => (method, limits.calls_per_method_per_min, 60_000),
        };
        let times = self.lately.entry(key.to_owned()).or_default();
        while times.front().is_some_and(|at| *at + ms <= now) {
            times.pop_front();
        }
        if times.len() >= allowed.max(1) {
            let free_at = times[0] + ms;
            return Err(Refusal::TooMany((free_at - now + 999) / 1000));
        }
        times.push_back(now);
        Ok(())
    }
}

/// The scope that a method needs, of those that a test may take away.
fn scope_of(method: &str) -> Option<&'static str> {
    Some(match method {
        "chat.postMessage" | "chat.update" | "chat.delete" | "chat.postEphemeral" => "chat:write",
        "users.info" | "users.list" => "users:read",
        "usergroups.users.list" => "usergroups:read",
        "conversations.members" | "conversations.info" => "channels:read",
        _ => return None,
    })
}

/// Whether a method reads its arguments from JSON, too: those that read know forms alone.
pub fn takes_json(method: &str) -> bool {
    !matches!(
        method,
        "users.info"
            | "users.list"
            | "usergroups.users.list"
            | "conversations.info"
            | "conversations.members"
            | "conversations.history"
            | "conversations.replies"
            | "files.info"
    )
}

/// The thread to post in. A number instead of a string loses its last digits, and is refused.
fn thread_of(args: &Args) -> Result<Option<String>, Refusal> {
    let thread = args.text_of("thread_ts");
    if thread.is_empty() {
        return Ok(None);
    }
    let formed = thread.split_once('.').is_some_and(|(seconds, rest)| {
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        digits(seconds) && digits(rest)
    });
    match formed {
        true => Ok(Some(thread)),
        false => Err(Refusal::Explained(
            "invalid_thread_ts",
            vec![format!("[ERROR] {thread} is not a valid thread_ts")],
        )),
    }
}

fn within(ts: &str, args: &Args) -> bool {
    let (oldest, latest) = (args.text_of("oldest"), args.text_of("latest"));
    let inclusive =
        args.text_of("inclusive") == "true" || args.json("inclusive") == Some(true.into());
    let number = |s: &str| s.parse::<f64>().ok();
    let Some(at) = number(ts) else { return true };
    let after = number(&oldest).is_none_or(|o| at > o || (inclusive && at >= o));
    let before = number(&latest).is_none_or(|l| at < l || (inclusive && at <= l));
    after && before
}

/// One page of a list: at most `limit` items, 100 when not given.
fn page<'a, T>(items: &'a [T], args: &Args) -> Result<(&'a [T], String), Refusal> {
    let limit = args.number("limit", 100).clamp(1, 1000);
    let from = match args.str("cursor") {
        "" => 0,
        cursor => {
            let from = cursor.strip_prefix("next:").and_then(|n| n.parse().ok());
            from.ok_or(Refusal::Error("invalid_cursor"))?
        }
    };
    let items = items.get(from..).unwrap_or_default();
    let cursor = match items.len() > limit {
        true => format!("next:{}", from + limit),
        false => String::new(),
    };
    Ok((&items[..items.len().min(limit)], cursor))
}
