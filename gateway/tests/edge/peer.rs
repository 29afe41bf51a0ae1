//! Two services that do what a test asks of them, to see what the layers around make of it.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use coalition_proto::common::ErrorReason;
use coalition_proto::earn::earn_service_server::EarnService;
use coalition_proto::earn::{
    EarnRequest, EarnResponse, GetTransactionRequest, GetTransactionResponse, QuoteRequest,
    QuoteResponse, ReturnEarnRequest, ReturnEarnResponse, ReverseByReferenceRequest,
    ReverseByReferenceResponse,
};
use coalition_proto::settlement as s;
use coalition_proto::settlement::settlement_service_server::SettlementService;
use coalition_rpc::{Problem, request};
use futures::{Stream, StreamExt, stream};
use tokio::sync::{Notify, Semaphore};
use tonic::{Request, Response, Status, async_trait};

/// What a test asks for, in the field `request_id` of an `Earn`.
pub(crate) mod ask {
    /// Panic.
    pub(crate) const PANIC: &str = "panic";
    /// Never answer.
    pub(crate) const NOTHING: &str = "nothing";
    /// Answer when the test opens the gate.
    pub(crate) const WAIT: &str = "wait";
    /// Decline, with details.
    pub(crate) const DECLINE: &str = "decline";
    /// Fail, with a secret in the cause.
    pub(crate) const FAIL: &str = "fail";
}

/// What a check of the books does after its first message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Then {
    #[default]
    Ends,
    Hangs,
    Panics,
}

/// The services, and what they have seen.
#[derive(Default)]
pub(crate) struct Peer {
    /// Calls that reached a handler.
    pub(crate) handled: AtomicUsize,
    /// Calls that wait for the gate, now.
    pub(crate) waiting: AtomicUsize,
    /// Signals each change of `waiting`.
    pub(crate) arrived: Notify,
    /// The gate: a permit lets one call through.
    pub(crate) gate: Gate,
    /// What a check of the books does.
    pub(crate) then: std::sync::Mutex<Then>,
}

/// A semaphore without permits to begin with.
pub(crate) struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Gate {
    pub(crate) fn open(&self, calls: usize) {
        self.0.add_permits(calls);
    }
}

impl Peer {
    pub(crate) fn handled(&self) -> usize {
        self.handled.load(Ordering::SeqCst)
    }

    /// Waits until this many calls wait for the gate.
    pub(crate) async fn until_waiting(&self, calls: usize) {
        loop {
            let changed = self.arrived.notified();
            if self.waiting.load(Ordering::SeqCst) == calls {
                return;
            }
            changed.await;
        }
    }

    async fn wait(&self) {
        let _here = Here::new(self);
        self.gate.0.acquire().await.expect("never closed").forget();
    }
}

/// Counts a call as waiting, also when it is dropped while it waits.
struct Here<'a>(&'a Peer);

impl<'a> Here<'a> {
    fn new(peer: &'a Peer) -> Self {
        peer.waiting.fetch_add(1, Ordering::SeqCst);
        peer.arrived.notify_waiters();
        Self(peer)
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        self.0.arrived.notify_waiters();
    }
}

#[derive(Clone)]
pub(crate) struct Earn(pub(crate) Arc<Peer>);

