//! How a command reaches the tasks: through a live instance over HTTP, or, where none runs, by
//! opening the store itself. Commands are written once, against [`Access`].
//!
//! A `serve` that answers is spoken to. Else the data folder's lock decides: where it is free the
//! store is opened; an `ask` that holds it is waited for, for a while.

use std::path::PathBuf;
use std::time::Duration;

use shared::ask::{Asked, Decision};
use shared::event::{Live, Recorded};
use shared::id::{AskId, TaskId};
use shared::money::Usd;
use shared::store::{Accepted, AskFilter, Error as StoreError, Renewed, TaskFilter};
use shared::task::{Budget, Request, Said};

use super::client::{self, Client};
use super::context::Context;
use super::exit::Fault;
use crate::app::{App, GRACE};
use crate::asks::{self, Collection, Decided, Who};
use crate::auth::{Caller, LOCAL};
use crate::channels::papers::enclose::Enclosed;
use crate::channels::papers::turns::Owner;
use crate::desk::{Desk, Resolved, refusal};
use crate::feedback::NotTaken;
use crate::follow::Follower;
use crate::instance::Instance;
use crate::intake::{Refused, Submission};
use crate::storage;
use crate::transcript::Transcript;
use crate::view::TaskView;
use crate::wire::{self, AskPage, AskView, DeadView, TaskOrder};

/// How long a held data folder is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is tried meanwhile.
const TRY_EVERY: Duration = Duration::from_millis(200);

/// A way to the tasks.
pub enum Access {
    /// A running instance.
    Live(Box<Client>),
    /// An engine in this process.
    Own(Box<App>),
    /// The store alone: nothing runs.
    Store(Desk),
}

/// A lease for those who never work.
pub const LOOK: Duration = Duration::from_secs(15);

/// The events of one task.
pub enum Watch {
    /// From an instance.
    Live(Box<client::Stream>),
    /// From the store and its bell.
    Own(Follower),
}

impl Access {
    /// A way to look at tasks: starts nothing.
    pub async fn to_look(context: &Context) -> anyhow::Result<Self> {
        reach(context, async || {
            let store = storage::open(&context.data, context.database_url().as_ref(), LOOK).await?;
            Ok(Access::Store(Desk::alone(store, context.tenant())))
        })
        .await
    }

    /// A way to have tasks worked on; `read` is the folder for tasks that name none.
    pub async fn to_work(context: &Context, read: Option<PathBuf>) -> anyhow::Result<Self> {
        reach(context, async || {
            let app = App::start(context.options(read.clone())).await?;
            Ok(Access::Own(Box::new(app)))
        })
        .await
    }

    /// Hands a task in. It is durable on return.
    pub async fn submit(&self, order: TaskOrder) -> anyhow::Result<TaskId> {
        match self {
            Access::Live(client) => {
                let key = uuid::Uuid::now_v7().to_string();
                client.submit(&order, &key).await
            }
            Access::Own(app) => match app.intake.submit(enclosed(app, order).await?).await {
                Ok(Accepted::New(id) | Accepted::Known(id) | Accepted::Conflict(id)) => Ok(id),
                Err(refused) => Err(not_taken(refused)),
            },
            Access::Store(_) => Err(Fault::failed("nothing runs that could work on a task").into()),
        }
    }

    /// A task with its steps.
    pub async fn task(&self, task: TaskId) -> anyhow::Result<Option<TaskView>> {
        let desk = match self.desk() {
            Ok(desk) => desk,
            Err(client) => return client.task(task).await,
        };
        match desk.task(task).await? {
            Some(found) => {
                let view = TaskView::with_steps(&*desk.store, found).await?;
                Ok(Some(self.seen(view)))
            }
            None => Ok(None),
        }
    }

    /// The bytes of a file that a task wrote.
    pub async fn file(&self, task: TaskId, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        match self.desk() {
            Ok(desk) => {
                let found = desk.file(task, name).await?;
                Ok(found.map(|(_, blob)| blob.bytes.to_vec()))
            }
            Err(client) => client.file(task, name).await,
        }
    }

