//! The egress gateway: the one place in the system that builds an HTTP client, or speaks to a mail
//! server. Everything that goes out (models, search, pages, letters) goes through here, so that one set
//! of rules decides where to.
//!
//! ```text
//!   model, web_search ──trusted(base URL from the config)──► client bound to that host ──┐
//!   callbacks ──post(address from anywhere)──► the same checks, no redirects ────────────┤
//!   fetch_page ──fetch(address from anywhere)──► check URL ► resolve, drop forbidden ► connect
//!                     ▲                                                                  │
//!                     └──────────── redirect: checked again, five at most ───────────────┘
//!   letters ──smtp(server from the config)──► resolve, drop forbidden ► connect ► TLS
//! ```
//! It owns which addresses may be reached ([`address`]), resolving ([`resolver`]), following
//! redirects with size and time caps ([`fetch`]), turning transport errors and statuses into
//! [`Failure`]s ([`failure`]), and SMTP ([`smtp`]). It makes one attempt per call, knows no proxies, and
//! keeps neither cookies nor secrets: callers put their keys into their own requests.

pub mod address;
pub mod failure;
mod fetch;
mod post;
pub mod resolver;
pub mod smtp;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::{Arc, Once, OnceLock};
use std::time::Duration;

use url::{Host, Url};

use crate::config::EgressSettings;
use crate::run::{Failure, FailureKind};
use address::{AllowList, InvalidAllowEntry};
use resolver::{Guard, Lookup, Reach, SystemLookup};

pub use fetch::{FetchRequest, Fetched};
pub use post::{PostRequest, Posted};

/// How long making a connection may take; the whole request has its own, longer limit.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the far side sees as `User-Agent`.
const USER_AGENT: &str = concat!("majordomo/", env!("CARGO_PKG_VERSION"));

/// The gateway. Cloning it is cheap; clones share connections.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    allowed: AllowList,
    lookup: Arc<dyn Lookup>,
    /// For public addresses. Built at first use: a machine without root certificates can still
    /// do everything that needs no TLS.
    public: OnceLock<reqwest::Client>,
    /// For hosts on the allow list; used for no other host.
    private: OnceLock<reqwest::Client>,
}

/// A client for one base URL that the operator wrote into the configuration.
#[derive(Clone, Debug)]
pub struct Trusted {
    client: reqwest::Client,
    base: Url,
}

/// The HTTP client could not be built.
#[derive(Debug, thiserror::Error)]
#[error("HTTP client: {0}; are root certificates installed (package `ca-certificates`)?")]
pub struct ClientError(String);

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Failure::new(FailureKind::Permanent, error.to_string())
    }
}

impl Gateway {
    /// A gateway that resolves names as the system does. Fails on an entry of `allow_private` that
    /// is no host.
    pub fn new(settings: &EgressSettings) -> Result<Self, InvalidAllowEntry> {
        Self::with_lookup(settings, Arc::new(SystemLookup))
    }

    /// A gateway with its own way of resolving names.
    pub fn with_lookup(
        settings: &EgressSettings,
        lookup: Arc<dyn Lookup>,
    ) -> Result<Self, InvalidAllowEntry> {
        Ok(Self {
            inner: Arc::new(Inner {
                allowed: AllowList::new(&settings.allow_private)?,
                lookup,
                public: OnceLock::new(),
                private: OnceLock::new(),
            }),
        })
    }

    /// A client for a base URL from the configuration. It pools connections, follows no redirects,
    /// repeats nothing, and resolves no name but the base URL's. A private address is reached
    /// where the URL itself names one (`127.0.0.1`, `localhost`), where `local` is set, and where
    /// the host is in `egress.allow_private`; a public name that resolves to a private address
    /// is refused.
    pub fn trusted(&self, base_url: &Url, local: bool) -> Result<Trusted, ClientError> {
        let private = local || names_private(base_url) || self.inner.allowed.contains(base_url);
        let host = base_url.host_str().unwrap_or_default().to_owned();
        let reach = Reach::Only { host, private };
        let plain = base_url.scheme() == "http";
        Ok(Trusted {
            client: self.build(reach, plain)?,
            base: base_url.clone(),
        })
    }

    fn build(&self, reach: Reach, plain: bool) -> Result<reqwest::Client, ClientError> {
        install_crypto();
        let guard = Guard::new(self.inner.lookup.clone(), reach);
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the gateway: clients are built here and nowhere else"
        )]
        let mut builder = reqwest::Client::builder()
            .dns_resolver(Arc::new(guard))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(USER_AGENT);
        if plain {
            // Without TLS no root certificates are needed, and none may be installed.
            builder = builder.tls_certs_only([]);
        }
        builder
            .build()
            .map_err(|error| ClientError(failure::chain(&error)))
    }

    fn client(&self, private: bool) -> Result<&reqwest::Client, ClientError> {
        let (cell, reach) = if private {
            (&self.inner.private, Reach::Any)
        } else {
            (&self.inner.public, Reach::Public)
        };
        if cell.get().is_none() {
            let _raced = cell.set(self.build(reach, false)?);
        }
        cell.get().ok_or_else(|| ClientError("was not kept".into()))
    }
}

impl Trusted {
    /// The client, for libraries that want one. It resolves only the base URL's host.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// The base URL.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The address of `path` below the base URL, whether or not that ends with a slash.
    pub fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let joined = format!(
            "{}/{}",
            url.path().trim_end_matches('/'),
            path.trim_start_matches('/')
        );
        url.set_path(&joined);
        url
    }
}

/// Whether the URL says by itself that it means a private address.
fn names_private(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => address::is_localhost(name),
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        None => false,
    }
}

/// Chooses ring for TLS in the whole process. Safe to call again.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that somebody chose a provider before; theirs is as good.
        let _chosen_before = rustls::crypto::ring::default_provider().install_default();
    });
}
