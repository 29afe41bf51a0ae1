//! Rows 1 to 8, 10, 11, 13 and 14 of the security table: who is calling, against real processes.
//!
//! Each token is tried at the gateway; at a gateway with nothing behind it, which shows that it is
//! refused before anything is asked of anybody; and, on PostgreSQL, at the earn service itself, round
//! the gateway. The same rows against a double of the services, with a clock that can be moved, stand
//! in `gateway/tests/edge/tokens.rs` and `services/rpc/src/auth/tests.rs`.

mod house;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coalition_proto::earn::earn_service_client::EarnServiceClient;
use coalition_proto::earn::{EarnRequest, GetTransactionRequest, get_transaction_request};
use coalition_proto::member::ListActivityRequest;
use coalition_proto::partner::{GetPartnerRequest, ListAgreementsRequest, get_partner_request};
use coalition_proto::settlement::{
    GetHeadroomRequest, ListExposuresRequest, ListPositionsRequest, ListPostingsRequest,
};
use coalition_tests::engine::{Engine, bounded, not_run};
use coalition_tests::rpc::Rpc;
use coalition_tests::{Network, both_engines, terms};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tokio::time::Instant;
use tonic::{Code, Request};

use crate::told;
use house::{House, Key, Tally, listen, now_s, parts, sign};

both_engines!(
    row_08_a_suspended_partner_posts_nothing,
    row_10_headers_do_not_say_who_is_calling,
    row_13_wildcards_name_nobody,
    row_14_request_ids_of_partners_never_meet,
);

macro_rules! at_every_door {
    ($($row:ident),+ $(,)?) => {$(
        mod $row {
            #[test]
            fn on_sqlite() {
                super::within(super::Engine::Sqlite, super::$row);
            }

            #[test]
            fn on_postgres() {
                super::within(super::Engine::Postgres, super::$row);
            }
        }
    )+};
}

at_every_door!(
    row_01_no_token_or_garbage,
    row_02_the_algorithm_is_not_the_tokens_to_choose,
    row_03_expired_early_or_without_a_claim,
    row_04_for_another_audience_issuer_or_use,
    row_05_a_thousand_unknown_keys_cause_one_fetch,
    row_06_keys_are_not_the_tokens_to_bring,
    row_07_a_token_bound_to_a_certificate_is_no_bearer_token,
    row_11_walking_round_the_gateway_gains_nothing,
);

fn within(engine: Engine, row: impl AsyncFnOnce(&House)) {
    bounded(async {
        match House::open(engine).await {
            Some(house) => {
                row(&house).await;
                house.leave().await;
            }
            None => not_run("PostgreSQL: no server binaries found"),
        }
    });
}

async fn row_01_no_token_or_garbage(house: &House) {
    let mut tally = Tally::default();
    let good = house.till(|_, _| ());
    tally.accepted(house, "a good one", &good).await;
    tally.header(house, "none", None).await;
    let cut = &good[..good.len() - 1];
    let parts: Vec<&str> = good.split('.').collect();
    let garbage = [
        String::new(),
        "x".to_owned(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        "a.b.c".to_owned(),
        "null".to_owned(),
        "eyJ9.e30.".to_owned(),
        "Bearer".to_owned(),
        "A".repeat(8 * 1_024),
        cut.to_owned(),
        format!("{good}."),
        format!("{good}A"),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}..{}", parts[0], parts[2]),
        format!(".{}.{}", parts[1], parts[2]),
        format!("{}.{}.{}", parts[1], parts[0], parts[2]),
        format!("x,{good}"),
    ];
    for token in &garbage {
        let name = &token[..token.len().min(40)];
        tally.refused(house, name, token).await;
    }
    for header in [
        good.clone(),
        format!("Basic {good}"),
        format!("Token {good}"),
        format!("Bearer\t{good}"),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Basic bWU6c2VjcmV0".to_owned(),
        "Negotiate".to_owned(),
    ] {
        let name = &header[..header.len().min(12)];
        tally.header(house, name, Some(&header)).await;
    }
    tally.done("1");
}

