//! Transactions and prepared statements on a pooled connection, in as few round trips as may be:
//! statements are sent one after the other without waiting for answers in between.

use deadpool_postgres::{ClientWrapper, Object};
use futures::FutureExt;
use futures::future::try_join_all;
use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Row, Statement};

use super::fault;
use crate::store::Error;

/// What a statement is given.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A transaction that is rolled back where it is dropped before its end: a caller that went away in
/// the middle leaves a connection behind that holds no lock, no role and no tenant of its own.
pub(super) struct Tx<'a> {
    client: &'a ClientWrapper,
    open: bool,
}

impl<'a> Tx<'a> {
    /// A transaction that is to begin; nothing is sent yet.
    pub(super) fn on(client: &'a Object) -> Self {
        Self { client, open: true }
    }

    /// Begins.
    pub(super) async fn begin(&self) -> Result<(), Error> {
        self.client.batch_execute("begin").await.map_err(fault)
    }

    /// Has the server answer a prepared statement.
    pub(super) async fn query(
        &self,
        statement: &Statement,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Error> {
        self.client.query(statement, params).await.map_err(fault)
    }

    /// Has the server do a prepared statement; answers how many rows it changed.
    pub(super) async fn execute(
        &self,
        statement: &Statement,
        params: Params<'_>,
    ) -> Result<u64, Error> {
        self.client.execute(statement, params).await.map_err(fault)
    }

    /// Prepares and asks: for what is rare, one statement after the other.
    pub(super) async fn ask(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        let statement = self.client.prepare_cached(sql).await.map_err(fault)?;
        self.query(&statement, params).await
    }

    /// Commits. Durable on return.
    pub(super) async fn commit(&self) -> Result<(), Error> {
        self.client.batch_execute("commit").await.map_err(fault)
    }

    /// Says that the commit was answered.
    pub(super) fn done(mut self) {
        self.open = false;
    }
}

impl Drop for Tx<'_> {
    fn drop(&mut self) {
        if self.open {
            // Sent by the first poll; nobody waits for the answer. After a commit it changes nothing.
            let _ = self.client.batch_execute("rollback").now_or_never();
        }
    }
}

/// The prepared statements of these texts, from the connection's cache where they are in it. Ask
/// before a pipeline begins: a statement that had to be prepared in it would be overtaken.
pub(super) async fn prepare<const N: usize>(
    client: &Object,
    texts: [&str; N],
) -> Result<[Statement; N], Error> {
    let prepared = try_join_all(texts.iter().map(|text| client.prepare_cached(text))).await;
    let prepared: [Statement; N] = prepared
        .map_err(fault)?
        .try_into()
        .map_err(|_| Error::Database("a statement was not prepared".into()))?;
    Ok(prepared)
}

/// A column, read as what it must be.
pub(super) fn get<'r, T: FromSql<'r>>(row: &'r Row, column: usize) -> Result<T, Error> {
    row.try_get(column).map_err(fault)
}
