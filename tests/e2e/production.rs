//! A production network: time is the system's, tokens come from an identity provider, and what a
//! sandbox hands out for trying things is worth nothing.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coalition_ledger::Clock as _;
use coalition_node::{Config, Roles, RunningNode};
use coalition_proto::partner::CreatePartnerRequest;
use coalition_proto::sandbox::{AdvanceClockRequest, GetClockRequest, SetClockRequest};
use coalition_proto::settlement::GetOpenWindowRequest;
use coalition_rpc::auth::dev::{DevKey, TokenRequest};
use coalition_store::SystemClock;
use coalition_store::testing::{Database, Engine};
use coalition_tests::engine::{bounded, not_run};
use coalition_tests::figures::time;
use coalition_tests::network::{connect, mint};
use coalition_tests::{Caller, request_id};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;

#[test]
fn a_production_network_is_no_sandbox_on_sqlite() {
    no_sandbox(Engine::Sqlite);
}

#[test]
fn a_production_network_is_no_sandbox_on_postgres() {
    no_sandbox(Engine::Postgres);
}

fn no_sandbox(engine: Engine) {
    bounded(async {
        let Some(database) = Database::new(engine).await else {
            return not_run("PostgreSQL: no server binaries found");
        };
        let folder = TempDir::with_prefix("coalition-production-").expect("a temporary folder");
        let provider = Provider::new();
        let jwks = folder.path().join("provider.json");
        std::fs::write(&jwks, provider.jwks().to_string())
            .expect("a temporary folder can be written to");
        let complete = json!({
            "mode": "production",
            "data_dir": folder.path(),
            "database_url": database.url,
            "listen": "127.0.0.1:0",
            "network": { "face_values": { "EUR": "0.01" } },
            "auth": { "issuer": "https://id.example", "audience": "points", "jwks": jwks },
            "keys": { "identifier": "11".repeat(32), "page_token": "22".repeat(32) },
        });
        // Nothing is made up where something is missing: it says what to do.
        for (section, field, says) in [
            ("auth", "jwks", "auth.jwks"),
            ("keys", "identifier", "identifier"),
            ("keys", "page_token", "page_token"),
        ] {
            let mut lacking = complete.clone();
            lacking[section]
                .as_object_mut()
                .expect("a section")
                .remove(field);
            let refused = RunningNode::start(config(lacking), Roles::All).await;
            let why = format!("{:#}", refused.expect_err("something is missing"));
            assert!(why.contains(says), "{says} is not in: {why}");
        }

        let node = RunningNode::start(config(complete.clone()), Roles::All)
            .await
            .expect("all is there");
        assert!(node.dev_keys().is_none());
        let caller = |token: &str| Caller::new(connect(&node.endpoint()), Some(token));
        let maker = caller(&provider.token("operator_maker"));
        let look = maker.refused(GetClockRequest {}).await;
        look.assert(Code::FailedPrecondition, "NOT_SANDBOX");
        let window = maker.ask(GetOpenWindowRequest {}).await.window;
        let opened = window.and_then(|window| window.opened_at);
        assert!(
            (opened.expect("a time").seconds - now_s()).abs() < 60,
            "time is the system's"
        );
        let set = SetClockRequest {
            request_id: request_id(),
            time: Some(time("2099-01-01")),
        };
        maker
            .refused(set)
            .await
            .assert(Code::FailedPrecondition, "NOT_SANDBOX");
        let advance = AdvanceClockRequest {
            request_id: request_id(),
            duration: Some(prost_types::Duration {
                seconds: 60,
                nanos: 0,
            }),
        };
        maker
            .refused(advance)
            .await
            .assert(Code::FailedPrecondition, "NOT_SANDBOX");
        let create = CreatePartnerRequest {
            request_id: request_id(),
            code: "cafe".to_owned(),
            display_name: "Cafe".to_owned(),
            kind: 1,
        };
        maker.ask(create).await;

        // A development key, even one that is published beside the provider's, opens nothing.
        let dev = DevKey::open(folder.path(), false).expect("a key can be made");
        let dev = dev.for_issuer("https://id.example", "points");
        let request = TokenRequest::new("mallory", [coalition_proto::policy::Role::OperatorMaker]);
        let refusal = caller(&mint(&dev, &request))
            .refused(GetOpenWindowRequest {})
            .await;
        refusal.assert(Code::Unauthenticated, "UNAUTHENTICATED");
        let mut both = provider.jwks();
        let keys = both["keys"].as_array_mut().expect("a list");
        keys.extend(
            dev.jwks()["keys"]
                .as_array()
                .expect("a list")
                .iter()
                .cloned(),
        );
        std::fs::write(&jwks, both.to_string()).expect("a temporary folder can be written to");
        node.shut_down().await;
        let node = RunningNode::start(config(complete.clone()), Roles::All)
            .await
            .expect("all is there");
        let caller = |token: &str| Caller::new(connect(&node.endpoint()), Some(token));
        caller(&provider.token("operator_viewer"))
            .ask(GetOpenWindowRequest {})
            .await;
        let refusal = caller(&mint(&dev, &request))
            .refused(GetOpenWindowRequest {})
            .await;
        refusal.assert(Code::Unauthenticated, "UNAUTHENTICATED");
        node.shut_down().await;

        // What is real once stays real.
        let mut sandbox = complete;
        sandbox["mode"] = "sandbox".into();
        let refused = RunningNode::start(config(sandbox), Roles::All).await;
        let why = format!(
            "{:#}",
            refused.expect_err("the database is of a production network")
        );
        assert!(
            why.contains("production") && why.contains("sandbox"),
            "{why}"
        );
        database.remove().await;
    });
}

fn config(settings: Value) -> Config {
    serde_json::from_value(settings).expect("the configuration is one")
}

fn now_s() -> i64 {
    SystemClock.now().micros() / 1_000_000
}

/// An identity provider, as far as tokens go.
struct Provider {
    signing: EncodingKey,
    public: Vec<u8>,
}

impl Provider {
    fn new() -> Self {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("there is randomness");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("the key just made");
        let public = pair.public_key().as_ref().to_vec();
        Self {
            signing: EncodingKey::from_ed_der(document.as_ref()),
            public,
        }
    }

    fn jwks(&self) -> Value {
        json!({ "keys": [{
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "provider-1",
            "x": URL_SAFE_NO_PAD.encode(&self.public),
        }] })
    }

    fn token(&self, role: &str) -> String {
        let header = Header {
            typ: Some("at+jwt".to_owned()),
            kid: Some("provider-1".to_owned()),
            ..Header::new(Algorithm::EdDSA)
        };
        let claims = json!({
            "iss": "https://id.example", "aud": "points", "sub": "olga", "jti": request_id(),
            "iat": now_s(), "nbf": now_s(), "exp": now_s() + 600, "roles": [role],
        });
        encode(&header, &claims, &self.signing).expect("a token can be signed")
    }
}
