//! Files in Slack: those that people send, and those that tasks wrote.
//!
//! ```text
//!   in    files.info ─► one of Slack's addresses? ─► fetch as the bot ─► a file, or a page to sign in?
//!   out   getUploadURLExternal ─► upload ─► (its id is recorded) ─► shared already? ─► completeUploadExternal
//! ```
//! What an event says of a file is not gone by: it may be old by the time the message is dealt with, and
//! where workspaces share a channel it says nothing. An upload that is not completed is seen by nobody;
//! completing it cannot be repeated, so first it is asked whether the file is there.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, LOCATION};
use serde_json::{Value, json};
use url::Url;

use shared::egress::Trusted;

use super::Place;
use super::client::{Client, Failed, in_words, said};
use crate::channels::papers::enclose::Enclosure;
use crate::channels::{Attached, Document, Undelivered};

/// How long fetching or sending a file may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often an address may lead to another.
const REDIRECTS: u32 = 3;

/// An address of Slack's own: the bot's token may be shown there.
pub(super) struct Slacks<'a> {
    pub(super) url: Url,
    pub(super) server: &'a Trusted,
}

impl<'a> Slacks<'a> {
    /// This address, where it is that of the Web API's server or of its files.
    fn of(client: &'a Client, url: Url) -> Option<Self> {
        let servers = [client.files(), client.server()];
        let server = servers
            .into_iter()
            .find(|server| server.base().origin() == url.origin())?;
        Some(Self { url, server })
    }
}

/// Where a server's files are: beside it under a name of their own, and in one with a server that has
/// none.
pub fn base_of(server: &Url) -> Url {
    let mut base = server.clone();
    base.set_path("");
    if let Some(host) = server.domain().filter(|host| host.contains('.')) {
        let host = host.strip_prefix("www.").unwrap_or(host);
        // A name with another before it is one.
        let _named = base.set_host(Some(&format!("files.{host}")));
    }
    base
}

/// A file that came with a message.
pub(super) async fn fetch(
    client: &Client,
    file: &Attached,
    limit: u64,
) -> Result<Enclosure, Undelivered> {
    let known = info(client, &file.id).await.map_err(undelivered)?;
    let url = address(&known).map_err(|why| Undelivered::Never(why.into()))?;
    let too_large = || Undelivered::Never("it is too large".into());
    if known["size"].as_u64().is_some_and(|size| size > limit) {
        return Err(too_large());
    }
    let mut response = follow(client, url).await?;
    let is_page = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > limit {
            return Err(too_large());
        }
    }
    let is_whole = known["size"]
        .as_u64()
        .is_none_or(|size| size == bytes.len() as u64);
    match is_page && !(known["mimetype"] == "text/html" && is_whole) {
        true => Err(Undelivered::Never(
            "Slack shows a page to sign in instead of it; the app lacks the scope files:read: compare \
             it with `majordomo slack manifest`, and install it again"
                .into(),
        )),
        false if !is_whole => Err(Undelivered::Trouble("the file came in part".into())),
        false => {
            let told = |field: &str| known[field].as_str().map(str::to_owned);
            Ok(Enclosure {
                name: told("name").unwrap_or_else(|| file.name.clone()),
                mime: told("mimetype").or_else(|| file.mime.clone()),
                bytes,
            })
        }
    }
}

async fn info(client: &Client, id: &str) -> Result<Value, Failed> {
    let mut told = client.ask("files.info", &[("file", id)]).await?;
    Ok(told["file"].take())
}

/// Where a file is, or why it is not to be had.
fn address(file: &Value) -> Result<Url, &'static str> {
    match file["mode"].as_str() {
        Some("tombstone") => return Err("it was deleted"),
        Some("hidden_by_limit") => return Err("Slack hides it: the workspace has too many files"),
        _ if file["is_external"] == true || file["mode"] == "external" => {
            return Err("it lies outside of Slack; send the file itself");
        }
        _ => {}
    }
    let url = file["url_private_download"]
        .as_str()
        .or_else(|| file["url_private"].as_str());
    url.and_then(|url| url.parse().ok())
        .ok_or("Slack does not say where it is")
}

