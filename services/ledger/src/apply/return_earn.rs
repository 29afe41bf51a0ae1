//! Returning goods: the points that they earned are clawed back. Source: domain, "Return of goods".

use super::books::{Books, Plan, points};
use super::earn::points_for;
use super::{Refusal, Stop, declined, occurred, trading};
use crate::account::{Account, LotRef, Transfer};
use crate::agreement::{Agreement, ReturnPolicy, Trigger};
use crate::command::{Command, ReturnEarn};
use crate::decision::Shortage;
use crate::ids::{MemberId, PartnerId};
use crate::leg::{Change, Measure, Portion, Scene};
use crate::member::{Known, Lot};
use crate::money::{Minor, OutOfRange, Points};
use crate::split::largest_remainder;
use crate::time::Timestamp;
use crate::transaction::{Context, Decline, Kind, Open, Slice, Transaction};

pub(super) fn plan(
    books: &mut Books<'_>,
    command: &Command,
    ret: &ReturnEarn,
) -> Result<Plan, Stop> {
    trading(books, ret.partner)?;
    let original = books
        .original(command, ret.partner, Kind::Earn, &ret.original)?
        .clone();
    let reason = Decline::CheckAlreadyReturned;
    books
        .fresh_check(ret.partner, Kind::ReturnEarn, &ret.context, reason)
        .map_err(|stop| stop.on_behalf_of(&original))?;
    let occurred_at = occurred(books, ret.occurred_at)?;
    if let Some((_, expected)) = original
        .amount
        .filter(|(_, currency)| *currency != ret.currency)
    {
        return Err(Refusal::CurrencyMismatch { expected }.into());
    }
    if !ret.returned.is_positive() {
        return Err(Refusal::OutOfRange.into());
    }
    if ret.returned > original.open.amount {
        return Err(declined(Decline::ReturnExceedsCheck, &original));
    }
    take_back(
        books,
        &original,
        ret.returned,
        ret.partner,
        occurred_at,
        ret.context.clone(),
    )
}

/// Claws back what `returned` of the original's basis had earned.
pub(super) fn take_back(
    books: &mut Books<'_>,
    original: &Transaction,
    returned: Minor,
    partner: PartnerId,
    occurred_at: Timestamp,
    context: Context,
) -> Result<Plan, Stop> {
    let member = original.member.ok_or(Refusal::UnknownMember)?;
    let rulebook = books.rulebook;
    let pinned = original.agreement.ok_or(Refusal::UnknownOriginal)?;
    let agreement = rulebook
        .agreement(pinned)
        .ok_or(Refusal::MissingAgreement(pinned))?;
    let remaining = original.open.amount.minus(returned)?;
    let left = points_for(remaining, &agreement.terms)?.min(original.open.points);

    let mut plan = Plan::new(Kind::ReturnEarn, partner, occurred_at);
    plan.member = Some(member);
    plan.context = context;
    plan.amount = original.amount.map(|(_, currency)| (returned, currency));
    plan.agreement = Some(pinned);
    plan.open = Open {
        points: left,
        amount: remaining,
        reversed_by: None,
    };
    let reversed_by = original.open.reversed_by;
    plan.original = Some((
        original.id,
        Open {
            reversed_by,
            ..plan.open
        },
    ));

    let lots = lots_of(books, member, original)?;
    let claims = claims(&lots, agreement, original.open.points, left)?;
    let baskets = Baskets::of(&lots, original.open.amount, remaining)?;
    let mut portions = Vec::with_capacity(lots.len());
    for (place, (held, claim)) in lots.iter().zip(claims).enumerate() {
        let taken = claw(held, &claim, agreement)?;
        plan.transfers.extend(taken.transfers(&held.lot, member));
        let clawed = taken.from_lot.plus(taken.to_debt)?;
        plan.points = plan.points.plus(clawed)?;
        plan.points_forgiven = plan.points_forgiven.plus(taken.forgiven)?;
        plan.points_expired = plan.points_expired.plus(taken.expired)?;
        let (before, after) = baskets.of_place(place);
        let kept = held.lot.points.minus(clawed)?;
        portions.push(Portion {
            lot: LotRef {
                id: held.lot.id,
                expires_at: held.lot.expires_at,
            },
            issuer: held.lot.issuer,
            agreement: held.lot.agreement,
            change: Change {
                before: Measure {
                    points: held.lot.points,
                    basket: before,
                },
                after: Measure {
                    points: kept,
                    basket: after,
                },
            },
        });
    }
    let whole = whole(&portions, original.open.amount, remaining)?;
    let own = Some(pinned);
    let scene = Scene {
        rulebook,
        trigger: Trigger::Earn,
        redeemer: None,
        own,
        basket: None,
    };
    plan.transfers.extend(scene.transfers(&portions, whole)?);
    Ok(plan)
}

fn whole(portions: &[Portion], before: Minor, after: Minor) -> Result<Change, OutOfRange> {
    let stood = Points::sum(portions.iter().map(|portion| portion.change.before.points))?;
    let stands = Points::sum(portions.iter().map(|portion| portion.change.after.points))?;
    Ok(Change {
        before: Measure {
            points: stood,
            basket: before,
        },
        after: Measure {
            points: stands,
            basket: after,
        },
    })
}

/// A lot of the original, with the points that it started with.
struct Held {
    lot: Lot,
    issued: Points,
}

