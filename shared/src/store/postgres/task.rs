//! Tables `task` and `inbox`: what was asked, by whom, and what has become of it.

use std::collections::BTreeMap;

use deadpool_postgres::Object;
use serde_json::{Value, json};
use tokio_postgres::{Row, Statement};

use super::journal::Pending;
use super::tx::{Tx, get, prepare};
use super::{AppRole, EngineRole, clean, corrupt, from_json, ledger, parse, run, to_json};
use crate::budget::{Cap, Unit};
use crate::event::Event;
use crate::hash::Hash;
use crate::id::{RunId, TaskId, TenantId};
use crate::money::{Usage, Usd};
use crate::run::Timestamp;
use crate::store::ledger::{Book, Moved};
use crate::store::{Accepted, Census, Change, Error, NewTask, TaskFilter};
use crate::task::{Origin, Phase, Task, TaskState};

/// Takes a message's key, once: another that has it under way is waited for.
pub(super) const TAKE_KEY: &str = "
insert into inbox (tenant, sender, key, body_hash, task, at)
values ($1, $2, $3, $4, $5, now_ms()) on conflict do nothing returning 1";

pub(super) const KNOWN: &str =
    "select task, body_hash from inbox where tenant = $1 and sender = $2 and key = $3";

/// Takes the message's key for this task; answers the task that the same message made before, where
/// it did.
pub(super) async fn take_key(
    tx: &Tx<'_>,
    (take, known): (&Statement, &Statement),
    task: &NewTask,
) -> Result<Option<Accepted>, Error> {
    let Some((key, body)) = &task.dedupe else {
        return Ok(None);
    };
    let tenant = task.authority.tenant.as_str();
    let (sender, key) = (clean(task.submitted_by.as_str()), clean(key));
    let taken = tx
        .query(
            take,
            &[&tenant, &sender, &key, &body.to_string(), &task.id.0],
        )
        .await?;
    if !taken.is_empty() {
        return Ok(None);
    }
    let rows = tx.query(known, &[&tenant, &sender, &key]).await?;
    let row = rows.first().ok_or_else(|| corrupt("inbox", "no row"))?;
    let id = TaskId(get(row, 0)?);
    let same = parse::<Hash>("inbox", get(row, 1)?)? == *body;
    Ok(Some(match same {
        true => Accepted::Known(id),
        false => Accepted::Conflict(id),
    }))
}

pub(super) const INSERT: &str = "
insert into task (id, tenant, principal, submitted_by, agent, thread, metadata, request, state,
                  created_at, updated_at, limit_usd, limit_tokens)
select $1, $2, $3, $4, $5, $6, $7::text::jsonb, $8::text::json, $9, t.now, t.now, $10, $11
from (select now_ms() as now) t";

/// Writes a task's row; `limit` is what it may use.
pub(super) async fn insert(
    tx: &Tx<'_>,
    insert: &Statement,
    task: &NewTask,
    limit: Cap,
) -> Result<(), Error> {
    let request = &task.request;
    let state = match task.worker {
        Some(_) => TaskState::Running,
        None => TaskState::Queued,
    };
    tx.execute(
        insert,
        &[
            &task.id.0,
            &task.authority.tenant.as_str(),
            &clean(task.authority.principal.as_str()),
            &clean(task.submitted_by.as_str()),
            &request.agent.as_ref().map(|agent| agent.as_str()),
            &request.thread.as_deref().map(clean),
            &labels(&request.metadata),
            &to_json(request),
            &state.as_str(),
            &limit.of(Unit::Usd),
            &limit.of(Unit::Tokens),
        ],
    )
    .await
    .map(drop)
}

/// Labels as JSON that can be searched.
fn labels(metadata: &BTreeMap<String, String>) -> String {
    let cleaned = metadata
        .iter()
        .map(|(key, value)| (clean(key), clean(value)));
    to_json(&cleaned.collect::<BTreeMap<_, _>>())
}

/// `offset 0` keeps the planner from looking through all steps that there ever were, to know which tasks wait,
/// while it holds the accounts of all.
pub(super) const ADD_UP: &str = "
update task t set
  tokens_in = t.tokens_in + j.tokens_in,
  tokens_cached = t.tokens_cached + j.tokens_cached,
  tokens_out = t.tokens_out + j.tokens_out,
  usd_nano = t.usd_nano + j.usd,
  held_usd = greatest(t.held_usd + j.held_usd, 0),
  held_tokens = greatest(t.held_tokens + j.held_tokens, 0),
  phase = case when t.state in ('done', 'failed', 'cancelled') then t.phase else coalesce(j.phase, t.phase) end,
  state = case
    when t.state in ('done', 'failed', 'cancelled', 'paused') then t.state
    when j.state = 'running' and exists (
      select 1 from run r join step s on s.run = r.id
      where r.task = t.id and r.state in ('queued', 'running', 'waiting')
        and s.kind = 'signal' and s.state = 'begun' offset 0) then 'awaiting_human'
    else coalesce(j.state, t.state)
  end,
  updated_at = now_ms()
