//! What the books say no with, as problems: one arm per reason, without a wildcard.
//!
//! A decline is a record, and everything a caller is told about it comes from the record, so that a
//! retry is told the same. Its metadata:
//!
//! - `transaction_id`: the transaction that the reason speaks of, as `ErrorReason` documents it: the
//!   first one for a check that was used before, otherwise the decline's own;
//! - `declined_transaction_id`: the decline's own, always;
//! - `original_transaction_id`: what was to be undone, or stands in the way;
//! - `replayed`: whether this is the answer to an earlier request under the same id;
//! - figures, where the reason has some: `balance`, `points`, `points_remaining`,
//!   `amount_remaining_minor`.

use std::sync::Arc;

use coalition_ledger::agreement::InvalidTerms;
use coalition_ledger::decision::{Decision, Refusal};
use coalition_ledger::failure::{FailureClass, NotDone, Objection};
use coalition_ledger::money::OutOfRange;
use coalition_ledger::transaction::{Decline, Transaction};
use coalition_ledger::view::NoQuote;
use coalition_proto::common::ErrorReason;

use super::Problem;
use crate::auth::identity::Identity;
use crate::convert::time::rfc3339;

/// A posting, and whether it was made for an earlier request under the same id.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The record.
    pub transaction: Arc<Transaction>,
    /// Whether nothing was posted now.
    pub replayed: bool,
}

/// The posting that a decision came to.
///
/// # Errors
///
/// The decline or refusal; INTERNAL for decisions about something else than a posting.
pub fn recorded(decision: Decision) -> Result<Recorded, Problem> {
    match decision {
        Decision::Recorded {
            transaction,
            replayed,
        } => match transaction.declined {
            None => Ok(Recorded {
                transaction,
                replayed,
            }),
            Some(decline) => Err(declined(&transaction, decline, replayed)),
        },
        Decision::Refused(refusal) => Err(refusal.into()),
        Decision::Enrolled { .. } | Decision::Nothing => Err(Problem::internal(
            "a posting was answered with something else",
        )),
    }
}

/// The reason of a declined transaction, as callers know it; `None` for one that was posted.
pub(crate) fn reason_of(transaction: &Transaction) -> Option<ErrorReason> {
    let decline = transaction.declined?;
    let open = &transaction.open;
    Some(match decline {
        // Where nothing at all remains, asking for less is no remedy.
        Decline::ReturnExceedsCheck if open.points.is_zero() && open.amount.is_zero() => {
            ErrorReason::AlreadyReversed
        }
        Decline::RefundExceedsRedemption if open.points.is_zero() => ErrorReason::AlreadyReversed,
        decline => reason(decline),
    })
}

const fn reason(decline: Decline) -> ErrorReason {
    match decline {
        Decline::CheckAlreadyEarned => ErrorReason::CheckAlreadyEarned,
        Decline::CheckAlreadyRedeemed => ErrorReason::CheckAlreadyRedeemed,
        Decline::CheckAlreadyReturned => ErrorReason::CheckAlreadyReturned,
        Decline::InsufficientPoints => ErrorReason::InsufficientPoints,
        Decline::LimitExceeded | Decline::FundsExceeded => ErrorReason::LimitExceeded,
        Decline::MemberClosed => ErrorReason::MemberClosed,
        Decline::MemberFrozen => ErrorReason::MemberFrozen,
        Decline::PartnerSuspended => ErrorReason::PartnerSuspended,
        Decline::NoAgreementInForce => ErrorReason::NoAgreementInForce,
        Decline::ReturnExceedsCheck => ErrorReason::ReturnExceedsCheck,
        Decline::RefundExceedsRedemption => ErrorReason::RefundExceedsRedemption,
        Decline::AlreadyReversed => ErrorReason::AlreadyReversed,
        Decline::OriginalNotFound => ErrorReason::OriginalNotFound,
        Decline::OriginalWasDeclined => ErrorReason::OriginalWasDeclined,
    }
}

