//! Which addresses may be reached: pure rules over IP addresses and URLs, and the operator's list of
//! exceptions. Resolving and connecting are not here. Called by the gateway for every address that
//! somebody else wrote, and again for every address that a name resolved to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Why an address that somebody else wrote is not fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Something else than http or https.
    #[error("scheme {0:?} is not fetched, only http and https")]
    Scheme(String),
    /// A user name or password stands in the address.
    #[error("addresses with a user name or password are not fetched; leave out the part before @")]
    UserInfo,
    /// There is no host in it.
    #[error("the address names no host")]
    NoHost,
    /// The host is, or resolves to, an address that is not public.
    #[error(
        "{host} is {what}, not a public address; an operator can allow it in the configuration \
         (egress.allow_private)"
    )]
    Address {
        /// The host as written.
        host: String,
        /// What kind of address it is.
        what: &'static str,
    },
}

/// An entry of `egress.allow_private` that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "egress.allow_private: {0:?} is no host; write \"wiki.internal\", \"127.0.0.1:8080\" or \"[::1]:8080\""
)]
pub struct InvalidAllowEntry(pub String);

/// The hosts that may be reached although their address is not public.
#[derive(Clone, Debug, Default)]
pub struct AllowList(Vec<(Host<String>, Option<u16>)>);

impl AllowList {
    /// Understands the entries: a host, or a host and the one port that is meant.
    pub fn new(entries: &[String]) -> Result<Self, InvalidAllowEntry> {
        entries
            .iter()
            .map(|entry| parse_entry(entry).ok_or_else(|| InvalidAllowEntry(entry.clone())))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether the URL's host and port are on the list.
    pub fn contains(&self, url: &Url) -> bool {
        let Some(host) = url.host().map(|host| canonical(host.to_owned())) else {
            return false;
        };
        self.has_host(&host, url.port_or_known_default())
    }

    /// Whether this host is on the list for this port.
    pub fn has(&self, host: &Host<String>, port: u16) -> bool {
        self.has_host(&canonical(host.clone()), Some(port))
    }

    fn has_host(&self, host: &Host<String>, port: Option<u16>) -> bool {
        self.0
            .iter()
            .any(|(allowed, only)| allowed == host && (only.is_none() || *only == port))
    }
}

fn parse_entry(entry: &str) -> Option<(Host<String>, Option<u16>)> {
    let entry = entry.trim();
    if let Ok(ip) = entry.parse::<IpAddr>() {
        return Some((ip_host(ip), None));
    }
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
        _ => (entry, None),
    };
    if host.is_empty() || host.contains(['/', '@', '*']) {
        return None;
    }
    Some((canonical(Host::parse(host).ok()?), port))
}

fn ip_host(ip: IpAddr) -> Host<String> {
    match ip {
        IpAddr::V4(ip) => Host::Ipv4(ip),
        IpAddr::V6(ip) => Host::Ipv6(ip),
    }
}

/// The host without the dot that marks a name as complete.
fn canonical(host: Host<String>) -> Host<String> {
    match host {
        Host::Domain(name) => Host::Domain(name.trim_end_matches('.').to_ascii_lowercase()),
        ip => ip,
    }
}

/// Checks what can be seen without resolving: scheme, user info, and hosts that are addresses or
/// mean this machine. `Ok(true)` where the allow list lets it pass.
pub fn check(url: &Url, allowed: &AllowList) -> Result<bool, Forbidden> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Forbidden::Scheme(url.scheme().into()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Forbidden::UserInfo);
    }
    let host = url.host().ok_or(Forbidden::NoHost)?;
    if allowed.contains(url) {
        return Ok(true);
    }
    let what = match &host {
        Host::Ipv4(ip) => not_public(IpAddr::V4(*ip)),
        Host::Ipv6(ip) => not_public(IpAddr::V6(*ip)),
        Host::Domain(name) => is_localhost(name).then_some("this machine"),
    };
    match what {
        Some(what) => Err(Forbidden::Address {
            host: host.to_string(),
            what,
        }),
        None => Ok(false),
    }
}

/// Whether a name means this machine by convention, whatever a resolver says.
pub fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// What an address is where it is not a public unicast address; `None` where it is one.
/// Source: the IANA special-purpose registries for IPv4 and IPv6 (RFC 6890 and its updates).
pub fn not_public(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => not_public_v4(ip),
        IpAddr::V6(ip) => not_public_v6(ip),
    }
}

