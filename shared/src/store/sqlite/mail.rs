//! Tables `inbound`, `cursor`, `outbox` and `conversation`: what comes in from channels and what goes
//! out to them.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{SqliteStore, corrupt, duty, from_json, maybe_text, parse, text, to_json};
use crate::clock;
use crate::id::{TaskId, TenantId};
use crate::run::Timestamp;
use crate::store::{
    Again, Conversation, Cursor, Duty, Error, Mail, MailState, Mailroom, NewMail, NewOut, Out,
    OutState, Standing,
};

#[async_trait]
impl Mailroom for SqliteStore {
    async fn receive(
        &self,
        tenant: &TenantId,
        mail: Vec<NewMail>,
        cursor: Option<(Cursor, Duty)>,
    ) -> Result<Option<u64>, Error> {
        let (tenant, now) = (tenant.clone(), clock::now());
        let received = self.write(move |tx| {
            crate::crash_point!("receive.before");
            if let Some((cursor, duty)) = &cursor {
                if !duty::is_held(tx, duty)? {
                    return Ok(None);
                }
                set_position(tx, &tenant, cursor)?;
            }
            let mut new = 0;
            for one in &mail {
                new += u64::from(insert(tx, &tenant, one, now)?);
            }
            Ok(Some(new))
        });
        let received = received.await?;
        crate::crash_point!("receive.after");
        if received.is_some_and(|new| new > 0) {
            self.bell.ring_mail();
        }
        Ok(received)
    }

    async fn position(&self, tenant: &TenantId, account: &str) -> Result<Option<i64>, Error> {
        self.read(|conn| {
            let position = conn
                .prepare_cached("select position from cursor where tenant = ?1 and account = ?2")?
                .query_row(params![tenant.as_str(), account], |row| row.get(0))
                .optional()?;
            Ok(position)
        })
    }

