//! Table `token`: API tokens by the hash of their secret.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{from_json, text, to_json};
use crate::hash::Hash;
use crate::id::TenantId;
use crate::run::Timestamp;
use crate::store::{Error, Token};

pub(super) fn add(conn: &Connection, token: &Token, hash: Hash) -> Result<bool, Error> {
    let added = conn
        .prepare_cached(
            "insert into token (id, tenant, hash, name, principal, scopes, created_at)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7) on conflict do nothing",
        )?
        .execute(params![
            uuid::Uuid::now_v7().to_string(),
            token.tenant.as_str(),
            hash.to_string(),
            token.name,
            token.principal.as_str(),
            to_json(&token.scopes),
            token.created_at.0,
        ])?;
    Ok(added == 1)
}

pub(super) fn by_hash(
    conn: &Connection,
    tenant: &TenantId,
    hash: Hash,
) -> Result<Option<Token>, Error> {
    conn.prepare_cached(
        "select name, tenant, principal, scopes, created_at, revoked_at from token
         where tenant = ?1 and hash = ?2 and revoked_at is null",
    )?
    .query_row(params![tenant.as_str(), hash.to_string()], |row| {
        Ok(read(row))
    })
    .optional()?
    .transpose()
}

pub(super) fn all(conn: &Connection, tenant: &TenantId) -> Result<Vec<Token>, Error> {
    conn.prepare_cached(
        "select name, tenant, principal, scopes, created_at, revoked_at from token
         where tenant = ?1 order by created_at",
    )?
    .query_map([tenant.as_str()], |row| Ok(read(row)))?
    .map(|row| row?)
    .collect()
}

pub(super) fn revoke(
    conn: &Connection,
    tenant: &TenantId,
    name: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    let revoked = conn
        .prepare_cached(
            "update token set revoked_at = ?3 where tenant = ?1 and name = ?2 and revoked_at is null",
        )?
        .execute(params![tenant.as_str(), name, now.0])?;
    Ok(revoked == 1)
}

fn read(row: &Row<'_>) -> Result<Token, Error> {
    Ok(Token {
        name: row.get(0)?,
        tenant: text(row, 1)?.into(),
        principal: text(row, 2)?.into(),
        scopes: from_json("token", text(row, 3)?)?,
        created_at: Timestamp(row.get(4)?),
        revoked_at: row.get::<_, Option<i64>>(5)?.map(Timestamp),
    })
}
