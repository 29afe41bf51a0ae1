//! Commercial terms: from messages to legs and back.
//!
//! A preset is written out into its legs here, once; from then on there are only legs. Decimals are
//! read exactly or not at all.

use coalition_ledger::agreement::{
    Basis, Funder, InvalidTerms, Leg, LegParty, MAX_RATE_SCALE, ReturnPolicy, Rounding, Terms,
    Trigger, bilateral, settle_at_issue, settle_at_redemption,
};
use coalition_ledger::ids::{PartnerId, Party};
use coalition_ledger::money::{Micros, Points};
use coalition_proto::partner as pb;
use coalition_proto::partner::leg_party::Party as NamedParty;
use coalition_proto::partner::terms::Preset;
use coalition_rpc::Problem;
use coalition_rpc::convert::currency;
use coalition_rpc::request::id;
use rust_decimal::Decimal;

/// The terms of a proposal.
///
/// # Errors
///
/// INVALID_ARGUMENT that names the field: AGREEMENT_INVALID where the fields contradict each other.
pub(crate) fn read(message: &pb::Terms) -> Result<Terms, Problem> {
    let preset = message.preset.as_ref().map(preset_legs).transpose()?;
    let mut legs = preset.unwrap_or_default();
    let written = legs.len();
    for (place, leg) in message.legs.iter().enumerate() {
        legs.push(read_leg(&format!("terms.legs[{place}]"), leg)?);
    }
    let funders = message.funders.iter().enumerate();
    let funders = funders.map(|(place, funder)| read_funder(place, funder));
    let terms = Terms {
        currency: currency("terms.currency_code", &message.currency_code)?,
        points_per_unit: match message.points_per_unit.as_str() {
            "" => Decimal::ZERO,
            text => decimal("terms.points_per_unit", text)?,
        },
        lot_lifetime_days: days("terms.lot_lifetime_days", message.lot_lifetime_days)?,
        pending_days: days("terms.pending_days", message.pending_days)?,
        return_policy: match message.return_policy() {
            pb::ReturnPolicy::Unspecified | pb::ReturnPolicy::AllowNegative => {
                ReturnPolicy::AllowNegative
            }
            pb::ReturnPolicy::WithinBalance => ReturnPolicy::WithinBalance,
        },
        include_tax: message.include_tax,
        include_tip: message.include_tip,
        include_gift_cards: message.include_gift_cards,
        funders: funders.collect::<Result<_, _>>()?,
        limit: limit(message)?,
        net_inbound: message.net_inbound,
        alert_below_points: Some(message.alert_below_points)
            .filter(|points| *points != 0)
            .map(Points::new),
        legs,
    };
    terms
        .validate()
        .map_err(|invalid| in_words_of_the_request(invalid, written))?;
    Ok(terms)
}

/// The terms of a proposal for a pair of partners.
///
/// # Errors
///
/// As [`read`]; AGREEMENT_INVALID for a leg that would never apply.
pub(crate) fn read_pair(message: &pb::Terms) -> Result<Terms, Problem> {
    let terms = read(message)?;
    let written = terms.legs.len() - message.legs.len();
    let checked = terms.validate_pair();
    checked.map_err(|invalid| in_words_of_the_request(invalid, written))?;
    Ok(terms)
}

/// The message of terms: every preset written out.
pub(crate) fn write(terms: &Terms) -> pb::Terms {
    pb::Terms {
        currency_code: terms.currency.code().to_owned(),
        points_per_unit: text(terms.points_per_unit),
        lot_lifetime_days: i32::try_from(terms.lot_lifetime_days).unwrap_or(i32::MAX),
        pending_days: i32::try_from(terms.pending_days).unwrap_or(i32::MAX),
        return_policy: Some(
            match terms.return_policy {
                ReturnPolicy::AllowNegative => pb::ReturnPolicy::AllowNegative,
                ReturnPolicy::WithinBalance => pb::ReturnPolicy::WithinBalance,
            }
            .into(),
        ),
        include_tax: terms.include_tax,
        include_tip: terms.include_tip,
        include_gift_cards: terms.include_gift_cards,
        funders: terms.funders.iter().map(write_funder).collect(),
        limit: terms.limit.map(|limit| text(limit.to_major())),
        net_inbound: terms.net_inbound,
        alert_below_points: terms.alert_below_points.map_or(0, Points::get),
        legs: terms.legs.iter().map(write_leg).collect(),
        preset: None,
    }
}

