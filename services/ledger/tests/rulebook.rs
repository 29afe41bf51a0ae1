//! Which version of which agreement is in force.

use coalition_ledger::agreement::Agreement;
use coalition_ledger::money::{Currency, Micros, OutOfRange, Points};
use coalition_ledger::time::Timestamp;
use rust_decimal::Decimal;

use crate::support::{
    Builder, DAY, START, after, dec, earn, euros, member, partner, redeem, terms,
};

/// Terms that can be told apart by how many points a euro earns.
fn rate(points_per_unit: i64) -> coalition_ledger::agreement::Terms {
    coalition_ledger::agreement::Terms {
        points_per_unit: Decimal::from(points_per_unit),
        ..terms(Vec::new())
    }
}

fn rate_of(agreement: Option<&Agreement>) -> Option<Decimal> {
    agreement.map(|agreement| agreement.terms.points_per_unit)
}

#[test]
fn a_version_is_in_force_from_its_instant_until_the_next_ones() {
    let book = Builder::new()
        .stranger(partner(1))
        .version(partner(1), after(2 * DAY), rate(2))
        .version(partner(1), START, rate(1))
        .rulebook();
    let at = |micros| rate_of(book.in_force(partner(1), after(micros)));
    assert_eq!(at(-1), None, "before the first");
    assert_eq!(at(0), Some(Decimal::ONE));
    assert_eq!(at(2 * DAY - 1), Some(Decimal::ONE));
    assert_eq!(at(2 * DAY), Some(Decimal::TWO));
    assert_eq!(
        rate_of(book.in_force(partner(1), Timestamp::from_micros(i64::MAX))),
        at(2 * DAY)
    );
    assert_eq!(
        rate_of(book.in_force(partner(2), START)),
        None,
        "another partner"
    );
}

#[test]
fn of_two_versions_from_one_instant_the_later_accepted_is_in_force() {
    let book = Builder::new()
        .stranger(partner(1))
        .version(partner(1), START, rate(1))
        .version(partner(1), START, rate(2))
        .rulebook();
    assert_eq!(
        rate_of(book.in_force(partner(1), START)),
        Some(Decimal::TWO)
    );
}

#[test]
fn a_pair_has_a_direction_and_leaves_the_partners_own_agreements_alone() {
    let book = Builder::new()
        .partner(partner(1), rate(1))
        .partner(partner(2), rate(2))
        .pair(partner(1), partner(2), rate(12))
        .rulebook();
    assert_eq!(
        rate_of(book.pair_in_force(partner(1), partner(2), START)),
        Some(Decimal::from(12))
    );
    assert_eq!(
        rate_of(book.pair_in_force(partner(2), partner(1), START)),
        None
    );
    assert_eq!(
        rate_of(book.in_force(partner(1), START)),
        Some(Decimal::ONE)
    );
    let before = Timestamp::from_micros(-1);
    assert_eq!(
        rate_of(book.pair_in_force(partner(1), partner(2), before)),
        None
    );
}

#[test]
fn every_version_is_found_by_its_id() {
    let builder = Builder::new()
        .partner(partner(1), rate(1))
        .partner(partner(2), rate(2));
    let book = builder.rulebook();
    for agreement in &builder.agreements {
        assert_eq!(book.agreement(agreement.id), Some(agreement));
    }
}

#[test]
fn a_check_earns_under_the_version_of_its_own_time_and_keeps_it() {
    let mut network = Builder::new()
        .partner(partner(1), rate(1))
        .version(partner(1), after(DAY), rate(5))
        .build();
    network.enroll(member(1));
    network.now = after(2 * DAY);
    let late = coalition_ledger::command::Earn {
        occurred_at: Some(after(DAY - 1)),
        ..earn(partner(1), member(1), euros("10.00"))
    };
    assert_eq!(network.must_post(late).points, Points::new(10));
    let now = network.must_post(earn(partner(1), member(1), euros("10.00")));
    assert_eq!(now.points, Points::new(50));
    let versions: Vec<_> = network
        .book(member(1))
        .lots
        .values()
        .map(|lot| lot.agreement)
        .collect();
    let agreed: Vec<_> = network
        .terms
        .agreements
        .iter()
        .map(|agreement| agreement.id)
        .collect();
    assert_eq!(versions, agreed, "each lot is pinned to its own");
}

#[test]
fn a_redemption_follows_the_version_of_its_posting() {
    let mut network = Builder::new()
        .partner(partner(1), rate(1))
        .version(partner(1), after(DAY), rate(5))
        .build();
    network.enroll(member(1));
    network.must_post(earn(partner(1), member(1), euros("10.00")));
    network.now = after(2 * DAY);
    let late = coalition_ledger::command::Redeem {
        occurred_at: Some(after(DAY - 1)),
        ..redeem(partner(1), member(1), 1)
    };
    let spent = network.must_post(late);
    assert_eq!(
        spent.agreement,
        network
            .terms
            .agreements
            .last()
            .map(|agreement| agreement.id)
    );
}

#[test]
fn limits_bind_in_the_agreements_currency_alone() {
    let limited = coalition_ledger::agreement::Terms {
        limit: Some(Micros::new(7)),
        net_inbound: true,
        ..rate(1)
    };
    let book = Builder::new()
        .partner(partner(1), limited)
        .partner(partner(2), rate(1))
        .rulebook();
    let party = partner(1).into();
    assert_eq!(
        book.limit(party, Currency::EUR, START),
        Some((Micros::new(7), true))
    );
    assert_eq!(book.limit(party, Currency::USD, START), None);
    assert_eq!(book.limit(partner(2).into(), Currency::EUR, START), None);
    assert_eq!(
        book.limit(coalition_ledger::ids::Party::Operator, Currency::EUR, START),
        None
    );
}

#[test]
fn points_have_a_worth_where_the_currency_has_a_face_value() {
    let book = Builder::new()
        .face_value(Currency::KWD, "0.0025")
        .rulebook();
    assert_eq!(
        book.worth(Points::new(3), Currency::EUR),
        Ok(Micros::new(30_000))
    );
    assert_eq!(
        book.worth(Points::new(3), Currency::KWD),
        Ok(Micros::new(7_500))
    );
    assert_eq!(book.worth(Points::new(3), Currency::USD), Err(OutOfRange));
    let half_a_cent_short = Micros::new(29_999);
    assert_eq!(
        book.points_for(half_a_cent_short, Currency::EUR),
        Ok(Points::new(2))
    );
    assert_eq!(book.face_value(Currency::EUR), Some(dec("0.01")));
}
