//! The connection that writes, which runs on the thread of whoever calls it.
//!
//! A connection of sqlx to SQLite has a thread of its own: each call goes there and back, a row at a
//! time, and whoever waits for it is woken when a core is free. Where others want the cores too, a batch
//! waited for its turns longer than it worked. SQLite is a library, and a call of it is short: here it is
//! a call. Errors are told as sqlx tells them, so that one place says what they mean.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::ffi::c_int;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::types::{Null, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql};
use sqlx::error::{BoxDynError, DatabaseError, ErrorKind};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::checkpoint::Kept;
use super::sets::Run;
use crate::codec::{Cell, Row};

/// SQLITE_CONSTRAINT_PRIMARYKEY and SQLITE_CONSTRAINT_UNIQUE.
const TWICE: [c_int; 2] = [1555, 2067];

/// A connection that is called directly.
#[derive(Debug)]
pub(super) struct Direct(Connection);

impl Direct {
    /// Opens the file at `path`, which is made if it is not there. It waits so long for a lock, keeps so
    /// many statements prepared, and has these settings: names and values of pragmas.
    pub(super) fn open(
        path: &Path,
        busy_timeout: Duration,
        prepared: usize,
        settings: &[(&str, String)],
    ) -> Result<Self, sqlx::Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = on_this_thread(|| {
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(busy_timeout)?;
            connection.set_prepared_statement_cache_capacity(prepared);
            for (name, value) in settings {
                connection.execute_batch(&format!("pragma {name} = {value}"))?;
            }
            Ok(connection)
        });
        opened.map(Self).map_err(told)
    }

    /// Runs a statement to its end, and hands over each row; how many rows it wrote, if it is one that
    /// writes.
    pub(super) fn run(
        &mut self,
        run: &Run,
        mut take: impl FnMut(&dyn Row),
    ) -> Result<u64, sqlx::Error> {
        let done = on_this_thread(|| {
            let mut statement = self.0.prepare_cached(run.text())?;
            for (place, cell) in (1..).zip(run.cells()) {
                statement.raw_bind_parameter(place, cell)?;
            }
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next()? {
                take(row);
            }
            Ok(self.0.changes())
        });
        done.map_err(told)
    }

    /// Copies the log into the file, in this way.
    pub(super) fn checkpoint(&mut self, how: &str) -> Result<Copied, sqlx::Error> {
        let statement = format!("pragma wal_checkpoint({how})");
        let read = |row: &rusqlite::Row<'_>| {
            let (log, copied) = (row.get(1)?, row.get(2)?);
            Ok(Copied { log, copied })
        };
        on_this_thread(|| self.0.query_row(&statement, (), read)).map_err(told)
    }

    /// Closes it, which copies what the log still holds, and then gives back what was kept until then.
    /// Where nobody waits any more, that is done all the same.
    pub(super) async fn close(self, kept: Option<Kept>) -> Result<(), sqlx::Error> {
        let close = move || {
            let closed = self.0.close();
            drop(kept);
            closed.map_err(|(_, error)| told(error))
        };
        elsewhere("sqlite-close", close).await?
    }
}

/// Pages of the log.
pub(super) struct Copied {
    pub(super) log: i64,
    pub(super) copied: i64,
}

impl Copied {
    /// Whether the next commit may have the log begin anew. Where another program copies, both are -1.
    pub(super) const fn is_all(&self) -> bool {
        self.log >= 0 && self.copied >= self.log
    }
}

/// Does what whoever waits must be able to leave, on a thread of its own.
pub(super) async fn elsewhere<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, sqlx::Error> {
    let (done, outcome) = oneshot::channel();
    let thread = thread::Builder::new().name(name.to_owned());
    let spawned = thread.spawn(move || drop(done.send(work())));
    spawned.map_err(sqlx::Error::Io)?;
    outcome.await.map_err(|_| sqlx::Error::WorkerCrashed)
}

/// Does what may take a while: a runtime of several threads gives what waits on this one to others.
fn on_this_thread<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Null => Null.to_sql(),
            Self::Uuid(id) => Ok(ToSqlOutput::Borrowed(ValueRef::Blob(id.as_bytes()))),
            Self::Big(number) => number.to_sql(),
            Self::Integer(number) => number.to_sql(),
            Self::Small(number) => number.to_sql(),
            Self::Boolean(value) => value.to_sql(),
            Self::Text(text) => text.to_sql(),
            Self::Bytes(bytes) => bytes.to_sql(),
        }
    }
}

impl Row for rusqlite::Row<'_> {
    fn uuid(&self, place: usize) -> Result<Option<Uuid>, sqlx::Error> {
        let bytes = value(self, place, ValueRef::as_blob_or_null)?;
        let id = bytes.map(Uuid::from_slice).transpose();
        id.map_err(|error| sqlx::Error::Decode(error.into()))
    }

    fn big(&self, place: usize) -> Result<Option<i64>, sqlx::Error> {
        value(self, place, ValueRef::as_i64_or_null)
    }

    fn integer(&self, place: usize) -> Result<Option<i32>, sqlx::Error> {
        narrow(self.big(place)?)
    }

    fn small(&self, place: usize) -> Result<Option<i16>, sqlx::Error> {
        narrow(self.big(place)?)
    }

    fn boolean(&self, place: usize) -> Result<Option<bool>, sqlx::Error> {
        Ok(self.big(place)?.map(|value| value != 0))
    }

    fn text(&self, place: usize) -> Result<Option<String>, sqlx::Error> {
        let text = value(self, place, ValueRef::as_str_or_null)?;
        Ok(text.map(str::to_owned))
    }

    fn bytes(&self, place: usize) -> Result<Option<Vec<u8>>, sqlx::Error> {
        let bytes = value(self, place, ValueRef::as_blob_or_null)?;
        Ok(bytes.map(<[u8]>::to_vec))
    }
}

