//! The desk: looking at tasks, cancelling them, and answering what they wait for. It needs a store
//! and no engine, so it also serves where nothing runs. Intake is elsewhere. Called by doors.

use std::sync::Arc;

use agents::run::doubt_signal;
use shared::ask::{Decision, Verdict};
use shared::blob::Blob;
use shared::id::{PrincipalId, RunId, StepKey, TaskId, TenantId};
use shared::run::Outcome;
use shared::store::{
    Again, DeadRun, Delivered, Error, Halt, NewHalt, NewSignal, Renewed, Store, TaskFilter,
};
use shared::task::{Task, TaskState};

use crate::files::{self, TaskFile};
use crate::follow::Follower;
use crate::halt::Target;
use crate::intake::Refused;
use crate::program::Programs;
use crate::supervise;
use crate::transcript::{self, Transcript};

/// The desk of one tenant.
#[derive(Clone)]
pub struct Desk {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Whose tasks are seen.
    pub tenant: TenantId,
    pub(crate) programs: Arc<Programs>,
}

/// What became of a person's word on a step in doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// It counts, and the run goes on.
    Taken,
    /// Somebody was faster.
    Answered,
    /// No step of this name is in doubt, or none waits any more.
    NotWaiting,
    /// Several steps bear this name: these are theirs in full.
    Several(Vec<String>),
}

/// Why nothing was made, for people.
pub fn refusal(renewed: &Renewed) -> String {
    match renewed {
        Renewed::New(id) => format!("task {id} was made"),
        Renewed::Missing => "there is no such task".into(),
        Renewed::Unfit(TaskState::Done) => {
            "the task is done; only one that failed or was cancelled can be retried: fork it, or hand \
             it in again"
                .into()
        }
        Renewed::Unfit(state) => format!(
            "the task is {}: it must have ended; wait for its end, or cancel it first",
            state.as_str()
        ),
        Renewed::NoStep(keys) => {
            let keys: Vec<&str> = keys.iter().map(StepKey::as_str).collect();
            format!("the task has no such step; it has {}", keys.join(", "))
        }
        Renewed::Open(key) => format!(
            "step {key} stands before it and has no outcome; fork at {key}, or at an earlier step"
        ),
        Renewed::Pruned(run) => format!(
            "the journal of run {run} was pruned, so nothing can be taken over from it; hand the task \
             in again"
        ),
    }
}

impl Desk {
    /// The desk over an open store.
    pub fn new(store: Arc<dyn Store>, tenant: TenantId, programs: Arc<Programs>) -> Self {
        Self {
            store,
            tenant,
            programs,
        }
    }

    /// The desk over an open store without an engine: nothing runs.
    pub fn alone(store: Arc<dyn Store>, tenant: TenantId) -> Self {
        let programs = Arc::new(Programs::new(store.clone()));
        Self::new(store, tenant, programs)
    }

    /// One task.
    pub async fn task(&self, task: TaskId) -> Result<Option<Task>, Error> {
        self.store.task(&self.tenant, task).await
    }

    /// Tasks, newest first.
    pub async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>, Error> {
        self.store.tasks(&self.tenant, filter).await
    }

    /// The full story of a task.
    pub async fn transcript(&self, task: Task) -> Result<Transcript, Error> {
        transcript::of(&*self.store, &*self.programs, task).await
    }

    /// A file that a task wrote, with its bytes; none where there is none of this name, or its bytes went
    /// with the task's journal.
    pub async fn file(&self, task: TaskId, name: &str) -> Result<Option<(TaskFile, Blob)>, Error> {
        let written = files::of(&self.store.journal(&self.tenant, task).await?);
        let Some(file) = written.into_iter().find(|file| file.name == name) else {
            return Ok(None);
        };
        let kept = self.store.blob(&self.tenant, file.hash).await?;
        Ok(kept.map(|blob| (file, blob)))
    }

