//! Looking without posting: what a member holds now, and what a check or a redemption would do.

use std::collections::BTreeMap;

use crate::agreement::Terms;
use crate::apply::{basis, points_for, shares};
use crate::command::CheckAmounts;
use crate::decision::Refusal;
use crate::ids::{AgreementId, PartnerId, Party};
use crate::member::{Known, Lot, MemberBook, MemberStatus, Totals, Upcoming};
use crate::money::{Currency, Micros, Minor, OutOfRange, Points};
use crate::rulebook::{MAX_AHEAD_MICROS, PartnerStatus, Rulebook};
use crate::snapshot::Position;
use crate::time::Timestamp;
use crate::transaction::Decline;

/// Why a preview has no figures: the request is wrong, or the books would decline it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoQuote {
    /// It would be refused.
    Refused(Refusal),
    /// It would be declined.
    Declined(Decline),
}

impl From<OutOfRange> for NoQuote {
    fn from(_: OutOfRange) -> Self {
        Self::Refused(Refusal::OutOfRange)
    }
}

/// When it happened, if the network takes the shop's word for it: not more than 5 minutes ahead of
/// `now` and not more than `store_and_forward_micros` behind it. `None` said: now.
pub fn occurred_at(
    said: Option<Timestamp>,
    now: Timestamp,
    store_and_forward_micros: i64,
) -> Result<Timestamp, Refusal> {
    let at = said.unwrap_or(now);
    let oldest = now.saturating_add_micros(store_and_forward_micros.saturating_neg());
    if at > now.saturating_add_micros(MAX_AHEAD_MICROS) || at < oldest {
        return Err(Refusal::OccurredAtOutOfRange);
    }
    Ok(at)
}

/// A member's book as it stands at `now`: what is due by time counts, though it is not posted yet.
///
/// The book must hold all live lots.
pub fn as_of(mut book: MemberBook, now: Timestamp) -> Result<MemberBook, OutOfRange> {
    let mut totals = book.totals;
    for lot in book.lots.values_mut() {
        if lot.pending.is_positive() && lot.pending_until <= now {
            totals.pending = totals.pending.minus(lot.pending)?;
            totals.available = totals.available.plus(lot.pending)?;
            lot.available = lot.available.plus(lot.pending)?;
            lot.pending = Points::ZERO;
        }
        if lot.available.is_positive() && lot.expires_at <= now {
            totals.available = totals.available.minus(lot.available)?;
            lot.expired = lot.expired.plus(lot.available)?;
            lot.available = Points::ZERO;
        }
    }
    book.totals = totals;
    let spendable = book.spendable();
    book.next_expiry = match spendable.first() {
        None => None,
        Some(Lot { expires_at: at, .. }) => {
            let same = spendable.iter().take_while(|lot| lot.expires_at == *at);
            let points = Points::sum(same.map(|lot| lot.available))?;
            Some(Upcoming { at: *at, points })
        }
    };
    let pending = book.lots.values().filter(|lot| lot.pending.is_positive());
    book.next_maturity = pending.map(|lot| lot.pending_until).min();
    book.known = Known::All;
    Ok(book)
}

/// The next expiries of a book that stands [`as_of`] now: earliest first, one row per instant, at
/// most `most`.
pub fn upcoming_expiries(book: &MemberBook, most: usize) -> Result<Vec<Upcoming>, OutOfRange> {
    let mut upcoming: Vec<Upcoming> = Vec::new();
    for lot in book.spendable() {
        let is_full = upcoming.len() >= most;
        match upcoming.last_mut() {
            Some(last) if last.at == lot.expires_at => {
                last.points = last.points.plus(lot.available)?;
            }
            _ if is_full => break,
            _ => upcoming.push(Upcoming {
                at: lot.expires_at,
                points: lot.available,
            }),
        }
    }
    Ok(upcoming)
}

