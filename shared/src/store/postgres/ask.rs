//! Table `ask`: what people are asked.

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio_postgres::Row;

use super::journal::Pending;
use super::tx::{Params, Tx, get, prepare};
use super::{PostgresStore, RING, clean, corrupt, duty, from_json, mail};
use crate::ask::{AskKind, AskState, Asked};
use crate::id::{AskId, RunId, TaskId, TenantId};
use crate::run::Timestamp;
use crate::store::{AskFilter, Asks, Change, Climb, Duty, Error, Rungs, Telling, Told};

/// Asks with where they stand; `$1` is the tenant.
const SELECT: &str = "
select id, task, run, name, body::text, at, deadline, state, payload::text, decided_at, rungs, missed,
       rung_at from (
  select a.*, s.deadline, g.payload, g.at as decided_at,
         case when g.run is not null then 'answered'
              when s.state is null or s.state = 'done' then 'lapsed'
              when r.state in ('done', 'failed', 'cancelled', 'dead') then 'void'
              when s.deadline <= (select now_ms()) then 'lapsed'
              else 'open' end as state
  from ask a
  join run r on r.id = a.run
  left join step s on s.run = a.run and s.key = 'signal/' || a.name
  left join signal g on g.run = a.run and g.name = a.name
  where a.tenant = $1) asked";

const OWE_AGAIN: &str = "
update outbox set state = 'owed', updated_at = now_ms() where ask = $1 and state = 'sent'";

/// Owes a card that shows an ask.
const OWE: &str = "
insert into outbox (tenant, channel, key, conversation, kind, ask, body, state, created_at, updated_at)
select $1, $2, $3, $4, 'say', $5, $6::text::json, 'owed', t.now, t.now
from (select now_ms() as now) t
on conflict do nothing";

const IS_SHOWN: &str = "
select 1 from outbox
where tenant = $1 and channel = $2 and conversation = $3 and ask = $4 limit 1";

const SHOWN: &str = "
select ask from outbox
where tenant = $1 and channel = $2 and ($3::text is null or conversation = $3) and ask is not null
  and $4::text in (select json_array_elements_text(far))";

const TELL: &str = "update ask set told = $2 where id = $1 and told <> 'closed'";

const CLIMB: &str = "
update ask set rungs = $2, missed = $3, rung_at = now_ms() where id = $1";

/// The cards of the incident that an ask joins or leaves are owed again.
const OWE_INCIDENT: &str = "
update outbox set state = 'owed', updated_at = now_ms()
where state = 'sent' and ask in (select id from ask where tenant = $1 and cause = $2 and id <> $3
                                                      and told <> 'closed' and rungs > 0)";

/// Whoever waits in an incident that loses the ask that climbed for all is told of anew.
const UNTELL: &str = "
update ask set told = 'nothing'
where tenant = $1 and told = 'asked' and rungs = 0
  and cause = (select cause from ask where id = $2 and rungs > 0)";

const MISS: &str = "
update ask set missed = rungs
where id = $1 and tenant = $2 and told = 'asked'
  and $3 = 'ask/' || id::text || '@' || rungs::text || '/'
  and not exists (select 1 from outbox where ask = $1 and state <> 'dead' and starts_with(key, $3))";

/// Who may wait because of a cause, other than this run: by tasks, runs and signals.
pub(super) const WAITING_FOR: &str = "
select task, run, name from ask
where tenant = $1 and cause = $2 and told <> 'closed' and run <> $3";

/// Writes down what is asked with the steps that wait for it, as [`row_of`] makes the rows.
pub(super) const INSERT: &str = "
insert into ask (run, name, id, tenant, task, kind, body, at, cause)
select j.run, j.name, j.id, j.tenant, j.task, j.kind, j.body, now_ms(), j.cause
from json_to_recordset($1::text::json)
     as j(run uuid, name text, id uuid, tenant text, task uuid, kind text, body json, cause text)
on conflict do nothing";

/// What an entry asks people.
pub(super) fn row_of(pending: &Pending) -> Option<Value> {
    let entry = &pending.entry;
    let Change::Step {
        ask: Some(asked), ..
    } = &entry.change
    else {
        return None;
    };
    let (name, ask) = &**asked;
    let run = pending.fence.run;
    Some(json!({
        "run": run,
        "name": name,
        "id": AskId::of(run, name),
        "tenant": entry.tenant,
        "task": entry.task,
        "kind": ask.kind.as_str(),
        "body": ask,
        "cause": ask.cause,
    }))
}

