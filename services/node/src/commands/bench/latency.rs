//! `coalition bench latency`: how long calls wait under a steady half load, and what the slowest
//! waited for.
//!
//! The node tells where the time of each slow batch went ([`super::slow`]); what the database did
//! beside comes from the server's log ([`super::server_log`]) or from SQLite's files
//! ([`super::wal`]); whether the machine was there at all, from this process's own lateness.
//! [`cause`] brings them together by time.

mod cause;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use coalition_ledger::Clock as _;
use coalition_store::SystemClock;
use comfy_table::CellAlignment;
use serde::Serialize;
use tokio::time::Instant;

use self::cause::{Call, Cause, Events};
use super::bars::{Engine, shown};
use super::disk::Disk;
use super::ground::{Ground, on_each};
use super::load::{Seen, closed_loop, open_loop};
use super::machine::Machine;
use super::process::{Node, Setup};
use super::stock::{IN_FLIGHT, Stock};
use super::{cores, screen, server_log, wal};
use crate::Config;

/// Partners that load is spread over.
const PARTNERS: usize = 100;

/// Longest that the greatest rate is looked for.
const FULL_MAX: Duration = Duration::from_secs(5);

/// Longest that the disk is looked at, before and after.
const DISK_MAX: Duration = Duration::from_secs(10);

/// Of so many calls one is among the slowest, whose causes are counted.
const SLOWEST: usize = 1_000;

/// Of so many calls one is looked at for who waited for the same batch.
const GATHERED: usize = 100;

const EXAMPLES: &str = "\
Examples:
  coalition bench latency                         a minute on each engine, at half of its greatest rate
  coalition bench latency --seconds 10 --engine sqlite --worst 20
  coalition bench latency --rate 1000 --json

Latency counts from when a call was due, sent in time or not. The cause of a slow call is the batch
that it was in or waited for, if that took --slow-ms or longer, with what the database did at that
time; a call without one waited elsewhere: at a socket, in the gateway, for a core.";

/// How long, how much, and where.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
    /// Measure on this engine only; may be given more than once
    #[arg(long, value_name = "sqlite|postgres", hide_possible_values = true)]
    pub engine: Vec<Engine>,
    /// How long it is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: u64,
    /// Calls a second [default: half of what is measured first]
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: Option<u32>,
    /// How many members the load is spread over
    #[arg(long, value_name = "COUNT", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub members: u32,
    /// Postings that are stored before
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    pub stored: u64,
    /// A batch that takes so many milliseconds is looked at
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 4)]
    pub slow_ms: u32,
    /// How many of the worst calls are shown
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub worst: u16,
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    engines: Vec<Latency>,
}

/// What waiting came to on one engine.
#[derive(Serialize)]
struct Latency {
    engine: Engine,
    /// The greatest rate, if it was looked for.
    full_calls_per_s: Option<f64>,
    calls_per_s: f64,
    calls: u64,
    p50_ms: f64,
    p99_ms: f64,
    p99_9_ms: f64,
    worst_ms: f64,
    /// The part of time that other guests of this machine's host took from it.
    stolen_percent: Option<f64>,
    /// The same of the disk alone, for small writes, before and after; none where a server was named.
    disk_p50_ms: Option<f64>,
    disk_p99_ms: Option<f64>,
    disk_worst_ms: Option<f64>,
    slow_batches: usize,
    /// How many of the slowest thousandth had which cause.
    causes: BTreeMap<String, usize>,
    worst: Vec<Slow>,
}

/// One slow call.
#[derive(Serialize)]
struct Slow {
    took_ms: f64,
    /// When it was due, in seconds since the first measured call.
    at_s: f64,
    /// How many of the slowest hundredth waited for the same batch.
    calls: usize,
    #[serde(flatten)]
    cause: Cause,
}

