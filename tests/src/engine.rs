//! An engine on a real store, with a program and an executor that the test writes. It counts what is
//! done to the world, which the journal must never have done twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use shared::event::{Event, Live};
use shared::hash::Hash;
use shared::id::{StepKey, TaskId, TenantId};
use shared::label::{Authority, Taint};
use shared::money::Usage;
use shared::retry::RetryPolicy;
use shared::run::{
    Effect, Exec, Executor, Interrupted, Made, NotDone, Op, OpKind, Probe, Report, RunCtx,
};
use shared::store::sqlite::SqliteStore;
use shared::store::{Accepted, NewTask, Run, RunState, Store};
use shared::task::Request;
use supervisor::engine::{Ended, Engine, Parts, Program};

use crate::place::Place;
use crate::wait;

/// How often an engine under test beats, where its lease ends by time.
const BEAT: Duration = Duration::from_millis(200);

/// A run's code, as a test writes it.
pub type Code = dyn for<'a> Fn(&'a dyn RunCtx, &'a Run) -> BoxFuture<'a, Result<Ended, Interrupted>>
    + Send
    + Sync;

/// What the executor does with an attempt.
pub type Act = dyn Fn(Exec) -> BoxFuture<'static, Result<Report, NotDone>> + Send + Sync;

struct Coded(Arc<Code>);

#[async_trait]
impl Program for Coded {
    async fn run(&self, ctx: &dyn RunCtx, run: &Run) -> Result<Ended, Interrupted> {
        (self.0)(ctx, run).await
    }
}

/// The world: counts what was done to it, by step.
#[derive(Default)]
pub struct World {
    done: Mutex<BTreeMap<String, u32>>,
}

