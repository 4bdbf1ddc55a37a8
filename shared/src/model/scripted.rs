//! A model that answers from a file, for tests and demonstrations. It checks every request that it
//! receives, as a strict provider would, and can fail in the ways in which providers fail.
//!
//! Which reply fits is decided from the request alone, so a run that is replayed or recovered in
//! another process gets the same replies; only faults and `times` count, in memory.
//!
//! ```toml
//! # What tokens cost; nothing where this is absent.
//! price = { input = 1.0, output = 2.0 }
//! context_tokens = 32768
//! # Whether it can be shown pictures; one that cannot refuses them.
//! vision = true
//!
//! [[agent]]
//! name = "researcher"
//! system = "You are the researcher"      # only this agent's system prompt holds this text
//! offered = ["search_files", "read_file"] # all that it may be offered; absent: not checked
//!
//! # Replies without a condition answer in order: the first one the first turn, and so on.
//! [[agent.reply]]
//! calls = [{ tool = "search_files", args = { query = "lease" } }]
//!
//! [[agent.reply]]
//! text = "Leases are fenced. [store.md:3]"
//! usage = { tokens_in = 900, tokens_out = 40 }  # estimated where absent; "unknown" for none
//!
//! # Replies with conditions come first. `turn` is one more than the assistant messages so far;
//! # `user` and `result` are parts of the last user message and of the last tool result; `pictures` are
//! # the names of all that the request shows, in order.
//! [[agent.reply]]
//! user = "write"
//! turn = 1
//! calls = [{ tool = "write_file", args = "{\"path\": cut" }]  # a text is sent as it stands
//! finish = "length"
//!
//! # Faults happen instead of a reply, `times` times (once where absent), then no more: a status,
//! # "timeout" (hangs until cancelled), "cut" (half of the text, then nothing), or "malformed"
//! # (the reply comes, its arguments cut in half).
//! [[agent.fault]]
//! turn = 2
//! fault = 429
//! retry_after_s = 2.0
//! times = 2
//! ```

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde::Deserialize;

use super::{
    Call, Finish, Message, Model, ModelReply, ModelRequest, ToolCall, estimate_tokens,
    show_in_pieces,
};
use crate::event::Sink;
use crate::hash::Hash;
use crate::money::{Price, Usage};
use crate::run::{Failure, FailureKind};

/// A model that follows a script.
pub struct ScriptedModel {
    script: Script,
    seen: Mutex<Seen>,
}

