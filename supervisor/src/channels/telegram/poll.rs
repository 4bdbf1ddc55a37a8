//! Fetches updates: they are durable before the far side is told that they arrived, which is by asking
//! for the next ones.
//!
//! ```text
//!   getUpdates ─► receive: updates and cursor in one commit ─► getUpdates(offset: after them) ─► …
//! ```
//! A fresh poller names no offset: what was not confirmed comes again, and what came before is known by
//! its number. So a bot that was changed for another, or whose numbers began anew, loses nothing.

use std::time::Duration;

use serde_json::{Value, json};

use shared::store::Cursor;

use super::client::{Client, Failed};
use super::read::{self, Me};
use crate::channels::command::MENU;
use crate::channels::station::Inlet;

/// What is to be told of.
pub const KINDS: [&str; 3] = ["message", "edited_message", "callback_query"];
/// How long the far side waits for something to come.
const WAIT: Duration = Duration::from_secs(25);
/// How long a call that waits may take.
const PATIENCE: Duration = Duration::from_secs(40);
/// The first pause after a failure; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest.
const LAST_PAUSE: Duration = Duration::from_secs(15);

/// Fetches until the inlet is over.
pub async fn poll(client: &Client, inlet: &Inlet) {
    let mut poller = Poller::new(client, inlet);
    if let Some(me) = poller.me().await {
        poller.introduce().await;
        poller.come_and_get_it().await;
        poller.fetch(&me).await;
    }
}

/// Which bot this is.
pub async fn me(client: &Client) -> Result<Me, Failed> {
    let me: Value = client.call("getMe", &json!({})).await?;
    let username = me["username"].as_str().unwrap_or_default().to_owned();
    Ok(Me {
        id: me["id"].as_u64().unwrap_or_default(),
        username,
    })
}

/// Asks the far side for something until it is answered.
pub struct Poller<'a> {
    client: &'a Client,
    inlet: &'a Inlet,
    pause: Duration,
}

impl<'a> Poller<'a> {
    /// For one bot.
    pub fn new(client: &'a Client, inlet: &'a Inlet) -> Self {
        Self {
            client,
            inlet,
            pause: FIRST_PAUSE,
        }
    }

    /// Who we are. Asked until it is answered.
    pub async fn me(&mut self) -> Option<Me> {
        loop {
            let asked = me(self.client);
            match self.inlet.over.run_until_cancelled(asked).await? {
                Ok(me) => return Some(me),
                Err(failed) => self.rest(failed).await,
            }
        }
    }

    /// Has nothing sent to us any more that was sent before: a bot's updates come by one way only.
    async fn come_and_get_it(&self) {
        let nothing = json!({});
        let told = self.client.call::<Value>("deleteWebhook", &nothing);
        if let Some(Err(failed)) = self.inlet.over.run_until_cancelled(told).await {
            tracing::warn!(?failed, "a webhook of before may still be there");
        }
    }

    /// Has the far side show the commands in its menu. It works without.
    pub async fn introduce(&self) {
        let command = |(name, what): (&str, &str)| json!({ "command": name, "description": what });
        let commands: Vec<Value> = MENU.into_iter().map(command).collect();
        let menu = json!({ "commands": commands });
        let told = self.client.call::<Value>("setMyCommands", &menu);
        if let Some(Err(failed)) = self.inlet.over.run_until_cancelled(told).await {
            tracing::warn!(?failed, "the menu of commands was not set");
        }
    }

    async fn fetch(&mut self, me: &Me) {
        let account = format!("telegram/{}", me.id);
        let mut offset = None;
        while !self.inlet.over.is_cancelled() {
            let mut ask = json!({
                "timeout": WAIT.as_secs(),
                "limit": 100,
                "allowed_updates": KINDS,
            });
            if let Some(offset) = offset {
                ask["offset"] = json!(offset);
            }
            let asked = self
                .client
                .call_for::<Vec<Value>>(PATIENCE, "getUpdates", &ask);
            let updates = match self.inlet.over.run_until_cancelled(asked).await {
                None => return,
                Some(Ok(updates)) => updates,
                Some(Err(failed)) => {
                    self.rest(failed).await;
                    continue;
                }
            };
            self.inlet.works();
            self.pause = FIRST_PAUSE;
            shared::crash_point!("fetch.after");
            let mail: Vec<_> = updates
                .iter()
                .filter_map(|update| read::mail(update, me))
                .collect();
            let Some(last) = mail.iter().map(|(id, _)| *id).max() else {
                // All is confirmed: whatever number comes next, it is new.
                offset = None;
                continue;
            };
            let cursor = Cursor {
                account: account.clone(),
                position: last + 1,
            };
            let mail = mail.into_iter().filter_map(|(_, mail)| mail).collect();
            if !self.inlet.take(mail, cursor).await {
                return;
            }
            offset = Some(last + 1);
        }
    }

    /// Says what is wrong, and waits before the next attempt.
    pub async fn rest(&mut self, failed: Failed) {
        let at_least = match &failed {
            Failed::Lost(_) => Duration::ZERO,
            Failed::No(no) => no.retry_after.unwrap_or_default(),
        };
        self.inlet.fails(&failed.in_words());
        // Two that fight over a bot must not do it in step.
        let pause = self.pause.mul_f64(0.5 + fastrand::f64()).max(at_least);
        self.inlet
            .over
            .run_until_cancelled(tokio::time::sleep(pause))
            .await;
        self.pause = (self.pause * 2).min(LAST_PAUSE);
    }
}

/// What is wrong, for people, and how long the far side is to be left alone at least.
pub fn in_words(failed: Failed) -> (String, Duration) {
    match failed {
        Failed::Lost(why) => (why, Duration::ZERO),
        Failed::No(no) => {
            let after = no.retry_after.unwrap_or_default();
            let why = match no.code {
                401 | 404 => "the bot's token is refused; see [telegram] token".into(),
                409 => format!("another program reads this bot's messages: {}", no.words),
                _ => no.words,
            };
            (why, after)
        }
    }
}
