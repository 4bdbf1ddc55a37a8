//! `web_search`: the web's answer to a question, by the provider that the configuration names. The
//! set of providers is known, so it is an enum; each is asked through a client that reaches its
//! host only. The provider's key goes into the request here and is in nothing that comes back.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use shared::config::{SearchDepth, SearchSettings};
use shared::egress::{ClientError, Gateway, Trusted, failure};
use shared::label::Taint;
use shared::money::{Usage, Usd};
use shared::run::{Effect, Evidence, Failure, FailureKind, Report};

use super::{Outbound, Tool, ToolCall, ToolInfo, arguments, blocking, text};

/// Seconds for one search.
const TIMEOUT_S: u32 = 20;
/// Bytes of a provider's reply; 20 results with snippets are far shorter.
const MAX_REPLY: usize = 1 << 20;
/// Bytes of one result's snippet that are kept.
const SNIPPET: usize = 1500;
/// The most results of one search, as the configuration's schema says.
const MAX_RESULTS: u8 = 20;

/// The tool.
pub struct WebSearch {
    info: ToolInfo,
    provider: SearchProvider,
    max_results: u8,
}

/// Those who can be asked.
enum SearchProvider {
    Tavily(Tavily),
}

struct Tavily {
    client: Trusted,
    key: SecretString,
    depth: SearchDepth,
    answer: bool,
}

#[derive(Deserialize)]
struct Args {
    query: String,
    max_results: Option<u8>,
}

/// What a provider found.
struct Found {
    answer: Option<String>,
    results: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(default)]
    title: String,
    url: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    score: Option<f64>,
}

impl WebSearch {
    /// The tool, with its provider's key. Fails when no HTTP client can be built.
    pub fn new(
        settings: &SearchSettings,
        key: SecretString,
        gateway: &Gateway,
    ) -> Result<Self, ClientError> {
        let SearchSettings::Tavily {
            base_url,
            max_results,
            depth,
            answer,
            usd_per_search,
            ..
        } = settings;
        let tavily = Tavily {
            client: gateway.trusted(base_url, false)?,
            key,
            depth: *depth,
            answer: *answer,
        };
        Ok(Self {
            info: info(*max_results, Usd::from_dollars(*usd_per_search)),
            provider: SearchProvider::Tavily(tavily),
            max_results: *max_results,
        })
    }

    async fn search(&self, call: &ToolCall<'_>) -> Result<Found, Failure> {
        let args: Args = arguments(call.args)?;
        let most = args
            .max_results
            .unwrap_or(self.max_results)
            .clamp(1, self.max_results.clamp(1, MAX_RESULTS));
        let SearchProvider::Tavily(tavily) = &self.provider;
        tokio::select! {
            () = call.cancel.cancelled() => Err(blocking::cancelled()),
            found = tavily.search(&args.query, most) => found,
        }
    }
}

fn info(max_results: u8, price: Usd) -> ToolInfo {
    let parameters = json!({
        "type": "object",
        "properties": {
            "query": {
                "type": "string", "minLength": 1, "maxLength": 400,
                "description": "What to look for, in words or as a question; at most 400 characters."
            },
            "max_results": {
                "type": "integer", "minimum": 1, "maximum": MAX_RESULTS,
                "description": format!("How many pages to return; {max_results} if left out, which is also the most.")
            }
        },
        "required": ["query"],
        "additionalProperties": false
    });
    ToolInfo {
        name: "web_search".into(),
        version: 1,
        description: "Use this when the answer is on the public web, is recent, or is not in the user's own material. Returns \
            found pages with title, address, a snippet and a score, sometimes a short answer. Read a page with fetch_page \
            before you rely on it."
            .into(),
        parameters: Arc::new(parameters),
        effect: Effect::Pure,
        outbound: Outbound::default(),
        timeout_s: TIMEOUT_S + 5,
        price,
    }
}

#[async_trait]
impl Tool for WebSearch {
    fn info(&self) -> &ToolInfo {
        &self.info
    }

    async fn call(&self, call: ToolCall<'_>) -> Report {
        match self.search(&call).await {
            Ok(found) => Report {
                result: Ok(answer(found)),
                usage: Some(Usage {
                    usd: self.info.price,
                    ..Usage::default()
                }),
                taint: Taint::WEB,
                evidence: vec![Evidence {
                    kind: "http_status".into(),
                    value: "200".into(),
                }],
                blobs: Vec::new(),
            },
            // Failed calls that the provider answered are not charged; one that got no answer may
            // have been.
            Err(failure) => Report {
                usage: (!failure.may_have_happened).then(Usage::default),
                ..Report::failed(failure)
            },
        }
    }
}

impl Tavily {
    /// One search: `POST {base}/search` as Tavily's API reference describes it.
    async fn search(&self, query: &str, most: u8) -> Result<Found, Failure> {
        let body = json!({
            "query": query,
            "max_results": most,
            "search_depth": self.depth,
            "include_answer": self.answer,
        });
        let lost = |error| failure::transport("search provider", error);
        let request = self
            .client
            .client()
            .post(self.client.url("search"))
            .bearer_auth(self.key.expose_secret())
            .timeout(Duration::from_secs(TIMEOUT_S.into()))
            .json(&body);
        let mut response = request.send().await.map_err(lost)?;
        if !response.status().is_success() {
            return Err(refusal(
                failure::status("search provider", response.status(), response.headers()),
                response.status().as_u16(),
            ));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_REPLY {
                return Err(unreadable("is too long"));
            }
        }
        understand(&bytes, most)
    }
}

