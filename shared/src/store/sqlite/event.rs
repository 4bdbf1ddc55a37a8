//! Table `event`: numbered within the task, written in the commit that it tells of.

use std::collections::HashMap;
use std::collections::VecDeque;

use rusqlite::{Connection, params};
use serde_json::{Value, json};

use super::journal::Pending;
use super::{from_json, parse, text, to_json};
use crate::event::{Event, Recorded};
use crate::id::{RunId, TaskId, TenantId};
use crate::run::Timestamp;
use crate::store::{Error, NewTask};
use crate::task::TaskState;

/// An event without its number.
pub(super) struct New {
    pub task: TaskId,
    pub run: RunId,
    pub tenant: TenantId,
    pub event: Event,
}

/// The events of a journal entry.
pub(super) fn of(pending: &Pending) -> impl Iterator<Item = New> + '_ {
    pending.entry.events.iter().map(|event| New {
        task: pending.entry.task,
        run: pending.fence.run,
        tenant: pending.entry.tenant.clone(),
        event: event.clone(),
    })
}

/// A task was taken in.
pub(super) fn queued(task: &NewTask) -> New {
    New {
        task: task.id,
        run: task.id.into(),
        tenant: task.authority.tenant.clone(),
        event: Event::State {
            state: TaskState::Queued,
            reason: format!("accepted from {}", task.request.channel),
            agent: None,
        },
    }
}

const INSERT: &str = "
insert into event (task, seq, tenant, run, at, body)
select j.value->>'task',
       (select coalesce(max(e.seq), 0) from event e where e.task = j.value->>'task')
         + row_number() over (partition by j.value->>'task' order by j.key),
       j.value->>'tenant', j.value->>'run', ?2, j.value->>'body'
from json_each(?1) j
where true
returning task, seq";

/// Writes events and gives them their numbers, in the order given within each task.
pub(super) fn insert(
    tx: &Connection,
    told: Vec<New>,
    now: Timestamp,
) -> Result<Vec<Recorded>, Error> {
    if told.is_empty() {
        return Ok(Vec::new());
    }
    let row = |new: &New| {
        let body = to_json(&new.event);
        json!({"task": new.task, "tenant": new.tenant, "run": new.run, "body": body})
    };
    let rows: Vec<Value> = told.iter().map(row).collect();
    let mut numbers: HashMap<TaskId, Vec<i64>> = HashMap::new();
    let mut statement = tx.prepare_cached(INSERT)?;
    let mut written = statement.query(params![Value::Array(rows).to_string(), now.0])?;
    while let Some(row) = written.next()? {
        let task = parse("event", text(row, 0)?)?;
        numbers.entry(task).or_default().push(row.get(1)?);
    }
    let mut numbers: HashMap<TaskId, VecDeque<i64>> = numbers
        .into_iter()
        .map(|(task, mut seqs)| {
            seqs.sort_unstable();
            (task, seqs.into())
        })
        .collect();
    let numbered = told.into_iter().filter_map(|new| {
        let seq = numbers.get_mut(&new.task)?.pop_front()?;
        Some(Recorded {
            seq,
            task: new.task,
            run: new.run,
            at: now,
            event: new.event,
        })
    });
    Ok(numbered.collect())
}

/// Events of a task after a number.
pub(super) fn after(
    conn: &Connection,
    task: TaskId,
    after: i64,
    limit: u32,
) -> Result<Vec<Recorded>, Error> {
    let mut statement = conn.prepare_cached(
        "select seq, run, at, body from event where task = ?1 and seq > ?2 order by seq limit ?3",
    )?;
    let mut rows = statement.query(params![task.to_string(), after, limit])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(Recorded {
            seq: row.get(0)?,
            task,
            run: parse("event", text(row, 1)?)?,
            at: Timestamp(row.get(2)?),
            event: from_json("event", text(row, 3)?)?,
        });
    }
    Ok(events)
}