async fn row_02_the_algorithm_is_not_the_tokens_to_choose(house: &House) {
    let mut tally = Tally::default();
    for name in [
        "none", "None", "nOnE", "", "HS256", "HS512", "RS256", "PS256", "ES256", "EdDSA ",
        "Ed25519x",
    ] {
        let token = house.till(|header, _| header["alg"] = json!(name));
        let unsigned = format!("{}.", token.rsplit_once('.').expect("three parts").0);
        tally.refused(house, name, &token).await;
        tally.refused(house, name, &unsigned).await;
    }
    // The public key as the secret of an HMAC, in every form it might be lying about in.
    let key = house.provider.key();
    let x = URL_SAFE_NO_PAD.encode(&key.public);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{x}\n-----END PUBLIC KEY-----\n");
    let jwks = key.jwks();
    for secret in [
        &key.public[..],
        x.as_bytes(),
        pem.as_bytes(),
        jwks.as_bytes(),
        b"",
    ] {
        let (mut header, mut claims) = parts(key);
        header["alg"] = json!("HS256");
        claims["roles"] = json!(["operator_maker"]);
        let secret = EncodingKey::from_secret(secret);
        let token = sign(&header, &claims, Algorithm::HS256, &secret);
        tally.refused(house, "HMAC", &token).await;
    }
    tally.done("2");
}

async fn row_03_expired_early_or_without_a_claim(house: &House) {
    let mut tally = Tally::default();
    for claim in ["exp", "nbf", "iat", "iss", "aud", "sub", "jti", "roles"] {
        let missing = house.till(|_, claims| {
            claims.as_object_mut().expect("an object").remove(claim);
        });
        tally.refused(house, claim, &missing).await;
        for value in [Value::Null, json!({}), json!([]), json!(true)] {
            if claim == "roles" && value == json!([]) {
                continue;
            }
            let token = house.till(|_, claims| claims[claim] = value.clone());
            let case = format!("{claim} {value}");
            tally.refused(house, &case, &token).await;
        }
    }
    // A minute of leeway, and some seconds for the test to get there.
    let (late, early) = (now_s() - 61, now_s() + 120);
    for (claim, value) in [
        ("exp", json!(late)),
        ("exp", json!(0)),
        ("exp", json!(-1)),
        ("exp", json!(i64::MIN)),
        ("exp", json!("tomorrow")),
        ("exp", json!(1e300)),
        ("nbf", json!(early)),
        ("nbf", json!(i64::MAX)),
        ("iat", json!(early)),
        ("iat", json!(i64::MAX)),
    ] {
        let token = house.till(|_, claims| claims[claim] = value.clone());
        let case = format!("{claim} {value}");
        tally.refused(house, &case, &token).await;
    }
    tally.done("3");
}

async fn row_04_for_another_audience_issuer_or_use(house: &House) {
    let mut tally = Tally::default();
    for (claim, value) in [
        ("aud", json!("other")),
        ("aud", json!("point")),
        ("aud", json!("points ")),
        ("aud", json!(["other", "Points"])),
        ("iss", json!("other")),
        ("iss", json!("https://id.example/")),
        ("iss", json!("http://id.example")),
        ("iss", json!(["https://id.example"])),
        ("partner", json!("mem_00000000000000000000000007")),
        ("partner", json!("ptr_7")),
        ("partner", json!("*")),
        ("partner", json!([])),
        ("partner", json!(7)),
        ("partner", Value::Null),
        ("roles", json!("pos")),
        ("roles", json!(["pos", 7])),
        ("roles", json!(["operator_maker"])),
        ("roles", json!(["pos", "operator_maker"])),
        ("sub", json!("a\nb")),
        ("sub", json!("x".repeat(200))),
        ("terminal", json!("\u{1b}[31m")),
        ("location", json!("")),
        ("jti", json!("")),
    ] {
        let token = house.till(|_, claims| claims[claim] = value.clone());
        let case = format!("{claim} {value}");
        tally.refused(house, &case, &token).await;
    }
    for typ in [
        json!("JWT"),
        json!("id+jwt"),
        json!("logout+jwt"),
        json!("at"),
        json!("application/jwt"),
        json!(""),
        Value::Null,
        json!(7),
    ] {
        let token = house.till(|header, _| header["typ"] = typ.clone());
        tally.refused(house, &format!("typ {typ}"), &token).await;
    }
    tally.done("4");
}

