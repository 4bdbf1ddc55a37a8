//! A task in text: a summary, and the full story from the journal. Pure.

use std::fmt::Write;

use serde_json::Value;

use shared::ask::AskKind;
use shared::feedback::Source;

use super::asks::text as asks;
use super::words;
use crate::asks::Collection;
use crate::transcript::{Entry, Transcript};
use crate::view::{FeedbackView, StepView, TaskView};

/// A step whose effect nobody can vouch for, waiting for a person's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Its name for `tasks resolve --step`.
    pub step: String,
    /// Who did it, and what.
    pub what: String,
}

/// The steps of a task that wait for a person.
pub fn doubts(task: &TaskView) -> Vec<Doubt> {
    let steps = task.steps.as_deref().unwrap_or_default();
    let answered = |doubt: &StepView| {
        let signal = format!("signal/in_doubt/{}", doubt.key);
        let own = steps
            .iter()
            .find(|step| step.run == doubt.run && step.key == signal);
        own.is_some_and(|step| step.state != "begun")
    };
    let open: Vec<&StepView> = steps
        .iter()
        .filter(|step| step.state == "in_doubt" && !answered(step))
        .collect();
    let full = |doubt: &StepView| open.iter().filter(|other| other.key == doubt.key).count() > 1;
    open.iter()
        .map(|doubt| Doubt {
            step: match full(doubt) {
                true => format!("{}/{}", doubt.run, doubt.key),
                false => doubt.key.clone(),
            },
            what: format!(
                "{} of {}",
                doubt.what,
                doubt.agent.as_deref().unwrap_or("an agent")
            ),
        })
        .collect()
}

/// What a person can do about a task that waits for one.
pub fn how_to_resolve(task: &TaskView) -> String {
    let id = words::short(task.id);
    let mut text = String::new();
    // Doubts are told by their steps.
    for ask in task.asks.iter().filter(|ask| ask.kind != AskKind::Doubt) {
        let _ = writeln!(text, "{}", words::line(&ask.title));
        let look = format!("{} show", Collection::of(ask.kind).as_str());
        let _ = writeln!(text, "  majordomo {look} {}", words::short_ask(ask.id));
        text.push_str(&asks::commands(ask.id, ask.kind));
    }
    for doubt in doubts(task) {
        let _ = writeln!(
            text,
            "{} may or may not have happened. Find out, then say so:\n  \
             majordomo tasks resolve {id} --step {step} --happened    it did\n  \
             majordomo tasks resolve {id} --step {step} --again       it did not: do it again\n  \
             majordomo tasks resolve {id} --step {step} --give-up     leave it",
            doubt.what,
            step = doubt.step
        );
    }
    text
}

/// What it means that a task is halted.
pub const HALTED: &str = "halted: nothing runs that could work on it; it goes on at the next `majordomo serve` or `majordomo ask`";

/// A task's state, as it is shown.
pub fn state(task: &TaskView) -> String {
    match task.halted {
        true => format!("{}, halted", task.state),
        false => task.state.clone(),
    }
}

/// What is left of a task whose journal was pruned.
const PRUNED: &str = "pruned; its steps and events are gone, its answer is not";

/// The task that this one was made from.
fn origin(task: &TaskView) -> String {
    match (task.retry_of, task.fork_of, &task.fork_from) {
        (Some(old), _, _) => format!("retry of {old}"),
        (_, Some(old), Some(step)) => format!("fork of {old} at {step}"),
        _ => String::new(),
    }
}

