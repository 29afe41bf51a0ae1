//! What a batch changes, written whole: kinds of rows that meet in one table, and what refuses them.

use coalition_ledger::ids::{MemberId, PartnerId};
use coalition_ledger::member::{Lot, MemberBook};
use coalition_ledger::money::{Currency, Micros};
use coalition_ledger::snapshot::{
    DebtRecord, Effects, MemberChange, OpenChange, Position, PositionChange,
};
use coalition_ledger::transaction::{Open, Transaction};
use coalition_store::StoreError;
use coalition_store::testing::{Parts as _, START, TestDb};

use crate::fixtures::{
    assert_conflict, begin, check, commit, decline, earn, enrolled, fetched, identifier, issued,
    lot, member, partner_id, points, request, unit,
};

/// Rows of every kind, several of them for the same table.
struct Batch {
    effects: Effects,
    known: MemberBook,
    new: MemberBook,
    lots: [Lot; 2],
    earlier: Transaction,
}

const fn moved(partner: PartnerId, debits: i64) -> PositionChange {
    PositionChange {
        party: coalition_ledger::ids::Party::Partner(partner),
        currency: Currency::EUR,
        change: Position {
            debits: Micros::new(debits),
            credits: Micros::ZERO,
            funds: Micros::ZERO,
            reserved: Micros::ZERO,
        },
        floor: None,
    }
}

/// Books with something in each table, and a batch that changes all of it: a check is freed and used
/// again, a new member's row moves on at once, lots are added and change, a transaction is added and
/// an earlier one changes, a position moves and another for the first time.
async fn batch(db: &TestDb, partner: PartnerId) -> Batch {
    let known = enrolled(db, 10).await;
    let (mut unit, frame) = begin(db).await;
    let used = check(partner, "7");
    let earlier = earn(known.id, partner, frame.window);
    let old_lot = lot(10, 30);
    let before = Effects {
        checks: vec![used.clone()],
        transactions: vec![earlier.clone()],
        new_lots: vec![(known.id, old_lot)],
        positions: vec![moved(partner, 5)],
        ..Effects::default()
    };
    unit.write(frame.window, START, &before)
        .await
        .expect("writes");
    commit(unit).await;

    let known = fetched(db, known.id).await;
    let new = member(0);
    let mut spent = old_lot;
    spent.available = points(4);
    let new_lot = lot(6, 60);
    let later = partner_id();
    let change = |book: &MemberBook, available: i64| {
        let mut book = book.clone();
        book.totals.available = points(available);
        MemberChange {
            expected_version: book.version,
            book,
        }
    };
    let debt = |member: MemberId| DebtRecord {
        member,
        issuer: partner.into(),
        points: points(3),
    };
    let mut positions = vec![moved(partner, 7), moved(later, 9)];
    positions.sort_by_key(|row| row.party);
    let effects = Effects {
        requests: vec![request(partner.uuid())],
        released_checks: vec![used.key.clone()],
        checks: vec![check(partner, "7"), check(partner, "8")],
        new_members: vec![new.clone()],
        identifiers: vec![identifier(new.id, "…42")],
        transactions: vec![
            earn(known.id, partner, frame.window),
            decline(new.id, partner, frame.window),
        ],
        opens: vec![OpenChange {
            transaction: earlier.id,
            member: known.id,
            open: Open {
                points: points(1),
                ..earlier.open
            },
        }],
        new_lots: vec![(new.id, new_lot)],
        lots: vec![(known.id, spent)],
        members: vec![change(&known, 4), change(&new, 6)],
        debts: vec![debt(known.id)],
        totals: vec![(issued(partner.into()), 12)],
        positions,
    };
    Batch {
        effects,
        known,
        new,
        lots: [spent, new_lot],
        earlier,
    }
}