/// How many keys that nobody knows.
const UNKNOWN_KEYS: usize = 1_000;

async fn row_05_a_thousand_unknown_keys_cause_one_fetch(house: &House) {
    let mut tally = Tally::default();
    let before = house.provider.fetched();
    let begun = Instant::now();
    let stranger = Key::new("nobody");
    for number in 0..UNKNOWN_KEYS {
        let (mut header, mut claims) = parts(&stranger);
        header["kid"] = json!(format!("nobody-{number}"));
        claims["roles"] = json!(["operator_viewer"]);
        let token = sign(&header, &claims, Algorithm::EdDSA, &stranger.signing);
        tally.refused(house, "an unknown key", &token).await;
    }
    let fetched = house.provider.fetched() - before;
    // Each process cares for its own keys: once a minute for what is unknown, and once a minute in
    // any case.
    let minutes = usize::try_from(begun.elapsed().as_secs() / 60).expect("a short while");
    let most = 2 * house.doors.len() * (minutes + 1);
    assert!(fetched <= most, "{fetched} fetches");
    tally
        .accepted(house, "a known one", &house.till(|_, _| ()))
        .await;
    tally.done("5");
    told(&format!(
        "row 5: {fetched} fetches by {} processes",
        house.doors.len()
    ));
}

async fn row_06_keys_are_not_the_tokens_to_bring(house: &House) {
    let mut tally = Tally::default();
    let own = Key::new("own");
    let (url, visits) = listen(own.jwks()).await;
    let key = house.provider.key();
    for (field, value) in [
        ("jwk", own.jwk()),
        ("jku", json!(url)),
        ("x5u", json!(url)),
        ("x5c", json!(["AAAA"])),
        ("crit", json!(["exp"])),
        ("zip", json!("DEF")),
        ("enc", json!("A128GCM")),
        ("kid", Value::Null),
        ("kid", json!("")),
        ("kid", json!("../../etc/passwd")),
        ("kid", json!("' or 1=1 --")),
        ("kid", json!(url)),
        ("kid", json!("x".repeat(3_000))),
    ] {
        // By the right key, which does not help; and by the one that is offered.
        for signing in [key, &own] {
            let (mut header, mut claims) = parts(key);
            claims["roles"] = json!(["operator_maker"]);
            header[field] = value.clone();
            let token = sign(&header, &claims, Algorithm::EdDSA, &signing.signing);
            tally
                .refused(house, &format!("{field} {value}"), &token)
                .await;
        }
    }
    // Signed by another key under the name of the provider's.
    let (header, mut claims) = parts(key);
    claims["roles"] = json!(["operator_maker"]);
    let token = sign(&header, &claims, Algorithm::EdDSA, &own.signing);
    tally.refused(house, "another's name", &token).await;
    assert_eq!(
        visits.load(Ordering::SeqCst),
        0,
        "a token's address was fetched"
    );
    tally.done("6");
}

/// Nobody shows a certificate here, so whoever holds a token that is bound to one is not who it was
/// given to (RFC 8705, section 3; the same for a key of RFC 9449).
async fn row_07_a_token_bound_to_a_certificate_is_no_bearer_token(house: &House) {
    let mut tally = Tally::default();
    let thumbprint = URL_SAFE_NO_PAD.encode([7; 32]);
    for cnf in [
        json!({ "x5t#S256": thumbprint }),
        json!({ "x5t#S256": "" }),
        json!({ "jkt": thumbprint }),
        json!({ "jwk": house.provider.key().jwk() }),
        json!({ "kid": "provider-1" }),
        json!({ "something": "new" }),
        json!({}),
        json!([]),
        json!("x5t#S256"),
        json!(true),
    ] {
        let token = house.till(|_, claims| claims["cnf"] = cnf.clone());
        tally.refused(house, &format!("cnf {cnf}"), &token).await;
    }
    tally.done("7");
}

