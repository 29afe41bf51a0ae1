//! What a till may rely on when it repeats itself, or gives up: the same answer for ever, one
//! posting however often it is asked for, and an undo that also holds for what never arrived.

use std::collections::BTreeSet;

use coalition_proto::common::{Identifier, IdentifierType};
use coalition_proto::earn::EarnRequest;
use coalition_proto::member::{EnrollRequest, EnrollResponse};
use coalition_proto::partner::{
    AcceptAgreementRequest, AcceptAgreementResponse, CreatePartnerRequest, CreatePartnerResponse,
    PartnerKind, ProposeAgreementRequest, ProposeAgreementResponse, Terms,
};
use coalition_proto::sandbox::{
    AdvanceClockRequest, AdvanceClockResponse, SetClockRequest, SetClockResponse,
};
use coalition_proto::settlement::{
    ComputeSettlementRequest, ComputeSettlementResponse, CutWindowRequest, CutWindowResponse,
    FundingDirection, NettingMethod, RecordFundingRequest, RecordFundingResponse,
};
use coalition_proto::{earn, redeem};
use coalition_tests::figures::{money, time};
use coalition_tests::rpc::Rpc;
use coalition_tests::{Caller, Network, both_engines, request_id, terms};
use futures::future::join_all;
use tonic::Code;

both_engines!(
    every_write_answers_as_the_first_time,
    ids_of_partners_never_meet,
    an_undo_is_of_its_own_kind,
    a_check_counts_once,
    an_undo_holds_for_what_never_arrived,
    an_operator_undoes_what_a_till_asked_for,
    security_21_one_request_a_thousand_times_posts_once,
    security_25_racing_redemptions_never_overdraw,
    a_restart_forgets_nothing,
);

/// An answer that says whether it was given before.
trait Replays: PartialEq + std::fmt::Debug + Clone {
    fn replayed(&mut self) -> &mut bool;
}

macro_rules! replays {
    ($($answer:ty),* $(,)?) => {$(
        impl Replays for $answer {
            fn replayed(&mut self) -> &mut bool {
                &mut self.replayed
            }
        }
    )*};
}

replays!(
    earn::EarnResponse,
    earn::ReturnEarnResponse,
    earn::ReverseByReferenceResponse,
    redeem::RedeemResponse,
    redeem::RefundRedemptionResponse,
    redeem::ReverseByReferenceResponse,
    EnrollResponse,
    CreatePartnerResponse,
    ProposeAgreementResponse,
    AcceptAgreementResponse,
    CutWindowResponse,
    ComputeSettlementResponse,
    RecordFundingResponse,
    SetClockResponse,
    AdvanceClockResponse,
);

/// A write, asked for again: the same answer, marked as replayed. The same id on `other` content is
/// refused, and changes nothing about the first.
async fn repeats<R: Rpc>(caller: &Caller, request: R, other: R) -> R::Answer
where
    R::Answer: Replays,
{
    let mut first = caller.ask(request.clone()).await;
    assert!(!*first.replayed(), "{}", R::NAME);
    for _ in 0..2 {
        let mut again = caller.ask(request.clone()).await;
        assert!(
            std::mem::take(again.replayed()),
            "{} is not marked as replayed",
            R::NAME
        );
        assert_eq!(again, first, "{}", R::NAME);
        let refusal = caller.refused(other.clone()).await;
        refusal.assert(Code::AlreadyExists, "REQUEST_ID_REUSED");
    }
    first
}

/// With the first's id.
macro_rules! with_id {
    ($of:expr, $other:expr) => {{
        let mut other = $other;
        other.request_id.clone_from(&$of.request_id);
        other
    }};
}

