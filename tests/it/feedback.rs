//! What people think of answers: said over any door, the last word counting, and noticed without words;
//! shown with the task and summed up by agent.

use std::sync::Arc;
use std::time::Duration;

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::doubles::telegram::{FakeTelegram, Message};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use majordomo_tests::tool::{Called, TestTool};
use serde_json::json;
use shared::ask::Decision;
use shared::feedback::{Feedback, Source};
use shared::id::TaskId;
use shared::run::Effect;
use shared::store::{AskFilter, TaskFilter};
use shared::task::{Request, TaskState};
use supervisor::asks::{Decided, Who};
use supervisor::budget::{self, By};
use supervisor::feedback::NotTaken;
use supervisor::view::TaskView;

on_both_stores!(
    the_last_word_of_each_counts_and_is_summed_up_by_agent,
    what_people_do_is_noticed_without_words,
    what_nobody_answers_is_noticed,
    whoever_asks_nearly_the_same_again_was_not_content,
    buttons_below_an_answer_take_it_and_show_it,
    no_buttons_where_they_are_not_wanted,
);

const ANSWERS: &str = "[[agent.reply]]\ntext = \"It is so.\"\n";
const SENDS: &str = "[[agent.reply]]\ncalls = [{ tool = \"send\", args = { n = 5 } }]\n\
    [[agent.reply]]\ntext = \"It is settled.\"\n";
const ADA: i64 = 7;
const EVE: i64 = 8;
const BOB: i64 = 9;

async fn worker(kind: Kind, replies: &str) -> TestApp {
    Setup::worker(replies, &[], "").on(kind).start().await
}

fn sending() -> Arc<TestTool> {
    let work = |_: Called| async { Ok(json!("sent")) };
    Arc::new(TestTool::new("send", Effect::Once, work))
}

fn boss() -> Who {
    Who {
        principal: "boss".into(),
        approves: true,
        keeps_budgets: false,
    }
}

async fn of(app: &TestApp, task: TaskId) -> Vec<Feedback> {
    let feedback = app.app.store.feedback();
    feedback.of(app.app.tenant(), task).await.unwrap()
}

/// Who thinks what, and how that is known.
fn told(feedback: &[Feedback]) -> Vec<(&str, Source, bool, &str)> {
    let mut told: Vec<_> = feedback
        .iter()
        .map(|one| (one.who.as_str(), one.source, one.good, one.text.as_str()))
        .collect();
    told.sort_by_key(|one| (one.0, one.1.as_str()));
    told
}

/// Good, bad and signs of the worker.
async fn sums(app: &TestApp) -> (u64, u64, u64) {
    let (store, tenant) = (&*app.app.store, app.app.tenant());
    let used = budget::usage(store, tenant, By::Agent, 7).await.unwrap();
    let worker = used.iter().find(|used| used.name == "worker");
    let regard = worker.and_then(|used| used.regard.as_ref());
    regard.map_or((0, 0, 0), |regard| (regard.good, regard.bad, regard.signs))
}

async fn the_last_word_of_each_counts_and_is_summed_up_by_agent(kind: Kind) {
    let app = worker(kind, ANSWERS).await;
    let (one, two) = (app.ask("Is it so?").await, app.ask("And that?").await);
    let desk = &app.app.desk;
    let (ada, bob) = ("ada".into(), "bob".into());
    desk.rate(&one, &ada, (true, "")).await.unwrap();
    for _ in 0..2 {
        let said = (false, " it is not ");
        desk.rate(&one, &ada, said).await.unwrap();
    }
    desk.rate(&one, &bob, (true, "fine")).await.unwrap();
    desk.rate(&two, &bob, (true, "")).await.unwrap();
    let kept = of(&app, one.id).await;
    let wanted = [
        ("ada", Source::Said, false, "it is not"),
        ("bob", Source::Said, true, "fine"),
    ];
    assert_eq!(told(&kept), wanted);
    // Of tasks: in two somebody was content, in one of those somebody was not.
    assert_eq!(sums(&app).await, (2, 1, 0));
    let view = TaskView::with_steps(&*app.app.store, one.clone());
    let view = view.await.unwrap();
    assert_eq!(view.feedback.len(), 2);
    assert_eq!(view.feedback[0].source, Source::Said);

    let long = "x".repeat(2_001);
    let refused = desk.rate(&one, &ada, (true, &long)).await;
    assert!(matches!(refused, Err(NotTaken::Long)), "{refused:?}");
    app.stop().await;
}

