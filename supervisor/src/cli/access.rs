//! How a command reaches the tasks: through a live instance over HTTP, or, where none runs, by
//! opening the store itself. Commands are written once, against [`Access`]; `reach.rs` finds which of both
//! it is, `order.rs` makes of an order what intake takes.

mod order;
mod reach;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use shared::ask::{Asked, Decision};
use shared::event::{Live, Recorded};
use shared::id::{AskId, TaskId};
use shared::store::{Accepted, AskFilter, Renewed, TaskFilter};

use super::client::{self, Client};
use super::context::Context;
use super::exit::Fault;
use crate::app::{App, GRACE};
use crate::asks::{self, Collection, Decided, Who};
use crate::auth::{Caller, LOCAL};
use crate::desk::{Desk, Resolved, refusal};
use crate::feedback::NotTaken;
use crate::follow::Follower;
use crate::intake::Refused;
use crate::storage;
use crate::transcript::Transcript;
use crate::view::TaskView;
use crate::wire::{AskPage, AskView, DeadView, TaskOrder};
use order::enclosed;
use reach::reach;

pub use reach::{is_locked, live};

/// A way to the tasks.
pub enum Access {
    /// A running instance.
    Live(Box<Client>),
    /// An engine in this process.
    Own(Box<App>),
    /// The store alone: nothing runs.
    Store(Desk),
}

/// A lease for those who never work.
pub const LOOK: Duration = Duration::from_secs(15);

/// The events of one task.
pub enum Watch {
    /// From an instance.
    Live(Box<client::Stream>),
    /// From the store and its bell.
    Own(Follower),
}

impl Access {
    /// A way to look at tasks: starts nothing.
    pub async fn to_look(context: &Context) -> anyhow::Result<Self> {
        reach(context, async || {
            let store = storage::open(&context.data, context.database_url().as_ref(), LOOK).await?;
            Ok(Access::Store(Desk::alone(store, context.tenant())))
        })
        .await
    }

    /// A way to have tasks worked on; `read` is the folder for tasks that name none.
    pub async fn to_work(context: &Context, read: Option<PathBuf>) -> anyhow::Result<Self> {
        reach(context, async || {
            let app = App::start(context.options(read.clone())).await?;
            Ok(Access::Own(Box::new(app)))
        })
        .await
    }

    /// Hands a task in. It is durable on return.
    pub async fn submit(&self, order: TaskOrder) -> anyhow::Result<TaskId> {
        match self {
            Access::Live(client) => {
                let key = uuid::Uuid::now_v7().to_string();
                client.submit(&order, &key).await
            }
            Access::Own(app) => match app.intake.submit(enclosed(app, order).await?).await {
                Ok(Accepted::New(id) | Accepted::Known(id) | Accepted::Conflict(id)) => Ok(id),
                Err(refused) => Err(not_taken(refused)),
            },
            Access::Store(_) => Err(Fault::failed("nothing runs that could work on a task").into()),
        }
    }

    /// A task with its steps.
    pub async fn task(&self, task: TaskId) -> anyhow::Result<Option<TaskView>> {
        let desk = match self.desk() {
            Ok(desk) => desk,
            Err(client) => return client.task(task).await,
        };
        match desk.task(task).await? {
            Some(found) => {
                let view = TaskView::with_steps(&*desk.store, found).await?;
                Ok(Some(self.seen(view)))
            }
            None => Ok(None),
        }
    }

    /// The bytes of a file that a task wrote.
    pub async fn file(&self, task: TaskId, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        match self.desk() {
            Ok(desk) => {
                let found = desk.file(task, name).await?;
                Ok(found.map(|(_, blob)| blob.bytes.to_vec()))
            }
            Err(client) => client.file(task, name).await,
        }
    }

    /// Tasks without their steps, newest first.
    pub async fn tasks(&self, filter: &TaskFilter) -> anyhow::Result<Vec<TaskView>> {
        match self.desk() {
            Ok(desk) => Ok(desk
                .tasks(filter)
                .await?
                .into_iter()
                .map(|task| self.seen(TaskView::of(task)))
                .collect()),
            Err(client) => client.tasks(filter).await,
        }
    }

    /// The events of a task, from the first one on.
    pub fn watch(&self, task: TaskId) -> Watch {
        match self.desk() {
            Ok(desk) => Watch::Own(desk.follow(task, 0)),
            Err(client) => Watch::Live(Box::new(client.watch(task))),
        }
    }

