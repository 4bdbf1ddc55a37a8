//! A letter as the bytes that go over the wire: headers, the text as written, the same as HTML, and what
//! is attached. All of it is ASCII in lines of 998 bytes at most, whatever the letter holds, so that every
//! server takes it. Pure.

use std::time::{Duration, UNIX_EPOCH};

use lettre::Message;
use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Body, Mailbox, MultiPart, SinglePart};

use super::{Attachment, Letter, html};
use crate::run::Timestamp;

/// The longest subject, in characters.
pub const MAX_SUBJECT: usize = 1000;
/// The longest word of a subject that stands as it is: a header's line is folded between words alone.
const MAX_WORD: usize = 200;

/// Why a letter cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// A subject of several lines would be headers of the writer's choice.
    #[error(
        "the subject must be one line of plain text, without line breaks and control characters"
    )]
    Subject,
    /// It is too long.
    #[error("the subject has {0} characters; the most is {MAX_SUBJECT}")]
    LongSubject(usize),
    /// The mail library refuses it.
    #[error("the letter cannot be written: {0}")]
    Other(String),
}

/// The bytes of a letter from somebody, with this id and date.
pub(super) fn bytes(
    letter: &Letter,
    from: &Mailbox,
    message_id: &str,
    at: Timestamp,
) -> Result<Vec<u8>, Unwritable> {
    let since = Duration::from_millis(u64::try_from(at.0).unwrap_or(0));
    let mut message = Message::builder()
        .message_id(Some(message_id.to_owned()))
        .date(UNIX_EPOCH + since)
        .from(from.clone())
        .subject(subject(&letter.subject)?);
    for to in &letter.to {
        message = message.to(to.inner().clone().into());
    }
    for cc in &letter.cc {
        message = message.cc(cc.inner().clone().into());
    }
    if let Some(reply_to) = &letter.reply_to {
        message = message.reply_to(reply_to.inner().clone().into());
    }
    let plain = plain(&letter.body);
    let text = MultiPart::alternative()
        .singlepart(
            SinglePart::builder()
                .header(ContentType::TEXT_PLAIN)
                .body(Body::new(plain.clone())),
        )
        .singlepart(
            SinglePart::builder()
                .header(ContentType::TEXT_HTML)
                .body(Body::new(html::of(&plain))),
        );
    let whole = match letter.attachments.is_empty() {
        true => text,
        false => {
            let mixed = MultiPart::mixed().multipart(text);
            let parts = letter.attachments.iter();
            parts.fold(mixed, |mixed, file| mixed.singlepart(part(file)))
        }
    };
    let message = message
        .multipart(whole)
        .map_err(|error| Unwritable::Other(error.to_string()))?;
    Ok(message.formatted())
}

/// A subject that is one header. Words that are too long for a line of their own are cut in two.
fn subject(text: &str) -> Result<String, Unwritable> {
    let text = text.trim();
    let length = text.chars().count();
    if text
        .chars()
        .any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
    {
        return Err(Unwritable::Subject);
    }
    if length > MAX_SUBJECT {
        return Err(Unwritable::LongSubject(length));
    }
    let mut written = String::with_capacity(text.len());
    let mut word = 0;
    for c in text.chars() {
        word = if c == ' ' { 0 } else { word + c.len_utf8() };
        if word > MAX_WORD {
            written.push(' ');
            word = c.len_utf8();
        }
        written.push(c);
    }
    Ok(written)
}

/// A text whose only control characters are tabs and line breaks of one kind.
fn plain(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let kept = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().filter(kept).collect()
}

fn part(file: &Attachment) -> SinglePart {
    let mime = ContentType::parse(&file.mime);
    let octets = || ContentType::parse("application/octet-stream");
    let mime = mime
        .or_else(|_| octets())
        .unwrap_or(ContentType::TEXT_PLAIN);
    // Base64 whatever is in it: what arrives has the same SHA-256 as what was sent.
    let body = Body::new_with_encoding(file.bytes.to_vec(), ContentTransferEncoding::Base64);
    let body = body.unwrap_or_else(Body::new);
    lettre::message::Attachment::new(file_name(&file.name)).body(body, mime)
}

