//! The evolving state of a batch, and the one way in which a posting enters it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use super::{No, Setting, Stop};
use crate::account::{Account, LotRef, Posting, Transfer};
use crate::command::{Action, CheckKey, Command, Original, RequestKey};
use crate::decision::{Decision, Refusal, Shortage};
use crate::ids::{IdMint, LotId, MemberId, PartnerId, Party, TransactionId};
use crate::member::{Known, Lot, MemberBook, Upcoming};
use crate::money::{Currency, Micros, Minor, OutOfRange, Points, Unit};
use crate::rulebook::Rulebook;
use crate::snapshot::{
    CheckRecord, DebtRecord, Effects, Floor, IdentifierRecord, Measure, MemberChange, OpenChange,
    Position, PositionChange, RequestRecord, Snapshot, Subject, TotalKey,
};
use crate::time::Timestamp;
use crate::transaction::{Context, Decline, Kind, Open, Transaction};

/// What a command would do, before anything is done.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) kind: Kind,
    pub(super) partner: Party,
    pub(super) member: Option<MemberId>,
    pub(super) context: Context,
    pub(super) occurred_at: Timestamp,
    pub(super) points: Points,
    pub(super) points_forgiven: Points,
    pub(super) points_expired: Points,
    pub(super) amount: Option<(Minor, Currency)>,
    pub(super) agreement: Option<crate::ids::AgreementId>,
    pub(super) transfers: Vec<Transfer>,
    pub(super) open: Open,
    /// Lots that the transfers fill; they start empty.
    pub(super) new_lots: Vec<Lot>,
    /// The transaction that this one undoes, with what remains of it.
    pub(super) original: Option<(TransactionId, Open)>,
    /// Whether the issuers' limits bind.
    pub(super) limited: bool,
    /// Whether the check's number, if it has one, is used up.
    pub(super) uses_check: bool,
}

impl Plan {
    pub(super) fn new(kind: Kind, partner: impl Into<Party>, occurred_at: Timestamp) -> Self {
        Self {
            kind,
            partner: partner.into(),
            member: None,
            context: Context::default(),
            occurred_at,
            points: Points::ZERO,
            points_forgiven: Points::ZERO,
            points_expired: Points::ZERO,
            amount: None,
            agreement: None,
            transfers: Vec::new(),
            open: Open::default(),
            new_lots: Vec::new(),
            original: None,
            limited: false,
            uses_check: true,
        }
    }
}

/// A transfer of points into or out of a lot.
pub(super) fn points(debit: Account, credit: Account, amount: Points, lot: &Lot) -> Transfer {
    Transfer {
        debit,
        credit,
        amount: amount.get(),
        unit: Unit::Points,
        lot: Some(LotRef {
            id: lot.id,
            expires_at: lot.expires_at,
        }),
        agreement: Some(lot.agreement),
        leg: None,
    }
}

/// What a posting adds to its window's totals: one row per transfer that counts, and one for the
/// posting itself. `partner` is the transaction's.
pub fn totals_of(posting: &Posting, partner: Party) -> Result<Vec<(TotalKey, i64)>, OutOfRange> {
    let mut rows = Vec::with_capacity(posting.transfers.len().saturating_add(1));
    for transfer in &posting.transfers {
        let amount = transfer.amount;
        let (measure, party, counterparty, amount) = match (transfer.debit, transfer.credit) {
            (Account::Position(from, _), Account::Position(to, _)) => {
                if transfer.leg.is_some_and(|leg| leg.reversal) {
                    (
                        Measure::Flow,
                        to,
                        from,
                        amount.checked_neg().ok_or(OutOfRange)?,
                    )
                } else {
                    (Measure::Flow, from, to, amount)
                }
            }
            (Account::Issued(issuer), _) => (Measure::Issued, issuer, partner, amount),
            (_, Account::Issued(issuer)) => (Measure::ClawedBack, issuer, partner, amount),
            (_, Account::Redeemed(issuer)) => (Measure::Redeemed, issuer, partner, amount),
            (Account::Redeemed(issuer), _) => (Measure::Refunded, issuer, partner, amount),
            (_, Account::Expired(issuer)) => (Measure::Expired, issuer, issuer, amount),
            (Account::Operator, Account::Funds(party)) => (Measure::Funded, party, party, amount),
            (Account::Funds(party), Account::Operator) => (
                Measure::Funded,
                party,
                party,
                amount.checked_neg().ok_or(OutOfRange)?,
            ),
            _ => continue,
        };
        rows.push((
            TotalKey {
                measure,
                party,
                counterparty,
                unit: transfer.unit,
            },
            amount,
        ));
    }
    let operator = Party::Operator;
    let (measure, unit) = (Measure::Postings, Unit::Points);
    rows.push((
        TotalKey {
            measure,
            party: operator,
            counterparty: operator,
            unit,
        },
        1,
    ));
    Ok(rows)
}

