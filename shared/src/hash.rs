//! SHA-256 of values, the same whatever order a JSON object's keys arrived in.
//! Everything that must be recognised again (operations, specs, artefacts, effects) is named by it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A SHA-256, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of raw bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The hash of a JSON value in canonical form: object keys sorted, no white space, and every
    /// part preceded by its kind, so that no two different values are written alike.
    pub fn of(value: &Value) -> Self {
        let mut hasher = Sha256::new();
        feed(&mut hasher, value);
        Self(hasher.finalize().into())
    }

    /// The hash of several parts in this order.
    pub fn chain(parts: &[Hash]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part.0);
        }
        Self(hasher.finalize().into())
    }

    /// The first twelve digits: enough for a person to recognise it.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

fn feed(hasher: &mut Sha256, value: &Value) {
    match value {
        Value::Null => hasher.update(b"n"),
        Value::Bool(true) => hasher.update(b"t"),
        Value::Bool(false) => hasher.update(b"f"),
        Value::Number(number) => feed_text(hasher, b'#', &number.to_string()),
        Value::String(text) => feed_text(hasher, b'"', text),
        Value::Array(items) => {
            hasher.update(b"[");
            hasher.update((items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| feed(hasher, item));
        }
        Value::Object(map) => {
            hasher.update(b"{");
            hasher.update((map.len() as u64).to_le_bytes());
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            for (key, item) in entries {
                feed_text(hasher, b':', key);
                feed(hasher, item);
            }
        }
    }
}

fn feed_text(hasher: &mut Sha256, kind: u8, text: &str) {
    hasher.update([kind]);
    hasher.update((text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("not a hash of 64 hexadecimal digits: {0:?}")]
pub struct NotAHash(String);

impl std::str::FromStr for Hash {
    type Err = NotAHash;
    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotAHash(text.into()))?;
        Ok(Self(bytes))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn order_of_keys_does_not_matter_but_everything_else_does() {
        assert_eq!(
            Hash::of(&json!({"a": 1, "b": [2]})),
            Hash::of(&json!({"b": [2], "a": 1}))
        );
        let all = [
            json!({"a": 1}),
            json!({"a": "1"}),
            json!({"b": 1}),
            json!([["a"], "b"]),
            json!([["a", "b"]]),
            json!("[]"),
            json!([]),
            json!(null),
        ];
        let hashes: std::collections::HashSet<_> = all.iter().map(Hash::of).collect();
        assert_eq!(hashes.len(), all.len());
    }

    #[test]
    fn text_form_round_trips() {
        let hash = Hash::of_bytes(b"x");
        assert_eq!(hash.to_string().parse::<Hash>().unwrap(), hash);
        assert!("zz".parse::<Hash>().is_err());
    }
}
