//! Connections to services in other processes.
//!
//! Several connections to each address; a call takes the next that is open. A connection is made
//! before a call is given to it, so that an address that cannot be reached costs no call: the next
//! one is tried with the call intact, and only when none is left is the answer UNAVAILABLE. A call
//! that was handed over and whose connection then broke is not sent again: whether it took effect
//! is unknown, and the caller, who has the request id, is the one to ask.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Response, Uri, Version, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tonic::Status;
use tonic::body::Body;

use crate::call::Call;
use crate::deadline::TIMEOUT_HEADER;
use crate::limit::SHED_RETRY_AFTER;
use crate::socket::Socket;
use crate::status::Problem;

/// Connections to each address. More than one, so that resets on one, or its end, leave others.
const CONNECTIONS_PER_ADDRESS: usize = 2;

/// Longest that connecting may take, the HTTP/2 handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Pause after a connection could not be made; doubles with each failure in a row, up to the limit.
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Silence after which the peer is asked whether it is still there, and how long it may take: half
/// open connections are found this way.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Resets that callers who give up may cause before the connection counts as abused. Well above what
/// a gateway sees: its own clients are limited already.
const RESETS_MAX: usize = 10_000;

/// Bytes that a service may send ahead, per stream and per connection.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Most bytes of the headers and trailers of one answer; details of statuses are under 4 KiB.
const HEADERS_MAX_BYTES: u32 = 16 * 1024;

/// An address that no service can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is none.
    #[error("a service in another process needs at least one address")]
    None,
    /// Not of the right form.
    #[error("{0:?} is no address of the form http://host:port")]
    Form(String),
}

/// Services in other processes.
pub(super) struct Remote {
    links: Vec<Arc<Link>>,
    next: AtomicUsize,
}

/// One connection, and the making of the next.
struct Link {
    authority: Authority,
    state: Mutex<State>,
    /// Held while connecting, so that only one does.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    sender: Option<SendRequest<Watched>>,
    failures: u32,
    not_before: Option<Instant>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("connecting failed")]
    Io(#[from] std::io::Error),
    #[error("the HTTP/2 handshake failed")]
    Handshake(#[from] hyper::Error),
    #[error("connecting took longer than {CONNECT_TIMEOUT:?}")]
    TooLong,
    #[error("connecting failed a moment ago")]
    Pause,
    #[error("the connection closed before the call was sent")]
    Closed,
}

impl Remote {
    pub(super) fn new<I>(addresses: I) -> Result<Self, AddressError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut authorities = Vec::new();
        for address in addresses {
            authorities.push(authority(address.as_ref())?);
        }
        if authorities.is_empty() {
            return Err(AddressError::None);
        }
        // Round and round the addresses, so that neighbours in the list are different ones.
        let links = (0..CONNECTIONS_PER_ADDRESS)
            .flat_map(|_| authorities.iter().cloned())
            .map(|authority| {
                Arc::new(Link {
                    authority,
                    state: Mutex::default(),
                    connecting: tokio::sync::Mutex::default(),
                })
            })
            .collect();
        Ok(Self {
            links,
            next: AtomicUsize::new(0),
        })
    }

    pub(super) async fn forward(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let refused = Arc::new(OnceLock::new());
        let mut request = outgoing(request, &refused);
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..self.links.len()).map(|i| &self.links[(first + i) % self.links.len()]);

        let mut why = ConnectError::Closed;
        // Open ones first; then those that may be opened now, waiting for each.
        for link in in_turn() {
            let Some(sender) = link.open() else {
                link.open_aside();
                continue;
            };
            match link.send(sender, request).await {
                Sent::Answered(answer) => return answered(answer, &refused),
                Sent::NotSent(back) => request = back,
            }
        }
        for link in in_turn() {
            let sender = match link.connect().await {
                Ok(sender) => sender,
                Err(ConnectError::Pause) => continue,
                Err(error) => {
                    why = error;
                    continue;
                }
            };
            match link.send(sender, request).await {
                Sent::Answered(answer) => return answered(answer, &refused),
                Sent::NotSent(back) => request = back,
            }
        }
        Problem::unavailable(why)
            .with_retry_after(SHED_RETRY_AFTER)
            .into_http()
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.links.iter().map(|link| link.authority.as_str()))
            .finish()
    }
}

/// What became of a request given to a connection.
enum Sent {
    /// It went out, and this came back.
    Answered(hyper::Result<Response<Incoming>>),
    /// It never went out, and here it is.
    NotSent(Request<Watched>),
}

impl Link {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Option<SendRequest<Watched>> {
        self.state()
            .sender
            .as_ref()
            .filter(|sender| !sender.is_closed())
            .cloned()
    }

    /// Connects while the call at hand takes another way.
    fn open_aside(self: &Arc<Self>) {
        let paused = self
            .state()
            .not_before
            .is_some_and(|instant| Instant::now() < instant);
        if !paused && self.connecting.try_lock().is_ok() {
            let link = Arc::clone(self);
            tokio::spawn(async move { link.connect().await.map(drop) });
        }
    }

