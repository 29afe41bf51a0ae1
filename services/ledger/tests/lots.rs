//! The life of a lot, instant by instant: pending, available, spent, given back, clawed back, owed,
//! expired.

use coalition_ledger::agreement::{Funder, Terms};
use coalition_ledger::command::Original;
use coalition_ledger::ids::{LotId, Party};
use coalition_ledger::member::Known;
use coalition_ledger::money::Points;
use coalition_ledger::transaction::{Decline, Kind, Transaction};

use crate::support::{
    Builder, DAY, Network, Thrift, after, declined, earn, euros, member, partner, posted, redeem,
    refund, return_earn, sweep, terms,
};

const SHOP: u8 = 1;
const OTHER: u8 = 2;

/// Two shops, one of them with these terms, and a member.
fn network(shop: Terms) -> Network {
    let mut network = Builder::new()
        .partner(partner(SHOP), shop)
        .partner(partner(OTHER), terms(Vec::new()))
        .build();
    network.enroll(member(1));
    network
}

fn buy(network: &mut Network, shop: u8, gross: &str) -> Transaction {
    network.must_post(earn(partner(shop), member(1), euros(gross)))
}

fn spend(network: &mut Network, points: i64) -> Transaction {
    network.must_post(redeem(partner(SHOP), member(1), points))
}

fn give_back(network: &mut Network, spent: &Transaction, points: i64) -> Transaction {
    let original = Original::Transaction(spent.id);
    network.must_post(refund(partner(SHOP), original, points))
}

fn bring_back(network: &mut Network, check: &Transaction, amount: &str) -> Transaction {
    let original = Original::Transaction(check.id);
    network.must_post(return_earn(partner(SHOP), original, euros(amount)))
}

/// Available and owed points, as told.
fn told(transaction: &Transaction) -> (i64, i64) {
    let totals = transaction.balance.totals;
    (totals.available.get(), totals.debt.get())
}

#[test]
fn points_can_be_spent_from_the_instant_that_ends_their_pending_time() {
    let mut network = network(Terms {
        pending_days: 1,
        ..terms(Vec::new())
    });
    let check = buy(&mut network, SHOP, "10.00");
    assert_eq!(check.balance.totals.pending, Points::new(10));
    network.now = after(DAY - 1);
    let early = network.send(redeem(partner(SHOP), member(1), 1));
    assert_eq!(declined(&early), Decline::InsufficientPoints);
    network.now = after(DAY);
    assert_eq!(told(&spend(&mut network, 10)), (0, 0));
}

#[test]
fn points_can_be_spent_until_the_instant_of_their_expiry() {
    let mut network = network(Terms {
        lot_lifetime_days: 1,
        ..terms(Vec::new())
    });
    buy(&mut network, SHOP, "10.00");
    network.now = after(DAY - 1);
    spend(&mut network, 4);
    network.now = after(DAY);
    let late = network.send(redeem(partner(SHOP), member(1), 1));
    assert_eq!(declined(&late), Decline::InsufficientPoints);
    let lot = network
        .book(member(1))
        .lots
        .into_values()
        .next()
        .expect("a lot");
    assert_eq!((lot.available, lot.expired), (Points::ZERO, Points::new(6)));
}

#[test]
fn a_sweep_posts_maturity_before_expiry_and_names_the_last() {
    let mut network = network(Terms {
        pending_days: 1,
        lot_lifetime_days: 2,
        ..terms(Vec::new())
    });
    buy(&mut network, SHOP, "10.00");
    network.now = after(2 * DAY);
    let swept = posted(&network.run_one(&sweep(member(1))));
    assert_eq!((swept.kind, swept.points), (Kind::Expire, Points::new(10)));
    let kinds: Vec<Kind> = network
        .store
        .transactions
        .values()
        .map(|posting| posting.kind)
        .collect();
    assert_eq!(kinds, [Kind::Earn, Kind::Mature, Kind::Expire]);
}

#[test]
fn points_given_back_at_the_instant_of_their_expiry_expire_at_once() {
    let mut network = network(Terms {
        lot_lifetime_days: 1,
        ..terms(Vec::new())
    });
    buy(&mut network, SHOP, "10.00");
    let spent = spend(&mut network, 10);
    network.now = after(DAY - 1);
    let back = give_back(&mut network, &spent, 4);
    assert_eq!((back.points_expired, told(&back)), (Points::ZERO, (4, 0)));
    network.now = after(DAY);
    let back = give_back(&mut network, &spent, 6);
    assert_eq!((back.points_expired, told(&back)), (Points::new(6), (0, 0)));
    network.assert_audited();
}

