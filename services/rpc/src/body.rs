//! The body of an answer, guarded: it ends with a status, whatever happens to what produces it.
//!
//! Once headers are out, a deadline, a lost upstream or a bug in a stream can only be told in the
//! trailers; without them the caller sees a broken stream and has to guess.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

use crate::deadline::Deadline;
use crate::panic::PanicText;
use crate::status::Problem;

/// Guards a body; one that has ended already stays as it is.
pub(crate) fn guard(body: Body, deadline: Deadline) -> Body {
    if body.is_end_stream() {
        return body;
    }
    Body::new(Guarded {
        inner: Some(body),
        deadline,
        sleep: None,
    })
}

struct Guarded {
    /// `None` once it has ended.
    inner: Option<Body>,
    deadline: Deadline,
    /// Made when the body first has to be waited for, which that of a single message never has.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    fn end(&mut self, problem: Problem) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.inner = None;
        Poll::Ready(Some(Ok(Frame::trailers(problem.into_trailers()))))
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(body) = this.inner.as_mut() else {
            return Poll::Ready(None);
        };
        // A body that panicked is dropped and never polled again.
        match catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx))) {
            Ok(Poll::Ready(Some(Ok(frame)))) => Poll::Ready(Some(Ok(frame))),
            Ok(Poll::Ready(Some(Err(broken)))) => this.end(Problem::unavailable(broken)),
            Ok(Poll::Ready(None)) => {
                this.inner = None;
                Poll::Ready(None)
            }
            Ok(Poll::Pending) => {
                let instant = this.deadline.instant();
                let sleep = this
                    .sleep
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(instant)));
                match sleep.as_mut().poll(cx) {
                    Poll::Ready(()) => this.end(Problem::deadline_exceeded()),
                    Poll::Pending => Poll::Pending,
                }
            }
            Err(panic) => this.end(Problem::internal(PanicText::of(panic.as_ref()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner
            .as_ref()
            .is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}
