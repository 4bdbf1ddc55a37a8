//! Reading what a request carries: JSON bodies, query parameters, ids and headers. Each fault is told
//! with the field or the position where it lies.

use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;

use shared::id::{AskId, PermitId, TaskId};

use super::guard::{BodyLimit, too_large};
use super::problem::{Kind, Problem};

/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);
/// The longest name, thread or label in characters.
pub const MAX_SHORT: usize = 256;

/// Reads a JSON body. The bytes come back too: a repeated request is known by them.
pub async fn json<T: DeserializeOwned>(request: Request) -> Result<(T, Bytes), Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let detail = format!(
            "send `Content-Type: application/json`, not {:?}",
            short(kind)
        );
        return Err(Problem::new(Kind::MediaType, detail).at("Content-Type"));
    }
    let body = bytes(request).await?;
    Ok((parse(&body)?, body))
}

/// Reads a body as it is.
pub async fn bytes(request: Request) -> Result<Bytes, Problem> {
    // Without one that was said, nothing is read.
    let limit = request.extensions().get().copied().unwrap_or(BodyLimit(0));
    let arriving = tokio::time::timeout(BODY_TIME, to_bytes(request.into_body(), limit.0));
    match arriving.await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => Err(unread(error, limit)),
        Err(_) => {
            let detail = format!("it took longer than {} s", BODY_TIME.as_secs());
            Err(Problem::new(Kind::Slow, detail))
        }
    }
}

fn unread(error: axum::Error, limit: BodyLimit) -> Problem {
    let error = error.into_inner();
    let cut = std::error::Error::source(&*error).map(ToString::to_string);
    match error.to_string().contains("length limit")
        || cut.is_some_and(|c| c.contains("length limit"))
    {
        true => too_large(limit),
        false => Problem::new(Kind::Malformed, "the body broke off"),
    }
}

/// Reads JSON.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read: T = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        let problem = Problem::new(Kind::Malformed, short(&error.to_string()));
        match (error.is_data(), named(&path, &error)) {
            (true, Some(field)) => problem.at(short(&field)),
            _ => problem,
        }
    })?;
    let end = reader.end();
    end.map_err(|error| Problem::new(Kind::Malformed, error.to_string()))?;
    Ok(read)
}

/// The field at fault. That of a missing one is told in the words of the error alone.
fn named(path: &str, error: &serde_json::Error) -> Option<String> {
    if path != "." {
        return Some(path.to_owned());
    }
    let words = error.to_string();
    let rest = words.strip_prefix("missing field `")?;
    rest.split_once('`').map(|(field, _)| field.to_owned())
}

/// The beginning of a text that came from outside, short enough to be shown back.
pub fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_SHORT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Refuses a short text that is empty, too long, or has control characters.
pub fn check_short(field: &str, text: &str) -> Result<(), Problem> {
    if text.is_empty()
        || text.chars().nth(MAX_SHORT).is_some()
        || text.chars().any(char::is_control)
    {
        let detail = format!("must have 1 to {MAX_SHORT} characters and no control characters");
        return Err(Problem::field(field, detail));
    }
    Ok(())
}

/// A header that may be sent once.
pub fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = value.to_str();
            text.map(Some)
                .map_err(|_| Problem::field(name, "must be plain ASCII text"))
        }
        (Some(_), Some(_)) => Err(Problem::field(name, "was sent twice")),
    }
}

/// The task id in a path.
pub struct Id(pub TaskId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let id = path.ok().and_then(|Path(text)| text.parse().ok());
        id.map(Self)
            .ok_or_else(|| Problem::field("id", "must be a task's UUID"))
    }
}

/// The id of an ask in a path.
pub struct AskKey(pub AskId);

impl<S: Send + Sync> FromRequestParts<S> for AskKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let id = path.ok().and_then(|Path(text)| text.parse().ok());
        id.map(Self)
            .ok_or_else(|| Problem::field("id", "must be the UUID of what is asked"))
    }
}

/// The id of a permit in a path.
pub struct PermitKey(pub PermitId);

impl<S: Send + Sync> FromRequestParts<S> for PermitKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let id = path.ok().and_then(|Path(text)| text.parse().ok());
        id.map(Self)
            .ok_or_else(|| Problem::field("id", "must be a permit's UUID"))
    }
}

/// The parameters of a query, each at most once.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Takes a parameter out.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Takes a parameter out and reads it.
    pub fn read<T: std::str::FromStr>(
        &mut self,
        name: &str,
        what: &str,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.take(name) else {
            return Ok(None);
        };
        let read = text
            .parse()
            .map_err(|_| Problem::field(name, format!("must be {what}")));
        read.map(Some)
    }

    /// Takes out all parameters that begin so, without their beginnings.
    pub fn take_all(&mut self, prefix: &str) -> Vec<(String, String)> {
        let rest = |(name, value): &(String, String)| {
            name.strip_prefix(prefix)
                .map(|rest| (rest.to_owned(), value.clone()))
        };
        let taken = self.0.iter().filter_map(rest).collect();
        self.0.retain(|(name, _)| !name.starts_with(prefix));
        taken
    }

    /// Refuses what nobody took.
    pub fn finish(self, known: &str) -> Result<(), Problem> {
        match self.0.into_iter().next() {
            Some((name, _)) => Err(Problem::field(
                short(&name),
                format!("is not known here; there are {known}"),
            )),
            None => Ok(()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let mut all: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if all.iter().any(|(known, _)| *known == name) {
                return Err(Problem::field(short(&name), "was given twice"));
            }
            all.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(all))
    }
}