async fn every_write_answers_as_the_first_time(network: &Network) {
    let cafe = network
        .partner("cafe", terms::settle_at_issue("EUR", "0.01", "0.008"))
        .await;
    let member = network.member().await;

    let earning = cafe.earning(&member, "c-1", 1_000);
    let earned = repeats(
        &cafe.till,
        earning.clone(),
        with_id!(earning, cafe.earning(&member, "c-1", 1_001)),
    )
    .await;
    let returning = cafe.returning("c-1", 100);
    repeats(
        &cafe.till,
        returning.clone(),
        with_id!(returning, cafe.returning("c-1", 101)),
    )
    .await;
    let redeeming = cafe.redeeming(&member, "r-1", 500);
    let redeemed = repeats(
        &cafe.till,
        redeeming.clone(),
        with_id!(redeeming, cafe.redeeming(&member, "r-2", 500)),
    )
    .await;
    let refunding = cafe.refunding("r-1", 50);
    let refunded = repeats(
        &cafe.till,
        refunding.clone(),
        with_id!(refunding, cafe.refunding("r-1", 51)),
    )
    .await;
    let undo = |original: &str| redeem::ReverseByReferenceRequest {
        request_id: request_id(),
        original_request_id: original.to_owned(),
        ..redeem::ReverseByReferenceRequest::default()
    };
    let undoing = undo(&redeeming.request_id);
    repeats(
        &cafe.till,
        undoing.clone(),
        with_id!(undoing, undo(&request_id())),
    )
    .await;
    let undo = |original: &str| earn::ReverseByReferenceRequest {
        request_id: request_id(),
        original_request_id: original.to_owned(),
        ..earn::ReverseByReferenceRequest::default()
    };
    let undoing = undo(&earning.request_id);
    repeats(
        &cafe.till,
        undoing.clone(),
        with_id!(undoing, undo(&request_id())),
    )
    .await;
    // One id is one request, whatever it asks for.
    let crossed = with_id!(earning, cafe.redeeming(&member, "r-9", 1));
    cafe.till
        .refused(crossed)
        .await
        .assert(Code::AlreadyExists, "REQUEST_ID_REUSED");

    let enrolling = |card: &str| EnrollRequest {
        request_id: request_id(),
        identifiers: vec![Identifier {
            r#type: IdentifierType::Card.into(),
            value: card.to_owned(),
        }],
    };
    let enrol = enrolling("4711");
    repeats(
        &network.maker,
        enrol.clone(),
        with_id!(enrol, enrolling("4712")),
    )
    .await;
    let creating = |code: &str| CreatePartnerRequest {
        request_id: request_id(),
        code: code.to_owned(),
        display_name: "New".to_owned(),
        kind: PartnerKind::Salon.into(),
    };
    let create = creating("new");
    let created = repeats(
        &network.maker,
        create.clone(),
        with_id!(create, creating("newer")),
    )
    .await;
    let partner = created.partner.expect("the partner").partner_id;
    let proposing = |terms: Terms| ProposeAgreementRequest {
        request_id: request_id(),
        partner_id: partner.clone(),
        terms: Some(terms),
        ..ProposeAgreementRequest::default()
    };
    let propose = proposing(Terms {
        limit: Some("0".to_owned()),
        ..terms::bare("EUR")
    });
    let other = with_id!(propose, proposing(terms::bare("USD")));
    let proposed = repeats(&network.maker, propose.clone(), other).await;
    let agreement = proposed.agreement.expect("the agreement");
    let accept = AcceptAgreementRequest {
        request_id: request_id(),
        agreement_id: agreement.agreement_id,
        etag: agreement.etag,
    };
    let other = AcceptAgreementRequest {
        etag: "another".to_owned(),
        ..accept.clone()
    };
    repeats(&network.office(&partner), accept, other).await;
    let fund = RecordFundingRequest {
        request_id: request_id(),
        partner_id: partner.clone(),
        amount: Some(money("EUR", 10_000)),
        direction: FundingDirection::Deposit.into(),
        bank_reference: "SEPA-1".to_owned(),
    };
    let other = RecordFundingRequest {
        amount: Some(money("EUR", 10_001)),
        ..fund.clone()
    };
    repeats(&network.maker, fund, other).await;

    let open = network
        .cut()
        .await
        .opened
        .expect("a window was opened")
        .window_id;
    let cut = CutWindowRequest {
        request_id: request_id(),
        expected_window_id: open,
    };
    let other = CutWindowRequest {
        expected_window_id: String::new(),
        ..cut.clone()
    };
    let window = repeats(&network.maker, cut, other)
        .await
        .closed
        .expect("a window was closed");
    let compute = ComputeSettlementRequest {
        request_id: request_id(),
        window_ids: vec![window.window_id],
        netting: NettingMethod::Multilateral.into(),
        validate_only: false,
    };
    let other = ComputeSettlementRequest {
        netting: NettingMethod::Gross.into(),
        ..compute.clone()
    };
    repeats(&network.maker, compute, other).await;
    let set = |text: &str| SetClockRequest {
        request_id: request_id(),
        time: Some(time(text)),
    };
    let setting = set("2026-02-01");
    repeats(
        &network.maker,
        setting.clone(),
        with_id!(setting, set("2026-02-02")),
    )
    .await;
    let advance = |seconds: i64| AdvanceClockRequest {
        request_id: request_id(),
        duration: Some(prost_types::Duration { seconds, nanos: 0 }),
    };
    let advancing = advance(60);
    let answer = repeats(
        &network.maker,
        advancing.clone(),
        with_id!(advancing, advance(61)),
    )
    .await;
    assert_eq!(
        answer.time,
        Some(time("2026-02-01T00:01:00Z")),
        "moved once, not three times"
    );

    // After all of that, and after everything has expired, the first answers are still the answers.
    network.set_clock("2028-01-01").await;
    network.cut().await;
    let mut late = cafe.till.ask(earning).await;
    assert!(std::mem::take(late.replayed()));
    assert_eq!(late, earned);
    let mut late = cafe.till.ask(redeeming).await;
    assert!(std::mem::take(late.replayed()));
    assert_eq!(late, redeemed);
    let mut late = cafe.till.ask(refunding).await;
    assert!(std::mem::take(late.replayed()));
    assert_eq!(late, refunded);
}