pub(crate) async fn all_that_a_batch_changes_is_written(db: &TestDb) {
    let partner = partner_id();
    let Batch {
        effects,
        known,
        new,
        lots: [spent, new_lot],
        earlier,
    } = batch(db, partner).await;
    let (mut at_work, frame) = begin(db).await;
    at_work
        .write(frame.window, START, &effects)
        .await
        .expect("writes");
    commit(at_work).await;

    let mut unit = unit(db).await;
    let requests = [effects.requests[0].key];
    let requests = unit.requests(&requests).await.expect("finds");
    assert_eq!(requests, effects.requests);
    let checks = effects.checks.iter().map(|row| row.key.clone());
    let mut checks = unit
        .checks(&checks.collect::<Vec<_>>())
        .await
        .expect("finds");
    checks.sort_by(|one, other| one.key.cmp(&other.key));
    assert_eq!(checks, effects.checks);
    let hash = effects.identifiers[0].identifier.hash;
    let identified = unit.identifiers(&[hash]).await.expect("finds");
    assert_eq!(identified, [(hash, new.id)]);
    let ids: Vec<_> = effects.transactions.iter().map(|row| row.id).collect();
    let mut stored = unit.transactions(&ids).await.expect("finds");
    stored.sort_by_key(|row| row.id);
    assert_eq!(stored, effects.transactions);
    let reopened = unit.transactions(&[earlier.id]).await.expect("finds");
    assert_eq!(reopened[0].open, effects.opens[0].open);
    let keys = [(spent.id, known.id), (new_lot.id, new.id)];
    let mut lots = unit.lots(&keys).await.expect("finds");
    lots.sort_by_key(|(_, lot)| lot.id);
    assert_eq!(lots, [(known.id, spent), (new.id, new_lot)]);
    let mut members = unit.members(&[known.id, new.id]).await.expect("finds");
    members.sort_by_key(|book| book.id);
    let sums = members
        .iter()
        .map(|book| (book.version, book.totals.available));
    assert_eq!(
        sums.collect::<Vec<_>>(),
        [(known.version + 1, points(4)), (new.version + 1, points(6))]
    );
    let debts = unit.debts(&[known.id, new.id]).await.expect("finds");
    assert_eq!(debts, effects.debts);
    let totals = unit.totals(&[frame.window]).await.expect("finds");
    assert!(totals.contains(&(frame.window, issued(partner.into()), 12)));
    let keys = effects
        .positions
        .iter()
        .map(|row| (row.party, row.currency));
    let positions = unit
        .positions(&keys.collect::<Vec<_>>())
        .await
        .expect("finds");
    let mut debits: Vec<_> = positions
        .iter()
        .map(|(_, sums)| sums.debits.get())
        .collect();
    debits.sort_unstable();
    assert_eq!(debits, [9, 12]);
    unit.rollback().await.expect("rolls back");
    // Each member's history leads from the last transaction back.
    let history = db.store.reader().activity(known.id, None, None, 9).await;
    let history: Vec<_> = history.expect("finds").iter().map(|row| row.id).collect();
    assert_eq!(history, [effects.transactions[0].id, earlier.id]);
}

/// Makes one row of a batch one that is refused.
type Spoil = fn(&mut Effects);

pub(crate) async fn one_row_that_is_refused_refuses_the_batch(db: &TestDb) {
    let partner = partner_id();
    let batch = batch(db, partner).await;
    let spoiled: [(&str, Spoil); 6] = [
        ("a check that is not used cannot be freed", |e| {
            e.released_checks[0].check_id.push('x');
        }),
        ("a transaction that is not there cannot change", |e| {
            e.opens[0].transaction = e.transactions[0].id;
            e.opens[0].member = e.new_members[0].id;
        }),
        ("a lot that is not there cannot change", |e| {
            e.lots[0].0 = e.new_lots[0].0;
        }),
        ("a version has moved on", |e| {
            e.members[0].expected_version += 1;
        }),
        ("a member is there already", |e| {
            e.new_members[0].id = e.members[0].book.id;
        }),
        ("a floor does not hold", |e| {
            e.positions[0].floor = Some(coalition_ledger::snapshot::Floor {
                limit: Micros::ZERO,
                net_inbound: false,
                at_least: Micros::ZERO,
            });
        }),
    ];
    for (what, spoil) in spoiled {
        let mut effects = batch.effects.clone();
        spoil(&mut effects);
        let (mut at_work, frame) = begin(db).await;
        let written = at_work.write(frame.window, START, &effects).await;
        assert!(
            matches!(written, Err(StoreError::Conflict)),
            "{what}: {written:?}"
        );
        at_work.rollback().await.expect("rolls back");
        let mut unit = unit(db).await;
        let found = unit.requests(&[effects.requests[0].key]).await;
        assert_eq!(found.expect("finds"), [], "{what}");
        unit.rollback().await.expect("rolls back");
        let untouched = fetched(db, batch.known.id).await;
        assert_eq!(untouched.version, batch.known.version, "{what}");
    }
    // Unspoiled it is written, once.
    let (mut at_work, frame) = begin(db).await;
    let written = at_work.write(frame.window, START, &batch.effects).await;
    written.expect("writes");
    commit(at_work).await;
    let (mut again, frame) = begin(db).await;
    assert_conflict(again.write(frame.window, START, &batch.effects).await);
    again.rollback().await.expect("rolls back");
    // What comes before the row that is refused is not stored either, not even by whoever commits.
    let fresh = request(partner.uuid());
    let half = Effects {
        requests: vec![fresh, batch.effects.requests[0]],
        new_members: vec![member(0)],
        ..Effects::default()
    };
    let (mut again, frame) = begin(db).await;
    assert_conflict(again.write(frame.window, START, &half).await);
    assert_conflict(again.commit().await);
    let mut unit = unit(db).await;
    assert_eq!(unit.requests(&[fresh.key]).await.expect("finds"), []);
    unit.rollback().await.expect("rolls back");
}