#[async_trait]
impl Asks for PostgresStore {
    async fn get(&self, tenant: &TenantId, id: AskId) -> Result<Option<Asked>, Error> {
        let select = format!("{SELECT} where id = $2");
        let rows = self.engine.ask(&select, &[&tenant.as_str(), &id.0]).await?;
        rows.first().map(read).transpose()
    }

    async fn list(&self, tenant: &TenantId, filter: &AskFilter) -> Result<Vec<Asked>, Error> {
        let select = format!(
            "{SELECT} where ($2::uuid is null or task = $2)
               and (cardinality($3::text[]) = 0 or kind = any($3))
               and (not $4::bool or (told <> 'closed' and state = 'open'))
               and ($5::text is null or task in (select t.id from task t where t.tenant = $1
                                                 and (t.principal = $5 or t.submitted_by = $5)))
               and ($6::uuid is null or (at, id) < (select b.at, b.id from ask b
                                                    where b.tenant = $1 and b.id = $6))
               and ($7::text is null or starts_with(id::text, $7))
             order by at desc, id desc limit $8"
        );
        let kinds: Vec<&str> = filter
            .kinds
            .iter()
            .map(|kind| AskKind::as_str(*kind))
            .collect();
        let task = filter.task.map(|task| task.0);
        let visible_to = filter.visible_to.as_ref();
        let visible_to = visible_to.map(|name| clean(name.as_str()));
        let before = filter.before.map(|ask| ask.0);
        let begins = filter.begins.as_deref().map(clean);
        let (tenant, limit) = (tenant.as_str(), i64::from(filter.limit));
        let params: Params<'_> = &[
            &tenant,
            &task,
            &kinds,
            &filter.open,
            &visible_to,
            &before,
            &begins,
            &limit,
        ];
        let rows = self.engine.ask(&select, params).await?;
        rows.iter().map(read).collect()
    }

    async fn untold(&self, tenant: &TenantId, limit: u32) -> Result<Vec<Asked>, Error> {
        let select = format!(
            "{SELECT} where told <> 'closed' and (told = 'nothing' or state <> 'open')
             order by at, id limit $2"
        );
        let params: Params<'_> = &[&tenant.as_str(), &i64::from(limit)];
        let rows = self.engine.ask(&select, params).await?;
        rows.iter().map(read).collect()
    }

    async fn tell(
        &self,
        duty: &Duty,
        (tenant, asked): (&TenantId, &Asked),
        telling: Telling,
    ) -> Result<bool, Error> {
        let Telling { told, cards, rungs } = telling;
        crate::crash_point!("tell.before");
        let client = self.engine.get().await?;
        let texts = [TELL, CLIMB, OWE_INCIDENT, OWE_AGAIN, UNTELL, OWE, RING];
        let [tell, climb, incident, again, untell, owe, ring] = prepare(&client, texts).await?;
        let tx = Tx::on(&client);
        tx.begin().await?;
        if !duty::is_held(&tx, duty).await? {
            return Ok(false);
        }
        tx.query(&tell, &[&asked.id.0, &told.as_str()]).await?;
        if let Some(Rungs { told, missed }) = rungs {
            let row: Params<'_> = &[&asked.id.0, &(told as i32), &(missed as i32)];
            tx.query(&climb, row).await?;
        }
        if let Some(cause) = &asked.ask.cause {
            let row: Params<'_> = &[&tenant.as_str(), &clean(cause), &asked.id.0];
            tx.query(&incident, row).await?;
        }
        if told == Told::Closed {
            tx.query(&again, &[&asked.id.0]).await?;
            tx.query(&untell, &[&tenant.as_str(), &asked.id.0]).await?;
        }
        for card in &cards {
            let (key, conversation) = (clean(&card.key), clean(&card.conversation));
            let (tenant, body) = (tenant.as_str(), mail::body(&card.body));
            let row: Params<'_> = &[
                &tenant,
                &card.channel,
                &key,
                &conversation,
                &asked.id.0,
                &body,
            ];
            tx.query(&owe, row).await?;
        }
        let rings = vec![format!("mail {}", self.engine.teller())];
        tx.query(&ring, &[&rings]).await?;
        tx.commit().await?;
        tx.done();
        crate::crash_point!("tell.after");
        self.bell.ring_mail();
        Ok(true)
    }

    async fn climbing(&self, tenant: &TenantId, limit: u32) -> Result<Vec<Climb>, Error> {
        let select = format!(
            "{SELECT} where told = 'asked' and rungs > 0 and state = 'open'
             order by rung_at, id limit $2"
        );
        let params: Params<'_> = &[&tenant.as_str(), &i64::from(limit)];
        let rows = self.engine.ask(&select, params).await?;
        let climb = |row| {
            let (told, missed): (i32, i32) = (get(row, 10)?, get(row, 11)?);
            Ok(Climb {
                asked: read(row)?,
                rungs: Rungs {
                    told: told as u32,
                    missed: missed as u32,
                },
                at: Timestamp(get(row, 12)?),
            })
        };
        rows.iter().map(climb).collect()
    }

    async fn alike(
        &self,
        tenant: &TenantId,
        cause: &str,
        limit: u32,
    ) -> Result<Vec<(Asked, bool)>, Error> {
        let select = format!(
            "{SELECT} where cause = $2 and told <> 'closed' and state = 'open'
             order by at, id limit $3"
        );
        let params: Params<'_> = &[&tenant.as_str(), &clean(cause), &i64::from(limit)];
        let rows = self.engine.ask(&select, params).await?;
        let alike = |row| Ok((read(row)?, get::<i32>(row, 10)? > 0));
        rows.iter().map(alike).collect()
    }

    async fn miss(&self, tenant: &TenantId, ask: AskId, keys: &str) -> Result<(), Error> {
        let params: Params<'_> = &[&ask.0, &tenant.as_str(), &keys];
        self.engine.ask(MISS, params).await?;
        self.bell.ring_mail();
        Ok(())
    }

    async fn is_shown(
        &self,
        tenant: &TenantId,
        id: AskId,
        (channel, conversation): (&str, &str),
    ) -> Result<bool, Error> {
        let params: Params<'_> = &[&tenant.as_str(), &channel, &conversation, &id.0];
        Ok(!self.engine.ask(IS_SHOWN, params).await?.is_empty())
    }

    async fn open_at(
        &self,
        tenant: &TenantId,
        (channel, conversation): (&str, &str),
    ) -> Result<Vec<Asked>, Error> {
        let select = format!(
            "{SELECT} where kind = 'question' and told <> 'closed' and state = 'open'
               and id in (select o.ask from outbox o
                          where o.tenant = $1 and o.channel = $2 and o.conversation = $3
                            and o.ask is not null)
             limit 2"
        );
        let params: Params<'_> = &[&tenant.as_str(), &channel, &conversation];
        let rows = self.engine.ask(&select, params).await?;
        rows.iter().map(read).collect()
    }

    async fn shown(
        &self,
        tenant: &TenantId,
        (channel, conversation): (&str, Option<&str>),
        message: &str,
    ) -> Result<Option<AskId>, Error> {
        let params: Params<'_> = &[&tenant.as_str(), &channel, &conversation, &message];
        let rows = self.engine.ask(SHOWN, params).await?;
        rows.first().map(|row| get(row, 0).map(AskId)).transpose()
    }
}

fn read(row: &Row) -> Result<Asked, Error> {
    let state: &str = get(row, 7)?;
    let (payload, decided): (Option<&str>, Option<i64>) = (get(row, 8)?, get(row, 9)?);
    // What was not said by way of an ask may read as no verdict: it is an answer all the same.
    let verdict = payload.and_then(|payload| serde_json::from_str(payload).ok());
    let verdict = verdict.zip(decided.map(Timestamp));
    Ok(Asked {
        id: AskId(get(row, 0)?),
        task: TaskId(get(row, 1)?),
        run: RunId(get(row, 2)?),
        name: get::<&str>(row, 3)?.into(),
        ask: from_json("ask", get(row, 4)?)?,
        at: Timestamp(get(row, 5)?),
        until: get::<Option<i64>>(row, 6)?.map(Timestamp),
        state: AskState::parse(state).ok_or_else(|| corrupt("ask", state))?,
        verdict,
    })
}
