//! How the channels are: what is shown to whoever looks after the instance. A channel in trouble takes
//! nothing else down with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The channels' health, by name.
#[derive(Clone, Default)]
pub struct Channels {
    faults: Arc<Mutex<BTreeMap<&'static str, Option<String>>>>,
}

impl Channels {
    /// The channel works.
    pub fn well(&self, channel: &'static str) {
        self.set(channel, None);
    }

    /// The channel does not work, for this reason. Says so once, in the log.
    pub fn ill(&self, channel: &'static str, why: &str) {
        self.set(channel, Some(why.to_owned()));
    }

    /// Each channel with its fault, where it has one.
    pub fn all(&self) -> Vec<(&'static str, Option<String>)> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults
            .iter()
            .map(|(name, fault)| (*name, fault.clone()))
            .collect()
    }

    fn set(&self, channel: &'static str, fault: Option<String>) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let before = faults.insert(channel, fault.clone());
        let up = f64::from(u8::from(fault.is_none()));
        metrics::gauge!("majordomo_channel_up", "channel" => channel).set(up);
        match (before.flatten(), fault) {
            (None, Some(why)) => tracing::error!(channel, why, "channel is down"),
            (Some(_), None) => tracing::info!(channel, "channel is up again"),
            _ => {}
        }
    }
}
