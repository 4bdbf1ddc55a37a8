//! Cuts a text into the pieces that an answer may quote: sentences, list items, table rows, lines of
//! code. Knows Markdown's lines and which heading they stand under. Pure.

/// A piece of a text that can stand alone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sentence {
    /// The words, on one line, without list marks and emphasis.
    pub(super) text: String,
    /// The line that it begins on, from 1.
    pub(super) line: usize,
    /// The headings above it, outermost first.
    pub(super) heading: String,
    /// Sentences of the same paragraph, item or table share this number.
    pub(super) block: usize,
    /// What it is.
    pub(super) kind: Kind,
}

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A sentence of a paragraph or of a list item.
    Prose,
    /// A row of a table.
    Row,
    /// A line of code.
    Code,
    /// A heading: it is context, and never quoted alone.
    Heading,
}

/// All pieces of a text whose first line has the number `first_line`.
pub(super) fn split(text: &str, first_line: usize) -> Vec<Sentence> {
    let mut splitter = Splitter::default();
    for (at, line) in text.lines().enumerate() {
        splitter.line(line, first_line + at);
    }
    splitter.end_paragraph();
    splitter.found
}

/// What a piece is that comes without its surroundings.
pub(super) fn kind_of(text: &str) -> Kind {
    if text.contains(" | ") {
        Kind::Row
    } else if is_code_like(text) {
        Kind::Code
    } else {
        Kind::Prose
    }
}

#[derive(Default)]
struct Splitter {
    found: Vec<Sentence>,
    headings: Vec<(usize, String)>,
    paragraph: Vec<(usize, String)>,
    block: usize,
    fenced: bool,
}

impl Splitter {
    fn line(&mut self, line: &str, number: usize) {
        let trimmed = line.trim();
        if trimmed.starts_with("```") || trimmed.starts_with("~~~") {
            self.end_paragraph();
            self.fenced = !self.fenced;
        } else if self.fenced {
            self.push(trimmed, number, Kind::Code);
        } else if let Some((level, title)) = heading(trimmed) {
            self.end_paragraph();
            self.headings.retain(|(above, _)| *above < level);
            self.headings.push((level, title.to_owned()));
            self.push(title, number, Kind::Heading);
        } else if trimmed.is_empty() || is_rule(trimmed) || is_apparatus(trimmed) {
            self.end_paragraph();
        } else if trimmed.starts_with('|') {
            self.end_paragraph();
            self.push(&row(trimmed), number, Kind::Row);
        } else {
            let item = without_mark(trimmed);
            if item.len() < trimmed.len() || is_code_like(trimmed) {
                self.end_paragraph();
            }
            if is_code_like(trimmed) {
                self.push(trimmed, number, Kind::Code);
            } else {
                self.paragraph.push((number, item.to_owned()));
            }
        }
    }

    fn end_paragraph(&mut self) {
        let paragraph = std::mem::take(&mut self.paragraph);
        let mut text = String::new();
        let mut starts = Vec::new();
        for (number, line) in paragraph {
            if !text.is_empty() {
                text.push(' ');
            }
            starts.push((text.len(), number));
            text.push_str(&line);
        }
        let line_at = |at: usize| {
            let line = starts.iter().rfind(|(start, _)| *start <= at);
            line.map_or(0, |(_, number)| *number)
        };
        for (at, sentence) in cut(&text) {
            self.push(sentence, line_at(at), Kind::Prose);
        }
        self.block += 1;
    }

    fn push(&mut self, text: &str, line: usize, kind: Kind) {
        let text = plain(text, kind);
        if !text.chars().any(char::is_alphanumeric) {
            return;
        }
        let headings = self.headings.iter().map(|(_, title)| title.as_str());
        self.found.push(Sentence {
            text,
            line,
            heading: headings.collect::<Vec<_>>().join(" > "),
            block: self.block,
            kind,
        });
    }
}

/// One line, and outside code without tags and the marks of emphasis.
fn plain(text: &str, kind: Kind) -> String {
    let text = match kind {
        Kind::Code => text.to_owned(),
        _ => without_tags(&text.replace("**", "")),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn heading(line: &str) -> Option<(usize, &str)> {
    let level = line.bytes().take_while(|b| *b == b'#').count();
    let title = line[level..].strip_prefix(' ')?;
    (1..=6)
        .contains(&level)
        .then(|| (level, title.trim().trim_end_matches('#').trim()))
}

/// `---`, `===`, `|---|---|`.
fn is_rule(line: &str) -> bool {
    line.len() >= 3 && line.chars().all(|c| "-=*_|: ".contains(c))
}

/// What is there for the renderer and says nothing: badges, link definitions, comments.
fn is_apparatus(line: &str) -> bool {
    let definition = line.starts_with('[') && line.contains("]: ");
    let badge = line.starts_with("[![") || line.starts_with("![");
    definition || badge || line.starts_with("<!--")
}

/// A line without HTML tags; what only looks like one, such as `a < b` or `<T>` in code, stays.
fn without_tags(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, tag)) = rest.split_once('<') {
        let name = tag.trim_start_matches('/');
        let is_tag = TAGS.iter().any(|known| {
            name.strip_prefix(known)
                .is_some_and(|after| after.starts_with(['>', ' ', '/']))
        });
        text.push_str(before);
        match tag.split_once('>') {
            Some((_, after)) if is_tag => rest = after,
            _ => {
                text.push('<');
                rest = tag;
            }
        }
    }
    text + rest
}

const TAGS: &[&str] = &[
    "a", "b", "br", "code", "details", "div", "em", "h1", "h2", "h3", "h4", "hr", "i", "img", "li",
    "p", "picture", "pre", "source", "span", "strong", "sub", "summary", "sup", "table", "tbody",
    "td", "th", "thead", "tr", "ul",
];

