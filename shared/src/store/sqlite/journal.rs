//! The journal's one writer: takes whatever entries are waiting and commits them together, so that
//! two hundred runs pay for one sync, not for two hundred.

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{ask, blob, event, ledger, run, step, task};
use crate::clock;
use crate::event::Recorded;
use crate::id::{RunId, SignalName};
use crate::store::ledger::{self as book, Book, Booked, Payer, Planned};
use crate::store::{Appended, Bell, Change, Entry, Error, Fence, RunState, Step};

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
pub(super) fn work(
    mut conn: Connection,
    mut queue: mpsc::Receiver<Job>,
    (bell, planned): (&Bell, &Planned),
) {
    let mut jobs = Vec::with_capacity(BATCH);
    let mut batch = Vec::with_capacity(BATCH);
    while queue.blocking_recv_many(&mut jobs, BATCH) > 0 {
        for job in jobs.drain(..) {
            match job {
                Job::Entry(pending) => batch.push(*pending),
                Job::Other(work) => {
                    append(&mut conn, &mut batch, (bell, planned));
                    work(&mut conn);
                }
                Job::Close => {
                    append(&mut conn, &mut batch, (bell, planned));
                    // One that fails loses nothing: the log is read again at the next start.
                    let _ = conn.execute_batch("pragma wal_checkpoint(truncate)");
                    return;
                }
            }
        }
        append(&mut conn, &mut batch, (bell, planned));
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

fn append(conn: &mut Connection, batch: &mut Vec<Pending>, (bell, planned): (&Bell, &Planned)) {
    if batch.is_empty() {
        return;
    }
    crate::crash_point!("append.before");
    let outcome = transact(conn, |tx| commit(tx, batch, planned));
    crate::crash_point!("append.after");
    if outcome.is_err() && batch.len() > 1 {
        // One entry that cannot be written must not take the others with it.
        for pending in batch.drain(..) {
            let alone = std::slice::from_ref(&pending);
            let outcome = transact(conn, |tx| commit(tx, alone, planned));
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

fn commit(tx: &Transaction<'_>, batch: &[Pending], planned: &Planned) -> Result<Committed, Error> {
    let now = clock::now();
    let mut book = Book::at(now, planned.get());
    let mut told = Vec::new();
    let mut done = Committed {
        verdicts: Vec::with_capacity(batch.len()),
        events: Vec::new(),
        rung: Rung::default(),
    };
    for pending in batch {
        for step in &pending.entry.ended {
            write(tx, pending, step, None, &mut book)?;
        }
        let (verdict, refused) = change(tx, pending, (&mut book, &mut done.rung))?;
        let taken = verdict != Appended::Refused;
        if taken {
            let entry = &pending.entry;
            blob::keep(tx, (&entry.tenant, entry.task), &entry.blobs, now)?;
            told.extend(event::of(pending, refused.as_ref()));
        }
        if pending.entry.survived && taken {
            run::survive(tx, pending.fence.run)?;
            // The next suspect may be claimed.
            done.rung.queue = true;
        }
        done.rung.asks |= verdict == Appended::Written && pending.entry.changes_asks();
        done.verdicts.push(verdict);
    }
    let accepted = || {
        let taken = |(_, verdict): &(&Pending, &Appended)| **verdict != Appended::Refused;
        batch.iter().zip(&done.verdicts).filter(taken)
    };
    done.events = event::insert(tx, told, now)?;
    task::add_up(tx, accepted().map(|(pending, _)| pending), &book, now)?;
    ledger::write(tx, &book)?;
    Ok(done)
}

/// Writes a step and enters what it moves. Where it begins an attempt that is not admitted, the step is
/// written as ended instead, and answered. `None` where the fence refuses it.
fn write(
    tx: &Transaction<'_>,
    pending: &Pending,
    step: &Step,
    unless: Option<&SignalName>,
    book: &mut Book,
) -> Result<Option<Option<Step>>, Error> {
    let (fence, tenant, now) = (pending.fence, &pending.entry.tenant, book.now);
    let before = match book::may_be_booked(step) {
        true => ledger::booked(tx, fence.run, &step.key)?,
        false => Booked::default(),
    };
    if !step::write(tx, fence, step, unless, tenant, now)? {
        return Ok(None);
    }
    if !book::costs(step) {
        return Ok(Some(None));
    }
    let payer = Payer {
        tenant,
        task: pending.entry.task,
        principal: &pending.entry.principal,
    };
    if book::asks(step) {
        ledger::know(tx, book, &payer, step.agent.as_ref())?;
    }
    let refused = book.enter(&payer, before, step, pending.entry.last);
    if let Some(ended) = &refused {
        step::write(tx, fence, ended, None, tenant, now)?;
    }
    Ok(Some(refused))
}

/// Does what one entry asks for. Answers also the step that ended instead of beginning.
fn change(
    tx: &Transaction<'_>,
    pending: &Pending,
    (book, rung): (&mut Book, &mut Rung),
) -> Result<(Appended, Option<Step>), Error> {
    let (fence, now) = (pending.fence, book.now);
    let taken = match &pending.entry.change {
        Change::Step {
            step,
            spawn,
            unless_signal: unless,
            ask,
        } => {
            let written = write(tx, pending, step, unless.as_ref(), book)?;
            if let Some(Some(ended)) = written {
                return Ok((Appended::Over, Some(ended)));
            }
            if let (true, Some(new)) = (written.is_some(), spawn) {
                run::insert_child(tx, fence, &step.key, new, now)?;
            }
            if let (true, Some(asked)) = (written.is_some(), ask) {
                let ((name, ask), task) = (&**asked, pending.entry.task);
                ask::insert(
                    tx,
                    (&pending.entry.tenant, task),
                    (fence.run, name),
                    ask,
                    now,
                )?;
            }
            written.is_some()
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
            if taken && finish.state != RunState::Done {
                ledger::lose(tx, book, pending.entry.task, Some(fence.run))?;
            }
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
                        .extend(task::end_rest(tx, book, pending.entry.task, now)?);
                }
            }
            taken
        }
    };
    let verdict = match taken {
        true => Appended::Written,
        false => Appended::Refused,
    };
    Ok((verdict, None))
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
