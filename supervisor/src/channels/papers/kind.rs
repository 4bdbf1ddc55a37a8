//! What a document is: by its first bytes where these tell, else by its name, else by the type that its
//! sender declared. Where the name or the type says another kind than the content, it is refused: a
//! person who sends `notes.txt` must not have sent a program. Pure; looks at no more than the two ends
//! of a document and parses nothing.

use serde::{Deserialize, Serialize};

use super::{Refused, charset};

/// What is taken, as part of a sentence.
pub const TAKEN: &str =
    "plain text, Markdown, CSV, JSON, HTML, PDF, DOCX, or a picture as PNG, JPEG, WebP or GIF";

/// How much of each end of a document is looked at.
const LOOK: usize = 64 << 10;

/// A kind of document that becomes text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Text without any structure that matters here: source code, logs and letters too.
    Plain,
    /// Markdown, kept as it is.
    Markdown,
    /// Comma separated values, kept as they are.
    Csv,
    /// JSON, kept as it is.
    Json,
    /// A page, turned into Markdown.
    Html,
    /// A PDF with text in it.
    Pdf,
    /// A Word document of 2007 or later, turned into Markdown.
    Docx,
}

impl Kind {
    /// Whether its parser needs a process of its own.
    pub fn is_parsed(self) -> bool {
        matches!(self, Self::Html | Self::Pdf | Self::Docx)
    }

    fn told(self) -> &'static str {
        match self {
            Self::Plain => "plain text",
            Self::Markdown => "Markdown",
            Self::Csv => "CSV",
            Self::Json => "JSON",
            Self::Html => "HTML",
            Self::Pdf => "a PDF",
            Self::Docx => "a DOCX document",
        }
    }
}

/// What a document was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// A picture of this type.
    Image(&'static str),
    /// Something with text.
    Document(Kind),
}

/// What the bytes alone tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Image(&'static str),
    Pdf,
    Docx,
    /// Text that begins as a page does.
    Page,
    Text,
    /// Known or not, nothing that is taken.
    Other(&'static str),
}

/// What a name or a declared type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Image,
    Document(Kind),
}

/// Finds out what a document is, or why it is not taken.
pub fn judge(name: &str, mime: Option<&str>, bytes: &[u8]) -> Result<Judged, Refused> {
    let claim = by_name(name).or_else(|| mime.and_then(by_mime));
    let content = look(bytes);
    let judged = match content {
        Content::Image(mime) => Judged::Image(mime),
        Content::Pdf => Judged::Document(Kind::Pdf),
        Content::Docx => Judged::Document(Kind::Docx),
        Content::Page | Content::Text => Judged::Document(text_kind(claim, content)),
        Content::Other(what) => return Err(other(claim, what)),
    };
    match claim {
        Some(claim) if !agree(claim, judged) => Err(Refused::Mismatch {
            claimed: told(claim).into(),
            found: found(judged).into(),
        }),
        _ => Ok(judged),
    }
}

/// The refusal of bytes that were taken for text and turned out to be none.
pub fn binary(kind: Kind) -> Refused {
    other(Some(Claim::Document(kind)), "binary data")
}

fn other(claim: Option<Claim>, what: &str) -> Refused {
    match claim {
        // Old Word documents and locked new ones look the same, and people take either for a DOCX.
        Some(claim) if what != OLE => Refused::Mismatch {
            claimed: told(claim).into(),
            found: what.into(),
        },
        _ => Refused::Unsupported { what: what.into() },
    }
}

fn agree(claim: Claim, judged: Judged) -> bool {
    match (claim, judged) {
        // Programs often give a picture another picture's name.
        (Claim::Image, Judged::Image(_)) => true,
        (Claim::Document(claimed), Judged::Document(kind)) => claimed == kind,
        _ => false,
    }
}

fn text_kind(claim: Option<Claim>, content: Content) -> Kind {
    match claim {
        Some(Claim::Document(kind)) if !matches!(kind, Kind::Pdf | Kind::Docx) => kind,
        None if content == Content::Page => Kind::Html,
        _ => Kind::Plain,
    }
}

fn told(claim: Claim) -> &'static str {
    match claim {
        Claim::Image => "a picture",
        Claim::Document(kind) => kind.told(),
    }
}

fn found(judged: Judged) -> &'static str {
    match judged {
        Judged::Image(_) => "a picture",
        Judged::Document(kind) => kind.told(),
    }
}

