//! One HTTP request for one call. Stands below async-openai, whose own client would try four times
//! unseen, lose the headers of a refusal, log whole bodies, and read without a bound.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use futures::StreamExt;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Response, StatusCode};

/// The longest answer that is read. Beyond it an answer is noise, not work.
pub(super) const MAX_ANSWER: usize = 8 << 20;
/// As much of a refusal's body as is read to understand it.
const MAX_REFUSAL: usize = 16 << 10;

/// What is learned below the library about one attempt.
#[derive(Default)]
pub(super) struct Watch {
    sent: AtomicBool,
    done: AtomicBool,
    whole: Mutex<Option<Vec<u8>>>,
}

impl Watch {
    /// Whether the request may have reached the server.
    pub(super) fn was_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether a stream said `[DONE]`.
    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// The answer of a server that was asked for pieces and sent the whole.
    pub(super) fn take_whole(&self) -> Option<Vec<u8>> {
        self.lock().take()
    }

    fn keep_whole(&self, body: Vec<u8>) {
        *self.lock() = Some(body);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<u8>>> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server answered, but not with an answer.
#[derive(Debug, thiserror::Error)]
#[error("status {status}")]
pub(super) struct Rejected {
    /// The HTTP status.
    pub(super) status: StatusCode,
    /// The pause that it asks for.
    pub(super) retry_after_s: Option<f64>,
    /// The beginning of its body.
    pub(super) body: String,
}

/// What is wrong with an answer of status 200.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadAnswer {
    /// It is not JSON.
    #[error("not JSON")]
    NotJson {
        /// Its beginning.
        start: String,
    },
    /// It is JSON, with half of a character in it.
    #[error("half of a character")]
    HalfCharacter(serde_json::Error),
    /// It is longer than [`MAX_ANSWER`].
    #[error("too long")]
    TooLong,
}

/// The service that makes the request.
#[derive(Clone)]
pub(super) struct OneAttempt {
    client: reqwest::Client,
    stream: bool,
    watch: Arc<Watch>,
}

impl OneAttempt {
    /// For one call, asked in pieces or not: what it learns goes into `watch`.
    pub(super) fn new(client: reqwest::Client, stream: bool, watch: Arc<Watch>) -> Self {
        Self {
            client,
            stream,
            watch,
        }
    }

    async fn send(self, factory: HttpRequestFactory) -> Result<Response, OpenAIError> {
        let request = factory.build().await?;
        self.watch.sent.store(true, Ordering::Relaxed);
        let response = self.client.execute(request).await?;
        if !response.status().is_success() {
            return Err(OpenAIError::Boxed(Box::new(rejected(response).await?)));
        }
        let kind = response.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if self.stream && kind.contains("event-stream") {
            return Ok(watched(response, self.watch));
        }
        let body = whole(response).await?;
        if self.stream && body.starts_with(b"data:") {
            // Pieces under a wrong name.
            return Ok(watched(http::Response::new(body).into(), self.watch));
        }
        check(&body)?;
        if self.stream {
            self.watch.keep_whole(body.clone());
        }
        Ok(http::Response::new(body).into())
    }
}

impl tower::Service<HttpRequestFactory> for OneAttempt {
    type Response = Response;
    type Error = OpenAIError;
    type Future = Pin<Box<dyn Future<Output = Result<Response, OpenAIError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OpenAIError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, factory: HttpRequestFactory) -> Self::Future {
        Box::pin(self.clone().send(factory))
    }
}

