//! Chats, people and messages: what everybody sees, and the JSON the bot sees of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::entities::{Entity, Kind as EntityKind};
use crate::doubles::clock::Ms;

/// Somebody with an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The number that never changes.
    pub id: i64,
    /// First name.
    pub first_name: String,
    /// Username without `@`; can change hands.
    pub username: Option<String>,
    /// Whether it is a bot.
    pub is_bot: bool,
}

impl Person {
    /// A person called after their number.
    pub fn unknown(id: i64) -> Self {
        Self {
            id,
            first_name: format!("Person {id}"),
            username: Some(format!("person_{id}")),
            is_bot: false,
        }
    }

    /// The `User` object.
    pub fn json(&self) -> Value {
        let mut json = json!({
            "id": self.id, "is_bot": self.is_bot, "first_name": self.first_name,
        });
        if let Some(username) = &self.username {
            json["username"] = username.as_str().into();
        }
        if !self.is_bot {
            json["language_code"] = "en".into();
        }
        json
    }
}

/// What kind of chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One person and the bot.
    Private,
    /// A basic group.
    Group,
    /// A supergroup.
    Supergroup,
    /// A supergroup with topics.
    Forum,
}

/// What the bot may do in a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Write.
    Open,
    /// Nothing: the person blocked the bot.
    Blocked,
    /// Nothing: the person's account is gone.
    Deactivated,
    /// Nothing: the bot was thrown out.
    Kicked,
    /// Nothing: the bot is no member.
    Left,
}

/// Somebody's standing in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Owner.
    Creator,
    /// Administrator.
    Administrator,
    /// Member.
    Member,
    /// Member with restrictions.
    Restricted,
    /// Restricted, and gone.
    RestrictedOutside,
    /// Not a member.
    Left,
    /// Banned.
    Kicked,
}

impl Standing {
    fn name(self) -> &'static str {
        match self {
            Self::Creator => "creator",
            Self::Administrator => "administrator",
            Self::Member => "member",
            Self::Restricted | Self::RestrictedOutside => "restricted",
            Self::Left => "left",
            Self::Kicked => "kicked",
        }
    }
}

/// A file in a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The handle for `getFile` and for sending it again.
    pub file_id: String,
    /// Its name.
    pub name: String,
    /// Its type.
    pub mime: String,
    /// Its size as the service tells it.
    pub size: u64,
    /// Whether it is a photo.
    #[serde(default)]
    pub photo: bool,
}

/// How a message stood before an edit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Its text then.
    pub text: String,
    /// Its formatting then.
    pub entities: Vec<Entity>,
    /// Its buttons then.
    pub keyboard: Option<Value>,
    /// Until when it stood so.
    pub until_ms: Ms,
}

/// A message as it stands in a chat now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Its chat.
    pub chat: i64,
    /// Its number in the chat.
    pub id: i64,
    /// The forum topic or the reply thread it is in.
    pub thread: Option<i64>,
    /// Whether `thread` is a forum topic.
    pub in_topic: bool,
    /// Who wrote it.
    pub from: i64,
    /// Whether the bot under test wrote it.
    pub by_bot: bool,
    /// Its text, or the caption of its document.
    pub text: String,
    /// Its formatting.
    pub entities: Vec<Entity>,
    /// Its inline keyboard.
    pub keyboard: Option<Value>,
    /// What it answers.
    pub reply_to: Option<i64>,
    /// Its file.
    pub document: Option<Document>,
    /// When it was sent, on the double's clock.
    pub at_ms: Ms,
    /// When it was last edited.
    pub edited_at_ms: Option<Ms>,
    /// How it stood before, oldest first.
    pub history: Vec<Version>,
    /// When it was deleted: then nobody sees it.
    pub deleted_at_ms: Option<Ms>,
    /// A service message's field and value, such as `migrate_to_chat_id`.
    pub service: Option<(String, Value)>,
}

impl Message {
    /// Puts new content in place, keeping the old in the history.
    pub fn edit(&mut self, text: String, entities: Vec<Entity>, keyboard: Option<Value>, now: Ms) {
        self.history.push(Version {
            text: std::mem::replace(&mut self.text, text),
            entities: std::mem::replace(&mut self.entities, entities),
            keyboard: std::mem::replace(&mut self.keyboard, keyboard),
            until_ms: now,
        });
        self.edited_at_ms = Some(now);
    }

    /// Whether a button with this data is on it now.
    pub fn has_button(&self, data: &str) -> bool {
        let rows = self.keyboard.as_ref().and_then(Value::as_array);
        rows.into_iter()
            .flatten()
            .filter_map(Value::as_array)
            .flatten()
            .any(|button| button["callback_data"] == data)
    }
}

/// A topic of a forum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Whether only administrators may write in it.
    pub closed: bool,
}

