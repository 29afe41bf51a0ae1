//! What a network answers instead of what was asked for.

use std::time::Duration;

use coalition_proto::common::ErrorReason;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// A call that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{method}: {code:?}{}: {message}", reason.map(|r| format!(" {}", r.as_reason())).unwrap_or_default())]
pub struct CallError {
    method: &'static str,
    code: Code,
    reason: Option<ErrorReason>,
    message: String,
    retry_after: Option<Duration>,
}

impl CallError {
    /// What a status says about a call of `method`.
    pub(super) fn new(method: &'static str, status: &Status) -> Self {
        let details = status.get_error_details();
        let mut message = status.message().to_owned();
        for violation in details
            .bad_request()
            .iter()
            .flat_map(|bad| &bad.field_violations)
        {
            message = format!("{message}; {}: {}", violation.field, violation.description);
        }
        Self {
            method,
            code: status.code(),
            reason: details
                .error_info()
                .and_then(|info| ErrorReason::from_reason(&info.reason)),
            message,
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }

    /// The reason, where it is one of ours.
    #[must_use]
    pub fn reason(&self) -> Option<ErrorReason> {
        self.reason
    }

    /// The gRPC code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// When the network would like to be asked again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the same call, with the same `request_id`, may come out differently: try again, or
    /// outcome unknown.
    #[must_use]
    pub fn is_worth_a_retry(&self) -> bool {
        match self.code {
            // Posting has stopped until somebody looks: that does not pass by itself.
            Code::Unavailable => self.reason != Some(ErrorReason::BooksNotBalanced),
            Code::DeadlineExceeded => true,
            // A connection that broke under a call looks like this from here.
            Code::Unknown | Code::Cancelled => self.reason.is_none(),
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss
            | Code::Unauthenticated => false,
        }
    }
}
