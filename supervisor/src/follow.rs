//! Following one task to its end: its events in order, none twice and none left out, however slow the
//! reader. The one follower of all doors: streams over HTTP, requests that wait, `ask`.
//!
//! ```text
//!            ┌── behind ──► store ──┐
//!  Follower ─┤                      ├─► next: event | text | the end
//!            └── else ────► bell ───┘
//! ```
//! The journal is what counts; the bell says only that there is more. An event that is heard with the
//! next number is passed on as it is, anything else sends the reader to the store. What a reader does
//! with events, and when it gives up, is its own business.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use shared::event::{Live, Recorded};
use shared::id::{TaskId, TenantId};
use shared::store::{Error, Store};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// Events read from the store at once.
const BATCH: u32 = 256;

/// Looks into the store at least so often: a backstop, not the way events are found.
const LOOK: Duration = Duration::from_secs(30);

/// A reader of one task.
pub struct Follower {
    store: Arc<dyn Store>,
    tenant: TenantId,
    task: TaskId,
    bell: Bell,
    /// The number of the last event that was passed on or is ready.
    last: i64,
    ready: VecDeque<Live>,
    /// There may be events in the store that were not read.
    behind: bool,
    /// Nothing follows what is ready.
    ended: bool,
}

enum Bell {
    Events(Receiver<Recorded>),
    Feed(Receiver<Live>),
}

impl Follower {
    /// A reader of the events after this number; 0 for all. Listening begins now.
    pub fn events(store: Arc<dyn Store>, tenant: TenantId, task: TaskId, after: i64) -> Self {
        let bell = Bell::Events(store.bell().events_of(task));
        Self::new(store, tenant, task, bell, after)
    }

    /// The same with live text, for which models stream as long as anybody reads.
    pub fn with_text(store: Arc<dyn Store>, tenant: TenantId, task: TaskId, after: i64) -> Self {
        let bell = Bell::Feed(store.bell().feed().subscribe());
        Self::new(store, tenant, task, bell, after)
    }

    fn new(store: Arc<dyn Store>, tenant: TenantId, task: TaskId, bell: Bell, after: i64) -> Self {
        Self {
            store,
            tenant,
            task,
            bell,
            last: after,
            ready: VecDeque::new(),
            behind: true,
            ended: false,
        }
    }

    /// What comes next; waits for it. `None` once the task has ended and all was passed on. A call
    /// that is given up loses nothing.
    pub async fn next(&mut self) -> Result<Option<Live>, Error> {
        loop {
            if let Some(heard) = self.ready.pop_front() {
                return Ok(Some(heard));
            }
            if self.ended {
                return Ok(None);
            }
            match self.behind {
                true => self.catch_up().await?,
                false => self.listen().await?,
            }
        }
    }

    /// Waits until a task has ended, and is not woken for anything else.
    pub async fn end(store: Arc<dyn Store>, tenant: TenantId, task: TaskId) -> Result<(), Error> {
        let bell = Bell::Events(store.bell().end_of(task));
        // All events are known, so to speak; the end is the end all the same.
        let mut follower = Self::new(store, tenant, task, bell, i64::MAX);
        while follower.next().await?.is_some() {}
        Ok(())
    }

    /// Reads a batch from the store. The task's state is read first: where it was final, all events
    /// were there already.
    async fn catch_up(&mut self) -> Result<(), Error> {
        let task = self.store.task(&self.tenant, self.task).await?;
        let over = task.is_none_or(|task| task.state.is_final());
        let batch = self
            .store
            .events(&self.tenant, self.task, self.last, BATCH)
            .await?;
        self.behind = batch.len() == BATCH as usize;
        batch.into_iter().for_each(|event| self.pass_on(event));
        self.ended |= over && !self.behind;
        Ok(())
    }

    /// Waits for something new.
    async fn listen(&mut self) -> Result<(), Error> {
        let heard = async {
            match &mut self.bell {
                Bell::Events(events) => events.recv().await.map(Live::Event),
                Bell::Feed(feed) => feed.recv().await,
            }
        };
        let Ok(heard) = tokio::time::timeout(LOOK, heard).await else {
            self.behind = true;
            return Ok(());
        };
        match heard {
            Ok(Live::Event(event)) if event.task == self.task => self.hear(event),
            Ok(text @ Live::Delta { task, .. }) if task == self.task => self.ready.push_back(text),
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => self.behind = true,
            Err(RecvError::Closed) => {
                return Err(Error::Database("the store is closed".into()));
            }
        }
        Ok(())
    }

    fn hear(&mut self, event: Recorded) {
        match event.seq - self.last {
            1 => self.pass_on(event),
            // Known to the reader, or said to be.
            ..=0 => self.ended |= event.event.ends_task(),
            _ => self.behind = true,
        }
    }

    fn pass_on(&mut self, event: Recorded) {
        self.last = event.seq;
        if self.ended {
            return;
        }
        self.ended = event.event.ends_task();
        self.ready.push_back(Live::Event(event));
    }
}
