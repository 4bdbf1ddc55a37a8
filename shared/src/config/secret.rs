//! Secrets: references that are written down, and values that never are.
//!
//! A configuration holds a [`SecretRef`]; the model clients and the egress gateway turn it into a
//! [`Secret`] at the moment of use, so that a rotated key is picked up and a check of the files
//! needs no key. Which places must hold a reference and may not hold plain text is decided by
//! `check.rs` and `shape.rs`.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// A file that is larger than this is not a secret but a mistake, such as `/dev/zero`.
const LARGEST_FILE: u64 = 64 * 1024;

/// A text with `${ENV_NAME}` and `${file:/path}` in it, at any place and any number of times.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretRef(Vec<Part>);

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Env(String),
    File(PathBuf),
}

/// A secret's value. It can be neither printed nor serialized; whoever needs it calls
/// [`expose`](Secret::expose) and hands the text on at once.
#[derive(Clone)]
pub struct Secret(SecretString);

/// Why a text is not a [`SecretRef`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReference {
    /// `${` without `}`.
    #[error("a reference is opened by `${{` and never closed by `}}`")]
    Unclosed,
    /// What stands between the braces is no variable's name.
    ///
    /// It is not repeated: it may be the secret itself.
    #[error("what stands between `${{` and `}}` is no environment variable's name")]
    BadName,
    /// A file by a relative path, which would mean another file in another folder.
    #[error("`${{file:{0}}}` must name the file by its absolute path")]
    RelativePath(String),
}

/// Why a secret could not be had. Holds names only.
#[derive(Debug, thiserror::Error)]
pub enum Unresolved {
    /// No such variable.
    #[error(
        "environment variable {0} is not set; set it before the start (`export {0}=...`), or keep \
         the secret in a file and write `${{file:/path/to/it}}`"
    )]
    Unset(String),
    /// A variable without a value.
    #[error("environment variable {0} is empty; give it a value (`export {0}=...`)")]
    EmptyVariable(String),
    /// A variable whose value is no text.
    #[error("environment variable {0} holds bytes that are no UTF-8 text")]
    NotText(String),
    /// The file cannot be read.
    #[error("cannot read the secret in {}: {error}; check the path and who may read it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// A file without content.
    #[error("the secret's file {} is empty; write the secret into it", .0.display())]
    EmptyFile(PathBuf),
}

impl SecretRef {
    /// Whether any part of it comes from outside the text.
    pub fn is_reference(&self) -> bool {
        self.0.iter().any(|part| !matches!(part, Part::Text(_)))
    }

    /// Reads the environment and the files now. The end of a file loses its line breaks; an empty
    /// value is an error.
    pub fn resolve(&self) -> Result<Secret, Unresolved> {
        self.resolve_in(|name| std::env::var_os(name))
    }

    fn resolve_in(&self, env: impl Fn(&str) -> Option<OsString>) -> Result<Secret, Unresolved> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Env(name) => text.push_str(&read_variable(name, env(name))?),
                Part::File(path) => text.push_str(&read_file(path)?),
            }
        }
        Ok(Secret(text.into()))
    }
}

impl Secret {
    /// The value itself.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// A text from elsewhere without it: who is sent a secret may send it back.
    pub fn taken_out_of(&self, text: &str) -> String {
        text.replace(self.expose(), "[secret]")
    }
}

fn read_variable(name: &str, value: Option<OsString>) -> Result<String, Unresolved> {
    let value = value.ok_or_else(|| Unresolved::Unset(name.to_owned()))?;
    match value.into_string() {
        Ok(text) if text.is_empty() => Err(Unresolved::EmptyVariable(name.to_owned())),
        Ok(text) => Ok(text),
        Err(_) => Err(Unresolved::NotText(name.to_owned())),
    }
}

fn read_file(path: &PathBuf) -> Result<String, Unresolved> {
    let text = read_at_most(path, LARGEST_FILE).map_err(|error| Unresolved::Unreadable {
        path: path.clone(),
        error,
    })?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(Unresolved::EmptyFile(path.clone())),
        text => Ok(text.to_owned()),
    }
}

