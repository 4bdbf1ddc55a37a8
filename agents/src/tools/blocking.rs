//! Running file work away from the async threads, with a token by which it is told to stop.
//! Called by the file tools; knows nothing of what they do.

use tokio_util::sync::CancellationToken;

use shared::run::{Failure, FailureKind};

/// The failure of work that nobody wants any more.
pub fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "cancelled")
}

/// Does `work` on a thread of its own. When the caller stops waiting, the token that the work was
/// given is cancelled; the work looks at it between files. A panic becomes a permanent failure.
pub async fn run<T: Send + 'static>(
    cancel: &CancellationToken,
    work: impl FnOnce(&CancellationToken) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let token = cancel.child_token();
    let _cancels_when_dropped = token.clone().drop_guard();
    let task = tokio::task::spawn_blocking(move || work(&token));
    tokio::select! {
        () = cancel.cancelled() => Err(cancelled()),
        done = task => done.unwrap_or_else(|error| {
            let message = format!("the tool broke off: {error}");
            Err(Failure::new(FailureKind::Permanent, message))
        }),
    }
}
