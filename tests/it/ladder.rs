//! Work that cannot go on is told to one rung after the other, over chats, letters and webhooks, until
//! somebody decides; and what nothing reaches is not forgotten.

use std::sync::Arc;
use std::time::Duration;

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::doubles::receiver::{Receiver, SECRET};
use majordomo_tests::doubles::smtp::MailServer;
use majordomo_tests::doubles::telegram::{FakeTelegram, Message};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use majordomo_tests::wait;
use serde_json::Value;
use shared::ask::Decision;
use shared::id::TaskId;
use shared::store::AskFilter;
use shared::task::TaskState;
use supervisor::asks::Who;

on_both_stores!(
    rungs_are_told_in_turn_until_somebody_decides,
    a_rung_that_nothing_reaches_gets_no_time,
    a_channel_that_is_down_holds_up_no_other,
    whichever_channel_is_down_the_next_rung_is_told_in_time,
    what_has_one_cause_is_one_incident,
);

const ADA: i64 = 7;
const BOSS: i64 = 9;
const BACKUP: i64 = 11;
const PATIENCE: Duration = Duration::from_secs(30);
/// A provider that is down for one call of three attempts, again and again.
const DOWN: &str =
    "[[agent.fault]]\nfault = 503\ntimes = 3\n[[agent.reply]]\ntext = \"Here it is.\"\n";

/// The places where people are.
struct Town {
    telegram: FakeTelegram,
    mail: MailServer,
    hook: Arc<Receiver>,
}

impl Town {
    async fn new() -> Self {
        Self {
            telegram: FakeTelegram::start().await,
            mail: MailServer::start(&[]),
            hook: Receiver::start(&[]).await,
        }
    }

    /// An instance with these rungs: whom, and for how many seconds.
    async fn house(&self, kind: Kind, script: &str, rungs: &[(&str, f64)]) -> TestApp {
        let secrets = tempfile::tempdir().unwrap().keep();
        let (token, secret) = (secrets.join("token"), secrets.join("secret"));
        std::fs::write(&token, self.telegram.token()).unwrap();
        std::fs::write(&secret, format!("whsec_{SECRET}\n")).unwrap();
        let people = format!(
            "[telegram]\ntoken = \"${{file:{}}}\"\napi_url = \"{}\"\n\
             [[people]]\nname = \"ada\"\ntelegram = {ADA}\n\
             [[people]]\nname = \"boss\"\ntelegram = {BOSS}\nroles = [\"member\", \"approver\"]\n\
             [[people]]\nname = \"backup\"\ntelegram = {BACKUP}\nroles = [\"member\", \"approver\"]\n",
            token.display(),
            self.telegram.url()
        );
        let far = format!(
            "[egress]\nallow_private = [\"127.0.0.1\"]\n[callbacks]\nsecret = \"${{file:{}}}\"\n{}",
            secret.display(),
            self.mail.settings("none")
        );
        let rungs: String = rungs
            .iter()
            .map(|(to, wait_s)| {
                let to = to.replace("HOOK", &self.hook.url);
                let wait_min = wait_s / 60.0;
                format!("[[escalation.rungs]]\nto = [\"{to}\"]\nwait_min = {wait_min}\n")
            })
            .collect();
        let settings = format!(
            "[engine]\npark_after_s = 0.0\n{people}{far}[escalation]\nwithin_h = 1\nagain_h = 0.01\n{rungs}"
        );
        let app = Setup::worker(script, &[], &settings).on(kind).start().await;
        app.app.open_channels().unwrap();
        for person in [BOSS, BACKUP] {
            // A bot writes to nobody who has not written to it.
            self.telegram.user_says(person, person, "/start");
            self.sees(person, "Hello").await;
        }
        app
    }

    async fn sees(&self, chat: i64, wanted: &str) -> Message {
        let found = |fake: &FakeTelegram| {
            let messages = fake.from_bot(chat).into_iter();
            messages.rev().find(|message| message.text.contains(wanted))
        };
        let held = self
            .telegram
            .until(PATIENCE, |fake| found(fake).is_some())
            .await;
        assert!(held, "{wanted}: {:#?}", self.telegram.from_bot(chat));
        found(&self.telegram).unwrap()
    }