const fn message(decline: Decline) -> &'static str {
    match decline {
        Decline::CheckAlreadyEarned => "this check has earned before",
        Decline::CheckAlreadyRedeemed => "points were spent on this check before",
        Decline::CheckAlreadyReturned => "this slip was used before",
        Decline::InsufficientPoints => "the balance is smaller than the points asked for",
        Decline::LimitExceeded => "a party that funds the points has too little headroom",
        Decline::FundsExceeded => "more than the free funds would be taken out",
        Decline::MemberClosed => "the member is closed",
        Decline::MemberFrozen => "the member is frozen",
        Decline::PartnerSuspended => "the partner is suspended",
        Decline::NoAgreementInForce => "no agreement of the partner was in force at that time",
        Decline::ReturnExceedsCheck => "more is returned than remains of the check",
        Decline::RefundExceedsRedemption => "more is refunded than remains of the redemption",
        Decline::AlreadyReversed => "nothing of it is left to undo",
        Decline::OriginalNotFound => {
            "no such request was received; should it arrive, it is declined"
        }
        Decline::OriginalWasDeclined => "the original was declined: there is nothing to undo",
    }
}

fn declined(transaction: &Transaction, decline: Decline, replayed: bool) -> Problem {
    let reason = reason_of(transaction).unwrap_or(reason(decline));
    let own = transaction.id.to_string();
    let original = transaction.original.map(|id| id.to_string());
    let subject = match decline {
        Decline::CheckAlreadyEarned
        | Decline::CheckAlreadyRedeemed
        | Decline::CheckAlreadyReturned => original.clone().unwrap_or_else(|| own.clone()),
        _ => own.clone(),
    };
    let text = match reason {
        // Nobody is sent away to ask for less of nothing.
        ErrorReason::AlreadyReversed => message(Decline::AlreadyReversed),
        _ => message(decline),
    };
    let mut problem = Problem::new(reason, text)
        .with("transaction_id", subject)
        .with("declined_transaction_id", own)
        .with("replayed", replayed.to_string());
    if let Some(original) = original {
        problem = problem.with("original_transaction_id", original);
    }
    let open = &transaction.open;
    match decline {
        Decline::InsufficientPoints => {
            if let Ok(balance) = transaction.balance.totals.balance() {
                problem = problem.with("balance", balance.to_string());
            }
            problem.with("points", transaction.points.to_string())
        }
        Decline::ReturnExceedsCheck => {
            problem.with("amount_remaining_minor", open.amount.to_string())
        }
        Decline::RefundExceedsRedemption => {
            problem.with("points_remaining", open.points.to_string())
        }
        _ => problem,
    }
}

impl Problem {
    /// What a failure of the books means to the caller; see [`NotDone`].
    #[must_use]
    pub fn because(error: impl Into<NotDone>) -> Self {
        error.into().into()
    }

    /// What was named does not exist.
    #[must_use]
    pub fn not_found(message: &'static str) -> Self {
        Self::new(ErrorReason::NotFound, message)
    }

    /// What was named does not exist, or is not this caller's: partners cannot tell the one from the
    /// other.
    #[must_use]
    pub fn absent_for(caller: &Identity, message: &'static str) -> Self {
        match caller.partner() {
            Some(_) => Self::permission_denied(),
            None => Self::not_found(message),
        }
    }

    /// No such member.
    #[must_use]
    pub fn no_such_member() -> Self {
        Self::not_found("no such member")
    }
}

impl From<NotDone> for Problem {
    fn from(error: NotDone) -> Self {
        let (class, source) = match error {
            NotDone::Objection(objection) => return objection.into(),
            NotDone::Failed { class, source } => (class, source),
        };
        match class {
            FailureClass::TryAgain => Self::unavailable(source),
            FailureClass::Busy => Self::new(
                ErrorReason::QueueFull,
                "too many calls wait; nothing was posted, retry with the same request_id",
            ),
            FailureClass::Unknown => Self::new(
                ErrorReason::Unavailable,
                "the outcome is unknown; retry with the same request_id, which tells it",
            )
            .caused_by(source),
            FailureClass::Stopped => Self::new(
                ErrorReason::BooksNotBalanced,
                "a check of the books failed and posting has stopped; run verify",
            )
            .caused_by(source),
            FailureClass::Internal => Self::internal(source),
        }
    }
}

impl From<OutOfRange> for Problem {
    fn from(error: OutOfRange) -> Self {
        Self::new(ErrorReason::AmountOutOfRange, error.to_string())
    }
}

