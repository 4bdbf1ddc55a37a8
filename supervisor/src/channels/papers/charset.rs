//! Bytes as text: UTF-8 with or without a byte order mark, UTF-16 with one, else windows-1252, which
//! takes anything. What remains binary after that is told apart by its control characters.

use encoding_rs::{Encoding, WINDOWS_1252};

/// Of so many characters at most one may be a control character.
const CONTROL_SHARE: usize = 200;

/// The text, or nothing where these bytes are none. An end in the middle of a character is dropped.
pub fn decode(bytes: &[u8]) -> Option<String> {
    decode_as(bytes, WINDOWS_1252)
}

/// The same, with the encoding of what is neither marked nor UTF-8.
pub fn decode_as(bytes: &[u8], otherwise: &'static Encoding) -> Option<String> {
    let text = match Encoding::for_bom(bytes) {
        Some((encoding, mark)) => marked(encoding, &bytes[mark..]),
        None => match utf8(bytes) {
            Some(text) => text.to_owned(),
            None => otherwise.decode_without_bom_handling(bytes).0.into_owned(),
        },
    };
    is_text(&text).then_some(text)
}

fn marked(encoding: &'static Encoding, bytes: &[u8]) -> String {
    let whole = match encoding.name() {
        "UTF-8" => utf8(bytes).map_or(bytes, str::as_bytes),
        _ => &bytes[..bytes.len() & !1],
    };
    encoding.decode_without_bom_handling(whole).0.into_owned()
}

/// The bytes as UTF-8, if nothing is wrong with them but where they end.
fn utf8(bytes: &[u8]) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

fn is_text(text: &str) -> bool {
    if text.contains('\0') {
        return false;
    }
    let (mut all, mut controls) = (0usize, 0usize);
    for c in text.chars() {
        all += 1;
        // Terminals' escapes and form feeds stand in logs and listings.
        controls +=
            usize::from(c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\x0c' | '\x1b'));
    }
    controls <= all / CONTROL_SHARE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_encoding_is_found() {
        let utf16 = |mark: &[u8], swap: bool| -> Vec<u8> {
            let units = "Größe 東京 🚢".encode_utf16();
            let bytes = units.flat_map(|u| {
                if swap {
                    u.to_be_bytes()
                } else {
                    u.to_le_bytes()
                }
            });
            mark.iter().copied().chain(bytes).collect()
        };
        let cases: Vec<(Vec<u8>, &str)> = vec![
            ("Größe 東京 🚢".into(), "Größe 東京 🚢"),
            (b"\xef\xbb\xbfGr\xc3\xb6\xc3\x9fe".to_vec(), "Größe"),
            (utf16(b"\xff\xfe", false), "Größe 東京 🚢"),
            (utf16(b"\xfe\xff", true), "Größe 東京 🚢"),
            (b"Gr\xf6\xdfe \x80 \x93x\x94".to_vec(), "Größe € “x”"),
            (b"cut \xe6\x9d".to_vec(), "cut "),
            (b"\xff\xfea\0b".to_vec(), "a"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(decode(&bytes).as_deref(), Some(expected), "{bytes:?}");
        }
    }

    #[test]
    fn binary_is_told_apart() {
        for bytes in [&b"a\0b"[..], b"\x01\x02\x03\x04", b"\x80\x01\xff\x02ab\x03"] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
        assert!(decode(b"\x1b[31mred\x1b[0m\x0c").is_some());
    }
}
