//! Books that tests write: small, and each with its own ids.

use std::sync::Mutex;

use coalition_ledger::account::{Account, Capacity, LegRef, LotRef, Posting, Transfer};
use coalition_ledger::agreement::{ReturnPolicy, Terms, settle_at_issue};
use coalition_ledger::command::{CheckKey, NewIdentifier, RequestKey};
use coalition_ledger::ids::{
    AgreementId, IdMint, LotId, MemberId, PartnerId, Party, TransactionId, WindowId,
};
use coalition_ledger::member::{Balance, Lot, MemberBook, Totals, Upcoming};
use coalition_ledger::money::{Currency, Minor, Points, Unit as Counted};
use coalition_ledger::rulebook::PartnerStatus;
use coalition_ledger::snapshot::{
    CheckRecord, IdentifierRecord, Measure, RequestRecord, Subject, TotalKey,
};
use coalition_ledger::time::{MICROS_PER_DAY, Timestamp};
use coalition_ledger::transaction::{Channel, Context, Decline, Kind, Open, Transaction};
use coalition_store::model::{AgreementRow, AgreementState, PartnerRow, Side};
use coalition_store::testing::{Parts as _, START, TestDb};
use coalition_store::{Frame, StoreError, Unit, WindowLock};
use rust_decimal::Decimal;
use uuid::Uuid;

/// All ids of a test process come from one mint: they ascend.
static MINT: Mutex<Option<IdMint>> = Mutex::new(None);

pub(crate) fn id() -> Uuid {
    let mut mint = MINT.lock().expect("no test panics while it mints");
    mint.get_or_insert_with(|| IdMint::new(*b"confor"))
        .mint(START)
}

pub(crate) fn member_id() -> MemberId {
    MemberId::from_uuid(id())
}

pub(crate) fn partner_id() -> PartnerId {
    PartnerId::from_uuid(id())
}

pub(crate) fn transaction_id() -> TransactionId {
    TransactionId::from_uuid(id())
}

/// So many days after the start.
pub(crate) const fn day(days: i64) -> Timestamp {
    START.saturating_add_micros(days * MICROS_PER_DAY)
}

pub(crate) fn points(count: i64) -> Points {
    Points::new(count)
}

/// A unit of a batch.
pub(crate) async fn unit(db: &TestDb) -> Box<dyn Unit> {
    begin(db).await.0
}

/// A unit of a batch, and what it stands in.
pub(crate) async fn begin(db: &TestDb) -> (Box<dyn Unit>, Frame) {
    db.store
        .begin(WindowLock::Shared)
        .await
        .expect("a unit begins")
}

/// Commits.
pub(crate) async fn commit(unit: Box<dyn Unit>) {
    unit.commit().await.expect("the unit commits");
}

#[track_caller]
#[expect(
    clippy::needless_pass_by_value,
    reason = "an outcome is looked at once"
)]
pub(crate) fn assert_conflict<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
    assert!(matches!(outcome, Err(StoreError::Conflict)), "{outcome:?}");
}

/// A member as enrolled, with some points.
pub(crate) fn member(available: i64) -> MemberBook {
    let mut book = MemberBook::new(member_id());
    book.totals = Totals {
        available: points(available),
        ..Totals::default()
    };
    if available > 0 {
        book.next_expiry = Some(Upcoming {
            at: day(365),
            points: points(available),
        });
    }
    book
}

/// Stores a member as it is.
pub(crate) async fn enrolled(db: &TestDb, available: i64) -> MemberBook {
    let book = member(available);
    let mut unit = unit(db).await;
    unit.insert_members(std::slice::from_ref(&book), START)
        .await
        .expect("enrols");
    commit(unit).await;
    book
}

/// A member's row as a unit finds it.
pub(crate) async fn fetched(db: &TestDb, id: MemberId) -> MemberBook {
    let mut unit = unit(db).await;
    let found = unit.members(&[id]).await.expect("is found");
    unit.rollback().await.expect("rolls back");
    found.into_iter().next().expect("is there")
}

pub(crate) fn request(scope: Uuid) -> RequestRecord {
    RequestRecord {
        key: RequestKey { id: id(), scope },
        fingerprint: *id().as_bytes(),
        subject: Subject::Transaction,
        subject_id: id(),
        member: Some(member_id()),
    }
}

pub(crate) fn check(partner: PartnerId, check_id: &str) -> CheckRecord {
    CheckRecord {
        key: CheckKey {
            partner,
            kind: Kind::Earn,
            check_id: check_id.to_owned(),
        },
        transaction: transaction_id(),
        member: member_id(),
    }
}

pub(crate) fn identifier(member: MemberId, text: &str) -> IdentifierRecord {
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(id().as_bytes());
    let identifier = NewIdentifier {
        hash,
        kind: 2,
        masked: text.to_owned(),
    };
    IdentifierRecord { member, identifier }
}

