//! Reading structured output from what a model really writes: the JSON value may stand in a fence
//! or between sentences. It is then held against its schema, and what is wrong is said in words
//! that the model can act on. Leaves out asking again, which is the caller's.

use std::fmt::Write;

use serde_json::Value;

/// How many places in a reply are tried as the beginning of a value: a bound on hostile input.
const STARTS: usize = 64;
/// How many errors are told at once; more than these confuse rather than help.
const ERRORS: usize = 5;

/// A schema that is ready to check answers.
pub struct Schema {
    name: String,
    validator: jsonschema::Validator,
}

/// A schema that is none, or that refers to another file.
#[derive(Debug, thiserror::Error)]
#[error("the schema {name:?} cannot be used: {reason}")]
pub struct BadSchema {
    name: String,
    reason: String,
}

/// Why an answer does not meet the schema; fit to be shown to the model that wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// There is no JSON value in it.
    #[error(
        "the answer holds no JSON value ({reason}). Answer with one JSON value that meets the schema {schema:?}, and with nothing else."
    )]
    NoJson {
        /// The schema's name.
        schema: String,
        /// What the parser said.
        reason: String,
    },
    /// The value breaks the schema.
    #[error(
        "the JSON value does not meet the schema {schema:?}:\n{errors}Answer with the corrected JSON value, and with nothing else."
    )]
    Breaks {
        /// The schema's name.
        schema: String,
        /// One line per error: where, and what.
        errors: String,
    },
}

impl Schema {
    /// Compiles a schema. References to other documents are not followed.
    pub fn compile(name: &str, schema: &Value) -> Result<Self, BadSchema> {
        jsonschema::validator_for(schema)
            .map(|validator| Self {
                name: name.to_owned(),
                validator,
            })
            .map_err(|error| BadSchema {
                name: name.to_owned(),
                reason: error.to_string(),
            })
    }

    /// The value in `text` that meets the schema: the whole text, else the first fenced block, else
    /// the first value between the words.
    pub fn read(&self, text: &str) -> Result<Value, Unmet> {
        let candidates = candidates(text);
        let met = candidates
            .iter()
            .find(|value| self.validator.is_valid(value));
        if let Some(value) = met {
            return Ok(value.clone());
        }
        match candidates.first() {
            Some(value) => self.check(value).map(|()| value.clone()),
            None => Err(Unmet::NoJson {
                schema: self.name.clone(),
                reason: why_not(text),
            }),
        }
    }

    /// Holds a value against the schema.
    pub fn check(&self, value: &Value) -> Result<(), Unmet> {
        let mut errors = String::new();
        for error in self.validator.iter_errors(value).take(ERRORS) {
            let path = error.instance_path().to_string();
            let place = if path.is_empty() { "the value" } else { &path };
            // Writing to a string cannot fail.
            let _ = writeln!(errors, "- {place}: {}", shortened(&error.to_string()));
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(Unmet::Breaks {
            schema: self.name.clone(),
            errors,
        })
    }
}

/// All values that `text` may mean, the likeliest first. Objects and lists only, unless the text is
/// nothing but a value.
fn candidates(text: &str) -> Vec<Value> {
    let text = text.trim().trim_start_matches('\u{feff}');
    if let Ok(value) = serde_json::from_str(text) {
        return vec![value];
    }
    let mut found: Vec<Value> = fenced(text)
        .filter_map(|block| serde_json::from_str(block).ok())
        .collect();
    let mut from = 0;
    for _ in 0..STARTS {
        let Some(start) = text[from..].find(['{', '[']).map(|at| from + at) else {
            break;
        };
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
        from = match values.next() {
            Some(Ok(value)) => {
                found.push(value);
                start + values.byte_offset()
            }
            _ => start + 1,
        };
    }
    found
}

/// The contents of the fenced blocks in a text.
fn fenced(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").skip(1).step_by(2).map(|block| {
        let (first, rest) = block.split_once('\n').unwrap_or(("", block));
        match first.trim() {
            tag if tag.chars().all(char::is_alphanumeric) => rest.trim(),
            _ => block.trim(),
        }
    })
}

/// What the parser says about the likeliest place.
fn why_not(text: &str) -> String {
    let text = text.trim();
    let Some(start) = text.find(['{', '[']) else {
        return "it has no { or [".into();
    };
    match serde_json::from_str::<Value>(&text[start..]) {
        Err(error) => error.to_string(),
        Ok(_) => "it is not JSON".into(),
    }
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        Schema::compile(
            "plan",
            &json!({
                "type": "object",
                "required": ["agent"],
                "properties": {"agent": {"enum": ["researcher", "writer"]}},
                "additionalProperties": false,
            }),
        )
        .unwrap()
    }

    #[test]
    fn a_value_is_found_wherever_models_put_it() {
        let value = json!({"agent": "writer"});
        let table = [
            r#"{"agent":"writer"}"#,
            "\u{feff} {\"agent\": \"writer\"}\n",
            "```json\n{\"agent\": \"writer\"}\n```",
            "Sure! Here it is:\n```\n{\"agent\": \"writer\"}\n```\nAnything else?",
            "The plan is {\"agent\": \"writer\"} because it {writes}.",
            "First {\"x\": 1}, no: {\"agent\": \"writer\"}",
            "[1] I would say {\"agent\": \"writer\"}",
        ];
        for text in table {
            assert_eq!(schema().read(text).as_ref(), Ok(&value), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_so_that_a_model_can_mend_it() {
        let table = [
            ("", "it has no { or ["),
            ("I cannot.", "it has no { or ["),
            (r#"{"agent": "wri"#, "EOF while parsing a string"),
            (r#"{"agent": "cook"}"#, r#"/agent: "cook" is not one of"#),
            ("{}", r#"the value: "agent" is a required property"#),
            (r#""writer""#, "is not of type \"object\""),
        ];
        for (text, expected) in table {
            let error = schema().read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.contains("nothing else"), "{error}");
        }
    }

    #[test]
    fn hostile_text_ends_soon() {
        let many = "{".repeat(100_000);
        assert!(schema().read(&many).is_err());
    }

    #[test]
    fn references_elsewhere_are_refused() {
        let remote = json!({"$ref": "http://127.0.0.1:1/schema.json"});
        assert!(Schema::compile("x", &remote).is_err());
    }
}