    /// Tasks without their steps, newest first.
    pub async fn tasks(&self, filter: &TaskFilter) -> anyhow::Result<Vec<TaskView>> {
        match self.desk() {
            Ok(desk) => Ok(desk
                .tasks(filter)
                .await?
                .into_iter()
                .map(|task| self.seen(TaskView::of(task)))
                .collect()),
            Err(client) => client.tasks(filter).await,
        }
    }

    /// The events of a task, from the first one on.
    pub fn watch(&self, task: TaskId) -> Watch {
        match self.desk() {
            Ok(desk) => Watch::Own(desk.follow(task, 0)),
            Err(client) => Watch::Live(Box::new(client.watch(task))),
        }
    }

    /// Ends a task. One that has ended stays as it is.
    pub async fn cancel(&self, task: TaskId) -> anyhow::Result<()> {
        match self.desk() {
            Ok(desk) => Ok(desk
                .cancel_by(task, "cancelled on the command line", &LOCAL.into())
                .await
                .map(drop)?),
            Err(client) => client.say(task, "cancel").await,
        }
    }

    /// Says what somebody at the machine thinks of a task's answer.
    pub async fn rate(&self, id: TaskId, (good, text): (bool, &str)) -> anyhow::Result<()> {
        let desk = match self.desk() {
            Ok(desk) => desk,
            Err(client) => return client.rate(id, (good, text)).await,
        };
        let task = desk.task(id).await?;
        let task = task.ok_or_else(|| Fault::failed(format!("there is no task {id}")))?;
        let rated = desk.rate(&task, &LOCAL.into(), (good, text)).await;
        rated.map_err(|error| match error {
            NotTaken::Store(error) => anyhow::Error::from(error),
            NotTaken::Long => Fault::usage(error.to_string()).into(),
            NotTaken::Early => Fault::failed(error.to_string()).into(),
        })
    }

    /// Holds a task. One that has ended stays as it is.
    pub async fn pause(&self, task: TaskId) -> anyhow::Result<()> {
        match self.desk() {
            Ok(desk) => Ok(desk
                .pause(task, "paused on the command line")
                .await
                .map(drop)?),
            Err(client) => client.say(task, "pause").await,
        }
    }

    /// Lets a paused task go on.
    pub async fn resume(&self, task: TaskId) -> anyhow::Result<()> {
        match self.desk() {
            Ok(desk) => Ok(desk
                .resume(task, "resumed on the command line")
                .await
                .map(drop)?),
            Err(client) => client.say(task, "resume").await,
        }
    }

    /// Makes a task anew that failed or was cancelled. Answers the new one.
    pub async fn retry(&self, task: TaskId) -> anyhow::Result<TaskId> {
        match self.desk() {
            Ok(desk) => made(desk.retry(task, LOCAL.into()).await.map_err(not_taken)?),
            Err(client) => client.retry(task).await,
        }
    }

    /// Makes a task that goes on as another one did up to a step. Answers the new one.
    pub async fn fork(&self, task: TaskId, from: &str) -> anyhow::Result<TaskId> {
        match self.desk() {
            Ok(desk) => made(
                desk.fork(task, &from.into(), LOCAL.into())
                    .await
                    .map_err(not_taken)?,
            ),
            Err(client) => client.fork(task, from).await,
        }
    }

    /// Runs that cannot be run any more, the last one first.
    pub async fn dead(&self, limit: u32) -> anyhow::Result<Vec<DeadView>> {
        match self.desk() {
            Ok(desk) => {
                let dead = desk.dead(None, limit).await?;
                Ok(dead.into_iter().map(Into::into).collect())
            }
            Err(client) => client.dead(limit).await,
        }
    }

    /// Says what became of a step in doubt.
    pub async fn resolve(
        &self,
        task: TaskId,
        step: &str,
        resolution: &Decision,
    ) -> anyhow::Result<()> {
        let desk = match self.desk() {
            Ok(desk) => desk,
            Err(client) => return client.resolve(task, step, resolution).await,
        };
        let fault = match desk.resolve(task, step, resolution, LOCAL.into()).await? {
            Resolved::Taken => return Ok(()),
            Resolved::Answered => Fault::failed(format!("step {step} was resolved before")),
            Resolved::NotWaiting => {
                Fault::failed(format!("no step {step} of this task waits for a person"))
            }
            Resolved::Several(names) => {
                let help = format!("--step takes the full name: {}", names.join(", "));
                Fault::usage(format!("several steps are named {step}")).help(help)
            }
        };
        Err(fault.into())
    }

