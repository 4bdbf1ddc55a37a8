//! The courier: brings what a channel's far side is owed, each conversation at its own pace.
//!
//! ```text
//!   word   post ─► record: sent; or instead of an earlier one: change that ─► record: sent
//!   ask    as a card, page by page; again when it is decided
//!   card   post a placeholder ─► record its id ─► change it as the task goes on
//!              └─ the task has ended ─► change it into the answer, page by page
//!                    └─ then each file: place ─► record its id ─► attach ─► record: sent
//! ```
//! To post is the one thing that cannot be repeated unseen, so it is done with a placeholder, and what
//! matters is a change of a message whose id is recorded: whoever dies in between leaves a placeholder
//! behind at worst, never a second answer. Every record is made under the channel's duty.

mod dead;
mod files;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use shared::ask::{AskState, Asked};
use shared::event::Live;
use shared::feedback::{Feedback, Source};
use shared::id::{AskId, TaskId, TenantId};
use shared::run::Timestamp;
use shared::store::{Duty, Error, Out, OutState, Store};
use shared::task::{Task, TaskState};

use super::card::{Card, PLACEHOLDER};
use super::health::Channels;
use super::invite::invitation;
use super::lanes::Lanes;
use super::pace::{Pace, Turn};
use super::{Channel, Document, Page, Undelivered, Word};
use crate::asks;
use crate::engine::Engine;
use crate::feedback;
use crate::follow::Follower;
use crate::people::directory::Directory;
use files::Answer;

/// Rows that are read at once.
const PAGE: u32 = 256;
/// Asks of one cause that are counted.
const ALIKE: u32 = 10_000;
/// Commits do not become visible in the order of their numbers: so many are looked at again.
const MARGIN: i64 = 256;
/// Looks for what is owed at least so often: a backstop, not the way it is found.
const SWEEP: Duration = Duration::from_secs(60);
/// A card is not changed more often.
const CHANGE_EVERY: Duration = Duration::from_secs(3);
/// What shows that somebody is at work fades after about so long.
const BUSY_FOR: Duration = Duration::from_secs(5);
/// How long a call that is on its way is waited for when the duty is over.
const IN_FLIGHT: Duration = Duration::from_secs(5);
/// The first pause after trouble; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest.
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// So often a message that was deleted is posted anew.
const DELETED: u32 = 5;

