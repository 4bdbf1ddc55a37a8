//! Request signatures: `v0=` and HMAC-SHA256 over version, timestamp and raw body.

use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// How the next deliveries are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "sign", rename_all = "snake_case")]
pub enum Signing {
    /// Rightly.
    #[default]
    Right,
    /// With another secret.
    WrongSecret,
    /// Rightly, so many seconds ago (or ahead, when negative): a replay.
    Stale {
        /// How long ago.
        by_s: i64,
    },
    /// For another body.
    OtherBody,
    /// Not at all.
    Missing,
}

/// The signature of a body.
pub fn signature(secret: &str, timestamp: i64, body: &[u8]) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("v0:{timestamp}:").as_bytes());
    mac.update(body);
    format!("v0={}", hex::encode(mac.finalize().into_bytes()))
}

/// The headers of a delivery, signed like this.
pub fn headers(signing: Signing, secret: &str, now_s: i64, body: &[u8]) -> Vec<(String, String)> {
    let (timestamp, signature) = match signing {
        Signing::Right => (now_s, signature(secret, now_s, body)),
        Signing::WrongSecret => (now_s, signature("another secret", now_s, body)),
        Signing::Stale { by_s } => (now_s - by_s, signature(secret, now_s - by_s, body)),
        Signing::OtherBody => (now_s, signature(secret, now_s, b"{}")),
        Signing::Missing => return Vec::new(),
    };
    vec![
        (
            "X-Slack-Request-Timestamp".to_owned(),
            timestamp.to_string(),
        ),
        ("X-Slack-Signature".to_owned(), signature),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_example() {
        // From "Verifying requests from Slack".
        let body = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        assert_eq!(
            signature("8f742231b10e8888abcd99yyyzzz85a5", 1_531_420_618, body),
            "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
        );
    }
}
