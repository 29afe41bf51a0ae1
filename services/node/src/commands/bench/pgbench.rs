//! pgbench's own TPC-B-like transaction, run by the real program.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;

use super::load::histogram;
use super::postgres::{connect, program};

/// Threads of pgbench.
const THREADS: &str = "2";

/// What a run came to.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Transactions a second, without the time to connect.
    pub(super) rate: f64,
    pub(super) latency_us: Histogram<u64>,
}

/// Makes the tables, at this scale: 100,000 accounts each.
pub(super) fn initialize(url: &str, scale: u32) -> anyhow::Result<()> {
    let mut pgbench = program("pgbench")?;
    pgbench.args(["--initialize", "--quiet", "--scale", &scale.to_string()]);
    connect(&mut pgbench, url);
    run(&mut pgbench).map(drop)
}

/// Runs the transaction, prepared, with so many clients for so long. `folder` is for its log.
pub(super) fn measure(
    url: &str,
    clients: usize,
    time: Duration,
    folder: &Path,
) -> anyhow::Result<Run> {
    let folder = tempfile::TempDir::with_prefix_in("pgbench-", folder)?;
    let seconds = time.as_secs().max(1);
    let mut pgbench = program("pgbench")?;
    pgbench
        .current_dir(folder.path())
        .args(["--no-vacuum", "--protocol", "prepared", "--jobs", THREADS])
        .args(["--client", &clients.to_string()])
        .args(["--time", &seconds.to_string()])
        .args(["--log", "--log-prefix", "transactions"]);
    connect(&mut pgbench, url);
    let said = run(&mut pgbench)?;
    let (transactions, rate) =
        summary(&said).with_context(|| format!("pgbench says something else: {said}"))?;
    let mut latency_us = histogram()?;
    for file in std::fs::read_dir(folder.path())? {
        let log = std::fs::read_to_string(file?.path())?;
        for line in log.lines() {
            let took = latency(line).with_context(|| format!("pgbench logs {line:?}"))?;
            latency_us.saturating_record(took);
        }
    }
    ensure!(
        latency_us.len() == transactions,
        "pgbench logged {} of {transactions} transactions",
        latency_us.len()
    );
    Ok(Run { rate, latency_us })
}

fn run(pgbench: &mut Command) -> anyhow::Result<String> {
    let output = pgbench.output().context("pgbench cannot be started")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("pgbench failed: {}", said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// How many transactions there were, and how many a second.
fn summary(said: &str) -> Option<(u64, f64)> {
    let after = |words: &str| said.lines().find_map(|line| line.strip_prefix(words));
    let transactions = after("number of transactions actually processed: ")?;
    let transactions = transactions.split('/').next()?.trim().parse().ok()?;
    let rate = after("tps = ")?.split(' ').next()?.parse().ok()?;
    Some((transactions, rate))
}

/// How long a transaction took, in microseconds: `client transaction time script epoch micros`.
fn latency(line: &str) -> Option<u64> {
    line.split(' ').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read() {
        let said = "\
transaction type: <builtin: TPC-B (sort of)>
scaling factor: 10
query mode: prepared
number of clients: 8
number of threads: 2
duration: 5 s
number of transactions actually processed: 8163
number of failed transactions: 0 (0.000%)
latency average = 4.899 ms
initial connection time = 14.103 ms
tps = 1632.872315 (without initial connection time)
";
        assert_eq!(summary(said), Some((8_163, 1_632.872_315)));
        assert_eq!(summary("tps = 1"), None);
    }

    #[test]
    fn a_line_of_the_log_is_read() {
        assert_eq!(latency("0 199 2241 0 1175850568 995598"), Some(2_241));
        assert_eq!(latency("0 199"), None);
    }
}
