//! Computing a settlement from closed windows.

use coalition_ledger::ids::{SettlementId, WindowId};
use coalition_ledger::netting::{Method, net};
use coalition_ledger::snapshot::Subject;

use super::{AsyncWork, Done, Objection, OperationError, OperationRequest, Operations};
use super::{earlier, now_in, remember};
use crate::error::StoreError;
use crate::model::{Obligation, SettlementPosition, SettlementRow, SettlementState, WindowState};
use crate::traits::{Frame, Unit};

/// A settlement to compute.
#[derive(Clone, Debug)]
pub struct ComputeSettlement {
    /// The request.
    pub request: OperationRequest,
    /// The windows to settle; at least one, each once.
    pub windows: Vec<WindowId>,
    /// How obligations are made.
    pub method: Method,
    /// Whether to show the figures and store nothing.
    pub validate_only: bool,
    /// Who computes: the subject of the token.
    pub computed_by: String,
}

/// The stored number of a method.
#[must_use]
pub const fn code_of(method: Method) -> i16 {
    match method {
        Method::Multilateral => 1,
        Method::Bilateral => 2,
        Method::Gross => 3,
    }
}

/// The method stored under a number.
#[must_use]
pub const fn method_of(code: i16) -> Option<Method> {
    match code {
        1 => Some(Method::Multilateral),
        2 => Some(Method::Bilateral),
        3 => Some(Method::Gross),
        _ => None,
    }
}

impl Operations {
    /// Computes a settlement; its windows belong to it from then on.
    pub async fn compute_settlement(
        &self,
        settlement: ComputeSettlement,
    ) -> Result<Done<SettlementRow>, OperationError> {
        self.run(settlement).await
    }
}

#[async_trait::async_trait]
impl AsyncWork<Done<SettlementRow>> for ComputeSettlement {
    async fn run(
        &self,
        operations: &Operations,
        unit: &mut dyn Unit,
        frame: &Frame,
    ) -> Result<Done<SettlementRow>, OperationError> {
        if !self.validate_only
            && let Some(id) = earlier(unit, &self.request, Subject::Settlement).await?
        {
            let id = SettlementId::from_uuid(id);
            let found = unit.settlement(id).await?;
            let mut found =
                found.ok_or_else(|| StoreError::Damaged(format!("settlement {id} is missing")))?;
            // As it was then: the first answer, for ever.
            found.state = first_state(&found.positions);
            return Ok(Done {
                result: found,
                replayed: true,
            });
        }
        self.check_windows(unit).await?;
        let totals: Vec<_> = unit
            .flows(&self.windows)
            .await?
            .into_iter()
            .map(|(_, key, amount)| (key, amount))
            .collect();
        let netting = net(&totals, self.method)?;
        let positions: Vec<_> = netting
            .nets
            .iter()
            .map(|n| SettlementPosition {
                party: n.party,
                currency: n.currency,
                net: n.net,
                net_minor: n.net_minor,
            })
            .collect();
        let row = SettlementRow {
            id: SettlementId::from_uuid(operations.mint().await),
            state: first_state(&positions),
            netting: code_of(self.method),
            computed_at: now_in(frame, operations.clock.as_ref()),
            computed_by: self.computed_by.clone(),
            windows: self.windows.clone(),
            positions,
            obligations: netting
                .payments
                .iter()
                .map(|p| Obligation {
                    payer: p.payer,
                    payee: p.payee,
                    currency: p.currency,
                    amount: p.amount,
                })
                .collect(),
            gross: netting.gross,
            rounding: netting.rounding,
        };
        if !self.validate_only {
            let (from, to) = (
                WindowState::Closed,
                match row.state {
                    SettlementState::Settled => WindowState::Settled,
                    _ => WindowState::Settling,
                },
            );
            unit.move_windows(&self.windows, from, to).await?;
            unit.insert_settlement(&row).await?;
            remember(unit, &self.request, Subject::Settlement, row.id.uuid()).await?;
        }
        Ok(Done {
            result: row,
            replayed: false,
        })
    }
}

/// Where a settlement starts: nothing moved, nothing to pay, settled. Source: domain, "Windows".
const fn first_state(positions: &[SettlementPosition]) -> SettlementState {
    if positions.is_empty() {
        SettlementState::Settled
    } else {
        SettlementState::Computed
    }
}

impl ComputeSettlement {
    async fn check_windows(&self, unit: &mut dyn Unit) -> Result<(), OperationError> {
        let found = unit.windows(&self.windows).await?;
        for id in &self.windows {
            let window = found.iter().find(|window| window.id == *id);
            match window.map(|window| window.state) {
                None => return Err(Objection::UnknownWindow(*id).into()),
                Some(WindowState::Open) => return Err(Objection::WindowNotClosed(*id).into()),
                Some(WindowState::Settling | WindowState::Settled) => {
                    let (window, settlement) = (*id, unit.settlement_of(*id).await?);
                    return Err(Objection::WindowAlreadySettling { window, settlement }.into());
                }
                Some(WindowState::Closed) => {}
            }
        }
        Ok(())
    }
}
