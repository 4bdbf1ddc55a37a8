//! Tables `account`, `budget`, `extra` and `spend`: what is spent and held, what may be, what people added to
//! that for now, and what was used on each day. A task's own account stands in its row.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{SqliteStore, ask, corrupt, event, from_json, maybe_text, parse, run, text, to_json};
use crate::budget::{Account, Date, Period, Plan, Raise, Set, Standing, Sum, Unit, Which};
use crate::clock;
use crate::event::Event;
use crate::id::{AgentName, AskId, RunId, StepKey, TaskId, TenantId};
use crate::money::{Usage, Usd};
use crate::run::{Attempt, Timestamp};
use crate::store::ledger::{Book, Booked, Open, Own, Payer};
use crate::store::{AccountRow, Budgets, Delivered, Error, NewSignal, Raising, RunSpend, SpendRow};

/// What the row of a step that is under way has booked; nothing where there is none.
pub(super) fn booked(tx: &Connection, run: RunId, key: &StepKey) -> Result<Booked, Error> {
    let row = tx
        .prepare_cached(
            "select attempt, attempts, reserved from step where run = ?1 and key = ?2 and state = 'begun'",
        )?
        .query_row(params![run.to_string(), key.as_str()], |row| {
            Ok(read_booked(row))
        })
        .optional()?;
    row.unwrap_or_else(|| Ok(Booked::default()))
}

fn read_booked(row: &Row<'_>) -> Result<Booked, Error> {
    let attempts: Vec<Attempt> = from_json("step", text(row, 1)?)?;
    let reserved = maybe_text(row, 2)?;
    let reserved = reserved.map(|text| from_json("step", text)).transpose()?;
    Ok(Booked::begun(row.get(0)?, &attempts, reserved))
}

/// Has the book know how those stand who pay for what an agent does, as far as it does not yet.
pub(super) fn know(
    tx: &Connection,
    book: &mut Book,
    payer: &Payer<'_>,
    agent: Option<&AgentName>,
) -> Result<(), Error> {
    for account in payer.accounts(agent) {
        if book.knows(payer.tenant, &account) {
            continue;
        }
        let (standing, own) = match &account {
            Account::Task(task) => of_task(tx, *task)?,
            other => (
                standing(tx, payer.tenant, other, book.date)?,
                own(tx, payer.tenant, other, book.date)?,
            ),
        };
        book.know((payer.tenant, account), standing, &own);
    }
    Ok(())
}

fn of_task(tx: &Connection, task: TaskId) -> Result<(Standing, Own), Error> {
    let row = tx
        .prepare_cached(
            "select usd_nano, tokens_in + tokens_out, held_usd, held_tokens, limit_usd, limit_tokens
             from task where id = ?1",
        )?
        .query_row([task.to_string()], |row| {
            let spent = sum(row, 0)?;
            let standing = Standing {
                day: spent,
                month: spent,
                total: spent,
                held: sum(row, 2)?,
            };
            let (usd, tokens): (Option<i64>, Option<i64>) = (row.get(4)?, row.get(5)?);
            let limit = |unit, amount: Option<i64>| amount.map(|n| (Period::Total, unit, Some(n)));
            let own = [limit(Unit::Usd, usd), limit(Unit::Tokens, tokens)];
            let own = Own {
                set: own.into_iter().flatten().collect(),
                extra: Vec::new(),
            };
            Ok((standing, own))
        })
        .optional()?;
    Ok(row.unwrap_or_default())
}

fn sum(row: &Row<'_>, column: usize) -> rusqlite::Result<Sum> {
    Ok(Sum {
        usd: row.get(column)?,
        tokens: row.get(column + 1)?,
    })
}

const STANDING: &str =
    "day, month, day_usd, day_tokens, month_usd, month_tokens, usd, tokens, held_usd, held_tokens";

fn standing(
    tx: &Connection,
    tenant: &TenantId,
    account: &Account,
    date: Date,
) -> Result<Standing, Error> {
    let (scope, subject) = account.as_row();
    let select =
        format!("select {STANDING} from account where tenant = ?1 and scope = ?2 and subject = ?3");
    let row = tx
        .prepare_cached(&select)?
        .query_row(params![tenant.as_str(), scope, subject], |row| {
            read_standing(row, 0, date)
        })
        .optional()?;
    Ok(row.unwrap_or_default())
}