    async fn gets_a_letter(&self, count: usize) -> Vec<Value> {
        let letters = async || Some(self.mail.letters()).filter(|all| all.len() >= count);
        wait::within(PATIENCE, letters).await.expect("a letter")
    }
}

fn press(town: &Town, person: i64, card: &Message, label: &str) {
    let rows = card.keyboard.as_ref().and_then(Value::as_array).unwrap();
    let mut buttons = rows.iter().filter_map(Value::as_array).flatten();
    let found = buttons.find(|button| button["text"] == label);
    let found = found.unwrap_or_else(|| panic!("{label}: {:?}", card.keyboard));
    let data = found["callback_data"].as_str().unwrap();
    town.telegram.press(person, card.id, person, data);
}

async fn waits(app: &TestApp, request: &str) -> TaskId {
    let id = app.submit(TestApp::request(request)).await;
    app.reaches(id, |task| task.state == TaskState::AwaitingHuman)
        .await;
    id
}

async fn red(app: &TestApp) -> u32 {
    app.app.board().unwrap().red().await.unwrap()
}

async fn rungs_are_told_in_turn_until_somebody_decides(kind: Kind) {
    let town = Town::new().await;
    let rungs = [
        ("boss", 1.0),
        ("telegram/11", 1.0),
        ("mailto:oncall@example.org", 1.0),
        ("HOOK", 600.0),
    ];
    let app = town.house(kind, DOWN, &rungs).await;
    let id = waits(&app, "Find it").await;
    town.sees(BOSS, "cannot go on").await;
    assert_eq!((town.mail.letters().len(), town.hook.count()), (0, 0));
    let backup = town.sees(BACKUP, "cannot go on").await;
    let letters = town.gets_a_letter(1).await;
    let letter = letters[0].to_string();
    assert!(
        letter.contains("escalations show") && letter.contains("worker"),
        "{letter}"
    );
    let calls = town.hook.until(1).await;
    assert_eq!(calls[0].body["type"], "escalation.opened");
    assert_eq!(calls[0].body["data"]["task"], id.to_string());
    assert_eq!(
        red(&app).await,
        0,
        "everybody is reached, and the last one has time"
    );

    press(&town, BACKUP, &backup, "Try again");
    let task = app.ends(id).await;
    assert_eq!(task.answer.as_deref(), Some("Here it is."));
    for person in [BOSS, BACKUP] {
        let card = town.sees(person, "by backup").await;
        assert!(card.keyboard.is_none(), "{card:?}");
    }
    let calls = town.hook.until(2).await;
    assert_eq!(calls[1].body["type"], "escalation.closed");
    assert_eq!(town.mail.letters().len(), 1, "a letter is written once");
    app.stop().await;
}

async fn a_rung_that_nothing_reaches_gets_no_time(kind: Kind) {
    let town = Town::new().await;
    let rungs = [
        ("boss", 3600.0),
        ("nobody", 3600.0),
        ("telegram/11", 3600.0),
    ];
    let app = town.house(kind, DOWN, &rungs).await;
    town.telegram.block(BOSS);
    let id = waits(&app, "Find it").await;
    let card = town.sees(BACKUP, "cannot go on").await;
    assert_eq!(red(&app).await, 1);
    press(&town, BACKUP, &card, "Try again");
    app.ends(id).await;
    wait::until("all is well", PATIENCE, async || red(&app).await == 0).await;
    app.stop().await;
}

