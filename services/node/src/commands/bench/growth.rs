//! `coalition bench growth`: what more postings do to every figure.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use comfy_table::CellAlignment;
use indicatif::HumanCount;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::bars::{Engine, shown};
use super::chart::{Chart, Line, Panel, Scale};
use super::ground::{Ground, interruptible};
use super::machine::Machine;
use super::screen;
use super::stock::{IN_FLIGHT, Stock, ratio};
use crate::Config;

const EXAMPLES: &str = "\
Examples:
  coalition bench growth --svg growth.svg
      10 thousand, a million and 10 million postings on PostgreSQL, up to a million on SQLite
  coalition bench growth --sizes 10000,100000 --seconds 3
  coalition bench growth --engine sqlite --json > sqlite.json
  coalition bench growth --draw sqlite.json --draw postgres.json --svg growth.svg
      what was measured before, together

Books are filled through the poster in this process, a sixth of all purchases paid with points; then
the window is cut and settled, `coalition verify` runs, and, after a tenth of the postings more (at most
100,000), earns go through a node's gateway. Ctrl-C ends it; what was measured by then is printed, and
drawn.";

/// Postings after which a network that was verified has in its caches what it works with.
const WARM_UP: u64 = 100_000;

/// How far, and where.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Draw a chart into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Measure nothing: show what is in this file, made by --json; may be given more than once
    #[arg(long, value_name = "FILE", conflicts_with_all = ["engine", "sizes", "seconds"])]
    pub draw: Vec<PathBuf>,
    /// Measure on this engine only; may be given more than once
    #[arg(long, value_name = "sqlite|postgres", hide_possible_values = true)]
    pub engine: Vec<Engine>,
    /// Postings at which figures are taken
    #[arg(long, value_name = "COUNT,...", value_delimiter = ',', default_value = "10000,1000000,10000000", value_parser = clap::value_parser!(u64).range(100..=1_000_000_000))]
    pub sizes: Vec<u64>,
    /// SQLite is not filled any further
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    pub sqlite_max: u64,
    /// How long calls are measured at each size
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// How many members there are
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub members: u32,
    /// How many partners there are
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u16).range(3..=5_000))]
    pub partners: u16,
}

#[derive(Debug, Serialize, Deserialize)]
struct Report {
    machine: Machine,
    partners: u16,
    rows: Vec<Row>,
}

/// Figures at one size.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    engine: Engine,
    /// Postings stored.
    postings: u64,
    /// How fast they were filled in, without a gateway; 0 where none were.
    filled_per_s: f64,
    bytes_per_posting: f64,
    /// In the window that was cut.
    window_postings: u64,
    cut_and_compute_s: f64,
    verify_s: f64,
    verify_memory_mib: f64,
    /// Durable, through a gateway.
    earns_per_s: f64,
    earn_p99_ms: f64,
    /// Empty calls in turns with the earns: how fast the machine was.
    empty_calls_per_s: f64,
    bytes_per_earn: f64,
    /// The most that the node had while calls were measured.
    memory_mib: f64,
}

/// Measures, or shows what was measured.
///
/// # Errors
///
/// A database cannot be filled, a node cannot be started, calls fail, or a file cannot be written.
pub(super) async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let (report, measured) = if args.draw.is_empty() {
        let mut report = Report {
            machine: Machine::this(args.seconds, args.members as usize),
            partners: args.partners,
            rows: Vec::new(),
        };
        let measured = measure(&args, &config, &mut report.rows).await;
        (report, measured)
    } else {
        (earlier(&args.draw)?, Ok(()))
    };
    // What was measured before it broke off is not lost.
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", table(&report));
    }
    if let Some(path) = &args.svg {
        std::fs::write(path, chart(&report).svg())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    measured?;
    Ok(ExitCode::SUCCESS)
}

