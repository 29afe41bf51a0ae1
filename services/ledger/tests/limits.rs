//! Limits and funds: what binds, what gives headroom back, and that no headroom is used twice.

use coalition_ledger::agreement::{Terms, bilateral, settle_at_issue};
use coalition_ledger::command::Original;
use coalition_ledger::ids::PartnerId;
use coalition_ledger::money::{Currency, Micros};
use coalition_ledger::snapshot::Position;
use coalition_ledger::transaction::Decline;
use coalition_ledger::view::{Alert, headroom};
use proptest::prelude::*;
use rust_decimal::Decimal;

use crate::support::store::Conflict;
use crate::support::{
    Builder, Network, dec, declined, deposit, earn, euros, member, partner, posted, redeem, refund,
    return_earn, terms, withdraw,
};

const ISSUER: u8 = 1;
const REDEEMER: u8 = 2;

fn issuer() -> PartnerId {
    partner(ISSUER)
}

fn redeemer() -> PartnerId {
    partner(REDEEMER)
}

/// An issuer that owes the redeemer a cent per point, up to 10 euros, and two rich members.
fn network(change: impl Fn(Terms) -> Terms) -> Network {
    let legs = bilateral(dec("0.01"), Decimal::ZERO);
    let limited = Terms {
        limit: Some(Micros::new(10_000_000)),
        ..terms(legs.clone())
    };
    let mut network = Builder::new()
        .partner(issuer(), change(limited))
        .partner(redeemer(), terms(legs))
        .build();
    for number in [1, 2] {
        let buyer = network.enroll(member(number));
        network.must_post(earn(issuer(), buyer, euros("100000.00")));
    }
    network
}

#[test]
fn the_last_point_of_headroom_may_be_used_and_no_more() {
    let mut network = network(|terms| terms);
    let over = network.send(redeem(redeemer(), member(1), 1_001));
    assert_eq!(declined(&over), Decline::LimitExceeded);
    network.must_post(redeem(redeemer(), member(1), 1_000));
    let one_more = network.send(redeem(redeemer(), member(2), 1));
    assert_eq!(declined(&one_more), Decline::LimitExceeded);
    assert_eq!(network.net(issuer()), Micros::new(-10_000_000));
}

#[test]
fn what_the_network_owes_counts_only_if_agreed() {
    for (net_inbound, posts) in [(false, false), (true, true)] {
        let mut network = network(|terms| Terms {
            net_inbound,
            ..terms
        });
        // The other partner's points are spent at the issuer: 5 euros in its favour.
        network.must_post(earn(redeemer(), member(2), euros("500.00")));
        let before = network.book(member(2)).lots.len();
        assert_eq!(before, 2);
        network.must_post(redeem(redeemer(), member(1), 1_000));
        // Member 2 spends the issuer's points first, which were earned first.
        let decision = network.send(redeem(issuer(), member(2), 100));
        assert_eq!(
            network.position(issuer()).net(),
            Ok(Micros::new(-10_000_000))
        );
        // Points spent where they were issued debit and credit the same party.
        if posts {
            posted(&decision);
        } else {
            assert_eq!(declined(&decision), Decline::LimitExceeded);
        }
    }
}

#[test]
fn funds_and_refunds_give_headroom_back() {
    let mut network = network(|terms| terms);
    let spent = network.must_post(redeem(redeemer(), member(1), 1_000));
    network.must_post(deposit(issuer(), euros("1.00")));
    network.must_post(redeem(redeemer(), member(2), 100));
    let full = network.send(redeem(redeemer(), member(2), 50));
    assert_eq!(declined(&full), Decline::LimitExceeded);
    network.must_post(refund(redeemer(), Original::Transaction(spent.id), 50));
    network.must_post(redeem(redeemer(), member(2), 50));
    assert_eq!(network.net(issuer()), Micros::new(-11_000_000));
}

#[test]
fn a_return_below_zero_headroom_is_posted() {
    let legs = settle_at_issue(dec("0.01"), dec("0.008"));
    let mut network = Builder::new().partner(issuer(), terms(legs)).build();
    let buyer = network.enroll(member(1));
    let check = network.must_post(earn(issuer(), buyer, euros("1000.00")));
    // A new version brings a limit that the position is below already.
    let agreed = &mut network.terms.agreements[0];
    agreed.terms.limit = Some(Micros::new(1_000_000));
    network.rulebook = network.terms.rulebook();
    let more = network.send(earn(issuer(), buyer, euros("1.00")));
    assert_eq!(declined(&more), Decline::LimitExceeded);
    network.must_post(return_earn(
        issuer(),
        Original::Transaction(check.id),
        euros("10.00"),
    ));
    network.must_post(earn(issuer(), buyer, euros("0.50")));
}

