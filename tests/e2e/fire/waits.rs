//! How long writers waited for the window, from what the processes logged.
//!
//! A line is written when a unit of work holds the window, and one when whoever had it alone gave it
//! back; each is stamped by the same machine's clock. A shared wait that overlaps the time from the
//! asking to the giving back of somebody who wanted it alone was a wait for a cut (or for the clock, or
//! for a batch that others were always faster than, which take the same lock). All other shared waits are
//! what the machine does to them.

use std::fmt;

use coalition_store::WINDOW_LOG;
use serde_json::Value;

use super::full;

/// Longest that a writer may wait for a cut.
const WAIT_MAX_US: u64 = 250_000;
/// What the machine itself may add to that in a short run, which shares it with other tests: twice what
/// it adds to waits that meet no cut, and no more than this.
const MACHINE_MAX_US: u64 = 500_000;

/// An interval, in microseconds of the machine's clock.
type Span = (u64, u64);

/// How long writers waited.
pub(crate) struct Waits {
    units: usize,
    alone: usize,
    longest_hold_us: u64,
    for_cuts: usize,
    longest_for_a_cut_us: u64,
    longest_otherwise_us: u64,
}

/// Reads the logs of all processes.
pub(crate) fn of(logs: &[String]) -> Waits {
    let mut shared: Vec<Span> = Vec::new();
    let mut alone: Vec<Span> = Vec::new();
    let mut longest_hold_us = 0;
    for log in logs {
        // Several may ask for it alone in one process, but only one has it.
        let mut asked: Vec<u64> = Vec::new();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        for line in lines.filter(|line| line["target"] == WINDOW_LOG) {
            let at = micros(line["timestamp"].as_str().expect("lines are stamped"));
            if line["message"] == "free" {
                let since = asked.remove(0);
                alone.push((since, at));
                longest_hold_us = longest_hold_us.max(line["held_us"].as_u64().expect("a span"));
            } else {
                let waited = line["waited_us"].as_u64().expect("a span");
                match line["lock"].as_str().expect("which way") {
                    "Shared" => shared.push((at - waited, at)),
                    _ => asked.push(at - waited),
                }
            }
        }
    }
    alone.sort_unstable();
    let mut waits = Waits {
        units: shared.len(),
        alone: alone.len(),
        longest_hold_us,
        for_cuts: 0,
        longest_for_a_cut_us: 0,
        longest_otherwise_us: 0,
    };
    for (from, to) in shared {
        // Few want it alone, one after the other: looking at all of them is quick enough.
        if alone.iter().any(|(start, end)| *start < to && from < *end) {
            waits.for_cuts += 1;
            waits.longest_for_a_cut_us = waits.longest_for_a_cut_us.max(to - from);
        } else {
            waits.longest_otherwise_us = waits.longest_otherwise_us.max(to - from);
        }
    }
    waits
}

impl Waits {
    pub(crate) fn assert(&self) {
        assert!(
            self.units > 0 && self.alone > 0 && self.for_cuts > 0,
            "{self}"
        );
        // A full run is made on a machine that has nothing else to do.
        let machine_us = if full() {
            0
        } else {
            (2 * self.longest_otherwise_us).min(MACHINE_MAX_US)
        };
        assert!(
            self.longest_for_a_cut_us <= WAIT_MAX_US + machine_us,
            "{self}"
        );
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} batches; {} met one of {} who held the window alone (for {} ms at most) and waited \
             {} ms at most, {} ms without",
            self.units,
            self.for_cuts,
            self.alone,
            self.longest_hold_us / 1_000,
            self.longest_for_a_cut_us / 1_000,
            self.longest_otherwise_us / 1_000,
        )
    }
}

/// Microseconds since the epoch, of `2026-01-01T00:00:00.000000Z`.
fn micros(stamp: &str) -> u64 {
    let at: prost_types::Timestamp = stamp.parse().expect("a time");
    let seconds = u64::try_from(at.seconds).expect("after 1970");
    seconds * 1_000_000 + u64::try_from(at.nanos).expect("positive") / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_counts_for_a_cut_where_they_overlap() {
        let line = |stamp: &str, rest: &str| {
            format!("{{\"timestamp\":\"{stamp}\",\"target\":\"{WINDOW_LOG}\",{rest}}}\n")
        };
        let held = |lock: &str, waited_us: u64| {
            format!("\"message\":\"held\",\"lock\":\"{lock}\",\"waited_us\":{waited_us}")
        };
        let log = [
            line("2026-01-01T00:00:01.000000Z", &held("Shared", 70)),
            line("2026-01-01T00:00:02.000000Z", &held("Exclusive", 1_000)),
            line(
                "2026-01-01T00:00:02.300000Z",
                "\"message\":\"free\",\"held_us\":300000",
            ),
            line("2026-01-01T00:00:02.300100Z", &held("Shared", 290_000)),
            line("2026-01-01T00:00:03.000000Z", &held("Shared", 90)),
        ];
        let waits = of(&[log.concat()]);
        assert_eq!((waits.units, waits.alone, waits.for_cuts), (3, 1, 1));
        assert_eq!(waits.longest_for_a_cut_us, 290_000);
        assert_eq!(
            (waits.longest_otherwise_us, waits.longest_hold_us),
            (90, 300_000)
        );
        assert!(std::panic::catch_unwind(|| waits.assert()).is_err());
    }
}
