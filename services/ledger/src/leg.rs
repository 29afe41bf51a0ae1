//! From legs to transfers of money.
//!
//! Every posting changes what *remains*: an earn from nothing to its points, a return from what
//! remained to less, a redemption and its refund likewise. A leg is computed on both sides and the
//! difference is posted, so that undoing everything returns exactly what was posted, whatever the
//! rounding. Source: domain, "Legs".

use rust_decimal::Decimal;

use crate::account::{Account, Capacity, LegRef, LotRef, Transfer};
use crate::agreement::{Agreement, Basis, Leg, LegParty, Rounding, Trigger};
use crate::decision::Refusal;
use crate::ids::{AgreementId, Party};
use crate::money::{Currency, Micros, Minor, OutOfRange, Points, Unit, exponent, half_up};
use crate::rulebook::Rulebook;

/// What a leg is computed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    /// Points that remain.
    pub points: Points,
    /// What remains of the check's amount.
    pub basket: Minor,
}

impl Measure {
    fn plus(self, other: Self) -> Result<Self, OutOfRange> {
        Ok(Self {
            points: self.points.plus(other.points)?,
            basket: self.basket.plus(other.basket)?,
        })
    }
}

/// What a posting does to one quantity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What was.
    pub before: Measure,
    /// What remains.
    pub after: Measure,
}

impl Change {
    fn plus(self, other: Self) -> Result<Self, OutOfRange> {
        let before = self.before.plus(other.before)?;
        Ok(Self {
            before,
            after: self.after.plus(other.after)?,
        })
    }
}

/// The points of one lot in a posting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// The lot.
    pub lot: LotRef,
    /// Who issued it.
    pub issuer: Party,
    /// Whose issuer-side legs apply: the version pinned on the lot, or the pair's.
    pub agreement: AgreementId,
    /// What happens to the points, and to their part of the check.
    pub change: Change,
}

/// What the legs of a posting depend on, beside the portions.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// Where the agreements stand.
    pub rulebook: &'a Rulebook,
    /// What happens.
    pub trigger: Trigger,
    /// The partner that points are spent at.
    pub redeemer: Option<Party>,
    /// The version whose legs that do not name the issuer apply: the earning partner's, or the
    /// redeemer's.
    pub own: Option<AgreementId>,
    /// The currency of the check's amount, where legs are posted that may take a share of it; `None`
    /// where they are undone: what could be posted can be.
    pub basket: Option<Currency>,
}

impl Scene<'_> {
    /// The transfers of money that follow from `portions`; `whole` is the change of everything,
    /// for an earn also where no lot came of it.
    ///
    /// Legs that name the issuer are computed once per portion; the others once: on all portions,
    /// except that portions under an agreement of the pair follow that agreement's.
    pub fn transfers(&self, portions: &[Portion], whole: Change) -> Result<Vec<Transfer>, Refusal> {
        let mut transfers = Vec::new();
        let mut own = whole;
        let mut pairs: Vec<(&Agreement, Party, Change)> = Vec::new();
        for portion in portions {
            let agreement = self.agreement(portion.agreement)?;
            let lot = Some(portion.lot);
            let issuer = Some(portion.issuer);
            self.follow(agreement, true, issuer, lot, portion.change, &mut transfers)?;
            if agreement.counterparty.is_none() {
                continue;
            }
            own = without(own, portion.change)?;
            match pairs
                .iter_mut()
                .find(|(known, ..)| known.id == agreement.id)
            {
                Some((_, _, change)) => *change = change.plus(portion.change)?,
                None => pairs.push((agreement, portion.issuer, portion.change)),
            }
        }
        for (agreement, _, change) in pairs {
            self.follow(agreement, false, None, None, change, &mut transfers)?;
        }
        if let Some(id) = self.own {
            self.follow(self.agreement(id)?, false, None, None, own, &mut transfers)?;
        }
        Ok(transfers)
    }

    fn agreement(&self, id: AgreementId) -> Result<&Agreement, Refusal> {
        self.rulebook
            .agreement(id)
            .ok_or(Refusal::MissingAgreement(id))
    }

    /// Posts the legs of `agreement` that name the issuer, or those that do not.
    fn follow(
        &self,
        agreement: &Agreement,
        issuer_side: bool,
        issuer: Option<Party>,
        lot: Option<LotRef>,
        change: Change,
        transfers: &mut Vec<Transfer>,
    ) -> Result<(), Refusal> {
        let currency = agreement.terms.currency;
        let face_value = self.rulebook.face_value(currency).unwrap_or_default();
        for (index, leg) in (0_u16..).zip(&agreement.terms.legs) {
            if leg.trigger != self.trigger || leg.names_issuer() != issuer_side {
                continue;
            }
            let (Some(from), Some(to)) =
                (self.account(leg.from, issuer), self.account(leg.to, issuer))
            else {
                continue;
            };
            let baskets = [change.before.basket, change.after.basket];
            if leg.basis == Basis::Basket
                && self.basket.is_some_and(|basket| basket != currency)
                && baskets.into_iter().any(|basket| !basket.is_zero())
            {
                // Nobody has agreed on a rate of exchange.
                return Err(Refusal::BasketCurrency { expected: currency });
            }
            let before = amount(leg, currency, face_value, change.before)?;
            let moved = amount(leg, currency, face_value, change.after)?.minus(before)?;
            let reversal = moved.is_negative();
            let (debit, credit, moved) = if reversal {
                (to, from, moved.negated()?)
            } else {
                (from, to, moved)
            };
            if moved.is_positive() {
                transfers.push(Transfer {
                    debit,
                    credit,
                    amount: moved.get(),
                    unit: Unit::Money(currency),
                    lot,
                    agreement: Some(agreement.id),
                    leg: Some(LegRef { index, reversal }),
                });
            }
        }
        Ok(())
    }

    fn account(&self, party: LegParty, issuer: Option<Party>) -> Option<Account> {
        Some(match party {
            LegParty::Issuer => Account::Position(issuer?, Capacity::Issuer),
            LegParty::Redeemer => Account::Position(self.redeemer?, Capacity::Redeemer),
            LegParty::Operator => Account::Position(Party::Operator, Capacity::Operator),
            LegParty::Named(partner) => Account::Position(partner.into(), Capacity::Named),
        })
    }
}

