//! The golden scenarios: worked numbers that the product reproduces through its public interface, on
//! both engines. Every figure is read from `fixtures/golden`, none stands here.

mod reading;

use std::collections::BTreeMap;

use coalition_proto::common::LotSlice;
use coalition_proto::earn::{self, CheckAmounts};
use coalition_proto::partner::Terms;
use coalition_proto::settlement::{
    FundingDirection, ListExposuresRequest, NettingMethod, Obligation, RecordFundingRequest,
};
use coalition_tests::figures::{DAY_S, later, micros, minor, money, time};
use coalition_tests::{Network, OPERATOR, Partner, both_engines, request_id, terms};
use futures::future::join_all;
use serde_json::Value;

use self::reading::{
    by_issuer, code_of, compute, expected_nets, expected_payments, headroom, held_by_members, nets,
    number, of, pairs, partners, payments, text, weight,
};

both_engines!(
    month_four_partners,
    three_issuers_one_check,
    six_transfers,
    limit_at_once,
    limit_one_by_one,
    limit_with_a_refund_between,
    spend_across_issuers,
    shares,
    prepaid_block,
);

macro_rules! golden {
    ($name:literal) => {
        serde_json::from_str::<Value>(include_str!(concat!("../fixtures/golden/", $name, ".json")))
            .expect("the fixture is JSON")
    };
}

/// How many members the month's points are spread over; every figure of the month divides by it.
const MEMBERS: i64 = 10;

async fn month_four_partners(network: &Network) {
    let golden = golden!("month_four_partners");
    let given = &golden["given"];
    let agreement = &given["agreement"];
    assert_eq!(agreement["preset"], "settle_at_issue");
    let terms = terms::settle_at_issue(
        text(&given["currency"]),
        text(&agreement["issue_price_per_point"]),
        text(&agreement["reimbursement_per_point"]),
    );
    let partners = partners(network, &given["partners"], &terms).await;
    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        members.push(network.member().await);
    }

    // Every member earns at every partner; members side by side, as in a real month.
    let steps = golden["steps"].as_array().expect("steps");
    let total = |field: &str| steps.iter().map(|step| number(&step[field])).sum::<i64>();
    join_all(members.iter().enumerate().map(|(place, member)| {
        let partners = &partners;
        async move {
            for step in steps {
                let issued = number(&step["issued"]) / MEMBERS;
                let earned = of(partners, step)
                    .earn(member, &format!("e{place}"), issued)
                    .await;
                assert_eq!(earned.points_earned, issued);
            }
        }
    }))
    .await;
    // Goods come back, at each partner from another member.
    for (place, step) in steps.iter().enumerate() {
        let clawed = number(&step["clawed_back"]);
        if clawed > 0 {
            let taken = of(&partners, step)
                .take_back(&format!("e{place}"), clawed)
                .await;
            assert_eq!(
                (taken.points_clawed_back, taken.points_to_debt),
                (clawed, 0)
            );
        }
    }
    join_all(members.iter().enumerate().map(|(place, member)| {
        let partners = &partners;
        async move {
            for step in steps {
                let spent = number(&step["redeemed_here"]) / MEMBERS;
                of(partners, step)
                    .redeem(member, &format!("r{place}"), spent)
                    .await;
            }
        }
    }))
    .await;
    for step in steps {
        let refunded = number(&step["redemptions_refunded"]);
        if refunded > 0 {
            let back = of(&partners, step).refund("r2", refunded).await;
            assert_eq!(back.points_refunded, refunded);
        }
    }

    let expect = &golden["expect"];
    assert_eq!(
        nets(network, &partners, "").await,
        expected_nets(&expect["net"])
    );
    let closed = network.cut().await.closed.expect("a window was closed");
    assert_eq!(
        nets(network, &partners, &closed.window_id).await,
        expected_nets(&expect["net"])
    );
    for (step, position) in steps.iter().map(|step| (step, &of(&partners, step).id)) {
        let rows = network.positions(&closed.window_id).await;
        let row = rows
            .iter()
            .find(|row| row.party == *position)
            .expect("every partner moved");
        assert_eq!(row.points_issued, number(&step["issued"]));
        assert_eq!(row.points_clawed_back, number(&step["clawed_back"]));
        assert_eq!(
            row.points_refunded_here,
            number(&step["redemptions_refunded"])
        );
        let here = number(&step["redeemed_here"]) - number(&step["redemptions_refunded"]);
        assert_eq!(row.points_redeemed_here, here);
    }

    assert_exposures(network, &closed.window_id).await;

    let settlement = compute(network, &closed.window_id, NettingMethod::Multilateral).await;
    assert_eq!(
        payments(&settlement, &partners),
        expected_payments(&expect["payments"])
    );
    assert_eq!(
        settlement.totals[0].gross_micros,
        micros(text(&expect["gross_legs"]))
    );
    let paid = settlement.totals[0].paid.clone().expect("what is paid");
    assert_eq!(
        paid,
        money(text(&given["currency"]), minor(text(&expect["paid"])))
    );

    let outstanding = number(&expect["points_outstanding"]);
    assert_eq!(held_by_members(network).await, outstanding);
    let left = total("issued") - total("clawed_back") - total("redeemed_here")
        + total("redemptions_refunded");
    assert_eq!(left, outstanding, "the fixture agrees with itself");
}

