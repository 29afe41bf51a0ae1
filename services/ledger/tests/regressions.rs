//! What went wrong once, each in the smallest story that shows it.

use coalition_ledger::agreement::{Basis, Funder, Leg, LegParty, ReturnPolicy, Terms, Trigger};
use coalition_ledger::command::{Action, Original};
use coalition_ledger::decision::{Decision, Refusal};
use coalition_ledger::ids::{PartnerId, TransactionId};
use coalition_ledger::money::{Currency, Minor, Points};
use coalition_ledger::transaction::{Context, Decline, Kind};

use crate::support::commands::{checked, command};
use crate::support::{
    Builder, DAY, MINUTE, Network, after, dec, declined, deposit, earn, euros, member, partner,
    posted, redeem, refund, return_earn, reverse, terms, withdraw,
};

const SHOP: u8 = 1;
const OTHER: u8 = 2;

fn shop() -> PartnerId {
    partner(SHOP)
}

/// A shop with these terms and a member.
fn network(terms: Terms) -> Network {
    let mut network = Builder::new().partner(shop(), terms).build();
    network.enroll(member(1));
    network
}

/// Earns for a check and gives back how later commands may name it.
fn earned(network: &mut Network, gross: &str) -> TransactionId {
    network
        .must_post(Action::Earn(earn(shop(), member(1), euros(gross))))
        .id
}

fn redeemed(network: &mut Network, points: i64) -> TransactionId {
    network
        .must_post(Action::Redeem(redeem(shop(), member(1), points)))
        .id
}

fn returned(
    network: &mut Network,
    original: TransactionId,
    amount: &str,
) -> coalition_ledger::transaction::Transaction {
    let original = Original::Transaction(original);
    network.must_post(Action::ReturnEarn(return_earn(
        shop(),
        original,
        euros(amount),
    )))
}

/// What was forgiven once is not clawed back when it comes back by a refund: the difference of
/// what the basis earns is clawed back, no more.
#[test]
fn forgiven_points_that_a_refund_brings_back_stay() {
    let mut network = network(Terms {
        return_policy: ReturnPolicy::WithinBalance,
        ..terms(Vec::new())
    });
    let check = earned(&mut network, "100.00");
    let spent = redeemed(&mut network, 100);
    assert_eq!(
        returned(&mut network, check, "50.00").points_forgiven,
        Points::new(50)
    );
    network.must_post(Action::RefundRedemption(refund(
        shop(),
        Original::Transaction(spent),
        100,
    )));
    let rest = returned(&mut network, check, "50.00");
    assert_eq!(
        rest.points,
        Points::new(50),
        "the difference between 50 and 0"
    );
    assert_eq!(rest.balance.totals.available, Points::new(50));
    network.assert_audited();
}

/// Two funders, of whose lots one was spent and the other expired: what was spent is owed, however
/// many returns it takes.
#[test]
fn a_spent_lot_is_owed_beside_an_expired_one() {
    let funders = [SHOP, OTHER].map(|n| Funder {
        party: partner(n).into(),
        weight: 2 + u32::from(n),
    });
    let shared = Terms {
        funders: funders.to_vec(),
        lot_lifetime_days: 1,
        ..terms(Vec::new())
    };
    let mut network = Builder::new()
        .partner(shop(), shared)
        .partner(partner(OTHER), terms(Vec::new()))
        .build();
    network.enroll(member(1));
    let check = earned(&mut network, "70.00");
    redeemed(&mut network, 30);
    network.now = after(2 * DAY);
    let first = returned(&mut network, check, "35.00");
    let second = returned(&mut network, check, "35.00");
    let owed = [first.points, second.points].map(Points::get);
    assert_eq!(
        owed.iter().sum::<i64>(),
        30,
        "all that was spent is owed: {owed:?}"
    );
    let expired = [first.points_expired, second.points_expired].map(Points::get);
    assert_eq!(
        expired.iter().sum::<i64>(),
        40,
        "all that expired is neither: {expired:?}"
    );
    network.assert_audited();
}

/// Each spent point is forgiven once; the rest is told as expired.
#[test]
fn points_are_forgiven_once() {
    let mut network = network(Terms {
        return_policy: ReturnPolicy::WithinBalance,
        lot_lifetime_days: 1,
        ..terms(Vec::new())
    });
    let check = earned(&mut network, "100.00");
    redeemed(&mut network, 60);
    network.now = after(2 * DAY);
    let first = returned(&mut network, check, "50.00");
    assert_eq!(
        (first.points_forgiven, first.points_expired),
        (Points::new(50), Points::ZERO)
    );
    let second = returned(&mut network, check, "50.00");
    assert_eq!(
        (second.points_forgiven, second.points_expired),
        (Points::new(10), Points::new(40))
    );
}

