//! The durable engine: runs from the queue, into memory, through their journal, and out again.
//!
//! ```text
//!   queue ──claim──► dispatch ──drive──► program(&dyn RunCtx) ──► Journal ──append──► store
//!     ▲                                        │                     │
//!     └──── release / park / wake ◄────────────┘                     └──ask──► Executor (actors)
//! ```
//! [`journal`] is `RunCtx` over the store; [`recover`] decides, purely, what becomes of a step that
//! was begun; [`dispatch`] claims runs and drives them, as long as its [`lease`] lasts; [`replay`] walks a journal without doing
//! anything; [`brake`] stops all of it by a file. Nothing here knows what a task or an agent is.

pub mod brake;
mod dispatch;
mod journal;
mod lease;
mod recover;
pub mod replay;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use lease::Term;
use shared::ask::Ask;
use shared::id::{AskId, RunId};
use shared::run::{Executor, Failure, Interrupted, RunCtx};
use shared::store::{Accepted, NewTask, Run, Store, TaskEnd};

/// What an engine is made of.
pub struct Parts {
    /// The journal.
    pub store: Arc<dyn Store>,
    /// Those who do the work.
    pub executor: Arc<dyn Executor>,
    /// What runs do, by their kind.
    pub program: Arc<dyn Program>,
    /// Runs worked on in memory at once.
    pub live_runs: u32,
    /// Who may answer what runs ask before people do.
    pub answers: Option<Arc<dyn Answers>>,
    /// How long a waiting run stays in memory.
    pub park_after: Duration,
    /// How often the worker's lease is extended, where it ends by time. Far below its length.
    pub beat: Duration,
    /// The file that stops this process while it is there.
    pub stop_file: Option<PathBuf>,
}

/// What runs do: ordinary async code over a [`RunCtx`].
#[async_trait]
pub trait Program: Send + Sync {
    /// Runs `run` from its beginning; the context serves what was recorded before.
    async fn run(&self, ctx: &dyn RunCtx, run: &Run) -> Result<Ended, Interrupted>;
}

/// Who may answer what runs ask before people do.
#[async_trait]
pub trait Answers: Send + Sync {
    /// Looks at what a run waits for; called whenever it begins to wait, again after each restart. What is
    /// decided is delivered by [`Store`].
    async fn consider(&self, id: AskId, ask: &Ask) -> Result<(), shared::store::Error>;
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What its parent's step records.
    pub result: Result<Value, Failure>,
    /// How the task ended, where it was the root run.
    pub task: Option<TaskEnd>,
}

/// The engine of one process.
pub struct Engine {
    store: Arc<dyn Store>,
    executor: Arc<dyn Executor>,
    program: Arc<dyn Program>,
    answers: Option<Arc<dyn Answers>>,
    term: Mutex<Arc<Term>>,
    beat: Duration,
    stop_file: Option<PathBuf>,
    park_after: Duration,
    slots: Arc<Semaphore>,
    frozen: CancellationToken,
    dropped: CancellationToken,
    gone: CancellationToken,
    drivers: TaskTracker,
    /// The runs that are driven here, and how often: one may come back before its last driver has seen
    /// that it left.
    driven: Mutex<HashMap<RunId, u32>>,
}

impl Engine {
    /// Registers a fresh worker with the store; the runs of workers that are gone are queued again.
    /// Nothing runs until [`Engine::begin`]. Answers how many were taken over.
    pub async fn start(parts: Parts) -> Result<(Arc<Self>, u64), shared::store::Error> {
        let (term, recovered) = Term::begin(&*parts.store, None).await?;
        let engine = Self {
            store: parts.store,
            executor: parts.executor,
            program: parts.program,
            answers: parts.answers,
            term: Mutex::new(term),
            beat: parts.beat,
            stop_file: parts.stop_file,
            park_after: parts.park_after,
            slots: Arc::new(Semaphore::new(parts.live_runs.max(1) as usize)),
            frozen: CancellationToken::new(),
            dropped: CancellationToken::new(),
            gone: CancellationToken::new(),
            drivers: TaskTracker::new(),
            driven: Mutex::default(),
        };
        engine.mind_file();
        Ok((Arc::new(engine), recovered))
    }

    /// Begins to claim runs and to drive them. Once per engine.
    pub fn begin(self: &Arc<Self>) {
        // Among the drivers, so that nothing is claimed any more when a freeze is over.
        self.drivers.spawn(self.clone().dispatch());
        if self.store.lease().is_some() {
            self.drivers.spawn(self.clone().reap());
            // Not among them: the lease must last until the last driver has ended.
            tokio::spawn(self.clone().keep_lease(self.beat));
        }
    }

    /// Takes a task in. With a slot free it is this worker's from the commit that takes it in, and
    /// runs at once; else it is queued for whoever has one. Safe to repeat with the same key.
    pub async fn accept(
        self: &Arc<Self>,
        mut task: NewTask,
    ) -> Result<Accepted, shared::store::Error> {
        let term = self.term();
        let slot = match term.is_live() && !self.frozen.is_cancelled() {
            true => self.slots.clone().try_acquire_owned().ok(),
            false => None,
        };
        task.worker = slot.as_ref().map(|_| term.worker);
        let root = task.root(self.store.now());
        // In a task of its own: this future may be dropped while the commit is under way, and what
        // was committed must run all the same.
        let engine = self.clone();
        let accepted = self.drivers.spawn(async move {
            let accepted = engine.store.accept(task).await;
            if let (Ok(Accepted::New(_)), Some(slot)) = (&accepted, slot) {
                engine.adopt(root, term, Some(slot), None);
            }
            accepted
        });
        let gone = |error: tokio::task::JoinError| {
            shared::store::Error::Database(format!("the commit was not awaited: {error}"))
        };
        accepted.await.map_err(gone)?
    }

    /// Takes all runs out of memory: no step begins any more, those that go on get `grace` to end.
    /// On return every run is parked, ended or queued again, and nothing is being worked on.
    pub async fn freeze(&self, grace: Duration) {
        self.frozen.cancel();
        self.drivers.close();
        if tokio::time::timeout(grace, self.drivers.wait())
            .await
            .is_err()
        {
            self.dropped.cancel();
            self.drivers.wait().await;
        }
        self.gone.cancel();
    }

    /// Who works here now. Another one after a lease that was lost.
    pub fn worker(&self) -> shared::id::WorkerId {
        self.term().worker
    }

    /// Whether what is done here still counts: the worker's lease lasts.
    pub fn is_live(&self) -> bool {
        self.term().is_live()
    }

    /// The runs that are driven here.
    fn here(&self) -> Vec<RunId> {
        self.lock_driven().keys().copied().collect()
    }

    fn lock_driven(&self) -> MutexGuard<'_, HashMap<RunId, u32>> {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker that new runs are taken under.
    fn term(&self) -> Arc<Term> {
        self.lock_term().clone()
    }

    fn set_term(&self, term: Arc<Term>) {
        *self.lock_term() = term;
    }

    fn lock_term(&self) -> MutexGuard<'_, Arc<Term>> {
        self.term.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
