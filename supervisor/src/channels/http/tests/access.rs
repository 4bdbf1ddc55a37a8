//! Who gets in where: every route against every kind of caller.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};

use super::*;

const ROUTES: [(&str, &str); 7] = [
    ("POST", "/v1/tasks"),
    ("GET", "/v1/tasks"),
    ("GET", "/v1/tasks/{id}"),
    ("GET", "/v1/tasks/{id}/events"),
    ("GET", "/v1/tasks/{id}/transcript"),
    ("POST", "/v1/tasks/{id}/cancel"),
    ("POST", "/v1/tasks/{id}/resolve"),
];

/// The status of each route, asked in this order. Events are not read.
async fn walk(world: &World, token: Option<&str>, id: TaskId) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (method, path) in ROUTES {
        let body = match path {
            "/v1/tasks" if method == "POST" => json!({"text": "x"}).to_string(),
            "/v1/tasks/{id}/resolve" => {
                json!({"step": "tool/1.0", "decision": "again"}).to_string()
            }
            _ => String::new(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path.replace("{id}", &id.to_string()));
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let response = world.send(request.body(Body::from(body)).unwrap()).await;
        statuses.push(response.status().as_u16());
        if !response.status().is_success() {
            read(response).await;
        }
    }
    statuses
}

/// A task of the token `owner` with a step in doubt.
async fn task_of(world: &World, owner: &str) -> TaskId {
    let id = world.order_by(owner, json!({"text": "x"})).await;
    let run = world.claim(id).await;
    world.doubt(&run, "tool/1.0").await;
    id
}

#[tokio::test]
async fn nobody_without_a_live_token_gets_in() {
    let world = World::new().await;
    let owner = world.token("owner", &[Scope::Tasks]).await;
    let revoked = world.token("revoked", &[Scope::Admin]).await;
    assert!(
        world
            .store
            .revoke_token(&world.house.desk.tenant, "revoked")
            .await
            .unwrap()
    );
    let id = task_of(&world, &owner).await;
    let forged = format!("mj_{}", "0".repeat(64));
    for token in [
        None,
        Some(""),
        Some("x"),
        Some(&*forged),
        Some(&*revoked),
        Some("mjlocal_"),
        Some("\u{e9}"),
    ] {
        assert_eq!(walk(&world, token, id).await, [401; 7], "{token:?}");
    }
    let response = world
        .send(Request::get("/v1/tasks").body(Body::empty()).unwrap())
        .await;
    assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    for (name, value) in [
        ("authorization", format!("Basic {owner}")),
        ("authorization", owner.clone()),
        ("cookie", owner.clone()),
    ] {
        let request = Request::get("/v1/tasks")
            .header(name, value)
            .body(Body::empty())
            .unwrap();
        assert_eq!(world.send(request).await.status(), 401, "{name}");
    }
    let in_url = Request::get(format!("/v1/tasks?access_token={owner}"))
        .body(Body::empty())
        .unwrap();
    assert_eq!(
        world.send(in_url).await.status(),
        401,
        "no token is taken from a URL"
    );
    let twice =
        ask(&owner, "GET", "/v1/tasks").header(header::AUTHORIZATION, format!("Bearer {owner}"));
    assert_eq!(
        world
            .send(twice.body(Body::empty()).unwrap())
            .await
            .status(),
        401
    );
}

