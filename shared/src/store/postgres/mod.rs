//! The distributed store: one Postgres, any number of processes. A worker's lease is a row that its
//! heartbeats extend; what a worker whose lease has ended was running is queued again.
//!
//! ```text
//!   append ─► journal (one writer, group commit) ─┐
//!   accept, claim, deliver, cancel, beat, reap ───┼─ pool as majordomo_engine ─► Postgres
//!   reads of one tenant, keep, tokens ────────────┴─ pool as majordomo_app ────►    │
//!   bell ◄── listen (one connection) ◄──────────────────── notifications, ids only ─┘
//! ```
//! [`connect`] makes the pools, [`migrate`] roles and tables, [`tx`] pipelines statements. SQL stands
//! in one file for each table.
//!
//! **Locks.** Whoever writes to a task's runs locks the task's row first, then the runs; claims and
//! the reaper lock runs alone and skip what is held. So nobody waits in a circle, events are numbered
//! without gaps, and what a fence has checked stays true until its commit.

mod again;
mod ask;
mod blob;
mod checkup;
mod connect;
mod content;
mod duty;
mod event;
mod feedback;
mod halt;
mod identity;
mod journal;
mod ledger;
mod listen;
mod mail;
mod migrate;
mod permit;
mod prune;
mod run;
mod step;
mod task;
mod token;
mod tx;
mod worker;

use std::borrow::Cow;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::try_join;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::error::SqlState;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::ledger::{Book, Planned, of_request};
use super::{
    Accepted, Again, Appended, Bell, Budgets, Census, Checkup, Claimed, DeadRun, Delivered, Duty,
    Entry, Error, Fence, Halts, Identities, Mailroom, NewSignal, NewTask, Raising, Renewed, Run,
    Step, Store, TaskFilter, Token,
};
use crate::blob::Blob;
use crate::clock::{self, Stopwatch};
use crate::hash::Hash;
use crate::id::{PrincipalId, RunId, SignalName, StepKey, TaskId, TenantId, WorkerId};
use crate::run::Timestamp;
use crate::task::{Task, TaskState};

use connect::{Address, AppRole, EngineRole};
use journal::Job;
use listen::{Ear, Listener};
use tx::{Params, Tx, get, prepare};

/// Connections on which journals are written: while the server works on one's commit, the next is made
/// up for another.
const WRITERS: usize = 2;
/// How many entries may wait for a commit before their runs are held up.
const QUEUE: usize = 1024;
/// How long a store that is closed tries to give its workers' runs back.
const FAREWELL: Duration = Duration::from_secs(3);

/// Tells the other processes.
const RING: &str = "select pg_notify('majordomo', m) from unnest($1::text[]) as u(m)";
const NOW: &str = "select now_ms()";

/// What the other processes are told of runs that were ended from outside.
fn ends(teller: &str, runs: &[RunId]) -> impl Iterator<Item = String> {
    runs.iter().map(move |run| format!("end {teller} {run}"))
}

/// The store of one process on a Postgres that others use, too.
pub struct PostgresStore {
    app: AppRole,
    engine: EngineRole,
    /// The queue of each writer.
    jobs: Vec<mpsc::Sender<Job>>,
    bell: Bell,
    planned: Planned,
    clock: ServerClock,
    ttl: Duration,
    /// The workers that were registered here.
    workers: Mutex<Vec<Uuid>>,
    tasks: TaskTracker,
    _closing: DropGuard,
    closing: CancellationToken,
}

impl PostgresStore {
    /// Wakes who waits for these runs' answers, and whoever shows that they were given.
    fn answered(&self, runs: &[RunId]) {
        runs.iter().for_each(|run| self.bell.ring_run(*run));
        self.bell.ring_mail();
        self.bell.ring_queue();
    }

