//! Whether the bot can be used: its token, a webhook that would get its messages, another program that
//! does. Nothing is confirmed and nothing is changed.

use std::time::Duration;

use serde_json::{Value, json};
use url::Url;

use super::NAME;
use super::client::{Client, Failed};
use crate::channels::Seen;
use crate::doctor::Finding;

/// How long it is waited for another program to take the bot's messages away.
const LISTEN: Duration = Duration::from_secs(3);
/// How long a call that waits may take.
const PATIENCE: Duration = Duration::from_secs(15);

const TOKEN: &str = "have @BotFather show the token (/mybots, API Token), and put it where \
                     [telegram] token says";
const RIVAL: &str = "stop the other program, or have @BotFather make a bot of its own (/newbot): a bot's \
                     messages go to one reader";
const WEBHOOK: &str =
    "have its owner call deleteWebhook, or have @BotFather make a bot of its own (/newbot)";
const UNTOLD: &str =
    "start `majordomo serve` with this configuration: it tells Telegram where to send them";
const UNREACHED: &str = "see that [telegram] webhook_url is this installation's public https address, and that \
                         its proxy passes /v1/telegram/webhook on";
const LATER: &str =
    "see that this machine reaches [telegram] api_url; it is tried again all the time";

/// All that was found. `ours` is where updates are to be sent, where they are not fetched.
pub async fn examine(client: &Client, ours: Option<&Url>, seen: Seen) -> Vec<Finding> {
    let me = match client.call::<Value>("getMe", &json!({})).await {
        Ok(me) => me,
        Err(failed) => return vec![ill(&failed)],
    };
    let name = me["username"].as_str().unwrap_or_default();
    let found = format!("the bot is @{name} ({})", me["id"]);
    let mut findings = vec![Finding::ok(NAME, found)];
    match client.call::<Value>("getWebhookInfo", &json!({})).await {
        Ok(info) => {
            if let Some(ours) = ours {
                findings.push(sent_here(&info, ours));
                return findings;
            }
            if let Some(host) = webhook(&info) {
                let found = format!("its messages go to a webhook at {host}, so none come here");
                findings.push(Finding::problem(NAME, found, WEBHOOK));
                return findings;
            }
            let waiting = info["pending_update_count"].as_u64().unwrap_or_default();
            findings.push(Finding::ok(
                NAME,
                format!("no webhook; {waiting} messages wait"),
            ));
        }
        Err(failed) => {
            findings.push(ill(&failed));
            return findings;
        }
    }
    findings.extend(match seen {
        Seen::Ill(why) if why.contains("another program") => {
            Some(Finding::problem(NAME, why, RIVAL))
        }
        Seen::Ill(why) => Some(Finding::problem(NAME, why, LATER)),
        Seen::Well => Some(Finding::ok(NAME, "its messages come in")),
        Seen::Unknown => None,
        Seen::Idle => rival(client).await,
    });
    findings
}

/// Whether updates are sent to us, and get here.
fn sent_here(info: &Value, ours: &Url) -> Finding {
    let (host, waiting) = (webhook(info), &info["pending_update_count"]);
    let here = ours.host_str().unwrap_or_default();
    match info["last_error_message"].as_str() {
        _ if host.as_deref() != Some(here) => {
            let host = host.as_deref().unwrap_or("nowhere");
            let found = format!("its messages go to {host} and not to {here}");
            Finding::problem(NAME, found, UNTOLD)
        }
        Some(why) if waiting.as_u64() > Some(0) => {
            let found = format!("{waiting} messages do not get to {here}: {why}");
            Finding::problem(NAME, found, UNREACHED)
        }
        _ => Finding::ok(NAME, format!("its messages are sent to {here}")),
    }
}

/// Where a webhook is, without its path: that may be a secret.
fn webhook(info: &Value) -> Option<String> {
    let url = info["url"].as_str().filter(|url| !url.is_empty())?;
    let host = Url::parse(url).ok();
    let host = host.as_ref().and_then(Url::host_str).map(str::to_owned);
    Some(host.unwrap_or_else(|| "an unknown place".into()))
}

/// Reads as a poller does for a moment, without confirming anything: a second one would end it.
async fn rival(client: &Client) -> Option<Finding> {
    let ask = json!({ "timeout": LISTEN.as_secs(), "limit": 1 });
    let asked = client.call_for::<Vec<Value>>(PATIENCE, "getUpdates", &ask);
    asked.await.err().map(|failed| ill(&failed))
}

fn ill(failed: &Failed) -> Finding {
    let code = match failed {
        Failed::No(no) => no.code,
        Failed::Lost(_) => 0,
    };
    let todo = match code {
        401 | 404 => TOKEN,
        409 => RIVAL,
        _ => LATER,
    };
    Finding::problem(NAME, failed.in_words(), todo)
}
