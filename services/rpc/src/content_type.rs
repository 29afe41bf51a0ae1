//! Only gRPC over POST comes in: the gRPC library itself does not look.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures::future::{Either, ready};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use tonic::body::Body;
use tower::Service;

use crate::call::Answer;

/// The layer that answers 405 to what is no POST, and 415 to what is no gRPC with protobuf.
#[derive(Clone, Debug)]
pub struct RequireGrpc<S> {
    inner: S,
}

impl<S> RequireGrpc<S> {
    /// Wraps a service.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S> Service<Request<Body>> for RequireGrpc<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let refusal = if request.method() != Method::POST {
            StatusCode::METHOD_NOT_ALLOWED
        } else if !is_grpc(request.headers()) {
            StatusCode::UNSUPPORTED_MEDIA_TYPE
        } else {
            return Either::Right(self.inner.call(request));
        };
        let mut response = Response::new(Body::empty());
        *response.status_mut() = refusal;
        if refusal == StatusCode::METHOD_NOT_ALLOWED {
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        Either::Left(ready(Ok(response)))
    }
}

/// Whether the body is gRPC with protobuf: `application/grpc`, `application/grpc+proto`, with or
/// without parameters.
fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return false;
    };
    let essence = value
        .as_bytes()
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    matches!(
        essence.trim_ascii(),
        b"application/grpc" | b"application/grpc+proto"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_62_only_grpc_with_protobuf_is_grpc() {
        let is = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(text));
            is_grpc(&headers)
        };
        for good in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;charset=utf-8",
        ] {
            assert!(is(good), "{good}");
        }
        for bad in [
            "",
            "application/json",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc+json",
            "application/grpcx",
            "text/plain; application/grpc",
        ] {
            assert!(!is(bad), "{bad}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
