//! A page as Markdown, by the same rules by which agents read the web.

use encoding_rs::{Encoding, WINDOWS_1252};

use super::{Kind, Limits, Text, charset, pages};
use agents::tools::html;

/// How far from its beginning a page may say its encoding, by the HTML standard.
const DECLARED_WITHIN: usize = 1024;

/// The text of a page, below its title.
pub fn read(bytes: &[u8], limits: Limits) -> Text {
    let source = charset::decode_as(bytes, declared(bytes).unwrap_or(WINDOWS_1252));
    let page = html::page(&source.unwrap_or_default());
    let text = match page.title.is_empty() || page.text.contains(&format!("# {}", page.title)) {
        true => page.text,
        false => format!("# {}\n\n{}", page.title, page.text),
    };
    pages::parsed(Kind::Html, &text, limits.characters)
}

fn declared(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(DECLARED_WITHIN)]);
    let (_, label) = head.split_once("charset=")?;
    let label = label.trim_start_matches(['"', '\'', ' ']);
    let end = label.find(['"', '\'', ' ', ';', '>', '/'])?;
    Encoding::for_label(&label.as_bytes()[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_in_its_own_encoding_below_its_title() {
        let bytes = b"<html><head><meta charset=\"iso-8859-2\"><title>T</title></head><p>\xb1\xe6 <b>x</b></p>";
        let text = read(bytes, Limits::default());
        assert_eq!(text.text, "# T\n\nąć **x**\n");
        assert_eq!(text.pages, None);
    }

    #[test]
    fn a_title_that_is_the_heading_too_stands_once() {
        let text = read(b"<title>T</title><h1>T</h1><p>x", Limits::default());
        assert_eq!(text.text, "# T\n\nx\n");
    }
}
