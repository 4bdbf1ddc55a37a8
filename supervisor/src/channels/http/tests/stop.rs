//! Stopping and letting go on over HTTP, and who may.

use super::*;

#[tokio::test]
async fn a_stop_is_an_admins_word_and_refuses_tasks_until_it_is_lifted() {
    let world = World::new().await;
    let admin = world.token("ops", &[Scope::Admin]).await;
    let others = [Scope::Tasks, Scope::Approve, Scope::OnBehalf];
    let user = world.token("app", &others).await;
    let all = || Some(json!({ "all": true, "reason": "it posts nonsense" }));
    for (method, path, body) in [
        ("POST", "/v1/stop", all()),
        ("POST", "/v1/resume", Some(json!({ "all": true }))),
        ("GET", "/v1/stop", None),
    ] {
        let (status, body) = world.ask(&user, method, path, body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path} {body}");
    }
    world.order_by(&user, json!({ "text": "before" })).await;

    let (status, page) = world.ask(&admin, "POST", "/v1/stop", all()).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    let halt = &page["halted"][0];
    assert_eq!(
        (&halt["what"], &halt["by"]),
        (&json!("all"), &json!("token:ops"))
    );
    let order = Some(json!({ "text": "x" }));
    let (status, problem) = world.ask(&user, "POST", "/v1/tasks", order).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem["type"], "urn:majordomo:problem:halted");
    let detail = problem["detail"].as_str().unwrap();
    for word in [
        "token:ops",
        "it posts nonsense",
        "UTC",
        "majordomo resume --all",
    ] {
        assert!(detail.contains(word), "{detail}");
    }
    let (status, ready) = world.ask("", "GET", "/readyz", None).await;
    assert_eq!(
        (status, &ready["halted"]),
        (StatusCode::OK, &json!(["everything"]))
    );
    let metrics = world.send(ask("", "GET", "/metrics").body(Body::empty()).unwrap());
    let metrics = to_bytes(metrics.await.into_body(), 1 << 20).await.unwrap();
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    assert!(
        metrics.contains("majordomo_halted{what=\"all\"} 1"),
        "{metrics}"
    );
    let (_, doctor) = world.ask(&admin, "GET", "/v1/doctor", None).await;
    assert!(
        doctor.to_string().contains("everything was stopped"),
        "{doctor}"
    );

    let go_on = Some(json!({ "all": true }));
    let (_, page) = world.ask(&admin, "POST", "/v1/resume", go_on).await;
    assert_eq!(page, json!({ "halted": [] }));
    world.order_by(&user, json!({ "text": "after" })).await;
}

#[tokio::test]
async fn one_thing_that_there_is_must_be_named() {
    let world = World::new().await;
    let local = world.local();
    let task = world.order(json!({ "text": "x" })).await;
    let gone = TaskId::fresh();
    for (body, status) in [
        (json!({}), StatusCode::BAD_REQUEST),
        (
            json!({ "all": true, "task": task }),
            StatusCode::BAD_REQUEST,
        ),
        (json!({ "agent": "nobody" }), StatusCode::BAD_REQUEST),
        (json!({ "task": gone }), StatusCode::NOT_FOUND),
        (
            json!({ "agent": "writer", "reason": "x".repeat(300) }),
            StatusCode::BAD_REQUEST,
        ),
    ] {
        let answer = world
            .ask(&local, "POST", "/v1/stop", Some(body.clone()))
            .await;
        assert_eq!(answer.0, status, "{body} {}", answer.1);
    }
    let (_, page) = world.ask(&local, "GET", "/v1/stop", None).await;
    assert_eq!(page, json!({ "halted": [] }));

    let body = || Some(json!({ "task": task }));
    let (status, _) = world.ask(&local, "POST", "/v1/stop", body()).await;
    assert_eq!(status, StatusCode::OK);
    let state = async || {
        let stored = world.store.task(&world.house.desk.tenant, task).await;
        stored.unwrap().unwrap().state
    };
    assert_eq!(state().await, TaskState::Paused);
    world.ask(&local, "POST", "/v1/resume", body()).await;
    assert_eq!(state().await, TaskState::Queued);
}
