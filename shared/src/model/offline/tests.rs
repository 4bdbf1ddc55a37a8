//! The rules as a whole, driven as the agent loop drives a model, over a small folder.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::reply;
use super::terms::{Terms, stem, words_of};
use crate::model::{Message, ModelRequest, OutputSchema, ToolDef};

const STORE: &str = "# Store\n\n\
    The store is the single truth. Every write of a run is fenced by its epoch.\n\n\
    A lease is a promise that one worker alone writes a run. It lasts 30 seconds.\n";
const MONEY: &str = "# Money\n\n\
    A budget is reserved before each call. Unknown prices are refused.\n\n\
    Each failed call is tried at most 3 times.\n";

/// A folder with tools, and what was written to it.
struct World {
    files: BTreeMap<&'static str, &'static str>,
    written: Vec<(String, String)>,
    calls: Vec<String>,
    parameters: Arc<Value>,
}

impl World {
    fn new() -> Self {
        Self {
            files: BTreeMap::from([("money.md", MONEY), ("store.md", STORE)]),
            written: Vec::new(),
            calls: Vec::new(),
            parameters: Arc::new(json!({})),
        }
    }

    fn call(&mut self, tool: &str, args: &Value) -> String {
        let text = |name: &str| args[name].as_str().unwrap_or_default().to_owned();
        self.calls.push(tool.to_owned());
        match tool {
            "search_files" => self.search(&text("query")).to_string(),
            "read_file" => match self.files.get(text("path").as_str()) {
                Some(file) => json!({"path": text("path"), "from_line": 1, "text": file}).to_string(),
                None => "no such file".into(),
            },
            "fetch_page" => json!({"url": text("url"), "title": "T", "text": "A page is a text. The page says that rivers flow."}).to_string(),
            "web_search" => json!({"results": [{"url": "https://e.com/", "title": "T", "snippet": ""}]}).to_string(),
            "write_file" => {
                self.written.push((text("path"), text("text")));
                json!({"path": text("path"), "bytes": text("text").len()}).to_string()
            }
            _ => "unknown tool".into(),
        }
    }

    /// Passages of a paragraph that have any of the words.
    fn search(&self, query: &str) -> Value {
        let wanted: Vec<_> = words_of(query).map(stem).collect();
        let mut passages = Vec::new();
        for (path, file) in &self.files {
            for (at, line) in file.lines().enumerate() {
                if words_of(line).any(|word| wanted.contains(&stem(word))) {
                    passages.push(
                        json!({"path": path, "from_line": at + 1, "text": line, "score": 1.0}),
                    );
                }
            }
        }
        json!({"passages": passages, "searched": self.files.len()})
    }

    /// The agent loop in small: until the model says something.
    fn run(&mut self, tools: &[&str], task: &str) -> String {
        let tools = tools.iter().map(|name| ToolDef {
            name: name.into(),
            description: "".into(),
            parameters: self.parameters.clone(),
        });
        let mut request = ModelRequest {
            messages: vec![
                Message::System {
                    text: "You work.".into(),
                },
                Message::user(task),
            ],
            tools: tools.collect(),
            output: None,
            max_tokens: 500,
        };
        for _ in 0..8 {
            let answer = reply(&request);
            assert_eq!(
                answer,
                reply(&request),
                "the same request gets the same reply"
            );
            let calls = answer.calls.clone();
            let results = calls.iter().map(|call| Message::Tool {
                call: call.id.clone(),
                text: self.call(
                    call.name.as_str(),
                    &serde_json::from_str(&call.arguments).unwrap(),
                ),
            });
            let results: Vec<_> = results.collect();
            if let Some(text) = answer.text {
                return text;
            }
            request
                .messages
                .push(Message::Assistant { text: None, calls });
            request.messages.extend(results);
        }
        panic!("no end: {:?}", self.calls);
    }
}

const RESEARCHER: &[&str] = &["search_files", "read_file", "fetch_page"];

fn answered(question: &str) -> String {
    let findings = World::new().run(RESEARCHER, question);
    World::new().run(
        &[],
        &format!("Task: {question}\n\nResults so far:\n{findings}"),
    )
}

#[test]
fn different_questions_get_different_sourced_answers() {
    let table = [
        (
            "What is a lease?",
            "A lease is a promise that one worker alone writes a run. [store.md:5]",
        ),
        (
            "How often is a failed call tried?",
            "Each failed call is tried at most 3 times. [money.md:5]",
        ),
        (
            "What happens with unknown prices?",
            "Unknown prices are refused. [money.md:3]",
        ),
        (
            "What is every write fenced by?",
            "Every write of a run is fenced by its epoch. [store.md:3]",
        ),
    ];
    for (question, begins) in table {
        let answer = answered(question);
        assert!(answer.starts_with(begins), "{question}: {answer}");
        assert!(answer.contains("\n\nSources:\n- "), "{answer}");
    }
}

#[test]
fn what_is_not_there_is_not_answered() {
    let answer = answered("Who won the football match?");
    assert!(
        answer.starts_with("Found nothing about won, football, match."),
        "{answer}"
    );
    assert!(answer.contains("search_files"), "{answer}");
}

