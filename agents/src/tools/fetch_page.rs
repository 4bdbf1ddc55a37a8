//! `fetch_page`: one public page as Markdown, through the egress gateway. Which addresses may be
//! reached, size and time are the gateway's matter; finding the article in the page is `html`'s.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use shared::egress::{FetchRequest, Fetched, Gateway};
use shared::label::Taint;
use shared::money::{Usage, Usd};
use shared::run::{Effect, Evidence, Failure, FailureKind, Report};

use super::{Outbound, Tool, ToolCall, ToolInfo, arguments, blocking, html, text};

/// Bytes of text in one answer: about 6,000 tokens.
const MAX_ANSWER: usize = 24 << 10;
/// Bytes of a page; what is written for people is shorter.
const MAX_PAGE: usize = 2 << 20;
/// Seconds for all of one page, its redirects included.
const TIMEOUT_S: u32 = 30;
/// What is asked for; servers that can choose send text.
const ACCEPT: &str =
    "text/html, text/markdown;q=0.9, text/plain;q=0.9, application/json;q=0.9, */*;q=0.5";

/// The tool.
pub struct FetchPage {
    info: ToolInfo,
    gateway: Gateway,
}

#[derive(Deserialize)]
struct Args {
    url: String,
    #[serde(default)]
    from_char: usize,
}

impl FetchPage {
    /// The tool, over this gateway.
    pub fn new(gateway: Gateway) -> Self {
        let parameters = json!({
            "type": "object",
            "properties": {
                "url": {
                    "type": "string", "minLength": 1, "maxLength": 4096,
                    "description": "The page's whole address, beginning with https:// or http://."
                },
                "from_char": {
                    "type": "integer", "minimum": 0,
                    "description": "Where to read on in a long page, as the last answer said; 0 if left out."
                }
            },
            "required": ["url"],
            "additionalProperties": false
        });
        let info = ToolInfo {
            name: "fetch_page".into(),
            version: 1,
            description: "Use this to read a web page whose address the user gave or a search returned. Returns the page's \
                title, its final address and its text as Markdown (JSON and plain text as they are), at most 24 KiB at once. \
                It reaches public addresses only and cannot log in or run scripts."
                .into(),
            parameters: Arc::new(parameters),
            effect: Effect::Pure,
            outbound: Outbound::Address("url".into()),
            timeout_s: TIMEOUT_S + 5,
            price: Usd::ZERO,
        };
        Self { info, gateway }
    }
}

#[async_trait]
impl Tool for FetchPage {
    fn info(&self) -> &ToolInfo {
        &self.info
    }

    async fn call(&self, call: ToolCall<'_>) -> Report {
        self.fetch(call).await.unwrap_or_else(Report::failed)
    }
}

impl FetchPage {
    async fn fetch(&self, call: ToolCall<'_>) -> Result<Report, Failure> {
        let args: Args = arguments(call.args)?;
        let request = FetchRequest {
            url: parse(&args.url)?,
            max_bytes: MAX_PAGE,
            timeout: Duration::from_secs(TIMEOUT_S.into()),
            accept: ACCEPT,
        };
        let fetched = tokio::select! {
            () = call.cancel.cancelled() => return Err(blocking::cancelled()),
            fetched = self.gateway.fetch(request) => fetched?,
        };
        let status = fetched.status;
        let value = blocking::run(call.cancel, move |_| page(fetched, args.from_char)).await?;
        Ok(Report {
            result: Ok(value),
            usage: Some(Usage::default()),
            taint: Taint::WEB,
            evidence: vec![Evidence {
                kind: "http_status".into(),
                value: status.to_string(),
            }],
            blobs: Vec::new(),
        })
    }
}

fn parse(given: &str) -> Result<Url, Failure> {
    Url::parse(given.trim()).map_err(|error| {
        let message = format!("url {:?} is no address ({error}); write it whole, such as \"https://example.com/page\"", text::head(given, 200));
        Failure::new(FailureKind::Refused, message)
    })
}

fn page(fetched: Fetched, from: usize) -> Result<Value, Failure> {
    let url = fetched.final_url.to_string();
    let content_type = fetched.content_type.clone().unwrap_or_default();
    let (title, whole) = readable(&fetched, &url, &content_type)?;
    let total = whole.chars().count();
    if from > total {
        let message =
            format!("the page has {total} characters; from_char {from} is beyond its end");
        return Err(Failure::new(FailureKind::Refused, message));
    }
    let start = whole
        .char_indices()
        .nth(from)
        .map_or(whole.len(), |(at, _)| at);
    let part = text::head(&whole[start..], MAX_ANSWER);
    let mut notes = Vec::new();
    if start + part.len() < whole.len() {
        notes.push(format!(
            "more follows: read on with from_char {}",
            from + part.chars().count()
        ));
    }
    if fetched.truncated {
        notes.push(format!(
            "only the first {} MiB of the page were read",
            MAX_PAGE >> 20
        ));
    }
    Ok(json!({
        "url": url,
        "title": title,
        "content_type": content_type,
        "text": part,
        "total_chars": total,
        "notes": notes,
    }))
}

