//! Handing letters to a mail server: the one place that speaks SMTP. One connection and one attempt for
//! a letter; to all of its recipients or to none.
//!
//! ```text
//!   resolve ► check ► connect ► TLS ► login ► from, to, … ► text ► final dot ► the server's word
//!   └────────────── nobody gets it, whatever goes wrong ──────────┘└── in doubt without a word ──┘
//! ```
//! A server has a letter when it was given the final dot, not before. So every end before it is a failure
//! of which nothing came, and an end after it without the server's word is one that
//! [may have happened](Failure::may_have_happened). Addresses are checked as those of HTTP are, and what
//! was checked is what is connected to. Neither login nor letter is in any error.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::{Response, Severity};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use url::Host;

use super::address::{Forbidden, is_localhost};
use super::resolver::{Lookup, Reach, within};
use super::wire::Wire;
use super::{CONNECT_TIMEOUT, Gateway, install_crypto};
use crate::config::{MailTls, is_here};
use crate::email::Address;
use crate::run::{Failure, FailureKind};

/// Bytes of a letter that are handed over at once.
const CHUNK: usize = 16 * 1024;
/// How long a server is told good-bye.
const GOODBYE: Duration = Duration::from_secs(1);
/// Characters of what a server says that are kept.
const SAID: usize = 300;

/// A mail server, as the operator described it.
pub struct SmtpServer {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is spoken to.
    pub tls: MailTls,
    /// Who we are to it.
    pub login: Option<Login>,
    /// Certificates in PEM that its own may be signed by, besides those that the machine knows.
    pub roots: Option<Vec<u8>>,
    /// How long all before the letter's text may take, and again the text with the server's word.
    pub timeout: Duration,
    /// What we call ourselves.
    pub hello: String,
}

/// Who we are to a server.
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: SecretString,
}

/// A server's description cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// The host is none.
    #[error("host: {0:?} is no host")]
    Host(String),
    /// No TLS to another machine.
    #[error(
        "host: {0} is not this machine, and tls = \"none\" is for a server on this machine alone"
    )]
    Clear(String),
    /// The certificates are none, or those of the machine cannot be read.
    #[error("TLS: {0}")]
    Tls(String),
}

/// A letter, and who is to get it.
#[derive(Clone, Copy)]
pub struct Post<'a> {
    /// From whom.
    pub from: &'a Address,
    /// To whom; all of them or nobody.
    pub to: &'a [Address],
    /// By which it is found again.
    pub message_id: &'a str,
    /// Its bytes.
    pub message: &'a [u8],
}

/// The way to one mail server.
pub struct Smtp {
    lookup: Arc<dyn Lookup>,
    host: Host<String>,
    port: u16,
    reach: Reach,
    tls: MailTls,
    parameters: Option<TlsParameters>,
    login: Option<Login>,
    timeout: Duration,
    hello: ClientId,
}

/// How far an attempt has come.
#[derive(Default)]
struct Progress {
    /// The whole text was handed over: the next byte may complete it.
    whole: AtomicBool,
}

impl Gateway {
    /// The way to a mail server from the configuration. A private address is reached where the server is
    /// named by one, and where it is on the operator's list; a public name that resolves to a private
    /// address is refused. Calls nobody.
    pub fn smtp(&self, server: SmtpServer) -> Result<Smtp, ServerError> {
        let bad = || ServerError::Host(server.host.clone());
        let host = Host::parse(&server.host).map_err(|_| bad())?;
        if server.tls == MailTls::None && !is_here(&host) {
            return Err(ServerError::Clear(server.host));
        }
        let private = match &host {
            Host::Domain(name) => is_localhost(name) || self.inner.allowed.has(&host, server.port),
            Host::Ipv4(_) | Host::Ipv6(_) => true,
        };
        let parameters = match server.tls {
            MailTls::None => None,
            MailTls::Implicit | MailTls::Starttls => Some(tls(&host, server.roots.as_deref())?),
        };
        Ok(Smtp {
            lookup: self.inner.lookup.clone(),
            reach: Reach::Only {
                host: host.to_string(),
                private,
            },
            host,
            port: server.port,
            tls: server.tls,
            parameters,
            login: server.login,
            timeout: server.timeout,
            hello: ClientId::Domain(server.hello),
        })
    }
}

fn tls(host: &Host<String>, roots: Option<&[u8]>) -> Result<TlsParameters, ServerError> {
    install_crypto();
    let error = |error: SmtpError| ServerError::Tls(error.to_string());
    // The name that its certificate must bear; an address stands there without brackets.
    let name = match host {
        Host::Domain(name) => name.clone(),
        Host::Ipv4(ip) => ip.to_string(),
        Host::Ipv6(ip) => ip.to_string(),
    };
    let mut parameters = TlsParameters::builder(name);
    if let Some(pem) = roots {
        let certificates = Certificate::from_pem(pem).map_err(error)?;
        parameters = parameters.add_root_certificate(certificates);
    }
    parameters.build_rustls().map_err(error)
}

