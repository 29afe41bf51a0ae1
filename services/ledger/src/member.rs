//! Members, lots and debts: what a member holds, and of whose points.
//!
//! A [`MemberBook`] is the part of a member's holdings that a batch works on: always the totals,
//! and as many lots as the commands need. Source: domain, "The books", "Earn", "Balance".

use std::collections::BTreeMap;

use crate::account::{Account, Transfer};
use crate::ids::{AgreementId, LotId, MemberId, Party};
use crate::money::{OutOfRange, Points, Unit};
use crate::time::Timestamp;

/// Whether a member may earn and spend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MemberStatus {
    /// Both.
    #[default]
    Active,
    /// Neither, until an agent unfreezes the member.
    Frozen,
    /// Neither, for ever.
    Closed,
}

/// Points from one earn, with one issuer, one expiry and one agreement version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lot {
    /// The lot's id; ids ascend in the order of creation.
    pub id: LotId,
    /// Whose points these are: whose liability.
    pub issuer: Party,
    /// The version that the lot is pinned to.
    pub agreement: AgreementId,
    /// When the points were earned, in the shop's words.
    pub earned_at: Timestamp,
    /// Until when they cannot be spent; where there is no pending time, not after they were posted.
    pub pending_until: Timestamp,
    /// From when they cannot be spent any more.
    pub expires_at: Timestamp,
    /// Points of the lot that still stand: earned less clawed back.
    pub points: Points,
    /// Of these, not spendable yet.
    pub pending: Points,
    /// Of these, spendable.
    pub available: Points,
    /// Of these, reserved for a check.
    pub held: Points,
    /// Of these, expired.
    pub expired: Points,
}

impl Lot {
    /// Points that the lot gave to a check or a debt.
    ///
    /// Negative where points were clawed back as debt and their redemption was refunded later: that
    /// many of the points that rest in the lot are owed already.
    pub fn spent(&self) -> Result<Points, OutOfRange> {
        let resting = Points::sum([self.pending, self.available, self.held, self.expired])?;
        self.points.minus(resting)
    }

    /// Whether any of its points can still move by time or by choice.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.available.is_positive() || self.pending.is_positive() || self.held.is_positive()
    }

    /// What the lot holds after `transfer`; transfers of other lots leave it as it is.
    pub fn after(mut self, transfer: &Transfer) -> Result<Self, OutOfRange> {
        if transfer.unit != Unit::Points || transfer.lot.is_none_or(|lot| lot.id != self.id) {
            return Ok(self);
        }
        let amount = Points::new(transfer.amount);
        match transfer.debit {
            Account::Pending(..) => self.pending = self.pending.minus(amount)?,
            Account::Available(..) => self.available = self.available.minus(amount)?,
            Account::Held(..) => self.held = self.held.minus(amount)?,
            Account::Issued(_) => self.points = self.points.plus(amount)?,
            _ => {}
        }
        match transfer.credit {
            Account::Pending(..) => self.pending = self.pending.plus(amount)?,
            Account::Available(..) => self.available = self.available.plus(amount)?,
            Account::Held(..) => self.held = self.held.plus(amount)?,
            Account::Expired(_) => self.expired = self.expired.plus(amount)?,
            Account::Issued(_) => self.points = self.points.minus(amount)?,
            _ => {}
        }
        Ok(self)
    }
}

/// A moment at which points change by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Upcoming {
    /// When.
    pub at: Timestamp,
    /// How many points.
    pub points: Points,
}

/// A member's sums over all lots and issuers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Σ pending.
    pub pending: Points,
    /// Σ available.
    pub available: Points,
    /// Σ held.
    pub held: Points,
    /// Σ debt.
    pub debt: Points,
}

impl Totals {
    /// What the member may spend: available less debt; negative where more is owed.
    pub const fn balance(&self) -> Result<Points, OutOfRange> {
        self.available.minus(self.debt)
    }

    /// The sums after `transfer`.
    pub fn after(mut self, transfer: &Transfer) -> Result<Self, OutOfRange> {
        let amount = Points::new(transfer.amount);
        match transfer.debit {
            Account::Pending(..) => self.pending = self.pending.minus(amount)?,
            Account::Available(..) => self.available = self.available.minus(amount)?,
            Account::Held(..) => self.held = self.held.minus(amount)?,
            Account::Debt(..) => self.debt = self.debt.plus(amount)?,
            _ => {}
        }
        match transfer.credit {
            Account::Pending(..) => self.pending = self.pending.plus(amount)?,
            Account::Available(..) => self.available = self.available.plus(amount)?,
            Account::Held(..) => self.held = self.held.plus(amount)?,
            Account::Debt(..) => self.debt = self.debt.minus(amount)?,
            _ => {}
        }
        Ok(self)
    }
}

