//! What a Telegram update says. Pure.
//!
//! In a private chat everything is for us. In a group only what names us, or replies to us: all else is
//! between people.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use teloxide_core::types::{
    CallbackQuery, Document, MaybeInaccessibleMessage, Message, MessageEntityKind, MessageKind,
    PhotoSize, Update, UpdateKind, User,
};

use shared::run::Timestamp;
use shared::store::{Mail, NewMail};

use crate::channels::seal::sealed;
use crate::channels::{Attached, Incoming, Says, Sender};

/// What is said to what cannot be taken.
const UNREADABLE: &str =
    "I cannot read this kind of message yet: send me words, a document, or a picture.";
/// What a file is sent for that comes without a word.
const ABOUT_A_FILE: &str = "Say what is in this file.";
/// What a photo is sent for that comes without a word.
const ABOUT_A_PHOTO: &str = "Say what is in this picture.";

/// The bot that an update came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Me {
    /// Its number.
    pub id: u64,
    /// Its name, without the `@`.
    pub username: String,
}

/// An update's number, and the update as it is kept where it is for us: what people say to each other is
/// nothing that we keep.
pub fn mail(update: &Value, me: &Me) -> Option<(i64, Option<NewMail>)> {
    let id = update["update_id"].as_i64()?;
    let body = json!({ "update": without_quoted(update.clone()), "me": me });
    let says = said(&body, Timestamp::default()).says;
    if says == Says::Nothing {
        return Some((id, None));
    }
    let parsed = parse(update);
    let chat = parsed.as_ref().and_then(conversation);
    let unknown = || update["message"]["chat"]["id"].to_string();
    let mail = NewMail {
        channel: super::NAME,
        // Numbers are each bot's own.
        key: format!("{}/{id}", me.id),
        conversation: chat.unwrap_or_else(unknown),
        body,
    };
    Some((id, Some(sealed(mail, &says))))
}

/// The update without the words that its message replies to. That there are any is all that counts; they
/// may be another's, or hold a code that we told.
fn without_quoted(mut update: Value) -> Value {
    for kind in ["message", "edited_message"] {
        let Some(message) = update.get_mut(kind).and_then(Value::as_object_mut) else {
            continue;
        };
        message.remove("quote");
        let Some(Value::Object(other)) = message.get_mut("reply_to_message") else {
            continue;
        };
        for entities in ["entities", "caption_entities"] {
            other.remove(entities);
        }
        for words in ["text", "caption"] {
            if let Some(words) = other.get_mut(words) {
                *words = "…".into();
            }
        }
    }
    update
}

/// Reads an update; none that this program does not know.
fn parse(update: &Value) -> Option<Update> {
    let mut update = update.clone();
    drop_odd_types(&mut update);
    // From text: the types do not read from a value.
    let update: Update = serde_json::from_str(&update.to_string()).ok()?;
    (!matches!(update.kind, UpdateKind::Error(_))).then_some(update)
}

/// Leaves out what a sender calls a file where it is no media type: its content decides all the same, and
/// the whole message could not be read for it.
fn drop_odd_types(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let is_odd = |mime: &Value| !mime.as_str().is_some_and(is_media_type);
            if fields.get("mime_type").is_some_and(is_odd) {
                fields.remove("mime_type");
            }
            fields.values_mut().for_each(drop_odd_types);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_odd_types),
        _ => {}
    }
}

fn is_media_type(text: &str) -> bool {
    let token = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c))
    };
    text.split_once('/')
        .is_some_and(|(kind, subtype)| token(kind) && token(subtype))
}

/// The chat, and the topic in it where it has topics.
fn conversation(update: &Update) -> Option<String> {
    let message = match &update.kind {
        UpdateKind::Message(message) | UpdateKind::EditedMessage(message) => message,
        UpdateKind::CallbackQuery(query) => match query.message.as_ref()? {
            MaybeInaccessibleMessage::Regular(message) => message,
            MaybeInaccessibleMessage::Inaccessible(gone) => return Some(gone.chat.id.to_string()),
        },
        _ => return None,
    };
    Some(
        match message.thread_id.filter(|_| message.is_topic_message) {
            Some(topic) => format!("{}:{}", message.chat.id, topic.0.0),
            None => message.chat.id.to_string(),
        },
    )
}

