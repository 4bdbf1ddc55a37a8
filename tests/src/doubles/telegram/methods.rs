//! What the bot does: the methods of the Bot API over the state, with the refusals of the real one.
//!
//! The order of checks is the real server's: text and formatting, keyboard, chat and access, the
//! message answered, the thread, and only then what the servers behind it refuse (length, buttons,
//! blocked by the user, too many requests).

use serde_json::{Value, json};

use super::args::Args;
use super::chat::{Access, Kind, Message, Standing, member_json};
use super::entities::{self, CAPTION_LIMIT, Formatted, MESSAGE_LIMIT};
use super::world::{Action, Refusal, Upload, World};
use crate::doubles::clock::Ms;

/// `getFile` serves files up to this size.
const DOWNLOAD_LIMIT: u64 = 20 << 20;
/// `sendDocument` takes files up to this size.
const UPLOAD_LIMIT: u64 = 50 << 20;
/// A button's data.
const BUTTON_DATA_BYTES: usize = 64;
/// A keyboard as a whole (an approximation: the real limit is not published).
const KEYBOARD_BYTES: usize = 10_000;
/// How old a message can be to be deleted.
const DELETE_WITHIN_MS: Ms = 48 * 3600 * 1000;
/// The topic that every forum has.
const GENERAL_TOPIC: i64 = 1;

const NOT_MODIFIED: &str = "message is not modified: specified new message content and reply \
markup are exactly the same as a current content and reply markup of the message";
const TOO_OLD_QUERY: &str = "query is too old and response timeout expired or query ID is invalid";

/// What a method needs of its chat.
#[derive(Clone, Copy, PartialEq)]
enum Need {
    Read,
    Edit,
    Write,
}

type Done = Result<Value, Refusal>;

impl World {
    /// Any method but `getUpdates`.
    pub fn call(&mut self, method: &str, args: &Args, now: Ms) -> Done {
        match method {
            "getme" => Ok(self.get_me()),
            "setwebhook" => self.set_webhook(args, false, now),
            "deletewebhook" => self.set_webhook(args, true, now),
            "getwebhookinfo" => Ok(self.webhook_info()),
            "sendmessage" => self.send_message(args, now),
            "editmessagetext" => self.edit_text(args, now),
            "editmessagemedia" => self.edit_media(args, now),
            "editmessagereplymarkup" => self.edit_keyboard(args, now),
            "deletemessage" => self.delete_message(args, now),
            "sendchataction" => self.send_action(args, now),
            "answercallbackquery" => self.answer_press(args, now),
            "setmycommands" => self.set_commands(args),
            "getmycommands" => self.get_commands(args),
            "deletemycommands" => self.delete_commands(args),
            "senddocument" => self.send_document(args, now),
            "getfile" => self.get_file(args),
            "getchat" => self.get_chat(args),
            "getchatmember" => self.get_member(args),
            "getchatadministrators" => self.get_administrators(args),
            "getchatmembercount" => self.member_count(args),
            "logout" | "close" => Ok(true.into()),
            _ => Err(Refusal::new(404, "Not Found: method not found")),
        }
    }

    fn get_me(&self) -> Value {
        let mut me = self.me.json();
        for (field, value) in [
            ("can_join_groups", true),
            ("can_read_all_group_messages", !self.settings.privacy),
            ("supports_inline_queries", false),
            ("can_connect_to_business", false),
            ("has_main_web_app", false),
        ] {
            me[field] = value.into();
        }
        me
    }

    // Messages.

    fn send_message(&mut self, args: &Args, now: Ms) -> Done {
        let formatted = text_of(args)?;
        let keyboard = keyboard_of(args)?;
        self.send(args, formatted, keyboard, None, now)
    }

    fn send_document(&mut self, args: &Args, now: Ms) -> Done {
        let upload = self.upload_of(args)?;
        let caption = entities::format(
            args.get("caption"),
            args.get("parse_mode"),
            args.get("caption_entities"),
            CAPTION_LIMIT,
            true,
        );
        let keyboard = keyboard_of(args)?;
        self.send(
            args,
            caption.map_err(Refusal::bad)?,
            keyboard,
            Some(upload),
            now,
        )
    }

