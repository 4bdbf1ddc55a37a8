//! One TOML file as read: its text, its values, and where each of them stands. Knows nothing of
//! what the values mean; [`shape`](super::shape) and [`check`](super::check) do.

use std::ops::Range;
use std::sync::Arc;

use miette::NamedSource;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, mask};

/// A file's bytes under the name that people know it by.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// How messages name it.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// A parsed file.
pub(super) struct Document<'a> {
    /// The file's own text.
    pub text: &'a str,
    /// All keys and values with their places.
    pub root: DeTable<'a>,
    /// What messages show: the text without its secrets.
    source: NamedSource<Arc<str>>,
}

/// A value that a search by path came upon.
pub(super) struct Found<'d, 'a> {
    /// Its last key, or the one of the array that it stands in.
    pub key: &'d str,
    /// Where that key stands.
    pub key_span: Range<usize>,
    /// The value and its place.
    pub value: &'d Spanned<DeValue<'a>>,
}

impl<'a> Document<'a> {
    /// Parses a file, or says all that is wrong with its syntax.
    pub fn parse(file: &'a File) -> Result<Self, Vec<Problem>> {
        let text = std::str::from_utf8(&file.bytes).map_err(|error| vec![not_text(file, error)])?;
        let (root, errors) = DeTable::parse_recoverable(text);
        let document = Self {
            text,
            root: root.into_inner(),
            source: NamedSource::new(&file.name, mask(text).into()),
        };
        match errors.is_empty() {
            true => Ok(document),
            false => Err(errors.iter().map(|error| document.syntax(error)).collect()),
        }
    }

    /// How messages name the file.
    pub fn name(&self) -> &str {
        self.source.name()
    }

    /// All values at a path, in which `*` stands for any key and any index.
    pub fn find<'d>(&'d self, path: &[&str]) -> Vec<Found<'d, 'a>> {
        let mut found = Vec::new();
        if let Some((first, rest)) = path.split_first() {
            in_table(&self.root, first, rest, &mut found);
        }
        found
    }

    /// The text at a path without `*`.
    pub fn string(&self, path: &[&str]) -> Option<&str> {
        self.find(path)
            .first()
            .and_then(|found| found.value.as_ref().as_str())
    }

    /// Where the value at a path without `*` stands; the file's beginning where there is none.
    pub fn span(&self, path: &[&str]) -> Range<usize> {
        match self.find(path).first() {
            Some(found) => found.value.span(),
            None => self.beginning(),
        }
    }

    /// A problem at these bytes.
    pub fn problem(&self, span: Range<usize>, label: &str, message: impl Into<String>) -> Problem {
        let problem = Problem::new(message);
        match self.text.trim().is_empty() {
            // There is nothing to underline, so the message has to name the file.
            true => Problem::new(format!("{}: {problem}", self.name())),
            false => problem.at(&self.source, self.fit(span), label),
        }
    }

    /// The first line that says something, for what is missing from the file as a whole.
    pub fn beginning(&self) -> Range<usize> {
        let mut start = 0;
        for line in self.text.split_inclusive('\n') {
            let said = line.trim();
            if !said.is_empty() && !said.starts_with('#') {
                return start..start + line.trim_end().len();
            }
            start += line.len();
        }
        0..self.text.lines().next().map_or(0, str::len)
    }

    /// The nearest span within the text that cuts no character; at the end, its last character.
    fn fit(&self, span: Range<usize>) -> Range<usize> {
        let floor = |at: usize| {
            (0..=at.min(self.text.len()))
                .rev()
                .find(|at| self.text.is_char_boundary(*at))
        };
        let start = floor(span.start).unwrap_or(0);
        let end = floor(span.end).unwrap_or(0).max(start);
        if start < self.text.len() {
            return start..end;
        }
        let last = self.text.trim_end().char_indices().next_back();
        last.map_or(0..0, |(at, c)| at..at + c.len_utf8())
    }

    fn syntax(&self, error: &toml::de::Error) -> Problem {
        let span = error.span().unwrap_or_else(|| self.beginning());
        let message = error.message().trim().replace('\n', "; ");
        let problem = self.problem(span, "here", format!("this is not TOML: {message}"));
        problem.help(syntax_help(&message))
    }
}

