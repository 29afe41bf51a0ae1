//! What a caller is told when something is not done: code, reason and facts for programs, a line for
//! the cashier, the fields at fault. Nothing moves, whatever it was.

use coalition_proto::common::{Channel, Money, PosContext};
use coalition_proto::earn::{self, CheckAmounts, EarnRequest, ReturnEarnRequest};
use coalition_proto::partner::{Leg, LegBasis, LegParty, LegTrigger, PartyRole, Terms, leg_party};
use coalition_proto::redeem::{self, RedeemRequest};
use coalition_proto::settlement::{GetHeadroomRequest, ListPostingsRequest};
use coalition_tests::figures::{later, money, time};
use coalition_tests::network::START;
use coalition_tests::{Network, both_engines, request_id, terms};
use tonic::Code;

use crate::sale::{refunding_transaction, returning_transaction};

both_engines!(
    the_books_say_no,
    what_remains_is_told,
    fields_that_break_their_rule_are_named,
    declines_are_remembered,
    terms_are_checked,
);

async fn the_books_say_no(network: &Network) {
    let cafe = network
        .partner("cafe", terms::settle_at_issue("EUR", "0.01", "0.008"))
        .await;
    let member = network.member().await;
    cafe.earn(&member, "c-1", 100).await;
    let before = (
        network.nets("").await,
        network.verify().await.summary.postings,
    );

    // More than there is.
    let refusal = cafe
        .try_redeem(&member, "r-1", 101)
        .await
        .expect_err("100 are there");
    assert_eq!(
        refusal
            .assert_declined("INSUFFICIENT_POINTS")
            .fact("balance"),
        "100"
    );
    // A partner whose terms nobody has agreed to.
    let newcomer = network.newcomer("newcomer").await;
    let till = network.till(&newcomer);
    till.refused(cafe.earning(&member, "n-1", 100))
        .await
        .assert_declined("NO_AGREEMENT_IN_FORCE");
    till.refused(cafe.redeeming(&member, "n-1", 10))
        .await
        .assert_declined("NO_AGREEMENT_IN_FORCE");
    // Another currency than the agreement's, or two in one check.
    let dollars = EarnRequest {
        amounts: Some(CheckAmounts {
            gross: Some(money("USD", 100)),
            ..CheckAmounts::default()
        }),
        ..cafe.earning(&member, "c-2", 0)
    };
    let refusal = cafe.till.refused(dollars).await;
    refusal
        .assert(Code::InvalidArgument, "CURRENCY_MISMATCH")
        .assert_cashier();
    let mixed = CheckAmounts {
        gross: Some(money("EUR", 100)),
        discounts: Some(money("USD", 10)),
        ..CheckAmounts::default()
    };
    let mixed = EarnRequest {
        amounts: Some(mixed),
        ..cafe.earning(&member, "c-2", 0)
    };
    cafe.till
        .refused(mixed)
        .await
        .assert(Code::InvalidArgument, "CURRENCY_MISMATCH");
    let total = RedeemRequest {
        check_total: Some(money("USD", 1)),
        ..cafe.redeeming(&member, "r-2", 1)
    };
    cafe.till
        .refused(total)
        .await
        .assert(Code::InvalidArgument, "CURRENCY_MISMATCH");
    let returned = ReturnEarnRequest {
        returned: Some(money("USD", 1)),
        ..cafe.returning("c-1", 1)
    };
    cafe.till
        .refused(returned)
        .await
        .assert(Code::InvalidArgument, "CURRENCY_MISMATCH");
    // A till whose clock is wrong: more than five minutes ahead, or more than seven days behind.
    let now = time(START);
    for (seconds, fine) in [
        (301, false),
        (300, true),
        (-604_800, true),
        (-604_801, false),
    ] {
        let context = PosContext {
            occurred_at: Some(later(&now, seconds)),
            check_id: format!("t{seconds}"),
            ..PosContext::default()
        };
        let earning = EarnRequest {
            context: Some(context),
            ..cafe.earning(&member, "", 0)
        };
        match cafe.till.call(earning).await {
            // Before the agreement was in force, there is none.
            Err(refusal) if fine && seconds < 0 => {
                refusal.assert_declined("NO_AGREEMENT_IN_FORCE");
            }
            Ok(earned) => assert!(fine && earned.points_earned == 0, "{seconds}"),
            Err(refusal) => {
                assert!(!fine, "{seconds}: {refusal}");
                refusal
                    .assert(Code::InvalidArgument, "OCCURRED_AT_OUT_OF_RANGE")
                    .assert_cashier();
            }
        }
    }
    // Deductions larger than the check.
    let negative = CheckAmounts {
        gross: Some(money("EUR", 100)),
        discounts: Some(money("EUR", 101)),
        ..CheckAmounts::default()
    };
    let negative = EarnRequest {
        amounts: Some(negative),
        ..cafe.earning(&member, "c-3", 0)
    };
    assert_eq!(
        cafe.till.refused(negative).await.code,
        Code::InvalidArgument
    );
    // Members and originals that are not there.
    let nobody = network.member().await.replace("mem_0", "mem_1");
    let refusal = cafe.till.refused(cafe.earning(&nobody, "c-4", 100)).await;
    refusal.assert(Code::NotFound, "NOT_FOUND").assert_cashier();
    cafe.till
        .refused(cafe.redeeming(&nobody, "r-4", 1))
        .await
        .assert(Code::NotFound, "NOT_FOUND");
    cafe.till
        .refused(cafe.returning("no-such-check", 1))
        .await
        .assert(Code::NotFound, "NOT_FOUND");
    cafe.till
        .refused(cafe.refunding("no-such-check", 1))
        .await
        .assert(Code::NotFound, "NOT_FOUND");

    let after = (
        network.nets("").await,
        network.verify().await.summary.postings,
    );
    assert_eq!(
        (after.0, after.1 - 1),
        before,
        "only the check that earned nothing was posted"
    );
}

