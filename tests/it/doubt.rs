//! An effect that nobody can vouch for: the run waits for a person, out of memory, and does nothing
//! twice whatever the person says.

use std::sync::Arc;

use serde_json::{Value, json};

use agents::run::doubt_signal;
use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::engine::done;
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use majordomo_tests::tool::{Called, TestTool, transient};
use shared::event::Event;
use shared::id::TaskId;
use shared::run::{Effect, Probe};
use shared::store::{Delivered, NewSignal, Run, RunState};
use shared::task::TaskState;

on_both_stores!(
    a_person_settles_what_nobody_else_can,
    the_doubt_is_told_with_its_evidence_and_survives_a_restart,
    a_far_side_that_can_tell_is_asked_before_any_person,
    a_run_whose_agent_is_gone_fails_and_says_so,
);

const SCRIPT: &str = "[[agent.reply]]\ntext = \"I send it.\"\ncalls = [{ tool = \"send\", args = { n = 5 } }]\n[[agent.reply]]\ntext = \"It is settled.\"\n";
const PARKS: &str = "[engine]\npark_after_s = 0.0\n";

/// A tool whose first attempt breaks off in the middle.
fn breaking(effect: Effect) -> TestTool {
    TestTool::new("send", effect, |called: Called| async move {
        match called.before {
            0 => Err(transient("the line broke").may_have_happened()),
            _ => Ok(json!("sent later")),
        }
    })
}

/// The worker's run, once it is out of memory.
async fn parked(app: &TestApp, task: TaskId) -> Run {
    app.reaches(task, |task| task.state == TaskState::AwaitingHuman)
        .await;
    loop {
        let runs = app.app.store.runs(app.app.tenant(), task).await.unwrap();
        if runs.iter().all(|run| run.state == RunState::Waiting) {
            return runs.into_iter().find(|run| run.parent.is_some()).unwrap();
        }
        // Parking tells nobody.
        tokio::task::yield_now().await;
    }
}

async fn decide(app: &TestApp, run: &Run, decision: Value) -> Delivered {
    let signal = NewSignal {
        tenant: app.app.tenant().clone(),
        run: run.id,
        name: doubt_signal(&"tool/1.0".into()),
        payload: decision,
        by: "ada".into(),
    };
    app.app.store.deliver(signal).await.unwrap()
}

async fn a_person_settles_what_nobody_else_can(kind: Kind) {
    // The decision, what the model is then told, and how often it was sent in all.
    let cases = [
        (
            json!({"decision": "happened", "result": "number 17"}),
            "number 17",
            1,
        ),
        (json!({"decision": "again"}), "sent later", 2),
        (
            json!({"decision": "give_up"}),
            "a person decided to leave it",
            1,
        ),
        (
            json!({"decision": "yes please"}),
            "a person's decision could not be read",
            1,
        ),
        (json!(null), "could not be read", 1),
    ];
    for (decision, told, sent) in cases {
        let send = Arc::new(breaking(Effect::Once));
        let app = Setup::worker(SCRIPT, &[&send], PARKS)
            .on(kind)
            .start()
            .await;
        let id = app.submit(TestApp::request("Send it")).await;
        let run = parked(&app, id).await;
        assert_eq!(decide(&app, &run, decision.clone()).await, Delivered::First);
        assert_eq!(
            decide(&app, &run, json!({"decision": "again"})).await,
            Delivered::Answered
        );
        let task = app.ends(id).await;
        assert_eq!(
            task.answer.as_deref(),
            Some("It is settled."),
            "{decision}: {:?}",
            task.error
        );
        assert!(app.told()[0].contains(told), "{decision}: {:?}", app.told());
        assert_eq!(send.calls(), vec![5; sent], "{decision}");
        app.stop().await;
    }
}

