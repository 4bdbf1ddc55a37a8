//! Doors: the ways by which tasks come in and answers go out. A door recognises who speaks, hands
//! the words to intake, and shows what the store holds; it decides nothing about the work itself.
//!
//! ```text
//!   far side ─► poll | webhook ─► inbound ─► reception ─► intake ─► …
//!   far side ◄── courier ◄── outbox ◄─── card of a task, a word ◄──┘
//! ```
//! Chats differ in how they are read, rendered and spoken to: that is a [`Channel`]. What a message
//! leads to ([`reception`]) and how what is owed gets there ([`courier`]) is the same for all.
//! [`http`] answers at once and stands apart; whoever wants to be told later is by [`callback`]; [`email`]
//! only sends.

pub mod admins;
pub mod board;
pub mod callback;
pub mod card;
pub mod command;
pub mod courier;
pub mod email;
pub mod health;
pub mod http;
mod invite;
mod lanes;
mod pace;
pub mod papers;
pub mod reception;
mod seal;
pub mod signature;
pub mod slack;
pub mod station;
pub mod telegram;
pub mod text;
pub mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use papers::enclose::Enclosure;
use shared::config::Settings;
use shared::egress::Gateway;
use shared::id::AgentName;
use shared::run::Timestamp;
use shared::store::{Mail, NewOut};

use crate::doctor::Finding;
use crate::people::groups::Group;

/// The chats that there are.
pub const CHATS: [&str; 2] = [telegram::NAME, slack::NAME];

/// Whether all that the doors need can be had: secrets, keys, addresses. Opens nothing and calls nobody.
pub fn check(settings: &Settings) -> anyhow::Result<()> {
    let gateway = Gateway::new(&settings.egress)?;
    configured(settings, &gateway, Vec::new())?;
    if let Some(slack) = &settings.slack {
        slack::seal(slack)?;
    }
    if let Some(callbacks) = &settings.callbacks {
        callback::key(callbacks)?;
    }
    http::hooks::Hooks::new(&settings.hooks)?;
    Ok(())
}

/// The chats that a configuration names, where people may choose among these agents. Calls nobody.
pub fn configured(
    settings: &Settings,
    gateway: &Gateway,
    agents: Vec<AgentName>,
) -> anyhow::Result<Vec<Arc<dyn Channel>>> {
    let mut channels: Vec<Arc<dyn Channel>> = Vec::new();
    if let Some(telegram) = &settings.telegram {
        channels.push(Arc::new(telegram::Telegram::new(telegram, gateway)?));
    }
    if let Some(slack) = &settings.slack {
        channels.push(Arc::new(slack::Slack::new(slack, gateway, agents)?));
    }
    Ok(channels)
}

/// A chat service.
#[async_trait]
pub trait Channel: Send + Sync {
    /// Its name: that of its table rows, its tasks' channel, and its place in the configuration.
    fn name(&self) -> &'static str;

    /// The duty of the one process that speaks to it.
    fn duty(&self) -> &'static str;

    /// What a message says. Pure; a message that cannot be read says nothing.
    fn read(&self, mail: &Mail) -> Incoming;

    /// Whether nobody but one person and us is in a conversation, or sees what is said in it by command.
    /// Pure.
    fn is_private(&self, conversation: &str) -> bool;

    /// Markdown as pages that the far side takes, at least one. Pure.
    fn pages(&self, markdown: &str) -> Vec<Page>;

    /// The room in which a conversation takes place: how fast it may be spoken to is the room's.
    fn room<'a>(&self, conversation: &'a str) -> &'a str {
        conversation
    }

    /// Whether a message's id is nobody else's in all of the service, rather than in its conversation.
    fn ids_are_unique(&self) -> bool {
        false
    }

    /// How a command of the house is written there.
    fn command(&self, name: &str) -> String {
        format!("/{name}")
    }

    /// Posts a page in a conversation, in reply to a message where one is named. Answers its id there.
    async fn post(
        &self,
        conversation: &str,
        reply_to: Option<&str>,
        page: &Page,
    ) -> Result<String, Undelivered>;

    /// Says a word, as far as the far side can to whoever it is for and to nobody else. Answers its id
    /// there.
    async fn say(
        &self,
        conversation: &str,
        reply_to: Option<&str>,
        page: &Page,
    ) -> Result<String, Undelivered> {
        self.post(conversation, reply_to, page).await
    }

    /// Makes a page out of a message that was posted before. Safe to repeat.
    async fn change(&self, conversation: &str, id: &str, page: &Page) -> Result<(), Undelivered>;

    /// Shows that somebody is at work. Nobody minds where it fails.
    async fn busy(&self, conversation: &str, reply_to: Option<&str>);

    /// Confirms a press of a button.
    async fn pressed(&self, press: &str, word: &str);

    /// Opens what somebody asked for in a conversation to write in, by what the far side gave them for it,
    /// or tells them that it cannot. Not to be repeated.
    async fn open(&self, conversation: &str, trigger: &str) {
        let (_, _) = (conversation, trigger);
    }

    /// Whether something can be opened to write in where a button was pressed.
    fn has_windows(&self) -> bool {
        false
    }

    /// Opens a sheet where a button was pressed, by what the far side gave for it. What is made of it comes
    /// back as a reply to the message below which the button stood. Not to be repeated.
    async fn open_sheet(&self, conversation: &str, trigger: &str, sheet: &Sheet) {
        let (_, _, _) = (conversation, trigger, sheet);
    }

    /// A file that came with a message, with its bytes, at most `limit` of them.
    async fn fetch(&self, file: &Attached, limit: u64) -> Result<Enclosure, Undelivered> {
        let (name, _) = (&file.name, limit);
        Err(Undelivered::Never(format!(
            "{name} cannot be had from here"
        )))
    }

    /// Puts something in a conversation in whose place a file will stand, seen by people or not. Answers
    /// its id there. One that nobody recorded is never heard of again.
    async fn place(
        &self,
        conversation: &str,
        reply_to: Option<&str>,
        file: &Document,
    ) -> Result<String, Undelivered> {
        let (_, _) = (conversation, reply_to);
        Err(Undelivered::Never(format!("{} cannot be sent", file.name)))
    }

    /// Has the file stand in its place, in the conversation, below the message `beside`. Safe to repeat.
    /// [`Undelivered::Missing`] where the place is gone, and the file with it.
    async fn attach(
        &self,
        conversation: &str,
        beside: &str,
        (id, file): (&str, &Document),
    ) -> Result<(), Undelivered> {
        let (_, _, _) = (conversation, beside, id);
        Err(Undelivered::Never(format!("{} cannot be sent", file.name)))
    }

    /// Whether somebody belongs to a group there. An error where that cannot be found out: a lasting one,
    /// such as [`Undelivered::Never`], where it will not be until somebody mends it.
    async fn belongs(&self, group: &Group, id: &str) -> Result<bool, Undelivered>;

    /// Asks the far side who we are there, and whether we have what we need. Changes nothing; `seen` is
    /// what is known of the channel besides.
    async fn examine(&self, seen: Seen) -> Vec<Finding>;

    /// Fetches what comes in and puts it into the inlet, until that is over. A channel that is sent to
    /// need not.
    async fn listen(&self, inlet: &station::Inlet) {
        inlet.over.cancelled().await;
    }
}

