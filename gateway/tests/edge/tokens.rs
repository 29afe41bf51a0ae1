//! Rows 1 to 8, 10, 11, 16, 60 and 65: who is calling, and may they.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coalition_ledger::ids::PartnerId;
use coalition_proto::common::ErrorReason;
use coalition_proto::earn::{EarnRequest, EarnResponse};
use coalition_proto::policy::{self, Role};
use coalition_rpc::auth::dev::{DevKey, JWKS_FILE, TokenRequest};
use jsonwebtoken::{Algorithm, EncodingKey};
use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::support::{
    Answer, EARN, Edge, NOON_S, Options, RawCall, Tally, Way, both, client, earn, failed,
};

/// The parts of a good token, to be spoilt one by one, and the key to sign them with.
struct Forge {
    header: Value,
    claims: Value,
    key: EncodingKey,
}

impl Forge {
    fn new(edge: &Edge) -> Self {
        let good = edge.till();
        let part = |i| {
            let text: &str = good.split('.').nth(i).expect("three parts");
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64")).expect("JSON")
        };
        let pem = std::fs::read_to_string(edge.directory.path().join("dev-signing-key.pem"));
        let key = EncodingKey::from_ed_pem(pem.expect("there").as_bytes()).expect("a key");
        Self {
            header: part(0),
            claims: part(1),
            key,
        }
    }

    fn token(&self, algorithm: Algorithm, key: &EncodingKey) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(&self.header), encode(&self.claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm);
        format!("{message}.{}", signature.expect("signed"))
    }

    /// A token of these parts after a change, signed with the right key.
    fn with(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let mut forge = Self {
            header: self.header.clone(),
            claims: self.claims.clone(),
            key: self.key.clone(),
        };
        change(&mut forge.header, &mut forge.claims);
        forge.token(Algorithm::EdDSA, &forge.key)
    }
}

async fn with_token(edge: &Edge, token: &str) -> Result<Answer, Status> {
    earn("anything")
        .with_token(token)
        .send(edge.client().await)
        .await
}

#[tokio::test]
async fn a_good_token_reaches_the_service() {
    both(|edge| async move {
        let forge = Forge::new(&edge);
        for token in [edge.till(), forge.with(|_, _| ())] {
            let answer = with_token(&edge, &token).await.expect("let through");
            let answer: EarnResponse = answer.message();
            assert_eq!(answer.transaction_id, edge.partner.to_string());
        }
        assert_eq!(edge.peer.handled(), 2);
    })
    .await;
}

#[tokio::test]
async fn row_01_no_token_or_garbage() {
    both(|edge| async move {
        let mut tally = Tally::default();
        let good = edge.till();
        let none = earn("x").send(edge.client().await).await;
        tally.expect("none", &none, Code::Unauthenticated);
        assert_eq!(failed(&none).1, ErrorReason::Unauthenticated);
        let long = "A".repeat(8 * 1024);
        let cut = &good[..good.len() - 1];
        let flipped = format!("{cut}{}", if good.ends_with('A') { 'Q' } else { 'A' });
        let no_signature = good.rsplit_once('.').expect("three parts").0.to_owned();
        let empty_signature = format!("{no_signature}.");
        let garbage = [
            "x",
            ".",
            "..",
            "...",
            "a.b.c",
            "é",
            &long,
            cut,
            &flipped,
            &no_signature,
            &empty_signature,
            "null",
            "eyJ9.e30.",
            "Bearer Bearer",
        ];
        for token in garbage {
            let outcome = with_token(&edge, token).await;
            tally.expect(token, &outcome, Code::Unauthenticated);
        }
        let basic = earn("x").with("authorization", "Basic bWU6c2VjcmV0");
        tally.expect(
            "basic",
            &basic.send(edge.client().await).await,
            Code::Unauthenticated,
        );
        tally.done("1");
        assert_eq!(edge.peer.handled(), 0, "a handler was reached");
    })
    .await;
}

