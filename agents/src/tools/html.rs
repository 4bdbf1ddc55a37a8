//! HTML as Markdown: the article of a page where there is one, else the whole body. Nesting is
//! checked twice, because parsing takes time in the square of the elements that stand open and
//! printing recurses: roughly before the page is parsed, exactly before it is printed. A page that
//! nests too deep is read by a flat scan that drops the tags. Used by `fetch_page`, `read_file` and
//! `search_files`.

use dom_query::{Document, NodeRef};
use dom_smoothie::{Config, Readability};

/// Elements inside each other beyond which a page is not printed by recursion. Real pages stay
/// below 100.
const MAX_DEPTH: usize = 256;

/// Elements left open beyond which a page is not even parsed.
const MAX_OPEN: usize = 4000;

/// An article shorter than this in relation to the body was probably found in the wrong place.
const LEAST_SHARE: usize = 5;

/// What is neither text nor structure.
const SKIPPED: &[&str] = &[
    "script", "style", "noscript", "template", "svg", "iframe", "head",
];

/// A page as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its title, or nothing.
    pub title: String,
    /// Its text as Markdown.
    pub text: String,
}

/// The article of a page, without menus and footers; the whole body where no article is found.
pub fn article(html: &str, url: &str) -> Page {
    let Some(document) = parse(html) else {
        return flat_page(html);
    };
    let body = printed(&document);
    let config = Config {
        max_elements_to_parse: 50_000,
        ..Config::default()
    };
    let parsed = Readability::with_document(document, Some(url), Some(config))
        .and_then(|mut page| page.parse());
    let Ok(found) = parsed else {
        return body;
    };
    let Some(content) = parse(&found.content) else {
        return body;
    };
    let text = content.md(Some(SKIPPED)).trim().to_owned();
    if text.len() < body.text.len() / LEAST_SHARE {
        return body;
    }
    let title = if found.title.is_empty() {
        body.title
    } else {
        found.title
    };
    Page { title, text }
}

/// The whole body of a page.
pub fn page(html: &str) -> Page {
    parse(html).map_or_else(|| flat_page(html), |document| printed(&document))
}

fn printed(document: &Document) -> Page {
    Page {
        title: document.select("title").first().text().trim().to_owned(),
        text: document.md(Some(SKIPPED)).trim().to_owned(),
    }
}

fn flat_page(html: &str) -> Page {
    Page {
        title: String::new(),
        text: flat(html),
    }
}

/// The page's elements, unless they nest too deep.
fn parse(html: &str) -> Option<Document> {
    if leaves_too_much_open(html) {
        return None;
    }
    let document = Document::from(html);
    (!is_too_deep(document.root())).then_some(document)
}

fn is_too_deep(root: NodeRef<'_>) -> bool {
    let mut open = vec![(root, 0)];
    while let Some((node, depth)) = open.pop() {
        if depth > MAX_DEPTH {
            return true;
        }
        open.extend(node.children().into_iter().map(|child| (child, depth + 1)));
    }
    false
}

fn leaves_too_much_open(html: &str) -> bool {
    let bytes = html.as_bytes();
    let mut open = 0usize;
    for (at, _) in html.match_indices('<') {
        match bytes.get(at + 1) {
            Some(b'/') => open = open.saturating_sub(1),
            Some(letter) if letter.is_ascii_alphabetic() && !closes_itself(&html[at + 1..]) => {
                open += 1
            }
            _ => {}
        }
        if open > MAX_OPEN {
            return true;
        }
    }
    false
}

/// Elements without an end, or whose end is usually left out and implied by the next one.
fn closes_itself(tag: &str) -> bool {
    #[rustfmt::skip]
    const THEM: &[&str] = &[
        "br", "hr", "img", "input", "link", "meta", "area", "base", "col", "embed", "source", "track",
        "wbr", "li", "p", "dt", "dd", "tr", "td", "th",
    ];
    let end = tag
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(tag.len());
    THEM.iter()
        .any(|name| tag[..end].eq_ignore_ascii_case(name))
}

/// Text between the tags, a line for each run of it.
fn flat(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some(open) = rest.find('<') {
        push_line(&mut text, &rest[..open]);
        rest = after_tag(&rest[open..]);
    }
    push_line(&mut text, rest);
    text
}

/// What follows the tag at the beginning of `html`; for scripts and styles, what follows their end.
fn after_tag(html: &str) -> &str {
    for name in ["script", "style"] {
        let is_it = html
            .get(1..=name.len())
            .is_some_and(|tag| tag.eq_ignore_ascii_case(name));
        if is_it {
            let end = html.find("</").map_or("", |end| &html[end..]);
            return end.find('>').map_or("", |close| &end[close + 1..]);
        }
    }
    html.find('>').map_or("", |close| &html[close + 1..])
}

fn push_line(text: &mut String, run: &str) {
    let run = run.trim();
    if !run.is_empty() {
        text.push_str(run);
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "<html><head><title>The Title</title><style>p{}</style></head><body>\
        <nav><a href='/'>Home</a></nav><h1>Heading</h1><p>First &amp; <b>bold</b>.</p>\
        <script>alert(1)</script><ul><li>one<li>two</ul></body></html>";

    #[test]
    fn a_page_becomes_markdown_without_scripts() {
        let page = page(PAGE);
        assert_eq!(page.title, "The Title");
        for expected in ["# Heading", "First & **bold**", "one", "two"] {
            assert!(page.text.contains(expected), "{}", page.text);
        }
        assert!(
            !page.text.contains("alert") && !page.text.contains("p{}"),
            "{}",
            page.text
        );
    }

    #[test]
    fn an_article_is_found_and_a_page_without_one_keeps_its_body() {
        let paragraph =
            "<p>A long sentence, with commas, that tells the story of the matter at hand.</p>";
        let html = format!(
            "<html><head><title>T</title></head><body><div class='sidebar menu'>MENU</div>\
             <article>{}</article><footer>FOOTER</footer></body></html>",
            paragraph.repeat(20)
        );
        let found = article(&html, "https://example.com/");
        assert!(
            found.text.contains("tells the story") && !found.text.contains("FOOTER"),
            "{}",
            found.text
        );
        assert!(article(PAGE, "https://example.com/").text.contains("First"));
    }

    #[test]
    fn deep_nesting_is_read_flat_and_breaks_nothing() {
        let tags = [
            "div",
            "b",
            "blockquote",
            "ul",
            "table",
            "a",
            "p",
            "td",
            "dd",
            "option",
            "path/",
            "ul><li",
            "font",
        ];
        for (tag, times) in tags
            .iter()
            .flat_map(|tag| [20, 240, 300, 3000, 100_000].map(|times| (tag, times)))
        {
            let html = format!("{}inside", format!("<{tag}>").repeat(times));
            assert!(
                article(&html, "https://example.com/")
                    .text
                    .contains("inside"),
                "{times} {tag}"
            );
        }
        let _drawing = article(&"<svg>".repeat(3000), "https://example.com/");
    }

    #[test]
    fn anything_is_taken() {
        for html in [
            "",
            "<",
            "</",
            "<a",
            "<!--",
            "\0",
            "<script>",
            "a<b>c",
            "<p",
            "&#0;",
            "<table><p></table>",
        ] {
            let _page = article(html, "https://example.com/");
            let _flat = flat(html);
        }
        assert_eq!(flat("a<script>x</script>b<style>y</style>c"), "a\nb\nc\n");
    }
}
