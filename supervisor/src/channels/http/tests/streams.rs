//! Server-sent events: replay, live, resumption, and every way in which a stream ends.

use std::pin::Pin;

use axum::body::{Body, Bytes};
use axum::http::header;
use futures::{Stream, StreamExt};
use serde_json::{Value, json};
use shared::event::{Live, Sink};
use shared::id::RunId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// A test that would wait longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, PartialEq)]
struct Frame {
    id: Option<i64>,
    event: String,
    data: Value,
}

struct Reader {
    body: Pin<Box<dyn Stream<Item = Result<Bytes, axum::Error>> + Send>>,
    text: String,
}

impl Reader {
    async fn open(world: &World, token: &str, task: TaskId, after: Option<i64>) -> Self {
        let mut request = ask(token, "GET", &format!("/v1/tasks/{task}/events"));
        if let Some(after) = after {
            request = request.header("Last-Event-ID", after);
        }
        let response = world.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "text/event-stream"
        );
        Self {
            body: Box::pin(response.into_body().into_data_stream()),
            text: String::new(),
        }
    }

    /// The next event; none where the stream has ended.
    async fn next(&mut self) -> Option<Frame> {
        tokio::time::timeout(PATIENCE, self.await_next())
            .await
            .expect("an event, or the end")
    }

    async fn await_next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let frame = parse(frame);
                self.text = rest.to_owned();
                if frame.is_some() {
                    return frame;
                }
                continue;
            }
            let more = self.body.next().await?.unwrap();
            self.text += std::str::from_utf8(&more).unwrap();
        }
    }

    async fn numbers(&mut self) -> Vec<i64> {
        let mut numbers = Vec::new();
        while let Some(frame) = self.next().await {
            numbers.extend(frame.id);
        }
        numbers
    }
}

fn parse(text: &str) -> Option<Frame> {
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map(str::to_owned)
    };
    Some(Frame {
        id: field("id").map(|id| id.parse().unwrap()),
        event: field("event")?,
        data: serde_json::from_str(&field("data")?).unwrap(),
    })
}

#[tokio::test]
async fn events_are_replayed_and_then_follow_live_to_the_end() {
    let world = World::new().await;
    let id = world.order(json!({"text": "x"})).await;
    let run = world.claim(id).await;
    world.step(&run, 1).await;
    let mut reader = Reader::open(&world, &world.local(), id, None).await;
    let queued = reader.next().await.unwrap();
    assert_eq!((queued.id, queued.event.as_str()), (Some(1), "state"));
    assert_eq!(
        (&queued.data["state"], &queued.data["seq"]),
        (&json!("queued"), &json!(1))
    );
    assert_eq!(queued.data["task"], json!(id));
    assert_eq!(reader.next().await.unwrap().data["state"], "running");
    assert_eq!(reader.next().await.unwrap().event, "decided");
    world.step(&run, 2).await;
    assert_eq!(reader.next().await.unwrap().id, Some(4));
    // Another task's events are nobody's business here.
    world.order(json!({"text": "y"})).await;
    world.finish(&run, "there").await;
    let end = reader.next().await.unwrap();
    assert_eq!((end.id, &end.data["state"]), (Some(5), &json!("done")));
    assert_eq!(reader.next().await, None, "nothing follows the end");
}

#[tokio::test]
async fn a_reader_goes_on_where_it_stopped() {
    let world = World::new().await;
    let local = world.local();
    let id = world.order(json!({"text": "x"})).await;
    let run = world.claim(id).await;
    for seq in 1..=600 {
        world.step(&run, seq).await;
    }
    world.finish(&run, "there").await;
    let all: Vec<i64> = (1..=603).collect();
    for after in [0, 1, 256, 600, 602, 603, 9999] {
        let mut reader = Reader::open(&world, &local, id, Some(after)).await;
        let rest: Vec<i64> = all.iter().copied().filter(|seq| *seq > after).collect();
        assert_eq!(reader.numbers().await, rest, "after {after}");
    }
    let path = format!("/v1/tasks/{id}/events");
    for (query, header, field) in [
        ("?after=x", None, "after"),
        ("?after=-1", None, "after"),
        ("?from=1", None, "from"),
        ("", Some("x"), "Last-Event-ID"),
        ("?after=1", Some("-7"), "Last-Event-ID"),
    ] {
        let mut request = ask(&local, "GET", &format!("{path}{query}"));
        if let Some(header) = header {
            request = request.header("Last-Event-ID", header);
        }
        let (status, problem) = read(world.send(request.body(Body::empty()).unwrap()).await).await;
        assert_eq!(
            (status.as_u16(), &problem["field"]),
            (400, &json!(field)),
            "{query} {header:?}"
        );
    }
    let after = ask(&local, "GET", &format!("{path}?after=602"))
        .body(Body::empty())
        .unwrap();
    let body = to_bytes(world.send(after).await.into_body(), 1 << 20)
        .await
        .unwrap();
    assert!(
        body.starts_with(b"id: 603\n"),
        "{}",
        String::from_utf8_lossy(&body)
    );
}

