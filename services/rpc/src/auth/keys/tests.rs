//! The care of a key set at a URL: how often it is fetched, and what is refused.

use std::sync::atomic::AtomicUsize;

use coalition_proto::common::ErrorReason as R;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::super::dev::{DevKey, TokenRequest};
use super::super::tests::StillClock;
use super::super::{AuthSettings, Authenticator};
use super::*;

/// Answers every connection with the same HTTP response, and counts.
async fn endpoint(response: Vec<u8>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/jwks", listener.local_addr().expect("bound"));
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut request = [0; 1024];
            if socket.read(&mut request).await.is_ok() {
                // The client may stop reading early; that is what some of these tests are about.
                let _ = socket.write_all(&response).await;
            }
        }
    });
    (url, count)
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn settings(url: &str) -> AuthSettings {
    AuthSettings::new(KeySource::Url(url.to_owned()))
}

#[tokio::test]
async fn row_05_unknown_keys_cause_one_fetch_a_minute() {
    let key = DevKey::ephemeral().expect("a key");
    let jwks = key.jwks().to_string();
    let (url, fetches) = endpoint(answer("200 OK", "", jwks.as_bytes())).await;
    let clock = StillClock::at_noon();
    let authenticator = Arc::new(
        Authenticator::new(settings(&url), Arc::clone(&clock) as Arc<dyn Clock>)
            .await
            .expect("keys"),
    );
    assert_eq!(fetches.load(Ordering::SeqCst), 1);

    let mut wrong = 0;
    // Seconds after the one before, and how often the set has been fetched by then: never right
    // after it was read, once when that is a while ago, and then once a minute.
    for (later_s, fetched) in [(0, 1), (59, 1), (10, 2), (30, 2), (29, 2), (1, 3), (59, 3)] {
        clock.advance_s(later_s);
        let strangers: Vec<_> = (0..300).map(|_| stranger(&authenticator, &clock)).collect();
        for stranger in strangers {
            wrong += usize::from(stranger.await.expect("no panic") != Some(R::Unauthenticated));
        }
        assert_eq!(fetches.load(Ordering::SeqCst), fetched, "{later_s} s later");
        // A known key is none the worse for it.
        let token = key
            .mint(&TokenRequest::new("s", []), clock.now())
            .expect("a token");
        authenticator.check(&token).await.expect("accepted");
    }
    println!("row 5: 2100 inputs tried, {wrong} wrong");
    assert_eq!(wrong, 0);
}

/// The answer to a token that is signed with a key nobody knows.
fn stranger(
    authenticator: &Arc<Authenticator>,
    clock: &Arc<StillClock>,
) -> tokio::task::JoinHandle<Option<R>> {
    let stranger = DevKey::ephemeral().expect("a key");
    let token = stranger
        .mint(&TokenRequest::new("s", []), clock.now())
        .expect("a token");
    let authenticator = Arc::clone(authenticator);
    tokio::spawn(async move { authenticator.check(&token).await.err().map(|p| p.reason()) })
}

#[tokio::test]
async fn what_is_no_good_key_set_is_refused_at_the_start() {
    let jwks = DevKey::ephemeral().expect("a key").jwks();
    let one = jwks["keys"][0].clone();
    let body = |value: &serde_json::Value| answer("200 OK", "", value.to_string().as_bytes());
    let elsewhere = "location: http://127.0.0.1:9/\r\n";
    let mut weak = one.clone();
    weak["use"] = json!("enc");
    let huge = vec![b' '; JWKS_MAX_BYTES + 1];
    let cases = [
        ("no JSON", answer("200 OK", "", b"<html>")),
        ("no keys", body(&json!({ "keys": [] }))),
        ("a key for something else", body(&json!({ "keys": [weak] }))),
        ("one id twice", body(&json!({ "keys": [one, one] }))),
        (
            "too many",
            body(&json!({ "keys": vec![one.clone(); KEYS_MAX + 1] })),
        ),
        ("too large", answer("200 OK", "", &huge)),
        (
            "an error",
            answer("500 Oops", "", jwks.to_string().as_bytes()),
        ),
        ("elsewhere", answer("302 Found", elsewhere, b"")),
        ("not HTTP", b"hello".to_vec()),
    ];
    for (case, response) in cases {
        let (url, _) = endpoint(response).await;
        let started = Authenticator::new(settings(&url), StillClock::at_noon()).await;
        assert!(started.is_err(), "{case}");
    }
}

#[test]
fn keys_come_over_https_or_from_here() {
    for good in [
        "https://id.example/jwks",
        "http://127.0.0.1:1/",
        "http://[::1]/",
        "http://localhost/",
    ] {
        assert!(address(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "jwks.json",
        "http://id.example/jwks",
        "http://10.0.0.1/",
        "file:///etc/passwd",
    ] {
        assert!(matches!(address(bad), Err(KeysError::Address)), "{bad}");
    }
}
