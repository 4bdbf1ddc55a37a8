//! Tables `blob` and `blob_use`: bytes by their hash, and which tasks refer to them.

use rusqlite::{Connection, OptionalExtension, params};

use super::parse;
use crate::blob::Blob;
use crate::hash::Hash;
use crate::id::{TaskId, TenantId};
use crate::run::Timestamp;
use crate::store::Error;

/// Keeps bytes for a task.
pub(super) fn keep(
    tx: &Connection,
    (tenant, task): (&TenantId, TaskId),
    blobs: &[Blob],
    now: Timestamp,
) -> Result<(), Error> {
    for blob in blobs {
        let hash = blob.hash.to_string();
        tx.prepare_cached(
            "insert into blob (tenant, hash, mime, bytes, at) values (?1, ?2, ?3, ?4, ?5)
             on conflict do nothing",
        )?
        .execute(params![
            tenant.as_str(),
            hash,
            blob.mime,
            &blob.bytes[..],
            now.0
        ])?;
        tx.prepare_cached(
            "insert into blob_use (task, hash, tenant) values (?1, ?2, ?3) on conflict do nothing",
        )?
        .execute(params![task.to_string(), hash, tenant.as_str()])?;
    }
    Ok(())
}

/// A task that was made from another refers to what that one did.
pub(super) fn copy(tx: &Connection, old: TaskId, new: TaskId) -> Result<(), Error> {
    tx.prepare_cached(
        "insert into blob_use (task, hash, tenant)
         select ?2, hash, tenant from blob_use where task = ?1",
    )?
    .execute([old.to_string(), new.to_string()])?;
    Ok(())
}

/// Ends what a task refers to, and all bytes that nobody refers to any more.
pub(super) fn forget(tx: &Connection, task: TaskId) -> Result<(), Error> {
    let task = task.to_string();
    let used: Vec<(String, String)> = tx
        .prepare_cached("delete from blob_use where task = ?1 returning tenant, hash")?
        .query_map([&task], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (tenant, hash) in used {
        tx.prepare_cached(
            "delete from blob where tenant = ?1 and hash = ?2
               and not exists (select 1 from blob_use u where u.tenant = ?1 and u.hash = ?2)",
        )?
        .execute([tenant, hash])?;
    }
    Ok(())
}

/// The bytes of this hash.
pub(super) fn one(conn: &Connection, tenant: &TenantId, hash: Hash) -> Result<Option<Blob>, Error> {
    let found: Option<(String, String, Vec<u8>)> = conn
        .prepare_cached("select hash, mime, bytes from blob where tenant = ?1 and hash = ?2")?
        .query_row(params![tenant.as_str(), hash.to_string()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let blob = |(hash, mime, bytes): (String, String, Vec<u8>)| {
        Ok(Blob {
            hash: parse("blob", &hash)?,
            mime,
            bytes: bytes.into(),
        })
    };
    found.map(blob).transpose()
}
