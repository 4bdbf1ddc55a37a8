//! Telegram: a bot that is spoken to in private, in groups and in topics. How it is read is in [`read`],
//! how it is called in [`mod@client`], how updates are fetched in [`poll`] or sent to us in [`webhook`]; here
//! is how it is spoken to.

mod client;
mod examine;
mod poll;
mod read;
pub mod webhook;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use serde_json::{Value, json};

use shared::config::TelegramSettings;
use shared::config::secret::Secret;
use shared::egress::Gateway;
use shared::store::{Mail, duty};

use super::papers::enclose::Enclosure;
use super::station::Inlet;
use super::text::telegram as render;
use super::{Attached, Channel, Document, Incoming, Page, Seen, Undelivered};
use crate::doctor::Finding;
use crate::people::groups::Group;
use client::{Client, Failed};

/// The channel's name.
pub const NAME: &str = "telegram";

/// What stands in the environment in place of the configured server.
const API_URL: &str = "TELEGRAM_API_URL";

/// How long a call may take that nobody misses.
const IN_PASSING: Duration = Duration::from_secs(3);

/// The Telegram door.
pub struct Telegram {
    client: Client,
    /// Where updates are sent to, and with what they are asked to be; none where they are fetched.
    webhook: Option<(url::Url, Secret)>,
    /// Groups that have become others meanwhile.
    moved: Mutex<HashMap<i64, i64>>,
}

impl Telegram {
    /// Builds it; nobody is called yet.
    pub fn new(settings: &TelegramSettings, gateway: &Gateway) -> anyhow::Result<Self> {
        let (client, token) = client(settings, gateway)?;
        let webhook_url = settings.webhook_url.clone();
        Ok(Self {
            client,
            webhook: webhook_url.map(|url| (url, token)),
            moved: Mutex::default(),
        })
    }

    fn chat(&self, conversation: &str) -> Result<(i64, Option<i64>), Undelivered> {
        let (chat, topic) = match conversation.split_once(':') {
            Some((chat, topic)) => (chat, topic.parse().ok()),
            None => (conversation, None),
        };
        let never = || Undelivered::Never(format!("{conversation:?} is no chat"));
        let chat = chat.parse().map_err(|_| never())?;
        let moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((moved.get(&chat).copied().unwrap_or(chat), topic))
    }

    /// Calls a method about a chat; in the one that it has become, where it has.
    async fn speak(
        &self,
        method: &str,
        conversation: &str,
        fields: &Value,
    ) -> Result<Value, Spoken> {
        loop {
            let (chat, topic) = self.chat(conversation).map_err(Spoken::Undelivered)?;
            let mut body = fields.clone();
            body["chat_id"] = chat.into();
            if let (Some(topic), false) = (topic, method.starts_with("edit")) {
                body["message_thread_id"] = topic.into();
            }
            let failed = match self.client.call(method, &body).await {
                Ok(result) => return Ok(result),
                Err(failed) => failed,
            };
            let Some(moved_to) = failed.moved_to().filter(|to| *to != chat) else {
                return Err(Spoken::Failed(failed));
            };
            let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
            moved.insert(chat, moved_to);
        }
    }
}

/// The Bot API as it is configured, and the bot's token.
fn client(settings: &TelegramSettings, gateway: &Gateway) -> anyhow::Result<(Client, Secret)> {
    let url = match std::env::var(API_URL) {
        Ok(url) => url
            .parse()
            .with_context(|| format!("{API_URL} is no URL"))?,
        Err(_) => settings.api_url.clone(),
    };
    let token = settings.token.resolve().context("[telegram] token")?;
    let client = Client::new(gateway.trusted(&url, false)?, token.clone());
    Ok((client, token))
}

/// Why something was not said.
enum Spoken {
    Undelivered(Undelivered),
    Failed(Failed),
}

impl From<Spoken> for Undelivered {
    fn from(spoken: Spoken) -> Self {
        match spoken {
            Spoken::Undelivered(undelivered) => undelivered,
            Spoken::Failed(failed) => failed.undelivered(),
        }
    }
}

