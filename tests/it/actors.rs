//! Agents' actors under trouble: killed, crowded, and holding tools that panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tokio::sync::{Barrier, watch};

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::tool::{Called, TestTool};
use shared::run::{Effect, Outcome};
use shared::task::TaskState;

const IN_FLIGHT: usize = 100;
const SCRIPT: &str =
    "[[agent.reply]]\ncalls = [{ tool = \"look\" }]\n[[agent.reply]]\ntext = \"Seen.\"\n";

/// A tool that waits for its gate to be opened, and says how many wait.
fn gated() -> (Arc<TestTool>, watch::Receiver<usize>, watch::Sender<bool>) {
    let (waiting, waits) = watch::channel(0);
    let (open, gate) = watch::channel(false);
    let look = TestTool::new("look", Effect::Pure, move |_: Called| {
        let (waiting, mut gate) = (waiting.clone(), gate.clone());
        async move {
            waiting.send_modify(|waiting| *waiting += 1);
            gate.wait_for(|open| *open).await.unwrap();
            Ok(json!("seen"))
        }
    });
    (Arc::new(look), waits, open)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_that_is_killed_over_a_hundred_operations_fails_none() {
    let (look, mut waits, open) = gated();
    let app = Setup::worker(SCRIPT, &[&look], "").start().await;
    let submitted = (0..IN_FLIGHT).map(|_| app.submit(TestApp::request("Look")));
    let tasks = join_all(submitted).await;
    waits
        .wait_for(|waiting| *waiting == IN_FLIGHT)
        .await
        .unwrap();
    app.app.agents.get(&"worker".into()).unwrap().kill();
    // What comes next meets an actor that is just coming back.
    open.send(true).unwrap();
    for id in tasks {
        assert_eq!(app.ends(id).await.state, TaskState::Done);
        for step in app.counted(id).await {
            let recorded = step.recorded.unwrap();
            assert!(matches!(recorded.outcome, Outcome::Done(_)), "{recorded:?}");
        }
    }
    assert_eq!(app.app.agents.away(), [], "the actor is back");
    assert_eq!(app.ask("Look").await.state, TaskState::Done);
    app.stop().await;
}

/// Work in hand outlives its actor, with the permit that it holds; the actor that begins anew takes
/// more work with what is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_actor_begins_anew_while_its_old_work_goes_on() {
    let (look, mut waits, open) = gated();
    let script = "[[agent.reply]]\nuser = \"Look\"\nturn = 1\ncalls = [{ tool = \"look\" }]\n[[agent.reply]]\ntext = \"Here.\"\n[[agent.reply]]\ntext = \"Seen.\"\n";
    let app = Setup::worker(script, &[&look], "")
        .and("agents/worker.toml", "[limits]\nconcurrency = 2\n")
        .start()
        .await;
    let first = app.submit(TestApp::request("Look")).await;
    waits.wait_for(|waiting| *waiting == 1).await.unwrap();
    app.app.agents.get(&"worker".into()).unwrap().kill();
    let second = tokio::time::timeout(Duration::from_secs(10), app.ask("Go"));
    assert_eq!(
        second.await.expect("the actor is back").answer.as_deref(),
        Some("Here.")
    );
    open.send(true).unwrap();
    assert_eq!(app.ends(first).await.answer.as_deref(), Some("Seen."));
    assert_eq!(look.calls().len(), 1, "nothing was done twice");
    app.stop().await;
}

/// Two work at once because each waits for another; never three, though six tasks want to.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_works_on_as_much_at_once_as_its_file_says() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let pair = Arc::new(Barrier::new(2));
    let seen = most.clone();
    let look = Arc::new(TestTool::new("look", Effect::Pure, move |_: Called| {
        let (now, most, pair) = (now.clone(), most.clone(), pair.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            pair.wait().await;
            tokio::task::yield_now().await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(json!("seen"))
        }
    }));
    let app = Setup::worker(SCRIPT, &[&look], "")
        .and("agents/worker.toml", "[limits]\nconcurrency = 2\n")
        .start()
        .await;
    let asked = (0..6).map(|_| app.ask("Look"));
    for task in join_all(asked).await {
        assert_eq!(task.state, TaskState::Done, "{:?}", task.error);
    }
    assert_eq!(seen.load(Ordering::SeqCst), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_panics_fails_its_own_call_alone() {
    let look = Arc::new(TestTool::new(
        "look",
        Effect::Pure,
        |called: Called| async move {
            assert_ne!(called.n, 13, "unlucky");
            Ok(json!("seen"))
        },
    ));
    let script = "[[agent.reply]]\ncalls = [{ tool = \"look\", args = { n = 12 } }, { tool = \"look\", args = { n = 13 } }]\n[[agent.reply]]\ntext = \"Seen.\"\n";
    let app = Setup::worker(script, &[&look], "").start().await;
    let worker = app.app.agents.get(&"worker".into()).unwrap();
    assert_eq!(app.ask("Look").await.state, TaskState::Done);
    assert_eq!(app.told(), ["seen", "error: look panicked"]);
    assert!(worker.is_alive());
    assert_eq!(look.calls().len(), 2, "a panic is not tried again");
    app.stop().await;
}
