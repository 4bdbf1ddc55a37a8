//! The model port: one request, one reply, whoever answers. Retries, budgets and journaling belong
//! to the engine above; a model makes exactly one attempt per call.

pub mod offline;
pub mod openai;
pub mod scripted;
pub mod structured;

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::blob::Blob;
use crate::id::ToolName;
use crate::money::{Price, Usage};
use crate::run::{EffectKey, Failure};
use crate::task::ImageRef;

use crate::event::Sink;
use tokio_util::sync::CancellationToken;

/// What a model is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelRequest {
    /// The conversation, oldest first; the first message is the system prompt.
    pub messages: Vec<Message>,
    /// The tools that the model may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolDef>,
    /// The answer must be a JSON value of this schema. Servers that do not know structured output
    /// ignore it, so callers check what comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputSchema>,
    /// The most tokens that the reply may have.
    pub max_tokens: u32,
}

/// A schema that the answer must meet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputSchema {
    /// A name for it, of letters, digits and underscores.
    pub name: String,
    /// The JSON Schema.
    pub schema: Arc<Value>,
}

/// A tool as the model sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolDef {
    /// Its name.
    pub name: ToolName,
    /// When to use it and what it returns.
    pub description: Arc<str>,
    /// The JSON Schema of its arguments: an object.
    pub parameters: Arc<Value>,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// What the model is and what it may do.
    System {
        /// The text.
        text: String,
    },
    /// What a person, or the supervisor for them, says.
    User {
        /// The text.
        text: String,
        /// The pictures that go with it. Their bytes go with the call, not with the request.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        images: Vec<ImageRef>,
    },
    /// What the model said and asked for.
    Assistant {
        /// The text, where there was any.
        text: Option<String>,
        /// The tool calls; each is answered by exactly one `Tool` message after it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calls: Vec<ToolCall>,
    },
    /// The result of a tool call.
    Tool {
        /// The call that it answers.
        call: String,
        /// The result, or the error in words.
        text: String,
    },
}

impl ModelRequest {
    /// The pictures in it, in order.
    pub fn images(&self) -> impl Iterator<Item = &ImageRef> {
        self.messages.iter().flat_map(Message::images)
    }
}

impl Message {
    /// What a person, or the supervisor for them, says in words alone.
    pub fn user(text: impl Into<String>) -> Self {
        Message::User {
            text: text.into(),
            images: Vec::new(),
        }
    }

    /// The pictures in it.
    pub fn images(&self) -> &[ImageRef] {
        match self {
            Message::User { images, .. } => images,
            _ => &[],
        }
    }

    /// The message's length in bytes, calls included; for estimates of size.
    pub fn len(&self) -> usize {
        match self {
            Message::System { text } | Message::User { text, .. } | Message::Tool { text, .. } => {
                text.len()
            }
            Message::Assistant { text, calls } => {
                text.as_deref().map_or(0, str::len)
                    + calls
                        .iter()
                        .map(|call| call.name.as_str().len() + call.arguments.len())
                        .sum::<usize>()
            }
        }
    }

    /// Whether it says and shows nothing at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.images().is_empty()
    }
}

/// A tool call as the model wrote it: the arguments are text and may be anything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The call's id within the conversation.
    pub id: String,
    /// The tool's name as the model wrote it.
    pub name: ToolName,
    /// The arguments as the model wrote them.
    pub arguments: String,
}

/// What a model answered. This is a think step's recorded value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelReply {
    /// The text, where there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The tool calls, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<ToolCall>,
    /// Why it stopped.
    pub finish: Finish,
    /// The model that answered, as the provider names it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
}

impl ModelReply {
    /// The answer in words, where it came whole; else what is wrong with it, in words for the model.
    pub fn answer(&self) -> Result<&str, &'static str> {
        match (self.text.as_deref().map(str::trim), self.finish) {
            (None | Some(""), Finish::Length) => Err("it was cut off before it said anything"),
            (None | Some(""), _) => Err("the reply was empty"),
            (Some(_), Finish::Length) => Err("it was too long and was cut off; say it shorter"),
            (Some(text), _) => Ok(text),
        }
    }
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// It was done, or asked for tools.
    #[default]
    Stop,
    /// It ran into `max_tokens`; the text is cut.
    Length,
    /// The provider withheld the answer.
    Filtered,
}

