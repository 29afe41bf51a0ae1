//! A figure that was changed by hand is found and named.

use coalition_ledger::agreement::{Leg, LegParty, Terms, Trigger, settle_at_issue};
use coalition_ledger::audit::{Auditor, Counts, Finding};
use coalition_ledger::command::Original;
use coalition_ledger::money::{Currency, Micros, Minor, Points, Unit};
use coalition_ledger::snapshot::Measure;
use coalition_ledger::transaction::{Decline, Kind, Transaction};

use crate::support::{
    Builder, DAY, MemoryStore, Network, after, dec, deposit, earn, euros, member, partner, redeem,
    refund, return_earn, sweep, terms,
};

/// Books in which everything has happened once: an earn, a return after all was spent, a refund,
/// an expiry, a maturity, a deposit, a decline.
fn network() -> Network {
    let mut legs = settle_at_issue(dec("0.01"), dec("0.008"));
    legs.push(Leg::per_point(
        Trigger::Expire,
        LegParty::Issuer,
        LegParty::Operator,
        dec("0.001"),
    ));
    let slow = Terms {
        pending_days: 1,
        lot_lifetime_days: 2,
        ..terms(legs.clone())
    };
    let mut network = Builder::new()
        .partner(partner(1), terms(legs))
        .partner(partner(2), slow)
        .build();
    network.enroll(member(1));
    network.enroll(member(2));
    network.must_post(deposit(partner(1), euros("50.00")));
    let check = network.must_post(earn(partner(1), member(1), euros("100.00")));
    network.must_post(earn(partner(2), member(2), euros("40.00")));
    let spent = network.must_post(redeem(partner(2), member(1), 90));
    network.must_post(refund(partner(2), Original::Transaction(spent.id), 5));
    network.must_post(return_earn(
        partner(1),
        Original::Transaction(check.id),
        euros("30.00"),
    ));
    network.send(redeem(partner(1), member(1), 1_000));
    for days in [1, 2] {
        network.now = after(days * DAY);
        network.run_one(&sweep(member(2)));
    }
    network.must_post(earn(partner(2), member(2), euros("10.00")));
    network
}

fn of_kind(store: &mut MemoryStore, kind: Kind) -> &mut Transaction {
    let mut found = store.transactions.values_mut();
    found
        .find(|transaction| transaction.kind == kind)
        .expect("one of each kind")
}

/// Adds a point to the first lot's figure that `pick` names.
fn lot(store: &mut MemoryStore) -> &mut coalition_ledger::member::Lot {
    &mut store.lots.values_mut().next().expect("a lot").1
}

