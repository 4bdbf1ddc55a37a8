//! The reception: what becomes of each message that came in from a channel. Within a conversation
//! messages are dealt with in order; words to the house itself go before work that waits.
//!
//! ```text
//!   inbound ─► read ─┬─ code ─► linked, or a word
//!                    ├─ stranger ─► a word with their number
//!                    ├─ command, button ─► a word back
//!                    ├─ answer to what is asked ─► decided, and a word back
//!                    ├─ window ─► opened
//!                    ├─ stale ─► held, with a question
//!                    └─ work ─► (waits for the one before) ─► intake, with its card
//! ```
//! Every step may be repeated: tasks and words bear the message's own key. A message is marked as dealt
//! with last of all, so one that a process dies over is dealt with again, to the same end; only a window
//! is opened after that, since opening cannot be repeated.

mod house;
mod late;
mod linking;
mod press;
mod work;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use shared::budget::Date;
use shared::config::{ConversationSettings, Role};
use shared::id::TenantId;
use shared::store::{Conversation, Duty, Error, Halt, Mail, MailState, Store, TaskFilter};
use shared::task::{Task, TaskState};

use super::command::{Command, Linking};
use super::invite::typed;
use super::lanes::Lanes;
use super::{Channel, Incoming, Says, Sender, Word};
use crate::app::House;
use crate::people::Known;
use crate::people::directory::{Directory, Who};

/// Messages that are read at once.
const PAGE: u32 = 256;
/// Commits do not become visible in the order of their numbers: so many are looked at again.
const MARGIN: i64 = 256;
/// Looks for messages at least so often: a backstop, not the way they are found.
const SWEEP: Duration = Duration::from_secs(60);
/// Between two attempts at a store that fails.
const AGAIN: Duration = Duration::from_secs(1);
/// Open messages of a conversation that are looked through.
const OPEN: u32 = 1_024;
/// Tasks of a conversation that are looked through.
const RECENT: u32 = 50;

/// Who receives.
pub struct Reception {
    /// Store, intake and desk.
    pub house: House,
    /// Where messages come from.
    pub channel: Arc<dyn Channel>,
    /// Who is who.
    pub people: Arc<Directory>,
    /// How conversations go.
    pub settings: ConversationSettings,
    /// Under which messages are marked as dealt with.
    pub duty: Duty,
    /// The channels that somebody looks after.
    pub open: Arc<[&'static str]>,
    /// Ended when somebody else receives.
    pub over: CancellationToken,
}

/// The lanes of conversations.
struct Both {
    /// All messages, in the order in which they came.
    words: Lanes<Letter>,
    /// Those of them that are work, one after the other.
    works: Lanes<(Letter, Known)>,
    /// Messages that are in one of them.
    under_way: Mutex<HashSet<i64>>,
}

impl Both {
    /// Whether a message is in neither; from now on it is.
    fn take(&self, seq: i64) -> bool {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        under_way.insert(seq)
    }

