//! Socket Mode: events over a WebSocket that we open, so that no public address is needed.
//!
//! ```text
//!   apps.connections.open ─► connect ─► hello ─► envelope ─► keep ─► acknowledge ─► …
//!            ▲                                     │
//!            ├── silent, closed, refused ◄─────────┤
//!            └── "disconnect": the old one is heard out beside the new one
//! ```
//! An envelope is acknowledged after what it holds is durable, while others are being kept: none waits for
//! the one before it. Where the store fails it is not acknowledged, and comes again. A socket is dead when nothing was heard on it for longer than two pings take.
//!
//! The socket itself does not go through the gateway, which knows requests only; so it is opened to
//! nobody but the server that the gateway's answer came from, or one below its name.
//!
//! Not slack-morphism's own: it takes over a minute to notice a dead socket, and keeps what it holds to
//! its own schedule.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use url::Url;

use shared::config::secret::Secret;

use super::client::{Client, Failed};
use super::events;
use crate::channels::station::Inlet;

/// How often the far side is asked whether it is there.
const PING: Duration = Duration::from_secs(10);
/// A socket on which nothing was heard for so long is dead.
const SILENCE: Duration = Duration::from_secs(25);
/// How long connecting, or sending something, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A socket that is to be left is heard for so long at most.
const FAREWELL: Duration = Duration::from_secs(60);
/// The first pause after a failure; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest.
const LAST_PAUSE: Duration = Duration::from_secs(15);
/// So many envelopes are kept at once; what comes after them waits in the connection.
const AT_ONCE: usize = 32;
/// The largest message, in bytes.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why a socket is not listened to any more.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// It is to be replaced, and works until then.
    Replace,
    /// It does not work.
    Broken(String),
}

/// Says who we are until that is taken, then waits for the end: events come over HTTP.
pub async fn greet(client: &Client, inlet: &Inlet) {
    let mut pause = Pause(FIRST_PAUSE);
    let greeting = async {
        while let Err(failed) = client.call("auth.test", &json!({})).await {
            pause.after(failed, inlet).await;
        }
        inlet.works();
    };
    inlet.over.run_until_cancelled(greeting).await;
    inlet.over.cancelled().await;
}

/// Listens until the inlet is over.
pub async fn listen(client: &Client, token: &Secret, inlet: &Inlet) {
    let line = Line {
        client,
        token,
        inlet,
    };
    inlet.over.run_until_cancelled(line.hold()).await;
}

struct Line<'a> {
    client: &'a Client,
    token: &'a Secret,
    inlet: &'a Inlet,
}

