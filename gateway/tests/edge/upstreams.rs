//! Services in other processes: dead addresses, restarts, lost connections.

use std::collections::BTreeSet;
use std::sync::Arc;

use coalition_gateway::{Gateway, GatewayConfig};
use coalition_proto::common::ErrorReason;
use coalition_rpc::server::Ended;
use coalition_rpc::{ServerSettings, Upstream};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::peer::{Peer, ask};
use crate::support::{Edge, Options, Server, Way, authenticator, client, earn, failed, services};

/// An address where nothing listens.
async fn dead() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    format!("http://{}", listener.local_addr().expect("bound"))
}

/// A gateway to these addresses, beside the edge whose keys it uses.
async fn gateway(edge: &Edge, addresses: &[String]) -> Server {
    let upstream = Upstream::remote(addresses).expect("addresses");
    let authenticator = authenticator(edge.directory.path()).await;
    let config = GatewayConfig::new(authenticator).with(edge.health.services(), &upstream);
    let shutdown = CancellationToken::new();
    let gateway = Gateway::start(config, shutdown.clone())
        .await
        .expect("descriptors");
    Server::start(gateway.stack(), ServerSettings::edge(), 0, shutdown).await
}

#[tokio::test]
async fn services_that_cannot_be_reached_are_unavailable() {
    let edge = Edge::start(Way::Local, Options::default()).await;
    let lone = gateway(&edge, &[dead().await, dead().await]).await;
    for _ in 0..20 {
        let call = earn("x").with_token(&edge.till());
        let outcome = call.send(client(lone.address).await).await;
        let (code, reason, details) = failed(&outcome);
        assert_eq!(
            (code, reason),
            (Code::Unavailable, ErrorReason::Unavailable)
        );
        assert!(
            details
                .retry_info()
                .is_some_and(|retry| retry.retry_delay.is_some())
        );
        assert!(!format!("{outcome:?}").contains("127.0.0.1"), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_service_that_is_not_routed_is_unknown() {
    let edge = Edge::start(Way::Local, Options::default()).await;
    let config = GatewayConfig::new(authenticator(edge.directory.path()).await);
    let shutdown = CancellationToken::new();
    let gateway = Gateway::start(config, shutdown.clone())
        .await
        .expect("descriptors");
    let server = Server::start(gateway.stack(), ServerSettings::edge(), 0, shutdown).await;
    let outcome = earn("x")
        .with_token(&edge.till())
        .send(client(server.address).await)
        .await;
    assert_eq!(failed(&outcome).0, Code::Unimplemented);
}

#[tokio::test]
async fn dead_addresses_cost_no_call() {
    let edge = Edge::start(Way::Remote, Options::default()).await;
    let addresses = [dead().await, edge.service.url(), dead().await];
    let mixed = gateway(&edge, &addresses).await;
    let client = client(mixed.address).await;
    for _ in 0..200 {
        let call = earn("x").with_token(&edge.till());
        call.send(client.clone())
            .await
            .expect("the living one serves");
    }
}

#[tokio::test]
async fn calls_go_round_all_that_live() {
    let edge = Edge::start(Way::Remote, Options::default()).await;
    let authenticator = authenticator(edge.directory.path()).await;
    let mut peers = vec![];
    let mut servers = vec![];
    for _ in 0..3 {
        let peer = Arc::new(Peer::default());
        let shutdown = CancellationToken::new();
        let (stack, _) = services(&peer, &authenticator, &shutdown).await;
        servers.push(Server::start(stack, ServerSettings::within(), 0, shutdown).await);
        peers.push(peer);
    }
    let addresses: Vec<String> = servers.iter().map(Server::url).collect();
    let round = gateway(&edge, &addresses).await;
    let client = client(round.address).await;
    // Connections are made as calls come; by then each has its share.
    while peers.iter().any(|peer| peer.handled() == 0) {
        earn("x")
            .with_token(&edge.till())
            .send(client.clone())
            .await
            .expect("served");
    }
    let before: Vec<usize> = peers.iter().map(|peer| peer.handled()).collect();
    for _ in 0..300 {
        earn("x")
            .with_token(&edge.till())
            .send(client.clone())
            .await
            .expect("served");
    }
    let shares: BTreeSet<usize> = peers
        .iter()
        .zip(before)
        .map(|(peer, before)| peer.handled() - before)
        .collect();
    assert!(
        shares.iter().all(|share| (60..=150).contains(share)),
        "{shares:?}"
    );
}

#[tokio::test]
async fn a_restarted_service_is_found_again() {
    let edge = Edge::start(Way::Remote, Options::default()).await;
    let client = edge.client().await;
    earn("x")
        .with_token(&edge.till())
        .send(client.clone())
        .await
        .expect("served");
    let port = edge.service.address.port();
    let authenticator = authenticator(edge.directory.path()).await;
    let till = edge.till();
    edge.service.shutdown.cancel();
    assert_eq!(edge.service.ended.await.expect("no panic"), Ended::Drained);
    let outcome = earn("x").with_token(&till).send(client.clone()).await;
    assert_eq!(failed(&outcome).0, Code::Unavailable);

    let shutdown = CancellationToken::new();
    let (stack, _) = services(&edge.peer, &authenticator, &shutdown).await;
    let again = Server::start(stack, ServerSettings::within(), port, shutdown).await;
    let mut tries = 0;
    // As a client does: again, while the answer is UNAVAILABLE.
    while let Err(status) = earn("x").with_token(&till).send(client.clone()).await {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        tries += 1;
        assert!(tries < 100_000, "never found again");
    }
    drop(again);
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_its_calls_unavailable() {
    let edge = Edge::start(Way::Local, Options::default()).await;
    let settings = ServerSettings {
        drain_max: std::time::Duration::from_millis(1),
        ..ServerSettings::within()
    };
    let authenticator = authenticator(edge.directory.path()).await;
    let shutdown = CancellationToken::new();
    let (stack, _) = services(&edge.peer, &authenticator, &shutdown).await;
    let service = Server::start(stack, settings, 0, shutdown).await;
    let front = gateway(&edge, &[service.url()]).await;
    let call = earn(ask::WAIT).with_token(&edge.till());
    let call = tokio::spawn(call.send(client(front.address).await));
    edge.peer.until_waiting(1).await;
    service.stop().await;
    let outcome = call.await.expect("no panic");
    let (code, reason, _) = failed(&outcome);
    assert_eq!(
        (code, reason),
        (Code::Unavailable, ErrorReason::Unavailable)
    );
}