/// A file's name without folders and without what could end the header that it stands in.
fn file_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let harmless = |c: char| match c {
        '"' | '\u{2028}' | '\u{2029}' => '_',
        c if c.is_control() => '_',
        c => c,
    };
    let name: String = last.chars().map(harmless).take(150).collect();
    match name.trim() {
        "" => "attachment".into(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Hash;

    fn letter(subject: &str, body: &str) -> Letter {
        Letter {
            key: Hash::of_bytes(b"key"),
            to: vec!["ada@example.org".parse().unwrap()],
            cc: vec!["bob@bücher.example".parse().unwrap()],
            reply_to: None,
            subject: subject.into(),
            body: body.into(),
            attachments: Vec::new(),
        }
    }

    fn written(letter: &Letter) -> String {
        let from: Mailbox = "Major Domo <majordomo@example.org>".parse().unwrap();
        let bytes = bytes(letter, &from, "<key@example.org>", Timestamp(1_000)).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// What holds of every letter: ASCII, short lines, no lone CR or LF.
    fn is_clean(text: &str) {
        assert!(text.is_ascii());
        let rest = text.replace("\r\n", "");
        assert!(!rest.contains(['\r', '\n']), "{text:?}");
        for line in text.split("\r\n") {
            assert!(line.len() <= 998, "a line of {} bytes", line.len());
        }
    }

    fn headers(text: &str) -> Vec<&str> {
        let head = text.split("\r\n\r\n").next().unwrap();
        let names = head
            .split("\r\n")
            .filter(|line| !line.starts_with([' ', '\t']));
        names
            .filter_map(|line| Some(line.split_once(':')?.0))
            .collect()
    }

    #[test]
    fn a_letter_has_the_headers_that_it_should_and_no_others() {
        let text = written(&letter(
            "Grüße",
            "Hello\n.\n\r.\rBcc: x@evil.example\r\n.\r\nend",
        ));
        is_clean(&text);
        let expected = [
            "Message-ID",
            "Date",
            "From",
            "Subject",
            "To",
            "Cc",
            "MIME-Version",
            "Content-Type",
        ];
        let mut found = headers(&text);
        found.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected, "{text}");
        assert!(text.contains("Message-ID: <key@example.org>\r\n"), "{text}");
        assert!(
            text.contains("Date: Thu, 01 Jan 1970 00:00:01 +0000\r\n"),
            "{text}"
        );
        assert!(text.contains("Cc: bob@xn--bcher-kva.example\r\n"), "{text}");
    }

    #[test]
    fn subjects_are_one_header_however_long_and_whatever_they_hold() {
        let (words, one) = ("word ".repeat(200), "a".repeat(1000));
        let (wide, thousand) = ("ü".repeat(1000), "日本 ".repeat(333));
        for subject in [
            "",
            "x",
            &words,
            &one,
            &wide,
            &thousand,
            "=?utf-8?q?x?=",
            "a: b",
            "\"'<>",
        ] {
            let text = written(&letter(subject, "x"));
            is_clean(&text);
            assert_eq!(
                headers(&text)
                    .iter()
                    .filter(|name| **name == "Subject")
                    .count(),
                1
            );
        }
        let from: Mailbox = "majordomo@example.org".parse().unwrap();
        for bad in [
            "a\r\nBcc: x@evil.example",
            "a\nb",
            "a\rb",
            "a\0b",
            "a\u{2028}b",
            "a\u{85}b",
            "a\tb",
        ] {
            let refused = bytes(&letter(bad, "x"), &from, "<k@e>", Timestamp(0));
            assert_eq!(refused, Err(Unwritable::Subject), "{bad:?}");
        }
        let long = bytes(
            &letter(&"a".repeat(1001), "x"),
            &from,
            "<k@e>",
            Timestamp(0),
        );
        assert_eq!(long, Err(Unwritable::LongSubject(1001)));
    }

    #[test]
    fn a_file_keeps_its_bytes_and_cannot_write_headers() {
        let file = |name: &str, mime: &str| Attachment {
            name: name.into(),
            mime: mime.into(),
            bytes: b"\r\n.\r\n\0\xff"[..].into(),
        };
        let mut letter = letter("x", "y");
        letter.attachments = vec![
            file("out/report.md", "text/markdown"),
            file("Grüße \"a\".bin", "no mime\r\nX: y"),
            file("a\r\nX-Evil: 1", "application/pdf"),
            file("..", "a"),
        ];
        let text = written(&letter);
        is_clean(&text);
        assert!(text.contains("filename=\"report.md\""), "{text}");
        assert!(!text.contains("\r\nX"), "{text}");
        assert_eq!(text.matches("DQouDQoA/w==").count(), 4, "{text}");
        assert_eq!(
            text.matches("Content-Disposition: attachment").count(),
            4,
            "{text}"
        );
    }
}
