//! Tokens and keys, as the authenticator judges them. The same rows over a socket stand in the
//! gateway's tests.

use std::sync::atomic::{AtomicI64, Ordering};

use coalition_ledger::ids::PartnerId;
use coalition_proto::common::ErrorReason;
use coalition_proto::policy::{self, Role};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use uuid::Uuid;

use super::dev::{DevKey, TokenRequest};
use super::*;

/// 2026-11-22T12:00:00Z.
const NOON_S: i64 = 1_795_348_800;

/// A clock that stands until it is moved.
pub(super) struct StillClock(AtomicI64);

impl StillClock {
    pub(super) fn at_noon() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(NOON_S * MICROS_PER_SECOND)))
    }

    pub(super) fn advance_s(&self, seconds: i64) {
        self.0
            .fetch_add(seconds * MICROS_PER_SECOND, Ordering::SeqCst);
    }
}

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

fn partner() -> PartnerId {
    PartnerId::from_uuid(Uuid::from_u128(7))
}

fn till() -> TokenRequest {
    TokenRequest::till(partner(), "till 1")
}

struct Fixture {
    key: DevKey,
    clock: Arc<StillClock>,
    authenticator: Authenticator,
    directory: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let key = DevKey::open(directory.path(), false).expect("a key");
        let clock = StillClock::at_noon();
        let source = KeySource::File(directory.path().join(dev::JWKS_FILE));
        let authenticator = Authenticator::new(
            AuthSettings::new(source),
            Arc::clone(&clock) as Arc<dyn Clock>,
        )
        .await
        .expect("a key set");
        Self {
            key,
            clock,
            authenticator,
            directory,
        }
    }

    fn mint(&self, request: &TokenRequest) -> String {
        self.key.mint(request, self.clock.now()).expect("a token")
    }

    async fn reason(&self, token: &str) -> Option<ErrorReason> {
        self.authenticator
            .check(token)
            .await
            .err()
            .map(|problem| problem.reason())
    }
}

#[tokio::test]
async fn a_good_token_says_who_calls() {
    let fixture = Fixture::new().await;
    let request = TokenRequest {
        location: Some("harbour".into()),
        terminal: Some("T2".into()),
        scope: Some("earn:write redeem:write".into()),
        ..till()
    };
    let token = fixture.mint(&request);
    assert!(
        fixture.authenticator.remembered(&token).is_none(),
        "not seen yet"
    );
    let identity = fixture.authenticator.check(&token).await.expect("accepted");
    assert_eq!(identity.subject(), "till 1");
    assert_eq!(identity.partner(), Some(partner()));
    assert_eq!(
        (identity.location(), identity.terminal()),
        (Some("harbour"), Some("T2"))
    );
    assert!(identity.roles().contains(Role::Pos) && !identity.roles().contains(Role::PartnerAdmin));
    assert_eq!(fixture.authenticator.remembered(&token), Some(identity));
}

#[tokio::test]
async fn row_03_times_are_held_to_a_minute() {
    let fixture = Fixture::new().await;
    let token = fixture.mint(&TokenRequest {
        lifetime_s: 600,
        ..till()
    });
    fixture.clock.advance_s(600 + 60);
    assert_eq!(fixture.reason(&token).await, None, "within the leeway");
    fixture.clock.advance_s(1);
    assert_eq!(
        fixture.authenticator.remembered(&token),
        None,
        "remembered beyond its end"
    );
    assert_eq!(
        fixture.reason(&token).await,
        Some(ErrorReason::Unauthenticated)
    );

    let early = fixture.mint(&till());
    fixture.clock.advance_s(-60);
    assert_eq!(fixture.reason(&early).await, None, "within the leeway");
    fixture.clock.advance_s(-1);
    assert_eq!(
        fixture.reason(&early).await,
        Some(ErrorReason::Unauthenticated)
    );
}

#[tokio::test]
async fn row_08_a_retired_key_stops_working_within_a_minute() {
    let fixture = Fixture::new().await;
    let token = fixture.mint(&till());
    fixture.authenticator.check(&token).await.expect("accepted");
    let next = DevKey::ephemeral().expect("a key");
    let jwks = serde_json::to_vec(&next.jwks()).expect("JSON");
    std::fs::write(fixture.directory.path().join(dev::JWKS_FILE), jwks).expect("ours");

    fixture.clock.advance_s(59);
    assert!(
        fixture.authenticator.remembered(&token).is_some(),
        "not read again yet"
    );
    fixture.clock.advance_s(1);
    assert!(
        fixture.authenticator.remembered(&token).is_none(),
        "the set is due"
    );
    assert_eq!(
        fixture.reason(&token).await,
        Some(ErrorReason::Unauthenticated)
    );
    let fresh = next.mint(&till(), fixture.clock.now()).expect("a token");
    assert_eq!(fixture.reason(&fresh).await, None);
}

