//! Table `event`: numbered within the task, written in the commit that it tells of.

use rusqlite::{Connection, params};

use super::journal::Pending;
use super::{from_json, parse, text, to_json};
use crate::event::{Event, Recorded};
use crate::id::{RunId, TaskId, TenantId};
use crate::run::Timestamp;
use crate::store::{Again, Error, NewTask, Step, ledger};
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

/// A task stands otherwise than before, by somebody's word.
pub(super) fn stands(tenant: &TenantId, task: TaskId, state: TaskState, reason: &str) -> New {
    New {
        task,
        run: task.into(),
        tenant: tenant.clone(),
        event: Event::State {
            state,
            reason: reason.into(),
            agent: None,
        },
    }
}

/// A task was made from another one.
pub(super) fn renewed(again: &Again, reason: String) -> New {
    New {
        task: again.id,
        run: again.id.into(),
        tenant: again.tenant.clone(),
        event: Event::State {
            state: TaskState::Queued,
            reason,
            agent: None,
        },
    }
}

const INSERT: &str = "
insert into event (task, seq, tenant, run, at, body)
values (?1, (select coalesce(max(seq), 0) + 1 from event where task = ?1), ?2, ?3, ?4, ?5)
returning seq";

/// Writes events and gives them their numbers, in the order given within each task.
pub(super) fn insert(
    tx: &Connection,
    told: Vec<New>,
    now: Timestamp,
) -> Result<Vec<Recorded>, Error> {
    let mut statement = tx.prepare_cached(INSERT)?;
    let number = |new: New| {
        let seq = statement.query_row(
            params![
                new.task.to_string(),
                new.tenant.as_str(),
                new.run.to_string(),
                now.0,
                to_json(&new.event)
            ],
            |row| row.get(0),
        )?;
        Ok(Recorded {
            seq,
            task: new.task,
            run: new.run,
            at: now,
            event: new.event,
        })
    };
    told.into_iter().map(number).collect()
}

/// Events of a task after a number.
pub(super) fn after(
    conn: &Connection,
    tenant: &TenantId,
    task: TaskId,
    after: i64,
    limit: u32,
) -> Result<Vec<Recorded>, Error> {
    let mut statement = conn.prepare_cached(
        "select seq, run, at, body from event where task = ?1 and seq > ?2 and tenant = ?4
         order by seq limit ?3",
    )?;
    let mut rows = statement.query(params![task.to_string(), after, limit, tenant.as_str()])?;
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