/// Positions, each with what moves it.
type Moves = Vec<((Party, Currency), Position)>;

/// How a transfer of money moves the positions of its two sides.
///
/// A reversal takes back what the leg charged and gave; it is no payment in the other direction.
pub(crate) fn position_changes(transfer: &Transfer) -> Result<Moves, OutOfRange> {
    let Unit::Money(currency) = transfer.unit else {
        return Ok(Vec::new());
    };
    let amount = Micros::new(transfer.amount);
    let none = Position::default();
    Ok(match (transfer.debit, transfer.credit) {
        (Account::Position(from, _), Account::Position(to, _)) => {
            let (payer, payee, amount) = if transfer.leg.is_some_and(|leg| leg.reversal) {
                (to, from, amount.negated()?)
            } else {
                (from, to, amount)
            };
            vec![
                (
                    (payer, currency),
                    Position {
                        debits: amount,
                        ..none
                    },
                ),
                (
                    (payee, currency),
                    Position {
                        credits: amount,
                        ..none
                    },
                ),
            ]
        }
        (Account::Operator, Account::Funds(party)) => {
            vec![(
                (party, currency),
                Position {
                    funds: amount,
                    ..none
                },
            )]
        }
        (Account::Funds(party), Account::Operator) => {
            vec![(
                (party, currency),
                Position {
                    funds: amount.negated()?,
                    ..none
                },
            )]
        }
        _ => Vec::new(),
    })
}

/// The order in which positions are written: by party, then by currency code.
type PositionKey = (Party, &'static str);

/// A position that moves: the batch's change so far, and the position itself if it is known.
type PositionAfter = (PositionKey, Currency, Position, Option<Position>);

/// The evolving state of a batch.
pub(super) struct Books<'a> {
    pub(super) rulebook: &'a Rulebook,
    pub(super) snapshot: Snapshot,
    pub(super) setting: &'a Setting,
    mint: &'a mut IdMint,
    effects: Effects,
    new_members: BTreeSet<MemberId>,
    new_lots: BTreeSet<LotId>,
    changed_lots: BTreeMap<LotId, MemberId>,
    changed_debts: BTreeSet<(MemberId, Party)>,
    changed_members: BTreeMap<MemberId, i64>,
    new_transactions: HashMap<TransactionId, usize>,
    changed_opens: BTreeSet<TransactionId>,
    totals: BTreeMap<TotalKey, i64>,
    positions: BTreeMap<PositionKey, (Currency, Position)>,
    limited: BTreeMap<PositionKey, (Micros, bool)>,
}

impl<'a> Books<'a> {
    pub(super) fn new(
        rulebook: &'a Rulebook,
        snapshot: Snapshot,
        setting: &'a Setting,
        mint: &'a mut IdMint,
    ) -> Self {
        Self {
            rulebook,
            snapshot,
            setting,
            mint,
            effects: Effects::default(),
            new_members: BTreeSet::new(),
            new_lots: BTreeSet::new(),
            changed_lots: BTreeMap::new(),
            changed_debts: BTreeSet::new(),
            changed_members: BTreeMap::new(),
            new_transactions: HashMap::new(),
            changed_opens: BTreeSet::new(),
            totals: BTreeMap::new(),
            positions: BTreeMap::new(),
            limited: BTreeMap::new(),
        }
    }

    /// A new id.
    pub(super) fn mint(&mut self) -> Uuid {
        self.mint.mint(self.setting.minted_at)
    }

    /// The member's book, after what time has done to it is posted.
    pub(super) fn member(&mut self, id: MemberId) -> Result<&MemberBook, Stop> {
        let book = self
            .snapshot
            .members
            .get(&id)
            .ok_or(Refusal::UnknownMember)?;
        if book.is_due(self.setting.now) {
            super::sweep::settle(self, id)?;
        }
        self.snapshot
            .members
            .get(&id)
            .ok_or(Refusal::UnknownMember.into())
    }