/// Asks for a file, and goes where that leads as long as it is Slack's.
async fn follow(client: &Client, mut url: Url) -> Result<reqwest::Response, Undelivered> {
    for _ in 0..=REDIRECTS {
        let foreign = || Undelivered::Never("its address is not one of Slack's".into());
        let asked = Slacks::of(client, url.clone()).ok_or_else(foreign)?;
        let response = client.get(asked).timeout(PATIENCE).send().await;
        let response = response.map_err(lost)?;
        let status = response.status();
        if status.is_redirection() {
            let next = response.headers().get(LOCATION);
            let next = next.and_then(|next| next.to_str().ok());
            url = next
                .and_then(|next| url.join(next).ok())
                .ok_or_else(foreign)?;
            continue;
        }
        return match status.as_u16() {
            200 => Ok(response),
            401 | 403 => Err(Undelivered::Never("Slack does not give it out".into())),
            404 | 410 => Err(Undelivered::Missing),
            status => Err(Undelivered::Trouble(format!(
                "the file was not given out (status {status})"
            ))),
        };
    }
    Err(Undelivered::Never("its address leads nowhere".into()))
}

/// Uploads a file that nobody sees yet. Answers its id.
pub(super) async fn place(client: &Client, file: &Document) -> Result<String, Undelivered> {
    let length = file.bytes.len().to_string();
    let fields = [("filename", file.name.as_str()), ("length", &length)];
    let asked = client.ask("files.getUploadURLExternal", &fields).await;
    let asked = asked.map_err(undelivered)?;
    let (Some(id), Some(url)) = (asked["file_id"].as_str(), asked["upload_url"].as_str()) else {
        return Err(Undelivered::Trouble("Slack names no place for it".into()));
    };
    let place = url.parse().ok().and_then(|url| Slacks::of(client, url));
    let foreign = || Undelivered::Never("Slack names a foreign address for the upload".into());
    let Slacks { url, server } = place.ok_or_else(foreign)?;
    shared::crash_point!("upload.before");
    // The address is good for whoever has it, and wants no token.
    let upload = server.client().post(url).timeout(PATIENCE);
    let sent = upload
        .body(file.bytes.to_vec())
        .send()
        .await
        .map_err(lost)?;
    match sent.status().is_success() {
        true => Ok(id.to_owned()),
        // One that was good for too short a time is asked for anew.
        false => Err(Undelivered::Trouble(format!(
            "the upload was refused (status {})",
            sent.status().as_u16()
        ))),
    }
}

/// Shares an upload in the thread of a conversation, where the message `beside` is.
pub(super) async fn attach(
    client: &Client,
    (conversation, beside): (&str, &str),
    (id, file): (&str, &Document),
) -> Result<(), Undelivered> {
    let place = Place::of(conversation)?;
    let (channel, _) = beside.split_once('/').ok_or(Undelivered::Missing)?;
    let known = match info(client, id).await {
        Ok(known) if is_shared(&known, channel) => return Ok(()),
        Ok(_) => true,
        // What is not completed need not be known.
        Err(Failed::No(word)) if word != "missing_scope" => false,
        Err(failed) => return Err(undelivered(failed)),
    };
    let mut body = json!({
        "files": [{ "id": id, "title": file.name }],
        "channel_id": channel,
    });
    if let Some(thread) = place.thread.filter(|_| place.channel == channel) {
        body["thread_ts"] = thread.into();
    }
    match client.call("files.completeUploadExternal", &body).await {
        Ok(_) => Ok(()),
        // Completed before by a process that died over it: it is shared in a moment.
        Err(Failed::No(word)) if is_gone(&word) && known => Err(Undelivered::Trouble(
            "Slack has not shared a file yet".into(),
        )),
        Err(failed) => Err(undelivered(failed)),
    }
}

