//! `coalition verify`: recomputes every figure in the books from the postings.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use coalition_ledger::audit::{Counts, Finding};
use coalition_store::verify::{Listener, Report, verify};
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

use crate::config::Config;
use crate::node::open_store;

/// Findings that are shown; all are counted.
const SHOWN_MAX: usize = 50;

/// Width of the table where there is no terminal to ask.
const WIDTH_DEFAULT: u16 = 100;

const EXAMPLES: &str = "\
Examples:
  coalition verify
  coalition verify --database-url postgres://coalition:secret@127.0.0.1:5432/coalition

Reads the database as of one instant: on PostgreSQL while the network runs; a SQLite file belongs to
the process that has it open, so stop `coalition up` first, or ask it over its API
(coalition.settlement.v1.SettlementService/Verify). Exit code 0 only if every figure is right.";

/// Arguments of `coalition verify`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Show every finding, not just the first 50
    #[arg(long)]
    pub all: bool,
}

/// What an audit came to.
#[derive(Debug, Default)]
struct Outcome {
    findings: Vec<Finding>,
    counted: u64,
    counts: Option<Counts>,
}

/// Verifies the configured database; the exit code tells whether it is as it must be.
///
/// # Errors
///
/// The database cannot be read.
pub async fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let url = config.database();
    if let Some(path) = url.sqlite_path() {
        // Opening would make an empty one, and find nothing wrong with it.
        ensure!(
            std::path::Path::new(path).exists(),
            "there is no database {path}"
        );
    }
    let store = open_store(config).await?;
    if let Err(error) = store.check_schema().await {
        store.close().await;
        return Err(error).with_context(|| format!("cannot verify {url}"));
    }
    let audited = audit(
        store.as_ref(),
        if args.all { usize::MAX } else { SHOWN_MAX },
    )
    .await;
    store.close().await;
    let outcome = audited.with_context(|| format!("cannot verify {url}"))?;
    let counts = outcome
        .counts
        .context("the audit did not come to its end")?;
    if outcome.counted == 0 {
        println!("Books balance: {}.", described(&counts));
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", table(&outcome.findings));
    let more = outcome.counted - outcome.findings.len() as u64;
    if more > 0 {
        println!("… and {more} more (--all shows them)");
    }
    let findings = if outcome.counted == 1 {
        "finding"
    } else {
        "findings"
    };
    println!(
        "The books are WRONG: {} {findings} in {}.",
        outcome.counted,
        described(&counts)
    );
    Ok(ExitCode::FAILURE)
}

async fn audit(store: &dyn coalition_store::Store, shown_max: usize) -> anyhow::Result<Outcome> {
    let mut watched = Watched {
        bar: progress_bar(),
        shown_max,
        outcome: Outcome::default(),
    };
    let audited = verify(store, &mut watched).await;
    watched.bar.finish_and_clear();
    audited?;
    Ok(watched.outcome)
}

/// An audit that somebody watches.
struct Watched {
    bar: ProgressBar,
    shown_max: usize,
    outcome: Outcome,
}

#[tonic::async_trait]
impl Listener for Watched {
    async fn hear(&mut self, report: Report) -> bool {
        match report {
            Report::Progress { done, total } => {
                self.bar.set_length(total);
                self.bar.set_position(done);
            }
            Report::Finding(finding) => {
                self.outcome.counted += 1;
                if self.outcome.findings.len() < self.shown_max {
                    self.outcome.findings.push(finding);
                }
            }
            Report::Summary { counts, .. } => self.outcome.counts = Some(counts),
        }
        true
    }
}

/// Shows on a terminal only.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = "{bar:40} {human_pos}/{human_len} transactions  {per_sec}  {eta} left";
    match ProgressStyle::with_template(style) {
        Ok(style) => bar.with_style(style),
        // The template is ours; without it the bar is only plainer.
        Err(_) => bar,
    }
}

fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["where", "what", "should be", "is"]);
    if !std::io::stdout().is_terminal() {
        table.set_width(WIDTH_DEFAULT);
    }
    for Finding {
        place,
        what,
        expected,
        found,
    } in findings
    {
        table.add_row([place.as_str(), what, expected, found]);
    }
    table
}

fn described(counts: &Counts) -> String {
    let Counts {
        transactions,
        postings,
        transfers,
        lots,
        members,
        windows,
    } = counts;
    format!(
        "{transactions} transactions, {postings} postings, {transfers} transfers, {lots} lots, \
         {members} members, {windows} windows"
    )
}
