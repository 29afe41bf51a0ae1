//! The model's arithmetic: integers of 10⁻¹⁸ major units, far wider than anything a test says.

use std::collections::BTreeMap;

use coalition_ledger::agreement::{Agreement, Basis, Leg, LegParty, Rounding, Terms, Trigger};
use coalition_ledger::ids::{AgreementId, PartnerId, Party};
use coalition_ledger::money::{Currency, exponent};
use rust_decimal::Decimal;

use super::{Model, Move, Quantity, Slice};

/// Decimal places of an exact number.
const PLACES: u32 = 18;

/// What arithmetic needs to know of the network.
#[derive(Clone, Debug)]
pub(super) struct Exact {
    face_values: BTreeMap<&'static str, Decimal>,
}

impl Exact {
    pub(super) fn new(face_values: &[(Currency, Decimal)]) -> Self {
        let by_code = face_values
            .iter()
            .map(|(currency, value)| (currency.code(), *value));
        Self {
            face_values: by_code.collect(),
        }
    }

    /// Whole points for a basis, rounded down.
    pub(super) fn points_for(&self, basis: i64, terms: &Terms) -> i64 {
        let _ = self;
        let points = times(
            i128::from(basis),
            terms.points_per_unit,
            places(terms.currency),
        );
        i64::try_from(points.div_euclid(10_i128.pow(PLACES))).expect("few")
    }

    /// What a leg comes to, in micro-units: the product, held between the bounds, rounded once.
    fn amount(&self, leg: &Leg, currency: Currency, quantity: Quantity) -> i128 {
        if quantity.points == 0 && quantity.basket == 0 {
            return 0;
        }
        let points = i128::from(quantity.points);
        let mut product = match leg.basis {
            Basis::PerPoint => times(points, leg.rate, 0),
            Basis::FaceValue => {
                let value = self.face_values[currency.code()];
                times(points * value.mantissa(), leg.rate, value.scale())
            }
            Basis::Basket => times(i128::from(quantity.basket), leg.rate, places(currency)),
            Basis::Fixed => times(1, leg.rate, 0),
        };
        product = leg.min.map_or(product, |min| product.max(times(1, min, 0)));
        product = leg.max.map_or(product, |max| product.min(times(1, max, 0)));
        let kept = match leg.rounding {
            Rounding::Micro => 6,
            Rounding::Minor => places(currency),
        };
        half_up(product, 10_i128.pow(PLACES - kept)) * 10_i128.pow(6 - kept)
    }
}

/// `count` · 10^-`places` · `rate`, exactly.
fn times(count: i128, rate: Decimal, places: u32) -> i128 {
    let shift = PLACES
        .checked_sub(rate.scale() + places)
        .expect("few decimal places");
    count * rate.mantissa() * 10_i128.pow(shift)
}

/// Quotient, half away from zero.
fn half_up(amount: i128, step: i128) -> i128 {
    let magnitude = (amount.abs() + step / 2) / step;
    if amount < 0 { -magnitude } else { magnitude }
}

fn places(currency: Currency) -> u32 {
    exponent(currency).expect("money")
}

pub(super) fn micros_of(minor: i64, currency: Currency) -> i128 {
    i128::from(minor) * 10_i128.pow(6 - places(currency))
}

/// Splits `total` by weight: rounded down, then one each to the largest remainders, ties to the
/// first named.
pub(crate) fn shared(total: i64, weights: &[i64]) -> Vec<i64> {
    let sum: i128 = weights.iter().map(|weight| i128::from(*weight)).sum();
    if sum == 0 {
        return vec![0; weights.len()];
    }
    let exact: Vec<i128> = weights
        .iter()
        .map(|w| i128::from(total) * i128::from(*w))
        .collect();
    let mut shares: Vec<i128> = exact.iter().map(|exact| exact / sum).collect();
    for _ in shares.iter().sum::<i128>()..i128::from(total) {
        let lack = |place: &usize| exact[*place] - shares[*place] * sum;
        let neediest = (0..weights.len()).rev().max_by_key(lack).expect("weights");
        shares[neediest] += 1;
    }
    shares
        .into_iter()
        .map(|share| i64::try_from(share).expect("a part of an i64"))
        .collect()
}

/// Splits `total` by weight, no share above its cap: what that leaves goes to the first named.
pub(super) fn shared_within(total: i64, weights: &[i64], caps: &[i64]) -> Vec<i64> {
    let mut shares = shared(total, weights);
    for (share, cap) in shares.iter_mut().zip(caps) {
        *share = (*share).min(*cap);
    }
    for (place, cap) in caps.iter().enumerate() {
        let short = total - shares.iter().sum::<i64>();
        shares[place] += short.min(cap - shares[place]);
    }
    shares
}

