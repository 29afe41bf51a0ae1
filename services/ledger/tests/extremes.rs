//! The ends of every range: whatever a command or an agreement says, the books answer; what does
//! not fit is refused as out of range, and nothing of it is booked.

use coalition_ledger::account::Account;
use coalition_ledger::agreement::{
    Agreement, Basis, Funder, Leg, LegParty, ReturnPolicy, Rounding, Terms, Trigger,
};
use coalition_ledger::command::{
    CheckAmounts, Command, Earn, Fund, Original, Redeem, RefundRedemption, ReturnEarn, Reverse,
};
use coalition_ledger::decision::{Decision, Refusal};
use coalition_ledger::ids::{IdMint, Party};
use coalition_ledger::leg::{Measure, amount};
use coalition_ledger::member::MemberBook;
use coalition_ledger::money::{Currency, Micros, Minor, Points, half_up};
use coalition_ledger::netting::{Method, net};
use coalition_ledger::snapshot::{self, Position, TotalKey};
use coalition_ledger::split::largest_remainder;
use coalition_ledger::time::Timestamp;
use coalition_ledger::transaction::Kind;
use coalition_ledger::view::{Ask, as_of, headroom, occurred_at, quote_earn, quote_redeem};
use proptest::prelude::*;
use proptest::sample::select;
use rust_decimal::Decimal;

use crate::properties::config;
use crate::support::commands::{IntoAction, checked};
use crate::support::{
    Builder, DAY, Network, START, Thrift, deposit, earn, member, partner, posted, redeem, refund,
    return_earn, reverse, sweep, terms,
};

/// Any whole number, most often one at an end of something.
fn wild() -> impl Strategy<Value = i64> {
    let ends = vec![
        i64::MIN,
        i64::MIN + 1,
        -1,
        0,
        1,
        2,
        100,
        1_000_000,
        i64::MAX / 1_000_000,
        i64::MAX / 10_000,
        i64::MAX / 2,
        i64::MAX - 1,
        i64::MAX,
    ];
    prop_oneof![3 => select(ends), 1 => any::<i64>(), 4 => 0..=10_000_i64]
}

/// Any decimal, most often one at an end of something.
fn wild_decimal() -> impl Strategy<Value = Decimal> {
    let ends = vec![
        Decimal::MAX,
        Decimal::MIN,
        Decimal::ZERO,
        Decimal::ONE,
        Decimal::NEGATIVE_ONE,
        Decimal::new(1, 28),
        Decimal::new(-1, 28),
        Decimal::new(5, 7),
        Decimal::new(1, 2),
        Decimal::from(1_000_000_000),
        Decimal::from(i64::MAX),
    ];
    let any = (any::<i64>(), 0..=28_u32).prop_map(|(digits, scale)| Decimal::new(digits, scale));
    prop_oneof![3 => select(ends), 1 => any]
}

fn wild_instant() -> impl Strategy<Value = Timestamp> {
    let near = (-8 * DAY..=8 * DAY).prop_map(|micros| START.saturating_add_micros(micros));
    prop_oneof![wild().prop_map(Timestamp::from_micros), near]
}

fn currencies() -> impl Strategy<Value = Currency> {
    select(vec![
        Currency::EUR,
        Currency::JPY,
        Currency::KWD,
        Currency::CLF,
        Currency::XAU,
    ])
}

fn wild_legs() -> impl Strategy<Value = Leg> {
    let party = || {
        select(vec![
            LegParty::Issuer,
            LegParty::Redeemer,
            LegParty::Operator,
            LegParty::Named(partner(1)),
            LegParty::Named(partner(2)),
        ])
    };
    let trigger = select(vec![Trigger::Earn, Trigger::Redeem, Trigger::Expire]);
    let basis = select(vec![
        Basis::PerPoint,
        Basis::FaceValue,
        Basis::Basket,
        Basis::Fixed,
    ]);
    let rounding = select(vec![Rounding::Micro, Rounding::Minor]);
    let bound = || prop::option::weighted(0.3, wild_decimal());
    (
        trigger,
        party(),
        party(),
        basis,
        wild_decimal(),
        bound(),
        bound(),
        rounding,
    )
        .prop_map(|(trigger, from, to, basis, rate, min, max, rounding)| Leg {
            trigger,
            from,
            to,
            basis,
            rate,
            min,
            max,
            rounding,
        })
}

