//! What people think of answers, over HTTP: who may say it, when, and where it is seen.

use super::*;

#[tokio::test]
async fn whoever_may_see_a_task_says_what_they_think_of_it() {
    let world = World::new().await;
    let ada = world.token("ada", &[Scope::Tasks]).await;
    let eve = world.token("eve", &[Scope::Tasks]).await;
    let task = world.order_by(&ada, json!({"text": "Is it so?"})).await;
    let path = format!("/v1/tasks/{task}/feedback");
    let say = async |token: &str, body: Value| world.ask(token, "POST", &path, Some(body)).await;
    let good = || json!({"sign": "good"});
    let (status, problem) = say(&ada, good()).await;
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    let run = world.claim(task).await;
    world.finish(&run, "It is so.").await;

    assert_eq!(say(&eve, good()).await.0, StatusCode::NOT_FOUND);
    for odd in [
        json!({}),
        json!({"sign": "fine"}),
        json!({"sign": "bad", "why": "x"}),
        json!({"sign": "bad", "text": "x".repeat(2_001)}),
    ] {
        let (status, problem) = say(&ada, odd.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{odd} {problem}");
    }
    let bad = json!({"sign": "bad", "text": "too short"});
    for body in [good(), bad.clone(), bad] {
        assert_eq!(say(&ada, body).await.0, StatusCode::NO_CONTENT);
    }
    let local = world.local();
    assert_eq!(say(&local, good()).await.0, StatusCode::NO_CONTENT);
    let (_, view) = world
        .ask(&ada, "GET", &format!("/v1/tasks/{task}"), None)
        .await;
    // Both may have been said in the same moment.
    let mut told: Vec<_> = view["feedback"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["who"], &one["good"], &one["source"], &one["text"]))
        .collect();
    told.sort_by_key(|(who, ..)| who.as_str());
    let (said, ada, local) = (json!("said"), json!("token:ada"), json!("local"));
    let (yes, no) = (json!(true), json!(false));
    assert_eq!((told[0].0, told[0].1, told[0].2), (&local, &yes, &said));
    assert_eq!((told[1].0, told[1].1, told[1].2), (&ada, &no, &said));
    assert_eq!(told[1].3, "too short");
}