#[tokio::test]
async fn scopes_and_ownership_decide_on_every_route() {
    let world = World::new().await;
    let owner = world.token("owner", &[Scope::Tasks]).await;
    let other = world
        .token("other", &[Scope::Tasks, Scope::OnBehalf, Scope::Approve])
        .await;
    let admin = world.token("admin", &[Scope::Admin]).await;
    let idle = world.token("idle", &[Scope::OnBehalf]).await;
    let id = task_of(&world, &owner).await;
    //                                              post list show events story cancel resolve
    assert_eq!(
        walk(&world, Some(&other), id).await,
        [202, 200, 404, 404, 404, 404, 404]
    );
    assert_eq!(
        walk(&world, Some(&idle), id).await,
        [403, 403, 404, 404, 404, 404, 404]
    );
    assert_eq!(
        walk(&world, Some(&owner), id).await,
        [202, 200, 200, 200, 200, 200, 403]
    );
    let id = task_of(&world, &owner).await;
    let word = json!({"step": "tool/1.0", "decision": "again"});
    let resolve = format!("/v1/tasks/{id}/resolve");
    assert_eq!(
        world.ask(&admin, "POST", &resolve, Some(word)).await.0,
        StatusCode::OK
    );
    assert_eq!(
        walk(&world, Some(&admin), id).await,
        [202, 200, 200, 200, 200, 200, 409]
    );
    let id = task_of(&world, &owner).await;
    assert_eq!(
        walk(&world, Some(&world.local()), id).await,
        [202, 200, 200, 200, 200, 200, 404]
    );
}

#[tokio::test]
async fn an_approver_sees_and_settles_its_own_but_hands_in_nothing() {
    let world = World::new().await;
    let owner = world.token("owner", &[Scope::Tasks]).await;
    let principal = Some("token:owner".into());
    let minted = mint(
        &*world.store,
        &world.house.desk.tenant,
        "boss",
        principal,
        &[Scope::Approve],
    )
    .await;
    let boss = minted.unwrap().1.expose().to_owned();
    let id = task_of(&world, &owner).await;
    assert_eq!(
        walk(&world, Some(&boss), id).await,
        [403, 200, 200, 200, 200, 403, 200]
    );
}

#[tokio::test]
async fn acting_for_a_user_needs_the_scope_and_hides_nothing_from_the_actor() {
    let world = World::new().await;
    let plain = world.token("plain", &[Scope::Tasks]).await;
    let admin = world.token("admin", &[Scope::Admin]).await;
    let service = world
        .token("service", &[Scope::Tasks, Scope::OnBehalf])
        .await;
    let order = json!({"text": "x", "user": "alice"});
    for token in [&plain, &admin] {
        let (status, problem) = world
            .ask(token, "POST", "/v1/tasks", Some(order.clone()))
            .await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::FORBIDDEN, &json!("user"))
        );
    }
    let id = world.order_by(&service, order).await;
    let list = async |token: &str, query: &str| {
        let (_, page) = world
            .ask(token, "GET", &format!("/v1/tasks{query}"), None)
            .await;
        page["tasks"].as_array().unwrap().len()
    };
    assert_eq!(
        world
            .ask(&service, "GET", &format!("/v1/tasks/{id}"), None)
            .await
            .1["user"],
        "user:alice"
    );
    assert_eq!(list(&service, "").await, 1);
    assert_eq!(list(&service, "?user=alice").await, 1);
    assert_eq!(list(&plain, "").await, 0);
    assert_eq!(
        list(&plain, "?user=alice").await,
        0,
        "a filter opens nothing"
    );
    assert_eq!(list(&plain, "?user=token%3Aservice").await, 0);
    assert_eq!(list(&admin, "?user=alice").await, 1);
    // A user may be called like a token: they are not the same.
    world
        .order_by(&service, json!({"text": "x", "user": "token:plain"}))
        .await;
    world
        .order_by(&service, json!({"text": "x", "user": "local"}))
        .await;
    assert_eq!(list(&plain, "").await, 0);
}

#[tokio::test]
async fn only_admins_choose_folders() {
    let world = World::new().await;
    let token = world
        .token("plain", &[Scope::Tasks, Scope::OnBehalf, Scope::Approve])
        .await;
    let (status, problem) = world
        .ask(
            &token,
            "POST",
            "/v1/tasks",
            Some(json!({"text": "x", "dir": "/"})),
        )
        .await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::FORBIDDEN, &json!("dir"))
    );
}

