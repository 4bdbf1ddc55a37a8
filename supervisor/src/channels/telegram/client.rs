//! One call to the Bot API, and what its answer means. Through the egress gateway, like all that goes
//! out; the token stands in the URL, so no error keeps its URL.
//!
//! Not teloxide's own client: it waits ten seconds over a server's error while its conversation's turn
//! is taken, tells refusals apart by their texts alone, and would be a second way out of the house. Its
//! types say what comes in.

use std::time::Duration;

use reqwest::multipart::{Form, Part};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use shared::config::secret::Secret;
use shared::egress::Trusted;

use crate::channels::{Document, Undelivered};

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a call with a file may take: 8 MiB over a slow line.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(120);
/// The longest answer that is read, in bytes: a hundred updates of the largest kind.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// The Bot API for one bot.
pub struct Client {
    server: Trusted,
    token: Secret,
}

/// What the Bot API said no to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct No {
    /// Its number: as in HTTP.
    pub code: u16,
    /// Its words.
    pub words: String,
    /// How long it wants to be left alone.
    pub retry_after: Option<Duration>,
    /// The chat that this one has become.
    pub moved_to: Option<i64>,
}

/// Why a call gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It was refused.
    No(No),
    /// Nobody knows whether it was done.
    Lost(String),
}

#[derive(Deserialize)]
struct Answer<T> {
    ok: bool,
    result: Option<T>,
    error_code: Option<u16>,
    description: Option<String>,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
struct Parameters {
    retry_after: Option<u64>,
    migrate_to_chat_id: Option<i64>,
}

impl Client {
    /// For the bot of this token.
    pub fn new(server: Trusted, token: Secret) -> Self {
        Self { server, token }
    }

    /// Calls a method.
    pub async fn call<T: DeserializeOwned>(&self, method: &str, body: &Value) -> Result<T, Failed> {
        self.call_for(PATIENCE, method, body).await
    }

    /// Calls a method that may take so long.
    pub async fn call_for<T: DeserializeOwned>(
        &self,
        patience: Duration,
        method: &str,
        body: &Value,
    ) -> Result<T, Failed> {
        let request = self.server.client().post(self.method(method));
        self.answered(request.timeout(patience).json(body)).await
    }

    /// A method's address. The token stands in it.
    fn method(&self, method: &str) -> url::Url {
        let path = format!("bot{}/{method}", self.token.expose());
        self.server.url(&path)
    }

    /// Sends a request, and reads its answer.
    async fn answered<T: DeserializeOwned>(
        &self,
        sent: reqwest::RequestBuilder,
    ) -> Result<T, Failed> {
        let lost = |error: reqwest::Error| Failed::Lost(said(&error.without_url()));
        let mut response = sent.send().await.map_err(lost)?;
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER {
                return Err(Failed::Lost("the answer is too long".into()));
            }
        }
        let Ok(answer) = serde_json::from_slice::<Answer<T>>(&bytes) else {
            return Err(Failed::Lost(format!(
                "an answer that cannot be read (status {status})"
            )));
        };
        match answer {
            Answer {
                ok: true,
                result: Some(result),
                ..
            } => Ok(result),
            refused => Err(Failed::No(No {
                code: refused.error_code.unwrap_or(status),
                words: self
                    .token
                    .taken_out_of(&refused.description.unwrap_or_default()),
                retry_after: refused.parameters.retry_after.map(Duration::from_secs),
                moved_to: refused.parameters.migrate_to_chat_id,
            })),
        }
    }
}

