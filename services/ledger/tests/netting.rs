//! What a settlement comes to, whatever flowed.

use std::collections::BTreeMap;

use coalition_ledger::ids::Party;
use coalition_ledger::money::{Currency, Micros, Minor, OutOfRange, Unit};
use coalition_ledger::netting::{Method, Netting, net};
use coalition_ledger::snapshot::{Measure, TotalKey};
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::partner;

const METHODS: [Method; 3] = [Method::Multilateral, Method::Bilateral, Method::Gross];

/// The party with this number; 0 is the operator.
fn party(number: u8) -> Party {
    if number == 0 {
        Party::Operator
    } else {
        partner(number).into()
    }
}

/// A window's total of what flowed from one party to another, in micro-units.
fn flow(from: u8, to: u8, currency: Currency, micros: i64) -> (TotalKey, i64) {
    let (measure, unit) = (Measure::Flow, Unit::Money(currency));
    (
        TotalKey {
            measure,
            party: party(from),
            counterparty: party(to),
            unit,
        },
        micros,
    )
}

fn paid_by(netting: &Netting, party: Party, currency: Currency) -> i64 {
    let own = netting
        .payments
        .iter()
        .filter(|payment| payment.currency == currency);
    own.map(|payment| {
        let amount = payment.amount.get();
        let received = if payment.payee == party { amount } else { 0 };
        received - if payment.payer == party { amount } else { 0 }
    })
    .sum()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn nets_cancel_and_payments_of_every_method_come_to_them(
        flows in prop::collection::vec(
            (
                0..=5_u8,
                0..=5_u8,
                select(vec![Currency::EUR, Currency::JPY, Currency::KWD]),
                prop_oneof![-30_000..=30_000_i64, -9_000_000_000..=9_000_000_000_i64],
            ),
            0..=30,
        ),
    ) {
        let totals: Vec<_> =
            flows.iter().map(|(from, to, currency, micros)| flow(*from, *to, *currency, *micros)).collect();
        for method in METHODS {
            let netting = net(&totals, method).expect("in range");
            let mut exact: BTreeMap<(&str, Party), i64> = BTreeMap::new();
            for (from, to, currency, micros) in &flows {
                *exact.entry((currency.code(), party(*from))).or_default() -= micros;
                *exact.entry((currency.code(), party(*to))).or_default() += micros;
            }
            let mut sums: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
            for own in &netting.nets {
                let expected = exact.remove(&(own.currency.code(), own.party)).unwrap_or_default();
                prop_assert_eq!(own.net.get(), expected);
                let (micros, minor) = sums.entry(own.currency.code()).or_default();
                *micros += own.net.get();
                *minor += own.net_minor.get();
                prop_assert_eq!(paid_by(&netting, own.party, own.currency), own.net_minor.get());
                if own.party != Party::Operator {
                    let half = Minor::new(1).to_micros(own.currency).expect("small").get();
                    let paid = own.net_minor.to_micros(own.currency).expect("small").get();
                    prop_assert!((paid - own.net.get()).abs() * 2 <= half, "rounded half up");
                }
            }
            prop_assert!(exact.is_empty(), "a party without a net: {exact:?}");
            prop_assert!(sums.values().all(|sum| *sum == (0, 0)), "{sums:?}");
            check_rounding(&netting)?;
            check_payments(&netting, method)?;
        }
    }
}

/// What is stated as rounding is what the operator's figure has over its exact one.
fn check_rounding(netting: &Netting) -> Result<(), TestCaseError> {
    for (currency, rounding) in &netting.rounding {
        let operator = netting
            .nets
            .iter()
            .find(|own| own.party == Party::Operator && own.currency == *currency);
        let operator = operator.expect("the operator's net");
        let paid = operator.net_minor.to_micros(*currency).expect("in range");
        prop_assert_eq!(paid.minus(operator.net), Ok(*rounding));
    }
    Ok(())
}

/// Payments are positive, between two parties, and one per pair (and direction, where the method
/// keeps directions apart).
fn check_payments(netting: &Netting, method: Method) -> Result<(), TestCaseError> {
    let mut seen = BTreeMap::new();
    for payment in &netting.payments {
        prop_assert!(payment.amount.is_positive());
        prop_assert_ne!(payment.payer, payment.payee);
        let mut pair = [payment.payer, payment.payee];
        if method != Method::Gross {
            pair.sort_unstable();
        }
        if method == Method::Multilateral {
            prop_assert!(pair.contains(&Party::Operator));
        }
        let key = (payment.currency.code(), pair);
        prop_assert_eq!(
            seen.insert(key, payment.amount),
            None,
            "two payments of one pair"
        );
    }
    Ok(())
}

#[test]
fn gross_payments_of_one_pair_and_direction_are_one_payment() {
    let euro = Currency::EUR;
    // Two payments of 1.004 round to 1.00 each, their sum to 2.01: the cent joins the payment to
    // the operator.
    let flows = [flow(1, 0, euro, 1_004_000), flow(1, 2, euro, 1_004_000)];
    let netting = net(&flows, Method::Gross).expect("in range");
    let to_operator: Vec<Minor> = (netting.payments.iter())
        .filter(|payment| (payment.payer, payment.payee) == (party(1), Party::Operator))
        .map(|payment| payment.amount)
        .collect();
    assert_eq!(to_operator, [Minor::new(101)]);
}

#[test]
fn a_window_of_refunds_alone_turns_the_payment_round() {
    let netting = net(&[flow(1, 2, Currency::EUR, -5_000_000)], Method::Gross).expect("in range");
    let payment = netting.payments.first().expect("a payment");
    assert_eq!((payment.payer, payment.payee), (party(2), party(1)));
    assert_eq!(payment.amount, Minor::new(500));
}

#[test]
fn rounding_is_half_up_per_partner_and_the_operator_takes_the_rest() {
    let euro = Currency::EUR;
    let flows = [
        flow(1, 0, euro, 5_000),
        flow(2, 0, euro, 5_000),
        flow(0, 3, euro, 4_999),
    ];
    let netting = net(&flows, Method::Multilateral).expect("in range");
    let nets: Vec<(Party, i64, i64)> = netting
        .nets
        .iter()
        .map(|own| (own.party, own.net.get(), own.net_minor.get()))
        .collect();
    let expected = [
        (party(0), 5_001, 2),
        (party(1), -5_000, -1),
        (party(2), -5_000, -1),
        (party(3), 4_999, 0),
    ];
    assert_eq!(nets, expected);
    assert_eq!(netting.rounding, [(euro, Micros::new(20_000 - 5_001))]);
    assert_eq!(netting.payments.len(), 2, "a net of zero pays nothing");
}

#[test]
fn an_empty_window_nets_to_nothing() {
    for method in METHODS {
        assert_eq!(net(&[], method), Ok(Netting::default()));
    }
}

#[test]
fn a_partner_spending_its_own_points_owes_nobody() {
    for method in METHODS {
        let netting = net(&[flow(1, 1, Currency::EUR, 7_000_000)], method).expect("in range");
        assert_eq!(netting.payments, []);
        assert_eq!(netting.gross, [(Currency::EUR, Micros::new(7_000_000))]);
    }
}

#[test]
fn sums_beyond_the_books_are_errors() {
    let flows = [
        flow(1, 2, Currency::EUR, i64::MAX),
        flow(1, 2, Currency::EUR, 1),
    ];
    assert_eq!(net(&flows, Method::Multilateral), Err(OutOfRange));
    let flows = [flow(1, 2, Currency::EUR, i64::MIN)];
    for method in METHODS {
        assert_eq!(net(&flows, method), Err(OutOfRange));
    }
}
