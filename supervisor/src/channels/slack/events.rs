//! What Slack hands us: whether it was Slack who did, and keeping it. By whatever way it came, it is
//! acknowledged after it is durable, and only then; what is not acknowledged comes again.
//!
//! Signatures are checked here rather than by slack-morphism, whose error shows the right one.

use std::borrow::Cow;

use axum::http::HeaderMap;
use hmac::{Hmac, Mac as _};
use serde_json::{Map, Value};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use shared::config::secret::Secret;
use shared::id::TenantId;
use shared::run::Timestamp;
use shared::store::{Error, Mailroom};

use super::read::{Arrival, arrival};

/// How far a request's time may lie from ours, in seconds.
const WINDOW_S: i64 = 5 * 60;

/// Knows Slack's requests from others.
pub struct Seal(Secret);

impl Seal {
    /// By the app's signing secret.
    pub fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// Whether a request with this body was signed by Slack, and lately.
    pub fn holds(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> bool {
        let (Some(time), Some(shown)) = (
            only(headers, "x-slack-request-timestamp"),
            only(headers, "x-slack-signature"),
        ) else {
            return false;
        };
        let is_late = time
            .parse()
            .is_ok_and(|time: i64| (now.0 / 1000).abs_diff(time) <= WINDOW_S.unsigned_abs());
        let shown = shown.strip_prefix("v0=").map(hex::decode);
        let (true, Some(Ok(shown))) = (is_late, shown) else {
            return false;
        };
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.expose().as_bytes()) else {
            return false;
        };
        for part in [b"v0:", time.as_bytes(), b":", body] {
            mac.update(part);
        }
        mac.finalize().into_bytes().ct_eq(&shown).into()
    }
}

/// A header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// What a request carries: JSON, a form, or JSON in a form.
pub fn payload(body: &[u8]) -> Option<Value> {
    if let Ok(json @ Value::Object(_)) = serde_json::from_slice(body) {
        return Some(json);
    }
    let pairs = || url::form_urlencoded::parse(body);
    if let Some((_, payload)) = pairs().find(|(name, _)| name == "payload") {
        return serde_json::from_str(&payload).ok();
    }
    let owned = |(name, value): (Cow<'_, str>, Cow<'_, str>)| {
        (name.into_owned(), Value::String(value.into_owned()))
    };
    let fields: Map<String, Value> = pairs().map(owned).collect();
    fields
        .contains_key("command")
        .then_some(Value::Object(fields))
}

/// Keeps what is for us. On return it may be acknowledged, with this where there is something: it is
/// durable, or there is nothing to keep.
pub async fn keep(
    mail: &dyn Mailroom,
    tenant: &TenantId,
    payload: &Value,
) -> Result<Option<Value>, Error> {
    let new = match arrival(payload) {
        Arrival::Ours(new) => new,
        Arrival::InThread(root, new) => match mail.find(tenant, super::NAME, &root).await? {
            Some(_) => new,
            None => return Ok(None),
        },
        Arrival::Answered(answer) => return Ok(Some(answer)),
        Arrival::Others => return Ok(None),
    };
    mail.receive(tenant, vec![new], None).await?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    const SIGNED: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
    const AT_S: i64 = 1_531_420_618;

    fn seal() -> Seal {
        let secret: shared::config::secret::SecretRef =
            "8f742231b10e8888abcd99yyyzzz85a5".parse().unwrap();
        Seal::new(secret.resolve().unwrap())
    }

    fn headers(time: &str, signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("X-Slack-Request-Timestamp", time.parse().unwrap());
        headers.insert("X-Slack-Signature", signature.parse().unwrap());
        headers
    }

    #[test]
    fn the_documented_example_holds_and_nothing_else() {
        let holds = |headers: &HeaderMap, body: &[u8], at_s: i64| {
            seal().holds(headers, body, Timestamp(at_s * 1000))
        };
        let time = AT_S.to_string();
        let right = headers(&time, SIGNED);
        assert!(holds(&right, BODY, AT_S));
        assert!(holds(&right, BODY, AT_S + 300) && holds(&right, BODY, AT_S - 300));
        assert!(!holds(&right, BODY, AT_S + 301) && !holds(&right, BODY, AT_S - 301));
        assert!(!holds(&right, &BODY[1..], AT_S));
        assert!(!holds(&HeaderMap::new(), BODY, AT_S));
        for (time, signature) in [
            ("1531420619", SIGNED),
            ("-9223372036854775808", SIGNED),
            ("soon", SIGNED),
            (&time, &SIGNED[3..]),
            (&time, &SIGNED[..SIGNED.len() - 2]),
            (&time, "v0="),
            (&time, "v0=zz"),
        ] {
            assert!(
                !holds(&headers(time, signature), BODY, AT_S),
                "{time} {signature}"
            );
        }
        let mut twice = right;
        twice.append("X-Slack-Signature", SIGNED.parse().unwrap());
        assert!(!holds(&twice, BODY, AT_S));
    }

    #[test]
    fn payloads_come_as_json_as_forms_and_as_json_in_forms() {
        assert_eq!(payload(br#"{"type":"x"}"#).unwrap()["type"], "x");
        assert_eq!(payload(BODY).unwrap()["command"], "/webhook-collect");
        assert_eq!(payload(b"payload=%7B%22a%22%3A1%7D").unwrap()["a"], 1);
        for odd in [&b""[..], b"[]", b"a=b", b"payload=x", b"\xff"] {
            assert!(payload(odd).is_none());
        }
    }
}
