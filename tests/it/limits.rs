//! Limits and loops: what a task may use, and how it stops when it has used it up.

use std::sync::Arc;

use serde_json::json;

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::tool::{Called, TestTool, permanent};
use majordomo_tests::unasked;
use shared::money::Usd;
use shared::run::Effect;
use shared::task::{Budget, Request, Task, TaskState};

/// Looks again and again, each time elsewhere, and sums up when it is told to stop.
fn looking() -> String {
    let looks = (1..=30).map(|n| {
        format!("[[agent.reply]]\ncalls = [{{ tool = \"look\", args = {{ n = {n} }} }}]\n")
    });
    let summary = "[[agent.reply]]\nuser = \"Stop here\"\ntext = \"So far: nothing.\"\n";
    summary.to_owned() + &looks.collect::<String>()
}

fn request(budget: Budget) -> Request {
    Request {
        budget,
        ..TestApp::request("Look")
    }
}

/// The task was stopped by this limit, with one last call that had no tools.
async fn assert_summed_up(app: &TestApp, task: &Task, limit: &str) {
    assert_eq!(task.state, TaskState::Failed);
    assert_eq!(task.partial.as_deref(), Some("So far: nothing."));
    let error = task.error.as_deref().unwrap();
    assert!(
        error.contains(&format!("worker stopped at the limit of {limit}")),
        "{error}"
    );
    assert!(app.said().contains(limit), "{}", app.said());
    let tools: Vec<usize> = app
        .requests()
        .iter()
        .map(|request| request.tools.len())
        .collect();
    let (last, before) = tools.split_last().unwrap();
    assert!(
        *last == 0 && before.iter().all(|offered| *offered == 1),
        "{tools:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_a_model_call_or_a_tool_call_and_the_last_one_sums_up() {
    for (limit, calls) in [(4, 1), (5, 2), (8, 3)] {
        let look = TestTool::reads("look");
        let limits = format!("[limits]\nsteps = {limit}\n");
        let app = Setup::worker(&looking(), &[&look], &limits).start().await;
        let task = app.ask("Look").await;
        assert_summed_up(&app, &task, &format!("{limit} steps")).await;
        assert!(app.counted(task.id).await.len() <= limit);
        assert_eq!(look.calls().len(), calls, "of {limit} steps");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_may_have_fewer_steps_than_the_task() {
    let look = TestTool::reads("look");
    let app = Setup::worker(&looking(), &[&look], "")
        .and("agents/worker.toml", "[limits]\nsteps = 3\n")
        .start()
        .await;
    let task = app.ask("Look").await;
    assert_summed_up(&app, &task, "3 steps").await;
    assert_eq!(app.counted(task.id).await.len(), 3);
    app.stop().await;
}

/// One reply asks for more than there are steps: what is too much is not called, and is no failure.
#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_the_steps_are_not_made_and_not_held_against_the_tool() {
    let look = TestTool::reads("look");
    let script = r#"
        [[agent.reply]]
        calls = [{ tool = "look", args = { n = 1 } }, { tool = "look", args = { n = 2 } }, { tool = "look", args = { n = 3 } }, { tool = "look", args = { n = 4 } }]
        [[agent.reply]]
        user = "Stop here"
        text = "So far: nothing."
        [[agent.reply]]
        user = "Stop"
        text = "unused"
    "#;
    let app = Setup::worker(script, &[&look], "[limits]\nsteps = 3\n")
        .start()
        .await;
    let task = app.ask("Look").await;
    assert_summed_up(&app, &task, "3 steps").await;
    assert_eq!(look.calls(), [1]);
    assert!(
        app.told()[1..]
            .iter()
            .all(|told| told.contains("no steps are left"))
    );
    app.stop().await;
}

/// What one call uses, and a limit that allows one more call of the usual size but not two.
const USED: &str = "usage = { tokens_in = 8000, tokens_out = 300 }";
const PRICE: &str = "price = { input = 1000.0, output = 1000.0 }\n";

fn spending() -> String {
    format!(
        "[[agent.reply]]\nuser = \"Stop here\"\ntext = \"So far: nothing.\"\n[[agent.reply]]\ncalls = [{{ tool = \"look\", args = {{ n = 1 }} }}]\n{USED}\n[[agent.reply]]\ntext = \"never asked for\"\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_dollars_end_the_work_with_a_summary_inside_the_limit() {
    let tokens = |n| Budget {
        tokens: Some(n),
        usd: None,
    };
    let usd = |dollars| Budget {
        usd: Some(Usd::from_dollars(dollars)),
        tokens: None,
    };
    let cases = [
        ("", "tokens = 10000\n", Budget::default(), "10000 tokens"),
        ("", "", tokens(10_000), "10000 tokens"),
        ("", "tokens = 10000\n", tokens(1_000_000), "10000 tokens"),
        (PRICE, "usd = 10.0\n", Budget::default(), "$10.00"),
        (PRICE, "usd = 50.0\n", usd(10.0), "$10.00"),
    ];
    for (price, limit, budget, named) in cases {
        let look = TestTool::reads("look");
        let settings = format!("[limits]\n{limit}");
        let app = Setup::worker_priced(price, &spending(), &[&look], &settings)
            .and("agents/worker.toml", "[limits]\nmax_tokens = 1000\n")
            .start()
            .await;
        let id = app.submit(request(budget)).await;
        let task = app.ends(id).await;
        assert_summed_up(&app, &task, named).await;
        assert!(task.usage.tokens() <= 10_000, "{:?}", task.usage);
        assert!(
            task.usage.usd <= Usd::from_dollars(10.0),
            "{:?}",
            task.usage
        );
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_too_small_for_the_first_call_says_so_and_asks_nobody() {
    let worker = || Setup::worker_priced(PRICE, &looking(), &[], "");
    let by_route = |setup: Setup| setup;
    let by_model = |setup: Setup| {
        let settings = "[models.default]\nprovider = \"scripted\"\nfile = \"script.toml\"\n";
        setup
            .without("majordomo.toml")
            .config("majordomo.toml", &unasked(settings))
    };
    let budgets = [
        (
            Budget {
                tokens: Some(100),
                usd: None,
            },
            "100 tokens",
        ),
        (
            Budget {
                usd: Some(Usd::from_dollars(0.5)),
                tokens: None,
            },
            "$0.5000",
        ),
    ];
    for (budget, named) in budgets {
        for setup in [by_route(worker()), by_model(worker())] {
            let app = setup.start().await;
            let id = app.submit(request(budget)).await;
            let task = app.ends(id).await;
            assert_eq!((task.state, &task.partial), (TaskState::Failed, &None));
            let error = task.error.unwrap();
            assert!(error.contains(&format!("the limit of {named}")), "{error}");
            assert!(error.contains("the next call may"), "{error}");
            assert!(app.requests().is_empty());
            app.stop().await;
        }
    }
}

/// A tool that never answers is stopped in time for the summary.
#[tokio::test(flavor = "multi_thread")]
async fn time_is_kept_for_the_summary() {
    let look = Arc::new(TestTool::new(
        "look",
        Effect::Pure,
        |called: Called| async move {
            called.cancel.cancelled().await;
            Err(permanent("cancelled"))
        },
    ));
    let app = Setup::worker(&looking(), &[&look], "[limits]\nwall_s = 1\n")
        .and(
            "agents/worker.toml",
            "[tool.look]\nretry = { attempts = 1 }\n",
        )
        .start()
        .await;
    let task = app.ask("Look").await;
    assert_summed_up(&app, &task, "1 s").await;
    assert!(
        app.told()[0].contains("did not answer within 1 s"),
        "{:?}",
        app.told()
    );
    app.stop().await;
}

/// Four long results are more than the limit has room for: the summary gets their heads and tails.
#[tokio::test(flavor = "multi_thread")]
async fn results_too_long_for_what_is_left_are_shortened_for_the_summary() {
    let look = Arc::new(TestTool::new(
        "look",
        Effect::Pure,
        |called: Called| async move { Ok(json!(format!("shelf {} {}", called.n, "x".repeat(20_000)))) },
    ));
    let script = r#"
        [[agent.reply]]
        calls = [{ tool = "look", args = { n = 1 } }, { tool = "look", args = { n = 2 } }, { tool = "look", args = { n = 3 } }, { tool = "look", args = { n = 4 } }]
        [[agent.reply]]
        user = "Stop here"
        text = "So far: nothing."
    "#;
    let app = Setup::worker(script, &[&look], "[limits]\ntokens = 20000\n")
        .start()
        .await;
    let task = app.ask("Look").await;
    assert_summed_up(&app, &task, "20000 tokens").await;
    assert!(app.told()[0].contains("bytes left out"));
    assert!(task.usage.tokens() <= 20_000);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paid_calls_of_one_reply_share_what_is_left() {
    let look = Arc::new(
        TestTool::new("look", Effect::Pure, |called: Called| async move {
            Ok(json!(called.n))
        })
        .price(0.4),
    );
    let script = r#"
        [[agent.reply]]
        calls = [{ tool = "look", args = { n = 1 } }, { tool = "look", args = { n = 2 } }, { tool = "look", args = { n = 3 } }, { tool = "look", args = { n = 4 } }]
        [[agent.reply]]
        text = "Two of four."
    "#;
    let app = Setup::worker(script, &[&look], "[limits]\nusd = 1.0\n")
        .start()
        .await;
    let task = app.ask("Look").await;
    assert_eq!(task.answer.as_deref(), Some("Two of four."));
    assert_eq!(look.calls().len(), 2);
    assert_eq!(task.usage.usd, Usd::from_dollars(0.8));
    assert!(
        app.told()[2].contains("look costs $0.4000, more than is left"),
        "{:?}",
        app.told()
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_children_share_the_steps_of_the_task() {
    let look = TestTool::reads("look");
    let plan = r#"{"reason": "both", "steps": [{"agent": "left", "task": "Look", "after": []}, {"agent": "right", "task": "Look", "after": []}]}"#;
    let mut script = format!(
        "[[agent]]\nname = \"router\"\nsystem = \"supervisor\"\n[[agent.reply]]\ntext = '{plan}'\n"
    );
    for name in ["left", "right"] {
        script += &format!(
            "[[agent]]\nname = \"{name}\"\nsystem = \"You are the {name}\"\n{}",
            looking()
        );
    }
    let app = Setup::scripted(&script, "[limits]\nsteps = 9\n")
        .agent("left", "tools = [\"look\"]\n")
        .agent("right", "tools = [\"look\"]\n")
        .tool(look.clone())
        .start()
        .await;
    let task = app.ask("Look").await;
    assert_eq!(task.state, TaskState::Failed);
    let error = task.error.unwrap();
    for name in ["left", "right"] {
        assert!(
            error.contains(&format!("{name} stopped at the limit of 4 steps")),
            "{error}"
        );
        assert!(
            task.partial
                .as_ref()
                .unwrap()
                .contains(&format!("## Result of {name}\n\nSo far"))
        );
    }
    assert!(error.contains("the whole task may use 9 steps"), "{error}");
    assert_eq!(app.counted(task.id).await.len(), 9);
    app.stop().await;
}

/// Calls of `look` with these numbers, one in each reply.
fn calls(numbers: &[i64]) -> String {
    let reply = |n: &i64| {
        format!("[[agent.reply]]\ncalls = [{{ tool = \"look\", args = {{ n = {n} }} }}]\n")
    };
    let stop = "[[agent.reply]]\nuser = \"Stop here\"\ntext = \"So far: nothing.\"\n";
    let replies: String = numbers.iter().map(reply).collect();
    format!("{stop}{replies}[[agent.reply]]\ntext = \"Seen.\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn going_round_in_circles_is_warned_of_and_then_stopped() {
    // The calls, which of their results carry a warning, and after how many calls it is over.
    let cases: [(&[i64], &[usize], usize); 2] =
        [(&[1; 6], &[1], 3), (&[1, 2, 1, 2, 1, 2], &[2, 3], 5)];
    for (numbers, warned, made) in cases {
        let look = TestTool::reads("look");
        let app = Setup::worker(&calls(numbers), &[&look], "").start().await;
        let task = app.ask("Look").await;
        assert_eq!(task.state, TaskState::Failed);
        assert_eq!(task.partial.as_deref(), Some("So far: nothing."));
        let error = task.error.unwrap();
        assert!(
            error.contains("round in circles") && error.contains("look 3 times"),
            "{error}"
        );
        assert_eq!(look.calls().len(), made, "{numbers:?}");
        let told = app.told();
        let warns = (0..told.len()).filter(|at| told[*at].contains("this same call"));
        assert_eq!(warns.collect::<Vec<_>>(), warned, "{told:?}");
        assert!(app.requests().pop().unwrap().tools.is_empty());
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_calls_are_warned_of_like_all_others() {
    let look = TestTool::fails("look", Effect::Pure, permanent("locked"));
    let app = Setup::worker(&calls(&[1, 1]), &[&look], "").start().await;
    assert_eq!(app.ask("Look").await.answer.as_deref(), Some("Seen."));
    let told = app.told();
    assert!(
        told[1].contains("error: locked") && told[1].contains("this same call"),
        "{told:?}"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_of_one_tool_are_warned_of_once_and_not_stopped() {
    let look = TestTool::reads("look");
    let app = Setup::worker(&calls(&[1, 2, 3, 4, 5, 6]), &[&look], "")
        .start()
        .await;
    assert_eq!(app.ask("Look").await.answer.as_deref(), Some("Seen."));
    let told = app.told();
    let warns = (0..told.len()).filter(|at| told[*at].contains("4 times in a row"));
    assert_eq!(warns.collect::<Vec<_>>(), [3], "{told:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_sees_progress_is_left_alone() {
    let look = Arc::new(TestTool::new(
        "look",
        Effect::Pure,
        |called: Called| async move { Ok(json!(format!("{} % done", called.before * 30))) },
    ));
    let app = Setup::worker(&calls(&[1, 1, 1]), &[&look], "")
        .start()
        .await;
    assert_eq!(app.ask("Look").await.answer.as_deref(), Some("Seen."));
    assert_eq!(app.told(), ["0 % done", "30 % done", "60 % done"]);
    app.stop().await;
}
