//! Finding what to speak to. A `serve` that answers is spoken to. Else the data folder's lock decides: where
//! it is free the store is opened; an `ask` that holds it is waited for, for a while.

use std::time::Duration;

use shared::store::Error as StoreError;

use super::Access;
use crate::cli::client::Client;
use crate::cli::context::Context;
use crate::cli::exit::Fault;
use crate::instance::Instance;

/// How long a held data folder is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is tried meanwhile.
const TRY_EVERY: Duration = Duration::from_millis(200);

/// Finds the live instance of a data folder.
pub async fn live(context: &Context) -> Option<Client> {
    let client = Client::new(Instance::read(&context.data)?).ok()?;
    client.is_alive().await.then_some(client)
}

/// An instance, or what is opened where none answers; a data folder that is held is waited for.
pub(super) async fn reach(
    context: &Context,
    open: impl AsyncFn() -> anyhow::Result<Access>,
) -> anyhow::Result<Access> {
    reach_within(context, PATIENCE, open).await
}

pub(super) async fn reach_within(
    context: &Context,
    patience: Duration,
    open: impl AsyncFn() -> anyhow::Result<Access>,
) -> anyhow::Result<Access> {
    let waiting = shared::clock::stopwatch();
    let mut told = false;
    loop {
        if let Some(client) = live(context).await {
            return Ok(Access::Live(Box::new(client)));
        }
        let error = match open().await {
            Err(error) if is_locked(&error) => error,
            opened => return opened,
        };
        if waiting.ms() >= patience.as_millis() as u64 {
            return Err(held(&error).into());
        }
        if !std::mem::replace(&mut told, true) {
            eprintln!("waiting: {error}");
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
}

/// Whether another process has the data folder.
pub fn is_locked(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::Locked { .. }))
}

fn held(error: &anyhow::Error) -> Fault {
    Fault::unreachable(format!("{error}, and it answers no requests")).help(
        "an `ask` holds the folder until its task ends: wait for it,\n\
         or keep `majordomo serve` running, beside which every command works",
    )
}
