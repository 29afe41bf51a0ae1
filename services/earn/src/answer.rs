//! From records to messages. Everything an answer says stands in the record, so that the same
//! request gets the same answer for ever.

use coalition_ledger::member::Balance;
use coalition_ledger::money::Points;
use coalition_ledger::transaction::{Slice, Transaction};
use coalition_ledger::view::{EarnQuote, QuotedLot};
use coalition_proto::common::LotSlice;
use coalition_proto::earn as pb;
use coalition_rpc::Problem;
use coalition_rpc::convert::{Receipt, balance, money, slices, timestamp};
use coalition_rpc::status::Recorded;

pub(crate) fn quote(
    quote: &EarnQuote,
    member: Option<&Balance>,
) -> Result<pb::QuoteResponse, Problem> {
    let slice = |lot: &QuotedLot| LotSlice {
        lot_id: String::new(),
        issuer: lot.issuer.to_string(),
        points: lot.points.get(),
        expires_at: Some(timestamp(lot.expires_at)),
        agreement_id: lot.agreement.to_string(),
    };
    Ok(pb::QuoteResponse {
        points: quote.points.get(),
        basis: Some(money(quote.basis, quote.currency)),
        slices: quote.lots.iter().map(slice).collect(),
        agreement_id: quote.agreement.to_string(),
        balance: member.map(balance).transpose()?,
    })
}

pub(crate) fn earn(recorded: &Recorded) -> Result<pb::EarnResponse, Problem> {
    let t = &recorded.transaction;
    let repaid = Slice::sum(&t.repaid())?;
    let receipt = Receipt::new()
        .line(earned(t.points))
        .points("", repaid, " of them settled a debt")
        .balance(&t.balance);
    Ok(pb::EarnResponse {
        transaction_id: t.id.to_string(),
        replayed: recorded.replayed,
        points_earned: t.points.get(),
        points_repaid_debt: repaid.get(),
        lots: slices(&Slice::by_lot(t.issued())?),
        balance: Some(balance(&t.balance)?),
        receipt_lines: receipt.lines(),
        posted_at: Some(timestamp(t.posted_at)),
        window_id: t.window.to_string(),
    })
}

pub(crate) fn return_earn(recorded: &Recorded) -> Result<pb::ReturnEarnResponse, Problem> {
    let t = &recorded.transaction;
    let taken = Taken::of(t)?;
    let currency = t.amount.map(|(_, currency)| currency);
    Ok(pb::ReturnEarnResponse {
        transaction_id: t.id.to_string(),
        replayed: recorded.replayed,
        points_clawed_back: taken.clawed_back.get(),
        points_to_debt: taken.to_debt.get(),
        points_forgiven: t.points_forgiven.get(),
        points_expired: t.points_expired.get(),
        basis_remaining: currency.map(|currency| money(t.open.amount, currency)),
        balance: Some(balance(&t.balance)?),
        receipt_lines: taken.receipt(t),
        posted_at: Some(timestamp(t.posted_at)),
        window_id: t.window.to_string(),
    })
}

pub(crate) fn reverse(recorded: &Recorded) -> Result<pb::ReverseByReferenceResponse, Problem> {
    let t = &recorded.transaction;
    let taken = Taken::of(t)?;
    Ok(pb::ReverseByReferenceResponse {
        transaction_id: t.id.to_string(),
        replayed: recorded.replayed,
        original_transaction_id: t.original.map_or_else(String::new, |id| id.to_string()),
        points_clawed_back: taken.clawed_back.get(),
        points_to_debt: taken.to_debt.get(),
        points_forgiven: t.points_forgiven.get(),
        points_expired: t.points_expired.get(),
        balance: Some(balance(&t.balance)?),
        receipt_lines: taken.receipt(t),
        posted_at: Some(timestamp(t.posted_at)),
        window_id: t.window.to_string(),
    })
}

/// What a return took back.
struct Taken {
    clawed_back: Points,
    to_debt: Points,
}

impl Taken {
    fn of(transaction: &Transaction) -> Result<Self, Problem> {
        Ok(Self {
            clawed_back: Slice::sum(&transaction.clawed_back())?,
            to_debt: Slice::sum(&transaction.indebted())?,
        })
    }

    fn receipt(&self, transaction: &Transaction) -> Vec<String> {
        Receipt::new()
            .points("", self.clawed_back, " taken back")
            .points("", self.to_debt, " spent before, now owed")
            .balance(&transaction.balance)
            .lines()
    }
}

fn earned(points: Points) -> String {
    match points.get() {
        1 => "You earned 1 point".to_owned(),
        count => format!("You earned {count} points"),
    }
}
