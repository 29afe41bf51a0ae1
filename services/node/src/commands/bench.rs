//! `coalition bench`: how fast it is, by ratios that hold on any machine.
//!
//! Nodes run as processes of their own; the load comes from this one, over real sockets, with a
//! bearer token on every call. What a call costs is told beside what an empty call costs through the
//! same gateway in the same run, because absolute figures of shared machines drift. [`bars`] says
//! what is measured and what must be reached, [`plan`] measures it, [`load`] makes the load,
//! [`process`] runs nodes, [`furnish`] fills them, [`postgres`] starts a server where one is
//! installed. Deliberately absent: anything but the public interface and what the system says of a
//! process or a file.

mod bars;
mod furnish;
mod load;
mod plan;
mod postgres;
mod process;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};

use self::bars::{BARS, Engine, Report};
use self::plan::Bench;
use self::postgres::Postgres;
use crate::Config;

const EXAMPLES: &str = "\
Examples:
  coalition bench                      everything, a few minutes
  coalition bench --quick --check      the same in little, for CI
  coalition bench --only earn_over_empty_sqlite --only redeem_over_earn --seconds 10
  coalition bench --json --database-url postgres://coalition@localhost/bench

A machine that does nothing else gives the steadiest figures. PostgreSQL is measured on the database
that is named, or on a server of its own where one is installed.";

/// What to measure, and how thoroughly.
#[derive(Clone, Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
#[command(after_help = EXAMPLES)]
pub struct Args {
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
    /// The sizes that the bars were set for: a million postings in a window, 100,000 members
    #[arg(long)]
    pub full: bool,
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// How long each figure is measured.
    measured: Duration,
    members: usize,
    /// Postings in the window that is cut, first and then.
    window: (usize, usize),
    /// Earns that are stored, first and then.
    stored: (usize, usize),
}

impl Sizes {
    fn of(args: &Args) -> Self {
        let mut sizes = if args.quick {
            Self {
                measured: Duration::from_secs(2),
                members: 2_000,
                window: (1_000, 10_000),
                stored: (2_000, 20_000),
            }
        } else if args.full {
            Self {
                measured: Duration::from_secs(10),
                members: 100_000,
                window: (100_000, 1_000_000),
                stored: (10_000, 1_000_000),
            }
        } else {
            Self {
                measured: Duration::from_secs(5),
                members: 20_000,
                window: (10_000, 100_000),
                stored: (10_000, 100_000),
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
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: its figures say little about a release");
    }
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let mut engines = vec![Engine::Sqlite];
    // Kept to the end: the server goes with it.
    let mut server = None;
    if BARS
        .iter()
        .any(|bar| bar.engine == Engine::Postgres && wanted(bar.name))
    {
        match &config.database_url {
            Some(url) if url.sqlite_path().is_some() => {
                bail!("the bench makes its own SQLite files; --database-url is for PostgreSQL")
            }
            Some(_) => engines.push(Engine::Postgres),
            None => match Postgres::start()? {
                Some(started) => {
                    server = Some(started);
                    engines.push(Engine::Postgres);
                }
                None => eprintln!(
                    "PostgreSQL is not measured: no --database-url, and no server is installed"
                ),
            },
        }
    }
    let database_url = match (&config.database_url, &server) {
        (Some(url), _) => Some(url.as_str().to_owned()),
        (None, server) => server.as_ref().map(|server| server.url().to_owned()),
    };

    let mut bench = Bench::new(Sizes::of(&args), args.only.clone(), database_url)?;
    let measured = tokio::select! {
        measured = bench.run(&engines) => measured,
        pressed = tokio::signal::ctrl_c() => pressed
            .context("cannot listen for Ctrl-C")
            .and_then(|()| Err(anyhow::anyhow!("interrupted"))),
    };
    let report: Report = bench.into_report();
    drop(server);
    measured?;

    if args.json {
        println!("{}", report.json()?);
    } else {
        println!("{}", report.table(std::io::stdout().is_terminal()));
    }
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