/// The matrix of issuers and redeemers says in cells what positions say in sums.
async fn assert_exposures(network: &Network, window: &str) {
    let request = ListExposuresRequest {
        window_id: window.to_owned(),
        ..ListExposuresRequest::default()
    };
    let cells = network.viewer.ask(request).await.exposures;
    assert!(cells.is_sorted_by_key(|cell| (&cell.issuer, &cell.redeemer)));
    for cell in &cells {
        // A point is worth a cent at the till.
        assert_eq!(cell.face_value_micros, cell.points * 10_000, "{cell:?}");
    }
    for row in network.positions(window).await {
        let of = cells.iter().filter(|cell| cell.issuer == row.party);
        let here = cells.iter().filter(|cell| cell.redeemer == row.party);
        assert_eq!(
            of.map(|cell| cell.points).sum::<i64>(),
            row.points_redeemed_of
        );
        assert_eq!(
            here.map(|cell| cell.points).sum::<i64>(),
            row.points_redeemed_here
        );
    }
}

async fn three_issuers_one_check(network: &Network) {
    let golden = golden!("three_issuers_one_check");
    let given = &golden["given"];
    let agreement = &given["agreement"];
    assert_eq!(agreement["preset"], "settle_at_redemption");
    let terms = terms::settle_at_redemption(
        text(&given["currency"]),
        text(&agreement["redemption_price_per_point"]),
        text(&agreement["reimbursement_per_point"]),
    );
    let mut lots: Vec<&Value> = given["lots"].as_array().expect("lots").iter().collect();
    let redeem = &golden["steps"][0];
    let refund = &golden["steps"][1];
    let redeemer = text(&redeem["redeem"]["partner"]);
    let mut partners = BTreeMap::new();
    for code in lots
        .iter()
        .map(|lot| text(&lot["issuer"]))
        .chain([redeemer])
    {
        partners.insert(code.to_owned(), network.partner(code, terms.clone()).await);
    }
    let member = network.member().await;

    // Each lot is earned so long before its expiry as lots live.
    lots.sort_by_key(|lot| text(&lot["expires"]));
    for lot in lots {
        let expires = time(text(&lot["expires"]));
        let earned = later(&expires, -i64::from(terms.lot_lifetime_days) * DAY_S);
        network.set_clock(&earned.to_string()).await;
        let issuer = &partners[text(&lot["issuer"])];
        let answer = issuer.earn(&member, "earn", number(&lot["points"])).await;
        assert_eq!(answer.lots[0].expires_at, Some(expires));
    }

    let redeemer = &partners[redeemer];
    network
        .set_clock(&time(text(&redeem["at"])).to_string())
        .await;
    let spent = redeemer
        .redeem(&member, "check", number(&redeem["redeem"]["points"]))
        .await;
    let expect = &golden["expect"]["after_redeem"];
    assert_eq!(
        by_issuer(&spent.slices, &partners),
        pairs(&expect["slices"])
    );
    assert_eq!(
        nets(network, &partners, "").await,
        expected_nets(&expect["net"])
    );

    network
        .set_clock(&time(text(&refund["at"])).to_string())
        .await;
    let back = redeemer
        .refund("check", number(&refund["refund"]["points"]))
        .await;
    let expect = &golden["expect"]["after_refund"];
    let restored: Vec<(String, i64, Option<prost_types::Timestamp>)> = back
        .restored
        .iter()
        .map(|slice| {
            (
                code_of(&partners, &slice.issuer),
                slice.points,
                slice.expires_at,
            )
        })
        .collect();
    let expected: Vec<_> = expect["restored"]
        .as_array()
        .expect("restored")
        .iter()
        .map(|row| {
            (
                text(&row[0]).to_owned(),
                number(&row[1]),
                Some(time(text(&row[2]))),
            )
        })
        .collect();
    assert_eq!(restored, expected);
    assert_eq!(back.expired_on_return, 0);
    assert_eq!(
        nets(network, &partners, "").await,
        expected_nets(&expect["net"])
    );
}

