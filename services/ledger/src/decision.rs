//! Answers: one per command, in order.

use std::sync::Arc;

use crate::ids::{AgreementId, MemberId, PartnerId, Party, TransactionId};
use crate::money::{Currency, OutOfRange};
use crate::transaction::Transaction;

/// Why a command was not decided at all. Nothing is recorded: the same request may be sent again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The id names another request of the same caller.
    #[error("the request id was used for another request")]
    RequestIdReused,
    /// No such partner.
    #[error("no partner {0}")]
    UnknownPartner(PartnerId),
    /// No such member.
    #[error("no such member")]
    UnknownMember,
    /// No such original, or it is another partner's.
    #[error("no such original")]
    UnknownOriginal,
    /// The original is of another kind.
    #[error("the original is of another kind")]
    WrongKind,
    /// The check says it happened too far ahead or too long ago.
    #[error("occurred_at is more than 5 minutes ahead or older than the store-and-forward age")]
    OccurredAtOutOfRange,
    /// The agreement's currency is another one.
    #[error("amounts must be in {}", expected.code())]
    CurrencyMismatch {
        /// The agreement's currency.
        expected: Currency,
    },
    /// A leg of an agreement in another currency takes a share of the check.
    #[error("an agreement takes a share of the check, and takes it in {} alone", expected.code())]
    BasketCurrency {
        /// The agreement's currency.
        expected: Currency,
    },
    /// The deductions are larger than the check.
    #[error("the deductions are larger than the check")]
    NegativeBasis,
    /// An identifier belongs to another member.
    #[error("an identifier belongs to another member")]
    IdentifierTaken,
    /// The request was undone before it arrived.
    #[error("the request was undone before it arrived")]
    ReversedBeforeArrival {
        /// The transaction that remembers it.
        by: TransactionId,
    },
    /// An agreement version that the books name is not in the rulebook.
    #[error("the rulebook lacks the agreement version {0}")]
    MissingAgreement(AgreementId),
    /// A sum or a leg left the range of the books.
    #[error("an amount left the range that the books can hold")]
    OutOfRange,
}

impl From<OutOfRange> for Refusal {
    fn from(_: OutOfRange) -> Self {
        Self::OutOfRange
    }
}

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It was decided, now or (a replay) before: posted or declined.
    Recorded {
        /// The record.
        transaction: Arc<Transaction>,
        /// Whether this is the answer to an earlier request under the same id.
        replayed: bool,
    },
    /// A member is enrolled.
    Enrolled {
        /// Who.
        member: MemberId,
        /// Whether this is the answer to an earlier request under the same id.
        replayed: bool,
    },
    /// There was nothing to do (a sweep of a member with nothing due).
    Nothing,
    /// It could not be decided; nothing is recorded.
    Refused(Refusal),
}

/// What the snapshot lacks: fetch it and decide the batch again. Nothing is lost by asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// More of a member's live lots: all of them.
    Lots(MemberId),
    /// A position; an absent row counts as [`crate::snapshot::Position::default`].
    Position(Party, Currency),
}
