//! The commands of the control port: the methods of [`FakeSlack`], as JSON.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{FakeSlack, Say, Settings, Signing};
use crate::doubles::control::{Outcome, Runner};
use crate::doubles::fault::FailHow;

/// What can be asked; the name in snake case is the path.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the method of the same name")]
pub enum Command {
    Info,
    /// Replaces all settings.
    Configure {
        settings: Box<Settings>,
    },
    SetTarget {
        url: String,
    },
    AddUser {
        id: String,
        name: String,
    },
    DeactivateUser {
        id: String,
    },
    RestrictUser {
        id: String,
    },
    SetTeam {
        id: String,
        team: String,
    },
    AddChannel {
        id: String,
        name: String,
        members: Vec<String>,
    },
    SetGroup {
        id: String,
        members: Vec<String>,
    },
    Archive {
        channel: String,
        archived: bool,
    },
    SetMember {
        channel: String,
        user: String,
        inside: bool,
    },
    ForgetChannel {
        channel: String,
    },
    Say(Say),
    Mention {
        channel: String,
        user: String,
        text: String,
    },
    ThreadReply {
        channel: String,
        thread_ts: String,
        user: String,
        text: String,
    },
    Dm {
        user: String,
        text: String,
    },
    UserEdits {
        channel: String,
        ts: String,
        text: String,
    },
    UserDeletes {
        channel: String,
        ts: String,
    },
    Slash {
        channel: String,
        user: String,
        command: String,
        text: String,
    },
    Press {
        channel: String,
        ts: String,
        user: String,
        action_id: String,
    },
    SubmitModal {
        view: String,
        user: String,
        values: Vec<(String, String, String)>,
    },
    VerifyUrl,
    RawEvent {
        event: Value,
    },
    Redeliver {
        event_id: String,
    },
    AgainUnderNewId {
        event_id: String,
    },
    LoseFirstAttempts {
        count: usize,
    },
    SignNext {
        signing: Signing,
    },
    Advance {
        ms: u64,
    },
    Sockets,
    Disconnect {
        reason: String,
    },
    CutSockets,
    KillSocketsSilently,
    Storm {
        channel_or_method: String,
        retry_after_s: i64,
        calls: usize,
    },
    Calm,
    FailNext {
        method: String,
        fault: FailHow,
    },
    FaultsLeft,
    Down,
    Up,
    Channel {
        channel: String,
    },
    Thread {
        channel: String,
        thread_ts: String,
    },
    Ever {
        channel: String,
    },
    Sent {
        channel: String,
    },
    Ephemerals,
    Views,
    Statuses,
    Parcels,
    Deliveries,
    AckLatencies,
    ShownErrors,
    Calls {
        #[serde(default)]
        method: Option<String>,
    },
    /// Waits until the app has posted so many messages in the channel; answers whether it did.
    AwaitSent {
        channel: String,
        count: usize,
        ms: u64,
    },
}

/// Runs commands on `server`.
pub fn runner(server: FakeSlack) -> Runner<Command> {
    Arc::new(move |command| {
        let server = server.clone();
        Box::pin(async move { run(&server, command).await })
    })
}

async fn run(server: &FakeSlack, command: Command) -> Outcome {
    use Command as C;
    match command {
        C::Down => server.down().await,
        C::Up => server.up().await,
        C::AwaitSent { channel, count, ms } => {
            let patience = Duration::from_millis(ms);
            let sent = server.until(patience, |s| s.sent(&channel) >= count).await;
            return Ok(json!(sent));
        }
        other => return Ok(ask(server, other)),
    }
    Ok(json!(true))
}

