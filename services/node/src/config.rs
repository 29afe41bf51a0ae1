//! What a process has to know before it starts: one struct, everything with a default.
//!
//! A file, the environment and flags fill it, each overriding the one before ([`layers`]). Every
//! process of a network can read the same file. Secrets never show in `Debug` ([`secret`]). The
//! sample `coalition.example.toml` names every setting and is held against this module by a test.
//! Absent on purpose: anything that the books keep themselves (partners, agreements, the clock).

pub mod layers;
pub mod secret;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use coalition_ledger::money::Currency;
use coalition_rpc::auth::COALITION;
use coalition_rpc::auth::keys::KeySource;
use coalition_rpc::limit::CALLS_MAX_DEFAULT;
use coalition_rpc::server::CONNECTIONS_MAX_DEFAULT;
use coalition_store::model::NetworkTerms;
use coalition_store::open::{PoolSettings, READERS, UNITS};
use coalition_store::poster::PosterSettings;
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, de};

pub use self::layers::{ConfigError, Layers};
pub use self::secret::{DatabaseUrl, Secret};

/// Where everything of a network on one machine is kept, unless configured.
pub const DATA_DIR_DEFAULT: &str = "coalition-data";

/// The file of the embedded database, below the data directory.
pub const DATABASE_FILE: &str = "coalition.db";

/// Seconds between two looks for points that fell due, unless configured.
pub const SWEEP_INTERVAL_S_DEFAULT: u32 = 60;

/// Milliseconds that postings take before the log tells where the time went, unless configured.
pub const SLOW_BATCH_MS_DEFAULT: u32 = 1_000;
/// Milliseconds that a question waits for a connection to the database, unless configured.
pub const READER_WAIT_MS_DEFAULT: u64 = 250;

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether this is a sandbox or the real thing; a database keeps the mode it was made with.
    pub mode: Mode,
    /// Where keys and the embedded database are kept.
    pub data_dir: PathBuf,
    /// The database; unset: a SQLite file in the data directory.
    pub database_url: Option<DatabaseUrl>,
    /// Where this process listens; unset: 127.0.0.1 and the port of its role. Port 0 takes a free
    /// one.
    pub listen: Option<SocketAddr>,
    /// Whether reflection is served; unset: in a sandbox only.
    pub reflection: Option<bool>,
    /// What a new database is set up with.
    pub network: NetworkConfig,
    /// Whose tokens are accepted.
    pub auth: AuthConfig,
    /// Keys that all processes of a network share.
    pub keys: KeysConfig,
    /// Where a gateway of its own finds the services.
    pub upstreams: UpstreamsConfig,
    /// How much at once.
    pub limits: LimitsConfig,
    /// What is logged, and how.
    pub log: LogConfig,
}

/// Whether the points are real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// To try things out: the clock can be moved, keys are made as needed.
    #[default]
    Sandbox,
    /// Real points and money: the system's time, keys and tokens from outside.
    Production,
}

/// What a new database is set up with; an existing one must agree.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// The currencies, each with the major units that one point is worth at the till.
    #[serde(deserialize_with = "face_values")]
    pub face_values: Vec<(Currency, Decimal)>,
}

/// Whose tokens are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// What claim `iss` must be.
    pub issuer: String,
    /// What claim `aud` must be, or contain.
    pub audience: String,
    /// The public keys, as a JWKS: a file, or an https address. Unset: the development key of the
    /// data directory, in a sandbox; required in production.
    pub jwks: Option<String>,
}

/// Keys that all processes of a network share, each 32 bytes as 64 hexadecimal digits. Unset: made
/// once and kept in the data directory, in a sandbox; required in production.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeysConfig {
    /// Hashes the identifiers of members. Can never be changed: hashes made with another key find
    /// nobody.
    pub identifier: Option<Secret>,
    /// Signs page tokens. A change makes clients start their lists again.
    pub page_token: Option<Secret>,
}

/// Where a gateway of its own finds the services: addresses like `http://10.0.0.7:7401`, one or
/// several of each.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamsConfig {
    /// Of the earn service.
    #[serde(deserialize_with = "one_or_more")]
    pub earn: Vec<String>,
    /// Of the redeem service.
    #[serde(deserialize_with = "one_or_more")]
    pub redeem: Vec<String>,
    /// Of the settlement service.
    #[serde(deserialize_with = "one_or_more")]
    pub settlement: Vec<String>,
    /// Of the network's registry: partners, members, the sandbox's clock.
    #[serde(deserialize_with = "one_or_more")]
    pub network: Vec<String>,
}

/// How much at once.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Calls in hand; more are told to come back.
    pub calls: usize,
    /// Connections held; more are closed as they come.
    pub connections: usize,
    /// Postings that are made durable together; with 1, each is on disk before the next begins.
    pub batch_commands: usize,
    /// Milliseconds that postings take, made durable together, before the log tells where the time
    /// went.
    pub slow_batch_ms: u32,
    /// Postings that may wait to be made durable; more are told to come back.
    pub queue_calls: usize,
    /// Connections to the database that answer questions, per process.
    pub readers: u32,
    /// How long a question waits for one of them, in milliseconds; then it is told to come back.
    pub reader_wait_ms: u64,
    /// Connections to the database that write, per process; on SQLite always one.
    pub writers: u32,
    /// Seconds between two looks for points that fell due.
    pub sweep_interval_s: u32,
}

