//! Tables `account`, `budget`, `extra` and `spend`: what is spent and held, what may be, what people added to
//! that for now, and what was used on each day. A task's own account stands in its row.
//!
//! Accounts are locked after the rows of tasks, runs, bodies and steps, and before all else, in the order
//! of the book: by a commit that begins an attempt all that it moves, when it looks how they stand; by any
//! other when it moves them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::Object;
use futures::try_join;
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

use super::journal::Pending;
use super::tx::{Params, Tx, get, prepare};
use super::{PostgresStore, clean, corrupt, event, from_json, run, to_json};
use crate::budget::{Account, Date, Period, Plan, Raise, Set, Standing, Sum, Unit, Which};
use crate::event::Event;
use crate::id::{AskId, RunId, StepKey, TaskId, TenantId};
use crate::money::{Usage, Usd};
use crate::run::{Attempt, Timestamp};
use crate::store::ledger::{self, Book, Booked, Open, Own, Payer};
use crate::store::{
    AccountRow, Budgets, Change, Delivered, Error, NewSignal, Raising, RunSpend, SpendRow, Step,
};

const BOOKED: &str = "
select s.run, s.key, s.attempt, s.attempts::text, s.reserved::text
from unnest($1::uuid[], $2::text[]) as u(run, key)
join step s on s.run = u.run and s.key = u.key and s.state = 'begun'";

const MAKE: &str = "
insert into account (tenant, scope, subject, day, month, day_usd, day_tokens, month_usd, month_tokens,
                     usd, tokens, held_usd, held_tokens)
select u.tenant, u.scope, u.subject, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
from unnest($1::text[], $2::text[], $3::text[]) with ordinality as u(tenant, scope, subject, n)
order by u.n on conflict do nothing";

const STAND: &str = "
select a.tenant, a.scope, a.subject, a.day, a.month, a.day_usd, a.day_tokens, a.month_usd, a.month_tokens,
       a.usd, a.tokens, a.held_usd, a.held_tokens
from unnest($1::text[], $2::text[], $3::text[]) with ordinality as u(tenant, scope, subject, n)
join account a on a.tenant = u.tenant and a.scope = u.scope and a.subject = u.subject
order by u.n for no key update of a";

/// What was set, with an empty `time`, and what was added, with the day or the month for which it was; that
/// of days and months long over is left out.
const OWN: &str = "
select b.tenant, b.scope, b.subject, b.period, b.unit, b.amount, null::bigint as time
from unnest($1::text[], $2::text[], $3::text[]) as u(tenant, scope, subject)
join budget b on b.tenant = u.tenant and b.scope = u.scope and b.subject = u.subject
union all
select e.tenant, e.scope, e.subject, e.period, e.unit, e.amount, e.time
from unnest($1::text[], $2::text[], $3::text[]) as u(tenant, scope, subject)
join extra e on e.tenant = u.tenant and e.scope = u.scope and e.subject = u.subject
where not e.replaced and (e.period = 'total' or e.at > (select now_ms()) - 2764800000)";

const TASKS: &str = "
select id, usd_nano, tokens_in + tokens_out, held_usd, held_tokens, limit_usd, limit_tokens
from task where id = any($1)";

/// A day or a month that is over begins anew; a clock that goes back changes nothing. The rows are there
/// ([`MAKE`]): an insert is what takes them in order.
const MOVE: &str = "
insert into account as a (tenant, scope, subject, day, month, day_usd, day_tokens, month_usd,
                          month_tokens, usd, tokens, held_usd, held_tokens)
select u.tenant, u.scope, u.subject, $8::bigint, $9::bigint, u.usd, u.tokens, u.usd, u.tokens, u.usd, u.tokens,
       u.held_usd, u.held_tokens
from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
     with ordinality as u(tenant, scope, subject, usd, tokens, held_usd, held_tokens, n)
order by u.n
on conflict (tenant, scope, subject) do update set
  day = greatest(a.day, excluded.day), month = greatest(a.month, excluded.month),
  day_usd = case when excluded.day > a.day then 0 else a.day_usd end + excluded.day_usd,
  day_tokens = case when excluded.day > a.day then 0 else a.day_tokens end + excluded.day_tokens,
  month_usd = case when excluded.month > a.month then 0 else a.month_usd end + excluded.month_usd,
  month_tokens = case when excluded.month > a.month then 0 else a.month_tokens end + excluded.month_tokens,
  usd = a.usd + excluded.usd, tokens = a.tokens + excluded.tokens,
  held_usd = greatest(a.held_usd + excluded.held_usd, 0),
  held_tokens = greatest(a.held_tokens + excluded.held_tokens, 0)";

