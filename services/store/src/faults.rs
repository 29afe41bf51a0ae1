//! Faults on purpose, for tests: a database that fails at a call of one's choice.
//!
//! Every statement of a unit of work passes the narrow waist of [`Engine`] and [`Session`], so that
//! this is the one place where it can be made to fail, before it is run or after (then its answer is
//! lost). Compiled for tests alone (feature `faults`): no node can be built with it by default, and
//! a test of the workspace holds the features of the binary to that. The crate `fail` does the same
//! with names in a registry of the whole process; here each store has faults of its own, so that
//! tests run side by side, and no call can be forgotten. Absent: faults of readers and scans, which
//! write nothing.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Notify;

use crate::codec::Rows;
use crate::durable::Durable;
use crate::error::StoreError;
use crate::open::PoolSettings;
use crate::postgres::PostgresStore;
use crate::session::{Engine, OnRows, Read, Session, begin_then_ask, execute_each};
use crate::sqlite::SqliteStore;
use crate::standing::Standing;
use crate::statements::{BROKEN, Statement};
use crate::traits::{Frame, Store, WindowLock};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The database answers with an error that is nobody's turn to mend.
    Refused,
    /// The database answers that another writer was first.
    Conflict,
    /// The connection breaks.
    Lost,
    /// The code around the call panics.
    Panic,
    /// The process ends from one moment to the next.
    Abort,
}

/// On which side of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum When {
    /// The call does not reach the database.
    Before,
    /// The call has run, and its answer does not arrive.
    After,
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// On which side of the call.
    pub when: When,
    /// What goes wrong.
    pub kind: Kind,
}

/// The calls of a store's units, counted, and the fault that waits for one of them. Clones share.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

/// What happens before a batch is written.
type BeforeWrites = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

#[derive(Default)]
struct Plan {
    armed: Option<(usize, Fault)>,
    calls: Vec<String>,
    log_syncs: Syncs,
    file_syncs: Syncs,
    in_turns: bool,
    copying: Option<Arc<Notify>>,
    before_writes: Option<BeforeWrites>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut plan = f.debug_struct("Plan");
        plan.field("armed", &self.armed).finish_non_exhaustive()
    }
}

/// How syncs of SQLite's log, or of its file, go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syncs {
    /// As they should.
    #[default]
    Done,
    /// They take until this changes.
    Held,
    /// They fail.
    Failed,
}

/// How often a sync that is held looks whether it still is.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(1);

impl Faults {
    /// Counts from zero again, and fails the call with this number, once.
    pub fn arm(&self, call: usize, fault: Fault) {
        let mut plan = self.plan();
        plan.armed = Some((call, fault));
        plan.calls.clear();
    }

    /// Counts from zero again, without a fault.
    pub fn disarm(&self) {
        let mut plan = self.plan();
        plan.armed = None;
        plan.calls.clear();
    }

    /// From now on syncs of SQLite's log go like this.
    pub fn syncs(&self, go: Syncs) {
        self.plan().log_syncs = go;
    }

    /// From now on syncs of SQLite's file go like this: ours, beside the commits, once the log is copied.
    pub fn file_syncs(&self, go: Syncs) {
        self.plan().file_syncs = go;
    }

    /// Has whoever posts from now on take turns with the callers: those who are there first come in one batch.
    pub fn post_in_turns(&self, in_turns: bool) {
        self.plan().in_turns = in_turns;
    }

    /// From now on `happens` comes before each call by which a batch writes what follows from what it read.
    pub fn before_writes(
        &self,
        happens: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) {
        self.plan().before_writes = Some(Arc::new(happens));
    }

    /// Has SQLite's log copied into the file now, however short it is.
    pub fn copy(&self) {
        if let Some(copying) = &self.plan().copying {
            copying.notify_one();
        }
    }

    /// What has the log copied.
    pub(crate) fn copying(&self, due: Arc<Notify>) {
        self.plan().copying = Some(due);
    }

