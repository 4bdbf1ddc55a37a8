//! One actor for each agent: the owner of its model, its tools and its share of concurrency. It does
//! one attempt at one operation when asked, or says what a call would reach, and nothing else; a tool
//! that the agent's file does not name is not here at all. Before a tool is called, the call is held
//! against the policy as it is now, and against what was approved of it.
//!
//! ```text
//!   engine ──ask Execute──► AgentActor ──spawn──► gate ──► model or tool
//!      ▲                                                      │
//!      └─────────────────── delegated reply ──────────────────┘
//! ```
//! The mailbox never blocks: the handler ends at once and the work replies by itself. A panic in a
//! tool ends that one operation, not the actor; a restart of the actor ends none.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kameo::Reply;
use kameo::actor::{Actor, ActorRef};
use kameo::error::Infallible;
use kameo::message::{Context, Message};
use kameo::reply::DelegatedReply;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use shared::ask::{Action, Preview};
use shared::clock;
use shared::config::ApprovalSettings;
use shared::hash::Hash;
use shared::id::{AgentName, ToolName};
use shared::label::Taint;
use shared::model::{Call, Model};
use shared::money::Usage;
use shared::run::{Exec, Failure, FailureKind, Made, OpKind, Probe, Report, Think};

use crate::policy::{self, Ruling};
use crate::tools::{Tool, ToolCall};

/// How long a call that was cancelled may take to end by itself before it is cut off.
const CUT: Duration = Duration::from_secs(1);

/// What an agent has.
#[derive(Clone)]
pub struct Equipment {
    /// Its name.
    pub name: AgentName,
    /// The model that it thinks with.
    pub model: Arc<dyn Model>,
    /// The model's name at its provider, for traces.
    pub model_name: Arc<str>,
    /// Which of its calls people must have been asked about.
    pub approvals: Arc<ApprovalSettings>,
    /// Its tools, by their own names.
    pub tools: HashMap<ToolName, Arc<dyn Tool>>,
    /// One for each call of its model and tools that may go on at once, over all tasks. They outlive
    /// a restart of the actor, as the work that holds them does.
    pub permits: Arc<Semaphore>,
}

/// The agent's actor.
pub struct AgentActor {
    equipment: Arc<Equipment>,
}

/// Make one attempt at an operation.
pub struct Execute(pub Exec);

/// Find out whether an earlier attempt at an operation happened.
pub struct Ask(pub Exec);

/// The reply to [`Execute`].
#[derive(Reply)]
pub struct Executed(pub Made);

/// The reply to [`Ask`].
#[derive(Reply)]
pub struct Asked(pub Probe);

impl Actor for AgentActor {
    type Args = Arc<Equipment>;
    type Error = Infallible;

    async fn on_start(equipment: Self::Args, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self { equipment })
    }
}

impl Message<Execute> for AgentActor {
    type Reply = DelegatedReply<Executed>;

    async fn handle(
        &mut self,
        Execute(exec): Execute,
        ctx: &mut Context<Self, Self::Reply>,
    ) -> Self::Reply {
        let equipment = self.equipment.clone();
        let span = span_of(&exec, &equipment);
        let work = async move {
            let _permit = equipment.permits.acquire().await;
            let watch = clock::stopwatch();
            let report = equipment.execute(&exec).await;
            let ms = watch.ms();
            Executed(Made { report, ms })
        };
        ctx.spawn(work.instrument(span))
    }
}

impl Message<Ask> for AgentActor {
    type Reply = DelegatedReply<Asked>;

    async fn handle(
        &mut self,
        Ask(exec): Ask,
        ctx: &mut Context<Self, Self::Reply>,
    ) -> Self::Reply {
        let equipment = self.equipment.clone();
        ctx.spawn(async move { Asked(equipment.probe(&exec).await) })
    }
}

impl Equipment {
    /// Makes one attempt, within its time; waiting for a permit is not part of it. A panic becomes a
    /// failure that may have happened. One that is not wanted any more is not begun, or is cut off where it
    /// does not end by itself.
    async fn execute(&self, exec: &Exec) -> Report {
        if exec.cancel.is_cancelled() {
            return unwanted(exec, false);
        }
        tokio::select! {
            biased;
            report = self.attempt(exec) => report,
            () = overdue(&exec.cancel) => unwanted(exec, true),
        }
    }