impl Smtp {
    /// Makes one attempt at handing a letter over. Answers what the server said when it took it.
    pub async fn send(
        &self,
        post: Post<'_>,
        cancel: &CancellationToken,
    ) -> Result<String, Failure> {
        let progress = Progress::default();
        let sent = tokio::select! {
            biased;
            sent = self.hand_over(post, &progress) => sent,
            () = cancel.cancelled() => Err(Failure::new(FailureKind::Cancelled, "cancelled")),
        };
        match sent {
            Err(failure) if failure.may_have_happened || progress.is_whole() => {
                Err(self.in_doubt(post, failure))
            }
            sent => sent,
        }
    }

    /// Connects, agrees on TLS and logs in. Answers what the server calls itself.
    pub async fn greet(&self) -> Result<String, Failure> {
        let connection = self.in_time(self.open()).await?;
        let name = said(connection.server_info().name());
        tokio::spawn(goodbye(connection));
        Ok(name)
    }

    async fn hand_over(&self, post: Post<'_>, progress: &Progress) -> Result<String, Failure> {
        let prepared = async {
            let mut connection = self.open().await?;
            self.address(&mut connection, post).await?;
            Ok(connection)
        };
        let mut connection = self.in_time(prepared).await?;
        crate::crash_point!("smtp.before");
        let chunks = progress.watch(post.message);
        let response = self.in_time(async {
            let sent = connection.message_iter(chunks).await;
            sent.map_err(|error| self.after_data(&error, progress))
        });
        let response = response.await?;
        crate::crash_point!("smtp.after");
        if response.code().severity != Severity::PositiveCompletion {
            // It is no word that ends a letter, so it says nothing about it.
            return Err(self.out_of_turn("the letter", &response));
        }
        // Nobody waits for it: what is known is to be recorded soon.
        tokio::spawn(goodbye(connection));
        Ok(reply(&response))
    }

