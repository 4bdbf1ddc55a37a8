//! The gate between what a model wrote and what a tool is given. A model's arguments are text by an
//! untrusted author: they may be cut short, of the wrong shape, or enormous. What passes is checked
//! against the tool's schema; what does not comes back as a refusal that the model can mend its
//! call by. Pure, never panics; used by the agent's loop before anything runs.
//!
//! Harmless slips are mended, nothing else: empty text or `null` is `{}`; the object written as a
//! JSON string is unwrapped once; a number or boolean in quotes becomes one where the schema wants
//! one; `5.0` becomes `5` for an integer; a number or boolean becomes text where text is wanted; a
//! `null` for a parameter that may be left out is left out.

use std::collections::BTreeMap;
use std::fmt;

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::{ValidationError, Validator};
use serde_json::{Map, Number, Value};

use shared::id::ToolName;
use shared::model::ToolDef;
use shared::run::{Failure, FailureKind};

/// Longer arguments are refused unread; the longest honest ones are a file's text.
const MAX_BYTES: usize = 5 << 20;
/// Errors told in one refusal.
const MAX_ERRORS: usize = 4;
/// Characters of a value that are shown.
const SHOWN: usize = 60;
/// Names as like as this are offered.
const NEARNESS: f64 = 0.75;

/// The schemas of the tools that one agent has, compiled once.
pub struct Gate {
    tools: BTreeMap<ToolName, Checked>,
}

struct Checked {
    validator: Validator,
    schema: std::sync::Arc<Value>,
}

/// A tool whose schema is none.
#[derive(Debug, thiserror::Error)]
#[error("tool {tool}: its schema is not valid: {reason}")]
pub struct InvalidSchema {
    /// The tool.
    pub tool: ToolName,
    /// What is wrong with it.
    pub reason: String,
}

/// Why a call was not made, in words for the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::new(FailureKind::Refused, refusal.0)
    }
}

impl Gate {
    /// Compiles the schemas of these tools, under the names by which the model knows them.
    pub fn new(tools: impl IntoIterator<Item = ToolDef>) -> Result<Self, InvalidSchema> {
        let compile = |tool: ToolDef| {
            let validator =
                jsonschema::validator_for(&tool.parameters).map_err(|error| InvalidSchema {
                    tool: tool.name.clone(),
                    reason: error.to_string(),
                })?;
            let schema = tool.parameters;
            Ok((tool.name, Checked { validator, schema }))
        };
        let tools = tools.into_iter().map(compile).collect::<Result<_, _>>()?;
        Ok(Self { tools })
    }

    /// The arguments that `raw` holds, mended where that is harmless and checked against the
    /// schema of the tool `name`.
    pub fn check(&self, name: &str, raw: &str) -> Result<Value, Refusal> {
        let Some(tool) = self.tools.get(name) else {
            return Err(self.unknown(name));
        };
        let shape = || shape(name, &tool.schema);
        let mut args = parse(raw)
            .map_err(|why| Refusal(format!("{name}: {why}. The right shape: {}", shape())))?;
        mend(&mut args, &tool.schema);
        let errors: Vec<_> = tool
            .validator
            .iter_errors(&args)
            .take(MAX_ERRORS)
            .map(|error| explain(&error, &tool.schema))
            .collect();
        if errors.is_empty() {
            return Ok(args);
        }
        Err(Refusal(format!(
            "{name}: {}. The right shape: {}",
            errors.join("; "),
            shape()
        )))
    }

    fn unknown(&self, name: &str) -> Refusal {
        let names: Vec<_> = self.tools.keys().map(ToolName::as_str).collect();
        let hint =
            near(name, &names).map_or(String::new(), |near| format!("; did you mean {near}?"));
        let known = if names.is_empty() {
            "you have no tools: answer in words".to_owned()
        } else {
            format!("your tools are {}", names.join(", "))
        };
        Refusal(format!("there is no tool {}{hint} ({known})", quoted(name)))
    }
}