fn by_name(name: &str) -> Option<Claim> {
    let (_, extension) = name.rsplit_once('.')?;
    let kind = match extension.to_ascii_lowercase().as_str() {
        "txt" | "text" | "log" => Kind::Plain,
        "md" | "markdown" => Kind::Markdown,
        "csv" | "tsv" => Kind::Csv,
        "json" | "jsonl" | "ndjson" => Kind::Json,
        "html" | "htm" | "xhtml" => Kind::Html,
        "pdf" => Kind::Pdf,
        "docx" => Kind::Docx,
        "png" | "jpg" | "jpeg" | "webp" | "gif" => return Some(Claim::Image),
        _ => return None,
    };
    Some(Claim::Document(kind))
}

fn by_mime(mime: &str) -> Option<Claim> {
    let kind = mime.split(';').next().unwrap_or_default().trim();
    let kind = match kind.to_ascii_lowercase().as_str() {
        "text/markdown" => Kind::Markdown,
        "text/csv" | "text/tab-separated-values" => Kind::Csv,
        "application/json" => Kind::Json,
        "text/html" | "application/xhtml+xml" => Kind::Html,
        "application/pdf" => Kind::Pdf,
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => Kind::Docx,
        "image/png" | "image/jpeg" | "image/webp" | "image/gif" => return Some(Claim::Image),
        // `text/plain` too: chats declare it for everything that they do not know.
        _ => return None,
    };
    Some(Claim::Document(kind))
}

const OLE: &str = "an old Office document, or one behind a password (save it as DOCX without one)";

/// First bytes that settle it.
const MAGIC: &[(&[u8], Content)] = &[
    (b"\x89PNG\r\n\x1a\n", Content::Image("image/png")),
    (b"\xff\xd8\xff", Content::Image("image/jpeg")),
    (b"GIF87a", Content::Image("image/gif")),
    (b"GIF89a", Content::Image("image/gif")),
    (b"%PDF-", Content::Pdf),
    (b"\x7fELF", Content::Other("a program")),
    (b"\xcf\xfa\xed\xfe", Content::Other("a program")),
    (b"\xca\xfe\xba\xbe", Content::Other("a program")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Content::Other(OLE)),
    (
        b"{\\rtf",
        Content::Other("a rich text document (save it as DOCX or PDF)"),
    ),
    (b"\x1f\x8b", Content::Other("a packed file")),
    (b"BZh", Content::Other("a packed file")),
    (b"\xfd7zXZ\0", Content::Other("a packed file")),
    (b"\x28\xb5\x2f\xfd", Content::Other("a packed file")),
    (b"7z\xbc\xaf\x27\x1c", Content::Other("an archive")),
    (b"Rar!\x1a\x07", Content::Other("an archive")),
    (b"OggS", Content::Other("a sound")),
    (b"ID3", Content::Other("a sound")),
    (b"fLaC", Content::Other("a sound")),
    (b"\x1aE\xdf\xa3", Content::Other("a film")),
    (b"SQLite format 3\0", Content::Other("a database")),
    (
        b"II*\0",
        Content::Other("a TIFF picture (send it as PNG or JPEG)"),
    ),
    (
        b"MM\0*",
        Content::Other("a TIFF picture (send it as PNG or JPEG)"),
    ),
];

/// Names inside a ZIP archive, which stand in it as they are.
const INSIDE: &[(&[u8], Content)] = &[
    (b"word/", Content::Docx),
    (
        b"xl/",
        Content::Other("an Excel workbook (save the sheet as CSV)"),
    ),
    (
        b"ppt/",
        Content::Other("a PowerPoint presentation (save it as PDF)"),
    ),
    (
        b"application/vnd.oasis.opendocument",
        Content::Other("an OpenDocument file (save it as DOCX or PDF)"),
    ),
    (b"application/epub+zip", Content::Other("an EPUB book")),
];

fn look(bytes: &[u8]) -> Content {
    let head = &bytes[..bytes.len().min(LOOK)];
    if let Some((_, content)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        return *content;
    }
    match head {
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => Content::Image("image/webp"),
        [b'R', b'I', b'F', b'F', ..] => Content::Other("a sound or a film"),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Content::Other("a film or a HEIC picture"),
        [b'M', b'Z', ..] if head.contains(&0) => Content::Other("a program"),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => archive(head, &bytes[bytes.len().saturating_sub(LOOK)..]),
        _ => words(head),
    }
}

fn archive(head: &[u8], tail: &[u8]) -> Content {
    let holds = |name: &[u8]| {
        [head, tail]
            .iter()
            .any(|end| end.windows(name.len()).any(|at| at == name))
    };
    let inside = INSIDE.iter().find(|(name, _)| holds(name));
    inside.map_or(Content::Other("an archive"), |(_, content)| *content)
}

