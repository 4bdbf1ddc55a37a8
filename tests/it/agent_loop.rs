//! The agent's loop on a real instance: what the model is told, what is called, and how it ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::watch;

use majordomo_tests::app::Setup;
use majordomo_tests::tool::{Called, TestTool, permanent};
use shared::model::{Call, Message, Model, ModelReply, ToolCall};
use shared::money::{Price, Usage};
use shared::run::{Effect, Failure};
use shared::task::TaskState;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_needs_no_tool() {
    let app = Setup::worker("[[agent.reply]]\ntext = \"Forty-two.\"", &[], "")
        .start()
        .await;
    let task = app.ask("What is the answer?").await;
    assert_eq!(
        (task.state, task.answer.as_deref()),
        (TaskState::Done, Some("Forty-two."))
    );
    assert_eq!(app.counted(task.id).await.len(), 1);
    assert_eq!(app.said(), "What is the answer?");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_and_calls_of_one_reply_both_stay_in_the_conversation() {
    let look = TestTool::reads("look");
    let script = r#"
        [[agent.reply]]
        text = "Let me look."
        calls = [{ tool = "look", args = { n = 7 } }]
        [[agent.reply]]
        result = "7 it is"
        text = "Seven."
    "#;
    let app = Setup::worker(script, &[&look], "").start().await;
    let task = app.ask("Which?").await;
    assert_eq!(
        (task.answer.as_deref(), look.calls()),
        (Some("Seven."), vec![7])
    );
    let last = app.requests().pop().unwrap();
    assert_eq!(last.tools.len(), 1);
    let said = |message: &Message| matches!(message, Message::Assistant { text: Some(text), calls } if text == "Let me look." && calls.len() == 1);
    assert!(last.messages.iter().any(said), "{last:?}");
    app.stop().await;
}

/// Each call waits for the one after it, so the first can only end while the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn reading_calls_overlap_and_their_results_keep_the_order_of_the_calls() {
    let (ended, _) = watch::channel(0);
    let look = Arc::new(TestTool::new(
        "look",
        Effect::Pure,
        move |called: Called| {
            let ended = ended.clone();
            async move {
                let mut turn = ended.subscribe();
                turn.wait_for(|ended| *ended == 2 - called.n).await.unwrap();
                ended.send_modify(|ended| *ended += 1);
                Ok(json!(called.n))
            }
        },
    ));
    let script = r#"
        [[agent.reply]]
        calls = [{ tool = "look", args = { n = 0 } }, { tool = "look", args = { n = 1 } }, { tool = "look", args = { n = 2 } }]
        [[agent.reply]]
        text = "Read."
    "#;
    let app = Setup::worker(script, &[&look], "").start().await;
    assert_eq!(app.ask("Read").await.state, TaskState::Done);
    assert_eq!(app.told(), ["0", "1", "2"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_changes_something_waits_for_its_turn_and_is_alone() {
    let log = Arc::<Mutex<Vec<String>>>::default();
    let both = Arc::new(tokio::sync::Barrier::new(2));
    let logged = |name: &'static str, effect| {
        let (log, both) = (log.clone(), both.clone());
        Arc::new(TestTool::new(name, effect, move |called: Called| {
            let (log, both) = (log.clone(), both.clone());
            async move {
                log.lock().unwrap().push(format!("{name} begins"));
                if called.n == 1 {
                    both.wait().await;
                }
                tokio::task::yield_now().await;
                log.lock().unwrap().push(format!("{name} ends"));
                Ok(json!(called.n))
            }
        }))
    };
    let (read, write) = (
        logged("read", Effect::Pure),
        logged("write", Effect::Idempotent),
    );
    let script = r#"
        [[agent.reply]]
        calls = [{ tool = "read", args = { n = 1 } }, { tool = "read", args = { n = 1 } }, { tool = "write", args = { n = 2 } }, { tool = "read", args = { n = 3 } }]
        [[agent.reply]]
        text = "Done."
    "#;
    let app = Setup::worker(script, &[&read, &write], "").start().await;
    assert_eq!(app.ask("Go").await.state, TaskState::Done);
    let order = log.lock().unwrap().clone();
    assert_eq!(
        &order[..4],
        ["read begins", "read begins", "read ends", "read ends"]
    );
    assert_eq!(
        &order[4..],
        ["write begins", "write ends", "read begins", "read ends"]
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_calls_are_refused_in_words_that_mend_them_and_never_made() {
    let look = TestTool::reads("look");
    let cases = [
        (
            r#"calls = [{ tool = "look", args = { n = "many" } }]"#,
            "n must be integer, not \"many\"",
        ),
        (
            r#"calls = [{ tool = "look", args = "{\"n\": 7" }]"#,
            "end too early",
        ),
        (
            r#"calls = [{ tool = "loook", args = { n = 7 } }]"#,
            "did you mean look?",
        ),
    ];
    for (wrong, refusal) in cases {
        let before = look.calls().len();
        let script = format!(
            "[[agent.reply]]\n{wrong}\n[[agent.reply]]\ncalls = [{{ tool = \"look\", args = {{ n = 7 }} }}]\n[[agent.reply]]\ntext = \"Seven.\""
        );
        let app = Setup::worker(&script, &[&look], "").start().await;
        let task = app.ask("Which?").await;
        assert_eq!(task.state, TaskState::Done, "{wrong}: {:?}", task.error);
        assert_eq!(look.calls().len(), before + 1, "{wrong}");
        let told = app.told();
        assert!(
            told[0].starts_with("error: ") && told[0].contains(refusal),
            "{told:?}"
        );
        assert_eq!(told[1], "7 it is");
        assert_eq!(
            app.counted(task.id).await.len(),
            4,
            "a refused call is no step"
        );
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_arrive_cut_are_asked_for_again() {
    let look = TestTool::reads("look");
    let script = r#"
        [[agent.fault]]
        turn = 1
        fault = "malformed"
        [[agent.reply]]
        calls = [{ tool = "look", args = { n = 7 } }]
        [[agent.reply]]
        calls = [{ tool = "look", args = { n = 7 } }]
        [[agent.reply]]
        text = "Seven."
    "#;
    let app = Setup::worker(script, &[&look], "").start().await;
    assert_eq!(app.ask("Which?").await.state, TaskState::Done);
    assert_eq!(look.calls(), [7]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_answered_in_their_place_and_a_reply_full_of_them_is_one_failure() {
    let look = TestTool::reads("look");
    let script = r#"
        [[agent.reply]]
        calls = [{ tool = "look", args = { n = 1 } }, { tool = "look", args = { n = "a" } }, { tool = "look", args = { n = 3 } }]
        [[agent.reply]]
        calls = [{ tool = "look", args = { n = "b" } }, { tool = "look", args = { n = "c" } }, { tool = "look", args = { n = "d" } }]
        [[agent.reply]]
        text = "I see."
    "#;
    let app = Setup::worker(script, &[&look], "").start().await;
    let task = app.ask("Which?").await;
    assert_eq!(task.state, TaskState::Done, "{:?}", task.error);
    let told = app.told();
    assert_eq!((told[0].as_str(), told[2].as_str()), ("1 it is", "3 it is"));
    assert!(told[1].contains("n must be integer"), "{told:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_of_no_use_is_asked_for_again_twice_and_then_the_work_has_failed() {
    let cases = [
        ("text = \"\"", "empty", None),
        (
            "text = \"The answer is\"\nfinish = \"length\"",
            "cut off",
            Some("The answer is"),
        ),
    ];
    for (useless, why, partial) in cases {
        let mended = "[[agent.reply]]\nuser = \"could not be used\"\ntext = \"Short.\"";
        let first = format!("[[agent.reply]]\nuser = \"Which\"\n{useless}");
        let app = Setup::worker(&format!("{mended}\n{first}"), &[], "")
            .start()
            .await;
        let task = app.ask("Which?").await;
        assert_eq!(task.answer.as_deref(), Some("Short."), "{useless}");
        assert!(app.said().contains(why), "{}", app.said());
        app.stop().await;

        let always = format!("{first}\n[[agent.reply]]\nuser = \"could not be used\"\n{useless}");
        let app = Setup::worker(&always, &[], "").start().await;
        let task = app.ask("Which?").await;
        assert_eq!(task.state, TaskState::Failed);
        let error = task.error.unwrap();
        assert!(error.contains("3 times") && error.contains(why), "{error}");
        assert_eq!(task.partial.as_deref(), partial);
        assert_eq!(app.requests().len(), 3);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withheld_answer_is_a_failure_and_not_asked_for_again() {
    let app = Setup::worker("[[agent.reply]]\nfinish = \"filtered\"", &[], "")
        .start()
        .await;
    let task = app.ask("Which?").await;
    assert_eq!(task.state, TaskState::Failed);
    assert!(task.error.unwrap().contains("withheld"));
    assert_eq!(app.requests().len(), 1);
    app.stop().await;
}

/// A model whose provider gives every call the same id, or none.
struct Careless(AtomicUsize);

#[async_trait]
impl Model for Careless {
    async fn ask(&self, _: Call<'_>) -> (Result<ModelReply, Failure>, Option<Usage>) {
        let call = |id: &str, n: i32| ToolCall {
            id: id.into(),
            name: "look".into(),
            arguments: json!({ "n": n }).to_string(),
        };
        let calls = match self.0.fetch_add(1, Ordering::SeqCst) {
            0 => vec![call("x", 1), call("x", 2)],
            1 => vec![call("x", 3), call("", 4)],
            _ => Vec::new(),
        };
        let reply = ModelReply {
            text: Some("Done.".into()),
            calls,
            ..ModelReply::default()
        };
        (Ok(reply), Some(Usage::default()))
    }

    fn price(&self) -> Price {
        Price::FREE
    }

    fn context_tokens(&self) -> u32 {
        32_768
    }

    fn describe(&self) -> String {
        "careless".into()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_answered_once_under_an_id_of_its_own() {
    let look = TestTool::reads("look");
    let app = Setup::worker("", &[&look], "")
        .model(Arc::new(Careless(AtomicUsize::new(0))))
        .start()
        .await;
    assert_eq!(app.ask("Which?").await.state, TaskState::Done);
    let last = app.requests().pop().unwrap();
    let mut asked: Vec<String> = Vec::new();
    let mut answered: Vec<String> = Vec::new();
    for message in last.messages {
        match message {
            Message::Assistant { calls, .. } => asked.extend(calls.into_iter().map(|call| call.id)),
            Message::Tool { call, .. } => answered.push(call),
            _ => {}
        }
    }
    assert_eq!(asked, answered);
    let told: Vec<String> = app.told().iter().map(|told| told[..7].to_owned()).collect();
    assert_eq!(told, ["1 it is", "2 it is", "3 it is", "4 it is"]);
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 4, "{asked:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_third_failed_call_of_a_tool_ends_the_work_and_says_what_was_tried() {
    let look = TestTool::fails("look", Effect::Pure, permanent("the shelf is empty"));
    let script = r#"
        [[agent.reply]]
        text = "The catalogue says shelf 1."
        calls = [{ tool = "look", args = { n = 1 } }]
        [[agent.reply]]
        calls = [{ tool = "look", args = { n = 2 } }]
        [[agent.reply]]
        calls = [{ tool = "look", args = { n = 3 } }]
    "#;
    let app = Setup::worker(script, &[&look], "").start().await;
    let task = app.ask("Which?").await;
    assert_eq!(task.state, TaskState::Failed);
    let error = task.error.unwrap();
    for n in 1..=3 {
        assert!(
            error.contains(&format!("- look({{\"n\":{n}}}): the shelf is empty")),
            "{error}"
        );
    }
    assert!(error.contains("look failed 3 times"), "{error}");
    assert_eq!(task.partial.as_deref(), Some("The catalogue says shelf 1."));
    assert_eq!(look.calls(), [1, 2, 3]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_recovers_ends_nothing() {
    let look = Arc::new(TestTool::new(
        "look",
        Effect::Pure,
        |called: Called| async move {
            match called.n {
                3.. => Ok(json!("there it is")),
                _ => Err(permanent("the shelf is empty")),
            }
        },
    ));
    let script = r#"
        [[agent.reply]]
        calls = [{ tool = "look", args = { n = 1 } }]
        [[agent.reply]]
        calls = [{ tool = "look", args = { n = 2 } }]
        [[agent.reply]]
        calls = [{ tool = "look", args = { n = 3 } }]
        [[agent.reply]]
        text = "Found."
    "#;
    let app = Setup::worker(script, &[&look], "").start().await;
    assert_eq!(app.ask("Which?").await.answer.as_deref(), Some("Found."));
    assert!(app.told()[0].contains("error: the shelf is empty"));
    app.stop().await;
}
