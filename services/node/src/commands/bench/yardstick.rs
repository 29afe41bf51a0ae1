//! `coalition bench yardstick`: durable earns beside pgbench's own TPC-B-like transaction.
//!
//! pgbench speaks SQL to the server and nothing else: no gateway, no token, no protobuf. Its figure
//! is what one machine and its disk give to a transaction of five statements at that concurrency.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use comfy_table::CellAlignment;
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::bars::{Engine, shown};
use super::ground::{Ground, interruptible};
use super::load::{Measured, closed_loop};
use super::machine::Machine;
use super::process::{Node, Setup};
use super::stock::Stock;
use super::{pgbench, postgres, screen};
use crate::Config;

/// Partners that load is spread over.
const PARTNERS: usize = 100;

/// How often they take turns, so that a machine that gets slower does so for all.
const ROUNDS: u32 = 3;

/// Processes that post one by one beside each other.
const PROCESSES: usize = 8;

/// What a server is asked for: settings that decide what a commit costs.
const SETTINGS: [&str; 6] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "max_wal_size",
];

const EXAMPLES: &str = "\
Examples:
  coalition bench yardstick
  coalition bench yardstick --clients 32 --seconds 60 --scale 100
  coalition bench yardstick --json --database-url postgres://coalition@localhost/bench

All run on one server, one after the other, in three rounds, with as many callers at once. pgbench is
the installed one.";

/// How long, and how many at once.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// How long each is measured, over all rounds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(3..=3_600))]
    pub seconds: u64,
    /// Callers at once
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u16).range(8..=200))]
    pub clients: u16,
    /// Of pgbench's tables, 100,000 accounts each [default: as many as clients, the least at which
    /// they do not wait for each other's branch]
    #[arg(long, value_name = "SCALE", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub scale: Option<u32>,
    /// How many members our load is spread over
    #[arg(long, value_name = "COUNT", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub members: u32,
    /// Postings that are stored before
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    pub stored: u64,
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    server: Vec<(&'static str, String)>,
    clients: u16,
    pgbench_scale: u32,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    what: &'static str,
    per_s: f64,
    /// Beside pgbench's.
    over_pgbench: f64,
    p50_ms: f64,
    p99_ms: f64,
    worst_ms: f64,
}

/// What one of them came to, over all rounds.
struct Total {
    what: &'static str,
    rates: Vec<f64>,
    latency_us: Histogram<u64>,
}

/// Measures.
///
/// # Errors
///
/// There is no PostgreSQL, or no pgbench.
pub(super) async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let ground = Ground::open(&config, true)?;
    if ground.engines(&[Engine::Postgres]).is_empty() {
        bail!("the yardstick needs PostgreSQL: name a database, or install a server");
    }
    postgres::program("pgbench")?;
    let report = interruptible(measure(&ground, &args)).await;
    ground.progress.finish_and_clear();
    let report = report?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", table(&report));
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(ground: &Ground, args: &Args) -> anyhow::Result<Report> {
    let clients = usize::from(args.clients);
    let scale = args.scale.unwrap_or(args.clients.into());
    let mut stock = Stock::found(ground, Engine::Postgres, PARTNERS, args.members as usize).await?;
    stock.fill_to(ground, args.stored).await?;
    ground.now(format!("pgbench: {scale} times 100,000 accounts"));
    let other = ground.setup(Engine::Postgres)?.url();
    let url = other.clone();
    tokio::task::spawn_blocking(move || pgbench::initialize(&url, scale)).await??;

    let one_by_one = Setup {
        batch_commands: Some(1),
        ..stock.setup.clone()
    };
    let ours: [(&str, &Setup, usize); 3] = [
        ("Earn through the gateway, group commit", &stock.setup, 1),
        ("one posting per transaction, one process", &one_by_one, 1),
        (
            "one posting per transaction, 8 processes",
            &one_by_one,
            PROCESSES,
        ),
    ];
    let mut totals = Vec::new();
    for what in ours
        .iter()
        .map(|(what, ..)| *what)
        .chain(["pgbench, TPC-B-like"])
    {
        totals.push(Total {
            what,
            rates: Vec::new(),
            latency_us: super::load::histogram()?,
        });
    }
    let part = Duration::from_secs(args.seconds) / ROUNDS;
    for round in 1..=ROUNDS {
        for ((what, setup, processes), total) in ours.iter().zip(&mut totals) {
            ground.now(format!("{round} of {ROUNDS}: {what}"));
            total.add(&earns(&stock, setup, *processes, clients, part).await?)?;
        }
        ground.now(format!("{round} of {ROUNDS}: pgbench"));
        let (url, folder) = (other.clone(), ground.folder().to_owned());
        let run = move || pgbench::measure(&url, clients, part, &folder);
        let run = tokio::task::spawn_blocking(run).await??;
        if let Some(total) = totals.last_mut() {
            total.rates.push(run.rate);
            total.latency_us.add(&run.latency_us)?;
        }
    }
    let yardstick = totals
        .last()
        .map(Total::rate)
        .context("nothing was measured")?;
    let server = SETTINGS.map(|name| {
        let said = postgres::ask(&other, &format!("show {name}"));
        said.map(|said| (name, said))
    });
    Ok(Report {
        machine: Machine::this(args.seconds, args.members as usize),
        server: server.into_iter().collect::<anyhow::Result<_>>()?,
        clients: args.clients,
        pgbench_scale: scale,
        rows: totals.iter().map(|total| total.row(yardstick)).collect(),
    })
}

