//! Markdown to a document: follows the parser's events and writes text, opening and closing spans as
//! it goes. It sees to the rules of [`Document`]: styles step aside for code and at the end of each
//! line, quotes step aside for blocks of code.

use std::mem;

use pulldown_cmark::{
    BlockQuoteKind, CodeBlockKind, Event, LinkType, Options, Parser, Tag, TagEnd, TextMergeStream,
};

use super::table::Table;
use super::{Document, Kind, Rules, Span, cut, html, link};

/// Lists are indented up to this depth: deeper ones would be unreadable, and text grow with depth.
const DEEPEST: usize = 8;
/// Names of languages are no longer.
const LANGUAGE: usize = 32;
const BULLET: &str = "• ";
const RULE: &str = "————————";

/// See [`Document::read`].
pub(super) fn read(markdown: &str, rules: &Rules) -> Document {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_GFM;
    let mut reader = Reader::new(rules);
    for event in TextMergeStream::new(Parser::new_ext(markdown, options)) {
        reader.take(event);
    }
    reader.finish()
}

/// A link or an image that is being read.
struct Reference {
    url: String,
    /// Where its text begins.
    start: usize,
    linked: bool,
    image: bool,
}

struct Reader<'a> {
    rules: &'a Rules,
    text: String,
    spans: Vec<Span>,
    /// The spans that are open, outermost first.
    open: Vec<usize>,
    /// Line breaks that are due before the next text.
    due: usize,
    /// Whether the line holds the mark of a list item only, so that a block may go on behind it.
    marked: bool,
    bold: usize,
    italic: usize,
    strike: usize,
    quotes: usize,
    headings: usize,
    /// The numbers of the next items.
    lists: Vec<Option<u64>>,
    /// An image may stand in a link.
    references: Vec<Reference>,
    fence: Option<(Option<String>, String)>,
    table: Option<Table>,
    /// The text of the table's cell that is being read.
    cell: String,
}

impl<'a> Reader<'a> {
    fn new(rules: &'a Rules) -> Self {
        Self {
            rules,
            text: String::new(),
            spans: Vec::new(),
            open: Vec::new(),
            due: 0,
            marked: false,
            bold: 0,
            italic: 0,
            strike: 0,
            quotes: 0,
            headings: 0,
            lists: Vec::new(),
            references: Vec::new(),
            fence: None,
            table: None,
            cell: String::new(),
        }
    }

