//! The shape of `[email]`, and what is wrong with it that the schema cannot say.

use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;
use schemars::JsonSchema;
use serde::Deserialize;
use url::Host;

use super::document::{Document, Found};
use super::problem::Problem;
use super::secret::SecretRef;
use super::types::NOT_BLANK;
use crate::egress::address::is_localhost;
use crate::email::{Address, AllowList};

/// `[email]`: the server that e-mail goes out by, and to whom it may go.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmailSettings {
    /// The mail server, by its name. A private address is reached where this names one, and where the
    /// host is in `egress.allow_private`.
    #[schemars(extend("pattern" = NOT_BLANK))]
    pub host: String,
    /// The port; by `tls` 465, 587 or 25 where absent.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// How what is said to the server is kept secret.
    #[serde(default)]
    pub tls: MailTls,
    /// Who we are to the server. None for servers that let everybody in who reaches them.
    #[serde(default)]
    #[schemars(extend("pattern" = NOT_BLANK))]
    pub user: Option<String>,
    /// The password: `"${SMTP_PASSWORD}"` or `"${file:/run/secrets/smtp}"`.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "secret"))]
    pub password: Option<SecretRef>,
    /// The sender: `"majordomo@example.org"`, `"Majordomo <majordomo@example.org>"`.
    #[schemars(extend("pattern" = NOT_BLANK))]
    pub from: String,
    /// Who may be written to: addresses, and whole domains as `"@example.org"`. Nobody else is.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Certificates in PEM that the server's may be signed by, besides those that the machine knows.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The most addresses that one letter goes to.
    #[serde(default = "max_recipients")]
    #[schemars(range(min = 1, max = 100))]
    pub max_recipients: u32,
    /// The largest letter in KiB, with what is attached.
    #[serde(default = "max_kib")]
    #[schemars(range(min = 16, max = 51200))]
    pub max_kib: u32,
    /// Letters that may be begun within an hour, by each process.
    #[serde(default = "per_hour")]
    #[schemars(range(min = 1))]
    pub per_hour: u32,
    /// Seconds until a letter must be on its way, and again as many for the server's last word.
    #[serde(default = "timeout_s")]
    #[schemars(range(min = 0.1, max = 300))]
    pub timeout_s: f64,
}

/// How what is said to a mail server is kept secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MailTls {
    /// TLS from the first byte on.
    #[default]
    Implicit,
    /// TLS before anything is said that matters; a server that has none gets nothing.
    Starttls,
    /// None, for a server on this machine alone.
    None,
}

fn max_recipients() -> u32 {
    10
}

fn max_kib() -> u32 {
    10 * 1024
}

fn per_hour() -> u32 {
    60
}

fn timeout_s() -> f64 {
    30.0
}

impl EmailSettings {
    /// The port, given or usual.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            MailTls::Implicit => 465,
            MailTls::Starttls => 587,
            MailTls::None => 25,
        })
    }

    /// How long each half of a dialogue may take.
    pub fn timeout(&self) -> Duration {
        // The configuration has checked that it is one.
        Duration::try_from_secs_f64(self.timeout_s).unwrap_or(Duration::ZERO)
    }

    /// The sender with its name, and its address alone.
    pub(crate) fn sender(&self) -> Option<(Mailbox, Address)> {
        sender(&self.from)
    }
}

fn sender(text: &str) -> Option<(Mailbox, Address)> {
    let given: Mailbox = text.parse().ok()?;
    let is_clean = |name: &String| !name.chars().any(char::is_control);
    let address: Address = given.email.to_string().parse().ok()?;
    given
        .name
        .as_ref()
        .is_none_or(is_clean)
        .then(|| (Mailbox::new(given.name, address.inner().clone()), address))
}

/// Everything that is wrong or unwise with the section.
pub(super) fn problems(settings: &Document<'_>) -> Vec<Problem> {
    let Some(section) = settings.find(&["email"]).pop() else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    problems.extend(host(settings));
    problems.extend(login(settings, &section));
    problems.extend(from(settings));
    problems.extend(allow(settings, &section));
    problems
}

fn host(settings: &Document<'_>) -> Option<Problem> {
    let found = settings.find(&["email", "host"]).pop()?;
    let text = found.value.as_ref().as_str()?;
    let host = Host::parse(text);
    let (label, message, help) = match &host {
        Err(_) => (
            "not a host",
            format!("`{text}` is not a host"),
            "write the server's name without a port and without a scheme: `host = \"smtp.example.org\"`",
        ),
        Ok(host) if settings.string(&["email", "tls"]) == Some("none") && !is_here(host) => (
            "not this machine",
            format!("`tls = \"none\"` would say everything to {text} in the clear"),
            "use `tls = \"implicit\"` or `tls = \"starttls\"`; none is for a server at 127.0.0.1, ::1 or localhost",
        ),
        Ok(_) => return None,
    };
    Some(
        settings
            .problem(found.value.span(), label, message)
            .help(help),
    )
}

/// Whether a host means this machine.
pub(crate) fn is_here(host: &Host<String>) -> bool {
    match host {
        Host::Domain(name) => is_localhost(name),
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    }
}

fn login(settings: &Document<'_>, section: &Found<'_, '_>) -> Option<Problem> {
    let table = section.value.as_ref().as_table()?;
    let (given, missing) = match (table.get("user"), table.get("password")) {
        (Some(user), None) => (user.span(), "password"),
        (None, Some(password)) => (password.span(), "user"),
        _ => return None,
    };
    let message = format!("`[email]` has no `{missing}`");
    let problem = settings.problem(given, "half of a login", message);
    Some(problem.help("give both, or neither for a server that needs no login"))
}

fn from(settings: &Document<'_>) -> Option<Problem> {
    let found = settings.find(&["email", "from"]).pop()?;
    let text = found.value.as_ref().as_str()?;
    (!text.trim().is_empty() && sender(text).is_none()).then(|| {
        let problem = settings.problem(
            found.value.span(),
            "not an address",
            format!("`{text}` is no sender"),
        );
        problem.help("write \"majordomo@example.org\", or \"Majordomo <majordomo@example.org>\"")
    })
}

fn allow(settings: &Document<'_>, section: &Found<'_, '_>) -> Vec<Problem> {
    let entries = settings.find(&["email", "allow", "*"]);
    if entries.is_empty() {
        let problem = settings.problem(
            section.key_span.clone(),
            "nobody",
            "`[email]` names nobody who may be written to",
        );
        let help = "list addresses and domains: `allow = [\"ada@example.org\", \"@example.org\"]`";
        return vec![problem.help(help).warning()];
    }
    let bad = |found: &Found<'_, '_>| {
        let entry = found.value.as_ref().as_str()?;
        let error = AllowList::new(&[entry.to_owned()]).err()?;
        let problem = settings.problem(found.value.span(), "nobody", error.to_string());
        Some(problem.help("domains below one that is named are not meant by it: name each"))
    };
    entries.iter().filter_map(bad).collect()
}
