//! A sale, call by call: quote, redeem, earn, and everything that can be undone, with every field of
//! every answer. What a till may rely on when it repeats itself stands in `retries`, what it is told
//! when something is declined in `declines`.

use coalition_proto::common::{
    Balance, Channel, ErrorReason, LotSlice, PosContext, Transaction, TransactionKind,
    TransactionOutcome,
};
use coalition_proto::earn::{self, CheckAmounts, EarnRequest, ReturnEarnRequest};
use coalition_proto::member::GetBalanceRequest;
use coalition_proto::partner::{ReturnPolicy, Terms};
use coalition_proto::redeem::{self, RedeemRequest, RefundRedemptionRequest};
use coalition_proto::settlement::GetOpenWindowRequest;
use coalition_tests::figures::{DAY_S, later, money, time};
use coalition_tests::network::START;
use coalition_tests::{Network, Partner, both_engines, request_id, terms};

both_engines!(
    a_sale_and_everything_undone,
    the_basis_is_what_the_agreement_says,
    points_expire_and_come_back_expired,
    points_wait_before_they_can_be_spent,
    what_was_spent_is_owed_or_forgiven,
);

/// Two points per euro.
fn two_per_euro() -> Terms {
    Terms {
        points_per_unit: "2".to_owned(),
        ..terms::settle_at_issue("EUR", "0.01", "0.008")
    }
}

