//! Commands: what a service asks the books to do, and what the books must know to decide it.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::ids::{MemberId, PartnerId, TransactionId};
use crate::money::{Currency, Minor, Points};
use crate::time::Timestamp;
use crate::transaction::{Context, Kind};

/// A request's own name: whose it is, and the id that the caller gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey {
    /// The id that the caller gave.
    pub id: Uuid,
    /// The caller's partner, or nil for operators: ids of different callers never meet.
    pub scope: Uuid,
}

/// A digest of a request's content: tells a retry from another request under the same id.
pub type Fingerprint = [u8; 16];

/// A keyed hash of an identifier (card number, phone, …): what the books know of it.
pub type IdentifierHash = [u8; 32];

/// How a call names a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemberKey {
    /// By id.
    Id(MemberId),
    /// By an identifier, hashed.
    Identifier(IdentifierHash),
}

/// A check's own name: unique per partner and kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckKey {
    /// Whose check it is.
    pub partner: PartnerId,
    /// What was done with it.
    pub kind: Kind,
    /// The shop's number.
    pub check_id: String,
}

/// How a return, refund or reversal names what it undoes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Original {
    /// By our id.
    Transaction(TransactionId),
    /// By the shop's check number.
    Check(String),
    /// By the request that asked for it.
    Request(Uuid),
}

/// The amounts on a check, all in one currency and not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckAmounts {
    /// Goods and services before discounts, without tax and tip.
    pub gross: Minor,
    /// Discounts.
    pub discounts: Minor,
    /// Tax.
    pub tax: Minor,
    /// Tip.
    pub tip: Minor,
    /// What was paid with gift cards.
    pub gift_card: Minor,
    /// What was paid with points.
    pub paid_with_points: Minor,
}

/// Enrol a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enroll {
    /// The member's id, minted by the caller of the ledger.
    pub member: MemberId,
    /// The member's identifiers, hashed, each with its masked text form.
    pub identifiers: Vec<NewIdentifier>,
}

/// An identifier to link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewIdentifier {
    /// The keyed hash.
    pub hash: IdentifierHash,
    /// Its kind, as the public interface numbers it.
    pub kind: i16,
    /// What may be shown of it (`••••1234`).
    pub masked: String,
}

/// Earn points for a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earn {
    /// The earning partner.
    pub partner: PartnerId,
    /// The member.
    pub member: MemberId,
    /// The check's amounts.
    pub amounts: CheckAmounts,
    /// Their currency.
    pub currency: Currency,
    /// When it happened; `None`: now.
    pub occurred_at: Option<Timestamp>,
    /// The till's words.
    pub context: Context,
}

/// Return goods of a check that earned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnEarn {
    /// The partner that the check was earned at.
    pub partner: PartnerId,
    /// The earn.
    pub original: Original,
    /// The goods returned; positive.
    pub returned: Minor,
    /// Their currency.
    pub currency: Currency,
    /// When it happened; `None`: now.
    pub occurred_at: Option<Timestamp>,
    /// The till's words.
    pub context: Context,
}

/// Spend points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redeem {
    /// The redeeming partner.
    pub partner: PartnerId,
    /// The member.
    pub member: MemberId,
    /// How many; positive.
    pub points: Points,
    /// The check's total: what `BASKET` legs are computed on.
    pub check_total: Option<(Minor, Currency)>,
    /// When it happened; `None`: now.
    pub occurred_at: Option<Timestamp>,
    /// The till's words.
    pub context: Context,
}

/// Give spent points back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundRedemption {
    /// The partner that the points were spent at.
    pub partner: PartnerId,
    /// The redemption.
    pub original: Original,
    /// How many; positive.
    pub points: Points,
    /// When it happened; `None`: now.
    pub occurred_at: Option<Timestamp>,
    /// The till's words.
    pub context: Context,
}

/// Undo a request whole, known only by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reverse {
    /// The partner that made the request.
    pub partner: PartnerId,
    /// What the request asked for: [`Kind::Earn`] or [`Kind::Redeem`].
    pub kind: Kind,
    /// The request's id, in the partner's scope or that of the reversal's own request: an operator
    /// may undo what a till of the partner asked for. See [`Reverse::names`].
    pub original_request: Uuid,
    /// When it happened; `None`: now.
    pub occurred_at: Option<Timestamp>,
    /// The till's words.
    pub context: Context,
}

impl Reverse {
    /// The names that the request may have, in the order in which they are looked for; `scope` is
    /// that of the reversal's own request.
    #[must_use]
    pub fn names(&self, scope: Uuid) -> Vec<RequestKey> {
        let id = self.original_request;
        let mut scopes = vec![self.partner.uuid(), scope];
        scopes.dedup();
        let name = |scope| RequestKey { id, scope };
        scopes.into_iter().map(name).collect()
    }
}