const USE: &str = "
insert into spend as s (tenant, day, principal, agent, what, model, attempts, usd, tokens_in,
                        tokens_cached, tokens_out)
select u.tenant, $11::bigint, u.principal, u.agent, u.what, u.model, u.attempts, u.usd, u.tokens_in,
       u.tokens_cached, u.tokens_out
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
            $8::bigint[], $9::bigint[], $10::bigint[]) with ordinality
     as u(tenant, principal, agent, what, model, attempts, usd, tokens_in, tokens_cached, tokens_out, n)
order by u.n
on conflict (tenant, day, principal, agent, what, model) do update set
  attempts = s.attempts + excluded.attempts, usd = s.usd + excluded.usd,
  tokens_in = s.tokens_in + excluded.tokens_in, tokens_cached = s.tokens_cached + excluded.tokens_cached,
  tokens_out = s.tokens_out + excluded.tokens_out";

/// Steps end that were to begin an attempt that is not admitted.
const REFUSE: &str = "
update step s set state = 'done', attempt = u.attempt, attempts = '[]', reserved = null,
                  recorded = u.recorded::json, done_at = (select now_ms())
from unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[]) as u(run, key, attempt, recorded)
where s.run = u.run and s.key = u.key and s.state = 'begun'";

/// Attempts that are under way in a task, or in one run of it.
const OPEN: &str = "
select s.run, s.key, s.attempts::text, s.reserved::text, s.agent, s.what, s.model, s.begun_at, r.tenant,
       r.principal
from step s join run r on r.id = s.run
where r.task = $1 and ($2::uuid is null or r.id = $2) and s.state = 'begun' and s.reserved is not null
  and s.attempt > json_array_length(s.attempts)";
const KEEP: &str = "update step set attempts = $3::text::json where run = $1 and key = $2";

/// The statements of the first round trip.
pub(super) struct Look {
    now: Statement,
    booked: Statement,
    make: Statement,
    stand: Statement,
    own: Statement,
    tasks: Statement,
}

/// What the first round trip found of money.
pub(super) struct Found {
    now: Timestamp,
    booked: Vec<Row>,
    stand: Vec<Row>,
    own: Vec<Row>,
    tasks: Vec<Row>,
}

/// What a batch asks of the ledger.
pub(super) struct Asked {
    runs: Vec<Uuid>,
    keys: Vec<String>,
    accounts: Accounts,
    tasks: Vec<Uuid>,
    costs: bool,
}

/// Accounts in the order in which they are locked.
#[derive(Default)]
struct Accounts {
    tenants: Vec<String>,
    scopes: Vec<&'static str>,
    subjects: Vec<String>,
}

impl Accounts {
    fn add(&mut self, tenant: &TenantId, account: &Account) {
        let (scope, subject) = account.as_row();
        self.tenants.push(tenant.to_string());
        self.scopes.push(scope);
        self.subjects.push(clean(&subject).into_owned());
    }

    fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }
}

/// The steps that an entry writes, the one that it may begin last.
fn steps(pending: &Pending) -> impl Iterator<Item = &Step> {
    let changed = match &pending.entry.change {
        Change::Step { step, .. } => Some(&**step),
        _ => None,
    };
    let steps = pending.entry.ended.iter().chain(changed);
    steps.filter(|step| ledger::costs(step))
}

fn payer(pending: &Pending) -> Payer<'_> {
    Payer {
        tenant: &pending.entry.tenant,
        task: pending.entry.task,
        principal: &pending.entry.principal,
    }
}

