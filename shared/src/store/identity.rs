//! Who is who in channels, as the store holds it: ids that were linked to a person, and the codes by
//! which they are. What a link is worth is decided elsewhere; here it is only kept.
//!
//! ```text
//!   offer ─► code ──redeem──► link ──unlink──► (nothing)
//!              └─ expired, replaced, used: opens nothing
//! ```
//! A code is kept as its hash. It is used by the commit that makes the link, so it is used once; wrong
//! ones are counted by sender, and whoever showed too many is not listened to for a while.

use std::time::Duration;

use async_trait::async_trait;

use super::Error;
use crate::config::Role;
use crate::hash::Hash;
use crate::id::{PrincipalId, TenantId};
use crate::run::Timestamp;

/// Wrong codes that a sender may show within [`MISSES_WITHIN`].
pub const MISSES: u32 = 5;
/// How long a wrong code counts.
pub const MISSES_WITHIN: Duration = Duration::from_secs(3_600);

/// How long a used code is kept: by then nobody repeats the attempt that used it.
pub(super) const USED_CODES_LAST: Duration = Duration::from_secs(86_400);

/// What a code is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An admin gave it to a person.
    Pair,
    /// A person who is known made it for another identity of their own.
    Own,
    /// Whoever stands at the machine becomes the first admin.
    Claim,
}

impl Purpose {
    /// The purpose's name in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Own => "own",
            Self::Claim => "claim",
        }
    }

    /// The purpose of this name.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Pair, Self::Own, Self::Claim];
        all.into_iter().find(|purpose| purpose.as_str() == name)
    }
}

/// Somebody's id in a channel. It never changes; names do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The channel.
    pub channel: String,
    /// The id there.
    pub id: String,
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.channel, self.id)
    }
}

/// An id that belongs to a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The id.
    pub identity: Identity,
    /// The person.
    pub principal: PrincipalId,
    /// What was given with the code.
    pub roles: Vec<Role>,
    /// What the code was called.
    pub label: String,
    /// What the code was for.
    pub origin: Purpose,
    /// Who made the code.
    pub made_by: PrincipalId,
    /// When it was used.
    pub at: Timestamp,
}

/// A code to be kept.
#[derive(Clone, Debug)]
pub struct NewCode {
    /// The hash of its text.
    pub hash: Hash,
    /// What it is for. A new claim replaces every other one.
    pub purpose: Purpose,
    /// Whose identity it links; for a claim, nobody's yet.
    pub principal: PrincipalId,
    /// What it gives.
    pub roles: Vec<Role>,
    /// What it is called.
    pub label: String,
    /// Who made it.
    pub made_by: PrincipalId,
    /// How long it is good, by the store's clock.
    pub lasts: Duration,
}

/// A code that somebody shows.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Who shows it.
    pub identity: Identity,
    /// The message by which they do: the same again is the same attempt.
    pub key: String,
    /// The hash of what they show.
    pub hash: Hash,
    /// Who they will be by a claim; none where they show a code that names somebody.
    pub claims: Option<PrincipalId>,
}

impl Attempt {
    /// What tells it from others.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.identity, self.key)
    }
}

/// A code as it is kept. The rule of both stores: what it is good for, and what becomes of it.
pub(super) struct Code {
    pub purpose: Purpose,
    pub principal: PrincipalId,
    pub roles: Vec<Role>,
    pub label: String,
    pub made_by: PrincipalId,
    pub expires_at: Timestamp,
    pub used_by: Option<String>,
}

impl Code {
    /// Whether this attempt may use it now.
    pub fn is_good(&self, attempt: &Attempt, now: Timestamp) -> bool {
        let fits = (self.purpose == Purpose::Claim) == attempt.claims.is_some();
        fits && self.used_by.is_none() && self.expires_at > now
    }

    /// The link that it becomes.
    pub fn into_link(self, attempt: &Attempt, now: Timestamp) -> Link {
        Link {
            identity: attempt.identity.clone(),
            principal: attempt.claims.clone().unwrap_or(self.principal),
            roles: self.roles,
            label: self.label,
            origin: self.purpose,
            made_by: self.made_by,
            at: now,
        }
    }
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redeemed {
    /// The code is used, and this link made by it.
    Linked(Link),
    /// The identity was somebody's before; the code is as good as it was.
    Taken(Link),
    /// No such code is good now. So many more may be tried.
    Wrong {
        /// Wrong codes that are left to the sender for now.
        left: u32,
    },
    /// Too many wrong codes came from there: this one was not looked at.
    Silenced,
}

/// Which links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// All of a person's.
    Person(PrincipalId),
    /// That of an identity.
    Identity(Identity),
}

/// The port of identities. All of a tenant's; one transaction each.
#[async_trait]
pub trait Identities: Send + Sync {
    /// Keeps a code. On return it is good, until the time that is answered. What
    /// expired, and what was used a while ago, is forgotten with it.
    async fn offer(&self, tenant: &TenantId, code: NewCode) -> Result<Timestamp, Error>;

    /// Uses a code: code and link change in one commit, so that of two who show the same code one is
    /// linked. The same attempt again has the same answer.
    async fn redeem(&self, tenant: &TenantId, attempt: Attempt) -> Result<Redeemed, Error>;

    /// Has a code be good no more that nobody used: others saw it. Whether it was good.
    async fn burn(&self, tenant: &TenantId, hash: Hash) -> Result<bool, Error>;

    /// The link of an identity.
    async fn link(&self, tenant: &TenantId, identity: &Identity) -> Result<Option<Link>, Error>;

    /// All links, by person and time; of one person, where one is named.
    async fn links(&self, tenant: &TenantId, of: Option<&PrincipalId>) -> Result<Vec<Link>, Error>;

    /// Ends links, and with them every unused code of the persons that they were of. Answers those that
    /// were ended.
    async fn unlink(&self, tenant: &TenantId, whose: &Whose) -> Result<Vec<Link>, Error>;
}
