//! The courier: brings what a channel's far side is owed, each conversation at its own pace.
//!
//! ```text
//!   word   post ─► record: sent
//!   card   post a placeholder ─► record its id ─► change it as the task goes on
//!              └─ the task has ended ─► change it into the answer, page by page ─► record: sent
//! ```
//! To post is the one thing that cannot be repeated unseen, so it is done with a placeholder, and what
//! matters is a change of a message whose id is recorded: whoever dies in between leaves a placeholder
//! behind at worst, never a second answer. Every record is made under the channel's duty.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use shared::event::Live;
use shared::id::{TaskId, TenantId};
use shared::run::Timestamp;
use shared::store::{Duty, Error, NewOut, Out, OutState, Store};

use super::card::{self, Card, PLACEHOLDER};
use super::health::Channels;
use super::lanes::Lanes;
use super::pace::Pace;
use super::{Channel, Page, Undelivered, Word};
use crate::follow::Follower;
use crate::people::People;

/// Rows that are read at once: more than [`MARGIN`], so that a full page always brings something further.
const PAGE: u32 = 512;
/// Commits do not become visible in the order of their numbers: so many are looked at again.
const MARGIN: i64 = 256;
/// Looks for what is owed at least so often: a backstop, not the way it is found.
const SWEEP: Duration = Duration::from_secs(60);
/// A card is not changed more often.
const CHANGE_EVERY: Duration = Duration::from_secs(3);
/// What shows that somebody is at work fades after about so long.
const BUSY_FOR: Duration = Duration::from_secs(5);
/// The first pause after trouble; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest.
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Who brings it.
pub struct Courier {
    /// Where it is written down.
    pub store: Arc<dyn Store>,
    /// Whose it is.
    pub tenant: TenantId,
    /// Whom it is brought to.
    pub channel: Arc<dyn Channel>,
    /// Who hears of what cannot be brought.
    pub people: Arc<People>,
    /// Where it is told how the channel is.
    pub health: Channels,
    /// Under which it is recorded.
    pub duty: Duty,
    /// Ended when the duty is.
    pub over: CancellationToken,
    /// The conversations' turns.
    pub pace: Pace,
    /// All that is owed is to be looked at again.
    pub again: Notify,
}

/// What is said to the far side.
enum Call<'a> {
    /// A page, in reply to a message.
    Post(Option<&'a str>, &'a Page),
    /// A page, in place of a message.
    Change(&'a str, &'a Page),
}

/// Why a row is left alone.
enum Left {
    /// It will never get there.
    Dead(String),
    /// The duty is over.
    Over,
    /// The store does not take it down now.
    Later,
}

impl From<Error> for Left {
    fn from(error: Error) -> Self {
        tracing::warn!(%error, "what is owed to a channel cannot be recorded now");
        Left::Later
    }
}

