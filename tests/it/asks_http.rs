//! What people are asked, over HTTP: who sees it, who may say what to it, and what a word does.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use majordomo_tests::tool::TestTool;
use shared::id::TaskId;
use shared::run::Effect;
use shared::store::AskFilter;
use shared::task::{Task, TaskState};
use supervisor::auth::{LocalToken, Scope, mint};
use supervisor::channels::http;

on_both_stores!(
    an_approval_is_read_decided_and_done_once,
    whoever_may_not_decide_is_told_why_or_sees_nothing,
    of_many_words_at_once_one_counts,
    arguments_are_changed_only_to_what_the_tool_takes,
    a_refusal_is_read_by_the_agent_and_nothing_is_done,
    a_question_is_answered_by_whoever_asked_or_an_approver,
    a_doubt_is_an_escalation,
    lists_are_paged_and_kept_to_what_may_be_seen,
    what_nobody_waits_for_any_more_takes_no_word,
    permits_are_given_shown_and_taken_back_by_approvers,
);

const SEND: &str = "[[agent.reply]]\ntext = \"I send it.\"\ncalls = [{ tool = \"send\", args = { n = 5 } }]\n[[agent.reply]]\ntext = \"It is settled.\"\n";
const ASK: &str = "[[agent.reply]]\ncalls = [{ tool = \"ask_human\", args = { question = \"Which one?\", choices = [\"this\", \"that\"] } }]\n[[agent.reply]]\ntext = \"So be it.\"\n";
const ASKED: &str = "[approvals]\nwithin_h = 1.0\n";

/// An instance with its door open.
struct Town {
    app: TestApp,
    address: String,
    closing: CancellationToken,
}

impl Town {
    async fn open(setup: Setup, kind: Kind) -> Self {
        let app = setup.on(kind).start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (closing, token) = (CancellationToken::new(), LocalToken::fresh().unwrap());
        tokio::spawn(http::serve(
            app.app.clone(),
            listener,
            token,
            closing.clone(),
        ));
        Self {
            app,
            address,
            closing,
        }
    }

    /// An instance whose worker sends something that cannot be taken back.
    async fn sending(kind: Kind, approvals: &str) -> (Self, Arc<TestTool>) {
        let send = |_| async { Ok(json!("sent")) };
        let send = Arc::new(TestTool::new("send", Effect::Once, send));
        let setup = Setup::worker(SEND, &[&send], approvals);
        (Self::open(setup, kind).await, send)
    }

    /// An instance whose worker asks people.
    async fn asking(kind: Kind) -> Self {
        let script =
            format!("[[agent]]\nname = \"worker\"\nsystem = \"You are the worker\"\n{ASK}");
        let route = "[[routes]]\nmatches = ''\nagents = [\"worker\"]\n";
        let setup = Setup::scripted(&script, route).agent("worker", "tools = [\"ask_human\"]\n");
        Self::open(setup, kind).await
    }

    async fn token(&self, name: &str, scopes: &[Scope]) -> String {
        let (store, tenant) = (&*self.app.app.store, self.app.app.tenant());
        let minted = mint(store, tenant, name, None, scopes).await;
        minted.unwrap().1.expose().to_owned()
    }

