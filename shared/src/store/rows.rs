//! What goes into the store and comes out of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::NewOut;
use crate::ask::Ask;
use crate::blob::Blob;
use crate::budget::Which;
use crate::event::Event;
use crate::hash::Hash;
use crate::id::{
    AgentName, ModelName, PrincipalId, RunId, SignalName, StepKey, TaskId, TenantId, WorkerId,
};
use crate::label::{Authority, Taint};
use crate::money::Usage;
use crate::run::{Attempt, Effect, Recorded, Timestamp};
use crate::task::{Request, TaskState};

/// A task to be taken in.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// Its id, which its root run shares.
    pub id: TaskId,
    /// Who handed it in.
    pub submitted_by: PrincipalId,
    /// What is asked.
    pub request: Request,
    /// For whom and on what the work is done.
    pub authority: Authority,
    /// The hash of the catalog that it will work by; kept before.
    pub catalog: Hash,
    /// The sender's own key and the hash of what came with it.
    pub dedupe: Option<(String, Hash)>,
    /// The worker that runs it from the same commit on. Without one it is queued.
    pub worker: Option<WorkerId>,
    /// The card that its channel is owed: it shows the task's progress and becomes its answer.
    pub card: Option<NewOut>,
    /// The pictures that its request names: kept in the same commit.
    pub blobs: Vec<Blob>,
}

impl NewTask {
    /// The root run that it is taken in with.
    pub fn root(&self, now: Timestamp) -> Run {
        let (state, epoch) = match self.worker {
            Some(_) => (RunState::Running, 1),
            None => (RunState::Queued, 0),
        };
        Run {
            id: self.id.into(),
            task: self.id,
            parent: None,
            kind: kind::TASK.into(),
            agent: None,
            input: serde_json::json!(self.request),
            catalog: self.catalog,
            authority: self.authority.clone(),
            state,
            epoch,
            wakes: 0,
            deaths: 0,
            created_at: now,
        }
    }
}

/// A task to be made from one that has ended.
#[derive(Clone, Debug)]
pub struct Again {
    /// Whose data it is.
    pub tenant: TenantId,
    /// The task that it is made from, and that stays as it is.
    pub of: TaskId,
    /// The new task's id.
    pub id: TaskId,
    /// Who asks for it.
    pub by: PrincipalId,
}

/// What became of a retry or a fork. Nothing changed unless it is `New`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// The new task, durable and queued.
    New(TaskId),
    /// There is no such task.
    Missing,
    /// It is in a state in which it cannot be retried or forked.
    Unfit(TaskState),
    /// Its root run has no step of this key; it has these.
    NoStep(Vec<StepKey>),
    /// This step stands before the one asked for and has no outcome, so it can be neither served nor
    /// skipped.
    Open(StepKey),
    /// The journal of this run, which would have to be copied, was pruned.
    Pruned(RunId),
}

/// What a fork takes over of the task before.
#[derive(Debug, PartialEq)]
pub struct Forked {
    /// Only steps of the root run before this place in its order.
    pub before: i64,
    /// What these have used.
    pub used: Usage,
    /// The root's children, and all below them, whose runs are copied; parents before their children.
    pub children: Vec<Copied>,
}

/// A run that is copied with its whole journal.
#[derive(Debug, PartialEq, Eq)]
pub struct Copied {
    /// The run.
    pub old: RunId,
    /// Its copy.
    pub new: RunId,
    /// The copy's parent.
    pub parent: RunId,
}