impl Courier {
    /// Brings what is owed until the duty is over. On return nothing is under way any more.
    pub async fn work(self: Arc<Self>) {
        let tracker = TaskTracker::new();
        let words = Lanes::new(tracker.clone());
        let under_way = Arc::<Mutex<HashSet<i64>>>::default();
        let mut bell = self.store.bell().mail();
        let mut after = 0;
        while !self.over.is_cancelled() {
            bell.mark_unchanged();
            match self.owed(after).await {
                Ok(owed) => {
                    let full = owed.len() == PAGE as usize;
                    for out in owed {
                        after = after.max(out.seq);
                        self.begin(out, &words, &tracker, &under_way);
                    }
                    if full {
                        continue;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot read what is owed to a channel, trying again");
                    bell.mark_changed();
                    let _ = self
                        .over
                        .run_until_cancelled(tokio::time::sleep(FIRST_PAUSE))
                        .await;
                }
            }
            tokio::select! {
                // The bell is the store's, and lives as long.
                _ = bell.changed() => {}
                () = self.again.notified() => after = 0,
                () = tokio::time::sleep(SWEEP) => after = 0,
                () = self.over.cancelled() => {}
            }
        }
        tracker.close();
        tracker.wait().await;
    }

    async fn owed(&self, after: i64) -> Result<Vec<Out>, Error> {
        let after = (after - MARGIN).max(0);
        let mail = self.store.mail();
        mail.owed(&self.tenant, self.channel.name(), after, PAGE)
            .await
    }

    fn begin(
        self: &Arc<Self>,
        out: Out,
        words: &Lanes<Out>,
        tracker: &TaskTracker,
        under_way: &Arc<Mutex<HashSet<i64>>>,
    ) {
        let mut begun = under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if !begun.insert(out.seq) {
            return;
        }
        drop(begun);
        let (courier, under_way) = (self.clone(), under_way.clone());
        let bring = move |out: Out| {
            let (courier, under_way) = (courier.clone(), under_way.clone());
            async move {
                let seq = out.seq;
                courier.bring(out).await;
                let mut begun = under_way.lock().unwrap_or_else(PoisonError::into_inner);
                begun.remove(&seq);
            }
        };
        match out.task {
            Some(_) => drop(tracker.spawn(bring(out))),
            None => words.push(&out.conversation.clone(), out, bring),
        }
    }

    async fn bring(&self, out: Out) {
        let brought = match out.task {
            Some(task) => self.card(&out, task).await,
            None => self.word(&out).await,
        };
        let why = match brought {
            Ok(()) | Err(Left::Over) => return,
            Err(Left::Later) => {
                let rest = tokio::time::sleep(FIRST_PAUSE);
                self.over.run_until_cancelled(rest).await;
                return self.again.notify_one();
            }
            Err(Left::Dead(why)) => why,
        };
        tracing::error!(
            channel = self.channel.name(),
            why,
            "a message cannot be delivered"
        );
        let dead = OutState::Dead(why.clone());
        if self.record(&out, &out.far, dead).await.is_ok() {
            self.tell_admins(&out, &why).await;
        }
    }

    /// Says a word.
    async fn word(&self, out: &Out) -> Result<(), Left> {
        let word: Word = serde_json::from_value(out.body.clone()).unwrap_or_default();
        let mut pages = self.channel.pages(&word.text);
        if let Some(last) = pages.last_mut() {
            last.buttons = word.buttons;
        }
        let mut far = out.far.clone();
        for page in pages.iter().skip(far.len()) {
            far.push(self.post(out, word.reply_to.as_deref(), page).await?);
            self.record(out, &far, OutState::Owed(Timestamp(0))).await?;
        }
        self.record(out, &far, OutState::Sent).await
    }

    /// Shows a task until it has ended, and then its answer.
    async fn card(&self, out: &Out, task: TaskId) -> Result<(), Left> {
        let word: Word = serde_json::from_value(out.body.clone()).unwrap_or_default();
        let reply_to = word.reply_to.as_deref();
        let mut far = out.far.clone();
        self.slot(out, reply_to, &mut far, 0).await?;
        self.progress(out, task, reply_to, &far[0]).await?;
        let Some(task) = self.store.task(&self.tenant, task).await? else {
            return Err(Left::Dead("the task is not there any more".into()));
        };
        let Some(last) = card::last(&task) else {
            return Err(Left::Later);
        };
        for (place, page) in self.channel.pages(&last).iter().enumerate() {
            self.slot(out, reply_to, &mut far, place).await?;
            self.fill(out, reply_to, &mut far, place, page).await?;
        }
        self.record(out, &far, OutState::Sent).await
    }

    /// Makes sure that a message stands at this place of a card, and that its id is recorded.
    async fn slot(
        &self,
        out: &Out,
        reply_to: Option<&str>,
        far: &mut Vec<String>,
        place: usize,
    ) -> Result<(), Left> {
        if far.len() > place {
            return Ok(());
        }
        let placeholder = self.placeholder();
        far.push(self.post(out, reply_to, &placeholder).await?);
        self.record(out, far, OutState::Owed(Timestamp(0))).await
    }

    /// Makes the message at this place show a page. One that was deleted is posted anew.
    async fn fill(
        &self,
        out: &Out,
        reply_to: Option<&str>,
        far: &mut [String],
        place: usize,
        page: &Page,
    ) -> Result<(), Left> {
        loop {
            match self.change(out, &far[place], page).await? {
                true => return Ok(()),
                false => far[place] = self.post(out, reply_to, &self.placeholder()).await?,
            }
            self.record(out, far, OutState::Owed(Timestamp(0))).await?;
        }
    }

    fn placeholder(&self) -> Page {
        let mut pages = self.channel.pages(PLACEHOLDER);
        pages.swap_remove(0)
    }

    /// Follows a task to its end; its card shows what goes on.
    async fn progress(
        &self,
        out: &Out,
        task: TaskId,
        reply_to: Option<&str>,
        message: &str,
    ) -> Result<(), Left> {
        let mut follower = Follower::events(self.store.clone(), self.tenant.clone(), task, 0);
        let (mut card, mut shown) = (Card::default(), None);
        let mut tick = tokio::time::interval(CHANGE_EVERY);
        let mut busy = tokio::time::interval(BUSY_FOR);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first tick of both comes at once; a task that is over in a moment shows nothing else.
        tick.tick().await;
        loop {
            tokio::select! {
                biased;
                () = self.over.cancelled() => return Err(Left::Over),
                heard = follower.next() => match heard? {
                    Some(Live::Event(event)) => card.hear(&event),
                    Some(Live::Delta { .. }) => {}
                    None => return Ok(()),
                },
                _ = tick.tick(), if card.text() != shown => {
                    let text = card.text().unwrap_or_default();
                    if let Some(page) = self.channel.pages(&text).first() {
                        // One that is gone is posted anew when there is an answer.
                        self.change(out, message, page).await?;
                    }
                    shown = Some(text);
                }
                _ = busy.tick(), if card.works() => {
                    self.channel.busy(&out.conversation, reply_to).await;
                }
            }
        }
    }

    async fn post(&self, out: &Out, reply_to: Option<&str>, page: &Page) -> Result<String, Left> {
        let posted = self.speak(out, Call::Post(reply_to, page)).await?;
        posted.ok_or_else(|| Left::Dead("the message is gone".into()))
    }

    /// False where the message is not there any more.
    async fn change(&self, out: &Out, message: &str, page: &Page) -> Result<bool, Left> {
        Ok(self
            .speak(out, Call::Change(message, page))
            .await?
            .is_some())
    }

    /// One call. Answers the message's id; none where it is not there any more.
    async fn call(&self, out: &Out, call: &Call<'_>) -> Result<Option<String>, Undelivered> {
        let conversation = &out.conversation;
        match call {
            Call::Post(reply_to, page) => {
                let posted = self.channel.post(conversation, *reply_to, page);
                posted.await.map(Some)
            }
            Call::Change(message, page) => {
                match self.channel.change(conversation, message, page).await {
                    Ok(()) => Ok(Some((*message).to_owned())),
                    Err(Undelivered::Missing) => Ok(None),
                    Err(other) => Err(other),
                }
            }
        }
    }

    /// Makes a call, in its conversation's turn, as often as it takes.
    async fn speak(&self, out: &Out, call: Call<'_>) -> Result<Option<String>, Left> {
        let mut pause = FIRST_PAUSE;
        loop {
            let attempt = async {
                let mut lane = self.pace.turn(&out.conversation).await;
                let answer = self.call(out, &call).await;
                lane.spoke();
                if let Err(Undelivered::Busy(time)) = &answer {
                    tracing::debug!(
                        channel = self.channel.name(),
                        rest.s = time.as_secs(),
                        "asked for patience"
                    );
                    lane.rest(*time).await;
                }
                answer
            };
            let Some(answer) = self.over.run_until_cancelled(attempt).await else {
                return Err(Left::Over);
            };
            match answer {
                Ok(done) => {
                    self.health.well(self.channel.name());
                    return Ok(done);
                }
                Err(Undelivered::Busy(_)) => continue,
                Err(Undelivered::Never(why)) => return Err(Left::Dead(why)),
                Err(Undelivered::Missing) => return Ok(None),
                Err(Undelivered::Trouble(why)) => self.health.ill(self.channel.name(), &why),
            }
            let rest = tokio::time::sleep(pause);
            if self.over.run_until_cancelled(rest).await.is_none() {
                return Err(Left::Over);
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn record(&self, out: &Out, far: &[String], state: OutState) -> Result<(), Left> {
        let mail = self.store.mail();
        match mail.record(&self.duty, out.seq, (far, 0), state).await? {
            true => Ok(()),
            false => Err(Left::Over),
        }
    }

    /// Has admins hear of what could not be delivered, in their other channels.
    async fn tell_admins(&self, out: &Out, why: &str) {
        let here = self.channel.name();
        let what = match out.task {
            Some(task) => format!("The answer of task {task}"),
            None => "A message".into(),
        };
        let text = format!(
            "⚠️ {what} could not be delivered to {here}, conversation {}: {why}. \
             `majordomo channels retry {here}` tries again what could not be delivered.",
            out.conversation
        );
        for (channel, id) in self
            .people
            .admins()
            .iter()
            .filter(|(channel, _)| *channel != here)
        {
            let word = Word {
                text: text.clone(),
                ..Word::default()
            };
            let said = self.store.mail().say(
                &self.tenant,
                NewOut {
                    channel: (*channel).into(),
                    key: format!("dead/{here}/{}/{id}", out.seq),
                    conversation: id.clone(),
                    body: serde_json::to_value(word).unwrap_or_default(),
                },
            );
            if let Err(error) = said.await {
                tracing::error!(%error, "an admin could not be told of it");
            }
        }
    }
}
