//! Who is who in chats: immutable ids to principals and what they may do. Whoever is not named here is
//! a stranger. Pure; the ids come from the channels, the rest from the configuration.

use std::collections::HashMap;

use shared::config::{Person, Role};
use shared::id::PrincipalId;

/// A person, as the configuration knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The name that their tasks bear.
    pub principal: PrincipalId,
    /// What they may do.
    pub roles: Vec<Role>,
}

impl Known {
    /// Whether they may do what this role may do.
    pub fn may(&self, role: Role) -> bool {
        self.roles.contains(&role) || self.roles.contains(&Role::Admin)
    }
}

/// The people of an installation.
#[derive(Clone, Debug, Default)]
pub struct People {
    by_id: HashMap<(&'static str, String), Known>,
    admins: Vec<(&'static str, String)>,
}

impl People {
    /// Those whom the configuration names.
    pub fn new(people: &[Person]) -> Self {
        let mut all = Self::default();
        for person in people {
            let known = Known {
                principal: person.name.clone(),
                roles: person.roles.clone(),
            };
            let telegram = person.telegram.map(|id| ("telegram", id.to_string()));
            let slack = person.slack.clone().map(|id| ("slack", id));
            for id in [telegram, slack].into_iter().flatten() {
                if known.may(Role::Admin) {
                    all.admins.push(id.clone());
                }
                all.by_id.insert(id, known.clone());
            }
        }
        all
    }

    /// The person who has this id in a channel.
    pub fn who(&self, channel: &'static str, id: &str) -> Option<&Known> {
        self.by_id.get(&(channel, id.to_owned()))
    }

    /// Admins by channel and id.
    pub fn admins(&self) -> &[(&'static str, String)] {
        &self.admins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_who_are_named_are_known_and_only_in_their_channel() {
        let ada = Person {
            name: "ada".into(),
            telegram: Some(7),
            slack: Some("T1/U1".into()),
            roles: vec![Role::Admin],
        };
        let people = People::new(&[ada]);
        let known = people.who("telegram", "7").unwrap();
        assert!(known.principal.as_str() == "ada" && known.may(Role::Member));
        assert!(people.who("slack", "7").is_none() && people.who("telegram", "8").is_none());
        assert_eq!(people.admins().len(), 2);
    }
}