/// What a kept update says.
pub fn read(mail: &Mail) -> Incoming {
    said(&mail.body, mail.at)
}

fn said(body: &Value, at: Timestamp) -> Incoming {
    let nothing = Incoming {
        from: None,
        at,
        message: None,
        replies_to: None,
        says: Says::Nothing,
        files: Vec::new(),
        agent: None,
    };
    let Ok(me) = serde_json::from_value::<Me>(body["me"].clone()) else {
        return nothing;
    };
    match parse(&body["update"]).map(|update| update.kind) {
        Some(UpdateKind::Message(message)) => of_message(&message, &me, false),
        Some(UpdateKind::EditedMessage(message)) => of_message(&message, &me, true),
        Some(UpdateKind::CallbackQuery(query)) => of_press(query, at),
        Some(_) => nothing,
        None => of_unknown(&body["update"]["message"]).unwrap_or(nothing),
    }
}

/// A message of a kind that this program does not know: in private it is not passed over in silence.
fn of_unknown(message: &Value) -> Option<Incoming> {
    let from = &message["from"];
    (message["chat"]["type"] == "private").then_some(())?;
    Some(Incoming {
        from: Some(Sender {
            id: from["id"].as_i64()?.to_string(),
            name: from["first_name"].as_str().unwrap_or_default().to_owned(),
            handle: from["username"].as_str().map(str::to_owned),
        }),
        at: Timestamp(message["date"].as_i64()? * 1000),
        message: message["message_id"].as_i64().map(|id| id.to_string()),
        replies_to: None,
        says: Says::Unreadable(UNREADABLE.into()),
        files: Vec::new(),
        agent: None,
    })
}

fn of_message(message: &Message, me: &Me, edited: bool) -> Incoming {
    let from = message.from.as_ref().filter(|user| !user.is_bot);
    let text = message.text().or_else(|| message.caption());
    let says = match text {
        _ if !is_for_us(message, me) => Says::Nothing,
        _ if message.text().is_none() && !is_plain(message) => Says::Unreadable(UNREADABLE.into()),
        Some(text) if edited => Says::Edit(without_name(text, me)),
        Some(text) => Says::Words(without_name(text, me)),
        None if message.document().is_some() => Says::Words(ABOUT_A_FILE.into()),
        None if message.photo().is_some() => Says::Words(ABOUT_A_PHOTO.into()),
        None if message.chat.is_private() && is_said(message) => {
            Says::Unreadable(UNREADABLE.into())
        }
        None => Says::Nothing,
    };
    Incoming {
        from: from.map(sender),
        at: Timestamp(message.date.timestamp_millis()),
        message: Some(message.id.0.to_string()),
        replies_to: message.reply_to_message().map(|to| to.id.0.to_string()),
        says,
        files: attachments(message),
        agent: None,
    }
}

/// What came with a message: its document, or its photo in the largest size that there is.
fn attachments(message: &Message) -> Vec<Attached> {
    let sizes = message.photo().into_iter().flatten();
    let largest = sizes.max_by_key(|size| u64::from(size.width) * u64::from(size.height));
    let documents = message.document().into_iter().map(attached);
    documents.chain(largest.map(photo)).collect()
}

/// Photos have no names; all of them are JPEG.
fn photo(size: &PhotoSize) -> Attached {
    Attached {
        id: size.file.id.0.clone(),
        name: "photo.jpg".into(),
        mime: Some("image/jpeg".into()),
        size: Some(size.file.size.into()),
    }
}

