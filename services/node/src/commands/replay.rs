//! `coalition replay`: sends a POS journal through a gateway and compares with expected figures.
//!
//! [`table`] and [`journal`] read the files, [`plan`] finds out which rows may be sent under which
//! time of the sandbox clock, [`drive`] sends them, [`compare`] holds the network's figures against
//! the expected ones. A replay that broke off can be started again over the same network: requests
//! are named by what they do, and what was done already answers as it did then. Deliberately
//! absent: any way to the figures but the public interface.

mod compare;
mod drive;
mod journal;
mod plan;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::builder::NonEmptyStringValueParser;
use coalition_ledger::Timestamp;
use coalition_ledger::money::Currency;
use coalition_ledger::time::MICROS_PER_DAY;
use coalition_proto::common::IdentifierType;
use coalition_store::SystemClock;
use comfy_table::Table;
use rust_decimal::Decimal;
use tempfile::TempDir;

use self::compare::{Difference, Figures};
use self::drive::{Driven, Driver};
use self::journal::Journal;
use crate::client::setup::Registrar;
use crate::client::{Client, RequestIds};
use crate::{Config, Roles, RunningNode};

/// Differences that are named; of more, only the number.
const DIFFERENCES_SHOWN: usize = 50;

const EXAMPLES: &str = "\
Examples:
  coalition replay --partners partners.csv --journal journal.csv.gz \\
      --expect-windows windows.csv --expect-balances balances.csv.gz
                                       on an embedded database that is removed afterwards
  coalition replay ... --database-url postgres://coalition@localhost/replay
                                       on an empty database, which is kept
  coalition replay ... --endpoint http://127.0.0.1:7400 --data-dir coalition-data
                                       through a running sandbox network with an empty database

Files may be plain CSV or gzip. The exit code is 0 only if every figure is as expected.";

/// What to send, and what should come out.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The partners with their terms (CSV)
    #[arg(long, value_name = "FILE")]
    pub partners: PathBuf,
    /// The journal: what happened at the tills, in order (CSV)
    #[arg(long, value_name = "FILE")]
    pub journal: PathBuf,
    /// What each window should come to, by partner (CSV)
    #[arg(long, value_name = "FILE")]
    pub expect_windows: PathBuf,
    /// What each member should have at the end (CSV)
    #[arg(long, value_name = "FILE")]
    pub expect_balances: PathBuf,
    /// The gateway of a running network, as http://127.0.0.1:7400; its data directory
    /// (--data-dir) holds the key to sign tokens with [default: start a network]
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    pub endpoint: Option<String>,
    /// What a point is worth in a network that is started, in major units of the journal's currency
    #[arg(
        long,
        value_name = "DECIMAL",
        default_value = "0.005",
        conflicts_with = "endpoint"
    )]
    pub face_value: Decimal,
    /// Calls in flight at once
    #[arg(long, value_name = "CALLS", default_value_t = 256, value_parser = in_flight)]
    pub in_flight: usize,
}

/// More would only wait at the gateway.
fn in_flight(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|calls| (1..=2_000).contains(calls))
        .ok_or_else(|| "must be from 1 to 2000".to_owned())
}