async fn row_11_walking_round_the_gateway_gains_nothing(house: &House) {
    let mut tally = Tally::default();
    let expired = house.till(|_, claims| claims["exp"] = json!(now_s() - 61));
    let foreign = {
        let key = Key::new("provider-1");
        let (header, claims) = parts(&key);
        sign(&header, &claims, Algorithm::EdDSA, &key.signing)
    };
    tally.header(house, "none", None).await;
    tally.refused(house, "expired", &expired).await;
    tally.refused(house, "foreign", &foreign).await;
    // What a gateway might say of itself counts for nothing.
    for door in &house.doors {
        for name in [
            "x-coalition-identity",
            "x-partner-id",
            "x-forwarded-authorization",
            "x-forwarded-client-cert",
        ] {
            let mut request = Request::new(coalition_proto::earn::QuoteRequest::default());
            let partner = house.partner.parse().expect("a header holds it");
            request.metadata_mut().insert(name, partner);
            let mut client = EarnServiceClient::new(door.channel.clone());
            let refused = client.quote(request).await.expect_err("nobody is calling");
            assert_eq!(refused.code(), Code::Unauthenticated, "{name}: {refused:?}");
        }
    }
    // A role that may not call is told so, on either way.
    let mut texts = BTreeSet::new();
    for door in &house.doors {
        let token = house
            .provider
            .token(|_, claims| claims["roles"] = json!(["support_agent"]));
        let refusal = door.knock(Some(&format!("Bearer {token}"))).await;
        let refusal = refusal.expect_err("no role for a quote");
        refusal.assert(Code::PermissionDenied, "PERMISSION_DENIED");
        texts.insert(refusal.message);
    }
    assert_eq!(texts.len(), 1, "{texts:?}");
    tally
        .accepted(house, "a good one", &house.till(|_, _| ()))
        .await;
    tally.done("11");
}

/// Suspending is no RPC yet: a hand in the database does it. What is refused from then on is said by
/// the very next call, not a minute later.
async fn row_08_a_suspended_partner_posts_nothing(network: &Network) {
    let base = terms::settle_at_issue("EUR", "0.01", "0.008");
    let cafe = network.partner("cafe", base.clone()).await;
    let deli = network.partner("deli", base).await;
    let member = network.member().await;
    cafe.earn(&member, "c-1", 1_000).await;
    cafe.redeem(&member, "r-1", 100).await;
    let before = network.verify().await.summary;
    let changed = network
        .edit("update partners set status = 2 where code = 'cafe'")
        .await;
    assert_eq!(changed, 1);
    network
        .edit("update network set rulebook_version = rulebook_version + 1")
        .await;
    for refusal in [
        cafe.till.refused(cafe.earning(&member, "c-2", 100)).await,
        cafe.till.refused(cafe.redeeming(&member, "r-2", 10)).await,
    ] {
        refusal.assert_declined("PARTNER_SUSPENDED");
    }
    assert_eq!(deli.earn(&member, "d-1", 10).await.points_earned, 10);
    let after = network.verify().await.summary;
    assert_eq!(after.lots, before.lots + 1, "the other partner's alone");
    told("row 8, a suspended partner: 2 inputs tried, 0 wrong");
}

async fn row_10_headers_do_not_say_who_is_calling(network: &Network) {
    let base = terms::settle_at_issue("EUR", "0.01", "0.008");
    let cafe = network.partner("cafe", base.clone()).await;
    let deli = network.partner("deli", base).await;
    let member = network.member().await;
    let names = [
        "x-partner-id",
        "x-partner",
        "x-coalition-partner",
        "x-coalition-identity",
        "x-forwarded-user",
        "x-forwarded-client-cert",
        "x-roles",
        "forwarded",
    ];
    for (place, name) in names.into_iter().enumerate() {
        let mut request = cafe
            .till
            .request(cafe.earning(&member, &format!("c-{place}"), 10));
        let value = deli.id.parse().expect("a header holds it");
        request.metadata_mut().insert(name, value);
        let earned = EarnRequest::send(cafe.till.channel(), request).await;
        let earned = earned.unwrap_or_else(|status| panic!("{name}: {status}"));
        assert_eq!(earned.into_inner().lots[0].issuer, cafe.id, "{name}");
    }
    told(&format!("row 10: {} inputs tried, 0 wrong", names.len()));
}

