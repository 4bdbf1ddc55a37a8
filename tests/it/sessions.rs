//! Conversations: a task knows the turns of its thread, a summary of those that are long past, and nothing
//! of other people's.

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use shared::task::{Request, Task, TaskState};
use supervisor::session::SUM_UP;

on_both_stores!(
    the_oldest_turns_are_folded_into_a_summary_that_goes_on,
    a_summary_that_cannot_be_had_costs_nothing_but_itself,
    other_peoples_turns_are_not_recalled,
);

const KEPT: &str = "[conversations]\nturns = 2\n";

fn worker(times: usize) -> String {
    "[[agent.reply]]\ntext = \"Noted.\"\n".repeat(times)
}

fn sums(text: &str) -> String {
    let reply = serde_json::json!({ "summary": text });
    format!(
        "[[agent]]\nname = \"sums\"\nsystem = \"Sum up a conversation\"\n\
         [[agent.reply]]\ntext = '{reply}'\n"
    )
}

fn said(text: &str) -> Request {
    Request {
        thread: Some("t".into()),
        ..TestApp::request(text)
    }
}

async fn ask(app: &TestApp, text: &str) -> Task {
    let id = app.submit(said(text)).await;
    let task = app.ends(id).await;
    assert_eq!(task.state, TaskState::Done, "{:?}", task.error);
    task
}

async fn summed_up(app: &TestApp, task: &Task) -> bool {
    let steps = app.steps(task.id).await;
    steps.iter().any(|step| step.key.as_str() == SUM_UP)
}

async fn the_oldest_turns_are_folded_into_a_summary_that_goes_on(kind: Kind) {
    let replies = worker(8) + &sums("Ada likes tea.");
    let app = Setup::worker(&replies, &[], KEPT).on(kind).start().await;
    for number in 1..=4 {
        let task = ask(&app, &format!("Fact {number}")).await;
        assert_eq!(task.request.said.turns.len(), number - 1);
        assert!(!summed_up(&app, &task).await);
    }
    let fifth = ask(&app, "Fact 5").await;
    assert_eq!(
        (fifth.request.said.turns.len(), fifth.request.said.fold),
        (4, 2)
    );
    assert!(summed_up(&app, &fifth).await);
    let told = format!("{:?}", app.requests().last().unwrap().messages);
    let knows = |what: &str| told.contains(what);
    assert!(
        knows("Ada likes tea.") && knows("Fact 3") && knows("Fact 4"),
        "{told}"
    );
    assert!(!knows("Fact 2"), "it is in the summary: {told}");
    let sixth = ask(&app, "Fact 6").await;
    let before = &sixth.request.said;
    assert_eq!(before.earlier.as_deref(), Some("Ada likes tea."));
    let asked: Vec<&str> = before
        .turns
        .iter()
        .map(|turn| turn.asked.as_str())
        .collect();
    assert_eq!(asked, ["Fact 3", "Fact 4", "Fact 5"]);
    let seventh = ask(&app, "Fact 7").await;
    assert!(summed_up(&app, &seventh).await);
    let eighth = ask(&app, "Fact 8").await;
    let asked = |task: &Task| task.request.said.turns[0].asked.clone();
    assert_eq!(
        asked(&eighth),
        "Fact 5",
        "what was folded before it is in the summary"
    );
    app.stop().await;
}

async fn a_summary_that_cannot_be_had_costs_nothing_but_itself(kind: Kind) {
    let nonsense = "[[agent]]\nname = \"sums\"\nsystem = \"Sum up a conversation\"\n\
                    [[agent.reply]]\ntext = \"I would rather not.\"\n";
    let replies = worker(5) + nonsense;
    let app = Setup::worker(&replies, &[], KEPT).on(kind).start().await;
    for number in 1..=5 {
        ask(&app, &format!("Fact {number}")).await;
    }
    let told = format!("{:?}", app.requests().last().unwrap().messages);
    assert!(told.contains("Fact 1") && told.contains("Fact 4"), "{told}");
    app.stop().await;
}

async fn other_peoples_turns_are_not_recalled(kind: Kind) {
    let app = Setup::worker(&worker(3), &[], KEPT).on(kind).start().await;
    let mine = ask(&app, "My secret").await;
    let theirs = supervisor::intake::Submission {
        request: said("What did they say?"),
        principal: "user:eve".into(),
        submitted_by: "user:eve".into(),
        dedupe: None,
        read: None,
        card: None,
        since: None,
        blobs: Vec::new(),
    };
    app.app.intake.submit(theirs).await.unwrap();
    let again = ask(&app, "Go on").await;
    assert_eq!(again.request.said.turns[0].asked, "My secret");
    assert_eq!(again.request.said.turns.len(), 1);
    let all = shared::store::TaskFilter {
        limit: 9,
        ..Default::default()
    };
    let tasks = app.app.desk.tasks(&all).await.unwrap();
    let eves = tasks
        .iter()
        .find(|task| task.principal.as_str() == "user:eve");
    assert!(eves.unwrap().request.said.turns.is_empty());
    assert!(tasks.iter().any(|task| task.id == mine.id), "a control");
    let id = eves.unwrap().id;
    app.ends(id).await;
    app.stop().await;
}
