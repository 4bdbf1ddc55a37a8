//! Tables `task` and `inbox`: what was asked, by whom, and what has become of it.

use std::collections::BTreeMap;

use rusqlite::types::Value as Bind;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::journal::Pending;
use super::{corrupt, event, from_json, ledger, maybe_text, parse, run, text, to_json};
use crate::budget::{Cap, Unit};
use crate::event::Event;
use crate::hash::Hash;
use crate::id::{RunId, StepKey, TaskId, TenantId};
use crate::money::{Usage, Usd};
use crate::run::Timestamp;
use crate::store::ledger::{Book, Moved};
use crate::store::{Accepted, Again, Census, Error, NewTask, Run, TaskEnd, TaskFilter};
use crate::task::{Origin, Phase, Task, TaskState};

/// The task that this message made before, where it did.
pub(super) fn known(tx: &Connection, task: &NewTask) -> Result<Option<Accepted>, Error> {
    let Some((key, body)) = &task.dedupe else {
        return Ok(None);
    };
    let found: Option<(String, String)> = tx
        .prepare_cached(
            "select task, body_hash from inbox where tenant = ?1 and sender = ?2 and key = ?3",
        )?
        .query_row(
            params![
                task.authority.tenant.as_str(),
                task.submitted_by.as_str(),
                key
            ],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((id, known)) = found else {
        return Ok(None);
    };
    let id: TaskId = parse("inbox", &id)?;
    let known: Hash = parse("inbox", &known)?;
    Ok(Some(if known == *body {
        Accepted::Known(id)
    } else {
        Accepted::Conflict(id)
    }))
}

/// Writes a task's row; `limit` is what it may use.
pub(super) fn insert(
    tx: &Connection,
    task: &NewTask,
    limit: Cap,
    now: Timestamp,
) -> Result<(), Error> {
    if let Some((key, body)) = &task.dedupe {
        tx.prepare_cached(
            "insert into inbox (tenant, sender, key, body_hash, task, at)
             values (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            task.authority.tenant.as_str(),
            task.submitted_by.as_str(),
            key,
            body.to_string(),
            task.id.to_string(),
            now.0
        ])?;
    }
    tx.prepare_cached(
        "insert into task (id, tenant, principal, submitted_by, agent, thread, request, state,
                           created_at, updated_at, limit_usd, limit_tokens)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'queued', ?8, ?8, ?9, ?10)",
    )?
    .execute(params![
        task.id.to_string(),
        task.authority.tenant.as_str(),
        task.authority.principal.as_str(),
        task.submitted_by.as_str(),
        task.request.agent.as_ref().map(|agent| agent.as_str()),
        &task.request.thread,
        to_json(&task.request),
        now.0,
        limit.of(Unit::Usd),
        limit.of(Unit::Tokens)
    ])?;
    Ok(())
}

/// Marks the tasks whose root runs were claimed as running. Tells what that means for each: a first
/// start, or going on where another worker left off.
pub(super) fn started(
    tx: &Connection,
    runs: &[Run],
    now: Timestamp,
) -> Result<Vec<event::New>, Error> {
    let mut told = Vec::new();
    for run in runs.iter().filter(|run| run.parent.is_none()) {
        let first = tx.prepare_cached("update task set state = 'running', updated_at = ?2 where id = ?1 and state = 'queued'")?.execute(params![run.task.to_string(), now.0])?;
        if first == 1 {
            told.push(event::New {
                task: run.task,
                run: run.id,
                tenant: run.authority.tenant.clone(),
                event: Event::State {
                    state: TaskState::Running,
                    reason: "a worker took it".into(),
                    agent: None,
                },
            });
        }
    }
    Ok(told)
}

const ADD_UP: &str = "
update task set
  tokens_in = tokens_in + ?2,
  tokens_cached = tokens_cached + ?3,
  tokens_out = tokens_out + ?4,
  usd_nano = usd_nano + ?5,
  phase = iif(state in ('done', 'failed', 'cancelled'), phase, coalesce(?6, phase)),
  state = case when state in ('done', 'failed', 'cancelled', 'paused') then state
               when ?7 = 'running' and exists (
                 select 1 from run r join step s on s.run = r.id
                 where r.task = task.id and r.state in ('queued', 'running', 'waiting')
                   and s.kind = 'signal' and s.state = 'begun') then 'awaiting_human'
               else coalesce(?7, state) end,
  updated_at = ?8, held_usd = max(held_usd + ?9, 0), held_tokens = max(held_tokens + ?10, 0)