impl Asked {
    pub(super) fn of(batch: &[Pending]) -> Self {
        let (mut runs, mut keys) = (Vec::new(), Vec::new());
        let (mut payers, mut tasks) = (BTreeSet::new(), BTreeSet::new());
        let (mut costs, mut asks) = (false, false);
        for pending in batch {
            let tenant = &pending.entry.tenant;
            for step in steps(pending) {
                costs = true;
                if ledger::may_be_booked(step) {
                    runs.push(pending.fence.run.0);
                    keys.push(step.key.to_string());
                }
                if ledger::asks(step) {
                    asks = true;
                    tasks.insert(pending.entry.task.0);
                }
                let payer = payer(pending);
                let all = payer.accounts(step.agent.as_ref());
                let others = all.filter(|account| !matches!(account, Account::Task(_)));
                payers.extend(others.map(|account| (tenant.clone(), account)));
            }
            if super::journal::breaks_off(pending).is_some() {
                payers.insert((tenant.clone(), Account::All));
            }
        }
        // What is only settled is locked when it is moved, by one statement and in the same order.
        if !asks {
            payers.clear();
        }
        let mut accounts = Accounts::default();
        for (tenant, account) in &payers {
            accounts.add(tenant, account);
        }
        Self {
            runs,
            keys,
            accounts,
            tasks: tasks.into_iter().collect(),
            costs,
        }
    }
}

impl Look {
    pub(super) async fn prepare(client: &Object) -> Result<Self, Error> {
        let texts = [super::NOW, BOOKED, MAKE, STAND, OWN, TASKS];
        let [now, booked, make, stand, own, tasks] = prepare(client, texts).await?;
        Ok(Self {
            now,
            booked,
            make,
            stand,
            own,
            tasks,
        })
    }

    /// What the rows of steps have booked. To be sent before they are written.
    pub(super) async fn booked(&self, tx: &Tx<'_>, asked: &Asked) -> Result<Vec<Row>, Error> {
        match asked.runs.is_empty() {
            true => Ok(Vec::new()),
            false => tx.query(&self.booked, &[&asked.runs, &asked.keys]).await,
        }
    }

    /// How those stand who pay for what is begun, locked until the commit. To be sent last.
    pub(super) async fn stand(
        &self,
        tx: &Tx<'_>,
        asked: &Asked,
    ) -> Result<(Vec<Row>, Vec<Row>, Vec<Row>, Vec<Row>), Error> {
        let none = || Ok::<Vec<Row>, Error>(Vec::new());
        let asks = !asked.accounts.is_empty();
        let Accounts {
            tenants,
            scopes,
            subjects,
        } = &asked.accounts;
        let which: Params<'_> = &[tenants, scopes, subjects];
        let tasks: Params<'_> = &[&asked.tasks];
        let (_, stand, own, tasks, now) = try_join!(
            async {
                if asks {
                    tx.query(&self.make, which).await
                } else {
                    none()
                }
            },
            async {
                if asks {
                    tx.query(&self.stand, which).await
                } else {
                    none()
                }
            },
            async {
                if asks {
                    tx.query(&self.own, which).await
                } else {
                    none()
                }
            },
            async {
                if asks {
                    tx.query(&self.tasks, tasks).await
                } else {
                    none()
                }
            },
            async {
                if asked.costs {
                    tx.query(&self.now, &[]).await
                } else {
                    none()
                }
            },
        )?;
        Ok((stand, own, tasks, now))
    }
}

impl Found {
    pub(super) fn of(
        booked: Vec<Row>,
        (stand, own, tasks, now): (Vec<Row>, Vec<Row>, Vec<Row>, Vec<Row>),
        here: Timestamp,
    ) -> Result<Self, Error> {
        let now = now
            .first()
            .map(|row| get(row, 0).map(Timestamp))
            .transpose()?;
        Ok(Self {
            now: now.unwrap_or(here),
            booked,
            stand,
            own,
            tasks,
        })
    }

    /// A book that knows what was found.
    fn book(&self, plan: Arc<Plan>) -> Result<Book, Error> {
        let mut book = Book::at(self.now, plan);
        let mut own: BTreeMap<(TenantId, Account), Own> = BTreeMap::new();
        for row in &self.own {
            let (period, unit) = which(get(row, 3)?, get(row, 4)?)?;
            let whose = (get::<&str>(row, 0)?.into(), account_of(row, 1)?);
            let own = own.entry(whose).or_default();
            match get::<Option<i64>>(row, 6)? {
                None => own.set.push((period, unit, get(row, 5)?)),
                Some(time) if time == period.at(book.date) => {
                    own.extra.push((period, unit, get(row, 5)?));
                }
                Some(_) => {}
            }
        }
        for row in &self.stand {
            let tenant = TenantId::from(get::<&str>(row, 0)?);
            let account = account_of(row, 1)?;
            let standing = read_standing(row, 3, book.date)?;
            let whose = (tenant, account);
            let theirs = own.remove(&whose).unwrap_or_default();
            book.know((&whose.0, whose.1), standing, &theirs);
        }
        Ok(book)
    }

