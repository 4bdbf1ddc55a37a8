//! A fake Slack: Web API, Events API, interactivity, slash commands and Socket Mode.
//!
//! Written from the documentation and from what people report in issues. What it leaves out:
//! private channels, all but a few scopes, user tokens, workflows, canvases, Enterprise Grid.
//!
//! ```text
//! FakeSlack (script, oracle) ──> Core { World } <── server (HTTP), socket ── client
//!                                    │ feed: attempts, acks, retries ──> app's server or sockets
//!                  world: people   methods: the app   blocks, sign: what is checked
//! ```

pub mod blocks;
pub mod commands;
pub mod feed;
mod methods;
mod server;
pub mod sign;
mod socket;
pub mod world;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::feed::{Delivery, Parcel, State, Targets};
pub use self::sign::Signing;
pub use self::world::{
    APP, BOT, BOT_USER, Call, Ephemeral, FileKind, LongText, Message, Posted, RateLimits, Say,
    Settings, TEAM, View,
};

use self::server::{Core, Shared};
use self::socket::Order;
use self::world::World;
use crate::doubles::fault::FailHow;
use crate::doubles::front::Front;

/// How long `until` goes without looking.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A running fake Slack. Clones are the same server; dropping the last one stops it.
#[derive(Clone, Debug)]
pub struct FakeSlack {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Shared,
    front: Front,
    deliverer: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.deliverer.abort();
    }
}