where id = ?1";

/// What one commit changes about a task.
#[derive(Default)]
struct Delta {
    moved: Moved,
    phase: Option<Phase>,
    state: Option<TaskState>,
}

/// Carries what a commit moved and what its accepted entries told over to their tasks.
pub(super) fn add_up<'a>(
    tx: &Connection,
    accepted: impl Iterator<Item = &'a Pending>,
    book: &Book,
    now: Timestamp,
) -> Result<(), Error> {
    let mut deltas: BTreeMap<TaskId, Delta> = BTreeMap::new();
    for (task, moved) in book.tasks() {
        deltas.entry(task).or_default().moved = *moved;
    }
    for pending in accepted {
        let (phase, state) = delta_of(pending);
        if phase.is_none() && state.is_none() {
            continue;
        }
        let delta = deltas.entry(pending.entry.task).or_default();
        delta.phase = phase.or(delta.phase);
        delta.state = state.or(delta.state);
    }
    let mut statement = tx.prepare_cached(ADD_UP)?;
    for (task, delta) in deltas {
        statement.execute(params![
            task.to_string(),
            count(delta.moved.spent.tokens_in),
            count(delta.moved.spent.tokens_cached),
            count(delta.moved.spent.tokens_out),
            delta.moved.spent.usd.nano(),
            delta.phase.map(Phase::as_str),
            delta.state.map(TaskState::as_str),
            now.0,
            delta.moved.held.usd,
            delta.moved.held.tokens
        ])?;
    }
    Ok(())
}

