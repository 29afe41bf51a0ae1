//! The schema, and what a new database is laid out with.
//!
//! Migrations stand in `migrations/`, one portable set for both engines and one for what only
//! PostgreSQL has. They are part of the binary, run in order, each once, and are checked against
//! what was run before: an edited one, and one that this version does not know, are refused. The
//! network itself is a row: laid down on an empty database, compared on any other.

use std::sync::LazyLock;

use coalition_ledger::ids::{Party, WindowId};
use coalition_ledger::time::Timestamp;
use rust_decimal::Decimal;
use sqlx::migrate::{Migrate, MigrateError, Migration, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

use crate::codec::{Rows, books, cells, registry};
use crate::error::StoreError;
use crate::model::{KeyFingerprint, Mode, Network, NetworkTerms, Window, WindowState};
use crate::reader::read_network;
use crate::session::{Engine, Session, fetch_one, mint, write_all};
use crate::statements as sql;
use crate::traits::{Reader, WindowLock};

/// What to say of a database without tables.
pub(crate) const NO_SCHEMA: &str = "the database has no schema yet; run `coalition migrate`";

/// The schema of both engines, as PostgreSQL runs it.
pub(crate) static PORTABLE: LazyLock<Migrator> =
    LazyLock::new(|| sqlx::migrate!("../../migrations"));

/// The same, with the words that are comments elsewhere.
pub(crate) static SQLITE: LazyLock<Migrator> = LazyLock::new(|| {
    let translated = PORTABLE.iter().map(|migration| {
        let sql = migration
            .sql
            .as_str()
            .replace("/* on SQLite: without rowid */", "without rowid");
        Migration::new(
            migration.version,
            migration.description.clone(),
            migration.migration_type,
            AssertSqlSafe(sql).into_sql_str(),
            migration.no_tx,
        )
    });
    Migrator::with_migrations(translated.collect())
});

/// What only PostgreSQL has; recorded in a table of its own, since versions count from 1 again.
pub(crate) static POSTGRES: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("../../migrations/postgres");
    migrator.dangerous_set_table_name("_sqlx_migrations_postgres");
    migrator
});

/// Runs what has not been run on this database.
pub(crate) async fn run<C: Migrate>(
    migrator: &Migrator,
    connection: &mut C,
    failure: fn(sqlx::Error) -> StoreError,
) -> Result<(), StoreError> {
    let outcome = migrator.run_direct(None, connection, false).await;
    outcome.map_err(|error| refusal(error, failure))
}

/// Fails where something has not been run on this database, or something that this version does not
/// know has. Changes nothing.
pub(crate) async fn check<C: Migrate>(
    migrator: &Migrator,
    connection: &mut C,
    failure: fn(sqlx::Error) -> StoreError,
) -> Result<(), StoreError> {
    let applied = connection.list_applied_migrations(&migrator.table_name);
    let applied = applied.await.map_err(|error| refusal(error, failure))?;
    for done in &applied {
        let known = migrator.iter().find(|known| known.version == done.version);
        let problem = match known {
            None => MigrateError::VersionMissing(done.version),
            Some(known) if known.checksum != done.checksum => {
                MigrateError::VersionMismatch(done.version)
            }
            Some(_) => continue,
        };
        return Err(refusal(problem, failure));
    }
    let is_missing = |known: &&Migration| !applied.iter().any(|done| done.version == known.version);
    match migrator.iter().find(is_missing) {
        None => Ok(()),
        Some(missing) => Err(StoreError::Unsuitable(format!(
            "the database's schema is older than this version of coalition (migration {} has not \
             run); run `coalition migrate` of this version",
            missing.version
        ))),
    }
}

/// What a failure of migrations means, in words for an operator where there is something to do.
fn refusal(error: MigrateError, failure: fn(sqlx::Error) -> StoreError) -> StoreError {
    match error {
        MigrateError::VersionMissing(version) => StoreError::Unsuitable(format!(
            "the database's schema is newer than this version of coalition (migration {version} \
             is unknown to it); use the newer version"
        )),
        MigrateError::VersionMismatch(version) => StoreError::Unsuitable(format!(
            "migration {version} was edited after this database ran it; restore the file"
        )),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => failure(error),
        error => StoreError::Database(sqlx::Error::Migrate(Box::new(error))),
    }
}

