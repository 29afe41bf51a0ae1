//! A network that holds answers back, swallows them, or breaks at any question: PostgreSQL behind a
//! proxy of ours.
//!
//! The library below us can give a connection back to its pool inside a transaction that it has
//! begun itself, if its `begin` is dropped while the answer is under way (sqlx 0.9.0, issue 4385):
//! what is written through that connection later is gone. [`sqlx_itself`] shows whether it still
//! does; the others, that nothing of ours is touched by it: we begin with statements of our own, and
//! close what was dropped half way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coalition_ledger::command::RequestKey;
use coalition_ledger::snapshot::{Effects, RequestRecord, Subject};
use coalition_store::faults::When;
use coalition_store::poster::PostError;
use coalition_store::testing::{Database, Engine, Parts as _, START, settings};
use coalition_store::{Frame, PoolSettings, Store, Unit, WindowLock, open};
use futures::future::join_all;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

use super::proxy::Proxy;
use super::{Callers, assert_nothing_open, posted, send, world};

/// Longest for a question to get through a network that holds only answers back.
const ASKED_MAX: Duration = Duration::from_secs(10);

/// How often each call is dropped half way: more often than a pool has connections.
const DROPS: usize = 12;

/// Calls that may find a connection that was cut while it rested in the pool.
const STALE_MAX: u32 = 8;

/// A database on a server, directly and by way of a network that does as it is told.
struct Wire {
    database: Database,
    proxy: Proxy,
    store: Arc<dyn Store>,
    server: SocketAddr,
}

impl Wire {
    async fn lay(settings: &PoolSettings) -> Option<Self> {
        let database = Database::new(Engine::Postgres).await?;
        let server = database
            .url
            .split(['@', '/'])
            .nth(3)
            .and_then(|server| server.parse().ok());
        let server: SocketAddr = server.unwrap_or_else(|| panic!("{}", database.url));
        let proxy = Proxy::to(server).await;
        let url = proxy.url(&database.url, server);
        let store = open(&url, settings).await.expect("a URL");
        world::furnish(&store).await;
        Some(Self {
            database,
            proxy,
            store,
            server,
        })
    }

    /// Drops what `call` starts, once its question has been passed on and while the answer is held
    /// back.
    async fn drop_half_way<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) {
        let mut asked = self.proxy.asked();
        self.proxy.hold();
        let call: JoinHandle<T> = tokio::spawn(call);
        let passed_on = timeout(ASKED_MAX, asked.changed()).await;
        passed_on
            .expect("the question is asked")
            .expect("the proxy is there");
        call.abort();
        let dropped = call.await;
        assert!(
            dropped.is_err_and(|error| error.is_cancelled()),
            "it was answered"
        );
        self.proxy.release();
    }

    /// Nothing is open, no lock is held, and what is committed now is seen by everybody.
    async fn assert_sound(&self, at: &str) {
        assert_nothing_open(&self.database, at).await;
        let locks = "select count(*) from pg_locks where locktype = 'advisory' \
                     and database = (select oid from pg_database where datname = current_database())";
        assert_eq!(self.database.number(locks).await, 0, "{at}");
        let marker = marker();
        let (mut unit, _) = self.store.begin(WindowLock::Exclusive).await.expect(at);
        unit.insert_requests(&[marker]).await.expect(at);
        unit.commit().await.expect(at);
        // By others, and through every connection that readers have.
        assert_eq!(
            self.count(marker).await,
            1,
            "{at}: a commit that was answered is gone"
        );
        let readers = (0..settings().readers).map(|_| self.store.reader().request(marker.key));
        for read in join_all(readers).await {
            assert_eq!(
                read.expect(at),
                Some(marker),
                "{at}: a reader lives in the past"
            );
        }
    }

    async fn count(&self, marker: RequestRecord) -> i64 {
        let count = format!(
            "select count(*) from requests where id = '{}'",
            marker.key.id
        );
        self.database.number(&count).await
    }

    async fn end(self) {
        world::assert_books_balance(self.store.as_ref()).await;
        self.store.close().await;
        self.database.remove().await;
    }
}

