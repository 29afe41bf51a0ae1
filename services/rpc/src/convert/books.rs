//! The books in messages: balances, slices of lots, transactions, transfers.
//!
//! All of it comes from the record of a transaction, so that it can be told again at any time.

use coalition_ledger::account::{Account, Transfer};
use coalition_ledger::ids::AgreementId;
use coalition_ledger::member::{Balance, Lot};
use coalition_ledger::money::{Currency, Micros, Minor, Points};
use coalition_ledger::rulebook::Rulebook;
use coalition_ledger::transaction::{Kind, Slice, Transaction};
use coalition_proto::common as pb;

use super::money::money;
use super::time::timestamp;
use crate::status::{Problem, reason_of};

/// A member's balance block.
///
/// # Errors
///
/// OUT_OF_RANGE where the figures leave the range of the books.
pub fn balance(balance: &Balance) -> Result<pb::Balance, Problem> {
    let totals = &balance.totals;
    Ok(pb::Balance {
        balance: totals.balance()?.get(),
        available: totals.available.get(),
        pending: totals.pending.get(),
        held: totals.held.get(),
        debt: totals.debt.get(),
        next_expiry_time: balance.next_expiry.map(|next| timestamp(next.at)),
        next_expiry_points: balance.next_expiry.map_or(0, |next| next.points.get()),
        points_to_next_reward: None,
    })
}

/// Slices of lots, in their order.
#[must_use]
pub fn slices(slices: &[Slice]) -> Vec<pb::LotSlice> {
    let message = |slice: &Slice| pb::LotSlice {
        lot_id: slice.lot.id.to_string(),
        issuer: slice.issuer.to_string(),
        points: slice.points.get(),
        expires_at: Some(timestamp(slice.lot.expires_at)),
        agreement_id: text(slice.agreement),
    };
    slices.iter().map(message).collect()
}

/// Some points of a lot.
#[must_use]
pub fn lot_slice(lot: &Lot, points: Points) -> pb::LotSlice {
    pb::LotSlice {
        lot_id: lot.id.to_string(),
        issuer: lot.issuer.to_string(),
        points: points.get(),
        expires_at: Some(timestamp(lot.expires_at)),
        agreement_id: lot.agreement.to_string(),
    }
}

/// One row of a posting.
#[must_use]
pub fn transfer(transfer: &Transfer) -> pb::Transfer {
    let party = |account: Account| match account {
        Account::Position(party, _) => Some(party.to_string()),
        _ => None,
    };
    let (from, to) = (party(transfer.debit), party(transfer.credit));
    let (party_from, party_to) = match (from, to) {
        (Some(from), Some(to)) => (Some(from), Some(to)),
        _ => (None, None),
    };
    let of_leg = transfer.leg.and(transfer.agreement);
    pb::Transfer {
        debit_account: transfer.debit.to_string(),
        credit_account: transfer.credit.to_string(),
        party_from,
        party_to,
        amount: transfer.amount,
        unit: transfer.unit.code().to_owned(),
        agreement_id: text(of_leg),
        leg_index: transfer.leg.map(|leg| i32::from(leg.index)),
        lot_id: transfer
            .lot
            .map_or_else(String::new, |lot| lot.id.to_string()),
    }
}

/// What points are worth at face value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worth {
    /// Exact, in micro-units.
    pub micros: Micros,
    /// Half up, in minor units.
    pub minor: Minor,
    /// In which currency.
    pub currency: Currency,
}

impl Worth {
    /// The message of the amount in minor units.
    #[must_use]
    pub fn money(&self) -> pb::Money {
        money(self.minor, self.currency)
    }
}

