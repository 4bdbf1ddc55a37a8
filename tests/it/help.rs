//! Work that cannot go on by itself waits for people, and goes on where it stood.

use std::sync::Arc;
use std::time::Duration;

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use majordomo_tests::tool::TestTool;
use majordomo_tests::wait::within;
use shared::ask::{AskKind, AskState, Asked, Decision};
use shared::id::TaskId;
use shared::run::{Effect, Failure, FailureKind};
use shared::store::AskFilter;
use shared::task::TaskState;
use supervisor::asks::{Decided, Who};

on_both_stores!(
    guidance_is_minded_and_the_work_goes_on,
    a_person_takes_over,
    nobody_helps_and_it_ends_as_it_would_have,
    at_a_limit_more_is_asked_for_and_given,
    a_provider_that_is_down_is_one_cause,
    the_supervisors_own_model_is_helped_too,
    waiting_for_help_outlives_the_process,
);

/// Work that cannot go on waits for an hour, and holds no slot meanwhile.
const HELPED: &str = "[escalation]\nwithin_h = 1\n[engine]\npark_after_s = 0.0\n";
const PATIENCE: Duration = Duration::from_secs(20);
/// Three calls that fail, and an answer where somebody said what to mind.
const FAILS: &str = "[[agent.reply]]\nuser = \"says: look\"\ntext = \"Found behind the shelf.\"\n\
    [[agent.reply]]\ncalls = [{ tool = \"find\", args = { n = 1 } }]\n\
    [[agent.reply]]\ncalls = [{ tool = \"find\", args = { n = 2 } }]\n\
    [[agent.reply]]\ntext = \"I try once more.\"\ncalls = [{ tool = \"find\", args = { n = 3 } }]\n\
    [[agent.reply]]\ntext = \"Found.\"\n";

fn failing() -> Arc<TestTool> {
    let tool = TestTool::new("find", Effect::Pure, |called| async move {
        Err(Failure::new(
            FailureKind::Permanent,
            format!("nothing at {}", called.n),
        ))
    });
    Arc::new(tool)
}

fn boss() -> Who {
    Who {
        principal: "boss".into(),
        approves: true,
        keeps_budgets: true,
    }
}

async fn open(app: &TestApp) -> Vec<Asked> {
    let filter = AskFilter {
        open: true,
        limit: 9,
        ..AskFilter::default()
    };
    app.app.desk.asks(&boss(), &filter).await.unwrap()
}