#[test]
fn words_that_stand_nowhere_are_named() {
    let answer = answered("What is a lease of a boat?");
    assert!(answer.starts_with("A lease is a promise"), "{answer}");
    assert!(
        answer.ends_with("Not mentioned in what was found: boat."),
        "{answer}"
    );
}

#[test]
fn every_quote_stands_in_its_source_word_by_word() {
    for question in [
        "What is a lease?",
        "Tell me about budgets and prices",
        "What does store.md say?",
    ] {
        let findings = World::new().run(RESEARCHER, question);
        let quotes = super::answer::quotes_in(&findings);
        assert!(!quotes.is_empty(), "{question}: {findings}");
        for quote in quotes {
            let file = World::new().files[quote.source.as_str()];
            let line = file.lines().nth(quote.sentence.line - 1).unwrap();
            assert!(line.contains(&quote.sentence.text), "{quote:?}");
        }
    }
}

#[test]
fn the_web_is_asked_only_where_the_files_are_silent() {
    let tools = &["search_files", "web_search", "fetch_page"];
    let mut world = World::new();
    world.run(tools, "What is a lease?");
    assert_eq!(world.calls, ["search_files"]);
    let mut world = World::new();
    let findings = world.run(tools, "Which rivers flow?");
    let words_alone = ["search_files", "search_files"];
    assert_eq!(world.calls[1..3], words_alone);
    assert_eq!(world.calls[3..], ["web_search", "fetch_page"]);
    assert!(
        findings.contains("The page says that rivers flow. [https://e.com/]"),
        "{findings}"
    );
}

#[test]
fn the_work_ends_whatever_names_the_arguments_have() {
    let mut world = World::new();
    world.parameters = Arc::new(json!({"properties": {"query": {}, "path": {}}}));
    world.run(RESEARCHER, "What is a lease?");
    assert_eq!(world.calls[0], "search_files");
    assert!(
        world.calls[1..].iter().all(|tool| tool == "read_file"),
        "{:?}",
        world.calls
    );
}

/// A search that finds these files with this text, whatever it is asked.
fn second_calls(question: &str, found: &[(&str, &str)]) -> Vec<Value> {
    let passages = found.iter();
    let passages = passages.map(|(path, text)| json!({"path": path, "from_line": 1, "text": text}));
    let result = json!({"passages": passages.collect::<Vec<_>>()});
    let messages = vec![
        Message::user(question),
        Message::Assistant {
            text: None,
            calls: vec![crate::model::ToolCall {
                id: "c".into(),
                name: "search_files".into(),
                arguments: "{}".into(),
            }],
        },
        Message::Tool {
            call: "c".into(),
            text: result.to_string(),
        },
    ];
    let properties = json!({"properties": {"query": {}, "path": {}}, "required": ["query"]});
    let request = ModelRequest {
        messages,
        tools: vec![ToolDef {
            name: "search_files".into(),
            description: "".into(),
            parameters: Arc::new(properties),
        }],
        output: None,
        max_tokens: 99,
    };
    let calls = reply(&request).calls.into_iter();
    calls
        .map(|call| serde_json::from_str(&call.arguments).unwrap())
        .collect()
}

#[test]
fn a_second_search_is_made_where_the_first_one_found_little() {
    let docs = |query: &str| {
        vec![
            json!({"query": query, "path": "README.md"}),
            json!({"query": query, "path": "docs"}),
        ]
    };
    let lease = ("a.md", "A lease lasts. It ends with its epoch.");
    let table = [
        ("How do lease and epoch end?", vec![lease], vec![]),
        (
            "Which boat lease has a fishing licence, sails and oars?",
            vec![lease],
            vec![json!({"query": "boat fishing licence"})],
        ),
        (
            "How long is a lease?",
            vec![("a.rs", "/// A lease."), ("b.rs", "let lease = 1;")],
            docs("lease"),
        ),
        (
            "Where is `lease_end` set?",
            vec![("a.rs", "/// lease_end is set here.")],
            vec![],
        ),
    ];
    for (question, found, calls) in table {
        assert_eq!(second_calls(question, &found), calls, "{question}");
    }
}

#[test]
fn without_a_tool_for_pages_the_files_are_searched() {
    let mut world = World::new();
    world.run(
        &["search_files"],
        "What does https://e.com/x say about a lease?",
    );
    assert_eq!(world.calls, ["search_files"]);
}

#[test]
fn a_page_that_is_named_is_fetched() {
    let mut world = World::new();
    let findings = world.run(RESEARCHER, "What does https://e.com/x say about rivers?");
    assert_eq!(world.calls, ["fetch_page"]);
    assert!(
        findings.contains("rivers flow. [https://e.com/x]"),
        "{findings}"
    );
}

