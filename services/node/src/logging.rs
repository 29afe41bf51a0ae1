//! The log of a process: to standard error, text for people, JSON for machines.

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Begins to log; `quiet` commands, which print an answer and end, log warnings only, unless
/// configured.
///
/// # Errors
///
/// The filter that is configured does not parse, or this process logs already.
pub fn start(config: &LogConfig, quiet: bool) -> anyhow::Result<()> {
    let usual = if quiet { "warn" } else { "info" };
    let filter = config.filter.as_deref().unwrap_or(usual);
    let filter = EnvFilter::builder()
        .parse(filter)
        .with_context(|| format!("log.filter: {filter:?} is no filter; write for example info, or warn,coalition_gateway=debug"))?;
    let terminal = io::stderr().is_terminal();
    let text = match config.format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let started = if text {
        lines
            .with_ansi(terminal && plain_is_not_asked_for())
            .try_init()
    } else {
        lines.json().flatten_event(true).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("cannot log: {error}"))
}

/// See <https://no-color.org>.
fn plain_is_not_asked_for() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
