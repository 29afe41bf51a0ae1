//! What the two engines have to offer the rest of this crate: run a statement, hold a lock.
//!
//! [`Engine`] opens sessions, [`Session`] runs statements; `unit`, `reader` and `scan` are written
//! once on top of them. The statements stand in `statements`; an engine adds how a set of rows gets
//! into one, how the open window is locked, and what its errors mean. Deliberately absent: anything
//! that knows what a row says.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use coalition_ledger::time::Timestamp;

use crate::codec::{Columns, Rows};
use crate::durable::Durable;
use crate::error::StoreError;
use crate::standing::Standing;
use crate::statements::Statement;
use crate::traits::{Frame, WindowLock};

/// Reads one row of a statement's answer.
pub(crate) type Read<T> = fn(&mut Columns<'_>) -> Result<T, StoreError>;

/// A statement about a set of rows, and those.
pub(crate) struct OnRows {
    pub(crate) statement: &'static Statement,
    pub(crate) rows: Rows,
}

/// A connection at work. Dropped inside a transaction, nothing of that transaction is stored.
pub(crate) trait Session: Send + 'static {
    /// How this engine finds live lots: the one fetch that the engines cannot put the same way.
    const LIVE_LOTS: &'static Statement;

    /// How this engine updates members whose due time stays, where it is worth telling them apart.
    const UPDATE_MEMBERS_NOT_DUE: Option<&'static Statement> = None;

    /// Runs a statement and reads its answer. An empty set of rows is answered by nothing.
    fn fetch<T: Send>(
        &mut self,
        statement: &'static Statement,
        rows: Rows,
        read: Read<T>,
    ) -> impl Future<Output = Result<Vec<T>, StoreError>> + Send;

    /// Runs a statement and counts the rows it wrote.
    fn execute(
        &mut self,
        statement: &'static Statement,
        rows: Rows,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// As [`Session::fetch`], and whether each of `others`, which are about sets, would find anything as
    /// of the same instant: where the engine can tell that in the same call of the database. Elsewhere
    /// each of them might.
    fn fetch_asking<T: Send>(
        &mut self,
        statement: &'static Statement,
        rows: Rows,
        read: Read<T>,
        others: Vec<OnRows>,
    ) -> impl Future<Output = Result<(Vec<T>, Vec<bool>), StoreError>> + Send {
        async move { fetch_alone(self, statement, rows, read, &others).await }
    }

    /// Whether [`Session::execute_all`] of a small batch and [`Engine::begin_asking`] are one call of the
    /// database.
    #[cfg(feature = "faults")]
    const TOGETHER: bool = false;

    /// Whether statements of [`Session::execute_all`] see what those before them wrote. Where they do not,
    /// each of them writes to a table of its own.
    const IN_ORDER: bool = false;

    /// Runs statements that write sets, in their order; counts the rows that each wrote. Sets may be empty
    /// where they are run [`Session::IN_ORDER`].
    fn execute_all(
        &mut self,
        writes: Vec<OnRows>,
    ) -> impl Future<Output = Result<Vec<u64>, StoreError>> + Send {
        execute_each(self, writes)
    }

    /// Takes the open window with others in a session that was [begun without
    /// it](Engine::begin_deferred), and asks a first question, as [`Engine::begin_asking`].
    fn hold_asking<T: Send>(
        &mut self,
        statement: &'static Statement,
        read: Read<T>,
    ) -> impl Future<Output = Result<Option<T>, StoreError>> + Send {
        let _ = (statement, read);
        async { Err(never_deferred()) }
    }

    /// The same, writes sets, and commits, in one call of the database: how long it waited for the window.
    /// `Conflict` where the frame is another by then, or a statement did not write a row for each row given.
    fn write_at_once(
        &mut self,
        frame: &Frame,
        writes: Vec<OnRows>,
    ) -> impl Future<Output = Result<Duration, StoreError>> + Send {
        let _ = (frame, writes);
        async { Err(never_deferred()) }
    }

    /// Commits a transaction, which may be durable a little later.
    fn commit_ahead(self) -> impl Future<Output = Result<Durable, StoreError>> + Send;

    /// Makes a transaction durable.
    fn commit(self) -> impl Future<Output = Result<(), StoreError>> + Send
    where
        Self: Sized,
    {
        async { self.commit_ahead().await?.reached().await }
    }

    /// What it may have seen of the books by now.
    fn seen(&self) -> Durable;

    /// Gives a transaction up, or ends a session that only read; what it read is durable.
    fn rollback(self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Breaks the connection: whatever is done on it next finds out.
    #[cfg(feature = "faults")]
    fn sever(&mut self) -> impl Future<Output = ()> + Send;
}

/// A database.
pub(crate) trait Engine: Send + Sync + 'static {
    /// Its connections.
    type Session: Session;

    /// As [`crate::Store::is_at_hand`].
    fn is_at_hand(&self) -> bool {
        false
    }

    /// A session in a transaction that may write and that holds the open window.
    fn begin(
        &self,
        lock: WindowLock,
    ) -> impl Future<Output = Result<Self::Session, StoreError>> + Send;

    /// The same, and a first question, which sees what the lock waited for: one call of the database,
    /// where the engine can.
    fn begin_asking<T: Send>(
        &self,
        lock: WindowLock,
        statement: &'static Statement,
        read: Read<T>,
    ) -> impl Future<Output = Result<(Self::Session, Option<T>), StoreError>> + Send {
        begin_then_ask(self, lock, statement, read)
    }

    /// What its units stood in last, where they may defer the window's lock.
    fn standing(&self) -> Option<&Arc<Standing>> {
        None
    }

    /// A session for a unit that defers it: it is in no transaction, and each statement sees what is
    /// committed.
    fn begin_deferred(&self) -> impl Future<Output = Result<Self::Session, StoreError>> + Send {
        async { Err(never_deferred()) }
    }

    /// A session for single questions, each of which sees what is committed.
    fn ask(&self) -> impl Future<Output = Result<Self::Session, StoreError>> + Send;

    /// A session that sees everything as of one instant.
    fn snapshot(&self) -> impl Future<Output = Result<Self::Session, StoreError>> + Send;

    /// Brings the schema up to date.
    fn migrate(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Fails where the schema is not exactly the one that this version works on.
    fn check_schema(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Waits until the database can no longer be relied on in this process.
    fn failed(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Closes all connections.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// What an engine answers whose units never defer the window's lock.
fn never_deferred() -> StoreError {
    StoreError::Unsuitable("units of this engine hold the window from the beginning".into())
}

/// [`Session::fetch_asking`] where nothing but rows can be asked for.
pub(crate) async fn fetch_alone<S: Session + ?Sized, T: Send>(
    session: &mut S,
    statement: &'static Statement,
    rows: Rows,
    read: Read<T>,
    others: &[OnRows],
) -> Result<(Vec<T>, Vec<bool>), StoreError> {
    let found = session.fetch(statement, rows, read).await?;
    Ok((found, vec![true; others.len()]))
}

/// [`Session::execute_all`] where it is a call of the database for each statement.
pub(crate) async fn execute_each<S: Session + ?Sized>(
    session: &mut S,
    writes: Vec<OnRows>,
) -> Result<Vec<u64>, StoreError> {
    let mut written = Vec::with_capacity(writes.len());
    for OnRows { statement, rows } in writes {
        written.push(session.execute(statement, rows).await?);
    }
    Ok(written)
}

/// [`Engine::begin_asking`] where it is two calls of the database.
pub(crate) async fn begin_then_ask<E: Engine + ?Sized, T: Send>(
    engine: &E,
    lock: WindowLock,
    statement: &'static Statement,
    read: Read<T>,
) -> Result<(E::Session, Option<T>), StoreError> {
    let mut session = engine.begin(lock).await?;
    let found = fetch_one(&mut session, statement, Rows::none(), read).await?;
    Ok((session, found))
}

/// Runs a statement on one row of arguments that answers with at most one row.
pub(crate) async fn fetch_one<S: Session, T: Send>(
    session: &mut S,
    statement: &'static Statement,
    rows: Rows,
    read: Read<T>,
) -> Result<Option<T>, StoreError> {
    Ok(session
        .fetch(statement, rows, read)
        .await?
        .into_iter()
        .next())
}

/// Runs a statement that must write a row for each row given: a short count is a conflict.
pub(crate) async fn write_all<S: Session>(
    session: &mut S,
    statement: &'static Statement,
    rows: Rows,
) -> Result<(), StoreError> {
    let expected = rows.len() as u64;
    if session.execute(statement, rows).await? == expected {
        Ok(())
    } else {
        Err(StoreError::Conflict)
    }
}

/// A new id, for what a store itself lays down: the network and its first window.
pub(crate) fn mint(now: Timestamp) -> uuid::Uuid {
    let mut seed = [0; 6];
    // The first six bytes of a random UUID are random throughout.
    seed.copy_from_slice(&uuid::Uuid::new_v4().as_bytes()[..6]);
    coalition_ledger::ids::IdMint::new(seed).mint(now)
}
