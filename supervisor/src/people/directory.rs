//! Where people are looked up: the configuration, then the store, then the far side's groups. Nothing of
//! the store is remembered here, so whoever is unlinked is a stranger from their next message on.
//!
//! Codes are made and used here, too; what is said about it stands in the reception and on the command
//! line.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::config::{Role, Settings, is_name};
use shared::hash::Hash;
use shared::id::{PrincipalId, TenantId};
use shared::run::Timestamp;
use shared::store::{Attempt, Error, Identity, Link, NewCode, Purpose, Redeemed, Store, Whose};

use super::code::Code;
use super::groups::{Group, Memory, Verdict, granted, verdict};
use super::{Known, People, identity, name_of, whose};
use crate::auth::NoRandomness;
use crate::channels::{Channel, Undelivered};

/// How long a code is good where nobody says otherwise.
pub const CODE_LASTS: Duration = Duration::from_secs(10 * 60);
/// The longest that one may be.
pub const CODE_LASTS_AT_MOST: Duration = Duration::from_secs(24 * 3_600);
/// The longest label of a code, in characters.
pub const MAX_LABEL: usize = 64;
/// How long the far side may take to say who belongs to a group.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who is who.
pub struct Directory {
    people: People,
    granted: Vec<(Group, Vec<Role>)>,
    memory: Mutex<Memory>,
    store: Arc<dyn Store>,
    tenant: TenantId,
}

/// Who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// They are known.
    Known(Known),
    /// They are not.
    Stranger,
    /// Whether they belong to a group that is known could not be found out now; why.
    Unsure(String),
}

/// Why no code was made.
#[derive(Debug, thiserror::Error)]
pub enum NoCode {
    /// The name cannot be used.
    #[error(
        "{0:?} is no name for a person: 1 to 64 lower-case letters, digits, `-` and `_`, a letter first"
    )]
    Name(String),
    /// The label cannot be used.
    #[error("a label is one line of at most {MAX_LABEL} characters")]
    Label,
    /// No role was given.
    #[error("a person without roles may do nothing; give at least `member`")]
    NoRole,
    /// It would be good for too long, or not at all.
    #[error("a code is good for 1 minute to 24 hours")]
    Time,
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Why nobody was unlinked.
#[derive(Debug, thiserror::Error)]
pub enum NotRemoved {
    /// It means nobody.
    #[error("{0:?} is neither a person's name nor CHANNEL:ID, such as telegram:7")]
    Who(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// What an admin gives with a code.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Whose identity it links.
    pub name: String,
    /// What they may do.
    pub roles: Vec<Role>,
    /// What the code is called.
    pub label: String,
    /// How long it is good.
    pub lasts: Duration,
    /// Who makes it.
    pub made_by: PrincipalId,
}

/// Somebody who is known, for people's eyes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Their name; for a grant, nobody's.
    pub principal: Option<PrincipalId>,
    /// Where.
    pub channel: String,
    /// Their id there; for a grant, the group.
    pub id: String,
    /// What they may do now.
    pub roles: Vec<Role>,
    /// How they are known.
    pub source: Source,
}

/// How somebody is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// By `[[people]]`.
    Configured,
    /// By a code.
    Linked(Link),
    /// By a group.
    Granted,
}

/// What was unlinked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The links that were ended.
    pub links: Vec<Link>,
    /// Whether the configuration names them all the same.
    pub configured: bool,
    /// The groups that they were lately found to belong to, and that let them in all the same.
    pub groups: Vec<String>,
}

impl Removed {
    /// Why they are known all the same, and what ends that.
    pub fn still_known(&self) -> Option<String> {
        if self.configured {
            let named = "majordomo.toml names it: take the entry out of [[people]] and start again";
            return Some(named.into());
        }
        (!self.groups.is_empty()).then(|| {
            format!(
                "{} lets them in: remove them there, which counts within ten minutes; or take the grant \
                 out of [[grants]] and start again",
                self.groups.join(", ")
            )
        })
    }
}

