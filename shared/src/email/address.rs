//! Addresses that letters go to, and the operator's list of whom they may go to. Pure.
//!
//! An [`Address`] is in one form only, so that what was checked is what is written to: its domain is a
//! name in ASCII and lower case (`bücher.example` becomes `xn--bcher-kva.example`), its part before the
//! `@` holds none of the characters that a relay might read as a route to somewhere else.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Host;

/// Characters besides letters and digits that may stand before the `@`. RFC 5321 knows more: `%` and `!`
/// were routes once, `*` looks like everybody, and quoted parts are read differently by different servers.
const ALSO: &str = "#$&'+-/=?^_`{|}~.";

/// Somebody's mailbox, such as `ada@example.org`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(lettre::Address);

/// Why a text is no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address that can be written to; write it as \"name@example.org\"")]
pub struct BadAddress(String);

impl Address {
    /// The part after the `@`.
    pub fn domain(&self) -> &str {
        self.0.domain()
    }

    /// As the mail library has it.
    pub(crate) fn inner(&self) -> &lettre::Address {
        &self.0
    }

    /// What it is known by: no server that people use tells `Ada@` from `ada@`.
    fn folded(&self) -> String {
        self.to_string().to_ascii_lowercase()
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.chars().take(100).collect());
        let (local, domain) = text.trim().rsplit_once('@').ok_or_else(bad)?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ALSO.contains(c);
        if !local.chars().all(is_plain) {
            return Err(bad());
        }
        let domain = domain_of(domain).ok_or_else(bad)?;
        lettre::Address::new(local, domain)
            .map(Self)
            .map_err(|_| bad())
    }
}

/// A domain in ASCII and lower case. Numbers are none, nor is what is written as a URL would have it.
fn domain_of(text: &str) -> Option<String> {
    if text.contains('%') || text.ends_with('.') {
        return None;
    }
    match Host::parse(text).ok()? {
        Host::Domain(name) => Some(name),
        Host::Ipv4(_) | Host::Ipv6(_) => None,
    }
}

impl TryFrom<String> for Address {
    type Error = BadAddress;

    fn try_from(text: String) -> Result<Self, BadAddress> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whom letters may go to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    domains: BTreeSet<String>,
    addresses: BTreeSet<String>,
}

/// An entry of `allow` that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names nobody; write an address, \"ada@example.org\", or a whole domain, \"@example.org\""
)]
pub struct BadEntry(pub String);

impl AllowList {
    /// Understands the entries: an address, or a domain after an `@`, without the domains below it.
    pub fn new(entries: &[String]) -> Result<Self, BadEntry> {
        let mut list = Self::default();
        for entry in entries {
            let bad = || BadEntry(entry.clone());
            match entry.trim().strip_prefix('@') {
                Some(domain) => {
                    // What can stand in no address would let nobody in, unseen.
                    let whole: Address = format!("a@{domain}").parse().map_err(|_| bad())?;
                    list.domains.insert(whole.domain().to_owned());
                }
                None => {
                    let address: Address = entry.parse().map_err(|_| bad())?;
                    list.addresses.insert(address.folded());
                }
            }
        }
        Ok(list)
    }

    /// Whether this address may be written to.
    pub fn permits(&self, address: &Address) -> bool {
        self.domains.contains(address.domain()) || self.addresses.contains(&address.folded())
    }
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domains = self.domains.iter().map(|domain| format!("@{domain}"));
        let all: Vec<String> = domains.chain(self.addresses.iter().cloned()).collect();
        match all.is_empty() {
            true => f.write_str("nobody"),
            false => f.write_str(&all.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_form() {
        let table = [
            ("ada@example.org", "ada@example.org"),
            (" Ada.L+x@EXAMPLE.org ", "Ada.L+x@example.org"),
            ("a@bücher.example", "a@xn--bcher-kva.example"),
            ("a@XN--bcher-kva.example", "a@xn--bcher-kva.example"),
            ("ops@localhost", "ops@localhost"),
            ("o'neil@example.org", "o'neil@example.org"),
        ];
        for (given, expected) in table {
            let address: Address = given.parse().unwrap();
            assert_eq!(address.to_string(), expected, "{given}");
        }
    }

    #[test]
    fn what_could_mean_more_than_one_mailbox_is_none() {
        let long = format!("{}@example.org", "a".repeat(65));
        #[rustfmt::skip]
        let bad = [
            "", "@", "a", "a@", "@example.org", "a@b@example.org", "a b@example.org", "a@exa mple.org",
            "a@example.org\r\nBcc: x@evil.example", "a\r\n@example.org", "a@example.org\0", "a@example.org,b@example.org",
            "a@example.org; b@example.org", "Ada <ada@example.org>", "<ada@example.org>", "\"a b\"@example.org",
            "\"a@evil.example\"@example.org", "a%evil.example@example.org", "evil.example!a@example.org",
            "ädä@example.org", "a@[127.0.0.1]", "a@127.0.0.1", "a@2130706433", "a@example.org.", "a@exa%6dple.org",
            ".a@example.org", "a..b@example.org", "a@-example.org", "a@exa_mple/.org", "a@example..org", &long,
            "a\u{202e}@example.org", "a@example.org/x", "a@example.org:25",
        ];
        for text in bad {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_list_permits_those_whom_it_names() {
        let entries = ["@example.org", "ada@b.c", "@Bücher.example"].map(String::from);
        let list = AllowList::new(&entries).unwrap();
        for yes in [
            "x@example.org",
            "X@EXAMPLE.ORG",
            "Ada@B.c",
            "a@bücher.example",
        ] {
            assert!(list.permits(&yes.parse().unwrap()), "{yes}");
        }
        for no in [
            "x@sub.example.org",
            "bob@b.c",
            "x@example.org.evil.example",
            "x@eexample.org",
        ] {
            assert!(!list.permits(&no.parse().unwrap()), "{no}");
        }
        assert!(!AllowList::default().permits(&"a@b.c".parse().unwrap()));
        assert_eq!(AllowList::default().to_string(), "nobody");
        for bad in [
            "",
            "@",
            "example.org",
            "*@example.org",
            "@*.example.org",
            "*",
            "@a@b.c",
            "@1.2.3.4",
        ] {
            assert!(AllowList::new(&[bad.into()]).is_err(), "{bad:?}");
        }
    }
}
