//! Callbacks: whoever handed in a task with a `callback_url` is told of its end by a signed request, by
//! Standard Webhooks. What is owed stands in the outbox from the commit that takes the task in; it is
//! called by the one process that has the duty.
//!
//! ```text
//!   owed ─► the task has ended ─► not before ─► its origin's turn ─► post ─► schedule ─► sent | dead
//!                                     ▲                                         │
//!                                     └──────── record: attempts, not before ◄──┘
//! ```
//! A call that was made and not recorded is made again, with the same `webhook-id`: by that the receiver
//! knows that it was told already. Which addresses are taken stands in [`address`], what an answer means
//! in [`schedule`], how a call is signed in [`super::signature`].

pub mod address;
pub mod schedule;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, InvalidHeaderValue};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use shared::config::CallbackSettings;
use shared::egress::{Gateway, PostRequest, Posted};
use shared::id::{TaskId, TenantId};
use shared::run::{Failure, Timestamp};
use shared::store::{Duty, Error, Out, OutState, Store, duty};

use super::admins;
use super::signature::Key;
use super::watch::Watch;
use crate::engine::Engine;
use crate::follow::Follower;
use crate::people::directory::Directory;
use crate::view::TaskView;
use address::Called;
use schedule::{Next, judge};

/// The channel of callbacks in the outbox.
pub const CHANNEL: &str = "callback";

/// Rows that are read at once.
const PAGE: u32 = 256;
/// Commits do not become visible in the order of their numbers: so many are looked at again.
const MARGIN: i64 = 256;
/// Looks for what is owed at least so often: a backstop, not the way it is found.
const SWEEP: Duration = Duration::from_secs(60);
/// The pause after the store failed.
const PAUSE: Duration = Duration::from_millis(500);
/// Calls at once.
const AT_ONCE: usize = 64;
/// Calls at once to one origin: a slow one leaves the others their places.
const AT_ONCE_EACH: usize = 4;

/// Who calls back.
pub struct Callbacks {
    store: Arc<dyn Store>,
    tenant: TenantId,
    people: Arc<Directory>,
    gateway: Gateway,
    key: Key,
    first_pause: Duration,
    timeout: Duration,
}

/// The configuration's secret cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("[callbacks] secret: {0}")]
pub struct NoSecret(String);

/// What callbacks are signed with.
pub fn key(settings: &CallbackSettings) -> Result<Key, NoSecret> {
    let no = |error: &dyn std::fmt::Display| NoSecret(error.to_string());
    let secret = settings.secret.resolve().map_err(|error| no(&error))?;
    Key::of_standard(secret.expose()).map_err(|error| no(&error))
}

/// The headers of a call, by Standard Webhooks. What is said again has the same id; `at` is in seconds since 1970.
pub fn signed(key: &Key, id: &str, at: i64, body: &[u8]) -> Result<HeaderMap, InvalidHeaderValue> {
    let signature = key.sign(id, at, body);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("webhook-id", id.parse()?);
    headers.insert("webhook-timestamp", at.to_string().parse()?);
    headers.insert("webhook-signature", signature.parse()?);
    Ok(headers)
}

impl Callbacks {
    /// Those of a tenant.
    pub fn new(
        settings: &CallbackSettings,
        store: Arc<dyn Store>,
        tenant: TenantId,
        people: Arc<Directory>,
        gateway: Gateway,
    ) -> Result<Self, NoSecret> {
        Ok(Self {
            store,
            tenant,
            people,
            gateway,
            key: key(settings)?,
            // The configuration has checked both.
            first_pause: Duration::try_from_secs_f64(settings.first_pause_s).unwrap_or(PAUSE),
            timeout: Duration::try_from_secs_f64(settings.timeout_s).unwrap_or(PAUSE),
        })
    }

    /// Works until it is told to end. On return nothing is under way.
    pub async fn work(self, engine: Arc<Engine>, end: CancellationToken) {
        let callbacks = Arc::new(self);
        let watch = Watch {
            store: callbacks.store.clone(),
            engine,
            duty: duty::of(duty::CALLBACK, &callbacks.tenant),
        };
        let on_duty = |duty, over| {
            let round = Arc::new(Round {
                callbacks: callbacks.clone(),
                duty,
                over,
                origins: Origins::default(),
                places: Semaphore::new(AT_ONCE),
                under_way: Mutex::default(),
                again: Notify::new(),
            });
            round.work()
        };
        watch.work(&end, on_duty).await;
    }

