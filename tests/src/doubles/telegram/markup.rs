//! The three parse modes: a text with marks in, a text and its entities out.
//!
//! MarkdownV2 refuses every reserved character that is neither escaped nor part of a mark, as the
//! real one does, and HTML knows only the documented tags. A subset: MarkdownV2's expandable
//! quotations are not read. Error texts are what follows `can't parse entities: ` in a description
//! and count offsets in bytes.

use super::entities::{Entity, Kind, Mentioned};

/// Text and entities, or what is wrong.
pub type Parsed = Result<(String, Vec<Entity>), String>;

/// Whether the server takes this as the target of a link.
pub fn is_link(url: &str) -> bool {
    let lower = url.to_ascii_lowercase();
    let rest = ["http://", "https://", "tg://", "ton://", "tonsite://"]
        .iter()
        .find_map(|scheme| lower.strip_prefix(scheme));
    let host = match rest {
        Some(rest) => rest,
        None if lower.contains("://") => return false,
        None => lower.as_str(),
    };
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    let known_scheme = rest.is_some() && !lower.starts_with("http");
    !host.is_empty() && (known_scheme || host.contains('.')) && !host.contains(char::is_whitespace)
}

/// What a link becomes: a mention, a link, or nothing.
fn link(url: &str) -> Option<Kind> {
    if let Some(id) = url.strip_prefix("tg://user?id=") {
        let user = Mentioned {
            id: id.parse().ok()?,
            first_name: String::new(),
            is_bot: false,
        };
        return Some(Kind::TextMention { user });
    }
    is_link(url).then(|| Kind::TextLink {
        url: url.to_owned(),
    })
}

/// The source as characters with their places, read with lookahead.
struct Source<'a> {
    text: &'a str,
    chars: Vec<(usize, char)>,
    at: usize,
}

impl<'a> Source<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            chars: text.char_indices().collect(),
            at: 0,
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).map(|(_, c)| *c)
    }

    fn byte(&self) -> usize {
        self.chars.get(self.at).map_or(self.text.len(), |(b, _)| *b)
    }

    fn looks_at(&self, what: &str) -> bool {
        self.text[self.byte()..].starts_with(what)
    }

    /// Steps over the language and the line break behind an opening fence.
    fn fence_language(&mut self) -> String {
        let rest = &self.text[self.byte()..];
        let end = rest.find(|c: char| c.is_whitespace() || c == '`');
        let language = match end {
            Some(end) if end > 0 && !rest[end..].starts_with('`') => &rest[..end],
            _ => "",
        };
        self.at += language.chars().count();
        match (self.peek(0), self.peek(1)) {
            (Some('\r'), Some('\n')) | (Some('\n'), Some('\r')) => self.at += 2,
            (Some('\r' | '\n'), _) => self.at += 1,
            _ => {}
        }
        language.to_owned()
    }

    /// Reads `(...)` if it stands here; `escapes` as in MarkdownV2.
    fn target(&mut self, escapes: bool) -> Result<Option<String>, String> {
        if self.peek(0) != Some('(') {
            return Ok(None);
        }
        self.at += 1;
        let begin = self.byte();
        let mut url = String::new();
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('\\'), Some(next)) if escapes && is_escapable(next) => {
                    url.push(next);
                    self.at += 2;
                }
                (Some(')'), _) => {
                    self.at += 1;
                    return Ok(Some(url));
                }
                (Some(c), _) => {
                    url.push(c);
                    self.at += 1;
                }
                (None, _) if escapes => {
                    return Err(format!("Can't find end of a URL at byte offset {begin}"));
                }
                (None, _) => return Ok(Some(url)),
            }
        }
    }
}

fn is_escapable(c: char) -> bool {
    ('\u{1}'..='\u{7e}').contains(&c)
}

/// The text so far, with its length in UTF-16 units.
#[derive(Default)]
struct Output {
    text: String,
    len: i64,
    entities: Vec<Entity>,
}

impl Output {
    fn push(&mut self, c: char) {
        self.text.push(c);
        self.len += c.len_utf16() as i64;
    }

    fn add(&mut self, kind: Kind, from: i64) {
        if self.len > from {
            self.entities.push(Entity::new(kind, from, self.len - from));
        }
    }

    fn done(mut self) -> Parsed {
        let key = |e: &Entity| (e.offset, std::cmp::Reverse(e.length));
        self.entities.sort_by_key(key);
        Ok((self.text, self.entities))
    }
}

/// What is open in MarkdownV2.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mark {
    Bold,
    Italic,
    Underline,
    Strikethrough,
    Spoiler,
    Code,
    Pre,
    Link,
    Emoji,
    Quote,
}

