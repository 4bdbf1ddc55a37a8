//! The agent loop: sense, think, decide, act, until there is an answer or a reason to stop.
//!
//! [`AgentRun`] is a machine without IO: [`AgentRun::next`] says what to do, and it is told what came
//! of it. [`work`] drives it over a [`RunCtx`]. Everything that the machine decides follows from the
//! catalog, the assignment and recorded outcomes, so a replay goes the same way.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use shared::config::AgentSpec;
use shared::event::Note;
use shared::hash::Hash;
use shared::id::{AgentName, SignalName, StepKey, ToolName};
use shared::model::{Finish, Message, ModelReply, ModelRequest, ToolCall, ToolDef, worst_case};
use shared::money::{Usage, Usd};
use shared::run::{
    Effect, Failure, FailureKind, Interrupted, Op, OpKind, Outcome, Recorded, RunCtx, Think,
};
use shared::task::TaskState;

use crate::catalog::{AgentTool, Catalog};
use crate::context;
use crate::loop_guard::{LoopGuard, Verdict};
use crate::tools::gate::Gate;

/// How often a reply that cannot be understood is asked for again.
const REPROMPTS: u32 = 2;
/// The failed call of one tool that ends the work.
const FAILED_CALLS: u32 = 3;
/// How long a person may take to say whether an effect happened: thirty days.
const DOUBT: Duration = Duration::from_secs(30 * 24 * 3600);

/// What an agent is given to do: the input of its run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// What to do.
    pub task: String,
    /// What other agents found or wrote before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<PartResult>,
    /// By what the result will be judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept: Vec<String>,
    /// What it may use.
    pub allowance: Allowance,
}

/// What one agent contributed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartResult {
    /// Who.
    pub agent: AgentName,
    /// What.
    pub text: String,
}

/// What a piece of work may use. Only ever shrinks on the way down.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Allowance {
    /// Model and tool calls.
    pub steps: u32,
    /// Milliseconds of work: calls and the pauses between their attempts. Neither outages nor
    /// waiting for people count.
    pub active_ms: u64,
    /// Tokens sent and received.
    pub tokens: u64,
    /// Dollars.
    pub usd: Usd,
}

/// What came of an assignment: the value that an agent's run ends with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// The result; what was reached, where the work was stopped.
    pub text: String,
    /// How it ended.
    pub ending: Ending,
    /// Model and tool calls made.
    pub steps: u32,
    /// Milliseconds of work.
    pub active_ms: u64,
}

/// How a piece of work ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Ending {
    /// With a result.
    Done,
    /// A limit was reached; the text says what there is.
    Limit {
        /// Which, with its figure.
        limit: String,
    },
    /// The agent went round in circles; the text says what there is.
    Circles {
        /// What it repeated.
        what: String,
    },
    /// It cannot go on without a person.
    Escalated {
        /// Why.
        why: String,
        /// What was tried, oldest first.
        tried: Vec<String>,
    },
    /// The model could not be asked.
    Failed {
        /// Why.
        failure: Failure,
    },
}

/// What a person said about an effect in doubt: the payload of the signal `in_doubt/<step>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case", deny_unknown_fields)]
pub enum Resolution {
    /// It happened, with this result.
    Happened {
        /// What the tool would have answered.
        result: Value,
    },
    /// It did not happen: do it again.
    Again,
    /// Leave it.
    GiveUp,
}

/// The name of the signal by which a person settles a step in doubt.
pub fn doubt_signal(key: &StepKey) -> SignalName {
    SignalName::from(format!("in_doubt/{key}"))
}

/// Works off an assignment.
pub async fn work(
    ctx: &dyn RunCtx,
    catalog: &Catalog,
    spec: &AgentSpec,
    gate: &Gate,
    assignment: Assignment,
) -> Result<Work, Interrupted> {
    let mut run = AgentRun::new(catalog, spec, gate, assignment);
    loop {
        match run.next() {
            Next::Think(key, op) => {
                let recorded = ctx.act(key, op).await?;
                run.thought(&recorded);
            }
            Next::Call(calls) => {
                let recorded = ctx.all(calls).await?;
                run.called(recorded);
            }
            Next::Ask(name, what) => {
                let waiting = |state, reason: &str| Note::State {
                    state,
                    reason: reason.to_owned(),
                };
                ctx.note(waiting(TaskState::AwaitingHuman, &what));
                let answer = ctx.signal(name, DOUBT).await?;
                ctx.note(waiting(TaskState::Running, "a person decided"));
                run.resolved(answer);
            }
            Next::End(work) => return Ok(work),
        }
        for note in run.notes.drain(..) {
            ctx.note(note);
        }
    }
}

