//! Thousands of generated answers: each message is accepted by a validator written from the
//! messengers' rules alone, and no character is lost on the way. Both checks are checked in turn with
//! values that they must refuse. `MAJORDOMO_DOCUMENTS` says how many answers there are.

use telegram::require;

use super::{Document, Kind, Limit, Span, is_blank};

/// What the server of the Bot API would say, from its documentation and its public code.
pub(super) mod telegram {
    use std::cmp::Reverse;

    use super::super::telegram::{Entity, EntityKind as Kind, Message};

    pub(crate) fn check_all(messages: &[Message]) -> Result<(), String> {
        let mut checked = messages
            .iter()
            .map(|message| check(&message.text, &message.entities));
        checked.try_for_each(|result| result)
    }

    pub(crate) fn check(text: &str, entities: &[Entity]) -> Result<(), String> {
        let units: Vec<u16> = text.encode_utf16().collect();
        require(!empty(text), "the message is empty")?;
        require(units.len() <= 4096, "the message is too long")?;
        require(entities.len() <= 100, "there are too many entities")?;
        let bare = text.trim_matches([' ', '\n']);
        require(bare == text, "the server would trim the message")?;
        if !entities.is_empty() {
            require(
                !text.contains(rewritten),
                "the server would rewrite a character",
            )?;
        }
        let place = |entity: &Entity| (entity.offset, Reverse(entity.length));
        require(entities.is_sorted_by_key(place), "entities are not sorted")?;
        for entity in entities {
            let range = entity.offset..entity.offset + entity.length;
            require(!range.is_empty(), "an entity is empty")?;
            let part = units.get(range).ok_or("an entity ends behind the text")?;
            let part = String::from_utf16(part).map_err(|_| "an entity parts a character")?;
            require(part.trim() == part, "the server would trim an entity")?;
            if let Kind::TextLink { url } = &entity.kind {
                require(address(url), "an address is refused")?;
            }
            if let Kind::Pre {
                language: Some(name),
            } = &entity.kind
            {
                require(
                    !name.is_empty() && !name.contains(char::is_whitespace),
                    "no language",
                )?;
            }
        }
        nested(entities)
    }

    /// All pairs that share a character.
    fn nested(entities: &[Entity]) -> Result<(), String> {
        let end = |entity: &Entity| entity.offset + entity.length;
        for (index, one) in entities.iter().enumerate() {
            for other in &entities[index + 1..] {
                if end(one) <= other.offset || end(other) <= one.offset {
                    continue;
                }
                let inner = one.offset <= other.offset && end(other) <= end(one);
                let outer = other.offset <= one.offset && end(one) <= end(other);
                require(inner || outer, "entities cross each other")?;
                let (around, within) = if inner { (one, other) } else { (other, one) };
                require(
                    may_contain(&around.kind, &within.kind),
                    "an entity may not lie in another",
                )?;
            }
        }
        Ok(())
    }

    fn may_contain(around: &Kind, within: &Kind) -> bool {
        let style = |kind: &Kind| matches!(kind, Kind::Bold | Kind::Italic | Kind::Strikethrough);
        match (around, within) {
            (Kind::Code | Kind::Pre { .. }, _) | (_, Kind::Pre { .. }) => false,
            (Kind::Blockquote, Kind::Blockquote) => false,
            (Kind::Blockquote, _) => true,
            (_, Kind::Code | Kind::Blockquote) => false,
            (around, within) => style(around) || style(within),
        }
    }

    fn empty(text: &str) -> bool {
        let nothing = |c: char| {
            c.is_whitespace()
                || matches!(
                    c,
                    '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202e}' | '\u{2800}'
                )
                || matches!(c, '\u{feff}' | '\u{fffc}' | '\u{e0000}'..='\u{e007f}')
        };
        text.chars().all(nothing)
    }

    fn rewritten(c: char) -> bool {
        matches!(c, '\0'..='\t' | '\u{b}'..='\u{1f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{333}' | '\u{33f}' | '\u{30a}')
    }