impl Mark {
    fn name(self) -> &'static str {
        match self {
            Self::Bold => "Bold",
            Self::Italic => "Italic",
            Self::Underline => "Underline",
            Self::Strikethrough => "Strikethrough",
            Self::Spoiler => "Spoiler",
            Self::Code => "Code",
            Self::Pre => "Pre",
            Self::Link => "TextUrl",
            Self::Emoji => "CustomEmoji",
            Self::Quote => "BlockQuote",
        }
    }

    fn closes(self, source: &Source<'_>) -> Option<usize> {
        let mark = match self {
            Self::Bold => "*",
            Self::Italic if source.looks_at("__") => return None,
            Self::Italic => "_",
            Self::Underline => "__",
            Self::Strikethrough => "~",
            Self::Spoiler => "||",
            Self::Code => "`",
            Self::Pre => "```",
            Self::Link | Self::Emoji => "]",
            Self::Quote => return None,
        };
        source.looks_at(mark).then_some(mark.len())
    }
}

struct Open {
    mark: Mark,
    from: i64,
    byte: usize,
    text_from: usize,
    language: String,
}

const RESERVED_V2: &str = "_*[]()~`>#+-=|{}.!";

/// MarkdownV2.
pub fn markdown_v2(text: &str) -> Parsed {
    let mut source = Source::new(text);
    let mut out = Output::default();
    let mut open: Vec<Open> = Vec::new();
    while let Some(c) = source.peek(0) {
        if c == '\\' && source.peek(1).is_some_and(is_escapable) {
            out.push(source.peek(1).unwrap_or_default());
            source.at += 2;
            continue;
        }
        let top = open.last().map(|o| o.mark);
        let in_code = matches!(top, Some(Mark::Code | Mark::Pre));
        if c == '\n' && !in_code {
            line_break(&mut source, &mut out, &mut open)?;
            continue;
        }
        let reserved = if in_code {
            c == '`'
        } else {
            RESERVED_V2.contains(c)
        };
        if !reserved {
            out.push(c);
            source.at += 1;
            continue;
        }
        if let Some(len) = top.and_then(|mark| mark.closes(&source)) {
            source.at += len;
            close_v2(&mut source, &mut out, &mut open)?;
        } else {
            open_v2(&mut source, &out, &mut open)?;
        }
    }
    if open.last().is_some_and(|o| o.mark == Mark::Quote) {
        let quote = open.pop().expect("the last one was just seen");
        out.add(Kind::Blockquote, quote.from);
    }
    match open.last() {
        Some(open) => Err(no_end(open)),
        None => out.done(),
    }
}

fn no_end(open: &Open) -> String {
    let (name, byte) = (open.mark.name(), open.byte);
    format!("Can't find end of {name} entity at byte offset {byte}")
}

/// A line break begins, continues or ends a quotation.
fn line_break(
    source: &mut Source<'_>,
    out: &mut Output,
    open: &mut Vec<Open>,
) -> Result<(), String> {
    let quoted = open.iter().any(|o| o.mark == Mark::Quote);
    let goes_on = source.peek(1) == Some('>');
    if quoted && !goes_on {
        let last = open.pop().expect("a quotation is open");
        if last.mark != Mark::Quote {
            return Err(no_end(&last));
        }
        out.push('\n');
        out.add(Kind::Blockquote, last.from);
        source.at += 1;
        return Ok(());
    }
    out.push('\n');
    source.at += 1;
    if goes_on {
        if !quoted {
            open.push(Open {
                mark: Mark::Quote,
                from: out.len,
                byte: source.byte(),
                text_from: out.text.len(),
                language: String::new(),
            });
        }
        source.at += 1;
    }
    Ok(())
}

fn open_v2(source: &mut Source<'_>, out: &Output, open: &mut Vec<Open>) -> Result<(), String> {
    let byte = source.byte();
    let (mark, len) = match source.peek(0) {
        Some('_') if source.looks_at("__") => (Mark::Underline, 2),
        Some('_') => (Mark::Italic, 1),
        Some('*') => (Mark::Bold, 1),
        Some('~') => (Mark::Strikethrough, 1),
        Some('|') if source.looks_at("||") => (Mark::Spoiler, 2),
        Some('[') => (Mark::Link, 1),
        Some('!') if source.looks_at("![") => (Mark::Emoji, 2),
        Some('`') if source.looks_at("```") => (Mark::Pre, 3),
        Some('`') => (Mark::Code, 1),
        Some('>') if source.at == 0 => (Mark::Quote, 1),
        c => {
            let c = c.unwrap_or_default();
            return Err(format!(
                "Character '{c}' is reserved and must be escaped with the preceding '\\'"
            ));
        }
    };
    source.at += len;
    let language = match mark {
        Mark::Pre => source.fence_language(),
        _ => String::new(),
    };
    open.push(Open {
        mark,
        from: out.len,
        byte,
        text_from: out.text.len(),
        language,
    });
    Ok(())
}

