//! The embedded store: one SQLite file, one process. The data folder's lock is the worker's lease:
//! whoever holds it is the only one, so every other worker in the database is gone.
//!
//! One thread writes, always in `BEGIN IMMEDIATE` with `synchronous = FULL`; journal entries that come
//! in while it is busy are committed together. Readers have connections of their own. A thread and not
//! an async driver, because a commit of five statements is one hand-over to it and back, not five.

mod again;
mod ask;
mod backup;
mod blob;
mod checkup;
mod content;
mod duty;
mod event;
mod feedback;
mod halt;
mod identity;
mod journal;
mod ledger;
mod mail;
mod permit;
mod prune;
mod run;
mod step;
mod task;
mod token;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags, Row, Transaction};
use rusqlite_migration::{M, Migrations};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::ledger::{Book, Planned};
use super::{
    Accepted, Again, Appended, Bell, Budgets, Census, Checkup, Claimed, DeadRun, Delivered, Duty,
    Entry, Error, Fence, Halts, Identities, Mailroom, NewSignal, NewTask, Renewed, Run, Step,
    Store, TaskFilter, Token,
};
use crate::blob::Blob;
use crate::clock;
use crate::hash::Hash;
use crate::id::{PrincipalId, RunId, SignalName, StepKey, TaskId, TenantId, WorkerId};
use crate::run::Timestamp;
use crate::task::Task;

pub use backup::backup;
use journal::Job;

/// The migrations in order. One that was released is never changed.
const MIGRATIONS: &[M<'static>] = &[
    M::up(include_str!("../../../migrations/sqlite/0001_spine.sql")),
    M::up(include_str!(
        "../../../migrations/sqlite/0002_operations.sql"
    )),
    M::up(include_str!("../../../migrations/sqlite/0003_mail.sql")),
    M::up(include_str!("../../../migrations/sqlite/0004_turns.sql")),
    M::up(include_str!(
        "../../../migrations/sqlite/0005_mail_care.sql"
    )),
    M::up(include_str!("../../../migrations/sqlite/0006_blob.sql")),
    M::up(include_str!("../../../migrations/sqlite/0007_identity.sql")),
    M::up(include_str!("../../../migrations/sqlite/0008_halt.sql")),
    M::up(include_str!("../../../migrations/sqlite/0009_ask.sql")),
    M::up(include_str!("../../../migrations/sqlite/0010_budget.sql")),
    M::up(include_str!("../../../migrations/sqlite/0011_ladder.sql")),
    M::up(include_str!(
        "../../../migrations/sqlite/0012_permit_feedback.sql"
    )),
    M::up(include_str!("../../../migrations/sqlite/0013_extra.sql")),
];

/// How many entries may wait for a commit before their runs are held up.
const QUEUE: usize = 1024;
/// Statements that a connection keeps prepared.
const STATEMENTS: usize = 64;
/// Pages of log before they are copied into the database: 16 MiB. A page that many commits changed is
/// copied once.
const CHECKPOINT: u32 = 4_000;
/// Long reads that go on at once: each has a connection and a thread of its own.
const LONG_READS: usize = 8;
/// How long a reader waits for a lock; in WAL mode none is expected.
const BUSY: Duration = Duration::from_secs(10);

/// The embedded store.
pub struct SqliteStore {
    jobs: mpsc::Sender<Job>,
    readers: Arc<Readers>,
    long_reads: Arc<Semaphore>,
    bell: Bell,
    planned: Planned,
    /// Closed when the writer has ended and let go of the folder.
    ended: CancellationToken,
}

impl SqliteStore {
    /// Wakes who waits for these runs' answers, and whoever shows that they were given.
    fn answered(&self, runs: &[RunId]) {
        if runs.is_empty() {
            return;
        }
        runs.iter().for_each(|run| self.bell.ring_run(*run));
        self.bell.ring_mail();
        self.bell.ring_queue();
    }

