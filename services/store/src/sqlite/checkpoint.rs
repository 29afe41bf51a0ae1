//! Copying SQLite's log into the file beside the commits, not within one.
//!
//! By itself SQLite copies at the end of whichever commit finds the log long, and the calls of that
//! batch, and all behind them, wait for thousands of pages. Here a connection of its own copies while
//! the writer goes on writing to the log, on a thread that gives way to others, and the file is synced,
//! which takes longest of all. Then what was written meanwhile, which is little, is copied while nobody
//! writes, by the writer's own connection, so that the log begins anew and does not grow for ever. It keeps
//! the length that it had: a log that grows has each sync wait for what the file system writes about it,
//! too, and commits for both.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Writer;
use super::direct::elsewhere;
use super::log::Log;

/// Pages of the log, by [`pages_of`], at which it is copied and made to begin anew. The more, the fewer
/// pages are copied again and again: some are touched by every batch, most by one of many earns. Whoever
/// opens the file after an end in the middle of work reads so many.
const LOG_PAGES: u64 = 48_000;
/// After how many more it is tried again, where that did not succeed.
const RETRY_PAGES: u64 = 4_000;
/// Pages that a commit of many rows writes beside theirs: ends of tables, sums, and what leads there.
const PAGES_PER_COMMIT: u64 = 30;
/// Pages that so many rows fill or touch alone.
const PAGES_PER_ROWS: (u64, u64) = (3, 10);
/// Pages of a log that some reader kept from beginning anew before.
const LOG_TOO_LONG: i64 = 120_000;
/// A copy that took no longer has left little to copy.
const SHORT: Duration = Duration::from_millis(5);
/// By how much the thread that copies gives way to others (nice(2)).
const GIVING_WAY: i32 = 10;
/// Copies beside the writer before the log begins anew, however long they take.
const COPIES_MAX: u32 = 4;

/// About how many pages a commit of so many rows adds to the log. Of 15, 36 and 250 earns, with a hundred
/// partners, they were 60, 96 and 500; these are 60, 103 and 520. A lone earn adds a dozen, an enrolment more
/// than this says: the log is as long as a third or three times [`LOG_PAGES`].
const fn pages_of(rows: u64) -> u64 {
    let (pages, of_rows) = PAGES_PER_ROWS;
    (rows.saturating_mul(pages) / of_rows).saturating_add(PAGES_PER_COMMIT)
}

/// Counts what is written, and says when it is time.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pages: u64,
    due: Arc<Notify>,
}

impl Tally {
    /// What tells that it is time.
    pub(super) fn due(&self) -> Arc<Notify> {
        Arc::clone(&self.due)
    }

    /// So many rows were committed.
    pub(super) fn add(&mut self, rows: u64) {
        self.pages = self.pages.saturating_add(pages_of(rows));
        if self.pages >= LOG_PAGES {
            self.pages = 0;
            self.due.notify_one();
        }
    }

    /// The log did not begin anew.
    fn retry(&mut self) {
        self.pages = self.pages.max(LOG_PAGES - RETRY_PAGES);
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
    log: Arc<Log>,
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
        let mut books = Books {
            options,
            writer,
            log: Arc::clone(log),
            path: path.to_owned(),
            file: None,
            connection: None,
        };
        let task = tokio::spawn(async move {
            while until.run_until_cancelled(due.notified()).await.is_some() {
                if books.log.check().is_err() {
                    // What the log holds nobody knows: none of it may replace what the file holds.
                    break;
                }
                if let Err(error) = books.copy_all().await {
                    // The log goes on growing; sooner or later a commit copies it.
                    tracing::warn!(%error, "the log could not be copied into the file");
                    books.connection = None;
                    if books.log.watch(&error) {
                        // What the file holds nobody knows: the log must not begin anew.
                        break;
                    }
                    books.writer.lock().await.tally.retry();
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
            None => self
                .connection
                .insert(connect_giving_way(&self.options).await?),
        };
        for _ in 0..COPIES_MAX {
            let began = Instant::now();
            copy(connection).await?;
            sync(&file, &self.log).await?;
            if began.elapsed() <= SHORT {
                break;
            }
        }
        let mut writer = self.writer.lock().await;
        let is_open = writer.is_open;
        // Nobody writes meanwhile, so this copy gives way to nobody.
        let copied = match &mut writer.connection {
            Some(connection) if !is_open => Some(connection.checkpoint("passive")?),
            _ => None,
        };
        if !copied.is_some_and(|copied| copied.is_all() && copied.log <= LOG_TOO_LONG) {
            writer.tally.retry();
        }
        Ok(())
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

/// A connection whose thread gives way: a thread begins with the priority of the one that starts it.
async fn connect_giving_way(
    options: &SqliteConnectOptions,
) -> Result<SqliteConnection, sqlx::Error> {
    let (options, runtime) = (options.clone(), Handle::current());
    let connect = move || {
        if let Err(error) = rustix::process::nice(GIVING_WAY) {
            tracing::debug!(%error, "the log is copied without giving way");
        }
        runtime.block_on(options.connect())
    };
    elsewhere("sqlite-copy", connect).await?
}

/// Copies what is in the log now, as far as nobody still reads what it replaces.
async fn copy(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let statement = sqlx::query("pragma wal_checkpoint(passive)");
    statement.execute(connection).await.map(|_| ())
}

/// Writes out what the system holds back of the file, on a thread that may wait for it.
async fn sync(file: &Kept, log: &Arc<Log>) -> Result<(), sqlx::Error> {
    let (file, log) = (Arc::clone(file), Arc::clone(log));
    let synced = tokio::task::spawn_blocking(move || log.sync_file(&file)).await;
    synced
        .map_err(|_| sqlx::Error::WorkerCrashed)?
        .map_err(sqlx::Error::Io)
}
