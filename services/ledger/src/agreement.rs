//! Agreements: the versioned commercial terms of a partner, or of a pair of partners.
//!
//! A commercial model is a list of [`Leg`]s, never code; the presets here only write legs.
//! Source: domain, "Legs". How a leg becomes an amount stands in [`crate::leg`].

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::ids::{AgreementId, PartnerId, Party};
use crate::money::{Currency, Micros, Points, exponent};
use crate::time::Timestamp;

/// Most legs in one agreement.
pub const MAX_LEGS: usize = 32;
/// Most funders of one agreement.
pub const MAX_FUNDERS: usize = 8;
/// Longest life of a lot and longest pending time, in days: about 100 years.
pub const MAX_DAYS: u32 = 36_500;
/// Most decimal places of a rate.
pub const MAX_RATE_SCALE: u32 = 12;
/// What every rate is below, in major units, points or fractions: 12 digits before the point.
pub const MAX_RATE: i64 = 1_000_000_000_000;

/// What happens when a leg is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Trigger {
    /// Points are issued for a check.
    Earn,
    /// Points are spent.
    Redeem,
    /// Points expire unspent.
    Expire,
}

/// Who pays or receives, seen from one posting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LegParty {
    /// Whoever issued the lot.
    Issuer,
    /// Whoever the points are spent at.
    Redeemer,
    /// The operator.
    Operator,
    /// One partner, by name.
    Named(PartnerId),
}

/// What a leg's rate is multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Basis {
    /// Points; the rate is money per point, in major units.
    PerPoint,
    /// Points at the network's face value; the rate is a fraction.
    FaceValue,
    /// The check's amount; the rate is a fraction.
    Basket,
    /// Nothing: the rate is the amount, in major units.
    Fixed,
}

/// To what a leg's product is rounded, half up, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Rounding {
    /// A micro-unit.
    Micro,
    /// The currency's minor unit.
    Minor,
}

/// One rule that moves money when its trigger falls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leg {
    /// When it falls due.
    pub trigger: Trigger,
    /// Who pays.
    pub from: LegParty,
    /// Who receives.
    pub to: LegParty,
    /// What `rate` is multiplied with.
    pub basis: Basis,
    /// Not negative; its unit depends on `basis`.
    pub rate: Decimal,
    /// Least amount of a leg that is due at all, in major units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Decimal>,
    /// Largest amount, in major units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Decimal>,
    /// How the product is rounded.
    pub rounding: Rounding,
}

impl Leg {
    /// Whether the leg is computed once per lot slice (it names the issuer) rather than once per
    /// redemption.
    #[must_use]
    pub fn names_issuer(&self) -> bool {
        self.from == LegParty::Issuer || self.to == LegParty::Issuer
    }

    /// A leg that pays `rate` major units per point, to the micro-unit.
    #[must_use]
    pub const fn per_point(trigger: Trigger, from: LegParty, to: LegParty, rate: Decimal) -> Self {
        let (basis, rounding) = (Basis::PerPoint, Rounding::Micro);
        Self {
            trigger,
            from,
            to,
            basis,
            rate,
            min: None,
            max: None,
            rounding,
        }
    }
}

/// What a return of goods does about points that are already spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReturnPolicy {
    /// The member owes them.
    #[default]
    AllowNegative,
    /// They are forgiven.
    WithinBalance,
}

/// A share in who issues the points that a check earns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Funder {
    /// Who issues.
    pub party: Party,
    /// Its share, relative to the other weights; at least 1.
    pub weight: u32,
}