#[test]
fn funds_in_use_cannot_be_withdrawn() {
    let mut network = network(|terms| Terms {
        limit: Some(Micros::ZERO),
        ..terms
    });
    network.must_post(deposit(issuer(), euros("10.00")));
    network.must_post(redeem(redeemer(), member(1), 600));
    let over = network.send(withdraw(issuer(), euros("4.01")));
    assert_eq!(declined(&over), Decline::FundsExceeded);
    network.must_post(withdraw(issuer(), euros("4.00")));
    assert_eq!(network.position(issuer()).funds, Micros::new(6_000_000));
}

#[test]
fn two_processes_cannot_use_the_same_headroom() {
    let mut network = network(|terms| terms);
    let first = network.ask(redeem(redeemer(), member(1), 600));
    let second = network.ask(redeem(redeemer(), member(2), 600));
    let (_, first) = network.decide(&[first]);
    let (seen, late) = network.decide(std::slice::from_ref(&second));
    posted(&seen[0]);
    assert_eq!(network.store.write(&first, network.window), Ok(()));
    let conflict = network.store.write(&late, network.window);
    assert_eq!(conflict, Err(Conflict("a position below its floor")));
    assert_eq!(declined(&network.run_one(&second)), Decline::LimitExceeded);
    network.assert_audited();
}

#[test]
fn two_processes_cannot_spend_the_same_points() {
    let mut network = network(|terms| Terms {
        limit: None,
        ..terms
    });
    let first = network.ask(redeem(redeemer(), member(1), 60_000));
    let second = network.ask(redeem(redeemer(), member(1), 60_000));
    let (_, first) = network.decide(&[first]);
    let (_, late) = network.decide(std::slice::from_ref(&second));
    assert_eq!(network.store.write(&first, network.window), Ok(()));
    let conflict = network.store.write(&late, network.window);
    assert_eq!(conflict, Err(Conflict("a member's version moved on")));
    assert_eq!(
        declined(&network.run_one(&second)),
        Decline::InsufficientPoints
    );
}

#[test]
fn alerts_come_at_80_and_95_percent() {
    let terms = Terms {
        limit: Some(Micros::new(80_000_000)),
        ..terms(Vec::new())
    };
    let at = |debits| {
        let funds = Micros::new(20_000_000);
        let position = Position {
            debits: Micros::new(debits),
            funds,
            ..Position::default()
        };
        let headroom = headroom(position, &terms).expect("in range");
        (headroom.used_percent, headroom.alert)
    };
    assert_eq!(at(0), (0, Alert::None));
    assert_eq!(at(79_999_999), (79, Alert::None));
    assert_eq!(at(80_000_000), (80, Alert::Used80));
    assert_eq!(at(94_999_999), (94, Alert::Used80));
    assert_eq!(at(95_000_000), (95, Alert::Used95));
    assert_eq!(at(130_000_000), (130, Alert::Used95));
}

#[test]
fn no_limit_means_no_headroom_to_speak_of() {
    let position = Position {
        debits: Micros::new(i64::MAX),
        ..Position::default()
    };
    let headroom = headroom(position, &terms(Vec::new())).expect("in range");
    assert_eq!(
        (headroom.limit, headroom.left, headroom.alert),
        (None, None, Alert::None)
    );
}

proptest! {
    #[test]
    fn headroom_is_the_formula_of_the_domain(
        limit in 0..=1_000_000_000_i64,
        debits in 0..=1_000_000_000_i64,
        credits in 0..=1_000_000_000_i64,
        funds in 0..=1_000_000_000_i64,
        net_inbound in any::<bool>(),
    ) {
        let position = Position {
            debits: Micros::new(debits),
            credits: Micros::new(credits),
            funds: Micros::new(funds),
            reserved: Micros::ZERO,
        };
        let terms = Terms { limit: Some(Micros::new(limit)), net_inbound, ..terms(Vec::new()) };
        prop_assert_eq!(terms.currency, Currency::EUR);
        let left = headroom(position, &terms).expect("in range").left;
        let inbound = if net_inbound { credits } else { 0 };
        prop_assert_eq!(left, Some(Micros::new(limit + funds + inbound - debits)));
    }
}