/// What the points of a redemption or refund are worth at face value, in the currency of the
/// redeemer's agreement. `rulebook` holds the transaction's version.
///
/// # Errors
///
/// INTERNAL where it does not; OUT_OF_RANGE where the amount leaves the range of the books.
pub fn worth(rulebook: &Rulebook, transaction: &Transaction) -> Result<Worth, Problem> {
    let agreed = transaction.agreement.and_then(|id| rulebook.agreement(id));
    let currency = agreed.map(|version| version.terms.currency);
    let currency = currency.ok_or_else(|| {
        Problem::internal("a redemption whose agreement version is in no rulebook")
    })?;
    let micros = rulebook.worth(transaction.points, currency)?;
    let minor = micros.to_minor(currency)?;
    Ok(Worth {
        micros,
        minor,
        currency,
    })
}

/// A transaction, without its `request_id`, which the books do not keep with it.
///
/// `rulebook` holds the transaction's version, if it has one.
///
/// # Errors
///
/// As [`worth`].
pub fn transaction(
    transaction: &Transaction,
    rulebook: &Rulebook,
) -> Result<pb::Transaction, Problem> {
    let t = transaction;
    let mut message = pb::Transaction {
        transaction_id: t.id.to_string(),
        kind: kind(t.kind).into(),
        outcome: pb::TransactionOutcome::Posted.into(),
        decline_reason: pb::ErrorReason::Unspecified.into(),
        member_id: t.member.map_or_else(String::new, |id| id.to_string()),
        partner_id: t
            .partner
            .partner()
            .map_or_else(String::new, |id| id.to_string()),
        original_transaction_id: t.original.map_or_else(String::new, |id| id.to_string()),
        check_id: t.context.check_id.clone().unwrap_or_default(),
        location: t.context.location.clone().unwrap_or_default(),
        terminal: t.context.terminal.clone().unwrap_or_default(),
        occurred_at: Some(timestamp(t.occurred_at)),
        posted_at: Some(timestamp(t.posted_at)),
        agreement_id: text(t.agreement),
        balance: t.member.map(|_| balance(&t.balance)).transpose()?,
        ..pb::Transaction::default()
    };
    if let Some(reason) = reason_of(t) {
        message.outcome = pb::TransactionOutcome::Declined.into();
        message.decline_reason = reason.into();
        return Ok(message);
    }
    message.window_id = t.window.to_string();
    message.points = t.points.get();
    message.points_forgiven = t.points_forgiven.get();
    message.points_expired = t.points_expired.get();
    message.amount = t.amount.map(|(amount, currency)| money(amount, currency));
    let touched = match t.kind {
        Kind::Earn => {
            message.points_debt = Slice::sum(&t.repaid())?.get();
            t.issued()
        }
        Kind::ReturnEarn => {
            message.points = Slice::sum(&t.clawed_back())?.get();
            message.points_debt = Slice::sum(&t.indebted())?.get();
            t.taken_back()
        }
        Kind::Redeem => {
            message.amount = Some(worth(rulebook, t)?.money());
            t.spent()
        }
        Kind::RefundRedemption => {
            message.amount = Some(worth(rulebook, t)?.money());
            t.restored()
        }
        Kind::Expire => t.expired(),
        Kind::Mature => t.matured(),
        Kind::Deposit | Kind::Withdraw | Kind::Reverse => Vec::new(),
    };
    message.slices = slices(&Slice::by_lot(touched)?);
    Ok(message)
}

const fn kind(kind: Kind) -> pb::TransactionKind {
    match kind {
        Kind::Earn => pb::TransactionKind::Earn,
        Kind::ReturnEarn => pb::TransactionKind::ReturnEarn,
        Kind::Redeem => pb::TransactionKind::Redeem,
        Kind::RefundRedemption => pb::TransactionKind::RefundRedemption,
        Kind::Expire => pb::TransactionKind::Expire,
        Kind::Mature => pb::TransactionKind::Mature,
        Kind::Deposit | Kind::Withdraw => pb::TransactionKind::Fund,
        Kind::Reverse => pb::TransactionKind::Reverse,
    }
}

fn text(id: Option<AgreementId>) -> String {
    id.map_or_else(String::new, |id| id.to_string())
}
