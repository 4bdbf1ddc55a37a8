//! The embedded store: one SQLite file, one process. The data folder's lock is the worker's lease:
//! whoever holds it is the only one, so every other worker in the database is gone.
//!
//! One connection writes, always in `BEGIN IMMEDIATE` with `synchronous = FULL`; journal entries that
//! come in while it is busy are committed together. Readers have connections of their own.

mod content;
mod event;
mod journal;
mod run;
mod step;
mod task;
mod token;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, SqlStr};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::{
    Accepted, Appended, Bell, Census, Claimed, Delivered, Entry, Error, Fence, NewSignal, NewTask,
    Run, Step, Store, TaskFilter, Token,
};
use crate::clock;
use crate::hash::Hash;
use crate::id::{RunId, SignalName, StepKey, TaskId, TenantId, WorkerId};
use crate::run::Timestamp;
use crate::task::Task;

/// The migrations in order; each is named by its number for ever.
fn migrations() -> Migrator {
    let spine = SqlStr::from_static(include_str!("../../../migrations/sqlite/0001_spine.sql"));
    Migrator::with_migrations(vec![Migration::new(
        1,
        "spine".into(),
        MigrationType::Simple,
        spine,
        false,
    )])
}

/// How many journal entries may wait for a commit before their runs are held up.
const QUEUE: usize = 1024;

/// The embedded store.
pub struct SqliteStore {
    writer: Arc<Mutex<SqliteConnection>>,
    readers: SqlitePool,
    journal: mpsc::Sender<journal::Pending>,
    bell: Bell,
    /// Held as long as the store lives; the kernel lets go of it when the process dies.
    _lock: File,
}

