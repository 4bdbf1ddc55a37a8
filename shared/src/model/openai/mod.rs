//! Any endpoint that speaks OpenAI's chat completions, in pieces or in one. Owns what is said to it
//! and how its answers and failures are read. Leaves out retries (one call here is one HTTP request,
//! the library's own retries are off), time-outs (the caller cancels), and the making of the HTTP
//! client, which is the egress gateway's. Built by the composition root, called by agents' actors.
//!
//! ```text
//!  Call ─ wire ─► async-openai (byot) ─► attempt (one request, no retry) ─► server
//!                                                                            │
//!  ModelReply ◄─ reply ◄──────── JSON, or pieces of it ◄── failure, where ───┘ it was none
//! ```
//! No secret of the configuration gets out of here, not even one that the server sends back.
//! Its types are our own (bring-your-own-types), because the library's typed ones refuse the answers
//! of lean servers.

mod attempt;
mod failure;
mod reply;
mod secrets;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use async_openai::config::Config;
use async_openai::error::OpenAIError;
use async_openai::traits::RequestOptionsBuilder;
use async_trait::async_trait;
use futures::StreamExt;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use self::attempt::{OneAttempt, Watch};
use self::failure::Reader;
use super::{Call, Model, ModelReply};
use crate::money::{Price, Usage};
use crate::run::Failure;

/// What is needed to talk to one model at one endpoint. Plain inputs: secrets are resolved and the
/// client is built by the caller.
#[derive(Clone, Debug)]
pub struct OpenaiConfig {
    /// The client; from the egress gateway.
    pub client: reqwest::Client,
    /// The endpoint up to and including the version: `https://api.openai.com/v1`. A query in it is
    /// sent with each request and shown nowhere.
    pub base_url: Url,
    /// The model's name at the provider.
    pub model: String,
    /// Sent as bearer token where there is one.
    pub api_key: Option<SecretString>,
    /// Further headers, for proxies and organisations. They win over the bearer token's.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether to ask for the answer in pieces while somebody watches.
    pub stream: bool,
    /// What its tokens cost.
    pub price: Price,
    /// Tokens that a request and its reply may have together.
    pub context_tokens: u32,
    /// Whether it can be shown pictures.
    pub vision: bool,
    /// The model's name in the config (`[models.LABEL]`); failures name it.
    pub label: String,
}

/// A key or header that cannot be sent as HTTP.
#[derive(Debug, thiserror::Error)]
#[error(
    "the api_key of [models.{label}] holds characters that no HTTP header may have; is there a line break in it?"
)]
pub struct BadKey {
    label: String,
}

/// A model behind an OpenAI-compatible endpoint.
pub struct OpenaiModel {
    config: OpenaiConfig,
    client: async_openai::Client<Arc<dyn Config>>,
    reader: Reader,
    dialect: wire::Dialect,
}

impl OpenaiModel {
    /// A model that is ready to be asked; nothing is sent yet.
    pub fn new(config: OpenaiConfig) -> Result<Self, BadKey> {
        let endpoint: Arc<dyn Config> = Arc::new(Endpoint::new(&config)?);
        Ok(Self {
            client: async_openai::Client::build(config.client.clone(), endpoint),
            reader: Reader::new(&config),
            dialect: wire::Dialect::of(&config.base_url),
            config,
        })
    }

    async fn attempt(&self, call: &Call<'_>, watch: &Arc<Watch>) -> Answer {
        let stream = self.config.stream && call.sink.is_watched();
        let body = wire::Body::new(
            &self.config.model,
            (call.request, call.blobs),
            self.dialect,
            stream,
        );
        let service = OneAttempt::new(self.config.client.clone(), stream, watch.clone());
        let client = self.client.clone().with_http_service(service);
        let chat = match client
            .chat()
            .header("idempotency-key", call.effect_key.to_string())
        {
            Ok(chat) => chat,
            Err(error) => return self.failed(error, watch),
        };
        if stream {
            match chat.create_stream_byot::<_, Value>(body).await {
                Ok(pieces) => self.assemble(pieces, call, watch).await,
                Err(error) => self.failed(error, watch),
            }
        } else {
            match chat.create_byot::<_, Value>(body).await {
                Ok(value) => self.read(value, call),
                Err(error) => self.failed(error, watch),
            }
        }
    }

