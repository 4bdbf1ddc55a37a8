//! What is wrong with a configuration: where it stands, what it is, and how to mend it. Owns the
//! diagnostics and their look, and keeps secrets that were written down by mistake out of them.
//! Which things are wrong is decided elsewhere in this module's siblings.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource};
use miette::{Severity, SourceCode};
use regex::{Captures, Regex};

/// One thing that is wrong, at one place.
#[derive(Clone, Debug)]
pub struct Problem {
    message: String,
    help: Option<String>,
    severity: Severity,
    place: Option<Box<Place>>,
}

/// Text in a file. The copy of the file that is shown has its secrets masked.
#[derive(Clone, Debug)]
struct Place {
    source: NamedSource<Arc<str>>,
    line: usize,
    column: usize,
    label: LabeledSpan,
}

/// Everything that is wrong with a configuration, so that it can be mended in one go. Never empty.
#[derive(Clone, Debug)]
pub struct Report {
    /// In the order of the files and of the lines in them.
    pub problems: Vec<Problem>,
}

impl Problem {
    /// A problem that stands in no file.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
            severity: Severity::Error,
            place: None,
        }
    }

    /// The same, found at these bytes of `source`.
    pub(super) fn at(
        mut self,
        source: &NamedSource<Arc<str>>,
        span: Range<usize>,
        label: impl Into<String>,
    ) -> Self {
        let text = source.inner();
        let before = &text[..span.start];
        self.place = Some(Box::new(Place {
            line: before.matches('\n').count() + 1,
            column: before.chars().rev().take_while(|c| *c != '\n').count() + 1,
            label: LabeledSpan::new(Some(label.into()), span.start, span.len()),
            source: source.clone(),
        }));
        self
    }

    /// The same, with a way to mend it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same, but the configuration can be used all the same.
    pub(super) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// The same, but only worth a word where somebody asks, as `majordomo check` does.
    pub(super) fn advice(mut self) -> Self {
        self.severity = Severity::Advice;
        self
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// How to mend it.
    pub fn how_to_mend(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// How bad it is: an error forbids the start, a warning deserves a line at the start, advice
    /// only in a check.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// File, line and column, the latter two counted from 1.
    pub fn place(&self) -> Option<(&str, usize, usize)> {
        let place = self.place.as_ref()?;
        Some((place.source.name(), place.line, place.column))
    }

    /// Whether it deserves a line at the start, and forbids nothing.
    pub fn is_warning(&self) -> bool {
        self.severity == Severity::Warning
    }

    /// Where it stands and what it is, without how to mend it.
    pub fn in_one_line(&self) -> String {
        match self.place() {
            Some((file, line, column)) => format!("{file}:{line}:{column}: {self}"),
            None => self.to_string(),
        }
    }

    /// The problem drawn for people, with the offending text underlined.
    pub fn render(&self, colours: bool, width: usize) -> String {
        let theme = match colours {
            true => GraphicalTheme::unicode(),
            false => GraphicalTheme::unicode_nocolor(),
        };
        let mut drawn = String::new();
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(width)
            .with_links(false)
            .with_context_lines(1);
        match handler.render_report(&mut drawn, self) {
            Ok(()) => drawn,
            Err(_) => format!("{self}\n"),
        }
    }
}

impl Report {
    /// All problems drawn one below the other, and their number.
    pub fn render(&self, colours: bool, width: usize) -> String {
        let mut drawn: String = self
            .problems
            .iter()
            .map(|problem| problem.render(colours, width) + "\n")
            .collect();
        drawn.push_str(&match self.problems.len() {
            1 => "1 problem in the configuration".to_owned(),
            n => format!("{n} problems in the configuration"),
        });
        drawn
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.help.as_ref()?))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.place.as_ref()?.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(
            self.place.as_ref()?.label.clone(),
        )))
    }
}

impl fmt::Display for Report {
    /// The whole report without colours, 100 characters wide.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false, 100))
    }
}

impl std::error::Error for Report {}

/// Whether something of this name (a header, a key) is by its name a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    const WORDS: [&str; 9] = [
        "authorization",
        "auth",
        "key",
        "apikey",
        "token",
        "secret",
        "password",
        "cookie",
        "credentials",
    ];
    name.to_ascii_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| WORDS.contains(&word))
}

