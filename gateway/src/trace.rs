//! What the log says of a call: method, status, how long, and by which token. No personal data: the
//! token's id, not whom it was given to.
//!
//! At level DEBUG each call gives a span and a line. At WARN only those with a fault of ours do;
//! what made a service UNAVAILABLE is logged where that was found out, not once per call here. A
//! stream counts as answered when its headers are out.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use coalition_rpc::call::{Method, UNKNOWN_METHOD};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tonic::Code;
use tonic::body::Body;
use tower::Service;
use tracing::Span;

/// The layer that tells the log.
#[derive(Clone, Debug)]
pub struct Trace<S> {
    inner: S,
}

impl<S> Trace<S> {
    /// Wraps a service.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S> Service<Request<Body>> for Trace<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Traced<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The name from our own table: a caller cannot write into the log by making up methods.
        let method = Method::lookup(request.uri().path()).map_or(UNKNOWN_METHOD, Method::path);
        let span = tracing::debug_span!(
            "call",
            method,
            partner = tracing::field::Empty,
            token = tracing::field::Empty,
        );
        let inner = span.in_scope(|| self.inner.call(request));
        Traced {
            inner,
            span,
            method,
            begun: Instant::now(),
        }
    }
}

pin_project! {
    /// A call that the log hears of.
    pub struct Traced<F> {
        #[pin]
        inner: F,
        span: Span,
        method: &'static str,
        begun: Instant,
    }
}

impl<F> Future for Traced<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let _within = this.span.enter();
        let answer = ready!(this.inner.poll(cx));
        if let Ok(response) = &answer {
            tell(this.method, response, this.begun.elapsed());
        }
        Poll::Ready(answer)
    }
}

fn tell(method: &'static str, response: &Response<Body>, took: Duration) {
    let http = response.status().as_u16();
    let code = code(response);
    let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    match code {
        Code::Internal | Code::Unknown | Code::DataLoss => {
            tracing::warn!(method, ?code, http, took_us, "a call failed");
        }
        _ => tracing::debug!(method, ?code, http, took_us, "a call"),
    }
}

/// The code of an answer. One that is not in the headers comes in the trailers, which is how
/// successes end.
fn code(response: &Response<Body>) -> Code {
    response
        .headers()
        .get("grpc-status")
        .map_or(Code::Ok, |value| Code::from_bytes(value.as_bytes()))
}
