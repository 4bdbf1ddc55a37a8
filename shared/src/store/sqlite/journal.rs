//! The journal's one writer: takes whatever entries are waiting and commits them together, so that
//! two hundred runs pay for one sync, not for two hundred.

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{ask, blob, event, run, step, task};
use crate::clock;
use crate::event::Recorded;
use crate::id::RunId;
use crate::run::Timestamp;
use crate::store::{Appended, Bell, Change, Entry, Error, Fence, RunState};

/// The most jobs that are taken at once, and so the most entries of one commit.
const BATCH: usize = 256;

/// Something for the writer to do.
pub(super) enum Job {
    /// An entry of a run's journal.
    Entry(Box<Pending>),
    /// Anything else; it answers by itself.
    Other(Box<dyn FnOnce(&mut Connection) + Send>),
    /// Nothing more: the connection is closed.
    Close,
}

/// An entry that waits for its commit.
pub(super) struct Pending {
    pub fence: Fence,
    pub entry: Entry,
    pub reply: oneshot::Sender<Result<Appended, Error>>,
}

/// Works until the store is closed or dropped. Jobs are done in the order in which they came; the
/// connection is closed on return.
pub(super) fn work(mut conn: Connection, mut queue: mpsc::Receiver<Job>, bell: &Bell) {
    let mut jobs = Vec::with_capacity(BATCH);
    let mut batch = Vec::with_capacity(BATCH);
    while queue.blocking_recv_many(&mut jobs, BATCH) > 0 {
        for job in jobs.drain(..) {
            match job {
                Job::Entry(pending) => batch.push(*pending),
                Job::Other(work) => {
                    append(&mut conn, &mut batch, bell);
                    work(&mut conn);
                }
                Job::Close => {
                    append(&mut conn, &mut batch, bell);
                    // One that fails loses nothing: the log is read again at the next start.
                    let _ = conn.execute_batch("pragma wal_checkpoint(truncate)");
                    return;
                }
            }
        }
        append(&mut conn, &mut batch, bell);
    }
}

/// Does something in a transaction of its own: all of it, or nothing.
pub(super) fn transact<T>(
    conn: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = work(&tx)?;
    tx.commit()?;
    Ok(done)
}

fn append(conn: &mut Connection, batch: &mut Vec<Pending>, bell: &Bell) {
    if batch.is_empty() {
        return;
    }
    crate::crash_point!("append.before");
    let outcome = transact(conn, |tx| commit(tx, batch));
    crate::crash_point!("append.after");
    if outcome.is_err() && batch.len() > 1 {
        // One entry that cannot be written must not take the others with it.
        for pending in batch.drain(..) {
            let alone = std::slice::from_ref(&pending);
            let outcome = transact(conn, |tx| commit(tx, alone));
            answer(outcome, std::iter::once(pending), bell);
        }
        return;
    }
    answer(outcome, batch.drain(..), bell);
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
    /// Runs that go no further: what they are parts of has ended.
    ended: Vec<RunId>,
    /// Whether the queue, or the next time at which a run wakes, may have changed.
    queue: bool,
    /// Whether people are asked something, or something is not asked any more.
    asks: bool,
}

fn commit(tx: &Transaction<'_>, batch: &[Pending]) -> Result<Committed, Error> {
    let now = clock::now();
    let mut done = Committed {
        verdicts: Vec::with_capacity(batch.len()),
        events: Vec::new(),
        rung: Rung::default(),
    };
    for pending in batch {
        for step in &pending.entry.ended {
            step::write(tx, pending.fence, step, None, &pending.entry.tenant, now)?;
        }
        let verdict = change(tx, pending, &mut done.rung, now)?;
        if verdict == Appended::Written {
            let entry = &pending.entry;
            blob::keep(tx, (&entry.tenant, entry.task), &entry.blobs, now)?;
        }
        if pending.entry.survived && verdict == Appended::Written {
            run::survive(tx, pending.fence.run)?;
            // The next suspect may be claimed.
            done.rung.queue = true;
        }
        done.rung.asks |= verdict == Appended::Written && pending.entry.changes_asks();
        done.verdicts.push(verdict);
    }
    let accepted = || {
        let taken = |(_, verdict): &(&Pending, &Appended)| **verdict == Appended::Written;
        batch.iter().zip(&done.verdicts).filter(taken)
    };
    let told = accepted()
        .flat_map(|(pending, _)| event::of(pending))
        .collect();
    done.events = event::insert(tx, told, now)?;
    task::add_up(tx, accepted().map(|(pending, _)| pending), now)?;
    Ok(done)
}

/// Does what one entry asks for.
fn change(
    tx: &Transaction<'_>,
    pending: &Pending,
    rung: &mut Rung,
    now: Timestamp,
) -> Result<Appended, Error> {
    let fence = pending.fence;
    let taken = match &pending.entry.change {
        Change::Step {
            step,
            spawn,
            unless_signal: unless,
            ask,
        } => {
            let tenant = &pending.entry.tenant;
            let taken = step::write(tx, fence, step, unless.as_ref(), tenant, now)?;
            if let (true, Some(new)) = (taken, spawn) {
                run::insert_child(tx, fence, &step.key, new, now)?;
            }
            if let (true, Some(asked)) = (taken, ask) {
                let ((name, ask), task) = (&**asked, pending.entry.task);
                ask::insert(tx, (tenant, task), (fence.run, name), ask, now)?;
            }
            taken
        }
        Change::Park { wakes, wake_at } => {
            rung.queue = true;
            run::park(tx, fence, *wakes, *wake_at, now)?
        }
        Change::Release => {
            rung.queue = true;
            run::release(tx, fence, now)?
        }
        Change::Finish(finish) => {
            let taken = run::end(tx, fence, finish.state, now)?;
            // It may have been a suspect: then the next one may be claimed.
            rung.queue = true;
            if let (true, Some((parent, key, recorded))) = (taken, &finish.parent) {
                let tenant = &pending.entry.tenant;
                step::end_child(tx, (*parent, key), recorded, tenant, now)?;
                rung.queue |= run::wake(tx, *parent, now)?;
                rung.runs.push(*parent);
            }
            if let (true, Some(end)) = (taken, &finish.task) {
                task::end(tx, pending.entry.task, end, now)?;
                if finish.state != RunState::Done {
                    rung.ended
                        .extend(task::end_rest(tx, pending.entry.task, now)?);
                }
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
            bell.publish(done.events);
            for (pending, verdict) in batch.zip(done.verdicts) {
                // A run that was dropped meanwhile does not want to know.
                let _ = pending.reply.send(Ok(verdict));
            }
            done.rung
                .runs
                .into_iter()
                .for_each(|run| bell.ring_run(run));
            done.rung
                .ended
                .into_iter()
                .for_each(|run| bell.end_run(run));
            if done.rung.queue {
                bell.ring_queue();
            }
            if done.rung.asks {
                bell.ring_mail();
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
