//! Connections of the door: how many there are at once, how long each may keep its place without a
//! request, and how all of them end. What is said on them is the router's business.
//!
//! ```text
//!  backlog ─► a place (max_connections) ─► HTTP/1.1 ─► router
//!     ▲                    │
//!     └── given back ◄─────┴─ done, silent too long, answer left unread, door closed
//! ```
//! Where all places are taken, new connections wait in the system's backlog for the next free one.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tower::ServiceBuilder;

use super::rate::Peer;

/// How long a connection may take for the head of its next request; so also how long an idle one is
/// kept.
const HEAD: Duration = Duration::from_secs(10);
/// How long an answer may lie unread by its client.
const UNREAD: Duration = Duration::from_secs(60);
/// The pause after an accept that failed for want of something: descriptors, memory.
const PAUSE: Duration = Duration::from_millis(500);
/// How often at most it is told that all places are taken, in milliseconds.
const TOLD_EVERY_MS: u64 = 60_000;

/// What connections may take up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// How many there are at once.
    pub(super) connections: usize,
    /// How long each may take for the head of a request.
    pub(super) head: Duration,
    /// How long an answer may lie unread.
    pub(super) unread: Duration,
}

impl Bounds {
    /// So many connections as are configured, but never more than half of the descriptors that the
    /// process may have open: the store, files and outbound calls need theirs.
    pub(super) fn new(configured: u32) -> Self {
        let half = open_files().map_or(usize::MAX, |files| files / 2).max(1);
        let configured = configured as usize;
        if configured > half {
            tracing::warn!(
                connections.max = half,
                connections.configured = configured,
                "the limit of open files allows fewer connections than [server] max_connections"
            );
        }
        Self {
            connections: configured.min(half),
            head: HEAD,
            unread: UNREAD,
        }
    }

    /// How many of the connections may have an answer that takes its time, such as a stream of
    /// events: always fewer than there are, so that the others find a place.
    pub(super) fn lasting(&self) -> usize {
        (self.connections * 3 / 4).max(1)
    }
}

/// How many descriptors this process may have open.
#[cfg(unix)]
fn open_files() -> Option<usize> {
    use rustix::process::{Resource, getrlimit};
    let files = getrlimit(Resource::Nofile).current?;
    usize::try_from(files).ok()
}

#[cfg(not(unix))]
fn open_files() -> Option<usize> {
    None
}

/// Connections that are open when nobody is let in any more. Dropped, it cuts them off.
pub(super) struct Open {
    running: TaskTracker,
    _cut: DropGuard,
}

impl Open {
    /// Waits until all of them have ended.
    pub(super) async fn end(&self) {
        self.running.close();
        self.running.wait().await;
    }
}

/// Lets connections in until the door closes. Those that are open then end after the answer in
/// flight.
pub(super) async fn accept(
    listener: TcpListener,
    router: Router,
    bounds: Bounds,
    closing: &CancellationToken,
) -> Open {
    let cut = CancellationToken::new();
    let running = TaskTracker::new();
    let places = Arc::new(Semaphore::new(bounds.connections));
    let mut told = None;
    loop {
        tell_when_full(&places, bounds, &mut told);
        let next = async {
            let place = places.clone().acquire_owned().await.ok()?;
            Some((admit(&listener, bounds).await, place))
        };
        let next = tokio::select! {
            biased;
            () = closing.cancelled() => break,
            next = next => next,
        };
        let Some((stream, place)) = next else { break };
        let connection = Connection {
            stream,
            router: router.clone(),
            head: bounds.head,
            closing: closing.clone(),
            cut: cut.clone(),
            _place: place,
        };
        running.spawn(connection.serve());
    }
    Open {
        running,
        _cut: cut.drop_guard(),
    }
}

fn tell_when_full(places: &Semaphore, bounds: Bounds, told: &mut Option<shared::clock::Stopwatch>) {
    let silent = told.as_ref().is_none_or(|told| told.ms() >= TOLD_EVERY_MS);
    if places.available_permits() == 0 && silent {
        *told = Some(shared::clock::stopwatch());
        tracing::warn!(
            connections.max = bounds.connections,
            "as many connections as there may be: others wait until one ends"
        );
    }
}

/// The next connection. A failure of the system is waited out: the door stays.
async fn admit(listener: &TcpListener, bounds: Bounds) -> TcpStream {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                prepare(&stream, bounds);
                return stream;
            }
            // It was the other side's doing, and concerns that connection alone.
            Err(error)
                if matches!(
                    error.kind(),
                    ConnectionAborted | ConnectionRefused | ConnectionReset
                ) => {}
            Err(error) => {
                tracing::error!(%error, "a connection cannot be let in");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A connection on which this fails works all the same, and ends no later than it says itself.
fn prepare(stream: &TcpStream, bounds: Bounds) {
    // Events are small and are wanted at once.
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    {
        let unread_ms = u32::try_from(bounds.unread.as_millis()).unwrap_or(u32::MAX);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(stream, unread_ms);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = bounds;
}

/// One connection, in its place.
struct Connection {
    stream: TcpStream,
    router: Router,
    head: Duration,
    closing: CancellationToken,
    cut: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// Answers its requests, one after the other, until it ends or the door closes.
    async fn serve(self) {
        let peer = self.stream.peer_addr().ok();
        let peer = peer.map(|address| Peer::new(address.ip()));
        let router = ServiceBuilder::new()
            .map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
                peer.map(|peer| request.extensions_mut().insert(peer));
                request
            })
            .service(self.router);
        let service = TowerToHyperService::new(router);
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head)
            .serve_connection(TokioIo::new(self.stream), service);
        tokio::pin!(serving);
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = self.closing.cancelled() => {
                serving.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = serving => ended,
                    () = self.cut.cancelled() => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke");
        }
    }
}
