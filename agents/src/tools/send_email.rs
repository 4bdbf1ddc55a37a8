//! `send_email`: one letter, to people whom the operator named, by the operator's server. It is sent at
//! most once: a server cannot be asked later whether it took a letter, so an attempt that ended without
//! its word is put before a person, with the Message-ID to look for. That is made from the effect's key,
//! so it is known before anything is sent, and all attempts at one effect share it.
//!
//! What is attached was written by this task or given to it, and is read through a folder that cannot be
//! left. Who may be written to, and how large letters are, is the mailer's matter.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use shared::ask::{FileDigest, Preview};
use shared::blob::mime_of_text;
use shared::email::{Address, Attachment, Letter, MAX_SUBJECT, Mailer, Sent};
use shared::label::{Authority, Taint};
use shared::money::{Usage, Usd};
use shared::run::{Effect, Evidence, Failure, FailureKind, Report};

use super::folder::Folder;
use super::{Outbound, Tool, ToolCall, ToolInfo, arguments, blocking};

/// Bytes of all that one letter may bring along; the mailer's limit is lower as a rule.
const MAX_ATTACHED: usize = 40 << 20;
/// Files that one letter may bring along.
const MAX_FILES: usize = 20;
/// Seconds beside those that the mailer has for its dialogue.
const BESIDE_S: u32 = 10;

/// The tool.
pub struct SendEmail {
    info: ToolInfo,
    mailer: Arc<dyn Mailer>,
}

#[derive(Deserialize)]
struct Args {
    to: Vec<String>,
    #[serde(default)]
    cc: Vec<String>,
    subject: String,
    body: String,
    reply_to: Option<String>,
    #[serde(default)]
    attachments: Vec<String>,
}

impl SendEmail {
    /// The tool, for a mailer that takes so long at most for each half of its dialogue.
    pub fn new(mailer: Arc<dyn Mailer>, timeout: Duration) -> Self {
        let halves = (timeout.as_secs_f64() * 2.0).ceil() as u32;
        Self {
            info: info(halves.saturating_add(BESIDE_S)),
            mailer,
        }
    }

    async fn send(&self, call: &ToolCall<'_>) -> Result<(Letter, Sent), Failure> {
        let letter = letter(call).await?;
        // The files were read anew: what goes out is what was looked at.
        if call
            .approved
            .is_some_and(|approved| *approved != preview(&letter))
        {
            let message = "not done: whom it reaches, or what goes along, is not what was approved";
            return Err(Failure::new(FailureKind::Permanent, message));
        }
        let sent = self.mailer.send(&letter, call.cancel).await?;
        Ok((letter, sent))
    }
}

/// Whom a letter reaches, and with which bytes.
fn preview(letter: &Letter) -> Preview {
    let recipients = letter.recipients().into_iter();
    let files = letter.attachments.iter();
    Preview {
        targets: recipients.map(|address| address.to_string()).collect(),
        files: files
            .map(|file| FileDigest {
                name: file.name.clone(),
                sha256: file.sha256(),
                bytes: file.bytes.len() as u64,
            })
            .collect(),
    }
}