    fn task(&self, task: TaskId) -> Result<Option<(Standing, Own)>, Error> {
        for row in &self.tasks {
            if get::<Uuid>(row, 0)? == task.0 {
                return of_task(row).map(Some);
            }
        }
        Ok(None)
    }

    fn before(&self, run: RunId, key: &StepKey) -> Result<Booked, Error> {
        for row in &self.booked {
            if get::<Uuid>(row, 0)? == run.0 && get::<&str>(row, 1)? == key.as_str() {
                let attempts: Vec<Attempt> = from_json("step", get(row, 3)?)?;
                let reserved: Option<&str> = get(row, 4)?;
                let reserved = reserved.map(|text| from_json("step", text)).transpose()?;
                let attempt: i64 = get(row, 2)?;
                return Ok(Booked::begun(attempt as u32, &attempts, reserved));
            }
        }
        Ok(Booked::default())
    }

    /// Enters the steps that were written into a book. Answers it, and for each entry of the batch the
    /// step that ends instead of beginning.
    pub(super) fn enter(
        &self,
        plan: Arc<Plan>,
        batch: &[Pending],
        is_written: impl Fn(RunId, &StepKey) -> bool,
    ) -> Result<(Book, Vec<Option<Step>>), Error> {
        let mut book = self.book(plan)?;
        let mut refused = Vec::with_capacity(batch.len());
        for pending in batch {
            let payer = payer(pending);
            let account = Account::Task(payer.task);
            if !book.knows(payer.tenant, &account)
                && let Some((standing, own)) = self.task(payer.task)?
            {
                book.know((payer.tenant, account), standing, &own);
            }
            let mut ended = None;
            for step in steps(pending) {
                let run = pending.fence.run;
                if is_written(run, &step.key) {
                    let before = self.before(run, &step.key)?;
                    ended = ended.or(book.enter(&payer, before, step, pending.entry.last));
                }
            }
            refused.push(ended);
        }
        Ok((book, refused))
    }
}

fn of_task(row: &Row) -> Result<(Standing, Own), Error> {
    let spent = sum(row, 1)?;
    let standing = Standing {
        day: spent,
        month: spent,
        total: spent,
        held: sum(row, 3)?,
    };
    let limit = |unit, amount: Option<i64>| amount.map(|n| (Period::Total, unit, Some(n)));
    let own = [
        limit(Unit::Usd, get(row, 5)?),
        limit(Unit::Tokens, get(row, 6)?),
    ];
    let own = Own {
        set: own.into_iter().flatten().collect(),
        extra: Vec::new(),
    };
    Ok((standing, own))
}

fn sum(row: &Row, column: usize) -> Result<Sum, Error> {
    Ok(Sum {
        usd: get(row, column)?,
        tokens: get(row, column + 1)?,
    })
}

/// Sums of a day or a month that is over count for nothing.
fn read_standing(row: &Row, first: usize, date: Date) -> Result<Standing, Error> {
    let (day, month): (i64, i64) = (get(row, first)?, get(row, first + 1)?);
    let of = |is_now: bool, column| match is_now {
        true => sum(row, column),
        false => Ok(Sum::default()),
    };
    Ok(Standing {
        day: of(day >= date.day, first + 2)?,
        month: of(month >= date.month, first + 4)?,
        total: sum(row, first + 6)?,
        held: sum(row, first + 8)?,
    })
}

fn which(period: &str, unit: &str) -> Result<(Period, Unit), Error> {
    Ok((
        Period::parse(period).ok_or_else(|| corrupt("budget", period))?,
        Unit::parse(unit).ok_or_else(|| corrupt("budget", unit))?,
    ))
}

fn account_of(row: &Row, first: usize) -> Result<Account, Error> {
    let (scope, subject): (&str, &str) = (get(row, first)?, get(row, first + 1)?);
    Account::of_row(scope, subject).ok_or_else(|| corrupt("account", subject))
}

/// The statements by which a book is written down.
pub(super) struct Write {
    make: Statement,
    shift: Statement,
    used: Statement,
    refuse: Statement,
}

