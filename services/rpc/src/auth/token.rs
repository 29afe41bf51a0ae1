//! One token: from its text and a set of keys to an [`Identity`] (RFC 7519, RFC 8725, RFC 9068).
//!
//! The algorithm follows from the key that the token names, never from the token. Signature,
//! audience and issuer are checked by the JWT library; times are checked here, against the clock
//! that is passed in. Keys are never taken from a token: a header that offers one (`jwk`, `jku`,
//! `x5u`, `x5c`) is refused, as is a header with `crit`.

use coalition_ledger::Timestamp;
use coalition_ledger::ids::PartnerId;
use coalition_ledger::time::MICROS_PER_SECOND;
use coalition_proto::policy::Role;
use serde::Deserialize;

use super::identity::{Identity, RoleSet};
use super::keys::KeySet;

/// How far clocks may be apart: seconds by which `exp`, `nbf` and `iat` are stretched.
pub(super) const LEEWAY_S: i64 = 60;

/// Most bytes of a token. One with a 4,096-bit RSA signature and all our claims has 1,200.
pub(super) const TOKEN_MAX_BYTES: usize = 4 * 1024;

/// Most bytes of the text claims that travel with a call.
const CLAIM_MAX_BYTES: usize = 128;

/// Most scopes that a token may name.
const SCOPES_MAX: usize = 64;

/// The media type of access tokens (RFC 9068), without its optional `application/`.
pub(super) const TOKEN_TYPE: &str = "at+jwt";

/// Why a token is not accepted. Shown to the caller in one of three coarse texts; the variant goes
/// to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Rejected {
    #[error("larger than the limit, or not three parts of base64url JSON")]
    Malformed,
    #[error("the header's typ is not at+jwt")]
    WrongType,
    #[error("the header offers a key or demands an extension")]
    ForbiddenHeader,
    #[error("the header names no key")]
    NoKeyId,
    #[error("the header names a key that is not known")]
    UnknownKey,
    #[error("the signature, the algorithm, the issuer, the audience or a required claim is wrong")]
    NotAccepted,
    #[error("bound to a certificate or a key that nobody shows here")]
    Bound,
    #[error("expired")]
    Expired,
    #[error("not yet valid")]
    NotYetValid,
    #[error("the roles and the partner do not go together, or a claim is out of bounds")]
    Contradiction,
}

/// What is read from a token. `aud` and what `iss` says are checked by the library.
#[derive(Deserialize)]
struct Claims {
    /// The library would take a list with the right issuer in it.
    #[serde(rename = "iss")]
    _issuer: String,
    sub: String,
    exp: i64,
    nbf: i64,
    iat: i64,
    jti: String,
    roles: Vec<String>,
    partner: Option<PartnerId>,
    location: Option<String>,
    terminal: Option<String>,
    scope: Option<String>,
    /// How its holder proves to be the one it was given to (RFC 7800), in any form.
    cnf: Option<serde_json::Value>,
}

/// A token that was accepted.
pub(super) struct Accepted {
    pub(super) identity: Identity,
    /// The first instant at which the token is no longer accepted.
    pub(super) until: Timestamp,
}

/// The id of the key that the token names, after the checks on its header that need no key.
pub(super) fn key_id(token: &str) -> Result<String, Rejected> {
    if token.len() > TOKEN_MAX_BYTES {
        return Err(Rejected::Malformed);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| Rejected::Malformed)?;
    let typ = header.typ.as_deref().unwrap_or_default();
    let typ = typ
        .split_at_checked("application/".len())
        .filter(|(prefix, _)| prefix.eq_ignore_ascii_case("application/"))
        .map_or(typ, |(_, rest)| rest);
    if !typ.eq_ignore_ascii_case(TOKEN_TYPE) {
        return Err(Rejected::WrongType);
    }
    let offers_key = header.jwk.is_some()
        || header.jku.is_some()
        || header.x5u.is_some()
        || header.x5c.is_some();
    if offers_key || header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
        return Err(Rejected::ForbiddenHeader);
    }
    header
        .kid
        .filter(|kid| !kid.is_empty())
        .ok_or(Rejected::NoKeyId)
}

/// Checks everything that [`key_id`] left open.
pub(super) fn accept(
    token: &str,
    key_id: &str,
    keys: &KeySet,
    now: Timestamp,
) -> Result<Accepted, Rejected> {
    let key = keys.get(key_id).ok_or(Rejected::UnknownKey)?;
    let claims = jsonwebtoken::decode::<Claims>(token, &key.verifying, &key.validation)
        .map_err(|_| Rejected::NotAccepted)?
        .claims;
    // Connections carry no certificate, so a token that is good with one alone (RFC 8705, section 3)
    // is good for nobody here. Passing over the claim would make it a bearer token.
    if claims.cnf.is_some() {
        return Err(Rejected::Bound);
    }

    let now_s = now.micros().div_euclid(MICROS_PER_SECOND);
    let last_s = claims.exp.saturating_add(LEEWAY_S);
    if now_s > last_s {
        return Err(Rejected::Expired);
    }
    let first_s = claims.nbf.max(claims.iat).saturating_sub(LEEWAY_S);
    if now_s < first_s {
        return Err(Rejected::NotYetValid);
    }
    let until = Timestamp::from_micros(last_s.saturating_add(1).saturating_mul(MICROS_PER_SECOND));
    Ok(Accepted {
        identity: identity(claims)?,
        until,
    })
}

fn identity(claims: Claims) -> Result<Identity, Rejected> {
    // A role that this version does not know gives nothing, and takes nothing away.
    let roles: RoleSet = claims
        .roles
        .iter()
        .filter_map(|name| Role::from_claim(name))
        .collect();
    let consistent = match claims.partner {
        Some(_) => !roles.of_network(),
        None => !roles.of_partner(),
    };
    let bounded = [
        Some(&claims.sub),
        Some(&claims.jti),
        claims.location.as_ref(),
        claims.terminal.as_ref(),
    ]
    .into_iter()
    .flatten()
    .all(|text| !text.is_empty() && text.len() <= CLAIM_MAX_BYTES && plain(text));
    if !consistent || !bounded {
        return Err(Rejected::Contradiction);
    }
    let scopes: Option<Box<[Box<str>]>> = claims.scope.map(|scope| {
        scope
            .split_ascii_whitespace()
            .take(SCOPES_MAX)
            .map(Box::from)
            .collect()
    });
    Ok(Identity {
        subject: claims.sub.into(),
        roles,
        partner: claims.partner,
        location: claims.location.map(Into::into),
        terminal: claims.terminal.map(Into::into),
        scopes,
        token_id: claims.jti.into(),
    })
}

/// Without control characters, which would forge lines in logs.
fn plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}
