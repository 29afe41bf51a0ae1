//! Rows that a batch reads and writes: requests, checks, members, transactions, lots, totals,
//! positions.
//!
//! Functions called `…_key` and `…_row` give the cells to look up by or to write, functions called
//! `read_…` read the select list of the same name in `statements`.

use coalition_ledger::command::{CheckKey, Fingerprint, IdentifierHash, NewIdentifier, RequestKey};
use coalition_ledger::ids::{AgreementId, LotId, MemberId, Party, TransactionId, WindowId};
use coalition_ledger::member::{Balance, Known, Lot, MemberBook, Totals, Upcoming};
use coalition_ledger::money::{Currency, Micros, Minor, Points, Unit};
use coalition_ledger::snapshot::{
    CheckRecord, DebtRecord, Floor, IdentifierRecord, MemberChange, OpenChange, Position,
    PositionChange, RequestRecord, TotalKey,
};
use coalition_ledger::time::Timestamp;
use coalition_ledger::transaction::{Context, Open, Transaction};
use uuid::Uuid;

use super::digest::DigestInput;
use super::posting::{self, Base};
use super::{Cell, Coded, Columns, cells};
use crate::error::StoreError;
use crate::model::ScannedLot;

/// Columns of `transactions` that never change: the first ones of a row to write.
const IMMUTABLE_COLUMNS: usize = 31;
/// Columns of `transactions`.
const TRANSACTION_COLUMNS: usize = 35;

pub(crate) fn request_key(key: &RequestKey) -> [Cell; 2] {
    cells![key.id, key.scope]
}

pub(crate) fn request_row(record: &RequestRecord) -> [Cell; 6] {
    cells![
        record.key.id,
        record.key.scope,
        record.subject_id,
        record.member.map(MemberId::uuid),
        record.subject.number(),
        record.fingerprint.to_vec(),
    ]
}

pub(crate) fn read_request(columns: &mut Columns<'_>) -> Result<RequestRecord, StoreError> {
    Ok(RequestRecord {
        key: RequestKey {
            id: columns.uuid()?,
            scope: columns.uuid()?,
        },
        subject_id: columns.uuid()?,
        member: columns.maybe_uuid()?.map(MemberId::from_uuid),
        subject: columns.coded()?,
        fingerprint: columns.array::<{ size_of::<Fingerprint>() }>()?,
    })
}

pub(crate) fn check_key(key: &CheckKey) -> [Cell; 3] {
    cells![key.partner.uuid(), key.kind.number(), key.check_id.as_str()]
}

pub(crate) fn check_row(record: &CheckRecord) -> [Cell; 5] {
    let [partner, kind, check_id] = check_key(&record.key);
    [
        partner,
        kind,
        check_id,
        record.transaction.uuid().into(),
        record.member.uuid().into(),
    ]
}

pub(crate) fn read_check(columns: &mut Columns<'_>) -> Result<CheckRecord, StoreError> {
    let partner = coalition_ledger::ids::PartnerId::from_uuid(columns.uuid()?);
    let key = CheckKey {
        partner,
        kind: columns.coded()?,
        check_id: columns.text()?,
    };
    let transaction = TransactionId::from_uuid(columns.uuid()?);
    Ok(CheckRecord {
        key,
        transaction,
        member: MemberId::from_uuid(columns.uuid()?),
    })
}

pub(crate) fn identifier_key(hash: &IdentifierHash) -> [Cell; 1] {
    cells![hash.to_vec()]
}

pub(crate) fn identifier_row(record: &IdentifierRecord) -> [Cell; 4] {
    let identifier = &record.identifier;
    cells![
        identifier.hash.to_vec(),
        record.member.uuid(),
        identifier.kind,
        identifier.masked.as_str(),
    ]
}

pub(crate) fn read_identifier(columns: &mut Columns<'_>) -> Result<IdentifierRecord, StoreError> {
    let hash = columns.array::<{ size_of::<IdentifierHash>() }>()?;
    let member = MemberId::from_uuid(columns.uuid()?);
    let identifier = NewIdentifier {
        hash,
        kind: columns.small()?,
        masked: columns.text()?,
    };
    Ok(IdentifierRecord { member, identifier })
}

/// A member's row, with the end of its chain of transactions.
pub(crate) struct StoredMember {
    /// The row; `lots` and `debts` are empty, and known to be.
    pub(crate) book: MemberBook,
    /// The member's last transaction.
    pub(crate) last: Option<TransactionId>,
}

