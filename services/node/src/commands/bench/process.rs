//! A node as a process of its own, and what the system says of it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use coalition_store::SystemClock;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use super::postgres;
use super::slow::{SlowBatch, SlowBatches};
use crate::Config;
use crate::client::Client;
use crate::config::DATABASE_FILE;
use crate::config::layers::PREFIX;

/// Longest that a node may take to be ready.
const READY_MAX: Duration = Duration::from_mins(1);

/// Longest that it may take to stop; it promises ten seconds.
const STOP_MAX: Duration = Duration::from_secs(20);

/// How often the memory of a process is looked at that ends by itself.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Which node.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) data_dir: PathBuf,
    /// A PostgreSQL database, or the SQLite file of the data directory.
    pub(super) database_url: Option<String>,
    /// Most postings in one transaction; unset: as the node does by itself.
    pub(super) batch_commands: Option<usize>,
    /// Milliseconds after which a batch is told of; unset: as the node does by itself, and what it
    /// tells is not listened to.
    pub(super) slow_batch_ms: Option<u32>,
}

impl Setup {
    /// The file of a SQLite database.
    pub(super) fn database_file(&self) -> PathBuf {
        self.data_dir.join(DATABASE_FILE)
    }

    /// The database, as a URL.
    pub(super) fn url(&self) -> String {
        let own = || format!("sqlite:{}", self.database_file().display());
        self.database_url.clone().unwrap_or_else(own)
    }

    /// The bytes that the database takes, log and all: of SQLite once nobody has it open.
    pub(super) fn bytes(&self) -> anyhow::Result<u64> {
        match &self.database_url {
            None => bytes_below(&self.data_dir),
            Some(url) => {
                let bytes = postgres::ask(url, "select pg_database_size(current_database())")?;
                bytes
                    .parse()
                    .with_context(|| format!("{bytes:?} is no size"))
            }
        }
    }

    /// The binary, with these arguments, on this database.
    fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let binary = std::env::current_exe().context("this binary cannot be found")?;
        let mut command = Command::new(binary);
        command
            .args(arguments)
            .arg("--data-dir")
            .arg(&self.data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        // What is configured here is for this process.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(PREFIX) {
                command.env_remove(name);
            }
        }
        if let Some(url) = &self.database_url {
            // Not as an argument, which everybody on the machine can read.
            command.env(format!("{PREFIX}DATABASE_URL"), url);
        }
        Ok(command)
    }
}

/// What `coalition verify` came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verified {
    pub(super) postings: u64,
    pub(super) took: Duration,
    /// The most memory that it had.
    pub(super) memory_peak_mib: f64,
}

/// Has a process of its own verify the books, as an operator does.
///
/// # Errors
///
/// They do not balance.
pub(super) async fn verify(setup: &Setup) -> anyhow::Result<Verified> {
    let started = Instant::now();
    let child = setup
        .command(&["verify"])?
        .stderr(Stdio::piped())
        .spawn()
        .context("a check of the books cannot be started")?;
    let id = child.id().context("a check of the books ended at once")?;
    let mut ended = Box::pin(child.wait_with_output());
    let mut memory_peak_mib: f64 = 0.0;
    let output = loop {
        tokio::select! {
            output = &mut ended => break output?,
            () = tokio::time::sleep(LOOK_INTERVAL) => {
                // Once it has ended there is nothing to read.
                memory_peak_mib = memory_peak_mib.max(status(id, "VmHWM:").unwrap_or(0.0));
            }
        }
    };
    let took = started.elapsed();
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("the books do not balance: {said}{error}");
    }
    let postings = postings(&said).with_context(|| format!("no postings are told of: {said}"))?;
    Ok(Verified {
        postings,
        took,
        memory_peak_mib,
    })
}

/// How many postings a summary counts: `…, 12 postings, …`.
fn postings(said: &str) -> Option<u64> {
    let (before, _) = said.split_once(" postings")?;
    before.rsplit(' ').next()?.parse().ok()
}

