//! The door under test: its own router over a real store, with no engine behind it. Tasks stay as
//! they are until a test moves them through the store, as an engine would.

mod access;
mod budgets;
mod connections;
mod contract;
mod docs;
mod failing;
mod feedback;
mod files;
mod fuzz;
mod hooks;
mod idempotency;
mod limits;
mod stop;
mod streams;

use std::sync::Mutex;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use agents::catalog::Catalog;
use shared::blob::Blob;
use shared::config::{AgentLimits, AgentSpec, Limits, SupervisorSettings};
use shared::event::Event;
use shared::hash::Hash;
use shared::id::TenantId;
use shared::id::{StepKey, TaskId, WorkerId};
use shared::label::Taint;
use shared::money::Usage;
use shared::retry::RetryPolicy;
use shared::run::{Effect, EffectKey, Evidence, Outcome, Recorded};
use shared::store::sqlite::SqliteStore;
use shared::store::{
    Appended, Change, Entry, Fence, Finish, Run, RunState, Step, StepKind, Store, TaskEnd,
};
use shared::task::TaskState;

use super::*;
use crate::auth::{Scope, mint};
use crate::channels::papers;
use crate::intake::Folders;
use crate::program::Programs;

/// The largest body that a door under test takes, in bytes.
const MAX_BODY: usize = 512 * 1024;
/// Answers of a door under test that may take their time at once.
const LASTING: usize = 16;

/// The house behind the door.
pub(super) struct House {
    desk: Desk,
    intake: Intake,
    readers: Readers,
    people: Arc<Directory>,
    clerk: Clerk,
    pub(super) away: Mutex<Vec<AgentName>>,
}

impl Inside for House {
    fn desk(&self) -> &Desk {
        &self.desk
    }
    fn intake(&self) -> &Intake {
        &self.intake
    }
    fn readers(&self) -> &Readers {
        &self.readers
    }
    fn away(&self) -> Vec<AgentName> {
        self.away.lock().unwrap().clone()
    }
    fn people(&self) -> &Directory {
        &self.people
    }
    fn clerk(&self) -> &Clerk {
        &self.clerk
    }
    fn board(&self) -> Option<&Board> {
        None
    }
    fn metrics(&self) -> String {
        "own_numbers 1\n".into()
    }
}