    /// What the door answers.
    async fn send(
        &self,
        token: &str,
        (method, path): (Method, &str),
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.address)
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        let request = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        let exchange = async move {
            let response = sender.send_request(request.unwrap()).await.unwrap();
            let status = response.status();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
        };
        let both = async { futures::join!(connection, exchange).1 };
        let told = tokio::time::timeout(Duration::from_secs(30), both).await;
        told.expect("the door answers")
    }

    async fn get(&self, token: &str, path: &str) -> (StatusCode, Value) {
        self.send(token, (Method::GET, path), None).await
    }

    async fn post(&self, token: &str, path: &str, body: Value) -> (StatusCode, Value) {
        self.send(token, (Method::POST, path), Some(body)).await
    }

    /// Hands a task in and waits until people are asked. Answers the task, and the ask's path.
    async fn asked(&self, token: &str, collection: &str) -> (TaskId, String) {
        let (status, taken) = self
            .post(token, "/v1/tasks", json!({"text": "do it"}))
            .await;
        assert_eq!(status, StatusCode::ACCEPTED, "{taken}");
        let id: TaskId = taken["id"].as_str().unwrap().parse().unwrap();
        self.app
            .reaches(id, |task| task.state == TaskState::AwaitingHuman)
            .await;
        let (_, task) = self.get(token, &format!("/v1/tasks/{id}")).await;
        let ask = task["asks"][0]["id"].as_str();
        let ask = ask.unwrap_or_else(|| panic!("nothing is asked in {task:#}"));
        (id, format!("/v1/{collection}/{ask}"))
    }

    async fn listed(&self, token: &str, path: &str) -> Vec<String> {
        let (status, page) = self.get(token, path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {page}");
        let asks = page["asks"].as_array().unwrap().iter();
        asks.map(|ask| ask["id"].as_str().unwrap().to_owned())
            .collect()
    }

    async fn close(self) {
        self.closing.cancel();
        self.app.stop().await;
    }
}

fn id_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

fn answered(task: &Task) -> Option<&str> {
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    task.answer.as_deref()
}

async fn an_approval_is_read_decided_and_done_once(kind: Kind) {
    let (town, send) = Town::sending(kind, ASKED).await;
    let ada = town.token("ada", &[Scope::Tasks]).await;
    let boss = town.token("boss", &[Scope::Approve]).await;
    let (task, path) = town.asked(&ada, "approvals").await;
    assert_eq!(town.listed(&boss, "/v1/approvals").await, [id_of(&path)]);

    let (status, ask) = town.get(&boss, &path).await;
    assert_eq!(status, StatusCode::OK, "{ask}");
    for (field, value) in [
        ("kind", json!("approval")),
        ("state", json!("open")),
        ("task", json!(task)),
        ("agent", json!("worker")),
        ("title", json!("worker wants to call send")),
        ("user", json!("token:ada")),
        ("request", json!("do it")),
    ] {
        assert_eq!(ask[field], value, "{field} of {ask:#}");
    }
    let action = &ask["action"];
    assert_eq!(
        (&action["tool"], &action["args"]),
        (&json!("send"), &json!({"n": 5}))
    );
    let filter = AskFilter {
        limit: 1,
        ..AskFilter::default()
    };
    let app = &town.app.app;
    let stored = app.store.asks().list(app.tenant(), &filter).await.unwrap();
    let hash = stored[0].ask.action.as_ref().unwrap().hash();
    assert_eq!(action["sha256"], json!(hash.to_string()));
    let lasts = ask["until_ms"].as_i64().unwrap() - ask["asked_at_ms"].as_i64().unwrap();
    // The two times are read one after the other.
    assert!((3_590_000..=3_610_000).contains(&lasts), "{lasts}");

    let (status, now) = town
        .post(&boss, &path, json!({"decision": "approve"}))
        .await;
    assert_eq!(status, StatusCode::OK, "{now}");
    assert_eq!(
        (&now["state"], &now["decided_by"], &now["decision"]),
        (
            &json!("answered"),
            &json!("token:boss"),
            &json!({"decision": "approve"})
        )
    );
    assert_eq!(answered(&town.app.ends(task).await), Some("It is settled."));
    let (status, problem) = town.post(&boss, &path, json!({"decision": "reject"})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("approved by token:boss"), "{detail}");
    assert_eq!(send.calls(), [5]);
    assert!(town.listed(&boss, "/v1/approvals").await.is_empty());
    assert_eq!(
        town.listed(&boss, "/v1/approvals?state=all").await,
        [id_of(&path)]
    );
    town.close().await;
}

