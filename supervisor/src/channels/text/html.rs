//! HTML in Markdown. Models use a few tags for style, which are left out, and a few for lines, which
//! become lines; all else, such as `Vec<String>` outside of code, is text that looks like HTML.

/// Tags that end a line.
const LINES: &[&str] = &["br", "p", "div", "li", "tr", "hr"];
/// Tags that say nothing in a chat.
const SILENT: &[&str] = &[
    "b", "strong", "i", "em", "u", "s", "del", "ins", "sub", "sup", "kbd", "mark", "small", "span",
    "details", "summary", "center", "ul", "ol",
];
/// A tag with its attributes is no longer than this.
const LONGEST: usize = 300;

/// A part of HTML.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Line,
}

/// What is shown of HTML, in order.
pub(super) fn parts(html: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut shown = 0;
    for (start, _) in html.match_indices('<') {
        let Some((name, len)) = tag(&html[start..]) else {
            continue;
        };
        let is = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        if start < shown || !(is(LINES) || is(SILENT)) {
            continue;
        }
        parts.push(Part::Text(&html[shown..start]));
        parts.extend(is(LINES).then_some(Part::Line));
        shown = start + len;
    }
    parts.push(Part::Text(&html[shown..]));
    parts.retain(|part| *part != Part::Text(""));
    parts
}

/// The name and the length of the tag with which a text begins.
fn tag(html: &str) -> Option<(&str, usize)> {
    let inner = html.strip_prefix('<')?;
    let bound = inner.floor_char_boundary(LONGEST);
    let inner = &inner[..inner[..bound].find(['>', '\n'])?];
    let after = html.as_bytes().get(inner.len() + 1)?;
    let name = inner.trim_start_matches('/');
    let end = name.find(|c: char| !c.is_ascii_alphanumeric());
    let name = &name[..end.unwrap_or(name.len())];
    (*after == b'>' && !name.is_empty()).then_some((name, inner.len() + 2))
}

#[cfg(test)]
mod tests {
    use super::Part::{Line, Text};
    use super::*;

    #[test]
    fn known_tags_go_and_the_rest_stays() {
        for (html, shown) in [
            ("<br/>", vec![Line]),
            ("<details open>", vec![]),
            ("</SUB>", vec![]),
            ("<summary>More</summary>", vec![Text("More")]),
            ("<String>", vec![Text("<String>")]),
            ("<<b>", vec![Text("<")]),
            ("<b", vec![Text("<b")]),
            ("a<p>b", vec![Text("a"), Line, Text("b")]),
        ] {
            assert_eq!(parts(html), shown, "{html}");
        }
    }
}
