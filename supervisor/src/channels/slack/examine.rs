//! Whether the app can be used: its token, its scopes, its socket. Nothing is changed.

use serde_json::json;

use shared::config::secret::Secret;

use super::client::{Client, Failed};
use super::{GRANT_SCOPES, NAME, SCOPES};
use crate::channels::Seen;
use crate::doctor::Finding;

const TOKEN: &str = "copy the bot token, xoxb-…, from OAuth & Permissions of the app, and put it where \
                     [slack] bot_token says";
const APP_TOKEN: &str = "make an app-level token, xapp-…, with the scope connections:write under Basic \
                         Information, switch Socket Mode on, and put the token where [slack] app_token \
                         says";
const REINSTALL: &str = "compare the app with `majordomo slack manifest`, and install it again";
const LATER: &str = "see that this machine reaches [slack] api_url; it is tried again all the time";

/// All that was found.
pub async fn examine(client: &Client, app_token: Option<&Secret>, seen: Seen) -> Vec<Finding> {
    let (me, scopes) = match client.whoami().await {
        Ok(found) => found,
        Err(failed) => return vec![ill(failed, TOKEN)],
    };
    let text = |field: &str| me[field].as_str().unwrap_or_default().to_owned();
    let found = format!(
        "the app is {} in {} ({})",
        text("user"),
        text("team"),
        text("team_id")
    );
    let mut findings = vec![Finding::ok(NAME, found)];
    if let Some(has) = scopes {
        let lacks = |wanted: &[&str]| {
            let missing = wanted
                .iter()
                .filter(|scope| !has.iter().any(|has| has == *scope));
            missing.copied().collect::<Vec<_>>().join(", ")
        };
        findings.push(match (lacks(&SCOPES), lacks(&GRANT_SCOPES)) {
            (none, nothing) if none.is_empty() && nothing.is_empty() => {
                Finding::ok(NAME, "it has every scope")
            }
            (none, grants) if none.is_empty() => {
                let found = format!("it lacks scopes that [[grants]] need: {grants}");
                Finding::warning(NAME, found, REINSTALL)
            }
            (needed, _) => Finding::problem(NAME, format!("it lacks scopes: {needed}"), REINSTALL),
        });
    }
    if let Some(token) = app_token {
        let nothing = json!({});
        let opened = client.call_as(token, "apps.connections.open", &nothing);
        findings.push(match opened.await {
            Ok(_) => Finding::ok(NAME, "a socket may be opened"),
            Err(failed) => ill(failed, APP_TOKEN),
        });
    }
    match seen {
        Seen::Ill(why) => findings.push(Finding::problem(NAME, why, LATER)),
        Seen::Well => findings.push(Finding::ok(NAME, "it is looked after here")),
        Seen::Unknown | Seen::Idle => {}
    }
    findings
}

/// `token` says what to do where a token is at fault.
fn ill(failed: Failed, token: &str) -> Finding {
    let todo = match &failed {
        Failed::No(word) if word == "missing_scope" => REINSTALL,
        Failed::No(_) => token,
        Failed::Busy(_) | Failed::Lost(_) => LATER,
    };
    Finding::problem(NAME, failed.in_words(), todo)
}