async fn a_sale_and_everything_undone(network: &Network) {
    let cafe = network.partner("cafe", two_per_euro()).await;
    let salon = network.partner("salon", two_per_euro()).await;
    let member = network.member().await;
    let window = network
        .viewer
        .ask(GetOpenWindowRequest {})
        .await
        .window
        .expect("one is open")
        .window_id;
    let now = time(START);
    let expires = later(&now, i64::from(terms::LIFETIME_DAYS) * DAY_S);

    // What would the check earn? 12.50 less a euro off, half a euro by gift card, a euro in points.
    let amounts = CheckAmounts {
        gross: Some(money("EUR", 1_250)),
        discounts: Some(money("EUR", 100)),
        tax: Some(money("EUR", 238)),
        tip: Some(money("EUR", 150)),
        gift_card: Some(money("EUR", 50)),
        paid_with_points: Some(money("EUR", 100)),
    };
    let quote = earn::QuoteRequest {
        member: Some(earn::quote_request::Member::MemberId(member.clone())),
        amounts: Some(amounts.clone()),
        ..earn::QuoteRequest::default()
    };
    let quoted = cafe.till.ask(quote.clone()).await;
    assert_eq!(
        (quoted.points, quoted.basis),
        (20, Some(money("EUR", 1_000)))
    );
    let slice = LotSlice {
        lot_id: String::new(),
        issuer: cafe.id.clone(),
        points: 20,
        expires_at: Some(expires),
        agreement_id: cafe.agreement.clone(),
    };
    assert_eq!(quoted.slices, [slice]);
    assert_eq!(quoted.agreement_id, cafe.agreement);
    assert_eq!(quoted.balance, Some(Balance::default()));
    let nobody = earn::QuoteRequest {
        member: None,
        ..quote
    };
    assert_eq!(cafe.till.ask(nobody).await.balance, None);

    // Earn.
    let context = PosContext {
        location: "berlin-mitte".to_owned(),
        terminal: "till-3".to_owned(),
        operator_ref: "waiter-7".to_owned(),
        shift_ref: "evening".to_owned(),
        business_date: "2026-01-01".to_owned(),
        channel: Some(Channel::InStore.into()),
        check_id: "check-1".to_owned(),
        ..PosContext::default()
    };
    let earning = EarnRequest {
        amounts: Some(amounts),
        context: Some(context.clone()),
        ..cafe.earning(&member, "check-1", 0)
    };
    let earned = cafe.till.ask(earning.clone()).await;
    assert!(earned.transaction_id.starts_with("txn_"));
    assert!(!earned.replayed);
    assert_eq!((earned.points_earned, earned.points_repaid_debt), (20, 0));
    let [lot] = &earned.lots[..] else {
        panic!("one issuer, one lot: {:?}", earned.lots)
    };
    assert!(lot.lot_id.starts_with("lot_"));
    assert_eq!(
        (&lot.issuer, lot.points, lot.expires_at),
        (&cafe.id, 20, Some(expires))
    );
    assert_eq!(lot.agreement_id, cafe.agreement);
    let full = Balance {
        balance: 20,
        available: 20,
        next_expiry_time: Some(expires),
        next_expiry_points: 20,
        ..Balance::default()
    };
    assert_eq!(earned.balance, Some(full));
    assert_eq!((earned.posted_at, &earned.window_id), (Some(now), &window));
    assert_receipt(&earned.receipt_lines, "20");

    let by_id = earn::GetTransactionRequest {
        key: Some(earn::get_transaction_request::Key::TransactionId(
            earned.transaction_id.clone(),
        )),
        ..earn::GetTransactionRequest::default()
    };
    let found = cafe
        .till
        .ask(by_id)
        .await
        .transaction
        .expect("the transaction");
    let expected = Transaction {
        transaction_id: earned.transaction_id.clone(),
        kind: TransactionKind::Earn.into(),
        outcome: TransactionOutcome::Posted.into(),
        decline_reason: ErrorReason::Unspecified.into(),
        member_id: member.clone(),
        partner_id: cafe.id.clone(),
        check_id: "check-1".to_owned(),
        location: "berlin-mitte".to_owned(),
        terminal: "till-3".to_owned(),
        occurred_at: Some(now),
        posted_at: Some(now),
        window_id: window.clone(),
        points: 20,
        amount: Some(money("EUR", 1_000)),
        agreement_id: cafe.agreement.clone(),
        balance: Some(full),
        slices: vec![lot.clone()],
        ..Transaction::default()
    };
    assert_eq!(found, expected);
    let by_request = earn::GetTransactionRequest {
        key: Some(earn::get_transaction_request::Key::RequestId(
            earning.request_id.clone(),
        )),
        ..earn::GetTransactionRequest::default()
    };
    let expected = Transaction {
        request_id: earning.request_id.clone(),
        ..expected
    };
    let found = cafe.till.ask(by_request).await.transaction;
    assert_eq!(found, Some(expected));

    // What may be spent at another partner, and for how much?
    let quote = redeem::QuoteRequest {
        member: Some(redeem::quote_request::Member::MemberId(member.clone())),
        ..redeem::QuoteRequest::default()
    };
    let most = salon.till.ask(quote.clone()).await;
    assert_eq!((most.max_points, most.points), (20, 20));
    assert_eq!(
        (most.max_value, most.value),
        (Some(money("EUR", 20)), Some(money("EUR", 20)))
    );
    assert_eq!(most.value_micros, 200_000);
    assert_eq!(most.slices, std::slice::from_ref(lot));
    assert_eq!(most.balance, Some(full));
    let some = redeem::QuoteRequest {
        ask: Some(redeem::quote_request::Ask::Points(15)),
        ..quote.clone()
    };
    let some = salon.till.ask(some).await;
    assert_eq!(
        (some.max_points, some.points, some.value_micros),
        (20, 15, 150_000)
    );
    assert_eq!(
        some.slices,
        [LotSlice {
            points: 15,
            ..lot.clone()
        }]
    );
    let due = redeem::quote_request::Ask::AmountDue(money("EUR", 7));
    let due = salon
        .till
        .ask(redeem::QuoteRequest {
            ask: Some(due),
            ..quote.clone()
        })
        .await;
    assert_eq!((due.points, due.value), (7, Some(money("EUR", 7))));
    let more = redeem::quote_request::Ask::AmountDue(money("EUR", 5_000));
    let more = salon
        .till
        .ask(redeem::QuoteRequest {
            ask: Some(more),
            ..quote
        })
        .await;
    assert_eq!((more.points, more.max_points), (20, 20));

    // Spend 15 there.
    let spending = RedeemRequest {
        check_total: Some(money("EUR", 4_000)),
        ..salon.redeeming(&member, "s-1", 15)
    };
    let spent = salon.till.ask(spending.clone()).await;
    assert!(
        spent.transaction_id.starts_with("txn_") && spent.transaction_id > earned.transaction_id
    );
    assert_eq!((spent.points, spent.replayed), (15, false));
    assert_eq!(
        (spent.value.clone(), spent.value_micros),
        (Some(money("EUR", 15)), 150_000)
    );
    assert_eq!(
        spent.slices,
        [LotSlice {
            points: 15,
            ..lot.clone()
        }]
    );
    assert_eq!(
        spent.balance,
        Some(Balance {
            balance: 5,
            available: 5,
            next_expiry_points: 5,
            ..full
        })
    );
    assert_eq!((spent.posted_at, &spent.window_id), (Some(now), &window));
    assert_receipt(&spent.receipt_lines, "15");

    // Half the goods come back: ten points, of which five are spent already and are owed now.
    let returned = cafe.take_back("check-1", 500).await;
    assert_eq!(
        (returned.points_clawed_back, returned.points_to_debt),
        (5, 5)
    );
    assert_eq!((returned.points_forgiven, returned.points_expired), (0, 0));
    assert_eq!(returned.basis_remaining, Some(money("EUR", 500)));
    assert_eq!(
        returned.balance,
        Some(Balance {
            balance: -5,
            debt: 5,
            ..Balance::default()
        })
    );
    assert_eq!(
        (returned.posted_at, &returned.window_id),
        (Some(now), &window)
    );
    assert_receipt(&returned.receipt_lines, "-5");

    // Four of the spent points are refunded, to the lot they came from.
    let refunded = salon.refund("s-1", 4).await;
    assert_eq!(
        (refunded.points_refunded, refunded.expired_on_return),
        (4, 0)
    );
    assert_eq!(
        refunded.restored,
        [LotSlice {
            points: 4,
            ..lot.clone()
        }]
    );
    assert_eq!(refunded.points_remaining, 11);
    let after = Balance {
        balance: -1,
        available: 4,
        debt: 5,
        next_expiry_time: Some(expires),
        next_expiry_points: 4,
        ..Balance::default()
    };
    assert_eq!(refunded.balance, Some(after));
    assert_receipt(&refunded.receipt_lines, "4");

    // The till lost the redemption's answer and gives up on it: the rest of it comes back.
    let undo = redeem::ReverseByReferenceRequest {
        request_id: request_id(),
        original_request_id: spending.request_id.clone(),
        ..redeem::ReverseByReferenceRequest::default()
    };
    let undone = salon.till.ask(undo).await;
    assert_eq!(undone.original_transaction_id, spent.transaction_id);
    assert_eq!((undone.points_refunded, undone.expired_on_return), (11, 0));
    assert_eq!(
        undone.restored,
        [LotSlice {
            points: 11,
            ..lot.clone()
        }]
    );
    let after = Balance {
        balance: 10,
        available: 15,
        next_expiry_points: 15,
        ..after
    };
    assert_eq!(undone.balance, Some(after));
    assert_receipt(&undone.receipt_lines, "11");

    // And of the earn: what is left of the check's ten points goes, and nobody owes anybody.
    let undo = earn::ReverseByReferenceRequest {
        request_id: request_id(),
        original_request_id: earning.request_id.clone(),
        ..earn::ReverseByReferenceRequest::default()
    };
    let undone = cafe.till.ask(undo).await;
    assert_eq!(undone.original_transaction_id, earned.transaction_id);
    assert_eq!((undone.points_clawed_back, undone.points_to_debt), (10, 0));
    assert_eq!((undone.points_forgiven, undone.points_expired), (0, 0));
    let after = undone.balance.expect("the balance after it");
    assert_eq!((after.balance, after.available, after.debt), (0, 5, 5));
    assert!(
        network.nets("").await.values().all(|net| *net == 0),
        "full reversal returns all money"
    );
    assert_eq!(network.assert_books_balance().await.summary.postings, 6);
}

