//! Tables `run` and `signal`: who works on what, and what wakes whom.

use serde_json::{Value, json};
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

use super::halt::FREE;
use super::journal::Pending;
use super::tx::{Params, Tx, get, prepare};
use super::{AppRole, EngineRole, ask, clean, corrupt, from_json, ledger, parse, to_json};
use crate::id::{PermitId, PrincipalId, RunId, SignalName, StepKey, TaskId, TenantId, WorkerId};
use crate::run::Timestamp;
use crate::store::{Change, DeadRun, Delivered, Error, NewSignal, Raising, Run, RunState, shares};

/// Whoever writes to the runs of a task holds the task's row first, and several in order: so no two
/// of us wait for each other, and events get their numbers one commit after the other.
pub(super) const LOCK_TASKS: &str =
    "select 1 from task where id = any($1) order by id for no key update";
/// What is locked here cannot be claimed or reaped before the commit, so a check of the fence holds
/// until then.
pub(super) const LOCK_RUNS: &str =
    "select 1 from run where id = any($1) order by id for no key update";

/// Makes a task's root run: queued, or in the hands of the worker that takes it in.
pub(super) const INSERT_ROOT: &str = "
insert into run (id, task, tenant, principal, kind, input, catalog, authority, state, owner, epoch,
                 created_at, updated_at, priority)
select $1, $1, $2, $3, $4, $5::text::json, $6, $7::text::json, $8, $9, $10, t.now, t.now, $11::bigint
from (select now_ms() as now) t";

pub(super) async fn insert_root(
    tx: &Tx<'_>,
    insert: &Statement,
    root: &Run,
    (worker, priority): (Option<WorkerId>, i16),
) -> Result<(), Error> {
    let authority = &root.authority;
    tx.execute(
        insert,
        &[
            &root.id.0,
            &authority.tenant.as_str(),
            &authority.principal.as_str(),
            &root.kind,
            &root.input.to_string(),
            &root.catalog.to_string(),
            &to_json(authority),
            &root.state.as_str(),
            &worker.map(|worker| worker.0),
            &root.epoch,
            &i64::from(priority),
        ],
    )
    .await
    .map(drop)
}

/// Makes children that run at once in their parents' worker. All that they may do, they have from
/// their parents.
pub(super) const INSERT_CHILDREN: &str = "
insert into run (id, task, parent, parent_key, tenant, principal, kind, agent, input, catalog,
                 authority, state, owner, epoch, priority, held, created_at, updated_at)
select j.id, p.task, p.id, j.key, p.tenant, p.principal, j.kind, j.agent, j.input::json, p.catalog,
       p.authority, 'running', p.owner, 1, p.priority, p.held, t.now, t.now
from json_to_recordset($1::text::json) as j(id uuid, parent uuid, key text, kind text, agent text, input text)
join run p on p.id = j.parent
cross join (select now_ms() as now) t";

/// The child that an entry starts, as a row for [`INSERT_CHILDREN`].
pub(super) fn child_of(pending: &Pending) -> Option<Value> {
    let Change::Step {
        step,
        spawn: Some(new),
        ..
    } = &pending.entry.change
    else {
        return None;
    };
    Some(json!({
        "id": new.id,
        "parent": pending.fence.run,
        "key": step.key,
        "kind": new.kind,
        "agent": new.agent,
        "input": new.input.to_string(),
    }))
}

const COLUMNS: &str = "id, task, parent, parent_key, kind, agent, input::text, catalog, authority::text, state, epoch, wakes, deaths, created_at";

const WAKE_DUE: &str = "
update run set state = 'queued', wake_at = null, updated_at = now_ms()
where id in (select id from run where state = 'waiting' and wake_at <= (select now_ms())
             for update skip locked)";

/// Those whose runs wait, one after the other by the index that holds them.
fn parties_sql() -> String {
    format!(
        "with recursive p (party) as (
           select min(tenant || '/' || principal) from run
           where state = 'queued' and not held and {FREE}
           union all
           select (select min(tenant || '/' || principal) from run
                   where state = 'queued' and not held and {FREE}
                     and tenant || '/' || principal > p.party)
           from p where p.party is not null)
         select party from p where party is not null"
    )
}