impl Forked {
    /// The plan for a fork at the root run's step `from` into the task `id`. `runs` has the root
    /// first and parents before their children; `steps` are the root's; `pruned` are the runs that
    /// have no journal any more.
    pub fn plan(
        (runs, pruned): (&[Run], &[RunId]),
        steps: &[Step],
        from: &StepKey,
        id: TaskId,
    ) -> Result<Self, Renewed> {
        let root = runs.first().map(|run| run.id).ok_or(Renewed::Missing)?;
        if pruned.contains(&root) {
            return Err(Renewed::Pruned(root));
        }
        let Some(first) = steps.iter().find(|step| step.key == *from) else {
            let keys = steps.iter().map(|step| step.key.clone());
            return Err(Renewed::NoStep(keys.collect()));
        };
        let kept: Vec<&Step> = steps.iter().filter(|step| step.seq < first.seq).collect();
        if let Some(open) = kept.iter().find(|step| step.recorded.is_none()) {
            return Err(Renewed::Open(open.key.clone()));
        }
        let recorded = kept.iter().filter_map(|step| step.recorded.as_ref());
        let forked = Self {
            before: first.seq,
            used: recorded.map(|recorded| recorded.usage).sum(),
            children: children(runs, &kept, id),
        };
        match forked.children.iter().find(|run| pruned.contains(&run.old)) {
            Some(gone) => Err(Renewed::Pruned(gone.old)),
            None => Ok(forked),
        }
    }
}

/// The children that the root waited for in `kept`, and all that lies below them.
fn children(runs: &[Run], kept: &[&Step], id: TaskId) -> Vec<Copied> {
    let mut copied: Vec<Copied> = Vec::new();
    for run in runs {
        let Some((parent, key)) = &run.parent else {
            continue;
        };
        let above = match *parent == RunId::from(run.task) {
            true => kept.iter().any(|step| step.key == *key).then(|| id.into()),
            false => copied
                .iter()
                .find(|above| above.old == *parent)
                .map(|above| above.new),
        };
        copied.extend(above.map(|above: RunId| Copied {
            old: run.id,
            new: above.child(key),
            parent: above,
        }));
    }
    copied
}

/// The authority of a retry: that of the task before, with a folder of its own to write to, so that
/// what the other one wrote stays as it was.
pub fn authority_of_retry(mut authority: Authority, again: &Again) -> Authority {
    let own = |output: &std::path::PathBuf| {
        let of = again.of.to_string();
        (output.file_name()? == of.as_str()).then(|| output.with_file_name(again.id.to_string()))
    };
    if let Some(output) = authority.output.as_ref().and_then(own) {
        authority.output = Some(output);
    }
    authority
}

/// A run that cannot be run any more.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadRun {
    /// The run.
    pub run: RunId,
    /// Its task.
    pub task: TaskId,
    /// The program and its version.
    pub kind: String,
    /// The agent, where it is an agent's run.
    pub agent: Option<AgentName>,
    /// Why, in words.
    pub why: String,
    /// The step at which it stood: one without an outcome, else the last one.
    pub step: Option<StepKey>,
    /// When it was given up.
    pub at: Timestamp,
}

/// Programs and their versions, as runs name them.
pub mod kind {
    /// A task's root run: the supervisor's.
    pub const TASK: &str = "task@1";
    /// One agent's part.
    pub const AGENT: &str = "agent@1";
}

/// What became of a task handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is new.
    New(TaskId),
    /// The same message had made this task before.
    Known(TaskId),
    /// The key had been used with another body, for this task.
    Conflict(TaskId),
}

/// What a run is made of when it is started.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The task that it belongs to.
    pub task: TaskId,
    /// The run that started it, and the step there that waits for it.
    pub parent: Option<(RunId, StepKey)>,
    /// The program and its version, one of [`kind`].
    pub kind: String,
    /// The agent, where it is an agent's run.
    pub agent: Option<AgentName>,
    /// What it was given.
    pub input: Value,
    /// The catalog of agents that it works by.
    pub catalog: Hash,
    /// For whom and on what.
    pub authority: Authority,
    /// Where it stands.
    pub state: RunState,
    /// How often it was claimed. Part of the fence.
    pub epoch: i64,
    /// How often something that it may wait for has come.
    pub wakes: i64,
    /// How often in a row its worker died while it ran, without a further step being done. One that
    /// only waited does not count.
    pub deaths: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// To be claimed.
    Queued,
    /// In some worker's memory.
    Running,
    /// Out of memory until an answer, a child's end or a time.
    Waiting,
    /// Ended with a result.
    Done,
    /// Ended without one.
    Failed,
    /// Ended from outside.
    Cancelled,
    /// Could not be run any more.
    Dead,
}