impl Directory {
    /// Of a tenant, as its configuration and its store have it.
    pub fn new(settings: &Settings, store: Arc<dyn Store>) -> Self {
        Self {
            people: People::new(&settings.people),
            granted: granted(&settings.grants),
            memory: Mutex::default(),
            store,
            tenant: settings.tenant.0.clone(),
        }
    }

    /// Who somebody in a channel is. Asks the far side where only a group could know them.
    pub async fn who(&self, channel: &dyn Channel, id: &str) -> Result<Who, Error> {
        let identity = identity(channel.name(), id);
        if let Some(known) = self.named(&identity).await? {
            return Ok(Who::Known(known));
        }
        let mut said = Vec::new();
        let groups = self.granted.iter();
        for (group, roles) in groups.filter(|(group, _)| group.may_hold(channel.name(), id)) {
            said.push((&roles[..], self.belongs(channel, group, id).await));
        }
        Ok(match verdict(said) {
            Verdict::Member(roles) => Who::Known(Known {
                principal: format!("{}:{id}", channel.name()).into(),
                roles,
                named: false,
            }),
            Verdict::Stranger => Who::Stranger,
            Verdict::Unsure(why) => Who::Unsure(why),
        })
    }

    /// Who has a name of their own, by configuration or code.
    async fn named(&self, identity: &Identity) -> Result<Option<Known>, Error> {
        if let Some(known) = self.people.who(identity) {
            return Ok(Some(known.clone()));
        }
        let identities = self.store.identities();
        let Some(link) = identities.link(&self.tenant, identity).await? else {
            return Ok(None);
        };
        let links = match link.origin {
            Purpose::Own => {
                identities
                    .links(&self.tenant, Some(&link.principal))
                    .await?
            }
            Purpose::Pair | Purpose::Claim => Vec::new(),
        };
        let roles = self.people.worth(&link, &links);
        Ok((!roles.is_empty()).then_some(Known {
            principal: link.principal,
            roles,
            named: true,
        }))
    }

    async fn belongs(
        &self,
        channel: &dyn Channel,
        group: &Group,
        id: &str,
    ) -> Result<bool, String> {
        if let Some(belongs) = self.memory().fresh(group, id, self.store.now()) {
            return Ok(belongs);
        }
        let asked = tokio::time::timeout(PATIENCE, channel.belongs(group, id)).await;
        let why = match asked {
            Ok(Ok(belongs)) => {
                let now = self.store.now();
                self.memory().learn(group, id, belongs, now);
                return Ok(belongs);
            }
            Ok(Err(lasting @ (Undelivered::Never(_) | Undelivered::Missing))) => {
                let channel = channel.name();
                tracing::error!(channel, %group, why = %lasting, "nobody belongs to a group that cannot be asked");
                let now = self.store.now();
                self.memory().learn(group, id, false, now);
                return Ok(false);
            }
            Ok(Err(passing)) => passing.to_string(),
            Err(_) => format!("no answer in {} s", PATIENCE.as_secs()),
        };
        let channel = channel.name();
        tracing::warn!(channel, %group, why, "who belongs to a group cannot be asked");
        let last = self.memory().last(group, id, self.store.now());
        last.ok_or(why)
    }

    /// The identities of admins who are known by name.
    pub async fn admins(&self) -> Result<Vec<Identity>, Error> {
        let entries = self.entries().await?.into_iter();
        let admins = entries.filter(|entry| entry.roles.contains(&Role::Admin));
        Ok(admins
            .map(|entry| identity(&entry.channel, &entry.id))
            .collect())
    }

    /// Everybody who is known by name and has this role, or one that includes it.
    pub async fn holders(&self, role: Role) -> Result<Vec<(PrincipalId, Identity)>, Error> {
        let entries = self.entries().await?.into_iter();
        let holders = entries
            .filter(|entry| entry.roles.contains(&role) || entry.roles.contains(&Role::Admin));
        Ok(holders
            .filter_map(|entry| Some((entry.principal?, identity(&entry.channel, &entry.id))))
            .collect())
    }

    /// All identities of a person.
    pub async fn identities(&self, principal: &PrincipalId) -> Result<Vec<Identity>, Error> {
        let entries = self.entries().await?.into_iter();
        let theirs = entries.filter(|entry| entry.principal.as_ref() == Some(principal));
        Ok(theirs
            .map(|entry| identity(&entry.channel, &entry.id))
            .collect())
    }

