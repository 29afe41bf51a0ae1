//! Units that defer the window's lock: what they take to hold is looked at where they write.
//!
//! On SQLite they hold the window from the beginning, as every unit does: there nothing can come between.

use coalition_ledger::member::MemberBook;
use coalition_ledger::snapshot::{Effects, MemberChange, RequestRecord};
use coalition_store::testing::{Engine, Parts as _, START, TestDb};
use coalition_store::{Frame, StoreError, Unit, WindowLock};
use uuid::Uuid;

use crate::fixtures::*;
use crate::windows::{cut, wait_until_waiting};

/// A unit of a process that has been at work before.
async fn deferred(db: &TestDb) -> (Box<dyn Unit>, Frame) {
    let before = unit(db).await;
    before.rollback().await.expect("rolls back");
    let begun = db.store.begin(WindowLock::Deferred).await;
    begun.expect("a unit begins")
}

/// A request, and points for a member whose row has this version.
fn effects(book: &MemberBook, expected_version: i64) -> (RequestRecord, Effects) {
    let mut book = book.clone();
    book.totals.available = points(99);
    let change = MemberChange {
        expected_version,
        book,
    };
    let request = request(Uuid::nil());
    let effects = Effects {
        requests: vec![request],
        members: vec![change],
        ..Effects::default()
    };
    (request, effects)
}

async fn is_there(db: &TestDb, request: &RequestRecord) -> bool {
    let found = db.store.reader().request(request.key).await;
    found.expect("answers").is_some()
}

pub(crate) async fn what_a_deferred_unit_writes_is_there(db: &TestDb) {
    let book = enrolled(db, 10).await;
    let (mut unit, frame) = deferred(db).await;
    let books = unit.members(&[book.id]).await.expect("is found");
    let (request, effects) = effects(&books[0], books[0].version);
    unit.confirm().await.expect("nothing has changed");
    let written = unit.write(frame.window, START, &effects).await;
    written.expect("nobody is in its way");
    // In one statement, where the engine can.
    assert_eq!(is_there(db, &request).await, db.engine == Engine::Postgres);
    commit(unit).await;
    assert!(is_there(db, &request).await);
    let book = fetched(db, book.id).await;
    assert_eq!(
        (book.version, book.totals.available),
        (books[0].version + 1, points(99))
    );
}

pub(crate) async fn a_deferred_unit_writes_all_or_nothing(db: &TestDb) {
    let book = enrolled(db, 10).await;
    let (mut unit, frame) = deferred(db).await;
    let (request, stale) = effects(&book, book.version + 1);
    assert_conflict(unit.write(frame.window, START, &stale).await);
    if db.engine == Engine::Postgres {
        // It has no transaction that it could go on with.
        let (_, late) = effects(&book, book.version);
        assert_conflict(unit.write(frame.window, START, &late).await);
        assert_conflict(unit.commit().await);
    } else {
        unit.rollback().await.expect("rolls back");
    }
    assert!(!is_there(db, &request).await);
    assert_eq!(fetched(db, book.id).await.totals.available, points(10));
    // And a key that exists.
    let (mut unit, frame) = deferred(db).await;
    let (taken, effects) = effects(&book, book.version);
    let written = unit.write(frame.window, START, &effects).await;
    written.expect("nobody is in its way");
    commit(unit).await;
    let (mut unit, frame) = deferred(db).await;
    let again = Effects {
        requests: vec![request, taken],
        ..Effects::default()
    };
    assert_conflict(unit.write(frame.window, START, &again).await);
    unit.rollback().await.expect("rolls back");
    assert!(!is_there(db, &request).await);
}

pub(crate) async fn a_deferred_unit_that_writes_nothing_leaves_nothing(db: &TestDb) {
    let book = enrolled(db, 10).await;
    let (mut unit, _) = deferred(db).await;
    unit.members(&[book.id]).await.expect("is found");
    commit(unit).await;
    let (mut unit, _) = deferred(db).await;
    unit.members(&[book.id]).await.expect("is found");
    drop(unit);
    assert_eq!(fetched(db, book.id).await.version, book.version);
}

/// Where what deferred units stood in moves on meanwhile, they are refused, whatever they do; the next one is not.
async fn are_refused(db: &TestDb, moves: impl AsyncFnOnce()) {
    if db.engine == Engine::Sqlite {
        return;
    }
    let book = enrolled(db, 10).await;
    let (mut asks, _) = deferred(db).await;
    let (mut writes, frame) = deferred(db).await;
    moves().await;
    assert_conflict(asks.confirm().await);
    asks.rollback().await.expect("rolls back");
    let (request, effects) = effects(&book, book.version);
    assert_conflict(writes.write(frame.window, START, &effects).await);
    writes.rollback().await.expect("rolls back");
    assert!(!is_there(db, &request).await);
    let (mut next, frame) = deferred(db).await;
    let written = next.write(frame.window, START, &effects).await;
    written.expect("it knows what it stands in");
    commit(next).await;
    assert!(is_there(db, &request).await);
}

/// A unit that has the window alone.
async fn alone(db: &TestDb) -> Box<dyn Unit> {
    let begun = db.store.begin(WindowLock::Exclusive).await;
    begun.expect("begins").0
}

pub(crate) async fn a_cut_refuses_deferred_units(db: &TestDb) {
    are_refused(db, async || {
        cut(db.store.as_ref()).await.expect("cuts");
    })
    .await;
}

pub(crate) async fn a_change_of_the_rulebook_refuses_deferred_units(db: &TestDb) {
    are_refused(db, async || {
        let mut unit = alone(db).await;
        let partner = partner("later");
        unit.insert_partner(&partner).await.expect("is new");
        commit(unit).await;
    })
    .await;
}

pub(crate) async fn a_move_of_the_clock_refuses_deferred_units(db: &TestDb) {
    are_refused(db, async || {
        let mut unit = alone(db).await;
        unit.set_clock(day(40)).await.expect("sets");
        commit(unit).await;
    })
    .await;
}

/// The statement that waits for the window began before the cut was committed, and sees the window that it
/// closed as open.
pub(crate) async fn a_deferred_unit_that_waits_for_a_cut_hears_of_it(db: &TestDb) {
    if db.engine == Engine::Sqlite {
        return;
    }
    for is_cut in [false, true] {
        let book = enrolled(db, 10).await;
        let (mut unit, frame) = deferred(db).await;
        let mut alone = alone(db).await;
        let (request, effects) = effects(&book, book.version);
        let writing = tokio::spawn(async move {
            let written = unit.write(frame.window, START, &effects).await;
            (unit, written)
        });
        wait_until_waiting(db, &writing).await;
        if is_cut {
            let open = alone.windows(&[frame.window]).await.expect("is found");
            let (closed, opened) = crate::windows::turn(&open[0]);
            alone.turn_window(&closed, &opened).await.expect("turns");
        }
        commit(alone).await;
        let (unit, written) = writing.await.expect("it does not panic");
        match written {
            Ok(()) if !is_cut => commit(unit).await,
            Err(StoreError::Conflict) if is_cut => unit.rollback().await.expect("rolls back"),
            other => panic!("with a cut: {is_cut}; {other:?}"),
        }
        assert_eq!(is_there(db, &request).await, !is_cut);
    }
}
