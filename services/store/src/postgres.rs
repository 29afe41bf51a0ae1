//! The PostgreSQL engine: the reference.
//!
//! Sets of rows go in as arrays ([`rows`]). The open window is locked by an advisory lock of
//! the transaction: shared by batches, alone by a cut or by a batch that keeps losing; such locks queue
//! fairly, so that a cut waits for the batches that were there before it and for no others. A batch that
//! defers it has no transaction before the one statement by which it holds the window, writes and commits.
//! A unit whose process says nothing for as long as others wait for a lock is ended by the server. Units
//! begin, commit and roll back by statements of our own, on connections that are kept for them
//! ([`lender`]), and one on which anything did not come to its end is closed, not given back: sqlx 0.9.0
//! can put a connection with an open transaction back into its pool. Compare with [`crate::sqlite`].

mod lender;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use coalition_ledger::time::Timestamp;
use futures::{TryStreamExt as _, future};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{
    PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow, Postgres,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use self::lender::{Lender, Lent, TRUSTED_REST};
use self::rows::{add_all, add_single, arguments};
use crate::codec::{Columns, Rows, row};
use crate::door::Door;
use crate::durable::Durable;
use crate::error::StoreError;
use crate::migrate;
use crate::open::PoolSettings;
use crate::session::{Engine, OnRows, Read, Session};
use crate::standing::Standing;
use crate::statements::{self as sql, GUARD, RANGES, Statement};
use crate::traits::{Frame, WindowLock};

/// The advisory lock that stands for the open window: "coalwind" in ASCII.
const WINDOW_LOCK_KEY: i64 = 0x636f_616c_7769_6e64;

/// Has plans made anew.
const DISCARD_PLANS: &str = "discard plans";

/// Statements that a connection keeps prepared: all there are, and room.
const PREPARED_STATEMENTS: usize = 256;

row!(PgRow);

/// The books in a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresStore {
    /// Connections of units: one of their own for each that may be at work.
    units: Lender,
    /// Connections of readers and scans.
    readers: PgPool,
    /// How to connect.
    options: PgConnectOptions,
    units_door: Door,
    readers_door: Door,
    standing: Arc<Standing>,
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
        let pool = |connections: u32, acquire_timeout: Duration, prepare: &Arc<str>| {
            let prepare = Arc::clone(prepare);
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
                .after_connect(move |connection, _| {
                    let prepare = AssertSqlSafe(Arc::clone(&prepare));
                    Box::pin(async move {
                        sqlx::raw_sql(prepare).execute(connection).await?;
                        Ok(())
                    })
                })
                .connect_lazy_with(options.clone())
        };
        let prepare_unit = prepare_unit(settings).into();
        let prepare_reader = prepare_reader(settings).into();
        let units = pool(settings.units, settings.unit_timeout, &prepare_unit);
        let units = Lender::new(units, settings.unit_timeout);
        let readers = pool(settings.readers, settings.reader_timeout, &prepare_reader);
        Ok(Self {
            units,
            readers,
            options,
            units_door: Door::new("units of work at a time"),
            readers_door: Door::new("questions to the books at a time"),
            standing: Arc::default(),
        })
    }

    /// A session of a unit that has not begun, and whether its plans are to be made anew.
    async fn unit(&self) -> Result<(PostgresSession, bool), StoreError> {
        let mut lent = let_in(&self.units_door, self.units.borrow()).await?;
        let has_old_plans = plans_are_old(lent.serves());
        Ok((PostgresSession::new(Connection::Unit(lent)), has_old_plans))
    }

    /// A session of a reader.
    async fn question(&self) -> Result<PostgresSession, StoreError> {
        let connection = let_in(&self.readers_door, self.readers.acquire()).await?;
        Ok(PostgresSession::new(Connection::Reader(connection)))
    }
}

/// What is to be had behind a door, once it is.
async fn let_in<T>(
    door: &Door,
    had: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    let passed = door.passed();
    match had.await {
        Ok(had) => {
            door.pass();
            Ok(had)
        }
        // Where nobody got one meanwhile, it is not the crowd: there are none to be had.
        Err(sqlx::Error::PoolTimedOut) if door.passed() != passed => {
            door.turn_away();
            Err(StoreError::Busy)
        }
        Err(error) => Err(failure(error)),
    }
}

impl Engine for PostgresStore {
    type Session = PostgresSession;

    async fn begin(&self, lock: WindowLock) -> Result<PostgresSession, StoreError> {
        let (session, has_old_plans) = self.unit().await?;
        session.open(begin_locked(lock, has_old_plans)).await
    }

    async fn begin_asking<T: Send>(
        &self,
        lock: WindowLock,
        statement: &'static Statement,
        read: Read<T>,
    ) -> Result<(PostgresSession, Option<T>), StoreError> {
        let (mut session, has_old_plans) = self.unit().await?;
        let begin = begin_locked(lock, has_old_plans);
        let found = session.begin_asking(&begin, statement, read).await?;
        Ok((session, found))
    }

    fn standing(&self) -> Option<&Arc<Standing>> {
        Some(&self.standing)
    }

