//! What a single text must be: a name, a URL, a regular expression, an address, a reference to a
//! secret. [`shape`](super::shape) asks, by the `pattern` and `format` of the text's schema.

use std::net::SocketAddr;
use std::ops::Range;

use serde_json::Value;

use super::document::Document;
use super::problem::Problem;
use super::secret::SecretRef;
use super::types::{NAME_PATTERN, NOT_BLANK};

/// What is wrong with a text.
pub(super) struct Fault {
    pub label: &'static str,
    pub message: String,
    pub help: String,
}

/// What is wrong with `text`, the value at `path`, by the `pattern` and `format` of its schema.
/// `about` describes the key.
pub(super) fn fault_of(schema: &Value, text: &str, path: &str, about: &str) -> Option<Fault> {
    pattern_fault(&schema["pattern"], text, path, about)
        .or_else(|| format_fault(&schema["format"], text, path))
}

fn fault(label: &'static str, message: String, help: impl Into<String>) -> Option<Fault> {
    let help = help.into();
    Some(Fault {
        label,
        message,
        help,
    })
}

fn pattern_fault(pattern: &Value, text: &str, key: &str, about: &str) -> Option<Fault> {
    match pattern.as_str()? {
        NOT_BLANK if text.trim().is_empty() => {
            fault("nothing in it", format!("`{key}` is empty"), about)
        }
        NAME_PATTERN if !is_name(text) => fault(
            "not a good name",
            format!("`{text}` cannot be a `{}`", last(key)),
            "a name has 1 to 64 lower-case letters, digits, `-` and `_`, and starts with a letter",
        ),
        _ => None,
    }
}

/// Whether a text may be the name of an agent, a tool or a person: lower-case letters, digits, `-` and `_`,
/// a letter first, 64 at most.
pub fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.len() <= 64
        && text.chars().all(allowed)
}

fn format_fault(format: &Value, text: &str, key: &str) -> Option<Fault> {
    match format.as_str()? {
        "uri" => url_fault(text, key),
        "regex" => regex_fault(text, key),
        "socket-address" => address_fault(text, key),
        "secret-text" => reference_fault(text, key),
        "database-url" => reference_fault(text, key).or_else(|| database_fault(text, key)),
        "secret" => reference_fault(text, key).or_else(|| literal_fault(text, key)),
        _ => None,
    }
}

fn url_fault(text: &str, key: &str) -> Option<Fault> {
    const EXAMPLE: &str = "write it in full, for example \"https://api.openai.com/v1\"";
    let url = match url::Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            return fault(
                "not a URL",
                format!("`{key}` is not a URL: {error}"),
                EXAMPLE,
            );
        }
    };
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return fault(
            "not a web address",
            format!("`{key}` must be an http or https URL"),
            EXAMPLE,
        );
    }
    let has_secret = !url.username().is_empty() || url.password().is_some();
    has_secret.then(|| Fault {
        label: "credentials in a URL",
        message: format!("`{key}` holds a user name or a password"),
        help: "secrets come from ${ENV} or ${file:...} only; use `api_key` or `headers`".into(),
    })
}

fn regex_fault(text: &str, key: &str) -> Option<Fault> {
    let error = regex::Regex::new(text).err()?.to_string();
    let reason = error
        .lines()
        .last()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .trim();
    fault(
        "bad regular expression",
        format!("`{key}` is not a regular expression: {reason}"),
        "put a backslash before ( ) [ ] { } * + ? . | ^ $ where the character itself is meant, and \
         the whole in single quotes so that TOML leaves backslashes alone",
    )
}

fn address_fault(text: &str, key: &str) -> Option<Fault> {
    text.parse::<SocketAddr>().err()?;
    fault(
        "not an address",
        format!("`{key}` must be an IP address and a port"),
        "for example \"127.0.0.1:7717\", \"[::1]:7717\", or \"0.0.0.0:7717\" for all interfaces; \
         names such as localhost are not looked up here",
    )
}

fn reference_fault(text: &str, key: &str) -> Option<Fault> {
    let error = text.parse::<SecretRef>().err()?;
    fault(
        "bad reference",
        format!("`{key}` holds a broken reference: {error}"),
        "write \"${OPENAI_API_KEY}\" or \"${file:/run/secrets/openai}\", alone or inside other text",
    )
}

fn literal_fault(text: &str, path: &str) -> Option<Fault> {
    let reference = text.parse::<SecretRef>().ok()?;
    (!reference.is_reference()).then(|| literal_secret(text, path))
}

/// A database's address may be written down, its password may not.
fn database_fault(text: &str, key: &str) -> Option<Fault> {
    let (address, options) = text.split_once('?').unwrap_or((text, ""));
    let user = address
        .split_once("://")
        .and_then(|(_, rest)| rest.rsplit_once('@'));
    let password = user.and_then(|(user, _)| user.split_once(':'));
    let option = |pair: &str| pair.strip_prefix("password=").map(str::to_owned);
    let written = password.map(|(_, password)| password.to_owned());
    let written = written
        .into_iter()
        .chain(options.split('&').find_map(option));
    let mut literal = written.filter(|text| !text.is_empty() && !text.starts_with("${"));
    literal.next().map(|_| Fault {
        label: "a password in plain text",
        message: format!("`{key}` holds a password"),
        help: "secrets come from ${ENV} or ${file:...} only: write \
               \"postgres://USER:${DB_PASSWORD}@HOST/NAME\" or \"${DATABASE_URL}\", set the \
               variable, and treat what stood here as leaked"
            .into(),
    })
}

/// The refusal of a secret that was written into the file.
pub(super) fn literal_secret(text: &str, path: &str) -> Fault {
    let key = last(path);
    if text.is_empty() {
        return Fault {
            label: "nothing in it",
            message: format!("`{path}` is empty"),
            help: format!("leave `{key}` out where none is needed"),
        };
    }
    Fault {
        label: "a secret in plain text",
        message: format!("`{path}` is written down in the file"),
        help: format!(
            "secrets come from ${{ENV}} or ${{file:...}} only: write `{key} = \
             \"${{YOUR_VARIABLE}}\"`, set the variable, and treat what stood here as leaked"
        ),
    }
}

/// The same refusal as a problem, for places that the schema cannot tell apart.
pub(super) fn literal_secret_problem(
    document: &Document<'_>,
    span: Range<usize>,
    text: &str,
    key: &str,
) -> Problem {
    let fault = literal_secret(text, key);
    document
        .problem(span, fault.label, fault.message)
        .help(fault.help)
}

/// The last key of a path.
pub(super) fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_the_published_pattern_says() {
        let pattern = regex::Regex::new(NAME_PATTERN).unwrap();
        let long = "a".repeat(65);
        for text in ["a", "web-2_x", "A", "2a", "", "a b", "é", "a\n", &long] {
            assert_eq!(is_name(text), pattern.is_match(text), "{text:?}");
        }
    }
}
