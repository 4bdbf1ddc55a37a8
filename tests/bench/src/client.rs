//! One keep-alive HTTP connection. Deliberately thin: what the driver spends, the measured program
//! cannot have.

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// A connection to one host, opened at the first call and again after a failure.
pub struct Client {
    host: String,
    token: Option<String>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// `host` is `address:port`.
    pub fn new(host: &str, token: Option<&str>) -> Self {
        Self {
            host: host.to_owned(),
            token: token.map(str::to_owned),
            sender: None,
        }
    }

    /// The reply's status and body; a body that is no JSON is `Null`.
    pub async fn get(&mut self, path: &str) -> Result<(u16, Value)> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    /// As `get`, with a JSON body.
    pub async fn post(&mut self, path: &str, body: &Value) -> Result<(u16, Value)> {
        self.call(Method::POST, path, body.to_string().into()).await
    }

    async fn call(&mut self, method: Method, path: &str, body: Bytes) -> Result<(u16, Value)> {
        let reply = self.exchange(method, path, body).await;
        if reply.is_err() {
            self.sender = None;
        }
        reply
    }

    async fn exchange(&mut self, method: Method, path: &str, body: Bytes) -> Result<(u16, Value)> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::new(body))?;
        let sender = self.connected().await?;
        sender.ready().await?;
        let reply = sender.send_request(request).await?;
        let status = reply.status().as_u16();
        let body = reply.into_body().collect().await?.to_bytes();
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    async fn connected(&mut self) -> Result<&mut SendRequest<Full<Bytes>>> {
        if self.sender.as_ref().is_none_or(SendRequest::is_closed) {
            let stream = TcpStream::connect(&self.host)
                .await
                .with_context(|| format!("connect to {}", self.host))?;
            stream.set_nodelay(true)?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        self.sender.as_mut().context("no connection")
    }
}
