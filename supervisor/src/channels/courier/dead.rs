//! What will never get there: admins hear of it, wherever they are but there, and then it is left. It is
//! kept, and tried again when somebody says so.

use shared::store::{Out, OutState};

use super::super::admins;
use super::super::card::last;
use super::super::text::in_one_line;
use super::{Courier, Left, Word};
use crate::asks::ladder;
use crate::people::code;

/// Characters that admins are told of what could not be delivered.
const BEGINS: usize = 120;
/// How the keys of words begin that tell of what could not be delivered.
const DEAD: &str = "dead/";

impl Courier {
    /// What cannot be delivered is told to admins, and then left.
    pub(super) async fn give_up(&self, out: &Out, why: &str) -> Result<(), Left> {
        let channel = self.channel.name();
        tracing::error!(channel, why, "a message cannot be delivered");
        self.tell_admins(out, why).await?;
        let far = self.still_owed(out.seq).await?.map(|out| out.far);
        let dead = OutState::Dead(why.to_owned());
        self.record(out, &far.unwrap_or_default(), dead).await?;
        // The next rung need not wait.
        if let (Some(ask), Some(keys)) = (out.ask, ladder::keys_like(&out.key)) {
            self.store.asks().miss(&self.tenant, ask, keys).await?;
        }
        Ok(())
    }

    /// Has admins hear of what could not be delivered, unless that was to tell them of another.
    async fn tell_admins(&self, out: &Out, why: &str) -> Result<(), Left> {
        let here = self.channel.name();
        if out.key.starts_with(DEAD) {
            return Ok(());
        }
        let (what, said) = self.in_words(out).await?;
        let text = format!(
            "⚠️ {what} could not be delivered to {here}, conversation {}: {why}. It is kept, and \
             `majordomo channels retry {here}` tries it again. It was to say: {said}",
            out.conversation
        );
        let others = self.people.admins().await?.into_iter().filter(|admin| {
            let is_open = self.open.iter().any(|open| *open == admin.channel);
            is_open && (admin.channel != here || admin.id != out.conversation)
        });
        let key = format!("{DEAD}{here}/{}", out.seq);
        admins::tell((&*self.store, &self.tenant), others, (&key, &text)).await?;
        Ok(())
    }

    /// Whose something is that is owed, and how it begins, in one line and without codes.
    async fn in_words(&self, out: &Out) -> Result<(String, String), Left> {
        let task = match out.task {
            Some(task) => self.store.task(&self.tenant, task).await?,
            None => None,
        };
        let (what, said) = match task {
            Some(task) => {
                let answer = last(&task).unwrap_or_else(|| task.request.text.clone());
                let whose = format!("The answer of task {}, {}'s,", task.id, task.principal);
                (whose, answer)
            }
            None => {
                let word = serde_json::from_value::<Word>(out.body.clone());
                ("A message".into(), word.unwrap_or_default().text)
            }
        };
        let said = code::hidden_in(&said);
        let mut begins: String = said.chars().take(BEGINS).collect();
        if begins.len() < said.len() {
            begins.push('…');
        }
        Ok((what, in_one_line(begins.trim())))
    }
}