    async fn begin_deferred(&self) -> Result<PostgresSession, StoreError> {
        let (mut session, has_old_plans) = self.unit().await?;
        if has_old_plans {
            session.run(DISCARD_PLANS).await?;
        }
        Ok(session)
    }

    async fn ask(&self) -> Result<PostgresSession, StoreError> {
        self.question().await
    }

    async fn snapshot(&self) -> Result<PostgresSession, StoreError> {
        let begin = "begin isolation level repeatable read read only";
        self.question().await?.open(begin.to_owned()).await
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

/// Whose connection it is.
enum Connection {
    Unit(Lent),
    Reader(PoolConnection<Postgres>),
}

/// How a session stands to a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transaction {
    /// There is none: statements are on their own.
    None,
    /// One may be open.
    Open,
    /// A statement of it has failed: it cannot be committed.
    Failed,
}

/// A connection to PostgreSQL at work.
pub struct PostgresSession {
    connection: Connection,
    transaction: Transaction,
    /// Whether the connection is better closed than given back.
    is_suspect: bool,
    /// Whether an answer is under way: whoever is dropped then leaves it to the next.
    is_asking: bool,
}

impl PostgresSession {
    const fn new(connection: Connection) -> Self {
        Self {
            connection,
            transaction: Transaction::None,
            is_suspect: false,
            is_asking: false,
        }
    }

    /// The connection, to ask something.
    fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        self.is_asking = true;
        match &mut self.connection {
            Connection::Unit(lent) => lent.connection(),
            Connection::Reader(connection) => Some(&mut **connection),
        }
        .ok_or(StoreError::Unavailable(sqlx::Error::PoolClosed))
    }

    /// Opens a transaction.
    async fn open(mut self, begin: String) -> Result<Self, StoreError> {
        self.transaction = Transaction::Open;
        self.run(begin).await?;
        Ok(self)
    }

    /// Begins a transaction that is to hold the window, and asks.
    async fn begin_asking<T>(
        &mut self,
        begin: &str,
        statement: &'static Statement,
        read: Read<T>,
    ) -> Result<Option<T>, StoreError> {
        self.transaction = Transaction::Open;
        let text = format!("{begin}; {}", statement.postgres());
        let text = sqlx::raw_sql(AssertSqlSafe(text));
        let outcome = text.fetch_all(self.connection()?).await;
        let rows = self.watch(outcome)?;
        // The lock answers with a row of its own.
        let found = rows.get(1).map(|row| read(&mut Columns::new(row)));
        found.transpose()
    }

    /// Runs statements that answer nothing.
    async fn run(&mut self, statements: impl Into<String>) -> Result<(), StoreError> {
        let connection = self.connection()?;
        let statements = sqlx::raw_sql(AssertSqlSafe(statements.into()));
        let outcome = statements.execute(connection).await;
        self.watch(outcome).map(|_| ())
    }

    /// The answer is here: remembers failures.
    fn watch<T>(&mut self, outcome: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        self.watch_for(outcome, failure)
    }

    /// The same, where a failure means this.
    fn watch_for<T>(
        &mut self,
        outcome: Result<T, sqlx::Error>,
        failure: fn(sqlx::Error) -> StoreError,
    ) -> Result<T, StoreError> {
        self.is_asking = false;
        outcome.map_err(|error| {
            let error = failure(error);
            if self.transaction == Transaction::Open {
                self.transaction = Transaction::Failed;
            }
            self.is_suspect |= matches!(
                error,
                StoreError::Unavailable(_) | StoreError::UnknownCommit(_)
            );
            error
        })
    }
}

