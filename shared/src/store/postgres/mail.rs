//! Tables `inbound`, `cursor`, `outbox` and `conversation`: what comes in from channels and what goes
//! out to them. Whoever changes what another process may be waiting for tells it.

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::{Row, Statement};

use super::tx::{Params, Tx, get, prepare};
use super::{PostgresStore, RING, clean, corrupt, duty, from_json, to_json};
use crate::id::{AskId, TaskId, TenantId};
use crate::run::Timestamp;
use crate::store::{
    Conversation, Cursor, Duty, Error, Mail, MailState, Mailroom, NewMail, NewOut, Out, OutState,
    Standing,
};

const RECEIVE: &str = "
insert into inbound (tenant, channel, key, conversation, body, state, at)
select $1, j.channel, j.key, j.conversation, j.body::json, 'new', (select now_ms())
from unnest($2::text[], $3::text[], $4::text[], $5::text[]) with ordinality
     as j(channel, key, conversation, body, n)
order by j.n
on conflict do nothing returning seq";

const SET_POSITION: &str = "
insert into cursor (tenant, account, position) values ($1, $2, $3)
on conflict (tenant, account) do update set position = excluded.position";

const POSITION: &str = "select position from cursor where tenant = $1 and account = $2";

const MAIL: &str = "seq, key, conversation, body::text, state, at";

/// One row: whether the duty is held, and whether the message was in its first state.
const SETTLE: &str = "
with held as (
  select 1 from duty_lease d
  join worker w on w.id = d.holder and w.state = 'live' and w.expires_at > (select now_ms())
  where d.name = $5 and d.holder = $6 and d.epoch = $7
), settled as (
  update inbound set state = $4
  where tenant = $1 and seq = $2 and state = $3 and exists (select 1 from held) returning 1
)
select exists (select 1 from held), exists (select 1 from settled)";

/// Owes the far side something: a word, or a task's card.
pub(super) const OWE: &str = "
insert into outbox (tenant, channel, key, conversation, kind, task, body, state, created_at, updated_at)
select $1, $2, $3, $4, case when $5::uuid is null then 'say' else 'card' end, $5, $6::text::json, 'owed',
       t.now, t.now
from (select now_ms() as now) t
on conflict do nothing returning seq";

/// Owes whoever is shown a task the same for another one that was made from it.
pub(super) const COPY_CARD: &str = "
insert into outbox (tenant, channel, key, conversation, kind, task, body, state, created_at, updated_at)
select o.tenant, o.channel, 'again/' || $2::uuid, o.conversation, o.kind, $2, o.body, 'owed', t.now, t.now
from outbox o, (select now_ms() as now) t where o.task = $1
on conflict do nothing";

const OUT: &str = "seq, key, conversation, task, ask, body::text, far::text, attempts, not_before";

/// Whoever closes an ask's cards holds the ask, and so does this: one of both comes after the other.
const RECORD: &str = "
update outbox set far = $2::text::json, attempts = $3, not_before = $5, error = $6, updated_at = now_ms(),
  state = case when $4 <> 'open' then $4
    else coalesce((select case a.told when 'closed' then 'owed' else 'sent' end
                   from ask a where a.id = outbox.ask for share), 'sent') end
where seq = $1 and state = 'owed'
  and exists (select 1 from duty_lease d
              join worker w on w.id = d.holder and w.state = 'live' and w.expires_at > (select now_ms())
              where d.name = $7 and d.holder = $8 and d.epoch = $9)
returning 1";

const REOPEN: &str = "
update outbox set state = 'owed', updated_at = now_ms()
where tenant = $1 and seq = $2 and state = 'sent' returning 1";

const REVIVE: &str = "
update outbox set state = 'owed', attempts = 0, not_before = 0, updated_at = now_ms()
where tenant = $1 and channel = $2 and state = 'dead' returning 1";

const STANDING: &str = "
select channel, count(*) filter (where state = 'owed'), min(created_at) filter (where state = 'owed'),
       count(*) filter (where state = 'dead'),
       (array_agg(error order by updated_at desc) filter (where state = 'dead'))[1]
from outbox where tenant = $1 and state in ('owed', 'dead') group by channel order by channel";

const CONVERSATION: &str =
    "select agent, since from conversation where tenant = $1 and channel = $2 and id = $3";

const SET_CONVERSATION: &str = "
insert into conversation (tenant, channel, id, agent, since, updated_at)
select $1, $2, $3, $4, $5, now_ms()
where exists (select 1 from duty_lease d
              join worker w on w.id = d.holder and w.state = 'live' and w.expires_at > (select now_ms())
              where d.name = $6 and d.holder = $7 and d.epoch = $8)