fn without(whole: Change, part: Change) -> Result<Change, OutOfRange> {
    let less = |a: Measure, b: Measure| -> Result<Measure, OutOfRange> {
        Ok(Measure {
            points: a.points.minus(b.points)?,
            basket: a.basket.minus(b.basket)?,
        })
    };
    Ok(Change {
        before: less(whole.before, part.before)?,
        after: less(whole.after, part.after)?,
    })
}

/// What `leg` comes to on `measure`: the product in decimal, held between `min` and `max`, rounded
/// once. Nothing remains, nothing is due.
pub fn amount(
    leg: &Leg,
    currency: Currency,
    face_value: Decimal,
    measure: Measure,
) -> Result<Micros, OutOfRange> {
    if measure.points.is_zero() && measure.basket.is_zero() {
        return Ok(Micros::ZERO);
    }
    let points = Decimal::from(measure.points.get());
    let product = match leg.basis {
        Basis::PerPoint => points.checked_mul(leg.rate),
        Basis::FaceValue => points
            .checked_mul(face_value)
            .and_then(|value| value.checked_mul(leg.rate)),
        Basis::Basket => measure.basket.to_major(currency)?.checked_mul(leg.rate),
        Basis::Fixed => Some(leg.rate),
    };
    let mut product = product.ok_or(OutOfRange)?;
    if let Some(min) = leg.min {
        product = product.max(min);
    }
    if let Some(max) = leg.max {
        product = product.min(max);
    }
    let places = match leg.rounding {
        Rounding::Micro => 6,
        Rounding::Minor => exponent(currency).ok_or(OutOfRange)?,
    };
    Micros::from_major(half_up(product, places))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(basis: Basis, rate: &str, rounding: Rounding) -> Leg {
        let rate = Decimal::from_str_exact(rate).unwrap();
        Leg {
            basis,
            rounding,
            ..Leg::per_point(
                Trigger::Redeem,
                LegParty::Redeemer,
                LegParty::Operator,
                rate,
            )
        }
    }

    fn on(leg: &Leg, points: i64, basket: i64) -> i64 {
        let measure = Measure {
            points: Points::new(points),
            basket: Minor::new(basket),
        };
        amount(leg, Currency::USD, Decimal::new(5, 3), measure)
            .unwrap()
            .get()
    }

    #[test]
    fn every_basis_and_both_roundings() {
        let micro = Rounding::Micro;
        assert_eq!(on(&leg(Basis::PerPoint, "0.004", micro), 333, 0), 1_332_000);
        assert_eq!(
            on(&leg(Basis::PerPoint, "0.0000005", micro), 1, 0),
            1,
            "half a micro is up"
        );
        assert_eq!(on(&leg(Basis::PerPoint, "0.0000004", micro), 1, 0), 0);
        assert_eq!(on(&leg(Basis::FaceValue, "0.0125", micro), 100, 0), 6_250);
        assert_eq!(
            on(&leg(Basis::FaceValue, "0.0125", Rounding::Minor), 100, 0),
            10_000
        );
        assert_eq!(
            on(&leg(Basis::FaceValue, "0.0125", Rounding::Minor), 79, 0),
            0
        );
        assert_eq!(
            on(&leg(Basis::Basket, "0.015", micro), 0, 12_345),
            1_851_750
        );
        assert_eq!(on(&leg(Basis::Fixed, "0.25", micro), 1, 0), 250_000);
        assert_eq!(
            on(&leg(Basis::Fixed, "0.25", micro), 0, 0),
            0,
            "nothing remains, nothing is due"
        );
    }

    #[test]
    fn min_and_max_hold_what_is_due_and_only_that() {
        let bound = Leg {
            min: Some(Decimal::new(10, 2)),
            max: Some(Decimal::new(50, 2)),
            ..leg(Basis::PerPoint, "0.01", Rounding::Micro)
        };
        assert_eq!(on(&bound, 0, 0), 0);
        assert_eq!(on(&bound, 1, 0), 100_000);
        assert_eq!(on(&bound, 20, 0), 200_000);
        assert_eq!(on(&bound, 1_000, 0), 500_000);
    }

    #[test]
    fn a_product_beyond_the_books_is_an_error() {
        let measure = Measure {
            points: Points::new(i64::MAX),
            basket: Minor::ZERO,
        };
        let dear = leg(Basis::PerPoint, "1000000000", Rounding::Micro);
        assert_eq!(
            amount(&dear, Currency::USD, Decimal::ONE, measure),
            Err(OutOfRange)
        );
    }
}