/// A script that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadScript {
    /// The file cannot be read.
    #[error("cannot read the script {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not a script.
    #[error("the script is not valid: {0}")]
    Invalid(#[from] toml::de::Error),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    #[serde(default)]
    price: Option<Price>,
    #[serde(default = "context_tokens")]
    context_tokens: u32,
    #[serde(default)]
    vision: bool,
    #[serde(default)]
    agent: Vec<Agent>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Agent {
    name: String,
    system: String,
    offered: Option<BTreeSet<String>>,
    #[serde(default)]
    reply: Vec<Reply>,
    #[serde(default)]
    fault: Vec<Fault>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    turn: Option<usize>,
    user: Option<String>,
    result: Option<String>,
    pictures: Option<Vec<String>>,
    times: Option<u32>,
    text: Option<String>,
    #[serde(default)]
    calls: Vec<ScriptedCall>,
    #[serde(default)]
    finish: Finish,
    usage: Option<ScriptedUsage>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptedCall {
    tool: String,
    #[serde(default = "no_args")]
    args: serde_json::Value,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
enum ScriptedUsage {
    Known {
        tokens_in: u64,
        #[serde(default)]
        tokens_cached: u64,
        tokens_out: u64,
    },
    Word(Unknown),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unknown {
    Unknown,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    turn: Option<usize>,
    user: Option<String>,
    result: Option<String>,
    fault: FaultKind,
    retry_after_s: Option<f64>,
    #[serde(default = "once")]
    times: u32,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
enum FaultKind {
    Status(u16),
    Word(FaultWord),
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FaultWord {
    Timeout,
    Cut,
    Malformed,
}

/// What was used so far: per agent, how often each reply and fault was.
#[derive(Default)]
struct Seen {
    replies: Vec<Vec<u32>>,
    faults: Vec<Vec<u32>>,
    violations: Vec<String>,
}

/// What is to be done with a request.
#[derive(Debug)]
enum Act<'a> {
    Answer {
        reply: &'a Reply,
        fault: Option<FaultWord>,
    },
    Status {
        status: u16,
        retry_after_s: Option<f64>,
    },
    Hang,
}

impl ScriptedModel {
    /// Reads a script from a file.
    pub fn open(path: &Path) -> Result<Self, BadScript> {
        let text = std::fs::read_to_string(path).map_err(|source| BadScript::Unreadable {
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(&text)
    }

    /// Reads a script from a text.
    pub fn parse(text: &str) -> Result<Self, BadScript> {
        let script: Script = toml::from_str(text)?;
        let seen = Seen {
            replies: script
                .agent
                .iter()
                .map(|a| vec![0; a.reply.len()])
                .collect(),
            faults: script
                .agent
                .iter()
                .map(|a| vec![0; a.fault.len()])
                .collect(),
            violations: Vec::new(),
        };
        Ok(Self {
            script,
            seen: Mutex::new(seen),
        })
    }

    /// What was wrong with requests so far, each in words. A test asserts that there is nothing.
    pub fn violations(&self) -> Vec<String> {
        self.seen().violations.clone()
    }

    /// The replies and faults that were never used, by agent and place: `researcher: reply 2`.
    pub fn unused(&self) -> Vec<String> {
        let seen = self.seen();
        let never = |name: &str, what: &str, uses: &[u32]| {
            let unused = uses.iter().enumerate().filter(|(_, uses)| **uses == 0);
            unused
                .map(|(at, _)| format!("{name}: {what} {}", at + 1))
                .collect::<Vec<_>>()
        };
        let agents = self.script.agent.iter().enumerate();
        agents
            .flat_map(|(at, agent)| {
                let mut unused = never(&agent.name, "reply", &seen.replies[at]);
                unused.extend(never(&agent.name, "fault", &seen.faults[at]));
                unused
            })
            .collect()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds the agent, checks the request, and picks what to do.
    fn decide(&self, call: &Call<'_>) -> Result<Act<'_>, String> {
        let request = call.request;
        let at = self.agent_of(request)?;
        let agent = &self.script.agent[at];
        check_offer(agent, request)?;
        check_calls(request)?;
        self.check_pictures(call)?;
        let place = Place::of(request);
        let mut seen = self.seen();
        let fault = take(&agent.fault, &mut seen.faults[at], |fault| {
            let fits = place.fits(fault.turn, fault.user.as_deref(), fault.result.as_deref());
            (fits, Some(fault.times))
        });
        let kept = match fault.map(|fault| (fault.fault, fault.retry_after_s)) {
            Some((FaultKind::Status(status), retry_after_s)) => {
                return Ok(Act::Status {
                    status,
                    retry_after_s,
                });
            }
            Some((FaultKind::Word(FaultWord::Timeout), _)) => return Ok(Act::Hang),
            Some((FaultKind::Word(word), _)) => Some(word),
            None => None,
        };
        let mut in_order = 0;
        let reply = take(&agent.reply, &mut seen.replies[at], |reply| {
            (
                reply.has_condition() && place.fits_reply(reply),
                reply.times,
            )
        });
        let reply = reply.or_else(|| {
            take(&agent.reply, &mut seen.replies[at], |reply| {
                in_order += usize::from(!reply.has_condition());
                (
                    !reply.has_condition() && in_order == place.turn,
                    reply.times,
                )
            })
        });
        match reply {
            Some(reply) => Ok(Act::Answer { reply, fault: kept }),
            None => Err(format!(
                "the script has no reply for {} at turn {} (user: {:?}, result: {:?})",
                agent.name,
                place.turn,
                start(place.user),
                start(place.result)
            )),
        }
    }

    /// Every picture that a request names comes with its bytes, and only to those that see.
    fn check_pictures(&self, call: &Call<'_>) -> Result<(), String> {
        for image in call.request.images() {
            if !self.script.vision {
                return Err(format!(
                    "{:?} is shown to a model that sees nothing",
                    image.name
                ));
            }
            let kept = call.blobs.iter().find(|blob| blob.hash == image.hash);
            if kept.is_none_or(|blob| Hash::of_bytes(&blob.bytes) != image.hash) {
                return Err(format!("the bytes of {:?} are missing", image.name));
            }
        }
        Ok(())
    }

    fn agent_of(&self, request: &ModelRequest) -> Result<usize, String> {
        let Some(Message::System { text }) = request.messages.first() else {
            return Err("the first message is not the system prompt".into());
        };
        let agents = &self.script.agent;
        agents
            .iter()
            .position(|agent| text.contains(&agent.system))
            .ok_or_else(|| {
                format!(
                    "no agent of the script has this system prompt: {:?}",
                    start(text)
                )
            })
    }

    /// The reply as the provider would send it, and whether it arrives whole.
    fn perform(
        &self,
        reply: &Reply,
        fault: Option<FaultWord>,
        request: &ModelRequest,
        sink: &Sink,
    ) -> (Result<ModelReply, Failure>, Option<Usage>) {
        let text = reply.text.as_deref().unwrap_or_default();
        if fault == Some(FaultWord::Cut) {
            show_in_pieces(sink, &text[..text.floor_char_boundary(text.len() / 2)]);
            let failure = Failure::new(FailureKind::Transient, "the script cut the answer off");
            return (Err(failure.may_have_happened()), None);
        }
        show_in_pieces(sink, text);
        let calls_before: usize = calls_in(request).count();
        let calls = reply.calls.iter().enumerate().map(|(at, call)| {
            let mut arguments = match &call.args {
                serde_json::Value::String(text) => text.clone(),
                args => args.to_string(),
            };
            if fault == Some(FaultWord::Malformed) {
                arguments.truncate(arguments.floor_char_boundary(arguments.len() / 2));
            }
            ToolCall {
                id: format!("call_{}", calls_before + at),
                name: (&call.tool).into(),
                arguments,
            }
        });
        let answer = ModelReply {
            text: reply.text.clone(),
            calls: calls.collect(),
            finish: reply.finish,
            model: "scripted".into(),
        };
        let usage = self.usage(reply, &answer, request);
        (Ok(answer), usage)
    }

    fn usage(&self, reply: &Reply, answer: &ModelReply, request: &ModelRequest) -> Option<Usage> {
        let (tokens_in, tokens_cached, tokens_out) = match reply.usage {
            Some(ScriptedUsage::Word(Unknown::Unknown)) => return None,
            Some(ScriptedUsage::Known {
                tokens_in,
                tokens_cached,
                tokens_out,
            }) => (tokens_in, tokens_cached, tokens_out),
            None => (estimate_tokens(request), 0, super::reply_tokens(answer)),
        };
        Some(Usage {
            tokens_in,
            tokens_cached,
            tokens_out,
            usd: self.price().cost(tokens_in, tokens_cached, tokens_out),
            assumed: false,
        })
    }
}

#[async_trait]
impl Model for ScriptedModel {
    async fn ask(&self, call: Call<'_>) -> (Result<ModelReply, Failure>, Option<Usage>) {
        match self.decide(&call) {
            Ok(Act::Answer { reply, fault }) => self.perform(reply, fault, call.request, call.sink),
            Ok(Act::Status {
                status,
                retry_after_s,
            }) => (
                Err(status_failure(status, retry_after_s)),
                Some(Usage::default()),
            ),
            Ok(Act::Hang) => {
                call.cancel.cancelled().await;
                let failure = Failure::new(FailureKind::Cancelled, "the script let the call hang");
                (Err(failure.may_have_happened()), None)
            }
            Err(violation) => {
                let message = format!("the scripted model refuses the request: {violation}");
                self.seen().violations.push(violation);
                (
                    Err(Failure::new(FailureKind::Permanent, message)),
                    Some(Usage::default()),
                )
            }
        }
    }

    fn price(&self) -> Price {
        self.script.price.unwrap_or(Price::FREE)
    }

    fn context_tokens(&self) -> u32 {
        self.script.context_tokens
    }

    fn sees(&self) -> bool {
        self.script.vision
    }

    fn describe(&self) -> String {
        "scripted (answers from a file)".into()
    }
}

/// Where in a conversation a request stands.
struct Place<'a> {
    turn: usize,
    user: &'a str,
    result: &'a str,
    pictures: Vec<&'a str>,
}

impl<'a> Place<'a> {
    fn of(request: &'a ModelRequest) -> Self {
        let mut place = Self {
            turn: 1,
            user: "",
            result: "",
            pictures: request.images().map(|image| image.name.as_str()).collect(),
        };
        for message in &request.messages {
            match message {
                Message::Assistant { .. } => place.turn += 1,
                Message::User { text, .. } => place.user = text,
                Message::Tool { text, .. } => place.result = text,
                Message::System { .. } => {}
            }
        }
        place
    }

    fn fits(&self, turn: Option<usize>, user: Option<&str>, result: Option<&str>) -> bool {
        turn.is_none_or(|turn| turn == self.turn)
            && user.is_none_or(|part| self.user.contains(part))
            && result.is_none_or(|part| self.result.contains(part))
    }

    fn fits_reply(&self, reply: &Reply) -> bool {
        self.fits(reply.turn, reply.user.as_deref(), reply.result.as_deref())
            && reply
                .pictures
                .as_ref()
                .is_none_or(|all| *all == self.pictures)
    }
}

impl Reply {
    fn has_condition(&self) -> bool {
        self.turn.is_some()
            || self.user.is_some()
            || self.result.is_some()
            || self.pictures.is_some()
    }
}

/// The first item that fits and is not used up, counted as used.
fn take<'a, T>(
    items: &'a [T],
    uses: &mut [u32],
    mut fits: impl FnMut(&T) -> (bool, Option<u32>),
) -> Option<&'a T> {
    items.iter().zip(uses).find_map(|(item, uses)| {
        let (fits, times) = fits(item);
        let left = times.is_none_or(|times| *uses < times);
        (fits && left).then(|| {
            *uses += 1;
            item
        })
    })
}

/// The tools offered are the agent's own, each once.
fn check_offer(agent: &Agent, request: &ModelRequest) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for tool in &request.tools {
        let name = tool.name.as_str();
        if !names.insert(name) {
            return Err(format!("{} is offered {name} twice", agent.name));
        }
        if agent
            .offered
            .as_ref()
            .is_some_and(|own| !own.contains(name))
        {
            return Err(format!(
                "{} is offered {name}, which it does not have",
                agent.name
            ));
        }
    }
    Ok(())
}

/// Each call is answered exactly once, by the tool messages that follow it, and nothing is answered
/// that was not called. There is one system message, the first.
fn check_calls(request: &ModelRequest) -> Result<(), String> {
    let mut open: BTreeSet<&str> = BTreeSet::new();
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for (at, message) in request.messages.iter().enumerate() {
        match message {
            Message::Tool { call, .. } => {
                if !open.remove(call.as_str()) {
                    return Err(match known.contains(call.as_str()) {
                        true => format!("the call {call:?} is answered twice or too late"),
                        false => format!("a tool message answers {call:?}, which was not called"),
                    });
                }
                continue;
            }
            Message::System { .. } if at > 0 => {
                return Err(format!("message {} is a second system prompt", at + 1));
            }
            _ => {}
        }
        none_open(&open)?;
        if let Message::Assistant { calls, .. } = message {
            for call in calls {
                if !known.insert(&call.id) {
                    return Err(format!("two calls have the id {:?}", call.id));
                }
                open.insert(&call.id);
            }
        }
    }
    none_open(&open)
}

fn none_open(open: &BTreeSet<&str>) -> Result<(), String> {
    match open.first() {
        Some(call) => Err(format!("the call {call:?} is not answered")),
        None => Ok(()),
    }
}

fn calls_in(request: &ModelRequest) -> impl Iterator<Item = &ToolCall> {
    request.messages.iter().flat_map(|message| match message {
        Message::Assistant { calls, .. } => calls.as_slice(),
        _ => &[],
    })
}

fn status_failure(status: u16, retry_after_s: Option<f64>) -> Failure {
    let kind = match status {
        408 | 409 | 425 | 429 | 500.. => FailureKind::Transient,
        _ => FailureKind::Permanent,
    };
    let mut failure = Failure::new(kind, format!("the scripted model answered {status}"));
    failure.retry_after_s = retry_after_s;
    failure.may_have_happened = status >= 500;
    failure
}

fn start(text: &str) -> &str {
    &text[..text.floor_char_boundary(80)]
}

fn context_tokens() -> u32 {
    32_768
}

fn no_args() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}

fn once() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{RunId, TaskId};
    use crate::model::ToolDef;
    use crate::run::EffectKey;
    use std::sync::Arc;
    use tokio::sync::broadcast;
    use tokio_util::sync::CancellationToken;

    /// The example of the module's documentation is a script.
    fn example() -> ScriptedModel {
        let lines = include_str!("scripted.rs").lines();
        let toml: Vec<_> = lines
            .skip_while(|line| *line != "//! ```toml")
            .skip(1)
            .take_while(|line| *line != "//! ```")
            .map(|line| line.trim_start_matches("//!"))
            .collect();
        ScriptedModel::parse(&toml.join("\n")).unwrap()
    }

    fn say(user: &str) -> Vec<Message> {
        vec![
            Message::System {
                text: "You are the researcher. Be brief.".into(),
            },
            Message::user(user),
        ]
    }

    fn called(id: &str) -> Message {
        Message::Assistant {
            text: None,
            calls: vec![ToolCall {
                id: id.into(),
                name: "search_files".into(),
                arguments: "{}".into(),
            }],
        }
    }

    fn answered(call: &str) -> Message {
        Message::Tool {
            call: call.into(),
            text: "found".into(),
        }
    }

    async fn ask_with(
        model: &ScriptedModel,
        messages: Vec<Message>,
        tools: &[&str],
        sink: &Sink,
        cancel: &CancellationToken,
    ) -> (Result<ModelReply, Failure>, Option<Usage>) {
        let tools = tools.iter().map(|name| ToolDef {
            name: name.into(),
            description: "".into(),
            parameters: Arc::new(no_args()),
        });
        let request = ModelRequest {
            messages,
            tools: tools.collect(),
            output: None,
            max_tokens: 9,
        };
        let effect_key = EffectKey(Hash::of_bytes(b""));
        model
            .ask(Call {
                request: &request,
                blobs: &[],
                effect_key,
                cancel,
                sink,
            })
            .await
    }

    async fn ask(
        model: &ScriptedModel,
        messages: Vec<Message>,
    ) -> (Result<ModelReply, Failure>, Option<Usage>) {
        let cancel = CancellationToken::new();
        ask_with(model, messages, &["read_file"], &Sink::closed(), &cancel).await
    }

    #[tokio::test]
    async fn replies_are_found_by_place_and_condition_and_faults_pass() {
        let model = example();
        assert_eq!(model.unused().len(), 4);
        for _ in 0..2 {
            // The same place gets the same reply, however often it is asked.
            let reply = ask(&model, say("look")).await.0.unwrap();
            assert_eq!(reply.calls[0].name.as_str(), "search_files");
            assert_eq!(reply.calls[0].arguments, r#"{"query":"lease"}"#);
        }
        let reply = ask(&model, say("write it")).await.0.unwrap();
        assert_eq!(reply.calls[0].arguments, "{\"path\": cut");
        assert_eq!(reply.finish, Finish::Length);

        let second = || [say("look"), vec![called("call_0"), answered("call_0")]].concat();
        for _ in 0..2 {
            let failure = ask(&model, second()).await.0.unwrap_err();
            assert_eq!(
                (failure.kind, failure.retry_after_s),
                (FailureKind::Transient, Some(2.0))
            );
        }
        let (reply, usage) = ask(&model, second()).await;
        assert!(reply.unwrap().text.unwrap().starts_with("Leases"));
        let usage = usage.unwrap();
        assert_eq!((usage.tokens_in, usage.usd.nano()), (900, 980_000));
        assert_eq!(model.unused(), [""; 0]);
        assert_eq!(model.violations(), [""; 0]);
    }

    #[tokio::test]
    async fn each_kind_of_wrong_request_is_refused_and_kept() {
        let table: &[(Vec<Message>, &str)] = &[
            (vec![], "first message is not the system prompt"),
            (
                say("x")[1..].to_vec(),
                "first message is not the system prompt",
            ),
            (
                vec![Message::System {
                    text: "Who?".into(),
                }],
                "no agent of the script",
            ),
            (
                [say("x"), vec![called("a")]].concat(),
                r#""a" is not answered"#,
            ),
            (
                [
                    say("x"),
                    vec![called("a"), say("y")[1].clone(), answered("a")],
                ]
                .concat(),
                r#""a" is not answered"#,
            ),
            (
                [say("x"), vec![called("a"), answered("a"), answered("a")]].concat(),
                "answered twice",
            ),
            (
                [say("x"), vec![answered("b")]].concat(),
                r#"answers "b", which was not called"#,
            ),
            (
                [say("x"), vec![called("a"), answered("a"), called("a")]].concat(),
                "two calls have the id",
            ),
            ([say("x"), say("y")].concat(), "second system prompt"),
            (
                [
                    say("x"),
                    vec![called("a"), answered("a"), called("b"), answered("b")],
                ]
                .concat(),
                "no reply for researcher at turn 3",
            ),
        ];
        let model = example();
        for (at, (messages, words)) in table.iter().enumerate() {
            let failure = ask(&model, messages.clone()).await.0.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Permanent);
            assert!(failure.message.contains(words), "{words}: {failure}");
            assert_eq!(model.violations().len(), at + 1);
        }
        let cancel = CancellationToken::new();
        let tools = ["write_file"];
        let answer = ask_with(&model, say("x"), &tools, &Sink::closed(), &cancel).await;
        assert!(
            answer
                .0
                .unwrap_err()
                .message
                .contains("offered write_file, which it does not")
        );
    }

    fn faulty(fault: &str) -> ScriptedModel {
        let text = format!(
            "[[agent]]\nname = 'r'\nsystem = ''\n[[agent.reply]]\ntext = 'üabcdef'\n\
             calls = [{{ tool = 't', args = {{ a = 1 }} }}]\n[[agent.fault]]\nfault = {fault}"
        );
        ScriptedModel::parse(&text).unwrap()
    }

    #[tokio::test]
    async fn faults_are_like_the_real_ones() {
        let cancel = CancellationToken::new();
        let (channel, mut live) = broadcast::channel(64);
        let ids = (TaskId::fresh(), RunId::fresh());
        let sink = Sink::new(channel, ids, "k".into(), 1);

        let cut = ask_with(&faulty("'cut'"), say("x"), &[], &sink, &cancel).await;
        assert_eq!(
            (cut.0.unwrap_err().kind, cut.1),
            (FailureKind::Transient, None)
        );
        let mut seen = String::new();
        while let Ok(crate::event::Live::Delta { text, .. }) = live.try_recv() {
            seen.push_str(&text);
        }
        assert_eq!(seen, "üab");

        let malformed = ask(&faulty("'malformed'"), say("x")).await.0.unwrap();
        assert_eq!(malformed.calls[0].arguments, "{\"a");

        cancel.cancel();
        let hung = ask_with(&faulty("'timeout'"), say("x"), &[], &sink, &cancel).await;
        assert_eq!(
            (hung.0.unwrap_err().kind, hung.1),
            (FailureKind::Cancelled, None)
        );

        let wrong = ask(&faulty("400"), say("x")).await.0.unwrap_err();
        assert_eq!(wrong.kind, FailureKind::Permanent);
    }

    #[test]
    fn a_wrong_script_is_refused() {
        for text in ["[[agent]]\nname = 'x'", "x = 1", "[[agent"] {
            assert!(ScriptedModel::parse(text).is_err(), "{text}");
        }
        let missing = ScriptedModel::open(Path::new("/nowhere.toml"))
            .err()
            .unwrap();
        assert!(missing.to_string().contains("/nowhere.toml"));
    }
}
