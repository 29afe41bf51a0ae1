//! The open window: who holds it, and how it turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coalition_ledger::ids::WindowId;
use coalition_store::model::WindowState::{Closed, Open, Settled, Settling};
use coalition_store::model::{Window, WindowState};
use coalition_store::testing::{Engine, Parts as _, START, TestDb, settings};
use coalition_store::{Frame, PoolSettings, Store, StoreError, WindowLock, open};
use tokio::task::JoinHandle;

use crate::fixtures::*;

/// More than enough for anything that is not stuck.
const PATIENCE: Duration = Duration::from_mins(1);

/// The open window as it will be once closed, and the one after it.
pub(crate) fn turn(open: &Window) -> (Window, Window) {
    let closed = Window {
        state: WindowState::Closed,
        closed_at: Some(day(open.number)),
        last_transaction: Some(transaction_id()),
        totals_hash: Some(vec![7; 32]),
        ..open.clone()
    };
    let opened = Window {
        id: WindowId::from_uuid(id()),
        number: open.number + 1,
        state: WindowState::Open,
        opened_at: day(open.number),
        closed_at: None,
        last_transaction: None,
        totals_hash: None,
    };
    (closed, opened)
}

/// Cuts the open window; the one that was closed, and the one that is open now.
pub(crate) async fn cut(store: &dyn Store) -> Result<(Window, Window), StoreError> {
    let (mut unit, frame) = store.begin(WindowLock::Exclusive).await?;
    let open = unit
        .windows(&[frame.window])
        .await?
        .pop()
        .expect("the open window is there");
    let (closed, opened) = turn(&open);
    unit.turn_window(&closed, &opened).await?;
    unit.commit().await?;
    Ok((closed, opened))
}

pub(crate) async fn a_cut_closes_one_window_and_opens_the_next(db: &TestDb) {
    let reader = db.store.reader();
    let first = reader.open_window().await.expect("reads");
    let expected = (1, WindowState::Open, START, None, None, None);
    let Window {
        number,
        state,
        opened_at,
        closed_at,
        last_transaction,
        ref totals_hash,
        ..
    } = first;
    assert_eq!(
        (
            number,
            state,
            opened_at,
            closed_at,
            last_transaction,
            totals_hash.clone()
        ),
        expected
    );
    let (closed, opened) = cut(db.store.as_ref()).await.expect("cuts");
    assert_eq!(closed.id, first.id);
    assert_eq!(reader.open_window().await.expect("reads"), opened);
    assert_eq!(
        reader.window(closed.id).await.expect("reads"),
        Some(closed.clone())
    );
    let (mut unit, frame) = begin(db).await;
    assert_eq!(
        frame,
        Frame {
            window: opened.id,
            rulebook_version: 1,
            clock: None
        }
    );
    assert_eq!(unit.window_by_number(1).await.expect("finds"), Some(closed));
    assert_eq!(unit.window_by_number(3).await.expect("finds"), None);
    unit.rollback().await.expect("rolls back");
}

pub(crate) async fn a_window_is_cut_once(db: &TestDb) {
    let (closed, _) = cut(db.store.as_ref()).await.expect("cuts");
    let (again, opened) = turn(&closed);
    let (mut unit, _) = db.store.begin(WindowLock::Exclusive).await.expect("begins");
    assert_conflict(unit.turn_window(&again, &opened).await);
    unit.rollback().await.expect("rolls back");
}

pub(crate) async fn exactly_one_window_is_open(db: &TestDb) {
    let open = db.store.reader().open_window().await.expect("reads");
    let (closed, mut opened) = turn(&open);
    // A number that was given already, under a new id.
    opened.number = 1;
    let (mut unit, _) = db.store.begin(WindowLock::Exclusive).await.expect("begins");
    assert_conflict(unit.turn_window(&closed, &opened).await);
    unit.rollback().await.expect("rolls back");
    assert_eq!(db.store.reader().open_window().await.expect("reads"), open);
    let two = db
        .number("select count(*) from windows where state = 1")
        .await;
    assert_eq!(two, 1);
}

pub(crate) async fn windows_move_between_states(db: &TestDb) {
    let (one, _) = cut(db.store.as_ref()).await.expect("cuts");
    let (two, open) = cut(db.store.as_ref()).await.expect("cuts");
    let mut unit = unit(db).await;
    unit.move_windows(&[one.id, two.id], Closed, Settling)
        .await
        .expect("moves");
    unit.move_windows(&[two.id], Settling, Settled)
        .await
        .expect("moves");
    let mut states: Vec<_> = unit
        .windows(&[one.id, two.id, open.id])
        .await
        .expect("finds")
        .into_iter()
        .map(|window| (window.number, window.state))
        .collect();
    states.sort_by_key(|(number, _)| *number);
    assert_eq!(states, [(1, Settling), (2, Settled), (3, Open)]);
    assert_conflict(unit.move_windows(&[one.id, two.id], Settling, Closed).await);
    unit.rollback().await.expect("rolls back");
}

