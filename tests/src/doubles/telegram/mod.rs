//! A fake Telegram Bot API server.
//!
//! Written from the documentation and, where that is silent, from the source of the real server
//! (tdlib/telegram-bot-api and tdlib/td). What it leaves out: channels, inline mode, media other
//! than documents, payments, and the rights of single administrators.
//!
//! ```text
//! FakeTelegram (script, oracle) ──> server::Core { World } <── server (HTTP) <── client
//!                                        │
//!                world: people   methods: the bot   feed: polls, webhooks   queue: confirm
//!                chat: what is seen    entities, markup: formatting    limits: 429
//! ```

mod args;
pub mod chat;
pub mod commands;
pub mod entities;
pub mod feed;
pub mod limits;
pub mod markup;
mod methods;
pub mod queue;
mod server;
pub mod world;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;

pub use self::chat::{Access, Message, Person, Standing};
pub use self::entities::Entity;
pub use self::feed::Delivery;
pub use self::limits::RateLimits;
pub use self::world::{Action, Call, Press, Said, Say, Settings, Upload};

use self::args::Args;
use self::server::Core;
use self::world::{Storm, World};
use crate::doubles::fault::FailHow;
use crate::doubles::front::Front;

/// How long `until` goes without looking.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A running fake server. Clones are the same server; dropping the last one stops it.
#[derive(Clone, Debug)]
pub struct FakeTelegram {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    core: Arc<Core>,
    front: Front,
    deliverer: JoinHandle<()>,
    rival: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.deliverer.abort();
        let rival = self.rival.get_mut();
        if let Some(rival) = rival.unwrap_or_else(PoisonError::into_inner).take() {
            rival.abort();
        }
    }
}

