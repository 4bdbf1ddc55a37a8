//! A channel's station: fetches, receives and delivers for one channel, as long as this process has the
//! channel's duty. With several processes, one of them does; where it dies, another goes on.
//!
//! ```text
//!   hold duty ─► [ listen │ reception │ courier ] ─► duty lost, or the end: all of them stop ─► again
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use shared::config::ConversationSettings;
use shared::id::TenantId;
use shared::store::{Cursor, Duty, Mailroom, NewMail, Store, duty};

use super::Channel;
use super::courier::Courier;
use super::health::Channels;
use super::pace::Pace;
use super::reception::Reception;
use super::watch::Watch;
use crate::app::House;
use crate::engine::Engine;
use crate::people::directory::Directory;

/// The pause before a store that did not answer is tried again.
const LOOK: Duration = Duration::from_secs(1);

/// A channel's station.
pub struct Station {
    /// Store, intake and desk.
    pub house: House,
    /// By whose worker the duty is held.
    pub engine: Arc<Engine>,
    /// The channel.
    pub channel: Arc<dyn Channel>,
    /// Who is who.
    pub people: Arc<Directory>,
    /// How conversations go.
    pub settings: ConversationSettings,
    /// Where it is told how the channel is.
    pub health: Channels,
    /// The channels that are open.
    pub open: Arc<[&'static str]>,
}

/// Where a channel puts what it fetched.
pub struct Inlet {
    store: Arc<dyn Store>,
    tenant: TenantId,
    duty: Duty,
    health: Channels,
    channel: &'static str,
    /// Ended when somebody else fetches.
    pub over: CancellationToken,
}

impl Inlet {
    /// Makes messages durable, and how far was read. False where it is over; else they are durable.
    pub async fn take(&self, mail: Vec<NewMail>, cursor: Cursor) -> bool {
        loop {
            let (mail, place) = (mail.clone(), (cursor.clone(), self.duty.clone()));
            match self
                .store
                .mail()
                .receive(&self.tenant, mail, Some(place))
                .await
            {
                Ok(received) => return received.is_some(),
                Err(error) => tracing::warn!(%error, "messages wait for the store"),
            }
            let rest = tokio::time::sleep(LOOK);
            if self.over.run_until_cancelled(rest).await.is_none() {
                return false;
            }
        }
    }

    /// Where a channel that acknowledges message by message puts them itself.
    pub fn mailroom(&self) -> (&dyn Mailroom, &TenantId) {
        (self.store.mail(), &self.tenant)
    }

    /// The far side answers.
    pub fn works(&self) {
        self.health.well(self.channel);
    }

    /// The far side does not.
    pub fn fails(&self, why: &str) {
        self.health.ill(self.channel, why);
    }
}

impl Station {
    /// Works until it is told to end. On return nothing is under way.
    pub async fn work(self, end: CancellationToken) {
        let watch = Watch {
            store: self.store().clone(),
            engine: self.engine.clone(),
            duty: duty::of(self.channel.duty(), &self.house.desk.tenant),
        };
        watch
            .work(&end, |duty, over| self.on_duty(duty, over))
            .await;
    }

    /// Does the duty until it is lost.
    async fn on_duty(&self, duty: Duty, over: CancellationToken) {
        let channel = self.channel.name();
        tracing::info!(
            channel,
            duty.epoch = duty.epoch,
            "channel is looked after here"
        );
        let reception = Arc::new(Reception {
            house: self.house.clone(),
            channel: self.channel.clone(),
            people: self.people.clone(),
            settings: self.settings.clone(),
            duty: duty.clone(),
            open: self.open.clone(),
            over: over.clone(),
        });
        let courier = Arc::new(Courier {
            store: self.store().clone(),
            tenant: self.house.desk.tenant.clone(),
            channel: self.channel.clone(),
            people: self.people.clone(),
            health: self.health.clone(),
            duty: duty.clone(),
            over: over.clone(),
            pace: Pace::default(),
            engine: self.engine.clone(),
            open: self.open.clone(),
            again: Notify::new(),
            feedback: self.settings.feedback,
        });
        let inlet = Inlet {
            store: self.store().clone(),
            tenant: self.house.desk.tenant.clone(),
            duty: duty.clone(),
            health: self.health.clone(),
            channel,
            over: over.clone(),
        };
        // Tasks of their own: none of them keeps another from its turn.
        let works = [spawn(reception.work(), &over), spawn(courier.work(), &over)];
        self.channel.listen(&inlet).await;
        for work in works {
            if let Err(error) = work.await {
                tracing::error!(channel, %error, "a channel's station broke off, and begins again");
            }
        }
    }

    fn store(&self) -> &Arc<dyn Store> {
        &self.house.desk.store
    }
}

/// Work that goes on beside, and ends everything else when it ends, however it does.
fn spawn(
    work: impl Future<Output = ()> + Send + 'static,
    over: &CancellationToken,
) -> tokio::task::JoinHandle<()> {
    let ended = over.clone().drop_guard();
    tokio::spawn(async move {
        let _ended = ended;
        work.await;
    })
}