/// Lines fit to print: few, short, and telling the figure that matters.
fn assert_receipt(lines: &[String], figure: &str) {
    assert!((1..=8).contains(&lines.len()), "{lines:?}");
    assert!(
        lines
            .iter()
            .all(|line| (1..=40).contains(&line.chars().count())),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|line| line.contains(figure)),
        "{figure} is not in {lines:?}"
    );
}

async fn the_basis_is_what_the_agreement_says(network: &Network) {
    let amounts = |gross: i64, rest: [i64; 5]| {
        let [discounts, tax, tip, gift_card, points] =
            rest.map(|amount| Some(money("EUR", amount)));
        CheckAmounts {
            gross: Some(money("EUR", gross)),
            discounts,
            tax,
            tip,
            gift_card,
            paid_with_points: points,
        }
    };
    // Who includes what, the check, and the basis that comes out.
    let rows = [
        (
            [false, false, false],
            amounts(1_000, [0, 190, 100, 200, 50]),
            750,
        ),
        (
            [true, false, false],
            amounts(1_000, [0, 190, 100, 200, 50]),
            940,
        ),
        (
            [false, true, false],
            amounts(1_000, [0, 190, 100, 200, 50]),
            850,
        ),
        (
            [false, false, true],
            amounts(1_000, [0, 190, 100, 200, 50]),
            950,
        ),
        (
            [true, true, true],
            amounts(1_000, [400, 190, 100, 200, 50]),
            840,
        ),
        (
            [false, false, false],
            amounts(1_000, [1_000, 0, 0, 0, 0]),
            0,
        ),
        ([false, false, false], amounts(0, [0, 0, 0, 0, 0]), 0),
    ];
    let member = network.member().await;
    for (place, ([tax, tip, gift_cards], amounts, basis)) in rows.into_iter().enumerate() {
        let including = Terms {
            include_tax: tax,
            include_tip: tip,
            include_gift_cards: gift_cards,
            ..terms::bare("EUR")
        };
        let shop = network.partner(&format!("shop-{place}"), including).await;
        let quote = earn::QuoteRequest {
            amounts: Some(amounts.clone()),
            ..earn::QuoteRequest::default()
        };
        let quoted = shop.till.ask(quote).await;
        assert_eq!(
            (quoted.basis, quoted.points),
            (Some(money("EUR", basis)), basis),
            "row {place}"
        );
        let earning = EarnRequest {
            amounts: Some(amounts),
            ..shop.earning(&member, "c", 0)
        };
        let earned = shop.till.ask(earning).await;
        assert_eq!(earned.points_earned, basis, "row {place}");
        assert_eq!(earned.lots.len(), usize::from(basis > 0), "row {place}");
    }
    // Points are whole, and rounded down once per check.
    let shop = network.partner("by-the-unit", two_per_euro()).await;
    for (check, gross, points) in [("a", 150, 3), ("b", 149, 2), ("c", 49, 0), ("d", 50, 1)] {
        assert_eq!(
            shop.earn(&member, check, gross).await.points_earned,
            points,
            "{gross}"
        );
    }
}

