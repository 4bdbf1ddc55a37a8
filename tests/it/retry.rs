//! The one retry policy, on real calls: what is tried again, what it costs, and what the model hears.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use majordomo_tests::tool::{Called, TestTool, permanent, transient};
use shared::event::Event;
use shared::run::{Effect, FailureKind};
use shared::store::StepKind;
use shared::task::{Task, TaskState};

on_both_stores!(
    a_provider_that_asks_for_patience_gets_it,
    two_server_errors_are_survived_and_a_third_is_not,
    an_answer_that_breaks_off_is_paid_and_asked_for_again,
    a_tool_that_keeps_failing_is_a_failed_call_that_the_model_hears_of,
    what_is_wrong_for_good_is_tried_once,
    an_agents_file_sets_attempts_and_time_of_one_tool,
    what_is_not_repeatable_is_tried_again_only_when_it_certainly_did_not_happen,
    cancelling_ends_a_pause_at_once,
    what_was_said_before_the_model_failed_is_kept,
);

/// The failed attempts at the task's steps of this kind, as they are journaled.
async fn failures(app: &TestApp, task: &Task, kind: StepKind) -> Vec<Vec<String>> {
    let steps = app
        .steps(task.id)
        .await
        .into_iter()
        .filter(|step| step.kind == kind);
    let failed = |step: shared::store::Step| {
        let attempts = step.recorded.unwrap().attempts.into_iter();
        attempts
            .filter_map(|attempt| attempt.failure)
            .map(|failure| failure.message)
            .collect()
    };
    steps.map(failed).collect()
}

async fn pauses(app: &TestApp, task: &Task) -> Vec<u64> {
    let pause = |event| match event {
        Event::Retrying { pause_ms, .. } => Some(pause_ms),
        _ => None,
    };
    app.events(task.id)
        .await
        .into_iter()
        .filter_map(pause)
        .collect()
}

async fn a_provider_that_asks_for_patience_gets_it(kind: Kind) {
    let script =
        "[[agent.fault]]\nfault = 429\nretry_after_s = 0.05\n[[agent.reply]]\ntext = \"Here.\"";
    let app = Setup::worker(script, &[], "").on(kind).start().await;
    let task = app.ask("Go").await;
    assert_eq!(task.answer.as_deref(), Some("Here."));
    assert_eq!(pauses(&app, &task).await, [50]);
    assert_eq!(failures(&app, &task, StepKind::Think).await[0].len(), 1);
    assert_eq!(app.counted(task.id).await.len(), 1, "attempts are no steps");
    app.stop().await;
}

async fn two_server_errors_are_survived_and_a_third_is_not(kind: Kind) {
    for (times, state) in [(2, TaskState::Done), (3, TaskState::Failed)] {
        let script = format!(
            "[[agent.fault]]\nfault = 500\ntimes = {times}\n[[agent.reply]]\ntext = \"Here.\""
        );
        let app = Setup::worker(&script, &[], "").on(kind).start().await;
        let task = app.ask("Go").await;
        assert_eq!(task.state, state, "{:?}", task.error);
        assert_eq!(failures(&app, &task, StepKind::Think).await[0].len(), times);
        assert_eq!(app.requests().len(), 3);
        if let Some(error) = task.error {
            assert!(
                error.contains("worker failed") && error.contains("500"),
                "{error}"
            );
        }
        app.stop().await;
    }
}

async fn an_answer_that_breaks_off_is_paid_and_asked_for_again(kind: Kind) {
    let script = "[[agent.fault]]\nfault = \"cut\"\n[[agent.reply]]\ntext = \"Here it is.\"\nusage = { tokens_in = 100, tokens_out = 10 }";
    let price = "price = { input = 1.0, output = 1.0 }\n";
    let app = Setup::worker_priced(price, script, &[], "")
        .on(kind)
        .start()
        .await;
    let task = app.ask("Go").await;
    assert_eq!(task.answer.as_deref(), Some("Here it is."));
    let step = app.counted(task.id).await.remove(0);
    let recorded = step.recorded.unwrap();
    let [cut, whole] = recorded.attempts.as_slice() else {
        panic!("{recorded:?}")
    };
    assert!(
        cut.usage.assumed && cut.usage.tokens_out == 2048,
        "nobody said what it used"
    );
    assert_eq!((whole.usage.tokens_in, whole.usage.tokens_out), (100, 10));
    assert_eq!(task.usage.usd, cut.usage.usd + whole.usage.usd);
    assert_eq!(
        task.usage.tokens(),
        cut.usage.tokens() + whole.usage.tokens()
    );
    app.stop().await;
}

async fn a_tool_that_keeps_failing_is_a_failed_call_that_the_model_hears_of(kind: Kind) {
    let look = TestTool::fails("look", Effect::Pure, transient("the shelf is away"));
    let script =
        "[[agent.reply]]\ncalls = [{ tool = \"look\" }]\n[[agent.reply]]\ntext = \"Then not.\"";
    let app = Setup::worker(script, &[&look], "").on(kind).start().await;
    let task = app.ask("Go").await;
    assert_eq!(task.answer.as_deref(), Some("Then not."));
    assert_eq!(app.told(), ["error: the shelf is away"]);
    assert_eq!(
        failures(&app, &task, StepKind::Tool).await,
        [["the shelf is away"; 3]]
    );
    app.stop().await;
}

