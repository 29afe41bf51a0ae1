//! What must hold of the rows at every instant.

use std::collections::{BTreeMap, BTreeSet};

use coalition_ledger::audit::IssuerBook;
use coalition_ledger::figures;
use coalition_ledger::ids::{MemberId, Party, WindowId};
use coalition_ledger::member::{Lot, Totals, Upcoming};
use coalition_ledger::money::{Micros, Points, Unit};
use coalition_ledger::netting::{Method, net};
use coalition_ledger::snapshot::{Measure, Position, TotalKey};
use coalition_ledger::transaction::{Kind, Transaction};
use coalition_ledger::trial::Trial;
use coalition_ledger::view::by_issuer;

use crate::model::{Account, Model, Parcel};
use crate::support::{MemoryStore, Network, sweep};

/// Everything that the domain promises of the books.
pub(super) fn hold(network: &Network) {
    let store = &network.store;
    members_are_the_sums_of_their_lots(store);
    points_are_conserved(store);
    positions_cancel(store);
    reports_balance(store);
    network.assert_audited();
}

/// What reports are made of: the trial balances of every window and of the whole books, and the
/// figures of every window.
fn reports_balance(store: &MemoryStore) {
    let windows: BTreeSet<WindowId> = store.totals.keys().map(|(window, _)| *window).collect();
    for window in windows {
        let mut trial = Trial::new();
        for transaction in store.transactions.values() {
            if transaction.window == window {
                let transfers = transaction.posting.transfers.iter();
                transfers.for_each(|transfer| trial.transfer(transfer).expect("in range"));
            }
        }
        all_hold(&trial);
        let totals = store.totals_of(window);
        let sums = figures::position_sums(&totals).expect("in range");
        assert!(sums.iter().all(|(_, sum)| sum.is_zero()), "{sums:?}");
        let nets: Vec<(Party, Micros)> = figures::positions(&totals)
            .expect("in range")
            .into_iter()
            .filter(|position| position.currency.is_some() && !position.net.is_zero())
            .map(|position| (position.party, position.net))
            .collect();
        let mut netted: Vec<(Party, Micros)> =
            (net(&totals, Method::Gross).expect("in range").nets)
                .into_iter()
                .filter(|own| !own.net.is_zero())
                .map(|own| (own.party, own.net))
                .collect();
        netted.sort_by_key(|(party, _)| *party);
        assert_eq!(nets, netted);
    }
    let totals: Vec<(TotalKey, i64)> = store
        .totals
        .iter()
        .map(|((_, key), amount)| (*key, *amount))
        .collect();
    let mut holdings: BTreeMap<Party, Totals> = BTreeMap::new();
    for member in store.members.keys() {
        for (issuer, own) in by_issuer(&store.whole_book(*member)).expect("in range") {
            let held = holdings.entry(issuer).or_default();
            held.pending = held.pending.plus(own.pending).expect("in range");
            held.available = held.available.plus(own.available).expect("in range");
            held.debt = held.debt.plus(own.debt).expect("in range");
        }
    }
    let holdings: Vec<(Party, Totals)> = holdings.into_iter().collect();
    let books = Trial::of_books(&totals, &holdings, &store.all_positions());
    all_hold(&books.expect("in range"));
}

fn all_hold(trial: &Trial) {
    for equation in trial.equations().expect("in range") {
        assert!(equation.holds(), "{equation:?}");
    }
}

fn lots_of(store: &MemoryStore, member: MemberId) -> Vec<Lot> {
    let own = store.lots.values().filter(|(holder, _)| *holder == member);
    own.map(|(_, lot)| *lot).collect()
}

fn members_are_the_sums_of_their_lots(store: &MemoryStore) {
    let sum = |points: Vec<Points>| Points::sum(points).expect("in range");
    for book in store.members.values() {
        let lots = lots_of(store, book.id);
        for lot in &lots {
            let parts = [
                lot.points,
                lot.pending,
                lot.available,
                lot.held,
                lot.expired,
            ];
            assert!(parts.iter().all(|part| !part.is_negative()), "{lot:?}");
        }
        let debts = store
            .debts
            .iter()
            .filter(|((holder, _), _)| *holder == book.id);
        let totals = Totals {
            pending: sum(lots.iter().map(|lot| lot.pending).collect()),
            available: sum(lots.iter().map(|lot| lot.available).collect()),
            held: Points::ZERO,
            debt: sum(debts.map(|(_, points)| *points).collect()),
        };
        assert_eq!(book.totals, totals);

        let spendable: Vec<&Lot> = lots
            .iter()
            .filter(|lot| lot.available.is_positive())
            .collect();
        let next = spendable
            .iter()
            .map(|lot| lot.expires_at)
            .min()
            .map(|at| Upcoming {
                at,
                points: sum(spendable
                    .iter()
                    .filter(|lot| lot.expires_at == at)
                    .map(|lot| lot.available)
                    .collect()),
            });
        assert_eq!(book.next_expiry, next);
        let pending = lots.iter().filter(|lot| lot.pending.is_positive());
        assert_eq!(
            book.next_maturity,
            pending.map(|lot| lot.pending_until).min()
        );
    }
}