    /// Passes, waits or fails like a sync of the log that is about to run. Blocks its thread.
    pub(crate) fn before_sync(&self) -> std::io::Result<()> {
        self.go(|plan| plan.log_syncs)
    }

    /// The same of the file.
    pub(crate) fn before_file_sync(&self) -> std::io::Result<()> {
        self.go(|plan| plan.file_syncs)
    }

    fn go(&self, planned: fn(&Plan) -> Syncs) -> std::io::Result<()> {
        loop {
            let syncs = planned(&self.plan());
            match syncs {
                Syncs::Done => return Ok(()),
                Syncs::Held => std::thread::sleep(LOOK_AGAIN),
                Syncs::Failed => return Err(std::io::Error::other("a fault on purpose")),
            }
        }
    }

    /// The calls since it was last armed or disarmed: `begin`, `commit`, `rollback`, or how the
    /// statement begins.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.plan().calls.clone()
    }

    /// Whether the fault still waits for its call.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.plan().armed.is_some()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call; the fault, if it is this one's.
    fn next(&self, call: &str) -> Struck {
        let mut plan = self.plan();
        let number = plan.calls.len();
        plan.calls.push(call.to_owned());
        let fault = plan.armed.take_if(|(armed, _)| *armed == number);
        Struck(fault.map(|(_, fault)| fault))
    }
}

/// The fault of the call at hand.
#[derive(Clone, Copy)]
struct Struck(Option<Fault>);

impl Struck {
    fn is(self, when: When) -> Option<Kind> {
        let fault = self.0.filter(|fault| fault.when == when);
        fault.map(|fault| fault.kind)
    }

    /// Strikes after a commit: whatever it is, the answer is lost.
    fn after_commit(self) -> Result<(), StoreError> {
        let Some(kind) = self.is(When::After) else {
            return Ok(());
        };
        end(kind);
        Err(StoreError::UnknownCommit(lost().into()))
    }
}

/// The tables that are written to.
fn tables(writes: &[OnRows]) -> String {
    let tables: Vec<_> = writes.iter().map(|write| write.statement.table()).collect();
    tables.join(", ")
}

/// Opens a database as [`crate::open`] does, with faults.
///
/// # Errors
///
/// As [`crate::open`].
pub async fn open(
    url: &str,
    settings: &PoolSettings,
    faults: &Faults,
) -> Result<Arc<dyn Store>, StoreError> {
    let faults = faults.clone();
    Ok(match url.strip_prefix("sqlite:") {
        Some(path) => {
            let inner = SqliteStore::open(path.as_ref(), settings).await?;
            inner.trouble(&faults).await;
            Arc::new(Faulty { inner, faults })
        }
        None => Arc::new(Faulty {
            inner: PostgresStore::connect(url, settings)?,
            faults,
        }),
    })
}

/// An engine whose units fail as planned.
struct Faulty<E> {
    inner: E,
    faults: Faults,
}

/// A session that fails as planned; one without faults is a reader's.
struct FaultySession<S> {
    inner: S,
    faults: Option<Faults>,
}

/// What cannot go on: the process, or the code around the call.
fn end(kind: Kind) {
    match kind {
        Kind::Panic => panic!("a fault on purpose"),
        Kind::Abort => std::process::abort(),
        Kind::Refused | Kind::Conflict | Kind::Lost => {}
    }
}

fn lost() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into())
}

