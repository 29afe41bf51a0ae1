//! The table of reasons: which code goes with each, and what a cashier may be shown.
//!
//! One row per [`ErrorReason`], without a wildcard, so that a new reason does not compile until it
//! has its row. Cause and remedy, for developers, stand beside the reasons in
//! `coalition/common/v1/errors.proto`; the codes here and the codes named there are the same, which
//! a test reads the proto to see.

use coalition_proto::common::ErrorReason;
use tonic::Code;

/// What every problem with one reason has in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The gRPC code.
    pub code: Code,
    /// What a cashier may be shown, in plain English; `None` where a till never meets the reason.
    pub cashier: Option<&'static str>,
}

const TRY_AGAIN: Option<&str> = Some("Please try again in a moment.");
const CALL_SUPPORT: Option<&str> = Some("This did not work. Please call support.");

/// The row of one reason.
#[must_use]
pub fn row(reason: ErrorReason) -> Row {
    use ErrorReason as R;
    let (code, cashier) = match reason {
        R::Unspecified | R::Internal => (Code::Internal, CALL_SUPPORT),
        R::Unavailable | R::QueueFull => (Code::Unavailable, TRY_AGAIN),
        R::BooksNotBalanced => (Code::Unavailable, CALL_SUPPORT),
        R::DeadlineExceeded => (Code::DeadlineExceeded, TRY_AGAIN),
        R::Unauthenticated => (
            Code::Unauthenticated,
            Some("This till is not signed in to the network."),
        ),
        R::PermissionDenied => (Code::PermissionDenied, Some("This till may not do that.")),
        R::SelfApproval => (Code::PermissionDenied, None),
        R::NotFound => (Code::NotFound, Some("Nothing was found under that number.")),
        R::OriginalNotFound => (
            Code::NotFound,
            Some("There was no such sale. Nothing is booked."),
        ),
        R::UnknownMethod => (Code::Unimplemented, CALL_SUPPORT),
        R::InvalidArgument | R::CurrencyMismatch => (Code::InvalidArgument, CALL_SUPPORT),
        R::AgreementInvalid | R::PageTokenInvalid => (Code::InvalidArgument, None),
        R::OccurredAtOutOfRange => (
            Code::InvalidArgument,
            Some("Please check this till's date and time."),
        ),
        R::MessageTooLarge => (Code::ResourceExhausted, CALL_SUPPORT),
        R::QuotaExceeded => (Code::ResourceExhausted, TRY_AGAIN),
        R::RequestIdReused => (Code::AlreadyExists, CALL_SUPPORT),
        R::CheckAlreadyEarned => (
            Code::AlreadyExists,
            Some("Points for this check are already booked."),
        ),
        R::CheckAlreadyRedeemed => (
            Code::AlreadyExists,
            Some("Points were already spent on this check."),
        ),
        R::CheckAlreadyReturned => (Code::AlreadyExists, Some("This return is already booked.")),
        R::IdentifierTaken => (
            Code::AlreadyExists,
            Some("This card or number already belongs to a member."),
        ),
        R::PartnerCodeTaken => (Code::AlreadyExists, None),
        R::InsufficientPoints => (Code::FailedPrecondition, Some("Not enough points.")),
        R::LimitExceeded | R::PartnerSuspended | R::NoAgreementInForce => (
            Code::FailedPrecondition,
            Some("Points cannot be booked here at the moment. Please call support."),
        ),
        R::MemberClosed => (Code::FailedPrecondition, Some("This account is closed.")),
        R::MemberFrozen => (
            Code::FailedPrecondition,
            Some("This account is on hold. The guest may ask support."),
        ),
        R::ReturnExceedsCheck => (
            Code::FailedPrecondition,
            Some("That is more than is left on the check."),
        ),
        R::RefundExceedsRedemption => (
            Code::FailedPrecondition,
            Some("That is more than the points that were spent."),
        ),
        R::AlreadyReversed => (Code::FailedPrecondition, Some("This is already undone.")),
        R::ReversedBeforeArrival => (
            Code::FailedPrecondition,
            Some("This sale was cancelled. Nothing is booked."),
        ),
        R::OriginalWasDeclined => (
            Code::FailedPrecondition,
            Some("There is nothing to undo: the sale was declined."),
        ),
        R::WindowNotClosed
        | R::WindowAlreadySettling
        | R::AgreementNotProposed
        | R::NotSandbox
        | R::ClockMovesBack => (Code::FailedPrecondition, None),
        R::WindowStale | R::EtagMismatch => (Code::Aborted, None),
        R::AmountOutOfRange => (
            Code::OutOfRange,
            Some("That amount is too large for the network."),
        ),
    };
    Row { code, cashier }
}

/// The reason that describes a status made by the gRPC library itself (a body that does not parse,
/// say), which comes with a code alone. `None`: the code says all there is (OK, CANCELLED).
pub(super) fn of_code(code: Code) -> Option<ErrorReason> {
    match code {
        Code::Ok | Code::Cancelled => None,
        Code::Unknown | Code::Internal | Code::DataLoss => Some(ErrorReason::Internal),
        Code::InvalidArgument | Code::OutOfRange => Some(ErrorReason::InvalidArgument),
        Code::DeadlineExceeded => Some(ErrorReason::DeadlineExceeded),
        Code::NotFound => Some(ErrorReason::NotFound),
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => {
            Some(ErrorReason::Unspecified)
        }
        Code::PermissionDenied => Some(ErrorReason::PermissionDenied),
        Code::ResourceExhausted => Some(ErrorReason::QuotaExceeded),
        Code::Unimplemented => Some(ErrorReason::UnknownMethod),
        Code::Unavailable => Some(ErrorReason::Unavailable),
        Code::Unauthenticated => Some(ErrorReason::Unauthenticated),
    }
}