on conflict (tenant, channel, id) do update set
  agent = excluded.agent, since = excluded.since, updated_at = excluded.updated_at
returning 1";

const FORGET_INBOUND: &str = "
delete from inbound where seq in
  (select seq from inbound where state = 'done' and at <= (select now_ms()) - $1::bigint
   order by at limit $2) returning 1";
const FORGET_OUTBOX: &str = "
delete from outbox where seq in
  (select seq from outbox where state <> 'owed' and updated_at <= (select now_ms()) - $1::bigint
   order by updated_at limit $2) returning 1";

/// Owes something in the caller's transaction.
pub(super) async fn owe(
    tx: &Tx<'_>,
    owe: &Statement,
    tenant: &TenantId,
    out: &NewOut,
    task: Option<TaskId>,
) -> Result<bool, Error> {
    let (key, conversation) = (clean(&out.key), clean(&out.conversation));
    let (tenant, body, task) = (tenant.as_str(), body(&out.body), task.map(|task| task.0));
    let row: Params<'_> = &[&tenant, &out.channel, &key, &conversation, &task, &body];
    Ok(!tx.query(owe, row).await?.is_empty())
}

/// JSON as a column of this type takes it: without the one character that it does not.
pub(super) fn body(value: &serde_json::Value) -> String {
    value.to_string().replace("\\u0000", "\\ufffd")
}

#[async_trait]
impl Mailroom for PostgresStore {
    async fn receive(
        &self,
        tenant: &TenantId,
        mail: Vec<NewMail>,
        cursor: Option<(Cursor, Duty)>,
    ) -> Result<Option<u64>, Error> {
        let client = self.engine.get().await?;
        let texts = [RECEIVE, SET_POSITION, RING];
        let [receive, set_position, ring] = prepare(&client, texts).await?;
        let name = tenant.as_str();
        crate::crash_point!("receive.before");
        let tx = Tx::on(&client);
        tx.begin().await?;
        if let Some((cursor, duty)) = &cursor {
            if !duty::is_held(&tx, duty).await? {
                return Ok(None);
            }
            let row: Params<'_> = &[&name, &cursor.account, &cursor.position];
            tx.execute(&set_position, row).await?;
        }
        let channels: Vec<&str> = mail.iter().map(|mail| mail.channel).collect();
        let keys: Vec<_> = mail.iter().map(|mail| clean(&mail.key)).collect();
        let conversations: Vec<_> = mail.iter().map(|mail| clean(&mail.conversation)).collect();
        let bodies: Vec<String> = mail.iter().map(|mail| body(&mail.body)).collect();
        let rows: Params<'_> = &[&name, &channels, &keys, &conversations, &bodies];
        let new = tx.query(&receive, rows).await?.len() as u64;
        if new > 0 {
            let rings = vec![format!("mail {}", self.engine.teller())];
            tx.query(&ring, &[&rings]).await?;
        }
        tx.commit().await?;
        tx.done();
        crate::crash_point!("receive.after");
        if new > 0 {
            self.bell.ring_mail();
        }
        Ok(Some(new))
    }

    async fn position(&self, tenant: &TenantId, account: &str) -> Result<Option<i64>, Error> {
        let rows = self
            .engine
            .ask(POSITION, &[&tenant.as_str(), &account])
            .await?;
        rows.first().map(|row| get(row, 0)).transpose()
    }

    async fn unread(
        &self,
        tenant: &TenantId,
        channel: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Mail>, Error> {
        let select = format!(
            "select {MAIL} from inbound where tenant = $1 and channel = $2 and state in ('new', 'wanted')
             and seq > $3 order by seq limit $4"
        );
        let limit = i64::from(limit);
        let which: Params<'_> = &[&tenant.as_str(), &channel, &after, &limit];
        let rows = self.engine.ask(&select, which).await?;
        rows.iter().map(read_mail).collect()
    }

    async fn find(
        &self,
        tenant: &TenantId,
        channel: &str,
        key: &str,
    ) -> Result<Option<Mail>, Error> {
        let select =
            format!("select {MAIL} from inbound where tenant = $1 and channel = $2 and key = $3");
        let key = clean(key);
        let which: Params<'_> = &[&tenant.as_str(), &channel, &key];
        let rows = self.engine.ask(&select, which).await?;
        rows.first().map(read_mail).transpose()
    }

    async fn open_in(
        &self,
        tenant: &TenantId,
        channel: &str,
        conversation: &str,
        limit: u32,
    ) -> Result<Vec<Mail>, Error> {
        let select = format!(
            "select {MAIL} from inbound where tenant = $1 and channel = $2 and conversation = $3
             and state <> 'done' order by seq limit $4"
        );
        let (conversation, limit) = (clean(conversation), i64::from(limit));
        let which: Params<'_> = &[&tenant.as_str(), &channel, &conversation, &limit];
        let rows = self.engine.ask(&select, which).await?;
        rows.iter().map(read_mail).collect()
    }

    async fn settle(
        &self,
        duty: &Duty,
        tenant: &TenantId,
        seq: i64,
        (from, to): (MailState, MailState),
    ) -> Result<Option<bool>, Error> {
        crate::crash_point!("settle.before");
        let (from, to_name) = (from.as_str(), to.as_str());
        let (tenant, holder) = (tenant.as_str(), duty.holder.0);
        let which: Params<'_> = &[
            &tenant,
            &seq,
            &from,
            &to_name,
            &duty.name,
            &holder,
            &duty.epoch,
        ];
        let rows = self.engine.ask(SETTLE, which).await?;
        let row = rows.first().ok_or_else(|| corrupt("inbound", "no row"))?;
        let settled = get::<bool>(row, 0)?.then_some(get::<bool>(row, 1)?);
        crate::crash_point!("settle.after");
        if settled == Some(true) && to == MailState::Wanted {
            self.tell_of_mail().await?;
        }
        Ok(settled)
    }

