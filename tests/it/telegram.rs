//! The Telegram door against a server that behaves as the real one does.

use std::sync::Arc;
use std::time::Duration;

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::doubles::fault::FailHow;
use majordomo_tests::doubles::telegram::{FakeTelegram, Message, Say, Standing};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use majordomo_tests::tool::{Called, TestTool, transient};
use majordomo_tests::wait;
use shared::run::Effect;
use shared::store::TaskFilter;
use shared::task::{Task, TaskState};

use super::chats::{kept, reply, says, texts};

on_both_stores!(
    a_message_becomes_a_task_and_its_answer_comes_back_in_place,
    a_stranger_is_turned_away_once_with_their_number,
    commands_are_answered,
    what_comes_while_another_is_worked_on_waits_its_turn,
    what_waited_says_so_no_more_when_it_is_begun,
    updates_that_come_again_change_nothing,
    replies_that_get_lost_cost_a_placeholder_at_most,
    a_chat_that_is_gone_is_given_up_and_an_admin_is_told,
    an_old_message_is_asked_about_first,
    a_follow_up_knows_what_was_said_before_until_it_begins_anew,
    in_groups_those_who_name_us_are_heard_and_topics_stay_apart,
    a_second_poller_is_told_of_and_outlived,
    a_chat_that_wants_patience_holds_up_no_other,
    a_wrong_token_takes_nothing_else_down,
    a_document_becomes_part_of_the_task,
    an_edit_of_a_held_message_is_what_is_worked_on,
    what_is_deleted_again_and_again_is_given_up,
    what_nobody_can_vouch_for_is_settled_by_an_approvers_button,
    everything_is_stopped_by_an_admin_and_what_comes_meanwhile_waits,
    limits_are_shown_to_everybody_and_set_by_admins,
);

const ADA: i64 = 7;
const EVE: i64 = 8;
const PATIENCE: Duration = Duration::from_secs(20);

/// An instance with one agent and an open door.
async fn open(fake: &FakeTelegram, kind: Kind, replies: &str, more: &str) -> TestApp {
    open_with(fake, kind, (replies, &[]), more).await
}

