//! A gateway on a port, the services behind it, and clients.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use coalition_gateway::{Gateway, GatewayConfig};
use coalition_ledger::ids::PartnerId;
use coalition_ledger::time::MICROS_PER_SECOND;
use coalition_ledger::{Clock, Timestamp};
use coalition_proto::common::ErrorReason;
use coalition_proto::earn::EarnRequest;
use coalition_proto::earn::earn_service_server::EarnServiceServer;
use coalition_proto::policy::Role;
use coalition_proto::settlement::settlement_service_server::SettlementServiceServer;
use coalition_rpc::auth::dev::{DevKey, JWKS_FILE, TokenRequest};
use coalition_rpc::auth::keys::KeySource;
use coalition_rpc::server::Ended;
use coalition_rpc::{
    AuthSettings, Authenticator, Health, ServerSettings, Services, Stack, StackSettings, Upstream,
    serve,
};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

use crate::peer::{Earn, Peer, Settlement};

pub(crate) const EARN: &str = "/coalition.earn.v1.EarnService/Earn";
pub(crate) const VERIFY: &str = "/coalition.settlement.v1.SettlementService/Verify";

/// 2026-11-22T12:00:00Z.
pub(crate) const NOON_S: i64 = 1_795_348_800;

/// A clock that stands until it is moved.
pub(crate) struct StillClock(AtomicI64);

impl StillClock {
    pub(crate) fn at_noon() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(NOON_S * MICROS_PER_SECOND)))
    }

    pub(crate) fn advance_s(&self, seconds: i64) {
        self.0
            .fetch_add(seconds * MICROS_PER_SECOND, Ordering::SeqCst);
    }
}

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// Where the services are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// In the gateway's process.
    Local,
    /// Behind a port of their own.
    Remote,
}

/// Settings that tests change.
pub(crate) struct Options {
    pub(crate) calls_max: usize,
    pub(crate) edge: ServerSettings,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            calls_max: 4_096,
            edge: ServerSettings::edge(),
        }
    }
}

/// Everything a test needs.
pub(crate) struct Edge {
    pub(crate) address: SocketAddr,
    /// The services' own port, whichever way the gateway takes.
    pub(crate) service: Server,
    pub(crate) gateway: Gateway,
    pub(crate) key: DevKey,
    pub(crate) peer: Arc<Peer>,
    pub(crate) health: Health,
    pub(crate) partner: PartnerId,
    pub(crate) directory: tempfile::TempDir,
    /// What tokens are held against.
    pub(crate) clock: Arc<StillClock>,
    pub(crate) server: Server,
}

/// Something that is served.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) ended: JoinHandle<Ended>,
}

impl Server {
    pub(crate) async fn start(
        stack: Stack,
        settings: ServerSettings,
        port: u16,
        shutdown: CancellationToken,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port))
            .await
            .expect("a port");
        let address = listener.local_addr().expect("bound");
        let ended = tokio::spawn(serve(listener, stack, settings, shutdown.clone()));
        Self {
            address,
            shutdown,
            ended,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) async fn stop(self) -> Ended {
        self.shutdown.cancel();
        self.ended.await.expect("no panic")
    }
}

/// Runs a test both ways.
pub(crate) async fn both<F, T>(test: F)
where
    F: Fn(Edge) -> T,
    T: Future<Output = ()>,
{
    for way in [Way::Local, Way::Remote] {
        println!("services: {way:?}");
        test(Edge::start(way, Options::default()).await).await;
    }
}

pub(crate) async fn services(
    peer: &Arc<Peer>,
    authenticator: &Arc<Authenticator>,
    shutdown: &CancellationToken,
) -> (Stack, Health) {
    Services::new()
        .with(EarnServiceServer::new(Earn(Arc::clone(peer))))
        .with(SettlementServiceServer::new(Settlement(Arc::clone(peer))))
        .stack(StackSettings::new(
            Arc::clone(authenticator),
            shutdown.clone(),
        ))
        .await
        .expect("descriptors")
}

pub(crate) async fn authenticator(directory: &std::path::Path) -> Arc<Authenticator> {
    authenticator_by(directory, StillClock::at_noon()).await
}

async fn authenticator_by(
    directory: &std::path::Path,
    clock: Arc<StillClock>,
) -> Arc<Authenticator> {
    let keys = KeySource::File(directory.join(JWKS_FILE));
    let authenticator = Authenticator::new(AuthSettings::new(keys), clock).await;
    Arc::new(authenticator.expect("keys"))
}

impl Edge {
    pub(crate) async fn start(way: Way, options: Options) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let key = DevKey::open(directory.path(), false).expect("a key");
        let clock = StillClock::at_noon();
        let authenticator = authenticator_by(directory.path(), Arc::clone(&clock)).await;
        let peer = Arc::new(Peer::default());
        let within = CancellationToken::new();
        let (stack, health) = services(&peer, &authenticator, &within).await;
        health.set_all(true).await;
        let service = Server::start(stack.clone(), ServerSettings::within(), 0, within).await;
        let upstream = match way {
            Way::Local => Upstream::local(stack),
            Way::Remote => Upstream::remote([service.url()]).expect("an address"),
        };
        let config = GatewayConfig {
            calls_max: options.calls_max,
            ..GatewayConfig::new(authenticator).with(health.services(), &upstream)
        };
        let shutdown = CancellationToken::new();
        let gateway = Gateway::start(config, shutdown.clone())
            .await
            .expect("descriptors");
        let server = Server::start(gateway.stack(), options.edge, 0, shutdown).await;
        Self {
            address: server.address,
            service,
            gateway,
            key,
            peer,
            health,
            partner: PartnerId::from_uuid(Uuid::from_u128(7)),
            directory,
            clock,
            server,
        }
    }

    pub(crate) fn till(&self) -> String {
        self.mint(&TokenRequest::till(self.partner, "till 1"))
    }

    pub(crate) fn operator(&self) -> String {
        self.mint(&TokenRequest::new("op", [Role::OperatorMaker]))
    }

    pub(crate) fn mint(&self, request: &TokenRequest) -> String {
        let now = Timestamp::from_micros(NOON_S * MICROS_PER_SECOND);
        self.key.mint(request, now).expect("a token")
    }

    pub(crate) async fn client(&self) -> Client {
        client(self.address).await
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address));
        endpoint
            .expect("an address")
            .connect()
            .await
            .expect("connected")
    }

    /// Sends an `Earn` that asks for something.
    pub(crate) async fn ask(&self, what: &str) -> Result<Answer, Status> {
        let request = earn(what).with_token(&self.till());
        request.send(self.client().await).await
    }
}