/// Who brings it.
pub struct Courier {
    /// Where it is written down.
    pub store: Arc<dyn Store>,
    /// Whose it is.
    pub tenant: TenantId,
    /// Whom it is brought to.
    pub channel: Arc<dyn Channel>,
    /// Who hears of what cannot be brought.
    pub people: Arc<Directory>,
    /// Where it is told how the channel is.
    pub health: Channels,
    /// Under which it is recorded.
    pub duty: Duty,
    /// Ended when the duty is.
    pub over: CancellationToken,
    /// The rooms' turns.
    pub pace: Pace,
    /// Whose lease says whether anything may still be sent.
    pub engine: Arc<Engine>,
    /// The channels that somebody looks after.
    pub open: Arc<[&'static str]>,
    /// All that is owed is to be looked at again.
    pub again: Notify,
    /// Whether buttons below answers take what people think of them.
    pub feedback: bool,
}

/// The rows that are being brought, and whether one was found owed again meanwhile.
type UnderWay = Arc<Mutex<HashMap<i64, bool>>>;

/// What is said to the far side.
enum Call<'a> {
    /// A word, in reply to a message.
    Say(Option<&'a str>, &'a Page),
    /// A page, in reply to a message.
    Post(Option<&'a str>, &'a Page),
    /// A page, in place of a message.
    Change(&'a str, &'a Page),
    /// A place for a file, in reply to a message.
    Place(Option<&'a str>, &'a Document),
    /// A file, beside a message, in its place.
    Attach(&'a str, &'a str, &'a Document),
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

fn gone() -> Left {
    Left::Dead("the message is gone".into())
}

impl Courier {
    /// Brings what is owed until the duty is over. On return nothing is under way any more.
    pub async fn work(self: Arc<Self>) {
        let tracker = TaskTracker::new();
        let words = Lanes::new(tracker.clone());
        let under_way = UnderWay::default();
        let mut bell = self.store.bell().mail();
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = 0;
        while !self.over.is_cancelled() {
            bell.mark_unchanged();
            // Commits do not become visible in the order of their numbers.
            let mut after = (seen - MARGIN).max(0);
            loop {
                let mail = self.store.mail();
                let page = match mail
                    .owed(&self.tenant, self.channel.name(), after, PAGE)
                    .await
                {
                    Ok(page) => page,
                    Err(error) => {
                        tracing::warn!(%error, "cannot read what is owed to a channel, trying again");
                        let rest = tokio::time::sleep(FIRST_PAUSE);
                        self.over.run_until_cancelled(rest).await;
                        self.again.notify_one();
                        break;
                    }
                };
                let full = page.len() == PAGE as usize;
                for out in page {
                    after = out.seq;
                    seen = seen.max(out.seq);
                    self.begin(out, &words, &tracker, &under_way);
                }
                if !full || self.over.is_cancelled() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            tokio::select! {
                // The bell is the store's, and lives as long.
                _ = bell.changed() => {}
                () = self.again.notified() => seen = 0,
                _ = sweep.tick() => seen = 0,
                () = self.over.cancelled() => {}
            }
        }
        tracker.close();
        tracker.wait().await;
    }

    fn begin(
        self: &Arc<Self>,
        out: Out,
        words: &Lanes<Out>,
        tracker: &TaskTracker,
        under_way: &UnderWay,
    ) {
        let mut begun = under_way.lock().unwrap_or_else(PoisonError::into_inner);
        match begun.entry(out.seq) {
            // Whatever it is owed for now may have come too late for whoever brings it.
            Entry::Occupied(mut found_again) => {
                found_again.insert(true);
                return;
            }
            Entry::Vacant(free) => drop(free.insert(false)),
        }
        drop(begun);
        let (courier, under_way) = (self.clone(), under_way.clone());
        let bring = move |out: Out| {
            let (courier, under_way) = (courier.clone(), under_way.clone());
            async move {
                let later = courier.bring(out.seq).await;
                let found_again = under_way
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&out.seq);
                if later || found_again == Some(true) {
                    courier.again.notify_one();
                }
            }
        };
        match (out.task, out.ask) {
            (Some(_), _) | (_, Some(_)) => drop(tracker.spawn(bring(out))),
            (None, None) => words.push(&out.conversation.clone(), out, bring),
        }
    }

    /// Brings what this row holds. Whether it is to be looked at again soon.
    async fn bring(&self, seq: i64) -> bool {
        let brought = match self.still_owed(seq).await {
            // Brought since the page was read on which it stood.
            Ok(None) => return false,
            Ok(Some(out)) => {
                let brought = match (out.task, out.ask) {
                    (Some(task), _) => self.card(&out, task).await,
                    (None, Some(ask)) => self.ask(&out, ask).await,
                    (None, None) => self.word(&out).await,
                };
                match brought {
                    Err(Left::Dead(why)) => self.give_up(&out, &why).await,
                    brought => brought,
                }
            }
            Err(left) => Err(left),
        };
        let later = matches!(brought, Err(Left::Later | Left::Dead(_)));
        if later {
            let rest = tokio::time::sleep(FIRST_PAUSE);
            self.over.run_until_cancelled(rest).await;
        }
        later
    }

    async fn still_owed(&self, seq: i64) -> Result<Option<Out>, Left> {
        let mail = self.store.mail();
        let channel = self.channel.name();
        let found = mail.owed(&self.tenant, channel, seq - 1, 1).await?.pop();
        Ok(found.filter(|out| out.seq == seq))
    }

    /// Says a word.
    async fn word(&self, out: &Out) -> Result<(), Left> {
        let mut word: Word = serde_json::from_value(out.body.clone()).unwrap_or_default();
        if let Some(id) = &word.code_for
            && let Some(text) = invitation(&self.people, &*self.channel, id).await?
        {
            word.text = text;
        }
        let mut pages = self.channel.pages(&word.text);
        if let Some(last) = pages.last_mut() {
            last.buttons = word.buttons;
        }
        if let Some(earlier) = &word.instead_of {
            return self.say_instead(out, earlier, &pages).await;
        }
        let mut far = out.far.clone();
        for page in pages.iter().skip(far.len()) {
            let said = self.speak(out, Call::Say(word.reply_to.as_deref(), page));
            far.push(said.await?.ok_or_else(gone)?);
            self.record(out, &far, OutState::Owed(Timestamp(0))).await?;
        }
        self.record(out, &far, OutState::Sent).await
    }

    /// Has the messages of an earlier word say this. Nobody misses it where they are gone, or were never
    /// there.
    async fn say_instead(&self, out: &Out, earlier: &str, pages: &[Page]) -> Result<(), Left> {
        let (mail, channel) = (self.store.mail(), self.channel.name());
        let earlier = match mail.said(&self.tenant, channel, earlier).await? {
            // It is on its way still.
            Some((_, state)) if state == "owed" => return Err(Left::Later),
            Some((earlier, _)) => earlier.far,
            None => Vec::new(),
        };
        for (message, page) in earlier.iter().zip(pages) {
            match self.change(out, message, page).await {
                Ok(_) | Err(Left::Dead(_)) => {}
                Err(left) => return Err(left),
            }
        }
        self.record(out, &[], OutState::Sent).await
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
        let Some(Answer { mut pages, files }) = self.answer(&task, word.about.as_deref()).await?
        else {
            return Err(Left::Later);
        };
        let opinions = self.opinions(&task).await?;
        let (end, whole) = (pages.len() - 1, pages.len() + files.len());
        let mut with_buttons = pages[end].clone();
        if let Some(said) = &opinions {
            with_buttons.buttons = feedback::buttons(task.id, said);
            if files.is_empty() {
                pages[end] = with_buttons.clone();
            }
            // Buttons come last: where somebody pressed one, all of it stands.
            if !said.is_empty() && far.len() >= whole {
                self.change(out, &far[end], &with_buttons).await?;
                return self.sent_with(out, (&task, &far), said).await;
            }
        }
        let late_buttons = opinions.is_some() && !files.is_empty();
        for (place, page) in pages.iter().enumerate() {
            if shared::crash::posts_answers() {
                self.post(out, reply_to, page).await?;
                continue;
            }
            self.slot(out, reply_to, &mut far, place).await?;
            self.fill(out, reply_to, &mut far, place, page).await?;
        }
        for (place, file) in (pages.len()..).zip(files) {
            self.bring_file(out, reply_to, &mut far, (place, file))
                .await?;
        }
        if late_buttons {
            self.change(out, &far[end], &with_buttons).await?;
        }
        match opinions {
            Some(said) => self.sent_with(out, (&task, &far), &said).await,
            None => self.record(out, &far, OutState::Sent).await,
        }
    }

    /// What people said of a task's answer, where they are asked for it.
    async fn opinions(&self, task: &Task) -> Result<Option<Vec<Feedback>>, Left> {
        if !self.feedback || task.state != TaskState::Done {
            return Ok(None);
        }
        let mut said = self.store.feedback().of(&self.tenant, task.id).await?;
        said.retain(|one| one.source == Source::Said);
        Ok(Some(said))
    }

    /// Records that an answer stands with these opinions below it; it is owed again where others came
    /// meanwhile.
    async fn sent_with(
        &self,
        out: &Out,
        (task, far): (&Task, &[String]),
        said: &[Feedback],
    ) -> Result<(), Left> {
        self.record(out, far, OutState::Sent).await?;
        if self.opinions(task).await?.as_deref() != Some(said) {
            self.store.mail().reopen(&self.tenant, out.seq).await?;
        }
        Ok(())
    }

    /// Shows an ask, and what became of it. It is owed again when that changes.
    async fn ask(&self, out: &Out, id: AskId) -> Result<(), Left> {
        let asked = self.store.asks().get(&self.tenant, id).await?;
        let task = match &asked {
            Some(asked) => self.store.task(&self.tenant, asked.task).await?,
            None => None,
        };
        let (Some(asked), Some(task)) = (asked, task) else {
            // It went with its task's journal: what stands there is the last word.
            return self.record(out, &out.far, OutState::Sent).await;
        };
        let word: Word = serde_json::from_value(out.body.clone()).unwrap_or_default();
        let others = self.others(&asked).await?;
        let reply_to = word.reply_to.as_deref();
        let shown = match asks::card::show(&asked, &task, others) {
            shown if self.channel.has_windows() => shown,
            shown => shown.without_windows(),
        };
        let mut pages = self.channel.pages(&shown.text);
        if let Some(last) = pages.last_mut() {
            last.buttons = shown.buttons;
        }
        let mut far = out.far.clone();
        for (place, page) in pages.iter().enumerate() {
            self.slot(out, reply_to, &mut far, place).await?;
            self.fill(out, reply_to, &mut far, place, page).await?;
        }
        // Fewer pages than before: what stood on the others is over.
        let over = self.channel.pages("·").swap_remove(0);
        for left in far.iter().skip(pages.len()) {
            self.change(out, left, &over).await?;
        }
        let state = match asked.state {
            AskState::Open => OutState::Open,
            _ => OutState::Sent,
        };
        self.record(out, &far, state).await?;
        self.again_if_late(out, &asked, others).await
    }

    /// How many others wait for the same as an ask that stands for all.
    async fn others(&self, asked: &Asked) -> Result<usize, Left> {
        let Some(cause) = &asked.ask.cause else {
            return Ok(0);
        };
        let alike = self.store.asks().alike(&self.tenant, cause, ALIKE).await?;
        let stands = alike
            .iter()
            .any(|(one, climbs)| *climbs && one.id == asked.id);
        Ok(if stands { alike.len() - 1 } else { 0 })
    }

    /// Owes a card again whose ask changed while it was brought, and rings: it was owed already, so nobody
    /// else did. Whoever dies before this has recorded it so that closing the ask's cards does not miss it.
    async fn again_if_late(&self, out: &Out, shown: &Asked, others: usize) -> Result<(), Left> {
        let Some(now) = self.store.asks().get(&self.tenant, shown.id).await? else {
            return Ok(());
        };
        if now.state != shown.state || self.others(&now).await? != others {
            self.store.mail().reopen(&self.tenant, out.seq).await?;
        }
        Ok(())
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
        for _ in 0..DELETED {
            if self.change(out, &far[place], page).await? {
                return Ok(());
            }
            far[place] = self.post(out, reply_to, &self.placeholder()).await?;
            self.record(out, far, OutState::Owed(Timestamp(0))).await?;
        }
        Err(Left::Dead(
            "its messages are deleted again and again".into(),
        ))
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
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
                    let page = self.channel.pages(&text).swap_remove(0);
                    let shows = self.show(out, message, &page).await?;
                    if shows {
                        shown = Some(text);
                    }
                }
                _ = busy.tick(), if card.works() => {
                    self.channel.busy(&out.conversation, reply_to).await;
                }
            }
        }
    }

    async fn post(&self, out: &Out, reply_to: Option<&str>, page: &Page) -> Result<String, Left> {
        let posted = self.speak(out, Call::Post(reply_to, page)).await?;
        posted.ok_or_else(gone)
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
        shared::crash_point!("send.before");
        let conversation = &out.conversation;
        let answer = match call {
            Call::Say(reply_to, page) => {
                let said = self.channel.say(conversation, *reply_to, page);
                said.await.map(Some)
            }
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
            Call::Place(reply_to, file) => {
                let placed = self.channel.place(conversation, *reply_to, file);
                placed.await.map(Some)
            }
            Call::Attach(beside, place, file) => {
                let attached = self.channel.attach(conversation, beside, (place, file));
                match attached.await {
                    Ok(()) => Ok(Some((*place).to_owned())),
                    Err(Undelivered::Missing) => Ok(None),
                    Err(other) => Err(other),
                }
            }
        };
        shared::crash_point!("send.after");
        answer
    }

    /// Makes a call, in its room's turn, as often as it takes.
    async fn speak(&self, out: &Out, call: Call<'_>) -> Result<Option<String>, Left> {
        let mut pause = FIRST_PAUSE;
        loop {
            let attempt = async {
                let turn = self.pace.turn(self.channel.room(&out.conversation)).await;
                self.attempt(turn, out, &call).await
            };
            let attempted = self.over.run_until_cancelled(attempt).await;
            match attempted.ok_or(Left::Over)?? {
                Ok(done) => return Ok(done),
                Err(Undelivered::Busy(_)) => continue,
                Err(Undelivered::Never(why)) => return Err(Left::Dead(why)),
                Err(Undelivered::Missing) => return Ok(None),
                Err(Undelivered::Trouble(_)) => {}
            }
            let rest = tokio::time::sleep(pause);
            if self.over.run_until_cancelled(rest).await.is_none() {
                return Err(Left::Over);
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Shows how it goes, where nothing else is to be said in the room. Whether it is shown: nobody minds
    /// where it is not.
    async fn show(&self, out: &Out, message: &str, page: &Page) -> Result<bool, Left> {
        let Some(turn) = self.pace.free(self.channel.room(&out.conversation)) else {
            return Ok(false);
        };
        let call = Call::Change(message, page);
        let attempt = self.attempt(turn, out, &call);
        tokio::pin!(attempt);
        let attempted = match self.over.run_until_cancelled(&mut attempt).await {
            Some(attempted) => attempted,
            // It is on its way: what it does is to be done before it is mended.
            None => tokio::time::timeout(IN_FLIGHT, attempt)
                .await
                .unwrap_or(Err(Left::Over)),
        };
        if self.over.is_cancelled() || !self.engine.is_live() {
            // Another process may have shown the answer meanwhile, and this stands in its place.
            self.store.mail().reopen(&self.tenant, out.seq).await?;
            return Err(Left::Over);
        }
        // One that is gone is posted anew when there is an answer.
        Ok(attempted?.is_ok())
    }

    /// Makes a call once. Nothing, where this process may not speak any more.
    async fn attempt(
        &self,
        mut turn: Turn,
        out: &Out,
        call: &Call<'_>,
    ) -> Result<Result<Option<String>, Undelivered>, Left> {
        // A process that was stopped for a while learns here that it is late.
        if !self.engine.is_live() {
            return Err(Left::Over);
        }
        let (answer, channel) = (self.call(out, call).await, self.channel.name());
        turn.spoke();
        match &answer {
            Ok(_) => self.health.well(channel),
            Err(Undelivered::Busy(time)) => {
                tracing::debug!(channel, rest.s = time.as_secs(), "asked for patience");
                turn.rest(*time);
            }
            Err(Undelivered::Trouble(why)) => self.health.ill(channel, why),
            Err(_) => {}
        }
        Ok(answer)
    }

    /// Records what was sent, as often as it takes: to forget it would be to send it again.
    async fn record(&self, out: &Out, far: &[String], state: OutState) -> Result<(), Left> {
        let mut pause = FIRST_PAUSE;
        loop {
            let mail = self.store.mail();
            match mail
                .record(&self.duty, out.seq, (far, 0), state.clone())
                .await
            {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(Left::Over),
                Err(error) => tracing::warn!(%error, "what was sent waits to be recorded"),
            }
            let rest = tokio::time::sleep(pause);
            if self.over.run_until_cancelled(rest).await.is_none() {
                return Err(Left::Over);
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}
