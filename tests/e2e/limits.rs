//! Limits: what a partner may owe, how near it is to that, and what gives it room again.

use coalition_proto::partner::Terms;
use coalition_proto::settlement::{
    FundingDirection, GetHeadroomRequest, Headroom, HeadroomAlert, RecordFundingRequest,
    RecordFundingResponse,
};
use coalition_tests::figures::{micros, money};
use coalition_tests::{Network, Partner, Refusal, both_engines, request_id, terms};
use futures::future::join_all;
use tonic::Code;

both_engines!(
    alerts_come_before_the_end,
    funds_come_in_and_go_out,
    credits_count_where_the_agreement_says_so,
    a_new_version_moves_the_limit,
    joint_funders_each_have_their_limit,
    many_at_once_never_pass_the_limit,
);

fn limited(limit: &str, terms: Terms) -> Terms {
    Terms {
        limit: Some(limit.to_owned()),
        ..terms
    }
}

async fn headroom(partner: &Partner) -> Headroom {
    partner
        .office
        .ask(GetHeadroomRequest::default())
        .await
        .headroom
        .expect("the headroom")
}

async fn fund(
    network: &Network,
    partner: &str,
    direction: FundingDirection,
    amount: i64,
) -> Result<RecordFundingResponse, Refusal> {
    let request = RecordFundingRequest {
        request_id: request_id(),
        partner_id: partner.to_owned(),
        amount: Some(money("EUR", amount)),
        direction: direction.into(),
        bank_reference: "SEPA-1".to_owned(),
    };
    network.maker.call(request).await
}

async fn alerts_come_before_the_end(network: &Network) {
    use HeadroomAlert::{Critical95, None, Warning80};

    let terms = limited("10.00", terms::settle_at_issue("EUR", "0.01", "0.008"));
    let cafe = network
        .partner(
            "cafe",
            Terms {
                alert_below_points: 150,
                ..terms
            },
        )
        .await;
    let member = network.member().await;
    // Points earned, of 1,000 that the limit pays for; then what is used, and what is said.
    let rows = [
        (0, 0, None, false),
        (799, 79, None, false),
        (1, 80, Warning80, false),
        (50, 85, Warning80, false),
        (1, 85, Warning80, true),
        (98, 94, Warning80, true),
        (1, 95, Critical95, true),
        (50, 100, Critical95, true),
    ];
    for (place, (points, used, alert, below)) in rows.into_iter().enumerate() {
        if points > 0 {
            cafe.earn(&member, &format!("c-{place}"), points).await;
        }
        let now = headroom(&cafe).await;
        let found = (now.used_percent, now.alert(), now.below_alert_points);
        assert_eq!(found, (used, alert, below), "after step {place}");
        assert_eq!(now.limit_micros, Some(micros("10.00")));
        assert_eq!(
            now.headroom_micros,
            Some(micros("10.00") + now.position_micros)
        );
    }
    // What is left is nothing; spending what was issued costs the cafe nothing more.
    cafe.till
        .refused(cafe.earning(&member, "more", 1))
        .await
        .assert_declined("LIMIT_EXCEEDED");
    cafe.redeem(&member, "r-1", 500).await;
    // Goods that come back give room again.
    cafe.take_back("c-1", 799).await;
    assert_eq!(cafe.earn(&member, "again", 500).await.points_earned, 500);
}

async fn funds_come_in_and_go_out(network: &Network) {
    let cafe = network
        .partner("cafe", terms::prepaid("EUR", "0.01", "0.008"))
        .await;
    let open = network
        .partner("open", terms::settle_at_issue("EUR", "0.01", "0.008"))
        .await;
    let member = network.member().await;
    let paid = fund(network, &cafe.id, FundingDirection::Deposit, 5_000)
        .await
        .expect("it is recorded");
    assert!(paid.transaction_id.starts_with("txn_"));
    assert_eq!(
        paid.headroom.expect("the headroom").funds_micros,
        micros("50.00")
    );
    cafe.earn(&member, "c-1", 3_000).await;
    // 20.00 are free.
    let refusal = fund(network, &cafe.id, FundingDirection::Withdrawal, 2_001).await;
    refusal
        .expect_err("more than is free")
        .assert_declined("LIMIT_EXCEEDED");
    let out = fund(network, &cafe.id, FundingDirection::Withdrawal, 2_000)
        .await
        .expect("it is free");
    let after = out.headroom.expect("the headroom");
    assert_eq!(
        (after.funds_micros, after.headroom_micros),
        (micros("30.00"), Some(0))
    );
    // Without a limit, what was paid in can go out again, and no more than that.
    fund(network, &open.id, FundingDirection::Deposit, 100)
        .await
        .expect("it is recorded");
    let refusal = fund(network, &open.id, FundingDirection::Withdrawal, 101).await;
    refusal
        .expect_err("more than was paid in")
        .assert_declined("LIMIT_EXCEEDED");
    fund(network, &open.id, FundingDirection::Withdrawal, 100)
        .await
        .expect("it is there");
    let without = headroom(&open).await;
    assert_eq!(
        (
            without.limit_micros,
            without.headroom_micros,
            without.used_percent
        ),
        (None, None, 0)
    );
    assert_eq!(without.alert(), HeadroomAlert::None);

    let nobody = cafe.id.replace("ptr_0", "ptr_1");
    let refusal = fund(network, &nobody, FundingDirection::Deposit, 1)
        .await
        .expect_err("nobody");
    refusal.assert(Code::NotFound, "NOT_FOUND");
    let newcomer = network.newcomer("newcomer").await;
    let refusal = fund(network, &newcomer, FundingDirection::Deposit, 1)
        .await
        .expect_err("no terms");
    refusal.assert_declined("NO_AGREEMENT_IN_FORCE");
    let dollars = RecordFundingRequest {
        request_id: request_id(),
        partner_id: cafe.id.clone(),
        amount: Some(money("USD", 1)),
        direction: FundingDirection::Deposit.into(),
        bank_reference: "SEPA-2".to_owned(),
    };
    network
        .maker
        .refused(dollars)
        .await
        .assert(Code::InvalidArgument, "CURRENCY_MISMATCH");
}

