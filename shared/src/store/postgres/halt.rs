//! Table `halt`: what an operator has stopped. Whoever changes it tells the other processes, which look
//! again; they look each second, too.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::tx::get;
use super::{EngineRole, PostgresStore, clean, corrupt};
use crate::id::TenantId;
use crate::run::Timestamp;
use crate::store::{Bell, Error, Halt, Halted, Halts, NewHalt};

/// What keeps a run from being claimed, as a condition on `run`.
pub(super) const FREE: &str = "not exists (
  select 1 from halt h where h.tenant = run.tenant
    and (h.what = 'all' or (h.what = 'agent' and h.name = run.agent)))";

const SET: &str = "
with changed as (
  insert into halt (tenant, what, name, reason, by, at)
  values ($1, $2, $3, $4, $5, now_ms()) on conflict do nothing returning 1)
select pg_notify('majordomo', 'halt ' || $6::text) from changed";

const LIFT: &str = "
with changed as (
  delete from halt where tenant = $1 and what = $2 and name = $3 returning 1)
select pg_notify('majordomo', 'halt ' || $4::text) from changed";

const OF: &str = "
select tenant, what, name, reason, by, at from halt where tenant = $1 order by at, what, name";

const ALL: &str = "
select tenant, what, name, reason, by, at from halt order by at, what, name";

#[async_trait]
impl Halts for PostgresStore {
    async fn set(&self, halt: NewHalt) -> Result<bool, Error> {
        let (what, name) = halt.what.as_row();
        let (reason, by) = (clean(&halt.reason), clean(halt.by.as_str()));
        let (tenant, teller) = (halt.tenant.as_str(), self.engine.teller());
        let set = self
            .engine
            .ask(SET, &[&tenant, &what, &name, &reason, &by, &teller])
            .await?;
        self.look().await?;
        Ok(!set.is_empty())
    }

    async fn lift(&self, tenant: &TenantId, what: &Halted) -> Result<bool, Error> {
        let (what, name) = what.as_row();
        let (tenant, teller) = (tenant.as_str(), self.engine.teller());
        let lifted = self
            .engine
            .ask(LIFT, &[&tenant, &what, &name, &teller])
            .await?;
        self.look().await?;
        Ok(!lifted.is_empty())
    }

    async fn of(&self, tenant: &TenantId) -> Result<Vec<Halt>, Error> {
        let rows = self.engine.ask(OF, &[&tenant.as_str()]).await?;
        rows.iter().map(read).collect()
    }

    async fn look(&self) -> Result<(), Error> {
        look(&self.engine, &self.bell).await
    }
}

/// Has a process know what stands still.
pub(super) async fn look(engine: &EngineRole, bell: &Bell) -> Result<(), Error> {
    let look = bell.begin_look();
    let rows = engine.ask(ALL, &[]).await?;
    bell.halt(look, rows.iter().map(read).collect::<Result<_, _>>()?);
    Ok(())
}

fn read(row: &Row) -> Result<Halt, Error> {
    let what: &str = get(row, 1)?;
    Ok(Halt {
        tenant: Some(get::<&str>(row, 0)?.into()),
        what: Halted::of_row(what, get(row, 2)?).ok_or_else(|| corrupt("halt", what))?,
        reason: get(row, 3)?,
        by: get::<&str>(row, 4)?.into(),
        at: Timestamp(get(row, 5)?),
    })
}
