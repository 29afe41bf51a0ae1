//! Positions, and the floors that keep two processes from using the same headroom.

use coalition_ledger::ids::Party;
use coalition_ledger::money::{Currency, Micros};
use coalition_ledger::snapshot::{Floor, Position, PositionChange};
use coalition_store::StoreError;
use coalition_store::testing::{Parts as _, TestDb};

use crate::fixtures::*;

fn sums(debits: i64, credits: i64, funds: i64, reserved: i64) -> Position {
    Position {
        debits: Micros::new(debits),
        credits: Micros::new(credits),
        funds: Micros::new(funds),
        reserved: Micros::new(reserved),
    }
}

fn change(party: Party, change: Position, floor: Option<Floor>) -> PositionChange {
    PositionChange {
        party,
        currency: Currency::EUR,
        change,
        floor,
    }
}

fn floor(limit: i64, net_inbound: bool, at_least: i64) -> Floor {
    Floor {
        limit: Micros::new(limit),
        net_inbound,
        at_least: Micros::new(at_least),
    }
}

/// Moves one position in a unit of its own.
async fn moved(db: &TestDb, row: PositionChange) -> Result<(), StoreError> {
    let mut unit = unit(db).await;
    match unit.move_positions(&[row]).await {
        Ok(()) => unit.commit().await,
        Err(error) => {
            unit.rollback().await.expect("rolls back");
            Err(error)
        }
    }
}

pub(crate) async fn positions_move(db: &TestDb) {
    let (one, two) = (Party::Partner(partner_id()), Party::Partner(partner_id()));
    let mut unit = unit(db).await;
    let in_dollars = PositionChange {
        currency: Currency::USD,
        ..change(one, sums(1, 1, 1, 1), None)
    };
    let rows = [
        change(Party::Operator, sums(0, 9, 0, 0), None),
        change(one, sums(1, 2, 3, 4), None),
        in_dollars,
        change(two, sums(5, 0, 0, 0), None),
    ];
    unit.move_positions(&rows).await.expect("moves");
    unit.move_positions(&[change(one, sums(10, -2, 30, -4), None)])
        .await
        .expect("moves");
    let key = (one, Currency::EUR);
    let found = unit
        .positions(&[key, (two, Currency::USD)])
        .await
        .expect("finds");
    assert_eq!(found, [(key, sums(11, 0, 33, 0))]);
    commit(unit).await;
    let reader = db.store.reader();
    let found = reader.positions(Some(one)).await.expect("reads");
    assert_eq!(
        found,
        [
            (key, sums(11, 0, 33, 0)),
            ((one, Currency::USD), sums(1, 1, 1, 1))
        ]
    );
    let all = reader.positions(None).await.expect("reads");
    let keys: Vec<_> = all.iter().map(|(key, _)| *key).collect();
    let operator = |currency| (Party::Operator, currency);
    let partners = [
        (one, Currency::EUR),
        (one, Currency::USD),
        (two, Currency::EUR),
    ];
    assert_eq!(
        keys[..2],
        [operator(Currency::EUR), operator(Currency::USD)]
    );
    assert_eq!(keys[2..], partners);
}

pub(crate) async fn a_floor_holds_exactly_where_it_says(db: &TestDb) {
    let party = Party::Partner(partner_id());
    moved(db, change(party, sums(40, 1_000, 30, 5), None))
        .await
        .expect("moves");
    // Headroom: 100 + 30 - 40 - 5 = 85; credits do not count.
    let step = |debits, at_least| {
        change(
            party,
            sums(debits, 0, 0, 0),
            Some(floor(100, false, at_least)),
        )
    };
    assert_conflict(moved(db, step(86, 0)).await);
    moved(db, step(85, 0)).await.expect("moves to the floor");
    assert_conflict(moved(db, step(1, 0)).await);
    moved(db, step(1, -1))
        .await
        .expect("a floor may lie below zero");
    assert_conflict(
        moved(
            db,
            change(party, sums(0, 0, -1, 0), Some(floor(100, false, -1))),
        )
        .await,
    );
    assert_conflict(
        moved(
            db,
            change(party, sums(0, 0, 0, 1), Some(floor(100, false, -1))),
        )
        .await,
    );
    let up = change(party, sums(-1, 0, 0, 0), Some(floor(100, false, 0)));
    moved(db, up).await.expect("a reversal gives headroom back");
    let found = db
        .store
        .reader()
        .positions(Some(party))
        .await
        .expect("reads");
    assert_eq!(found[0].1, sums(125, 1_000, 30, 5));
}

pub(crate) async fn a_floor_holds_for_a_position_that_never_moved(db: &TestDb) {
    let (new, old) = (Party::Partner(partner_id()), Party::Partner(partner_id()));
    moved(db, change(old, sums(1, 0, 0, 0), None))
        .await
        .expect("moves");
    assert_conflict(
        moved(
            db,
            change(new, sums(11, 0, 0, 0), Some(floor(10, false, 0))),
        )
        .await,
    );
    let untouched = db.store.reader().positions(Some(new)).await.expect("reads");
    assert_eq!(untouched, []);
    let mut unit = unit(db).await;
    let rows = [
        change(new, sums(10, 0, 0, 0), Some(floor(10, false, 0))),
        change(old, sums(1, 0, 0, 0), Some(floor(2, false, 0))),
    ];
    unit.move_positions(&rows).await.expect("both move");
    commit(unit).await;
    let found = db.store.reader().positions(Some(old)).await.expect("reads");
    assert_eq!(found[0].1, sums(2, 0, 0, 0), "moved once");
}

pub(crate) async fn credits_count_where_they_may(db: &TestDb) {
    let party = Party::Partner(partner_id());
    let row = |debits, credits| change(party, sums(debits, credits, 0, 0), Some(floor(0, true, 0)));
    moved(db, row(5, 5)).await.expect("moves");
    assert_conflict(moved(db, row(1, 0)).await);
    moved(db, row(1, 1)).await.expect("moves");
}

pub(crate) async fn two_units_cannot_use_the_same_headroom(db: &TestDb) {
    let party = Party::Partner(partner_id());
    moved(db, change(party, sums(0, 0, 100, 0), None))
        .await
        .expect("moves");
    let spend = || {
        moved(
            db,
            change(party, sums(60, 0, 0, 0), Some(floor(0, false, 0))),
        )
    };
    let (one, two) = tokio::join!(spend(), spend());
    let (won, lost) = if one.is_ok() { (one, two) } else { (two, one) };
    won.expect("one of the two moves");
    assert_conflict(lost);
    let found = db
        .store
        .reader()
        .positions(Some(party))
        .await
        .expect("reads");
    assert_eq!(found[0].1, sums(60, 0, 100, 0));
}
