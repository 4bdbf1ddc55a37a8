//! What the server makes of a text and its formatting, before a message exists.
//!
//! Follows the real server's order (tdlib `get_formatted_text`, `fix_formatted_text`):
//!
//! | input | what happens |
//! |---|---|
//! | `entities` is not JSON | **ignored silently**, the text goes out plain |
//! | unknown entity type, missing field | 400 `can't parse MessageEntity: ...` |
//! | `mention`, `hashtag`, `url`, ... given by the bot | dropped, found anew by the server |
//! | `parse_mode` given | `entities` are ignored |
//! | more than 32,768 bytes of text | 400 `text is too long`, before any parsing |
//! | offset or length negative or over 1,000,000 | 400 `receive an entity with incorrect offset` |
//! | beyond the end, or inside a surrogate pair | 400 `entity begins ...` / `ends ...` |
//! | length 0 | dropped |
//! | overlapping | never refused: links and code that overlap lose the later one, bold and its like are cut and merged, and vanish inside code |
//! | `\r`, U+2028-U+202E, U+0333, U+033F, U+030A | **removed from the text** |
//! | other control characters, tab among them | become a space |
//! | leading and trailing blanks | trimmed |
//! | nothing left | 400 `text must be non-empty` |
//! | over 4,096 UTF-16 units after all that | 400 `message is too long` |
//! | entities over about 9,500 bytes in all | 400 `ENTITIES_TOO_LONG` |
//! | more than 100 entities | the rest is dropped silently |
//!
//! Offsets and lengths are UTF-16 code units throughout.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::markup;

/// Texts of messages, in UTF-16 units after parsing.
pub const MESSAGE_LIMIT: usize = 4096;
/// Captions, in UTF-16 units after parsing.
pub const CAPTION_LIMIT: usize = 1024;
/// The raw text that the server parses at all, in bytes.
const RAW_LIMIT: usize = 1 << 15;
/// Formatting beyond this many entities is dropped.
const ENTITY_LIMIT: usize = 100;
/// What all entities of a message may weigh (tdlib/telegram-bot-api#165).
const ENTITY_BYTES: usize = 9500;

/// What formatting an entity gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Kind {
    /// Bold.
    Bold,
    /// Italic.
    Italic,
    /// Underlined.
    Underline,
    /// Struck through.
    Strikethrough,
    /// Hidden until touched.
    Spoiler,
    /// Monospaced, inline.
    Code,
    /// A code block.
    Pre {
        /// Its language.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        language: String,
    },
    /// A link under a text.
    TextLink {
        /// Where it leads.
        url: String,
    },
    /// A mention of somebody without a username.
    TextMention {
        /// Who.
        user: Mentioned,
    },
    /// An emoji of a set.
    CustomEmoji {
        /// Which.
        custom_emoji_id: String,
    },
    /// A quotation.
    Blockquote,
    /// A quotation that is folded.
    ExpandableBlockquote,
    /// `/command`.
    BotCommand,
    /// `@name`.
    Mention,
    /// `#tag`.
    Hashtag,
    /// A bare address.
    Url,
}

/// Whom a `text_mention` means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mentioned {
    /// The user's number.
    pub id: i64,
    /// Their name, which the real server fills in.
    #[serde(default)]
    pub first_name: String,
    /// Whether it is a bot.
    #[serde(default)]
    pub is_bot: bool,
}

/// Formatting of a stretch of text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    /// What.
    #[serde(flatten)]
    pub kind: Kind,
    /// Where it begins, in UTF-16 units.
    pub offset: i64,
    /// How long it is, in UTF-16 units.
    pub length: i64,
}

impl Entity {
    /// An entity.
    pub fn new(kind: Kind, offset: i64, length: i64) -> Self {
        Self {
            kind,
            offset,
            length,
        }
    }

    /// Where it ends.
    pub fn end(&self) -> i64 {
        self.offset + self.length
    }

    fn is_splittable(&self) -> bool {
        use Kind::{Bold, Italic, Spoiler, Strikethrough, Underline};
        matches!(
            self.kind,
            Bold | Italic | Underline | Strikethrough | Spoiler
        )
    }

    fn is_pre(&self) -> bool {
        matches!(self.kind, Kind::Code | Kind::Pre { .. })
    }

    fn is_quote(&self) -> bool {
        matches!(self.kind, Kind::Blockquote | Kind::ExpandableBlockquote)
    }

    /// Whether it means something even over blanks.
    fn holds_data(&self) -> bool {
        self.is_pre() || matches!(self.kind, Kind::TextLink { .. } | Kind::TextMention { .. })
    }