impl Line<'_> {
    /// Holds a socket open, one after the other.
    async fn hold(&self) {
        let mut pause = Pause(FIRST_PAUSE);
        let mut leaving = FuturesUnordered::<BoxFuture<'_, ()>>::new();
        loop {
            let opened = beside(self.open(), &mut leaving).await;
            let end = match opened {
                Err(failed) => Err(failed),
                Ok(mut socket) => {
                    match beside(self.serve(&mut socket, &mut pause), &mut leaving).await {
                        End::Broken(why) => Err(Failed::Lost(why)),
                        End::Replace => {
                            leaving.push(Box::pin(self.hear_out(socket)));
                            Ok(())
                        }
                    }
                }
            };
            if let Err(failed) = end {
                beside(pause.after(failed, self.inlet), &mut leaving).await;
            }
        }
    }

    async fn open(&self) -> Result<Socket, Failed> {
        let nothing = json!({});
        let opened = self
            .client
            .call_as(self.token, "apps.connections.open", &nothing);
        let opened = opened.await?;
        let lost = |why: &str| Failed::Lost(why.into());
        let url = opened["url"].as_str().and_then(|url| Url::parse(url).ok());
        let url = url.ok_or_else(|| lost("Slack names no address for the socket"))?;
        if !is_slacks(&url, self.client.server().base()) {
            return Err(lost("Slack names a foreign address for the socket"));
        }
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let connecting = connect_async_with_config(url.as_str(), Some(limits), true);
        match tokio::time::timeout(PATIENCE, connecting).await {
            Ok(Ok((socket, _))) => Ok(socket),
            // Its address is good for whoever has it, and stands in no error of the protocol's.
            Ok(Err(error)) => Err(Failed::Lost(format!("the socket did not open: {error}"))),
            Err(_) => Err(lost("the socket did not open in time")),
        }
    }

    /// Takes what comes until the socket is to be left.
    async fn serve(&self, socket: &mut Socket, pause: &mut Pause) -> End {
        let mut pings = tokio::time::interval(PING);
        pings.reset();
        let silence = tokio::time::sleep(SILENCE);
        tokio::pin!(silence);
        let mut kept = FuturesUnordered::new();
        loop {
            let came = tokio::select! {
                came = socket.next(), if kept.len() < AT_ONCE => came,
                Some(kept) = kept.next(), if !kept.is_empty() => {
                    match self.acknowledge(socket, kept).await {
                        Ok(()) => continue,
                        Err(end) => return end,
                    }
                }
                _ = pings.tick() => match send(socket, Message::Ping(Default::default())).await {
                    Ok(()) => continue,
                    Err(end) => return end,
                },
                () = &mut silence => return End::Broken("the socket went silent".into()),
            };
            silence.set(tokio::time::sleep(SILENCE));
            let heard = match came {
                Some(Ok(Message::Text(text))) => self.hear(&text, pause),
                Some(Ok(Message::Close(_))) | None => Err(End::Broken("the socket closed".into())),
                Some(Ok(_)) => Ok(None),
                Some(Err(error)) => Err(End::Broken(format!("the socket broke: {error}"))),
            };
            match heard {
                Ok(envelope) => kept.extend(envelope.map(|envelope| self.keep(envelope))),
                Err(end) => {
                    // On one that is to be replaced, what is being kept is still acknowledged.
                    while let Some(kept) = kept.next().await {
                        if self.acknowledge(socket, kept).await.is_err() {
                            break;
                        }
                    }
                    return end;
                }
            }
        }
    }

    /// Takes what still comes on a socket that is being left.
    async fn hear_out(&self, mut socket: Socket) {
        let mut pause = Pause(FIRST_PAUSE);
        let hearing = async { while self.serve(&mut socket, &mut pause).await == End::Replace {} };
        // What comes later comes on the new one.
        let _ = tokio::time::timeout(FAREWELL, hearing).await;
    }

    /// What is to be kept of what came, if anything is.
    fn hear(&self, text: &str, pause: &mut Pause) -> Result<Option<Value>, End> {
        let Ok(envelope) = serde_json::from_str::<Value>(text) else {
            return Ok(None);
        };
        match envelope["type"].as_str() {
            Some("hello") => {
                *pause = Pause(FIRST_PAUSE);
                self.inlet.works();
            }
            Some("disconnect") if envelope["reason"] == "link_disabled" => {
                return Err(End::Broken(
                    "Socket Mode is switched off for the app".into(),
                ));
            }
            Some("disconnect") => {
                return Err(match envelope["reason"].as_str() {
                    Some("warning" | "refresh_requested") => End::Replace,
                    // Such as too many sockets: another one at once would fare no better.
                    reason => End::Broken(format!(
                        "Slack closes the socket: {}",
                        reason.unwrap_or("it does not say why")
                    )),
                });
            }
            _ => {}
        }
        Ok(envelope["envelope_id"].is_string().then_some(envelope))
    }

    /// Keeps what an envelope holds. On return it may be acknowledged, where the store took it.
    async fn keep(&self, envelope: Value) -> Option<(Value, Option<Value>)> {
        let (mail, tenant) = self.inlet.mailroom();
        match events::keep(mail, tenant, &envelope["payload"]).await {
            Ok(answer) => Some((envelope, answer)),
            Err(error) => {
                tracing::warn!(%error, "a message from Slack waits for the store: it comes again");
                None
            }
        }
    }

    async fn acknowledge(
        &self,
        socket: &mut Socket,
        kept: Option<(Value, Option<Value>)>,
    ) -> Result<(), End> {
        let Some((envelope, answer)) = kept else {
            return Ok(());
        };
        let mut taken = json!({ "envelope_id": envelope["envelope_id"] });
        if let Some(answer) = answer {
            taken["payload"] = answer;
        }
        send(socket, Message::text(taken.to_string())).await
    }
}

async fn send(socket: &mut Socket, message: Message) -> Result<(), End> {
    match tokio::time::timeout(PATIENCE, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(End::Broken(format!("the socket broke: {error}"))),
        Err(_) => Err(End::Broken("the socket takes nothing".into())),
    }
}

/// Does something while others go on.
async fn beside<T>(
    work: impl Future<Output = T>,
    others: &mut FuturesUnordered<BoxFuture<'_, ()>>,
) -> T {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some(()) = others.next(), if !others.is_empty() => {}
        }
    }
}

/// Whether a socket's address belongs to the server that named it: encrypted where that is.
fn is_slacks(socket: &Url, server: &Url) -> bool {
    let scheme = match server.scheme() {
        "https" => socket.scheme() == "wss",
        _ => matches!(socket.scheme(), "ws" | "wss"),
    };
    let (Some(host), Some(server)) = (socket.host_str(), server.host_str()) else {
        return false;
    };
    let below = host.strip_suffix(server);
    scheme && below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
}

/// The next pause after a failure.
struct Pause(Duration);

impl Pause {
    /// Says what is wrong, and waits.
    async fn after(&mut self, failed: Failed, inlet: &Inlet) {
        let at_least = match &failed {
            Failed::Busy(time) => *time,
            _ => Duration::ZERO,
        };
        let why = failed.in_words();
        tracing::debug!(why, "Slack is tried again after a pause");
        inlet.fails(&why);
        // Many that lost their sockets at once must not come back in step.
        let pause = self.0.mul_f64(0.5 + fastrand::f64()).max(at_least);
        tokio::time::sleep(pause).await;
        self.0 = (self.0 * 2).min(LAST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_opened_to_slack_alone() {
        let is = |socket: &str, server: &str| {
            is_slacks(&Url::parse(socket).unwrap(), &Url::parse(server).unwrap())
        };
        let slack = "https://slack.com/api";
        assert!(is("wss://wss-primary.slack.com/link/?ticket=1", slack));
        assert!(is("ws://127.0.0.1:9/link", "http://127.0.0.1:9/api"));
        for foreign in [
            "ws://wss-primary.slack.com/link",
            "wss://evilslack.com/",
            "wss://slack.com.evil.test/",
            "wss://169.254.169.254/",
        ] {
            assert!(!is(foreign, slack), "{foreign}");
        }
    }
}
