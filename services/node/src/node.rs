//! A running process: one role of a network, or all of them.
//!
//! [`RunningNode::start`] reads from top to bottom what a process is made of: a listener, keys for
//! tokens, the books, the services, a gateway. [`books`] opens and closes what touches the
//! database, [`keys`] finds the network's secrets, [`services`] puts the services together. Absent
//! on purpose: signals and the command line, which are the commands' business.

mod books;
mod keys;
mod services;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use coalition_rpc::auth::dev::{DevKey, JWKS_FILE};
use coalition_rpc::auth::keys::KeySource;
use coalition_rpc::server::Ended;
use coalition_rpc::{AuthSettings, Authenticator, Health, ServerSettings, Stack, serve};
use coalition_store::poster::Poster;
use coalition_store::{Store, SystemClock};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use self::books::OpenBooks;
pub(crate) use self::books::open_store;
pub(crate) use self::keys::{development_key, make_data_dir};
use self::services::Served;
use crate::config::Config;

/// Time that calls in hand are given at a shutdown. What touches the books comes after it and has
/// its own time; together they are below ten seconds.
const DRAIN_MAX: Duration = Duration::from_secs(6);

/// Longest that a process with all roles may take from listening to being ready.
const READY_MAX: Duration = Duration::from_secs(5);

/// What a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roles {
    /// Everything, the gateway in front.
    All,
    /// The gateway; the services are elsewhere.
    Gateway,
    /// The earn service.
    Earn,
    /// The redeem service.
    Redeem,
    /// The settlement service.
    Settlement,
    /// The registry: partners, agreements, members, the sandbox's clock.
    Network,
    /// What no call waits for.
    Worker,
}

impl Roles {
    /// The subcommand that runs it.
    #[must_use]
    pub const fn command(self) -> &'static str {
        match self {
            Self::All => "up",
            Self::Gateway => "gateway",
            Self::Earn => "earn",
            Self::Redeem => "redeem",
            Self::Settlement => "settlement",
            Self::Network => "network",
            Self::Worker => "worker",
        }
    }

    /// Where it listens, unless configured: a port of its own, so that all can run on one machine.
    #[must_use]
    pub const fn listen_default(self) -> SocketAddr {
        let port = match self {
            Self::All | Self::Gateway => 7400,
            Self::Earn => 7401,
            Self::Redeem => 7402,
            Self::Settlement => 7403,
            Self::Network => 7404,
            Self::Worker => 7405,
        };
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.command())
    }
}

/// A process that serves.
pub struct RunningNode {
    address: SocketAddr,
    dev_key: Option<DevKey>,
    health: Vec<Health>,
    /// Stops everything when the node is dropped without being shut down, as in a failed test.
    stop: DropGuard,
    server: JoinHandle<Ended>,
    books: Option<OpenBooks>,
}

impl RunningNode {
    /// Starts a process with these roles; returns when it is ready: listening, the books open and,
    /// for [`Roles::All`], brought up to date, and its health says that it serves. A gateway of its
    /// own is ready before the services behind it are; its health says which of them it can reach.
    ///
    /// # Errors
    ///
    /// The configuration does not fit the roles, the address is taken, or keys or database cannot
    /// be used; each says what to do.
    pub async fn start(config: Config, roles: Roles) -> anyhow::Result<Self> {
        refuse_what_does_not_fit(&config, roles)?;
        // First of all, so that a second process on one port changes nothing.
        let listen = config.listen.unwrap_or(roles.listen_default());
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!("cannot listen on {listen} (choose another address with --listen)")
        })?;
        let address = listener
            .local_addr()
            .context("cannot tell where this process listens")?;

        let (authenticator, dev_key) = authenticator(&config).await?;
        let books = match roles {
            Roles::Gateway => None,
            _ => Some(OpenBooks::open(&config, roles).await?),
        };
        let stop = CancellationToken::new();
        // From here on whatever fails also ends what was begun.
        let guard = stop.clone().drop_guard();
        let served =
            services::put_together(&config, roles, &authenticator, books.as_ref(), stop.clone());
        let served = match (served.await, books) {
            (Ok(served), books) => (served, books),
            (Err(error), None) => return Err(error),
            (Err(error), Some(books)) => {
                books.close().await;
                return Err(error);
            }
        };
        let (Served { stack, health }, books) = served;

        if let Some(books) = &books {
            let watched = watch_books(
                books.poster().clone(),
                Arc::clone(books.books.store()),
                health.clone(),
            );
            tokio::spawn(stop.clone().run_until_cancelled_owned(watched));
        }
        let settings = server_settings(&config, roles);
        let server = tokio::spawn(serve(listener, stack.clone(), settings, stop));
        let node = Self {
            address,
            dev_key,
            health,
            stop: guard,
            server,
            books,
        };
        if roles != Roles::Gateway
            && let Err(error) = wait_until_serving(stack).await
        {
            node.shut_down().await;
            return Err(error);
        }
        tracing::info!(
            role = %roles,
            %address,
            mode = if config.production() { "production" } else { "sandbox" },
            database = (roles != Roles::Gateway).then(|| config.database().to_string()),
            "ready"
        );
        Ok(node)
    }

    /// Where it answers, as `http://127.0.0.1:7400`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The key to make tokens with: in a sandbox that has no identity provider configured.
    #[must_use]
    pub fn dev_keys(&self) -> Option<&DevKey> {
        self.dev_key.as_ref()
    }

    /// Stops: no new calls, those in hand are answered, what was decided is durable, the database
    /// is closed. Always ends, within ten seconds.
    pub async fn shut_down(self) {
        for health in &self.health {
            health.set_all(false).await;
        }
        drop(self.stop);
        match self.server.await {
            Ok(Ended::Drained) => {}
            Ok(Ended::Cut { connections }) => {
                tracing::warn!(
                    connections,
                    "some callers did not get their answer; they will ask again"
                );
            }
            Err(error) => tracing::error!(%error, "the server ended badly"),
        }
        if let Some(books) = self.books {
            books.close().await;
        }
        tracing::info!("stopped");
    }
}

