//! The Telegram door against a server that behaves as the real one does.

use std::time::Duration;

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::doubles::fault::FailHow;
use majordomo_tests::doubles::telegram::{FakeTelegram, Message, Say};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use shared::store::TaskFilter;
use shared::task::{Task, TaskState};

on_both_stores!(
    a_message_becomes_a_task_and_its_answer_comes_back_in_place,
    a_stranger_is_turned_away_once_with_their_number,
    commands_are_answered,
    what_comes_while_another_is_worked_on_waits_its_turn,
    updates_that_come_again_change_nothing,
    replies_that_get_lost_cost_a_placeholder_at_most,
    a_chat_that_is_gone_is_given_up_and_an_admin_is_told,
    an_old_message_is_asked_about_first,
);

const ADA: i64 = 7;
const EVE: i64 = 8;
const PATIENCE: Duration = Duration::from_secs(20);

/// An instance with one agent and an open door.
async fn open(fake: &FakeTelegram, kind: Kind, replies: &str, more: &str) -> TestApp {
    let secrets = tempfile::tempdir().unwrap().keep();
    let token = secrets.join("token");
    std::fs::write(&token, fake.token()).unwrap();
    let settings = format!(
        "{more}\n[telegram]\ntoken = \"${{file:{}}}\"\napi_url = \"{}\"\n\n\
         [[people]]\nname = \"ada\"\ntelegram = {ADA}\nroles = [\"admin\"]\n",
        token.display(),
        fake.url()
    );
    let app = Setup::worker(replies, &[], &settings)
        .on(kind)
        .start()
        .await;
    app.app.open_channels().unwrap();
    app
}

fn reply(text: &str) -> String {
    format!("[[agent.reply]]\ntext = \"{text}\"\n")
}

/// What the bot's messages in a chat say once this holds of them.
async fn until(fake: &FakeTelegram, chat: i64, holds: impl Fn(&[Message]) -> bool) -> Vec<Message> {
    let held = fake
        .until(PATIENCE, |fake| holds(&fake.from_bot(chat)))
        .await;
    let messages = fake.from_bot(chat);
    assert!(held, "{:#?}", texts(&messages));
    messages
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages
        .iter()
        .map(|message| message.text.as_str())
        .collect()
}

fn says(wanted: &'static str) -> impl Fn(&[Message]) -> bool {
    move |messages| messages.iter().any(|message| message.text.contains(wanted))
}

async fn all_tasks(app: &TestApp) -> Result<Vec<Task>, shared::store::Error> {
    let all = TaskFilter {
        limit: 9,
        ..TaskFilter::default()
    };
    app.app.desk.tasks(&all).await
}

async fn a_message_becomes_a_task_and_its_answer_comes_back_in_place(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let app = open(&fake, kind, &reply("It is **42**."), "").await;
    let said = fake.says(Say::new(ADA, ADA, "What is it?"));
    let messages = until(&fake, ADA, says("It is 42.")).await;
    assert_eq!(texts(&messages), ["It is 42."]);
    let answer = &messages[0];
    assert_eq!(answer.reply_to, Some(said.message_id));
    assert_eq!(answer.entities.len(), 1, "rendered, not parsed there");
    assert!(!answer.history.is_empty(), "it was a placeholder before");
    assert!(fake.pending().is_empty(), "all updates are confirmed");
    assert!(!fake.commands().is_empty(), "the menu is set");
    app.stop().await;
}

async fn a_stranger_is_turned_away_once_with_their_number(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let app = open(&fake, kind, &reply("never"), "").await;
    fake.user_says(EVE, EVE, "Let me in");
    let messages = until(&fake, EVE, says("I do not know you yet")).await;
    assert!(
        messages[0].text.contains("telegram = 8"),
        "{}",
        messages[0].text
    );
    fake.user_says(EVE, EVE, "Please");
    fake.user_says(ADA, ADA, "/status");
    until(&fake, ADA, says("Nothing is going on")).await;
    assert_eq!(fake.sent(EVE), 1, "once a day");
    assert!(
        all_tasks(&app).await.unwrap().is_empty(),
        "no task was made"
    );
    app.stop().await;
}

async fn commands_are_answered(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let app = open(&fake, kind, &reply("Done."), "").await;
    for (command, answer) in [
        ("/start", "Hello ada"),
        ("/agents", "worker: The worker"),
        ("/agent nobody", "There is no agent nobody"),
        ("/agent worker", "From now on worker answers here"),
        ("/new", "A new conversation begins"),
        ("/stop", "There is nothing to stop"),
        ("/fly", "There is no command /fly"),
    ] {
        fake.user_says(ADA, ADA, command);
        until(&fake, ADA, says(answer)).await;
    }
    app.stop().await;
}

