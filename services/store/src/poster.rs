//! The poster: group commit.
//!
//! Commands wait in a bounded queue. One task takes what waits, fetches what the commands need,
//! lets the ledger decide them in order, writes all effects in one database transaction, and
//! answers each caller only once that is durable. There is no timer: while one batch is at work, the
//! next gathers; and where a commit needs a while longer to be durable, the next batch does not wait
//! for that, only the callers do. Batches of several processes meet optimistically: whoever finds that
//! another was first runs the batch again, and after a few times has the open window alone. Where the
//! database works on the thread of whoever calls it, that task has a thread of its own.
//!
//! [`prefetch`] finds out what a batch needs, [`persist`] writes what it changed, [`telling`] answers
//! the callers, [`timings`] tells of slow ones.

pub(crate) mod persist;
pub(crate) mod prefetch;
mod telling;
mod timings;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coalition_ledger::apply::{Setting, apply};
use coalition_ledger::command::Command;
use coalition_ledger::decision::{Decision, Refusal};
use coalition_ledger::ids::IdMint;
use coalition_ledger::rulebook::{DEFAULT_STORE_AND_FORWARD_MICROS, Rulebook};
use coalition_ledger::{Clock, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::caught::{caught, commit};
use crate::door::Door;
use crate::durable::Durable;
use crate::error::StoreError;
use crate::store::WINDOW_LOG;
use crate::traits::{Frame, Store, Unit, WindowLock};
use prefetch::Wanted;
use telling::{Settled, Teller};
pub use timings::SLOW_BATCHES;
pub(crate) use timings::{Step, Timings};

/// Calls that may wait for a batch, unless set otherwise; one more is told to come back.
pub const QUEUE_CALLS: usize = 4_096;
/// Most commands in one batch, unless set otherwise.
pub const BATCH_COMMANDS: usize = 512;
/// How long a batch takes before the log tells where the time went, unless set otherwise.
pub const SLOW_BATCH: Duration = Duration::from_secs(1);
/// How often a batch is tried that another writer was always faster than. Whoever loses so often, as a
/// batch that takes long does against short ones, has the open window alone: nobody can be first any more.
const SHARED_ATTEMPTS: u32 = 4;
/// How often it is tried alone, before it is a fault.
const LONE_ATTEMPTS: u32 = 2;

/// Why a command has no decision.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PostError {
    /// Too many calls wait already; nothing was done, try again shortly.
    #[error("too many calls wait")]
    QueueFull,
    /// The poster is shutting down; nothing was done, try again (elsewhere).
    #[error("shutting down")]
    ShuttingDown,
    /// The database could not be reached; nothing was done.
    #[error("the books cannot be written at the moment")]
    Unavailable(#[source] Arc<StoreError>),
    /// The connection broke during the commit: only the same request, sent again, can tell.
    #[error("the outcome is unknown")]
    Unknown(#[source] Arc<StoreError>),
    /// The books are damaged; posting has stopped until somebody looks.
    #[error("posting has stopped: the books are damaged")]
    Stopped,
    /// The database refused, or a bug was met; nothing was done.
    #[error("the books could not be written")]
    Failed(#[source] Arc<StoreError>),
}

/// How a poster works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PosterSettings {
    /// Most commands in one batch; at least 1. Calls are never split: one that brings more commands
    /// makes a batch of its own. With 1, each call is on disk before the next begins: no two share a sync.
    pub batch_commands: usize,
    /// How long a batch takes before the log tells where the time went.
    pub slow_batch: Duration,
    /// Calls that may wait for a batch; at least 1. One more is told to come back, at once.
    pub queue_calls: usize,
}

impl Default for PosterSettings {
    fn default() -> Self {
        Self {
            batch_commands: BATCH_COMMANDS,
            slow_batch: SLOW_BATCH,
            queue_calls: QUEUE_CALLS,
        }
    }
}

/// Commands that one caller sent together, and where the answers go.
struct Job {
    commands: Vec<Command>,
    asked: Instant,
    answer: oneshot::Sender<Result<Vec<Decision>, PostError>>,
}

/// The way into the books; clones share one queue.
#[derive(Clone)]
pub struct Poster {
    queue: mpsc::Sender<Job>,
    worker: Arc<Mutex<Option<JoinHandle<()>>>>,
    closing: Arc<AtomicBool>,
    brake: Brake,
    door: Arc<Door>,
}

/// What stops posting for good: pulled once the books are found damaged, by whoever finds it.
#[derive(Clone)]
struct Brake(Arc<watch::Sender<bool>>);

impl Brake {
    fn is_pulled(&self) -> bool {
        *self.0.borrow()
    }

    fn pull(&self, what: &str) {
        if !self.0.send_replace(true) {
            tracing::error!(what, "the books are damaged: posting stops here");
        }
    }
}

impl Poster {
    /// Starts the poster of this process on `store`. `seed` is random: it keeps its ids apart from
    /// those of other processes.
    #[must_use]
    pub fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        seed: [u8; 6],
        settings: PosterSettings,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(settings.queue_calls.max(1));
        let brake = Brake(Arc::new(watch::Sender::new(false)));
        let worker = Worker {
            store,
            teller: Teller::start(settings.batch_commands <= 1),
            clock,
            mint: IdMint::new(seed),
            rulebook: Arc::new(Rulebook::default()),
            settings,
            brake: brake.clone(),
        };
        let handle = if worker.store.is_at_hand() {
            on_a_thread(worker.run(waiting))
        } else {
            tokio::spawn(worker.run(waiting))
        };
        Self {
            queue,
            worker: Arc::new(Mutex::new(Some(handle))),
            closing: Arc::new(AtomicBool::new(false)),
            brake,
            door: Arc::new(Door::new("calls that wait to be posted")),
        }
    }

    /// Whether posting has stopped because the books are damaged.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.brake.is_pulled()
    }

    /// Waits until posting has stopped because the books are damaged; for ever, if they never are.
    pub async fn stopped(&self) {
        // The sender is held here: it cannot be gone.
        let _ = self.brake.0.subscribe().wait_for(|pulled| *pulled).await;
    }

    /// Stops posting: somebody else found the books damaged.
    pub(crate) fn stop(&self, what: &str) {
        self.brake.pull(what);
    }

    /// Decides one command; the answer is durable.
    pub async fn post(&self, command: Command) -> Result<Decision, PostError> {
        let mut decisions = self.post_all(vec![command]).await?;
        decisions.pop().ok_or(PostError::Stopped)
    }

    /// Decides commands in order within one batch; one decision per command, all durable.
    pub async fn post_all(&self, commands: Vec<Command>) -> Result<Vec<Decision>, PostError> {
        if self.closing.load(Ordering::Acquire) {
            return Err(PostError::ShuttingDown);
        }
        if commands.is_empty() {
            // Which would be the word that nothing follows.
            return Ok(Vec::new());
        }
        let (answer, decided) = oneshot::channel();
        self.queue
            .try_send(Job {
                commands,
                asked: Instant::now(),
                answer,
            })
            .map_err(|refused| match refused {
                mpsc::error::TrySendError::Full(_) => {
                    self.door.turn_away();
                    PostError::QueueFull
                }
                mpsc::error::TrySendError::Closed(_) => PostError::ShuttingDown,
            })?;
        decided.await.map_err(|_| PostError::ShuttingDown)?
    }

    /// Takes no further commands, decides those that wait, and ends.
    pub async fn shut_down(&self) {
        self.closing.store(true, Ordering::Release);
        let mut worker = self.worker.lock().await;
        if let Some(handle) = worker.take() {
            // An empty job wakes the worker, which sees that it is the last.
            let (answer, _) = oneshot::channel();
            let last = Job {
                commands: Vec::new(),
                asked: Instant::now(),
                answer,
            };
            if self.queue.send(last).await.is_ok()
                && let Err(error) = handle.await
            {
                tracing::error!(%error, "the poster ended badly");
            }
        }
    }
}

