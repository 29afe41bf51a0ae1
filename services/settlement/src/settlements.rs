//! Settlements: computing them, and looking at them.

use coalition_ledger::ids::{Party, SettlementId};
use coalition_ledger::money::Minor;
use coalition_ledger::netting::Method;
use coalition_proto::settlement as pb;
use coalition_rpc::convert::page::READS_PER_PAGE;
use coalition_rpc::convert::{Page, asked, money, timestamp};
use coalition_rpc::request::{id, identity, valid};
use coalition_rpc::status::Problem;
use coalition_store::model::{Obligation, SettlementPosition, SettlementRow, SettlementState};
use coalition_store::operations::{ComputeSettlement, OperationRequest, method_of};
use tonic::Request;

use crate::SettlementApi;
use crate::sight::{is_part_of, own_party};

impl SettlementApi {
    pub(crate) async fn compute(
        &self,
        request: &Request<pb::ComputeSettlementRequest>,
    ) -> Result<pb::ComputeSettlementResponse, Problem> {
        let caller = identity(request)?;
        let message = request.get_ref();
        valid(message)?;
        let (key, fingerprint) = asked(request, caller, &message.request_id)?;
        let windows = message.window_ids.iter().enumerate();
        let windows = windows.map(|(place, text)| id(&format!("window_ids[{place}]"), text));
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
        let caller = identity(request)?;
        valid(request.get_ref())?;
        let wanted = id("settlement_id", &request.get_ref().settlement_id)?;
        let found = self.books.reader().settlement(wanted).await;
        let found = found.map_err(Problem::because)?;
        let own = own_party(caller);
        let found = found
            .filter(|row| is_part_of(row, own))
            .ok_or_else(|| Problem::absent_for(caller, "no such settlement"))?;
        Ok(pb::GetSettlementResponse {
            settlement: Some(full(&found, own)?),
        })
    }

    pub(crate) async fn settlements(
        &self,
        request: &Request<pb::ListSettlementsRequest>,
    ) -> Result<pb::ListSettlementsResponse, Problem> {
        let caller = identity(request)?;
        let asked = request.get_ref();
        valid(asked)?;
        let filter = pb::ListSettlementsRequest {
            page_size: 0,
            page_token: String::new(),
            ..*asked
        };
        let wished = (asked.page_size, asked.page_token.as_str());
        let page = Page::of(&self.page_tokens, request, caller, wished, &filter)?;
        let own = own_party(caller);
        let wanted = |row: &SettlementRow| {
            let fits = asked.state.is_none_or(|s| s == i32::from(state(row.state)));
            fits && is_part_of(row, own)
        };
        let (rows, next_page_token) = self.settlement_page(&page, wanted).await?;
        let settlements = rows.iter().map(|row| full(row, own));
        Ok(pb::ListSettlementsResponse {
            settlements: settlements.collect::<Result<_, _>>()?,
            next_page_token,
        })
    }

