//! Groups elsewhere whose members are known here: what the configuration grants, and what is remembered
//! of who belongs. Pure; whoever asks the far side is the [`super::directory`].
//!
//! What was found out counts for some minutes. After that the far side is asked again, and where it does
//! not answer, a yes counts a little longer; then nobody knows, and nothing runs. A group that cannot be asked
//! until somebody mends that, such as one that the bot was thrown out of, has no members: to wait would
//! help nobody.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use shared::config::{Grant, Role};
use shared::run::Timestamp;

/// How long a yes counts without asking.
const YES: Duration = Duration::from_secs(5 * 60);
/// How long a no does: whoever just joined is not to wait long.
const NO: Duration = Duration::from_secs(60);
/// How long anything counts where the far side cannot be asked.
const AT_MOST: Duration = Duration::from_secs(10 * 60);
/// How much is remembered.
const ROOM: usize = 4_096;

/// A group elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// A group in Telegram, by its number.
    Telegram(i64),
    /// All full members of a Slack workspace.
    Workspace(String),
    /// A user group in Slack.
    UserGroup {
        /// The workspace.
        team: String,
        /// The group.
        id: String,
    },
    /// The members of a channel in Slack.
    Conversation {
        /// The workspace.
        team: String,
        /// The channel.
        id: String,
    },
}

impl Group {
    /// Where it is.
    pub fn channel(&self) -> &'static str {
        match self {
            Group::Telegram(_) => "telegram",
            _ => "slack",
        }
    }

    /// Whether somebody with this id could belong: a group has nobody from elsewhere.
    pub fn may_hold(&self, channel: &str, id: &str) -> bool {
        let of_team = |team: &str| {
            let whose = id.split_once('/').map(|(whose, _)| whose);
            channel == "slack" && whose == Some(team)
        };
        match self {
            Group::Telegram(_) => channel == "telegram",
            Group::Workspace(team) => of_team(team),
            Group::UserGroup { team, .. } | Group::Conversation { team, .. } => of_team(team),
        }
    }

    /// The group that a grant names, by its first key.
    fn of(grant: &Grant) -> Option<Self> {
        let pair = |text: &String| {
            let (team, id) = text.split_once('/')?;
            Some((team.to_owned(), id.to_owned()))
        };
        let user_group = grant.slack_user_group.as_ref().and_then(pair);
        let channel = grant.slack_channel.as_ref().and_then(pair);
        let workspace = grant.slack_workspace.clone();
        grant
            .telegram_group
            .map(Group::Telegram)
            .or_else(|| workspace.map(Group::Workspace))
            .or_else(|| user_group.map(|(team, id)| Group::UserGroup { team, id }))
            .or_else(|| channel.map(|(team, id)| Group::Conversation { team, id }))
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Group::Telegram(id) => write!(f, "group {id}"),
            Group::Workspace(team) => write!(f, "workspace {team}"),
            Group::UserGroup { team, id } => write!(f, "user group {team}/{id}"),
            Group::Conversation { team, id } => write!(f, "channel {team}/{id}"),
        }
    }
}

/// Groups with what their members may do.
pub fn granted(grants: &[Grant]) -> Vec<(Group, Vec<Role>)> {
    let one = |grant: &Grant| Some((Group::of(grant)?, grant.roles.clone()));
    grants.iter().filter_map(one).collect()
}

/// What the groups of somebody come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They belong, and may do this: all that any of their groups gives.
    Member(Vec<Role>),
    /// They belong to none.
    Stranger,
    /// They belong to none that could be asked; why another could not.
    Unsure(String),
}

/// What becomes of what each group said.
pub fn verdict<'a>(said: impl IntoIterator<Item = (&'a [Role], Result<bool, String>)>) -> Verdict {
    let (mut roles, mut is_member, mut unsure) = (BTreeSet::new(), false, None);
    for (gives, belongs) in said {
        match belongs {
            Ok(true) => {
                is_member = true;
                roles.extend(gives.iter().copied());
            }
            Ok(false) => {}
            Err(why) => unsure = Some(why),
        }
    }
    match (is_member, unsure) {
        (true, _) => Verdict::Member(roles.into_iter().collect()),
        (false, None) => Verdict::Stranger,
        (false, Some(why)) => Verdict::Unsure(why),
    }
}

/// Who was found to belong where, and when.
#[derive(Debug, Default)]
pub struct Memory {
    known: HashMap<(Group, String), (bool, Timestamp)>,
}

impl Memory {
    /// Whether somebody belongs, where that need not be asked now.
    pub fn fresh(&self, group: &Group, id: &str, now: Timestamp) -> Option<bool> {
        let (belongs, age) = self.find(group, id, now)?;
        let lasts = if belongs { YES } else { NO };
        (age < lasts).then_some(belongs)
    }

