//! Posting to one address that somebody else wrote: checked like one that is fetched, never redirected,
//! one attempt. The answer's body is read to a limit, so that the connection can be used again, and
//! dropped. What an answer means is the caller's matter.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::HeaderMap;
use url::Url;

use super::address::Forbidden;
use super::{Gateway, address, failure};
use crate::run::{Failure, FailureKind};

/// The most of an answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// What is posted, and where to.
#[derive(Clone, Debug)]
pub struct PostRequest {
    /// The address, as somebody wrote it.
    pub url: Url,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// How long all of it may take.
    pub timeout: Duration,
}

/// An answer, whatever it says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Posted {
    /// The status.
    pub status: u16,
    /// The pause in seconds that the answer asks for.
    pub retry_after_s: Option<f64>,
}

impl Gateway {
    /// Whether an address that somebody else wrote may be reached, as far as can be told without
    /// resolving its name. `Ok(true)` where it is on the operator's list.
    pub fn check(&self, url: &Url) -> Result<bool, Forbidden> {
        address::check(url, &self.inner.allowed)
    }

    /// Posts to an address of unknown origin. Forbidden addresses are `Refused`; a time-out is
    /// transient; every answer is an answer. Once the status is there, what becomes of the body changes
    /// nothing.
    pub async fn post(&self, request: PostRequest) -> Result<Posted, Failure> {
        // The path may be a secret, too.
        let shown = request.url.origin().ascii_serialization();
        let limit = request.timeout;
        let mut posted = None;
        let exchange = async {
            let response = self.send(request, &shown).await?;
            posted = Some(Posted {
                status: response.status().as_u16(),
                retry_after_s: failure::retry_after_s(response.headers()),
            });
            drain(response).await;
            Ok(())
        };
        let ended = tokio::time::timeout(limit, exchange).await;
        match (posted, ended) {
            (Some(posted), _) => Ok(posted),
            (None, Ok(Err(failure))) => Err(failure),
            (None, _) => {
                let message = format!("{shown}: no answer within {} s", limit.as_secs_f64());
                Err(Failure::new(FailureKind::Transient, message).may_have_happened())
            }
        }
    }

    async fn send(&self, request: PostRequest, shown: &str) -> Result<Response, Failure> {
        let private = self
            .check(&request.url)
            .map_err(|why| Failure::new(FailureKind::Refused, format!("{shown}: {why}")))?;
        self.client(private)?
            .post(request.url)
            .headers(request.headers)
            .body(request.body)
            .send()
            .await
            .map_err(|error| failure::transport(shown, error))
    }
}

async fn drain(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > MAX_ANSWER {
            return;
        }
    }
}
