//! The board of channels: how each is, what it owes, what it could not deliver; and trying one out. The
//! same beside a running instance and without one. Asked by the HTTP door and the command line.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shared::email::Mailer;
use shared::store::{Error, Standing};

use super::callback;
use super::email;
use super::health::Channels;
use super::{Channel, Seen};
use crate::asks::herald;
use crate::asks::ladder::Ladder;
use crate::desk::Desk;
use crate::doctor::{Finding, Level};
use crate::people::directory::Directory;
use crate::wire::{ChannelState, ChannelView};

/// How long a channel may take to be examined, and one of its admins to be written to.
const PATIENCE: Duration = Duration::from_secs(15);
const PATIENCE_EACH: Duration = Duration::from_secs(3);
/// What admins are written.
const GREETING: &str =
    "This is a test of this channel: somebody asked for it by `majordomo channels test`.";

/// The channels of an installation.
#[derive(Clone)]
pub struct Board {
    /// Those that are configured.
    pub channels: Arc<[Arc<dyn Channel>]>,
    /// How they are; none where no instance runs in this process.
    pub health: Option<Channels>,
    /// Whether nobody looks after them.
    pub idle: bool,
    /// By which letters leave, where a mail server is configured.
    pub mailer: Option<Arc<dyn Mailer>>,
    /// Who is who.
    pub people: Arc<Directory>,
    /// The store, and whose channels they are.
    pub desk: Desk,
    /// Who is told of work that cannot go on.
    pub ladder: Arc<Ladder>,
}

/// There is no such channel.
#[derive(Debug, thiserror::Error)]
#[error("the door {0:?} is closed: nothing in majordomo.toml opens it; {open}", open = .1)]
pub struct Closed(String, String);

impl Board {
    /// Each channel, by name: the configured ones, and those that owe something or could not deliver.
    pub async fn list(&self) -> Result<Vec<ChannelView>, Error> {
        let standing = self.desk.store.mail().standing(&self.desk.tenant).await?;
        let mut by_name: BTreeMap<String, Standing> = standing
            .into_iter()
            .map(|one| (one.channel.clone(), one))
            .collect();
        for channel in self.channels.iter() {
            by_name.entry(channel.name().into()).or_default();
        }
        let view = |(name, standing): (String, Standing)| {
            let (state, fault) = match self.seen(&name) {
                _ if !self.is_open(&name) => (ChannelState::Closed, None),
                Seen::Well => (ChannelState::Up, None),
                Seen::Ill(why) => (ChannelState::Down, Some(why)),
                Seen::Idle => (ChannelState::Idle, None),
                Seen::Unknown => (ChannelState::Unknown, None),
            };
            ChannelView {
                name,
                state,
                fault,
                owed: standing.owed,
                oldest_owed_at_ms: standing.oldest.map(|at| at.0),
                dead: standing.dead,
                why: standing.why,
            }
        };
        Ok(by_name.into_iter().map(view).collect())
    }

    /// Tries a channel out, as far as that changes nothing, and writes to its admins where all else is
    /// well.
    pub async fn test(&self, name: &str) -> Result<Vec<Finding>, TestError> {
        if name == callback::CHANNEL {
            return Ok(vec![self.callbacks().await?]);
        }
        if name == email::NAME {
            let examined = self.examine_email().await;
            return Ok(vec![examined.ok_or_else(|| self.closed(name))?]);
        }
        let channel = self.channels.iter().find(|channel| channel.name() == name);
        let channel = channel.ok_or_else(|| self.closed(name))?;
        let examined = tokio::time::timeout(PATIENCE, channel.examine(self.seen(name))).await;
        let mut findings = examined.unwrap_or_else(|_| vec![silent(channel.name())]);
        let is_ill = findings
            .iter()
            .any(|finding| finding.level == Level::Problem);
        if !is_ill {
            findings.extend(self.greet(&**channel).await?);
        }
        Ok(findings)
    }

    /// Callbacks have no far side of their own that could be asked.
    async fn callbacks(&self) -> Result<Finding, Error> {
        let all = self.list().await?.into_iter();
        let mut callbacks = all.filter(|view| view.name == callback::CHANNEL);
        let (owed, dead) = callbacks
            .next()
            .map_or((0, 0), |view| (view.owed, view.dead));
        let found = format!(
            "a task's end is told to the callback_url that came with it, so there is nobody to ask; {owed} \
             owed, {dead} undelivered"
        );
        Ok(match dead {
            0 => Finding {
                todo: Some(
                    "to try it, hand in a task with a callback_url of yours: docs/http.md".into(),
                ),
                ..Finding::ok(callback::CHANNEL, found)
            },
            _ => Finding::warning(
                callback::CHANNEL,
                found,
                "majordomo channels retry callback tries them again",
            ),
        })
    }

