//! What comes in from channels and what goes out to them, as the store holds it.
//!
//! ```text
//!   far side ──receive──► inbound ──(handled: a task, a word back)──► done
//!   outbox: owed ──record──► owed, with the far side's ids ──record──► sent | dead
//! ```
//! A message that came in is a row before the far side is told that it arrived. What is owed to the far
//! side is a row before anybody tries to send it; whoever sends it holds the channel's duty, and every
//! record of what was sent is fenced by it.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Duty, Error};
use crate::id::{AgentName, AskId, TaskId, TenantId};
use crate::run::Timestamp;

/// A message of a channel, as it came.
#[derive(Clone, Debug)]
pub struct NewMail {
    /// The channel.
    pub channel: &'static str,
    /// The channel's own name for it: the same again is the same message.
    pub key: String,
    /// The conversation that it belongs to; order is kept within one.
    pub conversation: String,
    /// What came.
    pub body: Value,
}

/// A message that is to be handled.
#[derive(Clone, Debug, PartialEq)]
pub struct Mail {
    /// The order in which it came.
    pub seq: i64,
    /// The channel's own name for it.
    pub key: String,
    /// The conversation.
    pub conversation: String,
    /// What came.
    pub body: Value,
    /// Where it stands.
    pub state: MailState,
    /// When it was taken in.
    pub at: Timestamp,
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailState {
    /// To be handled.
    New,
    /// Handled when a person says so.
    Held,
    /// A person said so: to be handled.
    Wanted,
    /// Handled.
    Done,
}

impl MailState {
    /// The state's name in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Held => "held",
            Self::Wanted => "wanted",
            Self::Done => "done",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::New, Self::Held, Self::Wanted, Self::Done];
        all.into_iter().find(|state| state.as_str() == name)
    }
}

/// How far an account of a channel was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The account: a channel and who reads it.
    pub account: String,
    /// What is read next.
    pub position: i64,
}

/// Something that the far side is owed.
#[derive(Clone, Debug)]
pub struct NewOut {
    /// The channel.
    pub channel: String,
    /// Our own name for it: the same again is the same message. A task's card is named by the task.
    pub key: String,
    /// Where it belongs.
    pub conversation: String,
    /// What is said; for a card, what it answers to.
    pub body: Value,
}

/// Something that is owed.
#[derive(Clone, Debug, PartialEq)]
pub struct Out {
    /// The order in which it came about.
    pub seq: i64,
    /// Our own name for it.
    pub key: String,
    /// Where it belongs.
    pub conversation: String,
    /// The task whose progress and end it shows.
    pub task: Option<TaskId>,
    /// The ask that it shows. Where it shows neither, it is a word.
    pub ask: Option<AskId>,
    /// What is said; for a card, what it answers to.
    pub body: Value,
    /// The far side's ids of the messages that stand for it there.
    pub far: Vec<String>,
    /// Attempts that failed since the last one that did not.
    pub attempts: u32,
    /// Not to be tried before.
    pub not_before: Timestamp,
}

/// What became of an attempt to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutState {
    /// More is to be sent, not before then.
    Owed(Timestamp),
    /// All is there.
    Sent,
    /// All is there, and shows an ask as open: owed again where the ask's cards were to be closed meanwhile.
    Open,
    /// It will never be there; why.
    Dead(String),
}

/// What is settled about a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// The agent who speaks in it; none where each message is routed.
    pub agent: Option<AgentName>,
    /// Turns before this do not count any more.
    pub since: Timestamp,
}

/// How a channel's outbox stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The channel.
    pub channel: String,
    /// What is owed to the far side.
    pub owed: u64,
    /// Since when the oldest of it is.
    pub oldest: Option<Timestamp>,
    /// What could not be delivered and is kept.
    pub dead: u64,
    /// Why the last of it could not be.
    pub why: Option<String>,
}

/// The port of the mail. All of a tenant's; one transaction each.
#[async_trait]
pub trait Mailroom: Send + Sync {
    /// Takes messages in and moves the cursor, in one commit. On return they are durable, and the far
    /// side may be told so. A message that is there already changes nothing. Answers how many were new;
    /// `None`, and nothing changed, where the duty that it was done under is lost.
    async fn receive(
        &self,
        tenant: &TenantId,
        mail: Vec<NewMail>,
        cursor: Option<(Cursor, Duty)>,
    ) -> Result<Option<u64>, Error>;