/// One call of a model, with what concerns the attempt and not the request.
pub struct Call<'a> {
    /// What is asked.
    pub request: &'a ModelRequest,
    /// The bytes of the pictures in it.
    pub blobs: &'a [Blob],
    /// Passed on as `Idempotency-Key`.
    pub effect_key: EffectKey,
    /// Stops the call when cancelled; the future then returns soon.
    pub cancel: &'a CancellationToken,
    /// Where text goes while it comes in.
    pub sink: &'a Sink,
}

/// A model that can be asked.
#[async_trait]
pub trait Model: Send + Sync {
    /// Makes one attempt: one request to the provider at most, no retry. The usage is `None` where
    /// the provider did not say; it is also known for some failures, which then cost too.
    async fn ask(&self, call: Call<'_>) -> (Result<ModelReply, Failure>, Option<Usage>);

    /// What its tokens cost; the worst case of a call is reckoned from it.
    fn price(&self) -> Price;

    /// How many tokens a request and its reply may have together.
    fn context_tokens(&self) -> u32;

    /// Whether it can be shown pictures.
    fn sees(&self) -> bool {
        false
    }

    /// What it is, for people: `offline`, or `gpt-5-mini at https://…`.
    fn describe(&self) -> String;
}

/// Bytes per token, rounded down from what English, code and JSON show (3.3 to 4.5), so that an
/// estimate made with it is rather too high than too low.
const BYTES_PER_TOKEN: usize = 3;

/// The tokens that a picture counts as where a call is reserved: an upper bound of what providers say
/// of their current models at full detail. OpenAI's count at most 1,536 patches, the smallest models
/// 2.46 for each (3,779); tiles come to 1,445 at most; Anthropic's and Google's come to less. The one
/// exception is gpt-4o-mini, whose tiles are made to cost as much as those of gpt-4o (up to 48,169): there
/// a call may cost more than was reserved. What a call used is charged as the provider reports it.
pub const IMAGE_TOKENS: u64 = 4_096;

/// How many tokens a request has at most, roughly: every provider counts differently, and a limit
/// only needs a bound. Each message and tool costs a few tokens of framing.
pub fn estimate_tokens(request: &ModelRequest) -> u64 {
    let messages: usize = request.messages.iter().map(|m| m.len() + 16).sum();
    let tools: usize = request
        .tools
        .iter()
        .map(|tool| tool.description.len() + json_len(&tool.parameters) + 48)
        .sum();
    let output = request.output.as_ref().map_or(0, |o| json_len(&o.schema));
    let images = request.images().count() as u64;
    ((messages + tools + output) / BYTES_PER_TOKEN + 1) as u64 + images * IMAGE_TOKENS
}

/// The length that a JSON value has when written, without writing it.
fn json_len(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|item| json_len(item) + 1).sum::<usize>(),
        Value::Object(map) => {
            2 + map
                .iter()
                .map(|(key, item)| key.len() + 4 + json_len(item))
                .sum::<usize>()
        }
    }
}

/// The most that one attempt at this request can use and cost.
pub fn worst_case(request: &ModelRequest, price: &Price) -> Usage {
    let tokens_in = estimate_tokens(request);
    let tokens_out = u64::from(request.max_tokens);
    Usage {
        tokens_in,
        tokens_cached: 0,
        tokens_out,
        usd: price.cost(tokens_in, 0, tokens_out),
        assumed: true,
    }
}

/// Passes a finished text on as if it came in, for models that have it all at once.
fn show_in_pieces(sink: &Sink, text: &str) {
    const PIECES: usize = 4;
    if !sink.is_watched() {
        return;
    }
    let size = text.len().div_ceil(PIECES).max(1);
    let mut rest = text;
    while !rest.is_empty() {
        let cut = rest
            .char_indices()
            .map(|(at, _)| at)
            .find(|at| *at >= size)
            .unwrap_or(rest.len());
        let (piece, later) = rest.split_at(cut);
        sink.text(piece);
        rest = later;
    }
}

/// How many tokens a reply has, roughly, for models that nobody counts for.
fn reply_tokens(reply: &ModelReply) -> u64 {
    let calls: usize = reply
        .calls
        .iter()
        .map(|call| call.name.as_str().len() + call.arguments.len() + 16)
        .sum();
    ((reply.text.as_deref().map_or(0, str::len) + calls) / BYTES_PER_TOKEN + 1) as u64
}