/// Where the terms name this partner first: the path of the field.
pub(crate) fn names(message: &pb::Terms, partner: PartnerId) -> Option<String> {
    let text = partner.to_string();
    let funder = message.funders.iter().position(|f| f.party == text);
    if let Some(place) = funder {
        return Some(format!("terms.funders[{place}].party"));
    }
    let named = NamedParty::PartnerId(text);
    let is_named = |party: &Option<pb::LegParty>| {
        party.as_ref().and_then(|party| party.party.as_ref()) == Some(&named)
    };
    message.legs.iter().enumerate().find_map(|(place, leg)| {
        let side = match (is_named(&leg.from), is_named(&leg.to)) {
            (true, _) => "from",
            (false, true) => "to",
            (false, false) => return None,
        };
        Some(format!("terms.legs[{place}].{side}.partner_id"))
    })
}

/// The legs of a preset.
fn preset_legs(preset: &Preset) -> Result<Vec<Leg>, Problem> {
    Ok(match preset {
        Preset::SettleAtIssue(p) => settle_at_issue(
            decimal(
                "terms.settle_at_issue.issue_price_per_point",
                &p.issue_price_per_point,
            )?,
            decimal(
                "terms.settle_at_issue.reimbursement_per_point",
                &p.reimbursement_per_point,
            )?,
        ),
        Preset::SettleAtRedemption(p) => settle_at_redemption(
            decimal(
                "terms.settle_at_redemption.redemption_price_per_point",
                &p.redemption_price_per_point,
            )?,
            decimal(
                "terms.settle_at_redemption.reimbursement_per_point",
                &p.reimbursement_per_point,
            )?,
        ),
        Preset::Bilateral(p) => bilateral(
            decimal("terms.bilateral.price_per_point", &p.price_per_point)?,
            decimal("terms.bilateral.fee_per_point", &p.fee_per_point)?,
        ),
        Preset::Prepaid(p) => settle_at_issue(
            decimal(
                "terms.prepaid.issue_price_per_point",
                &p.issue_price_per_point,
            )?,
            decimal(
                "terms.prepaid.reimbursement_per_point",
                &p.reimbursement_per_point,
            )?,
        ),
    })
}

/// The limit; prepaid has the limit 0 unless it says otherwise.
fn limit(message: &pb::Terms) -> Result<Option<Micros>, Problem> {
    let Some(text) = &message.limit else {
        let prepaid = matches!(message.preset, Some(Preset::Prepaid(_)));
        return Ok(prepaid.then_some(Micros::ZERO));
    };
    let major = decimal("terms.limit", text)?;
    let micros = Micros::from_major(major)?;
    if micros.to_major() == major {
        Ok(Some(micros))
    } else {
        Err(Problem::invalid(
            "terms.limit",
            "must have at most 6 decimal places",
        ))
    }
}

fn read_funder(place: usize, funder: &pb::Funder) -> Result<Funder, Problem> {
    let party: Party = id(&format!("terms.funders[{place}].party"), &funder.party)?;
    let weight = u32::try_from(funder.weight).map_err(|_| {
        Problem::invalid(
            format!("terms.funders[{place}].weight"),
            "must be at least 1",
        )
    })?;
    Ok(Funder { party, weight })
}

fn write_funder(funder: &Funder) -> pb::Funder {
    pb::Funder {
        party: funder.party.to_string(),
        weight: i32::try_from(funder.weight).unwrap_or(i32::MAX),
    }
}

fn read_leg(path: &str, leg: &pb::Leg) -> Result<Leg, Problem> {
    let required = |field: &str| Problem::invalid(format!("{path}.{field}"), "is required");
    let bound = |field: &str, text: &Option<String>| {
        let text = text.as_ref();
        text.map(|text| decimal(&format!("{path}.{field}"), text))
            .transpose()
    };
    Ok(Leg {
        trigger: match leg.trigger() {
            pb::LegTrigger::Unspecified => return Err(required("trigger")),
            pb::LegTrigger::Earn => Trigger::Earn,
            pb::LegTrigger::Redeem => Trigger::Redeem,
            pb::LegTrigger::Expire => Trigger::Expire,
        },
        from: read_party(&format!("{path}.from"), leg.from.as_ref())?,
        to: read_party(&format!("{path}.to"), leg.to.as_ref())?,
        basis: match leg.basis() {
            pb::LegBasis::Unspecified => return Err(required("basis")),
            pb::LegBasis::PerPoint => Basis::PerPoint,
            pb::LegBasis::FaceValue => Basis::FaceValue,
            pb::LegBasis::Basket => Basis::Basket,
            pb::LegBasis::Fixed => Basis::Fixed,
        },
        rate: decimal(&format!("{path}.rate"), &leg.rate)?,
        min: bound("min", &leg.min)?,
        max: bound("max", &leg.max)?,
        rounding: match leg.rounding() {
            pb::LegRounding::Unspecified | pb::LegRounding::Micro => Rounding::Micro,
            pb::LegRounding::Minor => Rounding::Minor,
        },
    })
}