fn info(timeout_s: u32) -> ToolInfo {
    let address = |description: &str| json!({"type": "string", "minLength": 3, "maxLength": 320, "description": description});
    let parameters = json!({
        "type": "object",
        "properties": {
            "to": {
                "type": "array", "minItems": 1, "maxItems": 100,
                "items": address("One address, such as \"ada@example.org\", without a name."),
                "description": "To whom it goes: addresses that the operator has allowed."
            },
            "cc": {
                "type": "array", "maxItems": 100,
                "items": address("One address."),
                "description": "Who gets a copy; nobody if left out."
            },
            "subject": {
                "type": "string", "minLength": 1, "maxLength": MAX_SUBJECT,
                "description": "What it is about, in one line."
            },
            "body": {
                "type": "string", "minLength": 1,
                "description": "The whole text, in plain words or Markdown. Pictures and HTML in it are not shown."
            },
            "reply_to": address("Who gets the answers, if not the sender: an address that the operator has allowed."),
            "attachments": {
                "type": "array", "maxItems": MAX_FILES,
                "items": {
                    "type": "string", "minLength": 1,
                    "description": "A file's path, relative to its folder, such as \"report.md\"."
                },
                "description": "Files that go along: ones that write_file wrote in this task, or of the folder that it may read."
            }
        },
        "required": ["to", "subject", "body"],
        "additionalProperties": false
    });
    ToolInfo {
        name: "send_email".into(),
        version: 1,
        description: "Use this when the user asks for an e-mail to be sent, to the people they name. It goes out at once and \
            cannot be taken back. Returns its Message-ID and the addresses that the server took it for; those who are not \
            listed did not get it. Send a letter once: do not send it again unless the tool said that it failed."
            .into(),
        parameters: Arc::new(parameters),
        effect: Effect::Once,
        outbound: Outbound::All,
        timeout_s,
        price: Usd::ZERO,
    }
}

#[async_trait]
impl Tool for SendEmail {
    fn info(&self) -> &ToolInfo {
        &self.info
    }

    async fn call(&self, call: ToolCall<'_>) -> Report {
        match self.send(&call).await {
            Ok((letter, sent)) => done(&letter, &sent),
            Err(failure) => Report::failed(failure),
        }
    }

    async fn preview(&self, call: ToolCall<'_>) -> Result<Preview, Failure> {
        let letter = letter(&call).await?;
        self.mailer.check(&letter)?;
        Ok(preview(&letter))
    }
}

/// The letter that the arguments ask for, with the bytes of its files.
async fn letter(call: &ToolCall<'_>) -> Result<Letter, Failure> {
    let args: Args = arguments(call.args)?;
    let (authority, names) = (call.authority.clone(), args.attachments);
    let attachments = match names.is_empty() {
        true => Vec::new(),
        false => blocking::run(call.cancel, move |_| attached(&authority, &names)).await?,
    };
    Ok(Letter {
        key: call.effect_key.0,
        to: addresses(&args.to)?,
        cc: addresses(&args.cc)?,
        reply_to: args.reply_to.as_deref().map(address).transpose()?,
        subject: args.subject,
        body: args.body,
        attachments,
    })
}

fn addresses(given: &[String]) -> Result<Vec<Address>, Failure> {
    given.iter().map(|text| address(text)).collect()
}

fn address(text: &str) -> Result<Address, Failure> {
    text.parse()
        .map_err(|error: shared::email::BadAddress| refused(error.to_string()))
}

fn attached(authority: &Authority, names: &[String]) -> Result<Vec<Attachment>, Failure> {
    let mut left = MAX_ATTACHED;
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        let file = file(authority, name, left)?;
        left -= file.bytes.len();
        files.push(file);
    }
    Ok(files)
}

/// A file that the task wrote, else one that it was given to read.
fn file(authority: &Authority, name: &str, most: usize) -> Result<Attachment, Failure> {
    let folders = [&authority.output, &authority.material];
    let mut last = refused(format!(
        "{name:?} cannot be attached: this task has written no file and was given no folder to read"
    ));
    for root in folders.into_iter().flatten().filter(|root| root.is_dir()) {
        match read(root, name, most) {
            Err(failure) if failure.kind == FailureKind::Refused => last = failure,
            read => return read,
        }
    }
    Err(last)
}

fn read(root: &Path, name: &str, most: usize) -> Result<Attachment, Failure> {
    let folder = Folder::open(root)?;
    let path = folder.relative(name)?;
    let content = folder.read(&path, most + 1)?;
    if content.bytes.len() > most {
        let message = format!(
            "{name:?} is too large to be attached; all that goes along may have {} MiB",
            MAX_ATTACHED >> 20
        );
        return Err(Failure::new(FailureKind::Permanent, message));
    }
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Ok(Attachment {
        mime: match std::str::from_utf8(&content.bytes) {
            Ok(_) => mime_of_text(&name),
            Err(_) => "application/octet-stream",
        }
        .into(),
        bytes: content.bytes.into(),
        name,
    })
}

