//! Who takes part in the demo, and on which terms.

use std::sync::Arc;

use coalition_ledger::ids::{PartnerId, Party};
use coalition_ledger::money::Currency;
use coalition_proto::common::{IdentifierType, Money};
use coalition_proto::partner::leg_party::Party as PartyKey;
use coalition_proto::partner::terms::Preset;
use coalition_proto::partner::{
    Bilateral, Funder, Leg, LegBasis, LegParty, LegRounding, LegTrigger, PartnerKind, PartyRole,
    Prepaid, SettleAtIssue, SettleAtRedemption, Terms,
};
use rust_decimal::Decimal;

use super::{IN_FLIGHT, OPENING};
use crate::client::setup::{NewPartner, Registrar};
use crate::client::{Caller, Client, RequestIds, Who};

/// The currency of everything in the demo.
pub(super) const CURRENCY: Currency = Currency::EUR;

/// What the redeemer gets per point.
const REIMBURSEMENT: &str = "0.0085";

/// What an issuer pays per point, as it is earned or as it is spent.
const PRICE: &str = "0.0095";

/// The partners by their place in [`SHOPS`], where terms name them.
const KAFFEE: usize = 1;
const SAFRAN: usize = 2;
pub(super) const BRUNO: usize = 4;
const MIRA: usize = 6;
const LENZ: usize = 7;

/// A shop of the demo.
pub(super) struct Shop {
    code: &'static str,
    pub(super) name: &'static str,
    /// At most seven letters, to head a column.
    pub(super) short: &'static str,
    kind: PartnerKind,
    /// How it settles, in a few words.
    pub(super) model: &'static str,
    /// The least and the most that a check comes to, in cents.
    pub(super) check_minor: (i64, i64),
    pub(super) points_per_unit: &'static str,
    pub(super) lot_lifetime_days: i32,
}

/// The shops of the demo.
pub(super) const SHOPS: [Shop; 8] = [
    Shop {
        code: "trattoria-lucia",
        name: "Trattoria Lucia",
        short: "Lucia",
        kind: PartnerKind::Restaurant,
        model: "at issue",
        check_minor: (1_800, 9_500),
        points_per_unit: "5",
        lot_lifetime_days: 365,
    },
    Shop {
        code: "nordlicht-kaffee",
        name: "Nordlicht Kaffee",
        short: "Kaffee",
        kind: PartnerKind::Restaurant,
        model: "at redemption",
        check_minor: (320, 1_450),
        points_per_unit: "6",
        lot_lifetime_days: 14,
    },
    Shop {
        code: "salon-safran",
        name: "Salon Safran",
        short: "Safran",
        kind: PartnerKind::Salon,
        model: "at redemption, with a fee",
        check_minor: (2_900, 14_000),
        points_per_unit: "4",
        lot_lifetime_days: 180,
    },
    Shop {
        code: "kiezgrill-36",
        name: "Kiezgrill 36",
        short: "Grill",
        kind: PartnerKind::Restaurant,
        model: "bilaterally, at redemption",
        check_minor: (650, 2_400),
        points_per_unit: "5",
        lot_lifetime_days: 21,
    },
    Shop {
        code: "barbier-bruno",
        name: "Barbier Bruno",
        short: "Bruno",
        kind: PartnerKind::Salon,
        model: "at issue, out of a prepaid block",
        check_minor: (2_200, 4_800),
        points_per_unit: "5",
        lot_lifetime_days: 90,
    },
    Shop {
        code: "pho-hanoi",
        name: "Pho Hanoi",
        short: "Hanoi",
        kind: PartnerKind::Restaurant,
        model: "at issue; breakage is shared",
        check_minor: (950, 4_200),
        points_per_unit: "5",
        lot_lifetime_days: 10,
    },
    Shop {
        code: "studio-mira",
        name: "Studio Mira",
        short: "Mira",
        kind: PartnerKind::Salon,
        model: "at redemption; a pair with Safran",
        check_minor: (3_500, 11_000),
        points_per_unit: "4",
        lot_lifetime_days: 120,
    },
    Shop {
        code: "buch-lenz",
        name: "Buchhandlung Lenz",
        short: "Lenz",
        kind: PartnerKind::Shop,
        model: "at issue; funded 60/40 with Kaffee",
        check_minor: (900, 6_000),
        points_per_unit: "5",
        lot_lifetime_days: 365,
    },
];

/// What a point is worth at every till of the demo.
pub(super) fn face_value() -> (Currency, Decimal) {
    (CURRENCY, Decimal::new(1, 2))
}

/// An amount of euro, in cents.
pub(super) fn euro(amount: i64) -> Money {
    Money {
        currency_code: CURRENCY.code().to_owned(),
        amount,
    }
}

/// The network as it stands on the first morning.
pub(super) struct Town {
    pub(super) ids: Arc<RequestIds>,
    pub(super) partners: Vec<PartnerId>,
    /// The tills, in the order of the shops.
    pub(super) tills: Vec<Caller>,
    pub(super) maker: Caller,
    /// The members' ids.
    pub(super) members: Vec<String>,
    pub(super) registrar: Registrar,
}