/// Whether a file is to be seen in a channel.
fn is_shared(file: &Value, channel: &str) -> bool {
    let named = ["channels", "groups", "ims"].iter().any(|kind| {
        let all = file[kind].as_array();
        all.is_some_and(|all| all.iter().any(|one| one == channel))
    });
    let told = ["public", "private"]
        .iter()
        .any(|kind| file["shares"][kind][channel].is_array());
    named || told
}

fn is_gone(word: &str) -> bool {
    matches!(word, "file_not_found" | "file_deleted")
}

/// What a refusal means for a file.
fn undelivered(failed: Failed) -> Undelivered {
    match failed {
        Failed::No(word) if is_gone(&word) => Undelivered::Missing,
        // It will not work before somebody has changed the app; all else goes on.
        Failed::No(word)
            if matches!(
                &*word,
                "missing_scope"
                    | "access_denied"
                    | "file_not_visible"
                    | "file_upload_size_restricted"
                    | "file_uploads_disabled"
                    | "storage_limit_reached"
                    | "not_allowed"
            ) =>
        {
            Undelivered::Never(in_words(&word))
        }
        failed => failed.undelivered(),
    }
}

/// A request that brought nothing. Its address is not told: it may be good for whoever has it.
fn lost(error: reqwest::Error) -> Undelivered {
    Undelivered::Trouble(said(&error.without_url()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::config::EgressSettings;
    use shared::config::secret::SecretRef;
    use shared::egress::Gateway;

    fn client(server: &str) -> Client {
        let gateway = Gateway::new(&EgressSettings::default()).unwrap();
        let server: Url = server.parse().unwrap();
        let trusted = |url: &Url| gateway.trusted(url, false).unwrap();
        let token: SecretRef = "xoxb-x".parse().unwrap();
        let servers = (trusted(&server), trusted(&base_of(&server)));
        Client::new(servers, token.resolve().unwrap())
    }

    #[test]
    fn the_token_is_shown_to_slack_alone() {
        let slack = client("https://slack.com/api");
        let is = |url: &str| Slacks::of(&slack, url.parse().unwrap()).is_some();
        assert!(is("https://files.slack.com/files-pri/T1-F1/a.pdf"));
        assert!(is("https://slack.com/files/a"));
        for foreign in [
            "http://files.slack.com/a",
            "https://files.slack.com:8443/a",
            "https://files.slack.com.evil.test/a",
            "https://evil.test/files.slack.com",
            "https://files.slack.com@evil.test/a",
            "https://evilfiles.slack.com/a",
            "https://127.0.0.1/a",
            "file:///etc/passwd",
        ] {
            assert!(!is(foreign), "{foreign}");
        }
        let double = client("http://127.0.0.1:9/api");
        let is = |url: &str| Slacks::of(&double, url.parse().unwrap()).is_some();
        assert!(is("http://127.0.0.1:9/files-pri/a"));
        assert!(!is("http://127.0.0.1:10/files-pri/a") && !is("https://files.slack.com/a"));
    }

    #[test]
    fn files_that_are_not_to_be_had_say_why() {
        let hosted = json!({"mode": "hosted", "url_private": "https://files.slack.com/a"});
        assert_eq!(address(&hosted).unwrap().path(), "/a");
        for (file, word) in [
            (json!({"mode": "tombstone"}), "deleted"),
            (json!({"mode": "hidden_by_limit"}), "too many files"),
            (
                json!({"is_external": true, "url_private": "https://docs.test"}),
                "outside",
            ),
            (json!({"file_access": "check_file_info"}), "where it is"),
        ] {
            assert!(address(&file).unwrap_err().contains(word), "{file}");
        }
    }

    #[test]
    fn a_file_is_shared_where_slack_says_so() {
        assert!(is_shared(&json!({"channels": ["C1"]}), "C1"));
        assert!(is_shared(&json!({"ims": ["D1"]}), "D1"));
        assert!(is_shared(
            &json!({"shares": {"private": {"C1": [{"ts": "1.2"}]}}}),
            "C1"
        ));
        assert!(!is_shared(&json!({"channels": ["C2"], "shares": {}}), "C1"));
    }
}
