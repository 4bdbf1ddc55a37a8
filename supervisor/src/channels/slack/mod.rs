//! Slack: an app that is mentioned, written to directly, and called by commands. How it is read is in
//! [`read`], how it is called in [`client`], how what it sends is known and kept in [`events`], how it
//! comes over a socket in [`socket`], how files come and go in [`files`], what is asked in a window in
//! [`modal`]; here is how it is spoken to.
//!
//! Answers go to the thread that they belong to, and a message's id is `CHANNEL/TS`: what was written to
//! a person stands in a channel that only Slack knows before.

mod client;
pub mod events;
mod examine;
mod files;
mod members;
mod modal;
mod read;
mod socket;

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use serde_json::{Value, json};

use shared::config::secret::{Secret, SecretRef};
use shared::config::{SlackMode, SlackSettings};
use shared::egress::Gateway;
use shared::id::AgentName;
use shared::store::{Mail, duty};

use super::papers::enclose::Enclosure;
use super::station::Inlet;
use super::text::slack as render;
use super::{Attached, Button, Channel, Document, Incoming, Page, Seen, Sheet, Undelivered};
use crate::doctor::Finding;
use crate::people::groups::Group;
use client::{Client, Failed};
use modal::{Opener, Wanted};

/// The channel's name.
pub const NAME: &str = "slack";

/// What stands in the environment in place of the configured server.
const API_URL: &str = "SLACK_API_URL";
/// What the app is allowed to do, so that it can do anything.
pub const SCOPES: [&str; 8] = [
    "app_mentions:read",
    "channels:history",
    "chat:write",
    "commands",
    "files:read",
    "files:write",
    "groups:history",
    "im:history",
];
/// What it is allowed besides, so that `[[grants]]` can be asked for.
pub const GRANT_SCOPES: [&str; 4] = [
    "channels:read",
    "groups:read",
    "usergroups:read",
    "users:read",
];
/// Characters on a button.
const LABEL: usize = 75;

/// The Slack door.
pub struct Slack {
    client: Arc<Client>,
    /// What `/ask` without words is answered with.
    opener: Opener,
    /// What a socket is opened with, where one is to be.
    app_token: Option<Secret>,
}

impl Slack {
    /// Builds it; nobody is called yet. `agents` are those that people may choose from.
    pub fn new(
        settings: &SlackSettings,
        gateway: &Gateway,
        agents: Vec<AgentName>,
    ) -> anyhow::Result<Self> {
        let client = Arc::new(client_of(settings, gateway)?);
        let app_token = match settings.mode() {
            SlackMode::Socket => Some(needed(&settings.app_token, "app_token")?),
            SlackMode::Http => None,
        };
        Ok(Self {
            opener: Opener::new(client.clone(), agents),
            client,
            app_token,
        })
    }

    /// Posts a page. Answers its id, `CHANNEL/TS`.
    async fn write(&self, place: &Place<'_>, page: &Page) -> Result<String, Undelivered> {
        let mut body = fields(page);
        // A model's link must not be fetched by anybody because it was shown.
        body["unfurl_links"] = false.into();
        body["unfurl_media"] = false.into();
        let said = self
            .speak(place, &body)
            .await
            .map_err(Failed::undelivered)?;
        match (said["channel"].as_str(), said["ts"].as_str()) {
            (Some(channel), Some(ts)) => Ok(format!("{channel}/{ts}")),
            _ => Err(Undelivered::Trouble("the message has no id".into())),
        }
    }

    /// Posts where a conversation is; to the person who began it where the bot may not write there.
    async fn speak(&self, place: &Place<'_>, body: &Value) -> Result<Value, Failed> {
        let mut body = body.clone();
        body["channel"] = place.channel.into();
        if let Some(thread) = place.thread {
            body["thread_ts"] = thread.into();
        }
        match (
            self.client.call("chat.postMessage", &body).await,
            place.person,
        ) {
            (Err(failed), Some(person)) if failed.is_outside() => {
                body["channel"] = person.into();
                self.client.call("chat.postMessage", &body).await
            }
            (said, _) => said,
        }
    }
}

fn client_of(settings: &SlackSettings, gateway: &Gateway) -> anyhow::Result<Client> {
    let url = match std::env::var(API_URL) {
        Ok(url) => url
            .parse()
            .with_context(|| format!("{API_URL} is no URL"))?,
        Err(_) => settings.api_url.clone(),
    };
    let token = settings.bot_token.resolve().context("[slack] bot_token")?;
    let files = gateway.trusted(&files::base_of(&url), false)?;
    Ok(Client::new((gateway.trusted(&url, false)?, files), token))
}