    fn address(url: &str) -> bool {
        let lower = url.to_lowercase();
        let rest = lower
            .strip_prefix("http://")
            .or(lower.strip_prefix("https://"));
        let host = rest.and_then(|rest| rest.split(['/', '?', '#', ':']).next());
        host.is_some_and(|host| {
            let part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c) || c > '\u{7f}';
            host.contains('.') && host.chars().all(part)
        }) && !url.contains(char::is_whitespace)
    }

    pub(crate) fn require(holds: bool, otherwise: &str) -> Result<(), String> {
        if holds { Ok(()) } else { Err(otherwise.into()) }
    }
}

/// What Slack says of messages, and what must never be in one.
pub(super) mod slack {
    use serde_json::Value;

    use super::super::slack::Post;
    use super::telegram::require;

    pub(crate) fn check_all(posts: &[Post]) -> Result<(), String> {
        posts.iter().try_for_each(check)
    }

    pub(crate) fn check(post: &Post) -> Result<(), String> {
        mrkdwn(&post.text, 4000)?;
        require(
            (1..=50).contains(&post.blocks.len()),
            "a wrong number of blocks",
        )?;
        post.blocks.iter().try_for_each(|block| {
            require(block["type"] == "section", "not a section")?;
            require(
                block["text"]["verbatim"] == true,
                "names would be looked up",
            )?;
            mrkdwn(block["text"]["text"].as_str().unwrap_or_default(), 3000)
        })
    }

    fn mrkdwn(text: &str, longest: usize) -> Result<(), String> {
        require(!text.trim().is_empty(), "an empty text")?;
        require(text.encode_utf16().count() <= longest, "a text is too long")?;
        require(
            text.matches("```").count().is_multiple_of(2),
            "a fence is open",
        )?;
        for (at, _) in text.match_indices('&') {
            let known = ["&amp;", "&lt;", "&gt;"];
            let escaped = known.iter().any(|known| text[at..].starts_with(known));
            require(escaped, "a raw ampersand")?;
        }
        angles(text)
    }

    /// Angle brackets are around links, and one may open a line of a quote.
    fn angles(text: &str) -> Result<(), String> {
        let mut inside = None;
        for (at, c) in text.char_indices().filter(|(_, c)| matches!(c, '<' | '>')) {
            match (c, inside) {
                ('<', None) => inside = Some(at),
                ('>', Some(start)) => {
                    let link = &text[start + 1..at];
                    let known = ["http://", "https://", "mailto:"];
                    let link = known
                        .iter()
                        .any(|known| link.to_lowercase().starts_with(known));
                    require(link, "a control sequence")?;
                    inside = None;
                }
                ('>', None) => {
                    let first = at == 0 || text[..at].ends_with('\n');
                    require(first && text[at..].starts_with("> "), "a raw bracket")?;
                }
                _ => return Err("a raw bracket".into()),
            }
        }
        require(inside.is_none(), "an open bracket")
    }

    /// What is seen of a text, with the markers.
    pub(crate) fn shown(text: &str) -> String {
        let mut shown = String::new();
        let mut rest = text;
        while let Some(start) = rest.find('<') {
            shown.push_str(&rest[..start]);
            let end = start + rest[start..].find('>').unwrap_or_default();
            let link = &rest[start + 1..end];
            shown.push_str(link.split_once('|').map_or(link, |(_, label)| label));
            rest = &rest[end + 1..];
        }
        shown.push_str(rest);
        let shown = shown.replace("&lt;", "<").replace("&gt;", ">");
        shown.replace("&amp;", "&")
    }

    pub(crate) fn text(block: &Value) -> &str {
        block["text"]["text"].as_str().unwrap_or_default()
    }
}

/// What remains if nothing is lost.
fn visible(text: &str) -> String {
    text.chars().filter(|c| !is_blank(*c)).collect()
}

/// Without what mrkdwn may mean, too.
fn letters(text: &str) -> String {
    visible(text).replace(['*', '_', '~', '`', '>'], "")
}

/// Whether a text is shown by texts that are sent one after the other.
fn check_loss<'a>(whole: &str, parts: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    let whole = visible(whole);
    let parts: String = parts.into_iter().map(visible).collect();
    if whole == parts {
        return Ok(());
    }
    let same = whole.chars().zip(parts.chars()).take_while(|(a, b)| a == b);
    let after: String = same.map(|(a, _)| a).collect();
    Err(format!(
        "something is lost after {:?}",
        &after[after.floor_char_boundary(after.len().saturating_sub(80))..]
    ))
}