    /// A message of words or with a document becomes one with another document, under its number. What
    /// is uploaded anew is another file each time, so this is never "not modified".
    fn edit_media(&mut self, args: &Args, now: Ms) -> Done {
        let wrong = |why: &str| Refusal::bad(format!("can't parse InputMedia: {why}"));
        let media: Value = serde_json::from_str(args.get("media"))
            .map_err(|_| Refusal::bad("can't parse input media JSON object"))?;
        if media["type"] != "document" {
            return Err(wrong("type of media is not supported"));
        }
        let given = media["media"].as_str().unwrap_or_default();
        if given.is_empty() {
            return Err(wrong("media not found"));
        }
        let upload = self.upload_named(args, given)?;
        let caption = entities::format(
            media["caption"].as_str().unwrap_or_default(),
            media["parse_mode"].as_str().unwrap_or_default(),
            "",
            CAPTION_LIMIT,
            true,
        );
        let caption = caption.map_err(Refusal::bad)?;
        let keyboard = keyboard_of(args)?;
        let message = self.own_message(args)?;
        self.admit(message.chat, true, now)?;
        let document = self.store(upload);
        let Some(stands) = self.open_chat(message.chat).message_mut(message.id) else {
            return Err(Refusal::bad("message to edit not found"));
        };
        stands.edit(caption.text, caption.entities, keyboard, now);
        stands.document = Some(document);
        let stands = stands.clone();
        Ok(self.message_json(&stands))
    }

    /// The file of the request: an uploaded one, or one the server has.
    fn upload_of(&self, args: &Args) -> Result<Upload, Refusal> {
        self.upload_named(args, args.get("document"))
    }

    fn upload_named(&self, args: &Args, given: &str) -> Result<Upload, Refusal> {
        let part = given.strip_prefix("attach://").unwrap_or("document");
        if let Some(upload) = args.files.get(part) {
            if upload.bytes.is_empty() {
                return Err(Refusal::bad("file must be non-empty"));
            }
            if upload.bytes.len() as u64 > UPLOAD_LIMIT {
                return Err(Refusal::new(413, "Request Entity Too Large"));
            }
            return Ok(upload.clone());
        }
        if given.is_empty() {
            return Err(Refusal::bad("there is no document in the request"));
        }
        if given.starts_with("http://") || given.starts_with("https://") {
            return Err(Refusal::bad("failed to get HTTP URL content"));
        }
        let stored = self.files.get(given).ok_or_else(|| {
            Refusal::bad("wrong remote file identifier specified: Wrong string length")
        })?;
        Ok(Upload {
            name: stored.name.clone(),
            mime: stored.mime.clone(),
            bytes: stored.bytes.clone(),
            claimed_size: Some(stored.size),
            photo: false,
        })
    }

    fn send(
        &mut self,
        args: &Args,
        formatted: Formatted,
        keyboard: Option<Value>,
        upload: Option<Upload>,
        now: Ms,
    ) -> Done {
        let chat_id = self.chat_of(args, Need::Write)?;
        let reply_to = self.reply_of(args, chat_id)?;
        let (thread, in_topic) = self.thread_of(args, chat_id, reply_to)?;
        self.admit(chat_id, true, now)?;
        let document = upload.map(|upload| self.store(upload));
        let id = self.number(chat_id);
        let message = Message {
            chat: chat_id,
            id,
            thread,
            in_topic,
            from: self.me.id,
            by_bot: true,
            text: formatted.text,
            entities: formatted.entities,
            keyboard,
            reply_to,
            document,
            at_ms: now,
            edited_at_ms: None,
            history: Vec::new(),
            deleted_at_ms: None,
            service: None,
        };
        let json = self.message_json(&message);
        let me = self.me.id;
        let chat = self.open_chat(chat_id);
        chat.sent += 1;
        chat.last_speaker = Some(me);
        chat.messages.insert(id, message);
        Ok(json)
    }

    fn edit_text(&mut self, args: &Args, now: Ms) -> Done {
        let formatted = text_of(args)?;
        let keyboard = keyboard_of(args)?;
        let message = self.own_message(args)?;
        if message.document.is_some() {
            return Err(Refusal::bad("there is no text in the message to edit"));
        }
        self.edit(&message, formatted, keyboard, now)
    }

    fn edit_keyboard(&mut self, args: &Args, now: Ms) -> Done {
        let keyboard = keyboard_of(args)?;
        let message = self.own_message(args)?;
        let formatted = Formatted {
            text: message.text.clone(),
            entities: message.entities.clone(),
        };
        self.edit(&message, formatted, keyboard, now)
    }

