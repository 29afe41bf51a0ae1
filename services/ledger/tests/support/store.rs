//! A store in memory: rows in maps, fetched and written as a real store does it.
//!
//! It gives as little as it may ([`Thrift`]), so that decisions run into shortages, and refuses to
//! write what a real store refuses: a key that exists, a row that does not, a version that moved
//! on, a figure below zero, a position below its floor.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use coalition_ledger::audit::{Auditor, Finding};
use coalition_ledger::command::{CheckKey, IdentifierHash, Keys, RequestKey};
use coalition_ledger::decision::Shortage;
use coalition_ledger::ids::{LotId, MemberId, Party, TransactionId, WindowId};
use coalition_ledger::member::{Known, Lot, MemberBook};
use coalition_ledger::money::{Currency, Points};
use coalition_ledger::snapshot::{
    CheckRecord, DebtRecord, Effects, Position, PositionChange, RequestRecord, Snapshot, Subject,
    TotalKey,
};
use coalition_ledger::time::Timestamp;
use coalition_ledger::transaction::Transaction;
use uuid::Uuid;

/// How many of a member's spendable lots a first fetch gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thrift {
    /// At most this many, and only where lots are sure to be needed.
    Few(usize),
    /// Always all of everybody's.
    All,
}

/// What an attempt at deciding a batch found missing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    lots: BTreeSet<MemberId>,
    positions: BTreeSet<(Party, Currency)>,
}

impl Wanted {
    /// Asks for more; the same thing is never missing twice.
    pub(crate) fn add(&mut self, shortage: Shortage) {
        let new = match shortage {
            Shortage::Lots(member) => self.lots.insert(member),
            Shortage::Position(party, currency) => self.positions.insert((party, currency)),
        };
        assert!(new, "it was fetched and is still missing: {shortage:?}");
    }
}

/// Something else was written in between, or the effects do not fit the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict(pub(crate) &'static str);

/// All rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MemoryStore {
    pub(crate) requests: BTreeMap<RequestKey, RequestRecord>,
    pub(crate) checks: BTreeMap<CheckKey, CheckRecord>,
    pub(crate) identifiers: BTreeMap<IdentifierHash, MemberId>,
    pub(crate) transactions: BTreeMap<TransactionId, Transaction>,
    /// Members' rows, without lots and debts.
    pub(crate) members: BTreeMap<MemberId, MemberBook>,
    pub(crate) lots: BTreeMap<LotId, (MemberId, Lot)>,
    pub(crate) debts: BTreeMap<(MemberId, Party), Points>,
    pub(crate) totals: BTreeMap<(WindowId, TotalKey), i64>,
    pub(crate) positions: BTreeMap<(Party, Currency), Position>,
}

