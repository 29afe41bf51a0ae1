//! Partners and their agreements.

use coalition_ledger::Timestamp;
use coalition_ledger::failure::{NotDone, Objection};
use coalition_ledger::ids::{AgreementId, PartnerId};
use coalition_ledger::rulebook::{PartnerStatus, Rulebook};
use coalition_proto::common::ErrorReason;
use coalition_proto::partner as pb;
use coalition_proto::partner::get_partner_request::Key;
use coalition_proto::partner::partner_service_server::PartnerService;
use coalition_rpc::Problem;
use coalition_rpc::convert::{Page, asked, time, timestamp};
use coalition_rpc::page_token::PageTokens;
use coalition_rpc::request::{acting_partner, id, identity, valid, visible_partner};
use coalition_store::Books;
use coalition_store::model::{AgreementRow, AgreementState, PartnerRow, Side};
use coalition_store::operations::{
    AcceptAgreement, CreatePartner, OperationRequest, ProposeAgreement,
};
use tonic::{Request, Response, Status};

use crate::terms;

/// The service of partners on the books.
#[derive(Clone, Debug)]
pub struct PartnerApi {
    books: Books,
    tokens: PageTokens,
}

impl PartnerApi {
    /// The service on these books, whose page tokens are signed by `tokens`.
    #[must_use]
    pub fn new(books: Books, tokens: PageTokens) -> Self {
        Self { books, tokens }
    }

    /// The network's time and rules, for the state of agreements.
    async fn present(&self) -> Result<coalition_store::Present, Problem> {
        self.books.present().await.map_err(Problem::because)
    }
}

#[tonic::async_trait]
impl PartnerService for PartnerApi {
    async fn create_partner(
        &self,
        request: Request<pb::CreatePartnerRequest>,
    ) -> Result<Response<pb::CreatePartnerResponse>, Status> {
        let caller = identity(&request)?;
        let message = request.get_ref();
        valid(message)?;
        let (key, fingerprint) = asked(&request, caller, &message.request_id)?;
        let partner = CreatePartner {
            request: OperationRequest { key, fingerprint },
            code: message.code.clone(),
            display_name: message.display_name.clone(),
            kind: i16::try_from(message.kind).unwrap_or_default(),
        };
        let done = self.books.operations().create_partner(partner).await;
        let done = done.map_err(Problem::because)?;
        Ok(Response::new(pb::CreatePartnerResponse {
            partner: Some(write_partner(&done.result)),
            replayed: done.replayed,
        }))
    }

    async fn get_partner(
        &self,
        request: Request<pb::GetPartnerRequest>,
    ) -> Result<Response<pb::GetPartnerResponse>, Status> {
        let caller = identity(&request)?;
        let message = request.get_ref();
        if let Some(Key::PartnerId(named)) = &message.key {
            visible_partner(caller, named)?;
        }
        valid(message)?;
        let found = match &message.key {
            None => return Err(Problem::invalid("key", "is required").into()),
            Some(Key::PartnerId(text)) => {
                self.books.reader().partner(id("partner_id", text)?).await
            }
            Some(Key::Code(code)) => self.books.reader().partner_by_code(code).await,
        };
        let found = found.map_err(Problem::because)?;
        let found = found.filter(|row| caller.partner().is_none_or(|own| own == row.id));
        let found = found.ok_or_else(|| Problem::absent_for(caller, "no such partner"))?;
        Ok(Response::new(pb::GetPartnerResponse {
            partner: Some(write_partner(&found)),
        }))
    }

    async fn list_partners(
        &self,
        request: Request<pb::ListPartnersRequest>,
    ) -> Result<Response<pb::ListPartnersResponse>, Status> {
        let caller = identity(&request)?;
        let message = request.get_ref();
        valid(message)?;
        let wished = (message.page_size, message.page_token.as_str());
        let filter = pb::ListPartnersRequest::default();
        let page = Page::of(&self.tokens, &request, caller, wished, &filter)?;
        let after = page.id()?.map(PartnerId::from_uuid);
        let rows = self.books.reader().partners(after, page.limit()).await;
        let mut rows = rows.map_err(Problem::because)?;
        let next_page_token = page.cut(&mut rows, |row| row.id.uuid().into_bytes())?;
        Ok(Response::new(pb::ListPartnersResponse {
            partners: rows.iter().map(write_partner).collect(),
            next_page_token,
        }))
    }