/// Adds what statements that write sets are run with; says which those are.
fn bind(
    arguments: &mut PgArguments,
    writes: Vec<OnRows>,
) -> Result<Vec<&'static Statement>, StoreError> {
    let mut statements = Vec::with_capacity(writes.len());
    for OnRows { statement, rows } in writes {
        add_all(arguments, statement, rows)?;
        statements.push(statement);
    }
    Ok(statements)
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
        let found = query.fetch(self.connection()?);
        // Read as they come: PostgreSQL finds the next ones meanwhile.
        let reading = found.try_for_each(|row| {
            all.push(read(&mut Columns::new(&row)));
            future::ready(Ok(()))
        });
        let outcome = reading.await;
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
        let outcome = query.execute(self.connection()?).await;
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
        let outcome = query.fetch_all(self.connection()?).await;
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
        let mut arguments = PgArguments::default();
        let statements = bind(&mut arguments, writes)?;
        if statements.is_empty() {
            return Ok(Vec::new());
        }
        let text = AssertSqlSafe(sql::together(&statements));
        let query = sqlx::query_with(text, arguments);
        let outcome = query.fetch_one(self.connection()?).await;
        let counts = self.watch(outcome)?;
        let mut counts = Columns::new(&counts);
        let counted = statements.iter().map(|_| counts.big());
        counted
            .map(|count| Ok(u64::try_from(count?).unwrap_or(0)))
            .collect()
    }

    async fn hold_asking<T: Send>(
        &mut self,
        statement: &'static Statement,
        read: Read<T>,
    ) -> Result<Option<T>, StoreError> {
        let begin = begin_locked(WindowLock::Shared, false);
        self.begin_asking(&begin, statement, read).await
    }

    async fn write_at_once(
        &mut self,
        frame: &Frame,
        writes: Vec<OnRows>,
    ) -> Result<Duration, StoreError> {
        let mut arguments = PgArguments::default();
        add_single(&mut arguments, WINDOW_LOCK_KEY)?;
        add_single(&mut arguments, frame.window.uuid())?;
        add_single(&mut arguments, frame.rulebook_version)?;
        add_single(&mut arguments, frame.clock.map(Timestamp::micros))?;
        let statements = bind(&mut arguments, writes)?;
        let text = AssertSqlSafe(sql::at_once(&statements));
        let query = sqlx::query_with(text, arguments);
        let outcome = query.fetch_one(self.connection()?).await;
        let held = self.watch_for(outcome, commit_failure)?;
        let waited_us = Columns::new(&held).big()?;
        Ok(Duration::from_micros(u64::try_from(waited_us).unwrap_or(0)))
    }

    async fn commit_ahead(mut self) -> Result<Durable, StoreError> {
        if self.transaction == Transaction::Failed {
            // PostgreSQL would answer such a commit with a rollback, and call it a success.
            self.rollback().await?;
            return Err(StoreError::Conflict);
        }
        let connection = self.connection()?;
        let outcome = sqlx::raw_sql("commit").execute(connection).await;
        self.watch_for(outcome, commit_failure)?;
        self.transaction = Transaction::None;
        // The server answers once it is on disk, unless it was told not to care.
        Ok(Durable::already())
    }

    fn seen(&self) -> Durable {
        // Nobody sees a commit before it is on disk, unless the server was told not to care.
        Durable::already()
    }

    async fn rollback(mut self) -> Result<(), StoreError> {
        if self.transaction != Transaction::None {
            self.run("rollback").await?;
            self.transaction = Transaction::None;
        }
        Ok(())
    }

    #[cfg(feature = "faults")]
    async fn sever(&mut self) {
        if let Ok(connection) = self.connection() {
            let end = sqlx::raw_sql("select pg_terminate_backend(pg_backend_pid())");
            // That is how it says goodbye.
            let _ = end.execute(connection).await;
            self.is_suspect = true;
        }
    }
}

impl Drop for PostgresSession {
    fn drop(&mut self) {
        let is_bad = self.transaction != Transaction::None || self.is_suspect;
        match &mut self.connection {
            Connection::Unit(lent) if is_bad || self.is_asking => lent.breaks(),
            Connection::Reader(connection) if is_bad => connection.close_on_drop(),
            // The pool itself waits for what is under way.
            Connection::Unit(_) | Connection::Reader(_) => {}
        }
    }
}

/// What all connections begin with.
fn prepare(settings: &PoolSettings) -> String {
    let statement_ms = settings.statement_timeout.as_millis();
    let lock_ms = settings.lock_timeout.as_millis();
    format!("set statement_timeout = {statement_ms}; set lock_timeout = {lock_ms}; set jit = off")
}

/// What a connection of readers begins with: plans know the values that they are for.
fn prepare_reader(settings: &PoolSettings) -> String {
    format!(
        "{}; set plan_cache_mode = force_custom_plan",
        prepare(settings)
    )
}

/// What a connection of units begins with: plans are made once for many units, and look up by key, in the
/// order of an index, whatever the tables hold. A unit whose process says nothing for as long as others wait
/// for a lock is ended.
pub(crate) fn prepare_unit(settings: &PoolSettings) -> String {
    let idle_ms = settings.lock_timeout.as_millis();
    format!(
        "{}; set idle_in_transaction_session_timeout = {idle_ms}; \
         set default_transaction_isolation = 'read committed'; \
         set plan_cache_mode = force_generic_plan; \
         set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off; \
         set enable_bitmapscan = off; set enable_sort = off",
        prepare(settings)
    )
}

/// What a transaction begins with that holds the window.
fn begin_locked(lock: WindowLock, has_old_plans: bool) -> String {
    let lock = match lock {
        WindowLock::Shared | WindowLock::Deferred => "pg_advisory_xact_lock_shared",
        WindowLock::Exclusive => "pg_advisory_xact_lock",
    };
    let discard = if has_old_plans { DISCARD_PLANS } else { "" };
    format!("begin isolation level read committed; select {lock}({WINDOW_LOCK_KEY}); {discard}")
}

/// Whether plans are made anew for a unit on a connection that has served so many: one made for a small table
/// may not be one for the table that it has become. That is whenever the number of units has doubled; all
/// plans of a batch take longer to make than the batch. The server itself makes them anew where it has
/// analysed a table.
const fn plans_are_old(served: u32) -> bool {
    served.is_power_of_two()
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
    fn plans_are_made_anew_whenever_units_have_doubled() {
        let made = (0..70).filter(|served| plans_are_old(*served));
        assert!(made.eq([1, 2, 4, 8, 16, 32, 64]));
    }
}
