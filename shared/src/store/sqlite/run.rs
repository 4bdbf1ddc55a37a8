//! Tables `run`, `worker` and `signal`: who works on what, and what wakes whom.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::halt::FREE;
use super::{corrupt, from_json, maybe_text, parse, text, to_json};
use crate::id::{PrincipalId, RunId, SignalName, StepKey, TaskId, TenantId, WorkerId};
use crate::label::Authority;
use crate::run::Timestamp;
use crate::store::{
    DeadRun, Delivered, Error, Fence, NewRun, NewSignal, Run, RunState, SUSPECT, shares,
};

/// A death counts where the run was not merely waiting. Progress begins the count anew ([`survive`]).
const ORPHANS: &str = "
update run set
  state = 'queued', owner = null, updated_at = ?1,
  deaths = deaths + not exists (select 1 from step s where s.run = run.id and s.state = 'begun'
                                and s.kind in ('child', 'signal', 'sleep'))
where state = 'running'";

/// Registers a worker and queues again what all others were running: the folder's lock says that
/// none of them lives.
pub(super) fn register(tx: &Connection, worker: WorkerId, now: Timestamp) -> Result<u64, Error> {
    tx.prepare_cached("update worker set state = 'gone' where state = 'live'")?
        .execute(params![])?;
    tx.prepare_cached("insert into worker (id, state, started_at) values (?1, 'live', ?2)")?
        .execute(params![worker.to_string(), now.0])?;
    let orphans = tx.prepare_cached(ORPHANS)?.execute(params![now.0])?;
    Ok(orphans as u64)
}

/// Whether this worker is the one that holds the folder.
pub(super) fn is_live(conn: &Connection, worker: WorkerId) -> Result<bool, Error> {
    let live = conn
        .prepare_cached("select exists (select 1 from worker where id = ?1 and state = 'live')")?
        .query_row([worker.to_string()], |row| row.get(0))?;
    Ok(live)
}

/// Makes a task's root run: queued, or in the hands of the worker that takes it in.
pub(super) fn insert_root(
    tx: &Connection,
    root: &Run,
    (worker, priority): (Option<WorkerId>, i16),
) -> Result<(), Error> {
    tx.prepare_cached(
        "insert into run (id, task, tenant, principal, kind, input, catalog, authority, state, owner,
                          epoch, created_at, updated_at, priority)
         values (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, ?12)",
    )?
    .execute(params![
        root.id.to_string(),
        root.authority.tenant.as_str(),
        root.authority.principal.as_str(),
        root.kind,
        root.input.to_string(),
        root.catalog.to_string(),
        to_json(&root.authority),
        root.state.as_str(),
        worker.map(|worker| worker.to_string()),
        root.epoch,
        root.created_at.0,
        priority
    ])?;
    Ok(())
}

/// Makes a child that runs at once in its parent's worker. All that it may do, it has from its
/// parent.
pub(super) fn insert_child(
    tx: &Connection,
    fence: Fence,
    key: &StepKey,
    new: &NewRun,
    now: Timestamp,
) -> Result<(), Error> {
    tx.prepare_cached("insert into run (id, task, parent, parent_key, tenant, principal, kind, agent, input, catalog,
                          authority, state, owner, epoch, priority, held, created_at, updated_at)
         select ?1, p.task, p.id, ?3, p.tenant, p.principal, ?4, ?5, ?6, p.catalog, p.authority,
                'running', p.owner, 1, p.priority, p.held, ?7, ?7
         from run p where p.id = ?2")?.execute(params![new.id.to_string(), fence.run.to_string(), key.as_str(), new.kind, new.agent.as_str(), new.input.to_string(), now.0])?;
    Ok(())
}

/// Whether a claim would bring anything, and when the next waiting run wakes by itself. Spares the
/// writer a look.
pub(super) fn due(conn: &Connection, now: Timestamp) -> Result<(bool, Option<Timestamp>), Error> {
    let (queued, next): (bool, Option<i64>) = conn
        .prepare_cached(&format!(
            "select exists (select 1 from run where state = 'queued' and held = 0 and {FREE}),
                    (select min(wake_at) from run where state = 'waiting' and wake_at is not null)"
        ))?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let next = next.map(Timestamp);
    Ok((queued || next.is_some_and(|at| at <= now), next))
}

const COLUMNS: &str = "id, task, parent, parent_key, kind, agent, input, catalog, authority, state, epoch, wakes, deaths, created_at";

/// The suspect whose turn it is, while this worker has no other.
fn next_suspect() -> String {
    format!(
        "select id from run
         where state = 'queued' and held = 0 and deaths >= 2 and {FREE}
           and not exists (select 1 from run o where o.owner = ?1 and o.state = 'running' and o.deaths >= 2)
         order by priority desc, parent is null, id limit 1"
    )
}