    async fn propose_agreement(
        &self,
        request: Request<pb::ProposeAgreementRequest>,
    ) -> Result<Response<pb::ProposeAgreementResponse>, Status> {
        let caller = identity(&request)?;
        let message = request.get_ref();
        let partner = acting_partner(caller, &message.partner_id)?;
        valid(message)?;
        let (key, fingerprint) = asked(&request, caller, &message.request_id)?;
        let counterparty = Some(message.counterparty_id.as_str()).filter(|text| !text.is_empty());
        let counterparty = counterparty
            .map(|text| id::<PartnerId>("counterparty_id", text))
            .transpose()?;
        let terms = message.terms.as_ref();
        let terms = terms.ok_or_else(|| Problem::invalid("terms", "is required"))?;
        let proposal = ProposeAgreement {
            request: OperationRequest { key, fingerprint },
            partner,
            counterparty,
            effective_at: time::maybe_instant("effective_at", message.effective_at.as_ref())?,
            terms: match counterparty {
                None => terms::read(terms)?,
                Some(_) => terms::read_pair(terms)?,
            },
            side: match caller.partner() {
                Some(_) => Side::Partner,
                None => Side::Operator,
            },
            proposer: caller.subject().to_owned(),
        };
        let done = self.books.operations().propose_agreement(proposal).await;
        let done =
            done.map_err(|error| not_proposed(error.into(), partner, counterparty, message))?;
        Ok(Response::new(pb::ProposeAgreementResponse {
            agreement: Some(write_agreement(&done.result, None)),
            replayed: done.replayed,
        }))
    }

    async fn accept_agreement(
        &self,
        request: Request<pb::AcceptAgreementRequest>,
    ) -> Result<Response<pb::AcceptAgreementResponse>, Status> {
        let caller = identity(&request)?;
        let message = request.get_ref();
        valid(message)?;
        let (key, fingerprint) = asked(&request, caller, &message.request_id)?;
        let acceptance = AcceptAgreement {
            request: OperationRequest { key, fingerprint },
            agreement: id("agreement_id", &message.agreement_id)?,
            etag: message.etag.clone(),
            partner: caller.partner(),
            accepter: caller.subject().to_owned(),
        };
        let done = self.books.operations().accept_agreement(acceptance).await;
        let done = done.map_err(|error| match NotDone::from(error) {
            NotDone::Objection(Objection::UnknownAgreement(_)) => {
                Problem::absent_for(caller, "no such agreement")
            }
            error => Problem::because(error),
        })?;
        Ok(Response::new(pb::AcceptAgreementResponse {
            agreement: Some(write_agreement(&done.result, None)),
            replayed: done.replayed,
        }))
    }

    async fn list_agreements(
        &self,
        request: Request<pb::ListAgreementsRequest>,
    ) -> Result<Response<pb::ListAgreementsResponse>, Status> {
        let caller = identity(&request)?;
        let message = request.get_ref();
        let partner = visible_partner(caller, &message.partner_id)?;
        valid(message)?;
        let filter = pb::ListAgreementsRequest {
            page_size: 0,
            page_token: String::new(),
            ..message.clone()
        };
        let wished = (message.page_size, message.page_token.as_str());
        let page = Page::of(&self.tokens, &request, caller, wished, &filter)?;
        let before = page.id()?.map(AgreementId::from_uuid);
        let reader = self.books.reader();
        let rows = reader.agreements(partner, before, page.limit()).await;
        let mut rows = rows.map_err(Problem::because)?;
        if let (Some(partner), None, true) = (partner, before, rows.is_empty()) {
            let known = reader.partner(partner).await.map_err(Problem::because)?;
            known.ok_or_else(|| Problem::absent_for(caller, "no such partner"))?;
        }
        let present = self.present().await?;
        let now = Some((present.rulebook.as_ref(), present.now));
        let next_page_token = page.cut(&mut rows, |row| row.id.uuid().into_bytes())?;
        Ok(Response::new(pb::ListAgreementsResponse {
            agreements: rows.iter().map(|row| write_agreement(row, now)).collect(),
            next_page_token,
        }))
    }
}

/// Why a proposal was not kept: a party that only the terms name is a fault of the terms.
fn not_proposed(
    error: NotDone,
    partner: PartnerId,
    counterparty: Option<PartnerId>,
    message: &pb::ProposeAgreementRequest,
) -> Problem {
    match error {
        NotDone::Objection(Objection::UnknownPartner(stranger))
            if stranger != partner && Some(stranger) != counterparty =>
        {
            Problem::new(
                ErrorReason::AgreementInvalid,
                "the terms name a partner that is not in the network",
            )
            .with_violation(
                message
                    .terms
                    .as_ref()
                    .and_then(|terms| terms::names(terms, stranger))
                    .unwrap_or_else(|| "terms".to_owned()),
                format!("there is no partner {stranger}"),
            )
        }
        error => Problem::because(error),
    }
}

fn write_partner(row: &PartnerRow) -> pb::Partner {
    let state = match row.status {
        PartnerStatus::Active => pb::PartnerState::Active,
        PartnerStatus::Suspended => pb::PartnerState::Suspended,
    };
    pb::Partner {
        partner_id: row.id.to_string(),
        code: row.code.clone(),
        display_name: row.display_name.clone(),
        kind: i32::from(row.kind),
        state: state.into(),
        created_at: Some(timestamp(row.created_at)),
    }
}