fn parse(raw: &str) -> Result<Value, String> {
    if raw.len() > MAX_BYTES {
        return Err(format!(
            "arguments of {} bytes are too long; the most is {MAX_BYTES}",
            raw.len()
        ));
    }
    if raw.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    if raw.contains('\0') || raw.contains("\\u0000") {
        return Err("arguments hold a NUL character: leave it out".into());
    }
    let parsed = serde_json::from_str(raw).map_err(|error| not_json(raw, &error))?;
    let value = match parsed {
        Value::Null => Value::Object(Map::new()),
        Value::String(inner) => serde_json::from_str(&inner).unwrap_or(Value::String(inner)),
        other => other,
    };
    if value.is_object() {
        Ok(value)
    } else {
        Err(format!(
            "arguments must be one JSON object, not {}",
            short(&value)
        ))
    }
}

fn not_json(raw: &str, error: &serde_json::Error) -> String {
    if error.is_eof() {
        return format!(
            "arguments end too early (after {} bytes, at {}); send the whole object, shorter if need be",
            raw.len(),
            quoted(tail(raw))
        );
    }
    format!(
        "arguments are not valid JSON: {error}; they begin with {}",
        quoted(raw)
    )
}

fn tail(text: &str) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(SHOWN / 2))..]
}

/// Mends what can be mended without guessing. Goes as deep as the schema does.
fn mend(value: &mut Value, schema: &Value) {
    if let Value::Object(map) = value
        && let Some(properties) = schema["properties"].as_object()
    {
        drop_nulls(map, schema);
        for (name, property) in properties {
            if let Some(inner) = map.get_mut(name) {
                mend(inner, property);
            }
        }
        return;
    }
    if let Value::Array(items) = value {
        items
            .iter_mut()
            .for_each(|item| mend(item, &schema["items"]));
        return;
    }
    if let Some(mended) = schema["type"]
        .as_str()
        .and_then(|wanted| mended(value, wanted))
    {
        *value = mended;
    }
}

fn drop_nulls(map: &mut Map<String, Value>, schema: &Value) {
    let required = |name: &str| {
        schema["required"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one == name))
    };
    let takes_null = |name: &str| match &schema["properties"][name]["type"] {
        Value::String(only) => only == "null",
        Value::Array(any) => any.iter().any(|one| one == "null"),
        _ => true,
    };
    map.retain(|name, value| !value.is_null() || required(name) || takes_null(name));
}

fn mended(value: &Value, wanted: &str) -> Option<Value> {
    match (wanted, value) {
        ("integer", Value::String(text)) => text.trim().parse::<i64>().ok().map(Value::from),
        ("integer", Value::Number(number)) => whole(number),
        ("number", Value::String(text)) => text
            .trim()
            .parse()
            .ok()
            .and_then(Number::from_f64)
            .map(Value::from),
        ("boolean", Value::String(text)) => text
            .trim()
            .to_ascii_lowercase()
            .parse::<bool>()
            .ok()
            .map(Value::from),
        ("string", Value::Number(number)) => Some(number.to_string().into()),
        ("string", Value::Bool(truth)) => Some(truth.to_string().into()),
        _ => None,
    }
}

fn whole(number: &Number) -> Option<Value> {
    let float = number.as_f64().filter(|_| number.is_f64())?;
    // Beyond 2^53 a float no longer names one integer.
    (float.fract() == 0.0 && float.abs() < 9e15).then(|| Value::from(float as i64))
}

fn explain(error: &ValidationError<'_>, schema: &Value) -> String {
    let at = error.instance_path().to_string();
    let field = at.trim_start_matches('/').replace('/', ".");
    let field = if field.is_empty() {
        "the arguments".to_owned()
    } else {
        field
    };
    let given = short(error.instance());
    match error.kind() {
        Kind::Required { property } => {
            format!("{} is missing", property.as_str().unwrap_or_default())
        }
        Kind::AdditionalProperties { unexpected } => unknown_properties(unexpected, &at, schema),
        Kind::Type { kind } => format!("{field} must be {}, not {given}", type_name(kind)),
        Kind::Enum { options } => format!("{field} must be one of {}, not {given}", short(options)),
        Kind::Minimum { limit } => format!("{field} must be at least {limit}, not {given}"),
        Kind::Maximum { limit } => format!("{field} must be at most {limit}, not {given}"),
        Kind::MinLength { limit } => format!("{field} must have at least {limit} characters"),
        Kind::MaxLength { limit } => format!(
            "{field} must have at most {limit} characters, not {}",
            length(error.instance())
        ),
        _ => format!(
            "{field}: {}, not {given}",
            clipped(&error.masked().to_string(), 200)
        ),
    }
}