    /// A transaction of this batch or of an earlier one.
    pub(super) fn transaction(&self, id: TransactionId) -> Result<&Transaction, Refusal> {
        self.snapshot
            .transactions
            .get(&id)
            .ok_or(Refusal::UnknownOriginal)
    }

    /// The transaction of `kind` that `original` names, if it is this partner's.
    pub(super) fn original(
        &self,
        command: &Command,
        partner: PartnerId,
        kind: Kind,
        original: &Original,
    ) -> Result<&Transaction, Stop> {
        let id = match original {
            Original::Transaction(id) => Some(*id),
            Original::Check(check_id) => {
                let key = CheckKey {
                    partner,
                    kind,
                    check_id: check_id.clone(),
                };
                self.snapshot
                    .checks
                    .get(&key)
                    .map(|record| record.transaction)
            }
            Original::Request(id) => {
                let scope = command.request.map_or(Uuid::nil(), |(key, _)| key.scope);
                let record = self.snapshot.requests.get(&RequestKey { id: *id, scope });
                record
                    .filter(|record| record.subject == Subject::Transaction)
                    .map(|record| TransactionId::from_uuid(record.subject_id))
            }
        };
        let found = self.transaction(id.ok_or(Refusal::UnknownOriginal)?)?;
        if found.partner != partner.into() {
            return Err(Refusal::UnknownOriginal.into());
        }
        if found.kind != kind {
            return Err(Refusal::WrongKind.into());
        }
        if found.declined.is_some() {
            return Err(super::declined(Decline::OriginalWasDeclined, found));
        }
        Ok(found)
    }

    /// Declines a check that was used before.
    pub(super) fn fresh_check(
        &self,
        partner: PartnerId,
        kind: Kind,
        context: &Context,
        reason: Decline,
    ) -> Result<(), Stop> {
        let Some(check_id) = &context.check_id else {
            return Ok(());
        };
        let key = CheckKey {
            partner,
            kind,
            check_id: check_id.clone(),
        };
        match self.snapshot.checks.get(&key) {
            None => Ok(()),
            Some(first) => Err(Stop::Declined(Box::new(No {
                reason,
                original: Some(first.transaction),
                member: None,
                open: Open::default(),
            }))),
        }
    }

    /// Books a plan whole, or nothing of it: everything that can fail comes first.
    pub(super) fn book(&mut self, plan: Plan) -> Result<Arc<Transaction>, Stop> {
        let posting = Posting {
            transfers: plan.transfers,
        };
        let totals = self.totals_after(&posting, plan.partner)?;
        let positions = self.positions_after(&posting)?;
        let issuers = if plan.limited {
            self.check_limits(&posting)?
        } else {
            BTreeMap::new()
        };
        let member = match plan.member {
            Some(id) => Some(self.member_after(id, &posting, &plan.new_lots)?),
            None => None,
        };

        let balance = member
            .as_ref()
            .map(|after| after.book.balance())
            .unwrap_or_default();
        let transaction = Transaction {
            id: TransactionId::from_uuid(self.mint()),
            kind: plan.kind,
            declined: None,
            member: plan.member,
            partner: plan.partner,
            original: plan.original.map(|(id, _)| id),
            context: plan.context,
            occurred_at: plan.occurred_at,
            posted_at: self.setting.now,
            window: self.setting.window,
            points: plan.points,
            points_forgiven: plan.points_forgiven,
            points_expired: plan.points_expired,
            amount: plan.amount,
            agreement: plan.agreement,
            balance,
            posting,
            open: plan.open,
        };
        self.totals.extend(totals);
        for (key, currency, change, loaded) in positions {
            self.positions.insert(key, (currency, change));
            #[cfg(feature = "testing")]
            let loaded = loaded.filter(|_| !crate::planted::forgets_headroom());
            if let Some(loaded) = loaded {
                self.snapshot.positions.insert((key.0, currency), loaded);
            }
        }
        self.limited.extend(issuers);
        if let Some(after) = member {
            self.keep(after);
        }
        if let Some((id, open)) = plan.original {
            self.reopen(id, open);
        }
        if plan.uses_check {
            self.use_check(&transaction);
        }
        Ok(self.record(transaction))
    }

