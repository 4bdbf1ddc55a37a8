//! Where somebody wants to be called back: which addresses are taken, and the row that owes the call.

use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use shared::egress::Gateway;
use shared::egress::address::Forbidden;
use shared::store::NewOut;

use super::CHANNEL;

/// The longest address in bytes.
pub const MAX_URL: usize = 2048;

/// Why nobody is called at an address. The address is not repeated: it may hold a secret.
#[derive(Debug, thiserror::Error)]
pub enum NotCallable {
    /// It is too long.
    #[error("has {0} bytes, at most {MAX_URL} are taken")]
    TooLong(usize),
    /// It is no URL.
    #[error("is no URL: {0}; write it in full, as https://example.com/path")]
    NotUrl(#[from] url::ParseError),
    /// It could be read and changed on its way.
    #[error(
        "must begin with https://; http is for hosts that the operator lists in \
         [egress] allow_private"
    )]
    Plain,
    /// It leads to where nothing may go.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
}

/// The body of the row that owes a call.
#[derive(Serialize, Deserialize)]
pub(super) struct Called {
    /// Where to.
    pub url: Url,
}

/// The card of a task whose end is to be told to this address. Its conversation is the address's origin:
/// what is due there shares its turns.
pub fn card(gateway: &Gateway, address: &str) -> Result<NewOut, NotCallable> {
    if address.len() > MAX_URL {
        return Err(NotCallable::TooLong(address.len()));
    }
    let url = Url::parse(address)?;
    let allowed = gateway.check(&url)?;
    if url.scheme() != "https" && !allowed {
        return Err(NotCallable::Plain);
    }
    Ok(NewOut {
        channel: CHANNEL.into(),
        key: format!("{CHANNEL}/{}", Uuid::now_v7()),
        conversation: url.origin().ascii_serialization(),
        body: serde_json::json!({ "url": url }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::config::EgressSettings;

    #[test]
    fn addresses_are_taken_that_lead_to_where_something_may_go() {
        let allow_private = vec!["wiki.internal".into(), "127.0.0.1:8080".into()];
        let gateway = Gateway::new(&EgressSettings { allow_private }).unwrap();
        let long = format!("https://example.com/{}", "x".repeat(MAX_URL));
        for (address, taken) in [
            ("https://example.com/hook?token=x", true),
            ("https://example.com:8443", true),
            ("http://wiki.internal/x", true),
            ("http://127.0.0.1:8080/", true),
            ("http://example.com/", false),
            ("http://127.0.0.1:8081/", false),
            ("https://127.0.0.1/", false),
            ("https://[::1]/", false),
            ("https://169.254.169.254/latest", false),
            ("https://localhost/", false),
            ("https://2130706433/", false),
            ("https://user:password@example.com/", false),
            ("https://user@example.com/", false),
            ("ftp://example.com/", false),
            ("file:///etc/passwd", false),
            ("example.com/hook", false),
            ("", false),
            (&long, false),
        ] {
            let card = card(&gateway, address);
            assert_eq!(card.is_ok(), taken, "{address}: {card:?}");
        }
        let card = card(&gateway, "https://Example.com/a?b=c").unwrap();
        assert_eq!(card.conversation, "https://example.com");
        assert_eq!(card.body["url"], "https://example.com/a?b=c");
    }
}
