//! What comes from Slack: whether it is for us, what it says, and what it is known by. Pure.
//!
//! | what | for us |
//! |---|---|
//! | direct message | always |
//! | message in a channel | where it names us |
//! | reply in a thread | where it names us, or its thread began with a message for us or of ours |
//! | changed message | as the message; where nothing but a preview changed, not |
//! | slash command, a window that is asked for, or was filled in, press of a button | always |
//!
//! All else is between people, and is not kept. A message is known by its channel and `ts`, under
//! whatever event id and as often as it comes; Slack tells a mention twice, as `app_mention` and as
//! `message`. Commands are known by their trigger, presses by person and time, windows by their id.
//!
//! One thread is one conversation, `TEAM/CHANNEL/TS`; a message outside of threads begins one below
//! itself. A slash command stands in no thread: `TEAM/CHANNEL/USER`.
//!
//! The few fields that are needed are read by name rather than through types of the whole protocol: a
//! field of tomorrow's shape somewhere else in an event must not cost the message.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use shared::id::AgentName;
use shared::run::Timestamp;
use shared::store::{Mail, NewMail};

use super::modal::{self, Memory};
use crate::channels::seal::sealed;
use crate::channels::{Attached, Incoming, Says, Sender};

/// What a file is sent for that comes without a word.
const ABOUT_A_FILE: &str = "Say what is in this file.";

/// What becomes of something that came.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// It is for us.
    Ours(NewMail),
    /// It is for us where the message of this key was: the first of its thread.
    InThread(String, NewMail),
    /// It is answered with this, and is nothing yet.
    Answered(Value),
    /// It is not.
    Others,
}

/// What is kept of a message.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// The sender's id, `TEAM/USER`.
    from: String,
    /// What they are called, where that came along.
    #[serde(default)]
    name: String,
    /// The message's `ts`.
    #[serde(default)]
    ts: Option<String>,
    says: Said,
    /// Our message that a button stood below, or that a thread stands below, as `CHANNEL/TS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    below: Option<String>,
    /// What came with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    files: Vec<KeptFile>,
    /// The agent that the sender chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<AgentName>,
}

/// What is kept of a file: where it is, is asked when it is fetched.
#[derive(Debug, Serialize, Deserialize)]
struct KeptFile {
    id: String,
    name: String,
    #[serde(default)]
    mime: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Words(String),
    Edit(String),
    Press {
        id: String,
        data: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trigger: Option<String>,
    },
    Window(String),
    Unreadable,
}

/// What becomes of a payload, by whatever way it came.
pub fn arrival(payload: &Value) -> Arrival {
    let arrival = match payload["type"].as_str() {
        Some("event_callback") => of_event(payload),
        Some("block_actions") => of_press(payload).map(Arrival::Ours),
        Some("view_submission") => of_window(payload),
        _ if payload["command"].is_string() => of_command(payload),
        _ => None,
    };
    arrival.unwrap_or(Arrival::Others)
}

/// What a kept message says.
pub fn read(mail: &Mail) -> Incoming {
    let Ok(kept) = serde_json::from_value::<Kept>(mail.body.clone()) else {
        return Incoming {
            from: None,
            at: mail.at,
            message: None,
            replies_to: None,
            says: Says::Nothing,
            files: Vec::new(),
            agent: None,
        };
    };
    let at = kept.ts.as_deref().and_then(said_at).unwrap_or(mail.at);
    Incoming {
        from: Some(Sender {
            id: kept.from,
            handle: (!kept.name.is_empty()).then(|| kept.name.clone()),
            name: kept.name,
        }),
        at,
        message: kept.ts,
        replies_to: kept.below,
        says: match kept.says {
            Said::Words(text) => Says::Words(text),
            Said::Edit(text) => Says::Edit(text),
            Said::Press { id, data, trigger } => Says::Press { id, data, trigger },
            Said::Window(trigger) => Says::Window(trigger),
            Said::Unreadable => {
                Says::Unreadable("I could not read files yet when this came: send it again.".into())
            }
        },
        files: kept.files.into_iter().map(attached).collect(),
        agent: kept.agent,
    }
}