#[test]
fn files_are_written_once_with_given_or_found_content() {
    let tools = &["search_files", "read_file", "write_file"];
    let mut world = World::new();
    let report = world.run(tools, "Write \"hello\" to note.txt");
    assert_eq!(report, "Wrote note.txt (6 bytes).");
    assert_eq!(world.written, [("note.txt".into(), "hello\n".into())]);

    let mut world = World::new();
    let report = world.run(
        tools,
        "Find out what a lease is and write it to out/lease.md",
    );
    assert!(report.starts_with("Wrote out/lease.md"), "{report}");
    assert_eq!(world.written.len(), 1);
    assert!(
        world.written[0].1.starts_with("A lease is a promise"),
        "{:?}",
        world.written
    );

    let mut world = World::new();
    let task = "Write an answer to a.md\n\nFindings for: x\n- Rivers flow. [r.md:1]";
    world.run(tools, task);
    assert_eq!(world.calls, ["write_file"]);
    assert!(world.written[0].1.contains("Rivers flow. [r.md:1]"));

    let mut world = World::new();
    let report = world.run(tools, "Write a summary of football to f.md");
    assert!(
        report.starts_with("Could not write f.md: Found nothing about football"),
        "{report}"
    );
    assert_eq!(world.written, []);
}

#[test]
fn a_closing_call_without_tools_says_what_was_found_so_far() {
    let mut messages = vec![
        Message::System {
            text: "You work.".into(),
        },
        Message::user("What is a lease?"),
        Message::Assistant {
            text: None,
            calls: vec![crate::model::ToolCall {
                id: "c".into(),
                name: "search_files".into(),
                arguments: "{}".into(),
            }],
        },
        Message::Tool {
            call: "c".into(),
            text: World::new().search("lease").to_string(),
        },
    ];
    messages.push(Message::user("The limit is reached. Say what you have."));
    let request = ModelRequest {
        messages,
        tools: vec![],
        output: None,
        max_tokens: 99,
    };
    let text = reply(&request).text.unwrap();
    assert!(
        text.starts_with("Findings for: What is a lease?\n- A lease is"),
        "{text}"
    );
}

#[test]
fn a_document_that_came_with_the_task_is_read() {
    let enclosed = "\n\n## File rota.md\n\n# Rota\n\nBackups are made on Sundays at noon.\n\n\
                    Ada looks after them. Bob stands in for her.";
    let asked = |question: &str| {
        let mut world = World::new();
        let findings = world.run(RESEARCHER, &format!("{question}{enclosed}"));
        (findings, world.calls)
    };
    let (findings, calls) = asked("When are backups made?");
    let quote = "- Backups are made on Sundays at noon. [rota.md:3]";
    assert!(
        findings.contains(quote) && calls.is_empty(),
        "{findings} {calls:?}"
    );
    let (findings, calls) = asked("Summarise this");
    assert!(
        findings.contains("[rota.md:") && calls.is_empty(),
        "{findings}"
    );
    // What does not stand there is looked for elsewhere.
    let (findings, calls) = asked("What is a lease?");
    assert!(
        findings.contains("[store.md:5]") && !calls.is_empty(),
        "{findings}"
    );
    // An agent without tools reads it, too.
    let answer = World::new().run(&[], &format!("When are backups made?{enclosed}"));
    assert!(
        answer.starts_with("Backups are made on Sundays at noon. [rota.md:3]"),
        "{answer}"
    );
}

#[test]
fn results_of_several_agents_become_one_answer() {
    let task = "Task: What is a lease? Also write it down.\n\nResults:\n## executor\nWrote lease.md (9 bytes).\n\n## writer\nA lease is a promise. [store.md:5]\n\nSources:\n- store.md:5\n";
    let answer = World::new().run(&[], task);
    assert_eq!(
        answer,
        "Wrote lease.md (9 bytes).\n\nA lease is a promise. [store.md:5]\n\nSources:\n- store.md:5"
    );
}

#[test]
fn the_router_answers_with_a_plan() {
    let schema = json!({"type": "object", "properties": {"steps": {}, "reason": {}, "answer": {}}});
    let request = ModelRequest {
        messages: vec![
            Message::System {
                text: "Agents:\n- researcher: finds\n- executor: writes".into(),
            },
            Message::user("What is a lease?"),
        ],
        tools: vec![],
        output: Some(OutputSchema {
            name: "plan".into(),
            schema: Arc::new(schema),
        }),
        max_tokens: 99,
    };
    let plan: Value = serde_json::from_str(&reply(&request).text.unwrap()).unwrap();
    assert_eq!(
        plan["steps"][0],
        json!({"agent": "researcher", "task": "What is a lease?"})
    );
}

#[test]
fn arguments_take_the_names_that_the_schema_has() {
    let tool = ToolDef {
        name: "search_files".into(),
        description: "".into(),
        parameters: Arc::new(json!({"properties": {"text": {}}, "required": ["text"]})),
    };
    let request = ModelRequest {
        messages: vec![Message::user("What is a lease?")],
        tools: vec![tool],
        output: None,
        max_tokens: 9,
    };
    assert_eq!(reply(&request).calls[0].arguments, r#"{"text":"lease"}"#);
    assert_eq!(Terms::of("What is a lease?").query(), "lease");
}