/// Replays a journal. The exit code says whether everything came out as expected.
///
/// # Errors
///
/// A file cannot be read, the network cannot be started or reached, or it fails.
pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let (windows, window_rows) = journal::read_windows(&args.expect_windows)?;
    let balances = journal::read_balances(&args.expect_balances)?;
    let journal = Journal::read(&args.partners, &args.journal)?;
    let expected = Figures {
        windows,
        window_rows,
        balances,
    };

    let network = Network::of(&args, config, &journal).await?;
    let replayed = tokio::select! {
        replayed = replay(&args, &network, journal, &expected) => replayed,
        pressed = tokio::signal::ctrl_c() => pressed
            .context("cannot listen for Ctrl-C")
            .and_then(|()| Err(anyhow::anyhow!("interrupted"))),
    };
    network.shut_down().await;

    let differences = replayed?;
    show(&differences);
    Ok(if differences.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Sends the journal and returns all differences.
async fn replay(
    args: &Args,
    network: &Network,
    journal: Journal,
    expected: &Figures,
) -> anyhow::Result<Vec<Difference>> {
    let client = Client::new(
        &network.endpoint,
        &network.config,
        args.in_flight,
        Arc::new(SystemClock),
    )?;
    let run = std::fs::read(&args.journal).context("reading the journal again")?;
    let ids = Arc::new(RequestIds::new(&run));

    // Agreements have to be in force when the first row happens.
    let first = journal.rows.first().context("there are no rows")?.at;
    let day = first.micros().div_euclid(MICROS_PER_DAY);
    let opening = Timestamp::from_micros(day.saturating_mul(MICROS_PER_DAY));
    let registrar = Registrar::new(client.clone(), Arc::clone(&ids), opening);
    registrar.set_clock(opening).await.context(
        "setting the clock to the journal's first day: the network must be a sandbox without postings",
    )?;
    let mut partners = Vec::new();
    for row in &journal.partners {
        let id = registrar.create_partner(&row.partner).await?;
        registrar.agree(id, row.terms.clone()).await?;
        partners.push(id);
    }
    let kind = IdentifierType::External;
    let enrolled = registrar
        .enroll(kind, &journal.members, args.in_flight, || {})
        .await?;
    eprintln!(
        "{} partners and {} members are in; {} rows to send",
        partners.len(),
        enrolled.len(),
        journal.rows.len()
    );

    let journal = Arc::new(journal);
    let driver = Driver::new(
        &client,
        Arc::clone(&journal),
        &partners,
        enrolled.clone(),
        ids,
        args.in_flight,
    )?;
    let Driven {
        differences,
        windows,
        speed,
    } = driver.run(&registrar).await?;

    let comparison = compare::Comparison {
        client: &client,
        journal: &journal,
        partners: &partners,
        members: &enrolled,
    };
    let mut all = differences;
    let (rows, found) = comparison.windows(expected, &windows).await?;
    all.extend(found);
    let (members, found) = comparison.balances(&expected.balances).await?;
    all.extend(found);
    let (books, found) = comparison.books().await?;
    all.extend(found);

    println!("{rows} of {} window rows match", expected.window_rows);
    println!("{members} of {} balances match", expected.balances.len());
    println!("{books}");
    println!("{speed}");
    Ok(all)
}

fn show(differences: &[Difference]) {
    if differences.is_empty() {
        println!("no differences");
        return;
    }
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY)
        .set_header(["where", "what", "expected", "found"]);
    for difference in differences.iter().take(DIFFERENCES_SHOWN) {
        table.add_row([
            difference.place.as_str(),
            difference.what,
            &difference.expected,
            &difference.found,
        ]);
    }
    println!("{table}");
    match differences.len().checked_sub(DIFFERENCES_SHOWN) {
        None | Some(0) => println!("{} differences", differences.len()),
        Some(more) => println!(
            "{} differences, {more} of them not shown",
            differences.len()
        ),
    }
}

/// The network that is replayed against: a running one, or one of our own.
struct Network {
    endpoint: String,
    config: Config,
    own: Option<(RunningNode, Option<TempDir>)>,
}

impl Network {
    async fn of(args: &Args, mut config: Config, journal: &Journal) -> anyhow::Result<Self> {
        if let Some(endpoint) = &args.endpoint {
            return Ok(Self {
                endpoint: endpoint.clone(),
                config,
                own: None,
            });
        }
        let code = journal
            .partners
            .first()
            .map(|row| row.currency_code.as_str())
            .context("there are no partners")?;
        let currency = Currency::from_code(code)
            .with_context(|| format!("{code:?} is not an ISO 4217 code"))?;
        config.network.face_values = vec![(currency, args.face_value)];
        config.listen = Some(([127, 0, 0, 1], 0).into());
        // A database that was named is kept, with its keys beside it; ours goes when we go.
        let place = if config.database_url.is_some() {
            None
        } else {
            let place =
                TempDir::with_prefix("coalition-replay-").context("no temporary directory")?;
            place.path().clone_into(&mut config.data_dir);
            Some(place)
        };
        let node = RunningNode::start(config.clone(), Roles::All).await?;
        Ok(Self {
            endpoint: node.endpoint(),
            config,
            own: Some((node, place)),
        })
    }

    async fn shut_down(self) {
        if let Some((node, _place)) = self.own {
            node.shut_down().await;
        }
    }
}