impl MemoryStore {
    /// What a batch with these keys starts from.
    pub(crate) fn snapshot(
        &self,
        keys: &Keys,
        now: Timestamp,
        thrift: Thrift,
        wanted: &Wanted,
    ) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let originals = self.fetch_records(keys, &mut snapshot);
        let mut members: BTreeSet<MemberId> = keys.members.keys().copied().collect();
        members.extend(originals.iter().filter_map(|original| original.member));
        for id in members {
            let Some(row) = self.members.get(&id) else {
                continue;
            };
            let own: Vec<&Transaction> = originals
                .iter()
                .copied()
                .filter(|original| original.member == Some(id))
                .collect();
            let draws = keys.draws(id).count > 0;
            let limit = match thrift {
                Thrift::All => Some(usize::MAX),
                _ if wanted.lots.contains(&id) => Some(usize::MAX),
                Thrift::Few(0) => None,
                Thrift::Few(count) if draws || row.is_due(now) || !own.is_empty() => Some(count),
                Thrift::Few(_) => None,
            };
            snapshot.members.insert(id, self.book(row, limit, &own));
        }
        for key in &wanted.positions {
            snapshot
                .positions
                .insert(*key, self.positions.get(key).copied().unwrap_or_default());
        }
        snapshot
    }

    /// Requests, checks, identifiers and the transactions that they lead to; those that a command
    /// may undo.
    fn fetch_records(&self, keys: &Keys, snapshot: &mut Snapshot) -> Vec<&Transaction> {
        let mut ids = keys.transactions.clone();
        let mut replays = BTreeSet::new();
        for key in keys.requests.union(&keys.original_requests) {
            let Some(record) = self.requests.get(key) else {
                continue;
            };
            snapshot.requests.insert(*key, *record);
            if matches!(record.subject, Subject::Transaction | Subject::Tombstone) {
                let named = keys.original_requests.contains(key);
                let list = if named { &mut ids } else { &mut replays };
                list.insert(TransactionId::from_uuid(record.subject_id));
            }
        }
        for key in keys.checks.union(&keys.original_checks) {
            let Some(record) = self.checks.get(key) else {
                continue;
            };
            snapshot.checks.insert(key.clone(), record.clone());
            if keys.original_checks.contains(key) {
                ids.insert(record.transaction);
            }
        }
        for hash in &keys.identifiers {
            let found = self.identifiers.get(hash);
            snapshot
                .identifiers
                .extend(found.map(|member| (*hash, *member)));
        }
        let originals: Vec<&Transaction> = ids
            .iter()
            .filter_map(|id| self.transactions.get(id))
            .collect();
        let undone = originals
            .iter()
            .filter_map(|original| original.open.reversed_by);
        for id in undone.chain(replays).chain(ids.iter().copied()) {
            let found = self.transactions.get(&id);
            snapshot
                .transactions
                .extend(found.map(|found| (id, found.clone())));
        }
        originals
    }

    /// A member's book with the first `limit` of the spendable lots, and those of the originals.
    fn book(
        &self,
        row: &MemberBook,
        limit: Option<usize>,
        originals: &[&Transaction],
    ) -> MemberBook {
        let mut book = row.clone();
        let own = || {
            self.lots
                .values()
                .filter(|(holder, _)| *holder == row.id)
                .map(|(_, lot)| lot)
        };
        book.known = Known::Nothing;
        if let Some(limit) = limit {
            let waiting = own().filter(|lot| lot.pending.is_positive() || lot.held.is_positive());
            book.lots.extend(waiting.map(|lot| (lot.id, *lot)));
            let mut spendable: Vec<&Lot> =
                own().filter(|lot| lot.available.is_positive()).collect();
            spendable.sort_by_key(|lot| (lot.expires_at, lot.id));
            book.known = match spendable.get(..limit).and_then(<[_]>::last) {
                Some(last) => Known::UpTo(last.expires_at, last.id),
                None => Known::All,
            };
            book.lots
                .extend(spendable.into_iter().take(limit).map(|lot| (lot.id, *lot)));
        }
        for slice in originals
            .iter()
            .flat_map(|t| t.issued().into_iter().chain(t.spent()))
        {
            let found = self.lots.get(&slice.lot.id);
            book.lots.extend(found.map(|(_, lot)| (lot.id, *lot)));
        }
        let owed = self
            .debts
            .iter()
            .filter(|((holder, _), _)| *holder == row.id);
        book.debts = owed
            .map(|((_, issuer), points)| (*issuer, *points))
            .collect();
        book
    }

    /// Writes a batch whole, or nothing of it.
    pub(crate) fn write(&mut self, effects: &Effects, window: WindowId) -> Result<(), Conflict> {
        let mut after = self.clone();
        after.write_records(effects)?;
        after.write_members(effects)?;
        for (key, amount) in &effects.totals {
            let sum = after.totals.entry((window, *key)).or_default();
            *sum = sum
                .checked_add(*amount)
                .ok_or(Conflict("a total out of range"))?;
        }
        for change in &effects.positions {
            after.move_position(change)?;
        }
        *self = after;
        Ok(())
    }

    fn write_records(&mut self, effects: &Effects) -> Result<(), Conflict> {
        for record in &effects.requests {
            insert(&mut self.requests, record.key, *record, "a request exists")?;
        }
        for key in &effects.released_checks {
            self.checks
                .remove(key)
                .ok_or(Conflict("a released check does not exist"))?;
        }
        for record in &effects.checks {
            insert(
                &mut self.checks,
                record.key.clone(),
                record.clone(),
                "a check exists",
            )?;
        }
        for record in &effects.identifiers {
            let hash = record.identifier.hash;
            insert(
                &mut self.identifiers,
                hash,
                record.member,
                "an identifier exists",
            )?;
        }
        for transaction in &effects.transactions {
            let row = transaction.clone();
            insert(&mut self.transactions, row.id, row, "a transaction exists")?;
        }
        for change in &effects.opens {
            let row = self.transactions.get_mut(&change.transaction);
            row.ok_or(Conflict("an original does not exist"))?.open = change.open;
        }
        Ok(())
    }

    fn write_members(&mut self, effects: &Effects) -> Result<(), Conflict> {
        for book in &effects.new_members {
            insert(&mut self.members, book.id, row_of(book), "a member exists")?;
        }
        for change in &effects.members {
            let row = self
                .members
                .get_mut(&change.book.id)
                .ok_or(Conflict("no such member"))?;
            if row.version != change.expected_version {
                return Err(Conflict("a member's version moved on"));
            }
            *row = MemberBook {
                version: row.version + 1,
                ..row_of(&change.book)
            };
        }
        for (member, lot) in &effects.new_lots {
            insert(&mut self.lots, lot.id, (*member, *lot), "a lot exists")?;
        }
        for (member, lot) in &effects.lots {
            let (holder, row) = self.lots.get_mut(&lot.id).ok_or(Conflict("no such lot"))?;
            assert_eq!(holder, member, "a lot changed hands");
            *row = *lot;
        }
        for (_, lot) in effects.new_lots.iter().chain(&effects.lots) {
            let sums = [
                lot.points,
                lot.pending,
                lot.available,
                lot.held,
                lot.expired,
            ];
            if sums.into_iter().any(Points::is_negative) {
                return Err(Conflict("a lot below zero"));
            }
        }
        for DebtRecord {
            member,
            issuer,
            points,
        } in &effects.debts
        {
            if points.is_negative() {
                return Err(Conflict("a debt below zero"));
            }
            self.debts.insert((*member, *issuer), *points);
        }
        Ok(())
    }

    fn move_position(&mut self, moved: &PositionChange) -> Result<(), Conflict> {
        let row = self
            .positions
            .entry((moved.party, moved.currency))
            .or_default();
        *row = row
            .plus(&moved.change)
            .map_err(|_| Conflict("a position out of range"))?;
        if let Some(floor) = moved.floor {
            let left = row.headroom(floor.limit, floor.net_inbound);
            if left.is_ok_and(|left| left < floor.at_least) {
                return Err(Conflict("a position below its floor"));
            }
        }
        Ok(())
    }

    /// All positions.
    pub(crate) fn all_positions(&self) -> Vec<((Party, Currency), Position)> {
        self.positions
            .iter()
            .map(|(key, position)| (*key, *position))
            .collect()
    }

    /// A window's totals.
    pub(crate) fn totals_of(&self, window: WindowId) -> Vec<(TotalKey, i64)> {
        let own = self
            .totals
            .iter()
            .filter(|((found, _), _)| *found == window);
        own.map(|((_, key), amount)| (*key, *amount)).collect()
    }

    /// A member's book with all lots and debts.
    pub(crate) fn whole_book(&self, id: MemberId) -> MemberBook {
        let own = self.lots.values().filter(|(holder, _)| *holder == id);
        let debts = self.debts.iter().filter(|((holder, _), _)| *holder == id);
        MemberBook {
            lots: own.map(|(_, lot)| (lot.id, *lot)).collect(),
            debts: debts
                .map(|((_, issuer), points)| (*issuer, *points))
                .collect(),
            known: Known::All,
            ..self.members[&id].clone()
        }
    }

    /// What an audit of all rows finds.
    pub(crate) fn audit(&self) -> Vec<Finding> {
        let [weighing, mut auditor] = [Auditor::weighing(*b"16 random bytes."), Auditor::naming()]
            .map(|mut auditor| {
                self.transactions
                    .values()
                    .for_each(|transaction| auditor.transaction(transaction));
                self.lots.values().for_each(|(_, lot)| auditor.lot(lot));
                auditor
            });
        let agree = auditor.disputed_lots().is_empty();
        assert_eq!(weighing.lots_agree(), agree, "weighed and named");
        for disputed in auditor.disputed_lots() {
            if let Some((_, lot)) = self.lots.get(&disputed) {
                auditor.disputed_lot(lot);
            }
        }
        self.members.values().for_each(|book| auditor.member(book));
        let debts = self
            .debts
            .iter()
            .map(|((member, issuer), points)| DebtRecord {
                member: *member,
                issuer: *issuer,
                points: *points,
            });
        auditor.debts(&debts.collect::<Vec<_>>());
        let windows: BTreeSet<WindowId> = self.totals.keys().map(|(window, _)| *window).collect();
        for window in windows {
            auditor.window(window, &self.totals_of(window));
        }
        auditor.positions(&self.all_positions());
        auditor.finish();
        auditor.findings()
    }

    /// The same rows with transactions and lots numbered in the order of their making, and without
    /// versions and sums of zero: what two ways to the same books must agree on.
    pub(crate) fn renumbered(&self) -> Self {
        let transactions: BTreeMap<TransactionId, TransactionId> = self
            .transactions
            .keys()
            .copied()
            .zip(numbers().map(TransactionId::from_uuid))
            .collect();
        let lots: BTreeMap<LotId, LotId> = self
            .lots
            .keys()
            .copied()
            .zip(numbers().map(LotId::from_uuid))
            .collect();
        let mut copy = self.clone();
        for record in copy.requests.values_mut() {
            let id = transactions.get(&TransactionId::from_uuid(record.subject_id));
            record.subject_id = id.map_or(record.subject_id, |id| id.uuid());
        }
        for record in copy.checks.values_mut() {
            record.transaction = transactions[&record.transaction];
        }
        copy.transactions = self
            .transactions
            .values()
            .map(|transaction| renumber(transaction.clone(), &transactions, &lots))
            .map(|transaction| (transaction.id, transaction))
            .collect();
        copy.lots = self
            .lots
            .iter()
            .map(|(id, (member, lot))| {
                (
                    lots[id],
                    (
                        *member,
                        Lot {
                            id: lots[id],
                            ..*lot
                        },
                    ),
                )
            })
            .collect();
        copy.members.values_mut().for_each(|book| book.version = 0);
        copy.totals.retain(|_, amount| *amount != 0);
        copy.debts.retain(|_, points| !points.is_zero());
        copy.positions
            .retain(|_, position| *position != Position::default());
        copy
    }
}

