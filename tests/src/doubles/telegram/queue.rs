//! The queue of updates: what `getUpdates` confirms and forgets.
//!
//! As in the real server's TQueue: an offset forgets everything below it for good, a negative one
//! keeps only so many from the end, one that lies more than ten ahead of the next id is no offset
//! at all (the client gets the head of the queue and confirms nothing), and events expire.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use crate::doubles::clock::Ms;

/// An offset this far ahead of the next id is still one.
const FUTURE_SLACK: i64 = 10;
/// An offset this far behind the next id is none.
const PAST_LIMIT: i64 = 2_000_000;
/// What the queue holds at most; the real one refuses beyond 1,000,000.
const CAPACITY: usize = 200_000;

/// One update in the queue.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its `update_id`.
    pub id: i64,
    /// The whole update as JSON.
    pub body: Value,
    /// Which webhook queue it waits in: order is kept only within one.
    pub lane: i64,
    /// When it is forgotten.
    pub expires_at: Ms,
}

/// The updates of one bot.
#[derive(Debug)]
pub struct Queue {
    events: VecDeque<Event>,
    /// The id of the next event; 0 before the first one.
    next: i64,
    /// Confirmed ones that are to be served once more.
    again: Vec<Event>,
    /// Everything there ever was, for [`Queue::redeliver`].
    past: BTreeMap<i64, Event>,
}

impl Queue {
    /// An empty queue whose first update gets the id `first`.
    pub fn new(first: i64) -> Self {
        Self {
            events: VecDeque::new(),
            next: first,
            again: Vec::new(),
            past: BTreeMap::new(),
        }
    }

    /// Adds an update and gives it its id.
    pub fn push(&mut self, kind: &str, payload: Value, lane: i64, expires_at: Ms) -> i64 {
        let id = self.next;
        self.next += 1;
        let mut body = serde_json::Map::new();
        body.insert("update_id".to_owned(), id.into());
        body.insert(kind.to_owned(), payload);
        let event = Event {
            id,
            body: Value::Object(body),
            lane,
            expires_at,
        };
        if self.events.len() < CAPACITY {
            self.events.push_back(event.clone());
        }
        if self.past.len() >= CAPACITY {
            self.past.pop_first();
        }
        self.past.insert(id, event);
        id
    }

    /// What `getUpdates` answers now; forgets what the offset confirms.
    pub fn take(&mut self, offset: i64, limit: usize, now: Ms) -> Vec<Event> {
        if offset < 0 {
            let keep = usize::try_from(-offset).unwrap_or(usize::MAX);
            let drop = self.events.len().saturating_sub(keep);
            self.events.drain(..drop);
        }
        let is_offset =
            offset > 0 && offset <= self.next + FUTURE_SLACK && offset >= self.next - PAST_LIMIT;
        if is_offset {
            self.events.retain(|e| e.id >= offset);
        }
        self.expire(now);
        let mut taken = std::mem::take(&mut self.again);
        let left = self.events.iter().take(limit.saturating_sub(taken.len()));
        taken.extend(left.cloned());
        taken
    }

    /// Whether a poll at this offset would be answered at once. Forgets nothing.
    pub fn has_for(&self, offset: i64, now: Ms) -> bool {
        !self.again.is_empty()
            || self.events.iter().any(|e| {
                e.expires_at > now && (e.id >= offset || offset > self.next + FUTURE_SLACK)
            })
    }

    /// Forgets what is too old.
    pub fn expire(&mut self, now: Ms) {
        self.events.retain(|e| e.expires_at > now);
    }

    /// Forgets everything that waits.
    pub fn clear(&mut self) {
        self.events.clear();
        self.again.clear();
    }

    /// Forgets one, after a webhook has taken it.
    pub fn forget(&mut self, id: i64) {
        self.events.retain(|e| e.id != id);
        self.again.retain(|e| e.id != id);
    }

    /// Serves an update once more, under its old id, confirmed or not. False when there was none.
    pub fn redeliver(&mut self, id: i64) -> bool {
        let event = self.past.get(&id).cloned();
        let found = event.is_some();
        self.again.extend(event);
        found
    }

    /// The next update gets this id, as after a week of silence or with another bot.
    pub fn jump(&mut self, to: i64) {
        self.next = to;
    }

    /// The id of the next update.
    pub fn next_id(&self) -> i64 {
        self.next
    }

    /// What waits, oldest first, redeliveries before the rest.
    pub fn waiting(&self) -> impl Iterator<Item = &Event> {
        self.again.iter().chain(&self.events)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.events.len() + self.again.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(n: i64) -> Queue {
        let mut queue = Queue::new(100);
        for _ in 0..n {
            queue.push("message", Value::Null, 1, 1000);
        }
        queue
    }

    fn ids(events: Vec<Event>) -> Vec<i64> {
        events.into_iter().map(|e| e.id).collect()
    }

    #[test]
    fn an_offset_forgets_for_ever() {
        let mut queue = queue(5);
        assert_eq!(ids(queue.take(0, 2, 0)), [100, 101]);
        assert_eq!(ids(queue.take(0, 2, 0)), [100, 101]);
        assert_eq!(ids(queue.take(102, 100, 0)), [102, 103, 104]);
        assert_eq!(ids(queue.take(100, 100, 0)), [102, 103, 104]);
        assert_eq!(ids(queue.take(-1, 100, 0)), [104]);
        assert_eq!(ids(queue.take(0, 100, 0)), [104]);
    }

    #[test]
    fn an_offset_too_far_ahead_confirms_nothing() {
        let mut queue = queue(3);
        assert_eq!(ids(queue.take(5000, 100, 0)), [100, 101, 102]);
        assert_eq!(ids(queue.take(5000, 100, 0)), [100, 101, 102]);
        // A little ahead it does, and swallows what has not happened yet.
        assert_eq!(ids(queue.take(105, 100, 0)), [0; 0]);
        queue.push("message", Value::Null, 1, 1000);
        assert_eq!(ids(queue.take(105, 100, 0)), [0; 0]);
    }

    #[test]
    fn events_expire_and_come_again() {
        let mut queue = queue(2);
        assert!(!queue.has_for(0, 1000));
        assert_eq!(ids(queue.take(0, 100, 1000)), [0; 0]);
        assert!(queue.redeliver(100));
        assert!(!queue.redeliver(7));
        assert_eq!(ids(queue.take(500, 100, 1000)), [100]);
        assert_eq!(ids(queue.take(0, 100, 1000)), [0; 0]);
    }
}