fn not_text(file: &File, error: std::str::Utf8Error) -> Problem {
    let before = &file.bytes[..error.valid_up_to()];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    Problem::new(format!(
        "{}:{line} holds bytes that are no UTF-8 text",
        file.name
    ))
    .help("save the file as UTF-8")
}

fn syntax_help(message: &str) -> &'static str {
    match message {
        m if m.contains("must be quoted") => "put text in quotes: `key = \"text\"`",
        m if m.contains("duplicate key") => {
            "each key stands once in its table; remove one of the two"
        }
        m if m.contains("multi-line") => "close it by the same three quotes that open it",
        m if m.contains("string") => {
            "close the text by the quote that opens it; text of several \
                                      lines stands between \"\"\" and \"\"\""
        }
        m if m.contains("table") => "a table's header is `[name]`, on a line of its own",
        m if m.contains("array") => "close the list by `]`, its items apart by commas",
        _ => "a line is `key = value`, `[table]` or `# comment`; text stands in quotes",
    }
}

fn in_table<'d, 'a>(
    table: &'d DeTable<'a>,
    step: &str,
    rest: &[&str],
    found: &mut Vec<Found<'d, 'a>>,
) {
    for (key, value) in table {
        if step == "*" || step == key.as_ref() {
            let name: &'d str = key.as_ref();
            descend(name, key.span(), value, rest, found);
        }
    }
}

fn descend<'d, 'a>(
    key: &'d str,
    key_span: Range<usize>,
    value: &'d Spanned<DeValue<'a>>,
    path: &[&str],
    found: &mut Vec<Found<'d, 'a>>,
) {
    let Some((step, rest)) = path.split_first() else {
        return found.push(Found {
            key,
            key_span,
            value,
        });
    };
    match value.as_ref() {
        DeValue::Table(table) => in_table(table, step, rest, found),
        DeValue::Array(items) if *step == "*" => {
            for item in items.iter() {
                descend(key, key_span.clone(), item, rest, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File {
            name: "x.toml".into(),
            bytes: text.into(),
        }
    }

    #[test]
    fn a_path_leads_to_the_text_that_stands_there() {
        let file = file("[[r]]\na = [\"x\", \"y\"]\n[[r]]\na = [\"z\"]\n[t.\"q.w\"]\nk = 'v'\n");
        let document = Document::parse(&file).ok().unwrap();
        let shown = |path: &[&str]| -> Vec<&str> {
            let found = document.find(path);
            found
                .iter()
                .map(|found| &document.text[found.value.span()])
                .collect()
        };
        assert_eq!(shown(&["r", "*", "a", "*"]), ["\"x\"", "\"y\"", "\"z\""]);
        assert_eq!(shown(&["r", "*"]), ["[[r]]", "[[r]]"]);
        assert_eq!(shown(&["t", "q.w"]), ["[t.\"q.w\"]"]);
        assert_eq!(shown(&["t", "*", "k"]), ["'v'"]);
        assert!(shown(&["t", "*", "k", "*"]).is_empty());
        assert_eq!(document.string(&["t", "q.w", "k"]), Some("v"));
    }

    #[test]
    fn every_syntax_error_of_a_file_is_told() {
        let file = file("a = \nb = = 2\nc = 3\n[x");
        let problems = Document::parse(&file).err().unwrap();
        let mut lines: Vec<_> = problems.iter().map(|p| p.place().unwrap().1).collect();
        lines.dedup();
        assert!(
            lines.contains(&1) && lines.contains(&2) && lines.contains(&4),
            "{lines:?}"
        );
    }
}
