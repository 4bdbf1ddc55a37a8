//! Telegram: many private chats say something every second. Some of them are held back by 429s; do the
//! others wait for them? The same is measured before, while and after.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use shared::clock::stopwatch;

use super::{ANSWER, LOOK, Times, conditions, configure};
use crate::chaos::house::{self, House, secret};
use crate::chaos::{Finding, Plan};
use crate::doubles::telegram::{FakeTelegram, Say};
use crate::place::Place;

/// Chats, each a person's own.
const CHATS: Range<i64> = 1000..1100;
/// Those that are held back; the others are calm.
const STORMY: Range<i64> = 1000..1020;
/// How long all answers may take in the end.
const PATIENCE_S: f64 = 180.0;
/// How much longer, in percent, the calm chats may wait while others are held back.
const BAR_PERCENT: i64 = 20;

/// How long each message's answer took, by chat and message.
type Asked = BTreeMap<(i64, i64), Option<i64>>;

pub(super) async fn run(plan: &Plan) -> Finding {
    let seconds = plan.times(2, 20);
    let place = Place::folder();
    let fake = FakeTelegram::start().await;
    configure(&place, &settings(&place, &fake));
    let log = place.path().join("log");
    let house = House::start(house::command(plan, &place, &log), &place, &log).await;
    let mut chance = plan.chance();
    let storms = || {
        for chat in STORMY {
            if chance.u8(0..4) == 0 {
                fake.storm(chat, chance.i64(1..=10), chance.usize(1..=3));
            }
        }
    };
    let (before, lost_before) = talk(&fake, seconds, || {}).await;
    let (during, lost_during) = talk(&fake, seconds, storms).await;
    let (after, lost_after) = talk(&fake, seconds, || {}).await;
    let refused = fake.calls();
    let refused = refused.iter().filter(|it| it.code == Some(429)).count();
    house.stop().await;
    // The mean of before and after: what else the machine does changes meanwhile.
    let calm = (before.percentile(95) + after.percentile(95)).max(2);
    let stormy = during.percentile(95) * 2;
    // Where these two differ by more than the bar, the machine made the difference, and nothing is shown.
    let (low, high) = (before.percentile(95), after.percentile(95));
    let steady = low.max(high) * 100 <= low.min(high) * (100 + BAR_PERCENT);
    let lost = lost_before + lost_during + lost_after;
    Finding {
        line: format!(
            "Telegram, {} chats write every second for {seconds} s: from a message to its answer in {} of \
             them {before}; while the others are held back, {refused} calls with a 429, {during}; again \
             without {after}; p95 while by p95 without: {:.2}; lost {lost}; {}",
            CHATS.count(),
            CHATS.count() - STORMY.count(),
            stormy as f64 / calm as f64,
            conditions(),
        ),
        holds: lost == 0
            && refused > 0
            && (steady && stormy * 100 <= calm * (100 + BAR_PERCENT) || !plan.full),
    }
}

/// The part of a configuration that speaks to this server.
pub(super) fn settings(place: &Place, fake: &FakeTelegram) -> String {
    let known = |id| format!("[[people]]\nname = \"p{id}\"\ntelegram = {id}\n");
    let people: String = CHATS.map(known).collect();
    format!(
        "[telegram]\ntoken = \"{}\"\napi_url = \"{}\"\n{people}",
        secret(place, "token", &fake.token()),
        fake.url()
    )
}

/// All chats say something each second; `trouble` comes before each. What the answers took in those that
/// are never held back, and how many messages have none.
async fn talk(fake: &FakeTelegram, seconds: u32, mut trouble: impl FnMut()) -> (Times, usize) {
    let mut asked = Asked::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / CHATS.count() as u32);
    for _ in 0..seconds {
        trouble();
        for chat in CHATS {
            tick.tick().await;
            let said = fake.says(Say::new(chat, chat, "Do it"));
            asked.insert((chat, said.message_id), None);
        }
    }
    // Nobody is told anew to wait; what was told still holds.
    fake.calm();
    let watch = stopwatch();
    while asked.values().any(Option::is_none) && watch.seconds() < PATIENCE_S {
        tokio::time::sleep(LOOK).await;
        CHATS.for_each(|chat| look(fake, chat, &mut asked));
    }
    let calm = asked.iter().filter(|((chat, _), _)| !STORMY.contains(chat));
    let times = calm.filter_map(|(_, took)| *took).collect();
    (times, asked.values().filter(|took| took.is_none()).count())
}

/// Takes down how long the answers of a chat took.
fn look(fake: &FakeTelegram, chat: i64, asked: &mut Asked) {
    let messages = fake.chat(chat);
    let said: BTreeMap<i64, i64> = messages.iter().map(|it| (it.id, it.at_ms)).collect();
    for message in messages.iter().filter(|it| it.by_bot && it.text == ANSWER) {
        let Some(to) = message.reply_to else { continue };
        let at_ms = message.edited_at_ms.unwrap_or(message.at_ms);
        if let (Some(took), Some(said)) = (asked.get_mut(&(chat, to)), said.get(&to)) {
            *took = Some(at_ms - said);
        }
    }
}
