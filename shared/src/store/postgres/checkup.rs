//! The examination of the store: what `majordomo doctor` wants to know.

use tokio_postgres::Row;

use super::tx::get;
use super::{EngineRole, migrate};
use crate::id::RunId;
use crate::run::Timestamp;
use crate::store::{Checkup, Error};

const NUMBERS: &str = "
select 'Postgres ' || current_setting('server_version'), now_ms(),
       (select count(*) from worker where state = 'live' and expires_at > (select now_ms())),
       (select count(*) from worker where state = 'live' and expires_at <= (select now_ms())),
       (select count(*) from run where state = 'queued'),
       coalesce((select now_ms()) - (select min(updated_at) from run where state = 'queued'), 0),
       (select count(*) from run where state = 'dead'),
       pg_database_size(current_database())";

/// Runs that are running in the hands of a worker that does not live.
const ORPHANS: &str = "
select id from run r where state = 'running'
  and not exists (select 1 from worker w where w.id = r.owner and w.state = 'live'
                                           and w.expires_at > (select now_ms()))
limit 10";

const KINDS: &str = "
select kind, count(*) from run where state in ('queued', 'running', 'waiting') group by kind";

/// What tables take up with their indexes.
const TABLES: &str = "
select c.relname::text, pg_total_relation_size(c.oid) as bytes from pg_class c
where c.relnamespace = 'majordomo'::regnamespace and c.relkind = 'r' order by bytes desc limit 10";

pub(super) async fn of(engine: &EngineRole) -> Result<Checkup, Error> {
    let numbers = engine.ask(NUMBERS, &[]).await?;
    let row = numbers
        .first()
        .ok_or_else(|| super::corrupt("run", "no numbers"))?;
    let pair = |row: &Row| Ok((get(row, 0)?, get(row, 1)?));
    let orphans = engine.ask(ORPHANS, &[]).await?;
    let kinds = engine.ask(KINDS, &[]).await?;
    let tables = engine.ask(TABLES, &[]).await?;
    Ok(Checkup {
        server: get(row, 0)?,
        // A store that was opened has them all: opening it applies what is missing and refuses more.
        migration: (migrate::KNOWN, migrate::KNOWN),
        now: Timestamp(get(row, 1)?),
        live: get(row, 2)?,
        lapsed: get(row, 3)?,
        orphans: orphans
            .iter()
            .map(|row| get(row, 0).map(RunId))
            .collect::<Result<_, Error>>()?,
        queued: get(row, 4)?,
        queue_age_ms: get::<i64>(row, 5)?.max(0),
        dead: get(row, 6)?,
        kinds: kinds.iter().map(pair).collect::<Result<_, Error>>()?,
        bytes: get(row, 7)?,
        tables: tables.iter().map(pair).collect::<Result<_, Error>>()?,
    })
}