/// The terms of one agreement version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a term of its own")]
pub struct Terms {
    /// The currency of every amount in the agreement and of the checks it covers.
    #[serde(with = "currency_code")]
    pub currency: Currency,
    /// Points per major unit of a check's basis.
    pub points_per_unit: Decimal,
    /// How long a lot lives from its earn, in days of 86,400 seconds; at least 1.
    pub lot_lifetime_days: u32,
    /// How long earned points are pending, in days of 86,400 seconds.
    #[serde(default)]
    pub pending_days: u32,
    /// What a return of goods does about points that are already spent.
    #[serde(default)]
    pub return_policy: ReturnPolicy,
    /// Whether tax earns.
    #[serde(default)]
    pub include_tax: bool,
    /// Whether tips earn.
    #[serde(default)]
    pub include_tip: bool,
    /// Whether what was paid with gift cards earns.
    #[serde(default)]
    pub include_gift_cards: bool,
    /// Who issues the points that a check earns; empty: the partner alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub funders: Vec<Funder>,
    /// How far the partner's position may fall below its funds, in micro-units; `None`: any depth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Micros>,
    /// Whether what the network owes the partner counts towards its headroom.
    #[serde(default)]
    pub net_inbound: bool,
    /// Warn when the headroom pays for fewer points than this at the issue price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert_below_points: Option<Points>,
    /// The legs, in order; an agreement of a pair has those of both sides.
    pub legs: Vec<Leg>,
}

mod currency_code {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::money::Currency;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    pub(super) fn serialize<S: Serializer>(currency: &Currency, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(currency.code())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Currency, D::Error> {
        let code = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Currency::from_code(&code).ok_or_else(|| D::Error::custom("not an ISO 4217 code"))
    }
}

/// Why terms cannot be agreed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidTerms {
    /// The field at fault, in the words of the public interface (`legs[2].rate`).
    pub field: String,
    /// What is wrong, and what would be right.
    pub problem: &'static str,
}

fn invalid(field: impl Into<String>, problem: &'static str) -> InvalidTerms {
    InvalidTerms {
        field: field.into(),
        problem,
    }
}

impl Terms {
    /// Checks every rule that terms must keep, whoever wrote them.
    pub fn validate(&self) -> Result<(), InvalidTerms> {
        if exponent(self.currency).is_none() {
            return Err(invalid("currency_code", "is not a money of account"));
        }
        check_rate("points_per_unit", self.points_per_unit)?;
        if !(1..=MAX_DAYS).contains(&self.lot_lifetime_days) {
            return Err(invalid("lot_lifetime_days", "must be from 1 to 36500"));
        }
        if self.pending_days >= self.lot_lifetime_days {
            return Err(invalid(
                "pending_days",
                "must be less than lot_lifetime_days",
            ));
        }
        if self.limit.is_some_and(Micros::is_negative) {
            return Err(invalid("limit", "must not be negative"));
        }
        if self.alert_below_points.is_some_and(Points::is_negative) {
            return Err(invalid("alert_below_points", "must not be negative"));
        }
        self.validate_funders()?;
        if self.legs.len() > MAX_LEGS {
            return Err(invalid("legs", "must be at most 32"));
        }
        self.legs
            .iter()
            .enumerate()
            .try_for_each(|(i, leg)| validate_leg(i, leg))
    }

    /// Checks what terms of a pair must keep beside: they settle what is spent, and nothing else of
    /// them would ever apply.
    pub fn validate_pair(&self) -> Result<(), InvalidTerms> {
        let place = self
            .legs
            .iter()
            .position(|leg| leg.trigger != Trigger::Redeem);
        match place {
            None => Ok(()),
            Some(place) => Err(invalid(
                format!("legs[{place}].trigger"),
                "must be REDEEM in an agreement of a pair",
            )),
        }
    }

    fn validate_funders(&self) -> Result<(), InvalidTerms> {
        if self.funders.len() > MAX_FUNDERS {
            return Err(invalid("funders", "must be at most 8"));
        }
        for (i, funder) in self.funders.iter().enumerate() {
            if !(1..=1_000_000).contains(&funder.weight) {
                return Err(invalid(
                    format!("funders[{i}].weight"),
                    "must be from 1 to 1000000",
                ));
            }
            if self
                .funders
                .iter()
                .take(i)
                .any(|earlier| earlier.party == funder.party)
            {
                return Err(invalid(format!("funders[{i}].party"), "is named twice"));
            }
        }
        Ok(())
    }

    /// Who issues the points that a check of `partner` earns, with weights, in order.
    #[must_use]
    pub fn issuers(&self, partner: PartnerId) -> Vec<Funder> {
        if self.funders.is_empty() {
            return vec![Funder {
                party: partner.into(),
                weight: 1,
            }];
        }
        self.funders.clone()
    }