async fn credits_count_where_the_agreement_says_so(network: &Network) {
    let base = terms::settle_at_issue("EUR", "0.01", "0.01");
    let other = network.partner("other", base.clone()).await;
    let strict = network
        .partner("strict", limited("1.00", base.clone()))
        .await;
    let inbound = Terms {
        net_inbound: true,
        ..limited("1.00", base)
    };
    let inbound = network.partner("inbound", inbound).await;
    let member = network.member().await;
    other.earn(&member, "o-1", 10_000).await;
    for partner in [&strict, &inbound] {
        // Redeeming earns each of them 5.00 from the operator.
        partner.redeem(&member, "r-1", 500).await;
        assert_eq!(headroom(partner).await.position_micros, micros("5.00"));
    }
    strict.earn(&member, "c-1", 100).await;
    strict
        .till
        .refused(strict.earning(&member, "c-2", 1))
        .await
        .assert_declined("LIMIT_EXCEEDED");
    inbound.earn(&member, "c-1", 600).await;
    inbound
        .till
        .refused(inbound.earning(&member, "c-2", 1))
        .await
        .assert_declined("LIMIT_EXCEEDED");
    assert_eq!(headroom(&inbound).await.headroom_micros, Some(0));
    assert_eq!(headroom(&strict).await.headroom_micros, Some(0));
    // A refund takes the credit back. It is no new debt of the issuer, so it is not refused.
    inbound.refund("r-1", 500).await;
    assert_eq!(
        headroom(&inbound).await.headroom_micros,
        Some(micros("-5.00"))
    );
}

async fn a_new_version_moves_the_limit(network: &Network) {
    let base = terms::settle_at_issue("EUR", "0.01", "0.008");
    let cafe = network.partner("cafe", limited("1.00", base.clone())).await;
    let member = network.member().await;
    cafe.earn(&member, "c-1", 100).await;
    cafe.till
        .refused(cafe.earning(&member, "c-2", 1))
        .await
        .assert_declined("LIMIT_EXCEEDED");
    network
        .agree(&cafe.id, "", limited("2.00", base.clone()))
        .await;
    cafe.earn(&member, "c-3", 100).await;
    cafe.till
        .refused(cafe.earning(&member, "c-4", 1))
        .await
        .assert_declined("LIMIT_EXCEEDED");
    // A lower one does not undo what is owed; it stops what comes.
    network.agree(&cafe.id, "", limited("0.50", base)).await;
    let now = headroom(&cafe).await;
    assert_eq!(now.headroom_micros, Some(micros("-1.50")));
    assert_eq!(
        (now.used_percent >= 100, now.alert()),
        (true, HeadroomAlert::Critical95)
    );
    cafe.till
        .refused(cafe.earning(&member, "c-5", 1))
        .await
        .assert_declined("LIMIT_EXCEEDED");
    cafe.take_back("c-3", 100).await;
    cafe.till
        .refused(cafe.earning(&member, "c-6", 1))
        .await
        .assert_declined("LIMIT_EXCEEDED");
    cafe.take_back("c-1", 51).await;
    assert_eq!(cafe.earn(&member, "c-7", 1).await.points_earned, 1);
}

async fn joint_funders_each_have_their_limit(network: &Network) {
    let base = terms::settle_at_issue("EUR", "0.01", "0.008");
    let rich = network.partner("rich", base.clone()).await;
    let poor = network.partner("poor", limited("1.00", base.clone())).await;
    let shop = network.newcomer("shop").await;
    let funders = vec![terms::funder(&rich.id, 1), terms::funder(&poor.id, 1)];
    let shop = network
        .trading(&shop, "shop", Terms { funders, ..base })
        .await;
    let member = network.member().await;
    let earned = shop.earn(&member, "c-1", 200).await;
    assert_eq!(earned.lots.len(), 2);
    // One of the two has nothing left: the whole check is declined, and nothing is half done.
    let before = network.nets("").await;
    shop.till
        .refused(shop.earning(&member, "c-2", 2))
        .await
        .assert_declined("LIMIT_EXCEEDED");
    assert_eq!(network.nets("").await, before);
    // A single point goes to the first named, who has no limit.
    assert_eq!(shop.earn(&member, "c-3", 1).await.lots[0].issuer, rich.id);
}

async fn many_at_once_never_pass_the_limit(network: &Network) {
    let cafe = network
        .partner(
            "cafe",
            limited("10.00", terms::settle_at_issue("EUR", "0.01", "0.008")),
        )
        .await;
    let members = join_all((0..20).map(|_| network.member())).await;
    // 1,000 points fit; 200 checks of 7 ask for 1,400.
    let answers = join_all((0..200).map(|number| {
        let earning = cafe.earning(&members[number % members.len()], &format!("c-{number}"), 7);
        let till = &cafe.till;
        async move { till.call(earning).await }
    }))
    .await;
    let posted = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(posted, 142);
    for refusal in answers.into_iter().filter_map(Result::err) {
        refusal.assert_declined("LIMIT_EXCEEDED");
    }
    assert_eq!(headroom(&cafe).await.headroom_micros, Some(micros("0.06")));
}