/// How Slack's requests are known, where events come by them.
pub fn seal(settings: &SlackSettings) -> anyhow::Result<Option<events::Seal>> {
    match settings.mode() {
        SlackMode::Socket => Ok(None),
        SlackMode::Http => {
            let secret = needed(&settings.signing_secret, "signing_secret")?;
            Ok(Some(events::Seal::new(secret)))
        }
    }
}

fn needed(secret: &Option<SecretRef>, name: &str) -> anyhow::Result<Secret> {
    let secret = secret
        .as_ref()
        .with_context(|| format!("[slack] {name} is needed for the way that events come in"))?;
    secret.resolve().with_context(|| format!("[slack] {name}"))
}

/// Where a conversation is.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    /// The channel, or the person who is written to directly.
    channel: &'a str,
    /// The thread.
    thread: Option<&'a str>,
    /// The person who began it by a command.
    person: Option<&'a str>,
}

impl<'a> Place<'a> {
    /// Reads `TEAM/CHANNEL`, `TEAM/CHANNEL/TS` and `TEAM/CHANNEL/USER`.
    fn of(conversation: &'a str) -> Result<Self, Undelivered> {
        let mut parts = conversation.split('/').skip(1);
        let channel = parts.next().filter(|channel| !channel.is_empty());
        let channel = channel
            .ok_or_else(|| Undelivered::Never(format!("{conversation:?} is no conversation")))?;
        let last = parts.next();
        let is_ts = |last: &&str| last.starts_with(|c: char| c.is_ascii_digit());
        Ok(Self {
            channel,
            thread: last.filter(is_ts),
            person: last.filter(|last| !is_ts(last)),
        })
    }
}