/// A task in a screenful.
pub fn summary(task: &TaskView, now_ms: i64) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<9} {value}");
        }
    };
    field("task", &task.id.to_string());
    let phase = task.phase.as_deref().map(|phase| format!(" ({phase})"));
    field(
        "state",
        &format!("{}{}", state(task), phase.unwrap_or_default()),
    );
    field("", if task.halted { HALTED } else { "" });
    field(
        "asked",
        &format!(
            "{} ago by {}",
            words::age(now_ms - task.created_at_ms),
            task.user
        ),
    );
    field("origin", &origin(task));
    field(
        "journal",
        if task.pruned_at_ms.is_some() {
            PRUNED
        } else {
            ""
        },
    );
    field("agent", task.agent.as_deref().unwrap_or_default());
    field("thread", task.thread.as_deref().unwrap_or_default());
    for (name, value) in &task.metadata {
        field("label", &format!("{name}={value}"));
    }
    field("cost", &costs(task));
    for file in &task.files {
        field("file", &format!("{} ({} bytes)", file.name, file.bytes));
    }
    for one in &task.feedback {
        field("feedback", &opinion(one));
    }
    let _ = write!(text, "\n{}\n", indented(&task.text));
    let steps = task.steps.as_deref().unwrap_or_default();
    if !steps.is_empty() {
        let _ = write!(text, "\n{}", table(steps));
    }
    for (name, body) in [
        ("answer", &task.answer),
        ("reached so far", &task.partial),
        ("error", &task.error),
    ] {
        if let Some(body) = body {
            let _ = write!(text, "\n{name}:\n{}\n", indented(body));
        }
    }
    let help = how_to_resolve(task);
    if !help.is_empty() {
        let _ = write!(text, "\n{help}");
    }
    text
}

/// What somebody thinks of a task, in a line.
fn opinion(feedback: &FeedbackView) -> String {
    let sign = match (feedback.source, feedback.good) {
        (Source::Said, true) => "good",
        (Source::Said, false) => "bad",
        (noticed, _) => noticed.as_str(),
    };
    let why = match feedback.text.as_str() {
        "" => String::new(),
        text => format!(": {}", words::line(text)),
    };
    format!("{sign} ({}){why}", words::line(&feedback.who))
}

/// What a task used, in a line.
pub fn costs(task: &TaskView) -> String {
    format!(
        "{} · {} tokens in, {} out",
        words::usd(task.cost.usd),
        words::number(task.cost.tokens_in),
        words::number(task.cost.tokens_out)
    )
}

fn table(steps: &[StepView]) -> String {
    let rows: Vec<Vec<String>> = steps
        .iter()
        .map(|step| {
            vec![
                step.agent.clone().unwrap_or_default(),
                step.key.clone(),
                step.what.clone(),
                step.state.clone(),
                step.attempts.to_string(),
                words::ms(step.ms),
                own_cost(step),
                step.error.as_deref().map(words::line).unwrap_or_default(),
            ]
        })
        .collect();
    let head = [
        "agent", "step", "what", "state", "attempts", "time", "cost", "error",
    ];
    words::table(&head, &rows, &[4, 5, 6])
}

/// A child's cost is that of its own steps, which are listed too.
fn own_cost(step: &StepView) -> String {
    match step.kind.as_str() {
        "think" | "tool" => words::usd(step.cost.usd),
        _ => String::new(),
    }
}

/// The whole story: every input and output, attempt, cost and decision.
pub fn full(transcript: &Transcript, now_ms: i64) -> String {
    let mut text = summary(&transcript.task, now_ms);
    for entry in &transcript.entries {
        text.push('\n');
        text.push_str(&chapter(entry));
    }
    text
}

fn chapter(entry: &Entry) -> String {
    let mut text = match entry.key.as_str() {
        "" => format!("── {}: {}\n", entry.agent, entry.title),
        key => format!("── {} · {key} · {}\n", entry.agent, entry.title),
    };
    match entry.kind.as_str() {
        "note" | "mismatch" => return text,
        "think" => text.push_str(&question(&entry.input)),
        _ => text.push_str(&part("in", &pretty(&entry.input))),
    }
    for (index, attempt) in entry.attempts.iter().enumerate() {
        let outcome = attempt
            .failure
            .as_ref()
            .map_or("done".to_owned(), |failure| format!("failed: {failure}"));
        let line = format!(
            "{} · {} · {outcome}",
            words::ms(attempt.ms),
            attempt.usage.usd
        );
        text.push_str(&part(&format!("attempt {}", index + 1), &line));
    }
    match (&entry.output, entry.kind.as_str()) {
        (Value::Null, _) => text.push_str(&part("out", "(not yet)")),
        (output, "think") if output.get("failed").is_none() => text.push_str(&reply(output)),
        (output, _) => text.push_str(&part("out", &pretty(output))),
    }
    let cost = &entry.cost;
    if cost.tokens_in + cost.tokens_out > 0 || cost.usd > 0.0 {
        let line = format!(
            "{} · {} tokens in, {} out",
            words::usd(cost.usd),
            words::number(cost.tokens_in),
            words::number(cost.tokens_out)
        );
        text.push_str(&part("cost", &line));
    }
    text
}

