//! Table `event`: numbered within the task, written in the commit that it tells of.

use std::collections::HashMap;
use std::collections::VecDeque;

use serde_json::{Value, json};
use sqlx::sqlite::SqlitePool;
use sqlx::{Row, SqliteConnection};

use super::journal::Pending;
use super::{from_json, parse, to_json};
use crate::event::{Event, Live, Recorded};
use crate::id::{RunId, TaskId, TenantId};
use crate::run::Timestamp;
use crate::store::{Bell, Error};

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
pub(super) async fn insert(
    tx: &mut SqliteConnection,
    told: Vec<New>,
    now: Timestamp,
) -> Result<Vec<Recorded>, Error> {
    if told.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<Value> = told
        .iter()
        .map(|new| {
            json!({"task": new.task, "tenant": new.tenant, "run": new.run, "body": to_json(&new.event)})
        })
        .collect();
    let written = sqlx::query(INSERT)
        .bind(Value::Array(rows).to_string())
        .bind(now.0)
        .fetch_all(tx)
        .await?;
    let mut numbers: HashMap<TaskId, Vec<i64>> = HashMap::new();
    for row in &written {
        let task = parse("event", row.try_get(0)?)?;
        numbers.entry(task).or_default().push(row.try_get(1)?);
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

/// Tells those who watch now. Nobody watching is the usual case.
pub(super) fn publish(bell: &Bell, events: Vec<Recorded>) {
    for event in events {
        let _ = bell.events().send(event.clone());
        let _ = bell.feed().send(Live::Event(event));
    }
}

/// Events of a task after a number.
pub(super) async fn after(
    pool: &SqlitePool,
    task: TaskId,
    after: i64,
    limit: u32,
) -> Result<Vec<Recorded>, Error> {
    let rows = sqlx::query(
        "select seq, run, at, body from event where task = ?1 and seq > ?2 order by seq limit ?3",
    )
    .bind(task.to_string())
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Recorded {
                seq: row.try_get(0)?,
                task,
                run: parse("event", row.try_get(1)?)?,
                at: Timestamp(row.try_get(2)?),
                event: from_json("event", row.try_get(3)?)?,
            })
        })
        .collect()
}
