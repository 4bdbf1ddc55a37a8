//! The story of a task is what really happened: what the model was sent, what came back, what it cost.
//! And what the built-in agents are told, word for word.

use std::sync::Arc;

use serde_json::{Value, json};

use majordomo_tests::app::Setup;
use majordomo_tests::tool::TestTool;
use shared::model::Message;
use shared::model::offline::OfflineModel;
use shared::task::TaskState;
use supervisor::transcript::Entry;

#[tokio::test(flavor = "multi_thread")]
async fn a_transcript_holds_every_request_every_call_and_every_cent() {
    let look = TestTool::reads("look");
    let script = r#"
        [[agent.fault]]
        turn = 1
        fault = "cut"
        [[agent.reply]]
        text = "Let me look."
        calls = [{ tool = "look", args = { n = 1 } }, { tool = "look", args = { n = 1 } }, { tool = "lok" }]
        [[agent.reply]]
        text = ""
        turn = 2
        times = 1
        [[agent.reply]]
        text = "One."
        turn = 2
    "#;
    let price = "price = { input = 1.0, output = 2.0 }\n";
    let app = Setup::worker_priced(price, script, &[&look], "")
        .start()
        .await;
    let task = app.ask("Which?").await;
    assert_eq!(task.state, TaskState::Done, "{:?}", task.error);
    let told = app.app.desk.transcript(task.clone()).await.unwrap();
    let of_kind = |kind: &str| -> Vec<&Entry> {
        told.entries
            .iter()
            .filter(|entry| entry.kind == kind)
            .collect()
    };

    let sent = app
        .requests()
        .into_iter()
        .map(|request| serde_json::to_value(request).unwrap());
    let mut sent: Vec<Value> = sent.collect();
    assert_eq!(sent.remove(0), sent[0], "the second attempt sends the same");
    let thoughts = of_kind("think");
    assert_eq!(
        thoughts
            .iter()
            .map(|entry| &entry.input)
            .collect::<Vec<_>>(),
        sent.iter().collect::<Vec<_>>()
    );
    assert_eq!(thoughts[0].attempts.len(), 2);
    assert_eq!(thoughts.last().unwrap().output["text"], json!("One."));

    let calls: Vec<_> = of_kind("tool")
        .iter()
        .map(|entry| (&entry.input, &entry.output))
        .collect();
    assert_eq!(calls, [(&json!({"n": 1}), &json!("1 it is")); 2]);
    assert_eq!(of_kind("mismatch").len(), 0);

    let own = told.entries.iter().filter(|entry| entry.kind != "child");
    let usd: f64 = own.map(|entry| entry.cost.usd).sum();
    assert!(
        (usd - task.usage.usd.dollars()).abs() < 1e-9 && usd > 0.0,
        "{usd} {:?}",
        task.usage
    );
    let child = of_kind("child")[0];
    assert!(
        (child.cost.usd - usd).abs() < 1e-9,
        "a child's sum is its steps' sum"
    );
    app.stop().await;
}

/// What router, researcher and writer get for one question. A change of any prompt shows here.
#[tokio::test(flavor = "multi_thread")]
async fn prompts_of_the_built_in_agents() {
    let app = Setup::built_in()
        .model(Arc::new(OfflineModel))
        .material(
            "handbook.md",
            "# Handbook\n\nThe office opens at nine o'clock on weekdays.\n",
        )
        .start()
        .await;
    let task = app.ask("When does the office open?").await;
    assert_eq!(task.state, TaskState::Done, "{:?}", task.error);
    let mut seen = String::new();
    for request in app.requests() {
        let tools: Vec<&str> = request
            .tools
            .iter()
            .map(|tool| tool.name.as_str())
            .collect();
        seen += &format!(
            "=== tools: {tools:?}, output: {:?}\n",
            request.output.map(|output| output.name)
        );
        for message in request.messages {
            seen += &match message {
                Message::System { text } => format!("--- system\n{text}\n"),
                Message::User { text, .. } => format!("--- user\n{text}\n"),
                Message::Assistant { text, calls } => {
                    let calls = calls
                        .iter()
                        .map(|call| format!("{}({})\n", call.name, call.arguments));
                    format!(
                        "--- assistant\n{}\n{}",
                        text.unwrap_or_default(),
                        calls.collect::<String>()
                    )
                }
                Message::Tool { call, text } => format!("--- tool {call}\n{text}\n"),
            };
        }
    }
    insta::assert_snapshot!(seen);
    app.stop().await;
}