    /// Holds a task: what is in hand is ended, nothing new is begun. False where it was paused or had
    /// ended before.
    pub async fn pause(&self, task: TaskId, reason: &str) -> Result<bool, Error> {
        let (desk, reason) = (self.clone(), reason.to_owned());
        to_the_end(async move { desk.store.pause(&desk.tenant, task, &reason).await }).await
    }

    /// Lets a paused task go on. False where it was not paused.
    pub async fn resume(&self, task: TaskId, reason: &str) -> Result<bool, Error> {
        let (desk, reason) = (self.clone(), reason.to_owned());
        to_the_end(async move { desk.store.resume(&desk.tenant, task, &reason).await }).await
    }

    /// Stops everything, an agent or a task. False where it stood still before.
    pub async fn stop(
        &self,
        target: &Target,
        reason: &str,
        by: &PrincipalId,
    ) -> Result<bool, Error> {
        let what = match target {
            Target::Work(what) => what.clone(),
            Target::Task(task) => {
                let why = match reason {
                    "" => format!("stopped by {by}"),
                    reason => format!("stopped by {by}: {reason}"),
                };
                return self.pause(*task, &why).await;
            }
        };
        let halt = NewHalt {
            tenant: self.tenant.clone(),
            what,
            reason: reason.to_owned(),
            by: by.clone(),
        };
        let store = self.store.clone();
        to_the_end(async move { store.halts().set(halt).await }).await
    }

    /// Lets go on what was stopped. False where it did not stand still.
    pub async fn go_on(&self, target: &Target, by: &PrincipalId) -> Result<bool, Error> {
        let what = match target {
            Target::Work(what) => what.clone(),
            Target::Task(task) => return self.resume(*task, &format!("resumed by {by}")).await,
        };
        let desk = self.clone();
        to_the_end(async move { desk.store.halts().lift(&desk.tenant, &what).await }).await
    }

    /// What stands still: by the file of this process, and in the store.
    pub async fn halts(&self) -> Result<Vec<Halt>, Error> {
        let here = self.store.bell().halting().borrow().here.clone();
        let stored = self.store.halts().of(&self.tenant).await?;
        Ok(here.into_iter().chain(stored).collect())
    }

    /// Refuses to make a task while everything stands still.
    fn takes_tasks(&self) -> Result<(), Refused> {
        match self.store.bell().halted(&self.tenant, None) {
            Some(halt) => Err(Refused::Halted(halt)),
            None => Ok(()),
        }
    }

    /// Ends a task and keeps what it has reached. False where it had ended before.
    pub async fn cancel(&self, task: TaskId, reason: &str) -> Result<bool, Error> {
        let work = self.store.journal(&self.tenant, task).await?;
        let reached = supervise::reached(&work);
        let (desk, reason) = (self.clone(), reason.to_owned());
        to_the_end(async move {
            let (tenant, reached) = (&desk.tenant, reached.as_deref());
            desk.store.cancel(tenant, task, &reason, reached).await
        })
        .await
    }

    /// Makes a task anew that failed or was cancelled: the same request, authority and catalog.
    pub async fn retry(&self, task: TaskId, by: PrincipalId) -> Result<Renewed, Refused> {
        self.takes_tasks()?;
        let (store, again) = (self.store.clone(), self.again(task, by));
        Ok(to_the_end(async move { store.retry(again).await }).await?)
    }

    /// Makes a task whose journal begins as a copy of an ended one's, up to this step of its root
    /// run. From there on everything is done anew.
    pub async fn fork(
        &self,
        task: TaskId,
        from: &StepKey,
        by: PrincipalId,
    ) -> Result<Renewed, Refused> {
        self.takes_tasks()?;
        let (store, again, from) = (self.store.clone(), self.again(task, by), from.clone());
        Ok(to_the_end(async move { store.fork(again, &from).await }).await?)
    }