impl From<NoQuote> for Problem {
    fn from(no: NoQuote) -> Self {
        match no {
            NoQuote::Refused(refusal) => refusal.into(),
            NoQuote::Declined(decline) => Self::new(reason(decline), message(decline)),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::RequestIdReused => Self::new(ErrorReason::RequestIdReused, text),
            Refusal::UnknownPartner(_) | Refusal::UnknownMember | Refusal::UnknownOriginal => {
                Self::new(ErrorReason::NotFound, text)
            }
            Refusal::WrongKind => Self::new(ErrorReason::InvalidArgument, text)
                .with_violation("original", "must name what this call can undo"),
            Refusal::OccurredAtOutOfRange => Self::new(ErrorReason::OccurredAtOutOfRange, text)
                .with_violation(
                    "context.occurred_at",
                    "must be near the network's time, or left out",
                ),
            Refusal::CurrencyMismatch { expected } | Refusal::BasketCurrency { expected } => {
                Self::new(ErrorReason::CurrencyMismatch, text)
                    .with("expected_currency_code", expected.code())
                    .with_violation("currency_code", format!("must be {}", expected.code()))
            }
            Refusal::NegativeBasis => Self::new(ErrorReason::InvalidArgument, text)
                .with_violation("amounts", "must not deduct more than there is"),
            Refusal::IdentifierTaken => Self::new(ErrorReason::IdentifierTaken, text),
            Refusal::ReversedBeforeArrival { by } => {
                Self::new(ErrorReason::ReversedBeforeArrival, text)
                    .with("transaction_id", by.to_string())
            }
            Refusal::MissingAgreement(_) => Self::internal(refusal),
            Refusal::OutOfRange => OutOfRange.into(),
        }
    }
}

impl From<InvalidTerms> for Problem {
    fn from(invalid: InvalidTerms) -> Self {
        Self::new(ErrorReason::AgreementInvalid, invalid.to_string())
            .with_violation(format!("terms.{}", invalid.field), invalid.problem)
    }
}

