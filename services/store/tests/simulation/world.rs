//! The network of a run: a few partners whose limits bind often, and members who meet often.

use coalition_ledger::agreement::{
    Funder, Leg, LegParty, ReturnPolicy, Terms, Trigger, bilateral, settle_at_issue,
    settle_at_redemption,
};
use coalition_ledger::ids::{AgreementId, MemberId, PartnerId, WindowId};
use coalition_ledger::money::{Currency, Micros};
use coalition_ledger::rulebook::{Partner, PartnerStatus};
use coalition_ledger::time::Timestamp;
use coalition_store::model::{
    AgreementRow, AgreementState, Mode, Network, NetworkTerms, Side, Window, WindowState,
};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::database::Tables;

/// Partners of every network.
pub(crate) const PARTNERS: u32 = 3;
/// Members whom every run begins with.
pub(crate) const MEMBERS: u32 = 3;
/// When every run begins, for the network and for the system: 2027-01-01T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp::from_micros(1_798_761_600_000_000);

pub(crate) fn partner(number: u32) -> PartnerId {
    PartnerId::from_uuid(Uuid::from_u128(0x0a00 + u128::from(number)))
}

pub(crate) fn member(number: u32) -> MemberId {
    MemberId::from_uuid(Uuid::from_u128(0x0b00 + u128::from(number)))
}

/// A network.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) face_values: Vec<(Currency, Decimal)>,
    pub(crate) partners: Vec<Partner>,
    pub(crate) first_terms: Vec<AgreementRow>,
}

impl World {
    pub(crate) fn random(rng: &mut fastrand::Rng) -> Self {
        let partners = (0..PARTNERS).map(|number| Partner {
            id: partner(number),
            status: PartnerStatus::Active,
        });
        let first_terms = (0..PARTNERS).map(|number| AgreementRow {
            id: AgreementId::from_uuid(Uuid::from_u128(0x0c00 + u128::from(number))),
            partner: partner(number),
            counterparty: None,
            version: 1,
            state: AgreementState::Accepted,
            proposed_by: Side::Operator,
            proposer: "maker".to_owned(),
            proposed_at: Timestamp::from_micros(0),
            accepter: Some("taker".to_owned()),
            accepted_at: Some(Timestamp::from_micros(0)),
            effective_at: Some(Timestamp::from_micros(0)),
            counterparty_accepter: None,
            counterparty_accepted_at: None,
            terms: terms(rng, number),
        });
        Self {
            face_values: vec![(Currency::EUR, Decimal::new(1, 2))],
            partners: partners.collect(),
            first_terms: first_terms.collect(),
        }
    }

    /// The tables that a run begins with.
    pub(crate) fn tables(&self) -> Tables {
        let network = Network {
            id: Uuid::from_u128(1),
            terms: NetworkTerms {
                mode: Mode::Sandbox,
                face_values: self.face_values.clone(),
            },
            clock: Some(START),
            rulebook_version: 1,
        };
        let first = Window {
            id: WindowId::from_uuid(Uuid::from_u128(0x0d01)),
            number: 1,
            state: WindowState::Open,
            opened_at: START,
            closed_at: None,
            last_transaction: None,
            totals_hash: None,
        };
        let mut tables = Tables::new(network, self.partners.clone(), first);
        for row in &self.first_terms {
            tables.agreements.lay_down(row.id, row.clone());
        }
        tables
    }
}

/// Random terms: a point per euro, worth about a cent; limits of about what a few checks cost.
pub(crate) fn terms(rng: &mut fastrand::Rng, number: u32) -> Terms {
    let price = |rng: &mut fastrand::Rng| Decimal::new(rng.i64(5_000..=12_000), 6);
    let (first, second) = (price(rng), price(rng));
    let mut legs = match rng.u32(0..5) {
        0..=1 => settle_at_issue(first, second),
        2..=3 => settle_at_redemption(first, second),
        _ => bilateral(first, second),
    };
    if rng.u32(0..4) == 0 {
        let (from, to) = (LegParty::Operator, LegParty::Issuer);
        legs.push(Leg::per_point(Trigger::Expire, from, to, price(rng)));
    }
    let other = partner((number + 1) % PARTNERS);
    let funders = [(partner(number), 2), (other, 1)];
    let funders = funders.map(|(partner, weight)| Funder {
        party: partner.into(),
        weight,
    });
    let is_shared = rng.u32(0..4) == 0;
    let lot_lifetime_days = rng.u32(1..=4);
    Terms {
        currency: Currency::EUR,
        points_per_unit: Decimal::ONE,
        lot_lifetime_days,
        pending_days: rng.u32(0..=1).min(lot_lifetime_days - 1),
        return_policy: if rng.bool() {
            ReturnPolicy::AllowNegative
        } else {
            ReturnPolicy::WithinBalance
        },
        include_tax: false,
        include_tip: false,
        include_gift_cards: false,
        funders: if is_shared {
            funders.to_vec()
        } else {
            Vec::new()
        },
        limit: match rng.u32(0..4) {
            0 => None,
            1 => Some(Micros::ZERO),
            _ => Some(Micros::new(rng.i64(100_000..=1_500_000))),
        },
        net_inbound: rng.bool(),
        alert_below_points: None,
        legs,
    }
}
