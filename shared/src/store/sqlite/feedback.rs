//! Table `feedback`: what people think of answers.

use async_trait::async_trait;
use rusqlite::{Row, params};

use super::{SqliteStore, corrupt, parse, text};
use crate::clock;
use crate::feedback::{Feedback, Regard, Source};
use crate::id::{TaskId, TenantId};
use crate::run::Timestamp;
use crate::store::{Error, Feedbacks, NewFeedback};

#[async_trait]
impl Feedbacks for SqliteStore {
    async fn note(&self, feedback: NewFeedback) -> Result<bool, Error> {
        self.write(move |tx| {
            let noted = tx
                .prepare_cached(
                    "insert into feedback (task, who, source, tenant, good, text, at)
                     select t.id, ?2, ?3, t.tenant, ?4, ?5, ?6 from task t where t.id = ?1 and t.tenant = ?7
                     on conflict do update set good = excluded.good, text = excluded.text,
                                               at = excluded.at",
                )?
                .execute(params![
                    feedback.task.to_string(),
                    feedback.who.as_str(),
                    feedback.source.as_str(),
                    feedback.good,
                    feedback.text,
                    clock::now().0,
                    feedback.tenant.as_str()
                ])?;
            Ok(noted == 1)
        })
        .await
    }

    async fn of(&self, tenant: &TenantId, task: TaskId) -> Result<Vec<Feedback>, Error> {
        self.read(|conn| {
            conn.prepare_cached(
                "select task, who, source, good, text, at from feedback
                 where task = ?1 and tenant = ?2 order by at, who, source",
            )?
            .query_map(params![task.to_string(), tenant.as_str()], |row| {
                Ok(read(row))
            })?
            .map(|row| row?)
            .collect()
        })
    }

    async fn by_agent(&self, tenant: &TenantId, since: Timestamp) -> Result<Vec<Regard>, Error> {
        let tenant = tenant.clone();
        self.read_long(move |conn| {
            conn.prepare_cached(
                "select r.agent,
                        count(distinct case when f.source = 'said' and f.good then f.task end),
                        count(distinct case when f.source = 'said' and not f.good then f.task end),
                        count(distinct case when f.source <> 'said' then f.task end)
                 from feedback f join run r on r.task = f.task and r.tenant = f.tenant
                 where f.tenant = ?1 and f.at >= ?2 and r.agent is not null
                 group by r.agent order by r.agent",
            )?
            .query_map(params![tenant.as_str(), since.0], |row| {
                Ok((|| {
                    Ok(Regard {
                        agent: text(row, 0)?.into(),
                        good: row.get::<_, u32>(1)?.into(),
                        bad: row.get::<_, u32>(2)?.into(),
                        signs: row.get::<_, u32>(3)?.into(),
                    })
                })())
            })?
            .map(|row| row?)
            .collect()
        })
        .await
    }
}

fn read(row: &Row<'_>) -> Result<Feedback, Error> {
    let source = text(row, 2)?;
    Ok(Feedback {
        task: parse("feedback", text(row, 0)?)?,
        who: text(row, 1)?.into(),
        source: Source::parse(source).ok_or_else(|| corrupt("feedback", source))?,
        good: row.get(3)?,
        text: row.get(4)?,
        at: Timestamp(row.get(5)?),
    })
}
