//! Reads what tools return: passages of files and pages, cut into sentences with their sources. Any
//! JSON will do that has objects with a path or an address and a text in them. Pure.

use serde_json::Value;

use super::conversation::Exchange;
use super::rank::Candidate;
use super::sentences::{self, Form, Kind, Sentence};

/// More blocks than a passage has.
const BLOCKS: usize = 10_000;
/// What half a sentence counts, as part of a whole one.
const CUT: f64 = 0.5;
/// What a program's comment counts, as part of a document's sentence: it speaks to programmers.
const PROGRAM: f64 = 0.4;
/// What stands in tests, examples and recorded outputs counts: it is often made up.
const MADE_UP: f64 = 0.2;
/// What a settings file counts.
const SETTINGS: f64 = 0.75;
/// What a list of past changes counts: it tells what was.
const PAST: f64 = 0.8;

/// A text that a tool returned, and where it is from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Passage {
    /// The file or the address.
    pub(super) source: String,
    /// The text's first line; 0 where lines mean nothing.
    pub(super) line: usize,
    /// The text.
    pub(super) text: String,
    /// How much it is to be trusted with the answer, 0 to 1, by its place among the results.
    pub(super) prior: f64,
}

/// All passages in the results of these calls, each text once.
pub(super) fn passages<'a>(exchanges: impl IntoIterator<Item = &'a Exchange<'a>>) -> Vec<Passage> {
    let mut found: Vec<Passage> = Vec::new();
    for exchange in exchanges {
        let Some(value) = value_in(exchange.result) else {
            continue;
        };
        let mut here = Vec::new();
        collect(&value, &exchange.args, &mut here);
        for (at, mut passage) in here.into_iter().enumerate() {
            passage.prior = 1.0 / (1.0 + 0.04 * at as f64);
            let known = found
                .iter()
                .any(|p| p.source == passage.source && p.text == passage.text);
            if !known {
                found.push(passage);
            }
        }
    }
    found
}

/// The sentences of the passages, each line of a file once.
pub(super) fn candidates(passages: &[Passage]) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    for (at, passage) in passages.iter().enumerate() {
        let form = Form::of(&passage.source);
        let pieces = sentences::split(&passage.text, passage.line.max(1), form);
        let prior = passage.prior * standing(&passage.source);
        let last = pieces.len().saturating_sub(1);
        for (nth, mut sentence) in pieces.into_iter().enumerate() {
            let cut = nth == 0 && passage.line > 1 && starts_inside(&sentence.text)
                || nth == last && last > 0 && ends_inside(&sentence);
            if passage.line == 0 {
                sentence.line = 0;
            }
            // What looks like a source in a text is the text's own claim, not where it stands.
            sentence.text = super::answer::without_sources(&sentence.text);
            // Blocks of different passages must not be taken for one.
            sentence.block += at * BLOCKS;
            let known = found
                .iter()
                .any(|c| c.source == passage.source && c.sentence.text == sentence.text);
            if !known {
                found.push(Candidate {
                    sentence,
                    source: passage.source.clone(),
                    prior: prior * if cut { CUT } else { 1.0 },
                });
            }
        }
    }
    let halves: Vec<bool> = found.iter().map(|c| is_half(c, &found)).collect();
    let mut halves = halves.into_iter();
    found.retain(|_| halves.next() != Some(true));
    found
}

/// Whether a sentence stands, longer, in another passage of the same lines.
fn is_half(candidate: &Candidate, all: &[Candidate]) -> bool {
    let (line, text) = (candidate.sentence.line, &candidate.sentence.text);
    all.iter().any(|other| {
        other.sentence.line.abs_diff(line) <= 1
            && other.sentence.text.len() > text.len()
            && other.source == candidate.source
            && other.sentence.block / BLOCKS != candidate.sentence.block / BLOCKS
            && (other.sentence.text.starts_with(text) || other.sentence.text.ends_with(text))
    })
}