    /// What is asked in a collection, newest first.
    pub async fn asks(&self, which: Collection, filter: &AskFilter) -> anyhow::Result<AskPage> {
        match self.desk() {
            Ok(desk) => {
                let filter = AskFilter {
                    kinds: which.kinds().to_vec(),
                    ..filter.clone()
                };
                let found = desk.asks(&myself(), &filter).await?;
                let full = found.len() == filter.limit as usize;
                let next = found.last().map(|asked| asked.id).filter(|_| full);
                let asks = found.into_iter().map(AskView::of).collect();
                Ok(AskPage { asks, next })
            }
            Err(client) => client.asks(which, filter).await,
        }
    }

    /// What a collection holds whose id begins so: what is open, where anything is.
    pub async fn asks_like(&self, which: Collection, part: &str) -> anyhow::Result<Vec<AskView>> {
        match self.desk() {
            Ok(desk) => {
                let found = desk.asks_like(&myself(), which.kinds(), part).await?;
                Ok(found.into_iter().map(AskView::of).collect())
            }
            Err(client) => client.asks_like(which, part).await,
        }
    }

    /// What is asked, with all that is needed to decide it.
    pub async fn asked(&self, which: Collection, id: AskId) -> anyhow::Result<Option<AskView>> {
        match self.desk() {
            Ok(desk) => match desk.asked(&myself(), id).await? {
                Some(asked) => in_full(&desk, asked).await.map(Some),
                None => Ok(None),
            },
            Err(client) => client.asked(which, id).await,
        }
    }

    /// Says what becomes of it. Answers how it stands then.
    pub async fn decide(
        &self,
        which: Collection,
        id: AskId,
        decision: &Decision,
    ) -> anyhow::Result<AskView> {
        let desk = match self.desk() {
            Ok(desk) => desk,
            Err(client) => return client.decide(which, id, decision).await,
        };
        let fault = match desk.decide(id, decision.clone(), &myself()).await? {
            Decided::Taken(asked) => return in_full(&desk, *asked).await,
            Decided::Before(asked) => Fault::failed(asks::too_late(&asked)),
            Decided::Denied(why) => Fault::failed(why),
            Decided::Unfit(why) => Fault::usage(why),
            Decided::Missing => Fault::failed(format!("there is no such {}", which.one())),
        };
        Err(fault.into())
    }

    /// The full story of a task.
    pub async fn transcript(&self, task: TaskId) -> anyhow::Result<Transcript> {
        let desk = match self.desk() {
            Ok(desk) => desk,
            Err(client) => return client.transcript(task).await,
        };
        let found = desk.task(task).await?;
        let found = found.ok_or_else(|| Fault::failed(format!("there is no task {task}")))?;
        let told = desk.transcript(found).await?;
        Ok(Transcript {
            task: self.seen(told.task),
            ..told
        })
    }

    /// A task as it stands, with what only this process knows: whether anything works on it.
    fn seen(&self, task: TaskView) -> TaskView {
        match self {
            Access::Store(_) => task.at_rest(),
            Access::Live(_) | Access::Own(_) => task,
        }
    }

    /// Puts down what this process holds.
    pub async fn close(self) {
        match self {
            Access::Live(_) => {}
            Access::Own(app) => app.stop(GRACE).await,
            Access::Store(desk) => desk.store.close().await,
        }
    }

    /// Where this process looks itself, or the instance that does.
    pub fn desk(&self) -> Result<Desk, &Client> {
        match self {
            Access::Live(client) => Err(client),
            Access::Own(app) => Ok(app.desk.clone()),
            Access::Store(desk) => Ok(desk.clone()),
        }
    }
}

/// Who decides at the machine itself.
/// Who types here.
pub fn myself() -> Who {
    Who::from(&Caller::local())
}

async fn in_full(desk: &Desk, asked: Asked) -> anyhow::Result<AskView> {
    let task = desk.task(asked.task).await?;
    let view = AskView::of(asked);
    Ok(match task {
        Some(task) => view.within(task),
        None => view,
    })
}