#[async_trait]
impl Channel for Slack {
    fn name(&self) -> &'static str {
        NAME
    }

    fn duty(&self) -> &'static str {
        duty::SLACK
    }

    fn read(&self, mail: &Mail) -> Incoming {
        read::read(mail)
    }

    fn is_private(&self, conversation: &str) -> bool {
        // What was given by command nobody else sees, wherever it was given.
        Place::of(conversation)
            .is_ok_and(|place| place.channel.starts_with('D') || place.person.is_some())
    }

    fn pages(&self, markdown: &str) -> Vec<Page> {
        let page = |content: Value| Page {
            content,
            buttons: Vec::new(),
        };
        let posts = render::render(markdown);
        match posts.is_empty() {
            // Nothing that can be seen: said so, since an empty message is none.
            true => vec![page(json!({ "text": "(nothing)" }))],
            false => posts.iter().map(|post| page(json!(post))).collect(),
        }
    }

    /// Slack lets an app have few commands: the house's are words after its own.
    fn command(&self, name: &str) -> String {
        format!("/majordomo {name}")
    }

    /// Slack counts by channel, whatever the thread.
    fn ids_are_unique(&self) -> bool {
        true
    }

    fn room<'a>(&self, conversation: &'a str) -> &'a str {
        let second = conversation.match_indices('/').nth(1);
        second.map_or(conversation, |(at, _)| &conversation[..at])
    }

    async fn post(
        &self,
        conversation: &str,
        _: Option<&str>,
        page: &Page,
    ) -> Result<String, Undelivered> {
        self.write(&Place::of(conversation)?, page).await
    }

    /// A word to somebody's command is theirs alone, and stays where they gave it as long as they look; a
    /// word in a thread is everybody's. Where the app cannot do so, it is said to them directly.
    async fn say(
        &self,
        conversation: &str,
        reply_to: Option<&str>,
        page: &Page,
    ) -> Result<String, Undelivered> {
        let place = Place::of(conversation)?;
        let Some(person) = place.person else {
            return self.post(conversation, reply_to, page).await;
        };
        let mut body = fields(page);
        body["channel"] = place.channel.into();
        body["user"] = person.into();
        let directly = Place {
            channel: person,
            thread: None,
            person: None,
        };
        match self.client.call("chat.postEphemeral", &body).await {
            Ok(said) => {
                let ts = said["message_ts"].as_str().unwrap_or_default();
                Ok(format!("{}/{ts}", place.channel))
            }
            Err(failed) if failed.is_outside() => self.write(&directly, page).await,
            Err(failed) => Err(failed.undelivered()),
        }
    }

    async fn change(&self, _: &str, id: &str, page: &Page) -> Result<(), Undelivered> {
        let (channel, ts) = id.split_once('/').ok_or(Undelivered::Missing)?;
        let mut body = fields(page);
        body["channel"] = channel.into();
        body["ts"] = ts.into();
        let changed = self.client.call("chat.update", &body).await;
        changed.map(drop).map_err(Failed::undelivered)
    }

    async fn busy(&self, _: &str, _: Option<&str>) {
        // Bots do not type here; the card says how it goes.
    }

    async fn pressed(&self, press: &str, word: &str) {
        let mut parts = press.split('/');
        let (Some(channel), Some(thread), Some(user)) = (parts.next(), parts.next(), parts.next())
        else {
            return;
        };
        let body = json!({ "channel": channel, "thread_ts": thread, "user": user, "text": word });
        if let Err(failed) = self.client.call("chat.postEphemeral", &body).await {
            // The press was taken all the same.
            tracing::debug!(?failed, "a press was not confirmed");
        }
    }

    async fn open(&self, conversation: &str, trigger: &str) {
        let place = Place::of(conversation);
        let Ok((channel, Some(user))) = place.map(|place| (place.channel, place.person)) else {
            return;
        };
        let wanted = Wanted {
            trigger,
            channel,
            user,
        };
        self.opener.open(&wanted).await;
    }

    fn has_windows(&self) -> bool {
        true
    }

    async fn open_sheet(&self, conversation: &str, trigger: &str, sheet: &Sheet) {
        self.opener.open_sheet(conversation, trigger, sheet).await;
    }

    async fn fetch(&self, file: &Attached, limit: u64) -> Result<Enclosure, Undelivered> {
        files::fetch(&self.client, file, limit).await
    }

    async fn place(
        &self,
        _: &str,
        _: Option<&str>,
        file: &Document,
    ) -> Result<String, Undelivered> {
        files::place(&self.client, file).await
    }

    async fn attach(
        &self,
        conversation: &str,
        beside: &str,
        placed: (&str, &Document),
    ) -> Result<(), Undelivered> {
        files::attach(&self.client, (conversation, beside), placed).await
    }

    async fn belongs(&self, group: &Group, id: &str) -> Result<bool, Undelivered> {
        members::belongs(&self.client, group, id).await
    }

    async fn examine(&self, seen: Seen) -> Vec<Finding> {
        examine::examine(&self.client, self.app_token.as_ref(), seen).await
    }

    async fn listen(&self, inlet: &Inlet) {
        match &self.app_token {
            Some(token) => socket::listen(&self.client, token, inlet).await,
            None => socket::greet(&self.client, inlet).await,
        }
    }
}

/// What a page is to the Web API. A page without blocks takes those away that were there.
fn fields(page: &Page) -> Value {
    let mut blocks = match page.content["blocks"].as_array() {
        Some(blocks) => blocks.clone(),
        None => {
            let text = json!({ "type": "plain_text", "text": page.content["text"] });
            vec![json!({ "type": "section", "text": text })]
        }
    };
    let rows = page.buttons.iter().enumerate();
    let rows = rows.filter(|(_, row)| !row.is_empty());
    blocks.extend(rows.map(|(at, row)| actions(at, row)));
    json!({ "text": page.content["text"], "blocks": blocks })
}

/// A row of buttons.
fn actions(row: usize, buttons: &[Button]) -> Value {
    let button = |(at, button): (usize, &Button)| {
        let label: String = button.label.chars().take(LABEL).collect();
        json!({
            "type": "button",
            "action_id": format!("{row}.{at}"),
            "text": { "type": "plain_text", "text": label },
            "value": button.data,
        })
    };
    let elements: Vec<Value> = buttons.iter().enumerate().map(button).collect();
    json!({ "type": "actions", "elements": elements })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_say_where_they_are() {
        let place = |channel, thread, person| Place {
            channel,
            thread,
            person,
        };
        for (conversation, wanted) in [
            ("T1/C1/17.000200", place("C1", Some("17.000200"), None)),
            ("T1/C1/U1", place("C1", None, Some("U1"))),
            ("T1/U1", place("U1", None, None)),
        ] {
            assert_eq!(Place::of(conversation), Ok(wanted));
        }
        for odd in ["", "T1", "T1/"] {
            assert!(Place::of(odd).is_err(), "{odd}");
        }
    }
}