impl Model {
    /// The legs of `agreement` for `trigger` from nothing to `quantity`: those that name the
    /// issuer if there is one, else those that do not.
    pub(super) fn follow(
        &self,
        moves: &mut Vec<Move>,
        agreement: &Agreement,
        trigger: Trigger,
        issuer: Option<Party>,
        redeemer: Option<PartnerId>,
        quantity: Quantity,
    ) {
        let nothing = Quantity::default();
        self.follow_change(
            moves,
            agreement,
            trigger,
            (issuer, redeemer),
            (nothing, quantity),
        );
    }

    /// The same from what was to what remains.
    pub(super) fn follow_change(
        &self,
        moves: &mut Vec<Move>,
        agreement: &Agreement,
        trigger: Trigger,
        (issuer, redeemer): (Option<Party>, Option<PartnerId>),
        (before, after): (Quantity, Quantity),
    ) {
        let currency = agreement.terms.currency;
        let party = |named: LegParty| match named {
            LegParty::Issuer => issuer.expect("an issuer"),
            LegParty::Redeemer => redeemer.expect("a redeemer").into(),
            LegParty::Operator => Party::Operator,
            LegParty::Named(partner) => partner.into(),
        };
        let legs = agreement
            .terms
            .legs
            .iter()
            .filter(|leg| leg.trigger == trigger);
        for leg in legs.filter(|leg| leg.names_issuer() == issuer.is_some()) {
            let was = self.exact.amount(leg, currency, before);
            let is = self.exact.amount(leg, currency, after);
            let (from, to) = (party(leg.from), party(leg.to));
            moves.push(Move {
                from,
                to,
                currency: currency.code(),
                micros: is - was,
            });
        }
    }

    /// What expiry of `points` of one parcel costs.
    pub(super) fn expire(
        &self,
        moves: &mut Vec<Move>,
        pinned: AgreementId,
        issuer: Party,
        points: i64,
    ) {
        let agreement = self.agreement(pinned);
        let quantity = Quantity { points, basket: 0 };
        self.follow(
            moves,
            agreement,
            Trigger::Expire,
            Some(issuer),
            None,
            quantity,
        );
    }

    /// The money of a redemption whose open points go from `before` to `after`: issuer-side legs
    /// per slice, under the version that governs it; redeemer-side legs once per version.
    pub(super) fn redemption_moves(
        &self,
        slices: &[Slice],
        basket: i64,
        before: i64,
        after: i64,
        redeemer: PartnerId,
        own: AgreementId,
    ) -> Vec<Move> {
        let (was, is) = (
            open_parts(slices, basket, before),
            open_parts(slices, basket, after),
        );
        let mut moves = Vec::new();
        let mut once: BTreeMap<AgreementId, (Quantity, Quantity)> = BTreeMap::new();
        once.insert(own, (Quantity::default(), Quantity::default()));
        for (slice, (was, is)) in slices.iter().zip(was.into_iter().zip(is)) {
            let agreement = self.agreement(slice.governed_by);
            let parties = (Some(slice.issuer), Some(redeemer));
            self.follow_change(&mut moves, agreement, Trigger::Redeem, parties, (was, is));
            let pair = agreement.counterparty.is_some();
            let (sum_was, sum_is) = once
                .entry(if pair { agreement.id } else { own })
                .or_default();
            sum_was.points += was.points;
            sum_was.basket += was.basket;
            sum_is.points += is.points;
            sum_is.basket += is.basket;
        }
        for (id, change) in once {
            let parties = (None, Some(redeemer));
            self.follow_change(
                &mut moves,
                self.agreement(id),
                Trigger::Redeem,
                parties,
                change,
            );
        }
        moves
    }
}

/// What remains of each slice with `open` points not refunded: the first consumed are the last to
/// go. The check's amount is shared by points among what is open and what is closed.
fn open_parts(slices: &[Slice], basket: i64, open: i64) -> Vec<Quantity> {
    let mut left = open;
    let mut weights = Vec::new();
    for slice in slices {
        weights.push(left.min(slice.points));
        left -= left.min(slice.points);
    }
    let total: i64 = slices.iter().map(|slice| slice.points).sum();
    weights.push(total - open);
    let baskets = shared(basket, &weights);
    let parts = weights.iter().zip(baskets).take(slices.len());
    parts
        .map(|(points, basket)| Quantity {
            points: *points,
            basket,
        })
        .collect()
}
