//! What a process has of the books: the database, the way in, and what is done without being
//! asked.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use coalition_ledger::Clock;
use coalition_store::books::Books;
use coalition_store::error::StoreError;
use coalition_store::model::KeyFingerprint;
use coalition_store::operations::Operations;
use coalition_store::poster::{Poster, PosterSettings};
use coalition_store::{Store, SystemClock};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::Roles;
use super::keys::{NetworkKeys, make_data_dir};
use crate::config::Config;

/// Time for what was decided to become durable, after the last call was answered or cut.
const POSTER_MAX: Duration = Duration::from_secs(2);

/// Time for the database to close.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// The books of one process.
pub(super) struct OpenBooks {
    /// What services translate calls for.
    pub(super) books: Books,
    /// The secrets that they need for it; boxed, since a key that is set up takes kilobytes.
    pub(super) keys: Box<NetworkKeys>,
    poster: Poster,
    sweeper: Option<Sweeper>,
}

impl OpenBooks {
    /// Opens the database; with all roles in this process also brings it up to date.
    ///
    /// # Errors
    ///
    /// The database cannot be reached or holds something else, or a key is missing.
    pub(super) async fn open(config: &Config, roles: Roles) -> anyhow::Result<Self> {
        let keys = Box::new(NetworkKeys::find(config)?);
        let store = open_store(config).await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let fingerprint = keys.identifier.fingerprint();
        let checked = check(store.as_ref(), config, roles, clock.as_ref(), &fingerprint);
        if let Err(error) = checked.await {
            // Closed in an orderly way: who tries again at once must not find it still open.
            store.close().await;
            return Err(error);
        }
        // Each mint of ids has a seed of its own.
        let [posting, operating, serving] = [seed()?, seed()?, seed()?];
        let settings = PosterSettings {
            batch_commands: config.limits.batch_commands,
            slow_batch: Duration::from_millis(config.limits.slow_batch_ms.into()),
            queue_calls: config.limits.queue_calls,
        };
        let poster = Poster::start(Arc::clone(&store), Arc::clone(&clock), posting, settings);
        let operations = Operations::new(
            Arc::clone(&store),
            poster.clone(),
            Arc::clone(&clock),
            operating,
        );
        let books = Books::new(
            store,
            poster.clone(),
            operations.clone(),
            Arc::clone(&clock),
            serving,
        );
        let sweeper = matches!(roles, Roles::All | Roles::Worker)
            .then(|| Sweeper::start(operations.clone(), config.limits.sweep_interval_s));
        Ok(Self {
            books,
            keys,
            poster,
            sweeper,
        })
    }

    /// The way in.
    pub(super) fn poster(&self) -> &Poster {
        &self.poster
    }

    /// Makes durable what was decided, and closes the database. Bounded in time.
    pub(super) async fn close(self) {
        // The poster first: it answers whoever still waits, the sweeper too.
        if timeout(POSTER_MAX, self.poster.shut_down()).await.is_err() {
            tracing::warn!("the last batch takes too long; its callers will ask again");
        }
        let rest = async {
            if let Some(sweeper) = self.sweeper {
                sweeper.stop().await;
            }
            self.books.store().close().await;
        };
        if timeout(CLOSE_MAX, rest).await.is_err() {
            tracing::warn!("the database takes too long to close");
        }
    }
}

/// Opens the database that is configured, without looking at what is in it.
pub(crate) async fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    let url = config.database();
    if config.database_url.is_none() {
        make_data_dir(config)?;
    }
    coalition_store::open(url.as_str(), &config.pools())
        .await
        .with_context(|| format!("cannot open the database {url}"))
}

/// Whether the books in the database are those of this network.
async fn check(
    store: &dyn Store,
    config: &Config,
    roles: Roles,
    clock: &dyn Clock,
    identifier_key: &KeyFingerprint,
) -> anyhow::Result<()> {
    let url = config.database();
    let attached = async {
        if roles == Roles::All {
            store.migrate(&config.terms(), clock.now()).await?;
        }
        store.attach(identifier_key).await
    };
    let attached = attached.await;
    let hint = match attached {
        Err(StoreError::Unavailable(_)) => " (does it run, and is --database-url right?)",
        _ => "",
    };
    let network = attached.with_context(|| format!("cannot use the database {url}{hint}"))?;
    if network.terms.mode != config.terms().mode {
        bail!(
            "the network in {url} is not of mode {:?}: correct the mode in the configuration, or \
             use another database",
            config.mode
        );
    }
    Ok(())
}

/// Keeps the ids of this process apart from those of others.
fn seed() -> anyhow::Result<[u8; 6]> {
    let mut seed = [0; 6];
    aws_lc_rs::rand::fill(&mut seed).context("the system has no randomness")?;
    Ok(seed)
}

/// Looks again and again for points that fell due, and posts it.
struct Sweeper {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Sweeper {
    fn start(operations: Operations, interval_s: u32) -> Self {
        let stop = CancellationToken::new();
        let until = stop.clone();
        let task = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_secs(u64::from(interval_s.max(1))));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // A sweep under way is not cut: what it posts is answered by the poster either way.
            while until.run_until_cancelled(ticks.tick()).await.is_some() {
                match operations.sweep().await {
                    Ok(0) => {}
                    Ok(members) => tracing::debug!(members, "points matured or expired"),
                    Err(error) => {
                        let error = anyhow::Error::from(error);
                        tracing::warn!("what fell due was not posted: {error:#}");
                    }
                }
            }
        });
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the sweeper ended badly");
        }
    }
}