/// Runs a task on a thread of its own. As any other it is dropped where it waits once the runtime is, which
/// would else wait for the thread.
fn on_a_thread(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let runtime = Handle::current();
    let runtime_gone = CancellationToken::new();
    let dropped_with_it = runtime_gone.clone().drop_guard();
    let dropped = tokio::spawn(async move {
        let _dropped_with_it = dropped_with_it;
        std::future::pending::<()>().await;
    });
    tokio::task::spawn_blocking(move || {
        runtime.block_on(runtime_gone.run_until_cancelled(task));
        dropped.abort();
    })
}

/// What a batch was decided to be, and when it may be told.
struct Decided {
    decisions: Vec<Decision>,
    durable: Durable,
}

impl Decided {
    /// Decisions by which nothing is written.
    const fn nothing(decisions: Vec<Decision>) -> Self {
        Self {
            decisions,
            durable: Durable::already(),
        }
    }
}

struct Worker {
    store: Arc<dyn Store>,
    teller: Teller,
    clock: Arc<dyn Clock>,
    mint: IdMint,
    rulebook: Arc<Rulebook>,
    settings: PosterSettings,
    brake: Brake,
}

impl Worker {
    async fn run(mut self, mut waiting: mpsc::Receiver<Job>) {
        let mut held_back: Option<Job> = None;
        loop {
            let Some(first) = (match held_back.take() {
                Some(job) => Some(job),
                None => waiting.recv().await,
            }) else {
                break;
            };
            let mut jobs = vec![first];
            let mut count = jobs.iter().map(|job| job.commands.len()).sum::<usize>();
            while count < self.settings.batch_commands {
                let Ok(job) = waiting.try_recv() else { break };
                if count + job.commands.len() > self.settings.batch_commands {
                    held_back = Some(job);
                    break;
                }
                count += job.commands.len();
                jobs.push(job);
            }
            let last = jobs.iter().any(|job| job.commands.is_empty());
            if last {
                waiting.close();
            }
            self.answer(jobs).await;
        }
        self.teller.finish().await;
    }