fn words(head: &[u8]) -> Content {
    // Mail programs and old printers put a line before it; readers look for it in the first kilobyte.
    if head[..head.len().min(1024)]
        .windows(5)
        .any(|at| at == b"%PDF-")
        && head.contains(&0)
    {
        return Content::Pdf;
    }
    let Some(text) = charset::decode(head) else {
        return Content::Other("binary data");
    };
    let begin = text
        .trim_start()
        .get(..14)
        .unwrap_or_default()
        .to_ascii_lowercase();
    match begin.starts_with("<!doctype html") || begin.starts_with("<html") {
        true => Content::Page,
        false => Content::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCX: &[u8] = b"PK\x03\x04....word/document.xml";
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0";
    const PAGE: &[u8] = b"\n<!DOCTYPE HTML><p>x";

    fn kind(name: &str, mime: Option<&str>, bytes: &[u8]) -> Judged {
        judge(name, mime, bytes).unwrap()
    }

    #[test]
    fn the_content_is_asked_first_then_the_name_then_the_declared_type() {
        use Judged::{Document, Image};
        let octets = Some("application/octet-stream");
        let cases = [
            ("a", None, &b"%PDF-1.7"[..], Document(Kind::Pdf)),
            ("a.bin", octets, DOCX, Document(Kind::Docx)),
            ("a.jpg", Some("image/jpeg"), PNG, Image("image/png")),
            ("a", None, b"RIFF\0\0\0\0WEBPVP8 ", Image("image/webp")),
            ("a", None, b"GIF89a\x01", Image("image/gif")),
            ("a", None, b"\xff\xd8\xff\xe0", Image("image/jpeg")),
            ("a", None, PAGE, Document(Kind::Html)),
            ("a.txt", Some("text/html"), PAGE, Document(Kind::Plain)),
            ("a.HTML", None, b"<p>x", Document(Kind::Html)),
            ("a.md", Some("text/plain"), b"# x", Document(Kind::Markdown)),
            (
                "a",
                Some("text/csv; charset=utf-8"),
                b"a,b",
                Document(Kind::Csv),
            ),
            ("a.json", None, b"{}", Document(Kind::Json)),
            ("main.rs", octets, b"fn main() {}", Document(Kind::Plain)),
            ("a.txt", None, b"Gr\xf6\xdfe", Document(Kind::Plain)),
            (
                "a.txt",
                None,
                b"MZ is an abbreviation",
                Document(Kind::Plain),
            ),
        ];
        for (name, mime, bytes, expected) in cases {
            assert_eq!(kind(name, mime, bytes), expected, "{name} {mime:?}");
        }
    }

    #[test]
    fn what_is_not_what_it_is_called_is_refused_by_name() {
        let cases = [
            (
                "notes.txt",
                None,
                &b"\x7fELF\x02\x01"[..],
                "plain text",
                "a program",
            ),
            ("report.pdf", None, b"hello", "a PDF", "plain text"),
            ("report.txt", None, b"%PDF-1.7", "plain text", "a PDF"),
            ("photo.png", None, b"%PDF-1.7", "a picture", "a PDF"),
            ("a", Some("application/pdf"), PNG, "a PDF", "a picture"),
            (
                "a.docx",
                None,
                b"PK\x03\x04..xl/workbook.xml",
                "a DOCX document",
                "an Excel",
            ),
            ("a.csv", None, b"a\0b\0", "CSV", "binary data"),
        ];
        for (name, mime, bytes, claimed, found) in cases {
            let refused = judge(name, mime, bytes).unwrap_err().to_string();
            assert!(refused.contains(&format!("called {claimed}")), "{refused}");
            assert!(refused.contains(&format!("holds {found}")), "{refused}");
        }
    }

    #[test]
    fn what_is_not_taken_is_told_with_what_is() {
        let cases = [
            ("a", &b"PK\x03\x04zip"[..], "an archive"),
            ("a.xlsx", b"PK\x03\x04..xl/workbook.xml", "Excel"),
            ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Office"),
            ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "password"),
            ("a.mp4", b"\0\0\0\x18ftypmp42", "film"),
            ("a.exe", b"MZ\x90\0\x03", "a program"),
            ("a", b"\x00\x01\x02", "binary data"),
        ];
        for (name, bytes, what) in cases {
            let refused = judge(name, None, bytes).unwrap_err().to_string();
            assert!(refused.contains(what), "{refused}");
            assert!(refused.contains(TAKEN), "{refused}");
        }
    }
}