async fn what_remains_is_told(network: &Network) {
    let cafe = network
        .partner("cafe", terms::settle_at_issue("EUR", "0.01", "0.008"))
        .await;
    let member = network.member().await;
    let earned = cafe.earn(&member, "c-1", 1_000).await.transaction_id;
    let spent = cafe.redeem(&member, "r-1", 500).await.transaction_id;

    cafe.take_back("c-1", 300).await;
    let refusal = cafe
        .till
        .refused(returning_transaction(&cafe, &earned, 701))
        .await;
    refusal.assert_declined("RETURN_EXCEEDS_CHECK");
    assert!(
        refusal.metadata.values().any(|fact| fact == "700"),
        "what remains: {refusal}"
    );
    cafe.till
        .ask(returning_transaction(&cafe, &earned, 700))
        .await;
    let refusal = cafe
        .till
        .refused(returning_transaction(&cafe, &earned, 1))
        .await;
    assert_eq!(refusal.code, Code::FailedPrecondition);

    cafe.refund("r-1", 200).await;
    let refusal = cafe
        .till
        .refused(refunding_transaction(&cafe, &spent, 301))
        .await;
    refusal.assert_declined("REFUND_EXCEEDS_REDEMPTION");
    assert!(
        refusal.metadata.values().any(|fact| fact == "300"),
        "what remains: {refusal}"
    );
    cafe.till
        .ask(refunding_transaction(&cafe, &spent, 300))
        .await;
    let refusal = cafe
        .till
        .refused(refunding_transaction(&cafe, &spent, 1))
        .await;
    assert_eq!(refusal.code, Code::FailedPrecondition);

    // An earn is no redemption, nor the other way round.
    let refusal = cafe
        .till
        .refused(refunding_transaction(&cafe, &earned, 1))
        .await;
    assert!(
        matches!(refusal.code, Code::NotFound | Code::InvalidArgument),
        "{refusal}"
    );
    let refusal = cafe
        .till
        .refused(returning_transaction(&cafe, &spent, 1))
        .await;
    assert!(
        matches!(refusal.code, Code::NotFound | Code::InvalidArgument),
        "{refusal}"
    );
}