async fn whoever_may_not_decide_is_told_why_or_sees_nothing(kind: Kind) {
    let (town, send) = Town::sending(kind, ASKED).await;
    let ada = town.token("ada", &[Scope::Tasks]).await;
    let own = town.token("own", &[Scope::Tasks, Scope::Approve]).await;
    let eve = town.token("eve", &[Scope::Tasks]).await;
    let idle = town.token("idle", &[Scope::OnBehalf]).await;
    let yes = || json!({"decision": "approve"});

    let (task, path) = town.asked(&ada, "approvals").await;
    assert_eq!(town.listed(&ada, "/v1/approvals").await, [id_of(&path)]);
    let (status, problem) = town.post(&ada, &path, yes()).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{problem}");
    assert_eq!(problem["detail"], "This is for an approver to decide.");

    assert!(
        town.listed(&eve, "/v1/approvals?state=all")
            .await
            .is_empty()
    );
    let part = format!("/v1/approvals?id={}", &id_of(&path)[..8]);
    assert!(town.listed(&eve, &part).await.is_empty());
    assert_eq!(town.get(&eve, &path).await.0, StatusCode::NOT_FOUND);
    assert_eq!(town.post(&eve, &path, yes()).await.0, StatusCode::NOT_FOUND);
    for other in ["questions", "escalations"] {
        let elsewhere = format!("/v1/{other}/{}", id_of(&path));
        assert_eq!(town.get(&own, &elsewhere).await.0, StatusCode::NOT_FOUND);
        let (status, _) = town.post(&own, &elsewhere, yes()).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{other}");
    }
    for (method, path) in [
        (Method::GET, "/v1/approvals"),
        (Method::GET, path.as_str()),
        (Method::POST, path.as_str()),
    ] {
        let (status, _) = town.send(&idle, (method, path), Some(yes())).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
        let (status, _) = town.get("mj_none", path).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(
        town.get(&own, "/v1/approvals/7").await.0,
        StatusCode::BAD_REQUEST
    );

    // Whoever may decide about others may not about themselves.
    let (mine, about_me) = town.asked(&own, "approvals").await;
    let (status, problem) = town.post(&own, &about_me, yes()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("own = true"), "{detail}");
    assert_eq!(send.calls(), [0; 0], "nobody said yes who may");
    for (task, path) in [(task, path), (mine, about_me)] {
        let boss = town.token("boss", &[Scope::Admin]).await;
        assert_eq!(town.post(&boss, &path, yes()).await.0, StatusCode::OK);
        answered(&town.app.ends(task).await);
        let tenant = town.app.app.tenant();
        assert!(
            town.app
                .app
                .store
                .revoke_token(tenant, "boss")
                .await
                .unwrap()
        );
    }
    assert_eq!(send.calls(), [5, 5]);
    town.close().await;

    let (town, send) = Town::sending(kind, "[approvals]\nown = true\n").await;
    let own = town.token("own", &[Scope::Tasks, Scope::Approve]).await;
    let (task, path) = town.asked(&own, "approvals").await;
    assert_eq!(town.post(&own, &path, yes()).await.0, StatusCode::OK);
    answered(&town.app.ends(task).await);
    assert_eq!(send.calls(), [5]);
    town.close().await;
}

async fn of_many_words_at_once_one_counts(kind: Kind) {
    let (town, send) = Town::sending(kind, ASKED).await;
    let ada = town.token("ada", &[Scope::Tasks]).await;
    let (one, two) = (
        town.token("one", &[Scope::Approve]).await,
        town.token("two", &[Scope::Approve]).await,
    );
    let (task, path) = town.asked(&ada, "approvals").await;
    let words = (0..20).map(|n| match n % 2 {
        0 => town.post(&one, &path, json!({"decision": "approve"})),
        _ => town.post(&two, &path, json!({"decision": "reject", "reason": "no"})),
    });
    let told = futures::future::join_all(words).await;
    let taken: Vec<&Value> = told
        .iter()
        .filter(|(status, _)| *status == StatusCode::OK)
        .map(|(_, now)| now)
        .collect();
    let late = told
        .iter()
        .filter(|(status, _)| *status == StatusCode::CONFLICT);
    assert_eq!((taken.len(), late.count()), (1, 19), "{told:?}");
    answered(&town.app.ends(task).await);
    let calls = match taken[0]["decided_by"] == "token:one" {
        true => vec![5],
        false => Vec::new(),
    };
    assert_eq!(send.calls(), calls);
    town.close().await;
}

async fn arguments_are_changed_only_to_what_the_tool_takes(kind: Kind) {
    let (town, send) = Town::sending(kind, ASKED).await;
    let ada = town.token("ada", &[Scope::Tasks]).await;
    let boss = town.token("boss", &[Scope::Approve]).await;
    let (task, path) = town.asked(&ada, "approvals").await;
    for unfit in [
        json!({"decision": "edit", "args": {"n": "many"}}),
        json!({"decision": "edit", "args": {"n": 6, "to": "eve"}}),
        json!({"decision": "edit", "args": []}),
        json!({"decision": "reply", "text": "  "}),
        json!({"decision": "again"}),
        json!({"decision": "guide", "text": "gently"}),
    ] {
        let (status, problem) = town.post(&boss, &path, unfit.clone()).await;
        assert_eq!(
            status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{unfit} {problem}"
        );
        assert_eq!(problem["type"], "urn:majordomo:problem:unfit");
    }
    for odd in [
        json!({}),
        json!({"decision": "perhaps"}),
        json!({"decision": "edit"}),
        json!({"decision": "approve", "why": "not"}),
        json!({"decision": "again", "why": "not"}),
    ] {
        let (status, problem) = town.post(&boss, &path, odd.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{odd} {problem}");
    }
    assert_eq!(send.calls(), [0; 0]);
    let good = json!({"decision": "edit", "args": {"n": 6}});
    let (status, now) = town.post(&boss, &path, good.clone()).await;
    assert_eq!((status, &now["decision"]), (StatusCode::OK, &good));
    answered(&town.app.ends(task).await);
    assert_eq!(send.calls(), [6]);
    town.close().await;
}

async fn a_refusal_is_read_by_the_agent_and_nothing_is_done(kind: Kind) {
    let (town, send) = Town::sending(kind, ASKED).await;
    let ada = town.token("ada", &[Scope::Tasks]).await;
    let boss = town.token("boss", &[Scope::Approve]).await;
    for (word, told) in [
        (
            json!({"decision": "reject", "reason": "the bill is paid"}),
            "token:boss rejected it: the bill is paid",
        ),
        (
            json!({"decision": "reply", "text": "call her instead"}),
            "token:boss says: call her instead",
        ),
    ] {
        let (task, path) = town.asked(&ada, "approvals").await;
        assert_eq!(town.post(&boss, &path, word).await.0, StatusCode::OK);
        answered(&town.app.ends(task).await);
        let heard = town.app.told().join("\n");
        assert!(heard.contains(told), "{heard}");
    }
    assert_eq!(send.calls(), [0; 0]);
    town.close().await;
}

async fn a_question_is_answered_by_whoever_asked_or_an_approver(kind: Kind) {
    let town = Town::asking(kind).await;
    let ada = town.token("ada", &[Scope::Tasks]).await;
    let eve = town.token("eve", &[Scope::Tasks]).await;
    let boss = town.token("boss", &[Scope::Approve]).await;
    for (token, text) in [(&ada, "that"), (&boss, "neither of them")] {
        let (task, path) = town.asked(&ada, "questions").await;
        let (_, ask) = town.get(&ada, &path).await;
        assert_eq!(
            (&ask["title"], &ask["choices"]),
            (&json!("Which one?"), &json!(["this", "that"]))
        );
        let word = json!({"decision": "reply", "text": text});
        let (status, _) = town.post(&eve, &path, word.clone()).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let yes = json!({"decision": "approve"});
        let (status, _) = town.post(token, &path, yes).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(town.post(token, &path, word).await.0, StatusCode::OK);
        answered(&town.app.ends(task).await);
        assert!(town.app.told().join("\n").contains(text));
        let (_, view) = town.get(&ada, &format!("/v1/tasks/{task}")).await;
        assert_eq!(view.get("asks"), None, "nothing is asked any more");
    }
    town.close().await;
}

async fn a_doubt_is_an_escalation(kind: Kind) {
    let broken = |called: majordomo_tests::tool::Called| async move {
        match called.before {
            0 => Err(majordomo_tests::tool::transient("the line broke").may_have_happened()),
            _ => Ok(json!("sent later")),
        }
    };
    let send = Arc::new(TestTool::new("send", Effect::Once, broken));
    let town = Town::open(Setup::worker(SEND, &[&send], ""), kind).await;
    let ada = town.token("ada", &[Scope::Tasks]).await;
    let boss = town.token("boss", &[Scope::Approve]).await;
    let (task, path) = town.asked(&ada, "escalations").await;
    let again = || json!({"decision": "again"});
    assert_eq!(town.get(&ada, &path).await.1["kind"], "doubt");
    let (status, _) = town.post(&ada, &path, again()).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "a doubt is for approvers");
    let (status, now) = town.post(&boss, &path, again()).await;
    assert_eq!(
        (status, &now["decided_by"]),
        (StatusCode::OK, &json!("token:boss"))
    );
    answered(&town.app.ends(task).await);
    assert_eq!(send.calls(), [5, 5]);
    assert!(
        town.listed(&boss, "/v1/approvals?state=all")
            .await
            .is_empty()
    );
    town.close().await;
}

async fn lists_are_paged_and_kept_to_what_may_be_seen(kind: Kind) {
    let (town, _) = Town::sending(kind, ASKED).await;
    let ada = town.token("ada", &[Scope::Tasks]).await;
    let eve = town.token("eve", &[Scope::Tasks]).await;
    let boss = town.token("boss", &[Scope::Approve]).await;
    let (first, path) = town.asked(&ada, "approvals").await;
    let first_ask = id_of(&path).to_owned();
    let mut all = vec![first_ask.clone()];
    for _ in 0..4 {
        all.push(id_of(&town.asked(&eve, "approvals").await.1).to_owned());
    }
    all.reverse();
    assert_eq!(town.listed(&boss, "/v1/approvals").await, all);
    // Others' asks, however many came since, take no place on the page.
    let page = "/v1/approvals?limit=2";
    assert_eq!(town.listed(&ada, page).await, [&*first_ask]);
    assert_eq!(town.listed(&eve, "/v1/approvals").await, all[..4]);

    let (mut seen, mut path) = (Vec::new(), page.to_owned());
    loop {
        let (_, page) = town.get(&boss, &path).await;
        let asks = page["asks"].as_array().unwrap();
        assert!(asks.len() <= 2);
        seen.extend(
            asks.iter()
                .map(|ask| ask["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/v1/approvals?limit=2&before={next}");
    }
    assert_eq!(seen, all);

    let of_task = format!("/v1/approvals?task={first}");
    assert_eq!(town.listed(&boss, &of_task).await, [&*first_ask]);
    let by_part = format!("/v1/approvals?id={}", &first_ask[..8]);
    assert_eq!(town.listed(&boss, &by_part).await, [&*first_ask]);
    let of_another_kind = format!("/v1/questions?id={}", &first_ask[..8]);
    assert!(town.listed(&boss, &of_another_kind).await.is_empty());
    // A part is the beginning as it stands: no sign in it means any other.
    for part in ["%25%25%25%25", "____", "****", &first_ask[1..9]] {
        let path = format!("/v1/approvals?id={part}");
        assert!(town.listed(&boss, &path).await.is_empty(), "{part}");
    }
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("state=lost", "state"),
        ("task=7", "task"),
        ("before=7", "before"),
        ("colour=red", "colour"),
        ("id=abc", "id"),
        ("id=abcd&limit=1", "limit"),
    ] {
        let (status, problem) = town.get(&boss, &format!("/v1/approvals?{query}")).await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!(field)),
            "{query}"
        );
    }
    town.close().await;
}

