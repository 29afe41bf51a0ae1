//! The keys that tokens are checked with: a JWKS (RFC 7517) in a file or at a URL.
//!
//! A set is kept for [`REFRESH_AFTER_S`] and then read again before the next token is checked, so
//! that a retired key stops working within that time. A key id that is not in the set has it read
//! earlier, once per [`REFRESH_AFTER_S`] at most, whoever asks and however often. Reads are single
//! flight, bounded in time and size, and follow no redirects. Where a read fails the old set stands
//! for [`STALE_AFTER_S`]; after that no token is accepted.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use coalition_ledger::time::MICROS_PER_SECOND;
use coalition_ledger::{Clock, Timestamp};
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;

use super::AuthSettings;

/// Seconds for which a set of keys is used before it is read again.
pub const REFRESH_AFTER_S: i64 = 60;

/// Seconds for which a set is used although it cannot be read again.
pub const STALE_AFTER_S: i64 = 600;

/// Seconds within which a set counts as just read: a key that is not in it is not there.
const UNKNOWN_AFTER_S: i64 = 5;

/// Most bytes of a JWKS.
pub const JWKS_MAX_BYTES: usize = 64 * 1024;

/// Most keys of a set.
pub const KEYS_MAX: usize = 64;

/// Longest that reading a JWKS may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest that connecting to a JWKS endpoint may take.
const FETCH_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Fewest bits of an RSA modulus (RFC 7518, section 3.3), in bytes.
const RSA_MODULUS_MIN_BYTES: usize = 2048 / 8;