/// Sums of a day or a month that is over count for nothing.
fn read_standing(row: &Row<'_>, first: usize, date: Date) -> rusqlite::Result<Standing> {
    let (day, month): (i64, i64) = (row.get(first)?, row.get(first + 1)?);
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

/// What counts of `extra` on a day and in a month.
const COUNTS: &str =
    "replaced = 0 and (period, time) in (values ('day', ?2), ('month', ?3), ('total', 0))";

fn own(tx: &Connection, tenant: &TenantId, account: &Account, date: Date) -> Result<Own, Error> {
    let (scope, subject) = account.as_row();
    let select = format!(
        "select period, unit, amount, 0 from budget where tenant = ?1 and scope = ?4 and subject = ?5
         union all
         select period, unit, amount, 1 from extra
         where tenant = ?1 and scope = ?4 and subject = ?5 and {COUNTS}"
    );
    let mut statement = tx.prepare_cached(&select)?;
    let of = params![tenant.as_str(), date.day, date.month, scope, subject];
    let mut rows = statement.query(of)?;
    let mut own = Own::default();
    while let Some(row) = rows.next()? {
        let (period, unit) = which(text(row, 0)?, text(row, 1)?)?;
        match row.get(3)? {
            true => own.extra.push((period, unit, row.get(2)?)),
            false => own.set.push((period, unit, row.get(2)?)),
        }
    }
    Ok(own)
}

/// Raises limits by an ask. A task's limit is the task's own; where it has none there is nothing to raise.
fn raise(
    tx: &Connection,
    signal: &NewSignal,
    limits: &[(Which, i64)],
    now: Timestamp,
) -> Result<(), Error> {
    let ask = AskId::of(signal.run, &signal.name).to_string();
    let mut keep = tx.prepare_cached(
        "insert into extra (tenant, ask, scope, subject, period, unit, time, amount, by, at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for (which, more) in limits {
        let (scope, subject) = which.account.as_row();
        keep.execute(params![
            signal.tenant.as_str(),
            ask,
            scope,
            subject,
            which.period.as_str(),
            which.unit.as_str(),
            which.period.at(Date::of(now)),
            more,
            signal.by.as_str(),
            now.0
        ])?;
        if let Account::Task(task) = &which.account {
            let column = of_unit(which.unit);
            let update =
                format!("update task set {column} = {column} + ?3 where tenant = ?1 and id = ?2");
            tx.prepare_cached(&update)?.execute(params![
                signal.tenant.as_str(),
                task.to_string(),
                more
            ])?;
        }
    }
    Ok(())
}

/// Delivers an answer, with what it raises and to all who wait because of the same. Who goes on by it.
fn go_on(
    tx: &Connection,
    signal: &NewSignal,
    raising: &Raising,
    now: Timestamp,
) -> Result<(Delivered, Vec<RunId>), Error> {
    let delivered = run::deliver(tx, signal, now)?;
    if delivered != Delivered::First {
        return Ok((delivered, Vec::new()));
    }
    raise(tx, signal, &raising.limits, now)?;
    let mut on = vec![signal.run];
    let alike = match &raising.cause {
        Some(cause) => ask::waiting_for(tx, &signal.tenant, cause)?,
        None => Vec::new(),
    };
    for (run, name) in alike {
        let other = NewSignal {
            run,
            name,
            ..signal.clone()
        };
        if run::deliver(tx, &other, now)? == Delivered::First {
            on.push(run);
        }
    }
    Ok((delivered, on))
}

fn which(period: &str, unit: &str) -> Result<(Period, Unit), Error> {
    Ok((
        Period::parse(period).ok_or_else(|| corrupt("budget", period))?,
        Unit::parse(unit).ok_or_else(|| corrupt("budget", unit))?,
    ))
}

/// A day or a month that is over begins anew; a clock that goes back changes nothing.
const MOVE: &str = "
insert into account as a (tenant, scope, subject, day, month, day_usd, day_tokens, month_usd,
                          month_tokens, usd, tokens, held_usd, held_tokens)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?6, ?7, ?6, ?7, max(?8, 0), max(?9, 0))
on conflict (tenant, scope, subject) do update set
  day = max(a.day, ?4), month = max(a.month, ?5),
  day_usd = iif(?4 > a.day, 0, a.day_usd) + ?6, day_tokens = iif(?4 > a.day, 0, a.day_tokens) + ?7,
  month_usd = iif(?5 > a.month, 0, a.month_usd) + ?6,
  month_tokens = iif(?5 > a.month, 0, a.month_tokens) + ?7,
  usd = a.usd + ?6, tokens = a.tokens + ?7,
  held_usd = max(a.held_usd + ?8, 0), held_tokens = max(a.held_tokens + ?9, 0)";