/// Returns once a task stands in the queue for the window, which it must not get.
pub(crate) async fn wait_until_waiting<T>(db: &TestDb, task: &JoinHandle<T>) {
    let waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted \
                   and database = (select oid from pg_database where datname = current_database())";
    let waits = async {
        match db.engine {
            Engine::Postgres => {
                while db.number(waiting).await == 0 {
                    assert!(!task.is_finished(), "it did not wait");
                }
            }
            // Whoever waits for the one writer waits in this process, where nobody can look: it
            // had every chance to be done.
            Engine::Sqlite => {
                for _ in 0..100 {
                    db.number("select count(*) from windows").await;
                    assert!(!task.is_finished(), "it did not wait");
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, waits)
        .await
        .expect("it gets into the queue");
}

pub(crate) async fn a_cut_waits_for_batches_and_batches_for_a_cut(db: &TestDb) {
    let (mut batch, before) = begin(db).await;
    let store = Arc::clone(&db.store);
    let cutting = tokio::spawn(async move { cut(store.as_ref()).await });
    wait_until_waiting(db, &cutting).await;
    batch
        .requests(&[request(id()).key])
        .await
        .expect("the batch is not held up");
    assert!(!cutting.is_finished());
    batch.rollback().await.expect("rolls back");
    let done = tokio::time::timeout(PATIENCE, cutting)
        .await
        .expect("the cut gets its turn");
    let (closed, opened) = done.expect("no panic").expect("cuts");
    assert_eq!(closed.id, before.window);

    let (mut cut, _) = db.store.begin(WindowLock::Exclusive).await.expect("begins");
    let (next_closed, next_opened) = turn(&opened);
    cut.turn_window(&next_closed, &next_opened)
        .await
        .expect("turns");
    let store = Arc::clone(&db.store);
    let batch = tokio::spawn(async move {
        let (unit, frame) = store.begin(WindowLock::Shared).await.expect("begins");
        unit.rollback().await.expect("rolls back");
        frame
    });
    wait_until_waiting(db, &batch).await;
    assert!(!batch.is_finished());
    commit(cut).await;
    let frame = tokio::time::timeout(PATIENCE, batch)
        .await
        .expect("the batch gets its turn");
    assert_eq!(
        frame.expect("no panic").window,
        next_opened.id,
        "the batch sees what was cut"
    );
}

pub(crate) async fn a_steady_stream_of_batches_does_not_starve_a_cut(db: &TestDb) {
    const STREAMS: u64 = 3;
    const CUTS: i64 = 5;
    let batches = Arc::new(AtomicU64::new(0));
    // Units overlap all the time: each stream holds the window but for the moment between two.
    let stream = || {
        let (store, batches) = (Arc::clone(&db.store), Arc::clone(&batches));
        tokio::spawn(async move {
            loop {
                let (mut unit, _) = store.begin(WindowLock::Shared).await.expect("begins");
                for _ in 0..10 {
                    unit.requests(&[request(id()).key]).await.expect("finds");
                }
                unit.rollback().await.expect("rolls back");
                batches.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let streams: Vec<_> = (0..STREAMS).map(|_| stream()).collect();
    let mut waited = 0;
    for _ in 0..CUTS {
        let before = batches.load(Ordering::Relaxed);
        let cut = tokio::time::timeout(PATIENCE, cut(db.store.as_ref()));
        cut.await.expect("the cut gets its turn").expect("cuts");
        waited += batches.load(Ordering::Relaxed) - before;
    }
    for stream in streams {
        stream.abort();
        let _ = stream.await;
    }
    // Those under way, a few that were begun first, and what ran while the answer travelled.
    assert!(
        waited <= u64::try_from(CUTS).expect("few") * STREAMS * 20,
        "{waited} batches passed"
    );
    assert_eq!(
        db.store.reader().open_window().await.expect("reads").number,
        CUTS + 1
    );
}

pub(crate) async fn the_last_transaction_is_the_greatest(db: &TestDb) {
    let (member, partner) = (enrolled(db, 0).await.id, partner_id());
    let (mut unit, frame) = begin(db).await;
    assert_eq!(unit.last_transaction().await.expect("finds"), None);
    let mut transactions = [(); 4].map(|()| decline(member, partner, frame.window));
    for posted in &mut transactions[..3] {
        posted.declined = None;
    }
    let reversed: Vec<_> = transactions.iter().rev().cloned().collect();
    unit.insert_transactions(&reversed).await.expect("inserts");
    // The fourth was declined: it is no posting.
    let last = Some(transactions[2].id);
    assert_eq!(unit.last_transaction().await.expect("finds"), last);
    commit(unit).await;
}

/// The server ends it. (On SQLite there is no other process to wait for it.)
pub(crate) async fn a_process_that_stalls_within_a_unit_is_not_waited_for_long(db: &TestDb) {
    if db.engine == Engine::Sqlite {
        return;
    }
    let brief = PoolSettings {
        lock_timeout: Duration::from_secs(2),
        ..settings()
    };
    let elsewhere = open(&db.url, &brief).await.expect("opens");
    let (mut stalled, frame) = elsewhere.begin(WindowLock::Shared).await.expect("begins");
    let record = request(uuid::Uuid::nil());
    stalled.insert_requests(&[record]).await.expect("inserts");

    let (alone, same) = db.store.begin(WindowLock::Exclusive).await.expect("begins");
    assert_eq!(same, frame);
    alone.rollback().await.expect("rolls back");

    let told = stalled.commit().await;
    assert!(matches!(told, Err(StoreError::Unavailable(_))), "{told:?}");
    let found = db.store.reader().request(record.key).await.expect("reads");
    assert_eq!(found, None);
    // The connection is not used again.
    let (again, _) = elsewhere.begin(WindowLock::Shared).await.expect("begins");
    again.rollback().await.expect("rolls back");
    elsewhere.close().await;
}
