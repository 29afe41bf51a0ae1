//! Rows 35, 37 to 39, 44, 49 to 51 and 62 to 64: what comes over the wire, before it is a message.

use std::time::Duration;

use bytes::Bytes;
use coalition_proto::common::ErrorReason;
use coalition_rpc::ServerSettings;
use http::HeaderValue;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::body::Body;

use crate::support::{EARN, Edge, Options, RawCall, Tally, Way, both, earn, failed};

/// Most bytes of a message; see `coalition_rpc::message_size`.
const LIMIT: usize = 256 * 1024;

/// A message of a given size: one unknown field, which protobuf skips.
fn message_of(size: usize) -> Vec<u8> {
    // Field 1000, length-delimited; three bytes for the length hold up to two million.
    let payload = size - 5;
    let low = |shift: usize| u8::try_from((payload >> shift) & 0x7f).expect("seven bits");
    let mut message = vec![0xc2, 0x3e, low(0) | 0x80, low(7) | 0x80, low(14)];
    message.resize(size, 7);
    message
}

#[tokio::test]
async fn row_35_row_39_what_is_no_message_fails_alone() {
    both(|edge| async move {
        let mut tally = Tally::default();
        let client = edge.client().await;
        let nested = [0x2a_u8, 0x7f].repeat(200);
        let inputs: [&[u8]; 6] = [
            b"\xff\xff\xff",
            b"\x0a\x05ab",
            b"\x0a\x02\xff\xfe",
            b"\x00",
            b"\x08\xff",
            &nested,
        ];
        for input in inputs {
            let call = RawCall::new(EARN, input).with_token(&edge.till());
            let outcome = call.send(client.clone()).await;
            tally.expect(&format!("{input:?}"), &outcome, Code::Internal);
            failed(&outcome);
        }
        tally.done("35 and 39");
        assert_eq!(edge.peer.handled(), 0, "a handler was reached");
        assert!(
            edge.ask("x").await.is_ok(),
            "the next call is none the worse"
        );
    })
    .await;
}

#[tokio::test]
async fn row_37_messages_are_limited() {
    both(|edge| async move {
        let mut tally = Tally::default();
        let client = edge.client().await;
        let largest = RawCall::new(EARN, &message_of(LIMIT)).with_token(&edge.till());
        largest
            .send(client.clone())
            .await
            .expect("just small enough");
        for size in [LIMIT + 1, 1024 * 1024, 5 * 1024 * 1024] {
            let call = RawCall::new(EARN, &vec![7; size]).with_token(&edge.till());
            let outcome = call.send(client.clone()).await;
            tally.expect(&size.to_string(), &outcome, Code::ResourceExhausted);
            assert_eq!(failed(&outcome).1, ErrorReason::MessageTooLarge);
        }
        // A length without the bytes is refused as well: nobody waits for them.
        let mut declared = earn("x").with_token(&edge.till());
        declared.body = Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
        let outcome = declared.send(client).await;
        tally.expect("declared", &outcome, Code::ResourceExhausted);
        tally.done("37");
        assert_eq!(edge.peer.handled(), 1, "a handler was reached");
    })
    .await;
}

#[tokio::test]
async fn row_38_row_63_compressed_requests_are_not_read() {
    both(|edge| async move {
        let mut tally = Tally::default();
        let client = edge.client().await;
        for encoding in ["gzip", "deflate", "zstd", "br", "nonsense"] {
            let call = earn("x")
                .with_token(&edge.till())
                .with("grpc-encoding", encoding);
            let outcome = call.send(client.clone()).await;
            tally.expect(encoding, &outcome, Code::Unimplemented);
            assert_eq!(failed(&outcome).1, ErrorReason::InvalidArgument);
        }
        tally.done("38 and 63");
        assert_eq!(edge.peer.handled(), 0, "a handler was reached");
    })
    .await;
}

#[tokio::test]
async fn row_44_unknown_methods() {
    both(|edge| async move {
        let mut tally = Tally::default();
        let client = edge.client().await;
        let paths = [
            "/",
            "/x",
            "/coalition.earn.v1.EarnService/Nothing",
            "/coalition.earn.v1.EarnService/Earn/",
            "/coalition.earn.v1.EarnService//Earn",
            "/coalition.earn.v1.earnservice/earn",
            "/coalition.earn.v2.EarnService/Earn",
            "/coalition.redeem.v1.RedeemService/Redeem",
            "/grpc.health.v1.Health/Nothing",
            "/..%2fcoalition.earn.v1.EarnService/Earn",
        ];
        for path in paths {
            let call = RawCall::new(path, &[]).with_token(&edge.till());
            let outcome = call.send(client.clone()).await;
            tally.expect(path, &outcome, Code::Unimplemented);
            assert_eq!(failed(&outcome).1, ErrorReason::UnknownMethod, "{path}");
        }
        tally.done("44");
        assert_eq!(edge.peer.handled(), 0, "a handler was reached");
    })
    .await;
}

#[tokio::test]
async fn row_49_a_connection_has_a_hundred_streams() {
    let edge = Edge::start(Way::Local, Options::default()).await;
    let client = edge.client().await;
    let calls: Vec<_> = (0..150)
        .map(|_| tokio::spawn(earn("wait").with_token(&edge.till()).send(client.clone())))
        .collect();
    // A hundred are in hand; the client, told of the limit, keeps the rest until there is room.
    edge.peer.until_waiting(100).await;
    let another = edge.ask("x").await;
    assert!(
        another.is_ok(),
        "another connection is not starved: {another:?}"
    );
    edge.peer.gate.open(150);
    for call in calls {
        call.await.expect("no panic").expect("answered");
    }
}

