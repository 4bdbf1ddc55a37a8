//! Table `ask`: what people are asked.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{SqliteStore, corrupt, duty, from_json, maybe_text, parse, text, to_json};
use crate::ask::{Ask, AskKind, AskState, Asked};
use crate::clock;
use crate::id::{AskId, PrincipalId, RunId, SignalName, TaskId, TenantId};
use crate::run::Timestamp;
use crate::store::{AskFilter, Asks, Climb, Duty, Error, NewOut, Rungs, Telling, Told};

/// Asks with where they stand; `?1` is the tenant, `?2` the time.
const SELECT: &str = "
select id, task, run, name, body, at, deadline, state, payload, decided_at, rungs, missed, rung_at from (
  select a.*, s.deadline, g.payload, g.at as decided_at,
         case when g.run is not null then 'answered'
              when s.state is null or s.state = 'done' then 'lapsed'
              when r.state in ('done', 'failed', 'cancelled', 'dead') then 'void'
              when s.deadline <= ?2 then 'lapsed'
              else 'open' end as state
  from ask a
  join run r on r.id = a.run
  left join step s on s.run = a.run and s.key = 'signal/' || a.name
  left join signal g on g.run = a.run and g.name = a.name
  where a.tenant = ?1)";

/// Writes down what is asked with the step that waits for it. Safe to repeat.
pub(super) fn insert(
    tx: &Connection,
    (tenant, task): (&TenantId, TaskId),
    (run, name): (RunId, &SignalName),
    ask: &Ask,
    now: Timestamp,
) -> Result<(), Error> {
    tx.prepare_cached(
        "insert into ask (run, name, id, tenant, task, kind, body, at, cause)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) on conflict do nothing",
    )?
    .execute(params![
        run.to_string(),
        name.as_str(),
        AskId::of(run, name).to_string(),
        tenant.as_str(),
        task.to_string(),
        ask.kind.as_str(),
        to_json(ask),
        now.0,
        ask.cause,
    ])?;
    Ok(())
}

/// Who may wait because of this, by whose runs and signals.
pub(super) fn waiting_for(
    tx: &Connection,
    tenant: &TenantId,
    cause: &str,
) -> Result<Vec<(RunId, SignalName)>, Error> {
    let mut statement = tx.prepare_cached(
        "select run, name from ask where tenant = ?1 and cause = ?2 and told <> 'closed'",
    )?;
    let mut rows = statement.query([tenant.as_str(), cause])?;
    let mut waiting = Vec::new();
    while let Some(row) = rows.next()? {
        waiting.push((parse("ask", text(row, 0)?)?, text(row, 1)?.into()));
    }
    Ok(waiting)
}

#[async_trait]
impl Asks for SqliteStore {
    async fn get(&self, tenant: &TenantId, id: AskId) -> Result<Option<Asked>, Error> {
        self.read(|conn| {
            conn.prepare_cached(&format!("{SELECT} where id = ?3"))?
                .query_row(
                    params![tenant.as_str(), clock::now().0, id.to_string()],
                    |row| Ok(read(row)),
                )
                .optional()?
                .transpose()
        })
    }

    async fn list(&self, tenant: &TenantId, filter: &AskFilter) -> Result<Vec<Asked>, Error> {
        let kinds: Vec<&str> = filter
            .kinds
            .iter()
            .map(|kind| AskKind::as_str(*kind))
            .collect();
        self.read(|conn| {
            let select = format!(
                "{SELECT} where (?3 is null or task = ?3)
                   and (?4 = '[]' or kind in (select value from json_each(?4)))
                   and (not ?5 or (told <> 'closed' and state = 'open'))
                   and (?6 is null or task in (select t.id from task t
                                               where t.principal = ?6 or t.submitted_by = ?6))
                   and (?7 is null or (at, id) < (select b.at, b.id from ask b where b.id = ?7))
                   and (?8 is null or substr(id, 1, length(?8)) = ?8)
                 order by at desc, id desc limit ?9"
            );
            conn.prepare_cached(&select)?
                .query_map(
                    params![
                        tenant.as_str(),
                        clock::now().0,
                        filter.task.map(|task| task.to_string()),
                        to_json(&kinds),
                        filter.open,
                        filter.visible_to.as_ref().map(PrincipalId::as_str),
                        filter.before.map(|ask| ask.to_string()),
                        filter.begins,
                        filter.limit
                    ],
                    |row| Ok(read(row)),
                )?
                .map(|row| row?)
                .collect()
        })
    }

