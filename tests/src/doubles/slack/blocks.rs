//! Block Kit, as far as Slack checks it before it takes a message.
//!
//! From the reference of blocks and objects: 50 blocks, 3,000 characters in a section, 150 in a
//! header, 2,000 in a field, 75 on a button. What does not fit is `invalid_blocks`, with the place in
//! `response_metadata.messages`; what is no array of blocks is `invalid_blocks_format`.

use std::collections::BTreeSet;

use serde_json::Value;

/// Blocks in a message.
const IN_MESSAGE: usize = 50;
/// Characters of all `markdown` blocks of a message together.
const MARKDOWN_CHARS: usize = 12_000;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// `error`.
    pub error: &'static str,
    /// `response_metadata.messages`.
    pub messages: Vec<String>,
}

fn wrong(what: &str, place: &str) -> Wrong {
    Wrong {
        error: "invalid_blocks",
        messages: vec![format!("[ERROR] {what} [json-pointer:/blocks{place}]")],
    }
}

/// Checks the blocks of a message; answers them as an array.
pub fn check(blocks: &Value) -> Result<Vec<Value>, Wrong> {
    let Some(blocks) = blocks.as_array() else {
        return Err(Wrong {
            error: "invalid_blocks_format",
            messages: Vec::new(),
        });
    };
    if blocks.len() > IN_MESSAGE {
        return Err(wrong("no more than 50 items allowed", ""));
    }
    let mut ids = BTreeSet::new();
    let mut markdown = 0;
    for (i, block) in blocks.iter().enumerate() {
        let place = format!("/{i}");
        if let Some(id) = block["block_id"].as_str() {
            if id.len() > 255 {
                return Err(wrong(
                    "must be less than 256 characters",
                    &format!("{place}/block_id"),
                ));
            }
            if !ids.insert(id) {
                return Err(wrong(
                    "`block_id` already exists",
                    &format!("{place}/block_id"),
                ));
            }
        }
        if block["type"] == "markdown" {
            markdown += chars(&block["text"]);
        }
        check_one(block, &place)?;
    }
    if markdown > MARKDOWN_CHARS {
        return Err(Wrong {
            error: "msg_blocks_too_long",
            messages: Vec::new(),
        });
    }
    Ok(blocks.clone())
}

fn check_one(block: &Value, place: &str) -> Result<(), Wrong> {
    match block["type"].as_str() {
        Some("section") => section(block, place),
        Some("header") => text(
            &block["text"],
            &["plain_text"],
            150,
            &format!("{place}/text"),
        ),
        Some("context") => context(block, place),
        Some("actions") => actions(block, place),
        Some("markdown") => bounded(&block["text"], MARKDOWN_CHARS, &format!("{place}/text")),
        Some("image") => bounded(&block["alt_text"], 2000, &format!("{place}/alt_text")),
        Some("divider" | "rich_text" | "input" | "file" | "video" | "table") => Ok(()),
        _ => Err(wrong("unsupported type", &format!("{place}/type"))),
    }
}

fn section(block: &Value, place: &str) -> Result<(), Wrong> {
    const KINDS: [&str; 2] = ["mrkdwn", "plain_text"];
    let fields = block["fields"].as_array();
    if block["text"].is_null() && fields.is_none() {
        return Err(wrong("missing required field: text or fields", place));
    }
    if !block["text"].is_null() {
        text(&block["text"], &KINDS, 3000, &format!("{place}/text"))?;
    }
    let fields = fields.map_or(&[][..], Vec::as_slice);
    if fields.len() > 10 {
        return Err(wrong(
            "no more than 10 items allowed",
            &format!("{place}/fields"),
        ));
    }
    for (i, field) in fields.iter().enumerate() {
        text(field, &KINDS, 2000, &format!("{place}/fields/{i}"))?;
    }
    if block["accessory"]["type"] == "button" {
        button(&block["accessory"], &format!("{place}/accessory"))?;
    }
    Ok(())
}