    /// Opens `majordomo.db` in this folder, making both where they are missing, and brings its
    /// tables up to date. Fails with [`Error::Locked`] while another process has the folder.
    pub async fn open(folder: &Path) -> Result<Self, Error> {
        make_private(folder).map_err(|error| io(folder, error))?;
        let lock = lock(&folder.join("lock"), folder)?;
        let file = folder.join("majordomo.db");
        let writer = writer(&file)?;
        let bell = Bell::default();
        let (jobs, queue) = mpsc::channel(QUEUE);
        let heard = bell.clone();
        let planned = Planned::default();
        let limits = planned.clone();
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                journal::work(writer, queue, (&heard, &limits));
                // The connection is closed by now: the folder may be somebody else's.
                drop(lock);
                drop(end);
            })
            .map_err(|error| io(folder, error))?;
        let store = Self {
            jobs,
            readers: Arc::new(Readers {
                idle: Mutex::default(),
                file,
            }),
            long_reads: Arc::new(Semaphore::new(LONG_READS)),
            bell,
            planned,
            ended,
        };
        store.look().await?;
        Ok(store)
    }

    /// Has the writer do something in a transaction of its own.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Other(Box::new(move |conn| {
            let done = journal::transact(conn, work);
            // Who asked may be gone; what was done is done.
            let _ = reply.send(done);
        }));
        self.jobs.send(job).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
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

    /// Reads something small, in place: a row takes less time than handing it to another thread
    /// would.
    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        self.readers.read(work)
    }

    /// Reads what may be long, a page of rows or a whole journal, on a thread that may be held up.
    async fn read_long<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let place = self.long_reads.clone().acquire_owned().await;
        let readers = self.readers.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _place = place;
            readers.read(work)
        });
        reading.await.map_err(|_| closed())?
    }
}

/// Connections that read, those of them that are idle.
struct Readers {
    idle: Mutex<Vec<Connection>>,
    file: PathBuf,
}

impl Readers {
    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let idle = self.lock().pop();
        let conn = match idle {
            Some(conn) => conn,
            None => reader(&self.file)?,
        };
        let found = work(&conn);
        self.lock().push(conn);
        found
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn writer(file: &Path) -> Result<Connection, Error> {
    make_file(file)?;
    let mut conn = Connection::open(file)?;
    conn.busy_timeout(BUSY)?;
    // Takes hold of a file that has no tables yet; then pages of deleted rows can be given back.
    conn.pragma_update(None, "auto_vacuum", "incremental")?;
    conn.pragma_update(None, "journal_mode", "wal")?;
    let synchronous = match crate::crash::ignores_syncs() {
        true => "normal",
        false => "full",
    };
    conn.pragma_update(None, "synchronous", synchronous)?;
    conn.pragma_update(None, "journal_size_limit", 64 << 20)?;
    conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    Migrations::from_slice(MIGRATIONS)
        .to_latest(&mut conn)
        .map_err(|error| Error::Migration(error.to_string()))?;
    Ok(conn)
}

fn reader(file: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(file, flags)?;
    conn.busy_timeout(BUSY)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(conn)
}

/// Makes the folder where it is missing: what is asked and answered is its owner's alone.
fn make_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Makes the database's file, readable by its owner alone; SQLite gives its log the same rights.
fn make_file(file: &Path) -> Result<(), Error> {
    let mut options = File::options();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(file)
        .map(drop)
        .map_err(|error| io(file, error))
}

fn closed() -> Error {
    Error::Database("the store is closed".into())
}

fn lock(path: &Path, folder: &Path) -> Result<File, Error> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| io(path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked {
            folder: folder.display().to_string(),
        }),
        Err(TryLockError::Error(error)) => Err(io(path, error)),
    }
}

