//! What commands send to an instance, and what they make of its answers; how a store is reached.

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
use super::order::submission;
use super::reach::reach_within;
use super::*;
use crate::channels::papers::enclose::Enclosed;
use crate::instance::Instance;
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
    let submit = async |State(sent): State<Sent>, headers: HeaderMap, Json(body): Json<Value>| {
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
        let problem = json!({"type": "urn:x", "title": "No", "status": 403, "detail": "not yours"});
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