async fn what_people_do_is_noticed_without_words(kind: Kind) {
    let send = sending();
    let asked = "[approvals]\nwithin_h = 1\n";
    let app = Setup::worker(SENDS, &[&send], asked).on(kind).start().await;
    let desk = &app.app.desk;
    let waits = async || {
        let id = app.submit(TestApp::request("Send it")).await;
        app.reaches(id, |task| task.state == TaskState::AwaitingHuman)
            .await
    };
    let task = waits().await;
    let early = desk.rate(&task, &"ada".into(), (true, "")).await;
    assert!(matches!(early, Err(NotTaken::Early)), "{early:?}");
    let filter = AskFilter {
        open: true,
        limit: 9,
        ..AskFilter::default()
    };
    let ask = desk.asks(&boss(), &filter).await.unwrap().remove(0);
    let args = json!({"n": 6});
    let decided = desk.decide(ask.id, Decision::Edit { args }, &boss()).await;
    assert!(matches!(decided, Ok(Decided::Taken(_))), "{decided:?}");
    app.ends(task.id).await;
    let edited = [("boss", Source::Edited, false, "")];
    assert_eq!(told(&of(&app, task.id).await), edited);

    let (theirs, others) = (waits().await, waits().await);
    let (owner, stranger) = (theirs.principal.clone(), "eve".into());
    assert!(desk.cancel_by(theirs.id, "no", &owner).await.unwrap());
    assert!(!desk.cancel_by(theirs.id, "no", &owner).await.unwrap());
    assert!(desk.cancel_by(others.id, "no", &stranger).await.unwrap());
    let cancelled = [(owner.as_str(), Source::Cancelled, false, "")];
    assert_eq!(told(&of(&app, theirs.id).await), cancelled);
    assert!(of(&app, others.id).await.is_empty());
    assert_eq!(sums(&app).await, (0, 0, 2));
    app.stop().await;
}

