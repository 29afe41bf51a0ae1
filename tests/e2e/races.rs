//! Callers who meet: of several who want what only one can have, one gets it, and the others are told
//! why not; whoever reads meanwhile sees the books whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use coalition_proto::common::{Identifier, IdentifierType, LotSlice};
use coalition_proto::member::{EnrollRequest, GetBalanceRequest};
use coalition_proto::partner::{
    AcceptAgreementRequest, CreatePartnerRequest, PartnerKind, ProposeAgreementRequest, Terms,
};
use coalition_proto::redeem;
use coalition_proto::settlement::{
    ComputeSettlementRequest, CutWindowRequest, GetOpenWindowRequest, NettingMethod,
};
use coalition_tests::rpc::Rpc;
use coalition_tests::{Caller, Network, both_engines, request_id, terms};
use futures::future::{join, join_all};

both_engines!(
    of_several_one_gets_it,
    readers_see_the_books_whole,
    a_member_with_many_lots_spends_them_all,
);

/// How many want it.
const CALLERS: usize = 12;

/// Makes a call of each at once; one must succeed, and the others be refused for this reason.
async fn one_of<R: Rpc>(caller: &Caller, make: impl Fn() -> R, reason: &str) -> R::Answer {
    let answers = join_all((0..CALLERS).map(|_| caller.call(make()))).await;
    let (mut got, mut refused) = (Vec::new(), 0);
    for answer in answers {
        match answer {
            Ok(answer) => got.push(answer),
            Err(refusal) => {
                assert_eq!(refusal.reason, reason, "{refusal}");
                refused += 1;
            }
        }
    }
    assert_eq!((got.len(), refused), (1, CALLERS - 1), "{}", R::NAME);
    got.remove(0)
}

async fn of_several_one_gets_it(network: &Network) {
    let card = Identifier {
        r#type: IdentifierType::Card.into(),
        value: "4711".to_owned(),
    };
    let enrol = || EnrollRequest {
        request_id: request_id(),
        identifiers: vec![card.clone()],
    };
    one_of(&network.maker, enrol, "IDENTIFIER_TAKEN").await;
    let create = || CreatePartnerRequest {
        request_id: request_id(),
        code: "cafe".to_owned(),
        display_name: "Cafe".to_owned(),
        kind: PartnerKind::Restaurant.into(),
    };
    let cafe = one_of(&network.maker, create, "PARTNER_CODE_TAKEN").await;
    let cafe = cafe.partner.expect("the partner").partner_id;

    let propose = ProposeAgreementRequest {
        request_id: request_id(),
        partner_id: cafe.clone(),
        terms: Some(terms::settle_at_issue("EUR", "0.01", "0.008")),
        ..ProposeAgreementRequest::default()
    };
    let agreement = network
        .maker
        .ask(propose)
        .await
        .agreement
        .expect("the agreement");
    let accept = || AcceptAgreementRequest {
        request_id: request_id(),
        agreement_id: agreement.agreement_id.clone(),
        etag: agreement.etag.clone(),
    };
    one_of(&network.office(&cafe), accept, "AGREEMENT_NOT_PROPOSED").await;

    let open = network
        .viewer
        .ask(GetOpenWindowRequest {})
        .await
        .window
        .expect("one is open");
    let cut = || CutWindowRequest {
        request_id: request_id(),
        expected_window_id: open.window_id.clone(),
    };
    let closed = one_of(&network.maker, cut, "WINDOW_STALE").await.closed;
    assert_eq!(
        closed.expect("a window was closed").window_id,
        open.window_id
    );
    // An empty window is settled at once, so put something into the next.
    let shop = network
        .partner("shop", terms::settle_at_issue("EUR", "0.01", "0.008"))
        .await;
    shop.earn(&network.member().await, "c-1", 100).await;
    let window = network
        .cut()
        .await
        .closed
        .expect("a window was closed")
        .window_id;
    let compute = || ComputeSettlementRequest {
        request_id: request_id(),
        window_ids: vec![window.clone()],
        netting: NettingMethod::Multilateral.into(),
        validate_only: false,
    };
    one_of(&network.maker, compute, "WINDOW_ALREADY_SETTLING").await;

    // The same check at several tills of one shop; the same redemption undone from several.
    let member = network.member().await;
    let earn = || shop.earning(&member, "check", 100);
    one_of(&shop.till, earn, "CHECK_ALREADY_EARNED").await;
    let redeem = || shop.redeeming(&member, "check", 60);
    one_of(&shop.till, redeem, "CHECK_ALREADY_REDEEMED").await;
    let refund = || shop.refunding("check", 60);
    one_of(&shop.till, refund, "ALREADY_REVERSED").await;
    let take_back = || shop.returning("check", 100);
    one_of(&shop.till, take_back, "ALREADY_REVERSED").await;
}

