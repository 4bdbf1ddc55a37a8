//! The shape of `[callbacks]` and `[hooks.NAME]`: signed requests that go out when a task has ended, and
//! signed requests that come in and become tasks.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::secret::SecretRef;
use super::types::NOT_BLANK;
use crate::id::{AgentName, PrincipalId};

/// `[callbacks]`: how those are called back who handed in a task with a `callback_url`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallbackSettings {
    /// What callbacks are signed with, by Standard Webhooks: `"${CALLBACK_SECRET}"`, whose value is
    /// `whsec_` and at least 16 bytes in base64.
    #[schemars(with = "String", extend("format" = "secret"))]
    pub secret: SecretRef,
    /// Seconds until a call that failed is made again. The pauses after it grow in proportion: with 5
    /// they are 5 s, 5 min, 30 min, and 2, 5, 10, 14, 20 and 24 h.
    #[serde(default = "first_pause_s")]
    #[schemars(range(min = 0.001, max = 60))]
    pub first_pause_s: f64,
    /// Seconds that a call may take.
    #[serde(default = "timeout_s")]
    #[schemars(range(min = 0.1, max = 300))]
    pub timeout_s: f64,
}

fn first_pause_s() -> f64 {
    5.0
}

fn timeout_s() -> f64 {
    20.0
}

/// `[hooks.NAME]`: makes tasks of what another service sends to `POST /v1/hooks/NAME`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HookSettings {
    /// How the service signs what it sends.
    pub verify: Verify,
    /// The secret that the service signs with: `"${GITHUB_WEBHOOK_SECRET}"`.
    #[schemars(with = "String", extend("format" = "secret"))]
    pub secret: SecretRef,
    /// The header that holds the signature; with `verify = "hmac"` alone, and needed there.
    #[serde(default)]
    #[schemars(extend("pattern" = NOT_BLANK))]
    pub header: Option<String>,
    /// What stands before the signature in that header, such as `sha256=`.
    #[serde(default)]
    pub prefix: String,
    /// How the signature in that header is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// The task's text. `{{issue.title}}` stands for a value of the JSON that came, `{{/issue/title}}` for
    /// the same, `{{header:X-GitHub-Event}}` for a header. What is not there is empty.
    #[schemars(extend("pattern" = NOT_BLANK))]
    pub text: String,
    /// The agent that does it; without one the supervisor chooses.
    #[serde(default)]
    pub agent: Option<AgentName>,
    /// Whose the tasks are; `hook:NAME` where absent.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("pattern" = NOT_BLANK))]
    pub principal: Option<PrincipalId>,
    /// What must hold of a request: `action = "opened"`, `"header:X-GitHub-Event" = "issues"`. Others are
    /// answered and ignored.
    #[serde(default)]
    pub when: BTreeMap<String, String>,
    /// What a request is known by when it is sent again, as a template. Where absent
    /// Stripe's event, the message of Standard Webhooks, and else the body.
    #[serde(default)]
    #[schemars(extend("pattern" = NOT_BLANK))]
    pub dedupe: Option<String>,
}

/// How a service signs what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// As GitHub does, in `X-Hub-Signature-256`.
    Github,
    /// As Stripe does, in `Stripe-Signature`, within five minutes.
    Stripe,
    /// By Standard Webhooks, within five minutes.
    Standard,
    /// HMAC-SHA256 of the body in a header of your choice.
    Hmac,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Hexadecimal.
    #[default]
    Hex,
    /// Base64.
    Base64,
}
