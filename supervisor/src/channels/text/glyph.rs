//! What a character looks like, as far as cutting text and aligning tables must know: whether it is
//! seen, whether it belongs to the one before it, how wide it is. Ranges of Unicode by hand, in the
//! blocks that chats are made of; for scripts beyond them a cut may part a letter from its mark, and
//! never a character.

use std::ops::RangeInclusive;

/// Marks that are drawn onto the character before them.
const MARKS: &[RangeInclusive<char>] = &[
    '\u{0300}'..='\u{036f}',
    '\u{0483}'..='\u{0489}',
    '\u{0591}'..='\u{05c7}',
    '\u{0610}'..='\u{061a}',
    '\u{064b}'..='\u{065f}',
    '\u{0670}'..='\u{0670}',
    '\u{06d6}'..='\u{06ed}',
    '\u{0900}'..='\u{0903}',
    '\u{093a}'..='\u{094f}',
    '\u{0e31}'..='\u{0e31}',
    '\u{0e34}'..='\u{0e3a}',
    '\u{0e47}'..='\u{0e4e}',
    '\u{1ab0}'..='\u{1aff}',
    '\u{1dc0}'..='\u{1dff}',
    '\u{200d}'..='\u{200d}',
    '\u{20d0}'..='\u{20ff}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{fe20}'..='\u{fe2f}',
    '\u{1f3fb}'..='\u{1f3ff}',
    '\u{e0020}'..='\u{e007f}',
    '\u{e0100}'..='\u{e01ef}',
];

/// Characters that take two columns of a monospaced font.
const WIDE: &[RangeInclusive<char>] = &[
    '\u{1100}'..='\u{115f}',
    '\u{2e80}'..='\u{303e}',
    '\u{3041}'..='\u{a4cf}',
    '\u{ac00}'..='\u{d7a3}',
    '\u{f900}'..='\u{faff}',
    '\u{fe30}'..='\u{fe6f}',
    '\u{ff00}'..='\u{ff60}',
    '\u{ffe0}'..='\u{ffe6}',
    '\u{1f300}'..='\u{1f64f}',
    '\u{1f680}'..='\u{1f6ff}',
    '\u{1f900}'..='\u{1faff}',
    '\u{20000}'..='\u{3fffd}',
];

/// What Telegram counts as nothing beside white space; a message of these alone is refused.
const UNSEEN: &[RangeInclusive<char>] = &[
    '\u{180e}'..='\u{180e}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2800}'..='\u{2800}',
    '\u{feff}'..='\u{feff}',
    '\u{fffc}'..='\u{fffc}',
    '\u{e0000}'..='\u{e007f}',
];

/// Flags are pairs of these.
const REGIONAL: RangeInclusive<char> = '\u{1f1e6}'..='\u{1f1ff}';

/// Whether nothing is seen of a character: white space, controls, and what has no width at all.
pub fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control() || within(UNSEEN, c)
}

/// Columns in a monospaced font.
pub(super) fn width(text: &str) -> usize {
    let of = |c: char| match c {
        ' '..='~' => 1,
        c if within(MARKS, c) || is_blank(c) && !c.is_whitespace() => 0,
        c if within(WIDE, c) => 2,
        _ => 1,
    };
    text.chars().map(of).sum()
}

/// Walks along a text and says where what is seen as one character ends.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    before: Option<char>,
    flag: bool,
}

impl Clusters {
    /// Takes the next character. True if a new cluster begins with it.
    pub(super) fn begins(&mut self, c: char) -> bool {
        let pairs = REGIONAL.contains(&c) && self.flag;
        self.flag = REGIONAL.contains(&c) && !pairs;
        let joined = matches!((self.before, c), (Some('\u{200d}'), _) | (Some('\r'), '\n'));
        self.before = Some(c);
        !(pairs || joined || within(MARKS, c))
    }
}

fn within(ranges: &[RangeInclusive<char>], c: char) -> bool {
    // Nearly all text is ASCII, and none of the ranges is.
    !c.is_ascii() && ranges.iter().any(|range| range.contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clusters(text: &str) -> usize {
        let mut clusters = Clusters::default();
        text.chars().filter(|c| clusters.begins(*c)).count()
    }

    #[test]
    fn clusters_are_what_is_seen_as_one() {
        for (text, count) in [
            ("abc", 3),
            ("e\u{301}a", 2),
            ("👩‍👩‍👧‍👦", 1),
            ("👍🏽👍", 2),
            ("🇩🇪🇫🇷", 2),
            ("🇩🇪🇫", 2),
            ("1\u{fe0f}\u{20e3}", 1),
            ("❤️x", 2),
            ("🏴\u{e0067}\u{e0062}\u{e007f}", 1),
        ] {
            assert_eq!(clusters(text), count, "{text}");
        }
    }

    #[test]
    fn widths_are_columns() {
        for (text, columns) in [("abc", 3), ("日本", 4), ("e\u{301}", 1), ("👍🏽", 2), ("", 0)]
        {
            assert_eq!(width(text), columns, "{text}");
        }
    }
}
