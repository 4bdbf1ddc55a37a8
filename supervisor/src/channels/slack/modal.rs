//! The window in which somebody writes what `/ask` without words left open: several lines, and who is to
//! do it. It shows who works here, so it opens to those alone who may hand in work. What is submitted in it is a message like any other, where `/ask` with words would be one.
//!
//! ```text
//!   /ask ─► kept ─► who asks? ─► views.open (its trigger lives three seconds) ─► submitted ─► kept ─► a task
//!                                   └─ too late ─► a word to whoever asked
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use shared::id::AgentName;

use super::super::Sheet;
use super::client::{Client, Failed};
use crate::intake::MAX_TEXT;

/// What Slack calls our window when it is submitted.
pub(super) const CALLBACK: &str = "ask";
/// And the one in which somebody changes JSON.
pub(super) const CHANGE: &str = "change";
/// The words' block, and their place in it.
pub(super) const WORDS: (&str, &str) = ("words", "text");
/// The agents' block, and their place in it.
pub(super) const AGENT: (&str, &str) = ("agent", "name");
/// What stands for no agent in particular: no agent may be called so.
pub(super) const WHOEVER: &str = "-";
/// The most characters that Slack lets anybody write there.
pub(super) const MOST: usize = 3_000;
/// The most agents that Slack lets anybody choose from, one place for no one in particular.
const AGENTS: usize = 99;

/// A window that somebody asked for.
pub(super) struct Wanted<'a> {
    /// What it is opened with.
    pub(super) trigger: &'a str,
    /// Where it was asked for.
    pub(super) channel: &'a str,
    /// Who asked for it.
    pub(super) user: &'a str,
}

/// What a window remembers until it is submitted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Memory {
    pub(super) channel: String,
}

/// What a sheet remembers: where the button was pressed that opened it, and below which message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Below {
    pub(super) conversation: String,
    pub(super) below: String,
}

/// Opens windows.
pub(super) struct Opener {
    client: Arc<Client>,
    agents: Vec<AgentName>,
}

impl Opener {
    /// Of this app; people may choose from these agents.
    pub(super) fn new(client: Arc<Client>, agents: Vec<AgentName>) -> Self {
        Self { client, agents }
    }

    /// Opens a window, or tells whoever asked for it that it came too late.
    pub(super) async fn open(&self, wanted: &Wanted<'_>) {
        let body = json!({ "trigger_id": wanted.trigger, "view": self.view(wanted.channel) });
        let Err(failed) = self.client.call("views.open", &body).await else {
            return;
        };
        tracing::warn!(?failed, "a window in Slack was not opened");
        // After a lost answer it may be open, and a word would be wrong.
        if !matches!(failed, Failed::Lost(_))
            && let Err(failed) = self.apologise(wanted).await
        {
            tracing::debug!(?failed, "nor could that be told");
        }
    }

    /// Opens a sheet. Whoever pressed the button presses it again where none comes.
    pub(super) async fn open_sheet(&self, conversation: &str, trigger: &str, sheet: &Sheet) {
        let plain = |text: &str| json!({ "type": "plain_text", "text": text });
        let memory = Below {
            conversation: conversation.to_owned(),
            below: sheet.below.clone(),
        };
        let view = json!({
            "type": "modal",
            "callback_id": CHANGE,
            "private_metadata": json!(memory).to_string(),
            "title": plain("Change it"),
            "submit": plain("Approve so"),
            "close": plain("Leave it"),
            "blocks": [{
                "type": "input", "block_id": WORDS.0,
                "label": plain(&sheet.label),
                "element": {
                    "type": "plain_text_input", "action_id": WORDS.1, "multiline": true,
                    "max_length": MOST, "focus_on_load": true, "initial_value": sheet.json,
                },
            }],
        });
        let body = json!({ "trigger_id": trigger, "view": view });
        if let Err(failed) = self.client.call("views.open", &body).await {
            tracing::warn!(?failed, "a window in Slack was not opened");
        }
    }

    /// Tells whoever asked, where they asked; directly where the app is not there.
    async fn apologise(&self, wanted: &Wanted<'_>) -> Result<Value, Failed> {
        let text = "The window came too late for Slack. Give `/ask` once more, or write behind it what \
                    you want.";
        let user = wanted.user;
        let body = json!({ "channel": wanted.channel, "user": user, "text": text });
        match self.client.call("chat.postEphemeral", &body).await {
            Err(failed) if failed.is_outside() => {
                let body = json!({ "channel": user, "text": text });
                self.client.call("chat.postMessage", &body).await
            }
            told => told,
        }
    }

    fn view(&self, channel: &str) -> Value {
        let plain = |text: &str| json!({ "type": "plain_text", "text": text });
        let option = |value: &str, text: &str| json!({ "text": plain(text), "value": value });
        let agents = self.agents.iter().take(AGENTS);
        let whoever = option(WHOEVER, "whoever fits");
        let options: Vec<Value> = std::iter::once(whoever.clone())
            .chain(agents.map(|agent| option(agent.as_str(), agent.as_str())))
            .collect();
        let memory = Memory {
            channel: channel.to_owned(),
        };
        json!({
            "type": "modal",
            "callback_id": CALLBACK,
            "private_metadata": json!(memory).to_string(),
            "title": plain("Ask"),
            "submit": plain("Ask"),
            "close": plain("Leave it"),
            "blocks": [
                {
                    "type": "input", "block_id": WORDS.0,
                    "label": plain("What do you want to have done, or to know?"),
                    "element": {
                        "type": "plain_text_input", "action_id": WORDS.1, "multiline": true,
                        "max_length": MOST, "focus_on_load": true,
                    },
                },
                {
                    "type": "input", "block_id": AGENT.0, "optional": true,
                    "label": plain("Who is to do it?"),
                    "element": {
                        "type": "static_select", "action_id": AGENT.1, "options": options,
                        "initial_option": whoever,
                    },
                },
            ],
        })
    }
}

/// What is wrong with JSON that was submitted, as Slack shows it beside it.
pub(super) fn no_json(text: &str) -> Option<Value> {
    let why = match serde_json::from_str::<serde_json::Map<String, Value>>(text) {
        Ok(_) => return None,
        Err(error) => format!("This is not a JSON object: {error}."),
    };
    Some(json!({ "response_action": "errors", "errors": { WORDS.0: why } }))
}

/// What is wrong with what was submitted, as Slack shows it beside the words.
pub(super) fn fault(words: &str) -> Option<Value> {
    let why = match words.trim() {
        "" => "Say what is to be done.".into(),
        _ if words.len() > MAX_TEXT => format!(
            "That is {} bytes; at most {MAX_TEXT} are taken. Send it as a file.",
            words.len()
        ),
        _ => return None,
    };
    Some(json!({ "response_action": "errors", "errors": { WORDS.0: why } }))
}
