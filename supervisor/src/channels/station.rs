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
use shared::store::{Cursor, Duty, Mailroom, NewMail, Store};

use super::Channel;
use super::courier::Courier;
use super::health::Channels;
use super::pace::Pace;
use super::reception::Reception;
use crate::app::House;
use crate::engine::Engine;
use crate::people::People;

/// How often the duty is looked after, or tried for.
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
    pub people: Arc<People>,
    /// How conversations go.
    pub settings: ConversationSettings,
    /// Where it is told how the channel is.
    pub health: Channels,
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
        while !end.is_cancelled() {
            let held = self
                .store()
                .hold(self.channel.duty(), self.engine.worker())
                .await;
            match held {
                Ok(Some(duty)) => self.on_duty(duty, &end).await,
                // Another process has it.
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "a channel's duty cannot be had now"),
            }
            end.run_until_cancelled(tokio::time::sleep(LOOK)).await;
        }
    }

    /// Does the duty until it is lost.
    async fn on_duty(&self, duty: Duty, end: &CancellationToken) {
        let (channel, over) = (self.channel.name(), end.child_token());
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
            again: Notify::new(),
        });
        let inlet = Inlet {
            store: self.store().clone(),
            tenant: self.house.desk.tenant.clone(),
            duty: duty.clone(),
            health: self.health.clone(),
            channel,
            over: over.clone(),
        };
        let keep = async {
            self.keep(&duty, &over).await;
            over.cancel();
        };
        tokio::join!(
            self.channel.listen(&inlet),
            reception.work(),
            courier.work(),
            keep
        );
    }

    /// Returns when the duty is lost, or the end has come. A store that does not answer is no loss: the
    /// worker's own lease says when it is time to stop.
    async fn keep(&self, duty: &Duty, over: &CancellationToken) {
        while over
            .run_until_cancelled(tokio::time::sleep(LOOK))
            .await
            .is_some()
        {
            let worker = self.engine.worker();
            if worker != duty.holder || !self.engine.is_live() {
                return;
            }
            match self.store().hold(duty.name, worker).await {
                Ok(Some(held)) if held == *duty => {}
                Ok(_) => return,
                Err(error) => tracing::warn!(%error, "a channel's duty cannot be looked after now"),
            }
        }
    }

    fn store(&self) -> &Arc<dyn Store> {
        &self.house.desk.store
    }
}
