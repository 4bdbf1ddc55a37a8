//! How a call is made to go wrong: the vocabulary both doubles share.
//!
//! The interesting half of it does the work first: the reply is lost, cut or late, and the client
//! cannot know that the message stands in the chat already.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum FailHow {
    /// The connection closes, nothing was done.
    DropBefore,
    /// The work is done, then the connection closes: the reply is lost.
    DropAfter,
    /// 500 in the service's own form, nothing was done.
    Error500,
    /// 502 with an HTML body from a proxy, nothing was done.
    BadGateway,
    /// 502 with an HTML body from a proxy, though the work was done.
    BadGatewayAfter,
    /// Not a byte for so long, then the connection closes; nothing was done.
    Hang {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// The work is done, then not a byte for so long, then the connection closes.
    HangAfter {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// The work is done at once, the right reply comes late.
    Slow {
        /// How late, in milliseconds.
        ms: u64,
    },
    /// The work is done, the reply is JSON cut in the middle, with status 200.
    Malformed,
}

impl FailHow {
    /// Whether the call's work is done under this fault.
    pub fn does_the_work(self) -> bool {
        !matches!(
            self,
            Self::DropBefore | Self::Error500 | Self::BadGateway | Self::Hang { .. }
        )
    }

    /// How long nothing is sent.
    pub fn silence(self) -> Duration {
        match self {
            Self::Hang { ms } | Self::HangAfter { ms } | Self::Slow { ms } => {
                Duration::from_millis(ms)
            }
            _ => Duration::ZERO,
        }
    }
}

/// The body of a proxy that has lost its backend.
pub const BAD_GATEWAY_HTML: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n\
<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx/1.24.0</center>\r\n\
</body>\r\n</html>\r\n";

/// The faults that wait for their calls, first in first out per method.
#[derive(Debug, Default)]
pub struct Faults {
    waiting: BTreeMap<String, VecDeque<FailHow>>,
}

impl Faults {
    /// The next call of `method` (case does not matter, `*` is any) goes wrong like this.
    pub fn push(&mut self, method: &str, how: FailHow) {
        self.waiting
            .entry(method.to_ascii_lowercase())
            .or_default()
            .push_back(how);
    }

    /// The fault of this call, if one waits; it is used up.
    pub fn take(&mut self, method: &str) -> Option<FailHow> {
        for key in [method.to_ascii_lowercase().as_str(), "*"] {
            if let Some(how) = self.waiting.get_mut(key).and_then(VecDeque::pop_front) {
                return Some(how);
            }
        }
        None
    }

    /// How many wait still.
    pub fn left(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// Forgets what has not happened yet.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }
}
