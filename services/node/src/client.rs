//! A client of a coalition network, as the faces of this binary use it.
//!
//! Everything goes over gRPC to a gateway's address with a bearer token, as from any partner's till
//! or operator's desk: there is no other way into the books from here. Calls spread over several
//! connections; a call that was answered UNAVAILABLE, or not at all, is sent again under the same
//! `request_id`. [`setup`] takes in partners, agreements and members, [`lists`] reads lists to
//! their end, [`request_id`] names requests. Deliberately absent: TLS, and any key but the
//! development key of a sandbox, for which see [`coalition_rpc::auth::dev`].

mod failure;
pub mod lists;
pub mod request_id;
mod rpc;
pub mod setup;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use backon::{ExponentialBuilder, Retryable as _};
use coalition_ledger::Clock;
use coalition_ledger::ids::PartnerId;
use coalition_proto::policy::Role;
use coalition_proto::settlement::settlement_service_client::SettlementServiceClient;
use coalition_proto::settlement::{VerifyRequest, VerifyResponse};
use coalition_rpc::auth::dev::{DevKey, TokenRequest};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

pub use self::failure::CallError;
pub use self::request_id::RequestIds;
pub use self::rpc::Rpc;
use crate::Config;
use crate::node::development_key;

/// Calls that share one connection before another is opened; a gateway grants 100 streams to each.
const CALLS_PER_CONNECTION: usize = 32;

/// Most connections of one client.
const CONNECTIONS_MAX: usize = 32;

/// Longest that connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Silence after which the gateway is asked whether it is still there, and how long it may take:
/// half open connections are found this way.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a call is sent again before it counts as failed.
const RETRIES_MAX: usize = 10;

/// The pause before the first retry; it doubles up to the longest.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(50);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Whom a call is made for: decides role and partner of its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// A till of this partner.
    Till(PartnerId),
    /// One who administers this partner.
    PartnerAdmin(PartnerId),
    /// One of the operator's people, with this role.
    Operator(Role),
}

impl Who {
    /// The operator's maker: proposes, cuts, computes, records.
    pub const MAKER: Self = Self::Operator(Role::OperatorMaker);

    /// The operator's viewer.
    pub const VIEWER: Self = Self::Operator(Role::OperatorViewer);

    fn token_request(self) -> TokenRequest {
        match self {
            Self::Till(partner) => TokenRequest::till(partner, format!("till-of-{partner}")),
            Self::PartnerAdmin(partner) => {
                TokenRequest::partner_admin(partner, format!("admin-of-{partner}"))
            }
            Self::Operator(role) => TokenRequest::new(role.as_str(), [role]),
        }
    }
}

/// A way to a network; clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    channels: Vec<Channel>,
    next: AtomicUsize,
    key: DevKey,
    clock: Arc<dyn Clock>,
    tokens: Mutex<HashMap<Who, Bearer>>,
}

type Bearer = MetadataValue<Ascii>;

impl Client {
    /// A client of the network whose gateway is at `endpoint` (as `http://127.0.0.1:7400`) and whose
    /// data directory `config` names; made for this many calls in flight at once. Connects with the
    /// first call.
    ///
    /// # Errors
    ///
    /// The address is none, or the signing key cannot be opened.
    pub fn new(
        endpoint: &str,
        config: &Config,
        in_flight: usize,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let key = development_key(config)?;
        let connections = in_flight
            .div_ceil(CALLS_PER_CONNECTION)
            .clamp(1, CONNECTIONS_MAX);
        let endpoint = Endpoint::from_shared(endpoint.to_owned())
            .with_context(|| format!("{endpoint:?} is not an address"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .tcp_nodelay(true);
        Ok(Self {
            inner: Arc::new(Inner {
                channels: (0..connections).map(|_| endpoint.connect_lazy()).collect(),
                next: AtomicUsize::new(0),
                key,
                clock,
                tokens: Mutex::default(),
            }),
        })
    }

    /// The side of this network that `who` sees.
    ///
    /// # Errors
    ///
    /// No token can be signed.
    pub fn caller(&self, who: Who) -> anyhow::Result<Caller> {
        Ok(Caller {
            client: self.clone(),
            bearer: self.inner.bearer(who)?,
        })
    }

    /// Asks the gateway whether it serves, without a token and without a retry: the smallest call
    /// there is.
    ///
    /// # Errors
    ///
    /// Any answer but an answer.
    pub async fn health(&self) -> Result<(), CallError> {
        let request = HealthCheckRequest::default();
        HealthClient::new(self.inner.channel())
            .check(request)
            .await
            .map(drop)
            .map_err(|status| CallError::new("grpc.health.v1.Health/Check", &status))
    }

    /// The clock of this machine.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.inner.clock)
    }
}

impl Inner {
    /// The connections take turns.
    fn channel(&self) -> Channel {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.channels.len();
        self.channels[turn].clone()
    }

    fn bearer(&self, who: Who) -> anyhow::Result<Bearer> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tokens.get(&who) {
            return Ok(known.clone());
        }
        let token = self
            .key
            .mint(&who.token_request(), self.clock.now())
            .context("signing a token failed")?;
        let mut bearer: Bearer = format!("Bearer {token}")
            .parse()
            .context("a token is not fit for a header")?;
        bearer.set_sensitive(true);
        tokens.insert(who, bearer.clone());
        Ok(bearer)
    }
}

/// Somebody who makes calls; cheap to clone.
#[derive(Clone)]
pub struct Caller {
    client: Client,
    bearer: Bearer,
}

impl Caller {
    /// Makes a call, and makes it again with the same content while the answer is UNAVAILABLE or
    /// its outcome is unknown: reads change nothing, and writes are named by their `request_id`.
    ///
    /// # Errors
    ///
    /// What the network answered, at last.
    pub async fn call<R: Rpc>(&self, request: R) -> Result<R::Answer, CallError> {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(RETRY_PAUSE_MIN)
            .with_max_delay(RETRY_PAUSE_MAX)
            .with_max_times(RETRIES_MAX)
            .with_jitter();
        (|| self.call_once(request.clone()))
            .retry(pauses)
            .when(CallError::is_worth_a_retry)
            .adjust(|error, pause| {
                pause.map(|own| own.max(error.retry_after().unwrap_or_default()))
            })
            .await
    }

    /// Makes a call once.
    ///
    /// # Errors
    ///
    /// What the network answered.
    pub async fn call_once<R: Rpc>(&self, request: R) -> Result<R::Answer, CallError> {
        let mut request = self.authorised(request);
        request.set_timeout(R::TIMEOUT);
        R::send(self.client.inner.channel(), request)
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| CallError::new(R::NAME, &status))
    }

    /// Has the network check its books; news arrive as they are made.
    ///
    /// # Errors
    ///
    /// What the network answered.
    pub async fn verify(&self) -> Result<Streaming<VerifyResponse>, CallError> {
        SettlementServiceClient::new(self.client.inner.channel())
            .verify(self.authorised(VerifyRequest {}))
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| CallError::new("SettlementService/Verify", &status))
    }

    fn authorised<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let bearer = self.bearer.clone();
        request.metadata_mut().insert("authorization", bearer);
        request
    }
}
