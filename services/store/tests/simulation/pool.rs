//! The processes of a run, and who kills them.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use coalition_store::Store;
use coalition_store::operations::Operations;
use coalition_store::poster::{Poster, PosterSettings};

use super::sim::{Process, Sim, pass};
use super::store::SimStore;

/// Looks at the processes in a run, at most: a run ends long before.
const LOOKS: u32 = 10_000;

/// A process at work.
pub(crate) struct Running {
    pub(crate) process: Arc<Process>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) poster: Poster,
    pub(crate) operations: Operations,
    closing: AtomicBool,
}

impl Running {
    /// Whether it was asked to shut down.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

/// The processes that callers find.
pub(crate) struct Pool {
    pub(crate) sim: Arc<Sim>,
    slots: Mutex<Vec<Arc<Running>>>,
    started: AtomicU32,
    settings: PosterSettings,
    done: AtomicBool,
}

impl Pool {
    pub(crate) fn new(sim: &Arc<Sim>) -> Arc<Self> {
        let (processes, batch_commands) = {
            let mut state = sim.state();
            (state.rng.usize(1..=4), state.rng.usize(1..=8))
        };
        let pool = Self {
            sim: Arc::clone(sim),
            slots: Mutex::default(),
            started: AtomicU32::new(0),
            settings: PosterSettings {
                batch_commands,
                ..PosterSettings::default()
            },
            done: AtomicBool::new(false),
        };
        let running: Vec<_> = (0..processes).map(|_| pool.start()).collect();
        *pool.slots() = running;
        Arc::new(pool)
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Running>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a process, which no caller finds yet.
    pub(crate) fn start(&self) -> Arc<Running> {
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        let process = Process::new(number, Arc::clone(&self.sim));
        let store: Arc<dyn Store> = Arc::new(SimStore {
            process: Arc::clone(&process),
        });
        let seed = |kind: u8| {
            let [.., high, low] = number.to_be_bytes();
            [kind, 0, 0, 0, high, low]
        };
        let clock = self.sim.clock();
        let poster = Poster::start(
            Arc::clone(&store),
            Arc::clone(&clock),
            seed(1),
            self.settings,
        );
        let operations = Operations::new(Arc::clone(&store), poster.clone(), clock, seed(2));
        Arc::new(Running {
            process,
            store,
            poster,
            operations,
            closing: AtomicBool::new(false),
        })
    }

    /// A process for a call.
    pub(crate) fn pick(&self) -> Arc<Running> {
        let slots = self.slots();
        let place = self.sim.state().rng.usize(0..slots.len());
        Arc::clone(&slots[place])
    }

    /// Puts a new process in the place of another.
    fn replace(&self) -> Arc<Running> {
        let new = self.start();
        let mut slots = self.slots();
        let place = self.sim.state().rng.usize(0..slots.len());
        std::mem::replace(&mut slots[place], new)
    }

    /// No more trouble.
    pub(crate) fn finish(&self) {
        self.done.store(true, Ordering::Release);
    }

    /// Kills and restarts processes while the run goes on.
    pub(crate) async fn trouble(self: Arc<Self>) {
        for _ in 0..LOOKS {
            if self.done.load(Ordering::Acquire) {
                return;
            }
            let (pause_ms, kills, restarts) = {
                let mut state = self.sim.state();
                let weather = state.weather;
                let pause_ms = state.rng.u64(3..=30);
                (
                    pause_ms,
                    state.chance(weather.killed),
                    state.chance(weather.restarted),
                )
            };
            if kills {
                self.replace().process.kill();
            }
            if restarts {
                let old = self.replace();
                old.closing.store(true, Ordering::Release);
                old.process.trace(|| "shuts down".to_owned());
                old.poster.shut_down().await;
                old.process.trace(|| "is shut down".to_owned());
            }
            pass(pause_ms).await;
        }
    }
}