async fn six_transfers(network: &Network) {
    let golden = golden!("six_transfers");
    let given = &golden["given"];
    let agreement = &given["agreement"];
    assert_eq!(
        (&agreement["preset"], &agreement["price"]),
        (&"bilateral".into(), &"face value".into())
    );
    let terms = terms::bilateral(
        text(&given["currency"]),
        text(&given["face_value_per_point"]),
        text(&agreement["fee_per_point"]),
    );
    let partners = partners(network, &given["partners"], &terms).await;
    for (place, step) in golden["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .enumerate()
    {
        let member = network.member().await;
        // A point is worth a minor unit here.
        let points = minor(text(&step["amount"]));
        let check = format!("c{place}");
        partners[text(&step["issuer"])]
            .earn(&member, &check, points)
            .await;
        let spent = partners[text(&step["redeemer"])]
            .redeem(&member, &check, points)
            .await;
        assert_eq!(spent.value, Some(money("USD", points)));
    }

    let expect = &golden["expect"];
    let closed = network
        .cut()
        .await
        .closed
        .expect("a window was closed")
        .window_id;
    assert_eq!(
        nets(network, &partners, &closed).await,
        expected_nets(&expect["net"])
    );
    for method in [
        NettingMethod::Multilateral,
        NettingMethod::Bilateral,
        NettingMethod::Gross,
    ] {
        let settlement = compute(network, &closed, method).await;
        let total = &settlement.totals[0];
        assert_eq!(
            total.gross_micros,
            micros(text(&expect["gross"])),
            "{method:?}"
        );
        let amount = |row: &Obligation| row.amount.as_ref().expect("an amount").amount;
        let paid = total.paid.as_ref().expect("what is paid").amount;
        assert_eq!(
            paid,
            settlement.obligations.iter().map(amount).sum::<i64>(),
            "{method:?}"
        );
        if method == NettingMethod::Multilateral {
            // The scenario counts what changes hands once: into the operator's hands.
            let into = settlement
                .obligations
                .iter()
                .filter(|row| row.payee == OPERATOR);
            let into: i64 = into.map(amount).sum();
            assert_eq!(into, minor(text(&expect["multilateral_paid"])));
            assert_eq!(paid, 2 * into);
        } else {
            // No pair owes in both directions here, so nothing is netted away.
            assert_eq!(paid, minor(text(&expect["gross"])), "{method:?}");
        }
        // Whoever pays whom: for each partner it comes to the same.
        let mut sums: BTreeMap<String, i64> = expected_nets(&expect["net"]);
        for net in sums.values_mut() {
            *net /= 10_000;
        }
        for obligation in &settlement.obligations {
            let amount = obligation.amount.as_ref().expect("an amount").amount;
            *sums
                .entry(code_of(&partners, &obligation.payer))
                .or_default() += amount;
            *sums
                .entry(code_of(&partners, &obligation.payee))
                .or_default() -= amount;
        }
        assert!(sums.values().all(|left| *left == 0), "{method:?}: {sums:?}");
    }
}

/// The issuer with the limit, the shop where its points are spent, and a member with enough of them.
async fn limited(network: &Network, name: &str) -> (Partner, Partner, String) {
    let golden = golden!("limit_within_a_batch");
    let given = &golden["given"];
    let currency = text(&given["currency"]);
    let bilateral = terms::bilateral(currency, text(&given["face_value_per_point"]), "0");
    let capped = Terms {
        limit: Some(text(&given["limit"]).to_owned()),
        ..bilateral.clone()
    };
    let issuer = network.partner(&format!("issuer-{name}"), capped).await;
    let shop = network.partner(&format!("shop-{name}"), bilateral).await;
    let member = network.member().await;
    issuer.earn(&member, "all", minor("1000.00")).await;
    assert_eq!(text(&given["funds"]), "0.00");
    (issuer, shop, member)
}

/// What each step of the limit scenario spends, in points worth a minor unit each.
fn limit_steps() -> Vec<(i64, String)> {
    let golden = golden!("limit_within_a_batch");
    let steps = golden["steps"].as_array().expect("steps").iter();
    steps
        .map(|step| {
            (
                minor(text(&step["redeem_of_issuer"])),
                text(&step["expect"]).to_owned(),
            )
        })
        .collect()
}

async fn assert_limit_position(network: &Network, issuer: &Partner) {
    let position = micros(text(&golden!("limit_within_a_batch")["expect"]["position"]));
    assert_eq!(network.nets("").await.get(&issuer.id), Some(&position));
    let headroom = headroom(issuer).await;
    assert_eq!(headroom.position_micros, position);
    let limit = headroom.limit_micros.expect("there is a limit");
    assert_eq!(headroom.headroom_micros, Some(limit + position));
}

/// All three at once, so that they land in one batch, in every order; each time exactly one is
/// posted, and never the one that alone is too large.
async fn limit_at_once(network: &Network) {
    let steps = limit_steps();
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for (round, order) in orders.into_iter().enumerate() {
        let (issuer, shop, member) = limited(network, &round.to_string()).await;
        let answers = join_all(order.map(|step| {
            let (shop, member, points) = (&shop, &member, steps[step].0);
            async move {
                (
                    points,
                    shop.try_redeem(member, &format!("c{step}"), points).await,
                )
            }
        }))
        .await;
        let (posted, declined): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|(_, answer)| answer.is_ok());
        let posted: Vec<i64> = posted.into_iter().map(|(points, _)| points).collect();
        assert_eq!(posted, [steps[0].0], "in the order {order:?}");
        for (_, refusal) in declined {
            refusal
                .expect_err("sorted out above")
                .assert_declined("LIMIT_EXCEEDED");
        }
        assert_limit_position(network, &issuer).await;
    }
}