#[async_trait]
impl Channel for Telegram {
    fn name(&self) -> &'static str {
        NAME
    }

    fn duty(&self) -> &'static str {
        duty::TELEGRAM
    }

    fn read(&self, mail: &Mail) -> Incoming {
        read::read(mail)
    }

    fn is_private(&self, conversation: &str) -> bool {
        // A private chat has its person's number; groups have numbers below zero.
        conversation.parse::<i64>().is_ok_and(|chat| chat > 0)
    }

    fn pages(&self, markdown: &str) -> Vec<Page> {
        let page = |content: &render::Message| Page {
            content: json!(content),
            buttons: Vec::new(),
        };
        let pages: Vec<Page> = render::render(markdown).iter().map(page).collect();
        match pages.is_empty() {
            // Nothing that can be seen: said so, since an empty message is none.
            true => vec![Page {
                content: json!({ "text": "(nothing)" }),
                buttons: Vec::new(),
            }],
            false => pages,
        }
    }

    async fn post(
        &self,
        conversation: &str,
        reply_to: Option<&str>,
        page: &Page,
    ) -> Result<String, Undelivered> {
        let mut body = fields(page);
        if let Some(message) = reply_to.and_then(|id| id.parse::<i64>().ok()) {
            body["reply_parameters"] =
                json!({ "message_id": message, "allow_sending_without_reply": true });
        }
        let sent = self.speak("sendMessage", conversation, &body).await?;
        let id = sent["message_id"].as_i64();
        id.map(|id| id.to_string())
            .ok_or_else(|| Undelivered::Trouble("the message has no id".into()))
    }

    async fn change(&self, conversation: &str, id: &str, page: &Page) -> Result<(), Undelivered> {
        let Ok(message) = id.parse::<i64>() else {
            return Err(Undelivered::Missing);
        };
        let mut body = fields(page);
        body["message_id"] = message.into();
        match self.speak("editMessageText", conversation, &body).await {
            Ok(_) => Ok(()),
            Err(Spoken::Failed(failed)) if failed.is_unchanged() => Ok(()),
            Err(spoken) => Err(spoken.into()),
        }
    }

    async fn place(
        &self,
        conversation: &str,
        reply_to: Option<&str>,
        file: &Document,
    ) -> Result<String, Undelivered> {
        let page = Page {
            content: json!({ "text": format!("📎 {}", file.name) }),
            buttons: Vec::new(),
        };
        self.post(conversation, reply_to, &page).await
    }

    /// A message of words becomes one with a document, under the same number.
    async fn attach(
        &self,
        conversation: &str,
        _: &str,
        (id, file): (&str, &Document),
    ) -> Result<(), Undelivered> {
        const METHOD: &str = "editMessageMedia";
        loop {
            let (chat, _) = self.chat(conversation)?;
            let media = json!({
                "type": "document", "media": "attach://file",
                // A picture or a page is a file here, and stays one.
                "disable_content_type_detection": true,
            });
            let fields = [
                ("chat_id", chat.to_string()),
                ("message_id", id.to_owned()),
                ("media", media.to_string()),
            ];
            let failed = match self.client.upload::<Value>(METHOD, &fields, file).await {
                Ok(_) => return Ok(()),
                Err(failed) if failed.is_unchanged() => return Ok(()),
                Err(failed) => failed,
            };
            let Some(moved_to) = failed.moved_to().filter(|to| *to != chat) else {
                return Err(failed.undelivered());
            };
            let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
            moved.insert(chat, moved_to);
        }
    }

    async fn busy(&self, conversation: &str, _: Option<&str>) {
        let typing = json!({ "action": "typing" });
        // Nobody misses it.
        let spoken = self.speak("sendChatAction", conversation, &typing);
        let _ = tokio::time::timeout(IN_PASSING, spoken).await;
    }

    async fn pressed(&self, press: &str, word: &str) {
        let body = json!({ "callback_query_id": press, "text": word });
        let told = self
            .client
            .call_for::<Value>(IN_PASSING, "answerCallbackQuery", &body);
        if let Err(failed) = told.await {
            // One that is too old need not be answered any more.
            tracing::debug!(?failed, "a press was not confirmed");
        }
    }

    async fn fetch(&self, file: &Attached, limit: u64) -> Result<Enclosure, Undelivered> {
        let too_large = || Undelivered::Never("it is too large".into());
        if file.size.is_some_and(|size| size > limit) {
            return Err(too_large());
        }
        match self.client.file(&file.id, limit).await {
            Ok(bytes) => Ok(Enclosure {
                name: file.name.clone(),
                mime: file.mime.clone(),
                bytes: bytes.ok_or_else(too_large)?,
            }),
            Err(failed) => Err(failed.undelivered()),
        }
    }

    async fn belongs(&self, group: &Group, id: &str) -> Result<bool, Undelivered> {
        let (Group::Telegram(chat), Ok(user)) = (group, id.parse::<i64>()) else {
            return Ok(false);
        };
        let (chat, of_user) = (chat.to_string(), json!({ "user_id": user }));
        match self.speak("getChatMember", &chat, &of_user).await {
            Ok(member) => Ok(match member["status"].as_str() {
                Some("creator" | "administrator" | "member") => true,
                Some("restricted") => member["is_member"] == true,
                _ => false,
            }),
            Err(Spoken::Failed(failed)) if failed.is_nobody() => Ok(false),
            Err(spoken) => Err(spoken.into()),
        }
    }

    async fn examine(&self, seen: Seen) -> Vec<Finding> {
        let ours = self.webhook.as_ref().map(|(url, _)| url);
        examine::examine(&self.client, ours, seen).await
    }

    async fn listen(&self, inlet: &Inlet) {
        match &self.webhook {
            Some((url, token)) => webhook::listen((&self.client, token), url, inlet).await,
            None => poll::poll(&self.client, inlet).await,
        }
    }
}

/// What a page is to the Bot API: text with entities, never parsed there, without previews.
fn fields(page: &Page) -> Value {
    let mut body = json!({
        "text": page.content["text"],
        "link_preview_options": { "is_disabled": true },
    });
    if let Some(entities) = page.content["entities"]
        .as_array()
        .filter(|some| !some.is_empty())
    {
        body["entities"] = json!(entities);
    }
    if !page.buttons.is_empty() {
        let row = |row: &Vec<super::Button>| {
            let button = |button: &super::Button| json!({ "text": button.label, "callback_data": button.data });
            row.iter().map(button).collect::<Vec<_>>()
        };
        let rows: Vec<_> = page.buttons.iter().map(row).collect();
        body["reply_markup"] = json!({ "inline_keyboard": rows });
    }
    body
}
