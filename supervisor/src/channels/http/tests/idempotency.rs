//! The same key is the same task, whoever is in a hurry.

use std::collections::HashSet;

use axum::http::{StatusCode, header};
use futures::future::join_all;
use serde_json::{Value, json};
use shared::store::TaskFilter;

use super::*;

async fn post(world: &World, token: &str, key: &str, body: &str) -> (StatusCode, Value) {
    let request = ask(token, "POST", "/v1/tasks")
        .header(header::CONTENT_TYPE, "application/json")
        .header("Idempotency-Key", key);
    read(
        world
            .send(request.body(body.to_owned().into()).unwrap())
            .await,
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_at_once_make_one_task() {
    let world = World::new().await;
    let local = world.local();
    let body = json!({"text": "once"}).to_string();
    let answers = join_all((0..100).map(|_| post(&world, &local, "k", &body))).await;
    let ids: HashSet<String> = answers
        .iter()
        .map(|(_, taken)| taken["id"].to_string())
        .collect();
    assert!(
        answers
            .iter()
            .all(|(status, _)| *status == StatusCode::ACCEPTED)
    );
    assert_eq!(ids.len(), 1);
    let all = TaskFilter {
        limit: 200,
        ..Default::default()
    };
    assert_eq!(
        world
            .store
            .tasks(&world.house.desk.tenant, &all)
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn the_same_key_takes_the_same_body_only() {
    let world = World::new().await;
    let local = world.local();
    let (_, first) = post(&world, &local, "k", r#"{"text":"x","thread":"t"}"#).await;
    let (status, again) = post(&world, &local, "k", r#"{ "thread": "t", "text": "x" }"#).await;
    assert_eq!(
        (status, &again),
        (StatusCode::ACCEPTED, &first),
        "spacing and order are no difference"
    );
    let (status, problem) = post(&world, &local, "k", r#"{"text":"y","thread":"t"}"#).await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::CONFLICT, &json!("Idempotency-Key"))
    );

    let (_, second) = post(&world, &local, "other", r#"{"text":"x","thread":"t"}"#).await;
    assert_ne!(second["id"], first["id"]);
    let token = world.token("ci", &[Scope::Tasks]).await;
    let (status, theirs) = post(&world, &token, "k", r#"{"text":"z"}"#).await;
    assert_eq!(status, StatusCode::ACCEPTED, "keys are each sender's own");
    assert_ne!(theirs["id"], first["id"]);
}

#[tokio::test]
async fn a_repeated_request_finds_the_task_where_it_stands() {
    let world = World::new().await;
    let local = world.local();
    let body = r#"{"text":"x","wait_s":0}"#;
    let (_, taken) = post(&world, &local, "k", body).await;
    let run = world
        .claim(taken["id"].as_str().unwrap().parse().unwrap())
        .await;
    assert_eq!(post(&world, &local, "k", body).await.1["state"], "running");
    world.finish(&run, "there").await;
    let (status, task) = post(&world, &local, "k", body).await;
    assert_eq!((status, &task["answer"]), (StatusCode::OK, &json!("there")));
}

#[tokio::test]
async fn keys_that_cannot_be_used_are_refused() {
    let world = World::new().await;
    for key in ["", "a b", &"k".repeat(256), "\u{e9}"] {
        let (status, problem) = post(&world, &world.local(), key, r#"{"text":"x"}"#).await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!("Idempotency-Key"))
        );
    }
    let twice = ask(&world.local(), "POST", "/v1/tasks")
        .header(header::CONTENT_TYPE, "application/json")
        .header("Idempotency-Key", "a")
        .header("Idempotency-Key", "b");
    let (status, _) = read(world.send(twice.body("{}".into()).unwrap()).await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}
