//! Where everything is decided.
//!
//! [`apply`] takes the commands of a batch in order, on one evolving snapshot: each sees what the
//! ones before it left, so that the second redemption of a member sees what the first took, and the
//! second charge on an issuer sees the headroom that the first used. A decision is a straight line
//! of early returns in documented precedence, idempotency first; a plan that survives them is
//! booked whole by [`books`], or not at all.
//!
//! Precedence, for every command: the request's own id (replay, reuse, undone before arrival), the
//! partner, the member or the original, the check's number, the member's status, the time, the
//! agreement, the amounts, the balance, the limits. `tests/precedence.rs` holds it as a table.

mod books;
mod earn;
mod enroll;
mod fund;
mod redeem;
mod refund;
mod return_earn;
mod reverse;
mod sweep;

use std::sync::Arc;

use crate::command::{Action, Command, Fingerprint, RequestKey};
use crate::decision::{Decision, Refusal, Shortage};
use crate::ids::{IdMint, PartnerId, TransactionId, WindowId};
use crate::member::{MemberBook, MemberStatus};
use crate::money::OutOfRange;
use crate::rulebook::{PartnerStatus, Rulebook};
use crate::snapshot::{Effects, Snapshot, Subject};
use crate::time::Timestamp;
use crate::transaction::{Decline, Open, Transaction};
use crate::view::{NoQuote, occurred_at};

pub(crate) use books::position_changes;
pub use books::totals_of;
use books::{Books, Plan};
pub(crate) use earn::{basis, points_for, shares};

/// When and where a batch is decided.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The network's time: what expiry, windows and agreements go by.
    pub now: Timestamp,
    /// The system's time: what ids are minted from.
    pub minted_at: Timestamp,
    /// The open window.
    pub window: WindowId,
    /// How old a check may be when it arrives, in microseconds.
    pub store_and_forward_micros: i64,
}

/// What a batch comes to.
#[derive(Clone, Debug)]
pub struct Batch {
    /// One decision per command, in order.
    pub decisions: Vec<Decision>,
    /// What to write before any of them is told.
    pub effects: Effects,
}

/// Decides `commands` in order.
///
/// # Errors
///
/// [`Shortage`] where the snapshot lacks something that a decision turned out to need.
pub fn apply(
    rulebook: &Rulebook,
    snapshot: Snapshot,
    commands: &[Command],
    setting: &Setting,
    mint: &mut IdMint,
) -> Result<Batch, Shortage> {
    let mut books = Books::new(rulebook, snapshot, setting, mint);
    let mut decisions = Vec::with_capacity(commands.len());
    for command in commands {
        decisions.push(match decide(&mut books, command) {
            Ok(decision) => decision,
            Err(Stop::Refused(refusal)) => Decision::Refused(refusal),
            Err(Stop::Declined(no)) => books.decline(command, &no),
            Err(Stop::Short(shortage)) => return Err(shortage),
        });
    }
    Ok(Batch {
        decisions,
        effects: books.into_effects(),
    })
}

/// Why a command is not posted.
#[derive(Debug)]
enum Stop {
    Refused(Refusal),
    Declined(Box<No>),
    Short(Shortage),
}

