//! A PDF as text, page by page. The parser panics on some pages where it could fail: that costs the
//! page alone. Runs in a child process, whose limits take care of loops, memory and stack.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pdf_extract::{Document, Error, PlainTextOutput, output_doc_page};

use super::pages::Pages;
use super::{Kind, Limits, Refused, Text};

/// Stands for a page that has none.
const NO_TEXT: &str = "(no text on this page)";
/// Stands for a page on which the parser failed.
const UNREAD: &str = "(this page could not be read)";

/// The text of a PDF. One that opens with an empty password is read, as every viewer does.
pub fn read(bytes: &[u8], limits: Limits) -> Result<Text, Refused> {
    let document = open(bytes)?;
    let numbers: Vec<u32> = document.get_pages().into_keys().collect();
    let all = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
    let mut pages = Pages::new(limits.characters);
    let mut seen = Seen::default();
    for number in numbers.into_iter().take(limits.pages as usize) {
        let page = page(&document, number);
        pages.push(seen.shown(page.as_deref()));
        if pages.is_full() {
            break;
        }
    }
    seen.judge(all)?;
    Ok(pages.finish(Kind::Pdf, all))
}

/// What became of the pages so far.
#[derive(Default)]
struct Seen {
    with_text: u32,
    unread: u32,
}

impl Seen {
    fn shown<'a>(&mut self, page: Option<&'a str>) -> &'a str {
        match page {
            None => {
                self.unread += 1;
                UNREAD
            }
            Some(text) if text.trim().is_empty() => NO_TEXT,
            Some(text) => {
                self.with_text += 1;
                text
            }
        }
    }

    fn judge(&self, pages: u32) -> Result<(), Refused> {
        match (self.with_text, self.unread) {
            (0, _) if pages == 0 => Err(Refused::Damaged("it has no pages".into())),
            (0, 0) => Err(Refused::NoText),
            (0, _) => Err(Refused::Damaged("none of its pages can be read".into())),
            _ => Ok(()),
        }
    }
}

fn open(bytes: &[u8]) -> Result<Document, Refused> {
    let opened = catch_unwind(|| {
        let mut document = Document::load_mem(bytes)?;
        if document.is_encrypted() {
            document.decrypt("")?;
        }
        Ok(document)
    });
    match opened {
        Ok(Ok(document)) => Ok(document),
        Ok(Err(error)) => Err(refusal(&error)),
        Err(_) => Err(Refused::Damaged("its structure is broken".into())),
    }
}

fn refusal(error: &Error) -> Refused {
    match error {
        Error::Decryption(_) | Error::InvalidPassword => Refused::Password,
        // Not the parser's own words: they quote the document.
        Error::Xref(_) | Error::Parse(_) => {
            Refused::Damaged("its table of contents is broken".into())
        }
        _ => Refused::Damaged("its structure is broken".into()),
    }
}

/// The text of a page, or nothing where the parser fails on it. What it had read until then is not
/// shown: it may break off in the middle of a number.
fn page(document: &Document, number: u32) -> Option<String> {
    let read = catch_unwind(AssertUnwindSafe(|| {
        let mut text = String::new();
        let mut output = PlainTextOutput::new(&mut text);
        output_doc_page(document, &mut output, number).map(|()| unindented(&text))
    }));
    read.ok()?.ok()
}

/// The parser puts a blank before words that begin a line after a jump on the page; true indents it
/// does not tell.
fn unindented(text: &str) -> String {
    text.replace("\n ", "\n")
}