impl FakeSlack {
    /// Starts one with the default settings on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let started = Self::start_with(Settings::default(), 0).await;
        started.expect("loopback has free ports")
    }

    /// Starts one.
    pub async fn start_with(settings: Settings, port: u16) -> io::Result<Self> {
        let shared = Shared {
            core: Arc::new(Core::new(World::new(settings))),
            sockets: Arc::default(),
            falls: Arc::new(watch::Sender::new(None)),
        };
        let front = Front::open(server::router(shared.clone()), port).await?;
        shared.falls.send_replace(Some(front.falls()));
        let base = format!("http://{}", front.addr());
        shared.core.act(|w, _| w.base = base);
        let core = Arc::clone(&shared.core);
        let deliverer = tokio::spawn(server::deliver(core, Arc::clone(&shared.sockets)));
        let inner = Inner {
            shared,
            front,
            deliverer,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// What to set as `slack.api_url`: ends in `/api`.
    pub fn url(&self) -> String {
        format!("http://{}/api", self.inner.front.addr())
    }

    /// What it was started with, and what was changed since.
    pub fn settings(&self) -> Settings {
        self.look(|w| w.settings.clone())
    }

    /// Changes settings.
    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        self.act(|w, _| change(&mut w.settings));
    }

    /// Everything goes to this one URL.
    pub fn set_target(&self, url: &str) {
        let url = Some(url.to_owned());
        self.set_targets(Targets {
            events: url.clone(),
            commands: url.clone(),
            interactions: url,
        });
    }

    /// Events, commands and interactions go to these URLs.
    pub fn set_targets(&self, targets: Targets) {
        self.configure(|s| s.targets = targets);
    }

    // People.

    /// Somebody joins the workspace.
    pub fn add_user(&self, id: &str, name: &str) {
        self.act(|w, _| w.add_user(id).name = name.to_owned());
    }

    /// Somebody leaves the workspace.
    pub fn deactivate_user(&self, id: &str) {
        self.act(|w, _| w.add_user(id).deleted = true);
    }

    /// Somebody is a guest.
    pub fn restrict_user(&self, id: &str) {
        self.act(|w, _| w.add_user(id).restricted = true);
    }

    /// Somebody comes from another workspace, by a shared channel.
    pub fn set_team(&self, id: &str, team: &str) {
        self.act(|w, _| w.add_user(id).team = Some(team.to_owned()));
    }

    /// A channel with the app and these people in it.
    pub fn add_channel(&self, id: &str, name: &str, members: &[&str]) {
        self.act(|w, _| w.add_channel(id, name, members));
    }

    /// A user group with these people.
    pub fn set_group(&self, id: &str, members: &[&str]) {
        let members = members.iter().map(|m| (*m).to_owned()).collect();
        self.act(|w, _| w.groups.insert(id.to_owned(), members));
    }

    /// Archives a channel, or brings it back.
    pub fn archive(&self, channel: &str, archived: bool) {
        self.act(|w, _| {
            if let Some(channel) = w.channels.get_mut(channel) {
                channel.archived = archived;
            }
        });
    }

    /// Somebody, or the app as [`BOT_USER`], leaves a channel or comes in.
    pub fn set_member(&self, channel: &str, user: &str, inside: bool) {
        self.act(|w, _| {
            if let Some(channel) = w.channels.get_mut(channel) {
                match inside {
                    true => channel.members.insert(user.to_owned()),
                    false => channel.members.remove(user),
                };
            }
        });
    }

    /// The channel was never there.
    pub fn forget_channel(&self, channel: &str) {
        self.act(|w, _| w.channels.remove(channel));
    }

    /// Somebody writes in a channel, not to the app.
    pub fn says(&self, channel: &str, user: &str, text: &str) -> Posted {
        self.say(say(channel, user, text, None))
    }

    /// Somebody mentions the app: an `app_mention` and, when subscribed, a `message`, two events
    /// with one `ts`.
    pub fn mention(&self, channel: &str, user: &str, text: &str) -> Posted {
        self.say(say(channel, user, &format!("<@{BOT_USER}> {text}"), None))
    }

    /// Somebody writes in a thread.
    pub fn thread_reply(&self, channel: &str, thread_ts: &str, user: &str, text: &str) -> Posted {
        self.say(say(channel, user, text, Some(thread_ts)))
    }

    /// Somebody writes to the app directly; its id is that of [`Self::im`].
    pub fn dm(&self, user: &str, text: &str) -> Posted {
        let channel = self.im(user);
        self.say(say(&channel, user, text, None))
    }

    /// The direct message channel of somebody with the app.
    pub fn im(&self, user: &str) -> String {
        self.act(|w, _| w.im(user))
    }

    /// Somebody writes, with all that can be said about it.
    pub fn say(&self, say: Say) -> Posted {
        self.act(|w, now| w.says(say, now))
    }

    /// The next file that a person sends is like this.
    pub fn next_file(&self, kind: FileKind) {
        self.act(|w, _| w.next_file = kind);
    }

    /// Name and bytes of a file.
    pub fn file(&self, id: &str) -> Option<(String, Vec<u8>)> {
        self.look(|w| {
            let file = w.files.get(id)?;
            Some((file.name.clone(), file.bytes.clone()?))
        })
    }

    /// Somebody edits what they wrote; the `message_changed` event's id, if the app is told.
    pub fn user_edits(&self, channel: &str, ts: &str, text: &str) -> Option<String> {
        self.act(|w, now| w.edits(channel, ts, text, now))
    }

    /// Somebody deletes a message; the app is not told. False when it was not there.
    pub fn user_deletes(&self, channel: &str, ts: &str) -> bool {
        self.act(|w, now| {
            let message = w.message_mut(channel, ts);
            message.map(|m| m.deleted_at_ms = Some(now)).is_some()
        })
    }

    /// Somebody gives a slash command; the parcel's number.
    pub fn slash(&self, channel: &str, user: &str, command: &str, text: &str) -> u64 {
        self.act(|w, now| w.slash(channel, user, command, text, now))
    }

    /// Somebody presses a button; the parcel's number. Panics when there is none.
    pub fn press(&self, channel: &str, ts: &str, user: &str, action_id: &str) -> u64 {
        let parcel = self.act(|w, now| w.press(channel, ts, user, action_id, now));
        parcel.expect("the message has this button")
    }

    /// Somebody submits a modal with values as (block, action, value); the parcel's number. Panics
    /// when it is not open.
    pub fn submit_modal(&self, view: &str, user: &str, values: &[(&str, &str, &str)]) -> u64 {
        let parcel = self.act(|w, now| w.submit(view, user, values, now));
        parcel.expect("the modal is open")
    }

    // The feed.

    /// Slack checks the URL for events; the parcel's number and the challenge.
    pub fn verify_url(&self) -> (u64, String) {
        self.act(|w, now| w.verify_url(now))
    }

    /// Any event at all; its id.
    pub fn raw_event(&self, event: Value) -> String {
        self.act(|w, now| w.tell(event, now))
    }

    /// An event once more, acknowledged or not, under its id. False when unknown.
    pub fn redeliver(&self, event_id: &str) -> bool {
        self.act(|w, now| w.redeliver(event_id, now))
    }

    /// The same event under another id; its id, if the event is known.
    pub fn again_under_new_id(&self, event_id: &str) -> Option<String> {
        self.act(|w, now| w.again_under_new_id(event_id, now))
    }

    /// The first attempts of the next `count` parcels are lost on the way.
    pub fn lose_first_attempts(&self, count: usize) {
        self.act(|w, _| w.feed.lose_first += count);
    }

    /// The next delivery over HTTP is signed like this; several wait in line.
    pub fn sign_next(&self, signing: Signing) {
        self.act(|w, _| w.signing.push_back(signing));
    }

    /// Moves the server's clock ahead: for triggers, `response_url`s and retries that wait.
    pub fn advance(&self, by: Duration) {
        self.inner.shared.core.clock.advance(by);
        self.inner.shared.core.ring();
    }

    // Sockets.

    /// How many connections Slack believes to be open.
    pub fn sockets(&self) -> usize {
        self.look(|w| w.feed.sockets.len())
    }

    /// All connections are told that they will end, and end some seconds later.
    pub fn disconnect(&self, reason: &str) {
        let order = || Order::Disconnect(reason.to_owned());
        self.inner.shared.sockets.order_all(order);
    }

    /// All connections are cut without a word.
    pub fn cut_sockets(&self) {
        self.inner.shared.sockets.order_all(|| Order::Cut);
    }

    /// All connections go silent and stay open; Slack sends into them for a while.
    pub fn kill_sockets_silently(&self) {
        self.inner.shared.sockets.order_all(|| Order::Die);
    }

    // Trouble.

    /// The next `calls` calls for a channel, or of a method, get 429 with this `Retry-After`.
    pub fn storm(&self, channel_or_method: &str, retry_after_s: i64, calls: usize) {
        let storm = (retry_after_s, calls.max(1));
        self.act(|w, _| {
            let storms = w.storms.entry(channel_or_method.to_owned());
            storms.or_default().push_back(storm);
        });
    }

    /// No more storms.
    pub fn calm(&self) {
        self.act(|w, _| w.storms.clear());
    }

    /// The next call of a method goes wrong; `*` is any method, `file` a download, `upload` an
    /// upload, `link` a connection, `response_url` an answer by one.
    pub fn fail_next(&self, method: &str, how: FailHow) {
        self.act(|w, _| w.faults.push(method, how));
    }

    /// Faults that have not happened yet.
    pub fn faults_left(&self) -> usize {
        self.look(|w| w.faults.left())
    }

    /// Connections are refused, and those there are closed, sockets too. Done on return. Events go
    /// on being delivered to an app that listens itself.
    pub async fn down(&self) {
        self.inner.front.down().await;
    }

    /// The server is back on the same port.
    pub async fn up(&self) {
        let up = self.inner.front.up().await;
        up.expect("the port is still ours");
    }

    // The oracle.

    /// A channel as people see it now, threads included: edits applied, deleted messages gone.
    pub fn channel(&self, channel: &str) -> Vec<Message> {
        self.look(|w| w.seen(channel))
    }

    /// A thread as people see it now, with its root.
    pub fn thread(&self, channel: &str, thread_ts: &str) -> Vec<Message> {
        let mut messages = self.channel(channel);
        messages.retain(|m| m.ts == thread_ts || m.thread_ts.as_deref() == Some(thread_ts));
        messages
    }

    /// What the app wrote in a channel that is to be seen now.
    pub fn from_bot(&self, channel: &str) -> Vec<Message> {
        let mut messages = self.channel(channel);
        messages.retain(|m| m.by_bot);
        messages
    }

    /// Every message the app ever posted in a channel: deleted ones, those whose reply was lost,
    /// and those nobody sees because they answer what is not there.
    pub fn ever(&self, channel: &str) -> Vec<Message> {
        self.look(|w| w.ever(channel))
    }

    /// How many messages the app has ever posted in a channel.
    pub fn sent(&self, channel: &str) -> usize {
        self.ever(channel).len()
    }

    /// Messages for one person's eyes, oldest first.
    pub fn ephemerals(&self) -> Vec<Ephemeral> {
        self.look(|w| w.ephemerals.clone())
    }

    /// Modals, with what their submission was answered.
    pub fn views(&self) -> Vec<View> {
        self.look(|w| w.views.values().cloned().collect())
    }

    /// Statuses set by `assistant.threads.setStatus`, oldest first.
    pub fn statuses(&self) -> Vec<Value> {
        self.look(|w| w.statuses.clone())
    }

    /// Everything handed over for the app, and how far it has come.
    pub fn parcels(&self) -> Vec<Parcel> {
        self.look(|w| w.feed.parcels.values().cloned().collect())
    }

    /// How far one of them has come. Panics when there is none with this number.
    pub fn parcel(&self, id: u64) -> Parcel {
        self.look(|w| w.feed.parcels[&id].clone())
    }

    /// Every attempt to deliver something, oldest first.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.look(|w| w.feed.deliveries.clone())
    }

    /// How long each acknowledged attempt took, in milliseconds, sorted.
    pub fn ack_latencies(&self) -> Vec<i64> {
        let deliveries = self.deliveries();
        let took = deliveries
            .iter()
            .filter_map(|d| Some(d.acked_ms? - d.at_ms));
        let mut took: Vec<i64> = took.collect();
        took.sort_unstable();
        took
    }

    /// Commands and interactions whose failure the person was shown.
    pub fn shown_errors(&self) -> Vec<u64> {
        self.look(|w| w.shown_errors.clone())
    }

    /// Every call, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.look(|w| w.calls.iter().cloned().collect())
    }

    /// The calls of one method.
    pub fn calls_of(&self, method: &str) -> Vec<Call> {
        let mut calls = self.calls();
        calls.retain(|c| c.method == method);
        calls
    }

    /// Waits until `check` holds, looking again at every change (and now and then, for what time
    /// alone changes); false when patience ends.
    pub async fn until(&self, patience: Duration, check: impl Fn(&Self) -> bool) -> bool {
        let mut changes = self.inner.shared.core.changes();
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
        self.inner.shared.core.act(work)
    }

    fn look<T>(&self, read: impl FnOnce(&World) -> T) -> T {
        self.inner.shared.core.look(read)
    }
}

fn say(channel: &str, user: &str, text: &str, thread_ts: Option<&str>) -> Say {
    Say {
        channel: channel.to_owned(),
        user: user.to_owned(),
        text: text.to_owned(),
        thread_ts: thread_ts.map(str::to_owned),
        file: None,
    }
}
