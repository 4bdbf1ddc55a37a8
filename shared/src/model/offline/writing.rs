//! The executor's rule: what a task wants written, and where. Pure.

use serde_json::Value;

use super::terms;

/// How a written file is reported.
pub(super) const WROTE: &str = "Wrote ";
/// How a file that was not written is reported.
pub(super) const NOT_WRITTEN: &str = "Could not write ";

/// A wish for a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wish {
    /// Its path.
    pub(super) path: String,
    /// Its content, where the task gives it word by word.
    pub(super) content: Option<String>,
}

const VERBS: &[&str] = &[
    "write", "save", "put", "store", "create", "record", "export", "note", "make", "generate",
    "produce",
];
/// Words after which a command begins in the middle of a sentence.
const BEFORE_VERB: &[&str] = &[
    "and", "then", "please", "also", "now", "to", "you", "just", "finally",
];
const BEFORE_CONTENT: &[&str] = &[
    " that says ",
    " which says ",
    " saying ",
    " containing ",
    " with the text ",
    " with the content ",
    " with content ",
    " reading ",
    " with: ",
    ": ",
];
/// What content that has yet to be found begins with.
const DESCRIBES: &[&str] = &[
    "a ", "an ", "the ", "your ", "all ", "what ", "how ", "why ",
];

/// The file that a task wants written; `None` where it asks for something else.
pub(super) fn wish(task: &str) -> Option<Wish> {
    if !commands(task) {
        return None;
    }
    let path = terms::file_names(task)
        .into_iter()
        .rfind(|name| is_target(task, name))?;
    let content = content(task, &path);
    Some(Wish { path, content })
}

/// What a task is about when the wish for a file is taken out of it.
pub(super) fn without_wish(task: &str, wish: &Wish) -> String {
    let words: Vec<&str> = task.split_whitespace().collect();
    let is_path = |word: &str| bare(word) == wish.path;
    let mut kept: Vec<&str> = Vec::new();
    for word in words {
        if is_path(word) {
            while kept.last().is_some_and(|w| {
                [
                    "to", "into", "in", "as", "file", "a", "the", "called", "named",
                ]
                .contains(&lower(w).as_str())
            }) {
                kept.pop();
            }
        } else if !VERBS.contains(&lower(word).as_str()) {
            kept.push(word);
        }
    }
    while kept.last().is_some_and(|w| {
        ["and", "it", "this", "that", "result", "answer"].contains(&lower(w).as_str())
    }) {
        kept.pop();
    }
    kept.join(" ")
}

/// What came of writing, from the tool's result.
pub(super) fn report(path: &str, result: &str) -> String {
    let value = super::evidence::value_in(result);
    let fact = |names: &[&str]| {
        let value = value.as_ref()?;
        names.iter().find_map(|name| value.get(*name).cloned())
    };
    if fact(&["path", "bytes", "sha256"]).is_none() || fact(&["error"]).is_some() {
        let reason = result.lines().next().unwrap_or("no reason given");
        return format!("{NOT_WRITTEN}{path}: {reason}");
    }
    let path = fact(&["path"])
        .and_then(|p| p.as_str().map(str::to_owned))
        .unwrap_or(path.to_owned());
    match fact(&["bytes", "size"]).as_ref().and_then(Value::as_u64) {
        Some(bytes) => format!("{WROTE}{path} ({bytes} bytes)."),
        None => format!("{WROTE}{path}."),
    }
}

/// Whether a verb of writing is used as a command.
fn commands(task: &str) -> bool {
    let mut before: Option<&str> = None;
    for word in task.split_whitespace() {
        let begins = before.is_none_or(|b| {
            b.ends_with(['.', ',', ';', ':', '!']) || BEFORE_VERB.contains(&lower(b).as_str())
        });
        // "How do I write to …" asks, and "wants to write" tells.
        let asks =
            before.is_some_and(|b| ["to", "you"].contains(&lower(b).as_str())) && is_question(task);
        if begins && !asks && VERBS.contains(&lower(word).as_str()) {
            return true;
        }
        before = Some(word);
    }
    false
}

fn is_question(task: &str) -> bool {
    let first = task
        .split_whitespace()
        .next()
        .map(lower)
        .unwrap_or_default();
    [
        "how", "what", "why", "when", "where", "who", "which", "does", "do", "is", "are",
    ]
    .contains(&first.as_str())
}

/// Whether a file name stands where a target stands.
fn is_target(task: &str, name: &str) -> bool {
    const BEFORE: &[&str] = &[
        "to", "into", "in", "as", "file", "called", "named", "write", "create", "save", "make", "a",
    ];
    let mut before = "";
    for word in task.split_whitespace() {
        if bare(word) == name {
            return BEFORE.contains(&lower(before).as_str());
        }
        before = word;
    }
    false
}

fn content(task: &str, path: &str) -> Option<String> {
    let quoted = terms::quoted(task).into_iter().find(|text| text != path);
    if quoted.is_some() {
        return quoted;
    }
    let (at, sign) = BEFORE_CONTENT
        .iter()
        .filter_map(|sign| Some((task.find(sign)?, sign)))
        .min()?;
    let mut text = task[at + sign.len()..].trim();
    // "put … saying hello into note.txt"
    for link in [" to ", " into ", " in ", " as "] {
        if let Some(cut) = text.rfind(link).filter(|cut| text[*cut..].contains(path)) {
            text = &text[..cut];
        }
    }
    let described = DESCRIBES
        .iter()
        .any(|word| text.to_lowercase().starts_with(word));
    (!text.is_empty() && !text.contains(path) && !described).then(|| text.to_owned())
}

fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| "\"'`“”,;:!?()".contains(c))
        .trim_end_matches('.')
        .trim_start_matches("./")
}

fn lower(word: &str) -> String {
    word.trim_matches(|c: char| !c.is_alphanumeric())
        .to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_told_from_questions() {
        let some = |path: &str, content: Option<&str>| {
            Some(Wish {
                path: path.into(),
                content: content.map(str::to_owned),
            })
        };
        let table = [
            (
                "Write \"hello world\" to note.txt",
                some("note.txt", Some("hello world")),
            ),
            (
                "Create a file hello.md containing good morning",
                some("hello.md", Some("good morning")),
            ),
            (
                "Please save a summary of the retry policy as out/retry.md.",
                some("out/retry.md", None),
            ),
            (
                "Find out what a lease is and write it to lease.md",
                some("lease.md", None),
            ),
            (
                "Read DESIGN.md, then write the main points into `points.txt`",
                some("points.txt", None),
            ),
            (
                "put saying hello into greeting.txt",
                some("greeting.txt", Some("hello")),
            ),
            ("How do I write to config.toml?", None),
            ("What does README.md say?", None),
            ("Write a poem", None),
        ];
        for (task, wish) in table {
            assert_eq!(super::wish(task), wish, "{task}");
        }
    }

    #[test]
    fn what_remains_is_the_subject() {
        let table = [
            (
                "Please save a summary of the retry policy as out/retry.md.",
                "Please a summary of the retry policy",
            ),
            (
                "Find out what a lease is and write it to lease.md",
                "Find out what a lease is",
            ),
        ];
        for (task, rest) in table {
            assert_eq!(without_wish(task, &wish(task).unwrap()), rest);
        }
    }

    #[test]
    fn only_a_confirmed_file_is_reported_as_written() {
        assert_eq!(
            report("a.txt", r#"{"path":"a.txt","bytes":5}"#),
            "Wrote a.txt (5 bytes)."
        );
        assert_eq!(
            report("a.txt", "disk full"),
            "Could not write a.txt: disk full"
        );
    }
}