const USE: &str = "
insert into spend as s (tenant, day, principal, agent, what, model, attempts, usd, tokens_in,
                        tokens_cached, tokens_out)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
on conflict (tenant, day, principal, agent, what, model) do update set
  attempts = s.attempts + ?7, usd = s.usd + ?8, tokens_in = s.tokens_in + ?9,
  tokens_cached = s.tokens_cached + ?10, tokens_out = s.tokens_out + ?11";

/// Writes down what a commit moved, but for the accounts of tasks.
pub(super) fn write(tx: &Connection, book: &Book) -> Result<(), Error> {
    let mut statement = tx.prepare_cached(MOVE)?;
    for (tenant, account, moved) in book.others() {
        let (scope, subject) = account.as_row();
        let spent = Sum::from(moved.spent);
        statement.execute(params![
            tenant.as_str(),
            scope,
            subject,
            book.date.day,
            book.date.month,
            spent.usd,
            spent.tokens,
            moved.held.usd,
            moved.held.tokens
        ])?;
    }
    let mut statement = tx.prepare_cached(USE)?;
    for (used, attempts, usage) in book.used() {
        statement.execute(params![
            used.tenant.as_str(),
            book.date.day,
            used.principal.as_str(),
            used.agent,
            used.what,
            used.model,
            attempts,
            usage.usd.nano(),
            usage.tokens_in as i64,
            usage.tokens_cached as i64,
            usage.tokens_out as i64
        ])?;
    }
    Ok(())
}

/// Enters the attempts that are under way in a task, or in one run of it, as lost: nobody will ever hear
/// of them again. Their steps keep the line in the journal.
pub(super) fn lose(
    tx: &Connection,
    book: &mut Book,
    task: TaskId,
    run: Option<RunId>,
) -> Result<(), Error> {
    let mut statement = tx.prepare_cached(
        "select s.run, s.key, s.attempts, s.reserved, s.agent, s.what, s.model, s.begun_at, r.tenant,
                r.principal
         from step s join run r on r.id = s.run
         where r.task = ?1 and (?2 is null or r.id = ?2) and s.state = 'begun' and s.reserved is not null
           and s.attempt > json_array_length(s.attempts)",
    )?;
    let mut rows = statement.query(params![task.to_string(), run.map(|run| run.to_string())])?;
    let mut lost: Vec<(String, String, String)> = Vec::new();
    while let Some(row) = rows.next()? {
        let mut attempts: Vec<Attempt> = from_json("step", text(row, 2)?)?;
        let open = Open {
            agent: maybe_text(row, 4)?.map(Into::into),
            what: row.get(5)?,
            model: row.get(6)?,
            reserved: from_json("step", text(row, 3)?)?,
            begun_at: Timestamp(row.get(7)?),
        };
        let payer = Payer {
            tenant: &text(row, 8)?.into(),
            task,
            principal: &text(row, 9)?.into(),
        };
        attempts.push(book.lose(&payer, &open));
        lost.push((row.get(0)?, row.get(1)?, to_json(&attempts)));
    }
    let mut keep =
        tx.prepare_cached("update step set attempts = ?3 where run = ?1 and key = ?2")?;
    for (run, key, attempts) in lost {
        keep.execute([run, key, attempts])?;
    }
    Ok(())
}

#[async_trait]
impl Budgets for SqliteStore {
    fn plan(&self, plan: Plan) {
        self.planned.set(plan);
    }

    fn planned(&self) -> Arc<Plan> {
        self.planned.get()
    }