    /// Whether somebody belongs, where nobody can be asked.
    pub fn last(&self, group: &Group, id: &str, now: Timestamp) -> Option<bool> {
        let (belongs, age) = self.find(group, id, now)?;
        (age < AT_MOST).then_some(belongs)
    }

    /// Remembers what was found out.
    pub fn learn(&mut self, group: &Group, id: &str, belongs: bool, now: Timestamp) {
        if self.known.len() >= ROOM {
            self.known.retain(|_, (_, at)| now.since(*at) < AT_MOST);
        }
        if self.known.len() >= ROOM {
            // More people than there is room for: they are asked for again.
            self.known.clear();
        }
        let key = (group.clone(), id.to_owned());
        self.known.insert(key, (belongs, now));
    }

    /// Everybody who counts as a member now.
    pub fn members(&self, now: Timestamp) -> BTreeSet<(&'static str, String)> {
        let lately = self.known.iter();
        let lately = lately.filter(|(_, (belongs, at))| *belongs && now.since(*at) < AT_MOST);
        lately
            .map(|((group, id), _)| (group.channel(), id.clone()))
            .collect()
    }

    /// Has all that is remembered be so much older.
    pub fn age(&mut self, by: Duration) {
        for (_, at) in self.known.values_mut() {
            at.0 = at.0.saturating_sub(by.as_millis() as i64);
        }
    }

    fn find(&self, group: &Group, id: &str, now: Timestamp) -> Option<(bool, Duration)> {
        let (belongs, at) = self.known.get(&(group.clone(), id.to_owned()))?;
        Some((*belongs, now.since(*at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(minutes: i64) -> Timestamp {
        Timestamp(1_000 + minutes * 60_000)
    }

    #[test]
    fn what_was_found_out_counts_for_minutes_and_never_for_longer_than_ten() {
        let (team, mut memory) = (Group::Telegram(-5), Memory::default());
        memory.learn(&team, "7", true, after(0));
        memory.learn(&team, "8", false, after(0));
        let at = |minutes, id| {
            let now = after(minutes);
            (memory.fresh(&team, id, now), memory.last(&team, id, now))
        };
        assert_eq!(at(4, "7"), (Some(true), Some(true)));
        assert_eq!(at(5, "7"), (None, Some(true)));
        assert_eq!(at(10, "7"), (None, None));
        assert_eq!(at(0, "8"), (Some(false), Some(false)));
        assert_eq!(at(1, "8"), (None, Some(false)));
        assert_eq!(at(0, "9"), (None, None));
    }

    #[test]
    fn nobody_from_elsewhere_could_belong() {
        let (team, id) = ("T1".to_owned(), "S1".to_owned());
        let of_slack = [
            Group::Workspace(team.clone()),
            Group::UserGroup {
                team: team.clone(),
                id: id.clone(),
            },
            Group::Conversation { team, id },
        ];
        for group in of_slack {
            assert!(group.may_hold("slack", "T1/U1"));
            for (channel, id) in [("slack", "T12/U1"), ("slack", "U1"), ("telegram", "T1/U1")] {
                assert!(!group.may_hold(channel, id), "{group} {channel} {id}");
            }
        }
        assert!(Group::Telegram(-5).may_hold("telegram", "7"));
        assert!(!Group::Telegram(-5).may_hold("slack", "T1/U1"));
    }

    #[test]
    fn there_is_room_for_so_many_and_no_more() {
        let (team, mut memory) = (Group::Telegram(-5), Memory::default());
        for n in 0..ROOM + 10 {
            memory.learn(&team, &n.to_string(), true, after(0));
        }
        assert!(memory.known.len() <= ROOM);
        let last = (ROOM + 9).to_string();
        assert_eq!(memory.fresh(&team, &last, after(0)), Some(true));
    }

    #[test]
    fn groups_add_up_and_doubt_gives_nothing() {
        let (member, approver) = ([Role::Member], [Role::Approver]);
        let away = || Err("away".to_owned());
        let of = |a, b| verdict([(&member[..], a), (&approver[..], b)]);
        let both = vec![Role::Member, Role::Approver];
        assert_eq!(of(Ok(true), Ok(true)), Verdict::Member(both));
        assert_eq!(of(Ok(true), away()), Verdict::Member(vec![Role::Member]));
        assert_eq!(of(Ok(false), Ok(false)), Verdict::Stranger);
        assert_eq!(of(Ok(false), away()), Verdict::Unsure("away".into()));
    }
}
