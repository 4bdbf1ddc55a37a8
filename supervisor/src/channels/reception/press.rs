//! Buttons, and messages that answer what is asked: whose they are, what they are about, and a word back.
//! What they lead to may be repeated, and what comes late is told so.

use shared::ask::{AskState, Asked, Decision};
use shared::id::{AskId, TaskId};
use shared::store::MailState;

use super::{Letter, Pending, Reception};
use crate::asks::{self, Decided, Who};
use crate::channels::{Sender, Sheet};
use crate::feedback::{self, NotTaken};
use crate::people::Known;

/// Characters of JSON that somebody is given to change in a window.
const SHEET: usize = 2_900;

/// A button that was pressed.
pub(super) struct Press<'a> {
    /// To confirm it by.
    pub id: &'a str,
    /// What it holds.
    pub data: &'a str,
    /// To open something with.
    pub trigger: Option<&'a str>,
}

impl Reception {
    /// Does what a button says, and tells whoever pressed it.
    pub(super) async fn pressed(
        &self,
        letter: &Letter,
        (known, from): (&Known, &Sender),
        press: &Press<'_>,
    ) -> Result<(), Pending> {
        let data = press.data;
        let word = match asks::card::pressed(data) {
            Some((id, word)) => {
                let trigger = press.trigger;
                self.press_of_ask(letter, known, id, (word, trigger))
                    .await?
            }
            None if let Some((task, good)) = feedback::pressed(data) => {
                self.press_of_answer(letter, known, (task, good)).await?
            }
            None => {
                let about = data.split_once(':').unwrap_or_default();
                let held = self.settle_held(letter, (known, from), about);
                held.await?.to_owned()
            }
        };
        let told = self.channel.pressed(press.id, &word);
        self.over.run_until_cancelled(told).await;
        Ok(())
    }

    /// Takes what a button says to an ask, where that ask is shown.
    async fn press_of_ask(
        &self,
        letter: &Letter,
        known: &Known,
        id: AskId,
        (word, trigger): (&str, Option<&str>),
    ) -> Result<String, Pending> {
        let place = (self.channel.name(), letter.mail.conversation.as_str());
        let asks = self.store().asks();
        let here = match self.below(letter).await? {
            Some(shown) => shown == id,
            None => asks.is_shown(self.tenant(), id, place).await?,
        };
        if !here {
            return Ok("This belongs to another conversation.".into());
        }
        let Some(asked) = asks.get(self.tenant(), id).await? else {
            return Ok("This was decided long ago.".into());
        };
        if word == asks::card::CHANGE {
            return self.open_sheet(letter, known, (&asked, trigger)).await;
        }
        match asks::card::decision(&asked, word) {
            Some(decision) => self.decide(&asked, decision, known).await,
            None => Ok("This button says nothing to it.".into()),
        }
    }

    /// Lets somebody who may decide an action change its arguments in a window.
    async fn open_sheet(
        &self,
        letter: &Letter,
        known: &Known,
        (asked, trigger): (&Asked, Option<&str>),
    ) -> Result<String, Pending> {
        const BY_REPLY: &str = "Reply to this message with all arguments as JSON.";
        let Some(task) = self.house.desk.task(asked.task).await? else {
            return Ok("This was decided long ago.".into());
        };
        if asked.state != AskState::Open {
            return Ok(format!("Decided before. {}", asks::card::became(asked)));
        }
        if let Err(why) = asks::may_decide(asked, &task, &Who::from(known)) {
            return Ok(why.to_owned());
        }
        let (Some(action), Some(trigger), Some(below)) =
            (&asked.ask.action, trigger, &letter.says.replies_to)
        else {
            return Ok(BY_REPLY.into());
        };
        let json = serde_json::to_string_pretty(&action.args).unwrap_or_default();
        if json.chars().count() > SHEET {
            return Ok(BY_REPLY.into());
        }
        let sheet = Sheet {
            below: below.clone(),
            label: "All arguments, as JSON".into(),
            json,
        };
        let opened = self
            .channel
            .open_sheet(&letter.mail.conversation, trigger, &sheet);
        self.over.run_until_cancelled(opened).await;
        Ok("Change the arguments in the window; nothing is done before you send it.".into())
    }

