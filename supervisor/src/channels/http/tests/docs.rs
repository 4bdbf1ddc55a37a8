//! The page for people.

use super::*;

#[tokio::test]
async fn the_page_shows_every_operation_and_wants_nothing_from_elsewhere() {
    let world = World::new().await;
    let page = Request::builder()
        .uri("/docs")
        .header(header::HOST, "localhost")
        .body(Body::empty());
    let response = world.send(page.unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap();
    assert_eq!(kind, "text/html; charset=utf-8");
    let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str();
    assert!(policy.unwrap().starts_with("default-src 'none'"));
    let page = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let page = String::from_utf8(page.to_vec()).unwrap();

    let (_, api) = world
        .ask(&world.local(), "GET", "/openapi.json", None)
        .await;
    let mut shown = 0;
    for (path, operations) in api["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let name = format!("<h2><code>{} {path}</code>", method.to_uppercase());
            assert!(page.contains(&name), "{name}");
            shown += 1;
        }
    }
    assert!(shown >= 20, "{shown}");
    for body in ["TaskOrder", "callback_url", "Problem"] {
        assert!(page.contains(body), "{body}");
    }
    for from_elsewhere in ["<script", "http://", "https://", "src=", "@import"] {
        assert!(!page.contains(from_elsewhere), "{from_elsewhere}");
    }
    for link in page.split("href=\"#").skip(1) {
        let id = link.split('"').next().unwrap();
        assert!(
            page.contains(&format!("id=\"{id}\"")),
            "#{id} leads nowhere"
        );
    }
    assert!(page.len() < 200_000, "{}", page.len());
}