impl Write {
    pub(super) async fn prepare(client: &Object) -> Result<Self, Error> {
        let [make, shift, used, refuse] = prepare(client, [MAKE, MOVE, USE, REFUSE]).await?;
        Ok(Self {
            make,
            shift,
            used,
            refuse,
        })
    }

    /// Ends the steps whose attempts were not admitted.
    pub(super) async fn refuse(
        &self,
        tx: &Tx<'_>,
        batch: &[Pending],
        refused: &[Option<Step>],
    ) -> Result<(), Error> {
        let (mut runs, mut keys) = (Vec::new(), Vec::new());
        let (mut attempts, mut recorded) = (Vec::new(), Vec::new());
        for (pending, step) in batch.iter().zip(refused) {
            let Some(step) = step else { continue };
            runs.push(pending.fence.run.0);
            keys.push(step.key.as_str());
            attempts.push(i64::from(step.attempt));
            recorded.push(step.recorded.as_ref().map(to_json));
        }
        if runs.is_empty() {
            return Ok(());
        }
        tx.execute(&self.refuse, &[&runs, &keys, &attempts, &recorded])
            .await
            .map(drop)
    }

    /// Writes down what a commit moved, but for the accounts of tasks. To be sent before anything else
    /// that others may wait for.
    pub(super) async fn write(&self, tx: &Tx<'_>, book: &Book) -> Result<(), Error> {
        let mut accounts = Accounts::default();
        let mut sums: [Vec<i64>; 4] = Default::default();
        for (tenant, account, moved) in book.others() {
            accounts.add(tenant, account);
            let spent = Sum::from(moved.spent);
            let row = [spent.usd, spent.tokens, moved.held.usd, moved.held.tokens];
            for (column, amount) in sums.iter_mut().zip(row) {
                column.push(amount);
            }
        }
        let mut spend = Spend::default();
        for (used, attempts, usage) in book.used() {
            spend.add(used, attempts, usage);
        }
        let Accounts {
            tenants,
            scopes,
            subjects,
        } = &accounts;
        let [usd, tokens, held_usd, held_tokens] = &sums;
        let Date { day, month } = &book.date;
        let made: Params<'_> = &[tenants, scopes, subjects];
        let moved: Params<'_> = &[
            tenants,
            scopes,
            subjects,
            usd,
            tokens,
            held_usd,
            held_tokens,
            day,
            month,
        ];
        let any = !accounts.is_empty();
        try_join!(
            async {
                if any {
                    tx.execute(&self.make, made).await
                } else {
                    Ok(0)
                }
            },
            async {
                if any {
                    tx.execute(&self.shift, moved).await
                } else {
                    Ok(0)
                }
            },
            spend.write(tx, &self.used, *day),
        )?;
        Ok(())
    }
}

/// Rows of `spend`, column by column.
#[derive(Default)]
struct Spend {
    texts: [Vec<String>; 5],
    counts: [Vec<i64>; 5],
}

impl Spend {
    fn add(&mut self, used: &ledger::Used, attempts: i64, usage: &Usage) {
        let texts = [
            used.tenant.as_str(),
            used.principal.as_str(),
            &used.agent,
            &used.what,
            &used.model,
        ];
        for (column, text) in self.texts.iter_mut().zip(texts) {
            column.push(clean(text).into_owned());
        }
        let counts = [
            attempts,
            usage.usd.nano(),
            usage.tokens_in as i64,
            usage.tokens_cached as i64,
            usage.tokens_out as i64,
        ];
        for (column, count) in self.counts.iter_mut().zip(counts) {
            column.push(count);
        }
    }

    async fn write(&self, tx: &Tx<'_>, statement: &Statement, day: i64) -> Result<u64, Error> {
        let [tenants, principals, agents, whats, models] = &self.texts;
        let [attempts, usd, tokens_in, cached, tokens_out] = &self.counts;
        if tenants.is_empty() {
            return Ok(0);
        }
        let columns: Params<'_> = &[
            tenants, principals, agents, whats, models, attempts, usd, tokens_in, cached,
            tokens_out, &day,
        ];
        tx.execute(statement, columns).await
    }
}

