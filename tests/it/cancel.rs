//! What a person keeps, and pays, who cancels a task.

use shared::event::Event;
use shared::id::TaskId;
use shared::money::Usage;
use shared::store::Step;
use shared::task::{Task, TaskState};

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::engine::next_event;
use majordomo_tests::tool::TestTool;

const PRICE: &str = "price = { input = 1.0, output = 2.0 }\n";

/// Hands a task in and waits until `agent` makes its model call `key`, which never ends.
async fn hanging(app: &TestApp, agent: &str, key: &str) -> TaskId {
    let mut feed = app.app.watch();
    let id = app.submit(TestApp::request("Go")).await;
    let there = |event: &Event| matches!(event, Event::Begun { agent: who, key: at, .. } if who.as_str() == agent && at.as_str() == key);
    while !there(&next_event(&mut feed).await) {}
    id
}

async fn cancel(app: &TestApp, id: TaskId) -> Task {
    assert!(app.app.desk.cancel(id, "enough").await.unwrap());
    app.task(id).await
}

/// What the steps of a task without an outcome reserve.
async fn reserved(app: &TestApp, id: TaskId) -> Usage {
    let steps = app.steps(id).await;
    let open = steps.iter().filter(|step| step.recorded.is_none());
    open.filter_map(|step: &Step| step.reserved).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_call_in_flight_is_paid_once_and_what_was_said_is_kept() {
    let look = TestTool::reads("look");
    let script = "[[agent.fault]]\nturn = 2\nfault = \"timeout\"\n[[agent.reply]]\ntext = \"I begin with the shelf.\"\ncalls = [{ tool = \"look\" }]\n[[agent.reply]]\ntext = \"never\"";
    let app = Setup::worker_priced(PRICE, script, &[&look], "")
        .start()
        .await;
    let id = hanging(&app, "worker", "think/2").await;
    let (before, stake) = (app.task(id).await.usage, reserved(&app, id).await);
    assert!(
        before.usd.nano() > 0 && stake.usd.nano() > 0,
        "{before:?} {stake:?}"
    );
    let task = cancel(&app, id).await;
    assert_eq!(task.state, TaskState::Cancelled);
    assert_eq!(task.partial.as_deref(), Some("I begin with the shelf."));
    assert_eq!(task.usage.usd, (before + stake).usd);
    assert_eq!(task.usage.tokens(), (before + stake).tokens());
    assert!(!app.app.desk.cancel(id, "again").await.unwrap());
    let setup = app.down(std::time::Duration::from_secs(5)).await;
    let app = setup.start().await;
    assert_eq!(
        app.task(id).await.usage,
        task.usage,
        "nothing more comes after it"
    );
    app.stop().await;
}

/// A researcher's result that the writer has said nothing about yet is what there is.
#[tokio::test(flavor = "multi_thread")]
async fn the_result_of_an_agent_that_was_done_is_kept() {
    let script = r#"
        [[agent]]
        name = "researcher"
        system = "You are the researcher"
        [[agent.reply]]
        text = "Leases are fenced."

        [[agent]]
        name = "writer"
        system = "You are the writer"
        [[agent.fault]]
        turn = 1
        fault = "timeout"
        [[agent.reply]]
        text = "never"
    "#;
    let route = "[[routes]]\nmatches = ''\nagents = [\"researcher\", \"writer\"]\n";
    let app = Setup::scripted(script, route)
        .agent("researcher", "")
        .agent("writer", "")
        .start()
        .await;
    let id = hanging(&app, "writer", "think/1").await;
    let task = cancel(&app, id).await;
    assert_eq!(task.partial.as_deref(), Some("Leases are fenced."));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cancels_before_anything_was_said_keeps_nothing() {
    let script =
        "[[agent.fault]]\nturn = 1\nfault = \"timeout\"\n[[agent.reply]]\ntext = \"never\"";
    let app = Setup::worker_priced(PRICE, script, &[], "").start().await;
    let id = hanging(&app, "worker", "think/1").await;
    let stake = reserved(&app, id).await;
    let task = cancel(&app, id).await;
    assert_eq!((task.partial, task.usage.usd), (None, stake.usd));
    app.stop().await;
}