/// When a message was said, by its `ts`: seconds, and what tells it from others of that second.
fn said_at(ts: &str) -> Option<Timestamp> {
    let (seconds, fraction) = ts.split_once('.')?;
    let seconds: i64 = seconds.parse().ok()?;
    let ms: i64 = fraction.get(..3)?.parse().ok()?;
    Some(Timestamp(seconds.checked_mul(1000)? + ms))
}

/// An event with what is needed of its wrapping.
struct Event<'a> {
    team: &'a str,
    /// Who we are, where it says so.
    me: Option<&'a str>,
    channel: &'a str,
    /// Said to us alone.
    is_direct: bool,
    event: &'a Value,
}

fn of_event(payload: &Value) -> Option<Arrival> {
    let event = &payload["event"];
    let authorizations = payload["authorizations"].as_array().into_iter().flatten();
    let mut bots = authorizations.filter(|one| one["is_bot"] == true);
    let around = Event {
        team: id(&payload["team_id"])?,
        me: bots.find_map(|one| one["user_id"].as_str()),
        channel: id(&event["channel"])?,
        is_direct: event["channel_type"] == "im",
        event,
    };
    match (event["type"].as_str()?, event["subtype"].as_str()) {
        ("app_mention", _) => around.message(true),
        ("message", Some("message_changed")) => around.edit(),
        (
            "message",
            None | Some("file_share" | "thread_broadcast" | "me_message" | "bot_message"),
        ) => around.message(false),
        _ => None,
    }
}

impl Event<'_> {
    fn message(&self, is_mention: bool) -> Option<Arrival> {
        let message = self.event;
        let ts = id(&message["ts"])?;
        let words = Said::Words(self.words(message));
        let mail = self.mail(message, self.key(ts), words)?;
        self.addressed(message, mail, is_mention)
    }

    /// A message in other words. One that names us only now is a message like any other.
    fn edit(&self) -> Option<Arrival> {
        let (now, before) = (&self.event["message"], &self.event["previous_message"]);
        if now["text"] == before["text"] {
            return None;
        }
        let ts = id(&now["ts"])?;
        if !self.is_direct && self.names_us(now) && !self.names_us(before) {
            let words = Said::Words(self.words(now));
            return Some(Arrival::Ours(self.mail(now, self.key(ts), words)?));
        }
        let at = id(&now["edited"]["ts"]).or_else(|| id(&self.event["event_ts"]))?;
        let key = format!("{}/{at}", self.key(ts));
        let mail = self.mail(now, key, Said::Edit(self.words(now)))?;
        // One that does not name us any more is the same message all the same.
        self.addressed(now, mail, self.names_us(before))
    }

    /// Who a message is for.
    fn addressed(&self, message: &Value, mail: NewMail, is_mention: bool) -> Option<Arrival> {
        let to_ours = self.me.is_some() && message["parent_user_id"].as_str() == self.me;
        if is_mention || self.is_direct || self.names_us(message) || to_ours {
            return Some(Arrival::Ours(mail));
        }
        let root = id(&message["thread_ts"]).filter(|root| message["ts"] != **root)?;
        Some(Arrival::InThread(self.key(root), mail))
    }

    fn key(&self, ts: &str) -> String {
        format!("{}/{}/{ts}", self.team, self.channel)
    }

    /// What is kept; none of what a program said, we among them.
    fn mail(&self, message: &Value, key: String, says: Said) -> Option<NewMail> {
        let user = id(&message["user"]).filter(|user| Some(*user) != self.me)?;
        if message["bot_id"].is_string() {
            return None;
        }
        let ts = id(&message["ts"])?;
        let thread = id(&message["thread_ts"]).unwrap_or(ts);
        let kept = Kept {
            from: format!("{}/{user}", self.team),
            name: String::new(),
            ts: Some(ts.into()),
            says,
            below: (thread != ts).then(|| format!("{}/{thread}", self.channel)),
            files: files_of(message),
            agent: None,
        };
        Some(new(key, self.key(thread), &kept))
    }

    fn names_us(&self, message: &Value) -> bool {
        let text = message["text"].as_str().unwrap_or_default();
        self.me.is_some_and(|me| {
            text.contains(&format!("<@{me}>")) || text.contains(&format!("<@{me}|"))
        })
    }

    /// The words without the name by which we were called; a call without words asks for help, and a
    /// file without words to be looked at.
    fn words(&self, message: &Value) -> String {
        let text = message["text"].as_str().unwrap_or_default();
        let words = plain(text, self.me);
        match (words.is_empty(), files_of(message).is_empty()) {
            (false, _) => words,
            (true, true) => "/help".into(),
            (true, false) => ABOUT_A_FILE.into(),
        }
    }
}

