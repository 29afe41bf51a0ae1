//! `coalition up`: a whole network in one process.

use std::process::ExitCode;

use super::role::{self, Listening};
use crate::config::Config;
use crate::node::Roles;

const EXAMPLES: &str = "\
Examples:
  coalition up
      on 127.0.0.1:7400, everything in ./coalition-data
  coalition up --data-dir /var/lib/coalition --listen 0.0.0.0:7400
  coalition up --database-url postgres://coalition:secret@127.0.0.1:5432/coalition

Then, in another terminal (with grpcurl, or buf curl):
  grpcurl -plaintext 127.0.0.1:7400 list
  grpcurl -plaintext -H \"authorization: Bearer $(coalition token --role operator_viewer)\" \\
    127.0.0.1:7400 coalition.settlement.v1.SettlementService/GetOpenWindow

Ctrl-C stops it in an orderly way; what was answered is on disk.";

/// Arguments of `coalition up`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where it listens.
    #[command(flatten)]
    pub listening: Listening,
}

/// Runs all roles until it is told to stop.
///
/// # Errors
///
/// It does not start.
pub async fn run(config: Config) -> anyhow::Result<ExitCode> {
    role::run(config, Roles::All).await
}
