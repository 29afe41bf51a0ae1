//! A network whose tokens come from an identity provider that the test is, and the ways into it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coalition_ledger::Clock as _;
use coalition_node::{Config, Roles, RunningNode};
use coalition_proto::earn::QuoteRequest;
use coalition_proto::earn::earn_service_client::EarnServiceClient;
use coalition_proto::partner::CreatePartnerRequest;
use coalition_store::SystemClock;
use coalition_store::testing::{Database, Engine};
use coalition_tests::network::connect;
use coalition_tests::{Caller, Refusal, request_id};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::told;

/// Who issues the tokens, and for whom.
const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "points";

/// A network, its identity provider, and the ways in.
pub(super) struct House {
    pub(super) provider: Provider,
    pub(super) partner: String,
    pub(super) doors: Vec<Door>,
    database: Database,
    /// Kept until the house is left.
    _folder: TempDir,
    nodes: Vec<RunningNode>,
}

/// One way in.
pub(super) struct Door {
    pub(super) name: &'static str,
    pub(super) channel: Channel,
    /// Whether there is a service behind it.
    pub(super) leads_somewhere: bool,
}

impl House {
    /// A network of all roles in one process; beside it a gateway with nothing behind it, which can
    /// refuse and do no more; on PostgreSQL also the earn service by itself.
    pub(super) async fn open(engine: Engine) -> Option<Self> {
        let database = Database::new(engine).await?;
        let folder = TempDir::with_prefix("coalition-tokens-").expect("a temporary folder");
        let provider = Provider::start().await;
        let config = |upstream: &str| -> Config {
            let settings = json!({
                "data_dir": folder.path(),
                "database_url": database.url,
                "listen": "127.0.0.1:0",
                "auth": { "issuer": ISSUER, "audience": AUDIENCE, "jwks": provider.url },
                "upstreams": { "earn": [upstream], "redeem": [upstream],
                    "settlement": [upstream], "network": [upstream] },
            });
            serde_json::from_value(settings).expect("the configuration is one")
        };
        // Nobody listens on port 9.
        let nowhere = "http://127.0.0.1:9";
        let mut roles = vec![
            ("the gateway", Roles::All),
            ("a gateway alone", Roles::Gateway),
        ];
        if engine == Engine::Postgres {
            roles.push(("the earn service", Roles::Earn));
        }
        let (mut doors, mut nodes) = (Vec::new(), Vec::new());
        for (name, roles) in roles {
            let node = RunningNode::start(config(nowhere), roles).await;
            let node = node.unwrap_or_else(|error| panic!("{name} does not start: {error:#}"));
            doors.push(Door {
                name,
                channel: connect(&node.endpoint()),
                leads_somewhere: roles != Roles::Gateway,
            });
            nodes.push(node);
        }
        let maker = provider.token(|_, claims| claims["roles"] = json!(["operator_maker"]));
        let create = CreatePartnerRequest {
            request_id: request_id(),
            code: "cafe".to_owned(),
            display_name: "Cafe".to_owned(),
            kind: 1,
        };
        let maker = Caller::new(doors[0].channel.clone(), Some(&maker));
        let partner = maker.ask(create).await.partner.expect("a partner");
        Some(Self {
            provider,
            partner: partner.partner_id,
            doors,
            database,
            _folder: folder,
            nodes,
        })
    }

    /// A good token of a till, after a change to its header and its claims.
    pub(super) fn till(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        self.provider.token(|header, claims| {
            claims["roles"] = json!(["pos"]);
            claims["partner"] = json!(self.partner);
            change(header, claims);
        })
    }

    pub(super) async fn leave(self) {
        for node in self.nodes {
            node.shut_down().await;
        }
        self.database.remove().await;
    }
}

impl Door {
    /// Whether a call with this header gets to a service, or what is said instead.
    pub(super) async fn knock(&self, header: Option<&str>) -> Result<(), Refusal> {
        let mut request = Request::new(QuoteRequest::default());
        if let Some(header) = header {
            let header = header.parse().expect("a header holds it");
            request.metadata_mut().insert("authorization", header);
        }
        let mut client = EarnServiceClient::new(self.channel.clone());
        let refused = client
            .quote(request)
            .await
            .expect_err("nothing is asked for");
        let refusal = Refusal::of("EarnService/Quote", &refused);
        let got_in = if self.leads_somewhere {
            Code::InvalidArgument
        } else {
            Code::Unavailable
        };
        if refusal.code == got_in {
            Ok(())
        } else {
            Err(refusal)
        }
    }
}