#[tokio::test]
async fn row_50_silent_sockets_are_closed() {
    let edge_settings = ServerSettings {
        preface_timeout: Duration::from_millis(50),
        ..ServerSettings::edge()
    };
    let options = Options {
        edge: edge_settings,
        ..Options::default()
    };
    let edge = Edge::start(Way::Local, options).await;
    let mut sockets = Vec::new();
    for begun in [&b""[..], b"PRI", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
        let mut socket = TcpStream::connect(edge.address).await.expect("connected");
        socket.write_all(begun).await.expect("sent");
        sockets.push(socket);
    }
    for mut socket in sockets {
        // Ends with an orderly close or a reset; either way it ends.
        let mut left = Vec::new();
        let _ = socket.read_to_end(&mut left).await;
        assert!(left.is_empty(), "{left:?}");
    }
    println!("row 50: 3 inputs tried, 0 wrong");
}

#[tokio::test]
async fn connections_above_the_cap_are_closed_as_they_come() {
    let settings = ServerSettings {
        connections_max: 1,
        ..ServerSettings::edge()
    };
    let options = Options {
        edge: settings,
        ..Options::default()
    };
    let edge = Edge::start(Way::Local, options).await;
    let client = edge.client().await;
    earn("x")
        .with_token(&edge.till())
        .send(client.clone())
        .await
        .expect("the first is served");
    let mut second = TcpStream::connect(edge.address)
        .await
        .expect("accepted by the kernel");
    let mut left = Vec::new();
    let _ = second.read_to_end(&mut left).await;
    assert!(left.is_empty());
    earn("x")
        .with_token(&edge.till())
        .send(client)
        .await
        .expect("the first is still served");
}

#[tokio::test]
async fn row_51_headers_are_limited() {
    let edge = Edge::start(Way::Local, Options::default()).await;
    let client = edge.client().await;
    let long = "x".repeat(20 * 1024);
    let call = earn("x").with_token(&edge.till()).with("x-padding", &long);
    let outcome = call.send(client.clone()).await;
    assert!(
        !matches!(&outcome, Ok(answer) if answer.http == 200),
        "{outcome:?}"
    );
    assert_eq!(edge.peer.handled(), 0, "a handler was reached");
    earn("x")
        .with_token(&edge.till())
        .send(client)
        .await
        .expect("the next is served");
    println!("row 51: 1 inputs tried, 0 wrong");
}

#[tokio::test]
async fn row_62_what_is_no_grpc_gets_an_http_status() {
    both(|edge| async move {
        let client = edge.client().await;
        let types = [
            "",
            "application/json",
            "application/grpc-web",
            "application/grpc+json",
        ];
        for content_type in types {
            let mut call = earn("x").with_token(&edge.till());
            let value = HeaderValue::from_static(content_type);
            call.headers.insert("content-type", value);
            let answer = call.send(client.clone()).await.expect("no gRPC status");
            assert_eq!(answer.http, 415, "{content_type}");
        }
        let get = http::Request::get(EARN)
            .body(Body::empty())
            .expect("a request");
        let response = client.clone().raw(get).await.expect("answered");
        assert_eq!(response.status(), 405);
        assert_eq!(edge.peer.handled(), 0, "a handler was reached");
        println!("row 62: 5 inputs tried, 0 wrong");
    })
    .await;
}

#[tokio::test]
async fn row_62_http_1_is_told_so() {
    let edge = Edge::start(Way::Local, Options::default()).await;
    let mut socket = TcpStream::connect(edge.address).await.expect("connected");
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n\r\n";
    socket.write_all(request).await.expect("sent");
    let mut answer = Vec::new();
    // A reset may follow what was said.
    let _ = socket.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
}

#[tokio::test]
async fn row_64_an_empty_body_runs_no_handler() {
    both(|edge| async move {
        let mut call = earn("x").with_token(&edge.till());
        call.body = Bytes::new();
        let outcome = call.send(edge.client().await).await;
        let (code, reason, _) = failed(&outcome);
        assert_eq!((code, reason), (Code::Internal, ErrorReason::Internal));
        assert_eq!(edge.peer.handled(), 0, "a handler was reached");
        println!("row 64: 1 inputs tried, 0 wrong");
    })
    .await;
}

/// The body of a call is passed on frame by frame, as it comes.
#[tokio::test]
async fn a_message_in_many_frames_arrives_whole() {
    both(|edge| async move {
        let call = earn("x").with_token(&edge.till());
        let frames: Vec<_> = call
            .body
            .iter()
            .map(|&byte| {
                Ok::<_, std::convert::Infallible>(http_body::Frame::data(Bytes::from(vec![byte])))
            })
            .collect();
        let body = http_body_util::StreamBody::new(futures::stream::iter(frames));
        let mut request = http::Request::post(EARN)
            .body(Body::new(body))
            .expect("a request");
        *request.headers_mut() = call.headers;
        let response = edge.client().await.raw(request).await.expect("answered");
        let collected = response.into_body().collect().await.expect("whole");
        let trailers = collected.trailers().expect("a status");
        assert_eq!(trailers.get("grpc-status").expect("a status"), "0");
    })
    .await;
}

#[test]
fn a_message_of_a_size_has_that_size() {
    for size in [6, 1_000, LIMIT] {
        assert_eq!(message_of(size).len(), size);
    }
}
