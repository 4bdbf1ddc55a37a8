//! One call to the Web API, and what its answer means. Through the egress gateway, like all that goes
//! out. An error is a word in an answer of status 200; only too many calls are a status of their own.

use std::time::Duration;

use reqwest::RequestBuilder;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;

use shared::config::secret::Secret;
use shared::egress::Trusted;

use super::files::Slacks;
use crate::channels::Undelivered;

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// How long nothing is said where the far side wants patience and does not say how much.
const SOME_TIME: Duration = Duration::from_secs(5);

/// The Web API for one app.
pub struct Client {
    server: Trusted,
    /// Where files are.
    files: Trusted,
    bot: Secret,
}

/// Why a call gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It was refused, in this word.
    No(String),
    /// The far side wants to be left alone for so long.
    Busy(Duration),
    /// Nobody knows whether it was done.
    Lost(String),
}

impl Client {
    /// For the bot of this token.
    pub fn new((server, files): (Trusted, Trusted), bot: Secret) -> Self {
        Self { server, files, bot }
    }

    /// Where files are.
    pub fn files(&self) -> &Trusted {
        &self.files
    }

    /// A request for a file's bytes, as the bot. The address must be one of Slack's: the token goes
    /// with it.
    pub fn get(&self, address: Slacks<'_>) -> RequestBuilder {
        let (url, server) = (address.url, address.server);
        server.client().get(url).bearer_auth(self.bot.expose())
    }

    /// The Web API that is called.
    pub fn server(&self) -> &Trusted {
        &self.server
    }

    /// Calls a method as the bot.
    pub async fn call(&self, method: &str, body: &Value) -> Result<Value, Failed> {
        self.call_as(&self.bot, method, body).await
    }

    /// Calls a method with another token than the bot's.
    pub async fn call_as(
        &self,
        token: &Secret,
        method: &str,
        body: &Value,
    ) -> Result<Value, Failed> {
        let request = self.request(token, method).json(body);
        let answered = answer(token, request).await;
        answered.map(|(answer, _)| answer)
    }

    /// Calls a method that reads, as the bot: such methods take forms only, and pass over JSON.
    pub async fn ask(&self, method: &str, fields: &[(&str, &str)]) -> Result<Value, Failed> {
        let request = self.request(&self.bot, method).form(fields);
        let answered = answer(&self.bot, request).await;
        answered.map(|(answer, _)| answer)
    }

    /// Who the bot is, and which scopes its token has, where the answer says so.
    pub async fn whoami(&self) -> Result<(Value, Option<Vec<String>>), Failed> {
        let request = self
            .request(&self.bot, "auth.test")
            .json(&serde_json::json!({}));
        let (answer, headers) = answer(&self.bot, request).await?;
        let scopes = headers.get("x-oauth-scopes");
        let scopes = scopes.and_then(|value| value.to_str().ok()).map(|all| {
            let all = all.split(',').map(str::trim).map(str::to_owned);
            all.filter(|scope| !scope.is_empty()).collect()
        });
        Ok((answer, scopes))
    }

    fn request(&self, token: &Secret, method: &str) -> RequestBuilder {
        let request = self.server.client().post(self.server.url(method));
        request.timeout(PATIENCE).bearer_auth(token.expose())
    }
}

/// What a request is answered, with the answer's headers. An error does not repeat the token.
async fn answer(token: &Secret, request: RequestBuilder) -> Result<(Value, HeaderMap), Failed> {
    let lost = |error: reqwest::Error| Failed::Lost(said(&error.without_url()));
    let mut response = request.send().await.map_err(lost)?;
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
    if status.as_u16() == 429 {
        return Err(Failed::Busy(
            retry_after.map_or(SOME_TIME, Duration::from_secs),
        ));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_ANSWER {
            return Err(Failed::Lost("the answer is too long".into()));
        }
    }
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(answer) if answer["ok"] == true => Ok((answer, response.headers().clone())),
        Ok(mut answer) if answer["error"].is_string() => {
            let word = answer["error"].as_str().unwrap_or_default();
            answer["error"] = token.taken_out_of(word).into();
            Err(Failed::of(&answer))
        }
        _ => Err(Failed::Lost(format!(
            "an answer that cannot be read (status {})",
            status.as_u16()
        ))),
    }
}

/// An error with its causes, in one line.
pub(super) fn said(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

impl Failed {
    fn of(answer: &Value) -> Self {
        let word = answer["error"].as_str().unwrap_or_default();
        match word {
            "ratelimited" | "rate_limited" => Failed::Busy(SOME_TIME),
            word => Failed::No(word.into()),
        }
    }

    /// What it means for something that was to be delivered.
    pub fn undelivered(self) -> Undelivered {
        let word = match self {
            Failed::Lost(why) => return Undelivered::Trouble(why),
            Failed::Busy(time) => return Undelivered::Busy(time),
            Failed::No(word) => word,
        };
        match &*word {
            "message_not_found" | "cant_update_message" => Undelivered::Missing,
            "channel_not_found"
            | "is_archived"
            | "not_in_channel"
            | "no_permission"
            | "invalid_blocks"
            | "invalid_blocks_format"
            | "msg_blocks_too_long"
            | "msg_too_long"
            | "no_text"
            | "invalid_arguments"
            | "invalid_thread_ts"
            | "cannot_reply_to_message"
            | "user_not_found"
            | "cannot_dm_bot"
            | "messages_tab_disabled" => Undelivered::Never(word),
            word if word.starts_with("restricted_action") => Undelivered::Never(word.into()),
            _ => Undelivered::Trouble(in_words(&word)),
        }
    }

    /// What is wrong, for people.
    pub fn in_words(self) -> String {
        match self {
            Failed::No(word) => in_words(&word),
            Failed::Busy(_) => "Slack asks for patience".into(),
            Failed::Lost(why) => why,
        }
    }

    /// Whether the channel is not one that the bot may write in, or that the person is in.
    pub fn is_outside(&self) -> bool {
        const OUTSIDE: [&str; 3] = ["not_in_channel", "channel_not_found", "user_not_in_channel"];
        matches!(self, Failed::No(word) if OUTSIDE.contains(&word.as_str()))
    }
}

/// A word of Slack's, for people.
pub(super) fn in_words(word: &str) -> String {
    match word {
        "invalid_auth" | "not_authed" | "token_revoked" | "token_expired" | "account_inactive" => {
            format!("the token is refused ({word}); see [slack] bot_token and app_token")
        }
        "not_allowed_token_type" => {
            "a token of the wrong kind: bot_token begins with xoxb-, app_token with xapp-".into()
        }
        "missing_scope" => {
            "the app lacks a scope: compare it with `majordomo slack manifest`, and \
                            install it again"
                .into()
        }
        word => format!("Slack says {word}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_refusal_means() {
        let cases = [
            ("channel_not_found", "never"),
            ("is_archived", "never"),
            ("restricted_action_read_only_channel", "never"),
            ("message_not_found", "missing"),
            ("cant_update_message", "missing"),
            ("ratelimited", "busy"),
            ("invalid_auth", "trouble"),
            ("token_revoked", "trouble"),
            ("internal_error", "trouble"),
        ];
        for (word, wanted) in cases {
            let failed = Failed::of(&serde_json::json!({"ok": false, "error": word}));
            let got = match failed.undelivered() {
                Undelivered::Busy(_) => "busy",
                Undelivered::Never(_) => "never",
                Undelivered::Missing => "missing",
                Undelivered::Trouble(_) => "trouble",
            };
            assert_eq!(got, wanted, "{word}");
        }
    }
}
