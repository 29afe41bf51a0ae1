//! A unit of work at work: its calls, its faults, its row locks and its end.
//!
//! Like the real one it links a member's transactions: what it posts or declines for a member moves
//! the member's version, at the latest when it commits.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use coalition_ledger::ids::MemberId;
use coalition_ledger::member::{Known, MemberBook};
use coalition_store::{Frame, StoreError, WindowLock};

use super::database::{Commit, Tables, UnitId, Wrote};
use super::sim::{Planted, Process, unavailable};
use super::table::Table;
use super::weather::CommitFate;

/// Whether a row may become what a unit makes of it; the unit is refused where not.
pub(crate) type Judged<V> = Option<Option<V>>;

/// How a unit stands to the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Now,
    /// It takes its frame to hold until it writes.
    Deferred,
    /// It was committed where it wrote.
    Before,
}

/// A unit at work.
pub(crate) struct SimUnit {
    pub(crate) process: Arc<Process>,
    id: UnitId,
    frame: Frame,
    window: Held,
    began_after: u64,
    pub(crate) wrote: Wrote,
    /// Members whose rows the unit knows: the version, and whether a transaction is still to be
    /// linked to the row.
    pub(crate) tails: BTreeMap<MemberId, (i64, bool)>,
    has_failed: bool,
}

impl SimUnit {
    pub(crate) fn new(process: Arc<Process>, id: UnitId, frame: Frame) -> Self {
        Self {
            process,
            id,
            frame,
            window: Held::Now,
            began_after: 0,
            wrote: Wrote::default(),
            tails: BTreeMap::new(),
            has_failed: false,
        }
    }

    /// The unit takes this to be what it stands in.
    pub(crate) fn defers(&mut self, frame: Frame) {
        self.window = Held::Deferred;
        self.frame = frame;
        let mut state = self.process.sim.state();
        self.began_after = state.db.commits();
        let (number, id, began) = (self.process.number, self.id, self.began_after);
        state.note(|| format!("p{number} u{id} begins deferred after commit {began}"));
    }

    /// The unit queues for the window until it has it.
    pub(crate) async fn take_window(&mut self, lock: WindowLock) {
        let granted = self.process.sim.state().db.queue(self.id, lock);
        if granted.await.is_err() {
            // The unit was ended with its process.
            std::future::pending::<()>().await;
        }
        self.process.turn().await;
        self.process
            .trace(|| format!("u{} holds the window {lock:?}", self.id));
    }

    /// The unit holds the window: what it stands in, unless it knows better.
    pub(crate) fn stands(&mut self, early: Option<Frame>) -> Frame {
        let mut state = self.process.sim.state();
        self.frame = early.unwrap_or_else(|| state.db.tables.frame());
        self.began_after = state.db.commits();
        let (number, id, began) = (self.process.number, self.id, self.began_after);
        state.note(|| format!("p{number} u{id} begins after commit {began}"));
        self.frame
    }

    /// Whether the frame that the unit was told is the one that is committed.
    fn told_right(&mut self) -> Result<(), StoreError> {
        let found = self.process.sim.state().db.tables.frame();
        self.process.stand(found, WindowLock::Deferred);
        if found == self.frame || self.process.sim.has(Planted::ForgottenFrame) {
            return Ok(());
        }
        self.process
            .trace(|| format!("u{} stood in another frame", self.id));
        self.has_failed = true;
        Err(StoreError::Conflict)
    }

    /// A unit that deferred the window takes it; whether it was one.
    pub(crate) async fn hold(&mut self) -> Result<bool, StoreError> {
        if self.window != Held::Deferred {
            return Ok(false);
        }
        self.call("hold", true).await?;
        self.take_window(WindowLock::Shared).await;
        self.told_right()?;
        self.window = Held::Now;
        Ok(true)
    }

    /// A unit that deferred the window up to here may be committed by what it wrote.
    pub(crate) async fn wrote_all(&mut self, was_deferred: bool) -> Result<(), StoreError> {
        let is_all = self.tails.values().all(|(_, is_moved)| !is_moved);
        if was_deferred && is_all && self.process.sim.state().rng.bool() {
            self.window = Held::Before;
            return self.end_stored().await;
        }
        Ok(())
    }

    /// A unit that deferred the window and writes nothing makes sure of its frame.
    pub(crate) async fn confirm(&mut self) -> Result<(), StoreError> {
        if self.window == Held::Deferred {
            self.call("confirm", false).await?;
            self.told_right()?;
        }
        Ok(())
    }

    /// Whether there is nothing left to commit.
    pub(crate) fn is_stored(&self) -> bool {
        self.window == Held::Before
    }

    /// A call of the unit: time passes, and something may go wrong.
    pub(crate) async fn call(
        &mut self,
        what: &'static str,
        writes: bool,
    ) -> Result<(), StoreError> {
        self.process.turn().await;
        if self.has_failed {
            self.process
                .sim
                .violation(format!("{what} in a unit that has failed"));
            return Err(StoreError::Conflict);
        }
        let error = {
            let mut state = self.process.sim.state();
            let (number, id, weather) = (self.process.number, self.id, state.weather);
            let error = if state.chance(weather.broken) {
                Some(unavailable())
            } else if writes && state.chance(weather.conflict) {
                Some(StoreError::Conflict)
            } else {
                None
            };
            state.note(|| match &error {
                None => format!("p{number} u{id} {what}"),
                Some(error) => format!("p{number} u{id} {what}: injected: {error}"),
            });
            error
        };
        self.has_failed = error.is_some();
        error.map_or(Ok(()), Err)
    }

