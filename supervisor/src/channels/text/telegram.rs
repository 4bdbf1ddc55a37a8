//! An answer as messages of the Telegram Bot API: plain text with entities, which need no escaping
//! and cannot be malformed by what a model writes. To be sent without `parse_mode`.
//!
//! The rules are those of the Bot API ("Formatting options", `MessageEntity`, `sendMessage`) and,
//! where it is silent, of the server's own code (TDLib, `fix_formatted_text`): it makes spaces of
//! control characters, drops carriage returns, U+2028 to U+202E and three combining marks, trims
//! messages and entities, and takes addresses of entities only if their host has a dot. All of that
//! is done here beforehand, so that offsets are those of the message that arrives.
//!
//! A block of code that begins with an indented line loses that indentation: the server cuts it off
//! whatever is sent.

use serde::Serialize;

use super::{Document, Kind, Limit, Rules, cut, link};

/// Code units of UTF-16 in a message.
const UNITS: usize = 4096;
/// Entities in a message; the server ignores all further ones.
const ENTITIES: usize = 100;
/// An address that is longer is shown rather than linked.
const ADDRESS: usize = 2000;

pub(super) const RULES: Rules = Rules {
    links: can_link,
    tab: "    ",
    stripped: &['\u{30a}', '\u{333}', '\u{33f}'],
};
pub(super) const LIMIT: Limit = Limit {
    size: UNITS,
    spans: ENTITIES,
    of_char: char::len_utf16,
    of_span: |_| 0,
};

/// The body of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// What is shown: 1 to 4096 code units of UTF-16, something of it visible.
    pub text: String,
    /// How: at most 100, sorted, properly nested.
    pub entities: Vec<Entity>,
}

/// A styled part of a message, as `MessageEntity`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entity {
    /// The style.
    #[serde(flatten)]
    pub kind: EntityKind,
    /// Where it begins, in code units of UTF-16.
    pub offset: usize,
    /// How long it is, in code units of UTF-16.
    pub length: usize,
}

/// Kinds of entities that answers need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EntityKind {
    /// Bold text.
    Bold,
    /// Italic text.
    Italic,
    /// Struck text.
    Strikethrough,
    /// Monospaced text within a line.
    Code,
    /// A monospaced block.
    Pre {
        /// What its words are coloured by.
        #[serde(skip_serializing_if = "Option::is_none")]
        language: Option<String>,
    },
    /// Text that leads somewhere.
    TextLink {
        /// Where: `http` or `https`.
        url: String,
    },
    /// A quotation.
    Blockquote,
}

/// The messages for an answer, in the order to send them. None for an answer in which nothing is
/// visible.
pub fn render(markdown: &str) -> Vec<Message> {
    let document = Document::read(markdown, &RULES);
    document.pieces(&LIMIT).into_iter().map(message).collect()
}

/// The texts of the messages for a text as it is, if its rendering was refused: every character but
/// [blank](super::is_blank) ones, in order.
pub fn plain(text: &str) -> Vec<String> {
    let pieces = Document::plain(text).pieces(&LIMIT);
    let texts = pieces.into_iter().map(|piece| piece.text.trim().to_owned());
    texts.collect()
}

/// Addresses with a user before the host, and other schemes, are shown and not linked: `tg://user`
/// would notify somebody, and the server makes a wrong `http` address of `mailto:`.
fn can_link(url: &str) -> bool {
    url.len() <= ADDRESS && link::web_host(url).is_some_and(|host| host.contains('.'))
}

pub(super) fn message(piece: Document) -> Message {
    let Document { text, spans } = piece;
    let whole = cut::trimmed(&text, 0..text.len(), false);
    let units = units(&text);
    let unit = |at: usize| units.get(at).copied().unwrap_or_default();
    let entities = spans.into_iter().filter_map(|span| {
        let range = cut::trimmed(&text, span.range, false);
        let shown = text.get(range.clone())?;
        Some(Entity {
            kind: entity_kind(span.kind, shown)?,
            offset: unit(range.start) - unit(whole.start),
            length: unit(range.end) - unit(range.start),
        })
    });
    Message {
        entities: entities.collect(),
        text: text[whole].to_owned(),
    }
}

/// The kind of entity for a span. An address that is shown in full is found by the server.
fn entity_kind(kind: Kind, shown: &str) -> Option<EntityKind> {
    Some(match kind {
        Kind::Bold => EntityKind::Bold,
        Kind::Italic => EntityKind::Italic,
        Kind::Strike => EntityKind::Strikethrough,
        Kind::Code => EntityKind::Code,
        Kind::Pre(language) => EntityKind::Pre { language },
        Kind::Link(url) if url == shown => return None,
        Kind::Link(url) => EntityKind::TextLink { url },
        Kind::Quote => EntityKind::Blockquote,
    })
}

