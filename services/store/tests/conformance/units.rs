//! What a unit of work promises when things go wrong, and when several are at work.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use coalition_ledger::ids::Party;
use coalition_ledger::snapshot::{Effects, MemberChange};
use coalition_store::testing::{Engine, Parts as _, START, TestDb};
use coalition_store::{StoreError, WindowLock};
use uuid::Uuid;

use crate::fixtures::*;

pub(crate) async fn what_is_rolled_back_or_dropped_is_not_stored(db: &TestDb) {
    let (rolled_back, dropped) = (request(Uuid::nil()), request(Uuid::nil()));
    let mut unit = unit(db).await;
    unit.insert_requests(&[rolled_back]).await.expect("inserts");
    unit.rollback().await.expect("rolls back");
    let mut unit = crate::fixtures::unit(db).await;
    unit.insert_requests(&[dropped]).await.expect("inserts");
    drop(unit);
    let mut unit = crate::fixtures::unit(db).await;
    let found = unit
        .requests(&[rolled_back.key, dropped.key])
        .await
        .expect("finds");
    assert_eq!(found, []);
    unit.insert_requests(&[dropped]).await.expect("inserts");
    commit(unit).await;
    assert_eq!(
        db.store.reader().request(dropped.key).await.expect("reads"),
        Some(dropped)
    );
}

pub(crate) async fn a_unit_that_failed_cannot_be_committed(db: &TestDb) {
    let (first, second) = (request(Uuid::nil()), request(Uuid::nil()));
    let mut unit = unit(db).await;
    unit.insert_requests(&[first]).await.expect("inserts");
    commit(unit).await;
    let mut unit = crate::fixtures::unit(db).await;
    unit.insert_requests(&[second]).await.expect("inserts");
    assert_conflict(unit.insert_requests(&[first]).await);
    assert_conflict(unit.commit().await);
    assert_eq!(
        db.store.reader().request(second.key).await.expect("reads"),
        None
    );
}

