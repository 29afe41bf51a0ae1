//! Where a call goes, by the name of its service.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use coalition_proto::common::ErrorReason;
use coalition_rpc::call::service_name;
use coalition_rpc::stack::AnswerFuture;
use coalition_rpc::status::Normalise;
use coalition_rpc::{Problem, Stack, Upstream};
use futures::FutureExt;
use http::{Request, Response};
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;

/// Sends calls to the services, and those for the gateway itself to its own routes.
#[derive(Clone, Debug)]
pub struct Route {
    upstreams: Arc<HashMap<String, Upstream>>,
    own: Stack,
}

impl Route {
    /// Routes by the full names of services. `own` is what the gateway serves itself: health and
    /// reflection.
    #[must_use]
    pub fn new(upstreams: BTreeMap<String, Upstream>, own: Routes) -> Self {
        Self {
            upstreams: Arc::new(upstreams.into_iter().collect()),
            own: Stack::new(Normalise::new(own)),
        }
    }
}

impl Service<Request<Body>> for Route {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = AnswerFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = service_name(request.uri().path());
        if let Some(upstream) = self.upstreams.get(service) {
            return upstream.send(request);
        }
        if service.starts_with("grpc.") {
            return self.own.answer(request);
        }
        let problem = Problem::new(
            ErrorReason::UnknownMethod,
            "this network does not run that service",
        );
        std::future::ready(Ok(problem.into_http())).boxed()
    }
}