/// Enters the attempts that are under way in a task, or in one run of it, as lost: nobody will ever hear
/// of them again. Their steps keep the line in the journal. Whoever calls holds the task's row.
pub(super) async fn lose(
    tx: &Tx<'_>,
    book: &mut Book,
    task: TaskId,
    run: Option<RunId>,
) -> Result<(), Error> {
    let run = run.map(|run| run.0);
    for row in tx.ask(OPEN, &[&task.0, &run]).await? {
        let mut attempts: Vec<Attempt> = from_json("step", get(&row, 2)?)?;
        let open = Open {
            agent: get::<Option<&str>>(&row, 4)?.map(Into::into),
            what: get(&row, 5)?,
            model: get(&row, 6)?,
            reserved: from_json("step", get(&row, 3)?)?,
            begun_at: Timestamp(get(&row, 7)?),
        };
        let payer = Payer {
            tenant: &get::<&str>(&row, 8)?.into(),
            task,
            principal: &get::<&str>(&row, 9)?.into(),
        };
        attempts.push(book.lose(&payer, &open));
        let (of, key): (Uuid, &str) = (get(&row, 0)?, get(&row, 1)?);
        tx.ask(KEEP, &[&of, &key, &to_json(&attempts)]).await?;
    }
    Ok(())
}

const EXTRA: &str = "
insert into extra (tenant, ask, scope, subject, period, unit, time, amount, by, at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
const MORE_USD: &str =
    "update task set limit_usd = limit_usd + $3 where tenant = $1 and id = $2 returning 1";
const MORE_TOKENS: &str =
    "update task set limit_tokens = limit_tokens + $3 where tenant = $1 and id = $2 returning 1";

/// Raises limits by an ask. A task's limit is the task's own; where it has none there is nothing to raise.
/// Whoever calls holds the task's row.
pub(super) async fn raise(
    tx: &Tx<'_>,
    signal: &NewSignal,
    limits: &[(Which, i64)],
) -> Result<(), Error> {
    if limits.is_empty() {
        return Ok(());
    }
    let now = tx.ask(super::NOW, &[]).await?;
    let now: i64 = now.first().map_or(Ok(0), |row| get(row, 0))?;
    let ask = AskId::of(signal.run, &signal.name).0;
    let (tenant, by) = (signal.tenant.as_str(), clean(signal.by.as_str()));
    for (which, more) in limits {
        let (scope, subject) = which.account.as_row();
        let subject = clean(&subject);
        let (period, unit) = (which.period.as_str(), which.unit.as_str());
        let time = which.period.at(Date::of(Timestamp(now)));
        let row: Params<'_> = &[
            &tenant, &ask, &scope, &subject, &period, &unit, &time, more, &by, &now,
        ];
        tx.ask(EXTRA, row).await?;
        if let Account::Task(task) = &which.account {
            let update = match which.unit {
                Unit::Usd => MORE_USD,
                Unit::Tokens => MORE_TOKENS,
            };
            tx.ask(update, &[&tenant, &task.0, more]).await?;
        }
    }
    Ok(())
}

const ACCOUNTS: &str = "
select scope, subject, day, month, day_usd, day_tokens, month_usd, month_tokens, usd, tokens, held_usd,
       held_tokens, (select now_ms())
from account where tenant = $1 order by scope, subject";

const LIMITS: &str = "
select scope, subject, period, unit, amount, by, at from budget where tenant = $1
order by scope, subject, period, unit";

const RAISES: &str = "
select scope, subject, period, unit, amount, ask, by, at, time, (select now_ms()) from extra
where tenant = $1 and scope <> 'task' and not replaced
  and (period = 'total' or at > (select now_ms()) - 2764800000)
order by at, ask";

const SET: &str = "
with anew as (
  update extra set replaced = true
  where tenant = $1 and scope = $2 and subject = $3 and period = $4 and unit = $5 and not replaced)
insert into budget (tenant, scope, subject, period, unit, amount, by, at)
values ($1, $2, $3, $4, $5, $6, $7, now_ms())
on conflict (tenant, scope, subject, period, unit)
do update set amount = excluded.amount, by = excluded.by, at = excluded.at
returning 1";

const UNSET: &str = "
with anew as (
  update extra set replaced = true
  where tenant = $1 and scope = $2 and subject = $3 and period = $4 and unit = $5 and not replaced)
delete from budget where tenant = $1 and scope = $2 and subject = $3 and period = $4 and unit = $5
returning 1";