    fn edit(
        &mut self,
        message: &Message,
        formatted: Formatted,
        keyboard: Option<Value>,
        now: Ms,
    ) -> Done {
        self.admit(message.chat, true, now)?;
        let same = message.text == formatted.text
            && message.entities == formatted.entities
            && message.keyboard == keyboard;
        if same {
            return Err(Refusal::bad(NOT_MODIFIED));
        }
        let chat = self.open_chat(message.chat);
        let Some(stands) = chat.message_mut(message.id) else {
            return Err(Refusal::bad("message to edit not found"));
        };
        stands.edit(formatted.text, formatted.entities, keyboard, now);
        let stands = stands.clone();
        Ok(self.message_json(&stands))
    }

    /// The message to edit, which has to be the bot's.
    fn own_message(&mut self, args: &Args) -> Result<Message, Refusal> {
        let id = args.int("message_id", 0);
        if args.get("chat_id").is_empty() && id == 0 {
            return match args.get("inline_message_id") {
                "" => Err(Refusal::bad("message identifier is not specified")),
                _ => Err(Refusal::bad("MESSAGE_ID_INVALID")),
            };
        }
        let chat = self.chat_of(args, Need::Edit)?;
        let chat = self.open_chat(chat);
        match chat.message(id) {
            None => Err(Refusal::bad("message to edit not found")),
            Some(message) if !message.by_bot || message.service.is_some() => {
                Err(Refusal::bad("message can't be edited"))
            }
            Some(message) => Ok(message.clone()),
        }
    }

    fn delete_message(&mut self, args: &Args, now: Ms) -> Done {
        let chat_id = self.chat_of(args, Need::Edit)?;
        let me = self.me.id;
        let chat = self.open_chat(chat_id);
        let standing = chat.members.get(&me).copied();
        let is_admin = matches!(standing, Some(Standing::Administrator | Standing::Creator));
        let is_group = chat.is_group();
        let Some(message) = chat.message_mut(args.int("message_id", 0)) else {
            return Err(Refusal::bad("message to delete not found"));
        };
        if !message.by_bot && is_group && !is_admin {
            return Err(Refusal::bad("message can't be deleted"));
        }
        if message.at_ms + DELETE_WITHIN_MS < now && !(is_group && is_admin) {
            return Err(Refusal::bad("message can't be deleted for everyone"));
        }
        message.deleted_at_ms = Some(now);
        Ok(true.into())
    }

    fn send_action(&mut self, args: &Args, now: Ms) -> Done {
        const ACTIONS: [&str; 15] = [
            "cancel",
            "typing",
            "record_video",
            "upload_video",
            "record_audio",
            "record_voice",
            "upload_audio",
            "upload_voice",
            "upload_photo",
            "upload_document",
            "choose_sticker",
            "pick_up_location",
            "find_location",
            "record_video_note",
            "upload_video_note",
        ];
        let action = args.get("action").to_ascii_lowercase();
        if !ACTIONS.contains(&action.as_str()) {
            return Err(Refusal::bad("wrong parameter action in request"));
        }
        let chat = self.chat_of(args, Need::Write)?;
        self.admit(chat, false, now)?;
        let thread = args.int("message_thread_id", 0);
        self.actions.push(Action {
            chat,
            // Here the general topic has a number, unlike when sending.
            thread: (thread > 0).then_some(thread),
            action,
            at_ms: now,
        });
        Ok(true.into())
    }

    fn answer_press(&mut self, args: &Args, now: Ms) -> Done {
        let text = args.get("text");
        let patience = self.settings.callback_answer_ms;
        let press = self.presses.get_mut(args.get("callback_query_id"));
        let press = press.filter(|press| now <= press.at_ms + patience);
        let press = press.ok_or_else(|| Refusal::bad(TOO_OLD_QUERY))?;
        if entities::utf16_len(text) > 200 {
            return Err(Refusal::bad("MESSAGE_TOO_LONG"));
        }
        press.answered_at_ms.get_or_insert(now);
        if !text.is_empty() {
            press.answer = Some(text.to_owned());
        }
        Ok(true.into())
    }

    // Commands.