async fn limit_one_by_one(network: &Network) {
    let (issuer, shop, member) = limited(network, "one-by-one").await;
    for (place, (points, expect)) in limit_steps().into_iter().enumerate() {
        match shop.try_redeem(&member, &format!("c{place}"), points).await {
            Ok(_) => assert_eq!(expect, "POSTED"),
            Err(refusal) => assert_eq!(refusal.assert_declined(&expect).reason, expect),
        }
    }
    assert_limit_position(network, &issuer).await;
}

/// The refund of the first gives its headroom back, which the second then uses.
async fn limit_with_a_refund_between(network: &Network) {
    let (issuer, shop, member) = limited(network, "refund").await;
    let steps = limit_steps();
    shop.redeem(&member, "c0", steps[0].0).await;
    shop.refund("c0", steps[0].0).await;
    shop.redeem(&member, "c1", steps[1].0).await;
    assert_limit_position(network, &issuer).await;
}

async fn spend_across_issuers(network: &Network) {
    let golden = golden!("spend_across_issuers");
    let terms = terms::settle_at_redemption("EUR", "0.01", "0.008");
    let codes = Value::from(vec!["a", "b", "c", "shop"]);
    let partners = partners(network, &codes, &terms).await;
    for (place, case) in golden["cases"]
        .as_array()
        .expect("cases")
        .iter()
        .enumerate()
    {
        let (member, check) = (network.member().await, format!("case-{place}"));
        for (issuer, points) in pairs(&case["lots"]) {
            partners[&issuer].earn(&member, &check, points).await;
        }
        let wanted = number(&case["redeem"]);
        let before = network.nets("").await;
        match (
            &case["expect"],
            partners["shop"].try_redeem(&member, &check, wanted).await,
        ) {
            (Value::Array(_), Ok(spent)) => {
                assert_eq!(by_issuer(&spent.slices, &partners), pairs(&case["expect"]));
            }
            (Value::String(words), Err(refusal)) => {
                let (reason, nothing_moved) =
                    words.split_once(", ").expect("a reason and a remark");
                assert_eq!(nothing_moved, "nothing moved");
                let held: i64 = pairs(&case["lots"]).iter().map(|(_, points)| points).sum();
                assert_eq!(
                    refusal.assert_declined(reason).fact("balance"),
                    held.to_string()
                );
                assert_eq!(network.nets("").await, before);
                // Everything the member had is still there, and can be spent.
                partners["shop"]
                    .redeem(&member, &format!("{check}-less"), held)
                    .await;
            }
            (expect, answer) => panic!("expected {expect}, got {answer:?}"),
        }
    }
}