fn unknown_properties(unexpected: &[String], at: &str, schema: &Value) -> String {
    let known = schema_at(schema, at)["properties"].as_object();
    let known: Vec<_> = known
        .into_iter()
        .flat_map(|map| map.keys())
        .map(String::as_str)
        .collect();
    let each = |name: &String| {
        let hint =
            near(name, &known).map_or(String::new(), |near| format!(" (did you mean {near}?)"));
        format!("there is no parameter {}{hint}", quoted(name))
    };
    unexpected
        .iter()
        .take(MAX_ERRORS)
        .map(each)
        .collect::<Vec<_>>()
        .join("; ")
}

/// The part of the schema for the value at this JSON pointer.
fn schema_at<'a>(schema: &'a Value, pointer: &str) -> &'a Value {
    pointer
        .split('/')
        .filter(|part| !part.is_empty())
        .fold(schema, |schema, part| {
            let property = &schema["properties"][part];
            if property.is_null() {
                &schema["items"]
            } else {
                property
            }
        })
}

fn type_name(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(one) => one.to_string(),
        TypeKind::Multiple(any) => any
            .iter()
            .map(|one| one.to_string())
            .collect::<Vec<_>>()
            .join(" or "),
    }
}

/// How a call looks: `read_file({"path": string, "from_line"?: integer})`.
fn shape(name: &str, schema: &Value) -> String {
    format!("{name}({})", shape_of(schema, 0))
}

fn shape_of(schema: &Value, depth: usize) -> String {
    if let Some(options) = schema["enum"].as_array() {
        return options.iter().map(short).collect::<Vec<_>>().join("|");
    }
    let kind = schema["type"].as_str().unwrap_or("any");
    let Some(properties) = schema["properties"].as_object().filter(|_| depth < 3) else {
        let items = &schema["items"];
        return if items.is_object() && depth < 3 {
            format!("[{}]", shape_of(items, depth + 1))
        } else {
            kind.into()
        };
    };
    let required = |name: &str| {
        schema["required"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one == name))
    };
    let each = properties.iter().map(|(name, property)| {
        let optional = if required(name) { "" } else { "?" };
        format!("\"{name}\"{optional}: {}", shape_of(property, depth + 1))
    });
    format!("{{{}}}", each.collect::<Vec<_>>().join(", "))
}

fn near<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name: String = name.chars().take(SHOWN).collect::<String>().to_lowercase();
    let scored = known
        .iter()
        .map(|one| (strsim::jaro_winkler(&name, &one.to_lowercase()), *one));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= NEARNESS).then_some(best.1)
}

fn length(value: &Value) -> usize {
    value.as_str().map_or(0, |text| text.chars().count())
}

/// A value in at most so many characters, by kind where it is long.
fn short(value: &Value) -> String {
    match value {
        Value::Object(map) if map.len() > 3 => format!("an object of {} parts", map.len()),
        Value::Array(items) if items.len() > 8 => format!("a list of {} parts", items.len()),
        Value::String(text) => quoted(text),
        other => clipped(&other.to_string(), SHOWN),
    }
}

fn quoted(text: &str) -> String {
    format!("{:?}", clipped(text, SHOWN))
}