impl RunState {
    /// All states.
    pub const ALL: [RunState; 7] = [
        RunState::Queued,
        RunState::Running,
        RunState::Waiting,
        RunState::Done,
        RunState::Failed,
        RunState::Cancelled,
        RunState::Dead,
    ];

    /// The state's name in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            RunState::Queued => "queued",
            RunState::Running => "running",
            RunState::Waiting => "waiting",
            RunState::Done => "done",
            RunState::Failed => "failed",
            RunState::Cancelled => "cancelled",
            RunState::Dead => "dead",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<RunState> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// A run to be started by another: made in the same commit as the step that waits for it, and
/// running in the same worker's hands at once.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Its id.
    pub id: RunId,
    /// The program and its version.
    pub kind: &'static str,
    /// The agent.
    pub agent: AgentName,
    /// What it is given.
    pub input: Value,
}

/// What a claim brought.
#[derive(Debug, Default)]
pub struct Claimed {
    /// The runs, now this worker's.
    pub runs: Vec<Run>,
    /// When the next waiting run wakes by itself.
    pub next_wake: Option<Timestamp>,
}

/// What a run must still be for its writes to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The worker that holds it.
    pub worker: WorkerId,
    /// The run.
    pub run: RunId,
    /// The claim that it is held by.
    pub epoch: i64,
}

/// From so many deaths on, a run is suspected to be what kills. A worker has one suspect in memory at
/// a time, so that the next death says which it was.
pub const SUSPECT: i64 = 2;

/// How many runs of each a claim of so many may take, in turn: first an equal share each, beginning with
/// anybody, then what those leave who have less. What one has of it is for the caller to keep count of.
pub(crate) fn shares(parties: &[String], limit: u32) -> Vec<(&str, u32)> {
    if parties.len() < 2 {
        return parties
            .iter()
            .map(|party| (party.as_str(), limit))
            .collect();
    }
    let first = fastrand::usize(..parties.len());
    let turn = || {
        parties[first..]
            .iter()
            .chain(&parties[..first])
            .map(String::as_str)
    };
    let share = (limit / parties.len() as u32).max(1);
    turn()
        .map(|party| (party, share))
        .chain(turn().map(|party| (party, limit)))
        .collect()
}

/// One entry of a run's journal.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The task, whose events and sums change with it.
    pub task: TaskId,
    /// Whose data it is.
    pub tenant: TenantId,
    /// For whom the run works: who pays.
    pub principal: PrincipalId,
    /// The attempt that is begun is a last summary: it may draw on what is kept back for that.
    pub last: bool,
    /// Steps that ended just before, in order: their outcomes ride along, so that the end of one step
    /// and the begin of the next share a commit.
    pub ended: Vec<Step>,
    /// What changes.
    pub change: Change,
    /// What watchers are told.
    pub events: Vec<Event>,
    /// What the step that ended with it brought: kept in the same commit, where it is taken.
    pub blobs: Vec<Blob>,
    /// The run has died before, and with this it gets on: its deaths are forgotten.
    pub survived: bool,
}

impl Entry {
    /// Whether people are asked something with it, or something that they were asked is settled.
    pub(super) fn changes_asks(&self) -> bool {
        match &self.change {
            Change::Step { step, ask, .. } => {
                let settled = step.kind == StepKind::Signal && step.recorded.is_some();
                ask.is_some() || settled
            }
            Change::Finish(finish) => finish.task.is_some() && finish.state != RunState::Done,
            Change::Park { .. } | Change::Release => false,
        }
    }
}