/// The one ask that a task waits for.
async fn asked(app: &TestApp, task: TaskId) -> Asked {
    app.reaches(task, |task| task.state == TaskState::AwaitingHuman)
        .await;
    let mut found = open(app).await;
    found.retain(|asked| asked.task == task);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

async fn decide(app: &TestApp, asked: &Asked, decision: Decision) {
    let desk = &app.app.desk;
    let decided = desk.decide(asked.id, decision, &boss()).await.unwrap();
    assert!(matches!(decided, Decided::Taken(_)), "{decided:?}");
}

async fn guidance_is_minded_and_the_work_goes_on(kind: Kind) {
    let find = failing();
    let setup = Setup::worker(FAILS, &[&find], HELPED).on(kind);
    let app = setup.start().await;
    let id = app.submit(TestApp::request("Find it")).await;
    let found = asked(&app, id).await;
    assert_eq!(found.ask.kind, AskKind::Trouble);
    let (title, text) = (&found.ask.title, &found.ask.text);
    assert!(title.contains("find failed 3 times"), "{title}");
    assert!(
        text.contains("nothing at 2") && text.contains("I try once more."),
        "{text}"
    );
    let text = "look behind the shelf".into();
    decide(&app, &found, Decision::Guide { text }).await;
    let task = app.ends(id).await;
    assert_eq!(task.answer.as_deref(), Some("Found behind the shelf."));
    assert_eq!(find.calls(), vec![1, 2, 3]);
    app.stop().await;
}

async fn a_person_takes_over(kind: Kind) {
    let app = Setup::worker(FAILS, &[&failing()], HELPED)
        .on(kind)
        .start()
        .await;
    let id = app.submit(TestApp::request("Find it")).await;
    let found = asked(&app, id).await;
    let text = "It is in my pocket.".to_owned();
    decide(&app, &found, Decision::Reply { text }).await;
    let task = app.ends(id).await;
    assert_eq!(
        (task.state, task.answer.as_deref()),
        (TaskState::Done, Some("It is in my pocket."))
    );
    app.stop().await;
}

async fn nobody_helps_and_it_ends_as_it_would_have(kind: Kind) {
    let briefly = "[escalation]\nwithin_h = 0.0001\n[engine]\npark_after_s = 0.0\n";
    for (settings, gives_up) in [(HELPED, true), (briefly, false)] {
        let app = Setup::worker(FAILS, &[&failing()], settings)
            .on(kind)
            .start()
            .await;
        let id = app.submit(TestApp::request("Find it")).await;
        if gives_up {
            let found = asked(&app, id).await;
            decide(&app, &found, Decision::GiveUp).await;
        }
        let task = app.ends(id).await;
        let error = task.error.unwrap();
        assert_eq!(task.state, TaskState::Failed);
        assert!(error.contains("find failed 3 times"), "{error}");
        assert_eq!(task.partial.as_deref(), Some("I try once more."));
        app.stop().await;
    }
}

async fn at_a_limit_more_is_asked_for_and_given(kind: Kind) {
    let look = TestTool::reads("look");
    let replies: String = (1..=4)
        .map(|n| format!("[[agent.reply]]\ntimes = 1\ncalls = [{{ tool = \"look\", args = {{ n = {n} }} }}]\n"))
        .collect();
    let script = format!(
        "[[agent.reply]]\nuser = \"Stop here\"\ntimes = 1\ntext = \"Half of it: three.\"\n{replies}\
         [[agent.reply]]\ntext = \"All of it: four.\"\n"
    );
    let settings = format!("[limits]\nsteps = 6\n{HELPED}");
    let app = Setup::worker(&script, &[&look], &settings)
        .on(kind)
        .start()
        .await;
    let id = app.submit(TestApp::request("Look")).await;
    let found = asked(&app, id).await;
    assert_eq!(found.ask.kind, AskKind::Limit);
    assert!(
        found.ask.title.contains("limit of 6 steps"),
        "{}",
        found.ask.title
    );
    assert!(
        found.ask.text.contains("Half of it: three."),
        "{}",
        found.ask.text
    );
    let task = app.task(id).await;
    let own = Who {
        principal: task.principal.clone(),
        approves: false,
        keeps_budgets: false,
    };
    let more = Decision::More { usd: None };
    let denied = app
        .app
        .desk
        .decide(found.id, more.clone(), &own)
        .await
        .unwrap();
    assert!(matches!(denied, Decided::Denied(_)), "{denied:?}");
    decide(&app, &found, more).await;
    let task = app.ends(id).await;
    assert_eq!(task.answer.as_deref(), Some("All of it: four."));
    assert_eq!(
        look.calls(),
        vec![1, 2, 3, 4][..look.calls().len()].to_vec()
    );
    app.stop().await;
}

async fn a_provider_that_is_down_is_one_cause(kind: Kind) {
    // Three attempts fail, which is one call.
    let script =
        "[[agent.fault]]\nfault = 503\ntimes = 3\n[[agent.reply]]\ntext = \"Here it is.\"\n";
    let app = Setup::worker(script, &[], HELPED).on(kind).start().await;
    let id = app.submit(TestApp::request("Find it")).await;
    let found = asked(&app, id).await;
    let cause = found.ask.cause.clone().unwrap();
    assert_eq!(cause, "model/default/down");
    decide(&app, &found, Decision::Again).await;
    let task = app.ends(id).await;
    assert_eq!(task.answer.as_deref(), Some("Here it is."));
    app.stop().await;
}

async fn the_supervisors_own_model_is_helped_too(kind: Kind) {
    let script = "[[agent]]\nname = \"router\"\nsystem = \"supervisor\"\n\
        [[agent.fault]]\nfault = 503\ntimes = 3\n\
        [[agent.reply]]\nuser = \"write it yourself\"\n\
        text = '{\"reason\": \"known\", \"answer\": \"42\", \"steps\": []}'\n\
        [[agent.reply]]\ntext = \"no plan at all\"\n\
        [[agent.reply]]\ntext = \"no plan either\"\n\
        [[agent.reply]]\ntext = \"still none\"\n";
    let setup = Setup::scripted(script, HELPED)
        .agent("writer", "")
        .agent("other", "");
    let app = setup.on(kind).start().await;
    let id = app.submit(TestApp::request("How much?")).await;
    let down = asked(&app, id).await;
    assert!(down.ask.cause.is_some(), "{down:?}");
    decide(&app, &down, Decision::Again).await;
    let lost = within(PATIENCE, async || {
        let found = open(&app).await.into_iter();
        found.into_iter().find(|asked| asked.id != down.id)
    });
    let lost = lost.await.unwrap();
    assert!(
        lost.ask.title.contains("no usable plan"),
        "{}",
        lost.ask.title
    );
    let text = "write it yourself".into();
    decide(&app, &lost, Decision::Guide { text }).await;
    let task = app.ends(id).await;
    assert_eq!(task.answer.as_deref(), Some("42"));
    app.stop().await;
}

async fn waiting_for_help_outlives_the_process(kind: Kind) {
    let find = failing();
    let app = Setup::worker(FAILS, &[&find], HELPED)
        .on(kind)
        .start()
        .await;
    let id = app.submit(TestApp::request("Find it")).await;
    asked(&app, id).await;
    let app = app.down(Duration::ZERO).await.start().await;
    let found = asked(&app, id).await;
    assert_eq!(found.state, AskState::Open);
    let text = "look behind the shelf".into();
    decide(&app, &found, Decision::Guide { text }).await;
    let task = app.ends(id).await;
    assert_eq!(task.answer.as_deref(), Some("Found behind the shelf."));
    assert_eq!(find.calls(), vec![1, 2, 3]);
    app.stop().await;
}
