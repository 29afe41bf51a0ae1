//! The edge of a coalition network: who is calling, what they may do, where the call goes.
//!
//! The gateway serves the proto packages of the services without declaring them again: it looks at
//! the headers of a call, and passes its body on unopened. [`Gateway::start`] puts the layers in
//! order; [`route`] sends calls on; [`strip`] takes away headers that would pose as ours; [`trace`]
//! tells the log; [`readiness`] watches the services. Absent on purpose: the store, the books, and
//! any message of the protos.

pub mod readiness;
pub mod route;
pub mod strip;
pub mod trace;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use coalition_rpc::auth::Authenticator;
use coalition_rpc::authorize::Authorize;
use coalition_rpc::call::Recognise;
use coalition_rpc::content_type::RequireGrpc;
use coalition_rpc::deadline::KeepDeadline;
use coalition_rpc::health::{Health, add_reflection};
use coalition_rpc::limit::{CALLS_MAX_DEFAULT, LimitCalls};
use coalition_rpc::panic::CatchPanic;
use coalition_rpc::{Stack, Upstream};
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;
use tower::ServiceBuilder;

use self::route::Route;
use self::strip::StripIdentity;
use self::trace::Trace;

/// What a gateway needs to know.
#[derive(Clone)]
pub struct GatewayConfig {
    /// Where the calls of each service go, by its full name, as `coalition.earn.v1.EarnService`.
    pub upstreams: BTreeMap<String, Upstream>,
    /// Checks tokens.
    pub authenticator: Arc<Authenticator>,
    /// Most calls in hand at once; more are refused.
    pub calls_max: usize,
    /// Whether reflection is served.
    pub reflection: bool,
}

impl GatewayConfig {
    /// A gateway to nowhere yet, with the usual limit, and reflection.
    #[must_use]
    pub fn new(authenticator: Arc<Authenticator>) -> Self {
        Self {
            upstreams: BTreeMap::new(),
            authenticator,
            calls_max: CALLS_MAX_DEFAULT,
            reflection: true,
        }
    }

    /// Sends the calls of these services there.
    #[must_use]
    pub fn with<I>(mut self, services: I, upstream: &Upstream) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        for service in services {
            self.upstreams.insert(service.into(), upstream.clone());
        }
        self
    }
}

impl fmt::Debug for GatewayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayConfig")
            .field("upstreams", &self.upstreams)
            .field("calls_max", &self.calls_max)
            .field("reflection", &self.reflection)
            .finish_non_exhaustive()
    }
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Reflection has nothing to show.
    #[error("the descriptors that were built in do not decode")]
    Descriptors(#[from] tonic_reflection::server::Error),
}

/// A gateway: a stack to serve, and its health.
#[derive(Clone, Debug)]
pub struct Gateway {
    stack: Stack,
    health: Health,
}

impl Gateway {
    /// Puts the layers of the edge in order and begins to watch the services. Watching, and being
    /// watched, ends with `shutdown`, which is the token that ends serving.
    ///
    /// # Errors
    ///
    /// The descriptors that were built in do not decode.
    pub async fn start(
        config: GatewayConfig,
        shutdown: CancellationToken,
    ) -> Result<Self, GatewayError> {
        let names: Vec<String> = config.upstreams.keys().cloned().collect();
        let mut own = RoutesBuilder::default();
        if config.reflection {
            add_reflection(&mut own, &names)?;
        }
        let watching = shutdown.clone();
        let health = Health::add_to(&mut own, names, shutdown).await;
        readiness::watch(&config.upstreams, health.clone(), &watching);

        let stack = ServiceBuilder::new()
            // Outermost, so that the log has every call, and how long all of it took.
            .layer_fn(Trace::new)
            // A bug in any layer below fails one call.
            .layer_fn(CatchPanic::new)
            // Only what is gRPC goes further; anything else gets an HTTP status.
            .layer_fn(RequireGrpc::new)
            // Nobody tells us who they are but by a token.
            .layer_fn(StripIdentity::new)
            // Which method it is decides the rest: unknown ones end here.
            .layer_fn(Recognise::new)
            // The clock runs from the start, also while a key set is read.
            .layer_fn(KeepDeadline::at_edge)
            // Refuse what is too much before working on it; checking a signature is work.
            .layer_fn(|inner| LimitCalls::new(inner, config.calls_max))
            // Who is calling, and may they: from headers alone, before the body is looked at.
            .layer_fn(|inner| Authorize::new(inner, Arc::clone(&config.authenticator)))
            .service(Route::new(config.upstreams, own.routes().prepare()));
        Ok(Self {
            stack: Stack::new(stack),
            health,
        })
    }

    /// What to serve.
    #[must_use]
    pub fn stack(&self) -> Stack {
        self.stack.clone()
    }

    /// What the gateway reports: "" serves while every service behind it does.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }
}
