//! The root actor: owner of the agents' actors. It starts them, restarts those that fail, and stops
//! them when the process goes down. Everybody else holds an [`Agents`] handle.
//!
//! Restart policy, written out: an agent's actor is `Transient` (a crash restarts it, an ordered stop
//! does not), at most [`RESTARTS`] times within [`WITHIN`]; beyond that the agent stays away, its
//! operations pend and `/readyz` says so. The root actor itself is not restarted; the next start of
//! the process goes on from the journal.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use kameo::actor::{Actor, ActorId, ActorRef, Spawn, WeakActorRef};
use kameo::error::{ActorStopReason, Infallible, SendError};
use kameo::mailbox;
use kameo::message::{Context, Message};
use kameo::supervision::{RestartPolicy, SupervisionStrategy};

use agents::actor::{AgentActor, Ask, Equipment, Execute};
use shared::id::AgentName;
use shared::run::{Exec, Executor, Failure, FailureKind, Made, NotDone, Probe, Report};

/// Messages that may wait for an agent's actor; its handlers only hand work on.
const MAILBOX: usize = 1024;
/// How long an engine waits for room in a mailbox before it asks again.
const MAILBOX_FULL: Duration = Duration::from_secs(1);
/// Restarts of one agent's actor before it stays away.
const RESTARTS: u32 = 20;
/// The time in which so many restarts are too many.
const WITHIN: Duration = Duration::from_secs(60);

/// The agents' actors by name, for those who ask them.
#[derive(Clone, Default)]
pub struct Agents(Arc<RwLock<HashMap<AgentName, ActorRef<AgentActor>>>>);

impl Agents {
    fn publish(&self, name: AgentName, actor: ActorRef<AgentActor>) {
        let mut agents = self.0.write().unwrap_or_else(PoisonError::into_inner);
        agents.insert(name, actor);
    }

    /// The actor of this agent.
    pub fn get(&self, name: &AgentName) -> Option<ActorRef<AgentActor>> {
        let agents = self.0.read().unwrap_or_else(PoisonError::into_inner);
        agents.get(name).cloned()
    }

    /// Agents whose actor is not running.
    pub fn away(&self) -> Vec<AgentName> {
        let agents = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let dead = |(_, actor): &(&AgentName, &ActorRef<AgentActor>)| !actor.is_alive();
        agents
            .iter()
            .filter(dead)
            .map(|(name, _)| name.clone())
            .collect()
    }
}

/// The root actor.
pub struct Supervisor {
    agents: Agents,
}

/// What the root actor starts with.
pub struct Roster {
    /// What each agent has.
    pub equipment: Vec<Equipment>,
    /// Where the actors are published.
    pub agents: Agents,
}

impl Actor for Supervisor {
    type Args = Roster;
    type Error = Infallible;

    fn name() -> &'static str {
        "supervisor"
    }

    fn supervision_strategy() -> SupervisionStrategy {
        SupervisionStrategy::OneForOne
    }

    async fn on_start(roster: Roster, this: ActorRef<Self>) -> Result<Self, Infallible> {
        for equipment in roster.equipment {
            let name = equipment.name.clone();
            let actor = AgentActor::supervise(&this, Arc::new(equipment))
                .restart_policy(RestartPolicy::Transient)
                .restart_limit(RESTARTS, WITHIN)
                .spawn_with_mailbox(mailbox::bounded(MAILBOX))
                .await;
            actor.wait_for_startup().await;
            roster.agents.publish(name, actor);
        }
        Ok(Self {
            agents: roster.agents,
        })
    }

    /// An agent that stays away takes nobody with it.
    async fn on_link_died(
        &mut self,
        _: WeakActorRef<Self>,
        id: ActorId,
        reason: ActorStopReason,
    ) -> Result<ControlFlow<ActorStopReason>, Infallible> {
        tracing::error!(actor = %id, %reason, "an agent's actor stays away");
        Ok(ControlFlow::Continue(()))
    }
}

/// Stop the agents' actors. Sent when the runs are out of memory.
pub struct StopAgents;

impl Message<StopAgents> for Supervisor {
    type Reply = ();

    async fn handle(&mut self, _: StopAgents, ctx: &mut Context<Self, ()>) {
        let agents = self
            .agents
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .drain()
            .collect::<Vec<_>>();
        for (_, actor) in agents {
            // One that has stopped already needs no word.
            let _ = actor.stop_gracefully().await;
        }
        ctx.stop();
    }
}

#[async_trait]
impl Executor for Agents {
    async fn execute(&self, exec: Exec) -> Result<Made, NotDone> {
        let Some(actor) = self.get(&exec.op.agent) else {
            let report = Report::failed(unknown(&exec));
            return Ok(Made { report, ms: 0 });
        };
        let asked = actor.ask(Execute(exec)).mailbox_timeout(MAILBOX_FULL).await;
        asked.map(|executed| executed.0).map_err(not_done)
    }

    async fn probe(&self, exec: Exec) -> Result<Probe, NotDone> {
        let Some(actor) = self.get(&exec.op.agent) else {
            return Ok(Probe::Unknown(unknown(&exec).message));
        };
        let asked = actor.ask(Ask(exec)).mailbox_timeout(MAILBOX_FULL).await;
        asked.map(|asked| asked.0).map_err(not_done)
    }
}

/// A run may outlive its agent's place in the configuration.
fn unknown(exec: &Exec) -> Failure {
    let text = format!("agent {} is not configured any more", exec.op.agent);
    Failure::new(FailureKind::Permanent, text)
}

/// An ask that failed is never an outcome: it says only whether somebody may have begun.
fn not_done<M, E>(error: SendError<M, E>) -> NotDone {
    match error {
        SendError::ActorNotRunning(_) => NotDone::NotDelivered("the actor is not running".into()),
        SendError::ActorRestarting(_) => NotDone::NotDelivered("the actor is restarting".into()),
        SendError::MailboxFull(_) | SendError::Timeout(Some(_)) => {
            NotDone::NotDelivered("the actor's mailbox is full".into())
        }
        SendError::ActorStopped => NotDone::NoReply("the actor stopped".into()),
        SendError::HandlerError(_) => NotDone::NoReply("the actor's handler failed".into()),
        SendError::Timeout(None) => NotDone::NoReply("the actor did not reply".into()),
    }
}
