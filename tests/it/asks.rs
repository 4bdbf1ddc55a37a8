//! People are asked before what cannot be taken back, and asked what only they know: in chats, with
//! buttons and replies; and nothing happens that nobody decided.

use std::sync::Arc;
use std::time::Duration;

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::doubles::telegram::{FakeTelegram, Message, Say};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use majordomo_tests::tool::{Called, TestTool, transient};
use serde_json::{Value, json};
use shared::ask::{AskKind, AskState, Asked, Decision};
use shared::run::Effect;
use shared::store::{AskFilter, NewOut, OutState, Telling, Told};
use shared::task::TaskState;
use supervisor::asks::{Decided, Who};

on_both_stores!(
    nothing_is_done_before_somebody_else_approves_it,
    an_approval_is_used_once_and_for_what_was_shown,
    a_rejection_and_a_reply_reach_the_agent,
    an_edit_is_what_is_done,
    an_approval_for_the_task_covers_the_same_call_again,
    nobody_decides_and_nothing_is_done,
    two_at_once_make_one_decision,
    asks_outlive_the_process,
    a_question_is_answered_by_a_reply_or_a_button,
    a_card_shows_what_became_of_it_wherever_it_stands,
    changed_arguments_are_held_against_the_policy,
    leave_is_given_for_once_even_where_nobody_knows,
    a_card_that_was_on_its_way_is_owed_again_once_it_is_to_be_closed,
);

const SENDS: &str = "[[agent.reply]]\ntext = \"I send it.\"\n\
    calls = [{ tool = \"send\", args = { n = 5 } }]\n\
    [[agent.reply]]\ntext = \"It is settled.\"\n";
/// With what people are asked as by default.
const ASKED: &str = "[approvals]\nwithin_h = 1\n[engine]\npark_after_s = 0.0\n";
const ADA: i64 = 7;
const BOSS: i64 = 9;
const PATIENCE: Duration = Duration::from_secs(20);

fn sending() -> Arc<TestTool> {
    let tool = TestTool::new("send", Effect::Once, |called: Called| async move {
        Ok(json!(format!("number {}", called.before)))
    });
    Arc::new(tool)
}

async fn worker(kind: Kind, replies: &str, tool: &Arc<TestTool>, more: &str) -> TestApp {
    Setup::worker(replies, &[tool], more).on(kind).start().await
}

fn boss() -> Who {
    Who {
        principal: "boss".into(),
        approves: true,
        keeps_budgets: true,
    }
}

/// The asks of all tasks that somebody may still decide.
async fn open(app: &TestApp) -> Vec<Asked> {
    let filter = AskFilter {
        open: true,
        limit: 9,
        ..AskFilter::default()
    };
    app.app.desk.asks(&boss(), &filter).await.unwrap()
}

fn telling(told: Told, cards: Vec<NewOut>) -> Telling {
    Telling {
        told,
        cards,
        rungs: None,
    }
}

