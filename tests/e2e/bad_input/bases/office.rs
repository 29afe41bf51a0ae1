//! Good requests of what happens in offices: settlement, partners and their agreements.

use coalition_proto::partner::terms::Preset;
use coalition_proto::partner::{
    AcceptAgreementRequest, Bilateral, CreatePartnerRequest, GetPartnerRequest, Leg, LegBasis,
    LegParty, LegRounding, LegTrigger, ListAgreementsRequest, ListPartnersRequest, PartyRole,
    Prepaid, ProposeAgreementRequest, ReturnPolicy, SettleAtIssue, SettleAtRedemption, Terms,
    get_partner_request, leg_party,
};
use coalition_proto::settlement::{
    ComputeSettlementRequest, CutWindowRequest, FundingDirection, GetHeadroomRequest,
    GetOpenWindowRequest, GetSettlementRequest, GetTrialBalanceRequest, ListExposuresRequest,
    ListPositionsRequest, ListPostingsRequest, ListSettlementsRequest, ListWindowsRequest,
    NettingMethod, RecordFundingRequest, SettlementState, VerifyRequest, WindowState,
};
use coalition_tests::figures::{later, money, time};
use coalition_tests::network::START;
use coalition_tests::{OPERATOR, request_id, terms};

use super::{Base, PAGE, Renew as R, WRITE, World};

