//! What each route takes and answers, and how each refusal reads.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use futures::stream;
use serde_json::{Value, json};
use shared::id::TaskId;

use super::*;

#[tokio::test]
async fn a_task_goes_in_and_can_be_seen() {
    let world = World::new().await;
    let order = json!({
        "text": "sum up", "agent": "writer", "thread": "t", "user": "alice",
        "metadata": {"team": "a", "note": ""}, "budget": {"usd": 0.5, "tokens": 100},
    });
    let id = world.order(order).await;
    let (status, task) = world
        .ask(&world.local(), "GET", &format!("/v1/tasks/{id}"), None)
        .await;
    assert_eq!(status, StatusCode::OK);
    for (field, value) in [
        ("id", json!(id)),
        ("state", json!("queued")),
        ("phase", Value::Null),
        ("text", json!("sum up")),
        ("agent", json!("writer")),
        ("thread", json!("t")),
        ("user", json!("user:alice")),
        ("metadata", json!({"team": "a", "note": ""})),
        ("answer", Value::Null),
        ("partial", Value::Null),
        ("error", Value::Null),
        ("cost", json!({"usd": 0.0, "tokens_in": 0, "tokens_out": 0})),
        ("steps", json!([])),
    ] {
        assert_eq!(task[field], value, "{field} of {task}");
    }
    let story = world
        .ask(
            &world.local(),
            "GET",
            &format!("/v1/tasks/{id}/transcript"),
            None,
        )
        .await;
    assert_eq!(
        (story.0, &story.1["task"]["id"]),
        (StatusCode::OK, &json!(id))
    );
}

#[tokio::test]
async fn a_task_that_ends_within_the_wait_comes_back_whole() {
    let world = World::new().await;
    let local = world.local();
    let body = json!({"text": "x", "wait_s": 60});
    let mut feed = world.store.bell().feed().subscribe();
    let asked = world.ask(&local, "POST", "/v1/tasks", Some(body));
    let worked = async {
        let id = queued(&mut feed).await;
        let run = world.claim(id).await;
        world.finish(&run, "forty-two").await;
        id
    };
    let ((status, task), id) = tokio::join!(asked, worked);
    assert_eq!((status, &task["id"]), (StatusCode::OK, &json!(id)));
    assert_eq!(
        (&task["state"], &task["answer"]),
        (&json!("done"), &json!("forty-two"))
    );
}

/// Waits for a task to be handed in.
async fn queued(feed: &mut tokio::sync::broadcast::Receiver<shared::event::Live>) -> TaskId {
    loop {
        if let shared::event::Live::Event(event) = feed.recv().await.unwrap() {
            return event.task;
        }
    }
}

#[tokio::test]
async fn a_wait_that_is_over_answers_where_the_task_stands() {
    let world = World::new().await;
    let body = json!({"text": "x", "wait_s": 0.01});
    let (status, taken) = world
        .ask(&world.local(), "POST", "/v1/tasks", Some(body))
        .await;
    assert_eq!(
        (status, &taken["state"]),
        (StatusCode::ACCEPTED, &json!("queued"))
    );
    world.closing.cancel();
    let body = json!({"text": "x", "wait_s": 300});
    let asked = tokio::time::timeout(Duration::from_secs(10), async {
        world
            .ask(&world.local(), "POST", "/v1/tasks", Some(body))
            .await
    });
    assert_eq!(
        asked.await.expect("a closing door waits for nobody").0,
        StatusCode::ACCEPTED
    );
}

