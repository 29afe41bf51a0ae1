//! One kind of rows at a time, as tests write and read them.

use std::future::Future;

use coalition_ledger::command::CheckKey;
use coalition_ledger::ids::{MemberId, WindowId};
use coalition_ledger::member::{Lot, MemberBook};
use coalition_ledger::snapshot::{
    CheckRecord, DebtRecord, Effects, IdentifierRecord, MemberChange, OpenChange, PositionChange,
    RequestRecord, TotalKey,
};
use coalition_ledger::time::Timestamp;
use coalition_ledger::transaction::Transaction;
use uuid::Uuid;

use super::START;
use crate::error::StoreError;
use crate::traits::Unit;

macro_rules! parts {
    ($($(#[$doc:meta])* $name:ident: $kind:ident of $row:ty;)+) => {
        /// [`Unit::write`] and [`Unit::members_asking`], one kind of rows at a time.
        pub trait Parts: Unit {
            $($(#[$doc])*
            fn $name(
                &mut self,
                rows: &[$row],
            ) -> impl Future<Output = Result<(), StoreError>> + Send {
                let effects = Effects {
                    $kind: rows.to_vec(),
                    ..Effects::default()
                };
                async move { self.write(WindowId::from_uuid(Uuid::nil()), START, &effects).await }
            })+

            /// Adds members, enrolled at `now`.
            fn insert_members(
                &mut self,
                rows: &[MemberBook],
                now: Timestamp,
            ) -> impl Future<Output = Result<(), StoreError>> + Send {
                let effects = Effects {
                    new_members: rows.to_vec(),
                    ..Effects::default()
                };
                async move { self.write(WindowId::from_uuid(Uuid::nil()), now, &effects).await }
            }

            /// Members' rows, and nothing else.
            fn members(
                &mut self,
                ids: &[MemberId],
            ) -> impl Future<Output = Result<Vec<MemberBook>, StoreError>> + Send {
                async move { Ok(self.members_asking(ids, &[], &[]).await?.0) }
            }

            /// Adds to the totals of a window.
            fn add_totals(
                &mut self,
                window: WindowId,
                rows: &[(TotalKey, i64)],
            ) -> impl Future<Output = Result<(), StoreError>> + Send {
                let effects = Effects {
                    totals: rows.to_vec(),
                    ..Effects::default()
                };
                async move { self.write(window, START, &effects).await }
            }
        }
    };
}

parts! {
    /// Adds requests.
    insert_requests: requests of RequestRecord;
    /// Adds checks.
    insert_checks: checks of CheckRecord;
    /// Frees checks; each must exist.
    delete_checks: released_checks of CheckKey;
    /// Adds identifiers.
    insert_identifiers: identifiers of IdentifierRecord;
    /// Adds transactions with their postings.
    insert_transactions: transactions of Transaction;
    /// Changes what remains of transactions; each must exist.
    update_opens: opens of OpenChange;
    /// Adds lots.
    insert_lots: new_lots of (MemberId, Lot);
    /// Changes the points of lots; each must exist.
    update_lots: lots of (MemberId, Lot);
    /// Adds or changes debts.
    upsert_debts: debts of DebtRecord;
    /// Changes members' rows where the version is the expected one; the version moves on by one.
    update_members: members of MemberChange;
    /// Moves positions.
    move_positions: positions of PositionChange;
}

impl<U: Unit + ?Sized> Parts for U {}
