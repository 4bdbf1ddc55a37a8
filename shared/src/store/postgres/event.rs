//! Table `event`: numbered within the task, written in the commit that it tells of, and told to the
//! other processes by that same commit.

use std::collections::HashMap;

use tokio_postgres::{Row, Statement};
use uuid::Uuid;

use super::journal::Pending;
use super::tx::{Params, Tx, get};
use super::{AppRole, from_json, to_json};
use crate::event::{Event, Recorded};
use crate::id::{RunId, TaskId, TenantId};
use crate::run::Timestamp;
use crate::store::{Again, Error, NewTask, Run, Step, ledger};
use crate::task::TaskState;

/// An event without its number.
pub(super) struct New {
    pub task: TaskId,
    pub run: RunId,
    pub tenant: TenantId,
    pub event: Event,
}

/// The events of a journal entry; `refused` is the step that ended instead of beginning.
pub(super) fn of<'a>(
    pending: &'a Pending,
    refused: Option<&'a Step>,
) -> impl Iterator<Item = New> + 'a {
    pending.entry.events.iter().map(move |event| New {
        task: pending.entry.task,
        run: pending.fence.run,
        tenant: pending.entry.tenant.clone(),
        event: match refused {
            Some(step) => ledger::told(event, step),
            None => event.clone(),
        },
    })
}

/// A task was taken in.
pub(super) fn queued(task: &NewTask) -> New {
    let reason = format!("accepted from {}", task.request.channel);
    New {
        task: task.id,
        run: task.id.into(),
        tenant: task.authority.tenant.clone(),
        event: state(TaskState::Queued, reason),
    }
}

/// A worker began with a task.
pub(super) fn started(run: &Run) -> New {
    New {
        task: run.task,
        run: run.id,
        tenant: run.authority.tenant.clone(),
        event: state(TaskState::Running, "a worker took it".into()),
    }
}

/// A task stands otherwise than before, by somebody's word.
pub(super) fn stands(tenant: &TenantId, task: TaskId, stands: TaskState, reason: &str) -> New {
    New {
        task,
        run: task.into(),
        tenant: tenant.clone(),
        event: state(stands, reason.into()),
    }
}

/// A task was made from another one.
pub(super) fn renewed(again: &Again, reason: String) -> New {
    New {
        task: again.id,
        run: again.id.into(),
        tenant: again.tenant.clone(),
        event: state(TaskState::Queued, reason),
    }
}

fn state(state: TaskState, reason: String) -> Event {
    Event::State {
        state,
        reason,
        agent: None,
    }
}

/// Numbers are taken from the task's row, which stays locked until the commit: so they have no gap,
/// and readers see them come in their order. `$5` is who tells, for the listeners: one message for as
/// many tasks as fit into one.
pub(super) const INSERT: &str = "
with told as (
  select * from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[]) with ordinality
                as j(task, tenant, run, body, n)
), numbered as (
  update task t set events = t.events + c.n
  from (select task, count(*) as n from told group by task) c
  where t.id = c.task
  returning t.id, t.events - c.n as before, t.events as last, now_ms() as at
), written as (
  insert into event (task, seq, tenant, run, at, body)
  select j.task, b.before + row_number() over (partition by j.task order by j.n),
         j.tenant, j.run, b.at, j.body::json
  from told j join numbered b on b.id = j.task
), rung as (
  select pg_notify('majordomo', 'events ' || $5::text || ' ' || string_agg(span, ' '))
  from (select format('%s %s %s', id, before + 1, last) as span, row_number() over () as n from numbered) s
  group by n / 64
)
select id, before + 1, at, (select count(*) from rung) from numbered";

/// Writes events and gives them their numbers, in the order given within each task.
pub(super) async fn insert(
    tx: &Tx<'_>,
    insert: &Statement,
    told: Vec<New>,
    teller: &str,
) -> Result<Vec<Recorded>, Error> {
    if told.is_empty() {
        return Ok(Vec::new());
    }
    let tasks: Vec<Uuid> = told.iter().map(|new| new.task.0).collect();
    let tenants: Vec<&str> = told.iter().map(|new| new.tenant.as_str()).collect();
    let runs: Vec<Uuid> = told.iter().map(|new| new.run.0).collect();
    let bodies: Vec<String> = told.iter().map(|new| to_json(&new.event)).collect();
    let columns: Params<'_> = &[&tasks, &tenants, &runs, &bodies, &teller];
    let written = tx.query(insert, columns).await?;
    let mut next: HashMap<TaskId, (i64, Timestamp)> = HashMap::new();
    for row in &written {
        let first = (get(row, 1)?, Timestamp(get(row, 2)?));
        next.insert(TaskId(get(row, 0)?), first);
    }
    let numbered = told.into_iter().filter_map(|new| {
        let (seq, at) = next.get_mut(&new.task)?;
        *seq += 1;
        Some(Recorded {
            seq: *seq - 1,
            task: new.task,
            run: new.run,
            at: *at,
            event: new.event,
        })
    });
    Ok(numbered.collect())
}

const AFTER: &str = "
select task, seq, run, at, body::text from event
where tenant = $1 and task = $2 and seq > $3 order by seq limit $4";

/// Events of a task after a number.
pub(super) async fn after(
    app: &AppRole,
    tenant: &TenantId,
    task: TaskId,
    after: i64,
    limit: u32,
) -> Result<Vec<Recorded>, Error> {
    let limit = i64::from(limit);
    let rows = app
        .ask(tenant, AFTER, &[&tenant.as_str(), &task.0, &after, &limit])
        .await?;
    rows.iter().map(read).collect()
}

/// Events that another process committed.
pub(super) const BETWEEN: &str = "
select task, seq, run, at, body::text from event
where task = $1 and seq between $2 and $3 order by seq";

/// The last event of every task that may have changed in the last `$1` milliseconds: what is told after the connection to
/// the other processes was away. Who watches one of them sees that numbers are missing, and reads.
pub(super) const LATEST: &str = "
select e.task, e.seq, e.run, e.at, e.body::text
from task t
cross join lateral (select * from event e where e.task = t.id order by seq desc limit 1) e
where t.state not in ('done', 'failed', 'cancelled') or t.updated_at >= (select now_ms()) - $1::bigint";

/// An event as the store holds it.
pub(super) fn read(row: &Row) -> Result<Recorded, Error> {
    Ok(Recorded {
        task: TaskId(get(row, 0)?),
        seq: get(row, 1)?,
        run: RunId(get(row, 2)?),
        at: Timestamp(get(row, 3)?),
        event: from_json("event", get(row, 4)?)?,
    })
}
