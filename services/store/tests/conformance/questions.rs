//! Questions about what is committed.

use coalition_ledger::ids::{Party, TransactionId, WindowId};
use coalition_ledger::member::{Known, Totals};
use coalition_ledger::money::Unit as Counted;
use coalition_ledger::snapshot::{DebtRecord, Measure, MemberChange, TotalKey};
use coalition_ledger::transaction::Transaction;
use coalition_store::model::{MemberView, PostingFilter};
use coalition_store::testing::{Parts as _, START, TestDb};

use crate::fixtures::*;
use crate::windows::cut;

fn ids(transactions: &[Transaction]) -> Vec<TransactionId> {
    transactions
        .iter()
        .map(|transaction| transaction.id)
        .collect()
}

/// Stores transactions in a unit of their own.
async fn post(db: &TestDb, transactions: &[Transaction]) {
    let mut unit = unit(db).await;
    unit.insert_transactions(transactions)
        .await
        .expect("inserts");
    commit(unit).await;
}

pub(crate) async fn a_member_is_seen_whole(db: &TestDb) {
    let mut book = member(150);
    book.totals.debt = points(7);
    let issuer = Party::Partner(partner_id());
    let identifiers = [
        identifier(book.id, "••••1234"),
        identifier(book.id, "an…@…"),
    ];
    let (first, second) = (lot(100, 30), lot(50, 20));
    let mut gone = lot(0, 10);
    gone.points = points(9);
    let owed = |issuer, count| DebtRecord {
        member: book.id,
        issuer,
        points: points(count),
    };
    let mut unit = unit(db).await;
    unit.insert_members(&[book.clone(), member(3)], START)
        .await
        .expect("inserts");
    unit.insert_identifiers(&identifiers)
        .await
        .expect("inserts");
    unit.insert_lots(&[first, second, gone].map(|lot| (book.id, lot)))
        .await
        .expect("inserts");
    unit.insert_lots(&[(member_id(), lot(1, 1))])
        .await
        .expect("inserts");
    unit.upsert_debts(&[owed(issuer, 7), owed(Party::Operator, 0)])
        .await
        .expect("inserts");
    commit(unit).await;

    let id = book.id;
    book.lots = [first, second]
        .into_iter()
        .map(|lot| (lot.id, lot))
        .collect();
    book.debts = [(issuer, points(7))].into_iter().collect();
    book.known = Known::All;
    let mut identifiers = identifiers.map(|record| record.identifier).to_vec();
    identifiers.sort_by_key(|identifier| identifier.hash);
    let seen = db.store.reader().member(id).await.expect("reads");
    assert_eq!(seen, Some(MemberView { book, identifiers }));
    assert_eq!(
        db.store.reader().member(member_id()).await.expect("reads"),
        None
    );
}

pub(crate) async fn activity_comes_latest_first(db: &TestDb) {
    let (one, other) = (enrolled(db, 0).await.id, enrolled(db, 0).await.id);
    let (partner, window) = (partner_id(), begin(db).await.1.window);
    let mine: Vec<_> = (0..9).map(|_| earn(one, partner, window)).collect();
    let theirs: Vec<_> = (0..3).map(|_| earn(other, partner, window)).collect();
    post(db, &[&mine[..5], &theirs, &mine[5..]].concat()).await;
    let reader = db.store.reader();
    let newest_first: Vec<_> = mine.into_iter().rev().collect();
    let page = reader.activity(one, None, None, 4).await.expect("reads");
    assert_eq!(page, newest_first[..4]);
    let page = reader
        .activity(one, None, Some(page[3].id), 100)
        .await
        .expect("reads");
    assert_eq!(page, newest_first[4..]);
    assert_eq!(
        reader
            .activity(one, None, Some(page[4].id), 4)
            .await
            .expect("reads"),
        []
    );
    assert_eq!(
        reader
            .activity(one, None, Some(theirs[1].id), 4)
            .await
            .expect("reads"),
        []
    );
    assert_eq!(
        reader.activity(one, None, None, 0).await.expect("reads"),
        []
    );
    assert_eq!(
        reader
            .activity(member_id(), None, None, 4)
            .await
            .expect("reads"),
        []
    );
}