/// An agreement version. Without the rules as of now it is shown as right after the call that
/// changed it.
fn write_agreement(row: &AgreementRow, now: Option<(&Rulebook, Timestamp)>) -> pb::Agreement {
    let state = match row.state {
        AgreementState::Proposed => pb::AgreementState::Proposed,
        AgreementState::Accepted if now.is_some_and(|(rules, now)| is_past(row, rules, now)) => {
            pb::AgreementState::Superseded
        }
        AgreementState::Accepted => pb::AgreementState::InForce,
    };
    let awaiting = row.awaiting();
    let accepted_at = match row.state {
        AgreementState::Proposed => None,
        AgreementState::Accepted => row.accepted_at.max(row.counterparty_accepted_at),
    };
    pb::Agreement {
        agreement_id: row.id.to_string(),
        partner_id: row.partner.to_string(),
        counterparty_id: row
            .counterparty
            .map_or_else(String::new, |id| id.to_string()),
        version: row.version,
        state: state.into(),
        proposed_by: side(row.proposed_by).into(),
        proposed_at: Some(timestamp(row.proposed_at)),
        accepted_at: accepted_at.map(timestamp),
        effective_at: row.effective_at.map(timestamp),
        terms: Some(terms::write(&row.terms)),
        etag: row.etag(),
        awaiting: awaiting.into_iter().map(|s| side(s).into()).collect(),
    }
}

/// Whether a later version is in force by now.
fn is_past(row: &AgreementRow, rulebook: &Rulebook, now: Timestamp) -> bool {
    let current = match row.counterparty {
        None => rulebook.in_force(row.partner, now),
        Some(redeemer) => rulebook.pair_in_force(row.partner, redeemer, now),
    };
    // The order in which versions take effect: by time, ties by id.
    current.is_some_and(|current| {
        (Some(current.effective_at), current.id) > (row.effective_at, row.id)
    })
}

const fn side(side: Side) -> pb::AgreementSide {
    match side {
        Side::Operator => pb::AgreementSide::Operator,
        Side::Partner => pb::AgreementSide::Partner,
        Side::Counterparty => pb::AgreementSide::Counterparty,
    }
}

#[cfg(test)]
mod tests {
    use coalition_ledger::agreement::{Agreement, Terms, settle_at_issue};
    use coalition_ledger::money::Currency;
    use rust_decimal::Decimal;
    use uuid::Uuid;

    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn row(number: u128, effective_at: i64) -> AgreementRow {
        AgreementRow {
            id: AgreementId::from_uuid(Uuid::from_u128(number)),
            partner: PartnerId::from_uuid(Uuid::from_u128(1)),
            counterparty: None,
            version: 1,
            state: AgreementState::Accepted,
            proposed_by: Side::Operator,
            proposer: "maker".to_owned(),
            proposed_at: at(0),
            accepter: Some("admin".to_owned()),
            accepted_at: Some(at(1)),
            effective_at: Some(at(effective_at)),
            counterparty_accepter: None,
            counterparty_accepted_at: None,
            terms: Terms {
                currency: Currency::EUR,
                points_per_unit: Decimal::ONE,
                lot_lifetime_days: 1,
                pending_days: 0,
                return_policy: coalition_ledger::agreement::ReturnPolicy::default(),
                include_tax: false,
                include_tip: false,
                include_gift_cards: false,
                funders: Vec::new(),
                limit: None,
                net_inbound: false,
                alert_below_points: None,
                legs: settle_at_issue(Decimal::ONE, Decimal::ONE),
            },
        }
    }

    fn rules(rows: &[AgreementRow]) -> Rulebook {
        let agreement = |row: &AgreementRow| Agreement {
            id: row.id,
            partner: row.partner,
            counterparty: row.counterparty,
            effective_at: row.effective_at.unwrap_or_default(),
            terms: row.terms.clone(),
        };
        Rulebook::new(1, [], [], rows.iter().map(agreement))
    }

    #[test]
    fn a_version_is_superseded_once_the_next_is_in_force() {
        let (first, second) = (row(10, 100), row(11, 200));
        let rules = rules(&[first.clone(), second.clone()]);
        let state = |row, now| write_agreement(row, Some((&rules, at(now)))).state();
        assert_eq!(state(&first, 150), pb::AgreementState::InForce);
        assert_eq!(state(&first, 200), pb::AgreementState::Superseded);
        assert_eq!(state(&second, 150), pb::AgreementState::InForce);
        assert_eq!(state(&second, 500), pb::AgreementState::InForce);
    }

    #[test]
    fn a_pair_awaits_both_partners_and_says_so() {
        let mut pair = row(10, 100);
        pair.counterparty = Some(PartnerId::from_uuid(Uuid::from_u128(2)));
        pair.state = AgreementState::Proposed;
        let message = write_agreement(&pair, None);
        assert_eq!(
            message.awaiting,
            [i32::from(pb::AgreementSide::Counterparty)]
        );
        assert_eq!(message.accepted_at, None, "not as long as one is awaited");
        pair.accepted_at = None;
        let both = write_agreement(&pair, None);
        assert_eq!(both.awaiting.len(), 2);
        assert_ne!(both.etag, message.etag);
    }
}