    /// Records a decline and remembers the request.
    pub(super) fn decline(&mut self, command: &Command, no: &No) -> Decision {
        let (kind, partner, member, context, occurred_at, points) = outline(&command.action);
        let member = member
            .or(no.member)
            .filter(|id| self.snapshot.members.contains_key(id));
        let book = member.and_then(|id| self.snapshot.members.get(&id));
        let balance = book.map(MemberBook::balance).unwrap_or_default();
        // No sum changes, but the member's history does: the row that guards it is written.
        if let Some(book) = book
            && !self.new_members.contains(&book.id)
        {
            self.changed_members.entry(book.id).or_insert(book.version);
        }
        let transaction = Transaction {
            id: TransactionId::from_uuid(self.mint()),
            kind,
            declined: Some(no.reason),
            member,
            partner,
            original: no.original,
            context,
            occurred_at: occurred_at.unwrap_or(self.setting.now),
            posted_at: self.setting.now,
            window: self.setting.window,
            points,
            points_forgiven: Points::ZERO,
            points_expired: Points::ZERO,
            amount: None,
            agreement: None,
            balance,
            posting: Posting::default(),
            open: no.open,
        };
        self.remember(command, Subject::Transaction, transaction.id.uuid(), member);
        Decision::Recorded {
            transaction: self.record(transaction),
            replayed: false,
        }
    }

    /// Remembers what the command's request led to.
    pub(super) fn remember(
        &mut self,
        command: &Command,
        subject: Subject,
        subject_id: Uuid,
        member: Option<MemberId>,
    ) {
        if let Some((key, fingerprint)) = command.request {
            self.remember_as(RequestRecord {
                key,
                fingerprint,
                subject,
                subject_id,
                member,
            });
        }
    }

    pub(super) fn remember_as(&mut self, record: RequestRecord) {
        self.snapshot.requests.insert(record.key, record);
        self.effects.requests.push(record);
    }

    /// Frees the check that a transaction used: it was undone by reference.
    pub(super) fn release_check(&mut self, transaction: TransactionId) {
        let Ok(found) = self.transaction(transaction) else {
            return;
        };
        let Some(key) = check_key(found) else {
            return;
        };
        self.snapshot.checks.remove(&key);
        let used_in_this_batch = self
            .effects
            .checks
            .iter()
            .position(|record| record.key == key);
        match used_in_this_batch {
            Some(place) => drop(self.effects.checks.remove(place)),
            None => self.effects.released_checks.push(key),
        }
    }

    /// Adds a member who has just enrolled.
    pub(super) fn enroll(&mut self, member: MemberId, identifiers: Vec<IdentifierRecord>) {
        self.snapshot
            .members
            .insert(member, MemberBook::new(member));
        self.new_members.insert(member);
        for record in &identifiers {
            self.snapshot
                .identifiers
                .insert(record.identifier.hash, member);
        }
        self.effects.identifiers.extend(identifiers);
    }

    /// Changes what remains of a transaction.
    pub(super) fn reopen(&mut self, id: TransactionId, open: Open) {
        if let Some(transaction) = self.snapshot.transactions.get_mut(&id) {
            transaction.open = open;
            if !self.new_transactions.contains_key(&id) {
                self.changed_opens.insert(id);
            }
        }
    }

    fn use_check(&mut self, transaction: &Transaction) {
        if let (Some(key), Some(member)) = (check_key(transaction), transaction.member) {
            let record = CheckRecord {
                key: key.clone(),
                transaction: transaction.id,
                member,
            };
            self.snapshot.checks.insert(key, record.clone());
            self.effects.checks.push(record);
        }
    }

    fn record(&mut self, transaction: Transaction) -> Arc<Transaction> {
        let place = self.new_transactions.len();
        self.new_transactions.insert(transaction.id, place);
        self.snapshot
            .transactions
            .insert(transaction.id, transaction.clone());
        Arc::new(transaction)
    }

    fn totals_after(
        &self,
        posting: &Posting,
        partner: Party,
    ) -> Result<BTreeMap<TotalKey, i64>, OutOfRange> {
        let mut after = BTreeMap::new();
        for (key, amount) in totals_of(posting, partner)? {
            let now = self.totals.get(&key).copied().unwrap_or_default();
            let sum: &mut i64 = after.entry(key).or_insert(now);
            *sum = sum.checked_add(amount).ok_or(OutOfRange)?;
        }
        Ok(after)
    }

