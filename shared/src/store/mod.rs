//! The store port: few methods, each one transaction, named for what is durable on return. No
//! transaction is ever open across a model or tool call. SQL stands only below this module, one
//! file per table and dialect.
//!
//! **The fence.** Everything that a run writes goes through [`Store::append`] with a [`Fence`]; the
//! statement itself checks that the run is still this worker's, in this epoch, and running. A write
//! that is refused changed nothing, and the run must stop.

mod ask;
mod bell;
mod feedback;
mod halt;
mod identity;
mod ledger;
mod mail;
mod permit;
pub mod postgres;
mod rows;
pub mod sqlite;

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

pub use ask::*;
pub use bell::{Bell, Seat};
pub use feedback::*;
pub use halt::*;
pub use identity::*;
pub use ledger::{AccountRow, Budgets, RunSpend, SpendRow};
pub use mail::*;
pub use permit::*;
pub use rows::*;

use crate::blob::Blob;
use crate::event;
use crate::hash::Hash;
use crate::id::{PrincipalId, RunId, SignalName, StepKey, TaskId, TenantId, WorkerId};
use crate::run::{Interrupted, Interruption, Timestamp};
use crate::task::Task;

/// What went wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the data folder.
    #[error("the data folder {folder} is in use by another majordomo process")]
    Locked {
        /// The folder.
        folder: String,
    },
    /// The database was written by a newer version, or by something else.
    #[error("the database cannot be brought up to date: {0}")]
    Migration(String),
    /// A row does not read as what it must be.
    #[error("broken row in {table}: {what}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// What does not read.
        what: String,
    },
    /// The database's URL cannot be used. It is not repeated: it may hold a password.
    #[error(
        "database_url cannot be used: {0}; it looks like postgres://USER:PASSWORD@HOST:5432/NAME"
    )]
    Url(String),
    /// Nobody answers at the database's address, or not any more; the same call may work later.
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    /// The login may not make or assume the roles that the store works under.
    #[error(
        "the database login {login} lacks rights: {why}; have an administrator of the server run, once:\n{sql}"
    )]
    Rights {
        /// Who was refused.
        login: String,
        /// What the server said.
        why: String,
        /// What mends it.
        sql: String,
    },
    /// The database answered with an error; the same call may work later.
    #[error("database: {0}")]
    Database(String),
    /// A file or folder could not be used.
    #[error("{path}: {error}")]
    Io {
        /// What.
        path: String,
        /// Why.
        error: std::io::Error,
    },
}

impl From<Error> for Interrupted {
    fn from(error: Error) -> Self {
        Interrupted(Interruption::Store(error.to_string()))
    }
}

impl Error {
    /// The same for a further caller whose work was part of what failed.
    pub(crate) fn again(&self) -> Error {
        match self {
            Error::Unreachable(why) => Error::Unreachable(why.clone()),
            other => Error::Database(other.to_string()),
        }
    }
}

/// The store of one process. What belongs to a tenant is read by the tenant's name only: another
/// one's rows are as if they were not there.
#[async_trait]
pub trait Store: Send + Sync {
    /// The store's clock: the only one that deadlines and timers go by.
    fn now(&self) -> Timestamp;

    /// Who is told of changes. Rung after each commit.
    fn bell(&self) -> &Bell;

    /// What comes in from channels and goes out to them.
    fn mail(&self) -> &dyn Mailroom;

    /// Who is who in channels.
    fn identities(&self) -> &dyn Identities;

    /// What people are asked.
    fn asks(&self) -> &dyn Asks;

    /// What approvers permit for longer.
    fn permits(&self) -> &dyn Permits;

    /// What people think of answers.
    fn feedback(&self) -> &dyn Feedbacks;

    /// What an operator has stopped.
    fn halts(&self) -> &dyn Halts;

    /// What is spent, and what may be.
    fn budgets(&self) -> &dyn Budgets;

    /// How long a worker's lease lasts from a beat; none where it does not end by time.
    fn lease(&self) -> Option<Duration>;

    /// Registers a fresh worker; its lease begins. On return the runs of every worker that is gone
    /// are queued again; the answer is how many there were. Workers whose lease lasts keep theirs.
    /// `before` is the worker that this process was until it lost its lease: what it was running did
    /// not die, and no death is held against it.
    async fn register(&self, worker: WorkerId, before: Option<WorkerId>) -> Result<u64, Error>;

