//! The ledger: what a commit moves between accounts. Both stores enter the steps that a commit writes
//! into a [`Book`], which decides what is admitted, and write down what it moved. Pure but for the row types.
//!
//! The attempts in a step's row are the ledger's lines; accounts hold their sums. What a step's row says
//! of money follows from the row alone ([`Booked`]), so a commit moves the difference between the row
//! that was there and the one that it writes.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;

use super::{Delivered, Error, NewSignal, Raising, Step, StepKind};
use crate::budget::{
    self, Account, Cap, Date, OVER, Over, Period, Plan, Raise, Set, Standing, Sum, Unit, Which,
};
use crate::event::Event;
use crate::id::{AgentName, PrincipalId, RunId, TaskId, TenantId};
use crate::label::Taint;
use crate::money::{Usage, Usd};
use crate::run::{Attempt, Evidence, Failure, FailureKind, Outcome, Recorded, Timestamp};

/// Who pays for the steps of a run.
#[derive(Clone, Debug)]
pub(crate) struct Payer<'a> {
    /// Whose data it is.
    pub tenant: &'a TenantId,
    /// The task.
    pub task: TaskId,
    /// For whom it works.
    pub principal: &'a PrincipalId,
}

impl Payer<'_> {
    /// All who pay for what this agent does.
    pub fn accounts(&self, agent: Option<&AgentName>) -> impl Iterator<Item = Account> {
        let own = [
            Account::Task(self.task),
            Account::User(self.principal.clone()),
            Account::All,
        ];
        own.into_iter().chain(agent.cloned().map(Account::Agent))
    }

    /// Where what this agent does counts on its day.
    fn used(&self, agent: Option<&AgentName>, what: &str, model: Option<&impl ToString>) -> Used {
        Used {
            tenant: self.tenant.clone(),
            principal: self.principal.clone(),
            agent: agent.map(ToString::to_string).unwrap_or_default(),
            what: what.to_owned(),
            model: model.map(ToString::to_string).unwrap_or_default(),
        }
    }
}

/// What a step's row says of money.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Booked {
    settled: Usage,
    held: Usage,
    attempts: i64,
}

impl Booked {
    /// Of a row that was begun and has no outcome. `attempt` is the one begun last.
    pub fn begun(attempt: u32, made: &[Attempt], reserved: Option<Usage>) -> Self {
        let in_flight = attempt as usize > made.len();
        Self {
            settled: made.iter().map(|attempt| attempt.usage).sum(),
            held: reserved.filter(|_| in_flight).unwrap_or_default(),
            attempts: made.len() as i64,
        }
    }

    /// Of a row as it will stand.
    pub fn of(step: &Step) -> Self {
        match &step.recorded {
            None => Self::begun(step.attempt, &step.attempts, step.reserved),
            Some(recorded) => Self {
                settled: recorded.usage,
                held: Usage::default(),
                attempts: recorded.attempts.len() as i64,
            },
        }
    }
}

/// Whether a step may cost anything. What a child uses its own steps say.
pub(crate) fn costs(step: &Step) -> bool {
    matches!(step.kind, StepKind::Think | StepKind::Tool)
}

/// Whether a row of this step may be there already: it is, unless this one begins the first attempt.
pub(crate) fn may_be_booked(step: &Step) -> bool {
    let first = step.recorded.is_none() && step.attempt <= 1 && step.attempts.is_empty();
    costs(step) && !first
}

/// Whether an attempt is begun with this row that must be admitted.
pub(crate) fn asks(step: &Step) -> bool {
    costs(step) && !Sum::from(Booked::of(step).held).is_zero()
}

/// What a commit moves on one account.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moved {
    /// More was spent.
    pub spent: Usage,
    /// More is held, or less.
    pub held: Sum,
}

#[derive(Debug, Default)]
struct Line {
    standing: Option<Standing>,
    limits: Vec<(Which, i64)>,
    moved: Moved,
}

/// By whom, for whom and by what something was used: the key of a day's sum.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Used {
    pub tenant: TenantId,
    pub principal: PrincipalId,
    pub agent: String,
    pub what: String,
    pub model: String,
}

/// What people said of an account's limits while instances ran.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// What was set; without an amount there is no limit.
    pub set: Vec<(Period, Unit, Option<i64>)>,
    /// What was added to a limit for now.
    pub extra: Vec<(Period, Unit, i64)>,
}

