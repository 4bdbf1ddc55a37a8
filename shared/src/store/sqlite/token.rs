//! Table `token`: API tokens by the hash of their secret.

use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row, SqliteConnection};

use super::{from_json, to_json};
use crate::hash::Hash;
use crate::id::TenantId;
use crate::run::Timestamp;
use crate::store::{Error, Token};

pub(super) async fn add(
    conn: &mut SqliteConnection,
    token: &Token,
    hash: Hash,
) -> Result<bool, Error> {
    let added = sqlx::query(
        "insert into token (id, tenant, hash, name, principal, scopes, created_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7) on conflict do nothing",
    )
    .bind(uuid::Uuid::now_v7().to_string())
    .bind(token.tenant.as_str())
    .bind(hash.to_string())
    .bind(&token.name)
    .bind(token.principal.as_str())
    .bind(to_json(&token.scopes))
    .bind(token.created_at.0)
    .execute(conn)
    .await?;
    Ok(added.rows_affected() == 1)
}

pub(super) async fn by_hash(pool: &SqlitePool, hash: Hash) -> Result<Option<Token>, Error> {
    let row = sqlx::query(
        "select name, tenant, principal, scopes, created_at, revoked_at from token
         where hash = ?1 and revoked_at is null",
    )
    .bind(hash.to_string())
    .fetch_optional(pool)
    .await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn all(pool: &SqlitePool, tenant: &TenantId) -> Result<Vec<Token>, Error> {
    let rows = sqlx::query(
        "select name, tenant, principal, scopes, created_at, revoked_at from token
         where tenant = ?1 order by created_at",
    )
    .bind(tenant.as_str())
    .fetch_all(pool)
    .await?;
    rows.iter().map(read).collect()
}

pub(super) async fn revoke(
    conn: &mut SqliteConnection,
    tenant: &TenantId,
    name: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    let revoked = sqlx::query(
        "update token set revoked_at = ?3 where tenant = ?1 and name = ?2 and revoked_at is null",
    )
    .bind(tenant.as_str())
    .bind(name)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(revoked.rows_affected() == 1)
}

fn read(row: &SqliteRow) -> Result<Token, Error> {
    Ok(Token {
        name: row.try_get(0)?,
        tenant: row.try_get::<&str, _>(1)?.into(),
        principal: row.try_get::<&str, _>(2)?.into(),
        scopes: from_json("token", row.try_get(3)?)?,
        created_at: Timestamp(row.try_get(4)?),
        revoked_at: row.try_get::<Option<i64>, _>(5)?.map(Timestamp),
    })
}