    /// Connects to the database of this URL and brings its roles and tables up to date. A worker
    /// that does not beat for `ttl` is gone.
    ///
    /// Fails with [`Error::Url`], [`Error::Unreachable`], [`Error::Rights`] or [`Error::Migration`];
    /// none of them repeats the URL, which may hold a password.
    pub async fn open(url: &str, ttl: Duration) -> Result<Self, Error> {
        let address = Address::parse(url)?;
        migrate::run(&address).await?;
        let teller = Uuid::now_v7().simple().to_string();
        let engine = EngineRole::new(address.pool(migrate::ENGINE, ttl)?, &teller);
        let app = AppRole::new(address.pool(migrate::APP, ttl)?);
        let bell = Bell::default();
        let planned = Planned::default();
        let clock = ServerClock::default();
        let asked = clock::stopwatch();
        let now = engine.ask(NOW, &[]).await?;
        clock.set(now.first().map_or(Ok(0), |row| get(row, 0))?, asked);
        let ear = Ear::open(&address).await?;
        // What is changed from here on is heard.
        halt::look(&engine, &bell).await?;
        let closing = CancellationToken::new();
        let tasks = TaskTracker::new();
        let writer = |_| {
            let (jobs, queue) = mpsc::channel(QUEUE);
            let heard = (bell.clone(), planned.clone());
            tasks.spawn(journal::work(engine.clone(), queue, heard));
            jobs
        };
        let jobs = (0..WRITERS).map(writer).collect();
        let listener = Listener {
            address,
            engine: engine.clone(),
            bell: bell.clone(),
        };
        tasks.spawn(listener.work(ear, closing.clone()));
        tasks.close();
        Ok(Self {
            app,
            engine,
            jobs,
            bell,
            planned,
            clock,
            ttl,
            workers: Mutex::default(),
            tasks,
            _closing: closing.clone().drop_guard(),
            closing,
        })
    }

    /// Tells of tasks whose runs were claimed for the first time that they are being worked on. A
    /// transaction of its own: a claim waits for nobody, and this one waits for the tasks' rows.
    /// Where it is lost, the next claim of the same run makes up for it.
    async fn start_tasks(&self, runs: &[Run]) -> Result<(), Error> {
        let roots = runs.iter().filter(|run| run.parent.is_none());
        let ids: Vec<Uuid> = roots.map(|run| run.task.0).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let client = self.engine.get().await?;
        let [lock, start, told] =
            prepare(&client, [run::LOCK_TASKS, run::STARTED, event::INSERT]).await?;
        let tx = Tx::on(&client);
        crate::crash_point!("start.before");
        let locked: Params<'_> = &[&ids];
        let ((), _, started) = try_join!(
            tx.begin(),
            tx.query(&lock, locked),
            run::start(&tx, &start, &ids),
        )?;
        let told_of = runs
            .iter()
            .filter(|run| run.parent.is_none() && started.contains(&run.task));
        let new = told_of.map(event::started).collect();
        let (events, ()) = try_join!(
            event::insert(&tx, &told, new, self.engine.teller()),
            tx.commit()
        )?;
        tx.done();
        self.bell.publish(events);
        Ok(())
    }

    /// Holds a task and its runs, or lets them go, and tells everybody. False where it stood so.
    async fn held(
        &self,
        tenant: &TenantId,
        task: TaskId,
        reason: &str,
        held: bool,
    ) -> Result<bool, Error> {
        let mark = match held {
            true => task::PAUSE,
            false => task::RESUME,
        };
        let client = self.engine.get().await?;
        let [mark, runs, told, ring] =
            prepare(&client, [mark, run::HOLD_ALL, event::INSERT, RING]).await?;
        let tx = Tx::on(&client);
        let tenant_name = tenant.as_str();
        let which: Params<'_> = &[&tenant_name, &task.0];
        // The first statement locks the task, as every writer does.
        let ((), marked) = try_join!(tx.begin(), tx.query(&mark, which))?;
        let Some(row) = marked.first() else {
            return Ok(false);
        };
        let state: &str = get(row, 0)?;
        let state = TaskState::parse(state).ok_or_else(|| corrupt("task", state))?;
        let teller = self.engine.teller();
        let rings = match held {
            true => vec![format!("hold {teller} {task}")],
            false => vec![format!("queue {teller}")],
        };
        let (here, rung): (Params<'_>, Params<'_>) = (&[&task.0, &held], &[&rings]);
        let new = vec![event::stands(tenant, task, state, reason)];
        let (_, events, _, ()) = try_join!(
            tx.execute(&runs, here),
            event::insert(&tx, &told, new, teller),
            tx.query(&ring, rung),
            tx.commit(),
        )?;
        tx.done();
        if held {
            self.bell.hold(task);
        }
        self.bell.publish(events);
        self.bell.ring_queue();
        Ok(true)
    }

