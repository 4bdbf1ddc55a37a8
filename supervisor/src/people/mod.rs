//! Who is who in chats: immutable ids to principals and what they may do. Whoever is not known here is a
//! stranger.
//!
//! ```text
//!   id ─► [[people]] ─► linked by a code ─► member of a granted group ─► stranger
//! ```
//! The first that knows an id decides. This file holds the rules, which are pure; [`directory`] asks
//! store and far side, [`groups`] says what is remembered of memberships, [`code`] what codes look like.

pub mod code;
pub mod directory;
pub mod groups;

use std::collections::{BTreeSet, HashMap};

use shared::config::{Person, Role, is_name};
use shared::id::PrincipalId;
use shared::store::{Identity, Link, Purpose, Whose};

use crate::auth::LOCAL;

/// Who becomes admin where nobody has a name that fits.
const ADMIN: &str = "admin";

/// Somebody who is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The name that their tasks bear.
    pub principal: PrincipalId,
    /// What they may do.
    pub roles: Vec<Role>,
    /// Whether they are known by a name of their own, rather than by a group's.
    pub named: bool,
}

impl Known {
    /// Whether they may do what this role may do.
    pub fn may(&self, role: Role) -> bool {
        self.roles.contains(&role) || self.roles.contains(&Role::Admin)
    }
}

/// The people whom the configuration names.
#[derive(Clone, Debug, Default)]
pub struct People {
    by_id: HashMap<Identity, Known>,
}

impl People {
    /// Those of these entries.
    pub fn new(people: &[Person]) -> Self {
        let mut by_id = HashMap::new();
        for person in people {
            let known = Known {
                principal: person.name.clone(),
                roles: person.roles.clone(),
                named: true,
            };
            let telegram = person
                .telegram
                .map(|id| identity("telegram", &id.to_string()));
            let slack = person.slack.as_deref().map(|id| identity("slack", id));
            by_id.extend(
                [telegram, slack]
                    .into_iter()
                    .flatten()
                    .map(|id| (id, known.clone())),
            );
        }
        Self { by_id }
    }

    /// The person who has this identity.
    pub fn who(&self, identity: &Identity) -> Option<&Known> {
        self.by_id.get(identity)
    }

    /// All identities, in order.
    pub fn all(&self) -> Vec<(&Identity, &Known)> {
        let mut all: Vec<_> = self.by_id.iter().collect();
        all.sort_by_key(|(identity, _)| *identity);
        all
    }

    /// What a person may do by the configuration.
    fn roles(&self, principal: &PrincipalId) -> Vec<Role> {
        let entries = self.by_id.values();
        let mut theirs = entries.filter(|known| known.principal == *principal);
        theirs
            .next()
            .map_or(Vec::new(), |known| known.roles.clone())
    }

    /// What a link is worth. `links` are all of its person's. What an admin gave is worth what they gave;
    /// what somebody made for themselves is worth no more than what they may do without it: it ends with
    /// that.
    pub fn worth(&self, link: &Link, links: &[Link]) -> Vec<Role> {
        if link.origin != Purpose::Own {
            return link.roles.clone();
        }
        let given = links.iter().filter(|other| other.origin != Purpose::Own);
        let mut may: Vec<Role> = given.flat_map(|other| other.roles.clone()).collect();
        may.extend(self.roles(&link.principal));
        let (may, wanted) = (all_of(&may), all_of(&link.roles));
        may.intersection(&wanted).copied().collect()
    }
}

/// Roles with those that they include.
fn all_of(roles: &[Role]) -> BTreeSet<Role> {
    match roles.contains(&Role::Admin) {
        true => Role::ALL.into(),
        false => roles.iter().copied().collect(),
    }
}

/// An id of a channel.
pub fn identity(channel: &str, id: &str) -> Identity {
    Identity {
        channel: channel.to_owned(),
        id: id.to_owned(),
    }
}