    async fn untold(&self, tenant: &TenantId, limit: u32) -> Result<Vec<Asked>, Error> {
        self.read(|conn| {
            let select = format!(
                "{SELECT} where told <> 'closed' and (told = 'nothing' or state <> 'open')
                 order by at, id limit ?3"
            );
            conn.prepare_cached(&select)?
                .query_map(params![tenant.as_str(), clock::now().0, limit], |row| {
                    Ok(read(row))
                })?
                .map(|row| row?)
                .collect()
        })
    }

    async fn tell(
        &self,
        duty: &Duty,
        (tenant, asked): (&TenantId, &Asked),
        telling: Telling,
    ) -> Result<bool, Error> {
        let (duty, tenant, now) = (duty.clone(), tenant.clone(), clock::now());
        let (id, cause) = (asked.id.to_string(), asked.ask.cause.clone());
        let told = self
            .write(move |tx| {
                crate::crash_point!("tell.before");
                if !duty::is_held(tx, &duty)? {
                    return Ok(false);
                }
                let Telling { told, cards, rungs } = telling;
                tx.prepare_cached("update ask set told = ?2 where id = ?1 and told <> 'closed'")?
                    .execute(params![id, told.as_str()])?;
                if let Some(rungs) = rungs {
                    tx.prepare_cached(
                        "update ask set rungs = ?2, missed = ?3, rung_at = ?4 where id = ?1",
                    )?
                    .execute(params![id, rungs.told, rungs.missed, now.0])?;
                }
                if let Some(cause) = &cause {
                    tx.prepare_cached(
                        "update outbox set state = 'owed', updated_at = ?4
                         where state = 'sent' and ask in (
                           select id from ask where tenant = ?1 and cause = ?2 and id <> ?3
                                                and told <> 'closed' and rungs > 0)",
                    )?
                    .execute(params![tenant.as_str(), cause, id, now.0])?;
                }
                if told == Told::Closed {
                    tx.prepare_cached(
                        "update outbox set state = 'owed', updated_at = ?2
                         where ask = ?1 and state = 'sent'",
                    )?
                    .execute(params![id, now.0])?;
                    tx.prepare_cached(
                        "update ask set told = 'nothing'
                         where tenant = ?1 and told = 'asked' and rungs = 0
                           and cause = (select cause from ask where id = ?2 and rungs > 0)",
                    )?
                    .execute(params![tenant.as_str(), id])?;
                }
                for card in &cards {
                    owe(tx, &tenant, card, &id, now)?;
                }
                Ok(true)
            })
            .await?;
        crate::crash_point!("tell.after");
        self.bell.ring_mail();
        Ok(told)
    }

