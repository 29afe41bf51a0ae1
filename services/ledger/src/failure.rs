//! Why something was not done, in words that every layer shares.
//!
//! The store says what went wrong in its own terms; whoever answers a caller wants to know one
//! thing: whose turn it is now. [`NotDone`] carries that across without either of them knowing the
//! other. What commands are declined or refused for stands in [`crate::transaction::Decline`] and
//! [`crate::decision::Refusal`].

use crate::agreement::InvalidTerms;
use crate::ids::{AgreementId, MemberId, PartnerId, SettlementId, WindowId};
use crate::time::Timestamp;

/// What the caller of a failed call can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// Send the same again shortly: nothing was done.
    TryAgain,
    /// Send the same again shortly: nothing was done, there is too much else to do.
    Busy,
    /// Send the same again: whether it was done is not known, and the answer will tell.
    Unknown,
    /// Nothing, until somebody has looked at the books.
    Stopped,
    /// Nothing: the fault is ours.
    Internal,
}

/// Why an operation on the network was not carried out; nothing is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// The id names another request of the same caller.
    #[error("the request id was used for another request")]
    RequestIdReused,
    /// Another partner has the code.
    #[error("another partner has this code")]
    PartnerCodeTaken,
    /// No such partner.
    #[error("no partner {0}")]
    UnknownPartner(PartnerId),
    /// No such agreement version.
    #[error("no agreement {0}")]
    UnknownAgreement(AgreementId),
    /// The version is accepted already, or was overtaken.
    #[error("the agreement is not (any more) proposed")]
    AgreementNotProposed,
    /// The same side, or the same person, proposed it.
    #[error("whoever proposed it cannot accept it")]
    SelfApproval,
    /// It changed since the caller looked.
    #[error("it changed since it was read")]
    StaleEtag,
    /// The terms break a rule.
    #[error(transparent)]
    InvalidTerms(#[from] InvalidTerms),
    /// A party or currency that the terms name is not in the network.
    #[error("the network does not have {what}")]
    NotInNetwork {
        /// The field of the proposal, in the words of the public interface.
        field: &'static str,
        /// What it asks for.
        what: String,
    },
    /// The version would come into force in the past.
    #[error("an agreement cannot come into force in the past")]
    EffectiveInThePast,
    /// No such window.
    #[error("no window {0}")]
    UnknownWindow(WindowId),
    /// The window is still open.
    #[error("window {0} is not closed")]
    WindowNotClosed(WindowId),
    /// The window is part of another settlement.
    #[error("window {window} is in a settlement already")]
    WindowAlreadySettling {
        /// The window.
        window: WindowId,
        /// The settlement.
        settlement: Option<SettlementId>,
    },
    /// Another window is open by now.
    #[error("the open window is {open}")]
    WindowStale {
        /// The window that is open.
        open: WindowId,
    },
    /// The network is in production.
    #[error("only a sandbox's clock can be moved")]
    NotSandbox,
    /// The clock would go back.
    #[error("the clock cannot go back")]
    ClockMovesBack {
        /// The network's time.
        now: Timestamp,
    },
    /// A sum left the range of the books.
    #[error("an amount left the range that the books can hold")]
    OutOfRange,
    /// What time has done to a member's points cannot be posted, and without it no window is cut.
    #[error("what fell due for {0} cannot be posted: an amount would leave the range of the books")]
    DueOutOfRange(MemberId),
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// It is not allowed.
    #[error(transparent)]
    Objection(#[from] Objection),
    /// It failed.
    #[error("it failed: {class:?}")]
    Failed {
        /// What the caller can do about it.
        class: FailureClass,
        /// What happened: for the log, never for the caller.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
