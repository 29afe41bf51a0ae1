//! The redeem service: paying with points, and giving them back.
//!
//! There is nothing here but translation: a message becomes a command ([`command`]), the books
//! decide it, the record becomes a message ([`answer`]). What redeeming means stands in
//! `coalition_ledger::apply`; the fields are documented in `coalition/redeem/v1/redeem.proto`.

mod answer;
mod command;

use coalition_ledger::command::{Action, Fingerprint, RequestKey};
use coalition_ledger::ids::MemberId;
use coalition_ledger::view;
use coalition_proto::common::ErrorReason;
use coalition_proto::redeem as pb;
use coalition_proto::redeem::get_transaction_request::Key;
use coalition_proto::redeem::redeem_service_server::RedeemService;
use coalition_rpc::Problem;
use coalition_rpc::convert::{IdentifierKey, Named, Till, request_key, transaction, worth};
use coalition_rpc::request::{acting_partner, id, identity, valid, visible_partner};
use coalition_rpc::status::{Recorded, recorded};
use coalition_store::{Books, TransactionKey};
use tonic::{Request, Response, Status};

/// The redeem service on the books.
#[derive(Clone, Debug)]
pub struct RedeemApi {
    books: Books,
    identifiers: IdentifierKey,
}

impl RedeemApi {
    /// The service on these books, which finds members by identifiers hashed with this key.
    #[must_use]
    pub fn new(books: Books, identifiers: IdentifierKey) -> Self {
        Self { books, identifiers }
    }

    async fn member(&self, named: Named<'_>) -> Result<MemberId, Problem> {
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
impl RedeemService for RedeemApi {
    async fn quote(
        &self,
        request: Request<pb::QuoteRequest>,
    ) -> Result<Response<pb::QuoteResponse>, Status> {
        let caller = identity(&request)?;
        let message = request.get_ref();
        let partner = acting_partner(caller, &message.partner_id)?;
        valid(message)?;
        let ask = command::ask(message)?;
        let member = self.member(command::quoted(message)?).await?;

        let present = self.books.present().await.map_err(Problem::because)?;
        let found = self.books.reader().member(member).await;
        let found = found.map_err(Problem::because)?;
        let found = found.ok_or_else(Problem::no_such_member)?;
        let book = view::as_of(found.book, present.now).map_err(Problem::from)?;
        let quote = view::quote_redeem(&present.rulebook, partner, &book, ask, present.now)
            .map_err(Problem::from)
            .map_err(|problem| {
                problem.blame(ErrorReason::CurrencyMismatch, "amount_due.currency_code")
            })?;
        Ok(Response::new(answer::quote(&quote, &book.balance())?))
    }

    async fn redeem(
        &self,
        request: Request<pb::RedeemRequest>,
    ) -> Result<Response<pb::RedeemResponse>, Status> {
        let message = request.get_ref();
        let (id, context) = (&message.request_id, message.context.as_ref());
        let (asked, till) = Till::of(&request, &message.partner_id, context, id)?;
        let member = self.member(command::payer(message)?).await?;
        let action = command::redeem(message, till, member)?;
        let recorded = self.post(asked, action).await.map_err(|problem| {
            problem.blame(ErrorReason::CurrencyMismatch, "check_total.currency_code")
        })?;
        let agreed = recorded.transaction.agreement;
        let rulebook = self.books.rulebook_with(agreed).await;
        let rulebook = rulebook.map_err(Problem::because)?;
        let worth = worth(&rulebook, &recorded.transaction)?;
        Ok(Response::new(answer::redeem(&recorded, &worth)?))
    }

    async fn refund_redemption(
        &self,
        request: Request<pb::RefundRedemptionRequest>,
    ) -> Result<Response<pb::RefundRedemptionResponse>, Status> {
        let message = request.get_ref();
        let (id, context) = (&message.request_id, message.context.as_ref());
        let (asked, till) = Till::of(&request, &message.partner_id, context, id)?;
        let action = command::refund(message, till)?;
        let recorded = self.post(asked, action).await?;
        Ok(Response::new(answer::refund(&recorded)?))
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
        let found = self.books.transaction(key).await;
        let found = found.map_err(Problem::because)?;
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