async fn what_comes_while_another_is_worked_on_waits_its_turn(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let hang =
        "[[agent.fault]]\nturn = 1\nfault = \"timeout\"\n[[agent.reply]]\ntext = \"never\"\n";
    let app = open(&fake, kind, hang, "").await;
    fake.user_says(ADA, ADA, "First");
    until(&fake, ADA, says("thinking")).await;
    let second = fake.says(Say::new(ADA, ADA, "Second"));
    until(&fake, ADA, says("I begin with this when")).await;
    fake.user_edits(ADA, second.message_id, "Second, in other words");
    fake.user_says(ADA, ADA, "/status");
    until(&fake, ADA, says("running: First")).await;
    fake.user_says(ADA, ADA, "/stop");
    until(&fake, ADA, |messages| {
        says("Stopped: 1; not begun any more: 1")(messages) && says("⏹ Stopped.")(messages)
    })
    .await;
    let tasks = all_tasks(&app);
    let tasks = tasks.await.unwrap();
    assert_eq!(tasks.len(), 1, "the second never began");
    assert_eq!(tasks[0].state, TaskState::Cancelled);
    app.stop().await;
}

async fn updates_that_come_again_change_nothing(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let app = open(&fake, kind, &reply("Once."), "").await;
    let update = fake.user_says(ADA, ADA, "Do it");
    until(&fake, ADA, says("Once.")).await;
    for _ in 0..3 {
        assert!(fake.redeliver(update));
    }
    fake.user_says(ADA, ADA, "/status");
    until(&fake, ADA, says("Nothing is going on")).await;
    let app = app.down(PATIENCE).await.start().await;
    assert!(fake.redeliver(update));
    app.app.open_channels().unwrap();
    fake.user_says(ADA, ADA, "/agents");
    let messages = until(&fake, ADA, says("worker: The worker")).await;
    let answers = texts(&messages).into_iter().filter(|text| *text == "Once.");
    assert_eq!(answers.count(), 1);
    app.stop().await;
}

async fn replies_that_get_lost_cost_a_placeholder_at_most(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let app = open(&fake, kind, &reply("Once."), "").await;
    fake.fail_next("sendMessage", FailHow::DropAfter);
    fake.fail_next("editMessageText", FailHow::DropAfter);
    fake.fail_next("editMessageText", FailHow::DropBefore);
    fake.user_says(ADA, ADA, "Do it");
    let messages = until(&fake, ADA, says("Once.")).await;
    let answers = texts(&messages).into_iter().filter(|text| *text == "Once.");
    assert_eq!(answers.count(), 1);
    assert!(messages.len() <= 2, "{:?}", texts(&messages));
    app.stop().await;
}

async fn a_chat_that_is_gone_is_given_up_and_an_admin_is_told(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let hang =
        "[[agent.fault]]\nturn = 1\nfault = \"timeout\"\n[[agent.reply]]\ntext = \"never\"\n";
    let app = open(&fake, kind, hang, "").await;
    fake.user_says(ADA, ADA, "First");
    until(&fake, ADA, says("thinking")).await;
    fake.block(ADA);
    let tasks = all_tasks(&app);
    let task = tasks.await.unwrap().remove(0).id;
    assert!(app.app.desk.cancel(task, "test").await.unwrap());
    let mail = app.app.store.mail();
    let mut state = String::new();
    for _ in 0..1000 {
        state = mail.card(app.app.tenant(), task).await.unwrap().unwrap().1;
        if state != "owed" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(state, "dead");
    app.stop().await;
}

async fn an_old_message_is_asked_about_first(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let app = open(&fake, kind, &reply("Better late."), "").await;
    let hours_ago = shared::clock::now().0 / 1000 - 3 * 3600;
    fake.says(Say::new(ADA, ADA, "Do it").dated(hours_ago));
    let messages = until(&fake, ADA, says("Shall I still do it?")).await;
    let question = messages[0].id;
    let keyboard = messages[0].keyboard.clone().unwrap();
    let data = keyboard[0][0]["callback_data"].clone();
    fake.press(ADA, question, ADA, data.as_str().unwrap());
    until(&fake, ADA, says("Better late.")).await;
    fake.press(ADA, question, ADA, data.as_str().unwrap());
    assert!(fake.until(PATIENCE, |fake| fake.presses().len() == 2).await);
    let tasks = all_tasks(&app);
    assert_eq!(tasks.await.unwrap().len(), 1);
    app.stop().await;
}
