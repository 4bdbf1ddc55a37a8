//! A writer of journals: takes whatever entries are waiting and commits them together, in two
//! round trips however many there are. The first takes the locks, checks every fence and writes steps
//! and ends of runs; the second writes what follows from those that were accepted, and commits.

use std::collections::HashSet;

use deadpool_postgres::Object;
use futures::try_join;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

use super::blob::{self, Blobs};
use super::content::{self, Bodies};
use super::tx::{Params, Tx, get, prepare};
use super::{EngineRole, RING, ask, event, ledger, run, step, task};
use crate::clock;
use crate::event::Recorded;
use crate::id::{RunId, StepKey, TaskId};
use crate::store::ledger::{Book, Planned};
use crate::store::{Appended, Bell, Change, Entry, Error, Fence, RunState, Step};

/// The most entries of one commit.
const BATCH: usize = 256;

/// Something for the writer to do.
pub(super) enum Job {
    /// An entry of a run's journal.
    Entry(Box<Pending>),
    /// Nothing more.
    Close,
}

/// An entry that waits for its commit.
pub(super) struct Pending {
    pub fence: Fence,
    pub entry: Entry,
    pub reply: oneshot::Sender<Result<Appended, Error>>,
}

/// Works until the store is closed or dropped.
pub(super) async fn work(
    engine: EngineRole,
    mut queue: mpsc::Receiver<Job>,
    (bell, planned): (Bell, Planned),
) {
    let mut jobs = Vec::with_capacity(BATCH);
    let mut closing = false;
    while !closing && queue.recv_many(&mut jobs, BATCH).await > 0 {
        let mut batch = Vec::with_capacity(jobs.len());
        for job in jobs.drain(..) {
            match job {
                Job::Entry(pending) => batch.push(*pending),
                Job::Close => closing = true,
            }
        }
        append(&engine, batch, (&bell, &planned)).await;
    }
}

async fn append(engine: &EngineRole, batch: Vec<Pending>, (bell, planned): (&Bell, &Planned)) {
    if batch.is_empty() {
        return;
    }
    crate::crash_point!("append.before");
    let outcome = commit(engine, &batch, planned).await;
    crate::crash_point!("append.after");
    // One entry that cannot be written must not take the others with it. Where nobody answers, none
    // of them can.
    let alone = matches!(outcome, Err(Error::Database(_))) && batch.len() > 1;
    if !alone {
        return answer(outcome, batch, bell);
    }
    for pending in batch {
        let outcome = commit(engine, std::slice::from_ref(&pending), planned).await;
        answer(outcome, vec![pending], bell);
    }
}

/// What a commit did.
struct Committed {
    /// By position in the batch.
    verdicts: Vec<Appended>,
    events: Vec<Recorded>,
    /// Runs that may have been waiting for what was written.
    rung: Vec<RunId>,
    /// Runs that go no further: what they are parts of has ended.
    ended: Vec<RunId>,
    /// Whether the queue, or the next time at which a run wakes, may have changed.
    queue: bool,
    /// Whether people are asked something, or something is not asked any more.
    asks: bool,
}

/// What the first round trip found.
struct Checked {
    steps: HashSet<(RunId, StepKey)>,
    /// Runs that left memory, and whether they are in the queue.
    left: HashSet<RunId>,
    queued: bool,
    /// By position in the batch: the step that ends instead of beginning an attempt.
    refused: Vec<Option<Step>>,
}

async fn commit(
    engine: &EngineRole,
    batch: &[Pending],
    planned: &Planned,
) -> Result<Committed, Error> {
    let client = engine.get().await?;
    let [lock_tasks, lock_runs, keep, write, leave] = prepare(
        &client,
        [
            run::LOCK_TASKS,
            run::LOCK_RUNS,
            content::KEEP_ALL,
            step::WRITE,
            run::LEAVE,
        ],
    )
    .await?;
    let look = ledger::Look::prepare(&client).await?;
    let follow = Follow::prepare(&client).await?;
    let asked = ledger::Asked::of(batch);
    let mut bodies = Bodies::default();
    let steps = step::Rows::of(batch, &mut bodies);
    let leaving: Vec<Value> = batch.iter().filter_map(run::leaving).collect();
    let ends: Vec<Option<Value>> = batch
        .iter()
        .map(|pending| step::end_of_child(pending, &mut bodies))
        .collect();
    let (tasks, runs) = locked(batch);
    let (tasks, runs): (Params<'_>, Params<'_>) = (&[&tasks], &[&runs]);

    let tx = Tx::on(&client);
    let ((), _, _, booked, (), written, left, stand) = try_join!(
        tx.begin(),
        tx.query(&lock_tasks, tasks),
        tx.query(&lock_runs, runs),
        look.booked(&tx, &asked),
        bodies.keep(&tx, &keep),
        steps.write(&tx, &write),
        some(&tx, &leave, leaving),
        look.stand(&tx, &asked),
    )?;
    let mut checked = checked(&written, &left)?;
    let found = ledger::Found::of(booked, stand, clock::now())?;
    let is_written = |run: RunId, key: &StepKey| checked.steps.contains(&(run, key.clone()));
    let (book, refused) = found.enter(planned.get(), batch, is_written)?;
    checked.refused = refused;
    let committed = follow
        .write(&tx, (engine, &client), batch, (&checked, book), ends)
        .await?;
    tx.done();
    Ok(committed)
}