    /// One call. What is told is the task as it stands.
    async fn call(&self, out: &Out, task: TaskId) -> Result<Result<Posted, Failure>, Left> {
        let dead = |error: &dyn std::fmt::Display| Left::Dead(error.to_string());
        let called: Called = serde_json::from_value(out.body.clone()).map_err(|e| dead(&e))?;
        let Some(task) = self.store.task(&self.tenant, task).await? else {
            return Err(Left::Dead("the task is not there any more".into()));
        };
        let id = task.id;
        let view = TaskView::with_steps(&*self.store, task).await?;
        let body = serde_json::to_vec(&view).map_err(|e| dead(&e))?;
        let mut id = format!("msg_{id}");
        if shared::crash::renames_calls() {
            id = format!("msg_{}", uuid::Uuid::now_v7());
        }
        let headers = signed(&self.key, &id, self.store.now().0 / 1000, &body);
        let headers = headers.map_err(|e| dead(&e))?;
        let request = PostRequest {
            url: called.url,
            headers,
            body,
            timeout: self.timeout,
        };
        Ok(self.gateway.post(request).await)
    }

    /// Has admins hear of what could not be delivered.
    async fn tell_admins(&self, out: &Out, why: &str) {
        let task = out.task.map(|task| task.to_string()).unwrap_or_default();
        let text = format!(
            "⚠️ The callback of task {task} could not be delivered to {}: {why}.",
            out.conversation
        );
        let key = format!("dead/{CHANNEL}/{}", out.seq);
        let told = async {
            let admins = self.people.admins().await?;
            admins::tell((&*self.store, &self.tenant), admins, (&key, &text)).await
        };
        if let Err(error) = told.await {
            tracing::error!(%error, "admins could not be told of it");
        }
    }
}

/// Why a row is left alone.
enum Left {
    /// It will never get there.
    Dead(String),
    /// The duty is over.
    Over,
    /// The store does not answer now.
    Later,
}

impl From<Error> for Left {
    fn from(error: Error) -> Self {
        tracing::warn!(%error, "a callback waits for the store");
        Left::Later
    }
}

/// The work of one time on duty.
struct Round {
    callbacks: Arc<Callbacks>,
    duty: Duty,
    over: CancellationToken,
    origins: Origins,
    places: Semaphore,
    under_way: Mutex<HashSet<i64>>,
    /// All that is owed is to be looked at again.
    again: Notify,
}

impl Round {
    /// Calls whoever is owed a call, until the duty is over. On return nothing is under way any more.
    async fn work(self: Arc<Self>) {
        let tracker = TaskTracker::new();
        let mut bell = self.callbacks.store.bell().mail();
        let mut after = 0;
        while !self.over.is_cancelled() {
            bell.mark_unchanged();
            match self.look(after, &tracker).await {
                Ok(last) => after = after.max(last),
                Err(error) => {
                    tracing::warn!(%error, "cannot read which callbacks are owed, trying again");
                    bell.mark_changed();
                    let rest = tokio::time::sleep(PAUSE);
                    let _ = self.over.run_until_cancelled(rest).await;
                }
            }
            tokio::select! {
                // The bell is the store's, and lives as long.
                _ = bell.changed() => {}
                () = self.again.notified() => after = 0,
                () = tokio::time::sleep(SWEEP) => after = 0,
                () = self.over.cancelled() => {}
            }
        }
        tracker.close();
        tracker.wait().await;
    }

    /// Begins with all that is owed after this number, and shortly before. Answers the last one's.
    async fn look(self: &Arc<Self>, after: i64, tracker: &TaskTracker) -> Result<i64, Error> {
        let mut last = (after - MARGIN).max(0);
        loop {
            let mail = self.callbacks.store.mail();
            let tenant = &self.callbacks.tenant;
            let owed = mail.owed(tenant, CHANNEL, last, PAGE).await?;
            let full = owed.len() == PAGE as usize;
            for out in owed {
                last = out.seq;
                self.begin(out, tracker);
            }
            if !full {
                return Ok(last);
            }
        }
    }

