//! What an engine must offer: the narrow waist itself.
//!
//! Every question is one statement (two where an engine needs it), takes a set and gives a set; all
//! that a batch changed is written by one call.
//! Absent keys are absent from the answer; the order of an answer is free unless it says otherwise.

use async_trait::async_trait;
use coalition_ledger::command::{CheckKey, IdentifierHash, RequestKey};
use coalition_ledger::ids::{
    AgreementId, LotId, MemberId, PartnerId, Party, SettlementId, TransactionId, WindowId,
};
use coalition_ledger::member::{Lot, MemberBook};
use coalition_ledger::money::Currency;
use coalition_ledger::rulebook::Rulebook;
use coalition_ledger::snapshot::{
    CheckRecord, DebtRecord, Effects, Position, RequestRecord, TotalKey,
};
use coalition_ledger::time::Timestamp;
use coalition_ledger::transaction::Transaction;

use crate::durable::Durable;
use crate::error::StoreError;
use crate::model::{
    AgreementRow, KeyFingerprint, MemberView, Network, NetworkTerms, PartnerRow, PostingFilter,
    PostingPage, ScannedLot, SettlementRow, TrialSums, Window, WindowState,
};

/// How a unit of work holds the open window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowLock {
    /// With others: a batch.
    Shared,
    /// With others, and not before it writes, where the engine can: a batch at its first attempt. It stands
    /// in what this process stood in last, as far as that is known; whether it still does, it hears as it
    /// writes ([`Unit::write`]), or else when it asks ([`Unit::confirm`]).
    Deferred,
    /// Alone: a cut, a change of the rulebook, or a batch that others were always faster than or that met
    /// books that look damaged.
    Exclusive,
}

/// What a unit of work stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The open window.
    pub window: WindowId,
    /// The rulebook's edition.
    pub rulebook_version: i64,
    /// The time that a sandbox's clock stands at; `None`: the system's time.
    pub clock: Option<Timestamp>,
}

/// Lots of a member to fetch: those with pending or held points, and of the rest with available
/// points the first `limit` in the order of expiry and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LotDemand {
    /// Whose.
    pub member: MemberId,
    /// How many, at most.
    pub limit: i64,
}

/// Whether any of the requests and of the checks that were asked for may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traces {
    /// Any of the requests: false is certain.
    pub requests: bool,
    /// Any of the checks: false is certain.
    pub checks: bool,
}

impl Traces {
    /// Nobody has looked.
    pub const UNKNOWN: Self = Self {
        requests: true,
        checks: true,
    };
}

/// One database transaction. Dropped without [`Unit::commit`] or [`Unit::commit_ahead`], nothing of it
/// is stored; but for one that has deferred its lock, whose [`Unit::write`] may be its commit.
///
/// Dropping is safe at any point, a call half way included, but it is dear: on PostgreSQL the
/// connection is closed, on SQLite the next unit rolls back first. Whoever meets an error calls
/// [`Unit::rollback`]; whoever may be cancelled runs the unit in a task of its own and awaits the
/// task's handle. A unit in which a call failed answers its commit with `Conflict`.
#[async_trait]
pub trait Unit: Send {
    /// Makes sure that the unit stands in what it was told, after all that it read and where it writes
    /// nothing: `Conflict` where not. One that has not deferred its lock does.
    async fn confirm(&mut self) -> Result<(), StoreError>;

    // Fetching for a batch.

