//! The ends of the range: amounts that the books cannot hold are refused, by themselves, and leave
//! everybody else's calls alone; currencies without cents, and several in one network.

use coalition_proto::common::Money;
use coalition_proto::earn::{self, CheckAmounts, EarnRequest};
use coalition_proto::partner::Terms;
use coalition_proto::redeem;
use coalition_proto::sandbox::AdvanceClockRequest;
use coalition_proto::settlement::{ComputeSettlementRequest, NettingMethod};
use coalition_tests::figures::money;
use coalition_tests::{Network, OPERATOR, both_engines, request_id, terms};
use futures::future::join_all;
use tonic::Code;

both_engines!(
    sums_beyond_the_range_are_refused,
    more_points_than_anybody_can_spend,
    the_ends_of_time,
    currencies_count_in_their_own_units,
    several_currencies_settle_side_by_side,
);

async fn sums_beyond_the_range_are_refused(network: &Network) {
    // A point costs a thousand million: 9,000 of them nearly fill the range of the books.
    let dear = Terms {
        limit: None,
        ..terms::settle_at_issue("EUR", "1000000000", "0")
    };
    let dear = network.partner("dear", dear).await;
    let many = Terms {
        points_per_unit: "1000000000".to_owned(),
        ..terms::bare("EUR")
    };
    let many = network.partner("many", many).await;
    let cafe = network
        .partner("cafe", terms::settle_at_issue("EUR", "0.01", "0.008"))
        .await;
    let member = network.member().await;
    let most = 1_000_000_000_000;

    let beyond = many.till.refused(many.earning(&member, "c-1", most)).await;
    beyond
        .assert(Code::OutOfRange, "AMOUNT_OUT_OF_RANGE")
        .assert_cashier();
    let quote = earn::QuoteRequest {
        amounts: Some(CheckAmounts {
            gross: Some(money("EUR", most)),
            ..CheckAmounts::default()
        }),
        ..earn::QuoteRequest::default()
    };
    many.till
        .refused(quote)
        .await
        .assert(Code::OutOfRange, "AMOUNT_OUT_OF_RANGE");
    let amounts = [money("EUR", most), money("EUR", 1)];
    let [gross, tip] = amounts.map(Some);
    let sum = CheckAmounts {
        gross,
        tip,
        ..CheckAmounts::default()
    };
    many.till
        .refused(EarnRequest {
            amounts: Some(sum),
            ..many.earning(&member, "c-2", 0)
        })
        .await
        .assert(Code::OutOfRange, "AMOUNT_OUT_OF_RANGE");

    // Up to the edge, over it in one step, and over it together, each beside calls of others.
    for (round, points) in [8_900, 100, 99, 98, 200, 9_300, most]
        .into_iter()
        .enumerate()
    {
        let others = (0..8).map(|number| {
            let (cafe, member) = (&cafe, &member);
            async move { cafe.earn(member, &format!("c-{round}-{number}"), 10).await }
        });
        let earning = dear.earning(&member, &format!("d-{round}"), points);
        let (answer, others) = futures::join!(dear.till.call(earning), join_all(others));
        assert!(
            others.iter().all(|earned| earned.points_earned == 10),
            "they are not concerned"
        );
        match answer {
            Ok(earned) => assert!(
                round == 0 && earned.points_earned == points || points <= 100,
                "{points}"
            ),
            Err(refusal) => {
                assert!(round > 0, "{points} fit: {refusal}");
                refusal.assert(Code::OutOfRange, "AMOUNT_OUT_OF_RANGE");
            }
        }
    }
    // What is undone makes room again.
    dear.take_back("d-0", 8_900).await;
    assert_eq!(dear.earn(&member, "d-again", 50).await.points_earned, 50);
}

async fn more_points_than_anybody_can_spend(network: &Network) {
    let many = Terms {
        points_per_unit: "1000000000".to_owned(),
        ..terms::settle_at_redemption("EUR", "0.000001", "0.000001")
    };
    let many = network.partner("many", many).await;
    let (rich, other) = (network.member().await, network.member().await);
    // Nine million million million points, at a thousand million per euro.
    let points = 9_000_000_000_000_000_000;
    let earned = many.earn(&rich, "c-1", 900_000_000_000).await;
    assert_eq!(earned.points_earned, points);
    let more = many.earning(&other, "c-2", 900_000_000_000);
    let refusal = many.till.refused(more).await;
    refusal.assert(Code::OutOfRange, "AMOUNT_OUT_OF_RANGE");
    // Who has them can still spend some, be told what is left, and give them back.
    let spent = many.redeem(&rich, "r-1", 1_000_000_000_000).await;
    let left = points - 1_000_000_000_000;
    assert_eq!(spent.balance.expect("a balance").available, left);
    let quote = redeem::QuoteRequest {
        member: Some(redeem::quote_request::Member::MemberId(rich.clone())),
        ask: Some(redeem::quote_request::Ask::Points(100)),
        ..redeem::QuoteRequest::default()
    };
    match many.till.call(quote).await {
        Ok(quoted) => assert_eq!((quoted.points, quoted.max_points), (100, left)),
        // What all of it is worth is beyond the range.
        Err(refusal) => {
            refusal.assert(Code::OutOfRange, "AMOUNT_OUT_OF_RANGE");
        }
    }
    many.refund("r-1", 1_000_000_000_000).await;
    let returned = many.take_back("c-1", 900_000_000_000).await;
    assert_eq!(returned.points_clawed_back, points);
    // What was issued in this window stays counted; the next one begins with nothing.
    network.cut().await;
    assert_eq!(
        many.earn(&other, "c-3", 100).await.points_earned,
        1_000_000_000
    );
}

