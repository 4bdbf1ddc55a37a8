//! Holds a document against its JSON Schema and says everything that is wrong with its keys, types
//! and ranges, each at its place. The deserializer would stop at the first mistake and, inside
//! tagged tables such as `[models.x]`, would not know where it stands.
//!
//! Reads the part of JSON Schema that schemars writes for [`types`](super::types); a test fails
//! when a keyword turns up that is not read here. What one value has to do with another is the
//! business of [`check`](super::check).

use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::Document;
use super::problem::{Problem, is_secret_name};
use super::suggest;
use super::text::{fault_of, last, literal_secret};

/// Everything in `document` that `schema` does not allow.
pub(super) fn problems(document: &Document<'_>, schema: &Value) -> Vec<Problem> {
    let mut walk = Walk {
        document,
        root: schema,
        problems: Vec::new(),
    };
    let whole = Place {
        path: "",
        span: document.beginning(),
        about: None,
    };
    walk.object(schema, &document.root, &whole);
    walk.problems
}

struct Walk<'w, 'a> {
    document: &'w Document<'a>,
    root: &'w Value,
    problems: Vec<Problem>,
}

/// The value under examination, for messages.
#[derive(Clone)]
struct Place<'p> {
    /// Its keys from the top of the file, dots between; empty for the file itself.
    path: &'p str,
    span: Range<usize>,
    about: Option<&'p str>,
}

