//! The PostgreSQL engine: the reference.
//!
//! Sets of rows go in as arrays ([`rows`]). The open window is locked by an advisory lock of
//! the transaction: shared by batches, alone by a cut or by a batch that keeps losing; such locks queue
//! fairly, so that a cut waits for the batches that were there before it and for no others. A unit whose
//! process says nothing for as long as others wait for a lock is ended by the server. Units begin, commit
//! and roll back by statements of our own, and a connection on which that did not come to its end is
//! closed, not given back: sqlx 0.9.0 can put a connection with an open transaction back into its pool.
//! Compare with [`crate::sqlite`].

mod rows;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow, Postgres};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use self::rows::{add_all, arguments};
use crate::codec::{Columns, Rows, row};
use crate::door::Door;
use crate::durable::Durable;
use crate::error::StoreError;
use crate::migrate;
use crate::open::PoolSettings;
use crate::session::{Engine, OnRows, Read, Session, read_each};
use crate::statements::{self as sql, GUARD, RANGES, Statement};
use crate::traits::WindowLock;

/// The advisory lock that stands for the open window: "coalwind" in ASCII.
const WINDOW_LOCK_KEY: i64 = 0x636f_616c_7769_6e64;

/// Statements that a connection keeps prepared: all there are, and room.
const PREPARED_STATEMENTS: usize = 256;

/// A connection that rested for longer than this is asked whether it still is one.
const TRUSTED_REST: Duration = Duration::from_secs(5);

row!(PgRow);

/// The books in a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresStore {
    /// Connections of units: one of their own for each that may be at work.
    units: PgPool,
    /// Connections of readers and scans.
    readers: PgPool,
    /// How to connect.
    options: PgConnectOptions,
    /// What a unit begins with, up to the lock.
    pub(crate) begin_unit: Arc<str>,
    /// Units begun so far, and how many may be at work at a time.
    begun: AtomicU32,
    at_work: u32,
    units_door: Door,
    readers_door: Door,
}