pub(crate) async fn activity_of_one_partner_is_found(db: &TestDb) {
    let member = enrolled(db, 0).await.id;
    let (here, there, nowhere) = (partner_id(), partner_id(), partner_id());
    let window = begin(db).await.1.window;
    let at = [here, there, there, here, there, here];
    let all = at.map(|partner| earn(member, partner, window));
    post(db, &all).await;
    let reader = db.store.reader();
    let page = reader
        .activity(member, Some(here), None, 2)
        .await
        .expect("reads");
    assert_eq!(ids(&page), [all[5].id, all[3].id]);
    let page = reader
        .activity(member, Some(here), Some(page[1].id), 2)
        .await
        .expect("reads");
    assert_eq!(ids(&page), [all[0].id]);
    assert_eq!(
        reader
            .activity(member, Some(nowhere), None, 2)
            .await
            .expect("reads"),
        []
    );
}

pub(crate) async fn activity_knows_declines_and_several_units(db: &TestDb) {
    let (book, partner) = (enrolled(db, 0).await, partner_id());
    let (unit, frame) = begin(db).await;
    unit.rollback().await.expect("rolls back");
    let mut expected = Vec::new();
    let mut version = 0;
    for round in 0..6 {
        let mut unit = unit_of(db).await;
        let batch = [
            decline(book.id, partner, frame.window),
            earn(book.id, partner, frame.window),
        ];
        let batch = if round % 2 == 0 {
            &batch[..1]
        } else {
            &batch[..]
        };
        let change = MemberChange {
            expected_version: version,
            book: book.clone(),
        };
        // In any order, with and without a change of the member's sums.
        match round {
            1 => {
                assert_eq!(
                    unit.members(&[book.id]).await.expect("finds")[0].version,
                    version
                );
                unit.insert_transactions(batch).await.expect("inserts");
                unit.update_members(&[change]).await.expect("updates");
                version += 1;
            }
            3 => {
                unit.update_members(&[change]).await.expect("updates");
                unit.insert_transactions(batch).await.expect("inserts");
                // The row is changed and then moved on.
                version += 2;
            }
            _ => {
                unit.insert_transactions(batch).await.expect("inserts");
                version += 1;
            }
        }
        commit(unit).await;
        expected.extend(batch.iter().cloned());
    }
    expected.reverse();
    let found = db
        .store
        .reader()
        .activity(book.id, None, None, 100)
        .await
        .expect("reads");
    assert_eq!(found, expected);
    assert_eq!(fetched(db, book.id).await.version, version);
}

async fn unit_of(db: &TestDb) -> Box<dyn coalition_store::Unit> {
    unit(db).await
}

pub(crate) async fn postings_are_listed_by_window_partner_and_member(db: &TestDb) {
    let (one, other) = (enrolled(db, 0).await.id, enrolled(db, 0).await.id);
    let (here, there) = (partner_id(), partner_id());
    let early = transaction_id();
    let (first, second, third);
    let mut windows: Vec<(WindowId, Vec<Transaction>)> = Vec::new();
    for round in 0..3 {
        let (mut unit, frame) = begin(db).await;
        let mut batch = vec![
            earn(one, here, frame.window),
            decline(one, here, frame.window),
            earn(other, there, frame.window),
            earn(other, there, frame.window),
        ];
        // Made by one partner, moving another's points.
        batch[3].posting = earn(other, here, frame.window).posting;
        let last = batch.last().map(|transaction| transaction.id);
        unit.insert_transactions(&batch).await.expect("inserts");
        commit(unit).await;
        windows.push((frame.window, batch));
        if round < 2 {
            let (mut unit, frame) = db
                .store
                .begin(coalition_store::WindowLock::Exclusive)
                .await
                .expect("begins");
            let open = unit
                .windows(&[frame.window])
                .await
                .expect("finds")
                .pop()
                .expect("is there");
            let closed = coalition_store::model::Window {
                state: coalition_store::model::WindowState::Closed,
                closed_at: Some(day(1)),
                last_transaction: last,
                ..open.clone()
            };
            let opened = coalition_store::model::Window {
                id: WindowId::from_uuid(id()),
                number: open.number + 1,
                ..open
            };
            unit.turn_window(&closed, &opened).await.expect("turns");
            commit(unit).await;
        }
    }
    [first, second, third] = [0, 1, 2].map(|n| windows[n].clone());
    let reader = db.store.reader();
    let list = async |filter: PostingFilter, after, limit| {
        let page = reader.postings(filter, after, limit).await.expect("reads");
        assert_eq!(page.next, None, "few enough to be looked through at once");
        ids(&page.rows)
    };
    let everything = PostingFilter::default();
    let of = |window: &(WindowId, Vec<Transaction>)| PostingFilter {
        window: Some(window.0),
        ..everything
    };
    let posted = |window: &(WindowId, Vec<Transaction>)| [0, 2, 3].map(|n| window.1[n].id).to_vec();
    for window in [&first, &second, &third] {
        assert_eq!(list(of(window), None, 100).await, posted(window));
    }
    let all = [posted(&first), posted(&second), posted(&third)].concat();
    assert_eq!(list(everything, None, 100).await, all);
    assert_eq!(list(everything, Some(all[3]), 3).await, all[4..7]);
    assert_eq!(list(of(&second), Some(all[3]), 1).await, all[4..5]);
    assert_eq!(list(of(&second), Some(all[7]), 1).await, []);
    let at_here = PostingFilter {
        partner: Some(here),
        ..of(&second)
    };
    assert_eq!(
        list(at_here, None, 100).await,
        [second.1[0].id, second.1[3].id]
    );
    assert_eq!(list(at_here, None, 1).await, [second.1[0].id]);
    let of_one = PostingFilter {
        member: Some(one),
        ..everything
    };
    assert_eq!(list(of_one, None, 2).await, [first.1[0].id, second.1[0].id]);
    // A process whose clock is a little behind.
    let late = Transaction {
        id: early,
        ..earn(one, there, third.0)
    };
    post(db, &[late]).await;
    assert_eq!(
        list(of(&third), None, 100).await,
        [&[early], &posted(&third)[..]].concat()
    );
    assert_eq!(list(of(&first), None, 100).await, posted(&first));
    let unknown = PostingFilter {
        window: Some(WindowId::from_uuid(id())),
        ..everything
    };
    assert_eq!(list(unknown, None, 100).await, []);
}