/// What the machine asks for.
pub enum Next {
    /// A model call.
    Think(StepKey, Op),
    /// Tool calls that are independent of each other.
    Call(Vec<(StepKey, Op)>),
    /// A person's word on an effect in doubt, and what it is about.
    Ask(SignalName, String),
    /// Nothing: this is the result.
    End(Work),
}

/// The machine.
pub struct AgentRun<'a> {
    catalog: &'a Catalog,
    spec: &'a AgentSpec,
    gate: &'a Gate,
    spec_hash: Hash,
    allowance: Allowance,
    messages: Vec<Message>,
    after: Hash,
    turn: u32,
    steps: u32,
    used: Usage,
    active_ms: u64,
    pending: VecDeque<Pending>,
    asked: Vec<Pending>,
    doubt: Option<Pending>,
    guard: LoopGuard,
    failed_calls: BTreeMap<ToolName, u32>,
    tried: Vec<String>,
    malformed: u32,
    said: String,
    closing: Option<Ending>,
    told_to_close: bool,
    ended: Option<Ending>,
    notes: Vec<Note>,
}

/// A tool call of the model's last reply.
struct Pending {
    call: ToolCall,
    key: StepKey,
    /// The operation, or why there is none.
    op: Result<Op, String>,
}

impl<'a> AgentRun<'a> {
    /// A run at its beginning.
    pub fn new(
        catalog: &'a Catalog,
        spec: &'a AgentSpec,
        gate: &'a Gate,
        assignment: Assignment,
    ) -> Self {
        let allowance = Allowance {
            steps: assignment
                .allowance
                .steps
                .min(spec.limits.steps.unwrap_or(u32::MAX)),
            ..assignment.allowance
        };
        Self {
            catalog,
            spec,
            gate,
            spec_hash: Hash::of(&serde_json::to_value(spec).unwrap_or_default()),
            allowance,
            messages: vec![
                Message::System {
                    text: spec.prompt.clone(),
                },
                Message::User {
                    text: brief(&assignment),
                },
            ],
            after: Hash::of_bytes(b""),
            turn: 0,
            steps: 0,
            used: Usage::default(),
            active_ms: 0,
            pending: VecDeque::new(),
            asked: Vec::new(),
            doubt: None,
            guard: LoopGuard::default(),
            failed_calls: BTreeMap::new(),
            tried: Vec::new(),
            malformed: 0,
            said: String::new(),
            closing: None,
            told_to_close: false,
            ended: None,
            notes: Vec::new(),
        }
    }

    /// What is to be done next.
    pub fn next(&mut self) -> Next {
        if let Some(doubt) = &self.doubt {
            let what = format!(
                "{} of step {} may or may not have happened",
                doubt.call.name, doubt.key
            );
            return Next::Ask(doubt_signal(&doubt.key), what);
        }
        if self.ended.is_none() {
            let calls = self.next_calls();
            if !calls.is_empty() {
                return Next::Call(calls);
            }
        }
        match self.ended.take() {
            Some(ending) => Next::End(self.result(ending)),
            None => self.think(),
        }
    }

    /// Takes the calls that can be made now: reading ones together, all others one by one.
    fn next_calls(&mut self) -> Vec<(StepKey, Op)> {
        let mut calls = Vec::new();
        while let Some(pending) = self.pending.pop_front() {
            let op = match &pending.op {
                Err(refusal) => {
                    let refusal = refusal.clone();
                    self.answer(&pending.call, &refusal, true);
                    if self.ended.is_some() {
                        break;
                    }
                    continue;
                }
                Ok(op) => op.clone(),
            };
            let alone = op.effect != Effect::Pure;
            if alone && !calls.is_empty() {
                self.pending.push_front(pending);
                break;
            }
            calls.push((pending.key.clone(), op));
            self.asked.push(pending);
            if alone {
                break;
            }
        }
        calls
    }

