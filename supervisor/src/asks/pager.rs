//! The pager: tells of escalations those who are in no chat, by letter and by webhook. What is owed stands
//! in the outbox; one process at a time sends it, under a duty, and goes on until it is sent or will never
//! be.
//!
//! ```text
//!   owed ─► not before ─► letter | signed POST ─► sent
//!              ▲                        ├── never ─► dead: the next rung is due at once
//!              └── twice the pause ◄────┘
//! ```
//! What was sent and not recorded is sent again: a letter with the same Message-ID, a POST with the same
//! `webhook-id`. A letter is written when the escalation comes and not again; a webhook hears of its end,
//! too.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use url::Url;

use shared::ask::{AskState, Asked};
use shared::config::Contact;
use shared::egress::{Gateway, PostRequest};
use shared::email::{Address, Letter, Mailer};
use shared::hash::Hash;
use shared::id::TenantId;
use shared::run::{FailureKind, Timestamp};
use shared::store::{Duty, Error, NewOut, Out, OutState, Store, duty};
use shared::task::Task;

use super::{card, ladder};
use crate::channels::callback;
use crate::channels::callback::schedule::{Verdict, judge};
use crate::channels::signature::Key;
use crate::channels::watch::Watch;
use crate::engine::Engine;
use crate::wire::AskView;

/// Its rows in the outbox.
pub const CHANNEL: &str = "pager";
/// The duty of the one process that sends.
const DUTY: &str = "pager";
/// Rows that are read at once.
const PAGE: u32 = 256;
/// Sent at once.
const AT_ONCE: usize = 8;
/// What one attempt may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Looks for what is owed at least so often: a backstop, not the way it is found.
const SWEEP: Duration = Duration::from_secs(60);
/// The pause after the first attempt that failed; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest.
const LAST_PAUSE: Duration = Duration::from_secs(300);

/// Who sends.
pub struct Pager {
    /// Where it stands.
    pub store: Arc<dyn Store>,
    /// Whose it is.
    pub tenant: TenantId,
    /// By whose worker the duty is held.
    pub engine: Arc<Engine>,
    /// By what letters leave, where a mail server is configured.
    pub mailer: Option<Arc<dyn Mailer>>,
    /// By what webhooks are called, and how that is signed, where there is a secret to sign with.
    pub hooks: Option<(Gateway, Key)>,
}

/// Where to: the body of the row.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum To {
    Letter(Address),
    Hook(Url),
}

/// Why something was not sent.
enum Unsent {
    /// It will never be.
    Never(String),
    /// It may be later.
    Later(String),
}

/// The row that owes an escalation to a contact that is in no chat; none for those who are in one.
pub fn owed(keys: &str, contact: &Contact) -> Option<NewOut> {
    // An address may hold a secret, so what names the row is its hash, and what is shown its host.
    let (to, conversation) = match contact {
        Contact::Letter(address) => (To::Letter(address.clone()), address.to_string()),
        Contact::Hook(url) => (To::Hook(url.clone()), url.origin().ascii_serialization()),
        Contact::Person(_) | Contact::Conversation { .. } => return None,
    };
    let body = serde_json::to_value(&to).unwrap_or_default();
    Some(NewOut {
        channel: CHANNEL.into(),
        key: format!("{keys}{}", Hash::of(&body)),
        conversation,
        body,
    })
}

impl Pager {
    /// Works until it is told to end. On return nothing is under way.
    pub async fn work(self, end: CancellationToken) {
        let watch = Watch {
            store: self.store.clone(),
            engine: self.engine.clone(),
            duty: duty::of(DUTY, &self.tenant),
        };
        watch
            .work(&end, |duty, over| self.on_duty(duty, over))
            .await;
    }