    fn leave(&self, seq: i64) {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        under_way.remove(&seq);
    }
}

/// A message on its way, as it was read.
struct Letter {
    mail: Mail,
    says: Incoming,
}

/// Why a message is not dealt with now.
enum Pending {
    /// Somebody else does, or nobody does any more.
    Over,
    /// An operator has stopped everything.
    Halted(Halt),
    /// The store failed.
    Store(Error),
}

impl From<Error> for Pending {
    fn from(error: Error) -> Self {
        Pending::Store(error)
    }
}

impl Reception {
    /// Deals with messages until it is over. On return none is being dealt with.
    pub async fn work(self: Arc<Self>) {
        let tracker = TaskTracker::new();
        let lanes = Arc::new(Both {
            words: Lanes::new(tracker.clone()),
            works: Lanes::new(tracker.clone()),
            under_way: Mutex::default(),
        });
        let mut bell = self.store().bell().mail();
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = 0;
        while !self.over.is_cancelled() {
            bell.mark_unchanged();
            // Commits do not become visible in the order of their numbers.
            let mut after = (seen - MARGIN).max(0);
            loop {
                let mail = self.store().mail();
                let page = mail.unread(self.tenant(), self.channel.name(), after, PAGE);
                let page = match page.await {
                    Ok(page) => page,
                    Err(error) => {
                        tracing::warn!(%error, "cannot read a channel's messages, trying again");
                        let rest = tokio::time::sleep(AGAIN);
                        self.over.run_until_cancelled(rest).await;
                        bell.mark_changed();
                        break;
                    }
                };
                let full = page.len() == PAGE as usize;
                for mail in page {
                    after = mail.seq;
                    seen = seen.max(mail.seq);
                    self.begin(mail, &lanes);
                }
                if !full || self.over.is_cancelled() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            tokio::select! {
                // The bell is the store's, and lives as long.
                _ = bell.changed() => {}
                _ = sweep.tick() => seen = 0,
                () = self.over.cancelled() => {}
            }
        }
        tracker.close();
        tracker.wait().await;
    }

    /// All of a conversation goes through its lane of words, in order; what is work goes on from there
    /// to its lane of work, so that a word said before it is heard before it.
    fn begin(self: &Arc<Self>, mail: Mail, lanes: &Arc<Both>) {
        if !lanes.take(mail.seq) {
            return;
        }
        let says = self.channel.read(&mail);
        let letter = Letter { mail, says };
        let (reception, both) = (self.clone(), lanes.clone());
        let conversation = letter.mail.conversation.clone();
        lanes.words.push(&conversation, letter, move |letter| {
            let (reception, both) = (reception.clone(), both.clone());
            async move {
                match reception.see_to(&letter).await {
                    Some(known) => reception.begin_work(letter, known, &both),
                    None => both.leave(letter.mail.seq),
                }
            }
        });
    }

    fn begin_work(self: Arc<Self>, letter: Letter, known: Known, lanes: &Arc<Both>) {
        let (reception, both) = (self, lanes.clone());
        let conversation = letter.mail.conversation.clone();
        lanes
            .works
            .push(&conversation, (letter, known), move |(letter, known)| {
                let (reception, both) = (reception.clone(), both.clone());
                async move {
                    reception.take(&letter, &known).await;
                    both.leave(letter.mail.seq);
                }
            });
    }

    /// Deals with a message, as often as the store fails over it. Whose work it is, where it is work.
    async fn see_to(&self, letter: &Letter) -> Option<Known> {
        while !self.over.is_cancelled() {
            match self.deal_with(letter).await {
                Ok(work) => return work,
                Err(Pending::Over) => return None,
                Err(Pending::Halted(halt)) => self.wait_for_word(letter, &halt).await,
                Err(Pending::Store(error)) => self.wait_for_store(letter, &error).await,
            }
        }
        None
    }

    async fn wait_for_store(&self, letter: &Letter, error: &Error) {
        tracing::warn!(%error, mail.key = letter.mail.key, "a message waits for the store");
        self.over
            .run_until_cancelled(tokio::time::sleep(AGAIN))
            .await;
    }

    /// Tells whoever wrote that nothing is begun, once for each stop, and waits until it is lifted. The
    /// message stays as it came.
    async fn wait_for_word(&self, letter: &Letter, halt: &Halt) {
        let from = letter.says.from.as_ref().map_or("", |from| &from.id);
        let key = format!("halted/{}/{from}/{}", halt.at.0, letter.mail.conversation);
        let text =
            format!("I begin with this later: {halt}. It is kept, and begun when that is lifted.");
        let word = self.reply(letter, text);
        if let Err(Pending::Store(error)) = self.owe(letter, key.clone(), word).await {
            return self.wait_for_store(letter, &error).await;
        }
        let mut halting = self.store().bell().halting();
        let tenant = self.tenant();
        // The bell is the store's, and lives as long.
        let lifted = halting.wait_for(|known| known.covering(tenant, None).is_none());
        if self.over.run_until_cancelled(lifted).await.is_none() {
            return;
        }
        let text = "What was stopped goes on, and so does what you wrote.";
        if let Err(Pending::Store(error)) = self.instead(letter, &key, text).await {
            self.wait_for_store(letter, &error).await;
        }
    }

    async fn deal_with(&self, letter: &Letter) -> Result<Option<Known>, Pending> {
        // It may have been dealt with since the page was read on which it stood.
        let Some(state) = self.open(letter).await? else {
            return Ok(None);
        };
        let (says, key) = (&letter.says, &letter.mail.key);
        let from = says.from.as_ref().filter(|_| says.says != Says::Nothing);
        let Some(from) = from else {
            return self.done(&letter.mail, state).await.map(|_| None);
        };
        if let Says::Words(text) = &says.says
            && let Some(linking) = Linking::parse(text)
        {
            self.linking(letter, from, linking).await?;
            return self.done(&letter.mail, state).await.map(|_| None);
        }
        let Some(known) = self.recognise(letter, from).await? else {
            return self.done(&letter.mail, state).await.map(|_| None);
        };
        match &says.says {
            Says::Press { id, data, trigger } => {
                let press = press::Press {
                    id,
                    data,
                    trigger: trigger.as_deref(),
                };
                self.pressed(letter, (&known, from), &press).await?;
            }
            Says::Unreadable(why) => self.say(letter, key, why.clone()).await?,
            Says::Words(text) => match Command::parse(text) {
                Some(command) => self.command(letter, (&known, from), command).await?,
                None if let Some(asked) = self.answered(letter, &known).await? => {
                    self.answer(letter, &known, (&asked, text)).await?;
                }
                None if !known.may(Role::Member) => self.say_no_work(letter).await?,
                None if state == MailState::New && self.is_stale(letter) => {
                    return self.ask_first(letter).await.map(|()| None);
                }
                None => return Ok(Some(known)),
            },
            Says::Window(_) if !known.may(Role::Member) => self.say_no_work(letter).await?,
            Says::Window(trigger) => return self.open_window(letter, state, trigger).await,
            Says::Edit(_) if self.is_pending(letter).await? => return Ok(None),
            Says::Edit(_) => {
                let word = "I had begun with this message before you changed it. \
                            Send what is different as a new message.";
                self.say(letter, key, word.into()).await?;
            }
            Says::Nothing => {}
        }
        self.done(&letter.mail, state).await.map(|_| None)
    }

    async fn say_no_work(&self, letter: &Letter) -> Result<(), Pending> {
        let word = "Your roles do not let you hand in work here.";
        self.say(letter, &letter.mail.key, word.into()).await
    }

    /// Has something opened to write in, once: whoever asked for one that a process died over asks again.
    async fn open_window(
        &self,
        letter: &Letter,
        state: MailState,
        trigger: &str,
    ) -> Result<Option<Known>, Pending> {
        if self.done(&letter.mail, state).await? {
            let opened = self.channel.open(&letter.mail.conversation, trigger);
            self.over.run_until_cancelled(opened).await;
        }
        Ok(None)
    }

    /// The state of a message that is still to be dealt with.
    async fn open(&self, letter: &Letter) -> Result<Option<MailState>, Pending> {
        let state = self.find(&letter.mail.key).await?.map(|mail| mail.state);
        Ok(state.filter(|state| matches!(state, MailState::New | MailState::Wanted)))
    }

    /// Whether the message that an edit changes waits for its turn, or for a person's word.
    async fn is_pending(&self, edit: &Letter) -> Result<bool, Pending> {
        let open = self.open_in(edit).await?;
        let same = |letter: &Letter| {
            let says = &letter.says;
            matches!(says.says, Says::Words(_)) && says.message == edit.says.message
        };
        Ok(open.iter().any(same))
    }

    /// Who somebody is. Whoever is not known, or cannot be told now, gets a word.
    async fn recognise(&self, letter: &Letter, from: &Sender) -> Result<Option<Known>, Pending> {
        match self.who(from).await? {
            Who::Known(known) => return Ok(Some(known)),
            Who::Stranger => match &letter.says.says {
                Says::Press { data, .. } => self.let_go_of_held(letter, from, data).await?,
                // Only what somebody known wrote is wanted.
                _ if letter.mail.state == MailState::Wanted => self.let_go(letter, from).await?,
                _ => self.turn_away(letter, from).await?,
            },
            Who::Unsure(_) => self.leave_open(letter, from).await?,
        }
        Ok(None)
    }

    async fn who(&self, from: &Sender) -> Result<Who, Pending> {
        let who = self.people.who(&*self.channel, &from.id);
        let who = self.over.run_until_cancelled(who).await;
        Ok(who.ok_or(Pending::Over)??)
    }

    /// Tells somebody that it cannot be found out now whether they are known. Once in ten minutes.
    async fn leave_open(&self, letter: &Letter, from: &Sender) -> Result<(), Pending> {
        const EVERY_MS: i64 = 600_000;
        if matches!(letter.says.says, Says::Press { .. }) {
            return Ok(());
        }
        let text = format!(
            "I cannot find out just now whether you belong to a group that I work for, so I did nothing \
             with what you wrote. If you do, send it again in some minutes. If not: {}",
            self.how_to_be_known(from)
        );
        let key = format!("unsure/{}/{}", from.id, self.store().now().0 / EVERY_MS);
        self.owe(letter, key, self.reply(letter, text)).await
    }

    /// Tells a stranger who they are to us, and what would make us know them. Once a day.
    async fn turn_away(&self, letter: &Letter, from: &Sender) -> Result<(), Pending> {
        let (channel, id) = (self.channel.name(), &from.id);
        tracing::warn!(channel, sender.id = id, "a stranger was turned away");
        let text = format!(
            "I do not know you yet, so I do nothing with what you write. {}",
            self.how_to_be_known(from)
        );
        let key = self.once_a_day("stranger", from);
        self.owe(letter, key, Word::saying(text)).await
    }

    /// Tells somebody that nothing comes of what they wrote while they were known. Once a day, and
    /// whatever else they were told as a stranger.
    async fn let_go(&self, letter: &Letter, from: &Sender) -> Result<(), Pending> {
        let (channel, id) = (self.channel.name(), &from.id);
        tracing::warn!(
            channel,
            sender.id = id,
            "nothing comes of what a stranger wrote before they were one"
        );
        let text = format!(
            "I do not know you any more, so nothing comes of what you wrote while I did. {}",
            self.how_to_be_known(from)
        );
        let key = self.once_a_day("gone", from);
        self.owe(letter, key, self.reply(letter, text)).await
    }

    fn once_a_day(&self, what: &str, from: &Sender) -> String {
        let day = Date::of(self.store().now()).day;
        format!("{what}/{}/{day}", from.id)
    }

    fn how_to_be_known(&self, from: &Sender) -> String {
        let (channel, id) = (self.channel.name(), &from.id);
        let value = match channel {
            "telegram" => id.clone(),
            _ => format!("\"{id}\""),
        };
        let pair = typed(channel, "pair");
        format!(
            "Your number here is `{id}`. Whoever looks after me can give you a code by \
             `majordomo pair your-name`, which you write to me in private as `{pair} CODE`; or add you to \
             `majordomo.toml`:\n\n```toml\n[[people]]\nname = \"your-name\"\n{channel} = {value}\n```"
        )
    }

    /// What is open in the conversation: messages that wait, those that are held, and their edits.
    async fn open_in(&self, letter: &Letter) -> Result<Vec<Letter>, Pending> {
        let (mail, conversation) = (self.store().mail(), &letter.mail.conversation);
        let open = mail.open_in(self.tenant(), self.channel.name(), conversation, OPEN);
        let read = |mail: Mail| Letter {
            says: self.channel.read(&mail),
            mail,
        };
        Ok(open.await?.into_iter().map(read).collect())
    }

    /// Changes of a message that came after it and were not dealt with.
    async fn edits(&self, letter: &Letter) -> Result<Vec<Letter>, Pending> {
        let mut open = self.open_in(letter).await?;
        open.retain(|edit| {
            matches!(edit.says.says, Says::Edit(_)) && edit.says.message == letter.says.message
        });
        Ok(open)
    }

    /// Has nothing come of a message any more, nor of its edits; what was said of its waiting says why.
    /// False where it was so before.
    async fn discard(&self, letter: &Letter, why: &str) -> Result<bool, Pending> {
        let waits = match letter.mail.state {
            MailState::Held => late::question(&letter.mail),
            _ => work::waits(&letter.mail),
        };
        self.instead(letter, &waits, why).await?;
        for edit in self.edits(letter).await? {
            self.done(&edit.mail, edit.mail.state).await?;
        }
        self.done(&letter.mail, letter.mail.state).await
    }

    /// Tasks of the conversation that have not ended, the newest first.
    async fn unfinished(&self, letter: &Letter) -> Result<Vec<Task>, Pending> {
        let mut tasks = Vec::new();
        for state in TaskState::ALL.into_iter().filter(|state| !state.is_final()) {
            let filter = TaskFilter {
                thread: Some(self.thread(letter)),
                state: Some(state),
                limit: RECENT,
                ..TaskFilter::default()
            };
            tasks.extend(self.house.desk.tasks(&filter).await?);
        }
        tasks.sort_by_key(|task| std::cmp::Reverse(task.id));
        Ok(tasks)
    }

    fn thread(&self, letter: &Letter) -> String {
        format!("{}/{}", self.channel.name(), letter.mail.conversation)
    }

    async fn conversation(&self, letter: &Letter) -> Result<Conversation, Pending> {
        let (mail, id) = (self.store().mail(), &letter.mail.conversation);
        Ok(mail
            .conversation(self.tenant(), self.channel.name(), id)
            .await?)
    }

    async fn settle(&self, letter: &Letter, settled: Conversation) -> Result<(), Pending> {
        let (mail, id) = (self.store().mail(), &letter.mail.conversation);
        let place = (self.tenant(), self.channel.name());
        match mail
            .set_conversation(&self.duty, place, id, settled)
            .await?
        {
            true => Ok(()),
            false => Err(Pending::Over),
        }
    }

    /// Says something in reply to a message, once for this key.
    async fn say(&self, letter: &Letter, key: &str, text: String) -> Result<(), Pending> {
        let word = self.reply(letter, text);
        self.owe(letter, format!("word/{key}"), word).await
    }

    /// Has what was said under this key say something else, once. Nothing, where that was never said.
    async fn instead(&self, letter: &Letter, key: &str, text: &str) -> Result<(), Pending> {
        let (mail, channel) = (self.store().mail(), self.channel.name());
        if mail.said(self.tenant(), channel, key).await?.is_none() {
            return Ok(());
        }
        let word = Word {
            text: text.to_owned(),
            instead_of: Some(key.to_owned()),
            ..Word::default()
        };
        self.owe(letter, format!("instead/{key}"), word).await
    }

    fn reply(&self, letter: &Letter, text: String) -> Word {
        Word {
            text,
            reply_to: letter.says.message.clone(),
            ..Word::default()
        }
    }

    async fn owe(&self, letter: &Letter, key: String, word: Word) -> Result<(), Pending> {
        let out = word.owed(self.channel.name(), key, &letter.mail.conversation);
        self.store().mail().say(self.tenant(), out).await?;
        Ok(())
    }

    async fn find(&self, key: &str) -> Result<Option<Mail>, Pending> {
        let mail = self.store().mail();
        Ok(mail.find(self.tenant(), self.channel.name(), key).await?)
    }

    /// Marks a message as dealt with. False where it was so, or was stopped.
    async fn done(&self, mail: &Mail, from: MailState) -> Result<bool, Pending> {
        self.moved(mail, (from, MailState::Done)).await
    }

    async fn moved(&self, mail: &Mail, states: (MailState, MailState)) -> Result<bool, Pending> {
        let room = self.store().mail();
        let moved = room.settle(&self.duty, self.tenant(), mail.seq, states);
        moved.await?.ok_or(Pending::Over)
    }

    fn store(&self) -> &Arc<dyn Store> {
        &self.house.desk.store
    }

    fn tenant(&self) -> &TenantId {
        &self.house.desk.tenant
    }
}
