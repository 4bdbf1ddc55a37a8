//! Telegram: a message for each process, and by chance one that was confirmed comes again. The control
//! posts answers instead of making them out of recorded messages: it must answer twice.

use std::collections::BTreeMap;

use async_trait::async_trait;
use fastrand::Rng;
use tokio::process::{ChildStdin, Command};

use super::{Door, Fleet, Tally, configure, secret, sort};
use crate::doubles::telegram::{FakeTelegram, Say};

const ADA: i64 = 7;

/// The Bot API, and what was said to the bot.
pub(super) struct Telegram {
    fake: FakeTelegram,
    messages: Vec<i64>,
    updates: Vec<i64>,
}

#[async_trait]
impl Door for Telegram {
    const NAME: &str = "Telegram";
    const POINTS: u64 = 45;
    // Between the second thing that is sent, and its record.
    const CONTROL: (&str, &str) = ("post-answers", "send.after:2");
    const WORDS: (&str, &str) = ("answered twice", "dead placeholders");
    // One chat.
    const LANES: u32 = 1;

    async fn open(fleet: &Fleet) -> Self {
        let fake = FakeTelegram::start().await;
        let people = format!("[[people]]\nname = \"ada\"\ntelegram = {ADA}\n");
        configure(fleet, &(settings(fleet, &fake) + &people));
        Self {
            fake,
            messages: Vec::new(),
            updates: Vec::new(),
        }
    }

    fn begin(&mut self, _: &Fleet, _: &mut Command) {}

    async fn ask(&mut self, _: &Fleet, _: &mut ChildStdin, chance: &mut Rng) {
        let said = self.fake.says(Say::new(ADA, ADA, "Do it"));
        self.messages.push(said.message_id);
        self.updates.extend(said.update_id);
        let waiting = self.fake.pending();
        let mut confirmed = self.updates.clone();
        confirmed.retain(|update| !waiting.contains(update));
        if let (0, Some(update)) = (chance.u32(0..4), chance.choice(&confirmed)) {
            self.fake.redeliver(*update);
        }
    }

    async fn insist(&mut self, _: &Fleet, _: &mut ChildStdin) {}

    fn tally(&self, _: &Fleet) -> Tally {
        let mut tally = Tally::default();
        let mut answers: BTreeMap<i64, u32> = self.messages.iter().map(|id| (*id, 0)).collect();
        let said = self.fake.from_bot(ADA).into_iter();
        let said = said.map(|message| (message.reply_to, message.text));
        sort(&mut tally, &mut answers, said);
        tally
    }
}

/// The part of a configuration that speaks to this server.
pub(super) fn settings(fleet: &Fleet, fake: &FakeTelegram) -> String {
    format!(
        "[telegram]\ntoken = \"{}\"\napi_url = \"{}\"\n\
         [[routes]]\nchannel = \"telegram\"\nagents = [\"executor\"]\n",
        secret(fleet, "token", &fake.token()),
        fake.url()
    )
}
