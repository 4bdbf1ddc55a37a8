//! Secrets in the configuration: references that are written down, and values that are not.
use schemars::JsonSchema;
use serde::Deserialize;
/// A text that may hold `${ENV}` or `${file:...}`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SecretRef(String);
