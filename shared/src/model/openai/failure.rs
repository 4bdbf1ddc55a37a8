//! Reading failures: what went wrong, whether trying again can help, and what to do, in words. No
//! secret, path or query of the address leaves this module; texts of others are cleaned of keys.

use std::error::Error;

use async_openai::error::OpenAIError;
use reqwest::StatusCode;
use serde_json::Value;

use super::attempt::{BadAnswer, MAX_ANSWER, Rejected, is_half_character};
use super::secrets::Secrets;
use super::{Answer, OpenaiConfig, host};
use crate::model::{Finish, ModelReply};
use crate::money::Usage;
use crate::run::{Failure, FailureKind};

/// As much as is shown of a text that the server sent.
const SHOWN: usize = 300;

/// Knows the names that belong into a failure and the texts that do not.
pub(super) struct Reader {
    /// `gpt-5-mini at api.openai.com`.
    who: String,
    /// `[models.default]`.
    place: String,
    model: String,
    has_key: bool,
    pub(super) secrets: Secrets,
}

/// What a server's error object says.
#[derive(Debug, Default, PartialEq)]
struct Said {
    message: String,
    /// `code` and `type`, joined.
    code: String,
    /// A `code` that is an HTTP status; errors inside an answer of status 200 have one.
    status: Option<u16>,
}

impl Reader {
    /// For the model of this config.
    pub(super) fn new(config: &OpenaiConfig) -> Self {
        Self {
            who: format!("{} at {}", config.model, host(&config.base_url)),
            place: format!("[models.{}]", config.label),
            model: config.model.clone(),
            has_key: config.api_key.is_some(),
            secrets: Secrets::of(config),
        }
    }

    /// A failure of the library or below it.
    pub(super) fn read(&self, error: OpenAIError, sent: bool) -> Answer {
        match error {
            OpenAIError::Reqwest(error) => self.transport(error),
            OpenAIError::Boxed(error) => match error.downcast::<Rejected>() {
                Ok(rejected) => self.rejected(&rejected),
                Err(error) => self.bad_answer(error.downcast_ref::<BadAnswer>()),
            },
            OpenAIError::StreamError(_) => self.cut(),
            OpenAIError::JSONDeserialize(error, _) if is_half_character(&error) => {
                self.half_a_character(&error)
            }
            OpenAIError::JSONDeserialize(error, _) => self.unknown_end(format!(
                "{} sent an event that is not JSON ({error})",
                self.who
            )),
            other => {
                let text = self.clean(&other.to_string());
                self.free(
                    FailureKind::Permanent,
                    format!("{}: {text}", self.who),
                    sent,
                )
            }
        }
    }

    /// An error object where an answer should be.
    pub(super) fn in_band(&self, error: &Value) -> Answer {
        let said = Said::read(error);
        let status = said.status.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.filter(|status| !status.is_success());
        self.judge(status.unwrap_or(StatusCode::BAD_GATEWAY), &said, None)
    }

    /// A stream that ended before the answer did.
    pub(super) fn cut(&self) -> Answer {
        self.unknown_end(format!("{} cut the answer off before its end", self.who))
    }

    /// An answer without a choice in it.
    pub(super) fn empty(&self, usage: Option<Usage>) -> Answer {
        let (failure, _) = self.unknown_end(format!("{} answered without any choice", self.who));
        (failure, usage)
    }

    /// An answer without end.
    pub(super) fn too_long(&self) -> Answer {
        let text = format!(
            "{} answered with more than {} MiB",
            self.who,
            MAX_ANSWER >> 20
        );
        (
            Err(Failure::new(FailureKind::Malformed, text).may_have_happened()),
            None,
        )
    }

    /// The caller gave up.
    pub(super) fn cancelled(&self, sent: bool) -> Answer {
        let mut failure = Failure::new(FailureKind::Cancelled, format!("{}: cancelled", self.who));
        failure.may_have_happened = sent;
        (Err(failure), (!sent).then(Usage::default))
    }

    fn rejected(&self, rejected: &Rejected) -> Answer {
        let said = match serde_json::from_str::<Value>(&rejected.body) {
            Ok(body) => Said::read(body.get("error").filter(|e| !e.is_null()).unwrap_or(&body)),
            Err(_) => Said {
                message: rejected.body.clone(),
                ..Said::default()
            },
        };
        self.judge(rejected.status, &said, rejected.retry_after_s)
    }

    /// The one place that decides what a status and a code mean.
    fn judge(&self, status: StatusCode, said: &Said, retry_after_s: Option<f64>) -> Answer {
        use FailureKind::{Permanent, Transient};
        let (who, place) = (&self.who, &self.place);
        let code = status.as_u16();
        if said.is_filtered() {
            let reply = ModelReply {
                finish: Finish::Filtered,
                ..ModelReply::default()
            };
            return (Ok(reply), Some(Usage::default()));
        }
        let detail = self.detail(&said.message);
        let (kind, text) = if said.is_too_long() {
            (
                Permanent,
                format!(
                    "the request is longer than {who} can take: lower context_tokens of {place} to the model's real window{detail}"
                ),
            )
        } else if said.is_out_of_credit() || code == 402 {
            (
                Permanent,
                format!(
                    "{who}: the account has no credit or quota left: top it up at the provider or name another model in {place}{detail}"
                ),
            )
        } else {
            match code {
                401 if !self.has_key => (
                    Permanent,
                    format!(
                        "{who} wants an API key ({code}): set api_key of {place}, for example to \"${{OPENAI_API_KEY}}\"{detail}"
                    ),
                ),
                401 => (
                    Permanent,
                    format!(
                        "{who} refused the API key ({code}): check api_key of {place}, and the environment variable or file that it names{detail}"
                    ),
                ),
                403 => (
                    Permanent,
                    format!(
                        "{who} forbids this to the key ({code}): check that the key of {place} may use the model {:?}{detail}",
                        self.model
                    ),
                ),
                404 => (
                    Permanent,
                    format!(
                        "{who} was not found ({code}): check model {:?} and base_url of {place}{detail}",
                        self.model
                    ),
                ),
                300..=399 => (
                    Permanent,
                    format!(
                        "{who} answered with a redirect ({code}), which is not followed: check base_url of {place}"
                    ),
                ),
                429 => (
                    Transient,
                    format!("{who} is asked too often ({code}){detail}"),
                ),
                408 | 409 | 425 | 500.. => (Transient, format!("{who} answered {code}{detail}")),
                _ => (
                    Permanent,
                    format!("{who} refused the request ({code}){detail}"),
                ),
            }
        };
        let mut failure = Failure::new(kind, text);
        failure.retry_after_s = retry_after_s;
        // A gateway that lost patience says nothing about the work behind it.
        failure.may_have_happened = matches!(code, 408 | 500..);
        let usage = (!matches!(code, 408 | 504 | 524)).then(Usage::default);
        (Err(failure), usage)
    }

