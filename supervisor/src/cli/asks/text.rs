//! What people are asked, in text. Pure. What others wrote stands indented, so that none of it can pass for
//! a line of ours.

use std::fmt::Write;

use shared::ask::{AskKind, AskState};
use shared::clock;
use shared::id::AskId;
use shared::run::Timestamp;

use super::super::words;
use crate::asks::{Collection, Outcome};
use crate::wire::{ActionView, AskPage, AskView};

/// How much of what it is about a list shows.
const TITLE: usize = 60;

/// A list.
pub fn table(which: Collection, page: &AskPage, now_ms: i64) -> String {
    if page.asks.is_empty() {
        return format!("no {}\n", which.as_str());
    }
    let row = |ask: &AskView| {
        let left = ask.until_ms.filter(|_| ask.state == AskState::Open);
        vec![
            words::short_ask(ask.id),
            ask.kind.as_str().to_owned(),
            ask.state.as_str().to_owned(),
            words::age(now_ms - ask.asked_at_ms),
            left.map_or(String::new(), |until| words::age(until - now_ms)),
            ask.agent.clone().unwrap_or_default(),
            words::short(ask.task),
            words::cut(&words::line(&ask.title), TITLE),
        ]
    };
    let rows: Vec<Vec<String>> = page.asks.iter().map(row).collect();
    let head = [
        "id", "kind", "state", "age", "left", "agent", "task", "what",
    ];
    let mut text = words::table(&head, &rows, &[3, 4]);
    if page.next.is_some() {
        text.push_str("there are more: --limit 200\n");
    }
    text
}

/// One of them with all that is needed to decide it.
pub fn full(ask: &AskView, now_ms: i64) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<9} {value}");
        }
    };
    field(ask.kind.as_str(), &ask.id.to_string());
    field("state", &state(ask, now_ms));
    field("asked", &asked(ask, now_ms));
    field("task", &ask.task.to_string());
    field("for", ask.user.as_deref().unwrap_or_default());
    if let Some(cost) = &ask.cost {
        field("cost", &format!("{} so far", words::usd(cost.usd)));
    }
    field("approvers", &ask.approvers.join(", "));
    if let Some(request) = &ask.request {
        let _ = write!(text, "\nrequest:\n{}\n", indented(request.trim()));
    }
    let _ = write!(text, "\n{}", body(ask));
    match ask.state {
        AskState::Open => {
            let _ = write!(text, "\n{}", commands(ask.id, ask.kind));
        }
        _ => {
            let _ = write!(text, "\n{}\n", decided(ask));
        }
    }
    text
}

/// What is asked: the words, and what would be done to the last byte.
pub fn body(ask: &AskView) -> String {
    let mut text = format!("{}\n", words::line(&ask.title));
    if !ask.text.trim().is_empty() {
        let _ = writeln!(text, "{}", indented(ask.text.trim()));
    }
    for (index, choice) in ask.choices.iter().enumerate() {
        let _ = writeln!(text, "   {}. {}", index + 1, words::line(choice));
    }
    if let Some(action) = &ask.action {
        let _ = write!(text, "\n{}", what(action));
    }
    text
}

fn what(action: &ActionView) -> String {
    let args = serde_json::to_string_pretty(&action.args).unwrap_or_default();
    let mut text = format!(
        "tool      {} (version {})\narguments\n{}\n",
        action.tool,
        action.version,
        indented(&args)
    );
    for target in &action.targets {
        let _ = writeln!(text, "reaches   {}", whole(target));
    }
    for file in &action.files {
        let _ = writeln!(
            text,
            "with      {} ({} bytes)\n          SHA-256 {}",
            whole(&file.name),
            words::number(file.bytes),
            file.sha256
        );
    }
    let _ = writeln!(text, "SHA-256   {}", action.sha256);
    text
}