/// Measures.
///
/// # Errors
///
/// A node cannot be started, or calls fail under load.
pub(super) async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let measured = on_each(&config, &args.engine, async |ground, engine| {
        measure(ground, engine, &args).await
    });
    let (engines, ended) = measured.await?;
    let report = Report {
        machine: Machine::this(args.seconds, args.members as usize),
        engines,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", shown_on_screen(&report));
    }
    ended?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(ground: &Ground, engine: Engine, args: &Args) -> anyhow::Result<Latency> {
    let measured = Duration::from_secs(args.seconds);
    let mut stock = Stock::found(ground, engine, PARTNERS, args.members as usize).await?;
    stock.fill_to(ground, args.stored).await?;
    let setup = Setup {
        slow_batch_ms: Some(args.slow_ms),
        ..stock.setup.clone()
    };
    let before = ground.disk_alone(engine, measured.min(DISK_MAX)).await?;
    let node = Node::start(&setup).await?;
    let earns = stock
        .town
        .through(&node.client(IN_FLIGHT)?)
        .earns(PARTNERS, args.members as usize)?;
    let (full, rate) = if let Some(rate) = args.rate {
        (None, f64::from(rate))
    } else {
        ground.now(format!("{engine}: earns as fast as they go"));
        let full = closed_loop(&earns, IN_FLIGHT, measured.min(FULL_MAX)).await?;
        (Some(full.rate()), full.rate() / 2.0)
    };
    ground.now(format!(
        "{engine}: {rate:.0} earns a second for {} s",
        args.seconds
    ));
    ground.settle(engine).await?;
    let watch = (engine == Engine::Sqlite).then(|| wal::Watch::begin(&setup.database_file()));
    let cores = cores::Machine::now();
    let mut seen = Seen::default();
    let latency = open_loop(&earns, rate, measured, &mut seen).await?;
    let stolen_percent = cores
        .zip(cores::Machine::now())
        .map(|(before, after)| before.percent_stolen_until(after));
    let started = seen.started.unwrap_or_else(Instant::now);
    let since = i64::try_from(started.elapsed().as_micros()).unwrap_or(i64::MAX);
    let start = SystemClock
        .now()
        .saturating_add_micros(since.saturating_neg());
    let batches = node.slow_batches();
    node.stop().await?;
    let after = ground.disk_alone(engine, measured.min(DISK_MAX)).await?;
    let disk = Disk::both(before, after)?;
    let disk_ms = |quantile| disk.as_ref().map(|disk| disk.wait_ms(quantile));
    let chores = match watch {
        Some(watch) => watch.end(),
        None => ground
            .server_log()?
            .map(|log| server_log::chores(&log))
            .unwrap_or_default(),
    };

    let events = Events::new(batches, chores, &seen.stalls, start.micros());
    let mut calls = std::mem::take(&mut seen.calls);
    calls.sort_unstable_by_key(|(_, took)| std::cmp::Reverse(*took));
    let slow = |(due, took): &(Duration, Duration)| Slow {
        took_ms: took.as_secs_f64() * 1e3,
        at_s: due.as_secs_f64(),
        calls: 1,
        cause: events.cause_of(&Call::of(start.micros(), *due, *took)),
    };
    let mut causes = BTreeMap::new();
    for call in calls.iter().take(calls.len().div_ceil(SLOWEST)) {
        *causes.entry(slow(call).cause.kind).or_default() += 1;
    }
    let slowest = calls.iter().take(calls.len().div_ceil(GATHERED));
    let worst = gathered(slowest.map(slow), args.worst.into());
    Ok(Latency {
        engine,
        full_calls_per_s: full,
        calls_per_s: rate,
        calls: latency.calls,
        p50_ms: latency.latency_ms(0.5),
        p99_ms: latency.latency_ms(0.99),
        p99_9_ms: latency.latency_ms(0.999),
        worst_ms: latency.latency_ms(1.0),
        stolen_percent,
        disk_p50_ms: disk_ms(0.5),
        disk_p99_ms: disk_ms(0.99),
        disk_worst_ms: disk_ms(1.0),
        slow_batches: events.batches(),
        causes,
        worst,
    })
}

/// The worst of those that waited for the same batch, each with their number; at most so many.
fn gathered(calls: impl Iterator<Item = Slow>, worst: usize) -> Vec<Slow> {
    let mut all: Vec<Slow> = Vec::new();
    for call in calls {
        let same =
            |other: &&mut Slow| call.cause.batch.is_some() && other.cause.batch == call.cause.batch;
        match all.iter_mut().find(same) {
            Some(other) => other.calls += 1,
            None => all.push(call),
        }
    }
    all.truncate(worst);
    all
}

fn shown_on_screen(report: &Report) -> String {
    let ms = |value: f64| format!("{} ms", shown(value));
    let known_ms = |value: Option<f64>| value.map_or("–".to_owned(), ms);
    let mut waits = screen::table([
        "engine",
        "at full load",
        "load",
        "calls",
        "p50",
        "p99",
        "p99.9",
        "worst",
        "stolen",
        "disk alone: p50",
        "p99",
        "worst",
    ]);
    for latency in &report.engines {
        let full = latency.full_calls_per_s;
        let stolen = latency.stolen_percent;
        waits.add_row([
            latency.engine.to_string(),
            full.map_or("–".to_owned(), |rate| format!("{rate:.0}/s")),
            format!("{:.0}/s", latency.calls_per_s),
            latency.calls.to_string(),
            ms(latency.p50_ms),
            ms(latency.p99_ms),
            ms(latency.p99_9_ms),
            ms(latency.worst_ms),
            stolen.map_or("–".to_owned(), |percent| format!("{percent:.1} %")),
            known_ms(latency.disk_p50_ms),
            known_ms(latency.disk_p99_ms),
            known_ms(latency.disk_worst_ms),
        ]);
    }
    let mut said = format!("{waits}\n");
    for latency in &report.engines {
        let mut causes: Vec<(&String, &usize)> = latency.causes.iter().collect();
        causes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let of: usize = latency.causes.values().sum();
        let mut counted = screen::table(["calls", "what they waited for"]);
        if let Some(count) = counted.column_mut(0) {
            count.set_cell_alignment(CellAlignment::Right);
        }
        for (cause, count) in causes {
            counted.add_row([count.to_string(), cause.clone()]);
        }
        let mut worst = screen::table(["took", "at", "calls", "what they waited for", ""]);
        for slow in &latency.worst {
            worst.add_row([
                ms(slow.took_ms),
                format!("{:.1} s", slow.at_s),
                slow.calls.to_string(),
                slow.cause.kind.clone(),
                slow.cause.detail.clone(),
            ]);
        }
        let engine = latency.engine;
        let _ = writeln!(
            said,
            "\n{engine}: the slowest thousandth, {of} calls; {} slow batches\n{counted}\n\
             {engine}: the worst\n{worst}",
            latency.slow_batches
        );
    }
    said.push_str(&report.machine.to_string());
    said
}
