//! The examination of the store: what `majordomo doctor` wants to know.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::{MIGRATIONS, parse};
use crate::run::Timestamp;
use crate::store::{Checkup, Error};

/// How many orphans are named, and how many tables.
const SOME: u32 = 10;

pub(super) fn of(conn: &Connection, now: Timestamp) -> Result<Checkup, Error> {
    let one = |sql: &str| -> Result<i64, Error> { Ok(conn.query_row(sql, [], |row| row.get(0))?) };
    let oldest = one("select coalesce(min(updated_at), 0) from run where state = 'queued'")?;
    Ok(Checkup {
        server: format!("SQLite {}", rusqlite::version()),
        migration: (one("pragma user_version")?, MIGRATIONS.len() as i64),
        now,
        live: one("select count(*) from worker where state = 'live'")?,
        lapsed: 0,
        orphans: orphans(conn)?,
        queued: one("select count(*) from run where state = 'queued'")?,
        queue_age_ms: match oldest {
            0 => 0,
            at => (now.0 - at).max(0),
        },
        dead: one("select count(*) from run where state = 'dead'")?,
        kinds: kinds(conn)?,
        bytes: one("pragma page_count")? * one("pragma page_size")?,
        tables: tables(conn)?,
    })
}

/// Runs that are running in the hands of a worker that does not live.
fn orphans(conn: &Connection) -> Result<Vec<crate::id::RunId>, Error> {
    conn.prepare_cached(
        "select id from run r where state = 'running'
           and not exists (select 1 from worker w where w.id = r.owner and w.state = 'live')
         limit ?1",
    )?
    .query_map([SOME], |row| row.get::<_, String>(0))?
    .map(|id| parse("run", &id?))
    .collect()
}

fn kinds(conn: &Connection) -> Result<BTreeMap<String, i64>, Error> {
    let mut statement = conn.prepare_cached(
        "select kind, count(*) from run where state in ('queued', 'running', 'waiting') group by kind",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What tables take up with their indexes.
fn tables(conn: &Connection) -> Result<Vec<(String, i64)>, Error> {
    let mut statement = conn.prepare_cached(
        "select m.tbl_name, sum(d.pgsize) as bytes from dbstat d join sqlite_schema m on m.name = d.name
         where d.aggregate = true group by m.tbl_name order by bytes desc limit ?1",
    )?;
    let rows = statement.query_map([SOME], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