    /// Decides a batch and answers its callers.
    async fn answer(&mut self, jobs: Vec<Job>) {
        let commands: Vec<Command> = jobs.iter().flat_map(|job| job.commands.clone()).collect();
        let mut timings = Timings::start();
        let decided = self.decide(&commands, &mut timings).await;
        match decided {
            Err(PostError::Failed(error)) if jobs.len() > 1 => {
                tracing::warn!(%error, "a batch failed: posting its calls one by one");
                for job in jobs {
                    let mut timings = Timings::start();
                    let decided = self.decide(&job.commands, &mut timings).await;
                    self.tell(vec![job], decided, timings).await;
                }
            }
            decided => self.tell(jobs, decided, timings).await,
        }
    }

    async fn tell(&self, jobs: Vec<Job>, decided: Result<Decided, PostError>, timings: Timings) {
        let slow_batch = self.settings.slow_batch;
        match decided {
            Ok(decided) => {
                let settled = Settled {
                    jobs,
                    decided,
                    timings,
                    slow_batch,
                };
                self.teller.tell(settled).await;
            }
            Err(error) => {
                if let Some(first) = jobs.first() {
                    let commands = jobs.iter().map(|job| job.commands.len()).sum();
                    timings.tell(commands, first.asked, slow_batch);
                }
                for job in jobs {
                    let _ = job.answer.send(Err(error.clone()));
                }
            }
        }
    }

    async fn decide(
        &mut self,
        commands: &[Command],
        timings: &mut Timings,
    ) -> Result<Decided, PostError> {
        if commands.is_empty() {
            return Ok(Decided::nothing(Vec::new()));
        }
        if self.brake.is_pulled() {
            return Err(PostError::Stopped);
        }
        let mut lost = 0;
        let mut is_in_doubt = false;
        loop {
            timings.attempt();
            let lock = if lost >= SHARED_ATTEMPTS || is_in_doubt {
                tracing::debug!(target: WINDOW_LOG, "a batch asks for it alone");
                WindowLock::Exclusive
            } else if lost == 0 {
                WindowLock::Deferred
            } else {
                WindowLock::Shared
            };
            let error = match self.attempt(lock, commands, timings).await {
                Ok(decided) => return Ok(decided),
                Err(error) => error,
            };
            match error {
                StoreError::Conflict => {
                    lost += 1;
                    timings.lap(Step::Retry);
                    if lost >= SHARED_ATTEMPTS + LONE_ATTEMPTS {
                        tracing::error!(
                            "a batch was refused that nobody else could have come before"
                        );
                        return Err(PostError::Failed(Arc::new(error)));
                    }
                }
                StoreError::Busy | StoreError::Unavailable(_) => {
                    return Err(PostError::Unavailable(Arc::new(error)));
                }
                StoreError::UnknownCommit(_) => return Err(PostError::Unknown(Arc::new(error))),
                // What does not fit together may have been read on both sides of another writer: it is
                // read once more where there is none.
                StoreError::Damaged(_) if lock != WindowLock::Exclusive => {
                    is_in_doubt = true;
                    timings.lap(Step::Retry);
                }
                // What may have been decided by a rulebook that holds no longer is decided once more.
                StoreError::OutOfRange if lock == WindowLock::Deferred => {
                    lost += 1;
                    timings.lap(Step::Retry);
                }
                StoreError::Damaged(what) => {
                    self.brake.pull(&what);
                    return Err(PostError::Stopped);
                }
                // Alone, the command is at fault; of a batch, its calls are posted one by one.
                StoreError::OutOfRange if commands.len() == 1 => {
                    let refused = Decision::Refused(Refusal::OutOfRange);
                    return Ok(Decided::nothing(vec![refused]));
                }
                StoreError::OutOfRange
                | StoreError::Unsuitable(_)
                | StoreError::Database(_)
                | StoreError::Panicked(_) => return Err(PostError::Failed(Arc::new(error))),
            }
        }
    }