    async fn climbing(&self, tenant: &TenantId, limit: u32) -> Result<Vec<Climb>, Error> {
        self.read(|conn| {
            let select = format!(
                "{SELECT} where told = 'asked' and rungs > 0 and state = 'open'
                 order by rung_at, id limit ?3"
            );
            let climb = |row: &Row<'_>| {
                Ok(Climb {
                    asked: read(row)?,
                    rungs: Rungs {
                        told: row.get(10)?,
                        missed: row.get(11)?,
                    },
                    at: Timestamp(row.get(12)?),
                })
            };
            conn.prepare_cached(&select)?
                .query_map(params![tenant.as_str(), clock::now().0, limit], |row| {
                    Ok(climb(row))
                })?
                .map(|row| row?)
                .collect()
        })
    }

    async fn alike(
        &self,
        tenant: &TenantId,
        cause: &str,
        limit: u32,
    ) -> Result<Vec<(Asked, bool)>, Error> {
        self.read(|conn| {
            let select = format!(
                "{SELECT} where cause = ?3 and told <> 'closed' and state = 'open'
                 order by at, id limit ?4"
            );
            let alike = |row: &Row<'_>| Ok((read(row)?, row.get::<_, u32>(10)? > 0));
            conn.prepare_cached(&select)?
                .query_map(
                    params![tenant.as_str(), clock::now().0, cause, limit],
                    |row| Ok(alike(row)),
                )?
                .map(|row| row?)
                .collect()
        })
    }

    async fn miss(&self, tenant: &TenantId, ask: AskId, keys: &str) -> Result<(), Error> {
        let (tenant, keys) = (tenant.clone(), keys.to_owned());
        self.write(move |tx| {
            tx.prepare_cached(
                "update ask set missed = rungs
                 where id = ?1 and tenant = ?2 and told = 'asked'
                   and ?3 = 'ask/' || id || '@' || rungs || '/'
                   and not exists (select 1 from outbox where ask = ?1 and state <> 'dead'
                                                          and substr(key, 1, length(?3)) = ?3)",
            )?
            .execute(params![ask.to_string(), tenant.as_str(), keys])?;
            Ok(())
        })
        .await?;
        self.bell.ring_mail();
        Ok(())
    }

    async fn is_shown(
        &self,
        tenant: &TenantId,
        id: AskId,
        (channel, conversation): (&str, &str),
    ) -> Result<bool, Error> {
        self.read(|conn| {
            let shown = conn
                .prepare_cached(
                    "select exists (select 1 from outbox where ask = ?1 and tenant = ?2
                                                           and channel = ?3 and conversation = ?4)",
                )?
                .query_row(
                    params![id.to_string(), tenant.as_str(), channel, conversation],
                    |row| row.get(0),
                )?;
            Ok(shown)
        })
    }

    async fn open_at(
        &self,
        tenant: &TenantId,
        (channel, conversation): (&str, &str),
    ) -> Result<Vec<Asked>, Error> {
        self.read(|conn| {
            let select = format!(
                "{SELECT} where kind = 'question' and told <> 'closed' and state = 'open'
                   and id in (select o.ask from outbox o
                              where o.tenant = ?1 and o.channel = ?3 and o.conversation = ?4
                                and o.ask is not null)
                 limit 2"
            );
            conn.prepare_cached(&select)?
                .query_map(
                    params![tenant.as_str(), clock::now().0, channel, conversation],
                    |row| Ok(read(row)),
                )?
                .map(|row| row?)
                .collect()
        })
    }

    async fn shown(
        &self,
        tenant: &TenantId,
        (channel, conversation): (&str, Option<&str>),
        message: &str,
    ) -> Result<Option<AskId>, Error> {
        self.read(|conn| {
            let id: Option<String> = conn
                .prepare_cached(
                    "select o.ask from outbox o
                     where o.tenant = ?1 and o.channel = ?2 and (?3 is null or o.conversation = ?3)
                       and o.ask is not null
                       and exists (select 1 from json_each(o.far) where value = ?4)",
                )?
                .query_row(
                    params![tenant.as_str(), channel, conversation, message],
                    |row| row.get(0),
                )
                .optional()?;
            id.map(|id| parse("outbox", &id)).transpose()
        })
    }
}

/// Owes a card that shows an ask. Safe to repeat.
fn owe(
    tx: &Connection,
    tenant: &TenantId,
    card: &NewOut,
    ask: &str,
    now: Timestamp,
) -> Result<(), Error> {
    tx.prepare_cached(
        "insert into outbox (tenant, channel, key, conversation, kind, ask, body, state, created_at,
                             updated_at)
         values (?1, ?2, ?3, ?4, 'say', ?5, ?6, 'owed', ?7, ?7) on conflict do nothing",
    )?
    .execute(params![
        tenant.as_str(),
        card.channel,
        card.key,
        card.conversation,
        ask,
        card.body.to_string(),
        now.0
    ])?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Asked, Error> {
    let state = text(row, 7)?;
    let decided: Option<i64> = row.get(9)?;
    // What was not said by way of an ask may read as no verdict: it is an answer all the same.
    let verdict = maybe_text(row, 8)?.and_then(|payload| serde_json::from_str(payload).ok());
    let verdict = verdict.zip(decided.map(Timestamp));
    Ok(Asked {
        id: parse("ask", text(row, 0)?)?,
        task: parse("ask", text(row, 1)?)?,
        run: parse("ask", text(row, 2)?)?,
        name: text(row, 3)?.into(),
        ask: from_json("ask", text(row, 4)?)?,
        at: Timestamp(row.get(5)?),
        until: row.get::<_, Option<i64>>(6)?.map(Timestamp),
        state: AskState::parse(state).ok_or_else(|| corrupt("ask", state))?,
        verdict,
    })
}
