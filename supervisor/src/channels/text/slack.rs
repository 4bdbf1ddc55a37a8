//! An answer as Slack messages: section blocks of mrkdwn, and the same as fallback for
//! notifications. `link_names` and `parse` are not to be set, or names in the text would be looked
//! up after all; whether links unfold is the sender's choice.
//!
//! `&`, `<` and `>` of a model's text are escaped, so that no `<!channel>` or `<@U…>` can come of
//! it, and blocks are `verbatim`, so that Slack finds neither names nor addresses by itself: bare
//! addresses are linked here. mrkdwn has no escape for `*`, `_` and `~`, and reads them at the
//! borders of words only; a zero-width space stands where a border must be, or must not.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Document, Kind, Limit, Rules, Span, link};

/// Characters of a message, as Slack recommends. It rejects blocks from about 12,000 in sum.
const MESSAGE: usize = 4000;
/// Characters of a section.
const SECTION: usize = 3000;
/// An address that is longer is shown rather than linked.
const ADDRESS: usize = 1000;
/// No width, and yet a border between words.
const BORDER: char = '\u{200b}';

pub(super) const RULES: Rules = Rules {
    links: can_link,
    tab: "\t",
    stripped: &[],
};

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Post {
    /// All of it as mrkdwn, at most 4,000 characters: what notifications show.
    pub text: String,
    /// What the channel shows: one or two sections, each with at most 3,000 characters.
    pub blocks: Vec<Value>,
}

/// The messages for an answer, in the order to send them. None for an answer in which nothing is
/// visible.
pub fn render(markdown: &str) -> Vec<Post> {
    let document = Document::read(markdown, &RULES);
    let pieces = document.pieces(&limit(MESSAGE)).into_iter();
    let post = |piece: Document| Post {
        text: mrkdwn(&piece),
        blocks: piece.pieces(&limit(SECTION)).iter().map(section).collect(),
    };
    pieces.map(post).collect()
}

fn section(piece: &Document) -> Value {
    let text = json!({"type": "mrkdwn", "text": mrkdwn(piece), "verbatim": true});
    json!({"type": "section", "text": text, "expand": true})
}

fn can_link(url: &str) -> bool {
    let mail = || {
        let address = url.strip_prefix("mailto:");
        let part = |c: char| c.is_alphanumeric() || "@.+-_".contains(c);
        address.is_some_and(|address| address.contains('@') && address.chars().all(part))
    };
    let sound = link::web_host(url).is_some() || mail();
    sound && !url.contains('|') && url.chars().map(size).sum::<usize>() <= ADDRESS
}

fn limit(size_of_text: usize) -> Limit {
    Limit {
        size: size_of_text,
        spans: usize::MAX / 4,
        of_char: size,
        of_span: |kind| match kind {
            Kind::Link(url) => url.chars().map(size).sum::<usize>() + "<|>".len(),
            Kind::Pre(_) => "```\n\n```".len(),
            Kind::Quote => "> ".len(),
            Kind::Bold | Kind::Italic | Kind::Strike | Kind::Code => "**".len() + 2,
        },
    }
}

/// The most that [`Writer`] makes of a character.
fn size(c: char) -> usize {
    match c {
        '&' => "&amp;".len(),
        '<' | '>' => "&lt;".len(),
        '\n' => "\n> ".len(),
        '*' | '_' | '~' | '`' => "*".len() + 2,
        c => c.len_utf16(),
    }
}

/// A document as mrkdwn.
fn mrkdwn(document: &Document) -> String {
    let mut writer = Writer {
        out: String::with_capacity(document.text.len() + document.text.len() / 8),
        after: After::Start,
        ticks: 0,
        quoted: false,
        open: Vec::new(),
    };
    let text = &document.text;
    let mut spans = document.spans.iter().peekable();
    let mut before = None;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        writer.close_until(at);
        while let Some(span) = spans.next_if(|span| span.range.start <= at) {
            writer.open(span, &text[span.range.clone()]);
        }
        let next = chars.peek().map(|(_, next)| *next);
        writer.write(before, c, next);
        before = Some(c);
    }
    writer.close_until(text.len());
    writer.out
}

/// What was written last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Start,
    Opener,
    Closer,
    Text(char),
}