    fn set_commands(&mut self, args: &Args) -> Done {
        let commands = args.get("commands");
        let commands: Value = match commands {
            "" => json!([]),
            _ => serde_json::from_str(commands)
                .map_err(|_| Refusal::bad("can't parse commands JSON object"))?,
        };
        let Some(list) = commands.as_array() else {
            return Err(Refusal::bad("expected an Array of BotCommand"));
        };
        if list.len() > 100 {
            return Err(Refusal::bad("BOT_COMMANDS_TOO_MUCH"));
        }
        for command in list {
            let name = command["command"].as_str().unwrap_or_default();
            let name = name.strip_prefix('/').unwrap_or(name);
            let about = command["description"].as_str().unwrap_or_default();
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if name.is_empty() || name.len() > 32 || !name.chars().all(legal) {
                return Err(Refusal::bad("BOT_COMMAND_INVALID"));
            }
            if about.is_empty() || about.chars().count() > 256 {
                return Err(Refusal::bad("BOT_COMMAND_DESCRIPTION_INVALID"));
            }
        }
        let key = self.scope_of(args)?;
        self.commands.insert(key, commands);
        Ok(true.into())
    }

    fn get_commands(&mut self, args: &Args) -> Done {
        let key = self.scope_of(args)?;
        Ok(self.commands.get(&key).cloned().unwrap_or(json!([])))
    }

    fn delete_commands(&mut self, args: &Args) -> Done {
        let key = self.scope_of(args)?;
        self.commands.remove(&key);
        Ok(true.into())
    }

    /// Scope and language as one key, such as `chat:5:en`.
    fn scope_of(&self, args: &Args) -> Result<String, Refusal> {
        let language = args.get("language_code");
        let scope: Value = match args.get("scope") {
            "" => json!({"type": "default"}),
            scope => serde_json::from_str(scope)
                .map_err(|_| Refusal::bad("can't parse BotCommandScope JSON object"))?,
        };
        let kind = scope["type"].as_str().unwrap_or_default();
        let number = |field: &str| {
            let value = &scope[field];
            value.as_i64().or_else(|| value.as_str()?.parse().ok())
        };
        match kind {
            "default" | "all_private_chats" | "all_group_chats" | "all_chat_administrators" => {
                Ok(format!("{kind}:{language}"))
            }
            "chat" | "chat_administrators" | "chat_member" => {
                let chat = number("chat_id").filter(|id| self.chats.contains_key(id));
                let chat = chat.ok_or_else(|| Refusal::bad("chat not found"))?;
                let user = match kind {
                    "chat_member" => number("user_id").unwrap_or_default(),
                    _ => 0,
                };
                Ok(format!("{kind}:{chat}:{user}:{language}"))
            }
            _ => Err(Refusal::bad(
                "can't parse BotCommandScope: Unsupported type specified",
            )),
        }
    }

    // Files, chats, members.

    fn get_file(&mut self, args: &Args) -> Done {
        let id = args.get("file_id");
        if id.is_empty() {
            return Err(Refusal::bad("file_id not specified"));
        }
        let Some(file) = self.files.get_mut(id) else {
            return Err(Refusal::bad("invalid file_id"));
        };
        if file.size > DOWNLOAD_LIMIT {
            return Err(Refusal::bad("file is too big"));
        }
        file.linked = true;
        Ok(json!({
            "file_id": id, "file_unique_id": format!("AgAD{id}"), "file_size": file.size,
            "file_path": file.path,
        }))
    }

    /// The bytes behind a link that `getFile` gave.
    pub fn download(&self, path: &str) -> Option<(&[u8], &str)> {
        let mut files = self.files.values();
        let file = files.find(|f| f.linked && f.path == path)?;
        Some((&file.bytes, &file.mime))
    }

    fn get_chat(&mut self, args: &Args) -> Done {
        let id = self.chat_of(args, Need::Read)?;
        let person = self.people.get(&id).cloned();
        Ok(self.open_chat(id).full_json(person.as_ref()))
    }

    fn get_member(&mut self, args: &Args) -> Done {
        let chat = self.chat_of(args, Need::Read)?;
        let user = args.int("user_id", 0);
        if user <= 0 {
            return Err(Refusal::bad("invalid user_id specified"));
        }
        let person = match user == self.me.id {
            true => Some(self.me.clone()),
            false => self.people.get(&user).cloned(),
        };
        let person = person.ok_or_else(|| Refusal::bad("PARTICIPANT_ID_INVALID"))?;
        let chat = self.open_chat(chat);
        let standing = match (chat.kind, chat.members.get(&user)) {
            (Kind::Private, _) => Standing::Member,
            (_, Some(standing)) => *standing,
            (_, None) if person.is_bot => Standing::Member,
            (_, None) => Standing::Left,
        };
        Ok(member_json(&person, standing))
    }

