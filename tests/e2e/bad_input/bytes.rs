//! Bytes that are no request: cut off, with bits turned, nested without end, compressed, framed
//! wrongly, or a million of nothing.
//!
//! What still is a request after that is judged as one. Rows 35, 37 to 40 and 63 of the security
//! table; random bytes, made from nothing, are tried in [`crate::hostile`].

use std::time::Duration;

use bytes::Bytes;
use coalition_proto::common::ErrorReason;
use coalition_rpc::message_size::MESSAGE_MAX_BYTES;
use coalition_store::testing::{Database, Engine};
use coalition_tests::engine::{bounded, not_run};
use coalition_tests::process::Coalition;
use coalition_tests::{Caller, Network, Refusal, both_engines};
use futures::future::join_all;
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use tempfile::TempDir;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::{Service as _, http};
use tonic::{Code, Status};

use super::bases::{Base, World};
use super::schema::Schema;
use super::{Oracle, tells_nothing};
use crate::hostile::send;
use crate::told;

both_engines!(
    requests_cut_off_and_with_bits_turned,
    row_38_row_39_row_63_frames_that_are_none,
);

/// Inputs per good request; all there are, or a thousand, with `COALITION_TEST_FULL=1`.
const CUTS: usize = 12;
const TURNS: usize = 24;
const TURNS_FULL: usize = 1_000;

/// The variable that seeds what is random here.
const SEED: &str = "COALITION_TEST_SEED";

/// What is sent: its name, more headers, the body, and the codes that may answer it.
type Framed<'a> = (&'a str, &'a [(&'a str, &'a str)], Vec<u8>, &'a [Code]);

async fn requests_cut_off_and_with_bits_turned(network: &Network) {
    let schema = Schema::read();
    let oracle = Oracle::new(&schema.pool);
    let world = Box::pin(World::furnish(network, &schema)).await;
    let full = super::full();
    let seed = std::env::var(SEED).map_or(7, |seed| seed.parse().expect("a number"));
    told(&format!("bits are turned by {SEED}={seed}"));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut below = |most: usize| random.usize(..most.max(1));
    let mut bases = Box::pin(world.bases()).await;
    bases.extend(world.clock());
    let (mut tried, mut messages, mut wrong) = (0, 0, Vec::new());
    for base in &bases {
        let length = world.renewed(base, "").await.encoded_len();
        let cuts = if full { length } else { CUTS.min(length) };
        let turns = if full { TURNS_FULL } else { TURNS };
        let mut inputs: Vec<(Option<usize>, usize)> = Vec::new();
        for cut in 0..cuts {
            let at = if full { cut } else { below(length) };
            inputs.push((Some(at), 0));
        }
        inputs.extend((0..turns).map(|turn| (None, 1 + turn % 3)));
        for (cut, turned) in inputs {
            let mut bytes = world.renewed(base, "").await.encode_to_vec();
            if let Some(cut) = cut {
                bytes.truncate(cut);
            }
            for _ in 0..turned {
                let at = below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << below(8);
                }
            }
            let message = DynamicMessage::decode(schema.request(base.path), bytes.as_slice()).ok();
            messages += usize::from(message.is_some());
            let outcome = send(&base.caller, base.path, bytes.clone()).await;
            tried += 1;
            let refusal = outcome.err();
            if let Err(why) = judge(base, &schema, &oracle, message.as_ref(), refusal.as_ref()) {
                let told = refusal.map_or_else(|| "OK".to_owned(), |refusal| refusal.to_string());
                wrong.push(format!("{} {bytes:x?}: {why}: {told}", base.path));
            }
        }
    }
    network.assert_books_balance().await;
    told(&format!(
        "cut off or with bits turned: {tried} inputs tried ({messages} still requests), {} wrong",
        wrong.len()
    ));
    assert!(wrong.is_empty(), "{:#?}", &wrong[..wrong.len().min(20)]);
}

/// Whether bytes were answered as they should be: `message` is what they say, if they say anything.
fn judge(
    base: &Base,
    schema: &Schema,
    oracle: &Oracle,
    message: Option<&DynamicMessage>,
    refusal: Option<&Refusal>,
) -> Result<(), String> {
    if let Some(refusal) = refusal {
        tells_nothing(refusal)?;
    }
    let Some(message) = message else {
        return match refusal {
            Some(refusal)
                if refusal.code == Code::Internal && refusal.message.contains("decode") =>
            {
                Ok(())
            }
            _ => Err("it is no protobuf".to_owned()),
        };
    };
    let violations = oracle.violations(message);
    let Some(refusal) = refusal else {
        return if violations.is_empty() {
            Ok(())
        } else {
            Err(format!("these break their rule: {violations:?}"))
        };
    };
    let reason = ErrorReason::from_reason(&refusal.reason).ok_or("the reason is none of ours")?;
    match refusal.code {
        // Whose it is comes before what is wrong with it.
        Code::PermissionDenied if !base.own.is_empty() => Ok(()),
        Code::InvalidArgument if refusal.fields.is_empty() => Err("no field is named".to_owned()),
        Code::InvalidArgument => Ok(()),
        _ if violations.is_empty() && schema.documents(base.path, reason) => Ok(()),
        code => Err(format!("{code:?} is not documented")),
    }
}