/// Polls a future so many times and drops it.
async fn poll_and_drop<F: Future>(future: F, polls: u32) {
    let mut future = pin!(future);
    for _ in 0..polls {
        let mut context = Context::from_waker(Waker::noop());
        if future.as_mut().poll(&mut context).is_ready() {
            return;
        }
        // Lets the connection answer, so that different polls drop at different points.
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn a_call_dropped_half_way_leaves_nothing_open(db: &TestDb) {
    let mut written = Vec::new();
    for polls in 0..12 {
        poll_and_drop(db.store.begin(WindowLock::Shared), polls).await;
        poll_and_drop(db.store.begin(WindowLock::Exclusive), polls).await;
        poll_and_drop(db.store.begin(WindowLock::Deferred), polls).await;
        let record = request(Uuid::nil());
        let mut unit = unit(db).await;
        poll_and_drop(unit.insert_requests(&[record]), polls).await;
        drop(unit);
        // Whoever commits in spite of it stores all or nothing.
        for lock in [WindowLock::Shared, WindowLock::Deferred] {
            // So that what it stands in is known.
            crate::fixtures::unit(db)
                .await
                .rollback()
                .await
                .expect("rolls back");
            let (record, book) = (request(Uuid::nil()), member(0));
            let effects = Effects {
                requests: vec![record],
                new_members: vec![book.clone()],
                ..Effects::default()
            };
            let (mut unit, frame) = db.store.begin(lock).await.expect("begins");
            poll_and_drop(unit.members(&[book.id]), polls).await;
            poll_and_drop(unit.write(frame.window, START, &effects), polls).await;
            let is_committed = unit.commit().await.is_ok();
            // What is under way without a transaction ends when it ends: before another is alone.
            let (alone, _) = db.store.begin(WindowLock::Exclusive).await.expect("begins");
            alone.rollback().await.expect("rolls back");
            let found = db.store.reader().request(record.key).await;
            let is_stored = found.expect("reads").is_some();
            assert!(
                is_committed || !is_stored || lock == WindowLock::Deferred,
                "after {polls} polls"
            );
            let found = db.store.reader().member(book.id).await.expect("reads");
            assert_eq!(found.is_some(), is_stored, "after {polls} polls");
            if is_stored {
                written.push(record);
            }
        }
        poll_and_drop(db.store.reader().member(member_id()), polls).await;
        poll_and_drop(db.store.reader().network(), polls).await;
        poll_and_drop(db.store.scan(), polls).await;
        let record = request(Uuid::nil());
        let mut unit = crate::fixtures::unit(db).await;
        unit.insert_requests(&[record]).await.expect("inserts");
        commit(unit).await;
        written.push(record);
    }
    // Whoever held the window has let go of it, and what was committed is there for everybody.
    let (unit, _) = db.store.begin(WindowLock::Exclusive).await.expect("begins");
    unit.rollback().await.expect("rolls back");
    let stored = db.number("select count(*) from requests").await;
    assert_eq!(usize::try_from(stored), Ok(written.len()));
    for record in written {
        assert_eq!(
            db.store.reader().request(record.key).await.expect("reads"),
            Some(record)
        );
    }
    if db.engine == Engine::Postgres {
        let idle = "select count(*) from pg_stat_activity where state like 'idle in transaction%' \
                    and datname = current_database()";
        // Connections of readers are closed by tasks of their own; closing the store waits for them.
        db.store.close().await;
        assert_eq!(db.number(idle).await, 0);
    }
}

pub(crate) async fn of_two_writers_of_one_member_one_wins(db: &TestDb) {
    let book = enrolled(db, 10).await;
    let write = async |available| {
        let mut unit = unit(db).await;
        let mut book = book.clone();
        book.totals.available = points(available);
        match unit
            .update_members(&[MemberChange {
                expected_version: 0,
                book,
            }])
            .await
        {
            Ok(()) => unit.commit().await,
            Err(error) => {
                unit.rollback().await.expect("rolls back");
                Err(error)
            }
        }
    };
    let (one, two) = tokio::join!(write(1), write(2));
    let (winner, lost) = if one.is_ok() { (1, two) } else { (2, one) };
    assert_conflict(lost);
    let found = fetched(db, book.id).await;
    assert_eq!((found.version, found.totals.available), (1, points(winner)));
}

pub(crate) async fn of_two_writers_of_one_request_one_wins(db: &TestDb) {
    let record = request(Uuid::nil());
    let write = async |subject_id| {
        let mut unit = unit(db).await;
        let record = coalition_ledger::snapshot::RequestRecord {
            subject_id,
            ..record
        };
        match unit.insert_requests(&[record]).await {
            Ok(()) => unit.commit().await.map(|()| record),
            Err(error) => {
                unit.rollback().await.expect("rolls back");
                Err(error)
            }
        }
    };
    let (one, two) = tokio::join!(write(id()), write(id()));
    let (winner, lost) = if one.is_ok() { (one, two) } else { (two, one) };
    assert_conflict(lost);
    let found = db.store.reader().request(record.key).await.expect("reads");
    assert_eq!(found, Some(winner.expect("one of the two wins")));
}

pub(crate) async fn a_decline_moves_the_members_version(db: &TestDb) {
    let (book, partner) = (enrolled(db, 10).await, partner_id());
    let (mut unit, frame) = begin(db).await;
    unit.members(&[book.id]).await.expect("finds");
    unit.insert_transactions(&[decline(book.id, partner, frame.window)])
        .await
        .expect("inserts");
    commit(unit).await;
    assert_eq!(fetched(db, book.id).await.version, 1);
    // Whoever read the member before the decline was written does not write after it.
    let mut unit = crate::fixtures::unit(db).await;
    let stale = MemberChange {
        expected_version: 0,
        book,
    };
    assert_conflict(unit.update_members(&[stale]).await);
    unit.rollback().await.expect("rolls back");
}

pub(crate) async fn many_units_at_once_lose_nothing(db: &TestDb) {
    const TASKS: usize = 8;
    const ROUNDS: usize = 12;
    let shared = enrolled(db, 0).await.id;
    let party = Party::Partner(partner_id());
    let window = begin(db).await.1.window;
    let task = |_| {
        let store = Arc::clone(&db.store);
        tokio::spawn(async move {
            for _ in 0..ROUNDS {
                loop {
                    let (mut unit, _) = store.begin(WindowLock::Shared).await.expect("begins");
                    let book = unit.members(&[shared]).await.expect("finds").remove(0);
                    let mut change = MemberChange {
                        expected_version: book.version,
                        book,
                    };
                    change.book.totals.available = change
                        .book
                        .totals
                        .available
                        .plus(points(1))
                        .expect("few points");
                    let transaction = earn(shared, partner_id(), window);
                    let written = async {
                        unit.insert_transactions(&[transaction]).await?;
                        unit.update_members(&[change]).await?;
                        unit.add_totals(window, &[(issued(party), 1)]).await
                    };
                    match written.await {
                        Ok(()) => {}
                        Err(StoreError::Conflict) => {
                            unit.rollback().await.expect("rolls back");
                            continue;
                        }
                        Err(error) => panic!("{error:?}"),
                    }
                    match unit.commit().await {
                        Ok(()) => break,
                        Err(StoreError::Conflict) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
        })
    };
    for task in (0..TASKS).map(task).collect::<Vec<_>>() {
        task.await.expect("no panic");
    }
    let all = i64::try_from(TASKS * ROUNDS).expect("few");
    let found = fetched(db, shared).await;
    assert_eq!((found.version, found.totals.available), (all, points(all)));
    let reader = db.store.reader();
    assert_eq!(
        reader.totals(window).await.expect("reads"),
        [(issued(party), all)]
    );
    let activity = reader
        .activity(shared, None, None, 1_000)
        .await
        .expect("reads");
    assert_eq!(activity.len(), TASKS * ROUNDS, "the chain has every link");
    assert!(START < day(1));
}

pub(crate) async fn the_log_of_a_file_is_copied_beside_the_commits(db: &TestDb) {
    const BATCHES: usize = 3_000;
    const ROWS: usize = 20;
    // Each row is on a page of its own, nearly.
    const LOG_BYTES_IF_NEVER_COPIED: u64 = 230 * 1_024 * 1_024;
    let Some(file) = db.file() else {
        return;
    };
    let log = file.with_extension("db-wal");
    let bytes = |path: &std::path::Path| path.metadata().expect("is there").len();
    // Before, all ids are in place: what follows is spread over all pages.
    let mut members: Vec<_> = (0..20_000).map(|_| member(0)).collect();
    let mut first = unit(db).await;
    first
        .insert_members(&members, START)
        .await
        .expect("inserts");
    commit(first).await;
    fastrand::Rng::with_seed(7).shuffle(&mut members);
    let after_members = bytes(&log);
    let mut longest = after_members;
    let rounds = (0..).flat_map(|round| members.chunks(ROWS).map(move |batch| (round, batch)));
    for (round, batch) in rounds.take(BATCHES) {
        let changes: Vec<_> = batch
            .iter()
            .map(|book| MemberChange {
                expected_version: round,
                book: book.clone(),
            })
            .collect();
        let mut unit = unit(db).await;
        unit.update_members(&changes).await.expect("updates");
        commit(unit).await;
        assert!(bytes(&log) >= longest, "it keeps its length");
        longest = bytes(&log);
    }
    println!("the log: {after_members} bytes after the members, {longest} at the end");
    assert!(longest < LOG_BYTES_IF_NEVER_COPIED / 2, "{longest}");
    // In the file, and none of it is lost.
    assert!(bytes(&file) > 1_024 * 1_024, "{}", bytes(&file));
    let moved = db
        .number("select cast(sum(version) as bigint) from members")
        .await;
    assert_eq!(moved, 60_000);
}

pub(crate) async fn a_closed_store_answers_that_it_cannot_be_reached(db: &TestDb) {
    db.store.close().await;
    let unavailable = |error: &StoreError| matches!(error, StoreError::Unavailable(_));
    let begun = db.store.begin(WindowLock::Shared).await;
    assert!(begun.is_err_and(|error| unavailable(&error)));
    let read = db.store.reader().network().await;
    assert!(read.is_err_and(|error| unavailable(&error)));
}

/// A connection that has served units has their plans: the next one is served by it, not by a new one.
pub(crate) async fn units_one_after_the_other_share_a_connection(db: &TestDb) {
    if db.engine == Engine::Sqlite {
        return;
    }
    let ours = "select count(*) from pg_stat_activity \
                where datname = current_database() and application_name = 'coalition'";
    let before = db.number(ours).await;
    for _ in 0..20 {
        unit(db).await.rollback().await.expect("rolls back");
    }
    let after_one = db.number(ours).await;
    assert!(after_one <= before.max(1), "{before}, then {after_one}");
    let three = [unit(db).await, unit(db).await, unit(db).await];
    for unit in three {
        unit.rollback().await.expect("rolls back");
    }
    let after_three = db.number(ours).await;
    assert_eq!(after_three, after_one + 2, "each has one of its own");
    // What broke is not lent again: with the unit that it served, its connection ends.
    drop(unit(db).await);
    let gone = tokio::time::timeout(std::time::Duration::from_mins(1), async {
        while db.number(ours).await == after_three {}
    });
    gone.await.expect("a connection less");
    unit(db).await.rollback().await.expect("rolls back");
    assert_eq!(db.number(ours).await, after_three - 1);
}
