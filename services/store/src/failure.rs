//! What a failure of the store means to whoever asked: the one place that sorts them.

use coalition_ledger::failure::{FailureClass, NotDone};

use crate::error::StoreError;
use crate::operations::OperationError;
use crate::poster::PostError;

impl StoreError {
    /// What the caller can do about it.
    #[must_use]
    pub const fn class(&self) -> FailureClass {
        match self {
            Self::Busy => FailureClass::Busy,
            Self::Conflict | Self::Unavailable(_) => FailureClass::TryAgain,
            Self::UnknownCommit(_) => FailureClass::Unknown,
            Self::Damaged(_) => FailureClass::Stopped,
            Self::OutOfRange | Self::Unsuitable(_) | Self::Database(_) | Self::Panicked(_) => {
                FailureClass::Internal
            }
        }
    }
}

impl PostError {
    /// What the caller can do about it.
    #[must_use]
    pub const fn class(&self) -> FailureClass {
        match self {
            Self::QueueFull => FailureClass::Busy,
            Self::ShuttingDown | Self::Unavailable(_) => FailureClass::TryAgain,
            Self::Unknown(_) => FailureClass::Unknown,
            Self::Stopped => FailureClass::Stopped,
            Self::Failed(_) => FailureClass::Internal,
        }
    }
}

impl From<StoreError> for NotDone {
    fn from(error: StoreError) -> Self {
        Self::Failed {
            class: error.class(),
            source: error.into(),
        }
    }
}

impl From<PostError> for NotDone {
    fn from(error: PostError) -> Self {
        Self::Failed {
            class: error.class(),
            source: error.into(),
        }
    }
}

impl From<OperationError> for NotDone {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Objection(objection) => objection.into(),
            OperationError::Post(error) => error.into(),
            OperationError::Store(error) => error.into(),
        }
    }
}