fn member_sums(book: &MemberBook) -> [Cell; 9] {
    let (totals, expiry) = (&book.totals, book.next_expiry);
    cells![
        totals.pending.get(),
        totals.available.get(),
        totals.held.get(),
        totals.debt.get(),
        expiry.map(|upcoming| upcoming.at),
        expiry.map(|upcoming| upcoming.points.get()),
        book.next_maturity,
        book.due_at(),
        book.status.number(),
    ]
}

pub(crate) fn member_row(book: &MemberBook, now: Timestamp) -> [Cell; 12] {
    let [
        pending,
        available,
        held,
        debt,
        at,
        points,
        maturity,
        due,
        status,
    ] = member_sums(book);
    let id = Cell::from(book.id.uuid());
    let version = Cell::from(book.version);
    [
        id,
        version,
        pending,
        available,
        held,
        debt,
        at,
        points,
        maturity,
        due,
        now.into(),
        status,
    ]
}

/// The member's row as it shall be, after its key, the expected version and the end of its chain
/// (`None`: as it is).
pub(crate) fn member_change(change: &MemberChange, last: Option<TransactionId>) -> [Cell; 12] {
    let [
        pending,
        available,
        held,
        debt,
        at,
        points,
        maturity,
        due,
        status,
    ] = member_sums(&change.book);
    let [id, version, last] = tail_row(change.book.id, change.expected_version, last);
    [
        id, version, last, pending, available, held, debt, at, points, maturity, due, status,
    ]
}

/// The end of a member's chain of transactions, after its key and the expected version.
pub(crate) fn tail_row(
    member: MemberId,
    expected_version: i64,
    last: Option<TransactionId>,
) -> [Cell; 3] {
    cells![
        member.uuid(),
        expected_version,
        last.map(TransactionId::uuid)
    ]
}

pub(crate) fn read_member(columns: &mut Columns<'_>) -> Result<StoredMember, StoreError> {
    let id = MemberId::from_uuid(columns.uuid()?);
    let last = columns.maybe_uuid()?.map(TransactionId::from_uuid);
    let version = columns.big()?;
    let totals = read_sums(columns)?;
    let next_expiry = read_upcoming(columns)?;
    let next_maturity = columns.maybe_instant()?;
    let status = columns.coded()?;
    let book = MemberBook {
        version,
        status,
        totals,
        next_expiry,
        next_maturity,
        known: Known::Nothing,
        ..MemberBook::new(id)
    };
    Ok(StoredMember { book, last })
}

/// Pending, available, held, debt; none where null.
fn read_sums(columns: &mut Columns<'_>) -> Result<Totals, StoreError> {
    Ok(Totals {
        pending: read_points(columns)?,
        available: read_points(columns)?,
        held: read_points(columns)?,
        debt: read_points(columns)?,
    })
}

fn read_points(columns: &mut Columns<'_>) -> Result<Points, StoreError> {
    Ok(Points::new(columns.maybe_big()?.unwrap_or(0)))
}

fn read_upcoming(columns: &mut Columns<'_>) -> Result<Option<Upcoming>, StoreError> {
    match (columns.maybe_instant()?, columns.maybe_big()?) {
        (Some(at), Some(points)) => Ok(Some(Upcoming {
            at,
            points: Points::new(points),
        })),
        (None, None) => Ok(None),
        _ => Err(StoreError::Damaged(
            "an expiry without points, or points without one".into(),
        )),
    }
}

pub(crate) fn read_member_id(columns: &mut Columns<'_>) -> Result<MemberId, StoreError> {
    columns.uuid().map(MemberId::from_uuid)
}

/// An id that may be missing in the row.
pub(crate) fn read_maybe_id(columns: &mut Columns<'_>) -> Result<Option<Uuid>, StoreError> {
    columns.maybe_uuid()
}

pub(crate) fn read_count(columns: &mut Columns<'_>) -> Result<i64, StoreError> {
    columns.big()
}

pub(crate) fn read_holding(columns: &mut Columns<'_>) -> Result<(Party, Totals), StoreError> {
    Ok((columns.party()?, read_sums(columns)?))
}

/// A transaction as stored.
pub(crate) struct StoredTransaction {
    /// The transaction.
    pub(crate) transaction: Transaction,
    /// Whether the row still is what was written: known in a scan alone.
    pub(crate) is_intact: Option<bool>,
}

