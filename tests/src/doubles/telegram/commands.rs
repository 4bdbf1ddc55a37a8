//! The commands of the control port: the methods of [`FakeTelegram`], as JSON.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Access, FakeTelegram, Person, RateLimits, Say, Standing};
use crate::doubles::control::{Outcome, Runner};
use crate::doubles::fault::FailHow;

/// What can be asked; the name in snake case is the path.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the method of the same name")]
pub enum Command {
    Info,
    UserSays {
        chat: i64,
        user: i64,
        text: String,
    },
    Says(Say),
    Mentions {
        chat: i64,
        user: i64,
        text: String,
    },
    UserEdits {
        chat: i64,
        message: i64,
        text: String,
    },
    UserDeletes {
        chat: i64,
        message: i64,
    },
    Press {
        chat: i64,
        message: i64,
        user: i64,
        data: String,
    },
    SetPerson(Person),
    AddGroup {
        chat: i64,
        title: String,
    },
    AddForum {
        chat: i64,
        topics: Vec<String>,
        founder: i64,
    },
    SetStanding {
        chat: i64,
        user: i64,
        standing: Standing,
    },
    SetAccess {
        chat: i64,
        access: Access,
    },
    ForgetChat {
        chat: i64,
    },
    Migrate {
        chat: i64,
    },
    ExpireFiles,
    RawUpdate {
        kind: String,
        payload: Value,
    },
    Redeliver {
        update: i64,
    },
    Shuffle,
    DropPending,
    Pending,
    JumpUpdateIds {
        to: i64,
    },
    Advance {
        ms: u64,
    },
    SecondPoller {
        steals: bool,
    },
    NoSecondPoller,
    Storm {
        chat: i64,
        retry_after_s: i64,
        calls: usize,
    },
    Calm,
    LimitRates {
        limits: Option<RateLimits>,
    },
    FailNext {
        method: String,
        fault: FailHow,
    },
    FaultsLeft,
    ChangeToken {
        token: String,
    },
    SetPrivacy {
        on: bool,
    },
    Down,
    Up,
    Chat {
        chat: i64,
    },
    Ever {
        chat: i64,
    },
    Sent {
        chat: i64,
    },
    Calls {
        #[serde(default)]
        method: Option<String>,
    },
    Presses,
    Actions {
        chat: i64,
    },
    Deliveries,
    Commands,
    /// Waits until the bot has sent so many messages to the chat; answers whether it did.
    AwaitSent {
        chat: i64,
        count: usize,
        ms: u64,
    },
}

/// Runs commands on `server`.
pub fn runner(server: FakeTelegram) -> Runner<Command> {
    Arc::new(move |command| {
        let server = server.clone();
        Box::pin(async move { run(&server, command).await })
    })
}

async fn run(server: &FakeTelegram, command: Command) -> Outcome {
    use Command as C;
    let done = Ok(json!(true));
    match command {
        C::Info => Ok(json!({"url": server.url(), "token": server.token(),
            "bot_username": server.bot_username()})),
        C::UserSays { chat, user, text } => Ok(json!(server.says(Say::new(chat, user, text)))),
        C::Says(say) => Ok(json!(server.says(say))),
        C::Mentions { chat, user, text } => Ok(json!(server.mentions(chat, user, &text))),
        C::UserEdits {
            chat,
            message,
            text,
        } => Ok(json!(server.user_edits(chat, message, &text))),
        C::UserDeletes { chat, message } => Ok(json!(server.user_deletes(chat, message))),
        C::Press {
            chat,
            message,
            user,
            data,
        } => Ok(json!(server.press_anyway(chat, message, user, &data))),
        C::AddForum {
            chat,
            topics,
            founder,
        } => {
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            Ok(json!(server.add_forum(chat, &topics, founder)))
        }
        C::Migrate { chat } => Ok(json!(server.migrate(chat))),
        C::RawUpdate { kind, payload } => Ok(json!(server.raw_update(&kind, payload))),
        C::Redeliver { update } => Ok(json!(server.redeliver(update))),
        C::Pending => Ok(json!(server.pending())),
        C::FaultsLeft => Ok(json!(server.faults_left())),
        C::Chat { chat } => Ok(json!(server.chat(chat))),
        C::Ever { chat } => Ok(json!(server.ever(chat))),
        C::Sent { chat } => Ok(json!(server.sent(chat))),
        C::Calls { method: None } => Ok(json!(server.calls())),
        C::Calls {
            method: Some(method),
        } => Ok(json!(server.calls_of(&method))),
        C::Presses => Ok(json!(server.presses())),
        C::Actions { chat } => Ok(json!(server.actions(chat))),
        C::Deliveries => Ok(json!(server.deliveries())),
        C::Commands => Ok(json!(server.commands())),
        C::AwaitSent { chat, count, ms } => {
            let patience = Duration::from_millis(ms);
            let sent = server.until(patience, |s| s.sent(chat) >= count).await;
            Ok(json!(sent))
        }
        C::Down => {
            server.down().await;
            done
        }
        C::Up => {
            server.up().await;
            done
        }
        order => {
            give(server, order);
            done
        }
    }
}

/// The commands that answer nothing.
fn give(server: &FakeTelegram, order: Command) {
    use Command as C;
    match order {
        C::SetPerson(person) => server.set_person(person),
        C::AddGroup { chat, title } => server.add_group(chat, &title),
        C::SetStanding {
            chat,
            user,
            standing,
        } => server.set_standing(chat, user, standing),
        C::SetAccess { chat, access } => server.set_access(chat, access),
        C::ForgetChat { chat } => server.forget_chat(chat),
        C::ExpireFiles => server.expire_files(),
        C::Shuffle => server.shuffle(),
        C::DropPending => server.drop_pending(),
        C::JumpUpdateIds { to } => server.jump_update_ids(to),
        C::Advance { ms } => server.advance(Duration::from_millis(ms)),
        C::SecondPoller { steals } => server.second_poller(steals),
        C::NoSecondPoller => server.no_second_poller(),
        C::Storm {
            chat,
            retry_after_s,
            calls,
        } => server.storm(chat, retry_after_s, calls),
        C::Calm => server.calm(),
        C::LimitRates { limits } => server.limit_rates(limits),
        C::FailNext { method, fault } => server.fail_next(&method, fault),
        C::ChangeToken { token } => server.change_token(&token),
        C::SetPrivacy { on } => server.set_privacy(on),
        _ => unreachable!("all others are answered in `run`"),
    }
}
