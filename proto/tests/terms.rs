//! What the field rules let pass and what they refuse in the terms of an agreement.

use coalition_proto::partner::{
    Funder, Leg, LegBasis, LegParty, LegTrigger, PartyRole, ProposeAgreementRequest, SettleAtIssue,
    Terms, leg_party, terms,
};
use coalition_proto::validate::{MAX_VIOLATIONS, check};
use verdicts::{passes, refuses};

#[path = "support/verdicts.rs"]
mod verdicts;

const REQUEST_ID: &str = "0198f9d2-6b1a-7c3e-8f00-3b9d1c5e7a42";
const PARTNER: &str = "ptr_01h455vb4pex5vsknk084sn02q";

#[test]
fn terms_that_break_nothing_pass() {
    passes(&terms_with(terms()));
}

#[test]
fn rates_are_plain_decimals() {
    let with = |rate: &str| {
        terms_with(Terms {
            points_per_unit: rate.to_owned(),
            ..terms()
        })
    };
    let limited = |limit: &str| {
        terms_with(Terms {
            limit: Some(limit.to_owned()),
            ..terms()
        })
    };
    for good in [
        "0",
        "2",
        "0.0085",
        "999999999999.999999999999",
        "0.000000000001",
    ] {
        passes(&with(good));
    }
    for bad in [
        "-1",
        "+1",
        "1.",
        ".5",
        "01",
        "1,00",
        "1e9",
        "NaN",
        "inf",
        " 1",
        "1 ",
        "1_000",
        "0x1",
        "1.0000000000001",
        "1000000000000",
        "1.5.5",
        "١",
    ] {
        refuses(
            &with(bad),
            &[r"terms.points_per_unit must match ^(0|[1-9][0-9]{0,11})(\.[0-9]{1,12})?$"],
        );
    }
    // Money is counted in micro-units.
    passes(&limited("999999999999.999999"));
    for bad in ["0.0000001", "1000000000000", "-1", "1e9"] {
        refuses(
            &limited(bad),
            &[r"terms.limit must match ^(0|[1-9][0-9]{0,11})(\.[0-9]{1,6})?$"],
        );
    }
    // Left out is something else than empty: no earning, no limit.
    passes(&terms_with(Terms {
        points_per_unit: String::new(),
        limit: None,
        ..terms()
    }));
    refuses(
        &terms_with(Terms {
            limit: Some(String::new()),
            ..terms()
        }),
        &[r"terms.limit must match ^(0|[1-9][0-9]{0,11})(\.[0-9]{1,6})?$"],
    );
}

#[test]
fn terms_are_checked_to_the_last_leg() {
    refuses(
        &terms_with(Terms {
            lot_lifetime_days: 0,
            pending_days: -1,
            funders: vec![Funder {
                party: "somebody".to_owned(),
                weight: 0,
            }],
            legs: vec![
                leg(),
                Leg {
                    from: Some(LegParty { party: None }),
                    to: None,
                    rounding: Some(9),
                    ..leg()
                },
            ],
            preset: Some(terms::Preset::SettleAtIssue(SettleAtIssue {
                issue_price_per_point: "free".to_owned(),
                reimbursement_per_point: "0".to_owned(),
            })),
            ..terms()
        }),
        &[
            "terms.lot_lifetime_days must be at least 1",
            "terms.pending_days must be at least 0",
            "terms.funders[0].party must match ^(OPERATOR|ptr_[0-7][0-9a-hjkmnp-tv-z]{25})$",
            "terms.funders[0].weight must be at least 1",
            "terms.legs[1].from.party one of its fields is required",
            "terms.legs[1].to is required",
            "terms.legs[1].rounding must be one of the values known to this network",
            r"terms.settle_at_issue.issue_price_per_point must match ^(0|[1-9][0-9]{0,11})(\.[0-9]{1,12})?$",
        ],
    );
}

#[test]
fn violations_are_bounded() {
    let request = terms_with(Terms {
        legs: vec![Leg::default(); 32],
        ..terms()
    });
    let violations = check(&request).expect_err("every leg is empty");
    assert_eq!(violations.len(), MAX_VIOLATIONS);
}

fn terms() -> Terms {
    Terms {
        currency_code: "EUR".to_owned(),
        points_per_unit: "2".to_owned(),
        lot_lifetime_days: 365,
        legs: vec![leg()],
        ..Terms::default()
    }
}

fn terms_with(terms: Terms) -> ProposeAgreementRequest {
    ProposeAgreementRequest {
        request_id: REQUEST_ID.to_owned(),
        partner_id: PARTNER.to_owned(),
        terms: Some(terms),
        ..ProposeAgreementRequest::default()
    }
}

fn leg() -> Leg {
    let party = |role: PartyRole| {
        Some(LegParty {
            party: Some(leg_party::Party::Role(role.into())),
        })
    };
    Leg {
        trigger: LegTrigger::Redeem.into(),
        from: party(PartyRole::Issuer),
        to: party(PartyRole::Redeemer),
        basis: LegBasis::PerPoint.into(),
        rate: "0.0085".to_owned(),
        ..Leg::default()
    }
}
