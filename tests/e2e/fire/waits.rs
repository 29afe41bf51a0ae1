//! How long writers waited for the window, from what the processes logged.
//!
//! A line is written when a unit of work holds the window, or after it has, for so long; and one when whoever
//! had it alone gave it back. Each is stamped by the same machine's clock. A batch's wait that overlaps the time from the
//! asking to the giving back of somebody who wanted it alone was a wait for a cut (or for the clock, which
//! moves under the same lock), or for a batch that others were always faster than, which says so before.
//! All other waits are what the machine does to them.

use std::fmt;

use coalition_store::WINDOW_LOG;
use serde_json::Value;

use super::full;

/// Longest that a batch may wait for a cut, or for another batch that has the window alone.
const WAIT_MAX_US: u64 = 250_000;
/// What the machine itself may add to that in a short run, which shares it with other tests: twice what
/// it adds to waits that meet no cut, and no more than this.
const MACHINE_MAX_US: u64 = 500_000;

/// An interval, in microseconds of the machine's clock.
type Span = (u64, u64);

/// How long batches waited.
#[derive(Default)]
pub(crate) struct Waits {
    units: usize,
    cuts: usize,
    lone_batches: usize,
    longest_hold_us: u64,
    for_cuts: usize,
    for_lone_batches: usize,
    longest_for_them_us: u64,
    longest_otherwise_us: u64,
}

/// Reads the logs of all processes.
pub(crate) fn of(logs: &[String]) -> Waits {
    let mut waits = Waits::default();
    // Within which span batches waited, for how long, and which of them waited to be alone.
    let mut batches: Vec<(Span, u64, bool)> = Vec::new();
    let (mut cuts, mut lone): (Vec<Span>, Vec<Span>) = (Vec::new(), Vec::new());
    for log in logs {
        // Several may ask for it alone in one process, but only one has it.
        let mut asked: Vec<(u64, bool)> = Vec::new();
        let mut is_batch = false;
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        for line in lines.filter(|line| line["target"] == WINDOW_LOG) {
            let at = micros(line["timestamp"].as_str().expect("lines are stamped"));
            match line["message"].as_str().expect("what it is about") {
                "a batch asks for it alone" => is_batch = true,
                "free" => {
                    let (since, is_batch) = asked.remove(0);
                    let alone = if is_batch { &mut lone } else { &mut cuts };
                    alone.push((since, at));
                    let held_us = line["held_us"].as_u64().expect("a span");
                    waits.longest_hold_us = waits.longest_hold_us.max(held_us);
                }
                _ => {
                    let waited = line["waited_us"].as_u64().expect("a span");
                    let since = at - line["for_us"].as_u64().expect("a span") - waited;
                    let is_shared = line["lock"].as_str().expect("which way") == "Shared";
                    if !is_shared {
                        asked.push((since, is_batch));
                    }
                    if is_shared || std::mem::take(&mut is_batch) {
                        // It waited somewhere between the two.
                        batches.push(((since, at), waited, !is_shared));
                    }
                }
            }
        }
    }
    (waits.cuts, waits.lone_batches) = (cuts.len(), lone.len());
    waits.units = batches.len();
    // Few want it alone, one after the other: looking at all of them is quick enough.
    let meets = |alone: &[Span], (from, to): Span| {
        let mut alone = alone.iter();
        alone.any(|(start, end)| *start < to && from < *end)
    };
    for (span, waited_us, is_lone) in batches {
        let (for_a_cut, for_a_batch) = (meets(&cuts, span), is_lone || meets(&lone, span));
        waits.for_cuts += usize::from(for_a_cut);
        waits.for_lone_batches += usize::from(for_a_batch && !is_lone);
        let longest = if for_a_cut || for_a_batch {
            &mut waits.longest_for_them_us
        } else {
            &mut waits.longest_otherwise_us
        };
        *longest = waited_us.max(*longest);
    }
    waits
}

impl Waits {
    pub(crate) fn assert(&self) {
        assert!(
            self.units > 0 && self.cuts > 0 && self.for_cuts > 0,
            "{self}"
        );
        // A full run is made on a machine that has nothing else to do.
        let machine_us = if full() {
            0
        } else {
            (2 * self.longest_otherwise_us).min(MACHINE_MAX_US)
        };
        assert!(
            self.longest_for_them_us <= WAIT_MAX_US + machine_us,
            "{self}"
        );
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} batches begun; {} met one of {} cuts and moves of the clock, {} one of {} batches that had \
             the window alone (all of them for {} ms at most): they waited {} ms at most, {} ms without",
            self.units,
            self.for_cuts,
            self.cuts,
            self.for_lone_batches,
            self.lone_batches,
            self.longest_hold_us / 1_000,
            self.longest_for_them_us / 1_000,
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

    fn line(stamp: &str, rest: &str) -> String {
        format!("{{\"timestamp\":\"{stamp}\",\"target\":\"{WINDOW_LOG}\",\"message\":{rest}}}\n")
    }

    fn held(lock: &str, waited_us: u64) -> String {
        format!("\"held\",\"lock\":\"{lock}\",\"waited_us\":{waited_us},\"for_us\":0")
    }

    const FREE: &str = "\"free\",\"held_us\":300000";

    #[test]
    fn a_wait_counts_for_a_cut_where_they_overlap() {
        let log = [
            line("2026-01-01T00:00:01.000000Z", &held("Shared", 70)),
            line("2026-01-01T00:00:02.000000Z", &held("Exclusive", 1_000)),
            line("2026-01-01T00:00:02.300000Z", FREE),
            line("2026-01-01T00:00:02.300100Z", &held("Shared", 290_000)),
            line("2026-01-01T00:00:03.000000Z", &held("Shared", 90)),
        ];
        let waits = of(&[log.concat()]);
        assert_eq!((waits.units, waits.cuts, waits.for_cuts), (3, 1, 1));
        assert_eq!((waits.lone_batches, waits.for_lone_batches), (0, 0));
        assert_eq!(waits.longest_for_them_us, 290_000);
        assert_eq!(
            (waits.longest_otherwise_us, waits.longest_hold_us),
            (90, 300_000)
        );
        assert!(std::panic::catch_unwind(|| waits.assert()).is_err());
    }

    #[test]
    fn a_batch_that_has_the_window_alone_is_no_cut() {
        let lone = "\"a batch asks for it alone\"";
        let one = [
            line("2026-01-01T00:00:01.990000Z", lone),
            line("2026-01-01T00:00:02.000000Z", &held("Exclusive", 10_000)),
            line("2026-01-01T00:00:02.300000Z", FREE),
        ];
        let other = [
            line("2026-01-01T00:00:02.300100Z", &held("Shared", 200_000)),
            line("2026-01-01T00:00:04.000000Z", &held("Exclusive", 20_000)),
            line("2026-01-01T00:00:04.300000Z", FREE),
        ];
        let waits = of(&[one.concat(), other.concat()]);
        assert_eq!((waits.units, waits.cuts, waits.for_cuts), (2, 1, 0));
        assert_eq!((waits.lone_batches, waits.for_lone_batches), (1, 1));
        assert_eq!(waits.longest_for_them_us, 200_000);
    }
}
