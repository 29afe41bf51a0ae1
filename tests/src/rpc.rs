//! Request messages, each knowing the RPC that answers it.

use coalition_proto::{earn, member, partner, redeem, sandbox, settlement};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use earn::earn_service_client::EarnServiceClient;
use member::member_service_client::MemberServiceClient;
use partner::partner_service_client::PartnerServiceClient;
use redeem::redeem_service_client::RedeemServiceClient;
use sandbox::sandbox_service_client::SandboxServiceClient;
use settlement::settlement_service_client::SettlementServiceClient;

/// A request message, and the RPC that answers it with one message.
pub trait Rpc: Clone + Send + Sync + 'static {
    /// What it is answered with.
    type Answer: Clone + std::fmt::Debug + PartialEq + Send + 'static;

    /// The RPC, as in an HTTP/2 path without the package: `EarnService/Earn`.
    const NAME: &'static str;

    /// Sends it, once.
    fn send(
        channel: Channel,
        request: Request<Self>,
    ) -> impl Future<Output = Result<Response<Self::Answer>, Status>> + Send;
}

macro_rules! rpcs {
    ($($client:ident.$method:ident($request:ty) -> $answer:ty, $name:literal;)*) => {
        $(
            impl Rpc for $request {
                type Answer = $answer;
                const NAME: &'static str = $name;

                async fn send(
                    channel: Channel,
                    request: Request<Self>,
                ) -> Result<Response<Self::Answer>, Status> {
                    $client::new(channel).$method(request).await
                }
            }
        )*

        /// Every RPC that has a request here: all but the one that answers with a stream.
        pub const NAMES: &[&str] = &[$($name),*];
    };
}

rpcs! {
    EarnServiceClient.quote(earn::QuoteRequest) -> earn::QuoteResponse, "EarnService/Quote";
    EarnServiceClient.earn(earn::EarnRequest) -> earn::EarnResponse, "EarnService/Earn";
    EarnServiceClient.return_earn(earn::ReturnEarnRequest) -> earn::ReturnEarnResponse, "EarnService/ReturnEarn";
    EarnServiceClient.reverse_by_reference(earn::ReverseByReferenceRequest) -> earn::ReverseByReferenceResponse, "EarnService/ReverseByReference";
    EarnServiceClient.get_transaction(earn::GetTransactionRequest) -> earn::GetTransactionResponse, "EarnService/GetTransaction";
    RedeemServiceClient.quote(redeem::QuoteRequest) -> redeem::QuoteResponse, "RedeemService/Quote";
    RedeemServiceClient.redeem(redeem::RedeemRequest) -> redeem::RedeemResponse, "RedeemService/Redeem";
    RedeemServiceClient.refund_redemption(redeem::RefundRedemptionRequest) -> redeem::RefundRedemptionResponse, "RedeemService/RefundRedemption";
    RedeemServiceClient.reverse_by_reference(redeem::ReverseByReferenceRequest) -> redeem::ReverseByReferenceResponse, "RedeemService/ReverseByReference";
    RedeemServiceClient.get_transaction(redeem::GetTransactionRequest) -> redeem::GetTransactionResponse, "RedeemService/GetTransaction";
    SettlementServiceClient.get_open_window(settlement::GetOpenWindowRequest) -> settlement::GetOpenWindowResponse, "SettlementService/GetOpenWindow";
    SettlementServiceClient.list_windows(settlement::ListWindowsRequest) -> settlement::ListWindowsResponse, "SettlementService/ListWindows";
    SettlementServiceClient.cut_window(settlement::CutWindowRequest) -> settlement::CutWindowResponse, "SettlementService/CutWindow";
    SettlementServiceClient.list_positions(settlement::ListPositionsRequest) -> settlement::ListPositionsResponse, "SettlementService/ListPositions";
    SettlementServiceClient.list_exposures(settlement::ListExposuresRequest) -> settlement::ListExposuresResponse, "SettlementService/ListExposures";
    SettlementServiceClient.list_postings(settlement::ListPostingsRequest) -> settlement::ListPostingsResponse, "SettlementService/ListPostings";
    SettlementServiceClient.compute_settlement(settlement::ComputeSettlementRequest) -> settlement::ComputeSettlementResponse, "SettlementService/ComputeSettlement";
    SettlementServiceClient.get_settlement(settlement::GetSettlementRequest) -> settlement::GetSettlementResponse, "SettlementService/GetSettlement";
    SettlementServiceClient.list_settlements(settlement::ListSettlementsRequest) -> settlement::ListSettlementsResponse, "SettlementService/ListSettlements";
    SettlementServiceClient.record_funding(settlement::RecordFundingRequest) -> settlement::RecordFundingResponse, "SettlementService/RecordFunding";
    SettlementServiceClient.get_headroom(settlement::GetHeadroomRequest) -> settlement::GetHeadroomResponse, "SettlementService/GetHeadroom";
    SettlementServiceClient.get_trial_balance(settlement::GetTrialBalanceRequest) -> settlement::GetTrialBalanceResponse, "SettlementService/GetTrialBalance";
    PartnerServiceClient.create_partner(partner::CreatePartnerRequest) -> partner::CreatePartnerResponse, "PartnerService/CreatePartner";
    PartnerServiceClient.get_partner(partner::GetPartnerRequest) -> partner::GetPartnerResponse, "PartnerService/GetPartner";
    PartnerServiceClient.list_partners(partner::ListPartnersRequest) -> partner::ListPartnersResponse, "PartnerService/ListPartners";
    PartnerServiceClient.propose_agreement(partner::ProposeAgreementRequest) -> partner::ProposeAgreementResponse, "PartnerService/ProposeAgreement";
    PartnerServiceClient.accept_agreement(partner::AcceptAgreementRequest) -> partner::AcceptAgreementResponse, "PartnerService/AcceptAgreement";
    PartnerServiceClient.list_agreements(partner::ListAgreementsRequest) -> partner::ListAgreementsResponse, "PartnerService/ListAgreements";
    MemberServiceClient.enroll(member::EnrollRequest) -> member::EnrollResponse, "MemberService/Enroll";
    MemberServiceClient.lookup(member::LookupRequest) -> member::LookupResponse, "MemberService/Lookup";
    MemberServiceClient.get_balance(member::GetBalanceRequest) -> member::GetBalanceResponse, "MemberService/GetBalance";
    MemberServiceClient.list_activity(member::ListActivityRequest) -> member::ListActivityResponse, "MemberService/ListActivity";
    SandboxServiceClient.get_clock(sandbox::GetClockRequest) -> sandbox::GetClockResponse, "SandboxService/GetClock";
    SandboxServiceClient.set_clock(sandbox::SetClockRequest) -> sandbox::SetClockResponse, "SandboxService/SetClock";
    SandboxServiceClient.advance_clock(sandbox::AdvanceClockRequest) -> sandbox::AdvanceClockResponse, "SandboxService/AdvanceClock";
}