    async fn settlement_page(
        &self,
        page: &Page,
        wanted: impl Fn(&SettlementRow) -> bool,
    ) -> Result<(Vec<SettlementRow>, String), Problem> {
        let mut before = page.id()?.map(SettlementId::from_uuid);
        let mut rows = Vec::new();
        for _ in 0..READS_PER_PAGE {
            let found = self.books.reader().settlements(before, page.limit()).await;
            let found = found.map_err(Problem::because)?;
            let Some(last) = found.last() else {
                return Ok((rows, String::new()));
            };
            before = Some(last.id);
            rows.extend(found.into_iter().filter(&wanted));
            if rows.len() > page.rows() {
                let token = page.cut(&mut rows, |row| row.id.uuid().into_bytes())?;
                return Ok((rows, token));
            }
        }
        let token = before.map(|last| page.token(last.uuid().as_bytes()));
        Ok((rows, token.transpose()?.unwrap_or_default()))
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
    let mut windows = row.windows.clone();
    // Ids of windows ascend as their numbers do.
    windows.sort_unstable();
    let mut positions: Vec<&SettlementPosition> = row.positions.iter().collect();
    positions.retain(|position| sees(position.party));
    positions.sort_by_key(|position| (position.party, position.currency.code()));
    let mut obligations: Vec<&Obligation> = row.obligations.iter().collect();
    obligations.retain(|obligation| sees(obligation.payer) || sees(obligation.payee));
    obligations.sort_by_key(|o| (o.payer, o.payee, o.currency.code()));
    let rounding = row.rounding.iter().filter(|_| own.is_none());
    Ok(pb::Settlement {
        settlement_id: row.id.to_string(),
        state: state(row.state).into(),
        netting: netting.into(),
        window_ids: windows.iter().map(ToString::to_string).collect(),
        computed_at: Some(timestamp(row.computed_at)),
        positions: positions.into_iter().map(position).collect(),
        obligations: obligations.into_iter().map(obligation).collect(),
        totals,
        rounding: rounding
            .map(|(currency, micros)| pb::SettlementRounding {
                currency_code: currency.code().to_owned(),
                micros: micros.get(),
            })
            .collect(),
        etag: row.etag(),
    })
}

fn position(position: &SettlementPosition) -> pb::SettlementPosition {
    pb::SettlementPosition {
        party: position.party.to_string(),
        currency_code: position.currency.code().to_owned(),
        net_micros: position.net.get(),
        net: Some(money(position.net_minor, position.currency)),
    }
}

fn obligation(obligation: &Obligation) -> pb::Obligation {
    pb::Obligation {
        payer: obligation.payer.to_string(),
        payee: obligation.payee.to_string(),
        amount: Some(money(obligation.amount, obligation.currency)),
    }
}

#[cfg(test)]
mod tests {
    use coalition_ledger::Timestamp;
    use coalition_ledger::ids::{PartnerId, WindowId};
    use coalition_ledger::money::{Currency, Micros};
    use coalition_store::operations::code_of;
    use uuid::Uuid;

    use super::*;

    fn party(number: u128) -> Party {
        Party::Partner(PartnerId::from_uuid(Uuid::from_u128(number)))
    }

    fn row() -> SettlementRow {
        let position = |party, net| SettlementPosition {
            party,
            currency: Currency::EUR,
            net: Micros::new(net * 10_000),
            net_minor: Minor::new(net),
        };
        let operator = Party::Operator;
        let obligation = |payer, payee, amount| Obligation {
            payer,
            payee,
            currency: Currency::EUR,
            amount: Minor::new(amount),
        };
        SettlementRow {
            id: SettlementId::from_uuid(Uuid::from_u128(7)),
            state: SettlementState::Computed,
            netting: code_of(Method::Multilateral),
            computed_at: Timestamp::from_micros(0),
            computed_by: "maker".to_owned(),
            windows: vec![
                WindowId::from_uuid(Uuid::from_u128(9)),
                WindowId::from_uuid(Uuid::from_u128(8)),
            ],
            positions: vec![
                position(party(2), 5),
                position(party(1), -5),
                position(operator, 0),
            ],
            obligations: vec![
                obligation(operator, party(2), 5),
                obligation(party(1), operator, 5),
            ],
            gross: vec![(Currency::EUR, Micros::new(90_000))],
            rounding: vec![(Currency::EUR, Micros::ZERO)],
        }
    }

    #[test]
    fn the_network_sees_a_settlement_whole_and_in_order() {
        let message = full(&row(), None).expect("small");
        let parties: Vec<&str> = message.positions.iter().map(|p| p.party.as_str()).collect();
        let expected = [
            "OPERATOR".to_owned(),
            party(1).to_string(),
            party(2).to_string(),
        ];
        assert_eq!(parties, expected);
        assert!(message.window_ids.is_sorted());
        let total = message.totals.first().expect("one currency");
        assert_eq!(total.paid.as_ref().map(|paid| paid.amount), Some(10));
        assert_eq!(message.rounding.len(), 1);
    }

    #[test]
    fn row_12_a_settlement_without_a_part_of_its_own_is_none_to_a_partner() {
        assert!(is_part_of(&row(), Some(party(1))));
        assert!(!is_part_of(&row(), Some(party(3))));
        assert!(is_part_of(&row(), None));
    }

    #[test]
    fn row_12_a_partner_sees_its_own_part_and_nothing_of_others() {
        let own = Some(party(1));
        let message = full(&row(), own).expect("small");
        assert_eq!(message.positions.len(), 1);
        assert_eq!(message.obligations.len(), 1);
        assert!(message.totals.is_empty() && message.rounding.is_empty());
        let text = format!("{message:?}");
        assert!(!text.contains(&party(2).to_string()), "{text}");
    }
}