/// A count as the database holds it.
fn count(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

fn delta_of(pending: &Pending) -> (Option<Phase>, Option<TaskState>) {
    let (mut phase, mut state) = (None, None);
    for event in &pending.entry.events {
        match event {
            Event::Phase { phase: new } => phase = Some(*new),
            Event::State {
                state: new,
                agent: None,
                ..
            } if !new.is_final() => state = Some(*new),
            _ => {}
        }
    }
    (phase, state)
}

/// Ends a task with its root run.
pub(super) fn end(
    tx: &Connection,
    task: TaskId,
    end: &TaskEnd,
    now: Timestamp,
) -> Result<(), Error> {
    tx.prepare_cached(
        "update task set state = ?2, answer = ?3, partial = ?4, error = ?5, phase = null,
                         updated_at = ?6
         where id = ?1 and state not in ('done', 'failed', 'cancelled')",
    )?
    .execute(params![
        task.to_string(),
        end.state.as_str(),
        &end.answer,
        &end.partial,
        &end.error,
        now.0
    ])?;
    Ok(())
}

/// Ends a task from outside. `None` where it had ended.
pub(super) fn cancel(
    tx: &Connection,
    (tenant, task): (&TenantId, TaskId),
    reason: &str,
    reached: Option<&str>,
    now: Timestamp,
) -> Result<Option<event::New>, Error> {
    let ended = tx
        .prepare_cached(
            "update task set state = 'cancelled', phase = null, partial = ?4, updated_at = ?2
         where id = ?1 and tenant = ?3 and state not in ('done', 'failed', 'cancelled')",
        )?
        .execute(params![task.to_string(), now.0, tenant.as_str(), reached])?;
    let told = event::stands(tenant, task, TaskState::Cancelled, reason);
    Ok((ended == 1).then_some(told))
}

/// Ends what is left of a task whose root run is over; what is under way counts as lost.
pub(super) fn end_rest(
    tx: &Connection,
    book: &mut Book,
    task: TaskId,
    now: Timestamp,
) -> Result<Vec<RunId>, Error> {
    ledger::lose(tx, book, task, None)?;
    run::cancel_all(tx, task, now)
}

/// Marks a task as paused. `None` where it was, or has ended.
pub(super) fn pause(
    tx: &Connection,
    tenant: &TenantId,
    task: TaskId,
    reason: &str,
    now: Timestamp,
) -> Result<Option<event::New>, Error> {
    let paused = tx
        .prepare_cached(
            "update task set state = 'paused', updated_at = ?2
         where id = ?1 and tenant = ?3 and state not in ('done', 'failed', 'cancelled', 'paused')",
        )?
        .execute(params![task.to_string(), now.0, tenant.as_str()])?;
    let told = event::stands(tenant, task, TaskState::Paused, reason);
    Ok((paused == 1).then_some(told))
}

/// Puts a paused task back to where it stood: by what its runs are at. `None` where it is not paused.
pub(super) fn resume(
    tx: &Connection,
    tenant: &TenantId,
    task: TaskId,
    reason: &str,
    now: Timestamp,
) -> Result<Option<event::New>, Error> {
    let state: Option<String> = tx
        .prepare_cached(
            "update task set updated_at = ?2, state = case
               when exists (select 1 from run r join step s on s.run = r.id
                            where r.task = ?1 and s.kind = 'signal' and s.state = 'begun')
                 then 'awaiting_human'
               when exists (select 1 from run r where r.task = ?1 and r.epoch > 0) then 'running'
               else 'queued'
             end
         where id = ?1 and tenant = ?3 and state = 'paused' returning state",
        )?
        .query_row(params![task.to_string(), now.0, tenant.as_str()], |row| {
            row.get(0)
        })
        .optional()?;
    let told = |name: String| {
        let state = TaskState::parse(&name).ok_or_else(|| corrupt("task", &name))?;
        Ok(event::stands(tenant, task, state, reason))
    };
    state.map(told).transpose()
}

/// Copies what was asked, for a retry (no `step`) or a fork: nothing is done yet.
pub(super) fn copy(
    tx: &Connection,
    again: &Again,
    step: Option<&StepKey>,
    now: Timestamp,
) -> Result<(), Error> {
    tx.prepare_cached(
        "insert into task (id, tenant, principal, submitted_by, agent, thread, request, state,
                           created_at, updated_at, origin, origin_step, limit_usd, limit_tokens)
         select ?2, tenant, principal, ?3, agent, thread, request, 'queued', ?4, ?4, id, ?5, limit_usd,
                limit_tokens
         from task where id = ?1",
    )?
    .execute(params![
        again.of.to_string(),
        again.id.to_string(),
        again.by.as_str(),
        now.0,
        step.map(StepKey::as_str)
    ])?;
    Ok(())
}

/// Adds to what a task has used.
pub(super) fn charge(tx: &Connection, task: TaskId, used: Usage) -> Result<(), Error> {
    tx.prepare_cached(
        "update task set tokens_in = tokens_in + ?2, tokens_cached = tokens_cached + ?3,
                         tokens_out = tokens_out + ?4, usd_nano = usd_nano + ?5
         where id = ?1",
    )?
    .execute(params![
        task.to_string(),
        used.tokens_in as i64,
        used.tokens_cached as i64,
        used.tokens_out as i64,
        used.usd.nano()
    ])?;
    Ok(())
}

const COLUMNS: &str = "id, tenant, principal, submitted_by, request, state, phase, answer, partial, error, tokens_in, tokens_cached, tokens_out, usd_nano, created_at, updated_at, origin, origin_step, pruned_at";

pub(super) fn one(
    conn: &Connection,
    tenant: &TenantId,
    task: TaskId,
) -> Result<Option<Task>, Error> {
    let select = format!("select {COLUMNS} from task where tenant = ?1 and id = ?2");
    conn.prepare_cached(&select)?
        .query_row(params![tenant.as_str(), task.to_string()], |row| {
            Ok(read(row))
        })
        .optional()?
        .transpose()
}

/// A query that grows condition by condition. What people gave is bound, never written into it.
struct Select {
    sql: String,
    binds: Vec<Bind>,
}

impl Select {
    fn and(&mut self, condition: &str, values: impl IntoIterator<Item = String>) {
        self.sql.push_str(" and ");
        self.sql.push_str(condition);
        self.binds.extend(values.into_iter().map(Bind::Text));
    }

