//! Everything as of one instant, and what a hand in the database leaves behind.

use coalition_ledger::ids::{Party, TransactionId};
use coalition_ledger::member::Known;
use coalition_ledger::money::{Currency, Micros};
use coalition_ledger::snapshot::{DebtRecord, Position, PositionChange};
use coalition_ledger::transaction::Transaction;
use coalition_store::model::ScannedLot;
use coalition_store::testing::{Engine, Parts as _, START, TestDb};

use crate::fixtures::*;
use crate::windows::cut;

/// A member with some earns.
async fn with_earns(db: &TestDb, count: usize) -> Vec<Transaction> {
    let (member, partner) = (enrolled(db, 0).await.id, partner_id());
    let (mut unit, frame) = begin(db).await;
    let earns: Vec<_> = (0..count)
        .map(|_| earn(member, partner, frame.window))
        .collect();
    unit.insert_transactions(&earns).await.expect("inserts");
    commit(unit).await;
    earns
}

/// All transactions, and those whose rows were changed, read in small pages.
async fn scanned(db: &TestDb) -> (Vec<Transaction>, Vec<TransactionId>) {
    let mut scan = db.store.scan().await.expect("a scan begins");
    let (mut all, mut changed) = (Vec::new(), Vec::new());
    loop {
        let after = all.last().map(|transaction: &Transaction| transaction.id);
        let (page, damaged) = scan.transactions(after, 2).await.expect("reads");
        changed.extend(damaged);
        if page.is_empty() {
            return (all, changed);
        }
        all.extend(page);
    }
}

pub(crate) async fn a_scan_sees_one_instant(db: &TestDb) {
    let before = with_earns(db, 1).await;
    let mut scan = db.store.scan().await.expect("a scan begins");
    assert_eq!(scan.transaction_count().await.expect("counts"), 1);
    with_earns(db, 2).await;
    cut(db.store.as_ref()).await.expect("cuts");
    assert_eq!(scan.transaction_count().await.expect("counts"), 1);
    assert_eq!(
        scan.transactions(None, 9).await.expect("reads"),
        (before, vec![])
    );
    assert_eq!(scan.windows().await.expect("reads").len(), 1);
    assert_eq!(scan.members(None, 9).await.expect("reads").len(), 1);
    drop(scan);
    assert_eq!(scanned(db).await.0.len(), 3);
}

pub(crate) async fn a_scan_reads_everything_page_by_page(db: &TestDb) {
    let earns = with_earns(db, 5).await;
    assert_eq!(scanned(db).await, (earns, vec![]));

    let books = [member(1), member(2), member(3)];
    let lots = [lot(1, 1), lot(0, 2), lot(3, 3)];
    let debts = [(books[0].id, 5), (books[1].id, 0), (books[2].id, 6)];
    let debts = debts.map(|(member, count)| DebtRecord {
        member,
        issuer: Party::Operator,
        points: points(count),
    });
    let position = Position {
        debits: Micros::new(9),
        ..Position::default()
    };
    let moved = PositionChange {
        party: Party::Partner(partner_id()),
        currency: Currency::USD,
        change: position,
        floor: None,
    };
    let (mut unit, frame) = begin(db).await;
    unit.insert_members(&books, START).await.expect("inserts");
    unit.insert_lots(&lots.map(|lot| (books[0].id, lot)))
        .await
        .expect("inserts");
    unit.upsert_debts(&debts).await.expect("inserts");
    unit.add_totals(frame.window, &[(issued(Party::Operator), 4)])
        .await
        .expect("adds");
    unit.move_positions(&[moved]).await.expect("moves");
    commit(unit).await;
    let (closed, opened) = cut(db.store.as_ref()).await.expect("cuts");

    let mut scan = db.store.scan().await.expect("a scan begins");
    let scanned_lots = lots.map(|lot| ScannedLot {
        member: books[0].id,
        lot,
    });
    assert_eq!(scan.lots(None, 2).await.expect("reads"), scanned_lots[..2]);
    assert_eq!(
        scan.lots(Some(lots[1].id), 2).await.expect("reads"),
        scanned_lots[2..]
    );
    let mut found = scan.members(None, 9).await.expect("reads");
    assert_eq!(found.len(), 4);
    found.remove(0);
    assert_eq!(
        scan.members(Some(books[0].id), 1).await.expect("reads"),
        found[1..2]
    );
    assert!(found.iter().all(|book| book.known == Known::Nothing));
    assert_eq!(scan.debts().await.expect("reads"), [debts[0], debts[2]]);
    assert_eq!(
        scan.windows().await.expect("reads"),
        [closed.clone(), opened]
    );
    let totals = scan.totals(closed.id).await.expect("reads");
    assert_eq!(totals, [(issued(Party::Operator), 4)]);
    let positions = scan.positions().await.expect("reads");
    assert_eq!(
        positions.last(),
        Some(&((moved.party, moved.currency), position))
    );
    assert_eq!(scan.rulebook().await.expect("reads").version, 1);
}

