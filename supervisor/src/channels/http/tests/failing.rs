//! A store that refuses to take tasks in, for what the door says then; all else is the real one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use axum::http::{StatusCode, header};
use serde_json::{Value, json};
use shared::blob::Blob;
use shared::event;
use shared::hash::Hash;
use shared::id::{PrincipalId, RunId, SignalName, StepKey, TaskId, TenantId, WorkerId};
use shared::run::Timestamp;
use shared::store::{
    Accepted, Again, Appended, Asks, Bell, Budgets, Census, Checkup, Claimed, DeadRun, Delivered,
    Duty, Entry, Error, Feedbacks, Fence, Halts, Identities, Mailroom, NewSignal, NewTask, Permits,
    Renewed, Run, Step, Store, TaskFilter, Token,
};
use shared::task::Task;

use super::*;

struct Failing {
    store: Arc<dyn Store>,
    /// How often its health was asked for.
    asked: Arc<AtomicU32>,
}

macro_rules! passed_on {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Store for Failing {
            fn now(&self) -> Timestamp { self.store.now() }
            fn bell(&self) -> &Bell { self.store.bell() }
            fn mail(&self) -> &dyn Mailroom { self.store.mail() }
            fn identities(&self) -> &dyn Identities { self.store.identities() }
            fn asks(&self) -> &dyn Asks { self.store.asks() }
            fn permits(&self) -> &dyn Permits { self.store.permits() }
            fn feedback(&self) -> &dyn Feedbacks { self.store.feedback() }
            fn halts(&self) -> &dyn Halts { self.store.halts() }
            fn budgets(&self) -> &dyn Budgets { self.store.budgets() }
            fn lease(&self) -> Option<Duration> { self.store.lease() }
            async fn accept(&self, _: NewTask) -> Result<Accepted, Error> {
                Err(Error::Database("the disk is full".into()))
            }
            async fn probe(&self) -> Result<(), Error> {
                self.asked.fetch_add(1, Ordering::SeqCst);
                Err(Error::Database("the disk is full".into()))
            }
            async fn census(&self) -> Result<Census, Error> {
                self.asked.fetch_add(1, Ordering::SeqCst);
                self.store.census().await
            }
            async fn close(&self) { self.store.close().await }
            $(async fn $name(&self, $($arg: $type),*) -> Result<$answer, Error> {
                self.store.$name($($arg),*).await
            })*
        }
    };
}

passed_on! {
    register(worker: WorkerId, before: Option<WorkerId>) -> u64;
    claim(worker: WorkerId, limit: u32) -> Claimed;
    append(fence: Fence, entry: Entry) -> Appended;
    beat(worker: WorkerId) -> bool;
    reap(worker: WorkerId, here: &[RunId]) -> u64;
    steps(tenant: &TenantId, run: RunId) -> Vec<Step>;
    step(tenant: &TenantId, run: RunId, key: &StepKey) -> Option<Step>;
    run(tenant: &TenantId, run: RunId) -> Option<Run>;
    runs(tenant: &TenantId, task: TaskId) -> Vec<Run>;
    deliver(signal: NewSignal) -> Delivered;
    signal(tenant: &TenantId, run: RunId, name: &SignalName) -> Option<Value>;
    cancel(tenant: &TenantId, task: TaskId, reason: &str, reached: Option<&str>) -> bool;
    pause(tenant: &TenantId, task: TaskId, reason: &str) -> bool;
    resume(tenant: &TenantId, task: TaskId, reason: &str) -> bool;
    journal(tenant: &TenantId, task: TaskId) -> Vec<(Run, Vec<Step>)>;
    retry(again: Again) -> Renewed;
    fork(again: Again, from: &StepKey) -> Renewed;
    dead(tenant: &TenantId, visible_to: Option<&PrincipalId>, limit: u32) -> Vec<DeadRun>;
    blob(tenant: &TenantId, hash: Hash) -> Option<Blob>;
    task(tenant: &TenantId, task: TaskId) -> Option<Task>;
    tasks(tenant: &TenantId, filter: &TaskFilter) -> Vec<Task>;
    events(tenant: &TenantId, task: TaskId, after: i64, limit: u32) -> Vec<event::Recorded>;
    keep(tenant: &TenantId, hash: Hash, body: &str) -> ();
    content(tenant: &TenantId, hash: Hash) -> Option<String>;
    add_token(token: Token, hash: Hash) -> bool;
    token(tenant: &TenantId, hash: Hash) -> Option<Token>;
    tokens(tenant: &TenantId) -> Vec<Token>;
    hold(duty: &str, worker: WorkerId) -> Option<Duty>;
    prunable(age: Duration, limit: u32) -> Vec<(TenantId, TaskId)>;
    prune(duty: &Duty, tasks: &[TaskId]) -> Option<u64>;
    compact() -> u64;
    checkup() -> Checkup;
    revoke_token(tenant: &TenantId, name: &str) -> bool;
}

#[tokio::test]
async fn a_store_that_fails_at_intake_is_a_503_with_a_time_to_come_again() {
    let world = World::at(true, |store| {
        Arc::new(Failing {
            store,
            asked: Arc::default(),
        })
    })
    .await;
    let request =
        ask(&world.local(), "POST", "/v1/tasks").header(header::CONTENT_TYPE, "application/json");
    let response = world
        .send(
            request
                .body(json!({"text": "x"}).to_string().into())
                .unwrap(),
        )
        .await;
    assert_eq!(response.headers()[header::RETRY_AFTER], "5");
    let (status, problem) = read(response).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        !problem.to_string().contains("disk"),
        "causes are logged, not told: {problem}"
    );
    let (status, ready) = world.ask("", "GET", "/readyz", None).await;
    assert_eq!(
        (status, &ready["ready"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!(false))
    );
    assert_eq!(
        ready["reasons"],
        json!(["the store takes no writes: the disk is full"])
    );
    assert_eq!(
        world.ask("", "GET", "/healthz", None).await.0,
        StatusCode::OK
    );
}

/// A store that counts how often it is asked for its health.
#[tokio::test]
async fn who_asks_for_health_again_and_again_does_not_load_the_store() {
    let asked = Arc::new(AtomicU32::new(0));
    let counted = asked.clone();
    let world = World::at(true, |store| {
        Arc::new(Failing {
            store,
            asked: counted,
        })
    })
    .await;
    for _ in 0..50 {
        assert_eq!(
            world.ask("", "GET", "/metrics", None).await.0,
            StatusCode::OK
        );
        world.ask("", "GET", "/readyz", None).await;
    }
    let asked = asked.load(Ordering::SeqCst);
    assert!(
        (2..20).contains(&asked),
        "asked {asked} times for 100 requests"
    );
}
