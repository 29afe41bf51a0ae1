//! Whose figures a caller sees: people of a partner their own, those who act for the network all.
//!
//! A handler asks this before it holds the request against the rules on its fields.

use coalition_ledger::account::{Account, Transfer};
use coalition_ledger::ids::Party;
use coalition_ledger::trial::AccountKind;
use coalition_rpc::status::Problem;
use coalition_rpc::{Identity, request};
use coalition_store::model::SettlementRow;

/// The party that the caller's figures are limited to; `None`: they are not.
pub(crate) fn own_party(caller: &Identity) -> Option<Party> {
    caller.partner().map(Party::Partner)
}

/// Whose rows a reader asks for: its own partner's, or those of the party that somebody who acts for
/// the network names (empty: all).
///
/// # Errors
///
/// PERMISSION_DENIED where a partner names another party, whether that exists or not.
pub(crate) fn visible_party(caller: &Identity, named: &str) -> Result<Option<Party>, Problem> {
    match caller.partner() {
        Some(_) => Ok(request::visible_partner(caller, named)?.map(Party::Partner)),
        None if named.is_empty() => Ok(None),
        None => request::id("party", named).map(Some),
    }
}

/// Whether a settlement has figures of this party; of anybody where there is none.
pub(crate) fn is_part_of(row: &SettlementRow, own: Option<Party>) -> bool {
    own.is_none_or(|own| row.positions.iter().any(|position| position.party == own))
}

/// Whether a transfer touches an account of this party.
pub(crate) fn touches(transfer: &Transfer, own: Party) -> bool {
    let is_own = |account: Account| AccountKind::of(account).1 == Some(own);
    is_own(transfer.debit) || is_own(transfer.credit)
}