/// Those whose runs wait, one after the other by the index that holds them.
fn parties() -> String {
    format!(
        "with recursive p (party) as (
           select min(tenant || '/' || principal) from run
           where state = 'queued' and held = 0 and {FREE}
           union all
           select (select min(tenant || '/' || principal) from run
                   where state = 'queued' and held = 0 and {FREE}
                     and tenant || '/' || principal > p.party)
           from p where p.party is not null)
         select party from p where party is not null"
    )
}

/// Takes due runs. Where several people's wait, they take turns ([`shares`]); of
/// one's own the highest priority goes first, and those furthest down a tree, because their parents wait
/// for them. Of those that may be what kills ([`SUSPECT`]), one at a time.
pub(super) fn claim(
    tx: &Connection,
    worker: WorkerId,
    limit: u32,
    now: Timestamp,
) -> Result<Vec<Run>, Error> {
    tx.prepare_cached(
        "update run set state = 'queued', wake_at = null, updated_at = ?1
         where state = 'waiting' and wake_at <= ?1",
    )?
    .execute(params![now.0])?;
    let parties: Vec<String> = tx
        .prepare_cached(&parties())?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut claimed = Vec::new();
    for (party, share) in shares(&parties, limit) {
        let left = limit - claimed.len() as u32;
        if left == 0 {
            break;
        }
        claimed.extend(claim_of(tx, worker, party, share.min(left), now)?);
    }
    Ok(claimed)
}

fn claim_of(
    tx: &Connection,
    worker: WorkerId,
    party: &str,
    limit: u32,
    now: Timestamp,
) -> Result<Vec<Run>, Error> {
    let claim = format!(
        "update run set state = 'running', owner = ?1, epoch = epoch + 1, updated_at = ?3
         where id in (select id from run
                      where state = 'queued' and held = 0 and {FREE}
                        and tenant || '/' || principal = ?4
                        and (deaths < {SUSPECT} or id = ({}))
                      order by priority desc, parent is null, id limit ?2)
         returning {COLUMNS}",
        next_suspect()
    );
    let mut statement = tx.prepare_cached(&claim)?;
    let rows = statement.query_map(params![worker.to_string(), limit, now.0, party], |row| {
        Ok(read(row))
    })?;
    rows.map(|row| row?).collect()
}

/// A run that had died got on: its deaths are forgotten.
pub(super) fn survive(tx: &Connection, run: RunId) -> Result<(), Error> {
    tx.prepare_cached("update run set deaths = 0 where id = ?1")?
        .execute([run.to_string()])?;
    Ok(())
}

