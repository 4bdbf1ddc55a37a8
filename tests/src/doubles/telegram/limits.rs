//! How often a bot may speak: off by default, on request as the FAQ has it.
//!
//! One message a second in a chat, twenty a minute in a group, about thirty a second in all. The
//! real limits are not published in detail and forgive short bursts; these forgive none. A refused
//! call does not count.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::doubles::clock::Ms;

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RateLimits {
    /// Messages in one chat within a second.
    pub per_chat_per_s: usize,
    /// Messages in one group within a minute.
    pub per_group_per_min: usize,
    /// Messages in all chats within a second.
    pub overall_per_s: usize,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            per_chat_per_s: 1,
            per_group_per_min: 20,
            overall_per_s: 30,
        }
    }
}

/// What was sent lately.
#[derive(Debug, Default)]
pub struct Lately {
    chats: BTreeMap<i64, VecDeque<Ms>>,
    all: VecDeque<Ms>,
}

impl Lately {
    /// Counts a message, or says how many seconds to wait.
    pub fn admit(
        &mut self,
        limits: &RateLimits,
        chat: i64,
        is_group: bool,
        now: Ms,
    ) -> Result<(), i64> {
        let times = self.chats.entry(chat).or_default();
        while times.front().is_some_and(|at| *at + 60_000 <= now) {
            times.pop_front();
        }
        while self.all.front().is_some_and(|at| *at + 1_000 <= now) {
            self.all.pop_front();
        }
        let mut free_at = now;
        let mut window = |times: &VecDeque<Ms>, allowed: usize, ms: Ms| {
            let inside = times.iter().rev().take_while(|at| **at + ms > now).count();
            if inside >= allowed.max(1) {
                let oldest = times[times.len() - inside];
                free_at = free_at.max(oldest + ms);
            }
        };
        window(times, limits.per_chat_per_s, 1_000);
        if is_group {
            window(times, limits.per_group_per_min, 60_000);
        }
        window(&self.all, limits.overall_per_s, 1_000);
        if free_at > now {
            return Err((free_at - now + 999) / 1000);
        }
        times.push_back(now);
        self.all.push_back(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_windows() {
        let limits = RateLimits::default();
        let mut lately = Lately::default();
        assert_eq!(lately.admit(&limits, 1, false, 0), Ok(()));
        assert_eq!(lately.admit(&limits, 1, false, 10), Err(1));
        assert_eq!(lately.admit(&limits, 1, false, 1000), Ok(()));
        for i in 0..20 {
            assert_eq!(lately.admit(&limits, -5, true, 10_000 + i * 1000), Ok(()));
        }
        assert_eq!(lately.admit(&limits, -5, true, 30_000), Err(40));
        for chat in 100..130 {
            assert_eq!(lately.admit(&limits, chat, false, 50_000), Ok(()));
        }
        assert_eq!(lately.admit(&limits, 999, false, 50_000), Err(1));
    }
}