/// Terms that no validation has seen.
fn wild_terms(legs: impl Strategy<Value = Leg>) -> impl Strategy<Value = Terms> {
    let rates = prop_oneof![wild_decimal(), Just(Decimal::ONE)];
    let days = || select(vec![0, 1, 365, 36_500, u32::MAX]);
    let party = select(vec![Party::Operator, partner(1).into(), partner(2).into()]);
    let weights = select(vec![0, 1, 1_000_000, u32::MAX]);
    let funder = (party, weights).prop_map(|(party, weight)| Funder { party, weight });
    let funders = prop::collection::vec(funder, 0..=3);
    let legs = prop::collection::vec(legs, 0..=3);
    let limit = prop::option::weighted(0.3, wild().prop_map(Micros::new));
    let plain = (currencies(), any::<(bool, bool, bool)>());
    (rates, days(), days(), funders, legs, limit, plain).prop_map(
        |(points_per_unit, lot_lifetime_days, pending_days, funders, legs, limit, plain)| Terms {
            currency: plain.0,
            points_per_unit,
            lot_lifetime_days,
            pending_days,
            return_policy: if plain.1.0 {
                ReturnPolicy::WithinBalance
            } else {
                ReturnPolicy::AllowNegative
            },
            include_tax: plain.1.1,
            include_tip: plain.1.1,
            include_gift_cards: plain.1.2,
            funders,
            limit,
            net_inbound: plain.1.2,
            alert_below_points: limit.map(|limit| Points::new(limit.get())),
            legs,
        },
    )
}

/// One wild thing after another, each naming the last ones as its original.
#[derive(Clone, Debug)]
struct Wild {
    kind: u8,
    shop: u8,
    numbers: [i64; 6],
    currency: Currency,
    occurred_at: Option<Timestamp>,
    now: Timestamp,
}

fn wild_commands() -> impl Strategy<Value = Vec<Wild>> {
    let numbers = prop::array::uniform6(wild());
    let occurred_at = prop::option::weighted(0.2, wild_instant());
    let now = prop_oneof![9 => Just(START), 1 => wild_instant()];
    let kind = select(vec![0_u8, 0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7]);
    let wild = (kind, 1..=2_u8, numbers, currencies(), occurred_at, now).prop_map(
        |(kind, shop, numbers, currency, occurred_at, now)| Wild {
            kind,
            shop,
            numbers,
            currency,
            occurred_at,
            now,
        },
    );
    prop::collection::vec(wild, 1..=16)
}

impl Wild {
    fn amounts(&self) -> CheckAmounts {
        let [gross, discounts, tax, tip, gift_card, paid_with_points] =
            self.numbers.map(Minor::new);
        CheckAmounts {
            gross,
            discounts,
            tax,
            tip,
            gift_card,
            paid_with_points,
        }
    }

    /// The command, where `last` names an earn and a redemption to undo.
    fn command(&self, network: &mut Network, last: &[Option<uuid::Uuid>; 2]) -> Command {
        let (shop, occurred_at) = (partner(self.shop), self.occurred_at);
        let [first, second, third, ..] = self.numbers;
        // Mostly the currency that was agreed.
        let agreed = &network.terms.agreements[usize::from(self.shop) - 1].terms;
        let currency = if third == 0 {
            self.currency
        } else {
            agreed.currency
        };
        let request = |place: usize| last[place].unwrap_or_default();
        let action = match self.kind {
            0 => {
                let gross = Minor::new(first);
                let plain = CheckAmounts {
                    gross,
                    ..CheckAmounts::default()
                };
                let amounts = if second < 0 { self.amounts() } else { plain };
                let sale = earn(shop, member(1), gross);
                Earn {
                    amounts,
                    currency,
                    occurred_at,
                    ..sale
                }
                .into_action()
            }
            1 => {
                let spend = redeem(shop, member(1), first);
                let check_total = (second != 0).then_some((Minor::new(second), currency));
                Redeem {
                    check_total,
                    occurred_at,
                    ..spend
                }
                .into_action()
            }
            2 => {
                let original = Original::Request(request(0));
                let ret = return_earn(shop, original, Minor::new(first));
                ReturnEarn {
                    currency,
                    occurred_at,
                    ..ret
                }
                .into_action()
            }
            3 => {
                let back = refund(shop, Original::Request(request(1)), first);
                RefundRedemption {
                    occurred_at,
                    ..back
                }
                .into_action()
            }
            4 => {
                let (kind, place) = if first < 0 {
                    (Kind::Earn, 0)
                } else {
                    (Kind::Redeem, 1)
                };
                Reverse {
                    occurred_at,
                    ..reverse(shop, kind, request(place))
                }
                .into_action()
            }
            5 | 6 => {
                let withdrawal = self.kind == 6;
                let fund = deposit(shop, Minor::new(first));
                Fund {
                    withdrawal,
                    currency,
                    ..fund
                }
                .into_action()
            }
            _ => return sweep(member(1)),
        };
        network.ask(action)
    }
}

