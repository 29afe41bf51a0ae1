//! One simulation: the database, what happens to calls on it, and what was seen.
//!
//! Everything random comes from one seeded generator, everything runs on one thread in simulated
//! time: a seed names a run.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coalition_ledger::{Clock, Timestamp};
use coalition_store::{Frame, StoreError, WindowLock};
use tokio::sync::Notify;

use super::checks;
use super::database::{Commit, Database, Tables, UnitId};
use super::weather::Weather;

/// Lines of a trace that are kept.
const TRACE_LINES: usize = 20_000;

/// A bug that is there on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    /// The version of a member's row is not looked at where the row is written.
    LostVersionCheck,
    /// A charge does not lower the headroom that the next command of its batch sees.
    ForgottenHeadroom,
    /// A unit reads which window is open before it holds the window's lock.
    WindowBeforeLock,
    /// A unit that deferred the window's lock does not look whether what it took to hold does, once it has it.
    ForgottenFrame,
}

/// What all parts of a run share.
pub(crate) struct Sim {
    pub(crate) planted: Option<Planted>,
    state: Mutex<State>,
    clock: Arc<SimClock>,
}

pub(crate) struct State {
    pub(crate) rng: fastrand::Rng,
    pub(crate) db: Database,
    pub(crate) weather: Weather,
    pub(crate) violations: Vec<String>,
    trace: Option<Vec<String>>,
}

impl Sim {
    pub(crate) fn new(
        seed: u64,
        planted: Option<Planted>,
        traced: bool,
        tables: Tables,
        started: Timestamp,
    ) -> Arc<Self> {
        let state = State {
            rng: fastrand::Rng::with_seed(seed),
            db: Database::new(tables),
            weather: Weather::calm(),
            violations: Vec::new(),
            trace: traced.then(Vec::new),
        };
        Arc::new(Self {
            planted,
            state: Mutex::new(state),
            clock: Arc::new(SimClock(AtomicI64::new(started.micros()))),
        })
    }

    pub(crate) fn has(&self, bug: Planted) -> bool {
        self.planted == Some(bug)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // What a panic left behind is looked at, and the run has failed anyway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as Arc<dyn Clock>
    }

    /// Something that must not be.
    pub(crate) fn violation(&self, what: impl Into<String>) {
        self.state().violation(what.into());
    }

    /// A line of the trace, where one is kept.
    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        self.state().note(line);
    }

    /// What was seen: violations and the trace.
    pub(crate) fn seen(&self) -> (Vec<String>, Vec<String>) {
        let mut state = self.state();
        let trace = state.trace.take().unwrap_or_default();
        (std::mem::take(&mut state.violations), trace)
    }
}

impl State {
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = self
            .trace
            .as_mut()
            .filter(|trace| trace.len() < TRACE_LINES)
        {
            trace.push(line());
        }
    }

    pub(crate) fn violation(&mut self, what: String) {
        self.note(|| format!("VIOLATION: {what}"));
        self.violations.push(what);
    }

    pub(crate) fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.rng.u32(0..1_000) < per_mille
    }

    /// Commits a unit, and looks at the books as they are then.
    pub(crate) fn commit(&mut self, unit: UnitId, commit: Commit) {
        let before = checks::Before::of(&self.db, &commit);
        self.db.commit(unit, commit);
        for what in checks::after_commit(&self.db, &before) {
            self.violation(what);
        }
    }
}

/// The system's time: it moves on by a millisecond whenever somebody looks, so that ids ascend over
/// all processes as they would with clocks that agree.
struct SimClock(AtomicI64);

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.fetch_add(1_000, Ordering::Relaxed))
    }
}

/// A process as the database knows it: a client that may die.
pub(crate) struct Process {
    pub(crate) number: u32,
    pub(crate) sim: Arc<Sim>,
    dead: AtomicBool,
    died: Notify,
    /// What its units stood in last.
    stood: Mutex<Option<Frame>>,
}

impl Process {
    pub(crate) fn new(number: u32, sim: Arc<Sim>) -> Arc<Self> {
        Arc::new(Self {
            number,
            sim,
            dead: AtomicBool::new(false),
            died: Notify::new(),
            stood: Mutex::default(),
        })
    }

    /// What a unit that defers its lock takes to hold.
    pub(crate) fn stood(&self) -> Option<Frame> {
        *self.stood.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A unit found this under this lock.
    pub(crate) fn stand(&self, frame: Frame, lock: WindowLock) {
        let is_shared = lock != WindowLock::Exclusive;
        let stood = is_shared.then_some(frame);
        *self.stood.lock().unwrap_or_else(PoisonError::into_inner) = stood;
    }

    /// Kills the process: nothing of it goes on, the server ends its units.
    pub(crate) fn kill(&self) {
        let mut state = self.sim.state();
        state.note(|| format!("p{} is killed", self.number));
        self.dead.store(true, Ordering::Release);
        state.db.lose(self.number);
        drop(state);
        self.died.notify_waiters();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// Waits for the process's death.
    pub(crate) async fn death(&self) {
        let died = self.died.notified();
        if !self.is_dead() {
            died.await;
        }
    }

    /// Whoever runs in a dead process stops here for ever.
    pub(crate) async fn stop_if_dead(&self) {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    /// The time that a call takes, in which others go on.
    pub(crate) async fn turn(&self) {
        let pause_ms = {
            let mut state = self.sim.state();
            let State { rng, weather, .. } = &mut *state;
            weather.latency_ms(rng)
        };
        pass(pause_ms).await;
        self.stop_if_dead().await;
    }

    /// A line of the trace about this process.
    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        let number = self.number;
        self.sim.trace(|| format!("p{number} {}", line()));
    }
}

/// Lets simulated time pass; no thread waits for it.
pub(crate) async fn pass(milliseconds: u64) {
    if milliseconds > 0 {
        let until = tokio::time::Instant::now() + Duration::from_millis(milliseconds);
        tokio::time::sleep_until(until).await;
    }
}

/// The database cannot be reached.
pub(crate) fn unavailable() -> StoreError {
    StoreError::Unavailable(sqlx::Error::PoolTimedOut)
}