/// What a model was sent.
fn question(request: &Value) -> String {
    let mut text = String::new();
    for message in request["messages"].as_array().into_iter().flatten() {
        let role = message["role"].as_str().unwrap_or("message");
        match role {
            "assistant" => text.push_str(&said("in · assistant", message)),
            "tool" => {
                let call = message["call"].as_str().unwrap_or_default();
                let body = message["text"].as_str().unwrap_or_default();
                text.push_str(&part(&format!("in · result of {call}"), body));
            }
            role => text.push_str(&part(
                &format!("in · {role}"),
                message["text"].as_str().unwrap_or_default(),
            )),
        }
    }
    let tools = request["tools"].as_array().into_iter().flatten();
    let names: Vec<&str> = tools.filter_map(|tool| tool["name"].as_str()).collect();
    if !names.is_empty() {
        text.push_str(&part("in · tools", &names.join(", ")));
    }
    text
}

/// What a model answered.
fn reply(output: &Value) -> String {
    let mut text = said("out", output);
    if let Some(model) = output["model"].as_str().filter(|model| !model.is_empty()) {
        text.push_str(&part("model", model));
    }
    text
}

fn said(name: &str, message: &Value) -> String {
    let mut text = String::new();
    if let Some(body) = message["text"].as_str() {
        text.push_str(&part(name, body));
    }
    for call in message["calls"].as_array().into_iter().flatten() {
        let of = |key: &str| call[key].as_str().unwrap_or_default().to_owned();
        text.push_str(&part(
            &format!("{name} · calls"),
            &format!("{} {} as {}", of("name"), of("arguments"), of("id")),
        ));
    }
    text
}

fn part(name: &str, body: &str) -> String {
    match body.lines().count() {
        0 | 1 => format!("   {name}: {}\n", body.trim_end()),
        _ => format!("   {name}:\n{}\n", indented(&indented(body))),
    }
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("   {line}")).collect();
    lines.join("\n")
}

