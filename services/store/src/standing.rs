//! What the units of a process stood in last: what one that defers its lock takes to hold.

use std::sync::{Mutex, PoisonError};

use coalition_ledger::ids::TransactionId;

use crate::traits::Frame;

/// A frame, and the first transaction of its window, if it has any.
pub(crate) type Stood = (Frame, Option<TransactionId>);

/// What was read last: under the window's lock, or as committed.
#[derive(Debug, Default)]
pub(crate) struct Standing(Mutex<Option<Stood>>);

impl Standing {
    /// What it is taken to be; `None`: nobody knows.
    pub(crate) fn get(&self) -> Option<Stood> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It was found to be this; `None`: somebody is about to change it.
    pub(crate) fn set(&self, stood: Option<Stood>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stood;
    }
}
