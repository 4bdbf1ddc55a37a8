//! The shape of `[escalation]`: who is told of work that cannot go on by itself, one after the other, and
//! how long it waits for them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::document::{Document, Found};
use super::problem::Problem;
use crate::email::Address;
use crate::id::PrincipalId;

/// `[escalation]`: work that cannot go on by itself waits for a person: an agent that failed again and
/// again or goes round in circles, a provider that is down, a limit that is reached, an effect of which
/// nobody knows whether it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EscalationSettings {
    /// Hours for which such work waits. After that it ends with what there is; with 0 it ends at once.
    #[schemars(range(min = 0, max = 8760))]
    pub within_h: f64,
    /// Hours after the last rung's time in which nobody decided: then the ladder is climbed anew.
    #[schemars(range(min = 0.01, max = 8760))]
    pub again_h: f64,
    /// Who is told, one rung after the other. With none, all approvers are told at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rungs: Vec<Rung>,
}

/// `[[escalation.rungs]]`: who is told together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rung {
    /// Who: a person by principal (`"anna"`), a conversation (`"telegram/-100123"`, `"slack/T0123/C0456"`), an
    /// address (`"mailto:oncall@example.org"`), or a webhook (`"https://alerts.example.org/hook"`), which
    /// is signed as callbacks are.
    pub to: Vec<String>,
    /// Minutes in which somebody must have decided; then the next rung is told, too. A rung that nothing
    /// reaches gets no time at all.
    #[schemars(range(min = 0.01, max = 10080))]
    pub wait_min: f64,
}

impl Default for Rung {
    fn default() -> Self {
        Self {
            to: Vec::new(),
            wait_min: 15.0,
        }
    }
}

impl Default for EscalationSettings {
    fn default() -> Self {
        Self {
            within_h: 24.0,
            again_h: 4.0,
            rungs: Vec::new(),
        }
    }
}

impl EscalationSettings {
    /// Seconds for which work waits for help; none where it does not.
    pub fn help_within_s(&self) -> Option<u64> {
        let seconds = (self.within_h.clamp(0.0, 8760.0) * 3600.0).ceil() as u64;
        (seconds > 0).then_some(seconds)
    }
}

impl Rung {
    /// How long somebody may take to decide before the next rung is told.
    pub fn wait(&self) -> Duration {
        // The configuration has checked that it is one.
        Duration::try_from_secs_f64(self.wait_min * 60.0).unwrap_or(Duration::ZERO)
    }

    /// Who is told. What does not read is left out; the configuration was checked.
    pub fn contacts(&self) -> impl Iterator<Item = Contact> {
        self.to.iter().filter_map(|to| Contact::parse(to).ok())
    }
}

/// Somebody on a rung.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact {
    /// A person, wherever they are known, in private.
    Person(PrincipalId),
    /// A conversation of a chat.
    Conversation {
        /// The chat.
        channel: &'static str,
        /// The conversation there.
        id: String,
    },
    /// Whoever reads letters to this address.
    Letter(Address),
    /// Whatever listens there.
    Hook(Url),
}

/// Chats in which a conversation can be named.
const CHATS: [&str; 2] = ["telegram", "slack"];

impl Contact {
    /// Reads one as the configuration names it. The error says what it should be.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(address) = text.strip_prefix("mailto:") {
            let address = address.parse();
            return address.map(Self::Letter).map_err(
                |_| "write the address alone after mailto:, as \"mailto:oncall@example.org\"",
            );
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            let url = Url::parse(text).ok().filter(|url| {
                url.has_host() && url.username().is_empty() && url.password().is_none()
            });
            return url
                .map(Self::Hook)
                .ok_or("write the webhook's address in full, without a user and a password in it");
        }
        for channel in CHATS {
            if let Some(id) = text
                .strip_prefix(channel)
                .and_then(|rest| rest.strip_prefix('/'))
            {
                let id = id.to_owned();
                return match id.trim().is_empty() {
                    true => Err("name the conversation behind the slash, as \"telegram/-100123\""),
                    false => Ok(Self::Conversation { channel, id }),
                };
            }
        }
        match text.trim().is_empty() || text.contains(['/', ':', ' ']) {
            true => Err(
                "write a principal, \"telegram/CHAT\", \"slack/CHANNEL\", \"mailto:ADDRESS\", or an \
                 address that begins with https://",
            ),
            false => Ok(Self::Person(PrincipalId::from(text))),
        }
    }
}

/// Everything that is wrong with the rungs, beyond their shape.
pub(super) fn problems(settings: &Document<'_>) -> Vec<Problem> {
    let named = settings.find(&["escalation", "rungs", "*", "to", "*"]);
    let problem = |found: &Found<'_, '_>| {
        let text = found.value.as_ref().as_str()?;
        let at =
            |label: &str, message: String| settings.problem(found.value.span(), label, message);
        let contact = match Contact::parse(text) {
            Ok(contact) => contact,
            Err(help) => return Some(at("nobody", format!("`{text}` names nobody")).help(help)),
        };
        let needs = |section: &'static str, what: &str| {
            let missing = settings.find(&[section]).is_empty();
            missing.then(|| {
                at(
                    "not configured",
                    format!("`{text}` cannot be told: there is no [{section}]"),
                )
                .help(format!("add [{section}], {what}"))
            })
        };
        match contact {
            Contact::Person(_) => None,
            Contact::Conversation { channel, .. } => needs(channel, "so that the chat is open"),
            Contact::Letter(_) => needs("email", "by whose server letters go out"),
            Contact::Hook(_) => needs("callbacks", "with whose secret it is signed"),
        }
    };
    let rungs = settings.find(&["escalation", "rungs", "*"]);
    let empty = rungs.iter().filter(|rung| {
        let to = rung
            .value
            .as_ref()
            .as_table()
            .and_then(|table| table.get("to"));
        to.and_then(|to| to.as_ref().as_array())
            .is_none_or(|to| to.is_empty())
    });
    let empty = empty.map(|rung| {
        settings
            .problem(
                rung.value.span(),
                "nobody",
                "a rung of `[escalation]` names nobody",
            )
            .help("name who is told: `to = [\"anna\"]`")
    });
    named.iter().filter_map(problem).chain(empty).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contacts_are_read_as_they_are_written() {
        let conversation = |channel, id: &str| Contact::Conversation {
            channel,
            id: id.into(),
        };
        let table = [
            ("anna", Some(Contact::Person("anna".into()))),
            (
                "telegram/-100123",
                Some(conversation("telegram", "-100123")),
            ),
            ("slack/T1/C0123", Some(conversation("slack", "T1/C0123"))),
            (
                "mailto:oncall@example.org",
                Some(Contact::Letter("oncall@example.org".parse().unwrap())),
            ),
            (
                "https://alerts.example.org/hook",
                Some(Contact::Hook(
                    Url::parse("https://alerts.example.org/hook").unwrap(),
                )),
            ),
            ("", None),
            ("telegram/", None),
            ("fax/12", None),
            ("mailto:nobody", None),
            ("https://me:secret@example.org/", None),
        ];
        for (text, contact) in table {
            assert_eq!(Contact::parse(text).ok(), contact, "{text}");
        }
    }
}