    fn begin(self: &Arc<Self>, out: Out, tracker: &TaskTracker) {
        let mut begun = self.begun();
        if begun.insert(out.seq) {
            drop(tracker.spawn(self.clone().bring(out)));
        }
    }

    fn begun(&self) -> std::sync::MutexGuard<'_, HashSet<i64>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn bring(self: Arc<Self>, mut out: Out) {
        let brought = self.deliver(&mut out).await;
        let later = matches!(brought, Err(Left::Later));
        if let Err(Left::Dead(why)) = brought {
            self.bury(&out, why).await;
        }
        if later {
            let rest = tokio::time::sleep(PAUSE);
            self.over.run_until_cancelled(rest).await;
        }
        self.begun().remove(&out.seq);
        if later {
            self.again.notify_one();
        }
    }

    async fn deliver(&self, out: &mut Out) -> Result<(), Left> {
        let Some(task) = out.task else {
            return Err(Left::Dead("it belongs to no task".into()));
        };
        let (store, tenant) = (self.callbacks.store.clone(), self.callbacks.tenant.clone());
        let ended = Follower::end(store, tenant, task);
        self.unless_over(ended).await??;
        loop {
            self.rest(out.not_before).await?;
            let answer = self.attempt(out, task).await??;
            let failed = out.attempts + 1;
            let pause = self.callbacks.first_pause;
            match schedule::next(judge(answer), failed, pause, fastrand::f64()) {
                Next::Done => {
                    count("sent");
                    return self.record(out, OutState::Sent).await;
                }
                Next::Dead(why) => return Err(Left::Dead(why)),
                Next::Again(pause) => {
                    count("again");
                    out.attempts = failed;
                    out.not_before = self.after(pause);
                    tracing::debug!(task.id = %task, attempts = failed, "a callback failed");
                    self.record(out, OutState::Owed(out.not_before)).await?;
                }
            }
        }
    }

    /// One attempt, in its origin's turn.
    async fn attempt(
        &self,
        out: &Out,
        task: TaskId,
    ) -> Result<Result<Result<Posted, Failure>, Left>, Left> {
        let lane = self.origins.lane(&out.conversation);
        let attempt = async {
            let _turn = lane.acquire().await;
            let _place = self.places.acquire().await;
            self.callbacks.call(out, task).await
        };
        self.unless_over(attempt).await
    }

    async fn unless_over<T>(&self, work: impl Future<Output = T>) -> Result<T, Left> {
        self.over.run_until_cancelled(work).await.ok_or(Left::Over)
    }

    async fn rest(&self, until: Timestamp) -> Result<(), Left> {
        let left_ms = until.0 - self.callbacks.store.now().0;
        let left = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0));
        self.unless_over(tokio::time::sleep(left)).await
    }

    fn after(&self, pause: Duration) -> Timestamp {
        let pause_ms = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.callbacks.store.now().0.saturating_add(pause_ms))
    }

    async fn record(&self, out: &Out, state: OutState) -> Result<(), Left> {
        let mail = self.callbacks.store.mail();
        let far = (&out.far[..], out.attempts);
        match mail.record(&self.duty, out.seq, far, state).await? {
            true => Ok(()),
            false => Err(Left::Over),
        }
    }

    /// Gives a call up.
    async fn bury(&self, out: &Out, why: String) {
        let origin = &out.conversation;
        tracing::error!(origin, why, "a callback cannot be delivered");
        count("dead");
        let dead = OutState::Dead(why.clone());
        if self.record(out, dead).await.is_ok() {
            self.callbacks.tell_admins(out, &why).await;
        }
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("majordomo_callbacks_total", "outcome" => outcome).increment(1);
}

/// The turns of origins that are called just now.
#[derive(Default)]
struct Origins(Mutex<HashMap<String, Weak<Semaphore>>>);

impl Origins {
    fn lane(&self, origin: &str) -> Arc<Semaphore> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(origin).and_then(Weak::upgrade) {
            return lane;
        }
        lanes.retain(|_, lane| lane.strong_count() > 0);
        let lane = Arc::new(Semaphore::new(AT_ONCE_EACH));
        lanes.insert(origin.to_owned(), Arc::downgrade(&lane));
        lane
    }
}
