//! Transactions: what was asked, what was decided, and the posting that followed.
//!
//! A transaction is the record of one command: posted, or declined with a reason. Everything that
//! an answer to a till contains stands in it, so that the same request gets the same answer for
//! ever. Only what remains open of it ([`Open`]) changes later.

use crate::account::{Account, LotRef, Posting};
use crate::ids::{AgreementId, MemberId, Party, TransactionId, WindowId};
use crate::member::Balance;
use crate::money::{Currency, Minor, OutOfRange, Points};
use crate::time::Timestamp;

/// Gives an enum stable numbers for storage, and the way back.
macro_rules! stored {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $code:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of the codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The number under which it is stored; never given to another value.
            #[must_use]
            pub const fn code(self) -> i16 {
                match self {
                    $(Self::$variant => $code,)+
                }
            }

            /// The value stored under `code`.
            #[must_use]
            pub const fn from_code(code: i16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use stored;

stored! {
    /// What a transaction is about.
    Kind {
        /// Points for a check.
        Earn = 1,
        /// Goods came back; their points are clawed back.
        ReturnEarn = 2,
        /// Points are spent.
        Redeem = 3,
        /// Spent points go back to their lots.
        RefundRedemption = 4,
        /// Points expire.
        Expire = 5,
        /// Pending points become available.
        Mature = 6,
        /// A partner pays into its funds.
        Deposit = 7,
        /// A partner takes out of its funds.
        Withdraw = 8,
        /// A request that never arrived is undone, should it still come.
        Reverse = 9,
    }
}

stored! {
    /// Why the books say no. Declines are recorded: a retry gets the same answer.
    Decline {
        /// The check has earned before, under another request.
        CheckAlreadyEarned = 1,
        /// Points were spent on the check before, under another request.
        CheckAlreadyRedeemed = 2,
        /// The return or refund slip was used before, under another request.
        CheckAlreadyReturned = 3,
        /// The member's balance is smaller than the points asked for.
        InsufficientPoints = 4,
        /// An issuer has too little headroom.
        LimitExceeded = 5,
        /// The member is closed.
        MemberClosed = 6,
        /// The member is frozen.
        MemberFrozen = 7,
        /// The partner is suspended.
        PartnerSuspended = 8,
        /// No agreement of the partner is in force at that time.
        NoAgreementInForce = 9,
        /// More goods come back than remain of the check.
        ReturnExceedsCheck = 10,
        /// More points are refunded than remain of the redemption.
        RefundExceedsRedemption = 11,
        /// Nothing of the original is left to undo.
        AlreadyReversed = 12,
        /// The original is unknown; should it arrive, it will be declined.
        OriginalNotFound = 14,
        /// The original was declined: there is nothing to undo.
        OriginalWasDeclined = 15,
        /// A partner takes out more than its funds and headroom allow.
        FundsExceeded = 16,
    }
}

stored! {
    /// How a till came by the order.
    Channel {
        /// On the premises.
        InStore = 1,
        /// On the web.
        Online = 2,
        /// Delivered.
        Delivery = 3,
        /// By telephone.
        Phone = 4,
        /// At a kiosk.
        Kiosk = 5,
        /// In an app.
        App = 6,
    }
}

/// The till's own words about a call; carried, never interpreted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The shop's check or slip number; unique per partner and kind.
    pub check_id: Option<String>,
    /// The location's code.
    pub location: Option<String>,
    /// The terminal's code.
    pub terminal: Option<String>,
    /// Who served, as the shop counts its people.
    pub operator_ref: Option<String>,
    /// The till's shift.
    pub shift_ref: Option<String>,
    /// The shop's business date, `YYYY-MM-DD`.
    pub business_date: Option<String>,
    /// How the order came in.
    pub channel: Option<Channel>,
    /// Whether the till was offline when it happened.
    pub offline: bool,
}

/// What remains of a transaction: what returns, refunds and reversals may still undo.
///
/// Of a return or refund, and of one that was declined for asking too much: what remained of its
/// original right then, for the answer; it never changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Of an earn, the points that its remaining basis earns; of a redemption, the points that
    /// are not refunded.
    pub points: Points,
    /// Of an earn, the remaining basis.
    pub amount: Minor,
    /// The transaction that undid it whole, by reference.
    pub reversed_by: Option<TransactionId>,
}

