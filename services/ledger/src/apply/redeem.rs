//! Spending points, whoever issued them. Source: domain, "Redeem".

use super::books::{Books, Plan, points};
use super::{Stop, active, occurred, trading};
use crate::account::{Account, LotRef};
use crate::agreement::Trigger;
use crate::command::Redeem;
use crate::decision::{Refusal, Shortage};
use crate::ids::{AgreementId, MemberId, PartnerId, Party};
use crate::leg::{Change, Measure, Portion, Scene};
use crate::member::{Lot, MemberBook};
use crate::money::{Minor, OutOfRange, Points};
use crate::rulebook::Rulebook;
use crate::split::largest_remainder;
use crate::time::Timestamp;
use crate::transaction::{Decline, Kind, Open};

pub(super) fn plan(books: &mut Books<'_>, redeem: &Redeem) -> Result<Plan, Stop> {
    trading(books, redeem.partner)?;
    let book = books.member(redeem.member)?;
    let status = active(book);
    let context = &redeem.context;
    books.fresh_check(
        redeem.partner,
        Kind::Redeem,
        context,
        Decline::CheckAlreadyRedeemed,
    )?;
    status?;
    let occurred_at = occurred(books, redeem.occurred_at)?;
    let (rulebook, now) = (books.rulebook, books.setting.now);
    let own = rulebook
        .in_force(redeem.partner, now)
        .ok_or(Decline::NoAgreementInForce)?;
    let expected = own.terms.currency;
    if redeem
        .check_total
        .is_some_and(|(_, currency)| currency != expected)
    {
        return Err(Refusal::CurrencyMismatch { expected }.into());
    }
    let total = redeem.check_total.map(|(total, _)| total);
    if !redeem.points.is_positive() || total.is_some_and(Minor::is_negative) {
        return Err(Refusal::OutOfRange.into());
    }
    let book = books.member(redeem.member)?;
    if redeem.points > book.totals.balance()? {
        return Err(Decline::InsufficientPoints.into());
    }

    let basket = redeem
        .check_total
        .map(|(total, _)| total)
        .unwrap_or_default();
    let taken = take(book, redeem.points)?;
    let mut plan = Plan::new(Kind::Redeem, redeem.partner, occurred_at);
    plan.limited = true;
    plan.member = Some(redeem.member);
    plan.context = context.clone();
    plan.points = redeem.points;
    plan.amount = redeem.check_total;
    plan.agreement = Some(own.id);
    plan.open = Open {
        points: redeem.points,
        amount: basket,
        reversed_by: None,
    };
    for (lot, spent) in &taken {
        let from = Account::Available(redeem.member, lot.issuer);
        let mut transfer = points(from, Account::Redeemed(lot.issuer), *spent, lot);
        transfer.agreement = Some(governing(rulebook, lot, redeem.partner, now));
        plan.transfers.push(transfer);
    }
    let spent: Vec<Spent> = plan
        .transfers
        .iter()
        .zip(&taken)
        .map(|(transfer, (lot, spent))| Spent {
            lot: LotRef {
                id: lot.id,
                expires_at: lot.expires_at,
            },
            issuer: lot.issuer,
            agreement: transfer.agreement.unwrap_or(lot.agreement),
            points: *spent,
        })
        .collect();
    let (portions, whole) = portions(&spent, basket, Points::ZERO, redeem.points)?;
    let redeemer = Some(redeem.partner.into());
    let scene = Scene {
        rulebook,
        trigger: Trigger::Redeem,
        redeemer,
        own: Some(own.id),
        basket: redeem.check_total.map(|(_, currency)| currency),
    };
    plan.transfers.extend(scene.transfers(&portions, whole)?);
    Ok(plan)
}

/// The lots that `wanted` points come from, in the order of consumption.
fn take(book: &MemberBook, wanted: Points) -> Result<Vec<(Lot, Points)>, Stop> {
    let mut left = wanted;
    let mut taken = Vec::new();
    for lot in book.spendable() {
        if left.is_zero() || !book.known.covers(lot.expires_at, lot.id) {
            break;
        }
        let spent = left.min(lot.available);
        left = left.minus(spent)?;
        taken.push((lot, spent));
    }
    if left.is_zero() {
        Ok(taken)
    } else {
        Err(missing(book.id))
    }
}

fn missing(member: MemberId) -> Stop {
    Shortage::Lots(member).into()
}

/// The version whose issuer-side legs apply to points of `lot` spent at `redeemer`: the pair's if
/// there is one, else the one pinned on the lot.
fn governing(rulebook: &Rulebook, lot: &Lot, redeemer: PartnerId, now: Timestamp) -> AgreementId {
    let issuer = lot.issuer.partner();
    let pair = issuer.and_then(|issuer| rulebook.pair_in_force(issuer, redeemer, now));
    pair.map_or(lot.agreement, |pair| pair.id)
}

/// Points of one lot in a redemption, in the order of consumption.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    pub(crate) lot: LotRef,
    pub(crate) issuer: Party,
    pub(crate) agreement: AgreementId,
    pub(crate) points: Points,
}

/// What the legs of a redemption are computed on when its open points go from `before` to `after`.
///
/// The first points consumed are the last to be refunded, so what is open is always the front of
/// the list. The check's total shrinks in proportion to the open points, shared by points.
pub(crate) fn portions(
    spent: &[Spent],
    basket: Minor,
    before: Points,
    after: Points,
) -> Result<(Vec<Portion>, Change), OutOfRange> {
    let was = front(spent, basket, before)?;
    let is = front(spent, basket, after)?;
    let portions = spent
        .iter()
        .zip(was.iter().zip(&is))
        .map(|(spent, (before, after))| Portion {
            lot: spent.lot,
            issuer: spent.issuer,
            agreement: spent.agreement,
            change: Change {
                before: *before,
                after: *after,
            },
        });
    let sum = |measures: &[Measure]| -> Result<Measure, OutOfRange> {
        Ok(Measure {
            points: Points::sum(measures.iter().map(|m| m.points))?,
            basket: Minor::sum(measures.iter().map(|m| m.basket))?,
        })
    };
    Ok((
        portions.collect(),
        Change {
            before: sum(&was)?,
            after: sum(&is)?,
        },
    ))
}

/// What remains of each lot's part, and of its share in the check, with `open` points open.
fn front(spent: &[Spent], basket: Minor, open: Points) -> Result<Vec<Measure>, OutOfRange> {
    let total = Points::sum(spent.iter().map(|slice| slice.points))?;
    let closed = total.minus(open)?;
    let mut left = open;
    let mut parts = Vec::with_capacity(spent.len());
    for slice in spent {
        let part = left.min(slice.points);
        left = left.minus(part)?;
        parts.push(part);
    }
    let mut weights: Vec<u64> = parts.iter().map(|part| part.get().unsigned_abs()).collect();
    weights.push(closed.get().unsigned_abs());
    let shares = if basket.is_zero() || total.is_zero() {
        vec![0; weights.len()]
    } else {
        largest_remainder(basket.get(), &weights)?
    };
    Ok(parts
        .into_iter()
        .zip(shares)
        .map(|(points, share)| Measure {
            points,
            basket: Minor::new(share),
        })
        .collect())
}