/// For each byte of a text at which a character begins, and for its end, the code units before it.
fn units(text: &str) -> Vec<usize> {
    let mut units = vec![0; text.len() + 1];
    let mut count = 0;
    for (at, c) in text.char_indices() {
        units[at] = count;
        count += c.len_utf16();
    }
    units[text.len()] = count;
    units
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::telegram::{check, check_all};
    use super::*;

    fn shown(markdown: &str) -> Value {
        let messages = render(markdown);
        check_all(&messages).unwrap();
        assert!(messages.len() <= 1, "{markdown}");
        json!(messages.first().map(|message| {
            let units: Vec<u16> = message.text.encode_utf16().collect();
            let entities = message.entities.iter().map(|entity| {
                let range = entity.offset..entity.offset + entity.length;
                let mut entity = serde_json::to_value(entity).unwrap();
                let map = entity.as_object_mut().unwrap();
                map.remove("offset");
                map.remove("length");
                let mut told = vec![map.remove("type").unwrap()];
                told.push(json!(String::from_utf16(&units[range]).unwrap()));
                told.extend(map.values().cloned());
                told
            });
            (&message.text, entities.collect::<Vec<_>>())
        }))
    }

    #[test]
    fn markdown_becomes_text_and_entities() {
        for (markdown, text, entities) in [
            ("plain", "plain", json!([])),
            ("# Head\nbody", "Head\n\nbody", json!([["bold", "Head"]])),
            (
                "**b _i_** ~~s~~ `c`",
                "b i s c",
                json!([
                    ["bold", "b i"],
                    ["italic", "i"],
                    ["strikethrough", "s"],
                    ["code", "c"]
                ]),
            ),
            (
                "**a `c` d**",
                "a c d",
                json!([["bold", "a"], ["code", "c"], ["bold", "d"]]),
            ),
            (
                "## The **very** `x`",
                "The very x",
                json!([["bold", "The very"], ["code", "x"]]),
            ),
            (
                "**two\nlines**",
                "two\nlines",
                json!([["bold", "two"], ["bold", "lines"]]),
            ),
            (
                "- a\n- b\n  1. c\n  2. d\n     - e\n- f",
                "• a\n• b\n  1. c\n  2. d\n    • e\n• f",
                json!([]),
            ),
            ("3. a\n4. b", "3. a\n4. b", json!([])),
            ("- [ ] a\n- [x] b", "☐ a\n☑ b", json!([])),
            ("- a\n\n  more\n- b", "• a\n\n  more\n\n• b", json!([])),
            ("- - a", "• • a", json!([])),
            (
                "```rust\nfn a() {}\n\n\tb\n```",
                "fn a() {}\n\n    b",
                json!([["pre", "fn a() {}\n\n    b", "rust"]]),
            ),
            ("```\nopen", "open", json!([["pre", "open"]])),
            (
                "```py title=\"x\"\na\n```",
                "a",
                json!([["pre", "a", "py"]]),
            ),
            ("```\n```", "", Value::Null),
            (
                "| a | bb |\n|---|--:|\n| 日本 | 1 |\n| x |",
                "a    | bb\n-----|---\n日本 |  1\nx",
                json!([["pre", "a    | bb\n-----|---\n日本 |  1\nx"]]),
            ),
            (
                "> q **b**\n> `c`\n\nafter",
                "q b\nc\n\nafter",
                json!([["blockquote", "q b\nc"], ["bold", "b"], ["code", "c"]]),
            ),
            (
                "> a\n> > b\n> ```\n> c\n> ```\n> d",
                "a\n\nb\n\nc\n\nd",
                json!([["blockquote", "a\n\nb"], ["pre", "c"], ["blockquote", "d"]]),
            ),
            (
                "> [!WARNING]\n> hot",
                "Warning\n\nhot",
                json!([["blockquote", "Warning\n\nhot"], ["bold", "Warning"]]),
            ),
            (
                "[here](https://a.com) ![pic](https://a.com/p.png)",
                "here pic",
                json!([
                    ["text_link", "here", "https://a.com"],
                    ["text_link", "pic", "https://a.com/p.png"]
                ]),
            ),
            (
                "[![alt](https://a.com/i.png)](https://b.com) ![](https://a.com/i.png)",
                "alt image",
                json!([
                    ["text_link", "alt", "https://b.com"],
                    ["text_link", "image", "https://a.com/i.png"]
                ]),
            ),
            (
                "[`c`](https://a.com)",
                "c",
                json!([["text_link", "c", "https://a.com"]]),
            ),
            (
                "[https://bank.com](https://evil.com)",
                "https://bank.com (https://evil.com)",
                json!([["text_link", "https://bank.com", "https://evil.com"]]),
            ),
            (
                "[a](docs/x.md) [b](http://localhost:80) [c](mailto:x@y.z) [d](tg://user?id=1) [e](#f)",
                "a (docs/x.md) b (http://localhost:80) c (x@y.z) d (tg://user?id=1) e",
                json!([]),
            ),
            (
                "[a](https://bank.com@evil.com)",
                "a (https://bank.com@evil.com)",
                json!([]),
            ),
            (
                "<https://a.com/x> https://a.com/y <x@y.zz>",
                "https://a.com/x https://a.com/y x@y.zz",
                json!([]),
            ),
            ("[](https://a.com)", "https://a.com", json!([])),
            (
                "a<br>b <b>c</b> Vec<String>",
                "a\nb c Vec<String>",
                json!([]),
            ),
            (
                "<details>\n<summary>S</summary>\n\nx\n</details>",
                "S\n\nx",
                json!([]),
            ),
            (
                "a\u{0}\u{7}b\u{202e}c\u{30a}d&#x2028;e",
                "a  bcd e",
                json!([]),
            ),
            ("😀 **x** 🇩🇪 y_z_", "😀 x 🇩🇪 y_z_", json!([["bold", "x"]])),
            ("x[^1]\n\n[^1]: note", "x[1]\n\n[1] note", json!([])),
            ("a\n\n---\n\nb", "a\n\n————————\n\nb", json!([])),
            ("", "", Value::Null),
            (" \n\u{200b}\u{feff}\n", "", Value::Null),
        ] {
            let expected = match entities {
                Value::Null => Value::Null,
                entities => json!([text, entities]),
            };
            assert_eq!(shown(markdown), expected, "{markdown}");
        }
    }

    #[test]
    fn names_are_those_of_the_bot_api() {
        let messages = render("x [a](https://b.com)\n```rust\nc\n```\n```\nd\n```");
        assert_eq!(
            json!(messages[0].entities),
            json!([
                {"type": "text_link", "url": "https://b.com", "offset": 2, "length": 1},
                {"type": "pre", "language": "rust", "offset": 5, "length": 1},
                {"type": "pre", "offset": 8, "length": 1},
            ])
        );
    }

    #[test]
    fn messages_end_at_the_best_border() {
        let long = "word ".repeat(500);
        let code = |lines: usize| format!("```c\n{}```", "line of code();\n".repeat(lines));
        let ends = |markdown: &str| {
            let messages = render(markdown);
            check_all(&messages).unwrap();
            let texts = messages.iter().map(|message| message.text.clone());
            texts.collect::<Vec<_>>()
        };
        // Between paragraphs, though more words would fit.
        let texts = ends(&format!("{long}\n\n{long}"));
        assert_eq!(texts, vec![long.trim(); 2]);
        // A block of code that fits into a message goes there as a whole.
        let texts = ends(&format!("{}\n\n{}", &long[..1500], code(200)));
        assert_eq!(texts[0], long[..1500].trim());
        // A longer one goes on as a block of code.
        let messages = render(&code(600));
        assert_eq!(messages.len(), 3);
        for message in &messages {
            assert!(message.text.ends_with("line of code();"));
            assert_eq!(message.entities.len(), 1);
            assert_eq!(message.entities[0].length, message.text.len());
        }
        // Between words, then between what is seen as one character.
        assert!(
            ends(&"word ".repeat(2000))
                .iter()
                .all(|text| text.ends_with("word"))
        );
        let family = "👩‍👩‍👧‍👦";
        let texts = ends(&family.repeat(1000));
        assert!(texts.len() > 1);
        assert!(texts.iter().all(|text| text.len() % family.len() == 0));
        // And in the end anywhere.
        assert_eq!(ends(&"\u{301}".repeat(5000)).len(), 2);
    }

    #[test]
    fn a_message_has_a_hundred_entities_at_most_and_none_is_dropped() {
        let messages = render(&"**a** `b` ".repeat(300));
        check_all(&messages).unwrap();
        let counts: Vec<usize> = messages
            .iter()
            .map(|message| message.entities.len())
            .collect();
        assert_eq!(counts, [100; 6]);
    }

    #[test]
    fn plain_texts_lose_nothing() {
        let text = "# **a**\u{30a} <b>\u{202e} [x](y)\n\n".repeat(1000);
        let texts = plain(&text);
        assert!(texts.len() > 1);
        for text in &texts {
            check(text, &[]).unwrap();
        }
        let visible = |text: &str| text.replace(super::super::is_blank, "");
        assert_eq!(visible(&texts.concat()), visible(&text));
        assert!(plain(" \u{0}\u{200b}\n").is_empty());
        assert_eq!(plain("a\u{0}b"), ["a b"]);
    }
}
