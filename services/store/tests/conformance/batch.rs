//! What a batch reads and writes.

use coalition_ledger::command::{CheckKey, RequestKey};
use coalition_ledger::ids::{LotId, Party};
use coalition_ledger::member::{Known, MemberBook, MemberStatus, Totals, Upcoming};
use coalition_ledger::money::{Currency, Minor, Points, Unit as Counted};
use coalition_ledger::snapshot::{
    DebtRecord, Effects, Measure, MemberChange, OpenChange, PositionChange, TotalKey,
};
use coalition_ledger::transaction::{Kind, Open};
use coalition_store::testing::{Parts as _, START, TestDb};
use coalition_store::{LotDemand, StoreError};
use uuid::Uuid;

use crate::fixtures::*;

pub(crate) async fn requests_are_found_by_id_and_scope(db: &TestDb) {
    let scope = id();
    let (mine, operators) = (request(scope), request(Uuid::nil()));
    let mut same_id = request(id());
    same_id.key.id = mine.key.id;
    same_id.member = None;
    let mut unit = unit(db).await;
    unit.insert_requests(&[mine, operators, same_id])
        .await
        .expect("inserts");
    commit(unit).await;

    let mut unit = crate::fixtures::unit(db).await;
    let absent = RequestKey {
        id: operators.key.id,
        scope,
    };
    let keys = [operators.key, mine.key, absent];
    let mut found = unit.requests(&keys).await.expect("finds");
    found.sort_by_key(|record| record.key);
    let mut expected = vec![mine, operators];
    expected.sort_by_key(|record| record.key);
    assert_eq!(found, expected);
    assert_conflict(unit.insert_requests(&[request(scope), mine]).await);
    unit.rollback().await.expect("rolls back");
    let found = db.store.reader().request(same_id.key).await.expect("reads");
    assert_eq!(found, Some(same_id));
    assert_eq!(
        db.store.reader().request(absent).await.expect("reads"),
        None
    );
}

pub(crate) async fn checks_are_found_freed_and_used_again(db: &TestDb) {
    let partner = partner_id();
    let (one, two) = (
        check(partner, "1"),
        check(partner, "0017 ß 'quoted'; drop table checks"),
    );
    let elsewhere = check(partner_id(), "1");
    let mut unit = unit(db).await;
    unit.insert_checks(&[one.clone(), two.clone(), elsewhere.clone()])
        .await
        .expect("inserts");
    commit(unit).await;

    let mut unit = crate::fixtures::unit(db).await;
    let redeemed = CheckKey {
        kind: Kind::Redeem,
        ..one.key.clone()
    };
    let keys = [two.key.clone(), redeemed, one.key.clone()];
    let mut found = unit.checks(&keys).await.expect("finds");
    found.sort_by_key(|record| record.transaction);
    assert_eq!(found, [one.clone(), two.clone()]);
    unit.delete_checks(&[one.key.clone(), two.key.clone()])
        .await
        .expect("frees");
    assert!(unit.checks(&keys).await.expect("finds").is_empty());
    let again = check(partner, "1");
    unit.insert_checks(std::slice::from_ref(&again))
        .await
        .expect("uses again");
    commit(unit).await;

    let mut unit = crate::fixtures::unit(db).await;
    assert_eq!(unit.checks(&[one.key]).await.expect("finds"), [again]);
    assert_eq!(
        unit.checks(std::slice::from_ref(&elsewhere.key))
            .await
            .expect("finds"),
        std::slice::from_ref(&elsewhere)
    );
    assert_conflict(unit.delete_checks(&[two.key]).await);
    unit.rollback().await.expect("rolls back");

    let mut unit = crate::fixtures::unit(db).await;
    assert_conflict(unit.insert_checks(&[elsewhere]).await);
    unit.rollback().await.expect("rolls back");
}