/// Something to write that is easily found.
fn marker() -> RequestRecord {
    RequestRecord {
        key: RequestKey {
            id: Uuid::new_v4(),
            scope: Uuid::nil(),
        },
        fingerprint: [7; 16],
        subject: Subject::Clock,
        subject_id: Uuid::nil(),
        member: None,
    }
}

/// A unit of a process that has been at work before.
async fn deferred(store: &Arc<dyn Store>) -> (Box<dyn Unit>, Frame) {
    unit(store).await.rollback().await.expect("rolls back");
    store.begin(WindowLock::Deferred).await.expect("begins")
}

async fn unit(store: &Arc<dyn Store>) -> Box<dyn Unit> {
    store.begin(WindowLock::Shared).await.expect("begins").0
}

#[tokio::test]
async fn a_call_dropped_while_its_answer_is_under_way_leaves_nothing_open() {
    let Some(wire) = Wire::lay(&settings()).await else {
        return;
    };
    for _ in 0..DROPS {
        let store = Arc::clone(&wire.store);
        wire.drop_half_way(async move { store.begin(WindowLock::Shared).await.map(drop) })
            .await;
        let store = Arc::clone(&wire.store);
        wire.drop_half_way(async move { store.begin(WindowLock::Exclusive).await.map(drop) })
            .await;
    }
    wire.assert_sound("begins that were dropped").await;

    for _ in 0..DROPS {
        let store = Arc::clone(&wire.store);
        wire.drop_half_way(async move { store.scan().await.map(drop) })
            .await;
        let store = Arc::clone(&wire.store);
        wire.drop_half_way(async move { store.reader().network().await.map(drop) })
            .await;
        let store = Arc::clone(&wire.store);
        let member = coalition_ledger::ids::MemberId::from_uuid(Uuid::from_u128(0x6e57));
        wire.drop_half_way(async move { store.reader().member(member).await.map(drop) })
            .await;
    }
    wire.assert_sound("questions that were dropped").await;

    for _ in 0..DROPS {
        let written = marker();
        let mut at_work = unit(&wire.store).await;
        wire.drop_half_way(async move { at_work.insert_requests(&[written]).await })
            .await;
        assert_eq!(wire.count(written).await, 0);
        let mut at_work = unit(&wire.store).await;
        at_work
            .insert_requests(&[written])
            .await
            .expect("nobody else wrote it");
        wire.drop_half_way(at_work.rollback()).await;
        let mut at_work = unit(&wire.store).await;
        at_work
            .insert_requests(&[written])
            .await
            .expect("it was given up");
        wire.drop_half_way(at_work.commit()).await;
        // Nobody has heard of it, and yet: the server had been told.
        let stored = timeout(ASKED_MAX, async {
            while wire.count(written).await == 0 {
                tokio::task::yield_now().await;
            }
        });
        assert!(stored.await.is_ok(), "the server was told to commit");
    }
    wire.assert_sound("writes that were dropped").await;

    for _ in 0..DROPS {
        let mut at_work = deferred(&wire.store).await.0;
        let member = coalition_ledger::ids::MemberId::from_uuid(Uuid::from_u128(0x6e57));
        wire.drop_half_way(async move { at_work.members(&[member]).await })
            .await;
        // The first prepares the statement, on the connection that the second gets: that one is all told
        // in one question.
        let [first, written] = [marker(), marker()];
        let effects = |request| Effects {
            requests: vec![request],
            ..Effects::default()
        };
        let (mut at_work, frame) = deferred(&wire.store).await;
        let wrote = at_work.write(frame.window, START, &effects(first)).await;
        wrote.expect("nobody else wrote it");
        at_work.commit().await.expect("there is nothing left to do");
        let (mut at_work, frame) = deferred(&wire.store).await;
        let effects = effects(written);
        let write = async move { at_work.write(frame.window, START, &effects).await };
        wire.drop_half_way(write).await;
        // As a commit: the server had been told.
        let stored = timeout(ASKED_MAX, async {
            while wire.count(written).await == 0 {
                tokio::task::yield_now().await;
            }
        });
        assert!(stored.await.is_ok(), "the server was told all of it");
    }
    wire.assert_sound("units without a transaction that were dropped")
        .await;

    // Whoever left has not taken a connection along.
    let units = (0..settings().units).map(|_| unit(&wire.store));
    let units = timeout(ASKED_MAX, join_all(units))
        .await
        .expect("a connection for each");
    for unit in units {
        unit.rollback().await.expect("rolls back");
    }
    wire.end().await;
}