    async fn unread(
        &self,
        tenant: &TenantId,
        channel: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Mail>, Error> {
        self.read(|conn| {
            let select = format!(
                "select {MAIL} from inbound
                 where tenant = ?1 and channel = ?2 and state in ('new', 'wanted') and seq > ?3
                 order by seq limit ?4"
            );
            conn.prepare_cached(&select)?
                .query_map(params![tenant.as_str(), channel, after, limit], |row| {
                    Ok(read_mail(row))
                })?
                .map(|row| row?)
                .collect()
        })
    }

    async fn find(
        &self,
        tenant: &TenantId,
        channel: &str,
        key: &str,
    ) -> Result<Option<Mail>, Error> {
        self.read(|conn| {
            let select = format!(
                "select {MAIL} from inbound where tenant = ?1 and channel = ?2 and key = ?3"
            );
            conn.prepare_cached(&select)?
                .query_row(params![tenant.as_str(), channel, key], |row| {
                    Ok(read_mail(row))
                })
                .optional()?
                .transpose()
        })
    }

    async fn open_in(
        &self,
        tenant: &TenantId,
        channel: &str,
        conversation: &str,
        limit: u32,
    ) -> Result<Vec<Mail>, Error> {
        self.read(|conn| {
            let select = format!(
                "select {MAIL} from inbound
                 where tenant = ?1 and channel = ?2 and conversation = ?3 and state <> 'done'
                 order by seq limit ?4"
            );
            let which = params![tenant.as_str(), channel, conversation, limit];
            conn.prepare_cached(&select)?
                .query_map(which, |row| Ok(read_mail(row)))?
                .map(|row| row?)
                .collect()
        })
    }

    async fn settle(
        &self,
        duty: &Duty,
        tenant: &TenantId,
        seq: i64,
        (from, to): (MailState, MailState),
    ) -> Result<Option<bool>, Error> {
        let (duty, tenant) = (duty.clone(), tenant.clone());
        let settled = self.write(move |tx| {
            crate::crash_point!("settle.before");
            if !duty::is_held(tx, &duty)? {
                return Ok(None);
            }
            let settled = tx
                .prepare_cached(
                    "update inbound set state = ?4 where tenant = ?1 and seq = ?2 and state = ?3",
                )?
                .execute(params![tenant.as_str(), seq, from.as_str(), to.as_str()])?;
            Ok(Some(settled == 1))
        });
        let settled = settled.await?;
        crate::crash_point!("settle.after");
        if settled == Some(true) && to == MailState::Wanted {
            self.bell.ring_mail();
        }
        Ok(settled)
    }

    async fn say(&self, tenant: &TenantId, out: NewOut) -> Result<bool, Error> {
        let (tenant, now) = (tenant.clone(), clock::now());
        let said = self.write(move |tx| {
            crate::crash_point!("say.before");
            owe(tx, &tenant, &out, None, now)
        });
        let said = said.await?;
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
        self.read(|conn| {
            let select = format!(
                "select {OUT} from outbox
                 where tenant = ?1 and channel = ?2 and state = 'owed' and seq > ?3
                 order by seq limit ?4"
            );
            conn.prepare_cached(&select)?
                .query_map(params![tenant.as_str(), channel, after, limit], |row| {
                    Ok(read_out(row))
                })?
                .map(|row| row?)
                .collect()
        })
    }

    async fn carded(
        &self,
        tenant: &TenantId,
        channel: &str,
        key: &str,
    ) -> Result<Option<TaskId>, Error> {
        self.read(|conn| {
            let task: Option<Option<String>> = conn
                .prepare_cached(
                    "select task from outbox where tenant = ?1 and channel = ?2 and key = ?3",
                )?
                .query_row(params![tenant.as_str(), channel, key], |row| row.get(0))
                .optional()?;
            task.flatten()
                .map(|task| parse("outbox", &task))
                .transpose()
        })
    }

    async fn card(&self, tenant: &TenantId, task: TaskId) -> Result<Option<(Out, String)>, Error> {
        self.read(|conn| {
            let select = format!("select {OUT}, state from outbox where tenant = ?1 and task = ?2");
            conn.prepare_cached(&select)?
                .query_row(params![tenant.as_str(), task.to_string()], |row| {
                    let state = row.get(9)?;
                    Ok(read_out(row).map(|out| (out, state)))
                })
                .optional()?
                .transpose()
        })
    }

    async fn said(
        &self,
        tenant: &TenantId,
        channel: &str,
        key: &str,
    ) -> Result<Option<(Out, String)>, Error> {
        self.read(|conn| {
            let select = format!(
                "select {OUT}, state from outbox where tenant = ?1 and channel = ?2 and key = ?3"
            );
            conn.prepare_cached(&select)?
                .query_row(params![tenant.as_str(), channel, key], |row| {
                    let state = row.get(9)?;
                    Ok(read_out(row).map(|out| (out, state)))
                })
                .optional()?
                .transpose()
        })
    }

    async fn record(
        &self,
        duty: &Duty,
        seq: i64,
        (far, attempts): (&[String], u32),
        state: OutState,
    ) -> Result<bool, Error> {
        let (duty, far, now) = (duty.clone(), to_json(&far), clock::now());
        let (state, not_before, error) = columns(state);
        let recorded = self.write(move |tx| {
            crate::crash_point!("record.before");
            if !duty::is_held(tx, &duty)? {
                return Ok(false);
            }
            let recorded = tx
                .prepare_cached(
                    "update outbox set far = ?2, attempts = ?3, not_before = ?5, error = ?6,
                                       updated_at = ?7,
                       state = case when ?4 <> 'open' then ?4
                                    when exists (select 1 from ask a where a.id = outbox.ask
                                                                       and a.told = 'closed') then 'owed'
                                    else 'sent' end
                     where seq = ?1 and state = 'owed'",
                )?
                .execute(params![seq, far, attempts, state, not_before, error, now.0])?;
            Ok(recorded == 1)
        });
        let recorded = recorded.await?;
        crate::crash_point!("record.after");
        Ok(recorded)
    }

    async fn reopen(&self, tenant: &TenantId, seq: i64) -> Result<(), Error> {
        let (tenant, now) = (tenant.clone(), clock::now());
        let reopened = self.write(move |tx| {
            tx.prepare_cached(
                "update outbox set state = 'owed', updated_at = ?3
                 where tenant = ?1 and seq = ?2 and state = 'sent'",
            )?
            .execute(params![tenant.as_str(), seq, now.0])?;
            Ok(())
        });
        reopened.await?;
        self.bell.ring_mail();
        Ok(())
    }

    async fn revive(&self, tenant: &TenantId, channel: &str) -> Result<u64, Error> {
        let (tenant, channel, now) = (tenant.clone(), channel.to_owned(), clock::now());
        let revived = self.write(move |tx| {
            let revived = tx
                .prepare_cached(
                    "update outbox set state = 'owed', attempts = 0, not_before = 0, updated_at = ?3
                     where tenant = ?1 and channel = ?2 and state = 'dead'",
                )?
                .execute(params![tenant.as_str(), channel, now.0])?;
            Ok(revived as u64)
        });
        let revived = revived.await?;
        self.bell.ring_mail();
        Ok(revived)
    }

    async fn standing(&self, tenant: &TenantId) -> Result<Vec<Standing>, Error> {
        self.read(|conn| {
            // The error is that of the row with the latest time.
            conn.prepare_cached(
                "select channel, sum(owed), min(oldest), sum(dead), max(why) from (
                   select channel, count(*) as owed, min(created_at) as oldest, 0 as dead, null as why
                   from outbox where tenant = ?1 and state = 'owed' group by channel
                   union all
                   select channel, 0, null, dead, error from (
                     select channel, count(*) as dead, max(updated_at), error
                     from outbox where tenant = ?1 and state = 'dead' group by channel)
                 ) group by channel order by channel",
            )?
            .query_map([tenant.as_str()], |row| {
                Ok(Standing {
                    channel: row.get(0)?,
                    owed: row.get::<_, i64>(1)? as u64,
                    oldest: row.get::<_, Option<i64>>(2)?.map(Timestamp),
                    dead: row.get::<_, i64>(3)? as u64,
                    why: row.get(4)?,
                })
            })?
            .map(|row| Ok(row?))
            .collect()
        })
    }