fn close_v2(source: &mut Source<'_>, out: &mut Output, open: &mut Vec<Open>) -> Result<(), String> {
    let Some(closed) = open.pop() else {
        return Ok(());
    };
    let kind = match closed.mark {
        Mark::Bold => Kind::Bold,
        Mark::Italic => Kind::Italic,
        Mark::Underline => Kind::Underline,
        Mark::Strikethrough => Kind::Strikethrough,
        Mark::Spoiler => Kind::Spoiler,
        Mark::Code => Kind::Code,
        Mark::Pre => Kind::Pre {
            language: closed.language,
        },
        Mark::Quote => Kind::Blockquote,
        Mark::Link => {
            let url = source.target(true)?;
            let url = url.unwrap_or_else(|| out.text[closed.text_from..].to_owned());
            match link(&url) {
                Some(kind) => kind,
                None => return Ok(()),
            }
        }
        Mark::Emoji => {
            let url = source.target(true)?;
            let url = url.ok_or("Custom emoji entity must contain a tg://emoji URL")?;
            let id = url.strip_prefix("tg://emoji?id=");
            Kind::CustomEmoji {
                custom_emoji_id: id
                    .ok_or("Custom emoji URL must have an emoji identifier")?
                    .to_owned(),
            }
        }
    };
    out.add(kind, closed.from);
    Ok(())
}

/// The legacy mode: no nesting, four marks.
pub fn markdown(text: &str) -> Parsed {
    let mut source = Source::new(text);
    let mut out = Output::default();
    while let Some(c) = source.peek(0) {
        let byte = source.byte();
        let escaped = c == '\\' && matches!(source.peek(1), Some('_' | '*' | '`' | '['));
        if escaped {
            out.push(source.peek(1).unwrap_or_default());
            source.at += 2;
            continue;
        }
        if !matches!(c, '_' | '*' | '`' | '[') {
            out.push(c);
            source.at += 1;
            continue;
        }
        let end = match c {
            '`' if source.looks_at("```") => "```",
            '`' => "`",
            '_' => "_",
            '*' => "*",
            _ => "]",
        };
        source.at += end.len();
        let language = match end {
            "```" => source.fence_language(),
            _ => String::new(),
        };
        let (from, text_from) = (out.len, out.text.len());
        while !source.looks_at(end) {
            let Some(c) = source.peek(0) else {
                return Err(format!(
                    "Can't find end of the entity starting at byte offset {byte}"
                ));
            };
            out.push(c);
            source.at += 1;
        }
        source.at += end.len();
        let kind = match end {
            "_" => Some(Kind::Italic),
            "*" => Some(Kind::Bold),
            "`" => Some(Kind::Code),
            "```" => Some(Kind::Pre { language }),
            _ => {
                let url = source.target(false)?;
                link(&url.unwrap_or_else(|| out.text[text_from..].to_owned()))
            }
        };
        if let Some(kind) = kind {
            out.add(kind, from);
        }
    }
    out.done()
}

/// The tags HTML knows.
const TAGS: [&str; 16] = [
    "a",
    "b",
    "strong",
    "i",
    "em",
    "s",
    "strike",
    "del",
    "u",
    "ins",
    "tg-spoiler",
    "tg-emoji",
    "span",
    "pre",
    "code",
    "blockquote",
];

struct Tag {
    name: String,
    value: String,
    from: i64,
    text_from: usize,
}

/// HTML.
pub fn html(text: &str) -> Parsed {
    let mut out = Output::default();
    let mut open: Vec<Tag> = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        match c {
            '&' => {
                let (decoded, len) = reference(&text[at..]).unwrap_or(('&', 1));
                out.push(decoded);
                at += len;
            }
            '<' if text[at..].starts_with("</") => {
                let len = end_tag(text, at, &mut out, &mut open)?;
                at += len;
            }
            '<' => {
                let (name, value, len) = start_tag(text, at)?;
                open.push(Tag {
                    name,
                    value,
                    from: out.len,
                    text_from: out.text.len(),
                });
                at += len;
            }
            _ => {
                out.push(c);
                at += c.len_utf8();
            }
        }
    }
    match open.last() {
        Some(tag) => Err(format!(
            "Can't find end tag corresponding to start tag \"{}\"",
            tag.name
        )),
        None => out.done(),
    }
}