pub(crate) fn transaction_row(
    transaction: &Transaction,
    previous: Option<TransactionId>,
) -> Result<[Cell; TRANSACTION_COLUMNS], StoreError> {
    let cells = immutable_cells(transaction, previous)?;
    let digest = DigestInput::of(&cells).digest().to_vec();
    let [points, amount] = open_cells(transaction);
    let reversed_by = transaction.open.reversed_by.map(TransactionId::uuid);
    let rest = [Cell::Bytes(digest), points, amount, reversed_by.into()];
    let mut all = cells.into_iter().chain(rest);
    // 31 and 4 cells make 35: none is missing.
    Ok(std::array::from_fn(|_| all.next().unwrap_or(Cell::Null)))
}

/// What remains of a transaction, null where that is all of it.
fn open_cells(transaction: &Transaction) -> [Cell; 2] {
    let open = &transaction.open;
    let amount = transaction.amount.map_or(Minor::ZERO, |(amount, _)| amount);
    cells![
        (open.points != transaction.points).then_some(open.points.get()),
        (open.amount != amount).then_some(open.amount.get()),
    ]
}

fn base(transaction: &Transaction) -> Base {
    Base {
        id: transaction.id.uuid(),
        member: transaction.member.map_or(Uuid::nil(), MemberId::uuid),
        partner: transaction.partner.uuid(),
        agreement: transaction.agreement.map_or(Uuid::nil(), AgreementId::uuid),
        posted_at: transaction.posted_at,
    }
}

fn immutable_cells(
    transaction: &Transaction,
    previous: Option<TransactionId>,
) -> Result<[Cell; IMMUTABLE_COLUMNS], StoreError> {
    let (base, context) = (base(transaction), &transaction.context);
    let (totals, expiry) = (&transaction.balance.totals, transaction.balance.next_expiry);
    let occurred_at = transaction.occurred_at;
    Ok(cells![
        base.id,
        base.member,
        base.partner,
        transaction.window.uuid(),
        transaction.agreement.map(AgreementId::uuid),
        transaction.original.map(TransactionId::uuid),
        previous.map(TransactionId::uuid),
        transaction.posted_at,
        (occurred_at != transaction.posted_at).then_some(occurred_at),
        transaction.points.get(),
        Cell::unless_zero(transaction.points_forgiven.get()),
        Cell::unless_zero(transaction.points_expired.get()),
        transaction.amount.map(|(amount, _)| amount.get()),
        Cell::unless_zero(totals.pending.get()),
        Cell::unless_zero(totals.available.get()),
        Cell::unless_zero(totals.held.get()),
        Cell::unless_zero(totals.debt.get()),
        expiry.map(|upcoming| upcoming.at),
        expiry.map(|upcoming| upcoming.points.get()),
        transaction.kind.number(),
        transaction.declined.map(Coded::number),
        context.channel.map(Coded::number),
        context.offline.then_some(true),
        transaction.amount.map(|(_, currency)| currency.code()),
        context.check_id.as_deref(),
        context.location.as_deref(),
        context.terminal.as_deref(),
        context.operator_ref.as_deref(),
        context.shift_ref.as_deref(),
        context.business_date.as_deref(),
        posting::encode(&transaction.posting, &base)?,
    ])
}

pub(crate) fn read_transaction(columns: &mut Columns<'_>) -> Result<Transaction, StoreError> {
    let id = read_transaction_id(columns)?;
    Ok(read_rest(id, columns)?.transaction)
}

pub(crate) fn read_transaction_id(columns: &mut Columns<'_>) -> Result<TransactionId, StoreError> {
    columns.uuid().map(TransactionId::from_uuid)
}

/// A transaction in a scan: its id, and what it says unless that cannot be read.
pub(crate) fn read_scanned_transaction(
    columns: &mut Columns<'_>,
) -> Result<(TransactionId, Option<StoredTransaction>), StoreError> {
    columns.gather();
    let id = read_transaction_id(columns)?;
    match read_rest(id, columns) {
        Ok(stored) => Ok((id, Some(stored))),
        Err(StoreError::Damaged(_)) => Ok((id, None)),
        Err(error) => Err(error),
    }
}