    fn transport(&self, error: reqwest::Error) -> Answer {
        let error = error.without_url();
        let cause = self.clean(&causes(&error));
        let who = &self.who;
        if error.is_builder() {
            let text = format!(
                "{who}: the request could not be built ({cause}): check base_url and headers of {}",
                self.place
            );
            return self.free(FailureKind::Permanent, text, false);
        }
        if error.is_connect() {
            return self.free(
                FailureKind::Transient,
                format!("cannot reach {who}: {cause}"),
                false,
            );
        }
        self.unknown_end(format!("{who} gave no answer: {cause}"))
    }

    fn bad_answer(&self, answer: Option<&BadAnswer>) -> Answer {
        match answer {
            Some(BadAnswer::TooLong) => self.too_long(),
            Some(BadAnswer::NotJson { start }) => self.unknown_end(format!(
                "{} answered with something that is not JSON{}: does base_url of {} point to the API?",
                self.who,
                self.detail(start),
                self.place
            )),
            Some(BadAnswer::HalfCharacter(error)) => self.half_a_character(error),
            None => self.unknown_end(format!("{} gave an answer that could not be read", self.who)),
        }
    }

    /// JSON that cannot be text: half of a pair that only together is a character.
    fn half_a_character(&self, error: &serde_json::Error) -> Answer {
        self.unknown_end(format!(
            "{} sent half of a character, a lone surrogate such as \\ud83d ({error}): it cut its text \
             inside of a character, often an emoji, or counts in UTF-16; such an answer cannot be kept",
            self.who
        ))
    }

    /// It went out, and nobody knows what it cost.
    fn unknown_end(&self, text: String) -> Answer {
        (
            Err(Failure::new(FailureKind::Transient, text).may_have_happened()),
            None,
        )
    }

    /// It certainly cost nothing.
    fn free(&self, kind: FailureKind, text: String, sent: bool) -> Answer {
        let mut failure = Failure::new(kind, text);
        failure.may_have_happened = sent;
        (Err(failure), Some(Usage::default()))
    }

    /// `: what the server said`, cleaned and cut.
    fn detail(&self, message: &str) -> String {
        let message = self.clean(message);
        match message.trim() {
            "" => String::new(),
            message => format!(": {message}"),
        }
    }

    /// One line, cut, without anything that is or looks like a key.
    fn clean(&self, text: &str) -> String {
        let text = self.secrets.taken_out(text);
        let words = text
            .split_whitespace()
            .map(|word| match looks_secret(word) {
                true => "[secret]",
                false => word,
            });
        let mut line = words.collect::<Vec<_>>().join(" ");
        if let Some((cut, _)) = line.char_indices().nth(SHOWN) {
            line.truncate(cut);
            line.push('…');
        }
        line
    }
}

/// Keys as providers write them, also half masked, and addresses with a query.
fn looks_secret(word: &str) -> bool {
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    word.starts_with("sk-") || (word.contains("://") && word.contains('?'))
}

/// The error and what caused it, innermost last, nothing twice.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

impl Said {
    /// From an error object, or from what stands in its place.
    fn read(error: &Value) -> Self {
        let text = |key| error.get(key).and_then(Value::as_str);
        let message = error.as_str().or_else(|| text("message"));
        let message = message.map(str::to_owned).or_else(|| {
            let detail = error.get("detail")?;
            Some(
                detail
                    .as_str()
                    .map_or_else(|| detail.to_string(), str::to_owned),
            )
        });
        let status = error.get("code").and_then(Value::as_u64);
        Self {
            message: message.unwrap_or_default(),
            code: [text("code"), text("type")]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" ")
                .to_lowercase(),
            status: status.and_then(|code| u16::try_from(code).ok()),
        }
    }

    fn is_filtered(&self) -> bool {
        self.has_code(&[
            "content_filter",
            "content_policy_violation",
            "responsibleaipolicyviolation",
        ])
    }

    fn is_out_of_credit(&self) -> bool {
        self.has_code(&[
            "insufficient_quota",
            "billing_hard_limit_reached",
            "billing_not_active",
        ])
    }

    fn is_too_long(&self) -> bool {
        let message = self.message.to_lowercase();
        self.has_code(&["context_length_exceeded", "exceed_context_size"])
            || [
                "maximum context length",
                "exceeds the available context size",
                "prompt is too long",
                "context window",
            ]
            .iter()
            .any(|sign| message.contains(sign))
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        codes.iter().any(|code| self.code.contains(code))
    }
}