/// An edit, by name.
type Edit = (&'static str, fn(&mut MemoryStore));

const ONE: Points = Points::new(1);

#[test]
fn sound_books_have_no_findings() {
    let network = network();
    network.assert_audited();
    let mut auditor = Auditor::naming();
    network
        .store
        .transactions
        .values()
        .for_each(|transaction| auditor.transaction(transaction));
    let Counts {
        transactions,
        postings,
        transfers,
        ..
    } = auditor.counts();
    let rows = network.store.transactions.len();
    assert_eq!(usize::try_from(transactions), Ok(rows));
    assert_eq!(transactions - postings, 1, "one decline");
    let all = network.store.transactions.values();
    let sum: usize = all
        .map(|transaction| transaction.posting.transfers.len())
        .sum();
    assert_eq!(usize::try_from(transfers), Ok(sum));
}

#[test]
fn transactions_may_come_in_any_order() {
    let network = network();
    let mut auditor = Auditor::naming();
    network
        .store
        .transactions
        .values()
        .rev()
        .for_each(|t| auditor.transaction(t));
    network
        .store
        .lots
        .values()
        .for_each(|(_, lot)| auditor.lot(lot));
    network
        .store
        .members
        .values()
        .for_each(|book| auditor.member(book));
    let debts = network
        .store
        .debts
        .iter()
        .map(|((member, issuer), points)| {
            let (member, issuer, points) = (*member, *issuer, *points);
            coalition_ledger::snapshot::DebtRecord {
                member,
                issuer,
                points,
            }
        });
    auditor.debts(&debts.collect::<Vec<_>>());
    auditor.window(network.window, &network.store.totals_of(network.window));
    auditor.positions(&network.store.all_positions());
    auditor.finish();
    assert_eq!(auditor.findings(), Vec::new());
}

/// Every figure of every table, and every row.
const EDITS: &[Edit] = &[
    ("lot points", |store| lot(store).points = Points::new(99)),
    ("lot pending", |store| lot(store).pending = ONE),
    ("lot available", |store| {
        lot(store).available = Points::new(77);
    }),
    ("lot held", |store| lot(store).held = ONE),
    ("lot expired", |store| lot(store).expired = ONE),
    ("lot row", |store| {
        store.lots.pop_first();
    }),
    ("member pending", |store| {
        first_member(store).totals.pending = ONE;
    }),
    ("member available", |store| {
        first_member(store).totals.available = Points::new(77);
    }),
    ("member held", |store| first_member(store).totals.held = ONE),
    ("member debt", |store| {
        first_member(store).totals.debt = Points::ZERO;
    }),
    ("member row", |store| {
        store.members.pop_first();
    }),
    ("debt points", |store| {
        *store.debts.values_mut().next().expect("a debt") = ONE;
    }),
    ("debt row", |store| {
        store.debts.pop_first();
    }),
    ("window money moved", |store| {
        add_to_total(store, Measure::Flow);
    }),
    ("window points issued", |store| {
        add_to_total(store, Measure::Issued);
    }),
    ("window points clawed back", |store| {
        add_to_total(store, Measure::ClawedBack);
    }),
    ("window points redeemed", |store| {
        add_to_total(store, Measure::Redeemed);
    }),
    ("window points refunded", |store| {
        add_to_total(store, Measure::Refunded);
    }),
    ("window points expired", |store| {
        add_to_total(store, Measure::Expired);
    }),
    ("window funds", |store| add_to_total(store, Measure::Funded)),
    ("window postings", |store| {
        add_to_total(store, Measure::Postings);
    }),
    ("window row", |store| {
        store.totals.pop_first();
    }),
    ("window rows", |store| store.totals.clear()),
    ("position debits", |store| {
        position(store).debits = Micros::new(1);
    }),
    ("position credits", |store| {
        position(store).credits = Micros::new(1);
    }),
    ("position funds", |store| {
        position(store).funds = Micros::new(1);
    }),
    ("position row", |store| {
        store.positions.pop_last();
    }),
    ("transaction points earned", |store| {
        of_kind(store, Kind::Earn).points = ONE;
    }),
    ("transaction points clawed", |store| {
        of_kind(store, Kind::ReturnEarn).points = ONE;
    }),
    ("transaction points spent", |store| {
        of_kind(store, Kind::Redeem).points = ONE;
    }),
    ("transaction points refunded", |store| {
        of_kind(store, Kind::RefundRedemption).points = ONE;
    }),
    ("transaction points expired", |store| {
        of_kind(store, Kind::Expire).points = ONE;
    }),
    ("transaction points matured", |store| {
        of_kind(store, Kind::Mature).points = ONE;
    }),
    ("transaction points forgiven", |store| {
        of_kind(store, Kind::ReturnEarn).points_forgiven = ONE;
    }),
    ("transaction points past expiry", |store| {
        of_kind(store, Kind::RefundRedemption).points_expired = ONE;
    }),
    ("transaction open points of an earn", |store| {
        of_kind(store, Kind::Earn).open.points = ONE;
    }),
    ("transaction open amount of an earn", |store| {
        of_kind(store, Kind::Earn).open.amount = Minor::new(1);
    }),
    ("transaction open points of a redemption", |store| {
        of_kind(store, Kind::Redeem).open.points = ONE;
    }),
    ("transaction open points of an untouched earn", |store| {
        let mut earns = store
            .transactions
            .values_mut()
            .filter(|t| t.kind == Kind::Earn);
        earns.next_back().expect("the last earn").open.points = ONE;
    }),
    ("transaction amount deposited", |store| {
        of_kind(store, Kind::Deposit).amount = Some((Minor::new(1), Currency::EUR));
    }),
    ("transaction row", |store| {
        store.transactions.pop_first();
    }),
    ("transaction said to be declined", |store| {
        of_kind(store, Kind::Earn).declined = Some(Decline::MemberFrozen);
    }),
    ("transfer amount", |store| first_transfer(store).amount += 1),
    ("transfer amount below zero", |store| {
        first_transfer(store).amount *= -1;
    }),
    ("transfer unit", |store| {
        first_transfer(store).unit = Unit::Money(Currency::EUR);
    }),
    ("transfer account", |store| {
        let transfer = first_transfer(store);
        transfer.credit = transfer.debit;
    }),
    ("transfer lot", |store| first_transfer(store).lot = None),
    ("transfer row", |store| {
        of_kind(store, Kind::Earn).posting.transfers.pop();
    }),
];

fn first_member(store: &mut MemoryStore) -> &mut coalition_ledger::member::MemberBook {
    store.members.values_mut().next().expect("a member")
}

fn add_to_total(store: &mut MemoryStore, measure: Measure) {
    let mut totals = store
        .totals
        .iter_mut()
        .filter(|((_, key), _)| key.measure == measure);
    *totals.next().expect("one of each measure").1 += 1;
}

fn position(store: &mut MemoryStore) -> &mut coalition_ledger::snapshot::Position {
    let key = (partner(1).into(), Currency::EUR);
    store.positions.get_mut(&key).expect("a position")
}

fn first_transfer(store: &mut MemoryStore) -> &mut coalition_ledger::account::Transfer {
    of_kind(store, Kind::Earn)
        .posting
        .transfers
        .first_mut()
        .expect("a transfer")
}

#[test]
fn every_planted_edit_is_found() {
    let sound = network().store;
    for (name, edit) in EDITS {
        let mut store = sound.clone();
        edit(&mut store);
        assert_ne!(store, sound, "{name} edits nothing");
        let findings = store.audit();
        let table = name.split(' ').next().expect("a word");
        assert!(!findings.is_empty(), "{name} is not found");
        let named = |finding: &Finding| {
            finding.place.starts_with(table)
                || table == "transfer"
                || name.ends_with("row")
                || name.ends_with("rows")
                || name.ends_with("declined")
        };
        assert!(findings.iter().any(named), "{name}: {findings:?}");
    }
}

#[test]
fn lots_that_were_only_weighed_are_found_without_their_names() {
    let mut store = network().store;
    lot(&mut store).available = Points::new(77);
    let mut auditor = Auditor::weighing([7; 16]);
    let all = store.transactions.values();
    all.for_each(|transaction| auditor.transaction(transaction));
    store.lots.values().for_each(|(_, lot)| auditor.lot(lot));
    assert!(!auditor.lots_agree() && auditor.disputed_lots().is_empty());
    auditor.finish();
    let places = auditor.findings().into_iter().map(|finding| finding.place);
    assert_eq!(places.filter(|place| place == "lots").count(), 1);
}

#[test]
fn a_finding_says_what_is_expected_and_what_is_there() {
    let mut store = network().store;
    let id = *store.lots.first_key_value().expect("a lot").0;
    lot(&mut store).available = Points::new(77);
    let finding = store.audit().into_iter().next().expect("a finding");
    assert_eq!(finding.place, format!("lot {id}"));
    assert_eq!((finding.what, finding.found.as_str()), ("available", "77"));
}
