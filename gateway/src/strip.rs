//! Headers that would say who is calling are taken away: a token is the only way to say so.
//!
//! Nothing behind the gateway reads such headers; taking them away keeps it so that nothing can be
//! made to.

use std::convert::Infallible;
use std::task::{Context, Poll};

use http::header::HeaderName;
use http::{HeaderMap, Request, Response};
use tonic::body::Body;
use tower::Service;

/// Headers that proxies and other frameworks name a caller with.
const NAMES: [&str; 8] = [
    "x-partner-id",
    "x-member-id",
    "x-user-id",
    "x-role",
    "x-roles",
    "x-real-ip",
    "x-client-cert",
    "forwarded",
];

/// What the names of others begin with: ours, were there any, and what proxies add.
const PREFIXES: [&str; 2] = ["x-coalition-", "x-forwarded-"];

/// The layer that takes them away.
#[derive(Clone, Debug)]
pub struct StripIdentity<S> {
    inner: S,
}

impl<S> StripIdentity<S> {
    /// Wraps a service.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S> Service<Request<Body>> for StripIdentity<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        strip(request.headers_mut());
        self.inner.call(request)
    }
}

fn strip(headers: &mut HeaderMap) {
    // Almost no call has any; only those that do pay for a list of names.
    if headers.keys().any(poses) {
        let posing: Vec<HeaderName> = headers.keys().filter(|name| poses(name)).cloned().collect();
        for name in posing {
            headers.remove(name);
        }
    }
}

fn poses(name: &HeaderName) -> bool {
    let name = name.as_str();
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn row_10_headers_that_name_a_caller_are_taken_away() {
        let mut headers = HeaderMap::new();
        let posing = [
            "X-Partner-Id",
            "x-coalition-partner",
            "x-coalition-",
            "x-forwarded-client-cert",
        ];
        let honest = [
            "authorization",
            "grpc-timeout",
            "traceparent",
            "x-request-id",
            "te",
        ];
        for name in posing.iter().chain(&honest) {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).expect("a header name"),
                HeaderValue::from_static("a"),
            );
        }
        // A header may stand there twice.
        headers.append("x-partner-id", HeaderValue::from_static("b"));
        strip(&mut headers);
        assert_eq!(headers.len(), honest.len(), "{headers:?}");
        assert!(
            honest.iter().all(|name| headers.contains_key(*name)),
            "{headers:?}"
        );
    }
}
