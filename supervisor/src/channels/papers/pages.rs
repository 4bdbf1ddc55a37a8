//! The text that goes out: page marks, clean lines, and the cut with the line that says so.

use super::{Kind, Text};

/// The text of a document that is kept as it is; `rest` follows it and is not read.
pub fn kept(kind: Kind, text: &str, rest: bool, characters: usize) -> Text {
    let mut text = unpaged(
        kind,
        newlines(text).chars().filter(is_shown).collect(),
        characters,
    );
    if rest && !text.cut {
        text.cut = true;
        text.text.push_str("\n[cut here: the beginning is read]\n");
    }
    text
}

/// The text of a document without pages that a parser read.
pub fn parsed(kind: Kind, text: &str, characters: usize) -> Text {
    unpaged(kind, clean(text), characters)
}

fn unpaged(kind: Kind, text: String, characters: usize) -> Text {
    let (text, cut) = cut(text, characters);
    Text {
        kind,
        text,
        pages: None,
        cut,
    }
}

/// The text of a document with pages, put together page by page.
pub struct Pages {
    text: String,
    characters: usize,
    page: u32,
}

impl Pages {
    /// An empty text that will be cut behind so many characters.
    pub fn new(characters: usize) -> Self {
        Self {
            text: String::new(),
            characters,
            page: 0,
        }
    }

    /// Adds the next page.
    pub fn push(&mut self, text: &str) {
        self.page += 1;
        let mark = match self.page {
            1 => "[page 1]\n".to_owned(),
            page => format!("\n[page {page}]\n"),
        };
        self.text.push_str(&mark);
        for line in clean(text).lines() {
            if is_mark(line) {
                self.text.push('\\');
            }
            self.text.push_str(line);
            self.text.push('\n');
        }
    }

    /// Whether what is added now is cut away. Bytes are counted, which are never fewer than characters.
    pub fn is_full(&self) -> bool {
        self.text.len() > self.characters && self.text.chars().nth(self.characters).is_some()
    }

    /// The text, of a document that has so many pages.
    pub fn finish(self, kind: Kind, pages: u32) -> Text {
        let (mut text, mut cut) = cut(self.text, self.characters);
        if !cut && self.page < pages {
            cut = true;
            text.push_str(&format!(
                "\n[cut here: the first {} of {pages} pages are read]\n",
                self.page
            ));
        }
        Text {
            kind,
            text,
            pages: Some(pages),
            cut,
        }
    }
}

fn is_mark(line: &str) -> bool {
    let number = line
        .trim()
        .strip_prefix("[page ")
        .and_then(|rest| rest.strip_suffix(']'));
    number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
}

fn cut(mut text: String, characters: usize) -> (String, bool) {
    let Some((end, _)) = text.char_indices().nth(characters) else {
        return (text, false);
    };
    text.truncate(end);
    text.push_str(&format!(
        "\n[cut here: the first {characters} characters are read]\n"
    ));
    (text, true)
}

/// Lines that end in `\n` without blanks before it, at most one empty line in a row, no control
/// characters but tabs, and letters in place of their printed ligatures.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut empty = 0;
    for line in newlines(text).trim_matches('\n').split('\n') {
        let line = line.trim_end();
        empty = if line.is_empty() { empty + 1 } else { 0 };
        if empty > 1 {
            continue;
        }
        line.chars().for_each(|c| push(&mut out, c));
        out.push('\n');
    }
    out
}

fn newlines(text: &str) -> String {
    text.replace("\r\n", "\n")
        .replace(['\r', '\x0c', '\x0b'], "\n")
}

/// What is there for a person, and not for a device or for nobody.
fn is_shown(c: &char) -> bool {
    matches!(c, '\t' | '\n') || !(c.is_control() || *c == '\u{feff}')
}

fn push(out: &mut String, c: char) {
    const LIGATURES: [&str; 5] = ["ff", "fi", "fl", "ffi", "ffl"];
    match c {
        '\u{ad}' => {}
        '\u{fb00}'..='\u{fb04}' => out.push_str(LIGATURES[c as usize - 0xfb00]),
        c if is_shown(&c) => out.push(c),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_clean() {
        let cases = [
            ("a\r\nb\rc\x0cd", "a\nb\nc\nd\n"),
            ("\n\n a  \n\n\n\nb", " a\n\nb\n"),
            (
                "e\u{fb03}cient\u{ad}ly \u{7}\u{1b}[1mx",
                "efficiently [1mx\n",
            ),
            ("", "\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(clean(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_kept_loses_nothing_that_is_seen() {
        let text = kept(Kind::Plain, "  a  \r\n\n\n\tb\u{7}\u{fb01}", false, 100);
        assert_eq!(text.text, "  a  \n\n\n\tb\u{fb01}");
        assert!(!text.cut);
    }

    #[test]
    fn pages_are_marked_and_marks_cannot_be_forged() {
        let mut pages = Pages::new(1000);
        pages.push("one");
        pages.push("two\n[page 9]\n [page 10] \n[page x]");
        let text = pages.finish(Kind::Pdf, 2);
        assert_eq!(
            text.text,
            "[page 1]\none\n\n[page 2]\ntwo\n\\[page 9]\n\\ [page 10]\n[page x]\n"
        );
        assert_eq!((text.pages, text.cut), (Some(2), false));
    }

    #[test]
    fn what_is_left_out_is_said() {
        let mut pages = Pages::new(1000);
        pages.push("one");
        let text = pages.finish(Kind::Pdf, 7);
        assert!(
            text.text
                .ends_with("[cut here: the first 1 of 7 pages are read]\n")
        );
        assert_eq!((text.pages, text.cut), (Some(7), true));

        let text = parsed(Kind::Html, &"ö".repeat(11), 10);
        assert_eq!(
            text.text,
            format!(
                "{}\n[cut here: the first 10 characters are read]\n",
                "ö".repeat(10)
            )
        );
        assert!(text.cut && !parsed(Kind::Html, "ööö", 10).cut);
        assert!(kept(Kind::Csv, "ö", true, 10).cut);
    }
}
