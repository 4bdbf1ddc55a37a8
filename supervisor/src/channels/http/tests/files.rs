//! Files that come with tasks, and those that tasks wrote.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

#[tokio::test]
async fn documents_become_words_and_what_cannot_be_taken_is_said_with_nothing_kept() {
    let world = World::new().await;
    let local = world.local();
    let file = |name: &str, bytes: &[u8]| json!({"name": name, "data": STANDARD.encode(bytes)});
    let order = json!({"text": "When?", "files": [
        file("../../etc/notes.md", b"At two."), file("a.csv", b"x,y"),
    ]});
    let id = world.order(order).await;
    let (_, task) = world
        .ask(&local, "GET", &format!("/v1/tasks/{id}"), None)
        .await;
    let words = "When?\n\n## File notes.md\n\nAt two.\n\n## File a.csv\n\nx,y";
    assert_eq!(task["text"], words);
    assert!(task.get("files").is_none());
    let png = [
        &b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"[..],
        &[0, 0, 0, 4, 0, 0, 0, 4, 8, 6, 0, 0, 0, 0, 0, 0, 0],
    ];
    let eleven: Vec<Value> = (0..11).map(|_| file("a.txt", b"x")).collect();
    for (files, words) in [
        (json!([file("plan.png", &png.concat())]), "vision = true"),
        (json!([file("a.txt", b"\x7fELF\x02\x01")]), "a program"),
        (json!([file("a.txt", b"")]), "empty"),
        (json!([{"name": "a.txt", "data": "%%%"}]), "base64"),
        (json!(eleven), "at most 10"),
    ] {
        let order = json!({"text": "x", "files": files});
        let (status, problem) = world.ask(&local, "POST", "/v1/tasks", Some(order)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
        assert_eq!(problem["field"], "files", "{problem}");
        assert!(
            problem["detail"].as_str().unwrap().contains(words),
            "{problem}"
        );
    }
    let (_, page) = world.ask(&local, "GET", "/v1/tasks", None).await;
    assert_eq!(page["tasks"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_task_wrote_is_fetched_as_a_file_by_those_who_may_see_the_task() {
    let world = World::new().await;
    let local = world.local();
    let id = world.order(json!({"text": "x"})).await;
    let run = world.claim(id).await;
    world.write(&run, (1, "docs/a b.html"), "<p>old").await;
    world.write(&run, (2, "docs/a b.html"), "<p>new").await;
    let (_, task) = world
        .ask(&local, "GET", &format!("/v1/tasks/{id}"), None)
        .await;
    let files = task["files"].as_array().unwrap();
    assert_eq!(files.len(), 1, "the last of a name: {files:?}");
    assert_eq!(files[0]["bytes"], 6);
    let path = |name: &str| format!("/v1/tasks/{id}/files/{name}");
    let get = async |token: &str, name: &str| {
        let request = ask(token, "GET", &path(name)).body(Body::empty());
        world.send(request.unwrap()).await
    };
    let answer = get(&local, "docs%2Fa%20b.html").await;
    assert_eq!(answer.status(), StatusCode::OK);
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(
        header("content-disposition"),
        "attachment; filename*=UTF-8''a%20b.html"
    );
    assert!(header("content-security-policy").contains("sandbox"));
    let body = to_bytes(answer.into_body(), 100).await.unwrap();
    assert_eq!(&body[..], b"<p>new");
    for name in ["a%20b.html", "..%2F..%2Fetc%2Fpasswd", "docs"] {
        assert_eq!(get(&local, name).await.status(), StatusCode::NOT_FOUND);
    }
    let other = world.token("other", &[Scope::Tasks]).await;
    let hidden = get(&other, "docs%2Fa%20b.html").await;
    assert_eq!(hidden.status(), StatusCode::NOT_FOUND, "not theirs to see");
}