pub(crate) async fn identifiers_lead_to_members(db: &TestDb) {
    let member = member_id();
    let (card, phone) = (
        identifier(member, "••••1234"),
        identifier(member, "+49 … 89"),
    );
    let mut unit = unit(db).await;
    unit.insert_identifiers(&[card.clone(), phone.clone()])
        .await
        .expect("inserts");
    let hashes = [phone.identifier.hash, [7; 32]];
    let found = unit.identifiers(&hashes).await.expect("finds");
    assert_eq!(found, [(phone.identifier.hash, member)]);
    commit(unit).await;
    let reader = db.store.reader();
    let found = reader
        .member_by_identifier(&card.identifier.hash)
        .await
        .expect("reads");
    assert_eq!(found, Some(member));
    let mut unit = crate::fixtures::unit(db).await;
    let taken = coalition_ledger::snapshot::IdentifierRecord {
        member: member_id(),
        ..card
    };
    assert_conflict(unit.insert_identifiers(&[taken]).await);
    unit.rollback().await.expect("rolls back");
}

pub(crate) async fn members_come_back_as_written(db: &TestDb) {
    let plain = MemberBook::new(member_id());
    let mut full = member(12);
    full.totals = Totals {
        pending: points(1),
        available: points(2),
        held: points(3),
        debt: points(i64::MAX),
    };
    full.next_maturity = Some(day(3));
    let mut unit = unit(db).await;
    unit.insert_members(&[plain.clone(), full.clone()], START)
        .await
        .expect("inserts");
    let change = |book: &MemberBook| MemberChange {
        expected_version: 0,
        book: book.clone(),
    };
    full.status = MemberStatus::Frozen;
    full.next_expiry = Some(Upcoming {
        at: day(9),
        points: points(2),
    });
    unit.update_members(&[change(&full)])
        .await
        .expect("updates");
    commit(unit).await;

    let mut unit = crate::fixtures::unit(db).await;
    let mut found = unit
        .members(&[full.id, member_id(), plain.id])
        .await
        .expect("finds");
    found.sort_by_key(|book| book.id);
    let expected = [
        MemberBook {
            known: Known::Nothing,
            ..plain.clone()
        },
        MemberBook {
            known: Known::Nothing,
            version: 1,
            ..full
        },
    ];
    assert_eq!(found, expected);
    assert_conflict(unit.insert_members(&[plain], START).await);
    unit.rollback().await.expect("rolls back");
}

pub(crate) async fn a_stale_version_changes_nothing(db: &TestDb) {
    let (one, two) = (enrolled(db, 10).await, enrolled(db, 20).await);
    let change = |book: &MemberBook, expected_version| {
        let mut book = book.clone();
        book.totals.available = points(99);
        MemberChange {
            expected_version,
            book,
        }
    };
    let mut unit = unit(db).await;
    assert_conflict(
        unit.update_members(&[change(&one, 0), change(&two, 1)])
            .await,
    );
    unit.rollback().await.expect("rolls back");
    assert_eq!(fetched(db, one.id).await.totals.available, points(10));
    let nobody = MemberBook::new(member_id());
    let mut unit = crate::fixtures::unit(db).await;
    assert_conflict(unit.update_members(&[change(&nobody, 0)]).await);
    unit.rollback().await.expect("rolls back");
}

pub(crate) async fn due_members_come_the_longest_due_first(db: &TestDb) {
    let due = |expiry: Option<i64>, maturity: Option<i64>| {
        let mut book = member(0);
        book.next_expiry = expiry.map(|on| Upcoming {
            at: day(on),
            points: points(1),
        });
        book.next_maturity = maturity.map(day);
        book
    };
    let books = [
        due(Some(5), None),
        due(None, None),
        due(Some(9), Some(2)),
        due(None, Some(4)),
        due(Some(6), Some(8)),
    ];
    let mut unit = unit(db).await;
    unit.insert_members(&books, START).await.expect("inserts");
    let all = [books[2].id, books[3].id, books[0].id, books[4].id];
    assert_eq!(unit.due_members(day(1), 9).await.expect("finds"), []);
    assert_eq!(unit.due_members(day(5), 9).await.expect("finds"), all[..3]);
    assert_eq!(unit.due_members(day(9), 2).await.expect("finds"), all[..2]);
    commit(unit).await;
    assert_eq!(
        db.store
            .reader()
            .due_members(day(9), 9)
            .await
            .expect("finds"),
        all
    );
}

