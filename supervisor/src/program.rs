//! What runs do, by their kind: a task is supervised, an agent works off its assignment. The kind
//! carries the loop's version; a run goes on by the version that it was started with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::Value;

use agents::catalog::Catalog;
use agents::run::Assignment;
use agents::tools::gate::{Gate, InvalidSchema};
use shared::hash::Hash;
use shared::id::{AgentName, TenantId, ToolName};
use shared::run::{Failure, FailureKind, Interrupted, Interruption, RunCtx};
use shared::store::{Error, Run, Store, kind};
use shared::task::Request;

use crate::engine::{Ended, Program};
use crate::supervise::supervise;

/// The programs, and the catalogs that runs work by.
pub struct Programs {
    store: Arc<dyn Store>,
    catalogs: Mutex<HashMap<Hash, Arc<Prepared>>>,
}

/// A catalog, ready to be worked by.
pub struct Prepared {
    /// The catalog.
    pub catalog: Catalog,
    gates: HashMap<AgentName, Gate>,
}

impl Prepared {
    fn new(catalog: Catalog) -> Result<Self, InvalidSchema> {
        let gate = |(name, spec): (&AgentName, &shared::config::AgentSpec)| {
            let defs = catalog.tools_of(spec).map(|tool| tool.def());
            Ok((name.clone(), Gate::new(defs)?))
        };
        Ok(Self {
            gates: catalog.agents.iter().map(gate).collect::<Result<_, _>>()?,
            catalog,
        })
    }
}

impl Programs {
    /// Programs that read their catalogs from this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            catalogs: Mutex::default(),
        }
    }

    /// The catalog of this hash.
    ///
    /// The inner error is in words: the catalog is not there or does not read, now or ever.
    async fn catalog(
        &self,
        tenant: &TenantId,
        hash: Hash,
    ) -> Result<Result<Arc<Prepared>, String>, Interrupted> {
        if let Some(known) = self.lock().get(&hash) {
            return Ok(Ok(known.clone()));
        }
        let body = self.store.content(tenant, hash).await;
        let body = body.map_err(|error| Interrupted(Interruption::Store(error.to_string())))?;
        let prepared = match body.as_deref().map(prepare) {
            None => return Ok(Err(format!("catalog {hash} is missing"))),
            Some(Err(why)) => return Ok(Err(format!("catalog {hash}: {why}"))),
            Some(Ok(prepared)) => Arc::new(prepared),
        };
        self.lock().insert(hash, prepared.clone());
        Ok(Ok(prepared))
    }

    /// Whether these arguments are a call of an agent's tool, by the catalog of this hash. The inner error
    /// says in words why not.
    pub async fn check(
        &self,
        tenant: &TenantId,
        catalog: Hash,
        (agent, tool): (&AgentName, &ToolName),
        args: &Value,
    ) -> Result<Result<(), String>, Error> {
        let gone = |error: Interrupted| Error::Database(error.to_string());
        let prepared = match self.catalog(tenant, catalog).await.map_err(gone)? {
            Ok(prepared) => prepared,
            Err(why) => return Ok(Err(why)),
        };
        let found = prepared.catalog.agents.get(agent).and_then(|spec| {
            let mut tools = prepared.catalog.tools_of(spec);
            let shown = tools
                .find(|known| known.info.name == *tool)?
                .shown_name()
                .clone();
            Some((shown, prepared.gates.get(agent)?))
        });
        let Some((shown, gate)) = found else {
            return Ok(Err(format!("agent {agent} has no tool {tool}")));
        };
        let checked = gate.check(shown.as_str(), &args.to_string());
        Ok(match checked {
            Ok(read) if read == *args => Ok(()),
            // What the gate mends is not what somebody approved.
            Ok(read) => Err(format!("write them as {read}")),
            Err(refusal) => Err(refusal.to_string()),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Hash, Arc<Prepared>>> {
        self.catalogs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prepare(body: &str) -> Result<Prepared, String> {
    let catalog = Catalog::from_content(body).map_err(|error| error.to_string())?;
    Prepared::new(catalog).map_err(|error| error.to_string())
}

#[async_trait]
impl Program for Programs {
    async fn run(&self, ctx: &dyn RunCtx, run: &Run) -> Result<Ended, Interrupted> {
        let prepared = match self.catalog(&run.authority.tenant, run.catalog).await? {
            Ok(prepared) => prepared,
            Err(why) => return Ok(unreadable(why)),
        };
        match run.kind.as_str() {
            kind::TASK => run_task(ctx, &prepared, run).await,
            kind::AGENT => run_agent(ctx, &prepared, run).await,
            other => Ok(unreadable(format!("this version cannot run {other}"))),
        }
    }
}

async fn run_task(ctx: &dyn RunCtx, prepared: &Prepared, run: &Run) -> Result<Ended, Interrupted> {
    let request: Request = match serde_json::from_value(run.input.clone()) {
        Ok(request) => request,
        Err(error) => return Ok(unreadable(format!("the request does not read: {error}"))),
    };
    let end = supervise(ctx, &prepared.catalog, &request).await?;
    let result = match (&end.answer, &end.error) {
        (_, Some(error)) => Err(Failure::new(FailureKind::Permanent, error.clone())),
        (answer, None) => Ok(answer.clone().into()),
    };
    Ok(Ended {
        result,
        task: Some(end),
    })
}

async fn run_agent(ctx: &dyn RunCtx, prepared: &Prepared, run: &Run) -> Result<Ended, Interrupted> {
    let found = run.agent.as_ref().and_then(|name| {
        let spec = prepared.catalog.agents.get(name)?;
        Some((spec, prepared.gates.get(name)?))
    });
    let Some((spec, gate)) = found else {
        return Ok(unreadable("the run names no agent of its catalog".into()));
    };
    let assignment: Assignment = match serde_json::from_value(run.input.clone()) {
        Ok(assignment) => assignment,
        Err(error) => return Ok(unreadable(format!("the assignment does not read: {error}"))),
    };
    let work = agents::run::work(ctx, &prepared.catalog, spec, gate, assignment).await?;
    Ok(Ended {
        result: serde_json::to_value(work)
            .map_err(|error| Failure::new(FailureKind::Permanent, error.to_string())),
        task: None,
    })
}

fn unreadable(why: String) -> Ended {
    Ended {
        result: Err(Failure::new(FailureKind::Permanent, why.clone())),
        task: Some(shared::store::TaskEnd {
            state: shared::task::TaskState::Failed,
            answer: None,
            partial: None,
            error: Some(why),
        }),
    }
}