    async fn say(&self, tenant: &TenantId, out: NewOut) -> Result<bool, Error> {
        let client = self.engine.get().await?;
        let [insert, ring] = prepare(&client, [OWE, RING]).await?;
        crate::crash_point!("say.before");
        let tx = Tx::on(&client);
        let rings = vec![format!("mail {}", self.engine.teller())];
        let rung: Params<'_> = &[&rings];
        let ((), said, _, ()) = futures::try_join!(
            tx.begin(),
            owe(&tx, &insert, tenant, &out, None),
            tx.query(&ring, rung),
            tx.commit(),
        )?;
        tx.done();
        crate::crash_point!("say.after");
        if said {
            self.bell.ring_mail();
        }
        Ok(said)
    }

    async fn owed(
        &self,
        tenant: &TenantId,
        channel: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Out>, Error> {
        let select = format!(
            "select {OUT} from outbox where tenant = $1 and channel = $2 and state = 'owed'
             and seq > $3 order by seq limit $4"
        );
        let limit = i64::from(limit);
        let which: Params<'_> = &[&tenant.as_str(), &channel, &after, &limit];
        let rows = self.engine.ask(&select, which).await?;
        rows.iter().map(read_out).collect()
    }

    async fn carded(
        &self,
        tenant: &TenantId,
        channel: &str,
        key: &str,
    ) -> Result<Option<TaskId>, Error> {
        const CARDED: &str =
            "select task from outbox where tenant = $1 and channel = $2 and key = $3";
        let key = clean(key);
        let which: Params<'_> = &[&tenant.as_str(), &channel, &key];
        let rows = self.engine.ask(CARDED, which).await?;
        let task: Option<Option<uuid::Uuid>> = rows.first().map(|row| get(row, 0)).transpose()?;
        Ok(task.flatten().map(TaskId))
    }

    async fn card(&self, tenant: &TenantId, task: TaskId) -> Result<Option<(Out, String)>, Error> {
        let select = format!("select {OUT}, state from outbox where tenant = $1 and task = $2");
        let which: Params<'_> = &[&tenant.as_str(), &task.0];
        let rows = self.engine.ask(&select, which).await?;
        let card = |row: &Row| Ok((read_out(row)?, get(row, 9)?));
        rows.first().map(card).transpose()
    }

    async fn said(
        &self,
        tenant: &TenantId,
        channel: &str,
        key: &str,
    ) -> Result<Option<(Out, String)>, Error> {
        let select = format!(
            "select {OUT}, state from outbox where tenant = $1 and channel = $2 and key = $3"
        );
        let which: Params<'_> = &[&tenant.as_str(), &channel, &key];
        let rows = self.engine.ask(&select, which).await?;
        let said = |row: &Row| Ok((read_out(row)?, get(row, 9)?));
        rows.first().map(said).transpose()
    }

    async fn record(
        &self,
        duty: &Duty,
        seq: i64,
        (far, attempts): (&[String], u32),
        state: OutState,
    ) -> Result<bool, Error> {
        let (far, attempts) = (to_json(&far), i64::from(attempts));
        let (state, not_before, error) = match state {
            OutState::Owed(not_before) => ("owed", not_before.0, None),
            OutState::Sent => ("sent", 0, None),
            OutState::Open => ("open", 0, None),
            OutState::Dead(why) => ("dead", 0, Some(why)),
        };
        let error = error.as_deref().map(clean);
        crate::crash_point!("record.before");
        let row: Params<'_> = &[
            &seq,
            &far,
            &attempts,
            &state,
            &not_before,
            &error,
            &duty.name,
            &duty.holder.0,
            &duty.epoch,
        ];
        let recorded = !self.engine.ask(RECORD, row).await?.is_empty();
        crate::crash_point!("record.after");
        Ok(recorded)
    }