/// A column as a type that it must have.
fn value<'row, T, E: Into<BoxDynError>>(
    row: &'row rusqlite::Row<'_>,
    place: usize,
    read: impl Fn(&ValueRef<'row>) -> Result<T, E>,
) -> Result<T, sqlx::Error> {
    let found = row.get_ref(place).map_err(told)?;
    read(&found).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn narrow<T: TryFrom<i64, Error: Into<BoxDynError>>>(
    value: Option<i64>,
) -> Result<Option<T>, sqlx::Error> {
    let value = value.map(T::try_from).transpose();
    value.map_err(|error| sqlx::Error::Decode(error.into()))
}

/// What SQLite refused, as sqlx tells it of its own connections.
#[derive(Debug, thiserror::Error)]
#[error("(code: {code}) {message}")]
struct Refused {
    /// SQLite's result code, with what extends it.
    code: c_int,
    message: String,
}

impl DatabaseError for Refused {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.code.to_string().into())
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> BoxDynError {
        self
    }

    fn kind(&self) -> ErrorKind {
        if TWICE.contains(&self.code) {
            ErrorKind::UniqueViolation
        } else {
            ErrorKind::Other
        }
    }
}

/// A failure, as sqlx tells it.
fn told(error: rusqlite::Error) -> sqlx::Error {
    let (code, message) = match error {
        rusqlite::Error::SqliteFailure(code, message) => (code, message),
        error => return sqlx::Error::AnyDriverError(error.into()),
    };
    sqlx::Error::Database(Box::new(Refused {
        code: code.extended_code,
        message: message.unwrap_or_else(|| code.to_string()),
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::codec::Columns;
    use crate::error::StoreError;

    /// A file that is gone with the folder, and a connection to it that waits so long for a lock.
    fn file(busy_timeout: Duration) -> (tempfile::TempDir, Direct) {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = [("journal_mode", "wal".to_owned())];
        let direct = Direct::open(&folder.path().join("file"), busy_timeout, 8, &settings);
        (folder, direct.expect("opens"))
    }

    fn run(direct: &mut Direct, text: &str) -> Result<u64, sqlx::Error> {
        direct.run(&Run::plain(text), |_| ())
    }

    #[test]
    fn rows_are_counted_and_refusals_told_as_sqlx_tells_them() {
        let (_folder, mut direct) = file(Duration::ZERO);
        run(&mut direct, "create table t (id blob primary key, n int)").expect("is made");
        let written = run(&mut direct, "insert into t values (x'01', 1), (x'02', 2)");
        assert_eq!(written.expect("is written"), 2);
        let none = run(&mut direct, "update t set n = 3 where n > 9");
        assert_eq!(none.expect("is run"), 0);
        let twice = run(&mut direct, "insert into t values (x'02', 2)").expect_err("is there");
        let refusal = twice.as_database_error().expect("SQLite refused");
        assert!(refusal.is_unique_violation());
        assert_eq!(refusal.code().as_deref(), Some("1555"));
        assert_eq!(refusal.message(), "UNIQUE constraint failed: t.id");
        let unknown = run(&mut direct, "select * from nowhere").expect_err("is none");
        let refusal = unknown.as_database_error().expect("SQLite refused");
        assert_eq!(refusal.message(), "no such table: nowhere");
    }

    #[test]
    fn a_value_of_another_type_is_damage() {
        let (_folder, mut direct) = file(Duration::ZERO);
        let mut read = |text: &str, read: fn(&mut Columns<'_>) -> Result<(), StoreError>| {
            let mut outcome = None;
            let run = Run::plain(text);
            let taken = direct.run(&run, |row| outcome = Some(read(&mut Columns::new(row))));
            taken.expect("is run");
            outcome.expect("is a row")
        };
        for (text, column) in [
            (
                "select 'text'",
                (|c| c.big().map(drop)) as fn(&mut Columns<'_>) -> _,
            ),
            ("select 1", |c| c.text().map(drop)),
            ("select 1", |c| c.uuid().map(drop)),
            ("select x'00'", |c| c.uuid().map(drop)),
            ("select 40000", |c| c.small().map(drop)),
            ("select null", |c| c.bytes().map(drop)),
        ] {
            let damaged = read(text, column);
            assert!(
                matches!(damaged, Err(StoreError::Damaged(_))),
                "{text}: {damaged:?}"
            );
        }
        read("select x'00112233445566778899aabbccddeeff'", |c| {
            c.uuid().map(drop)
        })
        .expect("is one");
        read("select null", |c| c.maybe_text().map(drop)).expect("may be");
    }

    /// With one thread for all tasks, whoever waits on it for a lock gives the others to another.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_call_that_takes_long_holds_nobody_else_up() {
        let (folder, mut direct) = file(Duration::from_mins(1));
        let mut other = Direct::open(&folder.path().join("file"), Duration::ZERO, 8, &[]);
        let other = other.as_mut().expect("opens");
        run(other, "begin immediate").expect("has the file");
        let (waits, waiting) = mpsc::channel();
        let waits = tokio::spawn(async move {
            waits.send(()).expect("somebody waits for it");
            run(&mut direct, "begin immediate")
        });
        let gives_way = tokio::task::block_in_place(|| waiting.recv());
        gives_way.expect("it has begun");
        tokio::spawn(async {}).await.expect("has its turn");
        run(other, "commit").expect("gives it back");
        waits.await.expect("ends").expect("has the file");
    }
}