/// What an entry changes.
#[derive(Clone, Debug)]
pub enum Change {
    /// A step is begun, begun again, or has its outcome.
    Step {
        /// The step as it will stand.
        step: Box<Step>,
        /// The run that it starts and waits for.
        spawn: Option<Box<NewRun>>,
        /// Refuse where an answer of this name has come: a time-out and an answer race here.
        unless_signal: Option<SignalName>,
        /// What people are asked whose answer it waits for, under this name.
        ask: Option<Box<(SignalName, Ask)>>,
    },
    /// The run leaves memory until something comes. Where more rings had come than the run had
    /// heard, it is queued instead.
    Park {
        /// How many it had heard.
        wakes: i64,
        /// When it wakes by itself.
        wake_at: Option<Timestamp>,
    },
    /// The run is handed back to the queue.
    Release,
    /// The run ends.
    Finish(Box<Finish>),
}

impl Change {
    /// A step as it will stand, and nothing besides.
    pub fn step(step: Step) -> Self {
        Self::Step {
            step: Box::new(step),
            spawn: None,
            unless_signal: None,
            ask: None,
        }
    }
}

/// How a run ends.
#[derive(Clone, Debug)]
pub struct Finish {
    /// Done, failed or dead.
    pub state: RunState,
    /// The parent's step and what is recorded there, where there is a parent.
    pub parent: Option<(RunId, StepKey, Recorded)>,
    /// How the task ends, where it is the root run.
    pub task: Option<TaskEnd>,
}

/// How a task ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEnd {
    /// Done or failed.
    pub state: TaskState,
    /// The answer, where it is done.
    pub answer: Option<String>,
    /// What was reached, where it failed.
    pub partial: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Whether an entry was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is durable.
    Written,
    /// The fence, or the entry's own condition, refused it; nothing changed.
    Refused,
    /// It is durable, but the attempt was not begun: its worst case does not fit under a limit. The step
    /// has ended instead, with a failure that says so, and is to be read back.
    Over,
}

/// A step as the journal holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Its key, unique in the run.
    pub key: StepKey,
    /// Its place in the order of asking, from 1.
    pub seq: i64,
    /// What kind of step.
    pub kind: StepKind,
    /// Who does it.
    pub agent: Option<AgentName>,
    /// What is done: `think`, a tool's name, a signal's name.
    pub what: String,
    /// The model that is asked, where one is.
    pub model: Option<ModelName>,
    /// What repeating it would do.
    pub effect: Effect,
    /// By what a replay recognises it.
    pub op_hash: Hash,
    /// The attempt that was begun last, from 1.
    pub attempt: u32,
    /// The attempts before it, each failed or lost.
    pub attempts: Vec<Attempt>,
    /// What the attempt in flight is charged if it is lost.
    pub reserved: Option<Usage>,
    /// When the attempt, or the wait, is over at the latest.
    pub deadline: Option<Timestamp>,
    /// The outcome, once it has one.
    pub recorded: Option<Recorded>,
    /// Where untrusted text in it came from.
    pub taint: Taint,
    /// When it was begun.
    pub begun_at: Timestamp,
}

/// Kinds of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// A model call.
    Think,
    /// A tool call.
    Tool,
    /// Another run, waited for.
    Child,
    /// An answer from outside, waited for.
    Signal,
    /// A time, waited for.
    Sleep,
    /// A reading of the clock.
    Now,
}

impl StepKind {
    /// Whether the step is a wait: nothing goes on in its run meanwhile.
    pub fn waits(self) -> bool {
        matches!(self, Self::Child | Self::Signal | Self::Sleep)
    }