/// An earn is undone as an earn, a redemption as a redemption; returns and refunds are not undone.
async fn an_undo_is_of_its_own_kind(network: &Network) {
    let cafe = network
        .partner("cafe", terms::settle_at_issue("EUR", "0.01", "0.008"))
        .await;
    let member = network.member().await;
    let earning = cafe.earning(&member, "c-1", 1_000);
    cafe.till.ask(earning.clone()).await;
    let redeeming = cafe.redeeming(&member, "r-1", 500);
    cafe.till.ask(redeeming.clone()).await;
    let returning = cafe.returning("c-1", 100);
    cafe.till.ask(returning.clone()).await;
    let refunding = cafe.refunding("r-1", 100);
    cafe.till.ask(refunding.clone()).await;
    let nets = network.nets("").await;
    let of_earn = |original: &str| earn::ReverseByReferenceRequest {
        request_id: request_id(),
        original_request_id: original.to_owned(),
        ..earn::ReverseByReferenceRequest::default()
    };
    let of_redemption = |original: &str| redeem::ReverseByReferenceRequest {
        request_id: request_id(),
        original_request_id: original.to_owned(),
        ..redeem::ReverseByReferenceRequest::default()
    };
    let own_id = of_earn("");
    let own_id = earn::ReverseByReferenceRequest {
        original_request_id: own_id.request_id.clone(),
        ..own_id
    };
    for refusal in [
        cafe.till.refused(of_earn(&redeeming.request_id)).await,
        cafe.till.refused(of_earn(&returning.request_id)).await,
        cafe.till.refused(of_redemption(&earning.request_id)).await,
        cafe.till
            .refused(of_redemption(&refunding.request_id))
            .await,
        cafe.till.refused(own_id).await,
    ] {
        let fine = [
            Code::InvalidArgument,
            Code::NotFound,
            Code::FailedPrecondition,
        ];
        assert!(fine.contains(&refusal.code), "{refusal}");
    }
    assert_eq!(network.nets("").await, nets, "nothing moved");
    // None of these attempts stands in the way of the real thing.
    cafe.till.ask(of_redemption(&redeeming.request_id)).await;
    cafe.till.ask(of_earn(&earning.request_id)).await;
}

/// Security row 14: a partner's request id means nothing to another.
async fn ids_of_partners_never_meet(network: &Network) {
    let cafe = network.partner("cafe", terms::bare("EUR")).await;
    let salon = network.partner("salon", terms::bare("EUR")).await;
    let member = network.member().await;
    let at_cafe = cafe.earning(&member, "c-1", 100);
    let first = cafe.till.ask(at_cafe.clone()).await;
    let second = salon.till.ask(at_cafe.clone()).await;
    assert!(!second.replayed);
    assert_ne!(second.transaction_id, first.transaction_id);
    assert_eq!(second.balance.expect("a balance").available, 200);
    // Nor can the other undo it, or look at it.
    let undo = earn::ReverseByReferenceRequest {
        request_id: request_id(),
        original_request_id: cafe.earning(&member, "c-2", 1).request_id,
        ..earn::ReverseByReferenceRequest::default()
    };
    salon
        .till
        .refused(undo)
        .await
        .assert(Code::NotFound, "ORIGINAL_NOT_FOUND");
    let mut again = cafe.till.ask(at_cafe).await;
    assert!(std::mem::take(&mut again.replayed));
    assert_eq!(again, first);
}

