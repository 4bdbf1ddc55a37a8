//! What people are asked, as the store holds it. An ask is written with the step that waits for its
//! answer ([`Change::Step`](super::Change::Step)), and answered by [`Store::deliver`](super::Store::deliver);
//! where it stands follows from those two and is never written down.
//!
//! ```text
//!   begin of the wait ─► untold ─► cards are owed ─► told
//!                                    answer, lapse, end ─► untold ─► cards are owed again ─► closed
//! ```

use async_trait::async_trait;

use super::{Duty, Error, NewOut};
use crate::ask::{AskKind, AskState, Asked};
use crate::id::{AskId, PrincipalId, TaskId, TenantId};
use crate::run::Timestamp;

/// Which asks are wanted.
#[derive(Clone, Debug, Default)]
pub struct AskFilter {
    /// Of this task.
    pub task: Option<TaskId>,
    /// Of one of these kinds; empty: of any.
    pub kinds: Vec<AskKind>,
    /// Only those that somebody may still decide.
    pub open: bool,
    /// Only of tasks that were handed in by or for this principal.
    pub visible_to: Option<PrincipalId>,
    /// Only those whose ids begin with this, as they are written.
    pub begins: Option<String>,
    /// Only those that stand behind this one in the list.
    pub before: Option<AskId>,
    /// At most so many.
    pub limit: u32,
}

/// How much of an ask the cards show that were owed for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing.
    Nothing,
    /// That it is asked.
    Asked,
    /// What became of it.
    Closed,
}

impl Told {
    /// Its name in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Asked => "asked",
            Self::Closed => "closed",
        }
    }

    /// What cards must show of an ask in this state.
    pub fn due(state: AskState) -> Self {
        match state {
            AskState::Open => Self::Asked,
            AskState::Answered | AskState::Lapsed | AskState::Void => Self::Closed,
        }
    }
}

/// What the cards of an ask are to show from now on.
#[derive(Clone, Debug)]
pub struct Telling {
    /// How much of it they show.
    pub told: Told,
    /// Those that are owed newly.
    pub cards: Vec<NewOut>,
    /// How far its ladder has come with these, where it climbs one.
    pub rungs: Option<Rungs>,
}

/// How far an escalation has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rungs {
    /// So many rungs were told, counted on from one climb to the next.
    pub told: u32,
    /// The last of them that nothing reached; 0 where there was none.
    pub missed: u32,
}

/// An ask that is climbing its ladder.
#[derive(Clone, Debug)]
pub struct Climb {
    /// The ask.
    pub asked: Asked,
    /// How far it has come.
    pub rungs: Rungs,
    /// When the last rung was told.
    pub at: Timestamp,
}

/// Asks, as the store holds them. The mail's bell is rung when one comes, and when one is decided.
#[async_trait]
pub trait Asks: Send + Sync {
    /// One ask of this tenant.
    async fn get(&self, tenant: &TenantId, id: AskId) -> Result<Option<Asked>, Error>;

    /// Asks, newest first.
    async fn list(&self, tenant: &TenantId, filter: &AskFilter) -> Result<Vec<Asked>, Error>;

    /// Asks whose cards do not show yet where they stand, the oldest first, at most `limit`.
    async fn untold(&self, tenant: &TenantId, limit: u32) -> Result<Vec<Asked>, Error>;

    /// Owes the cards of an ask, and records that they show as much, in one commit under the duty of the
    /// one who sees to it. Once it is closed those are owed again that were sent before; and so are those
    /// of its incident whenever it joins or leaves one. Who waits in an incident that loses its first ask
    /// is untold again. `false`, and nothing changed, where the duty is lost.
    async fn tell(
        &self,
        duty: &Duty,
        (tenant, asked): (&TenantId, &Asked),
        telling: Telling,
    ) -> Result<bool, Error>;

    /// Open asks that climb a ladder, those first whose last rung was told longest ago, at most `limit`.
    async fn climbing(&self, tenant: &TenantId, limit: u32) -> Result<Vec<Climb>, Error>;

    /// Open asks of one cause, the oldest first, at most `limit`; whether each climbs a ladder for all.
    async fn alike(
        &self,
        tenant: &TenantId,
        cause: &str,
        limit: u32,
    ) -> Result<Vec<(Asked, bool)>, Error>;

    /// Records that nothing reached the rung that was told last, where that is so: of its cards, whose keys
    /// begin like this, each is dead.
    async fn miss(&self, tenant: &TenantId, ask: AskId, keys: &str) -> Result<(), Error>;

    /// Whether an ask is shown in a conversation.
    async fn is_shown(
        &self,
        tenant: &TenantId,
        id: AskId,
        (channel, conversation): (&str, &str),
    ) -> Result<bool, Error>;

    /// Questions that are shown in a conversation and that somebody may still answer there, at most two:
    /// whether there is one alone is what matters.
    async fn open_at(
        &self,
        tenant: &TenantId,
        (channel, conversation): (&str, &str),
    ) -> Result<Vec<Asked>, Error>;

    /// What the card asks that the far side knows by this message id: in a conversation, or anywhere.
    async fn shown(
        &self,
        tenant: &TenantId,
        (channel, conversation): (&str, Option<&str>),
        message: &str,
    ) -> Result<Option<AskId>, Error>;
}
