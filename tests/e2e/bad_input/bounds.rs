//! The bounds of terms stand in two places: in the protos, for partners, and in the ledger, for the
//! books. They are the same bounds: whatever one lets pass, the other does.

use coalition_ledger::agreement::{
    Basis, Funder, Leg, LegParty, MAX_DAYS, MAX_FUNDERS, MAX_LEGS, MAX_RATE, MAX_RATE_SCALE,
    ReturnPolicy, Rounding, Terms, Trigger,
};
use coalition_ledger::ids::PartnerId;
use coalition_ledger::money::{Currency, Micros, Points};
use coalition_proto::partner as pb;
use coalition_proto::partner::leg_party::Party as Named;
use coalition_proto::validate::check;
use coalition_tests::request_id;
use rust_decimal::Decimal;
use uuid::Uuid;

/// Terms as both know them, changed in one place.
struct Pair {
    proto: pb::Terms,
    ledger: Terms,
}

#[test]
fn protos_and_ledger_have_the_same_bounds() {
    let days = i32::try_from(MAX_DAYS).expect("it is small");
    let mut tried = 0;
    let mut same = |what: String, fine: bool, change: &dyn Fn(&mut Pair)| {
        let mut pair = good();
        change(&mut pair);
        let request = pb::ProposeAgreementRequest {
            request_id: request_id(),
            terms: Some(pair.proto),
            ..pb::ProposeAgreementRequest::default()
        };
        assert_eq!(check(&request).is_ok(), fine, "{what}: in the protos");
        let verdict = pair.ledger.validate();
        assert_eq!(verdict.is_ok(), fine, "{what}: in the ledger: {verdict:?}");
        tried += 1;
    };
    same("as they are".to_owned(), true, &|_| ());
    for (count, fine) in [(MAX_FUNDERS, true), (MAX_FUNDERS + 1, false)] {
        same(format!("{count} funders"), fine, &move |pair| {
            for number in 0..count {
                let party = PartnerId::from_uuid(Uuid::from_u128(number as u128 + 1));
                pair.ledger.funders.push(Funder {
                    party: party.into(),
                    weight: 1,
                });
                pair.proto.funders.push(pb::Funder {
                    party: party.to_string(),
                    weight: 1,
                });
            }
        });
    }
    for (weight, fine) in [(0, false), (1, true), (1_000_000, true), (1_000_001, false)] {
        same(format!("weight {weight}"), fine, &move |pair| {
            let party = PartnerId::from_uuid(Uuid::from_u128(1));
            pair.ledger.funders = vec![Funder {
                party: party.into(),
                weight,
            }];
            pair.proto.funders = vec![pb::Funder {
                party: party.to_string(),
                weight: i32::try_from(weight).expect("it is small"),
            }];
        });
    }
    for (count, fine) in [(MAX_LEGS, true), (MAX_LEGS + 1, false)] {
        same(format!("{count} legs"), fine, &move |pair| {
            pair.ledger.legs = vec![pair.ledger.legs[0].clone(); count];
            pair.proto.legs = vec![pair.proto.legs[0].clone(); count];
        });
    }
    for (count, fine) in [(0, false), (1, true), (days, true), (days + 1, false)] {
        same(format!("{count} days"), fine, &move |pair| {
            pair.ledger.lot_lifetime_days = count.unsigned_abs();
            pair.proto.lot_lifetime_days = count;
        });
    }
    let points = 1_000_000_000_000;
    for (least, fine) in [(-1, false), (0, true), (points, true)] {
        same(format!("alert below {least}"), fine, &move |pair| {
            pair.ledger.alert_below_points = Some(Points::new(least));
            pair.proto.alert_below_points = least;
        });
    }
    for (rate, fine) in rates() {
        for place in ["points_per_unit", "rate", "min", "max"] {
            same(format!("{place} {rate}"), fine, &|pair| {
                let exact = Decimal::from_str_exact(&rate).expect("a decimal");
                let (ours, theirs) = (&mut pair.ledger.legs[0], &mut pair.proto.legs[0]);
                match place {
                    "points_per_unit" => {
                        pair.ledger.points_per_unit = exact;
                        pair.proto.points_per_unit.clone_from(&rate);
                    }
                    "rate" => {
                        ours.rate = exact;
                        theirs.rate.clone_from(&rate);
                    }
                    "min" => {
                        ours.min = Some(exact);
                        theirs.min = Some(rate.clone());
                    }
                    _ => {
                        ours.max = Some(exact);
                        theirs.max = Some(rate.clone());
                    }
                }
            });
        }
    }
    // A limit is money: micro-units are the finest there is, and the ledger holds nothing finer.
    for (limit, fine) in [("0", true), ("999999999999.999999", true), ("-1", false)] {
        same(format!("limit {limit}"), fine, &move |pair| {
            let major = Decimal::from_str_exact(limit).expect("a decimal");
            pair.ledger.limit = Some(Micros::from_major(major).expect("it is in range"));
            pair.proto.limit = Some(limit.to_owned());
        });
    }
    crate::told(&format!("bounds of terms: {tried} tried on both sides"));
}

/// Decimals at the ends of the range, and just beyond.
fn rates() -> [(String, bool); 6] {
    let scale = usize::try_from(MAX_RATE_SCALE).expect("it is small");
    let finest = format!("0.{}1", "0".repeat(scale - 1));
    let most = format!("{}.{}", MAX_RATE - 1, "9".repeat(scale));
    [
        ("0".to_owned(), true),
        (finest, true),
        (most, true),
        (MAX_RATE.to_string(), false),
        (format!("0.{}1", "0".repeat(scale)), false),
        ("-1".to_owned(), false),
    ]
}

fn good() -> Pair {
    let role = |role: pb::PartyRole| {
        Some(pb::LegParty {
            party: Some(Named::Role(role.into())),
        })
    };
    Pair {
        proto: pb::Terms {
            currency_code: "EUR".to_owned(),
            points_per_unit: "1".to_owned(),
            lot_lifetime_days: 365,
            legs: vec![pb::Leg {
                trigger: pb::LegTrigger::Earn.into(),
                from: role(pb::PartyRole::Issuer),
                to: role(pb::PartyRole::Operator),
                basis: pb::LegBasis::PerPoint.into(),
                rate: "1".to_owned(),
                ..pb::Leg::default()
            }],
            ..pb::Terms::default()
        },
        ledger: Terms {
            currency: Currency::EUR,
            points_per_unit: Decimal::ONE,
            lot_lifetime_days: 365,
            pending_days: 0,
            return_policy: ReturnPolicy::default(),
            include_tax: false,
            include_tip: false,
            include_gift_cards: false,
            funders: Vec::new(),
            limit: None,
            net_inbound: false,
            alert_below_points: None,
            legs: vec![Leg {
                trigger: Trigger::Earn,
                from: LegParty::Issuer,
                to: LegParty::Operator,
                basis: Basis::PerPoint,
                rate: Decimal::ONE,
                min: None,
                max: None,
                rounding: Rounding::Micro,
            }],
        },
    }
}