impl FakeTelegram {
    /// Starts one with the default settings on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let started = Self::start_with(Settings::default(), 0).await;
        started.expect("loopback has free ports")
    }

    /// Starts one.
    pub async fn start_with(settings: Settings, port: u16) -> io::Result<Self> {
        let core = Arc::new(Core::new(World::new(settings)));
        let front = Front::open(server::router(Arc::clone(&core)), port).await?;
        let deliverer = tokio::spawn(server::deliver(Arc::clone(&core)));
        let inner = Inner {
            core,
            front,
            deliverer,
            rival: Mutex::new(None),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// What to set as `telegram.api_url`: no slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.inner.front.addr())
    }

    /// The bot's token.
    pub fn token(&self) -> String {
        self.look(|w| w.settings.token.clone())
    }

    /// The bot's username, without `@`.
    pub fn bot_username(&self) -> String {
        self.look(|w| w.settings.bot_username.clone())
    }

    // People.

    /// Somebody writes; chat and person are made when new. Panics when the bot is not told
    /// (privacy, `allowed_updates`, blocked): use [`Self::says`] where that can be.
    pub fn user_says(&self, chat: i64, user: i64, text: &str) -> i64 {
        let said = self.says(Say::new(chat, user, text));
        said.update_id.expect("the bot is told of this message")
    }

    /// Somebody writes, with all that can be said about it.
    pub fn says(&self, say: Say) -> Said {
        self.act(|w, now| w.says(say, now))
    }

    /// Somebody writes to the bot by name.
    pub fn mentions(&self, chat: i64, user: i64, text: &str) -> Said {
        let text = format!("@{} {text}", self.bot_username());
        self.says(Say::new(chat, user, text))
    }

    /// Somebody edits what they wrote. The update's id, if the bot is told.
    pub fn user_edits(&self, chat: i64, message: i64, text: &str) -> Option<i64> {
        self.act(|w, now| w.edits(chat, message, text, now))
    }

    /// Somebody deletes a message; the bot is not told. False when it was not there.
    pub fn user_deletes(&self, chat: i64, message: i64) -> bool {
        self.act(|w, now| w.deletes(chat, message, now))
    }

    /// Somebody presses a button that is there. Panics when it is not.
    pub fn press(&self, chat: i64, message: i64, user: i64, data: &str) -> Press {
        let there = self
            .chat(chat)
            .iter()
            .any(|m| m.id == message && m.has_button(data));
        assert!(
            there,
            "message {message} of chat {chat} has no button {data}"
        );
        self.press_anyway(chat, message, user, data)
    }

    /// Somebody presses a button that their client still shows, or forges a press.
    pub fn press_anyway(&self, chat: i64, message: i64, user: i64, data: &str) -> Press {
        self.act(|w, now| w.press(chat, message, user, data, now))
    }

    /// Sets name and username of somebody.
    pub fn set_person(&self, person: Person) {
        self.act(|w, _| w.people.insert(person.id, person));
    }

    /// Makes a group or supergroup, as its number says.
    pub fn add_group(&self, chat: i64, title: &str) {
        self.act(|w, _| w.open_chat(chat).title = title.to_owned());
    }

    /// Makes a supergroup with topics; answers their numbers.
    pub fn add_forum(&self, chat: i64, topics: &[&str], founder: i64) -> Vec<i64> {
        self.act(|w, now| w.add_forum(chat, topics, founder, now))
    }

    /// Closes or reopens a topic.
    pub fn close_topic(&self, chat: i64, topic: i64, closed: bool) {
        self.act(|w, _| {
            if let Some(topic) = w.open_chat(chat).topics.get_mut(&topic) {
                topic.closed = closed;
            }
        });
    }

    /// Deletes a topic: sending there finds no thread.
    pub fn delete_topic(&self, chat: i64, topic: i64) {
        self.act(|w, _| w.open_chat(chat).topics.remove(&topic));
    }

    /// Sets somebody's standing in a group; the bot's own number makes it administrator.
    pub fn set_standing(&self, chat: i64, user: i64, standing: Standing) {
        self.act(|w, now| w.set_standing(chat, user, standing, now));
    }

    /// The person blocks the bot.
    pub fn block(&self, chat: i64) {
        self.set_access(chat, Access::Blocked);
    }

    /// The bot is thrown out of the group.
    pub fn kick(&self, chat: i64) {
        self.set_access(chat, Access::Kicked);
    }

    /// Sets what the bot may do in a chat.
    pub fn set_access(&self, chat: i64, access: Access) {
        self.act(|w, now| w.set_access(chat, access, now));
    }

    /// The chat was never there.
    pub fn forget_chat(&self, chat: i64) {
        self.act(|w, _| w.chats.remove(&chat));
    }

    /// The group becomes a supergroup; answers its new number.
    pub fn migrate(&self, chat: i64) -> i64 {
        self.act(|w, now| w.migrate(chat, now))
    }

    /// The bytes of a file.
    pub fn file(&self, file_id: &str) -> Option<Vec<u8>> {
        self.look(|w| w.files.get(file_id).map(|file| file.bytes.clone()))
    }

    /// Links that `getFile` gave stop working.
    pub fn expire_files(&self) {
        self.act(|w, _| w.files.values_mut().for_each(|f| f.linked = false));
    }

    // The feed.

    /// Any update at all; answers its id.
    pub fn raw_update(&self, kind: &str, payload: Value) -> i64 {
        self.act(|w, now| w.raw(kind, payload, now))
    }

    /// Serves an update once more under its old id, though it was confirmed. False when unknown.
    pub fn redeliver(&self, update: i64) -> bool {
        self.act(|w, _| w.queue.redeliver(update))
    }

    /// From now on updates come in any order, within an answer and between webhook deliveries.
    pub fn shuffle(&self) {
        self.act(|w, _| w.shuffled = true);
    }

    /// Forgets all that waits, as after a day.
    pub fn drop_pending(&self) {
        self.act(|w, _| w.queue.clear());
    }

    /// The ids of updates that wait.
    pub fn pending(&self) -> Vec<i64> {
        self.look(|w| w.queue.waiting().map(|e| e.id).collect())
    }

    /// The next update has this id, as with another bot or after a week of silence.
    pub fn jump_update_ids(&self, to: i64) {
        self.act(|w, _| w.queue.jump(to));
    }

    /// Moves the server's clock ahead.
    pub fn advance(&self, by: Duration) {
        self.inner.core.clock.advance(by);
        self.inner.core.ring();
    }

    /// Another instance of the bot polls, until [`Self::no_second_poller`]. When it `steals`, it
    /// confirms what it gets, as a second instance does; otherwise it only ends our polls.
    pub fn second_poller(&self, steals: bool) {
        let rival = tokio::spawn(rival(Arc::clone(&self.inner.core), steals));
        self.replace_rival(Some(rival));
    }

    /// The other instance stops.
    pub fn no_second_poller(&self) {
        self.replace_rival(None);
    }

    fn replace_rival(&self, rival: Option<JoinHandle<()>>) {
        let mut slot = self.inner.rival.lock();
        let slot = slot.as_deref_mut();
        let old = slot.map_or(None, |slot| std::mem::replace(slot, rival));
        if let Some(old) = old {
            old.abort();
        }
    }

    // Trouble.

    /// The next `calls` calls that write to the chat get 429 with this `retry_after`, whatever it
    /// is.
    pub fn storm(&self, chat: i64, retry_after_s: i64, calls: usize) {
        let storm = Storm {
            retry_after: retry_after_s,
            left: calls.max(1),
        };
        self.act(|w, _| w.storms.entry(chat).or_default().push_back(storm));
    }

    /// No more storms.
    pub fn calm(&self) {
        self.act(|w, _| w.storms.clear());
    }

    /// Sets or lifts the rate limits.
    pub fn limit_rates(&self, limits: Option<RateLimits>) {
        self.act(|w, _| w.settings.limits = limits);
    }

    /// The next call of a method goes wrong; `*` is any method, `file` a download. Several wait in
    /// line.
    pub fn fail_next(&self, method: &str, how: FailHow) {
        self.act(|w, _| w.faults.push(method, how));
    }

    /// Faults that have not happened yet.
    pub fn faults_left(&self) -> usize {
        self.look(|w| w.faults.left())
    }

    /// The token becomes another one: calls with the old one get 401.
    pub fn change_token(&self, token: &str) {
        self.act(|w, _| w.settings.token = token.to_owned());
    }

    /// Privacy mode on or off.
    pub fn set_privacy(&self, on: bool) {
        self.act(|w, _| w.settings.privacy = on);
    }

    /// Connections are refused, and those there are closed. Done on return.
    pub async fn down(&self) {
        self.inner.front.down().await;
    }

    /// The server is back on the same port.
    pub async fn up(&self) {
        let up = self.inner.front.up().await;
        up.expect("the port is still ours");
    }

    // The oracle.

    /// The chat as a person sees it now: edits applied, deleted messages gone, oldest first.
    pub fn chat(&self, chat: i64) -> Vec<Message> {
        self.look(|w| w.seen(chat))
    }

    /// Every message there ever was, deleted ones too.
    pub fn ever(&self, chat: i64) -> Vec<Message> {
        self.look(|w| w.ever(chat))
    }

    /// What the bot wrote that is to be seen now.
    pub fn from_bot(&self, chat: i64) -> Vec<Message> {
        let mut messages = self.chat(chat);
        messages.retain(|m| m.by_bot);
        messages
    }

    /// How many messages the bot has ever sent to a chat, lost replies and deleted ones counted.
    pub fn sent(&self, chat: i64) -> usize {
        self.look(|w| w.chats.get(&chat).map_or(0, |c| c.sent))
    }

    /// Every call, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.look(|w| w.calls.iter().cloned().collect())
    }

    /// The calls of one method.
    pub fn calls_of(&self, method: &str) -> Vec<Call> {
        let mut calls = self.calls();
        calls.retain(|c| c.method == method.to_ascii_lowercase());
        calls
    }

    /// All presses and their answers.
    pub fn presses(&self) -> Vec<Press> {
        self.look(|w| w.presses.values().cloned().collect())
    }

    /// Chat actions, oldest first.
    pub fn actions(&self, chat: i64) -> Vec<Action> {
        let ours = |w: &World| {
            w.actions
                .iter()
                .filter(|a| a.chat == chat)
                .cloned()
                .collect()
        };
        self.look(ours)
    }

    /// Webhook deliveries, oldest first.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.look(|w| w.deliveries.clone())
    }

    /// The commands registered, by `scope:chat:user:language`.
    pub fn commands(&self) -> Vec<(String, Value)> {
        self.look(|w| w.commands.clone().into_iter().collect())
    }

    /// Waits until `check` holds, looking again at every change (and now and then, for what time
    /// alone changes); false when patience ends.
    pub async fn until(&self, patience: Duration, check: impl Fn(&Self) -> bool) -> bool {
        let mut changes = self.inner.core.changes();
        let watch = async {
            loop {
                changes.borrow_and_update();
                if check(self) {
                    return;
                }
                let _ = tokio::time::timeout(LOOK_AGAIN, changes.changed()).await;
            }
        };
        tokio::time::timeout(patience, watch).await.is_ok()
    }

    fn act<T>(&self, work: impl FnOnce(&mut World, i64) -> T) -> T {
        self.inner.core.act(work)
    }

    fn look<T>(&self, read: impl FnOnce(&World) -> T) -> T {
        self.inner.core.look(read)
    }
}

/// How long the other instance waits after it was ended itself.
const RIVAL_PAUSE: Duration = Duration::from_millis(200);

async fn rival(core: Arc<Core>, steals: bool) {
    let mut offset = 0;
    loop {
        let mut args = Args::default();
        args.fields.insert("timeout".to_owned(), "10".to_owned());
        if steals {
            args.fields.insert("offset".to_owned(), offset.to_string());
        }
        match server::run(&core, "getupdates", &args).await {
            Ok(Value::Array(updates)) => {
                let ids = updates.iter().filter_map(|u| u["update_id"].as_i64());
                offset = ids.map(|id| id + 1).fold(offset, i64::max);
                // Without confirming it would get the same ones at once.
                if !steals && !updates.is_empty() {
                    tokio::time::sleep(RIVAL_PAUSE).await;
                }
            }
            _ => tokio::time::sleep(RIVAL_PAUSE).await,
        }
    }
}
