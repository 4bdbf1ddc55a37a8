//! How often somebody may ask, and what pages of other origins are told.

use super::*;

#[tokio::test]
async fn each_token_may_ask_so_often() {
    let world = World::with(|door| door.rates = Rates::new(3)).await;
    let (one, other) = (
        world.token("one", &[Scope::Tasks]).await,
        world.token("other", &[Scope::Tasks]).await,
    );
    for _ in 0..3 {
        let (status, _) = world.ask(&one, "GET", "/v1/tasks", None).await;
        assert_eq!(status, StatusCode::OK);
    }
    let request = ask(&one, "GET", "/v1/tasks").body(Body::empty());
    let response = world.send(request.unwrap()).await;
    let after = response.headers()[header::RETRY_AFTER].to_str().unwrap();
    assert!((1..=20).contains(&after.parse::<u32>().unwrap()), "{after}");
    let (status, problem) = read(response).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(problem["type"], "urn:majordomo:problem:rate");
    let (status, _) = world.ask(&other, "GET", "/v1/tasks", None).await;
    assert_eq!(status, StatusCode::OK, "another token");
    for _ in 0..10 {
        let (status, _) = world.ask(&world.local(), "GET", "/v1/tasks", None).await;
        assert_eq!(status, StatusCode::OK, "the instance's own");
    }
}

#[tokio::test]
async fn strangers_share_what_an_address_may_ask_and_health_is_free() {
    let world = World::with(|door| door.rates = Rates::new(3)).await;
    let from = async |token: &str, address: &str, path: &str| {
        let mut request = ask(token, "GET", path).body(Body::empty()).unwrap();
        let peer = rate::Peer::new(address.parse().unwrap());
        request.extensions_mut().insert(peer);
        world.send(request).await.status()
    };
    for n in 0..5 {
        let expected = if n < 3 { 401 } else { 429 };
        assert_eq!(from("wrong", "192.0.2.1", "/v1/tasks").await, expected);
    }
    assert_eq!(from("wrong", "192.0.2.2", "/v1/tasks").await, 401);
    let known = world.token("known", &[Scope::Tasks]).await;
    assert_eq!(from(&known, "192.0.2.1", "/v1/tasks").await, 200);
    for _ in 0..10 {
        assert_eq!(from("", "192.0.2.1", "/healthz").await, 200);
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_never_invited() {
    let world = World::new().await;
    for (method, path) in [
        ("OPTIONS", "/v1/tasks"),
        ("GET", "/v1/tasks"),
        ("POST", "/v1/hooks/ci"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
    ] {
        for origin in [None, Some("http://localhost"), Some("https://evil.test")] {
            let mut request = ask(&world.local(), method, path)
                .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST");
            if let Some(origin) = origin {
                request = request.header(header::ORIGIN, origin);
            }
            let response = world.send(request.body(Body::empty()).unwrap()).await;
            let mut names = response.headers().keys();
            assert!(
                !names.any(|name| name.as_str().starts_with("access-control-")),
                "{method} {path} from {origin:?}"
            );
            if origin == Some("https://evil.test") {
                assert_eq!(response.status(), StatusCode::FORBIDDEN);
            }
        }
    }
}

#[tokio::test]
async fn who_can_be_called_back_is_decided_at_the_door() {
    let order = |url: &str| json!({"text": "x", "callback_url": url});
    let post = async |world: &World, url: &str| {
        let local = world.local();
        world
            .ask(&local, "POST", "/v1/tasks", Some(order(url)))
            .await
    };
    let without = World::new().await;
    let (status, problem) = post(&without, "https://example.com/").await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::BAD_REQUEST, &json!("callback_url"))
    );
    assert!(problem["detail"].as_str().unwrap().contains("[callbacks]"));

    let world = World::with(|door| {
        door.callbacks = Some(Gateway::new(&Default::default()).unwrap());
    })
    .await;
    for url in [
        "http://example.com/",
        "https://127.0.0.1/",
        "https://a:s3cret@example.com/",
        "x",
    ] {
        let (status, problem) = post(&world, url).await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!("callback_url")),
            "{url}"
        );
        assert!(!problem.to_string().contains("s3cret"), "{problem}");
    }
    let id = world.order(order("https://example.com/done?t=1")).await;
    let mail = world.store.mail();
    let card = mail.card(&world.house.desk.tenant, id).await.unwrap();
    let (out, state) = card.expect("owed from the start");
    assert_eq!(
        (state.as_str(), out.conversation.as_str()),
        ("owed", "https://example.com")
    );
    assert_eq!(out.body, json!({"url": "https://example.com/done?t=1"}));
}