    /// How e-mail is, where it is configured.
    pub async fn examine_email(&self) -> Option<Finding> {
        let mailer = self.mailer.as_ref()?;
        Some(email::examine(&**mailer).await)
    }

    /// Puts what could not be delivered back among what is owed. Answers how much that was.
    pub async fn retry(&self, name: &str) -> Result<u64, TestError> {
        let mail = self.desk.store.mail();
        if !self.is_open(name) {
            return Err(self.closed(name).into());
        }
        Ok(mail.revive(&self.desk.tenant, name).await?)
    }

    async fn greet(&self, channel: &dyn Channel) -> Result<Vec<Finding>, Error> {
        let name = channel.name();
        let admins = self.people.admins().await?.into_iter();
        let admins: Vec<_> = admins.filter(|admin| admin.channel == name).collect();
        if admins.is_empty() {
            return Ok(vec![Finding::warning(
                name,
                "no admin is known here who could be written to",
                "majordomo pair NAME --roles admin",
            )]);
        }
        let mut findings = Vec::new();
        for admin in admins {
            let pages = channel.pages(GREETING);
            let Some(page) = pages.first() else { continue };
            let sent = tokio::time::timeout(PATIENCE_EACH, channel.post(&admin.id, None, page));
            let sent = match sent.await {
                Ok(sent) => sent
                    .map(drop)
                    .map_err(|undelivered| undelivered.to_string()),
                Err(_) => Err(format!("no answer in {} s", PATIENCE_EACH.as_secs())),
            };
            findings.push(match sent {
                Ok(()) => Finding::ok(name, format!("a message was sent to {}", admin.id)),
                Err(why) => Finding::problem(
                    name,
                    format!("{} cannot be written to: {why}", admin.id),
                    "have them open the chat with the bot and write to it once, or unblock it",
                ),
            });
        }
        Ok(findings)
    }

    /// How many escalations are in a bad way.
    pub async fn red(&self) -> Result<u32, Error> {
        herald::red(&*self.desk.store, &self.desk.tenant, &self.ladder).await
    }

    /// Those that nothing is wrong with, and those that something is.
    pub fn up(&self) -> Vec<(&'static str, bool)> {
        let health = self.health.iter().flat_map(Channels::all);
        health
            .map(|(name, fault)| (name, fault.is_none()))
            .collect()
    }

    fn seen(&self, name: &str) -> Seen {
        let Some(health) = &self.health else {
            return match self.idle {
                true => Seen::Idle,
                false => Seen::Unknown,
            };
        };
        match health
            .all()
            .into_iter()
            .find(|(channel, _)| *channel == name)
        {
            None => Seen::Unknown,
            Some((_, None)) => Seen::Well,
            Some((_, Some(why))) => Seen::Ill(why),
        }
    }

    fn is_open(&self, name: &str) -> bool {
        name == callback::CHANNEL || self.channels.iter().any(|channel| channel.name() == name)
    }

    fn closed(&self, name: &str) -> Closed {
        let open: Vec<&str> = self.channels.iter().map(|channel| channel.name()).collect();
        let open = match open.is_empty() {
            true => "no chat is configured".to_owned(),
            false => format!("open are {}", open.join(", ")),
        };
        Closed(name.to_owned(), open)
    }
}

/// A channel whose far side says nothing.
fn silent(channel: &str) -> Finding {
    let found = format!("no answer in {} s", PATIENCE.as_secs());
    Finding::problem(channel, found, "see that this machine reaches its api_url")
}

/// Why a channel was not tried.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// There is none of this name.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// What the channels are like, for the doctor.
pub fn findings(channels: &[ChannelView]) -> Vec<Finding> {
    let one = |channel: &ChannelView| {
        let dead = match channel.dead {
            0 => String::new(),
            dead => format!(", {dead} undelivered"),
        };
        let found = format!("{}; {} owed{dead}", channel.state.as_str(), channel.owed);
        match (&channel.fault, channel.dead) {
            (Some(fault), _) => Finding::problem(
                &channel.name,
                format!("{found}: {fault}"),
                format!("majordomo channels test {} says what to do", channel.name),
            ),
            (None, 0) => Finding::ok(&channel.name, found),
            (None, _) => Finding::warning(
                &channel.name,
                format!(
                    "{found}: {}",
                    channel.why.as_deref().unwrap_or("nobody knows why")
                ),
                format!("majordomo channels retry {} tries them again", channel.name),
            ),
        }
    };
    channels.iter().map(one).collect()
}