const SET_USD: &str = "update task set limit_usd = $3 where tenant = $1 and id = $2 returning 1";
const SET_TOKENS: &str =
    "update task set limit_tokens = $3 where tenant = $1 and id = $2 returning 1";

const THREADS: &str = "
select coalesce(thread, ''), count(*), sum(usd_nano)::bigint, sum(tokens_in)::bigint,
       sum(tokens_cached)::bigint, sum(tokens_out)::bigint
from task where tenant = $1 and created_at >= $2 group by 1";

const SPENT: &str = "
select day, principal, agent, what, model, attempts, usd, tokens_in, tokens_cached, tokens_out
from spend where tenant = $1 and day >= $2 order by day desc, principal, agent, what, model";

const FINISHED: &str = "
select r.agent, count(*), coalesce(sum((s.recorded->'usage'->>'usd')::bigint), 0)::bigint
from (select id, agent from run where tenant = $1 and agent is not null and state = 'done'
      order by id desc limit $2) r
join step s on s.run = r.id and s.kind in ('think', 'tool')
group by r.id, r.agent";

/// Locks a task that has not ended, as every writer does.
const LIVE: &str = "
select 1 from task where id = $1 and tenant = $2 and state not in ('done', 'failed', 'cancelled')
for no key update";
const ALERTED: &str = "
select 1 from event where task = $1 and body->>'event' = 'alert' and body->>'key' = $2";

#[async_trait]
impl Budgets for PostgresStore {
    fn plan(&self, plan: Plan) {
        self.planned.set(plan);
    }

    fn planned(&self) -> Arc<Plan> {
        self.planned.get()
    }

    async fn accounts(&self, tenant: &TenantId) -> Result<Vec<AccountRow>, Error> {
        let rows = self.app.ask(tenant, ACCOUNTS, &[&tenant.as_str()]).await?;
        let account = |row: &Row| {
            let date = Date::of(Timestamp(get(row, 12)?));
            Ok(AccountRow {
                account: account_of(row, 0)?,
                standing: read_standing(row, 2, date)?,
            })
        };
        rows.iter().map(account).collect()
    }

    async fn set_limits(&self, tenant: &TenantId) -> Result<Vec<Set>, Error> {
        let rows = self.app.ask(tenant, LIMITS, &[&tenant.as_str()]).await?;
        let limit = |row: &Row| {
            let (period, unit) = which(get(row, 2)?, get(row, 3)?)?;
            Ok(Set {
                which: Which {
                    account: account_of(row, 0)?,
                    period,
                    unit,
                },
                amount: get(row, 4)?,
                by: get::<&str>(row, 5)?.into(),
                at: Timestamp(get(row, 6)?),
            })
        };
        rows.iter().map(limit).collect()
    }

    async fn set_limit(&self, tenant: &TenantId, set: Set) -> Result<bool, Error> {
        let Which {
            account,
            period,
            unit,
        } = &set.which;
        let tenant = tenant.as_str();
        let done = match account {
            Account::Task(task) => {
                let update = match unit {
                    Unit::Usd => SET_USD,
                    Unit::Tokens => SET_TOKENS,
                };
                self.engine
                    .ask(update, &[&tenant, &task.0, &set.amount])
                    .await?
            }
            other => {
                let (scope, subject) = other.as_row();
                let (subject, by) = (clean(&subject), clean(set.by.as_str()));
                let (period, unit) = (period.as_str(), unit.as_str());
                self.engine
                    .ask(
                        SET,
                        &[&tenant, &scope, &subject, &period, &unit, &set.amount, &by],
                    )
                    .await?
            }
        };
        Ok(!done.is_empty())
    }

    async fn unset_limit(&self, tenant: &TenantId, which: &Which) -> Result<bool, Error> {
        let (scope, subject) = which.account.as_row();
        let (period, unit) = (which.period.as_str(), which.unit.as_str());
        let subject = clean(&subject);
        let unset = self
            .engine
            .ask(UNSET, &[&tenant.as_str(), &scope, &subject, &period, &unit])
            .await?;
        Ok(!unset.is_empty())
    }

    async fn raise(&self, signal: NewSignal, raising: Raising) -> Result<Delivered, Error> {
        crate::crash_point!("raise.before");
        let delivered = run::deliver(&self.engine, &signal, None, &raising).await?;
        let (delivered, on) = delivered.unwrap_or((Delivered::Unwanted, Vec::new()));
        crate::crash_point!("raise.after");
        self.answered(&on);
        Ok(delivered)
    }

