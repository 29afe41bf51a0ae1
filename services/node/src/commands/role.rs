//! One role in a process of its own; and how any process runs until it is told to stop.

use std::net::SocketAddr;
use std::process::ExitCode;

use crate::commands::signals::Signals;
use crate::config::Config;
use crate::node::{Roles, RunningNode};

/// Where a process listens.
#[derive(Debug, clap::Args)]
pub struct Listening {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    pub listen: Option<SocketAddr>,
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "expected an address and a port, such as 127.0.0.1:7400")
}

const SPLIT: &str = "\
Processes on one machine, over PostgreSQL, find each other without further settings:
  export COALITION_DATABASE_URL=postgres://coalition:secret@127.0.0.1:5432/coalition
  coalition migrate
  coalition earn &          # 127.0.0.1:7401
  coalition redeem &        # 127.0.0.1:7402
  coalition settlement &    # 127.0.0.1:7403
  coalition network &       # 127.0.0.1:7404
  coalition worker &        # 127.0.0.1:7405, health only
  coalition gateway         # 127.0.0.1:7400, for clients
In a sandbox they share the keys in the data directory. On several machines, and in production, give
all of them the same keys (settings auth.jwks, keys.identifier, keys.page_token).";

/// Arguments of `coalition gateway`.
#[derive(Debug, clap::Args)]
#[command(after_help = help(GATEWAY))]
pub struct GatewayArgs {
    /// Where it listens.
    #[command(flatten)]
    pub listening: Listening,
}

/// Arguments of `coalition earn`.
#[derive(Debug, clap::Args)]
#[command(after_help = help(EARN))]
pub struct EarnArgs {
    /// Where it listens.
    #[command(flatten)]
    pub listening: Listening,
}

/// Arguments of `coalition redeem`.
#[derive(Debug, clap::Args)]
#[command(after_help = help(REDEEM))]
pub struct RedeemArgs {
    /// Where it listens.
    #[command(flatten)]
    pub listening: Listening,
}

/// Arguments of `coalition settlement`.
#[derive(Debug, clap::Args)]
#[command(after_help = help(SETTLEMENT))]
pub struct SettlementArgs {
    /// Where it listens.
    #[command(flatten)]
    pub listening: Listening,
}

/// Arguments of `coalition network`.
#[derive(Debug, clap::Args)]
#[command(after_help = help(NETWORK))]
pub struct NetworkArgs {
    /// Where it listens.
    #[command(flatten)]
    pub listening: Listening,
}

/// Arguments of `coalition worker`.
#[derive(Debug, clap::Args)]
#[command(after_help = help(WORKER))]
pub struct WorkerArgs {
    /// Where it listens.
    #[command(flatten)]
    pub listening: Listening,
}

const GATEWAY: &str = "\
Examples:
  coalition gateway
      to services on this machine, at their usual ports
  COALITION_UPSTREAMS_EARN=http://10.0.0.7:7401,http://10.0.0.8:7401 \\
    coalition gateway --listen 0.0.0.0:7400
      to two earn services elsewhere, and the rest on this machine; needs no database";

const EARN: &str = "\
Examples:
  coalition earn --database-url postgres://coalition:secret@127.0.0.1:5432/coalition
  coalition earn --config /etc/coalition.toml --listen 10.0.0.7:7401";

const REDEEM: &str = "\
Examples:
  coalition redeem --database-url postgres://coalition:secret@127.0.0.1:5432/coalition
  coalition redeem --config /etc/coalition.toml --listen 10.0.0.7:7402";

const SETTLEMENT: &str = "\
Examples:
  coalition settlement --database-url postgres://coalition:secret@127.0.0.1:5432/coalition
  coalition settlement --config /etc/coalition.toml --listen 10.0.0.7:7403";

const NETWORK: &str = "\
Examples:
  coalition network --database-url postgres://coalition:secret@127.0.0.1:5432/coalition
  coalition network --config /etc/coalition.toml --listen 10.0.0.7:7404";

const WORKER: &str = "\
Examples:
  coalition worker --database-url postgres://coalition:secret@127.0.0.1:5432/coalition
  COALITION_LIMITS_SWEEP_INTERVAL_S=10 coalition worker --config /etc/coalition.toml";

fn help(examples: &str) -> String {
    format!("{examples}\n\n{SPLIT}")
}

/// Runs a role until it is told to stop.
///
/// # Errors
///
/// It does not start; see [`RunningNode::start`].
pub async fn run(config: Config, roles: Roles) -> anyhow::Result<ExitCode> {
    // Before anything else: a signal during the start must not find nobody listening.
    let mut signals = Signals::listen()?;
    let node = tokio::select! {
        started = RunningNode::start(config, roles) => started?,
        name = signals.next() => {
            tracing::info!(signal = name, "told to stop before it was ready");
            return Ok(ExitCode::SUCCESS);
        }
    };
    // For whoever started this: the only line on standard output, the address its last word.
    println!("coalition {roles} is ready at {}", node.endpoint());
    let name = signals.next().await;
    tracing::info!(signal = name, "stopping; a second signal stops at once");
    tokio::select! {
        () = node.shut_down() => Ok(ExitCode::SUCCESS),
        _ = signals.next() => {
            tracing::warn!("stopping at once");
            // Not by returning, which waits for whatever still blocks.
            std::process::exit(1)
        }
    }
}