async fn rejected(mut response: Response) -> Result<Rejected, OpenAIError> {
    let mut body = Vec::new();
    while body.len() < MAX_REFUSAL {
        // A refusal is one even where its body does not arrive.
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) | Err(_) => break,
        }
    }
    body.truncate(MAX_REFUSAL);
    Ok(Rejected {
        status: response.status(),
        retry_after_s: retry_after_s(response.headers()),
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

async fn whole(mut response: Response) -> Result<Vec<u8>, OpenAIError> {
    let mut body = Vec::with_capacity(response.content_length().unwrap_or(0).min(1 << 20) as usize);
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(OpenAIError::Boxed(Box::new(BadAnswer::TooLong)));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The library logs a body that it cannot read, so it is never given one.
fn check(body: &[u8]) -> Result<(), OpenAIError> {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).map_err(|_| not_json(body))?;
    if !has_surrogates(body) {
        return Ok(());
    }
    match serde_json::from_slice::<serde_json::Value>(body) {
        Err(error) if is_half_character(&error) => Err(OpenAIError::Boxed(Box::new(
            BadAnswer::HalfCharacter(error),
        ))),
        Err(_) => Err(not_json(body)),
        Ok(_) => Ok(()),
    }
}

/// Whether there are escapes of which two make a character: only those are looked at more closely.
fn has_surrogates(body: &[u8]) -> bool {
    body.windows(4).any(|sign| {
        matches!(
            sign,
            [
                b'\\',
                b'u',
                b'd' | b'D',
                b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F',
            ]
        )
    })
}

/// The library tells this fault by its words alone.
pub(super) fn is_half_character(error: &serde_json::Error) -> bool {
    error.to_string().contains("hex escape")
}

/// Bytes of an odd answer that are kept. More than are shown: secrets are taken out before it is cut,
/// so that none is cut in two and shown by half.
const START: usize = 4096;

fn not_json(body: &[u8]) -> OpenAIError {
    OpenAIError::Boxed(Box::new(BadAnswer::NotJson {
        start: String::from_utf8_lossy(&body[..body.len().min(START)]).into_owned(),
    }))
}

/// The same response, its body watched for the `[DONE]` that the library swallows.
fn watched(response: Response, watch: Arc<Watch>) -> Response {
    let mut tail: Vec<u8> = vec![b'\n'];
    let body = response.bytes_stream().inspect(move |chunk| {
        if let Ok(chunk) = chunk {
            tail.extend_from_slice(chunk);
            if says_done(&tail) {
                watch.done.store(true, Ordering::Relaxed);
            }
            let keep = tail.len().saturating_sub(DONE.len());
            tail.drain(..keep);
        }
    });
    http::Response::new(reqwest::Body::wrap_stream(body)).into()
}

const DONE: &[u8] = b"\ndata: [DONE]";

/// Whether a line says that the stream is over. Text inside an event cannot: its line breaks are
/// escaped.
fn says_done(text: &[u8]) -> bool {
    let has = |sign: &[u8]| text.windows(sign.len()).any(|window| window == sign);
    has(DONE) || has(b"\ndata:[DONE]")
}

/// The pause that a refusal asks for, in seconds: `retry-after-ms`, or `Retry-After` in seconds or
/// as a date, which is read against the server's own `Date`.
fn retry_after_s(headers: &HeaderMap) -> Option<f64> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |name| text(name)?.parse::<f64>().ok().filter(|n| n.is_finite());
    let date = |name| jiff::fmt::rfc2822::parse(text(name)?).ok();
    let until_date = || {
        let span =
            date("retry-after")?.timestamp().as_second() - date("date")?.timestamp().as_second();
        Some(span as f64)
    };
    number("retry-after-ms")
        .map(|ms| ms / 1000.0)
        .or_else(|| number("retry-after"))
        .or_else(until_date)
        .map(|seconds| seconds.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_is_read_in_each_of_its_forms() {
        type Case<'a> = (&'a [(&'a str, &'a str)], Option<f64>);
        let table: &[Case<'_>] = &[
            (&[], None),
            (&[("retry-after", "7")], Some(7.0)),
            (&[("retry-after", "1.5")], Some(1.5)),
            (
                &[("retry-after-ms", "250"), ("retry-after", "7")],
                Some(0.25),
            ),
            (&[("retry-after", "-3")], Some(0.0)),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "soon")], None),
            (
                &[
                    ("date", "Wed, 21 Oct 2015 07:28:00 GMT"),
                    ("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT"),
                ],
                Some(30.0),
            ),
            (&[("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT")], None),
        ];
        for (headers, expected) in table {
            let map = headers
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect();
            assert_eq!(retry_after_s(&map), *expected, "{headers:?}");
        }
    }

    #[test]
    fn only_a_line_of_its_own_ends_a_stream() {
        assert!(says_done(b"\ndata: [DONE]\n\n"));
        assert!(says_done(b"\ndata:[DONE]"));
        assert!(!says_done(br#"data: {"content":"\ndata: [DONE]"}"#));
    }
}
