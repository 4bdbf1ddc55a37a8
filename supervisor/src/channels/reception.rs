//! The reception: what becomes of each message that came in from a channel. Within a conversation
//! messages are dealt with in order; words to the house itself go before work that waits.
//!
//! ```text
//!   inbound ─► read ─┬─ stranger ─► a word with their number
//!                    ├─ command, button ─► a word back
//!                    ├─ stale ─► held, with a question
//!                    └─ work ─► (waits for the one before) ─► intake, with its card
//! ```
//! Every step may be repeated: tasks and words bear the message's own key. A message is marked as dealt
//! with last of all, so one that a process dies over is dealt with again, to the same end.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use shared::config::{ConversationSettings, FollowUp, Role};
use shared::hash::Hash;
use shared::id::{AgentName, TaskId, TenantId};
use shared::run::Timestamp;
use shared::store::{Accepted, Conversation, Error, Mail, MailState, NewOut, Store, TaskFilter};
use shared::task::{Request, Task, TaskState, Turn};

use super::command::{Command, MENU};
use super::lanes::Lanes;
use super::papers::{Paper, Text};
use super::{Attached, Button, Channel, Incoming, Says, Sender, Undelivered, Word};
use crate::app::House;
use crate::follow::Follower;
use crate::intake::{MAX_TEXT, Refused, Submission};
use crate::people::{Known, People};

/// Messages that are read at once.
const PAGE: u32 = 256;
/// Commits do not become visible in the order of their numbers: so many are looked at again.
const MARGIN: i64 = 256;
/// Looks for messages at least so often: a backstop, not the way they are found.
const SWEEP: Duration = Duration::from_secs(60);
/// Between two attempts at a store that fails.
const AGAIN: Duration = Duration::from_secs(1);
/// Tasks of a conversation that are looked through.
const RECENT: u32 = 50;

/// The largest file that is fetched: what the Bot API gives out.
const FILE_BYTES: u64 = 20_000_000;
/// The longest pause between two attempts to fetch a file.
const FETCH_PAUSE: Duration = Duration::from_secs(8);

/// Adds a file's text to what a message says, as much of it as a task may hold.
fn append(text: &mut String, name: &str, read: &Text) {
    const LEFT_OUT: &str = "\n[the rest of the file is left out]";
    text.push_str(&format!("\n\n## File {name}\n\n"));
    let room = MAX_TEXT.saturating_sub(text.len() + LEFT_OUT.len());
    let fits = read.text.floor_char_boundary(room);
    text.push_str(&read.text[..fits]);
    if read.cut || fits < read.text.len() {
        text.push_str(LEFT_OUT);
    }
}

/// Waits, unless it is over.
async fn continue_after(over: &CancellationToken, time: Duration) -> Result<(), Pending> {
    let rested = over.run_until_cancelled(tokio::time::sleep(time)).await;
    rested.ok_or(Pending::Over)
}

