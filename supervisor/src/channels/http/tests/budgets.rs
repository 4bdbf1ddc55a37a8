//! Limits and usage over HTTP, and who may.

use super::*;

#[tokio::test]
async fn limits_are_an_admins_and_are_told_with_who_set_them() {
    let world = World::new().await;
    let admin = world.token("ops", &[Scope::Admin]).await;
    let others = [Scope::Tasks, Scope::Approve, Scope::OnBehalf];
    let user = world.token("app", &others).await;
    let order = |account: &str, limit: &str| Some(json!({ "account": account, "limit": limit }));
    for (method, path, body) in [
        ("GET", "/v1/budgets", None),
        ("PUT", "/v1/budgets", order("all", "5/day")),
        ("GET", "/v1/usage", None),
    ] {
        let (status, body) = world.ask(&user, method, path, body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path} {body}");
    }
    let set = order("user:ada", "5.00/day");
    let (status, page) = world.ask(&admin, "PUT", "/v1/budgets", set).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    let all = page["budgets"].as_array().unwrap();
    let ada = all
        .iter()
        .find(|line| line["account"] == "user:ada")
        .unwrap();
    assert_eq!(
        (&ada["limit"], &ada["period"], &ada["unit"], &ada["set_by"]),
        (
            &json!(5.0),
            &json!("day"),
            &json!("usd"),
            &json!("token:ops")
        )
    );
    let back = order("user:ada", "configured/day");
    let (_, page) = world.ask(&admin, "PUT", "/v1/budgets", back).await;
    assert!(!page.to_string().contains("user:ada"), "{page}");

    let task = world.order(json!({ "text": "x" })).await;
    for (account, limit, status) in [
        ("team:x", "5/day", StatusCode::BAD_REQUEST),
        ("all", "5/week", StatusCode::BAD_REQUEST),
        ("all", "", StatusCode::BAD_REQUEST),
        (&format!("task:{task}"), "5/day", StatusCode::BAD_REQUEST),
        (&format!("task:{task}"), "5", StatusCode::OK),
        (
            &format!("task:{}", TaskId::fresh()),
            "5",
            StatusCode::NOT_FOUND,
        ),
    ] {
        let answer = world
            .ask(&admin, "PUT", "/v1/budgets", order(account, limit))
            .await;
        assert_eq!(answer.0, status, "{account} {limit} {}", answer.1);
    }
}

#[tokio::test]
async fn usage_is_summed_up_by_what_there_is() {
    let world = World::new().await;
    let local = world.local();
    for by in ["thread", "user", "agent", "tool", "model", "day"] {
        let path = format!("/v1/usage?by={by}&days=7");
        let (status, page) = world.ask(&local, "GET", &path, None).await;
        assert_eq!(
            (status, &page["by"]),
            (StatusCode::OK, &json!(by)),
            "{page}"
        );
    }
    for wrong in ["by=colour", "days=0", "days=x", "since=1"] {
        let (status, _) = world
            .ask(&local, "GET", &format!("/v1/usage?{wrong}"), None)
            .await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}
