//! Positions, and the matrix of issuers and redeemers.

use coalition_ledger::figures::{self, Exposure, WindowPosition};
use coalition_ledger::rulebook::Rulebook;
use coalition_ledger::time::Timestamp;
use coalition_proto::settlement as pb;
use coalition_rpc::convert::Page;
use coalition_rpc::request::{identity, valid};
use coalition_rpc::status::Problem;
use tonic::Request;

use crate::sight::visible_party;
use crate::{SettlementApi, windows};

impl SettlementApi {
    pub(crate) async fn positions(
        &self,
        request: &Request<pb::ListPositionsRequest>,
    ) -> Result<pb::ListPositionsResponse, Problem> {
        let caller = identity(request)?;
        let asked = request.get_ref();
        let party = visible_party(caller, &asked.party)?;
        valid(asked)?;
        let filter = pb::ListPositionsRequest {
            page_size: 0,
            page_token: String::new(),
            ..asked.clone()
        };
        let wished = (asked.page_size, asked.page_token.as_str());
        let page = Page::of(&self.page_tokens, request, caller, wished, &filter)?;
        let (window, totals) = self.window_and_totals(&asked.window_id).await?;
        let mut rows = figures::positions(&totals)?;
        rows.retain(|row| party.is_none_or(|party| party == row.party));
        let code = |row: &WindowPosition| row.currency.map_or("", |currency| currency.code());
        // Ids in text ascend as they do in the list, and OPERATOR comes before them.
        let (rows, next_page_token) =
            page.of_all(rows, |row| format!("{} {}", row.party, code(row)))?;
        let sums = figures::position_sums(&totals)?;
        Ok(pb::ListPositionsResponse {
            window: Some(windows::message(&window, &totals)),
            positions: rows.iter().map(position).collect(),
            sums: sums
                .into_iter()
                .map(|(currency, sum)| pb::PositionSum {
                    currency_code: currency.code().to_owned(),
                    sum_micros: sum.get(),
                })
                .collect(),
            next_page_token,
        })
    }

    pub(crate) async fn exposures(
        &self,
        request: &Request<pb::ListExposuresRequest>,
    ) -> Result<pb::ListExposuresResponse, Problem> {
        let caller = identity(request)?;
        let asked = request.get_ref();
        let party = visible_party(caller, &asked.party)?;
        valid(asked)?;
        let filter = pb::ListExposuresRequest {
            page_size: 0,
            page_token: String::new(),
            ..asked.clone()
        };
        let wished = (asked.page_size, asked.page_token.as_str());
        let page = Page::of(&self.page_tokens, request, caller, wished, &filter)?;
        let (window, totals) = self.window_and_totals(&asked.window_id).await?;
        let present = self.books.present().await.map_err(Problem::because)?;
        let at = window.closed_at.unwrap_or(present.now);
        let mut rows = figures::exposures(&totals)?;
        rows.retain(|row| party.is_none_or(|p| p == row.issuer || p == row.redeemer));
        let (rows, next_page_token) =
            page.of_all(rows, |row| format!("{} {}", row.issuer, row.redeemer))?;
        let exposures = rows.iter().map(|row| exposure(row, &present.rulebook, at));
        Ok(pb::ListExposuresResponse {
            exposures: exposures.collect::<Result<_, _>>()?,
            window: Some(windows::message(&window, &totals)),
            next_page_token,
        })
    }
}

fn position(row: &WindowPosition) -> pb::Position {
    let points = &row.points;
    pb::Position {
        party: row.party.to_string(),
        currency_code: row
            .currency
            .map_or_else(String::new, |c| c.code().to_owned()),
        net_micros: row.net.get(),
        points_issued: points.issued.get(),
        points_clawed_back: points.clawed_back.get(),
        points_redeemed_here: points.redeemed_here.get(),
        points_redeemed_of: points.redeemed_of.get(),
        points_expired: points.expired.get(),
        points_refunded_here: points.refunded_here.get(),
        points_refunded_of: points.refunded_of.get(),
    }
}

/// What the points are worth where they were spent: in the currency of the redeemer's agreement as
/// of the end of the window.
fn exposure(row: &Exposure, rulebook: &Rulebook, at: Timestamp) -> Result<pb::Exposure, Problem> {
    let agreed = row
        .redeemer
        .partner()
        .and_then(|partner| rulebook.in_force(partner, at));
    let currency = agreed.map(|version| version.terms.currency);
    let worth = currency
        .map(|currency| rulebook.worth(row.points, currency))
        .transpose()?;
    Ok(pb::Exposure {
        issuer: row.issuer.to_string(),
        redeemer: row.redeemer.to_string(),
        points: row.points.get(),
        face_value_micros: worth.unwrap_or_default().get(),
        currency_code: currency.map_or_else(String::new, |c| c.code().to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use coalition_ledger::ids::{PartnerId, Party};
    use uuid::Uuid;

    #[test]
    fn parties_ascend_in_text_as_they_do_in_the_books() {
        let partner = |number| Party::Partner(PartnerId::from_uuid(Uuid::from_u128(number)));
        let parties = [
            Party::Operator,
            partner(1),
            partner(9 << 64),
            partner(u128::MAX >> 1),
        ];
        assert!(parties.is_sorted());
        assert!(parties.iter().map(Party::to_string).is_sorted());
    }
}
