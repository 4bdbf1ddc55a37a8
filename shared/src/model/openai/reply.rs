//! Reading what a server answers, whole or in pieces. Tolerant: servers leave out ids, indexes,
//! usage and finish reasons, send content as null or as a list of parts, and arguments as objects.

use serde_json::Value;

use super::attempt::MAX_ANSWER;
use crate::id::ToolName;
use crate::model::{Finish, Message, ModelReply, ModelRequest, ToolCall};
use crate::money::{Price, Usage};

/// Why an answer of status 200 is none.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It is an error object.
    Error(Value),
    /// It holds no choice.
    Empty,
    /// It has no end.
    TooLong,
}

/// Tokens as the server counted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    tokens_in: u64,
    tokens_cached: u64,
    tokens_out: u64,
}

/// The most tool calls of one answer; what comes after them is left out.
const MAX_CALLS: usize = 128;
/// The longest name of a tool: twice what providers allow.
const MAX_NAME: usize = 128;
/// A call that says it used more did not count: no window is this large.
const MOST_TOKENS: u64 = 100_000_000;

impl Counts {
    /// What they cost.
    pub(super) fn cost(self, price: &Price) -> Usage {
        Usage {
            tokens_in: self.tokens_in,
            tokens_cached: self.tokens_cached,
            tokens_out: self.tokens_out,
            usd: price.cost(self.tokens_in, self.tokens_cached, self.tokens_out),
            assumed: false,
        }
    }

    /// From a `usage` object. Where the total is more than its parts, the rest is reasoning that the
    /// server did not count as completion: it is paid as such. All zeros means that nobody counted.
    fn read(usage: &Value) -> Option<Self> {
        let number = |names: &[&str]| {
            let named = names.iter().find_map(|name| usage.pointer(name)?.as_u64());
            named.filter(|count| *count <= MOST_TOKENS)
        };
        let tokens_in = number(&["/prompt_tokens", "/input_tokens"])?;
        let stated = number(&["/completion_tokens", "/output_tokens"])?;
        let total = number(&["/total_tokens"]).unwrap_or(0);
        let reasoning = number(&[
            "/completion_tokens_details/reasoning_tokens",
            "/output_tokens_details/reasoning_tokens",
        ]);
        // More reasoning than there is output was not counted with it.
        let apart = reasoning.filter(|reasoning| *reasoning > stated);
        let tokens_out = stated
            .saturating_add(apart.unwrap_or(0))
            .max(total.saturating_sub(tokens_in));
        let tokens_cached = number(&[
            "/prompt_tokens_details/cached_tokens",
            "/input_tokens_details/cached_tokens",
            "/prompt_cache_hit_tokens",
        ])
        .unwrap_or(0)
        .min(tokens_in);
        (tokens_in + tokens_out > 0).then_some(Self {
            tokens_in,
            tokens_cached,
            tokens_out,
        })
    }
}

/// Reads a whole answer. Even one without a choice may say what it used.
pub(super) fn read(
    mut body: Value,
    request: &ModelRequest,
) -> Result<(ModelReply, Option<Counts>), (Unreadable, Option<Counts>)> {
    if let Some(error) = error_in(&mut body) {
        return Err((Unreadable::Error(error), None));
    }
    let counts = body.get("usage").and_then(Counts::read);
    let mut choice = match body.pointer_mut("/choices/0").map(Value::take) {
        Some(choice @ Value::Object(_)) => choice,
        _ => return Err((Unreadable::Empty, counts)),
    };
    let mut message = choice
        .get_mut("message")
        .map(Value::take)
        .unwrap_or_default();
    let content = message.get_mut("content").map(Value::take);
    let mut text = content.and_then(text_of);
    let mut finish = choice
        .get("finish_reason")
        .and_then(finish_of)
        .unwrap_or_default();
    if let Some(refusal) = message
        .get_mut("refusal")
        .map(Value::take)
        .and_then(text_of)
    {
        finish = Finish::Filtered;
        text = text.or(Some(refusal));
    }
    let drafts = match message.get_mut("tool_calls").map(Value::take) {
        Some(Value::Array(calls)) => calls.into_iter().take(MAX_CALLS).map(Draft::read).collect(),
        _ => Vec::new(),
    };
    let reply = ModelReply {
        text,
        calls: named(drafts, request),
        finish,
        model: string_at(&mut body, "model").unwrap_or_default(),
    };
    Ok((reply, counts))
}

/// A streamed answer in the making.
#[derive(Default)]
pub(super) struct Assembly {
    text: String,
    refusal: String,
    drafts: Vec<(Option<u64>, Draft)>,
    finish: Option<Finish>,
    counts: Option<Counts>,
    model: String,
    size: usize,
}

impl Assembly {
    /// Adds a piece; returns the text in it that people may see.
    pub(super) fn add(&mut self, mut piece: Value) -> Result<Option<&str>, Unreadable> {
        if let Some(error) = error_in(&mut piece) {
            return Err(Unreadable::Error(error));
        }
        if let Some(counts) = piece.get("usage").and_then(Counts::read) {
            self.counts = Some(counts);
        }
        if self.model.is_empty() {
            self.model = string_at(&mut piece, "model").unwrap_or_default();
        }
        let Some(choice) = piece.pointer_mut("/choices/0") else {
            return Ok(None);
        };
        if let Some(finish) = choice.get("finish_reason").and_then(finish_of) {
            self.finish = Some(finish);
        }
        let Some(delta) = choice.get_mut("delta") else {
            return Ok(None);
        };
        if let Some(Value::Array(calls)) = delta.get_mut("tool_calls").map(Value::take) {
            calls.into_iter().for_each(|call| self.add_call(call));
        }
        if let Some(refusal) = delta.get_mut("refusal").map(Value::take).and_then(text_of) {
            self.size += refusal.len();
            self.refusal.push_str(&refusal);
        }
        let start = self.text.len();
        if let Some(text) = delta.get_mut("content").map(Value::take).and_then(text_of) {
            self.size += text.len();
            self.text.push_str(&text);
        }
        if self.size > MAX_ANSWER {
            return Err(Unreadable::TooLong);
        }
        let added = &self.text[start..];
        Ok((!added.is_empty()).then_some(added))
    }