impl World<'_> {
    pub(super) async fn settlement(&self) -> Vec<Base> {
        let (maker, viewer) = (&self.network.maker, &self.network.viewer);
        let (cafe, office) = (&self.cafe, &self.cafe.office);
        let window_id = self.windows[0].clone();
        let cut = CutWindowRequest {
            request_id: request_id(),
            expected_window_id: window_id.clone(),
        };
        let compute = ComputeSettlementRequest {
            request_id: request_id(),
            window_ids: self.windows.clone(),
            netting: NettingMethod::Bilateral.into(),
            validate_only: true,
        };
        let compute_and_keep = ComputeSettlementRequest {
            validate_only: false,
            ..compute.clone()
        };
        let fund = RecordFundingRequest {
            request_id: request_id(),
            partner_id: cafe.id.clone(),
            amount: Some(money("EUR", 100)),
            direction: FundingDirection::Deposit.into(),
            bank_reference: "RF18 5390 0754 7034".to_owned(),
        };
        let mut bases = vec![
            self.base(viewer, GetOpenWindowRequest {}, &[]),
            self.named("SettlementService/Verify", viewer, &VerifyRequest {}, &[]),
            self.base(maker, cut, &[R::Request, R::OpenWindow]),
            self.base(maker, compute, WRITE),
            self.base(maker, compute_and_keep, &[R::Request, R::ClosedWindow]),
            self.base(maker, fund, WRITE),
            self.base(
                viewer,
                GetSettlementRequest {
                    settlement_id: self.settlement.clone(),
                },
                &[],
            ),
            self.base(
                viewer,
                GetHeadroomRequest {
                    partner_id: cafe.id.clone(),
                },
                &[],
            ),
            self.base(office, GetHeadroomRequest::default(), &[])
                .of_partner(cafe),
            self.base(viewer, GetTrialBalanceRequest { window_id }, &[]),
        ];
        bases.extend(self.window_lists().await);
        bases.extend(self.figure_lists().await);
        bases
    }

    async fn window_lists(&self) -> Vec<Base> {
        let viewer = &self.network.viewer;
        let windows = ListWindowsRequest {
            state: Some(WindowState::Closed.into()),
            page_size: 1,
            page_token: String::new(),
        };
        let windows_on = ListWindowsRequest {
            page_token: viewer.ask(windows.clone()).await.next_page_token,
            ..windows.clone()
        };
        let settlements = ListSettlementsRequest {
            state: Some(SettlementState::Computed.into()),
            page_size: 1,
            page_token: String::new(),
        };
        let settlements_on = ListSettlementsRequest {
            page_token: viewer.ask(settlements.clone()).await.next_page_token,
            ..settlements.clone()
        };
        vec![
            self.base(viewer, windows, &[]),
            self.base(viewer, windows_on, &[]).only(PAGE),
            self.base(viewer, settlements, &[]),
            self.base(viewer, settlements_on, &[]).only(PAGE),
        ]
    }

    async fn figure_lists(&self) -> Vec<Base> {
        let viewer = &self.network.viewer;
        let (cafe, office) = (&self.cafe, &self.cafe.office);
        let window_id = self.windows[0].clone();
        let positions = ListPositionsRequest {
            window_id: window_id.clone(),
            page_size: 1,
            ..ListPositionsRequest::default()
        };
        let positions_on = ListPositionsRequest {
            page_token: viewer.ask(positions.clone()).await.next_page_token,
            ..positions.clone()
        };
        let positions_of = ListPositionsRequest {
            party: cafe.id.clone(),
            ..positions.clone()
        };
        let exposures = ListExposuresRequest {
            window_id: window_id.clone(),
            page_size: 1,
            ..ListExposuresRequest::default()
        };
        let exposures_on = ListExposuresRequest {
            page_token: viewer.ask(exposures.clone()).await.next_page_token,
            ..exposures.clone()
        };
        let exposures_of = ListExposuresRequest {
            party: OPERATOR.to_owned(),
            ..exposures
        };
        let postings = ListPostingsRequest {
            window_id,
            partner_id: cafe.id.clone(),
            member_id: self.member.clone(),
            page_size: 1,
            page_token: String::new(),
        };
        let postings_on = ListPostingsRequest {
            page_token: viewer.ask(postings.clone()).await.next_page_token,
            ..postings.clone()
        };
        vec![
            self.base(office, positions, &[]).of_partner(cafe),
            self.base(viewer, positions_on, &[]).only(PAGE),
            self.base(viewer, positions_of, &[]),
            self.base(viewer, exposures_of.clone(), &[]),
            self.base(
                office,
                ListExposuresRequest {
                    party: String::new(),
                    ..exposures_of
                },
                &[],
            )
            .of_partner(cafe),
            self.base(viewer, exposures_on, &[]).only(PAGE),
            self.base(viewer, postings.clone(), &[]),
            self.base(office, postings, &[]).of_partner(cafe),
            self.base(viewer, postings_on, &[]).only(PAGE),
        ]
    }

    pub(super) async fn partners(&self) -> Vec<Base> {
        let (maker, viewer) = (&self.network.maker, &self.network.viewer);
        let (cafe, scratch) = (&self.cafe, &self.scratch);
        let create = CreatePartnerRequest {
            request_id: request_id(),
            code: "new".to_owned(),
            display_name: "Bäckerei <Ängström> & Söhne".to_owned(),
            kind: 2,
        };
        let by_id = GetPartnerRequest {
            key: Some(get_partner_request::Key::PartnerId(cafe.id.clone())),
        };
        let by_code = GetPartnerRequest {
            key: Some(get_partner_request::Key::Code("cafe".to_owned())),
        };
        let list = ListPartnersRequest {
            page_size: 1,
            page_token: String::new(),
        };
        let list_on = ListPartnersRequest {
            page_token: viewer.ask(list.clone()).await.next_page_token,
            ..list
        };
        let accept = AcceptAgreementRequest {
            request_id: request_id(),
            agreement_id: scratch.agreement.clone(),
            etag: "seen".to_owned(),
        };
        self.network
            .agree(&scratch.id, "", terms::bare("EUR"))
            .await;
        let agreements = ListAgreementsRequest {
            partner_id: scratch.id.clone(),
            page_size: 1,
            page_token: String::new(),
        };
        let agreements_on = ListAgreementsRequest {
            page_token: viewer.ask(agreements.clone()).await.next_page_token,
            ..agreements.clone()
        };
        let of_all = ListAgreementsRequest {
            partner_id: String::new(),
            ..agreements.clone()
        };
        let mut bases = vec![
            self.base(maker, create, &[R::Request, R::Code]),
            self.base(viewer, by_id.clone(), &[]),
            self.base(viewer, by_code, &[]),
            self.base(&cafe.office, by_id, &[]).of_partner(cafe),
            self.base(viewer, list_on, &[]),
            self.base(&scratch.office, accept, &[R::Request, R::Proposal])
                .of_partner(scratch),
            self.base(viewer, agreements, &[]),
            self.base(&scratch.office, of_all, &[]).of_partner(scratch),
            self.base(viewer, agreements_on, &[]).only(PAGE),
        ];
        bases.extend(self.proposals());
        bases
    }

    fn proposals(&self) -> Vec<Base> {
        let (maker, scratch) = (&self.network.maker, &self.scratch);
        let rate = || "0.012345678901".to_owned();
        let whole = ProposeAgreementRequest {
            request_id: request_id(),
            partner_id: scratch.id.clone(),
            counterparty_id: self.deli.id.clone(),
            effective_at: Some(later(&time(START), 86_400)),
            terms: Some(self.whole_terms()),
        };
        // A pair's legs apply to redemptions alone: presets that write others are for one partner.
        let with = |preset: Preset| ProposeAgreementRequest {
            counterparty_id: String::new(),
            terms: Some(Terms {
                preset: Some(preset),
                ..terms::bare("EUR")
            }),
            ..whole.clone()
        };
        let presets = [
            (
                Preset::SettleAtRedemption(SettleAtRedemption {
                    redemption_price_per_point: rate(),
                    reimbursement_per_point: rate(),
                }),
                &["terms.settle_at_redemption"][..],
            ),
            (
                Preset::SettleAtIssue(SettleAtIssue {
                    issue_price_per_point: rate(),
                    reimbursement_per_point: rate(),
                }),
                &["terms.settle_at_issue"],
            ),
            (
                Preset::Prepaid(Prepaid {
                    issue_price_per_point: rate(),
                    reimbursement_per_point: rate(),
                }),
                &["terms.prepaid"],
            ),
        ];
        let own = ProposeAgreementRequest {
            request_id: request_id(),
            terms: Some(terms::bare("EUR")),
            ..ProposeAgreementRequest::default()
        };
        let mut bases = vec![
            self.base(maker, whole.clone(), WRITE),
            self.base(&scratch.office, own, WRITE)
                .of_partner(scratch)
                .only(&["partner_id", "counterparty_id", "effective_at"]),
        ];
        for (preset, only) in presets {
            bases.push(self.base(maker, with(preset), WRITE).only(only));
        }
        bases
    }

    /// Terms with every field set.
    fn whole_terms(&self) -> Terms {
        let role = |role: PartyRole| LegParty {
            party: Some(leg_party::Party::Role(role.into())),
        };
        let named = LegParty {
            party: Some(leg_party::Party::PartnerId(self.cafe.id.clone())),
        };
        let leg = |from: LegParty, to: LegParty| Leg {
            trigger: LegTrigger::Redeem.into(),
            from: Some(from),
            to: Some(to),
            basis: LegBasis::Basket.into(),
            rate: "0.02".to_owned(),
            min: Some("0.01".to_owned()),
            max: Some("100".to_owned()),
            rounding: Some(LegRounding::Minor.into()),
        };
        Terms {
            pending_days: 3,
            return_policy: Some(ReturnPolicy::WithinBalance.into()),
            include_tax: true,
            include_tip: true,
            include_gift_cards: true,
            funders: vec![
                terms::funder(OPERATOR, 40),
                terms::funder(&self.cafe.id, 60),
            ],
            limit: Some("1000.5".to_owned()),
            net_inbound: true,
            alert_below_points: 50,
            legs: vec![
                leg(role(PartyRole::Redeemer), named.clone()),
                leg(named, role(PartyRole::Operator)),
            ],
            preset: Some(Preset::Bilateral(Bilateral {
                price_per_point: "0.01".to_owned(),
                fee_per_point: "0.002".to_owned(),
            })),
            ..terms::bare("EUR")
        }
    }
}
