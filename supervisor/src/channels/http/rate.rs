//! How often somebody may ask: a bucket of requests for each token, each hook, and each address that
//! shows no token. A bucket holds what may be asked in a minute, and fills again as time goes by. The
//! instance's own commands are not counted.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use axum::extract::Request;

use shared::clock::{Stopwatch, stopwatch};
use shared::hash::Hash;

use super::problem::Problem;

/// So many buckets are kept; then those that are full again are thrown away, and where none is, strangers
/// share one.
const MAX_BUCKETS: usize = 10_000;

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// Those with a token.
    Token(Hash),
    /// Those that a hook has signed.
    Hook(String),
    /// Those of somebody who is not known.
    Stranger(Option<Peer>),
}

/// An address that requests come from. One of IPv6 stands for its network: whoever has one has all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer(IpAddr);

impl Peer {
    /// The peer of this address.
    pub fn new(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
            }
            v4 => v4,
        })
    }

    /// Whom a request came from, where that is known.
    pub fn of<B>(request: &Request<B>) -> Option<Self> {
        request.extensions().get().copied()
    }
}

/// All buckets.
pub(crate) struct Rates {
    per_minute: u32,
    clock: Stopwatch,
    buckets: Mutex<HashMap<Who, Bucket>>,
}

impl Rates {
    /// Buckets of this size; 0 for no end of requests.
    pub(crate) fn new(per_minute: u32) -> Self {
        Self {
            per_minute,
            clock: stopwatch(),
            buckets: Mutex::default(),
        }
    }

    /// Counts a request, or refuses it.
    pub(super) fn take(&self, who: Who) -> Result<(), Problem> {
        if self.per_minute == 0 {
            return Ok(());
        }
        let now_ms = self.clock.ms();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let who = place(&mut buckets, who, self.per_minute, now_ms);
        let bucket = buckets
            .entry(who)
            .or_insert_with(|| Bucket::full(self.per_minute, now_ms));
        bucket.take(self.per_minute, now_ms).map_err(Problem::often)
    }
}

/// Makes sure that there is room for a bucket, and says whose it is.
fn place(buckets: &mut HashMap<Who, Bucket>, who: Who, per_minute: u32, now_ms: u64) -> Who {
    if buckets.len() < MAX_BUCKETS || buckets.contains_key(&who) {
        return who;
    }
    buckets.retain(|_, bucket| !bucket.is_full(per_minute, now_ms));
    match who {
        Who::Stranger(_) if buckets.len() >= MAX_BUCKETS => Who::Stranger(None),
        who => who,
    }
}

/// What one request takes out of a bucket, which gains `per_minute` in each millisecond.
const COST: u64 = 60_000;

/// What somebody may still ask.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// What is in it.
    left: u64,
    /// When that was so.
    at_ms: u64,
}

impl Bucket {
    fn full(per_minute: u32, now_ms: u64) -> Self {
        Self {
            left: u64::from(per_minute) * COST,
            at_ms: now_ms,
        }
    }

    fn fill(&mut self, per_minute: u32, now_ms: u64) {
        let per_minute = u64::from(per_minute);
        let gained = now_ms.saturating_sub(self.at_ms).saturating_mul(per_minute);
        self.left = self.left.saturating_add(gained).min(per_minute * COST);
        self.at_ms = now_ms;
    }

    fn is_full(&self, per_minute: u32, now_ms: u64) -> bool {
        let mut then = *self;
        then.fill(per_minute, now_ms);
        then.left == u64::from(per_minute) * COST
    }

    /// Takes one out; else says after how many seconds there is one again.
    fn take(&mut self, per_minute: u32, now_ms: u64) -> Result<(), u32> {
        self.fill(per_minute, now_ms);
        if let Some(left) = self.left.checked_sub(COST) {
            self.left = left;
            return Ok(());
        }
        let seconds = (COST - self.left).div_ceil(u64::from(per_minute) * 1000);
        Err(u32::try_from(seconds).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_emptied_and_fills_again() {
        let mut bucket = Bucket::full(60, 0);
        for _ in 0..60 {
            assert_eq!(bucket.take(60, 0), Ok(()));
        }
        assert_eq!(bucket.take(60, 0), Err(1));
        assert_eq!(bucket.take(60, 999), Err(1));
        assert_eq!(bucket.take(60, 1000), Ok(()));
        assert_eq!(bucket.take(60, 1000), Err(1));
        assert!(!bucket.is_full(60, 60_000) && bucket.is_full(60, 61_001));
        let mut slow = Bucket::full(1, 0);
        assert_eq!((slow.take(1, 0), slow.take(1, 0)), (Ok(()), Err(60)));
        assert_eq!(slow.take(1, 59_000), Err(1));
    }

    #[test]
    fn each_has_a_bucket_of_their_own_as_long_as_there_is_room() {
        let rates = Rates::new(1);
        let stranger = |n: u32| Who::Stranger(Some(Peer::new(IpAddr::from(n.to_be_bytes()))));
        for n in 0..MAX_BUCKETS as u32 {
            assert!(rates.take(stranger(n)).is_ok());
        }
        assert!(rates.take(stranger(0)).is_err(), "asked before");
        assert!(rates.take(Who::Hook("ci".into())).is_ok(), "is no stranger");
        assert!(rates.take(stranger(1_000_000)).is_ok(), "the shared one");
        assert!(rates.take(stranger(1_000_001)).is_err(), "the shared one");
        assert_eq!(rates.buckets.lock().unwrap().len(), MAX_BUCKETS + 2);
        let free = Rates::new(0);
        assert!((0..10_000).all(|_| free.take(stranger(0)).is_ok()));
    }

    #[test]
    fn addresses_of_one_network_are_one_peer() {
        let peer = |text: &str| Peer::new(text.parse().unwrap());
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:10.0.0.1"), peer("10.0.0.1"));
        assert_ne!(peer("10.0.0.1"), peer("10.0.0.2"));
    }
}