fn write_leg(leg: &Leg) -> pb::Leg {
    let trigger = match leg.trigger {
        Trigger::Earn => pb::LegTrigger::Earn,
        Trigger::Redeem => pb::LegTrigger::Redeem,
        Trigger::Expire => pb::LegTrigger::Expire,
    };
    let basis = match leg.basis {
        Basis::PerPoint => pb::LegBasis::PerPoint,
        Basis::FaceValue => pb::LegBasis::FaceValue,
        Basis::Basket => pb::LegBasis::Basket,
        Basis::Fixed => pb::LegBasis::Fixed,
    };
    let rounding = match leg.rounding {
        Rounding::Micro => pb::LegRounding::Micro,
        Rounding::Minor => pb::LegRounding::Minor,
    };
    pb::Leg {
        trigger: trigger.into(),
        from: Some(write_party(leg.from)),
        to: Some(write_party(leg.to)),
        basis: basis.into(),
        rate: text(leg.rate),
        min: leg.min.map(text),
        max: leg.max.map(text),
        rounding: Some(rounding.into()),
    }
}

fn read_party(path: &str, party: Option<&pb::LegParty>) -> Result<LegParty, Problem> {
    let required = || Problem::invalid(path, "is required");
    let named = party.and_then(|party| party.party.as_ref());
    match named.ok_or_else(required)? {
        NamedParty::PartnerId(text) => {
            Ok(LegParty::Named(id(&format!("{path}.partner_id"), text)?))
        }
        NamedParty::Role(role) => match pb::PartyRole::try_from(*role) {
            Ok(pb::PartyRole::Issuer) => Ok(LegParty::Issuer),
            Ok(pb::PartyRole::Redeemer) => Ok(LegParty::Redeemer),
            Ok(pb::PartyRole::Operator) => Ok(LegParty::Operator),
            Ok(pb::PartyRole::Unspecified) | Err(_) => Err(required()),
        },
    }
}

fn write_party(party: LegParty) -> pb::LegParty {
    let party = match party {
        LegParty::Issuer => NamedParty::Role(pb::PartyRole::Issuer.into()),
        LegParty::Redeemer => NamedParty::Role(pb::PartyRole::Redeemer.into()),
        LegParty::Operator => NamedParty::Role(pb::PartyRole::Operator.into()),
        LegParty::Named(partner) => NamedParty::PartnerId(partner.to_string()),
    };
    pb::LegParty { party: Some(party) }
}

/// A decimal, exactly as written.
fn decimal(field: &str, text: &str) -> Result<Decimal, Problem> {
    let exact = Decimal::from_str_exact(text).ok();
    exact
        .filter(|decimal| decimal.scale() <= MAX_RATE_SCALE)
        .ok_or_else(|| {
            Problem::invalid(
                field,
                "must be a decimal with at most 12 digits before and after the point",
            )
        })
}

fn text(decimal: Decimal) -> String {
    decimal.normalize().to_string()
}

fn days(field: &str, days: i32) -> Result<u32, Problem> {
    u32::try_from(days).map_err(|_| Problem::invalid(field, "must not be negative"))
}

/// The ledger counts the legs that a preset wrote, the request does not.
fn in_words_of_the_request(mut invalid: InvalidTerms, written: usize) -> InvalidTerms {
    let leg = invalid.field.strip_prefix("legs[");
    let leg = leg.and_then(|rest| rest.split_once(']'));
    if let Some((place, rest)) = leg
        && let Ok(place) = place.parse::<usize>()
    {
        invalid.field = match place.checked_sub(written) {
            Some(place) => format!("legs[{place}]{rest}"),
            None => "preset".to_owned(),
        };
    }
    invalid
}

#[cfg(test)]
mod tests {
    use coalition_proto::common::ErrorReason;
    use uuid::Uuid;

    use super::*;

    fn euros() -> pb::Terms {
        pb::Terms {
            currency_code: "EUR".to_owned(),
            points_per_unit: "1.50".to_owned(),
            lot_lifetime_days: 365,
            ..pb::Terms::default()
        }
    }

    fn fixed(rate: &str) -> pb::Leg {
        let role = |role: pb::PartyRole| {
            Some(pb::LegParty {
                party: Some(NamedParty::Role(role.into())),
            })
        };
        pb::Leg {
            trigger: pb::LegTrigger::Redeem.into(),
            from: role(pb::PartyRole::Redeemer),
            to: role(pb::PartyRole::Operator),
            basis: pb::LegBasis::Fixed.into(),
            rate: rate.to_owned(),
            ..pb::Leg::default()
        }
    }

    fn at_issue() -> Preset {
        Preset::SettleAtIssue(pb::SettleAtIssue {
            issue_price_per_point: "0.0085".to_owned(),
            reimbursement_per_point: "0.008".to_owned(),
        })
    }

