//! Table `token`: API tokens by the hash of their secret.

use tokio_postgres::Row;

use super::tx::get;
use super::{AppRole, clean, from_json, to_json};
use crate::hash::Hash;
use crate::id::TenantId;
use crate::run::Timestamp;
use crate::store::{Error, Token};

const ADD: &str = "
insert into token (id, tenant, hash, name, principal, scopes, created_at)
values ($1, $2, $3, $4, $5, $6::text::json, $7) on conflict do nothing returning 1";
const BY_HASH: &str = "
select name, tenant, principal, scopes::text, created_at, revoked_at from token
where tenant = $1 and hash = $2 and revoked_at is null";
const ALL: &str = "
select name, tenant, principal, scopes::text, created_at, revoked_at from token
where tenant = $1 order by created_at, id";
const REVOKE: &str = "
update token set revoked_at = now_ms()
where tenant = $1 and name = $2 and revoked_at is null returning 1";

pub(super) async fn add(app: &AppRole, token: &Token, hash: Hash) -> Result<bool, Error> {
    let added = app
        .ask(
            &token.tenant,
            ADD,
            &[
                &uuid::Uuid::now_v7(),
                &token.tenant.as_str(),
                &hash.to_string(),
                &clean(&token.name),
                &clean(token.principal.as_str()),
                &to_json(&token.scopes),
                &token.created_at.0,
            ],
        )
        .await?;
    Ok(added.len() == 1)
}

pub(super) async fn by_hash(
    app: &AppRole,
    tenant: &TenantId,
    hash: Hash,
) -> Result<Option<Token>, Error> {
    let rows = app
        .ask(tenant, BY_HASH, &[&tenant.as_str(), &hash.to_string()])
        .await?;
    rows.first().map(read).transpose()
}

pub(super) async fn all(app: &AppRole, tenant: &TenantId) -> Result<Vec<Token>, Error> {
    let rows = app.ask(tenant, ALL, &[&tenant.as_str()]).await?;
    rows.iter().map(read).collect()
}

pub(super) async fn revoke(app: &AppRole, tenant: &TenantId, name: &str) -> Result<bool, Error> {
    let revoked = app
        .ask(tenant, REVOKE, &[&tenant.as_str(), &clean(name)])
        .await?;
    Ok(revoked.len() == 1)
}

fn read(row: &Row) -> Result<Token, Error> {
    Ok(Token {
        name: get(row, 0)?,
        tenant: get::<&str>(row, 1)?.into(),
        principal: get::<&str>(row, 2)?.into(),
        scopes: from_json("token", get(row, 3)?)?,
        created_at: Timestamp(get(row, 4)?),
        revoked_at: get::<Option<i64>>(row, 5)?.map(Timestamp),
    })
}
