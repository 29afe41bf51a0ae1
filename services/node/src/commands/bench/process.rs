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

use crate::Config;
use crate::client::Client;
use crate::config::layers::PREFIX;

/// Longest that a node may take to be ready.
const READY_MAX: Duration = Duration::from_mins(1);

/// Longest that it may take to stop; it promises ten seconds.
const STOP_MAX: Duration = Duration::from_secs(20);

/// Which node.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) data_dir: PathBuf,
    /// A PostgreSQL database, or the SQLite file of the data directory.
    pub(super) database_url: Option<String>,
    /// Most postings in one transaction; unset: as the node does by itself.
    pub(super) batch_commands: Option<usize>,
}

/// A running node.
pub(super) struct Node {
    child: Child,
    endpoint: String,
    config: Config,
    /// From the start of the process to its word that it is ready.
    pub(super) ready_after: Duration,
}

impl Node {
    pub(super) async fn start(setup: &Setup) -> anyhow::Result<Self> {
        let binary = std::env::current_exe().context("this binary cannot be found")?;
        let mut command = Command::new(binary);
        command
            .args(["up", "--listen", "127.0.0.1:0", "--log-filter", "warn"])
            .arg("--data-dir")
            .arg(&setup.data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        // What is configured here is for this process.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(PREFIX) {
                command.env_remove(name);
            }
        }
        if let Some(url) = &setup.database_url {
            // Not as an argument, which everybody on the machine can read.
            command.env(format!("{PREFIX}DATABASE_URL"), url);
        }
        if let Some(commands) = setup.batch_commands {
            command.env(
                format!("{PREFIX}LIMITS_BATCH_COMMANDS"),
                commands.to_string(),
            );
        }
        let started = Instant::now();
        let mut child = command.spawn().context("a node cannot be started")?;
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

    /// MiB of memory that it holds now.
    pub(super) fn memory_mib(&self) -> anyhow::Result<f64> {
        self.status("VmRSS:")
    }

    /// MiB of memory that it has held at most.
    pub(super) fn memory_peak_mib(&self) -> anyhow::Result<f64> {
        self.status("VmHWM:")
    }

    /// A figure of /proc/<pid>/status, which counts in KiB.
    fn status(&self, name: &str) -> anyhow::Result<f64> {
        let id = self.child.id().context("the node has ended")?;
        let path = format!("/proc/{id}/status");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u32>().ok())
            .with_context(|| format!("{path} says nothing of {name}"))?;
        Ok(f64::from(kib) / 1_024.0)
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

/// The bytes of all files below a folder.
pub(super) fn bytes_below(folder: &Path) -> anyhow::Result<u64> {
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
