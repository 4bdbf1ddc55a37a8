//! What is sent: our request in OpenAI's words, borrowed, so that it is written once and never
//! copied. Leaves the sending to its parent module.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use url::Url;

use crate::blob::Blob;
use crate::model::{Message, ModelRequest, OutputSchema, ToolCall, ToolDef};
use crate::task::ImageRef;

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
    messages: Conversation<'a>,
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
        (request, blobs): (&'a ModelRequest, &'a [Blob]),
        dialect: Dialect,
        stream: bool,
    ) -> Self {
        let limit = |of| (dialect == of).then_some(request.max_tokens);
        Self {
            model,
            messages: Conversation {
                messages: &request.messages,
                blobs,
            },
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

/// Messages, and the bytes of the pictures in them.
#[derive(Clone, Copy)]
struct Conversation<'a> {
    messages: &'a [Message],
    blobs: &'a [Blob],
}

#[derive(Serialize)]
struct WireMessage<'a> {
    role: &'static str,
    /// Null for an assistant that only called tools: some servers want the field to be there.
    content: Option<Content<'a>>,
    #[serde(serialize_with = "calls", skip_serializing_if = "<[_]>::is_empty")]
    tool_calls: &'a [ToolCall],
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

/// Words alone as most servers know them; words and pictures in parts.
#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(&'a str),
    Parts(Vec<Part<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: ImageUrl },
}

#[derive(Serialize)]
struct ImageUrl {
    url: String,
}

impl<'a> Content<'a> {
    fn of(text: &'a str, images: &[ImageRef], blobs: &[Blob]) -> Self {
        if images.is_empty() {
            return Self::Text(text);
        }
        let shown = images
            .iter()
            .filter_map(|image| blobs.iter().find(|blob| blob.hash == image.hash));
        let shown = shown.map(|blob| Part::ImageUrl {
            image_url: ImageUrl {
                url: format!("data:{};base64,{}", blob.mime, STANDARD.encode(&blob.bytes)),
            },
        });
        Self::Parts(std::iter::once(Part::Text { text }).chain(shown).collect())
    }
}

impl<'a> WireMessage<'a> {
    fn new(message: &'a Message, blobs: &[Blob]) -> Self {
        let plain = |role, text: Option<&'a str>| WireMessage {
            role,
            content: text.map(Content::Text),
            tool_calls: &[],
            tool_call_id: None,
        };
        match message {
            Message::System { text } => plain("system", Some(text)),
            Message::User { text, images } => WireMessage {
                content: Some(Content::of(text, images, blobs)),
                ..plain("user", None)
            },
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

fn messages<S: Serializer>(all: &Conversation<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    let Conversation { messages, blobs } = all;
    serializer.collect_seq(
        messages
            .iter()
            .map(|message| WireMessage::new(message, blobs)),
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Hash;

    #[test]
    fn words_go_alone_and_pictures_beside_them_as_data() {
        let blob = Blob::new("image/png", b"png").unwrap_or_else(|| unreachable!());
        let image = |hash: Hash| ImageRef {
            hash,
            mime: "image/png".into(),
            bytes: 3,
            name: "plan.png".into(),
        };
        let request = ModelRequest {
            messages: vec![
                Message::user("hello"),
                Message::User {
                    text: "look".into(),
                    // One whose bytes are not at hand is left out rather than sent as nothing.
                    images: vec![image(blob.hash), image(Hash::of_bytes(b"gone"))],
                },
            ],
            tools: Vec::new(),
            output: None,
            max_tokens: 9,
        };
        let blobs = [blob];
        let body = Body::new("m", (&request, &blobs), Dialect::Compatible, false);
        let sent = serde_json::to_value(&body).unwrap_or_default();
        assert_eq!(sent["messages"][0]["content"], "hello");
        let shown = json!([
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n"}},
        ]);
        assert_eq!(sent["messages"][1]["content"], shown);
    }
}
