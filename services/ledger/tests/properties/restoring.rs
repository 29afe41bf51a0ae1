//! What is undone whole leaves no trace in any figure, however many steps it takes; what is undone
//! in part leaves what the rest would have made.

use std::collections::BTreeMap;

use coalition_ledger::agreement::{Funder, Terms, settle_at_issue};
use coalition_ledger::command::{Action, Command, Original, Redeem};
use coalition_ledger::decision::Decision;
use coalition_ledger::ids::{LotId, MemberId, Party, TransactionId};
use coalition_ledger::member::{Balance, Lot};
use coalition_ledger::money::{Currency, Minor, Points};
use coalition_ledger::snapshot::{Measure, Position};
use coalition_ledger::time::Timestamp;
use coalition_ledger::transaction::{Kind, Transaction};
use proptest::prelude::*;
use rust_decimal::Decimal;

use super::{config, history};
use crate::support::{
    Builder, Network, dec, earn, member, partner, posted, redeem, refund, return_earn, reverse,
    sweep, terms,
};
use crate::world::{World, scripts, worlds};

/// Every figure that a report could be made of, zeros left out.
#[derive(Debug, PartialEq)]
struct Figures {
    members: BTreeMap<MemberId, (Balance, Option<Timestamp>)>,
    debts: BTreeMap<(MemberId, Party), Points>,
    positions: BTreeMap<(Party, Currency), Position>,
    /// Issued less clawed back, redeemed less refunded, and money moved.
    totals: BTreeMap<(Measure, Party, Party, &'static str), i64>,
    /// Lots that hold or stand for anything.
    lots: BTreeMap<LotId, Lot>,
}

impl Figures {
    fn of(network: &Network) -> Self {
        let store = network.store.renumbered();
        let mut totals = BTreeMap::new();
        for ((_, key), amount) in &store.totals {
            let (measure, amount) = match key.measure {
                Measure::ClawedBack => (Measure::Issued, -amount),
                Measure::Refunded => (Measure::Redeemed, -amount),
                Measure::Postings => continue,
                measure => (measure, *amount),
            };
            let key = (measure, key.party, key.counterparty, key.unit.code());
            *totals.entry(key).or_default() += amount;
        }
        totals.retain(|_, amount| *amount != 0);
        let due = store.members.values();
        let lots = store.lots.into_iter().map(|(id, (_, lot))| (id, lot));
        Self {
            members: due
                .map(|book| (book.id, (book.balance(), book.next_maturity)))
                .collect(),
            debts: store.debts,
            positions: store.positions,
            totals,
            lots: lots.filter(|(_, lot)| !lot.points.is_zero()).collect(),
        }
    }
}

/// A network with a history, and nothing of the member's due.
fn network_of(world: &World, script: &[crate::world::Step], buyer: MemberId) -> Network {
    let mut network = history(world, script);
    network.run_one(&sweep(buyer));
    network
}

/// Runs a command that a limit may decline.
fn unless_declined(network: &mut Network, action: Action) -> Option<(Command, Transaction)> {
    let command = network.ask(action);
    match network.run_one(&command) {
        Decision::Recorded { transaction, .. } if transaction.declined.is_some() => None,
        decision => Some((command, posted(&decision))),
    }
}

/// Splits a whole into at least one part, none of them zero.
fn parts(whole: i64, cuts: &[u8]) -> Vec<i64> {
    let mut left = whole;
    let mut parts = Vec::new();
    for cut in cuts {
        let part = left * i64::from(*cut) / 256;
        if part > 0 {
            parts.push(part);
            left -= part;
        }
    }
    if left > 0 {
        parts.push(left);
    }
    parts
}

/// Undoes the whole of a request by its id.
fn undo(network: &mut Network, kind: Kind, request: &Command) -> Transaction {
    let (key, _) = request.request.expect("a request");
    let partner = coalition_ledger::ids::PartnerId::from_uuid(key.scope);
    network.must_post(Action::Reverse(reverse(partner, kind, key.id)))
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn returning_everything_restores_every_figure(
        world in worlds(),
        script in scripts(),
        at in any::<u8>(),
        gross in 1..=9_000_i64,
        cuts in prop::collection::vec(any::<u8>(), 0..=3),
        by_reference in any::<bool>(),
    ) {
        let (shop, buyer) = (at % world.partners(), member(at % 3));
        let mut network = network_of(&world, &script, buyer);
        let before = Figures::of(&network);
        let sale = earn(partner(shop), buyer, Minor::new(gross));
        let sale = Action::Earn(coalition_ledger::command::Earn {
            currency: world.currency(shop),
            ..sale
        });
        let Some((request, sale)) = unless_declined(&mut network, sale) else { return Ok(()) };
        let mut returns = Vec::new();
        for (place, part) in parts(gross, &cuts).into_iter().enumerate() {
            if by_reference && place == cuts.len().min(1) {
                break;
            }
            let original = Original::Transaction(sale.id);
            let ret = return_earn(partner(shop), original, Minor::new(part));
            returns.push(network.must_post(Action::ReturnEarn(
                coalition_ledger::command::ReturnEarn { currency: world.currency(shop), ..ret },
            )));
        }
        let open = network.store.transactions[&sale.id].open;
        if !open.amount.is_zero() {
            returns.push(undo(&mut network, Kind::Earn, &request));
        }
        // A debt that the earn repaid counts as spent, which some terms forgive; and what arrived
        // expired stays so.
        let kept = returns.iter().any(|ret| !(ret.points_forgiven.is_zero() && ret.points_expired.is_zero()));
        if !kept {
            prop_assert_eq!(Figures::of(&network), before);
        }
        network.assert_audited();
    }

    #[test]
    fn refunding_everything_restores_every_figure(
        world in worlds(),
        script in scripts(),
        at in any::<u8>(),
        part in 1..=255_u8,
        total in prop::option::of(0..=9_000_i64),
        cuts in prop::collection::vec(any::<u8>(), 0..=3),
        by_reference in any::<bool>(),
    ) {
        let (shop, buyer) = (at % world.partners(), member(at % 3));
        let mut network = network_of(&world, &script, buyer);
        let before = Figures::of(&network);
        let balance = network.book(buyer).totals.balance().expect("in range").get();
        let points = balance * i64::from(part) / 256;
        if points <= 0 {
            return Ok(());
        }
        let currency = world.currency(shop);
        let spend = Action::Redeem(Redeem {
            check_total: total.map(|total| (Minor::new(total), currency)),
            ..redeem(partner(shop), buyer, points)
        });
        let Some((request, spend)) = unless_declined(&mut network, spend) else { return Ok(()) };
        for (place, part) in parts(points, &cuts).into_iter().enumerate() {
            if by_reference && place == cuts.len().min(1) {
                break;
            }
            let original = Original::Transaction(spend.id);
            network.must_post(Action::RefundRedemption(refund(partner(shop), original, part)));
        }
        if !network.store.transactions[&spend.id].open.points.is_zero() {
            undo(&mut network, Kind::Redeem, &request);
        }
        prop_assert_eq!(Figures::of(&network), before);
        network.assert_audited();
    }

    #[test]
    fn a_return_leaves_what_the_rest_would_have_earned(
        weights in (1..=100_u32, 1..=100_u32),
        rate in 0..=3_000_i64,
        price in 0..=30_000_i64,
        gross in 1..=900_000_i64,
        cuts in prop::collection::vec(any::<u8>(), 1..=3),
    ) {
        let funders = vec![
            Funder { party: partner(1).into(), weight: weights.0 },
            Funder { party: partner(2).into(), weight: weights.1 },
        ];
        let legs = settle_at_issue(Decimal::new(price, 6), dec("0.008"));
        let points_per_unit = Decimal::new(rate, 3);
        let shared = Terms { funders, points_per_unit, ..terms(legs.clone()) };
        let mut network =
            Builder::new().partner(partner(1), shared).partner(partner(2), terms(legs)).build();
        network.enroll(member(1));
        let mut smaller = network.clone();
        let sale: TransactionId =
            network.must_post(Action::Earn(earn(partner(1), member(1), Minor::new(gross)))).id;
        let mut left = gross;
        for cut in cuts {
            let part = left * i64::from(cut) / 256;
            if part > 0 {
                left -= part;
                let ret = return_earn(partner(1), Original::Transaction(sale), Minor::new(part));
                network.must_post(Action::ReturnEarn(ret));
            }
        }
        smaller.must_post(Action::Earn(earn(partner(1), member(1), Minor::new(left))));
        let books = |network: &Network| {
            let lots = network.store.lots.values();
            let lots: Vec<(Party, Points)> = lots
                .map(|(_, lot)| (lot.issuer, lot.points))
                .filter(|(_, points)| !points.is_zero())
                .collect();
            let mut positions = network.store.positions.clone();
            positions.retain(|_, position| *position != Position::default());
            (lots, positions)
        };
        prop_assert_eq!(books(&network), books(&smaller));
    }
}
