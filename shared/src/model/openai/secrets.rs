//! The values that only the server may see: the key, the headers' values, the address's query. They
//! are taken out of all that comes back, failures and answers alike, where it enters: a server that
//! echoes a key must not get it into the journal, a log, or another agent's prompt.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::OpenaiConfig;
use crate::model::ModelReply;

/// A shorter value is no secret, and blotting it out would maim every message.
const SHORTEST: usize = 6;

/// What may not be shown, each with the name that is shown instead.
pub(super) struct Secrets(Vec<(String, SecretString)>);

impl Secrets {
    /// Those of this config.
    pub(super) fn of(config: &OpenaiConfig) -> Self {
        let key = config.api_key.as_ref();
        let key = key.map(|key| ("api_key".to_owned(), key.expose_secret().to_owned()));
        let headers = config.headers.iter().filter_map(|(name, value)| {
            Some((format!("headers.{name}"), value.to_str().ok()?.to_owned()))
        });
        let query = config
            .base_url
            .query_pairs()
            .map(|(_, value)| ("base_url".to_owned(), value.into_owned()));
        let mut secrets: Vec<_> = key
            .into_iter()
            .chain(headers)
            .chain(query)
            .filter(|(_, value)| value.len() >= SHORTEST)
            .map(|(name, value)| {
                let shown = format!("[secret {}.{name}]", config.label);
                (shown, SecretString::from(value))
            })
            .collect();
        // One that holds another goes first.
        secrets.sort_by_key(|(_, value)| std::cmp::Reverse(value.expose_secret().len()));
        Self(secrets)
    }

    /// The text without them.
    pub(super) fn taken_out(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (shown, value) in &self.0 {
            if text.contains(value.expose_secret()) {
                text = text.replace(value.expose_secret(), shown);
            }
        }
        text
    }

    /// An answer without them.
    pub(super) fn taken_out_of(&self, reply: ModelReply) -> ModelReply {
        let mut reply = reply;
        reply.text = reply.text.map(|text| self.taken_out(&text));
        reply.model = self.taken_out(&reply.model);
        for call in &mut reply.calls {
            call.id = self.taken_out(&call.id);
            call.name = self.taken_out(call.name.as_str()).into();
            call.arguments = self.taken_out_of_json(&call.arguments);
        }
        reply
    }

    /// The same for JSON as text, where a value may also stand escaped.
    fn taken_out_of_json(&self, text: &str) -> String {
        let text = self.taken_out(text);
        if text.contains('\\')
            && let Ok(value) = serde_json::from_str::<Value>(&text)
        {
            let clean = self.clean(value.clone());
            if clean != value {
                return clean.to_string();
            }
        }
        text
    }

    fn clean(&self, value: Value) -> Value {
        match value {
            Value::String(text) => self.taken_out(&text).into(),
            Value::Array(items) => items.into_iter().map(|item| self.clean(item)).collect(),
            Value::Object(fields) => fields
                .into_iter()
                .map(|(key, item)| (self.taken_out(&key), self.clean(item)))
                .collect(),
            other => other,
        }
    }

    /// How much of the end of a text may be the beginning of one of them, in bytes.
    fn begun_in(&self, text: &str) -> usize {
        let begun = |value: &str| {
            let longest = value.len().saturating_sub(1).min(text.len());
            let ends = |count: &usize| {
                let count = *count;
                value.is_char_boundary(count) && text.ends_with(&value[..count])
            };
            (1..=longest).rev().find(ends).unwrap_or(0)
        };
        let each = self.0.iter().map(|(_, value)| begun(value.expose_secret()));
        each.max().unwrap_or(0)
    }
}

/// Live text that is shown piece by piece: what may be the beginning of a secret waits for the next.
pub(super) struct Pieces<'a> {
    secrets: &'a Secrets,
    kept: String,
}

impl<'a> Pieces<'a> {
    /// Nothing was shown yet.
    pub(super) fn new(secrets: &'a Secrets) -> Self {
        Self {
            secrets,
            kept: String::new(),
        }
    }

    /// What can be shown, now that this piece has come.
    pub(super) fn add(&mut self, piece: &str) -> String {
        let mut text = self
            .secrets
            .taken_out(&(std::mem::take(&mut self.kept) + piece));
        let begun = self.secrets.begun_in(&text);
        self.kept = text.split_off(text.len() - begun);
        text
    }

    /// What was kept back, now that nothing follows.
    pub(super) fn rest(self) -> String {
        self.kept
    }
}