    async fn attempt(&self, exec: &Exec) -> Report {
        let attempt = async {
            match &exec.op.kind {
                OpKind::Think(think) => self.think(exec, think).await,
                OpKind::Tool {
                    tool,
                    version,
                    args,
                } => match self.tools.get(tool) {
                    Some(found) => match self.gatekeep(exec, (found, args), *version).await {
                        Ok(approved) => {
                            let approved = approved.as_ref();
                            found.call(call_of(exec, args, approved)).await
                        }
                        Err(failure) => Report::failed(failure),
                    },
                    None => Report::failed(self.lacks(tool)),
                },
                OpKind::Preview {
                    tool, args, policy, ..
                } => match self.tools.get(tool) {
                    Some(found) => preview(exec, (found, args), *policy).await,
                    None => Report::failed(self.lacks(tool)),
                },
            }
        };
        let attempt = tokio::time::timeout(exec.op.timeout, attempt);
        let outcome = AssertUnwindSafe(attempt).catch_unwind().await;
        let in_time = outcome.map(|done| done.unwrap_or_else(|_| timed_out(exec)));
        in_time.unwrap_or_else(|_| {
            let text = format!("{} panicked", exec.op.kind.name());
            tracing::error!(agent.name = %self.name, step = %exec.key, text);
            Report {
                usage: None,
                ..Report::failed(Failure::new(FailureKind::Permanent, text).may_have_happened())
            }
        })
    }

    /// Lets a call pass that nobody need be asked about, or that somebody approved just as it stands at this
    /// moment; answers what it would reach, where that was approved. Whoever made the operation has looked
    /// already: this is the other lock. What is forbidden now is forbidden; who is asked goes by the policy
    /// under which the task was accepted.
    async fn gatekeep(
        &self,
        exec: &Exec,
        (tool, args): (&Arc<dyn Tool>, &Value),
        version: u32,
    ) -> Result<Option<Preview>, Failure> {
        let refused = |why: String| Failure::new(FailureKind::Permanent, why);
        let name = &tool.info().name;
        if version != tool.info().version {
            return Err(refused(format!(
                "not done: {name} is not any more what the task began with; hand the task in again"
            )));
        }
        let ruled = exec.op.ruled;
        let wanted = policy::Wanted {
            agent: &self.name,
            tool: tool.info(),
            args,
            tainted: ruled.is_some_and(|ruled| ruled.tainted),
            // Only the loop has read what the run was given.
            address_known: true,
        };
        let ruling = policy::rule(&self.approvals, &wanted);
        if let Ruling::Refused(why) = ruling {
            return Err(refused(format!("not done: {why}")));
        }
        if let Some(approval) = &exec.approval {
            let now = action(exec, (tool, args), approval.asked.policy).await?;
            approval
                .lets(&now)
                .map_err(|why| refused(format!("not done: {why}")))?;
            return Ok(Some(now.preview));
        }
        let same = ruled.is_some_and(|ruled| ruled.policy == self.approvals.version());
        match ruling {
            Ruling::Asked { .. } if same => Err(refused(format!(
                "not done: nobody was asked about this call of {name}, and the policy wants it"
            ))),
            _ => Ok(None),
        }
    }

    async fn think(&self, exec: &Exec, think: &Think) -> Report {
        let call = Call {
            request: &think.request,
            blobs: &exec.blobs,
            effect_key: exec.effect_key,
            cancel: &exec.cancel,
            sink: &exec.sink,
        };
        let (reply, usage) = self.model.ask(call).await;
        let result = reply.and_then(|reply| {
            serde_json::to_value(&reply)
                .map_err(|error| Failure::new(FailureKind::Malformed, error.to_string()))
        });
        Report {
            result,
            usage,
            taint: Taint::NONE,
            evidence: Vec::new(),
            blobs: Vec::new(),
        }
    }