from json_to_recordset($1::text::json)
     as j(task uuid, tokens_in bigint, tokens_cached bigint, tokens_out bigint, usd bigint, held_usd bigint,
        held_tokens bigint, phase text, state text)
where t.id = j.task";

/// What one commit changes about a task.
#[derive(Default)]
struct Delta {
    moved: Moved,
    phase: Option<Phase>,
    state: Option<TaskState>,
}

/// What a commit moved and what its accepted entries told, as rows for [`ADD_UP`].
pub(super) fn sums<'a>(accepted: impl Iterator<Item = &'a Pending>, book: &Book) -> Vec<Value> {
    let mut deltas: BTreeMap<TaskId, Delta> = BTreeMap::new();
    for (task, moved) in book.tasks() {
        if moved.spent != Usage::default() || !moved.held.is_zero() {
            deltas.entry(task).or_default().moved = *moved;
        }
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
    let row = |(task, delta): (&TaskId, &Delta)| {
        json!({
            "task": task,
            "tokens_in": delta.moved.spent.tokens_in,
            "tokens_cached": delta.moved.spent.tokens_cached,
            "tokens_out": delta.moved.spent.tokens_out,
            "usd": delta.moved.spent.usd,
            "held_usd": delta.moved.held.usd,
            "held_tokens": delta.moved.held.tokens,
            "phase": delta.phase,
            "state": delta.state,
        })
    };
    deltas.iter().map(row).collect()
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

/// Ends tasks with their root runs.
pub(super) const END: &str = "
update task t set state = j.state, answer = j.answer, partial = j.partial, error = j.error,
                  phase = null, updated_at = now_ms()
from json_to_recordset($1::text::json)
     as j(task uuid, state text, answer text, partial text, error text)
where t.id = j.task and t.state not in ('done', 'failed', 'cancelled')";

/// How an entry ends its task, as a row for [`END`].
pub(super) fn end_of(pending: &Pending) -> Option<Value> {
    let Change::Finish(finish) = &pending.entry.change else {
        return None;
    };
    let end = finish.task.as_ref()?;
    Some(json!({
        "task": pending.entry.task,
        "state": end.state,
        "answer": end.answer.as_deref().map(clean),
        "partial": end.partial.as_deref().map(clean),
        "error": end.error.as_deref().map(clean),
    }))
}

/// Ends a task from outside.
pub(super) const CANCEL: &str = "
update task set state = 'cancelled', phase = null, partial = $3, updated_at = now_ms()
where tenant = $1 and id = $2 and state not in ('done', 'failed', 'cancelled') returning 1";

/// Marks a task as paused, where it was not and has not ended.
pub(super) const PAUSE: &str = "
update task set state = 'paused', updated_at = now_ms()
where tenant = $1 and id = $2 and state not in ('done', 'failed', 'cancelled', 'paused')
returning state";

/// Puts a paused task back to where it stood: by what its runs are at.
pub(super) const RESUME: &str = "
update task set updated_at = now_ms(), state = case
  when exists (select 1 from run r join step s on s.run = r.id
               where r.task = $2 and s.kind = 'signal' and s.state = 'begun') then 'awaiting_human'
  when exists (select 1 from run r where r.task = $2 and r.epoch > 0) then 'running'
  else 'queued'
end
where tenant = $1 and id = $2 and state = 'paused'
returning state";

/// Adds to what a task has used.
pub(super) const CHARGE: &str = "
update task set tokens_in = tokens_in + $2, tokens_cached = tokens_cached + $3,
                tokens_out = tokens_out + $4, usd_nano = usd_nano + $5
where id = $1";

/// Ends what is left of tasks whose root runs are over; what is under way counts as lost. Whoever calls
/// holds the tasks' rows.
pub(super) async fn end_rest(
    tx: &Tx<'_>,
    client: &Object,
    tasks: &[TaskId],
    book: &mut Book,
) -> Result<Vec<RunId>, Error> {
    let mut ended = Vec::new();
    if tasks.is_empty() {
        return Ok(ended);
    }
    let [runs] = prepare(client, [run::CANCEL_ALL]).await?;
    for task in tasks {
        ledger::lose(tx, book, *task, None).await?;
        for row in tx.query(&runs, &[&task.0]).await? {
            ended.push(RunId(get(&row, 0)?));
        }
    }
    Ok(ended)
}

const COLUMNS: &str = "id, tenant, principal, submitted_by, request::text, state, phase, answer, partial, error, tokens_in, tokens_cached, tokens_out, usd_nano, created_at, updated_at, origin, origin_step, pruned_at";

/// One task, locked as every writer to it does.
pub(super) fn locked_sql() -> String {
    format!("select {COLUMNS} from task where tenant = $1 and id = $2 for no key update")
}

/// What [`locked_sql`] found.
pub(super) fn read_one(rows: &[Row]) -> Result<Option<Task>, Error> {
    rows.first().map(read).transpose()
}

/// Copies what was asked, for a retry (no step) or a fork: nothing is done yet.
pub(super) const COPY: &str = "
insert into task (id, tenant, principal, submitted_by, agent, thread, metadata, request, state,
                  created_at, updated_at, origin, origin_step, limit_usd, limit_tokens)
select $2, tenant, principal, $3, agent, thread, metadata, request, 'queued', t.now, t.now, id, $4,
       limit_usd, limit_tokens
from task, (select now_ms() as now) t where id = $1";

pub(super) async fn one(
    app: &AppRole,
    tenant: &TenantId,
    task: TaskId,
) -> Result<Option<Task>, Error> {
    let select = format!("select {COLUMNS} from task where tenant = $1 and id = $2");
    let rows = app
        .ask(tenant, &select, &[&tenant.as_str(), &task.0])
        .await?;
    rows.first().map(read).transpose()
}

pub(super) async fn list(
    app: &AppRole,
    tenant: &TenantId,
    filter: &TaskFilter,
) -> Result<Vec<Task>, Error> {
    let select = format!(
        "select {COLUMNS} from task where tenant = $1
           and ($2::text[] is null or principal = any($2))
           and ($3::text is null or principal = $3 or submitted_by = $3)
           and ($4::text is null or thread = $4)
           and ($5::text is null or agent = $5)
           and ($6::text is null or state = $6)
           and metadata @> $7::text::jsonb
           and ($8::uuid is null or id < $8)
         order by id desc limit $9"
    );
    let principals = filter.principals.as_ref();
    let principals: Option<Vec<_>> =
        principals.map(|names| names.iter().map(|name| clean(name.as_str())).collect());
    let rows = app
        .ask(
            tenant,
            &select,
            &[
                &tenant.as_str(),
                &principals,
                &filter.visible_to.as_ref().map(|name| clean(name.as_str())),
                &filter.thread.as_deref().map(clean),
                &filter.agent.as_ref().map(|agent| clean(agent.as_str())),
                &filter.state.map(TaskState::as_str),
                &labels(&filter.metadata),
                &filter.before.map(|task| task.0),
                &i64::from(filter.limit),
            ],
        )
        .await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Task, Error> {
    let state: &str = get(row, 5)?;
    let phase: Option<&str> = get(row, 6)?;
    let count = |column: usize| Ok::<u64, Error>(get::<i64>(row, column)?.max(0) as u64);
    Ok(Task {
        id: TaskId(get(row, 0)?),
        tenant: get::<&str>(row, 1)?.into(),
        principal: get::<&str>(row, 2)?.into(),
        submitted_by: get::<&str>(row, 3)?.into(),
        request: from_json("task", get(row, 4)?)?,
        state: TaskState::parse(state).ok_or_else(|| corrupt("task", state))?,
        phase: phase.and_then(Phase::parse),
        answer: get(row, 7)?,
        partial: get(row, 8)?,
        error: get(row, 9)?,
        usage: Usage {
            tokens_in: count(10)?,
            tokens_cached: count(11)?,
            tokens_out: count(12)?,
            usd: Usd::from_nano(get(row, 13)?),
            assumed: false,
        },
        created_at: Timestamp(get(row, 14)?),
        updated_at: Timestamp(get(row, 15)?),
        origin: get::<Option<uuid::Uuid>>(row, 16)?
            .map(|task| {
                let step = get::<Option<&str>>(row, 17)?.map(Into::into);
                Ok::<_, Error>(Origin {
                    task: TaskId(task),
                    step,
                })
            })
            .transpose()?,
        pruned_at: get::<Option<i64>>(row, 18)?.map(Timestamp),
    })
}

const TASKS: &str = "select state, count(*) from task group by state";
const RUNS: &str = "
select state, count(*) from run where state in ('queued', 'running', 'waiting') group by state";
const OLDEST: &str = "
select coalesce(greatest((select now_ms()) - min(updated_at), 0), 0) from run where state = 'queued'";

const OTHERS: &str = "
select (select count(*) from worker where state = 'live' and expires_at > (select now_ms())),
       (select count(*) from run where state = 'dead'),
       (select count(*) from run r join step s on s.run = r.id
        where r.state in ('queued', 'running', 'waiting')
          and s.state = 'begun' and s.kind = 'signal' and substr(s.key, 1, 16) = 'signal/in_doubt/')";

/// How many tasks and runs there are of each state, of all tenants.
pub(super) async fn census(engine: &EngineRole) -> Result<Census, Error> {
    let count = |rows: Vec<Row>| -> Result<BTreeMap<String, i64>, Error> {
        let pair = |row: &Row| Ok((get(row, 0)?, get(row, 1)?));
        rows.iter().map(pair).collect()
    };
    let oldest = engine.ask(OLDEST, &[]).await?;
    let others = engine.ask(OTHERS, &[]).await?;
    let other = |column| others.first().map_or(Ok(0), |row| get(row, column));
    Ok(Census {
        tasks: count(engine.ask(TASKS, &[]).await?)?,
        runs: count(engine.ask(RUNS, &[]).await?)?,
        queue_age_ms: oldest.first().map_or(Ok(0), |row| get(row, 0))?,
        workers: other(0)?,
        dead: other(1)?,
        in_doubt: other(2)?,
    })
}