    async fn accounts(&self, tenant: &TenantId) -> Result<Vec<AccountRow>, Error> {
        let (tenant, date) = (tenant.clone(), Date::of(clock::now()));
        self.read_long(move |conn| {
            let select = format!(
                "select scope, subject, {STANDING} from account where tenant = ?1 order by scope, subject"
            );
            let mut statement = conn.prepare_cached(&select)?;
            let mut rows = statement.query([tenant.as_str()])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let standing = read_standing(row, 2, date)?;
                let account = account_of(row, 0)?;
                all.push(AccountRow { account, standing });
            }
            Ok(all)
        })
        .await
    }

    async fn set_limits(&self, tenant: &TenantId) -> Result<Vec<Set>, Error> {
        self.read(|conn| {
            let mut statement = conn.prepare_cached(
                "select scope, subject, period, unit, amount, by, at from budget where tenant = ?1
                 order by scope, subject, period, unit",
            )?;
            let mut rows = statement.query([tenant.as_str()])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let (period, unit) = which(text(row, 2)?, text(row, 3)?)?;
                all.push(Set {
                    which: Which {
                        account: account_of(row, 0)?,
                        period,
                        unit,
                    },
                    amount: row.get(4)?,
                    by: text(row, 5)?.into(),
                    at: Timestamp(row.get(6)?),
                });
            }
            Ok(all)
        })
    }

    async fn set_limit(&self, tenant: &TenantId, set: Set) -> Result<bool, Error> {
        let tenant = tenant.clone();
        self.write(move |tx| {
            let Which {
                account,
                period,
                unit,
            } = &set.which;
            if let Account::Task(task) = account {
                return set_task(tx, &tenant, *task, *unit, set.amount);
            }
            let (scope, subject) = account.as_row();
            replace(tx, &tenant, &set.which)?;
            tx.prepare_cached(
                "insert into budget (tenant, scope, subject, period, unit, amount, by, at)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 on conflict do update set amount = excluded.amount, by = excluded.by, at = excluded.at",
            )?
            .execute(params![
                tenant.as_str(),
                scope,
                subject,
                period.as_str(),
                unit.as_str(),
                set.amount,
                set.by.as_str(),
                clock::now().0
            ])?;
            Ok(true)
        })
        .await
    }

    async fn unset_limit(&self, tenant: &TenantId, which: &Which) -> Result<bool, Error> {
        let (tenant, which) = (tenant.clone(), which.clone());
        self.write(move |tx| {
            replace(tx, &tenant, &which)?;
            let (scope, subject) = which.account.as_row();
            let unset = tx
                .prepare_cached(
                    "delete from budget where tenant = ?1 and scope = ?2 and subject = ?3
                       and period = ?4 and unit = ?5",
                )?
                .execute(params![
                    tenant.as_str(),
                    scope,
                    subject,
                    which.period.as_str(),
                    which.unit.as_str()
                ])?;
            Ok(unset == 1)
        })
        .await
    }

    async fn raise(&self, signal: NewSignal, raising: Raising) -> Result<Delivered, Error> {
        let (delivered, on) = self
            .write(move |tx| {
                crate::crash_point!("raise.before");
                go_on(tx, &signal, &raising, clock::now())
            })
            .await?;
        crate::crash_point!("raise.after");
        self.answered(&on);
        Ok(delivered)
    }

    async fn raises(&self, tenant: &TenantId) -> Result<Vec<Raise>, Error> {
        let date = Date::of(clock::now());
        self.read(|conn| {
            let select = format!(
                "select scope, subject, period, unit, amount, ask, by, at from extra
                 where tenant = ?1 and scope <> 'task' and {COUNTS} order by at, ask"
            );
            let mut statement = conn.prepare_cached(&select)?;
            let mut rows = statement.query(params![tenant.as_str(), date.day, date.month])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let (period, unit) = which(text(row, 2)?, text(row, 3)?)?;
                all.push(Raise {
                    which: Which {
                        account: account_of(row, 0)?,
                        period,
                        unit,
                    },
                    amount: row.get(4)?,
                    ask: parse("extra", text(row, 5)?)?,
                    by: text(row, 6)?.into(),
                    at: Timestamp(row.get(7)?),
                });
            }
            Ok(all)
        })
    }

    async fn spent_by_thread(
        &self,
        tenant: &TenantId,
        since: Timestamp,
    ) -> Result<Vec<(String, u64, Usage)>, Error> {
        let tenant = tenant.clone();
        self.read_long(move |conn| {
            let mut statement = conn.prepare_cached(
                "select coalesce(thread, ''), count(*), sum(usd_nano), sum(tokens_in), sum(tokens_cached),
                        sum(tokens_out)
                 from task where tenant = ?1 and created_at >= ?2 group by 1",
            )?;
            let mut rows = statement.query(params![tenant.as_str(), since.0])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let count = row.get::<_, i64>(1)?.max(0) as u64;
                all.push((row.get(0)?, count, read_usage(row, 2)?));
            }
            Ok(all)
        })
        .await
    }

    async fn finished(&self, tenant: &TenantId, limit: u32) -> Result<Vec<RunSpend>, Error> {
        let tenant = tenant.clone();
        self.read_long(move |conn| {
            let mut statement = conn.prepare_cached(
                "select r.agent, count(*), coalesce(sum(json_extract(s.recorded, '$.usage.usd')), 0)
                 from (select id, agent from run
                       where tenant = ?1 and agent is not null and state = 'done'
                       order by id desc limit ?2) r
                 join step s on s.run = r.id and s.kind in ('think', 'tool')
                 group by r.id, r.agent",
            )?;
            let mut rows = statement.query(params![tenant.as_str(), limit])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                all.push(RunSpend {
                    agent: text(row, 0)?.into(),
                    steps: row.get::<_, i64>(1)?.max(0) as u64,
                    usd: Usd::from_nano(row.get(2)?),
                });
            }
            Ok(all)
        })
        .await
    }

    async fn alert(
        &self,
        tenant: &TenantId,
        (task, run): (TaskId, RunId),
        (key, words): (&str, &str),
    ) -> Result<bool, Error> {
        let (tenant, key, words) = (tenant.clone(), key.to_owned(), words.to_owned());
        let events = self
            .write(move |tx| {
                let wanted: bool = tx
                    .prepare_cached(
                        "select exists (select 1 from task where id = ?1 and tenant = ?2
                                          and state not in ('done', 'failed', 'cancelled'))
                           and not exists (select 1 from event
                                           where task = ?1 and json_extract(body, '$.event') = 'alert'
                                             and json_extract(body, '$.key') = ?3)",
                    )?
                    .query_row(params![task.to_string(), tenant.as_str(), key], |row| {
                        row.get(0)
                    })?;
                let told = event::New {
                    task,
                    run,
                    tenant,
                    event: Event::Alert { key, text: words },
                };
                let told = wanted.then_some(told);
                event::insert(tx, Vec::from_iter(told), clock::now())
            })
            .await?;
        let is_told = !events.is_empty();
        self.bell.publish(events);
        Ok(is_told)
    }

    async fn spent_since(&self, tenant: &TenantId, day: i64) -> Result<Vec<SpendRow>, Error> {
        let tenant = tenant.clone();
        self.read_long(move |conn| {
            let mut statement = conn.prepare_cached(
                "select day, principal, agent, what, model, attempts, usd, tokens_in, tokens_cached,
                        tokens_out
                 from spend where tenant = ?1 and day >= ?2
                 order by day desc, principal, agent, what, model",
            )?;
            let mut rows = statement.query(params![tenant.as_str(), day])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                all.push(read_spend(row)?);
            }
            Ok(all)
        })
        .await
    }
}