async fn balance(network: &Network, member: &str) -> Balance {
    let request = GetBalanceRequest {
        member_id: member.to_owned(),
    };
    network
        .support
        .ask(request)
        .await
        .balance
        .expect("a balance")
}

async fn points_expire_and_come_back_expired(network: &Network) {
    let short = Terms {
        lot_lifetime_days: 10,
        ..terms::settle_at_redemption("EUR", "0.01", "0.008")
    };
    let cafe = network.partner("cafe", short).await;
    let salon = network
        .partner("salon", terms::settle_at_redemption("EUR", "0.01", "0.008"))
        .await;
    let member = network.member().await;
    cafe.earn(&member, "c-1", 100).await;
    salon.earn(&member, "c-2", 50).await;
    // The earliest to expire goes first, whoever issued it.
    let spent = salon.redeem(&member, "s-1", 120).await;
    let slices: Vec<(&str, i64)> = spent
        .slices
        .iter()
        .map(|slice| (slice.issuer.as_str(), slice.points))
        .collect();
    assert_eq!(slices, [(cafe.id.as_str(), 100), (salon.id.as_str(), 20)]);
    cafe.earn(&member, "c-3", 30).await;

    // A moment before, all is there; at the moment itself, what expires is not.
    network.set_clock("2026-01-10T23:59:59Z").await;
    assert_eq!(balance(network, &member).await.available, 60);
    network.set_clock("2026-01-11T00:00:00Z").await;
    let now = balance(network, &member).await;
    assert_eq!(
        (now.balance, now.available, now.next_expiry_points),
        (30, 30, 30)
    );
    let refusal = salon
        .try_redeem(&member, "s-2", 31)
        .await
        .expect_err("30 are left");
    assert_eq!(
        refusal
            .assert_declined("INSUFFICIENT_POINTS")
            .fact("balance"),
        "30"
    );

    // A refund unwinds from the end: 20 to the salon's lot, and 40 to the cafe's, which is over.
    let refunded = salon.refund("s-1", 60).await;
    assert_eq!(
        (refunded.points_refunded, refunded.expired_on_return),
        (60, 40)
    );
    let restored: Vec<(&str, i64)> = refunded
        .restored
        .iter()
        .map(|slice| (slice.issuer.as_str(), slice.points))
        .collect();
    assert_eq!(restored, [(salon.id.as_str(), 20), (cafe.id.as_str(), 40)]);
    assert_eq!(refunded.points_remaining, 60);
    assert_eq!(refunded.balance.expect("a balance").available, 50);

    // The cut expires what is due, and says so.
    let cut = network.cut().await;
    let window = cut.closed.expect("a window was closed").window_id;
    let rows = network.positions(&window).await;
    let expired: i64 = rows.iter().map(|row| row.points_expired).sum();
    assert_eq!(expired, 70, "40 as they came back, 30 by the sweep");
}

