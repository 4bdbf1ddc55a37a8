//! The router's rule: which agent a task goes to. The agents are read from the prompt, in lines like
//! `- researcher: finds facts`. Pure.

use serde_json::{Map, Value, json};

use super::conversation::Conversation;
use super::rank::stems;
use super::terms::{Terms, words_of};
use super::writing;

/// An agent that may be chosen.
#[derive(Clone, Debug, PartialEq)]
struct Listed {
    name: String,
    description: String,
}

/// The plan for a task, as JSON text that fits the schema.
pub(super) fn plan(talk: &Conversation<'_>, schema: &Value) -> String {
    let listed = listed(talk.system);
    let mut plan = decide(&talk.task, !talk.documents.is_empty(), &listed);
    if !talk.documents.is_empty()
        && let Some(task) = plan.pointer_mut("/steps/0/task")
    {
        // Nothing stands for the task as it came, with its documents.
        *task = json!("");
    }
    fitted(plan, schema, schema).to_string()
}

fn decide(task: &str, has_documents: bool, agents: &[Listed]) -> Value {
    if is_small_talk(task) && !has_documents {
        return json!({"steps": [], "reason": "small talk needs no agent", "answer": SELF});
    }
    let named = |name: &str| agents.iter().find(|agent| agent.name == name);
    let (agent, reason) = match () {
        () if writing::wish(task).is_some() && named("executor").is_some() => (
            named("executor"),
            "the task asks for a file to be written".to_owned(),
        ),
        () if named("researcher").is_some() => (
            named("researcher"),
            "the task has to be looked up".to_owned(),
        ),
        () => most_alike(task, agents),
    };
    match agent {
        Some(agent) => json!({
            "steps": [{"agent": agent.name, "task": task}],
            "reason": reason,
        }),
        None => json!({
            "steps": [],
            "reason": "no agent is listed",
            "answer": "There is no agent that could work on this: none is configured.",
        }),
    }
}

/// The agent whose description has most words of the task; the first one among equals.
fn most_alike<'a>(task: &str, agents: &'a [Listed]) -> (Option<&'a Listed>, String) {
    let terms = Terms::of(task);
    let shared = |agent: &Listed| {
        let description = stems(&format!("{} {}", agent.name, agent.description));
        terms
            .words
            .iter()
            .filter(|term| description.contains(&term.stem))
            .count()
    };
    let best = agents.iter().rev().max_by_key(|agent| shared(agent));
    let reason = best.map(|agent| match shared(agent) {
        0 => "no description has a word of the task, so the first agent takes it".to_owned(),
        n => format!("its description shares {n} word(s) with the task"),
    });
    (best, reason.unwrap_or_default())
}

fn listed(prompt: &str) -> Vec<Listed> {
    let lines = prompt.lines().map(str::trim);
    lines
        .filter_map(|line| {
            let (name, description) = line.strip_prefix("- ")?.split_once(':')?;
            let name = name.trim_matches(['*', '`', '"', ' ']);
            let is_name = !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c));
            is_name.then(|| Listed {
                name: name.to_owned(),
                description: description.trim().to_owned(),
            })
        })
        .collect()
}

const SELF: &str = "This is Majordomo with its built-in offline model: rules, no language model. \
It can search the files in its folder, read pages that you name, answer questions with sentences \
quoted from them, each with its source, and write files. For free conversation, plug in a real model: \
set OPENAI_API_KEY, or name an OpenAI-compatible server under [models] in majordomo.toml.";

fn is_small_talk(task: &str) -> bool {
    const WORDS: &[&str] = &[
        "hi",
        "hello",
        "hey",
        "hallo",
        "thanks",
        "thank",
        "you",
        "good",
        "morning",
        "evening",
        "afternoon",
        "day",
        "bye",
        "goodbye",
        "there",
        "majordomo",
        "how",
        "are",
        "who",
        "what",
        "can",
        "do",
        "help",
        "me",
        "please",
        "test",
        "ping",
        "ok",
        "okay",
    ];
    let lower = task.to_lowercase();
    let mut words = words_of(&lower).peekable();
    words.peek().is_none() || words.all(|word| WORDS.contains(&word))
}

