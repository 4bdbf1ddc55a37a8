//! Fetching one address that somebody else wrote: each hop is checked before it is asked for, the
//! body is cut at its cap while it streams (after decompression), and one time limit holds for all
//! of it. Understanding the body is the caller's matter.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use reqwest::{Response, StatusCode};
use url::Url;

use super::{Gateway, address, failure};
use crate::run::{Failure, FailureKind};

/// How many redirects are followed; browsers allow 20, honest pages need one or two.
const MAX_REDIRECTS: usize = 5;

/// An address to fetch and how much of it.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// The address, as somebody wrote it.
    pub url: Url,
    /// Bytes of the decompressed body after which it is cut.
    pub max_bytes: usize,
    /// How long all of it may take, redirects and body included.
    pub timeout: Duration,
    /// The `Accept` header.
    pub accept: &'static str,
}

/// What was fetched: an answer of the 2xx kind.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The address that answered, after redirects.
    pub final_url: Url,
    /// The status.
    pub status: u16,
    /// The `Content-Type` header, where there was one that is text.
    pub content_type: Option<String>,
    /// The body, decompressed.
    pub body: Vec<u8>,
    /// Whether the body went on after `max_bytes`.
    pub truncated: bool,
}

impl Gateway {
    /// Fetches an address of unknown origin by GET. Forbidden addresses are `Refused`, redirects to
    /// them too; other statuses than 2xx are failures by their meaning; a time-out is transient.
    /// Safe to repeat as far as GET is. Stops when the future is dropped.
    pub async fn fetch(&self, request: FetchRequest) -> Result<Fetched, Failure> {
        let (limit, shown) = (request.timeout, failure::shown(&request.url));
        match tokio::time::timeout(limit, self.follow(request)).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!(
                    "{shown}: no complete answer within {} s",
                    limit.as_secs_f64()
                );
                Err(Failure::new(FailureKind::Transient, message).may_have_happened())
            }
        }
    }

    async fn follow(&self, request: FetchRequest) -> Result<Fetched, Failure> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.hop(&url, request.accept).await?;
            match redirect_target(&url, &response)? {
                Some(next) => url = next,
                None => return collect(url, response, request.max_bytes).await,
            }
        }
        let message = format!(
            "{}: more than {MAX_REDIRECTS} redirects",
            failure::shown(&request.url)
        );
        Err(Failure::new(FailureKind::Permanent, message))
    }

    async fn hop(&self, url: &Url, accept: &'static str) -> Result<Response, Failure> {
        let shown = failure::shown(url);
        let private = address::check(url, &self.inner.allowed)
            .map_err(|why| Failure::new(FailureKind::Refused, format!("{shown}: {why}")))?;
        self.client(private)?
            .get(url.clone())
            .header(ACCEPT, accept)
            .send()
            .await
            .map_err(|error| failure::transport(&shown, error))
    }
}

fn redirect_target(from: &Url, response: &Response) -> Result<Option<Url>, Failure> {
    use StatusCode as S;
    let redirects = [
        S::MOVED_PERMANENTLY,
        S::FOUND,
        S::SEE_OTHER,
        S::TEMPORARY_REDIRECT,
        S::PERMANENT_REDIRECT,
    ];
    let Some(location) = response.headers().get(LOCATION) else {
        return Ok(None);
    };
    if !redirects.contains(&response.status()) {
        return Ok(None);
    }
    let text = std::str::from_utf8(location.as_bytes()).ok();
    text.and_then(|text| from.join(text).ok())
        .map(Some)
        .ok_or_else(|| {
            let message = format!("{}: redirects to no address", failure::shown(from));
            Failure::new(FailureKind::Permanent, message)
        })
}

async fn collect(url: Url, mut response: Response, max_bytes: usize) -> Result<Fetched, Failure> {
    let shown = failure::shown(&url);
    if !response.status().is_success() {
        return Err(failure::status(
            &shown,
            response.status(),
            response.headers(),
        ));
    }
    let status = response.status().as_u16();
    let content_type = response.headers().get(CONTENT_TYPE);
    let content_type = content_type
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let mut body = Vec::new();
    let mut truncated = false;
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| failure::transport(&shown, error))?
    {
        let room = max_bytes - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            truncated = true;
            break;
        }
    }
    Ok(Fetched {
        final_url: url,
        status,
        content_type,
        body,
        truncated,
    })
}
