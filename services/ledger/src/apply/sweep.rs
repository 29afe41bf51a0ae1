//! What time does: pending points mature, and what nobody spent expires.
//!
//! Expiry is a posting, so that breakage is in the books. A member's due lots are posted by the
//! sweep, and before any other command of that member, so that the totals always are what may be
//! spent now. Source: domain, "Expiry".

use super::books::{Books, Plan, points};
use super::{Decision, Stop};
use crate::account::Account;
use crate::agreement::Trigger;
use crate::decision::{Refusal, Shortage};
use crate::ids::{LotId, MemberId, Party};
use crate::leg::{Change, Measure, Portion, Scene};
use crate::member::{Lot, MemberBook};
use crate::money::Points;
use crate::time::Timestamp;
use crate::transaction::Kind;

/// Posts what is due; the answer names the expiry, or else the maturity.
pub(super) fn decide(books: &mut Books<'_>, member: MemberId) -> Result<Decision, Stop> {
    let book = books
        .snapshot
        .members
        .get(&member)
        .ok_or(Refusal::UnknownMember)?;
    if !book.is_due(books.setting.now) {
        return Ok(Decision::Nothing);
    }
    let transaction = settle(books, member)?;
    Ok(
        transaction.map_or(Decision::Nothing, |transaction| Decision::Recorded {
            transaction,
            replayed: false,
        }),
    )
}

type Posted = Option<std::sync::Arc<crate::transaction::Transaction>>;

/// Posts what has matured and what has expired by now; the last posting, if there was one.
pub(super) fn settle(books: &mut Books<'_>, member: MemberId) -> Result<Posted, Stop> {
    let matured = mature(books, member)?;
    Ok(expire(books, member)?.or(matured))
}

fn mature(books: &mut Books<'_>, member: MemberId) -> Result<Posted, Stop> {
    let now = books.setting.now;
    let mut plan = Plan::new(Kind::Mature, Party::Operator, now);
    plan.member = Some(member);
    let is_due = |lot: &Lot| lot.pending.is_positive() && lot.pending_until <= now;
    for lot in due(books, member, now, is_due)? {
        plan.points = plan.points.plus(lot.pending)?;
        plan.transfers.push(points(
            Account::Pending(member, lot.issuer),
            Account::Available(member, lot.issuer),
            lot.pending,
            &lot,
        ));
    }
    if plan.transfers.is_empty() {
        Ok(None)
    } else {
        books.book(plan).map(Some)
    }
}

fn expire(books: &mut Books<'_>, member: MemberId) -> Result<Posted, Stop> {
    let now = books.setting.now;
    let mut plan = Plan::new(Kind::Expire, Party::Operator, now);
    plan.member = Some(member);
    let is_due = |lot: &Lot| lot.available.is_positive() && lot.expires_at <= now;
    let mut portions = Vec::new();
    for lot in due(books, member, now, is_due)? {
        plan.points = plan.points.plus(lot.available)?;
        plan.transfers.push(points(
            Account::Available(member, lot.issuer),
            Account::Expired(lot.issuer),
            lot.available,
            &lot,
        ));
        portions.push(expiring(&lot, lot.available));
    }
    if plan.transfers.is_empty() {
        return Ok(None);
    }
    let scene = Scene {
        rulebook: books.rulebook,
        trigger: Trigger::Expire,
        redeemer: None,
        own: None,
        basket: None,
    };
    plan.transfers
        .extend(scene.transfers(&portions, Change::default())?);
    books.book(plan).map(Some)
}

/// What `EXPIRE` legs are computed on when this many points of a lot expire.
pub(super) fn expiring(lot: &Lot, expired: Points) -> Portion {
    let after = Measure {
        points: expired,
        ..Measure::default()
    };
    Portion {
        lot: crate::account::LotRef {
            id: lot.id,
            expires_at: lot.expires_at,
        },
        issuer: lot.issuer,
        agreement: lot.agreement,
        change: Change {
            before: Measure::default(),
            after,
        },
    }
}

/// The member's lots that are due, in the order of spending; all of them must be known.
fn due(
    books: &Books<'_>,
    member: MemberId,
    now: Timestamp,
    is_due: impl Fn(&Lot) -> bool,
) -> Result<Vec<Lot>, Stop> {
    let book: &MemberBook = books
        .snapshot
        .members
        .get(&member)
        .ok_or(Refusal::UnknownMember)?;
    if !book.known.covers(now, LotId::from_uuid(uuid::Uuid::max())) {
        return Err(Shortage::Lots(member).into());
    }
    let mut lots: Vec<Lot> = book.lots.values().copied().filter(is_due).collect();
    lots.sort_by_key(|lot| (lot.expires_at, lot.id));
    Ok(lots)
}
