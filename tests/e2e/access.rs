//! Who may do what, and see whose figures. Roles are tried against every RPC that the protos
//! declare; what belongs to another partner reads the same as what does not exist.

use coalition_ledger::ids::PartnerId;
use coalition_proto::common::PosContext;
use coalition_proto::earn::{self, EarnRequest};
use coalition_proto::member::{GetBalanceRequest, ListActivityRequest};
use coalition_proto::partner::{
    AcceptAgreementRequest, GetPartnerRequest, ListAgreementsRequest, ProposeAgreementRequest,
    get_partner_request,
};
use coalition_proto::policy::{self, Policy, Role};
use coalition_proto::redeem;
use coalition_proto::settlement::{
    ComputeSettlementRequest, GetHeadroomRequest, GetSettlementRequest, ListExposuresRequest,
    ListPositionsRequest, ListPostingsRequest, ListSettlementsRequest, ListWindowsRequest,
    NettingMethod,
};
use coalition_rpc::auth::dev::TokenRequest;
use coalition_tests::rpc::{NAMES, Rpc};
use coalition_tests::{Caller, Network, Partner, Refusal, both_engines, request_id, terms};
use tonic::Code;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_prost::ProstCodec;

use crate::sale::{refunding_transaction, returning_transaction};
use crate::told;

both_engines!(
    security_1_and_16_every_rpc_asks_for_a_role,
    scopes_narrow_what_a_role_allows,
    security_60_the_partner_comes_from_the_token,
    security_12_and_13_others_figures_read_like_nothing,
    partners_see_their_own_rows_only,
    security_15_page_tokens_are_personal,
    a_till_is_bound_to_its_place,
    a_token_for_nobody_opens_nothing,
);

/// A call of any RPC with an empty message: how far it gets tells who is let in.
async fn knock(caller: &Caller, policy: &Policy) -> Result<(), Refusal> {
    let mut grpc = Grpc::new(caller.channel());
    let told = |status: &tonic::Status| Refusal::of(policy.method, status);
    grpc.ready().await.expect("the network is there");
    let path = PathAndQuery::from_static(policy.method);
    // Reads both one answer and a stream of them; an empty message is one of any kind.
    let codec: ProstCodec<(), ()> = ProstCodec::default();
    let answer = grpc.server_streaming(caller.request(()), path, codec).await;
    let mut stream = answer.map_err(|status| told(&status))?.into_inner();
    while stream
        .message()
        .await
        .map_err(|status| told(&status))?
        .is_some()
    {}
    Ok(())
}

async fn security_1_and_16_every_rpc_asks_for_a_role(network: &Network) {
    let cafe = network.partner("cafe", terms::bare("EUR")).await;
    let partner = coalition_tests::network::partner_id(&cafe.id);
    let mut tried = 0;
    for policy in policy::all() {
        assert!(!policy.public, "{} is for nobody", policy.method);
        let mut strangers = vec![network.stranger()];
        for token in ["", "garbage", "a.b.c", "eyJhbGciOiJub25lIn0.e30."] {
            strangers.push(Caller::new(network.stranger().channel(), Some(token)));
        }
        for stranger in strangers {
            let refusal = knock(&stranger, policy).await.expect_err(policy.method);
            refusal.assert(Code::Unauthenticated, "UNAUTHENTICATED");
            tried += 1;
        }
        for role in Role::ALL {
            let outcome = knock(&in_role(network, partner, role), policy).await;
            tried += 1;
            if policy.roles.contains(&role) {
                let let_in = outcome.as_ref().err().is_none_or(|refusal| {
                    !matches!(refusal.code, Code::Unauthenticated | Code::PermissionDenied)
                });
                assert!(let_in, "{role} may call {}: {outcome:?}", policy.method);
            } else {
                let refusal = outcome.expect_err(policy.method);
                refusal.assert(Code::PermissionDenied, "PERMISSION_DENIED");
            }
        }
    }
    // The typed calls of these tests are all there is, but for the one that answers with a stream.
    let mut typed: Vec<&str> = NAMES
        .iter()
        .copied()
        .chain(["SettlementService/Verify"])
        .collect();
    typed.sort_unstable();
    let mut declared: Vec<&str> = policy::all()
        .iter()
        .map(|policy| policy.method.rsplit_once('.').expect("a package").1)
        .collect();
    declared.sort_unstable();
    assert_eq!(typed, declared);
    told(&format!(
        "roles against RPCs: {tried} inputs tried, 0 wrong"
    ));
}

