//! Always replay: a task that is taken out of memory at every step comes to the same end as one that
//! nobody disturbed, and touches the world no more often.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::engine::done;
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use majordomo_tests::tool::{Called, TestTool};
use shared::event::Event;
use shared::id::TaskId;
use shared::run::{Effect, Probe};
use shared::store::Step;
use shared::task::{Task, TaskState};

on_both_stores!(
    leaving_memory_at_every_step_changes_nothing,
    a_wrongly_declared_effect_is_what_this_would_catch,
);

/// A researcher that looks in two places at once and files what it found, and a writer after it.
const SCRIPT: &str = r#"
[[agent]]
name = "router"
system = "supervisor"
[[agent.reply]]
text = "ROUTE: finder"

[[agent]]
name = "finder"
system = "You are the finder"
[[agent.reply]]
text = "I look."
calls = [{ tool = "look", args = { n = 1 } }, { tool = "look", args = { n = 2 } }, { tool = "look", args = { n = "x" } }]
[[agent.reply]]
calls = [{ tool = "file", args = { n = 1 } }, { tool = "look", args = { n = 3 } }, { tool = "file", args = { n = 2 } }]
[[agent.reply]]
text = "Three findings, filed."

[[agent]]
name = "author"
system = "You are the author"
[[agent.reply]]
text = "It is so."
"#;

/// The filing cabinet: a world that remembers what was filed and how often.
type Cabinet = Arc<Mutex<Vec<i64>>>;

fn file(cabinet: &Cabinet) -> Arc<TestTool> {
    let (filed, asked) = (cabinet.clone(), cabinet.clone());
    let file = move |called: Called| {
        filed.lock().unwrap().push(called.n);
        async move { Ok(json!("filed")) }
    };
    let probe = move |called: Called| {
        let there = asked.lock().unwrap().contains(&called.n);
        async move {
            match there {
                true => Probe::Happened(done(json!("filed"))),
                false => Probe::DidNot,
            }
        }
    };
    Arc::new(TestTool::new("file", Effect::Verifiable, file).probed(probe))
}

fn setup(cabinet: &Cabinet, settings: &str) -> Setup {
    Setup::scripted(SCRIPT, settings)
        .agent(
            "finder",
            "tools = [\"look\", \"file\"]\nthen = \"author\"\n",
        )
        .agent("author", "")
        .tool(TestTool::reads("look"))
        .tool(file(cabinet))
}

/// Everything of a task that may not depend on how often it left memory: its end, its decisions, and
/// its steps with their outcomes. A child's outcome holds times and is that of its steps.
async fn end(app: &TestApp, task: &Task) -> String {
    let outcome = |step: Step| {
        let outcome = step.recorded.map(|recorded| recorded.outcome);
        format!("{} {} {outcome:?}", step.key, step.what)
    };
    let steps = app.counted(task.id).await.into_iter().map(outcome);
    let decided = app
        .events(task.id)
        .await
        .into_iter()
        .filter_map(|event| match event {
            Event::Decided { what, reason } => Some(format!("{what}: {reason}")),
            _ => None,
        });
    let mut lines: Vec<String> = steps.chain(decided).collect();
    lines.sort();
    format!("{:?} {:?}\n{}", task.state, task.answer, lines.join("\n"))
}

async fn leaving_memory_at_every_step_changes_nothing(kind: Kind) {
    let calm = Cabinet::default();
    let app = setup(&calm, "").on(kind).start().await;
    let task = app.ask("Is it so?").await;
    assert_eq!(
        (task.state, task.answer.as_deref()),
        (TaskState::Done, Some("It is so."))
    );
    assert_eq!(app.counted(task.id).await.len(), 10);
    let undisturbed = end(&app, &task).await;
    app.stop().await;

    let parked = Cabinet::default();
    let app = setup(&parked, "[engine]\npark_after_s = 0.0\n")
        .start()
        .await;
    let task = app.ask("Is it so?").await;
    assert_eq!(end(&app, &task).await, undisturbed);
    app.stop().await;

    let torn = Cabinet::default();
    let mut app = setup(&torn, "[engine]\npark_after_s = 0.0\n")
        .on(kind)
        .start()
        .await;
    let id = app.submit(TestApp::request("Is it so?")).await;
    let (mut steps, mut restarts) = (0, 0);
    while !app.task(id).await.state.is_final() {
        steps = next_step(&app, id, steps).await;
        app = app.down(Duration::ZERO).await.start().await;
        restarts += 1;
    }
    let task = app.task(id).await;
    assert_eq!(
        end(&app, &task).await,
        undisturbed,
        "after {restarts} restarts"
    );
    assert!(restarts >= 5, "only {restarts} restarts");
    app.stop().await;

    for filed in [&calm, &parked, &torn] {
        assert_eq!(*filed.lock().unwrap(), [1, 2]);
    }
}

/// Waits until more than `before` steps have their outcome, or the task is over. Answers how many.
async fn next_step(app: &TestApp, id: TaskId, before: usize) -> usize {
    let mut feed = app.app.watch();
    loop {
        let events = app.events(id).await;
        let ended = events
            .iter()
            .filter(|event| matches!(event, Event::Ended { .. }))
            .count();
        if ended > before || app.task(id).await.state.is_final() {
            return ended;
        }
        feed.recv().await.expect("the instance runs");
    }
}

/// The instance goes down between the effect and its record. A tool that is declared to read only,
/// though it files, files twice; declared rightly, once.
async fn a_wrongly_declared_effect_is_what_this_would_catch(kind: Kind) {
    for (effect, filed) in [(Effect::Verifiable, vec![7]), (Effect::Pure, vec![7, 7])] {
        let cabinet = Cabinet::default();
        let (done_once, mut happened) = watch::channel(false);
        let world = cabinet.clone();
        let work = move |called: Called| {
            let (world, done_once) = (world.clone(), done_once.clone());
            async move {
                world.lock().unwrap().push(called.n);
                if !done_once.send_replace(true) {
                    called.cancel.cancelled().await;
                }
                Ok(json!("filed"))
            }
        };
        let file = TestTool::new("file", effect, work)
            .probed(|_| async { Probe::Happened(done(json!("filed"))) });
        let script = "[[agent.reply]]\ncalls = [{ tool = \"file\", args = { n = 7 } }]\n[[agent.reply]]\ntext = \"Filed.\"\n";
        let app = Setup::worker(script, &[&Arc::new(file)], "")
            .on(kind)
            .start()
            .await;
        let id = app.submit(TestApp::request("File it")).await;
        happened.wait_for(|happened| *happened).await.unwrap();
        let app = app.down(Duration::ZERO).await.start().await;
        assert_eq!(app.ends(id).await.answer.as_deref(), Some("Filed."));
        assert_eq!(*cabinet.lock().unwrap(), filed, "{effect:?}");
        app.stop().await;
    }
}
