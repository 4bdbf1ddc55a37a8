//! Table `feedback`: what people think of answers.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::tx::{Params, get};
use super::{PostgresStore, clean, corrupt};
use crate::feedback::{Feedback, Regard, Source};
use crate::id::{TaskId, TenantId};
use crate::run::Timestamp;
use crate::store::{Error, Feedbacks, NewFeedback};

const NOTE: &str = "
insert into feedback (task, who, source, tenant, good, text, at)
select t.id, $2, $3, t.tenant, $4, $5, now_ms() from task t where t.id = $1 and t.tenant = $6
on conflict (task, who, source) do update set good = excluded.good, text = excluded.text,
                                              at = excluded.at
returning 1";
const OF: &str = "
select task, who, source, good, text, at from feedback
where task = $1 and tenant = $2 order by at, who, source";
const BY_AGENT: &str = "
select r.agent,
       count(distinct f.task) filter (where f.source = 'said' and f.good),
       count(distinct f.task) filter (where f.source = 'said' and not f.good),
       count(distinct f.task) filter (where f.source <> 'said')
from feedback f join run r on r.task = f.task and r.tenant = f.tenant
where f.tenant = $1 and f.at >= $2 and r.agent is not null
group by r.agent order by r.agent";

#[async_trait]
impl Feedbacks for PostgresStore {
    async fn note(&self, feedback: NewFeedback) -> Result<bool, Error> {
        let params: Params<'_> = &[
            &feedback.task.0,
            &clean(feedback.who.as_str()),
            &feedback.source.as_str(),
            &feedback.good,
            &clean(&feedback.text),
            &feedback.tenant.as_str(),
        ];
        Ok(!self.engine.ask(NOTE, params).await?.is_empty())
    }

    async fn of(&self, tenant: &TenantId, task: TaskId) -> Result<Vec<Feedback>, Error> {
        let rows = self.engine.ask(OF, &[&task.0, &tenant.as_str()]).await?;
        rows.iter().map(read).collect()
    }

    async fn by_agent(&self, tenant: &TenantId, since: Timestamp) -> Result<Vec<Regard>, Error> {
        let params: Params<'_> = &[&tenant.as_str(), &since.0];
        let rows = self.engine.ask(BY_AGENT, params).await?;
        let number = |row: &Row, column| {
            let count: i64 = get(row, column)?;
            u64::try_from(count).map_err(|_| corrupt("feedback", &count.to_string()))
        };
        let regard = |row: &Row| {
            Ok(Regard {
                agent: get::<&str>(row, 0)?.into(),
                good: number(row, 1)?,
                bad: number(row, 2)?,
                signs: number(row, 3)?,
            })
        };
        rows.iter().map(regard).collect()
    }
}

fn read(row: &Row) -> Result<Feedback, Error> {
    let source: &str = get(row, 2)?;
    Ok(Feedback {
        task: TaskId(get(row, 0)?),
        who: get::<&str>(row, 1)?.into(),
        source: Source::parse(source).ok_or_else(|| corrupt("feedback", source))?,
        good: get(row, 3)?,
        text: get::<&str>(row, 4)?.to_owned(),
        at: Timestamp(get(row, 5)?),
    })
}
