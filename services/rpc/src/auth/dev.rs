//! A signing key for development: made on first use, kept with tight permissions, refused in
//! production.
//!
//! It stands in for an identity provider where there is none: `coalition token`, the demo, replays
//! and tests mint with it. Its public half is published as a JWKS file beside it, which is what the
//! services read, as they would read any other. Not a way to run a network: a production network
//! neither opens the key nor accepts one by the name that these keys have.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use coalition_ledger::Timestamp;
use coalition_ledger::ids::PartnerId;
use coalition_ledger::time::MICROS_PER_SECOND;
use coalition_proto::policy::Role;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::COALITION;
use super::token::TOKEN_TYPE;

/// What the ids of development keys begin with; a production network ignores keys named so.
pub const KEY_ID_PREFIX: &str = "dev-";

/// The file of the private key, below the data directory.
pub const KEY_FILE: &str = "dev-signing-key.pem";

/// The file of the public key, below the data directory: a JWKS.
pub const JWKS_FILE: &str = "dev-jwks.json";

/// Seconds that a minted token lives unless asked otherwise: a working day.
pub const LIFETIME_DEFAULT_S: u32 = 12 * 60 * 60;

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// Most bytes of a key file: an Ed25519 key takes about 130.
const KEY_MAX_BYTES: u64 = 4 * 1024;

/// Why there is no development key.
#[derive(Debug, thiserror::Error)]
pub enum DevKeyError {
    /// Asked for in a production network.
    #[error("development keys are not for production: configure the JWKS of an identity provider")]
    Production,
    /// Others can read it.
    #[error("{path} can be read by others than its owner; run: chmod 600 {path}")]
    Exposed {
        /// The key file.
        path: PathBuf,
    },
    /// Not a key of ours.
    #[error("{path} holds no Ed25519 private key; remove it to have a new one made")]
    Damaged {
        /// The key file.
        path: PathBuf,
    },
    /// The file system says no.
    #[error("cannot access {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key could not be made, or did not sign.
    #[error("the cryptographic library refused")]
    Crypto,
}

/// Whom a token is for, and what it allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// Claim `sub`.
    pub subject: String,
    /// Claim `roles`.
    pub roles: Vec<Role>,
    /// Claim `partner`: needed by the roles of a partner, refused with the roles of the network.
    pub partner: Option<PartnerId>,
    /// Claim `location`: binds a till to one location.
    pub location: Option<String>,
    /// Claim `terminal`: binds a till to one terminal.
    pub terminal: Option<String>,
    /// Claim `scope`, space separated: narrows what the roles allow.
    pub scope: Option<String>,
    /// Seconds until it expires.
    pub lifetime_s: u32,
}

impl TokenRequest {
    /// A token for a till of this partner.
    #[must_use]
    pub fn till(partner: PartnerId, subject: impl Into<String>) -> Self {
        Self {
            partner: Some(partner),
            ..Self::new(subject, [Role::Pos])
        }
    }

    /// A token for one who administers this partner.
    #[must_use]
    pub fn partner_admin(partner: PartnerId, subject: impl Into<String>) -> Self {
        Self {
            partner: Some(partner),
            ..Self::new(subject, [Role::PartnerAdmin])
        }
    }

    /// A token with these roles and no partner, for one who acts for the network.
    #[must_use]
    pub fn new(subject: impl Into<String>, roles: impl Into<Vec<Role>>) -> Self {
        Self {
            subject: subject.into(),
            roles: roles.into(),
            partner: None,
            location: None,
            terminal: None,
            scope: None,
            lifetime_s: LIFETIME_DEFAULT_S,
        }
    }
}

/// The development signing key.
pub struct DevKey {
    signing: EncodingKey,
    public: Vec<u8>,
    key_id: String,
    issuer: String,
    audience: String,
}

impl DevKey {
    /// Opens the key below `directory`, or makes it, and publishes its JWKS beside it. Several
    /// processes may do so at once; all get the same key.
    ///
    /// # Errors
    ///
    /// Always in production; else if the files cannot be read or written, are damaged, or can be
    /// read by others.
    pub fn open(directory: &Path, production: bool) -> Result<Self, DevKeyError> {
        if production {
            return Err(DevKeyError::Production);
        }
        fs::create_dir_all(directory).map_err(failed(directory))?;
        let path = directory.join(KEY_FILE);
        if !path.exists() {
            create(&path)?;
        }
        let key = Self::from_pkcs8(&load(&path)?).map_err(|_| DevKeyError::Damaged { path })?;
        let jwks = serde_json::to_vec_pretty(&key.jwks()).map_err(|_| DevKeyError::Crypto)?;
        publish(&directory.join(JWKS_FILE), &jwks)?;
        Ok(key)
    }