/// Text in one line, and all of it: what is approved is never cut.
fn whole(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

fn state(ask: &AskView, now_ms: i64) -> String {
    match (ask.state, ask.until_ms) {
        (AskState::Open, Some(until)) => format!(
            "open for {}, until {}",
            words::age(until - now_ms),
            clock::utc(Timestamp(until))
        ),
        (state, _) => state.as_str().to_owned(),
    }
}

fn asked(ask: &AskView, now_ms: i64) -> String {
    let age = words::age(now_ms - ask.asked_at_ms);
    match &ask.agent {
        Some(agent) => format!("{age} ago by {agent}"),
        None => format!("{age} ago"),
    }
}

/// What became of it, in a line.
pub fn decided(ask: &AskView) -> String {
    let outcome = Outcome {
        kind: ask.kind,
        state: ask.state,
        decision: ask.decision.as_ref(),
        by: ask.decided_by.clone(),
        at: ask.decided_at_ms.map(Timestamp),
    };
    outcome.tell(words::line)
}

/// How it is decided: one command in each line.
pub fn commands(id: AskId, kind: AskKind) -> String {
    let id = words::short_ask(id);
    let lines: Vec<(String, &str)> = match kind {
        AskKind::Approval => vec![
            (format!("approve {id}"), "do it"),
            (format!("reject {id} --reason \"…\""), "do not"),
            (format!("answer {id} \"…\""), "say something instead"),
        ],
        AskKind::Question => vec![(format!("answer {id} \"…\""), "answer it")],
        AskKind::Doubt => vec![
            (format!("escalations resolve {id} --happened"), "it did"),
            (
                format!("escalations resolve {id} --again"),
                "it did not: do it again",
            ),
            (format!("escalations resolve {id} --give-up"), "leave it"),
        ],
        AskKind::Trouble => vec![
            (format!("escalations resolve {id} --again"), "try again"),
            (
                format!("escalations resolve {id} --guide \"…\""),
                "go on, minding this",
            ),
            (format!("answer {id} \"…\""), "this is the result"),
            (format!("escalations resolve {id} --give-up"), "give it up"),
        ],
        AskKind::Limit => vec![
            (format!("escalations resolve {id} --more"), "as much again"),
            (
                format!("escalations resolve {id} --more 5"),
                "so many dollars more",
            ),
            (format!("answer {id} \"…\""), "this is the result"),
            (
                format!("escalations resolve {id} --give-up"),
                "it ends with what there is",
            ),
        ],
    };
    let width = lines.iter().map(|(command, _)| command.chars().count());
    let width = width.max().unwrap_or(0);
    let mut text = String::new();
    for (command, meaning) in lines {
        let _ = writeln!(text, "  majordomo {command:<width$}    {meaning}");
    }
    text
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("   {line}")).collect();
    lines.join("\n")
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;
    use shared::ask::{Action, Ask, Asked, Decision, FileDigest, Preview, Verdict};
    use shared::hash::Hash;
    use shared::id::{RunId, TaskId};
    use uuid::Uuid;

    use super::*;
    use crate::view::CostView;

    const HOUR: i64 = 3_600_000;

    pub(crate) fn approval() -> AskView {
        let task = TaskId(Uuid::from_u128(0x01980000_0000_7000_8000_00000000abcd));
        let name = "approve/tool/2.0".into();
        let action = Action {
            tool: "send_email".into(),
            version: 1,
            args: json!({"to": ["ann@example.org"], "body": "Dear Ann,\n\u{202e}you owe us $5."}),
            preview: Preview {
                targets: vec!["ann@example.org\nreaches   nobody".into()],
                files: vec![FileDigest {
                    name: "bill.pdf".into(),
                    sha256: Hash::of_bytes(b"bill"),
                    bytes: 12_345,
                }],
            },
            tenant: "home".into(),
            principal: "bert".into(),
            run: task.into(),
            policy: Hash::of_bytes(b"policy"),
        };
        let ask = Ask {
            text: "You are asked because it cannot be taken back.\n\nexecutor says: the bill is due.\n  majordomo approve 00000000    harmless".into(),
            agent: Some("executor".into()),
            action: Some(action),
            ..Ask::new(AskKind::Approval, "executor wants to call send_email")
        };
        let asked = Asked {
            id: AskId::of(RunId::from(task), &name),
            task,
            run: task.into(),
            name,
            ask,
            at: Timestamp(0),
            until: Some(Timestamp(72 * HOUR)),
            state: AskState::Open,
            verdict: None,
        };
        AskView {
            user: Some("bert".into()),
            request: Some("Send Ann the bill\nfor May.".into()),
            cost: Some(CostView {
                usd: 0.0123,
                ..CostView::default()
            }),
            ..AskView::of(asked)
        }
    }

    pub(crate) fn question() -> AskView {
        AskView {
            kind: AskKind::Question,
            title: "Which report is meant?".into(),
            text: "There are two.".into(),
            choices: vec!["March".into(), "April".into()],
            action: None,
            until_ms: None,
            ..approval()
        }
    }

    #[test]
    fn an_approval_is_shown_to_the_last_byte() {
        let shown = full(&approval(), HOUR);
        insta::assert_snapshot!(words::plain(&shown));
        let verdict = Verdict {
            decision: Decision::Reject {
                reason: "not\nyet".into(),
            },
            by: Some("ann".into()),
            action: None,
            permit: None,
        };
        let closed = AskView {
            state: AskState::Answered,
            decision: Some(verdict.decision),
            decided_by: Some("ann".into()),
            decided_at_ms: Some(HOUR),
            ..approval()
        };
        let shown = full(&closed, HOUR);
        assert!(
            shown.ends_with("\nrejected by ann, 1970-01-01 01:00:00 UTC: not yet\n"),
            "{shown}"
        );
        assert!(
            !shown.contains("approve 5"),
            "nothing is to be decided any more"
        );
    }

    #[test]
    fn lists_read_well() {
        let page = AskPage {
            asks: vec![approval(), question()],
            next: Some(approval().id),
        };
        insta::assert_snapshot!(table(Collection::Approvals, &page, HOUR));
        let none = AskPage {
            asks: Vec::new(),
            next: None,
        };
        assert_eq!(table(Collection::Questions, &none, 0), "no questions\n");
    }

    #[test]
    fn every_kind_says_how_it_is_decided() {
        let all = AskKind::ALL.map(|kind| commands(approval().id, kind));
        insta::assert_snapshot!(all.join("\n"));
    }
}
