//! How many empty calls a second the way through costs: `cargo run --release -p coalition-gateway
//! --example empty_call_rate [seconds]`.
//!
//! The load comes from this process too, so the figures are for both ends together. Each line is the
//! same `Earn`, answered at once, with a token that is checked: without a gateway, with one in the
//! same process, and with a service behind a socket of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use coalition_gateway::{Gateway, GatewayConfig};
use coalition_ledger::ids::PartnerId;
use coalition_ledger::{Clock, Timestamp};
use coalition_proto::earn::earn_service_client::EarnServiceClient;
use coalition_proto::earn::earn_service_server::{EarnService, EarnServiceServer};
use coalition_proto::earn::{
    EarnRequest, EarnResponse, GetTransactionRequest, GetTransactionResponse, QuoteRequest,
    QuoteResponse, ReturnEarnRequest, ReturnEarnResponse, ReverseByReferenceRequest,
    ReverseByReferenceResponse,
};
use coalition_rpc::auth::dev::{DevKey, JWKS_FILE, TokenRequest};
use coalition_rpc::auth::keys::KeySource;
use coalition_rpc::{
    AuthSettings, Authenticator, ServerSettings, Services, Stack, StackSettings, Upstream, serve,
};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, async_trait};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Calls in flight, over so many connections.
const IN_FLIGHT: usize = 128;
const CONNECTIONS: usize = 4;

/// Where nothing else is said.
const SECONDS_DEFAULT: u64 = 3;

struct Empty;

#[async_trait]
impl EarnService for Empty {
    async fn earn(&self, _: Request<EarnRequest>) -> Result<Response<EarnResponse>, Status> {
        Ok(Response::new(EarnResponse::default()))
    }

    async fn quote(&self, _: Request<QuoteRequest>) -> Result<Response<QuoteResponse>, Status> {
        Ok(Response::new(QuoteResponse::default()))
    }

    async fn return_earn(
        &self,
        _: Request<ReturnEarnRequest>,
    ) -> Result<Response<ReturnEarnResponse>, Status> {
        Ok(Response::new(ReturnEarnResponse::default()))
    }

    async fn reverse_by_reference(
        &self,
        _: Request<ReverseByReferenceRequest>,
    ) -> Result<Response<ReverseByReferenceResponse>, Status> {
        Ok(Response::new(ReverseByReferenceResponse::default()))
    }

    async fn get_transaction(
        &self,
        _: Request<GetTransactionRequest>,
    ) -> Result<Response<GetTransactionResponse>, Status> {
        Ok(Response::new(GetTransactionResponse::default()))
    }
}

/// Tokens are minted for one instant, and checked at it.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_795_348_800_000_000)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let seconds = std::env::args()
        .nth(1)
        .map_or(Ok(SECONDS_DEFAULT), |text| text.parse())?;
    let span = Duration::from_secs(seconds);
    let directory = tempfile::tempdir()?;
    let key = DevKey::open(directory.path(), false)?;
    let keys = KeySource::File(directory.path().join(JWKS_FILE));
    let authenticator =
        Arc::new(Authenticator::new(AuthSettings::new(keys), Arc::new(Still)).await?);
    let partner = PartnerId::from_uuid(uuid::Uuid::from_u128(7));
    let token = key.mint(&TokenRequest::till(partner, "bench"), Still.now())?;
    let token: MetadataValue<Ascii> = format!("Bearer {token}").parse()?;

    let shutdown = CancellationToken::new();
    let settings = StackSettings::new(Arc::clone(&authenticator), shutdown.clone());
    let (stack, health) = Services::new()
        .with(EarnServiceServer::new(Empty))
        .stack(settings)
        .await?;
    health.set_all(true).await;
    let service = start(stack.clone(), &shutdown).await?;

    let gateway = |upstream: Upstream| {
        let config =
            GatewayConfig::new(Arc::clone(&authenticator)).with(health.services(), &upstream);
        Gateway::start(config, shutdown.clone())
    };
    let local = start(gateway(Upstream::local(stack)).await?.stack(), &shutdown).await?;
    let remote = Upstream::remote([format!("http://{service}")])?;
    let remote = start(gateway(remote).await?.stack(), &shutdown).await?;

    for (way, address) in [
        ("no gateway", service),
        ("gateway, same process", local),
        ("gateway, over a socket", remote),
    ] {
        let health = rate(address, span, |channel| async move {
            let request = HealthCheckRequest::default();
            HealthClient::new(channel).check(request).await.map(drop)
        });
        let health = health.await.context("health")?;
        let token = token.clone();
        let earn = rate(address, span, move |channel| {
            let mut request = Request::new(EarnRequest::default());
            request
                .metadata_mut()
                .insert("authorization", token.clone());
            async move {
                EarnServiceClient::new(channel)
                    .earn(request)
                    .await
                    .map(drop)
            }
        });
        let earn = earn.await.context("earn")?;
        println!("{way:<24} {health:>8.0} health checks/s {earn:>8.0} calls with a token/s");
    }
    shutdown.cancel();
    Ok(())
}

async fn start(stack: Stack, shutdown: &CancellationToken) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(serve(
        listener,
        stack,
        ServerSettings::edge(),
        shutdown.clone(),
    ));
    Ok(address)
}

/// Calls per second, all of them answered with success.
async fn rate<C, F>(address: SocketAddr, span: Duration, call: C) -> anyhow::Result<f64>
where
    C: Fn(Channel) -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(
            Endpoint::from_shared(format!("http://{address}"))?
                .connect()
                .await?,
        );
    }
    let begun = Instant::now();
    let callers: Vec<_> = channels
        .iter()
        .cycle()
        .take(IN_FLIGHT)
        .cloned()
        .map(|channel| {
            let call = call.clone();
            tokio::spawn(async move {
                let mut calls = 0_u32;
                while begun.elapsed() < span {
                    call(channel.clone()).await?;
                    calls += 1;
                }
                Ok::<_, Status>(calls)
            })
        })
        .collect();
    let mut calls = 0.0;
    for caller in callers {
        calls += f64::from(caller.await??);
    }
    Ok(calls / begun.elapsed().as_secs_f64())
}