async fn permits_are_given_shown_and_taken_back_by_approvers(kind: Kind) {
    let (town, send) = Town::sending(kind, ASKED).await;
    let ada = town.token("ada", &[Scope::Tasks]).await;
    let boss = town.token("boss", &[Scope::Approve]).await;
    let (task, path) = town.asked(&ada, "approvals").await;
    let ask = id_of(&path);
    let order = json!({"ask": ask, "times": 2});
    let (status, _) = town.post(&ada, "/v1/permits", order.clone()).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "permits are for approvers");
    for (odd, field) in [
        (json!({"ask": ask}), "times"),
        (json!({"ask": ask, "times": 2, "args": {"n": "6"}}), "args"),
        (json!({"ask": ask, "times": 2, "args": {"n": ""}}), "args"),
        (json!({"ask": ask, "for_s": 0}), "for_s"),
        (
            json!({"agent": "worker", "tool": "send", "times": 2}),
            "args",
        ),
        (json!({"ask": ask, "times": 2, "agent": "worker"}), "ask"),
    ] {
        let (status, problem) = town.post(&boss, "/v1/permits", odd.clone()).await;
        let told = (status, &problem["field"]);
        assert_eq!(told, (StatusCode::BAD_REQUEST, &json!(field)), "{odd}");
    }
    let (status, permit) = town.post(&boss, "/v1/permits", order).await;
    assert_eq!(status, StatusCode::OK, "{permit}");
    answered(&town.app.ends(task).await);
    assert_eq!(
        (&permit["state"], &permit["used"], &permit["exactly"]),
        (&json!("good"), &json!(1), &json!({"n": 5}))
    );
    assert_eq!(permit["uses"][0]["ask"], ask);
    let (_, ask) = town.get(&boss, &path).await;
    assert_eq!(
        (&ask["decided_by"], &ask["by_permit"]),
        (&json!("token:boss"), &permit["id"])
    );
    let one = format!("/v1/permits/{}", permit["id"].as_str().unwrap());
    let (status, _) = town.send(&ada, (Method::DELETE, &one), None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let listed = async |path: &str| {
        let (_, page) = town.get(&boss, path).await;
        page["permits"].as_array().unwrap().len()
    };
    assert_eq!(listed("/v1/permits").await, 1);
    for _ in 0..2 {
        let (status, now) = town.send(&boss, (Method::DELETE, &one), None).await;
        let told = (status, &now["state"], &now["revoked_by"]);
        let revoked = (StatusCode::OK, &json!("revoked"), &json!("token:boss"));
        assert_eq!(told, revoked);
    }
    let lengths = (
        listed("/v1/permits").await,
        listed("/v1/permits?state=all").await,
    );
    assert_eq!(lengths, (0, 1));
    let (task, _) = town.asked(&ada, "approvals").await;
    assert_eq!(send.calls(), [5], "it was taken back");
    let cancel = format!("/v1/tasks/{task}/cancel");
    assert_eq!(town.post(&ada, &cancel, json!({})).await.0, StatusCode::OK);
    let nobodys = "/v1/permits/01980000-0000-7000-8000-000000000000";
    assert_eq!(town.get(&boss, nobodys).await.0, StatusCode::NOT_FOUND);
    town.close().await;
}

async fn what_nobody_waits_for_any_more_takes_no_word(kind: Kind) {
    let (town, send) = Town::sending(kind, ASKED).await;
    let ada = town.token("ada", &[Scope::Tasks]).await;
    let boss = town.token("boss", &[Scope::Approve]).await;
    let (task, path) = town.asked(&ada, "approvals").await;
    let cancel = format!("/v1/tasks/{task}/cancel");
    assert_eq!(town.post(&ada, &cancel, json!({})).await.0, StatusCode::OK);
    let (_, ask) = town.get(&boss, &path).await;
    assert_eq!(ask["state"], "void");
    let (status, problem) = town
        .post(&boss, &path, json!({"decision": "approve"}))
        .await;
    assert_eq!(status, StatusCode::CONFLICT);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("its task has ended"), "{detail}");
    assert_eq!(send.calls(), [0; 0]);
    town.close().await;
}
