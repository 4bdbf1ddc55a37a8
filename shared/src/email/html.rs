//! A letter's text as simple HTML, for those whose mail program shows it. The text is a model's: HTML in
//! it is shown as text, no picture is loaded by the mere reading of the letter, and links lead to web
//! pages and mailboxes only. Pure.

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

/// Markdown as an HTML document.
pub(super) fn of(markdown: &str) -> String {
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut body = String::with_capacity(markdown.len() * 3 / 2);
    let events = Parser::new_ext(markdown, options).filter_map(harmless);
    html::push_html(&mut body, events);
    format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"></head><body>\n{body}</body></html>\n"
    )
}

/// What an event becomes; none where nothing of it is kept.
fn harmless(event: Event<'_>) -> Option<Event<'_>> {
    match event {
        Event::Html(text) | Event::InlineHtml(text) => Some(Event::Text(text)),
        // The words that stand for a picture are kept.
        Event::Start(Tag::Image { .. }) | Event::End(TagEnd::Image) => None,
        Event::Start(Tag::Link {
            link_type,
            dest_url,
            id,
            ..
        }) => Some(Event::Start(Tag::Link {
            link_type,
            dest_url: match leads_out(&dest_url) {
                true => dest_url,
                false => CowStr::Borrowed("#"),
            },
            title: CowStr::Borrowed(""),
            id,
        })),
        other => Some(other),
    }
}

/// Whether a link leads to a page or a mailbox.
fn leads_out(target: &str) -> bool {
    let scheme = target.split_once(':').map(|(scheme, _)| scheme);
    let scheme = scheme.unwrap_or_default().to_ascii_lowercase();
    // A mailbox in `<a@b.c>` is written without its scheme, which the renderer adds.
    matches!(scheme.as_str(), "http" | "https" | "mailto")
        || (scheme.is_empty() && target.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_becomes_html_that_loads_and_runs_nothing() {
        let table = [
            ("# Hi\n\n*you*", "<h1>Hi</h1>", ""),
            ("| a |\n|---|\n| 1 |", "<td>1</td>", ""),
            ("[x](https://a.example/)", "href=\"https://a.example/\"", ""),
            ("<a@b.example>", "href=\"mailto:a@b.example\"", ""),
            ("<script>x()</script>", "&lt;script&gt;", "<script"),
            ("a <b onclick=x>b</b>", "&lt;b onclick", "<b "),
            (
                "![alt words](https://evil.example/p.png)",
                "alt words",
                "evil.example",
            ),
            ("[x](javascript:alert(1))", ">x</a>", "javascript"),
            ("[x](JavaScript:alert(1))", ">x</a>", "alert"),
            ("[x](data:text/html,hi)", ">x</a>", "data:"),
            ("[x](https://a.example/ \"title\")", "a.example", "title"),
            ("a < b & c", "a &lt; b &amp; c", ""),
        ];
        for (markdown, holds, lacks) in table {
            let made = of(markdown);
            assert!(made.contains(holds), "{markdown}: {made}");
            assert!(
                lacks.is_empty() || !made.contains(lacks),
                "{markdown}: {made}"
            );
        }
    }
}
