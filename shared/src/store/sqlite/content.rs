//! Table `content`: bodies by their hash.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqlitePool;

use crate::hash::Hash;
use crate::id::TenantId;
use crate::store::Error;

pub(super) async fn keep(
    conn: &mut SqliteConnection,
    tenant: &TenantId,
    hash: Hash,
    body: &str,
) -> Result<(), Error> {
    sqlx::query(
        "insert into content (tenant, hash, body) values (?1, ?2, ?3) on conflict do nothing",
    )
    .bind(tenant.as_str())
    .bind(hash.to_string())
    .bind(body)
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn one(
    pool: &SqlitePool,
    tenant: &TenantId,
    hash: Hash,
) -> Result<Option<String>, Error> {
    let body = sqlx::query_scalar("select body from content where tenant = ?1 and hash = ?2")
        .bind(tenant.as_str())
        .bind(hash.to_string())
        .fetch_optional(pool)
        .await?;
    Ok(body)
}
