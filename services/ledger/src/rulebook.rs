//! The rulebook: who is in the network and what was agreed.
//!
//! It changes rarely (a partner joins, an agreement comes into force) and every change has a new
//! version, so a process keeps one in memory and reads it again when the version moved.

use std::collections::{BTreeMap, HashMap};

use rust_decimal::Decimal;

use crate::agreement::Agreement;
use crate::ids::{AgreementId, PartnerId, Party};
use crate::money::{Currency, Micros, OutOfRange, Points};
use crate::time::{MICROS_PER_DAY, MICROS_PER_SECOND, Timestamp};

/// How far ahead of the network's time a check may say it happened.
pub const MAX_AHEAD_MICROS: i64 = 5 * 60 * MICROS_PER_SECOND;
/// How old a check may be when it arrives, unless the network set another age.
pub const DEFAULT_STORE_AND_FORWARD_MICROS: i64 = 7 * MICROS_PER_DAY;

/// Whether a partner trades in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PartnerStatus {
    /// It does.
    Active,
    /// It may neither earn nor redeem.
    Suspended,
}

/// A partner, as far as the books care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partner {
    /// Its id.
    pub id: PartnerId,
    /// Whether it trades.
    pub status: PartnerStatus,
}

/// Everything that decisions depend on and that no posting changes.
#[derive(Clone, Debug, Default)]
pub struct Rulebook {
    /// Which edition this is; it moves with every change.
    pub version: i64,
    face_values: BTreeMap<&'static str, Decimal>,
    partners: HashMap<PartnerId, Partner>,
    by_id: HashMap<AgreementId, Agreement>,
    own: HashMap<PartnerId, Vec<(Timestamp, AgreementId)>>,
    pairs: HashMap<(PartnerId, PartnerId), Vec<(Timestamp, AgreementId)>>,
}

impl Rulebook {
    /// A rulebook with these face values (major units per point), partners and accepted agreement
    /// versions.
    #[must_use]
    pub fn new(
        version: i64,
        face_values: impl IntoIterator<Item = (Currency, Decimal)>,
        partners: impl IntoIterator<Item = Partner>,
        agreements: impl IntoIterator<Item = Agreement>,
    ) -> Self {
        let mut book = Self {
            version,
            face_values: face_values
                .into_iter()
                .map(|(c, value)| (c.code(), value))
                .collect(),
            partners: partners.into_iter().map(|p| (p.id, p)).collect(),
            ..Self::default()
        };
        for agreement in agreements {
            let entry = (agreement.effective_at, agreement.id);
            match agreement.counterparty {
                None => book.own.entry(agreement.partner).or_default().push(entry),
                Some(other) => book
                    .pairs
                    .entry((agreement.partner, other))
                    .or_default()
                    .push(entry),
            }
            book.by_id.insert(agreement.id, agreement);
        }
        book.own
            .values_mut()
            .chain(book.pairs.values_mut())
            .for_each(|versions| versions.sort());
        book
    }

    /// The partner, if it is in the network.
    #[must_use]
    pub fn partner(&self, id: PartnerId) -> Option<&Partner> {
        self.partners.get(&id)
    }

    /// The version with this id.
    #[must_use]
    pub fn agreement(&self, id: AgreementId) -> Option<&Agreement> {
        self.by_id.get(&id)
    }

    /// The partner's own version in force at `at`.
    #[must_use]
    pub fn in_force(&self, partner: PartnerId, at: Timestamp) -> Option<&Agreement> {
        self.latest(self.own.get(&partner)?, at)
    }

    /// The version of the pair in force at `at`.
    #[must_use]
    pub fn pair_in_force(
        &self,
        issuer: PartnerId,
        redeemer: PartnerId,
        at: Timestamp,
    ) -> Option<&Agreement> {
        if self.pairs.is_empty() {
            return None;
        }
        self.latest(self.pairs.get(&(issuer, redeemer))?, at)
    }

    fn latest(&self, versions: &[(Timestamp, AgreementId)], at: Timestamp) -> Option<&Agreement> {
        let (_, id) = versions
            .iter()
            .rev()
            .find(|(effective_at, _)| *effective_at <= at)?;
        self.by_id.get(id)
    }

    /// Major units of `currency` that one point is worth at the till.
    #[must_use]
    pub fn face_value(&self, currency: Currency) -> Option<Decimal> {
        self.face_values.get(currency.code()).copied()
    }

    /// The face value of `points`, half up to a micro-unit.
    pub fn worth(&self, points: Points, currency: Currency) -> Result<Micros, OutOfRange> {
        let value = self.face_value(currency).ok_or(OutOfRange)?;
        Micros::from_major(
            Decimal::from(points.get())
                .checked_mul(value)
                .ok_or(OutOfRange)?,
        )
    }

    /// How many whole points a money amount in micro-units buys at face value, rounded down.
    pub fn points_for(&self, money: Micros, currency: Currency) -> Result<Points, OutOfRange> {
        use rust_decimal::prelude::ToPrimitive;
        let value = self.face_value(currency).ok_or(OutOfRange)?;
        let points = money
            .to_major()
            .checked_div(value)
            .ok_or(OutOfRange)?
            .floor();
        points.to_i64().map(Points::new).ok_or(OutOfRange)
    }

    /// The limit that binds `party` in `currency` at `at`, with whether credits count.
    #[must_use]
    pub fn limit(&self, party: Party, currency: Currency, at: Timestamp) -> Option<(Micros, bool)> {
        let terms = &self.in_force(party.partner()?, at)?.terms;
        if terms.currency != currency {
            return None;
        }
        terms.limit.map(|limit| (limit, terms.net_inbound))
    }

    /// All partners, in no order.
    pub fn partners(&self) -> impl Iterator<Item = &Partner> {
        self.partners.values()
    }

    /// All currencies that the network keeps books in.
    pub fn currencies(&self) -> impl Iterator<Item = Currency> {
        self.face_values
            .keys()
            .filter_map(|code| Currency::from_code(code))
    }
}