fn read_rest(
    id: TransactionId,
    columns: &mut Columns<'_>,
) -> Result<StoredTransaction, StoreError> {
    let member = Some(columns.uuid()?)
        .filter(|id| !id.is_nil())
        .map(MemberId::from_uuid);
    let partner = columns.party()?;
    let window = WindowId::from_uuid(columns.uuid()?);
    let agreement = columns.maybe_uuid()?.map(AgreementId::from_uuid);
    let original = columns.maybe_uuid()?.map(TransactionId::from_uuid);
    // The member's transaction before it: for the chain alone.
    columns.maybe_uuid()?;
    let posted_at = columns.instant()?;
    let occurred_at = columns.maybe_instant()?.unwrap_or(posted_at);
    let points = Points::new(columns.big()?);
    let points_forgiven = read_points(columns)?;
    let points_expired = read_points(columns)?;
    let amount = columns.maybe_big()?.map(Minor::new);
    let balance = Balance {
        totals: read_sums(columns)?,
        next_expiry: read_upcoming(columns)?,
    };
    let kind = columns.coded()?;
    let declined = columns.maybe_coded()?;
    let channel = columns.maybe_coded()?;
    let offline = columns.maybe_boolean()?.unwrap_or(false);
    let currency = columns
        .maybe_text()?
        .map(|code| super::currency(&code))
        .transpose()?;
    let context = Context {
        check_id: columns.maybe_text()?,
        location: columns.maybe_text()?,
        terminal: columns.maybe_text()?,
        operator_ref: columns.maybe_text()?,
        shift_ref: columns.maybe_text()?,
        business_date: columns.maybe_text()?,
        channel,
        offline,
    };
    let posting = columns.maybe_bytes()?;
    let digest = columns.digest();
    let written = columns.bytes()?;
    let is_intact = digest.map(|digest| written == digest);
    let amount = amount.zip(currency);
    let open = read_open(columns, points, amount)?;
    let mut transaction = Transaction {
        id,
        kind,
        declined,
        member,
        partner,
        original,
        context,
        occurred_at,
        posted_at,
        window,
        points,
        points_forgiven,
        points_expired,
        amount,
        agreement,
        balance,
        posting: coalition_ledger::account::Posting::default(),
        open,
    };
    transaction.posting = posting::decode(posting.as_deref(), &base(&transaction))?;
    Ok(StoredTransaction {
        transaction,
        is_intact,
    })
}

fn read_open(
    columns: &mut Columns<'_>,
    points: Points,
    amount: Option<(Minor, Currency)>,
) -> Result<Open, StoreError> {
    Ok(Open {
        points: columns.maybe_big()?.map_or(points, Points::new),
        amount: columns.maybe_big()?.map_or_else(
            || amount.map_or(Minor::ZERO, |(amount, _)| amount),
            Minor::new,
        ),
        reversed_by: columns.maybe_uuid()?.map(TransactionId::from_uuid),
    })
}

pub(crate) fn open_change(change: &OpenChange) -> [Cell; 5] {
    cells![
        change.transaction.uuid(),
        change.member.uuid(),
        change.open.points.get(),
        change.open.amount.get(),
        change.open.reversed_by.map(TransactionId::uuid),
    ]
}

pub(crate) fn lot_key((lot, member): &(LotId, MemberId)) -> [Cell; 2] {
    cells![lot.uuid(), member.uuid()]
}

fn lot_points(lot: &Lot) -> [Cell; 5] {
    cells![
        lot.points.get(),
        lot.available.get(),
        Cell::unless_zero(lot.pending.get()),
        Cell::unless_zero(lot.held.get()),
        Cell::unless_zero(lot.expired.get()),
    ]
}

pub(crate) fn lot_row((member, lot): &(MemberId, Lot)) -> [Cell; 12] {
    let [points, available, pending, held, expired] = lot_points(lot);
    cells![
        lot.id.uuid(),
        member.uuid(),
        lot.issuer.uuid(),
        lot.agreement.uuid(),
        lot.earned_at,
        (lot.pending_until != lot.earned_at).then_some(lot.pending_until),
        lot.expires_at,
        points,
        available,
        pending,
        held,
        expired,
    ]
}

pub(crate) fn lot_change((member, lot): &(MemberId, Lot)) -> [Cell; 7] {
    let [points, available, pending, held, expired] = lot_points(lot);
    cells![
        lot.id.uuid(),
        member.uuid(),
        points,
        available,
        pending,
        held,
        expired
    ]
}