    fn finish(self) -> Document {
        let all: Vec<usize> = (0..self.spans.len()).collect();
        let document = Document {
            text: self.text,
            spans: self.spans,
        };
        cut::clip(&document, 0..document.text.len(), &all)
    }

    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) | Event::InlineMath(text) | Event::DisplayMath(text) => {
                self.words(&text);
            }
            Event::Code(code) => self.code(&code),
            Event::Html(html) => {
                self.html(html.trim_end_matches('\n'));
                self.due = self.due.max(1);
            }
            Event::InlineHtml(html) => self.html(&html),
            Event::FootnoteReference(label) => self.write(&format!("[{label}]")),
            Event::SoftBreak | Event::HardBreak => self.line(),
            Event::Rule => {
                self.part(2);
                self.write(RULE);
                self.part(2);
            }
            Event::TaskListMarker(done) => self.task(done),
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { .. } => {
                self.part(2);
                self.headings += 1;
                self.style(Kind::Bold, true);
            }
            Tag::BlockQuote(kind) => self.quote(kind),
            Tag::CodeBlock(kind) => self.fence = Some(fence(&kind)),
            Tag::List(first) => {
                if !self.marked {
                    self.part(if self.lists.is_empty() { 2 } else { 1 });
                }
                self.lists.push(first);
            }
            Tag::Item => self.item(),
            Tag::FootnoteDefinition(label) => {
                self.part(2);
                self.write(&format!("[{label}] "));
                self.marked = true;
            }
            Tag::Table(alignments) => {
                let rows = Vec::new();
                self.table = Some(Table { rows, alignments });
            }
            Tag::TableHead | Tag::TableRow => {
                if let Some(table) = &mut self.table {
                    table.rows.push(Vec::new());
                }
            }
            Tag::TableCell => {}
            Tag::Emphasis => self.style(Kind::Italic, true),
            Tag::Strong => self.style(Kind::Bold, true),
            Tag::Strikethrough => self.style(Kind::Strike, true),
            Tag::Link {
                link_type,
                dest_url,
                ..
            } => {
                let scheme = match link_type {
                    LinkType::Email => "mailto:",
                    _ => "",
                };
                self.refer(format!("{scheme}{dest_url}"), false);
            }
            Tag::Image { dest_url, .. } => self.refer(dest_url.into_string(), true),
            _ => self.part(2),
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) => {
                self.style(Kind::Bold, false);
                self.headings = self.headings.saturating_sub(1);
                self.part(2);
            }
            TagEnd::BlockQuote(_) => {
                self.quotes = self.quotes.saturating_sub(1);
                if self.quotes == 0 {
                    self.close();
                }
                self.part(2);
            }
            TagEnd::CodeBlock => {
                if let Some((language, body)) = self.fence.take() {
                    self.block(language, &body);
                }
            }
            TagEnd::List(_) => {
                self.lists.pop();
                self.part(if self.lists.is_empty() { 2 } else { 1 });
            }
            TagEnd::Item => {
                self.marked = false;
                self.part(1);
            }
            TagEnd::Table => {
                if let Some(table) = self.table.take() {
                    self.block(None, &table.lines());
                }
            }
            TagEnd::TableHead | TagEnd::TableRow => {}
            TagEnd::TableCell => {
                let cell = mem::take(&mut self.cell);
                if let Some(table) = &mut self.table {
                    table.add(&cell);
                }
            }
            TagEnd::Emphasis => self.style(Kind::Italic, false),
            TagEnd::Strong => self.style(Kind::Bold, false),
            TagEnd::Strikethrough => self.style(Kind::Strike, false),
            TagEnd::Link | TagEnd::Image => self.referred(),
            _ => self.part(2),
        }
    }

    /// A part of the document begins or ends: so many line breaks are due before the next text.
    fn part(&mut self, breaks: usize) {
        if !mem::take(&mut self.marked) {
            self.due = self.due.max(breaks);
        }
    }

    /// A part begins that needs a line of its own, even behind the mark of an item.
    fn own_line(&mut self) {
        let behind_mark = self.marked;
        self.part(2);
        self.due = self.due.max(usize::from(behind_mark));
    }

    /// A line ends within a paragraph.
    fn line(&mut self) {
        if self.table.is_some() || self.headings > 0 || self.in_link() {
            return self.write(" ");
        }
        let styles = self.suspend(self.first_style());
        self.due = (self.due + 1).min(2);
        self.resume(styles);
    }

    fn item(&mut self) {
        let mark = match self.lists.last_mut() {
            Some(Some(number)) => {
                let mark = format!("{number}. ");
                *number = number.saturating_add(1);
                mark
            }
            _ => BULLET.to_owned(),
        };
        self.part(1);
        self.begin(self.lists.len().saturating_sub(1));
        self.text.push_str(&mark);
        self.marked = true;
    }

    fn task(&mut self, done: bool) {
        if let Some(before) = self.text.strip_suffix(BULLET) {
            self.text.truncate(before.len());
        }
        self.text.push_str(if done { "☑ " } else { "☐ " });
    }

    fn quote(&mut self, kind: Option<BlockQuoteKind>) {
        self.own_line();
        self.quotes += 1;
        if self.quotes == 1 {
            self.open(Kind::Quote);
        }
        let name = match kind {
            None => return,
            Some(BlockQuoteKind::Note) => "Note",
            Some(BlockQuoteKind::Tip) => "Tip",
            Some(BlockQuoteKind::Important) => "Important",
            Some(BlockQuoteKind::Warning) => "Warning",
            Some(BlockQuoteKind::Caution) => "Caution",
        };
        self.style(Kind::Bold, true);
        self.write(name);
        self.style(Kind::Bold, false);
        self.part(1);
    }

    /// A block of code, or what is shown as one.
    fn block(&mut self, language: Option<String>, body: &str) {
        let mut shown = String::with_capacity(body.len());
        for c in body.chars() {
            match c {
                '\n' => shown.push(c),
                '\t' => shown.push_str(self.rules.tab),
                c => shown.extend(self.shown(c)),
            }
        }
        let part = cut::trimmed(&shown, 0..shown.len(), true);
        if part.is_empty() {
            return;
        }
        self.own_line();
        let around = self.suspend(0);
        self.begin(0);
        self.open(Kind::Pre(language));
        self.text.push_str(&shown[part]);
        self.close();
        self.resume(around);
        self.part(2);
    }

    /// Code within a line. In a link it is text of the link: one of both can be shown.
    fn code(&mut self, code: &str) {
        if self.table.is_some() || self.in_link() {
            return self.write(code);
        }
        let styles = self.suspend(self.first_style());
        self.open(Kind::Code);
        self.write(code);
        self.close();
        self.resume(styles);
    }

    fn html(&mut self, html: &str) {
        for part in html::parts(html) {
            match part {
                html::Part::Text(text) => self.write(text),
                html::Part::Line => self.line(),
            }
        }
    }

    /// Text of a paragraph, in which bare addresses become links; or of a block of code.
    fn words(&mut self, text: &str) {
        if let Some((_, body)) = &mut self.fence {
            return body.push_str(text);
        }
        let mut rest = text;
        if self.table.is_none() && self.references.is_empty() {
            while let Some(found) = link::bare(rest) {
                let url = &rest[found.clone()];
                self.write(&rest[..found.start]);
                if (self.rules.links)(url) {
                    self.open(Kind::Link(url.to_owned()));
                    self.write(url);
                    self.close();
                } else {
                    self.write(url);
                }
                rest = &rest[found.end..];
            }
        }
        self.write(rest);
    }

    /// A link or an image begins. Within another one it shows its text alone.
    fn refer(&mut self, url: String, image: bool) {
        let outer = self.table.is_none() && self.references.is_empty();
        let linked = outer && (self.rules.links)(&url);
        if linked {
            self.open(Kind::Link(url.clone()));
        }
        let start = self.out().len();
        self.references.push(Reference {
            url,
            start,
            linked,
            image,
        });
    }

    fn referred(&mut self) {
        let Some(Reference {
            url,
            start,
            linked,
            image,
        }) = self.references.pop()
        else {
            return;
        };
        if image && self.out().len() == start {
            self.write("image");
        }
        if !self.references.is_empty() {
            return;
        }
        let mut shown = self.out()[start..].trim().to_owned();
        if shown.is_empty() {
            self.write(&url);
            shown.clone_from(&url);
        }
        if linked {
            self.close();
        }
        let says_nothing = url.is_empty() || url.starts_with('#') || url.starts_with("data:");
        let told = match linked {
            true => link::misleads(&shown, &url),
            false => !says_nothing && !link::same(&shown, &url),
        };
        if told {
            let address = url.strip_prefix("mailto:").unwrap_or(&url);
            self.write(&format!(" ({address})"));
        }
    }

    fn in_link(&self) -> bool {
        self.references.iter().any(|reference| reference.linked)
    }

    fn style(&mut self, kind: Kind, on: bool) {
        if self.table.is_some() {
            return;
        }
        let depth = match kind {
            Kind::Bold => &mut self.bold,
            Kind::Italic => &mut self.italic,
            _ => &mut self.strike,
        };
        if on {
            *depth += 1;
            if *depth == 1 {
                self.open(kind);
            }
        } else {
            *depth = depth.saturating_sub(1);
            if *depth == 0 {
                self.close();
            }
        }
    }

    fn open(&mut self, kind: Kind) {
        self.open.push(self.spans.len());
        let range = self.text.len()..self.text.len();
        self.spans.push(Span { range, kind });
    }

    /// Closes the innermost span.
    fn close(&mut self) {
        let span = self.open.pop().and_then(|index| self.spans.get_mut(index));
        if let Some(span) = span {
            span.range.end = self.text.len();
        }
    }

    /// Which of the open spans is the first that is not a quote.
    fn first_style(&self) -> usize {
        usize::from(self.quotes > 0)
    }

    fn suspend(&mut self, from: usize) -> Vec<Kind> {
        let kinds = self.open[from..]
            .iter()
            .map(|index| &self.spans[*index].kind);
        let kinds = kinds.cloned().collect();
        while self.open.len() > from {
            self.close();
        }
        kinds
    }

    fn resume(&mut self, kinds: Vec<Kind>) {
        for kind in kinds {
            self.open(kind);
        }
    }

    /// What is being written: a cell of a table, or the document.
    fn out(&mut self) -> &mut String {
        match self.table {
            Some(_) => &mut self.cell,
            None => &mut self.text,
        }
    }

    /// Writes the line breaks that are due, and indents the new line.
    fn begin(&mut self, depth: usize) {
        let due = mem::take(&mut self.due);
        if due > 0 && !self.text.is_empty() {
            self.text.extend(std::iter::repeat_n('\n', due));
            let depth = depth.min(DEEPEST);
            self.text.extend(std::iter::repeat_n("  ", depth));
        }
    }

    /// Writes within a line.
    fn write(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.table.is_none() {
            self.begin(self.lists.len());
            self.marked = false;
        }
        for c in text.chars() {
            let shown = self.shown(c);
            self.out().extend(shown);
        }
    }

    /// How a character is shown within a line.
    fn shown(&self, c: char) -> Option<char> {
        match c {
            '\r' | '\u{202a}'..='\u{202e}' => None,
            '\u{2028}' | '\u{2029}' => Some(' '),
            c if c.is_control() => Some(' '),
            c => (!self.rules.stripped.contains(&c)).then_some(c),
        }
    }
}

/// The language that is told behind a fence, and the code as far as it is known: what stands there
/// without being the name of a language belongs to the code.
fn fence(kind: &CodeBlockKind<'_>) -> (Option<String>, String) {
    let CodeBlockKind::Fenced(info) = kind else {
        return (None, String::new());
    };
    let name = info
        .split([' ', '\t', ',', '{', ':'])
        .next()
        .unwrap_or_default();
    let part = |c: char| c.is_ascii_alphanumeric() || "+#-_.".contains(c);
    if !name.is_empty() && name.len() <= LANGUAGE && name.chars().all(part) {
        (Some(name.to_owned()), String::new())
    } else {
        (None, format!("{info}\n"))
    }
}