    /// Everybody: those who are named, the groups that are granted something, and who was lately found
    /// to belong to one.
    pub async fn everybody(&self) -> Result<Vec<Entry>, Error> {
        let mut all = self.entries().await?;
        all.extend(self.granted.iter().map(|(group, roles)| Entry {
            principal: None,
            channel: group.channel().into(),
            id: group.to_string(),
            roles: roles.clone(),
            source: Source::Granted,
        }));
        let now = self.store.now();
        let known: BTreeSet<Identity> = all
            .iter()
            .map(|entry| identity(&entry.channel, &entry.id))
            .collect();
        let members = self.memory().members(now).into_iter();
        for (channel, id) in members.filter(|(channel, id)| !known.contains(&identity(channel, id)))
        {
            let memory = self.memory();
            let groups = self
                .granted
                .iter()
                .map(|(group, roles)| (&roles[..], Ok(memory.last(group, &id, now) == Some(true))));
            let Verdict::Member(roles) = verdict(groups) else {
                continue;
            };
            all.push(Entry {
                principal: Some(format!("{channel}:{id}").into()),
                channel: channel.into(),
                roles,
                id,
                source: Source::Granted,
            });
        }
        Ok(all)
    }

    /// Those who are named.
    async fn entries(&self) -> Result<Vec<Entry>, Error> {
        let links = self.store.identities().links(&self.tenant, None).await?;
        let configured = self
            .people
            .all()
            .into_iter()
            .map(|(identity, known)| Entry {
                principal: Some(known.principal.clone()),
                channel: identity.channel.clone(),
                id: identity.id.clone(),
                roles: known.roles.clone(),
                source: Source::Configured,
            });
        let linked = links
            .iter()
            .filter(|link| self.people.who(&link.identity).is_none());
        let linked = linked.map(|link| {
            let theirs = links.iter().filter(|one| one.principal == link.principal);
            let theirs: Vec<Link> = theirs.cloned().collect();
            Entry {
                principal: Some(link.principal.clone()),
                channel: link.identity.channel.clone(),
                id: link.identity.id.clone(),
                roles: self.people.worth(link, &theirs),
                source: Source::Linked(link.clone()),
            }
        });
        Ok(configured.chain(linked).collect())
    }

    /// Makes a code by which somebody becomes known. It comes back this once, with the time until which
    /// it is good.
    pub async fn offer(&self, offer: Offer) -> Result<(Code, Timestamp), NoCode> {
        if !is_name(&offer.name) {
            return Err(NoCode::Name(offer.name));
        }
        let label = offer.label.trim();
        if label.chars().count() > MAX_LABEL || label.chars().any(char::is_control) {
            return Err(NoCode::Label);
        }
        if offer.roles.is_empty() {
            return Err(NoCode::NoRole);
        }
        if offer.lasts.is_zero() || offer.lasts > CODE_LASTS_AT_MOST {
            return Err(NoCode::Time);
        }
        self.keep(|hash| NewCode {
            hash,
            purpose: Purpose::Pair,
            principal: offer.name.into(),
            roles: BTreeSet::from_iter(offer.roles).into_iter().collect(),
            label: label.to_owned(),
            made_by: offer.made_by,
            lasts: offer.lasts,
        })
        .await
    }

    /// Makes a code by which somebody who is known by name links another identity of their own. It gives
    /// no more than they have.
    pub async fn offer_own(
        &self,
        known: &Known,
        channel: &str,
    ) -> Result<(Code, Timestamp), NoCode> {
        self.keep(|hash| NewCode {
            hash,
            purpose: Purpose::Own,
            principal: known.principal.clone(),
            roles: known.roles.clone(),
            label: format!("made in {channel}"),
            made_by: known.principal.clone(),
            lasts: CODE_LASTS,
        })
        .await
    }