async fn shares(network: &Network) {
    let golden = golden!("shares");
    for (place, case) in golden["cases"]
        .as_array()
        .expect("cases")
        .iter()
        .enumerate()
    {
        let weights: Vec<i32> = case["shares"]
            .as_array()
            .expect("shares")
            .iter()
            .map(|share| weight(text(share)))
            .collect();
        let mut funders = Vec::new();
        for funder in 1..weights.len() {
            let code = format!("funder-{place}-{funder}");
            funders.push(network.partner(&code, terms::bare("EUR")).await.id);
        }
        // The earning partner is the first named.
        let code = format!("shop-{place}");
        let shop = network.newcomer(&code).await;
        funders.insert(0, shop.clone());
        let joint = Terms {
            funders: funders
                .iter()
                .zip(&weights)
                .map(|(id, weight)| terms::funder(id, *weight))
                .collect(),
            ..terms::bare("EUR")
        };
        let shop = network.trading(&shop, &code, joint).await;

        let points = number(&case["points"]);
        let expected: Vec<(String, i64)> = case["expect"]
            .as_array()
            .expect("expect")
            .iter()
            .zip(&funders)
            .map(|(share, funder)| (funder.clone(), number(share)))
            // Nobody issues a lot of nothing.
            .filter(|(_, share)| *share > 0)
            .collect();
        let given = |slices: &[LotSlice]| -> Vec<(String, i64)> {
            slices
                .iter()
                .map(|slice| (slice.issuer.clone(), slice.points))
                .collect()
        };
        let quote = earn::QuoteRequest {
            amounts: Some(CheckAmounts {
                gross: Some(money("EUR", points)),
                ..CheckAmounts::default()
            }),
            ..earn::QuoteRequest::default()
        };
        assert_eq!(given(&shop.till.ask(quote).await.slices), expected);
        let member = network.member().await;
        let earned = shop.earn(&member, "check", points).await;
        assert_eq!(
            (earned.points_earned, given(&earned.lots)),
            (points, expected)
        );
    }
}

async fn prepaid_block(network: &Network) {
    let golden = golden!("prepaid_block");
    let given = &golden["given"];
    let agreement = &given["agreement"];
    assert_eq!(
        (&agreement["preset"], &agreement["limit"]),
        (&"prepaid".into(), &"0.00".into())
    );
    let currency = text(&given["currency"]);
    let terms = Terms {
        alert_below_points: number(&agreement["alert_below_points"]),
        ..terms::prepaid(
            currency,
            text(&agreement["issue_price_per_point"]),
            "0.0080",
        )
    };
    let partner = network.partner(text(&agreement["partner"]), terms).await;
    let member = network.member().await;

    // Without funds there is nothing to earn.
    let nothing = partner
        .till
        .refused(partner.earning(&member, "too-early", 1))
        .await;
    nothing.assert_declined("LIMIT_EXCEEDED");
    let funding = minor(text(&given["funding"]));
    let deposit = RecordFundingRequest {
        request_id: request_id(),
        partner_id: partner.id.clone(),
        amount: Some(money(currency, funding)),
        direction: FundingDirection::Deposit.into(),
        bank_reference: "SEPA-1".to_owned(),
    };
    let recorded = network
        .maker
        .ask(deposit)
        .await
        .headroom
        .expect("the headroom after it");
    assert_eq!(
        recorded.headroom_micros,
        Some(micros(text(&given["funding"])))
    );
    assert!(!recorded.below_alert_points);

    for (place, step) in golden["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .enumerate()
    {
        let expect = &step["expect"];
        let earning = partner.earning(&member, &format!("c{place}"), number(&step["earn_points"]));
        let answer = partner.till.call(earning).await;
        match expect["declined"].as_str() {
            None => assert_eq!(
                answer.expect("it is posted").points_earned,
                number(&step["earn_points"])
            ),
            Some(reason) => {
                answer.expect_err("it is declined").assert_declined(reason);
            }
        }
        let headroom = headroom(&partner).await;
        if let Some(left) = expect["headroom"].as_str() {
            assert_eq!(
                headroom.headroom_micros,
                Some(micros(left)),
                "after step {place}"
            );
        }
        if let Some(alert) = expect["alert"].as_bool() {
            assert_eq!(headroom.below_alert_points, alert, "after step {place}");
        }
    }
}
