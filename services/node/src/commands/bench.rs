//! `coalition bench`: how fast it is, by ratios that hold on any machine.
//!
//! Nodes run as processes of their own; the load comes from this one, over real sockets, with a
//! bearer token on every call. What a call costs is told beside what an empty call costs through the
//! same gateway in the same run, because absolute figures of shared machines drift.
//!
//! Without a subcommand the bars are measured: [`bars`] says what they are and what must be reached,
//! [`plan`] measures them. [`yardstick`], [`growth`], [`latency`], [`memory`] and [`anatomy`] each look
//! closer at one question. What they share: [`ground`] has databases, [`postgres`] starts a server where
//! one is installed, [`named`] uses one that somebody named, [`process`] runs nodes, [`furnish`] takes
//! in who uses them, [`load`] makes calls, [`fill`] and [`stock`] make books of a size, [`screen`] sets
//! tables up. Deliberately absent: anything but the public interface and what the system says of a
//! process or a file, except for filling books, which goes past the sockets, not past the ledger.

mod anatomy;
mod bars;
mod chart;
mod cores;
mod disk;
mod fill;
mod furnish;
mod ground;
mod growth;
mod latency;
mod load;
mod machine;
mod memory;
mod named;
mod pgbench;
mod plan;
mod postgres;
mod process;
mod screen;
mod server_log;
mod slow;
mod stock;
mod trend;
mod wal;
mod yardstick;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use self::bars::{BARS, Engine, Report};
use self::ground::{Ground, interruptible};
use self::plan::Bench;
use crate::Config;

const EXAMPLES: &str = "\
Examples:
  coalition bench                      all bars, some minutes
  coalition bench --quick --check      in little, for CI: two minutes; holds only what is steady
  coalition bench --full --check       at the sizes that the bars were set for: an hour
  coalition bench --only earn_over_empty_sqlite --only redeem_over_earn --seconds 10
  coalition bench --json --database-url postgres://coalition@localhost/bench
  coalition bench yardstick            beside pgbench's own transaction
  coalition bench growth --svg growth.svg
  coalition bench latency
  coalition bench memory
  coalition bench anatomy

A machine that does nothing else gives the steadiest figures. PostgreSQL is measured on the server that
--database-url names, in databases of its own there that are dropped at the end (coalition_bench_…; its
user needs createdb, and psql is needed here), or on a server that is started for the run where one is
installed.";

/// What to measure, and how thoroughly.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
#[command(subcommand_help_heading = "A closer look")]
pub struct Args {
    /// One question instead of all bars.
    #[command(subcommand)]
    pub look: Option<Look>,
    /// All bars.
    #[command(flatten)]
    pub bars: BarsArgs,
}

/// A closer look at one question.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Look {
    /// Durable earns beside pgbench's own TPC-B-like transaction, on one PostgreSQL server
    Yardstick(yardstick::Args),
    /// What books of ten thousand, a million and ten million postings do to every figure
    Growth(growth::Args),
    /// How long calls wait under a steady half load, and what the slowest waited for
    Latency(latency::Args),
    /// Whether the memory of a node under load stays where it is
    Memory(memory::Args),
    /// Where the time of a durable earn goes: steps of a batch, and whose the cores are
    Anatomy(anatomy::Args),
}

/// Which bars, and how thoroughly.
#[derive(Clone, Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub struct BarsArgs {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Fail if a bar is not reached
    #[arg(long)]
    pub check: bool,
    /// Measure only this bar; may be given more than once
    #[arg(long, value_name = "NAME", value_parser = bar_name)]
    pub only: Vec<String>,
    /// How long each figure is measured
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: Option<u64>,
    /// How many members the load is spread over
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    pub members: Option<u32>,
    /// Little of everything: for a first look
    #[arg(long, conflicts_with = "full")]
    pub quick: bool,
    /// The sizes that the bars were set for: a million postings in a window, ten million stored,
    /// 100,000 members
    #[arg(long)]
    pub full: bool,
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// How long each figure is measured.
    measured: Duration,
    members: usize,
    /// Partners where windows are cut.
    partners: usize,
    /// Postings stored where a figure is first taken, and in the window that is cut then.
    small: u64,
    /// Postings in the window that is cut later.
    window: u64,
    /// Postings stored where a figure is taken again.
    large: u64,
}

impl Sizes {
    fn of(args: &BarsArgs) -> Self {
        let mut sizes = if args.quick {
            Self {
                measured: Duration::from_secs(2),
                members: 2_000,
                partners: 200,
                small: 2_000,
                window: 20_000,
                large: 40_000,
            }
        } else if args.full {
            Self {
                measured: Duration::from_secs(10),
                members: 100_000,
                partners: 1_000,
                small: 10_000,
                window: 1_000_000,
                large: 10_000_000,
            }
        } else {
            Self {
                measured: Duration::from_secs(5),
                members: 20_000,
                partners: 1_000,
                small: 10_000,
                window: 100_000,
                large: 300_000,
            }
        };
        if let Some(seconds) = args.seconds {
            sizes.measured = Duration::from_secs(seconds);
        }
        if let Some(members) = args.members {
            sizes.members = members as usize;
        }
        sizes
    }
}

/// The name of a bar.
fn bar_name(name: &str) -> Result<String, String> {
    if BARS.iter().any(|bar| bar.name == name) {
        return Ok(name.to_owned());
    }
    let names: Vec<&str> = BARS.iter().map(|bar| bar.name).collect();
    Err(format!("there are: {}", names.join(", ")))
}

/// Measures. The exit code tells, where asked, whether every bar is reached.
///
/// # Errors
///
/// A node cannot be started, or calls fail under load.
pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    match args.look {
        None => Box::pin(bars(args.bars, config)).await,
        Some(Look::Yardstick(args)) => Box::pin(yardstick::run(args, config)).await,
        Some(Look::Growth(args)) => Box::pin(growth::run(args, config)).await,
        Some(Look::Latency(args)) => Box::pin(latency::run(args, config)).await,
        Some(Look::Memory(args)) => Box::pin(memory::run(args, config)).await,
        Some(Look::Anatomy(args)) => Box::pin(anatomy::run(args, config)).await,
    }
}

async fn bars(args: BarsArgs, config: Config) -> anyhow::Result<ExitCode> {
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let on = |engine: Engine| {
        BARS.iter()
            .any(|bar| bar.engine == engine && wanted(bar.name))
    };
    let engines: Vec<Engine> = Engine::ALL
        .into_iter()
        .filter(|engine| on(*engine))
        .collect();
    let ground = Ground::open(&config, on(Engine::Postgres))?;
    let engines = ground.engines(&engines);
    let mut bench = Bench::new(&ground, Sizes::of(&args), args.only.clone(), args.quick);
    let measured = interruptible(Box::pin(bench.run(&engines))).await;
    let report: Report = bench.into_report();
    drop(ground);

    // What was measured before it broke off is not lost.
    if args.json {
        println!("{}", report.json()?);
    } else {
        println!("{}", report.table(std::io::stdout().is_terminal()));
    }
    measured?;
    let short = report.short();
    for name in &short {
        eprintln!("falls short: {name}");
    }
    Ok(if args.check && !short.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
