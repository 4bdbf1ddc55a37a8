//! Tables `blob` and `blob_use`: bytes by their hash, and which tasks refer to them.

use std::collections::BTreeMap;

use futures::try_join;
use tokio_postgres::Statement;
use uuid::Uuid;

use super::tx::{Params, Tx, get};
use super::{AppRole, parse};
use crate::blob::Blob;
use crate::hash::Hash;
use crate::id::{TaskId, TenantId};
use crate::store::Error;

pub(super) const KEEP: &str = "
insert into blob (tenant, hash, mime, bytes, at)
select u.tenant, u.hash, u.mime, u.bytes, now_ms()
from unnest($1::text[], $2::text[], $3::text[], $4::bytea[]) as u(tenant, hash, mime, bytes)
on conflict do nothing";
pub(super) const USE: &str = "
insert into blob_use (task, hash, tenant)
select * from unnest($1::uuid[], $2::text[], $3::text[])
on conflict do nothing";
/// A task that was made from another refers to what that one did.
pub(super) const COPY: &str = "
insert into blob_use (task, hash, tenant)
select $2, hash, tenant from blob_use where task = $1";
const ONE: &str = "select hash, mime, bytes from blob where tenant = $1 and hash = $2";

/// Ends what tasks refer to.
pub(super) const LEAVE: &str = "delete from blob_use where task = any($1) returning tenant, hash";
/// As with bodies: whoever keeps some is waited for, and kept out until the commit.
pub(super) const KEEP_OUT: &str = "lock table blob in share row exclusive mode";
/// Ends bytes that nobody refers to any more.
pub(super) const FORGET: &str = "
delete from blob b using unnest($1::text[], $2::text[]) as u(tenant, hash)
where b.tenant = u.tenant and b.hash = u.hash
  and not exists (select 1 from blob_use s where s.tenant = b.tenant and s.hash = b.hash)";

/// Bytes to be kept, in the order of their keys: two writers that keep the same ones wait for each
/// other in one direction only.
#[derive(Default)]
pub(super) struct Blobs<'a> {
    bytes: BTreeMap<(&'a str, String), &'a Blob>,
    uses: BTreeMap<(Uuid, String), &'a str>,
}

impl<'a> Blobs<'a> {
    /// These too, for this task.
    pub(super) fn add(&mut self, (tenant, task): (&'a TenantId, TaskId), blobs: &'a [Blob]) {
        for blob in blobs {
            let hash = blob.hash.to_string();
            self.bytes.insert((tenant.as_str(), hash.clone()), blob);
            self.uses.insert((task.0, hash), tenant.as_str());
        }
    }

    /// Keeps them all.
    pub(super) async fn keep(
        &self,
        tx: &Tx<'_>,
        (keep, refer): (&Statement, &Statement),
    ) -> Result<(), Error> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let (tenants, hashes): (Vec<&str>, Vec<&str>) =
            self.bytes.keys().map(|(t, h)| (*t, h.as_str())).unzip();
        let mimes: Vec<&str> = self.bytes.values().map(|blob| blob.mime.as_str()).collect();
        let bytes: Vec<&[u8]> = self.bytes.values().map(|blob| &blob.bytes[..]).collect();
        let (tasks, used): (Vec<Uuid>, Vec<&str>) =
            self.uses.keys().map(|(t, h)| (*t, h.as_str())).unzip();
        let users: Vec<&str> = self.uses.values().copied().collect();
        let (kept, referred): (Params<'_>, Params<'_>) = (
            &[&tenants, &hashes, &mimes, &bytes],
            &[&tasks, &used, &users],
        );
        // Both are sent at once: what follows in the pipeline may be the commit.
        try_join!(tx.execute(keep, kept), tx.execute(refer, referred)).map(drop)
    }
}

/// The bytes of this hash.
pub(super) async fn one(
    app: &AppRole,
    tenant: &TenantId,
    hash: Hash,
) -> Result<Option<Blob>, Error> {
    let rows = app
        .ask(tenant, ONE, &[&tenant.as_str(), &hash.to_string()])
        .await?;
    let blob = |row: &tokio_postgres::Row| {
        Ok(Blob {
            hash: parse("blob", get(row, 0)?)?,
            mime: get(row, 1)?,
            bytes: get::<&[u8]>(row, 2)?.into(),
        })
    };
    rows.first().map(blob).transpose()
}
