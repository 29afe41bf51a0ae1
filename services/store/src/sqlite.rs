//! The SQLite engine: what makes one command enough.
//!
//! Sets of rows go in as `values`, in chunks of a few sizes so that every text stays prepared. One
//! connection writes, [`direct`]ly, so that a unit holds the open window by being the one at work, shared or
//! not; a few others read, each from the snapshot that WAL gives it. Nothing is told that is not on disk;
//! [`log`] brings it there beside the next unit, and [`checkpoint`] keeps it from growing for ever. One process
//! has the file, by a lock beside it: the connection that writes must be the only one. Compare with
//! [`crate::postgres`].

mod checkpoint;
mod direct;
mod log;
mod session;
mod sets;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{Sqlite, SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::codec::row;
use crate::door::Door;
use crate::error::StoreError;
use crate::migrate;
use crate::open::PoolSettings;
use crate::session::Engine;
use crate::statements::{GUARD, RANGES};
use crate::traits::WindowLock;
use checkpoint::{Checkpoints, Tally};
use direct::{Direct, elsewhere};
use log::Log;
use session::{Handle, ROLLBACK, SqliteSession, rolled_back};
use sets::Run;

/// Texts that a connection keeps prepared: those that are in use, in their sizes, and room.
const PREPARED_STATEMENTS: usize = 512;
/// How long a connection waits for a lock of the file; only another program can hold one for long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages of the file that the writer keeps in memory, in KiB. More would cost more than they save: most
/// commits look at every one of them (decision 24).
const WRITER_CACHE_KIB: u32 = 16 * 1024;
/// Pages of the file that each reader keeps in memory, in KiB.
const READER_CACHE_KIB: u32 = 8 * 1024;
/// Pages in the log at which a commit copies them to their places, should [`checkpoint`] have fallen
/// behind.
const CHECKPOINT_PAGES: u32 = 192_000;
/// What a log that grew beyond its usual length is cut to when it begins anew, in bytes.
const LOG_LIMIT_BYTES: u32 = 768 * 1024 * 1024;
/// Rows that wait between SQLite's thread and ours.
const ROWS_IN_FLIGHT: usize = 1_024;
/// How a transaction begins that will write.
const BEGIN: &str = "begin immediate";

row!(SqliteRow);

/// The books in a SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Arc<Mutex<Writer>>,
    log: Arc<Log>,
    checkpoints: Checkpoints,
    /// How those connect that are no unit and no reader.
    options: SqliteConnectOptions,
    readers: SqlitePool,
    /// How long a unit waits for the one before it.
    unit_timeout: Duration,
    units_door: Door,
    readers_door: Door,
    /// Held until the store is closed: this process has the file.
    lock: File,
}

/// The one connection that writes.
#[derive(Debug)]
struct Writer {
    /// The connection; none before it is first needed again, and when the store is closed.
    connection: Option<Direct>,
    path: PathBuf,
    /// Whether a transaction may be open on it that nobody holds any more.
    is_open: bool,
    is_closed: bool,
    /// Rows that the transaction under way has written.
    rows: u64,
    tally: Tally,
    log: Arc<Log>,
}

impl SqliteStore {
    /// The database in the file at `path`, created if it is not there.
    ///
    /// # Errors
    ///
    /// `Unsuitable` where another process has the file open.
    pub async fn open(path: &Path, settings: &PoolSettings) -> Result<Self, StoreError> {
        let path = &real(path)?;
        let lock = lock(path)?;
        let log = Arc::new(Log::of(path)?);
        let mut options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(PREPARED_STATEMENTS)
            .row_buffer_size(ROWS_IN_FLIGHT)
            .disable_statement_logging();
        for (name, value) in settings_of_a_connection(READER_CACHE_KIB) {
            options = options.pragma(name, value);
        }
        let reading = options.clone().pragma("query_only", "on");
        let file = path.to_owned();
        let taken = elsewhere("sqlite-open", move || take_over(&file)).await;
        let connection = taken.map_err(failure)??;
        let readers = SqlitePoolOptions::new()
            .max_connections(settings.readers)
            .acquire_timeout(settings.reader_timeout)
            .test_before_acquire(false)
            .connect_lazy_with(reading);
        let writer = Writer {
            connection: Some(connection),
            path: path.to_owned(),
            is_open: false,
            is_closed: false,
            rows: 0,
            tally: Tally::default(),
            log: Arc::clone(&log),
        };
        let due = writer.tally.due();
        let writer = Arc::new(Mutex::new(writer));
        let checkpoints = Checkpoints::start(path, options.clone(), Arc::clone(&writer), &log, due);
        Ok(Self {
            writer,
            log,
            checkpoints,
            options,
            readers,
            unit_timeout: settings.unit_timeout,
            units_door: Door::new("units of work at a time"),
            readers_door: Door::new("questions to the books at a time"),
            lock,
        })
    }