/// After a return, each funder stands for what it would have issued for the remaining basis.
#[test]
fn a_return_leaves_the_shares_that_the_remaining_basis_earns() {
    let funders = vec![
        Funder {
            party: partner(SHOP).into(),
            weight: 90,
        },
        Funder {
            party: partner(OTHER).into(),
            weight: 10,
        },
    ];
    let shared = Terms {
        funders,
        ..terms(Vec::new())
    };
    let mut network = Builder::new()
        .partner(shop(), shared)
        .partner(partner(OTHER), terms(Vec::new()))
        .build();
    network.enroll(member(1));
    let check = earned(&mut network, "6.00");
    let shares = |network: &Network| -> Vec<i64> {
        network
            .book(member(1))
            .lots
            .values()
            .map(|lot| lot.points.get())
            .collect()
    };
    assert_eq!(shares(&network), [5, 1]);
    returned(&mut network, check, "2.00");
    assert_eq!(shares(&network), [4, 0], "what 4.00 earns at 90 to 10");
}

/// The number on a reversal is the till's word for the check that it undoes, not a return slip.
#[test]
fn a_reversal_uses_up_no_return_slip() {
    let mut network = network(terms(Vec::new()));
    for _ in 0..2 {
        let sale = earn(shop(), member(1), euros("10.00"));
        let sale = network.ask(Action::Earn(coalition_ledger::command::Earn {
            context: checked("A1"),
            ..sale
        }));
        posted(&network.run_one(&sale));
        let (key, _) = sale.request.expect("a request");
        let undo = coalition_ledger::command::Reverse {
            context: checked("A1"),
            ..reverse(shop(), Kind::Earn, key.id)
        };
        network.must_post(Action::Reverse(undo));
    }
    network.assert_audited();
}

/// A check that was undone by reference may be rung up again, also in a later batch.
#[test]
fn a_reversed_check_may_earn_again() {
    let mut network = network(terms(Vec::new()));
    let sale = || coalition_ledger::command::Earn {
        context: checked("A1"),
        ..earn(shop(), member(1), euros("10.00"))
    };
    let first = network.ask(Action::Earn(sale()));
    posted(&network.run_one(&first));
    let (key, _) = first.request.expect("a request");
    network.must_post(Action::Reverse(reverse(shop(), Kind::Earn, key.id)));
    network.must_post(Action::Earn(sale()));
}

/// A check that earned nothing is undone like any other.
#[test]
fn a_check_that_earned_nothing_can_be_reversed() {
    let mut network = network(terms(Vec::new()));
    let sale = network.ask(Action::Earn(earn(shop(), member(1), Minor::ZERO)));
    posted(&network.run_one(&sale));
    let (key, _) = sale.request.expect("a request");
    let undone = network.send(Action::Reverse(reverse(shop(), Kind::Earn, key.id)));
    assert_eq!(posted(&undone).points, Points::ZERO);
}

/// Of a redemption that was refunded whole nothing is left to reverse, whatever the check came to.
#[test]
fn a_refunded_redemption_has_nothing_left_to_reverse() {
    let mut network = network(terms(Vec::new()));
    earned(&mut network, "10.00");
    let spend = coalition_ledger::command::Redeem {
        check_total: Some((euros("20.00"), Currency::EUR)),
        ..redeem(shop(), member(1), 5)
    };
    let spend = network.ask(Action::Redeem(spend));
    let spent = posted(&network.run_one(&spend)).id;
    network.must_post(Action::RefundRedemption(refund(
        shop(),
        Original::Transaction(spent),
        5,
    )));
    let (key, _) = spend.request.expect("a request");
    let again = network.send(Action::Reverse(reverse(shop(), Kind::Redeem, key.id)));
    assert_eq!(declined(&again), Decline::AlreadyReversed);
}

/// Without pending days points are available at once, also where the till's clock runs ahead.
#[test]
fn points_of_a_till_that_runs_ahead_are_available_at_once() {
    let mut network = network(terms(Vec::new()));
    let ahead = coalition_ledger::command::Earn {
        occurred_at: Some(after(3 * MINUTE)),
        ..earn(shop(), member(1), euros("10.00"))
    };
    let earned = network.must_post(Action::Earn(ahead));
    assert_eq!(earned.balance.totals.available, Points::new(10));
    redeemed(&mut network, 10);
}

/// Points that are past their expiry when the check arrives are never shown as spendable.
#[test]
fn points_that_arrive_expired_are_not_in_the_balance() {
    let expiry = Leg::per_point(
        Trigger::Expire,
        LegParty::Issuer,
        LegParty::Operator,
        dec("0.01"),
    );
    let mut network = network(Terms {
        lot_lifetime_days: 1,
        ..terms(vec![expiry])
    });
    let late = coalition_ledger::command::Earn {
        occurred_at: Some(after(-DAY)),
        ..earn(shop(), member(1), euros("10.00"))
    };
    let earned = network.must_post(Action::Earn(late));
    assert_eq!(earned.points, Points::new(10));
    assert_eq!(earned.points_expired, Points::new(10));
    assert_eq!(earned.balance.totals.available, Points::ZERO);
    assert_eq!(earned.balance.next_expiry, None);
    assert_eq!(network.net(shop()).get(), -100_000, "its EXPIRE leg is due");
    network.assert_audited();
}

