//! From records to messages. Everything an answer says stands in the record, so that the same
//! request gets the same answer for ever; what points are worth follows from the pinned agreement
//! and the network's face value, which do not change either.

use coalition_ledger::member::Balance;
use coalition_ledger::transaction::{Slice, Transaction};
use coalition_ledger::view::RedeemQuote;
use coalition_proto::redeem as pb;
use coalition_rpc::Problem;
use coalition_rpc::convert::books::Worth;
use coalition_rpc::convert::{Receipt, balance, lot_slice, money, slices, timestamp};
use coalition_rpc::status::Recorded;

pub(crate) fn quote(quote: &RedeemQuote, member: &Balance) -> Result<pb::QuoteResponse, Problem> {
    let currency = quote.currency;
    let lots = quote.lots.iter();
    Ok(pb::QuoteResponse {
        max_points: quote.max_points.get(),
        max_value: Some(money(quote.max_worth.to_minor(currency)?, currency)),
        points: quote.points.get(),
        value: Some(money(quote.worth.to_minor(currency)?, currency)),
        value_micros: quote.worth.get(),
        slices: lots.map(|(lot, points)| lot_slice(lot, *points)).collect(),
        balance: Some(balance(member)?),
    })
}

pub(crate) fn redeem(recorded: &Recorded, worth: &Worth) -> Result<pb::RedeemResponse, Problem> {
    let t = &recorded.transaction;
    let receipt = Receipt::new()
        .points("Paid with ", t.points, "")
        .amount("Worth ", worth.minor, worth.currency)
        .balance(&t.balance);
    Ok(pb::RedeemResponse {
        transaction_id: t.id.to_string(),
        replayed: recorded.replayed,
        points: t.points.get(),
        value: Some(worth.money()),
        value_micros: worth.micros.get(),
        slices: slices(&Slice::by_lot(t.spent())?),
        balance: Some(balance(&t.balance)?),
        receipt_lines: receipt.lines(),
        posted_at: Some(timestamp(t.posted_at)),
        window_id: t.window.to_string(),
    })
}

pub(crate) fn refund(recorded: &Recorded) -> Result<pb::RefundRedemptionResponse, Problem> {
    let t = &recorded.transaction;
    Ok(pb::RefundRedemptionResponse {
        transaction_id: t.id.to_string(),
        replayed: recorded.replayed,
        points_refunded: t.points.get(),
        expired_on_return: t.points_expired.get(),
        restored: slices(&Slice::by_lot(t.restored())?),
        points_remaining: t.open.points.get(),
        balance: Some(balance(&t.balance)?),
        receipt_lines: given_back(t),
        posted_at: Some(timestamp(t.posted_at)),
        window_id: t.window.to_string(),
    })
}

pub(crate) fn reverse(recorded: &Recorded) -> Result<pb::ReverseByReferenceResponse, Problem> {
    let t = &recorded.transaction;
    Ok(pb::ReverseByReferenceResponse {
        transaction_id: t.id.to_string(),
        replayed: recorded.replayed,
        original_transaction_id: t.original.map_or_else(String::new, |id| id.to_string()),
        points_refunded: t.points.get(),
        expired_on_return: t.points_expired.get(),
        restored: slices(&Slice::by_lot(t.restored())?),
        balance: Some(balance(&t.balance)?),
        receipt_lines: given_back(t),
        posted_at: Some(timestamp(t.posted_at)),
        window_id: t.window.to_string(),
    })
}

fn given_back(transaction: &Transaction) -> Vec<String> {
    Receipt::new()
        .points("", transaction.points, " given back")
        .points("", transaction.points_expired, " of them have expired")
        .balance(&transaction.balance)
        .lines()
}
