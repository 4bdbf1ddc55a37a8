//! Where an installation's state is, and the store that keeps it: the data folder, or the Postgres
//! that the configuration names. Called by the composition root and by commands that only look.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use shared::config::secret::SecretRef;
use shared::store::Store;
use shared::store::postgres::PostgresStore;
use shared::store::sqlite::SqliteStore;

/// Opens the store and brings it up to date. With a `database_url` the data folder is not locked:
/// any number of processes share the database, and a worker that does not beat for `lease` is gone.
pub async fn open(
    data: &Path,
    database_url: Option<&SecretRef>,
    lease: Duration,
) -> anyhow::Result<Arc<dyn Store>> {
    let Some(url) = database_url else {
        return Ok(Arc::new(SqliteStore::open(data).await?));
    };
    let url = url.resolve().context("database_url")?;
    Ok(Arc::new(PostgresStore::open(url.expose(), lease).await?))
}