/// Earns through the gateways of so many processes: one figure for each.
async fn earns(
    stock: &Stock,
    setup: &Setup,
    processes: usize,
    clients: usize,
    measured: Duration,
) -> anyhow::Result<Vec<Measured>> {
    let mut nodes = Vec::new();
    for _ in 0..processes {
        nodes.push(Node::start(setup).await?);
    }
    let loads = nodes.iter().enumerate().map(|(place, node)| async move {
        // The rest goes to the first.
        let each = clients / processes + usize::from(place < clients % processes);
        let town = stock.town.through(&node.client(each)?);
        closed_loop(&town.earns(PARTNERS, town.members())?, each, measured).await
    });
    let loads = try_join_all(loads).await?;
    for node in nodes {
        node.stop().await?;
    }
    Ok(loads)
}

impl Total {
    fn add(&mut self, loads: &[Measured]) -> anyhow::Result<()> {
        self.rates.push(loads.iter().map(Measured::rate).sum());
        for load in loads {
            self.latency_us.add(load.latency_us())?;
        }
        Ok(())
    }

    fn rate(&self) -> f64 {
        super::trend::mean(self.rates.iter().copied())
    }

    fn row(&self, yardstick: f64) -> Row {
        let ms = |quantile: f64| {
            let micros = self.latency_us.value_at_quantile(quantile);
            Duration::from_micros(micros).as_secs_f64() * 1e3
        };
        Row {
            what: self.what,
            per_s: self.rate(),
            over_pgbench: self.rate() / yardstick,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            worst_ms: ms(1.0),
        }
    }
}

fn table(report: &Report) -> String {
    let mut table = screen::table(["", "a second", "÷ pgbench", "p50", "p99", "worst"]);
    for row in &report.rows {
        let ms = |value: f64| format!("{} ms", shown(value));
        table.add_row([
            row.what.to_owned(),
            format!("{:.0}", row.per_s),
            format!("{:.2}", row.over_pgbench),
            ms(row.p50_ms),
            ms(row.p99_ms),
            ms(row.worst_ms),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let settings = report.server.iter();
    let settings: Vec<String> = settings
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    format!(
        "{table}\n{} callers at once, {} s each in {ROUNDS} rounds; pgbench -M prepared -s {}, straight \
         to the server; ours through a gateway, with tokens\nPostgreSQL: {}\n{}",
        report.clients,
        report.machine.seconds_per_figure,
        report.pgbench_scale,
        settings.join(", "),
        report.machine
    )
}
