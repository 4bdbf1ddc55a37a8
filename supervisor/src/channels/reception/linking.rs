//! Codes: how somebody becomes known in a chat, and how somebody who is known there becomes known in
//! another. Only where nobody reads along; what is answered goes to the person alone.

use shared::hash::Hash;
use shared::store::{Link, Redeemed};

use super::{Letter, Pending, Reception};
use crate::channels::command::Linking;
use crate::channels::{Sender, Word};
use crate::channels::{invite, seal};
use crate::people::identity;

impl Reception {
    pub(super) async fn linking(
        &self,
        letter: &Letter,
        from: &Sender,
        linking: Linking,
    ) -> Result<(), Pending> {
        if !self.channel.is_private(&letter.mail.conversation) {
            return self.seen_by_others(letter, from, &linking).await;
        }
        match linking {
            Linking::Ask => self.give_code(letter, from).await,
            Linking::Pair(words) => {
                let shown = seal::shown(&letter.mail.body, &words);
                self.pair(letter, from, shown).await
            }
            Linking::Claim(words) => {
                let shown = seal::shown(&letter.mail.body, &words);
                self.claim(letter, from, shown).await
            }
        }
    }

    /// A code that others see is good no more. What is said of it otherwise is said once a day.
    async fn seen_by_others(
        &self,
        letter: &Letter,
        from: &Sender,
        linking: &Linking,
    ) -> Result<(), Pending> {
        let burnt = match linking {
            Linking::Pair(words) | Linking::Claim(words) => {
                let shown = seal::shown(&letter.mail.body, words);
                self.people.burn(shown).await?
            }
            Linking::Ask => false,
        };
        let (key, text) = match burnt {
            true => (
                format!("burnt/{}", letter.mail.key),
                "Others read along here, so this code is good no more. Have a new one made, and write it \
                 to me in private.",
            ),
            false => (
                self.once_a_day("private", from),
                "Others read along here: write that to me in private.",
            ),
        };
        self.owe(letter, key, self.reply(letter, text.into())).await
    }

    /// Gives somebody who is known by name a code for another identity of theirs.
    async fn give_code(&self, letter: &Letter, from: &Sender) -> Result<(), Pending> {
        let Some(known) = self.recognise(letter, from).await? else {
            return Ok(());
        };
        if !known.named {
            let text = "I know you here by your group alone, so I cannot know you elsewhere by it. An \
                        admin can give you a code: `majordomo pair NAME`.";
            return self.tell(letter, from, text.into()).await;
        }
        let word = Word {
            code_for: Some(from.id.clone()),
            ..self.reply(letter, invite::NONE.into())
        };
        let key = format!("word/{}", letter.mail.key);
        self.tell_as(key, from, word).await
    }

    async fn pair(&self, letter: &Letter, from: &Sender, shown: Hash) -> Result<(), Pending> {
        let identity = identity(self.channel.name(), &from.id);
        if let Some(name) = self.people.configured(&identity) {
            let text = format!("I know you here already, as **{name}**.");
            return self.tell(letter, from, text).await;
        }
        let redeemed = self
            .people
            .redeem(identity, &letter.mail.key, shown)
            .await?;
        self.redeemed(letter, from, redeemed).await
    }

    async fn claim(&self, letter: &Letter, from: &Sender, shown: Hash) -> Result<(), Pending> {
        let identity = identity(self.channel.name(), &from.id);
        let (key, handle) = (&letter.mail.key, from.handle.as_deref());
        match self.people.claim(identity, key, shown, handle).await? {
            Some(redeemed) => self.redeemed(letter, from, redeemed).await,
            None => {
                let text = "There is an admin already. They can give you a code of your own, by \
                            `majordomo pair NAME`.";
                let word = self.reply(letter, text.into());
                self.tell_as(self.once_a_day("claimed", from), from, word)
                    .await
            }
        }
    }

    async fn redeemed(
        &self,
        letter: &Letter,
        from: &Sender,
        redeemed: Redeemed,
    ) -> Result<(), Pending> {
        let text = match redeemed {
            Redeemed::Linked(link) => {
                let (channel, principal) = (self.channel.name(), &link.principal);
                tracing::info!(channel, sender.id = from.id, %principal, "an identity was linked");
                self.tell_others(letter, from, &link).await?;
                let roles: Vec<&str> = link.roles.iter().map(|role| role.as_str()).collect();
                let label = match link.label.as_str() {
                    "" => String::new(),
                    label => format!(" ({})", plain(label)),
                };
                format!(
                    "This links you to **{principal}**{label}. Your roles: {}. `{}` says what I can do.",
                    roles.join(", "),
                    self.channel.command("help")
                )
            }
            Redeemed::Taken(link) => {
                format!("I know you here already, as **{}**.", link.principal)
            }
            Redeemed::Wrong { left: 0 } => {
                "That was one wrong code too many. I look at no more of \
                                            yours for an hour."
                    .into()
            }
            Redeemed::Wrong { left } => format!(
                "No such code is good now: one works once, and for a short time. Tries that are left \
                 this hour: {left}."
            ),
            Redeemed::Silenced => return Ok(()),
        };
        self.tell(letter, from, text).await
    }

    /// Has the person's other identities hear of a new one, so that a code that was stolen is noticed.
    async fn tell_others(
        &self,
        letter: &Letter,
        from: &Sender,
        link: &Link,
    ) -> Result<(), Pending> {
        let others = self.people.identities(&link.principal).await?.into_iter();
        let others = others.filter(|other| {
            let is_open = self.open.iter().any(|open| *open == other.channel);
            is_open && *other != link.identity
        });
        for other in others {
            let text = format!(
                "🔗 You are known in another place from now on: as {} in {} (`{}`). If that is not you, \
                 have an admin unlink it: `majordomo people remove {}`.",
                plain(&from.name),
                self.channel.name(),
                from.id,
                link.identity,
            );
            let key = format!("linked/{}/{}", link.identity, letter.mail.key);
            let out = Word::saying(text).owed(other.channel, key, other.id);
            self.store().mail().say(self.tenant(), out).await?;
        }
        Ok(())
    }

    /// Says something to a person alone, once for their message.
    async fn tell(&self, letter: &Letter, from: &Sender, text: String) -> Result<(), Pending> {
        let key = format!("word/{}", letter.mail.key);
        let word = self.reply(letter, text);
        self.tell_as(key, from, word).await
    }

    async fn tell_as(&self, key: String, from: &Sender, word: Word) -> Result<(), Pending> {
        let out = word.owed(self.channel.name(), key, &from.id);
        self.store().mail().say(self.tenant(), out).await?;
        Ok(())
    }
}

/// Words by others as a part of ours: nothing in them is a link or emphasis.
fn plain(text: &str) -> String {
    let safe = |c: &char| c.is_alphanumeric() || " '-.,’".contains(*c);
    let text: String = text.chars().filter(safe).take(64).collect();
    match text.trim() {
        "" => "somebody".into(),
        text => text.to_owned(),
    }
}