/// While tills post and windows are cut, every check of the books and every balance is of one instant.
async fn readers_see_the_books_whole(network: &Network) {
    let base = terms::settle_at_issue("EUR", "0.010333", "0.00777");
    let cafe = network.partner("cafe", base.clone()).await;
    let salon = network.partner("salon", base).await;
    let members = join_all((0..8).map(|_| network.member())).await;
    let posting = AtomicBool::new(true);
    let tills = async {
        join_all(members.iter().enumerate().map(|(place, member)| {
            let (cafe, salon) = (&cafe, &salon);
            async move {
                for sale in 0..25 {
                    let check = format!("{place}-{sale}");
                    cafe.earn(member, &check, 97).await;
                    salon.redeem(member, &check, 61).await;
                    salon.refund(&check, 11).await;
                    cafe.take_back(&check, 13).await;
                }
            }
        }))
        .await;
        posting.store(false, Ordering::SeqCst);
    };
    let readers = async {
        let (mut checks, mut turns) = (0, 0);
        while posting.load(Ordering::SeqCst) {
            let books = network.assert_books_balance().await;
            checks += 1;
            if turns < 3 && books.summary.postings > 50 * (turns + 1) {
                network.cut().await;
                turns += 1;
            }
            let has = GetBalanceRequest {
                member_id: members[0].clone(),
            };
            let has = network.support.ask(has).await;
            let balance = has.balance.expect("a balance");
            let issuers: i64 = has
                .issuers
                .iter()
                .map(|issuer| issuer.available - issuer.debt)
                .sum();
            assert_eq!(balance.balance, issuers, "the parts make the whole");
            let expiring: i64 = has.upcoming_expiries.iter().map(|row| row.points).sum();
            assert_eq!(expiring, balance.available);
        }
        checks
    };
    let ((), checks) = join(tills, readers).await;
    assert!(checks > 0);
    let summary = network.assert_books_balance().await.summary;
    assert_eq!(summary.postings, 8 * 25 * 4);
}

/// More lots than are fetched at a time, of several issuers and expiries, drawn on by one redemption.
async fn a_member_with_many_lots_spends_them_all(network: &Network) {
    let mut shops = Vec::new();
    for (code, days) in [("a", 30), ("b", 20), ("c", 40)] {
        let terms = Terms {
            lot_lifetime_days: days,
            ..terms::settle_at_redemption("EUR", "0.01", "0.008")
        };
        shops.push(network.partner(code, terms).await);
    }
    let member = network.member().await;
    for round in 0..5 {
        network
            .set_clock(&format!("2026-01-0{}T00:00:00Z", round + 2))
            .await;
        join_all(shops.iter().flat_map(|shop| {
            let member = &member;
            (0..40).map(move |number| async move {
                shop.earn(member, &format!("{round}-{number}"), 10).await;
            })
        }))
        .await;
    }
    let expiries = |slices: &[LotSlice]| {
        let seconds = slices
            .iter()
            .map(|slice| slice.expires_at.expect("lots expire").seconds);
        seconds.collect::<Vec<_>>()
    };
    // Everything but three points: 600 lots, earliest first; twice, so that what is left is drawn on.
    let first = shops[0].redeem(&member, "r-1", 2_995).await;
    assert_eq!(first.slices.len(), 300);
    assert!(expiries(&first.slices).is_sorted());
    let second = shops[1].redeem(&member, "r-2", 3_002).await;
    assert_eq!((second.slices.len(), second.slices[0].points), (301, 5));
    assert!(expiries(&second.slices).is_sorted());
    assert_eq!(second.balance.expect("a balance").available, 3);
    // Both undone from the end, in parts: each lot gets back what was taken.
    let mut given: BTreeMap<String, i64> = BTreeMap::new();
    for (shop, check, points) in [
        (&shops[1], "r-2", 1_500),
        (&shops[0], "r-1", 2_995),
        (&shops[1], "r-2", 1_502),
    ] {
        let refunded = shop.refund(check, points).await;
        assert_eq!(refunded.points_refunded, points);
        for slice in refunded.restored {
            *given.entry(slice.lot_id).or_default() += slice.points;
        }
    }
    let mut taken: BTreeMap<String, i64> = BTreeMap::new();
    for slice in first.slices.iter().chain(&second.slices) {
        *taken.entry(slice.lot_id.clone()).or_default() += slice.points;
    }
    assert_eq!(given, taken);
    let quote = redeem::QuoteRequest {
        member: Some(redeem::quote_request::Member::MemberId(member.clone())),
        ..redeem::QuoteRequest::default()
    };
    let quoted = shops[2].till.ask(quote).await;
    assert_eq!((quoted.max_points, quoted.slices.len()), (6_000, 600));
    // All of it runs out in its order.
    network.set_clock("2026-03-01T00:00:00Z").await;
    assert_eq!(network.cut().await.expired_points, 6_000);
}