#[tokio::test]
async fn row_02_the_algorithm_is_not_the_tokens_to_choose() {
    both(|edge| async move {
        let mut tally = Tally::default();
        let forge = Forge::new(&edge);
        let jwks = std::fs::read(edge.directory.path().join(JWKS_FILE)).expect("there");
        let set: Value = serde_json::from_slice(&jwks).expect("JSON");
        let x = set["keys"][0]["x"].as_str().expect("a key");
        let public = URL_SAFE_NO_PAD.decode(x).expect("base64");

        for name in [
            "none", "None", "NONE", "", "HS256", "RS256", "ES256", "EdDSA2",
        ] {
            let token = forge.with(|header, _| header["alg"] = json!(name));
            tally.expect(
                name,
                &with_token(&edge, &token).await,
                Code::Unauthenticated,
            );
            let unsigned = format!("{}.", token.rsplit_once('.').expect("three parts").0);
            tally.expect(
                name,
                &with_token(&edge, &unsigned).await,
                Code::Unauthenticated,
            );
        }
        // The public key as the secret of an HMAC, in the forms it might be lying about in.
        for secret in [public.as_slice(), x.as_bytes(), jwks.as_slice()] {
            let mut hmac = Forge::new(&edge);
            hmac.header["alg"] = json!("HS256");
            let token = hmac.token(Algorithm::HS256, &EncodingKey::from_secret(secret));
            tally.expect(
                "HMAC",
                &with_token(&edge, &token).await,
                Code::Unauthenticated,
            );
        }
        tally.done("2");
        assert_eq!(edge.peer.handled(), 0, "a handler was reached");
    })
    .await;
}

#[tokio::test]
async fn row_03_expired_early_or_without_a_claim() {
    both(|edge| async move {
        let mut tally = Tally::default();
        let forge = Forge::new(&edge);
        for claim in ["exp", "nbf", "iat", "iss", "aud", "sub", "jti", "roles"] {
            let token = forge.with(|_, claims| {
                claims.as_object_mut().expect("an object").remove(claim);
            });
            tally.expect(
                claim,
                &with_token(&edge, &token).await,
                Code::Unauthenticated,
            );
            let token = forge.with(|_, claims| claims[claim] = Value::Null);
            tally.expect(
                claim,
                &with_token(&edge, &token).await,
                Code::Unauthenticated,
            );
            let token = forge.with(|_, claims| claims[claim] = json!({}));
            tally.expect(
                claim,
                &with_token(&edge, &token).await,
                Code::Unauthenticated,
            );
        }
        let times = [
            ("exp", json!(NOON_S - 61)),
            ("exp", json!(0)),
            ("exp", json!(-1)),
            ("exp", json!(i64::MIN)),
            ("exp", json!("tomorrow")),
            ("exp", json!(1e300)),
            ("nbf", json!(NOON_S + 61)),
            ("nbf", json!(i64::MAX)),
            ("iat", json!(NOON_S + 61)),
        ];
        for (claim, value) in times {
            let token = forge.with(|_, claims| claims[claim] = value.clone());
            let case = format!("{claim} {value}");
            tally.expect(
                &case,
                &with_token(&edge, &token).await,
                Code::Unauthenticated,
            );
        }
        tally.done("3");
        assert_eq!(edge.peer.handled(), 0, "a handler was reached");
    })
    .await;
}

#[tokio::test]
async fn row_04_for_another_audience_issuer_or_use() {
    both(|edge| async move {
        let mut tally = Tally::default();
        let forge = Forge::new(&edge);
        let foreign = [
            ("aud", json!("other")),
            ("aud", json!([])),
            ("aud", json!(["other", "Coalition"])),
            ("iss", json!("other")),
            ("iss", json!("https://coalition")),
            ("iss", json!("")),
            ("partner", json!("mem_00000000000000000000000007")),
            ("partner", json!("ptr_7")),
            ("partner", json!(7)),
            ("roles", json!("pos")),
            ("roles", json!(["operator_maker"])),
        ];
        for (claim, value) in foreign {
            let token = forge.with(|_, claims| claims[claim] = value.clone());
            let case = format!("{claim} {value}");
            tally.expect(
                &case,
                &with_token(&edge, &token).await,
                Code::Unauthenticated,
            );
        }
        for typ in [
            json!("JWT"),
            json!("id+jwt"),
            json!("at"),
            json!(""),
            Value::Null,
            json!(7),
        ] {
            let token = forge.with(|header, _| header["typ"] = typ.clone());
            let case = format!("typ {typ}");
            tally.expect(
                &case,
                &with_token(&edge, &token).await,
                Code::Unauthenticated,
            );
        }
        tally.done("4");
        assert_eq!(edge.peer.handled(), 0, "a handler was reached");
    })
    .await;
}

