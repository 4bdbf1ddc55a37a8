//! What a failed request means: transport errors and HTTP statuses as [`Failure`]s, so that models
//! and tools alike are retried, or not, by one reading. Messages name the host and never the query
//! or a header. Called by the gateway's own fetch, by the search tool and by models.

use std::error::Error;

use jiff::fmt::rfc2822;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use url::Url;

use super::address::Forbidden;
use crate::run::{Failure, FailureKind};

/// A request that brought no whole answer. `what` names it: a host, a model.
pub fn transport(what: &str, error: reqwest::Error) -> Failure {
    let error = error.without_url();
    if let Some(forbidden) = find::<Forbidden>(&error) {
        return Failure::new(FailureKind::Refused, format!("{what}: {forbidden}"));
    }
    let kind = if error.is_builder() {
        FailureKind::Permanent
    } else {
        FailureKind::Transient
    };
    let failure = Failure::new(kind, format!("{what}: {}", chain(&error)));
    if error.is_connect() || error.is_builder() {
        failure
    } else {
        failure.may_have_happened()
    }
}

/// An answer with a status other than success.
pub fn status(what: &str, status: StatusCode, headers: &HeaderMap) -> Failure {
    let mut failure = Failure::new(kind_of(status), format!("{what}: answered {status}"));
    failure.retry_after_s = retry_after_s(headers);
    // A server that failed may have done the work before it failed.
    failure.may_have_happened = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED;
    failure
}

fn kind_of(status: StatusCode) -> FailureKind {
    match status.as_u16() {
        408 | 425 | 429 | 500 | 502..=504 | 520..=530 => FailureKind::Transient,
        _ => FailureKind::Permanent,
    }
}

/// The pause in seconds that `Retry-After` asks for, given in seconds or as a date. A date is
/// measured against the answer's own `Date`, so that no clock but the server's counts; without one
/// it says nothing.
pub fn retry_after_s(headers: &HeaderMap) -> Option<f64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.is_finite() && seconds >= 0.0).then_some(seconds);
    }
    let date = |text: &str| Some(rfc2822::parse(text).ok()?.timestamp());
    let until = date(text)?;
    let now = date(headers.get(DATE)?.to_str().ok()?.trim())?;
    Some(until.duration_since(now).as_secs_f64().max(0.0))
}

/// The address without what may be secret in it: no query, fragment or user.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _none_to_remove = url.set_username("").and_then(|()| url.set_password(None));
    url.into()
}

/// An error and its causes in one line, each said once.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let at = "Wed, 21 Oct 2015 07:28:00 GMT";
        let table = [
            ("7", "", Some(7.0)),
            (" 1.5 ", "", Some(1.5)),
            ("-1", "", None),
            ("NaN", "", None),
            ("inf", "", None),
            ("soon", "", None),
            (at, "Wed, 21 Oct 2015 07:27:30 GMT", Some(30.0)),
            (at, "Wed, 21 Oct 2015 07:29:00 GMT", Some(0.0)),
            (at, "", None),
        ];
        for (after, date, expected) in table {
            let given = headers(&[("retry-after", after), ("date", date)]);
            assert_eq!(retry_after_s(&given), expected, "{after} {date}");
        }
        assert_eq!(retry_after_s(&headers(&[])), None);
    }

    #[test]
    fn statuses_are_transient_or_permanent_and_server_errors_may_have_happened() {
        use FailureKind::{Permanent, Transient};
        let table = [
            (408, Transient, false),
            (429, Transient, false),
            (500, Transient, true),
            (502, Transient, true),
            (503, Transient, true),
            (504, Transient, true),
            (529, Transient, true),
            (301, Permanent, false),
            (400, Permanent, false),
            (401, Permanent, false),
            (404, Permanent, false),
            (501, Permanent, false),
        ];
        for (code, kind, may_have_happened) in table {
            let given = StatusCode::from_u16(code).unwrap();
            let failure = status("api", given, &HeaderMap::new());
            assert_eq!(
                (failure.kind, failure.may_have_happened),
                (kind, may_have_happened),
                "{code}"
            );
        }
    }

    #[test]
    fn an_address_is_shown_without_query_and_user() {
        let url = Url::parse("https://u:p@h.example/a/b?key=secret#f").unwrap();
        assert_eq!(shown(&url), "https://h.example/a/b");
    }
}