    /// The rulebook, as of this unit.
    async fn rulebook(&mut self) -> Result<Rulebook, StoreError>;
    /// Requests that were seen before.
    async fn requests(&mut self, keys: &[RequestKey]) -> Result<Vec<RequestRecord>, StoreError>;
    /// Checks that were used before.
    async fn checks(&mut self, keys: &[CheckKey]) -> Result<Vec<CheckRecord>, StoreError>;
    /// Members by identifier.
    async fn identifiers(
        &mut self,
        hashes: &[IdentifierHash],
    ) -> Result<Vec<(IdentifierHash, MemberId)>, StoreError>;
    /// Transactions with their postings.
    async fn transactions(&mut self, ids: &[TransactionId])
    -> Result<Vec<Transaction>, StoreError>;
    /// Members' rows; `lots` and `debts` are empty, and `known` says so. And whether any of these requests
    /// and checks is there as of the same instant, as far as one call of the database can tell.
    async fn members_asking(
        &mut self,
        ids: &[MemberId],
        requests: &[RequestKey],
        checks: &[CheckKey],
    ) -> Result<(Vec<MemberBook>, Traces), StoreError>;
    /// Live lots, as demanded.
    async fn live_lots(
        &mut self,
        demands: &[LotDemand],
    ) -> Result<Vec<(MemberId, Lot)>, StoreError>;
    /// Lots by id.
    async fn lots(
        &mut self,
        keys: &[(LotId, MemberId)],
    ) -> Result<Vec<(MemberId, Lot)>, StoreError>;
    /// All debts of these members.
    async fn debts(&mut self, members: &[MemberId]) -> Result<Vec<DebtRecord>, StoreError>;
    /// Positions.
    async fn positions(
        &mut self,
        keys: &[(Party, Currency)],
    ) -> Result<Vec<((Party, Currency), Position)>, StoreError>;
    /// Members with a lot that matured or expired by `now`, at most `limit`, the longest due first.
    async fn due_members(
        &mut self,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<MemberId>, StoreError>;

    // Writing a batch.

    /// Writes what a batch changed, in `window` at `now`, and in one order: totals and positions last,
    /// so that a busy partner's rows are held for as short as possible. `Conflict` where a key exists, a
    /// row is missing, a version moved on, or a position's floor does not hold; each member's version
    /// moves on by one. Rows of a kind come in the order in which everybody locks them. Of a unit that has
    /// deferred its lock it is the last call before the commit, and may be the commit: its failures include
    /// `UnknownCommit`.
    async fn write(
        &mut self,
        window: WindowId,
        now: Timestamp,
        effects: &Effects,
    ) -> Result<(), StoreError>;
    /// Remembers an operator's request.
    async fn remember(&mut self, request: &RequestRecord) -> Result<(), StoreError>;

    // Windows, registry and settlements.

    /// Windows by id.
    async fn windows(&mut self, ids: &[WindowId]) -> Result<Vec<Window>, StoreError>;
    /// A window by its number.
    async fn window_by_number(&mut self, number: i64) -> Result<Option<Window>, StoreError>;
    /// The totals of windows, in the order of window and key.
    async fn totals(
        &mut self,
        windows: &[WindowId],
    ) -> Result<Vec<(WindowId, TotalKey, i64)>, StoreError>;
    /// The flows of money among these totals, in the same order: what a settlement nets.
    async fn flows(
        &mut self,
        windows: &[WindowId],
    ) -> Result<Vec<(WindowId, TotalKey, i64)>, StoreError>;
    /// The last posting of all, by id: declined transactions do not count. Under the exclusive lock,
    /// the open window's last, if it has any.
    async fn last_transaction(&mut self) -> Result<Option<TransactionId>, StoreError>;
    /// Closes the open window with what `closed` says of it and opens the next one.
    async fn turn_window(&mut self, closed: &Window, opened: &Window) -> Result<(), StoreError>;
    /// Moves windows from one state to another; each must be in the first.
    async fn move_windows(
        &mut self,
        ids: &[WindowId],
        from: WindowState,
        to: WindowState,
    ) -> Result<(), StoreError>;
    /// Adds a settlement with all that belongs to it.
    async fn insert_settlement(&mut self, row: &SettlementRow) -> Result<(), StoreError>;
    /// The settlement, not aborted, that a window is part of.
    async fn settlement_of(&mut self, window: WindowId)
    -> Result<Option<SettlementId>, StoreError>;
    /// A settlement with all that belongs to it.
    async fn settlement(&mut self, id: SettlementId) -> Result<Option<SettlementRow>, StoreError>;
    /// A partner.
    async fn partner(&mut self, id: PartnerId) -> Result<Option<PartnerRow>, StoreError>;
    /// Adds a partner; the rulebook's edition moves on.
    async fn insert_partner(&mut self, row: &PartnerRow) -> Result<(), StoreError>;
    /// Adds an agreement version as proposed.
    async fn insert_agreement(&mut self, row: &AgreementRow) -> Result<(), StoreError>;
    /// Stores what an acceptance changes of an agreement version, which must be proposed. Where no
    /// side is awaited any more, the rulebook's edition moves on.
    async fn accept_agreement(&mut self, row: &AgreementRow) -> Result<(), StoreError>;
    /// An agreement version.
    async fn agreement(&mut self, id: AgreementId) -> Result<Option<AgreementRow>, StoreError>;
    /// How many versions of a partner's (or pair's) agreement exist.
    async fn agreement_versions(
        &mut self,
        partner: PartnerId,
        counterparty: Option<PartnerId>,
    ) -> Result<i32, StoreError>;
    /// Whether a partner has this code.
    async fn partner_by_code(&mut self, code: &str) -> Result<Option<PartnerId>, StoreError>;
    /// Sets a sandbox's clock.
    async fn set_clock(&mut self, now: Timestamp) -> Result<(), StoreError>;

    /// Commits: from now on everybody sees it, and the next unit may begin. Durable it may become a
    /// little later; nobody may be told before.
    async fn commit_ahead(self: Box<Self>) -> Result<Durable, StoreError>;
    /// Makes everything durable.
    #[must_use]
    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        self.commit_ahead().await?.reached().await
    }
    /// Gives everything up, explicitly. What was read may be told: it is durable.
    async fn rollback(self: Box<Self>) -> Result<(), StoreError>;
}

