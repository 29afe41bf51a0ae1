//! `coalition bench memory`: whether the memory of a node under load stays where it is.

use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, interval};

use super::bars::{Engine, shown};
use super::furnish::Shopping;
use super::ground::{Ground, on_each};
use super::load::{Measured, closed_loop};
use super::machine::Machine;
use super::process::Node;
use super::screen;
use super::stock::{IN_FLIGHT, Stock};
use super::trend::{mean, slope};
use crate::Config;

/// Partners that load is spread over.
const PARTNERS: usize = 100;

/// How often the memory is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What counts as flat: so much growth over the second half of the time, as a part of the mean.
const GROWTH_MAX: f64 = 0.03;

/// What counts as modest, in MiB: the bar of a node under full load.
const MEMORY_MAX_MIB: f64 = 250.0;

const EXAMPLES: &str = "\
Examples:
  coalition bench memory                       ten minutes on each engine
  coalition bench memory --seconds 30 --engine sqlite
  coalition bench memory --json > memory.json  with every sample

The first half of the time is for caches to fill; over the second half a straight line is laid
through the samples. Exit code 0 only if it rises by at most 3 % of the mean, and the node never held
more than 250 MiB.";

/// How long, and where.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Measure on this engine only; may be given more than once
    #[arg(long, value_name = "sqlite|postgres", hide_possible_values = true)]
    pub engine: Vec<Engine>,
    /// How long the load goes on
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(4..=86_400))]
    pub seconds: u64,
    /// How many members the load is spread over
    #[arg(long, value_name = "COUNT", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub members: u32,
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    engines: Vec<Series>,
}

/// What one node held.
#[derive(Serialize)]
struct Series {
    engine: Engine,
    calls_per_s: f64,
    first_half_mib: f64,
    second_half_mib: f64,
    most_mib: f64,
    slope_mib_per_min: f64,
    /// By the line, over the second half.
    growth_mib: f64,
    is_flat: bool,
    /// Seconds since the load began, and MiB.
    samples: Vec<(f64, f64)>,
}

/// Measures; the exit code tells whether memory is flat.
///
/// # Errors
///
/// A node cannot be started, or calls fail under load.
pub(super) async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let measured = on_each(&config, &args.engine, async |ground, engine| {
        watch(ground, engine, &args).await
    });
    let (engines, ended) = measured.await?;
    let report = Report {
        machine: Machine::this(args.seconds, args.members as usize),
        engines,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", table(&report));
    }
    ended?;
    Ok(if report.engines.iter().all(|series| series.is_flat) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn watch(ground: &Ground, engine: Engine, args: &Args) -> anyhow::Result<Series> {
    let stock = Stock::found(ground, engine, PARTNERS, args.members as usize).await?;
    let node = Node::start(&stock.setup).await?;
    let town = stock.town.through(&node.client(IN_FLIGHT)?);
    let shopping = Shopping::of(town.earns(PARTNERS, town.members())?);
    let bar = ground.bar(&format!("{engine}: seconds of load"), args.seconds)?;
    // A fifth of the time is the load's own warm-up.
    let measured = Duration::from_secs(args.seconds) * 4 / 5;
    let mut load = pin!(closed_loop(&shopping, IN_FLIGHT, measured));
    let begun = Instant::now();
    let mut looks = interval(LOOK_INTERVAL);
    let mut samples = Vec::new();
    let load: anyhow::Result<Measured> = loop {
        tokio::select! {
            load = &mut load => break load,
            _ = looks.tick() => {
                samples.push((begun.elapsed().as_secs_f64(), node.memory_mib()?));
                bar.inc(1);
            }
        }
    };
    ground.done(&bar);
    let load = load?;
    let most = node.memory_peak_mib()?;
    node.stop().await?;
    Ok(Series::of(engine, load.rate(), most, samples))
}

impl Series {
    fn of(engine: Engine, rate: f64, most_mib: f64, samples: Vec<(f64, f64)>) -> Self {
        let (first, second) = samples.split_at(samples.len() / 2);
        let mean = |half: &[(f64, f64)]| mean(half.iter().map(|(_, mib)| *mib));
        let slope = slope(second).unwrap_or(0.0);
        let span = match second {
            [first, .., last] => last.0 - first.0,
            _ => 0.0,
        };
        let growth_mib = slope * span;
        let second_half_mib = mean(second);
        Self {
            engine,
            calls_per_s: rate,
            first_half_mib: mean(first),
            second_half_mib,
            most_mib,
            slope_mib_per_min: slope * 60.0,
            growth_mib,
            is_flat: growth_mib <= GROWTH_MAX * second_half_mib && most_mib <= MEMORY_MAX_MIB,
            samples,
        }
    }
}

fn table(report: &Report) -> String {
    let mut table = screen::table([
        "engine",
        "load",
        "first half",
        "second half",
        "most",
        "slope, second half",
        "grown over it",
        "",
    ]);
    for series in &report.engines {
        let mib = |value: f64| format!("{} MiB", shown(value));
        table.add_row([
            series.engine.to_string(),
            format!("{:.0}/s", series.calls_per_s),
            mib(series.first_half_mib),
            mib(series.second_half_mib),
            mib(series.most_mib),
            format!("{:+.2} MiB/min", series.slope_mib_per_min),
            format!("{:+.2} MiB", series.growth_mib),
            if series.is_flat { "flat" } else { "NOT FLAT" }.to_owned(),
        ]);
    }
    let Machine {
        seconds_per_figure: seconds,
        members,
        ..
    } = report.machine;
    format!(
        "{table}\nresident memory of the node, once a second for {seconds} s under {IN_FLIGHT} calls \
         in flight (earns, every fourth followed by a redemption), {members} members\n\
         flat: grown by at most 3 % over the second half, never above {MEMORY_MAX_MIB} MiB\n{}",
        report.machine
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(mib: impl Fn(f64) -> f64) -> Series {
        let samples = (0..600).map(|second| (f64::from(second), mib(f64::from(second))));
        Series::of(Engine::Sqlite, 1.0, 120.0, samples.collect())
    }

    #[test]
    fn what_grows_to_a_plateau_is_flat_and_a_leak_is_not() {
        let plateau = series(|second| 60.0 + second.min(200.0) / 5.0 + (second % 7.0) / 10.0);
        assert!(plateau.is_flat, "{}", plateau.growth_mib);
        // 1 MiB a minute.
        let leak = series(|second| 60.0 + second / 60.0);
        assert!(!leak.is_flat);
        assert!((leak.slope_mib_per_min - 1.0).abs() < 1e-6);
        assert!((leak.growth_mib - 299.0 / 60.0).abs() < 1e-6);
    }
}
