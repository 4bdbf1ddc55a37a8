//! Claims runs and drives each one: out of the queue, into memory, through its program, and out.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use shared::id::RunId;
use shared::run::{Failure, FailureKind, Interrupted, Interruption};
use shared::store::{Run, RunState, TaskEnd};
use shared::task::TaskState;

use super::brake;
use super::journal::Journal;
use super::lease::Term;
use super::recover;
use super::{Ended, Engine};

/// The most runs of one claim.
const CLAIM: u32 = 64;

/// How long a run waits before it tries again to reach a store that failed.
const STORE_AWAY: Duration = Duration::from_secs(1);

/// Looks for due runs at least so often: a backstop, not the way runs are found.
const SWEEP: Duration = Duration::from_secs(30);

impl Engine {
    /// Claims runs and drives them until the engine is frozen. One loop for one engine.
    pub(super) async fn dispatch(self: Arc<Self>) {
        while !self.frozen.is_cancelled() {
            let idle_for = match self.claim_some().await {
                Ok(idle_for) => idle_for,
                Err(error) => {
                    tracing::error!(%error, "cannot claim runs, trying again");
                    STORE_AWAY
                }
            };
            tokio::select! {
                () = self.store.bell().queue() => {}
                () = tokio::time::sleep(idle_for) => {}
                () = self.frozen.cancelled() => {}
            }
        }
    }

    /// Claims until nothing is due or no slot is free. Answers how long to sleep if nobody rings.
    async fn claim_some(self: &Arc<Self>) -> Result<Duration, shared::store::Error> {
        while !self.frozen.is_cancelled() {
            if self.mind_file() {
                return Ok(brake::AGAIN);
            }
            let free = self.slots.available_permits().min(CLAIM as usize) as u32;
            if free == 0 {
                tokio::select! {
                    slot = self.slots.acquire() => drop(slot),
                    () = self.frozen.cancelled() => {}
                }
                continue;
            }
            let term = self.term();
            if !term.is_live() {
                // The next worker's first deed is to ring.
                return Ok(SWEEP);
            }
            let claimed = self.store.claim(term.worker, free).await?;
            let full = claimed.runs.len() == free as usize;
            for run in claimed.runs {
                self.adopt(run, term.clone(), None, None);
            }
            if !full {
                let next = claimed.next_wake;
                let wait = next.map(|at| at.since(self.store.now()));
                return Ok(wait.unwrap_or(SWEEP).min(SWEEP));
            }
        }
        Ok(SWEEP)
    }

    /// Drives a run that is this worker's. It may bring a slot, and what holds its parent.
    pub(super) fn adopt(
        self: &Arc<Self>,
        run: Run,
        term: Arc<Term>,
        slot: Option<OwnedSemaphorePermit>,
        held: Option<CancellationToken>,
    ) {
        let engine = self.clone();
        let span = tracing::info_span!(
            parent: None,
            "invoke_agent",
            otel.kind = "internal",
            gen_ai.operation.name = "invoke_agent",
            gen_ai.agent.name = run.agent.as_ref().map_or("supervisor", |agent| agent.as_str()),
            task.id = %run.task,
            run.id = %run.id,
            run.epoch = run.epoch,
        );
        crate::telemetry::join_trace(&span, &run);
        let driven = Driven::begin(self.clone(), run.id);
        let drive = async move {
            engine.drive(run, &term, slot, held.as_ref()).await;
            drop(driven);
        };
        self.drivers.spawn(drive.instrument(span));
    }