/// Takes due runs of one party, the highest priority first, and those furthest down a tree: their parents
/// wait for them. Of those that may be what kills ([`SUSPECT`](crate::store::SUSPECT)), one while the worker has no other. Neither this
/// nor [`WAKE_DUE`] ever waits for a lock; whoever holds a queued run rings when it lets go.
fn claim_sql() -> String {
    format!(
        "with suspect as (
           select id from run where state = 'queued' and not held and deaths >= 2 and {FREE}
             and not exists (select 1 from run o where o.owner = $1 and o.state = 'running' and o.deaths >= 2)
           order by priority desc, (parent is null), id limit 1
           for update skip locked)
         update run set state = 'running', owner = $1, epoch = epoch + 1, updated_at = now_ms()
         where id in (select id from run where state = 'queued' and not held and {FREE}
                        and tenant || '/' || principal = $3
                        and (deaths < 2 or id in (select id from suspect))
                      order by priority desc, (parent is null), id limit $2
                      for update skip locked)
         returning {COLUMNS}"
    )
}

fn due_sql() -> String {
    format!(
        "select exists (select 1 from run where state = 'queued' and not held and {FREE}), w.next, t.now
         from (select min(wake_at) as next from run where state = 'waiting' and wake_at is not null) w,
              (select now_ms() as now) t"
    )
}

const START: &str = "
update task set state = 'running', updated_at = now_ms()
where id = any($1) and state = 'queued' returning id";

/// What a claim would find.
pub(super) struct Due {
    /// Whether it would bring anything.
    pub any: bool,
    /// When the next waiting run wakes by itself.
    pub next_wake: Option<Timestamp>,
    /// The server's clock.
    pub now: i64,
}

/// Whether a claim would bring anything. Spares the server a transaction that writes nothing.
pub(super) async fn due(engine: &EngineRole) -> Result<Due, Error> {
    let rows = engine.ask(&due_sql(), &[]).await?;
    read_due(&rows)
}

fn read_due(rows: &[Row]) -> Result<Due, Error> {
    let row = rows.first().ok_or_else(|| corrupt("run", "no clock"))?;
    let (queued, next, now): (bool, Option<i64>, i64) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
    Ok(Due {
        any: queued || next.is_some_and(|at| at <= now),
        next_wake: next.map(Timestamp),
        now,
    })
}

/// Claims; where several people's runs wait, they take turns ([`shares`]). Answers the runs, and what is
/// due afterwards.
pub(super) async fn claim(
    engine: &EngineRole,
    worker: WorkerId,
    limit: u32,
) -> Result<(Vec<Run>, Due), Error> {
    let client = engine.get().await?;
    let texts = [WAKE_DUE, &parties_sql(), &claim_sql(), &due_sql()];
    let [wake_due, parties, claim, due] = prepare(&client, texts).await?;
    let tx = Tx::on(&client);
    let ((), _, waiting) = futures::try_join!(
        tx.begin(),
        tx.execute(&wake_due, &[]),
        tx.query(&parties, &[]),
    )?;
    let waiting: Vec<String> = waiting
        .iter()
        .map(|row| get(row, 0))
        .collect::<Result<_, _>>()?;
    let mut claimed = Vec::new();
    for (party, share) in shares(&waiting, limit) {
        let left = i64::from(limit) - claimed.len() as i64;
        if left == 0 {
            break;
        }
        let share = i64::from(share).min(left);
        claimed.extend(tx.query(&claim, &[&worker.0, &share, &party]).await?);
    }
    let (due, ()) = futures::try_join!(tx.query(&due, &[]), tx.commit())?;
    tx.done();
    let runs: Result<_, _> = claimed.iter().map(read).collect();
    Ok((runs?, read_due(&due)?))
}

/// Marks tasks as running whose root runs were claimed for the first time; tells which.
pub(super) async fn start(
    tx: &Tx<'_>,
    start: &Statement,
    tasks: &[Uuid],
) -> Result<Vec<TaskId>, Error> {
    let rows = tx.query(start, &[&tasks]).await?;
    rows.iter().map(|row| get(row, 0).map(TaskId)).collect()
}

/// The statement of [`start`].
pub(super) const STARTED: &str = START;

/// Runs that had died got on: their deaths are forgotten.
pub(super) const SURVIVE: &str = "update run set deaths = 0, died_with = null where id = any($1)";

