//! Resolving names for the gateway: asks a [`Lookup`] and hands its clients only addresses that they may
//! connect to. What is checked is what is connected to, so a name that resolves differently
//! the next time gains nothing. A literal IP never comes here (the HTTP client skips resolving it):
//! `address::check` sees those.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::{Forbidden, not_public};

/// A way of turning a name into addresses.
pub trait Lookup: Send + Sync {
    /// All addresses of `host`.
    fn lookup(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// As the operating system resolves.
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let host = host.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Where a client may connect to.
#[derive(Clone, Debug)]
pub(super) enum Reach {
    /// Public addresses.
    Public,
    /// Any address: the host was found on the operator's list.
    Any,
    /// One host, and private addresses of it where that is meant.
    Only { host: String, private: bool },
}

/// Resolves for one client, within its reach.
pub(super) struct Guard {
    lookup: Arc<dyn Lookup>,
    reach: Reach,
}

impl Guard {
    pub(super) fn new(lookup: Arc<dyn Lookup>, reach: Reach) -> Self {
        Self { lookup, reach }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (lookup, reach, host) = (
            self.lookup.clone(),
            self.reach.clone(),
            name.as_str().to_owned(),
        );
        Box::pin(async move {
            if let Reach::Only { host: only, .. } = &reach
                && !only.eq_ignore_ascii_case(&host)
            {
                return Err(format!("this client is for {only}, not for {host}").into());
            }
            let found = lookup.lookup(&host).await?;
            let addresses = within(&reach, &host, found)?;
            Ok(Box::new(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0))) as Addrs)
        })
    }
}

/// The addresses that may be connected to; an error where there were some but none of those.
pub(super) fn within(
    reach: &Reach,
    host: &str,
    found: Vec<IpAddr>,
) -> Result<Vec<IpAddr>, Forbidden> {
    if matches!(reach, Reach::Any | Reach::Only { private: true, .. }) {
        return Ok(found);
    }
    let refused = found.iter().find_map(|ip| not_public(*ip));
    let public: Vec<_> = found
        .into_iter()
        .filter(|ip| not_public(*ip).is_none())
        .collect();
    match refused {
        Some(what) if public.is_empty() => Err(Forbidden::Address {
            host: host.into(),
            what,
        }),
        _ => Ok(public),
    }
}
