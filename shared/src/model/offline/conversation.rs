//! Reads a request: what is asked, what was handed over with it, and what the tools have said so
//! far. Pure.

use serde_json::Value;

use super::answer::{self, FINDINGS};
use super::evidence::Passage;
use super::rank::Candidate;
use crate::model::{Message, ModelRequest};

/// How a document begins that came with a task; its name follows.
const DOCUMENT: &str = "\n\n## File ";
/// How a document's text ends where not all of it was taken.
const LEFT_OUT: &str = "\n[the rest of the file is left out]";
/// What comes after a task's documents, where anything does.
const AFTER: [&str; 3] = [
    "\n\n## Result of ",
    "\n\nThe result must meet these criteria:",
    "\n\nThe agents' results follow.",
];

/// A request as the rules see it.
pub(super) struct Conversation<'a> {
    /// The system prompt.
    pub(super) system: &'a str,
    /// What is asked.
    pub(super) task: String,
    /// Documents that came with the task.
    pub(super) documents: Vec<Passage>,
    /// Quotes with sources that came with the task, from agents before.
    pub(super) material: Vec<Candidate>,
    /// What else came with the task.
    pub(super) rest: String,
    /// Tool calls since the task was given, with their results, in order.
    pub(super) exchanges: Vec<Exchange<'a>>,
    /// All tool calls of the conversation.
    pub(super) calls_before: usize,
}

/// One tool call and its result.
pub(super) struct Exchange<'a> {
    /// The tool.
    pub(super) tool: &'a str,
    /// Its arguments.
    pub(super) args: Value,
    /// What came back.
    pub(super) result: &'a str,
}

impl<'a> Conversation<'a> {
    /// Reads a request.
    pub(super) fn read(request: &'a ModelRequest) -> Self {
        let messages = &request.messages;
        let system = messages.iter().find_map(|message| match message {
            Message::System { text } => Some(text.as_str()),
            _ => None,
        });
        let asked_at = asked_at(messages);
        let asked = match asked_at.map(|at| &messages[at]) {
            Some(Message::User { text, .. }) => text.as_str(),
            _ => "",
        };
        let (asked, documents) = unfold(asked);
        let (task, handed) = divide(&asked);
        let task = match task.is_empty() {
            true => answer::question_in(handed).unwrap_or(task),
            false => task,
        };
        Self {
            system: system.unwrap_or_default(),
            material: answer::quotes_in(handed),
            rest: handed.trim().to_owned(),
            task,
            documents,
            exchanges: exchanges(&messages[asked_at.map_or(0, |at| at + 1)..]),
            calls_before: messages.iter().map(calls_of).map(<[_]>::len).sum(),
        }
    }
}

/// The user message that gave the task: the last one that is not a remark in the middle of the work.
fn asked_at(messages: &[Message]) -> Option<usize> {
    let is_user = |at: &usize| matches!(messages[*at], Message::User { .. });
    let opens = |at: &usize| {
        !matches!(
            at.checked_sub(1).map(|before| &messages[before]),
            Some(Message::Tool { .. } | Message::User { .. })
        )
    };
    let mut places = (0..messages.len()).rev().filter(is_user);
    places.clone().find(opens).or_else(|| places.next())
}

fn calls_of(message: &Message) -> &[crate::model::ToolCall] {
    match message {
        Message::Assistant { calls, .. } => calls,
        _ => &[],
    }
}

fn exchanges(messages: &[Message]) -> Vec<Exchange<'_>> {
    let result_of = |id: &str| {
        messages.iter().find_map(|message| match message {
            Message::Tool { call, text } if call == id => Some(text.as_str()),
            _ => None,
        })
    };
    let calls = messages.iter().flat_map(calls_of);
    calls
        .filter_map(|call| {
            Some(Exchange {
                tool: call.name.as_str(),
                args: serde_json::from_str(&call.arguments).unwrap_or_default(),
                result: result_of(&call.id)?,
            })
        })
        .collect()
}