    #[test]
    fn presets_become_legs_and_come_before_further_ones() {
        let message = pb::Terms {
            preset: Some(at_issue()),
            legs: vec![fixed("0.10")],
            ..euros()
        };
        let terms = read(&message).expect("good terms");
        let rates: Vec<String> = terms.legs.iter().map(|leg| text(leg.rate)).collect();
        assert_eq!(rates, ["0.0085", "0.008", "0.1"]);
        assert_eq!(terms.limit, None);
        let again = write(&terms);
        assert_eq!(again.preset, None);
        assert_eq!(again.points_per_unit, "1.5");
        assert_eq!(read(&again).expect("what we wrote"), terms);
    }

    #[test]
    fn prepaid_has_the_limit_nought_unless_it_says_otherwise() {
        let prepaid = |limit: Option<&str>| {
            let message = pb::Terms {
                preset: Some(Preset::Prepaid(pb::Prepaid {
                    issue_price_per_point: "0.01".to_owned(),
                    reimbursement_per_point: "0.009".to_owned(),
                })),
                limit: limit.map(str::to_owned),
                ..euros()
            };
            read(&message).expect("good terms").limit
        };
        assert_eq!(prepaid(None), Some(Micros::ZERO));
        assert_eq!(prepaid(Some("12.5")), Some(Micros::new(12_500_000)));
    }

    #[test]
    fn row_27_a_decimal_is_read_exactly_or_refused() {
        for wrong in ["NaN", "1e9", "1,00", "", "0.0000000000001", &"9".repeat(60)] {
            let message = pb::Terms {
                legs: vec![fixed(wrong)],
                ..euros()
            };
            let problem = read(&message).expect_err(wrong);
            assert_eq!(problem.reason(), ErrorReason::InvalidArgument, "{wrong}");
            assert!(problem.message().contains("terms.legs[0].rate"), "{wrong}");
        }
        let limit = pb::Terms {
            limit: Some("0.0000001".to_owned()),
            ..euros()
        };
        assert!(read(&limit).is_err(), "finer than a micro-unit");
    }

    #[test]
    fn a_contradiction_names_the_leg_as_the_request_counts_it() {
        let mut wrong = fixed("1");
        wrong.to.clone_from(&wrong.from);
        let message = pb::Terms {
            preset: Some(at_issue()),
            legs: vec![fixed("1"), wrong],
            ..euros()
        };
        let problem = read(&message).expect_err("a leg to oneself");
        assert_eq!(problem.reason(), ErrorReason::AgreementInvalid);
        assert!(
            problem.message().starts_with("legs[1].to"),
            "{}",
            problem.message()
        );
    }

    #[test]
    fn a_pair_agrees_on_what_is_spent_alone() {
        let message = |preset: Option<Preset>, legs: Vec<pb::Leg>| pb::Terms {
            preset,
            legs,
            ..euros()
        };
        let earned = pb::Leg {
            trigger: pb::LegTrigger::Earn.into(),
            from: Some(write_party(LegParty::Issuer)),
            ..fixed("1")
        };
        for (wrong, named) in [
            (message(Some(at_issue()), Vec::new()), "preset"),
            (message(None, vec![fixed("1"), earned]), "legs[1].trigger"),
        ] {
            let problem = read_pair(&wrong).expect_err("it would never apply");
            assert_eq!(problem.reason(), ErrorReason::AgreementInvalid);
            assert!(
                problem.message().starts_with(named),
                "{}",
                problem.message()
            );
            read(&wrong).expect("one partner may agree on it");
        }
        read_pair(&message(None, vec![fixed("1")])).expect("it settles what is spent");
    }

    #[test]
    fn everything_that_can_be_agreed_survives_the_way_there_and_back() {
        let named = LegParty::Named(PartnerId::from_uuid(Uuid::from_u128(5)));
        let leg = Leg {
            trigger: Trigger::Expire,
            from: LegParty::Issuer,
            to: named,
            basis: Basis::FaceValue,
            rate: Decimal::new(25, 2),
            min: Some(Decimal::new(1, 2)),
            max: Some(Decimal::from(3)),
            rounding: Rounding::Minor,
        };
        let terms = Terms {
            currency: coalition_ledger::money::Currency::JPY,
            points_per_unit: Decimal::new(1, 1),
            lot_lifetime_days: 30,
            pending_days: 7,
            return_policy: ReturnPolicy::WithinBalance,
            include_tax: true,
            include_tip: true,
            include_gift_cards: true,
            funders: vec![
                Funder {
                    party: Party::Operator,
                    weight: 40,
                },
                Funder {
                    party: PartnerId::from_uuid(Uuid::from_u128(6)).into(),
                    weight: 60,
                },
            ],
            limit: Some(Micros::new(1)),
            net_inbound: true,
            alert_below_points: Some(Points::new(100)),
            legs: vec![leg],
        };
        assert_eq!(read(&write(&terms)).expect("what we wrote"), terms);
    }
}