impl PostgresStore {
    /// The database at `url` (`postgres://user:password@host:port/database`). Connects when first
    /// used, and again whenever it has to.
    ///
    /// # Errors
    ///
    /// `Unsuitable` where the URL is none.
    pub fn connect(url: &str, settings: &PoolSettings) -> Result<Self, StoreError> {
        let options: PgConnectOptions = url
            .parse()
            .map_err(|error| StoreError::Unsuitable(format!("not a PostgreSQL URL: {error}")))?;
        let options = options
            .application_name("coalition")
            .statement_cache_capacity(PREPARED_STATEMENTS)
            .disable_statement_logging();
        let pool = |connections: u32, acquire_timeout: Duration| {
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(acquire_timeout)
                .test_before_acquire(false)
                .before_acquire(|connection, meta| {
                    Box::pin(async move {
                        if meta.idle_for > TRUSTED_REST {
                            connection.ping().await?;
                        }
                        Ok(true)
                    })
                })
        };
        let statement_ms = settings.statement_timeout.as_millis();
        let lock_ms = settings.lock_timeout.as_millis();
        // Plans of readers know the values they are for. Those of units are made once for many
        // units (`plans_are_old`): they look up by key, in the order of an index, whatever the tables hold.
        let begin_unit = format!(
            "begin isolation level read committed; \
             set local statement_timeout = {statement_ms}; set local lock_timeout = {lock_ms}; \
             set local idle_in_transaction_session_timeout = {lock_ms}; \
             set local plan_cache_mode = force_generic_plan; set local jit = off; \
             set local enable_seqscan = off; set local enable_hashjoin = off; \
             set local enable_mergejoin = off; set local enable_bitmapscan = off; \
             set local enable_sort = off; "
        );
        let prepare_reader: Arc<str> = format!(
            "set statement_timeout = {statement_ms}; set lock_timeout = {lock_ms}; \
             set plan_cache_mode = force_custom_plan; set jit = off"
        )
        .into();
        let units = pool(settings.units, settings.unit_timeout).connect_lazy_with(options.clone());
        let readers = pool(settings.readers, settings.reader_timeout)
            .after_connect(move |connection, _| {
                let prepare = AssertSqlSafe(Arc::clone(&prepare_reader));
                Box::pin(async move {
                    sqlx::raw_sql(prepare).execute(connection).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(options.clone());
        Ok(Self {
            units,
            readers,
            options,
            begin_unit: begin_unit.into(),
            begun: AtomicU32::new(0),
            at_work: settings.units,
            units_door: Door::new("units of work at a time"),
            readers_door: Door::new("questions to the books at a time"),
        })
    }

    /// What a unit begins with, the lock included.
    fn begin_locked(&self, lock: WindowLock) -> String {
        let begun = self.begun.fetch_add(1, Ordering::Relaxed);
        let discard = if plans_are_old(begun, self.at_work) {
            "; discard plans"
        } else {
            ""
        };
        let lock = match lock {
            WindowLock::Shared => "pg_advisory_xact_lock_shared",
            WindowLock::Exclusive => "pg_advisory_xact_lock",
        };
        format!(
            "{}select {lock}({WINDOW_LOCK_KEY}){discard}",
            self.begin_unit
        )
    }

    /// A connection out of a pool, once one is free.
    async fn connection(
        pool: &PgPool,
        door: &Door,
    ) -> Result<PoolConnection<Postgres>, StoreError> {
        let passed = door.passed();
        match pool.acquire().await {
            Ok(connection) => {
                door.pass();
                Ok(connection)
            }
            // Where nobody got one meanwhile, it is not the crowd: there are none to be had.
            Err(sqlx::Error::PoolTimedOut) if door.passed() != passed => {
                door.turn_away();
                Err(StoreError::Busy)
            }
            Err(error) => Err(failure(error)),
        }
    }

    async fn open(
        connection: PoolConnection<Postgres>,
        begin: Arc<str>,
    ) -> Result<PostgresSession, StoreError> {
        let mut session = PostgresSession::new(connection);
        session.is_open = true;
        session.run(begin).await?;
        Ok(session)
    }
}

impl Engine for PostgresStore {
    type Session = PostgresSession;

    async fn begin(&self, lock: WindowLock) -> Result<PostgresSession, StoreError> {
        let connection = Self::connection(&self.units, &self.units_door).await?;
        Self::open(connection, self.begin_locked(lock).into()).await
    }

    async fn begin_asking<T: Send>(
        &self,
        lock: WindowLock,
        statement: &'static Statement,
        read: Read<T>,
    ) -> Result<(PostgresSession, Option<T>), StoreError> {
        let connection = Self::connection(&self.units, &self.units_door).await?;
        let mut session = PostgresSession::new(connection);
        session.is_open = true;
        let text = format!("{}; {}", self.begin_locked(lock), statement.postgres());
        let text = sqlx::raw_sql(AssertSqlSafe(text));
        let outcome = text.fetch_all(&mut **session.connection()?).await;
        let rows = session.watch(outcome)?;
        // The lock answers with a row of its own.
        let found = rows.get(1).map(|row| read(&mut Columns::new(row)));
        Ok((session, found.transpose()?))
    }

    async fn ask(&self) -> Result<PostgresSession, StoreError> {
        let connection = Self::connection(&self.readers, &self.readers_door).await?;
        Ok(PostgresSession::new(connection))
    }

    async fn snapshot(&self) -> Result<PostgresSession, StoreError> {
        let begin = "begin isolation level repeatable read read only";
        let connection = Self::connection(&self.readers, &self.readers_door).await?;
        Self::open(connection, begin.into()).await
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        // A connection of its own: a migration that fails leaves its lock behind.
        let mut connection = self.options.connect().await.map_err(failure)?;
        migrate::run(&migrate::PORTABLE, &mut connection, failure).await?;
        migrate::run(&migrate::POSTGRES, &mut connection, failure).await?;
        connection.close().await.map_err(failure)
    }

    async fn check_schema(&self) -> Result<(), StoreError> {
        let mut connection = self.readers.acquire().await.map_err(failure)?;
        migrate::check(&migrate::PORTABLE, &mut *connection, failure).await?;
        migrate::check(&migrate::POSTGRES, &mut *connection, failure).await
    }

    async fn close(&self) {
        self.units.close().await;
        self.readers.close().await;
    }
}

/// A connection to PostgreSQL at work.
pub struct PostgresSession {
    connection: Option<PoolConnection<Postgres>>,
    /// Whether a transaction may be open on it.
    is_open: bool,
    /// Whether a statement of the transaction has failed: then it cannot be committed.
    has_failed: bool,
    /// Whether the connection is better closed than given back.
    is_suspect: bool,
}

impl PostgresSession {
    fn new(connection: PoolConnection<Postgres>) -> Self {
        let connection = Some(connection);
        Self {
            connection,
            is_open: false,
            has_failed: false,
            is_suspect: false,
        }
    }

    /// The connection, until the session has ended.
    fn connection(&mut self) -> Result<&mut PoolConnection<Postgres>, StoreError> {
        self.connection
            .as_mut()
            .ok_or(StoreError::Unavailable(sqlx::Error::PoolClosed))
    }

    /// Runs statements that answer nothing.
    async fn run(&mut self, statements: Arc<str>) -> Result<(), StoreError> {
        let connection = self.connection()?;
        let statements = sqlx::raw_sql(AssertSqlSafe(statements));
        let outcome = statements.execute(&mut **connection).await;
        self.watch(outcome).map(|_| ())
    }

    /// Remembers failures.
    fn watch<T>(&mut self, outcome: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        outcome.map_err(|error| {
            let error = failure(error);
            self.has_failed = true;
            self.is_suspect |= matches!(error, StoreError::Unavailable(_));
            error
        })
    }
}

impl Session for PostgresSession {
    const LIVE_LOTS: &'static Statement = &sql::POSTGRES_LIVE_LOTS;

    async fn fetch<T: Send>(
        &mut self,
        statement: &'static Statement,
        rows: Rows,
        read: Read<T>,
    ) -> Result<Vec<T>, StoreError> {
        if statement.is_set() && rows.len() == 0 {
            return Ok(Vec::new());
        }
        let query = sqlx::query_with(
            AssertSqlSafe(statement.postgres()),
            arguments(statement, rows)?,
        );
        let mut all = Vec::new();
        let found = query.fetch(&mut **self.connection()?);
        let outcome = read_each(found, read, &mut all).await;
        self.watch(outcome)?;
        all.into_iter().collect()
    }

    async fn execute(
        &mut self,
        statement: &'static Statement,
        rows: Rows,
    ) -> Result<u64, StoreError> {
        if statement.is_set() && rows.len() == 0 {
            return Ok(0);
        }
        let query = sqlx::query_with(
            AssertSqlSafe(statement.postgres()),
            arguments(statement, rows)?,
        );
        let outcome = query.execute(&mut **self.connection()?).await;
        self.watch(outcome).map(|done| done.rows_affected())
    }

    async fn fetch_asking<T: Send>(
        &mut self,
        statement: &'static Statement,
        rows: Rows,
        read: Read<T>,
        others: Vec<OnRows>,
    ) -> Result<(Vec<T>, Vec<bool>), StoreError> {
        let mut together = arguments(statement, rows)?;
        let mut questions = Vec::with_capacity(others.len());
        for OnRows { statement, rows } in others {
            add_all(&mut together, statement, rows)?;
            questions.push(statement);
        }
        let text = AssertSqlSafe(sql::asking(statement, &questions));
        let query = sqlx::query_with(text, together);
        let outcome = query.fetch_all(&mut **self.connection()?).await;
        let rows = self.watch(outcome)?;
        let (mut found, mut answers) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in &rows {
            let mut columns = Columns::new(row);
            // The same in every row.
            let told = questions.iter().map(|_| columns.boolean());
            answers = told.collect::<Result<_, _>>()?;
            if columns.maybe_boolean()? == Some(true) {
                found.push(read(&mut columns)?);
            }
        }
        Ok((found, answers))
    }

    #[cfg(feature = "faults")]
    const TOGETHER: bool = true;

    async fn execute_all(&mut self, writes: Vec<OnRows>) -> Result<Vec<u64>, StoreError> {
        let mut together = PgArguments::default();
        let mut statements = Vec::with_capacity(writes.len());
        for OnRows { statement, rows } in writes {
            add_all(&mut together, statement, rows)?;
            statements.push(statement);
        }
        if statements.is_empty() {
            return Ok(Vec::new());
        }
        let text = AssertSqlSafe(sql::together(&statements));
        let query = sqlx::query_with(text, together);
        let outcome = query.fetch_one(&mut **self.connection()?).await;
        let counts = self.watch(outcome)?;
        let mut counts = Columns::new(&counts);
        let counted = statements.iter().map(|_| counts.big());
        counted
            .map(|count| Ok(u64::try_from(count?).unwrap_or(0)))
            .collect()
    }

    async fn commit_ahead(mut self) -> Result<Durable, StoreError> {
        if self.has_failed {
            // PostgreSQL would answer such a commit with a rollback, and call it a success.
            self.rollback().await?;
            return Err(StoreError::Conflict);
        }
        let connection = self.connection()?;
        let outcome = sqlx::raw_sql("commit").execute(&mut **connection).await;
        outcome.map_err(commit_failure)?;
        self.is_open = false;
        // The server answers once it is on disk, unless it was told not to care.
        Ok(Durable::already())
    }

    fn seen(&self) -> Durable {
        // Nobody sees a commit before it is on disk, unless the server was told not to care.
        Durable::already()
    }

    async fn rollback(mut self) -> Result<(), StoreError> {
        if self.is_open {
            self.run("rollback".into()).await?;
            self.is_open = false;
        }
        Ok(())
    }

    #[cfg(feature = "faults")]
    async fn sever(&mut self) {
        if let Ok(connection) = self.connection() {
            let end = sqlx::raw_sql("select pg_terminate_backend(pg_backend_pid())");
            // That is how it says goodbye.
            let _ = end.execute(&mut **connection).await;
        }
    }
}

impl Drop for PostgresSession {
    fn drop(&mut self) {
        if let Some(mut connection) = self.connection.take()
            && (self.is_open || self.is_suspect)
        {
            connection.close_on_drop();
        }
    }
}

/// Whether this unit, after so many, has plans made anew: one made for a small table may not be one for the
/// table that it has become. That is whenever the number of units has doubled, on each of the connections,
/// which take turns; all plans of a batch take longer to make than the batch. The server itself makes them
/// anew where it has analysed a table, and a connection is replaced after half an hour.
fn plans_are_old(begun: u32, connections: u32) -> bool {
    let doubled = begun.checked_ilog2().map_or(0, |doublings| 1 << doublings);
    begun - doubled < connections
}

/// What a failure of a statement means: nothing of the transaction is stored.
fn failure(error: sqlx::Error) -> StoreError {
    let Some(refusal) = error.as_database_error() else {
        return if is_lost(&error) {
            StoreError::Unavailable(error)
        } else {
            StoreError::Database(error)
        };
    };
    if refusal.constraint() == Some(GUARD) {
        return StoreError::Conflict;
    }
    if refusal
        .constraint()
        .is_some_and(|name| RANGES.contains(&name))
    {
        return StoreError::OutOfRange;
    }
    match refusal.code().as_deref().unwrap_or_default() {
        // unique_violation; serialization_failure, deadlock_detected.
        "23505" | "40001" | "40P01" => StoreError::Conflict,
        // numeric_value_out_of_range: a sum overflowed before its constraint was looked at.
        "22003" => StoreError::OutOfRange,
        // lock_not_available, query_canceled: somebody else takes too long.
        // read_only_sql_transaction: what was the primary is a standby now.
        // too_many_connections. idle_in_transaction_session_timeout: this process was too slow itself.
        "55P03" | "57014" | "25006" | "53300" | "25P03" => StoreError::Unavailable(error),
        code if is_going_away(code) => StoreError::Unavailable(error),
        // undefined_table.
        "42P01" => StoreError::Unsuitable(migrate::NO_SCHEMA.into()),
        // invalid_catalog_name, invalid_password, invalid_authorization_specification.
        "3D000" | "28P01" | "28000" => StoreError::Unsuitable(refusal.message().to_owned()),
        _ => StoreError::Database(error),
    }
}

/// What a failure of a commit means: stored or not, where the connection was lost.
fn commit_failure(error: sqlx::Error) -> StoreError {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    if is_lost(&error) || code.is_some_and(|code| is_going_away(&code)) {
        return StoreError::UnknownCommit(error.into());
    }
    failure(error)
}

/// Whether there was no connection, or there is none any more.
const fn is_lost(error: &sqlx::Error) -> bool {
    use sqlx::Error as E;
    matches!(
        error,
        E::Io(_) | E::Tls(_) | E::Protocol(_) | E::PoolTimedOut | E::PoolClosed
    )
}

/// Connection exceptions, and servers that shut down, crashed or start up.
fn is_going_away(code: &str) -> bool {
    code.starts_with("08") || code.starts_with("57P")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_made_anew_on_each_connection_whenever_units_have_doubled() {
        let made =
            |connections: u32| (0..70).filter(move |begun| plans_are_old(*begun, connections));
        assert!(made(1).eq([0, 1, 2, 4, 8, 16, 32, 64]));
        assert!(made(3).eq([
            0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 16, 17, 18, 32, 33, 34, 64, 65, 66
        ]));
        assert!(plans_are_old(1 << 31, 1) && !plans_are_old(u32::MAX, 1));
    }
}