/// JSON that somebody may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sheet {
    /// The far side's id of the message that it belongs to.
    pub below: String,
    /// What it is, in a few words.
    pub label: String,
    /// As it stands.
    pub json: String,
}

/// A file that goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its name, without folders.
    pub name: String,
    /// What it is.
    pub mime: String,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
}

/// What is known of a channel when it is examined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nobody looks after it now.
    Idle,
    /// Somebody elsewhere does, or nobody knows.
    Unknown,
    /// It works.
    Well,
    /// It does not, for this reason.
    Ill(String),
}

/// A page of a message in the channel's own form, and the buttons below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// What the channel's renderer made.
    pub content: Value,
    /// Buttons, in rows.
    pub buttons: Vec<Vec<Button>>,
}

/// A button.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Button {
    /// What it says.
    pub label: String,
    /// What comes back when it is pressed, at most 64 bytes.
    pub data: String,
}

/// A word to somebody: the body of what is owed that is no card.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Word {
    /// In Markdown.
    pub text: String,
    /// The message that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The key of an earlier word, whose message says this from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<String>,
    /// What it answers, where nobody saw that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Buttons, in rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buttons: Vec<Vec<Button>>,
    /// Whose code is told in its place, by their id there: it is made when it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_for: Option<String>,
}

impl Word {
    /// A text, and nothing besides.
    pub fn saying(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// The word as a conversation is owed it, under our own name for it.
    pub fn owed(
        self,
        channel: impl Into<String>,
        key: impl Into<String>,
        conversation: impl Into<String>,
    ) -> NewOut {
        NewOut {
            channel: channel.into(),
            key: key.into(),
            conversation: conversation.into(),
            body: serde_json::to_value(self).unwrap_or_default(),
        }
    }
}

/// Why something was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// The far side wants to be left alone for so long.
    #[error("the far side asks for patience for {} s", .0.as_secs())]
    Busy(Duration),
    /// It will never be: the chat is gone, or the far side does not take this.
    #[error("{0}")]
    Never(String),
    /// The message that was to be changed is not there any more.
    #[error("the message is not there any more")]
    Missing,
    /// It may work later.
    #[error("{0}")]
    Trouble(String),
}

/// A message as reception understands it.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    /// Who speaks; none where nobody does.
    pub from: Option<Sender>,
    /// When it was said, by the far side's clock.
    pub at: Timestamp,
    /// The far side's id of the message.
    pub message: Option<String>,
    /// The message that it replies to, or whose button was pressed, where the channel says.
    pub replies_to: Option<String>,
    /// What it says.
    pub says: Says,
    /// What came with it.
    pub files: Vec<Attached>,
    /// The agent that the sender chose for it.
    pub agent: Option<AgentName>,
}

/// A file that came with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// How the channel knows it.
    pub id: String,
    /// Its name, as its sender gave it.
    pub name: String,
    /// Its type, as its sender said.
    pub mime: Option<String>,
    /// Its size in bytes, where the channel says.
    pub size: Option<u64>,
}

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Their immutable id in the channel.
    pub id: String,
    /// What they are called there, for people's eyes only.
    pub name: String,
    /// The name by which others address them there; it may change hands.
    pub handle: Option<String>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub enum Says {
    /// Words for us: said to us alone, or naming us, or in reply to us.
    Words(String),
    /// The same message, in other words.
    Edit(String),
    /// A button was pressed: the press's id, and the button's data.
    Press {
        /// To confirm it by.
        id: String,
        /// The button's data.
        data: String,
        /// What the far side gave to open something to write in with, where it can.
        trigger: Option<String>,
    },
    /// Something to write in is asked for; what the far side gave for it.
    Window(String),
    /// Something that cannot be taken; a word why.
    Unreadable(String),
    /// Nothing that is for us.
    Nothing,
}