impl<'w> Walk<'w, '_> {
    fn say(&mut self, span: Range<usize>, label: &str, message: String, help: String) {
        let problem = self.document.problem(span, label, message);
        self.problems.push(problem.help(help));
    }

    fn value(&mut self, schema: &'w Value, value: &DeValue<'_>, place: &Place<'_>) {
        let about = schema["description"].as_str().or(place.about);
        let place = &Place {
            about,
            ..place.clone()
        };
        if let Some(target) = schema["$ref"].as_str() {
            self.value(self.definition(target), value, place);
        } else if let Some(choices) = schema["anyOf"].as_array() {
            // An optional table: TOML has no null, so the other one is meant.
            if let Some(meant) = choices.iter().find(|choice| choice["type"] != "null") {
                self.value(meant, value, place);
            }
        } else if let Some(choices) = schema["oneOf"].as_array() {
            self.choice(choices, value, place);
        } else if self.has_type(schema, value, place) {
            self.content(schema, value, place);
        }
    }

    fn definition(&self, target: &str) -> &'w Value {
        let pointer = target.trim_start_matches('#');
        self.root.pointer(pointer).unwrap_or(&Value::Null)
    }

    fn has_type(&mut self, schema: &Value, value: &DeValue<'_>, place: &Place<'_>) -> bool {
        let wanted = wanted_type(schema);
        let fits = match wanted {
            "object" => value.is_table(),
            "array" => value.is_array(),
            "string" => value.is_str(),
            "boolean" => value.is_bool(),
            "integer" => value.is_integer(),
            "number" => value.is_integer() || value.is_float(),
            _ => true,
        };
        if !fits {
            let (wanted_words, found) = (in_words(wanted), value_in_words(value));
            let message = format!("`{}` must be {wanted_words}, not {found}", place.path);
            let written = match is_secret_name(last(place.path)) {
                true => "...",
                false => &self.document.text[place.span.clone()],
            };
            let help = mend_type(wanted, place.path, value, written);
            self.say(place.span.clone(), found, message, help);
        }
        fits
    }

    fn content(&mut self, schema: &'w Value, value: &DeValue<'_>, place: &Place<'_>) {
        match value {
            DeValue::Table(table) => self.object(schema, table, place),
            DeValue::Array(items) => {
                for item in items.iter() {
                    let at = Place {
                        span: item.span(),
                        ..place.clone()
                    };
                    self.value(&schema["items"], item.as_ref(), &at);
                }
            }
            DeValue::String(text) => self.text(schema, text, place),
            DeValue::Integer(_) | DeValue::Float(_) => self.number(schema, value, place),
            _ => {}
        }
    }

    fn object(&mut self, schema: &'w Value, table: &DeTable<'_>, place: &Place<'_>) {
        for (key, value) in table {
            let name: &str = key.as_ref();
            if let Some(known) = schema["properties"].get(name) {
                self.member(known, place, name, value);
            } else if schema["additionalProperties"].is_object() {
                self.member(&schema["additionalProperties"], place, name, value);
            } else {
                self.unknown_key(schema, name, key.span(), place);
            }
        }
        for key in strings(&schema["required"]) {
            if table.get(key).is_none() {
                self.missing_key(schema, key, place);
            }
        }
    }

    fn member(
        &mut self,
        schema: &'w Value,
        parent: &Place<'_>,
        key: &str,
        value: &Spanned<DeValue<'_>>,
    ) {
        let path = join(parent.path, key);
        let place = Place {
            path: &path,
            span: value.span(),
            about: None,
        };
        self.value(schema, value.as_ref(), &place);
    }

    fn unknown_key(&mut self, schema: &Value, key: &str, span: Range<usize>, place: &Place<'_>) {
        let belongs_to_file = !place.path.is_empty() && self.root["properties"].get(key).is_some();
        let help = match belongs_to_file {
            true => format!(
                "`{key}` is a key of the file itself; a key belongs to the `[table]` above it, so \
                 move this one above the first `[...]` line"
            ),
            false => suggest::help(key, "keys here", keys(&schema["properties"])),
        };
        let message = format!("unknown key `{key}` in {}", quoted(place.path));
        self.say(span, "not a key of this table", message, help);
    }

    fn missing_key(&mut self, schema: &'w Value, key: &str, place: &Place<'_>) {
        let member = &schema["properties"][key];
        let example = match wanted_type(self.follow(member)) {
            "array" => "[...]",
            "integer" | "number" => "...",
            _ => "\"...\"",
        };
        let about = member["description"].as_str().unwrap_or_default();
        let message = format!("`{key}` is missing in {}", quoted(place.path));
        let help = format!("add `{key} = {example}`. {}", in_one_line(about));
        self.say(place.span.clone(), "it belongs in here", message, help);
    }

    fn follow(&self, schema: &'w Value) -> &'w Value {
        match schema["$ref"].as_str() {
            Some(target) => self.definition(target),
            None => schema,
        }
    }

    /// One of several constants, or one of several tables told apart by a constant member.
    fn choice(&mut self, choices: &'w [Value], value: &DeValue<'_>, place: &Place<'_>) {
        let constants: Vec<&str> = choices.iter().filter_map(|c| c["const"].as_str()).collect();
        if !constants.is_empty() {
            return self.constant(&constants, value, place);
        }
        let Some(tag) = choices.first().and_then(tag_of) else {
            return;
        };
        let DeValue::Table(table) = value else {
            let object = serde_json::json!({"type": "object"});
            self.has_type(&object, value, place);
            return;
        };
        let tags: Vec<&str> = choices
            .iter()
            .filter_map(|c| c["properties"][tag]["const"].as_str())
            .collect();
        let Some(written) = table.get(tag) else {
            let message = format!("`{tag}` is missing in {}", quoted(place.path));
            let help = format!("add `{tag} = \"...\"`; it can be {}", tags.join(", "));
            return self.say(place.span.clone(), "it belongs in here", message, help);
        };
        let chosen = choices.iter().find(|choice| {
            choice["properties"][tag]["const"].as_str() == written.as_ref().as_str()
        });
        match chosen {
            Some(schema) => self.object(schema, table, place),
            None => {
                let path = join(place.path, tag);
                let at = Place {
                    path: &path,
                    span: written.span(),
                    about: None,
                };
                self.constant(&tags, written.as_ref(), &at);
            }
        }
    }

    fn constant(&mut self, allowed: &[&str], value: &DeValue<'_>, place: &Place<'_>) {
        let Some(word) = value.as_str() else {
            let text = serde_json::json!({"type": "string"});
            self.has_type(&text, value, place);
            return;
        };
        if !allowed.contains(&word) {
            let message = format!("`{}` cannot be `{word}`", place.path);
            let help = suggest::help(word, "it can be", allowed.iter().copied());
            self.say(place.span.clone(), "not one of the choices", message, help);
        }
    }

    fn text(&mut self, schema: &Value, text: &str, place: &Place<'_>) {
        let about = in_one_line(place.about.unwrap_or_default());
        if let Some(fault) = fault_of(schema, text, place.path, &about) {
            self.say(place.span.clone(), fault.label, fault.message, fault.help);
        }
    }

    fn number(&mut self, schema: &Value, value: &DeValue<'_>, place: &Place<'_>) {
        let Some(number) = as_number(value) else {
            return;
        };
        let key = place.path;
        let highest = schema["maximum"].as_f64().or(highest_of(&schema["format"]));
        // No number in these files has a meaning below zero.
        let lowest = schema["minimum"].as_f64().unwrap_or(0.0);
        let above = schema["exclusiveMinimum"].as_f64();
        let message = if !number.is_finite() {
            format!("`{key}` must be a finite number")
        } else if above.is_some_and(|above| number <= above) {
            format!("`{key}` must be above {}", above.unwrap_or_default())
        } else if number < lowest {
            format!("`{key}` must be at least {lowest}")
        } else if highest.is_some_and(|highest| number > highest) {
            format!("`{key}` must be at most {}", highest.unwrap_or_default())
        } else {
            return;
        };
        let about = in_one_line(place.about.unwrap_or_default());
        let help = match number == 0.0 {
            true => {
                format!("{about} 0 does not mean \"no limit\"; leave the key out for the default.")
                    .trim_start()
                    .to_owned()
            }
            false => about,
        };
        self.say(place.span.clone(), "out of range", message, help);
    }
}