impl Town {
    /// Takes in partners, their agreements and the members.
    pub(super) async fn furnish(
        client: &Client,
        ids: Arc<RequestIds>,
        members: u16,
    ) -> anyhow::Result<Self> {
        let registrar = Registrar::new(client.clone(), Arc::clone(&ids), OPENING);
        registrar.set_clock(OPENING).await?;
        let mut partners = Vec::new();
        for shop in &SHOPS {
            let partner = NewPartner {
                code: shop.code.to_owned(),
                display_name: shop.name.to_owned(),
                kind: shop.kind,
            };
            partners.push(registrar.create_partner(&partner).await?);
        }
        for (n, partner) in partners.iter().enumerate() {
            registrar.agree(*partner, terms(n, &partners)).await?;
        }
        let (safran, mira) = (partners[SAFRAN], partners[MIRA]);
        registrar.agree_as_pair(safran, mira, sisters()).await?;
        let cards: Vec<String> = (0..members).map(|n| format!("4000{n:08}")).collect();
        let members = registrar
            .enroll(IdentifierType::Card, &cards, IN_FLIGHT, || {})
            .await?;
        let tills = partners.iter().map(|id| client.caller(Who::Till(*id)));
        Ok(Self {
            ids,
            tills: tills.collect::<Result<_, _>>()?,
            maker: client.caller(Who::MAKER)?,
            partners,
            members,
            registrar,
        })
    }
}

/// The terms of a shop.
fn terms(shop: usize, partners: &[PartnerId]) -> Terms {
    use LegTrigger::{Expire, Redeem};
    use PartyRole::{Issuer, Operator, Redeemer};

    let facts = &SHOPS[shop];
    let base = Terms {
        currency_code: CURRENCY.code().to_owned(),
        points_per_unit: facts.points_per_unit.to_owned(),
        lot_lifetime_days: facts.lot_lifetime_days,
        ..Terms::default()
    };
    let at_issue = Preset::SettleAtIssue(SettleAtIssue {
        issue_price_per_point: PRICE.to_owned(),
        reimbursement_per_point: REIMBURSEMENT.to_owned(),
    });
    let at_redemption = Preset::SettleAtRedemption(SettleAtRedemption {
        redemption_price_per_point: PRICE.to_owned(),
        reimbursement_per_point: REIMBURSEMENT.to_owned(),
    });
    match facts.short {
        // Pays whoever takes its points a little by itself; the rest goes over the operator.
        "Grill" => Terms {
            preset: Some(Preset::Bilateral(Bilateral {
                price_per_point: "0.001".to_owned(),
                fee_per_point: "0.009".to_owned(),
            })),
            legs: vec![per_point(Redeem, Operator, Redeemer, REIMBURSEMENT)],
            ..base
        },
        "Safran" => Terms {
            preset: Some(at_redemption),
            legs: vec![Leg {
                basis: LegBasis::FaceValue.into(),
                rounding: Some(LegRounding::Minor.into()),
                ..per_point(Redeem, Redeemer, Operator, "0.0125")
            }],
            ..base
        },
        "Bruno" => Terms {
            preset: Some(Preset::Prepaid(Prepaid {
                issue_price_per_point: PRICE.to_owned(),
                reimbursement_per_point: REIMBURSEMENT.to_owned(),
            })),
            ..base
        },
        // Gets back half of what nobody spent.
        "Hanoi" => Terms {
            preset: Some(at_issue),
            legs: vec![per_point(Expire, Operator, Issuer, "0.00475")],
            ..base
        },
        "Lenz" => Terms {
            preset: Some(at_issue),
            funders: vec![funder(partners[LENZ], 60), funder(partners[KAFFEE], 40)],
            ..base
        },
        "Lucia" => Terms {
            preset: Some(at_issue),
            pending_days: 1,
            ..base
        },
        _ => Terms {
            preset: Some(at_redemption),
            ..base
        },
    }
}

/// What Salon Safran and Studio Mira agree on between themselves: Safran's points spent at Mira are
/// settled without the operator in between, who gets a small fee.
fn sisters() -> Terms {
    Terms {
        currency_code: CURRENCY.code().to_owned(),
        lot_lifetime_days: SHOPS[SAFRAN].lot_lifetime_days,
        preset: Some(Preset::Bilateral(Bilateral {
            price_per_point: "0.0092".to_owned(),
            fee_per_point: "0.0002".to_owned(),
        })),
        ..Terms::default()
    }
}

fn funder(partner: PartnerId, weight: i32) -> Funder {
    Funder {
        party: Party::Partner(partner).to_string(),
        weight,
    }
}

fn per_point(trigger: LegTrigger, from: PartyRole, to: PartyRole, rate: &str) -> Leg {
    let party = |role: PartyRole| {
        Some(LegParty {
            party: Some(PartyKey::Role(role.into())),
        })
    };
    Leg {
        trigger: trigger.into(),
        from: party(from),
        to: party(to),
        basis: LegBasis::PerPoint.into(),
        rate: rate.to_owned(),
        min: None,
        max: None,
        rounding: None,
    }
}