    /// Extends a worker's lease to a full term from now. `false` where it had ended: it stays so,
    /// everything that the worker writes is refused, and it must come back under a new id. The
    /// embedded store's lease is the folder's lock and does not end by time.
    async fn beat(&self, worker: WorkerId) -> Result<bool, Error>;

    /// Ends lapsed leases for ever and queues again every running run that has no live worker, and those
    /// of `worker` that are not among the ones that it has (`here`), because it never heard that it was
    /// given them. To be called all the time; safe to call anywhere. Answers how many runs there were.
    async fn reap(&self, worker: WorkerId, here: &[RunId]) -> Result<u64, Error>;

    /// Takes a task in: inbox row, task, root run and the card that its channel is owed, all durable on
    /// return. The same key with the
    /// same body answers the task that it made the first time. Where the task names its worker, a new
    /// one's root run is in its hands at once, in epoch 1, as if claimed.
    async fn accept(&self, task: NewTask) -> Result<Accepted, Error>;

    /// Claims up to `limit` runs for `worker`: queued ones, and waiting ones whose time has come. None that
    /// an operator has stopped ([`Halts`]).
    /// Their epoch is raised; whoever held them before can write no more. Of runs with [`SUSPECT`]
    /// deaths, at most one is in a worker's hands at a time.
    async fn claim(&self, worker: WorkerId, limit: u32) -> Result<Claimed, Error>;

    /// Writes one entry of a run's journal, under its fence. Concurrent calls share a commit. In it the
    /// worst case of an attempt that is begun is held on all its accounts, and what ended attempts used
    /// is settled; one that is not admitted is not begun, and its step ends ([`Appended::Over`]).
    async fn append(&self, fence: Fence, entry: Entry) -> Result<Appended, Error>;

    /// The journal of a run, in the order in which its steps were first asked for.
    async fn steps(&self, tenant: &TenantId, run: RunId) -> Result<Vec<Step>, Error>;

    /// One step.
    async fn step(
        &self,
        tenant: &TenantId,
        run: RunId,
        key: &StepKey,
    ) -> Result<Option<Step>, Error>;

    /// One run.
    async fn run(&self, tenant: &TenantId, run: RunId) -> Result<Option<Run>, Error>;

    /// All runs of a task, parents before their children.
    async fn runs(&self, tenant: &TenantId, task: TaskId) -> Result<Vec<Run>, Error>;

    /// All runs of a task with their steps, as [`Store::runs`] and [`Store::steps`] give them.
    async fn journal(
        &self,
        tenant: &TenantId,
        task: TaskId,
    ) -> Result<Vec<(Run, Vec<Step>)>, Error>;

    /// Delivers an answer to a waiting run and wakes it: it decides the run's ask ([`Asks`]). The first one wins; one that comes after
    /// its deadline, or for a run that has ended, changes nothing.
    async fn deliver(&self, signal: NewSignal) -> Result<Delivered, Error>;

    /// The answer that a run was given under this name.
    async fn signal(
        &self,
        tenant: &TenantId,
        run: RunId,
        name: &SignalName,
    ) -> Result<Option<Value>, Error>;

    /// Ends a task and all its runs, and keeps what was reached. Attempts under way count as lost: what
    /// was held for them is spent. Returns false where it had ended before; nothing changed then.
    async fn cancel(
        &self,
        tenant: &TenantId,
        task: TaskId,
        reason: &str,
        reached: Option<&str>,
    ) -> Result<bool, Error>;

    /// Holds a task: it is `paused`, and in the same statement none of its runs can be claimed any
    /// more. What is in memory leaves it at its next step; what is in hand is ended and recorded.
    /// Returns false where it was paused or had ended before.
    async fn pause(&self, tenant: &TenantId, task: TaskId, reason: &str) -> Result<bool, Error>;

    /// Lets a paused task go on. Returns false where it was not paused.
    async fn resume(&self, tenant: &TenantId, task: TaskId, reason: &str) -> Result<bool, Error>;