impl Own {
    /// The limit that holds: the one that was set, else the planned one, with what was added to it.
    fn limit(&self, which: &Which, plan: &Plan) -> Option<i64> {
        let this = (which.period, which.unit);
        let set = self.set.iter().find(|(p, u, _)| (*p, *u) == this);
        let limit = match set {
            Some((_, _, amount)) => *amount,
            None => plan.limit(&which.account, which.period, which.unit),
        };
        let extra = self.extra.iter().filter(|(p, u, _)| (*p, *u) == this);
        let extra = extra.fold(0i64, |sum, (_, _, more)| sum.saturating_add(*more));
        Some(limit?.saturating_add(extra))
    }
}

/// What one commit does to accounts.
#[derive(Debug)]
pub(crate) struct Book {
    /// When it is.
    pub now: Timestamp,
    /// The day that it counts for.
    pub date: Date,
    plan: Arc<Plan>,
    lines: BTreeMap<(TenantId, Account), Line>,
    used: BTreeMap<Used, (i64, Usage)>,
}

impl Book {
    /// A commit at this time, under these configured limits.
    pub fn at(now: Timestamp, plan: Arc<Plan>) -> Self {
        Self {
            now,
            date: Date::of(now),
            plan,
            lines: BTreeMap::new(),
            used: BTreeMap::new(),
        }
    }

    /// Whether it is known how an account stands.
    pub fn knows(&self, tenant: &TenantId, account: &Account) -> bool {
        let line = self.lines.get(&(tenant.clone(), account.clone()));
        line.is_some_and(|line| line.standing.is_some())
    }

    /// Takes note of how an account stood before this commit, and of what was set for it.
    pub fn know(&mut self, (tenant, account): (&TenantId, Account), standing: Standing, own: &Own) {
        let limit = |which: Which| {
            let amount = own.limit(&which, &self.plan)?;
            Some((which, amount))
        };
        let limits = Which::all_of(&account).filter_map(limit).collect();
        let line = self.lines.entry((tenant.clone(), account)).or_default();
        (line.standing, line.limits) = (Some(standing), limits);
    }

    /// Enters a step that is written in the place of what was booked `before`. Where it begins an
    /// attempt that is not admitted, the answer is the step as it must be written instead: ended, with
    /// a failure that says why.
    pub fn enter(
        &mut self,
        payer: &Payer<'_>,
        before: Booked,
        step: &Step,
        last: bool,
    ) -> Option<Step> {
        let after = Booked::of(step);
        let released = -Sum::from(before.held);
        self.settle(payer, step, (before, after), released);
        let held = Sum::from(after.held);
        if held.is_zero() {
            return None;
        }
        match self.admit(payer, step.agent.as_ref(), held, last) {
            Ok(()) => {
                self.shift(payer, step.agent.as_ref(), Usage::default(), held);
                None
            }
            Err(over) => Some(refused(step, &over, self.now)),
        }
    }

    /// Enters that an attempt under way will never be heard of again: what it holds counts as spent.
    /// Answers its line in the journal.
    pub fn lose(&mut self, payer: &Payer<'_>, step: &Open) -> Attempt {
        let lost = Attempt {
            at: step.begun_at,
            ms: self.now.since(step.begun_at).as_millis() as u64,
            usage: step.reserved,
            failure: Some(
                Failure::new(FailureKind::Lost, "nobody waited for the outcome any more")
                    .may_have_happened(),
            ),
        };
        let used = payer.used(step.agent.as_ref(), &step.what, step.model.as_ref());
        self.use_up(used, 1, step.reserved);
        let released = -Sum::from(step.reserved);
        self.shift(payer, step.agent.as_ref(), step.reserved, released);
        lost
    }

    fn settle(
        &mut self,
        payer: &Payer<'_>,
        step: &Step,
        (before, after): (Booked, Booked),
        released: Sum,
    ) {
        let spent = less(after.settled, before.settled);
        let attempts = after.attempts - before.attempts;
        if attempts > 0 {
            let used = payer.used(step.agent.as_ref(), &step.what, step.model.as_ref());
            self.use_up(used, attempts, spent);
        }
        if spent.tokens() > 0 || spent.usd.nano() > 0 || !released.is_zero() {
            self.shift(payer, step.agent.as_ref(), spent, released);
        }
    }