/// Runs wild commands; the network's clock never steps back.
fn run(network: &mut Network, commands: &[Wild]) {
    let mut last = [None, None];
    network.enroll(member(1));
    for wild in commands {
        network.now = network.now.max(wild.now);
        let command = wild.command(network, &last);
        let (decisions, effects) = network.decide(std::slice::from_ref(&command));
        if let Err(conflict) = network.store.write(&effects, network.window) {
            // What a window or a party has seen in earlier batches is the store's to know.
            assert!(conflict.0.ends_with("out of range"), "{conflict:?}");
            continue;
        }
        let [decision] = decisions.as_slice() else {
            panic!("one decision per command")
        };
        let Decision::Recorded {
            transaction,
            replayed: false,
        } = decision
        else {
            continue;
        };
        for transfer in &transaction.posting.transfers {
            assert!(transfer.amount > 0, "{transfer:?}");
        }
        if let (Some((key, _)), None) = (&command.request, transaction.declined) {
            match transaction.kind {
                Kind::Earn => last[0] = Some(key.id),
                Kind::Redeem => last[1] = Some(key.id),
                _ => {}
            }
        }
    }
}

fn network_with(first: Terms, second: Terms) -> Network {
    let mut network = Builder::new()
        .face_value(Currency::KWD, "0.000000000001")
        .face_value(Currency::JPY, "79228162514264337593543950335")
        .partner(partner(1), first)
        .partner(partner(2), second)
        .build();
    network.thrift = Thrift::Few(1);
    network
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn wild_commands_under_wild_terms_are_answered(
        first in wild_terms(wild_legs()),
        second in wild_terms(wild_legs()),
        commands in wild_commands(),
    ) {
        run(&mut network_with(first, second), &commands);
    }

    #[test]
    fn wild_commands_under_agreed_terms_leave_sound_books(
        price in 0..=1_000_000_i64,
        rate in select(vec!["1", "0.5", "1000000000"]),
        commands in wild_commands(),
    ) {
        let price = Decimal::new(price, 6);
        let legs = coalition_ledger::agreement::settle_at_issue(price, price);
        let points_per_unit = crate::support::dec(rate);
        let agreed = Terms { points_per_unit, ..terms(legs) };
        agreed.validate().expect("terms that may be agreed");
        let mut network = network_with(agreed.clone(), agreed);
        run(&mut network, &commands);
        network.assert_audited();
    }

    #[test]
    fn wild_questions_are_answered(
        first in wild_terms(wild_legs()),
        wild in wild_commands(),
        rates in (wild_decimal(), wild_decimal()),
        at in wild_instant(),
        leg in wild_legs(),
    ) {
        let _ = first.validate();
        let _ = first.issue_price_per_point();
        let network = network_with(first.clone(), terms(Vec::new()));
        for wild in wild {
            let [points, basket, limit, debits, credits, funds] = wild.numbers;
            let amounts = wild.amounts();
            let _ = quote_earn(&network.rulebook, partner(1), &amounts, wild.currency, at);
            let mut book = MemberBook::new(member(1));
            book.totals.available = Points::new(points);
            book.totals.debt = Points::new(basket);
            let asks = [
                Ask::Everything,
                Ask::Points(Points::new(limit)),
                Ask::Amount(Minor::new(limit), wild.currency),
            ];
            for ask in asks {
                let _ = quote_redeem(&network.rulebook, partner(1), &book, ask, at);
            }
            let _ = as_of(book, at);
            let _ = occurred_at(wild.occurred_at, wild.now, limit);
            let measure = Measure { points: Points::new(points), basket: Minor::new(basket) };
            let _ = amount(&leg, wild.currency, rates.0, measure);
            let [debits, credits, funds] = [debits, credits, funds].map(Micros::new);
            let position = Position { debits, credits, funds, reserved: Micros::new(limit) };
            let _ = headroom(position, &first);
            let _ = network.rulebook.worth(Points::new(points), wild.currency);
            let _ = network.rulebook.points_for(Micros::new(points), wild.currency);
            let _ = Micros::from_major(rates.1).and_then(|micros| micros.to_minor(wild.currency));
            let _ = Minor::new(points).to_major(wild.currency);
            let _ = half_up(rates.1, 6);
            let weights = [points, basket, limit].map(i64::unsigned_abs);
            let _ = largest_remainder(points, &weights);
            let _ = IdMint::new([0; 6]).mint(at);
            let flow = |from: u8, to: u8, amount| {
                let unit = coalition_ledger::money::Unit::Money(wild.currency);
                let (party, counterparty) = (partner(from).into(), partner(to).into());
                let measure = snapshot::Measure::Flow;
                (TotalKey { measure, party, counterparty, unit }, amount)
            };
            let totals = [flow(1, 2, points), flow(2, 1, basket), flow(1, 1, limit)];
            for method in [Method::Multilateral, Method::Bilateral, Method::Gross] {
                let _ = net(&totals, method);
            }
        }
    }
}