/// A door with all that stands behind it.
pub(super) struct World {
    pub(super) store: Arc<dyn Store>,
    pub(super) house: Arc<House>,
    pub(super) closing: CancellationToken,
    pub(super) door: Arc<Door>,
    pub(super) router: Router,
    worker: WorkerId,
    folder: TempDir,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::at(true, |store| store).await
    }

    /// A door at a loopback or a public address, over a store that `wrap` may change.
    pub(super) async fn at(
        loopback: bool,
        wrap: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
    ) -> Self {
        Self::made(loopback, wrap, |_| {}).await
    }

    /// A loopback door that is changed before it opens.
    pub(super) async fn with(change: impl FnOnce(&mut Door)) -> Self {
        Self::made(true, |store| store, change).await
    }

    async fn made(
        loopback: bool,
        wrap: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
        change: impl FnOnce(&mut Door),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path()).await.unwrap());
        let store = wrap(store);
        let tenant = TenantId::from("home");
        let folders = Folders {
            read: None,
            write: folder.path().join("files"),
            private: folder.path().join("private"),
        };
        let catalog = catalog();
        let intake = Intake::open(store.clone(), tenant.clone(), &catalog, folders).await;
        let programs = Arc::new(Programs::new(store.clone()));
        let people = Arc::new(Directory::new(&Settings::default(), store.clone()));
        let clerk = Clerk {
            store: store.clone(),
            tenant: tenant.clone(),
            people: people.clone(),
            catalog: Arc::new(catalog),
        };
        let house = Arc::new(House {
            desk: Desk::new(store.clone(), tenant, programs),
            intake: intake.unwrap(),
            readers: Readers::new("/nowhere".into(), 1, papers::Limits::DEFAULT),
            people,
            clerk,
            away: Mutex::default(),
        });
        let worker = WorkerId::fresh();
        store.register(worker, None).await.unwrap();
        let closing = CancellationToken::new();
        let mut door = Door {
            inside: house.clone(),
            local: LocalToken::fresh().unwrap(),
            loopback,
            closing: closing.clone(),
            recheck: Duration::from_millis(20),
            body_limit: BodyLimit(MAX_BODY),
            lasting: Arc::new(Semaphore::new(LASTING)),
            health: Health::default(),
            rates: Rates::new(0),
            hooks: Hooks::default(),
            callbacks: None,
            slack: None,
            telegram: None,
        };
        change(&mut door);
        let door = Arc::new(door);
        let router = router(door.clone());
        Self {
            store,
            house,
            closing,
            door,
            router,
            worker,
            folder,
        }
    }

    pub(super) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The instance's own token.
    pub(super) fn local(&self) -> String {
        self.door.local.expose().to_owned()
    }

    /// A token with these scopes.
    pub(super) async fn token(&self, name: &str, scopes: &[Scope]) -> String {
        let minted = mint(&*self.store, &self.house.desk.tenant, name, None, scopes).await;
        minted.unwrap().1.expose().to_owned()
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Sends a request with a token and answers its status and JSON.
    pub(super) async fn ask(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let request = ask(token, method, path);
        let request = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        read(self.send(request.unwrap()).await).await
    }

    /// Hands in a task by the instance's own token.
    pub(super) async fn order(&self, body: Value) -> TaskId {
        self.order_by(&self.local(), body).await
    }

    pub(super) async fn order_by(&self, token: &str, body: Value) -> TaskId {
        let (status, taken) = self.ask(token, "POST", "/v1/tasks", Some(body)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{taken}");
        taken["id"].as_str().unwrap().parse().unwrap()
    }

    /// Claims what is queued, as an engine does, and answers the run of this task.
    pub(super) async fn claim(&self, task: TaskId) -> Run {
        let claimed = self.store.claim(self.worker, 100).await.unwrap();
        claimed
            .runs
            .into_iter()
            .find(|run| run.task == task)
            .unwrap()
    }

    /// Writes to the journal of a claimed run.
    pub(super) async fn append(&self, run: &Run, change: Change, events: Vec<Event>) {
        self.append_with(run, change, events, Vec::new()).await;
    }

    /// Adds a step that wrote a file.
    pub(super) async fn write(&self, run: &Run, (seq, name): (i64, &str), text: &str) {
        let mut change = step(
            run,
            &format!("tool/{seq}.0"),
            seq,
            StepKind::Tool,
            Some(Outcome::Done(json!("written"))),
        );
        let hash = Hash::of_bytes(text.as_bytes()).to_string();
        let bytes = text.len().to_string();
        let known = [("sha256", hash), ("file", name.into()), ("bytes", bytes)];
        if let Change::Step { step, .. } = &mut change
            && let Some(recorded) = &mut step.recorded
        {
            recorded.evidence = known
                .map(|(kind, value)| Evidence {
                    kind: kind.into(),
                    value,
                })
                .into();
        }
        let blob = Blob::new("text/html", text.as_bytes()).unwrap();
        self.append_with(run, change, vec![decided(seq)], vec![blob])
            .await;
    }

    async fn append_with(&self, run: &Run, change: Change, events: Vec<Event>, blobs: Vec<Blob>) {
        let fence = Fence {
            worker: self.worker,
            run: run.id,
            epoch: run.epoch,
        };
        let tenant = self.house.desk.tenant.clone();
        let entry = Entry {
            task: run.task,
            tenant,
            principal: "test".into(),
            last: false,
            ended: Vec::new(),
            change,
            events,
            blobs,
            survived: false,
        };
        let written = self.store.append(fence, entry).await.unwrap();
        assert_eq!(written, Appended::Written);
    }

    /// Ends a claimed task with an answer.
    pub(super) async fn finish(&self, run: &Run, answer: &str) {
        let end = TaskEnd {
            state: TaskState::Done,
            answer: Some(answer.into()),
            partial: None,
            error: None,
        };
        let finish = Finish {
            state: RunState::Done,
            parent: None,
            task: Some(end),
        };
        let done = Event::State {
            state: TaskState::Done,
            reason: "answered".into(),
            agent: None,
        };
        self.append(run, Change::Finish(Box::new(finish)), vec![done])
            .await;
    }

    /// Adds a step that has ended, with one event.
    pub(super) async fn step(&self, run: &Run, seq: i64) {
        let step = step(
            run,
            &format!("now/{seq}"),
            seq,
            StepKind::Now,
            Some(Outcome::Done(json!(seq))),
        );
        self.append(run, step, vec![decided(seq)]).await;
    }

    /// Puts a tool step in doubt and lets the run wait for a person's word.
    pub(super) async fn doubt(&self, run: &Run, key: &str) {
        let effect = EffectKey::new(run.id, &key.into(), Hash::of_bytes(b"op"));
        let doubt = Some(Outcome::InDoubt { effect });
        let tool = step(run, key, 1, StepKind::Tool, doubt);
        self.append(run, tool, vec![decided(1)]).await;
        let waits = step(
            run,
            &format!("signal/in_doubt/{key}"),
            2,
            StepKind::Signal,
            None,
        );
        self.append(run, waits, vec![decided(2)]).await;
    }
}

fn decided(seq: i64) -> Event {
    Event::Decided {
        what: format!("step {seq}"),
        reason: "a test".into(),
    }
}

fn step(run: &Run, key: &str, seq: i64, kind: StepKind, outcome: Option<Outcome>) -> Change {
    let at = run.created_at;
    let recorded = outcome.map(|outcome| Recorded {
        outcome,
        usage: Usage::default(),
        attempts: Vec::new(),
        taint: Taint::NONE,
        evidence: Vec::new(),
        at,
    });
    let step = Step {
        key: StepKey::from(key),
        seq,
        kind,
        agent: Some("writer".into()),
        what: "test".into(),
        model: None,
        effect: Effect::Once,
        op_hash: Hash::of_bytes(b"op"),
        attempt: 1,
        attempts: Vec::new(),
        reserved: None,
        deadline: None,
        recorded,
        taint: Taint::NONE,
        begun_at: at,
    };
    Change::step(step)
}

fn catalog() -> Catalog {
    let writer = AgentSpec {
        name: "writer".into(),
        description: "writes".into(),
        model: "offline".into(),
        tools: Vec::new(),
        tool: Default::default(),
        then: None,
        limits: AgentLimits::default(),
        prompt: "Write.".into(),
    };
    Catalog {
        agents: [(writer.name.clone(), writer)].into(),
        tools: Default::default(),
        models: Default::default(),
        supervisor: SupervisorSettings::default(),
        routes: Vec::new(),
        approvals: None,
        help_within_s: None,
        limits: Limits::default(),
        retry: RetryPolicy::default(),
    }
}

/// A request with a token.
pub(super) fn ask(token: &str, method: &str, path: &str) -> axum::http::request::Builder {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost");
    request.header(header::AUTHORIZATION, format!("Bearer {token}"))
}

/// The status and the JSON of an answer; every refusal must be a problem document.
pub(super) async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).cloned();
    let kind = kind
        .map(|kind| kind.to_str().unwrap().to_owned())
        .unwrap_or_default();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let body: Value = serde_json::from_slice(&body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
    if status.is_client_error() || (status.is_server_error() && kind.contains("problem")) {
        assert_eq!(kind, "application/problem+json", "{status} {body}");
        assert_eq!(body["status"], status.as_u16());
        for member in ["type", "title", "detail"] {
            assert!(
                body[member].as_str().is_some_and(|text| !text.is_empty()),
                "{body}"
            );
        }
    }
    (status, body)
}