    /// Has syncs of the log and the file fail or wait on purpose.
    #[cfg(feature = "faults")]
    pub(crate) async fn trouble(&self, faults: &crate::faults::Faults) {
        faults.copying(self.writer.lock().await.tally.due());
        self.log.trouble(faults.clone());
    }

    /// The writer, once the unit before has ended.
    async fn writer(&self) -> Result<OwnedMutexGuard<Writer>, StoreError> {
        let writer = Arc::clone(&self.writer).lock_owned();
        // This bounds a wait for a turn, not a database future: nothing is under way yet.
        let writer = tokio::time::timeout(self.unit_timeout, writer).await;
        let mut writer = writer.map_err(|_| {
            self.units_door.turn_away();
            StoreError::Busy
        })?;
        writer.recover()?;
        Ok(writer)
    }

    /// A session of the writer, whose transaction is still to be begun.
    async fn unit(&self) -> Result<SqliteSession, StoreError> {
        let mut writer = self.writer().await?;
        writer.is_open = true;
        writer.rows = 0;
        Ok(SqliteSession::new(Handle::Writer(writer), &self.log))
    }

    /// A connection that reads, once one is free.
    async fn reading(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        self.readers.acquire().await.map_err(|error| match error {
            sqlx::Error::PoolTimedOut => {
                self.readers_door.turn_away();
                StoreError::Busy
            }
            error => failure(error),
        })
    }
}

/// What holds for every connection: names and values of pragmas.
fn settings_of_a_connection(cache_kib: u32) -> [(&'static str, String); 7] {
    [
        ("journal_mode", "wal".to_owned()),
        // Whatever must not be reordered is synced: the log before it is copied, the file before the
        // log begins anew. Commits are not: see `log`.
        ("synchronous", "normal".to_owned()),
        ("foreign_keys", "on".to_owned()),
        ("temp_store", "memory".to_owned()),
        ("wal_autocheckpoint", CHECKPOINT_PAGES.to_string()),
        ("journal_size_limit", LOG_LIMIT_BYTES.to_string()),
        ("cache_size", format!("-{cache_kib}")),
    ]
}

/// Opens the connection that writes, and brings everything into the file that the log of an earlier process
/// holds, so that it is on disk for certain: what the system says of the log itself may be no more than it
/// told that process.
fn take_over(path: &Path) -> Result<Direct, StoreError> {
    let mut connection = connect(path).map_err(failure)?;
    if path.canonicalize().ok().as_deref() != Some(path) {
        return Err(StoreError::Unsuitable(format!(
            "{} is not where SQLite keeps the file: name it by its plain path",
            path.display()
        )));
    }
    connection.checkpoint("truncate").map_err(failure)?;
    Ok(connection)
}

/// Opens the connection that writes.
fn connect(path: &Path) -> Result<Direct, sqlx::Error> {
    let settings = settings_of_a_connection(WRITER_CACHE_KIB);
    Direct::open(path, BUSY_TIMEOUT, PREPARED_STATEMENTS, &settings)
}

/// Where the file is or will be, by the name that SQLite gives it: its log lies beside that.
fn real(path: &Path) -> Result<PathBuf, StoreError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let found = match path.canonicalize() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => folder
            .canonicalize()
            .map(|folder| folder.join(path.file_name().unwrap_or_default())),
        found => found,
    };
    found.map_err(|error| {
        StoreError::Unsuitable(format!("{} cannot be opened: {error}", path.display()))
    })
}

