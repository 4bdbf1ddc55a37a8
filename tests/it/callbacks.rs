//! Callbacks against a receiver that is slow, in trouble, gone, or dies; it verifies each call by an
//! implementation of its own.

use std::time::Duration;

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::doubles::receiver::{Answer, Call, Receiver, SECRET};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use majordomo_tests::wait;
use shared::config::EgressSettings;
use shared::egress::Gateway;
use shared::id::TaskId;
use shared::store::Accepted;
use supervisor::channels::callback::address;
use supervisor::intake::Submission;

on_both_stores!(
    the_end_of_a_task_is_told_once_and_signed,
    a_receiver_in_trouble_is_called_again_with_the_same_id,
    a_receiver_that_is_gone_is_given_up_at_once,
    a_slow_receiver_holds_up_no_other,
    a_call_that_was_not_recorded_is_made_again_with_the_same_id,
    nobody_is_forgotten_however_often_it_is_stopped,
);

const PATIENCE: Duration = Duration::from_secs(30);

async fn open(kind: Kind, timeout_s: f64) -> TestApp {
    let secret = tempfile::tempdir().unwrap().keep().join("secret");
    std::fs::write(&secret, format!("whsec_{SECRET}\n")).unwrap();
    let settings = format!(
        "[egress]\nallow_private = [\"127.0.0.1\"]\n\n[callbacks]\nsecret = \"${{file:{}}}\"\n\
         first_pause_s = 0.001\ntimeout_s = {timeout_s}\n",
        secret.display()
    );
    let reply = "[[agent.reply]]\ntext = \"It is 42.\"\n";
    let app = Setup::worker(reply, &[], &settings).on(kind).start().await;
    app.app.open_channels().unwrap();
    app
}

/// Hands in a task whose end is to be told there.
async fn submit(app: &TestApp, receiver: &Receiver) -> TaskId {
    let allow_private = vec!["127.0.0.1".into()];
    let gateway = Gateway::new(&EgressSettings { allow_private }).unwrap();
    let submission = Submission {
        request: TestApp::request("What is it?"),
        principal: "local".into(),
        submitted_by: "local".into(),
        since: None,
        dedupe: None,
        read: None,
        card: Some(address::card(&gateway, &receiver.url).unwrap()),
        blobs: Vec::new(),
    };
    match app.app.intake.submit(submission).await.unwrap() {
        Accepted::New(id) => id,
        other => panic!("{other:?}"),
    }
}

/// Waits until a callback is not owed any more, and says what became of it.
async fn settled(app: &TestApp, task: TaskId) -> String {
    let settled = wait::within(PATIENCE, async || {
        let card = app.app.store.mail().card(app.app.tenant(), task).await;
        let (_, state) = card.unwrap().expect("owed from the start");
        (state != "owed").then_some(state)
    });
    settled.await.expect("settled in time")
}

fn assert_one_id(calls: &[Call]) {
    assert!(
        calls.iter().all(|call| call.id == calls[0].id),
        "{calls:#?}"
    );
}

async fn the_end_of_a_task_is_told_once_and_signed(kind: Kind) {
    let receiver = Receiver::start(&[]).await;
    let app = open(kind, 5.0).await;
    let task = submit(&app, &receiver).await;
    assert_eq!(settled(&app, task).await, "sent");
    let calls = receiver.until(1).await;
    assert_eq!(calls.len(), 1);
    let body = &calls[0].body;
    assert_eq!(body["id"], task.to_string());
    assert_eq!(
        (&body["state"], &body["answer"]),
        (&"done".into(), &"It is 42.".into())
    );
    assert!(
        body["steps"]
            .as_array()
            .is_some_and(|steps| !steps.is_empty())
    );
    let other = submit(&app, &receiver).await;
    assert_eq!(settled(&app, other).await, "sent");
    let calls = receiver.until(2).await;
    assert_ne!(calls[0].id, calls[1].id, "each task has its own");
    app.stop().await;
}