#[tokio::test]
async fn a_new_key_is_found_when_it_is_first_used() {
    let fixture = Fixture::new().await;
    fixture.clock.advance_s(10);
    let next = DevKey::ephemeral().expect("a key");
    let jwks = serde_json::to_vec(&next.jwks()).expect("JSON");
    std::fs::write(fixture.directory.path().join(dev::JWKS_FILE), jwks).expect("ours");
    let token = next.mint(&till(), fixture.clock.now()).expect("a token");
    assert_eq!(fixture.reason(&token).await, None);
}

#[tokio::test]
async fn keys_that_cannot_be_read_again_hold_for_ten_minutes() {
    let fixture = Fixture::new().await;
    let path = fixture.directory.path().join(dev::JWKS_FILE);
    let good = std::fs::read(&path).expect("there");
    for (damage, case) in [(&b"{}"[..], "no JWKS"), (b"{\"keys\":[]}", "no keys")] {
        std::fs::write(&path, damage).expect("ours");
        fixture.clock.advance_s(61);
        assert_eq!(fixture.reason(&fixture.mint(&till())).await, None, "{case}");
    }
    std::fs::remove_file(&path).expect("there");
    fixture.clock.advance_s(keys::STALE_AFTER_S);
    let late = fixture.mint(&till());
    assert_eq!(
        fixture.reason(&late).await,
        Some(ErrorReason::Unavailable),
        "too stale to tell"
    );
    std::fs::write(&path, good).expect("ours");
    fixture.clock.advance_s(61);
    assert_eq!(
        fixture.reason(&fixture.mint(&till())).await,
        None,
        "readable again"
    );
}

#[tokio::test]
async fn roles_and_partner_go_together() {
    let fixture = Fixture::new().await;
    let network = |roles: &[Role]| TokenRequest::new("op", roles);
    let of = |roles: &[Role]| TokenRequest {
        partner: Some(partner()),
        ..network(roles)
    };
    let cases = [
        (of(&[Role::Pos]), true),
        (of(&[Role::PartnerAdmin, Role::Pos]), true),
        (of(&[]), true),
        (network(&[Role::OperatorMaker, Role::SupportAgent]), true),
        (network(&[]), true),
        (network(&[Role::Pos]), false),
        (network(&[Role::PartnerAdmin]), false),
        (of(&[Role::OperatorViewer]), false),
        (of(&[Role::SupportAgent]), false),
        (of(&[Role::Pos, Role::OperatorMaker]), false),
        (network(&[Role::Pos, Role::OperatorMaker]), false),
        (
            TokenRequest {
                subject: String::new(),
                ..till()
            },
            false,
        ),
        (
            TokenRequest {
                subject: "a\nb".into(),
                ..till()
            },
            false,
        ),
        (
            TokenRequest {
                location: Some("x".repeat(1_000)),
                ..till()
            },
            false,
        ),
    ];
    for (request, good) in cases {
        let accepted = fixture.reason(&fixture.mint(&request)).await.is_none();
        assert_eq!(accepted, good, "{request:?}");
    }
}

#[tokio::test]
async fn roles_let_in_and_scopes_narrow() {
    let fixture = Fixture::new().await;
    let earn = policy::lookup("/coalition.earn.v1.EarnService/Earn").expect("there");
    let cut =
        policy::lookup("/coalition.settlement.v1.SettlementService/CutWindow").expect("there");
    let scoped = |scope: &str| TokenRequest {
        scope: Some(scope.to_owned()),
        ..till()
    };
    let cases = [
        (till(), true, false),
        (scoped("redeem:write earn:write"), true, false),
        (scoped("redeem:write"), false, false),
        (scoped(""), false, false),
        (TokenRequest::new("op", [Role::OperatorMaker]), true, true),
        (
            TokenRequest::new("op", [Role::OperatorViewer]),
            false,
            false,
        ),
        (TokenRequest::new("op", []), false, false),
    ];
    for (request, may_earn, may_cut) in cases {
        let identity = fixture
            .authenticator
            .check(&fixture.mint(&request))
            .await
            .expect("good");
        assert_eq!(
            (identity.may(earn), identity.may(cut)),
            (may_earn, may_cut),
            "{request:?}"
        );
    }
}

#[tokio::test]
async fn production_does_not_know_development_keys() {
    let directory = tempfile::tempdir().expect("a directory");
    DevKey::open(directory.path(), false).expect("a key");
    let source = KeySource::File(directory.path().join(dev::JWKS_FILE));
    let settings = AuthSettings {
        production: true,
        ..AuthSettings::new(source)
    };
    let refused = Authenticator::new(settings, StillClock::at_noon())
        .await
        .err();
    assert!(matches!(refused, Some(KeysError::Empty)), "{refused:?}");
}

