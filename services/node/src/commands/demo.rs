//! `coalition demo`: a small network at work, on this machine, in seconds.
//!
//! [`cast`] says who takes part and on which terms, [`month`] lets the members shop for a simulated
//! month, [`wall`] prints what an operator wants to see afterwards. All of it goes over gRPC through
//! a gateway that listens on a real port, and stays there to be called until Ctrl-C. The data goes
//! when the demo does.

mod cast;
mod month;
mod wall;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use coalition_ledger::Timestamp;
use coalition_proto::settlement::{ComputeSettlementRequest, CutWindowRequest, NettingMethod};
use coalition_store::SystemClock;
use tempfile::TempDir;
use tokio::time::Instant;

use self::cast::Town;
use self::wall::Wall;
use crate::client::{Client, RequestIds, Who};
use crate::commands::signals::Signals;
use crate::node::make_data_dir;
use crate::{Config, Roles, RunningNode};

/// Calls in flight at once: the guests of a busy hour.
const IN_FLIGHT: usize = 64;

/// The simulated month: October 2026, as every demo shows the same.
const OPENING: Timestamp = Timestamp::from_micros(1_790_812_800_000_000);

const EXAMPLES: &str = "\
Examples:
  coalition demo
  coalition demo --seed 7 --members 100
  coalition demo --exit --listen 127.0.0.1:0
                                       as a check: leaves when the books are printed

NO_COLOR=1 prints without colours.";

/// How the month goes.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Leave when everything is printed, instead of staying up to be called
    #[arg(long)]
    pub exit: bool,
    /// Where the gateway listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7400")]
    pub listen: SocketAddr,
    /// Another seed, another month
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many members shop
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub members: u16,
}

/// Shows a network at work.
///
/// # Errors
///
/// The network cannot be started, or does not do what it should.
pub async fn run(args: Args, mut config: Config) -> anyhow::Result<ExitCode> {
    make_data_dir(&config)?;
    // Each demo begins with nothing and leaves nothing behind.
    let place = TempDir::with_prefix_in("demo-", &config.data_dir)
        .context("cannot make a directory for the demo")?;
    place.path().clone_into(&mut config.data_dir);
    config.database_url = None;
    config.network.face_values = vec![cast::face_value()];
    config.listen = Some(args.listen);

    let node = RunningNode::start(config.clone(), Roles::All).await?;
    let endpoint = node.endpoint();
    let mut signals = Signals::listen()?;
    let shown = tokio::select! {
        shown = show(&args, &config, &endpoint) => shown,
        // Whoever watches may leave at any time; that is no failure.
        _ = signals.next() => Ok(true),
    };
    node.shut_down().await;
    Ok(if shown? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether the books balance in the end.
async fn show(args: &Args, config: &Config, endpoint: &str) -> anyhow::Result<bool> {
    let started = Instant::now();
    let client = Client::new(endpoint, config, IN_FLIGHT, Arc::new(SystemClock))?;
    let ids = Arc::new(RequestIds::new(&args.seed.to_be_bytes()));
    let town = Town::furnish(&client, ids, args.members).await?;
    let wall = Wall::new(&town);
    wall.cast();
    let tally = month::shop(&town, args.seed).await?;

    let maker = client.caller(Who::MAKER)?;
    let cut = CutWindowRequest {
        request_id: town.ids.id("cut", month::end()),
        expected_window_id: String::new(),
    };
    let window = maker
        .call(cut)
        .await?
        .closed
        .context("a cut without a window")?;
    let compute = ComputeSettlementRequest {
        request_id: town.ids.id("settlement", month::end()),
        window_ids: vec![window.window_id.clone()],
        netting: NettingMethod::Multilateral.into(),
        validate_only: false,
    };
    let settlement = maker.call(compute).await?.settlement;
    let settlement = settlement.context("a settlement without a settlement")?;

    wall.month(&tally, started.elapsed());
    let viewer = client.caller(Who::VIEWER)?;
    wall.exposures(&viewer.exposures(&window.window_id).await?);
    wall.positions(&viewer.positions(&window.window_id).await?, &settlement);
    wall.payments(&settlement);
    let balanced = wall.books(&viewer).await?;
    if args.exit {
        return Ok(balanced);
    }
    wall.invitation(endpoint, &config.data_dir, &town);
    // Until Ctrl-C, which ends this from outside.
    std::future::pending().await
}
