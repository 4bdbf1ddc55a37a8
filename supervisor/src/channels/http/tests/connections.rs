//! Connections that ask nothing, slowly, or read nothing: each gives its place back in time.

use axum::body::Body;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;

/// A test that would wait longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const CONNECTIONS: usize = 3;

/// A door on a socket, with few places and little patience.
struct Socket {
    world: World,
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Socket {
    async fn open(head: Duration) -> Self {
        let world = World::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bounds = Bounds {
            connections: CONNECTIONS,
            head,
            unread: Duration::from_millis(500),
        };
        let server = tokio::spawn(answer(world.door.clone(), listener, bounds));
        Self {
            world,
            address,
            server,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn get(&self, path: &str) -> String {
        let (address, token) = (self.address, self.world.local());
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n")
    }

    /// Whether a request over a fresh connection is answered.
    async fn answers(&self, within: Duration) -> bool {
        let asked = async {
            let mut socket = self.connect().await;
            socket.write_all(self.get("/healthz").as_bytes()).await?;
            let mut read = [0; 15];
            socket.read_exact(&mut read).await?;
            Ok::<_, std::io::Error>(read == *b"HTTP/1.1 200 OK")
        };
        matches!(tokio::time::timeout(within, asked).await, Ok(Ok(true)))
    }
}

/// Sends a byte of a request's head now and then, as long as anybody listens.
async fn trickle(mut socket: TcpStream) {
    for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "
        .iter()
        .chain(&[b'x'; 4096])
    {
        if socket.write_all(&[*byte]).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn places_that_nobody_uses_are_given_back() {
    let door = Socket::open(Duration::from_millis(300)).await;
    let mut silent = Vec::new();
    for _ in 0..10 * CONNECTIONS {
        silent.push(door.connect().await);
    }
    assert!(door.answers(PATIENCE).await, "after silent connections");
    drop(silent);

    let mut slow = Vec::new();
    for _ in 0..CONNECTIONS {
        slow.push(tokio::spawn(trickle(door.connect().await)));
    }
    assert!(door.answers(PATIENCE).await, "after slow heads");
    slow.iter().for_each(JoinHandle::abort);

    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut socket = door.connect().await;
        socket
            .write_all(door.get("/healthz").as_bytes())
            .await
            .unwrap();
        assert!(socket.read(&mut [0; 1024]).await.unwrap() > 0);
        idle.push(socket);
    }
    assert!(door.answers(PATIENCE).await, "after idle ones kept alive");
}

/// What the test above would miss: without a bound, silence keeps its place.
#[tokio::test]
async fn a_patient_door_can_be_starved() {
    let door = Socket::open(PATIENCE * 10).await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        silent.push(door.connect().await);
    }
    assert!(!door.answers(Duration::from_secs(1)).await);
    silent.pop();
    assert!(door.answers(PATIENCE).await, "the next one takes the place");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_reads_no_answers_is_cut_off() {
    let door = Socket::open(Duration::from_millis(300)).await;
    let mut deaf = Vec::new();
    let request = door.get("/openapi.json").repeat(50);
    for _ in 0..CONNECTIONS {
        let socket = door.connect().await;
        let (read, mut write) = socket.into_split();
        let request = request.clone();
        let writing =
            tokio::spawn(async move { while write.write_all(request.as_bytes()).await.is_ok() {} });
        deaf.push((read, writing));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(door.answers(PATIENCE).await);
    for (_, writing) in deaf {
        let ended = tokio::time::timeout(PATIENCE, writing).await;
        ended.expect("it was cut off").unwrap();
    }
}

#[tokio::test]
async fn streams_leave_room_for_others() {
    let world = World::new().await;
    let id = world.order(json!({"text": "x"})).await;
    let follow = || {
        let request = ask(&world.local(), "GET", &format!("/v1/tasks/{id}/events"));
        world.send(request.body(Body::empty()).unwrap())
    };
    let mut open = Vec::new();
    for _ in 0..LASTING {
        open.push(follow().await);
    }
    let (status, problem) = read(follow().await).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem["type"], "urn:majordomo:problem:busy");
    let order = json!({"text": "y", "wait_s": 300});
    let local = world.local();
    let waits = world.ask(&local, "POST", "/v1/tasks", Some(order));
    let (status, _) = tokio::time::timeout(PATIENCE, waits).await.unwrap();
    assert_eq!(
        status,
        StatusCode::ACCEPTED,
        "it is taken, and not waited for"
    );
    open.pop();
    assert_eq!(follow().await.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_door_closes_while_all_places_are_taken() {
    let door = Socket::open(PATIENCE * 10).await;
    let mut silent = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        silent.push(door.connect().await);
    }
    door.world.closing.cancel();
    let closed = tokio::time::timeout(PATIENCE, door.server).await;
    closed.expect("the door closes").unwrap();
}