    fn again(&self, task: TaskId, by: PrincipalId) -> Again {
        Again {
            tenant: self.tenant.clone(),
            of: task,
            id: TaskId::fresh(),
            by,
        }
    }

    /// Runs that cannot be run any more, the last one first.
    pub async fn dead(
        &self,
        visible_to: Option<&PrincipalId>,
        limit: u32,
    ) -> Result<Vec<DeadRun>, Error> {
        self.store.dead(&self.tenant, visible_to, limit).await
    }

    /// Says what became of a step in doubt. `step` is its key, or `RUN/KEY` where several runs of
    /// the task have one of that key in doubt. Safe to repeat: the first word counts.
    pub async fn resolve(
        &self,
        task: TaskId,
        step: &str,
        resolution: &Decision,
        by: PrincipalId,
    ) -> Result<Resolved, Error> {
        let verdict = Verdict {
            decision: resolution.clone(),
            by: Some(by.clone()),
            action: None,
            permit: None,
        };
        let (mut open, mut answered) = (Vec::new(), false);
        for (run, key) in self.doubts(task, step).await? {
            match self
                .store
                .signal(&self.tenant, run, &doubt_signal(&key))
                .await?
            {
                Some(_) => answered = true,
                None => open.push((run, key)),
            }
        }
        let (run, key) = match open.as_slice() {
            [] if answered => return Ok(Resolved::Answered),
            [] => return Ok(Resolved::NotWaiting),
            [(run, key)] => (*run, key),
            several => {
                let names = several.iter().map(|(run, key)| format!("{run}/{key}"));
                return Ok(Resolved::Several(names.collect()));
            }
        };
        let signal = NewSignal {
            tenant: self.tenant.clone(),
            run,
            name: doubt_signal(key),
            payload: serde_json::to_value(verdict).unwrap_or_default(),
            by,
        };
        let store = self.store.clone();
        let delivered = to_the_end(async move { store.deliver(signal).await });
        Ok(match delivered.await? {
            Delivered::First => Resolved::Taken,
            Delivered::Answered => Resolved::Answered,
            Delivered::Unwanted => Resolved::NotWaiting,
        })
    }

    /// The steps of a task that are, or were, in doubt.
    pub async fn in_doubt(&self, task: TaskId) -> Result<Vec<(RunId, StepKey)>, Error> {
        let mut found = Vec::new();
        for (run, steps) in self.store.journal(&self.tenant, task).await? {
            let doubtful = steps.into_iter().filter(|step| {
                let recorded = step.recorded.as_ref().map(|recorded| &recorded.outcome);
                matches!(recorded, Some(Outcome::InDoubt { .. }))
            });
            found.extend(doubtful.map(|step| (run.id, step.key)));
        }
        Ok(found)
    }

    /// Those of them that bear this name.
    async fn doubts(&self, task: TaskId, step: &str) -> Result<Vec<(RunId, StepKey)>, Error> {
        let mut found = self.in_doubt(task).await?;
        found.retain(|(run, key)| key.as_str() == step || format!("{run}/{key}") == step);
        Ok(found)
    }

    /// Waits until a task has ended.
    pub async fn ended(&self, task: TaskId) -> Result<(), Error> {
        Follower::end(self.store.clone(), self.tenant.clone(), task).await
    }

    /// The events of a task after this number, those to come included; 0 for all.
    pub fn follow(&self, task: TaskId, after: i64) -> Follower {
        Follower::events(self.store.clone(), self.tenant.clone(), task, after)
    }

    /// The same with models' text as it comes in.
    pub fn follow_text(&self, task: TaskId, after: i64) -> Follower {
        Follower::with_text(self.store.clone(), self.tenant.clone(), task, after)
    }
}

/// Does something in the store to its end, also when the caller goes away in the middle of it: what
/// follows a commit tells others of it.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let gone = |error: tokio::task::JoinError| Error::Database(error.to_string());
    tokio::spawn(work).await.map_err(gone)?
}
