//! What fits the window: the messages of a request, shortened where they must be. Pure, and no part
//! of a step's identity, so it may become better without stranding a run.

use shared::model::{Message, ModelRequest, estimate_tokens};

/// The longest tool result that a model is shown, in bytes. Tools say how to read on.
const RESULT_BYTES: usize = 24 * 1024;
/// What is left of an older result when the window is full.
const OLD_RESULT_BYTES: usize = 400;

/// Shortens a text to at most `bytes`, keeping its head and its tail and saying what is missing.
pub fn head_and_tail(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let head = floor_char(text, bytes * 3 / 4);
    let tail = ceil_char(text, text.len() - bytes / 4);
    let missing = tail - head;
    format!(
        "{}\n[… {missing} bytes left out …]\n{}",
        &text[..head],
        &text[tail..]
    )
}

/// A tool's result as a model is shown it.
pub fn shown(result: &str) -> String {
    head_and_tail(result, RESULT_BYTES)
}

/// Makes a request fit into `context_tokens` with its reply: shortens the oldest tool results first,
/// and never the system prompt, the task, or the last two results. Returns false where even that
/// does not make it fit.
pub fn fit(request: &mut ModelRequest, context_tokens: u32) -> bool {
    let room = u64::from(context_tokens.saturating_sub(request.max_tokens));
    let results: Vec<usize> = request
        .messages
        .iter()
        .enumerate()
        .filter(|(_, message)| matches!(message, Message::Tool { .. }))
        .map(|(index, _)| index)
        .collect();
    let shortenable = results.len().saturating_sub(2);
    for index in &results[..shortenable] {
        if estimate_tokens(request) <= room {
            return true;
        }
        if let Message::Tool { text, .. } = &mut request.messages[*index] {
            *text = head_and_tail(text, OLD_RESULT_BYTES);
        }
    }
    estimate_tokens(request) <= room
}

fn floor_char(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn ceil_char(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_both_ends_and_says_what_is_missing() {
        let text = format!("begin{}end", "ü".repeat(1000));
        let short = head_and_tail(&text, 100);
        assert!(short.starts_with("begin") && short.ends_with("end"));
        assert!(short.contains("bytes left out"));
        assert!(short.len() < 150);
        assert_eq!(head_and_tail("short", 100), "short");
    }

    #[test]
    fn the_oldest_results_give_way_first() {
        let tool = |n: usize| Message::Tool {
            call: n.to_string(),
            text: format!("{n} {}", "x".repeat(6000)),
        };
        let mut request = ModelRequest {
            messages: std::iter::once(Message::System { text: "s".into() })
                .chain((0..4).map(tool))
                .collect(),
            tools: Vec::new(),
            output: None,
            max_tokens: 100,
        };
        assert!(fit(&mut request, 6_400));
        let lens: Vec<usize> = request.messages.iter().map(Message::len).collect();
        assert!(
            lens[1] < 600 && lens[3] > 6000 && lens[4] > 6000,
            "{lens:?}"
        );
        assert!(!fit(&mut request, 200));
    }
}