/// Why a task was not taken in, with the exit code that fits.
fn not_taken(refused: Refused) -> anyhow::Error {
    match refused {
        Refused::Field { .. } => Fault::usage(refused.to_string()).into(),
        Refused::Halted(_) => Fault::halted(refused.to_string()).into(),
        Refused::Store(error) => error.into(),
    }
}

fn made(renewed: Renewed) -> anyhow::Result<TaskId> {
    match renewed {
        Renewed::New(id) => Ok(id),
        refused @ Renewed::NoStep(_) => Err(Fault::usage(refusal(&refused)).into()),
        refused => Err(Fault::failed(refusal(&refused)).into()),
    }
}

impl Watch {
    /// The next event; waits for it.
    pub async fn next(&mut self) -> anyhow::Result<Recorded> {
        match self {
            Watch::Live(stream) => stream.next().await,
            Watch::Own(follower) => loop {
                match follower.next().await? {
                    Some(Live::Event(event)) => return Ok(event),
                    Some(Live::Delta { .. }) => {}
                    None => return Err(Fault::failed("nothing follows a task's end").into()),
                }
            },
        }
    }
}

/// Finds the live instance of a data folder.
pub async fn live(context: &Context) -> Option<Client> {
    let client = Client::new(Instance::read(&context.data)?).ok()?;
    client.is_alive().await.then_some(client)
}

async fn reach(
    context: &Context,
    open: impl AsyncFn() -> anyhow::Result<Access>,
) -> anyhow::Result<Access> {
    reach_within(context, PATIENCE, open).await
}

async fn reach_within(
    context: &Context,
    patience: Duration,
    open: impl AsyncFn() -> anyhow::Result<Access>,
) -> anyhow::Result<Access> {
    let waiting = shared::clock::stopwatch();
    let mut told = false;
    loop {
        if let Some(client) = live(context).await {
            return Ok(Access::Live(Box::new(client)));
        }
        let error = match open().await {
            Err(error) if is_locked(&error) => error,
            opened => return opened,
        };
        if waiting.ms() >= patience.as_millis() as u64 {
            return Err(held(&error).into());
        }
        if !std::mem::replace(&mut told, true) {
            eprintln!("waiting: {error}");
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
}

/// Whether another process has the data folder.
pub fn is_locked(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::Locked { .. }))
}

fn held(error: &anyhow::Error) -> Fault {
    Fault::unreachable(format!("{error}, and it answers no requests")).help(
        "an `ask` holds the folder until its task ends: wait for it,\n\
         or keep `majordomo serve` running, beside which every command works",
    )
}

/// An order with its files in it.
async fn enclosed(app: &App, mut order: TaskOrder) -> Result<Submission, Fault> {
    let (text, files) = (
        std::mem::take(&mut order.text),
        std::mem::take(&mut order.files),
    );
    let owner = Owner {
        tenant: app.desk.tenant.clone(),
        principal: LOCAL.into(),
    };
    let enclosed = wire::enclose((&app.readers, &owner), text, files).await;
    Ok(submission(order, enclosed.map_err(Fault::usage)?))
}

