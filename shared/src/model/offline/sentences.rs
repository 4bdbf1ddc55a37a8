//! Cuts a text into the pieces that an answer may quote: sentences, list items, table rows, lines of
//! code. Knows Markdown's lines and which heading they stand under. Pure.

/// A piece of a text that can stand alone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sentence {
    /// The words, on one line, without list marks and emphasis.
    pub(super) text: String,
    /// The line that it begins on, from 1.
    pub(super) line: usize,
    /// The headings above it, outermost first, and the head of its table.
    pub(super) heading: String,
    /// The sentence that announces it: `Rand is not:` before a list, `Run:` before a command.
    pub(super) lead: String,
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

/// What a text is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// Documents: prose with Markdown's lists, tables and code, or settings.
    #[default]
    Document,
    /// A program: prose stands in its comments only.
    Program,
}

impl Form {
    /// By the name of the file.
    pub(super) fn of(source: &str) -> Self {
        let end = source.rsplit_once('.').map_or("", |(_, end)| end);
        match PROGRAMS.contains(&end) && !source.contains("://") {
            true => Self::Program,
            false => Self::Document,
        }
    }
}

/// How the names of programs, and of what programs print, end.
const PROGRAMS: &[&str] = &[
    "bash", "c", "cc", "cpp", "cs", "css", "go", "h", "hpp", "java", "js", "jsx", "kt", "lua",
    "php", "pl", "ps1", "py", "rb", "rs", "scala", "sh", "snap", "sql", "swift", "ts", "tsx",
];

/// All pieces of a text whose first line has the number `first_line`.
pub(super) fn split(text: &str, first_line: usize, form: Form) -> Vec<Sentence> {
    let mut splitter = Splitter {
        form,
        fenced: first_line > 1 && begins_in_code(text),
        ..Splitter::default()
    };
    for (at, line) in text.lines().enumerate() {
        splitter.line(line, first_line + at);
    }
    splitter.end_paragraph();
    splitter.end_command();
    splitter.found
}

/// Whether a part of a text begins within a fence: its fences do not pair up, and the first one
/// names no language, as closing ones do.
fn begins_in_code(text: &str) -> bool {
    let fences: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("```"))
        .collect();
    fences.len() % 2 == 1 && fences[0] == "```"
}

/// What a piece is that comes without its surroundings.
pub(super) fn kind_of(text: &str) -> Kind {
    match is_code_like(text) {
        true => Kind::Code,
        false => Kind::Prose,
    }
}

#[derive(Default)]
struct Splitter {
    form: Form,
    found: Vec<Sentence>,
    headings: Vec<(usize, String)>,
    paragraph: Vec<(usize, String)>,
    /// The beginning of a command that goes on in the next line.
    command: Option<(usize, String)>,
    /// The cells of the table's first row, once a rule has shown that they are its head.
    head: Vec<String>,
    /// The cells of the last line, where it was a row.
    row: Vec<String>,
    lead: String,
    block: usize,
    fenced: bool,
    in_list: bool,
}

impl Splitter {
    fn line(&mut self, line: &str, number: usize) {
        let trimmed = line.trim();
        let in_table = trimmed.starts_with('|') && !self.fenced;
        if !in_table {
            self.row.clear();
            self.head.clear();
        }
        let written = match self.form {
            Form::Program => uncommented(trimmed).map_or("", str::trim),
            Form::Document => trimmed,
        };
        if written.starts_with("```") || written.starts_with("~~~") {
            self.end_paragraph();
            self.end_command();
            self.fenced = !self.fenced;
        } else if self.fenced {
            self.code(written, number);
        } else if self.form == Form::Program {
            self.program(trimmed, number);
        } else if let Some((level, title)) = heading(trimmed) {
            self.end_paragraph();
            self.lead.clear();
            self.in_list = false;
            self.headings.retain(|(above, _)| *above < level);
            self.headings.push((level, title.to_owned()));
            self.push(title, number, Kind::Heading);
        } else if in_table {
            self.end_paragraph();
            self.table(trimmed, number);
        } else if trimmed.is_empty() || is_rule(trimmed) || is_apparatus(trimmed) {
            self.end_paragraph();
        } else if self.paragraph.is_empty() && !self.in_list && is_indented(line) {
            self.code(trimmed, number);
        } else {
            self.prose(line, trimmed, number);
        }
    }