pub(crate) async fn due_times_stay_and_move_with_their_rows(db: &TestDb) {
    let (mut staying, mut moving, mut ending) = (member(1), member(2), member(3));
    staying.next_maturity = Some(day(4));
    ending.next_maturity = Some(day(5));
    let ids = [staying.id, moving.id, ending.id];
    let mut first = unit(db).await;
    first
        .insert_members(&[staying.clone(), moving.clone(), ending.clone()], START)
        .await
        .expect("inserts");
    commit(first).await;

    let due = async |unit: &mut dyn coalition_store::Unit| {
        unit.due_members(day(9), 9).await.expect("finds")
    };
    let change = |book: &MemberBook, expected_version| MemberChange {
        expected_version,
        book: book.clone(),
    };
    // A unit that has read the rows knows which due times stay.
    let mut unit = unit(db).await;
    unit.members(&ids).await.expect("finds");
    staying.totals.available = points(11);
    moving.next_maturity = Some(day(3));
    ending.next_maturity = None;
    let changes = [&staying, &moving, &ending].map(|book| change(book, 0));
    unit.update_members(&changes).await.expect("updates");
    assert_eq!(due(unit.as_mut()).await, [moving.id, staying.id]);
    // The same unit again: what it wrote itself is what the rows say now.
    moving.next_maturity = Some(day(6));
    ending.next_maturity = Some(day(2));
    staying.totals.available = points(12);
    let changes = [&staying, &moving, &ending].map(|book| change(book, 1));
    unit.update_members(&changes).await.expect("updates");
    assert_eq!(due(unit.as_mut()).await, [ending.id, staying.id, moving.id]);
    commit(unit).await;
    let kept = fetched(db, staying.id).await;
    assert_eq!(
        (kept.version, kept.totals.available, kept.next_maturity),
        (2, points(12), Some(day(4)))
    );

    // The version guards whichever way is taken.
    let mut late = crate::fixtures::unit(db).await;
    late.members(&ids).await.expect("finds");
    assert_conflict(late.update_members(&[change(&staying, 1)]).await);
    late.rollback().await.expect("rolls back");
}

pub(crate) async fn transactions_come_back_as_written(db: &TestDb) {
    let (member, partner) = (enrolled(db, 0).await.id, partner_id());
    let (mut unit, frame) = begin(db).await;
    let full = earn(member, partner, frame.window);
    let bare = decline(member, partner, frame.window);
    let mut nobodys = decline(member, partner, frame.window);
    nobodys.member = None;
    nobodys.partner = Party::Operator;
    let mut at_the_ends = earn(member, partner, frame.window);
    at_the_ends.points = Points::new(i64::MAX);
    at_the_ends.amount = Some((Minor::new(i64::MIN), Currency::KWD));
    at_the_ends.occurred_at = coalition_ledger::Timestamp::from_micros(i64::MIN);
    at_the_ends.open = Open {
        points: points(-1),
        amount: Minor::ZERO,
        reversed_by: Some(transaction_id()),
    };
    let mut all = [full, bare, nobodys, at_the_ends];
    unit.insert_transactions(&all).await.expect("inserts");
    commit(unit).await;

    let mut unit = crate::fixtures::unit(db).await;
    let ids: Vec<_> = all.iter().map(|transaction| transaction.id).collect();
    let mut found = unit
        .transactions(&[&ids[..], &[transaction_id()]].concat())
        .await
        .expect("finds");
    found.sort_by_key(|transaction| transaction.id);
    all.sort_by_key(|transaction| transaction.id);
    assert_eq!(found, all);
    assert_conflict(unit.insert_transactions(&all[..1]).await);
    unit.rollback().await.expect("rolls back");
    for transaction in all {
        let found = db
            .store
            .reader()
            .transaction(transaction.id)
            .await
            .expect("reads");
        assert_eq!(found, Some(transaction));
    }
}

