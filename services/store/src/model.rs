//! Rows that are not part of a batch: the network, partners, agreements, windows, settlements.

use coalition_ledger::agreement::Terms;
use coalition_ledger::command::NewIdentifier;
use coalition_ledger::ids::{
    AgreementId, MemberId, PartnerId, Party, SettlementId, TransactionId, WindowId,
};
use coalition_ledger::member::{Lot, MemberBook, Totals};
use coalition_ledger::money::{Currency, Micros, Minor};
use coalition_ledger::rulebook::PartnerStatus;
use coalition_ledger::snapshot::{Position, TotalKey};
use coalition_ledger::time::Timestamp;
use coalition_ledger::transaction::Transaction;
use rust_decimal::Decimal;
use uuid::Uuid;

/// Whether the network's clock may be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Partners try things out; an operator may move the clock.
    Sandbox,
    /// Real points and money; time is the system's.
    Production,
}

/// What a new database is set up with; an existing one must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkTerms {
    /// Sandbox or production.
    pub mode: Mode,
    /// The currencies, each with the major units that one point is worth at the till.
    pub face_values: Vec<(Currency, Decimal)>,
}

/// The network as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its own id: names the network in tokens of pages and in exports.
    pub id: Uuid,
    /// Mode and face values.
    pub terms: NetworkTerms,
    /// The time that a sandbox's clock stands at; `None`: the system's time.
    pub clock: Option<Timestamp>,
    /// The rulebook's edition.
    pub rulebook_version: i64,
}

/// Tells keys apart without telling anything else of them.
pub type KeyFingerprint = [u8; 32];

/// A partner as registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartnerRow {
    /// Its id.
    pub id: PartnerId,
    /// Its short handle, unique.
    pub code: String,
    /// What people call it.
    pub display_name: String,
    /// What kind of shop it is, as the public interface numbers it.
    pub kind: i16,
    /// Whether it trades.
    pub status: PartnerStatus,
    /// When it was registered.
    pub created_at: Timestamp,
}

/// How far an agreement version has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgreementState {
    /// One side has proposed it; another is still awaited.
    Proposed,
    /// All sides accepted it.
    Accepted,
}

/// Which side of an agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The operator.
    Operator,
    /// The partner (in an agreement of a pair: the issuer).
    Partner,
    /// In an agreement of a pair, the redeemer.
    Counterparty,
}

/// An agreement version as registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgreementRow {
    /// The version's id.
    pub id: AgreementId,
    /// Whose terms.
    pub partner: PartnerId,
    /// In an agreement of a pair, the redeemer.
    pub counterparty: Option<PartnerId>,
    /// Counts the versions of a partner (or pair), from 1.
    pub version: i32,
    /// How far it has come.
    pub state: AgreementState,
    /// Who proposed it.
    pub proposed_by: Side,
    /// The proposer's subject, as in its token.
    pub proposer: String,
    /// When it was proposed.
    pub proposed_at: Timestamp,
    /// Of operator and partner, whoever did not propose: the accepter's subject.
    pub accepter: Option<String>,
    /// When that side accepted.
    pub accepted_at: Option<Timestamp>,
    /// From when it is in force; before acceptance, from when it was asked to be.
    pub effective_at: Option<Timestamp>,
    /// In an agreement of a pair, the subject of the redeemer's accepter.
    pub counterparty_accepter: Option<String>,
    /// When the redeemer accepted.
    pub counterparty_accepted_at: Option<Timestamp>,
    /// What is agreed.
    pub terms: Terms,
}

impl AgreementRow {
    /// The sides whose acceptance is missing.
    #[must_use]
    pub fn awaiting(&self) -> Vec<Side> {
        let other = match self.proposed_by {
            Side::Operator => Side::Partner,
            Side::Partner | Side::Counterparty => Side::Operator,
        };
        let other = self.accepted_at.is_none().then_some(other);
        let redeemer = self.counterparty.is_some() && self.counterparty_accepted_at.is_none();
        let redeemer = redeemer.then_some(Side::Counterparty);
        other.into_iter().chain(redeemer).collect()
    }

    /// Whether this subject has proposed or accepted it already.
    #[must_use]
    pub fn names(&self, subject: &str) -> bool {
        let accepters = [&self.accepter, &self.counterparty_accepter];
        self.proposer == subject || accepters.iter().any(|a| a.as_deref() == Some(subject))
    }

