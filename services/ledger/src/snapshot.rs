//! What a batch starts from, and what it leaves to write.
//!
//! The store fills a [`Snapshot`] with what the [`crate::command::Keys`] name; deciding evolves it,
//! so that each command sees what the ones before it left; [`Effects`] is the difference. Nothing
//! here decides anything.

use std::collections::HashMap;

use uuid::Uuid;

use crate::command::{CheckKey, Fingerprint, IdentifierHash, NewIdentifier, RequestKey};
use crate::ids::{MemberId, Party, TransactionId};
use crate::member::{Lot, MemberBook};
use crate::money::{Currency, Micros, OutOfRange, Points, Unit};
use crate::transaction::{Open, Transaction, stored};

stored! {
    /// What a request led to: what its record's `subject` is the id of.
    Subject {
        /// A transaction.
        Transaction = 1,
        /// A member who enrolled.
        Member = 2,
        /// Nothing yet: it was undone before it arrived. The subject is the undoing transaction.
        Tombstone = 3,
        /// A partner.
        Partner = 4,
        /// An agreement version as proposed.
        Agreement = 5,
        /// An agreement version as accepted.
        Acceptance = 6,
        /// A window that was closed.
        Window = 7,
        /// A settlement.
        Settlement = 8,
        /// The time that a sandbox's clock was moved to, in microseconds.
        Clock = 9,
    }
}

/// The memory of a request: what makes a retry a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// Its name.
    pub key: RequestKey,
    /// A digest of its content.
    pub fingerprint: Fingerprint,
    /// What it led to.
    pub subject: Subject,
    /// The id of what it led to.
    pub subject_id: Uuid,
    /// The member concerned, if any.
    pub member: Option<MemberId>,
}

/// The memory of a check: what makes a second accrual of it visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRecord {
    /// Its name.
    pub key: CheckKey,
    /// The transaction that used it.
    pub transaction: TransactionId,
    /// That transaction's member.
    pub member: MemberId,
}

/// A party's running sums over the windows that are not settled, in one currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// What legs took from the party, less what was reversed.
    pub debits: Micros,
    /// What legs gave to the party, less what was reversed.
    pub credits: Micros,
    /// What the operator holds for it.
    pub funds: Micros,
    /// What holds have reserved.
    pub reserved: Micros,
}

impl Position {
    /// What the network owes the party; negative where the party owes.
    pub const fn net(&self) -> Result<Micros, OutOfRange> {
        self.credits.minus(self.debits)
    }

    /// How much further the party's position may fall. Source: domain, "Limits".
    ///
    /// `net_inbound`: whether what the network owes the party counts.
    pub fn headroom(&self, limit: Micros, net_inbound: bool) -> Result<Micros, OutOfRange> {
        let credits = if net_inbound {
            self.credits
        } else {
            Micros::ZERO
        };
        limit
            .plus(self.funds)?
            .plus(credits)?
            .minus(self.debits)?
            .minus(self.reserved)
    }

    /// These sums moved by `change`.
    pub fn plus(&self, change: &Self) -> Result<Self, OutOfRange> {
        Ok(Self {
            debits: self.debits.plus(change.debits)?,
            credits: self.credits.plus(change.credits)?,
            funds: self.funds.plus(change.funds)?,
            reserved: self.reserved.plus(change.reserved)?,
        })
    }
}

/// How far a position may fall by this batch: what keeps two processes from using the same
/// headroom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The limit.
    pub limit: Micros,
    /// Whether credits count.
    pub net_inbound: bool,
    /// The headroom that must remain after the change; zero, or below where it was below already.
    pub at_least: Micros,
}

/// A movement of one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionChange {
    /// Whose position.
    pub party: Party,
    /// In which currency.
    pub currency: Currency,
    /// By how much each sum moves.
    pub change: Position,
    /// The condition under which it may.
    pub floor: Option<Floor>,
}

stored! {
    /// What a window counts.
    Measure {
        /// Money from `party` to `counterparty` by legs, less reversals, in micro-units.
        Flow = 1,
        /// Points issued by `party` for checks of `counterparty`.
        Issued = 2,
        /// Points of issuer `party` clawed back at `counterparty`.
        ClawedBack = 3,
        /// Points of issuer `party` spent at `counterparty`.
        Redeemed = 4,
        /// Points of issuer `party` given back by `counterparty`.
        Refunded = 5,
        /// Points of issuer `party` that expired.
        Expired = 6,
        /// Funds that `party` paid in, less what it took out, in micro-units.
        Funded = 7,
        /// Transactions posted, declines left out; under the operator on both sides.
        Postings = 8,
    }
}

/// Which running total of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TotalKey {
    /// What is counted.
    pub measure: Measure,
    /// Who pays or issued.
    pub party: Party,
    /// Who receives, or where it happened.
    pub counterparty: Party,
    /// What is counted in.
    pub unit: Unit,
}

/// A member's book after the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// The version that the batch started from; the row moves on to the next one.
    pub expected_version: i64,
    /// The book; its lots and debts are listed apart.
    pub book: MemberBook,
}

/// What remains of a transaction of an earlier batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenChange {
    /// The transaction.
    pub transaction: TransactionId,
    /// Its member.
    pub member: MemberId,
    /// What remains.
    pub open: Open,
}

/// A member's identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentifierRecord {
    /// Whose it is.
    pub member: MemberId,
    /// The hash, the kind and what may be shown.
    pub identifier: NewIdentifier,
}

/// What a member owes an issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebtRecord {
    /// Who owes.
    pub member: MemberId,
    /// Whom.
    pub issuer: Party,
    /// How many points; never negative.
    pub points: Points,
}

/// Everything that a batch changes, for the store to write in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// New requests.
    pub requests: Vec<RequestRecord>,
    /// New checks.
    pub checks: Vec<CheckRecord>,
    /// Checks that may be used again: what used them was undone by reference.
    pub released_checks: Vec<CheckKey>,
    /// New members.
    pub new_members: Vec<MemberBook>,
    /// New identifiers.
    pub identifiers: Vec<IdentifierRecord>,
    /// New transactions, in the order decided.
    pub transactions: Vec<Transaction>,
    /// What remains of earlier transactions.
    pub opens: Vec<OpenChange>,
    /// New lots.
    pub new_lots: Vec<(MemberId, Lot)>,
    /// Changed lots, as they are now.
    pub lots: Vec<(MemberId, Lot)>,
    /// Debts, as they are now.
    pub debts: Vec<DebtRecord>,
    /// Members, as they are now.
    pub members: Vec<MemberChange>,
    /// What to add to the open window's totals, in the order of the keys.
    pub totals: Vec<(TotalKey, i64)>,
    /// What to add to positions, in the order of party and currency.
    pub positions: Vec<PositionChange>,
}

impl Effects {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
            && self.transactions.is_empty()
            && self.members.is_empty()
            && self.new_members.is_empty()
    }
}

/// What a batch knows.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Requests that were seen before.
    pub requests: HashMap<RequestKey, RequestRecord>,
    /// Checks that were used before.
    pub checks: HashMap<CheckKey, CheckRecord>,
    /// Identifiers that are linked.
    pub identifiers: HashMap<IdentifierHash, MemberId>,
    /// Transactions that a replay, a return, a refund or a reversal needs.
    pub transactions: HashMap<TransactionId, Transaction>,
    /// The members concerned, those behind the originals included.
    pub members: HashMap<MemberId, MemberBook>,
    /// Positions of parties that have a limit.
    pub positions: HashMap<(Party, Currency), Position>,
}
