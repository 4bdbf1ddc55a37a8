//! What is sent: our request in OpenAI's words, borrowed, so that it is written once and never
//! copied. Leaves the sending to its parent module.

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use url::Url;

use crate::model::{Message, ModelRequest, OutputSchema, ToolCall, ToolDef};

/// Which word the server has for the limit of the reply. OpenAI's newer models refuse `max_tokens`;
/// most other servers know nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// OpenAI and Azure: `max_completion_tokens`.
    Openai,
    /// Everybody else: `max_tokens`.
    Compatible,
}

impl Dialect {
    /// Known by the host.
    pub(super) fn of(base_url: &Url) -> Self {
        match base_url.host_str() {
            Some(host) if host == "api.openai.com" || host.ends_with(".openai.azure.com") => {
                Self::Openai
            }
            _ => Self::Compatible,
        }
    }
}

/// The body of a request.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    #[serde(serialize_with = "messages")]
    messages: &'a [Message],
    #[serde(serialize_with = "tools", skip_serializing_if = "<[_]>::is_empty")]
    tools: &'a [ToolDef],
    #[serde(serialize_with = "format", skip_serializing_if = "Option::is_none")]
    response_format: Option<&'a OutputSchema>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

impl<'a> Body<'a> {
    /// The request as `model` is to read it.
    pub(super) fn new(
        model: &'a str,
        request: &'a ModelRequest,
        dialect: Dialect,
        stream: bool,
    ) -> Self {
        let limit = |of| (dialect == of).then_some(request.max_tokens);
        Self {
            model,
            messages: &request.messages,
            tools: &request.tools,
            response_format: request.output.as_ref(),
            max_tokens: limit(Dialect::Compatible),
            max_completion_tokens: limit(Dialect::Openai),
            stream,
            stream_options: stream.then_some(StreamOptions {
                include_usage: true,
            }),
        }
    }
}

#[derive(Serialize)]
struct WireMessage<'a> {
    role: &'static str,
    /// Null for an assistant that only called tools: some servers want the field to be there.
    content: Option<&'a str>,
    #[serde(serialize_with = "calls", skip_serializing_if = "<[_]>::is_empty")]
    tool_calls: &'a [ToolCall],
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

impl<'a> From<&'a Message> for WireMessage<'a> {
    fn from(message: &'a Message) -> Self {
        let plain = |role, content| WireMessage {
            role,
            content,
            tool_calls: &[],
            tool_call_id: None,
        };
        match message {
            Message::System { text } => plain("system", Some(text)),
            Message::User { text } => plain("user", Some(text)),
            Message::Assistant { text, calls } => WireMessage {
                tool_calls: calls,
                ..plain("assistant", text.as_deref())
            },
            Message::Tool { call, text } => WireMessage {
                tool_call_id: Some(call),
                ..plain("tool", Some(text))
            },
        }
    }
}

#[derive(Serialize)]
struct WireCall<'a> {
    id: &'a str,
    r#type: &'static str,
    function: WireCalled<'a>,
}

#[derive(Serialize)]
struct WireCalled<'a> {
    name: &'a str,
    arguments: Cow<'a, str>,
}

fn messages<S: Serializer>(messages: &[Message], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(messages.iter().map(WireMessage::from))
}

fn calls<S: Serializer>(calls: &[ToolCall], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(calls.iter().map(|call| WireCall {
        id: &call.id,
        r#type: "function",
        function: WireCalled {
            name: call.name.as_str(),
            arguments: arguments(&call.arguments),
        },
    }))
}

/// The arguments of an earlier call. Servers that render them into a prompt fail on text that is
/// not JSON, and then the model could never mend its call: such text is sent as an object's value.
fn arguments(text: &str) -> Cow<'_, str> {
    let is_object = text.trim_start().starts_with('{')
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if is_object {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(json!({ "malformed": text }).to_string())
    }
}

#[derive(Serialize)]
struct WireTool<'a> {
    r#type: &'static str,
    function: WireFunction<'a>,
}

#[derive(Serialize)]
struct WireFunction<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Value,
}

fn tools<S: Serializer>(tools: &[ToolDef], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tools.iter().map(|tool| WireTool {
        r#type: "function",
        function: WireFunction {
            name: tool.name.as_str(),
            description: &tool.description,
            parameters: &tool.parameters,
        },
    }))
}

#[derive(Serialize)]
struct WireFormat<'a> {
    r#type: &'static str,
    json_schema: WireSchema<'a>,
}

/// Without `strict`: OpenAI's strict mode refuses schemas that leave a property optional, and what
/// comes back is checked anyway.
#[derive(Serialize)]
struct WireSchema<'a> {
    name: &'a str,
    schema: &'a Value,
}

fn format<S: Serializer>(output: &Option<&OutputSchema>, serializer: S) -> Result<S::Ok, S::Error> {
    output
        .map(|output| WireFormat {
            r#type: "json_schema",
            json_schema: WireSchema {
                name: &output.name,
                schema: &output.schema,
            },
        })
        .serialize(serializer)
}
