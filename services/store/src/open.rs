//! Opening a store by its URL.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::StoreError;
use crate::postgres::PostgresStore;
use crate::sqlite::SqliteStore;
use crate::traits::Store;

/// Units that may be at work at a time, unless set otherwise.
pub const UNITS: u32 = 4;
/// Readers that may be at work at a time, unless set otherwise.
pub const READERS: u32 = 8;
/// How long a reader waits for a connection, unless set otherwise: a till that would wait longer
/// asks again.
pub const READER_TIMEOUT: Duration = Duration::from_millis(250);

/// How many connections a store keeps, and how long its callers wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Units that may be at work at a time; on SQLite always one.
    pub units: u32,
    /// Readers and scans that may be at work at a time.
    pub readers: u32,
    /// How long a unit waits for a connection (on SQLite: for the unit before it).
    pub unit_timeout: Duration,
    /// How long a reader waits for a connection.
    pub reader_timeout: Duration,
    /// How long one statement may take; on SQLite not bounded.
    pub statement_timeout: Duration,
    /// How long a statement waits for a lock, that of the open window included.
    pub lock_timeout: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            units: UNITS,
            readers: READERS,
            unit_timeout: Duration::from_secs(5),
            reader_timeout: READER_TIMEOUT,
            statement_timeout: Duration::from_mins(1),
            lock_timeout: Duration::from_secs(5),
        }
    }
}

/// Opens the database that `url` names: `sqlite:PATH` (created if it is not there), or
/// `postgres://USER:PASSWORD@HOST:PORT/DATABASE` (connected to when first used).
///
/// # Errors
///
/// `Unsuitable` where the URL is neither, or where another process has the SQLite file open.
pub async fn open(url: &str, settings: &PoolSettings) -> Result<Arc<dyn Store>, StoreError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(Arc::new(PostgresStore::connect(url, settings)?));
    }
    let path = url
        .strip_prefix("sqlite://")
        .or_else(|| url.strip_prefix("sqlite:"));
    match path.filter(|path| !path.is_empty()) {
        Some(path) => Ok(Arc::new(
            SqliteStore::open(Path::new(path), settings).await?,
        )),
        None => Err(StoreError::Unsuitable(
            "a database URL begins with sqlite: or with postgres://".into(),
        )),
    }
}