/// Asserts that two stores hold the same rows, and names the rows that differ.
#[track_caller]
pub(crate) fn assert_same_rows(left: &MemoryStore, right: &MemoryStore) {
    same("requests", &left.requests, &right.requests);
    same("checks", &left.checks, &right.checks);
    same("identifiers", &left.identifiers, &right.identifiers);
    same("transactions", &left.transactions, &right.transactions);
    same("members", &left.members, &right.members);
    same("lots", &left.lots, &right.lots);
    same("debts", &left.debts, &right.debts);
    same("totals", &left.totals, &right.totals);
    same("positions", &left.positions, &right.positions);
}

#[track_caller]
fn same<K: Ord + Debug, V: PartialEq + Debug>(
    table: &str,
    left: &BTreeMap<K, V>,
    right: &BTreeMap<K, V>,
) {
    let keys: BTreeSet<&K> = left.keys().chain(right.keys()).collect();
    for key in keys {
        assert_eq!(left.get(key), right.get(key), "{key:?} in {table}");
    }
}

fn numbers() -> impl Iterator<Item = Uuid> {
    (1..).map(Uuid::from_u128)
}

fn renumber(
    mut transaction: Transaction,
    transactions: &BTreeMap<TransactionId, TransactionId>,
    lots: &BTreeMap<LotId, LotId>,
) -> Transaction {
    transaction.id = transactions[&transaction.id];
    transaction.original = transaction.original.map(|id| transactions[&id]);
    transaction.open.reversed_by = transaction.open.reversed_by.map(|id| transactions[&id]);
    for lot in transaction
        .posting
        .transfers
        .iter_mut()
        .filter_map(|t| t.lot.as_mut())
    {
        lot.id = lots[&lot.id];
    }
    transaction
}

/// A member's row: the book without what is stored elsewhere.
fn row_of(book: &MemberBook) -> MemberBook {
    MemberBook {
        lots: BTreeMap::new(),
        debts: BTreeMap::new(),
        known: Known::Nothing,
        ..book.clone()
    }
}

fn insert<K: Ord, V>(
    rows: &mut BTreeMap<K, V>,
    key: K,
    row: V,
    otherwise: &'static str,
) -> Result<(), Conflict> {
    if rows.insert(key, row).is_some() {
        Err(Conflict(otherwise))
    } else {
        Ok(())
    }
}