/// Commands that a service should never let through are refused, not booked.
#[test]
fn amounts_and_points_that_are_not_positive_are_refused() {
    let mut network = network(terms(Vec::new()));
    let check = earned(&mut network, "10.00");
    let spent = redeemed(&mut network, 5);
    let before = network.store.clone();
    let mut negative_discount = earn(shop(), member(1), euros("10.00"));
    negative_discount.amounts.discounts = euros("-50.00");
    let mut negative_total = redeem(shop(), member(1), 1);
    negative_total.check_total = Some((euros("-1.00"), Currency::EUR));
    let (check, spent) = (Original::Transaction(check), Original::Transaction(spent));
    let wrong = [
        Action::Earn(negative_discount),
        Action::Earn(earn(shop(), member(1), euros("-10.00"))),
        Action::ReturnEarn(return_earn(shop(), check.clone(), euros("-1.00"))),
        Action::ReturnEarn(return_earn(shop(), check, Minor::ZERO)),
        Action::Redeem(redeem(shop(), member(1), 0)),
        Action::Redeem(redeem(shop(), member(1), -3)),
        Action::Redeem(negative_total),
        Action::RefundRedemption(refund(shop(), spent.clone(), 0)),
        Action::RefundRedemption(refund(shop(), spent, -3)),
        Action::Fund(deposit(shop(), Minor::ZERO)),
        Action::Fund(withdraw(shop(), euros("-5.00"))),
    ];
    for action in wrong {
        let decision = network.send(action.clone());
        assert_eq!(
            decision,
            Decision::Refused(Refusal::OutOfRange),
            "{action:?}"
        );
    }
    assert_eq!(network.store, before);
}

/// Effects that enrol somebody are not empty, whoever asked for it.
#[test]
fn an_enrolment_without_a_request_is_written() {
    let network = Builder::new().build();
    let mut enrolment = command(1, uuid::Uuid::nil(), crate::support::enroll(member(1)));
    enrolment.request = None;
    let (_, effects) = network.clone().decide(&[enrolment]);
    assert!(!effects.is_empty());
}

/// A decline about a used return slip belongs to the member whose goods come back.
#[test]
fn a_used_slip_is_declined_in_the_name_of_the_member() {
    let mut network = network(terms(Vec::new()));
    let check = earned(&mut network, "10.00");
    let slip = |amount| coalition_ledger::command::ReturnEarn {
        context: Context {
            check_id: Some("R1".into()),
            ..Context::default()
        },
        ..return_earn(shop(), Original::Transaction(check), euros(amount))
    };
    network.must_post(Action::ReturnEarn(slip("1.00")));
    let Decision::Recorded { transaction, .. } = network.send(Action::ReturnEarn(slip("2.00")))
    else {
        panic!("not recorded");
    };
    assert_eq!(transaction.declined, Some(Decline::CheckAlreadyReturned));
    assert_eq!(transaction.member, Some(member(1)));
    assert_eq!(transaction.balance, network.book(member(1)).balance());
}

/// A share of a check in one currency is no amount in another: nobody has agreed on a rate.
#[test]
fn a_share_of_a_check_in_another_currency_is_refused() {
    let share = Leg {
        basis: Basis::Basket,
        ..Leg::per_point(
            Trigger::Redeem,
            LegParty::Issuer,
            LegParty::Operator,
            dec("0.10"),
        )
    };
    let dollars = Terms {
        currency: Currency::USD,
        ..terms(Vec::new())
    };
    let mut network = Builder::new()
        .face_value(Currency::USD, "0.01")
        .partner(shop(), terms(vec![share]))
        .partner(partner(OTHER), dollars)
        .build();
    network.enroll(member(1));
    earned(&mut network, "100.00");
    let spend = |shop: PartnerId, total| coalition_ledger::command::Redeem {
        check_total: total,
        ..redeem(shop, member(1), 10)
    };
    let before = network.store.clone();
    let total = Some((euros("20.00"), Currency::USD));
    let refused = network.send(Action::Redeem(spend(partner(OTHER), total)));
    let expected = Currency::EUR;
    assert_eq!(
        refused,
        Decision::Refused(Refusal::BasketCurrency { expected })
    );
    assert_eq!(network.store, before);
    // Without a total there is nothing to take a share of; in its own currency there is.
    network.must_post(Action::Redeem(spend(partner(OTHER), None)));
    assert_eq!(network.net(shop()).get(), 0);
    let total = Some((euros("20.00"), Currency::EUR));
    network.must_post(Action::Redeem(spend(shop(), total)));
    assert_eq!(network.net(shop()).get(), -2_000_000);
    network.assert_audited();
}