    fn get_administrators(&mut self, args: &Args) -> Done {
        let id = self.chat_of(args, Need::Read)?;
        let chat = self.open_chat(id);
        if !chat.is_group() {
            return Err(Refusal::bad(
                "there are no administrators in the private chat",
            ));
        }
        let members = chat.members.clone();
        let admins = members
            .into_iter()
            .filter(|(_, s)| matches!(s, Standing::Creator | Standing::Administrator));
        let admins = admins.map(|(id, standing)| match id == self.me.id {
            true => member_json(&self.me, standing),
            false => member_json(self.person(id), standing),
        });
        Ok(admins.collect())
    }

    fn member_count(&mut self, args: &Args) -> Done {
        let id = self.chat_of(args, Need::Read)?;
        let members = self.open_chat(id).members.values();
        let inside = members.filter(|s| {
            !matches!(
                s,
                Standing::Left | Standing::Kicked | Standing::RestrictedOutside
            )
        });
        Ok((inside.count() + 1).into())
    }

    // Checks.

    /// The chat the call is about, if it is there and the bot may do this there.
    fn chat_of(&self, args: &Args, need: Need) -> Result<i64, Refusal> {
        let given = args.get("chat_id");
        if given.is_empty() {
            return Err(Refusal::bad("chat_id is empty"));
        }
        let chat = given.parse().ok().and_then(|id: i64| self.chats.get(&id));
        let chat = chat.ok_or_else(|| Refusal::bad("chat not found"))?;
        if let (Some(new), Need::Write) = (chat.migrated_to, need) {
            return Err(Refusal {
                migrate_to: Some(new),
                ..Refusal::bad("group chat was upgraded to a supergroup chat")
            });
        }
        let name = match chat.kind {
            Kind::Group => "group chat",
            _ => "supergroup chat",
        };
        let forbidden = |why: String| Err(Refusal::new(403, format!("Forbidden: {why}")));
        match chat.access {
            Access::Kicked => forbidden(format!("bot was kicked from the {name}")),
            Access::Left if chat.is_supergroup() || need != Need::Read => {
                forbidden(format!("bot is not a member of the {name}"))
            }
            Access::Blocked if need != Need::Read => {
                forbidden("bot was blocked by the user".to_owned())
            }
            Access::Deactivated if need != Need::Read => {
                forbidden("user is deactivated".to_owned())
            }
            _ => Ok(chat.id),
        }
    }

    /// What the message answers, in either of the two forms.
    fn reply_of(&self, args: &Args, chat: i64) -> Result<Option<i64>, Refusal> {
        let (id, lenient, other_chat) = match args.get("reply_parameters") {
            "" => {
                let id = args.int("reply_to_message_id", 0);
                (id, args.flag("allow_sending_without_reply"), None)
            }
            json => {
                let json: Value = serde_json::from_str(json)
                    .map_err(|_| Refusal::bad("can't parse reply parameters JSON object"))?;
                let id = json["message_id"].as_i64().unwrap_or_default();
                let lenient = json["allow_sending_without_reply"] == true;
                let other = json["chat_id"].as_i64().filter(|c| *c != chat);
                (id, lenient, other)
            }
        };
        if id <= 0 {
            return Ok(None);
        }
        let target_chat = self.chats.get(&other_chat.unwrap_or(chat));
        let found = target_chat.is_some_and(|c| c.message(id).is_some());
        match (found, other_chat) {
            (true, None) => Ok(Some(id)),
            (true, Some(_)) => Ok(None),
            (false, _) if lenient => Ok(None),
            (false, _) => Err(Refusal::bad("message to be replied not found")),
        }
    }