    /// Per position that moves: the batch's change so far, and the position itself if it is known.
    fn positions_after(&self, posting: &Posting) -> Result<Vec<PositionAfter>, OutOfRange> {
        let mut after: BTreeMap<PositionKey, (Currency, Position)> = BTreeMap::new();
        for transfer in &posting.transfers {
            for ((party, currency), change) in position_changes(transfer)? {
                let (_, sum) = after
                    .entry((party, currency.code()))
                    .or_insert((currency, Position::default()));
                *sum = sum.plus(&change)?;
            }
        }
        let mut rows = Vec::with_capacity(after.len());
        for (key, (currency, change)) in after {
            let so_far = self
                .positions
                .get(&key)
                .map(|(_, sum)| *sum)
                .unwrap_or_default();
            let known = self.snapshot.positions.get(&(key.0, currency));
            let known = known.map(|position| position.plus(&change)).transpose()?;
            rows.push((key, currency, so_far.plus(&change)?, known));
        }
        Ok(rows)
    }

    /// Refuses what would take an issuer below zero headroom; the limits that were looked at.
    fn check_limits(
        &self,
        posting: &Posting,
    ) -> Result<BTreeMap<PositionKey, (Micros, bool)>, Stop> {
        let mut looked_at = BTreeMap::new();
        for (key, currency, _, known) in self.positions_after(posting)? {
            let issues = |t: &Transfer| {
                t.debit == Account::Issued(key.0) || t.credit == Account::Redeemed(key.0)
            };
            if !posting.transfers.iter().any(issues) {
                continue;
            }
            let limit = self.rulebook.limit(key.0, currency, self.setting.now);
            let Some((limit, net_inbound)) = limit else {
                continue;
            };
            let position = self.position(key.0, currency)?;
            let after = known.unwrap_or(position).headroom(limit, net_inbound)?;
            if after.is_negative() && after < position.headroom(limit, net_inbound)? {
                return Err(Decline::LimitExceeded.into());
            }
            looked_at.insert(key, (limit, net_inbound));
        }
        Ok(looked_at)
    }

    /// A position, which the snapshot must hold.
    pub(super) fn position(&self, party: Party, currency: Currency) -> Result<Position, Shortage> {
        let found = self.snapshot.positions.get(&(party, currency));
        found.copied().ok_or(Shortage::Position(party, currency))
    }

    /// Binds a position's funds and headroom for the rest of the batch.
    pub(super) fn bind(&mut self, party: Party, currency: Currency, limit: Micros, inbound: bool) {
        self.limited
            .insert((party, currency.code()), (limit, inbound));
    }

    fn member_after(
        &self,
        id: MemberId,
        posting: &Posting,
        new_lots: &[Lot],
    ) -> Result<MemberAfter, Stop> {
        let before = self
            .snapshot
            .members
            .get(&id)
            .ok_or(Refusal::UnknownMember)?;
        let mut after = MemberAfter {
            book: before.clone_without_lots(),
            lots: Vec::new(),
            new_lots: new_lots.iter().map(|lot| lot.id).collect(),
            debts: Vec::new(),
        };
        let mut gains = Vec::new();
        let mut loses = false;
        for transfer in posting.transfers.iter().filter(|t| t.unit == Unit::Points) {
            after.book.totals = after.book.totals.after(transfer)?;
            after.change_debt(before, transfer)?;
            let Some(lot) = transfer.lot else { continue };
            let known = after
                .lots
                .iter()
                .position(|changed: &Lot| changed.id == lot.id);
            let start = match known.and_then(|place| after.lots.get(place)) {
                Some(changed) => *changed,
                None => *before
                    .lots
                    .get(&lot.id)
                    .or_else(|| new_lots.iter().find(|new| new.id == lot.id))
                    .ok_or(Shortage::Lots(id))?,
            };
            let changed = start.after(transfer)?;
            match known.and_then(|place| after.lots.get_mut(place)) {
                Some(slot) => *slot = changed,
                None => after.lots.push(changed),
            }
        }
        for lot in &after.lots {
            let was = before
                .lots
                .get(&lot.id)
                .map(|lot| lot.available)
                .unwrap_or_default();
            let gain = lot.available.minus(was)?;
            loses |= gain.is_negative();
            gains.push((lot.expires_at, gain));
        }
        after.book.next_expiry = if loses {
            after.next_expiry_among(before)?
        } else {
            gains
                .into_iter()
                .try_fold(before.next_expiry, merge_expiry)?
        };
        after.book.next_maturity = after.next_maturity_among(before);
        Ok(after)
    }