#[tokio::test]
async fn row_05_row_06_keys_are_not_the_tokens_to_bring() {
    both(|edge| async move {
        let mut tally = Tally::default();
        let forge = Forge::new(&edge);
        let own = DevKey::ephemeral().expect("a key");
        let jwk = own.jwks()["keys"][0].clone();
        // Nothing listens there; were it fetched, the answer would still be a refusal, so what
        // counts is that a good signature by the right key does not help either.
        let brought = [
            ("jwk", jwk),
            ("jku", json!("http://127.0.0.1:9/jwks")),
            ("x5u", json!("http://127.0.0.1:9/cert")),
            ("x5c", json!(["AAAA"])),
            ("crit", json!(["exp"])),
            ("zip", json!("DEF")),
            ("kid", Value::Null),
            ("kid", json!("")),
            ("kid", json!("../../etc/passwd")),
            ("kid", json!("' or 1=1 --")),
            ("kid", json!(own.key_id())),
        ];
        for (field, value) in brought {
            let token = forge.with(|header, _| header[field] = value.clone());
            let case = format!("{field} {value}");
            tally.expect(
                &case,
                &with_token(&edge, &token).await,
                Code::Unauthenticated,
            );
        }
        // Signed by a key of its own under the name of ours.
        let now = coalition_ledger::Timestamp::from_micros(NOON_S * 1_000_000);
        let token = own
            .mint(&TokenRequest::till(edge.partner, "t"), now)
            .expect("a token");
        tally.expect(
            "stranger",
            &with_token(&edge, &token).await,
            Code::Unauthenticated,
        );
        let (_, rest) = token.split_once('.').expect("three parts");
        let ours = edge.till();
        let (header, _) = ours.split_once('.').expect("three parts");
        let grafted = format!("{header}.{rest}");
        tally.expect(
            "grafted",
            &with_token(&edge, &grafted).await,
            Code::Unauthenticated,
        );
        tally.done("5 and 6");
        assert_eq!(edge.peer.handled(), 0, "a handler was reached");
    })
    .await;
}

/// Nobody shows a certificate here: a token that is good with one alone is good for nobody.
#[tokio::test]
async fn row_07_a_bound_token_is_no_bearer_token() {
    both(|edge| async move {
        let mut tally = Tally::default();
        let forge = Forge::new(&edge);
        let thumbprint = URL_SAFE_NO_PAD.encode([7; 32]);
        for cnf in [
            json!({ "x5t#S256": thumbprint }),
            json!({ "jkt": thumbprint }),
            json!({}),
            json!([]),
            json!("x5t#S256"),
            json!(false),
        ] {
            let token = forge.with(|_, claims| claims["cnf"] = cnf.clone());
            let case = format!("cnf {cnf}");
            let outcome = with_token(&edge, &token).await;
            tally.expect(&case, &outcome, Code::Unauthenticated);
        }
        tally.done("7");
        assert_eq!(edge.peer.handled(), 0, "a handler was reached");
    })
    .await;
}

#[tokio::test]
async fn row_08_a_retired_key_works_for_a_minute_at_most() {
    both(|edge| async move {
        let mut tally = Tally::default();
        let token = edge.till();
        let call = |token: &str| earn("x").with_token(token);
        let client = edge.client().await;
        call(&token)
            .send(client.clone())
            .await
            .expect("let through");
        let next = DevKey::ephemeral().expect("a key");
        let jwks = next.jwks().to_string();
        std::fs::write(edge.directory.path().join(JWKS_FILE), jwks).expect("ours");
        edge.clock.advance_s(60);
        let outcome = call(&token).send(client.clone()).await;
        tally.expect("retired", &outcome, Code::Unauthenticated);
        let now = coalition_ledger::Timestamp::from_micros((NOON_S + 60) * 1_000_000);
        let fresh = next.mint(&TokenRequest::till(edge.partner, "t"), now);
        let outcome = call(&fresh.expect("a token")).send(client).await;
        assert!(outcome.is_ok(), "the next key serves: {outcome:?}");
        tally.done("8");
    })
    .await;
}

#[tokio::test]
async fn row_10_headers_do_not_say_who_is_calling() {
    both(|edge| async move {
        let call = earn("x")
            .with_token(&edge.till())
            .with("x-partner-id", "ptr_00000000000000000000000009")
            .with("x-coalition-identity", "operator_maker")
            .with("x-forwarded-client-cert", "CN=operator")
            .with("x-request-id", "42");
        let answer = call.send(edge.client().await).await.expect("let through");
        let answer: EarnResponse = answer.message();
        assert_eq!(answer.transaction_id, edge.partner.to_string());
        let posing = |name: &&String| {
            name.starts_with("x-partner")
                || name.starts_with("x-coal")
                || name.starts_with("x-forw")
        };
        let seen: Vec<_> = answer.receipt_lines.iter().filter(posing).collect();
        assert!(seen.is_empty(), "{seen:?}");
        assert!(
            answer
                .receipt_lines
                .iter()
                .any(|name| name == "x-request-id")
        );
        println!("row 10: 3 inputs tried, 0 wrong");
    })
    .await;
}

