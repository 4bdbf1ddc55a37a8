//! Codes that link an identity to a person: short enough to type, too many to guess. The store sees their
//! hash only.

use std::fmt;

use shared::hash::Hash;

use crate::auth::{NoRandomness, random};

/// Crockford's digits: none that is taken for another.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Digits of a code, of five random bits each: 2^60 codes.
const LENGTH: usize = 12;
/// Digits that stand together.
const GROUP: usize = 4;

/// A code. It shows itself in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(String);

impl Code {
    /// A fresh one.
    pub fn fresh() -> Result<Self, NoRandomness> {
        let digit = |byte: u8| char::from(DIGITS[usize::from(byte % 32)]);
        Ok(Self(random::<LENGTH>()?.map(digit).iter().collect()))
    }

    /// The code that a text is: in groups or not, in large letters or small, with `O` for 0 and `I` or
    /// `L` for 1.
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |c: char| match c.to_ascii_uppercase() {
            'O' => Some('0'),
            'I' | 'L' => Some('1'),
            c => DIGITS.contains(&u8::try_from(c).ok()?).then_some(c),
        };
        let told = text.chars().filter(|c| !matches!(c, '-' | ' '));
        let code: String = told.map(digit).collect::<Option<_>>()?;
        (code.len() == LENGTH).then_some(Self(code))
    }

    /// The text in groups, for the eyes of whom it is for.
    pub fn expose(&self) -> String {
        let groups = self.0.as_bytes().chunks(GROUP);
        let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
        groups.join("-")
    }

    /// What the store knows by which somebody shows this: what cannot be a code is a wrong one like any
    /// other.
    pub fn hash_of(shown: &str) -> Hash {
        let code = Self::parse(shown).map(|code| code.hash());
        code.unwrap_or_else(|| Hash::of_bytes(shown.as_bytes()))
    }

    /// What the store knows it by.
    pub fn hash(&self) -> Hash {
        Hash::of_bytes(self.0.as_bytes())
    }
}

/// A text in which no code can be read that we wrote into it.
pub fn hidden_in(text: &str) -> String {
    let is_within = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let words = text.split_inclusive(|c| !is_within(c));
    let hidden = words.map(|word| {
        let code = word.trim_end_matches(|c| !is_within(c));
        match Code::parse(code).is_some_and(|parsed| parsed.expose() == code) {
            true => format!("[code]{}", &word[code.len()..]),
            false => word.to_owned(),
        }
    });
    hidden.collect()
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_repeated_of_our_words_holds_no_code() {
        let code = Code::fresh().unwrap().expose();
        let text = format!("In a conversation, write `/pair {code}`.\n{code}");
        let hidden = "In a conversation, write `/pair [code]`.\n[code]";
        assert_eq!(hidden_in(&text), hidden);
    }

    #[test]
    fn a_code_is_itself_however_it_is_typed() {
        let code = Code::fresh().unwrap();
        let shown = code.expose();
        assert_eq!((shown.len(), shown.matches('-').count()), (14, 2));
        for typed in [
            shown.clone(),
            shown.to_lowercase(),
            shown.replace('-', ""),
            shown.replace('-', " "),
            shown.replace('0', "o").replace('1', "l"),
        ] {
            assert_eq!(Code::parse(&typed), Some(code.clone()), "{typed}");
        }
        assert_eq!(format!("{code:?}"), "Code(…)");
        assert_ne!(Code::fresh().unwrap(), code);
        for odd in [
            "",
            "hello",
            "0000-0000-000",
            "0000-0000-0000-0",
            "U000-0000-0000",
            "ärger-000000",
        ] {
            assert_eq!(Code::parse(odd), None, "{odd}");
        }
    }
}