/// A lot with available points that expires on a day.
pub(crate) fn lot(available: i64, expires_on: i64) -> Lot {
    Lot {
        id: LotId::from_uuid(id()),
        issuer: partner_id().into(),
        agreement: AgreementId::from_uuid(id()),
        earned_at: START,
        pending_until: START,
        expires_at: day(expires_on),
        points: points(available),
        pending: Points::ZERO,
        available: points(available),
        held: Points::ZERO,
        expired: Points::ZERO,
    }
}

/// A transaction without a posting.
pub(crate) fn decline(member: MemberId, partner: PartnerId, window: WindowId) -> Transaction {
    Transaction {
        id: transaction_id(),
        kind: Kind::Redeem,
        declined: Some(Decline::InsufficientPoints),
        member: Some(member),
        partner: partner.into(),
        original: None,
        context: Context::default(),
        occurred_at: START,
        posted_at: START,
        window,
        points: points(500),
        points_forgiven: Points::ZERO,
        points_expired: Points::ZERO,
        amount: None,
        agreement: None,
        balance: Balance::default(),
        posting: Posting::default(),
        open: Open::default(),
    }
}

/// An earn of 120 points at one partner, with everything that a transaction can say.
pub(crate) fn earn(member: MemberId, partner: PartnerId, window: WindowId) -> Transaction {
    let agreement = Some(AgreementId::from_uuid(id()));
    let issuer = Party::Partner(partner);
    let lot = LotRef {
        id: LotId::from_uuid(id()),
        expires_at: day(365),
    };
    let points_moved = Transfer {
        debit: Account::Issued(issuer),
        credit: Account::Available(member, issuer),
        amount: 120,
        unit: Counted::Points,
        lot: Some(lot),
        agreement,
        leg: None,
    };
    let money_moved = Transfer {
        debit: Account::Position(issuer, Capacity::Issuer),
        credit: Account::Position(Party::Operator, Capacity::Operator),
        amount: 1_200_000,
        unit: Counted::Money(Currency::EUR),
        leg: Some(LegRef {
            index: 0,
            reversal: false,
        }),
        ..points_moved
    };
    Transaction {
        id: transaction_id(),
        kind: Kind::Earn,
        declined: None,
        member: Some(member),
        partner: issuer,
        original: Some(transaction_id()),
        context: Context {
            check_id: Some("A-1207".to_owned()),
            location: Some("köln-süd".to_owned()),
            terminal: Some("till 3".to_owned()),
            operator_ref: Some("anna".to_owned()),
            shift_ref: Some("late".to_owned()),
            business_date: Some("2026-01-01".to_owned()),
            channel: Some(Channel::Delivery),
            offline: true,
        },
        occurred_at: START.saturating_add_micros(-1),
        posted_at: START,
        window,
        points: points(120),
        points_forgiven: points(3),
        points_expired: points(4),
        amount: Some((Minor::new(12_000), Currency::EUR)),
        agreement,
        balance: Balance {
            totals: Totals {
                pending: points(1),
                available: points(2),
                held: points(3),
                debt: points(4),
            },
            next_expiry: Some(Upcoming {
                at: day(30),
                points: points(2),
            }),
        },
        posting: Posting {
            transfers: vec![points_moved, money_moved],
        },
        open: Open {
            points: points(120),
            amount: Minor::new(12_000),
            reversed_by: None,
        },
    }
}

pub(crate) fn issued(party: Party) -> TotalKey {
    TotalKey {
        measure: Measure::Issued,
        party,
        counterparty: party,
        unit: Counted::Points,
    }
}

pub(crate) fn partner(code: &str) -> PartnerRow {
    PartnerRow {
        id: partner_id(),
        code: code.to_owned(),
        display_name: format!("The {code}"),
        kind: 3,
        status: PartnerStatus::Active,
        created_at: START,
    }
}

pub(crate) fn terms() -> Terms {
    Terms {
        currency: Currency::EUR,
        points_per_unit: Decimal::new(15, 1),
        lot_lifetime_days: 365,
        pending_days: 0,
        return_policy: ReturnPolicy::default(),
        include_tax: false,
        include_tip: false,
        include_gift_cards: false,
        funders: Vec::new(),
        limit: None,
        net_inbound: false,
        alert_below_points: None,
        legs: settle_at_issue(Decimal::new(1, 2), Decimal::new(9, 3)),
    }
}

pub(crate) fn agreement(partner: PartnerId, version: i32) -> AgreementRow {
    AgreementRow {
        id: AgreementId::from_uuid(id()),
        partner,
        counterparty: None,
        version,
        state: AgreementState::Proposed,
        proposed_by: Side::Operator,
        proposer: "maker".to_owned(),
        proposed_at: START,
        accepter: None,
        counterparty_accepter: None,
        counterparty_accepted_at: None,
        accepted_at: None,
        effective_at: Some(day(1)),
        terms: terms(),
    }
}