    async fn connect(&self) -> Result<SendRequest<Watched>, ConnectError> {
        let _only_one = self.connecting.lock().await;
        if let Some(sender) = self.open() {
            return Ok(sender);
        }
        if self
            .state()
            .not_before
            .is_some_and(|instant| Instant::now() < instant)
        {
            return Err(ConnectError::Pause);
        }
        let made = match timeout(CONNECT_TIMEOUT, self.handshake()).await {
            Ok(made) => made,
            Err(_) => Err(ConnectError::TooLong),
        };
        let mut state = self.state();
        match &made {
            Ok(sender) => {
                *state = State {
                    sender: Some(sender.clone()),
                    ..State::default()
                };
            }
            Err(error) => {
                // 2^6 times the shortest pause is beyond the longest.
                let doubled = RECONNECT_PAUSE_MIN * (1 << state.failures.min(6));
                state.sender = None;
                state.failures = state.failures.saturating_add(1);
                state.not_before = Some(Instant::now() + doubled.min(RECONNECT_PAUSE_MAX));
                let address = self.authority.as_str();
                tracing::debug!(address, %error, "a service cannot be reached");
            }
        }
        made
    }

    async fn handshake(&self) -> Result<SendRequest<Watched>, ConnectError> {
        let socket = Socket::new(TcpStream::connect(self.authority.as_str()).await?)?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEADERS_MAX_BYTES)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .max_concurrent_reset_streams(RESETS_MAX)
            .max_local_error_reset_streams(RESETS_MAX)
            .handshake(TokioIo::new(socket))
            .await?;
        let address = self.authority.clone();
        // Ends when the peer closes, or when the last sender is dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(address = address.as_str(), %error, "a connection broke");
            }
        });
        Ok(sender)
    }

    async fn send(&self, mut sender: SendRequest<Watched>, mut request: Request<Watched>) -> Sent {
        address(&mut request, &self.authority);
        // `ready` only tells that the connection is not closed; it never waits.
        if poll_fn(|cx| sender.poll_ready(cx)).await.is_err() {
            return Sent::NotSent(request);
        }
        match sender.try_send_request(request).await {
            Ok(response) => Sent::Answered(Ok(response)),
            Err(mut error) => match error.take_message() {
                Some(request) => Sent::NotSent(request),
                None => Sent::Answered(Err(error.into_error())),
            },
        }
    }
}

fn answered(
    answer: hyper::Result<Response<Incoming>>,
    refused: &OnceLock<Status>,
) -> Response<Body> {
    // A body that was refused on its way out breaks the stream, however that then looks.
    if let Some(status) = refused.get() {
        return status.clone().into_http();
    }
    match answer {
        Ok(response) => response.map(Body::new),
        Err(error) => Problem::unavailable(error)
            .with_retry_after(SHED_RETRY_AFTER)
            .into_http(),
    }
}

/// The request as it leaves: without what belongs to the hop that brought it.
fn outgoing(request: Request<Body>, refused: &Arc<OnceLock<Status>>) -> Request<Watched> {
    let (mut parts, body) = request.into_parts();
    let deadline = parts.extensions.get::<Call>().and_then(Call::deadline);
    parts.extensions = http::Extensions::new();
    parts.version = Version::HTTP_2;
    hop_by_hop(&mut parts.headers);
    if let Some(deadline) = deadline {
        parts.headers.insert(TIMEOUT_HEADER, deadline.header());
    }
    Request::from_parts(
        parts,
        Watched {
            inner: body,
            refused: Arc::clone(refused),
        },
    )
}

/// Headers that hold for one connection (RFC 9110, section 7.6.1); `te: trailers` is part of gRPC.
fn hop_by_hop(headers: &mut HeaderMap) {
    for name in [
        header::HOST,
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
}

fn address(request: &mut Request<Watched>, authority: &Authority) {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority.clone());
    let path = request.uri().path_and_query().cloned();
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    // All three parts are there, which is all that can be missing.
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

fn authority(address: &str) -> Result<Authority, AddressError> {
    let wrong = || AddressError::Form(address.to_owned());
    let uri: Uri = address.parse().map_err(|_| wrong())?;
    let plain = uri.scheme() == Some(&Scheme::HTTP) && matches!(uri.path(), "" | "/");
    let authority = uri.authority().filter(|authority| {
        plain && authority.port_u16().is_some() && !authority.as_str().contains('@')
    });
    authority.cloned().ok_or_else(wrong)
}

/// A request body that remembers the status it broke off with: the connection only sees that it
/// broke.
struct Watched {
    inner: Body,
    refused: Arc<OnceLock<Status>>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Err(status)) = &frame {
            // The first one counts; there is no second.
            let _ = self.refused.set(status.clone());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_http_with_host_and_port_and_nothing_else() {
        for good in [
            "http://127.0.0.1:7401",
            "http://earn:7401/",
            "http://[::1]:7401",
        ] {
            assert!(authority(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "earn:7401",
            "https://earn:7401",
            "http://earn",
            "http://earn:7401/path",
            "http://me:secret@earn:7401",
            "unix:/tmp/x",
        ] {
            assert_eq!(
                authority(bad),
                Err(AddressError::Form(bad.to_owned())),
                "{bad}"
            );
        }
        assert_eq!(Remote::new([""; 0]).err(), Some(AddressError::None));
    }
}
