//! Table `content`: bodies by their hash.

use rusqlite::{Connection, OptionalExtension, params};

use crate::hash::Hash;
use crate::id::TenantId;
use crate::store::Error;

pub(super) fn keep(
    conn: &Connection,
    tenant: &TenantId,
    hash: Hash,
    body: &str,
) -> Result<(), Error> {
    conn.prepare_cached(
        "insert into content (tenant, hash, body) values (?1, ?2, ?3) on conflict do nothing",
    )?
    .execute(params![tenant.as_str(), hash.to_string(), body])?;
    Ok(())
}

pub(super) fn one(
    conn: &Connection,
    tenant: &TenantId,
    hash: Hash,
) -> Result<Option<String>, Error> {
    let body = conn
        .prepare_cached("select body from content where tenant = ?1 and hash = ?2")?
        .query_row(params![tenant.as_str(), hash.to_string()], |row| row.get(0))
        .optional()?;
    Ok(body)
}