    /// A key that is kept nowhere, for tests.
    ///
    /// # Errors
    ///
    /// The cryptographic library has no randomness.
    pub fn ephemeral() -> Result<Self, DevKeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| DevKeyError::Crypto)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// Has tokens say this issuer and audience instead of `coalition`.
    #[must_use]
    pub fn for_issuer(mut self, issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        self.issuer = issuer.into();
        self.audience = audience.into();
        self
    }

    /// Signs a token that is valid from `now` on.
    ///
    /// # Errors
    ///
    /// The cryptographic library refuses.
    pub fn mint(&self, request: &TokenRequest, now: Timestamp) -> Result<String, DevKeyError> {
        let now_s = now.micros().div_euclid(MICROS_PER_SECOND);
        let claims = MintedClaims {
            iss: &self.issuer,
            aud: &self.audience,
            sub: &request.subject,
            jti: Uuid::new_v4().to_string(),
            iat: now_s,
            nbf: now_s,
            exp: now_s.saturating_add(i64::from(request.lifetime_s)),
            roles: request.roles.iter().map(|role| role.as_str()).collect(),
            partner: request.partner,
            location: request.location.as_deref(),
            terminal: request.terminal.as_deref(),
            scope: request.scope.as_deref(),
        };
        let header = Header {
            typ: Some(TOKEN_TYPE.to_owned()),
            kid: Some(self.key_id.clone()),
            ..Header::new(Algorithm::EdDSA)
        };
        jsonwebtoken::encode(&header, &claims, &self.signing).map_err(|_| DevKeyError::Crypto)
    }

    /// The public half, as a JWKS.
    #[must_use]
    pub fn jwks(&self) -> serde_json::Value {
        json!({ "keys": [{
            "kty": "OKP",
            "crv": "Ed25519",
            "alg": "EdDSA",
            "use": "sig",
            "kid": self.key_id,
            "x": URL_SAFE_NO_PAD.encode(&self.public),
        }] })
    }

    /// The id of the key, as tokens name it.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    fn from_pkcs8(document: &[u8]) -> Result<Self, DevKeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(document).map_err(|_| DevKeyError::Crypto)?;
        let public = pair.public_key().as_ref().to_vec();
        let thumb = digest::digest(&digest::SHA256, &public);
        // 12 bytes of a hash name a key well enough among those of one network.
        let short = thumb.as_ref().get(..12).unwrap_or_default();
        Ok(Self {
            signing: EncodingKey::from_ed_der(document),
            key_id: format!("{KEY_ID_PREFIX}{}", URL_SAFE_NO_PAD.encode(short)),
            public,
            issuer: COALITION.to_owned(),
            audience: COALITION.to_owned(),
        })
    }
}

impl fmt::Debug for DevKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevKey")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct MintedClaims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    jti: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    roles: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partner: Option<PartnerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    terminal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
}

/// Makes a key under a name of its own and links it to its place, which fails if there is one: a
/// reader never sees half a key, and the first of several processes wins.
fn create(path: &Path) -> Result<(), DevKeyError> {
    let document =
        Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| DevKeyError::Crypto)?;
    let pem = format!(
        "{PEM_BEGIN}\n{}\n{PEM_END}\n",
        STANDARD.encode(document.as_ref())
    );
    let unfinished = path.with_extension(format!("{}.new", Uuid::new_v4().simple()));
    let written = write_new(&unfinished, pem.as_bytes());
    let linked = written.and_then(|()| match fs::hard_link(&unfinished, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    let removed = fs::remove_file(&unfinished);
    linked.and(removed).map_err(failed(path))
}

fn load(path: &Path) -> Result<Vec<u8>, DevKeyError> {
    let facts = fs::metadata(path).map_err(failed(path))?;
    if facts.permissions().mode() & 0o077 != 0 {
        return Err(DevKeyError::Exposed {
            path: path.to_owned(),
        });
    }
    let damaged = || DevKeyError::Damaged {
        path: path.to_owned(),
    };
    if facts.len() > KEY_MAX_BYTES {
        return Err(damaged());
    }
    let pem = fs::read_to_string(path).map_err(failed(path))?;
    let body = pem
        .trim()
        .strip_prefix(PEM_BEGIN)
        .and_then(|rest| rest.strip_suffix(PEM_END))
        .ok_or_else(damaged)?;
    let body: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(body).map_err(|_| damaged())
}

/// Replaces the JWKS in one step, so that a reader sees the old one or the new one.
fn publish(path: &Path, jwks: &[u8]) -> Result<(), DevKeyError> {
    if fs::read(path).is_ok_and(|published| published == jwks) {
        return Ok(());
    }
    let unfinished = path.with_extension(format!("{}.new", Uuid::new_v4().simple()));
    write_new(&unfinished, jwks)
        .and_then(|()| fs::rename(&unfinished, path))
        .map_err(failed(path))
}

/// Writes a file that must not exist yet, for the owner's eyes only.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> DevKeyError + '_ {
    move |source| DevKeyError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
