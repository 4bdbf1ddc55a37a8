//! What an operator has stopped. A halt is a row; every process keeps what it knows of them beside its
//! bell, where runs in memory, the way in and the dispatcher look.
//!
//! ```text
//!   set, lift ─► row ─► look ─► bell ─┬─► runs that it covers leave memory at once
//!                        ▲            ├─► nothing new is taken in
//!   other processes ─────┘            └─► lifted: the queue is rung
//! ```
//! The row keeps a run from being claimed, the bell ends what is in hand. To pause one task is
//! [`Store::pause`](super::Store::pause).

use std::fmt;

use async_trait::async_trait;

use super::Error;
use crate::clock;
use crate::id::{AgentName, PrincipalId, TenantId};
use crate::run::Timestamp;

/// What stands still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halted {
    /// Everything: nothing is taken in, nothing goes on.
    All,
    /// One agent: its runs wait, all others go on.
    Agent(AgentName),
}

impl Halted {
    /// The kind's name in the store, and the agent's or none.
    pub(super) fn as_row(&self) -> (&'static str, &str) {
        match self {
            Self::All => ("all", ""),
            Self::Agent(name) => ("agent", name.as_str()),
        }
    }

    /// What [`Halted::as_row`] wrote.
    pub(super) fn of_row(what: &str, name: &str) -> Option<Self> {
        match what {
            "all" => Some(Self::All),
            "agent" => Some(Self::Agent(name.into())),
            _ => None,
        }
    }
}

impl fmt::Display for Halted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            Self::Agent(name) => write!(f, "agent {name}"),
        }
    }
}

/// One word of an operator that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    /// Whose work stands still; none where a file stops this process, whoever's work it does.
    pub tenant: Option<TenantId>,
    /// What of it.
    pub what: Halted,
    /// Why, in the words of whoever stopped it; may be empty.
    pub reason: String,
    /// Who stopped it.
    pub by: PrincipalId,
    /// When.
    pub at: Timestamp,
}

impl Halt {
    /// Whether any work for this tenant may be meant.
    pub fn is_for(&self, tenant: &TenantId) -> bool {
        self.tenant.as_ref().is_none_or(|own| own == tenant)
    }

    /// Whether work for this tenant stands still, done by this agent where one does it.
    pub fn covers(&self, tenant: &TenantId, agent: Option<&AgentName>) -> bool {
        self.is_for(tenant)
            && match &self.what {
                Halted::All => true,
                Halted::Agent(name) => Some(name) == agent,
            }
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = clock::utc(self.at);
        write!(f, "{} was stopped by {} at {at}", self.what, self.by)?;
        match self.reason.is_empty() {
            true => Ok(()),
            false => write!(f, ": {}", self.reason),
        }
    }
}

/// A word to be kept.
#[derive(Clone, Debug)]
pub struct NewHalt {
    /// Whose work.
    pub tenant: TenantId,
    /// What of it.
    pub what: Halted,
    /// Why.
    pub reason: String,
    /// Who says so.
    pub by: PrincipalId,
}

/// Halts, as the store holds them.
#[async_trait]
pub trait Halts: Send + Sync {
    /// Stops something. On return it is durable, no run that it covers is claimed any more, those in
    /// this process leave memory, and the other processes are told. False where it stood still
    /// before: reason and time stay those of the first word.
    async fn set(&self, halt: NewHalt) -> Result<bool, Error>;

    /// Lets it go on; the queue is rung here and elsewhere. False where it did not stand still.
    async fn lift(&self, tenant: &TenantId, what: &Halted) -> Result<bool, Error>;

    /// What stands still of a tenant's, the oldest first.
    async fn of(&self, tenant: &TenantId) -> Result<Vec<Halt>, Error>;

    /// Has this process know what stands still now, of all tenants. Safe to call at any time.
    async fn look(&self) -> Result<(), Error>;
}

/// What a process knows of halts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Halting {
    /// By the file of this process.
    pub here: Option<Halt>,
    /// By the store.
    pub stored: Vec<Halt>,
    /// The look that `stored` came from: one that began earlier changes nothing any more.
    pub(super) look: u64,
}

impl Halting {
    /// All of them, the file's first.
    pub fn all(&self) -> impl Iterator<Item = &Halt> {
        self.here.iter().chain(&self.stored)
    }

    /// Whether this one is known.
    pub(super) fn has(&self, halt: &Halt) -> bool {
        self.all().any(|known| known == halt)
    }

    /// The one that keeps this work from going on.
    pub fn covering(&self, tenant: &TenantId, agent: Option<&AgentName>) -> Option<&Halt> {
        self.all().find(|halt| halt.covers(tenant, agent))
    }
}