impl<E: Engine> Faulty<E> {
    /// Begins a unit, if that does not go wrong.
    async fn begin_struck<T>(
        &self,
        begun: impl Future<Output = Result<(E::Session, T), StoreError>>,
    ) -> Result<(FaultySession<E::Session>, T), StoreError> {
        let struck = self.faults.next("begin");
        match struck.is(When::Before) {
            Some(Kind::Lost) => return Err(StoreError::Unavailable(lost())),
            Some(Kind::Conflict) => return Err(StoreError::Conflict),
            Some(Kind::Refused) => return Err(StoreError::Database(sqlx::Error::WorkerCrashed)),
            Some(kind) => end(kind),
            None => {}
        }
        let (mut inner, found) = begun.await?;
        if let Some(kind) = struck.is(When::After) {
            // What has begun is dropped here, as whoever does not hear of it would.
            return Err(strike(&mut inner, kind).await);
        }
        let faults = Some(self.faults.clone());
        Ok((FaultySession { inner, faults }, found))
    }
}

impl<E: Engine> Engine for Faulty<E> {
    type Session = FaultySession<E::Session>;

    fn is_at_hand(&self) -> bool {
        self.inner.is_at_hand() && !self.faults.plan().in_turns
    }

    async fn begin(&self, lock: WindowLock) -> Result<Self::Session, StoreError> {
        let begun = async { Ok((self.inner.begin(lock).await?, ())) };
        self.begin_struck(begun).await.map(|(session, ())| session)
    }

    async fn begin_asking<T: Send>(
        &self,
        lock: WindowLock,
        statement: &'static Statement,
        read: Read<T>,
    ) -> Result<(Self::Session, Option<T>), StoreError> {
        if E::Session::TOGETHER {
            let begun = self.inner.begin_asking(lock, statement, read);
            return self.begin_struck(begun).await;
        }
        begin_then_ask(self, lock, statement, read).await
    }

    fn standing(&self) -> Option<&Arc<Standing>> {
        self.inner.standing()
    }

    /// No call of the database.
    async fn begin_deferred(&self) -> Result<Self::Session, StoreError> {
        let inner = self.inner.begin_deferred().await?;
        let faults = Some(self.faults.clone());
        Ok(FaultySession { inner, faults })
    }

    async fn ask(&self) -> Result<Self::Session, StoreError> {
        let inner = self.inner.ask().await?;
        let faults = None;
        Ok(FaultySession { inner, faults })
    }

    async fn snapshot(&self) -> Result<Self::Session, StoreError> {
        let inner = self.inner.snapshot().await?;
        let faults = None;
        Ok(FaultySession { inner, faults })
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        self.inner.migrate().await
    }

    async fn check_schema(&self) -> Result<(), StoreError> {
        self.inner.check_schema().await
    }

