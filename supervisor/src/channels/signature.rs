//! Signatures on what is sent between services: HMAC-SHA256 in the ways of GitHub, Stripe and Standard
//! Webhooks, and in a header of somebody's choice. Pure: who calls it says what time it is. Comparisons
//! take the same time whatever was sent, and no signature that would have been right is told anybody.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use shared::config::Encoding;

/// A signature that bears a time is good for so many seconds before and after it, as Stripe and Standard
/// Webhooks have it.
const WINDOW_S: i64 = 5 * 60;
/// How a Standard Webhooks secret begins.
const SECRET_PREFIX: &str = "whsec_";
/// The fewest bytes of such a secret.
const SHORTEST_SECRET: usize = 16;
/// So many signatures of one request are looked at; senders that change their secret send two.
const MOST_SIGNATURES: usize = 8;

/// A key to sign with. It shows itself nowhere.
#[derive(Clone)]
pub struct Key(Vec<u8>);

/// A secret that is no Standard Webhooks secret. The secret is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the secret must be `whsec_` and at least {SHORTEST_SECRET} bytes in base64; make one with \
     `echo whsec_$(openssl rand -base64 32)`"
)]
pub struct BadSecret;

impl Key {
    /// The bytes of a text, as GitHub, Stripe and most others use their secrets.
    pub fn of_text(secret: &str) -> Self {
        Self(secret.as_bytes().to_vec())
    }

    /// What a Standard Webhooks secret stands for.
    pub fn of_standard(secret: &str) -> Result<Self, BadSecret> {
        let encoded = secret.trim().strip_prefix(SECRET_PREFIX).ok_or(BadSecret)?;
        let decoded = STANDARD_NO_PAD.decode(encoded.trim_end_matches('='));
        match decoded {
            Ok(bytes) if bytes.len() >= SHORTEST_SECRET => Ok(Self(bytes)),
            _ => Err(BadSecret),
        }
    }

    /// The `webhook-signature` of a message by Standard Webhooks.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mac = self.mac(&[
            id.as_bytes(),
            b".",
            timestamp.to_string().as_bytes(),
            b".",
            body,
        ]);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    /// Whether `X-Hub-Signature-256` is GitHub's for this body.
    pub fn is_github(&self, header: &str, body: &[u8]) -> bool {
        self.is_plain(header, "sha256=", Encoding::Hex, body)
    }

    /// Whether a header is a prefix and the signature of this body.
    pub fn is_plain(&self, header: &str, prefix: &str, encoding: Encoding, body: &[u8]) -> bool {
        let shown = header.trim().strip_prefix(prefix);
        let shown = shown.and_then(|text| match encoding {
            Encoding::Hex => hex::decode(text).ok(),
            Encoding::Base64 => unbase64(text),
        });
        shown.is_some_and(|shown| self.agrees(&shown, &[body]))
    }

    /// Whether `Stripe-Signature` is Stripe's for this body, and not older or newer than it may be.
    pub fn is_stripe(&self, header: &str, body: &[u8], now_s: i64) -> bool {
        let parts = || {
            header
                .split(',')
                .filter_map(|part| part.trim().split_once('='))
        };
        let Some((_, timestamp)) = parts().find(|(name, _)| *name == "t") else {
            return false;
        };
        let mut shown = parts()
            .filter(|(name, _)| *name == "v1")
            .take(MOST_SIGNATURES)
            .filter_map(|(_, text)| hex::decode(text).ok());
        is_recent(timestamp, now_s)
            && shown.any(|shown| self.agrees(&shown, &[timestamp.as_bytes(), b".", body]))
    }

    /// Whether these headers are those of Standard Webhooks for this body, and not older or newer than
    /// they may be.
    pub fn is_standard(
        &self,
        (id, timestamp, signatures): (&str, &str, &str),
        body: &[u8],
        now_s: i64,
    ) -> bool {
        let message: [&[u8]; 5] = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        let mut shown = signatures
            .split(' ')
            .take(MOST_SIGNATURES)
            .filter_map(|one| unbase64(one.strip_prefix("v1,")?));
        !id.is_empty()
            && is_recent(timestamp, now_s)
            && shown.any(|shown| self.agrees(&shown, &message))
    }

    fn agrees(&self, shown: &[u8], message: &[&[u8]]) -> bool {
        // In the same time, whatever was shown.
        self.mac(message).verify_slice(shown).is_ok()
    }

    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    fn mac(&self, message: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        message.iter().for_each(|part| mac.update(part));
        mac
    }
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