/// Takes a run out of memory. Refused when it is no longer ours.
pub(super) fn park(
    tx: &Connection,
    fence: Fence,
    heard: i64,
    wake_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<bool, Error> {
    let parked = tx
        .prepare_cached(
            "update run set state = case when wakes = ?4 then 'waiting' else 'queued' end,
                        owner = null, wake_at = ?5, updated_at = ?6
         where id = ?1 and owner = ?2 and epoch = ?3 and state = 'running'",
        )?
        .execute(params![
            fence.run.to_string(),
            fence.worker.to_string(),
            fence.epoch,
            heard,
            wake_at.map(|at| at.0),
            now.0
        ])?;
    Ok(parked == 1)
}

/// Hands a run back to the queue.
pub(super) fn release(tx: &Connection, fence: Fence, now: Timestamp) -> Result<bool, Error> {
    let released = tx
        .prepare_cached(
            "update run set state = 'queued', owner = null, updated_at = ?4
         where id = ?1 and owner = ?2 and epoch = ?3 and state = 'running'",
        )?
        .execute(params![
            fence.run.to_string(),
            fence.worker.to_string(),
            fence.epoch,
            now.0
        ])?;
    Ok(released == 1)
}

/// Ends a run.
pub(super) fn end(
    tx: &Connection,
    fence: Fence,
    state: RunState,
    now: Timestamp,
) -> Result<bool, Error> {
    let ended = tx
        .prepare_cached(
            "update run set state = ?4, owner = null, wake_at = null, updated_at = ?5
         where id = ?1 and owner = ?2 and epoch = ?3 and state = 'running'",
        )?
        .execute(params![
            fence.run.to_string(),
            fence.worker.to_string(),
            fence.epoch,
            state.as_str(),
            now.0
        ])?;
    Ok(ended == 1)
}

/// Something came that this run may wait for: counted, and queued where it is out of memory. Returns
/// whether it is in the queue now.
pub(super) fn wake(tx: &Connection, run: RunId, now: Timestamp) -> Result<bool, Error> {
    let state: Option<String> = tx
        .prepare_cached(
            "update run set wakes = wakes + 1, updated_at = ?2,
                        wake_at = case state when 'waiting' then null else wake_at end,
                        state = case state when 'waiting' then 'queued' else state end
         where id = ?1 and state in ('queued', 'running', 'waiting')
         returning state",
        )?
        .query_row(params![run.to_string(), now.0], |row| row.get(0))
        .optional()?;
    Ok(state.as_deref() == Some("queued"))
}

/// Delivers an answer: only where the run's step waits for it, and only the first.
pub(super) fn deliver(
    tx: &Connection,
    signal: &NewSignal,
    now: Timestamp,
) -> Result<Delivered, Error> {
    let inserted = tx
        .prepare_cached(
            "insert into signal (run, name, tenant, payload, by, at)
         select r.id, ?2, r.tenant, ?3, ?4, ?5 from run r
         join step s on s.run = r.id and s.key = 'signal/' || ?2 and s.state = 'begun'
         where r.id = ?1 and r.tenant = ?6 and r.state in ('queued', 'running', 'waiting')
           and (s.deadline is null or s.deadline > ?5)
         on conflict do nothing",
        )?
        .execute(params![
            signal.run.to_string(),
            signal.name.as_str(),
            signal.payload.to_string(),
            signal.by.as_str(),
            now.0,
            signal.tenant.as_str()
        ])?;
    if inserted == 1 {
        wake(tx, signal.run, now)?;
        return Ok(Delivered::First);
    }
    let answered: bool = tx
        .prepare_cached(
            "select exists (select 1 from signal where run = ?1 and name = ?2 and tenant = ?3)",
        )?
        .query_row(
            params![
                signal.run.to_string(),
                signal.name.as_str(),
                signal.tenant.as_str()
            ],
            |row| row.get(0),
        )?;
    Ok(if answered {
        Delivered::Answered
    } else {
        Delivered::Unwanted
    })
}

/// The answer that a run was given.
pub(super) fn signal(
    conn: &Connection,
    tenant: &TenantId,
    run: RunId,
    name: &SignalName,
) -> Result<Option<Value>, Error> {
    let payload: Option<String> = conn
        .prepare_cached("select payload from signal where run = ?1 and name = ?2 and tenant = ?3")?
        .query_row(
            params![run.to_string(), name.as_str(), tenant.as_str()],
            |row| row.get(0),
        )
        .optional()?;
    payload.map(|text| from_json("signal", &text)).transpose()
}

/// Ends all runs of a task that have not ended; the answer names them.
pub(super) fn cancel_all(
    tx: &Connection,
    task: TaskId,
    now: Timestamp,
) -> Result<Vec<RunId>, Error> {
    let mut statement = tx.prepare_cached(
        "update run set state = 'cancelled', owner = null, wake_at = null, updated_at = ?2
         where task = ?1 and state in ('queued', 'running', 'waiting') returning id",
    )?;
    let ended = statement.query_map(params![task.to_string(), now.0], |row| {
        row.get::<_, String>(0)
    })?;
    ended.map(|id| parse("run", &id?)).collect()
}

/// Holds all runs of a task, or lets them go.
pub(super) fn hold_all(tx: &Connection, task: TaskId, held: bool) -> Result<(), Error> {
    tx.prepare_cached(
        "update run set held = ?2
         where task = ?1 and state in ('queued', 'running', 'waiting')",
    )?
    .execute(params![task.to_string(), held])?;
    Ok(())
}

/// The runs of a task whose journal was pruned.
pub(super) fn pruned(conn: &Connection, task: TaskId) -> Result<Vec<RunId>, Error> {
    conn.prepare_cached("select id from run where task = ?1 and pruned_at is not null")?
        .query_map([task.to_string()], |row| row.get::<_, String>(0))?
        .map(|id| parse("run", &id?))
        .collect()
}

/// Copies a root run for a retry or a fork: queued, in no worker's hands. One with a journal has an
/// epoch behind it: whoever claims a run for the first time takes it to have none.
pub(super) fn copy_root(
    tx: &Connection,
    (old, new): (RunId, TaskId),
    (authority, epoch): (&Authority, i64),
    now: Timestamp,
) -> Result<(), Error> {
    tx.prepare_cached(
        "insert into run (id, task, tenant, principal, kind, input, catalog, authority, state, epoch,
                          priority, created_at, updated_at)
         select ?2, ?2, tenant, principal, kind, input, catalog, ?3, 'queued', ?5, priority, ?4, ?4
         from run where id = ?1",
    )?
    .execute(params![
        old.to_string(),
        new.to_string(),
        to_json(authority),
        now.0,
        epoch
    ])?;
    Ok(())
}