    fn weight(&self) -> usize {
        // Constructor, offset and length, four bytes each, plus the strings.
        12 + match &self.kind {
            Kind::Pre { language } => language.len(),
            Kind::TextLink { url } => url.len(),
            _ => 0,
        }
    }
}

/// A text as it will stand in the chat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formatted {
    /// The text, cleaned and trimmed.
    pub text: String,
    /// Its formatting, in order.
    pub entities: Vec<Entity>,
}

/// How many UTF-16 units a text has.
pub fn utf16_len(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Parses and checks what a bot sends. `empty_is_fine` is for captions.
/// An error is the part of the description after `Bad Request: `.
pub fn format(
    text: &str,
    parse_mode: &str,
    entities: &str,
    limit: usize,
    empty_is_fine: bool,
) -> Result<Formatted, String> {
    if text.len() > RAW_LIMIT {
        return Err("text is too long".to_owned());
    }
    let mode = parse_mode.to_ascii_lowercase();
    let (text, entities) = match mode.as_str() {
        _ if text.is_empty() => (String::new(), Vec::new()),
        "" | "none" => (text.to_owned(), given(entities)?),
        "markdown" => parsed(markup::markdown(text))?,
        "markdownv2" => parsed(markup::markdown_v2(text))?,
        "html" => parsed(markup::html(text))?,
        _ => return Err("unsupported parse_mode".to_owned()),
    };
    let mut formatted = fix(&text, entities, empty_is_fine)?;
    if utf16_len(&formatted.text) > limit {
        let what = if limit == CAPTION_LIMIT {
            "message caption is too long"
        } else {
            "message is too long"
        };
        return Err(what.to_owned());
    }
    let weight: usize = formatted.entities.iter().map(Entity::weight).sum();
    if weight > ENTITY_BYTES {
        return Err("ENTITIES_TOO_LONG".to_owned());
    }
    formatted.entities.truncate(ENTITY_LIMIT);
    Ok(formatted)
}

/// The formatting of a text a person typed: only what the server finds by itself.
pub fn found_in(text: &str) -> Vec<Entity> {
    let mut entities = Vec::new();
    merge_found(text, &mut entities);
    entities
}

fn parsed(parsed: markup::Parsed) -> markup::Parsed {
    parsed.map_err(|e| format!("can't parse entities: {e}"))
}

/// Reads the `entities` parameter as the server does: garbage is no formatting at all.
fn given(json: &str) -> Result<Vec<Entity>, String> {
    let Ok(Value::Array(items)) = serde_json::from_str(json) else {
        return Ok(Vec::new());
    };
    let mut entities = Vec::new();
    for item in items {
        let entity = one_given(&item).map_err(|e| format!("can't parse MessageEntity: {e}"))?;
        entities.extend(entity);
    }
    Ok(entities)
}

fn one_given(item: &Value) -> Result<Option<Entity>, String> {
    let Value::Object(object) = item else {
        return Err("expected an Object".to_owned());
    };
    let offset = whole(object, "offset")?;
    let length = whole(object, "length")?;
    let kind = object.get("type").and_then(Value::as_str);
    let kind = kind.ok_or("Can't find field \"type\"")?;
    match kind {
        "mention" | "hashtag" | "cashtag" | "bot_command" | "url" | "email" | "phone_number"
        | "bank_card_number" => return Ok(None),
        "text_link" => {
            let url = object.get("url").and_then(Value::as_str);
            let url = url.ok_or("Can't find field \"url\"")?;
            if !markup::is_link(url) {
                return Err(format!("entity URL '{url}' is invalid"));
            }
        }
        _ => {}
    }
    let mut object = object.clone();
    object.retain(|_, value| !value.is_null());
    match serde_json::from_value(Value::Object(object)) {
        Ok(kind) => Ok(Some(Entity::new(kind, offset, length))),
        Err(_) => Err("Unsupported type specified".to_owned()),
    }
}

fn whole(object: &Map<String, Value>, field: &str) -> Result<i64, String> {
    let value = object.get(field);
    let value = value.ok_or_else(|| format!("Can't find field \"{field}\""))?;
    value
        .as_i64()
        .or_else(|| value.as_str()?.parse().ok())
        .ok_or_else(|| format!("Field \"{field}\" must be of type Number"))
}

/// Cleans, checks, untangles and trims.
fn fix(text: &str, mut entities: Vec<Entity>, empty_is_fine: bool) -> Result<Formatted, String> {
    for entity in &entities {
        if !(0..=1_000_000).contains(&entity.offset) {
            let offset = entity.offset;
            return Err(format!("receive an entity with incorrect offset {offset}"));
        }
        if !(0..=1_000_000).contains(&entity.length) {
            let length = entity.length;
            return Err(format!("receive an entity with incorrect length {length}"));
        }
    }
    entities.retain(|e| e.length > 0);
    untangle(&mut entities);
    let text = clean(text, &mut entities)?;
    drop_blank(&text, &mut entities);
    let (text, mut entities) = trim(&text, entities);
    if text.is_empty() {
        return match empty_is_fine {
            true => Ok(Formatted::default()),
            false => Err("text must be non-empty".to_owned()),
        };
    }
    untangle(&mut entities);
    merge_found(&text, &mut entities);
    Ok(Formatted { text, entities })
}

/// Removes and replaces characters, moving the entities along; refuses those that do not fit.
fn clean(text: &str, entities: &mut [Entity]) -> Result<String, String> {
    let mut cleaned = String::with_capacity(text.len());
    // For each UTF-16 unit of the input: its byte, and where it is in the output (nothing inside
    // of a pair).
    let mut places: Vec<(usize, Option<i64>)> = Vec::with_capacity(text.len() + 1);
    let mut at = 0;
    for (byte, c) in text.char_indices() {
        places.push((byte, Some(at)));
        if c.len_utf16() == 2 {
            places.push((byte + c.len_utf8(), None));
        }
        match c {
            '\r' | '\u{2028}'..='\u{202e}' | '\u{333}' | '\u{33f}' | '\u{30a}' => continue,
            '\n' => cleaned.push('\n'),
            '\0'..='\u{1f}' => cleaned.push(' '),
            _ => cleaned.push(c),
        }
        at += c.len_utf16() as i64;
    }
    places.push((text.len(), Some(at)));
    for entity in entities {
        let (offset, end) = (entity.offset, entity.end());
        let begin = match places.get(offset as usize) {
            Some((_, Some(place))) => *place,
            Some((byte, None)) => {
                return Err(format!(
                    "entity begins in a middle of a UTF-16 symbol at byte offset {byte}"
                ));
            }
            None => {
                return Err(format!(
                    "entity begins after the end of the text at UTF-16 offset {offset}"
                ));
            }
        };
        let ends = format!("entity beginning at UTF-16 offset {offset} ends");
        let finish = match places.get(end as usize) {
            Some((_, Some(place))) => *place,
            Some((byte, None)) => {
                return Err(format!(
                    "{ends} in a middle of a UTF-16 symbol at byte offset {byte}"
                ));
            }
            None => {
                return Err(format!(
                    "{ends} after the end of the text at UTF-16 offset {end}"
                ));
            }
        };
        entity.offset = begin;
        entity.length = finish - begin;
    }
    Ok(cleaned)
}

/// Entities over nothing but blanks go; the others do not begin with blanks, unless they hold data.
fn drop_blank(text: &str, entities: &mut Vec<Entity>) {
    let units: Vec<u16> = text.encode_utf16().collect();
    let blank = |at: i64| matches!(units.get(at as usize), Some(0x20 | 0x0a));
    entities.retain_mut(|entity| {
        if entity.holds_data() {
            return entity.length > 0;
        }
        while entity.length > 0 && blank(entity.offset) {
            entity.offset += 1;
            entity.length -= 1;
        }
        entity.length > 0
    });
    sort(entities);
}

fn trim(text: &str, mut entities: Vec<Entity>) -> (String, Vec<Entity>) {
    let blank = |c: char| c == ' ' || c == '\n';
    let text = text.trim_end_matches(blank);
    let end = utf16_len(text) as i64;
    entities.retain_mut(|entity| {
        entity.length = entity.end().min(end) - entity.offset;
        entity.length > 0
    });
    let first = entities.first().map_or(i64::MAX, |e| e.offset);
    let leading = text.chars().take_while(|c| blank(*c)).count() as i64;
    let cut = leading.min(first);
    for entity in &mut entities {
        entity.offset -= cut;
    }
    // Blanks are one byte and one unit each.
    (text[cut as usize..].to_owned(), entities)
}

fn sort(entities: &mut [Entity]) {
    entities.sort_by_key(|e| (e.offset, std::cmp::Reverse(e.length)));
}

/// Makes overlapping entities nest: what the server calls fixing them.
fn untangle(entities: &mut Vec<Entity>) {
    sort(entities);
    let (soft, hard): (Vec<_>, Vec<_>) = entities.drain(..).partition(Entity::is_splittable);
    let (quotes, solid): (Vec<_>, Vec<_>) = hard.into_iter().partition(Entity::is_quote);
    let quotes = without_overlaps(quotes);
    let mut solid = without_overlaps(solid);
    solid.retain(|e| {
        !quotes.iter().any(|q| {
            let crosses = e.offset < q.end() && q.offset < e.end();
            crosses && !(q.offset <= e.offset && e.end() <= q.end())
        })
    });
    let code: Vec<(i64, i64)> = solid
        .iter()
        .filter(|e| e.is_pre())
        .map(|e| (e.offset, e.end()))
        .collect();
    let mut borders: Vec<i64> = solid
        .iter()
        .chain(&quotes)
        .flat_map(|e| [e.offset, e.end()])
        .collect();
    borders.sort_unstable();
    let pieces = cut_soft(soft, &code, &borders);
    entities.extend(solid);
    entities.extend(quotes);
    entities.extend(pieces);
    sort(entities);
}

fn without_overlaps(entities: Vec<Entity>) -> Vec<Entity> {
    let mut end = 0;
    let mut kept = Vec::with_capacity(entities.len());
    for entity in entities {
        if entity.offset >= end {
            end = entity.end();
            kept.push(entity);
        }
    }
    kept
}

/// Merges soft entities of one kind, takes them out of code and cuts them at the borders of others.
fn cut_soft(soft: Vec<Entity>, code: &[(i64, i64)], borders: &[i64]) -> Vec<Entity> {
    let mut merged: Vec<Entity> = Vec::new();
    for entity in soft {
        let before = merged
            .iter_mut()
            .rev()
            .find(|m| m.kind == entity.kind && m.end() >= entity.offset);
        match before {
            Some(before) => before.length = before.end().max(entity.end()) - before.offset,
            None => merged.push(entity),
        }
    }
    let mut pieces = Vec::new();
    for entity in merged {
        let mut from = entity.offset;
        let inner = borders
            .iter()
            .copied()
            .filter(|b| entity.offset < *b && *b < entity.end());
        for to in inner.chain([entity.end()]) {
            let in_code = code.iter().any(|(a, b)| *a <= from && to <= *b);
            if to > from && !in_code {
                pieces.push(Entity::new(entity.kind.clone(), from, to - from));
            }
            from = to;
        }
    }
    pieces
}

/// Adds what the server finds by itself, where no link or code is.
fn merge_found(text: &str, entities: &mut Vec<Entity>) {
    for found in find(text) {
        let taken = entities.iter().any(|e| {
            !e.is_splittable() && !e.is_quote() && e.offset < found.end() && found.offset < e.end()
        });
        if !taken {
            entities.push(found);
        }
    }
    sort(entities);
}

fn find(text: &str) -> Vec<Entity> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut before = ' ';
    let mut at = 0_i64;
    let mut skip_to = 0_usize;
    for (byte, c) in text.char_indices() {
        if byte >= skip_to && !word(before) {
            let rest = &text[byte..];
            if let Some((kind, len)) = match_at(rest, before, word) {
                let length = utf16_len(&rest[..len]) as i64;
                found.push(Entity::new(kind, at, length));
                skip_to = byte + len;
            }
        }
        before = c;
        at += c.len_utf16() as i64;
    }
    found
}