/// The rows that a batch takes first: its tasks, its runs and the parents that it may wake.
fn locked(batch: &[Pending]) -> (Vec<Uuid>, Vec<Uuid>) {
    let tasks: HashSet<Uuid> = batch.iter().map(|pending| pending.entry.task.0).collect();
    let mut runs: HashSet<Uuid> = batch.iter().map(|pending| pending.fence.run.0).collect();
    runs.extend(batch.iter().filter_map(parent_of).map(|parent| parent.0));
    (tasks.into_iter().collect(), runs.into_iter().collect())
}

fn parent_of(pending: &Pending) -> Option<RunId> {
    match &pending.entry.change {
        Change::Finish(finish) => finish.parent.as_ref().map(|(parent, _, _)| *parent),
        _ => None,
    }
}

/// The task whose root run is over before its time: what else goes on in it ends with it.
fn ends_early(pending: &Pending) -> Option<TaskId> {
    match &pending.entry.change {
        Change::Finish(finish) if finish.task.is_some() && finish.state != RunState::Done => {
            Some(pending.entry.task)
        }
        _ => None,
    }
}

/// The run that ends without a result: what is under way in it counts as lost.
pub(super) fn breaks_off(pending: &Pending) -> Option<(TaskId, RunId)> {
    match &pending.entry.change {
        Change::Finish(finish) if finish.state != RunState::Done => {
            Some((pending.entry.task, pending.fence.run))
        }
        _ => None,
    }
}

/// The run that had died and gets on with this.
fn survivor(pending: &Pending) -> Option<Uuid> {
    pending.entry.survived.then_some(pending.fence.run.0)
}

/// Has rows written, if there are any.
async fn some(tx: &Tx<'_>, statement: &Statement, rows: Vec<Value>) -> Result<Vec<Row>, Error> {
    match rows.is_empty() {
        true => Ok(Vec::new()),
        false => {
            let rows = Value::Array(rows).to_string();
            tx.query(statement, &[&rows]).await
        }
    }
}

fn checked(written: &[Row], left: &[Row]) -> Result<Checked, Error> {
    let key = |row: &Row| Ok((RunId(get(row, 0)?), get::<&str>(row, 1)?.into()));
    let run = |row: &Row| get(row, 0).map(RunId);
    Ok(Checked {
        steps: written.iter().map(key).collect::<Result<_, Error>>()?,
        left: left.iter().map(run).collect::<Result<_, Error>>()?,
        queued: run::any_queued(left, 1)?,
        refused: Vec::new(),
    })
}

impl Checked {
    fn verdict(&self, pending: &Pending) -> Appended {
        let run = pending.fence.run;
        let taken = match &pending.entry.change {
            Change::Step { step, .. } => self.steps.contains(&(run, step.key.clone())),
            Change::Park { .. } | Change::Release | Change::Finish(_) => self.left.contains(&run),
        };
        match taken || crate::crash::ignores_fence() {
            true => Appended::Written,
            false => Appended::Refused,
        }
    }
}

/// The statements of the second round trip.
struct Follow {
    children: Statement,
    end_children: Statement,
    wake: Statement,
    end: Statement,
    told: Statement,
    add_up: Statement,
    survive: Statement,
    ring: Statement,
    keep: Statement,
    refer: Statement,
    asks: Statement,
    ledger: ledger::Write,
}

impl Follow {
    async fn prepare(client: &Object) -> Result<Self, Error> {
        let [
            children,
            end_children,
            wake,
            end,
            told,
            add_up,
            survive,
            ring,
            keep,
            refer,
            asks,
        ] = prepare(
            client,
            [
                run::INSERT_CHILDREN,
                step::END_CHILDREN,
                run::WAKE,
                task::END,
                event::INSERT,
                task::ADD_UP,
                run::SURVIVE,
                RING,
                blob::KEEP,
                blob::USE,
                ask::INSERT,
            ],
        )
        .await?;
        Ok(Self {
            children,
            end_children,
            wake,
            end,
            told,
            add_up,
            survive,
            ring,
            keep,
            refer,
            asks,
            ledger: ledger::Write::prepare(client).await?,
        })
    }

