//! Requests, each knowing the RPC it is for: every request message belongs to exactly one.

use std::future::Future;
use std::time::Duration;

use coalition_proto::earn::earn_service_client::EarnServiceClient;
use coalition_proto::member::member_service_client::MemberServiceClient;
use coalition_proto::partner::partner_service_client::PartnerServiceClient;
use coalition_proto::redeem::redeem_service_client::RedeemServiceClient;
use coalition_proto::sandbox::sandbox_service_client::SandboxServiceClient;
use coalition_proto::settlement::settlement_service_client::SettlementServiceClient;
use coalition_proto::{earn, member, partner, redeem, sandbox, settlement};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// How long a call waits for its answer: as long as the network works on one.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for work over whole windows.
const BULK_TIMEOUT: Duration = Duration::from_mins(10);

/// A request message, and the RPC that answers it.
pub trait Rpc: Clone + Send + Sync + 'static {
    /// What it is answered with.
    type Answer: Send + 'static;

    /// The RPC, as `EarnService/Earn`.
    const NAME: &'static str;

    /// How long its answer is waited for.
    const TIMEOUT: Duration;

    /// Sends it over a connection.
    fn send(
        channel: Channel,
        request: Request<Self>,
    ) -> impl Future<Output = Result<Response<Self::Answer>, Status>> + Send;
}

macro_rules! rpcs {
    ($($client:ident::$method:ident($request:ty) -> $answer:ty, $name:literal, $timeout:ident;)*) => {$(
        impl Rpc for $request {
            type Answer = $answer;
            const NAME: &'static str = $name;
            const TIMEOUT: Duration = $timeout;

            async fn send(
                channel: Channel,
                request: Request<Self>,
            ) -> Result<Response<Self::Answer>, Status> {
                $client::new(channel).$method(request).await
            }
        }
    )*};
}

rpcs! {
    EarnServiceClient::earn(earn::EarnRequest) -> earn::EarnResponse, "EarnService/Earn", CALL_TIMEOUT;
    EarnServiceClient::return_earn(earn::ReturnEarnRequest) -> earn::ReturnEarnResponse, "EarnService/ReturnEarn", CALL_TIMEOUT;
    RedeemServiceClient::quote(redeem::QuoteRequest) -> redeem::QuoteResponse, "RedeemService/Quote", CALL_TIMEOUT;
    RedeemServiceClient::redeem(redeem::RedeemRequest) -> redeem::RedeemResponse, "RedeemService/Redeem", CALL_TIMEOUT;
    RedeemServiceClient::refund_redemption(redeem::RefundRedemptionRequest) -> redeem::RefundRedemptionResponse, "RedeemService/RefundRedemption", CALL_TIMEOUT;
    MemberServiceClient::enroll(member::EnrollRequest) -> member::EnrollResponse, "MemberService/Enroll", CALL_TIMEOUT;
    MemberServiceClient::get_balance(member::GetBalanceRequest) -> member::GetBalanceResponse, "MemberService/GetBalance", CALL_TIMEOUT;
    PartnerServiceClient::create_partner(partner::CreatePartnerRequest) -> partner::CreatePartnerResponse, "PartnerService/CreatePartner", CALL_TIMEOUT;
    PartnerServiceClient::propose_agreement(partner::ProposeAgreementRequest) -> partner::ProposeAgreementResponse, "PartnerService/ProposeAgreement", CALL_TIMEOUT;
    PartnerServiceClient::accept_agreement(partner::AcceptAgreementRequest) -> partner::AcceptAgreementResponse, "PartnerService/AcceptAgreement", CALL_TIMEOUT;
    SandboxServiceClient::get_clock(sandbox::GetClockRequest) -> sandbox::GetClockResponse, "SandboxService/GetClock", CALL_TIMEOUT;
    SandboxServiceClient::set_clock(sandbox::SetClockRequest) -> sandbox::SetClockResponse, "SandboxService/SetClock", CALL_TIMEOUT;
    SettlementServiceClient::cut_window(settlement::CutWindowRequest) -> settlement::CutWindowResponse, "SettlementService/CutWindow", BULK_TIMEOUT;
    SettlementServiceClient::compute_settlement(settlement::ComputeSettlementRequest) -> settlement::ComputeSettlementResponse, "SettlementService/ComputeSettlement", BULK_TIMEOUT;
    SettlementServiceClient::list_positions(settlement::ListPositionsRequest) -> settlement::ListPositionsResponse, "SettlementService/ListPositions", CALL_TIMEOUT;
    SettlementServiceClient::list_exposures(settlement::ListExposuresRequest) -> settlement::ListExposuresResponse, "SettlementService/ListExposures", CALL_TIMEOUT;
    SettlementServiceClient::record_funding(settlement::RecordFundingRequest) -> settlement::RecordFundingResponse, "SettlementService/RecordFunding", CALL_TIMEOUT;
    SettlementServiceClient::get_headroom(settlement::GetHeadroomRequest) -> settlement::GetHeadroomResponse, "SettlementService/GetHeadroom", CALL_TIMEOUT;
    SettlementServiceClient::get_trial_balance(settlement::GetTrialBalanceRequest) -> settlement::GetTrialBalanceResponse, "SettlementService/GetTrialBalance", BULK_TIMEOUT;
}