    /// Ends a task. One that has ended stays as it is.
    pub async fn cancel(&self, task: TaskId) -> anyhow::Result<()> {
        match self.desk() {
            Ok(desk) => Ok(desk
                .cancel_by(task, "cancelled on the command line", &LOCAL.into())
                .await
                .map(drop)?),
            Err(client) => client.say(task, "cancel").await,
        }
    }

    /// Says what somebody at the machine thinks of a task's answer.
    pub async fn rate(&self, id: TaskId, (good, text): (bool, &str)) -> anyhow::Result<()> {
        let desk = match self.desk() {
            Ok(desk) => desk,
            Err(client) => return client.rate(id, (good, text)).await,
        };
        let task = desk.task(id).await?;
        let task = task.ok_or_else(|| Fault::failed(format!("there is no task {id}")))?;
        let rated = desk.rate(&task, &LOCAL.into(), (good, text)).await;
        rated.map_err(|error| match error {
            NotTaken::Store(error) => anyhow::Error::from(error),
            NotTaken::Long => Fault::usage(error.to_string()).into(),
            NotTaken::Early => Fault::failed(error.to_string()).into(),
        })
    }

    /// Holds a task. One that has ended stays as it is.
    pub async fn pause(&self, task: TaskId) -> anyhow::Result<()> {
        match self.desk() {
            Ok(desk) => Ok(desk
                .pause(task, "paused on the command line")
                .await
                .map(drop)?),
            Err(client) => client.say(task, "pause").await,
        }
    }

    /// Lets a paused task go on.
    pub async fn resume(&self, task: TaskId) -> anyhow::Result<()> {
        match self.desk() {
            Ok(desk) => Ok(desk
                .resume(task, "resumed on the command line")
                .await
                .map(drop)?),
            Err(client) => client.say(task, "resume").await,
        }
    }

    /// Makes a task anew that failed or was cancelled. Answers the new one.
    pub async fn retry(&self, task: TaskId) -> anyhow::Result<TaskId> {
        match self.desk() {
            Ok(desk) => made(desk.retry(task, LOCAL.into()).await.map_err(not_taken)?),
            Err(client) => client.retry(task).await,
        }
    }

    /// Makes a task that goes on as another one did up to a step. Answers the new one.
    pub async fn fork(&self, task: TaskId, from: &str) -> anyhow::Result<TaskId> {
        match self.desk() {
            Ok(desk) => made(
                desk.fork(task, &from.into(), LOCAL.into())
                    .await
                    .map_err(not_taken)?,
            ),
            Err(client) => client.fork(task, from).await,
        }
    }

    /// Runs that cannot be run any more, the last one first.
    pub async fn dead(&self, limit: u32) -> anyhow::Result<Vec<DeadView>> {
        match self.desk() {
            Ok(desk) => {
                let dead = desk.dead(None, limit).await?;
                Ok(dead.into_iter().map(Into::into).collect())
            }
            Err(client) => client.dead(limit).await,
        }
    }

    /// Says what became of a step in doubt.
    pub async fn resolve(
        &self,
        task: TaskId,
        step: &str,
        resolution: &Decision,
    ) -> anyhow::Result<()> {
        let desk = match self.desk() {
            Ok(desk) => desk,
            Err(client) => return client.resolve(task, step, resolution).await,
        };
        let fault = match desk.resolve(task, step, resolution, LOCAL.into()).await? {
            Resolved::Taken => return Ok(()),
            Resolved::Answered => Fault::failed(format!("step {step} was resolved before")),
            Resolved::NotWaiting => {
                Fault::failed(format!("no step {step} of this task waits for a person"))
            }
            Resolved::Several(names) => {
                let help = format!("--step takes the full name: {}", names.join(", "));
                Fault::usage(format!("several steps are named {step}")).help(help)
            }
        };
        Err(fault.into())
    }

    /// What is asked in a collection, newest first.
    pub async fn asks(&self, which: Collection, filter: &AskFilter) -> anyhow::Result<AskPage> {
        match self.desk() {
            Ok(desk) => {
                let filter = AskFilter {
                    kinds: which.kinds().to_vec(),
                    ..filter.clone()
                };
                let found = desk.asks(&myself(), &filter).await?;
                let full = found.len() == filter.limit as usize;
                let next = found.last().map(|asked| asked.id).filter(|_| full);
                let asks = found.into_iter().map(AskView::of).collect();
                Ok(AskPage { asks, next })
            }
            Err(client) => client.asks(which, filter).await,
        }
    }