    fn and_some(&mut self, condition: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.and(condition, [value.to_string()]);
        }
    }
}

pub(super) fn list(
    conn: &Connection,
    tenant: &TenantId,
    filter: &TaskFilter,
) -> Result<Vec<Task>, Error> {
    let mut select = Select {
        sql: format!("select {COLUMNS} from task where tenant = ?"),
        binds: vec![Bind::Text(tenant.to_string())],
    };
    if let Some(principals) = &filter.principals {
        let marks = vec!["?"; principals.len()].join(", ");
        let names = principals.iter().map(ToString::to_string);
        select.and(&format!("principal in ({marks})"), names);
    }
    if let Some(viewer) = &filter.visible_to {
        let viewer = viewer.to_string();
        select.and(
            "(principal = ? or submitted_by = ?)",
            [viewer.clone(), viewer],
        );
    }
    select.and_some("thread = ?", filter.thread.as_ref());
    select.and_some("agent = ?", filter.agent.as_ref());
    select.and_some("state = ?", filter.state.map(|state| state.as_str()));
    for (key, value) in &filter.metadata {
        select.and(
            "exists (select 1 from json_each(request, '$.metadata') m where m.key = ? and m.value = ?)",
            [key.clone(), value.clone()],
        );
    }
    select.and_some("id < ?", filter.before);
    select.sql.push_str(" order by id desc limit ?");
    select.binds.push(Bind::Integer(filter.limit.into()));
    conn.prepare_cached(&select.sql)?
        .query_map(params_from_iter(select.binds), |row| Ok(read(row)))?
        .map(|row| row?)
        .collect()
}

fn read(row: &Row<'_>) -> Result<Task, Error> {
    let state = text(row, 5)?;
    let phase = maybe_text(row, 6)?;
    let count = |column: usize| Ok::<u64, Error>(row.get::<_, i64>(column)?.max(0) as u64);
    Ok(Task {
        id: parse("task", text(row, 0)?)?,
        tenant: text(row, 1)?.into(),
        principal: text(row, 2)?.into(),
        submitted_by: text(row, 3)?.into(),
        request: from_json("task", text(row, 4)?)?,
        state: TaskState::parse(state).ok_or_else(|| corrupt("task", state))?,
        phase: phase.and_then(Phase::parse),
        answer: row.get(7)?,
        partial: row.get(8)?,
        error: row.get(9)?,
        usage: Usage {
            tokens_in: count(10)?,
            tokens_cached: count(11)?,
            tokens_out: count(12)?,
            usd: Usd::from_nano(row.get(13)?),
            assumed: false,
        },
        created_at: Timestamp(row.get(14)?),
        updated_at: Timestamp(row.get(15)?),
        origin: match maybe_text(row, 16)? {
            Some(task) => Some(Origin {
                task: parse("task", task)?,
                step: maybe_text(row, 17)?.map(Into::into),
            }),
            None => None,
        },
        pruned_at: row.get::<_, Option<i64>>(18)?.map(Timestamp),
    })
}

/// How many tasks and runs there are of each state.
pub(super) fn census(conn: &Connection, now: Timestamp) -> Result<Census, Error> {
    let count = |sql: &str| -> Result<BTreeMap<String, i64>, Error> {
        let mut statement = conn.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    let one = |sql: &str| -> Result<i64, Error> {
        Ok(conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
    };
    let oldest: Option<i64> = conn
        .prepare_cached("select min(updated_at) from run where state = 'queued'")?
        .query_row([], |row| row.get(0))?;
    Ok(Census {
        tasks: count("select state, count(*) from task group by state")?,
        runs: count(
            "select state, count(*) from run where state in ('queued', 'running', 'waiting')
             group by state",
        )?,
        queue_age_ms: oldest.map_or(0, |at| (now.0 - at).max(0)),
        workers: one("select count(*) from worker where state = 'live'")?,
        dead: one("select count(*) from run where state = 'dead'")?,
        in_doubt: one(
            "select count(*) from run r join step s on s.run = r.id
             where r.state in ('queued', 'running', 'waiting')
               and s.state = 'begun' and s.kind = 'signal' and substr(s.key, 1, 16) = 'signal/in_doubt/'",
        )?,
    })
}