    async fn conversation(
        &self,
        tenant: &TenantId,
        channel: &str,
        id: &str,
    ) -> Result<Conversation, Error> {
        self.read(|conn| {
            let found = conn
                .prepare_cached(
                    "select agent, since from conversation
                     where tenant = ?1 and channel = ?2 and id = ?3",
                )?
                .query_row(params![tenant.as_str(), channel, id], |row| {
                    let agent: Option<String> = row.get(0)?;
                    Ok(Conversation {
                        agent: agent.map(Into::into),
                        since: Timestamp(row.get(1)?),
                    })
                })
                .optional()?;
            Ok(found.unwrap_or_default())
        })
    }

    async fn set_conversation(
        &self,
        duty: &Duty,
        (tenant, channel): (&TenantId, &str),
        id: &str,
        conversation: Conversation,
    ) -> Result<bool, Error> {
        let (tenant, channel, id) = (tenant.clone(), channel.to_owned(), id.to_owned());
        let (duty, now) = (duty.clone(), clock::now());
        self.write(move |tx| {
            if !duty::is_held(tx, &duty)? {
                return Ok(false);
            }
            let agent = conversation.agent.as_ref().map(|agent| agent.as_str());
            tx.prepare_cached(
                "insert into conversation (tenant, channel, id, agent, since, updated_at)
                 values (?1, ?2, ?3, ?4, ?5, ?6)
                 on conflict (tenant, channel, id) do update set
                   agent = excluded.agent, since = excluded.since, updated_at = excluded.updated_at",
            )?
            .execute(params![
                tenant.as_str(),
                channel,
                id,
                agent,
                conversation.since.0,
                now.0
            ])?;
            Ok(true)
        })
        .await
    }

    async fn forget_mail(
        &self,
        duty: &Duty,
        age: Duration,
        limit: u32,
    ) -> Result<Option<u64>, Error> {
        let (duty, before) = (duty.clone(), clock::now().before(age));
        self.write(move |tx| {
            if !duty::is_held(tx, &duty)? {
                return Ok(None);
            }
            let inbound = "delete from inbound where seq in
                (select seq from inbound where state = 'done' and at <= ?1 order by at limit ?2)";
            let outbox = "delete from outbox where seq in
                (select seq from outbox where state <> 'owed' and updated_at <= ?1
                 order by updated_at limit ?2)";
            let mut forgotten = 0;
            for delete in [inbound, outbox] {
                forgotten += tx
                    .prepare_cached(delete)?
                    .execute(params![before.0, limit])? as u64;
            }
            Ok(Some(forgotten))
        })
        .await
    }
}

