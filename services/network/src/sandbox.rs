//! The clock of a sandbox.

use coalition_ledger::failure::Objection;
use coalition_ledger::time::MICROS_PER_SECOND;
use coalition_proto::sandbox as pb;
use coalition_proto::sandbox::sandbox_service_server::SandboxService;
use coalition_rpc::Problem;
use coalition_rpc::convert::{asked, instant, timestamp};
use coalition_rpc::request::{identity, valid};
use coalition_store::Books;
use coalition_store::model::Mode;
use coalition_store::operations::OperationRequest;
use tonic::{Request, Response, Status};

/// The service of a sandbox's clock. On a production network every call is refused.
#[derive(Clone, Debug)]
pub struct SandboxApi {
    books: Books,
}

impl SandboxApi {
    /// The service on these books.
    #[must_use]
    pub fn new(books: Books) -> Self {
        Self { books }
    }
}

#[tonic::async_trait]
impl SandboxService for SandboxApi {
    async fn get_clock(
        &self,
        request: Request<pb::GetClockRequest>,
    ) -> Result<Response<pb::GetClockResponse>, Status> {
        identity(&request)?;
        let present = self.books.present().await.map_err(Problem::because)?;
        match present.mode {
            Mode::Sandbox => Ok(Response::new(pb::GetClockResponse {
                time: Some(timestamp(present.now)),
            })),
            Mode::Production => Err(Problem::from(Objection::NotSandbox).into()),
        }
    }

    async fn set_clock(
        &self,
        request: Request<pb::SetClockRequest>,
    ) -> Result<Response<pb::SetClockResponse>, Status> {
        let caller = identity(&request)?;
        let message = request.get_ref();
        valid(message)?;
        let (key, fingerprint) = asked(&request, caller, &message.request_id)?;
        let to = message.time.as_ref();
        let to = to.ok_or_else(|| Problem::invalid("time", "is required"))?;
        let to = instant("time", to)?;
        let moved = OperationRequest { key, fingerprint };
        let done = self.books.operations().set_clock(moved, to).await;
        let done = done.map_err(Problem::because)?;
        Ok(Response::new(pb::SetClockResponse {
            time: Some(timestamp(done.result)),
            replayed: done.replayed,
        }))
    }

    async fn advance_clock(
        &self,
        request: Request<pb::AdvanceClockRequest>,
    ) -> Result<Response<pb::AdvanceClockResponse>, Status> {
        let caller = identity(&request)?;
        let message = request.get_ref();
        valid(message)?;
        let (key, fingerprint) = asked(&request, caller, &message.request_id)?;
        let by = message.duration.as_ref().and_then(micros);
        let by = by.ok_or_else(|| {
            Problem::invalid(
                "duration",
                "must be at least a microsecond, and is required",
            )
        })?;
        let moved = OperationRequest { key, fingerprint };
        let done = self.books.operations().advance_clock(moved, by).await;
        let done = done.map_err(Problem::because)?;
        Ok(Response::new(pb::AdvanceClockResponse {
            time: Some(timestamp(done.result)),
            replayed: done.replayed,
        }))
    }
}

/// A span in whole microseconds, if it is at least one.
fn micros(span: &prost_types::Duration) -> Option<i64> {
    let whole = span.seconds.checked_mul(MICROS_PER_SECOND)?;
    let micros = whole.checked_add(i64::from(span.nanos) / 1_000)?;
    (micros > 0).then_some(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_moves_by_whole_microseconds_or_not_at_all() {
        let span = |seconds, nanos| micros(&prost_types::Duration { seconds, nanos });
        assert_eq!(span(86_400, 0), Some(86_400_000_000));
        assert_eq!(span(0, 1_999), Some(1));
        assert_eq!(span(0, 999), None);
        assert_eq!(span(-1, 0), None);
        assert_eq!(span(i64::MAX, 0), None);
    }
}
