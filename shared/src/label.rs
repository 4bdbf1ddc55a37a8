//! Who a value belongs to and how far it can be trusted: on every row and on every value from the
//! first day, because neither can be added later. Policy reads these; no prompt does.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::id::{PrincipalId, TenantId};

/// Where untrusted text may have come from. A set: the union travels with whatever was made of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Taint(u8);

impl Taint {
    /// Nothing untrusted is in it.
    pub const NONE: Taint = Taint(0);
    /// Text of a page or a search result.
    pub const WEB: Taint = Taint(1);
    /// Text of a file.
    pub const FILE: Taint = Taint(2);

    /// Both sources.
    pub fn union(self, other: Taint) -> Taint {
        Taint(self.0 | other.0)
    }

    /// Whether all of another set's sources are among these.
    pub fn contains(self, other: Taint) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether anything untrusted is in it.
    pub fn is_tainted(self) -> bool {
        self.0 != 0
    }

    /// The set as a number, for the store.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The set that the store holds as `bits`.
    pub fn from_bits(bits: u8) -> Taint {
        Taint(bits)
    }
}

/// On whose behalf a run acts and what it may touch. Fixed when the task is accepted; a child's is
/// never wider than its parent's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// Whose data this is.
    pub tenant: TenantId,
    /// The person or token that the work is done for.
    pub principal: PrincipalId,
    /// The folder that file tools may read; none, and they are refused.
    pub material: Option<PathBuf>,
    /// The folder that file tools may write below.
    pub output: Option<PathBuf>,
}