/// What several runs measured, as one; of the machine, what the last says.
fn earlier(files: &[PathBuf]) -> anyhow::Result<Report> {
    let mut all: Option<Report> = None;
    for file in files {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let mut report: Report = serde_json::from_str(&text)
            .with_context(|| format!("{} was not made by --json", file.display()))?;
        if let Some(before) = all.take() {
            report.rows.splice(0..0, before.rows);
        }
        all = Some(report);
    }
    let mut all = all.context("no file")?;
    ensure!(!all.rows.is_empty(), "nothing was measured");
    all.rows.sort_by_key(|row| (row.engine, row.postings));
    Ok(all)
}

async fn measure(args: &Args, config: &Config, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let wanted = if args.engine.is_empty() {
        Engine::ALL.to_vec()
    } else {
        args.engine.clone()
    };
    let mut sizes = args.sizes.clone();
    sizes.sort_unstable();
    let ground = Ground::open(config, wanted.contains(&Engine::Postgres))?;
    let measured = interruptible(async {
        for engine in ground.engines(&wanted) {
            let (partners, members) = (args.partners.into(), args.members as usize);
            let mut stock = Stock::found(&ground, engine, partners, members).await?;
            for size in &sizes {
                if engine == Engine::Sqlite && *size > args.sqlite_max {
                    continue;
                }
                let row = at_size(&ground, &mut stock, *size, args.seconds).await?;
                if std::io::stderr().is_terminal() {
                    let (rate, size) = (row.earns_per_s, HumanCount(row.postings));
                    ground.progress.println(format!(
                        "{engine}, {size} postings: {rate:.0} earns a second, verified in {:.2} s, cut \
                         and settled in {:.0} ms",
                        row.verify_s,
                        row.cut_and_compute_s * 1e3
                    ));
                }
                rows.push(row);
            }
        }
        Ok(())
    })
    .await;
    ground.progress.finish_and_clear();
    measured
}

async fn at_size(
    ground: &Ground,
    stock: &mut Stock,
    size: u64,
    seconds: u64,
) -> anyhow::Result<Row> {
    let engine = stock.engine;
    let before = stock.stored;
    let started = Instant::now();
    stock.fill_to(ground, size).await?;
    let filled_per_s = ratio(stock.stored - before, 1) / started.elapsed().as_secs_f64();
    let bytes_per_posting = stock.bytes_per_posting()?;
    let postings = stock.stored;
    let now = |what: &str| ground.now(format!("{engine}, {postings} postings: {what}"));
    now("cutting and computing");
    let (window_postings, cut) = stock.cut_and_compute().await?;
    now("verifying");
    let verified = stock.verify().await?;
    // That read all there is, and left the caches full of what hardly anybody asks for.
    stock
        .fill_to(ground, postings + (size / 10).min(WARM_UP))
        .await?;
    now("earns through the gateway");
    let calls = stock.throughput(Duration::from_secs(seconds)).await?;
    Ok(Row {
        engine,
        postings,
        filled_per_s,
        bytes_per_posting,
        window_postings,
        cut_and_compute_s: cut.as_secs_f64(),
        verify_s: verified.took.as_secs_f64(),
        verify_memory_mib: verified.memory_peak_mib,
        earns_per_s: calls.earn.rate(),
        earn_p99_ms: calls.earn.latency_ms(0.99),
        empty_calls_per_s: calls.empty.rate(),
        bytes_per_earn: calls.bytes_per_earn,
        memory_mib: calls.memory_peak_mib,
    })
}

