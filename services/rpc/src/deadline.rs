//! Deadlines: read once at the edge, carried inwards, kept.
//!
//! The gRPC library's own timeout answers CANCELLED and hides the time left from handlers; this
//! layer answers DEADLINE_EXCEEDED and leaves a [`Deadline`] in the [`Call`]. A handler that is
//! overtaken is dropped; what must not stop half way runs in a task of its own (see
//! `store/poster`). One timer per call and process: behind the gateway of the same process the
//! outer one covers the inner.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use coalition_proto::policy::QuotaClass;
use futures::future::Either;
use http::{HeaderMap, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tonic::body::Body;
use tower::Service;

use crate::body::guard;
use crate::call::{Answer, Call, Method, refuse};
use crate::status::Problem;

/// Longest that a call may take, whatever the caller would wait.
pub const CALL_MAX: Duration = Duration::from_secs(5);

/// Longest that bulk work and streams may take.
pub const BULK_MAX: Duration = Duration::from_mins(10);

/// What is kept back at each hop, for the answer's way home.
pub const HOP: Duration = Duration::from_millis(20);

/// Time that must be left for a call to be taken on at the edge.
pub const LEFT_MIN: Duration = Duration::from_millis(100);

/// The header in which callers say how long they wait.
pub(crate) const TIMEOUT_HEADER: &str = "grpc-timeout";

/// Most digits of a timeout (gRPC over HTTP/2, `TimeoutValue`).
const TIMEOUT_DIGITS_MAX: usize = 8;

/// When the caller of a call stops waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// This long from now.
    #[must_use]
    pub fn after(span: Duration) -> Self {
        Self(Instant::now() + span)
    }

    /// The instant itself.
    #[must_use]
    pub fn instant(self) -> Instant {
        self.0
    }

    /// The time left; zero if it has passed.
    #[must_use]
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// The deadline for the next hop inwards: earlier, so that its answer still gets home.
    #[must_use]
    pub(crate) fn for_next_hop(self) -> Self {
        Self(self.0.checked_sub(HOP).unwrap_or(self.0))
    }

    /// The header that carries this deadline over a wire.
    pub(crate) fn header(self) -> HeaderValue {
        // At most BULK_MAX, so that the digits suffice.
        let millis = u32::try_from(self.left().as_millis()).unwrap_or(u32::MAX);
        let text = format!("{millis}m");
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("0m"))
    }
}

/// The layer that sets the deadline of a call and keeps it. Needs [`Recognise`] around it.
///
/// [`Recognise`]: crate::call::Recognise
#[derive(Clone, Debug)]
pub struct KeepDeadline<S> {
    inner: S,
    left_min: Duration,
}

impl<S> KeepDeadline<S> {
    /// Wraps a service at the edge: a call with less than [`LEFT_MIN`] left is refused at once.
    pub fn at_edge(inner: S) -> Self {
        Self {
            inner,
            left_min: LEFT_MIN,
        }
    }

    /// Wraps a service one hop further in, where that hop's share is gone already.
    pub fn within(inner: S) -> Self {
        Self {
            inner,
            left_min: LEFT_MIN.saturating_sub(HOP),
        }
    }
}

impl<S> Service<Request<Body>> for KeepDeadline<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer<Kept<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let asked = asked(request.headers());
        let Some(call) = request.extensions_mut().get_mut::<Call>() else {
            return refuse(Problem::internal(
                "a call that was not recognised has no deadline",
            ));
        };
        let longest = longest(call.method);
        let span = asked.unwrap_or(longest).min(longest);
        if span < self.left_min {
            return refuse(Problem::deadline_exceeded());
        }
        let deadline = Deadline::after(span);
        call.deadline = Some(deadline);
        Either::Right(Kept {
            inner: self.inner.call(request),
            sleep: tokio::time::sleep_until(deadline.instant()),
            deadline,
        })
    }
}

pin_project! {
    /// A call with a deadline.
    pub struct Kept<F> {
        #[pin]
        inner: F,
        // Registers with the timer only when first polled, which a call that is answered at once
        // never does.
        #[pin]
        sleep: Sleep,
        deadline: Deadline,
    }
}

impl<F> Future for Kept<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(answer) = this.inner.poll(cx) {
            let deadline = *this.deadline;
            return Poll::Ready(answer.map(|response| response.map(|body| guard(body, deadline))));
        }
        ready!(this.sleep.poll(cx));
        Poll::Ready(Ok(Problem::deadline_exceeded().into_http()))
    }
}

fn longest(method: Method) -> Duration {
    if method.is_streaming() || method.quota() == QuotaClass::Bulk {
        BULK_MAX
    } else {
        CALL_MAX
    }
}

/// What the caller asks for; `None` where it asks for nothing, or for what is no timeout.
fn asked(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get(TIMEOUT_HEADER)?.to_str().ok()?)
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let well_formed = (1..=TIMEOUT_DIGITS_MAX).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !well_formed {
        return None;
    }
    // Eight digits of hours are 360,000,000,000 seconds: far inside both u64 and Duration.
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count.saturating_mul(3_600)),
        "M" => Duration::from_secs(count.saturating_mul(60)),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_45_only_well_formed_timeouts_count() {
        let good = [
            ("5S", Duration::from_secs(5)),
            ("0m", Duration::ZERO),
            ("1m", Duration::from_millis(1)),
            ("99999999H", Duration::from_hours(99_999_999)),
            ("20u", Duration::from_micros(20)),
            ("00000001M", Duration::from_mins(1)),
            ("7n", Duration::from_nanos(7)),
        ];
        for (text, span) in good {
            assert_eq!(parse(text), Some(span), "{text}");
        }
        for text in [
            "",
            "S",
            "5",
            "5s",
            "-1S",
            "+1S",
            "1.5S",
            "123456789S",
            "5 S",
            "5Sm",
            "ß",
            "5ß",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_hop_keeps_its_share() {
        let deadline = Deadline::after(Duration::from_secs(1));
        assert_eq!(deadline.for_next_hop().left(), Duration::from_millis(980));
        assert_eq!(deadline.header(), "1000m");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(deadline.left(), Duration::ZERO);
        assert_eq!(deadline.header(), "0m");
    }
}
