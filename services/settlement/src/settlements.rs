//! Settlements: computing them, and looking at them.

use coalition_ledger::ids::{Party, SettlementId};
use coalition_ledger::money::Minor;
use coalition_ledger::netting::Method;
use coalition_proto::settlement as pb;
use coalition_rpc::convert::{asked, money, timestamp};
use coalition_rpc::request::id;
use coalition_rpc::status::Problem;
use coalition_store::model::{SettlementRow, SettlementState};
use coalition_store::operations::{ComputeSettlement, OperationRequest, method_of};
use tonic::Request;
use uuid::Uuid;

use crate::pages::{Page, caller};
use crate::{SettlementApi, own_partner};

const LIST_SETTLEMENTS: &str = "/coalition.settlement.v1.SettlementService/ListSettlements";

impl SettlementApi {
    pub(crate) async fn compute(
        &self,
        request: &Request<pb::ComputeSettlementRequest>,
    ) -> Result<pb::ComputeSettlementResponse, Problem> {
        let caller = caller(request)?;
        let message = request.get_ref();
        let (key, fingerprint) = asked(request, caller, &message.request_id)?;
        let windows = message.window_ids.iter().map(|text| id("window_ids", text));
        let settlement = ComputeSettlement {
            request: OperationRequest { key, fingerprint },
            windows: windows.collect::<Result<_, _>>()?,
            method: method(message.netting())?,
            validate_only: message.validate_only,
            computed_by: caller.subject().to_owned(),
        };
        let done = self.books.operations().compute_settlement(settlement).await;
        let done = done.map_err(Problem::because)?;
        let mut settlement = full(&done.result, None)?;
        if message.validate_only {
            settlement.settlement_id.clear();
            settlement.etag.clear();
        }
        Ok(pb::ComputeSettlementResponse {
            settlement: Some(settlement),
            replayed: done.replayed,
        })
    }

    pub(crate) async fn settlement(
        &self,
        request: &Request<pb::GetSettlementRequest>,
    ) -> Result<pb::GetSettlementResponse, Problem> {
        let caller = caller(request)?;
        let wanted = id("settlement_id", &request.get_ref().settlement_id)?;
        let found = self
            .books
            .reader()
            .settlement(wanted)
            .await
            .map_err(Problem::because)?;
        let found = found.ok_or_else(|| Problem::not_found("no such settlement"))?;
        let settlement = full(&found, own_partner(caller).map(Party::Partner))?;
        Ok(pb::GetSettlementResponse {
            settlement: Some(settlement),
        })
    }

    pub(crate) async fn settlements(
        &self,
        request: &Request<pb::ListSettlementsRequest>,
    ) -> Result<pb::ListSettlementsResponse, Problem> {
        let caller = caller(request)?;
        let asked = request.get_ref();
        let filter = asked.state.unwrap_or_default().to_be_bytes();
        let (size, token) = (asked.page_size, &asked.page_token);
        let page = Page::asked(
            &self.page_tokens,
            LIST_SETTLEMENTS,
            caller,
            &filter,
            size,
            token,
        )?;
        let cursor = page
            .after
            .as_deref()
            .and_then(|cursor| Uuid::from_slice(cursor).ok());
        let mut before = cursor.map(SettlementId::from_uuid);
        let mut rows = Vec::new();
        loop {
            let found = self.books.reader().settlements(before, page.limit()).await;
            let found = found.map_err(Problem::because)?;
            let Some(last) = found.last() else { break };
            before = Some(last.id);
            let wanted = |s: &SettlementRow| {
                asked
                    .state
                    .is_none_or(|wanted| wanted == state(s.state) as i32)
            };
            rows.extend(found.into_iter().filter(wanted));
            if rows.len() > page.size {
                break;
            }
        }
        let next_page_token = page.cut(&mut rows, |row| row.id.uuid().as_bytes().to_vec())?;
        let own = own_partner(caller).map(Party::Partner);
        let settlements = rows.iter().map(|row| full(row, own));
        Ok(pb::ListSettlementsResponse {
            settlements: settlements.collect::<Result<_, _>>()?,
            next_page_token,
        })
    }
}

fn method(method: pb::NettingMethod) -> Result<Method, Problem> {
    match method {
        pb::NettingMethod::Multilateral => Ok(Method::Multilateral),
        pb::NettingMethod::Bilateral => Ok(Method::Bilateral),
        pb::NettingMethod::Gross => Ok(Method::Gross),
        pb::NettingMethod::Unspecified => Err(Problem::invalid("netting", "is required")),
    }
}

const fn state(state: SettlementState) -> pb::SettlementState {
    match state {
        SettlementState::Computed => pb::SettlementState::Computed,
        SettlementState::Approved => pb::SettlementState::Approved,
        SettlementState::Instructed => pb::SettlementState::Instructed,
        SettlementState::Settled => pb::SettlementState::Settled,
        SettlementState::Aborted => pb::SettlementState::Aborted,
    }
}

const fn state_word(state: SettlementState) -> &'static str {
    match state {
        SettlementState::Computed => "computed",
        SettlementState::Approved => "approved",
        SettlementState::Instructed => "instructed",
        SettlementState::Settled => "settled",
        SettlementState::Aborted => "aborted",
    }
}

/// The message of a settlement; of one party's rows alone where `own` is given.
fn full(row: &SettlementRow, own: Option<Party>) -> Result<pb::Settlement, Problem> {
    let sees = |party: Party| own.is_none_or(|own| own == party);
    let netting = match method_of(row.netting) {
        Some(Method::Multilateral) => pb::NettingMethod::Multilateral,
        Some(Method::Bilateral) => pb::NettingMethod::Bilateral,
        Some(Method::Gross) => pb::NettingMethod::Gross,
        None => return Err(Problem::internal("a settlement of unknown netting")),
    };
    let mut totals = Vec::new();
    for (currency, gross) in row.gross.iter().filter(|_| own.is_none()) {
        let paid = row
            .obligations
            .iter()
            .filter(|o| o.currency == *currency)
            .map(|o| o.amount);
        totals.push(pb::SettlementTotal {
            currency_code: currency.code().to_owned(),
            gross_micros: gross.get(),
            paid: Some(money(Minor::sum(paid)?, *currency)),
        });
    }
    Ok(pb::Settlement {
        settlement_id: row.id.to_string(),
        state: state(row.state).into(),
        netting: netting.into(),
        window_ids: row.windows.iter().map(ToString::to_string).collect(),
        computed_at: Some(timestamp(row.computed_at)),
        positions: row
            .positions
            .iter()
            .filter(|position| sees(position.party))
            .map(|position| pb::SettlementPosition {
                party: position.party.to_string(),
                currency_code: position.currency.code().to_owned(),
                net_micros: position.net.get(),
                net: Some(money(position.net_minor, position.currency)),
            })
            .collect(),
        obligations: row
            .obligations
            .iter()
            .filter(|obligation| sees(obligation.payer) || sees(obligation.payee))
            .map(|obligation| pb::Obligation {
                payer: obligation.payer.to_string(),
                payee: obligation.payee.to_string(),
                amount: Some(money(obligation.amount, obligation.currency)),
            })
            .collect(),
        totals,
        rounding: row
            .rounding
            .iter()
            .filter(|_| own.is_none())
            .map(|(currency, micros)| pb::SettlementRounding {
                currency_code: currency.code().to_owned(),
                micros: micros.get(),
            })
            .collect(),
        etag: format!("{}-{}", row.id, state_word(row.state)),
    })
}
