//! Refunding a redemption: the points go back to the very lots that they came from, last consumed
//! first. Source: domain, "Redeem".

use super::books::{Books, Plan, points};
use super::redeem::{Spent, portions};
use super::sweep::expiring;
use super::{Refusal, Stop, declined, occurred, trading};
use crate::account::Account;
use crate::agreement::Trigger;
use crate::command::{Command, RefundRedemption};
use crate::decision::Shortage;
use crate::ids::PartnerId;
use crate::leg::{Change, Scene};
use crate::money::{Minor, Points};
use crate::time::Timestamp;
use crate::transaction::{Context, Decline, Kind, Open, Transaction};

pub(super) fn plan(
    books: &mut Books<'_>,
    command: &Command,
    refund: &RefundRedemption,
) -> Result<Plan, Stop> {
    trading(books, refund.partner)?;
    let original = books
        .original(command, refund.partner, Kind::Redeem, &refund.original)?
        .clone();
    let reason = Decline::CheckAlreadyReturned;
    books
        .fresh_check(
            refund.partner,
            Kind::RefundRedemption,
            &refund.context,
            reason,
        )
        .map_err(|stop| stop.on_behalf_of(&original))?;
    let occurred_at = occurred(books, refund.occurred_at)?;
    if !refund.points.is_positive() {
        return Err(Refusal::OutOfRange.into());
    }
    if refund.points > original.open.points {
        return Err(declined(Decline::RefundExceedsRedemption, &original));
    }
    let context = refund.context.clone();
    give_back(
        books,
        &original,
        refund.points,
        refund.partner,
        occurred_at,
        context,
    )
}

/// Gives `refunded` points of the original back.
pub(super) fn give_back(
    books: &mut Books<'_>,
    original: &Transaction,
    refunded: Points,
    partner: PartnerId,
    occurred_at: Timestamp,
    context: Context,
) -> Result<Plan, Stop> {
    let member = original.member.ok_or(Refusal::UnknownMember)?;
    let (rulebook, now) = (books.rulebook, books.setting.now);
    let pinned = original.agreement.ok_or(Refusal::UnknownOriginal)?;
    let remaining = original.open.points.minus(refunded)?;
    let open = Open {
        points: remaining,
        ..original.open
    };
    let told = Open {
        reversed_by: None,
        ..open
    };

    let mut plan = Plan::new(Kind::RefundRedemption, partner, occurred_at);
    plan.member = Some(member);
    plan.context = context;
    plan.points = refunded;
    plan.agreement = Some(pinned);
    plan.original = Some((original.id, open));
    plan.open = told;

    let book = books.member(member)?;
    let slices = original.spent();
    let mut skip =
        Points::sum(slices.iter().map(|slice| slice.points))?.minus(original.open.points)?;
    let mut left = refunded;
    let mut expired = Vec::new();
    let mut lapsed = Vec::new();
    for slice in slices.iter().rev() {
        let refunded_before = skip.min(slice.points);
        skip = skip.minus(refunded_before)?;
        let back = left.min(slice.points.minus(refunded_before)?);
        left = left.minus(back)?;
        if back.is_zero() {
            continue;
        }
        let lot = book.lots.get(&slice.lot.id).ok_or(Shortage::Lots(member))?;
        let available = Account::Available(member, slice.issuer);
        plan.transfers.push(points(
            Account::Redeemed(slice.issuer),
            available,
            back,
            lot,
        ));
        if lot.expires_at <= now {
            lapsed.push(points(available, Account::Expired(slice.issuer), back, lot));
            expired.push(expiring(lot, back));
            plan.points_expired = plan.points_expired.plus(back)?;
        }
    }
    plan.transfers.extend(lapsed);

    let spent: Vec<Spent> = slices
        .iter()
        .map(|slice| Spent {
            lot: slice.lot,
            issuer: slice.issuer,
            agreement: slice.agreement.unwrap_or(pinned),
            points: slice.points,
        })
        .collect();
    let basket = original.amount.map_or(Minor::ZERO, |(total, _)| total);
    let (portions, whole) = portions(&spent, basket, original.open.points, remaining)?;
    let redeemer = Some(partner.into());
    let scene = Scene {
        rulebook,
        trigger: Trigger::Redeem,
        redeemer,
        own: Some(pinned),
        basket: None,
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
        .extend(scene.transfers(&expired, Change::default())?);
    Ok(plan)
}