fn in_role(network: &Network, partner: PartnerId, role: Role) -> Caller {
    network.caller(&match role {
        Role::Pos => TokenRequest::till(partner, "a till"),
        Role::PartnerAdmin => TokenRequest::partner_admin(partner, "an office"),
        operator => TokenRequest::new(operator.as_str(), [operator]),
    })
}

async fn scopes_narrow_what_a_role_allows(network: &Network) {
    let cafe = network.partner("cafe", terms::bare("EUR")).await;
    let member = network.member().await;
    let partner = coalition_tests::network::partner_id(&cafe.id);
    let narrow = TokenRequest {
        scope: Some("earn:write member:read".to_owned()),
        ..TokenRequest::till(partner, "a till")
    };
    let till = network.caller(&narrow);
    till.ask(cafe.earning(&member, "c-1", 100)).await;
    till.ask(GetBalanceRequest {
        member_id: member.clone(),
    })
    .await;
    let refusal = till.refused(cafe.redeeming(&member, "r-1", 1)).await;
    refusal.assert(Code::PermissionDenied, "PERMISSION_DENIED");
    // A scope adds nothing to a role.
    let wide = TokenRequest {
        scope: Some("settlement:write".to_owned()),
        ..narrow
    };
    let cut = coalition_proto::settlement::CutWindowRequest {
        request_id: request_id(),
        ..Default::default()
    };
    network
        .caller(&wide)
        .refused(cut)
        .await
        .assert(Code::PermissionDenied, "PERMISSION_DENIED");
}

/// Two partners that trade, and a third party's id that nobody has.
struct Two {
    a: Partner,
    b: Partner,
    nobody: String,
}

async fn two(network: &Network) -> Two {
    let base = terms::settle_at_redemption("EUR", "0.01", "0.008");
    let a = network.partner("a", base.clone()).await;
    let b = network.partner("b", base).await;
    let nobody = b.id.replace("ptr_0", "ptr_1");
    Two { a, b, nobody }
}

async fn security_60_the_partner_comes_from_the_token(network: &Network) {
    let Two { a, b, nobody } = two(network).await;
    let member = network.member().await;
    for other in [&b.id, &nobody] {
        let named = EarnRequest {
            partner_id: other.clone(),
            ..a.earning(&member, "c-1", 100)
        };
        denied(&a.till, named).await;
        denied(
            &a.till,
            redeem::RedeemRequest {
                partner_id: other.clone(),
                ..a.redeeming(&member, "r-1", 1)
            },
        )
        .await;
        denied(
            &a.till,
            earn::ReturnEarnRequest {
                partner_id: other.clone(),
                ..a.returning("c-1", 1)
            },
        )
        .await;
        denied(
            &a.till,
            redeem::RefundRedemptionRequest {
                partner_id: other.clone(),
                ..a.refunding("r-1", 1)
            },
        )
        .await;
        let undo = earn::ReverseByReferenceRequest {
            request_id: request_id(),
            partner_id: other.clone(),
            original_request_id: request_id(),
            ..earn::ReverseByReferenceRequest::default()
        };
        denied(&a.till, undo).await;
        let propose = ProposeAgreementRequest {
            request_id: request_id(),
            partner_id: other.clone(),
            terms: Some(terms::bare("EUR")),
            ..ProposeAgreementRequest::default()
        };
        denied(&a.office, propose).await;
    }
    // Its own name is no harm, and an operator may act for anybody who exists.
    let named = EarnRequest {
        partner_id: a.id.clone(),
        ..a.earning(&member, "c-1", 100)
    };
    a.till.ask(named).await;
    let for_b = EarnRequest {
        partner_id: b.id.clone(),
        ..b.earning(&member, "c-1", 100)
    };
    let earned = network.maker.ask(for_b).await;
    assert_eq!(earned.lots[0].issuer, b.id);
}

/// Refused as not allowed.
async fn denied<R: Rpc>(caller: &Caller, request: R) -> Refusal {
    let refusal = caller.refused(request).await;
    refusal.assert(Code::PermissionDenied, "PERMISSION_DENIED");
    refusal
}