#[tokio::test]
async fn row_11_walking_round_the_gateway_gains_nothing() {
    let edge = Edge::start(Way::Remote, Options::default()).await;
    let mut tally = Tally::default();
    let direct = || client(edge.service.address);
    let forge = Forge::new(&edge);
    let expired = forge.with(|_, claims| claims["exp"] = json!(NOON_S - 61));
    let none = earn("x").send(direct().await).await;
    tally.expect("none", &none, Code::Unauthenticated);
    let spoofed = earn("x")
        .with("x-coalition-identity", "pos")
        .send(direct().await)
        .await;
    tally.expect("spoofed", &spoofed, Code::Unauthenticated);
    let late = earn("x").with_token(&expired).send(direct().await).await;
    tally.expect("expired", &late, Code::Unauthenticated);
    let cut = "/coalition.settlement.v1.SettlementService/CutWindow";
    let denied = RawCall::new(cut, &[])
        .with_token(&edge.till())
        .send(direct().await)
        .await;
    tally.expect("role", &denied, Code::PermissionDenied);
    assert_eq!(edge.peer.handled(), 0, "a handler was reached");
    let good = earn("x")
        .with_token(&edge.till())
        .send(direct().await)
        .await;
    assert!(
        good.is_ok(),
        "the same token serves on either way: {good:?}"
    );
    tally.done("11");
}

#[tokio::test]
async fn row_16_every_method_is_closed_to_every_other_role() {
    both(|edge| async move {
        let mut tally = Tally::default();
        let client = edge.client().await;
        let behind = |method: &str| method.contains(".earn.") || method.contains(".settlement.");
        for policy in policy::all().iter().filter(|policy| behind(policy.method)) {
            for role in Role::ALL {
                let partner = matches!(role, Role::Pos | Role::PartnerAdmin);
                let mut request = TokenRequest::new("someone", [role]);
                request.partner = partner.then_some(edge.partner);
                if policy.roles.contains(&role) {
                    request.scope = Some("another:scope".to_owned());
                }
                let call = RawCall::new(policy.method, &[]).with_token(&edge.mint(&request));
                let outcome = call.send(client.clone()).await;
                let case = format!("{} as {role}", policy.method);
                tally.expect(&case, &outcome, Code::PermissionDenied);
            }
        }
        tally.done("16");
        assert_eq!(edge.peer.handled(), 0, "a handler was reached");
    })
    .await;
}

#[tokio::test]
async fn row_60_the_partner_comes_from_the_token() {
    both(|edge| async move {
        let named = |partner: &str| {
            let message = EarnRequest {
                partner_id: partner.to_owned(),
                ..EarnRequest::default()
            };
            RawCall::new(EARN, &message.encode_to_vec())
        };
        let client = edge.client().await;
        let other = PartnerId::from_uuid(Uuid::from_u128(8)).to_string();
        let mut tally = Tally::default();
        // Of the wrong kind, of somebody else, of nobody: one answer for all.
        let mut texts = std::collections::BTreeSet::new();
        for partner in [
            other.as_str(),
            "ptr_zzz",
            "OPERATOR",
            "-",
            "mem_00000000000000000000000007",
        ] {
            let outcome = named(partner)
                .with_token(&edge.till())
                .send(client.clone())
                .await;
            tally.expect(partner, &outcome, Code::PermissionDenied);
            texts.extend(outcome.err().map(|status| status.message().to_owned()));
        }
        assert_eq!(texts.len(), 1, "{texts:?}");
        tally.done("60");

        let own = edge.partner.to_string();
        for (token, partner, expected) in [
            (edge.till(), own.as_str(), Ok(&own)),
            (edge.operator(), other.as_str(), Ok(&other)),
            (edge.operator(), "", Err(Code::InvalidArgument)),
            (edge.operator(), "nobody", Err(Code::InvalidArgument)),
        ] {
            let outcome = named(partner).with_token(&token).send(client.clone()).await;
            let acted = outcome.as_ref().map(Answer::message::<EarnResponse>);
            let acted = acted
                .map(|answer| answer.transaction_id)
                .map_err(Status::code);
            assert_eq!(
                acted.as_ref().map_err(|code| *code),
                expected,
                "{partner:?}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn row_65_two_authorization_headers() {
    both(|edge| async move {
        let mut tally = Tally::default();
        let (till, operator) = (edge.till(), edge.operator());
        for (first, second) in [(&till, &till), (&till, &operator), (&operator, &till)] {
            let call = earn("x").with_token(first).with_token(second);
            let outcome = call.send(edge.client().await).await;
            tally.expect("two", &outcome, Code::Unauthenticated);
        }
        tally.done("65");
        assert_eq!(edge.peer.handled(), 0, "a handler was reached");
    })
    .await;
}