fn readable(fetched: &Fetched, url: &str, content_type: &str) -> Result<(String, String), Failure> {
    let kind = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let refusal = |what: &str| {
        let message = format!(
            "{} is {what}, which this tool cannot read; look for the same as a web page",
            fetched.final_url.path()
        );
        Failure::new(FailureKind::Refused, message)
    };
    let plain = kind.starts_with("text/")
        || kind.is_empty()
        || ["json", "xml", "yaml", "javascript"]
            .iter()
            .any(|known| kind.ends_with(known));
    let page = matches!(kind.as_str(), "text/html" | "application/xhtml+xml");
    if !plain && !page {
        return Err(refusal(&format!("of type {kind}")));
    }
    let text = text::decode(fetched.body.clone()).ok_or_else(|| refusal("no text"))?;
    // A server that does not say what it sends most often sends HTML.
    if page || (kind.is_empty() && text.trim_start().starts_with('<')) {
        let found = html::article(&text, url);
        Ok((found.title, found.text))
    } else {
        Ok((String::new(), text))
    }
}

#[cfg(test)]
mod tests {
    use shared::config::EgressSettings;
    use wiremock::matchers::path;
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;
    use crate::tools::testing::{authority, call, refused};

    async fn server(answers: &[(&str, &str, &str)]) -> (MockServer, FetchPage) {
        let server = MockServer::start().await;
        for (at, content_type, body) in answers {
            let answer = ResponseTemplate::new(200).set_body_raw(*body, content_type);
            Mock::given(path(*at))
                .respond_with(answer)
                .mount(&server)
                .await;
        }
        let allow_private = vec![server.address().to_string()];
        let gateway = Gateway::new(&EgressSettings { allow_private }).unwrap();
        (server, FetchPage::new(gateway))
    }

    #[tokio::test]
    async fn a_page_comes_as_markdown_and_text_as_it_is() {
        let html = "<html><head><title>The Title</title></head><body><h1>Head</h1><p>Some <b>text</b>.</p></body></html>";
        let (server, tool) = server(&[
            ("/page", "text/html; charset=utf-8", html),
            ("/data", "application/json", "{\"a\": 1}"),
            ("/bare", "", html),
            ("/pdf", "application/pdf", "%PDF"),
            ("/nul", "text/plain", "a\0b"),
        ])
        .await;
        let authority = authority(None, None);
        let get = async |path: &str| {
            call(
                &tool,
                &authority,
                json!({"url": format!("{}{path}", server.uri())}),
            )
            .await
        };
        let report = get("/page").await;
        assert_eq!(
            (report.taint, report.evidence[0].value.as_str()),
            (Taint::WEB, "200")
        );
        let value = report.result.unwrap();
        assert_eq!(value["title"], "The Title");
        assert!(
            value["text"].as_str().unwrap().contains("Some **text**"),
            "{value}"
        );
        assert_eq!(get("/data").await.result.unwrap()["text"], "{\"a\": 1}");
        assert_eq!(get("/bare").await.result.unwrap()["title"], "The Title");
        for (path, why) in [("/pdf", "application/pdf"), ("/nul", "no text")] {
            let failure = get(path).await.result.unwrap_err();
            assert!(
                failure.kind == FailureKind::Refused && failure.message.contains(why),
                "{failure}"
            );
        }
    }

    #[tokio::test]
    async fn a_long_page_is_read_in_parts_that_add_up() {
        let long: String = (0..9000).map(|n| format!("é{n} ")).collect();
        let (server, tool) = server(&[("/long", "text/plain", &long)]).await;
        let (mut read, mut from) = (String::new(), 0);
        loop {
            let args = json!({"url": format!("{}/long", server.uri()), "from_char": from});
            let value = call(&tool, &authority(None, None), args)
                .await
                .result
                .unwrap();
            read.push_str(value["text"].as_str().unwrap());
            from = read.chars().count();
            if value["notes"] == json!([]) {
                break;
            }
            assert!(
                value["notes"][0]
                    .as_str()
                    .unwrap()
                    .ends_with(&from.to_string()),
                "{value}"
            );
        }
        assert_eq!(read, long);
        let beyond = json!({"url": format!("{}/long", server.uri()), "from_char": from + 1});
        assert!(
            refused(&tool, &authority(None, None), beyond)
                .await
                .contains("beyond")
        );
    }

    #[tokio::test]
    async fn forbidden_addresses_are_refused() {
        let (_server, tool) = server(&[]).await;
        for url in [
            "http://169.254.169.254/",
            "file:///etc/passwd",
            "example.com",
            "http://u:p@example.com/",
            "http://localhost/",
        ] {
            refused(&tool, &authority(None, None), json!({"url": url})).await;
        }
    }
}
