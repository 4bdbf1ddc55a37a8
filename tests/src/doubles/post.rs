//! One HTTP request out, over a connection of its own: how the doubles deliver webhooks.
//!
//! No pool and no retries, so that a test sees exactly the deliveries that the double decided on.
//! Plain `http://` only: the client under test listens on loopback.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How much of an answer is read.
const ANSWER_LIMIT: usize = 1 << 20;

/// A request to send.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Where to, `http://host:port/path`.
    pub url: String,
    /// Headers besides `Host` and `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The body, signed byte by byte where the service signs.
    pub body: Bytes,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, up to a limit.
    pub body: Bytes,
}

/// Posts and waits for the whole answer, `patience` in all.
pub async fn post(outgoing: Outgoing, patience: Duration) -> Result<Answer, String> {
    tokio::time::timeout(patience, send(outgoing))
        .await
        .unwrap_or_else(|_| Err("timeout".to_owned()))
}

async fn send(outgoing: Outgoing) -> Result<Answer, String> {
    let uri: Uri = outgoing.url.parse().map_err(|e| format!("url: {e}"))?;
    if uri.scheme_str() != Some("http") {
        return Err(format!("url: only http, not {}", outgoing.url));
    }
    let host = uri.host().ok_or("url: no host")?;
    let port = uri.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|e| format!("connect: {e}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| format!("handshake: {e}"))?;
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, format!("{host}:{port}"));
    for (name, value) in &outgoing.headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Body::from(outgoing.body))
        .map_err(|e| format!("request: {e}"))?;
    // Both ends in this one future: dropped on a timeout, it takes the connection with it.
    let exchange = async move {
        let response = sender.send_request(request).await;
        let (parts, body) = response.map_err(|e| format!("closed: {e}"))?.into_parts();
        let body = Limited::new(body, ANSWER_LIMIT).collect().await;
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.map_err(|e| format!("body: {e}"))?.to_bytes(),
        })
    };
    let (_, answer) = futures::join!(connection, exchange);
    answer
}
