//! Retention: what is deleted of tasks that ended long ago. It spans the tables of the journal, so its
//! statements stand together here.
//!
//! A body that no step refers to may be just about to get one, in a transaction that is not committed.
//! So before bodies are deleted, those who keep some are waited for and kept out until the commit: by
//! a lock of the table, taken after all rows, as every writer does.

use std::time::Duration;

use uuid::Uuid;

use super::tx::{Tx, get};
use super::{EngineRole, blob, duty, run};
use crate::id::{TaskId, TenantId};
use crate::store::{Duty, Error};

const DUE: &str = "
select t.tenant, t.id from task t
where t.state in ('done', 'failed', 'cancelled') and t.pruned_at is null
  and t.updated_at <= (select now_ms()) - $1::bigint
  and not exists (select 1 from run r where r.task = t.id and r.state in ('queued', 'running', 'waiting'))
order by t.updated_at limit $2";

const MARK: &str = "
update task t set pruned_at = now_ms()
where id = any($1) and state in ('done', 'failed', 'cancelled') and pruned_at is null
  and not exists (select 1 from run r where r.task = t.id and r.state in ('queued', 'running', 'waiting'))
returning id";
const MARK_RUNS: &str = "update run set pruned_at = now_ms() where task = any($1) returning id";

const STEPS: &str = "delete from step where run = any($1) returning tenant, artefact";
const SIGNALS: &str = "delete from signal where run = any($1)";
const ASKS: &str = "delete from ask where run = any($1)";
const PERMIT_USES: &str = "delete from permit_use where task = any($1)";
const EVENTS: &str = "delete from event where task = any($1)";

const KEEP_OUT: &str = "lock table content in share row exclusive mode";
/// Catalogs are never among them: runs refer to those, and runs stay.
const FORGET: &str = "
delete from content c using unnest($1::text[], $2::text[]) as u(tenant, hash)
where c.tenant = u.tenant and c.hash = u.hash
  and not exists (select 1 from step s where s.tenant = c.tenant and s.artefact = c.hash)
  and not exists (select 1 from run r where r.tenant = c.tenant and r.catalog = c.hash)";

/// Tasks that ended so long ago and have their journal, the oldest first.
pub(super) async fn due(
    engine: &EngineRole,
    age: Duration,
    limit: u32,
) -> Result<Vec<(TenantId, TaskId)>, Error> {
    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    let rows = engine.ask(DUE, &[&age, &i64::from(limit)]).await?;
    rows.iter()
        .map(|row| Ok((get::<&str>(row, 0)?.into(), TaskId(get(row, 1)?))))
        .collect()
}

/// Deletes the journals of these tasks. Nothing where the duty is lost.
pub(super) async fn prune(
    engine: &EngineRole,
    held: &Duty,
    tasks: &[TaskId],
) -> Result<Option<u64>, Error> {
    let tasks: Vec<Uuid> = tasks.iter().map(|task| task.0).collect();
    let client = engine.get().await?;
    let tx = Tx::on(&client);
    tx.begin().await?;
    if !duty::is_held(&tx, held).await? {
        return Ok(None);
    }
    tx.ask(run::LOCK_TASKS, &[&tasks]).await?;
    let marked = ids(&tx.ask(MARK, &[&tasks]).await?)?;
    let runs = ids(&tx.ask(MARK_RUNS, &[&marked]).await?)?;
    let (mut tenants, mut hashes) = (Vec::new(), Vec::new());
    for step in tx.ask(STEPS, &[&runs]).await? {
        if let Some(hash) = get::<Option<String>>(&step, 1)? {
            tenants.push(get::<String>(&step, 0)?);
            hashes.push(hash);
        }
    }
    tx.ask(SIGNALS, &[&runs]).await?;
    tx.ask(ASKS, &[&runs]).await?;
    tx.ask(PERMIT_USES, &[&marked]).await?;
    tx.ask(EVENTS, &[&marked]).await?;
    if !hashes.is_empty() {
        tx.ask(KEEP_OUT, &[]).await?;
        tx.ask(FORGET, &[&tenants, &hashes]).await?;
    }
    forget_blobs(&tx, &marked).await?;
    tx.commit().await?;
    tx.done();
    Ok(Some(marked.len() as u64))
}

async fn forget_blobs(tx: &Tx<'_>, tasks: &[Uuid]) -> Result<(), Error> {
    let (mut tenants, mut hashes) = (Vec::new(), Vec::new());
    for used in tx.ask(blob::LEAVE, &[&tasks]).await? {
        tenants.push(get::<String>(&used, 0)?);
        hashes.push(get::<String>(&used, 1)?);
    }
    if !hashes.is_empty() {
        tx.ask(blob::KEEP_OUT, &[]).await?;
        tx.ask(blob::FORGET, &[&tenants, &hashes]).await?;
    }
    Ok(())
}

fn ids(rows: &[tokio_postgres::Row]) -> Result<Vec<Uuid>, Error> {
    rows.iter().map(|row| get(row, 0)).collect()
}