fn match_at(rest: &str, before: char, word: impl Fn(char) -> bool) -> Option<(Kind, usize)> {
    let run = |from: usize| -> usize {
        let tail = &rest[from..];
        from + tail.find(|c| !word(c)).unwrap_or(tail.len())
    };
    match rest.as_bytes().first()? {
        b'/' if before != '/' && before != '<' && before != '>' => {
            let mut end = run(1);
            if end == 1 || end > 65 {
                return None;
            }
            if rest[end..].starts_with('@') && run(end + 1) > end + 1 {
                end = run(end + 1);
            }
            (!rest[end..].starts_with('/')).then_some((Kind::BotCommand, end))
        }
        b'@' => {
            let end = run(1);
            (5..=33).contains(&end).then_some((Kind::Mention, end))
        }
        b'#' => {
            let end = run(1);
            (end > 1).then_some((Kind::Hashtag, end))
        }
        b'h' if rest.starts_with("http://") || rest.starts_with("https://") => {
            let end = rest.find(|c: char| c.is_whitespace() || c == '<' || c == '"');
            let url = &rest[..end.unwrap_or(rest.len())];
            let url = url.trim_end_matches(['.', ',', ')', ';', ':', '!', '?', '\'']);
            url.contains('.').then_some((Kind::Url, url.len()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str, entities: &str) -> Result<Formatted, String> {
        format(text, "", entities, MESSAGE_LIMIT, false)
    }

    #[test]
    fn what_is_refused() {
        let cases = [
            (
                "hi",
                r#"[{"type":"bold","offset":0,"length":3}]"#,
                "ends after the end",
            ),
            (
                "hi",
                r#"[{"type":"bold","offset":3,"length":1}]"#,
                "begins after the end",
            ),
            (
                "😀",
                r#"[{"type":"bold","offset":1,"length":1}]"#,
                "begins in a middle",
            ),
            (
                "😀a",
                r#"[{"type":"bold","offset":0,"length":1}]"#,
                "ends in a middle",
            ),
            (
                "hi",
                r#"[{"type":"bold","offset":-1,"length":1}]"#,
                "incorrect offset -1",
            ),
            (
                "hi",
                r#"[{"type":"bold","offset":0,"length":-1}]"#,
                "incorrect length -1",
            ),
            (
                "hi",
                r#"[{"type":"loud","offset":0,"length":1}]"#,
                "Unsupported type",
            ),
            (
                "hi",
                r#"[{"type":"text_link","offset":0,"length":1}]"#,
                "Can't find field \"url\"",
            ),
            (" \n\t\r ", "", "text must be non-empty"),
        ];
        for (text, entities, why) in cases {
            let error = with(text, entities).unwrap_err();
            assert!(error.contains(why), "{text:?} {entities}: {error}");
        }
    }

    #[test]
    fn what_is_dropped_without_a_word() {
        for entities in [
            "not json",
            r#"[{"type":"bold","offset":0,"length":0}]"#,
            r#"[{"type":"mention","offset":0,"length":2}]"#,
        ] {
            assert_eq!(with("hi", entities).unwrap().entities, []);
        }
        let many: Vec<Value> = (0..150)
            .map(|i| serde_json::json!({"type": "bold", "offset": i * 2, "length": 1}))
            .collect();
        let many = Value::Array(many).to_string();
        assert_eq!(with(&"a ".repeat(150), &many).unwrap().entities.len(), 100);
    }

    #[test]
    fn characters_go_missing() {
        let formatted = with(
            "  a\r\nb\tc\u{202e}d  ",
            r#"[{"type":"bold","offset":5,"length":1}]"#,
        )
        .unwrap();
        assert_eq!(formatted.text, "a\nb cd");
        assert_eq!(formatted.entities, [Entity::new(Kind::Bold, 2, 1)]);
    }

    #[test]
    fn overlaps_become_nesting() {
        let entities = r#"[{"type":"bold","offset":0,"length":6},{"type":"code","offset":3,"length":6},
            {"type":"italic","offset":2,"length":6},{"type":"code","offset":8,"length":2}]"#;
        let entities = with("aaabbbcccddd", entities).unwrap().entities;
        assert_eq!(
            entities,
            [
                Entity::new(Kind::Bold, 0, 3),
                Entity::new(Kind::Italic, 2, 1),
                Entity::new(Kind::Code, 3, 6),
            ]
        );
    }

    #[test]
    fn limits_count_utf16_units() {
        assert!(with(&"😀".repeat(2048), "").is_ok());
        assert_eq!(
            with(&"😀".repeat(2049), "").unwrap_err(),
            "message is too long"
        );
        assert_eq!(
            with(&"я".repeat(16_385), "").unwrap_err(),
            "text is too long"
        );
        let links: Vec<Value> = (0..90)
            .map(|i| {
                serde_json::json!({"type": "text_link", "offset": i, "length": 1,
                "url": format!("https://example.com/{}", "x".repeat(90))})
            })
            .collect();
        let links = Value::Array(links).to_string();
        assert_eq!(
            with(&"a".repeat(90), &links).unwrap_err(),
            "ENTITIES_TOO_LONG"
        );
    }

    #[test]
    fn the_server_finds_some_by_itself() {
        let kinds = |text| -> Vec<(Kind, i64, i64)> {
            let found = found_in(text).into_iter();
            found.map(|e| (e.kind, e.offset, e.length)).collect()
        };
        assert_eq!(
            kinds("/start@the_bot 😀 @someone #tag see https://a.example/b."),
            [
                (Kind::BotCommand, 0, 14),
                (Kind::Mention, 18, 8),
                (Kind::Hashtag, 27, 4),
                (Kind::Url, 36, 19),
            ]
        );
        assert_eq!(kinds("a/b me@x @abc"), []);
    }
}
