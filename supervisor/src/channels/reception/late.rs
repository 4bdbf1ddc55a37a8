//! Messages that come so late that nobody may want an answer any more: held until somebody says, or their
//! author is known no more. The question is then changed into what became of it, so that no button stays
//! that does nothing.

use std::time::Duration;

use shared::config::Role;
use shared::store::{Mail, MailState};

use super::{Letter, Pending, Reception};
use crate::channels::{Button, Sender, Word};
use crate::people::Known;

/// What was the matter.
const AWAY: &str = "I was away when you wrote this.";

/// By what the question about a message is known.
pub(super) fn question(mail: &Mail) -> String {
    format!("stale/{}", mail.key)
}

impl Reception {
    /// Whether so much time has passed that nobody may want an answer any more.
    pub(super) fn is_stale(&self, letter: &Letter) -> bool {
        let late = letter.mail.at.since(letter.says.at);
        late > Duration::from_secs(u64::from(self.settings.stale_after_min) * 60)
    }

    pub(super) async fn ask_first(&self, letter: &Letter) -> Result<(), Pending> {
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
            ..Word::default()
        };
        self.owe(letter, question(&letter.mail), word).await?;
        self.moved(&letter.mail, (MailState::New, MailState::Held))
            .await?;
        Ok(())
    }

    /// Decides about a message that was held: its author, or an admin, in its own conversation. Answers
    /// what came of it.
    pub(super) async fn settle_held(
        &self,
        letter: &Letter,
        (known, from): (&Known, &Sender),
        (what, key): (&str, &str),
    ) -> Result<&'static str, Pending> {
        let held = self.find(key).await?.filter(|mail| {
            mail.state == MailState::Held && mail.conversation == letter.mail.conversation
        });
        let author = held.as_ref().and_then(|mail| self.channel.read(mail).from);
        let may = author.is_some_and(|author| author.id == from.id) || known.may(Role::Admin);
        let decided = |what: &str| format!("{AWAY} **{}** {what}", known.principal);
        Ok(match (held, what) {
            (Some(_), _) if !may => "This is for its author to decide.",
            (Some(held), "run") => {
                let text = decided("wants it done still.");
                self.instead(letter, &question(&held), &text).await?;
                self.moved(&held, (MailState::Held, MailState::Wanted))
                    .await?;
                "I am at it."
            }
            (Some(held), "drop") => {
                let says = self.channel.read(&held);
                let why = decided("has me leave it alone.");
                self.discard(&Letter { says, mail: held }, &why).await?;
                "Left alone."
            }
            _ => "This was decided before.",
        })
    }

    /// A message that was held goes when its author decides about it and is known no more; what other
    /// strangers press is nothing to them.
    pub(super) async fn let_go_of_held(
        &self,
        press: &Letter,
        from: &Sender,
        data: &str,
    ) -> Result<(), Pending> {
        let (_, key) = data.split_once(':').unwrap_or_default();
        let Some(mail) = self.find(key).await? else {
            return Ok(());
        };
        let says = self.channel.read(&mail);
        let is_theirs = says
            .from
            .as_ref()
            .is_some_and(|author| author.id == from.id);
        let is_here = mail.conversation == press.mail.conversation;
        if mail.state != MailState::Held || !is_theirs || !is_here {
            return Ok(());
        }
        let held = Letter { mail, says };
        self.let_go(&held, from).await?;
        self.discard(&held, "Nothing comes of it.").await.map(drop)
    }
}