/// Says to people what they can do about a status that no repetition mends.
fn refusal(mut failure: Failure, status: u16) -> Failure {
    let hint = match status {
        401 | 403 => "; the key in [search] api_key is not accepted",
        404 => "; [search] base_url is not a search API",
        // Tavily's own codes for a plan's and an account's limit.
        432 | 433 => "; the plan's limit of the key in [search] is used up",
        _ => "",
    };
    failure.message.push_str(hint);
    failure
}

fn understand(bytes: &[u8], most: u8) -> Result<Found, Failure> {
    let reply: Value = serde_json::from_slice(bytes).map_err(|_| unreadable("is not JSON"))?;
    let results = reply["results"]
        .as_array()
        .ok_or_else(|| unreadable("has no results"))?;
    // A single result that cannot be read is no reason to lose the others.
    let results = results
        .iter()
        .filter_map(|hit| Hit::deserialize(hit).ok())
        .take(most.into());
    let answer = reply["answer"].as_str().filter(|answer| !answer.is_empty());
    Ok(Found {
        answer: answer.map(str::to_owned),
        results: results.collect(),
    })
}

fn unreadable(why: &str) -> Failure {
    Failure::new(
        FailureKind::Transient,
        format!("search provider: its reply {why}"),
    )
    .may_have_happened()
}

fn answer(found: Found) -> Value {
    let results: Vec<_> = found
        .results
        .iter()
        .map(|hit| {
            json!({
                "title": text::head(&hit.title, 300),
                "url": hit.url,
                "snippet": text::head(&hit.content, SNIPPET),
                "score": hit.score,
            })
        })
        .collect();
    let mut value = json!({"results": results});
    if let Some(answer) = found.answer {
        value["answer"] = answer.into();
    }
    if results.is_empty() {
        value["notes"] = json!(["nothing was found; try other words"]);
    }
    value
}

#[cfg(test)]
mod tests {
    use shared::config::EgressSettings;
    use wiremock::matchers::{body_json, header, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;
    use crate::tools::testing::{authority, call};

    fn tool(base_url: &str) -> WebSearch {
        let settings = serde_json::from_value(json!({
            "provider": "tavily", "api_key": "${KEY}", "base_url": base_url, "max_results": 3,
            "depth": "advanced", "answer": true, "usd_per_search": 0.008,
        }));
        let gateway = Gateway::new(&EgressSettings::default()).unwrap();
        WebSearch::new(&settings.unwrap(), SecretString::from("canary"), &gateway).unwrap()
    }

    #[tokio::test]
    async fn a_search_is_asked_as_tavily_wants_it_and_paid() {
        let server = MockServer::start().await;
        let reply = json!({
            "query": "q", "answer": "Short.", "images": [],
            "results": [
                {"title": "A", "url": "https://a.example/", "content": "about a", "score": 0.9, "raw_content": null},
                {"title": "broken"},
                {"url": "https://b.example/"},
            ],
        });
        Mock::given(method("POST"))
            .and(path("/v1/search"))
            .and(header("authorization", "Bearer canary"))
            .and(body_json(json!({"query": "q", "max_results": 2, "search_depth": "advanced", "include_answer": true})))
            .respond_with(ResponseTemplate::new(200).set_body_json(reply))
            .expect(1)
            .mount(&server)
            .await;
        let tool = tool(&format!("{}/v1/", server.uri()));
        let report = call(
            &tool,
            &authority(None, None),
            json!({"query": "q", "max_results": 2}),
        )
        .await;
        let expected = json!({
            "answer": "Short.",
            "results": [
                {"title": "A", "url": "https://a.example/", "snippet": "about a", "score": 0.9},
                {"title": "", "url": "https://b.example/", "snippet": "", "score": null},
            ],
        });
        assert_eq!(report.result.unwrap(), expected);
        assert_eq!(
            (report.usage.unwrap().usd, report.taint),
            (Usd::from_dollars(0.008), Taint::WEB)
        );
        assert_eq!(tool.info().price, Usd::from_dollars(0.008));
    }

    #[tokio::test]
    async fn failures_are_told_apart_and_never_name_the_key() {
        let html = ResponseTemplate::new(200).set_body_string("<html>");
        let table = [
            (
                ResponseTemplate::new(429).insert_header("retry-after", "4"),
                FailureKind::Transient,
                "429",
            ),
            (ResponseTemplate::new(503), FailureKind::Transient, "503"),
            (
                ResponseTemplate::new(401).set_body_string("canary"),
                FailureKind::Permanent,
                "api_key",
            ),
            (ResponseTemplate::new(432), FailureKind::Permanent, "plan"),
            (html, FailureKind::Transient, "not JSON"),
        ];
        for (answer, kind, word) in table {
            let server = MockServer::start().await;
            Mock::given(path("/search"))
                .respond_with(answer)
                .expect(1)
                .mount(&server)
                .await;
            let failure = call(
                &tool(&server.uri()),
                &authority(None, None),
                json!({"query": "q"}),
            )
            .await
            .result
            .unwrap_err();
            assert_eq!(failure.kind, kind, "{failure}");
            assert!(
                failure.message.contains(word) && !failure.message.contains("canary"),
                "{failure}"
            );
        }
        let gone = MockServer::start().await.uri();
        let failure = call(&tool(&gone), &authority(None, None), json!({"query": "q"}))
            .await
            .result
            .unwrap_err();
        assert!(!format!("{failure:?}").contains("canary"), "{failure}");
    }
}