pub(crate) fn read_lot(columns: &mut Columns<'_>) -> Result<(MemberId, Lot), StoreError> {
    let id = LotId::from_uuid(columns.uuid()?);
    let member = MemberId::from_uuid(columns.uuid()?);
    let issuer = columns.party()?;
    let agreement = AgreementId::from_uuid(columns.uuid()?);
    let earned_at = columns.instant()?;
    let lot = Lot {
        id,
        issuer,
        agreement,
        earned_at,
        pending_until: columns.maybe_instant()?.unwrap_or(earned_at),
        expires_at: columns.instant()?,
        points: read_points(columns)?,
        available: read_points(columns)?,
        pending: read_points(columns)?,
        held: read_points(columns)?,
        expired: read_points(columns)?,
    };
    Ok((member, lot))
}

pub(crate) fn read_scanned_lot(columns: &mut Columns<'_>) -> Result<ScannedLot, StoreError> {
    let (member, lot) = read_lot(columns)?;
    Ok(ScannedLot { member, lot })
}

pub(crate) fn debt_row(record: &DebtRecord) -> [Cell; 3] {
    cells![
        record.member.uuid(),
        record.issuer.uuid(),
        record.points.get()
    ]
}

pub(crate) fn read_debt(columns: &mut Columns<'_>) -> Result<DebtRecord, StoreError> {
    let member = MemberId::from_uuid(columns.uuid()?);
    Ok(DebtRecord {
        member,
        issuer: columns.party()?,
        points: Points::new(columns.big()?),
    })
}

pub(crate) fn total_row(window: WindowId, key: &TotalKey, amount: i64) -> [Cell; 6] {
    cells![
        window.uuid(),
        key.measure.number(),
        key.party.uuid(),
        key.counterparty.uuid(),
        key.unit.code(),
        amount,
    ]
}

pub(crate) fn read_total(columns: &mut Columns<'_>) -> Result<(TotalKey, i64), StoreError> {
    let key = TotalKey {
        measure: columns.coded()?,
        party: columns.party()?,
        counterparty: columns.party()?,
        unit: columns.unit()?,
    };
    Ok((key, columns.big()?))
}

pub(crate) fn read_window_total(
    columns: &mut Columns<'_>,
) -> Result<(WindowId, TotalKey, i64), StoreError> {
    let window = WindowId::from_uuid(columns.uuid()?);
    let (key, amount) = read_total(columns)?;
    Ok((window, key, amount))
}

pub(crate) fn position_key((party, currency): &(Party, Currency)) -> [Cell; 2] {
    cells![party.uuid(), currency.code()]
}

pub(crate) fn position_change(change: &PositionChange) -> [Cell; 9] {
    let [party, currency] = position_key(&(change.party, change.currency));
    let (sums, floor) = (&change.change, change.floor);
    let limit = floor.map(|Floor { limit, .. }| limit.get());
    let at_least = floor.map(|Floor { at_least, .. }| at_least.get());
    [
        party,
        currency,
        sums.debits.get().into(),
        sums.credits.get().into(),
        sums.funds.get().into(),
        sums.reserved.get().into(),
        limit.into(),
        floor.map(|Floor { net_inbound, .. }| net_inbound).into(),
        at_least.into(),
    ]
}

pub(crate) fn read_position_key(
    columns: &mut Columns<'_>,
) -> Result<(Party, Currency), StoreError> {
    Ok((columns.party()?, columns.currency()?))
}

pub(crate) fn read_position(
    columns: &mut Columns<'_>,
) -> Result<((Party, Currency), Position), StoreError> {
    let key = read_position_key(columns)?;
    let position = Position {
        debits: Micros::new(columns.big()?),
        credits: Micros::new(columns.big()?),
        funds: Micros::new(columns.big()?),
        reserved: Micros::new(columns.big()?),
    };
    Ok((key, position))
}

/// The order of a window's totals: that of their keys.
pub(crate) fn sort_totals(totals: &mut [(TotalKey, i64)]) {
    totals.sort_by_key(|(key, _)| *key);
}

/// The order of positions: party, then the currency's code.
pub(crate) fn sort_positions(positions: &mut [((Party, Currency), Position)]) {
    positions.sort_by_key(|((party, currency), _)| (*party, Unit::Money(*currency)));
}