/// What is logged, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// Which lines: a level, or `target=level,…` as tracing's filters say it. Unset: `info` for
    /// what serves, `warn` for other commands.
    pub filter: Option<String>,
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Sandbox,
            data_dir: DATA_DIR_DEFAULT.into(),
            database_url: None,
            listen: None,
            reflection: None,
            network: NetworkConfig::default(),
            auth: AuthConfig::default(),
            keys: KeysConfig::default(),
            upstreams: UpstreamsConfig::default(),
            limits: LimitsConfig::default(),
            log: LogConfig::default(),
        }
    }
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            face_values: vec![(Currency::EUR, Decimal::new(1, 2))],
        }
    }
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            issuer: COALITION.to_owned(),
            audience: COALITION.to_owned(),
            jwks: None,
        }
    }
}

impl Default for UpstreamsConfig {
    fn default() -> Self {
        use crate::node::Roles;
        let here = |role: Roles| vec![format!("http://{}", role.listen_default())];
        Self {
            earn: here(Roles::Earn),
            redeem: here(Roles::Redeem),
            settlement: here(Roles::Settlement),
            network: here(Roles::Network),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            calls: CALLS_MAX_DEFAULT,
            connections: CONNECTIONS_MAX_DEFAULT,
            batch_commands: PosterSettings::default().batch_commands,
            slow_batch_ms: SLOW_BATCH_MS_DEFAULT,
            queue_calls: PosterSettings::default().queue_calls,
            readers: READERS,
            reader_wait_ms: READER_WAIT_MS_DEFAULT,
            writers: UNITS,
            sweep_interval_s: SWEEP_INTERVAL_S_DEFAULT,
        }
    }
}

impl Config {
    /// The database that is configured, or the SQLite file of the data directory.
    #[must_use]
    pub fn database(&self) -> DatabaseUrl {
        self.database_url.clone().unwrap_or_else(|| {
            DatabaseUrl::from(format!(
                "sqlite:{}",
                self.data_dir.join(DATABASE_FILE).display()
            ))
        })
    }

    /// How many connections to the database there are. At least one of each kind.
    #[must_use]
    pub fn pools(&self) -> PoolSettings {
        PoolSettings {
            units: self.limits.writers.max(1),
            readers: self.limits.readers.max(1),
            reader_timeout: Duration::from_millis(self.limits.reader_wait_ms),
            ..PoolSettings::default()
        }
    }

    /// Whether this is a production network.
    #[must_use]
    pub fn production(&self) -> bool {
        self.mode == Mode::Production
    }

    /// Whether reflection is served.
    #[must_use]
    pub fn reflects(&self) -> bool {
        self.reflection.unwrap_or(!self.production())
    }

    /// What a new database is set up with.
    #[must_use]
    pub fn terms(&self) -> NetworkTerms {
        NetworkTerms {
            mode: match self.mode {
                Mode::Sandbox => coalition_store::model::Mode::Sandbox,
                Mode::Production => coalition_store::model::Mode::Production,
            },
            face_values: self.network.face_values.clone(),
        }
    }
}

impl AuthConfig {
    /// Where the public keys come from, if configured.
    #[must_use]
    pub fn key_source(&self) -> Option<KeySource> {
        self.jwks.as_ref().map(|jwks| {
            if jwks.contains("://") {
                KeySource::Url(jwks.clone())
            } else {
                KeySource::File(jwks.into())
            }
        })
    }
}

/// Currencies by their ISO code, each with a decimal as text: as a float it would not be exact.
fn face_values<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(Currency, Decimal)>, D::Error> {
    let texts = BTreeMap::<String, String>::deserialize(from)?;
    if texts.is_empty() {
        return Err(de::Error::custom("a network needs at least one currency"));
    }
    texts
        .into_iter()
        .map(|(code, value)| {
            face_value(&code, &value).map_err(|why| de::Error::custom(format!("{why:#}")))
        })
        .collect()
}

fn face_value(code: &str, value: &str) -> anyhow::Result<(Currency, Decimal)> {
    let currency = Currency::from_code(code)
        .with_context(|| format!("{code:?} is not an ISO 4217 code such as EUR"))?;
    let worth = Decimal::from_str_exact(value)
        .ok()
        .filter(|worth| worth.is_sign_positive() && !worth.is_zero())
        .with_context(|| format!("{code}: {value:?} is not a positive decimal such as 0.01"))?;
    Ok((currency, worth))
}

/// A list, or one text with commas, which is how an environment variable says it.
fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Text(String),
        List(Vec<String>),
    }
    let given = Given::deserialize(from).map_err(|_| {
        de::Error::custom("expected an address such as http://127.0.0.1:7401, or a list of them")
    })?;
    let addresses: Vec<String> = match given {
        Given::Text(text) => text.split(',').map(|one| one.trim().to_owned()).collect(),
        Given::List(list) => list,
    };
    Ok(addresses)
}

#[cfg(test)]
mod tests;