/// The one ask of a task that waits.
async fn asked(app: &TestApp, task: shared::id::TaskId) -> Asked {
    app.reaches(task, |task| task.state == TaskState::AwaitingHuman)
        .await;
    let mut found = open(app).await;
    found.retain(|asked| asked.task == task);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

async fn decide(app: &TestApp, asked: &Asked, decision: Decision) -> Decided {
    let desk = &app.app.desk;
    desk.decide(asked.id, decision, &boss()).await.unwrap()
}

const YES: Decision = Decision::Approve { for_task: false };

async fn nothing_is_done_before_somebody_else_approves_it(kind: Kind) {
    let send = sending();
    let app = worker(kind, SENDS, &send, ASKED).await;
    let id = app.submit(TestApp::request("Send it")).await;
    let found = asked(&app, id).await;
    assert_eq!(found.ask.kind, AskKind::Approval);
    let action = found.ask.action.as_ref().unwrap();
    assert_eq!(
        (action.tool.as_str(), &action.args),
        ("send", &json!({"n": 5}))
    );
    assert!(send.calls().is_empty());

    let task = app.task(id).await;
    let desk = &app.app.desk;
    let own = Who {
        principal: task.principal.clone(),
        approves: true,
        keeps_budgets: true,
    };
    let denied = desk.decide(found.id, YES, &own).await.unwrap();
    assert!(
        matches!(denied, Decided::Denied(_)),
        "self-approval: {denied:?}"
    );
    let stranger = Who {
        principal: "eve".into(),
        approves: false,
        keeps_budgets: false,
    };
    let hidden = desk.decide(found.id, YES, &stranger).await.unwrap();
    assert_eq!(hidden, Decided::Missing);
    let unfit = decide(&app, &found, Decision::Again).await;
    assert!(matches!(unfit, Decided::Unfit(_)), "{unfit:?}");
    assert!(send.calls().is_empty());

    assert!(matches!(decide(&app, &found, YES).await, Decided::Taken(_)));
    let task = app.ends(id).await;
    assert_eq!(task.answer.as_deref(), Some("It is settled."));
    assert_eq!(
        (send.calls(), app.told()),
        (vec![5], vec!["number 0".into()])
    );
    app.stop().await;
}

async fn an_approval_is_used_once_and_for_what_was_shown(kind: Kind) {
    let send = sending();
    let twice = "[[agent.reply]]\ntext = \"I send it.\"\n\
        calls = [{ tool = \"send\", args = { n = 5 } }, { tool = \"send\", args = { n = 5 } }]\n\
        [[agent.reply]]\ntext = \"It is settled.\"\n";
    let app = worker(kind, twice, &send, ASKED).await;
    let id = app.submit(TestApp::request("Send it")).await;
    let first = asked(&app, id).await;
    assert!(matches!(decide(&app, &first, YES).await, Decided::Taken(_)));
    let second = loop {
        let found = asked_again(&app, &first).await;
        if let Some(found) = found {
            break found;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(send.calls(), vec![5], "the second call is another one");
    assert!(matches!(
        decide(&app, &first, YES).await,
        Decided::Before(_)
    ));
    let no = Decision::Reject {
        reason: "once is enough".into(),
    };
    decide(&app, &second, no).await;
    app.ends(id).await;
    assert_eq!(send.calls(), vec![5]);
    app.stop().await;
}

async fn asked_again(app: &TestApp, first: &Asked) -> Option<Asked> {
    open(app)
        .await
        .into_iter()
        .find(|asked| asked.id != first.id)
}

async fn a_rejection_and_a_reply_reach_the_agent(kind: Kind) {
    let cases = [
        (
            Decision::Reject {
                reason: "the price is wrong".into(),
            },
            "boss rejected it: the price is wrong",
        ),
        (
            Decision::Reply {
                text: "call them instead".into(),
            },
            "instead boss says: call them instead",
        ),
    ];
    for (decision, told) in cases {
        let send = sending();
        let app = worker(kind, SENDS, &send, ASKED).await;
        let id = app.submit(TestApp::request("Send it")).await;
        let found = asked(&app, id).await;
        decide(&app, &found, decision).await;
        let task = app.ends(id).await;
        assert_eq!(task.answer.as_deref(), Some("It is settled."));
        assert!(app.told()[0].contains(told), "{:?}", app.told());
        assert!(send.calls().is_empty());
        app.stop().await;
    }
}

async fn an_edit_is_what_is_done(kind: Kind) {
    let send = sending();
    let app = worker(kind, SENDS, &send, ASKED).await;
    let id = app.submit(TestApp::request("Send it")).await;
    let found = asked(&app, id).await;
    let wrong = Decision::Edit {
        args: json!({"n": "six"}),
    };
    assert!(matches!(
        decide(&app, &found, wrong).await,
        Decided::Unfit(_)
    ));
    decide(
        &app,
        &found,
        Decision::Edit {
            args: json!({"n": 6}),
        },
    )
    .await;
    app.ends(id).await;
    assert_eq!(send.calls(), vec![6]);
    app.stop().await;
}

async fn an_approval_for_the_task_covers_the_same_call_again(kind: Kind) {
    let send = sending();
    let calls = |n: u8| {
        format!(
            "[[agent.reply]]\ntext = \"I send it.\"\ncalls = [{{ tool = \"send\", args = {{ n = {n} }} }}]\n"
        )
    };
    let script = calls(5) + &calls(5) + &calls(6) + "[[agent.reply]]\ntext = \"It is settled.\"\n";
    let app = worker(kind, &script, &send, ASKED).await;
    let id = app.submit(TestApp::request("Send it")).await;
    let first = asked(&app, id).await;
    decide(&app, &first, Decision::Approve { for_task: true }).await;
    let other = loop {
        if let Some(found) = asked_again(&app, &first).await {
            break found;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(other.ask.action.as_ref().unwrap().args, json!({"n": 6}));
    assert_eq!(send.calls(), vec![5, 5]);
    decide(&app, &other, YES).await;
    app.ends(id).await;
    assert_eq!(send.calls(), vec![5, 5, 6]);
    app.stop().await;
}

async fn nobody_decides_and_nothing_is_done(kind: Kind) {
    let send = sending();
    let soon = "[approvals]\nwithin_h = 0.0002\n[engine]\npark_after_s = 0.0\n";
    let app = worker(kind, SENDS, &send, soon).await;
    let id = app.submit(TestApp::request("Send it")).await;
    let task = app.ends(id).await;
    assert_eq!(task.answer.as_deref(), Some("It is settled."));
    assert!(
        app.told()[0].contains("nobody approved it in time"),
        "{:?}",
        app.told()
    );
    assert!(send.calls().is_empty() && open(&app).await.is_empty());
    let all = AskFilter {
        limit: 9,
        ..AskFilter::default()
    };
    let all = app.app.desk.asks(&boss(), &all).await.unwrap();
    assert_eq!(all[0].state, AskState::Lapsed);
    app.stop().await;
}

async fn two_at_once_make_one_decision(kind: Kind) {
    let send = sending();
    let app = worker(kind, SENDS, &send, ASKED).await;
    let id = app.submit(TestApp::request("Send it")).await;
    let found = asked(&app, id).await;
    let presses = (0..50).map(|n| {
        let (desk, id) = (app.app.desk.clone(), found.id);
        let who = Who {
            principal: format!("boss-{n}").as_str().into(),
            approves: true,
            keeps_budgets: true,
        };
        let decision = match n % 2 {
            0 => YES,
            _ => Decision::Reject {
                reason: "no".into(),
            },
        };
        async move { desk.decide(id, decision, &who).await.unwrap() }
    });
    let decided = futures::future::join_all(presses).await;
    let taken = decided
        .iter()
        .filter(|word| matches!(word, Decided::Taken(_)));
    assert_eq!(taken.count(), 1);
    let (verdict, _) = app
        .app
        .desk
        .asked(&boss(), found.id)
        .await
        .unwrap()
        .unwrap()
        .verdict
        .unwrap();
    app.ends(id).await;
    let sent = usize::from(verdict.decision == YES);
    assert_eq!(
        send.calls().len(),
        sent,
        "as the one decision says: {verdict:?}"
    );
    app.stop().await;
}

async fn asks_outlive_the_process(kind: Kind) {
    let send = sending();
    let app = worker(kind, SENDS, &send, ASKED).await;
    let id = app.submit(TestApp::request("Send it")).await;
    let found = asked(&app, id).await;
    let app = app.down(Duration::ZERO).await.start().await;
    let again = asked(&app, id).await;
    assert_eq!((again.id, &again.ask), (found.id, &found.ask));
    decide(&app, &again, YES).await;
    // The call may be under way by now: cut off, it would be in doubt, and a person asked about it.
    let app = app.down(PATIENCE).await.start().await;
    app.ends(id).await;
    assert_eq!(send.calls(), vec![5]);
    app.stop().await;
}

/// An instance with an open Telegram door: ada is a member, boss approves.
async fn chatting(
    fake: &FakeTelegram,
    kind: Kind,
    (replies, tools): (&str, &[&Arc<TestTool>]),
    agent: &str,
) -> TestApp {
    let secrets = tempfile::tempdir().unwrap().keep();
    let token = secrets.join("token");
    std::fs::write(&token, fake.token()).unwrap();
    let settings = format!(
        "{ASKED}[telegram]\ntoken = \"${{file:{}}}\"\napi_url = \"{}\"\n\n\
         [[people]]\nname = \"ada\"\ntelegram = {ADA}\n\
         [[people]]\nname = \"boss\"\ntelegram = {BOSS}\nroles = [\"member\", \"approver\"]\n",
        token.display(),
        fake.url()
    );
    let names: Vec<&str> = tools.iter().map(|tool| tool.name()).collect();
    let names = names
        .iter()
        .map(|name| format!("{name:?}"))
        .chain([agent.to_owned()]);
    let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    let setup = Setup::worker(replies, tools, &settings);
    let app = setup
        .agent("worker", &format!("tools = [{}]\n", names.join(", ")))
        .on(kind)
        .start()
        .await;
    app.app.open_channels().unwrap();
    app
}

async fn until(fake: &FakeTelegram, chat: i64, wanted: &str) -> Message {
    let found = |fake: &FakeTelegram| {
        let messages = fake.from_bot(chat).into_iter();
        messages.rev().find(|message| message.text.contains(wanted))
    };
    let held = fake.until(PATIENCE, |fake| found(fake).is_some()).await;
    assert!(held, "{wanted}: {:#?}", fake.from_bot(chat));
    found(fake).unwrap()
}

fn button(message: &Message, label: &str) -> String {
    let rows = message.keyboard.as_ref().and_then(Value::as_array);
    let mut buttons = rows
        .into_iter()
        .flatten()
        .filter_map(Value::as_array)
        .flatten();
    let found = buttons.find(|button| button["text"].as_str().is_some_and(|text| text == label));
    let found = found.unwrap_or_else(|| panic!("{label}: {:?}", message.keyboard));
    found["callback_data"].as_str().unwrap().to_owned()
}

async fn a_question_is_answered_by_a_reply_or_a_button(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let script = "[[agent.reply]]\ntext = \"I ask.\"\n\
        calls = [{ tool = \"ask_human\", args = { question = \"Which colour?\", choices = [\"Red\", \"Blue\"] } }]\n\
        [[agent.reply]]\ntext = \"I ask again.\"\n\
        calls = [{ tool = \"ask_human\", args = { question = \"How many?\" } }]\n\
        [[agent.reply]]\ntext = \"I ask once more.\"\n\
        calls = [{ tool = \"ask_human\", args = { question = \"By when?\" } }]\n\
        [[agent.reply]]\ntext = \"It is ordered.\"\n";
    let app = chatting(&fake, kind, (script, &[]), "\"ask_human\"").await;
    fake.user_says(ADA, ADA, "Order paint");
    let card = until(&fake, ADA, "Which colour?").await;
    fake.press(ADA, card.id, ADA, &button(&card, "Blue"));
    let card = until(&fake, ADA, "How many?").await;
    fake.says(Say::new(ADA, ADA, "three pots").replying_to(card.id));
    until(&fake, ADA, "By when?").await;
    // Nothing else is asked here: what is written is the answer.
    fake.user_says(ADA, ADA, "tomorrow");
    until(&fake, ADA, "It is ordered.").await;
    assert_eq!(app.told(), ["Blue", "three pots", "tomorrow"]);
    app.stop().await;
}

async fn a_card_shows_what_became_of_it_wherever_it_stands(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let send = sending();
    let app = chatting(&fake, kind, (SENDS, &[&send]), "").await;
    // A bot writes to nobody who has not written to it.
    fake.user_says(BOSS, BOSS, "/start");
    until(&fake, BOSS, "Hello boss").await;
    fake.user_says(ADA, ADA, "Send it");
    let mine = until(&fake, ADA, "worker wants to call send").await;
    let theirs = until(&fake, BOSS, "worker wants to call send").await;
    assert!(theirs.text.contains("\"n\": 5"), "in full: {}", theirs.text);
    fake.press(ADA, mine.id, ADA, &button(&mine, "Approve"));
    let yes = button(&theirs, "Approve");
    for _ in 0..3 {
        fake.press(BOSS, theirs.id, BOSS, &yes);
    }
    for (chat, card) in [(ADA, &mine), (BOSS, &theirs)] {
        let card = card.id;
        let held = fake
            .until(PATIENCE, |fake| {
                let mut messages = fake.from_bot(chat).into_iter();
                messages.any(|now| now.id == card && now.text.contains("Approved by boss"))
            })
            .await;
        assert!(held, "{:#?}", fake.from_bot(chat));
    }
    until(&fake, ADA, "It is settled.").await;
    assert_eq!(send.calls(), vec![5]);
    app.stop().await;
}

async fn changed_arguments_are_held_against_the_policy(kind: Kind) {
    let rules = format!(
        "{ASKED}[[approvals.rules]]\nargs = {{ n = \">100\" }}\napprovers = [\"chief\"]\n\
         [[approvals.rules]]\nargs = {{ n = \"<0\" }}\nthen = \"refuse\"\n"
    );
    for n in [500, -1] {
        let send = sending();
        let app = worker(kind, SENDS, &send, &rules).await;
        let id = app.submit(TestApp::request("Send it")).await;
        let found = asked(&app, id).await;
        let more = Decision::Edit {
            args: json!({ "n": n }),
        };
        decide(&app, &found, more).await;
        app.ends(id).await;
        assert!(send.calls().is_empty(), "{n}: {:?}", send.calls());
        assert!(app.told()[0].contains("not done"), "{:?}", app.told());
        app.stop().await;
    }
}

async fn leave_is_given_for_once_even_where_nobody_knows(kind: Kind) {
    let send = TestTool::new("send", Effect::Once, |called: Called| async move {
        match called.before {
            0 => Err(transient("the line broke").may_have_happened()),
            _ => Ok(json!("sent later")),
        }
    });
    let send = Arc::new(send);
    let app = worker(kind, SENDS, &send, ASKED).await;
    let id = app.submit(TestApp::request("Send it")).await;
    let first = asked(&app, id).await;
    decide(&app, &first, YES).await;
    let doubt = later(&app, AskKind::Doubt).await;
    decide(&app, &doubt, Decision::Again).await;
    let again = later(&app, AskKind::Approval).await;
    assert_eq!(send.calls(), vec![5], "once for one word");
    assert_ne!(again.id, first.id);
    decide(&app, &again, YES).await;
    app.ends(id).await;
    assert_eq!(send.calls(), vec![5, 5]);
    app.stop().await;
}

async fn a_card_that_was_on_its_way_is_owed_again_once_it_is_to_be_closed(kind: Kind) {
    for on_its_way in [true, false] {
        let send = sending();
        // Its chats are closed: the test does what they would.
        let app = worker(kind, SENDS, &send, ASKED).await;
        let id = app.submit(TestApp::request("Send it")).await;
        let found = asked(&app, id).await;
        let (store, tenant) = (&app.app.store, app.app.tenant());
        let duty = store.hold("test", app.app.worker()).await.unwrap().unwrap();
        let card = NewOut {
            channel: "telegram".into(),
            key: format!("ask/{}/7", found.id),
            conversation: "7".into(),
            body: json!({}),
        };
        let told = store
            .asks()
            .tell(&duty, (tenant, &found), telling(Told::Asked, vec![card]));
        assert!(told.await.unwrap());
        let owed = async || store.mail().owed(tenant, "telegram", 0, 9).await.unwrap();
        let out = owed().await.remove(0);
        let brought = async || {
            let far = ["1".to_owned()];
            let record = store
                .mail()
                .record(&duty, out.seq, (&far, 0), OutState::Open);
            assert!(record.await.unwrap());
        };
        if !on_its_way {
            brought().await;
            assert!(owed().await.is_empty(), "it stands there");
        }
        decide(&app, &found, YES).await;
        let closed = store
            .asks()
            .tell(&duty, (tenant, &found), telling(Told::Closed, Vec::new()));
        assert!(closed.await.unwrap());
        if on_its_way {
            brought().await;
        }
        assert_eq!(owed().await.len(), 1, "on its way: {on_its_way}");
        app.ends(id).await;
        app.stop().await;
    }
}

/// The open ask of this kind, when there is one.
async fn later(app: &TestApp, kind: AskKind) -> Asked {
    loop {
        let found = open(app)
            .await
            .into_iter()
            .find(|asked| asked.ask.kind == kind);
        if let Some(found) = found {
            return found;
        }
        tokio::task::yield_now().await;
    }
}
