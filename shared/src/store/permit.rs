//! Permits, as the store holds them. A use answers an ask: the answer, the count and the use's own row are
//! one commit, so there are never more uses than a permit has, and none without its row.

use std::time::Duration;

use async_trait::async_trait;

use super::{Error, NewSignal};
use crate::id::{AgentName, AskId, PermitId, PrincipalId, TenantId, ToolName};
use crate::permit::{Permit, PermitUse, Terms};

/// A permit to be given.
#[derive(Clone, Debug)]
pub struct NewPermit {
    /// Its id; safe to repeat with the same one.
    pub id: PermitId,
    /// Whose data it is about.
    pub tenant: TenantId,
    /// What it is for.
    pub terms: Terms,
    /// How long it is good; none where it ends by its uses alone.
    pub lasts: Option<Duration>,
    /// Who gives it.
    pub by: PrincipalId,
    /// What was asked when it was given.
    pub asked: Option<AskId>,
}

/// What became of a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Used {
    /// The ask is answered by it, and it is counted.
    Counted,
    /// Nobody waits for an answer any more; nothing changed.
    Late,
    /// The permit is used up, over or taken back; nothing changed.
    Spent,
}

/// Permits, as the store holds them.
#[async_trait]
pub trait Permits: Send + Sync {
    /// Keeps a permit. Durable on return.
    async fn add(&self, permit: NewPermit) -> Result<Permit, Error>;

    /// One permit of this tenant.
    async fn one(&self, tenant: &TenantId, id: PermitId) -> Result<Option<Permit>, Error>;

    /// Permits of this tenant, newest first, at most `limit`; those alone that are good now, or all.
    async fn all(&self, tenant: &TenantId, good: bool, limit: u32) -> Result<Vec<Permit>, Error>;

    /// Those that are good now for calls of a tool by an agent, the oldest first.
    async fn good_for(
        &self,
        tenant: &TenantId,
        agent: &AgentName,
        tool: &ToolName,
    ) -> Result<Vec<Permit>, Error>;

    /// What a permit was used for, the last one first, at most `limit`.
    async fn uses(
        &self,
        tenant: &TenantId,
        id: PermitId,
        limit: u32,
    ) -> Result<Vec<PermitUse>, Error>;

    /// Answers an ask by a permit, and counts that use, in one commit. Safe to repeat: an ask is answered
    /// once. The run wakes as by [`Store::deliver`](super::Store::deliver).
    async fn spend(&self, id: PermitId, answer: NewSignal) -> Result<Used, Error>;

    /// Takes a permit back: nothing is answered by it from then on. False where it was taken back before,
    /// or there is none.
    async fn revoke(
        &self,
        tenant: &TenantId,
        id: PermitId,
        by: &PrincipalId,
    ) -> Result<bool, Error>;
}