/// issued = pending + available + held − debt + redeemed + expired, per issuer: the left side and
/// the last two from the windows' totals, the rest from lots and debts.
fn points_are_conserved(store: &MemoryStore) {
    let mut books: BTreeMap<Party, IssuerBook> = BTreeMap::new();
    for ((_, key), amount) in store
        .totals
        .iter()
        .filter(|((_, key), _)| key.unit == Unit::Points)
    {
        let book = books.entry(key.party).or_default();
        let amount = Points::new(*amount);
        let add = |sum: &mut Points, amount| *sum = sum.plus(amount).expect("in range");
        let less = |sum: &mut Points, amount| *sum = sum.minus(amount).expect("in range");
        match key.measure {
            Measure::Issued => add(&mut book.issued, amount),
            Measure::ClawedBack => less(&mut book.issued, amount),
            Measure::Redeemed => add(&mut book.redeemed, amount),
            Measure::Refunded => less(&mut book.redeemed, amount),
            Measure::Expired => add(&mut book.expired, amount),
            Measure::Flow | Measure::Funded | Measure::Postings => {}
        }
    }
    for (_, lot) in store.lots.values() {
        let held = &mut books.entry(lot.issuer).or_default().held;
        held.pending = held.pending.plus(lot.pending).expect("in range");
        held.available = held.available.plus(lot.available).expect("in range");
    }
    for ((_, issuer), points) in &store.debts {
        let held = &mut books.entry(*issuer).or_default().held;
        held.debt = held.debt.plus(*points).expect("in range");
    }
    for (issuer, book) in books {
        assert_eq!(book.balances(), Ok(true), "{issuer}: {book:?}");
    }
}

/// Σ positions = 0 in every currency, and Σ nets = 0 in every window.
fn positions_cancel(store: &MemoryStore) {
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    for ((_, currency), position) in &store.positions {
        *sums.entry(currency.code()).or_default() += position.net().expect("in range").get();
        assert!(!position.funds.is_negative(), "{position:?}");
    }
    assert!(sums.values().all(|sum| *sum == 0), "{sums:?}");
    let windows: Vec<_> = store.totals.keys().map(|(window, _)| *window).collect();
    for window in windows {
        let netting = net(&store.totals_of(window), Method::Multilateral).expect("in range");
        let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
        for net in &netting.nets {
            *sums.entry(net.currency.code()).or_default() += net.net.get();
        }
        assert!(sums.values().all(|sum| *sum == 0), "{window}: {sums:?}");
    }
}

/// No charge takes an issuer below zero headroom, nor further below. What expires before the charge
/// is no part of it.
pub(super) fn within_limits(mut before: Network, after: &Network, transaction: &Transaction) {
    if !matches!(transaction.kind, Kind::Earn | Kind::Redeem) || transaction.declined.is_some() {
        return;
    }
    before.run_one(&sweep(transaction.member.expect("a member")));
    let issuers = transaction.issued().into_iter().chain(transaction.spent());
    for issuer in issuers.map(|slice| slice.issuer) {
        for currency in after.rulebook.currencies() {
            let limit = after.rulebook.limit(issuer, currency, after.now);
            let Some((limit, net_inbound)) = limit else {
                continue;
            };
            let left = |network: &Network| -> Micros {
                let position = network.store.positions.get(&(issuer, currency));
                let position = position.copied().unwrap_or_default();
                position.headroom(limit, net_inbound).expect("in range")
            };
            let (was, is) = (left(&before), left(after));
            assert!(
                !is.is_negative() || is >= was,
                "{issuer}: from {was} to {is}"
            );
        }
    }
}

/// The rows say what the model says.
pub(super) fn agree(network: &Network, model: &Model) {
    let store = &network.store;
    for (id, holder) in &model.holders {
        let lots = lots_of(store, *id);
        assert_eq!(lots.len(), holder.parcels.len());
        for (lot, parcel) in lots.iter().zip(&holder.parcels) {
            assert_eq!(
                row_of(parcel),
                row_of_lot(lot),
                "{parcel:#?} against {lot:#?}"
            );
        }
        let debts: BTreeMap<Party, i64> = (store.debts.iter())
            .filter(|((holder, _), points)| holder == id && !points.is_zero())
            .map(|((_, issuer), points)| (*issuer, points.get()))
            .collect();
        let owed = holder.debts.iter().filter(|(_, points)| **points != 0);
        assert_eq!(
            debts,
            owed.map(|(issuer, points)| (*issuer, *points)).collect()
        );
    }
    let accounts: BTreeMap<(Party, &str), Account> = (store.positions.iter())
        .map(|((party, currency), position)| ((*party, currency.code()), account(position)))
        .filter(|(_, account)| *account != Account::default())
        .collect();
    let expected = model
        .accounts
        .iter()
        .filter(|(_, account)| **account != Account::default());
    assert_eq!(
        accounts,
        expected.map(|(key, account)| (*key, *account)).collect()
    );
    let mut flows: BTreeMap<(Party, Party, &str), i128> = BTreeMap::new();
    for ((_, key), amount) in &store.totals {
        if let (Measure::Flow, Unit::Money(currency)) = (key.measure, key.unit) {
            let flow = flows
                .entry((key.party, key.counterparty, currency.code()))
                .or_default();
            *flow += i128::from(*amount);
        }
    }
    flows.retain(|_, amount| *amount != 0);
    let expected = model.flows.iter().filter(|(_, amount)| **amount != 0);
    assert_eq!(
        flows,
        expected.map(|(key, amount)| (*key, *amount)).collect()
    );
}

fn account(position: &Position) -> Account {
    Account {
        debits: position.debits.get().into(),
        credits: position.credits.get().into(),
        funds: position.funds.get().into(),
    }
}

/// What a lot and a parcel have in common.
type Row = (Party, i64, i64, [i64; 4]);

fn row_of(parcel: &Parcel) -> Row {
    let points = [
        parcel.points(),
        parcel.pending,
        parcel.available,
        parcel.expired,
    ];
    (
        parcel.issuer,
        parcel.pending_until,
        parcel.expires_at,
        points,
    )
}

fn row_of_lot(lot: &Lot) -> Row {
    let points = [lot.points, lot.pending, lot.available, lot.expired].map(Points::get);
    (
        lot.issuer,
        lot.pending_until.micros(),
        lot.expires_at.micros(),
        points,
    )
}