/// Whether a time in seconds lies within the window. One that is written otherwise than as digits does
/// not: then more than one text would stand for it.
fn is_recent(timestamp: &str, now_s: i64) -> bool {
    let digits = !timestamp.is_empty() && timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let at = timestamp.parse::<i64>().ok().filter(|_| digits);
    at.is_some_and(|at| now_s.abs_diff(at) <= WINDOW_S as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    // All expected values were computed with Python's `hmac` module, and the first with `openssl dgst`.
    const BODY: &[u8] = br#"{"action":"opened","n":1}"#;
    const SECRET: &str = "It's a Secret to Everybody";
    const AT: i64 = 1_700_000_000;
    const STANDARD_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn what_github_signs_is_known() {
        let key = Key::of_text(SECRET);
        let documented = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert!(key.is_github(documented, b"Hello, World!"));
        let cases = [
            ("", "nothing"),
            ("sha256=", "no signature"),
            (&documented[7..], "no prefix"),
            (&documented[..documented.len() - 2], "a shorter one"),
            (&documented.replace("75710", "75711"), "another one"),
            (&documented.replace("sha256", "sha1"), "another way"),
        ];
        for (header, what) in cases {
            assert!(!key.is_github(header, b"Hello, World!"), "{what}");
        }
        assert!(!key.is_github(documented, b"Hello, World"), "another body");
        assert!(!Key::of_text("other").is_github(documented, b"Hello, World!"));
    }

    #[test]
    fn what_stripe_signs_is_known_for_five_minutes() {
        let key = Key::of_text("whsec_test");
        let good = "61c1cbb2579169dad210095fc0a503023214e724e3c325aa0bdb130d6b0919d9";
        let header = format!("t={AT},v1={good}");
        for (header, now, taken) in [
            (header.clone(), AT, true),
            (format!("t={AT},v1=00ff,v0=1,v1={good}"), AT, true),
            (header.clone(), AT + 300, true),
            (header.clone(), AT + 301, false),
            (header.clone(), AT - 301, false),
            (format!("t={},v1={good}", AT + 1), AT, false),
            (format!("t=+{AT},v1={good}"), AT, false),
            (format!("t=99999999999999999999,v1={good}"), AT, false),
            (format!("v1={good}"), AT, false),
            (format!("t={AT},v0={good}"), AT, false),
            (format!("t={AT}"), AT, false),
        ] {
            assert_eq!(
                key.is_stripe(&header, BODY, now),
                taken,
                "{header} at {now}"
            );
        }
        assert!(!key.is_stripe(&header, b"{}", AT));
    }

    #[test]
    fn what_is_signed_by_standard_webhooks_is_known_for_five_minutes() {
        let key = Key::of_standard(STANDARD_SECRET).unwrap();
        let good = "v1,ii0/al7ULmZM3+JxgVH6dILwBgcZrd2nWXzxmg5TpgQ=";
        assert_eq!(key.sign("msg_1", AT, BODY), good);
        let at = AT.to_string();
        for (headers, now, taken) in [
            (("msg_1", &*at, good), AT, true),
            (
                ("msg_1", &*at, &*format!("v1,AAAA v1a,x {good}")),
                AT + 300,
                true,
            ),
            (("msg_1", &*at, good), AT + 301, false),
            (("msg_1", &*at, good), AT - 301, false),
            (("msg_2", &*at, good), AT, false),
            (("", &*at, good), AT, false),
            (("msg_1", "", good), AT, false),
            (("msg_1", &*at, ""), AT, false),
            (("msg_1", &*at, &good[3..]), AT, false),
        ] {
            assert_eq!(
                key.is_standard(headers, BODY, now),
                taken,
                "{headers:?} at {now}"
            );
        }
        assert!(!key.is_standard(("msg_1", &at, good), b"{}", AT));
    }

    #[test]
    fn a_signature_of_no_known_way_is_known_by_its_header() {
        let key = Key::of_text(SECRET);
        for (header, prefix, encoding) in [
            (
                "727d25fc651bb6485e735d9fc9f3ce9dae7074e5bd7b79f9114614f7d49ea85c",
                "",
                Encoding::Hex,
            ),
            (
                "v=727d25fc651bb6485e735d9fc9f3ce9dae7074e5bd7b79f9114614f7d49ea85c",
                "v=",
                Encoding::Hex,
            ),
            (
                "cn0l/GUbtkhec12fyfPOna5wdOW9e3n5EUYU99SeqFw=",
                "",
                Encoding::Base64,
            ),
        ] {
            assert!(key.is_plain(header, prefix, encoding, BODY), "{header}");
            assert!(!key.is_plain(header, "other", encoding, BODY));
            assert!(!key.is_plain(header, prefix, encoding, b""));
        }
    }

    #[test]
    fn a_secret_that_is_none_is_refused() {
        for bad in [
            "",
            "whsec_",
            "whsec_AAAA",
            "whsec_?",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ] {
            assert_eq!(Key::of_standard(bad).err(), Some(BadSecret), "{bad}");
        }
        assert!(Key::of_standard("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").is_ok());
    }
}
