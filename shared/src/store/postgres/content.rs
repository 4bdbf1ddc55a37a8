//! Table `content`: bodies by their hash.

use std::collections::BTreeMap;

use tokio_postgres::Statement;

use super::tx::{Tx, get};
use super::{AppRole, EngineRole, clean};
use crate::hash::Hash;
use crate::id::TenantId;
use crate::store::Error;

const KEEP: &str =
    "insert into content (tenant, hash, body) values ($1, $2, $3) on conflict do nothing";
const ONE: &str = "select body from content where tenant = $1 and hash = $2";

/// Keeps bodies that came in a journal's batch, in the order of their keys: two writers that keep the
/// same ones wait for each other in one direction only.
pub(super) const KEEP_ALL: &str = "
insert into content (tenant, hash, body)
select * from unnest($1::text[], $2::text[], $3::text[])
on conflict do nothing";

/// Bodies to be kept, in order.
#[derive(Default)]
pub(super) struct Bodies(BTreeMap<(String, String), String>);

impl Bodies {
    /// One more.
    pub(super) fn add(&mut self, tenant: &TenantId, hash: Hash, body: String) {
        self.0.insert((tenant.to_string(), hash.to_string()), body);
    }

    /// Keeps them all.
    pub(super) async fn keep(&self, tx: &Tx<'_>, keep_all: &Statement) -> Result<(), Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        let (tenants, hashes): (Vec<&str>, Vec<&str>) =
            self.0.keys().map(|(t, h)| (t.as_str(), h.as_str())).unzip();
        let bodies: Vec<&str> = self.0.values().map(String::as_str).collect();
        tx.execute(keep_all, &[&tenants, &hashes, &bodies])
            .await
            .map(drop)
    }
}

pub(super) async fn keep(
    app: &AppRole,
    tenant: &TenantId,
    hash: Hash,
    body: &str,
) -> Result<(), Error> {
    let (hash, body) = (hash.to_string(), clean(body));
    app.ask(tenant, KEEP, &[&tenant.as_str(), &hash, &body])
        .await
        .map(drop)
}

pub(super) async fn one(
    app: &AppRole,
    tenant: &TenantId,
    hash: Hash,
) -> Result<Option<String>, Error> {
    let rows = app
        .ask(tenant, ONE, &[&tenant.as_str(), &hash.to_string()])
        .await?;
    rows.first().map(|row| get(row, 0)).transpose()
}

/// A row of nobody's that is written anew: the commit of it needs room and a disk that works.
const PROBE: &str = "
insert into content (tenant, hash, body) values ('', $1, '')
on conflict (tenant, hash) do update set body = excluded.body";

pub(super) async fn probe(engine: &EngineRole) -> Result<(), Error> {
    let hash = Hash::of_bytes(b"probe").to_string();
    engine.ask(PROBE, &[&hash]).await.map(drop)
}
