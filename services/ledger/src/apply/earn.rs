//! Earning points for a check. Source: domain, "Earn".

use rust_decimal::prelude::ToPrimitive;

use super::books::{Books, Plan, points};
use super::sweep::expiring;
use super::{Stop, active, occurred, trading};
use crate::account::{Account, LotRef, Transfer};
use crate::agreement::{Agreement, Funder, Terms, Trigger};
use crate::command::{CheckAmounts, Earn};
use crate::decision::Refusal;
use crate::ids::{AgreementId, LotId, MemberId, Party};
use crate::leg::{Change, Measure, Portion, Scene};
use crate::member::Lot;
use crate::money::{Minor, OutOfRange, Points};
use crate::rulebook::Rulebook;
use crate::split::largest_remainder;
use crate::time::Timestamp;
use crate::transaction::{Decline, Kind, Open};
use crate::view::NoQuote;

pub(super) fn plan(books: &mut Books<'_>, earn: &Earn) -> Result<Plan, Stop> {
    trading(books, earn.partner)?;
    let book = books.member(earn.member)?;
    let debts = book.debts.clone();
    let status = active(book);
    books.fresh_check(
        earn.partner,
        Kind::Earn,
        &earn.context,
        Decline::CheckAlreadyEarned,
    )?;
    status?;
    let earned_at = occurred(books, earn.occurred_at)?;
    let rulebook = books.rulebook;
    let agreement = rulebook
        .in_force(earn.partner, earned_at)
        .ok_or(Decline::NoAgreementInForce)?;
    if agreement.terms.currency != earn.currency {
        return Err(Refusal::CurrencyMismatch {
            expected: agreement.terms.currency,
        }
        .into());
    }
    let basis = basis(&earn.amounts, &agreement.terms)?;
    let earned = points_for(basis, &agreement.terms)?;

    let mut plan = Plan::new(Kind::Earn, earn.partner, earned_at);
    plan.limited = true;
    plan.member = Some(earn.member);
    plan.context = earn.context.clone();
    plan.points = earned;
    plan.amount = Some((basis, earn.currency));
    plan.agreement = Some(agreement.id);
    plan.open = Open {
        points: earned,
        amount: basis,
        reversed_by: None,
    };

    let shares = shares(rulebook, agreement, earned, basis, earned_at)?;
    let now = books.setting.now;
    let mut portions = Vec::with_capacity(shares.len());
    let mut late = Vec::new();
    for share in shares {
        let id = LotId::from_uuid(books.mint());
        let lot = new_lot(id, &share, agreement, earned_at, now)?;
        let owed = debts.get(&share.issuer).copied().unwrap_or_default();
        let repaid = share.points.min(owed);
        let kept = share.points.minus(repaid)?;
        plan.transfers
            .extend(fill(&lot, earn.member, repaid, kept, now));
        if lot.expires_at <= now && kept.is_positive() {
            late.push(expiring(&lot, kept));
            plan.points_expired = plan.points_expired.plus(kept)?;
        }
        portions.push(share.portion(&lot));
        plan.new_lots.push(lot);
    }
    let after = Measure {
        points: earned,
        basket: basis,
    };
    let whole = Change {
        before: Measure::default(),
        after,
    };
    let own = Some(agreement.id);
    let scene = Scene {
        rulebook,
        trigger: Trigger::Earn,
        redeemer: None,
        own,
        basket: Some(earn.currency),
    };
    plan.transfers.extend(scene.transfers(&portions, whole)?);
    let scene = Scene {
        rulebook,
        trigger: Trigger::Expire,
        redeemer: None,
        own: None,
        basket: None,
    };
    plan.transfers
        .extend(scene.transfers(&late, Change::default())?);
    Ok(plan)
}

/// What of a check earns: gross less discounts, gift cards and what was paid with points, plus
/// what the agreement includes.
pub(crate) fn basis(amounts: &CheckAmounts, terms: &Terms) -> Result<Minor, Refusal> {
    let all = [
        amounts.gross,
        amounts.discounts,
        amounts.tax,
        amounts.tip,
        amounts.gift_card,
        amounts.paid_with_points,
    ];
    if all.into_iter().any(Minor::is_negative) {
        return Err(Refusal::OutOfRange);
    }
    let taken = Minor::sum([
        amounts.discounts,
        amounts.paid_with_points,
        if terms.include_gift_cards {
            Minor::ZERO
        } else {
            amounts.gift_card
        },
    ])?;
    let given = Minor::sum([
        amounts.gross,
        if terms.include_tax {
            amounts.tax
        } else {
            Minor::ZERO
        },
        if terms.include_tip {
            amounts.tip
        } else {
            Minor::ZERO
        },
    ])?;
    let basis = given.minus(taken)?;
    if basis.is_negative() {
        Err(Refusal::NegativeBasis)
    } else {
        Ok(basis)
    }
}

