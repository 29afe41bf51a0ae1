//! Copying SQLite's log into the file beside the commits, not within one.
//!
//! By itself SQLite copies at the end of whichever commit finds the log long, and the calls of that
//! batch, and all behind them, wait for thousands of pages. Here a connection of its own copies while
//! the writer goes on writing to the log, and the file is synced, which takes longest of all. Now and
//! then what was written meanwhile, which is little, is copied while nobody writes, so that the log
//! begins anew and does not grow for ever.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::log::Log;
use super::{Writer, failure};
use crate::error::StoreError;

/// Rows that are written between two copies: about a third as many pages of the log. The more, the
/// fewer pages are copied twice: with 500, a load of 4,500 earns a second wrote 10,000 to 17,000 times
/// a second to the disk.
const ROWS: u64 = 8_000;
/// Pages of the log, all copied or not, at which it is made to begin anew: that costs the writer two
/// syncs, and the commit after it a third, of the new log's head. Whoever opens the file after an end
/// in the middle of work reads so many.
const LOG_PAGES: i32 = 16_000;
/// A copy that took no longer has left little to copy.
const SHORT: Duration = Duration::from_millis(5);
/// Copies beside the writer before the log is made to begin anew, however long they take.
const COPIES_MAX: u32 = 4;

/// Counts what is written, and says when it is time.
#[derive(Debug, Default)]
pub(super) struct Tally {
    rows: u64,
    due: Arc<Notify>,
}

impl Tally {
    /// What tells that it is time.
    pub(super) fn due(&self) -> Arc<Notify> {
        Arc::clone(&self.due)
    }

    /// So many rows were committed.
    pub(super) fn add(&mut self, rows: u64) {
        self.rows = self.rows.saturating_add(rows);
        if self.rows >= ROWS {
            self.rows = 0;
            self.due.notify_one();
        }
    }
}

/// Whoever copies.
#[derive(Debug)]
pub(super) struct Checkpoints {
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<Option<Kept>>>>,
}

/// The database's file, open. Closing it gives back the locks that SQLite holds on it, which belong
/// to the process: not before SQLite has closed it.
pub(super) type Kept = Arc<File>;

/// What is copied, and into what.
struct Books {
    options: SqliteConnectOptions,
    writer: Arc<Mutex<Writer>>,
    path: PathBuf,
    /// The file, to sync it.
    file: Option<Kept>,
    connection: Option<SqliteConnection>,
}

impl Checkpoints {
    /// Begins; `due` is the word of the writer's tally.
    pub(super) fn start(
        path: &Path,
        options: SqliteConnectOptions,
        writer: Arc<Mutex<Writer>>,
        log: &Arc<Log>,
        due: Arc<Notify>,
    ) -> Self {
        let stop = CancellationToken::new();
        let until = stop.clone();
        let log = Arc::clone(log);
        let mut books = Books {
            options,
            writer,
            path: path.to_owned(),
            file: None,
            connection: None,
        };
        let task = tokio::spawn(async move {
            while until.run_until_cancelled(due.notified()).await.is_some() {
                if let Err(error) = books.copy_all().await {
                    // The log goes on growing; sooner or later a commit copies it.
                    tracing::warn!(%error, "the log could not be copied into the file");
                    books.connection = None;
                    if log.watch(&error) {
                        // What the file holds nobody knows: the log must not begin anew.
                        break;
                    }
                }
            }
            books.close().await
        });
        Self {
            stop,
            task: Mutex::new(Some(task)),
        }
    }

    /// Ends, after the copy under way.
    pub(super) async fn end(&self) -> Option<Kept> {
        self.stop.cancel();
        let task = self.task.lock().await.take()?;
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "copying the log ended badly");
            None
        })
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Books {
    async fn copy_all(&mut self) -> Result<(), sqlx::Error> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => Arc::clone(self.file.insert(Arc::new(File::open(&self.path)?))),
        };
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(self.options.connect().await?),
        };
        for _ in 0..COPIES_MAX {
            let began = Instant::now();
            let pages = copy(connection).await?;
            sync(&file).await?;
            if pages < LOG_PAGES {
                return Ok(());
            }
            if began.elapsed() <= SHORT {
                break;
            }
        }
        let nobody_writes = self.writer.lock().await;
        let copied = copy(connection).await;
        drop(nobody_writes);
        copied.map(|_| ())
    }

    async fn close(mut self) -> Option<Kept> {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "a connection was not closed cleanly");
        }
        self.file
    }
}

/// Brings everything into the file that the log of an earlier process holds, so that it is on disk
/// for certain: what the system says of the log itself may be no more than it told that process.
pub(super) async fn take_over(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let statement = sqlx::query("pragma wal_checkpoint(truncate)");
    let copied = statement.fetch_one(connection).await;
    copied.map(|_| ()).map_err(failure)
}

/// Copies what is in the log now, as far as nobody still reads what it replaces; answers how many
/// pages the log has.
async fn copy(connection: &mut SqliteConnection) -> Result<i32, sqlx::Error> {
    let statement = sqlx::query_as("pragma wal_checkpoint(passive)");
    let (_, pages, _): (i32, i32, i32) = statement.fetch_one(connection).await?;
    Ok(pages)
}

/// Writes out what the system holds back of the file, on a thread that may wait for it.
async fn sync(file: &Kept) -> Result<(), sqlx::Error> {
    let file = Arc::clone(file);
    let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
    synced
        .map_err(|_| sqlx::Error::WorkerCrashed)?
        .map_err(sqlx::Error::Io)
}