    /// What a collection holds whose id begins so: what is open, where anything is.
    pub async fn asks_like(&self, which: Collection, part: &str) -> anyhow::Result<Vec<AskView>> {
        match self.desk() {
            Ok(desk) => {
                let found = desk.asks_like(&myself(), which.kinds(), part).await?;
                Ok(found.into_iter().map(AskView::of).collect())
            }
            Err(client) => client.asks_like(which, part).await,
        }
    }

    /// What is asked, with all that is needed to decide it.
    pub async fn asked(&self, which: Collection, id: AskId) -> anyhow::Result<Option<AskView>> {
        match self.desk() {
            Ok(desk) => match desk.asked(&myself(), id).await? {
                Some(asked) => in_full(&desk, asked).await.map(Some),
                None => Ok(None),
            },
            Err(client) => client.asked(which, id).await,
        }
    }

    /// Says what becomes of it. Answers how it stands then.
    pub async fn decide(
        &self,
        which: Collection,
        id: AskId,
        decision: &Decision,
    ) -> anyhow::Result<AskView> {
        let desk = match self.desk() {
            Ok(desk) => desk,
            Err(client) => return client.decide(which, id, decision).await,
        };
        let fault = match desk.decide(id, decision.clone(), &myself()).await? {
            Decided::Taken(asked) => return in_full(&desk, *asked).await,
            Decided::Before(asked) => Fault::failed(asks::too_late(&asked)),
            Decided::Denied(why) => Fault::failed(why),
            Decided::Unfit(why) => Fault::usage(why),
            Decided::Missing => Fault::failed(format!("there is no such {}", which.one())),
        };
        Err(fault.into())
    }

    /// The full story of a task.
    pub async fn transcript(&self, task: TaskId) -> anyhow::Result<Transcript> {
        let desk = match self.desk() {
            Ok(desk) => desk,
            Err(client) => return client.transcript(task).await,
        };
        let found = desk.task(task).await?;
        let found = found.ok_or_else(|| Fault::failed(format!("there is no task {task}")))?;
        let told = desk.transcript(found).await?;
        Ok(Transcript {
            task: self.seen(told.task),
            ..told
        })
    }

    /// A task as it stands, with what only this process knows: whether anything works on it.
    fn seen(&self, task: TaskView) -> TaskView {
        match self {
            Access::Store(_) => task.at_rest(),
            Access::Live(_) | Access::Own(_) => task,
        }
    }

    /// Puts down what this process holds.
    pub async fn close(self) {
        match self {
            Access::Live(_) => {}
            Access::Own(app) => app.stop(GRACE).await,
            Access::Store(desk) => desk.store.close().await,
        }
    }

    /// Where this process looks itself, or the instance that does.
    pub fn desk(&self) -> Result<Desk, &Client> {
        match self {
            Access::Live(client) => Err(client),
            Access::Own(app) => Ok(app.desk.clone()),
            Access::Store(desk) => Ok(desk.clone()),
        }
    }
}

/// Who decides at the machine itself.
/// Who types here.
pub fn myself() -> Who {
    Who::from(&Caller::local())
}

async fn in_full(desk: &Desk, asked: Asked) -> anyhow::Result<AskView> {
    let task = desk.task(asked.task).await?;
    let view = AskView::of(asked);
    Ok(match task {
        Some(task) => view.within(task),
        None => view,
    })
}

/// Why a task was not taken in, with the exit code that fits.
fn not_taken(refused: Refused) -> anyhow::Error {
    match refused {
        Refused::Field { .. } => Fault::usage(refused.to_string()).into(),
        Refused::Halted(_) => Fault::halted(refused.to_string()).into(),
        Refused::Store(error) => error.into(),
    }
}

fn made(renewed: Renewed) -> anyhow::Result<TaskId> {
    match renewed {
        Renewed::New(id) => Ok(id),
        refused @ Renewed::NoStep(_) => Err(Fault::usage(refusal(&refused)).into()),
        refused => Err(Fault::failed(refusal(&refused)).into()),
    }
}

impl Watch {
    /// The next event; waits for it.
    pub async fn next(&mut self) -> anyhow::Result<Recorded> {
        match self {
            Watch::Live(stream) => stream.next().await,
            Watch::Own(follower) => loop {
                match follower.next().await? {
                    Some(Live::Event(event)) => return Ok(event),
                    Some(Live::Delta { .. }) => {}
                    None => return Err(Fault::failed("nothing follows a task's end").into()),
                }
            },
        }
    }
}
