//! A connection to SQLite at work.
//!
//! A unit's is called [directly](super::direct); those that read are sqlx's, each with a thread of its
//! own, so that questions that take long hold nobody up.

use std::sync::Arc;

use futures::TryStreamExt as _;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{Sqlite, SqliteConnection};
use sqlx::{Either, Executor as _};
use tokio::sync::OwnedMutexGuard;

use super::direct::Direct;
use super::log::Log;
use super::sets::{self, Run};
use super::{Writer, commit_failure, failure};
use crate::codec::{Columns, Row, Rows};
use crate::durable::Durable;
use crate::error::StoreError;
use crate::session::{OnRows, Read, Session, fetch_alone};
use crate::statements::{self as sql, Statement};

/// A connection to SQLite at work.
pub(crate) struct SqliteSession {
    handle: Handle,
    log: Arc<Log>,
    /// Whether a statement of the transaction has failed, or was given up under way: then nothing more is
    /// run in it, and it must not be committed.
    is_spoilt: bool,
}

/// How a transaction is given up.
pub(super) const ROLLBACK: &str = "rollback";

pub(super) enum Handle {
    Writer(OwnedMutexGuard<Writer>),
    Reader {
        connection: Option<PoolConnection<Sqlite>>,
        /// Whether a transaction may be open on it.
        is_open: bool,
    },
}

/// A connection of either kind.
enum Connection<'a> {
    Writer(&'a mut Direct),
    Reader(&'a mut SqliteConnection),
}

impl Connection<'_> {
    /// Runs a text, and hands over each row; how many rows it wrote, if it is one that writes.
    async fn run(
        self,
        run: Run,
        mut take: impl FnMut(&dyn Row) + Send,
    ) -> Result<u64, sqlx::Error> {
        let connection = match self {
            Self::Writer(connection) => return connection.run(&run, take),
            Self::Reader(connection) => connection,
        };
        let mut written = 0;
        let mut steps = connection.fetch_many(run.query()?);
        // Each row holds an allocation for each of its columns, so none is kept.
        while let Some(step) = steps.try_next().await? {
            match step {
                Either::Left(done) => written = done.rows_affected(),
                Either::Right(row) => take(&row),
            }
        }
        Ok(written)
    }
}

impl SqliteSession {
    pub(super) fn new(handle: Handle, log: &Arc<Log>) -> Self {
        Self {
            handle,
            log: Arc::clone(log),
            is_spoilt: false,
        }
    }

    /// Runs a text, and hands over each row; how many rows it wrote, if it is one that writes.
    async fn run(
        &mut self,
        run: Run,
        take: impl FnMut(&dyn Row) + Send,
    ) -> Result<u64, StoreError> {
        // After some failures, of a full disk say, SQLite has ended the transaction by itself, and would
        // store at once whatever came next. Until this one has ended well, it counts as failed.
        if std::mem::replace(&mut self.is_spoilt, true) {
            return Err(StoreError::Conflict);
        }
        let outcome = self.connection()?.run(run, take).await;
        self.is_spoilt = outcome.is_err();
        outcome.map_err(failure)
    }

    /// Runs a statement that has no arguments and answers nothing.
    pub(super) async fn run_plain(&mut self, statement: &'static str) -> Result<(), StoreError> {
        self.run(Run::plain(statement), |_| ()).await.map(|_| ())
    }

    /// The connection, until the session has ended.
    fn connection(&mut self) -> Result<Connection<'_>, StoreError> {
        let connection = match &mut self.handle {
            Handle::Writer(writer) => writer.connection.as_mut().map(Connection::Writer),
            Handle::Reader { connection, .. } => connection.as_deref_mut().map(Connection::Reader),
        };
        connection.ok_or(StoreError::Unavailable(sqlx::Error::PoolClosed))
    }

    /// Counts rows that were written.
    fn count(&mut self, written: u64) {
        if let Handle::Writer(writer) = &mut self.handle {
            writer.rows = writer.rows.saturating_add(written);
        }
    }

    fn ended(&mut self) {
        match &mut self.handle {
            Handle::Writer(writer) => writer.is_open = false,
            Handle::Reader { is_open, .. } => *is_open = false,
        }
    }
}

impl Session for SqliteSession {
    const LIVE_LOTS: &'static Statement = &sql::SQLITE_LIVE_LOTS;
    const UPDATE_MEMBERS_NOT_DUE: Option<&'static Statement> =
        Some(&sql::SQLITE_UPDATE_MEMBERS_NOT_DUE);

    async fn fetch<T: Send>(
        &mut self,
        statement: &'static Statement,
        rows: Rows,
        read: Read<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut all = Vec::new();
        for run in sets::runs(statement, rows) {
            let take = |row: &dyn Row| all.push(read(&mut Columns::new(row)));
            self.run(run, take).await?;
        }
        all.into_iter().collect()
    }

    async fn execute(
        &mut self,
        statement: &'static Statement,
        rows: Rows,
    ) -> Result<u64, StoreError> {
        let mut written = 0_u64;
        for run in sets::runs(statement, rows) {
            written = written.saturating_add(self.run(run, |_| ()).await?);
        }
        self.count(written);
        Ok(written)
    }