/// A partner's few postings among many of others: one answer looks through so many and no more.
pub(crate) async fn a_search_for_rare_postings_breaks_off_and_goes_on(db: &TestDb) {
    const OTHERS: usize = 17_000;
    let (busy, rare) = (partner_id(), partner_id());
    let member = enrolled(db, 0).await.id;
    let mut wanted = Vec::new();
    for batch in 0..OTHERS / 1_000 {
        let (mut unit, frame) = begin(db).await;
        let mut rows: Vec<_> = (0..1_000)
            .map(|_| earn(member, busy, frame.window))
            .collect();
        if batch == 0 || batch == OTHERS / 1_000 - 1 {
            rows.push(earn(member, rare, frame.window));
            wanted.extend(rows.last().map(|row| row.id));
        }
        unit.insert_transactions(&rows).await.expect("inserts");
        commit(unit).await;
    }
    let filter = PostingFilter {
        window: Some(db.store.reader().open_window().await.expect("reads").id),
        partner: Some(rare),
        member: None,
    };
    let list = |after| db.store.reader().postings(filter, after, 10);
    let page = list(None).await.expect("reads");
    assert_eq!(ids(&page.rows), wanted[..1]);
    let next = page.next.expect("it broke off before the second");
    assert!(next > wanted[0] && next < wanted[1]);
    let page = list(Some(next)).await.expect("reads");
    assert_eq!((ids(&page.rows), page.next), (wanted[1..].to_vec(), None));
}

pub(crate) async fn sums_over_windows_and_members(db: &TestDb) {
    let (a, b) = (Party::Partner(partner_id()), Party::Partner(partner_id()));
    let (mut unit, frame) = begin(db).await;
    let (party, counterparty) = (Party::Operator, Party::Operator);
    let postings = TotalKey {
        measure: Measure::Postings,
        party,
        counterparty,
        unit: Counted::Points,
    };
    let first = frame.window;
    let rows = [(issued(a), 5), (issued(b), 1), (postings, 3)];
    unit.add_totals(first, &rows).await.expect("adds");
    let (mut full, mut spent) = (lot(10, 9), lot(0, 9));
    (full.issuer, spent.issuer) = (a, a);
    (full.pending, full.held) = (points(3), points(4));
    spent.expired = points(2);
    let mut operators = lot(8, 1);
    operators.issuer = Party::Operator;
    let member = member_id();
    unit.insert_lots(&[full, spent, operators].map(|lot| (member, lot)))
        .await
        .expect("inserts");
    let owed = |issuer, count| DebtRecord {
        member,
        issuer,
        points: points(count),
    };
    unit.upsert_debts(&[owed(a, 6), owed(b, 7)])
        .await
        .expect("inserts");
    commit(unit).await;
    cut(db.store.as_ref()).await.expect("cuts");
    let (mut unit, frame) = begin(db).await;
    let second = frame.window;
    unit.add_totals(second, &[(issued(a), 7), (postings, 4)])
        .await
        .expect("adds");
    commit(unit).await;

    let reader = db.store.reader();
    let sums = |pending, available, held, debt| Totals {
        pending: points(pending),
        available: points(available),
        held: points(held),
        debt: points(debt),
    };
    let expected = [
        (Party::Operator, sums(0, 8, 0, 0)),
        (a, sums(3, 10, 4, 6)),
        (b, sums(0, 0, 0, 7)),
    ];
    let sums = reader.trial_sums().await.expect("reads");
    assert_eq!(
        sums.totals,
        [(issued(a), 12), (issued(b), 1), (postings, 7)]
    );
    assert_eq!(sums.holdings, expected);
    assert_eq!(sums.positions, reader.positions(None).await.expect("reads"));
    let asked = [second, WindowId::from_uuid(id()), first];
    let mut counts = reader.posting_counts(&asked).await.expect("reads");
    counts.sort_unstable();
    assert_eq!(counts, [(first, 3), (second, 4)]);
}