fn read_at_most(path: &PathBuf, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(limit + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::other("it is larger than 64 KiB"));
    }
    Ok(text)
}

impl FromStr for SecretRef {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Self, BadReference> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((plain, after)) = rest.split_once("${") {
            let (inner, after) = after.split_once('}').ok_or(BadReference::Unclosed)?;
            push_text(&mut parts, plain);
            parts.push(reference(inner)?);
            rest = after;
        }
        push_text(&mut parts, rest);
        Ok(Self(parts))
    }
}

fn push_text(parts: &mut Vec<Part>, plain: &str) {
    if !plain.is_empty() {
        parts.push(Part::Text(plain.to_owned()));
    }
}

fn reference(inner: &str) -> Result<Part, BadReference> {
    if let Some(path) = inner.strip_prefix("file:") {
        let path = PathBuf::from(path);
        return match path.is_absolute() {
            true => Ok(Part::File(path)),
            false => Err(BadReference::RelativePath(path.display().to_string())),
        };
    }
    let starts_well = inner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    match starts_well && inner.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        true => Ok(Part::Env(inner.to_owned())),
        false => Err(BadReference::BadName),
    }
}

impl fmt::Debug for SecretRef {
    /// The references alone: the text around them may be a secret that was written down by mistake.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretRef(")?;
        for part in &self.0 {
            match part {
                Part::Text(_) => f.write_str("…")?,
                Part::Env(name) => write!(f, "${{{name}}}")?,
                Part::File(path) => write!(f, "${{file:{}}}", path.display())?,
            }
        }
        f.write_str(")")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "SecretRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": "string",
            "format": "secret-text",
            "description": "Text in which `${ENV_NAME}` and `${file:/path}` stand for secrets."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> SecretRef {
        text.parse().unwrap()
    }

    fn env(name: &str) -> Option<OsString> {
        match name {
            "KEY" => Some("sk-1".into()),
            "EMPTY" => Some("".into()),
            _ => None,
        }
    }

    #[test]
    fn references_are_found_inside_other_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "from file\r\n\n").unwrap();
        let file = path.display();
        let cases = [
            ("${KEY}".to_owned(), "sk-1"),
            ("Bearer ${KEY}".to_owned(), "Bearer sk-1"),
            ("a${KEY}b${KEY}c".to_owned(), "ask-1bsk-1c"),
            (format!("${{file:{file}}}!"), "from file!"),
            ("acme $5 {x}".to_owned(), "acme $5 {x}"),
        ];
        for (text, value) in cases {
            let secret = parse(&text).resolve_in(env).unwrap();
            assert_eq!(secret.expose(), value, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_had_is_named_and_never_replaced_by_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty");
        std::fs::write(&empty, "\n").unwrap();
        let cases = [
            (
                "${GONE}",
                "variable GONE is not set; set it before the start (`export GONE=...`)",
            ),
            ("${EMPTY}", "variable EMPTY is empty"),
            (
                "${file:/no/such/file}",
                "cannot read the secret in /no/such/file",
            ),
            (
                &format!("${{file:{}}}", empty.display()),
                "empty is empty; write",
            ),
            ("${file:/dev/zero}", "larger than 64 KiB"),
        ];
        for (text, part) in cases {
            let error = parse(text).resolve_in(env).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn half_written_references_are_refused() {
        for text in [
            "${KEY",
            "${}",
            "${a b}",
            "${1A}",
            "${file:}",
            "${file:key}",
            "x ${file:~/k}",
        ] {
            assert!(text.parse::<SecretRef>().is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let reference = parse("Bearer sk-literal ${KEY}");
        assert_eq!(format!("{reference:?}"), "SecretRef(…${KEY})");
        let secret = reference.resolve_in(env).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(hidden)");
    }

    #[test]
    fn only_references_count_as_such() {
        assert!(parse("x${KEY}").is_reference());
        assert!(!parse("acme").is_reference());
    }
}