/// How far a source is made to be quoted from, 0 to 1: documents before settings before programs.
/// Addresses were chosen by who asked, or by a search.
fn standing(source: &str) -> f64 {
    if source.contains("://") {
        return 1.0;
    }
    let lower = source.to_lowercase();
    let (folder, name) = lower.rsplit_once('/').unwrap_or(("", lower.as_str()));
    let (stem, end) = name.rsplit_once('.').unwrap_or((name, ""));
    const NOT_MEANT: &[&str] = &[
        "test",
        "tests",
        "fixtures",
        "snapshots",
        "testdata",
        "mocks",
    ];
    let is_made_up = NOT_MEANT.contains(&stem)
        || end == "snap"
        || folder.split('/').any(|part| NOT_MEANT.contains(&part));
    let made_up = if is_made_up { MADE_UP } else { 1.0 };
    let kind = match end {
        _ if Form::of(source) == Form::Program => PROGRAM,
        "toml" | "yaml" | "yml" | "json" | "ini" | "xml" | "lock" | "cfg" | "conf" => SETTINGS,
        _ if stem.contains("changelog") || stem.contains("releases") => PAST,
        _ => 1.0,
    };
    f64::min(kind, made_up)
}

/// A passage begins and ends where the search cut it, which may be within a sentence.
fn starts_inside(text: &str) -> bool {
    text.starts_with(char::is_lowercase)
}

fn ends_inside(sentence: &Sentence) -> bool {
    let whole = [".", "!", "?", ":", ")", "`", "\"", "”", "]"];
    sentence.kind == Kind::Prose
        && sentence.text.split(' ').count() > 5
        && !whole.iter().any(|end| sentence.text.ends_with(end))
}

/// The addresses that a search found, in order.
pub(super) fn addresses(exchange: &Exchange<'_>) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(value) = value_in(exchange.result) {
        collect_addresses(&value, &mut found);
    }
    found
}

/// The JSON value in a result, which may be wrapped in words or cut off at its end.
pub(super) fn value_in(text: &str) -> Option<Value> {
    let start = text.find(['{', '['])?;
    let text = &text[start..];
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    match values.next() {
        Some(Ok(value)) => Some(value),
        _ => serde_json::from_str(&closed(text)?).ok(),
    }
}

fn collect(value: &Value, args: &Value, found: &mut Vec<Passage>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, args, found)),
        Value::Object(map) => {
            let text = |names: &[&str]| {
                let mut values = names.iter().filter_map(|name| map.get(*name)?.as_str());
                values.find(|text| !text.trim().is_empty())
            };
            let path = text(&["path", "file"]);
            let source = path.or_else(|| text(&["url", "link"]));
            // A tool may leave out what its caller knows.
            let asked = || {
                args.get("path")
                    .or_else(|| args.get("url"))
                    .and_then(Value::as_str)
            };
            let body = text(&["text", "snippet", "content", "markdown"]);
            if let (Some(source), Some(body)) = (source.or_else(asked), body) {
                let lines = ["from_line", "line", "start_line"];
                let line = lines.iter().find_map(|name| map.get(*name)?.as_u64());
                let is_file = path.is_some() || !source.contains("://");
                found.push(Passage {
                    source: source.to_owned(),
                    line: line.map_or(usize::from(is_file), |line| line.max(1) as usize),
                    text: body.to_owned(),
                    prior: 1.0,
                });
            }
            let nested = map
                .values()
                .filter(|value| value.is_array() || value.is_object());
            nested.for_each(|value| collect(value, args, found));
        }
        _ => {}
    }
}

fn collect_addresses(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_addresses(item, found)),
        Value::Object(map) => {
            let url = map
                .get("url")
                .or_else(|| map.get("link"))
                .and_then(Value::as_str);
            if let Some(url) = url.filter(|url| url.starts_with("http")) {
                found.push(url.to_owned());
            }
            map.values()
                .for_each(|value| collect_addresses(value, found));
        }
        _ => {}
    }
}

