//! One connection: its first bytes, its calls, its end.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::Service;

use super::ServerSettings;
use crate::deadline::BULK_MAX;
use crate::message_size::Limited;
use crate::socket::Socket;

/// What every HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What others are told, who most likely speak HTTP/1.1.
const ONLY_HTTP_2: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\n\
    content-length: 0\r\nconnection: close\r\n\r\n";

/// Most bytes of the headers of one request.
const HEADERS_MAX_BYTES: u32 = 16 * 1024;

/// Streams reset for errors of the peer before the connection is closed (CVE-2023-44487 and after).
const ERROR_RESETS_MAX: usize = 1_024;

/// Silence after which the peer is asked whether it is still there, and how long it may take.
const KEEPALIVE_INTERVAL: Duration = Duration::from_mins(1);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes that a peer may send ahead, per stream and per connection.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// How a connection is served; the same for all of a socket.
#[derive(Clone)]
pub(super) struct Connection<S> {
    service: S,
    http: http2::Builder<TokioExecutor>,
    preface_timeout: Duration,
    age_max: Duration,
}

impl<S> Connection<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    pub(super) fn new(service: S, settings: &ServerSettings) -> Self {
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .max_concurrent_streams(settings.streams_max)
            .max_local_error_reset_streams(ERROR_RESETS_MAX)
            .max_pending_accept_reset_streams(settings.pending_resets_max)
            .max_header_list_size(HEADERS_MAX_BYTES)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            // gRPC clients do not read it.
            .auto_date_header(false);
        Self {
            service,
            http,
            preface_timeout: settings.preface_timeout,
            age_max: settings.connection_age_max,
        }
    }

    /// Serves until the peer leaves, the connection is too old, or `shutdown`; in the last two
    /// cases the calls in hand are finished first.
    pub(super) async fn serve(self, socket: TcpStream, shutdown: CancellationToken) {
        let Ok(mut socket) = Socket::new(socket) else {
            return;
        };
        let begun = tokio::select! {
            () = shutdown.cancelled() => return,
            begun = timeout(self.preface_timeout, begins_as_http_2(&mut socket)) => begun,
        };
        if !matches!(begun, Ok(Ok(true))) {
            return;
        }
        let io = TokioIo::new(socket.with_unread(PREFACE));
        let connection = self.http.serve_connection(io, Calls(self.service));
        let mut connection = pin!(connection);
        let mut old = pin!(tokio::time::sleep(self.age_max));

        tokio::select! {
            ended = &mut connection => return noted(ended),
            () = shutdown.cancelled() => {}
            () = &mut old => {}
        }
        connection.as_mut().graceful_shutdown();
        // A peer that never lets go must not hold its place for ever: after the longest call
        // allowed there is nothing left to wait for. (At a shutdown the server cuts in earlier.)
        let cut = Instant::now() + BULK_MAX;
        tokio::select! {
            ended = &mut connection => noted(ended),
            () = sleep_until(cut) => {}
        }
    }
}

fn noted(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        // What peers do wrong is their business, and there is a lot of it.
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Reads the preface; tells those who send something else, as far as they listen.
async fn begins_as_http_2(socket: &mut Socket) -> io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    socket.read_exact(&mut first).await?;
    if first == *PREFACE {
        return Ok(true);
    }
    socket.write_all(ONLY_HTTP_2).await?;
    Ok(false)
}

/// Hands each call to a clone of the service; ours are always ready.
struct Calls<S>(S);

impl<S> hyper::service::Service<Request<Incoming>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = S::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.0
            .clone()
            .call(request.map(|body| Body::new(Limited::new(body))))
    }
}