    /// Whether a piece said why the model stopped.
    pub(super) fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// The answer.
    pub(super) fn finish(self, request: &ModelRequest) -> (ModelReply, Option<Counts>) {
        let drafts = self.drafts.into_iter().map(|(_, draft)| draft).collect();
        let (text, finish) = match self.refusal {
            refusal if refusal.is_empty() => (self.text, self.finish.unwrap_or_default()),
            refusal if self.text.is_empty() => (refusal, Finish::Filtered),
            _ => (self.text, Finish::Filtered),
        };
        let reply = ModelReply {
            text: Some(text).filter(|text| !text.is_empty()),
            calls: named(drafts, request),
            finish,
            model: self.model,
        };
        (reply, self.counts)
    }

    /// Adds a fragment to the call that it continues. A call begins where an index or an id is new;
    /// some servers give every call the index 0 and tell them apart by id.
    fn add_call(&mut self, fragment: Value) {
        let index = fragment.get("index").and_then(Value::as_u64);
        let fragment = Draft::read(fragment);
        self.size += fragment.arguments.len() + fragment.name.len() + fragment.id.len();
        let room = self.drafts.len() < MAX_CALLS;
        let open = match index {
            Some(_) => self.drafts.iter_mut().rfind(|(at, _)| *at == index),
            None => self.drafts.last_mut(),
        };
        let open = open
            .map(|(_, draft)| draft)
            .filter(|draft| draft.goes_on_with(&fragment, index));
        match open {
            Some(draft) => draft.append(fragment),
            None if room => self.drafts.push((index, fragment)),
            // Nobody can mean that many: the rest is left out.
            None => {}
        }
    }
}

/// A tool call as far as it is known.
#[derive(Debug, Default)]
struct Draft {
    id: String,
    name: String,
    arguments: String,
}

impl Draft {
    fn read(mut call: Value) -> Self {
        let id = string_at(&mut call, "id").unwrap_or_default();
        let mut function = call
            .get_mut("function")
            .map(Value::take)
            .unwrap_or_default();
        let arguments = match function.get_mut("arguments").map(Value::take) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text,
            Some(value) => value.to_string(),
        };
        Self {
            id,
            name: string_at(&mut function, "name")
                .map(|name| name.chars().take(MAX_NAME).collect())
                .unwrap_or_default(),
            arguments,
        }
    }

    fn goes_on_with(&self, fragment: &Draft, index: Option<u64>) -> bool {
        let other_id = !fragment.id.is_empty() && !self.id.is_empty() && fragment.id != self.id;
        let other_name = index.is_none() && fragment.id.is_empty() && !fragment.name.is_empty();
        !other_id && !other_name
    }

    fn append(&mut self, fragment: Draft) {
        if self.id.is_empty() {
            self.id = fragment.id;
        }
        // Some servers repeat the whole name in each fragment.
        if self.name != fragment.name && self.name.len() + fragment.name.len() <= MAX_NAME {
            self.name.push_str(&fragment.name);
        }
        self.arguments.push_str(&fragment.arguments);
    }
}

/// The calls with ids that are unique in the conversation: the answers to them are matched by id.
fn named(drafts: Vec<Draft>, request: &ModelRequest) -> Vec<ToolCall> {
    if drafts.is_empty() {
        return Vec::new();
    }
    let mut taken: Vec<String> = earlier_ids(request).map(str::to_owned).collect();
    let mut calls = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let mut id = draft.id;
        let mut n = taken.len();
        while id.is_empty() || taken.contains(&id) {
            id = format!("call_{n}");
            n += 1;
        }
        taken.push(id.clone());
        let empty = draft.arguments.trim().is_empty();
        calls.push(ToolCall {
            id,
            name: ToolName::from(draft.name),
            arguments: if empty { "{}".into() } else { draft.arguments },
        });
    }
    calls
}

fn earlier_ids(request: &ModelRequest) -> impl Iterator<Item = &str> {
    request.messages.iter().flat_map(|message| {
        match message {
            Message::Assistant { calls, .. } => calls.as_slice(),
            _ => &[],
        }
        .iter()
        .map(|call| call.id.as_str())
    })
}

/// Text from a string or from a list of parts; nothing where it is empty.
fn text_of(content: Value) -> Option<String> {
    let text = match content {
        Value::String(text) => text,
        Value::Array(parts) => parts
            .into_iter()
            .filter_map(|mut part| match part {
                Value::String(text) => Some(text),
                _ => string_at(&mut part, "text"),
            })
            .collect(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn finish_of(reason: &Value) -> Option<Finish> {
    match reason.as_str()? {
        "length" | "max_tokens" => Some(Finish::Length),
        "content_filter" | "safety" => Some(Finish::Filtered),
        _ => Some(Finish::Stop),
    }
}

fn error_in(body: &mut Value) -> Option<Value> {
    let error = body.get_mut("error")?;
    (!error.is_null()).then(|| error.take())
}

fn string_at(value: &mut Value, key: &str) -> Option<String> {
    match value.get_mut(key).map(Value::take) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}
