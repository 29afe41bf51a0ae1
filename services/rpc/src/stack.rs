//! The services of a process and the layers around them.
//!
//! [`Services::stack`] is the one place where the layers of a service process are put in order. The
//! same [`Stack`] is served on a socket ([`crate::server`]) or called in this process
//! ([`crate::upstream`]); either way a call passes the same checks.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::Either;
use http::{Request, Response};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::RoutesBuilder;
use tower::{Service, ServiceBuilder};

use crate::auth::Authenticator;
use crate::authorize::Authorize;
use crate::call::{Call, Recognise};
use crate::content_type::RequireGrpc;
use crate::deadline::KeepDeadline;
use crate::health::{Health, add_reflection};
use crate::limit::{CALLS_MAX_DEFAULT, LimitCalls};
use crate::panic::CatchPanic;
use crate::status::Normalise;

/// An answer that is being worked out.
pub type AnswerFuture =
    Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send + 'static>>;

/// A service over whole HTTP messages, ready at any time, cheap to clone.
#[derive(Clone)]
pub struct Stack {
    call: Arc<dyn Fn(Request<Body>) -> AnswerFuture + Send + Sync>,
}

impl Stack {
    /// Makes a stack of a service that is always ready.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        Self {
            call: Arc::new(move |request| Box::pin(service.clone().call(request))),
        }
    }

    /// Calls it. Unlike [`Service::call`], this needs no exclusive access.
    #[must_use]
    pub fn answer(&self, request: Request<Body>) -> AnswerFuture {
        (self.call)(request)
    }
}

impl Service<Request<Body>> for Stack {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = AnswerFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.answer(request)
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").finish_non_exhaustive()
    }
}

/// What the layers around services need to know.
#[derive(Clone)]
pub struct StackSettings {
    /// Checks tokens.
    pub authenticator: Arc<Authenticator>,
    /// Most calls in hand at once; more are refused.
    pub calls_max: usize,
    /// Whether reflection is served.
    pub reflection: bool,
    /// Ends the watches on health; the token that ends serving.
    pub shutdown: CancellationToken,
}

impl StackSettings {
    /// Settings with the usual limit, and reflection.
    #[must_use]
    pub fn new(authenticator: Arc<Authenticator>, shutdown: CancellationToken) -> Self {
        Self {
            authenticator,
            calls_max: CALLS_MAX_DEFAULT,
            reflection: true,
            shutdown,
        }
    }
}

impl fmt::Debug for StackSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackSettings")
            .field("calls_max", &self.calls_max)
            .field("reflection", &self.reflection)
            .finish_non_exhaustive()
    }
}

/// The gRPC services of a process, as generated from the protos.
#[derive(Debug, Default)]
pub struct Services {
    routes: RoutesBuilder,
    names: Vec<String>,
}

impl Services {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one: a generated `…Server` around its implementation.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.routes.add_service(service);
        self.names.push(S::NAME.to_owned());
        self
    }

    /// The full names of the services.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Puts the layers around the services, health and reflection beside them. Nothing serves yet
    /// as far as [`Health`] says.
    ///
    /// # Errors
    ///
    /// The descriptors that were built in do not decode.
    pub async fn stack(
        mut self,
        settings: StackSettings,
    ) -> Result<(Stack, Health), tonic_reflection::server::Error> {
        if settings.reflection {
            add_reflection(&mut self.routes, &self.names)?;
        }
        let health = Health::add_to(&mut self.routes, self.names, settings.shutdown).await;

        // Around the services in either way: the policy, and details on what the gRPC library
        // answers by itself (a message that does not parse).
        let services = Authorize::new(
            Normalise::new(self.routes.routes().prepare()),
            settings.authenticator,
        );

        let from_wire = ServiceBuilder::new()
            // Only what is gRPC goes further; anything else gets an HTTP status.
            .layer_fn(RequireGrpc::new)
            // Which method it is decides the rest: unknown ones end here.
            .layer_fn(Recognise::new)
            // The clock runs from the start, also while a key set is read.
            .layer_fn(KeepDeadline::within)
            // Refuse what is too much before working on it; checking a signature is work.
            .layer_fn(|inner| LimitCalls::new(inner, settings.calls_max))
            .service(services.clone());

        let stack = ServiceBuilder::new()
            // Outermost, so that a bug in a layer fails one call as a bug in a handler does.
            .layer_fn(CatchPanic::new)
            // A gateway in this process has done all of that, with the same layers.
            .service(Entrance {
                from_wire,
                from_here: services,
            });
        Ok((Stack::new(stack), health))
    }
}

/// Two ways in: from a wire, and from a gateway in the same process.
#[derive(Clone)]
struct Entrance<W, H> {
    from_wire: W,
    from_here: H,
}

impl<W, H> Service<Request<Body>> for Entrance<W, H>
where
    W: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    H: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<W::Future, H::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Both are stacks of layers that are always ready around a router that is, too.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The mark of a call that has been through the layers; nothing on a wire can set it.
        if request
            .extensions()
            .get::<Call>()
            .is_some_and(|call| call.deadline.is_some())
        {
            Either::Right(self.from_here.call(request))
        } else {
            Either::Left(self.from_wire.call(request))
        }
    }
}