/// What of an open span is still to be written.
struct Open {
    end: usize,
    closer: &'static str,
    code: bool,
    link: bool,
    hidden: bool,
}

struct Writer {
    out: String,
    after: After,
    /// Backticks of the text in a row.
    ticks: usize,
    quoted: bool,
    open: Vec<Open>,
}

impl Writer {
    fn open(&mut self, span: &Span, shown: &str) {
        let in_link = self.open.iter().any(|open| open.link);
        let marker = match &span.kind {
            // A label of a link has no styles.
            Kind::Bold | Kind::Italic | Kind::Strike if in_link => "",
            Kind::Bold => "*",
            Kind::Italic => "_",
            Kind::Strike => "~",
            // Code cannot show a backtick.
            Kind::Code if shown.contains('`') => "",
            Kind::Code => "`",
            Kind::Pre(_) | Kind::Link(_) | Kind::Quote => "",
        };
        if !marker.is_empty() {
            self.border_before_opener();
            self.out.push_str(marker);
            self.after = After::Opener;
        }
        let closer = match &span.kind {
            Kind::Pre(_) => {
                self.out.push_str("```\n");
                self.after = After::Start;
                "\n```"
            }
            Kind::Link(url) => {
                self.border_after_closer(None);
                self.out.push('<');
                url.chars().for_each(|c| self.escape(c));
                if url != shown {
                    self.out.push('|');
                }
                ">"
            }
            Kind::Quote => {
                if self.out.is_empty() || self.out.ends_with('\n') {
                    self.out.push_str("> ");
                }
                self.quoted = true;
                ""
            }
            _ => marker,
        };
        self.open.push(Open {
            end: span.range.end,
            closer,
            code: !marker.is_empty() && matches!(span.kind, Kind::Code) || closer.ends_with("```"),
            link: matches!(span.kind, Kind::Link(_)),
            hidden: matches!(&span.kind, Kind::Link(url) if url == shown),
        });
    }

    fn close_until(&mut self, at: usize) {
        while let Some(open) = self.open.pop_if(|open| open.end <= at) {
            self.out.push_str(open.closer);
            match open.closer {
                "" => self.quoted &= !self.open.is_empty(),
                "\n```" => self.after = After::Start,
                ">" => self.after = After::Text('>'),
                _ => self.after = After::Closer,
            }
        }
    }

    fn write(&mut self, before: Option<char>, c: char, next: Option<char>) {
        if self.open.iter().any(|open| open.hidden) {
            return;
        }
        let raw = self.open.iter().any(|open| open.code || open.link);
        self.border_after_closer(Some(c));
        self.ticks = if c == '`' { self.ticks + 1 } else { 0 };
        if self.ticks == "```".len() {
            self.out.push(BORDER);
            self.ticks = 1;
        }
        let marker = matches!(c, '*' | '_' | '~') && !raw;
        let opens = marker && !before.is_some_and(char::is_alphanumeric) && next.is_some_and(seen);
        let closes = marker && before.is_some_and(seen) && !next.is_some_and(char::is_alphanumeric);
        if closes {
            self.out.push(BORDER);
        }
        self.escape(c);
        if opens {
            self.out.push(BORDER);
        }
        if c == '\n' && self.quoted {
            self.out.push_str("> ");
        }
        self.after = After::Text(c);
    }

    fn border_before_opener(&mut self) {
        let needed = match self.after {
            After::Start | After::Opener => false,
            After::Closer => true,
            After::Text(c) => !borders(c),
        };
        if needed {
            self.out.push(BORDER);
        }
    }

    fn border_after_closer(&mut self, next: Option<char>) {
        if self.after == After::Closer && !next.is_some_and(borders) {
            self.out.push(BORDER);
        }
    }

    fn escape(&mut self, c: char) {
        match c {
            '&' => self.out.push_str("&amp;"),
            '<' => self.out.push_str("&lt;"),
            '>' => self.out.push_str("&gt;"),
            c => self.out.push(c),
        }
    }
}

fn seen(c: char) -> bool {
    !c.is_whitespace()
}

/// Whether a marker beside this character is read as one.
fn borders(c: char) -> bool {
    c.is_whitespace() || c.is_ascii_punctuation() && !matches!(c, '*' | '_' | '~' | '`' | '>')
}

#[cfg(test)]
mod tests {
    use super::super::tests::slack::check_all;
    use super::*;

