//! E-mail that goes out: what a letter is, to whom one may go, and the port by which it goes.
//!
//! ```text
//!   send_email, channels ─► Letter ─► Mailer: rules ► bytes ─► egress::smtp ─► server
//! ```
//! It owns addresses and the operator's list ([`address`]), the bytes of a letter (`mime`, `html`), and
//! the sender of an installation ([`SmtpMailer`]). How a server is reached and spoken to is the
//! gateway's matter. A letter is sent by one attempt and kept nowhere; mail that comes in is not read.

pub mod address;
mod html;
mod mailer;
mod mime;

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::hash::Hash;
use crate::run::Failure;
pub use address::{Address, AllowList, BadAddress, BadEntry};
pub use mailer::{BadMailer, SmtpMailer};
pub use mime::{MAX_SUBJECT, Unwritable};

/// A letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Names the sending of it for ever: letters with the same key have the same Message-ID.
    pub key: Hash,
    /// To whom, at least one.
    pub to: Vec<Address>,
    /// Who gets a copy.
    pub cc: Vec<Address>,
    /// Who is answered; the sender where absent.
    pub reply_to: Option<Address>,
    /// One line.
    pub subject: String,
    /// In Markdown. It goes as written, and as HTML beside that.
    pub body: String,
    /// What comes with it.
    pub attachments: Vec<Attachment>,
}

/// A file that goes with a letter.
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its name; folders are left out.
    pub name: String,
    /// What it is, as a media type.
    pub mime: String,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
}

impl Letter {
    /// All who get it, each once, in order: what somebody who decides about it has to know.
    pub fn recipients(&self) -> Vec<Address> {
        let mut all: Vec<Address> = self.to.iter().chain(&self.cc).cloned().collect();
        all.sort();
        all.dedup();
        all
    }
}

impl Attachment {
    /// The SHA-256 of its bytes.
    pub fn sha256(&self) -> Hash {
        Hash::of_bytes(&self.bytes)
    }
}

impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Attachment({:?}, {} bytes)", self.name, self.bytes.len())
    }
}

/// What a server took over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The letter's Message-ID, in angle brackets.
    pub message_id: String,
    /// What the server said, in one line.
    pub reply: String,
    /// Those for whom it took the letter.
    pub accepted: Vec<Address>,
}

/// The way by which letters leave an installation.
#[async_trait]
pub trait Mailer: Send + Sync {
    /// The Message-ID of the letter with this key.
    fn message_id(&self, key: Hash) -> String;

    /// Whether the letter may be sent: to whom it goes, how large it is. Calls nobody.
    fn check(&self, letter: &Letter) -> Result<(), Failure>;

    /// Makes one attempt. A failure that `may_have_happened` means that the server was given the whole
    /// letter and said nothing; every other one, that nobody gets it.
    async fn send(&self, letter: &Letter, cancel: &CancellationToken) -> Result<Sent, Failure>;

    /// Goes as far as one can without sending: connects, agrees on TLS, logs in. Answers what the server
    /// calls itself.
    async fn examine(&self) -> Result<String, Failure>;
}