pub(crate) async fn what_remains_of_a_transaction_changes(db: &TestDb) {
    let (member, partner) = (enrolled(db, 0).await.id, partner_id());
    let (mut unit, frame) = begin(db).await;
    let transaction = earn(member, partner, frame.window);
    unit.insert_transactions(std::slice::from_ref(&transaction))
        .await
        .expect("inserts");
    commit(unit).await;
    let open = Open {
        points: Points::ZERO,
        amount: Minor::new(1),
        reversed_by: Some(transaction_id()),
    };
    let change = OpenChange {
        transaction: transaction.id,
        member,
        open,
    };
    let mut unit = crate::fixtures::unit(db).await;
    unit.update_opens(&[change]).await.expect("updates");
    commit(unit).await;
    let found = db
        .store
        .reader()
        .transaction(transaction.id)
        .await
        .expect("reads");
    assert_eq!(found.map(|found| found.open), Some(open));
    let mut unit = crate::fixtures::unit(db).await;
    let absent = OpenChange {
        transaction: transaction_id(),
        ..change
    };
    assert_conflict(unit.update_opens(&[change, absent]).await);
    unit.rollback().await.expect("rolls back");
}

pub(crate) async fn lots_come_back_as_written_and_as_changed(db: &TestDb) {
    let member = member_id();
    let plain = lot(100, 30);
    let mut full = lot(5, 40);
    full.issuer = Party::Operator;
    full.pending_until = day(7);
    (full.pending, full.held, full.expired) = (points(6), points(7), points(8));
    let mut unit = unit(db).await;
    unit.insert_lots(&[(member, plain), (member, full)])
        .await
        .expect("inserts");
    let keys = [
        (full.id, member),
        (plain.id, member_id()),
        (plain.id, member),
    ];
    let mut found = unit.lots(&keys).await.expect("finds");
    found.sort_by_key(|(_, lot)| lot.id);
    assert_eq!(found, [(member, plain), (member, full)]);
    let mut spent = plain;
    (spent.available, spent.expired, spent.points) = (Points::ZERO, points(10), points(90));
    unit.update_lots(&[(member, spent)]).await.expect("updates");
    commit(unit).await;

    let mut unit = crate::fixtures::unit(db).await;
    assert_eq!(
        unit.lots(&[(plain.id, member)]).await.expect("finds"),
        [(member, spent)]
    );
    assert_conflict(unit.update_lots(&[(member, lot(1, 1))]).await);
    unit.rollback().await.expect("rolls back");
    let mut unit = crate::fixtures::unit(db).await;
    assert_conflict(unit.insert_lots(&[(member, plain)]).await);
    unit.rollback().await.expect("rolls back");
}

pub(crate) async fn live_lots_come_as_demanded(db: &TestDb) {
    let (mut one, mut two) = (member(0), member(0));
    one.totals.pending = points(1);
    two.totals.available = points(1);
    let [
        mut late,
        early,
        tie_a,
        tie_b,
        mut spent,
        mut pending,
        mut held,
    ] = [50, 10, 20, 20, 5, 60, 1].map(|on| lot(100, on));
    spent.available = Points::ZERO;
    spent.expired = points(3);
    (pending.pending, pending.available) = (points(1), Points::ZERO);
    held.held = points(2);
    late.issuer = Party::Operator;
    let others = [lot(1, 3), lot(1, 2), lot(1, 1)];
    let mut unit = unit(db).await;
    unit.insert_members(&[one.clone(), two.clone()], START)
        .await
        .expect("inserts");
    let lots = [late, early, tie_a, tie_b, spent, pending, held].map(|lot| (one.id, lot));
    unit.insert_lots(&lots).await.expect("inserts");
    unit.insert_lots(&others.map(|lot| (two.id, lot)))
        .await
        .expect("inserts");

    let demand = |book: &MemberBook, limit| LotDemand {
        member: book.id,
        limit,
    };
    let mut ask = async |demands: &[LotDemand]| {
        let found = unit.live_lots(demands).await.expect("finds");
        let mut found: Vec<LotId> = found.into_iter().map(|(_, lot)| lot.id).collect();
        found.sort_unstable();
        found
    };
    let sorted = |lots: &[coalition_ledger::member::Lot]| {
        let mut ids: Vec<LotId> = lots.iter().map(|lot| lot.id).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ask(&[demand(&one, 0)]).await, sorted(&[pending, held]));
    assert_eq!(
        ask(&[demand(&one, 2)]).await,
        sorted(&[pending, held, early, tie_a])
    );
    assert_eq!(
        ask(&[demand(&one, 3)]).await,
        sorted(&[pending, held, early, tie_a, tie_b])
    );
    let everything = sorted(&[pending, held, early, tie_a, tie_b, late]);
    assert_eq!(ask(&[demand(&one, i64::MAX)]).await, everything);
    assert_eq!(ask(&[demand(&two, 2)]).await, sorted(&others[1..]));
    let both = sorted(&[pending, held, early, others[2], others[1], others[0]]);
    assert_eq!(ask(&[demand(&two, 5), demand(&one, 1)]).await, both);
    let nobody = member(0);
    assert_eq!(ask(&[demand(&nobody, 5)]).await, []);
    commit(unit).await;
}