impl SqliteStore {
    /// Opens `majordomo.db` in this folder, making both where they are missing, and brings its
    /// tables up to date. Fails with [`Error::Locked`] while another process has the folder.
    pub async fn open(folder: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(folder).map_err(|error| io(folder, error))?;
        let lock = lock(&folder.join("lock"), folder)?;
        let options = SqliteConnectOptions::new()
            .filename(folder.join("majordomo.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .pragma("journal_size_limit", "67108864")
            .disable_statement_logging();
        let mut writer = SqliteConnection::connect_with(&options).await?;
        migrations()
            .run(&mut writer)
            .await
            .map_err(|error| Error::Migration(error.to_string()))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .min_connections(1)
            .connect_with(options.read_only(true))
            .await?;
        let writer = Arc::new(Mutex::new(writer));
        let bell = Bell::default();
        let (journal, queue) = mpsc::channel(QUEUE);
        tokio::spawn(journal::write(writer.clone(), queue, bell.clone()));
        Ok(Self {
            writer,
            readers,
            journal,
            bell,
            _lock: lock,
        })
    }
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
        path: PathBuf::from(path).display().to_string(),
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

    async fn register(&self, worker: WorkerId) -> Result<u64, Error> {
        let mut conn = self.writer.lock().await;
        let mut tx = conn.begin_with("begin immediate").await?;
        let orphans = run::register(&mut tx, worker, clock::now()).await?;
        tx.commit().await?;
        Ok(orphans)
    }

    async fn accept(&self, task: NewTask) -> Result<Accepted, Error> {
        let now = clock::now();
        let mut conn = self.writer.lock().await;
        crate::crash_point!("accept.before");
        let mut tx = conn.begin_with("begin immediate").await?;
        if let Some(known) = task::known(&mut tx, &task).await? {
            return Ok(known);
        }
        task::insert(&mut tx, &task, now).await?;
        run::insert_root(&mut tx, &task, now).await?;
        let queued = crate::event::Event::State {
            state: crate::task::TaskState::Queued,
            reason: format!("accepted from {}", task.request.channel),
            agent: None,
        };
        let told = vec![event::New {
            task: task.id,
            run: task.id.into(),
            tenant: task.authority.tenant.clone(),
            event: queued,
        }];
        let events = event::insert(&mut tx, told, now).await?;
        tx.commit().await?;
        crate::crash_point!("accept.after");
        drop(conn);
        event::publish(&self.bell, events);
        self.bell.ring_queue();
        Ok(Accepted::New(task.id))
    }

    async fn claim(&self, worker: WorkerId, limit: u32) -> Result<Claimed, Error> {
        let now = clock::now();
        let (due, next_wake) = run::due(&self.readers, now).await?;
        if !due {
            return Ok(Claimed {
                runs: Vec::new(),
                next_wake,
            });
        }
        let mut conn = self.writer.lock().await;
        crate::crash_point!("claim.before");
        let mut tx = conn.begin_with("begin immediate").await?;
        let runs = run::claim(&mut tx, worker, limit, now).await?;
        let told = task::started(&mut tx, &runs, now).await?;
        let events = event::insert(&mut tx, told, now).await?;
        tx.commit().await?;
        crate::crash_point!("claim.after");
        drop(conn);
        event::publish(&self.bell, events);
        let (_, next_wake) = run::due(&self.readers, now).await?;
        Ok(Claimed { runs, next_wake })
    }

    async fn append(&self, fence: Fence, entry: Entry) -> Result<Appended, Error> {
        let (reply, answer) = oneshot::channel();
        let pending = journal::Pending {
            fence,
            entry,
            reply,
        };
        let closed = || Error::Database("the store is closed".into());
        self.journal.send(pending).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    async fn steps(&self, run: RunId) -> Result<Vec<Step>, Error> {
        step::all(&self.readers, run).await
    }

    async fn step(&self, run: RunId, key: &StepKey) -> Result<Option<Step>, Error> {
        step::one(&self.readers, run, key).await
    }

    async fn run(&self, run: RunId) -> Result<Option<Run>, Error> {
        run::one(&self.readers, run).await
    }

    async fn runs(&self, task: TaskId) -> Result<Vec<Run>, Error> {
        run::of_task(&self.readers, task).await
    }

    async fn deliver(&self, signal: NewSignal) -> Result<Delivered, Error> {
        let run = signal.run;
        let mut conn = self.writer.lock().await;
        crate::crash_point!("signal.before");
        let mut tx = conn.begin_with("begin immediate").await?;
        let delivered = run::deliver(&mut tx, &signal, clock::now()).await?;
        tx.commit().await?;
        crate::crash_point!("signal.after");
        drop(conn);
        if delivered == Delivered::First {
            self.bell.ring_run(run);
            self.bell.ring_queue();
        }
        Ok(delivered)
    }

    async fn signal(&self, run: RunId, name: &SignalName) -> Result<Option<Value>, Error> {
        run::signal(&self.readers, run, name).await
    }

    async fn cancel(&self, task: TaskId, reason: &str) -> Result<bool, Error> {
        let now = clock::now();
        let mut conn = self.writer.lock().await;
        crate::crash_point!("cancel.before");
        let mut tx = conn.begin_with("begin immediate").await?;
        let Some(told) = task::cancel(&mut tx, task, reason, now).await? else {
            return Ok(false);
        };
        let ended = run::cancel_all(&mut tx, task, now).await?;
        let events = event::insert(&mut tx, vec![told], now).await?;
        tx.commit().await?;
        crate::crash_point!("cancel.after");
        drop(conn);
        event::publish(&self.bell, events);
        ended.into_iter().for_each(|run| self.bell.end_run(run));
        Ok(true)
    }

    async fn task(&self, tenant: &TenantId, task: TaskId) -> Result<Option<Task>, Error> {
        task::one(&self.readers, tenant, task).await
    }

    async fn tasks(&self, tenant: &TenantId, filter: &TaskFilter) -> Result<Vec<Task>, Error> {
        task::list(&self.readers, tenant, filter).await
    }

    async fn events(
        &self,
        task: TaskId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<crate::event::Recorded>, Error> {
        event::after(&self.readers, task, after, limit).await
    }

    async fn keep(&self, tenant: &TenantId, hash: Hash, body: &str) -> Result<(), Error> {
        content::keep(&mut *self.writer.lock().await, tenant, hash, body).await
    }

    async fn content(&self, tenant: &TenantId, hash: Hash) -> Result<Option<String>, Error> {
        content::one(&self.readers, tenant, hash).await
    }

    async fn add_token(&self, token: Token, hash: Hash) -> Result<bool, Error> {
        token::add(&mut *self.writer.lock().await, &token, hash).await
    }

    async fn token(&self, hash: Hash) -> Result<Option<Token>, Error> {
        token::by_hash(&self.readers, hash).await
    }

    async fn tokens(&self, tenant: &TenantId) -> Result<Vec<Token>, Error> {
        token::all(&self.readers, tenant).await
    }

    async fn revoke_token(&self, tenant: &TenantId, name: &str) -> Result<bool, Error> {
        token::revoke(&mut *self.writer.lock().await, tenant, name, clock::now()).await
    }

    async fn census(&self) -> Result<Census, Error> {
        task::census(&self.readers, clock::now()).await
    }

    async fn close(&self) {
        self.readers.close().await;
        // A checkpoint that fails loses nothing: the log is replayed at the next start.
        let checkpoint = sqlx::query("pragma wal_checkpoint(truncate)");
        let _ = checkpoint.execute(&mut *self.writer.lock().await).await;
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Error::Database(error.to_string())
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

fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("our own rows have text keys only")
}

fn corrupt(table: &'static str, what: &str) -> Error {
    Error::Corrupt {
        table,
        what: what.chars().take(200).collect(),
    }
}
