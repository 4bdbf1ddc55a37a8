//! Tables `run`, `worker` and `signal`: who works on what, and what wakes whom.

use serde_json::Value;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row, SqliteConnection};

use super::{corrupt, from_json, parse, to_json};
use crate::id::{RunId, SignalName, StepKey, TaskId, WorkerId};
use crate::run::Timestamp;
use crate::store::{Delivered, Error, Fence, NewRun, NewSignal, NewTask, Run, RunState};

/// The program of a task's root run.
const ROOT_KIND: &str = "task@1";

/// Registers a worker and queues again what all others were running: the folder's lock says that
/// none of them lives.
pub(super) async fn register(
    tx: &mut SqliteConnection,
    worker: WorkerId,
    now: Timestamp,
) -> Result<u64, Error> {
    sqlx::query("update worker set state = 'gone' where state = 'live'")
        .execute(&mut *tx)
        .await?;
    sqlx::query("insert into worker (id, state, started_at) values (?1, 'live', ?2)")
        .bind(worker.to_string())
        .bind(now.0)
        .execute(&mut *tx)
        .await?;
    let orphans = sqlx::query(
        "update run set state = 'queued', owner = null, updated_at = ?1 where state = 'running'",
    )
    .bind(now.0)
    .execute(tx)
    .await?;
    Ok(orphans.rows_affected())
}

pub(super) async fn insert_root(
    tx: &mut SqliteConnection,
    task: &NewTask,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "insert into run (id, task, tenant, principal, kind, agent, input, catalog, authority, state,
                          created_at, updated_at)
         values (?1, ?1, ?2, ?3, ?4, null, ?5, ?6, ?7, 'queued', ?8, ?8)",
    )
    .bind(task.id.to_string())
    .bind(task.authority.tenant.as_str())
    .bind(task.authority.principal.as_str())
    .bind(ROOT_KIND)
    .bind(to_json(&task.request))
    .bind(task.catalog.to_string())
    .bind(to_json(&task.authority))
    .bind(now.0)
    .execute(tx)
    .await?;
    Ok(())
}

/// Makes a child that runs at once in its parent's worker. All that it may do, it has from its
/// parent.
pub(super) async fn insert_child(
    tx: &mut SqliteConnection,
    fence: Fence,
    key: &StepKey,
    new: &NewRun,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "insert into run (id, task, parent, parent_key, tenant, principal, kind, agent, input, catalog,
                          authority, state, owner, epoch, priority, created_at, updated_at)
         select ?1, p.task, p.id, ?3, p.tenant, p.principal, ?4, ?5, ?6, p.catalog, p.authority,
                'running', p.owner, 1, p.priority, ?7, ?7
         from run p where p.id = ?2",
    )
    .bind(new.id.to_string())
    .bind(fence.run.to_string())
    .bind(key.as_str())
    .bind(new.kind)
    .bind(new.agent.as_str())
    .bind(new.input.to_string())
    .bind(now.0)
    .execute(tx)
    .await?;
    Ok(())
}

/// Whether a claim would bring anything, and when the next waiting run wakes by itself. Spares the
/// writer a look.
pub(super) async fn due(
    pool: &SqlitePool,
    now: Timestamp,
) -> Result<(bool, Option<Timestamp>), Error> {
    let row = sqlx::query(
        "select exists (select 1 from run where state = 'queued'),
                (select min(wake_at) from run where state = 'waiting' and wake_at is not null)",
    )
    .fetch_one(pool)
    .await?;
    let queued: bool = row.try_get(0)?;
    let next = row.try_get::<Option<i64>, _>(1)?.map(Timestamp);
    Ok((queued || next.is_some_and(|at| at <= now), next))
}

const COLUMNS: &str = "id, task, parent, parent_key, kind, agent, input, catalog, authority, state, epoch, wakes, created_at";

