//! `coalition migrate`: sets up a database, or brings it up to date.

use std::process::ExitCode;

use anyhow::Context;
use coalition_ledger::Clock;
use coalition_store::SystemClock;

use crate::config::Config;
use crate::node::open_store;

const EXAMPLES: &str = "\
Examples:
  coalition migrate --database-url postgres://coalition:secret@127.0.0.1:5432/coalition
  COALITION_NETWORK_FACE_VALUES='{EUR = \"0.01\", USD = \"0.01\"}' coalition migrate

A new database gets its mode and face values from the configuration, once; on an existing one they
have to agree. `coalition up` does this by itself. Running it again changes nothing.";

/// Arguments of `coalition migrate`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {}

/// Sets the configured database up.
///
/// # Errors
///
/// It cannot be reached, or holds something else.
pub async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let url = config.database();
    let store = open_store(config).await?;
    let network = store.migrate(&config.terms(), SystemClock.now()).await;
    store.close().await;
    let network = network.with_context(|| format!("cannot set up the database {url}"))?;
    let face_values: Vec<String> = network
        .terms
        .face_values
        .iter()
        .map(|(currency, worth)| format!("{worth} {}", currency.code()))
        .collect();
    println!(
        "{url} is up to date: a {} network, a point is worth {}",
        match network.terms.mode {
            coalition_store::model::Mode::Sandbox => "sandbox",
            coalition_store::model::Mode::Production => "production",
        },
        face_values.join(" or ")
    );
    Ok(ExitCode::SUCCESS)
}