    async fn fetch_asking<T: Send>(
        &mut self,
        statement: &'static Statement,
        rows: Rows,
        read: Read<T>,
        others: Vec<OnRows>,
    ) -> Result<(Vec<T>, Vec<bool>), StoreError> {
        if !matches!(self.handle, Handle::Writer(_)) {
            return fetch_alone(self, statement, rows, read, &others).await;
        }
        let found = self.fetch(statement, rows, read).await?;
        let mut answers = Vec::with_capacity(others.len());
        for OnRows { statement, rows } in others {
            let mut finds = false;
            for run in sets::runs(statement, rows) {
                self.run(run, |_| finds = true).await?;
            }
            answers.push(finds);
        }
        Ok((found, answers))
    }

    const IN_ORDER: bool = true;

    async fn commit_ahead(mut self) -> Result<Durable, StoreError> {
        if self.is_spoilt {
            // SQLite would store what succeeded before the failure, and half of what failed.
            self.rollback().await?;
            return Err(StoreError::Conflict);
        }
        let log = Arc::clone(&self.log);
        let connection = self.connection()?;
        log.committing();
        let outcome = connection.run(Run::plain("commit"), |_| ()).await;
        if let Err(error) = &outcome {
            log.watch(error);
        }
        log.written();
        outcome.map_err(commit_failure)?;
        self.ended();
        if let Handle::Writer(writer) = &mut self.handle {
            let rows = writer.rows;
            writer.tally.add(rows);
        }
        Ok(self.seen())
    }

    fn seen(&self) -> Durable {
        self.log.seen()
    }

    async fn rollback(mut self) -> Result<(), StoreError> {
        let is_open = !matches!(self.handle, Handle::Reader { is_open: false, .. });
        if is_open {
            let outcome = self.connection()?.run(Run::plain(ROLLBACK), |_| ()).await;
            rolled_back(outcome).map_err(failure)?;
            self.ended();
        }
        let seen = self.seen();
        // Others need the connection more than this one does.
        drop(self);
        seen.reached_for_reading().await
    }

    #[cfg(feature = "faults")]
    async fn sever(&mut self) {
        match &mut self.handle {
            Handle::Writer(writer) => drop(writer.connection.take()),
            Handle::Reader { connection, .. } => {
                if let Some(connection) = connection {
                    connection.close_on_drop();
                }
                drop(connection.take());
            }
        }
    }
}

impl Drop for SqliteSession {
    fn drop(&mut self) {
        // What a writer leaves open, the next unit ends.
        if let Handle::Reader {
            connection,
            is_open: true,
        } = &mut self.handle
            && let Some(mut connection) = connection.take()
        {
            connection.close_on_drop();
        }
    }
}

/// What became of [`ROLLBACK`]: where SQLite has ended the transaction by itself, that is what is wanted.
pub(super) fn rolled_back(outcome: Result<u64, sqlx::Error>) -> Result<(), sqlx::Error> {
    match outcome {
        Err(error) if error.as_database_error().is_none() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use coalition_ledger::time::Timestamp;

    use super::*;
    use crate::codec::{Cell, cells};
    use crate::session::Engine as _;
    use crate::sqlite::SqliteStore;
    use crate::testing::{Engine, TestDb, settings};
    use crate::traits::WindowLock;

    /// Requests under new ids.
    fn requests(count: usize) -> Rows {
        let id = || crate::session::mint(Timestamp::from_micros(0));
        let row = |_| {
            let subject: i16 = 1;
            cells![id(), id(), id(), Cell::Null, subject, vec![0_u8; 16]]
        };
        (0..count).map(row).collect()
    }

    #[tokio::test]
    async fn after_a_disk_that_is_full_nothing_of_the_unit_is_stored() {
        let db = TestDb::sandbox(Engine::Sqlite).await;
        let db = db.expect("a file can always be had");
        let file = db.file().expect("SQLite has a file");
        db.store.close().await;
        let store = SqliteStore::open(&file, &settings()).await.expect("opens");
        let mut session = store.begin(WindowLock::Shared).await.expect("begins");
        // It answers with the pages that there are: no more can be had.
        let limit = session.run_plain("pragma max_page_count = 1").await;
        limit.expect("is set");
        let full = session.execute(&sql::INSERT_REQUESTS, requests(512)).await;
        assert!(matches!(full, Err(StoreError::Database(_))), "{full:?}");
        // SQLite has ended the transaction: another statement would be stored by itself.
        let after = session.execute(&sql::UPDATE_TAILS, requests(0)).await;
        assert!(matches!(after, Ok(0)), "nothing is nothing: {after:?}");
        let after = session.execute(&sql::INSERT_REQUESTS, requests(1)).await;
        assert!(matches!(after, Err(StoreError::Conflict)), "{after:?}");
        let committed = session.commit().await;
        assert!(
            matches!(committed, Err(StoreError::Conflict)),
            "{committed:?}"
        );
        assert_eq!(db.number("select count(*) from requests").await, 0);
        store.close().await;
        db.remove().await;
    }
}