/// What was added to a limit no longer counts: somebody says anew how much it is.
fn replace(tx: &Connection, tenant: &TenantId, which: &Which) -> Result<(), Error> {
    let (scope, subject) = which.account.as_row();
    tx.prepare_cached(
        "update extra set replaced = 1 where tenant = ?1 and scope = ?2 and subject = ?3
           and period = ?4 and unit = ?5 and replaced = 0",
    )?
    .execute(params![
        tenant.as_str(),
        scope,
        subject,
        which.period.as_str(),
        which.unit.as_str()
    ])?;
    Ok(())
}

fn account_of(row: &Row<'_>, first: usize) -> Result<Account, Error> {
    let (scope, subject) = (text(row, first)?, text(row, first + 1)?);
    Account::of_row(scope, subject).ok_or_else(|| corrupt("account", subject))
}

/// The column of a task's limit.
fn of_unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Usd => "limit_usd",
        Unit::Tokens => "limit_tokens",
    }
}

fn set_task(
    tx: &Connection,
    tenant: &TenantId,
    task: TaskId,
    unit: Unit,
    amount: Option<i64>,
) -> Result<bool, Error> {
    let column = of_unit(unit);
    let update = format!("update task set {column} = ?3 where tenant = ?1 and id = ?2");
    let set =
        tx.prepare_cached(&update)?
            .execute(params![tenant.as_str(), task.to_string(), amount])?;
    Ok(set == 1)
}

fn read_spend(row: &Row<'_>) -> Result<SpendRow, Error> {
    Ok(SpendRow {
        day: row.get(0)?,
        principal: text(row, 1)?.into(),
        agent: text(row, 2)?.into(),
        what: row.get(3)?,
        model: row.get(4)?,
        attempts: row.get::<_, i64>(5)?.max(0) as u64,
        usage: read_usage(row, 6)?,
    })
}

fn read_usage(row: &Row<'_>, first: usize) -> Result<Usage, Error> {
    let count = |column: usize| Ok::<u64, Error>(row.get::<_, i64>(column)?.max(0) as u64);
    Ok(Usage {
        usd: Usd::from_nano(row.get(first)?),
        tokens_in: count(first + 1)?,
        tokens_cached: count(first + 2)?,
        tokens_out: count(first + 3)?,
        assumed: false,
    })
}
