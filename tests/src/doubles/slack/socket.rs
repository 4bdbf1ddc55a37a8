//! Socket Mode: one connection, from `hello` to its end, of which there are five kinds.
//!
//! The other side closes; a `disconnect` is announced and kept some seconds later; the connection
//! is cut without a word; it dies in silence, neither read nor closed; or the whole server falls.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use serde_json::json;
use tokio::sync::mpsc;

use super::world::{APP, World};
use crate::doubles::core::Core;

/// What a connection is told to do.
#[derive(Debug)]
pub enum Order {
    /// Send this.
    Send(String),
    /// Announce the end for this reason: `warning`, `refresh_requested`, `link_disabled`.
    Disconnect(String),
    /// Close the TCP connection without a word.
    Cut,
    /// Stop reading, writing and answering, and stay open.
    Die,
}

/// Orders that may wait for a slow connection.
const ORDERS: usize = 1024;

/// The open connections, to order about.
#[derive(Debug, Default)]
pub struct Sockets {
    orders: Mutex<BTreeMap<u64, mpsc::Sender<Order>>>,
}

impl Sockets {
    /// Orders one connection; nothing happens when it is gone or stuck.
    pub fn order(&self, socket: u64, order: Order) {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = orders.get(&socket) {
            let _ = sender.try_send(order);
        }
    }

    /// Orders all connections.
    pub fn order_all(&self, order: impl Fn() -> Order) {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        for sender in orders.values() {
            let _ = sender.try_send(order());
        }
    }

    fn add(&self, socket: u64) -> mpsc::Receiver<Order> {
        let (sender, receiver) = mpsc::channel(ORDERS);
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.insert(socket, sender);
        receiver
    }

    fn remove(&self, socket: u64) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.remove(&socket);
    }
}

/// Serves one connection until it ends; `fall` resolves when the server goes down.
pub async fn serve(
    core: Arc<Core<World>>,
    sockets: Arc<Sockets>,
    mut ws: WebSocket,
    fall: impl Future<Output = ()>,
) {
    // Known to both under one lock, so that nothing is sent to a connection without a mailbox.
    let opened = core.act(|w, _| w.socket_opened().map(|id| (id, sockets.add(id))));
    let Some((id, orders)) = opened else {
        let _ = ws.send(disconnect("too_many_websockets")).await;
        return;
    };
    let ending = tokio::select! {
        ending = talk(&core, &mut ws, orders) => ending,
        () = fall => Ending::Over,
    };
    sockets.remove(id);
    if matches!(ending, Ending::Dead) {
        // Held open and never polled: no reads, so not even a pong.
        let dead_ms = core.look(|w| w.settings.dead_ms);
        tokio::time::sleep(Duration::from_millis(dead_ms)).await;
    }
    core.act(|w, now| w.socket_closed(id, now));
    drop(ws);
}

enum Ending {
    Over,
    Dead,
}

async fn talk(core: &Core<World>, ws: &mut WebSocket, mut orders: mpsc::Receiver<Order>) -> Ending {
    let (ping_ms, close_ms, count) = core.look(|w| {
        let settings = &w.settings;
        (
            settings.ping_ms,
            settings.close_after_ms,
            w.feed.sockets.len(),
        )
    });
    let hello = json!({
        "type": "hello", "num_connections": count, "connection_info": {"app_id": APP},
        "debug_info": {"host": "applink-fake-0", "started": "2026-01-01 00:00:00.000",
            "build_number": 1, "approximate_connection_time": 18060},
    });
    if ws
        .send(Message::Text(hello.to_string().into()))
        .await
        .is_err()
    {
        return Ending::Over;
    }
    let period = Duration::from_millis(ping_ms.max(1));
    let mut pings = tokio::time::interval(period);
    pings.reset();
    let close = tokio::time::sleep(Duration::MAX);
    tokio::pin!(close);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Send(text)) => {
                    if ws.send(Message::Text(text.into())).await.is_err() {
                        return Ending::Over;
                    }
                }
                Some(Order::Disconnect(reason)) => {
                    let _ = ws.send(disconnect(&reason)).await;
                    close.set(tokio::time::sleep(Duration::from_millis(close_ms)));
                }
                Some(Order::Die) => return Ending::Dead,
                Some(Order::Cut) | None => return Ending::Over,
            },
            came = ws.recv() => match came {
                Some(Ok(Message::Text(text))) => core.act(|w, now| w.socket_says(&text, now)),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ending::Over,
                Some(Ok(_)) => {}
            },
            _ = pings.tick() => {
                let ping = format!("Ping from applink-fake-0-{}", fastrand::u32(..));
                if ws.send(Message::Ping(ping.into())).await.is_err() {
                    return Ending::Over;
                }
            }
            () = &mut close => {
                let _ = ws.send(Message::Close(None)).await;
                return Ending::Over;
            }
        }
    }
}

fn disconnect(reason: &str) -> Message {
    let json = json!({
        "type": "disconnect", "reason": reason, "debug_info": {"host": "applink-fake-0"},
    });
    Message::Text(json.to_string().into())
}