async fn points_wait_before_they_can_be_spent(network: &Network) {
    let waiting = Terms {
        pending_days: 7,
        ..terms::settle_at_issue("EUR", "0.01", "0.008")
    };
    let cafe = network.partner("cafe", waiting).await;
    let member = network.member().await;
    let earned = cafe
        .earn(&member, "c-1", 100)
        .await
        .balance
        .expect("a balance");
    assert_eq!(
        (earned.balance, earned.available, earned.pending),
        (0, 0, 100)
    );
    cafe.try_redeem(&member, "r-1", 1)
        .await
        .expect_err("not yet")
        .assert_declined("INSUFFICIENT_POINTS");
    // Some go back while they wait.
    let returned = cafe.take_back("c-1", 10).await;
    assert_eq!(
        (returned.points_clawed_back, returned.points_to_debt),
        (10, 0)
    );
    network.set_clock("2026-01-07T23:59:59Z").await;
    assert_eq!(balance(network, &member).await.pending, 90);
    network.set_clock("2026-01-08T00:00:00Z").await;
    let now = balance(network, &member).await;
    assert_eq!((now.balance, now.available, now.pending), (90, 90, 0));
    assert_eq!(cafe.redeem(&member, "r-2", 90).await.points, 90);
}

async fn what_was_spent_is_owed_or_forgiven(network: &Network) {
    let base = terms::settle_at_issue("EUR", "0.01", "0.008");
    let forgiving = Terms {
        return_policy: Some(ReturnPolicy::WithinBalance.into()),
        ..base.clone()
    };
    let cafe = network.partner("cafe", forgiving).await;
    let bistro = network.partner("bistro", base).await;
    let member = network.member().await;
    cafe.earn(&member, "c-1", 100).await;
    cafe.redeem(&member, "r-1", 70).await;
    let returned = cafe.take_back("c-1", 100).await;
    assert_eq!(
        (
            returned.points_clawed_back,
            returned.points_to_debt,
            returned.points_forgiven
        ),
        (30, 0, 70)
    );
    assert_eq!(returned.balance.expect("a balance").balance, 0);

    // The bistro does not forgive: the debt is repaid by what the member earns there next.
    let other = network.member().await;
    bistro.earn(&other, "b-1", 100).await;
    bistro.redeem(&other, "r-1", 70).await;
    let returned = bistro.take_back("b-1", 100).await;
    assert_eq!(
        (returned.points_clawed_back, returned.points_to_debt),
        (30, 70)
    );
    cafe.earn(&other, "c-2", 50).await;
    assert_eq!(
        balance(network, &other).await.balance,
        -20,
        "one issuer's points do not repay another"
    );
    let earned = bistro.earn(&other, "b-2", 100).await;
    assert_eq!((earned.points_earned, earned.points_repaid_debt), (100, 70));
    assert_eq!(earned.lots[0].points, 100);
    let after = earned.balance.expect("a balance");
    assert_eq!((after.balance, after.available, after.debt), (80, 80, 0));
}

/// A return of goods, by the transaction that earned.
pub(crate) fn returning_transaction(
    partner: &Partner,
    transaction: &str,
    amount: i64,
) -> ReturnEarnRequest {
    let original =
        earn::return_earn_request::Original::OriginalTransactionId(transaction.to_owned());
    ReturnEarnRequest {
        original: Some(original),
        ..partner.returning("", amount)
    }
}

/// A refund, by the transaction that redeemed.
pub(crate) fn refunding_transaction(
    partner: &Partner,
    transaction: &str,
    points: i64,
) -> RefundRedemptionRequest {
    let original =
        redeem::refund_redemption_request::Original::OriginalTransactionId(transaction.to_owned());
    RefundRedemptionRequest {
        original: Some(original),
        ..partner.refunding("", points)
    }
}
