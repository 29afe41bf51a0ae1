//! A connection to SQLite at work.
//!
//! Each call goes to SQLite's own thread and back, and where other threads want the cores too, a way
//! costs as much as the work of a small batch. So what can be asked or written together goes in one
//! text of several statements, which SQLite runs one after the other.

use std::sync::Arc;

use futures::Stream;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{Sqlite, SqliteConnection, SqliteRow};
use sqlx::{Either, Executor as _};
use tokio::sync::OwnedMutexGuard;

use super::coming::{Coming, LOOKS};
use super::log::Log;
use super::sets::{self, Run};
use super::{Writer, commit_failure, failure};
use crate::codec::{Columns, Rows};
use crate::durable::Durable;
use crate::error::StoreError;
use crate::session::{OnRows, Read, Session, execute_each, fetch_alone};
use crate::statements::{self as sql, CHUNK_ROWS, Statement};

/// Most rows of a set that is written in one text with others. All sets of such a text are filled up to
/// the same size, which larger batches would pay for more dearly than for their ways.
const JOINT_ROWS: usize = 64;
/// What most batches write. A text has either these or all that a batch may write, be there anything to
/// write or not: each other choice would be one more text to prepare, of every size.
static USUAL: [&Statement; 9] = [
    &sql::INSERT_REQUESTS,
    &sql::INSERT_CHECKS,
    &sql::INSERT_TRANSACTIONS,
    &sql::INSERT_LOTS,
    &sql::UPDATE_LOTS,
    &sql::SQLITE_UPDATE_MEMBERS_NOT_DUE,
    &sql::UPDATE_MEMBERS,
    &sql::ADD_TOTALS,
    &sql::MOVE_POSITIONS,
];

/// A connection to SQLite at work.
pub(crate) struct SqliteSession {
    handle: Handle,
    log: Arc<Log>,
    /// Whether a statement of the transaction has failed, or was given up under way: then nothing more is
    /// run in it, and it must not be committed.
    is_spoilt: bool,
}

pub(super) enum Handle {
    Writer(OwnedMutexGuard<Writer>),
    Reader {
        connection: Option<PoolConnection<Sqlite>>,
        /// Whether a transaction may be open on it.
        is_open: bool,
    },
}

impl SqliteSession {
    pub(super) fn new(handle: Handle, log: &Arc<Log>) -> Self {
        Self {
            handle,
            log: Arc::clone(log),
            is_spoilt: false,
        }
    }

    /// The connection for a statement. Until [`SqliteSession::watch`] has seen what became of that, it
    /// counts as failed.
    fn at_work(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        // After some failures, of a full disk say, SQLite has ended the transaction by itself, and would
        // store at once whatever came next.
        if std::mem::replace(&mut self.is_spoilt, true) {
            return Err(StoreError::Conflict);
        }
        self.connection()
    }