/// What came with a message.
fn files_of(message: &Value) -> Vec<KeptFile> {
    let files = message["files"].as_array().into_iter().flatten();
    let kept = |file: &Value| {
        Some(KeptFile {
            id: id(&file["id"])?.into(),
            name: file["name"].as_str().unwrap_or("file").into(),
            mime: file["mimetype"].as_str().map(Into::into),
        })
    };
    files.filter_map(kept).collect()
}

fn attached(file: KeptFile) -> Attached {
    Attached {
        id: file.id,
        name: file.name,
        mime: file.mime,
        size: None,
    }
}

/// `/ask words` is words, `/ask` asks for a window, `/majordomo status` is the command of that name.
fn of_command(payload: &Value) -> Option<Arrival> {
    let (team, channel) = (id(&payload["team_id"])?, id(&payload["channel_id"])?);
    let user = id(&payload["user_id"])?;
    let text = plain(payload["text"].as_str().unwrap_or_default(), None);
    let trigger = id(&payload["trigger_id"])?;
    let says = match payload["command"].as_str()? {
        "/ask" if text.is_empty() => Said::Window(trigger.into()),
        _ if text.is_empty() => Said::Words("/help".into()),
        "/majordomo" => Said::Words(format!("/{}", text.trim_start_matches('/'))),
        _ => Said::Words(text),
    };
    let kept = Kept {
        from: format!("{team}/{user}"),
        name: payload["user_name"].as_str().unwrap_or_default().into(),
        ts: None,
        says,
        below: None,
        files: Vec::new(),
        agent: None,
    };
    let key = format!("command/{trigger}");
    let conversation = format!("{team}/{channel}/{user}");
    Some(Arrival::Ours(new(key, conversation, &kept)))
}

/// What was written in our window, where `/ask` with words would stand; or what is wrong with it.
fn of_window(payload: &Value) -> Option<Arrival> {
    let view = &payload["view"];
    match view["callback_id"].as_str()? {
        modal::CALLBACK => {}
        modal::CHANGE => return of_sheet(payload),
        _ => return None,
    }
    let (team, user) = (id(&payload["team"]["id"])?, id(&payload["user"]["id"])?);
    let memory = view["private_metadata"].as_str()?;
    let memory: Memory = serde_json::from_str(memory).ok()?;
    let channel = Value::from(memory.channel);
    let channel = id(&channel)?;
    let value = |(block, action): (&str, &str)| &view["state"]["values"][block][action];
    let words = value(modal::WORDS)["value"].as_str().unwrap_or_default();
    if let Some(fault) = modal::fault(words) {
        return Some(Arrival::Answered(fault));
    }
    let chosen = value(modal::AGENT)["selected_option"]["value"].as_str();
    let kept = Kept {
        from: format!("{team}/{user}"),
        name: payload["user"]["name"].as_str().unwrap_or_default().into(),
        ts: None,
        says: Said::Words(words.trim().into()),
        below: None,
        files: Vec::new(),
        agent: chosen
            .filter(|name| *name != modal::WHOEVER)
            .map(Into::into),
    };
    let key = format!("window/{}", id(&view["id"])?);
    let conversation = format!("{team}/{channel}/{user}");
    Some(Arrival::Ours(new(key, conversation, &kept)))
}

/// What was made of a sheet, where a reply to its message would stand; or what is wrong with it.
fn of_sheet(payload: &Value) -> Option<Arrival> {
    let view = &payload["view"];
    let (team, user) = (id(&payload["team"]["id"])?, id(&payload["user"]["id"])?);
    let memory: modal::Below = serde_json::from_str(view["private_metadata"].as_str()?).ok()?;
    let (block, action) = modal::WORDS;
    let json = view["state"]["values"][block][action]["value"].as_str();
    let json = json.unwrap_or_default().trim();
    if let Some(fault) = modal::no_json(json) {
        return Some(Arrival::Answered(fault));
    }
    let kept = Kept {
        from: format!("{team}/{user}"),
        name: payload["user"]["name"].as_str().unwrap_or_default().into(),
        ts: None,
        says: Said::Words(json.into()),
        below: Some(memory.below),
        files: Vec::new(),
        agent: None,
    };
    let key = format!("window/{}", id(&view["id"])?);
    Some(Arrival::Ours(new(key, memory.conversation, &kept)))
}

