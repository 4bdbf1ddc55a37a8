//! Work: a message becomes a task when its turn has come, with what belongs to it: its later edits, the
//! documents and pictures that came with it, the turns before it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use shared::config::{FollowUp, Role};
use shared::hash::Hash;
use shared::id::TaskId;
use shared::store::{Accepted, Mail};
use shared::task::Request;

use super::{AGAIN, Letter, Pending, Reception};
use crate::channels::command::Command;
use crate::channels::papers::enclose::{Enclosed, Enclosure, Unread, plain_name};
use crate::channels::papers::turns::Owner;
use crate::channels::{Attached, Says, Undelivered, Word};
use crate::follow::Follower;
use crate::intake::{Refused, Submission};
use crate::people::Known;
use crate::people::directory::Who;

/// The largest file that is fetched: what the Bot API gives out.
const FILE_BYTES: u64 = 20_000_000;
/// Characters of a question that its answer repeats, where nobody saw it.
const ABOUT: usize = 200;
/// The longest pause between two attempts to fetch a file.
const FETCH_PAUSE: Duration = Duration::from_secs(8);

impl Reception {
    /// Makes a task of a message, when its turn has come, as often as the store fails over it.
    pub(super) async fn take(&self, letter: &Letter, known: &Known) {
        while !self.over.is_cancelled() {
            match self.take_once(letter, known).await {
                Ok(()) | Err(Pending::Over) => return,
                Err(Pending::Halted(halt)) => self.wait_for_word(letter, &halt).await,
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
        if let Some(halt) = self.house.intake.halted() {
            return Err(Pending::Halted(halt));
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
        if !edits.is_empty() && Command::parse(&text).is_some() {
            let word = "An edit makes no command of a message: I left it alone. Send the command by itself.";
            self.say(letter, &letter.mail.key, word.into()).await?;
            return self.discard(letter, "Not begun.").await.map(drop);
        }
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
        let taken = match self.with_files(letter, &known, text).await? {
            Ok(enclosed) => self.submit(letter, &known, enclosed).await?,
            Err(why) => Err(why),
        };
        for edit in edits {
            self.done(&edit.mail, edit.mail.state).await?;
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

    /// Who a message's author is now, where they may still hand in work. They are told where they may not:
    /// they were told that it waits.
    async fn still_known(&self, letter: &Letter, known: &Known) -> Result<Option<Known>, Pending> {
        let Some(from) = &letter.says.from else {
            return Ok(Some(known.clone()));
        };
        match self.who(from).await? {
            Who::Known(known) if known.may(Role::Member) => return Ok(Some(known)),
            Who::Known(_) => self.say_no_work(letter).await?,
            Who::Stranger => self.let_go(letter, from).await?,
            Who::Unsure(_) => self.leave_open(letter, from).await?,
        }
        Ok(None)
    }

    /// The words with what came with them; or why that cannot be taken.
    async fn with_files(
        &self,
        letter: &Letter,
        known: &Known,
        text: String,
    ) -> Result<Result<Enclosed, String>, Pending> {
        let owner = Owner {
            tenant: self.tenant().clone(),
            principal: known.principal.clone(),
        };
        let mut enclosed = Enclosed::new(text);
        for file in &letter.says.files {
            let enclosure = match self.fetch(file).await? {
                Ok(enclosure) => enclosure,
                Err(why) => {
                    let name = plain_name(&file.name);
                    return Ok(Err(format!("I cannot take `{name}`: {why}.")));
                }
            };
            let added = enclosed.add((&self.house.readers, &owner), enclosure);
            if let Err(Unread { name, why }) = added.await {
                return Ok(Err(format!("I cannot read `{name}`: {why}")));
            }
        }
        Ok(Ok(enclosed))
    }

    /// A file with its bytes, as often as it takes.
    async fn fetch(&self, file: &Attached) -> Result<Result<Enclosure, String>, Pending> {
        let mut pause = AGAIN;
        loop {
            let fetched = self.channel.fetch(file, FILE_BYTES);
            let why = match self.over.run_until_cancelled(fetched).await {
                None => return Err(Pending::Over),
                Some(Ok(enclosure)) => return Ok(Ok(enclosure)),
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
        enclosed: Enclosed,
    ) -> Result<Result<TaskId, String>, Pending> {
        let channel = self.channel.name();
        let conversation = self.conversation(letter).await?;
        let word = Word {
            reply_to: letter.says.message.clone(),
            // Nobody saw a command: its answer says what it answers.
            about: letter.says.message.is_none().then(|| {
                let asked: String = enclosed.text.chars().take(ABOUT).collect();
                format!(
                    "{}: {}",
                    letter.says.from.as_ref().map_or("", |from| &from.name),
                    asked
                )
            }),
            ..Word::default()
        };
        let key = self.key(letter);
        let submission = Submission {
            dedupe: Some((key.clone(), Hash::of_bytes(enclosed.text.as_bytes()))),
            request: Request {
                text: enclosed.text,
                agent: letter.says.agent.clone().or(conversation.agent),
                channel: channel.into(),
                thread: Some(self.thread(letter)),
                metadata: Default::default(),
                budget: Default::default(),
                said: Default::default(),
                priority: 0,
                images: enclosed.images,
            },
            since: Some(conversation.since),
            principal: known.principal.clone(),
            submitted_by: known.principal.clone(),
            read: None,
            card: Some(word.owed(channel, key, &letter.mail.conversation)),
            blobs: enclosed.blobs,
        };
        match self.house.intake.submit(submission).await {
            Ok(Accepted::New(task) | Accepted::Known(task) | Accepted::Conflict(task)) => {
                Ok(Ok(task))
            }
            Err(Refused::Field { field, why }) => {
                Ok(Err(format!("I cannot take this ({field}): {why}.")))
            }
            Err(Refused::Halted(halt)) => Err(Pending::Halted(halt)),
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
                let word = format!(
                    "I begin with this when I have answered what came before. `{}` ends that.",
                    self.channel.command("stop")
                );
                let word = self.reply(letter, word);
                self.owe(letter, waits(&letter.mail), word).await?;
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
        self.instead(letter, &waits(&letter.mail), "I have begun with this.")
            .await?;
        Ok(true)
    }
}

/// By what is known what was said of a message that waits for its turn.
pub(super) fn waits(mail: &Mail) -> String {
    format!("word/queued/{}", mail.key)
}

/// Waits, unless it is over.
async fn continue_after(over: &CancellationToken, time: Duration) -> Result<(), Pending> {
    let rested = over.run_until_cancelled(tokio::time::sleep(time)).await;
    rested.ok_or(Pending::Over)
}