    fn keep(&mut self, after: MemberAfter) {
        let id = after.book.id;
        let Some(book) = self.snapshot.members.get_mut(&id) else {
            return;
        };
        if !self.new_members.contains(&id) {
            self.changed_members.entry(id).or_insert(book.version);
        }
        book.totals = after.book.totals;
        book.next_expiry = after.book.next_expiry;
        book.next_maturity = after.book.next_maturity;
        for lot in after.lots {
            if after.new_lots.contains(&lot.id) {
                self.new_lots.insert(lot.id);
            }
            self.changed_lots.insert(lot.id, id);
            book.lots.insert(lot.id, lot);
        }
        for (issuer, points) in after.debts {
            book.debts.insert(issuer, points);
            self.changed_debts.insert((id, issuer));
        }
    }

    /// Everything that the batch changed.
    pub(super) fn into_effects(mut self) -> Effects {
        let mut transactions: Vec<(usize, TransactionId)> = self
            .new_transactions
            .iter()
            .map(|(id, place)| (*place, *id))
            .collect();
        transactions.sort_unstable();
        let mut effects = self.effects;
        effects.transactions = transactions
            .into_iter()
            .filter_map(|(_, id)| self.snapshot.transactions.remove(&id))
            .collect();
        for id in self.changed_opens {
            if let Some(transaction) = self.snapshot.transactions.get(&id)
                && let Some(member) = transaction.member
            {
                let open = transaction.open;
                effects.opens.push(OpenChange {
                    transaction: id,
                    member,
                    open,
                });
            }
        }
        for (lot_id, member) in self.changed_lots {
            let found = self
                .snapshot
                .members
                .get(&member)
                .and_then(|book| book.lots.get(&lot_id));
            if let Some(lot) = found {
                let list = if self.new_lots.contains(&lot_id) {
                    &mut effects.new_lots
                } else {
                    &mut effects.lots
                };
                list.push((member, *lot));
            }
        }
        for (member, issuer) in self.changed_debts {
            if let Some(book) = self.snapshot.members.get(&member) {
                effects.debts.push(DebtRecord {
                    member,
                    issuer,
                    points: book.debt(issuer),
                });
            }
        }
        for (member, expected_version) in self.changed_members {
            if let Some(book) = self.snapshot.members.remove(&member) {
                effects.members.push(MemberChange {
                    expected_version,
                    book,
                });
            }
        }
        for member in self.new_members {
            effects
                .new_members
                .extend(self.snapshot.members.remove(&member));
        }
        effects.totals = self
            .totals
            .into_iter()
            .filter(|(_, amount)| *amount != 0)
            .collect();
        for (key, (currency, change)) in self.positions {
            let floor = self.limited.get(&key).and_then(|(limit, net_inbound)| {
                let position = self.snapshot.positions.get(&(key.0, currency))?;
                let left = position.headroom(*limit, *net_inbound).ok()?;
                let at_least = left.min(Micros::ZERO);
                Some(Floor {
                    limit: *limit,
                    net_inbound: *net_inbound,
                    at_least,
                })
            });
            effects.positions.push(PositionChange {
                party: key.0,
                currency,
                change,
                floor,
            });
        }
        effects
    }
}

/// A member's book after a posting; `lots` are those that it changed.
struct MemberAfter {
    book: MemberBook,
    lots: Vec<Lot>,
    new_lots: BTreeSet<LotId>,
    debts: Vec<(Party, Points)>,
}

impl MemberAfter {
    fn change_debt(&mut self, before: &MemberBook, transfer: &Transfer) -> Result<(), OutOfRange> {
        let (issuer, amount) = match (transfer.debit, transfer.credit) {
            (Account::Debt(_, issuer), _) => (issuer, Points::new(transfer.amount)),
            (_, Account::Debt(_, issuer)) => (issuer, Points::new(transfer.amount).negated()?),
            _ => return Ok(()),
        };
        match self.debts.iter_mut().find(|(known, _)| *known == issuer) {
            Some((_, owed)) => *owed = owed.plus(amount)?,
            None => self.debts.push((issuer, before.debt(issuer).plus(amount)?)),
        }
        Ok(())
    }

    /// The lot as it is after the posting.
    fn current(&self, lot: &Lot) -> Lot {
        self.lots
            .iter()
            .find(|changed| changed.id == lot.id)
            .copied()
            .unwrap_or(*lot)
    }

