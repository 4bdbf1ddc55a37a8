//! Updates that Telegram sends, instead of being asked for them. Whichever process they reach keeps them;
//! the one that has the duty tells Telegram where to send them, and looks whether it can.
//!
//! ```text
//!   Telegram ─► POST /v1/telegram/webhook ─► secret? ─► receive: durable ─► 200
//! ```
//! The secret in Telegram's requests is made from the bot's token, so all processes know it without
//! having been told, and it changes with the token.

use std::time::Duration;

use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use tokio::sync::OnceCell;
use url::Url;

use shared::config::TelegramSettings;
use shared::config::secret::Secret;
use shared::egress::Gateway;
use shared::id::TenantId;
use shared::store::Mailroom;

use super::client::{Client, Failed};
use super::poll::{self, KINDS, Poller};
use super::read::{self, Me};
use crate::channels::station::Inlet;

/// Where Telegram's requests come in.
pub const PATH: &str = "/v1/telegram/webhook";
/// The header with the secret.
pub const HEADER: &str = "x-telegram-bot-api-secret-token";
/// Requests that Telegram makes at once. Those of one chat come one after the other.
const AT_ONCE: u32 = 16;
/// How often Telegram is asked whether its requests get through.
const LOOK: Duration = Duration::from_secs(30);

/// Takes what Telegram sends.
pub struct Webhook {
    client: Client,
    secret: String,
    me: OnceCell<Me>,
}

/// Why an update was not kept. Telegram sends it again.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// Which bot it came to cannot be asked.
    #[error("the bot's own name cannot be had: {0}")]
    Unknown(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] shared::store::Error),
}

impl Webhook {
    /// For the configured bot; none where updates are fetched.
    pub fn new(settings: &TelegramSettings, gateway: &Gateway) -> anyhow::Result<Option<Self>> {
        if settings.webhook_url.is_none() {
            return Ok(None);
        }
        let (client, token) = super::client(settings, gateway)?;
        Ok(Some(Self {
            client,
            secret: secret(&token),
            me: OnceCell::new(),
        }))
    }

    /// Whether a request that shows this comes from Telegram. Takes the same time whatever it shows.
    pub fn knows(&self, shown: &[u8]) -> bool {
        self.secret.as_bytes().ct_eq(shown).into()
    }

    /// Keeps an update that is for us. On return it may be acknowledged: it is durable, or concerns us not.
    pub async fn keep(
        &self,
        mail: &dyn Mailroom,
        tenant: &TenantId,
        update: &Value,
    ) -> Result<(), NotKept> {
        let me = self.me.get_or_try_init(|| poll::me(&self.client)).await;
        let me = me.map_err(|failed| NotKept::Unknown(poll::in_words(failed).0))?;
        if let Some((_, Some(new))) = read::mail(update, me) {
            mail.receive(tenant, vec![new], None).await?;
        }
        Ok(())
    }
}

/// What Telegram's requests show, for a bot of this token: 64 letters and digits, as it allows.
fn secret(token: &Secret) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(token.expose().as_bytes());
    let mac = mac.map(|mac| mac.chain_update(b"telegram webhook").finalize());
    // A key of any length will do, so there is always one.
    mac.map_or_else(|_| String::new(), |mac| hex::encode(mac.into_bytes()))
}

/// Has Telegram send its updates here, and says how that goes, until the inlet is over.
pub async fn listen((client, token): (&Client, &Secret), url: &Url, inlet: &Inlet) {
    let mut poller = Poller::new(client, inlet);
    if poller.me().await.is_none() {
        return;
    }
    poller.introduce().await;
    let hook = json!({
        "url": url.join(PATH).map_or_else(|_| url.to_string(), |url| url.to_string()),
        "secret_token": secret(token),
        "allowed_updates": KINDS,
        "max_connections": AT_ONCE,
    });
    let mut seen = 0;
    while !inlet.over.is_cancelled() {
        let look = async {
            let info: Value = client.call("getWebhookInfo", &json!({})).await?;
            if info["url"] != hook["url"] {
                client.call::<Value>("setWebhook", &hook).await?;
            }
            Ok::<Value, Failed>(info)
        };
        match inlet.over.run_until_cancelled(look).await {
            None => return,
            Some(Err(failed)) => {
                poller.rest(failed).await;
                continue;
            }
            Some(Ok(info)) => {
                // What went wrong before the last look is old news.
                let failed_at = info["last_error_date"].as_i64().unwrap_or_default();
                let why = info["last_error_message"].as_str().unwrap_or_default();
                match failed_at > seen && info["url"] == hook["url"] {
                    true => inlet.fails(&format!("Telegram's requests do not get here: {why}")),
                    false => inlet.works(),
                }
                seen = seen.max(failed_at);
            }
        }
        let rest = tokio::time::sleep(LOOK);
        inlet.over.run_until_cancelled(rest).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_follows_from_the_token_and_is_as_telegram_allows() {
        let of = |token: &str| {
            let token: shared::config::secret::SecretRef = token.parse().unwrap();
            secret(&token.resolve().unwrap())
        };
        let one = of("1:abc");
        assert!(one.len() == 64 && one.chars().all(|c| c.is_ascii_alphanumeric()));
        assert_eq!(one, of("1:abc"));
        assert_ne!(one, of("1:abd"));
    }
}
