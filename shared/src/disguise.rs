//! Characters that disguise the text around them: controls, which move a terminal's cursor; what turns
//! the direction of reading, so that `exe.txt` stands there and `txt.exe` is meant; and what has no width,
//! so that two names look alike and are not. Pure. What becomes of them (left out, shown by number,
//! refused) is for whoever shows or takes the text.

/// Whether it does so in any text. Joiners and marks of direction do not, which whole scripts, and many
/// emoji, are written with.
pub fn in_text(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200b}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}')
}

/// Whether it does so in a name, which is one line, and is chosen by its looks: nothing unseen stands in
/// one.
pub fn in_name(c: char) -> bool {
    in_text(c)
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200c}'..='\u{200f}' | '\u{3164}' | '\u{ffa0}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_no_disguise() {
        for text in [
            "Grüße, Ærø",
            "شکر\u{200c}ستان",
            "👩‍💻 ok",
            "日本語.txt",
            "a\u{200e}",
        ] {
            assert!(!text.chars().any(in_text), "{text}");
        }
        for name in ["Übersicht (2).pdf", "résumé.md", "日本語.txt", "❤️.png"] {
            assert!(!name.chars().any(in_name), "{name}");
        }
    }

    #[test]
    fn disguises_are_known() {
        for c in [
            '\u{1b}', '\u{9b}', '\r', '\0', '\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}',
        ] {
            assert!(in_text(c) && in_name(c), "{c:?}");
        }
        for c in ['\u{200d}', '\u{200f}', '\u{61c}', '\u{ad}', '\u{e0041}'] {
            assert!(in_name(c) && !in_text(c), "{c:?}");
        }
    }
}