async fn the_doubt_is_told_with_its_evidence_and_survives_a_restart(kind: Kind) {
    let send = Arc::new(breaking(Effect::Once));
    let app = Setup::worker(SCRIPT, &[&send], PARKS)
        .on(kind)
        .start()
        .await;
    let id = app.submit(TestApp::request("Send it")).await;
    let run = parked(&app, id).await;
    let doubt = app
        .events(id)
        .await
        .into_iter()
        .find_map(|event| match event {
            Event::InDoubt { what, evidence, .. } => Some((what, evidence)),
            _ => None,
        });
    let (what, evidence) = doubt.expect("it is told");
    let evidence: Vec<&str> = evidence.iter().map(|known| known.kind.as_str()).collect();
    assert_eq!(
        (what.as_str(), evidence),
        ("send", vec!["why", "begun_at_ms", "attempt", "effect"])
    );

    let app = app.down(std::time::Duration::ZERO).await.start().await;
    assert_eq!(app.task(id).await.state, TaskState::AwaitingHuman);
    decide(&app, &run, json!({"decision": "happened", "result": 17})).await;
    assert_eq!(app.ends(id).await.state, TaskState::Done);
    assert_eq!((app.told(), send.calls()), (vec!["17".to_owned()], vec![5]));
    let states = app
        .events(id)
        .await
        .into_iter()
        .filter_map(|event| match event {
            Event::State {
                state, agent: None, ..
            } => Some(state),
            _ => None,
        });
    let states = states.skip_while(|state| *state != TaskState::AwaitingHuman);
    let after = [
        TaskState::AwaitingHuman,
        TaskState::Running,
        TaskState::Done,
    ];
    assert_eq!(states.collect::<Vec<_>>(), after);
    app.stop().await;
}

async fn a_far_side_that_can_tell_is_asked_before_any_person(kind: Kind) {
    let happened = || Probe::Happened(done(json!("found in the outbox")));
    type Case = (fn() -> Probe, &'static str, usize);
    let cases: [Case; 2] = [
        (happened, "found in the outbox", 1),
        (|| Probe::DidNot, "sent later", 2),
    ];
    for (probe, told, sent) in cases {
        let send = Arc::new(breaking(Effect::Verifiable).probed(move |_| async move { probe() }));
        let app = Setup::worker(SCRIPT, &[&send], PARKS)
            .on(kind)
            .start()
            .await;
        let task = app.ask("Send it").await;
        assert_eq!(task.state, TaskState::Done, "{:?}", task.error);
        assert_eq!(
            (app.told(), send.calls().len()),
            (vec![told.to_owned()], sent)
        );
        app.stop().await;
    }
    let send = Arc::new(breaking(Effect::Verifiable));
    let app = Setup::worker(SCRIPT, &[&send], PARKS)
        .on(kind)
        .start()
        .await;
    let id = app.submit(TestApp::request("Send it")).await;
    let run = parked(&app, id).await;
    decide(&app, &run, json!({"decision": "give_up"})).await;
    assert_eq!(app.ends(id).await.state, TaskState::Done);
    assert_eq!(send.calls().len(), 1);
    app.stop().await;
}

/// An agent that the configuration does not know any more ends its run with a word, not in silence.
async fn a_run_whose_agent_is_gone_fails_and_says_so(kind: Kind) {
    let send = Arc::new(breaking(Effect::Once));
    let app = Setup::worker(SCRIPT, &[&send], PARKS)
        .on(kind)
        .start()
        .await;
    let id = app.submit(TestApp::request("Send it")).await;
    let run = parked(&app, id).await;
    let app = app
        .down(std::time::Duration::ZERO)
        .await
        .without("agents/worker.toml")
        .agent("other", "")
        .config(
            "majordomo.toml",
            "[models.default]\nprovider = \"scripted\"\nfile = \"script.toml\"\n",
        )
        .start()
        .await;
    decide(&app, &run, json!({"decision": "give_up"})).await;
    let task = app.ends(id).await;
    assert_eq!(
        (task.state, task.partial.as_deref()),
        (TaskState::Failed, Some("I send it."))
    );
    let error = task.error.unwrap();
    assert!(
        error.contains("agent worker is not configured any more"),
        "{error}"
    );
    app.stop().await;
}