/// One chat.
#[derive(Clone, Debug)]
pub struct Chat {
    /// Its number; changes when a group becomes a supergroup.
    pub id: i64,
    /// What it is.
    pub kind: Kind,
    /// Title, or the person's name.
    pub title: String,
    /// Its topics.
    pub topics: BTreeMap<i64, Topic>,
    /// Who is in it.
    pub members: BTreeMap<i64, Standing>,
    /// What the bot may do.
    pub access: Access,
    /// Where it went.
    pub migrated_to: Option<i64>,
    /// All messages, deleted ones too.
    pub messages: BTreeMap<i64, Message>,
    /// Whose message was the last one.
    pub last_speaker: Option<i64>,
    /// How many messages the bot has sent here, deleted ones and lost replies too.
    pub sent: usize,
    next_id: i64,
}

impl Chat {
    /// A chat of the kind that its number says.
    pub fn by_number(id: i64) -> Self {
        let (kind, title) = match id {
            0.. => (Kind::Private, Person::unknown(id).first_name),
            -999_999_999_999..0 => (Kind::Group, format!("Group {id}")),
            _ => (Kind::Supergroup, format!("Supergroup {id}")),
        };
        Self {
            id,
            kind,
            title,
            topics: BTreeMap::new(),
            members: BTreeMap::new(),
            access: Access::Open,
            migrated_to: None,
            messages: BTreeMap::new(),
            last_speaker: None,
            sent: 0,
            // The first message of a supergroup is the one that made it.
            next_id: 2,
        }
    }

    /// Whether several people are in it.
    pub fn is_group(&self) -> bool {
        self.kind != Kind::Private
    }

    /// Whether its messages are numbered by itself.
    pub fn is_supergroup(&self) -> bool {
        matches!(self.kind, Kind::Supergroup | Kind::Forum)
    }

    /// The next number in a supergroup.
    pub fn number(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// A message that is there.
    pub fn message(&self, id: i64) -> Option<&Message> {
        self.messages.get(&id).filter(|m| m.deleted_at_ms.is_none())
    }

    /// A message that is there.
    pub fn message_mut(&mut self, id: i64) -> Option<&mut Message> {
        let message = self.messages.get_mut(&id);
        message.filter(|m| m.deleted_at_ms.is_none())
    }

    /// The `Chat` object.
    pub fn json(&self, person: Option<&Person>) -> Value {
        match self.kind {
            Kind::Private => {
                let mut json = json!({"id": self.id, "type": "private", "first_name": self.title});
                if let Some(person) = person {
                    json["first_name"] = person.first_name.as_str().into();
                    if let Some(username) = &person.username {
                        json["username"] = username.as_str().into();
                    }
                }
                json
            }
            Kind::Group => json!({
                "id": self.id, "type": "group", "title": self.title,
                "all_members_are_administrators": false,
            }),
            Kind::Supergroup => {
                json!({"id": self.id, "type": "supergroup", "title": self.title})
            }
            Kind::Forum => json!({
                "id": self.id, "type": "supergroup", "title": self.title, "is_forum": true,
            }),
        }
    }

    /// The `ChatFullInfo` object.
    pub fn full_json(&self, person: Option<&Person>) -> Value {
        let mut json = self.json(person);
        json["accent_color_id"] = 3.into();
        json["max_reaction_count"] = 11.into();
        json["accepted_gift_types"] = json!({
            "unlimited_gifts": true, "limited_gifts": true, "unique_gifts": true,
            "premium_subscription": true, "gifts_from_channels": true,
        });
        if self.is_group() {
            json["permissions"] = json!({
                "can_send_messages": true, "can_send_audios": true, "can_send_documents": true,
                "can_send_photos": true, "can_send_videos": true, "can_send_video_notes": true,
                "can_send_voice_notes": true, "can_send_polls": true,
                "can_send_other_messages": true, "can_add_web_page_previews": true,
                "can_change_info": false, "can_invite_users": true, "can_pin_messages": false,
                "can_manage_topics": false,
            });
        }
        json
    }
}

/// The `ChatMember` object.
pub fn member_json(person: &Person, standing: Standing) -> Value {
    let mut json = json!({"user": person.json(), "status": standing.name()});
    match standing {
        Standing::Creator => json["is_anonymous"] = false.into(),
        Standing::Administrator => {
            json["can_be_edited"] = false.into();
            json["is_anonymous"] = false.into();
            for right in [
                "can_manage_chat",
                "can_delete_messages",
                "can_manage_video_chats",
                "can_restrict_members",
                "can_promote_members",
                "can_change_info",
                "can_invite_users",
                "can_pin_messages",
                "can_manage_topics",
                "can_post_stories",
                "can_edit_stories",
                "can_delete_stories",
            ] {
                json[right] = true.into();
            }
        }
        Standing::Kicked => json["until_date"] = 0.into(),
        Standing::Restricted | Standing::RestrictedOutside => {
            json["is_member"] = (standing == Standing::Restricted).into();
            json["until_date"] = 0.into();
            json["can_send_messages"] = false.into();
        }
        Standing::Member | Standing::Left => {}
    }
    json
}

/// The `MessageEntity` array.
pub fn entities_json(entities: &[Entity]) -> Value {
    let one = |entity: &Entity| {
        let mut json = serde_json::to_value(entity).unwrap_or_default();
        if let EntityKind::TextMention { user } = &entity.kind
            && user.first_name.is_empty()
        {
            json["user"]["first_name"] = Person::unknown(user.id).first_name.into();
        }
        json
    };
    entities.iter().map(one).collect()
}