async fn a_check_counts_once(network: &Network) {
    let cafe = network.partner("cafe", terms::bare("EUR")).await;
    let salon = network.partner("salon", terms::bare("EUR")).await;
    let member = network.member().await;
    let earned = cafe.earning(&member, "c-1", 1_000);
    let first = cafe.till.ask(earned.clone()).await.transaction_id;
    let twice = cafe.earning(&member, "c-1", 1_000);
    let refusal = cafe.till.refused(twice.clone()).await;
    refusal
        .assert(Code::AlreadyExists, "CHECK_ALREADY_EARNED")
        .assert_cashier();
    assert_eq!(refusal.fact("transaction_id"), first);
    // The decline is remembered as well.
    let again = cafe.till.refused(twice).await;
    assert_eq!((again.code, &again.reason), (refusal.code, &refusal.reason));
    assert_eq!(again.fact("transaction_id"), first);

    // Numbers are a partner's own, and of one kind.
    salon.earn(&member, "c-1", 100).await;
    let spent = cafe.redeem(&member, "c-1", 10).await.transaction_id;
    let refusal = cafe.till.refused(cafe.redeeming(&member, "c-1", 10)).await;
    refusal
        .assert(Code::AlreadyExists, "CHECK_ALREADY_REDEEMED")
        .assert_cashier();
    assert_eq!(refusal.fact("transaction_id"), spent);
    let slip = |amount: i64| earn::ReturnEarnRequest {
        context: Some(coalition_tests::partner::on_check("slip-1")),
        ..cafe.returning("c-1", amount)
    };
    let returned = cafe.till.ask(slip(10)).await.transaction_id;
    let refusal = cafe.till.refused(slip(20)).await;
    refusal
        .assert(Code::AlreadyExists, "CHECK_ALREADY_RETURNED")
        .assert_cashier();
    assert_eq!(refusal.fact("transaction_id"), returned);

    // A check whose earn was undone whole may earn again.
    let undo = earn::ReverseByReferenceRequest {
        request_id: request_id(),
        original_request_id: earned.request_id,
        ..earn::ReverseByReferenceRequest::default()
    };
    cafe.till.ask(undo).await;
    assert_eq!(cafe.earn(&member, "c-1", 500).await.points_earned, 500);
}

/// A till lost its answer and calls the operator, who finds its request, or makes sure of it.
async fn an_operator_undoes_what_a_till_asked_for(network: &Network) {
    let cafe = network.partner("cafe", terms::bare("EUR")).await;
    let salon = network.partner("salon", terms::bare("EUR")).await;
    let member = network.member().await;
    let undo = |partner: &str, original: &str| earn::ReverseByReferenceRequest {
        request_id: request_id(),
        partner_id: partner.to_owned(),
        original_request_id: original.to_owned(),
        ..earn::ReverseByReferenceRequest::default()
    };
    let earning = cafe.earning(&member, "c-1", 100);
    let earned = cafe.till.ask(earning.clone()).await;
    // Nobody else's, though the id is right: it would not find what it undoes.
    let wrong = undo(&salon.id, &earning.request_id);
    network
        .maker
        .refused(wrong)
        .await
        .assert(Code::NotFound, "ORIGINAL_NOT_FOUND");
    let asked = undo(&cafe.id, &earning.request_id);
    let undone = network.maker.ask(asked.clone()).await;
    assert_eq!(undone.original_transaction_id, earned.transaction_id);
    assert_eq!(undone.points_clawed_back, 100);
    assert!(network.maker.ask(asked).await.replayed);
    // The till, which gives up too, is told of the same.
    let own = cafe.till.ask(undo("", &earning.request_id)).await;
    assert!(own.replayed && own.transaction_id == undone.transaction_id);

    // What never arrived is declined if it still does, whoever sends it.
    let late = cafe.earning(&member, "c-2", 100);
    let refusal = network
        .maker
        .refused(undo(&cafe.id, &late.request_id))
        .await;
    refusal.assert(Code::NotFound, "ORIGINAL_NOT_FOUND");
    let by_operator = EarnRequest {
        partner_id: cafe.id.clone(),
        ..late.clone()
    };
    for (caller, request) in [(&cafe.till, late), (&network.maker, by_operator)] {
        let refusal = caller.refused(request).await;
        refusal.assert_declined("REVERSED_BEFORE_ARRIVAL");
    }
    // What an operator asked for itself is found as before.
    let earning = EarnRequest {
        partner_id: cafe.id.clone(),
        ..cafe.earning(&member, "c-3", 70)
    };
    network.maker.ask(earning.clone()).await;
    let undone = undo(&cafe.id, &earning.request_id);
    assert_eq!(network.maker.ask(undone).await.points_clawed_back, 70);
}

