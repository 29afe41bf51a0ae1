//! Partners and their terms: proposed by one side and accepted by the other, in versions; what was
//! earned under a version stays under it.

use coalition_proto::common::PosContext;
use coalition_proto::earn::EarnRequest;
use coalition_proto::partner::{
    AcceptAgreementRequest, Agreement, AgreementSide, AgreementState, CreatePartnerRequest,
    GetPartnerRequest, Leg, LegBasis, LegParty, LegRounding, LegTrigger, ListAgreementsRequest,
    ListPartnersRequest, PartnerKind, PartyRole, ProposeAgreementRequest, Terms,
    get_partner_request, leg_party,
};
use coalition_proto::settlement::GetOpenWindowRequest;
use coalition_tests::figures::{micros, time};
use coalition_tests::network::START;
use coalition_tests::partner::on_check;
use coalition_tests::{Caller, Network, OPERATOR, both_engines, request_id, terms};
use tonic::Code;

both_engines!(
    partners_are_taken_in_once,
    both_sides_agree,
    what_was_earned_stays_under_its_version,
    late_checks_go_by_their_own_day,
    a_pair_has_terms_of_its_own,
    legs_of_every_kind,
);

async fn partners_are_taken_in_once(network: &Network) {
    let create = |code: &str| CreatePartnerRequest {
        request_id: request_id(),
        code: code.to_owned(),
        // Security row 43: kept as it is, and nobody's business here.
        display_name: "=cmd() <script> \u{1b}[31m"
            .chars()
            .filter(|c| !c.is_control())
            .collect(),
        kind: PartnerKind::Restaurant.into(),
    };
    let mut made = Vec::new();
    for code in ["a", "b", "c"] {
        made.push(
            network
                .maker
                .ask(create(code))
                .await
                .partner
                .expect("the partner"),
        );
    }
    assert!(
        made.iter()
            .all(|partner| partner.partner_id.starts_with("ptr_"))
    );
    assert_eq!(made[0].created_at, Some(time(START)));
    let taken = network.maker.refused(create("a")).await;
    taken.assert(Code::AlreadyExists, "PARTNER_CODE_TAKEN");
    for code in ["", "Ä", "UPPER", "a b", "a/b", "'; drop table partners; --"] {
        let refusal = network.maker.refused(create(code)).await;
        refusal.assert(Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(refusal.fields, ["code"]);
    }
    let list = |size: i32, token: &str| ListPartnersRequest {
        page_size: size,
        page_token: token.to_owned(),
    };
    assert_eq!(network.viewer.ask(list(0, "")).await.partners, made);
    let first = network.viewer.ask(list(2, "")).await;
    let second = network.viewer.ask(list(2, &first.next_page_token)).await;
    assert_eq!([first.partners, second.partners].concat(), made);
    let by_code = GetPartnerRequest {
        key: Some(get_partner_request::Key::Code("b".to_owned())),
    };
    assert_eq!(
        network.viewer.ask(by_code.clone()).await.partner.as_ref(),
        Some(&made[1])
    );
    assert_eq!(
        network
            .office(&made[1].partner_id)
            .ask(by_code)
            .await
            .partner
            .as_ref(),
        Some(&made[1])
    );
    let unknown = GetPartnerRequest {
        key: Some(get_partner_request::Key::Code("z".to_owned())),
    };
    network
        .viewer
        .refused(unknown)
        .await
        .assert(Code::NotFound, "NOT_FOUND");
}

fn propose(partner: &str, terms: Terms) -> ProposeAgreementRequest {
    ProposeAgreementRequest {
        request_id: request_id(),
        partner_id: partner.to_owned(),
        terms: Some(terms),
        ..ProposeAgreementRequest::default()
    }
}

fn accept(agreement: &Agreement) -> AcceptAgreementRequest {
    AcceptAgreementRequest {
        request_id: request_id(),
        agreement_id: agreement.agreement_id.clone(),
        etag: agreement.etag.clone(),
    }
}

async fn proposed(caller: &Caller, request: ProposeAgreementRequest) -> Agreement {
    caller.ask(request).await.agreement.expect("the agreement")
}

async fn both_sides_agree(network: &Network) {
    let partner = network.newcomer("cafe").await;
    let office = network.office(&partner);
    let member = network.member().await;

    // The operator proposes; the partner accepts what it has seen.
    let first = proposed(
        &network.maker,
        propose(&partner, terms::settle_at_issue("EUR", "0.01", "0.008")),
    )
    .await;
    assert!(first.agreement_id.starts_with("agr_"));
    assert_eq!(
        (first.version, first.state(), first.proposed_by()),
        (1, AgreementState::Proposed, AgreementSide::Operator)
    );
    assert_eq!(first.awaiting, [i32::from(AgreementSide::Partner)]);
    assert_eq!(
        (first.proposed_at, first.accepted_at, first.effective_at),
        (Some(time(START)), None, None)
    );
    let written = first.terms.as_ref().expect("the terms");
    assert_eq!(
        (written.preset.as_ref(), written.legs.len()),
        (None, 2),
        "a preset only writes legs"
    );
    // Nothing changes until then.
    let check = coalition_tests::Partner {
        id: partner.clone(),
        code: "cafe".to_owned(),
        currency: "EUR".to_owned(),
        agreement: first.agreement_id.clone(),
        till: network.till(&partner),
        office: office.clone(),
    };
    check
        .till
        .refused(check.earning(&member, "c-0", 100))
        .await
        .assert_declined("NO_AGREEMENT_IN_FORCE");
    network
        .checker
        .refused(accept(&first))
        .await
        .assert(Code::PermissionDenied, "SELF_APPROVAL");
    let stale = AcceptAgreementRequest {
        etag: "something-else".to_owned(),
        ..accept(&first)
    };
    office
        .refused(stale)
        .await
        .assert(Code::Aborted, "ETAG_MISMATCH");
    network.set_clock("2026-01-02").await;
    let agreed = office
        .ask(accept(&first))
        .await
        .agreement
        .expect("the agreement");
    assert_eq!(
        (agreed.state(), agreed.awaiting.len()),
        (AgreementState::InForce, 0)
    );
    assert_eq!(
        (agreed.accepted_at, agreed.effective_at),
        (Some(time("2026-01-02")), Some(time("2026-01-02")))
    );
    assert_ne!(agreed.etag, first.etag);
    office
        .refused(accept(&agreed))
        .await
        .assert(Code::FailedPrecondition, "AGREEMENT_NOT_PROPOSED");
    assert_eq!(check.earn(&member, "c-1", 100).await.points_earned, 100);

    // The partner proposes, from a day on; the operator's checker accepts.
    let later = ProposeAgreementRequest {
        partner_id: String::new(),
        effective_at: Some(time("2026-02-01")),
        ..propose(
            "",
            Terms {
                points_per_unit: "200".to_owned(),
                ..terms::bare("EUR")
            },
        )
    };
    let second = proposed(&office, later).await;
    assert_eq!(
        (second.partner_id.as_str(), second.version),
        (partner.as_str(), 2)
    );
    assert_eq!(second.awaiting, [i32::from(AgreementSide::Operator)]);
    office
        .refused(accept(&second))
        .await
        .assert(Code::PermissionDenied, "SELF_APPROVAL");
    let agreed = network
        .checker
        .ask(accept(&second))
        .await
        .agreement
        .expect("the agreement");
    assert_eq!(agreed.effective_at, Some(time("2026-02-01")));
    assert_eq!(
        check.earn(&member, "c-2", 100).await.points_earned,
        100,
        "not yet"
    );
    network.set_clock("2026-02-01").await;
    assert_eq!(check.earn(&member, "c-3", 100).await.points_earned, 200);

    let list = |partner: &str| ListAgreementsRequest {
        partner_id: partner.to_owned(),
        ..Default::default()
    };
    let all = network.viewer.ask(list(&partner)).await.agreements;
    let versions: Vec<_> = all.iter().map(|row| (row.version, row.state())).collect();
    assert_eq!(
        versions,
        [
            (2, AgreementState::InForce),
            (1, AgreementState::Superseded)
        ]
    );
    assert_eq!(office.ask(list("")).await.agreements, all);
    let unknown = accept(&Agreement {
        agreement_id: second.agreement_id.replace("agr_0", "agr_1"),
        ..second
    });
    network
        .checker
        .refused(unknown)
        .await
        .assert(Code::NotFound, "NOT_FOUND");
}

async fn what_was_earned_stays_under_its_version(network: &Network) {
    let cafe = network
        .partner("cafe", terms::settle_at_issue("EUR", "0.01", "0.008"))
        .await;
    let salon = network
        .partner("salon", terms::settle_at_redemption("EUR", "0.01", "0.008"))
        .await;
    let member = network.member().await;
    cafe.earn(&member, "c-1", 1_000).await;
    salon.earn(&member, "s-1", 1_000).await;
    // Both agree on dearer terms with half the points.
    let half = |terms: Terms| Terms {
        points_per_unit: "50".to_owned(),
        ..terms
    };
    network
        .agree(
            &cafe.id,
            "",
            half(terms::settle_at_issue("EUR", "0.05", "0.04")),
        )
        .await;
    network
        .agree(
            &salon.id,
            "",
            half(terms::settle_at_redemption("EUR", "0.05", "0.04")),
        )
        .await;
    let before = network.nets("").await;
    assert_eq!(before[&cafe.id], micros("-10.00"));

    // Goods of the old check come back: recomputed, and paid back, as it earned.
    let returned = cafe.take_back("c-1", 500).await;
    assert_eq!(returned.points_clawed_back, 500);
    assert_eq!(network.nets("").await[&cafe.id], micros("-5.00"));
    // Points of the old lot are spent: the issuer pays the old price, the redeemer gets the new one.
    let spent = salon.redeem(&member, "r-1", 500).await;
    assert_eq!(spent.slices[0].issuer, cafe.id);
    assert_eq!(network.nets("").await[&salon.id], micros("20.00"));
    let spent = cafe.redeem(&member, "r-2", 100).await;
    assert_eq!(spent.slices[0].issuer, salon.id);
    let nets = network.nets("").await;
    assert_eq!(
        (nets[&salon.id], nets[&cafe.id]),
        (micros("19.00"), micros("-1.00"))
    );
    // New checks go by the new terms.
    assert_eq!(cafe.earn(&member, "c-2", 100).await.points_earned, 50);
}

/// Security row 32: a check that a till sends days later earns by the terms of its day, and is posted in
/// the window that is open now.
async fn late_checks_go_by_their_own_day(network: &Network) {
    let cafe = network
        .partner("cafe", terms::settle_at_issue("EUR", "0.01", "0.008"))
        .await;
    let member = network.member().await;
    network.set_clock("2026-01-10").await;
    let half = Terms {
        points_per_unit: "50".to_owned(),
        ..terms::settle_at_issue("EUR", "0.01", "0.008")
    };
    network.agree(&cafe.id, "", half).await;
    network.set_clock("2026-01-12").await;
    network.cut().await;
    let of_the = |day: &str, check: &str| EarnRequest {
        context: Some(PosContext {
            occurred_at: Some(time(day)),
            offline: true,
            ..on_check(check)
        }),
        ..cafe.earning(&member, check, 1_000)
    };
    let late = cafe.till.ask(of_the("2026-01-09T18:00:00Z", "c-1")).await;
    assert_eq!(late.points_earned, 1_000);
    assert_eq!(late.posted_at, Some(time("2026-01-12")));
    assert_eq!(
        late.lots[0].expires_at,
        Some(time("2027-01-09T18:00:00Z")),
        "a lot lives from when it was earned"
    );
    assert_eq!(late.lots[0].agreement_id, cafe.agreement);
    let new = cafe.till.ask(of_the("2026-01-10T18:00:00Z", "c-2")).await;
    assert_eq!(new.points_earned, 500);
    assert_ne!(new.lots[0].agreement_id, cafe.agreement);
    let open = network.viewer.ask(GetOpenWindowRequest {}).await.window;
    let open = open.expect("one is open").window_id;
    assert_eq!((&late.window_id, &new.window_id), (&open, &open));
    // Goods of each come back under the version that it earned by.
    assert_eq!(cafe.take_back("c-1", 500).await.points_clawed_back, 500);
    assert_eq!(cafe.take_back("c-2", 500).await.points_clawed_back, 250);
}

async fn a_pair_has_terms_of_its_own(network: &Network) {
    let base = terms::settle_at_redemption("EUR", "0.01", "0.008");
    let cafe = network.partner("cafe", base.clone()).await;
    let salon = network.partner("salon", base.clone()).await;
    let member = network.member().await;
    cafe.earn(&member, "c-1", 1_000).await;

    // Friends: the cafe's points at the salon are settled between the two. All three sides agree.
    let pair = ProposeAgreementRequest {
        counterparty_id: salon.id.clone(),
        ..propose(&cafe.id, terms::bilateral("EUR", "0.009", "0.0005"))
    };
    let proposal = proposed(&network.maker, pair).await;
    assert_eq!(
        (
            proposal.partner_id.as_str(),
            proposal.counterparty_id.as_str()
        ),
        (cafe.id.as_str(), salon.id.as_str())
    );
    let mut awaiting = proposal.awaiting.clone();
    awaiting.sort_unstable();
    assert_eq!(
        awaiting,
        [
            i32::from(AgreementSide::Partner),
            i32::from(AgreementSide::Counterparty)
        ]
    );
    let half = cafe
        .office
        .ask(accept(&proposal))
        .await
        .agreement
        .expect("the agreement");
    assert_eq!(
        (half.state(), half.awaiting.as_slice()),
        (
            AgreementState::Proposed,
            &[i32::from(AgreementSide::Counterparty)][..]
        )
    );
    salon.redeem(&member, "r-1", 100).await;
    let nets = network.nets("").await;
    assert_eq!(
        (nets[&cafe.id], nets[&salon.id]),
        (micros("-1.00"), micros("0.80")),
        "not in force yet"
    );
    let agreed = salon
        .office
        .ask(accept(&half))
        .await
        .agreement
        .expect("the agreement");
    assert_eq!(agreed.state(), AgreementState::InForce);

    let spent = salon.redeem(&member, "r-2", 100).await;
    assert_eq!(spent.slices[0].points, 100);
    let nets = network.nets("").await;
    assert_eq!(
        nets[&cafe.id],
        micros("-1.95"),
        "0.90 to the salon, 0.05 to the operator"
    );
    assert_eq!(nets[&salon.id], micros("1.70"));
    // The other way round nothing was agreed; and the refund of the first goes by its own terms.
    salon.earn(&member, "s-1", 1_000).await;
    salon.refund("r-1", 100).await;
    let nets = network.nets("").await;
    assert_eq!(
        (nets[&cafe.id], nets[&salon.id]),
        (micros("-0.95"), micros("0.90"))
    );
}

/// Every basis, both roundings, least and most, and a third party: against figures worked by hand.
async fn legs_of_every_kind(network: &Network) {
    let third = network.partner("third", terms::bare("EUR")).await;
    let role = |role: PartyRole| {
        Some(LegParty {
            party: Some(leg_party::Party::Role(role.into())),
        })
    };
    let named = |id: &str| {
        Some(LegParty {
            party: Some(leg_party::Party::PartnerId(id.to_owned())),
        })
    };
    let leg = |trigger: LegTrigger, basis: LegBasis, rate: &str| Leg {
        trigger: trigger.into(),
        from: role(PartyRole::Issuer),
        to: role(PartyRole::Operator),
        basis: basis.into(),
        rate: rate.to_owned(),
        ..Leg::default()
    };
    let legs = vec![
        // 333 points at 0.0012345: 0.4110885, to the micro-unit 0.411089 (half up).
        leg(LegTrigger::Earn, LegBasis::PerPoint, "0.0012345"),
        // 1.5 % of the basis of 3.33: 0.04995, to the cent 0.05.
        Leg {
            rounding: Some(LegRounding::Minor.into()),
            ..leg(LegTrigger::Earn, LegBasis::Basket, "0.015")
        },
        // Fixed, to a third party.
        Leg {
            to: named(&third.id),
            ..leg(LegTrigger::Earn, LegBasis::Fixed, "0.07")
        },
        // 10 % of the face value of 100 points: 0.10, but at least 0.25.
        Leg {
            min: Some("0.25".into()),
            ..leg(LegTrigger::Redeem, LegBasis::FaceValue, "0.1")
        },
        // 20 % of a check of 40.00, but at most 1.00.
        Leg {
            max: Some("1.00".into()),
            ..leg(LegTrigger::Redeem, LegBasis::Basket, "0.2")
        },
        // When points expire, half a cent each goes to the third party.
        Leg {
            to: named(&third.id),
            ..leg(LegTrigger::Expire, LegBasis::PerPoint, "0.005")
        },
    ];
    let shop = network
        .partner(
            "shop",
            Terms {
                legs,
                lot_lifetime_days: 30,
                ..terms::bare("EUR")
            },
        )
        .await;
    let member = network.member().await;
    shop.earn(&member, "c-1", 333).await;
    let nets = network.nets("").await;
    assert_eq!(nets[&shop.id], -(411_089 + 50_000 + 70_000));
    assert_eq!((nets[&third.id], nets[OPERATOR]), (70_000, 461_089));

    let spending = coalition_proto::redeem::RedeemRequest {
        check_total: Some(coalition_tests::figures::money("EUR", 4_000)),
        ..shop.redeeming(&member, "r-1", 100)
    };
    shop.till.ask(spending).await;
    let spent = network.nets("").await;
    assert_eq!(spent[&shop.id], nets[&shop.id] - 250_000 - 1_000_000);
    // Undone whole, every leg comes back to the micro-unit.
    shop.refund("r-1", 100).await;
    assert_eq!(network.nets("").await, nets);

    network.set_clock("2026-02-01").await;
    assert_eq!(network.cut().await.expired_points, 333);
    let windows = network
        .viewer
        .ask(coalition_proto::settlement::ListWindowsRequest::default())
        .await
        .windows;
    let after = network.nets(&windows[1].window_id).await;
    assert_eq!(after[&third.id], 70_000 + 333 * 5_000);
}