    async fn failed(&self) {
        self.inner.failed().await;
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// What the caller gets to hear of a statement that went wrong: the database's own words where it
/// can be made to say them.
async fn strike<S: Session>(session: &mut S, kind: Kind) -> StoreError {
    end(kind);
    match kind {
        Kind::Refused => match session.execute(&BROKEN, Rows::none()).await {
            Err(refused) => refused,
            Ok(_) => StoreError::Database(sqlx::Error::WorkerCrashed),
        },
        Kind::Conflict => StoreError::Conflict,
        _ => {
            session.sever().await;
            StoreError::Unavailable(lost())
        }
    }
}

impl<S: Session> FaultySession<S> {
    fn next(&self, call: &str) -> Struck {
        let faults = self.faults.as_ref();
        faults.map_or(Struck(None), |faults| faults.next(call))
    }

    /// What was planned to happen before a batch is written.
    async fn before_writes(&mut self) {
        let faults = self.faults.as_ref();
        let happens = faults.and_then(|faults| faults.plan().before_writes.clone());
        if let Some(happens) = happens {
            happens().await;
        }
    }

    /// A statement that answers with an empty set without being run is no call.
    fn next_statement(&self, statement: &Statement, rows: &Rows) -> Struck {
        if statement.is_set() && rows.len() == 0 {
            return Struck(None);
        }
        self.next(statement.gist())
    }

    /// Strikes before a call; a connection that is lost there makes the call itself fail.
    async fn before(&mut self, struck: Struck) -> Result<(), StoreError> {
        match struck.is(When::Before) {
            None => Ok(()),
            Some(Kind::Lost) => {
                self.inner.sever().await;
                Ok(())
            }
            Some(kind) => Err(strike(&mut self.inner, kind).await),
        }
    }

    async fn after(&mut self, struck: Struck) -> Result<(), StoreError> {
        match struck.is(When::After) {
            None => Ok(()),
            Some(kind) => Err(strike(&mut self.inner, kind).await),
        }
    }
}

impl<S: Session> Session for FaultySession<S> {
    const LIVE_LOTS: &'static Statement = S::LIVE_LOTS;
    const UPDATE_MEMBERS_NOT_DUE: Option<&'static Statement> = S::UPDATE_MEMBERS_NOT_DUE;

    async fn fetch<T: Send>(
        &mut self,
        statement: &'static Statement,
        rows: Rows,
        read: Read<T>,
    ) -> Result<Vec<T>, StoreError> {
        let struck = self.next_statement(statement, &rows);
        self.before(struck).await?;
        let found = self.inner.fetch(statement, rows, read).await?;
        self.after(struck).await?;
        Ok(found)
    }

    async fn execute(
        &mut self,
        statement: &'static Statement,
        rows: Rows,
    ) -> Result<u64, StoreError> {
        let struck = self.next_statement(statement, &rows);
        self.before(struck).await?;
        let written = self.inner.execute(statement, rows).await?;
        self.after(struck).await?;
        Ok(written)
    }

    const TOGETHER: bool = S::TOGETHER;
    const IN_ORDER: bool = S::IN_ORDER;

    async fn fetch_asking<T: Send>(
        &mut self,
        statement: &'static Statement,
        rows: Rows,
        read: Read<T>,
        others: Vec<OnRows>,
    ) -> Result<(Vec<T>, Vec<bool>), StoreError> {
        let struck = self.next(statement.gist());
        self.before(struck).await?;
        let asked = self.inner.fetch_asking(statement, rows, read, others);
        let found = asked.await?;
        self.after(struck).await?;
        Ok(found)
    }

    async fn execute_all(&mut self, writes: Vec<OnRows>) -> Result<Vec<u64>, StoreError> {
        self.before_writes().await;
        if !S::TOGETHER {
            return execute_each(self, writes).await;
        }
        let struck = self.next(&format!("write {}", tables(&writes)));
        self.before(struck).await?;
        let written = self.inner.execute_all(writes).await?;
        self.after(struck).await?;
        Ok(written)
    }

    async fn hold_asking<T: Send>(
        &mut self,
        statement: &'static Statement,
        read: Read<T>,
    ) -> Result<Option<T>, StoreError> {
        let struck = self.next("begin");
        self.before(struck).await?;
        let found = self.inner.hold_asking(statement, read).await?;
        self.after(struck).await?;
        Ok(found)
    }

    async fn write_at_once(
        &mut self,
        frame: &Frame,
        writes: Vec<OnRows>,
    ) -> Result<Duration, StoreError> {
        self.before_writes().await;
        let struck = self.next(&format!("write {} and commit", tables(&writes)));
        self.before(struck).await?;
        let waited = self.inner.write_at_once(frame, writes).await?;
        struck.after_commit().map(|()| waited)
    }

    async fn commit_ahead(mut self) -> Result<Durable, StoreError> {
        let struck = self.next("commit");
        self.before(struck).await?;
        let durable = self.inner.commit_ahead().await?;
        struck.after_commit().map(|()| durable)
    }

    fn seen(&self) -> Durable {
        self.inner.seen()
    }

    async fn rollback(mut self) -> Result<(), StoreError> {
        let struck = self.next("rollback");
        self.before(struck).await?;
        self.inner.rollback().await?;
        match struck.is(When::After) {
            None => Ok(()),
            Some(kind) => {
                end(kind);
                Err(StoreError::Unavailable(lost()))
            }
        }
    }

    async fn sever(&mut self) {
        self.inner.sever().await;
    }
}