pub(crate) async fn debts_are_set_and_vanish_at_zero(db: &TestDb) {
    let (one, two) = (member_id(), member_id());
    let debt = |member, issuer, count| DebtRecord {
        member,
        issuer,
        points: points(count),
    };
    let (owed, other) = (
        debt(one, Party::Operator, 5),
        debt(two, partner_id().into(), 7),
    );
    let mut unit = unit(db).await;
    unit.upsert_debts(&[owed, other]).await.expect("inserts");
    let repaid = DebtRecord {
        points: Points::ZERO,
        ..owed
    };
    assert_eq!(unit.debts(&[one]).await.expect("finds"), [owed]);
    unit.upsert_debts(&[DebtRecord {
        points: points(6),
        ..owed
    }])
    .await
    .expect("changes");
    assert_eq!(
        unit.debts(&[one]).await.expect("finds")[0].points,
        points(6)
    );
    unit.upsert_debts(&[repaid]).await.expect("changes");
    assert_eq!(unit.debts(&[one, two]).await.expect("finds"), [other]);
    unit.rollback().await.expect("rolls back");
}

pub(crate) async fn totals_add_up(db: &TestDb) {
    let (partner, other) = (Party::Partner(partner_id()), Party::Partner(partner_id()));
    let flow = |party, counterparty, currency| TotalKey {
        measure: Measure::Flow,
        party,
        counterparty,
        unit: Counted::Money(currency),
    };
    let rows = [
        (flow(Party::Operator, partner, Currency::EUR), 5),
        (flow(partner, other, Currency::EUR), 7),
        (flow(partner, other, Currency::USD), 11),
        (issued(partner), 120),
    ];
    let (mut unit, frame) = begin(db).await;
    unit.add_totals(frame.window, &rows).await.expect("adds");
    unit.add_totals(frame.window, &[(rows[1].0, -10), (issued(other), 1)])
        .await
        .expect("adds");
    let mut expected = rows.to_vec();
    expected[1].1 = -3;
    expected.push((issued(other), 1));
    expected.sort_by_key(|(key, _)| *key);
    let found = unit.totals(&[frame.window]).await.expect("finds");
    let keyed = |(key, sum): &(TotalKey, i64)| (frame.window, *key, *sum);
    assert_eq!(found, expected.iter().map(keyed).collect::<Vec<_>>());
    let flows = expected
        .iter()
        .filter(|(key, _)| key.measure == Measure::Flow);
    assert_eq!(
        unit.flows(&[frame.window]).await.expect("finds"),
        flows.map(keyed).collect::<Vec<_>>()
    );
    commit(unit).await;
    assert_eq!(
        db.store.reader().totals(frame.window).await.expect("reads"),
        expected
    );
}

