//! What people think of answers, as the store holds it.

use async_trait::async_trait;

use super::Error;
use crate::feedback::{Feedback, Regard, Source};
use crate::id::{PrincipalId, TaskId, TenantId};
use crate::run::Timestamp;

/// An opinion to be kept.
#[derive(Clone, Debug)]
pub struct NewFeedback {
    /// Whose data it is about.
    pub tenant: TenantId,
    /// The task.
    pub task: TaskId,
    /// Whose it is.
    pub who: PrincipalId,
    /// By what it is known.
    pub source: Source,
    /// Whether they are content.
    pub good: bool,
    /// What they said besides.
    pub text: String,
}

/// Feedback, as the store holds it.
#[async_trait]
pub trait Feedbacks: Send + Sync {
    /// Keeps an opinion in the place of the last one of the same person, on the same task, known in the same
    /// way. Safe to repeat; durable on return. False where there is no such task.
    async fn note(&self, feedback: NewFeedback) -> Result<bool, Error>;

    /// What is thought of a task, the oldest first.
    async fn of(&self, tenant: &TenantId, task: TaskId) -> Result<Vec<Feedback>, Error>;

    /// What has been thought since then of agents' work, by their names.
    async fn by_agent(&self, tenant: &TenantId, since: Timestamp) -> Result<Vec<Regard>, Error>;
}