/// The same, whose agent has tools.
async fn open_with(
    fake: &FakeTelegram,
    kind: Kind,
    (replies, tools): (&str, &[&Arc<TestTool>]),
    more: &str,
) -> TestApp {
    let settings = format!(
        "{more}\n[telegram]\ntoken = \"{}\"\napi_url = \"{}\"\n\n\
         [[people]]\nname = \"ada\"\ntelegram = {ADA}\nroles = [\"admin\"]\n",
        kept(&fake.token()),
        fake.url()
    );
    let app = Setup::worker(replies, tools, &settings)
        .on(kind)
        .start()
        .await;
    app.app.open_channels().unwrap();
    app
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

async fn all_tasks(app: &TestApp) -> Result<Vec<Task>, shared::store::Error> {
    let all = TaskFilter {
        limit: 9,
        ..TaskFilter::default()
    };
    app.app.desk.tasks(&all).await
}

async fn everything_is_stopped_by_an_admin_and_what_comes_meanwhile_waits(kind: Kind) {
    const BOB: i64 = 9;
    let fake = FakeTelegram::start().await;
    let bob = format!("[[people]]\nname = \"bob\"\ntelegram = {BOB}\n");
    let replies = reply("One.") + &reply("Two.");
    let app = open(&fake, kind, &replies, &bob).await;
    fake.user_says(BOB, BOB, "/stop all");
    until(&fake, BOB, says("Only an admin")).await;
    fake.user_says(ADA, ADA, "/stop all it posts nonsense");
    until(&fake, ADA, says("Everything stands still")).await;
    fake.user_says(BOB, BOB, "What is it?");
    let told = "I begin with this later: everything was stopped by ada";
    until(&fake, BOB, says(told)).await;
    fake.user_says(BOB, BOB, "And that?");
    fake.user_says(BOB, BOB, "/status");
    let messages = until(&fake, BOB, says("Nothing is going on here")).await;
    let told = texts(&messages)
        .iter()
        .filter(|text| text.contains(told))
        .count();
    assert_eq!(told, 1, "told once");
    assert!(all_tasks(&app).await.unwrap().is_empty());
    fake.user_says(ADA, ADA, "/resume all");
    until(&fake, ADA, says("Everything goes on where it stood")).await;
    until(&fake, BOB, says("One.")).await;
    let went_on = says("What was stopped goes on, and so does what you wrote.");
    let messages = until(&fake, BOB, went_on).await;
    assert!(!says("I begin with this later")(&messages), "it is changed");
    let messages = fake
        .until(PATIENCE, |fake| fake.from_bot(BOB).len() >= 5)
        .await;
    assert!(messages, "{:#?}", fake.from_bot(BOB));
    assert_eq!(
        all_tasks(&app).await.unwrap().len(),
        2,
        "both, when it went on"
    );
    app.stop().await;
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

async fn limits_are_shown_to_everybody_and_set_by_admins(kind: Kind) {
    const BOB: i64 = 9;
    let fake = FakeTelegram::start().await;
    let more = format!(
        "[budget]\nday = {{ usd = 20.0 }}\n[budget.users.bob]\nday = {{ usd = 2.0 }}\n\
         [[people]]\nname = \"bob\"\ntelegram = {BOB}\n"
    );
    let app = open(&fake, kind, &reply("Done."), &more).await;
    fake.user_says(BOB, BOB, "/budget");
    let messages = until(&fake, BOB, says("user:bob a day: $0.00 of $2.00 (0 %)")).await;
    assert!(!says("of $20.00")(&messages), "{:?}", texts(&messages));
    fake.user_says(BOB, BOB, "/budget set user bob 50/day");
    until(&fake, BOB, says("Only an admin may set limits")).await;
    fake.user_says(ADA, ADA, "/budget set user bob 5/day");
    until(&fake, ADA, says("The limit of user:bob is set.")).await;
    fake.user_says(ADA, ADA, "/budget set user bob a lot");
    until(&fake, ADA, says("Nothing was set")).await;
    fake.user_says(ADA, ADA, "/budget");
    let holds = |messages: &[Message]| {
        says("all a day: $0.00 of $20.00 (0 %)")(messages)
            && says("user:bob a day: $0.00 of $5.00 (0 %)")(messages)
    };
    until(&fake, ADA, holds).await;
    fake.user_says(BOB, BOB, "/budget");
    until(&fake, BOB, says("of $5.00 (0 %)")).await;
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
    let waited = until(&fake, ADA, says("Not begun: it was stopped.")).await;
    assert!(!says("I begin with this when")(&waited), "it is changed");
    app.stop().await;
}

async fn what_waited_says_so_no_more_when_it_is_begun(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let replies = "[[agent.fault]]\nturn = 1\nfault = \"timeout\"\n".to_owned() + &reply("Second.");
    let app = open(&fake, kind, &replies, "").await;
    fake.user_says(ADA, ADA, "First");
    until(&fake, ADA, says("thinking")).await;
    fake.user_says(ADA, ADA, "Second");
    until(&fake, ADA, says("I begin with this when")).await;
    let first = all_tasks(&app).await.unwrap().remove(0).id;
    assert!(app.app.desk.cancel(first, "test").await.unwrap());
    let messages = until(&fake, ADA, |messages| {
        says("Second.")(messages) && says("I have begun with this.")(messages)
    })
    .await;
    assert!(!says("I begin with this when")(&messages), "it is changed");
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
    wait::until("it is given up", PATIENCE, async || {
        let card = app.app.store.mail().card(app.app.tenant(), task).await;
        card.unwrap().unwrap().1 == "dead"
    })
    .await;
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
    let messages = until(&fake, ADA, |messages| {
        says("Better late.")(messages) && says("ada wants it done still")(messages)
    });
    let messages = messages.await;
    let asked = messages.iter().find(|message| message.id == question);
    let asked = asked.expect("it is changed, and not said anew");
    assert!(asked.text.contains("wants it done still") && asked.keyboard.is_none());
    fake.press_anyway(ADA, question, ADA, data.as_str().unwrap());
    assert!(fake.until(PATIENCE, |fake| fake.presses().len() == 2).await);
    let tasks = all_tasks(&app);
    assert_eq!(tasks.await.unwrap().len(), 1);
    app.stop().await;
}

async fn a_follow_up_knows_what_was_said_before_until_it_begins_anew(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let replies = ["One.", "Two.", "Three."].map(reply).concat();
    let app = open(&fake, kind, &replies, "").await;
    let mut asked = Vec::new();
    for (question, answer) in [
        ("And one?", "One."),
        ("/new", "A new"),
        ("And two?", "One."),
        ("And three?", "Two."),
    ] {
        let before = fake.sent(ADA);
        fake.user_says(ADA, ADA, question);
        let new = move |messages: &[Message]| {
            messages.len() > before
                && messages
                    .last()
                    .is_some_and(|last| last.text.contains(answer))
        };
        until(&fake, ADA, new).await;
        if !question.starts_with('/') {
            let request = app.requests().pop().unwrap();
            asked.push(serde_json::to_string(&request.messages).unwrap());
        }
    }
    assert!(
        !asked[1].contains("And one?"),
        "it began anew: {}",
        asked[1]
    );
    assert!(asked[2].contains("[ada] And two?"), "{}", asked[2]);
    app.stop().await;
}

async fn in_groups_those_who_name_us_are_heard_and_topics_stay_apart(kind: Kind) {
    const TEAM: i64 = -1001;
    let fake = FakeTelegram::start().await;
    let app = open(&fake, kind, &reply("Here."), "").await;
    let topics = fake.add_forum(TEAM, &["build", "run"], ADA);
    let name = format!("@{} ", fake.bot_username());
    fake.says(Say::new(TEAM, ADA, "Between people").in_topic(topics[0]));
    let ours = fake.says(Say::new(TEAM, ADA, format!("{name}say something")).in_topic(topics[1]));
    let messages = until(&fake, TEAM, says("Here.")).await;
    let answer = &messages[0];
    assert_eq!(
        (answer.thread, answer.reply_to),
        (Some(topics[1]), Some(ours.message_id))
    );
    fake.says(Say::new(TEAM, EVE, format!("{name}me too")).in_topic(topics[0]));
    let messages = until(&fake, TEAM, says("I do not know you yet")).await;
    assert_eq!((messages.len(), messages[1].thread), (2, Some(topics[0])));
    let tasks = all_tasks(&app).await.unwrap();
    assert_eq!(tasks.len(), 1);
    assert_eq!(tasks[0].request.text, "say something");
    let thread = format!("telegram/{TEAM}:{}", topics[1]);
    assert_eq!(tasks[0].request.thread.as_deref(), Some(thread.as_str()));
    app.stop().await;
}

async fn a_second_poller_is_told_of_and_outlived(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let app = open(&fake, kind, &reply("Still here."), "").await;
    fake.user_says(ADA, ADA, "/status");
    until(&fake, ADA, says("Nothing is going on")).await;
    fake.second_poller(false);
    let fault = || {
        app.app
            .channels
            .all()
            .into_iter()
            .find_map(|(_, fault)| fault)
    };
    let red = fake.until(PATIENCE, |_| fault().is_some()).await;
    assert!(
        red && fault().unwrap().contains("another program reads"),
        "{:?}",
        fault()
    );
    fake.no_second_poller();
    fake.user_says(ADA, ADA, "Do it");
    until(&fake, ADA, says("Still here.")).await;
    assert!(fake.until(PATIENCE, |_| fault().is_none()).await);
    app.stop().await;
}

async fn a_chat_that_wants_patience_holds_up_no_other(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let app = open(&fake, kind, &reply("Calm."), "").await;
    fake.add_group(-5, "Storm");
    fake.storm(-5, 600, 100);
    let name = format!("@{} do it", fake.bot_username());
    fake.mentions(-5, ADA, &name);
    assert!(
        fake.until(PATIENCE, |fake| !fake.calls_of("sendMessage").is_empty())
            .await
    );
    fake.user_says(ADA, ADA, "Do it");
    until(&fake, ADA, says("Calm.")).await;
    assert_eq!(fake.sent(-5), 0);
    let storms = fake.calls_of("sendMessage").len();
    assert!(storms <= 2, "it is left alone: {storms} calls");
    app.stop().await;
}

async fn a_wrong_token_takes_nothing_else_down(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let right = fake.token();
    fake.change_token("1:another");
    let token = fake.token();
    fake.change_token(&right);
    // The door was opened with a token that is not the bot's any more.
    let app = open(&fake, kind, &reply("Well again."), "").await;
    fake.change_token(&token);
    fake.user_says(ADA, ADA, "Do it");
    let fault = || {
        app.app
            .channels
            .all()
            .into_iter()
            .find_map(|(_, fault)| fault)
    };
    assert!(fake.until(PATIENCE, |_| fault().is_some()).await);
    assert!(!fault().unwrap().contains(&right), "no fault shows a token");
    let task = app.ask("Work all the same").await;
    assert_eq!(task.answer.as_deref(), Some("Well again."));
    fake.change_token(&right);
    until(&fake, ADA, says("Well again.")).await;
    app.stop().await;
}

async fn a_document_becomes_part_of_the_task(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let app = open(&fake, kind, &reply("Read."), "").await;
    let notes = "Backups run at 02:00.".as_bytes();
    fake.says(Say::new(ADA, ADA, "When?").with_document("notes.md", "text/markdown", notes));
    until(&fake, ADA, says("Read.")).await;
    let task = all_tasks(&app).await.unwrap().remove(0);
    let text = &task.request.text;
    assert_eq!(text, "When?\n\n## File notes.md\n\nBackups run at 02:00.");
    let program = [0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
    fake.says(Say::new(ADA, ADA, "Run it").with_document("notes.txt", "text/plain", program));
    until(&fake, ADA, says("I cannot read notes.txt")).await;
    assert_eq!(all_tasks(&app).await.unwrap().len(), 1);
    app.stop().await;
}

/// Whether a message has buttons that decide something: not those that take what people think of an answer.
fn asks(message: &Message) -> bool {
    let keyboard = message.keyboard.as_ref().map(ToString::to_string);
    keyboard.is_some_and(|keyboard| !keyboard.contains("\"f:good:"))
}

async fn an_edit_of_a_held_message_is_what_is_worked_on(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let app = open(&fake, kind, &reply("Better late."), "").await;
    let hours_ago = shared::clock::now().0 / 1000 - 3 * 3600;
    let held = |text| fake.says(Say::new(ADA, ADA, text).dated(hours_ago));
    let wanted = held("Do it").message_id;
    let messages = until(&fake, ADA, says("Shall I still do it?")).await;
    fake.user_edits(ADA, wanted, "Do it well");
    let press = |message: &Message, at: usize| {
        let keyboard = message.keyboard.clone().unwrap();
        let data = keyboard[0][at]["callback_data"]
            .as_str()
            .unwrap()
            .to_owned();
        fake.press(ADA, message.id, ADA, &data);
    };
    fake.user_says(ADA, ADA, "/status");
    until(&fake, ADA, says("Nothing is going on here.")).await;
    press(&messages[0], 0);
    until(&fake, ADA, says("Better late.")).await;
    let tasks = all_tasks(&app).await.unwrap();
    assert_eq!(tasks[0].request.text, "Do it well");
    // One that is not wanted takes its edit with it: nothing is said of either.
    let unwanted = held("Forget it").message_id;
    let two = |messages: &[Message]| {
        let mut asked = messages.iter().filter(|m| asks(m));
        asked.any(|m| m.reply_to == Some(unwanted))
    };
    let messages = until(&fake, ADA, two).await;
    fake.user_edits(ADA, unwanted, "Forget it all");
    fake.user_says(ADA, ADA, "/agents");
    until(&fake, ADA, says("worker: The worker")).await;
    press(messages.last().unwrap(), 1);
    let decided = |fake: &FakeTelegram| {
        let presses = fake.presses().into_iter();
        presses.filter(|press| press.answer.is_some()).count() == 2
    };
    assert!(fake.until(PATIENCE, decided).await);
    until(&fake, ADA, says("ada has me leave it alone")).await;
    // What lapses takes its question along.
    held("Forget this, too");
    until(&fake, ADA, says("Shall I still do it?")).await;
    fake.user_says(ADA, ADA, "/stop");
    let messages = until(&fake, ADA, says("Not begun: it was stopped.")).await;
    assert!(!messages.iter().any(asks));
    let (store, tenant) = (&app.app.store, app.app.tenant());
    let open = store
        .mail()
        .open_in(tenant, "telegram", "7", 9)
        .await
        .unwrap();
    let words = open
        .iter()
        .filter(|mail| mail.body["update"]["callback_query"].is_null());
    let words: Vec<_> = words.collect();
    assert!(words.is_empty(), "{words:#?}");
    assert_eq!(all_tasks(&app).await.unwrap().len(), 1);
    app.stop().await;
}

async fn what_is_deleted_again_and_again_is_given_up(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let app = open(&fake, kind, &reply("Here."), "").await;
    fake.user_says(ADA, ADA, "Where?");
    wait::until("it is given up", PATIENCE, async || {
        for message in fake.from_bot(ADA) {
            fake.user_deletes(ADA, message.id);
        }
        let Some(task) = all_tasks(&app).await.unwrap().pop() else {
            return false;
        };
        let card = app.app.store.mail().card(app.app.tenant(), task.id).await;
        card.unwrap().is_some_and(|(_, state)| state == "dead")
    })
    .await;
    assert!(fake.sent(ADA) <= 6, "{}", fake.sent(ADA));
    app.stop().await;
}

async fn what_nobody_can_vouch_for_is_settled_by_an_approvers_button(kind: Kind) {
    let send = TestTool::new("send", Effect::Once, |called: Called| async move {
        match called.before {
            0 => Err(transient("the line broke").may_have_happened()),
            _ => Ok(serde_json::json!("sent later")),
        }
    });
    let (fake, send) = (FakeTelegram::start().await, Arc::new(send));
    let replies = "[[agent.reply]]\ntext = \"I send it.\"\n\
                   calls = [{ tool = \"send\", args = { n = 5 } }]\n\
                   [[agent.reply]]\ntext = \"It is settled.\"\n";
    let more = format!("[[people]]\nname = \"eve\"\ntelegram = {EVE}\nroles = [\"member\"]\n");
    fake.add_group(-1005, "Team");
    for person in [ADA, EVE] {
        fake.set_standing(-1005, person, Standing::Member);
    }
    let app = open_with(&fake, kind, (replies, &[&send]), &more).await;
    fake.mentions(-1005, EVE, "Send five");
    let messages = until(&fake, -1005, says("broke off")).await;
    let shown = messages.iter().find(|message| asks(message));
    let card = shown.unwrap();
    let keyboard = card.keyboard.clone().unwrap();
    let data = |at: usize| {
        keyboard[0][at]["callback_data"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let answer = async |presses: usize| {
        let answered = |fake: &FakeTelegram| {
            let all = fake.presses();
            all.iter().filter(|press| press.answer.is_some()).count() == presses
        };
        assert!(fake.until(PATIENCE, answered).await, "{:?}", fake.presses());
        let presses = fake.presses().into_iter();
        presses.filter_map(|press| press.answer).collect::<Vec<_>>()
    };
    fake.press(-1005, card.id, EVE, &data(1));
    assert_eq!(answer(1).await, ["This is for an approver to decide."]);
    assert_eq!(send.calls().len(), 1, "nothing is done without a decision");
    fake.press(-1005, card.id, ADA, &data(1));
    until(&fake, -1005, says("It is settled.")).await;
    let messages = until(&fake, -1005, says("Do it again by ada")).await;
    let dead = messages.iter().find(|message| asks(message));
    assert!(dead.is_none(), "no dead button stays: {dead:?}");
    assert_eq!(send.calls().len(), 2);
    fake.press_anyway(-1005, card.id, ADA, &data(2));
    let late = answer(3).await;
    assert!(
        late.iter().any(|word| word.contains("Decided before")),
        "{late:?}"
    );
    assert_eq!(send.calls().len(), 2);
    app.stop().await;
}