fn attached(document: &Document) -> Attached {
    Attached {
        id: document.file.id.0.clone(),
        name: document
            .file_name
            .clone()
            .unwrap_or_else(|| "document".into()),
        mime: document.mime_type.as_ref().map(ToString::to_string),
        size: Some(document.file.size.into()),
    }
}

fn sender(user: &User) -> Sender {
    Sender {
        id: user.id.0.to_string(),
        name: user.full_name(),
        handle: user.username.clone(),
    }
}

/// Whether somebody said it: no note of the service about people or titles. What the types do not know
/// is empty to them.
fn is_said(message: &Message) -> bool {
    matches!(message.kind, MessageKind::Common(_) | MessageKind::Empty {})
}

/// Whether a message holds nothing that is more than words: people joining, a title changing.
fn is_plain(message: &Message) -> bool {
    message.voice().is_none()
        && message.audio().is_none()
        && message.video().is_none()
        && message.video_note().is_none()
        && message.sticker().is_none()
        && message.animation().is_none()
}

fn is_for_us(message: &Message, me: &Me) -> bool {
    if message.chat.is_private() {
        return true;
    }
    let replied = message
        .reply_to_message()
        .and_then(|other| other.from.as_ref());
    // A topic's first message counts as what everything in it replies to.
    let is_reply = replied.is_some_and(|user| user.id.0 == me.id)
        && message
            .reply_to_message()
            .is_some_and(|other| other.text().is_some() || other.document().is_some());
    is_reply || is_named(message, me)
}

/// Whether a message names us: `@bot`, or a command `/name@bot`.
fn is_named(message: &Message, me: &Me) -> bool {
    let entities = message
        .parse_entities()
        .or_else(|| message.parse_caption_entities());
    let name = format!("@{}", me.username);
    entities
        .unwrap_or_default()
        .iter()
        .any(|entity| match entity.kind() {
            MessageEntityKind::Mention => entity.text().eq_ignore_ascii_case(&name),
            MessageEntityKind::TextMention { user } => user.id.0 == me.id,
            MessageEntityKind::BotCommand => {
                let (_, bot) = entity.text().split_once('@').unwrap_or_default();
                bot.eq_ignore_ascii_case(&me.username)
            }
            _ => false,
        })
}

/// The words without the name by which we were called, where it stands alone.
fn without_name(text: &str, me: &Me) -> String {
    let name = format!("@{}", me.username);
    let words = text
        .split(' ')
        .filter(|word| !word.eq_ignore_ascii_case(&name));
    words.collect::<Vec<_>>().join(" ").trim().to_owned()
}