/// The record of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its id.
    pub id: TransactionId,
    /// What it is about.
    pub kind: Kind,
    /// Why it was declined; `None`: it was posted.
    pub declined: Option<Decline>,
    /// The member, except for funds and unknown originals.
    pub member: Option<MemberId>,
    /// For whom it was posted; the operator for expiry and maturity.
    pub partner: Party,
    /// The transaction that it returns, refunds or reverses; for a check that was used before, the
    /// first one.
    pub original: Option<TransactionId>,
    /// The till's words.
    pub context: Context,
    /// When it happened, in the shop's words.
    pub occurred_at: Timestamp,
    /// When it was decided, in the network's time.
    pub posted_at: Timestamp,
    /// The window that the posting is in.
    pub window: WindowId,
    /// Points earned, clawed back or owed anew, spent, refunded, expired or matured.
    pub points: Points,
    /// Of a return: points that were forgiven.
    pub points_forgiven: Points,
    /// Of a return: points that had expired already; of a refund or an earn: points that were past
    /// their expiry and expired at once.
    pub points_expired: Points,
    /// The basis of an earn, the goods returned, the check's total of a redemption, or funds.
    pub amount: Option<(Minor, Currency)>,
    /// The version in force for the partner: the earn's, or the redeemer's.
    pub agreement: Option<AgreementId>,
    /// The member's balance block after it.
    pub balance: Balance,
    /// What moved.
    pub posting: Posting,
    /// What remains of it.
    pub open: Open,
}

/// Points of one lot that a transaction filled, spent or gave back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The lot.
    pub lot: LotRef,
    /// Who issued it.
    pub issuer: Party,
    /// How many points; positive.
    pub points: Points,
    /// The version whose issuer-side legs govern these points.
    pub agreement: Option<AgreementId>,
}

impl Slice {
    /// The points of all slices.
    pub fn sum(slices: &[Self]) -> Result<Points, OutOfRange> {
        Points::sum(slices.iter().map(|slice| slice.points))
    }

    /// One slice per lot, in the order in which the lots are first named.
    pub fn by_lot(slices: Vec<Self>) -> Result<Vec<Self>, OutOfRange> {
        let mut lots: Vec<Self> = Vec::with_capacity(slices.len());
        for slice in slices {
            match lots.iter_mut().find(|lot| lot.lot.id == slice.lot.id) {
                Some(lot) => lot.points = lot.points.plus(slice.points)?,
                None => lots.push(slice),
            }
        }
        Ok(lots)
    }
}

impl Transaction {
    /// The slices that the posting moves between two kinds of account, in the order decided.
    fn slices(&self, moves: impl Fn(Account, Account) -> Option<Party>) -> Vec<Slice> {
        let slice = |t: &crate::account::Transfer| {
            Some(Slice {
                issuer: moves(t.debit, t.credit)?,
                lot: t.lot?,
                points: Points::new(t.amount),
                agreement: t.agreement,
            })
        };
        self.posting.transfers.iter().filter_map(slice).collect()
    }

    /// Points issued into each lot, those included that went to a debt: one slice per transfer.
    #[must_use]
    pub fn issued(&self) -> Vec<Slice> {
        self.slices(|debit, _| match debit {
            Account::Issued(issuer) => Some(issuer),
            _ => None,
        })
    }

    /// Points that an earn used to repay debts.
    #[must_use]
    pub fn repaid(&self) -> Vec<Slice> {
        self.slices(|debit, credit| match (debit, credit) {
            (Account::Issued(issuer), Account::Debt(..)) => Some(issuer),
            _ => None,
        })
    }

    /// Points spent, in the order of consumption.
    #[must_use]
    pub fn spent(&self) -> Vec<Slice> {
        self.slices(|_, credit| match credit {
            Account::Redeemed(issuer) => Some(issuer),
            _ => None,
        })
    }

    /// Points given back to their lots, last consumed first.
    #[must_use]
    pub fn restored(&self) -> Vec<Slice> {
        self.slices(|debit, _| match debit {
            Account::Redeemed(issuer) => Some(issuer),
            _ => None,
        })
    }

    /// Points that a return took out of lots.
    #[must_use]
    pub fn clawed_back(&self) -> Vec<Slice> {
        self.slices(|debit, credit| match (debit, credit) {
            (Account::Available(..) | Account::Pending(..), Account::Issued(issuer)) => {
                Some(issuer)
            }
            _ => None,
        })
    }

    /// Points that a return left as debt.
    #[must_use]
    pub fn indebted(&self) -> Vec<Slice> {
        self.slices(|debit, credit| match (debit, credit) {
            (Account::Debt(..), Account::Issued(issuer)) => Some(issuer),
            _ => None,
        })
    }

    /// Points that a return took back, out of lots or as debt.
    #[must_use]
    pub fn taken_back(&self) -> Vec<Slice> {
        self.slices(|_, credit| match credit {
            Account::Issued(issuer) => Some(issuer),
            _ => None,
        })
    }

    /// Points that matured in this posting.
    #[must_use]
    pub fn matured(&self) -> Vec<Slice> {
        self.slices(|debit, _| match debit {
            Account::Pending(_, issuer) => Some(issuer),
            _ => None,
        })
    }

    /// Points that expired in this posting.
    #[must_use]
    pub fn expired(&self) -> Vec<Slice> {
        self.slices(|_, credit| match credit {
            Account::Expired(issuer) => Some(issuer),
            _ => None,
        })
    }
}