/// The network, for a process that hashes identifiers with the key of this fingerprint; the first
/// one leaves it.
pub(crate) async fn attach<E: Engine>(
    engine: &E,
    identifier_key: &KeyFingerprint,
) -> Result<Network, StoreError> {
    engine.check_schema().await?;
    let network = Reader::network(engine).await?;
    let mut session = engine.ask().await?;
    let kept = fetch_one(
        &mut session,
        &sql::IDENTIFIER_KEY,
        Rows::none(),
        registry::read_identifier_key,
    );
    let mut kept = kept.await?.flatten();
    session.rollback().await?;
    if kept.is_none() {
        let mut session = engine.begin(WindowLock::Shared).await?;
        let row = Rows::one(cells![identifier_key.to_vec()]);
        session.execute(&sql::CLAIM_IDENTIFIER_KEY, row).await?;
        // Ours, or that of who was quicker.
        let claimed = fetch_one(
            &mut session,
            &sql::IDENTIFIER_KEY,
            Rows::none(),
            registry::read_identifier_key,
        );
        kept = claimed.await?.flatten();
        session.commit().await?;
    }
    if kept.as_deref() == Some(identifier_key.as_slice()) {
        return Ok(network);
    }
    Err(StoreError::Unsuitable(
        "the identifiers of this network's members are hashed with another key, and with this one \
         nobody would be found: give this process the key that the others have (keys.identifier, \
         or identifier.key in the data directory); a network cannot change its key yet"
            .into(),
    ))
}

/// Lays down the network, or compares what is there with `terms`. The session holds the window
/// alone.
pub(crate) async fn set_up<S: Session>(
    mut session: S,
    terms: &NetworkTerms,
    now: Timestamp,
) -> Result<Network, StoreError> {
    if let Some(network) = read_network(&mut session).await? {
        session.rollback().await?;
        return match difference(&network.terms, terms) {
            None => Ok(network),
            Some(difference) => Err(StoreError::Unsuitable(format!(
                "this database holds another network: {difference}; correct the configuration, or \
                 use another database"
            ))),
        };
    }
    let network = Network {
        id: mint(now),
        terms: terms.clone(),
        clock: None,
        rulebook_version: 1,
    };
    let first = Window {
        id: WindowId::from_uuid(mint(now)),
        number: 1,
        state: WindowState::Open,
        opened_at: now,
        closed_at: None,
        last_transaction: None,
        totals_hash: None,
    };
    let row = Rows::one(registry::network_row(&network, now));
    session.execute(&sql::INSERT_NETWORK, row).await?;
    let face_values = terms
        .face_values
        .iter()
        .map(registry::face_value_row)
        .collect();
    write_all(&mut session, &sql::INSERT_FACE_VALUES, face_values).await?;
    let first = Rows::one(registry::window_row(&first));
    write_all(&mut session, &sql::INSERT_WINDOWS, first).await?;
    let currencies = terms
        .face_values
        .iter()
        .map(|(currency, _)| (Party::Operator, *currency));
    let positions = currencies.map(|key| books::position_key(&key)).collect();
    session
        .fetch(&sql::OPEN_POSITIONS, positions, books::read_position_key)
        .await?;
    session.commit().await?;
    Ok(network)
}

/// How the stored terms differ from the configured ones, in words for an operator.
fn difference(stored: &NetworkTerms, configured: &NetworkTerms) -> Option<String> {
    let mode = |mode| match mode {
        Mode::Sandbox => "a sandbox",
        Mode::Production => "in production",
    };
    if stored.mode != configured.mode {
        let (stored, configured) = (mode(stored.mode), mode(configured.mode));
        return Some(format!(
            "it is {stored}, the configuration says {configured}"
        ));
    }
    let find = |terms: &NetworkTerms, currency| -> Option<Decimal> {
        terms
            .face_values
            .iter()
            .find(|(c, _)| *c == currency)
            .map(|(_, value)| *value)
    };
    let all = stored.face_values.iter().chain(&configured.face_values);
    all.map(|(currency, _)| *currency).find_map(|currency| {
        let code = currency.code();
        match (find(stored, currency), find(configured, currency)) {
            (Some(stored), Some(configured)) if stored != configured => Some(format!(
                "a point is worth {stored} {code}, the configuration says {configured} {code}"
            )),
            (Some(_), None) => Some(format!(
                "it keeps books in {code}, the configuration does not"
            )),
            (None, Some(_)) => Some(format!(
                "it keeps no books in {code}, the configuration does"
            )),
            _ => None,
        }
    })
}