/// Counts what was tried, and what was answered otherwise than it should.
#[derive(Default)]
pub(super) struct Tally {
    tried: usize,
    wrong: Vec<String>,
}

impl Tally {
    /// A token that has to be refused at every door.
    pub(super) async fn refused(&mut self, house: &House, case: &str, token: &str) {
        self.header(house, case, Some(&format!("Bearer {token}")))
            .await;
    }

    /// A header that has to be refused at every door.
    pub(super) async fn header(&mut self, house: &House, case: &str, header: Option<&str>) {
        for door in &house.doors {
            self.tried += 1;
            let right = match door.knock(header).await {
                Ok(()) => Err("let in".to_owned()),
                Err(refusal) if refusal.code != Code::Unauthenticated => Err(refusal.to_string()),
                Err(refusal) if refusal.reason != "UNAUTHENTICATED" || leaks(&refusal) => {
                    Err(refusal.to_string())
                }
                Err(_) => Ok(()),
            };
            if let Err(why) = right {
                self.wrong.push(format!("{case} at {}: {why}", door.name));
            }
        }
    }

    /// A token that has to be accepted at every door.
    pub(super) async fn accepted(&mut self, house: &House, case: &str, token: &str) {
        for door in &house.doors {
            self.tried += 1;
            if let Err(refusal) = door.knock(Some(&format!("Bearer {token}"))).await {
                self.wrong
                    .push(format!("{case} at {}: {refusal}", door.name));
            }
        }
    }

    pub(super) fn done(self, row: &str) {
        let wrong = self.wrong.len();
        told(&format!(
            "row {row}: {} inputs tried, {wrong} wrong",
            self.tried
        ));
        assert!(wrong == 0, "{:#?}", self.wrong);
    }
}

/// Whether a refusal tells more than that it is one.
fn leaks(refusal: &Refusal) -> bool {
    let text = refusal.message.to_lowercase();
    [
        "kid",
        "signature",
        "algorithm",
        "issuer",
        "audience",
        "cnf",
        "jwk",
    ]
    .iter()
    .any(|word| text.contains(word))
}

/// An identity provider, as far as keys and tokens go.
pub(super) struct Provider {
    key: Key,
    /// Where its keys are, and how often they were fetched.
    url: String,
    fetches: Arc<AtomicUsize>,
}

/// A signing key.
pub(super) struct Key {
    pub(super) id: String,
    pub(super) signing: EncodingKey,
    pub(super) public: Vec<u8>,
}

impl Key {
    pub(super) fn new(id: &str) -> Self {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("there is randomness");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("the key just made");
        Self {
            id: id.to_owned(),
            signing: EncodingKey::from_ed_der(document.as_ref()),
            public: pair.public_key().as_ref().to_vec(),
        }
    }

    pub(super) fn jwk(&self) -> Value {
        json!({
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.id,
            "x": URL_SAFE_NO_PAD.encode(&self.public),
        })
    }

    pub(super) fn jwks(&self) -> String {
        json!({ "keys": [self.jwk()] }).to_string()
    }
}

impl Provider {
    async fn start() -> Self {
        let key = Key::new("provider-1");
        let (url, fetches) = listen(key.jwks()).await;
        Self { key, url, fetches }
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// How often the keys were fetched.
    pub(super) fn fetched(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    /// A token after a change to its header and its claims, signed with the provider's key.
    pub(super) fn token(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let (mut header, mut claims) = parts(&self.key);
        change(&mut header, &mut claims);
        sign(&header, &claims, Algorithm::EdDSA, &self.key.signing)
    }
}

/// Header and claims of a good token.
pub(super) fn parts(key: &Key) -> (Value, Value) {
    let now = now_s();
    let header = json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": key.id });
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "olga", "jti": request_id(),
        "iat": now, "nbf": now, "exp": now + 600, "roles": [],
    });
    (header, claims)
}

pub(super) fn sign(
    header: &Value,
    claims: &Value,
    algorithm: Algorithm,
    key: &EncodingKey,
) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm);
    format!("{message}.{}", signature.expect("signed"))
}

pub(super) fn now_s() -> i64 {
    SystemClock.now().micros() / 1_000_000
}

/// Answers every connection with this text, and counts them.
pub(super) async fn listen(body: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/keys", listener.local_addr().expect("bound"));
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut request = [0; 2_048];
            if socket.read(&mut request).await.is_ok() {
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                // Whoever asked may be gone.
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        }
    });
    (url, count)
}