impl From<Objection> for Problem {
    fn from(objection: Objection) -> Self {
        let text = objection.to_string();
        match objection {
            Objection::RequestIdReused => Self::new(ErrorReason::RequestIdReused, text),
            Objection::PartnerCodeTaken => Self::new(ErrorReason::PartnerCodeTaken, text),
            Objection::UnknownPartner(_)
            | Objection::UnknownAgreement(_)
            | Objection::UnknownWindow(_) => Self::new(ErrorReason::NotFound, text),
            Objection::AgreementNotProposed => Self::new(ErrorReason::AgreementNotProposed, text),
            Objection::SelfApproval => Self::new(ErrorReason::SelfApproval, text),
            Objection::StaleEtag => Self::new(ErrorReason::EtagMismatch, text),
            Objection::InvalidTerms(invalid) => invalid.into(),
            Objection::NotInNetwork { field, .. } => Self::new(ErrorReason::AgreementInvalid, text)
                .with_violation(field, "must name what the network has"),
            Objection::EffectiveInThePast => Self::new(ErrorReason::AgreementInvalid, text)
                .with_violation("effective_at", "must not lie in the past, or be left out"),
            Objection::WindowNotClosed(window) => {
                Self::new(ErrorReason::WindowNotClosed, text).with("window_id", window.to_string())
            }
            Objection::WindowAlreadySettling { window, settlement } => {
                let problem = Self::new(ErrorReason::WindowAlreadySettling, text)
                    .with("window_id", window.to_string());
                match settlement {
                    Some(settlement) => problem.with("settlement_id", settlement.to_string()),
                    None => problem,
                }
            }
            Objection::WindowStale { open } => {
                Self::new(ErrorReason::WindowStale, text).with("open_window_id", open.to_string())
            }
            Objection::NotSandbox => Self::new(ErrorReason::NotSandbox, text),
            Objection::ClockMovesBack { now } => {
                Self::new(ErrorReason::ClockMovesBack, text).with("time", rfc3339(now))
            }
            Objection::OutOfRange => OutOfRange.into(),
            Objection::DueOutOfRange(member) => {
                Self::new(ErrorReason::AmountOutOfRange, text).with("member_id", member.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use coalition_ledger::Timestamp;
    use coalition_ledger::ids::{PartnerId, TransactionId, WindowId};
    use coalition_ledger::member::Balance;
    use coalition_ledger::money::{Minor, Points};
    use coalition_ledger::transaction::{Context, Kind, Open};
    use tonic::{Code, Status};
    use tonic_types::StatusExt;
    use uuid::Uuid;

    use super::*;

    fn record(decline: Decline, original: Option<TransactionId>) -> Transaction {
        Transaction {
            id: TransactionId::from_uuid(Uuid::from_u128(2)),
            kind: Kind::Earn,
            declined: Some(decline),
            member: None,
            partner: PartnerId::from_uuid(Uuid::from_u128(3)).into(),
            original,
            context: Context::default(),
            occurred_at: Timestamp::from_micros(0),
            posted_at: Timestamp::from_micros(0),
            window: WindowId::from_uuid(Uuid::from_u128(4)),
            points: Points::new(9),
            points_forgiven: Points::ZERO,
            points_expired: Points::ZERO,
            amount: None,
            agreement: None,
            balance: Balance::default(),
            posting: coalition_ledger::account::Posting::default(),
            open: Open {
                points: Points::new(1),
                amount: Minor::new(2),
                reversed_by: None,
            },
        }
    }

    fn metadata(record: Transaction) -> (Code, std::collections::HashMap<String, String>) {
        let decision = Decision::Recorded {
            transaction: Arc::new(record),
            replayed: true,
        };
        let problem = recorded(decision).expect_err("a decline");
        let status = Status::from(problem);
        let info = status.get_details_error_info().expect("always there");
        (status.code(), info.metadata)
    }

    #[test]
    fn a_used_check_names_the_first_transaction_and_the_decline_itself() {
        let first = TransactionId::from_uuid(Uuid::from_u128(1));
        let (code, facts) = metadata(record(Decline::CheckAlreadyEarned, Some(first)));
        assert_eq!(code, Code::AlreadyExists);
        assert_eq!(facts.get("transaction_id"), Some(&first.to_string()));
        assert_ne!(
            facts.get("declined_transaction_id"),
            Some(&first.to_string())
        );
        assert_eq!(facts.get("replayed").map(String::as_str), Some("true"));
    }

    #[test]
    fn figures_come_from_the_record() {
        let (_, facts) = metadata(record(Decline::InsufficientPoints, None));
        assert_eq!(facts.get("balance").map(String::as_str), Some("0"));
        assert_eq!(facts.get("points").map(String::as_str), Some("9"));
        let (code, facts) = metadata(record(Decline::ReturnExceedsCheck, None));
        assert_eq!(code, Code::FailedPrecondition);
        assert_eq!(
            facts.get("amount_remaining_minor").map(String::as_str),
            Some("2")
        );
    }

    #[test]
    fn where_nothing_remains_it_was_undone_before() {
        let mut gone = record(Decline::RefundExceedsRedemption, None);
        assert_eq!(reason_of(&gone), Some(ErrorReason::RefundExceedsRedemption));
        gone.open = Open::default();
        assert_eq!(reason_of(&gone), Some(ErrorReason::AlreadyReversed));
    }

    #[test]
    fn where_nothing_remains_nobody_is_told_to_ask_for_less() {
        for exceeds in [
            Decline::RefundExceedsRedemption,
            Decline::ReturnExceedsCheck,
        ] {
            let text = |open| {
                let record = Transaction {
                    open,
                    ..record(exceeds, None)
                };
                let decision = Decision::Recorded {
                    transaction: Arc::new(record),
                    replayed: false,
                };
                let problem = recorded(decision).expect_err("a decline");
                problem.message().to_owned()
            };
            assert_eq!(text(Open::default()), message(Decline::AlreadyReversed));
            let some = Open {
                points: Points::new(1),
                ..Open::default()
            };
            assert_eq!(text(some), message(exceeds));
        }
    }

    #[test]
    fn an_original_that_never_came_is_not_found() {
        let (code, _) = metadata(record(Decline::OriginalNotFound, None));
        assert_eq!(code, Code::NotFound);
    }
}