fn io(path: &Path, error: std::io::Error) -> Error {
    Error::Io {
        path: path.display().to_string(),
        error,
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn now(&self) -> Timestamp {
        clock::now()
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
        None
    }

    async fn register(&self, worker: WorkerId, _: Option<WorkerId>) -> Result<u64, Error> {
        self.write(move |tx| run::register(tx, worker, clock::now()))
            .await
    }

    async fn beat(&self, worker: WorkerId) -> Result<bool, Error> {
        self.read(|conn| run::is_live(conn, worker))
    }

    async fn reap(&self, _: WorkerId, _: &[RunId]) -> Result<u64, Error> {
        // The folder's lock says that no other worker lives, and `register` took over what it had.
        Ok(0)
    }

    async fn accept(&self, task: NewTask) -> Result<Accepted, Error> {
        let (now, queued) = (clock::now(), task.worker.is_none());
        let has_card = task.card.is_some();
        let limit = super::ledger::of_request(&self.planned.get(), &task.request.budget);
        let (accepted, events) = self
            .write(move |tx| {
                crate::crash_point!("accept.before");
                if let Some(known) = task::known(tx, &task)? {
                    return Ok((known, Vec::new()));
                }
                let root = task.root(now);
                task::insert(tx, &task, limit, now)?;
                run::insert_root(tx, &root, (task.worker, task.request.priority))?;
                let tenant = &task.authority.tenant;
                blob::keep(tx, (tenant, task.id), &task.blobs, now)?;
                if let Some(card) = &task.card {
                    mail::owe(tx, tenant, card, Some(task.id), now)?;
                }
                let mut told = vec![event::queued(&task)];
                if task.worker.is_some() {
                    told.extend(task::started(tx, &[root], now)?);
                }
                Ok((Accepted::New(task.id), event::insert(tx, told, now)?))
            })
            .await?;
        crate::crash_point!("accept.after");
        self.bell.publish(events);
        if queued {
            self.bell.ring_queue();
        }
        if has_card {
            self.bell.ring_mail();
        }
        Ok(accepted)
    }

    async fn claim(&self, worker: WorkerId, limit: u32) -> Result<Claimed, Error> {
        let now = clock::now();
        let (due, next_wake) = self.read(|conn| run::due(conn, now))?;
        if !due {
            return Ok(Claimed {
                runs: Vec::new(),
                next_wake,
            });
        }
        let (claimed, events) = self
            .write(move |tx| {
                crate::crash_point!("claim.before");
                let runs = run::claim(tx, worker, limit, now)?;
                let told = task::started(tx, &runs, now)?;
                let events = event::insert(tx, told, now)?;
                let (_, next_wake) = run::due(tx, now)?;
                Ok((Claimed { runs, next_wake }, events))
            })
            .await?;
        crate::crash_point!("claim.after");
        self.bell.publish(events);
        Ok(claimed)
    }

    async fn append(&self, fence: Fence, entry: Entry) -> Result<Appended, Error> {
        let (reply, answer) = oneshot::channel();
        let pending = journal::Pending {
            fence,
            entry,
            reply,
        };
        let job = Job::Entry(Box::new(pending));
        self.jobs.send(job).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    async fn steps(&self, tenant: &TenantId, run: RunId) -> Result<Vec<Step>, Error> {
        let tenant = tenant.clone();
        self.read_long(move |conn| step::all(conn, &tenant, run))
            .await
    }

    async fn step(
        &self,
        tenant: &TenantId,
        run: RunId,
        key: &StepKey,
    ) -> Result<Option<Step>, Error> {
        self.read(|conn| step::one(conn, tenant, run, key))
    }

    async fn run(&self, tenant: &TenantId, run: RunId) -> Result<Option<Run>, Error> {
        self.read(|conn| run::one(conn, tenant, run))
    }

    async fn runs(&self, tenant: &TenantId, task: TaskId) -> Result<Vec<Run>, Error> {
        let tenant = tenant.clone();
        self.read_long(move |conn| run::of_task(conn, &tenant, task))
            .await
    }

    async fn journal(
        &self,
        tenant: &TenantId,
        task: TaskId,
    ) -> Result<Vec<(Run, Vec<Step>)>, Error> {
        let tenant = tenant.clone();
        self.read_long(move |conn| {
            let with_steps = |run: Run| {
                let steps = step::all(conn, &tenant, run.id)?;
                Ok((run, steps))
            };
            let runs = run::of_task(conn, &tenant, task)?;
            runs.into_iter().map(with_steps).collect()
        })
        .await
    }

    async fn deliver(&self, signal: NewSignal) -> Result<Delivered, Error> {
        let run = signal.run;
        let delivered = self
            .write(move |tx| {
                crate::crash_point!("signal.before");
                run::deliver(tx, &signal, clock::now())
            })
            .await?;
        crate::crash_point!("signal.after");
        if delivered == Delivered::First {
            self.answered(&[run]);
        }
        Ok(delivered)
    }

    async fn signal(
        &self,
        tenant: &TenantId,
        run: RunId,
        name: &SignalName,
    ) -> Result<Option<Value>, Error> {
        self.read(|conn| run::signal(conn, tenant, run, name))
    }

    async fn cancel(
        &self,
        tenant: &TenantId,
        task: TaskId,
        reason: &str,
        reached: Option<&str>,
    ) -> Result<bool, Error> {
        let (now, tenant, reason) = (clock::now(), tenant.clone(), reason.to_owned());
        let (reached, plan) = (reached.map(str::to_owned), self.planned.get());
        let ended = self
            .write(move |tx| {
                crate::crash_point!("cancel.before");
                let Some(told) =
                    task::cancel(tx, (&tenant, task), &reason, reached.as_deref(), now)?
                else {
                    return Ok(None);
                };
                let mut book = Book::at(now, plan);
                let runs = task::end_rest(tx, &mut book, task, now)?;
                task::add_up(tx, std::iter::empty(), &book, now)?;
                ledger::write(tx, &book)?;
                Ok(Some((runs, event::insert(tx, vec![told], now)?)))
            })
            .await?;
        crate::crash_point!("cancel.after");
        let Some((runs, events)) = ended else {
            return Ok(false);
        };
        self.bell.publish(events);
        runs.into_iter().for_each(|run| self.bell.end_run(run));
        self.bell.ring_mail();
        Ok(true)
    }

    async fn pause(&self, tenant: &TenantId, task: TaskId, reason: &str) -> Result<bool, Error> {
        let (now, tenant, reason) = (clock::now(), tenant.clone(), reason.to_owned());
        let paused = self
            .write(move |tx| {
                crate::crash_point!("pause.before");
                let Some(told) = task::pause(tx, &tenant, task, &reason, now)? else {
                    return Ok(None);
                };
                run::hold_all(tx, task, true)?;
                event::insert(tx, vec![told], now).map(Some)
            })
            .await?;
        crate::crash_point!("pause.after");
        let Some(events) = paused else {
            return Ok(false);
        };
        self.bell.hold(task);
        self.bell.publish(events);
        Ok(true)
    }

    async fn resume(&self, tenant: &TenantId, task: TaskId, reason: &str) -> Result<bool, Error> {
        let (now, tenant, reason) = (clock::now(), tenant.clone(), reason.to_owned());
        let resumed = self
            .write(move |tx| {
                crate::crash_point!("resume.before");
                let Some(told) = task::resume(tx, &tenant, task, &reason, now)? else {
                    return Ok(None);
                };
                run::hold_all(tx, task, false)?;
                event::insert(tx, vec![told], now).map(Some)
            })
            .await?;
        crate::crash_point!("resume.after");
        let Some(events) = resumed else {
            return Ok(false);
        };
        self.bell.publish(events);
        self.bell.ring_queue();
        Ok(true)
    }

    async fn retry(&self, again: Again) -> Result<Renewed, Error> {
        let made = self.write(move |tx| again::retry(tx, &again, clock::now()));
        Ok(self.tell_of(made.await?))
    }

    async fn fork(&self, again: Again, from: &StepKey) -> Result<Renewed, Error> {
        let from = from.clone();
        let made = self.write(move |tx| again::fork(tx, &again, &from, clock::now()));
        Ok(self.tell_of(made.await?))
    }

    async fn dead(
        &self,
        tenant: &TenantId,
        visible_to: Option<&PrincipalId>,
        limit: u32,
    ) -> Result<Vec<DeadRun>, Error> {
        let (tenant, visible_to) = (tenant.clone(), visible_to.cloned());
        self.read_long(move |conn| run::dead(conn, &tenant, visible_to.as_ref(), limit))
            .await
    }

    async fn task(&self, tenant: &TenantId, task: TaskId) -> Result<Option<Task>, Error> {
        self.read(|conn| task::one(conn, tenant, task))
    }

    async fn tasks(&self, tenant: &TenantId, filter: &TaskFilter) -> Result<Vec<Task>, Error> {
        let (tenant, filter) = (tenant.clone(), filter.clone());
        self.read_long(move |conn| task::list(conn, &tenant, &filter))
            .await
    }

    async fn events(
        &self,
        tenant: &TenantId,
        task: TaskId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<crate::event::Recorded>, Error> {
        self.read(|conn| event::after(conn, tenant, task, after, limit))
    }

    async fn keep(&self, tenant: &TenantId, hash: Hash, body: &str) -> Result<(), Error> {
        let (tenant, body) = (tenant.clone(), body.to_owned());
        self.write(move |tx| content::keep(tx, &tenant, hash, &body))
            .await
    }

    async fn content(&self, tenant: &TenantId, hash: Hash) -> Result<Option<String>, Error> {
        self.read(|conn| content::one(conn, tenant, hash))
    }

    async fn blob(&self, tenant: &TenantId, hash: Hash) -> Result<Option<Blob>, Error> {
        let tenant = tenant.clone();
        self.read_long(move |conn| blob::one(conn, &tenant, hash))
            .await
    }

    async fn add_token(&self, token: Token, hash: Hash) -> Result<bool, Error> {
        self.write(move |tx| token::add(tx, &token, hash)).await
    }

    async fn token(&self, tenant: &TenantId, hash: Hash) -> Result<Option<Token>, Error> {
        self.read(|conn| token::by_hash(conn, tenant, hash))
    }

    async fn tokens(&self, tenant: &TenantId) -> Result<Vec<Token>, Error> {
        self.read(|conn| token::all(conn, tenant))
    }

    async fn revoke_token(&self, tenant: &TenantId, name: &str) -> Result<bool, Error> {
        let (tenant, name) = (tenant.clone(), name.to_owned());
        self.write(move |tx| token::revoke(tx, &tenant, &name, clock::now()))
            .await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.write(|tx| content::probe(tx)).await?;
        self.read(|conn| run::due(conn, clock::now())).map(drop)
    }

    async fn census(&self) -> Result<Census, Error> {
        self.read_long(|conn| task::census(conn, clock::now()))
            .await
    }

    async fn hold(&self, duty: &str, worker: WorkerId) -> Result<Option<Duty>, Error> {
        let duty = duty.to_owned();
        self.write(move |tx| duty::hold(tx, duty, worker)).await
    }

    async fn prunable(&self, age: Duration, limit: u32) -> Result<Vec<(TenantId, TaskId)>, Error> {
        let before = clock::now().before(age);
        self.read_long(move |conn| prune::due(conn, before, limit))
            .await
    }

    async fn prune(&self, duty: &Duty, tasks: &[TaskId]) -> Result<Option<u64>, Error> {
        let (duty, tasks) = (duty.clone(), tasks.to_vec());
        self.write(move |tx| prune::prune(tx, &duty, &tasks, clock::now()))
            .await
    }

    async fn compact(&self) -> Result<u64, Error> {
        self.write(|tx| prune::compact(tx)).await
    }

    async fn checkup(&self) -> Result<Checkup, Error> {
        self.read_long(|conn| checkup::of(conn, clock::now())).await
    }

    async fn close(&self) {
        self.readers.lock().clear();
        // One that is closed already has nobody to be told.
        let _ = self.jobs.send(Job::Close).await;
        self.ended.cancelled().await;
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DiskFull, SystemIoFailure};
        match error.sqlite_error_code() {
            Some(DiskFull) => Error::Database(format!(
                "{error}: make room where the data folder is; nothing that was accepted is lost"
            )),
            Some(SystemIoFailure) => Error::Database(format!(
                "{error}: the data folder cannot be read or written; is its disk full?"
            )),
            _ => Error::Database(error.to_string()),
        }
    }
}

/// A text column, as it lies in the row.
fn text<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r str, Error> {
    let value = row.get_ref(column)?;
    value
        .as_str()
        .map_err(|error| corrupt("text column", &error.to_string()))
}

/// A text column that may be empty.
fn maybe_text<'r>(row: &'r Row<'_>, column: usize) -> Result<Option<&'r str>, Error> {
    let value = row.get_ref(column)?;
    value
        .as_str_or_null()
        .map_err(|error| corrupt("text column", &error.to_string()))
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