/// A value with what the schema does not know left out and what it wants filled in. Follows
/// references within the schema.
fn fitted(value: Value, schema: &Value, root: &Value) -> Value {
    let schema = resolved(schema, root);
    match value {
        Value::Object(map) => {
            let known = schema.get("properties").and_then(Value::as_object);
            let property = |name: &str| known.and_then(|known| known.get(name));
            let fits = map
                .into_iter()
                .filter(|(name, _)| known.is_none() || property(name).is_some());
            let mut map: Map<String, Value> = fits
                .map(|(name, item)| {
                    let item = fitted(item, property(&name).unwrap_or(&Value::Null), root);
                    (name, item)
                })
                .collect();
            let required = schema.get("required").and_then(Value::as_array);
            for name in required.into_iter().flatten().filter_map(Value::as_str) {
                if !map.contains_key(name) {
                    map.insert(
                        name.to_owned(),
                        empty(property(name).unwrap_or(&Value::Null), root),
                    );
                }
            }
            Value::Object(map)
        }
        Value::Array(items) => {
            let of = schema.get("items").unwrap_or(&Value::Null);
            items
                .into_iter()
                .map(|item| fitted(item, of, root))
                .collect()
        }
        other => other,
    }
}

/// The schema itself, or what it refers to; of alternatives, the one that is not null.
fn resolved<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
        return path
            .strip_prefix('#')
            .and_then(|path| root.pointer(path))
            .unwrap_or(schema);
    }
    let alternatives = schema
        .get("anyOf")
        .or_else(|| schema.get("oneOf"))
        .and_then(Value::as_array);
    let real =
        alternatives.and_then(|all| all.iter().find(|s| s.get("type") != Some(&json!("null"))));
    real.map_or(schema, |schema| resolved(schema, root))
}

/// The least value of a schema's type.
fn empty(schema: &Value, root: &Value) -> Value {
    let may_be_null = |s: &Value| {
        s.get("type").is_some_and(|t| {
            *t == json!("null") || t.as_array().is_some_and(|t| t.contains(&json!("null")))
        })
    };
    let alternatives = schema.get("anyOf").and_then(Value::as_array);
    if may_be_null(schema) || alternatives.is_some_and(|all| all.iter().any(may_be_null)) {
        return Value::Null;
    }
    match resolved(schema, root).get("type").and_then(Value::as_str) {
        Some("string") => json!(""),
        Some("array") => json!([]),
        Some("object") => json!({}),
        Some("boolean") => json!(false),
        Some("integer" | "number") => json!(0),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMPT: &str = "Choose.\n- researcher: finds facts\n- writer: writes answers\n- executor: writes files\nReply.";

    fn chosen(task: &str, prompt: &str) -> String {
        let plan = decide(task, false, &listed(prompt));
        let agent = plan.pointer("/steps/0/agent").and_then(Value::as_str);
        agent.unwrap_or("answer").to_owned()
    }

    #[test]
    fn tasks_go_to_the_agent_that_fits() {
        let table = [
            ("What is a lease?", "researcher"),
            ("Write \"x\" to y.txt", "executor"),
            ("How do I write to y.txt?", "researcher"),
            ("hello", "answer"),
            ("Thanks!", "answer"),
            ("What can you do?", "answer"),
            ("", "answer"),
        ];
        for (task, agent) in table {
            assert_eq!(chosen(task, PROMPT), agent, "{task}");
        }
        let others = "- cook: makes soup and bread\n- driver: drives cars";
        assert_eq!(chosen("Who drives?", others), "driver");
        assert_eq!(chosen("What is a lease?", others), "cook");
        assert_eq!(chosen("What is a lease?", "no agents"), "answer");
    }

    #[test]
    fn a_plan_fits_the_schema_that_is_asked_for() {
        let schema = json!({
            "type": "object",
            "required": ["steps", "reason", "answer"],
            "properties": {
                "steps": {"type": "array", "items": {"$ref": "#/$defs/Step"}},
                "reason": {"type": "string"},
                "answer": {"type": ["string", "null"]},
            },
            "$defs": {"Step": {
                "type": "object",
                "required": ["agent", "task", "accept"],
                "properties": {
                    "agent": {"enum": ["researcher"]}, "task": {"type": "string"},
                    "accept": {"type": "array", "items": {"type": "string"}},
                },
                "additionalProperties": false,
            }},
            "additionalProperties": false,
        });
        let plan = fitted(
            decide("What is it?", false, &listed(PROMPT)),
            &schema,
            &schema,
        );
        let checked = crate::model::structured::Schema::compile("plan", &schema)
            .unwrap()
            .check(&plan);
        assert_eq!(checked, Ok(()), "{plan}");
        assert_eq!(plan["steps"][0]["accept"], json!([]));
    }
}
