//! A store that counts what is appended and fails when it is told to: before the write, or after it,
//! when the reply is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use async_trait::async_trait;
use serde_json::Value;

use shared::blob::Blob;
use shared::hash::Hash;
use shared::id::{PrincipalId, RunId, SignalName, StepKey, TaskId, TenantId, WorkerId};
use shared::run::Timestamp;
use shared::store::{
    Accepted, Again, Appended, Bell, Budgets, Census, Checkup, Claimed, DeadRun, Delivered, Duty,
    Entry, Error, Feedbacks, Fence, Halts, Identities, Mailroom, NewSignal, NewTask, Permits,
    Renewed, Run, Step, Store, TaskFilter, Token,
};
use shared::task::Task;

/// A store around another one.
pub struct Faulty {
    inner: Arc<dyn Store>,
    /// Entries appended so far.
    pub appended: AtomicU32,
    /// Probes so far.
    pub probed: AtomicU32,
    /// So many appends fail before they are written; probes fail as long as any is left.
    pub refuse: AtomicU32,
    /// So many appends are written, and their reply is lost.
    pub lose: AtomicU32,
    /// Nothing that a worker asks is answered: the network is cut.
    pub silent: AtomicBool,
}

impl Faulty {
    /// Around `inner`, without a fault.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            appended: AtomicU32::new(0),
            probed: AtomicU32::new(0),
            refuse: AtomicU32::new(0),
            lose: AtomicU32::new(0),
            silent: AtomicBool::new(false),
        }
    }
}

impl Faulty {
    fn reach(&self) -> Result<(), Error> {
        match self.silent.load(Ordering::SeqCst) {
            true => Err(Error::Unreachable("the network is cut".into())),
            false => Ok(()),
        }
    }
}

/// Takes one from a counter that is not at zero.
fn take(counter: &AtomicU32) -> bool {
    let less = |n: u32| n.checked_sub(1);
    counter
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
        .is_ok()
}

#[async_trait]
impl Store for Faulty {
    async fn append(&self, fence: Fence, entry: Entry) -> Result<Appended, Error> {
        self.reach()?;
        if take(&self.refuse) {
            return Err(Error::Database("disk full".into()));
        }
        self.appended.fetch_add(1, Ordering::SeqCst);
        let appended = self.inner.append(fence, entry).await?;
        if take(&self.lose) {
            return Err(Error::Database("the reply was lost".into()));
        }
        Ok(appended)
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }
    fn bell(&self) -> &Bell {
        self.inner.bell()
    }
    fn mail(&self) -> &dyn Mailroom {
        self.inner.mail()
    }
    fn identities(&self) -> &dyn Identities {
        self.inner.identities()
    }
    fn asks(&self) -> &dyn shared::store::Asks {
        self.inner.asks()
    }

    fn permits(&self) -> &dyn Permits {
        self.inner.permits()
    }
    fn feedback(&self) -> &dyn Feedbacks {
        self.inner.feedback()
    }
    fn halts(&self) -> &dyn Halts {
        self.inner.halts()
    }
    fn budgets(&self) -> &dyn Budgets {
        self.inner.budgets()
    }
    fn lease(&self) -> Option<std::time::Duration> {
        self.inner.lease()
    }

