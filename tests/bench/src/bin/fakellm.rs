//! A scripted OpenAI-compatible server on loopback. It keeps no conversation: each answer is decided
//! from the request's messages alone.
//!
//! What it reads in the messages:
//! - `ROLE=supervisor|researcher|writer` in a system or developer message; the last one counts,
//!   supervisor where there is none;
//! - `STEPS=n` anywhere: how many `lookup` calls the researcher makes, 3 where there is none;
//! - `TASK-id` anywhere: repeated in the answers.
//!
//! What it answers:
//! - researcher: a call of the tool with `lookup` in its name while fewer than n were made, then
//!   `FINDINGS:`;
//! - writer: `DRAFT:`;
//! - supervisor: `FINAL:` once a draft is there; before that a hand-off to the writer (findings are
//!   there) or to the researcher, by the tool offered for it, else as the text `ROUTE: name`.
//!
//! Control: `GET /ping`, `GET /stats`, `POST /reset`,
//! `POST /config?latency_ms=&hold=role:n|none` (requests at that step wait until it changes).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

/// Thousands of connections may arrive at once.
const BACKLOG: u32 = 4096;

/// A scripted OpenAI-compatible server on loopback.
#[derive(Parser)]
struct Args {
    #[arg(long, default_value_t = 28471)]
    port: u16,
    /// Milliseconds before each answer.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    let listener = listen(args.port).with_context(|| format!("listen on port {}", args.port))?;
    let server = Rc::new(Server::new(args.latency_ms));
    tokio::task::LocalSet::new()
        .run_until(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    continue;
                };
                let _ = stream.set_nodelay(true);
                let server = Rc::clone(&server);
                tokio::task::spawn_local(async move {
                    let service = service_fn(move |request| Rc::clone(&server).serve(request));
                    let connection = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                    // A client that hangs up is no concern of this server.
                    drop(connection);
                });
            }
        })
        .await
}

fn listen(port: u16) -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    Ok(socket.listen(BACKLOG)?)
}

#[derive(Clone, Default)]
struct Settings {
    latency_ms: u64,
    hold: Option<String>,
}

struct Server {
    settings: watch::Sender<Settings>,
    requests: Cell<u64>,
    held: Cell<u64>,
    by_step: RefCell<BTreeMap<String, u64>>,
}

impl Server {
    fn new(latency_ms: u64) -> Self {
        let settings = Settings {
            latency_ms,
            hold: None,
        };
        Self {
            settings: watch::channel(settings).0,
            requests: Cell::new(0),
            held: Cell::new(0),
            by_step: RefCell::default(),
        }
    }

    async fn serve(
        self: Rc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let path = request.uri().path().to_owned();
        if request.method() == Method::POST && path.ends_with("/chat/completions") {
            return Ok(match request.into_body().collect().await {
                Ok(body) => self.chat(&body.to_bytes()).await,
                Err(error) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
            });
        }
        let query = request.uri().query().unwrap_or_default();
        Ok(match path.as_str() {
            "/ping" => reply(&json!({"ok": true})),
            "/config" => self.configure(query),
            "/reset" => self.reset(),
            "/stats" => reply(&json!({
                "requests": self.requests.get(),
                "held": self.held.get(),
                "by_step": *self.by_step.borrow(),
            })),
            _ => refuse(StatusCode::NOT_FOUND, "no such path"),
        })
    }

    async fn chat(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let request: Chat<'_> = match serde_json::from_slice(body) {
            Ok(request) => request,
            Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let number = self.requests.get() + 1;
        self.requests.set(number);
        let (step, answer) = decide(&request);
        *self.by_step.borrow_mut().entry(step.clone()).or_default() += 1;
        self.wait(&step).await;

        let completion = Completion {
            number,
            model: request.model.as_deref().unwrap_or("fake"),
            tokens_in: body.len() / 4,
            answer: &answer,
        };
        if request.stream != Some(true) {
            return reply(&completion.whole());
        }
        let usage = request
            .stream_options
            .is_some_and(|options| options.include_usage);
        Response::builder()
            .header("content-type", "text/event-stream")
            .body(completion.pieces(usage).into())
            .unwrap_or_default()
    }

