//! Serving a service on a socket: HTTP/2, bounded in everything, and it always ends.
//!
//! The gRPC library's own server leaves open what defends a public port: a cap on connections, a
//! limit on the time to the first bytes, an end to a shutdown that hangs. So the accept loop is
//! ours, on the same HTTP/2 implementation. [`connection`] looks after one connection. Absent: TLS,
//! which goes between the two.

mod connection;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::Service;

use self::connection::Connection;

/// Streams that one connection of a client may have open.
pub const STREAMS_MAX_EDGE: u32 = 100;

/// Streams that one connection of a gateway may have open.
pub const STREAMS_MAX_WITHIN: u32 = 1_000;

/// Streams that a client may reset before they were looked at, before its connection counts as abused
/// (CVE-2023-44487): as many as it may have open, twice. One who drops all calls at once, as a till's
/// server does that gives up, loses no others.
pub const PENDING_RESETS_MAX_EDGE: usize = 2 * STREAMS_MAX_EDGE as usize;

/// The same for a gateway, which passes on what all its clients drop: nothing that they can do may cut
/// the connection that others share. The gateway bounds what each of them may drop.
pub const PENDING_RESETS_MAX_WITHIN: usize = 10_000;

/// Connections that a process holds, unless configured.
pub const CONNECTIONS_MAX_DEFAULT: usize = 10_000;

/// Time within which a connection has to begin as HTTP/2 does.
pub const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// Age at which a connection is asked to go and come again, so that load spreads after a change of
/// servers.
pub const CONNECTION_AGE_MAX: Duration = Duration::from_mins(30);

/// Time that calls in hand are given at a shutdown; longer than any but bulk work takes.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Pause after the system refused to hand over a connection (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a socket is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Streams that one connection may have open.
    pub streams_max: u32,
    /// Streams that a peer may reset before they were looked at.
    pub pending_resets_max: usize,
    /// Connections held at once; more are closed as they come.
    pub connections_max: usize,
    /// Time within which a connection has to begin as HTTP/2 does.
    pub preface_timeout: Duration,
    /// Age at which a connection is asked to go.
    pub connection_age_max: Duration,
    /// Time that calls in hand are given at a shutdown.
    pub drain_max: Duration,
}

impl ServerSettings {
    /// For the port that clients connect to.
    #[must_use]
    pub fn edge() -> Self {
        Self {
            streams_max: STREAMS_MAX_EDGE,
            pending_resets_max: PENDING_RESETS_MAX_EDGE,
            connections_max: CONNECTIONS_MAX_DEFAULT,
            preface_timeout: PREFACE_TIMEOUT,
            connection_age_max: CONNECTION_AGE_MAX,
            drain_max: DRAIN_MAX,
        }
    }

    /// For the port of a service, which gateways connect to.
    #[must_use]
    pub fn within() -> Self {
        Self {
            streams_max: STREAMS_MAX_WITHIN,
            pending_resets_max: PENDING_RESETS_MAX_WITHIN,
            ..Self::edge()
        }
    }
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every call in hand was answered.
    Drained,
    /// The time for that was up, and these connections were cut.
    Cut {
        /// How many.
        connections: usize,
    },
}

/// Serves until `shutdown`, then stops listening, lets the calls in hand finish, and cuts what is
/// left when [`ServerSettings::drain_max`] is over. Always returns by then.
pub async fn serve<S>(
    listener: TcpListener,
    service: S,
    settings: ServerSettings,
    shutdown: CancellationToken,
) -> Ended
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let drain_max = settings.drain_max;
    let places = Arc::new(Semaphore::new(
        settings.connections_max.min(Semaphore::MAX_PERMITS),
    ));
    let connection = Connection::new(service, &settings);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Shutdown first: a flood of connections must not put it off.
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    // Full: the socket is dropped, which closes it. Shed, never queue.
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                    let (connection, shutdown) = (connection.clone(), shutdown.clone());
                    connections.spawn(async move {
                        connection.serve(socket, shutdown).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // The port is free from here on: another process may take over while this one drains.
    drop(listener);
    drain(connections, drain_max).await
}

async fn drain(mut connections: JoinSet<()>, drain_max: Duration) -> Ended {
    let drained = tokio::time::timeout(drain_max, async {
        while connections.join_next().await.is_some() {}
    });
    if drained.await.is_ok() {
        return Ended::Drained;
    }
    let left = connections.len();
    tracing::warn!(
        connections = left,
        "calls in hand took too long; their connections are cut"
    );
    connections.shutdown().await;
    Ended::Cut { connections: left }
}