    fn use_up(&mut self, used: Used, attempts: i64, usage: Usage) {
        if usage.tokens() == 0 && usage.usd.nano() == 0 {
            return;
        }
        let sum = self.used.entry(used).or_default();
        *sum = (sum.0 + attempts, sum.1 + usage);
    }

    fn shift(&mut self, payer: &Payer<'_>, agent: Option<&AgentName>, spent: Usage, held: Sum) {
        for account in payer.accounts(agent) {
            let line = self
                .lines
                .entry((payer.tenant.clone(), account))
                .or_default();
            line.moved.spent += spent;
            line.moved.held = line.moved.held + held;
        }
    }

    fn admit(
        &self,
        payer: &Payer<'_>,
        agent: Option<&AgentName>,
        worst: Sum,
        last: bool,
    ) -> Result<(), Over> {
        for account in payer.accounts(agent) {
            let Some(line) = self.lines.get(&(payer.tenant.clone(), account)) else {
                continue;
            };
            let Moved { spent, held } = line.moved;
            let standing = line.standing.unwrap_or_default().moved(spent.into(), held);
            for (which, limit) in &line.limits {
                budget::admit((which, *limit), &standing, worst, last)?;
            }
        }
        Ok(())
    }

    /// What it moves on the accounts of tasks.
    pub fn tasks(&self) -> impl Iterator<Item = (TaskId, &Moved)> {
        self.lines
            .iter()
            .filter_map(|((_, account), line)| match account {
                Account::Task(task) => Some((*task, &line.moved)),
                _ => None,
            })
    }

    /// What it moves on all other accounts, in the order in which they are locked.
    pub fn others(&self) -> impl Iterator<Item = (&TenantId, &Account, &Moved)> {
        let lines = self
            .lines
            .iter()
            .map(|((tenant, account), line)| (tenant, account, &line.moved));
        lines.filter(|(_, account, moved)| {
            let is_moved = moved.spent != Usage::default() || !moved.held.is_zero();
            is_moved && !matches!(account, Account::Task(_))
        })
    }

    /// What was used, and by how many attempts.
    pub fn used(&self) -> impl Iterator<Item = (&Used, i64, &Usage)> {
        self.used
            .iter()
            .map(|(used, (attempts, usage))| (used, *attempts, usage))
    }
}

/// An attempt under way, as its row tells of it.
#[derive(Debug)]
pub(crate) struct Open {
    pub agent: Option<AgentName>,
    pub what: String,
    pub model: Option<String>,
    pub reserved: Usage,
    pub begun_at: Timestamp,
}

/// `more - before`, part by part. Sums of a row only grow.
fn less(more: Usage, before: Usage) -> Usage {
    Usage {
        tokens_in: more.tokens_in.saturating_sub(before.tokens_in),
        tokens_cached: more.tokens_cached.saturating_sub(before.tokens_cached),
        tokens_out: more.tokens_out.saturating_sub(before.tokens_out),
        usd: more.usd.saturating_sub(before.usd),
        assumed: more.assumed,
    }
}

/// The step that was to begin an attempt, as it ends instead.
fn refused(step: &Step, over: &Over, now: Timestamp) -> Step {
    let attempts = step.attempts.clone();
    let recorded = Recorded {
        outcome: Outcome::Failed(Failure::new(FailureKind::Limit, over.to_string())),
        usage: attempts.iter().map(|attempt| attempt.usage).sum(),
        taint: Taint::NONE,
        evidence: vec![Evidence {
            kind: OVER.into(),
            value: serde_json::to_string(over).unwrap_or_default(),
        }],
        attempts,
        at: now,
    };
    Step {
        attempt: recorded.attempts.len() as u32,
        attempts: Vec::new(),
        reserved: None,
        recorded: Some(recorded),
        ..step.clone()
    }
}

/// What watchers are told where a step ended instead of beginning.
pub(crate) fn told(event: &Event, ended: &Step) -> Event {
    match event {
        Event::Begun {
            key,
            agent,
            what,
            detail,
            ..
        } if *key == ended.key => {
            let recorded = ended.recorded.as_ref();
            let failure = recorded.and_then(|recorded| match &recorded.outcome {
                Outcome::Failed(failure) => Some(failure.message.clone()),
                _ => None,
            });
            Event::Ended {
                key: key.clone(),
                agent: agent.clone(),
                what: what.clone(),
                detail: detail.clone(),
                error: failure,
                usage: recorded.map(|recorded| recorded.usage).unwrap_or_default(),
                ms: 0,
            }
        }
        other => other.clone(),
    }
}

