//! Tables `task` and `inbox`: what was asked, by whom, and what has become of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};

use super::journal::Pending;
use super::{corrupt, event, from_json, parse, to_json};
use crate::event::Event;
use crate::hash::Hash;
use crate::id::{TaskId, TenantId};
use crate::money::{Usage, Usd};
use crate::run::Timestamp;
use crate::store::{Accepted, Census, Change, Error, NewTask, Run, TaskEnd, TaskFilter};
use crate::task::{Phase, Task, TaskState};

/// The task that this message made before, where it did.
pub(super) async fn known(
    tx: &mut SqliteConnection,
    task: &NewTask,
) -> Result<Option<Accepted>, Error> {
    let Some((key, body)) = &task.dedupe else {
        return Ok(None);
    };
    let row = sqlx::query(
        "select task, body_hash from inbox where tenant = ?1 and sender = ?2 and key = ?3",
    )
    .bind(task.authority.tenant.as_str())
    .bind(task.submitted_by.as_str())
    .bind(key)
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let id: TaskId = parse("inbox", row.try_get(0)?)?;
    let known: Hash = parse("inbox", row.try_get(1)?)?;
    Ok(Some(if known == *body {
        Accepted::Known(id)
    } else {
        Accepted::Conflict(id)
    }))
}

pub(super) async fn insert(
    tx: &mut SqliteConnection,
    task: &NewTask,
    now: Timestamp,
) -> Result<(), Error> {
    if let Some((key, body)) = &task.dedupe {
        sqlx::query(
            "insert into inbox (tenant, sender, key, body_hash, task, at)
             values (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(task.authority.tenant.as_str())
        .bind(task.submitted_by.as_str())
        .bind(key)
        .bind(body.to_string())
        .bind(task.id.to_string())
        .bind(now.0)
        .execute(&mut *tx)
        .await?;
    }
    sqlx::query(
        "insert into task (id, tenant, principal, submitted_by, agent, thread, request, state,
                           created_at, updated_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'queued', ?8, ?8)",
    )
    .bind(task.id.to_string())
    .bind(task.authority.tenant.as_str())
    .bind(task.authority.principal.as_str())
    .bind(task.submitted_by.as_str())
    .bind(task.request.agent.as_ref().map(|agent| agent.as_str()))
    .bind(&task.request.thread)
    .bind(to_json(&task.request))
    .bind(now.0)
    .execute(tx)
    .await?;
    Ok(())
}

/// Marks the tasks whose root runs were claimed as running. Tells what that means for each: a first
/// start, or going on where another worker left off.
pub(super) async fn started(
    tx: &mut SqliteConnection,
    runs: &[Run],
    now: Timestamp,
) -> Result<Vec<event::New>, Error> {
    let mut told = Vec::new();
    for run in runs.iter().filter(|run| run.parent.is_none()) {
        let first = sqlx::query(
            "update task set state = 'running', updated_at = ?2 where id = ?1 and state = 'queued'",
        )
        .bind(run.task.to_string())
        .bind(now.0)
        .execute(&mut *tx)
        .await?;
        if first.rows_affected() == 1 {
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
  tokens_in = tokens_in + (j.value->>'tokens_in'),
  tokens_cached = tokens_cached + (j.value->>'tokens_cached'),
  tokens_out = tokens_out + (j.value->>'tokens_out'),
  usd_nano = usd_nano + (j.value->>'usd'),
  phase = coalesce(j.value->>'phase', phase),
  state = coalesce(j.value->>'state', state),
  updated_at = ?2
from json_each(?1) j
where task.id = j.value->>'task' and task.state not in ('done', 'failed', 'cancelled')";

/// What one commit changes about a task.
#[derive(Default)]
struct Delta {
    usage: Usage,
    phase: Option<Phase>,
    state: Option<TaskState>,
}

/// Carries what the accepted entries of a commit used and told over to their tasks.
pub(super) async fn add_up<'a>(
    tx: &mut SqliteConnection,
    accepted: impl Iterator<Item = &'a Pending>,
    now: Timestamp,
) -> Result<(), Error> {
    let mut deltas: BTreeMap<TaskId, Delta> = BTreeMap::new();
    for pending in accepted {
        let (usage, phase, state) = delta_of(pending);
        if usage == Usage::default() && phase.is_none() && state.is_none() {
            continue;
        }
        let delta = deltas.entry(pending.entry.task).or_default();
        delta.usage += usage;
        delta.phase = phase.or(delta.phase);
        delta.state = state.or(delta.state);
    }
    if deltas.is_empty() {
        return Ok(());
    }
    let rows: Vec<Value> = deltas
        .iter()
        .map(|(task, delta)| {
            json!({
                "task": task,
                "tokens_in": delta.usage.tokens_in,
                "tokens_cached": delta.usage.tokens_cached,
                "tokens_out": delta.usage.tokens_out,
                "usd": delta.usage.usd,
                "phase": delta.phase,
                "state": delta.state,
            })
        })
        .collect();
    sqlx::query(ADD_UP)
        .bind(Value::Array(rows).to_string())
        .bind(now.0)
        .execute(tx)
        .await?;
    Ok(())
}

fn delta_of(pending: &Pending) -> (Usage, Option<Phase>, Option<TaskState>) {
    let usage = match &pending.entry.change {
        Change::Step { step, .. } => step.recorded.as_ref().map(|recorded| recorded.usage),
        _ => None,
    };
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
    (usage.unwrap_or_default(), phase, state)
}

/// Ends a task with its root run.
pub(super) async fn end(
    tx: &mut SqliteConnection,
    task: TaskId,
    end: &TaskEnd,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "update task set state = ?2, answer = ?3, partial = ?4, error = ?5, phase = null,
                         updated_at = ?6
         where id = ?1 and state not in ('done', 'failed', 'cancelled')",
    )
    .bind(task.to_string())
    .bind(end.state.as_str())
    .bind(&end.answer)
    .bind(&end.partial)
    .bind(&end.error)
    .bind(now.0)
    .execute(tx)
    .await?;
    Ok(())
}

/// Ends a task from outside. `None` where it had ended.
pub(super) async fn cancel(
    tx: &mut SqliteConnection,
    task: TaskId,
    reason: &str,
    now: Timestamp,
) -> Result<Option<event::New>, Error> {
    let tenant: Option<String> = sqlx::query_scalar(
        "update task set state = 'cancelled', phase = null, updated_at = ?2
         where id = ?1 and state not in ('done', 'failed', 'cancelled') returning tenant",
    )
    .bind(task.to_string())
    .bind(now.0)
    .fetch_optional(tx)
    .await?;
    Ok(tenant.map(|tenant| event::New {
        task,
        run: task.into(),
        tenant: tenant.into(),
        event: Event::State {
            state: TaskState::Cancelled,
            reason: reason.into(),
            agent: None,
        },
    }))
}

const COLUMNS: &str = "id, tenant, principal, submitted_by, request, state, phase, answer, partial, error, tokens_in, tokens_cached, tokens_out, usd_nano, created_at, updated_at";

pub(super) async fn one(
    pool: &SqlitePool,
    tenant: &TenantId,
    task: TaskId,
) -> Result<Option<Task>, Error> {
    let mut query = select(tenant);
    query.push(" and id = ").push_bind(task.to_string());
    let row = query.build().fetch_optional(pool).await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn list(
    pool: &SqlitePool,
    tenant: &TenantId,
    filter: &TaskFilter,
) -> Result<Vec<Task>, Error> {
    let mut query = select(tenant);
    if let Some(principals) = &filter.principals {
        query.push(" and principal in (");
        let mut names = query.separated(", ");
        for principal in principals {
            names.push_bind(principal.as_str().to_owned());
        }
        query.push(")");
    }
    if let Some(viewer) = &filter.visible_to {
        query
            .push(" and (principal = ")
            .push_bind(viewer.as_str().to_owned())
            .push(" or submitted_by = ")
            .push_bind(viewer.as_str().to_owned())
            .push(")");
    }
    if let Some(thread) = &filter.thread {
        query.push(" and thread = ").push_bind(thread.clone());
    }
    if let Some(agent) = &filter.agent {
        query
            .push(" and agent = ")
            .push_bind(agent.as_str().to_owned());
    }
    if let Some(state) = filter.state {
        query.push(" and state = ").push_bind(state.as_str());
    }
    for (key, value) in &filter.metadata {
        query
            .push(" and exists (select 1 from json_each(request, '$.metadata') m where m.key = ")
            .push_bind(key.clone())
            .push(" and m.value = ")
            .push_bind(value.clone())
            .push(")");
    }
    if let Some(before) = filter.before {
        query.push(" and id < ").push_bind(before.to_string());
    }
    query
        .push(" order by id desc limit ")
        .push_bind(filter.limit);
    let rows = query.build().fetch_all(pool).await?;
    rows.iter().map(read).collect()
}

fn select(tenant: &TenantId) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("select ");
    query
        .push(COLUMNS)
        .push(" from task where tenant = ")
        .push_bind(tenant.as_str().to_owned());
    query
}

fn read(row: &SqliteRow) -> Result<Task, Error> {
    let state: &str = row.try_get(5)?;
    let phase: Option<&str> = row.try_get(6)?;
    let count = |column: usize| Ok::<u64, Error>(row.try_get::<i64, _>(column)?.max(0) as u64);
    Ok(Task {
        id: parse("task", row.try_get(0)?)?,
        tenant: row.try_get::<&str, _>(1)?.into(),
        principal: row.try_get::<&str, _>(2)?.into(),
        submitted_by: row.try_get::<&str, _>(3)?.into(),
        request: from_json("task", row.try_get(4)?)?,
        state: TaskState::parse(state).ok_or_else(|| corrupt("task", state))?,
        phase: phase.and_then(Phase::parse),
        answer: row.try_get(7)?,
        partial: row.try_get(8)?,
        error: row.try_get(9)?,
        usage: Usage {
            tokens_in: count(10)?,
            tokens_cached: count(11)?,
            tokens_out: count(12)?,
            usd: Usd::from_nano(row.try_get(13)?),
            assumed: false,
        },
        created_at: Timestamp(row.try_get(14)?),
        updated_at: Timestamp(row.try_get(15)?),
    })
}

/// How many tasks and runs there are of each state.
pub(super) async fn census(pool: &SqlitePool, now: Timestamp) -> Result<Census, Error> {
    let tasks = sqlx::query_as("select state, count(*) from task group by state")
        .fetch_all(pool)
        .await?;
    let runs = sqlx::query_as(
        "select state, count(*) from run where state in ('queued', 'running', 'waiting')
         group by state",
    )
    .fetch_all(pool)
    .await?;
    let oldest: Option<i64> =
        sqlx::query_scalar("select min(updated_at) from run where state = 'queued'")
            .fetch_one(pool)
            .await?;
    Ok(Census {
        tasks: tasks.into_iter().collect(),
        runs: runs.into_iter().collect(),
        queue_age_ms: oldest.map_or(0, |at| (now.0 - at).max(0)),
    })
}