/// Parks, releases and ends runs: each only while it is its owner's, in its epoch. A run that heard
/// less than has come is queued instead of parked.
pub(super) const LEAVE: &str = "
update run r set state = case when j.heard <> r.wakes then 'queued' else j.state end,
                 owner = null, wake_at = j.wake_at, updated_at = now_ms()
from json_to_recordset($1::text::json)
     as j(run uuid, worker uuid, epoch bigint, state text, heard bigint, wake_at bigint)
where r.id = j.run and r.owner = j.worker and r.epoch = j.epoch and r.state = 'running'
  and exists (select 1 from worker w where w.id = j.worker and w.state = 'live'
                                       and w.expires_at > (select now_ms()))
returning r.id, r.state";

/// How an entry takes its run out of memory, as a row for [`LEAVE`].
pub(super) fn leaving(pending: &Pending) -> Option<Value> {
    let (state, heard, wake_at) = match &pending.entry.change {
        Change::Step { .. } => return None,
        Change::Park { wakes, wake_at } => (RunState::Waiting, Some(wakes), *wake_at),
        Change::Release => (RunState::Queued, None, None),
        Change::Finish(finish) => (finish.state, None, None),
    };
    let fence = pending.fence;
    Some(json!({
        "run": fence.run,
        "worker": fence.worker,
        "epoch": fence.epoch,
        "state": state,
        "heard": heard,
        "wake_at": wake_at,
    }))
}

/// Something came that these runs may wait for: counted, and queued where they are out of memory.
/// `$2` is who tells the other processes that there is something to claim.
pub(super) const WAKE: &str = "
with woken as (
  update run r set wakes = r.wakes + w.n, updated_at = now_ms(),
                   wake_at = case r.state when 'waiting' then null else r.wake_at end,
                   state = case r.state when 'waiting' then 'queued' else r.state end
  from (select id, count(*) as n from unnest($1::uuid[]) as u(id) group by id) w
  where r.id = w.id and r.state in ('queued', 'running', 'waiting')
  returning r.state
)
select state, case state when 'queued' then pg_notify('majordomo', 'queue ' || $2::text) end
from woken";

/// Whether any of the runs that were woken is in the queue now.
pub(super) fn any_queued(woken: &[Row], column: usize) -> Result<bool, Error> {
    for row in woken {
        if get::<&str>(row, column)? == RunState::Queued.as_str() {
            return Ok(true);
        }
    }
    Ok(false)
}

const TASK_OF: &str = "select task from run where id = $1 and tenant = $2";
const DELIVER: &str = "
insert into signal (run, name, tenant, payload, by, at)
select r.id, u.name, r.tenant, $3::text::json, $4, (select now_ms())
from unnest($1::uuid[], $2::text[]) as u(run, name)
join run r on r.id = u.run
join step s on s.run = r.id and s.key = 'signal/' || u.name and s.state = 'begun'
where r.state in ('queued', 'running', 'waiting')
  and (s.deadline is null or s.deadline > (select now_ms()))
on conflict do nothing
returning run";
const ANSWERED: &str = "select 1 from signal where run = $1 and name = $2";

