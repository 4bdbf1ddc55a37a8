//! Calling one tool in a test, without an engine.

use std::path::Path;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use shared::hash::Hash;
use shared::label::Authority;
use shared::run::{EffectKey, FailureKind, Probe, Report};

use super::{Tool, ToolCall};

pub fn authority(material: Option<&Path>, output: Option<&Path>) -> Authority {
    Authority {
        tenant: "default".into(),
        principal: "test".into(),
        material: material.map(Path::to_owned),
        output: output.map(Path::to_owned),
    }
}

pub fn key() -> EffectKey {
    EffectKey(Hash::of_bytes(b"test"))
}

pub async fn call(tool: &dyn Tool, authority: &Authority, args: Value) -> Report {
    let cancel = CancellationToken::new();
    tool.call(ToolCall {
        args: &args,
        authority,
        effect_key: key(),
        attempt: 1,
        approved: None,
        cancel: &cancel,
    })
    .await
}

pub async fn probe(tool: &dyn Tool, authority: &Authority, args: Value) -> Probe {
    let cancel = CancellationToken::new();
    tool.probe(ToolCall {
        args: &args,
        authority,
        effect_key: key(),
        attempt: 1,
        approved: None,
        cancel: &cancel,
    })
    .await
}

/// The message of a refusal; panics where it was none.
pub async fn refused(tool: &dyn Tool, authority: &Authority, args: Value) -> String {
    let failure = call(tool, authority, args.clone())
        .await
        .result
        .expect_err(&args.to_string());
    assert_eq!(failure.kind, FailureKind::Refused, "{args}: {failure}");
    failure.message
}
