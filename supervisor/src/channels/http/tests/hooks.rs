//! What other services send: whom it is taken from, what becomes of it, and that nothing else gets in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use shared::config::HookSettings;
use shared::store::TaskFilter;
use shared::task::Task;

use super::*;

const SECRET: &str = "s3cret-canary";
const STANDARD_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A door with one hook of each kind.
async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let secret = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("secret = \"${{file:{}}}\"", path.display())
    };
    let (plain, standard) = (secret("plain", SECRET), secret("standard", STANDARD_SECRET));
    let settings = format!(
        r#"
[github]
verify = "github"
{plain}
agent = "writer"
text = "Look at {{{{issue.title}}}}"
when = {{ "header:X-GitHub-Event" = "issues", action = "opened" }}
[stripe]
verify = "stripe"
{plain}
text = "Look at {{{{type}}}}"
principal = "user:ada"
[standard]
verify = "standard"
{standard}
text = "Look at {{{{type}}}}"
[plain]
verify = "hmac"
{plain}
header = "X-Signature"
prefix = "v="
encoding = "base64"
text = "Something came"
[known]
verify = "hmac"
{plain}
header = "X-Signature"
text = "Something came"
dedupe = "{{{{id}}}}"
"#
    );
    let settings: std::collections::BTreeMap<String, HookSettings> =
        toml::from_str(&settings).unwrap();
    World::with(|door| door.hooks = Hooks::new(&settings).unwrap()).await
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn github(body: &str, delivery: &str) -> Vec<(&'static str, String)> {
    let signature = hex::encode(mac(SECRET.as_bytes(), &[body.as_bytes()]));
    vec![
        ("x-hub-signature-256", format!("sha256={signature}")),
        ("x-github-delivery", delivery.into()),
        ("x-github-event", "issues".into()),
    ]
}

fn stripe(body: &str, at: i64) -> Vec<(&'static str, String)> {
    let at = at.to_string();
    let signature = mac(SECRET.as_bytes(), &[at.as_bytes(), b".", body.as_bytes()]);
    vec![(
        "stripe-signature",
        format!("t={at},v1={}", hex::encode(signature)),
    )]
}

fn standard(body: &str, id: &str, at: i64) -> Vec<(&'static str, String)> {
    let key = STANDARD.decode(&STANDARD_SECRET[6..]).unwrap();
    let stamp = at.to_string();
    let parts = [id.as_bytes(), b".", stamp.as_bytes(), b".", body.as_bytes()];
    let signature = STANDARD.encode(mac(&key, &parts));
    vec![
        ("webhook-id", id.into()),
        ("webhook-timestamp", stamp),
        ("webhook-signature", format!("v1,{signature}")),
    ]
}

fn now() -> i64 {
    shared::clock::now().0 / 1000
}

impl World {
    async fn hook(
        &self,
        name: &str,
        headers: &[(&'static str, String)],
        body: impl Into<Body>,
    ) -> (StatusCode, Value) {
        let request = Request::builder()
            .method("POST")
            .uri(format!("/v1/hooks/{name}"))
            .header(header::HOST, "localhost");
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, value)
        });
        read(self.send(request.body(body.into()).unwrap()).await).await
    }

    async fn tasks(&self) -> Vec<Task> {
        let all = TaskFilter {
            limit: 10_000,
            ..TaskFilter::default()
        };
        let tenant = &self.house.desk.tenant;
        self.store.tasks(tenant, &all).await.unwrap()
    }
}

const OPENED: &str = r#"{"action":"opened","issue":{"title":"It ⟧ broke"}}"#;

#[tokio::test]
async fn what_is_signed_becomes_a_task_and_sent_again_the_same() {
    let world = world().await;
    let (status, taken) = world.hook("github", &github(OPENED, "d-1"), OPENED).await;
    assert_eq!(
        (status, &taken["state"]),
        (StatusCode::ACCEPTED, &json!("queued"))
    );
    let again = world.hook("github", &github(OPENED, "d-1"), OPENED).await;
    assert_eq!(again, (StatusCode::ACCEPTED, taken));
    let tasks = world.tasks().await;
    let [task] = &tasks[..] else {
        panic!("{tasks:?}")
    };
    let request = &task.request;
    assert!(
        request.text.starts_with("Look at ⟦It ] broke⟧\n"),
        "{}",
        request.text
    );
    assert_eq!(
        request.metadata,
        [("hook".to_owned(), "github".to_owned())].into()
    );
    assert_eq!(request.agent, Some("writer".into()));
    assert_eq!(
        (&*request.channel, &task.principal),
        ("hook", &"hook:github".into())
    );
    let replayed = world.hook("github", &github(OPENED, "d-2"), OPENED).await;
    assert_eq!(replayed.0, StatusCode::ACCEPTED);
    assert_eq!(
        world.tasks().await.len(),
        1,
        "the delivery's number is not signed"
    );
}

#[tokio::test]
async fn each_way_of_signing_is_taken() {
    let world = world().await;
    let body = r#"{"id":"evt_1","type":"x"}"#;
    let plain = STANDARD.encode(mac(SECRET.as_bytes(), &[body.as_bytes()]));
    let known = hex::encode(mac(SECRET.as_bytes(), &[body.as_bytes()]));
    let reworded = r#"{"id":"evt_1","type":"y"}"#;
    let known_too = hex::encode(mac(SECRET.as_bytes(), &[reworded.as_bytes()]));
    for (name, headers, body, tasks) in [
        ("stripe", stripe(body, now()), body, 1),
        ("stripe", stripe(reworded, now() - 200), reworded, 1),
        ("standard", standard(body, "msg_1", now()), body, 2),
        ("standard", standard(reworded, "msg_1", now()), reworded, 2),
        ("standard", standard(body, "msg_2", now()), body, 3),
        (
            "plain",
            vec![("x-signature", format!("v={plain}"))],
            body,
            4,
        ),
        (
            "plain",
            vec![("x-signature", format!("v={plain}"))],
            body,
            4,
        ),
        ("known", vec![("x-signature", known)], body, 5),
        ("known", vec![("x-signature", known_too)], reworded, 5),
    ] {
        let (status, taken) = world.hook(name, &headers, body).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{name} {taken}");
        assert_eq!(world.tasks().await.len(), tasks, "{name} {headers:?}");
    }
    let whose = world.tasks().await;
    let whose = whose
        .iter()
        .filter(|task| task.principal == "user:ada".into());
    assert_eq!(whose.count(), 1);
}

