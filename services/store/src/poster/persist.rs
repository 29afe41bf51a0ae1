//! Writing what a batch changed: the contended rows last, and all rows in one order.
//!
//! Two processes may want the same rows at once. Whoever takes them in the same order waits for the
//! other at most; otherwise each may hold what the other waits for, which PostgreSQL finds out only
//! after a second, while everybody else waits for the two.

use coalition_ledger::apply::Setting;
use coalition_ledger::snapshot::Effects;

use crate::error::StoreError;
use crate::traits::Unit;

/// Writes all effects. Positions and totals come last, so that a busy partner's row is held for as
/// short as possible.
pub(crate) async fn write(
    unit: &mut dyn Unit,
    setting: &Setting,
    effects: Effects,
) -> Result<(), StoreError> {
    let mut e = effects;
    e.requests.sort_unstable_by_key(|row| row.key);
    e.released_checks.sort_unstable();
    e.checks
        .sort_unstable_by(|one, other| one.key.cmp(&other.key));
    e.identifiers
        .sort_unstable_by_key(|row| row.identifier.hash);
    if !e.requests.is_empty() {
        unit.insert_requests(&e.requests).await?;
    }
    if !e.released_checks.is_empty() {
        unit.delete_checks(&e.released_checks).await?;
    }
    if !e.checks.is_empty() {
        unit.insert_checks(&e.checks).await?;
    }
    if !e.new_members.is_empty() {
        unit.insert_members(&e.new_members, setting.now).await?;
    }
    if !e.identifiers.is_empty() {
        unit.insert_identifiers(&e.identifiers).await?;
    }
    if !e.transactions.is_empty() {
        unit.insert_transactions(&e.transactions).await?;
    }
    if !e.opens.is_empty() {
        unit.update_opens(&e.opens).await?;
    }
    if !e.new_lots.is_empty() {
        unit.insert_lots(&e.new_lots).await?;
    }
    if !e.lots.is_empty() {
        unit.update_lots(&e.lots).await?;
    }
    // After the transactions: the member's row names the last of them.
    if !e.members.is_empty() {
        unit.update_members(&e.members).await?;
    }
    if !e.debts.is_empty() {
        unit.upsert_debts(&e.debts).await?;
    }
    if !e.totals.is_empty() {
        unit.add_totals(setting.window, &e.totals).await?;
    }
    if !e.positions.is_empty() {
        unit.move_positions(&e.positions).await?;
    }
    Ok(())
}
