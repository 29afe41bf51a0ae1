//! Where the time of a batch went: told of batches that took long, nothing of the others.
//!
//! A batch reads the clock once per step, which is nothing beside a statement. Read by whoever
//! looks for what a slow call waited for, `coalition bench latency` for one.

use std::time::Duration;

use tokio::time::Instant;

/// The target of the lines that [`Timings::tell`] logs.
pub const SLOW_BATCHES: &str = "coalition::slow_batch";

/// What a batch does, in the order of [`Timings::spent`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Begins a unit: gets a connection and, unless that is deferred, the open window's lock.
    Begin,
    /// Fetches what the commands need.
    Fetch,
    /// Lets the ledger decide.
    Decide,
    /// Writes what changed; and commits it, where the lock was deferred.
    Write,
    /// Commits.
    Commit,
    /// Gives an attempt up.
    Retry,
    /// Waits until the commit is durable, where the commit does not. The next batches are at work,
    /// unless too many wait.
    Sync,
}

/// How long each step of one batch took, over all attempts.
#[derive(Debug)]
pub(crate) struct Timings {
    begun: Instant,
    lap: Instant,
    spent: [Duration; 7],
    attempts: u32,
}

impl Timings {
    /// A batch begins.
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self {
            begun: now,
            lap: now,
            spent: [Duration::ZERO; 7],
            attempts: 0,
        }
    }

    /// Counts an attempt.
    pub(crate) fn attempt(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
    }

    /// What has passed since the last lap was this step's.
    pub(crate) fn lap(&mut self, step: Step) {
        let now = Instant::now();
        if let Some(spent) = self.spent.get_mut(step as usize) {
            *spent = spent.saturating_add(now.duration_since(self.lap));
        }
        self.lap = now;
    }

    /// Logs a batch of so many commands that took `slow` or longer, not counting how long its calls
    /// waited for it: where many wait, that is the fault of the batches before. The first of them
    /// asked at `asked`.
    pub(crate) fn tell(&self, commands: usize, asked: Instant, slow: Duration) {
        let total = self.lap.duration_since(self.begun);
        if total < slow {
            return;
        }
        let queue = self.begun.duration_since(asked);
        let [begin, fetch, decide, write, commit, retry, sync] = self.spent.map(micros);
        tracing::warn!(
            target: SLOW_BATCHES,
            commands,
            attempts = self.attempts,
            total_us = micros(total),
            queue_us = micros(queue),
            begin_us = begin,
            fetch_us = fetch,
            decide_us = decide,
            write_us = write,
            commit_us = commit,
            retry_us = retry,
            sync_us = sync,
            "a batch took long"
        );
    }
}

/// For the log; a batch takes no 500,000 years.
fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
