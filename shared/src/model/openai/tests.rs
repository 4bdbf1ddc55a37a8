//! What is sent and how answers are read, against real sockets.

use std::io::{Read, Write};

use serde_json::json;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::event::{Live, Sink};
use crate::hash::Hash;
use crate::id::{RunId, TaskId};
use crate::model::{Finish, Message, ModelRequest, OutputSchema, ToolCall, ToolDef};
use crate::run::{EffectKey, FailureKind};

const KEY: &str = "sk-canary-0123456789";

#[expect(
    clippy::disallowed_methods,
    reason = "the adapter is tested without the gateway"
)]
fn config(base_url: &str) -> OpenaiConfig {
    let _ = rustls::crypto::ring::default_provider().install_default();
    OpenaiConfig {
        client: reqwest::Client::new(),
        base_url: base_url.parse().unwrap(),
        model: "tiny".into(),
        api_key: Some(KEY.into()),
        headers: Vec::new(),
        stream: true,
        price: Price {
            input: 1.0,
            cached_input: Some(0.5),
            output: 2.0,
        },
        context_tokens: 8192,
        vision: true,
        label: "default".into(),
    }
}

fn request() -> ModelRequest {
    ModelRequest {
        messages: vec![
            Message::System {
                text: "be brief".into(),
            },
            Message::user("hello"),
        ],
        tools: Vec::new(),
        output: None,
        max_tokens: 64,
    }
}

fn tool() -> ToolDef {
    ToolDef {
        name: "search_files".into(),
        description: "finds text".into(),
        parameters: Arc::new(
            json!({"type": "object", "properties": {"query": {"type": "string"}}}),
        ),
    }
}

/// A conversation with one server; dropped with it.
struct Talk {
    server: MockServer,
    live: broadcast::Receiver<Live>,
    sink: Sink,
}

impl Talk {
    async fn with(response: ResponseTemplate) -> Self {
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .and(path("/v1/chat/completions"))
            .respond_with(response)
            .mount(&server)
            .await;
        let (channel, live) = broadcast::channel(64);
        let ids = (TaskId::fresh(), RunId::fresh());
        let sink = Sink::new(channel, ids, "think/1".into(), 1);
        Self { server, live, sink }
    }

    fn config(&self) -> OpenaiConfig {
        config(&format!("{}/v1", self.server.uri()))
    }

    async fn ask(&self, request: &ModelRequest) -> Answer {
        ask(self.config(), request, &Sink::closed()).await
    }

    /// Asks while somebody watches, and tells what was seen.
    async fn watch(&mut self, request: &ModelRequest) -> (Answer, String) {
        let answer = ask(self.config(), request, &self.sink).await;
        let mut seen = String::new();
        while let Ok(Live::Delta { text, .. }) = self.live.try_recv() {
            seen.push_str(&text);
        }
        (answer, seen)
    }

    async fn bodies(&self) -> Vec<Value> {
        let requests = self.server.received_requests().await.unwrap();
        requests
            .iter()
            .map(|request| request.body_json().unwrap())
            .collect()
    }
}

async fn ask(config: OpenaiConfig, request: &ModelRequest, sink: &Sink) -> Answer {
    let model = OpenaiModel::new(config).unwrap();
    let cancel = CancellationToken::new();
    model.ask(call(request, &cancel, sink)).await
}

fn call<'a>(request: &'a ModelRequest, cancel: &'a CancellationToken, sink: &'a Sink) -> Call<'a> {
    Call {
        request,
        blobs: &[],
        effect_key: EffectKey(Hash::of_bytes(b"effect")),
        cancel,
        sink,
    }
}