/// A value that was cut off, closed where it was cut. Good enough where the cut fell into a text,
/// which is where long results are cut.
fn closed(text: &str) -> Option<String> {
    let mut open = Vec::new();
    let mut in_text = false;
    let mut escaped = false;
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            '"' => in_text = !in_text,
            '{' if !in_text => open.push('}'),
            '[' if !in_text => open.push(']'),
            '}' | ']' if !in_text => {
                open.pop();
            }
            _ => {}
        }
    }
    if open.is_empty() {
        return None;
    }
    let mut text = text.to_owned();
    if escaped {
        text.pop();
    }
    if in_text {
        text.push('"');
    }
    while text.ends_with([',', ' ', '\n']) {
        text.pop();
    }
    text.extend(open.into_iter().rev());
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(result: &str, args: Value) -> Vec<(String, usize, String)> {
        let exchange = Exchange {
            tool: "t",
            args,
            result,
        };
        let passages = passages([&exchange]);
        passages
            .into_iter()
            .map(|p| (p.source, p.line, p.text))
            .collect()
    }

    #[test]
    fn documents_stand_above_settings_above_programs_above_what_is_made_up() {
        let order = [
            ["README.md", "https://e.com/a.rs", "docs/a.txt"],
            ["config/a.toml", "a.json", "b.yaml"],
            ["src/a.rs", "a.py", "scripts/a.sh"],
            ["src/tests.rs", "tests/it/a.rs", "a/snapshots/a.snap"],
        ];
        for pair in order.windows(2) {
            for (above, below) in pair[0].iter().zip(pair[1]) {
                assert!(standing(above) > standing(below), "{above} {below}");
            }
        }
    }

    #[test]
    fn half_a_sentence_gives_way_to_the_whole_one() {
        let passage = |line, text: &str| Passage {
            source: "a.md".into(),
            line,
            text: text.into(),
            prior: 1.0,
        };
        let found = candidates(&[
            passage(3, "It reads your"),
            passage(1, "# A\n\nIt reads your\nfiles and quotes them.\n"),
        ]);
        let texts: Vec<_> = found.iter().map(|c| c.sentence.text.as_str()).collect();
        assert_eq!(texts, ["A", "It reads your files and quotes them."]);
    }

    #[test]
    fn results_are_read_in_many_shapes() {
        let table = [
            (
                r#"{"passages":[{"path":"a.md","from_line":3,"to_line":4,"text":"x","score":1.5}],"searched":9}"#,
                json!({}),
                ("a.md", 3, "x"),
            ),
            (
                r#"{"hits":[{"file":"a.md","line":7,"snippet":"x"}]}"#,
                json!({}),
                ("a.md", 7, "x"),
            ),
            (
                r#"{"path":"a.md","from_line":1,"total_lines":2,"text":"x"}"#,
                json!({}),
                ("a.md", 1, "x"),
            ),
            (r#"{"text":"x"}"#, json!({"path": "b.md"}), ("b.md", 1, "x")),
            (
                r#"{"url":"https://e.com/","title":"T","text":"x"}"#,
                json!({}),
                ("https://e.com/", 0, "x"),
            ),
            (
                r#"Result: {"url":"https://e.com/","content":"x"} (untrusted)"#,
                json!({}),
                ("https://e.com/", 0, "x"),
            ),
            (
                r#"{"passages":[{"path":"a.md","from_line":3,"text":"cut o"#,
                json!({}),
                ("a.md", 3, "cut o"),
            ),
        ];
        for (result, args, (source, line, text)) in table {
            assert_eq!(
                read(result, args),
                [(source.into(), line, text.into())],
                "{result}"
            );
        }
        for nothing in ["error: no such file", "", "{\"passages\":[]}", "{"] {
            assert_eq!(read(nothing, json!({})), []);
        }
    }
}
