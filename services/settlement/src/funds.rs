//! Funds and headroom.

use coalition_ledger::agreement::Terms;
use coalition_ledger::command::{Action, Fund};
use coalition_ledger::ids::{PartnerId, Party};
use coalition_ledger::money::Micros;
use coalition_ledger::transaction::Decline;
use coalition_ledger::view::{Alert, NoQuote, headroom};
use coalition_proto::common::ErrorReason;
use coalition_proto::settlement as pb;
use coalition_rpc::convert::{asked, minor};
use coalition_rpc::request::{acting_partner, id, identity, valid};
use coalition_rpc::status::{Problem, recorded};
use tonic::Request;

use crate::SettlementApi;

impl SettlementApi {
    pub(crate) async fn fund(
        &self,
        request: &Request<pb::RecordFundingRequest>,
    ) -> Result<pb::RecordFundingResponse, Problem> {
        let caller = identity(request)?;
        let message = request.get_ref();
        valid(message)?;
        let asked = asked(request, caller, &message.request_id)?;
        let partner: PartnerId = id("partner_id", &message.partner_id)?;
        let amount = message.amount.as_ref();
        let amount = amount.ok_or_else(|| Problem::invalid("amount", "is required"))?;
        let (amount, currency) = minor("amount", amount)?;
        // Funds are part of a headroom, and without an agreement there is none: asked before anything
        // is posted.
        let terms = self.terms_of(partner).await?;
        let fund = Fund {
            partner,
            withdrawal: message.direction() == pb::FundingDirection::Withdrawal,
            amount,
            currency,
            bank_reference: message.bank_reference.clone(),
        };
        let decision = self.books.post(asked, Action::Fund(fund)).await;
        let posted = recorded(decision.map_err(Problem::because)?).map_err(|problem| {
            problem.blame(ErrorReason::CurrencyMismatch, "amount.currency_code")
        })?;
        Ok(pb::RecordFundingResponse {
            transaction_id: posted.transaction.id.to_string(),
            replayed: posted.replayed,
            headroom: Some(self.headroom_under(partner, &terms).await?),
        })
    }

    pub(crate) async fn headroom(
        &self,
        request: &Request<pb::GetHeadroomRequest>,
    ) -> Result<pb::GetHeadroomResponse, Problem> {
        let caller = identity(request)?;
        let partner = acting_partner(caller, &request.get_ref().partner_id)?;
        valid(request.get_ref())?;
        let terms = self.terms_of(partner).await?;
        Ok(pb::GetHeadroomResponse {
            headroom: Some(self.headroom_under(partner, &terms).await?),
        })
    }

    /// The terms of the partner's agreement in force.
    async fn terms_of(&self, partner: PartnerId) -> Result<Terms, Problem> {
        let present = self.books.present().await.map_err(Problem::because)?;
        if present.rulebook.partner(partner).is_none() {
            return Err(Problem::not_found("no such partner"));
        }
        let agreed = present.rulebook.in_force(partner, present.now);
        let agreed = agreed.ok_or(NoQuote::Declined(Decline::NoAgreementInForce))?;
        Ok(agreed.terms.clone())
    }

    async fn headroom_under(
        &self,
        partner: PartnerId,
        terms: &Terms,
    ) -> Result<pb::Headroom, Problem> {
        let positions = self
            .books
            .reader()
            .positions(Some(Party::Partner(partner)))
            .await;
        let positions = positions.map_err(Problem::because)?;
        let own = positions
            .into_iter()
            .find(|((_, currency), _)| *currency == terms.currency);
        let position = own.map(|(_, position)| position).unwrap_or_default();
        let room = headroom(position, terms)?;
        let alert = match room.alert {
            Alert::None => pb::HeadroomAlert::None,
            Alert::Used80 => pb::HeadroomAlert::Warning80,
            Alert::Used95 => pb::HeadroomAlert::Critical95,
        };
        Ok(pb::Headroom {
            partner_id: partner.to_string(),
            currency_code: terms.currency.code().to_owned(),
            limit_micros: room.limit.map(Micros::get),
            funds_micros: position.funds.get(),
            position_micros: position.net()?.get(),
            reserved_micros: position.reserved.get(),
            headroom_micros: room.left.map(Micros::get),
            used_percent: i32::try_from(room.used_percent).unwrap_or(i32::MAX),
            alert: alert.into(),
            below_alert_points: room.below_alert_points,
        })
    }
}