/// Who receives.
pub struct Reception {
    /// Store, intake and desk.
    pub house: House,
    /// Where messages come from.
    pub channel: Arc<dyn Channel>,
    /// Who is who.
    pub people: Arc<People>,
    /// How conversations go.
    pub settings: ConversationSettings,
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
        let Some(known) = self.people.who(self.channel.name(), &from.id) else {
            self.turn_away(letter, from).await?;
            return self.done(&letter.mail, state).await.map(|_| None);
        };
        match &says.says {
            Says::Press { id, data } => self.pressed(letter, (known, from), id, data).await?,
            Says::Unreadable(why) => self.say(letter, key, why.clone()).await?,
            Says::Words(text) => match Command::parse(text) {
                Some(command) => self.command(letter, known, command).await?,
                None if !known.may(Role::Member) => {
                    let word = "Your roles do not let you hand in work here.";
                    self.say(letter, key, word.into()).await?;
                }
                None if state == MailState::New && self.is_stale(letter) => {
                    return self.ask_first(letter).await.map(|()| None);
                }
                None => return Ok(Some(known.clone())),
            },
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

    /// The state of a message that is still to be dealt with.
    async fn open(&self, letter: &Letter) -> Result<Option<MailState>, Pending> {
        let state = self.find(&letter.mail.key).await?.map(|mail| mail.state);
        Ok(state.filter(|state| matches!(state, MailState::New | MailState::Wanted)))
    }

    /// Whether the message that an edit changes waits for its turn, or for a person's word.
    async fn is_pending(&self, edit: &Letter) -> Result<bool, Pending> {
        let before = self.behind(edit, 0).await?;
        let same = |mail: &Mail| {
            let says = self.channel.read(mail);
            matches!(says.says, Says::Words(_)) && says.message == edit.says.message
        };
        Ok(before.iter().any(same))
    }

    /// Tells a stranger who they are to us, and what would make us know them. Once a day.
    async fn turn_away(&self, letter: &Letter, from: &Sender) -> Result<(), Pending> {
        let (channel, id) = (self.channel.name(), &from.id);
        tracing::warn!(channel, sender.id = id, "a stranger was turned away");
        if matches!(letter.says.says, Says::Press { .. }) {
            return Ok(());
        }
        let value = match channel {
            "telegram" => id.clone(),
            _ => format!("\"{id}\""),
        };
        let text = format!(
            "I do not know you yet, so I do nothing with what you write. Your number here is `{id}`. \
             Whoever looks after me can add you to `majordomo.toml`:\n\n```toml\n[[people]]\n\
             name = \"your-name\"\n{channel} = {value}\n```"
        );
        let day = self.store().now().0 / 86_400_000;
        let key = format!("stranger/{id}/{day}");
        self.owe(
            letter,
            key,
            Word {
                text,
                ..Word::default()
            },
        )
        .await
    }

    async fn command(
        &self,
        letter: &Letter,
        known: &Known,
        command: Command,
    ) -> Result<(), Pending> {
        let changes = matches!(command, Command::New | Command::Stop | Command::Agent(_));
        let text = match command {
            _ if changes && !known.may(Role::Member) => {
                "Your roles do not let you change anything here.".into()
            }
            Command::Help => self.help(known),
            Command::New => {
                let settled = Conversation {
                    since: self.store().now(),
                    ..self.conversation(letter).await?
                };
                self.settle(letter, settled).await?;
                "A new conversation begins: what was said before does not count any more.".into()
            }
            Command::Status => self.status(letter).await?,
            Command::Stop => self.stop(letter, known).await?,
            Command::Agents => {
                let line = |(name, what): &(AgentName, String)| format!("- **{name}**: {what}");
                let lines: Vec<String> = self.house.agents.iter().map(line).collect();
                let how = "`/agent NAME` has one of them answer here, `/agent` leaves it to me.";
                format!("{}\n\n{how}", lines.join("\n"))
            }
            Command::Agent(name) => self.choose(letter, name).await?,
            Command::Unknown(name) => {
                format!("There is no command `/{name}`. `/help` lists those that there are.")
            }
        };
        self.say(letter, &letter.mail.key, text).await
    }

    fn help(&self, known: &Known) -> String {
        let commands = MENU.iter().map(|(name, what)| format!("- /{name}: {what}"));
        let commands: Vec<String> = commands.collect();
        format!(
            "Hello {}. Write what you want to have done or to know, and I have it done: one of the \
             agents works on it, you see here how it goes, and the answer comes to this place.\n\n{}",
            known.principal,
            commands.join("\n")
        )
    }

    async fn status(&self, letter: &Letter) -> Result<String, Pending> {
        let unfinished = self.unfinished(letter).await?;
        if unfinished.is_empty() {
            return Ok("Nothing is going on here.".into());
        }
        let line = |task: &Task| {
            let asked: String = task.request.text.chars().take(80).collect();
            let state = task.state.as_str().replace('_', " ");
            format!(
                "- **{state}**: {asked}\n  `{}`, {} so far",
                task.id, task.usage.usd
            )
        };
        let lines: Vec<String> = unfinished.iter().map(line).collect();
        Ok(lines.join("\n"))
    }

    async fn stop(&self, letter: &Letter, known: &Known) -> Result<String, Pending> {
        // What waits for its turn first, or it would begin when its turn comes.
        let mut waiting = 0;
        for mail in self.behind(letter, 0).await? {
            let is_work = matches!(self.channel.read(&mail).says, Says::Words(text) if Command::parse(&text).is_none());
            if mail.seq < letter.mail.seq && is_work {
                waiting += i32::from(self.done(&mail, mail.state).await?);
            }
        }
        let mut stopped = 0;
        for task in self.unfinished(letter).await? {
            let reason = format!("{} stopped it in {}", known.principal, self.channel.name());
            stopped += i32::from(self.house.desk.cancel(task.id, &reason).await?);
        }
        Ok(match (stopped, waiting) {
            (0, 0) => "There is nothing to stop here.".into(),
            (tasks, 0) => format!("Stopped: {tasks}."),
            (tasks, waiting) => format!("Stopped: {tasks}; not begun any more: {waiting}."),
        })
    }

    async fn choose(&self, letter: &Letter, name: Option<String>) -> Result<String, Pending> {
        let agent = match &name {
            Some(name) => {
                let known = self
                    .house
                    .agents
                    .iter()
                    .find(|(agent, _)| agent.as_str() == name);
                let Some((agent, _)) = known else {
                    return Ok(format!("There is no agent `{name}`. `/agents` lists them."));
                };
                Some(agent.clone())
            }
            None => None,
        };
        let settled = Conversation {
            agent,
            ..self.conversation(letter).await?
        };
        self.settle(letter, settled).await?;
        Ok(match name {
            Some(name) => format!("From now on **{name}** answers here."),
            None => "From now on whoever fits answers here.".into(),
        })
    }

    /// Whether so much time has passed that nobody may want an answer any more.
    fn is_stale(&self, letter: &Letter) -> bool {
        let late = letter.mail.at.since(letter.says.at);
        late > Duration::from_secs(u64::from(self.settings.stale_after_min) * 60)
    }

    async fn ask_first(&self, letter: &Letter) -> Result<(), Pending> {
        let minutes = letter.mail.at.since(letter.says.at).as_secs() / 60;
        let button = |label: &str, what: &str| Button {
            label: label.into(),
            data: format!("{what}:{}", letter.mail.key),
        };
        let word = Word {
            text: format!(
                "I was away when you wrote this, {minutes} minutes ago. Shall I still do it?"
            ),
            reply_to: letter.says.message.clone(),
            buttons: vec![vec![button("Do it", "run"), button("Leave it", "drop")]],
        };
        self.owe(letter, format!("stale/{}", letter.mail.key), word)
            .await?;
        self.moved(&letter.mail, (MailState::New, MailState::Held))
            .await?;
        Ok(())
    }

    /// Decides about a message that was held: its author, or an admin, in its own conversation.
    async fn pressed(
        &self,
        letter: &Letter,
        (known, from): (&Known, &Sender),
        press: &str,
        data: &str,
    ) -> Result<(), Pending> {
        let (what, key) = data.split_once(':').unwrap_or_default();
        let held = self.find(key).await?.filter(|mail| {
            mail.state == MailState::Held && mail.conversation == letter.mail.conversation
        });
        let author = held.as_ref().and_then(|mail| self.channel.read(mail).from);
        let may = author.is_some_and(|author| author.id == from.id) || known.may(Role::Admin);
        let word = match (held, what) {
            (Some(_), _) if !may => "This is for its author to decide.",
            (Some(held), "run") => {
                self.moved(&held, (MailState::Held, MailState::Wanted))
                    .await?;
                "I am at it."
            }
            (Some(held), "drop") => {
                self.done(&held, MailState::Held).await?;
                "Left alone."
            }
            _ => "This was decided before.",
        };
        let told = self.channel.pressed(press, word);
        self.over.run_until_cancelled(told).await;
        Ok(())
    }

    /// Makes a task of a message, when its turn has come, as often as the store fails over it.
    async fn take(&self, letter: &Letter, known: &Known) {
        while !self.over.is_cancelled() {
            match self.take_once(letter, known).await {
                Ok(()) | Err(Pending::Over) => return,
                Err(Pending::Store(error)) => self.wait_for_store(letter, &error).await,
            }
        }
    }

    async fn take_once(&self, letter: &Letter, known: &Known) -> Result<(), Pending> {
        let Some(state) = self.open(letter).await? else {
            return Ok(());
        };
        let (room, key) = (self.store().mail(), self.key(letter));
        let carded = room.carded(self.tenant(), self.channel.name(), &key);
        if carded.await?.is_some() {
            // Taken before, by a process that died over it.
            return self.done(&letter.mail, state).await.map(drop);
        }
        if self.settings.follow_up == FollowUp::Queue && !self.has_turn(letter).await? {
            return Ok(());
        }
        let edits = self.edits(letter).await?;
        let text = match (edits.last().map(|edit| &edit.says.says), &letter.says.says) {
            (Some(Says::Edit(text)), _) | (_, Says::Words(text)) => text.clone(),
            _ => return self.done(&letter.mail, state).await.map(drop),
        };
        let amended = match self.settings.follow_up {
            FollowUp::Amend => self.unfinished(letter).await?,
            FollowUp::Queue | FollowUp::Beside => Vec::new(),
        };
        let earlier = amended.iter().rev().map(|task| task.request.text.as_str());
        let text = earlier
            .chain([text.as_str()])
            .collect::<Vec<_>>()
            .join("\n\n");
        let taken = match self.with_files(letter, text).await? {
            Ok(text) => self.submit(letter, known, text).await?,
            Err(why) => Err(why),
        };
        for edit in edits {
            self.done(&edit.mail, MailState::New).await?;
        }
        let task = match taken {
            Ok(task) => task,
            Err(why) => {
                self.say(letter, &letter.mail.key, why).await?;
                return self.done(&letter.mail, state).await.map(drop);
            }
        };
        for before in amended {
            let reason = "amended by what came after it";
            self.house.desk.cancel(before.id, reason).await?;
        }
        if !self.done(&letter.mail, state).await? {
            // Somebody stopped it in the moment in which it began.
            self.house.desk.cancel(task, "stopped").await?;
        }
        Ok(())
    }

    /// The words with what came with them, as text; or why that cannot be read.
    async fn with_files(
        &self,
        letter: &Letter,
        mut text: String,
    ) -> Result<Result<String, String>, Pending> {
        for file in &letter.says.files {
            let bytes = match self.fetch(file).await? {
                Ok(bytes) => bytes,
                Err(why) => return Ok(Err(format!("I cannot take `{}`: {why}.", file.name))),
            };
            let read = self
                .house
                .readers
                .read(&file.name, file.mime.as_deref(), &bytes);
            match read.await {
                Ok(Paper::Text(read)) => append(&mut text, &file.name, &read),
                Ok(Paper::Image { .. }) => {
                    return Ok(Err(format!("`{}` is a picture; I read words.", file.name)));
                }
                Err(refused) => {
                    return Ok(Err(format!("I cannot read `{}`: {refused}", file.name)));
                }
            }
        }
        Ok(Ok(text))
    }

    /// A file's bytes, as often as it takes.
    async fn fetch(&self, file: &Attached) -> Result<Result<Vec<u8>, String>, Pending> {
        let mut pause = AGAIN;
        loop {
            let fetched = self.channel.fetch(file, FILE_BYTES);
            let why = match self.over.run_until_cancelled(fetched).await {
                None => return Err(Pending::Over),
                Some(Ok(bytes)) => return Ok(Ok(bytes)),
                Some(Err(Undelivered::Never(why))) => return Ok(Err(why)),
                Some(Err(Undelivered::Missing)) => return Ok(Err("it is gone".into())),
                Some(Err(Undelivered::Busy(time))) => {
                    pause = time;
                    continue_after(&self.over, pause).await?;
                    continue;
                }
                Some(Err(Undelivered::Trouble(why))) => why,
            };
            tracing::warn!(
                channel = self.channel.name(),
                why,
                "a file cannot be fetched now"
            );
            if pause > FETCH_PAUSE {
                return Ok(Err("it could not be fetched; send it again".into()));
            }
            continue_after(&self.over, pause).await?;
            pause *= 2;
        }
    }

    /// Hands a message in. Answers the task, or why it was not taken.
    async fn submit(
        &self,
        letter: &Letter,
        known: &Known,
        text: String,
    ) -> Result<Result<TaskId, String>, Pending> {
        let channel = self.channel.name();
        let conversation = self.conversation(letter).await?;
        let turns = self.turns(letter, conversation.since).await?;
        let word = Word {
            reply_to: letter.says.message.clone(),
            ..Word::default()
        };
        let key = self.key(letter);
        let submission = Submission {
            dedupe: Some((key.clone(), Hash::of_bytes(text.as_bytes()))),
            request: Request {
                text,
                agent: conversation.agent,
                channel: channel.into(),
                thread: Some(self.thread(letter)),
                metadata: Default::default(),
                budget: Default::default(),
                turns,
                priority: 0,
            },
            principal: known.principal.clone(),
            submitted_by: known.principal.clone(),
            read: None,
            card: Some(NewOut {
                channel: channel.into(),
                key,
                conversation: letter.mail.conversation.clone(),
                body: serde_json::to_value(word).unwrap_or_default(),
            }),
        };
        match self.house.intake.submit(submission).await {
            Ok(Accepted::New(task) | Accepted::Known(task) | Accepted::Conflict(task)) => {
                Ok(Ok(task))
            }
            Err(Refused::Field { field, why }) => {
                Ok(Err(format!("I cannot take this ({field}): {why}.")))
            }
            Err(Refused::Store(error)) => Err(error.into()),
        }
    }

    /// By what a message's task and card are known.
    fn key(&self, letter: &Letter) -> String {
        format!("{}/{}", self.channel.name(), letter.mail.key)
    }

    /// Waits until nothing else is worked on in the conversation. False where it was stopped meanwhile.
    async fn has_turn(&self, letter: &Letter) -> Result<bool, Pending> {
        let mut told = false;
        while let Some(task) = self.unfinished(letter).await?.pop() {
            if !told {
                let key = format!("queued/{}", letter.mail.key);
                let word =
                    "I begin with this when I have answered what came before. `/stop` ends that.";
                self.say(letter, &key, word.into()).await?;
                told = true;
            }
            let end = Follower::end(self.store().clone(), self.tenant().clone(), task.id);
            match self.over.run_until_cancelled(end).await {
                Some(ended) => ended?,
                None => return Err(Pending::Over),
            }
            if self.open(letter).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Changes of a message that came after it and were not dealt with.
    async fn edits(&self, letter: &Letter) -> Result<Vec<Letter>, Pending> {
        let behind = self.behind(letter, letter.mail.seq).await?.into_iter();
        let letters = behind.map(|mail| Letter {
            says: self.channel.read(&mail),
            mail,
        });
        let same = |edit: &Letter| {
            matches!(edit.says.says, Says::Edit(_)) && edit.says.message == letter.says.message
        };
        Ok(letters.filter(same).collect())
    }

    /// New messages of the conversation after this number.
    async fn behind(&self, letter: &Letter, after: i64) -> Result<Vec<Mail>, Pending> {
        let mail = self.store().mail();
        let mut all = mail
            .unread(self.tenant(), self.channel.name(), after, PAGE * 4)
            .await?;
        all.retain(|mail| mail.conversation == letter.mail.conversation);
        Ok(all)
    }

    /// Tasks of the conversation that have not ended, the newest first.
    async fn unfinished(&self, letter: &Letter) -> Result<Vec<Task>, Pending> {
        let mut tasks = self.recent(letter).await?;
        tasks.retain(|task| !task.state.is_final());
        Ok(tasks)
    }

    /// The last turns of the conversation, in the order in which they were taken.
    async fn turns(&self, letter: &Letter, since: Timestamp) -> Result<Vec<Turn>, Pending> {
        let tasks = self.recent(letter).await?.into_iter();
        let done = tasks.filter(|task| task.state == TaskState::Done && task.created_at >= since);
        let turn = |task: Task| {
            Some(Turn {
                who: task.principal,
                asked: task.request.text,
                answered: task.answer?,
            })
        };
        let mut turns: Vec<Turn> = done
            .take(self.settings.turns as usize)
            .filter_map(turn)
            .collect();
        turns.reverse();
        Ok(turns)
    }

    async fn recent(&self, letter: &Letter) -> Result<Vec<Task>, Pending> {
        let filter = TaskFilter {
            thread: Some(self.thread(letter)),
            limit: RECENT,
            ..TaskFilter::default()
        };
        Ok(self.house.desk.tasks(&filter).await?)
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
        Ok(mail
            .set_conversation(self.tenant(), self.channel.name(), id, settled)
            .await?)
    }

    /// Says something in reply to a message, once for this key.
    async fn say(&self, letter: &Letter, key: &str, text: String) -> Result<(), Pending> {
        let word = Word {
            text,
            reply_to: letter.says.message.clone(),
            ..Word::default()
        };
        self.owe(letter, format!("word/{key}"), word).await
    }

    async fn owe(&self, letter: &Letter, key: String, word: Word) -> Result<(), Pending> {
        let out = NewOut {
            channel: self.channel.name().into(),
            key,
            conversation: letter.mail.conversation.clone(),
            body: serde_json::to_value(word).unwrap_or_default(),
        };
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
        Ok(room.settle(self.tenant(), mail.seq, states).await?)
    }

    fn store(&self) -> &Arc<dyn Store> {
        &self.house.desk.store
    }

    fn tenant(&self) -> &TenantId {
        &self.house.desk.tenant
    }
}