#[tokio::test]
async fn a_reader_that_fell_behind_misses_nothing() {
    let world = World::new().await;
    let id = world.order(json!({"text": "x"})).await;
    let run = world.claim(id).await;
    let mut reader = Reader::open(&world, &world.local(), id, None).await;
    assert_eq!(reader.next().await.unwrap().id, Some(1));
    assert_eq!(reader.next().await.unwrap().id, Some(2));
    let noise = Sink::new(
        world.store.bell().feed().clone(),
        (TaskId::fresh(), RunId::fresh()),
        "k".into(),
        1,
    );
    world.step(&run, 1).await;
    world.finish(&run, "there").await;
    // More than the feed holds: what it told of the task is gone.
    (0..10_000).for_each(|_| noise.text("x"));
    assert_eq!(reader.numbers().await, [3, 4]);
}

/// The bell of one task holds fewer events than come here while nobody reads.
#[tokio::test]
async fn a_follower_without_text_misses_nothing_either() {
    let world = World::new().await;
    let id = world.order(json!({"text": "x"})).await;
    let run = world.claim(id).await;
    let mut follower = world.house.desk.follow(id, 0);
    let waiting = tokio::spawn({
        let desk = world.house.desk.clone();
        async move { desk.ended(id).await }
    });
    let mut numbers = Vec::new();
    for seq in 1..=600 {
        world.step(&run, seq).await;
        if seq == 1 {
            numbers.extend(number(follower.next().await));
        }
    }
    assert!(!waiting.is_finished(), "the task goes on");
    world.finish(&run, "there").await;
    while let Some(seq) = number(follower.next().await) {
        numbers.push(seq);
    }
    assert_eq!(numbers, (1..=603).collect::<Vec<_>>());
    let ended = tokio::time::timeout(PATIENCE, waiting).await;
    ended.expect("it ended").unwrap().unwrap();
}

fn number(heard: Result<Option<Live>, shared::store::Error>) -> Option<i64> {
    match heard.unwrap()? {
        Live::Event(event) => Some(event.seq),
        Live::Delta { .. } => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_come_while_much_happens_see_each_event_once() {
    let world = Arc::new(World::new().await);
    let id = world.order(json!({"text": "x"})).await;
    let run = world.claim(id).await;
    let readers: Vec<_> = (0..8)
        .map(|n| {
            let world = world.clone();
            tokio::spawn(async move {
                let mut reader = Reader::open(&world, &world.local(), id, Some(n)).await;
                (n, reader.numbers().await)
            })
        })
        .collect();
    for seq in 1..=300 {
        world.step(&run, seq).await;
    }
    world.finish(&run, "there").await;
    for reader in readers {
        let (after, numbers) = reader.await.unwrap();
        assert_eq!(numbers, (after + 1..=303).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn live_text_goes_beside_the_events_without_a_number() {
    let world = World::new().await;
    let id = world.order(json!({"text": "x"})).await;
    let mut reader = Reader::open(&world, &world.local(), id, None).await;
    reader.next().await.unwrap();
    // Hears nothing: another task's text.
    let other = Sink::new(
        world.store.bell().feed().clone(),
        (TaskId::fresh(), id.into()),
        "think/1".into(),
        1,
    );
    let sink = Sink::new(
        world.store.bell().feed().clone(),
        (id, id.into()),
        "think/1".into(),
        2,
    );
    let next = tokio::spawn(async move { reader.next().await });
    other.text("not mine");
    sink.text("line\r\n\ntwo");
    let frame = next.await.unwrap().unwrap();
    assert_eq!((frame.id, frame.event.as_str()), (None, "delta"));
    let text = json!({"run": id, "key": "think/1", "attempt": 2, "text": "line\r\n\ntwo"});
    assert_eq!(frame.data, text);
}

#[tokio::test]
async fn a_stream_ends_when_its_token_is_revoked() {
    let world = World::new().await;
    let token = world.token("ci", &[Scope::Tasks]).await;
    let id = world.order_by(&token, json!({"text": "x"})).await;
    let mut reader = Reader::open(&world, &token, id, None).await;
    let mut kept = Reader::open(&world, &world.local(), id, None).await;
    assert_eq!(reader.next().await.unwrap().id, Some(1));
    assert_eq!(kept.next().await.unwrap().id, Some(1));
    world
        .store
        .revoke_token(&world.house.desk.tenant, "ci")
        .await
        .unwrap();
    assert_eq!(reader.next().await, None);
    world.claim(id).await;
    assert_eq!(kept.next().await.unwrap().id, Some(2), "others go on");
}

#[test]
fn a_revoked_token_is_noticed_in_time() {
    assert!(RECHECK < Duration::from_secs(5));
}

#[tokio::test]
async fn streams_over_a_socket_end_with_the_door() {
    let world = World::new().await;
    let id = world.order(json!({"text": "x"})).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(answer(world.door.clone(), listener, Bounds::new(8)));
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /v1/tasks/{id}/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\r\n",
        world.local()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut read = String::new();
    while !read.contains("\"queued\"") {
        let mut chunk = [0; 1024];
        let count = socket.read(&mut chunk).await.unwrap();
        assert!(count > 0, "{read}");
        read += std::str::from_utf8(&chunk[..count]).unwrap();
    }
    world.closing.cancel();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
    ended.expect("the stream ends").unwrap();
    tokio::time::timeout(PATIENCE, server)
        .await
        .expect("the door closes")
        .unwrap();
    assert!(
        TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}
