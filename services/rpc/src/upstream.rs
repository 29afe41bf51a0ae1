//! Where a gateway sends calls: services in this process, or in another.
//!
//! Both ways are the same to the caller: the same layers, deadlines and statuses. [`remote`] holds
//! the connections to other processes.

mod remote;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use http::Request;
use http::Response;
use tonic::body::Body;
use tower::Service;

pub use self::remote::AddressError;
use self::remote::Remote;
use crate::call::Call;
use crate::stack::{AnswerFuture, Stack};

/// A service to send calls to; cheap to clone, ready at any time.
#[derive(Clone)]
pub struct Upstream(Way);

#[derive(Clone)]
enum Way {
    Local(Stack),
    Remote(Arc<Remote>),
}

impl Upstream {
    /// The services of a stack in this process.
    #[must_use]
    pub fn local(stack: Stack) -> Self {
        Self(Way::Local(stack))
    }

    /// Services in other processes, all of them equal: calls go round those that can be reached.
    /// Nothing is connected before the first call. Addresses look like `http://10.0.0.7:7401`.
    ///
    /// # Errors
    ///
    /// There is no address, or one that is not of this form.
    pub fn remote<I>(addresses: I) -> Result<Self, AddressError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Remote::new(addresses).map(|remote| Self(Way::Remote(Arc::new(remote))))
    }

    /// Sends a call. Never fails: what goes wrong on the way is a status.
    #[must_use]
    pub fn send(&self, mut request: Request<Body>) -> AnswerFuture {
        if let Some(call) = request.extensions_mut().get_mut::<Call>() {
            // The next hop answers a little earlier, so that its answer still gets home.
            call.deadline = call.deadline.map(crate::deadline::Deadline::for_next_hop);
        }
        match &self.0 {
            Way::Local(stack) => stack.answer(request),
            Way::Remote(remote) => Arc::clone(remote).forward(request).map(Ok).boxed(),
        }
    }
}

impl Service<Request<Body>> for Upstream {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = AnswerFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.send(request)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Way::Local(_) => f.write_str("local"),
            Way::Remote(remote) => remote.fmt(f),
        }
    }
}