    async fn drive(
        self: Arc<Self>,
        run: Run,
        term: &Arc<Term>,
        mut slot: Option<OwnedSemaphorePermit>,
        mut held: Option<&CancellationToken>,
    ) {
        let mut fresh = run.epoch == 1;
        loop {
            let slot = match slot.take() {
                Some(slot) => slot,
                None => match self.slots.clone().acquire_owned().await {
                    Ok(slot) => slot,
                    Err(_) => return,
                },
            };
            let entered = self.enter(&run, (term, slot), (fresh, held.take()));
            let interruption = match entered.await {
                Ok(()) => return,
                Err(Interrupted(interruption)) => interruption,
            };
            match interruption {
                Interruption::Store(error) => {
                    tracing::error!(task.id = %run.task, %error, "store failed, run pends");
                    tokio::time::sleep(STORE_AWAY).await;
                    fresh = false;
                }
                Interruption::Lost => {
                    if !self.is_still_ours(&run).await {
                        return tracing::info!(task.id = %run.task, "run ended elsewhere");
                    }
                    tokio::time::sleep(STORE_AWAY).await;
                    fresh = false;
                }
                _ => return,
            }
            if self.frozen.is_cancelled() || !term.is_live() {
                return;
            }
        }
    }

    /// Whether a run whose write was refused is ours all the same: then the entry was refused, not the
    /// run. Where the store does not answer, nobody knows, and it is asked again by going on.
    async fn is_still_ours(&self, run: &Run) -> bool {
        match self.store.run(&run.authority.tenant, run.id).await {
            Ok(Some(now)) => now.state == RunState::Running && now.epoch == run.epoch,
            Ok(None) => false,
            Err(_) => true,
        }
    }

    /// Takes a run through memory once.
    async fn enter(
        self: &Arc<Self>,
        run: &Run,
        (term, slot): (&Arc<Term>, OwnedSemaphorePermit),
        (fresh, held): (bool, Option<&CancellationToken>),
    ) -> Result<(), Interrupted> {
        let steps = match fresh {
            true => Vec::new(),
            false => self.store.steps(&run.authority.tenant, run.id).await?,
        };
        let poison = recover::poison(run.deaths, &steps);
        let journal = Journal::new(self.clone(), run.clone(), steps, (term.clone(), slot));
        if held.is_some_and(CancellationToken::is_cancelled) {
            journal.hold();
        }
        if let Some(why) = poison {
            tracing::error!(task.id = %run.task, run.id = %run.id, why, "run is dead");
            return journal.bury(dead(run, why)).await;
        }
        let program = AssertUnwindSafe(self.program.run(&journal, run));
        match program.catch_unwind().await {
            Ok(Ok(ended)) => journal.finish(ended).await,
            Ok(Err(Interrupted(interruption))) => leave(&journal, run, interruption).await,
            Err(panic) => {
                let what = panic_text(&*panic);
                tracing::error!(task.id = %run.task, what, "run panicked");
                journal
                    .bury(dead(run, format!("internal error: {what}")))
                    .await
            }
        }
    }
}

/// Says that a run is driven here, as long as this lives.
struct Driven {
    engine: Arc<Engine>,
    run: RunId,
}

impl Driven {
    fn begin(engine: Arc<Engine>, run: RunId) -> Self {
        *engine.lock_driven().entry(run).or_default() += 1;
        Self { engine, run }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        let mut driven = self.engine.lock_driven();
        if let Some(times) = driven.get_mut(&self.run) {
            *times -= 1;
            if *times == 0 {
                driven.remove(&self.run);
            }
        }
    }
}

/// Does what an interruption asks for.
async fn leave(
    journal: &Journal,
    run: &Run,
    interruption: Interruption,
) -> Result<(), Interrupted> {
    match interruption {
        Interruption::Parked { until } => journal.park(until).await.map(drop),
        Interruption::Frozen => journal.release().await.map(drop),
        Interruption::Lost | Interruption::Store(_) => Err(Interrupted(interruption)),
        Interruption::Mismatch { .. } => {
            tracing::error!(task.id = %run.task, error = %interruption, "run cannot go on");
            journal.bury(dead(run, interruption.to_string())).await
        }
    }
}

fn dead(run: &Run, why: String) -> Ended {
    let task = run.parent.is_none().then(|| TaskEnd {
        state: TaskState::Failed,
        answer: None,
        partial: None,
        error: Some(why.clone()),
    });
    Ended {
        result: Err(Failure::new(FailureKind::Permanent, why)),
        task,
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic")
}
