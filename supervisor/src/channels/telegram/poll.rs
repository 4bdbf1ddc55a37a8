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
    let mut poller = Poller {
        client,
        inlet,
        pause: FIRST_PAUSE,
    };
    if let Some(me) = poller.me().await {
        poller.introduce().await;
        poller.fetch(&me).await;
    }
}

struct Poller<'a> {
    client: &'a Client,
    inlet: &'a Inlet,
    pause: Duration,
}

impl Poller<'_> {
    /// Who we are. Asked until it is answered.
    async fn me(&mut self) -> Option<Me> {
        loop {
            let nothing = json!({});
            let asked = self.client.call::<Value>("getMe", &nothing);
            match self.inlet.over.run_until_cancelled(asked).await? {
                Ok(me) => {
                    let id = me["id"].as_u64().unwrap_or_default();
                    let username = me["username"].as_str().unwrap_or_default().to_owned();
                    return Some(Me { id, username });
                }
                Err(failed) => self.rest(failed).await,
            }
        }
    }

    /// Has the far side show the commands in its menu. It works without.
    async fn introduce(&self) {
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
                "allowed_updates": ["message", "edited_message", "callback_query"],
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
    async fn rest(&mut self, failed: Failed) {
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
