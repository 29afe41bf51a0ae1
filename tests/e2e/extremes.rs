//! The ends of the range: amounts that the books cannot hold are refused, by themselves, and leave
//! everybody else's calls alone; currencies without cents, and several in one network.

use coalition_proto::common::Money;
use coalition_proto::earn::{self, CheckAmounts, EarnRequest};
use coalition_proto::partner::{Leg, LegBasis, LegParty, LegTrigger, PartyRole, Terms, leg_party};
use coalition_proto::redeem;
use coalition_proto::sandbox::AdvanceClockRequest;
use coalition_proto::settlement::{ComputeSettlementRequest, CutWindowRequest, NettingMethod};
use coalition_tests::figures::money;
use coalition_tests::{Network, OPERATOR, both_engines, request_id, terms};
use futures::future::join_all;
use tonic::Code;

both_engines!(
    sums_beyond_the_range_are_refused,
    more_points_than_anybody_can_spend,
    what_cannot_expire_is_named_and_holds_up_nobody_else,
    what_cannot_expire_together_is_found_one_by_one,
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

/// Terms of points that live for five days, and cost this much each where nobody spends them.
fn dear_to_expire(price: &str) -> Terms {
    let role = |role: PartyRole| {
        Some(LegParty {
            party: Some(leg_party::Party::Role(role.into())),
        })
    };
    let breakage = Leg {
        trigger: LegTrigger::Expire.into(),
        from: role(PartyRole::Issuer),
        to: role(PartyRole::Operator),
        basis: LegBasis::PerPoint.into(),
        rate: price.to_owned(),
        ..Leg::default()
    };
    Terms {
        lot_lifetime_days: 5,
        legs: vec![breakage],
        ..terms::bare("EUR")
    }
}

/// No leg is ever skipped, so this expiry cannot be posted, nor a window be cut without it: whoever
/// cuts is told whose it is, at once and each time.
async fn what_cannot_expire_is_named_and_holds_up_nobody_else(network: &Network) {
    let dear = network.partner("dear", dear_to_expire("1000000000")).await;
    let cafe = network.partner("cafe", dear_to_expire("0.01")).await;
    let (rich, other) = (network.member().await, network.member().await);
    dear.earn(&rich, "d-1", 10_000).await;
    cafe.earn(&other, "c-1", 100).await;
    network.set_clock("2026-01-06").await;
    for _ in 0..2 {
        let refusal = network.maker.refused(cutting()).await;
        refusal.assert(Code::OutOfRange, "AMOUNT_OUT_OF_RANGE");
        assert_eq!(refusal.fact("member_id"), rich);
    }
    // The others' points have expired, and they go on.
    let rows = network.positions("").await;
    let expired = rows.iter().map(|row| (&row.party, row.points_expired));
    assert!(expired.clone().any(|row| row == (&cafe.id, 100)));
    assert!(expired.clone().all(|row| row.0 != &dear.id || row.1 == 0));
    assert_eq!(cafe.earn(&other, "c-2", 10).await.points_earned, 10);
    let held_up = cafe.till.refused(cafe.earning(&rich, "c-3", 10)).await;
    held_up.assert(Code::OutOfRange, "AMOUNT_OUT_OF_RANGE");
}

/// Each fits by itself, all of them do not: those that fit are posted.
async fn what_cannot_expire_together_is_found_one_by_one(network: &Network) {
    let dear = network.partner("dear", dear_to_expire("500000000")).await;
    let cafe = network.partner("cafe", dear_to_expire("0.01")).await;
    let [first, second] = [network.member().await, network.member().await];
    dear.earn(&first, "d-1", 10_000).await;
    network.set_clock("2026-01-02").await;
    dear.earn(&second, "d-2", 10_000).await;
    let others = join_all((0..3).map(|_| network.member())).await;
    for (place, member) in others.iter().enumerate() {
        cafe.earn(member, &format!("c-{place}"), 100).await;
    }
    network.set_clock("2026-01-06").await;
    let first_cut = cutting();
    let cut = network.maker.ask(first_cut.clone()).await;
    assert_eq!(cut.expired_points, 10_000);
    network.set_clock("2026-01-07").await;
    let refusal = network.maker.refused(cutting()).await;
    refusal.assert(Code::OutOfRange, "AMOUNT_OUT_OF_RANGE");
    assert_eq!(refusal.fact("member_id"), second);
    let rows = network.positions("").await;
    let expired = rows.iter().map(|row| (&row.party, row.points_expired));
    assert!(expired.clone().any(|row| row == (&cafe.id, 300)));
    // What was cut before is answered as before.
    let again = network.maker.ask(first_cut).await;
    assert!(again.replayed && again.closed == cut.closed);
}

fn cutting() -> CutWindowRequest {
    CutWindowRequest {
        request_id: request_id(),
        expected_window_id: String::new(),
    }
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