    /// A connection on which letters may be handed over.
    async fn open(&self) -> Result<AsyncSmtpConnection, Failure> {
        let mut connection = self.connect().await?;
        if let Some(login) = &self.login {
            let known = [Mechanism::Plain, Mechanism::Login];
            let password = login.password.expose_secret().to_owned();
            let credentials = Credentials::new(login.user.clone(), password);
            let answered = connection.auth(&known, &credentials).await;
            answered.map_err(|error| self.login_failed(&error))?;
        }
        Ok(connection)
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Failure> {
        let addresses = self.addresses().await?;
        let failed = |error: SmtpError| self.failed("connecting", &error);
        let (parameters, hello) = (self.parameters.clone(), &self.hello);
        if self.tls == MailTls::Implicit {
            let limit = Some(CONNECT_TIMEOUT);
            let to = &addresses[..];
            return AsyncSmtpConnection::connect_tokio1(to, limit, hello, parameters, None)
                .await
                .map_err(failed);
        }
        let tcp = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&addresses[..])).await;
        let tcp = tcp.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let tcp = tcp.map_err(|error| {
            Failure::new(FailureKind::Transient, format!("{}: {error}", self.name()))
        })?;
        let wire = Box::new(Wire::new(tcp));
        let mut connection = AsyncSmtpConnection::connect_with_transport(wire, hello)
            .await
            .map_err(failed)?;
        if let Some(parameters) = parameters {
            if !connection.can_starttls() {
                let message = format!(
                    "{} offers no STARTTLS, and nothing is said to it without; see [email] tls and port",
                    self.name()
                );
                return Err(Failure::new(FailureKind::Permanent, message));
            }
            connection
                .starttls(parameters, hello)
                .await
                .map_err(failed)?;
        }
        Ok(connection)
    }

    /// Where the server is, as far as that may be reached.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        let found = match &self.host {
            Host::Ipv4(ip) => vec![(*ip).into()],
            Host::Ipv6(ip) => vec![(*ip).into()],
            Host::Domain(name) => {
                let found = tokio::time::timeout(CONNECT_TIMEOUT, self.lookup.lookup(name)).await;
                let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                found.map_err(|error| {
                    Failure::new(FailureKind::Transient, format!("{name}: {error}"))
                })?
            }
        };
        let refused = |error: Forbidden| Failure::new(FailureKind::Permanent, error.to_string());
        let mut found = within(&self.reach, &self.host.to_string(), found).map_err(refused)?;
        if self.tls == MailTls::None {
            // Whatever the name of this machine leads to.
            found.retain(std::net::IpAddr::is_loopback);
        }
        match found.is_empty() {
            true => {
                let message = format!("{}: the name leads to no address", self.host);
                Err(Failure::new(FailureKind::Transient, message))
            }
            false => Ok(found
                .into_iter()
                .map(|ip| SocketAddr::new(ip, self.port))
                .collect()),
        }
    }

    /// Says from whom and to whom, and that the text follows.
    async fn address(
        &self,
        connection: &mut AsyncSmtpConnection,
        post: Post<'_>,
    ) -> Result<(), Failure> {
        let from = Mail::new(Some(post.from.inner().clone()), Vec::new());
        let answered = connection.command(from).await;
        answered.map_err(|error| self.failed(&format!("the sender {}", post.from), &error))?;
        for to in post.to {
            let rcpt = Rcpt::new(to.inner().clone(), Vec::new());
            let answered = connection.command(rcpt).await;
            answered.map_err(|error| self.failed(&format!("the recipient {to}"), &error))?;
        }
        let answered = connection.command(Data).await;
        let answered = answered.map_err(|error| self.failed("the letter", &error))?;
        match answered.code().severity {
            Severity::PositiveIntermediate => Ok(()),
            // It does not wait for the text, and would take it for commands.
            _ => Err(self.out_of_turn("the letter", &answered)),
        }
    }

    /// What an end after the word that the text may follow means.
    fn after_data(&self, error: &SmtpError, progress: &Progress) -> Failure {
        let failure = self.failed("the letter", error);
        match error.status() {
            // The server's own word: it did not take it.
            Some(_) => {
                progress.whole.store(false, Ordering::Relaxed);
                failure
            }
            None => failure,
        }
    }

    /// A failure of which nothing came. `what` it was about.
    fn failed(&self, what: &str, error: &SmtpError) -> Failure {
        let kind = match error.is_permanent() || error.is_client() || is_untrusted(error) {
            true => FailureKind::Permanent,
            false => FailureKind::Transient,
        };
        let why = said(&error.to_string());
        Failure::new(kind, format!("{}: {what}: {why}", self.name()))
    }

    fn out_of_turn(&self, what: &str, response: &Response) -> Failure {
        let message = format!(
            "{}: {what}: an answer out of turn: {}",
            self.name(),
            reply(response)
        );
        Failure::new(FailureKind::Permanent, message)
    }

    /// Servers have been seen that say back what they were given, so nothing of it is told but the code.
    fn login_failed(&self, error: &SmtpError) -> Failure {
        let failure = self.failed("", error);
        let why = match error.status() {
            Some(code) if error.is_permanent() => {
                format!("the login is not accepted ({code}); see user and password in [email]")
            }
            Some(code) => format!("the login cannot be checked now ({code})"),
            None if error.is_client() => {
                "it takes no login by password (neither PLAIN nor LOGIN)".into()
            }
            None => "the connection ended during the login".into(),
        };
        Failure::new(failure.kind, format!("{}: {why}", self.name()))
    }

    /// The server has all of it and said nothing.
    fn in_doubt(&self, post: Post<'_>, failure: Failure) -> Failure {
        let to: Vec<String> = post.to.iter().map(ToString::to_string).collect();
        let message = format!(
            "{} was given the whole letter {} to {} and did not say whether it took it ({}); look for that \
             Message-ID in its log, or ask a recipient",
            self.name(),
            post.message_id,
            to.join(", "),
            failure.message
        );
        Failure { message, ..failure }.may_have_happened()
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let done = tokio::time::timeout(self.timeout, work).await;
        done.unwrap_or_else(|_| {
            let seconds = self.timeout.as_secs_f64();
            let message = format!("{}: no answer within {seconds} s", self.name());
            Err(Failure::new(FailureKind::Transient, message))
        })
    }

    fn name(&self) -> String {
        format!("mail server {}:{}", self.host, self.port)
    }
}

impl Progress {
    fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Relaxed)
    }

    /// The text in pieces. Who asks for one more than there are has written them all.
    fn watch<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut pieces = text.chunks(CHUNK);
        std::iter::from_fn(move || {
            let next = pieces.next();
            if next.is_none() {
                self.whole.store(true, Ordering::Relaxed);
            }
            next
        })
    }
}

/// Whether the server's certificate is what went wrong: it will be the same the next time.
fn is_untrusted(error: &SmtpError) -> bool {
    let mut next = error.source();
    while let Some(error) = next {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(_)) = inner {
            return true;
        }
        next = error.source();
    }
    false
}

/// Closes a dialogue as servers like it. What came of it is settled, whatever comes of this.
async fn goodbye(mut connection: AsyncSmtpConnection) {
    let _nobody_minds = tokio::time::timeout(GOODBYE, connection.quit()).await;
}

fn reply(response: &Response) -> String {
    let lines: Vec<&str> = response.message().collect();
    said(&format!("{} {}", response.code(), lines.join(" ")))
}

/// A server's words in one line of bounded length.
fn said(text: &str) -> String {
    let words = text.split(|c: char| c.is_control() || c.is_whitespace());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(SAID).collect()
}
