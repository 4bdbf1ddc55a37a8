//! The journal's one writer: takes whatever entries are waiting and commits them together, so that
//! two hundred runs pay for one sync, not for two hundred.

use std::collections::HashSet;
use std::sync::Arc;

use sqlx::{Connection, SqliteConnection};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::{event, run, step, task};
use crate::clock;
use crate::event::Recorded;
use crate::id::{RunId, StepKey};
use crate::run::Timestamp;
use crate::store::{Appended, Bell, Change, Entry, Error, Fence};

/// The most entries of one commit.
const BATCH: usize = 256;

/// An entry that waits for its commit.
pub(super) struct Pending {
    pub fence: Fence,
    pub entry: Entry,
    pub reply: oneshot::Sender<Result<Appended, Error>>,
}

/// Writes until the store is dropped.
pub(super) async fn write(
    writer: Arc<Mutex<SqliteConnection>>,
    mut queue: mpsc::Receiver<Pending>,
    bell: Bell,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        crate::crash_point!("append.before");
        let outcome = commit(&mut *writer.lock().await, &batch).await;
        crate::crash_point!("append.after");
        answer(outcome, batch.drain(..), &bell);
    }
}

/// What a commit did.
struct Committed {
    /// By position in the batch.
    verdicts: Vec<Appended>,
    events: Vec<Recorded>,
    rung: Rung,
}

/// Who is to be told of a commit.
#[derive(Default)]
struct Rung {
    /// Runs that may have been waiting for what was written.
    runs: Vec<RunId>,
    /// Whether the queue, or the next time at which a run wakes, may have changed.
    queue: bool,
}

async fn commit(conn: &mut SqliteConnection, batch: &[Pending]) -> Result<Committed, Error> {
    let now = clock::now();
    let mut tx = conn.begin_with("begin immediate").await?;
    let written = step::write(&mut tx, batch, now).await?;
    let mut done = Committed {
        verdicts: Vec::with_capacity(batch.len()),
        events: Vec::new(),
        rung: Rung::default(),
    };
    for pending in batch {
        let verdict = change(&mut tx, pending, &written, &mut done.rung, now).await?;
        done.verdicts.push(verdict);
    }
    let accepted = || {
        let taken = |(_, verdict): &(&Pending, &Appended)| **verdict == Appended::Written;
        batch.iter().zip(&done.verdicts).filter(taken)
    };
    let told = accepted()
        .flat_map(|(pending, _)| event::of(pending))
        .collect();
    done.events = event::insert(&mut tx, told, now).await?;
    task::add_up(&mut tx, accepted().map(|(pending, _)| pending), now).await?;
    tx.commit().await?;
    Ok(done)
}

/// Does what one entry asks for beyond its step row.
async fn change(
    tx: &mut SqliteConnection,
    pending: &Pending,
    written: &HashSet<(RunId, StepKey)>,
    rung: &mut Rung,
    now: Timestamp,
) -> Result<Appended, Error> {
    let fence = pending.fence;
    let taken = match &pending.entry.change {
        Change::Step { step, spawn, .. } => {
            let taken = written.contains(&(fence.run, step.key.clone()));
            if let (true, Some(new)) = (taken, spawn) {
                run::insert_child(tx, fence, &step.key, new, now).await?;
            }
            taken
        }
        Change::Park { wakes, wake_at } => {
            rung.queue = true;
            run::park(tx, fence, *wakes, *wake_at, now).await?
        }
        Change::Release => {
            rung.queue = true;
            run::release(tx, fence, now).await?
        }
        Change::Finish(finish) => {
            let taken = run::end(tx, fence, finish.state, now).await?;
            if let (true, Some((parent, key, recorded))) = (taken, &finish.parent) {
                let tenant = &pending.entry.tenant;
                step::end_child(tx, (*parent, key), recorded, tenant, now).await?;
                rung.queue |= run::wake(tx, *parent, now).await?;
                rung.runs.push(*parent);
            }
            if let (true, Some(end)) = (taken, &finish.task) {
                task::end(tx, pending.entry.task, end, now).await?;
            }
            taken
        }
    };
    Ok(if taken {
        Appended::Written
    } else {
        Appended::Refused
    })
}

fn answer(outcome: Result<Committed, Error>, batch: impl Iterator<Item = Pending>, bell: &Bell) {
    match outcome {
        Ok(done) => {
            event::publish(bell, done.events);
            for (pending, verdict) in batch.zip(done.verdicts) {
                // A run that was dropped meanwhile does not want to know.
                let _ = pending.reply.send(Ok(verdict));
            }
            done.rung
                .runs
                .into_iter()
                .for_each(|run| bell.ring_run(run));
            if done.rung.queue {
                bell.ring_queue();
            }
        }
        Err(error) => {
            let text = error.to_string();
            tracing::error!(error = %text, "journal commit failed");
            for pending in batch {
                let _ = pending.reply.send(Err(Error::Database(text.clone())));
            }
        }
    }
}
