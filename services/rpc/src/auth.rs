//! Who is calling: bearer tokens (JWT), checked against a set of public keys.
//!
//! [`Authenticator`] turns the `authorization` header of a call into an [`Identity`] and remembers
//! tokens it has checked, so that a till's next call costs a hash. [`token`] holds the rules for one
//! token, [`keys`] the care of the key set, [`dev`] a signing key for development. What a caller may
//! do is decided elsewhere, in [`crate::authorize`]. Absent on purpose: sessions, and any other way
//! to prove who one is.

pub mod dev;
pub mod identity;
pub mod keys;
mod token;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use coalition_ledger::time::MICROS_PER_SECOND;
use coalition_ledger::{Clock, Timestamp};
use http::{HeaderMap, header};
use moka::sync::Cache;

use self::identity::Identity;
use self::keys::{KeySource, Keys, KeysError};
use self::token::Rejected;
use crate::status::Problem;

/// Most tokens that are remembered as checked.
const REMEMBERED_MAX: u64 = 10_000;

/// Seconds after which a remembered token is checked again.
const REMEMBERED_S: i64 = 60;

/// Claim `iss` and `aud` of tokens where nothing else is configured.
pub const COALITION: &str = "coalition";

/// What a token must look like to be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSettings {
    /// Where the public keys come from.
    pub keys: KeySource,
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must be, or contain.
    pub audience: String,
    /// Whether this is a production network, where development keys are ignored.
    pub production: bool,
}

impl AuthSettings {
    /// Settings with issuer and audience `coalition`, for a sandbox network.
    #[must_use]
    pub fn new(keys: KeySource) -> Self {
        Self {
            keys,
            issuer: COALITION.to_owned(),
            audience: COALITION.to_owned(),
            production: false,
        }
    }
}

/// Checks bearer tokens.
pub struct Authenticator {
    keys: Keys,
    clock: Arc<dyn Clock>,
    remembered: Cache<[u8; digest::SHA256_OUTPUT_LEN], Remembered>,
}

#[derive(Clone)]
struct Remembered {
    identity: Arc<Identity>,
    until: Timestamp,
    generation: u64,
}

impl Authenticator {
    /// Reads the keys. `clock` is the wall clock, also in a sandbox network: tokens live in real
    /// time.
    ///
    /// # Errors
    ///
    /// The keys cannot be read, or none of them is usable.
    pub async fn new(settings: AuthSettings, clock: Arc<dyn Clock>) -> Result<Self, KeysError> {
        let keys = Keys::read(settings, Arc::clone(&clock)).await?;
        let remembered = Cache::builder()
            .max_capacity(REMEMBERED_MAX)
            // Entries carry their own end, measured by `clock`; this only gives memory back.
            .time_to_live(Duration::from_secs(REMEMBERED_S.unsigned_abs()))
            .build();
        Ok(Self {
            keys,
            clock,
            remembered,
        })
    }

    /// The caller, if its token was checked a short while ago. Never waits.
    pub(crate) fn remembered(&self, token: &str) -> Option<Arc<Identity>> {
        let known = self.remembered.get(&fingerprint(token))?;
        let now = self.clock.now();
        let holds = now < known.until && self.keys.is_current(known.generation, now);
        holds.then_some(known.identity)
    }

    /// The caller, after a full check of its token. May wait for the keys to be read.
    ///
    /// # Errors
    ///
    /// UNAUTHENTICATED for a token that is not accepted; UNAVAILABLE where there are no keys that
    /// are fresh enough to tell.
    pub(crate) async fn check(&self, token: &str) -> Result<Arc<Identity>, Problem> {
        let rejected = |why: Rejected| {
            tracing::debug!(%why, "a token was not accepted");
            Problem::unauthenticated(match why {
                Rejected::Expired => "the bearer token has expired",
                Rejected::NotYetValid => "the bearer token is not valid yet",
                _ => "the bearer token is not accepted",
            })
        };
        let key_id = token::key_id(token).map_err(rejected)?;
        let mut set = self.keys.current().await.map_err(Problem::unavailable)?;
        if set.get(&key_id).is_none() {
            set = self.keys.for_unknown_key().await;
        }
        let now = self.clock.now();
        let accepted = token::accept(token, &key_id, &set, now).map_err(rejected)?;
        let soon = now.saturating_add_micros(REMEMBERED_S * MICROS_PER_SECOND);
        let identity = Arc::new(accepted.identity);
        self.remembered.insert(
            fingerprint(token),
            Remembered {
                identity: Arc::clone(&identity),
                until: accepted.until.min(soon),
                generation: set.generation(),
            },
        );
        Ok(identity)
    }
}

/// The token of a call.
///
/// # Errors
///
/// UNAUTHENTICATED unless there is exactly one `authorization` header, and a bearer token in it.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Err(Problem::unauthenticated("a bearer token is required"));
    };
    if values.next().is_some() {
        // One could be checked and the other used, here or further in.
        return Err(Problem::unauthenticated(
            "more than one authorization header",
        ));
    }
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim_start_matches(' '))
    });
    token
        .filter(|token| !token.is_empty())
        .ok_or_else(|| Problem::unauthenticated("the authorization header holds no bearer token"))
}

/// What a token is remembered by, so that tokens themselves are not kept.
fn fingerprint(token: &str) -> [u8; digest::SHA256_OUTPUT_LEN] {
    let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests;