async fn the_ends_of_time(network: &Network) {
    let cafe = network
        .partner("cafe", terms::settle_at_issue("EUR", "0.01", "0.008"))
        .await;
    let member = network.member().await;
    cafe.earn(&member, "c-1", 100).await;
    network.set_clock("9999-06-01").await;
    assert_eq!(network.cut().await.expired_points, 100);
    // A lot would outlive what a date can say.
    match cafe.till.call(cafe.earning(&member, "c-2", 100)).await {
        Ok(earned) => assert_eq!(earned.points_earned, 100),
        Err(refusal) => {
            refusal.assert(Code::OutOfRange, "AMOUNT_OUT_OF_RANGE");
        }
    }
    let advance = AdvanceClockRequest {
        request_id: request_id(),
        duration: Some(prost_types::Duration {
            seconds: 316_224_000,
            nanos: 0,
        }),
    };
    match network.maker.call(advance).await {
        Ok(moved) => assert!(moved.time.is_some()),
        Err(refusal) => assert!(
            matches!(refusal.code, Code::InvalidArgument | Code::OutOfRange),
            "{refusal}"
        ),
    }
}

async fn currencies_count_in_their_own_units(network: &Network) {
    // Yen have no minor unit, dinars have a thousand; the face values are those of the network.
    let yen = Terms {
        points_per_unit: "0.01".to_owned(),
        ..terms::settle_at_issue("JPY", "0.7", "0.5")
    };
    let yen = network.partner("yen", yen).await;
    let dinar = Terms {
        points_per_unit: "10".to_owned(),
        ..terms::settle_at_issue("KWD", "0.004", "0.003")
    };
    let dinar = network.partner("dinar", dinar).await;
    let member = network.member().await;
    // 12,345 yen at a point per hundred; 1.250 dinars at ten points each.
    assert_eq!(yen.earn(&member, "y-1", 12_345).await.points_earned, 123);
    assert_eq!(dinar.earn(&member, "d-1", 1_250).await.points_earned, 12);
    let spent = yen.redeem(&member, "y-2", 10).await;
    assert_eq!(
        (spent.value, spent.value_micros),
        (Some(money("JPY", 10)), 10_000_000)
    );
    let spent = dinar.redeem(&member, "d-2", 10).await;
    assert_eq!(
        (spent.value, spent.value_micros),
        (Some(money("KWD", 50)), 50_000)
    );

    let window = network
        .cut()
        .await
        .closed
        .expect("a window was closed")
        .window_id;
    let request = ComputeSettlementRequest {
        request_id: request_id(),
        window_ids: vec![window],
        netting: NettingMethod::Multilateral.into(),
        validate_only: true,
    };
    let settlement = network
        .maker
        .ask(request)
        .await
        .settlement
        .expect("the settlement");
    let net = |party: &str, currency: &str| {
        let row = settlement
            .positions
            .iter()
            .find(|row| row.party == party && row.currency_code == currency);
        row.map(|row| {
            (
                row.net_micros,
                row.net.as_ref().expect("what is paid").amount,
            )
        })
    };
    // 123 points at 0.7 yen, less ten at 0.5: 81.1, paid as 81. The operator gets what is paid.
    assert_eq!(net(&yen.id, "JPY"), Some((-81_100_000, -81)));
    assert_eq!(net(OPERATOR, "JPY"), Some((81_100_000, 81)));
    // 12 points at 0.004 dinars, less ten at 0.003: 0.018.
    assert_eq!(net(&dinar.id, "KWD"), Some((-18_000, -18)));
    let rounding = settlement
        .rounding
        .iter()
        .find(|row| row.currency_code == "JPY");
    assert_eq!(rounding.expect("yen were rounded").micros, -100_000);
}

/// Earned in euros, spent in dollars: each side's legs are in the currency of its own agreement.
async fn several_currencies_settle_side_by_side(network: &Network) {
    let euro = network
        .partner("euro", terms::settle_at_redemption("EUR", "0.01", "0.008"))
        .await;
    let dollar = network
        .partner(
            "dollar",
            terms::settle_at_redemption("USD", "0.011", "0.009"),
        )
        .await;
    let member = network.member().await;
    euro.earn(&member, "e-1", 1_000).await;
    let spent = dollar.redeem(&member, "d-1", 400).await;
    let value: Option<Money> = Some(money("USD", 400));
    assert_eq!((spent.value, &spent.slices[0].issuer), (value, &euro.id));
    let rows = network.positions("").await;
    let net = |party: &str, currency: &str| {
        let row = rows
            .iter()
            .find(|row| row.party == party && row.currency_code == currency);
        row.map(|row| row.net_micros)
    };
    assert_eq!(net(&euro.id, "EUR"), Some(-4_000_000));
    assert_eq!(net(OPERATOR, "EUR"), Some(4_000_000));
    assert_eq!(net(&dollar.id, "USD"), Some(3_600_000));
    assert_eq!(net(OPERATOR, "USD"), Some(-3_600_000));
    dollar.refund("d-1", 400).await;
    assert!(
        network
            .positions("")
            .await
            .iter()
            .all(|row| row.net_micros == 0)
    );
}