    /// The earliest expiry among the lots that are sure to be known.
    fn next_expiry_among(&self, before: &MemberBook) -> Result<Option<Upcoming>, Stop> {
        if self.book.totals.available.is_zero() {
            return Ok(None);
        }
        let known = before.known;
        let added = self
            .lots
            .iter()
            .filter(|lot| !before.lots.contains_key(&lot.id))
            .copied();
        let lots = before
            .lots
            .values()
            .map(|lot| self.current(lot))
            .chain(added);
        let spendable: Vec<Lot> = lots.filter(|lot| lot.available.is_positive()).collect();
        let first = spendable.iter().map(|lot| lot.expires_at).min();
        let Some(at) = first.filter(|at| known.covers(*at, LotId::from_uuid(Uuid::max()))) else {
            return if known == Known::All {
                Ok(None)
            } else {
                Err(Shortage::Lots(self.book.id).into())
            };
        };
        let due = spendable
            .iter()
            .filter(|lot| lot.expires_at == at)
            .map(|lot| lot.available);
        Ok(Some(Upcoming {
            at,
            points: Points::sum(due)?,
        }))
    }

    /// The earliest end of a pending time; lots with pending points are always known where any is.
    fn next_maturity_among(&self, before: &MemberBook) -> Option<Timestamp> {
        if self.book.totals.pending.is_zero() {
            return None;
        }
        let old = before.lots.values().map(|lot| self.current(lot));
        let pending = old
            .chain(self.lots.iter().copied())
            .filter(|lot| lot.pending.is_positive());
        let known = pending.map(|lot| lot.pending_until).min();
        let unknown = (before.known == Known::Nothing)
            .then_some(before.next_maturity)
            .flatten();
        [known, unknown].into_iter().flatten().min()
    }
}

fn merge_expiry(
    next: Option<Upcoming>,
    (at, gain): (Timestamp, Points),
) -> Result<Option<Upcoming>, OutOfRange> {
    if !gain.is_positive() {
        return Ok(next);
    }
    Ok(Some(match next {
        Some(next) if next.at < at => next,
        Some(next) if next.at == at => Upcoming {
            at,
            points: next.points.plus(gain)?,
        },
        _ => Upcoming { at, points: gain },
    }))
}

fn check_key(transaction: &Transaction) -> Option<CheckKey> {
    let check_id = transaction.context.check_id.clone()?;
    Some(CheckKey {
        partner: transaction.partner.partner()?,
        kind: transaction.kind,
        check_id,
    })
}

/// What a command says about itself, for the record of a decline.
fn outline(
    action: &Action,
) -> (
    Kind,
    Party,
    Option<MemberId>,
    Context,
    Option<Timestamp>,
    Points,
) {
    match action {
        Action::Earn(c) => {
            let (member, context) = (Some(c.member), c.context.clone());
            (
                Kind::Earn,
                c.partner.into(),
                member,
                context,
                c.occurred_at,
                Points::ZERO,
            )
        }
        Action::ReturnEarn(c) => {
            let context = c.context.clone();
            (
                Kind::ReturnEarn,
                c.partner.into(),
                None,
                context,
                c.occurred_at,
                Points::ZERO,
            )
        }
        Action::Redeem(c) => {
            let (member, context) = (Some(c.member), c.context.clone());
            (
                Kind::Redeem,
                c.partner.into(),
                member,
                context,
                c.occurred_at,
                c.points,
            )
        }
        Action::RefundRedemption(c) => {
            let context = c.context.clone();
            (
                Kind::RefundRedemption,
                c.partner.into(),
                None,
                context,
                c.occurred_at,
                c.points,
            )
        }
        Action::Reverse(c) => {
            let context = c.context.clone();
            (
                Kind::Reverse,
                c.partner.into(),
                None,
                context,
                c.occurred_at,
                Points::ZERO,
            )
        }
        Action::Fund(c) => {
            let kind = if c.withdrawal {
                Kind::Withdraw
            } else {
                Kind::Deposit
            };
            (
                kind,
                c.partner.into(),
                None,
                Context::default(),
                None,
                Points::ZERO,
            )
        }
        Action::Enroll(c) => {
            let operator = Party::Operator;
            (
                Kind::Mature,
                operator,
                Some(c.member),
                Context::default(),
                None,
                Points::ZERO,
            )
        }
        Action::Sweep(member) => {
            let operator = Party::Operator;
            (
                Kind::Expire,
                operator,
                Some(*member),
                Context::default(),
                None,
                Points::ZERO,
            )
        }
    }
}