fn ok(body: Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

fn events(lines: &[&str]) -> ResponseTemplate {
    let body: String = lines
        .iter()
        .map(|line| format!("data: {line}\n\n"))
        .collect();
    ResponseTemplate::new(200).set_body_raw(body, "text/event-stream")
}

fn text(text: &str) -> Value {
    json!({"choices": [{"message": {"content": text}}]})
}

fn failure(answer: Answer) -> (Failure, Option<Usage>) {
    (answer.0.unwrap_err(), answer.1)
}

#[tokio::test]
async fn a_whole_conversation_is_sent_in_the_words_of_the_api() {
    let talk = Talk::with(ok(text("hi"))).await;
    let mut request = request();
    request.tools = vec![tool()];
    request.output = Some(OutputSchema {
        name: "plan".into(),
        schema: Arc::new(json!({"type": "object"})),
    });
    let call = |id: &str, arguments: &str| ToolCall {
        id: id.into(),
        name: "search_files".into(),
        arguments: arguments.into(),
    };
    request.messages.extend([
        Message::Assistant {
            text: None,
            calls: vec![call("a", r#"{"query":"x"}"#), call("b", "{\"quer")],
        },
        Message::Tool {
            call: "a".into(),
            text: "found".into(),
        },
        Message::Tool {
            call: "b".into(),
            text: "bad arguments".into(),
        },
    ]);
    let mut config = talk.config();
    config.headers = vec![("x-team".parse().unwrap(), "blue".parse().unwrap())];
    config.base_url.set_query(Some("api-version=1"));
    ask(config, &request, &Sink::closed()).await.0.unwrap();

    let sent = &talk.server.received_requests().await.unwrap()[0];
    let header = |name: &str| sent.headers[name].to_str().unwrap();
    assert_eq!(header("authorization"), format!("Bearer {KEY}"));
    assert_eq!(header("x-team"), "blue");
    assert_eq!(
        header("idempotency-key"),
        Hash::of_bytes(b"effect").to_string()
    );
    assert_eq!(sent.url.query(), Some("api-version=1"));
    let wire_call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "search_files", "arguments": arguments}});
    assert_eq!(
        sent.body_json::<Value>().unwrap(),
        json!({
            "model": "tiny",
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "hello"},
                {"role": "assistant", "content": null, "tool_calls": [
                    wire_call("a", r#"{"query":"x"}"#),
                    wire_call("b", r#"{"malformed":"{\"quer"}"#),
                ]},
                {"role": "tool", "content": "found", "tool_call_id": "a"},
                {"role": "tool", "content": "bad arguments", "tool_call_id": "b"},
            ],
            "tools": [{"type": "function", "function": {
                "name": "search_files", "description": "finds text",
                "parameters": {"type": "object", "properties": {"query": {"type": "string"}}},
            }}],
            "response_format": {"type": "json_schema", "json_schema": {
                "name": "plan", "schema": {"type": "object"},
            }},
            "max_tokens": 64,
        })
    );
}

#[test]
fn openai_itself_is_told_the_limit_in_its_newer_word() {
    let body = |url: &str| {
        let dialect = wire::Dialect::of(&url.parse().unwrap());
        serde_json::to_value(wire::Body::new("m", (&request(), &[]), dialect, true)).unwrap()
    };
    let openai = body("https://api.openai.com/v1");
    assert_eq!(
        (&openai["max_completion_tokens"], openai.get("max_tokens")),
        (&json!(64), None)
    );
    assert_eq!(openai["stream_options"], json!({"include_usage": true}));
    let other = body("http://127.0.0.1:8080/v1");
    assert_eq!(
        (&other["max_tokens"], other.get("max_completion_tokens")),
        (&json!(64), None)
    );
}

