//! The model inside the binary: rules, no language model. It does honest work on real input, so that
//! a first run needs no key: it turns a question into search terms, reads what the tools find, and
//! answers with the sentences that fit, word by word, each with its source. It cannot reword,
//! translate, reason or invent, and the same request always gets the same reply.
//!
//! ```text
//!   request ─► conversation (task, material, results so far)
//!                 │ schema `plan`  ─► route    which agent                    ─► JSON
//!                 │ tools, results ─► gather   search, read, write; then quote ─► calls or findings
//!                 └ else           ─► answer   rank the findings, quote        ─► text
//!                                     (terms, sentences, evidence, rank: pure helpers)
//! ```
//! What it is asked to be follows from the request alone. Leaves out everything that a model port
//! leaves out; called by agents' actors.

mod answer;
mod conversation;
mod evidence;
mod gather;
mod rank;
mod route;
mod sentences;
mod terms;
#[cfg(test)]
mod tests;
mod writing;

use async_trait::async_trait;
use serde_json::Value;

use self::conversation::Conversation;
use super::{
    Call, Finish, Model, ModelReply, ModelRequest, ToolCall, estimate_tokens, reply_tokens,
    show_in_pieces,
};
use crate::id::ToolName;
use crate::money::{Price, Usage};
use crate::run::{Failure, FailureKind};

/// The rule-based model. Costs nothing and needs nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct OfflineModel;

/// What it calls itself in replies and in [`Model::describe`].
pub const NAME: &str = "offline";

/// What the rules decided.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// Call these tools with these arguments.
    Calls(Vec<(ToolName, Value)>),
    /// Say this.
    Say(String),
}

/// The reply to a request. Pure.
fn reply(request: &ModelRequest) -> ModelReply {
    let talk = Conversation::read(request);
    let step = match &request.output {
        Some(output) if output.name == "plan" => Step::Say(route::plan(&talk, &output.schema)),
        Some(output) if output.name == "summary" => Step::Say(answer::sum_up(request)),
        _ if request.tools.is_empty() && talk.exchanges.is_empty() => {
            Step::Say(answer::write(&talk))
        }
        _ => gather::next(&talk, &request.tools),
    };
    let (text, calls) = match step {
        Step::Say(text) => (Some(text), Vec::new()),
        Step::Calls(calls) => (None, calls),
    };
    let calls = calls
        .into_iter()
        .enumerate()
        .map(|(at, (name, arguments))| ToolCall {
            id: format!("call_{}", talk.calls_before + at),
            name,
            arguments: arguments.to_string(),
        });
    ModelReply {
        text,
        calls: calls.collect(),
        finish: Finish::Stop,
        model: NAME.into(),
    }
}

#[async_trait]
impl Model for OfflineModel {
    async fn ask(&self, call: Call<'_>) -> (Result<ModelReply, Failure>, Option<Usage>) {
        if call.cancel.is_cancelled() {
            let failure = Failure::new(FailureKind::Cancelled, "offline: cancelled");
            return (Err(failure), Some(Usage::default()));
        }
        let reply = reply(call.request);
        if let Some(text) = &reply.text {
            show_in_pieces(call.sink, text);
        }
        let usage = Usage {
            tokens_in: estimate_tokens(call.request),
            tokens_out: reply_tokens(&reply),
            ..Usage::default()
        };
        (Ok(reply), Some(usage))
    }

    fn price(&self) -> Price {
        Price::FREE
    }

    fn context_tokens(&self) -> u32 {
        // It reads everything at once; the bound only keeps requests sensible.
        1_000_000
    }

    fn describe(&self) -> String {
        "offline (built-in, rule-based, no language model)".into()
    }
}