/// Whether a document is what its contract says.
fn check_document(document: &Document) -> Result<(), String> {
    let Document { text, spans } = document;
    let starts = spans.iter().map(|span| span.range.start);
    require(starts.is_sorted(), "spans are not sorted")?;
    let mut around: Vec<&Span> = Vec::new();
    for span in spans {
        let part = text
            .get(span.range.clone())
            .ok_or("a span parts a character")?;
        let lines = matches!(span.kind, Kind::Pre(_) | Kind::Quote);
        require(lines || !part.contains('\n'), "a style goes over lines")?;
        require(!part.trim().is_empty(), "a span is empty")?;
        around.retain(|outer| outer.range.end > span.range.start);
        for outer in &around {
            require(span.range.end <= outer.range.end, "spans cross")?;
            let twice = std::mem::discriminant(&outer.kind) == std::mem::discriminant(&span.kind);
            require(!twice, "a kind lies within itself")?;
            let quoted = outer.kind == Kind::Quote && !matches!(span.kind, Kind::Pre(_));
            let code = matches!(outer.kind, Kind::Code | Kind::Pre(_));
            let free = matches!(span.kind, Kind::Code | Kind::Pre(_) | Kind::Quote);
            require(!code && (quoted || !free), "a kind lies in another")?;
        }
        around.push(span);
    }
    Ok(())
}

/// Whether words are shown in their order.
fn check_words(words: &[String], shown: &str) -> Result<(), String> {
    let mut rest = shown;
    for word in words {
        let at = rest
            .find(word.as_str())
            .ok_or_else(|| format!("{word} is lost"))?;
        rest = &rest[at + word.len()..];
    }
    Ok(())
}

/// Writes answers such as models write, and worse.
struct Author {
    random: fastrand::Rng,
    markdown: String,
    /// The words that must be shown, in order.
    words: Vec<String>,
}

const GLYPHS: &[&str] = &[
    "😀",
    "👩‍👩‍👧‍👦",
    "🇩🇪",
    "🇫",
    "👍🏽",
    "1️⃣",
    "e\u{301}",
    "a\u{30a}\u{333}",
    "שלום",
    "مرحبا",
    "\u{202e}abc\u{202c}",
    "日本語",
    "\u{200b}",
    "\u{200f}",
    "\u{feff}",
    "\u{a0}",
    "\u{2028}",
    "\u{0}",
    "\u{1b}[31m",
    "\t",
    "\r",
    "\u{7f}",
    "\u{85}",
    "&",
    "<",
    ">",
    "*",
    "_",
    "~",
    "`",
    "&amp;",
    "&#0;",
    "&#10;",
    "&#x202e;",
    "\\",
    "|",
    "@channel",
    "<!channel>",
    "<@U1>",
    "𝔘",
    "\u{e0067}",
    "각",
    "ก\u{e33}",
    "🏴\u{e0067}\u{e007f}",
    "!",
    "…",
];
const URLS: &[&str] = &[
    "https://example.com/a_b*c?x=1&y=2",
    "http://localhost:1",
    "mailto:a@b.cc",
    "tg://user?id=1",
    "docs/x.md",
    "https://a.com@b.com/",
    "#frag",
    "javascript:x",
    "HTTPS://A.com",
    "https://a..b",
    "https://пример.рф/я",
    "",
];

