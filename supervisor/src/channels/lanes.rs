//! Work in order within one conversation, and side by side across them.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use tokio_util::task::TaskTracker;

/// Queues by conversation. Each is worked off by a task of its own as long as there is anything in it.
pub struct Lanes<T> {
    queues: Arc<Mutex<HashMap<String, VecDeque<T>>>>,
    workers: TaskTracker,
}

impl<T: Send + 'static> Lanes<T> {
    /// None yet; who works is tracked there.
    pub fn new(workers: TaskTracker) -> Self {
        Self {
            queues: Arc::default(),
            workers,
        }
    }

    /// Has `work` done on an item, after all that was pushed for the conversation before.
    pub fn push<F>(&self, conversation: &str, item: T, work: impl Fn(T) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send,
    {
        {
            let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(queue) = queues.get_mut(conversation) {
                return queue.push_back(item);
            }
            queues.insert(conversation.to_owned(), VecDeque::from([item]));
        }
        let (queues, conversation) = (self.queues.clone(), conversation.to_owned());
        self.workers.spawn(async move {
            while let Some(item) = next(&queues, &conversation) {
                // A fault of ours costs the one item, not all that comes after it.
                if AssertUnwindSafe(work(item)).catch_unwind().await.is_err() {
                    tracing::error!("work on a conversation panicked");
                }
            }
        });
    }
}

/// The next of a queue. An empty one is gone.
fn next<T>(queues: &Mutex<HashMap<String, VecDeque<T>>>, conversation: &str) -> Option<T> {
    let mut queues = queues.lock().unwrap_or_else(PoisonError::into_inner);
    let item = queues.get_mut(conversation)?.pop_front();
    if item.is_none() {
        queues.remove(conversation);
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Notify;

    #[tokio::test]
    async fn one_conversation_keeps_its_order_and_holds_up_no_other() {
        let tracker = TaskTracker::new();
        let lanes = Lanes::new(tracker.clone());
        let (gate, seen) = (Arc::new(Notify::new()), Arc::new(Mutex::new(Vec::new())));
        for (conversation, item) in [("a", 1), ("a", 2), ("b", 3)] {
            let (gate, seen) = (gate.clone(), seen.clone());
            lanes.push(conversation, item, move |item| {
                let (gate, seen) = (gate.clone(), seen.clone());
                async move {
                    if item == 1 {
                        gate.notified().await;
                    }
                    seen.lock().unwrap().push(item);
                }
            });
        }
        while seen.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        gate.notify_one();
        tracker.close();
        tracker.wait().await;
        assert_eq!(*seen.lock().unwrap(), [3, 1, 2]);
        assert!(lanes.queues.lock().unwrap().is_empty());
    }
}