#[test]
fn the_earliest_expiry_is_spent_first_and_of_equal_ones_the_oldest() {
    let mut network = network(Terms {
        lot_lifetime_days: 10,
        ..terms(Vec::new())
    });
    buy(&mut network, OTHER, "5.00");
    let first = buy(&mut network, SHOP, "7.00");
    let second = buy(&mut network, SHOP, "8.00");
    let spent = spend(&mut network, 17);
    let lots: Vec<_> = spent
        .spent()
        .iter()
        .map(|slice| (slice.lot.id, slice.points.get()))
        .collect();
    let [first, second] = [first, second].map(|check| check.issued()[0].lot.id);
    assert_eq!(lots[..2], [(first, 7), (second, 8)]);
    assert_eq!(
        lots[2].1, 2,
        "the rest from the other shop's, which lives longer"
    );
}

#[test]
fn the_last_consumed_points_come_back_first() {
    let mut network = network(Terms {
        lot_lifetime_days: 10,
        ..terms(Vec::new())
    });
    buy(&mut network, OTHER, "5.00");
    buy(&mut network, SHOP, "7.00");
    let spent = spend(&mut network, 12);
    let issuers = |back: &Transaction| -> Vec<(Party, i64)> {
        back.restored()
            .iter()
            .map(|slice| (slice.issuer, slice.points.get()))
            .collect()
    };
    let (shop, other) = (Party::from(partner(SHOP)), Party::from(partner(OTHER)));
    assert_eq!(issuers(&give_back(&mut network, &spent, 3)), [(other, 3)]);
    assert_eq!(
        issuers(&give_back(&mut network, &spent, 4)),
        [(other, 2), (shop, 2)]
    );
    assert_eq!(issuers(&give_back(&mut network, &spent, 5)), [(shop, 5)]);
}

#[test]
fn spent_points_of_returned_goods_are_owed_and_the_balance_is_below_zero() {
    let mut network = network(terms(Vec::new()));
    let check = buy(&mut network, SHOP, "10.00");
    spend(&mut network, 8);
    let back = bring_back(&mut network, &check, "10.00");
    assert_eq!(
        (back.clawed_back()[0].points, back.indebted()[0].points),
        (Points::new(2), Points::new(8))
    );
    assert_eq!(back.balance.totals.balance(), Ok(Points::new(-8)));
}

#[test]
fn new_points_repay_the_debt_to_their_own_issuer_alone() {
    let mut network = network(terms(Vec::new()));
    let check = buy(&mut network, SHOP, "10.00");
    spend(&mut network, 10);
    bring_back(&mut network, &check, "10.00");
    assert_eq!(told(&buy(&mut network, OTHER, "30.00")), (30, 10));
    let over = network.send(redeem(partner(SHOP), member(1), 21));
    assert_eq!(
        declined(&over),
        Decline::InsufficientPoints,
        "debts count against all points"
    );
    let repaying = buy(&mut network, SHOP, "4.00");
    assert_eq!(
        (told(&repaying), repaying.repaid()[0].points),
        ((30, 6), Points::new(4))
    );
    assert_eq!(told(&buy(&mut network, SHOP, "9.00")), (33, 0));
    network.assert_audited();
}

#[test]
fn points_that_are_owed_already_are_not_clawed_back_again() {
    let mut network = network(terms(Vec::new()));
    let check = buy(&mut network, SHOP, "10.00");
    let spent = spend(&mut network, 10);
    assert_eq!(told(&bring_back(&mut network, &check, "6.00")), (0, 6));
    assert_eq!(told(&give_back(&mut network, &spent, 10)), (10, 6));
    let rest = bring_back(&mut network, &check, "4.00");
    assert_eq!((rest.points, told(&rest)), (Points::new(4), (6, 6)));
    network.assert_audited();
}

#[test]
fn points_owed_already_that_were_spent_again_are_owed_once_more() {
    let mut network = network(terms(Vec::new()));
    buy(&mut network, OTHER, "20.00");
    let check = buy(&mut network, SHOP, "10.00");
    let spent = spend(&mut network, 30);
    assert_eq!(told(&bring_back(&mut network, &check, "6.00")), (0, 6));
    assert_eq!(told(&give_back(&mut network, &spent, 10)), (10, 6));
    assert_eq!(told(&spend(&mut network, 4)), (6, 6));
    let rest = bring_back(&mut network, &check, "4.00");
    assert_eq!(rest.points, Points::new(4));
    assert_eq!(rest.balance.totals.balance(), Ok(Points::new(-4)));
    network.assert_audited();
}