impl Author {
    fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            markdown: String::new(),
            words: Vec::new(),
        }
    }

    /// An answer of about so many bytes.
    fn write(mut self, len: usize) -> Self {
        while self.markdown.len() < len {
            let line = self.markdown.len();
            self.block(0);
            if self.markdown.len() > line && self.random.u8(..) > 20 {
                self.markdown.push_str("\n\n");
            }
        }
        self
    }

    fn put(&mut self, text: &str) {
        // Three tildes would be a fence, and the words behind it the name of a language.
        if text.starts_with('~') && self.markdown.ends_with('~') {
            self.markdown.push(' ');
        }
        self.markdown.push_str(text);
    }

    fn one_of(&mut self, from: &[&'static str]) -> &'static str {
        from[self.random.usize(..from.len())]
    }

    fn word(&mut self) {
        let word = format!("q{}z", self.words.len());
        self.put(&word);
        self.words.push(word);
    }

    fn prefix(&mut self, prefix: &str) {
        self.put("\n");
        self.put(prefix);
    }

    fn block(&mut self, depth: usize) {
        match self.random.u8(..20) {
            0 => {
                let level = self.random.usize(1..7);
                self.put(&"#".repeat(level));
                self.put(" ");
                self.inline(0);
            }
            1..=3 => self.list(depth),
            4 | 5 => self.fence(),
            6 => self.table(),
            7 | 8 => self.quote(),
            9 => {
                let html =
                    self.one_of(&["<details>", "</div>", "<br/>", "<x-y>", "<!-- c -->", "<b"]);
                self.put(html);
                self.put("\n\n");
            }
            10 => self.put("---\n"),
            11 => {
                let count = self.random.usize(1..600);
                let glyph = self.one_of(GLYPHS);
                self.put(&glyph.repeat(count));
                self.put("\n\n");
            }
            _ => self.paragraph(),
        }
    }

    fn paragraph(&mut self) {
        for _ in 0..self.random.usize(1..40) {
            self.inline(0);
            let space = self.one_of(&[" ", " ", " ", "\n", "  \n", ""]);
            self.put(space);
        }
    }

    fn inline(&mut self, depth: usize) {
        let around = |author: &mut Self, mark: &str| {
            author.put(mark);
            author.word();
            if depth < 4 {
                author.put(" ");
                author.inline(depth + 1);
            }
            author.put(mark);
        };
        match self.random.u8(..24) {
            0 | 1 => around(self, "**"),
            2 => around(self, "*"),
            3 => around(self, "_"),
            4 => around(self, "~~"),
            5 | 6 => {
                self.put("`");
                self.word();
                self.put("`");
            }
            7 => {
                self.put("[");
                self.word();
                self.put("](");
                let url = self.one_of(URLS);
                self.put(url);
                self.put(")");
            }
            8 => self.put("![alt](https://example.com/i.png)"),
            9 => self.put(" https://example.com/q(x). "),
            10 => self.put("<https://example.com/auto>"),
            11 | 12 => {
                let glyph = self.one_of(GLYPHS);
                self.put(glyph);
            }
            13 => self.put("[bank.com](https://example.com)"),
            14 => {
                let mark = self.one_of(&["**", "`", "[", "](", "<b>", "~~", "_", "***"]);
                self.put(mark);
            }
            _ => self.word(),
        }
    }

    fn list(&mut self, depth: usize) {
        for index in 0..self.random.usize(1..6) {
            let mark = self.one_of(&["- ", "* ", "1. ", "- [ ] ", "- [x] "]);
            self.prefix(&"    ".repeat(depth));
            let numbered = format!("{}. ", index + 1);
            self.put(if mark == "1. " { &numbered } else { mark });
            self.inline(0);
            if depth < 5 && self.random.u8(..) < 60 {
                self.list(depth + 1);
            }
        }
        if depth == 0 {
            self.put("\n\n");
        }
    }

    fn fence(&mut self) {
        let fence = self.one_of(&["```", "~~~", "````"]);
        let language = self.one_of(&["", "rust", "c++", "python title=x", "日本", "\u{0}"]);
        self.put("\n\n");
        self.put(fence);
        self.put(language);
        self.put("\n");
        let longest = if self.random.u8(..) < 12 { 400 } else { 12 };
        for _ in 0..self.random.usize(..longest) {
            let indent = self.random.usize(..5);
            self.put(&"  ".repeat(indent));
            self.word();
            let glyph = self.one_of(GLYPHS);
            if glyph != "`" {
                self.put(glyph);
            }
            self.put("\n");
        }
        if self.random.u8(..) > 8 {
            self.put(fence);
            self.put("\n");
        }
    }

    fn table(&mut self) {
        let columns = self.random.usize(1..6);
        self.put("\n\n");
        for row in 0..self.random.usize(2..9) {
            let cells = if row < 2 {
                columns
            } else {
                self.random.usize(1..=columns)
            };
            for _ in 0..cells {
                self.put("| ");
                if row == 1 {
                    let rule = self.one_of(&["---", ":-:", "--:"]);
                    self.put(rule);
                } else {
                    self.word();
                    let more =
                        self.one_of(&["", " 日本", " **b**", " [l](https://a.com)", " <br> x"]);
                    self.put(more);
                }
            }
            self.put("|\n");
        }
        self.put("\n");
    }

    fn quote(&mut self) {
        self.put("\n\n");
        for _ in 0..self.random.usize(1..6) {
            let mark = self.one_of(&["> ", "> > ", "> - ", "> [!NOTE] ", "> "]);
            self.put(mark);
            self.inline(0);
            self.put("\n");
            if self.random.u8(..) < 30 {
                self.put("> ```\n> ");
                self.word();
                self.put("\n> ```\n");
            }
        }
        self.put("\n");
    }
}

/// How long an answer is: mostly short, sometimes up to 200,000 bytes.
fn length(random: &mut fastrand::Rng) -> usize {
    match random.u8(..) {
        0 => random.usize(..200_000),
        1..16 => random.usize(..20_000),
        16..100 => random.usize(..4_000),
        _ => random.usize(..600),
    }
}

/// Everything that must hold of one answer.
fn check_answer(markdown: &str, words: &[String]) -> Result<(), String> {
    let document = Document::read(markdown, &super::telegram::RULES);
    check_document(&document)?;
    let messages = super::telegram::render(markdown);
    telegram::check_all(&messages)?;
    check_loss(
        &document.text,
        messages.iter().map(|message| message.text.as_str()),
    )?;
    check_words(words, &document.text)?;

    let texts = super::telegram::plain(markdown);
    texts
        .iter()
        .try_for_each(|text| telegram::check(text, &[]))?;
    check_loss(markdown, texts.iter().map(String::as_str))?;

    let document = Document::read(markdown, &super::slack::RULES);
    check_document(&document)?;
    let posts = super::slack::render(markdown);
    slack::check_all(&posts)?;
    let fallback = posts.iter().map(|post| post.text.as_str());
    let sections = posts.iter().flat_map(|post| &post.blocks).map(slack::text);
    let shown = letters(&document.text);
    check_loss(
        &shown,
        [letters(&fallback.map(slack::shown).collect::<String>()).as_str()],
    )?;
    check_loss(
        &shown,
        [letters(&sections.map(slack::shown).collect::<String>()).as_str()],
    )
}

#[test]
fn generated_answers_are_accepted_and_lose_nothing() {
    let wanted = std::env::var("MAJORDOMO_DOCUMENTS").ok();
    let count = wanted.and_then(|count| count.parse().ok()).unwrap_or(3_000);
    let (mut failed, mut bytes) = (0, 0);
    for seed in 0..count {
        let mut random = fastrand::Rng::with_seed(seed);
        let author = Author::new(seed).write(length(&mut random));
        bytes += author.markdown.len();
        if let Err(why) = check_answer(&author.markdown, &author.words) {
            failed += 1;
            if failed <= 10 {
                let start: String = author.markdown.chars().take(1500).collect();
                println!(
                    "answer {seed}, {} bytes: {why}\n{start:?}\n",
                    author.markdown.len()
                );
            }
        }
    }
    println!("{count} answers, {bytes} bytes, {failed} refused or with a loss");
    assert_eq!(failed, 0);
}

#[test]
fn answers_made_to_be_hard_are_rendered_too() {
    // What is not linear in these takes minutes.
    let long = |part: &str| part.repeat(60_000 / part.len());
    for markdown in [
        long("["),
        long("!["),
        format!("{}{}", "![".repeat(10_000), "](x)".repeat(10_000)),
        format!(
            "{}{}",
            "[".repeat(10_000),
            "](https://a.com)".repeat(10_000)
        ),
        long("*a "),
        long("**a* "),
        long("***"),
        long("`"),
        long("` "),
        long("> "),
        long("- "),
        long("- a\n"),
        long("1. - "),
        long("<a "),
        long("<!--"),
        long("<div>\n"),
        long("http"),
        long("https://a.com"),
        long("https://a.com:."),
        long("https://a.com/) "),
        format!("https://a.com/{}", long(")")),
        long("|"),
        long("|a"),
        format!(
            "|{}\n|{}\n{}",
            "a|".repeat(2_000),
            "-|".repeat(2_000),
            "|b\n".repeat(10_000)
        ),
        long("a|b\n-|-\n"),
        long("\u{301}"),
        long("\u{200b}"),
        long("🇩"),
        long("&"),
        long("\n"),
        long("\\\n"),
        long("a\u{0}"),
        long("~~a~~`b`"),
        long("[^1]"),
        long("[a]: b\n"),
        long("```\n"),
        long("x"),
    ] {
        let start: String = markdown.chars().take(20).collect();
        assert_eq!(check_answer(&markdown, &[]), Ok(()), "{start}");
    }
}

mod controls {
    //! What the checks must refuse.

    use serde_json::json;

    use super::super::slack::{self as to_slack, Post};
    use super::super::telegram::{self as to_telegram, Entity, EntityKind, Message};
    use super::*;

    fn entity(kind: EntityKind, offset: usize, length: usize) -> Entity {
        Entity {
            kind,
            offset,
            length,
        }
    }

    #[test]
    fn the_validator_of_telegram_refuses() {
        use EntityKind::{Blockquote, Bold, Code, Italic, Pre, TextLink};
        let link = |url: &str| TextLink { url: url.into() };
        let pre = || Pre { language: None };
        for (text, entities, why) in [
            ("", vec![], "the message is empty"),
            (" \u{200b}\n", vec![], "the message is empty"),
            (&"x".repeat(4097), vec![], "the message is too long"),
            (&"😀".repeat(2049), vec![], "the message is too long"),
            ("abc ", vec![], "the server would trim the message"),
            ("\nabc", vec![], "the server would trim the message"),
            (
                "abc",
                vec![entity(Bold, 0, 1); 101],
                "there are too many entities",
            ),
            (
                "a\tb",
                vec![entity(Bold, 0, 1)],
                "the server would rewrite a character",
            ),
            (
                "a\u{30a}b",
                vec![entity(Bold, 0, 1)],
                "the server would rewrite a character",
            ),
            ("abc", vec![entity(Bold, 1, 0)], "an entity is empty"),
            (
                "abc",
                vec![entity(Bold, 1, 3)],
                "an entity ends behind the text",
            ),
            (
                "😀b",
                vec![entity(Bold, 0, 1)],
                "an entity parts a character",
            ),
            (
                "😀b",
                vec![entity(Bold, 1, 2)],
                "an entity parts a character",
            ),
            (
                "a b",
                vec![entity(Bold, 0, 2)],
                "the server would trim an entity",
            ),
            (
                "a b",
                vec![entity(Bold, 1, 2)],
                "the server would trim an entity",
            ),
            (
                "abc",
                vec![entity(Bold, 1, 1), entity(Italic, 0, 1)],
                "entities are not sorted",
            ),
            (
                "abc",
                vec![entity(Bold, 0, 2), entity(Italic, 1, 2)],
                "entities cross each other",
            ),
            (
                "abc",
                vec![entity(Bold, 0, 3), entity(Code, 1, 1)],
                "an entity may not lie in another",
            ),
            (
                "abc",
                vec![entity(pre(), 0, 3), entity(Bold, 1, 1)],
                "an entity may not lie in another",
            ),
            (
                "abc",
                vec![entity(Blockquote, 0, 3), entity(pre(), 1, 1)],
                "an entity may not lie in another",
            ),
            (
                "abc",
                vec![entity(Blockquote, 0, 3), entity(Blockquote, 1, 1)],
                "an entity may not lie in another",
            ),
            (
                "abc",
                vec![entity(link("https://a.com"), 0, 3), entity(Code, 0, 3)],
                "an entity may not lie in another",
            ),
            (
                "abc",
                vec![entity(link("http://localhost"), 0, 3)],
                "an address is refused",
            ),
            (
                "abc",
                vec![entity(link("javascript:x.y"), 0, 3)],
                "an address is refused",
            ),
            (
                "abc",
                vec![entity(link("https://a@b.com"), 0, 3)],
                "an address is refused",
            ),
        ] {
            assert_eq!(
                telegram::check(text, &entities),
                Err(why.into()),
                "{text:?} {entities:?}"
            );
        }
        let good = vec![entity(Bold, 0, 3), entity(Italic, 2, 1), entity(Code, 4, 1)];
        assert_eq!(telegram::check("😀b c", &good), Ok(()));
    }

    #[test]
    fn the_validator_of_slack_refuses() {
        let section = |text: &str| json!({"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": true}});
        let post = |text: &str| Post {
            text: text.into(),
            blocks: vec![section(text)],
        };
        for (text, why) in [
            (" ", "an empty text"),
            (&"x".repeat(3001), "a text is too long"),
            ("a & b", "a raw ampersand"),
            ("hey <!channel>", "a control sequence"),
            ("hey <@U1>", "a control sequence"),
            ("a > b", "a raw bracket"),
            ("a < b", "an open bracket"),
            ("<https://a.com|<!here>>", "a raw bracket"),
            ("```\nx", "a fence is open"),
        ] {
            assert_eq!(slack::check(&post(text)), Err(why.into()), "{text}");
        }
        let mut many = post("x");
        many.blocks = vec![section("x"); 51];
        assert!(slack::check(&many).is_err());
        let mut named = post("x");
        named.blocks[0]["text"]["verbatim"] = json!(false);
        assert!(slack::check(&named).is_err());
        assert_eq!(slack::check(&post("> <https://a.com|x> &amp; *y*")), Ok(()));
    }

    /// An answer of every kind, and long enough to be cut.
    fn author() -> Author {
        Author::new(7).write(60_000)
    }

    #[test]
    fn a_lost_character_is_noticed_wherever_it_was() {
        let author = author();
        let document = Document::read(&author.markdown, &to_telegram::RULES);
        let messages = to_telegram::render(&author.markdown);
        let texts: Vec<String> = messages.into_iter().map(|message| message.text).collect();
        assert!(texts.len() > 5);
        for (index, text) in texts.iter().enumerate() {
            for at in [
                0,
                text.floor_char_boundary(text.len() / 2),
                text.floor_char_boundary(text.len() - 1),
            ] {
                let mut with_loss = texts.clone();
                let lost = with_loss[index].remove(at);
                let parts = with_loss.iter().map(String::as_str);
                assert_eq!(check_loss(&document.text, parts).is_err(), !is_blank(lost));
            }
        }
        let swapped = texts.iter().rev().map(String::as_str);
        assert!(check_loss(&document.text, swapped).is_err());
        let without_one = document.text.replacen("q9z", "", 1);
        assert!(check_words(&author.words, &document.text).is_ok());
        assert!(check_words(&author.words, &without_one).is_err());
    }

    #[test]
    fn a_renderer_with_a_fault_is_noticed() {
        let author = author();
        let render = |markdown: &str, limit: &Limit| -> Vec<Message> {
            let document = Document::read(markdown, &to_telegram::RULES);
            let pieces = document.pieces(limit).into_iter();
            pieces.map(to_telegram::message).collect()
        };
        let right = to_telegram::LIMIT;
        let emoji = "😀 ".repeat(3_000);
        let dense = "**a** ".repeat(300);
        for (markdown, limit) in [
            (
                &author.markdown,
                Limit {
                    size: 4300,
                    ..right
                },
            ),
            (
                &emoji,
                Limit {
                    of_char: |_| 1,
                    ..right
                },
            ),
            (
                &dense,
                Limit {
                    spans: 101,
                    ..right
                },
            ),
        ] {
            assert_eq!(telegram::check_all(&render(markdown, &right)), Ok(()));
            assert!(telegram::check_all(&render(markdown, &limit)).is_err());
        }

        let mut anything = to_telegram::RULES;
        anything.links = |_| true;
        let document = Document::read("[x](http://localhost)", &anything);
        let messages = document
            .pieces(&right)
            .into_iter()
            .map(to_telegram::message);
        assert!(telegram::check_all(&messages.collect::<Vec<_>>()).is_err());

        let mut crossing = Document::read("**a** b _c_", &to_telegram::RULES);
        assert_eq!(check_document(&crossing), Ok(()));
        crossing.spans[0].range.end = crossing.text.len() - 1;
        crossing.spans[1].range.start = 0;
        assert!(check_document(&crossing).is_err());
    }

    #[test]
    fn slack_without_escapes_is_noticed() {
        let mut posts = to_slack::render("hey <!channel> & `<@U1>`");
        assert_eq!(slack::check_all(&posts), Ok(()));
        posts[0].text = posts[0].text.replace("&lt;", "<").replace("&gt;", ">");
        assert!(slack::check_all(&posts).is_err());
    }
}
