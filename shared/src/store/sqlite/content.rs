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

/// Changes a page and takes the change back: the commit of it needs room and a disk that works.
pub(super) fn probe(tx: &Connection) -> Result<(), Error> {
    let (nobody, hash) = (TenantId::from(""), Hash::of_bytes(b"probe"));
    keep(tx, &nobody, hash, "")?;
    tx.prepare_cached("delete from content where tenant = ?1 and hash = ?2")?
        .execute(params![nobody.as_str(), hash.to_string()])?;
    Ok(())
}