pub(crate) async fn windows_are_listed_latest_first(db: &TestDb) {
    for _ in 0..3 {
        cut(db.store.as_ref()).await.expect("cuts");
    }
    let reader = db.store.reader();
    let numbers = async |below, limit| {
        let windows = reader.windows(below, limit).await.expect("reads");
        windows
            .into_iter()
            .map(|window| window.number)
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers(None, 3).await, [4, 3, 2]);
    assert_eq!(numbers(Some(3), 9).await, [2, 1]);
    assert!(numbers(Some(1), 9).await.is_empty());
}

pub(crate) async fn absent_things_are_absent(db: &TestDb) {
    let reader = db.store.reader();
    assert_eq!(
        reader.member_by_identifier(&[1; 32]).await.expect("reads"),
        None
    );
    assert_eq!(
        reader.transaction(transaction_id()).await.expect("reads"),
        None
    );
    assert_eq!(
        reader
            .window(WindowId::from_uuid(id()))
            .await
            .expect("reads"),
        None
    );
    assert_eq!(
        reader
            .totals(WindowId::from_uuid(id()))
            .await
            .expect("reads"),
        []
    );
    assert_eq!(reader.partner(partner_id()).await.expect("reads"), None);
    assert_eq!(reader.partner_by_code("").await.expect("reads"), None);
    assert_eq!(
        reader
            .agreements(Some(partner_id()), None, 9)
            .await
            .expect("reads"),
        []
    );
    assert_eq!(
        reader
            .positions(Some(Party::Partner(partner_id())))
            .await
            .expect("reads"),
        []
    );
    assert_eq!(reader.trial_sums().await.expect("reads").holdings, []);
    assert_eq!(reader.posting_counts(&[]).await.expect("reads"), []);
    assert_eq!(reader.settlements(None, 5).await.expect("reads"), []);
}

pub(crate) async fn members_come_with_word_of_what_else_is_there(db: &TestDb) {
    let (one, two) = (member(1), member(2));
    let (stored, other) = (request(id()), request(id()));
    let (used, free) = (check(partner_id(), "1"), check(partner_id(), "1"));
    let mut unit = unit(db).await;
    unit.insert_members(&[one.clone(), two.clone()], START)
        .await
        .expect("inserts");
    unit.insert_requests(&[stored]).await.expect("inserts");
    let checks = std::slice::from_ref(&used);
    unit.insert_checks(checks).await.expect("inserts");
    let nobody = member_id();
    let all = [one.id, nobody, two.id];
    for (members, found) in [(&all[..], 2), (&all[1..2], 0), (&[][..], 0)] {
        for (requests, any_request) in [
            (vec![other.key, stored.key], true),
            (vec![other.key], false),
            (Vec::new(), false),
        ] {
            for (checks, any_check) in [
                (vec![used.key.clone(), free.key.clone()], true),
                (vec![free.key.clone()], false),
                (Vec::new(), false),
            ] {
                let asked = unit.members_asking(members, &requests, &checks).await;
                let (books, traces) = asked.expect("fetches");
                assert_eq!(books.len(), found);
                assert!(books.iter().all(|book| members.contains(&book.id)));
                assert_eq!(traces.requests, any_request);
                assert_eq!(traces.checks, any_check);
            }
        }
    }
    unit.rollback().await.expect("rolls back");
}