/// Sends something that does not fit, and sees that nothing of it stays.
#[track_caller]
fn refused(network: &mut Network, action: impl IntoAction) {
    let before = network.store.clone();
    let decision = network.send(action);
    assert_eq!(decision, Decision::Refused(Refusal::OutOfRange));
    assert_eq!(network.store, before);
}

/// A shop whose legs cost 1,000 major units per point.
fn dear() -> Network {
    let price = Decimal::from(1_000);
    let legs = vec![
        Leg::per_point(Trigger::Earn, LegParty::Issuer, LegParty::Operator, price),
        Leg::per_point(
            Trigger::Redeem,
            LegParty::Operator,
            LegParty::Redeemer,
            price,
        ),
    ];
    let mut network = Builder::new().partner(partner(1), terms(legs)).build();
    network.enroll(member(1));
    network
}

#[test]
fn a_leg_beyond_the_books_refuses_the_whole_check() {
    let most = i64::MAX / 1_000_000 / 1_000;
    let mut network = dear();
    refused(
        &mut network,
        earn(partner(1), member(1), Minor::new((most + 1) * 100)),
    );
    network.must_post(earn(partner(1), member(1), Minor::new(most * 100)));
}

#[test]
fn sums_that_would_overflow_refuse_the_check_that_would_overflow_them() {
    let most = i64::MAX / 1_000_000 / 1_000;
    let mut network = dear();
    let sale = || Earn {
        context: checked("A"),
        ..earn(partner(1), member(1), Minor::new(most * 60))
    };
    let twice = [
        sale(),
        Earn {
            context: checked("B"),
            ..sale()
        },
    ];
    let batch: Vec<Command> = twice.iter().map(|sale| network.ask(sale.clone())).collect();
    let decisions = network.run(&batch);
    posted(&decisions[0]);
    assert_eq!(
        decisions[1],
        Decision::Refused(Refusal::OutOfRange),
        "the window's total"
    );
    network.assert_audited();
}

#[test]
fn points_beyond_the_books_refuse_the_check() {
    let rate = Terms {
        points_per_unit: Decimal::from(1_000_000_000),
        ..terms(Vec::new())
    };
    let mut network = Builder::new().partner(partner(1), rate).build();
    network.enroll(member(1));
    refused(
        &mut network,
        earn(partner(1), member(1), Minor::new(i64::MAX)),
    );
    let fits = i64::MAX / 1_000_000_000 * 100;
    network.must_post(earn(partner(1), member(1), Minor::new(fits)));
    refused(&mut network, earn(partner(1), member(1), Minor::new(fits)));
}

#[test]
fn deductions_beyond_the_range_refuse_the_check() {
    let mut network = dear();
    let mut sale = earn(partner(1), member(1), Minor::new(i64::MAX));
    sale.amounts.discounts = Minor::new(i64::MAX);
    sale.amounts.gift_card = Minor::new(i64::MAX);
    refused(&mut network, sale);
}

#[test]
fn a_lot_that_would_outlive_time_refuses_the_check() {
    let mut network = dear();
    network.now = Timestamp::from_micros(i64::MAX - DAY);
    refused(&mut network, earn(partner(1), member(1), Minor::new(100)));
}

#[test]
fn a_lot_pinned_to_terms_that_are_gone_refuses_what_needs_them() {
    let mut network = dear();
    let check = network.must_post(earn(partner(1), member(1), Minor::new(1_000)));
    let agreed: Agreement = network.terms.agreements.remove(0);
    network.terms = network.terms.version(partner(1), START, terms(Vec::new()));
    network.terms.agreements[0].id =
        coalition_ledger::ids::AgreementId::from_uuid(uuid::Uuid::from_u128(0xdead));
    network.rulebook = network.terms.rulebook();
    let missing = Decision::Refused(Refusal::MissingAgreement(agreed.id));
    assert_eq!(network.send(redeem(partner(1), member(1), 1)), missing);
    let original = Original::Transaction(check.id);
    assert_eq!(
        network.send(return_earn(partner(1), original, Minor::new(100))),
        missing
    );
    assert_eq!(
        network
            .store
            .transactions
            .values()
            .filter(|t| {
                t.posting
                    .transfers
                    .iter()
                    .any(|t| matches!(t.credit, Account::Redeemed(_)))
            })
            .count(),
        0
    );
}
