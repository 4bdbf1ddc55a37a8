//! A listener on loopback that can go down and come back on the same port, and that can close a
//! connection instead of answering.
//!
//! It serves an axum router over hyper's own connection loop, because only there a handler can
//! refuse to answer: a response with the [`Hangup`] extension is never written. Going down closes
//! the listener and every connection, upgraded ones too.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use futures::FutureExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tower::ServiceExt as _;

/// Says that no answer is to be written: the connection just closes.
#[derive(Clone, Copy, Debug)]
pub struct Hangup;

/// A response that closes the connection without a byte.
pub fn hangup() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(Hangup);
    response
}

/// One listener and the connections it accepted. Dropping it closes all of them.
#[derive(Debug)]
pub struct Front {
    addr: SocketAddr,
    router: Router,
    running: Mutex<Option<JoinHandle<()>>>,
    falls: Arc<watch::Sender<u64>>,
}

/// How often a port that is still held is tried again when coming back up.
const BIND_TRIES: u32 = 100;

impl Front {
    /// Listens on 127.0.0.1, on `port` or on a free one when it is 0.
    pub async fn open(router: Router, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let front = Self {
            addr: listener.local_addr()?,
            router,
            running: Mutex::new(None),
            falls: Arc::new(watch::Sender::new(0)),
        };
        front.run(listener);
        Ok(front)
    }

    /// Where it listens, or listened when it is down.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Refuses connections and closes those there are. Done on return.
    pub async fn down(&self) {
        let running = self.lock().take();
        self.falls.send_modify(|n| *n += 1);
        if let Some(task) = running {
            task.abort();
            let _ = task.await;
        }
    }

    /// Listens again on the same port. Done on return; does nothing when it is up.
    pub async fn up(&self) -> io::Result<()> {
        if self.lock().is_some() {
            return Ok(());
        }
        let mut tries = 0;
        let listener = loop {
            match TcpListener::bind(self.addr).await {
                Ok(listener) => break listener,
                Err(error) if tries >= BIND_TRIES => return Err(error),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        self.run(listener);
        Ok(())
    }

    /// Resolves when the front next goes down: what an upgraded connection waits for.
    pub fn fall(&self) -> impl Future<Output = ()> + Send + 'static {
        fall_of(&self.falls)
    }

    /// The count of falls, to hand to what outlives a request.
    pub fn falls(&self) -> Arc<watch::Sender<u64>> {
        Arc::clone(&self.falls)
    }

    fn run(&self, listener: TcpListener) {
        let task = tokio::spawn(accept(listener, self.router.clone()));
        *self.lock() = Some(task);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Some(task) = self.lock().take() {
            task.abort();
        }
        self.falls.send_modify(|n| *n += 1);
    }
}

/// Resolves when the front behind `falls` next goes down.
pub fn fall_of(falls: &watch::Sender<u64>) -> impl Future<Output = ()> + Send + 'static {
    let mut falls = falls.subscribe();
    async move { falls.changed().map(|_| ()).await }
}

async fn accept(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    // Out of descriptors, most likely: some connection will close.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let _ = stream.set_nodelay(true);
                let router = router.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(router.clone(), request));
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    let _ = connection.with_upgrades().await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(router: Router, request: Request<Incoming>) -> Result<Response<Body>, io::Error> {
    let response: Result<Response<Body>, Infallible> = router.oneshot(request.map(Body::new)).await;
    let Ok(response) = response;
    match response.extensions().get::<Hangup>() {
        Some(Hangup) => Err(io::ErrorKind::ConnectionReset.into()),
        None => Ok(response),
    }
}