fn of_press(payload: &Value) -> Option<NewMail> {
    let (team, user) = (id(&payload["team"]["id"])?, id(&payload["user"]["id"])?);
    let channel = id(&payload["channel"]["id"])?;
    let action = &payload["actions"][0];
    let container = &payload["container"];
    let thread = id(&container["thread_ts"]).or_else(|| id(&payload["message"]["thread_ts"]));
    let thread = thread.or_else(|| id(&container["message_ts"]))?;
    let kept = Kept {
        from: format!("{team}/{user}"),
        name: payload["user"]["name"].as_str().unwrap_or_default().into(),
        ts: None,
        says: Said::Press {
            id: format!("{channel}/{thread}/{user}"),
            data: action["value"].as_str()?.into(),
            trigger: id(&payload["trigger_id"]).map(Into::into),
        },
        below: id(&container["message_ts"]).map(|ts| format!("{channel}/{ts}")),
        files: Vec::new(),
        agent: None,
    };
    let key = format!("press/{team}/{user}/{}", id(&action["action_ts"])?);
    Some(new(key, format!("{team}/{channel}/{thread}"), &kept))
}

fn new(key: String, conversation: String, kept: &Kept) -> NewMail {
    let mail = NewMail {
        channel: super::NAME,
        key,
        conversation,
        body: json!(kept),
    };
    match &kept.says {
        Said::Words(text) => sealed(mail, &Says::Words(text.clone())),
        Said::Edit(text) => sealed(mail, &Says::Edit(text.clone())),
        _ => mail,
    }
}

/// An id or a `ts`: short, and nothing that our own names are put together with.
fn id(value: &Value) -> Option<&str> {
    let id = value.as_str()?;
    let sound = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-' || c == '_';
    (!id.is_empty() && id.len() <= 128 && id.chars().all(sound)).then_some(id)
}

/// The words of a text in Slack's own form, without our name.
fn plain(text: &str, me: Option<&str>) -> String {
    let mut words = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        words.push_str(before);
        let Some((inner, tail)) = after.split_once('>') else {
            words.push('<');
            rest = after;
            continue;
        };
        let called = inner.split('|').next().and_then(|id| id.strip_prefix('@'));
        rest = match me.is_some() && called == me {
            true => tail.trim_start_matches([' ', ',', ':']),
            false => {
                words.push_str(&reference(inner));
                tail
            }
        };
    }
    words.push_str(rest);
    let words = words.replace("&lt;", "<").replace("&gt;", ">");
    words.replace("&amp;", "&").trim().to_owned()
}