    /// Puts a streamed answer together, passing its text on as it comes.
    async fn assemble(
        &self,
        mut pieces: async_openai::types::stream::StreamResponse<Value>,
        call: &Call<'_>,
        watch: &Watch,
    ) -> Answer {
        let mut assembly = reply::Assembly::default();
        let mut shown = secrets::Pieces::new(&self.reader.secrets);
        while let Some(piece) = pieces.next().await {
            let added = match piece {
                Ok(piece) => assembly.add(piece),
                // What follows the finish is only the usage.
                Err(_) if assembly.is_finished() => break,
                Err(error) => return self.failed(error, watch),
            };
            match added {
                Ok(Some(text)) => show(call, &shown.add(text)),
                Ok(None) => {}
                Err(reply::Unreadable::Error(body)) => return self.reader.in_band(&body),
                Err(reply::Unreadable::TooLong) => return self.reader.too_long(),
                Err(reply::Unreadable::Empty) => return self.reader.empty(None),
            }
        }
        show(call, &shown.rest());
        if let Some(whole) = watch.take_whole() {
            return match serde_json::from_slice(&whole) {
                Ok(value) => {
                    let answer = self.read(value, call);
                    if let (
                        Ok(ModelReply {
                            text: Some(text), ..
                        }),
                        _,
                    ) = &answer
                    {
                        call.sink.text(text);
                    }
                    answer
                }
                Err(error) => self.failed(OpenAIError::Boxed(error.into()), watch),
            };
        }
        if !assembly.is_finished() && !watch.is_done() {
            return self.reader.cut();
        }
        let (reply, usage) = assembly.finish(call.request);
        self.answer(reply, usage)
    }

    fn read(&self, value: Value, call: &Call<'_>) -> Answer {
        match reply::read(value, call.request) {
            Ok((reply, usage)) => self.answer(reply, usage),
            Err((reply::Unreadable::Error(body), _)) => self.reader.in_band(&body),
            Err((reply::Unreadable::TooLong, _)) => self.reader.too_long(),
            Err((reply::Unreadable::Empty, counts)) => self
                .reader
                .empty(counts.map(|counts| counts.cost(&self.config.price))),
        }
    }

    fn answer(&self, reply: ModelReply, counts: Option<reply::Counts>) -> Answer {
        (
            Ok(self.reader.secrets.taken_out_of(reply)),
            counts.map(|counts| counts.cost(&self.config.price)),
        )
    }

    fn failed(&self, error: OpenAIError, watch: &Watch) -> Answer {
        self.reader.read(error, watch.was_sent())
    }
}

fn show(call: &Call<'_>, text: &str) {
    if !text.is_empty() {
        call.sink.text(text);
    }
}

type Answer = (Result<ModelReply, Failure>, Option<Usage>);

#[async_trait]
impl Model for OpenaiModel {
    async fn ask(&self, call: Call<'_>) -> Answer {
        let watch = Arc::new(Watch::default());
        tokio::select! {
            biased;
            () = call.cancel.cancelled() => self.reader.cancelled(watch.was_sent()),
            answer = self.attempt(&call, &watch) => answer,
        }
    }

    fn price(&self) -> Price {
        self.config.price
    }

    fn context_tokens(&self) -> u32 {
        self.config.context_tokens
    }

    fn sees(&self) -> bool {
        self.config.vision
    }

    fn describe(&self) -> String {
        let scheme = self.config.base_url.scheme();
        format!(
            "{} at {scheme}://{}",
            self.config.model,
            host(&self.config.base_url)
        )
    }
}

/// Host and port, without user, path and query: what may be shown of an address.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Where requests go and what they carry. Our own, because the library's config reads organisation
/// and project from the environment.
struct Endpoint {
    base: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    no_key: SecretString,
}

impl Endpoint {
    fn new(config: &OpenaiConfig) -> Result<Self, BadKey> {
        let mut headers = HeaderMap::new();
        if let Some(key) = &config.api_key {
            let bearer = format!("Bearer {}", key.expose_secret());
            let mut value = HeaderValue::try_from(bearer).map_err(|_| BadKey {
                label: config.label.clone(),
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        for (name, value) in &config.headers {
            headers.insert(name, value.clone());
        }
        let mut base = config.base_url.clone();
        let query = base.query_pairs().into_owned().collect();
        base.set_query(None);
        base.set_fragment(None);
        Ok(Self {
            base: base.as_str().trim_end_matches('/').to_owned(),
            query,
            headers,
            no_key: SecretString::default(),
        })
    }
}

impl Config for Endpoint {
    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn query(&self) -> Vec<(&str, &str)> {
        self.query
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect()
    }

    fn api_base(&self) -> &str {
        &self.base
    }

    fn api_key(&self) -> &SecretString {
        &self.no_key
    }
}
