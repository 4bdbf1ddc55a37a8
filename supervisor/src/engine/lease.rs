//! The worker's lease: extended at each beat, and given up here before another process may take the
//! runs over.
//!
//! ```text
//!   beat ──true──► term goes on
//!     ├──false───► term over: all its runs stop ──► register under a new id ──► new term
//!     └──error───► asked again; silent for two thirds of the TTL ──► term over, as above
//! ```
//! The database decides who may write; the term decides, by this machine's own clock, who may still
//! act. It ends first, so that a process which cannot reach its database has stopped its runs by the
//! time others go on with them. A worker's id is never used again. The embedded store's lease is the
//! folder's lock and does not end by time: there is nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use shared::clock::{Stopwatch, stopwatch};
use shared::id::WorkerId;
use shared::store::{Error, Store};

use super::Engine;

/// Runs of dead workers are looked for so often: a takeover takes a lease's rest and this.
const REAP: Duration = Duration::from_secs(1);

/// How long a beat that got no answer waits to be tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// One worker's time: from its registration until its lease is lost or given up.
pub(super) struct Term {
    /// Who works.
    pub worker: WorkerId,
    /// Cancelled when the worker may do nothing more. Its runs listen.
    pub over: CancellationToken,
    watch: Stopwatch,
    /// Until when the worker may act, on `watch`.
    until_ms: AtomicU64,
    /// What a beat gives.
    trust: Option<Duration>,
}

impl Term {
    /// Registers a fresh worker, after the one that this process was `before`. Answers how many runs
    /// of others were queued again.
    pub(super) async fn begin(
        store: &dyn Store,
        before: Option<WorkerId>,
    ) -> Result<(Arc<Self>, u64), Error> {
        let term = Self {
            worker: WorkerId::fresh(),
            over: CancellationToken::new(),
            watch: stopwatch(),
            until_ms: AtomicU64::new(0),
            trust: store.lease().map(|ttl| ttl * 2 / 3),
        };
        let asked_ms = term.watch.ms();
        let taken = store.register(term.worker, before).await?;
        term.extend(asked_ms);
        Ok((Arc::new(term), taken))
    }

    /// Whether the worker may still act. Asked before every attempt: a process that was stopped for
    /// a while learns here that it is late, whatever it did last.
    pub(super) fn is_live(&self) -> bool {
        if shared::crash::ignores_fence() {
            return true;
        }
        if self.trust.is_some() && self.watch.ms() >= self.until_ms.load(Ordering::SeqCst) {
            self.over.cancel();
        }
        !self.over.is_cancelled()
    }

    /// The lease was extended by an answer to what was asked then.
    fn extend(&self, asked_ms: u64) {
        let trust = self.trust.unwrap_or_default().as_millis() as u64;
        self.until_ms.store(asked_ms + trust, Ordering::SeqCst);
    }

    fn left(&self) -> Duration {
        let until = self.until_ms.load(Ordering::SeqCst);
        Duration::from_millis(until.saturating_sub(self.watch.ms()))
    }
}

impl Engine {
    /// Keeps the lease until the engine is gone, under one worker after another where it must.
    pub(super) async fn keep_lease(self: Arc<Self>, beat: Duration) {
        let mut pause = beat;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.gone.cancelled() => return,
            }
            let term = self.term();
            let kept = match term.is_live() {
                true => self.beat(&term).await,
                false => self.come_back().await,
            };
            pause = match kept {
                true => beat,
                false => AGAIN.min(beat),
            };
        }
    }

    /// One beat; it waits no longer than the worker may act. Whether the lease goes on.
    async fn beat(&self, term: &Term) -> bool {
        let asked_ms = term.watch.ms();
        let answer = tokio::time::timeout(term.left(), self.store.beat(term.worker)).await;
        match answer {
            Ok(Ok(true)) => {
                term.extend(asked_ms);
                return term.is_live();
            }
            Ok(Ok(false)) => {
                tracing::error!(worker.id = %term.worker, "the lease is lost: all runs stop here");
                term.over.cancel();
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease could not be extended, trying again");
            }
            Err(_) => tracing::error!(
                worker.id = %term.worker,
                "no beat was answered for two thirds of the lease: all runs stop here"
            ),
        }
        false
    }

    /// Goes on under a new worker, once the store answers.
    async fn come_back(&self) -> bool {
        match Term::begin(&*self.store, Some(self.worker())).await {
            Ok((term, _)) => {
                tracing::info!(worker.id = %term.worker, "working again, under a new worker");
                self.set_term(term);
                self.store.bell().ring_queue();
                true
            }
            Err(error) => {
                tracing::warn!(%error, "cannot register a new worker, trying again");
                false
            }
        }
    }

    /// Queues again, all the time, what dead workers were running, and looks what an operator has stopped:
    /// a word about it may have been missed.
    pub(super) async fn reap(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(REAP) => {}
                () = self.frozen.cancelled() => return,
            }
            self.mind_file();
            if let Err(error) = self.store.halts().look().await {
                tracing::warn!(%error, "cannot look what was stopped");
            }
            match self.store.reap(self.term().worker, &self.here()).await {
                Ok(0) => {}
                Ok(taken) => {
                    tracing::warn!(runs = taken, "runs of dead workers are queued again");
                    self.store.bell().ring_queue();
                }
                Err(error) => tracing::warn!(%error, "cannot look for runs of dead workers"),
            }
        }
    }
}