    async fn blob(&self, tenant: &TenantId, hash: Hash) -> Result<Option<Blob>, Error> {
        self.inner.blob(tenant, hash).await
    }
    async fn register(&self, worker: WorkerId, before: Option<WorkerId>) -> Result<u64, Error> {
        self.reach()?;
        self.inner.register(worker, before).await
    }
    async fn beat(&self, worker: WorkerId) -> Result<bool, Error> {
        self.reach()?;
        self.inner.beat(worker).await
    }
    async fn reap(&self, worker: WorkerId, here: &[RunId]) -> Result<u64, Error> {
        self.reach()?;
        self.inner.reap(worker, here).await
    }
    async fn accept(&self, task: NewTask) -> Result<Accepted, Error> {
        self.inner.accept(task).await
    }
    async fn claim(&self, worker: WorkerId, limit: u32) -> Result<Claimed, Error> {
        self.reach()?;
        self.inner.claim(worker, limit).await
    }
    async fn steps(&self, tenant: &TenantId, run: RunId) -> Result<Vec<Step>, Error> {
        self.inner.steps(tenant, run).await
    }
    async fn step(
        &self,
        tenant: &TenantId,
        run: RunId,
        key: &StepKey,
    ) -> Result<Option<Step>, Error> {
        self.inner.step(tenant, run, key).await
    }
    async fn run(&self, tenant: &TenantId, run: RunId) -> Result<Option<Run>, Error> {
        self.inner.run(tenant, run).await
    }
    async fn runs(&self, tenant: &TenantId, task: TaskId) -> Result<Vec<Run>, Error> {
        self.inner.runs(tenant, task).await
    }
    async fn deliver(&self, signal: NewSignal) -> Result<Delivered, Error> {
        self.inner.deliver(signal).await
    }
    async fn signal(
        &self,
        tenant: &TenantId,
        run: RunId,
        name: &SignalName,
    ) -> Result<Option<Value>, Error> {
        self.inner.signal(tenant, run, name).await
    }
    async fn cancel(
        &self,
        tenant: &TenantId,
        task: TaskId,
        reason: &str,
        reached: Option<&str>,
    ) -> Result<bool, Error> {
        self.inner.cancel(tenant, task, reason, reached).await
    }
    async fn pause(&self, tenant: &TenantId, task: TaskId, reason: &str) -> Result<bool, Error> {
        self.inner.pause(tenant, task, reason).await
    }
    async fn resume(&self, tenant: &TenantId, task: TaskId, reason: &str) -> Result<bool, Error> {
        self.inner.resume(tenant, task, reason).await
    }
    async fn journal(
        &self,
        tenant: &TenantId,
        task: TaskId,
    ) -> Result<Vec<(Run, Vec<Step>)>, Error> {
        self.inner.journal(tenant, task).await
    }
    async fn retry(&self, again: Again) -> Result<Renewed, Error> {
        self.inner.retry(again).await
    }
    async fn fork(&self, again: Again, from: &StepKey) -> Result<Renewed, Error> {
        self.inner.fork(again, from).await
    }
    async fn dead(
        &self,
        tenant: &TenantId,
        visible_to: Option<&PrincipalId>,
        limit: u32,
    ) -> Result<Vec<DeadRun>, Error> {
        self.inner.dead(tenant, visible_to, limit).await
    }
    async fn task(&self, tenant: &TenantId, task: TaskId) -> Result<Option<Task>, Error> {
        self.inner.task(tenant, task).await
    }
    async fn tasks(&self, tenant: &TenantId, filter: &TaskFilter) -> Result<Vec<Task>, Error> {
        self.inner.tasks(tenant, filter).await
    }
    async fn events(
        &self,
        tenant: &TenantId,
        task: TaskId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<shared::event::Recorded>, Error> {
        self.inner.events(tenant, task, after, limit).await
    }
    async fn keep(&self, tenant: &TenantId, hash: Hash, body: &str) -> Result<(), Error> {
        self.inner.keep(tenant, hash, body).await
    }
    async fn content(&self, tenant: &TenantId, hash: Hash) -> Result<Option<String>, Error> {
        self.inner.content(tenant, hash).await
    }
    async fn add_token(&self, token: Token, hash: Hash) -> Result<bool, Error> {
        self.inner.add_token(token, hash).await
    }
    async fn token(&self, tenant: &TenantId, hash: Hash) -> Result<Option<Token>, Error> {
        self.inner.token(tenant, hash).await
    }
    async fn tokens(&self, tenant: &TenantId) -> Result<Vec<Token>, Error> {
        self.inner.tokens(tenant).await
    }
    async fn revoke_token(&self, tenant: &TenantId, name: &str) -> Result<bool, Error> {
        self.inner.revoke_token(tenant, name).await
    }
    async fn probe(&self) -> Result<(), Error> {
        self.probed.fetch_add(1, Ordering::SeqCst);
        match self.refuse.load(Ordering::SeqCst) {
            0 => self.inner.probe().await,
            _ => Err(Error::Database("disk full".into())),
        }
    }
    async fn hold(&self, duty: &str, worker: WorkerId) -> Result<Option<Duty>, Error> {
        self.reach()?;
        self.inner.hold(duty, worker).await
    }
    async fn prunable(
        &self,
        age: std::time::Duration,
        limit: u32,
    ) -> Result<Vec<(TenantId, TaskId)>, Error> {
        self.inner.prunable(age, limit).await
    }
    async fn prune(&self, duty: &Duty, tasks: &[TaskId]) -> Result<Option<u64>, Error> {
        self.reach()?;
        self.inner.prune(duty, tasks).await
    }
    async fn compact(&self) -> Result<u64, Error> {
        self.inner.compact().await
    }
    async fn checkup(&self) -> Result<Checkup, Error> {
        self.inner.checkup().await
    }
    async fn census(&self) -> Result<Census, Error> {
        self.inner.census().await
    }
    async fn close(&self) {
        self.inner.close().await;
    }
}