fn submission(order: TaskOrder, enclosed: Enclosed) -> Submission {
    let budget = order.budget.unwrap_or_default();
    Submission {
        request: Request {
            text: enclosed.text,
            agent: order.agent.map(Into::into),
            channel: "cli".into(),
            thread: order.thread,
            metadata: order.metadata.unwrap_or_default(),
            budget: Budget {
                usd: budget.usd.map(Usd::from_dollars),
                tokens: budget.tokens,
            },
            said: Said::default(),
            priority: order.priority.unwrap_or_default(),
            images: enclosed.images,
        },
        principal: LOCAL.into(),
        submitted_by: LOCAL.into(),
        dedupe: None,
        read: order.dir.map(Into::into),
        card: None,
        since: None,
        blobs: enclosed.blobs,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::extract::{Path, State};
    use axum::http::{HeaderMap, StatusCode};
    use axum::response::IntoResponse;
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use serde_json::{Value, json};
    use shared::id::TenantId;
    use shared::store::NewTask;

    use super::super::asks::text::tests::approval;
    use super::super::exit::Exit;
    use super::super::pick::pick;
    use super::super::progress::Progress;
    use super::super::progress::tests::{recorded, scripted};
    use super::super::story::tests::transcript;
    use super::*;
    use shared::task::TaskState;

    /// What a fake instance was sent: method and path, and headers or a body.
    #[derive(Clone, Default)]
    struct Sent(Arc<Mutex<Vec<(String, Value)>>>);

    impl Sent {
        fn note(&self, what: &str, body: Value) {
            self.0.lock().unwrap().push((what.into(), body));
        }
    }

    /// Four events, and the connection breaks.
    async fn events(State(sent): State<Sent>, headers: HeaderMap) -> impl IntoResponse {
        let after = headers.get("last-event-id");
        let after: i64 = after.map_or(0, |id| id.to_str().unwrap().parse().unwrap());
        sent.note("events", json!(after));
        let mut body = String::from("event: delta\ndata: {\"text\": \"It\"}\n\n");
        for event in recorded(scripted())
            .iter()
            .filter(|event| event.seq > after)
            .take(4)
        {
            let data = serde_json::to_string(event).unwrap();
            body.push_str(&format!("id: {}\nevent: x\ndata: {data}\n\n", event.seq));
        }
        ([("content-type", "text/event-stream")], body)
    }

    async fn fake() -> (Access, Sent) {
        let sent = Sent::default();
        let submit =
            async |State(sent): State<Sent>, headers: HeaderMap, Json(body): Json<Value>| {
                if body["text"] == "refuse" {
                    let problem = json!({"type": "urn:x", "title": "Bad request", "status": 422,
                    "detail": "there is no agent x", "field": "agent"});
                    return (StatusCode::UNPROCESSABLE_ENTITY, Json(problem));
                }
                let token = headers["authorization"].to_str().unwrap().to_owned();
                assert!(headers.contains_key("idempotency-key"));
                sent.note(&token, body);
                let id = transcript().task.id;
                (
                    StatusCode::ACCEPTED,
                    Json(json!({"id": id, "state": "queued"})),
                )
            };
        let one = async |Path(id): Path<TaskId>| match id == transcript().task.id {
            true => Json(serde_json::to_value(transcript().task).unwrap()).into_response(),
            false => StatusCode::NOT_FOUND.into_response(),
        };
        let list = async |State(sent): State<Sent>, uri: axum::http::Uri| {
            let query = uri.query().unwrap_or_default();
            sent.note("list", json!(query));
            let tasks = match query.contains("before") {
                true => Vec::new(),
                false => vec![transcript().task],
            };
            Json(json!({"tasks": tasks, "next": null}))
        };
        let resolve = async |State(sent): State<Sent>, Json(body): Json<Value>| {
            sent.note("resolve", body);
            StatusCode::NO_CONTENT
        };
        let cancel = async || {
            let problem =
                json!({"type": "urn:x", "title": "No", "status": 403, "detail": "not yours"});
            (StatusCode::FORBIDDEN, Json(problem))
        };
        let story = async || Json(serde_json::to_value(transcript()).unwrap());
        let asks = async |State(sent): State<Sent>, uri: axum::http::Uri| {
            sent.note("asks", json!(uri.to_string()));
            Json(json!({"asks": [approval()], "next": null}))
        };
        let decide = async |State(sent): State<Sent>, Json(body): Json<Value>| {
            if body["decision"] == "reject" {
                let problem = json!({"type": "urn:x", "title": "No", "status": 409,
                    "detail": "it was decided before: approved by ann"});
                return (StatusCode::CONFLICT, Json(problem)).into_response();
            }
            sent.note("decide", body);
            Json(approval()).into_response()
        };
        let router = Router::new()
            .route("/healthz", get(async || "ok"))
            .route("/v1/tasks", post(submit).get(list))
            .route("/v1/tasks/{id}", get(one))
            .route("/v1/tasks/{id}/events", get(events))
            .route("/v1/tasks/{id}/resolve", post(resolve))
            .route("/v1/tasks/{id}/cancel", post(cancel))
            .route("/v1/tasks/{id}/transcript", get(story))
            .route("/v1/approvals", get(asks))
            .route(
                "/v1/approvals/{id}",
                post(decide).get(async || Json(approval())),
            )
            .route("/v1/questions/{id}", get(async || StatusCode::NOT_FOUND))
            .with_state(sent.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let here = Instance::here(url, "s3cret".into(), Vec::new(), shared::run::Timestamp(0));
        (Access::Live(Box::new(Client::new(here).unwrap())), sent)
    }

    #[tokio::test]
    async fn a_live_instance_is_spoken_to_over_http() {
        let (access, sent) = fake().await;
        let order = TaskOrder {
            text: "what".into(),
            dir: Some("/material".into()),
            ..TaskOrder::default()
        };
        let id = access.submit(order).await.unwrap();
        let view = access.task(id).await.unwrap().unwrap();
        assert_eq!(view, transcript().task);
        assert_eq!(access.task(TaskId::fresh()).await.unwrap(), None);
        assert_eq!(pick(&access, "0000abcd").await.unwrap(), id);
        let story = access.transcript(id).await.unwrap();
        assert_eq!(story.entries.len(), transcript().entries.len());
        access
            .resolve(id, &format!("{id}/tool/1.0"), &Decision::Again)
            .await
            .unwrap();
        let sent = sent.0.lock().unwrap().clone();
        assert_eq!(
            sent[0],
            (
                "Bearer s3cret".into(),
                json!({"text": "what", "dir": "/material"})
            )
        );
        assert_eq!(sent[1], ("list".into(), json!("limit=200")));
        let resolved = json!({"step": "tool/1.0", "decision": "again", "run": id});
        assert_eq!(sent.last().unwrap(), &("resolve".into(), resolved));
    }

    #[tokio::test]
    async fn a_live_instance_is_asked_what_people_are_asked() {
        use Collection::{Approvals, Questions};
        let (access, sent) = fake().await;
        let id = approval().id;
        let filter = AskFilter {
            limit: 7,
            before: Some(id),
            ..AskFilter::default()
        };
        let page = access.asks(Approvals, &filter).await.unwrap();
        assert_eq!(page.asks, [approval()]);
        let like = access.asks_like(Approvals, "1a2b").await.unwrap();
        assert_eq!(like, [approval()]);
        let asked = access.asked(Approvals, id).await.unwrap();
        assert_eq!(asked, Some(approval()));
        assert_eq!(access.asked(Questions, id).await.unwrap(), None);
        let args = json!({"to": []});
        let changed = Decision::Edit { args: args.clone() };
        access.decide(Approvals, id, &changed).await.unwrap();
        let no = Decision::Reject {
            reason: String::new(),
        };
        let late = access.decide(Approvals, id, &no).await.unwrap_err();
        assert_eq!(Exit::of_error(&late), Exit::Failed);
        assert!(late.to_string().contains("approved by ann"), "{late}");
        let sent = sent.0.lock().unwrap().clone();
        let wanted = [
            (
                "asks",
                json!(format!("/v1/approvals?state=all&limit=7&before={id}")),
            ),
            ("asks", json!("/v1/approvals?id=1a2b")),
            ("decide", json!({"decision": "edit", "args": args})),
        ];
        assert_eq!(sent, wanted.map(|(what, body)| (what.to_owned(), body)));
    }

    #[tokio::test]
    async fn problems_become_exit_codes() {
        let (access, _) = fake().await;
        let order = TaskOrder {
            text: "refuse".into(),
            ..TaskOrder::default()
        };
        let refused = access.submit(order).await.unwrap_err();
        assert_eq!(
            (refused.to_string(), Exit::of_error(&refused)),
            ("agent: there is no agent x".into(), Exit::Usage)
        );
        let forbidden = access.cancel(TaskId::fresh()).await.unwrap_err();
        assert_eq!(
            (forbidden.to_string(), Exit::of_error(&forbidden)),
            ("not yours".into(), Exit::Failed)
        );
        let here = Instance::here(
            "http://127.0.0.1:1".into(),
            String::new(),
            Vec::new(),
            shared::run::Timestamp(0),
        );
        let gone = Access::Live(Box::new(Client::new(here).unwrap()));
        let gone = gone.task(TaskId::fresh()).await.unwrap_err();
        assert_eq!(Exit::of_error(&gone), Exit::Unreachable, "{gone}");
    }

    #[tokio::test]
    async fn a_broken_stream_of_events_is_taken_up_where_it_broke() {
        let (access, sent) = fake().await;

        let mut watch = access.watch(transcript().task.id);
        let mut seen = Vec::new();
        loop {
            let event = watch.next().await.unwrap();
            seen.push(event.seq);
            if Progress::rest(&event.event).is_some_and(|rest| rest.0 == TaskState::Done) {
                break;
            }
        }
        let all: Vec<i64> = recorded(scripted()).iter().map(|event| event.seq).collect();
        assert_eq!(seen, all);
        let connected: Vec<Value> = sent
            .0
            .lock()
            .unwrap()
            .iter()
            .map(|(_, after)| after.clone())
            .collect();
        assert_eq!(connected, [0, 4, 8, 12]);
    }

    fn context(data: &std::path::Path) -> Context {
        Context::new(Some(data.into()), None, |_| None, Vec::new()).unwrap()
    }

    fn new_task(tenant: &TenantId) -> NewTask {
        let submission = submission(TaskOrder::default(), Enclosed::new("what".into()));
        NewTask {
            id: TaskId::fresh(),
            submitted_by: submission.submitted_by,
            request: submission.request,
            authority: shared::label::Authority {
                tenant: tenant.clone(),
                principal: submission.principal,
                material: None,
                output: None,
            },
            catalog: shared::hash::Hash::of_bytes(b""),
            dedupe: None,
            worker: None,
            card: None,
            blobs: Vec::new(),
        }
    }

    #[tokio::test]
    async fn without_an_instance_the_store_itself_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let access = Access::to_look(&context(folder.path())).await.unwrap();
        let Access::Store(desk) = &access else {
            panic!("nothing runs on a fresh folder");
        };
        let task = new_task(&desk.tenant);
        desk.store.accept(task.clone()).await.unwrap();
        let listed = access
            .tasks(&TaskFilter {
                limit: 5,
                ..TaskFilter::default()
            })
            .await
            .unwrap();
        assert_eq!(
            listed.iter().map(|task| task.id).collect::<Vec<_>>(),
            [task.id]
        );
        let short = super::super::words::short(task.id);
        assert_eq!(pick(&access, &short).await.unwrap(), task.id);
        let story = access.transcript(task.id).await.unwrap();
        assert_eq!(
            (story.task.state.as_str(), story.task.halted),
            ("queued", true)
        );
        assert!(listed[0].halted, "nothing runs it");
        assert!(access.task(task.id).await.unwrap().unwrap().halted);
        let doubt = access
            .resolve(task.id, "tool/1.0", &Decision::GiveUp)
            .await
            .unwrap_err();
        assert_eq!(Exit::of_error(&doubt), Exit::Failed);

        let mut watch = access.watch(task.id);
        access.cancel(task.id).await.unwrap();
        let rest = loop {
            if let Some(rest) = Progress::rest(&watch.next().await.unwrap().event) {
                break rest.0;
            }
        };
        assert_eq!(rest, TaskState::Cancelled);
        assert!(!access.task(task.id).await.unwrap().unwrap().halted);
        access.close().await;
    }

    #[tokio::test]
    async fn a_folder_held_by_a_command_is_waited_for_and_then_explained() {
        let folder = tempfile::tempdir().unwrap();
        let holder = Access::to_look(&context(folder.path())).await.unwrap();
        // A file that a killed instance left behind misleads nobody.
        let mut stale = Instance::here(
            "http://127.0.0.1:1".into(),
            String::new(),
            Vec::new(),
            shared::run::Timestamp(0),
        );
        stale.pid = u32::MAX;
        let _published = stale.publish(folder.path()).unwrap();
        let patience = Duration::from_millis(1);
        let context = context(folder.path());
        let opened = reach_within(&context, patience, async || {
            let store = storage::open(folder.path(), None, LOOK).await?;
            Ok(Access::Store(Desk::alone(store, "default".into())))
        });
        let Err(error) = opened.await else {
            panic!("two processes hold one folder");
        };
        assert_eq!(Exit::of_error(&error), Exit::Unreachable);
        assert!(error.to_string().contains("majordomo serve"), "{error}");
        holder.close().await;
    }
}