    fn prose(&mut self, line: &str, trimmed: &str, number: usize) {
        let item = without_mark(trimmed);
        let is_item = item.len() < trimmed.len();
        if is_item || is_code_like(trimmed) {
            self.end_paragraph();
        }
        if !is_item && !line.starts_with(' ') && self.paragraph.is_empty() {
            self.in_list = false;
            self.lead.clear();
        }
        self.in_list |= is_item;
        if is_code_like(trimmed) {
            self.push(trimmed, number, Kind::Code);
        } else {
            self.paragraph.push((number, item.to_owned()));
        }
    }

    /// Comments are prose, everything else is code.
    fn program(&mut self, trimmed: &str, number: usize) {
        match uncommented(trimmed) {
            Some(comment) if !comment.trim().is_empty() => {
                self.paragraph
                    .push((number, without_mark(comment.trim()).to_owned()));
            }
            Some(_) => self.end_paragraph(),
            None => {
                self.end_paragraph();
                self.push(trimmed, number, Kind::Code);
            }
        }
    }

    /// A line of code; a command that is cut by `\` is one piece.
    fn code(&mut self, line: &str, number: usize) {
        let (start, mut text) = self.command.take().unwrap_or((number, String::new()));
        let goes_on = line.strip_suffix('\\');
        text.push_str(goes_on.unwrap_or(line));
        if goes_on.is_some() {
            self.command = Some((start, text));
        } else {
            self.push(&text, start, Kind::Code);
        }
    }

    fn end_command(&mut self) {
        if let Some((start, text)) = self.command.take() {
            self.push(&text, start, Kind::Code);
        }
    }

    fn table(&mut self, line: &str, number: usize) {
        if is_rule(line) {
            // The row above was the head: it names the cells and is no answer.
            if !self.row.is_empty() {
                self.found.pop();
            }
            self.head = std::mem::take(&mut self.row);
            return;
        }
        self.row = cells(line);
        let text = row(&self.row, &self.head);
        self.push(&text, number, Kind::Row);
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
        let sentences = cut(&text);
        for (at, sentence) in &sentences {
            self.push(sentence, line_at(*at), Kind::Prose);
        }
        if let Some((_, last)) = sentences.last()
            && !self.in_list
        {
            self.lead = match last.ends_with(':') {
                true => plain(last, Kind::Prose),
                false => String::new(),
            };
        }
        self.block += 1;
    }