/// Delivers an answer: only where the run's step waits for it, and only the first. Whoever was kept
/// from a claim meanwhile is told to look again. Where it is given by a permit that use is counted with it;
/// none, and nothing changed, where the permit is not good. With the first answer limits are raised, and it
/// is delivered to all who wait because of the same. Answers also whose waits it ended.
pub(super) async fn deliver(
    engine: &EngineRole,
    signal: &NewSignal,
    permit: Option<PermitId>,
    raising: &Raising,
) -> Result<Option<(Delivered, Vec<RunId>)>, Error> {
    let client = engine.get().await?;
    let texts = [
        TASK_OF,
        LOCK_TASKS,
        LOCK_RUNS,
        DELIVER,
        ANSWERED,
        WAKE,
        super::RING,
    ];
    let [
        task_of,
        lock_tasks,
        lock_runs,
        deliver,
        answered,
        wake,
        ring,
    ] = prepare(&client, texts).await?;
    let (run, name) = (signal.run.0, signal.name.to_string());
    let tx = Tx::on(&client);
    tx.begin().await?;
    let tenant = signal.tenant.as_str();
    let Some(task) = tx.query(&task_of, &[&run, &tenant]).await?.pop() else {
        return Ok(Some((Delivered::Unwanted, Vec::new())));
    };
    let (mut tasks, mut others, mut names) = (vec![get(&task, 0)?], Vec::new(), Vec::new());
    if let Some(cause) = &raising.cause {
        for row in tx.ask(ask::WAITING_FOR, &[&tenant, cause, &run]).await? {
            tasks.push(get::<Uuid>(&row, 0)?);
            others.push(get::<Uuid>(&row, 1)?);
            names.push(get::<String>(&row, 2)?);
        }
    }
    let payload = signal.payload.to_string();
    let by = clean(signal.by.as_str());
    let runs = [&[run], others.as_slice()].concat();
    let (own, its_name) = (vec![run], vec![name.as_str()]);
    let (lock_task, lock_run): (Params<'_>, Params<'_>) = (&[&tasks], &[&runs]);
    let params: Params<'_> = &[&own, &its_name, &payload, &by];
    let (_, _, first) = futures::try_join!(
        tx.query(&lock_tasks, lock_task),
        tx.query(&lock_runs, lock_run),
        tx.query(&deliver, params),
    )?;
    let mut on = Vec::new();
    let delivered = if !first.is_empty() {
        if let Some(permit) = permit
            && !super::permit::count(&tx, (permit, TaskId(tasks[0])), signal).await?
        {
            return Ok(None);
        }
        on.push(run);
        ledger::raise(&tx, signal, &raising.limits).await?;
        if !others.is_empty() {
            let params: Params<'_> = &[&others, &names, &payload, &by];
            for row in tx.query(&deliver, params).await? {
                on.push(get(&row, 0)?);
            }
        }
        tx.query(&wake, &[&on, &engine.teller()]).await?;
        Delivered::First
    } else if !tx.query(&answered, &[&run, &name]).await?.is_empty() {
        Delivered::Answered
    } else {
        Delivered::Unwanted
    };
    let teller = engine.teller();
    let mut rings = vec![format!("queue {teller}"), format!("mail {teller}")];
    let heard = if on.is_empty() { &own } else { &on };
    rings.extend(heard.iter().map(|run| format!("run {teller} {run}")));
    tx.query(&ring, &[&rings]).await?;
    tx.commit().await?;
    tx.done();
    let on = on.into_iter().map(RunId).collect();
    Ok(Some((delivered, on)))
}

const SIGNAL: &str =
    "select payload::text from signal where tenant = $1 and run = $2 and name = $3";

/// The answer that a run was given.
pub(super) async fn signal(
    app: &AppRole,
    tenant: &TenantId,
    run: RunId,
    name: &SignalName,
) -> Result<Option<Value>, Error> {
    let rows = app
        .ask(tenant, SIGNAL, &[&tenant.as_str(), &run.0, &name.as_str()])
        .await?;
    let payload = |row: &Row| from_json("signal", get(row, 0)?);
    rows.first().map(payload).transpose()
}

/// Ends all runs of a task that have not ended; the answer names them.
pub(super) const CANCEL_ALL: &str = "
update run set state = 'cancelled', owner = null, wake_at = null, updated_at = now_ms()
where task = $1 and state in ('queued', 'running', 'waiting') returning id";

/// Holds all runs of a task, or lets them go.
pub(super) const HOLD_ALL: &str = "
update run set held = $2 where task = $1 and state in ('queued', 'running', 'waiting')";

/// The runs of a task whose journal was pruned.
pub(super) const PRUNED: &str = "select id from run where task = $1 and pruned_at is not null";

/// A task's runs, parents before their children, within a transaction.
pub(super) fn all_sql() -> String {
    format!(
        "select {COLUMNS} from run where tenant = $1 and task = $2
         order by parent is not null, created_at, id"
    )
}

/// What [`all_sql`] found.
pub(super) fn read_all(rows: &[Row]) -> Result<Vec<Run>, Error> {
    rows.iter().map(read).collect()
}

/// Copies a root run for a retry or a fork: queued, in no worker's hands. One with a journal has an
/// epoch behind it: whoever claims a run for the first time takes it to have none.
pub(super) const COPY_ROOT: &str = "
insert into run (id, task, tenant, principal, kind, input, catalog, authority, state, epoch, priority,
                 created_at, updated_at)
select $2, $2, tenant, principal, kind, input, catalog, $3::text::json, 'queued', $4, priority,
       t.now, t.now
