//! The first sign that somebody was heard, from an instance that does nothing else: a placeholder or a sign
//! of work in Telegram and Slack, a 202 over HTTP. A request for next to nothing stands beside it: what the
//! machine, the connection and the build take without any of our work.

use std::time::Duration;

use serde_json::{Value, json};

use shared::clock::stopwatch;

use super::{ANSWER, Times, burst, conditions, configure, storm};
use crate::chaos::house::{self, House};
use crate::chaos::{Finding, Plan};
use crate::doubles::slack::FakeSlack;
use crate::doubles::telegram::{FakeTelegram, Say};
use crate::place::Place;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// After an answer: longer than a room is left alone between two messages.
const PAUSE: Duration = Duration::from_millis(500);
/// By when people must see that they were heard.
const BAR_MS: i64 = 1000;
/// Somebody's chat with the bot.
const CHAT: i64 = 1050;

pub(super) async fn telegram(plan: &Plan) -> Finding {
    let (place, fake) = (Place::folder(), FakeTelegram::start().await);
    let house = open(plan, &place, &storm::settings(&place, &fake)).await;
    let mut asking = Asking::new(plan);
    while asking.goes_on(&house).await {
        let message = fake.says(Say::new(CHAT, CHAT, "Do it")).message_id;
        let is_answer = |fake: &FakeTelegram| {
            let mut said = fake.from_bot(CHAT).into_iter();
            said.any(|it| it.reply_to == Some(message) && it.text == ANSWER)
        };
        fake.until(PATIENCE, is_answer).await;
        let chat = fake.chat(CHAT);
        let said = chat.iter().find(|it| it.id == message).map(|it| it.at_ms);
        let said = said.expect("nobody deletes it");
        let posted = chat.iter().filter(|it| it.reply_to == Some(message));
        let posted = posted.map(|it| it.at_ms);
        let acted = fake.actions(CHAT).into_iter().map(|it| it.at_ms);
        let first = acted.filter(|at| *at >= said).chain(posted).min();
        asking.signs.extend(first.map(|first| first - said));
    }
    house.stop().await;
    asking.finding(plan, "Telegram, a placeholder")
}

pub(super) async fn slack(plan: &Plan) -> Finding {
    let (place, fake) = (Place::folder(), FakeSlack::start().await);
    let house = open(plan, &place, &burst::settings(&place, &fake, "http")).await;
    fake.set_target(&format!("http://{}/v1/slack/events", house.address));
    let ada = burst::person(0);
    let room = fake.im(&ada);
    let mut asking = Asking::new(plan);
    while asking.goes_on(&house).await {
        let message = fake.dm(&ada, "Do it").ts;
        let is_answer = |fake: &FakeSlack| {
            let mut said = fake.thread(&room, &message).into_iter();
            said.any(|it| it.by_bot && it.text == ANSWER)
        };
        fake.until(PATIENCE, is_answer).await;
        let thread = fake.thread(&room, &message);
        let at = |by_bot| thread.iter().find(|it| it.by_bot == by_bot);
        let both = at(false).zip(at(true));
        let took = both.map(|(said, posted)| posted.at_ms - said.at_ms);
        asking.signs.extend(took);
    }
    house.stop().await;
    asking.finding(plan, "Slack by http, a placeholder")
}

pub(super) async fn http(plan: &Plan) -> Finding {
    let place = Place::folder();
    let house = open(plan, &place, "").await;
    let order = json!({"text": "Do it"});
    let mut asking = Asking::new(plan);
    while asking.goes_on(&house).await {
        let watch = stopwatch();
        let answer = house.ask("POST", "/v1/tasks", &order).await;
        if answer.status == Some(202) {
            asking.signs.push(watch.ms() as i64);
        }
    }
    house.stop().await;
    asking.finding(plan, "HTTP, a 202")
}

/// An instance with these doors.
async fn open(plan: &Plan, place: &Place, doors: &str) -> House {
    configure(place, doors);
    let log = place.path().join("log");
    House::start(house::command(plan, place, &log), place, &log).await
}

/// What is asked one after the other.
struct Asking {
    /// How often.
    times: u32,
    /// How long the first sign took, each time.
    signs: Vec<i64>,
    /// And a request for next to nothing before it.
    empty: Vec<i64>,
}

impl Asking {
    fn new(plan: &Plan) -> Self {
        Self {
            times: plan.times(3, 100),
            signs: Vec::new(),
            empty: Vec::new(),
        }
    }

    /// Whether to ask once more. On return everything is quiet.
    async fn goes_on(&mut self, house: &House) -> bool {
        tokio::time::sleep(PAUSE).await;
        let watch = stopwatch();
        house.ask("GET", "/readyz", &Value::Null).await;
        self.empty.push(watch.ms() as i64);
        self.empty.len() <= self.times as usize
    }

    fn finding(self, plan: &Plan, what: &str) -> Finding {
        let (signs, empty) = (Times::from_iter(self.signs), Times::from_iter(self.empty));
        let all = signs.0.len() == self.times as usize;
        Finding {
            line: format!(
                "first sign, {what}: {signs}; a request of /readyz: {empty}; {}",
                conditions()
            ),
            holds: all && (signs.percentile(100) < BAR_MS || !plan.full),
        }
    }
}
