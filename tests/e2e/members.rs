//! Members: taken in, found by what they show, and what they have. The network keeps hashes of
//! identifiers and never the identifiers.

use coalition_proto::common::{Identifier, IdentifierType, TransactionKind};
use coalition_proto::earn::{self, EarnRequest};
use coalition_proto::member::{
    EnrollRequest, GetBalanceRequest, IssuerBalance, ListActivityRequest, LookupRequest,
    MemberStatus, UpcomingExpiry,
};
use coalition_proto::partner::Terms;
use coalition_proto::redeem::{self, RedeemRequest};
use coalition_tests::figures::time;
use coalition_tests::{Network, both_engines, request_id, terms};
use tonic::Code;

both_engines!(
    members_are_found_by_what_they_show,
    what_a_member_has_is_told_in_parts,
    what_a_member_did_is_listed_latest_first,
);

fn identifier(kind: IdentifierType, value: &str) -> Identifier {
    Identifier {
        r#type: kind.into(),
        value: value.to_owned(),
    }
}

async fn members_are_found_by_what_they_show(network: &Network) {
    let cafe = network.partner("cafe", terms::bare("EUR")).await;
    let card = identifier(IdentifierType::Card, "9781234567890");
    let phone = identifier(IdentifierType::Phone, "+49 30 123456");
    let email = identifier(IdentifierType::Email, "Ada@Example.org");
    let enrol = |identifiers: Vec<Identifier>| EnrollRequest {
        request_id: request_id(),
        identifiers,
    };
    let enrolled = cafe
        .till
        .ask(enrol(vec![card.clone(), phone.clone(), email.clone()]))
        .await;
    let member = enrolled.member_id;
    assert!(member.starts_with("mem_"));

    // However it is written down: blanks at the ends, a phone by its digits, mail in any case.
    let lookup = |identifier: Identifier| LookupRequest {
        identifier: Some(identifier),
    };
    for shown in [
        card.clone(),
        identifier(IdentifierType::Card, " 9781234567890 "),
        identifier(IdentifierType::Phone, "+4930123456"),
        identifier(IdentifierType::Phone, "+49 (30) 12-34-56"),
        identifier(IdentifierType::Email, " ada@example.ORG"),
    ] {
        let found = cafe.till.ask(lookup(shown.clone())).await;
        assert_eq!(found.member_id, member, "{shown:?}");
        assert_eq!(found.status(), MemberStatus::Active);
        assert_eq!(found.balance.expect("a balance").balance, 0);
        assert_eq!(found.identifiers.len(), 3);
        for shown in &found.identifiers {
            for secret in ["9781234567890", "30123456", "ada@example.org", "ada"] {
                assert!(!shown.masked.to_lowercase().contains(secret), "{shown:?}");
            }
        }
    }
    // The same value of another kind is another identifier, and nobody's.
    for nobodys in [
        identifier(IdentifierType::Qr, "9781234567890"),
        identifier(IdentifierType::Card, "9781234567891"),
    ] {
        let refusal = cafe.till.refused(lookup(nobodys)).await;
        refusal.assert(Code::NotFound, "NOT_FOUND").assert_cashier();
    }
    // Nobody else can have it; nothing is kept of who tries.
    let other = identifier(IdentifierType::Qr, "qr-1");
    let refusal = cafe
        .till
        .refused(enrol(vec![other.clone(), card.clone()]))
        .await;
    refusal
        .assert(Code::AlreadyExists, "IDENTIFIER_TAKEN")
        .assert_cashier();
    cafe.till
        .refused(lookup(other.clone()))
        .await
        .assert(Code::NotFound, "NOT_FOUND");
    let free = cafe.till.ask(enrol(vec![other])).await.member_id;
    assert_ne!(free, member);
    assert_eq!(network.verify().await.summary.members, 2);

    // Tills earn and redeem by it.
    let by_card = EarnRequest {
        member: Some(earn::earn_request::Member::Identifier(card.clone())),
        ..cafe.earning("", "c-1", 100)
    };
    assert_eq!(
        cafe.till
            .ask(by_card)
            .await
            .balance
            .expect("a balance")
            .available,
        100
    );
    let by_phone = RedeemRequest {
        member: Some(redeem::redeem_request::Member::Identifier(phone)),
        ..cafe.redeeming("", "r-1", 30)
    };
    assert_eq!(
        cafe.till
            .ask(by_phone)
            .await
            .balance
            .expect("a balance")
            .available,
        70
    );
    let by_mail = redeem::QuoteRequest {
        member: Some(redeem::quote_request::Member::Identifier(email)),
        ..redeem::QuoteRequest::default()
    };
    assert_eq!(cafe.till.ask(by_mail).await.max_points, 70);
    let nobody = EarnRequest {
        member: Some(earn::earn_request::Member::Identifier(identifier(
            IdentifierType::Card,
            "1",
        ))),
        ..cafe.earning("", "c-2", 100)
    };
    cafe.till
        .refused(nobody)
        .await
        .assert(Code::NotFound, "NOT_FOUND");

    let too_many = (0..9)
        .map(|n| identifier(IdentifierType::Card, &n.to_string()))
        .collect();
    cafe.till
        .refused(enrol(too_many))
        .await
        .assert(Code::InvalidArgument, "INVALID_ARGUMENT");
    let empty = enrol(vec![identifier(IdentifierType::Card, "")]);
    cafe.till
        .refused(empty)
        .await
        .assert(Code::InvalidArgument, "INVALID_ARGUMENT");
    let blank = enrol(vec![identifier(IdentifierType::Card, "   ")]);
    assert_eq!(cafe.till.refused(blank).await.code, Code::InvalidArgument);
}