/// Where the keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file with a JWKS.
    File(PathBuf),
    /// An address that answers with a JWKS: https, or http on the loopback interface.
    Url(String),
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("cannot read the key set {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The address is not one that keys may come from.
    #[error("keys come from an https address, or from http on the loopback interface")]
    Address,
    /// The address did not answer with a JWKS in time.
    #[error("cannot fetch the key set")]
    Fetch(#[source] reqwest::Error),
    /// The address answered, but not with success.
    #[error("the address of the key set answered {0}")]
    Answer(reqwest::StatusCode),
    /// Too large.
    #[error("the key set is larger than {JWKS_MAX_BYTES} bytes or {KEYS_MAX} keys")]
    TooLarge,
    /// Not a JWKS.
    #[error("the key set is not a JWKS")]
    Syntax(#[source] serde_json::Error),
    /// Two keys with one id.
    #[error("the key set names the key {0} twice")]
    Ambiguous(String),
    /// Nothing in it that can check a token.
    #[error("the key set holds no usable key (Ed25519, P-256, or RSA of 2048 bits and more)")]
    Empty,
}

/// One key, with what a token signed by it must look like.
pub(super) struct Key {
    pub(super) verifying: DecodingKey,
    pub(super) validation: Validation,
}

/// Keys by their id.
pub(super) struct KeySet {
    keys: HashMap<String, Key>,
    /// Counts the sets; a token checked with another set is checked again.
    generation: u64,
}

impl KeySet {
    pub(super) fn get(&self, key_id: &str) -> Option<&Key> {
        self.keys.get(key_id)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }
}

/// The current set, and the care of it.
pub(super) struct Keys {
    source: Source,
    settings: AuthSettings,
    clock: Arc<dyn Clock>,
    current: RwLock<Arc<KeySet>>,
    generation: AtomicU64,
    /// When the source was last asked, in microseconds; whether it answered or not.
    asked_us: AtomicI64,
    /// When the source was last asked because of an unknown key id.
    asked_for_unknown_us: AtomicI64,
    state: Mutex<State>,
}

/// What only the one who reads the source touches.
struct State {
    text: Vec<u8>,
    answered: Timestamp,
}

enum Source {
    File(PathBuf),
    Url(reqwest::Url, reqwest::Client),
}

impl Keys {
    /// Reads the keys for the first time.
    pub(super) async fn read(
        settings: AuthSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeysError> {
        let source = match &settings.keys {
            KeySource::File(path) => Source::File(path.clone()),
            KeySource::Url(url) => Source::Url(address(url)?, client()?),
        };
        let text = source.text().await?;
        let set = parse(&text, 1, &settings)?;
        let now = clock.now();
        Ok(Self {
            source,
            settings,
            current: RwLock::new(Arc::new(set)),
            generation: AtomicU64::new(1),
            asked_us: AtomicI64::new(now.micros()),
            asked_for_unknown_us: AtomicI64::new(i64::MIN),
            state: Mutex::new(State {
                text,
                answered: now,
            }),
            clock,
        })
    }

    /// Whether a token checked with the set of this number needs no second look.
    pub(super) fn is_current(&self, generation: u64, now: Timestamp) -> bool {
        self.generation.load(Ordering::Acquire) == generation && !due(&self.asked_us, now)
    }

    /// The set to check a token with. Reads the source where it is time to.
    ///
    /// # Errors
    ///
    /// [`TooStale`]: the source has not answered for [`STALE_AFTER_S`].
    pub(super) async fn current(&self) -> Result<Arc<KeySet>, TooStale> {
        if due(&self.asked_us, self.clock.now()) {
            let mut state = self.state.lock().await;
            if due(&self.asked_us, self.clock.now()) {
                self.ask(&mut state).await;
            }
            if age_s(state.answered, self.clock.now()) > STALE_AFTER_S {
                return Err(TooStale);
            }
        }
        Ok(self.snapshot())
    }

    /// The set to look for a key that [`current`](Self::current) does not hold. Reads the source,
    /// but at most once per [`REFRESH_AFTER_S`], and not if it was read a moment ago.
    pub(super) async fn for_unknown_key(&self) -> Arc<KeySet> {
        if due(&self.asked_for_unknown_us, self.clock.now()) {
            let mut state = self.state.lock().await;
            let now = self.clock.now();
            if due(&self.asked_for_unknown_us, now) {
                self.asked_for_unknown_us
                    .store(now.micros(), Ordering::Release);
                let asked = Timestamp::from_micros(self.asked_us.load(Ordering::Acquire));
                if age_s(asked, now) >= UNKNOWN_AFTER_S {
                    self.ask(&mut state).await;
                }
            }
        }
        self.snapshot()
    }

    async fn ask(&self, state: &mut State) {
        let asked = self.source.text().await;
        let now = self.clock.now();
        self.asked_us.store(now.micros(), Ordering::Release);
        let result = asked.and_then(|text| {
            if text != state.text {
                let generation = self.generation.load(Ordering::Acquire) + 1;
                let set = parse(&text, generation, &self.settings)?;
                tracing::info!(keys = set.keys.len(), generation, "the key set has changed");
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
                self.generation.store(generation, Ordering::Release);
                state.text = text;
            }
            state.answered = now;
            Ok(())
        });
        if let Err(error) = result {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, cause, "the key set could not be read again; the old one stands");
        }
    }

    fn snapshot(&self) -> Arc<KeySet> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The source of the keys has been silent for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key set has not been readable for {STALE_AFTER_S} s")]
pub(super) struct TooStale;

/// Whether [`REFRESH_AFTER_S`] have passed. A clock that stepped back counts as passed: better one
/// read too many than a retired key that works for longer.
fn due(last_us: &AtomicI64, now: Timestamp) -> bool {
    let age = age_s(Timestamp::from_micros(last_us.load(Ordering::Acquire)), now);
    !(0..REFRESH_AFTER_S).contains(&age)
}

fn age_s(since: Timestamp, now: Timestamp) -> i64 {
    now.micros()
        .saturating_sub(since.micros())
        .div_euclid(MICROS_PER_SECOND)
}

impl Source {
    async fn text(&self) -> Result<Vec<u8>, KeysError> {
        match self {
            Self::File(path) => read_file(path).await,
            Self::Url(url, client) => fetch(url, client).await,
        }
    }
}

async fn read_file(path: &Path) -> Result<Vec<u8>, KeysError> {
    let failed = |source| KeysError::File {
        path: path.to_owned(),
        source,
    };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut text = Vec::new();
    // One byte more than allowed tells too large from just large enough.
    file.take(JWKS_MAX_BYTES as u64 + 1)
        .read_to_end(&mut text)
        .await
        .map_err(failed)?;
    bounded(text)
}

async fn fetch(url: &reqwest::Url, client: &reqwest::Client) -> Result<Vec<u8>, KeysError> {
    let mut response = client
        .get(url.clone())
        .send()
        .await
        .map_err(KeysError::Fetch)?;
    if !response.status().is_success() {
        return Err(KeysError::Answer(response.status()));
    }
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(KeysError::Fetch)? {
        text.extend_from_slice(&chunk);
        if text.len() > JWKS_MAX_BYTES {
            return Err(KeysError::TooLarge);
        }
    }
    Ok(text)
}

fn bounded(text: Vec<u8>) -> Result<Vec<u8>, KeysError> {
    if text.len() > JWKS_MAX_BYTES {
        Err(KeysError::TooLarge)
    } else {
        Ok(text)
    }
}

fn address(url: &str) -> Result<reqwest::Url, KeysError> {
    let url = reqwest::Url::parse(url).map_err(|_| KeysError::Address)?;
    let loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    };
    let allowed = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    if allowed {
        Ok(url)
    } else {
        Err(KeysError::Address)
    }
}

fn client() -> Result<reqwest::Client, KeysError> {
    reqwest::Client::builder()
        .timeout(FETCH_TIMEOUT)
        .connect_timeout(FETCH_CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(KeysError::Fetch)
}

fn parse(text: &[u8], generation: u64, settings: &AuthSettings) -> Result<KeySet, KeysError> {
    let set: JwkSet = serde_json::from_slice(text).map_err(KeysError::Syntax)?;
    if set.keys.len() > KEYS_MAX {
        return Err(KeysError::TooLarge);
    }
    let mut keys = HashMap::with_capacity(set.keys.len());
    for jwk in &set.keys {
        let Some(key_id) = jwk.common.key_id.clone().filter(|id| !id.is_empty()) else {
            continue;
        };
        if settings.production && key_id.starts_with(super::dev::KEY_ID_PREFIX) {
            tracing::warn!(
                key_id,
                "a development key has no place in production; it is ignored"
            );
            continue;
        }
        let Some(key) = usable(jwk, settings) else {
            tracing::debug!(
                key_id,
                "a key of the set cannot check tokens here; it is ignored"
            );
            continue;
        };
        if keys.insert(key_id.clone(), key).is_some() {
            return Err(KeysError::Ambiguous(key_id));
        }
    }
    if keys.is_empty() {
        return Err(KeysError::Empty);
    }
    Ok(KeySet { keys, generation })
}

/// The key, if it is one that may check tokens: the one place where an algorithm is chosen.
fn usable(jwk: &Jwk, settings: &AuthSettings) -> Option<Key> {
    let signs = jwk
        .common
        .public_key_use
        .as_ref()
        .is_none_or(|u| *u == PublicKeyUse::Signature)
        && jwk
            .common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        // Shared secrets, other curves, and what is not known yet.
        _ => return None,
    };
    let agrees = jwk
        .common
        .key_algorithm
        .is_none_or(|named| named == KeyAlgorithm::from(algorithm));
    let verifying = DecodingKey::from_jwk(jwk).ok()?;
    let strong = match verifying.kind() {
        jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, .. } => {
            n.iter().skip_while(|byte| **byte == 0).count() >= RSA_MODULUS_MIN_BYTES
        }
        jsonwebtoken::DecodingKeyKind::SecretOrDer(_) => true,
    };
    (signs && agrees && strong).then(|| Key {
        verifying,
        validation: validation(algorithm, settings),
    })
}

fn validation(algorithm: Algorithm, settings: &AuthSettings) -> Validation {
    let mut validation = Validation::new(algorithm);
    // The library accepts a token without a claim it validates unless the claim is also required.
    validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
    validation.set_issuer(&[&settings.issuer]);
    validation.set_audience(&[&settings.audience]);
    // Times are checked against the clock that is passed in, in `token`.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation
}

#[cfg(test)]
mod tests;
