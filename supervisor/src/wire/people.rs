//! Who is known in chats, and the codes by which somebody becomes known.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use shared::config::Role;
use shared::store::Purpose;

use crate::people::directory::{Entry, Removed, Source};

/// A code to be made, by which somebody becomes known in a chat.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PairingOrder {
    /// Who they will be: lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// What they may do: member, approver, admin; `member` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// What the code is called, for people; at most 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Minutes that it is good, 10 where absent, 1,440 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1440)]
    pub ttl_min: Option<u32>,
}

/// A code: shown this once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PairingCode {
    /// The code.
    pub code: String,
    /// Until when it is good, in milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// Everybody who is known in chats.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PeoplePage {
    /// One entry for each identity, and one for each group that is granted something.
    pub people: Vec<PersonView>,
}

/// An identity that is known, or a group whose members are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PersonView {
    /// Who it is; null for a group.
    pub name: Option<String>,
    /// The channel.
    pub channel: String,
    /// The id there, or the group.
    pub id: String,
    /// What they may do now.
    pub roles: Vec<String>,
    /// How they are known: `config`, `paired`, `claimed` or `granted`.
    pub source: String,
    /// What their code was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Who made their code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
    /// When they used it, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linked_at_ms: Option<i64>,
}

impl From<Entry> for PersonView {
    fn from(entry: Entry) -> Self {
        let link = match entry.source {
            Source::Linked(link) => Ok(link),
            Source::Configured => Err("config"),
            Source::Granted => Err("granted"),
        };
        let source = match &link {
            Ok(link) if link.origin == Purpose::Claim => "claimed",
            Ok(_) => "paired",
            Err(source) => source,
        };
        let link = link.as_ref().ok();
        Self {
            name: entry.principal.map(|name| name.to_string()),
            channel: entry.channel,
            id: entry.id,
            roles: names(&entry.roles),
            source: source.into(),
            label: link.map(|link| link.label.clone()),
            made_by: link.map(|link| link.made_by.to_string()),
            linked_at_ms: link.map(|link| link.at.0),
        }
    }
}

/// Roles by their names.
fn names(roles: &[Role]) -> Vec<String> {
    roles.iter().map(|role| role.as_str().to_owned()).collect()
}

/// What was unlinked.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RemovedView {
    /// The identities, as `CHANNEL:ID`.
    pub removed: Vec<String>,
    /// Whether the configuration names them all the same.
    pub configured: bool,
    /// Why they are known all the same, and what ends that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub still_known: Option<String>,
}

impl From<Removed> for RemovedView {
    fn from(removed: Removed) -> Self {
        let links = removed.links.iter();
        Self {
            removed: links.map(|link| link.identity.to_string()).collect(),
            configured: removed.configured,
            still_known: removed.still_known(),
        }
    }
}
