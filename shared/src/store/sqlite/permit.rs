//! Tables `permit` and `permit_use`: approvers' standing words, and what they were used for.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{SqliteStore, from_json, maybe_text, parse, run, text, to_json};
use crate::clock;
use crate::id::{AgentName, AskId, PermitId, PrincipalId, TenantId, ToolName};
use crate::permit::{Permit, PermitUse, Terms};
use crate::run::Timestamp;
use crate::store::{Delivered, Error, NewPermit, NewSignal, Permits, Used};

const COLUMNS: &str = "id, agent, tool, covered, tainted, times, used, ends_at, by, at, asked, \
                       revoked_by, revoked_at";
/// Whether a permit is good; `?2` is the time.
const GOOD: &str = "revoked_at is null and (ends_at is null or ends_at > ?2)
                    and (times is null or used < times)";

#[async_trait]
impl Permits for SqliteStore {
    async fn add(&self, permit: NewPermit) -> Result<Permit, Error> {
        let (tenant, id) = (permit.tenant.clone(), permit.id);
        self.write(move |tx| {
            let NewPermit { terms, .. } = &permit;
            let now = clock::now();
            tx.prepare_cached(
                "insert into permit (tenant, id, agent, tool, covered, tainted, times, ends_at, by,
                                     at, asked)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) on conflict do nothing",
            )?
            .execute(params![
                permit.tenant.as_str(),
                id.to_string(),
                terms.agent.as_str(),
                terms.tool.as_str(),
                to_json(&terms.covered),
                terms.tainted,
                terms.times,
                permit.lasts.map(|lasts| now.after(lasts).0),
                permit.by.as_str(),
                now.0,
                permit.asked.map(|ask| ask.to_string()),
            ])?;
            Ok(())
        })
        .await?;
        let added = self.one(&tenant, id).await?;
        added.ok_or_else(|| Error::Database(format!("permit {id} is another tenant's")))
    }

    async fn one(&self, tenant: &TenantId, id: PermitId) -> Result<Option<Permit>, Error> {
        self.read(|conn| {
            conn.prepare_cached(&format!(
                "select {COLUMNS} from permit where tenant = ?1 and id = ?2"
            ))?
            .query_row(params![tenant.as_str(), id.to_string()], |row| {
                Ok(read(row))
            })
            .optional()?
            .transpose()
        })
    }

    async fn all(&self, tenant: &TenantId, good: bool, limit: u32) -> Result<Vec<Permit>, Error> {
        self.read(|conn| {
            conn.prepare_cached(&format!(
                "select {COLUMNS} from permit where tenant = ?1 and (not ?3 or ({GOOD}))
                 order by at desc, id desc limit ?4"
            ))?
            .query_map(
                params![tenant.as_str(), clock::now().0, good, limit],
                |row| Ok(read(row)),
            )?
            .map(|row| row?)
            .collect()
        })
    }

    async fn good_for(
        &self,
        tenant: &TenantId,
        agent: &AgentName,
        tool: &ToolName,
    ) -> Result<Vec<Permit>, Error> {
        self.read(|conn| {
            conn.prepare_cached(&format!(
                "select {COLUMNS} from permit
                 where tenant = ?1 and agent = ?3 and tool = ?4 and {GOOD} order by at, id"
            ))?
            .query_map(
                params![
                    tenant.as_str(),
                    clock::now().0,
                    agent.as_str(),
                    tool.as_str()
                ],
                |row| Ok(read(row)),
            )?
            .map(|row| row?)
            .collect()
        })
    }

    async fn uses(
        &self,
        tenant: &TenantId,
        id: PermitId,
        limit: u32,
    ) -> Result<Vec<PermitUse>, Error> {
        self.read(|conn| {
            conn.prepare_cached(
                "select ask, task, at from permit_use where tenant = ?1 and permit = ?2
                 order by at desc, ask limit ?3",
            )?
            .query_map(params![tenant.as_str(), id.to_string(), limit], |row| {
                Ok((|| {
                    Ok(PermitUse {
                        ask: parse("permit_use", text(row, 0)?)?,
                        task: parse("permit_use", text(row, 1)?)?,
                        at: Timestamp(row.get(2)?),
                    })
                })())
            })?
            .map(|row| row?)
            .collect()
        })
    }

    async fn spend(&self, id: PermitId, answer: NewSignal) -> Result<Used, Error> {
        let run = answer.run;
        let used = self
            .write(move |tx| {
                crate::crash_point!("permit.before");
                let now = clock::now();
                if !is_good(tx, &answer.tenant, id, now)? {
                    return Ok(Used::Spent);
                }
                if run::deliver(tx, &answer, now)? != Delivered::First {
                    return Ok(Used::Late);
                }
                count(tx, id, &answer, now)?;
                Ok(Used::Counted)
            })
            .await?;
        crate::crash_point!("permit.after");
        if used == Used::Counted {
            self.bell.ring_run(run);
            self.bell.ring_mail();
            self.bell.ring_queue();
        }
        Ok(used)
    }

    async fn revoke(
        &self,
        tenant: &TenantId,
        id: PermitId,
        by: &PrincipalId,
    ) -> Result<bool, Error> {
        let (tenant, by) = (tenant.clone(), by.clone());
        self.write(move |tx| {
            let revoked = tx
                .prepare_cached(
                    "update permit set revoked_by = ?3, revoked_at = ?4
                     where tenant = ?1 and id = ?2 and revoked_at is null",
                )?
                .execute(params![
                    tenant.as_str(),
                    id.to_string(),
                    by.as_str(),
                    clock::now().0
                ])?;
            Ok(revoked == 1)
        })
        .await
    }
}

fn is_good(
    tx: &Connection,
    tenant: &TenantId,
    id: PermitId,
    now: Timestamp,
) -> Result<bool, Error> {
    let good = tx
        .prepare_cached(&format!(
            "select exists (select 1 from permit where tenant = ?1 and id = ?3 and {GOOD})"
        ))?
        .query_row(params![tenant.as_str(), now.0, id.to_string()], |row| {
            row.get(0)
        })?;
    Ok(good)
}

/// Writes a use down and counts it. There is one writer, so what was good before is so now.
fn count(tx: &Connection, id: PermitId, answer: &NewSignal, now: Timestamp) -> Result<(), Error> {
    let ask = AskId::of(answer.run, &answer.name);
    tx.prepare_cached("update permit set used = used + 1 where id = ?1")?
        .execute([id.to_string()])?;
    tx.prepare_cached(
        "insert into permit_use (ask, permit, tenant, task, at)
         select ?1, ?2, r.tenant, r.task, ?3 from run r where r.id = ?4",
    )?
    .execute(params![
        ask.to_string(),
        id.to_string(),
        now.0,
        answer.run.to_string()
    ])?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Permit, Error> {
    let revoked = maybe_text(row, 11)?.map(PrincipalId::from);
    Ok(Permit {
        id: parse("permit", text(row, 0)?)?,
        terms: Terms {
            agent: text(row, 1)?.into(),
            tool: text(row, 2)?.into(),
            covered: from_json("permit", text(row, 3)?)?,
            tainted: row.get(4)?,
            times: row.get(5)?,
        },
        used: row.get(6)?,
        until: row.get::<_, Option<i64>>(7)?.map(Timestamp),
        by: text(row, 8)?.into(),
        at: Timestamp(row.get(9)?),
        asked: maybe_text(row, 10)?
            .map(|ask| parse("permit", ask))
            .transpose()?,
        revoked: revoked.zip(row.get::<_, Option<i64>>(12)?.map(Timestamp)),
    })
}