    /// What issuing one point costs the issuer under these terms: the sum of the `EARN` legs per
    /// point that it pays, in major units.
    #[must_use]
    pub fn issue_price_per_point(&self) -> Decimal {
        self.legs
            .iter()
            .filter(|leg| leg.trigger == Trigger::Earn && leg.from == LegParty::Issuer)
            .filter(|leg| leg.basis == Basis::PerPoint)
            .fold(Decimal::ZERO, |sum, leg| sum.saturating_add(leg.rate))
    }
}

fn check_rate(field: impl Into<String>, rate: Decimal) -> Result<(), InvalidTerms> {
    if rate.is_sign_negative() && !rate.is_zero() {
        return Err(invalid(field, "must not be negative"));
    }
    if rate >= Decimal::from(MAX_RATE) {
        return Err(invalid(
            field,
            "must have at most 12 digits before the point",
        ));
    }
    if rate.normalize().scale() > MAX_RATE_SCALE {
        return Err(invalid(field, "must have at most 12 decimal places"));
    }
    Ok(())
}

fn validate_leg(index: usize, leg: &Leg) -> Result<(), InvalidTerms> {
    let field = |name: &str| format!("legs[{index}].{name}");
    check_rate(field("rate"), leg.rate)?;
    if let Some(min) = leg.min {
        check_rate(field("min"), min)?;
    }
    if let Some(max) = leg.max {
        check_rate(field("max"), max)?;
        if leg.min.is_some_and(|min| min > max) {
            return Err(invalid(field("max"), "must not be less than min"));
        }
    }
    if leg.from == leg.to {
        return Err(invalid(field("to"), "must differ from `from`"));
    }
    let redeemer = leg.from == LegParty::Redeemer || leg.to == LegParty::Redeemer;
    if redeemer && leg.trigger != Trigger::Redeem {
        return Err(invalid(field("from"), "only a REDEEM leg has a redeemer"));
    }
    if leg.trigger == Trigger::Expire && (!leg.names_issuer() || leg.basis == Basis::Basket) {
        return Err(invalid(
            field("basis"),
            "an EXPIRE leg names the issuer and has no basket",
        ));
    }
    Ok(())
}

/// The legs of *settle at issue*: the issuer buys points when they are earned, the operator pays
/// the redeemer when they are spent.
#[must_use]
pub fn settle_at_issue(issue_price: Decimal, reimbursement: Decimal) -> Vec<Leg> {
    vec![
        Leg::per_point(
            Trigger::Earn,
            LegParty::Issuer,
            LegParty::Operator,
            issue_price,
        ),
        Leg::per_point(
            Trigger::Redeem,
            LegParty::Operator,
            LegParty::Redeemer,
            reimbursement,
        ),
    ]
}

/// The legs of *settle at redemption*: the issuer pays when its points are spent.
#[must_use]
pub fn settle_at_redemption(redemption_price: Decimal, reimbursement: Decimal) -> Vec<Leg> {
    vec![
        Leg::per_point(
            Trigger::Redeem,
            LegParty::Issuer,
            LegParty::Operator,
            redemption_price,
        ),
        Leg::per_point(
            Trigger::Redeem,
            LegParty::Operator,
            LegParty::Redeemer,
            reimbursement,
        ),
    ]
}

/// The legs of *bilateral*: the issuer pays the redeemer, and the operator a fee.
#[must_use]
pub fn bilateral(price: Decimal, fee: Decimal) -> Vec<Leg> {
    vec![
        Leg::per_point(Trigger::Redeem, LegParty::Issuer, LegParty::Redeemer, price),
        Leg::per_point(Trigger::Redeem, LegParty::Issuer, LegParty::Operator, fee),
    ]
}

/// One agreement version that both sides accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The version's own id.
    pub id: AgreementId,
    /// Whose terms these are; in an agreement of a pair, the issuer.
    pub partner: PartnerId,
    /// In an agreement of a pair, the redeemer.
    pub counterparty: Option<PartnerId>,
    /// When the version comes into force; the next one ends it.
    pub effective_at: Timestamp,
    /// What was agreed.
    pub terms: Terms,
}
