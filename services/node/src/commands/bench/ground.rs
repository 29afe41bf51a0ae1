//! Where it is measured: databases of both engines, and what happens on the screen meanwhile.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;
use uuid::Uuid;

use super::bars::Engine;
use super::disk::{self, Disk};
use super::named::Named;
use super::postgres::Postgres;
use super::process::Setup;
use crate::Config;
use crate::commands::signals::Signals;

/// How often what is shown is drawn again.
const TICK: Duration = Duration::from_millis(100);

/// A place for databases, of this run.
pub(super) struct Ground {
    folder: TempDir,
    postgres: Option<Server>,
    /// What is going on.
    pub(super) progress: ProgressBar,
}

/// Where PostgreSQL databases are.
enum Server {
    /// The one that was named.
    Named(Named),
    /// A server of our own.
    Own(Postgres),
}

impl Ground {
    /// A place; with PostgreSQL if that is wanted, and named or installed.
    pub(super) fn open(config: &Config, wants_postgres: bool) -> anyhow::Result<Self> {
        let mut postgres = None;
        if wants_postgres {
            postgres = match &config.database_url {
                Some(url) if url.sqlite_path().is_some() => {
                    bail!("the bench makes its own SQLite files; --database-url is for PostgreSQL")
                }
                Some(url) => Some(Server::Named(Named::at(url.as_str())?)),
                None => Postgres::start()?.map(Server::Own),
            };
            if postgres.is_none() {
                eprintln!(
                    "PostgreSQL is not measured: no --database-url, and no server is installed"
                );
            }
        }
        if cfg!(debug_assertions) {
            eprintln!("this is a debug build: its figures say little about a release");
        }
        let progress = ProgressBar::new_spinner();
        progress.enable_steady_tick(TICK);
        Ok(Self {
            folder: TempDir::with_prefix("coalition-bench-")?,
            postgres,
            progress,
        })
    }

    /// The engines that there are, of those that are wanted.
    pub(super) fn engines(&self, wanted: &[Engine]) -> Vec<Engine> {
        let there = |engine: &Engine| *engine == Engine::Sqlite || self.postgres.is_some();
        wanted.iter().copied().filter(there).collect()
    }

    /// A new database, for a network of its own.
    pub(super) fn setup(&self, engine: Engine) -> anyhow::Result<Setup> {
        let name = Uuid::new_v4().simple().to_string();
        let database_url = match (engine, &self.postgres) {
            (Engine::Sqlite, _) => None,
            (Engine::Postgres, Some(Server::Named(server))) => Some(server.create(&name)?),
            (Engine::Postgres, Some(Server::Own(server))) => Some(server.create(&name)?),
            (Engine::Postgres, None) => bail!("there is no PostgreSQL"),
        };
        Ok(Setup {
            data_dir: self.folder.path().join(name),
            database_url,
            batch_commands: None,
            slow_batch_ms: None,
        })
    }

    /// What a PostgreSQL server of our own has logged.
    pub(super) fn server_log(&self) -> anyhow::Result<Option<String>> {
        match &self.postgres {
            Some(Server::Own(server)) => server.log().map(Some),
            _ => Ok(None),
        }
    }

    /// A folder for what belongs to no database.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Looks at the disk alone that databases of this engine are on; of a server that was named
    /// nobody here knows where that is.
    pub(super) async fn disk_alone(
        &self,
        engine: Engine,
        measured: Duration,
    ) -> anyhow::Result<Option<Disk>> {
        if self.is_elsewhere(engine) {
            return Ok(None);
        }
        self.now(format!("{engine}: the disk alone"));
        // A server of our own has its folder beside this one.
        Disk::alone(self.folder(), measured).await.map(Some)
    }

    /// Has what was written to that disk before brought to it.
    pub(super) async fn settle(&self, engine: Engine) -> anyhow::Result<()> {
        if self.is_elsewhere(engine) {
            return Ok(());
        }
        disk::settle(self.folder()).await
    }

    /// Whether databases of this engine are on a server that was named.
    fn is_elsewhere(&self, engine: Engine) -> bool {
        engine == Engine::Postgres && matches!(self.postgres, Some(Server::Named(_)))
    }

    /// Says what is measured now.
    pub(super) fn now(&self, what: impl Into<String>) {
        self.progress.set_message(what.into());
    }

    /// A bar for so many things to do, below what is measured now.
    pub(super) fn bar(&self, what: &str, count: u64) -> anyhow::Result<ProgressBar> {
        self.progress.disable_steady_tick();
        let bar = ProgressBar::new(count);
        let style = "{msg} {bar:30} {human_pos}/{human_len}  {per_sec}  {eta} left";
        let style = ProgressStyle::with_template(style).context("a style of our own")?;
        let bar = bar.with_style(style).with_message(what.to_owned());
        bar.enable_steady_tick(TICK);
        Ok(bar)
    }

    /// That is done.
    pub(super) fn done(&self, bar: &ProgressBar) {
        bar.finish_and_clear();
        self.progress.enable_steady_tick(TICK);
    }
}

/// Measures on each engine that is wanted, or on all where none is named, one after the other; what
/// was measured before it broke off is not lost, and how it ended is told beside it.
///
/// # Errors
///
/// There is no place to measure.
pub(super) async fn on_each<T>(
    config: &Config,
    named: &[Engine],
    measure: impl AsyncFn(&Ground, Engine) -> anyhow::Result<T>,
) -> anyhow::Result<(Vec<T>, anyhow::Result<()>)> {
    let wanted = if named.is_empty() {
        &Engine::ALL
    } else {
        named
    };
    let ground = Ground::open(config, wanted.contains(&Engine::Postgres))?;
    let mut all = Vec::new();
    let ended = interruptible(async {
        for engine in ground.engines(wanted) {
            all.push(Box::pin(measure(&ground, engine)).await?);
        }
        Ok(())
    })
    .await;
    ground.progress.finish_and_clear();
    Ok((all, ended))
}

/// Until it is done, or somebody presses Ctrl-C or ends this process as a supervisor does.
///
/// # Errors
///
/// It failed, or somebody did.
pub(super) async fn interruptible<T>(
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    // Measurements are large, and there is one of them.
    let work = Box::pin(work);
    let mut signals = Signals::listen()?;
    tokio::select! {
        done = work => done,
        _ = signals.next() => Err(anyhow::anyhow!("interrupted")),
    }
}
