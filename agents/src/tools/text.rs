//! Bytes of a file as text that a model can read, and ways to cut text where it must be cut. HTML
//! becomes Markdown, so that `search_files` and `read_file` count the same lines. Used by the file
//! tools and by `fetch_page`.

use std::path::Path;

use super::html;

/// How far into a file a NUL byte is looked for: text has none.
const SNIFFED: usize = 8192;

/// Endings of files that hold no text, not worth opening for a search.
#[rustfmt::skip]
const BINARY: &[&str] = &[
    "7z", "a", "avif", "bin", "bmp", "bz2", "class", "db", "dll", "docx", "dylib", "eot", "exe", "flac", "gif",
    "gz", "ico", "jar", "jpeg", "jpg", "mkv", "mov", "mp3", "mp4", "o", "odt", "ogg", "otf", "pdf", "png",
    "pptx", "pyc", "rlib", "rmeta", "so", "sqlite", "sqlite3", "tar", "tgz", "tiff", "ttf", "wasm", "wav",
    "webm", "webp", "woff", "woff2", "xlsx", "xz", "zip", "zst",
];

/// Whether a file's name says that there is no text in it.
pub fn named_binary(path: &Path) -> bool {
    has_ending(path, BINARY)
}

/// Whether a file is HTML by its name.
pub fn named_html(path: &Path) -> bool {
    has_ending(path, &["html", "htm", "xhtml"])
}

/// Whether a file's text has Markdown's headings: Markdown itself, and HTML once converted.
pub fn named_markdown(path: &Path) -> bool {
    named_html(path) || has_ending(path, &["md", "markdown", "mdx"])
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| {
        endings
            .iter()
            .any(|known| known.eq_ignore_ascii_case(ending))
    })
}

/// The text in these bytes, bytes that are no UTF-8 replaced; `None` where they are not text.
pub fn decode(bytes: Vec<u8>) -> Option<String> {
    if bytes[..bytes.len().min(SNIFFED)].contains(&0) {
        return None;
    }
    let bytes = match bytes.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => rest.to_vec(),
        None => bytes,
    };
    Some(
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    )
}

/// A file's text as it is shown to a model.
pub fn readable(path: &Path, text: String) -> String {
    if named_html(path) {
        html::page(&text).text
    } else {
        text
    }
}

/// The longest beginning of `text` of at most `max` bytes that ends between characters.
pub fn head(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// At most `max` bytes of `text` around the byte `at`, with `…` where something is left out.
pub fn window(text: &str, at: usize, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let start = text.floor_char_boundary(at.saturating_sub(max / 4).min(text.len() - max));
    let end = text.floor_char_boundary(start + max);
    let before = if start > 0 { "…" } else { "" };
    let after = if end < text.len() { "…" } else { "" };
    format!("{before}{}{after}", &text[start..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_text_unless_they_are_not() {
        assert_eq!(decode(b"a\0b".to_vec()), None);
        assert_eq!(decode(b"\xef\xbb\xbfa".to_vec()).unwrap(), "a");
        assert_eq!(decode(b"caf\xe9".to_vec()).unwrap(), "caf\u{fffd}");
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(head("aéb", 2), "a");
        let text = "é".repeat(100);
        for at in 0..200 {
            let cut = window(&text, at, 41);
            assert!(cut.contains('…') && cut.len() <= 41 + 6, "{at}: {cut}");
        }
        assert_eq!(window("short", 3, 10), "short");
    }
}
