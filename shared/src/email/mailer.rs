//! The sender of an installation: the operator's rules before the gateway's. All that leaves by e-mail,
//! whoever sends it, goes through here.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lettre::message::Mailbox;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::{Address, AllowList, BadEntry, Letter, Mailer, Sent, mime};
use crate::clock;
use crate::config::EmailSettings;
use crate::config::secret::Unresolved;
use crate::egress::Gateway;
use crate::egress::smtp::{Login, Post, ServerError, Smtp, SmtpServer};
use crate::hash::Hash;
use crate::run::{Failure, FailureKind, Timestamp};

/// What `per_hour` counts in.
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Sends by the server that `[email]` names.
pub struct SmtpMailer {
    smtp: Smtp,
    from: Mailbox,
    /// Where answers to it go, and what servers are told that it comes from.
    sender: Address,
    allow: AllowList,
    max_recipients: usize,
    max_bytes: usize,
    per_hour: usize,
    /// When the letters of the last hour were begun.
    begun: Mutex<VecDeque<Timestamp>>,
}

/// Why `[email]` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadMailer {
    /// The sender is no address.
    #[error(
        "[email] from: {0:?} is no sender; write \"majordomo@example.org\" or \"Majordomo <majordomo@example.org>\""
    )]
    From(String),
    /// An entry of the list.
    #[error("[email] allow")]
    Allow(#[from] BadEntry),
    /// The password is not where it is said to be.
    #[error("[email] password")]
    Password(#[from] Unresolved),
    /// The certificates cannot be read.
    #[error("[email] ca_file: {}: {error}", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The server cannot be meant.
    #[error("[email]")]
    Server(#[from] ServerError),
}

impl SmtpMailer {
    /// The sender that the settings describe. Reads the password and the certificates; calls nobody.
    pub fn new(settings: &EmailSettings, gateway: &Gateway) -> Result<Self, BadMailer> {
        let (from, sender) = settings
            .sender()
            .ok_or_else(|| BadMailer::From(settings.from.clone()))?;
        let password = settings
            .password
            .as_ref()
            .map(|password| password.resolve());
        let login = match (&settings.user, password.transpose()?) {
            (Some(user), Some(password)) => Some(Login {
                user: user.clone(),
                password: SecretString::from(password.expose()),
            }),
            _ => None,
        };
        let roots = settings.ca_file.as_ref().map(|path| {
            std::fs::read(path).map_err(|error| BadMailer::Roots {
                path: path.clone(),
                error,
            })
        });
        let smtp = gateway.smtp(SmtpServer {
            host: settings.host.clone(),
            port: settings.port(),
            tls: settings.tls,
            login,
            roots: roots.transpose()?,
            timeout: settings.timeout(),
            hello: sender.domain().to_owned(),
        })?;
        Ok(Self {
            smtp,
            from,
            sender,
            allow: AllowList::new(&settings.allow)?,
            max_recipients: settings.max_recipients as usize,
            max_bytes: settings.max_kib as usize * 1024,
            per_hour: settings.per_hour as usize,
            begun: Mutex::default(),
        })
    }

    /// Takes a place in this hour.
    fn take_place(&self, now: Timestamp) -> Result<(), Failure> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        while begun.front().is_some_and(|at| now.since(*at) >= HOUR) {
            begun.pop_front();
        }
        if begun.len() < self.per_hour {
            begun.push_back(now);
            return Ok(());
        }
        let next = begun.front().map_or(now, |at| at.after(HOUR));
        let message = format!(
            "{} letters were sent within the last hour, which is the most ([email] per_hour); the next may go in {} min",
            begun.len(),
            next.since(now).as_secs().div_ceil(60)
        );
        Err(Failure::new(FailureKind::Permanent, message))
    }

    fn bytes(&self, letter: &Letter, message_id: &str, now: Timestamp) -> Result<Vec<u8>, Failure> {
        let bytes = mime::bytes(letter, &self.from, message_id, now)
            .map_err(|error| refused(error.to_string()))?;
        match bytes.len() <= self.max_bytes {
            true => Ok(bytes),
            false => Err(refused(format!(
                "the letter has {} KiB with what is attached; the most is {} KiB ([email] max_kib)",
                bytes.len().div_ceil(1024),
                self.max_bytes / 1024
            ))),
        }
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    fn message_id(&self, key: Hash) -> String {
        format!("<{key}@{}>", self.sender.domain())
    }

    fn check(&self, letter: &Letter) -> Result<(), Failure> {
        let recipients = letter.recipients();
        if letter.to.is_empty() {
            return Err(refused(
                "a letter goes to somebody: name at least one address in `to`",
            ));
        }
        if recipients.len() > self.max_recipients {
            return Err(refused(format!(
                "the letter goes to {} addresses; the most is {} ([email] max_recipients)",
                recipients.len(),
                self.max_recipients
            )));
        }
        let forbidden: Vec<String> = recipients
            .iter()
            .chain(&letter.reply_to)
            .filter(|address| !self.allow.permits(address))
            .map(ToString::to_string)
            .collect();
        match forbidden.is_empty() {
            true => Ok(()),
            false => Err(refused(format!(
                "{} may not be written to; [email] allow names those who may: {}",
                forbidden.join(", "),
                self.allow
            ))),
        }
    }

    async fn send(&self, letter: &Letter, cancel: &CancellationToken) -> Result<Sent, Failure> {
        self.check(letter)?;
        let now = clock::now();
        let message_id = self.message_id(letter.key);
        let message = self.bytes(letter, &message_id, now)?;
        self.take_place(now)?;
        let accepted = letter.recipients();
        let post = Post {
            from: &self.sender,
            to: &accepted,
            message_id: &message_id,
            message: &message,
        };
        let reply = self.smtp.send(post, cancel).await?;
        Ok(Sent {
            message_id,
            reply,
            accepted,
        })
    }

    async fn examine(&self) -> Result<String, Failure> {
        self.smtp.greet().await
    }
}

fn refused(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Refused, message)
}
