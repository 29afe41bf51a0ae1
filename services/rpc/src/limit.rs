//! How many calls are in hand at once. What is over is refused at once and told when to come back:
//! shed, never queue.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use coalition_proto::common::ErrorReason;
use futures::future::Either;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use crate::call::{Answer, Call, refuse};
use crate::status::Problem;

/// Calls in hand at once, unless configured: with the poster behind it, about half a second of work.
pub const CALLS_MAX_DEFAULT: usize = 4_096;

/// When a call that was refused may come back.
pub const SHED_RETRY_AFTER: Duration = Duration::from_millis(100);

/// The layer that limits the calls in hand. Needs [`Recognise`] around it.
///
/// [`Recognise`]: crate::call::Recognise
#[derive(Clone, Debug)]
pub struct LimitCalls<S> {
    inner: S,
    places: Arc<Semaphore>,
}

impl<S> LimitCalls<S> {
    /// Wraps a service that works on at most `calls_max` calls at once.
    pub fn new(inner: S, calls_max: usize) -> Self {
        Self {
            inner,
            places: Arc::new(Semaphore::new(calls_max.min(Semaphore::MAX_PERMITS))),
        }
    }
}

impl<S> Service<Request<Body>> for LimitCalls<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer<Placed<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return refuse(
                Problem::new(ErrorReason::QueueFull, "too many calls in hand")
                    .with_retry_after(SHED_RETRY_AFTER),
            );
        };
        // A stream works on after its headers are out. Watching health does not: a stranger who
        // watches must not take a place away for ten minutes.
        let streams = request
            .extensions()
            .get::<Call>()
            .is_some_and(|call| call.method.is_streaming() && call.method.policy().is_some());
        Either::Right(Placed {
            inner: self.inner.call(request),
            place: Some(place),
            streams,
        })
    }
}

pin_project! {
    /// A call that has a place.
    pub struct Placed<F> {
        #[pin]
        inner: F,
        place: Option<OwnedSemaphorePermit>,
        streams: bool,
    }
}

impl<F> Future for Placed<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.inner.poll(cx));
        let place = this.place.take();
        Poll::Ready(if *this.streams {
            answer.map(|response| {
                response.map(|inner| {
                    Body::new(PlacedBody {
                        inner,
                        _place: place,
                    })
                })
            })
        } else {
            answer
        })
    }
}

/// A stream that keeps its place until it ends.
struct PlacedBody {
    inner: Body,
    _place: Option<OwnedSemaphorePermit>,
}

impl http_body::Body for PlacedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