    async fn reopen(&self, tenant: &TenantId, seq: i64) -> Result<(), Error> {
        self.engine.ask(REOPEN, &[&tenant.as_str(), &seq]).await?;
        self.tell_of_mail().await
    }

    async fn revive(&self, tenant: &TenantId, channel: &str) -> Result<u64, Error> {
        let which: Params<'_> = &[&tenant.as_str(), &channel];
        let revived = self.engine.ask(REVIVE, which).await?.len() as u64;
        self.tell_of_mail().await?;
        Ok(revived)
    }

    async fn standing(&self, tenant: &TenantId) -> Result<Vec<Standing>, Error> {
        let rows = self.engine.ask(STANDING, &[&tenant.as_str()]).await?;
        let standing = |row: &Row| {
            Ok(Standing {
                channel: get(row, 0)?,
                owed: get::<i64>(row, 1)? as u64,
                oldest: get::<Option<i64>>(row, 2)?.map(Timestamp),
                dead: get::<i64>(row, 3)? as u64,
                why: get(row, 4)?,
            })
        };
        rows.iter().map(standing).collect()
    }

    async fn conversation(
        &self,
        tenant: &TenantId,
        channel: &str,
        id: &str,
    ) -> Result<Conversation, Error> {
        let id = clean(id);
        let which: Params<'_> = &[&tenant.as_str(), &channel, &id];
        let rows = self.engine.ask(CONVERSATION, which).await?;
        let Some(row) = rows.first() else {
            return Ok(Conversation::default());
        };
        Ok(Conversation {
            agent: get::<Option<&str>>(row, 0)?.map(Into::into),
            since: Timestamp(get(row, 1)?),
        })
    }

    async fn set_conversation(
        &self,
        duty: &Duty,
        (tenant, channel): (&TenantId, &str),
        id: &str,
        conversation: Conversation,
    ) -> Result<bool, Error> {
        let (id, since) = (clean(id), conversation.since.0);
        let agent = conversation.agent.as_ref().map(|agent| agent.as_str());
        let (tenant, holder) = (tenant.as_str(), duty.holder.0);
        let row: Params<'_> = &[
            &tenant,
            &channel,
            &id,
            &agent,
            &since,
            &duty.name,
            &holder,
            &duty.epoch,
        ];
        Ok(!self.engine.ask(SET_CONVERSATION, row).await?.is_empty())
    }

    async fn forget_mail(
        &self,
        duty: &Duty,
        age: Duration,
        limit: u32,
    ) -> Result<Option<u64>, Error> {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let which: Params<'_> = &[&age, &i64::from(limit)];
        let client = self.engine.get().await?;
        let tx = Tx::on(&client);
        tx.begin().await?;
        if !duty::is_held(&tx, duty).await? {
            return Ok(None);
        }
        let mut forgotten = 0;
        for delete in [FORGET_INBOUND, FORGET_OUTBOX] {
            forgotten += tx.ask(delete, which).await?.len() as u64;
        }
        tx.commit().await?;
        tx.done();
        Ok(Some(forgotten))
    }
}

impl PostgresStore {
    /// Has everybody look for mail, here and elsewhere.
    async fn tell_of_mail(&self) -> Result<(), Error> {
        let rings = vec![format!("mail {}", self.engine.teller())];
        self.engine.ask(RING, &[&rings]).await?;
        self.bell.ring_mail();
        Ok(())
    }
}

fn read_mail(row: &Row) -> Result<Mail, Error> {
    let state: &str = get(row, 4)?;
    Ok(Mail {
        seq: get(row, 0)?,
        key: get(row, 1)?,
        conversation: get(row, 2)?,
        body: from_json("inbound", get(row, 3)?)?,
        state: MailState::parse(state).ok_or_else(|| corrupt("inbound", state))?,
        at: Timestamp(get(row, 5)?),
    })
}

fn read_out(row: &Row) -> Result<Out, Error> {
    Ok(Out {
        seq: get(row, 0)?,
        key: get(row, 1)?,
        conversation: get(row, 2)?,
        task: get::<Option<uuid::Uuid>>(row, 3)?.map(TaskId),
        ask: get::<Option<uuid::Uuid>>(row, 4)?.map(AskId),
        body: from_json("outbox", get(row, 5)?)?,
        far: from_json("outbox", get(row, 6)?)?,
        attempts: get::<i64>(row, 7)? as u32,
        not_before: Timestamp(get(row, 8)?),
    })
}