/// Longest until an answer comes to what is no call.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Sends a body as it is, with these headers, and waits for the status.
async fn raw(caller: &Caller, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Status {
    let mut channel = caller.channel();
    let request = caller.request(());
    let bearer = request.metadata().get("authorization");
    let mut request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(bearer) = bearer {
        request = request.header("authorization", bearer.as_bytes());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Body::new(Full::new(Bytes::from(body)));
    let request = request.body(body).expect("a request");
    let answer = async {
        std::future::poll_fn(|cx| channel.poll_ready(cx))
            .await
            .expect("the network is there");
        let response = channel.call(request).await.expect("an answer");
        if let Some(status) = Status::from_header_map(response.headers()) {
            return status;
        }
        let body = response
            .into_body()
            .collect()
            .await
            .expect("a whole answer");
        let trailers = body.trailers().expect("an answer ends with a status");
        Status::from_header_map(trailers).expect("an answer ends with a status")
    };
    timeout(ANSWER_MAX, answer)
        .await
        .unwrap_or_else(|_| panic!("{path} hangs"))
}

/// A message with its prefix: the flag of compression, and a length.
fn framed(flag: u8, length: usize, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(length).expect("32 bits");
    [&[flag][..], &length.to_be_bytes(), message].concat()
}

async fn row_38_row_39_row_63_frames_that_are_none(network: &Network) {
    let schema = Schema::read();
    let world = Box::pin(World::furnish(network, &schema)).await;
    let mut bases = Box::pin(world.bases()).await;
    bases.extend(world.clock());
    let mut seen = std::collections::BTreeSet::new();
    bases.retain(|base| seen.insert(base.path));
    let gzip: &[(&str, &str)] = &[("grpc-encoding", "gzip")];
    // A gibibyte of zeros takes a megabyte of gzip: ten of these blocks are enough to tell.
    let bomb = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]
        .into_iter()
        .chain(std::iter::repeat_n([0xed, 0xc1, 0x01, 0x0d, 0, 0, 0, 0xc2, 0xa0], 10_000).flatten())
        .collect::<Vec<u8>>();
    // One length-delimited field within another, 150 deep: more than protobuf libraries follow.
    let nested = (0..150).fold(Vec::new(), |inner: Vec<u8>, _| {
        let mut outer = vec![0x2a];
        prost::encoding::encode_varint(inner.len() as u64, &mut outer);
        outer.extend(inner);
        outer
    });
    let groups = vec![0x0b; 200];
    let (mut tried, mut wrong) = (0, Vec::new());
    for base in &bases {
        let good = world.renewed(base, "").await.encode_to_vec();
        let one = framed(0, good.len(), &good);
        let two = [one.clone(), framed(0, good.len(), &good)].concat();
        let huge = 2 * MESSAGE_MAX_BYTES as usize;
        let inputs: [Framed; 14] = [
            (
                "gzip said, plain sent",
                gzip,
                one.clone(),
                &[Code::Unimplemented],
            ),
            (
                "a bomb",
                gzip,
                framed(1, bomb.len(), &bomb),
                &[Code::Unimplemented],
            ),
            (
                "a bomb unsaid",
                &[],
                framed(1, bomb.len(), &bomb),
                &[Code::Internal],
            ),
            (
                "flagged as compressed",
                &[],
                framed(1, good.len(), &good),
                &[Code::Internal],
            ),
            (
                "flag 2",
                &[],
                framed(2, good.len(), &good),
                &[Code::Internal],
            ),
            (
                "flag 255",
                &[],
                framed(255, good.len(), &good),
                &[Code::Internal],
            ),
            ("nothing", &[], Vec::new(), &[Code::Internal]),
            ("half a prefix", &[], vec![0, 0, 0], &[Code::Internal]),
            (
                "a byte too few",
                &[],
                framed(0, good.len() + 1, &good),
                &[Code::Internal],
            ),
            (
                "a mebibyte to come",
                &[],
                framed(0, huge, &good),
                &[Code::ResourceExhausted],
            ),
            (
                "4 GiB to come",
                &[],
                framed(0, u32::MAX as usize, &good),
                &[Code::ResourceExhausted],
            ),
            ("two messages", &[], two, &[Code::Ok, Code::Internal]),
            ("nested", &[], framed(0, nested.len(), &nested), NESTED),
            (
                "groups",
                &[],
                framed(0, groups.len(), &groups),
                &[Code::Internal],
            ),
        ];
        for (case, headers, body, expected) in inputs {
            let status = raw(&base.caller, base.path, headers, body).await;
            tried += 1;
            let refusal = Refusal::of(base.path, &status);
            let fine = expected.contains(&status.code())
                && (status.code() == Code::Ok || tells_nothing(&refusal).is_ok());
            if !fine {
                wrong.push(format!("{case}: {refusal}"));
            }
        }
    }
    told(&format!(
        "frames: {tried} inputs tried, {} wrong",
        wrong.len()
    ));
    assert!(wrong.is_empty(), "{wrong:#?}");
    world.still_serves().await;
}

/// Where field 5 is no message, or none at all, there is nothing to be nested: it is a text, or is
/// passed over.
const NESTED: &[Code] = &[
    Code::Ok,
    Code::Internal,
    Code::InvalidArgument,
    Code::NotFound,
    Code::PermissionDenied,
];

/// Callers at once, each with as many empty items as fit.
const CALLERS: usize = 16;

/// What a process may grow by while it refuses them, for each thread that can be at it: the items are
/// there from when they are read until they are counted, which no call waits in between.
const GROWTH_MAX_BYTES: u64 = 48 * 1024 * 1024;

/// As many empty items as fit into a message, and two million, which do not: the memory of the process
/// is measured.
#[test]
fn row_40_a_million_of_nothing_takes_no_memory() {
    bounded(async {
        let Some(database) = Database::new(Engine::Sqlite).await else {
            return not_run("SQLite");
        };
        let folder = TempDir::with_prefix("coalition-nothing-").expect("a temporary folder");
        let serving = Coalition::new([
            "up",
            "--listen",
            "127.0.0.1:0",
            "--database-url",
            &database.url,
        ])
        .env("COALITION_DATA_DIR", folder.path())
        .start()
        .await
        .unwrap_or_else(|run| panic!("{run:?}"));
        let endpoint = serving.endpoint.clone();
        let network = Network::elsewhere(&endpoint, database, folder);
        let propose = "/coalition.partner.v1.PartnerService/ProposeAgreement";
        let enroll = "/coalition.member.v1.MemberService/Enroll";
        let compute = "/coalition.settlement.v1.SettlementService/ComputeSettlement";
        // Empty items of a list of the request itself, and of one in a message of it.
        let flat = |field: u8, bytes: usize| [(field << 3) | 2, 0].repeat(bytes / 2);
        let within = |field: u8, of: u8, bytes: usize| {
            let items = flat(of, bytes);
            let mut message = vec![(field << 3) | 2];
            prost::encoding::encode_varint(items.len() as u64, &mut message);
            message.extend(items);
            message
        };
        // Field 17 takes two bytes for its key: legs of the terms, the largest items there are.
        let legs = {
            let items = [0x8a, 0x01, 0].repeat((MESSAGE_MAX_BYTES as usize - 16) / 3);
            let mut message = vec![0x2a];
            prost::encoding::encode_varint(items.len() as u64, &mut message);
            message.extend(items);
            message
        };
        let most = MESSAGE_MAX_BYTES as usize - 16;
        let inputs = [
            ("legs", propose, legs, Code::InvalidArgument),
            (
                "funders",
                propose,
                within(5, 9, most),
                Code::InvalidArgument,
            ),
            ("identifiers", enroll, flat(2, most), Code::InvalidArgument),
            ("windows", compute, flat(2, most), Code::InvalidArgument),
            (
                "2,000,000",
                enroll,
                flat(2, 4_000_000),
                Code::ResourceExhausted,
            ),
        ];
        // Once, so that what every process needs is there.
        for (_, path, ..) in &inputs {
            let _ = send(&network.maker, path, Vec::new()).await;
        }
        let before = serving.peak_memory_bytes();
        for (case, path, bytes, code) in inputs {
            let calls = (0..CALLERS).map(|_| send(&network.maker, path, bytes.clone()));
            for outcome in join_all(calls).await {
                let refusal = outcome.expect_err("nothing is no request");
                assert_eq!(refusal.code, code, "{case}: {refusal}");
            }
            let grown = serving.peak_memory_bytes() - before;
            told(&format!(
                "row 40: {case}: {CALLERS} at once, {} KiB more",
                grown / 1_024
            ));
        }
        let grown = serving.peak_memory_bytes() - before;
        let threads =
            std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
        assert!(grown <= threads * GROWTH_MAX_BYTES, "{grown} bytes more");
        serving.kill().await;
        network.stop().await;
    });
}