/// What the member holds of and owes each issuer, in the order of the issuers; those with nothing
/// are left out. The book stands [`as_of`] now.
pub fn by_issuer(book: &MemberBook) -> Result<BTreeMap<Party, Totals>, OutOfRange> {
    let mut issuers: BTreeMap<Party, Totals> = BTreeMap::new();
    for lot in book.lots.values().filter(|lot| lot.is_live()) {
        let sums = issuers.entry(lot.issuer).or_default();
        sums.available = sums.available.plus(lot.available)?;
        sums.pending = sums.pending.plus(lot.pending)?;
        sums.held = sums.held.plus(lot.held)?;
    }
    for (issuer, owed) in book.debts.iter().filter(|(_, owed)| !owed.is_zero()) {
        issuers.entry(*issuer).or_default().debt = *owed;
    }
    Ok(issuers)
}

/// What one issuer would issue for a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotedLot {
    /// Who would issue.
    pub issuer: Party,
    /// How many points.
    pub points: Points,
    /// When they would expire.
    pub expires_at: Timestamp,
    /// The version that the lot would be pinned to.
    pub agreement: AgreementId,
}

/// What a check would earn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarnQuote {
    /// What of the check earns.
    pub basis: Minor,
    /// In which currency.
    pub currency: Currency,
    /// How many points in all.
    pub points: Points,
    /// From whom.
    pub lots: Vec<QuotedLot>,
    /// The earning partner's version in force.
    pub agreement: AgreementId,
}

/// What a check of `partner` would earn at `at`.
pub fn quote_earn(
    rulebook: &Rulebook,
    partner: PartnerId,
    amounts: &CheckAmounts,
    currency: Currency,
    at: Timestamp,
) -> Result<EarnQuote, NoQuote> {
    trading(rulebook, partner)?;
    let agreement = rulebook
        .in_force(partner, at)
        .ok_or(NoQuote::Declined(Decline::NoAgreementInForce))?;
    let terms: &Terms = &agreement.terms;
    if terms.currency != currency {
        let expected = terms.currency;
        return Err(NoQuote::Refused(Refusal::CurrencyMismatch { expected }));
    }
    let basis = basis(amounts, terms).map_err(NoQuote::Refused)?;
    let points = points_for(basis, terms)?;
    let shares = shares(rulebook, agreement, points, basis, at)?;
    let expires_at = at
        .checked_add_days(terms.lot_lifetime_days)
        .ok_or(OutOfRange)?;
    let lots = shares
        .into_iter()
        .map(|share| QuotedLot {
            issuer: share.issuer,
            points: share.points,
            expires_at,
            agreement: share.agreement,
        })
        .collect();
    Ok(EarnQuote {
        basis,
        currency,
        points,
        lots,
        agreement: agreement.id,
    })
}

/// What a guest asks of a redemption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// As much as there is.
    Everything,
    /// This many points.
    Points(Points),
    /// Enough for this much of the check, rounded down to whole points.
    Amount(Minor, Currency),
}

/// What a redemption would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedeemQuote {
    /// The most that may be spent.
    pub max_points: Points,
    /// What they are worth.
    pub max_worth: Micros,
    /// What would be spent for what was asked: at most `max_points`.
    pub points: Points,
    /// What they are worth.
    pub worth: Micros,
    /// In which currency.
    pub currency: Currency,
    /// The lots that would be drawn on, in the order of consumption, each with its points.
    pub lots: Vec<(Lot, Points)>,
}

