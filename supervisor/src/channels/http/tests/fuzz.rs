//! Whatever is posted, the answer is a yes or a refusal, never a fault of ours.

use axum::body::Body;
use axum::http::header;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::*;

/// Bodies of one run; a longer one is a matter of this number.
const CASES: u32 = 1500;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("writer")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Orders that are nearly right.
fn order() -> impl Strategy<Value = Value> {
    const FIELDS: [&str; 9] = [
        "text", "agent", "thread", "user", "metadata", "wait_s", "budget", "dir", "\u{0}",
    ];
    let metadata = proptest::collection::btree_map(any::<String>(), any::<String>(), 0..3);
    let field = (proptest::sample::select(FIELDS.to_vec()), value());
    (
        any::<String>(),
        metadata,
        any::<(f64, u64)>(),
        proptest::collection::vec(field, 0..3),
    )
        .prop_map(|(text, metadata, (usd, tokens), changes)| {
            let budget = json!({"usd": usd, "tokens": tokens});
            let mut order = json!({"text": text, "metadata": metadata, "budget": budget});
            for (field, value) in changes {
                order[field] = value;
            }
            order
        })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let text = |value: Value| value.to_string().into_bytes();
    let cut = (order(), any::<proptest::sample::Index>()).prop_map(move |(order, at)| {
        let mut bytes = order.to_string().into_bytes();
        bytes.truncate(at.index(bytes.len()));
        bytes
    });
    prop_oneof![
        4 => order().prop_map(text),
        1 => value().prop_map(text),
        1 => cut,
        1 => proptest::collection::vec(any::<u8>(), 0..200),
    ]
}

#[test]
fn any_body_is_taken_or_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let world = runtime.block_on(World::new());
    // A door that closes waits for no task.
    world.closing.cancel();
    let local = world.local();
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    });
    let key = proptest::option::of(proptest::collection::vec(32u8..=255, 0..4));
    let ran = runner.run(&(body(), key), |(body, key)| {
        let mut request =
            ask(&local, "POST", "/v1/tasks").header(header::CONTENT_TYPE, "application/json");
        if let Some(Ok(key)) = key.map(|key| axum::http::HeaderValue::from_bytes(&key)) {
            request = request.header("Idempotency-Key", key);
        }
        let response = runtime.block_on(world.send(request.body(Body::from(body)).unwrap()));
        let (status, answer) = runtime.block_on(read(response));
        prop_assert!(
            status.is_success() || status.is_client_error(),
            "{status} {answer}"
        );
        Ok(())
    });
    ran.unwrap();
    let all = shared::store::TaskFilter {
        limit: 10_000,
        ..Default::default()
    };
    let taken = runtime
        .block_on(world.store.tasks(&world.house.desk.tenant, &all))
        .unwrap()
        .len();
    assert!(
        taken > CASES as usize / 20,
        "only {taken} were taken: the bodies are too wild to tell"
    );
}

#[tokio::test]
async fn depth_breaks_nothing() {
    let world = World::new().await;
    let local = world.local();
    for body in [
        "[".repeat(100_000),
        "{\"text\":".repeat(50_000),
        format!("{{\"text\":{}", "[".repeat(10_000)),
    ] {
        let request =
            ask(&local, "POST", "/v1/tasks").header(header::CONTENT_TYPE, "application/json");
        let (status, _) = read(world.send(request.body(body.into()).unwrap()).await).await;
        assert_eq!(status, 400);
    }
    let deep = format!(
        "{{\"step\":\"a\",\"decision\":\"happened\",\"result\":{}}}",
        "[".repeat(10_000)
    );
    let id = world.order(json!({"text": "x"})).await;
    let request = ask(&local, "POST", &format!("/v1/tasks/{id}/resolve"));
    let request = request
        .header(header::CONTENT_TYPE, "application/json")
        .body(deep.into())
        .unwrap();
    assert_eq!(read(world.send(request).await).await.0, 400);
}
