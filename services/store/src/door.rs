//! A door that only so many go through at a time: who is turned away is told to the log, in one line
//! a second, however many there are. A flood must not become a flood of lines as well.
//!
//! Deliberately absent: deciding who is turned away.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The least time between two lines.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Counts who went through one door, and who was turned away.
#[derive(Debug)]
pub(crate) struct Door {
    /// What there may be too much of.
    what: &'static str,
    passed: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Turned away since the last line.
    count: u64,
    last_line: Option<Instant>,
}

impl Door {
    /// Nobody came yet.
    pub(crate) fn new(what: &'static str) -> Self {
        Self {
            what,
            passed: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// How many went through: where that moves on, whoever waits waits behind others.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// One went through.
    pub(crate) fn pass(&self) {
        self.passed.fetch_add(1, Ordering::Relaxed);
    }

    /// One was turned away.
    pub(crate) fn turn_away(&self) {
        if let Some(count) = self.due(Instant::now()) {
            tracing::warn!(
                count,
                "too many {}: callers were told to come back",
                self.what
            );
        }
    }

    /// Counts one at `now`; how many there were since the last line, if the next one is due.
    fn due(&self, now: Instant) -> Option<u64> {
        // A counter is whole after every step.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.count = state.count.saturating_add(1);
        let quiet = state.last_line.map(|last| now.duration_since(last));
        if quiet.is_some_and(|quiet| quiet < LINE_EVERY) {
            return None;
        }
        state.last_line = Some(now);
        Some(std::mem::take(&mut state.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_a_second() {
        let door = Door::new("calls");
        let start = Instant::now();
        assert_eq!(door.due(start), Some(1), "the first is told at once");
        for _ in 0..1_000 {
            assert_eq!(door.due(start + LINE_EVERY / 2), None);
        }
        assert_eq!(door.due(start + LINE_EVERY), Some(1_001), "none is lost");
        assert_eq!(door.due(start + LINE_EVERY), None);
    }
}