fn lots_of(
    books: &mut Books<'_>,
    member: MemberId,
    original: &Transaction,
) -> Result<Vec<Held>, Stop> {
    let book = books.member(member)?;
    if book.known == Known::Nothing {
        return Err(Shortage::Lots(member).into());
    }
    let mut lots: Vec<Held> = Vec::new();
    for slice in original.issued() {
        let Slice { lot, points, .. } = slice;
        if let Some(held) = lots.iter_mut().find(|held| held.lot.id == lot.id) {
            held.issued = held.issued.plus(points)?;
        } else {
            let found = book.lots.get(&lot.id).ok_or(Shortage::Lots(member))?;
            lots.push(Held {
                lot: *found,
                issued: points,
            });
        }
    }
    Ok(lots)
}

/// What one lot has to give up.
struct Claim {
    points: Points,
    /// Points of the lot that earlier returns forgave or found expired: still counted in the lot,
    /// no longer in the check.
    settled: Points,
}

/// What each lot has to give up when the check's points go from `stood` to `left`.
///
/// The points that remain are split as the earn was: by the weights of its funders. Where rounding
/// would have a lot grow, it keeps what it has and the ones named first make up for it; so nothing
/// is ever handed out by a return, and a full return takes everything.
fn claims(
    lots: &[Held],
    agreement: &Agreement,
    stood: Points,
    left: Points,
) -> Result<Vec<Claim>, OutOfRange> {
    let funders = agreement.terms.issuers(agreement.partner);
    let weights: Vec<u64> = funders
        .iter()
        .map(|funder| u64::from(funder.weight))
        .collect();
    let place_of = |lot: &Lot| funders.iter().position(|funder| funder.party == lot.issuer);
    let counted = funders.iter().map(|funder| {
        let own = lots.iter().find(|held| held.lot.issuer == funder.party);
        own.map(|held| held.lot.points).unwrap_or_default()
    });
    let standing = split_within(stood, &weights, &counted.collect::<Vec<_>>())?;
    let keeps = split_within(left, &weights, &standing)?;
    lots.iter()
        .map(|held| {
            let place = place_of(&held.lot).ok_or(OutOfRange)?;
            let stands = standing.get(place).copied().unwrap_or_default();
            let keeps = keeps.get(place).copied().unwrap_or_default();
            Ok(Claim {
                points: stands.minus(keeps)?,
                settled: held.lot.points.minus(stands)?,
            })
        })
        .collect()
}

/// Splits by weight, no share above its cap; the ones named first make up for what that leaves.
fn split_within(
    total: Points,
    weights: &[u64],
    caps: &[Points],
) -> Result<Vec<Points>, OutOfRange> {
    let shares = largest_remainder(total.get(), weights)?;
    let capped = shares.into_iter().map(Points::new).zip(caps);
    let mut shares: Vec<Points> = capped.map(|(share, cap)| share.min(*cap)).collect();
    let mut short = total.minus(Points::sum(shares.iter().copied())?)?;
    for (share, cap) in shares.iter_mut().zip(caps) {
        let more = short.min(cap.minus(*share)?);
        *share = share.plus(more)?;
        short = short.minus(more)?;
    }
    Ok(shares)
}

/// The check's amount, shared among its lots before and after.
struct Baskets {
    before: Vec<i64>,
    after: Vec<i64>,
}

impl Baskets {
    fn of(lots: &[Held], before: Minor, after: Minor) -> Result<Self, OutOfRange> {
        if lots.is_empty() {
            return Ok(Self {
                before: Vec::new(),
                after: Vec::new(),
            });
        }
        let weights: Vec<u64> = lots
            .iter()
            .map(|held| held.issued.get().unsigned_abs())
            .collect();
        Ok(Self {
            before: largest_remainder(before.get(), &weights)?,
            after: largest_remainder(after.get(), &weights)?,
        })
    }

    fn of_place(&self, place: usize) -> (Minor, Minor) {
        let at = |shares: &[i64]| Minor::new(shares.get(place).copied().unwrap_or_default());
        (at(&self.before), at(&self.after))
    }
}

/// Where the points that a lot gives up come from.
struct Taken {
    from_available: Points,
    from_pending: Points,
    from_lot: Points,
    to_debt: Points,
    forgiven: Points,
    expired: Points,
}

/// From the lot first; what was spent becomes debt or is forgiven, each point once; what expired
/// is neither.
fn claw(held: &Held, claim: &Claim, agreement: &Agreement) -> Result<Taken, OutOfRange> {
    let lot = &held.lot;
    let spent = lot.spent()?;
    let owed_already = spent.min(Points::ZERO);
    let resting = lot.available.plus(lot.pending)?;
    let from_lot = claim
        .points
        .min(resting.plus(owed_already)?.max(Points::ZERO));
    let from_available = from_lot.min(lot.available);
    let from_pending = from_lot.minus(from_available)?;
    let beyond = claim.points.minus(from_lot)?;
    let spent = spent.plus(lot.held)?;
    let (to_debt, forgiven) = match agreement.terms.return_policy {
        ReturnPolicy::AllowNegative => (beyond.min(spent.max(Points::ZERO)), Points::ZERO),
        ReturnPolicy::WithinBalance => {
            let unforgiven = spent.minus(claim.settled)?.max(Points::ZERO);
            (Points::ZERO, beyond.min(unforgiven))
        }
    };
    let expired = beyond.minus(to_debt)?.minus(forgiven)?;
    Ok(Taken {
        from_available,
        from_pending,
        from_lot,
        to_debt,
        forgiven,
        expired,
    })
}

impl Taken {
    fn transfers(&self, lot: &Lot, member: MemberId) -> Vec<Transfer> {
        let issued = Account::Issued(lot.issuer);
        [
            (Account::Available(member, lot.issuer), self.from_available),
            (Account::Pending(member, lot.issuer), self.from_pending),
            (Account::Debt(member, lot.issuer), self.to_debt),
        ]
        .into_iter()
        .filter(|(_, amount)| amount.is_positive())
        .map(|(from, amount)| points(from, issued, amount, lot))
        .collect()
    }
}
