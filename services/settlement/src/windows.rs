//! Windows: which there are, and the cut.

use std::collections::HashMap;

use coalition_ledger::figures;
use coalition_ledger::ids::WindowId;
use coalition_ledger::snapshot::TotalKey;
use coalition_proto::settlement as pb;
use coalition_rpc::convert::page::READS_PER_PAGE;
use coalition_rpc::convert::{Page, asked, timestamp};
use coalition_rpc::request::{id, identity, valid};
use coalition_rpc::status::Problem;
use coalition_store::model::{Window, WindowState};
use coalition_store::operations::OperationRequest;
use tonic::Request;

use crate::SettlementApi;

impl SettlementApi {
    pub(crate) async fn open_window(
        &self,
        request: &Request<pb::GetOpenWindowRequest>,
    ) -> Result<pb::GetOpenWindowResponse, Problem> {
        identity(request)?;
        valid(request.get_ref())?;
        let (window, totals) = self.window_and_totals("").await?;
        Ok(pb::GetOpenWindowResponse {
            window: Some(message(&window, &totals)),
        })
    }

    pub(crate) async fn windows(
        &self,
        request: &Request<pb::ListWindowsRequest>,
    ) -> Result<pb::ListWindowsResponse, Problem> {
        let caller = identity(request)?;
        let asked = request.get_ref();
        valid(asked)?;
        let filter = pb::ListWindowsRequest {
            page_size: 0,
            page_token: String::new(),
            ..*asked
        };
        let wished = (asked.page_size, asked.page_token.as_str());
        let page = Page::of(&self.page_tokens, request, caller, wished, &filter)?;
        let wanted = |w: &Window| asked.state.is_none_or(|s| s == i32::from(state(w.state)));
        let (rows, next_page_token) = self.window_page(&page, wanted).await?;
        let ids: Vec<WindowId> = rows.iter().map(|window| window.id).collect();
        let counts = self.books.reader().posting_counts(&ids).await;
        let counts: HashMap<WindowId, i64> =
            counts.map_err(Problem::because)?.into_iter().collect();
        let count = |window: &Window| counts.get(&window.id).copied().unwrap_or_default();
        Ok(pb::ListWindowsResponse {
            windows: rows.iter().map(|row| counted(row, count(row))).collect(),
            next_page_token,
        })
    }

    async fn window_page(
        &self,
        page: &Page,
        wanted: impl Fn(&Window) -> bool,
    ) -> Result<(Vec<Window>, String), Problem> {
        let mut below = page.cursor().and_then(number);
        let mut rows = Vec::new();
        for _ in 0..READS_PER_PAGE {
            let found = self.books.reader().windows(below, page.limit()).await;
            let found = found.map_err(Problem::because)?;
            let Some(last) = found.last() else {
                return Ok((rows, String::new()));
            };
            below = Some(last.number);
            rows.extend(found.into_iter().filter(&wanted));
            if rows.len() > page.rows() {
                let token = page.cut(&mut rows, |window| window.number.to_be_bytes())?;
                return Ok((rows, token));
            }
        }
        let token = below.map(|last| page.token(&last.to_be_bytes()));
        Ok((rows, token.transpose()?.unwrap_or_default()))
    }

    pub(crate) async fn cut(
        &self,
        request: &Request<pb::CutWindowRequest>,
    ) -> Result<pb::CutWindowResponse, Problem> {
        let caller = identity(request)?;
        let message_in = request.get_ref();
        valid(message_in)?;
        let (key, fingerprint) = asked(request, caller, &message_in.request_id)?;
        let expected = match message_in.expected_window_id.as_str() {
            "" => None,
            named => Some(id("expected_window_id", named)?),
        };
        let operation = OperationRequest { key, fingerprint };
        let done = self.books.operations().cut(operation, expected).await;
        let done = done.map_err(Problem::because)?;
        let (closed, opened) = (done.result.closed, done.result.opened);
        let totals = self.totals(closed.id).await?;
        Ok(pb::CutWindowResponse {
            expired_points: figures::expired(&totals)?.get(),
            closed: Some(message(&closed, &totals)),
            opened: Some(message(&opened, &[])),
            replayed: done.replayed,
        })
    }

    /// A window; the open one where none is named. Windows are no partner's own.
    pub(crate) async fn window(&self, named: &str) -> Result<Window, Problem> {
        let reader = self.books.reader();
        if named.is_empty() {
            return reader.open_window().await.map_err(Problem::because);
        }
        let found = reader.window(id("window_id", named)?).await;
        let found = found.map_err(Problem::because)?;
        found.ok_or_else(|| Problem::not_found("no such window"))
    }

    /// A window with its totals; the open one where none is named.
    pub(crate) async fn window_and_totals(
        &self,
        named: &str,
    ) -> Result<(Window, Vec<(TotalKey, i64)>), Problem> {
        let window = self.window(named).await?;
        let totals = self.totals(window.id).await?;
        Ok((window, totals))
    }

    pub(crate) async fn totals(&self, window: WindowId) -> Result<Vec<(TotalKey, i64)>, Problem> {
        self.books
            .reader()
            .totals(window)
            .await
            .map_err(Problem::because)
    }
}

/// A window number in a cursor.
fn number(cursor: &[u8]) -> Option<i64> {
    cursor.try_into().ok().map(i64::from_be_bytes)
}

const fn state(state: WindowState) -> pb::WindowState {
    match state {
        WindowState::Open => pb::WindowState::Open,
        WindowState::Closed => pb::WindowState::Closed,
        WindowState::Settling => pb::WindowState::Settling,
        WindowState::Settled => pb::WindowState::Settled,
    }
}

/// The message of a window with these totals.
pub(crate) fn message(window: &Window, totals: &[(TotalKey, i64)]) -> pb::Window {
    counted(window, figures::postings(totals))
}

/// The message of a window with this many postings.
fn counted(window: &Window, postings: i64) -> pb::Window {
    let hash = window.totals_hash.as_deref().unwrap_or_default();
    pb::Window {
        window_id: window.id.to_string(),
        number: window.number,
        state: state(window.state).into(),
        opened_at: Some(timestamp(window.opened_at)),
        closed_at: window.closed_at.map(timestamp),
        postings,
        // The store keeps where the ids end; an empty window has none of its own.
        last_transaction_id: window
            .last_transaction
            .filter(|_| postings > 0)
            .map_or_else(String::new, |t| t.to_string()),
        totals_hash: hexadecimal(hash),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_shown_in_lower_case_hexadecimal() {
        assert_eq!(hexadecimal(&[0, 0x0f, 0xa5, 0xff]), "000fa5ff");
        assert_eq!(hexadecimal(&[]), "");
    }
}
