//! Row 45: how long calls may take, and what callers are told.

use std::time::Duration;

use coalition_proto::common::ErrorReason;
use coalition_proto::earn::EarnResponse;
use tokio::time::Instant;
use tonic::Code;

use crate::peer::{Then, ask};
use crate::support::{RawCall, Tally, VERIFY, both, client, earn, failed};

/// Milliseconds that calls may take, whatever the caller would wait.
const CAP_MS: i64 = 5_000;

#[tokio::test]
async fn row_45_too_little_time_is_refused_at_once() {
    both(|edge| async move {
        let mut tally = Tally::default();
        let client = edge.client().await;
        for timeout in ["0m", "1m", "99m", "1n", "99999u", "0H"] {
            let call = earn("x")
                .with_token(&edge.till())
                .with("grpc-timeout", timeout);
            let outcome = call.send(client.clone()).await;
            tally.expect(timeout, &outcome, Code::DeadlineExceeded);
            assert_eq!(failed(&outcome).1, ErrorReason::DeadlineExceeded);
        }
        tally.done("45, too little");
        assert_eq!(edge.peer.handled(), 0, "a handler was reached");
    })
    .await;
}

#[tokio::test]
async fn row_45_what_is_no_timeout_means_the_cap() {
    both(|edge| async move {
        let client = edge.client().await;
        for timeout in [
            "nonsense",
            "",
            "-1S",
            "5",
            "123456789S",
            "1 S",
            "99999999H",
            "6S",
        ] {
            let call = earn("x")
                .with_token(&edge.till())
                .with("grpc-timeout", timeout);
            let answer: EarnResponse = call.send(client.clone()).await.expect("served").message();
            // What is left is told by the service: the cap, less one hop, less what it took.
            let left_ms = answer.points_earned;
            assert!(
                (CAP_MS - 1_000..=CAP_MS - 20).contains(&left_ms),
                "{timeout:?}: {left_ms}"
            );
        }
        println!("row 45, no timeout: 8 inputs tried, 0 wrong");
    })
    .await;
}

#[tokio::test]
async fn each_hop_inwards_has_less_time() {
    both(|edge| async move {
        let asked = |timeout| {
            earn("x")
                .with_token(&edge.till())
                .with("grpc-timeout", timeout)
        };
        let client_in = edge.client().await;
        let answer: EarnResponse = asked("2000m")
            .send(client_in.clone())
            .await
            .expect("served")
            .message();
        assert!(
            (1_000..=1_980).contains(&answer.points_earned),
            "{}",
            answer.points_earned
        );
        // Just enough at the edge is enough further in, where a hop's share is gone.
        asked("110m").send(client_in).await.expect("served");
        let direct = client(edge.service.address).await;
        let answer: EarnResponse = asked("2000m").send(direct).await.expect("served").message();
        assert!(
            (1_000..=2_000).contains(&answer.points_earned),
            "{}",
            answer.points_earned
        );
    })
    .await;
}

#[tokio::test]
async fn a_deadline_that_passes_is_deadline_exceeded() {
    both(|edge| async move {
        for address in [edge.address, edge.service.address] {
            let begun = Instant::now();
            let call = earn(ask::NOTHING)
                .with_token(&edge.till())
                .with("grpc-timeout", "150m");
            let outcome = call.send(client(address).await).await;
            let (code, reason, _) = failed(&outcome);
            assert_eq!(
                (code, reason),
                (Code::DeadlineExceeded, ErrorReason::DeadlineExceeded)
            );
            let took = begun.elapsed();
            assert!(took >= Duration::from_millis(100), "{took:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_outlives_its_deadline_ends_with_deadline_exceeded() {
    both(|edge| async move {
        *edge.peer.then.lock().expect("no panic while held") = Then::Hangs;
        for address in [edge.address, edge.service.address] {
            let call = RawCall::new(VERIFY, &[]).with_token(&edge.operator());
            let outcome = call
                .with("grpc-timeout", "150m")
                .send(client(address).await)
                .await;
            let (code, reason, _) = failed(&outcome);
            assert_eq!(
                (code, reason),
                (Code::DeadlineExceeded, ErrorReason::DeadlineExceeded)
            );
        }
    })
    .await;
}