/// What stands between `<` and `>`: a person, a channel, a word to all, or a link.
fn reference(inner: &str) -> String {
    let (what, label) = match inner.split_once('|') {
        Some((what, label)) => (what, Some(label)),
        None => (inner, None),
    };
    match (what.chars().next(), label) {
        (Some(kind @ ('@' | '#')), Some(label)) => format!("{kind}{label}"),
        (Some('@' | '#'), None) => what.into(),
        (Some('!'), Some(label)) => label.into(),
        (Some('!'), None) => what.replacen('!', "@", 1),
        (_, Some(label)) if what.ends_with(label) => {
            what.strip_prefix("mailto:").unwrap_or(what).into()
        }
        (_, Some(label)) => format!("{label} ({what})"),
        (_, None) => what.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::store::MailState;

    fn event(event: Value) -> Arrival {
        arrival(&json!({
            "type": "event_callback", "team_id": "T1", "event_id": "Ev1", "event": event,
            "authorizations": [{"user_id": "UBOT", "is_bot": true}],
        }))
    }

    fn ours(arrival: Arrival) -> (String, String, Incoming) {
        let (Arrival::Ours(mail) | Arrival::InThread(_, mail)) = arrival else {
            panic!("not for us");
        };
        let (key, conversation) = (mail.key.clone(), mail.conversation.clone());
        let read = read(&Mail {
            seq: 1,
            key: mail.key,
            conversation: mail.conversation,
            body: mail.body,
            state: MailState::New,
            at: Timestamp(5),
        });
        (key, conversation, read)
    }

    fn said(arrival: Arrival) -> Says {
        ours(arrival).2.says
    }

    #[test]
    fn a_mention_is_one_message_whichever_event_tells_it() {
        let text = "<@UBOT> what is it?";
        let mention = json!({"type": "app_mention", "user": "U1", "channel": "C1", "ts": "1700.000200", "text": text});
        let message = json!({"type": "message", "channel_type": "channel", "user": "U1",
            "channel": "C1", "ts": "1700.000200", "text": text});
        let (first, second) = (ours(event(mention)), ours(event(message)));
        assert_eq!(first, second);
        assert_eq!(first.0, "T1/C1/1700.000200");
        assert_eq!(
            first.1, "T1/C1/1700.000200",
            "it begins a thread below itself"
        );
        assert_eq!(first.2.from.unwrap().id, "T1/U1");
        assert_eq!(first.2.at, Timestamp(1_700_000));
        assert_eq!(first.2.says, Says::Words("what is it?".into()));
    }

    #[test]
    fn what_is_between_people_is_not_kept() {
        let channel = |more: Value| {
            let mut message = json!({"type": "message", "channel_type": "channel", "user": "U1",
                "channel": "C1", "ts": "17.000200", "text": "hello"});
            message
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            event(message)
        };
        for other in [
            json!({}),
            json!({"subtype": "channel_join"}),
            json!({"user": "UBOT"}),
            json!({"bot_id": "B1", "channel_type": "im"}),
            json!({"subtype": "bot_message", "bot_id": "B1", "channel_type": "im"}),
            json!({"channel": "C1/U9", "channel_type": "im"}),
        ] {
            assert!(matches!(channel(other.clone()), Arrival::Others), "{other}");
        }
        let reply = channel(json!({"thread_ts": "9.000100", "parent_user_id": "U2"}));
        assert!(matches!(reply, Arrival::InThread(root, _) if root == "T1/C1/9.000100"));
        let to_us = channel(json!({"thread_ts": "9.000100", "parent_user_id": "UBOT"}));
        assert!(matches!(&to_us, Arrival::Ours(mail) if mail.conversation == "T1/C1/9.000100"));
        let direct = channel(json!({"channel_type": "im"}));
        assert_eq!(said(direct), Says::Words("hello".into()));
        let file = json!({"channel_type": "im", "subtype": "file_share", "text": "",
            "files": [{"id": "F1", "name": "../a.pdf", "mimetype": "application/pdf"},
                {"id": "F2", "file_access": "check_file_info"}, {"id": "../F3"}]});
        let (_, _, read) = ours(channel(file));
        assert_eq!(read.says, Says::Words(ABOUT_A_FILE.into()));
        let files: Vec<(&str, &str)> = read
            .files
            .iter()
            .map(|file| (file.id.as_str(), file.name.as_str()))
            .collect();
        assert_eq!(files, [("F1", "../a.pdf"), ("F2", "file")]);
    }

    #[test]
    fn edits_amend_and_previews_do_not() {
        let edit = |before: &str, now: &str, channel_type: &str| {
            let message = |text: &str| {
                json!({"user": "U1", "ts": "17.000200", "text": text,
                "edited": {"user": "U1", "ts": "18.000000"}})
            };
            event(
                json!({"type": "message", "subtype": "message_changed", "channel": "D1",
                "channel_type": channel_type, "ts": "18.000100",
                "message": message(now), "previous_message": message(before)}),
            )
        };
        let (key, conversation, read) = ours(edit("a", "b", "im"));
        assert_eq!(key, "T1/D1/17.000200/18.000000");
        assert_eq!(conversation, "T1/D1/17.000200");
        assert_eq!(read.message.as_deref(), Some("17.000200"));
        assert_eq!(read.says, Says::Edit("b".into()));
        assert!(matches!(edit("a", "a", "im"), Arrival::Others));
        assert!(matches!(edit("a", "b", "channel"), Arrival::Others));
        let (key, _, read) = ours(edit("a", "<@UBOT> a", "channel"));
        assert_eq!(
            (key.as_str(), read.says),
            ("T1/D1/17.000200", Says::Words("a".into()))
        );
    }

    #[test]
    fn commands_and_presses() {
        let command = |command: &str, text: &str| {
            arrival(
                &json!({"command": command, "text": text, "team_id": "T1", "channel_id": "C1",
                "user_id": "U1", "user_name": "ada", "trigger_id": "1.2.ab"}),
            )
        };
        for (name, text, words) in [
            ("/majordomo", "stop", "/stop"),
            ("/majordomo", "/stop", "/stop"),
            ("/majordomo", "", "/help"),
            ("/ask", "a &lt; b", "a < b"),
        ] {
            assert_eq!(said(command(name, text)), Says::Words(words.into()));
        }
        let (key, conversation, _) = ours(command("/ask", "x"));
        assert_eq!(
            (key.as_str(), conversation.as_str()),
            ("command/1.2.ab", "T1/C1/U1")
        );
        let (key, conversation, window) = ours(command("/ask", " "));
        assert_eq!((&*key, &*conversation), ("command/1.2.ab", "T1/C1/U1"));
        assert_eq!(window.says, Says::Window("1.2.ab".into()));
        let press = json!({"type": "block_actions", "team": {"id": "T1"},
            "user": {"id": "U1", "name": "ada"}, "channel": {"id": "C1"},
            "container": {"message_ts": "18.000100", "thread_ts": "17.000200"},
            "actions": [{"value": "run:k", "action_ts": "19.000100"}]});
        let (key, conversation, read) = ours(arrival(&press));
        assert_eq!(key, "press/T1/U1/19.000100");
        assert_eq!(conversation, "T1/C1/17.000200");
        assert!(matches!(read.says, Says::Press { data, .. } if data == "run:k"));
    }

    #[test]
    fn what_is_written_in_a_window_is_a_message_where_it_was_asked_for() {
        let window = |words: Value, agent: &str, memory: &str| {
            arrival(&json!({"type": "view_submission", "team": {"id": "T1"},
                "user": {"id": "U1", "name": "ada"},
                "view": {"id": "V1", "callback_id": "ask", "private_metadata": memory,
                    "state": {"values": {"words": {"text": {"value": words}},
                        "agent": {"name": {"selected_option": {"value": agent}}}}}}}))
        };
        let here = r#"{"channel": "C1"}"#;
        let (key, conversation, read) = ours(window(json!(" a\nb "), "writer", here));
        assert_eq!((&*key, &*conversation), ("window/V1", "T1/C1/U1"));
        assert_eq!(read.says, Says::Words("a\nb".into()));
        assert_eq!(read.agent, Some("writer".into()));
        assert_eq!(ours(window(json!("a"), "-", here)).2.agent, None);
        for words in [json!("  "), Value::Null, json!("ü".repeat(40_000))] {
            let Arrival::Answered(fault) = window(words, "-", here) else {
                panic!("taken");
            };
            assert_eq!(fault["response_action"], "errors");
            assert!(fault["errors"]["words"].is_string());
        }
        let elsewhere = r#"{"channel": "C1/U9"}"#;
        assert!(matches!(
            window(json!("a"), "-", elsewhere),
            Arrival::Others
        ));
    }

    #[test]
    fn texts_are_read_as_people_wrote_them() {
        for (text, words) in [
            ("<@UBOT>: hello &amp; &lt;b&gt;", "hello & <b>"),
            ("ask <@U2|bob> in <#C1|general>", "ask @bob in #general"),
            ("<@U2> <!here> <!subteam^S1|@ops>", "@U2 @here @ops"),
            (
                "<https://a.com|a.com> <https://b.com>",
                "https://a.com https://b.com",
            ),
            (
                "<https://a.com|the page> <mailto:a@b.c|a@b.c>",
                "the page (https://a.com) a@b.c",
            ),
            ("a < b", "a < b"),
            ("&amp;lt;", "&lt;"),
        ] {
            assert_eq!(plain(text, Some("UBOT")), words, "{text}");
        }
    }
}