fn clipped(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::tools::ToolInfo;
    use crate::tools::{ReadFile, SearchFiles, Tool, WriteFile};

    fn gate() -> Gate {
        let (search, read, write) = (SearchFiles::new(), ReadFile::new(), WriteFile::new());
        Gate::new([search.info(), read.info(), write.info()].map(ToolInfo::def)).unwrap()
    }

    #[test]
    fn good_arguments_pass_and_harmless_slips_are_mended() {
        let table = [
            ("read_file", r#"{"path": "a"}"#, json!({"path": "a"})),
            (
                "read_file",
                r#"{"path": "a", "from_line": "5"}"#,
                json!({"path": "a", "from_line": 5}),
            ),
            (
                "read_file",
                r#"{"path": "a", "from_line": 5.0}"#,
                json!({"path": "a", "from_line": 5}),
            ),
            (
                "read_file",
                r#"{"path": "a", "from_line": null}"#,
                json!({"path": "a"}),
            ),
            ("read_file", r#"{"path": 7}"#, json!({"path": "7"})),
            ("read_file", r#""{\"path\": \"a\"}""#, json!({"path": "a"})),
        ];
        for (tool, raw, expected) in table {
            assert_eq!(gate().check(tool, raw), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn refusals_name_the_field_what_was_wanted_and_what_was_given() {
        let huge = format!("{{\"path\": \"{}\"}}", "x".repeat(10 << 20));
        let deep = "[".repeat(100_000);
        let table = [
            ("read_file", "", "path is missing"),
            ("read_file", "null", "path is missing"),
            ("read_file", "[1]", "one JSON object, not [1]"),
            ("read_file", "\"text\"", "one JSON object, not \"text\""),
            ("read_file", r#"{"path": "a"#, "end too early"),
            ("read_file", r#"{"path": "a",}"#, "not valid JSON"),
            ("read_file", "path=a", "not valid JSON"),
            ("read_file", &deep, "not valid JSON"),
            ("read_file", &huge, "too long"),
            (
                "read_file",
                r#"{"path": ["a"]}"#,
                "path must be string, not [\"a\"]",
            ),
            (
                "read_file",
                r#"{"path": null}"#,
                "path must be string, not null",
            ),
            (
                "read_file",
                r#"{"path": "a", "from_line": "x"}"#,
                "from_line must be integer, not \"x\"",
            ),
            (
                "read_file",
                r#"{"path": "a", "from_line": 0}"#,
                "from_line must be at least 1, not 0",
            ),
            (
                "read_file",
                r#"{"path": "a", "from_line": 1.5}"#,
                "from_line must be integer, not 1.5",
            ),
            (
                "read_file",
                r#"{"path": "a", "fromline": 3}"#,
                "did you mean from_line?",
            ),
            ("read_file", r#"{"paht": "a"}"#, "did you mean path?"),
            (
                "search_files",
                r#"{"query": ""}"#,
                "query must have at least 1",
            ),
            (
                "search_files",
                r#"{"query": "a", "max_results": 99}"#,
                "at most 20",
            ),
            (
                "write_file",
                r#"{"path": "a", "text": "b", "mode": "append"}"#,
                "one of [\"create\",\"replace\"], not \"append\"",
            ),
            (
                "write_file",
                r#"{"path": "a"}"#,
                "\"mode\"?: \"create\"|\"replace\"",
            ),
            ("readfile", "{}", "did you mean read_file?"),
            (
                "zzz",
                "{}",
                "your tools are read_file, search_files, write_file",
            ),
            ("", "{}", "there is no tool"),
        ];
        for (tool, raw, expected) in table {
            let refusal = gate().check(tool, raw).unwrap_err().to_string();
            assert!(
                refusal.contains(expected),
                "{}: {refusal}",
                clipped(raw, 40)
            );
            assert!(refusal.len() < 1200, "{refusal}");
        }
    }

    #[test]
    fn a_schema_that_is_none_is_refused_when_the_gate_is_built() {
        let mut info = ReadFile::new().info().clone();
        info.parameters = json!({"type": "nonsense"}).into();
        assert!(
            Gate::new([info.def()])
                .err()
                .unwrap()
                .to_string()
                .contains("read_file")
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,80}".prop_map(Value::from),
        ];
        let name = prop_oneof![
            Just("path".to_owned()),
            Just("text".to_owned()),
            Just("from_line".to_owned()),
            ".{0,12}"
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(name.clone(), inner, 0..6)
                    .prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_text_is_answered(tool in "(read_file|write_file|.{0,20})", raw in ".{0,200}") {
            let _answer = gate().check(&tool, &raw);
        }

        #[test]
        fn what_passes_fits_the_schema_and_what_does_not_is_short(args in any_json(), cut in any::<prop::sample::Index>()) {
            let raw = args.to_string();
            let cut = raw.floor_char_boundary(cut.index(raw.len() + 1));
            for raw in [&raw[..], &raw[..cut]] {
                match gate().check("write_file", raw) {
                    Ok(passed) => prop_assert!(gate().tools["write_file"].validator.is_valid(&passed)),
                    Err(refusal) => prop_assert!(refusal.to_string().len() < 4000),
                }
            }
        }
    }
}
