//! Documents that people send in chats become text for agents: between a channel and intake, before
//! a task exists.
//!
//! ```text
//! channel -- name, mime, bytes --> child::Readers --> kind::judge
//!                                       |                 |
//!                      text, CSV, JSON, images      PDF, DOCX, HTML
//!                                       |                 |
//!                                    in place     a child process with limits
//!                                       |                 |
//!                                       +---- Paper ------+--> intake
//! ```
//!
//! [`enclose`] makes both a part of a task. What something is, `kind` decides by its content, and how
//! large a picture is, `picture` by its header; what its bytes say, `charset`, `pdf`, `docx` and
//! `html` read, all of them pure. The parsers of others crash, loop and eat memory on hostile input, so
//! [`child`] alone runs them, in a process of their own; people take [`turns`] at it. Left out on purpose: recognising words in
//! pictures, links, headers and footers of DOCX, and everything about where a document came from.

mod charset;
pub mod child;
mod docx;
pub mod enclose;
mod html;
mod kind;
mod pages;
mod pdf;
mod picture;
pub mod turns;

use serde::{Deserialize, Serialize};

pub use kind::{Kind, TAKEN};

/// The most of a document that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes that come in; a larger document is refused.
    pub bytes: usize,
    /// Characters that go out; a longer text is cut, and says so at its end.
    pub characters: usize,
    /// Pages that are read; of a longer document the first are, and the text says so.
    pub pages: u32,
    /// Bytes to which a packed document may unpack.
    pub unpacked: u64,
}

impl Limits {
    /// What is read where nobody says otherwise.
    pub const DEFAULT: Self = Self {
        // What Telegram lets a bot fetch.
        bytes: 20_000_000,
        // About 100,000 tokens, and more than most models take at once.
        characters: 400_000,
        pages: 500,
        unpacked: 64 << 20,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A document that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paper {
    /// Its text.
    Text(Text),
    /// A picture. It is recognised by its first bytes and not decoded.
    Image {
        /// By its content, whatever its name said.
        mime: &'static str,
    },
}

/// A document as text, in UTF-8, with `\n` at the end of lines and no other control characters but tabs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// What it was.
    pub kind: Kind,
    /// The text. In that of a paged document each page is preceded by a line such as `[page 3]`; a
    /// line of its own that looks so is marked with a backslash.
    pub text: String,
    /// How many pages the document has, those that were not read included; of a DOCX, as many as its
    /// page breaks make. Nothing where there are none.
    pub pages: Option<u32>,
    /// Something is left out at the end, and the last line says so.
    pub cut: bool,
}

/// Why a document was not taken, in words for whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refused {
    /// It has no bytes.
    #[error("the document is empty")]
    Empty,
    /// It has more bytes than are taken.
    #[error("the document has {:.1} MB; at most {:.1} MB are taken", *.bytes as f64 / 1e6, *.limit as f64 / 1e6)]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most that is taken.
        limit: usize,
    },
    /// It has more pixels than are taken.
    #[error("the picture has {width} × {height} pixels; at most {millions} million are taken")]
    Pixels {
        /// Its width.
        width: u64,
        /// Its height.
        height: u64,
        /// The most that is taken, in millions.
        millions: u64,
    },
    /// It is of a kind that is not read.
    #[error("this is {what}, which cannot be read here; send {TAKEN}")]
    Unsupported {
        /// What it is, with its article.
        what: String,
    },
    /// Its name or its declared type says one thing and its content another.
    #[error("it is called {claimed} but holds {found}; send it under its right name")]
    Mismatch {
        /// What it is said to be.
        claimed: String,
        /// What it is.
        found: String,
    },
    /// It opens with a password alone.
    #[error("the document is behind a password; send it without one")]
    Password,
    /// It has pages and no text on them.
    #[error(
        "the document has no text in it; if its pages are scanned, send the text, or the pages as pictures"
    )]
    NoText,
    /// It is not what its kind must be.
    #[error("the document could not be read: it is damaged ({0})")]
    Damaged(String),
    /// It unpacks to more than is allowed.
    #[error("the document could not be read: it unpacks to more than {mib} MiB")]
    Unpacks {
        /// The most that is allowed.
        mib: u64,
    },
    /// Reading it takes too much memory.
    #[error("the document could not be read: it needs more than {mib} MiB of memory")]
    Memory {
        /// The most that is allowed.
        mib: u64,
    },
    /// Reading it takes too long.
    #[error("the document could not be read: it needs more than {seconds} s")]
    Time {
        /// The most that is allowed.
        seconds: u64,
    },
    /// The reader died of it.
    #[error("the document could not be read: the reader failed on it; it is probably damaged")]
    Died,
    /// No fault of the document.
    #[error("documents cannot be read now; whoever runs this finds the reason in the log")]
    Unavailable,
}

/// Reads a document in this process. Safe for what was made here; for what strangers send there is
/// [`child::Readers`].
///
/// The content says what it is, then its name, then its declared type.
pub fn read(
    name: &str,
    mime: Option<&str>,
    bytes: &[u8],
    limits: Limits,
) -> Result<Paper, Refused> {
    match judge(name, mime, bytes, limits)? {
        kind::Judged::Image(mime) => Ok(Paper::Image { mime }),
        kind::Judged::Document(kind) => extract(kind, bytes, limits).map(Paper::Text),
    }
}

/// What a document is, once its size is found right.
fn judge(
    name: &str,
    mime: Option<&str>,
    bytes: &[u8],
    limits: Limits,
) -> Result<kind::Judged, Refused> {
    match bytes.len() {
        0 => return Err(Refused::Empty),
        many if many > limits.bytes => {
            return Err(Refused::TooLarge {
                bytes: many,
                limit: limits.bytes,
            });
        }
        _ => {}
    }
    let judged = kind::judge(name, mime, bytes)?;
    if let kind::Judged::Image(_) = judged {
        picture::check(bytes)?;
    }
    Ok(judged)
}

/// The text of a document of a known kind.
pub fn extract(kind: Kind, bytes: &[u8], limits: Limits) -> Result<Text, Refused> {
    match kind {
        Kind::Plain | Kind::Markdown | Kind::Csv | Kind::Json => plain(kind, bytes, limits),
        Kind::Html => Ok(html::read(bytes, limits)),
        Kind::Pdf => pdf::read(bytes, limits),
        Kind::Docx => docx::read(bytes, limits),
    }
}

/// No more bytes are decoded than the longest encoding needs for the characters that are kept.
fn plain(kind: Kind, bytes: &[u8], limits: Limits) -> Result<Text, Refused> {
    let most = limits.characters.saturating_add(2).saturating_mul(4);
    let head = &bytes[..bytes.len().min(most)];
    let text = charset::decode(head).ok_or_else(|| kind::binary(kind))?;
    let rest = head.len() < bytes.len();
    Ok(pages::kept(kind, &text, rest, limits.characters))
}