    async fn raises(&self, tenant: &TenantId) -> Result<Vec<Raise>, Error> {
        let rows = self.app.ask(tenant, RAISES, &[&tenant.as_str()]).await?;
        let mut all = Vec::new();
        for row in &rows {
            let (period, unit) = which(get(row, 2)?, get(row, 3)?)?;
            let today = Date::of(Timestamp(get(row, 9)?));
            if period.at(today) != get::<i64>(row, 8)? {
                continue;
            }
            all.push(Raise {
                which: Which {
                    account: account_of(row, 0)?,
                    period,
                    unit,
                },
                amount: get(row, 4)?,
                ask: AskId(get(row, 5)?),
                by: get::<&str>(row, 6)?.into(),
                at: Timestamp(get(row, 7)?),
            });
        }
        Ok(all)
    }

    async fn spent_by_thread(
        &self,
        tenant: &TenantId,
        since: Timestamp,
    ) -> Result<Vec<(String, u64, Usage)>, Error> {
        let rows = self
            .app
            .ask(tenant, THREADS, &[&tenant.as_str(), &since.0])
            .await?;
        let thread = |row: &Row| {
            let count = get::<i64>(row, 1)?.max(0) as u64;
            Ok((get(row, 0)?, count, read_usage(row, 2)?))
        };
        rows.iter().map(thread).collect()
    }

    async fn finished(&self, tenant: &TenantId, limit: u32) -> Result<Vec<RunSpend>, Error> {
        let which: Params<'_> = &[&tenant.as_str(), &i64::from(limit)];
        let rows = self.app.ask(tenant, FINISHED, which).await?;
        let spend = |row: &Row| {
            Ok(RunSpend {
                agent: get::<&str>(row, 0)?.into(),
                steps: get::<i64>(row, 1)?.max(0) as u64,
                usd: Usd::from_nano(get(row, 2)?),
            })
        };
        rows.iter().map(spend).collect()
    }

    async fn alert(
        &self,
        tenant: &TenantId,
        (task, run): (TaskId, RunId),
        (key, words): (&str, &str),
    ) -> Result<bool, Error> {
        let client = self.engine.get().await?;
        let [live, alerted, told] = prepare(&client, [LIVE, ALERTED, event::INSERT]).await?;
        let tx = Tx::on(&client);
        tx.begin().await?;
        let is_live = !tx
            .query(&live, &[&task.0, &tenant.as_str()])
            .await?
            .is_empty();
        let key = clean(key).into_owned();
        if !is_live || !tx.query(&alerted, &[&task.0, &key]).await?.is_empty() {
            return Ok(false);
        }
        let new = event::New {
            task,
            run,
            tenant: tenant.clone(),
            event: Event::Alert {
                key,
                text: clean(words).into_owned(),
            },
        };
        let events = event::insert(&tx, &told, vec![new], self.engine.teller()).await?;
        tx.commit().await?;
        tx.done();
        self.bell.publish(events);
        Ok(true)
    }

    async fn spent_since(&self, tenant: &TenantId, day: i64) -> Result<Vec<SpendRow>, Error> {
        let rows = self
            .app
            .ask(tenant, SPENT, &[&tenant.as_str(), &day])
            .await?;
        rows.iter().map(read_spend).collect()
    }
}

fn read_spend(row: &Row) -> Result<SpendRow, Error> {
    Ok(SpendRow {
        day: get(row, 0)?,
        principal: get::<&str>(row, 1)?.into(),
        agent: get::<&str>(row, 2)?.into(),
        what: get(row, 3)?,
        model: get(row, 4)?,
        attempts: get::<i64>(row, 5)?.max(0) as u64,
        usage: read_usage(row, 6)?,
    })
}

fn read_usage(row: &Row, first: usize) -> Result<Usage, Error> {
    let count = |column: usize| Ok::<u64, Error>(get::<i64>(row, column)?.max(0) as u64);
    Ok(Usage {
        usd: Usd::from_nano(get(row, first)?),
        tokens_in: count(first + 1)?,
        tokens_cached: count(first + 2)?,
        tokens_out: count(first + 3)?,
        assumed: false,
    })
}