fn context(block: &Value, place: &str) -> Result<(), Wrong> {
    let place = format!("{place}/elements");
    let elements = items(&block["elements"], 10, &place)?;
    for (i, element) in elements.iter().enumerate() {
        if element["type"] != "image" {
            text(
                element,
                &["mrkdwn", "plain_text"],
                2000,
                &format!("{place}/{i}"),
            )?;
        }
    }
    Ok(())
}

fn actions(block: &Value, place: &str) -> Result<(), Wrong> {
    let place = format!("{place}/elements");
    let mut ids = BTreeSet::new();
    for (i, element) in items(&block["elements"], 25, &place)?.iter().enumerate() {
        let place = format!("{place}/{i}");
        if element["type"] == "button" {
            button(element, &place)?;
        }
        let id = element["action_id"].as_str();
        if id.is_some_and(|id| !ids.insert(id)) {
            return Err(wrong("`action_id` already exists", &place));
        }
    }
    Ok(())
}

fn button(button: &Value, place: &str) -> Result<(), Wrong> {
    text(
        &button["text"],
        &["plain_text"],
        75,
        &format!("{place}/text"),
    )?;
    for (field, limit) in [("value", 2000), ("action_id", 255), ("url", 3000)] {
        if chars(&button[field]) > limit {
            let what = format!("must be less than {} characters", limit + 1);
            return Err(wrong(&what, &format!("{place}/{field}")));
        }
    }
    Ok(())
}

fn items<'a>(value: &'a Value, limit: usize, place: &str) -> Result<&'a [Value], Wrong> {
    match value.as_array() {
        None => Err(wrong("missing required field: elements", place)),
        Some(items) if items.is_empty() => Err(wrong("must have at least 1 item", place)),
        Some(items) if items.len() > limit => {
            Err(wrong(&format!("no more than {limit} items allowed"), place))
        }
        Some(items) => Ok(items),
    }
}

/// A text object of one of these types.
fn text(object: &Value, kinds: &[&str], limit: usize, place: &str) -> Result<(), Wrong> {
    let kind = object["type"].as_str().unwrap_or_default();
    if !kinds.contains(&kind) {
        return Err(wrong("unsupported type", &format!("{place}/type")));
    }
    bounded(&object["text"], limit, &format!("{place}/text"))
}

fn bounded(text: &Value, limit: usize, place: &str) -> Result<(), Wrong> {
    match chars(text) {
        0 => Err(wrong("must be more than 0 characters", place)),
        n if n > limit => {
            let what = format!("must be less than {} characters", limit + 1);
            Err(wrong(&what, place))
        }
        _ => Ok(()),
    }
}

fn chars(text: &Value) -> usize {
    text.as_str().map_or(0, |t| t.chars().count())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits() {
        let section =
            |text: &str| json!({"type": "section", "text": {"type": "mrkdwn", "text": text}});
        assert!(check(&json!([section(&"x".repeat(3000))])).is_ok());
        let long = check(&json!([section("a"), section(&"x".repeat(3001))])).unwrap_err();
        assert_eq!(
            long.messages,
            ["[ERROR] must be less than 3001 characters [json-pointer:/blocks/1/text/text]"]
        );
        let many: Vec<Value> = (0..51).map(|_| json!({"type": "divider"})).collect();
        assert!(check(&json!(many[..50])).is_ok());
        assert_eq!(check(&json!(many)).unwrap_err().error, "invalid_blocks");
        for bad in [
            json!([section("")]),
            json!([{"type": "section"}]),
            json!([{"type": "marquee"}]),
            json!([{"type": "actions", "elements": []}]),
            json!([{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}]),
            json!([{"type": "divider", "block_id": "a"}, {"type": "divider", "block_id": "a"}]),
            json!([{"type": "actions", "elements": [
                {"type": "button", "text": {"type": "plain_text", "text": "x".repeat(76)}}]}]),
        ] {
            assert_eq!(check(&bad).unwrap_err().error, "invalid_blocks", "{bad}");
        }
        assert_eq!(
            check(&json!({})).unwrap_err().error,
            "invalid_blocks_format"
        );
    }
}