fn wanted_type(schema: &Value) -> &str {
    let either = schema["type"].as_array().into_iter().flatten();
    let one = std::iter::once(&schema["type"]);
    either
        .chain(one)
        .filter_map(Value::as_str)
        .find(|name| *name != "null")
        .unwrap_or("any")
}

fn in_words(wanted: &str) -> &'static str {
    match wanted {
        "object" => "a table",
        "array" => "a list",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        _ => "text",
    }
}

fn value_in_words(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with decimals",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn mend_type(wanted: &str, path: &str, value: &DeValue<'_>, written: &str) -> String {
    let key = last(path);
    if is_secret_name(key) {
        return literal_secret(written, path).help;
    }
    match (wanted, value) {
        ("integer" | "number" | "boolean", DeValue::String(_)) => {
            format!("write it without quotes: `{key} = ...`")
        }
        ("string", DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_)) => {
            format!("put it in quotes: `{key} = \"{written}\"`")
        }
        ("array", DeValue::String(_)) => format!("put it in brackets: `{key} = [{written}]`"),
        ("object", _) => format!("write it as a table: a line `[{path}]`, its keys below"),
        _ => format!("write `{key}` as {}", in_words(wanted)),
    }
}

fn as_number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(integer) => {
            let parsed = i128::from_str_radix(integer.as_str(), integer.radix());
            Some(parsed.map_or(f64::INFINITY, |whole| whole as f64))
        }
        DeValue::Float(float) => float.as_str().parse().ok(),
        _ => None,
    }
}

/// The largest number that the Rust type behind this format holds. TOML itself ends at 64 bits with
/// sign.
fn highest_of(format: &Value) -> Option<f64> {
    match format.as_str()? {
        "uint8" => Some(u8::MAX.into()),
        "uint16" => Some(u16::MAX.into()),
        "uint32" => Some(u32::MAX.into()),
        "uint64" | "int64" => Some(i64::MAX as f64),
        _ => None,
    }
}

fn tag_of(choice: &Value) -> Option<&str> {
    let members = choice["properties"].as_object()?;
    members
        .iter()
        .find(|(_, member)| member.get("const").is_some())
        .map(|(key, _)| key.as_str())
}

fn keys(properties: &Value) -> impl Iterator<Item = &str> {
    properties
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str())
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn quoted(path: &str) -> String {
    match path {
        "" => "this file".to_owned(),
        path => format!("`{path}`"),
    }
}

fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::super::types::{NAME_PATTERN, NOT_BLANK};
    use super::*;

    /// Keywords that the walk reads, and those that say nothing about validity.
    const READ: [&str; 16] = [
        "$ref",
        "$defs",
        "type",
        "properties",
        "additionalProperties",
        "required",
        "items",
        "anyOf",
        "oneOf",
        "const",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "pattern",
        "format",
        "$schema",
    ];
    const SILENT: [&str; 3] = ["description", "title", "default"];
    const FORMATS: [&str; 12] = [
        "uri",
        "regex",
        "socket-address",
        "secret-text",
        "secret",
        "database-url",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "int64",
        "double",
    ];

    fn assert_read(schema: &Value) {
        for (keyword, value) in schema.as_object().into_iter().flatten() {
            assert!(
                READ.contains(&keyword.as_str()) || SILENT.contains(&keyword.as_str()),
                "{keyword}"
            );
            match keyword.as_str() {
                "properties" | "$defs" => value.as_object().unwrap().values().for_each(assert_read),
                "items" | "additionalProperties" => assert_read(value),
                "format" => assert!(FORMATS.contains(&value.as_str().unwrap()), "{value}"),
                "$ref" | "anyOf" | "oneOf" => {
                    // A reference is followed without a look at what stands beside it.
                    let beside = [
                        "pattern",
                        "format",
                        "minimum",
                        "maximum",
                        "exclusiveMinimum",
                    ];
                    let skipped: Vec<_> =
                        beside.iter().filter(|k| !schema[**k].is_null()).collect();
                    assert!(skipped.is_empty(), "{skipped:?} beside {keyword}");
                    value.as_array().into_iter().flatten().for_each(assert_read);
                }
                "pattern" => assert!([NOT_BLANK, NAME_PATTERN].contains(&value.as_str().unwrap())),
                _ => {}
            }
        }
    }

    #[test]
    fn the_walk_reads_every_keyword_that_the_schemas_use() {
        assert_read(&schema::settings());
        assert_read(&schema::agent());
    }
}