#[tokio::test]
async fn a_connection_that_is_cut_at_any_question_costs_no_answer() {
    let Some(wire) = Wire::lay(&settings()).await else {
        return;
    };
    let mut batch = 0;
    let mut cuts = 0;
    for when in [When::Before, When::After] {
        for question in 0.. {
            batch += 1;
            let commands = world::commands(batch);
            let poster = world::poster(&wire.store);
            let before = world::census(&wire.database).await;
            wire.proxy.cut_at(question, when);
            let first = send(&poster, &commands, Callers::One).await;
            let unhurt = wire.proxy.take_plan();
            let at = format!("cut {when:?} question {question}");
            let between = world::census(&wire.database).await;
            let mut again = send(&poster, &commands, Callers::One).await;
            for _ in 0..STALE_MAX {
                if let Err(PostError::Unavailable(_)) = again {
                    again = send(&poster, &commands, Callers::One).await;
                }
            }
            let again = again.unwrap_or_else(|error| panic!("{at}: {error}"));
            let after = world::census(&wire.database).await;
            let is_there = match &first {
                Ok(_) => true,
                Err(PostError::Unavailable(_)) => false,
                // Swallowed on the way back, it is there; cut on the way, it is not.
                Err(PostError::Unknown(_)) => when == When::After,
                Err(error) => panic!("{at}: {error}"),
            };
            assert_eq!(
                between,
                *if is_there { &after } else { &before },
                "{at}: {first:?}"
            );
            assert!(again.iter().all(world::is_done), "{at}: {again:?}");
            assert!(
                again
                    .iter()
                    .all(|decision| world::is_replay(decision) == is_there),
                "{at}"
            );
            assert_nothing_open(&wire.database, &at).await;
            assert_eq!(world::halves(&wire.database).await, [], "{at}");
            poster.shut_down().await;
            if unhurt {
                assert!(first.is_ok(), "{at}: {first:?}");
                break;
            }
            cuts += 1;
        }
    }
    assert!(cuts > 50, "{cuts}");
    eprintln!("PostgreSQL: {cuts} connections cut at a question, {batch} batches");
    // A connection for each question that was prepared on it, and none that is in the way.
    posted(&world::poster(&wire.store), &world::commands(batch + 1)).await;
    wire.end().await;
}

/// What the library below does with a `begin` of its own that is dropped while the answer is under
/// way. Told, not held: once it is mended this says so, and nothing here depends on it.
#[tokio::test]
async fn sqlx_itself() {
    let Some(wire) = Wire::lay(&settings()).await else {
        return;
    };
    let url = wire.proxy.url(&wire.database.url, wire.server);
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .test_before_acquire(false)
        .connect(&url)
        .await
        .expect("connects");
    let begins = pool.clone();
    wire.drop_half_way(async move { begins.begin().await.map(drop) })
        .await;
    let write = "create table marker (id bigint)";
    pool.execute(write).await.expect("it says that it is done");
    let seen = "select count(*) from pg_class where relname = 'marker'";
    let mut others = sqlx::PgConnection::connect(&wire.database.url)
        .await
        .expect("connects");
    let seen: i64 = sqlx::query_scalar(AssertSqlSafe(seen))
        .fetch_one(&mut others)
        .await
        .expect("a number");
    others.close().await.expect("closes");
    let said = if seen == 0 {
        "rides in a transaction that nobody holds, and is gone"
    } else {
        "is there"
    };
    eprintln!("sqlx 0.9.0: what is written after a begin that was dropped half way {said}");
    pool.close().await;
    wire.end().await;
}
