//! What a chat shows of a model's answer: Markdown comes in, text of the messenger's own kind goes
//! out. Pure, and linear in the length of the answer; called between the outbox and a channel, which
//! sends what comes out and decides about retries and previews.
//!
//! ```text
//!  Markdown ─► read ─► Document ─► cut ─► Documents that fit ─┬─► telegram: text and entities
//!                        ▲                                    └─► slack: mrkdwn and blocks
//!             text + spans, properly nested
//! ```
//!
//! **No character is lost**: what the pieces show, one after the other and without what
//! [`is_blank`] calls blank, is what the whole [`Document`] shows without it. The document in turn
//! shows all words of the Markdown but these: addresses of links that can be followed, titles of
//! links, definitions of references, what follows the name of a fence's language, and the HTML
//! tags that chats have no use for.

use std::ops::Range;

use shared::disguise;

mod cut;
mod glyph;
mod html;
mod link;
mod read;
pub mod slack;
mod table;
pub mod telegram;
#[cfg(test)]
mod tests;

pub use glyph::is_blank;

/// What somebody wrote, as a line within Markdown: nothing of it is a style, a link, a new line, or
/// disguises what stands beside it.
pub fn in_one_line(said: &str) -> String {
    let mut line = String::with_capacity(said.len());
    for c in said.chars() {
        match c {
            c if c.is_whitespace() || c.is_control() => line.push(' '),
            c if disguise::in_text(c) => {}
            c if c.is_ascii_punctuation() => line.extend(['\\', c]),
            c => line.push(c),
        }
    }
    line
}

/// Text with its styles. The spans are sorted by where they start, outer ones first, and lie within
/// each other or apart, never across. None is empty, none begins or ends with white space (a
/// [`Kind::Pre`] may begin with the indentation of its first line). [`Kind::Code`] and [`Kind::Pre`]
/// have nothing in them; code lies at most within a quote, a block of code within nothing. Only
/// quotes and blocks of code go over more than one line, and no kind lies within itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// All that is shown.
    pub text: String,
    /// How parts of it are shown.
    pub spans: Vec<Span>,
}

/// A styled part of a [`Document`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it lies, in bytes of the document's text.
    pub range: Range<usize>,
    /// How it is shown.
    pub kind: Kind,
}

/// A style.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bold; headings too.
    Bold,
    /// Italic.
    Italic,
    /// Struck through.
    Strike,
    /// Code within a line.
    Code,
    /// A block of code or a table, with the language if one was told.
    Pre(Option<String>),
    /// A link to this address. Its text may be the address itself.
    Link(String),
    /// A quotation.
    Quote,
}

/// What differs between messengers when an answer is read.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Whether an address can be linked. Those that cannot are shown after their text.
    pub links: fn(&str) -> bool,
    /// What stands for a tab in a block of code.
    pub tab: &'static str,
    /// Characters that the messenger would strip; they are left out, so that offsets stay right.
    pub stripped: &'static [char],
}

/// What a piece of a document may measure at most.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The sum over all characters and spans.
    pub size: usize,
    /// How many spans there may be.
    pub spans: usize,
    /// The most that a character can take, wherever it stands.
    pub of_char: fn(char) -> usize,
    /// What a span adds to the text within it. Always far less than `size`.
    pub of_span: fn(&Kind) -> usize,
}

impl Document {
    /// Reads Markdown as models write it: CommonMark with tables, task lists, footnotes and struck
    /// text. Every text is Markdown, so this cannot fail.
    pub fn read(markdown: &str, rules: &Rules) -> Self {
        read::read(markdown, rules)
    }

    /// Text as it is, without any style. Control characters become spaces.
    pub fn plain(text: &str) -> Self {
        let visible = |c: char| match c {
            '\n' => '\n',
            c if c.is_control() => ' ',
            c => c,
        };
        Self {
            text: text.chars().map(visible).collect(),
            spans: Vec::new(),
        }
    }

    /// Pieces within the limit, in order, none of them blank: cut between paragraphs where one ends
    /// in the last three quarters of what fits, otherwise between lines, words, what is seen as one
    /// character, or characters. Spans that are cut go on in the next piece.
    pub fn pieces(&self, limit: &Limit) -> Vec<Document> {
        cut::pieces(self, limit)
    }
}