async fn a_receiver_in_trouble_is_called_again_with_the_same_id(kind: Kind) {
    let trouble = [
        Answer::Status(500),
        Answer::Later(429),
        Answer::Die,
        Answer::Redirect,
        Answer::Hang,
    ];
    let receiver = Receiver::start(&trouble).await;
    let app = open(kind, 1.0).await;
    let task = submit(&app, &receiver).await;
    assert_eq!(settled(&app, task).await, "sent");
    let calls = receiver.until(6).await;
    assert_eq!(calls.len(), 6, "{calls:#?}");
    assert_one_id(&calls);
    assert!(
        calls[2].at_ms - calls[1].at_ms >= 1000,
        "asked for patience"
    );
    assert!(calls[3].at_ms - calls[2].at_ms >= 360, "pauses grow");
    let card = app.app.store.mail().card(app.app.tenant(), task).await;
    assert_eq!(card.unwrap().unwrap().0.attempts, 5);
    app.stop().await;
}

async fn a_receiver_that_is_gone_is_given_up_at_once(kind: Kind) {
    let receiver = Receiver::start(&[Answer::Status(410), Answer::Status(404)]).await;
    let app = open(kind, 5.0).await;
    for count in 1..=2 {
        let task = submit(&app, &receiver).await;
        assert_eq!(settled(&app, task).await, "dead");
        assert_eq!(receiver.count(), count);
    }
    app.stop().await;
}

async fn a_slow_receiver_holds_up_no_other(kind: Kind) {
    let (slow, quick) = (
        Receiver::start(&[Answer::Hang; 100]).await,
        Receiver::start(&[]).await,
    );
    let app = open(kind, 200.0).await;
    for _ in 0..80 {
        submit(&app, &slow).await;
    }
    slow.until(4).await;
    let task = submit(&app, &quick).await;
    assert_eq!(settled(&app, task).await, "sent");
    assert_eq!(slow.count(), 4, "the others wait for their turns");
    app.stop().await;
}

async fn a_call_that_was_not_recorded_is_made_again_with_the_same_id(kind: Kind) {
    let receiver = Receiver::start(&[Answer::Hang, Answer::Hang]).await;
    let mut app = open(kind, 200.0).await;
    let task = submit(&app, &receiver).await;
    for calls in 1..=2 {
        receiver.until(calls).await;
        app = app.down(PATIENCE).await.start().await;
        app.app.open_channels().unwrap();
    }
    assert_eq!(settled(&app, task).await, "sent");
    let calls = receiver.until(3).await;
    assert_eq!(calls.len(), 3, "{calls:#?}");
    assert_one_id(&calls);
    app.stop().await;
}

async fn nobody_is_forgotten_however_often_it_is_stopped(kind: Kind) {
    const TASKS: usize = 40;
    const STOPS: usize = 5;
    let trouble = [Answer::Status(500), Answer::Die, Answer::Status(502)];
    let trouble: Vec<Answer> = trouble.into_iter().cycle().take(TASKS).collect();
    let receiver = Receiver::start(&trouble).await;
    let mut app = open(kind, 5.0).await;
    let mut tasks = Vec::new();
    for stop in 1..=STOPS {
        for _ in 0..TASKS / STOPS {
            tasks.push(submit(&app, &receiver).await);
        }
        receiver.until(stop * TASKS / STOPS / 2).await;
        app = app.down(Duration::ZERO).await.start().await;
        app.app.open_channels().unwrap();
    }
    for task in &tasks {
        assert_eq!(settled(&app, *task).await, "sent");
    }
    let calls = receiver.until(TASKS).await;
    let mut more = 0;
    for task in &tasks {
        let id = format!("msg_{task}");
        let taken = calls.iter().filter(|call| call.id == id && call.taken);
        let taken = taken.count();
        assert!(taken >= 1, "{id} never arrived");
        more += taken - 1;
    }
    let ids: std::collections::HashSet<&str> = calls.iter().map(|call| &*call.id).collect();
    assert_eq!(ids.len(), TASKS, "one id for each task and no other");
    assert!(
        more <= STOPS * 4,
        "{more} more than once: only calls under way at a stop may be"
    );
    app.stop().await;
}