/// The commands that answer something.
fn ask(server: &FakeSlack, command: Command) -> Value {
    use Command as C;
    match command {
        C::Info => json!({"url": server.url(), "settings": server.settings()}),
        C::Say(say) => json!(server.say(say)),
        C::Mention {
            channel,
            user,
            text,
        } => json!(server.mention(&channel, &user, &text)),
        C::ThreadReply {
            channel,
            thread_ts,
            user,
            text,
        } => json!(server.thread_reply(&channel, &thread_ts, &user, &text)),
        C::Dm { user, text } => json!(server.dm(&user, &text)),
        C::UserEdits { channel, ts, text } => json!(server.user_edits(&channel, &ts, &text)),
        C::UserDeletes { channel, ts } => json!(server.user_deletes(&channel, &ts)),
        C::Slash {
            channel,
            user,
            command,
            text,
        } => json!(server.slash(&channel, &user, &command, &text)),
        C::Press {
            channel,
            ts,
            user,
            action_id,
        } => json!(server.act(|w, now| w.press(&channel, &ts, &user, &action_id, now))),
        C::SubmitModal { view, user, values } => {
            let values = values.iter().map(|(b, a, v)| (&**b, &**a, &**v));
            let values: Vec<(&str, &str, &str)> = values.collect();
            json!(server.act(|w, now| w.submit(&view, &user, &values, now)))
        }
        C::VerifyUrl => json!(server.verify_url()),
        C::RawEvent { event } => json!(server.raw_event(event)),
        C::Redeliver { event_id } => json!(server.redeliver(&event_id)),
        C::AgainUnderNewId { event_id } => json!(server.again_under_new_id(&event_id)),
        C::Sockets => json!(server.sockets()),
        C::FaultsLeft => json!(server.faults_left()),
        C::Channel { channel } => json!(server.channel(&channel)),
        C::Thread { channel, thread_ts } => json!(server.thread(&channel, &thread_ts)),
        C::Ever { channel } => json!(server.ever(&channel)),
        C::Sent { channel } => json!(server.sent(&channel)),
        C::Ephemerals => json!(server.ephemerals()),
        C::Views => json!(server.views()),
        C::Statuses => json!(server.statuses()),
        C::Parcels => json!(server.parcels()),
        C::Deliveries => json!(server.deliveries()),
        C::AckLatencies => json!(server.ack_latencies()),
        C::ShownErrors => json!(server.shown_errors()),
        C::Calls { method: None } => json!(server.calls()),
        C::Calls {
            method: Some(method),
        } => json!(server.calls_of(&method)),
        order => {
            give(server, order);
            json!(true)
        }
    }
}

/// The commands that answer nothing.
fn give(server: &FakeSlack, order: Command) {
    use Command as C;
    match order {
        C::Configure { settings } => server.configure(|s| *s = *settings),
        C::SetTarget { url } => server.set_target(&url),
        C::AddUser { id, name } => server.add_user(&id, &name),
        C::DeactivateUser { id } => server.deactivate_user(&id),
        C::RestrictUser { id } => server.restrict_user(&id),
        C::SetTeam { id, team } => server.set_team(&id, &team),
        C::AddChannel { id, name, members } => {
            let members: Vec<&str> = members.iter().map(String::as_str).collect();
            server.add_channel(&id, &name, &members);
        }
        C::SetGroup { id, members } => {
            let members: Vec<&str> = members.iter().map(String::as_str).collect();
            server.set_group(&id, &members);
        }
        C::Archive { channel, archived } => server.archive(&channel, archived),
        C::SetMember {
            channel,
            user,
            inside,
        } => server.set_member(&channel, &user, inside),
        C::ForgetChannel { channel } => server.forget_channel(&channel),
        C::LoseFirstAttempts { count } => server.lose_first_attempts(count),
        C::SignNext { signing } => server.sign_next(signing),
        C::Advance { ms } => server.advance(Duration::from_millis(ms)),
        C::Disconnect { reason } => server.disconnect(&reason),
        C::CutSockets => server.cut_sockets(),
        C::KillSocketsSilently => server.kill_sockets_silently(),
        C::Storm {
            channel_or_method,
            retry_after_s,
            calls,
        } => server.storm(&channel_or_method, retry_after_s, calls),
        C::Calm => server.calm(),
        C::FailNext { method, fault } => server.fail_next(&method, fault),
        _ => unreachable!("all others are answered before"),
    }
}