fn not_public_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let what = match ip.octets() {
        [0, ..] => "the unspecified network",
        [127, ..] => "a loopback address",
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => "a private address",
        [100, 64..=127, ..] => "a carrier's private address",
        [169, 254, ..] => "a link-local address (cloud metadata)",
        // Not in a registry: the address at which Azure serves its machines' own data.
        [168, 63, 129, 16] => "a cloud provider's internal address",
        [192, 0, 0, _] | [192, 88, 99, _] => "a reserved address",
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => "a documentation address",
        [198, 18..=19, ..] => "a benchmarking address",
        [224..=239, ..] => "a multicast address",
        [240..=255, ..] => "a reserved address",
        _ => return None,
    };
    Some(what)
}

/// Public unicast is 2000::/3 alone, without the parts of it that carry other addresses inside.
fn not_public_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let what = match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => "the unspecified address",
        [0, 0, 0, 0, 0, 0, 0, 1] => "a loopback address",
        [0, 0, 0, 0, 0, 0xffff, ..] => "an IPv4 address written as IPv6",
        [0x64, 0xff9b, ..] => "a NAT64 address",
        [0x2001, 0..=0x1ff, ..] => "a reserved or Teredo address",
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => "a documentation address",
        [0x2002, ..] => "a 6to4 address",
        [0xfc00..=0xfdff, ..] => "a private address",
        [0xfe80..=0xfebf, ..] => "a link-local address",
        [0xff00..=0xffff, ..] => "a multicast address",
        [0x2000..=0x3fff, ..] => return None,
        _ => "a reserved address",
    };
    Some(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn an_entry_allows_its_host_and_with_a_port_only_that_port() {
        let entries = [
            "wiki.internal",
            "127.0.0.1:8080",
            "[::1]:9000",
            "::2",
            "Büro.example:80",
        ];
        let list = AllowList::new(&entries.map(String::from)).unwrap();
        for yes in [
            "http://wiki.internal/",
            "https://WIKI.internal.:8443/a",
            "http://0x7f.1:8080/",
            "http://[0:0::1]:9000/",
            "http://[::2]:7/",
            "http://büro.example/",
        ] {
            assert!(list.contains(&url(yes)), "{yes}");
        }
        for no in [
            "http://127.0.0.1/",
            "http://127.0.0.1:8081/",
            "http://x.wiki.internal/",
            "http://[::1]/",
            "https://büro.example/",
        ] {
            assert!(!list.contains(&url(no)), "{no}");
        }
    }

    #[test]
    fn an_entry_that_is_no_host_is_refused() {
        for bad in [
            "",
            "http://a",
            "a/b",
            "*.internal",
            "a:b",
            "u@h",
            "a b",
            "[::1",
            "a:99999",
        ] {
            assert!(AllowList::new(&[bad.into()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_edges_of_the_forbidden_ranges() {
        #[rustfmt::skip]
        let public = [
            "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
            "126.255.255.255", "128.0.0.0", "169.253.255.255", "172.15.255.255", "172.32.0.0",
            "192.0.1.0", "192.167.255.255", "198.17.255.255", "198.20.0.0", "223.255.255.255",
            "2000::1", "2001:200::1", "2001:4860:4860::8888", "2003::1", "3ffe::1",
        ];
        for ip in public {
            assert_eq!(not_public(ip.parse().unwrap()), None, "{ip}");
        }
        #[rustfmt::skip]
        let forbidden = [
            "0.0.0.0", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.1",
            "127.255.255.255", "169.254.169.254", "172.16.0.0", "172.31.255.255", "192.168.0.0",
            "198.19.255.255", "224.0.0.1", "240.0.0.1", "255.255.255.255", "168.63.129.16", "::",
            "::1", "::7f00:1", "::ffff:8.8.8.8", "64:ff9b::808:808", "64:ff9b:1::1", "100::1",
            "2001::1", "2001:1ff::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "4000::1",
            "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "5f00::1",
        ];
        for ip in forbidden {
            assert!(not_public(ip.parse().unwrap()).is_some(), "{ip}");
        }
    }
}