/// The balance block of every answer to a till.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// The sums.
    pub totals: Totals,
    /// The next expiry, if anything is set to expire.
    pub next_expiry: Option<Upcoming>,
}

/// Which of a member's live lots a batch has fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Known {
    /// None: the commands need the totals alone.
    #[default]
    Nothing,
    /// Those with pending or held points, and those with available points up to this place in the
    /// order of expiry and id.
    UpTo(Timestamp, LotId),
    /// All.
    All,
}

impl Known {
    /// Whether a lot at this place in the order of spending is among those fetched, if it is live.
    #[must_use]
    pub fn covers(self, expires_at: Timestamp, id: LotId) -> bool {
        match self {
            Self::Nothing => false,
            Self::UpTo(last_expiry, last_id) => (expires_at, id) <= (last_expiry, last_id),
            Self::All => true,
        }
    }
}

/// What a batch knows of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberBook {
    /// The member.
    pub id: MemberId,
    /// Moves with every write; guards the member's lots, debts and originals.
    pub version: i64,
    /// Whether the member may earn and spend.
    pub status: MemberStatus,
    /// Sums over all lots and debts, as posted.
    pub totals: Totals,
    /// The earliest expiry among lots with available points, with the points that expire then.
    pub next_expiry: Option<Upcoming>,
    /// The earliest end of a pending time.
    pub next_maturity: Option<Timestamp>,
    /// The lots that were fetched, by id.
    pub lots: BTreeMap<LotId, Lot>,
    /// Which of the live lots `lots` is sure to hold.
    pub known: Known,
    /// What the member owes, per issuer; fetched in full wherever `totals.debt` is not zero.
    pub debts: BTreeMap<Party, Points>,
}

impl MemberBook {
    /// The book of a member who has just enrolled.
    #[must_use]
    pub fn new(id: MemberId) -> Self {
        Self {
            id,
            version: 0,
            status: MemberStatus::Active,
            totals: Totals::default(),
            next_expiry: None,
            next_maturity: None,
            lots: BTreeMap::new(),
            known: Known::All,
            debts: BTreeMap::new(),
        }
    }

    /// The same book with no lots and no debts in it.
    #[must_use]
    pub(crate) fn clone_without_lots(&self) -> Self {
        Self {
            id: self.id,
            version: self.version,
            status: self.status,
            totals: self.totals,
            next_expiry: self.next_expiry,
            next_maturity: self.next_maturity,
            lots: BTreeMap::new(),
            known: Known::Nothing,
            debts: BTreeMap::new(),
        }
    }

    /// The balance block, as posted.
    #[must_use]
    pub const fn balance(&self) -> Balance {
        Balance {
            totals: self.totals,
            next_expiry: self.next_expiry,
        }
    }

    /// When the next lot matures or expires.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        let expiry = self.next_expiry.map(|upcoming| upcoming.at);
        [expiry, self.next_maturity].into_iter().flatten().min()
    }

    /// Whether a lot has matured or expired by `now` and that is not posted yet.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.due_at().is_some_and(|at| at <= now)
    }

    /// Lots with available points, in the order in which they are spent: earliest expiry first,
    /// ties by creation.
    #[must_use]
    pub fn spendable(&self) -> Vec<Lot> {
        let mut lots: Vec<Lot> = self
            .lots
            .values()
            .copied()
            .filter(|lot| lot.available.is_positive())
            .collect();
        lots.sort_by_key(|lot| (lot.expires_at, lot.id));
        lots
    }

    /// Whether the lots that were fetched surely suffice at `now`: to post what is due, to spend so many
    /// points of the rest, and to say what expires next of what is left then. More points than are
    /// available are not spent.
    #[must_use]
    pub fn suffices(&self, now: Timestamp, points: Points) -> bool {
        let last = match self.known {
            Known::Nothing => return false,
            Known::UpTo(last, _) => last,
            Known::All => return true,
        };
        let is_declined = points > self.totals.available;
        let spent = if is_declined { Points::ZERO } else { points };
        // Of the lots that expire at the very last instant there may be more.
        let sure = self.lots.values().filter(|lot| {
            let at = lot.expires_at;
            lot.available.is_positive() && now < at && at < last
        });
        Points::sum(sure.map(|lot| lot.available)).is_ok_and(|sure| sure > spent)
    }

    /// What the member owes `issuer`.
    #[must_use]
    pub fn debt(&self, issuer: Party) -> Points {
        self.debts.get(&issuer).copied().unwrap_or_default()
    }
}