#[tokio::test]
async fn numbers_are_for_admins_where_others_can_reach_the_door() {
    let world = World::at(false, |store| store).await;
    let admin = world.token("admin", &[Scope::Admin]).await;
    let plain = world.token("plain", &[Scope::Tasks]).await;
    let bare = Request::get("/metrics").body(Body::empty()).unwrap();
    assert_eq!(world.send(bare).await.status(), 401);
    assert_eq!(
        world.ask(&plain, "GET", "/metrics", None).await.0,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        world.ask(&admin, "GET", "/metrics", None).await.0,
        StatusCode::OK
    );
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        let bare = Request::get(path).body(Body::empty()).unwrap();
        assert_eq!(world.send(bare).await.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn a_page_in_a_browser_is_no_way_in() {
    let world = World::new().await;
    let local = world.local();
    let send = async |world: &World, host: &str, origin: Option<&str>| {
        let mut request = Request::get("/v1/tasks").header(header::HOST, host);
        request = request.header(header::AUTHORIZATION, format!("Bearer {local}"));
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        read(world.send(request.body(Body::empty()).unwrap()).await)
            .await
            .0
            .as_u16()
    };
    assert_eq!(send(&world, "127.0.0.1:7070", None).await, 200);
    assert_eq!(
        send(&world, "127.0.0.1:7070", Some("http://127.0.0.1:7070")).await,
        200
    );
    assert_eq!(
        send(&world, "evil.test:7070", None).await,
        421,
        "a name that was bound to 127.0.0.1"
    );
    assert_eq!(
        send(&world, "evil.test", Some("http://evil.test")).await,
        421
    );
    assert_eq!(
        send(&world, "localhost:7070", Some("http://localhost:3000")).await,
        403
    );
    assert_eq!(send(&world, "localhost:7070", Some("null")).await, 403);
    let absolute = ask(&local, "GET", "http://evil.test/v1/tasks")
        .body(Body::empty())
        .unwrap();
    assert_eq!(world.send(absolute).await.status(), 421);
    let twice = ask(&local, "GET", "/v1/tasks").header(header::HOST, "evil.test");
    assert_eq!(
        world
            .send(twice.body(Body::empty()).unwrap())
            .await
            .status(),
        421
    );

    let public = World::at(false, |store| store).await;
    let request = Request::get("/healthz").header(header::HOST, "majordomo.example");
    assert_eq!(
        public
            .send(request.body(Body::empty()).unwrap())
            .await
            .status(),
        200
    );
    let request = Request::get("/healthz").header(header::HOST, "majordomo.example");
    let foreign = request
        .header(header::ORIGIN, "https://evil.test")
        .body(Body::empty())
        .unwrap();
    assert_eq!(public.send(foreign).await.status(), 403);
}

#[test]
fn a_public_address_needs_a_token_first() {
    for (address, open) in [
        ("127.0.0.1:7070", false),
        ("[::1]:7070", false),
        ("[::ffff:127.0.0.1]:1", false),
        ("0.0.0.0:7070", true),
        ("[::]:7070", true),
        ("192.168.1.2:7070", true),
    ] {
        assert_eq!(
            check_bind(address.parse().unwrap(), false).is_err(),
            open,
            "{address}"
        );
        assert!(check_bind(address.parse().unwrap(), true).is_ok());
    }
    let refused = check_bind("0.0.0.0:7070".parse().unwrap(), false)
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("majordomo token new") && refused.contains("127.0.0.1"),
        "{refused}"
    );
}

#[tokio::test]
async fn no_answer_repeats_a_token() {
    let world = World::new().await;
    let token = world.token("ci", &[Scope::Tasks]).await;
    world
        .store
        .revoke_token(&world.house.desk.tenant, "ci")
        .await
        .unwrap();
    let (_, problem): (_, Value) = world.ask(&token, "GET", "/v1/tasks", None).await;
    assert!(!problem.to_string().contains(&token[3..]));
    let rows = format!(
        "{:?}",
        world.store.tokens(&world.house.desk.tenant).await.unwrap()
    );
    assert!(!rows.contains(&token[3..]), "the store never saw it");
}

#[tokio::test]
async fn tokens_are_kept_by_people_at_the_machine_alone() {
    let world = World::new().await;
    let order = || Some(json!({"name": "ci", "scopes": ["tasks"]}));
    let admin = world.token("boss", &Scope::ALL).await;
    for (method, path, body) in [
        ("POST", "/v1/tokens", order()),
        ("GET", "/v1/tokens", None),
        ("DELETE", "/v1/tokens/boss", None),
    ] {
        let (status, _) = world.ask(&admin, method, path, body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}");
    }
    let local = world.local();
    let (status, made) = world.ask(&local, "POST", "/v1/tokens", order()).await;
    assert_eq!(status, StatusCode::OK);
    let made = made["token"].as_str().unwrap().to_owned();
    let (status, _) = world.ask(&made, "GET", "/v1/tasks", None).await;
    assert_eq!(status, StatusCode::OK);
    let (status, again) = world.ask(&local, "POST", "/v1/tokens", order()).await;
    assert_eq!(
        (status, &again["field"]),
        (StatusCode::CONFLICT, &json!("name"))
    );
    let odd = Some(json!({"name": "x", "scopes": ["everything"]}));
    let (status, odd) = world.ask(&local, "POST", "/v1/tokens", odd).await;
    assert_eq!(
        (status, &odd["field"]),
        (StatusCode::BAD_REQUEST, &json!("scopes"))
    );
    let (_, page) = world.ask(&local, "GET", "/v1/tokens", None).await;
    assert_eq!(page["tokens"].as_array().unwrap().len(), 2);
    assert!(!page.to_string().contains(&made), "a list holds no secret");
    let (status, _) = world.ask(&local, "DELETE", "/v1/tokens/ci", None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = world.ask(&made, "GET", "/v1/tasks", None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let (status, _) = world.ask(&local, "DELETE", "/v1/tokens/ci", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn people_and_channels_are_for_admins() {
    let world = World::new().await;
    let admin = world.token("admin", &[Scope::Admin]).await;
    let other = world
        .token("other", &[Scope::Tasks, Scope::OnBehalf, Scope::Approve])
        .await;
    let pairing = json!({"name": "ada", "roles": ["member"], "label": "phone"});
    for (method, path, body) in [
        ("POST", "/v1/pairings", Some(pairing.clone())),
        ("GET", "/v1/people", None),
        ("DELETE", "/v1/people/ada", None),
        ("GET", "/v1/channels", None),
        ("POST", "/v1/channels/telegram/test", None),
        ("POST", "/v1/channels/telegram/retry", None),
    ] {
        let (status, problem) = world.ask(&other, method, path, body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}: {problem}");
    }
    let (status, made) = world
        .ask(&admin, "POST", "/v1/pairings", Some(pairing))
        .await;
    assert_eq!(status, StatusCode::OK, "{made}");
    assert_eq!(made["code"].as_str().unwrap().len(), 14);
    for (field, wrong) in [
        ("name", json!({"name": "Ada Lovelace"})),
        ("roles", json!({"name": "ada", "roles": ["king"]})),
        ("roles", json!({"name": "ada", "roles": []})),
        ("label", json!({"name": "ada", "label": "a\nb"})),
        ("ttl_min", json!({"name": "ada", "ttl_min": 100_000})),
    ] {
        let (status, problem) = world.ask(&admin, "POST", "/v1/pairings", Some(wrong)).await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!(field))
        );
    }
    for (method, path) in [
        ("DELETE", "/v1/people/slack:T1%2FU1"),
        ("POST", "/v1/channels/telegram/test"),
    ] {
        let (status, _) = world.ask(&admin, method, path, None).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
    let (_, people) = world.ask(&admin, "GET", "/v1/people", None).await;
    assert_eq!(people, json!({"people": []}));
}
