//! What a slow call waited for: what happened at the time.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::super::server_log::Chore;
use super::super::slow::SlowBatch;

/// From when to when, in microseconds since 1970.
type Span = (i64, i64);

/// A call: from when it was due to when it was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call(Span);

impl Call {
    /// A call that was due so long after `start`, in microseconds since 1970.
    pub(super) fn of(start: i64, due: Duration, took: Duration) -> Self {
        let from = later(start, due);
        Self((from, later(from, took)))
    }
}

/// Why a call took long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Cause {
    /// In words that are the same for all alike.
    #[serde(rename = "cause")]
    pub(super) kind: String,
    /// The figures of this one.
    pub(super) detail: String,
    /// When the batch that it waited for ended, if it waited for one.
    #[serde(skip)]
    pub(super) batch: Option<i64>,
}

/// What happened during a run.
#[derive(Clone, Debug)]
pub(super) struct Events {
    batches: Vec<SlowBatch>,
    chores: Vec<Chore>,
    stalls: Vec<Span>,
}

impl Events {
    /// Stalls are told by when they began after `start`, and their length.
    pub(super) fn new(
        batches: Vec<SlowBatch>,
        chores: Vec<Chore>,
        stalls: &[(Duration, Duration)],
        start: i64,
    ) -> Self {
        let span = |(at, late): &(Duration, Duration)| {
            let from = later(start, *at);
            (from, later(from, *late))
        };
        Self {
            batches,
            chores,
            stalls: merged(stalls.iter().map(span).collect()),
        }
    }

    /// How many batches were slow.
    pub(super) fn batches(&self) -> usize {
        self.batches.len()
    }

    /// What a call waited for.
    pub(super) fn cause_of(&self, call: &Call) -> Cause {
        let held_up = self.stalls.iter().map(|stall| overlap(*stall, call.0));
        let held_up: i64 = held_up.sum();
        let stalled = (held_up > 0).then(|| format!("load generator held up for {}", ms(held_up)));
        // The batch that it was in, or the one before that it waited for: whichever took longer of it.
        let shared = |batch: &&SlowBatch| overlap(at_work(batch), call.0);
        let Some(batch) = self
            .batches
            .iter()
            .filter(|batch| shared(batch) > 0)
            .max_by_key(shared)
        else {
            return match stalled {
                Some(stalled) => Cause {
                    kind: "the machine: no slow batch, and the load generator was held up, too"
                        .to_owned(),
                    detail: stalled,
                    batch: None,
                },
                None => Cause {
                    kind: "outside of the poster: no slow batch at that time".to_owned(),
                    detail: String::new(),
                    batch: None,
                },
            };
        };
        let (step, took) = batch.spent.longest();
        let span = at_work(batch);
        let chores = self.chores.iter();
        let beside = chores.filter(|chore| overlap((chore.from, chore.to), span) > 0);
        let beside: Vec<&str> = beside.map(|chore| chore.what.as_str()).collect();
        let mut kind = if beside.is_empty() {
            format!("{step} of a batch")
        } else {
            format!("{step} of a batch, during {}", beside.join(" and "))
        };
        if held_up.saturating_mul(2) >= call.0.1.saturating_sub(call.0.0) {
            kind.push_str("; the load generator was held up, too");
        }
        let mut detail = format!(
            "batch of {}: {step} {} of {}",
            batch.commands,
            micros(took),
            micros(batch.own())
        );
        if batch.spent.queue > batch.own() {
            let _ = write!(detail, ", after {} in the queue", micros(batch.spent.queue));
        }
        if batch.attempts > 1 {
            let _ = write!(detail, ", {} attempts", batch.attempts);
        }
        if let Some(stalled) = stalled {
            let _ = write!(detail, "; {stalled}");
        }
        Cause {
            kind,
            detail,
            batch: Some(batch.ended),
        }
    }
}

