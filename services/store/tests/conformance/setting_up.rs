//! New databases, existing ones, and those that are refused.

use coalition_ledger::money::Currency;
use coalition_ledger::snapshot::MemberChange;
use coalition_store::model::{Mode, NetworkTerms};
use coalition_store::testing::{Engine, Parts as _, START, TestDb, sandbox, settings};
use coalition_store::{StoreError, WindowLock, open};
use rust_decimal::Decimal;

use crate::fixtures::*;

/// A migration of a version that is not written yet.
const LATER_MIGRATION: &str = "insert into _sqlx_migrations (version, description, success, \
     checksum, execution_time) select 9999, 'later', success, checksum, 0 from _sqlx_migrations \
     where version = 1";

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, StoreError>, words: &[&str]) {
    let Err(StoreError::Unsuitable(message)) = outcome else {
        panic!("{outcome:?}")
    };
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

pub(crate) async fn migrating_again_changes_nothing(db: &TestDb) {
    let before = db.store.reader().network().await.expect("reads");
    assert_eq!(before.terms, sandbox());
    let window = db.store.reader().open_window().await.expect("reads");
    let mut terms = sandbox();
    terms.face_values.reverse();
    let again = db
        .store
        .migrate(&terms, day(9))
        .await
        .expect("migrates again");
    assert_eq!(again, before);
    assert_eq!(
        db.store.reader().open_window().await.expect("reads"),
        window
    );
    assert_eq!(db.number("select count(*) from network").await, 1);
    assert_eq!(db.number("select count(*) from windows").await, 1);
}

pub(crate) async fn other_terms_are_refused(db: &TestDb) {
    let mut production = sandbox();
    production.mode = Mode::Production;
    refused(
        db.store.migrate(&production, START).await,
        &["sandbox", "production", "configuration"],
    );
    let with = |change: fn(&mut NetworkTerms)| {
        let mut terms = sandbox();
        change(&mut terms);
        terms
    };
    let dearer = with(|terms| terms.face_values[1].1 = Decimal::new(2, 2));
    refused(
        db.store.migrate(&dearer, START).await,
        &["0.01 USD", "0.02 USD"],
    );
    let fewer = with(|terms| terms.face_values.truncate(1));
    refused(db.store.migrate(&fewer, START).await, &["USD"]);
    let more = with(|terms| terms.face_values.push((Currency::JPY, Decimal::ONE)));
    refused(db.store.migrate(&more, START).await, &["JPY"]);
    let same = with(|terms| terms.face_values[0].1 = Decimal::new(100, 4));
    db.store
        .migrate(&same, START)
        .await
        .expect("0.0100 is 0.01");
}

pub(crate) async fn a_newer_schema_is_refused(db: &TestDb) {
    db.sql(LATER_MIGRATION).await;
    refused(
        db.store.migrate(&sandbox(), START).await,
        &["newer", "9999"],
    );
}

pub(crate) async fn an_edited_migration_is_refused(db: &TestDb) {
    let edited = match db.engine {
        Engine::Sqlite => "update _sqlx_migrations set checksum = x'00'",
        Engine::Postgres => "update _sqlx_migrations set checksum = '\\x00'",
    };
    db.sql(edited).await;
    refused(db.store.migrate(&sandbox(), START).await, &["edited"]);
}

/// What every process asks before it serves, those too that migrate nothing.
pub(crate) async fn a_schema_of_another_version_is_refused(db: &TestDb) {
    db.store.attach(&[1; 32]).await.expect("as it should be");
    db.store.check_schema().await.expect("as it should be");
    db.sql(LATER_MIGRATION).await;
    refused(db.store.attach(&[1; 32]).await, &["newer", "9999"]);
    refused(db.store.check_schema().await, &["newer", "9999"]);
    db.sql("delete from _sqlx_migrations where version in (2, 9999)")
        .await;
    let older = ["older", "migration 2", "coalition migrate"];
    refused(db.store.attach(&[1; 32]).await, &older);
    refused(db.store.check_schema().await, &older);
    let edited = match db.engine {
        Engine::Sqlite => "update _sqlx_migrations set checksum = x'00'",
        Engine::Postgres => "update _sqlx_migrations set checksum = '\\x00'",
    };
    db.sql(edited).await;
    refused(db.store.attach(&[1; 32]).await, &["edited"]);
}

pub(crate) async fn what_only_one_engine_has_is_looked_at_too(db: &TestDb) {
    if db.engine == Engine::Postgres {
        db.sql("delete from _sqlx_migrations_postgres").await;
        refused(
            db.store.attach(&[1; 32]).await,
            &["older", "coalition migrate"],
        );
    }
}

pub(crate) async fn another_identifier_key_is_refused(db: &TestDb) {
    let network = db.store.attach(&[1; 32]).await.expect("the first comes");
    assert_eq!(network, db.store.reader().network().await.expect("reads"));
    db.store.attach(&[1; 32]).await.expect("the same again");
    refused(
        db.store.attach(&[2; 32]).await,
        &["another key", "keys.identifier"],
    );
    // Migrating again forgets nothing.
    db.store.migrate(&sandbox(), START).await.expect("migrates");
    refused(db.store.attach(&[2; 32]).await, &["another key"]);
    db.store.attach(&[1; 32]).await.expect("still the same");
}

pub(crate) async fn of_two_identifier_keys_at_once_one_wins(db: &TestDb) {
    let attach = |byte: u8| {
        let store = db.store.clone();
        tokio::spawn(async move { store.attach(&[byte; 32]).await })
    };
    let tasks: Vec<_> = (0..8).map(|number| attach(number % 2)).collect();
    let mut attached = Vec::new();
    for (number, task) in tasks.into_iter().enumerate() {
        if task.await.expect("no panic").is_ok() {
            attached.push(number % 2);
        }
    }
    assert_eq!(attached.len(), 4, "{attached:?}");
    assert!(attached.windows(2).all(|pair| pair[0] == pair[1]));
}

pub(crate) async fn several_processes_may_migrate_at_once(db: &TestDb) {
    // On SQLite, several callers of the one process there is.
    let fresh = TestDb::empty(db.engine)
        .await
        .expect("there is one already");
    let stores = match db.engine {
        Engine::Sqlite => vec![fresh.store.clone(); 4],
        Engine::Postgres => {
            let mut stores = Vec::new();
            for _ in 0..4 {
                stores.push(open(&fresh.url, &settings()).await.expect("opens"));
            }
            stores
        }
    };
    let tasks: Vec<_> = stores
        .into_iter()
        .map(|store| tokio::spawn(async move { store.migrate(&sandbox(), START).await }))
        .collect();
    let mut networks = Vec::new();
    for task in tasks {
        networks.push(task.await.expect("no panic").expect("migrates"));
    }
    assert!(
        networks.windows(2).all(|pair| pair[0] == pair[1]),
        "{networks:?}"
    );
    fresh.remove().await;
}

pub(crate) async fn an_empty_database_says_what_to_do(db: &TestDb) {
    let fresh = TestDb::empty(db.engine)
        .await
        .expect("there is one already");
    refused(fresh.store.reader().network().await, &["coalition migrate"]);
    refused(fresh.store.attach(&[1; 32]).await, &["coalition migrate"]);
    let begun = fresh
        .store
        .begin(WindowLock::Shared)
        .await
        .map(|(_, frame)| frame);
    refused(begun, &["coalition migrate"]);
    fresh.remove().await;
}

pub(crate) async fn opening_an_existing_database_is_quick(db: &TestDb) {
    let start = tokio::time::Instant::now();
    db.store
        .migrate(&sandbox(), START)
        .await
        .expect("migrates again");
    let took = start.elapsed();
    println!(
        "{}: an existing database is ready after {took:?}",
        db.engine
    );
    assert!(took.as_millis() < 1_000, "{took:?}");
}

pub(crate) async fn one_process_has_a_file(db: &TestDb) {
    let again = open(&db.url, &settings()).await;
    match db.engine {
        Engine::Sqlite => {
            refused(again.map(|_| ()), &["another process", "PostgreSQL"]);
            // Closed is free, whoever still holds the store, or a copy of its open files.
            db.store.close().await;
            let next = open(&db.url, &settings()).await.expect("nobody has it");
            next.close().await;
        }
        // A server serves many: what one has written the other sees.
        Engine::Postgres => {
            let (one, other) = (enrolled(db, 5).await, again.expect("opens"));
            let seen = other.reader().member(one.id).await.expect("reads");
            assert_eq!(seen.expect("is there").book.id, one.id);
            other.close().await;
        }
    }
    refused(
        open("mysql://localhost/books", &settings())
            .await
            .map(|_| ()),
        &["sqlite:"],
    );
    refused(open("sqlite:", &settings()).await.map(|_| ()), &["sqlite:"]);
}

pub(crate) async fn an_earn_takes_less_than_a_kibibyte(db: &TestDb) {
    const EARNS: usize = 5_000;
    let before = size(db).await;
    let partner = partner_id();
    let mut version = 0;
    let book = enrolled(db, 0).await;
    for batch in 0..EARNS / 250 {
        let (mut unit, frame) = begin(db).await;
        let transactions: Vec<_> = (0..250)
            .map(|n| {
                let mut earn = earn(book.id, partner, frame.window);
                earn.context.check_id = Some(format!("{:08}", batch * 250 + n));
                earn.original = None;
                earn
            })
            .collect();
        let requests: Vec<_> = transactions
            .iter()
            .map(|_| request(partner.uuid()))
            .collect();
        let checks: Vec<_> = transactions
            .iter()
            .map(|earn| {
                check(
                    partner,
                    earn.context.check_id.as_deref().unwrap_or_default(),
                )
            })
            .collect();
        let lots: Vec<_> = transactions
            .iter()
            .map(|_| (book.id, lot(120, 365)))
            .collect();
        unit.insert_requests(&requests).await.expect("inserts");
        unit.insert_checks(&checks).await.expect("inserts");
        unit.insert_transactions(&transactions)
            .await
            .expect("inserts");
        let change = MemberChange {
            expected_version: version,
            book: book.clone(),
        };
        unit.update_members(&[change]).await.expect("updates");
        version += 1;
        unit.insert_lots(&lots).await.expect("inserts");
        commit(unit).await;
    }
    let bytes = (size(db).await - before) / i64::try_from(EARNS).expect("few");
    println!(
        "{}: {bytes} bytes stored per earn, indexes included",
        db.engine
    );
    assert!(bytes <= 1_024, "{bytes}");
}

/// Bytes of all tables and indexes.
async fn size(db: &TestDb) -> i64 {
    match db.engine {
        Engine::Sqlite => {
            db.sql("pragma wal_checkpoint(truncate)").await;
            db.number("select sum(pgsize) from dbstat").await
        }
        Engine::Postgres => {
            let all = "select sum(pg_total_relation_size(oid))::bigint from pg_class \
                       where relkind = 'r' and relnamespace = 'public'::regnamespace";
            db.number(all).await
        }
    }
}