/// What a redemption at `partner` would do to `book`, which stands [`as_of`] now.
pub fn quote_redeem(
    rulebook: &Rulebook,
    partner: PartnerId,
    book: &MemberBook,
    ask: Ask,
    now: Timestamp,
) -> Result<RedeemQuote, NoQuote> {
    trading(rulebook, partner)?;
    match book.status {
        MemberStatus::Active => {}
        MemberStatus::Frozen => return Err(NoQuote::Declined(Decline::MemberFrozen)),
        MemberStatus::Closed => return Err(NoQuote::Declined(Decline::MemberClosed)),
    }
    let agreement = rulebook
        .in_force(partner, now)
        .ok_or(NoQuote::Declined(Decline::NoAgreementInForce))?;
    let currency = agreement.terms.currency;
    let max_points = book.totals.balance()?.max(Points::ZERO);
    let asked = match ask {
        Ask::Everything => max_points,
        Ask::Points(points) => points,
        Ask::Amount(amount, other) if other == currency => {
            rulebook.points_for(amount.to_micros(currency)?, currency)?
        }
        Ask::Amount(..) => {
            return Err(NoQuote::Refused(Refusal::CurrencyMismatch {
                expected: currency,
            }));
        }
    };
    let points = asked.max(Points::ZERO).min(max_points);
    let mut left = points;
    let mut lots = Vec::new();
    for lot in book.spendable() {
        let part = left.min(lot.available);
        if part.is_zero() {
            break;
        }
        left = left.minus(part)?;
        lots.push((lot, part));
    }
    Ok(RedeemQuote {
        max_points,
        max_worth: rulebook.worth(max_points, currency)?,
        points,
        worth: rulebook.worth(points, currency)?,
        currency,
        lots,
    })
}

fn trading(rulebook: &Rulebook, partner: PartnerId) -> Result<(), NoQuote> {
    match rulebook.partner(partner).map(|found| found.status) {
        None => Err(NoQuote::Refused(Refusal::UnknownPartner(partner))),
        Some(PartnerStatus::Suspended) => Err(NoQuote::Declined(Decline::PartnerSuspended)),
        Some(PartnerStatus::Active) => Ok(()),
    }
}

/// How near a partner is to its limit. Source: domain, "Limits".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alert {
    /// Less than 80 % is used.
    None,
    /// At least 80 % is used.
    Used80,
    /// At least 95 % is used.
    Used95,
}

/// A partner's headroom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headroom {
    /// The sums that it follows from.
    pub position: Position,
    /// The limit; `None`: there is none.
    pub limit: Option<Micros>,
    /// How much further the position may fall; `None`: any depth.
    pub left: Option<Micros>,
    /// How much of limit and funds is used, in whole percent, rounded down; 100 where they are
    /// zero and so is what is left.
    pub used_percent: i64,
    /// Whether 80 or 95 % is used.
    pub alert: Alert,
    /// Whether what is left pays for fewer points than the agreement's alert.
    pub below_alert_points: bool,
}

/// The headroom of a partner with `terms` in force.
pub fn headroom(position: Position, terms: &Terms) -> Result<Headroom, OutOfRange> {
    let Some(limit) = terms.limit else {
        return Ok(Headroom {
            position,
            limit: None,
            left: None,
            used_percent: 0,
            alert: Alert::None,
            below_alert_points: false,
        });
    };
    let left = position.headroom(limit, terms.net_inbound)?;
    let whole = limit.plus(position.funds)?;
    let used = i128::from(whole.get()).saturating_sub(i128::from(left.get()));
    let percent = used
        .saturating_mul(100)
        .checked_div(i128::from(whole.get()));
    let used_percent = match percent {
        Some(percent) => i64::try_from(percent.max(0)).unwrap_or(i64::MAX),
        None if left.is_positive() => 0,
        None => 100,
    };
    let alert = match used_percent {
        95.. => Alert::Used95,
        80.. => Alert::Used80,
        _ => Alert::None,
    };
    Ok(Headroom {
        position,
        limit: Some(limit),
        left: Some(left),
        used_percent,
        alert,
        below_alert_points: below(left, terms)?,
    })
}

fn below(left: Micros, terms: &Terms) -> Result<bool, OutOfRange> {
    let Some(points) = terms.alert_below_points else {
        return Ok(false);
    };
    let price = terms.issue_price_per_point();
    let needed = rust_decimal::Decimal::from(points.get())
        .checked_mul(price)
        .ok_or(OutOfRange)?;
    Ok(left.to_major() < needed)
}