impl Client {
    /// Calls a method with a file, which the fields name as `attach://file`.
    pub async fn upload<T: DeserializeOwned>(
        &self,
        method: &str,
        fields: &[(&'static str, String)],
        file: &Document,
    ) -> Result<T, Failed> {
        let lost = |error: reqwest::Error| Failed::Lost(said(&error.without_url()));
        let part = Part::bytes(file.bytes.to_vec())
            .file_name(file.name.clone())
            .mime_str(&file.mime)
            .map_err(lost)?;
        let mut form = Form::new().part("file", part);
        for (name, value) in fields {
            form = form.text(*name, value.clone());
        }
        let request = self.server.client().post(self.method(method));
        self.answered(request.timeout(UPLOAD_PATIENCE).multipart(form))
            .await
    }

    /// The bytes of a file; none where there are more than `limit`.
    pub async fn file(&self, id: &str, limit: u64) -> Result<Option<Vec<u8>>, Failed> {
        let file: Value = self
            .call("getFile", &serde_json::json!({ "file_id": id }))
            .await?;
        let path = file["file_path"].as_str().unwrap_or_default();
        let url = self
            .server
            .url(&format!("file/bot{}/{path}", self.token.expose()));
        let lost = |error: reqwest::Error| Failed::Lost(said(&error.without_url()));
        let asked = self.server.client().get(url).timeout(PATIENCE);
        let mut response = asked.send().await.map_err(lost)?;
        if !response.status().is_success() {
            let status = response.status().as_u16();
            return Err(Failed::Lost(format!(
                "the file was not given out (status {status})"
            )));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                return Ok(None);
            }
        }
        Ok(Some(bytes))
    }
}

/// An error with its causes, in one line.
fn said(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

impl Failed {
    /// What it means for something that was to be delivered.
    pub fn undelivered(self) -> Undelivered {
        let no = match self {
            Failed::Lost(why) => return Undelivered::Trouble(why),
            Failed::No(no) => no,
        };
        if let Some(time) = no.retry_after {
            return Undelivered::Busy(time);
        }
        let says = |words: &str| no.words.to_ascii_lowercase().contains(words);
        match no.code {
            429 => Undelivered::Busy(Duration::from_secs(5)),
            401 | 404 => Undelivered::Trouble("the bot's token is refused".into()),
            400 if says("message to edit not found")
                || says("message_id_invalid")
                || says("message can't be edited") =>
            {
                Undelivered::Missing
            }
            400 | 403 | 413 => Undelivered::Never(no.words),
            _ => Undelivered::Trouble(no.words),
        }
    }

    /// Whether a message stays as it is because it is so already.
    pub fn is_unchanged(&self) -> bool {
        matches!(self, Failed::No(no) if no.code == 400 && no.words.contains("message is not modified"))
    }

    /// What is wrong, for people.
    pub fn in_words(&self) -> String {
        match self {
            Failed::Lost(why) => why.clone(),
            Failed::No(no) => match no.code {
                401 | 404 => "the bot's token is refused; see [telegram] token".into(),
                409 => format!("another program reads this bot's messages: {}", no.words),
                _ => no.words.clone(),
            },
        }
    }

    /// Whether it was said that there is no such person in the chat.
    pub fn is_nobody(&self) -> bool {
        let Failed::No(no) = self else { return false };
        let words = no.words.to_ascii_lowercase();
        let said = [
            "participant_id_invalid",
            "user not found",
            "member not found",
        ];
        no.code == 400 && said.iter().any(|said| words.contains(said))
    }

    /// The chat that the one spoken to has become.
    pub fn moved_to(&self) -> Option<i64> {
        match self {
            Failed::No(no) => no.moved_to,
            Failed::Lost(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no(code: u16, words: &str) -> Failed {
        Failed::No(No {
            code,
            words: words.into(),
            retry_after: None,
            moved_to: None,
        })
    }

    #[test]
    fn what_a_refusal_means() {
        let cases = [
            (400, "Bad Request: chat not found", "never"),
            (400, "Bad Request: message to edit not found", "missing"),
            (400, "Bad Request: MESSAGE_ID_INVALID", "missing"),
            (403, "Forbidden: bot was blocked by the user", "never"),
            (401, "Unauthorized", "trouble"),
            (429, "Too Many Requests: retry after 7", "busy"),
            (500, "Internal Server Error", "trouble"),
        ];
        for (code, words, wanted) in cases {
            let got = match no(code, words).undelivered() {
                Undelivered::Busy(_) => "busy",
                Undelivered::Never(_) => "never",
                Undelivered::Missing => "missing",
                Undelivered::Trouble(_) => "trouble",
            };
            assert_eq!(got, wanted, "{words}");
        }
        assert!(no(400, "Bad Request: message is not modified: x").is_unchanged());
    }
}
