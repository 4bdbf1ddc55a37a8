//! The tool port: what an agent can do to the world, each with a schema for its arguments and a
//! declared effect class. One file per tool. A tool makes exactly one attempt per call and keeps
//! nothing between calls; retries, journal and budgets belong to the engine.

pub mod gate;

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use shared::id::ToolName;
use shared::label::Authority;
use shared::money::Usd;
use shared::run::{Effect, EffectKey, Probe, Report};

/// What a tool is. The effect class is part of it: there is no tool without one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolInfo {
    /// Its name, as agents' files list it.
    pub name: ToolName,
    /// Raised when the same arguments begin to mean something else.
    pub version: u32,
    /// When to use it and what it returns; the model reads this.
    pub description: Arc<str>,
    /// The JSON Schema of its arguments: an object, every property described.
    pub parameters: Arc<Value>,
    /// What repeating a call would do.
    pub effect: Effect,
    /// Seconds that one attempt may take.
    pub timeout_s: u32,
    /// The most that one call can cost.
    pub price: Usd,
}

/// One attempt at a call.
pub struct ToolCall<'a> {
    /// The arguments, already checked against the schema.
    pub args: &'a Value,
    /// On whose behalf, and which folders it may touch.
    pub authority: &'a Authority,
    /// The effect's name, passed on as `Idempotency-Key` where the far side knows one.
    pub effect_key: EffectKey,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// Cancelled when the result is no longer wanted.
    pub cancel: &'a CancellationToken,
}

/// Something that an agent can do.
#[async_trait]
pub trait Tool: Send + Sync {
    /// What it is.
    fn info(&self) -> &ToolInfo;

    /// Makes one attempt. Failures say what failed and how the model can mend the call; those of
    /// kind `Transient` may be tried again by the engine.
    async fn call(&self, call: ToolCall<'_>) -> Report;

    /// Asks the far side whether an earlier attempt at this call happened. Only tools of class
    /// `Verifiable` can tell.
    async fn probe(&self, _call: ToolCall<'_>) -> Probe {
        Probe::Unknown(format!("{} cannot tell", self.info().name))
    }
}
