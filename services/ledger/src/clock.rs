//! Where time comes from: a clock that is passed in.
//!
//! The ledger itself is told `now` with every call; services, the poster and the token checks take
//! a [`Clock`]. The system clock lives in `store`, which also knows a sandbox network's own clock.

use crate::time::Timestamp;

/// A source of the present instant.
pub trait Clock: Send + Sync + 'static {
    /// The present instant.
    fn now(&self) -> Timestamp;
}
