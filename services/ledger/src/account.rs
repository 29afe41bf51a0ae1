//! Accounts, transfers and postings: every movement in the books.
//!
//! A posting is a list of transfers that stand or fall together. Each transfer takes a positive
//! amount of one unit from one account to another, so nothing can be created or lost. Everything
//! else that is stored about points and money (lots, balances, window totals, positions) is a
//! running sum over transfers; [`crate::audit`] recomputes those sums. Source: domain, "The books".

use std::fmt;

use crate::ids::{AgreementId, LotId, MemberId, Party};
use crate::money::Unit;
use crate::time::Timestamp;

/// In which role a party takes part in a money transfer.
///
/// Points spent where they were earned move money from a partner to itself; the capacity keeps the
/// two accounts apart, and they cancel in the partner's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capacity {
    /// As the one who funds the lot.
    Issuer,
    /// As the one at whom points are spent.
    Redeemer,
    /// As the network's operator.
    Operator,
    /// As a partner that a leg names.
    Named,
}

/// Where points and money rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// All points that a party has issued: the source of points.
    Issued(Party),
    /// A member's points of one issuer that cannot be spent yet.
    Pending(MemberId, Party),
    /// A member's points of one issuer that can be spent.
    Available(MemberId, Party),
    /// A member's points of one issuer that are reserved for a check.
    Held(MemberId, Party),
    /// Points that a member owes an issuer.
    Debt(MemberId, Party),
    /// Points of an issuer that were spent.
    Redeemed(Party),
    /// Points of an issuer that expired.
    Expired(Party),
    /// What the network owes a party (credit) or the party owes the network (debit).
    Position(Party, Capacity),
    /// Money that the operator holds for a party: prefunding and collateral.
    Funds(Party),
    /// The operator's own money: where funds are kept.
    Operator,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Issued(issuer) => write!(f, "issued/{issuer}"),
            Self::Pending(member, issuer) => write!(f, "pending/{member}/{issuer}"),
            Self::Available(member, issuer) => write!(f, "available/{member}/{issuer}"),
            Self::Held(member, issuer) => write!(f, "held/{member}/{issuer}"),
            Self::Debt(member, issuer) => write!(f, "debt/{member}/{issuer}"),
            Self::Redeemed(issuer) => write!(f, "redeemed/{issuer}"),
            Self::Expired(issuer) => write!(f, "expired/{issuer}"),
            Self::Position(party, capacity) => {
                let capacity = match capacity {
                    Capacity::Issuer => "issuer",
                    Capacity::Redeemer => "redeemer",
                    Capacity::Operator => "operator",
                    Capacity::Named => "named",
                };
                write!(f, "position/{party}/{capacity}")
            }
            Self::Funds(party) => write!(f, "funds/{party}"),
            Self::Operator => f.pad("operator"),
        }
    }
}

/// The lot that a transfer of points fills or draws on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LotRef {
    /// The lot.
    pub id: LotId,
    /// When the lot expires: repeated here so that an answer can be given again from the posting.
    pub expires_at: Timestamp,
}

/// The leg that a transfer of money follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LegRef {
    /// The leg's place in its agreement, from 0.
    pub index: u16,
    /// Whether this undoes (part of) an earlier transfer of the leg: its accounts stand swapped.
    pub reversal: bool,
}

/// One row of a posting: a positive amount of one unit from one account to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transfer {
    /// The account that gives.
    pub debit: Account,
    /// The account that receives; never the same as `debit`.
    pub credit: Account,
    /// How much, in whole points or in micro-units; always positive.
    pub amount: i64,
    /// Of what.
    pub unit: Unit,
    /// The lot that points came from or went to; on money, the lot whose slice the leg was
    /// computed for.
    pub lot: Option<LotRef>,
    /// The agreement version that governs: on points, the one whose issuer-side legs apply to the
    /// slice; on money, the leg's.
    pub agreement: Option<AgreementId>,
    /// The leg, on money that a leg moved.
    pub leg: Option<LegRef>,
}

/// One atomic, balanced change to the books: its transfers, in the order they were decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Posting {
    /// The transfers; none for a decline.
    pub transfers: Vec<Transfer>,
}