from run, (select now_ms() as now) t where id = $1";

/// Copies a child run that has ended, as it is.
pub(super) const COPY_CHILD: &str = "
insert into run (id, task, parent, parent_key, tenant, principal, kind, agent, input, catalog,
                 authority, state, epoch, wakes, priority, taint, created_at, updated_at)
select $2, $4, $3, parent_key, tenant, principal, kind, agent, input, catalog, authority,
       state, epoch, wakes, priority, taint, created_at, updated_at
from run where id = $1";

/// Copies the answers that copied steps wait for.
pub(super) const COPY_SIGNALS: &str = "
insert into signal (run, name, tenant, payload, by, at)
select $2, g.name, g.tenant, g.payload, g.by, g.at from signal g
join step s on s.run = $2 and s.key = 'signal/' || g.name
where g.run = $1";

/// Runs that cannot be run any more, the last one first.
const DEAD: &str = "
select r.id, r.task, r.kind, r.agent, r.updated_at,
       coalesce(case when r.parent is null then t.error
                     else coalesce(p.recorded, c.body::json) #>> '{outcome,failed,message}' end,
                t.error, ''),
       (select s.key from step s where s.run = r.id order by s.state, s.seq desc limit 1)
from run r join task t on t.id = r.task
left join step p on p.run = r.parent and p.key = r.parent_key
left join content c on c.tenant = p.tenant and c.hash = p.artefact
where r.state = 'dead' and r.tenant = $1
  and ($2::text is null or t.principal = $2 or t.submitted_by = $2)
order by r.updated_at desc, r.id limit $3";

pub(super) async fn dead(
    app: &AppRole,
    tenant: &TenantId,
    visible_to: Option<&PrincipalId>,
    limit: u32,
) -> Result<Vec<DeadRun>, Error> {
    let visible_to = visible_to.map(|name| clean(name.as_str()));
    let limit = i64::from(limit);
    let rows = app
        .ask(tenant, DEAD, &[&tenant.as_str(), &visible_to, &limit])
        .await?;
    rows.iter().map(read_dead).collect()
}

fn read_dead(row: &Row) -> Result<DeadRun, Error> {
    Ok(DeadRun {
        run: RunId(get(row, 0)?),
        task: TaskId(get(row, 1)?),
        kind: get(row, 2)?,
        agent: get::<Option<&str>>(row, 3)?.map(Into::into),
        at: Timestamp(get(row, 4)?),
        why: get(row, 5)?,
        step: get::<Option<&str>>(row, 6)?.map(Into::into),
    })
}

pub(super) async fn one(
    app: &AppRole,
    tenant: &TenantId,
    run: RunId,
) -> Result<Option<Run>, Error> {
    let select = format!("select {COLUMNS} from run where tenant = $1 and id = $2");
    let rows = app
        .ask(tenant, &select, &[&tenant.as_str(), &run.0])
        .await?;
    rows.first().map(read).transpose()
}

pub(super) async fn of_task(
    app: &AppRole,
    tenant: &TenantId,
    task: TaskId,
) -> Result<Vec<Run>, Error> {
    let select = format!(
        "select {COLUMNS} from run where tenant = $1 and task = $2
         order by parent is not null, created_at, id"
    );
    let rows = app
        .ask(tenant, &select, &[&tenant.as_str(), &task.0])
        .await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Run, Error> {
    let parent: Option<Uuid> = get(row, 2)?;
    let parent_key: Option<&str> = get(row, 3)?;
    let state: &str = get(row, 9)?;
    Ok(Run {
        id: RunId(get(row, 0)?),
        task: TaskId(get(row, 1)?),
        parent: parent
            .zip(parent_key)
            .map(|(run, key)| (RunId(run), StepKey::from(key))),
        kind: get(row, 4)?,
        agent: get::<Option<&str>>(row, 5)?.map(Into::into),
        input: from_json("run", get(row, 6)?)?,
        catalog: parse("run", get(row, 7)?)?,
        authority: from_json("run", get(row, 8)?)?,
        state: RunState::parse(state).ok_or_else(|| corrupt("run", state))?,
        epoch: get(row, 10)?,
        wakes: get(row, 11)?,
        deaths: get(row, 12)?,
        created_at: Timestamp(get(row, 13)?),
    })
}