/// Takes due runs, those furthest down a tree first: their parents wait for them.
pub(super) async fn claim(
    tx: &mut SqliteConnection,
    worker: WorkerId,
    limit: u32,
    now: Timestamp,
) -> Result<Vec<Run>, Error> {
    sqlx::query(
        "update run set state = 'queued', wake_at = null, updated_at = ?1
         where state = 'waiting' and wake_at <= ?1",
    )
    .bind(now.0)
    .execute(&mut *tx)
    .await?;
    let claim = format!(
        "update run set state = 'running', owner = ?1, epoch = epoch + 1, updated_at = ?3
         where id in (select id from run where state = 'queued'
                      order by priority desc, parent is null, id limit ?2)
         returning {COLUMNS}"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(claim))
        .bind(worker.to_string())
        .bind(limit)
        .bind(now.0)
        .fetch_all(tx)
        .await?;
    rows.iter().map(read).collect()
}

/// Takes a run out of memory. Refused when it is no longer ours.
pub(super) async fn park(
    tx: &mut SqliteConnection,
    fence: Fence,
    heard: i64,
    wake_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<bool, Error> {
    let parked = sqlx::query(
        "update run set state = case when wakes = ?4 then 'waiting' else 'queued' end,
                        owner = null, wake_at = ?5, updated_at = ?6
         where id = ?1 and owner = ?2 and epoch = ?3 and state = 'running'",
    )
    .bind(fence.run.to_string())
    .bind(fence.worker.to_string())
    .bind(fence.epoch)
    .bind(heard)
    .bind(wake_at.map(|at| at.0))
    .bind(now.0)
    .execute(tx)
    .await?;
    Ok(parked.rows_affected() == 1)
}

/// Hands a run back to the queue.
pub(super) async fn release(
    tx: &mut SqliteConnection,
    fence: Fence,
    now: Timestamp,
) -> Result<bool, Error> {
    let released = sqlx::query(
        "update run set state = 'queued', owner = null, updated_at = ?4
         where id = ?1 and owner = ?2 and epoch = ?3 and state = 'running'",
    )
    .bind(fence.run.to_string())
    .bind(fence.worker.to_string())
    .bind(fence.epoch)
    .bind(now.0)
    .execute(tx)
    .await?;
    Ok(released.rows_affected() == 1)
}

/// Ends a run.
pub(super) async fn end(
    tx: &mut SqliteConnection,
    fence: Fence,
    state: RunState,
    now: Timestamp,
) -> Result<bool, Error> {
    let ended = sqlx::query(
        "update run set state = ?4, owner = null, wake_at = null, updated_at = ?5
         where id = ?1 and owner = ?2 and epoch = ?3 and state = 'running'",
    )
    .bind(fence.run.to_string())
    .bind(fence.worker.to_string())
    .bind(fence.epoch)
    .bind(state.as_str())
    .bind(now.0)
    .execute(tx)
    .await?;
    Ok(ended.rows_affected() == 1)
}

/// Something came that this run may wait for: counted, and queued where it is out of memory. Returns
/// whether it is in the queue now.
pub(super) async fn wake(
    tx: &mut SqliteConnection,
    run: RunId,
    now: Timestamp,
) -> Result<bool, Error> {
    let state: Option<String> = sqlx::query_scalar(
        "update run set wakes = wakes + 1, updated_at = ?2,
                        wake_at = case state when 'waiting' then null else wake_at end,
                        state = case state when 'waiting' then 'queued' else state end
         where id = ?1 and state in ('queued', 'running', 'waiting')
         returning state",
    )
    .bind(run.to_string())
    .bind(now.0)
    .fetch_optional(tx)
    .await?;
    Ok(state.as_deref() == Some("queued"))
}

/// Delivers an answer: only where the run's step waits for it, and only the first.
pub(super) async fn deliver(
    tx: &mut SqliteConnection,
    signal: &NewSignal,
    now: Timestamp,
) -> Result<Delivered, Error> {
    let inserted = sqlx::query(
        "insert into signal (run, name, tenant, payload, by, at)
         select r.id, ?2, r.tenant, ?3, ?4, ?5 from run r
         join step s on s.run = r.id and s.key = 'signal/' || ?2 and s.state = 'begun'
         where r.id = ?1 and r.state in ('queued', 'running', 'waiting')
           and (s.deadline is null or s.deadline > ?5)
         on conflict do nothing",
    )
    .bind(signal.run.to_string())
    .bind(signal.name.as_str())
    .bind(signal.payload.to_string())
    .bind(signal.by.as_str())
    .bind(now.0)
    .execute(&mut *tx)
    .await?;
    if inserted.rows_affected() == 1 {
        wake(tx, signal.run, now).await?;
        return Ok(Delivered::First);
    }
    let answered: i64 =
        sqlx::query_scalar("select exists (select 1 from signal where run = ?1 and name = ?2)")
            .bind(signal.run.to_string())
            .bind(signal.name.as_str())
            .fetch_one(tx)
            .await?;
    Ok(if answered != 0 {
        Delivered::Answered
    } else {
        Delivered::Unwanted
    })
}

/// The answer that a run was given.
pub(super) async fn signal(
    pool: &SqlitePool,
    run: RunId,
    name: &SignalName,
) -> Result<Option<Value>, Error> {
    let payload: Option<String> =
        sqlx::query_scalar("select payload from signal where run = ?1 and name = ?2")
            .bind(run.to_string())
            .bind(name.as_str())
            .fetch_optional(pool)
            .await?;
    payload.map(|text| from_json("signal", &text)).transpose()
}

/// Ends all runs of a task that have not ended; the answer names them.
pub(super) async fn cancel_all(
    tx: &mut SqliteConnection,
    task: TaskId,
    now: Timestamp,
) -> Result<Vec<RunId>, Error> {
    let ended: Vec<String> = sqlx::query_scalar(
        "update run set state = 'cancelled', owner = null, wake_at = null, updated_at = ?2
         where task = ?1 and state in ('queued', 'running', 'waiting') returning id",
    )
    .bind(task.to_string())
    .bind(now.0)
    .fetch_all(tx)
    .await?;
    ended.iter().map(|id| parse("run", id)).collect()
}

pub(super) async fn one(pool: &SqlitePool, run: RunId) -> Result<Option<Run>, Error> {
    let select = format!("select {COLUMNS} from run where id = ?1");
    let row = sqlx::query(sqlx::AssertSqlSafe(select))
        .bind(run.to_string())
        .fetch_optional(pool)
        .await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn of_task(pool: &SqlitePool, task: TaskId) -> Result<Vec<Run>, Error> {
    let select = format!(
        "select {COLUMNS} from run where task = ?1 order by parent is not null, created_at, id"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(select))
        .bind(task.to_string())
        .fetch_all(pool)
        .await?;
    rows.iter().map(read).collect()
}

fn read(row: &SqliteRow) -> Result<Run, Error> {
    let parent: Option<&str> = row.try_get(2)?;
    let parent_key: Option<&str> = row.try_get(3)?;
    let state: &str = row.try_get(9)?;
    Ok(Run {
        id: parse("run", row.try_get(0)?)?,
        task: parse("run", row.try_get(1)?)?,
        parent: match parent.zip(parent_key) {
            Some((run, key)) => Some((parse("run", run)?, StepKey::from(key))),
            None => None,
        },
        kind: row.try_get(4)?,
        agent: row.try_get::<Option<&str>, _>(5)?.map(Into::into),
        input: from_json("run", row.try_get(6)?)?,
        catalog: parse("run", row.try_get(7)?)?,
        authority: from_json("run", row.try_get(8)?)?,
        state: RunState::parse(state).ok_or_else(|| corrupt("run", state))?,
        epoch: row.try_get(10)?,
        wakes: row.try_get(11)?,
        created_at: Timestamp(row.try_get(12)?),
    })
}