    /// Tells watchers and the queue of a task that was made from another.
    fn tell_of(&self, (made, told): again::Made) -> Renewed {
        self.bell.publish(told);
        if matches!(made, Renewed::New(_)) {
            self.bell.ring_queue();
            self.bell.ring_mail();
        }
        made
    }

    fn ttl_ms(&self) -> i64 {
        i64::try_from(self.ttl.as_millis()).unwrap_or(i64::MAX)
    }

    /// Whose rows of a table a request of this tenant would see by a query without any filter. For
    /// tests of the policies.
    #[cfg(feature = "crash-points")]
    pub async fn tenants_seen(
        &self,
        tenant: &TenantId,
        table: &str,
    ) -> Result<Vec<TenantId>, Error> {
        let select = format!("select tenant from {table}");
        let rows = self.app.ask(tenant, &select, &[]).await?;
        rows.iter()
            .map(|row| get::<&str>(row, 0).map(Into::into))
            .collect()
    }

    fn lock_workers(&self) -> std::sync::MutexGuard<'_, Vec<Uuid>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server's clock, as it was measured last and has gone on since by a clock of this machine that
/// never goes back. Off by half a round trip at most, and by the drift of the two since the last
/// heartbeat or claim. Deadlines are made by it; whether one has passed the server decides.
struct ServerClock {
    since: Stopwatch,
    offset_ms: AtomicI64,
}

impl Default for ServerClock {
    fn default() -> Self {
        Self {
            since: clock::stopwatch(),
            offset_ms: AtomicI64::new(0),
        }
    }
}

impl ServerClock {
    fn now(&self) -> Timestamp {
        let passed = self.since.ms() as i64;
        Timestamp(self.offset_ms.load(Ordering::Relaxed) + passed)
    }

