//! Lists, read to their end.

use coalition_proto::settlement::{
    Exposure, ListExposuresRequest, ListPositionsRequest, Position, PositionSum,
};

use super::{CallError, Caller};

/// Rows asked for at once: what the network grants at most.
const PAGE_ROWS: i32 = 1_000;

/// The positions of a window, with their sums.
#[derive(Clone, Debug, Default)]
pub struct Positions {
    /// One per party and currency with movements.
    pub rows: Vec<Position>,
    /// One per currency; each must be zero.
    pub sums: Vec<PositionSum>,
}

impl Caller {
    /// All positions of a window; of the open one if `window_id` is empty.
    ///
    /// # Errors
    ///
    /// What the network answered.
    pub async fn positions(&self, window_id: &str) -> Result<Positions, CallError> {
        let mut all = Positions::default();
        let mut page_token = String::new();
        loop {
            let page = self
                .call(ListPositionsRequest {
                    window_id: window_id.to_owned(),
                    party: String::new(),
                    page_size: PAGE_ROWS,
                    page_token,
                })
                .await?;
            all.rows.extend(page.positions);
            all.sums = page.sums;
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// All cells of a window's matrix of issuers and redeemers; of the open one if `window_id` is
    /// empty.
    ///
    /// # Errors
    ///
    /// What the network answered.
    pub async fn exposures(&self, window_id: &str) -> Result<Vec<Exposure>, CallError> {
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let page = self
                .call(ListExposuresRequest {
                    window_id: window_id.to_owned(),
                    party: String::new(),
                    page_size: PAGE_ROWS,
                    page_token,
                })
                .await?;
            all.extend(page.exposures);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }
}
