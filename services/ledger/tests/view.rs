//! What is shown is what happens: books as of an instant, and quotes.

use coalition_ledger::command::{Action, CheckAmounts, Earn, Redeem};
use coalition_ledger::decision::Decision;
use coalition_ledger::ids::Party;
use coalition_ledger::member::{Known, Lot, MemberBook, Upcoming};
use coalition_ledger::money::{Currency, Micros, Minor, Points};
use coalition_ledger::transaction::{Decline, Slice, Transaction};
use coalition_ledger::view::{
    Ask, NoQuote, as_of, by_issuer, quote_earn, quote_redeem, upcoming_expiries,
};
use proptest::prelude::*;

use crate::properties::{config, history};
use crate::support::{
    Builder, DAY, Network, Thrift, earn, euros, member, partner, posted, redeem, sweep, terms,
};
use crate::world::{MEMBERS, scripts, worlds};

/// A book without what writing it changes.
fn content(book: MemberBook) -> MemberBook {
    MemberBook {
        version: 0,
        known: Known::All,
        ..book
    }
}

/// Sends a command; its posting, unless it was declined or refused.
fn posting(network: &mut Network, action: Action) -> Result<Transaction, Decision> {
    let decision = network.send(action);
    match &decision {
        Decision::Recorded { transaction, .. } if transaction.declined.is_none() => {
            Ok(posted(&decision))
        }
        _ => Err(decision),
    }
}

/// Lots with how many points each, in order.
fn drawn(slices: &[Slice]) -> Vec<(Party, Points)> {
    slices
        .iter()
        .map(|slice| (slice.issuer, slice.points))
        .collect()
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn a_book_as_of_an_instant_is_the_book_after_a_sweep(
        world in worlds(),
        script in scripts(),
        advance in 0..=40 * DAY,
        instant_of in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut network = history(&world, &script);
        network.thrift = Thrift::Few(0);
        // Some time later, or the very instant at which something matures or expires.
        let lots = network.store.lots.values().flat_map(|(_, lot)| [lot.pending_until, lot.expires_at]);
        let instants: Vec<_> = lots.filter(|at| *at > network.now).collect();
        network.now = match instant_of {
            Some(index) if !instants.is_empty() => *index.get(&instants),
            _ => network.now.saturating_add_micros(advance),
        };
        for number in 0..MEMBERS {
            let seen = as_of(network.book(member(number)), network.now).expect("in range");
            network.run_one(&sweep(member(number)));
            prop_assert_eq!(content(seen), content(network.book(member(number))));
        }
    }

    #[test]
    fn a_quote_of_a_check_is_what_it_earns(
        world in worlds(),
        script in scripts(),
        at in any::<u8>(),
        amounts in prop::array::uniform6(0..=9_000_i64),
    ) {
        let mut network = history(&world, &script);
        let (shop, buyer) = (at % world.partners(), member(at % 3));
        let [gross, discounts, tax, tip, gift_card, paid_with_points] = amounts.map(Minor::new);
        let amounts = CheckAmounts { gross, discounts, tax, tip, gift_card, paid_with_points };
        let currency = world.currency(shop);
        let quote = quote_earn(&network.rulebook, partner(shop), &amounts, currency, network.now);
        let sale = Earn { amounts, currency, ..earn(partner(shop), buyer, gross) };
        match (posting(&mut network, Action::Earn(sale)), quote) {
            (Ok(earned), Ok(quote)) => {
                prop_assert_eq!(earned.points, quote.points);
                prop_assert_eq!(earned.amount, Some((quote.basis, quote.currency)));
                prop_assert_eq!(earned.agreement, Some(quote.agreement));
                let issued = Slice::by_lot(earned.issued()).expect("in range");
                let lots: Vec<_> = (issued.iter())
                    .map(|lot| (lot.issuer, lot.points, lot.lot.expires_at, lot.agreement))
                    .collect();
                let quoted: Vec<_> = (quote.lots.iter())
                    .map(|lot| (lot.issuer, lot.points, lot.expires_at, Some(lot.agreement)))
                    .collect();
                prop_assert_eq!(lots, quoted);
            }
            (Err(Decision::Refused(refusal)), quote) => {
                prop_assert_eq!(quote, Err(NoQuote::Refused(refusal)));
            }
            // A quote knows nothing of the member and of limits.
            (Err(Decision::Recorded { transaction, .. }), quote) => if let Err(quoted) = quote {
                let decline = transaction.declined.expect("declined");
                prop_assert_eq!(quoted, NoQuote::Declined(decline));
            } else { prop_assert_eq!(transaction.declined, Some(Decline::LimitExceeded)) },
            (answer, quote) => prop_assert!(false, "{answer:?} against {quote:?}"),
        }
    }

    #[test]
    fn a_quote_of_a_redemption_is_what_it_takes(
        world in worlds(),
        script in scripts(),
        at in any::<u8>(),
        points in prop::option::of(1..=5_000_i64),
        advance in 0..=3 * DAY,
    ) {
        let mut network = history(&world, &script);
        network.now = network.now.saturating_add_micros(advance);
        let (shop, buyer) = (at % world.partners(), member(at % 3));
        let book = as_of(network.book(buyer), network.now).expect("in range");
        let ask = points.map_or(Ask::Everything, |points| Ask::Points(Points::new(points)));
        let quote = quote_redeem(&network.rulebook, partner(shop), &book, ask, network.now);
        let quote = quote.expect("a trading partner and an active member");
        let owned = book.totals.balance().expect("in range").max(Points::ZERO);
        prop_assert_eq!(quote.max_points, owned);
        if quote.points.is_zero() {
            prop_assert_eq!(quote.lots, []);
            return Ok(());
        }
        let spend = redeem(partner(shop), buyer, quote.points.get());
        match posting(&mut network, Action::Redeem(spend)) {
            Ok(spent) => {
                let quoted: Vec<_> =
                    quote.lots.iter().map(|(lot, points)| (lot.issuer, *points)).collect();
                prop_assert_eq!(drawn(&spent.spent()), quoted);
            }
            Err(Decision::Recorded { transaction, .. }) => {
                prop_assert_eq!(transaction.declined, Some(Decline::LimitExceeded));
            }
            Err(other) => prop_assert!(false, "{other:?}"),
        }
        let one_more = redeem(partner(shop), buyer, owned.get() + 1);
        let refused = posting(&mut network, Action::Redeem(Redeem { ..one_more }));
        prop_assert!(refused.is_err(), "nobody spends more than the quote's most");
    }
}

