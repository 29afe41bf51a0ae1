//! Load: as many calls in flight as asked for, or as many a second.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use indicatif::HumanCount;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::client::CallError;

/// The longest latency that is told apart, in microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;

/// How long load goes on before it is measured, as a part of the measured time.
const WARM_UP_PART: u32 = 4;

/// How often calls are sent that fall due: finely against latencies of milliseconds.
const TICK: Duration = Duration::from_millis(1);

/// How late this process may be before it is told.
const STALL: Duration = Duration::from_millis(5);

/// Calls in flight at which an open loop gives up: the rate is then beyond what can be served.
const OVERRUN: usize = 20_000;

/// What load came to.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    /// Calls answered in the measured time.
    pub(super) calls: u64,
    /// All calls, those of the warm-up included.
    pub(super) made: u64,
    pub(super) seconds: f64,
    latency_us: Histogram<u64>,
}

impl Measured {
    /// Calls a second.
    pub(super) fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 calls")]
        let calls = self.calls as f64;
        calls / self.seconds.max(f64::EPSILON)
    }

    /// All latencies, in microseconds.
    pub(super) const fn latency_us(&self) -> &Histogram<u64> {
        &self.latency_us
    }

    /// A quantile of the latency, in milliseconds.
    pub(super) fn latency_ms(&self, quantile: f64) -> f64 {
        quantile_ms(&self.latency_us, quantile)
    }

    /// Both together.
    pub(super) fn and(mut self, other: &Self) -> anyhow::Result<Self> {
        self.calls += other.calls;
        self.made += other.made;
        self.seconds += other.seconds;
        self.latency_us
            .add(&other.latency_us)
            .context("adding histograms")?;
        Ok(self)
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is positive and far below 2^64"
        )]
        let rate = self.rate().round() as u64;
        write!(f, "{}/s", HumanCount(rate))
    }
}

pub(super) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).context("a histogram of latencies")
}

/// A quantile of microseconds, in milliseconds.
pub(super) fn quantile_ms(us: &Histogram<u64>, quantile: f64) -> f64 {
    Duration::from_micros(us.value_at_quantile(quantile)).as_secs_f64() * 1e3
}

pub(super) fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(LATENCY_MAX_US)
}

/// What there was to see while an open loop ran.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// When each measured call was due, after the first measured one, and how long it then took.
    pub(super) calls: Vec<(Duration, Duration)>,
    /// When this process itself was late, after the first measured call, and by how much: what holds
    /// it up holds up whatever shares the machine with it.
    pub(super) stalls: Vec<(Duration, Duration)>,
    /// When the first measured call was due.
    pub(super) started: Option<Instant>,
}

/// Makes calls. Each worker has a number of its own.
pub(super) trait Caller: Clone + Send + Sync + 'static {
    /// One call.
    fn call(&self, rng: &mut fastrand::Rng) -> impl Future<Output = Result<(), CallError>> + Send;
}

/// Keeps `in_flight` calls in flight, for a warm-up and then for `measured`.
pub(super) async fn closed_loop(
    caller: &impl Caller,
    in_flight: usize,
    measured: Duration,
) -> anyhow::Result<Measured> {
    let start = Instant::now() + measured / WARM_UP_PART;
    let end = start + measured;
    let mut workers = JoinSet::new();
    for n in 0..in_flight {
        let caller = caller.clone();
        workers.spawn(async move {
            let mut latency_us = histogram()?;
            let mut rng = fastrand::Rng::with_seed(n as u64);
            let mut made = 0;
            loop {
                let sent = Instant::now();
                if sent >= end {
                    return Ok((latency_us, made));
                }
                caller.call(&mut rng).await?;
                made += 1;
                // What was answered in the measured time counts, whenever it was sent.
                let answered = Instant::now();
                if answered >= start && answered < end {
                    latency_us.saturating_record(micros(answered - sent));
                }
            }
        });
    }
    let mut all = histogram()?;
    let mut made = 0;
    while let Some(ended) = workers.join_next().await {
        let own: anyhow::Result<(Histogram<u64>, u64)> = ended.context("a worker broke down")?;
        let (own, calls) = own?;
        all.add(own).context("adding histograms")?;
        made += calls;
    }
    Ok(Measured {
        calls: all.len(),
        made,
        seconds: measured.as_secs_f64(),
        latency_us: all,
    })
}

/// Makes `count` calls, `in_flight` at a time; the time it took is the measure.
pub(super) async fn all_of(
    caller: &impl Caller,
    in_flight: usize,
    count: usize,
) -> anyhow::Result<Measured> {
    let started = Instant::now();
    let left = Arc::new(std::sync::atomic::AtomicUsize::new(count));
    let mut workers = JoinSet::new();
    for n in 0..in_flight {
        let caller = caller.clone();
        let left = Arc::clone(&left);
        workers.spawn(async move {
            use std::sync::atomic::Ordering::Relaxed;
            let mut latency_us = histogram()?;
            let mut rng = fastrand::Rng::with_seed(n as u64);
            let take = || left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
            while take().is_ok() {
                let sent = Instant::now();
                caller.call(&mut rng).await?;
                latency_us.saturating_record(micros(sent.elapsed()));
            }
            anyhow::Ok(latency_us)
        });
    }
    let mut all = histogram()?;
    while let Some(ended) = workers.join_next().await {
        all.add(ended.context("a worker broke down")??)
            .context("adding histograms")?;
    }
    Ok(Measured {
        calls: all.len(),
        made: all.len(),
        seconds: started.elapsed().as_secs_f64(),
        latency_us: all,
    })
}

/// Sends `rate` calls a second, answered or not. A latency counts from when the call was due, so
/// that a call that could not even be sent in time waits as the guest does.
pub(super) async fn open_loop(
    caller: &impl Caller,
    rate: f64,
    measured: Duration,
    seen: &mut Seen,
) -> anyhow::Result<Measured> {
    let first = Instant::now();
    let start = first + measured / WARM_UP_PART;
    let end = start + measured;
    let gap = Duration::from_secs_f64(1.0 / rate.max(1.0));
    let mut due = first;
    let mut made = 0;
    let mut rng = fastrand::Rng::with_seed(0);
    let mut ticks = interval(TICK);
    let mut calls = JoinSet::new();
    let mut latency_us = histogram()?;
    let Seen {
        calls: calls_seen,
        stalls,
        started,
    } = seen;
    *started = Some(start);
    let mut note = |answered: Result<anyhow::Result<(Instant, Instant)>, _>| {
        let (due, answered) = answered.context("a call broke down")??;
        if due >= start {
            let took = answered.saturating_duration_since(due);
            latency_us.saturating_record(micros(took));
            calls_seen.push((due - start, took));
        }
        anyhow::Ok(())
    };
    while due < end {
        let now = ticks.tick().await;
        let late = now.elapsed();
        if late >= STALL && now >= start {
            stalls.push((now - start, late));
        }
        while due <= now && due < end {
            let caller = caller.clone();
            let mut rng = rng.fork();
            calls.spawn(async move {
                caller.call(&mut rng).await?;
                Ok((due, Instant::now()))
            });
            due += gap;
            made += 1;
        }
        while let Some(answered) = calls.try_join_next() {
            note(answered)?;
        }
        if calls.len() > OVERRUN {
            bail!("{rate:.0} calls a second are more than can be served");
        }
    }
    while let Some(answered) = calls.join_next().await {
        note(answered)?;
    }
    Ok(Measured {
        calls: latency_us.len(),
        made,
        seconds: measured.as_secs_f64(),
        latency_us,
    })
}