/// Record funds that a partner paid in or took out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fund {
    /// The partner.
    pub partner: PartnerId,
    /// Whether it takes out.
    pub withdrawal: bool,
    /// How much; positive.
    pub amount: Minor,
    /// Its currency.
    pub currency: Currency,
    /// The bank's reference.
    pub bank_reference: String,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Enrol a member.
    Enroll(Enroll),
    /// Earn points for a check.
    Earn(Earn),
    /// Return goods.
    ReturnEarn(ReturnEarn),
    /// Spend points.
    Redeem(Redeem),
    /// Give spent points back.
    RefundRedemption(RefundRedemption),
    /// Undo a request whole.
    Reverse(Reverse),
    /// Record funds.
    Fund(Fund),
    /// Post what time has done to a member's lots.
    Sweep(MemberId),
}

/// One thing to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Whose request it is; `None` for the network's own sweep.
    pub request: Option<(RequestKey, Fingerprint)>,
    /// What is to be done.
    pub action: Action,
}

/// What the commands of a batch will draw from a member's lots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Draws {
    /// How many commands draw.
    pub count: usize,
    /// How many points all together; beyond the range of points, as many as there can be.
    pub points: Points,
}

impl Draws {
    /// Counts a command more, which draws so many points.
    pub fn add(&mut self, points: Points) {
        self.count = self.count.saturating_add(1);
        let points = points.max(Points::ZERO);
        self.points = self.points.plus(points).unwrap_or(Points::new(i64::MAX));
    }
}

/// What a batch of commands needs to know before it can be decided: the keys to fetch by.
///
/// Members whom only an original names are found through it; see [`crate::snapshot::Snapshot`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// The commands' own requests.
    pub requests: BTreeSet<RequestKey>,
    /// Requests that returns, refunds and reversals name.
    pub original_requests: BTreeSet<RequestKey>,
    /// The commands' own checks.
    pub checks: BTreeSet<CheckKey>,
    /// Checks that returns and refunds name.
    pub original_checks: BTreeSet<CheckKey>,
    /// Identifiers to link.
    pub identifiers: BTreeSet<IdentifierHash>,
    /// Transactions that returns and refunds name.
    pub transactions: BTreeSet<TransactionId>,
    /// Members, with what commands will draw from their lots.
    pub members: BTreeMap<MemberId, Draws>,
    /// Partners whose funds move, with the currency's code.
    pub positions: BTreeSet<(PartnerId, &'static str)>,
    /// Partners that earn or redeem: their own limits may bind.
    pub partners: BTreeSet<PartnerId>,
}

impl Keys {
    /// The keys of these commands.
    #[must_use]
    pub fn of<'a>(commands: impl IntoIterator<Item = &'a Command>) -> Self {
        let mut keys = Self::default();
        for command in commands {
            let scope = command.request.map_or(Uuid::nil(), |(key, _)| key.scope);
            keys.requests.extend(command.request.map(|(key, _)| key));
            match &command.action {
                Action::Enroll(enroll) => {
                    keys.identifiers
                        .extend(enroll.identifiers.iter().map(|i| i.hash));
                }
                Action::Earn(earn) => {
                    keys.partners.insert(earn.partner);
                    keys.check(earn.partner, Kind::Earn, &earn.context);
                    keys.members.entry(earn.member).or_default();
                }
                Action::ReturnEarn(ret) => {
                    keys.check(ret.partner, Kind::ReturnEarn, &ret.context);
                    keys.original(ret.partner, Kind::Earn, &ret.original, scope);
                }
                Action::Redeem(redeem) => {
                    keys.check(redeem.partner, Kind::Redeem, &redeem.context);
                    let draws = keys.members.entry(redeem.member).or_default();
                    draws.add(redeem.points);
                }
                Action::RefundRedemption(refund) => {
                    keys.check(refund.partner, Kind::RefundRedemption, &refund.context);
                    keys.original(refund.partner, Kind::Redeem, &refund.original, scope);
                }
                Action::Reverse(reverse) => {
                    keys.original_requests.extend(reverse.names(scope));
                }
                Action::Fund(fund) => {
                    keys.positions.insert((fund.partner, fund.currency.code()));
                }
                Action::Sweep(member) => {
                    keys.members.entry(*member).or_default();
                }
            }
        }
        keys
    }

    /// What commands will draw from this member's lots.
    #[must_use]
    pub fn draws(&self, member: MemberId) -> Draws {
        self.members.get(&member).copied().unwrap_or_default()
    }

    fn check(&mut self, partner: PartnerId, kind: Kind, context: &Context) {
        let key = |check_id: &String| CheckKey {
            partner,
            kind,
            check_id: check_id.clone(),
        };
        self.checks.extend(context.check_id.as_ref().map(key));
    }

    fn original(&mut self, partner: PartnerId, kind: Kind, original: &Original, scope: Uuid) {
        match original {
            Original::Transaction(id) => {
                self.transactions.insert(*id);
            }
            Original::Check(check_id) => {
                self.original_checks.insert(CheckKey {
                    partner,
                    kind,
                    check_id: check_id.clone(),
                });
            }
            Original::Request(id) => {
                self.original_requests.insert(RequestKey { id: *id, scope });
            }
        }
    }
}