#[async_trait]
impl EarnService for Earn {
    /// Answers with the partner the call acts for, what is left of its time in milliseconds, and
    /// the names of the headers it came with.
    async fn earn(&self, request: Request<EarnRequest>) -> Result<Response<EarnResponse>, Status> {
        self.0.handled.fetch_add(1, Ordering::SeqCst);
        let identity = Arc::clone(request::identity(&request)?);
        let left = request::deadline(&request).left();
        let headers: BTreeSet<String> = request
            .metadata()
            .clone()
            .into_headers()
            .keys()
            .map(ToString::to_string)
            .collect();
        let message = request.into_inner();
        match message.request_id.as_str() {
            ask::PANIC => panic!("asked to, with secret 4711"),
            ask::NOTHING => std::future::pending().await,
            ask::WAIT => self.0.wait().await,
            ask::DECLINE => {
                return Err(Problem::new(ErrorReason::LimitExceeded, "no headroom")
                    .with("transaction_id", "txn_1")
                    .into());
            }
            ask::FAIL => return Err(Problem::internal("secret 4711").into()),
            _ => {}
        }
        let partner = request::acting_partner(&identity, &message.partner_id)?;
        Ok(Response::new(EarnResponse {
            transaction_id: partner.to_string(),
            points_earned: i64::try_from(left.as_millis()).unwrap_or(i64::MAX),
            receipt_lines: headers.into_iter().collect(),
            ..EarnResponse::default()
        }))
    }

    async fn quote(&self, _: Request<QuoteRequest>) -> Result<Response<QuoteResponse>, Status> {
        Err(unasked())
    }

    async fn return_earn(
        &self,
        _: Request<ReturnEarnRequest>,
    ) -> Result<Response<ReturnEarnResponse>, Status> {
        Err(unasked())
    }

    async fn reverse_by_reference(
        &self,
        _: Request<ReverseByReferenceRequest>,
    ) -> Result<Response<ReverseByReferenceResponse>, Status> {
        Err(unasked())
    }

    async fn get_transaction(
        &self,
        _: Request<GetTransactionRequest>,
    ) -> Result<Response<GetTransactionResponse>, Status> {
        Err(unasked())
    }
}

fn unasked() -> Status {
    Problem::new(ErrorReason::NotFound, "no test asks for this").into()
}

#[derive(Clone)]
pub(crate) struct Settlement(pub(crate) Arc<Peer>);

macro_rules! unasked {
    ($($method:ident: $request:ident => $response:ident),* $(,)?) => {
        #[async_trait]
        impl SettlementService for Settlement {
            $(
                async fn $method(
                    &self,
                    _: Request<s::$request>,
                ) -> Result<Response<s::$response>, Status> {
                    self.0.handled.fetch_add(1, Ordering::SeqCst);
                    Err(unasked())
                }
            )*

            type VerifyStream = Pin<Box<dyn Stream<Item = Result<s::VerifyResponse, Status>> + Send>>;

            async fn verify(
                &self,
                _: Request<s::VerifyRequest>,
            ) -> Result<Response<Self::VerifyStream>, Status> {
                self.0.handled.fetch_add(1, Ordering::SeqCst);
                let first = stream::iter([Ok(s::VerifyResponse::default())]);
                let then = *self.0.then.lock().expect("no panic while held");
                Ok(Response::new(match then {
                    Then::Ends => first.boxed(),
                    Then::Hangs => first.chain(stream::pending()).boxed(),
                    Then::Panics => {
                        let panics = stream::once(async {
                            // The first message is on its way before anything goes wrong.
                            tokio::task::yield_now().await;
                            panic!("asked to, with secret 4711")
                        });
                        first.chain(panics).boxed()
                    }
                }))
            }
        }
    };
}

unasked! {
    get_open_window: GetOpenWindowRequest => GetOpenWindowResponse,
    list_windows: ListWindowsRequest => ListWindowsResponse,
    cut_window: CutWindowRequest => CutWindowResponse,
    list_positions: ListPositionsRequest => ListPositionsResponse,
    list_exposures: ListExposuresRequest => ListExposuresResponse,
    list_postings: ListPostingsRequest => ListPostingsResponse,
    compute_settlement: ComputeSettlementRequest => ComputeSettlementResponse,
    get_settlement: GetSettlementRequest => GetSettlementResponse,
    list_settlements: ListSettlementsRequest => ListSettlementsResponse,
    record_funding: RecordFundingRequest => RecordFundingResponse,
    get_headroom: GetHeadroomRequest => GetHeadroomResponse,
    get_trial_balance: GetTrialBalanceRequest => GetTrialBalanceResponse,
}
