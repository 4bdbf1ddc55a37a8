//! Codes in messages that came: what is kept of one is its SHA-256. In the message itself, zeros stand
//! in its place, as many and grouped alike, so that all that counts characters in it stays right. A
//! [`NewMail`] passes through here before it is kept, and what its sender showed is read from here.

use serde_json::Value;

use shared::hash::Hash;
use shared::store::NewMail;

use super::Says;
use super::command::Linking;
use crate::people::code::Code;

/// Where a message's body holds the hash of what was shown.
const SHOWN: &str = "shown";

/// The message without the code that it shows by these words, where it shows one.
pub fn sealed(mut mail: NewMail, says: &Says) -> NewMail {
    let (Says::Words(text) | Says::Edit(text)) = says else {
        return mail;
    };
    let Some(Linking::Pair(shown) | Linking::Claim(shown)) = Linking::parse(text) else {
        return mail;
    };
    if let Some(code) = Code::parse(&shown) {
        mail.body[SHOWN] = Value::String(code.hash().to_string());
        blank(&mut mail.body, &shown);
    }
    // With other words around it, it is good for nothing there, and as good as before elsewhere.
    let words = shown.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    for word in words.filter(|word| Code::parse(word).is_some()) {
        blank(&mut mail.body, word);
    }
    mail
}

/// The hash of what a kept message shows, where these are its words.
pub fn shown(body: &Value, words: &str) -> Hash {
    let sealed = body[SHOWN].as_str().and_then(|hash| hash.parse().ok());
    sealed.unwrap_or_else(|| Code::hash_of(words))
}

/// Puts zeros in the place of a code, wherever it stands.
fn blank(value: &mut Value, text: &str) {
    match value {
        Value::String(said) if said.contains(text) => *said = said.replace(text, &zeros(text)),
        Value::Array(items) => items.iter_mut().for_each(|item| blank(item, text)),
        Value::Object(fields) => fields.values_mut().for_each(|field| blank(field, text)),
        _ => {}
    }
}

/// A code as long as this one.
fn zeros(code: &str) -> String {
    let zero = |c: char| if c.is_ascii_alphanumeric() { '0' } else { c };
    code.chars().map(zero).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kept(text: &str) -> NewMail {
        let mail = NewMail {
            channel: "telegram",
            key: "1/1".into(),
            conversation: "7".into(),
            body: json!({ "update": { "message": { "text": text, "entities": [{ "offset": 0 }] } } }),
        };
        sealed(mail, &Says::Words(text.into()))
    }

    #[test]
    fn a_code_is_kept_as_its_hash() {
        for (text, left) in [
            ("/pair 7K3M-Q9XT-2HVN", "/pair 0000-0000-0000"),
            ("pair 7k3mq9xt2hvn", "pair 000000000000"),
            ("/claim 7K3M Q9XT 2HVN", "/claim 0000 0000 0000"),
        ] {
            let body = kept(text).body;
            assert_eq!(body["update"]["message"]["text"], left);
            let code = Code::parse("7K3M-Q9XT-2HVN").unwrap();
            assert_eq!(shown(&body, left), code.hash());
            assert!(Linking::parse(left).is_some(), "it is what it was");
        }
        let odd = kept("/pair it is 7K3M-Q9XT-2HVN.").body;
        let left = "/pair it is 0000-0000-0000.";
        assert_eq!(odd["update"]["message"]["text"], left);
    }

    #[test]
    fn whoever_shows_a_hash_shows_no_code() {
        let hash = Code::parse("7K3M-Q9XT-2HVN").unwrap().hash();
        let text = format!("/pair {hash}");
        assert_ne!(shown(&kept(&text).body, ""), hash);
    }

    #[test]
    fn other_words_stay_as_they_are() {
        for text in [
            "Order 7K3M-Q9XT-2HVN",
            "/pair",
            "/pair e",
            "/claim",
            "pair these two",
        ] {
            let body = kept(text).body;
            assert_eq!(body["update"]["message"]["text"], text);
            assert!(body.get(SHOWN).is_none());
        }
    }
}