impl World {
    /// Does something to the world.
    pub fn touch(&self, key: &StepKey) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        *done.entry(key.to_string()).or_default() += 1;
    }

    /// How often each step was done.
    pub fn done(&self) -> BTreeMap<String, u32> {
        self.done
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

struct Hands {
    act: Arc<Act>,
    world: Arc<World>,
}

#[async_trait]
impl Executor for Hands {
    async fn execute(&self, exec: Exec) -> Result<Made, NotDone> {
        let report = (self.act)(exec).await?;
        Ok(Made { report, ms: 1 })
    }

    async fn probe(&self, exec: Exec) -> Result<Probe, NotDone> {
        Ok(match self.world.done().contains_key(exec.key.as_str()) {
            true => Probe::Happened(done(json!("probed"))),
            false => Probe::DidNot,
        })
    }
}

/// An engine under test. Several in turn may stand on the same place: restarts.
pub struct Bench {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The engine.
    pub engine: Arc<Engine>,
    /// Runs taken over at the start.
    pub resumed: u64,
}

impl Bench {
    /// An engine on the store of `place`; it runs `code` and does `act`.
    pub async fn start(
        place: &Place,
        code: Arc<Code>,
        act: Arc<Act>,
        world: Arc<World>,
        park_after: Duration,
    ) -> Self {
        Self::on(place.open().await, code, act, world, park_after).await
    }

    /// An engine on this store.
    pub async fn on(
        store: Arc<dyn Store>,
        code: Arc<Code>,
        act: Arc<Act>,
        world: Arc<World>,
        park_after: Duration,
    ) -> Self {
        Self::with_slots(store, code, act, world, (64, park_after)).await
    }

    /// An engine that works on so many runs at once.
    pub async fn with_slots(
        store: Arc<dyn Store>,
        code: Arc<Code>,
        act: Arc<Act>,
        world: Arc<World>,
        (live_runs, park_after): (u32, Duration),
    ) -> Self {
        let parts = Parts {
            answers: None,
            store: store.clone(),
            executor: Arc::new(Hands { act, world }),
            program: Arc::new(Coded(code)),
            live_runs,
            park_after,
            beat: BEAT,
            stop_file: None,
        };
        let (engine, resumed) = Engine::start(parts).await.expect("the engine starts");
        engine.begin();
        Self {
            store,
            engine,
            resumed,
        }
    }

    /// Hands in a task.
    pub async fn submit(&self, text: &str) -> TaskId {
        let accepted = self.store.accept(new_task(text)).await;
        match accepted.expect("the task is taken in") {
            Accepted::New(id) | Accepted::Known(id) | Accepted::Conflict(id) => id,
        }
    }

    /// Waits until a task's root run is in one of these states, by listening, not by looking again
    /// and again.
    pub async fn reaches(&self, task: TaskId, states: &[RunState]) -> Run {
        let mut feed = self.store.bell().feed().subscribe();
        let deadline = tokio::time::sleep(Duration::from_secs(30));
        tokio::pin!(deadline);
        loop {
            let run = self
                .store
                .run(&tenant(), task.into())
                .await
                .expect("the store answers");
            let run = run.expect("the run is there");
            if states.contains(&run.state) {
                return run;
            }
            tokio::select! {
                _ = feed.recv() => {}
                // Parking tells nobody: look again soon.
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
                () = &mut deadline => panic!("the run is {:?}, not one of {states:?}", run.state),
            }
        }
    }

    /// Waits until a task has ended.
    pub async fn ends(&self, task: TaskId) -> Run {
        use RunState::{Cancelled, Dead, Done, Failed};
        self.reaches(task, &[Done, Failed, Cancelled, Dead]).await
    }

    /// The task's events.
    pub async fn events(&self, task: TaskId) -> Vec<Event> {
        let events = self.store.events(&tenant(), task, 0, 10_000).await;
        let events = events.expect("the store answers");
        events.into_iter().map(|recorded| recorded.event).collect()
    }

    /// Takes everything out of memory, as an ordered stop does.
    pub async fn stop(self) {
        self.engine.freeze(Duration::from_secs(5)).await;
        self.store.close().await;
    }
}

/// Opens the store in a folder. The lock of an engine that was just dropped may take a moment.
pub async fn open(folder: &Path) -> SqliteStore {
    let opened = wait::within(Duration::from_secs(5), async || {
        match SqliteStore::open(folder).await {
            Ok(store) => Some(store),
            Err(shared::store::Error::Locked { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    });
    opened.await.expect("the data folder stays locked")
}

/// Whose tasks the tests hand in.
pub fn tenant() -> TenantId {
    "default".into()
}

/// A task with this text.
pub fn new_task(text: &str) -> NewTask {
    NewTask {
        id: TaskId::fresh(),
        submitted_by: "test".into(),
        request: Request {
            text: text.into(),
            agent: None,
            channel: "cli".into(),
            thread: None,
            metadata: BTreeMap::new(),
            budget: shared::task::Budget::default(),
            said: Default::default(),
            priority: 0,
            images: Vec::new(),
        },
        authority: Authority {
            tenant: tenant(),
            principal: "test".into(),
            material: None,
            output: None,
        },
        catalog: Hash::of_bytes(b"none"),
        dedupe: None,
        worker: None,
        card: None,
        blobs: Vec::new(),
    }
}

/// A tool call of this effect class.
pub fn tool(effect: Effect, args: Value) -> Op {
    Op {
        agent: "executor".into(),
        kind: OpKind::Tool {
            tool: "touch".into(),
            version: 1,
            args,
        },
        effect,
        timeout: Duration::from_secs(5),
        approval: None,
        ruled: None,
        retry: RetryPolicy {
            base_s: 0.001,
            ..RetryPolicy::default()
        },
        worst_case: Usage {
            usd: shared::money::Usd::from_nano(match effect {
                Effect::Pure => 0,
                _ => 7,
            }),
            ..Usage::default()
        },
        last: false,
    }
}

/// The report of something done.
pub fn done(value: Value) -> Report {
    Report {
        result: Ok(value),
        usage: Some(Usage::default()),
        taint: Taint::NONE,
        evidence: Vec::new(),
        blobs: Vec::new(),
    }
}

/// A run that ends well with this value.
pub fn ended(value: Value) -> Ended {
    Ended {
        result: Ok(value.clone()),
        task: Some(shared::store::TaskEnd {
            state: shared::task::TaskState::Done,
            answer: Some(value.to_string()),
            partial: None,
            error: None,
        }),
    }
}

/// The next committed event of a feed.
pub async fn next_event(feed: &mut tokio::sync::broadcast::Receiver<Live>) -> Event {
    loop {
        match feed.recv().await {
            Ok(Live::Event(recorded)) => return recorded.event,
            Ok(Live::Delta { .. }) => {}
            Err(error) => panic!("the feed ended: {error}"),
        }
    }
}