#[tokio::test]
async fn what_is_not_asked_for_is_ignored_and_what_is_no_json_refused() {
    let world = world().await;
    let closed = r#"{"action":"closed","issue":{"title":"x"}}"#;
    let ignored = world.hook("github", &github(closed, "d-1"), closed).await;
    assert_eq!(ignored, (StatusCode::OK, json!({"ignored": true})));
    for broken in ["", "{", "payload=%7B%7D", "\u{feff}{}", "{} {}"] {
        let (status, problem) = world.hook("github", &github(broken, "d-2"), broken).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{broken} {problem}");
    }
    assert!(world.tasks().await.is_empty());
}

#[tokio::test]
async fn an_unknown_hook_and_a_bad_signature_are_told_the_same() {
    let world = world().await;
    let unknown = world.hook("nobody", &github(OPENED, "d"), OPENED).await;
    let unsigned = world.hook("github", &[], OPENED).await;
    let forged = github(OPENED, "d").into_iter().map(|(name, value)| {
        let value = value.replace("sha256=", "sha256=00");
        (name, value)
    });
    let forged = world
        .hook("github", &forged.collect::<Vec<_>>(), OPENED)
        .await;
    assert_eq!(unknown.0, StatusCode::UNAUTHORIZED);
    assert_eq!(unknown, unsigned);
    assert_eq!(unknown, forged);
    let odd = world.hook("%ff", &[], OPENED).await;
    assert_eq!(odd, unknown);
}

#[tokio::test]
async fn hooks_are_counted_each_for_itself_and_forgers_do_not_use_them_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, SECRET).unwrap();
    let hook = |name: &str| {
        format!(
            "[{name}]\nverify = \"github\"\nsecret = \"${{file:{}}}\"\ntext = \"x\"\n",
            path.display()
        )
    };
    let settings = toml::from_str(&(hook("one") + &hook("other"))).unwrap();
    let world = World::with(|door| {
        door.hooks = Hooks::new(&settings).unwrap();
        door.rates = Rates::new(2);
    })
    .await;
    for status in [401, 401, 429, 429] {
        assert_eq!(world.hook("one", &[], OPENED).await.0, status);
    }
    for (name, status) in [("one", 202), ("one", 202), ("one", 429), ("other", 202)] {
        let (answered, _) = world.hook(name, &github(OPENED, "d"), OPENED).await;
        assert_eq!(answered, status, "{name}");
    }
}

/// One request in a thousand of each kind of trouble: forged, replayed, stale, oversized, malformed.
#[tokio::test]
async fn nothing_gets_in_that_is_forged_replayed_stale_or_too_large() {
    const REQUESTS: usize = 2_000;
    let world = world().await;
    let genuine = github(OPENED, "d-0");
    assert_eq!(
        world.hook("github", &genuine, OPENED).await.0,
        StatusCode::ACCEPTED
    );
    let event = r#"{"id":"evt_1","type":"x"}"#;
    let large = "x".repeat(MAX_BODY + 1);
    for n in 0..REQUESTS {
        let other = format!(r#"{{"action":"opened","n":{n}}}"#);
        let long_ago = now() - 301 - n as i64;
        let (name, headers, body): (_, Vec<(&str, String)>, String) = match n % 10 {
            0 => ("github", genuine.clone(), other),
            1 => ("github", genuine.clone(), OPENED.into()),
            2 => ("stripe", stripe(event, long_ago), event.into()),
            3 => (
                "stripe",
                stripe(event, now() + 310 + n as i64),
                event.into(),
            ),
            4 => ("standard", standard(event, "m", long_ago), event.into()),
            5 => {
                let mut moved = standard(event, "m", now());
                moved[0].1 = format!("m-{n}");
                ("standard", moved, event.into())
            }
            6 => ("plain", vec![("x-signature", format!("v={n}"))], other),
            7 if n % 100 == 7 => ("github", github(&large, "d"), large.clone()),
            7 => (
                "github",
                vec![("x-hub-signature-256", "sha256=é\"\t".into())],
                other,
            ),
            8 => {
                let signed = github(OPENED, "d").remove(0);
                ("github", vec![signed.clone(), signed], OPENED.into())
            }
            _ => ("nobody", genuine.clone(), OPENED.into()),
        };
        let expected = hex::encode(mac(SECRET.as_bytes(), &[body.as_bytes()]));
        let (status, answer) = world.hook(name, &headers, body).await;
        let told = answer.to_string();
        assert!(
            !told.contains(&expected) && !told.contains(SECRET),
            "{told}"
        );
        match n % 10 {
            1 => assert_eq!(status, StatusCode::ACCEPTED, "known already"),
            7 if n % 100 == 7 => assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE),
            _ => assert_eq!(status, StatusCode::UNAUTHORIZED, "{n} {answer}"),
        }
    }
    assert_eq!(world.tasks().await.len(), 1, "the genuine one alone");
}
