//! What goes wrong, how often, and how long things take.

use coalition_store::StoreError;

use super::sim::unavailable;

/// How a run is troubled; chances are per thousand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// A call takes no time at all.
    instant: u32,
    /// Otherwise it takes up to this.
    longest_ms: u64,
    /// A write finds another writer who was not there.
    pub(crate) conflict: u32,
    /// A statement fails: the connection broke, or a lock was not had in time.
    pub(crate) broken: u32,
    /// A unit cannot begin.
    pub(crate) refused: u32,
    /// A commit fails: nothing is stored.
    pub(crate) failed_commit: u32,
    /// A commit's answer is lost.
    pub(crate) unknown_commit: u32,
    /// A caller leaves before it has its answer.
    pub(crate) dropped: u32,
    /// At each look, a process is killed.
    pub(crate) killed: u32,
    /// At each look, a process is shut down and another started.
    pub(crate) restarted: u32,
}

/// How a commit goes.
#[derive(Debug)]
pub(crate) enum CommitFate {
    Stored,
    Failed(StoreError),
    Unknown { stored: bool },
}

impl Weather {
    /// Nothing goes wrong and nothing takes time.
    pub(crate) const fn calm() -> Self {
        Self {
            instant: 1_000,
            longest_ms: 1,
            conflict: 0,
            broken: 0,
            refused: 0,
            failed_commit: 0,
            unknown_commit: 0,
            dropped: 0,
            killed: 0,
            restarted: 0,
        }
    }

    /// The weather of a run.
    pub(crate) fn of_run(rng: &mut fastrand::Rng) -> Self {
        let fair = Self {
            instant: [900, 600, 200][rng.usize(0..3)],
            longest_ms: [2, 5, 30][rng.usize(0..3)],
            ..Self::calm()
        };
        match rng.u32(0..6) {
            0 => fair,
            1 => Self {
                conflict: 20,
                ..fair
            },
            2 => Self {
                failed_commit: 60,
                unknown_commit: 60,
                ..fair
            },
            3 => Self {
                broken: 8,
                refused: 40,
                dropped: 150,
                ..fair
            },
            4 => Self {
                killed: 120,
                restarted: 120,
                ..fair
            },
            _ => Self {
                conflict: 10,
                broken: 5,
                refused: 20,
                failed_commit: 30,
                unknown_commit: 30,
                dropped: 60,
                killed: 60,
                restarted: 60,
                ..fair
            },
        }
    }

    /// Whether nothing goes wrong: then every call must be answered.
    pub(crate) fn is_fair(&self) -> bool {
        let statements = [self.conflict, self.broken, self.refused];
        let commits = [self.failed_commit, self.unknown_commit];
        statements.iter().chain(&commits).all(|chance| *chance == 0)
    }

    /// How long a call takes.
    pub(crate) fn latency_ms(&self, rng: &mut fastrand::Rng) -> u64 {
        if rng.u32(0..1_000) < self.instant {
            0
        } else {
            rng.u64(1..=self.longest_ms)
        }
    }

    pub(crate) fn commit_fate(&self, rng: &mut fastrand::Rng) -> CommitFate {
        let dice = rng.u32(0..1_000);
        if dice < self.failed_commit {
            CommitFate::Failed(match rng.u32(0..3) {
                0 => StoreError::Conflict,
                1 => unavailable(),
                _ => StoreError::Database(sqlx::Error::WorkerCrashed),
            })
        } else if dice < self.failed_commit + self.unknown_commit {
            let stored = rng.bool();
            CommitFate::Unknown { stored }
        } else {
            CommitFate::Stored
        }
    }
}
