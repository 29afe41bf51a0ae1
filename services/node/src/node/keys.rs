//! The network's secrets: configured, or in a sandbox made once and kept in the data directory.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use coalition_rpc::auth::dev::DevKey;
use coalition_rpc::convert::IdentifierKey;
use coalition_rpc::page_token::PageTokens;
use uuid::Uuid;

use crate::config::{Config, Secret};

/// The file of the key that hashes identifiers, below the data directory.
const IDENTIFIER_FILE: &str = "identifier.key";

/// The file of the key that signs page tokens, below the data directory.
const PAGE_TOKEN_FILE: &str = "page-token.key";

/// Most bytes of a key file that are looked at.
const KEY_FILE_MAX_BYTES: u64 = 1_024;

/// The keys that all processes of a network share.
pub(super) struct NetworkKeys {
    /// Hashes the identifiers of members.
    pub(super) identifier: IdentifierKey,
    /// Signs page tokens.
    pub(super) page_token: PageTokens,
}

impl NetworkKeys {
    /// # Errors
    ///
    /// A production network has one not configured, or a file of a sandbox cannot be used.
    pub(super) fn find(config: &Config) -> anyhow::Result<Self> {
        let keys = &config.keys;
        let identifier = find(
            config,
            keys.identifier.as_ref(),
            "identifier",
            IDENTIFIER_FILE,
        )?;
        let page_token = find(
            config,
            keys.page_token.as_ref(),
            "page_token",
            PAGE_TOKEN_FILE,
        )?;
        Ok(Self {
            identifier: IdentifierKey::new(identifier.bytes()),
            page_token: PageTokens::new(page_token.bytes()),
        })
    }
}

/// The sandbox's own signing key, made on first use.
pub(crate) fn development_key(config: &Config) -> anyhow::Result<DevKey> {
    if !config.production() {
        make_data_dir(config)?;
    }
    let key = DevKey::open(&config.data_dir, config.production()).with_context(|| {
        format!(
            "cannot use the development key in {}",
            config.data_dir.display()
        )
    })?;
    Ok(key.for_issuer(&config.auth.issuer, &config.auth.audience))
}

/// Makes the data directory, for its owner's eyes only, unless it is there.
pub(crate) fn make_data_dir(config: &Config) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_dir)
        .with_context(|| {
            format!(
                "cannot make the data directory {} (choose another with --data-dir)",
                config.data_dir.display()
            )
        })
}

fn find(
    config: &Config,
    configured: Option<&Secret>,
    name: &str,
    file: &str,
) -> anyhow::Result<Secret> {
    match configured {
        Some(secret) => Ok(secret.clone()),
        None if config.production() => bail!(
            "keys.{name} is not set: a production network does not make its own. Make one with \
             `openssl rand -hex 32`, keep it safe, and give it to every process in \
             COALITION_KEYS_{} or in the configuration file.",
            name.to_ascii_uppercase()
        ),
        None => {
            make_data_dir(config)?;
            let path = config.data_dir.join(file);
            if !path.exists() {
                make(&path).with_context(|| format!("cannot make {}", path.display()))?;
            }
            read(&path).with_context(|| format!("cannot use {}", path.display()))
        }
    }
}

/// Makes a key under a name of its own and links it to its place, which fails if there is one: a
/// reader never sees half a key, and the first of several processes wins.
fn make(path: &Path) -> anyhow::Result<()> {
    let secret = random()?;
    let unfinished = path.with_extension(format!("{}.new", Uuid::new_v4().simple()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    let written = writeln!(file, "{}", secret.to_hex()).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| match fs::hard_link(&unfinished, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    let removed = fs::remove_file(&unfinished);
    Ok(linked.and(removed)?)
}

fn read(path: &Path) -> anyhow::Result<Secret> {
    let file = fs::File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!("others can read it; run: chmod 600 {}", path.display());
    }
    let mut text = String::new();
    file.take(KEY_FILE_MAX_BYTES).read_to_string(&mut text)?;
    Secret::from_hex(text.trim()).context("it does not hold 64 hexadecimal digits")
}

fn random() -> anyhow::Result<Secret> {
    let mut bytes = [0; Secret::BYTES];
    aws_lc_rs::rand::fill(&mut bytes).context("the system has no randomness")?;
    Ok(Secret::new(bytes))
}