    /// Names the state that a reader looked at: accepting asks for it, so that nobody accepts what
    /// they did not see.
    #[must_use]
    pub fn etag(&self) -> String {
        let state = match self.state {
            AgreementState::Proposed => "proposed",
            AgreementState::Accepted => "accepted",
        };
        let awaited = self.awaiting().len();
        format!("{}-{}-{state}-{awaited}", self.id, self.version)
    }
}

/// How far a window has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowState {
    /// Postings go here; exactly one.
    Open,
    /// Cut.
    Closed,
    /// Part of a settlement.
    Settling,
    /// Settled.
    Settled,
}

/// A window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its id.
    pub id: WindowId,
    /// Counts the windows, from 1.
    pub number: i64,
    /// How far it has come.
    pub state: WindowState,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it was cut.
    pub closed_at: Option<Timestamp>,
    /// The last transaction decided in it.
    pub last_transaction: Option<TransactionId>,
    /// SHA-256 over its totals, once closed.
    pub totals_hash: Option<Vec<u8>>,
}

/// How far a settlement has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettlementState {
    /// Its figures stand.
    Computed,
    /// A second person approved them.
    Approved,
    /// Payments are under way.
    Instructed,
    /// Everything is paid.
    Settled,
    /// Given up; its windows are free again.
    Aborted,
}

/// A party's net in a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettlementPosition {
    /// Who.
    pub party: Party,
    /// In which currency.
    pub currency: Currency,
    /// The exact net.
    pub net: Micros,
    /// The net as paid.
    pub net_minor: Minor,
}

/// What one party has to pay another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Obligation {
    /// Who pays.
    pub payer: Party,
    /// Who receives.
    pub payee: Party,
    /// In which currency.
    pub currency: Currency,
    /// How much; positive.
    pub amount: Minor,
}

/// A settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettlementRow {
    /// Its id.
    pub id: SettlementId,
    /// How far it has come.
    pub state: SettlementState,
    /// The netting, as the public interface numbers it.
    pub netting: i16,
    /// When it was computed.
    pub computed_at: Timestamp,
    /// Who computed it: the subject of the token.
    pub computed_by: String,
    /// The windows it settles.
    pub windows: Vec<WindowId>,
    /// Nets, in the order of currency and party.
    pub positions: Vec<SettlementPosition>,
    /// Payments, in the order of currency, payer and payee.
    pub obligations: Vec<Obligation>,
    /// Per currency, the sum of all flows before netting.
    pub gross: Vec<(Currency, Micros)>,
    /// Per currency, what rounding to minor units left over.
    pub rounding: Vec<(Currency, Micros)>,
}

impl SettlementRow {
    /// Names the state that a reader looked at; it changes whenever the settlement does. Its figures
    /// never change.
    #[must_use]
    pub fn etag(&self) -> String {
        let state = match self.state {
            SettlementState::Computed => "computed",
            SettlementState::Approved => "approved",
            SettlementState::Instructed => "instructed",
            SettlementState::Settled => "settled",
            SettlementState::Aborted => "aborted",
        };
        format!("{}-{state}", self.id)
    }
}

/// A member as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// The book, with all live lots and all debts.
    pub book: MemberBook,
    /// The member's identifiers.
    pub identifiers: Vec<NewIdentifier>,
}

/// One lot in a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScannedLot {
    /// Whose.
    pub member: MemberId,
    /// The lot.
    pub lot: Lot,
}

/// Which postings of a window to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PostingFilter {
    /// Only this window's; `None`: of all windows.
    pub window: Option<WindowId>,
    /// Only those that concern this partner: made by it, or moving its money or points.
    pub partner: Option<PartnerId>,
    /// Only this member's.
    pub member: Option<MemberId>,
}

/// Postings, in the order of id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PostingPage {
    /// Those that were found.
    pub rows: Vec<Transaction>,
    /// Where to go on, if the search broke off before it had found enough: after this transaction.
    pub next: Option<TransactionId>,
}

/// The running sums that a trial balance compares: kept apart, read at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrialSums {
    /// Over all windows per key, in the order of the keys.
    pub totals: Vec<(TotalKey, i64)>,
    /// What members hold and owe per issuer, in the order of party.
    pub holdings: Vec<(Party, Totals)>,
    /// All positions, in the order of party and currency.
    pub positions: Vec<((Party, Currency), Position)>,
}
