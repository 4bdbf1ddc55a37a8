//! Holding a duty: what only one process may do at a time is done here as long as this process has the
//! duty, and stops before another begins. Where the holder dies, another goes on.
//!
//! ```text
//!   hold duty ─► work ─► duty lost, or the end: the work is told to stop ─► again
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use shared::store::{Duty, Store};

use crate::engine::Engine;

/// How often the duty is looked after, or tried for.
const LOOK: Duration = Duration::from_secs(1);

/// Who holds a duty.
pub struct Watch {
    /// Where it is held.
    pub store: Arc<dyn Store>,
    /// By whose worker.
    pub engine: Arc<Engine>,
    /// The duty.
    pub duty: String,
}

impl Watch {
    /// Has `work` done whenever the duty is had, until the end. `work` must return when its token is
    /// cancelled. On return nothing is under way.
    pub async fn work<F: Future<Output = ()>>(
        &self,
        end: &CancellationToken,
        work: impl Fn(Duty, CancellationToken) -> F,
    ) {
        while !end.is_cancelled() {
            match self.store.hold(&self.duty, self.engine.worker()).await {
                Ok(Some(duty)) => {
                    let over = end.child_token();
                    let keep = async {
                        self.keep(&duty, &over).await;
                        over.cancel();
                    };
                    tokio::join!(work(duty.clone(), over.clone()), keep);
                }
                // Another process has it.
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, duty = self.duty, "a duty cannot be had now");
                }
            }
            end.run_until_cancelled(tokio::time::sleep(LOOK)).await;
        }
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
            match self.store.hold(&duty.name, worker).await {
                Ok(Some(held)) if held == *duty => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%error, duty = duty.name, "a duty cannot be looked after now");
                }
            }
        }
    }
}