fn pretty(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => serde_json::to_string_pretty(value).unwrap_or_default(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;
    use shared::id::{RunId, TaskId};
    use shared::money::{Usage, Usd};
    use shared::run::{Attempt, Failure, FailureKind, Timestamp};
    use uuid::Uuid;

    use super::*;
    use crate::view::CostView;

    const ROOT: RunId = RunId(Uuid::from_u128(0x01980000_0000_7000_8000_00000000abcd));
    const CHILD: RunId = RunId(Uuid::from_u128(0x01980000_0000_7000_8000_00000000beef));

    fn cost(usd: f64, tokens_in: u64, tokens_out: u64) -> CostView {
        CostView {
            usd,
            tokens_in,
            tokens_out,
        }
    }

    fn step(
        run: RunId,
        key: &str,
        kind: &str,
        what: &str,
        state: &str,
        cost: CostView,
    ) -> StepView {
        StepView {
            run,
            key: key.into(),
            kind: kind.into(),
            agent: Some(
                if run == ROOT {
                    "supervisor"
                } else {
                    "researcher"
                }
                .into(),
            ),
            what: what.into(),
            state: state.into(),
            error: None,
            attempts: 1,
            cost,
            begun_at_ms: 0,
            ms: 1500,
        }
    }

    fn entry(run: RunId, key: &str, kind: &str, input: Value, output: Value) -> Entry {
        Entry {
            run,
            agent: if run == ROOT {
                "supervisor"
            } else {
                "researcher"
            }
            .into(),
            kind: kind.into(),
            key: key.into(),
            title: format!("a {kind}"),
            input,
            output,
            attempts: Vec::new(),
            cost: CostView::default(),
        }
    }

    pub(crate) fn transcript() -> Transcript {
        let think = cost(0.1, 1_000, 100);
        let again = cost(0.2, 2_000, 20);
        let search = cost(0.008, 0, 0);
        let both = cost(0.208, 2_000, 20);
        let steps = vec![
            step(ROOT, "think/1", "think", "think", "done", think),
            step(ROOT, "step/0", "child", "researcher", "done", both),
            StepView {
                attempts: 2,
                ..step(CHILD, "think/1", "think", "think", "done", again)
            },
            step(CHILD, "tool/1.0", "tool", "web_search", "in_doubt", search),
        ];
        let task = TaskView {
            id: TaskId(ROOT.0),
            state: "awaiting_human".into(),
            halted: false,
            phase: Some("executing".into()),
            text: "What happens\nafter a crash?".into(),
            agent: None,
            thread: Some("t-1".into()),
            user: "local".into(),
            metadata: [("team".to_owned(), "red".to_owned())].into(),
            answer: None,
            partial: Some("Something.".into()),
            error: None,
            cost: cost(0.308, 3_000, 120),
            created_at_ms: 1_000,
            updated_at_ms: 2_000,
            retry_of: None,
            fork_of: None,
            fork_from: None,
            pruned_at_ms: None,
            files: Vec::new(),
            asks: Vec::new(),
            feedback: vec![FeedbackView {
                who: "bert".into(),
                source: Source::Said,
                good: false,
                text: "that is\nno answer".into(),
                at_ms: 3_000,
            }],
            steps: Some(steps),
        };
        let attempt = |failure: Option<Failure>| Attempt {
            at: Timestamp(0),
            ms: 700,
            usage: Usage {
                usd: Usd::from_dollars(0.1),
                ..Usage::default()
            },
            failure,
        };
        let request = json!({
            "messages": [
                {"role": "system", "text": "You route."},
                {"role": "user", "text": "What happens\nafter a crash?"},
                {"role": "assistant", "text": null, "calls": [{"id": "c1", "name": "read_file", "arguments": "{\"path\":\"a\"}"}]},
                {"role": "tool", "call": "c1", "text": "nothing"},
            ],
            "tools": [{"name": "read_file"}, {"name": "search_files"}],
        });
        let busy = Failure::new(FailureKind::Transient, "429 Too Many Requests");
        let mut asked = entry(
            CHILD,
            "think/1",
            "think",
            request,
            json!({"text": "It goes on.", "model": "gpt-x"}),
        );
        asked.attempts = vec![attempt(Some(busy)), attempt(None)];
        asked.cost = again;
        let mut routed = entry(
            ROOT,
            "think/1",
            "think",
            json!({"messages": []}),
            json!({"text": "{}", "model": "gpt-s"}),
        );
        routed.cost = think;
        let entries = vec![
            entry(ROOT, "", "note", Value::Null, Value::Null),
            routed,
            entry(
                ROOT,
                "step/0",
                "child",
                json!({"task": "look"}),
                Value::Null,
            ),
            asked,
            entry(
                CHILD,
                "tool/1.0",
                "tool",
                json!({"query": "crash"}),
                json!({"in_doubt": "k"}),
            ),
        ];
        Transcript { task, entries }
    }

    #[test]
    fn a_story_reads_well() {
        insta::assert_snapshot!(full(&transcript(), 62_000));
    }

    #[test]
    fn steps_in_doubt_are_named_so_that_they_can_be_resolved() {
        let mut task = transcript().task;
        let steps = task.steps.as_mut().unwrap();
        steps.push(step(
            ROOT,
            "tool/1.0",
            "tool",
            "send",
            "in_doubt",
            CostView::default(),
        ));
        let names: Vec<String> = doubts(&task).into_iter().map(|doubt| doubt.step).collect();
        assert_eq!(
            names,
            [format!("{CHILD}/tool/1.0"), format!("{ROOT}/tool/1.0")]
        );
        let signal = step(
            ROOT,
            "signal/in_doubt/tool/1.0",
            "signal",
            "in_doubt/tool/1.0",
            "done",
            CostView::default(),
        );
        task.steps.as_mut().unwrap().push(signal);
        let names: Vec<String> = doubts(&task).into_iter().map(|doubt| doubt.step).collect();
        assert_eq!(names, ["tool/1.0"], "the other was answered");
    }
}
