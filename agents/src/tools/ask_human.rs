//! `ask_human`: has an agent ask people. It is a tool to the model alone: the loop asks, and the run waits
//! for the answer without an actor, for weeks if need be.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;

use shared::money::Usd;
use shared::run::{Effect, Failure, FailureKind, Report};

use super::{Outbound, Tool, ToolCall, ToolInfo};

/// Its name.
pub const ASK_HUMAN: &str = "ask_human";
/// Answers to choose from, at most.
const MAX_CHOICES: u32 = 8;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Question {
    /// In one or a few sentences.
    pub question: String,
    /// What the one who answers should know.
    #[serde(default)]
    pub context: String,
    /// Answers to choose from.
    #[serde(default)]
    pub choices: Vec<String>,
}

/// The tool.
pub struct AskHuman {
    info: ToolInfo,
}

impl Default for AskHuman {
    fn default() -> Self {
        let parameters = json!({
            "type": "object",
            "properties": {
                "question": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 2000,
                    "description": "What you want to know, in one or a few sentences that can be understood without knowing the rest of the work."
                },
                "context": {
                    "type": "string",
                    "maxLength": 4000,
                    "description": "What the person should know to answer it: what you found, what depends on the answer. May be left out."
                },
                "choices": {
                    "type": "array",
                    "maxItems": MAX_CHOICES,
                    "items": {"type": "string", "minLength": 1, "maxLength": 60, "description": "One answer."},
                    "description": "Answers to choose from, a few words each. May be left out; any other answer can be given all the same."
                }
            },
            "required": ["question"],
            "additionalProperties": false
        });
        let info = ToolInfo {
            name: ASK_HUMAN.into(),
            version: 1,
            description: "Use this to ask the person whose task this is for something that only they can know or decide, and that the \
                task cannot be done without. Returns their answer, which may take minutes or days; the work waits meanwhile. Do not \
                use it for what you can find out or assume yourself: say what you assumed instead."
                .into(),
            parameters: Arc::new(parameters),
            effect: Effect::Pure,
            outbound: Outbound::Nothing,
            timeout_s: 1,
            price: Usd::ZERO,
        };
        Self { info }
    }
}

#[async_trait]
impl Tool for AskHuman {
    fn info(&self) -> &ToolInfo {
        &self.info
    }

    async fn call(&self, _call: ToolCall<'_>) -> Report {
        let why = "people are asked by the run itself";
        Report::failed(Failure::new(FailureKind::Permanent, why))
    }
}