#[tokio::test]
async fn lean_answers_are_understood() {
    let full = json!({
        "id": "x", "created": 1, "model": "tiny-2026",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110,
                  "prompt_tokens_details": {"cached_tokens": 40},
                  "completion_tokens_details": {"reasoning_tokens": 4}},
    });
    let (reply, usage) = Talk::with(ok(full)).await.ask(&request()).await;
    let reply = reply.unwrap();
    assert_eq!(
        (reply.text.as_deref(), reply.model.as_str()),
        (Some("hi"), "tiny-2026")
    );
    let usage = usage.unwrap();
    assert_eq!(
        (usage.tokens_in, usage.tokens_cached, usage.tokens_out),
        (100, 40, 10)
    );
    assert_eq!(usage.usd.nano(), 60_000 + 20_000 + 20_000);

    let table = [
        (text("hi"), Some("hi"), Finish::Stop, None),
        (
            json!({"choices": [{"message": {"content": [{"type": "text", "text": "h"}, {"text": "i"}]}, "finish_reason": null}], "usage": null}),
            Some("hi"),
            Finish::Stop,
            None,
        ),
        (
            json!({"choices": [{"message": {"content": null}, "finish_reason": "length"}], "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 16}}),
            None,
            Finish::Length,
            Some((5, 11)),
        ),
        (
            json!({"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}], "usage": {"prompt_tokens": 0, "completion_tokens": 0}}),
            None,
            Finish::Filtered,
            None,
        ),
        (
            json!({"choices": [{"message": {"refusal": "no"}}], "usage": {"input_tokens": 5, "output_tokens": 2}}),
            Some("no"),
            Finish::Filtered,
            Some((5, 2)),
        ),
    ];
    for (body, text, finish, tokens) in table {
        let (reply, usage) = Talk::with(ok(body.clone())).await.ask(&request()).await;
        let reply = reply.unwrap();
        assert_eq!(
            (reply.text.as_deref(), reply.finish),
            (text, finish),
            "{body}"
        );
        assert_eq!(usage.map(|u| (u.tokens_in, u.tokens_out)), tokens, "{body}");
    }
}

/// Reasoning is output, and cached input is input, whichever way a provider writes it down; once each.
#[tokio::test]
async fn reasoning_and_cached_tokens_are_counted_once() {
    let details = |reasoning: u64| json!({ "reasoning_tokens": reasoning });
    let table = [
        // As OpenAI has it: the reasoning is part of the output.
        (
            json!({"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
                   "prompt_tokens_details": {"cached_tokens": 40}, "completion_tokens_details": details(30)}),
            (100, 40, 50),
        ),
        // Beside the output, and in the total alone.
        (
            json!({"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 180,
                   "completion_tokens_details": details(30)}),
            (100, 0, 80),
        ),
        // Beside the output, without a total, or one that forgets it.
        (
            json!({"prompt_tokens": 100, "completion_tokens": 5, "completion_tokens_details": details(30)}),
            (100, 0, 35),
        ),
        (
            json!({"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105,
                   "completion_tokens_details": details(30)}),
            (100, 0, 35),
        ),
        // In the words of another interface of the same provider.
        (
            json!({"input_tokens": 100, "output_tokens": 50, "input_tokens_details": {"cached_tokens": 90},
                   "output_tokens_details": details(50)}),
            (100, 90, 50),
        ),
        // More from the cache than was sent is no more than was sent.
        (
            json!({"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 99}),
            (10, 10, 5),
        ),
    ];
    for (counts, expected) in table {
        let mut body = text("hi");
        body["usage"] = counts.clone();
        let (reply, usage) = Talk::with(ok(body)).await.ask(&request()).await;
        assert!(reply.is_ok());
        let streamed = [
            r#"{"choices":[{"delta":{"content":"hi"},"finish_reason":"stop"}]}"#.to_owned(),
            json!({"choices": [], "usage": counts}).to_string(),
            "[DONE]".to_owned(),
        ];
        let streamed: Vec<&str> = streamed.iter().map(String::as_str).collect();
        let ((_, live), _) = Talk::with(events(&streamed)).await.watch(&request()).await;
        for usage in [usage, live] {
            let usage = usage.unwrap();
            let counted = (usage.tokens_in, usage.tokens_cached, usage.tokens_out);
            assert_eq!(counted, expected, "{counts}");
        }
    }
}

#[tokio::test]
async fn tool_calls_get_unique_ids_and_textual_arguments() {
    let talk = Talk::with(ok(json!({"choices": [{"message": {"tool_calls": [
        {"function": {"name": "a", "arguments": {"query": "x"}}},
        {"id": "call_0", "function": {"name": "b", "arguments": ""}},
        {"id": "call_0", "function": {"name": "c", "arguments": "{\"cut"}},
    ]}}]})))
    .await;
    let mut request = request();
    request.messages.push(Message::Assistant {
        text: None,
        calls: vec![ToolCall {
            id: "call_0".into(),
            name: "a".into(),
            arguments: "{}".into(),
        }],
    });
    let calls = talk.ask(&request).await.0.unwrap().calls;
    let calls: Vec<_> = calls
        .iter()
        .map(|call| {
            (
                call.id.as_str(),
                call.name.as_str(),
                call.arguments.as_str(),
            )
        })
        .collect();
    assert_eq!(
        calls,
        [
            ("call_1", "a", r#"{"query":"x"}"#),
            ("call_2", "b", "{}"),
            ("call_3", "c", "{\"cut")
        ]
    );
}

#[tokio::test]
async fn pieces_are_put_together_and_passed_on() {
    let mut talk = Talk::with(events(&[
        r#"{"model":"tiny-2026","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
        r#"{"choices":[{"delta":{"content":"hel"}}]}"#,
        r#"{"choices":[{"delta":{"content":"lo"}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c0","function":{"name":"search_files","arguments":""}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"id":"c1","function":{"name":"read_file","arguments":"{\"pa"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"query\":\"x\"}"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"function":{"arguments":"th\":\"y\"}"}}]}}]}"#,
        r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}"#,
        "[DONE]",
    ]))
    .await;
    let ((reply, usage), seen) = talk.watch(&request()).await;
    let reply = reply.unwrap();
    assert_eq!(
        (reply.text.as_deref(), seen.as_str()),
        (Some("hello"), "hello")
    );
    assert_eq!(reply.model, "tiny-2026");
    let calls: Vec<_> = reply
        .calls
        .iter()
        .map(|c| (c.id.as_str(), c.arguments.as_str()))
        .collect();
    assert_eq!(
        calls,
        [("c0", r#"{"query":"x"}"#), ("c1", r#"{"path":"y"}"#)]
    );
    assert_eq!(usage.unwrap().tokens_out, 3);
    let sent = &talk.bodies().await[0];
    assert_eq!(sent["stream"], json!(true));
    assert_eq!(sent["stream_options"], json!({"include_usage": true}));
}

#[tokio::test]
async fn odd_streams_are_understood() {
    // No index and no finish, but a [DONE]; calls told apart by id alone; no usage.
    let mut talk = Talk::with(events(&[
        r#"{"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"name":"x","arguments":"{}"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"b","function":{"name":"y","arguments":"{"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"}"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"z"}}]}}]}"#,
        "[DONE]",
    ]))
    .await;
    let ((reply, usage), _) = talk.watch(&request()).await;
    let calls = reply.unwrap().calls;
    let calls: Vec<_> = calls
        .iter()
        .map(|c| (c.id.as_str(), c.name.as_str(), c.arguments.as_str()))
        .collect();
    assert_eq!(
        calls,
        [("a", "x", "{}"), ("b", "y", "{}"), ("c", "z", "{}")]
    );
    assert_eq!(usage, None);

    // A server that was asked for pieces and sends the whole.
    let mut talk = Talk::with(ok(text("whole"))).await;
    let ((reply, _), seen) = talk.watch(&request()).await;
    assert_eq!(
        (reply.unwrap().text.as_deref(), seen.as_str()),
        (Some("whole"), "whole")
    );
}

#[tokio::test]
async fn nothing_is_streamed_for_nobody() {
    let talk = Talk::with(ok(text("hi"))).await;
    talk.ask(&request()).await.0.unwrap();
    assert_eq!(talk.bodies().await[0].get("stream"), None);
}

#[tokio::test]
async fn a_cut_stream_is_transient_and_its_usage_unknown() {
    let piece = r#"{"choices":[{"delta":{"content":"hel"}}]}"#;
    let mut talk = Talk::with(events(&[piece])).await;
    let (answer, seen) = talk.watch(&request()).await;
    let (failure, usage) = failure(answer);
    assert_eq!(
        (failure.kind, usage, seen.as_str()),
        (FailureKind::Transient, None, "hel")
    );
    assert!(failure.may_have_happened);
    assert!(failure.message.contains("cut the answer off"), "{failure}");
}

/// A server that answers one request with these bytes and hangs up.
fn raw_server(answer: &'static [u8]) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut request = [0; 65536];
        let _ = socket.read(&mut request).unwrap();
        socket.write_all(answer).unwrap();
    });
    format!("http://{address}/v1")
}

#[tokio::test]
async fn a_connection_that_breaks_is_transient() {
    let (channel, _live) = broadcast::channel(8);
    let watched = Sink::new(channel, (TaskId::fresh(), RunId::fresh()), "k".into(), 1);
    let whole = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"choices\":";
    let pieces = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 900\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
    for (answer, sink) in [
        (&whole[..], &Sink::closed()),
        (&pieces[..], &watched),
        (&b""[..], &watched),
    ] {
        let (failure, usage) = failure(ask(config(&raw_server(answer)), &request(), sink).await);
        assert_eq!(
            (failure.kind, usage),
            (FailureKind::Transient, None),
            "{failure}"
        );
        assert!(failure.may_have_happened, "{failure}");
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_transient_and_costs_nothing() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (failure, usage) = failure(
        ask(
            config(&format!("http://{closed}/v1?key=hush-hush")),
            &request(),
            &Sink::closed(),
        )
        .await,
    );
    assert_eq!(
        (failure.kind, usage),
        (FailureKind::Transient, Some(Usage::default()))
    );
    assert!(!failure.may_have_happened);
    assert!(
        failure
            .message
            .starts_with(&format!("cannot reach tiny at {closed}: ")),
        "{failure}"
    );
    assert!(
        failure.message.contains("refused") && !failure.message.contains("hush"),
        "{failure}"
    );
}

#[tokio::test]
async fn one_call_is_one_request_whatever_the_answer() {
    for status in [429, 500, 503] {
        let talk = Talk::with(ResponseTemplate::new(status)).await;
        let (failure, _) = failure(talk.ask(&request()).await);
        assert_eq!(failure.kind, FailureKind::Transient);
        assert_eq!(talk.bodies().await.len(), 1, "{status}");
    }
}

#[tokio::test]
async fn failures_are_sorted_and_say_what_to_do() {
    use FailureKind::{Permanent, Transient};
    let error = |code: &str| json!({"error": {"message": format!("no: {code}"), "type": "t", "code": code}});
    let plain = json!({"error": "nope"});
    let table = [
        (408, plain.clone(), Transient, "408"),
        (409, plain.clone(), Transient, "409"),
        (425, plain.clone(), Transient, "425"),
        (
            429,
            error("rate_limit_exceeded"),
            Transient,
            "asked too often",
        ),
        (
            429,
            error("insufficient_quota"),
            Permanent,
            "no credit or quota",
        ),
        (402, plain.clone(), Permanent, "no credit or quota"),
        (500, plain.clone(), Transient, "500: nope"),
        (503, json!({"detail": "loading"}), Transient, "503: loading"),
        (529, json!([]), Transient, "529"),
        (
            400,
            error("bad_tool"),
            Permanent,
            "refused the request (400): no: bad_tool",
        ),
        (
            400,
            error("context_length_exceeded"),
            Permanent,
            "lower context_tokens of [models.default]",
        ),
        (
            401,
            plain.clone(),
            Permanent,
            "check api_key of [models.default]",
        ),
        (403, plain.clone(), Permanent, "may use the model \"tiny\""),
        (
            404,
            plain.clone(),
            Permanent,
            "check model \"tiny\" and base_url",
        ),
        (307, plain, Permanent, "redirect (307)"),
        (
            200,
            json!({"error": {"message": "overloaded", "code": 503}}),
            Transient,
            "503: overloaded",
        ),
        (
            200,
            json!({"error": {"message": "what", "code": 400}}),
            Permanent,
            "(400): what",
        ),
        (200, json!({"choices": []}), Transient, "without any choice"),
    ];
    for (status, body, kind, words) in table {
        let talk = Talk::with(ResponseTemplate::new(status).set_body_json(&body)).await;
        let (failure, _) = failure(talk.ask(&request()).await);
        assert_eq!(failure.kind, kind, "{status} {body}: {failure}");
        assert!(
            failure.message.contains(words),
            "{status} {body}: {failure}"
        );
    }
}

#[tokio::test]
async fn a_missing_key_is_asked_for() {
    let talk = Talk::with(ResponseTemplate::new(401)).await;
    let mut config = talk.config();
    config.api_key = None;
    let (failure, _) = failure(ask(config, &request(), &Sink::closed()).await);
    assert!(
        failure.message.contains("wants an API key")
            && failure.message.contains("${OPENAI_API_KEY}"),
        "{failure}"
    );
}

#[tokio::test]
async fn the_pause_that_the_server_asks_for_is_handed_on() {
    let talk = Talk::with(ResponseTemplate::new(429).insert_header("retry-after", "7")).await;
    let (failure, usage) = failure(talk.ask(&request()).await);
    assert_eq!(
        (failure.retry_after_s, usage),
        (Some(7.0), Some(Usage::default()))
    );
}

#[tokio::test]
async fn a_filtered_prompt_is_an_answer_and_not_a_failure() {
    let body = json!({"error": {"message": "filtered", "code": "content_filter"}});
    let talk = Talk::with(ResponseTemplate::new(400).set_body_json(body)).await;
    let (reply, _) = talk.ask(&request()).await;
    assert_eq!(reply.unwrap().finish, Finish::Filtered);
}

#[tokio::test]
async fn no_secret_gets_into_a_failure() {
    let echo = format!(
        "bad key {KEY}, bad header top-secret-value, see https://x.example/?token=abc and sk-proj-***789"
    );
    for status in [400, 401, 429, 500] {
        let talk = Talk::with(ResponseTemplate::new(status).set_body_string(&echo)).await;
        let mut config = talk.config();
        config.headers = vec![(
            "x-proxy".parse().unwrap(),
            "top-secret-value".parse().unwrap(),
        )];
        let shown = format!("{config:?}");
        let (failure, _) = failure(ask(config, &request(), &Sink::closed()).await);
        for secret in [KEY, "top-secret-value", "token=abc", "sk-proj"] {
            assert!(!failure.message.contains(secret), "{failure}");
        }
        for name in [
            "[secret]",
            "[secret default.api_key]",
            "[secret default.headers.x-proxy]",
        ] {
            assert!(failure.message.contains(name), "{failure}");
        }
        assert!(!shown.contains(KEY), "{shown}");
    }
}

#[tokio::test]
async fn no_secret_gets_into_an_answer() {
    let escaped = KEY.replace('-', "\\u002d");
    let call = json!({"id": "a", "function": {"name": "search_files",
        "arguments": format!("{{\"query\": \"{escaped}\", \"n\": [\"{KEY}\"]}}")}});
    let body = json!({"model": KEY, "choices": [{"message": {
        "content": format!("the key is {KEY}."), "tool_calls": [call]}}]});
    let talk = Talk::with(ok(body)).await;
    let reply = talk.ask(&request()).await.0.unwrap();
    assert_eq!(
        reply.text.as_deref(),
        Some("the key is [secret default.api_key].")
    );
    let arguments: Value = serde_json::from_str(&reply.calls[0].arguments).unwrap();
    assert_eq!(
        arguments,
        json!({"query": "[secret default.api_key]", "n": ["[secret default.api_key]"]})
    );
    let kept = serde_json::to_string(&reply).unwrap();
    assert!(!kept.contains(KEY) && !kept.contains(&escaped), "{kept}");
}

#[tokio::test]
async fn no_secret_is_seen_while_it_comes_in() {
    let piece = |text: &str| json!({"choices": [{"delta": {"content": text}}]}).to_string();
    let (one, two) = KEY.split_at(7);
    let lines = [
        piece("it is "),
        piece(one),
        piece(two),
        piece(", and sk-can is none, nor is sk-ca"),
        json!({"choices": [{"delta": {}, "finish_reason": "stop"}]}).to_string(),
        "[DONE]".to_owned(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let (answer, seen) = Talk::with(events(&lines)).await.watch(&request()).await;
    let told = "it is [secret default.api_key], and sk-can is none, nor is sk-ca";
    assert_eq!(seen, told);
    assert_eq!(answer.0.unwrap().text.as_deref(), Some(told));
}

#[tokio::test]
async fn half_a_character_is_named() {
    for half in ["\\ud83d", "\\ude00", "\\uD83Dx", "\\ud83d\\n"] {
        let whole = format!("{{\"choices\": [{{\"message\": {{\"content\": \"a {half}\"}}}}]}}");
        let response = ResponseTemplate::new(200).set_body_raw(whole, "application/json");
        let (told, _) = failure(Talk::with(response).await.ask(&request()).await);
        assert!(told.message.contains("lone surrogate"), "{half}: {told}");
        let piece = format!("{{\"choices\": [{{\"delta\": {{\"content\": \"a {half}\"}}}}]}}");
        let mut talk = Talk::with(events(&[&piece])).await;
        let (told, _) = failure(talk.watch(&request()).await.0);
        assert!(told.message.contains("lone surrogate"), "{half}: {told}");
    }
    let pair = r#"{"choices": [{"message": {"content": "a \ud83d\ude00"}}]}"#;
    let response = ResponseTemplate::new(200).set_body_raw(pair, "application/json");
    let reply = Talk::with(response).await.ask(&request()).await.0.unwrap();
    assert_eq!(reply.text.as_deref(), Some("a \u{1f600}"));
}

#[tokio::test]
async fn an_answer_that_is_no_json_is_not_an_answer() {
    let page = ResponseTemplate::new(200).set_body_raw("<html>Sign in</html>", "text/html");
    let (failure, usage) = failure(Talk::with(page).await.ask(&request()).await);
    assert_eq!((failure.kind, usage), (FailureKind::Transient, None));
    assert!(
        failure
            .message
            .contains("<html>Sign in</html>: does base_url"),
        "{failure}"
    );
}

#[tokio::test]
async fn an_endless_answer_is_given_up() {
    let noise = ResponseTemplate::new(200)
        .set_body_raw(vec![b' '; attempt::MAX_ANSWER + 1], "application/json");
    let (failure, _) = failure(Talk::with(noise).await.ask(&request()).await);
    assert_eq!(failure.kind, FailureKind::Malformed);
    assert!(failure.message.contains("more than 8 MiB"), "{failure}");
}

#[tokio::test]
async fn a_cancelled_call_returns_although_the_server_says_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let model = OpenaiModel::new(config(&format!(
        "http://{}/v1",
        listener.local_addr().unwrap()
    )))
    .unwrap();
    let (cancel, sink, request) = (CancellationToken::new(), Sink::closed(), request());
    let asking = model.ask(call(&request, &cancel, &sink));
    let hanging_up = async {
        let (socket, _) = listener.accept().await.unwrap();
        socket.readable().await.unwrap();
        cancel.cancel();
        socket
    };
    let (answer, _socket) = tokio::join!(asking, hanging_up);
    let (failure, usage) = failure(answer);
    assert_eq!((failure.kind, usage), (FailureKind::Cancelled, None));
    assert!(failure.may_have_happened);
}

#[test]
fn it_says_what_it_is_without_saying_too_much() {
    let model = OpenaiModel::new(config("https://user:pw@example.com:8443/v1?key=x")).unwrap();
    assert_eq!(model.describe(), "tiny at https://example.com:8443");
    let mut broken = config("https://example.com/v1");
    broken.api_key = Some("a\nb".into());
    let error = OpenaiModel::new(broken).err().unwrap().to_string();
    assert!(error.contains("api_key of [models.default]"), "{error}");
}
