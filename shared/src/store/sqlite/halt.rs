//! Table `halt`: what an operator has stopped.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::{SqliteStore, corrupt, text};
use crate::clock;
use crate::id::TenantId;
use crate::run::Timestamp;
use crate::store::{Error, Halt, Halted, Halts, NewHalt};

/// What keeps a run from being claimed, as a condition on `run`.
pub(super) const FREE: &str = "not exists (
  select 1 from halt h where h.tenant = run.tenant
    and (h.what = 'all' or (h.what = 'agent' and h.name = run.agent)))";

const COLUMNS: &str = "tenant, what, name, reason, by, at";

#[async_trait]
impl Halts for SqliteStore {
    async fn set(&self, halt: NewHalt) -> Result<bool, Error> {
        let set = self
            .write(move |tx| {
                let (what, name) = halt.what.as_row();
                let set = tx
                    .prepare_cached(
                        "insert into halt (tenant, what, name, reason, by, at)
                         values (?1, ?2, ?3, ?4, ?5, ?6) on conflict do nothing",
                    )?
                    .execute(params![
                        halt.tenant.as_str(),
                        what,
                        name,
                        halt.reason,
                        halt.by.as_str(),
                        clock::now().0
                    ])?;
                Ok(set == 1)
            })
            .await?;
        self.look().await?;
        Ok(set)
    }

    async fn lift(&self, tenant: &TenantId, what: &Halted) -> Result<bool, Error> {
        let (tenant, what) = (tenant.clone(), what.clone());
        let lifted = self
            .write(move |tx| {
                let (what, name) = what.as_row();
                let lifted = tx
                    .prepare_cached(
                        "delete from halt where tenant = ?1 and what = ?2 and name = ?3",
                    )?
                    .execute(params![tenant.as_str(), what, name])?;
                Ok(lifted == 1)
            })
            .await?;
        self.look().await?;
        Ok(lifted)
    }

    async fn of(&self, tenant: &TenantId) -> Result<Vec<Halt>, Error> {
        self.read(|conn| {
            conn.prepare_cached(&format!(
                "select {COLUMNS} from halt where tenant = ?1 order by at, what, name"
            ))?
            .query_map([tenant.as_str()], |row| Ok(read(row)))?
            .map(|row| row?)
            .collect()
        })
    }

    async fn look(&self) -> Result<(), Error> {
        let look = self.bell.begin_look();
        let found = self.read(all)?;
        self.bell.halt(look, found);
        Ok(())
    }
}

fn all(conn: &Connection) -> Result<Vec<Halt>, Error> {
    conn.prepare_cached(&format!(
        "select {COLUMNS} from halt order by at, what, name"
    ))?
    .query_map([], |row| Ok(read(row)))?
    .map(|row| row?)
    .collect()
}

fn read(row: &Row<'_>) -> Result<Halt, Error> {
    let what = text(row, 1)?;
    Ok(Halt {
        tenant: Some(text(row, 0)?.into()),
        what: Halted::of_row(what, text(row, 2)?).ok_or_else(|| corrupt("halt", what))?,
        reason: row.get(3)?,
        by: text(row, 4)?.into(),
        at: Timestamp(row.get(5)?),
    })
}
