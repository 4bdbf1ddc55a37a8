//! The tool port: what an agent can do to the world, each with a schema for its arguments and a
//! declared effect class. One file per tool. A tool makes exactly one attempt per call and keeps
//! nothing between calls; retries, journal and budgets belong to the engine.

pub mod ask_human;
mod blocking;
mod fetch_page;
pub mod folder;
pub mod gate;
pub mod html;
pub mod lint;
mod passages;
mod priced;
mod read_file;
mod registry;
mod search_files;
mod send_email;
#[cfg(test)]
mod testing;
mod text;
mod walk;
mod web_search;
mod write_file;

pub use ask_human::AskHuman;
pub use fetch_page::FetchPage;
pub use gate::Gate;
pub use read_file::ReadFile;
pub use registry::{Availability, ToolBox};
pub use search_files::SearchFiles;
pub use send_email::SendEmail;
pub use web_search::WebSearch;
pub use write_file::WriteFile;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use shared::ask::Preview;
use shared::id::ToolName;
use shared::label::{Authority, Taint};
use shared::model::ToolDef;
use shared::money::{Usage, Usd};
use shared::run::{Effect, EffectKey, Failure, FailureKind, Probe, Report};

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
    /// What of a call leaves for the outside.
    #[serde(default, skip_serializing_if = "Outbound::is_nothing")]
    pub outbound: Outbound,
    /// Seconds that one attempt may take.
    pub timeout_s: u32,
    /// The most that one call can cost.
    pub price: Usd,
}

/// What of a call leaves for the outside. An agent that has read untrusted text may have been told by it
/// what to send.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outbound {
    /// Nothing that anybody but ourselves, or a service that is trusted with it, sees.
    #[default]
    Nothing,
    /// The address in this argument. One that the run was given word for word tells nobody anything.
    Address(String),
    /// All of it.
    All,
}

impl Outbound {
    fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }
}

impl ToolInfo {
    /// The tool as a model sees it under its own name.
    pub fn def(&self) -> ToolDef {
        ToolDef {
            name: self.name.clone(),
            description: self.description.clone(),
            parameters: self.parameters.clone(),
        }
    }
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
    /// What was seen of it when it was approved, where it was. It has been held against what the tool says
    /// of the call now; a tool that then reads something once more holds that against it, too.
    pub approved: Option<&'a Preview>,
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

    /// What the call would reach, without making it: whom, and with which files. It must be the same until
    /// something changes that a person would want to know of before they let it go. Safe to repeat.
    async fn preview(&self, _call: ToolCall<'_>) -> Result<Preview, Failure> {
        Ok(Preview::default())
    }

    /// Asks the far side whether an earlier attempt at this call happened. Only tools of class
    /// `Verifiable` can tell.
    async fn probe(&self, _call: ToolCall<'_>) -> Probe {
        Probe::Unknown(format!("{} cannot tell", self.info().name))
    }
}

/// The arguments as a tool's own type. The gate has checked them against the schema; what it cannot
/// see is refused here.
fn arguments<T: DeserializeOwned>(args: &Value) -> Result<T, Failure> {
    T::deserialize(args)
        .map_err(|error| Failure::new(FailureKind::Refused, format!("arguments: {error}")))
}

/// The folder that the task may read.
fn material(authority: &Authority) -> Result<PathBuf, Failure> {
    authority.material.clone().ok_or_else(|| {
        let message = "this task has no folder to read (files.read in the configuration, or --dir); answer without files";
        Failure::new(FailureKind::Permanent, message)
    })
}

/// The report of work that cost nothing and proves nothing.
fn report(result: Result<Value, Failure>, taint: Taint) -> Report {
    match result {
        Ok(value) => Report {
            result: Ok(value),
            usage: Some(Usage::default()),
            taint,
            evidence: Vec::new(),
            blobs: Vec::new(),
        },
        Err(failure) => Report::failed(failure),
    }
}