pub(crate) async fn a_total_beyond_the_range_is_refused(db: &TestDb) {
    let key = issued(Party::Operator);
    let (mut unit, frame) = begin(db).await;
    unit.add_totals(frame.window, &[(key, 8_999_999_999_999_999_999)])
        .await
        .expect("adds");
    let outcome = unit.add_totals(frame.window, &[(key, i64::MAX)]).await;
    assert!(
        matches!(outcome, Err(StoreError::OutOfRange)),
        "{outcome:?}"
    );
    unit.rollback().await.expect("rolls back");
}

pub(crate) async fn sets_of_every_size_are_written_and_found(db: &TestDb) {
    for size in [
        1, 2, 3, 4, 7, 9, 16, 31, 64, 65, 127, 129, 192, 193, 255, 256, 257, 300, 385, 512, 513,
        1_100,
    ] {
        let rows: Vec<_> = (0..size).map(|_| request(Uuid::nil())).collect();
        let members: Vec<_> = (0..size).map(|_| member(size)).collect();
        let change = |book: &MemberBook| MemberChange {
            expected_version: 0,
            book: book.clone(),
        };
        // Some of them move on at once: sets of several sizes, two of them for one table.
        let (early, late) = members.split_at(members.len() / 3);
        let effects = Effects {
            requests: rows.clone(),
            new_members: members.clone(),
            members: early.iter().map(change).collect(),
            ..Effects::default()
        };
        let (mut unit, frame) = begin(db).await;
        let written = unit.write(frame.window, START, &effects).await;
        written.expect("writes");
        let keys: Vec<_> = rows.iter().map(|record| record.key).collect();
        let mut found = unit.requests(&keys).await.expect("finds");
        found.sort_by_key(|record| record.key);
        assert_eq!(found, rows);
        let changes: Vec<_> = late.iter().map(change).collect();
        unit.update_members(&changes).await.expect("updates");
        let ids: Vec<_> = members.iter().map(|book| book.id).collect();
        let found = unit.members(&ids).await.expect("finds");
        assert_eq!(
            found.iter().filter(|book| book.version == 1).count(),
            ids.len()
        );
        let asked = unit.members_asking(&ids, &keys, &[]).await;
        let (found, traces) = asked.expect("finds");
        assert_eq!((found.len(), traces.requests), (ids.len(), true));
        commit(unit).await;
    }
}

pub(crate) async fn empty_sets_are_no_trouble(db: &TestDb) {
    let (mut unit, frame) = begin(db).await;
    assert!(unit.requests(&[]).await.expect("finds").is_empty());
    assert!(unit.checks(&[]).await.expect("finds").is_empty());
    assert!(unit.identifiers(&[]).await.expect("finds").is_empty());
    assert!(unit.transactions(&[]).await.expect("finds").is_empty());
    assert!(unit.members(&[]).await.expect("finds").is_empty());
    assert!(unit.live_lots(&[]).await.expect("finds").is_empty());
    assert!(unit.lots(&[]).await.expect("finds").is_empty());
    assert!(unit.debts(&[]).await.expect("finds").is_empty());
    assert!(unit.positions(&[]).await.expect("finds").is_empty());
    assert!(unit.windows(&[]).await.expect("finds").is_empty());
    assert!(unit.totals(&[]).await.expect("finds").is_empty());
    unit.insert_requests(&[]).await.expect("writes");
    unit.insert_checks(&[]).await.expect("writes");
    unit.delete_checks(&[]).await.expect("writes");
    unit.insert_members(&[], START).await.expect("writes");
    unit.insert_identifiers(&[]).await.expect("writes");
    unit.insert_transactions(&[]).await.expect("writes");
    unit.update_opens(&[]).await.expect("writes");
    unit.insert_lots(&[]).await.expect("writes");
    unit.update_lots(&[]).await.expect("writes");
    unit.upsert_debts(&[]).await.expect("writes");
    unit.update_members(&[]).await.expect("writes");
    unit.add_totals(frame.window, &[]).await.expect("writes");
    unit.move_positions(&[] as &[PositionChange])
        .await
        .expect("writes");
    commit(unit).await;
}