#[tokio::test]
async fn fields_that_cannot_be_used_are_named() {
    let world = World::new().await;
    let many: Value = (0..65)
        .map(|n| (n.to_string(), json!("x")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let cases = [
        (json!({}), "text"),
        (json!({"text": ""}), "text"),
        (json!({"text": 7}), "text"),
        (json!({"text": null}), "text"),
        (json!({"text": "x".repeat(65_537)}), "text"),
        (json!({"text": "x", "colour": "red"}), "colour"),
        (json!({"text": "x", "agent": "nobody"}), "agent"),
        (json!({"text": "x", "agent": "n".repeat(300)}), "agent"),
        (json!({"text": "x", "thread": ""}), "thread"),
        (json!({"text": "x", "thread": "a\nb"}), "thread"),
        (json!({"text": "x", "user": ""}), "user"),
        (json!({"text": "x", "metadata": {"a": 1}}), "metadata.a"),
        (json!({"text": "x", "metadata": {"": "b"}}), "metadata"),
        (
            json!({"text": "x", "metadata": {"a": "b".repeat(300)}}),
            "metadata.a",
        ),
        (json!({"text": "x", "metadata": many}), "metadata"),
        (json!({"text": "x", "wait_s": -1}), "wait_s"),
        (json!({"text": "x", "wait_s": "soon"}), "wait_s"),
        (json!({"text": "x", "budget": {"usd": -1}}), "budget.usd"),
        (
            json!({"text": "x", "budget": {"tokens": 1.5}}),
            "budget.tokens",
        ),
        (json!({"text": "x", "budget": {"euro": 1}}), "budget.euro"),
        (json!({"text": "x", "dir": "/does/not/exist"}), "dir"),
    ];
    for (body, field) in cases {
        let (status, problem) = world
            .ask(&world.local(), "POST", "/v1/tasks", Some(body.clone()))
            .await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(problem["field"], field, "{problem}");
    }
    let none = world
        .store
        .tasks(&world.house.desk.tenant, &filter())
        .await
        .unwrap();
    assert!(none.is_empty(), "what is refused leaves nothing behind");
}

fn filter() -> shared::store::TaskFilter {
    shared::store::TaskFilter {
        limit: 10,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_folder_of_the_senders_choice_is_read() {
    let world = World::new().await;
    let dir = world.folder().join("material");
    std::fs::create_dir_all(&dir).unwrap();
    let id = world.order(json!({"text": "x", "dir": dir})).await;
    let run = world.claim(id).await;
    assert_eq!(run.authority.material, Some(dir.canonicalize().unwrap()));
}

/// The data folder holds the instance's own token.
#[tokio::test]
async fn the_data_folder_is_nobodys_to_read() {
    let world = World::new().await;
    let private = world.folder().join("private");
    std::fs::create_dir_all(private.join("files")).unwrap();
    std::os::unix::fs::symlink(&private, world.folder().join("link")).unwrap();
    for dir in ["", "private", "private/files", "link", "private/../private"] {
        let body = json!({"text": "x", "dir": world.folder().join(dir)});
        let (status, problem) = world
            .ask(&world.local(), "POST", "/v1/tasks", Some(body))
            .await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!("dir")),
            "{dir}"
        );
    }
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused_with_their_position() {
    let world = World::new().await;
    let send = async |kind: Option<&str>, body: Body| {
        let mut request = ask(&world.local(), "POST", "/v1/tasks");
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        read(world.send(request.body(body).unwrap()).await).await
    };
    let (status, problem) = send(Some("application/json"), "{\"text\":\n ]".into()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("line 2 column 2"),
        "{problem}"
    );
    for body in [
        "",
        "{\"text\":\"x\"} more",
        "[]",
        "null",
        "{\"text\":\"\u{0}\"}",
    ] {
        let (status, problem) = send(Some("application/json; charset=utf-8"), body.into()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {problem}");
    }
    let (status, problem) = send(Some("text/plain"), "{\"text\":\"x\"}".into()).await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, &json!("Content-Type"))
    );
    let (status, _) = send(None, "{\"text\":\"x\"}".into()).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn size_is_judged_before_tokens() {
    let world = World::new().await;
    let post = |token: &str| {
        ask(token, "POST", "/v1/tasks").header(header::CONTENT_TYPE, "application/json")
    };
    let told = post("wrong")
        .header(header::CONTENT_LENGTH, MAX_BODY + 1)
        .body(Body::empty());
    let (status, _) = read(world.send(told.unwrap()).await).await;
    assert_eq!(
        status,
        StatusCode::PAYLOAD_TOO_LARGE,
        "by what it says of itself"
    );

    let chunks = stream::iter((0..20).map(|_| Ok::<_, std::io::Error>("x".repeat(MAX_BODY / 10))));
    let sent = post(&world.local())
        .body(Body::from_stream(chunks))
        .unwrap();
    let (status, _) = read(world.send(sent).await).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "by what arrives");
}

#[tokio::test]
async fn paths_methods_and_ids_that_do_not_exist() {
    let world = World::new().await;
    let local = world.local();
    let (status, _) = world.ask(&local, "GET", "/v2/tasks", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let response = world
        .send(
            ask(&local, "DELETE", "/v1/tasks")
                .body(Body::empty())
                .unwrap(),
        )
        .await;
    assert_eq!(response.headers()[header::ALLOW], "POST,GET,HEAD");
    assert_eq!(read(response).await.0, StatusCode::METHOD_NOT_ALLOWED);
    for (method, path) in [
        ("GET", ""),
        ("GET", "/events"),
        ("GET", "/transcript"),
        ("POST", "/cancel"),
    ] {
        for id in ["7", "%ff", "..%2f"] {
            let (status, problem) = world
                .ask(&local, method, &format!("/v1/tasks/{id}{path}"), None)
                .await;
            assert_eq!(
                (status, &problem["field"]),
                (StatusCode::BAD_REQUEST, &json!("id"))
            );
        }
        let absent = TaskId::fresh();
        let (status, _) = world
            .ask(&local, method, &format!("/v1/tasks/{absent}{path}"), None)
            .await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn lists_are_paged_and_filtered() {
    let world = World::new().await;
    let local = world.local();
    let mut ids = Vec::new();
    for n in 0..5 {
        let order = json!({
            "text": format!("{n}"), "thread": format!("t{}", n % 2), "user": format!("u{}", n % 2),
            "metadata": {"k.e y": format!("{n}")}, "agent": if n == 0 { Some("writer") } else { None },
        });
        ids.push(world.order(order).await);
    }
    ids.reverse();
    let list = async |query: &str| {
        let (status, page) = world
            .ask(&local, "GET", &format!("/v1/tasks?{query}"), None)
            .await;
        assert_eq!(status, StatusCode::OK, "{page}");
        let tasks = page["tasks"].as_array().unwrap().iter();
        let found: Vec<TaskId> = tasks
            .map(|task| task["id"].as_str().unwrap().parse().unwrap())
            .collect();
        (found, page["next"].as_str().map(str::to_owned))
    };
    assert_eq!(list("").await, (ids.clone(), None));
    let (first, next) = list("limit=2").await;
    assert_eq!(first, ids[..2]);
    let (second, next) = list(&format!("limit=2&before={}", next.unwrap())).await;
    assert_eq!(second, ids[2..4]);
    assert_eq!(
        list(&format!("limit=2&before={}", next.unwrap())).await,
        (ids[4..].to_vec(), None)
    );
    assert_eq!(
        list("limit=5").await.1,
        None,
        "a full last page has no next"
    );
    assert_eq!(list("thread=t1").await.0, [ids[1], ids[3]]);
    assert_eq!(list("user=u1").await.0, [ids[1], ids[3]]);
    assert_eq!(
        list("user=user%3Au1").await.0,
        [ids[1], ids[3]],
        "as a task shows it"
    );
    assert_eq!(list("agent=writer").await.0, [ids[4]]);
    assert_eq!(list("metadata.k.e%20y=3").await.0, [ids[1]]);
    assert_eq!(list("state=done").await.0, []);
    assert_eq!(
        list("state=queued&thread=t0").await.0,
        [ids[0], ids[2], ids[4]]
    );
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("before=7", "before"),
        ("state=lost", "state"),
        ("colour=red", "colour"),
        ("limit=1&limit=2", "limit"),
    ] {
        let (status, problem) = world
            .ask(&local, "GET", &format!("/v1/tasks?{query}"), None)
            .await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!(field)),
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_task_is_cancelled_once_and_stays_so() {
    let world = World::new().await;
    let local = world.local();
    let cancel = async |id: TaskId| {
        world
            .ask(&local, "POST", &format!("/v1/tasks/{id}/cancel"), None)
            .await
    };
    let id = world.order(json!({"text": "x"})).await;
    for _ in 0..2 {
        let (status, task) = cancel(id).await;
        assert_eq!(
            (status, &task["state"]),
            (StatusCode::OK, &json!("cancelled"))
        );
    }
    let done = world.order(json!({"text": "x"})).await;
    let run = world.claim(done).await;
    world.finish(&run, "there").await;
    assert_eq!(cancel(done).await.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_step_in_doubt_is_settled_once() {
    let world = World::new().await;
    let local = world.local();
    let id = world.order(json!({"text": "x"})).await;
    let run = world.claim(id).await;
    let say = async |body: Value| {
        world
            .ask(
                &local,
                "POST",
                &format!("/v1/tasks/{id}/resolve"),
                Some(body),
            )
            .await
    };
    let happened = json!({"step": "tool/1.0", "decision": "happened", "result": {"ok": true}});
    let (status, problem) = say(happened.clone()).await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::NOT_FOUND, &json!("step")),
        "nothing waits"
    );

    world.doubt(&run, "tool/1.0").await;
    for (body, field) in [
        (json!({"step": "tool/1.0"}), "decision"),
        (json!({"step": "tool/1.0", "decision": "maybe"}), "decision"),
        (json!({"step": "", "decision": "again"}), "step"),
        (
            json!({"step": "tool/1.0", "decision": "again", "result": 1}),
            "result",
        ),
        (
            json!({"step": "tool/1.0", "decision": "again", "run": "7"}),
            "run",
        ),
        (
            json!({"step": "tool/1.0", "decision": "again", "why": "7"}),
            "why",
        ),
    ] {
        let (status, problem) = say(body).await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!(field))
        );
    }
    let elsewhere = json!({"step": "tool/1.0", "decision": "again", "run": TaskId::fresh()});
    assert_eq!(say(elsewhere).await.0, StatusCode::NOT_FOUND);

    let (first, second) = tokio::join!(say(happened.clone()), say(happened));
    let mut statuses = [first.0, second.0];
    statuses.sort();
    assert_eq!(
        statuses,
        [StatusCode::OK, StatusCode::CONFLICT],
        "two people at once"
    );
    let name = agents::run::doubt_signal(&"tool/1.0".into());
    let told = world
        .store
        .signal(&"home".into(), run.id, &name)
        .await
        .unwrap();
    assert_eq!(
        told,
        Some(json!({"decision": "happened", "result": {"ok": true}, "by": "local"}))
    );
    let again = json!({"step": "tool/1.0", "decision": "again"});
    assert_eq!(
        say(again).await.0,
        StatusCode::CONFLICT,
        "nobody changes a word that was given"
    );
}

#[tokio::test]
async fn health_says_why_it_cannot_work() {
    let world = World::new().await;
    let bare = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(
        read(world.send(bare("/healthz")).await).await.0,
        StatusCode::OK
    );
    let (status, ready) = read(world.send(bare("/readyz")).await).await;
    assert_eq!(
        (status, ready),
        (
            StatusCode::OK,
            json!({"ready": true, "reasons": [], "channels": []})
        )
    );
    world.house.away.lock().unwrap().push("writer".into());
    let (status, ready) = read(world.send(bare("/readyz")).await).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        ready["reasons"],
        json!(["the actor of agent writer is not running"])
    );
}

#[tokio::test]
async fn metrics_tell_the_stores_numbers_and_the_process_own() {
    let world = World::new().await;
    world.order(json!({"text": "x"})).await;
    let (status, text) = world.ask("", "GET", "/metrics", None).await;
    let text = text.as_str().unwrap();
    assert_eq!(status, StatusCode::OK);
    assert!(
        text.contains("majordomo_tasks{state=\"queued\"} 1\n"),
        "{text}"
    );
    assert!(
        text.contains("majordomo_runs{state=\"queued\"} 1\n"),
        "{text}"
    );
    assert!(text.ends_with("own_numbers 1\n"), "{text}");
}

#[tokio::test]
async fn the_description_names_every_route() {
    let world = World::new().await;
    let (status, api) = world.ask("", "GET", "/openapi.json", None).await;
    assert_eq!(status, StatusCode::OK);
    let mut operations = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let answers: Vec<_> = operation["responses"]
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect();
            operations.push(format!(
                "{} {path} -> {}",
                method.to_uppercase(),
                answers.join(" ")
            ));
        }
    }
    operations.sort();
    insta::assert_snapshot!(operations.join("\n"));
    let schemas: Vec<_> = api["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    insta::assert_snapshot!("schemas", schemas.join("\n"));
    assert_eq!(
        api["components"]["securitySchemes"]["token"]["scheme"],
        "bearer"
    );
    assert_eq!(api["security"], json!([{"token": []}]));
    assert_eq!(api["paths"]["/healthz"]["get"]["security"], json!([{}]));
    let order = &api["components"]["schemas"]["TaskOrder"];
    assert_eq!(order["required"], json!(["text"]));
    assert!(
        world
            .ask("", "GET", "/", None)
            .await
            .1
            .as_str()
            .unwrap()
            .contains("/v1/tasks")
    );
}