/// The same refusal for what is another's and for what is nowhere.
async fn same<R: Rpc>(caller: &Caller, anothers: R, nowhere: R) {
    let (anothers, nowhere) = (
        caller.refused(anothers).await,
        caller.refused(nowhere).await,
    );
    let without_ids = |refusal: &Refusal| Refusal {
        metadata: refusal
            .metadata
            .iter()
            .filter(|(key, _)| !["correlation_id", "transaction_id"].contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        ..refusal.clone()
    };
    assert_eq!(without_ids(&anothers), without_ids(&nowhere));
    assert!(
        matches!(anothers.code, Code::PermissionDenied | Code::NotFound),
        "{anothers}"
    );
}

async fn security_12_and_13_others_figures_read_like_nothing(network: &Network) {
    let Two { a, b, nobody } = two(network).await;
    let member = network.member().await;
    let earned = b.earn(&member, "c-1", 1_000).await.transaction_id;
    let request = b.redeeming(&member, "r-1", 100);
    let spent = b.till.ask(request.clone()).await.transaction_id;
    let nothing = spent.replace("txn_0", "txn_1");

    let look = |id: &str| earn::GetTransactionRequest {
        key: Some(earn::get_transaction_request::Key::TransactionId(
            id.to_owned(),
        )),
        ..earn::GetTransactionRequest::default()
    };
    for caller in [&a.till, &a.office] {
        same(caller, look(&earned), look(&nothing)).await;
        denied(caller, look(&earned)).await;
    }
    let look = |id: &str| redeem::GetTransactionRequest {
        key: Some(redeem::get_transaction_request::Key::RequestId(
            id.to_owned(),
        )),
        ..redeem::GetTransactionRequest::default()
    };
    same(&a.till, look(&request.request_id), look(&request_id())).await;
    same(
        &a.till,
        returning_transaction(&a, &earned, 1),
        returning_transaction(&a, &nothing, 1),
    )
    .await;
    same(
        &a.till,
        refunding_transaction(&a, &spent, 1),
        refunding_transaction(&a, &nothing, 1),
    )
    .await;
    same(&a.till, a.refunding("r-1", 1), a.refunding("r-none", 1)).await;

    let partner = |id: &str| GetPartnerRequest {
        key: Some(get_partner_request::Key::PartnerId(id.to_owned())),
    };
    same(&a.office, partner(&b.id), partner(&nobody)).await;
    let code = |code: &str| GetPartnerRequest {
        key: Some(get_partner_request::Key::Code(code.to_owned())),
    };
    same(&a.office, code("b"), code("nobody")).await;
    let agreements = |id: &str| ListAgreementsRequest {
        partner_id: id.to_owned(),
        ..ListAgreementsRequest::default()
    };
    same(&a.office, agreements(&b.id), agreements(&nobody)).await;
    let headroom = |id: &str| GetHeadroomRequest {
        partner_id: id.to_owned(),
    };
    same(&a.office, headroom(&b.id), headroom(&nobody)).await;
    let accept = |id: &str| AcceptAgreementRequest {
        request_id: request_id(),
        agreement_id: id.to_owned(),
        etag: "seen".to_owned(),
    };
    same(
        &a.office,
        accept(&b.agreement),
        accept(&b.agreement.replace("agr_0", "agr_1")),
    )
    .await;
    let positions = |id: &str| ListPositionsRequest {
        party: id.to_owned(),
        ..ListPositionsRequest::default()
    };
    same(&a.office, positions(&b.id), positions(&nobody)).await;
    let exposures = |id: &str| ListExposuresRequest {
        party: id.to_owned(),
        ..ListExposuresRequest::default()
    };
    same(&a.office, exposures(&b.id), exposures(&nobody)).await;
    let postings = |id: &str| ListPostingsRequest {
        partner_id: id.to_owned(),
        ..ListPostingsRequest::default()
    };
    same(&a.office, postings(&b.id), postings(&nobody)).await;
    let activity = |id: &str| ListActivityRequest {
        member_id: member.clone(),
        partner_id: id.to_owned(),
        ..ListActivityRequest::default()
    };
    same(&a.till, activity(&b.id), activity(&nobody)).await;
}

async fn partners_see_their_own_rows_only(network: &Network) {
    let Two { a, b, .. } = two(network).await;
    let c = network
        .partner("c", terms::settle_at_redemption("EUR", "0.01", "0.008"))
        .await;
    let member = network.member().await;
    a.earn(&member, "a-1", 100).await;
    b.earn(&member, "b-1", 100).await;
    b.redeem(&member, "b-2", 150).await;
    c.earn(&member, "c-1", 100).await;
    c.redeem(&member, "c-2", 100).await;
    let window = network
        .cut()
        .await
        .closed
        .expect("a window was closed")
        .window_id;

    let rows = a
        .office
        .ask(ListPositionsRequest {
            window_id: window.clone(),
            ..Default::default()
        })
        .await;
    assert_eq!(
        rows.positions
            .iter()
            .map(|row| &row.party)
            .collect::<Vec<_>>(),
        [&a.id]
    );
    assert!(rows.sums.iter().all(|sum| sum.sum_micros == 0));
    let rows = a
        .office
        .ask(ListExposuresRequest {
            window_id: window.clone(),
            ..Default::default()
        })
        .await;
    assert!(!rows.exposures.is_empty());
    assert!(
        rows.exposures
            .iter()
            .all(|row| row.issuer == a.id || row.redeemer == a.id)
    );
    let rows = a
        .office
        .ask(ListPostingsRequest {
            window_id: window.clone(),
            ..Default::default()
        })
        .await;
    assert!(!rows.postings.is_empty());
    for posting in &rows.postings {
        let transaction = posting.transaction.as_ref().expect("what it was for");
        let own = transaction.partner_id == a.id;
        assert!(
            own || transaction.request_id.is_empty(),
            "others' request ids stay theirs"
        );
        for transfer in &posting.transfers {
            let touches =
                transfer.debit_account.contains(&a.id) || transfer.credit_account.contains(&a.id);
            assert!(touches, "not theirs to see: {transfer:?}");
        }
        assert!(!posting.transfers.is_empty());
    }
    let all = network
        .viewer
        .ask(ListPostingsRequest {
            window_id: window.clone(),
            ..Default::default()
        })
        .await;
    assert_eq!(all.postings.len(), 5);
    assert!(all.postings.len() > rows.postings.len());

    let compute = ComputeSettlementRequest {
        request_id: request_id(),
        window_ids: vec![window],
        netting: NettingMethod::Multilateral.into(),
        validate_only: false,
    };
    let settlement = network
        .maker
        .ask(compute)
        .await
        .settlement
        .expect("the settlement");
    let look = GetSettlementRequest {
        settlement_id: settlement.settlement_id.clone(),
    };
    let own = a
        .office
        .ask(look.clone())
        .await
        .settlement
        .expect("the settlement");
    assert!(own.positions.iter().all(|row| row.party == a.id));
    assert!(
        own.obligations
            .iter()
            .all(|row| row.payer == a.id || row.payee == a.id)
    );
    assert_eq!(own.obligations.len(), 1);
    assert_eq!(
        network.viewer.ask(look).await.settlement,
        Some(settlement.clone())
    );
    let listed = a
        .office
        .ask(ListSettlementsRequest::default())
        .await
        .settlements;
    assert_eq!(listed, [own]);
    let nothing = settlement.settlement_id.replace("stl_0", "stl_1");
    let refusal = a
        .office
        .refused(GetSettlementRequest {
            settlement_id: nothing,
        })
        .await;
    assert!(
        matches!(refusal.code, Code::PermissionDenied | Code::NotFound),
        "{refusal}"
    );

    // Of a member's doings, what happened at their own tills.
    let activity = ListActivityRequest {
        member_id: member.clone(),
        ..ListActivityRequest::default()
    };
    let own = a.till.ask(activity.clone()).await.transactions;
    assert_eq!(own.len(), 1);
    assert!(own.iter().all(|row| row.partner_id == a.id));
    assert_eq!(network.support.ask(activity).await.transactions.len(), 5);
}

/// A token of one list, altered, or in another's hands.
async fn security_15_page_tokens_are_personal(network: &Network) {
    let Two { a, b, .. } = two(network).await;
    let member = network.member().await;
    for number in 0..4 {
        a.earn(&member, &format!("c-{number}"), 100).await;
    }
    let page = |token: &str, size: i32| ListActivityRequest {
        member_id: member.clone(),
        page_size: size,
        page_token: token.to_owned(),
        ..ListActivityRequest::default()
    };
    // Pages of three hold the same rows as one of all, in the same order.
    let all = a.till.ask(page("", 0)).await.transactions;
    assert_eq!(all.len(), 4);
    let first = a.till.ask(page("", 3)).await;
    assert_eq!(first.transactions, all[..3]);
    let token = first.next_page_token;
    let second = a.till.ask(page(&token, 3)).await;
    assert_eq!(
        (
            second.transactions.as_slice(),
            second.next_page_token.as_str()
        ),
        (&all[3..], "")
    );

    let mut altered = token.clone().into_bytes();
    let last = altered.last_mut().expect("the token is not empty");
    *last = if *last == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered).expect("tokens are text");
    for (caller, token) in [
        (&a.till, altered.as_str()),
        (&a.till, "x"),
        (&a.till, &token[..token.len() / 2]),
        (&b.till, token.as_str()),
        (&network.support, token.as_str()),
    ] {
        let refusal = caller.refused(page(token, 3)).await;
        refusal.assert(Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    }
    let elsewhere = ListWindowsRequest {
        page_token: token.clone(),
        ..ListWindowsRequest::default()
    };
    a.office
        .refused(elsewhere)
        .await
        .assert(Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    let other = network.member().await;
    let filtered = ListActivityRequest {
        member_id: other,
        ..page(&token, 3)
    };
    a.till
        .refused(filtered)
        .await
        .assert(Code::InvalidArgument, "PAGE_TOKEN_INVALID");
}

async fn a_till_is_bound_to_its_place(network: &Network) {
    let cafe = network.partner("cafe", terms::bare("EUR")).await;
    let member = network.member().await;
    let partner = coalition_tests::network::partner_id(&cafe.id);
    let bound = network.caller(&TokenRequest {
        location: Some("mitte".to_owned()),
        terminal: Some("till-1".to_owned()),
        ..TokenRequest::till(partner, "till 1")
    });
    let place = |check: &str, location: &str, terminal: &str| EarnRequest {
        context: Some(PosContext {
            check_id: check.to_owned(),
            location: location.to_owned(),
            terminal: terminal.to_owned(),
            ..PosContext::default()
        }),
        ..cafe.earning(&member, "", 100)
    };
    // It need not say where it is, and cannot say that it is elsewhere.
    let earned = bound.ask(place("c-1", "", "")).await;
    let look = earn::GetTransactionRequest {
        key: Some(earn::get_transaction_request::Key::TransactionId(
            earned.transaction_id,
        )),
        ..earn::GetTransactionRequest::default()
    };
    let found = cafe
        .till
        .ask(look)
        .await
        .transaction
        .expect("the transaction");
    assert_eq!(
        (found.location.as_str(), found.terminal.as_str()),
        ("mitte", "till-1")
    );
    bound.ask(place("c-2", "mitte", "till-1")).await;
    denied(&bound, place("c-3", "kreuzberg", "till-1")).await;
    denied(&bound, place("c-4", "mitte", "till-2")).await;
}

/// A token that is valid, of a partner that the network does not have.
async fn a_token_for_nobody_opens_nothing(network: &Network) {
    let Two { a, nobody, .. } = two(network).await;
    let member = network.member().await;
    let (till, office) = (network.till(&nobody), network.office(&nobody));
    for refusal in [
        till.refused(a.earning(&member, "c-1", 100)).await,
        till.refused(a.redeeming(&member, "r-1", 1)).await,
        till.refused(a.returning("c-1", 1)).await,
        till.refused(a.refunding("r-1", 1)).await,
        office.refused(GetHeadroomRequest::default()).await,
    ] {
        let fine = [
            Code::PermissionDenied,
            Code::NotFound,
            Code::FailedPrecondition,
        ];
        assert!(fine.contains(&refusal.code), "{refusal}");
    }
    let positions = office.ask(ListPositionsRequest::default()).await;
    assert!(positions.positions.is_empty());
}
