//! How channels are.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The channels of the instance.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ChannelPage {
    /// One entry for each.
    pub channels: Vec<ChannelView>,
}

/// How a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChannelState {
    /// It works.
    Up,
    /// It does not.
    Down,
    /// No instance runs that looks after it.
    Idle,
    /// Another process looks after it, or nothing was heard of it yet.
    Unknown,
    /// The configuration does not open it.
    Closed,
}

impl ChannelState {
    /// The state in a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Idle => "idle",
            Self::Unknown => "unknown",
            Self::Closed => "closed",
        }
    }
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChannelView {
    /// Its name.
    pub name: String,
    /// How it is, as far as this process knows.
    pub state: ChannelState,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Messages that it is to deliver, cards of unfinished tasks among them.
    pub owed: u64,
    /// Since when the oldest of them is owed, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_owed_at_ms: Option<i64>,
    /// Messages that could not be delivered and are kept.
    pub dead: u64,
    /// Why the last of them could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What became of a channel's undelivered messages.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Revived {
    /// So many are tried again.
    pub revived: u64,
}

/// A channel, for whoever asks whether the instance is ready.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ChannelUp {
    /// Its name.
    pub name: String,
    /// Whether it works.
    pub up: bool,
}
