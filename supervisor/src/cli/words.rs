//! How numbers, times, states, tables and listings are written for people.

use shared::disguise;
use shared::id::{AskId, TaskId};
use shared::task::TaskState;
use std::borrow::Cow;

/// The longest piece of somebody else's text in one line.
const LINE: usize = 160;

/// `1 step`, `2 steps`.
pub fn count(number: u64, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {noun}{s}", self::number(number))
}

/// `1,234,567`.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A listing on stdout: as JSON, or as a table of what is at this time, in milliseconds; where it is empty, a
/// word on stderr.
pub fn list<T: serde::Serialize>(
    all: &[T],
    json: bool,
    nothing: &str,
    table: impl FnOnce(&[T], i64) -> String,
) -> serde_json::Result<()> {
    match json {
        true => say(serde_json::to_string_pretty(all)?),
        false if all.is_empty() => eprintln!("{nothing}"),
        false => say(table(all, shared::clock::now().0).trim_end()),
    }
    Ok(())
}

/// `12 ms`, `1.2 s`, `3 min 5 s`.
pub fn ms(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1e3),
        _ => format!("{} min {} s", ms / 60_000, ms / 1_000 % 60),
    }
}

/// How long ago, in one unit.
pub fn age(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Dollars, to the billionth where it matters.
pub fn usd(dollars: f64) -> String {
    shared::money::Usd::from_nano(nano(dollars)).to_string()
}

/// Dollars of a view as the exact amount that they were made from.
pub fn nano(dollars: f64) -> i64 {
    (dollars * 1e9).round() as i64
}

/// A state in a word or two.
pub fn state(state: TaskState) -> &'static str {
    match state {
        TaskState::AwaitingHuman => "awaits a person",
        state => state.as_str(),
    }
}

/// A task's id as people type it: its last characters, because the first ones are its time.
pub fn short(task: TaskId) -> String {
    let id = task.0.simple().to_string();
    id[id.len() - 8..].to_owned()
}

/// An ask's id as people type it: its first characters.
pub fn short_ask(ask: AskId) -> String {
    let mut id = ask.0.simple().to_string();
    id.truncate(8);
    id
}

/// Text by others as a terminal may be given it: nothing in it moves the cursor, changes colours or
/// turns the direction of reading, and nothing unseen tells apart what looks alike. Line breaks and tabs stay.
pub fn plain(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| matches!(c, '\n' | '\t') || !disguise::in_text(c);
    spelled(text, harmless)
}

/// A name by others as it may be shown anywhere: one line, and no two names look alike.
pub fn name(name: &str) -> Cow<'_, str> {
    spelled(name, |c| !disguise::in_name(c))
}

/// The text, with all that is not harmless in it by number.
fn spelled(text: &str, harmless: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(&harmless) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| match harmless(c) {
        true => c.to_string(),
        false => c.escape_unicode().to_string(),
    };
    Cow::Owned(text.chars().map(shown).collect())
}

/// Text in one line, cut where it is long.
pub fn line(text: &str) -> String {
    cut(
        &plain(text).split_whitespace().collect::<Vec<_>>().join(" "),
        LINE,
    )
}

/// At most so many characters.
pub fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// Columns as wide as their widest cell; those named in `right` are aligned to the right.
pub fn table(head: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let head = head.iter().map(|cell| (*cell).to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&head).chain(rows).collect();
    let width = |column: usize| {
        let cells = all.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in &all {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column);
            match right.contains(&column) {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Prints a line of results. A reader that has gone away, as `head` does, has read enough.
pub fn say(line: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// An amount of dollars, as somebody types it.
pub fn dollars(text: &str) -> Result<f64, String> {
    match text.trim_start_matches('$').parse::<f64>() {
        Ok(usd) if usd.is_finite() && usd > 0.0 => Ok(usd),
        _ => Err("must be an amount above 0, such as 0.25".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_command_the_terminal() {
        assert_eq!(plain("two\nlines\tä"), "two\nlines\tä");
        let odd = plain("a\u{1b}[31mb\u{9b}c\u{202e}d\r\u{7}");
        assert!(
            !odd.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\r', '\u{7}']),
            "{odd}"
        );
        assert_eq!(plain("a\u{200b}b"), "a\\u{200b}b");
        assert_eq!(name("a\n\u{200d}b.md"), "a\\u{a}\\u{200d}b.md");
        assert!(odd.contains("[31mb") && odd.contains("\\u{1b}"), "{odd}");
    }

    #[test]
    fn amounts_read_well() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(number),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!([7, 1_234, 185_000].map(ms), ["7 ms", "1.2 s", "3 min 5 s"]);
        assert_eq!(
            [-5, 59_000, 61_000, 7_200_000, 200_000_000].map(age),
            ["0s", "59s", "1m", "2h", "2d"]
        );
        assert_eq!(
            [count(1, "step"), count(1_200, "step")],
            ["1 step", "1,200 steps"]
        );
        assert_eq!(usd(0.1 + 0.2), "$0.3000");
    }

    #[test]
    fn long_text_is_cut_and_line_breaks_go() {
        assert_eq!(line("a\n  b"), "a b");
        assert_eq!(cut("äöüß", 4), "äöüß");
        assert_eq!(cut("äöüßx", 4), "äöü…");
    }

    #[test]
    fn tables_are_aligned() {
        let rows = vec![
            vec!["a".into(), "1".into()],
            vec!["bcd".into(), "100".into()],
        ];
        assert_eq!(
            table(&["name", "n"], &rows, &[1]),
            "name    n\na       1\nbcd   100\n"
        );
    }
}