#[tokio::test]
async fn ed25519_p_256_and_rsa_keys_check_tokens_and_no_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("jwks.json");
    let keys = other_keys();
    let jwks: Vec<Value> = keys.iter().map(|(_, _, jwk)| jwk.clone()).collect();
    std::fs::write(&path, json!({ "keys": jwks }).to_string()).expect("ours");
    let clock = StillClock::at_noon();
    let settings = AuthSettings::new(KeySource::File(path));
    let authenticator = Authenticator::new(settings, clock).await.expect("keys");
    let claims = json!({
        "iss": "coalition", "aud": ["other", "coalition"], "sub": "s", "jti": "j",
        "iat": NOON_S, "nbf": NOON_S, "exp": NOON_S + 60, "roles": ["operator_viewer", "new_role"],
    });
    for (algorithm, key, jwk) in &keys {
        let header = Header {
            typ: Some("application/AT+JWT".into()),
            kid: jwk["kid"].as_str().map(str::to_owned),
            ..Header::new(*algorithm)
        };
        let token = jsonwebtoken::encode(&header, &claims, key).expect("a token");
        let accepted = authenticator.check(&token).await.is_ok();
        let good = matches!(
            algorithm,
            Algorithm::EdDSA | Algorithm::ES256 | Algorithm::RS256
        );
        assert_eq!(accepted, good, "{algorithm:?} {jwk}");
    }
}

/// Keys of all kinds, with what they sign and how they are published.
fn other_keys() -> Vec<(Algorithm, EncodingKey, Value)> {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING as P256, ECDSA_P384_SHA384_FIXED_SIGNING as P384,
        EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    };
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    let random = SystemRandom::new();
    let ed = Ed25519KeyPair::generate_pkcs8(&random).expect("randomness");
    let ed_pair = Ed25519KeyPair::from_pkcs8(ed.as_ref()).expect("a key");
    let ed_public = URL_SAFE_NO_PAD.encode(ed_pair.public_key());
    let p256 = EcdsaKeyPair::generate_pkcs8(&P256, &random).expect("randomness");
    let p384 = EcdsaKeyPair::generate_pkcs8(&P384, &random).expect("randomness");
    let rsa = KeyPair::generate(KeySize::Rsa2048).expect("randomness");
    let rsa = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&rsa).expect("a key");
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(rsa.as_ref())
    );
    let rsa = EncodingKey::from_rsa_pem(pem.as_bytes()).expect("a key");
    let keys = [
        (Algorithm::EdDSA, EncodingKey::from_ed_der(ed.as_ref())),
        (Algorithm::ES256, EncodingKey::from_ec_der(p256.as_ref())),
        (Algorithm::ES384, EncodingKey::from_ec_der(p384.as_ref())),
        (Algorithm::RS256, rsa.clone()),
        (Algorithm::RS512, rsa.clone()),
        (Algorithm::PS256, rsa),
        (Algorithm::HS256, EncodingKey::from_secret(&[7; 32])),
    ];
    keys.into_iter()
        .map(|(algorithm, key)| {
            let mut jwk = if algorithm == Algorithm::EdDSA {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": ed_public })
            } else {
                let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key, algorithm);
                serde_json::to_value(jwk.expect("a JWK")).expect("JSON")
            };
            jwk["kid"] = json!(format!("{algorithm:?}"));
            (algorithm, key, jwk)
        })
        .collect()
}

#[test]
fn row_65_one_bearer_token_and_no_more() {
    let headers = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, http::HeaderValue::from_static(value));
        }
        headers
    };
    assert_eq!(bearer(&headers(&["Bearer abc"])).expect("one"), "abc");
    assert_eq!(bearer(&headers(&["bearer  abc"])).expect("one"), "abc");
    let bad: [&[&str]; 7] = [
        &[],
        &["Bearer abc", "Bearer abc"],
        &["Bearer abc", "Basic abc"],
        &["Basic abc"],
        &["Bearer"],
        &["Bearer "],
        &["abc"],
    ];
    for values in bad {
        assert!(bearer(&headers(values)).is_err(), "{values:?}");
    }
}

/// Not a benchmark: a figure to notice when the way through a remembered token grows tenfold.
#[tokio::test]
async fn a_remembered_token_costs_little() {
    const ROUNDS: u32 = 20_000;
    let fixture = Fixture::new().await;
    let token = fixture.mint(&till());
    fixture.authenticator.check(&token).await.expect("accepted");
    let begun = tokio::time::Instant::now();
    for _ in 0..ROUNDS {
        assert!(fixture.authenticator.remembered(&token).is_some());
    }
    println!(
        "a remembered token: {:?} per call",
        begun.elapsed() / ROUNDS
    );
}
