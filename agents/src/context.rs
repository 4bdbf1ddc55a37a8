//! What fits the window: the messages of a request, shortened where they must be. Pure, and no part
//! of a step's identity, so it may become better without stranding a run.

use shared::model::{Message, ModelRequest};

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

/// Makes a request meet `fits`: shortens the oldest tool results first, one after the other, and never
/// the system prompt, the task, or the last `whole` results. Returns false where even that does not
/// make it fit.
pub fn fit(request: &mut ModelRequest, whole: usize, fits: impl Fn(&ModelRequest) -> bool) -> bool {
    let results: Vec<usize> = request
        .messages
        .iter()
        .enumerate()
        .filter(|(_, message)| matches!(message, Message::Tool { .. }))
        .map(|(index, _)| index)
        .collect();
    let shortenable = results.len().saturating_sub(whole);
    for index in &results[..shortenable] {
        if fits(request) {
            return true;
        }
        if let Message::Tool { text, .. } = &mut request.messages[*index] {
            *text = head_and_tail(text, OLD_RESULT_BYTES);
        }
    }
    fits(request)
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
    use shared::model::estimate_tokens;

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
        let within = |tokens| move |request: &ModelRequest| estimate_tokens(request) <= tokens;
        assert!(fit(&mut request, 2, within(6_300)));
        let lens: Vec<usize> = request.messages.iter().map(Message::len).collect();
        assert!(
            lens[1] < 600 && lens[3] > 6000 && lens[4] > 6000,
            "{lens:?}"
        );
        assert!(!fit(&mut request, 2, within(100)));
        assert!(fit(&mut request, 0, within(1_000)));
    }
}