/// The cells of a table's row.
fn row(line: &str) -> String {
    let cells = line.trim_matches('|').split('|').map(str::trim);
    cells
        .filter(|cell| !cell.is_empty())
        .collect::<Vec<_>>()
        .join(" | ")
}

/// A line without its list mark, quote mark, or comment mark.
fn without_mark(line: &str) -> &str {
    let line = line.trim_start_matches("> ");
    for mark in [
        "- [ ] ", "- [x] ", "- ", "* ", "+ ", "• ", "//! ", "/// ", "// ",
    ] {
        if let Some(item) = line.strip_prefix(mark) {
            return item.trim_start();
        }
    }
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    match line[digits..]
        .strip_prefix(". ")
        .or_else(|| line[digits..].strip_prefix(") "))
    {
        Some(item) if (1..=3).contains(&digits) => item.trim_start(),
        _ => line,
    }
}

/// Lines of source or data outside a fence.
fn is_code_like(line: &str) -> bool {
    let ends = [";", "{", "}", "};", "},", "),", "(", "\","];
    let starts = [
        "fn ", "pub ", "let ", "use ", "impl ", "struct ", "enum ", "#[", "def ", "import ", "}",
    ];
    ends.iter().any(|end| line.ends_with(end)) && !line.ends_with("etc.;")
        || starts.iter().any(|start| line.starts_with(start))
}

/// The sentences of a paragraph with the places where they begin.
fn cut(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut depth = 0i32;
    let mut code = false;
    for (at, c) in text.char_indices() {
        match c {
            '`' => code = !code,
            '(' | '[' if !code => depth += 1,
            ')' | ']' if !code => depth = (depth - 1).max(0),
            '.' | '!' | '?' if !code && depth == 0 => {
                let end = sentence_end(text, start, at);
                if let Some(end) = end {
                    found.push((start, text[start..end].trim_end()));
                    start = end + (text[end..].len() - text[end..].trim_start().len());
                }
            }
            _ => {}
        }
    }
    if start < text.len() {
        found.push((start, &text[start..]));
    }
    found
}

/// Where the sentence ends whose last sign stands at `at`; `None` where the sign ends nothing.
fn sentence_end(text: &str, start: usize, at: usize) -> Option<usize> {
    let after = &text[at + 1..];
    let closing: usize = after
        .chars()
        .take_while(|c| "\"'”’)*_`".contains(*c))
        .map(char::len_utf8)
        .sum();
    let end = at + 1 + closing;
    let rest = &text[end..];
    if rest.is_empty() {
        return Some(end);
    }
    let next = rest.strip_prefix(' ')?.trim_start().chars().next()?;
    let word = text[start..at]
        .rsplit([' ', '('])
        .next()
        .unwrap_or_default();
    let shortened = ABBREVIATIONS.contains(&word.to_lowercase().as_str())
        || (word.chars().count() == 1 && word.chars().all(char::is_uppercase))
        || word.contains('.') && word.chars().all(|c| c.is_alphabetic() || c == '.');
    let begins = next.is_uppercase() || next.is_ascii_digit() || "`\"'“*_([".contains(next);
    (begins && !shortened).then_some(end)
}

const ABBREVIATIONS: &[&str] = &[
    "e.g", "i.e", "etc", "vs", "cf", "no", "fig", "dr", "mr", "mrs", "st", "ca", "approx", "incl",
    "resp", "z.b",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(usize, String)> {
        split(text, 1)
            .into_iter()
            .map(|s| (s.line, s.text))
            .collect()
    }

    #[test]
    fn prose_is_cut_at_sentences_and_keeps_its_lines() {
        let text = "# Store\n\nThe store is the\ntruth. It costs 0.5 ms, e.g. Postgres. See `a.b. C` (one. Two) here.\nLast?\n";
        let expected = [
            (1, "Store"),
            (3, "The store is the truth."),
            (4, "It costs 0.5 ms, e.g. Postgres."),
            (4, "See `a.b. C` (one. Two) here."),
            (5, "Last?"),
        ];
        assert_eq!(
            texts(text),
            expected.map(|(line, text)| (line, text.to_owned()))
        );
        assert_eq!(split(text, 10)[1].heading, "Store");
        assert_eq!(split(text, 10)[1].line, 12);
    }

    #[test]
    fn lists_tables_and_code_are_pieces_of_their_own() {
        let text = "- one\n- two\n  goes on\n1. three\n\n| a | b |\n|---|---|\n| c | d |\n```\nlet x = 1;\n```\n";
        let expected = [
            (1, "one"),
            (2, "two goes on"),
            (4, "three"),
            (6, "a | b"),
            (8, "c | d"),
            (10, "let x = 1;"),
        ];
        assert_eq!(
            texts(text),
            expected.map(|(line, text)| (line, text.to_owned()))
        );
    }

    #[test]
    fn what_is_for_the_renderer_is_left_out() {
        let text = "<h1 align=\"center\">Name</h1>\n\n[![badge](x)](y)\n\nIt is **bold** and `Vec<T>`.\n\n[a]: https://e.com\n<!-- x -->\n";
        let expected = [(1, "Name"), (5, "It is bold and `Vec<T>`.")];
        assert_eq!(
            texts(text),
            expected.map(|(line, text)| (line, text.to_owned()))
        );
    }

    #[test]
    fn headings_nest() {
        let found = split("# A\n## B\ntext here\n## C\nmore here\n", 1);
        let headings: Vec<_> = found
            .iter()
            .filter(|s| s.kind == Kind::Prose)
            .map(|s| s.heading.as_str())
            .collect();
        assert_eq!(headings, ["A > B", "A > C"]);
    }
}
