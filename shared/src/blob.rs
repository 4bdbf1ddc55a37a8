//! Bytes that belong to tasks: pictures that came with them, files that they wrote. Kept in the store
//! under their hash, beside the journal and never in it; what refers to one bears its hash alone.

use std::fmt;
use std::sync::Arc;

use crate::hash::Hash;

/// The most bytes that one may have.
pub const MAX_BLOB: usize = 8 << 20;

/// Bytes under their hash. Cloning shares them.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob {
    /// The SHA-256 of the bytes.
    pub hash: Hash,
    /// What they are, as a media type.
    pub mime: String,
    /// At most [`MAX_BLOB`] of them.
    pub bytes: Arc<[u8]>,
}

impl Blob {
    /// These bytes; none where there are more than may be kept.
    pub fn new(mime: &str, bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= MAX_BLOB).then(|| Self {
            hash: Hash::of_bytes(bytes),
            mime: mime.to_owned(),
            bytes: bytes.into(),
        })
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hash, mime, bytes } = self;
        write!(f, "Blob({hash:?}, {mime}, {} bytes)", bytes.len())
    }
}

/// The media type that a text file's name stands for.
pub fn mime_of_text(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    match extension.unwrap_or_default().to_ascii_lowercase().as_str() {
        "md" | "markdown" => "text/markdown",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        "css" => "text/css",
        "json" => "application/json",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        "yaml" | "yml" => "application/yaml",
        "toml" => "application/toml",
        _ => "text/plain",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_too_large_is_kept_and_nothing_is_shown() {
        assert!(Blob::new("text/plain", &vec![0; MAX_BLOB + 1]).is_none());
        let blob = Blob::new("text/plain", b"secret").unwrap();
        assert_eq!(blob.hash, Hash::of_bytes(b"secret"));
        assert!(!format!("{blob:?}").contains("secret"));
    }

    #[test]
    fn types_follow_names() {
        let of = ["a.MD", "b.csv", "Makefile", ".json"].map(mime_of_text);
        let wanted = [
            "text/markdown",
            "text/csv",
            "text/plain",
            "application/json",
        ];
        assert_eq!(of, wanted);
    }
}
