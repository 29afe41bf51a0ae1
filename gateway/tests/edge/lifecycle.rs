//! Starting, being ready, and always ending.

use std::time::Duration;

use coalition_gateway::{Gateway, GatewayConfig};
use coalition_proto::common::ErrorReason;
use coalition_rpc::server::Ended;
use coalition_rpc::{ServerSettings, Upstream};
use http_body_util::BodyExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1alpha;

use crate::peer::ask;
use crate::support::{Edge, Options, RawCall, Way, both, earn, failed, failure, until_serving};

const EARN_SERVICE: &str = "coalition.earn.v1.EarnService";

#[tokio::test]
async fn the_gateway_is_ready_while_every_service_is() {
    both(|edge| async move {
        let channel = edge.channel().await;
        until_serving(channel.clone(), "", true).await;
        until_serving(channel.clone(), EARN_SERVICE, true).await;
        edge.health.set(EARN_SERVICE, false).await;
        until_serving(channel.clone(), "", false).await;
        until_serving(channel.clone(), EARN_SERVICE, false).await;
        let other = "coalition.settlement.v1.SettlementService";
        until_serving(channel.clone(), other, true).await;
        edge.health.set(EARN_SERVICE, true).await;
        until_serving(channel.clone(), "", true).await;

        let unknown = HealthCheckRequest {
            service: "nothing".to_owned(),
        };
        let status = HealthClient::new(channel)
            .check(unknown)
            .await
            .expect_err("unknown");
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(edge.gateway.health().services(), edge.health.services());
    })
    .await;
}

#[tokio::test]
async fn a_service_that_goes_and_comes_back_is_noticed() {
    let edge = Edge::start(Way::Remote, Options::default()).await;
    let channel = edge.channel().await;
    until_serving(channel.clone(), "", true).await;
    let port = edge.service.address.port();
    let authenticator = crate::support::authenticator(edge.directory.path()).await;
    edge.service.shutdown.cancel();
    until_serving(channel.clone(), "", false).await;
    assert_eq!(
        edge.service.ended.await.expect("no panic"),
        Ended::Drained,
        "a watch held it up"
    );
    let shutdown = CancellationToken::new();
    let (stack, health) = crate::support::services(&edge.peer, &authenticator, &shutdown).await;
    health.set_all(true).await;
    let again =
        crate::support::Server::start(stack, ServerSettings::within(), port, shutdown).await;
    until_serving(channel, "", true).await;
    drop(again);
}

#[tokio::test]
async fn reflection_shows_the_services_in_both_versions() {
    both(|edge| async move {
        let channel = edge.channel().await;
        let list = || ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new(channel.clone());
        let requests = futures::stream::iter([list()]);
        let mut answers = client
            .server_reflection_info(requests)
            .await
            .expect("served")
            .into_inner();
        let answer = answers.message().await.expect("served").expect("an answer");
        let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else {
            panic!("{answer:?}");
        };
        let names: Vec<_> = services
            .service
            .into_iter()
            .map(|service| service.name)
            .collect();
        for name in [EARN_SERVICE, "grpc.health.v1.Health"] {
            assert!(names.iter().any(|shown| shown == name), "{names:?}");
        }
        assert!(
            !names.iter().any(|name| name.contains("redeem")),
            "not served: {names:?}"
        );

        // The second is for showing the details of an error.
        let symbols = [EARN_SERVICE, "google.rpc.ErrorInfo"];
        let requests = symbols.map(|symbol| v1alpha::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(
                v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
                    symbol.to_owned(),
                ),
            ),
        });
        let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
        let mut answers = client
            .server_reflection_info(futures::stream::iter(requests))
            .await
            .expect("served")
            .into_inner();
        for symbol in symbols {
            let answer = answers.message().await.expect("served").expect("an answer");
            assert!(
                matches!(
                    answer.message_response,
                    Some(
                        v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_)
                    )
                ),
                "{symbol}: {answer:?}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn reflection_can_be_left_out() {
    let edge = Edge::start(Way::Local, Options::default()).await;
    let config = GatewayConfig {
        reflection: false,
        ..GatewayConfig::new(crate::support::authenticator(edge.directory.path()).await)
    };
    let shutdown = CancellationToken::new();
    let gateway = Gateway::start(config, shutdown.clone())
        .await
        .expect("descriptors");
    let server =
        crate::support::Server::start(gateway.stack(), ServerSettings::edge(), 0, shutdown).await;
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let client = crate::support::client(server.address).await;
    let outcome = RawCall::new(path, &[]).send(client).await;
    let (code, reason, _) = failed(&outcome);
    assert_eq!(
        (code, reason),
        (Code::Unimplemented, ErrorReason::UnknownMethod)
    );
}

#[tokio::test]
async fn a_shutdown_finishes_what_is_in_hand_and_takes_nothing_new() {
    for way in [Way::Local, Way::Remote] {
        let edge = Edge::start(way, Options::default()).await;
        let client = edge.client().await;
        let call = tokio::spawn(earn(ask::WAIT).with_token(&edge.till()).send(client));
        edge.peer.until_waiting(1).await;
        edge.server.shutdown.cancel();
        // Refused as soon as the listener is gone, which does not wait for the call in hand.
        while TcpStream::connect(edge.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        edge.peer.gate.open(1);
        call.await.expect("no panic").expect("answered");
        assert_eq!(edge.server.ended.await.expect("no panic"), Ended::Drained);
    }
}

#[tokio::test]
async fn a_shutdown_ends_even_if_a_call_does_not() {
    let settings = ServerSettings {
        drain_max: Duration::from_millis(50),
        ..ServerSettings::edge()
    };
    let options = Options {
        edge: settings,
        ..Options::default()
    };
    let edge = Edge::start(Way::Local, options).await;
    let client = edge.client().await;
    let call = tokio::spawn(earn(ask::WAIT).with_token(&edge.till()).send(client));
    edge.peer.until_waiting(1).await;
    let begun = Instant::now();
    assert_eq!(edge.server.stop().await, Ended::Cut { connections: 1 });
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    assert!(call.await.expect("no panic").is_err());
    edge.peer.until_waiting(0).await;
}

#[tokio::test]
async fn an_old_connection_goes_without_losing_a_call() {
    let settings = ServerSettings {
        connection_age_max: Duration::from_millis(50),
        ..ServerSettings::edge()
    };
    let options = Options {
        edge: settings,
        ..Options::default()
    };
    let edge = Edge::start(Way::Local, options).await;
    // Ours sends a call again that a closing connection did not take; so do the usual clients.
    let client = Upstream::remote([format!("http://{}", edge.address)]).expect("an address");
    let begun = Instant::now();
    let mut calls = 0_u32;
    while begun.elapsed() < Duration::from_millis(300) {
        let Ok(response) = client
            .send(earn("x").with_token(&edge.till()).request())
            .await;
        failure(response.headers()).expect("answered, on this connection or the next");
        let answer = response.into_body().collect().await.expect("whole");
        failure(answer.trailers().expect("a status")).expect("answered");
        calls += 1;
    }
    println!("{calls} calls over connections that live 50 ms each, none lost");
}