    /// How far an account was read; none where it never was.
    async fn position(&self, tenant: &TenantId, account: &str) -> Result<Option<i64>, Error>;

    /// Messages of a channel that are to be handled, after `seq`, in the order in which they came, at most `limit`.
    async fn unread(
        &self,
        tenant: &TenantId,
        channel: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Mail>, Error>;

    /// The message of this key, whatever its state.
    async fn find(
        &self,
        tenant: &TenantId,
        channel: &str,
        key: &str,
    ) -> Result<Option<Mail>, Error>;

    /// What is open of a conversation: its messages to be handled and those that are held, in the order
    /// in which they came, at most `limit`.
    async fn open_in(
        &self,
        tenant: &TenantId,
        channel: &str,
        conversation: &str,
        limit: u32,
    ) -> Result<Vec<Mail>, Error>;

    /// Moves a message from one state to another, under the duty of the one who deals with it. `false`
    /// where it was not in the first; `None` where the duty is lost. Nothing is changed then.
    async fn settle(
        &self,
        duty: &Duty,
        tenant: &TenantId,
        seq: i64,
        (from, to): (MailState, MailState),
    ) -> Result<Option<bool>, Error>;

    /// Owes the far side a word. `false`, and nothing changed, where its key is there already.
    async fn say(&self, tenant: &TenantId, out: NewOut) -> Result<bool, Error>;

    /// What a channel's far side is owed, after `seq`, in the order in which it came about, at most
    /// `limit`.
    async fn owed(
        &self,
        tenant: &TenantId,
        channel: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Out>, Error>;

    /// The task whose card has this key in a channel.
    async fn carded(
        &self,
        tenant: &TenantId,
        channel: &str,
        key: &str,
    ) -> Result<Option<TaskId>, Error>;

    /// The card of a task in a channel, whatever its state; and where it stands.
    async fn card(&self, tenant: &TenantId, task: TaskId) -> Result<Option<(Out, String)>, Error>;

    /// What is owed under this key in a channel, or was, whatever its state; and where it stands.
    async fn said(
        &self,
        tenant: &TenantId,
        channel: &str,
        key: &str,
    ) -> Result<Option<(Out, String)>, Error>;

    /// Records what was sent, under the duty of the one who sends. `false`, and nothing changed, where
    /// the duty is lost or the row is not owed any more.
    async fn record(
        &self,
        duty: &Duty,
        seq: i64,
        (far, attempts): (&[String], u32),
        state: OutState,
    ) -> Result<bool, Error>;

    /// Puts something that was sent back among what is owed, so that whoever has the duty makes sure that it
    /// still stands there: a process that is late may have changed it. Whoever asks needs no duty.
    async fn reopen(&self, tenant: &TenantId, seq: i64) -> Result<(), Error>;

    /// Puts what is dead back among what is owed. Answers how many there were.
    async fn revive(&self, tenant: &TenantId, channel: &str) -> Result<u64, Error>;

    /// How each channel's outbox stands, by name; channels that owe nothing and have nothing dead are not
    /// among them.
    async fn standing(&self, tenant: &TenantId) -> Result<Vec<Standing>, Error>;

    /// What is settled about a conversation.
    async fn conversation(
        &self,
        tenant: &TenantId,
        channel: &str,
        id: &str,
    ) -> Result<Conversation, Error>;

    /// Settles it. `false`, and nothing changed, where the duty is lost.
    async fn set_conversation(
        &self,
        duty: &Duty,
        (tenant, channel): (&TenantId, &str),
        id: &str,
        conversation: Conversation,
    ) -> Result<bool, Error>;

    /// Deletes mail of all tenants that was dealt with so long ago, what could not be delivered included,
    /// at most `limit` rows each way, under the duty's fence; nothing where it is lost. Answers how many.
    /// A message that comes again after that is a new one, so `age` must be longer than any far side
    /// repeats itself.
    async fn forget_mail(
        &self,
        duty: &Duty,
        age: Duration,
        limit: u32,
    ) -> Result<Option<u64>, Error>;
}
