//! What becomes of a call that is let through: answers, declines, faults, panics, too many at once.

use coalition_proto::common::ErrorReason;
use coalition_proto::settlement::VerifyRequest;
use coalition_proto::settlement::settlement_service_client::SettlementServiceClient;
use tonic::{Code, Request, Status};

use crate::peer::{Then, ask};
use crate::support::{Edge, Options, Way, both, earn, failed};

#[tokio::test]
async fn a_decline_arrives_with_all_its_details() {
    both(|edge| async move {
        let outcome = edge.ask(ask::DECLINE).await;
        let (code, reason, details) = failed(&outcome);
        assert_eq!(
            (code, reason),
            (Code::FailedPrecondition, ErrorReason::LimitExceeded)
        );
        let info = details.error_info().expect("always");
        assert_eq!(
            info.metadata.get("transaction_id").map(String::as_str),
            Some("txn_1")
        );
        assert!(details.localized_message().is_some());
    })
    .await;
}

#[tokio::test]
async fn a_fault_or_a_panic_is_internal_and_tells_nothing() {
    both(|edge| async move {
        for what in [ask::FAIL, ask::PANIC] {
            let outcome = edge.ask(what).await;
            let (code, reason, details) = failed(&outcome);
            assert_eq!(
                (code, reason),
                (Code::Internal, ErrorReason::Internal),
                "{what}"
            );
            let info = details.error_info().expect("always");
            assert!(info.metadata.contains_key("correlation_id"), "{what}");
            assert!(!format!("{outcome:?}").contains("4711"), "{outcome:?}");
        }
        assert!(
            edge.ask("x").await.is_ok(),
            "the next call is none the worse"
        );
    })
    .await;
}

#[tokio::test]
async fn a_stream_ends_with_a_status_even_if_it_panics() {
    both(|edge| async move {
        for (then, expected) in [(Then::Ends, Code::Ok), (Then::Panics, Code::Internal)] {
            *edge.peer.then.lock().expect("no panic while held") = then;
            let mut request = Request::new(VerifyRequest {});
            let token = format!("Bearer {}", edge.operator());
            request
                .metadata_mut()
                .insert("authorization", token.parse().expect("a token"));
            let mut client = SettlementServiceClient::new(edge.channel().await);
            let mut stream = client.verify(request).await.expect("begun").into_inner();
            assert!(stream.message().await.expect("the first").is_some());
            let end = stream.message().await;
            assert_eq!(end.as_ref().err().map_or(Code::Ok, Status::code), expected);
            if then == Then::Panics {
                assert_eq!(failed(&end).1, ErrorReason::Internal);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn too_many_calls_are_refused_at_once_and_told_when_to_come_back() {
    for way in [Way::Local, Way::Remote] {
        let edge = Edge::start(
            way,
            Options {
                calls_max: 2,
                ..Options::default()
            },
        )
        .await;
        let client = edge.client().await;
        let held: Vec<_> = (0..2)
            .map(|_| {
                tokio::spawn(
                    earn(ask::WAIT)
                        .with_token(&edge.till())
                        .send(client.clone()),
                )
            })
            .collect();
        edge.peer.until_waiting(2).await;
        let outcome = edge.ask("x").await;
        let (code, reason, details) = failed(&outcome);
        assert_eq!((code, reason), (Code::Unavailable, ErrorReason::QueueFull));
        assert!(
            details
                .retry_info()
                .is_some_and(|retry| retry.retry_delay.is_some())
        );
        edge.peer.gate.open(2);
        for call in held {
            call.await.expect("no panic").expect("answered");
        }
        assert!(edge.ask("x").await.is_ok(), "there is room again");
    }
}

#[tokio::test]
async fn a_caller_who_goes_away_takes_its_call_along() {
    both(|edge| async move {
        let client = edge.client().await;
        let call = tokio::spawn(earn(ask::WAIT).with_token(&edge.till()).send(client));
        edge.peer.until_waiting(1).await;
        call.abort();
        edge.peer.until_waiting(0).await;
        assert!(
            edge.ask("x").await.is_ok(),
            "the next call is none the worse"
        );
    })
    .await;
}