/// The points that a basis earns: rounded down, once per check.
pub(crate) fn points_for(basis: Minor, terms: &Terms) -> Result<Points, OutOfRange> {
    let product = basis
        .to_major(terms.currency)?
        .checked_mul(terms.points_per_unit);
    product
        .and_then(|points| points.floor().to_i64())
        .map(Points::new)
        .ok_or(OutOfRange)
}

/// One issuer's share of what a check earns.
pub(crate) struct Share {
    pub(crate) issuer: Party,
    pub(crate) points: Points,
    /// The version pinned on the issuer's lot: its own; the earning partner's for the operator.
    pub(crate) agreement: AgreementId,
    basket: Minor,
}

impl Share {
    fn portion(&self, lot: &Lot) -> Portion {
        let after = Measure {
            points: self.points,
            basket: self.basket,
        };
        Portion {
            lot: LotRef {
                id: lot.id,
                expires_at: lot.expires_at,
            },
            issuer: self.issuer,
            agreement: self.agreement,
            change: Change {
                before: Measure::default(),
                after,
            },
        }
    }
}

/// Splits what a check earns among its funders; shares of nothing are left out.
pub(crate) fn shares(
    rulebook: &Rulebook,
    agreement: &Agreement,
    earned: Points,
    basis: Minor,
    earned_at: Timestamp,
) -> Result<Vec<Share>, NoQuote> {
    let funders: Vec<Funder> = agreement.terms.issuers(agreement.partner);
    let weights: Vec<u64> = funders
        .iter()
        .map(|funder| u64::from(funder.weight))
        .collect();
    let counts = largest_remainder(earned.get(), &weights)?;
    if earned.is_zero() {
        return Ok(Vec::new());
    }
    let by_points: Vec<u64> = counts.iter().map(|count| count.unsigned_abs()).collect();
    let baskets = largest_remainder(basis.get(), &by_points)?;
    let mut shares = Vec::with_capacity(funders.len());
    for ((funder, count), basket) in funders.iter().zip(counts).zip(baskets) {
        if count == 0 {
            continue;
        }
        let pinned = match funder.party.partner() {
            Some(partner) if partner != agreement.partner => {
                let own = rulebook.in_force(partner, earned_at);
                own.ok_or(NoQuote::Declined(Decline::NoAgreementInForce))?
                    .id
            }
            _ => agreement.id,
        };
        shares.push(Share {
            issuer: funder.party,
            points: Points::new(count),
            agreement: pinned,
            basket: Minor::new(basket),
        });
    }
    Ok(shares)
}

fn new_lot(
    id: LotId,
    share: &Share,
    agreement: &Agreement,
    earned_at: Timestamp,
    now: Timestamp,
) -> Result<Lot, OutOfRange> {
    let terms = &agreement.terms;
    let expires_at = earned_at
        .checked_add_days(terms.lot_lifetime_days)
        .ok_or(OutOfRange)?;
    // Without pending days points are available at once, also where the till's clock runs ahead.
    let pending_until = if terms.pending_days == 0 {
        earned_at.min(now)
    } else {
        earned_at
            .checked_add_days(terms.pending_days)
            .ok_or(OutOfRange)?
    };
    Ok(Lot {
        id,
        issuer: share.issuer,
        agreement: share.agreement,
        earned_at,
        pending_until,
        expires_at,
        points: Points::ZERO,
        pending: Points::ZERO,
        available: Points::ZERO,
        held: Points::ZERO,
        expired: Points::ZERO,
    })
}

/// The transfers that fill a new lot: debt of the same issuer is repaid first, and what arrives
/// past its expiry expires at once.
fn fill(
    lot: &Lot,
    member: MemberId,
    repaid: Points,
    kept: Points,
    now: Timestamp,
) -> Vec<Transfer> {
    let issued = Account::Issued(lot.issuer);
    let debt = Account::Debt(member, lot.issuer);
    let available = Account::Available(member, lot.issuer);
    let mut transfers = Vec::with_capacity(2);
    if repaid.is_positive() {
        transfers.push(points(issued, debt, repaid, lot));
    }
    if !kept.is_positive() {
        return transfers;
    }
    if lot.pending_until > now {
        let pending = Account::Pending(member, lot.issuer);
        transfers.push(points(issued, pending, kept, lot));
        return transfers;
    }
    transfers.push(points(issued, available, kept, lot));
    if lot.expires_at <= now {
        let expired = Account::Expired(lot.issuer);
        transfers.push(points(available, expired, kept, lot));
    }
    transfers
}