/// Security row 31: the reversal overtakes its original.
async fn an_undo_holds_for_what_never_arrived(network: &Network) {
    let cafe = network.partner("cafe", terms::bare("EUR")).await;
    let member = network.member().await;
    cafe.earn(&member, "c-0", 1_000).await;

    let late = cafe.earning(&member, "c-1", 100);
    let undo = earn::ReverseByReferenceRequest {
        request_id: request_id(),
        original_request_id: late.request_id.clone(),
        ..earn::ReverseByReferenceRequest::default()
    };
    for _ in 0..2 {
        let refusal = cafe.till.refused(undo.clone()).await;
        refusal
            .assert(Code::NotFound, "ORIGINAL_NOT_FOUND")
            .assert_cashier();
    }
    let other = earn::ReverseByReferenceRequest {
        request_id: request_id(),
        ..undo
    };
    cafe.till
        .refused(other)
        .await
        .assert(Code::NotFound, "ORIGINAL_NOT_FOUND");
    for _ in 0..2 {
        cafe.till
            .refused(late.clone())
            .await
            .assert_declined("REVERSED_BEFORE_ARRIVAL");
    }
    let late = cafe.redeeming(&member, "r-1", 100);
    let undo = redeem::ReverseByReferenceRequest {
        request_id: request_id(),
        original_request_id: late.request_id.clone(),
        ..redeem::ReverseByReferenceRequest::default()
    };
    cafe.till
        .refused(undo)
        .await
        .assert(Code::NotFound, "ORIGINAL_NOT_FOUND");
    cafe.till
        .refused(late)
        .await
        .assert_declined("REVERSED_BEFORE_ARRIVAL");

    // The sale stands after all: under another id it goes through, on the same check.
    assert_eq!(cafe.earn(&member, "c-1", 100).await.points_earned, 100);
    assert_eq!(cafe.redeem(&member, "r-1", 1_100).await.points, 1_100);

    // Undoing twice, under two ids, undoes once.
    let spent = cafe.earning(&member, "c-2", 50);
    cafe.till.ask(spent.clone()).await;
    let undo = || earn::ReverseByReferenceRequest {
        request_id: request_id(),
        original_request_id: spent.request_id.clone(),
        ..earn::ReverseByReferenceRequest::default()
    };
    let first = cafe.till.ask(undo()).await;
    let second = cafe.till.ask(undo()).await;
    assert!(second.replayed);
    assert_eq!(second.transaction_id, first.transaction_id);
}

async fn security_21_one_request_a_thousand_times_posts_once(network: &Network) {
    let cafe = network
        .partner("cafe", terms::settle_at_issue("EUR", "0.01", "0.008"))
        .await;
    let member = network.member().await;
    let earning = cafe.earning(&member, "c-1", 100);
    let answers = join_all((0..1_000).map(|_| cafe.till.ask(earning.clone()))).await;
    let first = answers.iter().filter(|answer| !answer.replayed).count();
    assert_eq!(first, 1, "one of them was the first");
    let ids: BTreeSet<&str> = answers
        .iter()
        .map(|answer| answer.transaction_id.as_str())
        .collect();
    assert_eq!(ids.len(), 1);
    assert!(
        answers
            .iter()
            .all(|answer| answer.balance == answers[0].balance)
    );
    assert_eq!(network.assert_books_balance().await.summary.postings, 1);
}

async fn security_25_racing_redemptions_never_overdraw(network: &Network) {
    let cafe = network
        .partner("cafe", terms::settle_at_redemption("EUR", "0.01", "0.008"))
        .await;
    let member = network.member().await;
    cafe.earn(&member, "c-1", 1_000).await;
    // 200 at once, of which 7 points each 142 fit.
    let answers = join_all((0..200).map(|number| {
        let (cafe, member) = (&cafe, &member);
        async move { cafe.try_redeem(member, &format!("r-{number}"), 7).await }
    }))
    .await;
    let (posted, declined): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(posted.len(), 142);
    for refusal in declined {
        let refusal = refusal.expect_err("sorted out above");
        assert_eq!(
            refusal
                .assert_declined("INSUFFICIENT_POINTS")
                .fact("balance"),
            "6"
        );
    }
}

/// Stopping and starting again on the same database: answers, ids and undo hold.
async fn a_restart_forgets_nothing(network: &Network) {
    // The network that the test was given stays; this is about one that goes and comes.
    let Some(own) = Network::start(network.engine).await else {
        return;
    };
    let cafe = own
        .partner("cafe", terms::settle_at_issue("EUR", "0.01", "0.008"))
        .await;
    let member = own.member().await;
    let earning = cafe.earning(&member, "c-1", 100);
    let mut first = cafe.till.ask(earning.clone()).await;
    let own = own.restart().await;
    let till = own.till(&cafe.id);
    let again = till.ask(earning).await;
    assert!(again.replayed);
    first.replayed = true;
    assert_eq!(again, first);
    own.assert_books_balance().await;
    own.stop().await;
}