/// Questions about what is committed; each answer is consistent in itself, and durable.
#[async_trait]
pub trait Reader: Send + Sync {
    /// Members with a lot that matured or expired by `now`, at most `limit`, the longest due first.
    async fn due_members(&self, now: Timestamp, limit: i64) -> Result<Vec<MemberId>, StoreError>;
    /// The network.
    async fn network(&self) -> Result<Network, StoreError>;
    /// The member with this identifier.
    async fn member_by_identifier(
        &self,
        hash: &IdentifierHash,
    ) -> Result<Option<MemberId>, StoreError>;
    /// A member with all live lots, debts and identifiers, as of one instant.
    async fn member(&self, id: MemberId) -> Result<Option<MemberView>, StoreError>;
    /// A transaction.
    async fn transaction(&self, id: TransactionId) -> Result<Option<Transaction>, StoreError>;
    /// A request.
    async fn request(&self, key: RequestKey) -> Result<Option<RequestRecord>, StoreError>;
    /// A member's transactions before `before`, latest first; of one partner if named.
    async fn activity(
        &self,
        member: MemberId,
        partner: Option<PartnerId>,
        before: Option<TransactionId>,
        limit: i64,
    ) -> Result<Vec<Transaction>, StoreError>;
    /// The open window.
    async fn open_window(&self) -> Result<Window, StoreError>;
    /// A window.
    async fn window(&self, id: WindowId) -> Result<Option<Window>, StoreError>;
    /// Windows with a number below `below`, latest first.
    async fn windows(&self, below: Option<i64>, limit: i64) -> Result<Vec<Window>, StoreError>;
    /// A window's totals, in the order of the keys.
    async fn totals(&self, window: WindowId) -> Result<Vec<(TotalKey, i64)>, StoreError>;
    /// How many transactions were posted in each of these windows; windows without any are absent.
    async fn posting_counts(
        &self,
        windows: &[WindowId],
    ) -> Result<Vec<(WindowId, i64)>, StoreError>;
    /// Posted transactions after `after`, in the order of id, at most `limit`. Where a partner's are
    /// rare among them the search breaks off, and says where to go on.
    async fn postings(
        &self,
        filter: PostingFilter,
        after: Option<TransactionId>,
        limit: i64,
    ) -> Result<PostingPage, StoreError>;
    /// All positions of a party, or of all, in the order of party and currency.
    async fn positions(
        &self,
        party: Option<Party>,
    ) -> Result<Vec<((Party, Currency), Position)>, StoreError>;
    /// The rulebook.
    async fn rulebook(&self) -> Result<Rulebook, StoreError>;
    /// A partner.
    async fn partner(&self, id: PartnerId) -> Result<Option<PartnerRow>, StoreError>;
    /// A partner by its short handle.
    async fn partner_by_code(&self, code: &str) -> Result<Option<PartnerRow>, StoreError>;
    /// Partners after `after`, in the order of id.
    async fn partners(
        &self,
        after: Option<PartnerId>,
        limit: i64,
    ) -> Result<Vec<PartnerRow>, StoreError>;
    /// An agreement version.
    async fn agreement(&self, id: AgreementId) -> Result<Option<AgreementRow>, StoreError>;
    /// Versions before `before`, latest first; only those that a partner is a side of if named.
    async fn agreements(
        &self,
        partner: Option<PartnerId>,
        before: Option<AgreementId>,
        limit: i64,
    ) -> Result<Vec<AgreementRow>, StoreError>;
    /// A settlement.
    async fn settlement(&self, id: SettlementId) -> Result<Option<SettlementRow>, StoreError>;
    /// Settlements before `before`, latest first.
    async fn settlements(
        &self,
        before: Option<SettlementId>,
        limit: i64,
    ) -> Result<Vec<SettlementRow>, StoreError>;
    /// The running sums that a trial balance compares, as of one instant.
    async fn trial_sums(&self) -> Result<TrialSums, StoreError>;
}