async fn what_nobody_answers_is_noticed(kind: Kind) {
    let send = sending();
    let soon = "[approvals]\nwithin_h = 0.0002\n";
    let app = Setup::worker(SENDS, &[&send], soon).on(kind).start().await;
    app.app.open_channels().unwrap();
    let task = app.ask("Send it").await;
    let mut bell = app.app.store.bell().mail();
    let noticed = async {
        while of(&app, task.id).await.is_empty() {
            bell.changed().await.unwrap();
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(60), noticed).await;
    in_time.expect("it is noticed");
    let kept = of(&app, task.id).await;
    let lapsed = [(task.principal.as_str(), Source::Lapsed, false, "")];
    assert_eq!(told(&kept), lapsed);
    app.stop().await;
}

async fn whoever_asks_nearly_the_same_again_was_not_content(kind: Kind) {
    // The script goes on from turn to turn.
    let app = worker(kind, &ANSWERS.repeat(4)).await;
    let ask = async |text: &str| {
        let request = Request {
            thread: Some("t".into()),
            ..TestApp::request(text)
        };
        let id = app.submit(request).await;
        let task = app.ends(id).await;
        assert_eq!(task.state, TaskState::Done, "{:?}", task.error);
        task
    };
    let first = ask("What does the backup policy say?").await;
    let other = ask("And who wrote this?").await;
    let second = ask("Who wrote this, and when?").await;
    let again = ask("who wrote this and when").await;
    assert!(of(&app, first.id).await.is_empty());
    for task in [&other, &second] {
        let kept = of(&app, task.id).await;
        let rephrased = [(task.principal.as_str(), Source::Rephrased, false, "")];
        assert_eq!(told(&kept), rephrased, "{}", task.request.text);
    }
    assert!(of(&app, again.id).await.is_empty());
    app.stop().await;
}

async fn chatting(fake: &FakeTelegram, kind: Kind, more: &str) -> (TestApp, tempfile::TempDir) {
    let secrets = tempfile::tempdir().unwrap();
    let token = secrets.path().join("token");
    std::fs::write(&token, fake.token()).unwrap();
    let settings = format!(
        "{more}[telegram]\ntoken = \"${{file:{}}}\"\napi_url = \"{}\"\n\n\
         [[people]]\nname = \"ada\"\ntelegram = {ADA}\n\
         [[people]]\nname = \"bob\"\ntelegram = {BOB}\n",
        token.display(),
        fake.url()
    );
    let app = Setup::worker(ANSWERS, &[], &settings)
        .on(kind)
        .start()
        .await;
    app.app.open_channels().unwrap();
    (app, secrets)
}

/// The labels and data of the buttons below a message.
fn buttons(message: &Message) -> Vec<(String, String)> {
    let rows = message.keyboard.as_ref().and_then(|rows| rows.as_array());
    let buttons = rows.into_iter().flatten();
    let buttons = buttons.filter_map(|row| row.as_array()).flatten();
    buttons
        .map(|button| {
            let text = |name: &str| button[name].as_str().unwrap().to_owned();
            (text("text"), text("callback_data"))
        })
        .collect()
}

/// Waits until the answer stands with these labels below it.
async fn shows(fake: &FakeTelegram, labels: &[&str]) -> Message {
    let answer = |fake: &FakeTelegram| {
        let messages = fake.from_bot(ADA).into_iter();
        messages.rev().find(|message| message.text == "It is so.")
    };
    let shown = |fake: &FakeTelegram| {
        answer(fake).is_some_and(|message| {
            let buttons = buttons(&message);
            buttons.iter().map(|(label, _)| label).eq(labels)
        })
    };
    let held = fake.until(Duration::from_secs(20), shown).await;
    assert!(held, "{labels:?}: {:#?}", fake.from_bot(ADA));
    answer(fake).unwrap()
}

async fn buttons_below_an_answer_take_it_and_show_it(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let (app, _secrets) = chatting(&fake, kind, "").await;
    fake.user_says(ADA, ADA, "Is it so?");
    let answer = shows(&fake, &["👍", "👎"]).await;
    let [(_, good), (_, bad)] = &buttons(&answer)[..] else {
        panic!("two buttons");
    };
    for _ in 0..3 {
        fake.press(ADA, answer.id, ADA, good);
    }
    let answer = shows(&fake, &["👍 1", "👎"]).await;
    fake.press(ADA, answer.id, ADA, bad);
    let answer = shows(&fake, &["👍", "👎 1"]).await;
    let filter = TaskFilter {
        limit: 9,
        ..TaskFilter::default()
    };
    let tasks = app.app.desk.tasks(&filter).await.unwrap();
    let task = tasks[0].id;
    let adas = [("ada", Source::Said, false, "")];
    assert_eq!(told(&of(&app, task).await), adas);
    // A stranger's press, and one from another conversation, count for nothing.
    fake.press_anyway(ADA, answer.id, EVE, good);
    fake.user_says(BOB, BOB, "/status");
    let status = |fake: &FakeTelegram| !fake.from_bot(BOB).is_empty();
    assert!(fake.until(Duration::from_secs(20), status).await);
    let elsewhere = fake.from_bot(BOB)[0].id;
    fake.press_anyway(BOB, elsewhere, BOB, good);
    let told_off = |fake: &FakeTelegram| {
        let presses = fake.presses();
        let mut answers = presses.iter().filter_map(|press| press.answer.as_deref());
        answers.any(|answer| answer.contains("another conversation"))
    };
    assert!(
        fake.until(Duration::from_secs(20), told_off).await,
        "{:#?}",
        fake.presses()
    );
    assert_eq!(told(&of(&app, task).await), adas);
    assert_eq!(sums(&app).await, (0, 1, 0));
    app.stop().await;
}

async fn no_buttons_where_they_are_not_wanted(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let off = "[conversations]\nfeedback = false\n";
    let (app, _secrets) = chatting(&fake, kind, off).await;
    fake.user_says(ADA, ADA, "Is it so?");
    shows(&fake, &[]).await;
    app.stop().await;
}
