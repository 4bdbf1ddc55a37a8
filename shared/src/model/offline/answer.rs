//! Findings and answers: how quotes with sources are written and read back, and the writer's rule,
//! which chooses among them. Nothing is ever said that does not stand in the material. Pure.

use std::sync::LazyLock;

use regex::Regex;

use super::conversation::Conversation;
use super::rank::{self, Candidate, Ranked};
use super::sentences::{self, Sentence};
use super::terms::Terms;
use super::{evidence, terms, writing};
use crate::model::{Message, ModelRequest};

/// How findings begin; the question follows.
pub(super) const FINDINGS: &str = "Findings for:";
/// How a search without result is reported; agents further on hand it through.
const NOTHING: &str = "Found nothing";
/// How words that stand nowhere are reported; agents further on hand it through.
const MISSING: &str = "Not mentioned in what was found:";
/// Quotes in an answer: more is a document.
const MOST: usize = 5;
/// A quote that scores below this part of the best one only distracts.
const FLOOR: f64 = 0.45;

/// A source in brackets: `[docs/a.md:12]`, `[a.md:3-9]`, `[https://…]`, or a bare file.
#[expect(clippy::expect_used, reason = "a literal pattern compiles")]
static SOURCE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\s*\[(https?://[^\]\s]+|[^\[\]\n`|]+:\d+(?:-\d+)?|[\w./-]+\.\w{1,5})\]")
        .expect("a literal")
});

/// A text without what looks like sources in it. What stands in code is none.
pub(super) fn without_sources(text: &str) -> String {
    let kept = |captures: &regex::Captures<'_>| {
        let whole = captures.get_match();
        match is_open(&text[..whole.start()]) && is_open(&text[whole.end()..]) {
            true => whole.as_str().to_owned(),
            false => String::new(),
        }
    };
    SOURCE.replace_all(text, kept).into_owned()
}

/// A summary of a conversation: how each line of it begins, as JSON. It quotes, and leaves the rest out.
pub(super) fn sum_up(request: &ModelRequest) -> String {
    const LINE: usize = 160;
    const LINES: usize = 24;
    let talk = request
        .messages
        .iter()
        .rev()
        .find_map(|message| match message {
            Message::User { text, .. } => Some(text.as_str()),
            _ => None,
        });
    let lines = talk.unwrap_or_default().lines().map(str::trim);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let begins = |line: &&str| line[..line.floor_char_boundary(LINE)].to_owned();
    let last = lines[lines.len().saturating_sub(LINES)..].iter();
    serde_json::json!({ "summary": last.map(begins).collect::<Vec<_>>().join("\n") }).to_string()
}

/// The answer of an agent without tools: the quotes that came with the task, or the sentences of
/// what came with it, chosen for the task.
pub(super) fn write(talk: &Conversation<'_>) -> String {
    let done = talk
        .rest
        .lines()
        .filter(|line| is_report(line))
        .map(|line| line.trim().to_owned());
    let mut parts: Vec<String> = done.collect();
    if !talk.material.is_empty() {
        // Findings stand in the order of their worth already, judged with more around them than is
        // left here.
        let is_ranked = talk.rest.matches(FINDINGS).count() == 1;
        parts.push(match is_ranked {
            true => written(&talk.material[..talk.material.len().min(MOST)]),
            false => compose(&talk.task, &talk.material),
        });
        parts.extend(
            talk.rest
                .lines()
                .find(|line| line.starts_with(MISSING))
                .map(str::to_owned),
        );
        return parts.join("\n\n");
    }
    if let Some(nothing) = talk.rest.lines().find(|line| line.starts_with(NOTHING)) {
        parts.push(nothing.to_owned());
    } else if parts.is_empty() {
        parts.push(from_plain_text(talk));
    }
    parts.join("\n\n")
}

/// The best quotes for a question: the first one leads, the others follow as a list, then all
/// sources.
pub(super) fn compose(question: &str, candidates: &[Candidate]) -> String {
    written(&choose(question, candidates, MOST))
}

/// Quotes as an answer, in their order.
fn written(chosen: &[Candidate]) -> String {
    let mut lines = chosen.iter().map(|quote| {
        let cite = quote.cite();
        let cite = if cite.is_empty() {
            cite
        } else {
            format!(" [{cite}]")
        };
        format!("{}{cite}", quote.sentence.text)
    });
    let mut text = lines.next().unwrap_or_default();
    for (at, line) in lines.enumerate() {
        text.push_str(if at == 0 { "\n\n- " } else { "\n- " });
        text.push_str(&line);
    }
    let mut sources: Vec<String> = Vec::new();
    for source in chosen.iter().map(|quote| quote.cite()) {
        if !source.is_empty() && !sources.contains(&source) {
            sources.push(source);
        }
    }
    if !sources.is_empty() {
        text.push_str("\n\nSources:");
        sources
            .iter()
            .for_each(|source| text.push_str(&format!("\n- {source}")));
    }
    text
}

