//! The earn service: points for checks, and taking them back when goods come back.
//!
//! There is nothing here but translation: a message becomes a command ([`command`]), the books
//! decide it, the record becomes a message ([`answer`]). What earning means stands in
//! `coalition_ledger::apply`; the fields are documented in `coalition/earn/v1/earn.proto`.

mod answer;
mod command;

use coalition_ledger::command::{Action, Fingerprint, RequestKey};
use coalition_ledger::rulebook::DEFAULT_STORE_AND_FORWARD_MICROS;
use coalition_ledger::view;
use coalition_proto::common::ErrorReason;
use coalition_proto::earn as pb;
use coalition_proto::earn::earn_service_server::EarnService;
use coalition_proto::earn::get_transaction_request::Key;
use coalition_rpc::Problem;
use coalition_rpc::convert::{IdentifierKey, Named, Till, request_key, time, transaction};
use coalition_rpc::request::{acting_partner, id, identity, valid, visible_partner};
use coalition_rpc::status::{Recorded, recorded};
use coalition_store::{Books, TransactionKey};
use tonic::{Request, Response, Status};

/// All amounts of a check are in the currency of this one.
const GROSS_CURRENCY: &str = "amounts.gross.currency_code";

/// The earn service on the books.
#[derive(Clone, Debug)]
pub struct EarnApi {
    books: Books,
    identifiers: IdentifierKey,
}

impl EarnApi {
    /// The service on these books, which finds members by identifiers hashed with this key.
    #[must_use]
    pub fn new(books: Books, identifiers: IdentifierKey) -> Self {
        Self { books, identifiers }
    }

    async fn member(&self, named: Named<'_>) -> Result<coalition_ledger::ids::MemberId, Problem> {
        let key = self.identifiers.member(named)?;
        let found = self.books.member(&key).await.map_err(Problem::because)?;
        found.ok_or_else(Problem::no_such_member)
    }

    async fn post(
        &self,
        asked: (RequestKey, Fingerprint),
        action: Action,
    ) -> Result<Recorded, Problem> {
        let decision = self.books.post(asked, action).await;
        recorded(decision.map_err(Problem::because)?)
    }
}

#[tonic::async_trait]
impl EarnService for EarnApi {
    async fn quote(
        &self,
        request: Request<pb::QuoteRequest>,
    ) -> Result<Response<pb::QuoteResponse>, Status> {
        let caller = identity(&request)?;
        let message = request.get_ref();
        let partner = acting_partner(caller, &message.partner_id)?;
        valid(message)?;
        let (amounts, currency) = command::amounts(message.amounts.as_ref())?;
        let said = time::maybe_instant("occurred_at", message.occurred_at.as_ref())?;

        let present = self.books.present().await.map_err(Problem::because)?;
        let at = view::occurred_at(said, present.now, DEFAULT_STORE_AND_FORWARD_MICROS)
            .map_err(Problem::from)
            .map_err(|problem| problem.blame(ErrorReason::OccurredAtOutOfRange, "occurred_at"))?;
        let balance = match &message.member {
            None => None,
            Some(member) => {
                let member = self.member(command::quoted(member)).await?;
                let found = self.books.reader().member(member).await;
                let found = found.map_err(Problem::because)?;
                let found = found.ok_or_else(Problem::no_such_member)?;
                Some(
                    view::as_of(found.book, present.now)
                        .map_err(Problem::from)?
                        .balance(),
                )
            }
        };
        let quote = view::quote_earn(&present.rulebook, partner, &amounts, currency, at)
            .map_err(Problem::from)
            .map_err(|problem| problem.blame(ErrorReason::CurrencyMismatch, GROSS_CURRENCY))?;
        Ok(Response::new(answer::quote(&quote, balance.as_ref())?))
    }

    async fn earn(
        &self,
        request: Request<pb::EarnRequest>,
    ) -> Result<Response<pb::EarnResponse>, Status> {
        let message = request.get_ref();
        let (id, context) = (&message.request_id, message.context.as_ref());
        let (asked, till) = Till::of(&request, &message.partner_id, context, id)?;
        let member = self.member(command::earner(message)?).await?;
        let action = command::earn(message, till, member)?;
        let recorded = self
            .post(asked, action)
            .await
            .map_err(|problem| problem.blame(ErrorReason::CurrencyMismatch, GROSS_CURRENCY))?;
        Ok(Response::new(answer::earn(&recorded)?))
    }

    async fn return_earn(
        &self,
        request: Request<pb::ReturnEarnRequest>,
    ) -> Result<Response<pb::ReturnEarnResponse>, Status> {
        let message = request.get_ref();
        let (id, context) = (&message.request_id, message.context.as_ref());
        let (asked, till) = Till::of(&request, &message.partner_id, context, id)?;
        let action = command::return_earn(message, till)?;
        let recorded = self.post(asked, action).await.map_err(|problem| {
            problem.blame(ErrorReason::CurrencyMismatch, "returned.currency_code")
        })?;
        Ok(Response::new(answer::return_earn(&recorded)?))
    }

    async fn reverse_by_reference(
        &self,
        request: Request<pb::ReverseByReferenceRequest>,
    ) -> Result<Response<pb::ReverseByReferenceResponse>, Status> {
        let message = request.get_ref();
        let (id, context) = (&message.request_id, message.context.as_ref());
        let (asked, till) = Till::of(&request, &message.partner_id, context, id)?;
        let action = command::reverse(message, till)?;
        let recorded = self.post(asked, action).await.map_err(|problem| {
            problem.blame(ErrorReason::InvalidArgument, "original_request_id")
        })?;
        Ok(Response::new(answer::reverse(&recorded)?))
    }

    async fn get_transaction(
        &self,
        request: Request<pb::GetTransactionRequest>,
    ) -> Result<Response<pb::GetTransactionResponse>, Status> {
        let caller = identity(&request)?;
        let message = request.get_ref();
        let partner = visible_partner(caller, &message.partner_id)?;
        valid(message)?;
        let (key, request_id) = match &message.key {
            None => return Err(Problem::invalid("key", "is required").into()),
            Some(Key::TransactionId(text)) => (
                TransactionKey::Id(id("transaction_id", text)?),
                String::new(),
            ),
            Some(Key::RequestId(text)) => (
                TransactionKey::Request(request_key(partner, text)?),
                text.clone(),
            ),
        };
        let found = self
            .books
            .transaction(key)
            .await
            .map_err(Problem::because)?;
        let found = found.filter(|t| partner.is_none_or(|partner| t.partner == partner.into()));
        let found = found.ok_or_else(|| Problem::absent_for(caller, "no such transaction"))?;
        let rulebook = self.books.rulebook_with(found.agreement).await;
        let rulebook = rulebook.map_err(Problem::because)?;
        let transaction = coalition_proto::common::Transaction {
            request_id,
            ..transaction(&found, &rulebook)?
        };
        Ok(Response::new(pb::GetTransactionResponse {
            transaction: Some(transaction),
        }))
    }
}