    async fn wait(&self, step: &str) {
        let settings = self.settings.borrow().clone();
        if settings.hold.as_deref() == Some(step) {
            let _held = Held::new(&self.held);
            let mut changes = self.settings.subscribe();
            let _ = changes
                .wait_for(|now| now.hold.as_deref() != Some(step))
                .await;
        } else if settings.latency_ms > 0 {
            tokio::time::sleep(Duration::from_millis(settings.latency_ms)).await;
        }
    }

    fn configure(&self, query: &str) -> Response<Full<Bytes>> {
        let query: HashMap<&str, &str> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .collect();
        self.settings.send_modify(|settings| {
            if let Some(latency) = query.get("latency_ms").and_then(|text| text.parse().ok()) {
                settings.latency_ms = latency;
            }
            if let Some(&step) = query.get("hold") {
                settings.hold = (step != "none").then(|| step.replace("%3A", ":"));
            }
        });
        reply(&json!({"ok": true}))
    }

    fn reset(&self) -> Response<Full<Bytes>> {
        self.requests.set(0);
        self.by_step.borrow_mut().clear();
        reply(&json!({"ok": true}))
    }
}

/// Counts a request while it waits, also when its client gives up.
struct Held<'a>(&'a Cell<u64>);

impl<'a> Held<'a> {
    fn new(count: &'a Cell<u64>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

fn reply(body: &Value) -> Response<Full<Bytes>> {
    Response::builder()
        .header("content-type", "application/json")
        .body(body.to_string().into())
        .unwrap_or_default()
}

fn refuse(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let mut response =
        reply(&json!({"error": {"message": message, "type": "invalid_request_error"}}));
    *response.status_mut() = status;
    response
}

/// What is read of a request. Contents stay as raw JSON: looking for a few words in them needs no
/// parsing, and this server should cost little beside what it helps to measure.
#[derive(Deserialize)]
struct Chat<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    #[serde(borrow, default)]
    tools: Option<Vec<Tool<'a>>>,
    model: Option<String>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
struct Message<'a> {
    role: String,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<Tool<'a>>>,
}

/// A tool offered or called.
#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(borrow)]
    function: Function<'a>,
}

#[derive(Deserialize)]
struct Function<'a> {
    name: String,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
}

enum Answer {
    Text(String),
    Call { tool: String, arguments: String },
}

/// What a conversation says about where its task stands.
struct Seen {
    role: String,
    task: String,
    steps: usize,
    lookups: usize,
    findings: bool,
    draft: bool,
}

