//! Bytes that no client of ours would send: whatever comes in, something sensible goes out, nothing
//! is posted, and the network stays up. Rows are those of `security`; what the gateway alone decides
//! (tokens, headers, sizes) is tested beside it.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _};
use coalition_proto::policy;
use coalition_rpc::auth::dev::TokenRequest;
use coalition_tests::{Caller, Network, Refusal, both_engines, request_id, terms};
use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tonic::Code;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status};

use crate::told;

both_engines!(
    security_35_random_bytes_harm_nobody,
    security_44_unknown_methods_are_unimplemented,
    security_64_an_empty_message_runs_no_write,
);

/// Messages as the bytes they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, bytes: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&bytes);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}

/// Sends bytes as the message of a call, and reads whatever comes back to its end.
pub(crate) async fn send(
    caller: &Caller,
    method: &'static str,
    bytes: Vec<u8>,
) -> Result<(), Refusal> {
    let told = |status: &Status| Refusal::of(method, status);
    let mut grpc = Grpc::new(caller.channel());
    grpc.ready().await.expect("the network is there");
    let mut request: Request<Vec<u8>> = caller.request(bytes);
    request.set_timeout(Duration::from_secs(5));
    let path = PathAndQuery::from_static(method);
    let answer = grpc.server_streaming(request, path, Raw).await;
    let mut stream = answer.map_err(|status| told(&status))?.into_inner();
    while stream
        .message()
        .await
        .map_err(|status| told(&status))?
        .is_some()
    {}
    Ok(())
}

/// Inputs per RPC.
const INPUTS: usize = 40;

async fn security_35_random_bytes_harm_nobody(network: &Network) {
    let cafe = network.partner("cafe", terms::bare("EUR")).await;
    let member = network.member().await;
    let before = network.verify().await.summary;
    let operator = TokenRequest::new(
        "everything",
        [
            policy::Role::OperatorMaker,
            policy::Role::OperatorChecker,
            policy::Role::SupportAgent,
        ],
    );
    let operator = network.caller(&operator);
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]),
    );
    let mut tried = 0;
    for policy in policy::all() {
        for _ in 0..INPUTS {
            let bytes = message()
                .new_tree(&mut runner)
                .expect("messages can be made")
                .current();
            let sent = bytes.clone();
            if let Err(refusal) = send(&operator, policy.method, bytes).await {
                let fine = [
                    Code::InvalidArgument,
                    Code::Internal,
                    Code::NotFound,
                    Code::PermissionDenied,
                    Code::FailedPrecondition,
                ];
                assert!(fine.contains(&refusal.code), "{sent:x?}: {refusal}");
                assert!(!refusal.message.contains("panicked"), "{refusal}");
            }
            tried += 1;
        }
    }
    let after = network.verify().await.summary;
    assert_eq!((after.postings, after.lots), (before.postings, before.lots));
    cafe.earn(&member, "c-1", 100).await;
    told(&format!("random messages: {tried} inputs tried, 0 wrong"));
}

/// Bytes that look more or less like a message: random ones, and fields of every wire type with
/// random content, one within another.
fn message() -> impl Strategy<Value = Vec<u8>> {
    use proptest::collection::vec;
    use proptest::prelude::any;
    use proptest::prop_oneof;
    let key = |number: u8, wire: u8| (number << 3) | wire;
    let field = move |inner: proptest::strategy::BoxedStrategy<Vec<u8>>| {
        prop_oneof![
            (1_u8..16, any::<u64>()).prop_map(move |(number, value)| {
                let mut field = vec![key(number, 0)];
                prost::encoding::encode_varint(value, &mut field);
                field
            }),
            (1_u8..16, vec(any::<u8>(), 0..40))
                .prop_map(move |(number, text)| delimited(key(number, 2), &text)),
            (1_u8..16, "[ -~]{0,40}")
                .prop_map(move |(number, text)| delimited(key(number, 2), text.as_bytes())),
            (1_u8..16, inner).prop_map(move |(number, inner)| delimited(key(number, 2), &inner)),
        ]
    };
    let leaf = vec(any::<u8>(), 0..64).boxed();
    let once = vec(field(leaf.clone()), 0..6)
        .prop_map(|fields| fields.concat())
        .boxed();
    let twice = vec(field(once), 0..6).prop_map(|fields| fields.concat());
    prop_oneof![1 => leaf, 4 => twice]
}

fn delimited(key: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![key];
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend_from_slice(bytes);
    field
}

async fn security_44_unknown_methods_are_unimplemented(network: &Network) {
    for method in [
        "/coalition.earn.v1.EarnService/Nothing",
        "/coalition.earn.v2.EarnService/Earn",
        "/coalition.earn.v1.earnservice/Earn",
        "/Earn",
    ] {
        for caller in [&network.maker, &network.stranger()] {
            let refusal = send(caller, method, Vec::new()).await.expect_err(method);
            refusal.assert(Code::Unimplemented, "UNKNOWN_METHOD");
        }
    }
}

/// An empty message is one whose fields are all unset: no write goes through without its name.
async fn security_64_an_empty_message_runs_no_write(network: &Network) {
    let before = network.verify().await.summary;
    for policy in policy::all()
        .iter()
        .filter(|policy| policy.scope.ends_with(":write"))
    {
        let role = policy
            .roles
            .iter()
            .find(|role| **role == policy::Role::OperatorMaker);
        let caller = if role.is_some() {
            &network.maker
        } else {
            &network.checker
        };
        let refusal = send(caller, policy.method, Vec::new())
            .await
            .expect_err(policy.method);
        assert_eq!(refusal.code, Code::InvalidArgument, "{refusal}");
        assert!(!refusal.fields.is_empty(), "{refusal}");
    }
    assert_eq!(network.verify().await.summary, before);
    // With a name and nothing else, neither.
    let cut = coalition_proto::earn::EarnRequest {
        request_id: request_id(),
        ..Default::default()
    };
    assert_eq!(network.maker.refused(cut).await.code, Code::InvalidArgument);
}