/// A text without the documents in it, and those.
fn unfold(text: &str) -> (String, Vec<Passage>) {
    let Some((before, enclosed)) = text.split_once(DOCUMENT) else {
        return (text.to_owned(), Vec::new());
    };
    let ends = AFTER.iter().filter_map(|after| enclosed.find(after));
    let (enclosed, after) = enclosed.split_at(ends.min().unwrap_or(enclosed.len()));
    let document = |text: &str| {
        let (name, text) = text.split_once('\n')?;
        let text = text.trim_matches('\n');
        Some(Passage {
            source: name.trim().to_owned(),
            line: 1,
            text: text.strip_suffix(LEFT_OUT).unwrap_or(text).to_owned(),
            prior: 1.0,
        })
    };
    let documents = enclosed.split(DOCUMENT).filter_map(document);
    (format!("{before}{after}"), documents.collect())
}

/// The task, and what was handed over with it. The task ends where a finding, or a heading that
/// announces results, begins; a short message is a task as a whole.
fn divide(text: &str) -> (String, &str) {
    let mut end = text.len();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if announces_results(line.trim()) || !answer::quotes_in(line).is_empty() {
            end = at;
            break;
        }
        at += line.len();
    }
    let (task, handed) = text.split_at(end);
    let lines = task.lines().map(str::trim).filter(|line| !is_label(line));
    let task = lines.map(without_label).collect::<Vec<_>>().join("\n");
    (task.trim().to_owned(), handed)
}

fn announces_results(line: &str) -> bool {
    let lower = line.to_lowercase();
    let is_heading = line.starts_with('#') || line.ends_with(':') || line.starts_with('<');
    line.starts_with(FINDINGS)
        || is_heading
            && [
                "result",
                "finding",
                "so far",
                "material",
                "done before",
                "other agents",
            ]
            .iter()
            .any(|word| lower.contains(word))
}

/// A line that only says what follows: `Task:`, `## The question`.
fn is_label(line: &str) -> bool {
    let bare = line
        .trim_matches(|c: char| !c.is_alphanumeric())
        .to_lowercase();
    let marked = line.starts_with('#') || line.ends_with(':') || line.starts_with('<');
    marked
        && [
            "task",
            "the task",
            "question",
            "the question",
            "your task",
            "request",
        ]
        .contains(&bare.as_str())
}

fn without_label(line: &str) -> &str {
    let labels = [
        "Task:",
        "Question:",
        "The task:",
        "The question:",
        "Your task:",
        "Request:",
    ];
    labels
        .iter()
        .find_map(|label| line.strip_prefix(label))
        .map_or(line, str::trim_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_is_told_from_what_came_with_it() {
        let table = [
            ("What is a lease?", "What is a lease?", ""),
            (
                "Task: What is a lease?\n\nResults so far:\nx",
                "What is a lease?",
                "Results so far:\nx",
            ),
            (
                "# Task\nWhat is it?\n\nFindings for: it\n- It is. [a.md:1]\n",
                "What is it?",
                "Findings for: it\n- It is. [a.md:1]\n",
            ),
            (
                "What is it?\n\nIt is. [a.md:1]",
                "What is it?",
                "It is. [a.md:1]",
            ),
        ];
        for (text, task, handed) in table {
            assert_eq!(divide(text), (task.to_owned(), handed), "{text}");
        }
    }

    #[test]
    fn documents_are_told_from_the_task_and_from_what_follows_them() {
        let files = "## File a.md\n\nOne.\n\n## Results\n\nTwo.\n\n## File b.txt\n\nThree.\n\
                     [the rest of the file is left out]";
        for after in [
            "",
            "\n\n## Result of x\n\ny",
            "\n\nThe result must meet these criteria:\n- z",
        ] {
            let (asked, documents) = unfold(&format!("When?\n\n{files}{after}"));
            assert_eq!(asked, format!("When?{after}"));
            let read: Vec<_> = documents.iter().map(|d| (&*d.source, &*d.text)).collect();
            assert_eq!(
                read,
                [("a.md", "One.\n\n## Results\n\nTwo."), ("b.txt", "Three.")]
            );
        }
        assert_eq!(unfold("## File a.md").1, []);
    }

    #[test]
    fn a_remark_in_the_middle_is_not_the_task() {
        let user = |text: &str| Message::user(text);
        let tool = Message::Tool {
            call: "c".into(),
            text: "r".into(),
        };
        let said = Message::Assistant {
            text: Some("x".into()),
            calls: vec![],
        };
        assert_eq!(
            asked_at(&[user("old"), said, user("new"), tool, user("stop soon")]),
            Some(2)
        );
        assert_eq!(asked_at(&[]), None);
    }
}