/// When a batch was at work: not waiting for the one before.
fn at_work(batch: &SlowBatch) -> Span {
    let own = i64::try_from(batch.own()).unwrap_or(i64::MAX);
    (batch.ended.saturating_sub(own), batch.ended)
}

/// The same time, each part of it once: ticks that fall due while this process is held up are all late.
fn merged(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut all: Vec<Span> = Vec::new();
    for (from, to) in spans {
        match all.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => all.push((from, to)),
        }
    }
    all
}

fn later(from: i64, span: Duration) -> i64 {
    from.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))
}

/// How long two spans have in common.
fn overlap(one: Span, other: Span) -> i64 {
    let (from, to) = (one.0.max(other.0), one.1.min(other.1));
    to.saturating_sub(from).max(0)
}

fn ms(micros: i64) -> String {
    self::micros(u64::try_from(micros).unwrap_or(0))
}

fn micros(micros: u64) -> String {
    format!(
        "{:.1} ms",
        Duration::from_micros(micros).as_secs_f64() * 1e3
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::slow::Spent;
    use super::*;

    const START: i64 = 1_000_000;

    fn batch(ended: i64, spent: Spent) -> SlowBatch {
        SlowBatch {
            ended,
            commands: 210,
            attempts: 1,
            spent,
        }
    }

    fn events() -> Events {
        let first = Spent {
            commit: 35_000,
            fetch: 2_000,
            ..Spent::default()
        };
        let second = Spent {
            queue: 36_000,
            write: 9_000,
            ..Spent::default()
        };
        let chore = Chore {
            what: "a checkpoint (wal)".to_owned(),
            from: START + 30_000,
            to: START + 45_000,
        };
        let stall = (Duration::from_millis(200), Duration::from_millis(6));
        Events::new(
            vec![batch(START + 40_000, first), batch(START + 49_000, second)],
            vec![chore],
            &[stall],
            START,
        )
    }

    fn cause(due_ms: u64, took_ms: u64) -> Cause {
        let (due, took) = (
            Duration::from_millis(due_ms),
            Duration::from_millis(took_ms),
        );
        events().cause_of(&Call::of(START, due, took))
    }

    #[test]
    fn a_call_waited_for_the_batch_that_took_most_of_it() {
        // In the second batch, but most of its time went by behind the first.
        let found = cause(10, 40);
        assert_eq!(found.kind, "commit of a batch, during a checkpoint (wal)");
        assert_eq!(found.detail, "batch of 210: commit 35.0 ms of 37.0 ms");
        let found = cause(39, 10);
        assert_eq!(found.kind, "write of a batch, during a checkpoint (wal)");
        assert_eq!(
            found.detail,
            "batch of 210: write 9.0 ms of 9.0 ms, after 36.0 ms in the queue"
        );
    }

    #[test]
    fn a_call_without_a_slow_batch_waited_elsewhere() {
        assert!(cause(100, 20).kind.starts_with("outside of the poster"));
        let found = cause(195, 20);
        assert!(found.kind.starts_with("the machine"));
        assert_eq!(found.detail, "load generator held up for 6.0 ms");
    }
    #[test]
    fn a_stall_counts_once_and_is_told_where_it_fills_half_of_a_call() {
        let late = [(0, 30), (1, 29), (2, 28), (40, 10)];
        let late = late.map(|(at, late)| (Duration::from_millis(at), Duration::from_millis(late)));
        let spent = Spent {
            begin: 20_000,
            ..Spent::default()
        };
        let events = Events::new(vec![batch(START + 50_000, spent)], Vec::new(), &late, START);
        let cause = |took_ms| {
            let took = Duration::from_millis(took_ms);
            events.cause_of(&Call::of(START, Duration::ZERO, took))
        };
        let found = cause(60);
        assert_eq!(
            found.kind,
            "begin of a batch; the load generator was held up, too"
        );
        let words = "batch of 210: begin 20.0 ms of 20.0 ms; load generator held up for 40.0 ms";
        assert_eq!(found.detail, words);
        assert_eq!(cause(100).kind, "begin of a batch");
    }
}