    async fn probe(&self, exec: &Exec) -> Probe {
        if exec.cancel.is_cancelled() {
            return Probe::Unknown("it was not asked: nobody waits any more".into());
        }
        let OpKind::Tool { tool, args, .. } = &exec.op.kind else {
            return Probe::Unknown("a model cannot be asked what it did".into());
        };
        let Some(found) = self.tools.get(tool) else {
            return Probe::Unknown(self.lacks(tool).message);
        };
        let asked = AssertUnwindSafe(found.probe(call_of(exec, args, None))).catch_unwind();
        let panicked = |_| Probe::Unknown(format!("{tool} panicked when asked"));
        asked.await.unwrap_or_else(panicked)
    }

    fn lacks(&self, tool: &ToolName) -> Failure {
        let text = format!("agent {} has no tool {tool}", self.name);
        Failure::new(FailureKind::Permanent, text)
    }
}

/// Says what a call would do.
async fn preview(exec: &Exec, call: (&Arc<dyn Tool>, &Value), policy: Hash) -> Report {
    let result = match action(exec, call, policy).await {
        Ok(action) => serde_json::to_value(action)
            .map_err(|error| Failure::new(FailureKind::Permanent, error.to_string())),
        Err(failure) => Err(failure),
    };
    Report {
        result,
        usage: Some(Usage::default()),
        taint: Taint::NONE,
        evidence: Vec::new(),
        blobs: Vec::new(),
    }
}

/// What a call would do, as things are at this moment.
async fn action(
    exec: &Exec,
    (tool, args): (&Arc<dyn Tool>, &Value),
    policy: Hash,
) -> Result<Action, Failure> {
    Ok(Action {
        tool: tool.info().name.clone(),
        version: tool.info().version,
        args: args.clone(),
        preview: tool.preview(call_of(exec, args, None)).await?,
        tenant: exec.authority.tenant.clone(),
        principal: exec.authority.principal.clone(),
        run: exec.run,
        policy,
    })
}

/// Ends when what was cancelled has had its time to end by itself.
async fn overdue(cancel: &CancellationToken) {
    cancel.cancelled().await;
    tokio::time::sleep(CUT).await;
}

/// Nobody waits for this any more: what is reported, nobody hears.
fn unwanted(exec: &Exec, begun: bool) -> Report {
    let text = format!("{} is not wanted any more", exec.op.kind.name());
    let failure = Failure::new(FailureKind::Transient, text);
    match begun {
        true => Report {
            usage: None,
            ..Report::failed(failure.may_have_happened())
        },
        false => Report::failed(failure),
    }
}

/// The far side did not answer in time: it may have done what was asked.
fn timed_out(exec: &Exec) -> Report {
    exec.cancel.cancel();
    let text = format!(
        "{} did not answer within {} s",
        exec.op.kind.name(),
        exec.op.timeout.as_secs_f64()
    );
    Report {
        usage: None,
        ..Report::failed(Failure::new(FailureKind::Transient, text).may_have_happened())
    }
}

fn call_of<'a>(exec: &'a Exec, args: &'a Value, approved: Option<&'a Preview>) -> ToolCall<'a> {
    ToolCall {
        args,
        authority: &exec.authority,
        effect_key: exec.effect_key,
        attempt: exec.attempt,
        approved,
        cancel: &exec.cancel,
    }
}

/// The span of one attempt, by OpenTelemetry's names for generative AI.
fn span_of(exec: &Exec, equipment: &Equipment) -> tracing::Span {
    match &exec.op.kind {
        OpKind::Think(_) => tracing::info_span!(
            parent: &exec.span,
            "chat",
            otel.kind = "client",
            gen_ai.operation.name = "chat",
            gen_ai.agent.name = %equipment.name,
            gen_ai.request.model = %equipment.model_name,
            step = %exec.key,
            attempt = exec.attempt,
        ),
        OpKind::Tool { tool, .. } | OpKind::Preview { tool, .. } => tracing::info_span!(
            parent: &exec.span,
            "execute_tool",
            otel.kind = "internal",
            gen_ai.operation.name = "execute_tool",
            gen_ai.agent.name = %equipment.name,
            gen_ai.tool.name = %tool,
            step = %exec.key,
            attempt = exec.attempt,
        ),
    }
}