    #[test]
    fn markdown_becomes_mrkdwn() {
        for (markdown, text) in [
            ("a & b < c > d &amp;", "a &amp; b &lt; c &gt; d &amp;"),
            ("# Head\nbody", "*Head*\n\nbody"),
            ("**b _i_** ~~s~~ `c`", "*b _i_* ~s~ `c`"),
            ("**b**_i_", "*b*\u{200b}_i_"),
            ("**b***i*", "*b*\u{200b}_i_"),
            ("wo**r**d", "wo\u{200b}*r*\u{200b}d"),
            ("(**b**, *i*.)", "(*b*, _i_.)"),
            ("**Note:** x", "*Note:* x"),
            ("中**文**字", "中\u{200b}*文*\u{200b}字"),
            ("**two\nlines**", "*two*\n*lines*"),
            ("**a `c` d**", "*a* `c` *d*"),
            ("2 * 3 snake_case 2*3", "2 * 3 snake_case 2*3"),
            (
                r"\*not\* \_it\_ ~/.config",
                "*\u{200b}not\u{200b}* _\u{200b}it\u{200b}_ ~\u{200b}/.config",
            ),
            ("``a`b``", "a`b"),
            (
                "```rust\nlet a = \"*b*\" & <c>;\n```",
                "```\nlet a = \"*b*\" &amp; &lt;c&gt;;\n```",
            ),
            ("````\n```\n````", "```\n``\u{200b}`\n```"),
            ("    indented\n\n  x", "```\nindented\n```\n\nx"),
            ("```\n\tx\n```", "```\n\tx\n```"),
            ("> a\n> b\n\nc", "> a\n> b\n\nc"),
            ("- a\n  > q", "• a\n\n  q"),
            (
                "| a | b |\n|---|---|\n| 1 | 2 |",
                "```\na | b\n--|--\n1 | 2\n```",
            ),
            (
                "[a & b](https://a.com?x=1&y=2)",
                "<https://a.com?x=1&amp;y=2|a &amp; b>",
            ),
            ("**[**a**](https://a.com)**", "*<https://a.com|a>*"),
            ("[**a**](https://a.com)", "<https://a.com|a>"),
            (
                "https://a.com/x, <https://b.com>",
                "<https://a.com/x>, <https://b.com>",
            ),
            (
                "[x](mailto:a@b.cc) <a@b.cc>",
                "<mailto:a@b.cc|x> <mailto:a@b.cc|a@b.cc>",
            ),
            ("[x](http://localhost:3000)", "<http://localhost:3000|x>"),
            (
                "[bank.com](https://evil.com)",
                "<https://evil.com|bank.com> (https://evil.com)",
            ),
            ("[x](javascript:alert)", "x (javascript:alert)"),
            (
                "<!channel> <!here|x> <@U123> <#C1>",
                "&lt;!channel&gt; &lt;!here|x&gt; &lt;@U123&gt; &lt;#C1&gt;",
            ),
            (
                "[<!channel>](https://a.com)",
                "<https://a.com|&lt;!channel&gt;>",
            ),
            (
                "[x](<https://a.com|<!channel>>)",
                "[x](&lt;<https://a.com>|&lt;!channel&gt;&gt;)",
            ),
            ("[x](!channel) [y](@U1)", "x (!channel) y (@U1)"),
            ("`<!everyone>`", "`&lt;!everyone&gt;`"),
        ] {
            let posts = render(markdown);
            check_all(&posts).unwrap();
            assert_eq!(posts.len(), 1, "{markdown}");
            assert_eq!(posts[0].text, text, "{markdown}");
            assert_eq!(posts[0].blocks[0]["text"]["text"], text, "{markdown}");
        }
        assert!(render("\u{200b} ").is_empty());
    }

    #[test]
    fn long_answers_are_cut_into_posts_and_sections() {
        let markdown = format!(
            "{}\n\n```\n{}```",
            "word & ".repeat(500),
            "a <b> c\n".repeat(900)
        );
        let posts = render(&markdown);
        check_all(&posts).unwrap();
        assert!(posts.len() > 3);
        assert!(posts.iter().any(|post| post.blocks.len() == 2));
        let last = &posts[posts.len() - 1].text;
        assert!(last.starts_with("```\n") && last.ends_with("\n```"));
    }
}