    pub(crate) async fn read<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&Tables, UnitId) -> T + Send,
    ) -> Result<T, StoreError> {
        self.call(what, false).await?;
        Ok(read(&self.process.sim.state().db.tables, self.id))
    }

    /// Writes one row: waits for whoever holds it, then judges it as it is by then.
    pub(crate) async fn put<K, V>(
        &mut self,
        table: fn(&mut Tables) -> &mut Table<K, V>,
        key: K,
        judge: impl FnOnce(Option<&V>) -> Judged<V> + Send,
    ) -> Result<(), StoreError>
    where
        K: Ord + Clone + Debug + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        loop {
            let ended = {
                let mut state = self.process.sim.state();
                let rows = table(&mut state.db.tables);
                let Some(other) = rows.writer(&key).filter(|writer| *writer != self.id) else {
                    break;
                };
                let Some(other_ends) = state.db.wait_for(self.id, other) else {
                    state.note(|| format!("u{} and u{other} wait for each other", self.id));
                    self.has_failed = true;
                    return Err(StoreError::Conflict);
                };
                other_ends.notified_owned()
            };
            ended.await;
            self.process.stop_if_dead().await;
            self.process.sim.state().db.goes_on(self.id);
        }
        let mut state = self.process.sim.state();
        let rows = table(&mut state.db.tables);
        if let Some(row) = judge(rows.seen(self.id, &key)) {
            rows.write(self.id, key, row);
            return Ok(());
        }
        self.has_failed = true;
        let changed = rows.changed_by(&key);
        let (id, began) = (self.id, self.began_after);
        state.note(|| format!("u{id} is refused at {key:?}: changed by commit {changed}"));
        // Whoever is refused was late: somebody changed the row since the unit began.
        if changed <= began {
            state.violation(format!(
                "u{id}, which began after commit {began}, was refused at {key:?}, which nobody \
                 has changed since commit {changed}"
            ));
        }
        Err(StoreError::Conflict)
    }

    /// Moves a member's row on from the version expected; without a book, only what it is linked to.
    pub(crate) async fn move_member(
        &mut self,
        id: MemberId,
        expected: i64,
        book: Option<&MemberBook>,
    ) -> Result<(), StoreError> {
        let is_lost = self.process.sim.has(Planted::LostVersionCheck);
        let change = move |known: Option<&MemberBook>| {
            let known = known.filter(|row| is_lost || row.version == expected)?;
            Some(Some(row_of(book.unwrap_or(known), known.version + 1)))
        };
        self.put(|t| &mut t.members, id, change).await
    }

    /// Links what no change of a member's row has linked: declines.
    async fn move_tails(&mut self) -> Result<(), StoreError> {
        let tails = self.tails.iter().filter(|(_, (_, is_moved))| *is_moved);
        let tails: Vec<_> = tails.map(|(id, (version, _))| (*id, *version)).collect();
        if !tails.is_empty() {
            self.call("move_tails", true).await?;
        }
        for (id, version) in tails {
            self.move_member(id, version, None).await?;
        }
        Ok(())
    }

    /// Ends the unit as a commit does that is stored.
    fn store(&mut self) {
        let commit = Commit {
            frame: self.frame,
            began_after: self.began_after,
            wrote: std::mem::take(&mut self.wrote),
        };
        self.process.sim.state().commit(self.id, commit);
    }

    /// Commits, if that is how it goes.
    pub(crate) async fn end_stored(&mut self) -> Result<(), StoreError> {
        if self.has_failed {
            self.roll_back();
            return Err(StoreError::Conflict);
        }
        if let Err(error) = self.move_tails().await {
            self.roll_back();
            return Err(error);
        }
        self.process.turn().await;
        let fate = {
            let mut state = self.process.sim.state();
            let weather = state.weather;
            weather.commit_fate(&mut state.rng)
        };
        self.process
            .trace(|| format!("u{} commits: {fate:?}", self.id));
        let outcome = match fate {
            CommitFate::Stored => {
                self.store();
                Ok(())
            }
            CommitFate::Failed(error) => {
                self.roll_back();
                Err(error)
            }
            CommitFate::Unknown { stored } => {
                if stored {
                    self.store();
                } else {
                    self.roll_back();
                }
                Err(StoreError::UnknownCommit(Box::new(
                    sqlx::Error::WorkerCrashed,
                )))
            }
        };
        // The answer takes its time; who dies now never hears it.
        self.process.turn().await;
        outcome
    }

    pub(crate) fn roll_back(&self) {
        let mut state = self.process.sim.state();
        if state.db.is_at_work(self.id) {
            state.note(|| format!("u{} is rolled back", self.id));
            state.db.roll_back(self.id);
        }
    }
}

impl Drop for SimUnit {
    fn drop(&mut self) {
        self.roll_back();
    }
}

/// A member's row: the book without what is stored elsewhere.
pub(crate) fn row_of(book: &MemberBook, version: i64) -> MemberBook {
    MemberBook {
        version,
        lots: BTreeMap::new(),
        debts: BTreeMap::new(),
        known: Known::Nothing,
        ..book.clone()
    }
}