    /// Runs a batch once. A panic on the way is a failure of this batch: posting goes on.
    async fn attempt(
        &mut self,
        lock: WindowLock,
        commands: &[Command],
        timings: &mut Timings,
    ) -> Result<Decided, StoreError> {
        let attempt = caught(self.attempt_or_panic(lock, commands, timings)).await;
        attempt.unwrap_or_else(|panic| {
            tracing::error!(%panic, "a batch ended in a panic");
            Err(StoreError::Panicked(panic))
        })
    }

    async fn attempt_or_panic(
        &mut self,
        lock: WindowLock,
        commands: &[Command],
        timings: &mut Timings,
    ) -> Result<Decided, StoreError> {
        let begun = self.store.begin(lock).await;
        timings.lap(Step::Begin);
        let (mut unit, frame) = begun?;
        let decided = self.within(unit.as_mut(), &frame, commands, timings).await;
        match decided {
            Ok((decisions, writes)) => {
                let ended = if writes {
                    commit(unit).await
                } else {
                    unit.rollback().await.map(|()| Durable::already())
                };
                timings.lap(Step::Commit);
                ended.map(|durable| Decided { decisions, durable })
            }
            Err(error) => match unit.rollback().await {
                // That is an answer, and what it rests on may not be on disk.
                Err(second) if matches!(error, StoreError::OutOfRange) => Err(second),
                Err(second) => {
                    tracing::debug!(error = %second, "rolling back failed too");
                    Err(error)
                }
                Ok(()) => Err(error),
            },
        }
    }

    async fn within(
        &mut self,
        unit: &mut dyn Unit,
        frame: &Frame,
        commands: &[Command],
        timings: &mut Timings,
    ) -> Result<(Vec<Decision>, bool), StoreError> {
        if self.rulebook.version != frame.rulebook_version {
            self.rulebook = Arc::new(unit.rulebook().await?);
        }
        let rulebook = Arc::clone(&self.rulebook);
        let setting = setting(frame, self.clock.now());
        let (clock, mint) = (self.clock.as_ref(), &mut self.mint);
        decide_within(unit, &rulebook, &setting, clock, mint, commands, timings).await
    }
}

/// When and where a batch of this unit is decided.
pub(crate) fn setting(frame: &Frame, system: Timestamp) -> Setting {
    Setting {
        now: frame.clock.unwrap_or(system),
        minted_at: system,
        window: frame.window,
        store_and_forward_micros: DEFAULT_STORE_AND_FORWARD_MICROS,
    }
}

/// Fetches, decides and writes within a unit; whether there is anything to commit.
///
/// Ids are stamped once everything is fetched: then whatever another process wrote before, and this
/// one saw, was stamped earlier, so that a member's transactions and lots ascend in the order in which
/// they were decided, whichever processes decided them.
pub(crate) async fn decide_within(
    unit: &mut dyn Unit,
    rulebook: &Rulebook,
    setting: &Setting,
    clock: &dyn Clock,
    mint: &mut IdMint,
    commands: &[Command],
    timings: &mut Timings,
) -> Result<(Vec<Decision>, bool), StoreError> {
    let mut wanted = Wanted::default();
    loop {
        let snapshot = prefetch::fetch(unit, rulebook, setting.now, commands, &wanted).await;
        timings.lap(Step::Fetch);
        let stamped = Setting {
            minted_at: clock.now(),
            ..*setting
        };
        let applied = apply(rulebook, snapshot?, commands, &stamped, mint);
        timings.lap(Step::Decide);
        match applied {
            Ok(batch) => {
                let writes = !batch.effects.is_empty();
                if writes {
                    let written = persist::write(unit, setting, batch.effects).await;
                    timings.lap(Step::Write);
                    written?;
                } else {
                    unit.confirm().await?;
                }
                return Ok((batch.decisions, writes));
            }
            Err(shortage) => wanted.add(shortage)?,
        }
    }
}
