//! Who does it: rules, the asker's choice, or the router's plan; and how results become the answer.

use std::sync::Arc;

use serde_json::json;

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::tool::{Called, TestTool};
use shared::event::Event;
use shared::run::Effect;
use shared::store::StepKind;
use shared::task::{Task, TaskState};
use supervisor::intake::{Refused, Submission};

/// A router that replies like this, and the agents `ann`, `bob` and `cy`, who sign what they are given.
fn team(router: &str, settings: &str) -> Setup {
    let mut script = format!("[[agent]]\nname = \"router\"\nsystem = \"supervisor\"\n{router}\n");
    for name in ["ann", "bob", "cy"] {
        script += &format!(
            "[[agent]]\nname = \"{name}\"\nsystem = \"You are the {name}\"\n[[agent.reply]]\ntext = \"{name} was here\"\n"
        );
    }
    let team = Setup::scripted(&script, settings);
    ["ann", "bob", "cy"]
        .iter()
        .fold(team, |team, name| team.agent(name, ""))
}

fn replies(texts: &[&str]) -> String {
    texts
        .iter()
        .map(|text| format!("[[agent.reply]]\ntext = '''{text}'''\n"))
        .collect()
}

fn plan(steps: &str) -> String {
    format!(r#"{{"reason": "because", "steps": [{steps}]}}"#)
}

/// The agents that worked on a task, in the order in which they were begun.
async fn workers(app: &TestApp, task: &Task) -> Vec<String> {
    let mut steps = app.steps(task.id).await;
    steps.sort_by_key(|step| step.seq);
    let children = steps
        .into_iter()
        .filter(|step| step.kind == StepKind::Child);
    children.map(|step| step.what).collect()
}

/// The task's decisions, each with its reason.
async fn decisions(app: &TestApp, task: &Task) -> Vec<(String, String)> {
    let decided = |event| match event {
        Event::Decided { what, reason } => Some((what, reason)),
        _ => None,
    };
    app.events(task.id)
        .await
        .into_iter()
        .filter_map(decided)
        .collect()
}

/// What an agent's model was asked, by the agent's name.
fn asked(app: &TestApp, name: &str) -> String {
    let system = format!("You are the {name}");
    let request = app.requests().into_iter().find(|request| {
        serde_json::to_string(&request.messages[0])
            .unwrap()
            .contains(&system)
    });
    serde_json::to_string(&request.expect("it was asked").messages[1]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_decides_before_any_model_and_the_first_that_matches() {
    let rules = "[[routes]]\nmatches = '(?i)^save '\nagents = [\"ann\", \"bob\"]\n[[routes]]\nmatches = 'save'\nagents = [\"cy\"]\n[[routes]]\nchannel = \"http\"\nagents = [\"bob\"]\n";
    let app = team("", rules).start().await;
    let task = app.ask("Save the day").await;
    assert_eq!(task.answer.as_deref(), Some("bob was here"));
    assert_eq!(workers(&app, &task).await, ["ann", "bob"]);
    assert_eq!(
        decisions(&app, &task).await,
        [("plan: ann → bob".into(), "route rule 1".into())]
    );
    assert!(asked(&app, "bob").contains("## Result of ann\\n\\nann was here"));
    let second = app.ask("Please save").await;
    assert_eq!(workers(&app, &second).await, ["cy"]);
    let mut request = TestApp::request("Anything");
    request.channel = "http".into();
    let id = app.submit(request).await;
    let third = app.ends(id).await;
    assert_eq!(workers(&app, &third).await, ["bob"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_askers_own_choice_goes_before_the_rules() {
    let app = team("", "[[routes]]\nmatches = ''\nagents = [\"ann\"]\n")
        .start()
        .await;
    let mut request = TestApp::request("Go");
    request.agent = Some("bob".into());
    let id = app.submit(request.clone()).await;
    let task = app.ends(id).await;
    assert_eq!(workers(&app, &task).await, ["bob"]);
    assert_eq!(decisions(&app, &task).await[0].1, "chosen by the asker");

    request.agent = Some("bobby".into());
    let refused = app.app.intake.submit(Submission {
        request,
        principal: "local".into(),
        submitted_by: "local".into(),
        since: None,
        dedupe: None,
        read: None,
        card: None,
        blobs: Vec::new(),
    });
    match refused.await {
        Err(Refused::Field {
            field: "agent",
            why,
        }) => assert!(why.contains("ann, bob, cy"), "{why}"),
        other => panic!("{other:?}"),
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_routers_words_are_read_in_every_usual_form() {
    let one = plan(r#"{"agent": "bob", "task": "Do it"}"#);
    let cases = [
        (one.clone(), &["bob"][..]),
        (
            format!("Here is my plan:\n```json\n{one}\n```\nGood luck!"),
            &["bob"],
        ),
        (format!("I choose bob. {one}"), &["bob"]),
        ("I think this is for bob.\nROUTE: bob".into(), &["bob"]),
        ("ROUTE: cy, ann".into(), &["cy", "ann"]),
        (
            plan(r#"{"agent": "ann", "task": "a"}, {"agent": "cy", "task": "b"}"#),
            &["ann", "cy"],
        ),
    ];
    for (reply, agents) in cases {
        let app = team(&replies(&[&reply]), "").start().await;
        let task = app.ask("Go").await;
        assert_eq!(task.state, TaskState::Done, "{reply}: {:?}", task.error);
        assert_eq!(workers(&app, &task).await, agents, "{reply}");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_agent_hands_on_to_the_one_that_its_file_names() {
    let router = replies(&[&plan(r#"{"agent": "ann", "task": "Find it"}"#)]);
    let app = team(&router, "")
        .and("agents/ann.toml", "then = \"bob\"\n")
        .start()
        .await;
    let task = app.ask("Where is it?").await;
    assert_eq!(workers(&app, &task).await, ["ann", "bob"]);
    assert!(asked(&app, "ann").contains("Find it"));
    let bob = asked(&app, "bob");
    assert!(
        bob.contains("Where is it?") && bob.contains("ann was here"),
        "{bob}"
    );
    assert_eq!(
        decisions(&app, &task).await,
        [("plan: ann → bob".into(), "because".into())]
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_needs_nobody_is_answered_directly() {
    let direct = r#"{"reason": "simple", "steps": [], "answer": "Good morning!"}"#;
    let app = team(&replies(&[direct]), "").start().await;
    let task = app.ask("Good morning").await;
    assert_eq!(task.answer.as_deref(), Some("Good morning!"));
    assert_eq!(workers(&app, &task).await, [""; 0]);
    assert_eq!(
        decisions(&app, &task).await,
        [("answer directly".into(), "simple".into())]
    );
    app.stop().await;
}

/// Both look at the same time: each waits for the other.
#[tokio::test(flavor = "multi_thread")]
async fn independent_steps_overlap_and_the_one_that_needs_both_waits() {
    let both = Arc::new(tokio::sync::Barrier::new(2));
    let meet = Arc::new(TestTool::new("meet", Effect::Pure, move |_: Called| {
        let both = both.clone();
        async move {
            both.wait().await;
            Ok(json!("met"))
        }
    }));
    let steps = plan(
        r#"{"agent": "ann", "task": "a", "after": []}, {"agent": "bob", "task": "b", "after": []}, {"agent": "cy", "task": "c", "after": [0, 1], "accept": ["is short"]}"#,
    );
    let router = replies(&[&steps]);
    let mut script = format!("[[agent]]\nname = \"router\"\nsystem = \"supervisor\"\n{router}");
    for name in ["ann", "bob"] {
        script += &format!(
            "[[agent]]\nname = \"{name}\"\nsystem = \"You are the {name}\"\n[[agent.reply]]\ncalls = [{{ tool = \"meet\" }}]\n[[agent.reply]]\ntext = \"{name} was here\"\n"
        );
    }
    script += "[[agent]]\nname = \"cy\"\nsystem = \"You are the cy\"\n[[agent.reply]]\ntext = \"both were\"\n";
    let app = Setup::scripted(&script, "")
        .agent("ann", "tools = [\"meet\"]\n")
        .agent("bob", "tools = [\"meet\"]\n")
        .agent("cy", "")
        .tool(meet)
        .start()
        .await;
    let task = app.ask("Go").await;
    assert_eq!(
        task.answer.as_deref(),
        Some("both were"),
        "{:?}",
        task.error
    );
    let cy = asked(&app, "cy");
    assert!(
        cy.contains("ann was here") && cy.contains("bob was here"),
        "{cy}"
    );
    assert!(cy.contains("- is short"), "{cy}");
    assert_eq!(app.requests().len(), 6, "one result needs no closing call");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_cannot_be_used_is_asked_for_again_with_the_reason() {
    let nine = [r#"{"agent": "ann", "task": "a"}"#; 9].join(",");
    let cases = [
        (
            plan(r#"{"agent": "dan", "task": "a"}"#),
            "there is no agent \"dan\"; there are ann, bob, cy",
        ),
        ("ROUTE: dan".into(), "there is no agent \"dan\""),
        (plan(""), "neither steps nor an answer"),
        (plan(&nine), "/steps"),
        (
            plan(
                r#"{"agent": "ann", "task": "a", "after": [1]}, {"agent": "bob", "task": "b", "after": [0]}"#,
            ),
            "step 0 waits for a step that does not come before it",
        ),
        (
            plan(r#"{"agent": "ann", "task": "a", "after": [0]}"#),
            "step 0 waits",
        ),
        (
            plan(r#"{"agent": "ann", "task": "a", "after": [7]}"#),
            "step 0 waits",
        ),
        (
            r#"{"steps": [{"agent": "ann"}], "reason": "r"}"#.into(),
            "\"task\" is a required property",
        ),
        ("I would ask ann.".into(), "no JSON value"),
    ];
    for (unusable, why) in cases {
        let good = plan(r#"{"agent": "ann", "task": "a"}"#);
        let app = team(&replies(&[&unusable, &unusable, &good]), "")
            .start()
            .await;
        let task = app.ask("Go").await;
        assert_eq!(task.state, TaskState::Done, "{unusable}: {:?}", task.error);
        let third = serde_json::to_string(&app.requests()[2]).unwrap();
        let why = serde_json::to_string(why).unwrap();
        assert!(third.contains(why.trim_matches('"')), "{unusable}: {third}");
        app.stop().await;

        let app = team(&replies(&[unusable.as_str(); 3]), "").start().await;
        let task = app.ask("Go").await;
        assert_eq!(task.state, TaskState::Failed);
        assert!(task.error.unwrap().contains("no usable plan in 3 attempts"));
        assert_eq!(app.requests().len(), 3);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_results_are_closed_by_a_call_and_one_only_where_it_is_always_wanted() {
    let two = plan(
        r#"{"agent": "ann", "task": "a", "after": []}, {"agent": "bob", "task": "b", "after": []}"#,
    );
    let one = plan(r#"{"agent": "ann", "task": "a"}"#);
    let cases = [
        (&two, "when_needed", "closed"),
        (&two, "always", "closed"),
        (&one, "when_needed", "ann was here"),
        (&one, "always", "closed"),
    ];
    for (steps, close, answer) in cases {
        let closing = "[[agent.reply]]\nuser = \"A person asked\"\ntext = \"closed\"\n";
        let router = format!("{closing}{}", replies(&[steps]));
        let settings = format!("[supervisor]\nclose = \"{close}\"\n");
        let app = team(&router, &settings).start().await;
        let task = app.ask("Go").await;
        assert_eq!(
            task.answer.as_deref(),
            Some(answer),
            "{steps} {close}: {:?}",
            task.error
        );
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_answer_of_no_use_is_asked_for_again_and_its_failure_keeps_the_results() {
    let rules = "[[routes]]\nmatches = ''\nagents = [\"ann\"]\n[supervisor]\nclose = \"always\"\n";
    let useless = "[[agent.reply]]\nuser = \"A person asked\"\ntext = \" \"\n[[agent.reply]]\nuser = \"cannot be used\"\n";
    let app = team(&format!("{useless}text = \"closed\"\n"), rules)
        .start()
        .await;
    assert_eq!(app.ask("Go").await.answer.as_deref(), Some("closed"));
    app.stop().await;

    let app = team(&format!("{useless}text = \"\"\n"), rules)
        .start()
        .await;
    let task = app.ask("Go").await;
    assert_eq!(
        (task.state, task.partial.as_deref()),
        (TaskState::Failed, Some("ann was here"))
    );
    assert!(
        task.error
            .unwrap()
            .contains("no usable answer in 3 attempts: the reply was empty")
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_reached_is_kept_when_a_later_step_or_one_beside_it_fails() {
    let chain = plan(r#"{"agent": "ann", "task": "a"}, {"agent": "bob", "task": "b"}"#);
    let beside = plan(
        r#"{"agent": "bob", "task": "b", "after": []}, {"agent": "ann", "task": "a", "after": []}"#,
    );
    for steps in [chain, beside] {
        let fault = "[[agent.fault]]\nuser = \"b\"\nfault = 400\n";
        let mut script = format!(
            "[[agent]]\nname = \"router\"\nsystem = \"supervisor\"\n{}",
            replies(&[&steps])
        );
        for (name, fault) in [("ann", ""), ("bob", fault)] {
            script += &format!(
                "[[agent]]\nname = \"{name}\"\nsystem = \"You are the {name}\"\n{fault}{}",
                replies(&["it is so"])
            );
        }
        let app = Setup::scripted(&script, "")
            .agent("ann", "")
            .agent("bob", "")
            .start()
            .await;
        let task = app.ask("Go").await;
        assert_eq!(
            (task.state, task.partial.as_deref()),
            (TaskState::Failed, Some("it is so")),
            "{steps}"
        );
        assert!(task.error.unwrap().starts_with("bob failed"), "{steps}");
        app.stop().await;
    }
}