/// Not a single row for what is no id, whoever's the others are.
async fn row_13_wildcards_name_nobody(network: &Network) {
    let base = terms::settle_at_issue("EUR", "0.01", "0.008");
    let cafe = network.partner("cafe", base.clone()).await;
    let deli = network.partner("deli", base).await;
    let member = network.member().await;
    deli.earn(&member, "d-1", 100).await;
    let mut tried = 0;
    for name in [
        "partners/-",
        "-",
        "*",
        "%",
        "ptr_*",
        "ptr_%",
        "OPERATOR",
        "' or 1=1 --",
        deli.id.as_str(),
        &format!("{},{}", cafe.id, deli.id),
        &format!("{} ", cafe.id),
    ] {
        let name = name.to_owned();
        let office = &cafe.office;
        let refusals = [
            office
                .refused(ListPositionsRequest {
                    party: name.clone(),
                    ..ListPositionsRequest::default()
                })
                .await,
            office
                .refused(ListExposuresRequest {
                    party: name.clone(),
                    ..ListExposuresRequest::default()
                })
                .await,
            office
                .refused(ListPostingsRequest {
                    partner_id: name.clone(),
                    ..ListPostingsRequest::default()
                })
                .await,
            office
                .refused(ListAgreementsRequest {
                    partner_id: name.clone(),
                    ..ListAgreementsRequest::default()
                })
                .await,
            office
                .refused(GetHeadroomRequest {
                    partner_id: name.clone(),
                })
                .await,
            office
                .refused(GetPartnerRequest {
                    key: Some(get_partner_request::Key::PartnerId(name.clone())),
                })
                .await,
            cafe.till
                .refused(ListActivityRequest {
                    member_id: member.clone(),
                    partner_id: name.clone(),
                    ..ListActivityRequest::default()
                })
                .await,
            cafe.till
                .refused(EarnRequest {
                    partner_id: name,
                    ..cafe.earning(&member, "c-1", 100)
                })
                .await,
        ];
        let mut texts = BTreeSet::new();
        for refusal in refusals {
            refusal.assert(Code::PermissionDenied, "PERMISSION_DENIED");
            assert!(refusal.fields.is_empty(), "{refusal}");
            texts.insert(refusal.message.clone());
            tried += 1;
        }
        assert_eq!(texts.len(), 1, "{texts:?}");
    }
    told(&format!("row 13: {tried} inputs tried, 0 wrong"));
}

/// The id of another partner's request, sent with the same content or other: a request of one's own.
async fn row_14_request_ids_of_partners_never_meet(network: &Network) {
    let base = terms::settle_at_issue("EUR", "0.01", "0.008");
    let cafe = network.partner("cafe", base.clone()).await;
    let deli = network.partner("deli", base).await;
    let member = network.member().await;
    let first = cafe.earning(&member, "c-1", 100);
    let answer = cafe.till.ask(first.clone()).await;
    let same = deli.till.ask(first.clone()).await;
    assert_eq!(
        (same.replayed, same.lots[0].issuer.as_str()),
        (false, deli.id.as_str())
    );
    assert_ne!(same.transaction_id, answer.transaction_id);
    let other = EarnRequest {
        request_id: cafe.earning(&member, "", 0).request_id,
        ..deli.earning(&member, "c-2", 7)
    };
    let taken = EarnRequest {
        request_id: other.request_id.clone(),
        ..cafe.earning(&member, "c-2", 100)
    };
    cafe.till.ask(taken).await;
    assert_eq!(deli.till.ask(other).await.points_earned, 7);
    // Nor can it be looked up by whoever knows it.
    let only = cafe.earning(&member, "only", 10);
    cafe.till.ask(only.clone()).await;
    let look = GetTransactionRequest {
        key: Some(get_transaction_request::Key::RequestId(only.request_id)),
        ..GetTransactionRequest::default()
    };
    deli.till
        .refused(look)
        .await
        .assert(Code::PermissionDenied, "PERMISSION_DENIED");
    told("row 14: 3 inputs tried, 0 wrong");
}
