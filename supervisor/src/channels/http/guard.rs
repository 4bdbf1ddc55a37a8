//! What a request must pass before anything reads it: its host and origin, its size, its token,
//! how often it asks, in this order. Sizes come before tokens so that strangers cost nothing.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use super::Door;
use super::problem::{Kind, Problem};
use super::rate::{Peer, Who};
use crate::auth::{self, Caller};

/// The largest body of a request, in bytes. Said once, at the door.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit(pub usize);

/// Refuses what a page of another origin sends, and at a loopback address what was meant for another
/// host: a browser on this machine must not be a way in, whatever name an attacker gives to 127.0.0.1.
pub async fn at_home(
    State(door): State<Arc<Door>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let hosts = hosts(request.uri(), request.headers());
    if door.loopback && !hosts.iter().all(|host| is_this_machine(host)) {
        let detail = "this address answers to localhost and 127.0.0.1 only";
        return Err(Problem::new(Kind::ForeignHost, detail).at("Host"));
    }
    let same = |origin: &str| {
        let origin = origin.split_once("://").map(|(_, rest)| rest);
        hosts
            .iter()
            .any(|host| origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host)))
    };
    let mut origins = request.headers().get_all(header::ORIGIN).iter();
    if !origins.all(|origin| origin.to_str().is_ok_and(same)) {
        let detail = "requests from pages of other origins are not taken";
        return Err(Problem::new(Kind::ForeignOrigin, detail).at("Origin"));
    }
    Ok(next.run(request).await)
}

/// Every host that a request names; an unreadable one is named by an empty text.
fn hosts(uri: &Uri, headers: &HeaderMap) -> Vec<String> {
    let named = headers.get_all(header::HOST).iter();
    let named = named.map(|host| host.to_str().unwrap_or_default().to_owned());
    named
        .chain(uri.authority().map(|authority| authority.to_string()))
        .collect()
}

fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    let loopback = |address: IpAddr| address.to_canonical().is_loopback();
    name.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(loopback)
}

/// Refuses a body that says it is too large, and cuts one that turns out to be.
/// Whoever reads it finds the limit among the request's extensions.
pub async fn small(
    State(door): State<Arc<Door>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let limit = door.body_limit;
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit.0 as u64) {
        return Err(too_large(limit));
    }
    request.extensions_mut().insert(limit);
    Ok(next.run(request).await)
}

/// A body that is too large.
pub fn too_large(limit: BodyLimit) -> Problem {
    let detail = format!(
        "at most {} bytes are taken ([server] body_limit_kib)",
        limit.0
    );
    Problem::new(Kind::TooLarge, detail)
}

/// Lets in only those with a live token, and not too often; tells handlers who it is.
pub async fn recognised(
    State(door): State<Arc<Door>>,
    mut request: Request<Body>,
    next: Next,
) -> Result<Response, Problem> {
    let caller = match recognise(&door, request.headers()).await {
        Ok(caller) => caller,
        Err(problem) => {
            if problem.is(Kind::Unauthorised) {
                door.rates.take(Who::Stranger(Peer::of(&request)))?;
            }
            return Err(problem);
        }
    };
    if let Some(token) = caller.token() {
        door.rates.take(Who::Token(token))?;
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Who sent a request with these headers.
pub async fn recognise(door: &Door, headers: &HeaderMap) -> Result<Caller, Problem> {
    let wrong = |detail: &str| Problem::new(Kind::Unauthorised, detail).at("Authorization");
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (shown.next(), shown.next()) else {
        return Err(wrong(
            "send one header `Authorization: Bearer TOKEN`; `majordomo token new` makes a token",
        ));
    };
    let bearer = |text: &str| {
        let (scheme, secret) = text.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| secret.trim().to_owned())
    };
    let Some(secret) = value.to_str().ok().and_then(bearer) else {
        return Err(wrong("the header must read `Bearer TOKEN`"));
    };
    let (store, tenant) = (&*door.desk().store, &door.desk().tenant);
    let caller = auth::recognise(store, tenant, &door.local, &secret).await?;
    caller.ok_or_else(|| wrong("this token is unknown or was revoked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_taken() {
        for host in [
            "localhost",
            "localhost:7070",
            "LOCALHOST:1",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]",
            "[::1]:7070",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "",
            "evil.test",
            "evil.test:7070",
            "localhost.evil.test",
            "127.0.0.1.evil.test",
            "10.0.0.1",
            "0.0.0.0",
            "[::]",
            "127.0.0.1@evil.test",
            "localhost:x",
            "2130706433",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
