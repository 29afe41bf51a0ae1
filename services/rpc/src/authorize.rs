//! Whether the caller may: its token, the method's policy, nothing else.
//!
//! Stands in the gateway and again in every service, so that walking round the gateway gains
//! nothing. A call that comes from the gateway of the same process carries the identity that was
//! verified there; the policy is looked at again all the same. Decides before anybody looks at the
//! body.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, Either};
use http::{Request, Response};
use tonic::body::Body;
use tower::Service;

use crate::auth::identity::Identity;
use crate::auth::{Authenticator, bearer};
use crate::call::{Answer, Call, refuse};
use crate::status::Problem;

/// The layer that lets a call through to whom its policy names. Needs [`Recognise`] around it.
///
/// [`Recognise`]: crate::call::Recognise
#[derive(Clone)]
pub struct Authorize<S> {
    inner: S,
    authenticator: Arc<Authenticator>,
}

impl<S> Authorize<S> {
    /// Wraps a service.
    pub fn new(inner: S, authenticator: Arc<Authenticator>) -> Self {
        Self {
            inner,
            authenticator,
        }
    }
}

/// A token that was remembered lets the call through at once; one that was not is checked first.
type Authorized<F> = Either<F, BoxFuture<'static, Result<Response<Body>, Infallible>>>;

impl<S> Service<Request<Body>> for Authorize<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer<Authorized<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(call) = request.extensions().get::<Call>() else {
            return refuse(Problem::internal(
                "a call that was not recognised has no policy",
            ));
        };
        if call.method.policy().is_none() {
            return Either::Right(Either::Left(self.inner.call(request)));
        }
        let known = match &call.identity {
            Some(identity) => Some(Arc::clone(identity)),
            None => match bearer(request.headers()) {
                Ok(token) => self.authenticator.remembered(token),
                Err(problem) => return refuse(problem),
            },
        };
        if let Some(identity) = known {
            return match admit(&mut request, identity) {
                Ok(()) => Either::Right(Either::Left(self.inner.call(request))),
                Err(problem) => refuse(problem),
            };
        }
        let authenticator = Arc::clone(&self.authenticator);
        let mut inner = self.inner.clone();
        let checked = async move {
            let verdict = async {
                let identity = authenticator.check(bearer(request.headers())?).await?;
                admit(&mut request, identity)
            };
            match verdict.await {
                Ok(()) => inner.call(request).await,
                Err(problem) => Ok(problem.into_http()),
            }
        };
        Either::Right(Either::Right(checked.boxed()))
    }
}

/// Holds the caller against the policy, and puts it into the call.
fn admit(request: &mut Request<Body>, identity: Arc<Identity>) -> Result<(), Problem> {
    let Some(call) = request.extensions_mut().get_mut::<Call>() else {
        return Err(Problem::internal(
            "a call that was not recognised has no policy",
        ));
    };
    let Some(policy) = call.method.policy() else {
        return Ok(());
    };
    if !identity.may(policy) {
        return Err(Problem::permission_denied());
    }
    // For the span of the call, where there is one; disabled spans record nothing.
    let span = tracing::Span::current();
    if !span.is_disabled() {
        span.record("token", identity.token_id());
        if let Some(partner) = identity.partner() {
            span.record("partner", tracing::field::display(partner));
        }
    }
    call.identity = Some(identity);
    Ok(())
}