fn reference(text: &str) -> Option<(char, usize)> {
    let body = text.strip_prefix('&')?;
    let word = |f: fn(char) -> bool, s: &str| s.find(|c| !f(c)).unwrap_or(s.len());
    let (c, len) = if let Some(digits) = body.strip_prefix("#x") {
        let len = word(|c| c.is_ascii_hexdigit(), digits);
        let code = u32::from_str_radix(digits.get(..len)?, 16).ok()?;
        (char::from_u32(code)?, len + 3)
    } else if let Some(digits) = body.strip_prefix('#') {
        let len = word(|c| c.is_ascii_digit(), digits);
        (char::from_u32(digits.get(..len)?.parse().ok()?)?, len + 2)
    } else {
        let len = word(|c| c.is_ascii_alphabetic(), body);
        let c = match &body[..len] {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            _ => return None,
        };
        (c, len + 1)
    };
    let semicolon = usize::from(text[len..].starts_with(';'));
    (c != '\0').then_some((c, len + semicolon))
}

/// Name, the one attribute that counts, and the length of the tag.
fn start_tag(text: &str, at: usize) -> Result<(String, String, usize), String> {
    let unclosed = || format!("Unclosed start tag at byte offset {at}");
    let body = &text[at + 1..];
    let name_len = body.find(|c: char| c.is_whitespace() || c == '>');
    let name_len = name_len.ok_or_else(unclosed)?;
    let name = body[..name_len].to_ascii_lowercase();
    if !TAGS.contains(&name.as_str()) {
        return Err(format!(
            "Unsupported start tag \"{name}\" at byte offset {at}"
        ));
    }
    let mut value = String::new();
    let mut rest = body[name_len..].trim_start();
    while !rest.starts_with('>') {
        let equals = rest.find(|c: char| c == '=' || c == '>' || c.is_whitespace());
        let equals = equals.ok_or_else(unclosed)?;
        let attribute = &rest[..equals];
        let after = rest[equals..].trim_start();
        if attribute.is_empty() {
            return Err(format!(
                "Empty attribute name in the tag \"{name}\" at byte offset {at}"
            ));
        }
        if name == "blockquote" && attribute == "expandable" && !after.starts_with('=') {
            value = "expandable".to_owned();
            rest = after;
            continue;
        }
        let Some(after) = after.strip_prefix('=') else {
            return Err(format!(
                "Expected equal sign in declaration of an attribute of the tag \"{name}\" at byte offset {at}"
            ));
        };
        let after = after.trim_start();
        let quote = after.chars().next().ok_or_else(unclosed)?;
        let (raw, tail) = if quote == '"' || quote == '\'' {
            let end = after[1..].find(quote).ok_or_else(unclosed)?;
            (&after[1..=end], &after[end + 2..])
        } else {
            let end = after.find(|c: char| c.is_whitespace() || c == '>');
            after.split_at(end.ok_or_else(unclosed)?)
        };
        let counts = matches!(
            (name.as_str(), attribute),
            ("a", "href") | ("code" | "span", "class") | ("tg-emoji", "emoji-id")
        );
        if counts {
            value = decoded(raw);
        }
        rest = tail.trim_start();
    }
    if name == "span" && value != "tg-spoiler" {
        return Err(format!(
            "Tag \"span\" must have class \"tg-spoiler\" at byte offset {at}"
        ));
    }
    let len = text.len() - at - rest.len() + 1;
    Ok((name, value, len))
}

fn decoded(raw: &str) -> String {
    let mut text = String::new();
    let mut at = 0;
    while let Some(c) = raw[at..].chars().next() {
        let (c, len) = match c {
            '&' => reference(&raw[at..]).unwrap_or(('&', 1)),
            c => (c, c.len_utf8()),
        };
        text.push(c);
        at += len;
    }
    text
}