async fn what_is_wrong_for_good_is_tried_once(kind: Kind) {
    let look = TestTool::fails("look", Effect::Pure, permanent("there is no shelf"));
    let script =
        "[[agent.reply]]\ncalls = [{ tool = \"look\" }]\n[[agent.reply]]\ntext = \"Then not.\"";
    let app = Setup::worker(script, &[&look], "").on(kind).start().await;
    assert_eq!(app.ask("Go").await.state, TaskState::Done);
    assert_eq!(look.calls().len(), 1);
    app.stop().await;
}

async fn an_agents_file_sets_attempts_and_time_of_one_tool(kind: Kind) {
    let look = Arc::new(TestTool::new(
        "look",
        Effect::Pure,
        |called: Called| async move {
            if called.before == 0 {
                called.cancel.cancelled().await;
            }
            Err(transient("too early"))
        },
    ));
    let other = TestTool::fails("other", Effect::Pure, transient("away"));
    let script = "[[agent.reply]]\ncalls = [{ tool = \"look\" }, { tool = \"other\" }]\n[[agent.reply]]\ntext = \"Then not.\"";
    let app = Setup::worker(script, &[&look, &other], "")
        .and(
            "agents/worker.toml",
            "[tool.look]\ntimeout_s = 1\nretry = { attempts = 2, base_s = 0.001 }\n",
        )
        .on(kind)
        .start()
        .await;
    let task = app.ask("Go").await;
    let mut failed = failures(&app, &task, StepKind::Tool).await;
    failed.sort_by_key(Vec::len);
    assert_eq!(failed[0], ["look did not answer within 1 s", "too early"]);
    assert_eq!(
        failed[1], ["away"; 3],
        "the other tool keeps the policy of all"
    );
    app.stop().await;
}

/// An effect that may have happened is not tried again, however transient the failure.
async fn what_is_not_repeatable_is_tried_again_only_when_it_certainly_did_not_happen(kind: Kind) {
    let send = Arc::new(TestTool::new(
        "send",
        Effect::Once,
        |called: Called| async move {
            match called.before {
                0 => Err(transient("refused at the door")),
                _ => Ok(json!("sent")),
            }
        },
    ));
    let script =
        "[[agent.reply]]\ncalls = [{ tool = \"send\" }]\n[[agent.reply]]\ntext = \"Sent.\"";
    let app = Setup::worker(script, &[&send], "").on(kind).start().await;
    assert_eq!(app.ask("Go").await.state, TaskState::Done);
    assert_eq!(send.calls().len(), 2);
    app.stop().await;
}

/// There is one place in memory: while the cancelled run paused in it, nobody else could answer.
async fn cancelling_ends_a_pause_at_once(kind: Kind) {
    let look = TestTool::fails("look", Effect::Pure, transient("away"));
    let script = "[[agent.reply]]\nuser = \"Go\"\ncalls = [{ tool = \"look\" }]\n[[agent.reply]]\nuser = \"Next\"\ntext = \"Here.\"";
    let app = Setup::worker(script, &[&look], "[engine]\nlive_runs = 1\n")
        .and(
            "agents/worker.toml",
            "[tool.look]\nretry = { base_s = 60.0, cap_s = 60.0 }\n",
        )
        .on(kind)
        .start()
        .await;
    let mut feed = app.app.watch();
    let paused = app.submit(TestApp::request("Go")).await;
    while !matches!(
        majordomo_tests::engine::next_event(&mut feed).await,
        Event::Retrying { .. }
    ) {}
    assert!(
        app.app
            .desk
            .cancel(paused, "changed my mind")
            .await
            .unwrap()
    );
    let next = tokio::time::timeout(Duration::from_secs(10), app.ask("Next")).await;
    assert_eq!(
        next.expect("the place is free at once").state,
        TaskState::Done
    );
    assert_eq!(app.task(paused).await.state, TaskState::Cancelled);
    app.stop().await;
}

/// A model that cannot be reached is no reason to lose what was said before.
async fn what_was_said_before_the_model_failed_is_kept(kind: Kind) {
    let look = TestTool::reads("look");
    let script = "[[agent.fault]]\nturn = 2\nfault = 400\n[[agent.reply]]\ntext = \"I begin with the shelf.\"\ncalls = [{ tool = \"look\" }]\n[[agent.reply]]\ntext = \"never\"";
    let app = Setup::worker(script, &[&look], "").on(kind).start().await;
    let task = app.ask("Go").await;
    assert_eq!(task.partial.as_deref(), Some("I begin with the shelf."));
    let step = app.counted(task.id).await.pop().unwrap();
    let failure = step.recorded.unwrap().attempts.remove(0).failure.unwrap();
    assert_eq!(
        failure.kind,
        FailureKind::Permanent,
        "tried once: {failure:?}"
    );
    app.stop().await;
}