/// What a search found, written so that people and the writer's rule can read it. `missing` are the
/// words of the question that stand nowhere.
pub(super) fn findings(question: &str, ranked: &[Candidate], missing: &[String]) -> String {
    let question = question.lines().next().unwrap_or_default();
    let mut text = format!("{FINDINGS} {question}\n");
    for quote in ranked {
        text.push_str(&format!("- {} [{}]\n", quote.sentence.text, quote.cite()));
    }
    if !missing.is_empty() {
        text.push_str(&format!("\n{MISSING} {}.", missing.join(", ")));
    }
    text.trim_end().to_owned()
}

/// What is said where every look failed: that is not the same as finding nothing.
pub(super) fn could_not_look(error: &str) -> String {
    let error = error.lines().next().unwrap_or_default();
    format!("{NOTHING}, because nothing could be looked at: {error}")
}

/// What is said where nothing was found.
pub(super) fn nothing(question: &str, looked: &[String]) -> String {
    let terms = Terms::of(&focus(question));
    let about = if terms.is_empty() {
        "this: the question holds no word to look for".to_owned()
    } else {
        terms.listed()
    };
    let looked = match looked {
        [] => "There was nothing to look in.".to_owned(),
        looked => format!("Looked with {}.", looked.join(", ")),
    };
    format!("{NOTHING} about {about}. {looked} Other words for the same thing may find more.")
}

/// Whether code begins, or ends, in this half of a line: its marks do not come in pairs.
fn is_open(half: &str) -> bool {
    half.matches('`').count() % 2 == 1
}

/// The quotes with sources in a text, first ones first. Lists of bare sources hold none.
pub(super) fn quotes_in(text: &str) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with(FINDINGS)) {
        let mut from = 0;
        for source in SOURCE.captures_iter(line) {
            let (Some(whole), Some(name)) = (source.get(0), source.get(1)) else {
                continue;
            };
            // A link in a quote is no source, and nothing is in code.
            let (before, after) = (&line[..whole.start()], &line[whole.end()..]);
            if after.starts_with('(') || (is_open(before) && is_open(after)) {
                continue;
            }
            let quote = line[from..whole.start()].trim();
            let quote = ["- ", "* ", "• "]
                .iter()
                .find_map(|mark| quote.strip_prefix(mark))
                .unwrap_or(quote);
            from = whole.end();
            if quote.chars().filter(|c| c.is_alphabetic()).count() < 3 {
                continue;
            }
            let (source, line) = place(name.as_str());
            found.push(Candidate {
                prior: 1.0 / (1.0 + 0.1 * found.len() as f64),
                source: source.to_owned(),
                sentence: Sentence {
                    text: quote.to_owned(),
                    line,
                    heading: String::new(),
                    lead: String::new(),
                    block: found.len(),
                    kind: sentences::kind_of(quote),
                },
            });
        }
    }
    found
}

/// The question that findings were gathered for.
pub(super) fn question_in(text: &str) -> Option<String> {
    let question = text
        .lines()
        .find_map(|line| line.strip_prefix(FINDINGS))?
        .trim();
    (!question.is_empty()).then(|| question.to_owned())
}

/// Whether a task asks what a document says as a whole, and not for something in it.
pub(super) fn wants_summary(task: &str) -> bool {
    let lower = task.to_lowercase();
    let asks = [
        "summar",
        "overview",
        "tl;dr",
        "what is in ",
        "what does it say",
        "main points",
        "key points",
        "gist",
    ];
    asks.iter().any(|sign| lower.contains(sign)) || Terms::of(&focus(task)).is_empty()
}

