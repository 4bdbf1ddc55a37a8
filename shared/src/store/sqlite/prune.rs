//! Retention: what is deleted of tasks that ended long ago. It spans the tables of the journal, so its
//! statements stand together here. The writer is one thread, so no entry comes between the look at who
//! still refers to a body and its end.

use rusqlite::{Connection, params};

use super::{blob, duty, parse, text};
use crate::id::{TaskId, TenantId};
use crate::run::Timestamp;
use crate::store::{Duty, Error};

/// Tasks that ended at `before` at the latest and have their journal, the oldest first.
pub(super) fn due(
    conn: &Connection,
    before: Timestamp,
    limit: u32,
) -> Result<Vec<(TenantId, TaskId)>, Error> {
    let mut statement = conn.prepare_cached(
        "select t.tenant, t.id from task t
         where t.state in ('done', 'failed', 'cancelled') and t.pruned_at is null and t.updated_at <= ?1
           and not exists (select 1 from run r where r.task = t.id
                                                 and r.state in ('queued', 'running', 'waiting'))
         order by t.updated_at limit ?2",
    )?;
    let mut rows = statement.query(params![before.0, limit])?;
    let mut due = Vec::new();
    while let Some(row) = rows.next()? {
        due.push((text(row, 0)?.into(), parse("task", text(row, 1)?)?));
    }
    Ok(due)
}

/// Deletes the journals of these tasks. Nothing where the duty is lost.
pub(super) fn prune(
    tx: &Connection,
    held: &Duty,
    tasks: &[TaskId],
    now: Timestamp,
) -> Result<Option<u64>, Error> {
    if !duty::is_held(tx, held)? {
        return Ok(None);
    }
    let mut pruned = 0;
    for task in tasks {
        if !mark(tx, *task, now)? {
            continue;
        }
        pruned += 1;
        let bodies = bodies(tx, *task)?;
        for table in ["step", "signal", "ask"] {
            let delete =
                format!("delete from {table} where run in (select id from run where task = ?1)");
            tx.prepare_cached(&delete)?.execute([task.to_string()])?;
        }
        for table in ["event", "permit_use"] {
            tx.prepare_cached(&format!("delete from {table} where task = ?1"))?
                .execute([task.to_string()])?;
        }
        for (tenant, hash) in bodies {
            forget(tx, &tenant, &hash)?;
        }
        blob::forget(tx, *task)?;
    }
    Ok(Some(pruned))
}

/// Marks a task and its runs as pruned. False where it has not ended, or was pruned before.
fn mark(tx: &Connection, task: TaskId, now: Timestamp) -> Result<bool, Error> {
    let marked = tx
        .prepare_cached(
            "update task set pruned_at = ?2
             where id = ?1 and state in ('done', 'failed', 'cancelled') and pruned_at is null
               and not exists (select 1 from run r where r.task = task.id
                                                     and r.state in ('queued', 'running', 'waiting'))",
        )?
        .execute(params![task.to_string(), now.0])?;
    if marked == 1 {
        tx.prepare_cached("update run set pruned_at = ?2 where task = ?1")?
            .execute(params![task.to_string(), now.0])?;
    }
    Ok(marked == 1)
}

/// The bodies that the task's steps refer to.
fn bodies(tx: &Connection, task: TaskId) -> Result<Vec<(String, String)>, Error> {
    let mut statement = tx.prepare_cached(
        "select distinct s.tenant, s.artefact from step s join run r on r.id = s.run
         where r.task = ?1 and s.artefact is not null",
    )?;
    let rows = statement.query_map([task.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Deletes a body that no step refers to any more. Catalogs are never among them: runs refer to those,
/// and runs stay.
fn forget(tx: &Connection, tenant: &str, hash: &str) -> Result<(), Error> {
    tx.prepare_cached(
        "delete from content where tenant = ?1 and hash = ?2
           and not exists (select 1 from step s where s.tenant = ?1 and s.artefact = ?2)
           and not exists (select 1 from run r where r.tenant = ?1 and r.catalog = ?2)",
    )?
    .execute([tenant, hash])?;
    Ok(())
}

/// Pages that are given back to the system at once: 8 MiB, so that nobody waits long for the writer.
const PAGES: u32 = 2_048;

/// Gives a piece of the free space back. Answers its bytes.
pub(super) fn compact(tx: &Connection) -> Result<u64, Error> {
    let read = |pragma: &str| -> Result<i64, Error> {
        Ok(tx.query_row(&format!("pragma {pragma}"), [], |row| row.get(0))?)
    };
    let before = read("freelist_count")?;
    // 2 is `incremental`: files of another kind keep their free pages, and fill them again.
    if before == 0 || read("auto_vacuum")? != 2 {
        return Ok(0);
    }
    let mut vacuum = tx.prepare(&format!("pragma incremental_vacuum({PAGES})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    let freed = before - read("freelist_count")?;
    Ok((freed * read("page_size")?).max(0) as u64)
}