impl Seen {
    fn read(messages: &[Message<'_>]) -> Self {
        let mut seen = Self {
            role: "supervisor".into(),
            task: String::new(),
            steps: 3,
            lookups: 0,
            findings: false,
            draft: false,
        };
        for message in messages {
            if let Some(content) = message.content {
                seen.read_content(&message.role, content.get());
            }
            let calls = message.tool_calls.iter().flatten();
            seen.lookups += calls.filter(|call| is_lookup(&call.function)).count();
        }
        seen
    }

    fn read_content(&mut self, role: &str, content: &str) {
        if role == "system" || role == "developer" {
            if let Some(role) = word_after(content, "ROLE=") {
                self.role = role.to_owned();
            }
        } else {
            self.findings |= has(content, "FINDINGS:");
            self.draft |= has(content, "DRAFT:");
        }
        if self.task.is_empty()
            && let Some(id) = word_after(content, "TASK-")
        {
            self.task = format!("TASK-{id}");
        }
        if let Some(steps) = word_after(content, "STEPS=") {
            self.steps = steps.parse().unwrap_or(self.steps);
        }
    }
}

/// The step's name, `role:n`, and the answer.
fn decide(request: &Chat<'_>) -> (String, Answer) {
    let seen = Seen::read(&request.messages);
    let tools: Vec<&Function<'_>> = request
        .tools
        .iter()
        .flatten()
        .map(|tool| &tool.function)
        .collect();
    match seen.role.as_str() {
        "researcher" => (
            format!("researcher:{}", seen.lookups),
            research(&seen, &tools),
        ),
        "writer" => ("writer:0".into(), text("DRAFT:", &seen.task, 1200)),
        _ if seen.draft => ("supervisor:2".into(), text("FINAL:", &seen.task, 200)),
        _ if seen.findings => ("supervisor:1".into(), route(&seen, &tools, "writer")),
        _ => ("supervisor:0".into(), route(&seen, &tools, "researcher")),
    }
}

fn research(seen: &Seen, tools: &[&Function<'_>]) -> Answer {
    match tools.iter().find(|tool| is_lookup(tool)) {
        Some(tool) if seen.lookups < seen.steps => Answer::Call {
            tool: tool.name.clone(),
            arguments: json!({"query": format!("{} step {}", seen.task, seen.lookups)}).to_string(),
        },
        _ => text("FINDINGS:", &seen.task, 400),
    }
}

fn route(seen: &Seen, tools: &[&Function<'_>], target: &str) -> Answer {
    let hand_off = tools.iter().find(|tool| {
        let name = tool.name.to_ascii_lowercase();
        name.contains(target)
            && ["transfer", "handoff", "delegate", "ask"]
                .iter()
                .any(|verb| name.contains(verb))
    });
    match hand_off {
        Some(tool) => Answer::Call {
            tool: tool.name.clone(),
            arguments: filled(tool, &seen.task),
        },
        None => Answer::Text(format!("ROUTE: {target}")),
    }
}

/// Arguments in which every required property is a short text.
fn filled(tool: &Function<'_>, task: &str) -> String {
    #[derive(Default, Deserialize)]
    struct Schema {
        #[serde(default)]
        required: Vec<String>,
    }
    let schema: Schema = tool
        .parameters
        .and_then(|schema| serde_json::from_str(schema.get()).ok())
        .unwrap_or_default();
    let properties = schema.required.into_iter();
    let arguments: serde_json::Map<_, _> = properties
        .map(|name| (name, Value::from(format!("{task} go"))))
        .collect();
    Value::Object(arguments).to_string()
}

fn is_lookup(tool: &Function<'_>) -> bool {
    tool.name.contains("lookup")
}

fn has(text: &str, word: &str) -> bool {
    memmem::find(text.as_bytes(), word.as_bytes()).is_some()
}

/// The letters, digits, `-` and `_` that follow the last `mark`.
fn word_after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    let start = memmem::rfind(text.as_bytes(), mark.as_bytes())? + mark.len();
    text[start..]
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
        .next()
}

fn text(tag: &str, task: &str, length: usize) -> Answer {
    const FILL: &str =
        "The quick survey of the sources supports the claim and lists the figures in order. ";
    let mut text = format!("{tag} {task} ");
    text.extend(FILL.chars().cycle().take(length.saturating_sub(text.len())));
    Answer::Text(text)
}

/// An answer in the wire's words.
struct Completion<'a> {
    number: u64,
    model: &'a str,
    tokens_in: usize,
    answer: &'a Answer,
}

impl Completion<'_> {
    fn whole(&self) -> Value {
        let message = match self.answer {
            Answer::Text(text) => json!({"role": "assistant", "content": text}),
            Answer::Call { tool, arguments } => json!({
                "role": "assistant",
                "content": null,
                "tool_calls": [self.call(tool, arguments)],
            }),
        };
        json!({
            "id": self.id(),
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": self.model,
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish()}],
            "usage": self.usage(),
        })
    }

    fn pieces(&self, usage: bool) -> String {
        let mut events = String::new();
        let mut push = |choices: Value, usage: Value| {
            let event = json!({
                "id": self.id(),
                "object": "chat.completion.chunk",
                "created": 1_700_000_000,
                "model": self.model,
                "choices": choices,
                "usage": usage,
            });
            events.push_str(&format!("data: {event}\n\n"));
        };
        let mut delta = |delta: Value, finish: Value| {
            let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
            push(json!([choice]), Value::Null);
        };
        delta(json!({"role": "assistant", "content": ""}), Value::Null);
        match self.answer {
            Answer::Text(text) => {
                for piece in text.as_bytes().chunks(64) {
                    let piece = String::from_utf8_lossy(piece);
                    delta(json!({"content": piece}), Value::Null);
                }
            }
            Answer::Call { tool, arguments } => {
                let mut call = self.call(tool, "");
                call["index"] = 0.into();
                delta(json!({"tool_calls": [call]}), Value::Null);
                for piece in arguments.as_bytes().chunks(16) {
                    let piece = String::from_utf8_lossy(piece);
                    let call = json!({"index": 0, "function": {"arguments": piece}});
                    delta(json!({"tool_calls": [call]}), Value::Null);
                }
            }
        }
        delta(json!({}), self.finish().into());
        if usage {
            push(json!([]), self.usage());
        }
        events.push_str("data: [DONE]\n\n");
        events
    }

    fn id(&self) -> String {
        format!("chatcmpl-{}", self.number)
    }

    fn call(&self, tool: &str, arguments: &str) -> Value {
        json!({
            "id": format!("call_{}", self.number),
            "type": "function",
            "function": {"name": tool, "arguments": arguments},
        })
    }

    fn finish(&self) -> &'static str {
        match self.answer {
            Answer::Text(_) => "stop",
            Answer::Call { .. } => "tool_calls",
        }
    }

    fn usage(&self) -> Value {
        let tokens_out = 1 + match self.answer {
            Answer::Text(text) => text.len() / 4,
            Answer::Call { arguments, .. } => arguments.len() / 4,
        };
        json!({
            "prompt_tokens": self.tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": self.tokens_in + tokens_out,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(messages: Value, tools: Value) -> (String, String) {
        let request = json!({"messages": messages, "tools": tools}).to_string();
        let request: Chat<'_> = serde_json::from_str(&request).unwrap();
        let (step, answer) = decide(&request);
        let answer = match answer {
            Answer::Text(text) => text,
            Answer::Call { tool, arguments } => format!("{tool} {arguments}"),
        };
        (step, answer)
    }

    #[test]
    fn a_task_goes_through_all_seven_steps() {
        let user = json!({"role": "user", "content": "TASK-1-2 STEPS=1 brief"});
        let system = |role: &str| json!({"role": "system", "content": format!("ROLE={role} go")});
        let lookup = json!([{"type": "function", "function": {"name": "lookup"}}]);
        let called = json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "lookup", "arguments": "{}"}}]});

        let (at, answer) = step(json!([system("supervisor"), user]), json!([]));
        assert_eq!(
            (at.as_str(), answer.as_str()),
            ("supervisor:0", "ROUTE: researcher")
        );
        let (at, answer) = step(json!([system("researcher"), user]), lookup.clone());
        assert_eq!(at, "researcher:0");
        assert_eq!(answer, r#"lookup {"query":"TASK-1-2 step 0"}"#);
        let (at, answer) = step(json!([system("researcher"), user, called]), lookup);
        assert_eq!(at, "researcher:1");
        assert!(answer.starts_with("FINDINGS: TASK-1-2 ") && answer.len() == 400);
        let (at, answer) = step(json!([system("writer"), user]), json!([]));
        assert_eq!(at, "writer:0");
        assert!(answer.starts_with("DRAFT: TASK-1-2 "));
        let draft = json!({"role": "user", "content": answer});
        let (at, answer) = step(json!([system("supervisor"), user, draft]), json!([]));
        assert_eq!(at, "supervisor:2");
        assert!(answer.starts_with("FINAL: TASK-1-2 "));
    }
}