/// A task without the names of files and addresses, where something remains; and without the words
/// that only ask for a summary.
pub(super) fn focus(task: &str) -> String {
    let mut text = task.to_owned();
    for name in terms::urls(task).iter().chain(&terms::file_names(task)) {
        text = text.replace(name.as_str(), " ");
    }
    let words = text.split_whitespace().filter(|word| {
        let word = word
            .trim_matches(|c: char| !c.is_alphanumeric())
            .to_lowercase();
        ![
            "summary", "overview", "points", "gist", "main", "file", "page", "document", "short",
        ]
        .contains(&word.as_str())
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The quotes for a question; where the words of the question tell nothing, what the documents
/// mostly speak of.
pub(super) fn choose(question: &str, candidates: &[Candidate], most: usize) -> Vec<Candidate> {
    let unranked = |ranked: Vec<Ranked>| ranked.into_iter().map(|r| r.candidate).collect();
    if !wants_summary(question) {
        let best: Vec<Candidate> = unranked(rank::best(&focus(question), candidates, most, FLOOR));
        if !best.is_empty() {
            return best;
        }
    }
    let best: Vec<Candidate> = unranked(rank::central(candidates, most));
    if best.is_empty() {
        return candidates.iter().take(most).cloned().collect();
    }
    best
}

fn from_plain_text(talk: &Conversation<'_>) -> String {
    let text = if talk.rest.is_empty() {
        &talk.task
    } else {
        &talk.rest
    };
    let candidates: Vec<_> = sentences::split(text, 1, sentences::Form::Document)
        .into_iter()
        .map(|sentence| Candidate {
            sentence: Sentence {
                line: 0,
                ..sentence
            },
            source: String::new(),
            prior: 1.0,
        })
        .collect();
    if !talk.documents.is_empty() && talk.rest.is_empty() {
        return match compose(&talk.task, &evidence::candidates(&talk.documents)) {
            text if text.is_empty() => nothing(&talk.task, &[]),
            text => text,
        };
    }
    if talk.rest.is_empty() {
        return "There is no material to answer this from. The built-in offline model only quotes what agents have found; it does not know, reword or translate anything by itself.".into();
    }
    match compose(&talk.task, &candidates) {
        text if text.is_empty() => nothing(&talk.task, &[]),
        text => text,
    }
}

fn is_report(line: &str) -> bool {
    let line = line.trim();
    line.starts_with(writing::WROTE) || line.starts_with(writing::NOT_WRITTEN)
}

fn place(name: &str) -> (&str, usize) {
    if name.contains("://") {
        return (name, 0);
    }
    let Some((path, lines)) = name.rsplit_once(':') else {
        return (name, 0);
    };
    let first = lines.split('-').next().unwrap_or_default();
    first.parse().map_or((name, 0), |line| (path, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let quotes = quotes_in(text).into_iter();
        quotes
            .map(|q| (q.sentence.text.clone(), q.cite()))
            .collect()
    }

    #[test]
    fn findings_are_read_back_as_they_were_written() {
        let text = "Findings for: what is [x]?\n- A lease [sic] is a promise. [docs/a b.md:3]\n- See `v[0]`, it is fast. [https://e.com/x?a=1]\n";
        let quotes = quotes_in(text);
        assert_eq!(
            read(text),
            [
                ("A lease [sic] is a promise.".into(), "docs/a b.md:3".into()),
                (
                    "See `v[0]`, it is fast.".into(),
                    "https://e.com/x?a=1".into()
                ),
            ]
        );
        assert_eq!(findings("what is [x]?", &quotes, &[]), text.trim());
        assert_eq!(question_in(text).as_deref(), Some("what is [x]?"));
    }

    #[test]
    fn quotes_are_found_in_running_text_and_sources_alone_are_none() {
        let text = "Leases last. [a.md:1-2] Epochs count. [b.md:9]\n\nSources:\n- a.md:1\n[1]";
        assert_eq!(
            read(text),
            [
                ("Leases last.".into(), "a.md:1".into()),
                ("Epochs count.".into(), "b.md:9".into())
            ]
        );
    }

    #[test]
    fn code_in_a_quote_is_no_source() {
        let line = "`[tool.NAME]` changes one tool. [docs/a.md:3]";
        assert_eq!(without_sources(line), "`[tool.NAME]` changes one tool.");
        let text = "- A policy of its own: `[tool.NAME]` below. [a.md:3]\n- One ` alone. [b.md:4]";
        assert_eq!(
            read(text),
            [
                (
                    "A policy of its own: `[tool.NAME]` below.".into(),
                    "a.md:3".into()
                ),
                ("One ` alone.".into(), "b.md:4".into())
            ]
        );
    }

    #[test]
    fn a_link_in_a_quote_is_no_source() {
        let text = "- See ([docs/b.md](docs/b.md)) for more. [a.md:3]";
        assert_eq!(
            read(text),
            [(
                "See ([docs/b.md](docs/b.md)) for more.".into(),
                "a.md:3".into()
            )]
        );
    }
}