    /// Makes the code of the first admin, where there is none yet; every earlier one is void.
    pub async fn offer_claim(&self) -> Result<Option<(Code, Timestamp)>, NoCode> {
        if !self.admins().await?.is_empty() {
            return Ok(None);
        }
        let kept = self.keep(|hash| NewCode {
            hash,
            purpose: Purpose::Claim,
            principal: "".into(),
            roles: vec![Role::Admin],
            label: "the first admin".into(),
            made_by: crate::auth::LOCAL.into(),
            lasts: CODE_LASTS,
        });
        kept.await.map(Some)
    }

    async fn keep(&self, new: impl FnOnce(Hash) -> NewCode) -> Result<(Code, Timestamp), NoCode> {
        let code = Code::fresh()?;
        let identities = self.store.identities();
        let until = identities.offer(&self.tenant, new(code.hash())).await?;
        Ok((code, until))
    }

    /// Uses a code that names somebody, by its hash.
    pub async fn redeem(
        &self,
        identity: Identity,
        key: &str,
        shown: Hash,
    ) -> Result<Redeemed, Error> {
        self.attempt(identity, key, shown, None).await
    }

    /// Has a code be good no more that others saw. Whether it was one that nobody had used.
    pub async fn burn(&self, shown: Hash) -> Result<bool, Error> {
        self.store.identities().burn(&self.tenant, shown).await
    }

    /// Uses the first admin's code; who does is called by their handle, where that is possible. None
    /// where there is an admin.
    pub async fn claim(
        &self,
        identity: Identity,
        key: &str,
        shown: Hash,
        handle: Option<&str>,
    ) -> Result<Option<Redeemed>, Error> {
        let entries = self.entries().await?;
        let is_other =
            |entry: &Entry| (&entry.channel, &entry.id) != (&identity.channel, &identity.id);
        if entries
            .iter()
            .any(|entry| entry.roles.contains(&Role::Admin) && is_other(entry))
        {
            return Ok(None);
        }
        let names = entries.iter().filter_map(|entry| entry.principal.as_ref());
        let names: BTreeSet<&str> = names.map(PrincipalId::as_str).collect();
        let name = name_of(handle, |name| names.contains(name));
        let attempt = self.attempt(identity, key, shown, Some(name));
        attempt.await.map(Some)
    }

    async fn attempt(
        &self,
        identity: Identity,
        key: &str,
        shown: Hash,
        claims: Option<PrincipalId>,
    ) -> Result<Redeemed, Error> {
        let attempt = Attempt {
            identity,
            key: key.to_owned(),
            hash: shown,
            claims,
        };
        let identities = self.store.identities();
        identities.redeem(&self.tenant, attempt).await
    }

    /// The name by which the configuration knows an identity.
    pub fn configured(&self, identity: &Identity) -> Option<&PrincipalId> {
        self.people.who(identity).map(|known| &known.principal)
    }

    /// Unlinks a person, by their name, or one identity, as `CHANNEL:ID`. They are strangers from their
    /// next message on.
    pub async fn remove(&self, who: &str) -> Result<Removed, NotRemoved> {
        let whose = whose(who).ok_or_else(|| NotRemoved::Who(who.into()))?;
        let links = self.store.identities().unlink(&self.tenant, &whose).await?;
        let configured = match &whose {
            Whose::Identity(identity) => self.people.who(identity).is_some(),
            Whose::Person(name) => self
                .people
                .all()
                .iter()
                .any(|(_, known)| known.principal == *name),
        };
        let groups = match &whose {
            Whose::Identity(identity) => self.groups_of(identity),
            Whose::Person(_) => Vec::new(),
        };
        Ok(Removed {
            links,
            configured,
            groups,
        })
    }

    /// The granted groups that somebody was lately found to belong to.
    fn groups_of(&self, identity: &Identity) -> Vec<String> {
        let (memory, now) = (self.memory(), self.store.now());
        let theirs = self.granted.iter().filter(|(group, _)| {
            group.channel() == identity.channel
                && memory.last(group, &identity.id, now) == Some(true)
        });
        theirs.map(|(group, _)| group.to_string()).collect()
    }

    /// Has what is remembered of groups be so much older. For tests, which do not wait.
    pub fn age(&self, by: Duration) {
        self.memory().age(by);
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
