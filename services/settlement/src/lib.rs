//! The settlement service: windows, what parties owe each other in them, settlements, funds, and
//! the state of the books.
//!
//! Messages in, commands and questions out. Figures come from [`coalition_ledger::figures`],
//! [`coalition_ledger::trial`] and the store's operations; nothing is summed up here. Where to find
//! what: [`windows`], [`positions`], [`postings`], [`settlements`], [`funds`], [`state`]; [`sight`]
//! decides who sees what.

mod funds;
mod positions;
mod postings;
mod settlements;
mod sight;
mod state;
mod windows;

use coalition_proto::settlement as pb;
use coalition_proto::settlement::settlement_service_server::SettlementService;
use coalition_rpc::page_token::PageTokens;
use coalition_store::Books;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// The settlement service on the books.
#[derive(Clone, Debug)]
pub struct SettlementApi {
    books: Books,
    page_tokens: PageTokens,
}

impl SettlementApi {
    /// The service on these books.
    #[must_use]
    pub const fn new(books: Books, page_tokens: PageTokens) -> Self {
        Self { books, page_tokens }
    }
}

#[tonic::async_trait]
impl SettlementService for SettlementApi {
    async fn get_open_window(
        &self,
        request: Request<pb::GetOpenWindowRequest>,
    ) -> Result<Response<pb::GetOpenWindowResponse>, Status> {
        Ok(Response::new(self.open_window(&request).await?))
    }

    async fn list_windows(
        &self,
        request: Request<pb::ListWindowsRequest>,
    ) -> Result<Response<pb::ListWindowsResponse>, Status> {
        Ok(Response::new(self.windows(&request).await?))
    }

    async fn cut_window(
        &self,
        request: Request<pb::CutWindowRequest>,
    ) -> Result<Response<pb::CutWindowResponse>, Status> {
        Ok(Response::new(self.cut(&request).await?))
    }

    async fn list_positions(
        &self,
        request: Request<pb::ListPositionsRequest>,
    ) -> Result<Response<pb::ListPositionsResponse>, Status> {
        Ok(Response::new(self.positions(&request).await?))
    }

    async fn list_exposures(
        &self,
        request: Request<pb::ListExposuresRequest>,
    ) -> Result<Response<pb::ListExposuresResponse>, Status> {
        Ok(Response::new(self.exposures(&request).await?))
    }

    async fn list_postings(
        &self,
        request: Request<pb::ListPostingsRequest>,
    ) -> Result<Response<pb::ListPostingsResponse>, Status> {
        Ok(Response::new(self.postings(&request).await?))
    }

    async fn compute_settlement(
        &self,
        request: Request<pb::ComputeSettlementRequest>,
    ) -> Result<Response<pb::ComputeSettlementResponse>, Status> {
        Ok(Response::new(self.compute(&request).await?))
    }

    async fn get_settlement(
        &self,
        request: Request<pb::GetSettlementRequest>,
    ) -> Result<Response<pb::GetSettlementResponse>, Status> {
        Ok(Response::new(self.settlement(&request).await?))
    }

    async fn list_settlements(
        &self,
        request: Request<pb::ListSettlementsRequest>,
    ) -> Result<Response<pb::ListSettlementsResponse>, Status> {
        Ok(Response::new(self.settlements(&request).await?))
    }

    async fn record_funding(
        &self,
        request: Request<pb::RecordFundingRequest>,
    ) -> Result<Response<pb::RecordFundingResponse>, Status> {
        Ok(Response::new(self.fund(&request).await?))
    }

    async fn get_headroom(
        &self,
        request: Request<pb::GetHeadroomRequest>,
    ) -> Result<Response<pb::GetHeadroomResponse>, Status> {
        Ok(Response::new(self.headroom(&request).await?))
    }

    async fn get_trial_balance(
        &self,
        request: Request<pb::GetTrialBalanceRequest>,
    ) -> Result<Response<pb::GetTrialBalanceResponse>, Status> {
        Ok(Response::new(self.trial_balance(&request).await?))
    }

    type VerifyStream = ReceiverStream<Result<pb::VerifyResponse, Status>>;

    async fn verify(
        &self,
        request: Request<pb::VerifyRequest>,
    ) -> Result<Response<Self::VerifyStream>, Status> {
        Ok(Response::new(self.verification(&request)?))
    }
}