fn insert(
    tx: &Connection,
    tenant: &TenantId,
    mail: &NewMail,
    now: Timestamp,
) -> Result<bool, Error> {
    let inserted = tx
        .prepare_cached(
            "insert into inbound (tenant, channel, key, conversation, body, state, at)
             values (?1, ?2, ?3, ?4, ?5, 'new', ?6) on conflict do nothing",
        )?
        .execute(params![
            tenant.as_str(),
            mail.channel,
            mail.key,
            mail.conversation,
            mail.body.to_string(),
            now.0
        ])?;
    Ok(inserted == 1)
}

fn set_position(tx: &Connection, tenant: &TenantId, cursor: &Cursor) -> Result<(), Error> {
    tx.prepare_cached(
        "insert into cursor (tenant, account, position) values (?1, ?2, ?3)
         on conflict (tenant, account) do update set position = excluded.position",
    )?
    .execute(params![tenant.as_str(), cursor.account, cursor.position])?;
    Ok(())
}

/// Owes the far side something: a word, or a task's card.
pub(super) fn owe(
    tx: &Connection,
    tenant: &TenantId,
    out: &NewOut,
    task: Option<TaskId>,
    now: Timestamp,
) -> Result<bool, Error> {
    let owed = tx
        .prepare_cached(
            "insert into outbox (tenant, channel, key, conversation, kind, task, body, state,
                                 created_at, updated_at)
             values (?1, ?2, ?3, ?4, iif(?5 is null, 'say', 'card'), ?5, ?6, 'owed', ?7, ?7)
             on conflict do nothing",
        )?
        .execute(params![
            tenant.as_str(),
            out.channel,
            out.key,
            out.conversation,
            task.map(|task| task.to_string()),
            out.body.to_string(),
            now.0
        ])?;
    Ok(owed == 1)
}

/// Owes whoever is shown a task the same for another one that was made from it.
pub(super) fn copy_card(tx: &Connection, again: &Again, now: Timestamp) -> Result<(), Error> {
    tx.prepare_cached(
        "insert into outbox (tenant, channel, key, conversation, kind, task, body, state,
                             created_at, updated_at)
         select tenant, channel, 'again/' || ?2, conversation, kind, ?2, body, 'owed', ?3, ?3
         from outbox where task = ?1
         on conflict do nothing",
    )?
    .execute(params![again.of.to_string(), again.id.to_string(), now.0])?;
    Ok(())
}

/// The columns `state`, `not_before` and `error`.
fn columns(state: OutState) -> (&'static str, i64, Option<String>) {
    match state {
        OutState::Owed(not_before) => ("owed", not_before.0, None),
        OutState::Sent => ("sent", 0, None),
        OutState::Open => ("open", 0, None),
        OutState::Dead(why) => ("dead", 0, Some(why)),
    }
}

const MAIL: &str = "seq, key, conversation, body, state, at";

fn read_mail(row: &Row<'_>) -> Result<Mail, Error> {
    let state = text(row, 4)?;
    Ok(Mail {
        seq: row.get(0)?,
        key: row.get(1)?,
        conversation: row.get(2)?,
        body: from_json("inbound", text(row, 3)?)?,
        state: MailState::parse(state).ok_or_else(|| corrupt("inbound", state))?,
        at: Timestamp(row.get(5)?),
    })
}

const OUT: &str = "seq, key, conversation, task, ask, body, far, attempts, not_before";

fn read_out(row: &Row<'_>) -> Result<Out, Error> {
    let (task, ask) = (maybe_text(row, 3)?, maybe_text(row, 4)?);
    Ok(Out {
        seq: row.get(0)?,
        key: row.get(1)?,
        conversation: row.get(2)?,
        task: task.map(|task| parse("outbox", task)).transpose()?,
        ask: ask.map(|ask| parse("outbox", ask)).transpose()?,
        body: from_json("outbox", text(row, 5)?)?,
        far: from_json("outbox", text(row, 6)?)?,
        attempts: row.get(7)?,
        not_before: Timestamp(row.get(8)?),
    })
}