    async fn on_duty(&self, duty: Duty, over: CancellationToken) {
        let mut bell = self.store.bell().mail();
        while !over.is_cancelled() {
            bell.mark_unchanged();
            let pause = match self.look(&duty, &over).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::warn!(%error, "cannot read which escalations are to be sent, trying again");
                    FIRST_PAUSE
                }
            };
            tokio::select! {
                // The bell is the store's, and lives as long.
                _ = bell.changed() => {}
                () = tokio::time::sleep(pause) => {}
                () = over.cancelled() => {}
            }
        }
    }

    /// Sends what is due. Answers when to look again.
    async fn look(&self, duty: &Duty, over: &CancellationToken) -> Result<Duration, Error> {
        let (mut after, mut next) = (0, SWEEP);
        loop {
            let mail = self.store.mail();
            let owed = mail.owed(&self.tenant, CHANNEL, after, PAGE).await?;
            let full = owed.len() == PAGE as usize;
            let now = self.store.now();
            let mut due = Vec::new();
            for out in owed {
                after = out.seq;
                match out.not_before <= now {
                    true => due.push(out),
                    false => next = next.min(out.not_before.since(now)),
                }
            }
            let sending = stream::iter(due).map(|out| self.bring(duty, out, over));
            let rests: Vec<Duration> = sending.buffer_unordered(AT_ONCE).collect().await;
            next = rests.into_iter().fold(next, Duration::min);
            if !full || over.is_cancelled() {
                return Ok(next);
            }
        }
    }

    /// Sends one, and records what came of it. Answers when to look again.
    async fn bring(&self, duty: &Duty, out: Out, over: &CancellationToken) -> Duration {
        let sent = over.run_until_cancelled(self.send(&out, over)).await;
        let Some(sent) = sent else { return SWEEP };
        let failed = out.attempts + 1;
        let (far, attempts, state, pause) = match sent {
            // Where it was closed meanwhile it is owed again.
            Ok(said) if said == AskState::Open.as_str() => {
                (vec![said], 0, OutState::Open, FIRST_PAUSE)
            }
            Ok(said) => (vec![said], 0, OutState::Sent, SWEEP),
            Err(Unsent::Never(why)) => {
                tracing::error!(
                    to = out.conversation,
                    why,
                    "an escalation cannot be delivered"
                );
                (out.far.clone(), failed, OutState::Dead(why), SWEEP)
            }
            Err(Unsent::Later(why)) => {
                tracing::warn!(
                    to = out.conversation,
                    why,
                    "an escalation is not delivered yet"
                );
                let pause = LAST_PAUSE.min(FIRST_PAUSE * (1 << out.attempts.min(9)));
                let state = OutState::Owed(self.store.now().after(pause));
                (out.far.clone(), failed, state, pause)
            }
        };
        let is_dead = matches!(state, OutState::Dead(_));
        let mail = self.store.mail();
        let recorded = mail.record(duty, out.seq, (&far, attempts), state).await;
        if let Err(error) = recorded {
            tracing::warn!(%error, "what became of an escalation's message is not recorded yet");
            return FIRST_PAUSE;
        }
        if is_dead && let (Some(ask), Some(keys)) = (out.ask, ladder::keys_like(&out.key)) {
            let missed = self.store.asks().miss(&self.tenant, ask, keys).await;
            if let Err(error) = missed {
                tracing::warn!(%error, "the next rung of an escalation waits for its time");
            }
        }
        pause
    }

    /// One attempt. Answers what the far side knows by now.
    async fn send(&self, out: &Out, over: &CancellationToken) -> Result<String, Unsent> {
        let later = |error: Error| Unsent::Later(error.to_string());
        let Some(ask) = out.ask else {
            return Err(Unsent::Never("it shows nothing".into()));
        };
        let asked = self.store.asks().get(&self.tenant, ask).await;
        let Some(asked) = asked.map_err(later)? else {
            return Ok("gone".into());
        };
        let said = asked.state.as_str().to_owned();
        if out.far.contains(&said) {
            return Ok(said);
        }
        let task = self.store.task(&self.tenant, asked.task).await;
        let Some(task) = task.map_err(later)? else {
            return Ok("gone".into());
        };
        let to = serde_json::from_value(out.body.clone());
        let sending = async {
            match to.map_err(|error| Unsent::Never(error.to_string()))? {
                // Who heard nothing of it need not hear that it is over.
                _ if asked.state != AskState::Open && out.far.is_empty() => Ok(()),
                To::Letter(_) if asked.state != AskState::Open => Ok(()),
                To::Letter(to) => self.write(out, to, (&asked, &task), over).await,
                To::Hook(url) => self.call(out, url, (&asked, task)).await,
            }
        };
        let sent = tokio::time::timeout(PATIENCE, sending).await;
        let silence = || Unsent::Later(format!("no answer in {} s", PATIENCE.as_secs()));
        sent.unwrap_or_else(|_| Err(silence())).map(|()| said)
    }

    async fn write(
        &self,
        out: &Out,
        to: Address,
        (asked, task): (&Asked, &Task),
        over: &CancellationToken,
    ) -> Result<(), Unsent> {
        let Some(mailer) = &self.mailer else {
            return Err(Unsent::Never("no [email] is configured".into()));
        };
        let letter = Letter {
            key: Hash::of_bytes(out.key.as_bytes()),
            to: vec![to],
            cc: Vec::new(),
            reply_to: None,
            subject: card::subject(asked),
            body: card::letter(asked, task),
            attachments: Vec::new(),
        };
        let sent = match mailer.check(&letter) {
            Ok(()) => mailer.send(&letter, over).await,
            Err(failure) => Err(failure),
        };
        match sent {
            Ok(_) => Ok(()),
            Err(failure) if failure.kind == FailureKind::Transient => {
                Err(Unsent::Later(failure.message))
            }
            Err(failure) => Err(Unsent::Never(failure.message)),
        }
    }

    async fn call(&self, out: &Out, url: Url, (asked, task): (&Asked, Task)) -> Result<(), Unsent> {
        let Some((gateway, key)) = &self.hooks else {
            let why = "no [callbacks] are configured, whose secret it is signed with";
            return Err(Unsent::Never(why.into()));
        };
        let is_open = asked.state == AskState::Open;
        let body = json!({
            "type": if is_open { "escalation.opened" } else { "escalation.closed" },
            "data": AskView::of(asked.clone()).within(task),
        });
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let id = Hash::of_bytes(format!("{}\n{}", out.key, asked.state.as_str()).as_bytes());
        let Timestamp(now) = self.store.now();
        let headers = callback::signed(key, &format!("msg_{id}"), now / 1000, &body);
        let request = PostRequest {
            url,
            headers: headers.map_err(|error| Unsent::Never(error.to_string()))?,
            body,
            timeout: PATIENCE,
        };
        match judge(gateway.post(request).await) {
            Verdict::Taken => Ok(()),
            Verdict::Never(why) => Err(Unsent::Never(why)),
            Verdict::Later { why, .. } => Err(Unsent::Later(why)),
        }
    }
}