    /// The connection, until the session has ended.
    fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        let connection = match &mut self.handle {
            Handle::Writer(writer) => writer.connection.as_mut(),
            Handle::Reader { connection, .. } => connection.as_deref_mut(),
        };
        connection.ok_or(StoreError::Unavailable(sqlx::Error::PoolClosed))
    }

    /// Runs a statement that answers nothing.
    pub(super) async fn run(&mut self, statement: &'static str) -> Result<(), StoreError> {
        let outcome = sqlx::query(statement).execute(self.at_work()?).await;
        self.watch(outcome).map(|_| ())
    }

    /// Runs a text of several statements, and hands over each row with the number of its statement;
    /// how many rows each wrote.
    pub(super) async fn run_all(
        &mut self,
        run: Run,
        take: impl FnMut(usize, &SqliteRow) + Send,
    ) -> Result<Vec<u64>, StoreError> {
        let looks = self.looks();
        let outcome = step_through(self.at_work()?, run, looks, take).await;
        self.watch(outcome)
    }

    /// How often the next row is looked for: others wait for a unit, and readers have time.
    fn looks(&self) -> usize {
        match self.handle {
            Handle::Writer(_) => LOOKS,
            Handle::Reader { .. } => 0,
        }
    }

    /// Counts rows that were written.
    fn count(&mut self, written: u64) {
        if let Handle::Writer(writer) = &mut self.handle {
            writer.rows = writer.rows.saturating_add(written);
        }
    }

    /// Remembers failures, and that there was none.
    fn watch<T>(&mut self, outcome: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        self.is_spoilt = outcome.is_err();
        outcome.map_err(failure)
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
        let looks = self.looks();
        for run in sets::runs(statement, rows)? {
            let found = run.query().fetch(self.at_work()?);
            let outcome = read_each(Coming::new(found, looks), read, &mut all).await;
            self.watch(outcome)?;
        }
        all.into_iter().collect()
    }

    async fn execute(
        &mut self,
        statement: &'static Statement,
        rows: Rows,
    ) -> Result<u64, StoreError> {
        let mut written = 0_u64;
        for run in sets::runs(statement, rows)? {
            let outcome = run.query().execute(self.at_work()?).await;
            written = written.saturating_add(self.watch(outcome)?.rows_affected());
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
        let mut sizes = others.iter().map(|other| other.rows.len());
        if sizes.any(|size| size > CHUNK_ROWS[0]) || rows.len() > CHUNK_ROWS[0] {
            return fetch_alone(self, statement, rows, read, &others).await;
        }
        let (mut found, mut answers) = (Vec::new(), vec![false; others.len()]);
        let asked = sets::asking(OnRows { statement, rows }, others)?;
        let take = |number: usize, row: &SqliteRow| match number.checked_sub(1) {
            None => found.push(read(&mut Columns::new(row))),
            Some(other) => answers[other] = true,
        };
        self.run_all(asked, take).await?;
        let found = found.into_iter().collect::<Result<_, _>>()?;
        Ok((found, answers))
    }

    #[cfg(feature = "faults")]
    const TOGETHER: bool = true;
    const IN_ORDER: bool = true;

    async fn execute_all(&mut self, writes: Vec<OnRows>) -> Result<Vec<u64>, StoreError> {
        let mut sizes = writes.iter().map(|write| write.rows.len());
        if sizes.any(|size| size > JOINT_ROWS) {
            return execute_each(self, writes).await;
        }
        let is_usual = |write: &OnRows| USUAL.iter().any(|it| std::ptr::eq(*it, write.statement));
        let has_more = writes.iter().any(|it| it.rows.len() > 0 && !is_usual(it));
        let is_sent = |write: &OnRows| has_more || is_usual(write);
        let sent: Vec<_> = writes.iter().map(is_sent).collect();
        let text = sets::joint(writes.into_iter().filter(is_sent).collect())?;
        let mut written = self.run_all(text, |_, _| ()).await?.into_iter();
        // What is not sent had no rows.
        let count = |is_sent| if is_sent { written.next() } else { None };
        let counts: Vec<_> = sent
            .into_iter()
            .map(count)
            .map(Option::unwrap_or_default)
            .collect();
        self.count(counts.iter().sum());
        Ok(counts)
    }

    async fn commit_ahead(mut self) -> Result<Durable, StoreError> {
        if self.is_spoilt {
            // SQLite would store what succeeded before the failure, and half of what failed.
            self.rollback().await?;
            return Err(StoreError::Conflict);
        }
        let log = Arc::clone(&self.log);
        let connection = self.connection()?;
        log.committing();
        let outcome = sqlx::query("commit").execute(connection).await;
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
            roll_back(self.connection()?).await.map_err(failure)?;
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

/// Ends a transaction, or finds that SQLite has ended it by itself: that is what is wanted.
pub(super) async fn roll_back(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    match sqlx::query("rollback").execute(connection).await {
        Err(error) if error.as_database_error().is_none() => Err(error),
        _ => Ok(()),
    }
}

/// Reads rows as they come: each holds an allocation for each of its columns, so none is kept.
async fn read_each<T>(
    mut rows: Coming<impl Stream<Item = Result<SqliteRow, sqlx::Error>> + Unpin>,
    read: Read<T>,
    all: &mut Vec<Result<T, StoreError>>,
) -> Result<(), sqlx::Error> {
    while let Some(row) = rows.next().await? {
        all.push(read(&mut Columns::new(&row)));
    }
    Ok(())
}

/// Runs a text to its end, row by row.
async fn step_through(
    connection: &mut SqliteConnection,
    run: Run,
    looks: usize,
    mut take: impl FnMut(usize, &SqliteRow) + Send,
) -> Result<Vec<u64>, sqlx::Error> {
    let mut steps = Coming::new(connection.fetch_many(run.query()), looks);
    let mut written = Vec::new();
    while let Some(step) = steps.next().await? {
        match step {
            Either::Left(done) => written.push(done.rows_affected()),
            Either::Right(row) => take(written.len(), &row),
        }
    }
    Ok(written)
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
        let limit = sqlx::query("pragma max_page_count = 1");
        // It answers with the pages that there are: no more can be had.
        let limit = limit.execute(session.connection().expect("is there")).await;
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
