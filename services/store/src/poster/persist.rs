//! Writing what a batch changed: all rows of a kind in one order.
//!
//! Two processes may want the same rows at once. Whoever takes them in the same order waits for the
//! other at most; otherwise each may hold what the other waits for, which PostgreSQL finds out only
//! after a second, while everybody else waits for the two.

use coalition_ledger::apply::Setting;
use coalition_ledger::snapshot::Effects;

use crate::error::StoreError;
use crate::traits::Unit;

/// Writes all effects.
pub(crate) async fn write(
    unit: &mut dyn Unit,
    setting: &Setting,
    effects: Effects,
) -> Result<(), StoreError> {
    let mut e = effects;
    e.requests.sort_unstable_by_key(|row| row.key);
    e.released_checks.sort_unstable();
    // Also because neighbours fill pages together: their key does not ascend with time.
    e.checks
        .sort_unstable_by(|one, other| one.key.cmp(&other.key));
    e.identifiers
        .sort_unstable_by_key(|row| row.identifier.hash);
    unit.write(setting.window, setting.now, &e).await
}