async fn what_a_member_has_is_told_in_parts(network: &Network) {
    let days = |days: i32| Terms {
        lot_lifetime_days: days,
        ..terms::bare("EUR")
    };
    let cafe = network.partner("cafe", days(10)).await;
    let salon = network
        .partner(
            "salon",
            Terms {
                pending_days: 5,
                ..days(20)
            },
        )
        .await;
    let member = network.member().await;
    let ask = || GetBalanceRequest {
        member_id: member.clone(),
    };
    let nothing = network.support.ask(ask()).await;
    assert_eq!(
        nothing.balance,
        Some(coalition_proto::common::Balance::default())
    );
    assert!(nothing.issuers.is_empty() && nothing.upcoming_expiries.is_empty());

    cafe.earn(&member, "c-1", 100).await;
    salon.earn(&member, "s-1", 50).await;
    network.set_clock("2026-01-03").await;
    cafe.earn(&member, "c-2", 30).await;
    cafe.redeem(&member, "r-1", 90).await;
    cafe.take_back("c-1", 40).await;
    let has = network.support.ask(ask()).await;
    let balance = has.balance.expect("a balance");
    // 100 + 30 less 90 spent; 40 go back, of which 10 are in the lot and 30 are owed.
    assert_eq!(
        (
            balance.balance,
            balance.available,
            balance.pending,
            balance.debt
        ),
        (0, 30, 50, 30)
    );
    assert_eq!(balance.next_expiry_time, Some(time("2026-01-13")));
    let of_cafe = IssuerBalance {
        issuer: cafe.id.clone(),
        available: 30,
        debt: 30,
        ..IssuerBalance::default()
    };
    let of_salon = IssuerBalance {
        issuer: salon.id.clone(),
        pending: 50,
        ..IssuerBalance::default()
    };
    let mut issuers = [of_cafe, of_salon];
    issuers.sort_by(|a, b| a.issuer.cmp(&b.issuer));
    assert_eq!(has.issuers, issuers);
    network.set_clock("2026-01-06").await;
    let has = network.support.ask(ask()).await;
    let expiry = |day: &str, points: i64| UpcomingExpiry {
        expires_at: Some(time(day)),
        points,
    };
    assert_eq!(
        has.upcoming_expiries,
        [expiry("2026-01-13", 30), expiry("2026-01-21", 50)]
    );
    // The same at a till, and the same as a lookup says.
    assert_eq!(cafe.till.ask(ask()).await, has);
    let unknown = GetBalanceRequest {
        member_id: member.replace("mem_0", "mem_1"),
    };
    network
        .support
        .refused(unknown.clone())
        .await
        .assert(Code::NotFound, "NOT_FOUND");
    cafe.till
        .refused(unknown)
        .await
        .assert(Code::NotFound, "NOT_FOUND");
}

async fn what_a_member_did_is_listed_latest_first(network: &Network) {
    use TransactionKind::{Earn, Expire, Redeem, RefundRedemption, ReturnEarn};

    let cafe = network
        .partner(
            "cafe",
            Terms {
                lot_lifetime_days: 10,
                ..terms::bare("EUR")
            },
        )
        .await;
    let salon = network.partner("salon", terms::bare("EUR")).await;
    let member = network.member().await;
    cafe.earn(&member, "c-1", 100).await;
    salon.earn(&member, "s-1", 50).await;
    salon.redeem(&member, "r-1", 30).await;
    salon.refund("r-1", 10).await;
    cafe.take_back("c-1", 20).await;
    salon
        .try_redeem(&member, "r-2", 10_000)
        .await
        .expect_err("more than there is");
    network.set_clock("2026-01-20").await;
    network.cut().await;

    let list = |partner: &str| ListActivityRequest {
        member_id: member.clone(),
        partner_id: partner.to_owned(),
        ..ListActivityRequest::default()
    };
    let kinds = |rows: &[coalition_proto::common::Transaction]| {
        rows.iter()
            .map(coalition_proto::common::Transaction::kind)
            .collect::<Vec<_>>()
    };
    let all = network.support.ask(list("")).await.transactions;
    assert_eq!(
        kinds(&all),
        [Expire, ReturnEarn, RefundRedemption, Redeem, Earn, Earn]
    );
    let expired = &all[0];
    assert_eq!((expired.points, expired.partner_id.as_str()), (60, ""));
    assert_eq!(expired.balance.expect("a balance").available, 50);
    let at_salon = network.support.ask(list(&salon.id)).await.transactions;
    assert_eq!(kinds(&at_salon), [RefundRedemption, Redeem, Earn]);
    assert_eq!(salon.till.ask(list("")).await.transactions.len(), 3);
    let unknown = ListActivityRequest {
        member_id: member.replace("mem_0", "mem_1"),
        ..ListActivityRequest::default()
    };
    network
        .support
        .refused(unknown)
        .await
        .assert(Code::NotFound, "NOT_FOUND");
}