/// A decline, with what its record tells.
#[derive(Debug)]
struct No {
    reason: Decline,
    /// The transaction that stands in the way, or that was to be undone.
    original: Option<TransactionId>,
    /// The member behind the original, where the command itself names none.
    member: Option<crate::ids::MemberId>,
    /// What remained of the original, where that is why.
    open: Open,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<OutOfRange> for Stop {
    fn from(_: OutOfRange) -> Self {
        Self::Refused(Refusal::OutOfRange)
    }
}

impl From<NoQuote> for Stop {
    fn from(no: NoQuote) -> Self {
        match no {
            NoQuote::Refused(refusal) => refusal.into(),
            NoQuote::Declined(decline) => decline.into(),
        }
    }
}

impl From<Shortage> for Stop {
    fn from(shortage: Shortage) -> Self {
        Self::Short(shortage)
    }
}

impl From<Decline> for Stop {
    fn from(reason: Decline) -> Self {
        Self::Declined(Box::new(No {
            reason,
            original: None,
            member: None,
            open: Open::default(),
        }))
    }
}

impl Stop {
    /// The same, on behalf of the member behind `original`.
    fn on_behalf_of(self, original: &Transaction) -> Self {
        match self {
            Self::Declined(no) => Self::Declined(Box::new(No {
                member: original.member,
                ..*no
            })),
            other => other,
        }
    }
}

/// A decline because of, or about, an earlier transaction.
fn declined(reason: Decline, original: &Transaction) -> Stop {
    let open = Open {
        reversed_by: None,
        ..original.open
    };
    Stop::Declined(Box::new(No {
        reason,
        original: Some(original.id),
        member: original.member,
        open,
    }))
}

fn decide(books: &mut Books<'_>, command: &Command) -> Result<Decision, Stop> {
    if let Some((key, fingerprint)) = &command.request
        && let Some(earlier) = replay(books, key, fingerprint)?
    {
        return Ok(earlier);
    }
    let plan = match &command.action {
        Action::Enroll(enroll) => return enroll::decide(books, command, enroll),
        Action::Sweep(member) => return sweep::decide(books, *member),
        Action::Reverse(reverse) => return reverse::decide(books, command, reverse),
        Action::Earn(earn) => earn::plan(books, earn)?,
        Action::ReturnEarn(ret) => return_earn::plan(books, command, ret)?,
        Action::Redeem(redeem) => redeem::plan(books, redeem)?,
        Action::RefundRedemption(refund) => refund::plan(books, command, refund)?,
        Action::Fund(fund) => fund::plan(books, fund)?,
    };
    post(books, command, plan)
}

/// Books a plan and remembers the request.
fn post(books: &mut Books<'_>, command: &Command, plan: Plan) -> Result<Decision, Stop> {
    let transaction = books.book(plan)?;
    books.remember(
        command,
        Subject::Transaction,
        transaction.id.uuid(),
        transaction.member,
    );
    Ok(Decision::Recorded {
        transaction,
        replayed: false,
    })
}

/// The answer that this request was given before, if it was.
fn replay(
    books: &Books<'_>,
    key: &RequestKey,
    fingerprint: &Fingerprint,
) -> Result<Option<Decision>, Stop> {
    let Some(record) = books.snapshot.requests.get(key) else {
        return Ok(None);
    };
    if record.subject == Subject::Tombstone {
        let by = TransactionId::from_uuid(record.subject_id);
        return Err(Refusal::ReversedBeforeArrival { by }.into());
    }
    if record.fingerprint != *fingerprint {
        return Err(Refusal::RequestIdReused.into());
    }
    match (record.subject, record.member) {
        (Subject::Transaction, _) => {
            let transaction = books.transaction(TransactionId::from_uuid(record.subject_id))?;
            let transaction = Arc::new(transaction.clone());
            Ok(Some(Decision::Recorded {
                transaction,
                replayed: true,
            }))
        }
        (Subject::Member, Some(member)) => Ok(Some(Decision::Enrolled {
            member,
            replayed: true,
        })),
        _ => Err(Refusal::RequestIdReused.into()),
    }
}

/// Checks that the partner is in the network and trades.
fn trading(books: &Books<'_>, partner: PartnerId) -> Result<(), Stop> {
    match books.rulebook.partner(partner).map(|found| found.status) {
        None => Err(Refusal::UnknownPartner(partner).into()),
        Some(PartnerStatus::Suspended) => Err(Decline::PartnerSuspended.into()),
        Some(PartnerStatus::Active) => Ok(()),
    }
}

/// Checks that the member may earn and spend.
fn active(book: &MemberBook) -> Result<(), Stop> {
    match book.status {
        MemberStatus::Active => Ok(()),
        MemberStatus::Frozen => Err(Decline::MemberFrozen.into()),
        MemberStatus::Closed => Err(Decline::MemberClosed.into()),
    }
}

/// When it happened, if the network takes the shop's word for it.
fn occurred(books: &Books<'_>, said: Option<Timestamp>) -> Result<Timestamp, Stop> {
    let Setting {
        now,
        store_and_forward_micros: oldest,
        ..
    } = *books.setting;
    Ok(occurred_at(said, now, oldest)?)
}
