//! Work: a message becomes a task when its turn has come, with what belongs to it: its later edits, the
//! documents that came with it, the turns before it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use shared::config::{FollowUp, Role};
use shared::hash::Hash;
use shared::id::TaskId;
use shared::run::Timestamp;
use shared::store::{Accepted, MailState, NewOut};
use shared::task::{Request, Task, TaskState, Turn};

use super::{AGAIN, Letter, Pending, Reception};
use crate::channels::papers::{Paper, Text};
use crate::channels::{Attached, Says, Undelivered, Word};
use crate::follow::Follower;
use crate::intake::{MAX_TEXT, Refused, Submission};
use crate::people::Known;

/// The largest file that is fetched: what the Bot API gives out.
const FILE_BYTES: u64 = 20_000_000;
/// The longest pause between two attempts to fetch a file.
const FETCH_PAUSE: Duration = Duration::from_secs(8);

impl Reception {
    /// Makes a task of a message, when its turn has come, as often as the store fails over it.
    pub(super) async fn take(&self, letter: &Letter, known: &Known) {
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
        // It may have waited long: whoever was unlinked meanwhile, or left, has nothing done any more.
        let Some(known) = self.still_known(letter, known).await? else {
            return self.done(&letter.mail, state).await.map(drop);
        };
        let edits = self.edits(letter).await?;
        let text = match (edits.last().map(|edit| &edit.says.says), &letter.says.says) {
            (Some(Says::Edit(text)), _) | (_, Says::Words(text)) => text.clone(),
            _ => return self.done(&letter.mail, state).await.map(drop),
        };
        let amended = match self.settings.follow_up {
            FollowUp::Amend => {
                let mut theirs = self.unfinished(letter).await?;
                // What others asked for is theirs to change.
                theirs.retain(|task| task.principal == known.principal);
                theirs
            }
            FollowUp::Queue | FollowUp::Beside => Vec::new(),
        };
        let earlier = amended.iter().rev().map(|task| task.request.text.as_str());
        let text = earlier
            .chain([text.as_str()])
            .collect::<Vec<_>>()
            .join("\n\n");
        let taken = match self.with_files(letter, text).await? {
            Ok(text) => self.submit(letter, &known, text).await?,
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

    /// Who a message's author is now, where they may still hand in work.
    async fn still_known(&self, letter: &Letter, known: &Known) -> Result<Option<Known>, Pending> {
        let Some(from) = &letter.says.from else {
            return Ok(Some(known.clone()));
        };
        let known = self.recognise(letter, from).await?;
        Ok(known.filter(|known| known.may(Role::Member)))
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
}

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
