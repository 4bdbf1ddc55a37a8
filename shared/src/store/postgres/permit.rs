//! Tables `permit` and `permit_use`: approvers' standing words, and what they were used for.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::tx::{Params, Tx, get};
use super::{PostgresStore, clean, corrupt, from_json, run, to_json};
use crate::id::{AgentName, AskId, PermitId, PrincipalId, TaskId, TenantId, ToolName};
use crate::permit::{Permit, PermitUse, Terms};
use crate::run::Timestamp;
use crate::store::{Delivered, Error, NewPermit, NewSignal, Permits, Raising, Used};

/// A permit's columns.
macro_rules! columns {
    () => {
        "id, agent, tool, covered::text, tainted, times, used, ends_at, by, at, asked, revoked_by, \
         revoked_at"
    };
}

/// Whether a permit is good.
macro_rules! good {
    () => {
        "revoked_at is null and (ends_at is null or ends_at > (select now_ms()))
         and (times is null or used < times)"
    };
}

const ADD: &str = "
insert into permit (tenant, id, agent, tool, covered, tainted, times, ends_at, by, at, asked)
select $1, $2, $3, $4, $5::text::json, $6, $7, t.now + $8::bigint, $9, t.now, $10
from (select now_ms() as now) t
on conflict do nothing";
const ONE: &str = concat!(
    "select ",
    columns!(),
    " from permit where tenant = $1 and id = $2"
);
const ALL: &str = concat!(
    "select ",
    columns!(),
    " from permit where tenant = $1 and (not $2::bool or (",
    good!(),
    ")) order by at desc, id desc limit $3"
);
const GOOD_FOR: &str = concat!(
    "select ",
    columns!(),
    " from permit where tenant = $1 and agent = $2 and tool = $3 and ",
    good!(),
    " order by at, id"
);
const USES: &str = "
select ask, task, at from permit_use where tenant = $1 and permit = $2 order by at desc, ask limit $3";
const COUNT: &str = concat!(
    "with counted as (
       update permit set used = used + 1 where tenant = $1 and id = $2 and ",
    good!(),
    " returning tenant, id)
     insert into permit_use (ask, permit, tenant, task, at)
     select $3, id, tenant, $4, now_ms() from counted
     returning 1"
);
const REVOKE: &str = "
update permit set revoked_by = $3, revoked_at = now_ms()
where tenant = $1 and id = $2 and revoked_at is null
returning 1";

/// Counts a use and writes it down, where the permit is good; it stays locked until the commit.
pub(super) async fn count(
    tx: &Tx<'_>,
    (id, task): (PermitId, TaskId),
    answer: &NewSignal,
) -> Result<bool, Error> {
    let ask = AskId::of(answer.run, &answer.name);
    let params: Params<'_> = &[&answer.tenant.as_str(), &id.0, &ask.0, &task.0];
    Ok(!tx.ask(COUNT, params).await?.is_empty())
}

#[async_trait]
impl Permits for PostgresStore {
    async fn add(&self, permit: NewPermit) -> Result<Permit, Error> {
        let NewPermit { tenant, terms, .. } = &permit;
        let lasts = permit.lasts.map(|lasts| lasts.as_millis() as i64);
        let params: Params<'_> = &[
            &tenant.as_str(),
            &permit.id.0,
            &terms.agent.as_str(),
            &terms.tool.as_str(),
            &to_json(&terms.covered),
            &terms.tainted,
            &terms.times.map(i64::from),
            &lasts,
            &clean(permit.by.as_str()),
            &permit.asked.map(|ask| ask.0),
        ];
        self.engine.ask(ADD, params).await?;
        let added = self.one(tenant, permit.id).await?;
        added.ok_or_else(|| Error::Database(format!("permit {} is another tenant's", permit.id)))
    }

    async fn one(&self, tenant: &TenantId, id: PermitId) -> Result<Option<Permit>, Error> {
        let rows = self.engine.ask(ONE, &[&tenant.as_str(), &id.0]).await?;
        rows.first().map(read).transpose()
    }

    async fn all(&self, tenant: &TenantId, good: bool, limit: u32) -> Result<Vec<Permit>, Error> {
        let params: Params<'_> = &[&tenant.as_str(), &good, &i64::from(limit)];
        let rows = self.engine.ask(ALL, params).await?;
        rows.iter().map(read).collect()
    }

    async fn good_for(
        &self,
        tenant: &TenantId,
        agent: &AgentName,
        tool: &ToolName,
    ) -> Result<Vec<Permit>, Error> {
        let params: Params<'_> = &[&tenant.as_str(), &agent.as_str(), &tool.as_str()];
        let rows = self.engine.ask(GOOD_FOR, params).await?;
        rows.iter().map(read).collect()
    }

    async fn uses(
        &self,
        tenant: &TenantId,
        id: PermitId,
        limit: u32,
    ) -> Result<Vec<PermitUse>, Error> {
        let params: Params<'_> = &[&tenant.as_str(), &id.0, &i64::from(limit)];
        let rows = self.engine.ask(USES, params).await?;
        let used = |row: &Row| {
            Ok(PermitUse {
                ask: AskId(get(row, 0)?),
                task: TaskId(get(row, 1)?),
                at: Timestamp(get(row, 2)?),
            })
        };
        rows.iter().map(used).collect()
    }

    async fn spend(&self, id: PermitId, answer: NewSignal) -> Result<Used, Error> {
        crate::crash_point!("permit.before");
        let nothing = Raising::default();
        let delivered = run::deliver(&self.engine, &answer, Some(id), &nothing).await?;
        crate::crash_point!("permit.after");
        Ok(match delivered {
            None => Used::Spent,
            Some((Delivered::First, on)) => {
                self.answered(&on);
                Used::Counted
            }
            Some((Delivered::Answered | Delivered::Unwanted, _)) => Used::Late,
        })
    }

    async fn revoke(
        &self,
        tenant: &TenantId,
        id: PermitId,
        by: &PrincipalId,
    ) -> Result<bool, Error> {
        let params: Params<'_> = &[&tenant.as_str(), &id.0, &clean(by.as_str())];
        let revoked = self.engine.ask(REVOKE, params).await?;
        Ok(!revoked.is_empty())
    }
}

fn read(row: &Row) -> Result<Permit, Error> {
    let number = |n: i64| u32::try_from(n).map_err(|_| corrupt("permit", &n.to_string()));
    let revoked_by = get::<Option<&str>>(row, 11)?.map(PrincipalId::from);
    Ok(Permit {
        id: PermitId(get(row, 0)?),
        terms: Terms {
            agent: get::<&str>(row, 1)?.into(),
            tool: get::<&str>(row, 2)?.into(),
            covered: from_json("permit", get(row, 3)?)?,
            tainted: get(row, 4)?,
            times: get::<Option<i64>>(row, 5)?.map(number).transpose()?,
        },
        used: number(get(row, 6)?)?,
        until: get::<Option<i64>>(row, 7)?.map(Timestamp),
        by: get::<&str>(row, 8)?.into(),
        at: Timestamp(get(row, 9)?),
        asked: get::<Option<uuid::Uuid>>(row, 10)?.map(AskId),
        revoked: revoked_by.zip(get::<Option<i64>>(row, 12)?.map(Timestamp)),
    })
}