/// Everything, as of one instant, durable: what `verify` reads. Pages come in the order of their ids.
#[async_trait]
pub trait Scan: Send {
    /// How many transactions there are.
    async fn transaction_count(&mut self) -> Result<i64, StoreError>;
    /// Transactions after `after`, with the ids of those whose row does not match its digest; of a
    /// row that cannot be read at all there is only the id. No transactions: that was the last page
    /// (`after` is the last transaction of the page before).
    async fn transactions(
        &mut self,
        after: Option<TransactionId>,
        limit: i64,
    ) -> Result<(Vec<Transaction>, Vec<TransactionId>), StoreError>;
    /// Lots after `after`.
    async fn lots(
        &mut self,
        after: Option<LotId>,
        limit: i64,
    ) -> Result<Vec<ScannedLot>, StoreError>;
    /// Members after `after`; `lots` and `debts` are empty.
    async fn members(
        &mut self,
        after: Option<MemberId>,
        limit: i64,
    ) -> Result<Vec<MemberBook>, StoreError>;
    /// All debts that are not zero.
    async fn debts(&mut self) -> Result<Vec<DebtRecord>, StoreError>;
    /// All windows, in the order of their numbers.
    async fn windows(&mut self) -> Result<Vec<Window>, StoreError>;
    /// A window's totals, in the order of the keys.
    async fn totals(&mut self, window: WindowId) -> Result<Vec<(TotalKey, i64)>, StoreError>;
    /// All positions.
    async fn positions(&mut self) -> Result<Vec<((Party, Currency), Position)>, StoreError>;
    /// The rulebook.
    async fn rulebook(&mut self) -> Result<Rulebook, StoreError>;
}

/// A database that holds the books of one network.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Brings the schema up to date; on an empty database also lays down the network and opens its
    /// first window. On an existing one, `Unsuitable` where `terms` differ from what is stored.
    async fn migrate(&self, terms: &NetworkTerms, now: Timestamp) -> Result<Network, StoreError>;
    /// `Unsuitable`, with what to do, where the schema is not exactly the one that this version works
    /// on. Changes nothing.
    async fn check_schema(&self) -> Result<(), StoreError>;
    /// The network, for a process about to serve that hashes identifiers with the key of this
    /// fingerprint; the first one leaves it. `Unsuitable`, with what to do, where another key was
    /// left, or as [`Store::check_schema`].
    async fn attach(&self, identifier_key: &KeyFingerprint) -> Result<Network, StoreError>;
    /// Whether a statement runs on the thread of whoever asks, not elsewhere: then whoever has many to
    /// run does better on a thread of its own than in turns with everybody's calls.
    fn is_at_hand(&self) -> bool {
        false
    }
    /// Begins a unit of work and takes the open window's lock, unless that is deferred.
    async fn begin(&self, lock: WindowLock) -> Result<(Box<dyn Unit>, Frame), StoreError>;
    /// Asks questions.
    fn reader(&self) -> &dyn Reader;
    /// Reads everything as of now.
    async fn scan(&self) -> Result<Box<dyn Scan>, StoreError>;
    /// Waits until the database can no longer be relied on in this process, which must be started
    /// again: then everything is refused. For ever, if that never happens.
    async fn failed(&self) {
        std::future::pending::<()>().await;
    }
    /// Closes all connections, after the work under way.
    async fn close(&self);
}