    /// The thread the message goes to, and whether it is a topic. A reply goes where the replied
    /// message is, whatever else is asked for.
    fn thread_of(
        &self,
        args: &Args,
        chat: i64,
        reply_to: Option<i64>,
    ) -> Result<(Option<i64>, bool), Refusal> {
        let Some(chat) = self.chats.get(&chat) else {
            return Ok((None, false));
        };
        let asked = args.int("message_thread_id", 0);
        let of_reply = reply_to.and_then(|id| {
            let target = chat.message(id)?;
            let own = chat.is_supergroup().then_some(id);
            target.thread.or(own.filter(|_| chat.kind != Kind::Forum))
        });
        if asked <= 0 {
            let in_topic = of_reply.is_some_and(|t| chat.topics.contains_key(&t));
            return Ok((of_reply, in_topic));
        }
        if asked == GENERAL_TOPIC && chat.kind == Kind::Forum {
            return Err(Refusal::bad("message thread not found"));
        }
        match chat.topics.get(&asked) {
            Some(topic) if topic.closed => Err(Refusal::bad("TOPIC_CLOSED")),
            Some(_) => Ok((Some(asked), true)),
            None if chat.kind == Kind::Supergroup && chat.message(asked).is_some() => {
                Ok((Some(asked), false))
            }
            None => Err(Refusal::bad("message thread not found")),
        }
    }

    /// Storms and rate limits.
    fn admit(&mut self, chat: i64, counts: bool, now: Ms) -> Result<(), Refusal> {
        if let Some(storms) = self.storms.get_mut(&chat)
            && let Some(storm) = storms.front_mut()
        {
            let retry_after = storm.retry_after;
            storm.left -= 1;
            if storm.left == 0 {
                storms.pop_front();
            }
            return Err(Refusal::too_many(retry_after));
        }
        let is_group = self.chats.get(&chat).is_some_and(|c| c.is_group());
        match self.settings.limits.filter(|_| counts) {
            Some(limits) => self
                .lately
                .admit(&limits, chat, is_group, now)
                .map_err(Refusal::too_many),
            None => Ok(()),
        }
    }
}

fn text_of(args: &Args) -> Result<Formatted, Refusal> {
    let text = args.get("text");
    if text.is_empty() {
        return Err(Refusal::bad("message text is empty"));
    }
    let mode = args.get("parse_mode");
    entities::format(text, mode, args.get("entities"), MESSAGE_LIMIT, false).map_err(Refusal::bad)
}

/// The inline keyboard of a request, in the form it is shown; other markups are taken and ignored.
fn keyboard_of(args: &Args) -> Result<Option<Value>, Refusal> {
    let markup = args.get("reply_markup");
    if markup.is_empty() {
        return Ok(None);
    }
    let markup: Value = serde_json::from_str(markup)
        .map_err(|_| Refusal::bad("can't parse reply keyboard markup JSON object"))?;
    if !markup.is_object() {
        return Err(Refusal::bad("object expected as reply markup"));
    }
    let Some(rows) = markup.get("inline_keyboard") else {
        return Ok(None);
    };
    let arrays = || {
        Refusal::bad(
            "field \"inline_keyboard\" of the InlineKeyboardMarkup must be an Array of Arrays",
        )
    };
    let mut shown = Vec::new();
    for row in rows.as_array().ok_or_else(arrays)? {
        let row = row.as_array().ok_or_else(arrays)?;
        let row: Result<Vec<Value>, Refusal> = row.iter().map(button).collect();
        shown.push(Value::Array(row?));
    }
    let shown = Value::Array(shown);
    if shown.to_string().len() > KEYBOARD_BYTES {
        return Err(Refusal::bad("reply markup is too long"));
    }
    Ok((shown != json!([])).then_some(shown))
}

fn button(given: &Value) -> Done {
    let refuse = |why: &str| {
        Err(Refusal::bad(format!(
            "can't parse inline keyboard button: {why}"
        )))
    };
    if !given.is_object() {
        return refuse("InlineKeyboardButton must be an Object");
    }
    let Some(text) = given["text"].as_str() else {
        return refuse("Can't find field \"text\"");
    };
    if text.trim().is_empty() {
        return Err(Refusal::bad("BUTTON_TEXT_INVALID"));
    }
    if let Some(url) = given["url"].as_str().filter(|url| !url.is_empty()) {
        return match super::markup::is_link(url) {
            true => Ok(json!({"text": text, "url": url})),
            false => Err(Refusal::bad("BUTTON_URL_INVALID")),
        };
    }
    match given["callback_data"].as_str() {
        Some(data) if data.len() > BUTTON_DATA_BYTES => Err(Refusal::bad("BUTTON_DATA_INVALID")),
        Some(data) if !data.is_empty() => Ok(json!({"text": text, "callback_data": data})),
        _ => refuse("Text buttons are unallowed in the inline keyboard"),
    }
}
