//! The layer that makes the gRPC library's own statuses look like ours.

use std::convert::Infallible;
use std::task::{Context, Poll};

use coalition_proto::common::ErrorReason;
use futures::FutureExt;
use futures::future::Map;
use http::{Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::Service;

use super::{DETAILS_HEADER, STATUS_HEADER, bare_details, reason, too_large_problem};

/// The layer that adds what is missing to statuses that no [`Problem`](super::Problem) became.
#[derive(Clone, Debug)]
pub struct Normalise<S> {
    inner: S,
}

impl<S> Normalise<S> {
    /// Wraps a service.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

type Outcome = Result<Response<Body>, Infallible>;

impl<S> Service<Request<Body>> for Normalise<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Map<S::Future, fn(Outcome) -> Outcome>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.inner
            .call(request)
            .map(|outcome| outcome.map(normalise))
    }
}

/// Gives a status that the gRPC library made by itself the details that every status of ours has,
/// and its over-size status the code that callers expect.
///
/// Statuses of ours, and successes, pass unchanged.
fn normalise(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    let made_by_library =
        headers.contains_key(STATUS_HEADER) && !headers.contains_key(DETAILS_HEADER);
    if !made_by_library {
        return response;
    }
    let Some(status) = Status::from_header_map(headers) else {
        return response;
    };
    let too_large =
        status.code() == Code::OutOfRange && status.message().contains("message length too large");
    let rewritten = if too_large {
        Status::from(too_large_problem())
    } else if status.code() == Code::Unimplemented && headers.contains_key("grpc-accept-encoding") {
        // A compression that is not spoken here; the header beside it names those that are.
        let details = bare_details(ErrorReason::InvalidArgument);
        Status::with_error_details(status.code(), status.message(), details)
    } else {
        let Some(reason) = reason::of_code(status.code()) else {
            return response;
        };
        Status::with_error_details(status.code(), status.message(), bare_details(reason))
    };
    // Cannot fail for a message that came out of a header; if it did, the original stands.
    let _ = rewritten.add_header(headers);
    response
}