impl fmt::Debug for RunningNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningNode")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Roles beside each other need a database that several processes can open.
fn refuse_what_does_not_fit(config: &Config, roles: Roles) -> anyhow::Result<()> {
    let alone = matches!(roles, Roles::All | Roles::Gateway);
    if alone || config.database().sqlite_path().is_none() {
        return Ok(());
    }
    let database = match &config.database_url {
        Some(url) => format!("{url} is SQLite"),
        None => "no database is configured, which means SQLite".to_owned(),
    };
    bail!(
        "`coalition {roles}` runs one role beside others, but {database}, which a single process \
         has to itself. Run all roles in one process with `coalition up`, or name a PostgreSQL \
         database with --database-url postgres://… (set up once with `coalition migrate`)."
    )
}

fn server_settings(config: &Config, roles: Roles) -> ServerSettings {
    let usual = match roles {
        Roles::All | Roles::Gateway => ServerSettings::edge(),
        _ => ServerSettings::within(),
    };
    ServerSettings {
        connections_max: config.limits.connections,
        drain_max: DRAIN_MAX,
        ..usual
    }
}

/// What checks tokens, and the key to make some where the network has its own.
async fn authenticator(config: &Config) -> anyhow::Result<(Arc<Authenticator>, Option<DevKey>)> {
    let (keys, dev_key) = match config.auth.key_source() {
        Some(configured) => (configured, None),
        None if config.production() => bail!(
            "auth.jwks is not set: a production network needs the public keys of whoever issues \
             its tokens. Name a JWKS file or its https address in the configuration file or in \
             COALITION_AUTH_JWKS."
        ),
        None => {
            let key = keys::development_key(config)?;
            (KeySource::File(config.data_dir.join(JWKS_FILE)), Some(key))
        }
    };
    let settings = AuthSettings {
        keys,
        issuer: config.auth.issuer.clone(),
        audience: config.auth.audience.clone(),
        production: config.production(),
    };
    let authenticator = Authenticator::new(settings, Arc::new(SystemClock))
        .await
        .context("no token could be checked")?;
    Ok((Arc::new(authenticator), dev_key))
}

/// Tells everybody who asks for the health of this process, once posting has stopped because the
/// books are damaged or the disk fails: it cannot do what it is there for until somebody has looked.
async fn watch_books(poster: Poster, store: Arc<dyn Store>, health: Vec<Health>) {
    tokio::select! {
        () = poster.stopped() => {
            tracing::error!("not serving any more: the books are damaged; run `coalition verify`");
        }
        () = store.failed() => {
            tracing::error!("not serving any more: look after the disk, then start again");
        }
    }
    for health in &health {
        health.set_all(false).await;
    }
}

/// Waits until the process says of itself that it serves.
async fn wait_until_serving(stack: Stack) -> anyhow::Result<()> {
    let serving = async {
        let request = HealthCheckRequest::default();
        let mut told = HealthClient::new(stack).watch(request).await?.into_inner();
        while let Some(health) = told.message().await? {
            if health.status() == ServingStatus::Serving {
                return Ok(());
            }
        }
        bail!("the watch over the services ended")
    };
    timeout(READY_MAX, serving)
        .await
        .context("the services did not get ready in time")?
}