#[test]
fn an_amount_buys_whole_points_rounded_down() {
    let mut network = Builder::new()
        .partner(partner(1), terms(Vec::new()))
        .build();
    network.enroll(member(1));
    network.must_post(earn(partner(1), member(1), euros("500.00")));
    let book = network.book(member(1));
    let ask = |amount| {
        let ask = Ask::Amount(euros(amount), Currency::EUR);
        quote_redeem(&network.rulebook, partner(1), &book, ask, network.now).expect("a quote")
    };
    assert_eq!(ask("1.23").points, Points::new(123));
    assert_eq!(ask("1.23").worth, Micros::new(1_230_000));
    assert_eq!(
        ask("80.00").points,
        Points::new(500),
        "at most all there is"
    );
    assert_eq!(ask("80.00").max_worth, Micros::new(5_000_000));
}

#[test]
fn a_question_for_less_than_nothing_is_one_for_nothing() {
    let mut network = Builder::new()
        .partner(partner(1), terms(Vec::new()))
        .build();
    network.enroll(member(1));
    network.must_post(earn(partner(1), member(1), euros("500.00")));
    let ask = Ask::Points(Points::new(-5));
    let book = network.book(member(1));
    let quote = quote_redeem(&network.rulebook, partner(1), &book, ask, network.now);
    let quote = quote.expect("a quote");
    assert_eq!(
        (quote.points, quote.lots),
        (Points::ZERO, Vec::<(Lot, Points)>::new())
    );
}

#[test]
fn upcoming_expiries_come_one_per_instant_and_no_more_than_asked_for() {
    let short = coalition_ledger::agreement::Terms {
        lot_lifetime_days: 10,
        ..terms(Vec::new())
    };
    let mut network = Builder::new()
        .partner(partner(1), short)
        .partner(partner(2), terms(Vec::new()))
        .build();
    network.enroll(member(1));
    for (shop, gross) in [(2, "5.00"), (1, "7.00"), (1, "8.00"), (2, "1.00")] {
        network.must_post(earn(partner(shop), member(1), euros(gross)));
    }
    let book = network.book(member(1));
    let upcoming = |most| upcoming_expiries(&book, most).expect("in range");
    let points = |rows: &[Upcoming]| rows.iter().map(|row| row.points.get()).collect::<Vec<_>>();
    assert_eq!(points(&upcoming(9)), [15, 6]);
    assert_eq!(points(&upcoming(1)), [15]);
    assert_eq!(upcoming(0), []);
    assert_eq!(upcoming(1).first().copied(), book.next_expiry);
    let issuers = by_issuer(&book).expect("in range");
    let held = |shop: u8| issuers[&Party::from(partner(shop))].available.get();
    assert_eq!((held(1), held(2)), (15, 6));
}