    /// Makes a task anew that failed or was cancelled: the same request, authority and catalog, an
    /// empty journal, a folder of its own to write to. On `New` it is durable and queued.
    async fn retry(&self, again: Again) -> Result<Renewed, Error>;

    /// Makes a task whose journal begins as a copy of an ended one's up to the root run's step `from`,
    /// exclusive, with the runs of the children that had ended by then. On `New` it is durable and
    /// queued.
    async fn fork(&self, again: Again, from: &StepKey) -> Result<Renewed, Error>;

    /// Runs in the state `dead`, the last one first, at most `limit`; of tasks for or by this
    /// principal, where one is named.
    async fn dead(
        &self,
        tenant: &TenantId,
        visible_to: Option<&PrincipalId>,
        limit: u32,
    ) -> Result<Vec<DeadRun>, Error>;

    /// One task of this tenant.
    async fn task(&self, tenant: &TenantId, task: TaskId) -> Result<Option<Task>, Error>;

    /// Tasks of this tenant, newest first.
    async fn tasks(&self, tenant: &TenantId, filter: &TaskFilter) -> Result<Vec<Task>, Error>;

    /// Events of a task with a number above `after`, in order, at most `limit`.
    async fn events(
        &self,
        tenant: &TenantId,
        task: TaskId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<event::Recorded>, Error>;

    /// Keeps a body under its hash. Safe to repeat.
    async fn keep(&self, tenant: &TenantId, hash: Hash, body: &str) -> Result<(), Error>;

    /// The body of this hash.
    async fn content(&self, tenant: &TenantId, hash: Hash) -> Result<Option<String>, Error>;

    /// The bytes of this hash that a task of this tenant refers to. They are kept with tasks
    /// ([`NewTask`]) and with steps ([`Entry`]), and go when the last journal that refers to them does.
    async fn blob(&self, tenant: &TenantId, hash: Hash) -> Result<Option<Blob>, Error>;

    /// Adds a token. `false` where a live one has its name.
    async fn add_token(&self, token: Token, hash: Hash) -> Result<bool, Error>;

    /// The live token of this hash.
    async fn token(&self, tenant: &TenantId, hash: Hash) -> Result<Option<Token>, Error>;

    /// All tokens of a tenant, revoked ones too.
    async fn tokens(&self, tenant: &TenantId) -> Result<Vec<Token>, Error>;

    /// Revokes the live token of this name: from the next request on it opens nothing.
    async fn revoke_token(&self, tenant: &TenantId, name: &str) -> Result<bool, Error>;

    /// Commits a trifle and reads: on `Ok` the store took a write just now. Leaves nothing behind that
    /// anybody sees.
    async fn probe(&self) -> Result<(), Error>;

    /// Tasks and runs by state, for metrics.
    async fn census(&self) -> Result<Census, Error>;

    /// Takes a duty, or keeps it: its epoch, or nothing while another live worker holds it, or where
    /// this one does not live. It changes hands only when its holder is gone.
    async fn hold(&self, duty: &str, worker: WorkerId) -> Result<Option<Duty>, Error>;

    /// Tasks of all tenants that ended longer than `age` ago, by the store's clock, and still have
    /// their journal; the oldest first, at most `limit`. Never one of whose runs any is unfinished.
    async fn prunable(&self, age: Duration, limit: u32) -> Result<Vec<(TenantId, TaskId)>, Error>;

    /// Deletes the journals of ended tasks: steps, answers, events, and bodies and bytes that nothing
    /// refers to any more. Tasks, with their answers and sums, and runs stay. One transaction under the duty's
    /// fence; nothing where the duty is lost. Answers how many tasks were pruned; one that has not
    /// ended, or was pruned before, is not among them.
    async fn prune(&self, duty: &Duty, tasks: &[TaskId]) -> Result<Option<u64>, Error>;

    /// Gives a bounded piece of the space that deleted rows took back to the system. Answers the bytes
    /// that were given back; 0 where there is nothing left to give, or where the database does so by
    /// itself.
    async fn compact(&self) -> Result<u64, Error>;

    /// Examines the store, for `majordomo doctor`. Reads all there is: not for every minute.
    async fn checkup(&self) -> Result<Checkup, Error>;

    /// Brings everything to disk and ends the store's work.
    async fn close(&self);
}