async fn a_channel_that_is_down_holds_up_no_other(kind: Kind) {
    let town = Town::new().await;
    let rungs = [
        ("boss", 0.6),
        ("mailto:oncall@example.org", 0.6),
        ("HOOK", 0.6),
    ];
    let app = town.house(kind, DOWN, &rungs).await;
    town.telegram.down().await;
    town.hook.set_down(true);
    let id = waits(&app, "Find it").await;
    town.gets_a_letter(1).await;
    wait::until("health is red", PATIENCE, async || red(&app).await == 1).await;
    assert_eq!(town.hook.count(), 0);
    // What could not be delivered is delivered once it can be, and nothing was forgotten over a restart.
    let app = app.down(Duration::ZERO).await.start().await;
    app.app.open_channels().unwrap();
    assert_eq!(red(&app).await, 1);
    town.hook.set_down(false);
    town.hook.until(1).await;
    town.telegram.up().await;
    let card = town.sees(BOSS, "cannot go on").await;
    press(&town, BOSS, &card, "Give up");
    let task = app.ends(id).await;
    assert_eq!(task.state, TaskState::Failed);
    wait::until("all is well", PATIENCE, async || red(&app).await == 0).await;
    app.stop().await;
}

async fn whichever_channel_is_down_the_next_rung_is_told_in_time(kind: Kind) {
    let rungs = ["boss", "mailto:oncall@example.org", "HOOK"];
    for down in 0..rungs.len() {
        let mut town = Town::new().await;
        let mut turned = rungs;
        turned.rotate_left(down);
        let turned = turned.map(|to| (to, 1.0));
        let app = town.house(kind, DOWN, &turned).await;
        match down {
            0 => town.telegram.down().await,
            // The server goes with its value; this one writes down nothing that goes to the other.
            1 => town.mail = MailServer::start(&[]),
            _ => town.hook.set_down(true),
        }
        let id = waits(&app, "Find it").await;
        let begun = shared::clock::stopwatch();
        match down {
            0 => drop(town.gets_a_letter(1).await),
            1 => drop(town.hook.until(1).await),
            _ => drop(town.sees(BOSS, "cannot go on").await),
        }
        let took = begun.elapsed();
        assert!(
            took >= Duration::from_millis(500),
            "not before its time: {took:?}"
        );
        println!("{}: the next rung was told after {took:?}", rungs[down]);
        app.app.desk.cancel(id, "enough").await.unwrap();
        app.ends(id).await;
        app.stop().await;
    }
}

async fn what_has_one_cause_is_one_incident(kind: Kind) {
    let town = Town::new().await;
    let script = DOWN.replace("times = 3", "times = 15");
    let script = format!(
        "{script}{}",
        "[[agent.reply]]\ntext = \"Here it is.\"\n".repeat(4)
    );
    let app = town.house(kind, &script, &[("boss", 3600.0)]).await;
    let mut tasks = Vec::new();
    for number in 0..5 {
        tasks.push(waits(&app, &format!("Find number {number}")).await);
    }
    let card = town.sees(BOSS, "4 more tasks wait for the same").await;
    let cards = town.telegram.from_bot(BOSS).into_iter();
    let cards = cards.filter(|message| message.text.contains("cannot go on"));
    assert_eq!(cards.count(), 1, "one card for all");

    // Who decides about one alone leaves the others where they are: another one stands for them.
    let boss = Who {
        principal: "boss".into(),
        approves: true,
        keeps_budgets: false,
    };
    let filter = AskFilter {
        task: Some(tasks[0]),
        limit: 1,
        ..AskFilter::default()
    };
    let first = app.app.desk.asks(&boss, &filter).await.unwrap().remove(0);
    let text = "It is here.".into();
    let decision = Decision::Reply { text };
    app.app
        .desk
        .decide(first.id, decision, &boss)
        .await
        .unwrap();
    assert_eq!(
        app.ends(tasks[0]).await.answer.as_deref(),
        Some("It is here.")
    );
    let next = town.sees(BOSS, "3 more tasks wait for the same").await;
    assert_ne!(card.id, next.id);
    press(&town, BOSS, &next, "Try again (4)");
    for task in &tasks[1..] {
        let task = app.ends(*task).await;
        assert_eq!(task.answer.as_deref(), Some("Here it is."));
    }
    app.stop().await;
}
