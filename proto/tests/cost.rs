//! What checking the field rules of one Earn costs, printed; see `README.md` for the command.

use std::hint::black_box;
use std::time::Instant;

use coalition_proto::common::{Channel, Money, PosContext};
use coalition_proto::earn::{CheckAmounts, EarnRequest, earn_request};
use coalition_proto::validate::check;
use prost::Message as _;
use prost_types::Timestamp;

const REPEATS: u32 = 20_000;

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "measures how long something takes"
)]
fn what_checking_an_earn_costs() {
    let earn = earn();
    let encoded = earn.encode_to_vec();
    assert_eq!(check(&earn), Ok(()));

    let start = Instant::now();
    for _ in 0..REPEATS {
        black_box(check(black_box(&earn)).is_ok());
    }
    let checking = start.elapsed() / REPEATS;

    let start = Instant::now();
    for _ in 0..REPEATS {
        black_box(EarnRequest::decode(black_box(encoded.as_slice())).is_ok());
    }
    let decoding = start.elapsed() / REPEATS;

    println!(
        "Earn of {} bytes: rules checked in {} ns, decoded in {} ns",
        encoded.len(),
        checking.as_nanos(),
        decoding.as_nanos(),
    );
}

fn earn() -> EarnRequest {
    let euros = |amount| {
        Some(Money {
            currency_code: "EUR".to_owned(),
            amount,
        })
    };
    EarnRequest {
        request_id: "0198f9d2-6b1a-7c3e-8f00-3b9d1c5e7a42".to_owned(),
        partner_id: "ptr_01h455vb4pex5vsknk084sn02q".to_owned(),
        member: Some(earn_request::Member::MemberId(
            "mem_01h455vb4pex5vsknk084sn02q".to_owned(),
        )),
        context: Some(PosContext {
            location: "berlin-mitte".to_owned(),
            terminal: "till-3".to_owned(),
            operator_ref: "op-17".to_owned(),
            shift_ref: "evening".to_owned(),
            business_date: "2026-11-22".to_owned(),
            channel: Some(Channel::InStore.into()),
            occurred_at: Some(Timestamp {
                seconds: 1_795_359_600,
                nanos: 0,
            }),
            check_id: "4711-0815".to_owned(),
            offline: false,
        }),
        amounts: Some(CheckAmounts {
            gross: euros(4_250),
            discounts: euros(250),
            tax: euros(760),
            tip: euros(400),
            gift_card: None,
            paid_with_points: None,
        }),
    }
}