/// An account with what was spent from it.
#[derive(Clone, Debug, PartialEq)]
pub struct AccountRow {
    /// Whose.
    pub account: Account,
    /// How it stands.
    pub standing: Standing,
}

/// What was used on a day, by whom, for whom and by what.
#[derive(Clone, Debug, PartialEq)]
pub struct SpendRow {
    /// The day, in days since 1970.
    pub day: i64,
    /// For whom.
    pub principal: PrincipalId,
    /// By which agent.
    pub agent: AgentName,
    /// By what: `think`, or a tool's name.
    pub what: String,
    /// The model, where one was asked.
    pub model: String,
    /// In how many attempts.
    pub attempts: u64,
    /// How much.
    pub usage: Usage,
}

/// What a finished run of an agent used by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSpend {
    /// Whose run it was.
    pub agent: AgentName,
    /// Calls of models and tools.
    pub steps: u64,
    /// What they cost.
    pub usd: Usd,
}

/// Accounts, limits and what was used.
#[async_trait]
pub trait Budgets: Send + Sync {
    /// Has the configured limits hold in this process from now on.
    fn plan(&self, plan: Plan);

    /// The limits that the configuration sets, as this process has them.
    fn planned(&self) -> Arc<Plan>;

    /// How a tenant's accounts stand, by the store's clock; those of tasks are not among them.
    async fn accounts(&self, tenant: &TenantId) -> Result<Vec<AccountRow>, Error>;

    /// Limits that were set while instances ran.
    async fn set_limits(&self, tenant: &TenantId) -> Result<Vec<Set>, Error>;

    /// Sets a limit, in the place of the configured one, from the next commit on at every process. A
    /// task's limit is the task's own. `false` where there is no such task.
    async fn set_limit(&self, tenant: &TenantId, set: Set) -> Result<bool, Error>;

    /// Takes back a limit that was set: the configured one holds again. `false` where none was set. What
    /// people had added to it by their word on an ask no longer counts, as after [`Budgets::set_limit`].
    async fn unset_limit(&self, tenant: &TenantId, which: &Which) -> Result<bool, Error>;

    /// Delivers an answer as [`Store::deliver`](super::Store::deliver) does. Where it is the first, limits
    /// are raised in the same commit, each once for its ask, and by the same answer everybody goes on who
    /// waits because of the same.
    async fn raise(&self, signal: NewSignal, raising: Raising) -> Result<Delivered, Error>;

    /// What was added to limits and counts now, the first first. What tasks got is not among it: it stands
    /// with the task.
    async fn raises(&self, tenant: &TenantId) -> Result<Vec<Raise>, Error>;

    /// What the tasks of each conversation used that came in since then, and how many they are. Those that
    /// belong to none come under an empty name.
    async fn spent_by_thread(
        &self,
        tenant: &TenantId,
        since: Timestamp,
    ) -> Result<Vec<(String, u64, Usage)>, Error>;

    /// What agents' runs used that are done and whose journals are there, the last ones, at most `limit`.
    async fn finished(&self, tenant: &TenantId, limit: u32) -> Result<Vec<RunSpend>, Error>;

    /// Tells those who watch a task what its spending led to ([`Event::Alert`]): a key and words. Safe to
    /// repeat: each key is told once. `false` where it was told before, or the task has ended.
    async fn alert(
        &self,
        tenant: &TenantId,
        of: (TaskId, RunId),
        alert: (&str, &str),
    ) -> Result<bool, Error>;

    /// What was used since a day, inclusive, in days since 1970; the last day first.
    async fn spent_since(&self, tenant: &TenantId, day: i64) -> Result<Vec<SpendRow>, Error>;
}

/// The configured limits of one process, as its store has them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Planned(Arc<RwLock<Arc<Plan>>>);

impl Planned {
    pub fn set(&self, plan: Plan) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
    }

    pub fn get(&self) -> Arc<Plan> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What a task may use: as configured, or less where its asker says so.
pub(crate) fn of_request(plan: &Plan, asked: &crate::task::Budget) -> Cap {
    plan.task.min(Cap {
        usd: asked.usd,
        tokens: asked.tokens,
    })
}