    /// Asks the model, unless a limit forbids even that.
    fn think(&mut self) -> Next {
        let mut request = self.request();
        let price = self.catalog.model(&self.spec.model).price;
        let mut worst = worst_case(&request, &price);
        if self.closing.is_none() {
            if let Some(limit) = self.limit_reached(&worst) {
                self.closing = Some(Ending::Limit { limit });
                request = self.request();
                worst = worst_case(&request, &price);
            }
        }
        if let Some(limit) = self.forbidden(&worst) {
            let ending = self.closing.take().unwrap_or(Ending::Limit { limit });
            return Next::End(self.result(ending));
        }
        let model = self.catalog.model(&self.spec.model);
        if !context::fit(&mut request, model.context_tokens) {
            let failure = Failure::new(
                FailureKind::Limit,
                format!(
                    "the conversation does not fit the {} tokens of model {}",
                    model.context_tokens, self.spec.model
                ),
            );
            return Next::End(self.result(Ending::Failed { failure }));
        }
        self.turn += 1;
        let key = StepKey::from(format!("think/{}", self.turn));
        let op = Op {
            agent: self.spec.name.clone(),
            effect: Effect::Idempotent,
            timeout: self.time_for(model.timeout_s),
            retry: self.catalog.retry,
            worst_case: worst,
            kind: OpKind::Think(Box::new(Think {
                spec: self.spec_hash,
                turn: self.turn,
                after: self.after,
                request,
            })),
        };
        Next::Think(key, op)
    }

    fn request(&mut self) -> ModelRequest {
        self.tell_to_close();
        let tools: Vec<ToolDef> = match self.closing {
            Some(_) => Vec::new(),
            None => self.tools().map(|tool| tool.def()).collect(),
        };
        ModelRequest {
            messages: self.messages.clone(),
            tools,
            output: None,
            max_tokens: self.spec.limits.max_tokens,
        }
    }