    /// Writes what follows from the accepted entries, and commits.
    async fn write(
        &self,
        tx: &Tx<'_>,
        (engine, client): (&EngineRole, &Object),
        batch: &[Pending],
        (checked, mut book): (&Checked, Book),
        ends: Vec<Option<Value>>,
    ) -> Result<Committed, Error> {
        let verdicts: Vec<Appended> = batch
            .iter()
            .zip(&checked.refused)
            .map(|(entry, refused)| match refused {
                Some(_) => Appended::Over,
                None => checked.verdict(entry),
            })
            .collect();
        let accepted = || {
            let taken = |(_, verdict): &(&Pending, &Appended)| **verdict != Appended::Refused;
            let entries = batch.iter().zip(&verdicts).filter(taken);
            entries.map(|(pending, _)| pending)
        };
        let told = batch.iter().zip(&checked.refused).zip(&verdicts);
        let told = told.filter(|(_, verdict)| **verdict != Appended::Refused);
        let told = told.flat_map(|((pending, refused), _)| event::of(pending, refused.as_ref()));
        let told: Vec<event::New> = told.collect();
        let ended = ends.into_iter().zip(&verdicts);
        let ended = ended.filter(|(_, verdict)| **verdict == Appended::Written);
        let parents: Vec<RunId> = accepted().filter_map(parent_of).collect();
        let woken: Vec<Uuid> = parents.iter().map(|parent| parent.0).collect();
        // Locked parents that were not woken may have been skipped by a claim.
        let skipped = batch.iter().filter_map(parent_of).count() > parents.len();
        for (task, run) in accepted().filter_map(breaks_off) {
            ledger::lose(tx, &mut book, task, Some(run)).await?;
        }
        let ended_tasks: Vec<TaskId> = accepted().filter_map(ends_early).collect();
        let ended_runs = task::end_rest(tx, client, &ended_tasks, &mut book).await?;
        let survived: Vec<Uuid> = accepted().filter_map(survivor).collect();
        let queue = checked.queued || skipped || !survived.is_empty();
        let mut rings = rings(engine.teller(), &parents, queue);
        rings.extend(super::ends(engine.teller(), &ended_runs));
        let asks = accepted().any(|pending| pending.entry.changes_asks());
        if asks {
            rings.push(format!("mail {}", engine.teller()));
        }
        let (woken_ids, teller): (&[Uuid], _) = (&woken, engine.teller());
        let (wake, ring): (Params<'_>, Params<'_>) = (&[&woken_ids, &teller], &[&rings]);
        let gone_on: Params<'_> = &[&survived];
        let mut blobs = Blobs::default();
        for pending in accepted() {
            let entry = &pending.entry;
            blobs.add((&entry.tenant, entry.task), &entry.blobs);
        }
        let ((), (), _, _, woken, _, _, events, _, _, _, (), ()) = try_join!(
            self.ledger.write(tx, &book),
            self.ledger.refuse(tx, batch, &checked.refused),
            some(
                tx,
                &self.children,
                accepted().filter_map(run::child_of).collect()
            ),
            some(
                tx,
                &self.end_children,
                ended.filter_map(|(end, _)| end).collect()
            ),
            unless(woken.is_empty(), tx.query(&self.wake, wake)),
            some(tx, &self.asks, accepted().filter_map(ask::row_of).collect()),
            some(tx, &self.end, accepted().filter_map(task::end_of).collect()),
            event::insert(tx, &self.told, told, teller),
            some(tx, &self.add_up, task::sums(accepted(), &book)),
            unless(survived.is_empty(), tx.query(&self.survive, gone_on)),
            unless(rings.is_empty(), tx.query(&self.ring, ring)),
            blobs.keep(tx, (&self.keep, &self.refer)),
            tx.commit(),
        )?;
        let leaves = |pending: &Pending| !matches!(pending.entry.change, Change::Step { .. });
        Ok(Committed {
            queue: run::any_queued(&woken, 0)? || queue || batch.iter().any(leaves),
            ended: ended_runs,
            asks,
            events,
            rung: parents,
            verdicts,
        })
    }
}

/// What the other processes are told besides events.
fn rings(teller: &str, parents: &[RunId], queue: bool) -> Vec<String> {
    let queue = queue.then(|| format!("queue {teller}"));
    let parents: HashSet<&RunId> = parents.iter().collect();
    let runs = parents
        .into_iter()
        .map(|parent| format!("run {teller} {parent}"));
    runs.chain(queue).collect()
}

async fn unless(
    nothing: bool,
    ask: impl Future<Output = Result<Vec<Row>, Error>>,
) -> Result<Vec<Row>, Error> {
    match nothing {
        true => Ok(Vec::new()),
        false => ask.await,
    }
}

fn answer(outcome: Result<Committed, Error>, batch: Vec<Pending>, bell: &Bell) {
    match outcome {
        Ok(done) => {
            bell.publish(done.events);
            for (pending, verdict) in batch.into_iter().zip(done.verdicts) {
                // A run that was dropped meanwhile does not want to know.
                let _ = pending.reply.send(Ok(verdict));
            }
            done.rung.into_iter().for_each(|run| bell.ring_run(run));
            done.ended.into_iter().for_each(|run| bell.end_run(run));
            if done.queue {
                bell.ring_queue();
            }
            if done.asks {
                bell.ring_mail();
            }
        }
        Err(error) => {
            tracing::error!(%error, "journal commit failed");
            for pending in batch {
                let _ = pending.reply.send(Err(error.again()));
            }
        }
    }
}