/// Security rows 23, 26, 28, 29, 33, 36: each names the field, and nothing is kept.
async fn fields_that_break_their_rule_are_named(network: &Network) {
    let cafe = network.partner("cafe", terms::bare("EUR")).await;
    let member = network.member().await;
    let before = network.verify().await.summary;
    let base = || cafe.earning(&member, "c", 100);
    let context = |context: PosContext| EarnRequest {
        context: Some(context),
        ..base()
    };
    let gross = |amount: Money| EarnRequest {
        amounts: Some(CheckAmounts {
            gross: Some(amount),
            ..CheckAmounts::default()
        }),
        ..base()
    };
    let long = "x".repeat(65);
    let on = |check: &str| PosContext {
        check_id: check.to_owned(),
        ..PosContext::default()
    };
    let rows = [
        (
            "request_id",
            EarnRequest {
                request_id: String::new(),
                ..base()
            },
        ),
        (
            "request_id",
            EarnRequest {
                request_id: "17".to_owned(),
                ..base()
            },
        ),
        (
            "member",
            EarnRequest {
                member: None,
                ..base()
            },
        ),
        (
            "member_id",
            EarnRequest {
                member: Some(earn::earn_request::Member::MemberId(cafe.id.clone())),
                ..base()
            },
        ),
        (
            "context",
            EarnRequest {
                context: None,
                ..base()
            },
        ),
        ("context.check_id", context(on(""))),
        ("context.check_id", context(on(&long))),
        ("context.check_id", context(on("a\0b"))),
        (
            "context.location",
            context(PosContext {
                location: "a\0b".to_owned(),
                ..on("c")
            }),
        ),
        (
            "context.business_date",
            context(PosContext {
                business_date: "1.1.26".to_owned(),
                ..on("c")
            }),
        ),
        (
            "context.channel",
            context(PosContext {
                channel: Some(Channel::Unspecified.into()),
                ..on("c")
            }),
        ),
        (
            "context.channel",
            context(PosContext {
                channel: Some(99),
                ..on("c")
            }),
        ),
        (
            "context.occurred_at",
            context(PosContext {
                occurred_at: Some(prost_types::Timestamp {
                    seconds: 253_402_300_800,
                    nanos: 0,
                }),
                ..on("c")
            }),
        ),
        (
            "context.occurred_at",
            context(PosContext {
                occurred_at: Some(prost_types::Timestamp {
                    seconds: 0,
                    nanos: 1_000_000_000,
                }),
                ..on("c")
            }),
        ),
        (
            "amounts",
            EarnRequest {
                amounts: None,
                ..base()
            },
        ),
        ("amounts.gross.amount", gross(money("EUR", -1))),
        ("amounts.gross.amount", gross(money("EUR", i64::MAX))),
        ("amounts.gross.currency_code", gross(money("eur", 1))),
    ];
    let count = rows.len();
    for (field, request) in rows {
        let refusal = cafe.till.refused(request).await;
        refusal.assert(Code::InvalidArgument, "INVALID_ARGUMENT");
        assert!(
            refusal.fields.iter().any(|found| found == field),
            "{field} is not in {refusal}"
        );
    }
    // A code that looks like a currency, and is none.
    assert_eq!(
        cafe.till.refused(gross(money("XYZ", 1))).await.code,
        Code::InvalidArgument
    );
    for points in [0, -1, i64::MAX, i64::MIN] {
        let refusal = cafe
            .till
            .refused(cafe.redeeming(&member, "r", points))
            .await;
        refusal.assert(Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(refusal.fields, ["points"], "{points}");
    }
    let amount = redeem::QuoteRequest {
        member: Some(redeem::quote_request::Member::MemberId(member.clone())),
        ask: Some(redeem::quote_request::Ask::AmountDue(money("EUR", 0))),
        ..redeem::QuoteRequest::default()
    };
    assert_eq!(cafe.till.refused(amount).await.code, Code::InvalidArgument);
    let page = ListPostingsRequest {
        page_size: -1,
        ..ListPostingsRequest::default()
    };
    assert_eq!(network.viewer.refused(page).await.fields, ["page_size"]);
    let page = ListPostingsRequest {
        page_size: 1_000_000_000,
        ..ListPostingsRequest::default()
    };
    network.viewer.ask(page).await;
    // Operators act for somebody, and say for whom.
    let refusal = network.maker.refused(base()).await;
    assert_eq!(
        refusal
            .assert(Code::InvalidArgument, "INVALID_ARGUMENT")
            .fields,
        ["partner_id"]
    );
    let refusal = network.viewer.refused(GetHeadroomRequest::default()).await;
    assert_eq!(
        refusal
            .assert(Code::InvalidArgument, "INVALID_ARGUMENT")
            .fields,
        ["partner_id"]
    );
    assert_eq!(
        network.verify().await.summary,
        before,
        "{count} inputs, and nothing was kept"
    );
}

/// A decline is an outcome like any other: recorded, found again, and the same for ever.
async fn declines_are_remembered(network: &Network) {
    let cafe = network
        .partner("cafe", terms::settle_at_redemption("EUR", "0.01", "0.008"))
        .await;
    let member = network.member().await;
    cafe.earn(&member, "c-1", 100).await;
    let spending = cafe.redeeming(&member, "r-1", 150);
    let first = cafe.till.refused(spending.clone()).await;
    first.assert_declined("INSUFFICIENT_POINTS");
    // Points come in; the request that was declined stays declined.
    cafe.earn(&member, "c-2", 100).await;
    let again = cafe.till.refused(spending.clone()).await;
    assert_eq!((again.code, &again.reason), (first.code, &first.reason));
    assert_eq!(again.fact("balance"), "100", "as it was then");

    let look = redeem::GetTransactionRequest {
        key: Some(redeem::get_transaction_request::Key::RequestId(
            spending.request_id.clone(),
        )),
        ..redeem::GetTransactionRequest::default()
    };
    let found = cafe
        .till
        .ask(look)
        .await
        .transaction
        .expect("the record of the decline");
    assert_eq!(found.outcome, 2, "declined");
    assert_eq!(found.decline_reason().as_reason(), "INSUFFICIENT_POINTS");
    assert_eq!((found.points, found.window_id.as_str()), (0, ""));
    assert!(found.slices.is_empty());
    assert_eq!(found.check_id, "r-1");

    // Nothing to undo.
    let undo = redeem::ReverseByReferenceRequest {
        request_id: request_id(),
        original_request_id: spending.request_id,
        ..redeem::ReverseByReferenceRequest::default()
    };
    cafe.till
        .refused(undo)
        .await
        .assert_declined("ORIGINAL_WAS_DECLINED");
    // The number of a declined check is still free.
    assert_eq!(cafe.redeem(&member, "r-1", 150).await.points, 150);
    // What was refunded whole leaves nothing to reverse.
    let spending = cafe.redeeming(&member, "r-2", 50);
    cafe.till.ask(spending.clone()).await;
    cafe.refund("r-2", 50).await;
    let undo = redeem::ReverseByReferenceRequest {
        request_id: request_id(),
        original_request_id: spending.request_id,
        ..redeem::ReverseByReferenceRequest::default()
    };
    cafe.till
        .refused(undo)
        .await
        .assert_declined("ALREADY_REVERSED");
}

/// Security row 27 and what contradicts itself: terms are refused with the field named.
async fn terms_are_checked(network: &Network) {
    let partner = network.newcomer("cafe").await;
    let leg = |rate: &str| Leg {
        trigger: LegTrigger::Redeem.into(),
        from: Some(LegParty {
            party: Some(leg_party::Party::Role(PartyRole::Issuer.into())),
        }),
        to: Some(LegParty {
            party: Some(leg_party::Party::Role(PartyRole::Redeemer.into())),
        }),
        basis: LegBasis::PerPoint.into(),
        rate: rate.to_owned(),
        ..Leg::default()
    };
    let legs = |leg: Leg| Terms {
        legs: vec![leg],
        ..terms::bare("EUR")
    };
    let sixty = "1".repeat(60);
    let mut rows = vec![
        ("terms.currency_code", terms::bare("EURO")),
        (
            "terms.lot_lifetime_days",
            Terms {
                lot_lifetime_days: 0,
                ..terms::bare("EUR")
            },
        ),
        (
            "terms.pending_days",
            Terms {
                pending_days: 365,
                ..terms::bare("EUR")
            },
        ),
        (
            "terms.legs[0].to",
            legs(Leg {
                to: leg("1").from,
                ..leg("1")
            }),
        ),
        (
            "terms.legs[0].max",
            legs(Leg {
                min: Some("2".into()),
                max: Some("1".into()),
                ..leg("1")
            }),
        ),
        (
            "terms.funders[1].party",
            Terms {
                funders: vec![terms::funder(&partner, 1), terms::funder(&partner, 1)],
                ..terms::bare("EUR")
            },
        ),
        (
            "terms.funders[0].weight",
            Terms {
                funders: vec![terms::funder(&partner, 0)],
                ..terms::bare("EUR")
            },
        ),
    ];
    for rate in [
        "NaN",
        "1e9",
        "1,00",
        "-1",
        "0.0000000000001",
        "01",
        "",
        &sixty,
    ] {
        rows.push(("terms.legs[0].rate", legs(leg(rate))));
    }
    for (field, terms) in rows {
        let refusal = network.maker.refused(propose(&partner, terms)).await;
        assert_eq!(refusal.code, Code::InvalidArgument, "{refusal}");
        assert!(
            ["INVALID_ARGUMENT", "AGREEMENT_INVALID"].contains(&refusal.reason.as_str()),
            "{refusal}"
        );
        assert!(
            refusal.fields.iter().any(|found| found == field),
            "{field} is not in {refusal}"
        );
    }
    // A currency the network has no face value for, and a party that is not in it.
    let refusal = network
        .maker
        .refused(propose(&partner, terms::bare("CHF")))
        .await;
    refusal.assert(Code::InvalidArgument, "AGREEMENT_INVALID");
    let stranger = partner.replace("ptr_0", "ptr_1");
    let unknown = Terms {
        funders: vec![terms::funder(&stranger, 1)],
        ..terms::bare("EUR")
    };
    let refusal = network.maker.refused(propose(&partner, unknown)).await;
    assert_eq!(refusal.code, Code::InvalidArgument, "{refusal}");
}

fn propose(partner: &str, terms: Terms) -> coalition_proto::partner::ProposeAgreementRequest {
    coalition_proto::partner::ProposeAgreementRequest {
        request_id: request_id(),
        partner_id: partner.to_owned(),
        terms: Some(terms),
        ..coalition_proto::partner::ProposeAgreementRequest::default()
    }
}
