//! Windows: which there are, and the cut.

use coalition_ledger::figures;
use coalition_ledger::ids::WindowId;
use coalition_ledger::snapshot::TotalKey;
use coalition_proto::settlement as pb;
use coalition_rpc::convert::{asked, timestamp};
use coalition_rpc::request::id;
use coalition_rpc::status::Problem;
use coalition_store::model::{Window, WindowState};
use coalition_store::operations::OperationRequest;
use tonic::Request;

use crate::SettlementApi;
use crate::pages::{Page, caller};

const LIST_WINDOWS: &str = "/coalition.settlement.v1.SettlementService/ListWindows";

impl SettlementApi {
    pub(crate) async fn open_window(
        &self,
        request: &Request<pb::GetOpenWindowRequest>,
    ) -> Result<pb::GetOpenWindowResponse, Problem> {
        caller(request)?;
        let (window, totals) = self.window_and_totals("").await?;
        Ok(pb::GetOpenWindowResponse {
            window: Some(message(&window, &totals)),
        })
    }

    pub(crate) async fn windows(
        &self,
        request: &Request<pb::ListWindowsRequest>,
    ) -> Result<pb::ListWindowsResponse, Problem> {
        let caller = caller(request)?;
        let asked = request.get_ref();
        let filter = asked.state.unwrap_or_default().to_be_bytes();
        let (size, token) = (asked.page_size, &asked.page_token);
        let page = Page::asked(
            &self.page_tokens,
            LIST_WINDOWS,
            caller,
            &filter,
            size,
            token,
        )?;
        let mut below = page.after.as_deref().and_then(number);
        let mut rows = Vec::new();
        loop {
            let found = self.books.reader().windows(below, page.limit()).await;
            let found = found.map_err(Problem::because)?;
            let Some(last) = found.last() else { break };
            below = Some(last.number);
            let wanted = |w: &Window| asked.state.is_none_or(|s| s == state(w.state) as i32);
            rows.extend(found.into_iter().filter(wanted));
            if rows.len() > page.size {
                break;
            }
        }
        let cursor = |window: &Window| window.number.to_be_bytes().to_vec();
        let next_page_token = page.cut(&mut rows, cursor)?;
        let mut windows = Vec::with_capacity(rows.len());
        for window in rows {
            let totals = self.totals(window.id).await?;
            windows.push(message(&window, &totals));
        }
        Ok(pb::ListWindowsResponse {
            windows,
            next_page_token,
        })
    }

    pub(crate) async fn cut(
        &self,
        request: &Request<pb::CutWindowRequest>,
    ) -> Result<pb::CutWindowResponse, Problem> {
        let caller = caller(request)?;
        let message_in = request.get_ref();
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

    /// A window with its totals; the open one where none is named.
    pub(crate) async fn window_and_totals(
        &self,
        named: &str,
    ) -> Result<(Window, Vec<(TotalKey, i64)>), Problem> {
        let reader = self.books.reader();
        let window = if named.is_empty() {
            reader.open_window().await.map_err(Problem::because)?
        } else {
            let found = reader
                .window(id("window_id", named)?)
                .await
                .map_err(Problem::because)?;
            found.ok_or_else(|| Problem::not_found("no such window"))?
        };
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

pub(crate) fn message(window: &Window, totals: &[(TotalKey, i64)]) -> pb::Window {
    let hash = window.totals_hash.as_deref().unwrap_or_default();
    pb::Window {
        window_id: window.id.to_string(),
        number: window.number,
        state: state(window.state).into(),
        opened_at: Some(timestamp(window.opened_at)),
        closed_at: window.closed_at.map(timestamp),
        postings: figures::postings(totals),
        last_transaction_id: window
            .last_transaction
            .map_or_else(String::new, |t| t.to_string()),
        totals_hash: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