/// Whose links a text means: a person's, by their name, or that of an identity, as `CHANNEL:ID`. None
/// where it is neither.
pub fn whose(text: &str) -> Option<Whose> {
    let is_word = |part: &str| !part.is_empty() && !part.contains(char::is_whitespace);
    match text.split_once(':') {
        Some((channel, id)) => {
            (is_word(channel) && is_word(id)).then(|| Whose::Identity(identity(channel, id)))
        }
        None => is_name(text).then(|| Whose::Person(text.into())),
    }
}

/// The name of a first admin: their handle, where it is a name and nobody's; handles are chosen freely,
/// and must make nobody into somebody who is there.
pub fn name_of(handle: Option<&str>, is_taken: impl Fn(&str) -> bool) -> PrincipalId {
    let handle = handle.unwrap_or_default().to_ascii_lowercase();
    let free = |name: &str| is_name(name) && name != LOCAL && !is_taken(name);
    let numbered = (2..).map(|n| format!("{ADMIN}-{n}"));
    let mut names = [handle, ADMIN.to_owned()].into_iter().chain(numbered);
    names.find(|name| free(name)).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::run::Timestamp;

    fn ada(roles: &[Role]) -> Person {
        Person {
            name: "ada".into(),
            telegram: Some(7),
            slack: Some("T1/U1".into()),
            roles: roles.to_vec(),
        }
    }

    fn link(id: &str, origin: Purpose, roles: &[Role]) -> Link {
        Link {
            identity: identity("telegram", id),
            principal: "ada".into(),
            roles: roles.to_vec(),
            label: String::new(),
            origin,
            made_by: "ada".into(),
            at: Timestamp(0),
        }
    }

    #[test]
    fn only_those_who_are_named_are_known_and_only_in_their_channel() {
        let people = People::new(&[ada(&[Role::Admin])]);
        let known = people.who(&identity("telegram", "7")).unwrap();
        assert!(known.principal.as_str() == "ada" && known.may(Role::Member));
        for (channel, id) in [("slack", "7"), ("telegram", "8")] {
            assert!(people.who(&identity(channel, id)).is_none());
        }
        assert_eq!(people.all().len(), 2);
    }

    #[test]
    fn what_people_make_for_themselves_is_worth_what_they_may_do_without_it() {
        use Role::{Admin, Approver, Member};
        let own = link("8", Purpose::Own, &[Admin]);
        let worth = |people: &[Person], links: &[Link]| People::new(people).worth(&own, links);
        let cases = [
            (vec![], vec![], vec![]),
            (vec![ada(&[Admin])], vec![], vec![Member, Approver, Admin]),
            (vec![ada(&[Member])], vec![], vec![Member]),
            (
                vec![],
                vec![link("9", Purpose::Pair, &[Approver])],
                vec![Approver],
            ),
            (vec![], vec![link("9", Purpose::Own, &[Admin])], vec![]),
        ];
        for (people, links, wanted) in cases {
            assert_eq!(worth(&people, &links), wanted, "{people:?} {links:?}");
        }
        let given = link("8", Purpose::Pair, &[Member]);
        assert_eq!(
            People::new(&[ada(&[Admin])]).worth(&given, &[]),
            [Member],
            "a code gives what it gives"
        );
    }

    #[test]
    fn a_text_means_a_person_an_identity_or_nobody() {
        assert_eq!(whose("ada"), Some(Whose::Person("ada".into())));
        let of_slack = identity("slack", "T1/U1");
        assert_eq!(whose("slack:T1/U1"), Some(Whose::Identity(of_slack)));
        // The first admin's code is nobody's yet, and must not go with a slip of the hand.
        for nobody in [
            "",
            " ",
            "..",
            ":",
            "slack:",
            ":7",
            "slack: ",
            "Ada Lovelace",
        ] {
            assert_eq!(whose(nobody), None, "{nobody:?}");
        }
    }

    #[test]
    fn a_handle_makes_nobody_into_somebody_else() {
        let taken = |name: &str| name == "bob" || name == "admin";
        let name = |handle| name_of(handle, taken).to_string();
        assert_eq!(name(Some("Ada")), "ada");
        for odd in [Some("bob"), Some("local"), Some("ada:1"), Some("7"), None] {
            assert_eq!(name(odd), "admin-2", "{odd:?}");
        }
    }
}