/// A running node.
pub(super) struct Node {
    child: Child,
    endpoint: String,
    config: Config,
    slow_batches: Option<SlowBatches>,
    /// From the start of the process to its word that it is ready.
    pub(super) ready_after: Duration,
}

impl Node {
    pub(super) async fn start(setup: &Setup) -> anyhow::Result<Self> {
        let up = ["up", "--listen", "127.0.0.1:0", "--log-filter", "warn"];
        let mut command = setup.command(&up)?;
        if let Some(commands) = setup.batch_commands {
            command.env(
                format!("{PREFIX}LIMITS_BATCH_COMMANDS"),
                commands.to_string(),
            );
        }
        if let Some(millis) = setup.slow_batch_ms {
            command
                .env(format!("{PREFIX}LIMITS_SLOW_BATCH_MS"), millis.to_string())
                .args(["--log-format", "json"])
                .stderr(Stdio::piped());
        }
        let started = Instant::now();
        let mut child = command.spawn().context("a node cannot be started")?;
        let slow_batches = child.stderr.take().map(SlowBatches::listen);
        let out = child.stdout.take().context("a node without an output")?;
        let mut lines = BufReader::new(out).lines();
        let ready = timeout(READY_MAX, lines.next_line()).await;
        let Some(line) = ready.context("a node did not get ready in time")?? else {
            bail!("a node ended before it was ready");
        };
        let ready_after = started.elapsed();
        let endpoint = line.rsplit(' ').next().unwrap_or_default().to_owned();
        if !endpoint.starts_with("http://") {
            bail!("a node said {line:?} instead of where it listens");
        }
        let config = Config {
            data_dir: setup.data_dir.clone(),
            ..Config::default()
        };
        Ok(Self {
            child,
            endpoint,
            config,
            slow_batches,
            ready_after,
        })
    }

    /// A client of this node.
    pub(super) fn client(&self, in_flight: usize) -> anyhow::Result<Client> {
        Client::new(
            &self.endpoint,
            &self.config,
            in_flight,
            Arc::new(SystemClock),
        )
    }

    /// The slow batches that it has told of so far.
    pub(super) fn slow_batches(&self) -> Vec<SlowBatch> {
        let slow = self.slow_batches.as_ref();
        slow.map(SlowBatches::so_far).unwrap_or_default()
    }

    /// MiB of memory that it holds now.
    pub(super) fn memory_mib(&self) -> anyhow::Result<f64> {
        self.status("VmRSS:")
    }

    /// MiB of memory that it has held at most.
    pub(super) fn memory_peak_mib(&self) -> anyhow::Result<f64> {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> anyhow::Result<f64> {
        status(self.id()?, name)
    }

    /// The id of its process.
    pub(super) fn id(&self) -> anyhow::Result<u32> {
        self.child.id().context("the node has ended")
    }

    /// Stops it as an operator does, and waits for its end.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let pid = id.and_then(Pid::from_raw).context("the node has ended")?;
        kill_process(pid, Signal::TERM).context("the node cannot be told to stop")?;
        let ended = timeout(STOP_MAX, self.child.wait()).await;
        let status = ended.context("a node did not stop in time")??;
        if !status.success() {
            bail!("a node ended with {status}");
        }
        Ok(())
    }
}

/// A figure of /proc/<pid>/status, which counts in KiB, in MiB.
fn status(id: u32, name: &str) -> anyhow::Result<f64> {
    let path = format!("/proc/{id}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u32>().ok())
        .with_context(|| format!("{path} says nothing of {name}"))?;
    Ok(f64::from(kib) / 1_024.0)
}

/// The bytes of all files below a folder.
fn bytes_below(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let facts = entry.metadata()?;
        bytes += if facts.is_dir() {
            bytes_below(&entry.path())?
        } else {
            facts.len()
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postings_are_found_in_a_summary() {
        let said =
            "Books balance: 12 transactions, 1034 postings, 2068 transfers, 9 lots, 3 members.";
        assert_eq!(postings(said), Some(1_034));
        assert_eq!(postings("Books balance."), None);
    }
}