pub(crate) async fn an_edited_transaction_is_found(db: &TestDb) {
    let earns = with_earns(db, 3).await;
    let edits = [
        "points = points + 1",
        "amount_minor = amount_minor - 1",
        "currency = 'USD'",
        "check_id = 'A-1208'",
        "check_id = null",
        "balance_available = null",
        "declined = 4",
        "occurred_us = null",
        "posted_us = posted_us + 1",
        "partner_id = window_id",
        "previous_id = window_id",
        "agreement_id = null",
        "offline = null",
        "location = 'tonight'",
        "posting = null",
        "next_expiry_points = 0",
    ];
    let bytes = match db.engine {
        Engine::Sqlite => "posting = substr(posting, 1, length(posting) - 1) || x'01'",
        Engine::Postgres => "posting = set_byte(posting, length(posting) - 1, 1)",
    };
    // Rows have names that no quoting is needed for; keep what was there, edit, look, put it back.
    db.sql("create table kept as select * from transactions")
        .await;
    let edited = earns[1].id;
    let uuid = match db.engine {
        Engine::Sqlite => format!("x'{}'", edited.uuid().simple()),
        Engine::Postgres => format!("'{}'", edited.uuid()),
    };
    for edit in edits.into_iter().chain([bytes]) {
        let touched = db
            .sql(&format!("update transactions set {edit} where id = {uuid}"))
            .await;
        assert_eq!(touched, 1, "{edit}");
        assert_eq!(scanned(db).await.1, [edited], "{edit}");
        db.sql(&format!("delete from transactions where id = {uuid}"))
            .await;
        db.sql(&format!(
            "insert into transactions select * from kept where id = {uuid}"
        ))
        .await;
        assert_eq!(
            scanned(db).await,
            (earns.clone(), vec![]),
            "put back after {edit}"
        );
    }
    // What remains open of a transaction changes as a matter of course.
    db.sql("update transactions set open_points = 1, open_amount_minor = 2, reversed_by = id")
        .await;
    assert_eq!(scanned(db).await.1, []);
}

pub(crate) async fn an_unreadable_transaction_is_found_and_passed(db: &TestDb) {
    let earns = with_earns(db, 6).await;
    let uuid = |n: usize| match db.engine {
        Engine::Sqlite => format!("x'{}'", earns[n].id.uuid().simple()),
        Engine::Postgres => format!("'{}'", earns[n].id.uuid()),
    };
    let version = match db.engine {
        Engine::Sqlite => "x'ff'",
        Engine::Postgres => "'\\xff'",
    };
    // At the end of a page, a whole page, and at the very end.
    for n in [1, 2, 3, 5] {
        db.sql(&format!(
            "update transactions set posting = {version} where id = {}",
            uuid(n)
        ))
        .await;
    }
    db.sql(&format!(
        "update transactions set kind = 99 where id = {}",
        uuid(3)
    ))
    .await;
    let (read, changed) = scanned(db).await;
    assert_eq!(read, [earns[0].clone(), earns[4].clone()]);
    assert_eq!(changed, [1, 2, 3, 5].map(|n| earns[n].id));
}