/// Copies a child run that has ended, as it is.
pub(super) fn copy_child(
    tx: &Connection,
    (old, new): (RunId, RunId),
    parent: RunId,
    task: TaskId,
) -> Result<(), Error> {
    tx.prepare_cached(
        "insert into run (id, task, parent, parent_key, tenant, principal, kind, agent, input, catalog,
                          authority, state, epoch, wakes, priority, taint, created_at, updated_at)
         select ?2, ?4, ?3, parent_key, tenant, principal, kind, agent, input, catalog, authority,
                state, epoch, wakes, priority, taint, created_at, updated_at
         from run where id = ?1",
    )?
    .execute(params![
        old.to_string(),
        new.to_string(),
        parent.to_string(),
        task.to_string()
    ])?;
    Ok(())
}

/// Copies the answers that copied steps wait for.
pub(super) fn copy_signals(tx: &Connection, (old, new): (RunId, RunId)) -> Result<(), Error> {
    tx.prepare_cached(
        "insert into signal (run, name, tenant, payload, by, at)
         select ?2, g.name, g.tenant, g.payload, g.by, g.at from signal g
         join step s on s.run = ?2 and s.key = 'signal/' || g.name
         where g.run = ?1",
    )?
    .execute(params![old.to_string(), new.to_string()])?;
    Ok(())
}

/// Runs that cannot be run any more, the last one first.
pub(super) fn dead(
    conn: &Connection,
    tenant: &TenantId,
    visible_to: Option<&PrincipalId>,
    limit: u32,
) -> Result<Vec<DeadRun>, Error> {
    let mut statement = conn.prepare_cached(
        "select r.id, r.task, r.kind, r.agent, r.updated_at,
                coalesce(case when r.parent is null then t.error
                              else json_extract(coalesce(p.recorded, c.body), '$.outcome.failed.message') end,
                         t.error, ''),
                (select s.key from step s where s.run = r.id order by s.state, s.seq desc limit 1)
         from run r join task t on t.id = r.task
         left join step p on p.run = r.parent and p.key = r.parent_key
         left join content c on c.tenant = p.tenant and c.hash = p.artefact
         where r.state = 'dead' and r.tenant = ?1
           and (?2 is null or t.principal = ?2 or t.submitted_by = ?2)
         order by r.updated_at desc, r.id limit ?3",
    )?;
    let mut rows = statement.query(params![
        tenant.as_str(),
        visible_to.map(PrincipalId::as_str),
        limit
    ])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(DeadRun {
            run: parse("run", text(row, 0)?)?,
            task: parse("run", text(row, 1)?)?,
            kind: row.get(2)?,
            agent: maybe_text(row, 3)?.map(Into::into),
            at: Timestamp(row.get(4)?),
            why: row.get(5)?,
            step: maybe_text(row, 6)?.map(Into::into),
        });
    }
    Ok(found)
}

pub(super) fn one(conn: &Connection, tenant: &TenantId, run: RunId) -> Result<Option<Run>, Error> {
    conn.prepare_cached(&format!(
        "select {COLUMNS} from run where id = ?1 and tenant = ?2"
    ))?
    .query_row(params![run.to_string(), tenant.as_str()], |row| {
        Ok(read(row))
    })
    .optional()?
    .transpose()
}

pub(super) fn of_task(
    conn: &Connection,
    tenant: &TenantId,
    task: TaskId,
) -> Result<Vec<Run>, Error> {
    let select = format!(
        "select {COLUMNS} from run where task = ?1 and tenant = ?2 order by parent is not null, created_at, id"
    );
    conn.prepare_cached(&select)?
        .query_map(params![task.to_string(), tenant.as_str()], |row| {
            Ok(read(row))
        })?
        .map(|row| row?)
        .collect()
}

fn read(row: &Row<'_>) -> Result<Run, Error> {
    let parent = maybe_text(row, 2)?;
    let parent_key = maybe_text(row, 3)?;
    let state = text(row, 9)?;
    Ok(Run {
        id: parse("run", text(row, 0)?)?,
        task: parse("run", text(row, 1)?)?,
        parent: match parent.zip(parent_key) {
            Some((run, key)) => Some((parse("run", run)?, StepKey::from(key))),
            None => None,
        },
        kind: row.get(4)?,
        agent: maybe_text(row, 5)?.map(Into::into),
        input: from_json("run", text(row, 6)?)?,
        catalog: parse("run", text(row, 7)?)?,
        authority: from_json("run", text(row, 8)?)?,
        state: RunState::parse(state).ok_or_else(|| corrupt("run", state))?,
        epoch: row.get(10)?,
        wakes: row.get(11)?,
        deaths: row.get(12)?,
        created_at: Timestamp(row.get(13)?),
    })
}