fn of_press(query: CallbackQuery, at: Timestamp) -> Incoming {
    Incoming {
        from: Some(sender(&query.from)),
        at,
        message: query.message.map(|message| message.id().0.to_string()),
        replies_to: None,
        says: Says::Press {
            trigger: None,
            id: query.id.0,
            data: query.data.unwrap_or_default(),
        },
        files: Vec::new(),
        agent: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sender_calls_a_file_costs_no_message() {
        for odd in ["", "x", "a/b; c", "weird/…"] {
            let update = json!({ "update_id": 1, "message": {
                "message_id": 2, "date": 3, "chat": { "id": 7, "type": "private", "first_name": "A" },
                "from": { "id": 7, "is_bot": false, "first_name": "A" }, "caption": "Look",
                "document": { "file_id": "f", "file_unique_id": "u", "file_name": "a.txt",
                              "mime_type": odd, "file_size": 3 },
            }});
            let me = Me {
                id: 1,
                username: "bot".into(),
            };
            let (_, mail) = mail(&update, &me).unwrap();
            let said = said(&mail.unwrap().body, Timestamp::default());
            assert_eq!(said.says, Says::Words("Look".into()), "{odd}");
            assert_eq!(said.files[0].mime, None, "{odd}");
        }
    }
    use shared::store::MailState;

    fn me() -> Me {
        Me {
            id: 42,
            username: "our_bot".into(),
        }
    }

    fn says(kind: &str, chat: &str, message: Value) -> (String, Incoming) {
        let mut whole = json!({
            "message_id": 5, "date": 1000,
            "from": {"id": 7, "is_bot": false, "first_name": "Ada"},
            "chat": match chat {
                "private" => json!({"id": 7, "type": "private", "first_name": "Ada"}),
                _ => json!({"id": -100, "type": "supergroup", "title": "Team"}),
            },
        });
        let fields = message.as_object().unwrap().clone();
        whole.as_object_mut().unwrap().extend(fields);
        let update = json!({"update_id": 1, kind: whole});
        let Some((_, Some(new))) = mail(&update, &me()) else {
            let body = json!({ "update": update, "me": me() });
            return (String::new(), said(&body, Timestamp(2_000_000)));
        };
        let kept = Mail {
            seq: 1,
            key: new.key,
            conversation: new.conversation.clone(),
            body: new.body,
            state: MailState::New,
            at: Timestamp(2_000_000),
        };
        (new.conversation, read(&kept))
    }

    #[test]
    fn in_private_everything_is_for_us() {
        let (conversation, said) = says("message", "private", json!({"text": "hello"}));
        assert_eq!(
            (conversation.as_str(), said.at),
            ("7", Timestamp(1_000_000))
        );
        assert_eq!(said.says, Says::Words("hello".into()));
        assert_eq!(said.from.unwrap().id, "7");
        let (_, edited) = says(
            "edited_message",
            "private",
            json!({"text": "hi", "edit_date": 1001}),
        );
        assert_eq!(edited.says, Says::Edit("hi".into()));
    }

    #[test]
    fn in_groups_only_what_names_us_or_replies_to_us() {
        let text = |text: &str, more: Value| {
            let mut message = json!({"text": text});
            message
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            says("message", "group", message)
        };
        assert_eq!(
            text("@our_bot hello", json!({})).1.says,
            Says::Nothing,
            "no entity, no mention"
        );
        let mention = json!({"entities": [{"type": "mention", "offset": 0, "length": 8}]});
        let (_, said) = text("@our_bot hello", mention.clone());
        assert_eq!(said.says, Says::Words("hello".into()));
        assert_eq!(text("@the_bot hello", mention).1.says, Says::Nothing);
        let command = json!({"entities": [{"type": "bot_command", "offset": 0, "length": 13}]});
        assert_eq!(
            text("/stop@our_bot", command).1.says,
            Says::Words("/stop@our_bot".into())
        );
        let ours = json!({"message_id": 4, "date": 999, "text": "x",
            "from": {"id": 42, "is_bot": true, "first_name": "Bot", "username": "our_bot"},
            "chat": {"id": -100, "type": "supergroup", "title": "Team"}});
        let reply =
            json!({"reply_to_message": ours, "message_thread_id": 3, "is_topic_message": true});
        let (conversation, said) = text("go on", reply);
        assert_eq!(
            (conversation.as_str(), said.says),
            ("-100:3", Says::Words("go on".into()))
        );
    }

    #[test]
    fn what_is_not_known_is_not_kept_unless_it_was_said_to_us_alone() {
        let (id, new) = mail(&json!({"update_id": 9, "chat_of_tomorrow": {}}), &me()).unwrap();
        assert!(id == 9 && new.is_none());
        let odd = json!({"update_id": 10, "message": {
            "message_id": 1, "date": 5, "chat": {"id": 7, "type": "private", "first_name": "Ada"},
            "from": {"id": 7, "is_bot": false, "first_name": "Ada"}, "text": "hi",
            "entities": [{"type": "hologram", "offset": 0, "length": 2}]}});
        let (_, new) = mail(&odd, &me()).unwrap();
        let new = new.expect("what is said in private is not passed over");
        assert_eq!(
            (new.conversation.as_str(), new.key.as_str()),
            ("7", "42/10")
        );
        assert!(mail(&json!({"message": {}}), &me()).is_none());
    }
}