/// Takes the lock that says whose file this is.
fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(PathBuf::from(name));
    let file = file.map_err(|error| {
        StoreError::Unsuitable(format!("{} cannot be opened: {error}", path.display()))
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Unsuitable(format!(
            "{} is open in another process; a SQLite file belongs to one process: stop the other, \
             or use PostgreSQL",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(StoreError::Unsuitable(format!(
            "{} cannot be locked: {error}",
            path.display()
        ))),
    }
}

impl Writer {
    /// Ends what a unit that was dropped half way has left behind. Statements run in the order in
    /// which they were given, so whatever was under way is done by then.
    fn recover(&mut self) -> Result<(), StoreError> {
        if self.is_closed {
            return Err(StoreError::Unavailable(sqlx::Error::PoolClosed));
        }
        self.log.check()?;
        if let Some(connection) = &mut self.connection
            && self.is_open
            && rolled_back(connection.run(&Run::plain(ROLLBACK), |_| ())).is_err()
        {
            self.connection = None;
        }
        self.is_open = false;
        if self.connection.is_none() {
            self.connection = Some(connect(&self.path).map_err(failure)?);
        }
        // A commit that nobody waited for is over by now.
        self.log.written();
        Ok(())
    }
}

impl Engine for SqliteStore {
    type Session = SqliteSession;

    fn is_at_hand(&self) -> bool {
        true
    }

    async fn begin(&self, _lock: WindowLock) -> Result<SqliteSession, StoreError> {
        let mut session = self.unit().await?;
        session.run_plain(BEGIN).await?;
        Ok(session)
    }

    async fn ask(&self) -> Result<SqliteSession, StoreError> {
        let connection = self.reading().await?;
        let handle = Handle::Reader {
            connection: Some(connection),
            is_open: false,
        };
        Ok(SqliteSession::new(handle, &self.log))
    }

    async fn snapshot(&self) -> Result<SqliteSession, StoreError> {
        let connection = self.reading().await?;
        let handle = Handle::Reader {
            connection: Some(connection),
            is_open: true,
        };
        let mut session = SqliteSession::new(handle, &self.log);
        session.run_plain("begin deferred").await?;
        Ok(session)
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        // Nobody else writes meanwhile.
        let _writer = self.writer().await?;
        let mut connection = self.options.connect().await.map_err(failure)?;
        self.log.committing();
        let migrated = migrate::run(&migrate::SQLITE, &mut connection, failure).await;
        self.log.written();
        let closed = connection.close().await.map_err(failure);
        migrated.and(closed)?;
        self.log.seen().reached().await
    }

    async fn check_schema(&self) -> Result<(), StoreError> {
        let mut connection = self.readers.acquire().await.map_err(failure)?;
        migrate::check(&migrate::SQLITE, &mut *connection, failure).await
    }

    async fn failed(&self) {
        self.log.failed().await;
    }

    async fn close(&self) {
        let file = self.checkpoints.end().await;
        self.readers.close().await;
        let mut writer = self.writer.lock().await;
        writer.is_closed = true;
        if let Some(connection) = writer.connection.take()
            && let Err(error) = connection.close(file).await
        {
            tracing::warn!(%error, "the database was not closed cleanly");
        }
        // By word, not by closing the file: a process that another thread is just starting holds a
        // copy of it until its program begins.
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the database is still locked");
        }
    }
}

/// What a failure of a statement means: nothing of the transaction is stored.
fn failure(error: sqlx::Error) -> StoreError {
    use sqlx::Error as E;
    if matches!(
        error,
        E::Io(_) | E::WorkerCrashed | E::PoolTimedOut | E::PoolClosed
    ) {
        return StoreError::Unavailable(error);
    }
    let Some(refusal) = error.as_database_error() else {
        return StoreError::Database(error);
    };
    if refusal.is_unique_violation() || refusal.message().ends_with(GUARD) {
        return StoreError::Conflict;
    }
    if RANGES.iter().any(|name| refusal.message().ends_with(name)) {
        return StoreError::OutOfRange;
    }
    match primary_code(&error) {
        // SQLITE_BUSY, SQLITE_LOCKED: another program has the file.
        Some(5 | 6) => StoreError::Unavailable(error),
        // SQLITE_CORRUPT, SQLITE_NOTADB.
        Some(11 | 26) => StoreError::Damaged(refusal.message().to_owned()),
        // SQLITE_ERROR: told apart by its text alone.
        Some(1) if refusal.message().starts_with("no such table") => {
            StoreError::Unsuitable(migrate::NO_SCHEMA.into())
        }
        _ => StoreError::Database(error),
    }
}

/// What a failure of a commit means: stored or not, where the file did not take it.
fn commit_failure(error: sqlx::Error) -> StoreError {
    // SQLITE_IOERR, SQLITE_FULL.
    if matches!(error, sqlx::Error::WorkerCrashed) || matches!(primary_code(&error), Some(10 | 13))
    {
        return StoreError::UnknownCommit(error.into());
    }
    failure(error)
}

/// SQLite's result code, without what extends it.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    code.parse::<u32>().ok().map(|code| code & 0xff)
}