    /// The kind's name in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            StepKind::Think => "think",
            StepKind::Tool => "tool",
            StepKind::Child => "child",
            StepKind::Signal => "signal",
            StepKind::Sleep => "sleep",
            StepKind::Now => "now",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<StepKind> {
        use StepKind::{Child, Now, Signal, Sleep, Think, Tool};
        [Think, Tool, Child, Signal, Sleep, Now]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// An answer from outside.
#[derive(Clone, Debug)]
pub struct NewSignal {
    /// Whose run it is.
    pub tenant: TenantId,
    /// The run that waits for it.
    pub run: RunId,
    /// Its name.
    pub name: SignalName,
    /// The answer.
    pub payload: Value,
    /// Who gave it.
    pub by: PrincipalId,
}

/// What an answer raises, and who else goes on by it.
#[derive(Clone, Debug, Default)]
pub struct Raising {
    /// Limits, and by how much.
    pub limits: Vec<(Which, i64)>,
    /// Whoever waits because of this goes on by the same answer.
    pub cause: Option<String>,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// It is the answer.
    First,
    /// Another had come before.
    Answered,
    /// Nobody waits for it (any more).
    Unwanted,
}

/// Which tasks are listed.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// Only tasks of these principals; all where absent.
    pub principals: Option<Vec<PrincipalId>>,
    /// And of these only what is for this principal or was handed in by it.
    pub visible_to: Option<PrincipalId>,
    /// Only of this thread.
    pub thread: Option<String>,
    /// Only of this agent.
    pub agent: Option<AgentName>,
    /// Only in this state.
    pub state: Option<TaskState>,
    /// Only with these labels.
    pub metadata: BTreeMap<String, String>,
    /// Only older than this one: the last of the page before.
    pub before: Option<TaskId>,
    /// At most so many.
    pub limit: u32,
}

/// An API token; its secret is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// A name for people.
    pub name: String,
    /// Whose data it opens.
    pub tenant: TenantId,
    /// Who acts when it is used.
    pub principal: PrincipalId,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// How many there are of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Census {
    /// Tasks by state.
    pub tasks: BTreeMap<String, i64>,
    /// Runs that have not ended, by state.
    pub runs: BTreeMap<String, i64>,
    /// The oldest queued run's age in milliseconds.
    pub queue_age_ms: i64,
    /// Workers whose lease lasts.
    pub workers: i64,
    /// Runs that cannot be run any more.
    pub dead: i64,
    /// Steps of which a person must say whether they happened.
    pub in_doubt: i64,
}

/// Something that one worker does at a time, as it holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty {
    /// Its name: one of [`duty`], and whose it is where each tenant has one of its own.
    pub name: String,
    /// Who holds it.
    pub holder: WorkerId,
    /// How often it has changed hands. Part of the fence.
    pub epoch: i64,
}

/// Duties that one worker has at a time.
pub mod duty {
    use crate::id::TenantId;

    /// The duty of this name for what belongs to one tenant.
    pub fn of(name: &str, tenant: &TenantId) -> String {
        format!("{name}/{tenant}")
    }

    /// Prunes journals.
    pub const RETENTION: &str = "retention";
    /// Reads from Telegram and writes to it.
    pub const TELEGRAM: &str = "telegram";
    /// Writes to Slack, and listens to its socket.
    pub const SLACK: &str = "slack";
    /// Calls back those who handed in work over HTTP.
    pub const CALLBACK: &str = "callback";
}

/// What an examination of the store found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Checkup {
    /// The database and its version.
    pub server: String,
    /// The last migration that was applied, and the last one that this program knows.
    pub migration: (i64, i64),
    /// The store's clock.
    pub now: Timestamp,
    /// Workers whose lease lasts.
    pub live: i64,
    /// Workers whose lease has ended and whose runs nobody took over yet.
    pub lapsed: i64,
    /// Runs that are `running` without a live lease, some of them.
    pub orphans: Vec<RunId>,
    /// Queued runs.
    pub queued: i64,
    /// The oldest queued run's age in milliseconds.
    pub queue_age_ms: i64,
    /// Runs that cannot be run any more.
    pub dead: i64,
    /// Runs that have not ended, by program and version.
    pub kinds: BTreeMap<String, i64>,
    /// What the whole store takes up, in bytes.
    pub bytes: i64,
    /// What the largest tables take up with their indexes, the largest first.
    pub tables: Vec<(String, i64)>,
}