#[test]
fn what_expired_before_the_goods_came_back_is_neither_clawed_back_nor_owed() {
    let mut network = network(Terms {
        lot_lifetime_days: 1,
        ..terms(Vec::new())
    });
    let check = buy(&mut network, SHOP, "10.00");
    spend(&mut network, 3);
    network.now = after(DAY);
    let back = bring_back(&mut network, &check, "10.00");
    assert_eq!(
        (back.points, back.points_expired),
        (Points::new(3), Points::new(7))
    );
    assert_eq!(told(&back), (0, 3));
    network.assert_audited();
}

#[test]
fn the_next_expiry_is_right_where_one_lot_is_clawed_back_and_the_next_is_owed() {
    let funders = [SHOP, OTHER].map(|number| Funder {
        party: partner(number).into(),
        weight: 1,
    });
    let mut network = network(Terms {
        funders: funders.to_vec(),
        ..terms(Vec::new())
    });
    // A debt to the second funder, which its share of the shared check repays.
    let check = buy(&mut network, OTHER, "8.00");
    spend(&mut network, 8);
    let original = Original::Transaction(check.id);
    network.must_post(return_earn(partner(OTHER), original, euros("8.00")));
    let check = buy(&mut network, SHOP, "16.00");
    assert_eq!(told(&check), (8, 0));
    let back = bring_back(&mut network, &check, "16.00");
    assert_eq!((told(&back), back.balance.next_expiry), ((0, 8), None));
    network.assert_audited();
}

#[test]
fn a_new_lot_is_not_spent_before_older_ones_that_were_not_fetched() {
    let mut network = network(terms(Vec::new()));
    network.thrift = Thrift::Few(1);
    let old: Vec<LotId> = (0..3)
        .map(|_| buy(&mut network, SHOP, "5.00").issued()[0].lot.id)
        .collect();
    let batch = [
        network.ask(earn(partner(SHOP), member(1), euros("5.00"))),
        network.ask(redeem(partner(SHOP), member(1), 8)),
    ];
    let spent = posted(&network.run(&batch)[1]).spent();
    let lots: Vec<LotId> = spent.iter().map(|slice| slice.lot.id).collect();
    assert_eq!(lots, old[..2]);
}

/// Decision 11: points that come back rest in their own lots, beside the debt that they left; only new
/// points repay. What they do until they expire is spendable less the debt, which is nothing.
#[test]
fn points_given_back_beside_their_debt_expire_and_leave_the_debt() {
    let mut network = network(Terms {
        lot_lifetime_days: 10,
        ..terms(Vec::new())
    });
    let check = buy(&mut network, SHOP, "50.00");
    let spent = spend(&mut network, 50);
    let back = bring_back(&mut network, &check, "50.00");
    assert_eq!(back.balance.totals.balance(), Ok(Points::new(-50)));
    let back = give_back(&mut network, &spent, 50);
    let totals = back.balance.totals;
    assert_eq!((totals.available.get(), totals.debt.get()), (50, 50));
    assert_eq!(totals.balance(), Ok(Points::ZERO));
    let one = network.ask(redeem(partner(SHOP), member(1), 1));
    let declined = declined(&network.run_one(&one));
    assert_eq!(declined, Decline::InsufficientPoints);

    network.now = after(10 * DAY);
    network.run_one(&sweep(member(1)));
    let totals = network.book(member(1)).totals;
    assert_eq!((totals.available.get(), totals.debt.get()), (0, 50));
    let next = buy(&mut network, SHOP, "60.00");
    assert_eq!(
        next.repaid().first().map(|slice| slice.points.get()),
        Some(50)
    );
    assert_eq!(next.balance.totals.balance(), Ok(Points::new(10)));
    network.assert_audited();
}

#[test]
fn lots_that_are_known_suffice_until_the_last_of_them_may_be_needed() {
    let mut network = network(terms(Vec::new()));
    for day in 0..3 {
        network.now = after(day * DAY);
        buy(&mut network, SHOP, "10.00");
    }
    let mut book = network.book(member(1));
    let (first, last) = (network.now, book.spendable()[2]);
    book.known = Known::Nothing;
    assert!(!book.suffices(first, Points::ZERO));
    book.known = Known::UpTo(last.expires_at, last.id);
    assert!(book.suffices(first, Points::new(19)));
    assert!(!book.suffices(first, Points::new(20)), "what expires next?");
    assert!(!book.suffices(first, Points::new(30)));
    assert!(book.suffices(first, Points::new(31)), "will be declined");
    let expired = book.spendable()[0].expires_at;
    assert!(book.suffices(expired, Points::new(9)));
    assert!(!book.suffices(expired, Points::new(10)));
    assert!(!book.suffices(last.expires_at, Points::ZERO));
    book.known = Known::All;
    assert!(book.suffices(last.expires_at, Points::new(i64::MAX)));
}