    fn tools(&self) -> impl Iterator<Item = AgentTool<'a>> {
        self.catalog.tools_of(self.spec)
    }

    fn time_for(&self, timeout_s: u32) -> Duration {
        let left = self.allowance.active_ms.saturating_sub(self.active_ms);
        Duration::from_secs(u64::from(timeout_s)).min(Duration::from_millis(left.max(1_000)))
    }

    /// The limit that this call would use up, keeping back as much again for a last summary. The
    /// first call keeps nothing back: there is nothing yet to sum up.
    fn limit_reached(&self, worst: &Usage) -> Option<String> {
        if self.turn == 0 {
            return None;
        }
        let (limit, used) = (self.allowance, self.used);
        if self.steps + 1 >= limit.steps {
            return Some(format!("{} steps", limit.steps));
        }
        if used.tokens() + 2 * worst.tokens() > limit.tokens {
            return Some(format!("{} tokens", limit.tokens));
        }
        if used.usd + worst.usd + worst.usd > limit.usd {
            return Some(limit.usd.to_string());
        }
        if self.active_ms >= limit.active_ms - limit.active_ms / 10 {
            return Some(format!("{} s", limit.active_ms / 1000));
        }
        None
    }

    /// The limit that not even this one call fits in.
    fn forbidden(&self, worst: &Usage) -> Option<String> {
        let limit = self.allowance;
        if self.steps >= limit.steps {
            return Some(format!("{} steps", limit.steps));
        }
        if self.used.tokens() + worst.tokens() > limit.tokens {
            return Some(format!(
                "{} tokens, of which {} are used and the next call may need {}",
                limit.tokens,
                self.used.tokens(),
                worst.tokens()
            ));
        }
        if self.used.usd + worst.usd > limit.usd {
            return Some(format!(
                "{}, of which {} are spent and the next call may cost {}",
                limit.usd, self.used.usd, worst.usd
            ));
        }
        None
    }

    /// Once the work is closing there are no tools any more, only one last reply.
    fn tell_to_close(&mut self) {
        let why = match &self.closing {
            Some(Ending::Limit { limit }) => format!("the limit of {limit} is reached"),
            Some(Ending::Circles { what }) => format!("you went round in circles: {what}"),
            _ => return,
        };
        if std::mem::replace(&mut self.told_to_close, true) {
            return;
        }
        self.notes.push(Note::Decided {
            what: format!("{} sums up and stops", self.spec.name),
            reason: why.clone(),
        });
        self.messages.push(Message::User {
            text: format!(
                "Stop here: {why}. You can call no more tools. Write down what you have found or \
                 done so far, with its sources, and what is still missing."
            ),
        });
    }

    /// Takes note of what the model answered.
    pub fn thought(&mut self, recorded: &Recorded) {
        self.count(recorded, 1);
        let reply = match &recorded.outcome {
            Outcome::Done(value) => serde_json::from_value::<ModelReply>(value.clone()),
            Outcome::Failed(failure) => {
                let failure = failure.clone();
                return self.ended =
                    Some(self.closing.take().unwrap_or(Ending::Failed { failure }));
            }
            Outcome::InDoubt { .. } => return self.misunderstood("the reply was lost"),
        };
        match reply {
            Ok(reply) => self.take(reply),
            Err(error) => self.misunderstood(&error.to_string()),
        }
    }

    fn take(&mut self, reply: ModelReply) {
        if let Some(text) = reply.text.as_deref().filter(|text| !text.trim().is_empty()) {
            self.said = text.trim().to_owned();
        }
        if reply.finish == Finish::Filtered {
            let failure = Failure::new(FailureKind::Permanent, "the provider withheld the answer");
            return self.ended = Some(Ending::Failed { failure });
        }
        if let Some(ending) = self.closing.take() {
            return self.ended = Some(ending);
        }
        if reply.calls.is_empty() {
            return match reply.text.is_some_and(|text| !text.trim().is_empty()) {
                true => self.ended = Some(Ending::Done),
                false => self.misunderstood("the reply was empty"),
            };
        }
        self.malformed = 0;
        let room = self.allowance.steps.saturating_sub(self.steps + 1) as usize;
        for (index, call) in reply.calls.iter().enumerate() {
            let key = StepKey::from(format!("tool/{}.{index}", self.turn));
            let op = match index < room {
                true => self.operation(call),
                false => Err("not called: no steps are left".into()),
            };
            let call = call.clone();
            self.pending.push_back(Pending { call, key, op });
        }
        self.messages.push(Message::Assistant {
            text: reply.text,
            calls: reply.calls,
        });
    }

    /// The operation that a call asks for, or what is wrong with it.
    fn operation(&self, call: &ToolCall) -> Result<Op, String> {
        let args = self
            .gate
            .check(call.name.as_str(), &call.arguments)
            .map_err(|refusal| refusal.to_string())?;
        let tool = self
            .tools()
            .find(|tool| *tool.shown_name() == call.name)
            .ok_or_else(|| format!("there is no tool {}", call.name))?;
        let price = Usage {
            usd: tool.info.price,
            ..Usage::default()
        };
        if self.used.usd + price.usd > self.allowance.usd {
            return Err(format!(
                "not called: {} costs {}, more than is left",
                call.name, price.usd
            ));
        }
        Ok(Op {
            agent: self.spec.name.clone(),
            kind: OpKind::Tool {
                tool: tool.info.name.clone(),
                version: tool.info.version,
                args,
            },
            effect: tool.info.effect,
            timeout: self.time_for(tool.timeout_s()),
            retry: tool.retry(),
            worst_case: price,
        })
    }

    /// Asks again, at most [`REPROMPTS`] times in a row.
    fn misunderstood(&mut self, why: &str) {
        self.malformed += 1;
        if self.malformed > REPROMPTS {
            let failure = Failure::new(
                FailureKind::Malformed,
                format!(
                    "the model's reply could not be used {} times: {why}",
                    self.malformed
                ),
            );
            self.ended = Some(Ending::Failed { failure });
            return;
        }
        self.messages.push(Message::User {
            text: format!(
                "Your reply could not be used: {why}. Answer again, in words or by calling a tool."
            ),
        });
    }

    /// Takes note of what the calls asked for last brought, in their order.
    pub fn called(&mut self, recorded: Vec<Recorded>) {
        let asked = std::mem::take(&mut self.asked);
        let slowest = recorded.iter().map(active_ms).max().unwrap_or(0);
        for (pending, recorded) in asked.into_iter().zip(recorded) {
            self.count(&recorded, 1);
            self.active_ms -= active_ms(&recorded);
            match &recorded.outcome {
                Outcome::Done(value) => self.answer(&pending.call, &text_of(value), false),
                Outcome::Failed(failure) => self.answer(&pending.call, &failure.message, true),
                Outcome::InDoubt { .. } => self.doubt = Some(pending),
            }
        }
        self.active_ms += slowest;
    }

    /// Takes note of what a person said about the step in doubt.
    pub fn resolved(&mut self, answer: Option<Value>) {
        let Some(mut pending) = self.doubt.take() else {
            return;
        };
        let resolution = answer.and_then(|value| serde_json::from_value(value).ok());
        match resolution {
            Some(Resolution::Happened { result }) => {
                self.answer(&pending.call, &text_of(&result), false);
            }
            Some(Resolution::Again) => {
                pending.key = StepKey::from(format!("{}+", pending.key));
                self.pending.push_front(pending);
            }
            Some(Resolution::GiveUp) | None => {
                let text = "nobody knows whether this happened; a person decided to leave it";
                self.answer(&pending.call, text, true);
            }
        }
    }

    /// Answers a call in the conversation, and judges how things go.
    fn answer(&mut self, call: &ToolCall, result: &str, failed: bool) {
        let mut text = match failed {
            true => format!("error: {result}"),
            false => context::shown(result),
        };
        let same = Hash::of_bytes(format!("{}\n{result}", call.arguments).as_bytes());
        match self.guard.observe(&call.name, same) {
            Verdict::Fine => {}
            Verdict::Warn(warning) => text = format!("{text}\n\n[{warning}]"),
            Verdict::Stop(what) if self.closing.is_none() => {
                self.drop_pending();
                self.push_result(call, text);
                return self.closing = Some(Ending::Circles { what });
            }
            Verdict::Stop(_) => {}
        }
        self.push_result(call, text);
        if failed {
            self.failed(call, result);
        }
    }

    fn push_result(&mut self, call: &ToolCall, text: String) {
        let call = call.id.clone();
        self.messages.push(Message::Tool { call, text });
    }

    /// Answers the calls that will not be made any more: each call has exactly one answer.
    fn drop_pending(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            self.push_result(&pending.call, "not called: the work ends here".into());
        }
    }

    fn failed(&mut self, call: &ToolCall, why: &str) {
        let arguments = context::head_and_tail(&call.arguments, 200);
        self.tried
            .push(format!("{}({arguments}): {why}", call.name));
        let count = self.failed_calls.entry(call.name.clone()).or_default();
        *count += 1;
        let failures = *count;
        if failures >= FAILED_CALLS && self.ended.is_none() {
            self.drop_pending();
            self.ended = Some(Ending::Escalated {
                why: format!(
                    "{} failed {failures} times, the last time with: {why}",
                    call.name
                ),
                tried: std::mem::take(&mut self.tried),
            });
        }
    }

    fn count(&mut self, recorded: &Recorded, steps: u32) {
        self.after = Hash::chain(&[self.after, recorded.digest()]);
        self.steps += steps;
        self.used += recorded.usage;
        self.active_ms += active_ms(recorded);
    }

    fn result(&self, ending: Ending) -> Work {
        Work {
            text: self.said.clone(),
            ending,
            steps: self.steps,
            active_ms: self.active_ms,
        }
    }
}

/// What the model is told to do.
fn brief(assignment: &Assignment) -> String {
    let mut text = assignment.task.clone();
    if !assignment.accept.is_empty() {
        text.push_str("\n\nThe result must meet these criteria:");
        for criterion in &assignment.accept {
            text.push_str("\n- ");
            text.push_str(criterion);
        }
    }
    for part in &assignment.results {
        text.push_str(&format!("\n\n## Result of {}\n\n{}", part.agent, part.text));
    }
    text
}

/// The time that a step's attempts took, pauses not counted.
fn active_ms(recorded: &Recorded) -> u64 {
    recorded.attempts.iter().map(|attempt| attempt.ms).sum()
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
