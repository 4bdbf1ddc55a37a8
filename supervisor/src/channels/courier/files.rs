//! What ends a card: the pages of its answer, and the files that its task wrote. An answer that would fill
//! the conversation is sent as its beginning, and whole as a file.
//!
//! A file is brought as pages are: something is put where it will stand, its id is recorded, and that is
//! made the file. A file that the far side will not take is told of in words, once, and holds up nothing.

use shared::store::{Out, OutState};
use shared::task::{Task, TaskState};

use super::super::card;
use super::super::papers::enclose::plain_name;
use super::super::text::in_one_line;
use super::{Call, Courier, Document, Left, Page, Word};
use crate::files::{self, TaskFile};
use shared::run::Timestamp;

/// The most files that are brought; the others are told of.
const MAX_FILES: usize = 10;
/// The most pages of an answer; the last of these says where the rest is.
const MAX_PAGES: usize = 20;
/// How often a file that is not there any more is brought anew.
const PLACES: u32 = 3;
/// What a longer answer is called as a file.
const WHOLE: &str = "answer.md";
/// What stands for a file that could not be brought.
const NOT_BROUGHT: &str = "";

/// What a card ends with.
pub(super) struct Answer {
    /// The answer's pages.
    pub(super) pages: Vec<Page>,
    /// The files below it.
    pub(super) files: Vec<Owed>,
}

/// A file that is owed.
pub(super) enum Owed {
    /// The answer itself.
    Whole(String),
    /// One that the task wrote.
    Written(TaskFile),
}

impl Owed {
    /// What it is called in a chat, whatever an agent called it.
    fn name(&self) -> String {
        match self {
            Owed::Whole(_) => WHOLE.into(),
            Owed::Written(file) => plain_name(file.short_name()),
        }
    }
}

impl Courier {
    /// What the card of a task ends with, and what it answers where nobody saw that; none while the task
    /// goes on. The same each time.
    pub(super) async fn answer(
        &self,
        task: &Task,
        about: Option<&str>,
    ) -> Result<Option<Answer>, Left> {
        let Some(mut last) = card::last(task) else {
            return Ok(None);
        };
        if let Some(about) = about {
            last = format!("> {}\n\n{last}", in_one_line(about));
        }
        let mut written = match task.state {
            // Whoever stopped it does not wait for what it made on the way.
            TaskState::Cancelled => Vec::new(),
            _ => files::of(&self.store.journal(&self.tenant, task.id).await?),
        };
        if written.len() > MAX_FILES {
            let more = written.len() - MAX_FILES;
            let id = task.id;
            last.push_str(&format!(
                "\n\n{more} more files: `majordomo tasks files {id}`"
            ));
            written.truncate(MAX_FILES);
        }
        let mut files: Vec<Owed> = written.into_iter().map(Owed::Written).collect();
        let mut pages = self.channel.pages(&last);
        if pages.len() > MAX_PAGES {
            pages.truncate(MAX_PAGES - 1);
            let word = format!("✂️ This goes on. The whole answer is in `{WHOLE}` below.");
            pages.extend(self.channel.pages(&word));
            files.insert(0, Owed::Whole(last));
        }
        Ok(Some(Answer { pages, files }))
    }

    /// Brings a file to its place among what stands for a card.
    pub(super) async fn bring_file(
        &self,
        out: &Out,
        reply_to: Option<&str>,
        far: &mut Vec<String>,
        (place, owed): (usize, Owed),
    ) -> Result<(), Left> {
        if far.get(place).is_some_and(|id| id == NOT_BROUGHT) {
            return Ok(());
        }
        let brought = match self.document(&owed).await? {
            Some(file) => self.stand(out, reply_to, far, (place, &file)).await,
            None => Err(Left::Dead("it is not kept any more".into())),
        };
        let why = match brought {
            Err(Left::Dead(why)) => why,
            brought => return brought,
        };
        tracing::warn!(
            channel = self.channel.name(),
            why,
            "a file cannot be brought"
        );
        self.tell_of(out, reply_to, (place, &owed.name(), &why))
            .await?;
        far.truncate(place);
        far.push(NOT_BROUGHT.into());
        self.record(out, far, OutState::Owed(Timestamp(0))).await
    }

    /// Has a file stand at its place. A place that is gone is made anew, a few times.
    async fn stand(
        &self,
        out: &Out,
        reply_to: Option<&str>,
        far: &mut Vec<String>,
        (place, file): (usize, &Document),
    ) -> Result<(), Left> {
        for _ in 0..PLACES {
            if far.len() <= place {
                let placed = self.speak(out, Call::Place(reply_to, file)).await?;
                far.push(placed.ok_or_else(|| Left::Dead("its place is gone".into()))?);
                self.record(out, far, OutState::Owed(Timestamp(0))).await?;
            }
            let attach = Call::Attach(&far[0], &far[place], file);
            if self.speak(out, attach).await?.is_some() {
                return Ok(());
            }
            far.truncate(place);
        }
        Err(Left::Dead("its place was gone each time".into()))
    }

    /// A file with its bytes; none where they are not kept any more.
    async fn document(&self, owed: &Owed) -> Result<Option<Document>, Left> {
        let name = owed.name();
        Ok(match owed {
            Owed::Whole(answer) => Some(Document {
                name,
                mime: "text/markdown".into(),
                bytes: answer.as_bytes().into(),
            }),
            Owed::Written(file) => {
                let kept = self.store.blob(&self.tenant, file.hash).await?;
                kept.map(|blob| Document {
                    name,
                    mime: blob.mime,
                    bytes: blob.bytes,
                })
            }
        })
    }

    /// Says that a file could not be brought, and where it is. Once for each.
    async fn tell_of(
        &self,
        out: &Out,
        reply_to: Option<&str>,
        (place, name, why): (usize, &str, &str),
    ) -> Result<(), Left> {
        let Some(task) = out.task else { return Ok(()) };
        let word = Word {
            text: format!(
                "`{name}` could not be brought here: {why}. `majordomo tasks files {task} --out .` \
                 fetches it."
            ),
            reply_to: reply_to.map(str::to_owned),
            ..Word::default()
        };
        let key = format!("file/{}/{place}", out.seq);
        let new = word.owed(self.channel.name(), key, &out.conversation);
        self.store.mail().say(&self.tenant, new).await?;
        Ok(())
    }
}