    fn push(&mut self, text: &str, line: usize, kind: Kind) {
        let text = plain(text, kind);
        if !text.chars().any(char::is_alphanumeric) {
            return;
        }
        let headings = self.headings.iter().map(|(_, title)| title.as_str());
        let head = self.head.iter().map(String::as_str);
        let announced = kind == Kind::Code || self.in_list && text != self.lead;
        let named = headings.chain(head.filter(|cell| !cell.is_empty()));
        self.found.push(Sentence {
            text,
            line,
            heading: named.collect::<Vec<_>>().join(" > "),
            lead: match announced {
                true => self.lead.clone(),
                false => String::new(),
            },
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

/// The cells of a table's row; `\|` is no border.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim_start_matches('|').replace("\\|", "\u{0}");
    let line = line.strip_suffix('|').unwrap_or(&line);
    let cells = line
        .split('|')
        .map(|cell| cell.trim().replace('\u{0}', "|"));
    cells.collect()
}

/// A row as a sentence: `first — second`, and where there are more cells, `first — head: second;
/// head: third`.
fn row(cells: &[String], head: &[String]) -> String {
    let is_wide = cells.iter().filter(|cell| !cell.is_empty()).count() > 2;
    let told = cells
        .iter()
        .enumerate()
        .filter(|(_, cell)| !cell.is_empty());
    let mut told = told.map(|(at, cell)| match head.get(at) {
        Some(name) if is_wide && at > 0 && !name.is_empty() => format!("{name}: {cell}"),
        _ => cell.clone(),
    });
    let first = told.next().unwrap_or_default();
    let others: Vec<_> = told.collect();
    match others.is_empty() {
        true => first,
        false => format!("{first} — {}", others.join("; ")),
    }
}

fn is_indented(line: &str) -> bool {
    line.starts_with("    ") || line.starts_with('\t')
}

/// What a comment says.
fn uncommented(line: &str) -> Option<&str> {
    let marks = ["//!", "///", "//", "# ", "-- ", "* "];
    marks.iter().find_map(|mark| line.strip_prefix(mark))
}

/// A line without its list mark, quote mark, or comment mark.
fn without_mark(line: &str) -> &str {
    let line = line.trim_start_matches("> ");
    for mark in ["- [ ] ", "- [x] ", "- ", "* ", "+ ", "• "] {
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
    let is_setting = line.split_once(" = ").is_some_and(|(key, _)| {
        !key.contains(' ') && key.starts_with(|c: char| c.is_ascii_lowercase() || c == '"')
    });
    is_setting
        || ends.iter().any(|end| line.ends_with(end)) && !line.ends_with("etc.;")
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
        split(text, 1, Form::Document)
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
        assert_eq!(split(text, 10, Form::Document)[1].heading, "Store");
        assert_eq!(split(text, 10, Form::Document)[1].line, 12);
    }

    #[test]
    fn lists_tables_and_code_are_pieces_of_their_own() {
        let text = "- one\n- two\n  goes on\n1. three\n\n| a | b |\n|---|---|\n| c | d |\n```\nlet x = 1;\n```\n";
        let expected = [
            (1, "one"),
            (2, "two goes on"),
            (4, "three"),
            (8, "c — d"),
            (10, "let x = 1;"),
        ];
        assert_eq!(
            texts(text),
            expected.map(|(line, text)| (line, text.to_owned()))
        );
    }

    #[test]
    fn rows_read_as_sentences() {
        let head = "| class | after a crash |\n|---|---|\n";
        let wide = "| class | example | rule |\n|---|---|---|\n";
        let table = [
            (
                head,
                "| Once | a person is asked |",
                "Once — a person is asked",
            ),
            (head, "| a | `x\\|y` |", "a — `x|y`"),
            (head, "| alone | |", "alone"),
            (
                wide,
                "| Once | mail | ask |",
                "Once — example: mail; rule: ask",
            ),
            ("", "| x | y | z |", "x — y; z"),
        ];
        for (head, row, expected) in table {
            let found = split(&format!("{head}{row}\n"), 1, Form::Document);
            let rows: Vec<_> = found.iter().map(|s| s.text.as_str()).collect();
            assert_eq!(rows, [expected], "{row}");
        }
    }

    #[test]
    fn code_is_told_from_prose() {
        let table = [
            (
                Form::Document,
                "Run:\n\n    a b \\\n      c\n",
                vec![("Run:", Kind::Prose), ("a b c", Kind::Code)],
            ),
            (
                Form::Document,
                "- item\n\n    goes on\n",
                vec![("item", Kind::Prose), ("goes on", Kind::Prose)],
            ),
            (
                Form::Document,
                "name = \"x\"\nIt writes.\n",
                vec![("name = \"x\"", Kind::Code), ("It writes.", Kind::Prose)],
            ),
            (
                Form::Program,
                "/// It reads\n/// all. Then ends.\nlet text = \"It lies.\"\n",
                vec![
                    ("It reads all.", Kind::Prose),
                    ("Then ends.", Kind::Prose),
                    ("let text = \"It lies.\"", Kind::Code),
                ],
            ),
        ];
        for (form, text, expected) in table {
            let found = split(text, 1, form);
            let found: Vec<_> = found.iter().map(|s| (s.text.as_str(), s.kind)).collect();
            assert_eq!(found, expected, "{text}");
        }
        assert_eq!(Form::of("src/a.rs"), Form::Program);
        assert_eq!(Form::of("a.md"), Form::Document);
        assert_eq!(Form::of("https://e.com/a.rs"), Form::Document);
    }

    #[test]
    fn a_part_may_begin_within_code() {
        let kinds = |text, line| {
            let found = split(text, line, Form::Document).into_iter();
            found.map(|s| s.kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds("a b\n```\nIt is so.\n", 7), [Kind::Code, Kind::Prose]);
        assert_eq!(
            kinds("It is so.\n```\na b\n```\n", 7),
            [Kind::Prose, Kind::Code]
        );
        assert_eq!(
            kinds("It is so.\n```sh\na b\n", 7),
            [Kind::Prose, Kind::Code]
        );
    }

    #[test]
    fn what_announces_a_piece_is_kept_with_it() {
        let text = "Rand is not:\n\n- small\n- simple\n\nIt is fast.\n";
        let found = split(text, 1, Form::Document);
        let leads: Vec<_> = found.iter().map(|s| s.lead.as_str()).collect();
        assert_eq!(leads, ["", "Rand is not:", "Rand is not:", ""]);
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
        let found = split("# A\n## B\ntext here\n## C\nmore here\n", 1, Form::Document);
        let headings: Vec<_> = found
            .iter()
            .filter(|s| s.kind == Kind::Prose)
            .map(|s| s.heading.as_str())
            .collect();
        assert_eq!(headings, ["A > B", "A > C"]);
    }
}
