//! Errors as RFC 9457 problem documents: one shape for every refusal, with the field that is at fault
//! where one is. What went wrong inside is logged, not told.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::auth::Denied;
use crate::intake::Refused;
use crate::wire::ProblemBody;

/// Seconds after which a caller may try again when the store failed, or too much is under way.
const RETRY_AFTER_S: u32 = 5;

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request, or a part of it, does not read as what it must be.
    Malformed,
    /// A field has a value that cannot be used.
    Field,
    /// No token, or none that opens anything.
    Unauthorised,
    /// The token lacks a scope.
    Forbidden,
    /// It is for somebody else to decide.
    Others,
    /// Sent by a page of another origin.
    ForeignOrigin,
    /// There is nothing here, or nothing that the caller may see.
    NotFound,
    /// The path knows other methods.
    Method,
    /// The body did not arrive in time.
    Slow,
    /// The state of things does not allow it.
    Conflict,
    /// The body is too large.
    TooLarge,
    /// The body is not JSON.
    MediaType,
    /// It reads, and is no answer to what it is sent to.
    Unfit,
    /// Meant for another host.
    ForeignHost,
    /// A fault of ours.
    Internal,
    /// The store cannot be used now.
    Unavailable,
    /// The store's server cannot be reached.
    Unreachable,
    /// An operator has stopped everything.
    Halted,
    /// Too many answers that take their time are under way.
    Busy,
    /// Not signed by whom a hook is for, or for no hook at all.
    Unsigned,
    /// Asked too often.
    Often,
}

impl Kind {
    fn told(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Kind::Malformed => (S::BAD_REQUEST, "malformed", "The request cannot be read"),
            Kind::Field => (S::BAD_REQUEST, "field", "A field cannot be used"),
            Kind::Unauthorised => (S::UNAUTHORIZED, "token", "A valid token is needed"),
            Kind::Forbidden => (S::FORBIDDEN, "scope", "The token does not allow this"),
            Kind::Others => (S::FORBIDDEN, "others", "It is for others to decide"),
            Kind::ForeignOrigin => (S::FORBIDDEN, "origin", "Pages of other origins are refused"),
            Kind::NotFound => (S::NOT_FOUND, "not-found", "Not found"),
            Kind::Method => (S::METHOD_NOT_ALLOWED, "method", "Method not allowed"),
            Kind::Slow => (
                S::REQUEST_TIMEOUT,
                "slow",
                "The body did not arrive in time",
            ),
            Kind::Conflict => (S::CONFLICT, "conflict", "Not possible as things stand"),
            Kind::TooLarge => (S::PAYLOAD_TOO_LARGE, "too-large", "The body is too large"),
            Kind::MediaType => (S::UNSUPPORTED_MEDIA_TYPE, "media-type", "JSON is needed"),
            Kind::Unfit => (S::UNPROCESSABLE_ENTITY, "unfit", "It does not fit"),
            Kind::ForeignHost => (S::MISDIRECTED_REQUEST, "host", "Meant for another host"),
            Kind::Internal => (S::INTERNAL_SERVER_ERROR, "internal", "A fault in majordomo"),
            Kind::Unavailable => (
                S::SERVICE_UNAVAILABLE,
                "store",
                "The store cannot be used now",
            ),
            Kind::Unreachable => (
                S::SERVICE_UNAVAILABLE,
                "database",
                "The database cannot be reached",
            ),
            Kind::Halted => (S::SERVICE_UNAVAILABLE, "halted", "Everything is stopped"),
            Kind::Busy => (S::SERVICE_UNAVAILABLE, "busy", "Too much is under way"),
            Kind::Unsigned => (S::UNAUTHORIZED, "signature", "A good signature is needed"),
            Kind::Often => (S::TOO_MANY_REQUESTS, "rate", "Too many requests"),
        }
    }
}

/// A refusal.
#[derive(Clone, Debug)]
pub struct Problem {
    kind: Kind,
    detail: String,
    field: Option<String>,
    retry_after_s: Option<u32>,
}

impl Problem {
    /// A refusal of this kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            field: None,
            retry_after_s: matches!(kind, Kind::Unavailable | Kind::Unreachable | Kind::Busy)
                .then_some(RETRY_AFTER_S),
        }
    }

    /// Somebody asked too often, and may ask again after so many seconds.
    pub fn often(retry_after_s: u32) -> Self {
        let detail = format!("ask again in {retry_after_s} s ([server] requests_per_minute)");
        Self {
            retry_after_s: Some(retry_after_s),
            ..Self::new(Kind::Often, detail)
        }
    }

    /// Whether it is of this kind.
    pub fn is(&self, kind: Kind) -> bool {
        self.kind == kind
    }

    /// A field with a value that cannot be used.
    pub fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Kind::Field, detail).at(field)
    }

    /// The same refusal, with the field that caused it.
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// A fault of ours: logged here, told without its cause.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(Kind::Internal, "the server's log says what happened")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, name, title) = self.kind.told();
        let body = ProblemBody {
            kind: format!("urn:majordomo:problem:{name}"),
            title: title.into(),
            status: status.as_u16(),
            detail: self.detail,
            field: self.field,
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        let problem_json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, problem_json);
        if self.kind == Kind::Unauthorised {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<shared::store::Error> for Problem {
    fn from(error: shared::store::Error) -> Self {
        use shared::store::Error::{
            Corrupt, Database, Io, Locked, Migration, Rights, Unreachable, Url,
        };
        match error {
            Corrupt { .. } | Migration(_) | Rights { .. } | Url(_) => Self::internal(&error),
            Locked { .. } | Database(_) | Unreachable(_) | Io { .. } => {
                tracing::error!(%error, "the store failed under a request");
                let detail = "the store cannot be read or written now; try again with the same \
                              Idempotency-Key";
                let kind = match error {
                    Unreachable(_) => Kind::Unreachable,
                    _ => Kind::Unavailable,
                };
                Self::new(kind, detail)
            }
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Field { field, why } => Self::field(field, why),
            halted @ Refused::Halted(_) => Self::new(Kind::Halted, halted.to_string()),
            Refused::Store(error) => error.into(),
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let kind = match denied {
            Denied::Hidden => Kind::NotFound,
            Denied::Scope(_) | Denied::Elsewhere => Kind::Forbidden,
        };
        Self::new(kind, denied.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::store::Error;

    #[test]
    fn a_database_that_is_away_is_told_from_one_that_fails() {
        let of = |error: Error| Problem::from(error).kind;
        assert_eq!(of(Error::Unreachable("x".into())), Kind::Unreachable);
        assert_eq!(of(Error::Database("disk full".into())), Kind::Unavailable);
    }
}