/// The report of a letter that the server took.
fn done(letter: &Letter, sent: &Sent) -> Report {
    let evidence = |kind: &str, value: String| Evidence {
        kind: kind.into(),
        value,
    };
    let mut proofs = vec![
        evidence("message_id", sent.message_id.clone()),
        evidence("smtp_reply", sent.reply.clone()),
        evidence("recipients", listed(&sent.accepted)),
    ];
    let files = preview(letter).files.into_iter();
    proofs.extend(files.map(|file| evidence("attached", format!("{} {}", file.sha256, file.name))));
    Report {
        result: Ok(value(letter, sent)),
        usage: Some(Usage::default()),
        taint: Taint::NONE,
        evidence: proofs,
        blobs: Vec::new(),
    }
}

fn value(letter: &Letter, sent: &Sent) -> Value {
    let files = letter.attachments.iter();
    let files = files
        .map(|file| json!({"name": file.name, "bytes": file.bytes.len(), "sha256": file.sha256()}));
    let mut value = json!({"message_id": sent.message_id, "accepted": sent.accepted});
    if !letter.attachments.is_empty() {
        value["attachments"] = files.collect();
    }
    value
}

fn listed(addresses: &[Address]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(", ")
}

fn refused(message: String) -> Failure {
    Failure::new(FailureKind::Refused, message)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio_util::sync::CancellationToken;

    use shared::hash::Hash;

    use super::*;
    use crate::tools::gate::Gate;
    use crate::tools::testing::{authority, call, key, refused};

    /// Takes every letter, to whomever it goes.
    #[derive(Default)]
    struct Tray(Mutex<Vec<Letter>>);

    #[async_trait]
    impl Mailer for Tray {
        fn message_id(&self, key: Hash) -> String {
            format!("<{key}@house.example>")
        }

        fn check(&self, _: &Letter) -> Result<(), Failure> {
            Ok(())
        }

        async fn send(&self, letter: &Letter, _: &CancellationToken) -> Result<Sent, Failure> {
            self.0.lock().unwrap().push(letter.clone());
            Ok(Sent {
                message_id: self.message_id(letter.key),
                reply: "250 taken".into(),
                accepted: letter.recipients(),
            })
        }

        async fn examine(&self) -> Result<String, Failure> {
            Ok("tray".into())
        }
    }

    fn tool() -> (SendEmail, Arc<Tray>) {
        let mailer = Arc::new(Tray::default());
        (
            SendEmail::new(mailer.clone(), Duration::from_secs(30)),
            mailer,
        )
    }

    fn args(more: Value) -> Value {
        let mut args = json!({"to": ["bob@example.org", "ada@example.org"], "subject": "Hi", "body": "All is well."});
        for (name, value) in more.as_object().unwrap() {
            args[name] = value.clone();
        }
        args
    }

    #[tokio::test]
    async fn what_the_task_wrote_goes_before_what_it_was_given_and_nothing_else_goes() {
        let outer = tempfile::tempdir().unwrap();
        let [output, material] = ["out", "in"].map(|name| outer.path().join(name));
        for folder in [&output, &material] {
            std::fs::create_dir_all(folder.join("docs")).unwrap();
        }
        std::fs::write(outer.path().join("secret"), "canary").unwrap();
        std::fs::write(output.join("a.md"), "mine").unwrap();
        std::fs::write(material.join("a.md"), "given").unwrap();
        std::fs::write(material.join("docs/b.bin"), b"\xff\x00").unwrap();
        std::os::unix::fs::symlink(outer.path().join("secret"), output.join("link")).unwrap();
        let authority = authority(Some(&material), Some(&output));
        let (tool, mailer) = tool();
        let report = call(
            &tool,
            &authority,
            args(json!({"attachments": ["a.md", "docs/b.bin"]})),
        )
        .await;
        let files = report.result.unwrap()["attachments"].clone();
        let sha256 = |bytes: &[u8]| Hash::of_bytes(bytes).to_string();
        let expected = json!([
            {"name": "a.md", "bytes": 4, "sha256": sha256(b"mine")},
            {"name": "b.bin", "bytes": 2, "sha256": sha256(b"\xff\x00")},
        ]);
        assert_eq!(files, expected);
        let sent = mailer.0.lock().unwrap().pop().unwrap();
        let mimes: Vec<&str> = sent.attachments.iter().map(|file| &file.mime[..]).collect();
        assert_eq!(mimes, ["text/markdown", "application/octet-stream"]);
        for outside in ["link", "../secret", "/etc/passwd", "docs", "none.md", ""] {
            let message = refused(&tool, &authority, args(json!({"attachments": [outside]}))).await;
            assert!(!message.contains("canary"), "{outside}: {message}");
        }
        assert!(mailer.0.lock().unwrap().is_empty(), "nothing else was sent");
    }

    #[tokio::test]
    async fn what_a_call_would_do_is_the_same_for_the_same_letter_and_names_the_bytes() {
        let output = tempfile::tempdir().unwrap();
        std::fs::write(output.path().join("a.md"), "one").unwrap();
        let authority = authority(None, Some(output.path()));
        let (tool, _) = tool();
        let cancel = CancellationToken::new();
        let preview = async |args: Value| {
            let call = ToolCall {
                args: &args,
                authority: &authority,
                effect_key: key(),
                attempt: 1,
                approved: None,
                cancel: &cancel,
            };
            tool.preview(call).await.unwrap()
        };
        let first = preview(args(json!({"attachments": ["a.md"]}))).await;
        let turned = json!({"to": ["ada@EXAMPLE.org"], "cc": ["bob@example.org", "ada@example.org"], "attachments": ["a.md"]});
        assert_eq!(first, preview(args(turned)).await);
        assert_eq!(first.targets, ["ada@example.org", "bob@example.org"]);
        let file = FileDigest {
            name: "a.md".into(),
            sha256: Hash::of_bytes(b"one"),
            bytes: 3,
        };
        assert_eq!(first.files, [file]);
        std::fs::write(output.path().join("a.md"), "two").unwrap();
        assert_ne!(first, preview(args(json!({"attachments": ["a.md"]}))).await);
    }

    #[tokio::test]
    async fn addresses_that_are_none_are_refused_with_their_names() {
        let (tool, mailer) = tool();
        let authority = authority(None, None);
        for (field, value) in [
            ("to", json!(["ada@example.org\r\nBcc: x@evil.example"])),
            ("cc", json!(["Ada <ada@example.org>"])),
            ("reply_to", json!("everybody")),
            ("attachments", json!(["a.md"])),
        ] {
            refused(&tool, &authority, args(json!({field: value}))).await;
        }
        assert!(mailer.0.lock().unwrap().is_empty());
    }

    #[test]
    fn the_schema_knows_a_letter() {
        let (tool, _) = tool();
        let gate = Gate::new([tool.info().def()]).unwrap();
        assert!(
            gate.check("send_email", &args(json!({})).to_string())
                .is_ok()
        );
        for bad in [
            json!({"to": []}),
            json!({"to": "ada@example.org"}),
            json!({"subject": ""}),
            json!({"bcc": ["a@b.c"]}),
        ] {
            assert!(
                gate.check("send_email", &args(bad.clone()).to_string())
                    .is_err(),
                "{bad}"
            );
        }
        assert_eq!(
            (tool.info().effect, tool.info().timeout_s),
            (Effect::Once, 70)
        );
        assert_eq!(crate::tools::lint::check([tool.info()]), []);
    }
}