/// `text` with everything blotted out that looks like a secret written down, byte for byte as long
/// as before, so that spans still fit.
pub(super) fn mask(text: &str) -> String {
    static ASSIGNMENT: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let key = r#"(?P<key>[\w-]+)["']?\s*=\s*"#;
        let value = r#"(?s:"""(?P<a>.*?)(?:"""|\z)|'''(?P<b>.*?)(?:'''|\z))|"(?P<c>(?:\\.|[^"\\\n])*)|'(?P<d>[^'\n]*)|(?P<e>[^\s"'\[{#][^\n#,}]*)"#;
        Regex::new(&format!("{key}(?:{value})")).ok()
    });
    static ELSEWHERE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let user_info = r#"://(?P<a>[^/\s"'@]+)@"#;
        let well_known = r"\b(?P<b>(?:sk|gsk|xai|tvly)[-_][\w-]{12,})";
        let option = r#"[?&]password=(?P<c>[^&\s"']+)"#;
        Regex::new(&format!("{user_info}|{well_known}|{option}")).ok()
    });
    let assigned = replace(&ASSIGNMENT, text, |found| is_secret_name(&found["key"]));
    replace(&ELSEWHERE, &assigned, |_| true)
}

fn replace(
    pattern: &LazyLock<Option<Regex>>,
    text: &str,
    is_secret: impl Fn(&Captures<'_>) -> bool,
) -> String {
    let Some(pattern) = pattern.as_ref() else {
        return text.to_owned();
    };
    let mut masked = text.to_owned();
    for found in pattern.captures_iter(text).filter(|found| is_secret(found)) {
        let value = ["a", "b", "c", "d", "e"]
            .iter()
            .find_map(|name| found.name(name));
        if let Some(value) = value {
            masked.replace_range(value.range(), &blot_around_references(value.as_str()));
        }
    }
    masked
}

/// References are what should stand there; everything around and between them is blotted out.
fn blot_around_references(value: &str) -> String {
    static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?:Bearer |Basic )?\$\{(?:[A-Za-z_][A-Za-z0-9_]*|file:[^}]*)\}").ok()
    });
    let references = REFERENCE
        .as_ref()
        .into_iter()
        .flat_map(|reference| reference.find_iter(value));
    let (mut masked, mut end) = (String::new(), 0);
    for reference in references {
        masked.push_str(&blot(&value[end..reference.start()]));
        masked.push_str(reference.as_str());
        end = reference.end();
    }
    masked + &blot(&value[end..])
}

fn blot(value: &str) -> String {
    let blot = |c: char| match c {
        '\n' | '\r' => c.to_string(),
        c => "*".repeat(c.len_utf8()),
    };
    value.chars().map(blot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_written_down_by_mistake_are_blotted_out() {
        let cases = [
            ("api_key = \"sk-1\"\nb = 1", "api_key = \"****\"\nb = 1"),
            ("api_key = 'sk-1", "api_key = '****"),
            ("api_key = sk-1 # why", "api_key = *****# why"),
            (
                "api_key = \"\"\"\nsk\n\"\"\"",
                "api_key = \"\"\"\n**\n\"\"\"",
            ),
            (
                "h = { \"X-Api-Key\" = \"é1\" }",
                "h = { \"X-Api-Key\" = \"***\" }",
            ),
            (
                "u = \"https://me:pw@host/v1\"",
                "u = \"https://*****@host/v1\"",
            ),
            ("api_key = \"${KEY}\"", "api_key = \"${KEY}\""),
            ("api_key = \"${sk-1}\"", "api_key = \"*******\""),
            (
                "Authorization = \"Bearer ${A} x\"",
                "Authorization = \"Bearer ${A}**\"",
            ),
            ("a = \"tvly-0123456789abc\"", "a = \"******************\""),
            ("max_tokens = \"many\"", "max_tokens = \"many\""),
        ];
        for (text, masked) in cases {
            assert_eq!(mask(text), masked);
            assert_eq!(mask(text).len(), text.len());
        }
    }

    #[test]
    fn names_of_secrets_are_known_by_their_words() {
        for name in [
            "Authorization",
            "x-api-key",
            "api_key",
            "Proxy-Authorization",
            "TOKEN",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["OpenAI-Organization", "max_tokens", "monkey", "X-Title"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