    /// Takes over what the server said; `asked` was started when it was asked.
    fn set(&self, server_ms: i64, asked: Stopwatch) {
        let now = server_ms + asked.ms() as i64 / 2;
        let offset = now - self.since.ms() as i64;
        self.offset_ms.store(offset, Ordering::Relaxed);
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn bell(&self) -> &Bell {
        &self.bell
    }

    fn mail(&self) -> &dyn Mailroom {
        self
    }

    fn identities(&self) -> &dyn Identities {
        self
    }

    fn asks(&self) -> &dyn crate::store::Asks {
        self
    }

    fn permits(&self) -> &dyn crate::store::Permits {
        self
    }

    fn feedback(&self) -> &dyn crate::store::Feedbacks {
        self
    }

    fn halts(&self) -> &dyn Halts {
        self
    }

    fn budgets(&self) -> &dyn Budgets {
        self
    }

    fn lease(&self) -> Option<Duration> {
        Some(self.ttl)
    }

    async fn register(&self, worker: WorkerId, before: Option<WorkerId>) -> Result<u64, Error> {
        let orphans = worker::register(&self.engine, (worker, before), self.ttl_ms()).await?;
        self.lock_workers().push(worker.0);
        self.bell.ring_queue();
        Ok(orphans)
    }

    async fn beat(&self, worker: WorkerId) -> Result<bool, Error> {
        let asked = clock::stopwatch();
        let now = worker::beat(&self.engine, worker, self.ttl_ms()).await?;
        if let Some(now) = now {
            self.clock.set(now, asked);
        }
        Ok(now.is_some())
    }

    async fn reap(&self, worker: WorkerId, here: &[RunId]) -> Result<u64, Error> {
        let orphans = worker::reap(&self.engine, worker, here).await?;
        if orphans > 0 {
            self.bell.ring_queue();
        }
        Ok(orphans)
    }

    async fn accept(&self, task: NewTask) -> Result<Accepted, Error> {
        let client = self.engine.get().await?;
        let [
            take,
            known,
            insert,
            insert_root,
            owe,
            told,
            ring,
            keep,
            refer,
        ] = prepare(
            &client,
            [
                task::TAKE_KEY,
                task::KNOWN,
                task::INSERT,
                run::INSERT_ROOT,
                mail::OWE,
                event::INSERT,
                RING,
                blob::KEEP,
                blob::USE,
            ],
        )
        .await?;
        crate::crash_point!("accept.before");
        let tx = Tx::on(&client);
        let ((), before) = try_join!(tx.begin(), task::take_key(&tx, (&take, &known), &task))?;
        if let Some(before) = before {
            return Ok(before);
        }
        let root = task.root(self.now());
        let limit = of_request(&self.planned.get(), &task.request.budget);
        let mut new = vec![event::queued(&task)];
        let mut rings = Vec::new();
        match task.worker {
            Some(_) => new.push(event::started(&root)),
            None => rings.push(format!("queue {}", self.engine.teller())),
        }
        if task.card.is_some() {
            rings.push(format!("mail {}", self.engine.teller()));
        }
        let rung: Params<'_> = &[&rings];
        let card = async {
            match &task.card {
                Some(card) => {
                    let tenant = &task.authority.tenant;
                    mail::owe(&tx, &owe, tenant, card, Some(task.id)).await
                }
                None => Ok(false),
            }
        };
        let mut blobs = blob::Blobs::default();
        blobs.add((&task.authority.tenant, task.id), &task.blobs);
        let ((), (), (), has_card, events, _, ()) = try_join!(
            task::insert(&tx, &insert, &task, limit),
            blobs.keep(&tx, (&keep, &refer)),
            run::insert_root(
                &tx,
                &insert_root,
                &root,
                (task.worker, task.request.priority)
            ),
            card,
            event::insert(&tx, &told, new, self.engine.teller()),
            tx.query(&ring, rung),
            tx.commit(),
        )?;
        tx.done();
        crate::crash_point!("accept.after");
        self.bell.publish(events);
        if task.worker.is_none() {
            self.bell.ring_queue();
        }
        if has_card {
            self.bell.ring_mail();
        }
        Ok(Accepted::New(task.id))
    }

    async fn claim(&self, worker: WorkerId, limit: u32) -> Result<Claimed, Error> {
        let asked = clock::stopwatch();
        let due = run::due(&self.engine).await?;
        self.clock.set(due.now, asked);
        if !due.any {
            return Ok(Claimed {
                runs: Vec::new(),
                next_wake: due.next_wake,
            });
        }
        crate::crash_point!("claim.before");
        let (runs, due) = run::claim(&self.engine, worker, limit).await?;
        if let Err(error) = self.start_tasks(&runs).await {
            // They are this worker's all the same, and must be driven.
            tracing::warn!(%error, "runs were claimed whose tasks are not told as running yet");
        }
        crate::crash_point!("claim.after");
        Ok(Claimed {
            runs,
            next_wake: due.next_wake,
        })
    }

    async fn append(&self, fence: Fence, entry: Entry) -> Result<Appended, Error> {
        let (reply, answer) = oneshot::channel();
        let pending = journal::Pending {
            fence,
            entry,
            reply,
        };
        // All of a task goes through one writer: no two of them wait for the same rows.
        let writer = pending.entry.task.0.as_u128() % self.jobs.len() as u128;
        let job = Job::Entry(Box::new(pending));
        let jobs = &self.jobs[writer as usize];
        jobs.send(job).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    async fn steps(&self, tenant: &TenantId, run: RunId) -> Result<Vec<Step>, Error> {
        step::all(&self.app, tenant, run).await
    }

    async fn step(
        &self,
        tenant: &TenantId,
        run: RunId,
        key: &StepKey,
    ) -> Result<Option<Step>, Error> {
        step::one(&self.app, tenant, run, key).await
    }

    async fn run(&self, tenant: &TenantId, run: RunId) -> Result<Option<Run>, Error> {
        run::one(&self.app, tenant, run).await
    }

    async fn runs(&self, tenant: &TenantId, task: TaskId) -> Result<Vec<Run>, Error> {
        run::of_task(&self.app, tenant, task).await
    }

    async fn journal(
        &self,
        tenant: &TenantId,
        task: TaskId,
    ) -> Result<Vec<(Run, Vec<Step>)>, Error> {
        let mut found = Vec::new();
        for run in run::of_task(&self.app, tenant, task).await? {
            let steps = step::all(&self.app, tenant, run.id).await?;
            found.push((run, steps));
        }
        Ok(found)
    }

    async fn deliver(&self, signal: NewSignal) -> Result<Delivered, Error> {
        crate::crash_point!("signal.before");
        let nothing = Raising::default();
        let delivered = run::deliver(&self.engine, &signal, None, &nothing).await?;
        crate::crash_point!("signal.after");
        // Only a permit can keep it from being decided here.
        let (delivered, on) = delivered.unwrap_or((Delivered::Unwanted, Vec::new()));
        self.answered(&on);
        Ok(delivered)
    }

    async fn signal(
        &self,
        tenant: &TenantId,
        run: RunId,
        name: &SignalName,
    ) -> Result<Option<Value>, Error> {
        run::signal(&self.app, tenant, run, name).await
    }

    async fn cancel(
        &self,
        tenant: &TenantId,
        task: TaskId,
        reason: &str,
        reached: Option<&str>,
    ) -> Result<bool, Error> {
        let client = self.engine.get().await?;
        let [cancel, told, ring] = prepare(&client, [task::CANCEL, event::INSERT, RING]).await?;
        crate::crash_point!("cancel.before");
        let tx = Tx::on(&client);
        let tenant_name = tenant.as_str();
        let reached = reached.map(clean);
        let which: Params<'_> = &[&tenant_name, &task.0, &reached];
        // The first statement locks the task, as every writer does.
        let ((), ended) = try_join!(tx.begin(), tx.query(&cancel, which))?;
        if ended.is_empty() {
            return Ok(false);
        }
        let mut book = Book::at(self.now(), self.planned.get());
        let ended = task::end_rest(&tx, &client, &[task], &mut book).await?;
        let write = ledger::Write::prepare(&client).await?;
        write.write(&tx, &book).await?;
        let sums = Value::Array(task::sums(std::iter::empty(), &book)).to_string();
        tx.ask(task::ADD_UP, &[&sums]).await?;
        let teller = self.engine.teller();
        let mail = format!("mail {teller}");
        let rings: Vec<String> = ends(teller, &ended).chain([mail]).collect();
        let rung: Params<'_> = &[&rings];
        let new = vec![event::stands(tenant, task, TaskState::Cancelled, reason)];
        let (events, _, ()) = try_join!(
            event::insert(&tx, &told, new, teller),
            tx.query(&ring, rung),
            tx.commit(),
        )?;
        tx.done();
        crate::crash_point!("cancel.after");
        self.bell.publish(events);
        ended.into_iter().for_each(|run| self.bell.end_run(run));
        self.bell.ring_mail();
        Ok(true)
    }

    async fn pause(&self, tenant: &TenantId, task: TaskId, reason: &str) -> Result<bool, Error> {
        crate::crash_point!("pause.before");
        let paused = self.held(tenant, task, reason, true).await?;
        crate::crash_point!("pause.after");
        Ok(paused)
    }

    async fn resume(&self, tenant: &TenantId, task: TaskId, reason: &str) -> Result<bool, Error> {
        crate::crash_point!("resume.before");
        let resumed = self.held(tenant, task, reason, false).await?;
        crate::crash_point!("resume.after");
        Ok(resumed)
    }

    async fn retry(&self, again: Again) -> Result<Renewed, Error> {
        Ok(self.tell_of(again::retry(&self.engine, &again).await?))
    }

    async fn fork(&self, again: Again, from: &StepKey) -> Result<Renewed, Error> {
        Ok(self.tell_of(again::fork(&self.engine, &again, from).await?))
    }

    async fn dead(
        &self,
        tenant: &TenantId,
        visible_to: Option<&PrincipalId>,
        limit: u32,
    ) -> Result<Vec<DeadRun>, Error> {
        run::dead(&self.app, tenant, visible_to, limit).await
    }

    async fn task(&self, tenant: &TenantId, task: TaskId) -> Result<Option<Task>, Error> {
        task::one(&self.app, tenant, task).await
    }

    async fn tasks(&self, tenant: &TenantId, filter: &TaskFilter) -> Result<Vec<Task>, Error> {
        task::list(&self.app, tenant, filter).await
    }

    async fn events(
        &self,
        tenant: &TenantId,
        task: TaskId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<crate::event::Recorded>, Error> {
        event::after(&self.app, tenant, task, after, limit).await
    }

    async fn keep(&self, tenant: &TenantId, hash: Hash, body: &str) -> Result<(), Error> {
        content::keep(&self.app, tenant, hash, body).await
    }

    async fn content(&self, tenant: &TenantId, hash: Hash) -> Result<Option<String>, Error> {
        content::one(&self.app, tenant, hash).await
    }

    async fn blob(&self, tenant: &TenantId, hash: Hash) -> Result<Option<Blob>, Error> {
        blob::one(&self.app, tenant, hash).await
    }

    async fn add_token(&self, token: Token, hash: Hash) -> Result<bool, Error> {
        token::add(&self.app, &token, hash).await
    }

    async fn token(&self, tenant: &TenantId, hash: Hash) -> Result<Option<Token>, Error> {
        token::by_hash(&self.app, tenant, hash).await
    }

    async fn tokens(&self, tenant: &TenantId) -> Result<Vec<Token>, Error> {
        token::all(&self.app, tenant).await
    }

    async fn revoke_token(&self, tenant: &TenantId, name: &str) -> Result<bool, Error> {
        token::revoke(&self.app, tenant, name).await
    }

    async fn probe(&self) -> Result<(), Error> {
        content::probe(&self.engine).await
    }

    async fn census(&self) -> Result<Census, Error> {
        task::census(&self.engine).await
    }

    async fn hold(&self, duty: &str, worker: WorkerId) -> Result<Option<Duty>, Error> {
        duty::hold(&self.engine, duty, worker).await
    }

    async fn prunable(&self, age: Duration, limit: u32) -> Result<Vec<(TenantId, TaskId)>, Error> {
        prune::due(&self.engine, age, limit).await
    }

    async fn prune(&self, duty: &Duty, tasks: &[TaskId]) -> Result<Option<u64>, Error> {
        prune::prune(&self.engine, duty, tasks).await
    }

    async fn compact(&self) -> Result<u64, Error> {
        // The server's autovacuum does it.
        Ok(0)
    }

    async fn checkup(&self) -> Result<Checkup, Error> {
        checkup::of(&self.engine).await
    }

    async fn close(&self) {
        for jobs in &self.jobs {
            // One that is closed already has nobody to be told.
            let _ = jobs.send(Job::Close).await;
        }
        let workers = std::mem::take(&mut *self.lock_workers());
        if !workers.is_empty() {
            // Where it fails the leases end by themselves.
            let retired = worker::retire(&self.engine, &workers);
            let _ = tokio::time::timeout(FAREWELL, retired).await;
        }
        self.closing.cancel();
        self.tasks.wait().await;
        self.app.close();
        self.engine.close();
    }
}

/// What a failure of the driver means: an answer of the server, or none.
fn fault(error: tokio_postgres::Error) -> Error {
    let Some(answer) = error.as_db_error() else {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        return Error::Unreachable(match source {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        });
    };
    let code = answer.code();
    let text = format!("{} ({})", answer.message(), code.code());
    let away = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
    ];
    match away.contains(code) || code.code().starts_with("08") {
        true => Error::Unreachable(text),
        false => Error::Database(text),
    }
}

fn closed() -> Error {
    Error::Database("the store is closed".into())
}

/// Text as Postgres can hold it: all but the character NUL.
fn clean(text: &str) -> Cow<'_, str> {
    match text.contains('\0') {
        true => Cow::Owned(text.replace('\0', "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}

/// Reads a text column as what it must be.
fn parse<T: std::str::FromStr>(table: &'static str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|_| corrupt(table, text))
}

/// Reads a JSON column as what it must be.
fn from_json<T: serde::de::DeserializeOwned>(table: &'static str, text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| corrupt(table, &error.to_string()))
}

#[expect(clippy::expect_used, reason = "our own rows have text keys only")]
fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("our own rows have text keys only")
}

fn corrupt(table: &'static str, what: &str) -> Error {
    Error::Corrupt {
        table,
        what: what.chars().take(200).collect(),
    }
}