/// One HTTP/2 connection, for calls made by hand. Unlike the library's channel it has no deadlines
/// of its own: what a test sees is what the server did.
#[derive(Clone)]
pub(crate) struct Client {
    sender: SendRequest<Body>,
    address: SocketAddr,
}

pub(crate) async fn client(address: SocketAddr) -> Client {
    let socket = TcpStream::connect(address).await.expect("connected");
    socket.set_nodelay(true).expect("connected");
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
    let (sender, connection) = handshake.await.expect("HTTP/2");
    // How it ends is for the calls on it to tell.
    tokio::spawn(async move { connection.await.ok() });
    Client { sender, address }
}

impl Client {
    pub(crate) async fn raw(
        mut self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let uri = format!("http://{}{}", self.address, request.uri());
        *request.uri_mut() = uri.parse().expect("an address");
        self.sender.send_request(request).await
    }
}

/// Waits until the health of a service is this.
pub(crate) async fn until_serving(channel: Channel, service: &str, serving: bool) {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let mut watch = HealthClient::new(channel)
        .watch(request)
        .await
        .expect("known")
        .into_inner();
    let wanted = if serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    while let Some(status) = watch.message().await.expect("the watch goes on") {
        if status.status() == wanted {
            return;
        }
    }
    panic!("the watch ended before {service:?} was {wanted:?}");
}

/// A call made by hand, byte by byte.
#[derive(Clone, Debug)]
pub(crate) struct RawCall {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What came back: the message, if there was one, and the trailers.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) http: u16,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn message<M: Message + Default>(&self) -> M {
        M::decode(self.body.slice(5..)).expect("a message")
    }
}

/// An `Earn` that asks for something.
pub(crate) fn earn(what: &str) -> RawCall {
    let message = EarnRequest {
        request_id: what.to_owned(),
        ..EarnRequest::default()
    };
    RawCall::new(EARN, &message.encode_to_vec())
}

impl RawCall {
    pub(crate) fn new(path: &str, message: &[u8]) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        Self {
            path: path.to_owned(),
            headers,
            body: framed(message),
        }
    }

    pub(crate) fn with_token(self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    /// Adds a header, beside one of the same name if there is one.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers
            .append(name, HeaderValue::try_from(value).expect("a header value"));
        self
    }

    pub(crate) fn request(self) -> Request<Body> {
        let mut request = Request::new(Body::new(Full::new(self.body)));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.path.parse().expect("a path");
        *request.headers_mut() = self.headers;
        request
    }

    /// Sends it; an answer without a status in its trailers or headers is an answer all the same.
    pub(crate) async fn send(self, client: Client) -> Result<Answer, Status> {
        let broken = |error: hyper::Error| Status::from_error(Box::new(error));
        let response = client.raw(self.request()).await.map_err(broken)?;
        let http = response.status().as_u16();
        failure(response.headers())?;
        let collected = response.into_body().collect().await.map_err(broken)?;
        if let Some(trailers) = collected.trailers() {
            failure(trailers)?;
        }
        Ok(Answer {
            http,
            body: collected.to_bytes(),
        })
    }
}

pub(crate) fn failure(headers: &HeaderMap) -> Result<(), Status> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(()),
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(5 + message.len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).expect("short"));
    bytes.put_slice(message);
    bytes.freeze()
}

/// The code and the reason of a failure, and its details, which every failure has.
pub(crate) fn failed<T: std::fmt::Debug>(
    outcome: &Result<T, Status>,
) -> (Code, ErrorReason, ErrorDetails) {
    let status = outcome.as_ref().expect_err("a failure");
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("no reason in {status:?}"));
    assert_eq!(info.domain, "coalition");
    let reason = ErrorReason::from_reason(&info.reason).expect("a reason of ours");
    assert!(
        details
            .localized_message()
            .is_none_or(|text| !text.message.is_empty())
    );
    (status.code(), reason, details)
}

/// Counts what was tried, and says so.
#[derive(Default)]
pub(crate) struct Tally {
    tried: usize,
    wrong: Vec<String>,
}

impl Tally {
    pub(crate) fn expect<T: std::fmt::Debug>(
        &mut self,
        case: &str,
        outcome: &Result<T, Status>,
        code: Code,
    ) {
        self.tried += 1;
        let got = outcome.as_ref().err().map(Status::code);
        if got != Some(code) {
            self.wrong.push(format!("{case}: {outcome:?}"));
        }
    }

    pub(crate) fn done(self, row: &str) {
        println!(
            "row {row}: {} inputs tried, {} wrong",
            self.tried,
            self.wrong.len()
        );
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
    }
}
