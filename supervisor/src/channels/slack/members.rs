//! Who belongs to a group in Slack. Nobody does who is gone, is a program, or comes from another workspace
//! by a shared channel; guests do where they were let in, and not to the workspace as a whole.

use serde_json::Value;

use super::client::{Client, Failed, in_words};
use crate::channels::Undelivered;
use crate::people::groups::Group;

/// Members that are read at once.
const PAGE: &str = "1000";
/// So many pages are read; a channel with more members is too large to be asked for.
const PAGES: usize = 100;

/// What Slack says where it will say the same until somebody mends the app or the configuration.
const LASTING: [&str; 9] = [
    "missing_scope",
    "not_allowed_token_type",
    "no_such_subteam",
    "channel_not_found",
    "not_in_channel",
    "plan_upgrade_required",
    "paid_teams_only",
    "permission_denied",
    TOO_MANY,
];
/// What is said here of a channel with more members than are read.
const TOO_MANY: &str = "too many members to be asked for";

/// Whether somebody, `TEAM/USER`, belongs.
pub async fn belongs(client: &Client, group: &Group, id: &str) -> Result<bool, Undelivered> {
    find(client, group, id)
        .await
        .map_err(|failed| match failed {
            Failed::No(word) if LASTING.contains(&&*word) => Undelivered::Never(in_words(&word)),
            failed => failed.undelivered(),
        })
}

async fn find(client: &Client, group: &Group, id: &str) -> Result<bool, Failed> {
    let Some((team, user)) = id.split_once('/') else {
        return Ok(false);
    };
    let person = match client.ask("users.info", &[("user", user)]).await {
        Ok(answer) => answer,
        Err(Failed::No(word)) if word == "user_not_found" || word == "user_not_visible" => {
            return Ok(false);
        }
        Err(failed) => return Err(failed),
    };
    let person = &person["user"];
    match group {
        Group::Workspace(of) => Ok(is_ours(person, of) && team == of && !is_guest(person)),
        Group::UserGroup { team: of, id } if is_ours(person, of) && team == of => {
            let of_group = [("usergroup", &**id)];
            let answer = client.ask("usergroups.users.list", &of_group).await?;
            Ok(names(&answer["users"], user))
        }
        Group::Conversation { team: of, id } if is_ours(person, of) && team == of => {
            is_in(client, id, user).await
        }
        _ => Ok(false),
    }
}

/// Whether somebody is a person of this workspace.
fn is_ours(person: &Value, team: &str) -> bool {
    let no = |flag: &str| person[flag] != true;
    person["team_id"] == team && no("deleted") && no("is_bot") && no("is_stranger")
}

fn is_guest(person: &Value) -> bool {
    person["is_restricted"] == true || person["is_ultra_restricted"] == true
}

/// Whether somebody is in a channel, by all pages of its members.
async fn is_in(client: &Client, channel: &str, user: &str) -> Result<bool, Failed> {
    let mut cursor = String::new();
    for _ in 0..PAGES {
        let fields = [("channel", channel), ("limit", PAGE), ("cursor", &cursor)];
        let page = client.ask("conversations.members", &fields).await?;
        if names(&page["members"], user) {
            return Ok(true);
        }
        let next = page["response_metadata"]["next_cursor"].as_str();
        match next.filter(|next| !next.is_empty()) {
            Some(next) => cursor = next.to_owned(),
            None => return Ok(false),
        }
    }
    Err(Failed::No(TOO_MANY.into()))
}

fn names(ids: &Value, user: &str) -> bool {
    let mut ids = ids.as_array().into_iter().flatten();
    ids.any(|id| id == user)
}
