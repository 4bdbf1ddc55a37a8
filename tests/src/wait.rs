//! Waiting for what nobody rings a bell for, such as a row that another process or another task of this
//! one changes: it is looked at until it holds, or patience ends. What rings is waited for by its bell.

use std::time::Duration;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What is found before patience ends.
pub async fn within<T>(patience: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(patience, looking).await.ok()
}

/// Waits until something holds. Panics where patience ends before it does, saying what it was.
pub async fn until(what: &str, patience: Duration, holds: impl AsyncFn() -> bool) {
    let held = within(patience, async || holds().await.then_some(())).await;
    held.unwrap_or_else(|| panic!("not within {patience:?}: {what}"));
}