fn end_tag(text: &str, at: usize, out: &mut Output, open: &mut Vec<Tag>) -> Result<usize, String> {
    let end = text[at..].find('>');
    let end = end.ok_or_else(|| format!("Unclosed end tag at byte offset {at}"))?;
    let found = text[at + 2..at + end].trim_end().to_ascii_lowercase();
    let Some(tag) = open.pop() else {
        return Err(format!("Unexpected end tag at byte offset {at}"));
    };
    if !found.is_empty() && found != tag.name {
        let expected = &tag.name;
        return Err(format!(
            "Unmatched end tag at byte offset {at}, expected \"</{expected}>\", found \"</{found}>\""
        ));
    }
    let language = |class: &str| class.strip_prefix("language-").map(str::to_owned);
    let kind = match tag.name.as_str() {
        "b" | "strong" => Some(Kind::Bold),
        "i" | "em" => Some(Kind::Italic),
        "u" | "ins" => Some(Kind::Underline),
        "s" | "strike" | "del" => Some(Kind::Strikethrough),
        "tg-spoiler" | "span" => Some(Kind::Spoiler),
        "tg-emoji" => Some(Kind::CustomEmoji {
            custom_emoji_id: tag.value,
        }),
        "blockquote" if tag.value == "expandable" => Some(Kind::ExpandableBlockquote),
        "blockquote" => Some(Kind::Blockquote),
        "a" if tag.value.is_empty() => link(&out.text[tag.text_from..]),
        "a" => link(&tag.value),
        "pre" => {
            // <pre><code class="language-x"> is one block.
            let inner = out.entities.iter().position(|e| {
                e.offset == tag.from
                    && e.end() == out.len
                    && matches!(&e.kind, Kind::Pre { language } if !language.is_empty())
            });
            match inner {
                Some(_) => None,
                None => Some(Kind::Pre {
                    language: String::new(),
                }),
            }
        }
        _ => {
            let in_pre = open.last().is_some_and(|o| o.name == "pre");
            match language(&tag.value).filter(|_| in_pre) {
                Some(language) => Some(Kind::Pre { language }),
                None => Some(Kind::Code),
            }
        }
    };
    if let Some(kind) = kind {
        out.add(kind, tag.from);
    }
    Ok(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_v2_reads_what_is_documented() {
        let source = "*bold _italic bold ~striked~ __under___ bold* [inline](http://www.example.com/)\n```rust\nlet a = 1;\n```\n>quote\n>more\nend";
        let (text, entities) = markdown_v2(source).unwrap();
        assert_eq!(
            text,
            "bold italic bold striked under bold inline\nlet a = 1;\n\nquote\nmore\nend"
        );
        let kinds: Vec<&Kind> = entities.iter().map(|e| &e.kind).collect();
        assert!(matches!(
            kinds[..],
            [
                Kind::Bold,
                Kind::Italic,
                Kind::Strikethrough,
                Kind::Underline,
                Kind::TextLink { .. },
                Kind::Pre { .. },
                Kind::Blockquote
            ]
        ));
    }

    #[test]
    fn markdown_v2_refuses() {
        for (text, why) in [
            ("a.b", "Character '.' is reserved"),
            ("1 - 2", "Character '-' is reserved"),
            ("a > b", "Character '>' is reserved"),
            ("*bold", "Can't find end of Bold entity at byte offset 0"),
            ("я `code", "Can't find end of Code entity at byte offset 3"),
            ("[x](http://a.b", "Can't find end of a URL"),
            ("*a\n_b*", "Can't find end of Bold entity at byte offset 5"),
        ] {
            let error = markdown_v2(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
        assert_eq!(markdown_v2("a\\.b `x.y-z`").unwrap().0, "a.b x.y-z");
    }

    #[test]
    fn html_reads_and_refuses() {
        let source = "<b>a &lt;&amp;&#128512; <i>c</i></b><pre><code class=\"language-rs\">x</code></pre><a href='https://e.org/?a=1&amp;b=2'>l</a>";
        let (text, entities) = html(source).unwrap();
        assert_eq!(text, "a <&😀 cxl");
        assert_eq!(entities.len(), 4);
        assert_eq!(
            entities[3].kind,
            Kind::TextLink {
                url: "https://e.org/?a=1&b=2".to_owned()
            }
        );
        for (text, why) in [
            ("<p>x</p>", "Unsupported start tag \"p\" at byte offset 0"),
            ("a < b", "Unsupported start tag \"\" at byte offset 2"),
            ("<b>x</i>", "expected \"</b>\", found \"</i>\""),
            ("<b>x", "Can't find end tag"),
            ("x</b>", "Unexpected end tag at byte offset 1"),
            ("<span class=\"x\">a</span>", "must have class"),
        ] {
            let error = html(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn legacy_markdown() {
        let (text, entities) = markdown("*a* _b_ `c` [d](http://e.org) snake\\_case").unwrap();
        assert_eq!(text, "a b c d snake_case");
        assert_eq!(entities.len(), 4);
        assert!(markdown("snake_case").is_err());
    }
}