    /// Takes what somebody thinks of an answer, where that answer stands.
    async fn press_of_answer(
        &self,
        letter: &Letter,
        known: &Known,
        (id, good): (TaskId, bool),
    ) -> Result<String, Pending> {
        let card = self.store().mail().card(self.tenant(), id).await?;
        let here = card.is_some_and(|(card, _)| {
            let message = letter.says.replies_to.as_ref();
            card.conversation == letter.mail.conversation
                || message.is_some_and(|message| card.far.contains(message))
        });
        let task = self.house.desk.task(id).await?.filter(|_| here);
        let Some(task) = task else {
            return Ok("This belongs to another conversation.".into());
        };
        let rated = self.house.desk.rate(&task, &known.principal, (good, ""));
        match rated.await {
            Ok(()) => Ok("Thank you: noted.".into()),
            Err(NotTaken::Store(error)) => Err(error.into()),
            Err(refused) => Ok(format!("Not noted: {refused}.")),
        }
    }

    /// The ask whose card a message replies to, or whose button was pressed.
    async fn below(&self, letter: &Letter) -> Result<Option<AskId>, Pending> {
        let Some(message) = &letter.says.replies_to else {
            return Ok(None);
        };
        let conversation = match self.channel.ids_are_unique() {
            true => None,
            false => Some(letter.mail.conversation.as_str()),
        };
        let place = (self.channel.name(), conversation);
        let shown = self.store().asks().shown(self.tenant(), place, message);
        Ok(shown.await?)
    }

    /// The ask that a message answers: it is a reply to its card, or the one question that is open in the
    /// conversation, and whoever wrote it may answer that.
    pub(super) async fn answered(
        &self,
        letter: &Letter,
        known: &Known,
    ) -> Result<Option<Asked>, Pending> {
        let (asks, tenant) = (self.store().asks(), self.tenant());
        let place = (self.channel.name(), letter.mail.conversation.as_str());
        if let Some(id) = self.below(letter).await? {
            return Ok(asks.get(tenant, id).await?);
        }
        let mut open = asks.open_at(tenant, place).await?;
        // What was written before, or waits for its turn, is no answer.
        open.retain(|asked| letter.mail.state == MailState::New && letter.mail.at >= asked.at);
        let (Some(only), true) = (open.pop(), open.is_empty()) else {
            return Ok(None);
        };
        let task = self.house.desk.task(only.task).await?;
        let theirs = task.is_some_and(|task| task.principal == known.principal);
        Ok(theirs.then_some(only))
    }

    /// Takes a message as an answer to an ask, and says so.
    pub(super) async fn answer(
        &self,
        letter: &Letter,
        known: &Known,
        (asked, text): (&Asked, &str),
    ) -> Result<(), Pending> {
        let decision = asks::card::replied(asked, text);
        let word = self.decide(asked, decision, known).await?;
        self.say(letter, &letter.mail.key, word).await
    }

    async fn decide(
        &self,
        asked: &Asked,
        decision: Decision,
        known: &Known,
    ) -> Result<String, Pending> {
        if !asks::card::is_fit(asked, &decision) {
            return Ok(format!(
                "This is too long to be shown here in full, so it is not let go from here: \
                 `majordomo approvals show {}`",
                asked.id
            ));
        }
        let who = Who::from(known);
        let decided = self.house.desk.decide(asked.id, decision, &who).await?;
        Ok(match decided {
            Decided::Taken(_) => "So be it: it goes on.".into(),
            Decided::Before(now) => format!("Decided before. {}", asks::card::became(&now)),
            Decided::Denied(why) => why.to_owned(),
            Decided::Unfit(why) => format!("This cannot be taken: {why}."),
            Decided::Missing => "This is not for you to decide.".into(),
        })
    }
}