fn table(report: &Report) -> String {
    let mut table = screen::table([
        "engine",
        "postings",
        "earns/s",
        "p99",
        "empty calls/s",
        "B/earn",
        "B/posting",
        "verify",
        "its memory",
        "cut + compute",
        "memory",
        "filled/s",
    ]);
    for row in &report.rows {
        table.add_row([
            row.engine.to_string(),
            HumanCount(row.postings).to_string(),
            format!("{:.0}", row.earns_per_s),
            format!("{} ms", shown(row.earn_p99_ms)),
            format!("{:.0}", row.empty_calls_per_s),
            format!("{:.0}", row.bytes_per_earn),
            format!("{:.0}", row.bytes_per_posting),
            format!("{} s", shown(row.verify_s)),
            format!("{:.0} MiB", row.verify_memory_mib),
            format!("{:.0} ms", row.cut_and_compute_s * 1e3),
            format!("{:.0} MiB", row.memory_mib),
            format!("{:.0}", row.filled_per_s),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n{}\n{}", conditions(report), report.machine)
}

/// What stayed the same.
fn conditions(report: &Report) -> String {
    let Machine {
        seconds_per_figure,
        members,
        ..
    } = report.machine;
    format!(
        "{} members, {} partners; earns and empty calls through the gateway, after a tenth more \
         postings (at most {}), {IN_FLIGHT} in flight, {seconds_per_figure} s",
        HumanCount(members as u64),
        report.partners,
        HumanCount(WARM_UP)
    )
}

fn chart(report: &Report) -> Chart {
    let panel = |title: &str, unit: &str, scale: Scale, figure: fn(&Row) -> f64| Panel {
        title: title.to_owned(),
        unit: unit.to_owned(),
        scale,
        lines: Engine::ALL.map(|engine| {
            let rows = report.rows.iter().filter(|row| row.engine == engine);
            Line {
                name: engine.to_string(),
                points: rows
                    .map(|row| (ratio(row.postings, 1), figure(row)))
                    .collect(),
            }
        }),
    };
    Chart {
        title: "What more postings do".to_owned(),
        x: "postings stored".to_owned(),
        notes: vec![conditions(report), report.machine.to_string()],
        panels: vec![
            panel("Durable earns", "a second", Scale::FromZero, |row| {
                row.earns_per_s
            }),
            panel(
                "Stored per earn",
                "bytes, indexes included",
                Scale::FromZero,
                |row| row.bytes_per_earn,
            ),
            panel(
                "Node under load",
                "MiB resident, at most",
                Scale::FromZero,
                |row| row.memory_mib,
            ),
            panel(
                "Cut + compute settlement",
                "milliseconds",
                Scale::FromZero,
                |row| row.cut_and_compute_s * 1e3,
            ),
            panel(
                "Verify everything",
                "seconds, log scale",
                Scale::Log,
                |row| row.verify_s,
            ),
            panel(
                "Slowest hundredth of earns",
                "milliseconds at full load",
                Scale::FromZero,
                |row| row.earn_p99_ms,
            ),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(engine: Engine, sizes: &[u64]) -> Report {
        let row = |postings: &u64| Row {
            engine,
            postings: *postings,
            filled_per_s: 15_000.0,
            bytes_per_posting: 700.0,
            window_postings: *postings,
            cut_and_compute_s: 0.02,
            verify_s: ratio(*postings, 1_000_000) * 4.0,
            verify_memory_mib: 50.0,
            earns_per_s: 5_000.0,
            earn_p99_ms: 30.0,
            empty_calls_per_s: 20_000.0,
            bytes_per_earn: 650.0,
            memory_mib: 90.0,
        };
        Report {
            machine: Machine::this(5, 100),
            partners: 3,
            rows: sizes.iter().map(row).collect(),
        }
    }

    #[test]
    fn what_several_runs_measured_is_shown_together() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("p.json", report(Engine::Postgres, &[10_000, 1_000_000])),
            ("s.json", report(Engine::Sqlite, &[10_000])),
        ];
        let files = files.map(|(name, report)| {
            let path = folder.path().join(name);
            std::fs::write(&path, serde_json::to_string(&report).unwrap()).unwrap();
            path
        });
        let all = earlier(&files).unwrap();
        let rows: Vec<(Engine, u64)> = all.rows.iter().map(|r| (r.engine, r.postings)).collect();
        let expected = [
            (Engine::Sqlite, 10_000),
            (Engine::Postgres, 10_000),
            (Engine::Postgres, 1_000_000),
        ];
        assert_eq!(rows, expected);
        assert!(table(&all).contains("1,000,000"));
        let svg = chart(&all).svg();
        assert!(svg.contains("PostgreSQL") && svg.contains("Verify everything"));
    }
}
