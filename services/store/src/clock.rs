//! The system's clock: the one place that reads it.
//!
//! A sandbox network's own clock is not a clock here but a fact in the database, read with every
//! unit of work (`Frame::clock`) and with the network (`Network::clock`).

use std::time::{SystemTime, UNIX_EPOCH};

use coalition_ledger::clock::Clock;
use coalition_ledger::time::Timestamp;

/// The time of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(
            clippy::disallowed_methods,
            reason = "the clock that everybody else is passed"
        )]
        let now = SystemTime::now();
        // Before 1970 there was no coalition; a machine that says so has no clock.
        let micros = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_micros());
        Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}
